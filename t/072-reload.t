#!/usr/bin/perl

# Reloads in a row while everything is going on: small requests, downloads,
# uploads and streams that last longer than the time between two reloads, and
# agents that poll.  Not one request is lost, and every byte is right.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Work;

my $reloads = 8;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());

my $n = $t->nginx(workers => 3, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_each%% reuseport;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my @port = ($n->port, $n->port('each'));

$t->agent(backend => 'b', host => $b->address);
$t->agent(backend => 'b', host => $b->address,
          proxy => 'http://127.0.0.1:' . $n->port('each') . '/');

my %old = map { $_ => 1 } $n->workers;

my $small = $t->load(clients => 4, code => sub {
    my ($load, $i) = @_;
    return work_small($t, "$load->{client}-$i", port => $port[$i % 2],
                      method => $i % 3 ? 'GET' : 'POST');
});

my $large = $t->load(clients => 5, code => sub {
    my ($load, $i) = @_;
    my $key = "$load->{client}-$i";
    my %opt = (port => $port[$i % 2]);

    return work_download($t, $key, 2_000_000, %opt) if $load->{client} == 0;
    return work_download($t, $key, 1_000_000, %opt, origin_pause => 0.05)
        if $load->{client} == 1;
    return work_upload($t, $key, 2_000_000, %opt) if $load->{client} == 2;
    return work_upload($t, $key, 1_000_000, %opt, chunked => 1, pause => 0.05)
        if $load->{client} == 3;
    return work_events($t, $key, 10, 0.1, %opt);
});

# An agent by hand: its polls end early, and that is all that it sees.
my $p = $t->peer(backend => 'hand');
my ($early, $waited) = (0, 0);

for my $i (1 .. $reloads) {
    my $before = $small->done;
    my $poll = $p->poll;

    ok($t->wait_status(sub { $_[0]->agents('hand') == 1 }), 'a poll waits');

    $n->signal('HUP');

    my $start = now();
    my $m = eval { $p->poll_end($poll) };
    $early++ if $m && $m->{status} == 200 && @{$m->{ids}} == 0;
    $waited = now() - $start if now() - $start > $waited;

    ok(waitfor(sub { $small->done > $before + 20 }), "reload $i: it goes on");
    ok(waitfor(sub { my @now = $n->workers;
                     @now == 3 && !grep { $old{$_} } @now }),
       'workers are new');
    %old = map { $_ => 1 } $n->workers;
}

is($early, $reloads, 'polls were answered with an empty list');
cmp_ok($waited, '<', 5 * slow(), 'at once');

my $r = $small->stop;
is(scalar @{$r->{wrong}}, 0, "not one of $r->{count} small ones went wrong")
    or diag($small->text($r));

$r = $large->stop;
is(scalar @{$r->{wrong}}, 0, "nor of $r->{count} large ones")
    or diag($large->text($r));

ok(waitfor(sub { !$n->exiting }, 5), 'old workers are gone')
    or diag('exiting: ' . join(' ', $n->exiting));

is(scalar $t->status->workers, 3, 'and their slots');
is($t->status->{doc}{zone}{rebuilds}, 0, 'nothing was rebuilt');

# An old worker keeps what it has, for as long as that takes.
my $c = $t->client;
$c->request('POST', '/up/long', body => undef, length => 10);
ok($t->wait_status(sub { $_[0]->transactions == 1 }), 'an upload that lasts');
my @workers = $n->workers;
ok($n->reload, 'another reload');
nap(2.5);
cmp_ok(scalar $n->exiting, '>=', 1, 'somebody waits for it');
$c->write('0123456789');
is($c->response->{body}, '10 84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882',
   'it is served');
$c->close;
ok(waitfor(sub { !$n->exiting }, 5), 'nobody waits any more');

# Nor is it in the way that the new ones may not send it a signal.
SKIP: {
    skip('only root can change users', 5) if $> != 0;

    $c = $t->client;
    $c->request('POST', '/up/long', body => undef, length => 10);
    ok($t->wait_status(sub { $_[0]->transactions == 1 }), 'one more');

    (my $conf = $n->render) =~ s/^user root;/user nobody nogroup;/m;
    ok($n->reload(conf => $conf), 'a reload with another user');
    nap(2.5);
    is($t->status->transactions, 1, 'what an old worker has is its own');
    $c->write('0123456789');
    my $m = $c->response;
    is($m && $m->{status}, 200, 'it is served');
    $c->close;
    ok(waitfor(sub { !$n->exiting }, 5), 'nobody waits any more');
}

$t->done;
