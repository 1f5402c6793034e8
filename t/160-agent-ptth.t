#!/usr/bin/perl

# The agent on a PTTH connection: what it asks for, requests, responses, flow
# control, cancelling.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::PtthProxy qw(ptth_wrong);
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $work = work_origin();
my $n = 3_000_001;
my $limit = 4 * slow();
my $go = $t->dir . '/go';

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my ($what) = $req->{target} =~ m{^/(\w+)};

    if ($what eq 'fields') {
        $c->read_body($req);
        return $c->respond(200, [ 'X-One: 1', 'X-One: 2', 'Set-Cookie: a=b',
                                  'Set-Cookie: c=d', 'Date: never',
                                  'Server: mine', 'Connection: x-gone',
                                  'X-Gone: 1', 'Keep-Alive: timeout=3' ],
                           join("\n", $req->{start},
                                map { "$_->[0]: $_->[1]" }
                                @{$req->{fields}}));
    }

    if ($what eq 'trailers') {
        $c->head(200, [ 'Transfer-Encoding: chunked', 'Trailer: X-Sum' ]);
        $c->chunk('body');
        $c->write("0\r\nX-Sum: 42\r\nConnection: no\r\n\r\n");
        return 1;
    }

    if ($what eq 'interim') {
        $c->write("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        return $c->respond(200, [], 'final');
    }

    if ($what eq 'cut') {
        $c->write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        waitfor(sub { -e $go });
        return 0;
    }

    if ($what eq 'chunkcut') {
        $c->write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  . "4\r\npart\r\n");
        waitfor(sub { -e $go });
        return 0;
    }

    if ($what eq 'broken') {
        $c->write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
                  . "Content-Length: 4\r\n\r\nabcd");
        return 0;
    }

    if ($what eq 'unasked') {
        $c->write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
                  . "Connection: upgrade\r\n\r\n");
        return 0;
    }

    if ($what eq 'wait') {
        $c->note('waiting');
        $c->note('gone') if $c->wait_end(20);
        return 0;
    }

    if ($what eq 'chunked') {
        return $c->respond(200, [], body_bytes('key', $n), chunked => 1);
    }

    if ($what eq 'head') {
        return $c->respond(200, [], 'x' x 1000, head => 1);
    }

    if ($what eq 'early') {
        return $c->respond(413, [ 'Connection: close' ], 'too much') && 0;
    }

    return $work->($c, $req);
});

my $p = $t->ptth_proxy;
spew($t->dir . '/token', "secret-token\n");
my $a = $t->agent(transport => 'auto',
                  proxy => $p->url, backend => 'b', host => $b->address,
                  args => [ '-token-file=' . $t->dir . '/token',
                            "-request-forwarding-timeout=${limit}s",
                            "-proxy-timeout=${limit}s" ], wait => 0);

# the call

my $c = $p->call(qr{ptth});
is(ptth_wrong($c->{request}), undef, 'it asks for PTTH');
is($c->{request}->header('X-Inverting-Proxy-Backend-ID'), 'b', 'its backend');
is($c->{request}->header('Authorization'), 'Bearer secret-token',
   'its token');
is($c->{request}->header('ALPN'), 'h2', 'over h2');

my $h = $p->upgrade($c);
ok($h->wait(sub { $h->{settings}{ENABLE_CONNECT_PROTOCOL} }),
   'extended CONNECT is announced');
is($h->{settings}{MAX_CONCURRENT_STREAMS}, 1000, 'and the concurrency');
ok($h->{settings}{MAX_HEADER_LIST_SIZE}, 'and the size of heads');
ok($a->wait_log(qr/connected to proxy .* by PTTH/), 'it says so');


# fields

my @ours = ('X-Inverting-Proxy-User-ID: someone',
            'X-Inverting-Proxy-Request-ID: 4711',
            'X-Inverting-Proxy-Request-Start-Time: 2026-01-01T00:00:00Z');

sub get {
    my ($target, %opt) = @_;
    my $x = $h->request($opt{method} || 'GET', $target, %opt,
                        headers => [ @ours, @{$opt{headers} || []} ]);
    return $x->response(20);
}

my $x = get('/fields?a=%2F&b', authority => 'front.example:81',
            headers => [ 'Cookie: a=1', 'Cookie: b=2', 'X-Two: 1', 'X-Two: 2',
                         'TE: trailers', 'x_inverting_proxy_user_id: root' ]);
is($x->{status}, 200, 'a status');
is(join('|', $x->all('X-One')), '1|2', 'repeated fields, in their order');
is(join('|', $x->all('Set-Cookie')), 'a=b|c=d', 'and cookies');
is($x->header('Date'), 'never', 'Date passes');
is($x->header('Server'), 'mine', 'and Server');
is($x->header('X-Gone'), undef, 'what Connection names does not');
is($x->header('Keep-Alive'), undef, 'nor do the other fields of one hop');

my @got = split(/\n/, $x->{body});
like($got[0], qr{^GET /fields\?a=%2F&b HTTP/1\.1}, 'the target as it was');
is(scalar(grep { /^host: front\.example:81$/i } @got), 1, 'one Host');
is(scalar(grep { /^cookie: a=1; b=2$/i } @got), 1, 'cookies are joined');
is(scalar(grep { /^x-two: /i } @got), 2, 'others are not');
is(scalar(grep { /^te: trailers$/i } @got), 1, 'TE: trailers passes');
ok(!grep({ /^x.inverting/i } @got), 'none of the proxy\'s own');
ok(!grep({ /^(?:transfer-encoding|content-length):/i } @got),
   'and no framing: there is no body');


