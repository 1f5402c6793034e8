#!/usr/bin/perl

# Large bodies over PTTH, and flow control: whoever is slow slows its own other
# side, and nothing else on the connection.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $big = 16 * 1024 * 1024 + 8;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main work end_user=allUsers backend_user=me
                            prefix=/work;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k rcvbuf=32k;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my @to = (prefix => '/work');
my $s = $t->ptth_server(backend => 'work', code => work_origin());
ok($t->wait_status(sub { $_[0]->agents('work') }), 'one that serves');


# Large ones

is(work_download($t, 'd', $big, @to), undef, 'a download');
is(work_upload($t, 'u', $big, @to), undef, 'an upload with a length');
is(work_upload($t, 'v', $big, @to, chunked => 1), undef, 'a chunked one');

my $load = $t->load(clients => 6, count => 1, code => sub {
    my ($load) = @_;
    my $i = $load->{client};
    return $i % 2 ? work_download($t, "m$i", $big / 4, @to)
                  : work_upload($t, "m$i", $big / 4, @to);
});
my $r = $load->wait;
is(scalar @{$r->{wrong}}, 0, 'six at once') or diag($load->text($r));
ok($t->wait_idle, 'nothing is left');
is(scalar(grep { /^up/ } $s->notes), 1, 'all on one connection');


# By hand

my $h = $t->ptth(backend => 'b');

sub ask {
    my ($method, $target, %opt) = @_;

    my $c = $t->client(rcvbuf => delete $opt{rcvbuf});
    $c->request($method, $target, %opt);
    my $x = $h->take or die "$method $target does not come\n";

    return ($c, $x);
}

# How much of it goes while nobody reads: until nothing moves any more.

sub stalled {
    my ($x) = @_;

    my ($last, $since) = (-1, now());

    $h->wait(sub {
        my $sent = $x->{sent} || 0;
        ($last, $since) = ($sent, now()) if $sent != $last;
        return $since + 0.3 * slow() < now() || $x->{closed};
    }, 0.01) while $since + 0.3 * slow() >= now() && !$x->{closed};

    return $last;
}

my ($slow, $x) = ask('GET', '/slow', rcvbuf => 8192);
$x->respond(200, [], random_body('slow', $big), length => $big);
my $sent = stalled($x);
cmp_ok($sent, '<', 4 * 1024 * 1024, 'who does not read does not get it all');
cmp_ok($sent, '>', 0, 'but something');
cmp_ok($t->status->bytes_used, '<', 4 * 1024 * 1024, 'the zone is not full');
cmp_ok($h->{window}, '>', 0, 'the connection has window left');

# Others go past it, at their own speed.

for my $i (1 .. 20) {
    my ($c, $y) = ask('GET', "/beside$i");
    $y->respond(200, [], "beside $i");
    $y->flush;
    is($c->response->{body}, "beside $i", "small one $i, past a slow reader");
    $c->close;
}

is(work_download($t, 'past', $big / 4, @to), undef, 'others, elsewhere');

my ($fast, $y) = ask('GET', '/fast');
$y->respond(200, [], random_body('fast', $big / 8), length => $big / 8);
my $pid = fork();
if ($pid == 0) {
    my $m = $fast->response(digest => 1);
    POSIX::_exit($m->{sha256} eq body_sha256('fast', $big / 8) ? 0 : 1);
}
ok($y->flush(20), 'a large one goes past a slow reader');
waitpid($pid, 0);
is($?, 0, 'and is right');
$fast->close;

# It wakes up.

$pid = fork();
if ($pid == 0) {
    my $m = $slow->response(digest => 1);
    POSIX::_exit($m->{sha256} eq body_sha256('slow', $big) ? 0 : 1);
}
ok($x->flush(60), 'a slow reader that goes on');
waitpid($pid, 0);
is($?, 0, 'gets what it should');
$slow->close;
ok($t->wait_idle, 'nothing is left');

# Fifty that do not read hold a bounded part of the zone, and nobody up.

my @held = map {
    my ($c, $x) = ask('GET', "/held$_", rcvbuf => 8192);
    $x->respond(200, [], random_body("h$_", $big), length => $big);
    [ $c, $x ];
} 1 .. 50;

stalled($held[-1][1]);
my $status = $t->status;
cmp_ok($status->chunks_free, '>', 0, 'fifty that do not read: room is left');
my $m = work_small($t, 'past-fifty', @to);
is($m, undef, 'others go on');
my ($c, $z) = ask('GET', '/past');
$z->respond(200, [], 'past them');
$z->flush;
is($c->response->{body}, 'past them', 'on the same connection, too');
$c->close;

$_->[0]->reset for @held;
ok($h->wait(sub { !grep { !defined $_->[1]{reset} } @held }),
   'they go away, and their streams with them');
ok($t->wait_idle, 'nothing is left');


# Windows of the agent's own

$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it has gone');

$h = $t->ptth(backend => 'b', grant => 'connection',
              settings => { INITIAL_WINDOW_SIZE => 10 });
$h->wait(sub { $h->{settings_acks} });

