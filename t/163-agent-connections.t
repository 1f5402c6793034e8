#!/usr/bin/perl

# The agent's PTTH connections: how many, what becomes of them when the proxy
# or the agent goes, what shows that the other side is gone.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;
my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my ($wait) = $req->{target} =~ m{/wait/([\d.]+)};

    $c->read_body($req);
    if ($wait) {
        $c->note('waiting');
        nap($wait);
    }
    return $c->respond(200, [], "at $req->{target}");
});
my $p = $t->ptth_proxy;


sub agent {
    my (@args) = @_;
    return $t->agent(transport => 'auto',
                     proxy => $p->url, backend => 'b', host => $b->address,
                     args => [ '-debug', @args ], wait => 0);
}


sub works {
    my ($h, $what) = @_;
    my $x = $h->request('GET', '/x');
    $x->response;
    is($x->{body}, 'at /x', $what);
}


sub stop {
    my ($a) = @_;
    is(scalar($a->stop), 0, 'it ends well');
    while (my $c = $p->call(qr/./, 0.1)) { $c->close }
}


# Whether this one is told to go; $h->wait answers what it must meanwhile.

sub told_to_go {
    my ($h) = @_;
    return $h->wait(sub { $h->{goaway} }, 5);
}


# one in each worker; a duplicate is told to go

my $a = agent();
my @h = $p->dialled(worker => '2/3');
push @h, $p->dialled(worker => '0/3');
push @h, $p->dialled(worker => '0/3');
ok(told_to_go($h[2]), 'a second one in a worker is told to go');
is($h[2]{goaway}[1], NO_ERROR, 'politely');
ok($h[2]->wait_end(5), 'and closed');
push @h, $p->dialled(worker => '1/3');
ok(!$p->call(qr{ptth}, 1), 'one in each: enough');
works($h[$_], "$_ is used") for 0, 1, 3;

# one is lost: its worker is tried for again, a bounded number of times
$h[1]->close;
my $tries = 0;
while (my $c = $p->call(qr{ptth}, 1)) {
    my $h = $p->upgrade($c, worker => '1/3');
    told_to_go($h) or last;
    $h->wait_end(5);
    $tries++;
}
cmp_ok($tries, '>', 5, "$tries tries for a worker");
cmp_ok($tries, '<', 40, 'and no more');
works($h[$_], "$_ is still used") for 0, 3;
unlike($a->log, qr/\[warn\]/, 'nothing to worry about');
stop($a);


# -connections

$a = agent('-connections=2');
@h = map { $p->dialled(worker => "$_/4") } 0, 1;
ok(!$p->call(qr{ptth}, 1), '-connections=2');
works($_, 'used') for @h;
stop($a);

$a = agent();
my $h = $p->dialled(worker => 'x');
ok(!$p->call(qr{ptth}, 0.5), 'a proxy that does not say: one');
works($h, 'used');


# GOAWAY of the proxy: the next one is there before this one goes

my $x = $h->request('GET', '/wait/1');
ok($b->wait_note(qr/waiting/), 'a request is in progress');
$h->goaway(0, NO_ERROR);
my $new = $p->dialled;
works($new, 'the next connection is up');
ok(!$x->{ended}, 'while the old one drains');
ok($x->response, 'its request is finished');
is($x->{body}, 'at /wait/1', 'as it should');
ok($h->wait_end(5), 'then it is closed');
is(scalar(() = $a->log =~ /by PTTH/g), 1, 'no change of state');
unlike($a->log, qr/\[warn\]/, 'nor any warning');


# the connection is lost: it is dialled again, with back-off

$b->clear_notes;
$x = $new->request('GET', '/wait/0.2');
ok($b->wait_note(qr/waiting/), 'a request is in progress');
$new->reset;
my $n = 0;
my $end = now() + 1;
while ($n < 2 || now() < $end) {
    my $c = $p->call(qr{ptth}, $n < 2 ? 10 : $end - now()) or last;
    my $h = $p->upgrade($c);
    $h->close;
    $n++;
}
cmp_ok($n, '>', 1, 'lost: it comes again');
cmp_ok($n, '<', 15, "with back-off ($n)");
$h = $p->dialled;
works($h, 'and works');
stop($a);


