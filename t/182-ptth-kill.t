#!/usr/bin/perl

# Agents of PTTH are killed at random under load, and then workers: with two
# agents not one GET fails; a worker takes along what it held and nothing else.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Work;

my $kills = 6;

my $t = InvertingProxy::Test->new;
my $work = work_origin();

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me
                            prefix=/real;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$n->allow_kill;

my $b = $t->backend($work);
my @args = (backend => 'real', host => $b->address,
            args => [ '-transport=ptth' ]);
my @real = map { $t->agent(transport => 'auto', @args) } 1, 2;
my @hand = map { $t->ptth_server(backend => 'hand',
                                 code => sub { $work->(@_) }) } 1, 2;

sub load {
    return $t->load(clients => 4, code => sub {
        my ($load, $i) = @_;
        my $to = $i % 2 ? 'real' : 'hand';
        return work_small($t, "$to-$load->{client}-$i", timeout => 10,
                          prefix => "/$to");
    });
}

sub two {
    my ($id) = @_;
    return $t->wait_status(sub { $_[0]->agents($id) >= 2 });
}


# Agents: a small response is either all there, or was not begun.  (The one by
# hand writes head and body apart, and can be killed between them.)

srand(4711);
ok(two('real') && two('hand'), 'two of each');
my $load = load();

for my $i (1 .. $kills) {
    my $before = $load->done;
    waitfor(sub { $load->done > $before + 20 }) or last;
    nap(rand(0.05));

    my $which = int(rand(2));
    $real[$which]->kill;
    $hand[$which]->kill;
    $real[$which]->start;
    $hand[$which]->start;
    ok(two('real') && two('hand'), "killed, and two again, $i");
}

my $r = $load->stop;
my @failed = grep { $_->[0] !~ m{^/small/hand-\S+: cut: } } @{$r->{wrong}};
is(scalar @failed, 0, 'agents: no GET has failed')
    or diag($load->text($r));
ok($t->wait_idle, 'agents: nothing is left');


# Workers

$load = load();

for my $i (1 .. 3) {
    my $before = $load->done;
    ok(waitfor(sub { $load->done > $before + 20 }), "at work, $i");
    my @workers = $n->workers;
    ok($n->kill_worker($workers[rand @workers]), "a worker is killed, $i");
    ok($t->wait_status(sub { $_[0]->agents('real') && $_[0]->agents('hand') },
                       20), "agents are there again, $i");
}

$r = $load->stop;
my @bad = grep { $_->[0] !~ m{^\S+:\ (?:no\ answer|HTTP/1\.1\ 50[234]\ |cut:)
                              |timed\ out|inside\ a\ head
                              |cannot\ connect}x } @{$r->{wrong}};
is(scalar @bad, 0, 'workers: what was lost is known to be')
    or diag($load->text($r));
cmp_ok(scalar @{$r->{wrong}}, '<', $r->{count} / 2, 'workers: most were not');
ok($t->wait_idle(15), 'workers: nothing is left');

for my $to ('/real', '/hand') {
    ok(waitfor(sub { !defined work_small($t, 'end', prefix => $to) }, 15),
       "$to serves");
}

$_->stop for @hand;

$t->done;
