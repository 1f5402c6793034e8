#!/usr/bin/perl

# The peers of PTTH and the HTTP/2 below them, before anything of ours is
# tested with them: against nghttp2's tools and nginx, and against each other.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);
use InvertingProxy::Test::PtthAgent qw(ptth_dial ptth_answer);
use InvertingProxy::Test::PtthProxy qw(ptth_wrong);
use InvertingProxy::Test::WebSocket;
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $big = 1024 * 1024 + 17;


# Our server, their clients

my $work = work_origin();

my $server = $t->backend(sub {
    my ($c) = @_;
    my $h = InvertingProxy::Test::Http2->new(stream => $c, role => 'server',
                                             notes => $c->{notes});
    $h->serve(sub { my ($x) = @_; $work->($x, $x) });
}, raw => 1);

my $url = 'http://' . $server->address;

my $r = run_command([ 'nghttp', '-v', "$url/small/a" ]);
like($r->{out}, qr/:status: 200/, 'nghttp: a status');
like($r->{out}, qr/GET a/, 'nghttp: a body');

$r = run_command([ 'nghttp', '-n', '-s', "$url/down/x/$big/0",
                   "$url/small/b", "$url/down/y/$big/0" ]);
is(scalar(() = $r->{out} =~ / 200 /g), 3, 'nghttp: three requests')
    or diag($r->{out});

$r = run_command([ 'nghttp', '-w', '10', '-W', '10', "$url/down/z/$big/0" ]);
is($r->{status}, 0, 'nghttp: a small window');
ok($r->{out} eq body_bytes('z', $big), 'nghttp: whole and right');

spew($t->dir . '/body', body_bytes('up', $big));
$r = run_command([ 'nghttp', '-d', $t->dir . '/body', '--no-content-length',
                   "$url/up/q" ]);
like($r->{out}, qr/^$big @{[ body_sha256('up', $big) ]}/, 'nghttp: an upload');

$r = run_command([ 'h2load', '-n', 300, '-c', 3, '-m', 10,
                   "$url/small/load" ]);
like($r->{out}, qr/300 succeeded, 0 failed/, 'h2load: 300 requests')
    or diag($r->{out});


# Our client, nginx

my $n = $t->nginx(module => 0, vars => { B => $t->backend($work)->address },
                  http => <<'EOT');
    server {
        listen 127.0.0.1:%%PORT%% http2;
        location / {
            proxy_pass http://%%B%%;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header X-Key $http_x_key;
            client_max_body_size 0;
        }
    }
EOT

sub to_nginx {
    my (%opt) = @_;
    return InvertingProxy::Test::Http2->new(
        stream => $t->client(port => $n->port), role => 'client', %opt);
}

my $h = to_nginx();
my $x = $h->request('GET', '/small/one', headers => [ 'X-Key: k' ]);
ok($x->response, 'nginx answers');
is($x->{status}, 200, 'a status');
is($x->{body}, 'GET one ', 'a body');
is($x->header('X-Key'), 'k', 'fields both ways');

# Tables of both sides, again and again.
for my $i (1 .. 30) {
    $x = $h->request('GET', "/small/t$i",
                     headers => [ 'X-Key: ' . 'k' x (40 * $i) ])->response;
    is($x->header('X-Key'), 'k' x (40 * $i), "a table that turns over, $i")
        or last;
}

my $up = $h->request('POST', '/up/u', body => random_body('u', $big));
my $down = $h->request('GET', "/down/d/$big/0");
ok($down->response, 'a download');
is($down->{sha256}, body_sha256('d', $big), 'its digest');
ok($up->response, 'an upload beside it');
is($up->{body}, "$big " . body_sha256('u', $big), 'its digest');

$h->ping('12345678');
ok($h->wait(sub { @{$h->{pongs}} }), 'a ping is answered');
is($h->{pongs}[0], '12345678', 'with the same');

# Windows by hand.
$h = to_nginx(grant => 'connection',
              settings => { INITIAL_WINDOW_SIZE => 10 });
$x = $h->request('GET', '/down/w/100/0');
ok($h->wait(sub { $x->{length} == 10 }), 'ten bytes');
$x->grant(20);
ok($h->wait(sub { $x->{length} == 30 }), 'twenty more');
$h->drain(0.1);
is($x->{length}, 30, 'and no more than that');
$x->grant(70);
ok($x->response, 'the rest');

# What is wrong is sent, and seen to be wrong.
$h = to_nginx();
$h->send_fields(1, literal(':method' => 'GET', ':path' => '/', 'Upper' => 'x',
                           ':scheme' => 'http'), end => 1);
ok($h->wait(sub { $h->{seen}{RST_STREAM} || $h->{goaway}
                  || $h->{streams}{1} && $h->{streams}{1}{status}
                     && $h->{streams}{1}{status} == 400 }),
   'an upper case name');

$h = to_nginx();
$h->window(0, 0x7fffffff);
is($h->wait_end(5), 'eof', 'too much window');
is($h->{goaway}[1], FLOW_CONTROL_ERROR, 'and its code');


# Each other