# SIGTERM: GOAWAY, finish, exit 0

$a = agent();
$h = $p->dialled;
$b->clear_notes;
$x = $h->request('GET', '/wait/1');
ok($b->wait_note(qr/waiting/), 'a request is in progress');
$a->signal('TERM');
ok(told_to_go($h), 'SIGTERM: GOAWAY');
ok($x->response, 'the request is finished');
is($x->{body}, 'at /wait/1', 'as it should');
is($a->wait_end(5), 0, 'exit status 0');

# a request that crosses the GOAWAY is served; half a second later the agent
# takes none any more
for (1 .. 10) {
    $a = agent();
    $h = $p->dialled(pong => 0);
    works($h, 'before');
    my $t0 = now();
    $a->signal('TERM');
    ok(told_to_go($h), 'a first GOAWAY');
    $x = $h->request('GET', '/x');
    last if now() - $t0 < 0.2;
    $a->wait_end(5);
}

ok($x->response, 'a request that the proxy had sent already');
is($x->{status}, 200, 'is served');
is($a->wait_end(5), 0, 'exit status 0, though no PING was answered');

# a second signal
$a = agent();
$h = $p->dialled;
$b->clear_notes;
$h->request('GET', '/wait/20');
ok($b->wait_note(qr/waiting/), 'a request is in progress');
$a->signal('TERM');
ok(told_to_go($h), 'a first signal');
$a->signal('TERM');
is($a->wait_end(5), 0, 'a second: at once');

# -graceful-shutdown-timeout
$a = agent('-graceful-shutdown-timeout=500ms');
$h = $p->dialled;
$b->clear_notes;
$h->request('GET', '/wait/20');
ok($b->wait_note(qr/waiting/), 'a request is in progress');
$a->signal('TERM');
is($a->wait_end(5), 0, 'not longer than -graceful-shutdown-timeout');
like($a->log, qr/exiting with 1 requests unfinished/, 'it says so');


# a proxy that is silent: PING, then the connection is given up

# There is a second (of slow()) to answer one.
$a = agent('-proxy-timeout=' . 4 * slow() . 's');
$h = $p->dialled;
ok($h->wait(sub { $h->{seen}{PING} }, 5), 'a quiet connection: a PING');
$h->drain(3 * slow());
ok(!$h->{closed}, 'answered: it stays');
$h->{pong} = 0;
ok($h->wait_end(5), 'not answered: it is given up');
$h = $p->dialled;
works($h, 'and another one is made');
like($a->log, qr/does not answer a PING/, 'the log says why');
stop($a);


# no answer to the call: the connection is not waited for without end

$a = agent('-transport=ptth', '-proxy-timeout=1s');
my $c = $p->call(qr{ptth});
ok($p->call(qr{ptth}, 5), 'no answer: it tries again');
like($a->log, qr/unreachable: no answer in time/, 'and says so');
stop($a);


# more than -max-concurrency, on several connections

$a = agent('-max-concurrency=2');
@h = map { $p->dialled(worker => "$_/2") } 0, 1;
$h[0]->wait(sub { $h[0]{settings}{MAX_CONCURRENT_STREAMS} });
is($h[0]{settings}{MAX_CONCURRENT_STREAMS}, 2,
   '-max-concurrency is announced');
$b->clear_notes;
my @x = map { $h[$_]->request('GET', '/wait/3') } 0, 1;
ok(waitfor(sub { 2 == grep { /waiting/ } $b->notes }), 'as many in progress');
$x = $h[1]->request('GET', '/x');
ok($h[1]->wait(sub { defined $x->{reset} }, 5), 'one too many in all');
is($x->{reset}, REFUSED_STREAM, 'is refused, for another agent to take');
ok($_->response, 'the others are answered') for @x;
works($h[1], 'and the next one');
stop($a);

$t->done(idle => 0);
