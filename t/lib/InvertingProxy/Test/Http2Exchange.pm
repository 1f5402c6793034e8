package InvertingProxy::Test::Http2Exchange;

# One stream of an Http2 connection: a request and its response, or a tunnel.
# What the other side has sent is a Message ({method} {target} {status}
# {fields} header, all, trailer, names), and besides:
#
#   {id}  {pseudo}{':path'}  {protocol}   of an extended CONNECT
#   {body}  {length}  {sha256}            as it comes; the digest at its end
#   {ended}      its END_STREAM has come
#   {reset}      the code of its RST_STREAM, or undef
#   {closed}     both have ended, or one has reset
#   {interim}    status codes of 1xx responses
#   {window}     what may be sent;  {granted}: by WINDOW_UPDATE for this stream
#
# A server answers it as a Backend's connection is answered, so that one
# callback does for both:
#
#   $x->respond(200, [ 'Content-Type: text/plain' ], $body, %opt)
#       a string or a generator; Content-Length unless chunked => 1, or
#       length => $n for a generator; trailers => [ 'X: y' ]; pause => seconds
#       between pieces; head => 1 (no body); hold => 1 (no END_STREAM)
#   $x->interim(103, [ 'Link: x' ])
#   $x->fields([ [ ':status', 200 ], ... ], end => 1), or a packed block
#   $x->read_body($x)                waits for all of the request
#
# Bodies are queued and go out while the connection is waited on.  Not so
# these, which wait for window, and die if there is none in time:
#
#   $x->data($bytes, end => 1)  $x->write($bytes)  $x->finish('Trailer: x')
#   $x->flush($seconds)              all that was queued is out
#   $x->rst($code)  $x->grant($n)
#   $x->response($seconds)           client: itself, once it has ended, or
#                                    undef;  $x->head($seconds): once its
#                                    head is there
#   $x->wait_reset($seconds)         true if it was reset
#
# A tunnel is read like a Stream: read_exactly, read_some; {on_data} = sub is
# called with whatever comes instead.

use strict;
use warnings;

use parent -norequire, 'InvertingProxy::Test::Message';

use Carp qw(croak);
use Digest::SHA ();
use List::Util qw(min);
use Scalar::Util qw(weaken);

use InvertingProxy::Test::Message;
use InvertingProxy::Test::Util qw(append_line now);

use constant { FRAME_MAX => 16384, BURST => 16 };


sub new {
    my ($class, %opt) = @_;

    my $self = bless { fields => [], trailers => [], interim => [],
                       pseudo => {}, body => '', length => 0, granted => 0,
                       at => {}, sha => Digest::SHA->new(256), %opt }, $class;
    weaken($self->{http2});

    return $self;
}


# What comes

sub on_fields {
    my ($self, $fields, $end) = @_;

    my %pseudo = map { @$_ } grep { $_->[0] =~ /^:/ } @$fields;
    my @plain = grep { $_->[0] !~ /^:/ } @$fields;

    if ($self->{has_head}) {
        $self->{trailers} = \@plain;

    } elsif (defined $pseudo{':status'} && $pseudo{':status'} =~ /^1/) {
        push @{$self->{interim}}, $pseudo{':status'};
        return;

    } else {
        $self->{has_head} = 1;
        $self->{pseudo} = \%pseudo;
        $self->{fields} = \@plain;
        @$self{qw(method target status protocol)} =
            @pseudo{qw(:method :path :status :protocol)};
        $self->{raw_fields} = $fields;
    }

    $self->_their_end if $end;

    return;
}


sub on_data {
    my ($self, $data, $end) = @_;

    $self->{length} += length $data;

    if ($self->tunnel) {
        $self->{body} .= $data;
        $self->{on_data}->($self) if $self->{on_data};

    } else {
        $self->{sha}->add($data);
        $self->{body} .= $data if length $self->{body} < $self->{http2}{keep};
    }

    $self->_their_end if $end;

    return;
}


sub on_reset {
    my ($self, $code) = @_;

    $self->{reset} = $code;
    $self->{closed} = 1;
    $self->{sending} = undef;

    return;
}


sub _their_end {
    my ($self) = @_;

    $self->{ended} = 1;
    $self->{sha256} = $self->{sha}->hexdigest;
    $self->{closed} = 1 if $self->{we_ended};
    $self->{on_data}->($self) if $self->{on_data};

    return;
}


sub tunnel {
    my ($self) = @_;
    return ($self->{request_method} || $self->{method} || '') eq 'CONNECT';
}


# What we send

sub fields {
    my ($self, $fields, %opt) = @_;

    $self->_our_end if $opt{end};

    return $self->{http2}->send_fields($self->{id}, $fields, %opt);
}


sub _our_end {
    my ($self) = @_;

    $self->{we_ended} = 1;
    $self->{closed} = 1 if $self->{ended};

    return;
}


sub split_fields {
    return map { /^([^:]+):\s*(.*)$/s ? [ lc $1, $2 ] : () } @_;
}


sub interim {
    my ($self, $status, $headers) = @_;
    return $self->fields([ [ ':status', $status ],
                           split_fields(@{$headers || []}) ]);
}


sub respond {
    my ($self, $status, $headers, $body, %opt) = @_;

    my @fields = ([ ':status', $status ], split_fields(@{$headers || []}));

    if (!$opt{chunked}) {
        my $length = defined $opt{length} ? $opt{length}
                     : defined $body && !ref $body ? length $body : undef;
        push @fields, [ 'content-length', $length ] if defined $length;
    }

    my $bare = $opt{head} || (!defined $body || !ref $body && $body eq '')
                             && !$opt{trailers} && !$opt{hold};

    $self->fields(\@fields, end => $bare);
    $self->send_body($body, %opt) if !$bare && defined $body || $opt{trailers};

    return !defined $self->{reset};
}


