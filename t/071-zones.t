#!/usr/bin/perl

# Several zones in one nginx, and a number of workers that a reload changes.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());

# The same backend in each of them.
my @zones = qw(one two three four);

my $n = $t->nginx(workers => 4, http => join('', map { <<"EOT" } @zones)
    inverting_proxy_zone zone=$_:2m;
    inverting_proxy_backend $_ b end_user=allUsers backend_user=me;
EOT
    . <<'EOT' . join('', map { <<"EOT" } @zones) . '}');
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
EOT
        location /$_/ { inverting_proxy_pass $_; }
        location /$_/agent/ { inverting_proxy_agent $_; }
        location /$_/api/ { inverting_proxy_api $_; }
EOT

sub status {
    my ($zone) = @_;
    return InvertingProxy::Test::Status->fetch(port => $n->port,
                                               api => "/$zone/api/");
}

# An agent of the first two; nobody of the others.
for my $zone (@zones[0, 1]) {
    $t->agent(backend => 'b', host => $b->address, wait => 0,
              proxy => 'http://127.0.0.1:' . $n->port . "/$zone/",
              args => [ '-connections=1' ]);

    ok(waitfor(sub { status($zone)->agents('b') == 1 }),
       "an agent in zone $zone");
}

is(status('three')->agents('b'), 0, 'nobody in the third zone');

my $load = sub {
    my ($load, $i) = @_;
    my $key = "$load->{client}-$i";
    my $prefix = "/$zones[$load->{client} % 2]";

    return work_download($t, $key, 500_000, prefix => $prefix) if $i % 5 == 4;
    return work_upload($t, $key, 500_000, prefix => $prefix) if $i % 5 == 2;
    return work_small($t, $key, prefix => $prefix);
};

my $l = $t->load(clients => 4, count => 20, code => $load);
my $r = $l->wait;

is($r->{count}, 80, 'requests through two zones');
is(scalar @{$r->{wrong}}, 0, 'not one went wrong') or diag($l->text($r));

is($t->get('/three/small/x')->{status}, 503, 'the third zone is another one');

ok(waitfor(sub { status($_)->idle }), "zone $_ is idle") for @zones;

# What one zone is full of is not the others' trouble.
my @held = map {
    my $c = $t->client;
    $c->request('POST', "/two/up/held-$_", body => undef, length => 100);
    $c
} 1 .. 40;

ok(waitfor(sub { status('two')->transactions == 40 }), '40 requests in one');
is(status('one')->transactions, 0, 'none in the other');
is(work_small($t, 'beside', prefix => '/one'), undef, 'it serves');

for my $i (1 .. @held) {
    $held[$i - 1]->write('x' x 100);
}

is(scalar(grep { my $m = $_->response; !$m || $m->{status} != 200 } @held), 0,
   'the 40 come to their end');

# Up and down, with requests in flight.
$l = $t->load(clients => 3, code => $load);

for my $workers (1, 3, 2, 8, 1, 4) {
    my $before = $l->done;

    ok($n->reload(workers => $workers), "a reload with $workers workers");
    ok(waitfor(sub { $l->done > $before + 10 }), 'requests go on');

    # Those that are on their way out may still be there.
    ok(waitfor(sub { grep({ !$_->{exiting} } @{status('two')->{doc}{workers}})
                     == $workers }), 'the status has them');
}

$r = $l->stop;
is(scalar @{$r->{wrong}}, 0, "not one of $r->{count} went wrong")
    or diag($l->text($r));

ok(waitfor(sub { !$n->exiting }), 'the old workers are gone');
is(scalar @{status('one')->{doc}{workers}}, 4, 'and not in the status');
ok(waitfor(sub { status($_)->idle }), "zone $_ is idle") for @zones;
is(status($_)->{doc}{zone}{rebuilds}, 0, "zone $_ was not rebuilt") for @zones;

# A worker that is dead but has not been buried by its parent is dead, in every
# zone.
$n->allow_kill;
my @polls;

for my $zone (@zones) {
    my $p = $t->peer(backend => 'b', base => "/$zone/agent/");
    push @polls, map { $p->poll } 1 .. 12;
    my $more = $zone eq 'one' || $zone eq 'two';
    ok(waitfor(sub { status($zone)->agents('b') == 12 + $more }),
       "polls wait in zone $zone");
}

my @workers = $n->workers;
my $last = pop @workers;
$n->signal('STOP');
kill('KILL', @workers);

my $end = now() + 20 * slow();

for my $zone (@zones) {
    my $left = grep { !$_->wait_end(0) } splice(@polls, 0, 12);
    ok(waitfor(sub { my $s = eval { status($zone) };
                     $s && $s->agents('b') <= $left + 1 },
               ($end - now()) / slow()),
       "the dead are known in zone $zone")
        or diag("$left left ", status($zone)->{text});
}

$n->signal('CONT');
ok(waitfor(sub { $n->workers == 4 }), 'and replaced');

$t->done;
