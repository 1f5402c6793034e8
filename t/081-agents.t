#!/usr/bin/perl

# Several agents of one backend, that come and go; and how soon everybody is
# woken: a wake-up that is lost would be healed by the rescan, a second later, and
# so is not to be seen in any other way.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());

my $n = $t->nginx(workers => 4, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;
    log_format met "$pid $inverting_proxy_id";
    keepalive_requests 100000;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_max_body_size 0;
        location / {
            inverting_proxy_pass main;
            access_log %%DIR%%/client.log met;
        }
        location /agent/ { inverting_proxy_agent main; }
        location ~ ^/agent/(response|ptth)$ {
            inverting_proxy_agent main;
            access_log %%DIR%%/agent.log met;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

# Polls of one backend wait in all workers; each of several requests at once goes
# to one of them only.
my $p = $t->peer(backend => 'hand');
my @polls = map { $p->poll } 1 .. 8;
ok($t->wait_status(sub { $_[0]->agents('hand') == 8 }), 'eight polls');

my @c = map { my $c = $t->client; $c->request('GET', "/hand/$_"); $c } 1 .. 20;
ok($t->wait_status(sub { $_[0]->active('hand') + $_[0]->waiting('hand')
                         == 20 }), 'twenty requests');

my %id;

# One of them may have got several, and another one nothing.
waitfor(sub {
    for my $poll (splice(@polls)) {
        if ($poll->wait_end(0)) {
            $id{$_}++ for @{$p->poll_end($poll)->{ids}};
        } else {
            push @polls, $poll;
        }
    }

    return keys(%id) + $t->status->waiting('hand') == 20;
});

$_->close for @polls;

# Those that came when there was no poll any more.
while (keys %id < 20) {
    $id{$_}++ for @{$p->pending->{ids}};
}

is(scalar keys %id, 20, 'each was told');
is(scalar(grep { $_ > 1 } values %id), 0, 'once');

for my $id (keys %id) {
    my $request = $p->fetch($id)->{request};
    $p->respond($id, $p->response(200, [], $request->{target}));
}

is(join(' ', map { $_->response->{body} } @c),
   join(' ', map { "/hand/$_" } 1 .. 20), 'and answered');
$_->close for @c;

# Agents start, end when they are asked to, and die, while there is work.
my @where = (backend => 'b', host => $b->address,
             args => [ '-connections=1' ]);
my @agents = map { $t->agent(@where) } 1 .. 3;

my $l = $t->load(clients => 4, code => sub {
    my ($load, $i) = @_;
    my $k = "$load->{client}-$i";
    return work_download($t, $k, 300_000) if $i % 7 == 3;
    return work_upload($t, $k, 300_000) if $i % 7 == 5;
    return work_small($t, $k);
});

for my $i (1 .. 3) {
    my $before = $l->done;
    push @agents, $t->agent(@where, wait => 0);
    nap(0.2);
    my $old = shift @agents;
    is(join('', $old->stop), '', 'an agent is asked to end');
    ok(waitfor(sub { $l->done > $before + 30 }), 'the work goes on');
}

my $r = $l->stop;
is(scalar @{$r->{wrong}}, 0, "not one of $r->{count} was lost")
    or diag($l->text($r));

# One that dies takes with it what it has, and no more.
$l = $t->load(clients => 4, code => sub {
    my ($load, $i) = @_;
    return work_small($t, "$load->{client}-$i", timeout => 15);
});
nap(0.3);
(shift @agents)->kill;
nap(0.3);
(shift @agents)->kill;
my $before = $l->done;
ok(waitfor(sub { $l->done > $before + 50 }), 'one of three agents is enough');
$r = $l->stop;
cmp_ok(scalar @{$r->{wrong}}, '<=', 8, 'what two dead agents had')
    or diag($l->text($r));
cmp_ok($r->{slowest}, '<', 9 * slow(), 'nothing waited for more than a lease');

# Wake-ups.  Each request on a connection of its own, so that most of them cross
# from worker to worker; an idle agent.
spew("$n->{dir}/$_.log", '') for qw(client agent);
my $count = 2000;
my @pids = ($n->workers, $agents[0]->pid, $b->process->pid,
            InvertingProxy::Test::Process::children_of($b->process->pid));

# Stands still while one of them waits for a CPU: who does is awake.
sub clock {
    my $time = now();

    for my $pid ($$, @pids) {
        $time -= $1 / 1e9 if slurp("/proc/$pid/schedstat") =~ /^\d+ (\d+) /;
    }

    return $time;
}

$l = $t->load(clients => 1, count => 1, code => sub {
    my ($load) = @_;
    my ($slow, $at) = (0, 0);
    for my $i (1 .. $count) {
        my $start = clock();
        my $wrong = work_small($t, $i, method => $i % 2 ? 'GET' : 'POST');
        return $wrong if defined $wrong;
        my $took = clock() - $start;
        ($slow, $at) = ($took, $i) if $took > $slow;
    }
    return $slow < 0.5 * slow() ? undef : "request $at took $slow s";
});
$r = $l->wait(120);
is(scalar @{$r->{wrong}}, 0, "none of $count requests waited for a wake-up")
    or diag($l->text($r));

# With bodies, each larger than what a pipe begins with: both sides sleep, and
# are woken, many a time.
$l = $t->load(clients => 1, count => 1, code => sub {
    my ($load) = @_;
    my ($slow, $at) = (0, 0);
    for my $i (1 .. 150) {
        my $start = clock();
        my $wrong = $i % 2 ? work_download($t, 'x', 200_000)
                           : work_upload($t, 'x', 200_000, chunked => $i % 4);
        return $wrong if defined $wrong;
        my $took = clock() - $start;
        ($slow, $at) = ($took, $i) if $took > $slow;
    }
    return $slow < 0.5 * slow() ? undef : "request $at took $slow s";
});
$r = $l->wait(120);
is(scalar @{$r->{wrong}}, 0, 'none with a body did')
    or diag($l->text($r));

# Only if they did cross does that say anything.
waitfor(sub { (() = slurp("$n->{dir}/client.log") =~ /\n/g) >= $count + 150 }, 5);
my %client = map { reverse(split(' ')) }
             split(/\n/, slurp("$n->{dir}/client.log"));
my %agent = map { reverse(split(' ')) }
            split(/\n/, slurp("$n->{dir}/agent.log"));

# A connection of PTTH has them all; it is logged when it ends.
if ($t->over_ptth) {
    is(join('', $agents[0]->stop), '', 'the agent ends');
    waitfor(sub { slurp("$n->{dir}/agent.log") =~ /^(\d+) -$/ }, 5);
    my ($pid) = slurp("$n->{dir}/agent.log") =~ /^(\d+) -$/;
    %agent = map { $_ => $pid } keys %client;
}

my $crossed = grep { $agent{$_} && $agent{$_} != $client{$_} } keys %client;
cmp_ok($crossed, '>', $count / 3, 'most went from worker to worker');

$t->done;
