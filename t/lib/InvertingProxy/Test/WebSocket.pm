package InvertingProxy::Test::WebSocket;

# WebSocket (RFC 6455), either side, on anything that can write and
# read_exactly: a Client, a connection of a Backend, a stream of HTTP/2.
#
#   my $w = ws_connect($client, '/path', headers => [ 'X: y' ]);
#       the handshake; croaks when it is refused or answered wrongly; {answer}
#       is the 101.  ws_request($client, ...) only asks: a Message.
#   my $w = ws_accept($c, $request, headers => [ ... ]);
#       the other side of it
#   my $w = ws_over($x, mask => 1)       after an extended CONNECT
#
#   $w->send(WS_TEXT, $bytes, fin => 0)  $w->text($bytes)  $w->binary($bytes)
#   $w->ping($bytes)  $w->pong($bytes)  $w->close($code, $reason)
#   my $f = $w->frame        the next frame: { op, fin, masked, data }; undef
#                            at the end of the stream
#   my $m = $w->message      the next message, fragments put together: { op,
#                            data, fragments }, or { op => WS_CLOSE, code,
#                            reason }.  PINGs are answered, PONGs are kept
#                            in {pongs}.
#   ws_echo($c, $request)    a backend: sends every message back as it came
#       (fragmented when it was), answers a close with the same code.  A
#       message "close 4001 why" makes it close so; "drop" ends the connection.
#   ws_encode($op, $data, mask => 1, fin => 0)  ws_decode(\$buffer): bytes only
#   ws_echo_data($x)         {on_data} of a stream: the same as ws_echo

use strict;
use warnings;

use Carp qw(croak);
use Digest::SHA qw(sha1_base64);
use Exporter qw(import);

use constant { WS_CONT => 0, WS_TEXT => 1, WS_BINARY => 2, WS_CLOSE => 8,
               WS_PING => 9, WS_PONG => 10 };
use constant GUID => '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

our @EXPORT = qw(ws_connect ws_request ws_accept ws_over ws_echo ws_echo_data
                 ws_encode ws_decode ws_key
                 WS_CONT WS_TEXT WS_BINARY WS_CLOSE WS_PING WS_PONG);

my $keys = 0;


sub ws_key {
    my ($key) = @_;
    return sha1_base64($key . GUID) . '=';
}


# Different each time, and 16 bytes long when it is unpacked.

sub _new_key {
    return substr(sha1_base64("$$." . $keys++), 0, 21) . 'A==';
}


sub ws_request {
    my ($client, $target, %opt) = @_;

    my $key = $opt{key} || _new_key();

    $client->{ws_key} = $key;
    $client->request('GET', $target, headers => [
        'Connection: Upgrade', 'Upgrade: websocket',
        'Sec-WebSocket-Version: 13', "Sec-WebSocket-Key: $key",
        @{$opt{headers} || []} ]);

    return $client->response(head_only => 1);
}


sub ws_connect {
    my ($client, $target, %opt) = @_;

    my $answer = ws_request($client, $target, %opt)
        or croak "$target: no answer";

    croak "$target: $answer->{start}" if $answer->{status} != 101;

    my $accept = $answer->header('Sec-WebSocket-Accept');
    $accept = '(none)' if !defined $accept;

    croak "$target: Sec-WebSocket-Accept is $accept"
        if $accept ne ws_key($client->{ws_key});
    croak "$target: Upgrade is not there"
        if lc($answer->header('Upgrade') || '') ne 'websocket';
    croak "$target: Connection is not there"
        if lc($answer->header('Connection') || '') ne 'upgrade';

    my $self = ws_over($client, mask => 1);
    $self->{answer} = $answer;

    return $self;
}


sub ws_accept {
    my ($c, $request, %opt) = @_;

    my $key = $request->header('Sec-WebSocket-Key');

    croak 'this is no handshake'
        if !defined $key
           || lc($request->header('Upgrade') || '') ne 'websocket'
           || ($request->header('Connection') || '') !~ /\bupgrade\b/i
           || ($request->header('Sec-WebSocket-Version') || '') ne '13';

    $c->head(101, [ 'Connection: Upgrade', 'Upgrade: websocket',
                    'Sec-WebSocket-Accept: ' . ws_key($key),
                    @{$opt{headers} || []} ],
             reason => 'Switching Protocols');

    return ws_over($c);
}


sub ws_over {
    my ($stream, %opt) = @_;
    return bless { stream => $stream, mask => 0, pongs => [], %opt },
                 __PACKAGE__;
}


sub ws_encode {
    my ($op, $data, %opt) = @_;

    my $fin = !defined $opt{fin} || $opt{fin} ? 0x80 : 0;
    my $mask = $opt{mask} ? 0x80 : 0;
    my $n = length $data;

    my $head = pack('C', $fin | $op)
               . ($n < 126 ? pack('C', $mask | $n)
                  : $n < 65536 ? pack('Cn', $mask | 126, $n)
                  : pack('CQ>', $mask | 127, $n));

    return $head . $data if !$mask;

    my $key = pack('N', int(rand(2 ** 32)));

    return $head . $key . _masked($data, $key);
}


sub _masked {
    my ($data, $key) = @_;
    return $data ^ substr($key x (length($data) / 4 + 1), 0, length $data);
}


