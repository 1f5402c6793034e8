#!/usr/bin/perl

# PTTH with http/1.1: one request at a time on a connection, pipelining never.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;
use InvertingProxy::Test::WebSocket;
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main work end_user=allUsers backend_user=me
                            prefix=/work;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_small%% sndbuf=16k;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location = /pid { return 200 $pid; }
        location /agent/ { inverting_proxy_agent main; }
        location /quick/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 3s;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my @h1 = (backend => 'b', alpn => 'http%2F1.1');
my $h = $t->ptth(@h1);

is($h->{answer}->header('ALPN'), 'http%2F1.1', 'http/1.1 is agreed on');
like($h->{answer}->header('X-Inverting-Proxy-Worker'), qr{^[01]/2$},
     'the worker');

sub ask {
    my ($method, $target, %opt) = @_;

    my $c = $t->client;
    $c->request($method, $target, %opt);
    my $r = $h->read_head or die "$method $target does not come\n";

    return ($c, $r);
}

sub gone {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    like($h->wait_end(5), qr/^(?:eof|reset)$/, "$name: it is closed");
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }),
       "$name: and forgotten");
    $h->close;
    $h = $t->ptth(@h1);
}


# One after the other, on the same connection

for my $method (qw(GET HEAD POST PUT DELETE PROPFIND)) {
    my ($c, $r) = ask($method, '/p?q');
    is($r->{method}, $method, $method);
    is($r->{target}, '/p?q', "$method: the target");
    is($r->header('Host'), 'localhost', "$method: Host");
    $h->read_body($r);
    $h->respond(200, [ 'X-A: 1', 'X-A: 2' ], "to $method",
                head => $method eq 'HEAD');
    my $m = $c->response;
    is($m->{status}, 200, "$method: a response");
    is($m->header('X-A'), '1, 2', "$method: its fields");
    is($m->{body}, $method eq 'HEAD' ? '' : "to $method", "$method: its body");
    $c->close;
}

my ($c, $r) = ask('GET', '/', headers => [
    'X-Inverting-Proxy-User-ID: forged', 'Connection: X-Named',
    'X-Named: gone', 'Keep-Alive: 1', 'TE: deflate' ]);
like($r->header('X-Inverting-Proxy-Request-ID'), qr/^[0-9a-f]{32}$/, 'an ID');
is($r->header('X-Inverting-Proxy-User-ID'), undef, 'nobody has signed in');
is($r->header($_), undef, "$_ is of the connection")
    for qw(X-Named Keep-Alive TE);
$h->respond(204, [], undef);
is($c->response->{status}, 204, 'a 204');
$c->close;

($c, $r) = ask('GET', '/');
$h->respond(304, [ 'ETag: "x"', 'Content-Length: 100' ], undef);
is($c->response->{status}, 304, 'a 304');
$c->close;

for my $size (0, 1, 100_000) {
    for my $chunked (0, 1) {
        my $name = "$size bytes, " . ($chunked ? 'chunked' : 'a length');
        my ($c, $r) = ask('POST', '/up', body => body_bytes('up', $size),
                          chunked => $chunked);
        $h->read_body($r, digest => 1);
        is($r->{sha256}, body_sha256('up', $size), "$name: up");
        is($r->{framing}, $chunked ? 'chunked' : 'length',
           "$name: the framing");
        $h->respond(200, [], body_bytes('down', $size), chunked => $chunked,
                    trailers => [ 'X-T: end' ]);
        my $m = $c->response(digest => 1);
        is($m->{sha256}, body_sha256('down', $size), "$name: down");
        is($m->trailer('X-T'), $chunked ? 'end' : undef, "$name: trailers");
        is($m->{cut}, undef, "$name: whole");
        $c->close;
    }
}

($c, $r) = ask('GET', '/');
$h->write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
$h->write("HTTP/1.1 100 Continue\r\n\r\n");
$h->respond(200, [], 'late');
my $m = $c->response;
is($m->{body}, 'late', 'interim responses are consumed');
is_deeply($m->{interim}, [], 'all of them');
$c->close;

# Extensions are small in each chunk, however many there are in all.

($c, $r) = ask('GET', '/');
$h->write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
          . "5;q=1\r\nfive!\r\n" x 2000 . "0\r\n\r\n");
$m = $c->response;
is($m->{cut}, undef, 'chunks with extensions');
is(length $m->{body}, 10_000, 'are read to the end');
$c->close;

# The reason, which HTTP/2 has not got.

($c, $r) = ask('GET', '/');
$h->write("HTTP/1.1 299 Quite Well\r\nContent-Length: 0\r\n\r\n");
is($c->response->{reason}, 'Quite Well', 'the reason');
$c->close;


# Never two at a time