# bodies, both ways

for my $chunked (0, 1) {
    $x = get(($chunked ? '/chunked' : '/down') . "/key/$n/0");
    is($x && $x->{length}, $n,
       'a large response' . ($chunked ? ', chunked' : ''));
    is($x->{sha256}, body_sha256('key', $n), 'and the right one');
    ok($x->{ended} && !defined $x->{reset}, 'it ends well');
}

for my $length ($n, undef) {
    $x = get('/up/q', method => 'POST', body => body_bytes('up', $n),
             length => $length);
    is($x && $x->{body}, "$n " . body_sha256('up', $n),
       'a large request, ' . (defined $length ? 'its length known'
                                               : 'chunked'));
}

$x = get('/fields', method => 'POST', body => '', length => 0);
like($x->{body}, qr/^content-length: 0$/mi, 'an empty body is one');

$x = get('/head', method => 'HEAD');
is($x->{length}, 0, 'HEAD: no body');
is($x->header('Content-Length'), 1000, 'but its length');

$x = get('/trailers');
is($x->{body}, 'body', 'a response with trailers');
is($x->trailer('X-Sum'), 42, 'a trailer');
is($x->trailer('Connection'), undef, 'but not any trailer');

$x = get('/interim');
is($x->{status}, 200, 'an interim response is consumed');
is(scalar(@{$x->{interim}}), 0, 'it is');


# faults of the backend

for my $what ('cut', 'chunkcut') {
    unlink($go);
    $x = $h->request('GET', "/$what");
    ok($x->head(10), "$what: a head");
    spew($go, '');
    ok($x->wait_reset(10), "$what: a reset");
    is($x->{reset}, INTERNAL_ERROR, 'INTERNAL_ERROR');
    ok(!$x->{ended}, 'and no end');
}

for my $what ('broken', 'unasked') {
    $x = get("/$what");
    is($x && $x->{status}, 502, "$what: 502");
}

$x = get('/wait');
is($x && $x->{status}, 504, 'no answer in time');
ok($b->wait_note(qr/gone/), 'the backend is told');

$x = $h->request('POST', '/early', hold => 1);
$x->data('x' x 20000);
ok($h->wait(sub { defined $x->{reset} }, 10), 'an answer before the end');
is($x->{status}, 413, 'is passed on');
is($x->{reset}, NO_ERROR, 'and the rest is not wanted');
is($x->{body}, 'too much', 'whole');


# a client that goes away

$b->clear_notes;
$x = $h->request('GET', '/wait');
ok($b->wait_note(qr/waiting/), 'the backend is at work') or diag($a->log);
$x->rst(CANCEL);
my $since = now();
ok($b->wait_note(qr/gone/), 'its request is cancelled');
cmp_ok(now() - $since, '<', $limit / 2, 'at once');


# back-pressure: a stream that nobody reads takes nothing from the others

$h->settings(INITIAL_WINDOW_SIZE => 65535);
my $slow = $h->request('GET', '/down/slow/100000000/0');
$h->wait(sub { $slow->{length} > 100_000 }, 10);
$h->{grant} = 'connection';

# What was granted until now still comes.
my $len = $slow->{length} + 65535;
$h->wait(sub { $slow->{length} >= $len }, 10);
$h->drain(0.5);
my $rss = rss();
my @other = map { $h->request('GET', "/small/$_") } 1 .. 20;
ok($h->wait(sub { !grep({ !$_->{ended} } @other) }, 10),
   'others are answered meanwhile');
$h->drain(0.5);
is($slow->{length}, $len, 'it stands still');
cmp_ok(rss() - $rss, '<', 1024, 'and holds little');
$slow->rst(CANCEL);
$h->{grant} = 'both';
is(get('/small/again')->{status}, 200, 'and on it goes');


sub rss {
    my ($kib) = slurp('/proc/' . $a->pid . '/status') =~ /^VmRSS:\s+(\d+)/m;
    return $kib;
}


# the backend goes, and comes

$b->stop;
$x = get('/small/x');
is($x && $x->{status}, 502, 'a backend that is away');
like($x->{body}, qr/^502 Bad Gateway: no connection$/, 'and why');
$b->start;
is(get('/small/x')->{status}, 200, 'it is back');
is(scalar($a->stop), 0, 'it ends well');


# the user, when asked for; credentials, when not

$a = $t->agent(transport => 'auto',
               proxy => $p->url, backend => 'b', host => $b->address,
               args => [ '-forward-user-id', '-strip-credentials' ],
               wait => 0);
$h = $p->dialled;
$x = get('/fields', headers => [ 'Authorization: Basic eA==' ]);
like($x->{body}, qr/^x-inverting-proxy-user-id: someone$/mi, 'the user');
unlike($x->{body}, qr/^authorization:/mi, 'no credentials');
unlike($x->{body}, qr/4711|2026-01-01/, 'and nothing else of it');
is(scalar($a->stop), 0, 'it ends well');

$t->done(idle => 0);