# Takes one whole frame out of the buffer; undef if there is none.

sub ws_decode {
    my ($buf) = @_;

    return undef if length $$buf < 2;

    my ($b0, $b1) = unpack('CC', $$buf);
    my ($n, $at) = ($b1 & 0x7f, 2);

    if ($n == 126) {
        return undef if length $$buf < 4;
        ($n, $at) = (unpack('x2n', $$buf), 4);
    } elsif ($n == 127) {
        return undef if length $$buf < 10;
        ($n, $at) = (unpack('x2Q>', $$buf), 10);
    }

    my $masked = $b1 & 0x80 ? 1 : 0;
    my $size = $at + 4 * $masked + $n;

    return undef if length $$buf < $size;

    my $frame = substr($$buf, 0, $size, '');
    my $data = substr($frame, $at + 4 * $masked);

    $data = _masked($data, substr($frame, $at, 4)) if $masked;

    return { op => $b0 & 0x0f, fin => $b0 & 0x80 ? 1 : 0,
             rsv => $b0 & 0x70, masked => $masked, data => $data };
}


sub send {
    my ($self, $op, $data, %opt) = @_;

    return $self->{stream}->write(
        ws_encode($op, $data, mask => $self->{mask}, %opt));
}


sub text { my ($self, $data) = @_; return $self->send(WS_TEXT, $data) }
sub binary { my ($self, $data) = @_; return $self->send(WS_BINARY, $data) }


sub ping {
    my ($self, $data) = @_;
    return $self->send(WS_PING, defined $data ? $data : '');
}


sub pong {
    my ($self, $data) = @_;
    return $self->send(WS_PONG, defined $data ? $data : '');
}


sub close {
    my ($self, $code, $reason) = @_;

    my $data = defined $code
               ? pack('n', $code) . (defined $reason ? $reason : '') : '';

    return $self->send(WS_CLOSE, $data);
}


sub frame {
    my ($self) = @_;

    $self->{buf} = '' if !defined $self->{buf};

    while (1) {
        my $frame = ws_decode(\$self->{buf});
        return $frame if $frame;

        my $more = $self->{stream}->read_some;
        return undef if $more eq '';
        $self->{buf} .= $more;
    }
}


sub message {
    my ($self) = @_;

    my $message;

    while (1) {
        my $f = $self->frame or return undef;

        croak "masking is wrong: $f->{masked}"
            if $f->{masked} == $self->{mask};
        croak "reserved bits: $f->{rsv}" if $f->{rsv};

        if ($f->{op} == WS_PING) {
            $self->pong($f->{data});
            next;

        } elsif ($f->{op} == WS_PONG) {
            push @{$self->{pongs}}, $f->{data};
            next;

        } elsif ($f->{op} == WS_CLOSE) {
            my ($code, $reason) = length $f->{data}
                                  ? unpack('na*', $f->{data}) : ();
            return { op => WS_CLOSE, code => $code, reason => $reason };
        }

        if ($f->{op} == WS_CONT) {
            croak 'a continuation of nothing' if !$message;
        } else {
            croak 'a message inside of a message' if $message;
            $message = { op => $f->{op}, data => '', fragments => [] };
        }

        $message->{data} .= $f->{data};
        push @{$message->{fragments}}, length $f->{data};

        return $message if $f->{fin};
    }
}


sub ws_echo {
    my ($c, $request) = @_;

    my $w = ws_accept($c, $request);

    while (my $m = $w->message) {
        if ($m->{op} == WS_CLOSE) {
            $c->note('close ' . (defined $m->{code} ? $m->{code} : 'none'));
            $w->close($m->{code}, $m->{reason});
            last;
        }

        if ($m->{data} =~ /^close (\d+) (.*)$/s) {
            $w->close($1, $2);
            my $answer = $w->message;
            $c->note('closed ' . ($answer ? $answer->{code} : 'without'));
            last;
        }

        return 0 if $m->{data} eq 'drop';

        _echo($w, $m) or last;
    }

    return 0;
}


sub _echo {
    my ($w, $m) = @_;

    my @sizes = @{$m->{fragments}};
    my $at = 0;

    for my $i (0 .. $#sizes) {
        $w->send($i ? WS_CONT : $m->{op}, substr($m->{data}, $at, $sizes[$i]),
                 fin => $i == $#sizes) or return 0;
        $at += $sizes[$i];
    }

    return 1;
}


sub ws_echo_data {
    my ($x) = @_;

    while (my $f = ws_decode(\$x->{body})) {
        my $op = $f->{op} == WS_PING ? WS_PONG : $f->{op};

        $x->{out} .= ws_encode($op, $f->{data}, fin => $f->{fin});
        $x->{last} = 1 if $f->{op} == WS_CLOSE;
    }

    $x->{sending}{hold} = 0 if $x->{last} && $x->{sending};

    if (defined $x->{out} && $x->{out} ne '' && !$x->{sending}) {
        $x->send_body(sub {
            my $data = $x->{out};
            $x->{out} = '';
            return $data ne '' ? $data : undef;
        }, hold => !$x->{last});
    } elsif ($x->{ended} && !$x->{we_ended} && !$x->{sending}) {
        $x->finish;
    }

    return;
}


1;
