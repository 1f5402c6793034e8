#!/usr/bin/perl

# Workers are killed, each in turn and at random, exiting ones too, while there
# is work.  What they held is lost; nothing else is: new requests are served,
# and in the end the zone is empty.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Work;

my $kills = 20;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());

my $n = $t->nginx(workers => 4, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$n->allow_kill;

$t->agent(backend => 'b', host => $b->address);
$t->agent(backend => 'b', host => $b->address);

# The queue in which a connection waits dies with its worker, so that even a
# request that nobody has looked at may be lost.
sub serves {
    my ($name) = @_;
    my $start = now();
    (my $key = $name) =~ tr/ /-/;

    # Each of the new workers, with good odds.
    my $good = waitfor(sub {
        !grep { defined work_small($t, "$key-$_", timeout => 6) } 1 .. 8
    }, 10);

    ok($good, "$name: it serves");
    cmp_ok(now() - $start, '<', 4.5 * slow(), "$name: soon");
}

sub load {
    return ($t->load(clients => 3, code => sub {
        my ($load, $i) = @_;
        return work_small($t, "$load->{client}-$i", timeout => 8,
                          method => $i % 2 ? 'GET' : 'POST');
    }), $t->load(clients => 3, code => sub {
        my ($load, $i) = @_;
        my $key = "$load->{client}-$i";

        return work_download($t, $key, 3_000_000, timeout => 8,
                             origin_pause => 0.02) if $load->{client} == 0;
        return work_upload($t, $key, 3_000_000, timeout => 8, pause => 0.02)
            if $load->{client} == 1;
        return work_events($t, $key, 10, 0.1, timeout => 8);
    }));
}

# A response that ends well with the wrong bytes would be the worst.
sub only_lost {
    my ($r, $name, $short) = @_;

    my @bad = grep { $_->[0] !~ m{^\S+:\ (?:no\ answer
                                   |HTTP/1\.1\ 50[234]\ |cut:)
                                   |timed\ out
                                   |stream\ ended\ inside\ a\ head
                                   |cannot\ connect}x } @{$r->{wrong}};

    is(scalar @bad, 0, "$name: what was lost is known to be")
        or diag(join("\n", map { $_->[0] } @bad));

    # Long ones hardly ever survive all that.
    return if !$short;

    cmp_ok(scalar @{$r->{wrong}}, '<', $r->{count} / 2, "$name: most were not")
        or diag(join("\n", map { "$_->[1] $_->[0]" } @{$r->{wrong}}));
}

my @load = load();

for my $pid ($n->workers) {
    my $before = $load[0]->done;
    ok(waitfor(sub { $load[0]->done > $before + 20 }), 'at work');

    ok($n->kill_worker($pid), 'a worker is killed');
    serves("after worker $pid");
}

only_lost($load[0]->stop, 'each in turn, small', 1);
only_lost($load[1]->stop, 'each in turn, large');
ok($t->wait_idle(10), 'the zone is idle');
ok($t->wait_status(sub { $_[0]->workers == 4 }), 'four slots are in use');

@load = load();
srand(4711);

for my $i (1 .. $kills) {
    nap(0.05 + rand(0.15));
    my @workers = $n->workers or next;
    kill('KILL', $workers[rand @workers]);
}

serves('after many');
only_lost($load[0]->stop, 'many, small', 1);
only_lost($load[1]->stop, 'many, large');
ok($t->wait_idle(10), 'the zone is idle')
    or diag($t->status->{text});

# Workers on their way out are not replaced, so that nobody takes their slots.
@load = load();

for my $i (1 .. 3) {
    my $c = $t->client;
    # An old worker has it when it asks for the body.
    $c->request('POST', "/up/held-$i", body => undef, length => 10,
                headers => [ 'Expect: 100-continue' ]);
    ok($c->ready(0, 10 * slow()), 'a long one');

    ok($n->reload, 'a reload');

    my @exiting = $n->exiting;
    cmp_ok(scalar @exiting, '>=', 1, 'somebody is on his way out');
    kill('KILL', @exiting);

    ok(waitfor(sub { !$n->exiting }), 'and is killed');
    serves("exiting $i");
    ok($t->wait_status(sub { $_[0]->workers == 4 }, 5), 'its slot is free');
}

only_lost($load[0]->stop, 'exiting, small', 1);
only_lost($load[1]->stop, 'exiting, large');
ok($t->wait_idle(10), 'the zone is idle');

# An agent's polls die with the worker, and so does a poll by hand.
my $p = $t->peer(backend => 'hand');
my @polls = map { $p->poll } 1 .. 8;
ok($t->wait_status(sub { $_[0]->agents('hand') == 8 }), 'eight polls wait');
kill('KILL', $n->workers);
ok($t->wait_status(sub { $_[0]->agents('hand') == 0 }, 5),
   'not one is left when all workers were killed');
serves('after all');
is(scalar(grep { $_->wait_end(1) } @polls), 8, 'the polls were closed');

# What the dead had put by is not lost either: a worker may keep one chunk of 64.
ok($t->wait_idle(10), 'the zone is idle');
my $chunks = $t->status->{doc}{zone}{chunks};
cmp_ok($chunks->{cached}, '<=', 4 * $chunks->{total} / 64,
       'no more chunks are put by than four workers may');

$t->done;
