package InvertingProxy::Test::Http2;

# One connection of HTTP/2 (RFC 9113), either side of it, frame by frame, on a
# Stream that is already connected.  By itself it does what an ordinary
# endpoint does (acknowledges SETTINGS and PING, gives window back, keeps to
# the windows of the other side); each of these can be turned off, and any
# frame can be sent.
#
#   my $h = InvertingProxy::Test::Http2->new(stream => $s, role => 'server');
#       settings => { ENABLE_CONNECT_PROTOCOL => 1, ... }    sent first
#       start => 0       sends nothing by itself, not even the preface
#       ack => 0         SETTINGS are not acknowledged
#       pong => 0        PINGs are not answered
#       grant => 'both'  what is read is given back as window: of the stream
#                        and the connection, only 'connection', or 'none'
#       keep => 1 MiB    of each body, so many bytes are kept in {body}
#
# Nothing is read but inside these:
#
#   $h->wait(sub { ... }, $seconds)  until it is true: what it returned; undef
#                                    after the time, or at the end ({closed})
#   $h->wait_end($seconds)           'eof', 'reset', 'broken', or undef
#   my $x = $h->take($seconds)       server: the next request, once its head is
#                                    there (see Http2Exchange.pm)
#   $h->drain($seconds)              reads what comes, so long
#   $h->serve(sub { my ($x) = @_; ... }, %opt)
#                                    server: calls it with each whole request
#                                    until the connection ends; returns true
#                                    early after a GOAWAY, if early => 1.
#                                    Tunnels are handed over with their head.
#
#   my $x = $h->request('GET', '/', headers => [ 'X: y' ], %opt)    client
#       body, length, trailers, pause as for respond; authority; scheme;
#       hold => 1 does not end the stream; protocol => 'websocket' is an
#       extended CONNECT
#
#   $h->settings(INITIAL_WINDOW_SIZE => 0)  $h->ping($eight_bytes)
#   $h->goaway($last, $code)  $h->window($id, $n)  $h->reset_stream($id, $code)
#   $h->send($type, $flags, $id, $payload)         any frame
#   $h->raw($bytes)                                any bytes
#   frame($type, $flags, $id, $payload)            exported, as are the names
#                                                  of types and flags
#   $h->close  $h->reset                           the connection
#
# What is known: {seen}{PING} (how many frames), {settings} (theirs), {pongs}
# (payloads), {goaway} ([ last, code, text ]), {streams}{$id}, {closed},
# {window} (what may be sent), {largest} (frame that was read).

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use List::Util qw(min);

use InvertingProxy::Test::Hpack;
use InvertingProxy::Test::Http2Exchange;
use InvertingProxy::Test::Util qw(now nap slow);

my %type;
my %setting;

BEGIN {
    %type = (DATA => 0, HEADERS => 1, PRIORITY => 2, RST_STREAM => 3,
             SETTINGS => 4, PUSH_PROMISE => 5, PING => 6, GOAWAY => 7,
             WINDOW_UPDATE => 8, CONTINUATION => 9);
    %setting = (HEADER_TABLE_SIZE => 1, ENABLE_PUSH => 2,
                MAX_CONCURRENT_STREAMS => 3, INITIAL_WINDOW_SIZE => 4,
                MAX_FRAME_SIZE => 5, MAX_HEADER_LIST_SIZE => 6,
                ENABLE_CONNECT_PROTOCOL => 8);
}

use constant \%type;
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4, PADDED => 8,
               WITH_PRIORITY => 0x20 };
use constant { NO_ERROR => 0, PROTOCOL_ERROR => 1, INTERNAL_ERROR => 2,
               FLOW_CONTROL_ERROR => 3, STREAM_CLOSED => 5,
               FRAME_SIZE_ERROR => 6, REFUSED_STREAM => 7, CANCEL => 8,
               COMPRESSION_ERROR => 9, ENHANCE_YOUR_CALM => 11 };
use constant PREFACE => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

our @EXPORT_OK = ('frame', 'settings_payload', 'PREFACE', keys %type,
                  qw(END_STREAM ACK END_HEADERS PADDED WITH_PRIORITY
                     NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR
                     FLOW_CONTROL_ERROR STREAM_CLOSED FRAME_SIZE_ERROR
                     REFUSED_STREAM CANCEL COMPRESSION_ERROR
                     ENHANCE_YOUR_CALM));
