#!/usr/bin/perl

# A proxy that breaks the rules of HTTP/2, or wears the agent out.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

my $t = InvertingProxy::Test->new;
my $go = $t->dir . '/go';
my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->note($req->{start});
    if ($req->{target} =~ /wait/) {
        $c->wait_end(20);
        return 0;
    }
    if ($req->{target} eq '/long') {
        $c->head(200, [ 'Content-Length: 8' ], with => 'long');
        waitfor(sub { -e $go }, 60);
        $c->write('long');
        return 1;
    }
    $c->read_body($req);
    return $c->respond(200, [], 'fine');
});
my $p = $t->ptth_proxy;
my $a = $t->agent(transport => 'auto',
                  proxy => $p->url, backend => 'b', host => $b->address,
                  args => [ '-max-concurrency=100', '-transport=ptth' ],
                  wait => 0);
my $h = $p->dialled;


sub works {
    my ($what) = @_;
    my $x = $h->request('GET', '/x');
    $x->response;
    is($x->{body}, 'fine', "$what: it works");
}


sub rss {
    my ($kib) = slurp('/proc/' . $a->pid . '/status') =~ /^VmRSS:\s+(\d+)/m;
    return $kib;
}


works('at first');


# what is wrong with one request concerns that request

sub send_bad {
    my (@fields) = @_;

    my $id = $h->{next_id};
    my $x = $h->_stream($id);

    $h->{next_id} += 2;
    $x->fields(literal(map { split(/=/, $_, 2) } @fields), end => 1);

    return $x;
}

my @good = (':method=GET', ':scheme=http', ':path=/bad', ':authority=h');

for my $case ([ 'no :path', @good[0, 1, 3] ],
              [ 'two :method', $good[0], @good ],
              [ 'an unknown pseudo field', @good, ':what=x' ],
              [ 'a pseudo field behind others', @good[0 .. 2], 'x=y', $good[3] ],
              [ 'an upper-case name', @good, 'X-Upper=x' ],
              [ 'Connection', @good, 'connection=close' ],
              [ 'Transfer-Encoding', @good, 'transfer-encoding=chunked' ],
              [ 'a line feed', @good, "x=a\nEvil: b" ],
              [ 'a carriage return', @good, "x=a\rb" ],
              [ 'a zero byte', @good, "x=a\0b" ],
              [ 'a control character', @good, "x=a\x01b" ],
              [ 'a space in :path', @good[0, 1], ':path=/a b', $good[3] ],
              [ 'a line feed in :path', @good[0, 1],
                ":path=/ HTTP/1.1\r\nX: y", $good[3] ],
              [ 'no method at all', ':method=', @good[1 .. 3] ],
              [ 'a space in the method', ':method=GET /', @good[1 .. 3] ],
              [ 'two lengths', @good, 'content-length=3',
                'content-length=4' ],
              [ 'a length that is none', @good, 'content-length=-1' ],
              [ ':protocol without CONNECT', @good, ':protocol=websocket' ],
              [ 'CONNECT', ':method=CONNECT', ':authority=h:80' ],
              [ 'another protocol', ':method=CONNECT', @good[1 .. 3],
                ':protocol=connect-udp' ])
{
    my ($what, @fields) = @$case;

    $b->clear_notes;
    my $x = send_bad(@fields);
    ok($h->wait(sub { defined $x->{reset} || $x->{ended} || $h->{closed} }, 5),
       "$what: it is answered");
    ok(defined $x->{reset} || ($x->{status} || 0) =~ /^[45]/, 'by a refusal');
    ok(!$h->{closed}, 'the connection stays');
    ok(!grep({ m{/bad|/a|evil}i } $b->notes), 'the backend does not see it');
}
works('after all of these');

my $x = $h->request('GET', '/x', headers => [ map { "X-$_: " . 'y' x 3000 }
                                              1 .. 30 ]);
ok($h->wait(sub { $x->{ended} || defined $x->{reset} }, 5),
   'too large a head');
is($x->{status}, 431, 'is answered 431');
works('after it');