# One after the other: two workers may read them in any order.

my @c = map { $t->client } 1 .. 3;
$c[0]->request('GET', '/1');
$r = $h->read_head;
is($r->{target}, '/1', 'the first one');
$c[1]->request('GET', '/2');
ok($t->wait_status(sub { $_[0]->waiting('b') == 1 }), 'one more waits');
$c[2]->request('GET', '/3');
is($h->wait_end(0.3), undef, 'the others wait');
ok($t->wait_status(sub { $_[0]->waiting('b') == 2 }), 'in the queue');
$h->respond(200, [], 'one');
is($c[0]->response->{body}, 'one', 'its response');
$r = $h->read_head;
is($r->{target}, '/2', 'then the second one');

my $other = $t->ptth(@h1, wait => 0);
is($other->read_head->{target}, '/3', 'another connection has the third');
$other->respond(200, [], 'three');
$h->respond(200, [], 'two');
is($c[2]->response->{body}, 'three', 'its response');
is($c[1]->response->{body}, 'two', 'and that of the second');
$_->close for @c, $other;
ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');

# The next one only after the request of the last one has been sent as a whole.

$c = $t->client;
$c->request('POST', '/early', length => 1000);
$c->write('x' x 10);
$r = $h->read_head;
$h->respond(403, [], 'no');
is($c->response->{status}, 403, 'an answer before the end of the request');
$c->close;

my $next = $t->client;
$next->request('GET', '/next');
my $end = $h->wait_end(5);

# It cannot go on with this connection: half a request was sent.
$h->read_some while !$h->{eof} && $h->wait_end(2);
gone('half a request');
is($h->read_head->{target}, '/next', 'another connection has the next one');
$h->respond(200, [], 'fine');
is($next->response->{body}, 'fine', 'and answers it');
$next->close;


# The same when its client reads nothing of the answer, which the zone holds as a
# whole, and goes on with the request.

$c = $t->client(port => $n->port('small'), rcvbuf => 4096);
$c->request('POST', '/more', length => 1000);
$c->write('x' x 10);
$r = $h->read_head;
$h->read_exactly(10);
$h->respond(403, [], 'no' x 30_000);
is($h->wait_end(0.3), undef, 'an answer that is whole, and not read');
$c->write('x' x 10);
gone('more of the request');
is(length $c->response->{body}, 60_000, 'the answer, none the less');
$c->close;


# All of it is sent, and answered, before the client's worker has said that this
# was all.  That is waited for, but no longer than for a tick.

for my $quick (0, 1) {
  SKIP: {
    if ($quick) {
        $h->close;
        ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'none is left');
        $h = $t->ptth(@h1, base => '/quick/agent/');
    }

    my ($worker) = $h->{answer}->header('X-Inverting-Proxy-Worker') =~ /^(\d)/;
    my ($its) = grep { $_->{worker} == $worker }
                     @{$t->status->{doc}{workers}};
    my ($pid) = grep { $_ != $its->{pid} } $n->workers;
    my $why = cut_missing($pid);
    skip($why, 1) if $why;

    my $c = $t->client_at($pid);
    my $cut = cut($pid, 'ngx_http_inverting_pipe_finish', go => 1,
                  when => sub { $c->request('POST', '/all', body => 'x') },
                  hold => sub {
                      my $r = $h->read_head;
                      $h->read_body($r);
                      is($r->{body}, 'x', 'all of a request');
                      $h->respond(200, [], 'all');
                      $quick ? gone('for a tick') : nap(0.3);
                  });
    ok($cut->{stopped}, 'is answered before its end is known')
        or diag($cut->{out});
    is($c->response->{body}, 'all', 'its client has the response');
    $c->close;

    ($c, my $r) = ask('GET', '/on');
    $h->respond(200, [], 'on');
    is($c->response->{body}, 'on', $quick ? 'another connection serves'
                                          : 'the connection goes on');
    $c->close;
  }
}

like($n->log, qr/ends: its response came before the end of the request/,
     'in the log');


# How it ends

($c, $r) = ask('GET', '/');
$h->respond(200, [ 'Connection: close' ], 'last');
is($c->response->{body}, 'last', 'Connection: close');
$c->close;
gone('Connection: close');

($c, $r) = ask('GET', '/');
$h->write("HTTP/1.1 200 OK\r\n\r\nuntil it closes");
$h->close;
$m = $c->response;
is($m->{body}, 'until it closes', 'a body that ends with the connection');
is($m->{cut}, undef, 'is whole');
$c->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'and gone');
$h = $t->ptth(@h1);

($c, $r) = ask('GET', '/');
$h->write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
$h->close;
ok($c->response->{cut}, 'too short a body is a cut');
$c->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'and gone');
$h = $t->ptth(@h1);

