#!/usr/bin/perl

# What no agent should send over h2: bad frames, forbidden ones, floods.  The
# connection ends with a line in the log, whoever waits for it gets an answer,
# and nobody else notices anything.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main other end_user=allUsers backend_user=me
                            prefix=/other;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my %workers = map { $_ => 1 } $n->workers;
my $other = $t->ptth(backend => 'other');

sub other_is_well {
    my ($name) = @_;

    my $c = $t->client;
    $c->request('GET', '/other');
    my $x = $other->take or return fail("$name: the other one gets nothing");
    $x->respond(200, [], 'well');
    $x->flush;
    my $m = $c->response;
    $c->close;

    is($m && $m->{body}, 'well', "$name: another backend is well");
}

# A connection with one stream that is open, and the client behind it.

sub open_one {
    my (%opt) = @_;

    # Its PINGs want their answers.
    $other->drain(0.001);

    my $h = $t->ptth(backend => 'b', %opt);
    my $c = $t->client;
    $c->request('POST', '/', body => '');
    my $x = $h->take or die "the request does not come\n";

    return ($h, $c, $x);
}

# What each end has to look like.

sub over {
    my ($name, $h, $c) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $end = $h->wait_end(10);
    like($end, qr/^(?:eof|reset|broken)$/, "$name: the connection is closed");

    if ($c) {
        my $m = $c->response;
        ok(!$m || $m->{status} == 502 || $m->{cut}, "$name: 502, or a cut")
            or diag($m->{raw} . $m->{body});
        unlike($m ? $m->{raw} . $m->{body} : '', qr/evil/,
               "$name: nothing of it");
        $c->close;
    }

    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), "$name: it is gone");

    # Our line, and not a flood of them.
    my $line = qr/^\S+\ \S+\ \[(?:error|warn|info|notice)\]
                  .*(?:ptth|http\/?2|agent)/xmi;
    ok($n->wait_log($line, 3), "$name: there is a line in the log");
    cmp_ok(scalar(() = $n->log =~ /$line/g), '<=', 6, "$name: and no flood")
        or diag($n->log);

    $h->close;
}


# One frame that is wrong.  The stream is open: it has had no response yet.

sub settings { return frame(SETTINGS, 0, 0, settings_payload(@_)) }

my $head = literal(':status' => 200);