# what is wrong with the connection ends it, and another one is made

my $before = rss();

my @case = (
    [ 'garbage', sub { $h->raw('garbage' x 10) } ],
    [ 'a frame that is too large',
      sub { $h->raw(pack('CnCCN', 1, 0, DATA, 0, 1) . 'x' x 65536) } ],
    [ 'DATA of a stream that is not there',
      sub { $h->send(DATA, 0, 999, 'x') } ],
    [ 'a bad header block', sub { $h->send(HEADERS, END_HEADERS, 1001,
                                           "\xff\xff\xff\xff\xff") } ],
    [ 'CONTINUATION alone', sub { $h->send(CONTINUATION, 0, 1003, 'x') } ],
    [ 'an even stream', sub { $h->send(HEADERS, END_HEADERS, 2, "\x82") } ],
    [ 'bad SETTINGS', sub { $h->send(SETTINGS, 0, 0, pack('nN', 5, 1)) } ],
    [ 'a window beyond all bounds',
      sub { $h->window(0, 0x7fffffff) for 1, 2 } ],
    [ 'a flood of PING', sub { flood(sub { $h->ping('12345678') }) } ],
    [ 'a flood of SETTINGS',
      sub { flood(sub { $h->send(SETTINGS, 0, 0, '') }) } ],
    [ 'a flood of empty DATA', sub {
        my $x = $h->request('POST', '/wait', hold => 1);
        flood(sub { $h->send(DATA, 0, $x->{id}, '') });
    } ],
    [ 'endless CONTINUATION', sub {
        $h->send(HEADERS, 0, 100001, "\x82");
        flood(sub { $h->send(CONTINUATION, 0, 100001,
                             literal('x', 'y' x 1000)) });
    } ],
);

sub flood {
    my ($one) = @_;

    for (1 .. 5000) {
        last if $h->{closed};
        eval { $one->(); 1 } or last;
        $h->drain(0) if $_ % 50 == 0;
    }
}

for my $case (@case) {
    my ($what, $do) = @$case;

    eval { $do->() };
    $h->drain(0.1);
    ok($h->wait_end(10), "$what: the connection ends") or diag($a->log);
    $h = $p->dialled(timeout => 20);
    works($what);
}

for my $what ('FRAME_SIZE_ERROR', 'COMPRESSION_ERROR', 'FLOW_CONTROL_ERROR',
              'too many empty DATA frames',
              '(?:Flooding was detected|too many PING frames)',
              'Too many CONTINUATION frames')
{
    like($a->log, qr/lost: .*$what/, "the log: $what");
}


# Clients that go away are resets as well: the agent takes its time over very
# many of them, and the connection stays as it is that of others, too.

my $long = $h->request('GET', '/long');
ok($long->head, 'somebody\'s long response begins');
my $began = now();
flood(sub {
    my $x = $h->request('GET', '/wait');
    $x->rst(CANCEL);
});
works('streams reset as soon as they are opened');
cmp_ok(now() - $began, '>', 2, 'not all of them at once');
spew($go, '');
ok($long->response, 'the long response comes to its end');
is($long->{body}, 'longlong', 'and is whole');
like($a->log, qr/resets very many streams/, 'the log says so');

cmp_ok(rss() - $before, '<', 8192, 'nothing is left of all this')
    if !$ENV{INVERTING_PROXY_PRELOAD} && !$ENV{INVERTING_PROXY_VALGRIND};


# one that sends and does not read

$h->settings(INITIAL_WINDOW_SIZE => 0x7fffffff);
$h->window(0, 0x7f000000);
$before = rss();
eval { $h->request('GET', '/x') for 1 .. 90 };
nap(0.5);
cmp_ok(rss() - $before, '<', 16384, 'what it does not read is not piled up')
    if !$ENV{INVERTING_PROXY_PRELOAD} && !$ENV{INVERTING_PROXY_VALGRIND};
$h->close;
$h = $p->dialled(timeout => 20);
works('at last');
is(scalar($a->stop), 0, 'it ends well');

$t->done(idle => 0);