($c, $r) = ask('GET', '/');
$c->close;
gone('a client that goes away');

# Lost before the response: another one has it.

$other = $t->ptth(@h1);
($c, $r) = map { @$_ } do {
    my $c = $t->client;
    $c->request('GET', '/again');
    my $select = waitfor(sub { (grep { $_->ready(0, 0) } $h, $other)[0] });
    ($h, $other) = ($other, $h) if $select == $other;
    [ $c, $h->read_head ];
};
$h->close;
is($other->read_head->{target}, '/again', 'a request is offered again');
$other->respond(200, [], 'from the other');
is($c->response->{body}, 'from the other', 'and answered');
$c->close;
$h = $other;

for my $case (
    [ 'garbage'        => "\0\1\2\3 garbage\r\n\r\n" ],
    [ 'two lengths'    => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                          . "Content-Length: 2\r\n\r\nxx" ],
    [ 'both framings'  => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                          . "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
                          . "\r\n" ],
    [ 'gzip'           => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n"
                          . "\r\nx" ],
    [ 'a 101'          => "HTTP/1.1 101 Yes\r\nUpgrade: x\r\n\r\n" ],
    [ 'a bare CR'      => "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n" ],
    [ 'too long'       => "HTTP/1.1 200 OK\r\nX: " . 'x' x 100_000
                          . "\r\n\r\n" ],
    [ 'HTTP/2'         => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" ],
) {
    my ($name, $bytes) = @$case;
    my ($c, $r) = ask('POST', '/', body => '');
    $h->read_body($r);
    $h->write($bytes);
    is($c->response->{status}, 502, "$name: 502");
    $c->close;
    gone($name);
}

# More than the response there is to be: nothing of it is anybody's.

($c, $r) = ask('GET', '/');
$h->write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
          . "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
is($c->response->{body}, 'ok', 'a response too many');
$c->close;
gone('a response too many');

$h->write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
gone('a response to nothing');


# A WebSocket is an upgrade of this connection, too.

my $handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\n"
                . "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                . "Sec-WebSocket-Version: 13\r\n"
                . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

$c = $t->client;
$c->write($handshake);
$r = $h->read_head;
is(lc($r->header('Upgrade') || ''), 'websocket', 'an upgrade comes');
my $server = ws_accept($h, $r);
$m = $c->response(head_only => 1);
is($m->{status}, 101, 'a 101');
is($m->header('Sec-WebSocket-Accept'), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
   'its key');
my $w = ws_over($c, mask => 1);
$w->text('ping');
is($server->message->{data}, 'ping', 'a message');
$server->text('pong');
is($w->message->{data}, 'pong', 'and one back');
$c->close;
gone('a WebSocket that is over');

# The last that a client sends reaches the agent, also when the worker sees both
# it and the client's end.

for my $size (20, 100_000) {
    my $c = $t->client;
    $c->write($handshake);
    ws_accept($h, $h->read_head);
    $c->response(head_only => 1);

    kill('STOP', $n->workers);
    $c->write('x' x $size);
    $c->close;
    kill('CONT', $n->workers);

    is(length $h->read_exactly($size), $size, "the last, $size bytes");
    gone("the last, $size bytes");
}

$h->close;

# Not for ever: an agent that does not read.  It is more than the sockets take,
# and less than the worker does besides.

$h = $t->ptth(@h1, base => '/quick/agent/', port => $n->port('small'),
              rcvbuf => 4096);
$c = $t->client;
$c->write($handshake);
ws_accept($h, $h->read_head);
$c->response(head_only => 1);
$n->mark;
$c->write('x' x 80_000);
$c->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'nothing else is given');
unlike($n->log, qr/ends: the client has gone/, 'while it may still read');
ok($n->wait_log(qr/ends: the client has gone/, 10), 'who does not read');
$h->close;
ok($t->wait_idle, 'nothing is left');


# Many of them, under load

my $s = $t->ptth_server(backend => 'work', alpn => 'http%2F1.1',
                        connections => 6, code => work_origin());
ok($t->wait_status(sub { $_[0]->agents('work') >= 6 }), 'six connections');
my @wrong;
my $load = $t->load(clients => 8, count => 25, code => sub {
    my ($load, $i) = @_;
    my $key = "$load->{client}-$i";
    my @to = (prefix => '/work');

    return work_download($t, $key, 100_000, @to) if $i % 5 == 3;
    return work_upload($t, $key, 100_000, @to) if $i % 5 == 4;
    return work_small($t, $key, @to, method => $i % 2 ? 'GET' : 'POST');
});
my $result = $load->wait;
is(scalar @{$result->{wrong}}, 0, 'nothing was wrong')
    or diag($load->text($result));
$s->stop;

$t->done;
