#!/usr/bin/perl

# What a worker keeps for a connection is bounded, whoever does what: clients
# that come and go while the agent does not read, an agent that refuses all.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k;
        large_client_header_buffers 4 64k;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 60s;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b', settings => { MAX_CONCURRENT_STREAMS => 8 });
ok($h->wait(sub { $h->{settings_acks} }), 'an agent that takes eight');

sub memory {
    my ($pid) = $n->workers;
    return slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m ? $1 : die;
}

sub small {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $c = $t->client;
    $c->request('GET', '/small');
    my $x;
    do { $x = $h->take } while $x && $x->{target} ne '/small';
    $x->respond(200, [], 'small') && $x->flush if $x;
    is($c->response->{body}, 'small', $name) if $x;
    ok($x, "$name: it comes");
    $c->close;

    return;
}

# Large heads of clients that have gone; nobody reads from the connection.

my $large = 'X-Large: ' . 'v' x 60_000;

sub come_and_go {
    my ($times) = @_;

    for (1 .. $times) {
        my $c = $t->client;
        $c->request('GET', '/gone', headers => [ $large ]);
        $t->wait_status(sub { $_[0]->active('b') }) or return 0;
        $c->reset;
        $t->wait_status(sub { !$_[0]->active('b') }) or return 0;
    }

    return 1;
}

ok(come_and_go(50), 'clients that come and go');
my $before = memory();
ok(come_and_go(300), 'many more of them');
my $more = memory() - $before;

SKIP: {
    skip('sanitizers do not give memory back', 1)
        if $ENV{INVERTING_PROXY_PRELOAD};
    cmp_ok($more, '<', 8 * 1024, 'cost no memory') or diag("$more KiB");
}

small('the agent reads again');

# An agent that refuses is not asked the same at once, over and over.

my @c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 8;
my ($refused, $end) = (0, now() + 2);

while (now() < $end) {
    $h->wait(sub { @{$h->{arrived}} }, 0.2) or next;
    while (my $x = shift @{$h->{arrived}}) {
        $x->rst(REFUSED_STREAM);
        $refused++;
    }
}

cmp_ok($refused, '>=', 8, 'all were refused');
cmp_ok($refused, '<', 100, 'and not offered for ever');
$_->close for @c;

$h->close;
ok($t->wait_idle, 'nothing is left');

# Lines of the log are bounded, too.

$h = $t->ptth(backend => 'b');
$n->mark;

for (1 .. 30) {
    my $c = $t->client;
    $c->request('GET', '/');
    $h->take->fields([ [ ':status', 200 ], [ 'x a', 1 ] ], end => 1);
    is($c->response->{status}, 502, 'a bad field') if $_ == 1;
    $c->close;
}

cmp_ok(scalar(() = $n->log =~ /broke the rules of HTTP/g), '>', 0, 'a line');
cmp_ok(scalar(() = $n->log =~ /broke the rules of HTTP/g), '<=', 10,
       'not one for each');
$h->close;

# What a 101 says of a length is nothing.

my $h1 = $t->ptth(backend => 'b', alpn => 'http%2F1.1');
my $c = $t->client;
$c->write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
          . "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
          . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
$h1->read_head;
$h1->write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
           . "Upgrade: websocket\r\nContent-Length: 3\r\n"
           . "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
my $m = $c->read_head;
is($m->{status}, 101, 'a 101');
is($m->header('Content-Length'), undef, 'has no length');
$_->close for $c, $h1;

$t->done;