our %EXPORT_TAGS = (all => \@EXPORT_OK);

use constant FRAME_MAX => 16384;

my %type_name = reverse %type;
my %setting_name = reverse %setting;


sub new {
    my ($class, %opt) = @_;

    my $self = bless {
        role => 'server', start => 1, ack => 1, pong => 1, grant => 'both',
        keep => 1024 * 1024, %opt, streams => {}, arrived => [], queue => [],
        seen => {}, pongs => [], window => 65535, initial => 65535,
        settings => {}, largest => 0, last => 0,
        next_id => 1,
    }, $class;

    my $settings = $opt{settings} || {};

    $self->{hpack} = InvertingProxy::Test::Hpack->new(
        decoder_size => $settings->{HEADER_TABLE_SIZE});
    $self->{preface} = $self->{role} eq 'server' ? PREFACE : '';

    if ($self->{start}) {
        $self->raw(($self->{role} eq 'client' ? PREFACE : '')
                   . frame(SETTINGS, 0, 0, settings_payload(%$settings)));
    }

    return $self;
}


sub frame {
    my ($type, $flags, $id, $payload) = @_;

    $payload = '' if !defined $payload;
    return substr(pack('NCCN', length $payload, $type, $flags, $id), 1)
           . $payload;
}


sub settings_payload {
    my (%set) = @_;
    return join('', map { pack('nN', $setting{$_} || $_, $set{$_}) }
                    sort keys %set);
}


sub raw { my ($self, $bytes) = @_; return $self->{stream}->write($bytes) }


sub send {
    my ($self, $type, $flags, $id, $payload) = @_;
    return $self->raw(frame($type, $flags, $id, $payload));
}


sub settings {
    my ($self, %set) = @_;
    return $self->send(SETTINGS, 0, 0, settings_payload(%set));
}


sub ping {
    my ($self, $payload) = @_;
    return $self->send(PING, 0, 0, defined $payload ? $payload : 'pingpong');
}


# The last stream that is still answered: all that have come, by default.

sub goaway {
    my ($self, $last, $code) = @_;

    return $self->send(GOAWAY, 0, 0,
                       pack('NN', defined $last ? $last : $self->{last},
                            $code || NO_ERROR));
}


sub window {
    my ($self, $id, $n) = @_;
    return $self->send(WINDOW_UPDATE, 0, $id, pack('N', $n));
}


sub reset_stream {
    my ($self, $id, $code) = @_;
    return $self->send(RST_STREAM, 0, $id,
                       pack('N', defined $code ? $code : CANCEL));
}


# A field section, in as many frames as it takes.

