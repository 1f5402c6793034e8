#!/usr/bin/perl

# WebSockets through the agent: an extended CONNECT on the PTTH connection, an
# upgrade of HTTP/1.1 at the backend.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::WebSocket;

my $t = InvertingProxy::Test->new;


sub backend {
    my ($c, $req) = @_;

    if ($req->{target} eq '/echo') {
        $c->note(join(' ', map { "$_->[0]=$_->[1]" } @{$req->{fields}}));
        ws_echo($c, $req);
        return 0;
    }

    if ($req->{target} eq '/refuse') {
        return $c->respond(403, [ 'X-Why: not you' ], 'go away');
    }

    if ($req->{target} =~ m{^/plain/(\d+)}) {
        return $c->respond($1, [], $1 == 204 ? undef : 'a page');
    }

    if ($req->{target} eq '/wrong') {
        $c->head(101, [ 'Connection: Upgrade', 'Upgrade: websocket',
                        'Sec-WebSocket-Accept: ' . ws_key('another') ],
                 reason => 'Switching Protocols');
        $c->wait_end(5);
        return 0;
    }

    if ($req->{target} eq '/other') {
        $c->head(101, [ 'Connection: Upgrade', 'Upgrade: h2c',
                        'Sec-WebSocket-Accept: '
                        . ws_key($req->header('Sec-WebSocket-Key')) ],
                 reason => 'Switching Protocols');
        $c->wait_end(5);
        return 0;
    }

    if ($req->{target} eq '/two') {
        # two Connection fields
        $c->head(101, [ 'Connection: keep-alive', 'Connection: Upgrade',
                        'Upgrade: websocket', 'Sec-WebSocket-Accept: '
                        . ws_key($req->header('Sec-WebSocket-Key')) ],
                 reason => 'Switching Protocols');
        $c->wait_end(20);
        return 0;
    }

    if ($req->{target} eq '/proto') {
        my $w = ws_accept($c, $req, headers => [ 'Set-Cookie: a=b',
                                        'Sec-WebSocket-Protocol: chat' ]);
        $w->text('hello');
        $c->wait_end(20);
        return 0;
    }

    if ($req->{target} eq '/half') {
        # what comes after the client's end
        my $w = ws_accept($c, $req);
        my $all = '';
        while (defined(my $s = $c->read_some)) {
            last if $s eq '';
            $all .= $s;
        }
        $c->write('got ' . length $all);
        return 0;
    }

    if ($req->{target} eq '/flood') {
        my $w = ws_accept($c, $req);
        eval { $c->write('x' x 65536) for 1 .. 1600 };
        $c->note('flooded');
        return 0;
    }

    return $c->respond(404, [], '');
}


sub websocket {
    my ($h, $path, %opt) = @_;

    return $h->request('CONNECT', $path, protocol => 'websocket', hold => 1,
                       %opt);
}


sub tunnel {
    my ($h, $path, %opt) = @_;

    my $x = websocket($h, $path, %opt);
    $x->head(10);

    return ($x, ws_over($x, mask => 1));
}


my $p = $t->ptth_proxy;

