#!/usr/bin/perl

# What some have of the zone is not kept from others: by clients that stop to read,
# and by workers that have nothing to do.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my $i = 0;
    return $c->respond(200, [], 'x' x 300_000) if $req->{target} eq '/one';
    return $c->respond(200, [], sub { $i++ < 3000 ? 'x' x 10_000 : undef },
                       chunked => 1);
});

my $n = $t->nginx(workers => 4, connections => 8000, http => <<'EOC');
    inverting_proxy_zone zone=main:8m registry=512k;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main queue end_user=allUsers backend_user=me
                            prefix=/queue;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / {
            inverting_proxy_pass main;
            inverting_proxy_queue 10000 timeout=60s;
            inverting_proxy_backend_timeout 60s;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOC

$n->allow(qr/is full/);
$t->agent(backend => 'b', host => $b->address);

sub zone { return $t->status->{doc}{zone} }

# How many requests can wait?  Calls then($count) while they do.
sub room {
    my ($then) = @_;

    my $full = zone()->{refused}{zoneFull};
    my ($p, $zone, @c) = $t->peer(backend => 'queue');

    my $poll = $p->poll;
    ok($t->wait_status(sub { $_[0]->agents('queue') == 1 }), 'an agent');
    $poll->close;

    while (@c < 4000) {

        for (1 .. 10) {
            push @c, $t->client;
            $c[-1]->request('GET', '/queue');
        }

        waitfor(sub {
            $zone = zone();
            return $zone->{refused}{zoneFull} > $full
                   || $zone->{transactions}{waiting} >= @c;
        });

        last if $zone->{refused}{zoneFull} > $full;
    }

    my $waiting = $zone->{transactions}{waiting};

    $then->($waiting);
    $_->close for @c;
    ok($t->wait_status(sub { $_[0]->waiting('queue') == 0 }), 'they go');

    return $waiting;
}

my $all = room(sub { cmp_ok($_[0], '>', 300, 'the zone has room for some') });

# Workers keep what they were busy with; others need it more.

ok(waitfor(sub { $t->get('/one'); zone()->{chunks}{cached} > 20 }),
   'chunks in the caches of idle workers');

room(sub {
    ok(waitfor(sub { zone()->{chunks}{cached} == 0 }),
       'when the zone is full they are given back');
});

# Six clients that have read much, and fast, and then no more.

my @slow;

for (1 .. 6) {
    my $c = $t->client(rcvbuf => 65536);
    my $got = 0;

    $c->request('GET', '/much');
    $got += length $c->read_some while $got < 12_000_000;
    push @slow, $c;
}

my $used = -1;
waitfor(sub { my $was = $used;
              nap(0.3);
              $used = zone()->{chunks}{used};
              return $used == $was });

room(sub { cmp_ok($_[0], '>', 0.4 * $all,
                  "near half of the zone, of $all, is left for others") });
$_->close for @slow;
ok($t->wait_idle(10), 'and then all of it');

$t->done;