for my $case (
    [ 'DATA on no stream'         => sub { frame(DATA, 0, 0, 'evil') } ],
    [ 'DATA on an idle stream'    => sub { frame(DATA, 0, 99, 'evil') } ],
    [ 'DATA on an even stream'    => sub { frame(DATA, 0, 2, 'evil') } ],
    [ 'HEADERS on no stream'      => sub { frame(HEADERS, END_HEADERS, 0,
                                                 $head) } ],
    [ 'HEADERS on an idle stream' => sub { frame(HEADERS, END_HEADERS, 99,
                                                 $head) } ],
    [ 'HEADERS on an even stream' => sub { frame(HEADERS, END_HEADERS, 2,
                                                 $head) } ],
    [ 'PUSH_PROMISE'              => sub { frame(PUSH_PROMISE, END_HEADERS,
                                                 $_[0], pack('N', 2)
                                                 . literal(
            ':method' => 'GET', ':scheme' => 'http', ':path' => '/evil',
            ':authority' => 'localhost')) } ],
    [ 'PUSH_PROMISE, odd'         => sub { frame(PUSH_PROMISE, END_HEADERS,
                                                 $_[0], pack('N', 3)) } ],
    [ 'CONTINUATION of nothing'   => sub { frame(CONTINUATION, END_HEADERS,
                                                 $_[0], $head) } ],
    [ 'DATA inside HEADERS'       => sub { frame(HEADERS, 0, $_[0], $head)
                                           . frame(DATA, 1, $_[0], 'evil') } ],
    [ 'PING inside HEADERS'       => sub { frame(HEADERS, 0, $_[0], $head)
                                           . frame(PING, 0, 0, 'x' x 8) } ],
    [ 'CONTINUATION of another'   => sub { frame(HEADERS, 0, $_[0], $head)
                                           . frame(CONTINUATION, END_HEADERS,
                                                   $_[0] + 2, '') } ],
    [ 'padding over all'          => sub { frame(DATA, PADDED, $_[0],
                                                 "\x05evil") } ],
    [ 'padding of nothing'        => sub { frame(DATA, PADDED, $_[0], '') } ],
    [ 'padding over a head'       => sub { frame(HEADERS,
                                                 END_HEADERS | PADDED, $_[0],
                                                 "\xff$head") } ],
    [ 'half a priority'           => sub { frame(HEADERS, END_HEADERS
                                                 | WITH_PRIORITY, $_[0],
                                                 "\0\0") } ],
    [ 'RST_STREAM on no stream'   => sub { frame(RST_STREAM, 0, 0,
                                                 pack('N', 8)) } ],
    [ 'RST_STREAM, idle'          => sub { frame(RST_STREAM, 0, 99,
                                                 pack('N', 8)) } ],
    [ 'a short RST_STREAM'        => sub { frame(RST_STREAM, 0, $_[0],
                                                 "\0\0\0") } ],
    [ 'SETTINGS on a stream'      => sub { frame(SETTINGS, 0, $_[0], '') } ],
    [ 'half a setting'            => sub { frame(SETTINGS, 0, 0,
                                                 "\0\1\0\0\0") } ],
    [ 'an ACK with settings'      => sub { frame(SETTINGS, ACK, 0,
                                                 "\0\1\0\0\0\0") } ],
    [ 'a push by SETTINGS'        => sub { settings(ENABLE_PUSH => 1) } ],
    [ 'a push of two'             => sub { settings(ENABLE_PUSH => 2) } ],
    [ 'too large a window'        => sub { settings(
                                     INITIAL_WINDOW_SIZE => 0x80000000) } ],
    [ 'too small a frame'         => sub { settings(
                                     MAX_FRAME_SIZE => 16383) } ],
    [ 'too large a frame size'    => sub { settings(
                                     MAX_FRAME_SIZE => 0x1000000) } ],
    [ 'CONNECT protocol of two'   => sub { settings(
                                     ENABLE_CONNECT_PROTOCOL => 2) } ],
    [ 'CONNECT protocol back'     => sub { settings(
                                     ENABLE_CONNECT_PROTOCOL => 1)
                                   . settings(
                                     ENABLE_CONNECT_PROTOCOL => 0) } ],
    [ 'PING on a stream'          => sub { frame(PING, 0, $_[0], 'x' x 8) } ],
    [ 'a short PING'              => sub { frame(PING, 0, 0, 'x' x 7) } ],
    [ 'a long PING'               => sub { frame(PING, 0, 0, 'x' x 9) } ],
    [ 'GOAWAY on a stream'        => sub { frame(GOAWAY, 0, $_[0],
                                                 pack('NN', 0, 0)) } ],
    [ 'a short GOAWAY'            => sub { frame(GOAWAY, 0, 0, "\0\0\0") } ],
    [ 'WINDOW_UPDATE of nothing'  => sub { frame(WINDOW_UPDATE, 0, 0,
                                                 pack('N', 0)) } ],
    [ 'WINDOW_UPDATE too much'    => sub { frame(WINDOW_UPDATE, 0, 0,
                                                 pack('N', 0x7fffffff)) } ],
    [ 'WINDOW_UPDATE, idle'       => sub { frame(WINDOW_UPDATE, 0, 99,
                                                 pack('N', 1)) } ],
    [ 'a short WINDOW_UPDATE'     => sub { frame(WINDOW_UPDATE, 0, 0,
                                                 "\0\0\1") } ],
    [ 'a short PRIORITY'          => sub { frame(PRIORITY, 0, $_[0],
                                                 "\0\0\0\0") } ],
    [ 'PRIORITY on no stream'     => sub { frame(PRIORITY, 0, 0,
                                                 "\0" x 5) } ],
    [ 'too large a frame'         => sub { frame(DATA, 0, $_[0],
                                                 'evil' x 4097) } ],
    [ 'a frame of 16 MiB'         => sub { "\xff\xff\xff" . pack('CCN', 0, 0,
                                                 $_[0]) . 'evil' x 16384 } ],
    [ 'a table index'             => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 "\xff\xff\xff\x03") } ],
    [ 'index zero'                => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 "\x80") } ],
    [ 'an endless number'         => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 "\xff" x 50 . "\0") } ],
    [ 'a table of 1 GiB'          => sub { frame(HEADERS, END_HEADERS, $_[0],
                                       "\x3f\xe1\xff\xff\xff\x03$head") } ],
    [ 'a late table size'         => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 "$head\x20") } ],
    [ 'a string past the end'     => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 "\0\x03x-a\x7fevil") } ],
    [ 'bad Huffman padding'       => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 "\0\x81\x00\0") } ],
    [ 'EOS in Huffman'            => sub { frame(HEADERS, END_HEADERS, $_[0],
                                            "\0\x01a\x84" . "\xff" x 4) } ],
    [ 'half a head at its end'    => sub { frame(HEADERS, END_HEADERS, $_[0],
                                                 substr($head, 0, 5)) } ],
    [ 'HTTP/1.1'                  => sub { "HTTP/1.1 200 OK\r\nX: evil\r\n"
                                           . "Content-Length: 0\r\n\r\n" } ],
    [ 'the preface'               => sub { PREFACE } ],
    [ 'TLS'                       => sub { "\x16\x03\x01\x02\0\x01\0\x01\xfc"
                                           . 'evil' x 100 } ],
    [ 'zeroes'                    => sub { "\0" x 4096 . "\xff" x 4096 } ],
) {
    my ($name, $bytes) = @$case;
    my ($h, $c, $x) = open_one();

    is($h->{settings}{ENABLE_PUSH}, 0, 'no push is wanted')
        if $name eq 'DATA on no stream';

    $n->mark;
    $h->raw($bytes->($x->{id}));
    over($name, $h, $c);
}