sub send_fields {
    my ($self, $id, $fields, %opt) = @_;

    my $block = ref $fields ? $self->{hpack}->encode($fields) : $fields;
    my @pieces = unpack('(a' . FRAME_MAX . ')*', $block);
    @pieces = ('') if !@pieces;

    my $bytes = '';

    for my $i (0 .. $#pieces) {
        $bytes .= frame($i ? CONTINUATION : HEADERS,
                        ($i == $#pieces ? END_HEADERS : 0)
                        | ($opt{end} && !$i ? END_STREAM : 0),
                        $id, $pieces[$i]);
    }

    return $self->raw($bytes);
}


sub request {
    my ($self, $method, $target, %opt) = @_;

    my $id = $self->{next_id};
    $self->{next_id} += 2;

    my @fields = map { /^([^:]+):\s*(.*)$/s ? [ lc $1, $2 ] : () }
                     @{$opt{headers} || []};
    my $body = $opt{body};
    my $length = defined $opt{length} ? $opt{length}
                 : defined $body && !ref $body && !$opt{chunked}
                   ? length $body : undef;

    push @fields, [ 'content-length', $length ] if defined $length;

    my $connect = $method eq 'CONNECT' && !defined $opt{protocol};

    unshift @fields, [ ':method', $method ],
        $connect ? () : ([ ':scheme', $opt{scheme} || 'http' ],
                         [ ':path', $target ]),
        [ ':authority',
          $opt{authority} || ($connect ? $target : 'localhost') ],
        defined $opt{protocol} ? [ ':protocol', $opt{protocol} ] : ();

    my $x = $self->_stream($id);
    my $bare = !defined $body && !$opt{trailers} && !$opt{hold} && !$connect
               && !defined $opt{protocol};

    $x->{request_method} = $method;
    $self->send_fields($id, \@fields, end => $bare);
    $x->send_body($body, %opt) if defined $body || $opt{trailers};

    return $x;
}


sub _stream {
    my ($self, $id) = @_;

    return $self->{streams}{$id} ||= InvertingProxy::Test::Http2Exchange->new(
        http2 => $self, id => $id, window => $self->{initial});
}


sub close { my ($self) = @_; return $self->{stream}->close }
sub reset { my ($self) = @_; return $self->{stream}->reset }


# Waiting

sub wait {
    my ($self, $code, $timeout) = @_;

    my $end = now() + ($timeout || 10) * slow();

    while (1) {
        my $busy = $self->_pump;

        my $result = $code->();
        return $result if $result;
        return undef if defined $self->{closed};

        my $left = $end - now();
        return undef if $left <= 0;

        # What was queued just now waits for nothing that comes.
        next if $self->{fresh};

        $self->_step(defined $busy ? min($busy, $left) : $left);
    }
}


sub wait_end {
    my ($self, $timeout) = @_;
    $self->wait(sub { defined $self->{closed} }, $timeout);
    return $self->{closed};
}


sub drain {
    my ($self, $seconds) = @_;
    my $end = now() + $seconds;
    $self->wait(sub { now() >= $end }, $seconds);
    return;
}


sub take {
    my ($self, $timeout) = @_;
    $self->wait(sub { @{$self->{arrived}} }, $timeout);
    return shift @{$self->{arrived}};
}


sub open_streams {
    my ($self) = @_;
    return grep { !$_->{closed} } values %{$self->{streams}};
}


sub serve {
    my ($self, $code, %opt) = @_;

    # Kept for a second call: after a GOAWAY, somebody else may go on with it.
    my $waiting = $self->{waiting} ||= [];

    return $self->wait(sub {
        push @$waiting, splice(@{$self->{arrived}});

        my @ready = grep { $_->{ended} || $_->tunnel } @$waiting;
        @$waiting = grep { !$_->{ended} && !$_->tunnel && !$_->{closed} }
                         @$waiting;
        $code->($_) for @ready;

        for my $x (grep { $_->{closed} } values %{$self->{streams}}) {
            delete $self->{streams}{$x->{id}};
        }

        return $self->{goaway}
               && ($opt{early} || !@$waiting && !$self->open_streams);
    }, 3600);
}


# Sends what is queued, as far as the windows go.  Returns the seconds after
# which it makes sense to try again by itself; undef: when something has come.

sub _pump {
    my ($self) = @_;

    my $again;

    $self->{fresh} = 0;

    for my $x (@{$self->{queue}}) {
        my $when = $x->pump;
        $again = $when if defined $when && (!defined $again || $when < $again);
    }

    @{$self->{queue}} = grep { $_->{sending} && !$_->{closed} }
                             @{$self->{queue}};

    return $again;
}


# Handles one frame if there is one, else waits for some bytes.

sub _step {
    my ($self, $timeout) = @_;

    my $s = $self->{stream};

    if ($self->_whole_frame) {
        $self->_frame;
        return;
    }

    if ($s->ready(0, $timeout) && !$s->fill) {
        $self->{closed} = $s->{error} || 'eof';
    }

    return;
}


sub _whole_frame {
    my ($self) = @_;

    my $s = $self->{stream};

    if (my $n = length $self->{preface}) {
        return 0 if length $s->{buf} < $n;
        my $got = substr($s->{buf}, 0, $n, '');
        croak 'not the preface of HTTP/2: ' . unpack('H*', $got)
            if $got ne $self->{preface};
        $self->{preface} = '';
    }

    return 0 if length $s->{buf} < 9;
    return length $s->{buf} >= 9 + unpack('N', "\0" . substr($s->{buf}, 0, 3));
}


sub _frame {
    my ($self) = @_;

    my $s = $self->{stream};
    my $head = substr($s->{buf}, 0, 9, '');
    my ($size, $type, $flags, $id) = unpack('NCCN', "\0$head");
    my $payload = substr($s->{buf}, 0, $size, '');
    my $name = $type_name{$type} || $type;

    $id &= 0x7fffffff;
    $self->{seen}{$name}++;
    $self->{largest} = $size if $size > $self->{largest};

    if (defined $self->{block} && $type != CONTINUATION) {
        croak "$name inside of a field section";
    }

    my $handler = $self->can("_on_$name") or return;
    $handler->($self, $flags, $id, $payload);

    return;
}


sub _unpad {
    my ($flags, $payload) = @_;

    return $payload if !($flags & PADDED);

    my $pad = unpack('C', $payload);
    croak 'more padding than there is payload' if $pad >= length $payload;

    return substr($payload, 1, length($payload) - 1 - $pad);
}


sub _on_DATA {
    my ($self, $flags, $id, $payload) = @_;

    my $size = length $payload;
    my $x = $self->{streams}{$id};
    my $end = $flags & END_STREAM;

    $x->on_data(_unpad($flags, $payload), $end) if $x;

    return if $size == 0 || $self->{grant} eq 'none';

    $self->window(0, $size);
    $self->window($id, $size)
        if $self->{grant} eq 'both' && !$end && $x && !$x->{closed};

    return;
}


sub _on_HEADERS {
    my ($self, $flags, $id, $payload) = @_;

    $payload = _unpad($flags, $payload);
    substr($payload, 0, 5, '') if $flags & WITH_PRIORITY;

    $self->{block} = [ $id, $flags, $payload ];
    $self->_block_end if $flags & END_HEADERS;

    return;
}


sub _on_CONTINUATION {
    my ($self, $flags, $id, $payload) = @_;

    croak 'CONTINUATION of nothing'
        if !defined $self->{block} || $self->{block}[0] != $id;

    $self->{block}[2] .= $payload;
    $self->_block_end if $flags & END_HEADERS;

    return;
}


sub _block_end {
    my ($self) = @_;

    my ($id, $flags, $block) = @{delete $self->{block}};
    my $fields = $self->{hpack}->decode($block);

    # Of a stream that we have forgotten; the table had to see it.
    return if $id <= $self->{last} && !$self->{streams}{$id}
              && $self->{role} eq 'server';

    my $x = $self->_stream($id);

    if ($self->{role} eq 'server' && $id > $self->{last}) {
        $self->{last} = $id;
        push @{$self->{arrived}}, $x;
    }

    $x->on_fields($fields, $flags & END_STREAM);

    return;
}


sub _on_RST_STREAM {
    my ($self, $flags, $id, $payload) = @_;

    my $x = $self->{streams}{$id} or return;
    $x->on_reset(unpack('N', $payload));

    return;
}


sub _on_SETTINGS {
    my ($self, $flags, $id, $payload) = @_;

    return $self->{settings_acks}++ if $flags & ACK;

    for my $pair (unpack('(a6)*', $payload)) {
        my ($n, $value) = unpack('nN', $pair);
        my $name = $setting_name{$n} || $n;

        if ($name eq 'INITIAL_WINDOW_SIZE') {
            $_->{window} += $value - $self->{initial}
                for values %{$self->{streams}};
            $self->{initial} = $value;
        }

        $self->{hpack}->encoder_size($value) if $name eq 'HEADER_TABLE_SIZE';
        $self->{settings}{$name} = $value;
    }

    $self->send(SETTINGS, ACK, 0) if $self->{ack};

    return;
}


sub _on_PING {
    my ($self, $flags, $id, $payload) = @_;

    if ($flags & ACK) {
        push @{$self->{pongs}}, $payload;
    } elsif ($self->{pong}) {
        $self->send(PING, ACK, 0, $payload);
    }

    return;
}


sub _on_GOAWAY {
    my ($self, $flags, $id, $payload) = @_;
    $self->{goaway} = [ unpack('NNa*', $payload) ];
    return;
}


sub _on_WINDOW_UPDATE {
    my ($self, $flags, $id, $payload) = @_;

    my $n = unpack('N', $payload) & 0x7fffffff;

    if ($id == 0) {
        $self->{window} += $n;
    } elsif (my $x = $self->{streams}{$id}) {
        $x->{window} += $n;
        $x->{granted} += $n;
    }

    return;
}


1;
