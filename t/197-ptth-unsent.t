#!/usr/bin/perl

# Requests for a connection that nobody reads are not handed to it in advance:
# they can be taken back, and go to another agent, whatever their method is.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Client;
use InvertingProxy::Test::Hpack qw(literal);
use InvertingProxy::Test::Http2 qw(:all);

my $count = 2000;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, connections => 8192, http => <<'EOT');
    inverting_proxy_zone zone=main:64m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_queue 10000 timeout=300s;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=64k;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 300s;
            send_timeout 300s;
        }
        location /api/ { inverting_proxy_api main; }
    }

    server {
        listen 127.0.0.1:%%PORT_h2%% http2;
        http2_max_concurrent_streams 10000;
        keepalive_requests 10000;
        location / { inverting_proxy_pass main; }
    }
EOT

# What HPACK has not in its table comes again and again.
my $deaf = $t->ptth(backend => 'b', rcvbuf => 4096,
                    settings => { MAX_CONCURRENT_STREAMS => 2 * $count,
                                  HEADER_TABLE_SIZE => 0 });

sub post {
    my $client = InvertingProxy::Test::Http2->new(role => 'client',
        stream => InvertingProxy::Test::Client->new(port => $n->port('h2')));

    my $head = literal(':method' => 'POST', ':scheme' => 'http',
                       ':path' => '/', ':authority' => 'localhost',
                       'x-large' => 'v' x 3000);

    for my $i (1 .. $count) {
        $client->_stream(2 * $i - 1);
        $client->send(HEADERS, END_STREAM | END_HEADERS, 2 * $i - 1, $head);
    }

    ok(waitfor(sub {
        $client->drain(0.01);
        $t->status->transactions == $count;
    }, 30), "$count requests are there");

    return $client;
}

my $client = post();
my $agent = $t->ptth(backend => 'b',
                     settings => { MAX_CONCURRENT_STREAMS => 2 * $count });
$deaf->close;

my $taken = 0;

while (my $x = $agent->take(5)) {
    $x->respond(200, [], 'well');
    $x->flush;
    $taken++;
}

note("$taken of $count");
cmp_ok($taken, '>', $count / 2, 'many go to another agent');
ok(waitfor(sub { $client->drain(0.01); $t->status->idle }),
   'the others have an answer, too');
$client->close;

# All of them are opened in the end by one that goes on to read.

my $slow = $t->ptth(backend => 'b', rcvbuf => 4096,
                    settings => { MAX_CONCURRENT_STREAMS => 2 * $count,
                                  HEADER_TABLE_SIZE => 0 });
$agent->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one that is slow');

$client = post();
$taken = 0;

while (my $x = $slow->take(5)) {
    $x->respond(200, [], 'well');
    $x->flush;
    last if ++$taken == $count;
}

is($taken, $count, 'gets all of them');
ok(waitfor(sub { $client->drain(0.01); $t->status->idle }),
   'which are answered');

$_->close for $client, $slow;
$t->done;