other_is_well('bad frames');

# Before SETTINGS, and nothing at all instead of them.

for my $case ([ 'HEADERS first', frame(HEADERS, 5, 1, $head) ],
              [ 'PING first', frame(PING, 0, 0, 'x' x 8) ],
              [ 'HTTP/1.1 first', "HTTP/1.1 200 OK\r\n\r\n" ],
              [ 'an ACK first', frame(SETTINGS, ACK, 0) ])
{
    my ($name, $bytes) = @$case;
    $n->mark;
    my $h = $t->ptth(backend => 'b', start => 0, wait => 0);
    $h->raw($bytes);
    over($name, $h);
}


# Errors of one stream: whether or not the connection ends, the client hears of
# it.

sub stream_error {
    my ($name, $code) = @_;

    my ($h, $c, $x) = open_one();
    $code->($h, $x);

    my $m = $c->response;
    ok(!$m || $m->{status} == 502 || $m->{cut}, "$name: 502, or a cut");
    unlike($m ? $m->{raw} . $m->{body} : '', qr/evil/, "$name: nothing of it");
    $c->close;
    $h->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), "$name: it is gone");
}

stream_error('DATA before HEADERS', sub {
    my ($h, $x) = @_;
    $h->send(DATA, 0, $x->{id}, 'evil');
});
stream_error('too much window of a stream', sub {
    my ($h, $x) = @_;
    $x->grant(0x7fffffff);
});
stream_error('no window for a stream', sub {
    my ($h, $x) = @_;
    $x->grant(0);
});
stream_error('a stream that depends on itself', sub {
    my ($h, $x) = @_;
    $h->send(PRIORITY, 0, $x->{id}, pack('NC', $x->{id}, 1));
    $x->rst;
});
stream_error('HEADERS after the end', sub {
    my ($h, $x) = @_;
    $h->send_fields($x->{id}, literal(':status' => 502), end => 1);
    $h->send_fields($x->{id}, literal(':status' => 200, 'x' => 'evil'),
                    end => 1);
});


