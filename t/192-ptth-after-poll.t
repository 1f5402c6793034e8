#!/usr/bin/perl

# A WebSocket's handshake that an agent that polls has fetched and lost, and
# that another one takes then, over PTTH.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::WebSocket;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, http => <<'EOC');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOC

for my $polled (0, 1) {
    my $peer = $t->peer(backend => 'b');

    my $poll = $peer->poll;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'a poll');

    my $c = $t->client(timeout => 10);
    my $h;

    if (!$polled) {
        $poll->close;
        $h = $t->ptth(backend => 'b', alpn => 'http%2F1.1');
    }

    $c->write("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
              . "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
              . "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");

    if ($polled) {
        my $m = $peer->poll_end($poll);
        my $id = $m->{ids}[0];
        ok($id, 'it is told');
        is($peer->fetch($id)->{status}, 200, 'and fetched');
        my $p = $peer->post($id);
        $p->close;
        ok($t->wait_status(sub { $_[0]->waiting('b') == 1 }),
           'lost, and offered again');
        $h = $t->ptth(backend => 'b', alpn => 'http%2F1.1');
    }

    my $r = $h->read_head;
    is($r->{target}, '/ws', "polled $polled: it comes over PTTH");
    is($r->header('Upgrade'), 'websocket', 'a WebSocket');
    $h->write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
              . "Upgrade: websocket\r\n"
              . "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    my $m = $c->response(head_only => 1);
    is($m->{status}, 101, "polled $polled: 101");

    $h->write('from backend');
    is($c->read_some, 'from backend', "polled $polled: down");
    $c->write('from client');
    is(eval { $h->read_some }, 'from client', "polled $polled: up")
        or diag($@);
    $c->close;
    $h->close;
}

$t->done;
