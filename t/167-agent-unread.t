#!/usr/bin/perl

# A proxy that does not read, or says nothing: the agent waits, but neither
# without bounds nor for ever.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

use constant { PARTS => 100, PART => 60_000 };

my $t = InvertingProxy::Test->new;
my $short = '-proxy-timeout=' . 2 * slow() . 's';

# Half of it is how long the test may say nothing.
my $longer = '-proxy-timeout=' . 4 * slow() . 's';
my $go = $t->dir . '/go';
my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->note($req->{start});
    $c->read_body($req);

    if ($req->{target} eq '/endless') {
        $c->head(200, [ 'Content-Length: 1000000000' ]);
        1 while $c->write('x' x 65536);
        $c->note('gone');
        return 0;

    } elsif ($req->{target} eq '/part') {
        $c->head(200, [ 'Content-Length: ' . 2 * PART ]);
        $c->write('x' x PART);
        $c->note('part');
        waitfor(sub { -e $go }, 30);
        $c->reset;
        return 0;
    }

    return $c->respond(200, [], 'fine');
});

# Little is under way in the system's own buffers.
my $p = $t->ptth_proxy(rcvbuf => 4096);

sub agent {
    my (@args) = @_;

    return $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
                     host => $b->address, args => [ '-debug', @args ],
                     wait => 0);
}