for my $kind ('tcp', 'unix', 'tls') {
    my @crt = $kind eq 'tls' ? $t->certificate_for('localhost') : ();

    # Not by each of its processes: a hundred at once take long enough, and the
    # first of them waits for the last.
    require IO::Socket::SSL if $kind eq 'tls';

    my $b = $t->backend(\&backend, timeout => 250,
                        $kind eq 'unix' ? (unix => 1)
                        : $kind eq 'tls' ? (tls => [ @crt[0, 1] ]) : ());
    my $a = $t->agent(transport => 'auto',
                      proxy => $p->url, backend => 'b', wait => 0,
                      host => $kind eq 'tls' ? 'https://localhost:' . $b->port
                                             : $b->address,
                      args => [ $kind eq 'tls' ? "-ca-file=$crt[0]" : () ]);
    my $h = $p->dialled;
    $h->wait(sub { $h->{settings}{ENABLE_CONNECT_PROTOCOL} });

    my ($x, $w) = tunnel($h, '/echo', headers => [
        'Origin: http://o', 'Cookie: a=1', 'Sec-WebSocket-Protocol: chat',
        'Sec-WebSocket-Extensions: x', 'Sec-WebSocket-Version: 13',
        'X-Inverting-Proxy-User-ID: someone' ]);
    is($x->{status}, 200, "$kind: 200 stands for 101") or diag($a->log);
    is($x->header('Sec-WebSocket-Accept'), undef, 'without an answer');
    ok(!$x->{ended}, 'and open');

    ok($b->wait_note(qr/origin=http:..o/i), 'Origin gets there');
    my ($note) = $b->notes;
    like($note, qr/cookie=a=1/i, 'and Cookie');
    like($note, qr/sec-websocket-protocol=chat/i, 'and the protocols');
    like($note, qr/sec-websocket-extensions=x/i, 'and the extensions');
    is(scalar(() = $note =~ /sec-websocket-version=13/gi), 1, 'one version');
    like($note, qr/sec-websocket-key=[A-Za-z0-9+\/]{22}==/i, 'a key');
    unlike($note, qr/inverting/i, 'not what is the proxy\'s');

    $w->text('hello');
    is($w->message->{data}, 'hello', 'text');
    my $big = random_body('ws', 1024 * 1024);
    $w->binary($big);
    my $m = $w->message;
    ok($m && $m->{op} == WS_BINARY && $m->{data} eq $big, 'binary, 1 MiB');
    $w->send(WS_TEXT, 'one ', fin => 0);
    $w->send(WS_CONT, 'two');
    is($w->message->{data}, 'one two', 'fragments');
    $w->ping('p');
    $w->text('after');
    is($w->message->{data}, 'after', 'after a ping');
    is($w->{pongs}[0], 'p', 'the pong');
    $w->text('close 4001 why');
    $m = $w->message;
    is("$m->{op} $m->{code} $m->{reason}", WS_CLOSE . ' 4001 why', 'a close');
    $w->close(4001, 'why');
    ok($h->wait(sub { $x->{ended} }, 10), 'the end');

    $x = websocket($h, '/refuse');
    ok($x->response, 'a refusal');
    is($x->{status}, 403, 'is passed on');
    is($x->header('X-Why'), 'not you', 'with its fields');
    is($x->{body}, 'go away', 'and its body');

    for my $path ('/wrong', '/other', '/plain/200', '/plain/204') {
        $x = websocket($h, $path);
        $x->head(10);
        is($x->{status}, 502, "$path: not what was asked for");
    }

    ($x, $w) = tunnel($h, '/two');
    is($x->{status}, 200, 'an answer with two Connection fields');
    $x->rst(CANCEL);

    ($x, $w) = tunnel($h, '/proto');
    is($x->header('Sec-WebSocket-Protocol'), 'chat', 'the protocol chosen');
    is($x->header('Set-Cookie'), 'a=b', 'a cookie');
    is($w->message->{data}, 'hello', 'what came at once');
    $x->rst(CANCEL);

    if ($kind ne 'tls') {
        ($x, $w) = tunnel($h, '/half');
        $x->data('abcdef', end => 1);
        ok($h->wait(sub { $x->{ended} }, 10), 'half-closed by the client');
        is($x->{body}, 'got 6', 'and answered');
    }

    # a hundred at once, each with its own
    my @many = map { [ tunnel($h, '/echo') ] } 1 .. 100;
    $many[$_][1]->text("number $_") for 0 .. 99;
    is(join(',', map { $many[$_][1]->message->{data} } 0 .. 99),
       join(',', map { "number $_" } 0 .. 99), 'a hundred at once');
    $_->[0]->rst(CANCEL) for @many;

    # one that sends and is not read
    if ($kind eq 'tcp') {
        $h->{grant} = 'connection';
        ($x) = tunnel($h, '/flood');
        $h->drain(0.5);
        cmp_ok($x->{length}, '<', 200_000, 'back-pressure');
        ok(!grep({ /flooded/ } $b->notes), 'up to the backend');
        $x->rst(CANCEL);
        ok($b->wait_note(qr/flooded/), 'which is told of the end');
    }

    $b->stop;
    $x = websocket($h, '/echo');
    ok($x->response, 'a backend that is away');
    is($x->{status}, 502, 'is 502');
    $h->goaway(0, NO_ERROR);
    $h->drain(0.2);
    is(scalar($a->stop), 0, 'it ends well');
    ok($h->wait_end(5), 'and the connection');
    while (my $c = $p->call(qr{ptth}, 0.1)) { $c->close }
}

$t->done(idle => 0);
