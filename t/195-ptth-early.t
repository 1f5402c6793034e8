#!/usr/bin/perl

# Answers to requests of which the agent has not read all, and does not want
# more: it resets each of these streams (RFC 9113, 8.1).  Clients can make it do
# so as often as they like, and others on the connection must not notice.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

my $t = InvertingProxy::Test->new;

# No tick while it runs: what is counted between two of them is bounded.

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_poll_timeout 1h;
    keepalive_requests 1000000;

    server {
        listen 127.0.0.1:%%PORT%%;
        lingering_close off;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }

    # in which little of a response, and of a request, can wait

    server {
        listen 127.0.0.1:%%PORT_small%% sndbuf=4k rcvbuf=32k;
        client_max_body_size 0;
        inverting_proxy_buffers 2 4k;
        inverting_proxy_buffer_size 4k;
        location / { inverting_proxy_pass main; }
    }
EOT

my $head = literal(':status' => 403, 'content-length' => 0);

my $h = $t->ptth(backend => 'b');

# One that is in progress all the time.

my $beside = $t->client(timeout => 60);
$beside->request('GET', '/beside');
my $x = $h->take;
$x->respond(200, [], 'half', length => 8, hold => 1);
$x->flush;

# In all more than an agent may reset of what is not open.

for my $case (
    [ 'half a request' => 2000, sub {
        my $c = $t->client;
        $c->write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n");
        my $m = $c->read_head;
        $c->reset;
        return $m->{status} == 403 ? undef : $m->{start};
    } ],
    # Its end and that of the answer meet on the way.
    [ 'all of one' => 5500, sub {
        my ($load) = @_;
        my $c = $load->{state}{client} ||= $t->client;
        my $m = $c->get('/', method => 'POST', body => 'x');
        return $m->{status} == 403 ? undef : $m->{start};
    } ],
) {
    my ($name, $many, $code) = @$case;
    my $clients = $t->load(clients => 2, count => $many, code => $code);

    for (1 .. 2 * $many) {
        my $y = $h->take or last;
        delete $h->{streams}{$y->{id}};
        $h->raw(frame(HEADERS, END_HEADERS | END_STREAM, $y->{id}, $head)
                . frame(RST_STREAM, 0, $y->{id}, pack('N', NO_ERROR)));
    }

    my $r = $clients->wait;
    is(scalar @{$r->{wrong}}, 0, "$name: each has its answer")
        or diag($clients->text($r));
}

$x->data('half');
is($beside->response->{body}, 'halfhalf', 'the one beside them goes on');
$beside->close;

# A client that first writes all of its request, and then reads: of the answer
# a part waits for it in the worker, and nobody wants the rest of the request.

my $size = 4 * 1024 * 1024;
my $c = $t->client(port => $n->port('small'), rcvbuf => 2048);
$c->request('POST', '/up', length => $size);
$c->write('x' x 1000);
$x = $h->take;
$x->respond(413, [], body_bytes('early', 32768));
ok($x->flush, 'an early answer');
$x->rst(NO_ERROR);
ok(eval { $c->write('x' x ($size - 1000)) }, 'the upload goes on');
my $m = $c->response(digest => 1);
is($m->{status}, 413, 'and then it is read');
is($m->{sha256}, body_sha256('early', 32768), 'all of it');
$_->close for $c, $h;

$t->done;
