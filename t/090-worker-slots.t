#!/usr/bin/perl

# More workers than there is room for while a reload has two generations of
# them: those that came too late take part once the old ones have ended.

use lib 't/lib';
use InvertingProxy::Test;

plan(skip_all => 'hundreds of processes')
    if $ENV{INVERTING_PROXY_PRELOAD} || $ENV{INVERTING_PROXY_VALGRIND};

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 140, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

# All old ones at once, and late: each has a slot when the new ones come.
kill('STOP', $n->workers);
$n->signal('HUP');
ok(waitfor(sub { $n->log =~ /\[crit\].* all 256 worker slots are taken/ }),
   'no room for all of the new workers, which is said');

kill('CONT', $n->workers);
ok(waitfor(sub { $n->workers == 140 }), 'the old ones have ended');

# Each 503 is of one that does not take part.
ok(waitfor(sub {
    my $m = $t->get('/api/status');
    return $m->{status} == 200
           && (() = $m->{body} =~ /"exiting":false/g) == 140;
}), 'all of the new ones take part');

$t->done;
