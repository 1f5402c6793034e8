package InvertingProxy::Test::Stream;

# HTTP/1.1 on a byte stream, either side of it, with nothing done behind the
# test's back: what is written is what is sent, and every way in which the other
# side can end is told apart.
#
#   InvertingProxy::Test::Stream->new(fh => $socket, timeout => 10)
#   InvertingProxy::Test::Stream->new(source => sub { ... })
#
# A source returns the next bytes, or undef at the end: so the request that a
# poll response carries is read as it comes, as a stream inside a stream.
#
#   $s->write($bytes)        false when the other side is gone
#   $s->write_slowly($bytes, $size, $pause)
#   $s->chunk($bytes)  $s->last_chunk('Name: value', ...)
#   $s->send_body($next, chunked => 0|1, pause => seconds)
#   $s->read_some            what comes next, '' at the end
#   $s->read_exactly($n)  $s->read_line
#   $s->read_head            a Message; undef at the end
#   $s->read_body($message, %opt)
#   $s->read_message(%opt)   both
#   $s->body_start($message, %opt), then $s->body_piece until undef
#   $s->wait_end($seconds)   'eof', 'reset', 'data' or undef (still open)
#   $s->ready($for_write, $seconds)   whether it can be read (or written)
#   $s->shutdown  $s->reset  $s->close
#
# Options for bodies: framing (none, length, chunked, close: whatever the head
# says), request_method (HEAD has no body), sink => sub { piece },
# digest => 1, pause => seconds between reads, piece => bytes at most per read.
#
# A time-out dies; {error} says 'reset', 'broken' or undef.

use strict;
use warnings;

use Carp qw(croak);
use Digest::SHA ();
use Errno qw(ECONNRESET EPIPE EINTR EAGAIN);
use IO::Select;
use Socket qw(SOL_SOCKET SO_LINGER);

use InvertingProxy::Test::Message;
use InvertingProxy::Test::Util qw(now nap slow);


use constant READ_SIZE => 65536;


sub new {
    my ($class, %opt) = @_;

    my $self = bless { timeout => 10, buf => '', eof => 0, error => undef,
                       t0 => now(), %opt }, $class;

    return $self;
}


sub fh { return $_[0]{fh} }


# Waits until the socket can be read or written; false when $timeout has passed.

sub ready {
    my ($self, $for_write, $timeout) = @_;

    my $fh = $self->{fh};

    if (!$for_write && $fh->can('pending') && $fh->pending) {
        return 1;
    }

    my $end = now() + $timeout;
    my $select = IO::Select->new($fh);

    while (1) {
        my $left = $end - now();
        $left = 0 if $left < 0;

        my @ready = $for_write ? $select->can_write($left)
                               : $select->can_read($left);

        return 1 if @ready;
        return 0 if now() >= $end;
    }
}


# Adds to the buffer; 0 at the end of the stream.

sub fill {
    my ($self, $size) = @_;

    return 0 if $self->{eof};

    if ($self->{source}) {
        my $data = $self->{source}->();

        if (!defined $data) {
            $self->{eof} = 1;
            return 0;
        }

        $self->{buf} .= $data;
        return length $data;
    }

    my $timeout = $self->{timeout} * slow();

    while (1) {
        $self->ready(0, $timeout)
            or croak "timed out: nothing to read for $timeout s";

        my $n = sysread($self->{fh}, $self->{buf}, $size || READ_SIZE,
                        length $self->{buf});

        if (!defined $n) {
            next if $! == EINTR || $! == EAGAIN;
            $self->{error} = $! == ECONNRESET ? 'reset' : 'broken';
            $n = 0;
        }

        $self->{eof} = 1 if $n == 0;

        return $n;
    }
}


sub write {
    my ($self, $data) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my $timeout = $self->{timeout} * slow();
    my $off = 0;

    while ($off < length $data) {
        $self->ready(1, $timeout)
            or croak "timed out: could not write for $timeout s";

        my $n = syswrite($self->{fh}, $data, length($data) - $off, $off);

        if (!defined $n) {
            next if $! == EINTR || $! == EAGAIN;
            $self->{error} = $! == ECONNRESET ? 'reset' : 'broken';
            return 0;
        }

        $off += $n;
    }

    return 1;
}


