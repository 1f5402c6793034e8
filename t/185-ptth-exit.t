#!/usr/bin/perl

# A worker that exits says goodbye to its agents first, also to one that has
# nothing to do; it holds itself open for their streams, and
# "worker_shutdown_timeout" bounds that.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, main => 'worker_shutdown_timeout 1s;',
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k;
        listen 127.0.0.1:%%PORT_small%% sndbuf=4k;
        inverting_proxy_buffer_size 4k;
        location / { inverting_proxy_pass main; }
        location /small {
            inverting_proxy_pass main;
            inverting_proxy_buffers 2 4k;
        }
        location = /pid { return 200 $pid; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

# The worker that has nothing else must not go without a word.

my $h = $t->ptth(backend => 'b');
$n->reload;
is($h->wait_end, 'eof', 'an idle connection is closed');
is($h->{goaway} && $h->{goaway}[1], NO_ERROR, 'GOAWAY came first');
$h->close;

for my $alpn ('h2', 'http%2F1.1') {

    my $h = $t->ptth(backend => 'b', alpn => $alpn);
    my $c = $t->client;
    $c->request('GET', '/');

    if ($alpn eq 'h2') {
        my $x = $h->take;
        $x->respond(200, [], random_body('x', 10), length => 1000, hold => 1);
        $x->flush;

    } else {
        $h->read_head;
        $h->write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\na part");
    }

    ok($c->read_exactly(1), "$alpn: a response that has begun");

    $n->reload;
    is($h->wait_end(10), 'eof', 'the connection is closed in the end');
    ok(waitfor(sub { !$n->exiting }), 'no worker stays');
    $_->close for $c, $h;
    ok($t->wait_idle, 'nothing is left');
}

# An agent that does not read, as if it had been stopped.

for my $alpn ('h2', 'http%2F1.1') {

    my $h = $t->ptth(backend => 'b', alpn => $alpn, rcvbuf => 4096,
                     settings => { INITIAL_WINDOW_SIZE => 1 << 24 });
    my $c = $t->client;

    if ($alpn eq 'h2') {
        ok($h->wait(sub { $h->{settings_acks} }), 'it has large windows');
        $h->window(0, 1 << 24);
    }

    $c->request('POST', '/', body => 'x' x 300_000);
    $alpn eq 'h2' ? $h->take : $h->read_head;

    $n->reload;
    ok(waitfor(sub { !$n->exiting }, 10),
       "$alpn: no worker stays for an agent that does not read");
    $_->close for $c, $h;
    ok($t->wait_idle, 'nothing is left');
}

# A client of another worker, that has not read a response which has come whole.

my $size = 32768;

$h = $t->ptth(backend => 'b');
my ($number) = $h->{answer}->header('X-Inverting-Proxy-Worker') =~ m{^(\d)/2$};
my $pid = (sort { $a <=> $b } $n->workers)[$number];
my $c;

waitfor(sub {
    $c->close if $c;
    $c = $t->client(port => $n->port('small'), rcvbuf => 2048);
    return $c->get('/pid')->{body} != $pid;
});

$c->request('GET', '/small');
my $x = $h->take;
$x->respond(200, [], body_bytes('x', $size));
ok($x->flush, 'a response');
$h->ping('ABCDEFGH');
ok($h->wait(sub { @{$h->{pongs}} }), 'has come whole');
$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has gone');

kill('QUIT', $pid);
ok(waitfor(sub { !kill(0, $pid) }, 10), 'its worker does not stay for it');
ok($c->response->{cut}, 'it is cut');
$c->close;

$t->done;
