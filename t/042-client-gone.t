#!/usr/bin/perl

# A client goes away, at every point of its request, while the agent's part is
# done by hand: the agent is told at once, and nothing is left in the zone.

use lib 't/lib';
use InvertingProxy::Test;

use IO::Select;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_agent_user a;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_h2%% http2;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $p = $t->peer(backend => 'b');
my $how;


# Requests that are left.  A body in 'part' is read; 'full' is more than the zone
# takes while nobody reads it.  A reset is seen then even if nothing can be sent
# any more; a close is not: its FIN would come behind what nginx does not read.

sub frame {
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack('N', length $payload), 1)
           . pack('CCN', $type, $flags, $stream) . $payload;
}


sub start {
    my ($method, $body) = @_;

    $body ||= '';

    if ($how =~ /^h2/) {
        my $c = $t->client(port => $n->port('h2'));
        my $fields = ($method eq 'GET' ? "\x82" : "\x02\x03PUT")
                     . "\x84\x86\x01\x09localhost";

        $c->write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '')
                  . frame(1, $body ? 4 : 5, 1, $fields));
        $c->write(frame(0, 0, 1, 'part')) if $body eq 'part';
        $c->write(frame(0, 0, 1, 'x' x 13107) x 5) if $body eq 'full';

        return $c;
    }

    my $c = $t->client(rcvbuf => 4096);
    $c->request($method, '/', $body ? (length => 1e9) : ());
    $c->write('part') if $body eq 'part';

    if ($body eq 'full') {
        $how eq 'close' ? $c->write('x' x 60000) : fill($c, 'x' x 65536);
    }

    return $c;
}


# Writes until nobody has taken anything for a while.

sub fill {
    my ($c, $piece) = @_;

    my $select = IO::Select->new($c->fh);

    $c->fh->blocking(0);
    while ($select->can_write(0.3 * slow())) {
        syswrite($c->fh, $piece);
    }
    $c->fh->blocking(1);
}


sub leave {
    my ($c) = @_;

    if ($how eq 'h2 RST_STREAM') {
        $c->write(frame(3, 0, 1, pack('N', 8)));
    } elsif ($how =~ /reset/) {
        $c->reset;
    } else {
        $c->close;
    }
}


# The agent is told soon, and of nothing is anything left.

sub is_over {
    my ($w, $what) = @_;

    my $t0 = now();
    is($w->answer->{status}, 404, "$how: $what: 404 to the POST");
    cmp_ok(now() - $t0, '<', 5 * slow(), 'at once');
    $w->close;
}


sub none_left {
    my ($what) = @_;
    ok($t->wait_idle(5), "$how: $what: nothing is left of it");
}


for ('close', 'reset', 'h2 close', 'h2 RST_STREAM') {
    my ($c, $id, $f, $w, $what);

    $how = $_;

    # in the queue

    my $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('b') == 1 });
    $poll->close;
    $t->wait_status(sub { $_[0]->agents('b') == 0 });

    for my $body ('', 'part', 'full') {
        $what = $body ? "in the queue, with a body, $body" : 'in the queue';
        $c = start($body ? 'PUT' : 'GET', $body);
        $t->wait_status(sub { $_[0]->waiting('b') == 1 });
        leave($c);
        none_left($what);
        is($t->status->waiting('b'), 0, 'not in the queue any more');
    }


    # told

    $what = 'an agent is told';
    $c = start('GET');
    $id = $p->take;
    leave($c);
    none_left($what);
    is($p->fetch($id)->{status}, 404, "$how: $what: it does not get it");


    # fetched

    $what = 'an agent has fetched it';
    $c = start('GET');
    $id = $p->take;
    $p->fetch($id);
    leave($c);
    none_left($what);
    is($p->respond($id, $p->response(200, [], ''))->{status}, 404,
       "$how: $what: a response is not wanted");


    # a POST is open

    $what = 'the POST is open';
    $c = start('GET');
    $id = $p->take;
    $p->fetch($id);
    $w = $p->post($id);
    nap(0.05);
    leave($c);
    is_over($w, $what);
    none_left($what);


    # a part of the head

    $what = 'in the middle of the head';
    $c = start('GET');
    $id = $p->take;
    $p->fetch($id);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nX");
    nap(0.05);
    leave($c);
    is_over($w, $what);
    none_left($what);


    # a part of the response

    $what = 'in the middle of the response';
    $c = start('GET');
    $id = $p->take;
    $p->fetch($id);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
    ok(IO::Select->new($c->fh)->can_read(5), 'it comes');
    nap(0.05);
    leave($c);
    is_over($w, $what);
    none_left($what);


    # a part of the response, and nobody reads it

    $what = 'in the middle of a response that it does not read';
    $c = start('GET');
    $id = $p->take;
    $p->fetch($id);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    fill($w->client, '1000' . "\r\n" . 'x' x 4096 . "\r\n");
    leave($c);
    is_over($w, $what);
    none_left($what);


    # a part of the request

    $what = 'in the middle of the request';
    $c = start('PUT', 'part');
    $id = $p->take;
    $f = $p->fetch($id, stream => 1);
    is($f->{inner}->body_piece, 'part', 'a part comes');
    $w = $p->post($id);
    nap(0.05);
    leave($c);
    is_over($w, $what);
    is($f->{inner}->body_piece, undef, 'no more of it comes');
    ok($f->{request}{cut}, 'it is cut');
    none_left($what);


    # a part of the request, no POST

    $what = 'in the middle of the request, without a POST';
    $c = start('PUT', 'part');
    $id = $p->take;
    $f = $p->fetch($id, stream => 1);
    is($f->{inner}->body_piece, 'part', 'a part comes');
    leave($c);
    is($f->{inner}->body_piece, undef, 'no more of it comes');
    ok($f->{request}{cut}, 'it is cut');
    none_left($what);


    # a part of the request, and nobody reads it

    $what = 'in the middle of a request that nobody reads';
    $c = start('PUT', 'full');
    $id = $p->take;
    $f = $p->fetch($id, stream => 1);
    $w = $p->post($id);
    fill($c, 'x' x 65536) if $how eq 'reset';
    nap(0.2);
    leave($c);
    is_over($w, $what);
    $f->{inner}->read_some while !$f->{inner}{eof};
    ok($f->{client}->read_some eq '', 'no more of it comes');
    $f->{client}->close;
    none_left($what);


    # while the response has begun, too

    $what = 'in the middle of both';
    $c = start('PUT', 'full');
    $id = $p->take;
    $f = $p->fetch($id, stream => 1);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
    nap(0.2);
    leave($c);
    is_over($w, $what);
    $f->{client}->close;
    none_left($what);
}

$t->done;