sub write_slowly {
    my ($self, $data, $size, $pause) = @_;

    for (my $i = 0; $i < length $data; $i += $size) {
        nap($pause) if $i;
        $self->write(substr($data, $i, $size)) or return 0;
    }

    return 1;
}


sub chunk {
    my ($self, $data) = @_;
    return 1 if $data eq '';
    return $self->write(sprintf("%x\r\n", length $data) . $data . "\r\n");
}


sub last_chunk {
    my ($self, @trailers) = @_;
    return $self->write(join('', "0\r\n", map({ "$_\r\n" } @trailers), "\r\n"));
}


# Everything that a generator gives (see Body.pm), or a string.

sub send_body {
    my ($self, $body, %opt) = @_;

    if (!ref $body) {
        my $data = $body;
        $body = sub { my $piece = $data; $data = undef; return $piece };
    }

    while (defined(my $piece = $body->())) {
        nap($opt{pause}) if $opt{pause};

        my $ok = $opt{chunked} ? $self->chunk($piece) : $self->write($piece);
        return 0 if !$ok;
    }

    return $opt{chunked} ? $self->last_chunk(@{$opt{trailers} || []}) : 1;
}


sub read_some {
    my ($self, $max) = @_;

    $self->fill($max) if $self->{buf} eq '';

    return substr($self->{buf}, 0, $max || length $self->{buf}, '');
}


# Fewer bytes only at the end of the stream.

sub read_exactly {
    my ($self, $n) = @_;

    while (length $self->{buf} < $n) {
        last if !$self->fill;
    }

    return substr($self->{buf}, 0, $n, '');
}


# With its line end; without one only at the end of the stream.

sub read_line {
    my ($self) = @_;

    my $i;

    while (($i = index($self->{buf}, "\n")) < 0) {
        if (!$self->fill) {
            return substr($self->{buf}, 0, length $self->{buf}, '');
        }
    }

    return substr($self->{buf}, 0, $i + 1, '');
}


sub read_head {
    my ($self) = @_;

    my $raw = '';
    my $first;

    while (1) {
        if ($self->{buf} eq '' && !$self->fill) {
            return undef if $raw eq '';
            croak "the stream ended inside a head: \"$raw\"";
        }

        $first = now() if !defined $first;

        my $line = $self->read_line;
        $raw .= $line;

        # A head without its empty line is cut, not complete.
        if ($line !~ /\n\z/) {
            croak "the stream ended inside a head: \"$raw\"";
        }

        last if $line =~ /^\r?\n\z/;
    }

    my $message = InvertingProxy::Test::Message->parse($raw);
    $message->{at}{first} = $first - $self->{t0};
    $message->{at}{head} = now() - $self->{t0};

    return $message;
}


sub body_start {
    my ($self, $message, %opt) = @_;

    my $te = $message->header('Transfer-Encoding');
    my $length = $message->header('Content-Length');
    my $framing = $opt{framing};

    if (!defined $framing) {
        my $method = $opt{request_method} || '';
        my $status = $message->{status};

        if (defined $status
            && ($method eq 'HEAD' || $status =~ /^(1..|204|304)$/))
        {
            $framing = 'none';

        } elsif (defined $te && lc $te eq 'chunked') {
            $framing = 'chunked';

        } elsif (defined $length) {
            $framing = 'length';

        } else {
            $framing = defined $status ? 'close' : 'none';
        }
    }

    $message->{framing} = $framing;
    $message->{length} = 0;
    $message->{cut} = undef;

    $self->{body} = { message => $message, framing => $framing,
                      left => $framing eq 'length' ? $length : 0,
                      max => $opt{piece} || READ_SIZE,
                      done => $framing eq 'none' };

    return;
}


# The next bytes of the body; undef at its end, which {cut} of the message tells
# from a stream that ended too early.

