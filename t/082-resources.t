#!/usr/bin/perl

# Many requests leave no memory behind; idle agents cost no time, and neither
# does a client that is slow, or has stopped reading, or an agent that has.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(work_origin());
my $small = $t->nginx(module => 0, log => 'warn', http => <<'EOT');
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { return 200 "small\n"; }
    }
EOT
shift @{$t->{nginx}};

my $n = $t->nginx(workers => 2, log => 'notice', http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main quick end_user=allUsers backend_user=me
                            prefix=/quick;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;
    keepalive_requests 1000000;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT
push @{$t->{nginx}}, $small;

my $agent = $t->agent(backend => 'b', host => $b->address);
my $quick = $t->agent(backend => 'quick',
                      host => '127.0.0.1:' . $small->port);

# Only what is its own: shared memory is touched bit by bit.
sub memory {
    my (@pids) = @_;

    my $sum = 0;
    for my $pid (@pids) {
        $sum += $1 if slurp("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m;
    }
    return $sum;
}

sub ticks {
    my (@pids) = @_;

    my $sum = 0;
    for my $pid (@pids) {
        my $stat = InvertingProxy::Test::Process::proc_stat($pid) or next;
        $sum += $stat->{utime} + $stat->{stime};
    }
    return $sum;
}

# Of one CPU, in per cent.
sub busy {
    my ($seconds, @pids) = @_;

    my ($before, $start) = (ticks(@pids), now());
    nap($seconds);
    return ticks(@pids) - $before if now() - $start < 0.01;
    return 100 * (ticks(@pids) - $before) / POSIX::sysconf(POSIX::_SC_CLK_TCK())
           / (now() - $start);
}

# Until what was to be done is done: nothing, or next to nothing.
sub settle {
    my (@pids) = @_;

    return waitfor(sub {
        my $before = ticks(@pids);
        nap(0.5);
        return ticks(@pids) - $before <= 1;
    });
}

my @workers = $n->workers;
my $url = 'http://127.0.0.1:' . $n->port;

sub many {
    my ($count) = @_;

    my $r = run_command([ qw(h2load --h1 -c 8 -n), $count, "$url/quick/x" ]);
    return $r->{out} =~ /status codes: $count 2xx/ ? undef : $r->{out};
}

SKIP: {
    # Sanitizers keep what was freed.
    skip('memory is not measured under instruments', 3) if slow() > 1;

    my $wrong = many(4000);
    $wrong ||= work_upload($t, "warm-$_", 3_000_000) for 1 .. 2;
    my ($nginx, $agents) = (memory(@workers), memory($quick->pid));

    $wrong ||= many(20_000);
    is($wrong, undef, '20,000 requests');

    my $more = memory(@workers) - $nginx;
    cmp_ok($more, '<', 2048, 'workers keep nothing of them')
        or diag("$more kB");
    $more = memory($quick->pid) - $agents;
    cmp_ok($more, '<', 2048, 'nor does the agent') or diag("$more kB");
}

ok($t->wait_idle, 'the zone is idle');
settle(@workers, $agent->pid, $quick->pid);

my $busy = busy(3, @workers, $n->pid);
cmp_ok($busy, '<', 2 * slow(), 'idle agents cost nothing');
$busy = busy(1, $agent->pid, $quick->pid);
cmp_ok($busy, '<', 4 * slow(), 'nor do they work');

# A client that reads nothing, and one that reads a little now and then.
my @stuck = map {
    my $c = $t->client(rcvbuf => 4096);
    $c->request('GET', "/down/stuck-$_/50000000/0");
    $c
} 1 .. 3;
ok($t->wait_status(sub { $_[0]->transactions == 3 }), 'three stuck downloads');
settle(@workers, $agent->pid);
$busy = busy(2, @workers);
cmp_ok($busy, '<', 3 * slow(), 'clients that do not read');
$busy = busy(1, $agent->pid);
cmp_ok($busy, '<', 5 * slow(), 'their agent waits');
my $used = $t->status->bytes_used;
cmp_ok($used, '<', 7_000_000, 'the zone has room') or diag($used);
is(work_small($t, 'beside'), undef, 'others are served');
$_->close for @stuck;
ok($t->wait_idle, 'all gone');

my $slow = $t->client(rcvbuf => 4096);
$slow->request('GET', '/down/slow/50000000/0');
ok($t->wait_status(sub { $_[0]->transactions == 1 }), 'a slow download');
settle(@workers);
my $before = ticks(@workers);
my $start = now();
my $got = 0;
while (now() - $start < 2) {
    $got += length $slow->read_some(4096);
    nap(0.02);
}
$busy = ticks(@workers) - $before;
cmp_ok($busy / 2, '<', 10 * slow(), 'a slow client');
$slow->close;

# An agent that does not read what a client sends.
my $p = $t->peer(backend => 'hand');
$t->visit($p);
my $c = $t->client;
$c->request('POST', '/hand', body => undef, length => 50_000_000);
my $id = $p->take;
my $f = $p->fetch($id, stream => 1);
$c->{fh}->blocking(0);
my $sent = 0;
my $data = 'x' x 65536;
waitfor(sub { my $w = syswrite($c->{fh}, $data); $sent += $w if $w; 0 }, 1);
cmp_ok($sent, '<', 49_000_000, 'the client is held up');
settle(@workers);
$busy = busy(2, @workers);
cmp_ok($busy, '<', 3 * slow(), 'an agent that does not read');
$_->close for $c, $f->{client};
ok($t->wait_idle, 'all gone');

# Neither side has anything to say: both pipes are open, and nothing moves.
$t->visit($p);
my @silent = map { my $c = $t->client;
                   $c->request('POST', '/hand', body => undef, length => 100);
                   $c } 1 .. 20;
ok($t->wait_status(sub { $_[0]->waiting('hand') == 20 }), 'twenty requests');
my (@fetches, @posts);
for (@silent) {
    my $id = $p->take;
    push @fetches, $p->fetch($id, stream => 1);
    push @posts, $p->post($id);
    $posts[-1]->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
}
settle(@workers);
$busy = busy(2, @workers);
cmp_ok($busy, '<', 3 * slow(), 'twenty that are silent');
$_->close for @silent, @posts, map { $_->{client} } @fetches;

$t->done;