sub send_body {
    my ($self, $body, %opt) = @_;

    my $pieces = $body;

    if (!ref $body) {
        my @all = defined $body ? $body : ();
        $pieces = sub { return shift @all };
    }

    $self->{sending} = { next => $pieces, piece => '', pause => $opt{pause},
                         trailers => $opt{trailers}, hold => $opt{hold} };
    push @{$self->{http2}{queue}}, $self;
    $self->{http2}{fresh} = 1;

    return 1;
}


# Some frames of what is queued.  Returns the seconds until there is more to do
# without anything coming in; undef if there is not.

sub pump {
    my ($self) = @_;

    my $q = $self->{sending} or return undef;
    my $h = $self->{http2};

    for (1 .. BURST) {
        if ($q->{piece} eq '') {
            my $wait = ($q->{at} || 0) - now();
            return $wait if $q->{pause} && $wait > 0;

            if (!$q->{ended}) {
                my $piece = $q->{next}->();
                $q->{ended} = 1 if !defined $piece;
                $q->{piece} = $piece if defined $piece;
                $q->{at} = now() + $q->{pause} if $q->{pause};
            }

            return $self->_sent_all if $q->{ended} && $q->{piece} eq '';
        }

        my $n = min(length $q->{piece}, FRAME_MAX, $h->{window},
                    $self->{window});
        return undef if $n <= 0;

        my $data = substr($q->{piece}, 0, $n, '');

        if ($q->{piece} eq '' && !$q->{pause} && !$q->{hold}) {
            my $piece = $q->{next}->();
            $q->{ended} = 1 if !defined $piece;
            $q->{piece} = $piece if defined $piece;
        }

        my $last = $q->{ended} && $q->{piece} eq '' && !$q->{hold}
                   && !$q->{trailers};

        $self->_data($data, $last);

        if ($last) {
            $self->{sending} = undef;
            return undef;
        }
    }

    return 0;
}


sub _sent_all {
    my ($self) = @_;

    my $q = $self->{sending};
    $self->{sending} = undef;

    if ($q->{trailers}) {
        $self->fields([ split_fields(@{$q->{trailers}}) ], end => 1);
    } elsif (!$q->{hold}) {
        $self->_data('', 1);
    }

    return undef;
}


sub _data {
    my ($self, $data, $end) = @_;

    my $h = $self->{http2};

    $h->{window} -= length $data;
    $self->{window} -= length $data;
    $self->{sent} += length $data;
    $self->_our_end if $end;

    return $h->send(0, $end ? 1 : 0, $self->{id}, $data);
}


sub data {
    my ($self, $data, %opt) = @_;

    my $h = $self->{http2};
    my $off = 0;

    while ($off < length $data) {
        $h->wait(sub { $self->{closed}
                       || $h->{window} > 0 && $self->{window} > 0 },
                 $opt{timeout})
            or croak "stream $self->{id}: no window to send "
                     . (length($data) - $off) . ' bytes';
        return 0 if $self->{closed};

        my $n = min(length($data) - $off, FRAME_MAX, $h->{window},
                    $self->{window});
        $off += $n;
        $self->_data(substr($data, $off - $n, $n),
                     $opt{end} && $off == length $data) or return 0;
    }

    $self->_data('', 1) if $opt{end} && $data eq '';

    return 1;
}


sub write { my ($self, $data) = @_; return $self->data($data) }


sub finish {
    my ($self, @trailers) = @_;

    return $self->data('', end => 1) if !@trailers;
    return $self->fields([ split_fields(@trailers) ], end => 1);
}


sub flush {
    my ($self, $timeout) = @_;
    return $self->{http2}->wait(sub { !$self->{sending} }, $timeout)
           && !defined $self->{reset};
}


sub rst {
    my ($self, $code) = @_;

    $self->{closed} = 1;
    $self->{sending} = undef;

    return $self->{http2}->reset_stream($self->{id}, $code);
}


sub grant {
    my ($self, $n) = @_;
    return $self->{http2}->window($self->{id}, $n);
}


# Waiting for it

sub head {
    my ($self, $timeout) = @_;

    $self->{http2}->wait(sub { $self->{has_head} || defined $self->{reset} },
                         $timeout);

    return $self->{has_head} ? $self : undef;
}


sub response {
    my ($self, $timeout) = @_;

    $self->{http2}->wait(sub { $self->{ended} || defined $self->{reset} },
                         $timeout);

    return $self->{ended} ? $self : undef;
}


sub read_body {
    my ($self) = @_;

    $self->{cut} = $self->response ? undef : 'reset' if !$self->{ended};

    return $self;
}


sub wait_reset {
    my ($self, $timeout) = @_;
    $self->{http2}->wait(sub { defined $self->{reset} }, $timeout);
    return defined $self->{reset};
}


# As a stream of bytes

sub read_some {
    my ($self, $max) = @_;

    $self->{http2}->wait(sub { length $self->{body} || $self->{ended}
                               || defined $self->{reset} });

    return substr($self->{body}, 0, $max || length $self->{body}, '');
}


sub read_exactly {
    my ($self, $n) = @_;

    $self->{http2}->wait(sub { length $self->{body} >= $n || $self->{ended}
                               || defined $self->{reset} });

    return substr($self->{body}, 0, $n, '');
}


sub note {
    my ($self, $text) = @_;
    append_line($self->{http2}{notes}, $text);
    return 1;
}


1;