sub body_piece {
    my ($self) = @_;

    my $b = $self->{body};
    my $message = $b->{message};

    return undef if $b->{done};

    if ($b->{framing} eq 'chunked' && $b->{left} == 0) {
        my $line = $self->read_line;

        if ($line !~ /^([0-9A-Fa-f]+)[ \t]*(?:;[^\r\n]*)?\r\n\z/) {
            return $self->_body_end($line eq '' || $line !~ /\n\z/
                                    ? $self->{error} || 'eof'
                                    : "bad chunk size \"$line\"");
        }

        $b->{left} = hex($1);

        if ($b->{left} == 0) {
            my @lines;

            while (1) {
                $line = $self->read_line;
                last if $line eq "\r\n";
                return $self->_body_end($self->{error} || 'eof')
                    if $line !~ s/\r\n\z//;
                push @lines, $line;
            }

            $message->{trailers} =
                InvertingProxy::Test::Message::fields(@lines);
            return $self->_body_end(undef);
        }

        $b->{chunk} = 1;
    }

    if ($b->{framing} eq 'length' && $b->{left} == 0) {
        return $self->_body_end(undef);
    }

    if ($self->{buf} eq '' && !$self->fill($b->{max})) {
        my $good = $b->{framing} eq 'close' && !$self->{error};
        return $self->_body_end($good ? undef : $self->{error} || 'eof');
    }

    my $size = length $self->{buf};
    $size = $b->{max} if $size > $b->{max};
    $size = $b->{left} if $b->{framing} ne 'close' && $size > $b->{left};

    my $piece = substr($self->{buf}, 0, $size, '');
    $b->{left} -= $size if $b->{framing} ne 'close';
    $message->{length} += $size;
    $message->{pieces}++;
    $message->{at}{body} = now() - $self->{t0} if !defined $message->{at}{body};

    if ($b->{framing} eq 'chunked' && $b->{left} == 0) {
        my $end = $self->read_exactly(2);

        if ($end ne "\r\n") {
            $self->_body_end(length $end < 2 ? $self->{error} || 'eof'
                                             : 'bad end of a chunk');
        }
    }

    return $piece;
}


sub _body_end {
    my ($self, $cut) = @_;

    $self->{body}{done} = 1;
    $self->{body}{message}{cut} = $cut;

    return undef;
}


sub read_body {
    my ($self, $message, %opt) = @_;

    my $sha = $opt{digest} ? Digest::SHA->new(256) : undef;
    my $keep = !$opt{sink} && !$opt{digest};

    $self->body_start($message, %opt);

    $message->{body} = '' if $keep;

    while (defined(my $piece = $self->body_piece)) {
        $message->{body} .= $piece if $keep;
        $sha->add($piece) if $sha;
        $opt{sink}->($piece) if $opt{sink};
        nap($opt{pause}) if $opt{pause};
    }

    $message->{sha256} = $sha->hexdigest if $sha;
    $message->{at}{end} = now() - $self->{t0};

    return $message;
}


sub read_message {
    my ($self, %opt) = @_;

    my $message = $self->read_head or return undef;

    return $self->read_body($message, %opt);
}


# How the other side ends, without reading what it still says.

sub wait_end {
    my ($self, $timeout) = @_;

    return 'data' if $self->{buf} ne '';

    if (!$self->{eof}) {
        my $wait = defined $timeout ? $timeout : 10;
        $self->ready(0, $wait * slow()) or return undef;
        $self->fill and return 'data';
    }

    return $self->{error} ? 'reset' : 'eof';
}


# No more from us, but we go on reading.

sub shutdown {
    my ($self) = @_;
    return CORE::shutdown($self->{fh}, 1);
}


sub close {
    my ($self) = @_;
    return $self->{fh} && CORE::close($self->{fh});
}


# The connection ends in an RST, which also throws away what was not read.

sub reset {
    my ($self) = @_;

    setsockopt($self->{fh}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
    return CORE::close($self->{fh});
}


1;
