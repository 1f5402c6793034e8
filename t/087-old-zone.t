#!/usr/bin/perl

# A reload has changed the zone's size; old workers finish in the old zone.  One
# of them is killed while it has the old zone's lock.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, vars => { SIZE => '4m' }, http => <<'EOC');
    inverting_proxy_zone zone=main:%%SIZE%%;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
        location = /pid { return 200 $pid; }
    }
EOC

$n->allow_kill;
$n->allow(qr/exited on signal 9/);

my ($A, $B) = $n->workers;

my $why = cut_missing($A);
plan(skip_all => $why) if $why;

sub at { return $t->client_at($_[0], timeout => 8) }

sub headers {
    my ($id) = @_;
    return (headers => [ 'X-Inverting-Proxy-Backend-ID: b',
                         "X-Inverting-Proxy-Request-ID: $id" ]);
}

my $peer = $t->peer(backend => 'b');
my (%c, %p);

for my $w ($A, $B) {
    my $poll = $peer->poll;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'a poll');
    $c{$w} = at($w);
    $c{$w}->request('GET', '/x');
    my ($id) = @{$peer->poll_end($poll)->{ids}};
    is($peer->fetch($id)->{status}, 200, 'fetched');
    $p{$w} = at($w);
    $p{$w}->request('POST', '/agent/response', chunked => 1, headers($id));
}

ok($t->wait_status(sub { $_[0]{doc}{zone}{transactions}{answering} == 0
                         && $_[0]{doc}{zone}{transactions}{assigned} == 2 }),
   'two requests in progress');

ok($n->reload(vars => { SIZE => '5m' }), 'a reload');
is(scalar $n->exiting, 2, 'two old workers go on');

my $r = cut($A, 'ngx_http_inverting_detach_locked',
            when => sub { $c{$A}->close });
ok($r->{stopped}, 'one of them dies with the lock of its zone')
    or diag($r->{out});

$p{$B}->chunk("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
$p{$B}->last_chunk;
my $m = eval { $c{$B}->response };
is($m && $m->{status}, 200, 'the other finishes what it has') or diag($@);
$_->close for $c{$B}, values %p;

ok(waitfor(sub { !$n->exiting }, 5), 'and goes');

$t->done;
