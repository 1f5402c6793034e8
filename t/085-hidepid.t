#!/usr/bin/perl

# A reload that changes "user", where /proc does not show the processes of other
# users: the old workers are not taken for dead.

use lib 't/lib';
use InvertingProxy::Test;

my $mount = 'mount -t proc -o hidepid=2 proc /proc';

if (!$ENV{INVERTING_PROXY_HIDDEN}) {
    my $r = run_command([ 'unshare', '-m', 'sh', '-c', $mount ]);
    plan(skip_all => 'root and a mount namespace are needed')
        if $> != 0 || $r->{status} != 0;

    $ENV{INVERTING_PROXY_HIDDEN} = 1;
    exec('unshare', '-m', 'sh', '-c', "$mount && exec \"\$\@\"", 'sh', $^X, $0)
        or die "unshare: $!";
}

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, user => 'www-data', http => <<'EOC');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOC

my $p = $t->peer(backend => 'b');

# A request that has got as far as its POST.
sub posted {
    my ($target) = @_;

    my $poll = $p->poll;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), "$target: a poll");

    my $c = $t->client;
    $c->request('GET', $target);

    my ($id) = @{$p->poll_end($poll)->{ids}};
    is($p->fetch($id)->{request}{target}, $target, "$target: fetched");

    return [ $target, $c, $p->post($id) ];
}

my $first = posted('/first');

ok($n->reload(user => 'nobody'), 'another user');
nap(1.5);
unlike($n->log, qr/taking back/, 'the old worker is not dead');

# The zone is whole: requests of old and new, each with its own answer.

for my $one ($first, map { posted("/$_") } 1 .. 3) {
    my ($target, $c, $w) = @$one;

    $w->write($p->response(200, [], "for $target"));
    is($c->response->{body}, "for $target", "$target: its response");
    is($w->finish->{status}, 200, "$target: the POST ends well");
    $c->close;
}

$t->done;
