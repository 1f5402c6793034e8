#!/usr/bin/perl

# How an agent dials over PTTH, what it does with every answer, and when it
# dials again: against a proxy by hand.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::PtthProxy qw(ptth_wrong);
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());
my @cert = $t->certificate_for('proxy');

spew($t->dir . '/token', "a-secret-token\n");
chmod(0600, $t->dir . '/token');

sub agent {
    my ($p, %opt) = @_;

    return $t->agent(transport => 'auto',
                     proxy => $opt{proxy} || $p->url, backend => 'b',
                     host => $b->address, wait => 0,
                     args => [ '-transport=' . ($opt{transport} || 'ptth'),
                               @{$opt{args} || []} ]);
}

sub ends {
    my ($a, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $a->signal('TERM');
    is($a->wait_end(10), 0, "$name: it ends, with status 0");
}

sub works {
    my ($h, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $x = $h->request('GET', "/small/w")->response;
    is($x && $x->{body}, 'GET w ', "$name: it works");
}


# What it sends

for my $tls (undef, \@cert) {
    my $name = $tls ? 'TLS' : 'plain';
    my $p = $t->ptth_proxy(tls => $tls);
    my $a = agent($p, args => [ '-token-file=' . $t->dir . '/token',
                                $tls ? "-ca-file=$cert[0]" : () ]);
    my $c = $p->call(qr/ptth$/) or BAIL_OUT('it does not dial');
    my $r = $c->{request};

    is(ptth_wrong($r), undef, "$name: a good upgrade") or diag($r->{raw});
    like($r->header('ALPN'), qr/(?:^|, ?)h2(?:,|$)/, "$name: h2 is offered");
    is($r->header('X-Inverting-Proxy-Backend-ID'), 'b', "$name: its backend");
    is($r->header('Authorization'), 'Bearer a-secret-token',
       "$name: its token");
    is($r->header('HTTP2-Settings'), undef, "$name: nothing of h2c");
    unlike($a->log, qr/a-secret-token/, "$name: no secret in the log");

    my $h = $p->upgrade($c);
    ok($h->wait(sub { $h->{settings_acks} && $h->{seen}{SETTINGS} }),
       "$name: SETTINGS");
    is($h->{settings}{ENABLE_CONNECT_PROTOCOL}, 1, "$name: WebSockets");
    ok(!defined $h->{settings}{ENABLE_PUSH} || !$h->{settings}{ENABLE_PUSH},
       "$name: it pushes nothing");
    works($h, $name);

    $a->signal('TERM');
    ok($h->wait(sub { $h->{goaway} }), "$name: GOAWAY");
    is($h->wait_end, 'eof', "$name: and it closes");
    is($a->wait_end(10), 0, "$name: it ends, with status 0");
    ok(!$p->call(qr/./, 0.2), "$name: and does not dial again");
    $p->stop;
}

# A path below which it is.

my $p = $t->ptth_proxy;
my $a = agent($p, proxy => $p->url . 'some/where');
my $c = $p->call(qr/ptth$/);
is($c->{request}{target}, '/some/where/agent/ptth', 'a longer base');
my $h = $p->upgrade($c);
works($h, 'a longer base');


# Dialling again

$h->close;
my $start = now();
$h = $p->dialled;
works($h, 'closed, dialled again');
cmp_ok(now() - $start, '<', 5 * slow(), 'soon');

$h->reset;
$h = $p->dialled;
works($h, 'reset, dialled again');

# Before the old one is gone, when it is asked to go.

my $slow = $h->request('GET', '/events/s/5/0.1');
ok($slow->head, 'one that lasts');
$h->goaway;
my $new = $p->dialled;
works($new, 'GOAWAY: a new connection');
ok($slow->response, 'GOAWAY: what is open is finished');
is(scalar(() = $slow->{body} =~ /data/g), 5, 'GOAWAY: whole');
is($h->wait_end, 'eof', 'GOAWAY: and then closed');
$h = $new;

# Nobody there: it waits longer each time, and goes on for ever.

$p->stop;
$h->close;
nap(1);
$p->start;
$h = $p->dialled(timeout => 15);
works($h, 'away, and back');
my @lines = grep { /cannot|refused|lost|connect/i } split(/\n/, $a->log);
cmp_ok(scalar @lines, '<', 12, 'and does not fill its log')
    or diag($a->log);
ends($a, 'the long one');


# Answers that are none

sub answers {
    my ($name, $bytes, %opt) = @_;

    my $p = $t->ptth_proxy;
    my $a = agent($p, %opt);
    my $c = $p->call(qr/ptth$/);
    $c->write($bytes);
    $c->close if !$opt{open};
    my $h = $p->dialled(timeout => 20);
    works($h, "$name, then a good one");
    my $log = $a->log;
    ends($a, $name);
    $p->stop;

    return $log;
}

my $up = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n";

for my $case (
    [ '503'             => "HTTP/1.1 503 No\r\nRetry-After: 1\r\n"
                           . "Content-Length: 0\r\n\r\n" ],
    [ '401'             => "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\n"
                           . "Content-Length: 0\r\n\r\n" ],
    [ '500'             => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" ],
    [ 'nothing'         => '' ],
    [ 'garbage'         => "\0\1\2\xff\r\n\r\n" ],
    [ 'SSH'             => "SSH-2.0-OpenSSH\r\n" ],
    [ 'half a head'     => $up ],
    [ 'an endless head' => $up . 'X: ' . 'x' x 1_000_000 ],
    [ 'a 101 to WebSocket' => $up . "Upgrade: websocket\r\nALPN: h2\r\n\r\n" ],
    [ 'a 101 of h3'     => $up . "Upgrade: ptth\r\nALPN: h3\r\n\r\n" ],
    [ 'a 101 without ALPN' => $up . "Upgrade: ptth\r\n\r\n" ],
    [ 'a bad preface'   => $up . "Upgrade: ptth\r\nALPN: h2\r\n\r\n"
                           . "GET / HTTP/1.1\r\n\r\n" ],
) {
    my ($name, $bytes) = @$case;
    my $log = answers($name, $bytes);
    isnt($log, '', "$name: it says something");
}

# Interim responses before the 101 are none.

$p = $t->ptth_proxy;
$a = agent($p);
$c = $p->call(qr/ptth$/);
$c->write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
$h = $p->upgrade($c);
works($h, 'after a 103');
ends($a, 'after a 103');

# Frames in the same packet as the 101.

$a = agent($p);
$c = $p->call(qr/ptth$/);
$c->write("${up}Upgrade: ptth\r\nALPN: h2\r\n\r\n" . PREFACE
          . frame(SETTINGS, 0, 0) . frame(PING, 0, 0, 'together'));
$h = InvertingProxy::Test::Http2->new(stream => $c, role => 'client',
                                      start => 0);
ok($h->wait(sub { @{$h->{pongs}} }), 'frames with the 101');
works($h, 'frames with the 101');
ends($a, 'frames with the 101');
$p->stop;

# It says nothing: that is a time-out, not for ever.

$p = $t->ptth_proxy;
$a = agent($p, args => [ '-proxy-timeout=4s' ]);
my $silent = $p->call(qr/ptth$/);
$h = $p->dialled(timeout => 20);
works($h, 'silence, then a good one');
$silent->close;
ends($a, 'silence');
$p->stop;


# auto: polling where the upgrade is refused or stripped, and back

for my $case ([ 404, [] ], [ 426, [ 'Upgrade: ptth' ] ],
              [ 200, [ 'Content-Type: text/html' ] ], [ 400, [] ],
              [ 405, [] ], [ 501, [] ])
{
    my ($status, $headers) = @$case;
    my $name = "auto, $status";
    my $p = $t->ptth_proxy;
    my $a = agent($p, transport => 'auto');

    my $c = $p->call(qr/ptth$/);
    $c->respond($status, $headers, 'no such thing');
    $c->close;

    my $poll = $p->call(qr/pending$/);
    ok($poll, "$name: it polls") or diag($a->log);

    if ($poll) {
        is($poll->{request}{method}, 'GET', "$name: a poll");
        is($poll->{request}->header('Upgrade'), undef, "$name: no upgrade");
        $poll->respond(200, [], '["0123456789abcdef0123456789abcdef"]');
        $p->keep($poll);
        my $fetch = $p->call(qr/request$/);
        ok($fetch, "$name: it fetches");
        $fetch->respond(200, [
            'X-Inverting-Proxy-Request-Start-Time: 2026-01-01T00:00:00.1Z' ],
            "GET /small/poll HTTP/1.1\r\nHost: h\r\n\r\n");
        $p->keep($fetch);
        my $post = $p->call(qr/response$/);
        ok($post, "$name: it posts");
        $post->read_body($post->{request});
        like($post->{request}{body}, qr/GET poll/, "$name: the response");
        $post->respond(200, [], '');
    }

    ends($a, $name);
    $p->stop;
}

# ptth: never.

$p = $t->ptth_proxy;
$a = agent($p);
$c = $p->call(qr/ptth$/);
$c->respond(404, [], 'no');
$c->close;
ok(!$p->call(qr/pending$/, 0.5), 'ptth: no polls');
$h = $p->dialled(timeout => 20);
works($h, 'ptth: it tries again');
ends($a, 'ptth');

# poll: never an upgrade.

$a = agent($p, transport => 'poll');
ok($p->call(qr/pending$/), 'poll: it polls');
ok(!$p->call(qr/ptth$/, 0.3), 'poll: no upgrade');
$p->stop;
ends($a, 'poll');


# One in each worker

$p = $t->ptth_proxy;
$a = agent($p, args => [ '-connections=3' ]);
my %h = map { $_ => $p->dialled(worker => "$_/3", timeout => 20) } 0, 1, 2;
works($h{$_}, "worker $_") for 0 .. 2;
ok(!$p->call(qr/ptth$/, 0.5), 'three are enough');
$h{1}->close;
$h{1} = $p->dialled(worker => '1/3', timeout => 20);
works($h{1}, 'and three again');
ends($a, 'three');
$p->stop;

# The same worker again and again: a bounded number of tries, and what was not
# needed is closed.

$p = $t->ptth_proxy;
$a = agent($p, args => [ '-connections=4' ]);
my @h;
my $quiet = 0;
while ($quiet < 1 && @h < 100) {
    my $c = $p->call(qr/ptth$/, 2);
    if (!$c) {
        $quiet++;
        next;
    }
    push @h, $p->upgrade($c, worker => '2/4');
    $_->wait(sub { 0 }, 0.01) for @h;
}
cmp_ok(scalar @h, '<', 40, 'an unlucky agent does not dial for ever');
$_->wait(sub { 0 }, 0.01) for @h;
my @left = grep { !defined $_->{closed} && !$_->{goaway} } @h;
cmp_ok(scalar @left, '>=', 1, 'one is kept');
cmp_ok(scalar @left, '<=', 4, 'and no more than were asked for');
works($left[0], 'it serves');
ends($a, 'an unlucky one');
$p->stop;

# A proxy that ends each connection in a way that looks well, or tells of ever
# other workers: the agent dials for ever, but not as fast as it can.

for my $case (
    [ 'a goodbye at once' => '1/2', sub { $_[0]->goaway(0) } ],
    [ 'an end of the second one' => '1/2', sub {
        $_[0]->close;
        $_[0]{closed} = 'here';
    } ],
    [ 'more workers each time' => undef, sub { } ],
) {
    my ($name, $worker, $do) = @$case;
    my $p = $t->ptth_proxy;
    my $a = agent($p);
    my $first = $p->dialled(worker => '0/2');
    my @h;

    my $answer = sub {
        my $c = $p->call(qr/ptth$/, 0.1);
        $_->drain(0.001) for grep { !defined $_->{closed}
                                    && $_->{stream}->ready(0, 0) } $first, @h;
        return 0 if !$c;
        my $h = $p->upgrade($c, worker => $worker || '0/' . (3 + @h % 9));
        $h->drain(0.001);
        $do->($h);
        push @h, $h;
        return 1;
    };

    ok(waitfor(sub {
        $answer->() for 1 .. 10;
        return $a->log =~ /do not last; dialling more slowly/;
    }, 30), "$name: the log says so") or diag($a->log);
    my $n = @h;
    my $end = now() + 3;
    $answer->() while now() < $end;
    cmp_ok(@h - $n, '<', 20, "$name: not all the time");
    ok(waitfor($answer, 10), "$name: but it goes on");
    cmp_ok(scalar(() = $a->log =~ /\n/g), '<', 12, "$name: in few lines");
    $_->close for $first, @h;
    $a->kill;
    $p->stop;
}

# Words in place of numbers are no reason to fail.

for my $worker ('', '0', 'x/y', '5/2', '-1/4', '99999999999/99999999999',
                '0/0')
{
    my $p = $t->ptth_proxy;
    my $a = agent($p);
    works($p->dialled(worker => $worker), "worker \"$worker\"");
    ends($a, "worker \"$worker\"");
    $p->stop;
}

$t->done(idle => 0);