# Beyond the end of a stream

for my $case (
    [ 'DATA after the end',       sub { frame(DATA, 1, $_[0], 'evil') } ],
    [ 'HEADERS after the end',    sub { frame(HEADERS, 5, $_[0], $head) } ],
    [ 'WINDOW_UPDATE after it',   sub { frame(WINDOW_UPDATE, 0, $_[0],
                                              pack('N', 1)) } ],
    [ 'RST_STREAM after it',      sub { frame(RST_STREAM, 0, $_[0],
                                              pack('N', 8)) } ],
) {
    my ($name, $bytes) = @$case;
    my ($h, $c, $x) = open_one();

    $x->respond(200, [], 'good');
    $x->flush;
    is($c->response->{body}, 'good', "$name: what was before it");
    $h->raw($bytes->($x->{id}));

    # A client of HTTP/1.1 that goes on has another response.
    $c->request('GET', '/other');
    my $y = $other->take;
    $y->respond(200, [], 'its own');
    $y->flush;
    is($c->response->{body}, 'its own', "$name: is nobody's");
    $c->close;
    $h->close;
    $t->wait_status(sub { $_[0]->agents('b') == 0 });
}


# More than there is window for

{
    my ($h, $c, $x) = open_one();
    my $window = $h->{settings}{INITIAL_WINDOW_SIZE};

    $window = 65535 if !defined $window;
    cmp_ok($window, '<=', 1024 * 1024, 'no window without memory behind it');

    # The client reads nothing; the agent takes no notice.
    $c = $t->client(rcvbuf => 4096);
    $c->request('GET', '/');
    my $y = $h->take;
    $n->mark;
    $y->fields([ [ ':status', 200 ] ]);

    my $sent = 0;
    for (1 .. 4096) {
        $h->send(DATA, 0, $y->{id}, 'evil' x 4096) or last;
        $sent += 16384;
        last if $_ % 16 == 0
                && $h->wait(sub { $h->{goaway} || defined $y->{reset}
                                  || $h->{closed} }, 0.001);
    }

    cmp_ok($sent, '<', 64 << 20, 'too much for a window is noticed');
    cmp_ok($t->status->bytes_used, '<', 4 << 20, 'and holds little');
    $c->close;
    $h->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it is gone');
    other_is_well('too much for a window');
}


# Floods.  Each ends by being stopped, well before all of it was sent.

sub flood {
    my ($name, $code, %opt) = @_;

    my ($h, $c, $x) = open_one(ack => 0, pong => 0);
    my $bytes = $code->($h, $x);
    my $sent = 0;
    my $many = $opt{many} || 64 << 20;

    $n->mark;
    $bytes x= 1 + int(16384 / length $bytes) if !$opt{once};

    # Nobody reads what comes: answers pile up, until that is too much.
    while ($sent < $many) {
        my $ok = eval { $h->raw($bytes) };
        last if !$ok;
        $sent += length $bytes;
    }

    cmp_ok($sent, '<', $many, "$name: it is stopped");
    over($name, $h, $c);
}

# What costs nothing but the reading of it, and has no answer, may go on; it
# must not keep anybody waiting.

sub noise {
    my ($name, $code) = @_;

    my ($h, $c, $x) = open_one();
    my $bytes = $code->($x);

    $bytes x= 1 + int(16384 / length $bytes);
    for (1 .. 256) {
        eval { $h->raw($bytes) } or last;
    }

    other_is_well($name);

    if ($h->wait(sub { $h->{goaway} || defined $h->{closed} }, 0.05)) {
        is($c->response->{status}, 502, "$name: it is stopped");
    } else {
        $x->respond(200, [], 'still there');
        $x->flush;
        is($c->response->{body}, 'still there', "$name: it goes on");
    }

    $c->close;
    $h->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), "$name: it is gone");
}