$c = $t->client;
$c->request('POST', '/up', body => body_bytes('win', 100_000));
$x = $h->take;
ok($h->wait(sub { $x->{length} == 10 }), 'ten bytes of window');
$x->grant(1);
ok($h->wait(sub { $x->{length} == 11 }), 'and one');
$h->drain(0.1);
is($x->{length}, 11, 'and no more');

# Another request is not held up by that.
my $c2 = $t->client;
$c2->request('GET', '/beside');
my $x2 = $h->take;
$x2->respond(200, [], 'beside');
$x2->flush;
is($c2->response->{body}, 'beside', 'one beside it');
$c2->close;

# The window of all streams can be made smaller than nothing, and larger.
$h->settings(INITIAL_WINDOW_SIZE => 0);
$h->wait(sub { $h->{settings_acks} == 2 });
$x->grant(9);
$h->drain(0.1);
is($x->{length}, 11, 'a window below zero');
$h->settings(INITIAL_WINDOW_SIZE => 65535);
ok($h->wait(sub { $x->{length} > 11 + 60000 }), 'much more of it');
$x->grant(100_000);
ok($x->read_body->{ended}, 'the rest');
is($x->{sha256}, body_sha256('win', 100_000), 'and it is right');
$x->respond(200, [], 'thanks');
$x->flush;
is($c->response->{body}, 'thanks', 'the response');
$c->close;

# No window of the connection: nothing of any body, but heads go.

$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it has gone');
$h = $t->ptth(backend => 'b', grant => 'none');

$c = $t->client;
$c->request('POST', '/all', body => body_bytes('con', 100_000));
$x = $h->take;
ok($h->wait(sub { $x->{length} == 65535 }), 'all the window there is');
$c2 = $t->client;
$c2->request('POST', '/none', body => 'nothing of it');
$x2 = $h->take;
ok($x2, 'a head without window');
$h->drain(0.1);
is($x2->{length}, 0, 'but no body');
$h->window(0, 13);
$h->wait(sub { $x->{length} + $x2->{length} >= 65535 + 13 });
$h->drain(0.1);
is($x->{length} + $x2->{length}, 65535 + 13, 'thirteen bytes of one of them')
    or diag("$x->{length} $x2->{length}");
$h->window(0, 100_000);
$x->grant(100_000);
ok($x->read_body->{ended} && $x2->read_body->{ended}, 'and the rest of both');
is($x->{sha256}, body_sha256('con', 100_000), 'right');
is($x2->{body}, 'nothing of it', 'right, too');
$_->respond(200, [], 'ok') for $x, $x2;
$_->flush for $x, $x2;
is($_->response->{body}, 'ok', 'a response') for $c, $c2;
$_->close for $c, $c2;

# An agent that takes one stream at a time.

$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it has gone');
$h = $t->ptth(backend => 'b', settings => { MAX_CONCURRENT_STREAMS => 2 });
$h->wait(sub { $h->{settings_acks} });

my @c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 4;
ok($h->wait(sub { @{$h->{arrived}} == 2 }), 'two streams');
ok($t->wait_status(sub { $_[0]->waiting('b') == 2 }), 'the others wait');
$h->drain(0.1);
is(scalar @{$h->{arrived}}, 2, 'and do not come');
my @first = splice(@{$h->{arrived}});
$first[0]->respond(200, [], "for $first[0]{target}");
$first[0]->flush;
ok($h->wait(sub { @{$h->{arrived}} == 1 }), 'one for each that ends');
push @first, splice(@{$h->{arrived}});
$_->respond(200, [], "for $_->{target}") for @first[1, 2];
$_->flush for @first;
my $last = $h->take;
$last->respond(200, [], "for $last->{target}");
$last->flush;
is(join(' ', map { $_->response->{body} } @c), 'for /1 for /2 for /3 for /4',
   'all are answered');
$_->close for @c;

# More of them later, and fewer than there are.

$h->settings(MAX_CONCURRENT_STREAMS => 0);
$h->wait(sub { $h->{settings_acks} == 2 });
$c = $t->client;
$c->request('GET', '/zero');
ok($t->wait_status(sub { $_[0]->waiting('b') == 1 }), 'none at all: it waits');
$h->settings(MAX_CONCURRENT_STREAMS => 1);
$x = $h->take;
is($x && $x->{target}, '/zero', 'until there may be one');
$x->respond(200, [], 'ok');
$x->flush;
is($c->response->{body}, 'ok', 'it is answered');
$c->close;

# Small tables, none, and a table that changes.

for my $size (0, 64, 4096, 65536, 0) {
    $h->settings(HEADER_TABLE_SIZE => $size, MAX_CONCURRENT_STREAMS => 100);
    for my $i (1, 2) {
        my ($c, $x) = ask('GET', "/table/$size", headers => [
            'X-Some: ' . 'v' x 50, "X-$i: $size" ]);
        is($x->header('X-Some'), 'v' x 50, "a table of $size, $i");
        $x->respond(200, [ 'X-Some: ' . 'w' x 50 ], 'ok');
        $x->flush;
        is($c->response->header('X-Some'), 'w' x 50, "and back, $i");
        $c->close;
    }
}

$h->close;
$s->stop;
$t->done;
