#!/usr/bin/perl

# Responses that have come whole are delivered whole, to clients that read
# slowly, whatever becomes of the connection on which they came.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_buffers 2 4k;
    inverting_proxy_buffer_size 4k;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=4k;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

# The window that a stream begins with: more than the pipe and what the kernel
# holds, so that a part of it waits in the worker.

my $size = 32768;

sub ask {
    my ($h, $target, @method) = @_;

    my $c = $t->client(rcvbuf => 2048);
    $c->request(@method ? @method : 'GET', $target);
    my $x = $h->take or die "$target does not come\n";

    $x->respond(200, [], body_bytes($target, $size));
    ok($x->flush, "$target: all of it was sent");
    $h->ping('ABCDEFGH');
    ok($h->wait(sub { @{$h->{pongs}} }), "$target: and has been read");
    $h->{pongs} = [];

    return $c;
}

sub whole {
    my ($c, $target, $name) = @_;

    my $m = $c->response(digest => 1);
    is($m && $m->{sha256}, body_sha256($target, $size), $name);
    $c->close;
    ok($t->wait_idle, "$name: nothing is left");
}

my $h = $t->ptth(backend => 'b');
my $c = ask($h, '/closed');
$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has gone');
whole($c, '/closed', 'the agent closes the connection');

$h = $t->ptth(backend => 'b');
$c = ask($h, '/goaway');
$h->goaway;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent drains');
whole($c, '/goaway', 'the agent says goodbye');
is($h->wait_end, 'eof', 'and then it is closed');
$h->close;

$h = $t->ptth(backend => 'b');
$c = ask($h, '/reset');
$h->reset;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has died');
whole($c, '/reset', 'the agent dies');

# What the client does not want any more goes with it.

$h = $t->ptth(backend => 'b');
$c = ask($h, '/gone');
$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has gone');
$c->reset;
ok($t->wait_idle, 'then the client: nothing is left');

# A response that has not come whole is cut.

$h = $t->ptth(backend => 'b');
$c = $t->client;
$c->request('GET', '/cut');
my $x = $h->take;
$x->respond(200, [], random_body('/cut', 12), length => $size, hold => 1);
ok($x->flush, 'a part of a response');
$h->drain(0.1);
$h->close;
ok($c->response->{cut}, 'is a part for the client');
$c->close;
ok($t->wait_idle, 'nothing is left');

# HTTP/1.1: what is left of a response goes with its client, and the connection
# is used again.

my $h1 = $t->ptth(backend => 'b', alpn => 'http%2F1.1');
$c = $t->client(rcvbuf => 2048);
$c->request('GET', '/h1');
$h1->read_head;
$h1->respond(200, [], body_bytes('h1', $size));
ok($c->read_exactly(100), 'a client that has begun to read');
$c->reset;
ok($t->wait_status(sub { $_[0]->active('b') == 0 }), 'goes');
my $next = $t->client;
$next->request('GET', '/next');
my $r = $h1->read_head;
is($r && $r->{target}, '/next', 'the next one comes');
$h1->respond(200, [], 'next');
is($next->response->{body}, 'next', 'and is answered');
$_->close for $next, $h1;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has gone');


# While it waits for a client the worker ends when it is told to.

$h = $t->ptth(backend => 'b');
$c = ask($h, '/reload');
$h->close;
$n->reload;
whole($c, '/reload', 'reloaded meanwhile');

$t->done;