flood('PING', sub { frame(PING, 0, 0, 'x' x 8) });
flood('SETTINGS', sub { frame(SETTINGS, 0, 0, settings_payload(
                                  INITIAL_WINDOW_SIZE => 65535)) });
flood('empty SETTINGS', sub { frame(SETTINGS, 0, 0) });
flood('CONTINUATION', sub {
    my ($h, $x) = @_;
    $h->send(HEADERS, 0, $x->{id}, $head);
    return frame(CONTINUATION, 0, $x->{id}, literal('x-a' => 'evil' x 1000));
});
flood('empty CONTINUATION', sub {
    my ($h, $x) = @_;
    $h->send(HEADERS, 0, $x->{id}, $head);
    return frame(CONTINUATION, 0, $x->{id}, '');
});
flood('indexed fields', sub {
    my ($h, $x) = @_;
    # One large field in the table, and then one byte for each use of it.
    $h->send(HEADERS, 0, $x->{id},
             "$head\x40\x03x-a\x7f\xa1\x1e" . 'v' x 4000);
    return frame(CONTINUATION, 0, $x->{id}, "\xbe" x 16000);
});
flood('empty DATA', sub {
    my ($h, $x) = @_;
    $h->send(HEADERS, END_HEADERS, $x->{id}, $head);
    return frame(DATA, 0, $x->{id}, '');
});
flood('RST_STREAM', sub {
    my ($h, $x) = @_;
    return frame(RST_STREAM, 0, $x->{id}, pack('N', 8));
});
noise('PRIORITY', sub { frame(PRIORITY, 0, $_[0]{id}, pack('NC', 0, 1)) });
noise('types that nobody knows', sub { frame(77, 0, 0, 'evil') });
noise('WINDOW_UPDATE', sub { frame(WINDOW_UPDATE, 0, 0, pack('N', 1)) });

other_is_well('floods');

# Pushes before our SETTINGS, which forbid them, are acknowledged.

{
    my ($h, $c, $x) = open_one(ack => 0);
    $n->mark;
    eval { $h->raw(join('', map { frame(PUSH_PROMISE, END_HEADERS, $x->{id},
                                        pack('N', 2 * $_)) } 1 .. 1000)) };
    over('early pushes', $h, $c);
    like($n->log, qr/broke the rules of HTTP\/2: PUSH_PROMISE/, 'the log');
    other_is_well('early pushes');
}

# Answers to streams that a client has reset, as fast as they can be opened:
# the agent resets every one.  Whoever does only that is not worth a
# connection.

{
    my $h = $t->ptth(backend => 'b');
    my $resets = 0;
    $n->mark;

    my $client = $t->load(clients => 4, count => 300, code => sub {
        my $m = $t->get('/', method => 'POST', body => '');
        return $m && $m->{status} =~ /^50[23]$/ ? undef
               : $m ? $m->{start} : 'no answer';
    });

    while ($h->wait(sub { @{$h->{arrived}} }, 0.2)
           || !defined $h->{closed} && $client->done < 1200)
    {
        $h->reset_stream($_->{id}, INTERNAL_ERROR)
            for splice(@{$h->{arrived}});
        $resets++;
    }

    my $r = $client->wait;
    is(scalar @{$r->{wrong}}, 0, 'resets: every client has its answer')
        or diag($client->text($r));
    other_is_well('resets');
    $h->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it is gone');
}


# It says nothing at all: no SETTINGS, and then nothing to what it is asked.

{
    my $h = $t->ptth(backend => 'b', start => 0, ack => 0, wait => 0);
    other_is_well('one that says nothing');
    $h->close;
}

is_deeply({ map { $_ => 1 } $n->workers }, \%workers, 'no worker has died');
ok($t->wait_idle, 'nothing is left');
$other->close;

$t->done;
