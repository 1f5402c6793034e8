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
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
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

$t->done;
