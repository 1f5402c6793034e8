#!/usr/bin/perl

# Which transport the agent takes: -transport, what makes it poll, and what
# makes it come back.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;
my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [], "at $req->{target}");
});


sub agent {
    my ($p, @args) = @_;
    return $t->agent(transport => 'auto',
                     proxy => $p->url, backend => 'b', host => $b->address,
                     args => [ @args ], wait => 0);
}


sub lines {
    my ($a, $regex) = @_;
    return scalar(() = $a->log =~ /$regex/g);
}


sub stop_all {
    my ($p, $a) = @_;
    is(scalar($a->stop), 0, 'it ends well');
    while (my $c = $p->call(qr/./, 0.1)) { $c->close }
}


my $p = $t->ptth_proxy;


# answers that mean: poll

my @no = (map({ my $s = $_; [ $s, sub { $_[0]->respond($s, [], 'no') } ] }
              200, 400, 404, 405, 426, 500, 502),
          [ 'closed', sub { $_[0]->close } ],
          [ 'no HTTP', sub { $_[0]->write("what?\r\n\r\n"); $_[0]->close } ],
          [ 'stripped', sub { $_[0]->respond(200, [], '[]') } ],
          [ 'another protocol', sub {
              $_[0]->head(101, [ 'Connection: upgrade', 'Upgrade: websocket' ])
          } ],
          [ 'http/1.1', sub {
              $_[0]->head(101, [ 'Connection: upgrade', 'Upgrade: ptth',
                                 'ALPN: http%2F1.1' ])
          } ],
          [ 'silence', sub { } ]);

for my $case (@no) {
    my ($what, $answer) = @$case;
    my $a = agent($p, $what eq 'silence' ? ('-proxy-timeout=1s') : ());

    my $c = $p->call(qr{ptth});
    ok($c, "$what: it asks for PTTH first");
    $answer->($c);
    my $poll = $p->call(qr{pending});
    ok($poll, 'then it polls');
    is(lines($a, 'no PTTH with this proxy'), 1, 'and says so, once');
    $poll->respond(200, [], '[]') if $poll;
    stop_all($p, $a);
}


# a proxy that takes the call for a poll: the IDs it gives are not lost

my $a = agent($p);
my $c = $p->call(qr{ptth});
$c->respond(200, [], '["the-one"]');
$c = $p->call(qr{agent/request});
is($c && $c->{request}->header('X-Inverting-Proxy-Request-ID'), 'the-one',
   'IDs in place of a 101 are taken');
stop_all($p, $a);


# polling ends when PTTH works again

$a = agent($p, '-debug');
$p->call(qr{ptth})->respond(404, [], '');
my $poll = $p->call(qr{pending});
ok($poll, 'it polls');
my $h = $p->dialled(timeout => 20);
ok($h, 'it tries PTTH again');
ok($a->wait_log(qr/by PTTH/), 'and says that it works');
$poll->respond(200, [], '["last"]');
$p->keep($poll);
$c = $p->call(qr{agent/request});
is($c && $c->{request}->header('X-Inverting-Proxy-Request-ID'), 'last',
   'the last poll counts');
my $x = $h->request('GET', '/x');
ok($x->response, 'an answer');
is($x->{body}, 'at /x', 'by PTTH');
ok(!$p->call(qr{pending}, 1), 'it polls no more');
my $long = $h->request('GET', '/y');
ok($long->response, 'and stays');

# and begins again when it does not
$h->close;
$c = $p->call(qr{ptth});
ok($c, 'the connection is gone, it dials');
$c->respond(404, [], '');
ok($p->call(qr{pending}), 'then polls');
is(lines($a, 'no PTTH with this proxy'), 2, 'a line each time');
stop_all($p, $a);


# answers that mean: later

for my $status (401, 403, 503) {
    $a = agent($p);
    $p->call(qr{ptth})->respond($status, [ 'WWW-Authenticate: Bearer' ], '');
    my $n = 1;
    my $end = now() + 1;
    while ($n < 2 || now() < $end) {
        my $next = $p->call(qr{ptth}, $n < 2 ? 10 : $end - now()) or last;
        $next->respond($status, [], '');
        $n++;
    }
    cmp_ok($n, '<', 12, "$status: it backs off");
    cmp_ok($n, '>', 1, 'and tries again');
    is(lines($a, "proxy unreachable: it answers $status"), 1, 'one line');
    ok(!$p->call(qr{pending}, 0.1), 'it does not poll');
    stop_all($p, $a);
}

$a = agent($p);
my $since = now();
$p->call(qr{ptth})->respond(503, [ 'Retry-After: 2' ], '');
$h = $p->dialled;
cmp_ok(now() - $since, '>', 1.9, '503: it waits as long as it is told');
ok($a->wait_log(qr/by PTTH/), 'then it is there');
ok(!$p->call(qr{pending}, 0.1), 'without a poll');
stop_all($p, $a);


# away

$p->stop;
$a = agent($p);
ok($a->wait_log(qr/proxy unreachable/), 'a proxy that is away');
nap(1);
is(lines($a, 'proxy unreachable'), 1, 'one line');
$p->start;
$h = $p->dialled;
ok($a->wait_log(qr/by PTTH/), 'there it is');
$x = $h->request('GET', '/x');
ok($x->response, 'an answer');
$p->stop;
$h->close;
ok($a->wait_log(qr/connection to the proxy lost/), 'it goes');
ok($a->wait_log(qr/lost.*unreachable/s), 'and stays away');
$p->start;
$h = $p->dialled;
ok($h->request('GET', '/x')->response, 'it is back');
stop_all($p, $a);


# one only

$a = agent($p, '-transport=poll');
ok($p->call(qr{pending}), '-transport=poll polls');
ok(!$p->call(qr{ptth}, 0.2), 'and never asks for PTTH');
stop_all($p, $a);

$a = agent($p, '-transport=ptth');
$p->call(qr{ptth})->respond(404, [], '');
$c = $p->call(qr{ptth});
ok($c, '-transport=ptth tries again');
ok(!$p->call(qr{pending}, 0.2), 'and never polls');
is(lines($a, 'proxy unreachable: it answers 404'), 1, 'one line');
$h = $p->upgrade($c);
ok($h->request('GET', '/x')->response, 'until it works');
stop_all($p, $a);

$t->done(idle => 0);
