#!/usr/bin/perl

# WebSockets over PTTH: extended CONNECT at an agent by hand, and a whole path
# with four workers, an agent and a backend.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::WebSocket;

my $t = InvertingProxy::Test->new;
my $big = 1024 * 1024;

my $n = $t->nginx(workers => 4, http => <<'EOT');
    inverting_proxy_zone zone=main:16m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main echo end_user=allUsers backend_user=me
                            prefix=/echo;
    inverting_proxy_backend main plain end_user=allUsers backend_user=me
                            prefix=/plain;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / { inverting_proxy_pass main; }
        location /idle {
            inverting_proxy_pass main b;
            inverting_proxy_read_timeout 2s;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b', settings => { ENABLE_CONNECT_PROTOCOL => 1 });
$h->wait(sub { $h->{settings_acks} });

my @handshake = ('Connection: Upgrade', 'Upgrade: websocket',
                 'Sec-WebSocket-Version: 13',
                 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==');

sub ask {
    my ($target, @headers) = @_;

    my $c = $t->client;
    $c->request('GET', $target, headers => [ @handshake, @headers ]);
    my $x = $h->take or die "$target does not come\n";

    return ($c, $x);
}


# The handshake, by hand

my ($c, $x) = ask('/chat?room=1', 'Sec-WebSocket-Protocol: chat, superchat',
                  'Sec-WebSocket-Extensions: permessage-deflate',
                  'Origin: http://localhost', 'X-Same: 1', 'X-Same: 2',
                  'X-Inverting-Proxy-User-ID: forged');
is($x->{method}, 'CONNECT', 'extended CONNECT');
is($x->{protocol}, 'websocket', 'its protocol');
is($x->{target}, '/chat?room=1', 'its path');
is($x->{pseudo}{':scheme'}, 'http', 'its scheme');
is($x->{pseudo}{':authority'}, 'localhost', 'its authority');
is($x->header('Sec-WebSocket-Key'), undef, 'no key');
is($x->header('Sec-WebSocket-Version'), 13, 'the version');
is($x->header('Sec-WebSocket-Protocol'), 'chat, superchat', 'protocols');
is($x->header('Sec-WebSocket-Extensions'), 'permessage-deflate',
   'extensions');
is($x->header('Origin'), 'http://localhost', 'Origin');
is_deeply([ $x->all('X-Same') ], [ 1, 2 ], 'other fields');
is($x->header($_), undef, "no $_")
    for qw(Connection Upgrade X-Inverting-Proxy-User-ID Content-Length);
like($x->header('X-Inverting-Proxy-Request-ID'), qr/^[0-9a-f]{32}$/, 'an ID');
ok(!$x->{ended}, 'it has not ended');

$x->respond(200, [ 'Sec-WebSocket-Protocol: chat', 'X-B: c' ], undef,
            hold => 1);
my $m = $c->response(head_only => 1);
is($m->{status}, 101, 'a 101');
is(lc $m->header('Upgrade'), 'websocket', 'Upgrade');
is(lc $m->header('Connection'), 'upgrade', 'Connection');
is($m->header('Sec-WebSocket-Accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
   'the accept of the RFC');
is($m->header('Sec-WebSocket-Protocol'), 'chat', 'the protocol');
is($m->header('X-B'), 'c', 'another field');
is($m->header($_), undef, "no $_") for qw(Content-Length Transfer-Encoding);

# Bytes, as they come, both ways.

$c->write('up');
is($x->read_exactly(2), 'up', 'up');
$x->data('down');
is($c->read_exactly(4), 'down', 'down');
$c->write('x' x 70_000);
is(length $x->read_exactly(70_000), 70_000, 'many of them, up');
$x->data('y' x 70_000);
is(length $c->read_exactly(70_000), 70_000, 'and down');

# The ends of it.

$x->finish;
is($c->wait_end, 'eof', 'the agent ends it');
$c->close;
ok($x->wait_reset || $x->{ended}, 'and the client hears of it');

for my $how ('close', 'reset') {
    ($c, $x) = ask('/ends');
    $x->respond(200, [], undef, hold => 1);
    $c->response(head_only => 1);
    $c->$how;
    ok($h->wait(sub { $x->{ended} || defined $x->{reset} }),
       "a client's $how reaches the agent");
    $x->finish if !defined $x->{reset};
}

# The last that it has sent, and the end; a reset would overtake that in the
# agent, and comes when the backend sends on.

for my $on (0, 1) {
    ($c, $x) = ask('/last');
    $x->respond(200, [], undef, hold => 1);
    $c->response(head_only => 1);
    $c->write('last');
    $c->close;
    is($x->read_exactly(4), 'last', 'a client that goes: its last');
    ok($h->wait(sub { $x->{ended} }), 'and its end');
    $h->drain(0.2);
    is($x->{reset}, undef, 'without a reset');

    if ($on) {
        $x->data('more');
        ok($x->wait_reset, 'until the backend sends on');
    } else {
        $x->finish;
    }
}

($c, $x) = ask('/cancelled');
$c->close;
ok($x->wait_reset, 'a client that goes before the answer');

($c, $x) = ask('/reset');
$x->respond(200, [], undef, hold => 1);
$c->response(head_only => 1);
$x->rst(INTERNAL_ERROR);
like($c->wait_end, qr/^(?:eof|reset)$/, 'a reset reaches the client');
$c->close;

# What is not 200 is an ordinary response.

for my $status (201, 400, 401, 403, 404, 426, 500, 503) {
    ($c, $x) = ask('/refused');
    $x->respond($status, [ 'X-Why: no' ], "refused with $status");
    $x->flush;
    $m = $c->response;
    if ($status == 201) {
        # Neither a refusal nor what a WebSocket may be answered.
        like($m && $m->{status}, qr/^(?:201|502)$/, 'a 201 is no upgrade');
    } else {
        is($m->{status}, $status, "refused with $status");
        is($m->{body}, "refused with $status", "$status: its body");
        is($m->header('X-Why'), 'no', "$status: its fields");
        is($m->header('Upgrade'), undef, "$status: no upgrade");
    }
    $c->close;
}

($c, $x) = ask('/switch');
$x->fields([ [ ':status', 101 ] ]);
is($c->response->{status}, 502, 'a 101 is not a thing of HTTP/2');
$c->close;
$h->wait(sub { $h->{goaway} || defined $x->{reset} });
if ($h->{goaway} || defined $h->{closed}) {
    $h->close;
    $t->wait_status(sub { $_[0]->agents('b') == 0 });
    $h = $t->ptth(backend => 'b',
                  settings => { ENABLE_CONNECT_PROTOCOL => 1 });
    $h->wait(sub { $h->{settings_acks} });
}

# Handshakes that are none: a request as any other, without an upgrade.

for my $case (
    [ 'another protocol' => 'Connection: Upgrade', 'Upgrade: h2c' ],
    [ 'no key'           => 'Connection: Upgrade', 'Upgrade: websocket',
                            'Sec-WebSocket-Version: 13' ],
    [ 'no Connection'    => 'Upgrade: websocket', @handshake[2, 3] ],
    [ 'POST'             => @handshake ],
) {
    my ($name, @headers) = @$case;
    my $c = $t->client;
    $c->request($name eq 'POST' ? 'POST' : 'GET', '/none',
                headers => \@headers, $name eq 'POST' ? (body => '') : ());
    waitfor(sub { $h->wait(sub { @{$h->{arrived}} }, 0.01)
                  || $c->ready(0, 0) });
    my $x = @{$h->{arrived}} ? $h->take : undef;

    if ($x) {
        isnt($x->{method}, 'CONNECT', "$name is no WebSocket");
        is($x->header('Upgrade'), undef, "$name: no upgrade");
        $x->respond(200, [], 'plain');
        $x->flush;
        is($c->response->{body}, 'plain', "$name: answered");
    } else {
        like($c->response->{status}, qr/^4\d\d$/, "$name is refused");
    }
    $c->close;
}

# Frames of a client that come with the handshake are not lost.

$c = $t->client;
$c->write(join("\r\n", 'GET /early HTTP/1.1', 'Host: localhost', @handshake)
          . "\r\n\r\nearly");
$x = $h->take;
$x->respond(200, [], undef, hold => 1);
is($x->read_exactly(5), 'early', 'what came with the handshake');
$x->data('late', end => 1);
is($c->response(head_only => 1)->{status}, 101, 'is a 101');
is($c->read_exactly(4), 'late', 'and what came with its answer');
$c->close;

# Idle for too long

($c, $x) = ask('/idle');
$x->respond(200, [], undef, hold => 1);
$c->response(head_only => 1);
for (1 .. 4) {
    nap(0.6);
    $x->data('beat');
    is($c->read_exactly(4), 'beat', 'a heart that beats');
}
is($c->wait_end(5), 'eof', 'inverting_proxy_read_timeout');
$c->close;
ok($x->wait_reset || $x->{ended}, 'the agent hears of it');

# Slow readers, either way, and a fast one beside them.

my ($slow, $sx) = map { @$_ } do {
    my $c = $t->client(rcvbuf => 4096);
    $c->request('GET', '/slow', headers => \@handshake);
    [ $c, $h->take ];
};
$sx->respond(200, [], random_body('ws', 8 << 20), chunked => 1, hold => 1);
$h->drain(0.3);
ok($sx->{sending}, 'a slow reader holds its own up');
($c, $x) = ask('/fast');
$x->respond(200, [], undef, hold => 1);
$c->response(head_only => 1);
for (1 .. 10) {
    $c->write('fast');
    is($x->read_exactly(4), 'fast', 'beside it, up');
    $x->data('fast');
    is($c->read_exactly(4), 'fast', 'beside it, down');
}
$_->close for $slow, $c;
ok($sx->wait_reset || $sx->{ended}, 'it goes');
$h->wait(sub { $x->{ended} || defined $x->{reset} });
$x->finish if !defined $x->{reset};
ok($t->wait_idle, 'nothing is left');
$h->close;

# An agent that does not know it: no upgrade, and no harm.

my $plain = $t->ptth(backend => 'plain');
$c = $t->client;
$c->request('GET', '/plain', headers => \@handshake);
waitfor(sub { $plain->wait(sub { @{$plain->{arrived}} }, 0.01)
              || $c->ready(0, 0) });
if (@{$plain->{arrived}}) {
    $x = $plain->take;
    is($x->{method}, 'GET', 'without the setting: no CONNECT');
    is($x->header('Upgrade'), undef, 'and no upgrade');
    $x->respond(400, [], 'no');
    $x->flush;
    is($c->response->{status}, 400, 'refused by the backend');
} else {
    like($c->response->{status}, qr/^50[1-4]$/, 'refused by the proxy');
}
$c->close;
$plain->close;


# A path of four workers: an agent by hand that echoes, then many clients.

sub echo_server {
    return $t->ptth_server(backend => 'echo', connections => 2,
        settings => { ENABLE_CONNECT_PROTOCOL => 1 }, code => sub {
            my ($x) = @_;
            $x->{on_data} = \&ws_echo_data;
            $x->respond(200, [], undef, hold => 1);
        });
}

sub talk {
    my ($name) = @_;

    my $w = ws_connect($t->client(timeout => 30), '/echo/x');

    # Texts, bytes, fragments, what a message can be.
    for my $data ('', 'hello', "\xc3\xa4", 'x' x 125, 'x' x 126, 'x' x 65535,
                  'x' x 65536)
    {
        $w->text($data);
        my $m = $w->message or return "$name: no text";
        return "$name: a text" if $m->{data} ne $data || $m->{op} != WS_TEXT;
    }

    my $data = body_bytes($name, $big);
    $w->binary($data);
    my $m = $w->message or return "$name: no binary";
    return "$name: binary" if $m->{data} ne $data || $m->{op} != WS_BINARY;

    $w->send(WS_TEXT, 'one', fin => 0);
    $w->ping("ping $name");
    $w->send(WS_CONT, 'two', fin => 0);
    $w->send(WS_CONT, 'three');
    $m = $w->message or return "$name: no fragments";
    return "$name: fragments " . join(' ', @{$m->{fragments}})
        if $m->{data} ne 'onetwothree' || "@{$m->{fragments}}" ne '3 3 5';
    return "$name: pong" if ($w->{pongs}[0] || '') ne "ping $name";

    $w->close(4000 + length $name, "bye $name");
    $m = $w->message or return "$name: no close";
    return "$name: close $m->{op}"
        if $m->{op} != WS_CLOSE || $m->{code} != 4000 + length $name
           || $m->{reason} ne "bye $name";
    return "$name: goes on" if defined $w->frame;

    return undef;
}

sub many {
    my ($name) = @_;

    is(talk('alone'), undef, "$name: one");

    # All of them open at the same time.
    my @w = map { ws_connect($t->client(timeout => 30), "/echo/$_") } 1 .. 100;
    for my $round (1, 2) {
        $w[$_]->text("round $round of $_") for 0 .. $#w;
        my @got = map { ($_->message || {})->{data} || 'nothing' } @w;
        is_deeply(\@got, [ map { "round $round of $_" } 0 .. $#w ],
                  "$name: a hundred at once, round $round");
    }
    $_->close(1000) for @w;
    is(join(' ', map { ($_->message || {})->{code} || 'none' } @w),
       join(' ', (1000) x 100), "$name: they close");
    $_->{stream}->close for @w;

    my $load = $t->load(clients => 6, count => 2,
                        code => sub { talk("c$_[0]{client}-$_[1]") });
    my $r = $load->wait;
    is(scalar @{$r->{wrong}}, 0, "$name: large ones, six at a time")
        or diag($load->text($r));
    ok($t->wait_idle, "$name: nothing is left");
}

my $server = echo_server();
ok($t->wait_status(sub { $_[0]->agents('echo') >= 2 }), 'an agent by hand');
many('by hand');
$server->stop;
ok($t->wait_status(sub { $_[0]->agents('echo') == 0 }), 'it has gone');

# The same with a real one, and a backend of HTTP/1.1.

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    return ws_echo($c, $req) if $req->{target} ne '/echo/last';

    ws_accept($c, $req);
    my ($piece, $len) = ('', 0);
    $len += length $piece while ($piece = $c->read_some) ne '';
    $c->note("last $len");
    return 0;
});
my $agent = $t->agent(transport => 'auto',
                      backend => 'echo', host => $b->address,
                      args => [ '-transport=ptth' ]);
many('an agent');

# What the backend says of its own accord: a close, an end without one.

my $w = ws_connect($t->client, '/echo/close');
$w->text('close 4001 because');
$m = $w->message;
is("$m->{op} $m->{code} $m->{reason}", '8 4001 because', 'a backend closes');
$w->close(4001);
is($b->wait_note(qr/^closed/), 'closed 4001', 'and is answered');

$w = ws_connect($t->client, '/echo/drop');
$w->text('drop');
like($w->{stream}->wait_end, qr/^(?:eof|reset)$/, 'a backend that drops it');

# The last that clients send who go at once.

for my $i (1 .. 30) {
    my $c = ws_connect($t->client, '/echo/last')->{stream};
    $c->write('x' x (300_000 + $i));
    $c->close;
}

my @lost = grep { my $i = $_; !$b->wait_note(qr/^last ${\(300_000 + $i)}$/, 5) }
               1 .. 30;
is("@lost", '', 'all that clients have sent who go at once');

$w = ws_connect($t->client, '/echo/kill');
$w->text('hello');
$w->message;
$agent->kill;
like($w->{stream}->wait_end, qr/^(?:eof|reset)$/, 'an agent is killed');
ok($t->wait_idle, 'nothing is left');

$t->done;
