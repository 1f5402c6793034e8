#!/usr/bin/perl

# A worker that has no descriptor left can't see in /proc whether the others are
# alive, and must not take them for dead.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, main => 'worker_rlimit_nofile 310;',
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_header_timeout 60s;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
        location = /pid { return 200 $pid; }
    }
EOT

# nginx says so itself, and tries again.
$n->allow(qr/open socket/);

my ($A, $B) = $n->workers;
my ($polls, @held) = (0);

# A request that the other worker has both ends of, and its connections.
my $peer = $t->peer(backend => 'b', timeout => 60);

sub at { return $t->client_at($_[0], timeout => 30) }

my @polls = map {
    my $c = at($B);
    $c->request('GET', '/agent/pending',
                headers => [ 'X-Inverting-Proxy-Backend-ID: b' ]);
    $c
} 1 .. 4;

my $s = at($B);

sub agents {
    return $s->get('/api/status')->{body} =~ /"id":"b","agents":(\d+)/ && $1;
}

ok(waitfor(sub { agents() == 4 }), 'four polls wait in one worker');

# As many connections as the other one can take, and more.
for (1 .. 200) {
    push @held, $t->client;
}

ok($n->wait_log(qr/$A#\d+: accept4\(\) failed \(24: /), 'it has no more');

# It looks after the others once a second, and closely now and then.
my $gone = waitfor(sub { agents() != 4 }, 10 / slow());
ok(!$gone, 'the polls are as they were') or diag(agents());
unlike($n->log, qr/taking back/, 'nobody was taken for dead');

$_->close for @held, @polls, $s;

# Asked to quit in the half second in which it does not accept, nginx would
# accept on a socket that is closed by then, with an alert.  Each of its sockets
# has a half second of its own.
nap(0.6);
ok(at($_)->close, 'it accepts again') for $A, $B;

$t->done;
