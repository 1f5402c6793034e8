#!/usr/bin/perl

# How the agent ends, and how much it does at one time.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req);
    $c->note("begin $req->{target}");

    if ($req->{target} =~ m{^/hang}) {
        $c->wait_end(30);
        $c->note("end $req->{target}");
        return 0;
    }

    if ($req->{target} =~ m{^/parts}) {
        $c->head(200, [ 'Transfer-Encoding: chunked' ]);
        for my $i (1 .. 10) {
            $c->chunk("part $i\n");
            nap(0.2);
        }
        $c->last_chunk;
        return 1;
    }

    nap($1) if $req->{target} =~ m{^/sleep/([\d.]+)};
    $c->note("end $req->{target}");

    return $c->respond(200, [], 'done');
});

my $p = $t->stand_in(hold => 30, pending => sub {
    my ($c, $req, $proxy) = @_;
    my $keep = $proxy->pending_default($c);

    $c->note('over');
    return $keep;
});


# Since the notes were cleared.

sub polls {
    my ($made, $over) = @_;

    return waitfor(sub {
        my @notes = $p->notes;
        $over == grep({ $_ eq 'over' } @notes)
        && $made == grep({ /pending/ } @notes);
    });
}


# That of an agent which is gone would take what is for the next one.

sub no_poll {
    return waitfor(sub {
        my @notes = $p->notes;
        grep({ $_ eq 'over' } @notes) == grep({ /pending/ } @notes);
    });
}


sub agent {
    no_poll();

    return $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
                     wait => 0, args => [ @_ ]);
}


sub request {
    my ($target) = @_;

    my $id = $p->add("GET $target HTTP/1.1\r\nHost: h\r\n\r\n");
    $b->wait_note(qr/^begin \Q$target\E$/);

    return $id;
}


# nothing to do

for my $signal (qw(TERM INT)) {
    my $a = agent();
    ok(polls(1, 0), 'an agent that waits');

    my $t0 = now();
    $a->signal($signal);
    is($a->wait_end(10), 0, "SIG$signal: it ends with status 0");
    cmp_ok(now() - $t0, '<', 3 * slow(), 'at once');

    polls(1, 1);
    $p->clear_notes;
}


# something to do

for my $target ('/sleep/2', '/parts') {
    my $a = agent();
    my $id = request($target);

    ok(polls(2, 1), 'an agent that has a request, and waits');
    $a->signal('TERM');
    ok(polls(2, 2), 'SIGTERM: it does not wait any more');
    $p->clear_notes;
    my $late = $p->add("GET /late HTTP/1.1\r\nHost: h\r\n\r\n");

    my $m = $p->wait_response($id);
    is($m && $m->{status}, 200, "SIGTERM: $target is finished");
    is($m->{cut}, undef, 'whole');
    is($a->wait_end(5), 0, 'then it ends');
    is(scalar(grep { /pending|$late/ } $p->notes), 0, 'nothing else is taken');
    like($a->log, qr/SIGTERM: finishing 1 requests/, 'in the log');

    # for the next agent
    $a = agent();
    ok($p->wait_response($late), 'the next one takes it');
    polls(2, 1);
    is(scalar($a->stop), 0, 'it ends well');
    polls(2, 2);
    $p->clear_notes;
    $b->clear_notes;
}


# a second signal

my $a = agent();
my $id = request('/hang/1');
$a->signal('TERM');
$a->wait_log(qr/SIGTERM: finishing/);
nap(0.3);
ok($a->running, 'SIGTERM: it waits for its requests');
$a->signal('TERM');
is($a->wait_end(5), 0, 'a second one: it ends with status 0');
ok($p->wait_note(qr/^cut $id/), 'the POST is cut');
ok($b->wait_note(qr{^end /hang/1$}), 'the request is dropped');

$a = agent();
$id = request('/hang/2');
$a->signal('TERM');
$a->wait_log(qr/SIGTERM: finishing/);
$a->signal('INT');
is($a->wait_end(5), 0, 'SIGTERM, then SIGINT');


# not longer than it may

$a = agent('-graceful-shutdown-timeout=700ms');
$id = request('/hang/3');
my $t0 = now();
$a->signal('TERM');
is($a->wait_end(10), 0, '-graceful-shutdown-timeout: it ends with status 0');
cmp_ok(now() - $t0, '>', 0.6, 'not before');
cmp_ok(now() - $t0, '<', 4 * slow(), 'not long after');
like($a->log, qr/exiting with 1 requests unfinished/, 'in the log');
ok($b->wait_note(qr{^end /hang/3$}), 'the request is dropped');


# while the proxy is away

no_poll();
$p->stop;
$a = agent();
$a->wait_log(qr/unreachable/);
nap(0.5);
$t0 = now();
$a->signal('TERM');
is($a->wait_end(10), 0, 'SIGTERM while the proxy is away');
cmp_ok(now() - $t0, '<', 3 * slow(), 'at once');
$p->start;


# no more than -max-concurrency

$b->clear_notes;
$a = agent('-max-concurrency=2');
my @id = map { $p->add("GET /sleep/0.2?$_ HTTP/1.1\r\nHost: h\r\n\r\n") }
             1 .. 9;
is(scalar(grep { $p->wait_response($_) } @id), 9, 'all are answered');

my ($now, $most) = (0, 0);
for my $note ($b->notes) {
    $now += $note =~ /^begin/ ? 1 : -1;
    $most = $now if $now > $most;
}
is($most, 2, '-max-concurrency=2: two at a time');
is(scalar($a->stop), 0, 'it ends well');

$t->done;
