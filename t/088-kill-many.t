#!/usr/bin/perl

# A worker dies that has thousands of requests, in a large zone: to take back
# what it held, whoever does it, costs less than to make them has cost.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Client;
use InvertingProxy::Test::Hpack qw(literal);
use InvertingProxy::Test::Http2 qw(:all);

my $count = 6000;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, connections => 20000, http => <<'EOT');
    inverting_proxy_zone zone=main:768m registry=1m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_queue 10000 timeout=300s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }

    server {
        listen 127.0.0.1:%%PORT_h2%% http2;
        http2_max_concurrent_streams 10000;
        keepalive_requests 10000;
        location / { inverting_proxy_pass main; }
    }
EOT

$n->allow_kill;

# Of the processor, so that it does not matter what else there is to do.
sub seconds {
    my ($pid) = @_;
    my ($ns) = (slurp("/proc/$pid/schedstat") || '') =~ /^(\d+)/;
    return ($ns || 0) / 1e9;
}

sub sum {
    my $sum = 0;
    $sum += $_ for @_;
    return $sum;
}

my $request = literal(':method' => 'GET', ':scheme' => 'http',
                      ':path' => '/', ':authority' => 'localhost');

for my $case ([ 'waiting' => 0 ], [ 'with an agent' => 2 * $count ]) {
    my ($name, $streams) = @$case;

    my $agent = $t->ptth(backend => 'b',
                         settings => { MAX_CONCURRENT_STREAMS => $streams });
    my $client = InvertingProxy::Test::Http2->new(role => 'client',
        stream => InvertingProxy::Test::Client->new(port => $n->port('h2')));

    my %before = map { $_ => seconds($_) } $n->workers;

    $client->raw(join('', map { frame(HEADERS, END_STREAM | END_HEADERS,
                                      2 * $_ - 1, $request) } 1 .. $count));

    ok(waitfor(sub {
        $_->drain(0.01) for $agent, $client;
        $t->status->transactions == $count;
    }, 30), "$name: they are there");

    my %made = map { $_ => seconds($_) - $before{$_} } keys %before;

    # The one that has the client.
    my ($other, $busy) = sort { $made{$a} <=> $made{$b} } keys %made;
    my $start = seconds($other);
    kill('KILL', $busy);

    ok(waitfor(sub { 2 == grep { $_ != $busy } $n->workers }, 10),
       "$name: a worker dies, and there is another one");
    ok(waitfor(sub {
        $agent->drain(0.01);
        $t->status->idle;
    }, 20), "$name: all is taken back");

    my $cost = sum(map { seconds($_) } $n->workers) - $start;

    note(sprintf("%.3f s of %.3f s", $cost, sum(values %made)));
    cmp_ok($cost, '<', sum(values %made),
           "$name: which has cost less than to make them");

    $_->close for $agent, $client;
}

$t->done;