sub peers {
    my ($alpn, %opt) = @_;

    my $p = $t->ptth_proxy(tls => $opt{tls});
    my $s = $t->ptth_server(port => $p->port, backend => 'b', wait => 0,
                            base => '/agent/', alpn => $alpn,
                            tls => $opt{tls} ? 1 : undef, code => $work);
    my $c = $p->call(qr/ptth$/);

    is(ptth_wrong($c->{request}), undef, "$alpn: a good upgrade");
    is($c->{request}->header('X-Inverting-Proxy-Backend-ID'), 'b',
       "$alpn: for a backend");

    return ($p, $s, $p->upgrade($c, alpn => $alpn, worker => '1/3'));
}

for my $tls (undef, [ $t->certificate_for('peers') ]) {
    my $name = $tls ? 'TLS' : 'plain';
    my ($p, $s, $h) = peers('h2', tls => $tls);

    my @x = map { $h->request('GET', "/down/p$_/$big/0") } 1 .. 3;
    for my $i (1 .. 3) {
        ok($x[$i - 1]->response, "$name: a response");
        is($x[$i - 1]{sha256}, body_sha256("p$i", $big), "$name: its digest");
    }
    ok((grep { $_ eq 'up 1/3' } $s->notes), "$name: the worker is told");

    # It dials again, and finishes what it has.
    # Nothing is sent that it might not read before it goes: that would make
    # the end a reset.
    $h->{grant} = 'none';
    my $slow = $h->request('GET', "/events/s/5/0.05");
    $h->wait(sub { $slow->{status} });
    $h->goaway(0);
    my $h2 = $p->dialled;
    is($h2->request('GET', '/small/new')->response->{body}, 'GET new ',
       "$name: a new connection");
    ok($slow->response, "$name: the old one finishes");
    is(scalar(() = $slow->{body} =~ /data/g), 5, "$name: all of it");
    is($h->wait_end, 'eof', "$name: and goes");

    # When it has read all that was sent: else it is a reset.
    $h2->ping;
    $h2->wait(sub { @{$h2->{pongs}} });
    $s->stop;
    is($h2->wait_end, 'eof', "$name: killed");
}

my ($p, $s, $c) = peers('http%2F1.1');
is($c->get('/small/h1')->{body}, 'GET h1 ', 'http/1.1: a request');
is($c->get('/up/h1', method => 'POST', body => 'x' x 9)->{status}, 200,
   'http/1.1: another');
$s->stop;
is($c->wait_end, 'eof', 'http/1.1: killed');


# WebSocket

sub talk {
    my ($name, $w) = @_;

    $w->text('hello');
    is($w->message->{data}, 'hello', "$name: a text");

    my $data = body_bytes('ws', $big);
    $w->binary($data);
    my $m = $w->message;
    is($m->{op}, WS_BINARY, "$name: binary");
    ok($m->{data} eq $data, "$name: whole and right");

    $w->send(WS_TEXT, 'a' x 126, fin => 0);
    $w->ping('between');
    $w->send(WS_CONT, 'b' x 65536);
    $m = $w->message;
    is($m->{data}, 'a' x 126 . 'b' x 65536, "$name: fragments");
    is($w->{pongs}[0], 'between', "$name: a pong");

    $w->close(4001, 'bye');
    $m = $w->message;
    is("$m->{op} $m->{code} $m->{reason}", '8 4001 bye', "$name: a close");
    is($w->frame, undef, "$name: the end");
}

# The example of RFC 6455, 1.3.
is(ws_key('dGhlIHNhbXBsZSBub25jZQ=='), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
   'a key of the RFC');

my $ws = $t->backend(\&ws_echo);
talk('HTTP/1.1', ws_connect($t->client(port => $ws->port), '/'));
ok($ws->wait_note(qr/^close 4001/), 'the backend has seen it');

$p = $t->ptth_proxy;
$s = $t->ptth_server(port => $p->port, backend => 'b', wait => 0,
    settings => { ENABLE_CONNECT_PROTOCOL => 1 },
    code => sub {
        my ($x) = @_;
        $x->{on_data} = \&ws_echo_data;
        $x->respond(200, [], undef, hold => 1);
    });
$h = $p->dialled;
ok($h->wait(sub { $h->{settings}{ENABLE_CONNECT_PROTOCOL} }),
   'extended CONNECT is announced');
my @w = map { my $x = $h->request('CONNECT', "/ws$_", protocol => 'websocket');
              $x->head; ws_over($x, mask => 1) } 1, 2;
is($w[0]{stream}{status}, 200, 'and accepted');
talk('extended CONNECT', $_) for @w;
$s->stop;


# Answers other than 101

$p = $t->ptth_proxy;

for my $status (401, 404, 426, 503, 200) {
    my $pid = fork();
    if ($pid == 0) {
        my $a = ptth_answer(port => $p->port, backend => 'b');
        POSIX::_exit($a && $a->{status} == $status ? 0 : 1);
    }
    my $c = $p->call(qr/ptth$/);
    $c->respond($status, [], 'no');
    $c->close;
    waitpid($pid, 0);
    is($?, 0, "refused with $status");
}

$t->done;
