#!/usr/bin/perl

# An upload over a slow link to the agent: the PING waits behind it, but bytes
# flow all the time, so the connection is alive.  When they flow no more, it is
# not.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use POSIX ();

my $t = InvertingProxy::Test->new;

my @cert = $t->certificate_for('proxy');

my $n = $t->nginx(workers => 1, vars => { CRT => $cert[0], KEY => $cert[1] },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:16m;
    inverting_proxy_backend main plain end_user=allUsers backend_user=me
                            prefix=/plain;
    inverting_proxy_backend main tls end_user=allUsers backend_user=me
                            prefix=/tls;
    inverting_proxy_agent_user me;

    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_TLS%% ssl;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;

            # who does not answer is closed when two thirds of it have passed
            inverting_proxy_poll_timeout 3s;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my (%agent, @uploads);

for my $name (qw(plain tls)) {
    my @tls = $name eq 'tls' ? (port => $n->port('TLS'), tls => 1) : ();
    my $h = $t->ptth(backend => $name, @tls, rcvbuf => 16384,
                     settings => { INITIAL_WINDOW_SIZE => 1 << 30 });
    $h->window(0, 1 << 30);
    $h->wait(sub { $h->{settings_acks} });
    $agent{$name} = $h;

    my $pid = fork();
    die "fork: $!\n" unless defined $pid;

    if ($pid == 0) {
        my $c = $t->client(timeout => 60);
        my $m = eval {
            $c->request('POST', "/$name", body => 'x' x (64 << 20));
            $c->response;
        };
        POSIX::_exit($m && $m->{status} == 200 ? 1 : 0);
    }

    push @uploads, $pid;
}

# The link: 160 KB a second, and nothing is said.

my %read;
my $end = now() + 5;

while (now() < $end) {
    for my $name (keys %agent) {
        my $k = sysread($agent{$name}{stream}->fh, my $bytes, 16384);
        $read{$name} += $k || 0;
    }
    nap(0.1);
}

for my $name (keys %agent) {
    cmp_ok($read{$name}, '>', 100_000, "$name: a part of the upload");
    is($t->status->agents($name), 1, "$name: who takes it is there");
}
unlike($n->log, qr/does not answer/, 'none is taken for dead');

# The link is broken.

my $since = now();

for my $name (keys %agent) {
    ok($t->wait_status(sub { $_[0]->agents($name) == 0 }, 10),
       "$name: who takes nothing is gone");
}
cmp_ok(now() - $since, '<', 5 * slow(), 'which is noticed in time');
like($n->log, qr/"$_" ends: it does not answer/, "$_: the log says why")
    for keys %agent;

for my $pid (@uploads) {
    waitpid($pid, 0);
    is($?, 0, 'the upload fails');
}
$_->close for values %agent;

$t->done;