sub works {
    my ($h, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $x = $h->request('GET', '/x')->response;
    is($x && $x->{body}, 'fine', "$name: it works");
}

# The agent may have given up a call that was not looked at meanwhile.

sub good_one {
    my ($a, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my ($h, $x);

    for (1 .. 5) {
        $h = $p->dialled(timeout => 20);
        $x = eval { $h->request('GET', '/x')->response };
        last if $x;
    }

    is($x && $x->{body}, 'fine', "$name, then a good one: it works");
    $a->signal('TERM');
    $h->wait_end(10);
    is($a->wait_end(10), 0, "$name: it ends well");
    $h->close;

    return;
}

# Windows are no limit then.

sub open_wide {
    my ($h) = @_;

    $h->settings(INITIAL_WINDOW_SIZE => 0x7fffffff);
    $h->window(0, 0x7f000000);

    return;
}

sub rss {
    my ($a) = @_;
    return slurp('/proc/' . $a->pid . '/status') =~ /^VmRSS:\s+(\d+)/m && $1;
}

sub no_sanitizer {
    return !$ENV{INVERTING_PROXY_PRELOAD} && !$ENV{INVERTING_PROXY_VALGRIND};
}


# Responses that break off while what was offered of them waits

my $a = agent();
my $h = $p->dialled;
works($h, 'at first');
open_wide($h);
my @x = map { $h->request('GET', '/part') } 1 .. PARTS;
ok(waitfor(sub { PARTS == grep { /^part/ } $b->notes }, 20), 'a hundred');
spew($go, '');
ok(waitfor(sub { PARTS == (() = $a->log =~ /cut off: |: 502: /g) }, 20),
   'all of which break off');
ok($h->wait(sub { !grep { !$_->{closed} && !$_->{ended} } @x }, 30),
   'the proxy reads again');
my @begun = grep { $_->{has_head} && $_->{status} == 200 } @x;
cmp_ok(scalar @begun, '>', 0, 'some had begun');
ok(!grep({ !defined $_->{reset} } @begun), 'these are cut');
is(scalar(grep { $_->{has_head} && $_->{status} == 502 } @x),
   PARTS - @begun, 'and the others are 502');
works($h, 'responses that broke off');
is(scalar($a->stop), 0, 'it ends well');
$h->close;


# One that sends, so that it is not quiet, but reads nothing.  It is given up,
# as is what was asked for.

my $name;

sub say_something {
    my ($h, $first) = @_;

    eval { $h->raw(($first || '')
                   . frame(WINDOW_UPDATE, 0, 0, pack('N', 1))) };
    return;
}

for my $case (
    [ 'nothing wrong'         => '' ],
    [ 'no stream for DATA'    => frame(DATA, 0, 0, 'x') ],
    [ 'CONTINUATION alone'    => frame(CONTINUATION, 0, 5, 'x') ],
    [ 'a goodbye'             => frame(GOAWAY, 0, 0, pack('NN', 0, 0)) ],
) {
    my $first;
    ($name, $first) = @$case;

    $b->clear_notes;
    $a = agent($longer);
    $h = $p->dialled;
    works($h, $name);
    open_wide($h);
    $h->request('GET', '/endless') for 1 .. 4;

    ok(waitfor(sub {
        say_something($h);
        return 4 == grep { m{ /endless } } $b->notes;
    }), "$name: four requests");
    nap(0.5);
    my $before = rss($a);

    my $given_up = waitfor(sub {
        say_something($h, $first);
        $first = '';
        return 4 == grep { /^gone/ } $b->notes;
    }, 20);
    ok($given_up, "$name: the requests are given up") or diag($a->log);
    ok(waitfor(sub {
        say_something($h);
        return $a->log =~ /lost: the proxy does not read/;
    }, 20), "$name: as is the connection") or diag($a->log);
    cmp_ok(rss($a) - $before, '<', 8192, "$name: nothing piles up")
        if no_sanitizer();

    $h->close;
    good_one($a, $name);
}


# One that says nothing at all, from some point on

for my $case (
    [ 'no preface'        => sub { } ],
    [ 'half a preface'    => sub { $_[0]->raw(substr(PREFACE, 0, 10)) } ],
    [ 'no SETTINGS'       => sub { $_[0]->raw(PREFACE) } ],
    [ 'half a frame'      => sub {
        $_[0]->raw(PREFACE . frame(SETTINGS, 0, 0)
                   . substr(frame(PING, 0, 0, 'pingpong'), 0, 12));
    } ],
    [ 'no pong'           => sub {
        $_[0]->raw(PREFACE . frame(SETTINGS, 0, 0));
    } ],
) {
    my $bytes;
    ($name, $bytes) = @$case;

    $a = agent($short);
    $h = $p->dialled(start => 0, ack => 0, pong => 0);
    $bytes->($h);
    ok($h->wait_end(10), "$name: the connection ends");
    ok($a->wait_log(qr/lost: the proxy does not answer a PING/),
       "$name: the log says why") or diag($a->log);
    good_one($a, $name);
}

# A head that takes longer than a request may be quiet: it was answered then.

$a = agent($longer);
$h = $p->dialled;
works($h, 'a slow head');
$b->clear_notes;
$h->settings(INITIAL_WINDOW_SIZE => 0);
my $head = literal(':method' => 'GET', ':scheme' => 'http',
                   ':path' => '/late', ':authority' => 'h',
                   'x-y' => 'z' x 1000);
my $id = $h->{next_id};
my $x = $h->_stream($id);
$h->{next_id} += 2;
my @bytes = split(//, frame(HEADERS, END_HEADERS | END_STREAM, $id, $head));
$h->raw(join('', splice(@bytes, 0, 20)));
my $answered = waitfor(sub {
    $h->raw(shift @bytes) if @bytes > 20;
    $h->drain(0.05);
    return $x->{has_head} || defined $h->{closed};
}, 20);
ok($answered && $x->{has_head}, 'a slow head: it is answered');
is($x->{status}, 504, 'a slow head: with a 504');
$h->raw(join('', @bytes));
$h->drain(0.2);
$x->grant(100_000);
$h->wait(sub { $x->{closed} || $x->{ended} });
ok(!grep({ /late/ } $b->notes), 'a slow head: nobody is asked any more');
unlike($x->{body}, qr/fine/, 'a slow head: nor answers');
$h->settings(INITIAL_WINDOW_SIZE => 65535);
works($h, 'a slow head, then a good one');
is(scalar($a->stop), 0, 'a slow head: it ends well');
$h->close;

$t->done(idle => 0);
