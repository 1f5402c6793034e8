#!/usr/bin/perl

# Reloads with what can't be had: they are refused, nginx goes on with what it
# had, and keeps nothing of what was in vain.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $with = <<'EOC';
    inverting_proxy_zone zone=main:8m;
    %%OTHER%%
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location = /x { return 200 with; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOC
my $without = <<'EOC';
    server {
        listen 127.0.0.1:%%PORT%%;
        location = /x { return 200 without; }
    }
EOC

my $n = $t->nginx(http => $without);
$n->allow(qr/\[emerg\] .*(?:eventfd\(\) failed|no\/such|bind\(\))/);

sub fds { my @f = glob('/proc/' . $n->pid . '/fd/*'); return scalar @f }

sub limit {
    my ($nofile) = @_;
    system('prlimit', '--pid', $n->pid, "--nofile=$nofile:") == 0
        or die 'prlimit';
    return;
}

sub refused {
    my ($name, $message, $before, %with) = @_;

    my $log = length $n->log;

    $n->{$_} = $with{$_} for keys %with;
    $n->write_conf;
    $n->signal('HUP');

    ok(waitfor(sub { substr($n->log, $log) =~ $message }, 10),
       "$name: refused") or diag(substr($n->log, $log));
    ok($n->running, "$name: nginx is there");
    is($t->get('/x')->{body}, $before, "$name: as it was");

    return;
}

# The first zone of all, and too few descriptors for it.

my $few = fds();
limit($few + 100);
refused('descriptors', qr/eventfd\(\) failed.*needs 256 descriptors/,
        'without', http => $with, vars => { OTHER => '' });
ok(waitfor(sub { fds() < $few + 20 }),
   'descriptors: those that were had are closed');
limit(1024);

ok($n->reload(http => $with), 'with enough of them');
my $many = fds();

# A state that can't be stored where it should be.

my $vars = { OTHER => "inverting_proxy_zone zone=other:4m "
                      . "state=$t->{dir}/no/such/state;" };
like($n->test(vars => $vars)->{out}, qr{mkdir\(\) "\S*/no/such"},
     'state: nginx -t knows it');
refused('state', qr{mkdir\(\) "\S*/no/such".*"other"}, 'with',
        vars => $vars);
ok($n->reload(vars => { OTHER => '' }), 'state: a reload without it');

# Zones that go and come: what they need goes with them.

for my $i (1 .. 4) {
    ok($n->reload(http => $without), "$i: without zones");
    cmp_ok(fds(), '<', $few + 20, "$i: the master's descriptors");
    ok($n->reload(http => $with), "$i: with zones");
    cmp_ok(fds(), '<', $many + 20, "$i: no more descriptors than before");
}

# Refused for a reason that is not ours, with zones in force, and without.

my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')
    or die "listen: $!";
my $port = $taken->sockport;

refused('a port that is taken', qr/still could not bind\(\)/,
        'with', http => "$with\n server { listen 127.0.0.1:$port; }");
cmp_ok(fds(), '<', $many + 20, 'a port that is taken: descriptors');

my $b = $t->backend(sub { $_[0]->respond(200, [], 'served') });
$t->agent(backend => 'b', host => $b->address);
is($t->get('/')->{body}, 'served', 'the zone that stayed works');

ok($n->reload(http => $without), 'without zones');
refused('that port once more', qr/still could not bind\(\)/,
        'without', http => "$with\n server { listen 127.0.0.1:$port; }");
ok(waitfor(sub { fds() < $few + 20 }), 'that port once more: descriptors');

$t->done(idle => 0);
