#!/usr/bin/perl

# Connections of PTTH that end on purpose, and those that are only half there:
# GOAWAY of either side, PING, agents that vanish without a word.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }

        # who does not answer is closed when two thirds of it have passed
        location /quick/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 3s;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b');
my @quick = (backend => 'b', base => '/quick/agent/');

sub ask {
    my ($target) = @_;

    my $c = $t->client(timeout => 20);
    $c->request('GET', $target);

    return $c;
}

sub answer {
    my ($name, $c, $x, $text) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $x->respond(200, [], $text);
    $x->flush;
    my $m = $c->response;
    is($m && $m->{body}, $text, $name);
    $c->close;
}


# The agent says goodbye: what it has is finished, new ones go elsewhere.

my $c = ask('/one');
my $x = $h->take;
$h->goaway;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'GOAWAY is heard of');
my $c2 = ask('/two');
ok(!$h->wait(sub { @{$h->{arrived}} }, 0.2), 'nothing new after GOAWAY');
my $next = $t->ptth(backend => 'b', wait => 0);
my $x2 = $next->take;
is($x2 && $x2->{target}, '/two', 'another connection has it');
answer('it answers', $c2, $x2, 'two');
is($h->{closed}, undef, 'the old one is still there');
answer('what it had is finished', $c, $x, 'one');
is($h->wait_end, 'eof', 'and then it is closed');
$h->close;
$h = $next;

# Those that it says it will not answer are offered again, even a POST: nothing
# was done with them.

$c = $t->client;
$c->request('POST', '/late', body => 'a body');
$x = $h->take;
$c2 = ask('/later');
$x2 = $h->take;
$next = $t->ptth(backend => 'b');
$h->goaway($x->{id} - 2);
my @got = grep { defined } $next->take, $next->take;
is(join(' ', sort map { $_->{target} } @got), '/late /later',
   'what was not processed is offered again');
for my $y (@got) {
    is($y->read_body->{body}, 'a body', 'with its body')
        if $y->{method} eq 'POST';
    answer("$y->{target} is answered", $y->{target} eq '/late' ? $c : $c2, $y,
           'ok');
}
is($h->wait_end, 'eof', 'the connection is closed');
$h->close;
$h = $next;

# Goodbye twice: first to let go, then with a number (RFC 9113, 6.8).

$c = ask('/graceful');
$x = $h->take;
$h->goaway(0x7fffffff);
$h->drain(0.05);
$h->goaway($x->{id});
answer('a graceful goodbye', $c, $x, 'ok');
is($h->wait_end, 'eof', 'ends the connection');
$h->close;

# With nothing open it ends at once.

$h = $t->ptth(backend => 'b');
$h->goaway;
is($h->wait_end, 'eof', 'an idle one ends at once');
$h->close;

# A number that grows is wrong; the connection may end, but no worker does.

$h = $t->ptth(backend => 'b');
$c = $t->client;
$c->request('POST', '/grows', body => '');
$x = $h->take;
$h->goaway($x->{id});
$h->goaway($x->{id} + 2);
$x->respond(200, [], 'ok');
$x->flush(1);
like(($c->response || {})->{status}, qr/^(?:200|502|503)$/, 'one that grows');
$c->close;
$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'is gone');

# Errors in it are told to the log.

$h = $t->ptth(backend => 'b');
$n->mark;
$h->send(GOAWAY, 0, 0, pack('NN', 0, ENHANCE_YOUR_CALM) . "too\r\nmany\0");
is($h->wait_end, 'eof', 'GOAWAY with an error');
unlike($n->log, qr/^many/m, 'its text does not make lines in the log');
$h->close;


# PING

$h = $t->ptth(backend => 'b');
$h->ping('ABCDEFGH');
ok($h->wait(sub { @{$h->{pongs}} }), 'PING is answered');
is($h->{pongs}[0], 'ABCDEFGH', 'with the same bytes');
$h->send(PING, ACK, 0, 'unasked!');
$h->drain(0.05);
is($h->{closed}, undef, 'an answer that nobody asked for');
$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'gone');

# It does not answer: it is not there.  (Its socket is; nothing else tells.)

my $half = $t->ptth(@quick, pong => 0);
my $busy = ask('/half');
my $lost = $half->take;
my $start = now();
my $end = $half->wait_end(60);
like($end, qr/^(?:eof|reset)$/, 'no answer to PING: closed');
ok($half->{seen}{PING}, 'it was asked');
diag(sprintf('noticed after %.1f s', now() - $start));
my $good = $t->ptth(@quick, wait => 0);
$x = $good->take;
is($x && $x->{target}, '/half', 'what it had is offered to another one');
answer('and answered', $busy, $x, 'ok');
ok($n->wait_log(qr/\[(?:error|warn|info)\].*(?:ping|answer|time)/i),
   'there is a line in the log');
$half->close;

# One that answers stays, however idle it is.

ok($good->wait(sub { ($good->{seen}{PING} || 0) >= 2 }, 60),
   'who answers is asked again');
is($good->{closed}, undef, 'and stays');
is($t->status->agents('b'), 1, 'it counts');

$good->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it has gone');

# Whatever it says instead is as good, and it is asked again later.

$half = $t->ptth(@quick, pong => 0);
$half->wait(sub { $half->{seen}{PING} }, 60);
$half->window(0, 1);
$half->wait_end(60);
is($half->{seen}{PING}, 2, 'who says something else is asked again');
$half->close;

# It neither reads nor writes: the socket's buffers fill.

my $stopped = $t->ptth(@quick, rcvbuf => 4096);
my $up = $t->client(timeout => 60);
$up->request('POST', '/up', body => body_bytes('x', 60_000));
my @more = map { ask('/' . 'x' x 4000) } 1 .. 20;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }, 60), 'it is noticed');
like(($up->response || {})->{status}, qr/^50[234]$/, 'what it had fails');
$_->close for @more, $up;
$stopped->close;
ok($t->wait_idle, 'nothing is left');


# nginx says goodbye

$h = $t->ptth(backend => 'b');
$c = ask('/reload');
$x = $h->take;
ok($n->reload, 'a reload');
ok($h->wait(sub { $h->{goaway} }), 'GOAWAY');
is($h->{goaway}[1], NO_ERROR, 'without an error');
$next = $t->ptth(backend => 'b', wait => 0);
$c2 = ask('/after');
$x2 = $next->take;
is($x2 && $x2->{target}, '/after', 'new requests go to the new connection');
answer('and are answered', $c2, $x2, 'ok');
answer('what is open is finished', $c, $x, 'ok');
is($h->wait_end, 'eof', 'then it is closed');
ok(waitfor(sub { !$n->exiting }), 'and the old worker ends');
$h->close;

# An idle connection holds no worker up.
ok($n->reload, 'another reload');
ok($next->wait(sub { $next->{goaway} || $next->{closed} }), 'GOAWAY');
is($next->wait_end, 'eof', 'an idle connection is closed');
ok(waitfor(sub { !$n->exiting }, 5), 'the old workers end');
$next->close;

# Nor does an agent that does not go, longer than it takes to notice.
$h = $t->ptth(@quick);
$n->quit or fail('nginx does not quit');
like($h->wait_end, qr/^(?:eof|reset)$/, 'closed');
$h->close;
$n->{process} = undef;

$t->done(idle => 0);
