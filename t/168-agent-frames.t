#!/usr/bin/perl

# What no proxy should send over h2: bad frames of every type, frames of
# streams that are not there, more than the windows allow.  The connection ends
# with a line in the log and another one works, or one stream is reset and the
# others go on; the backend sees nothing of it.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

my $t = InvertingProxy::Test->new;
my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->note($req->{start});

    if ($req->{target} =~ m{^/hold}) {
        $c->wait_end(60);
        $c->note("gone $req->{target}");
        return 0;
    }

    $c->read_body($req);
    return $c->respond(200, [], "fine $req->{body}");
});
my $p = $t->ptth_proxy;
my $a = $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
                  host => $b->address, wait => 0,
                  args => [ '-debug', '-max-concurrency=50' ]);

# One connection that nothing happens to, so that the other is dialled again
# without a pause.
my $well = $p->dialled(worker => '0/2');
my $h = dialled();


sub dialled { return $p->dialled(worker => '1/2', timeout => 20, @_) }

sub works {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $x = $h->request('POST', '/x', body => 'y')->response;
    is($x && $x->{body}, 'fine y', "$name: it works");
}

sub rss {
    my ($kib) = slurp('/proc/' . $a->pid . '/status') =~ /^VmRSS:\s+(\d+)/m;
    return $kib;
}

# The connection ends; what was open on it is given up, and the log says why.

sub over {
    my ($name, $before, $why) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok($h->wait_end(10), "$name: the connection ends");
    ok(waitfor(sub { substr($a->log, $before) =~ /lost: .*$why/ }, 10),
       "$name: the log says why") or diag(substr($a->log, $before));
    ok($b->wait_note(qr/^gone/), "$name: what was open is given up");
    ok(!grep({ /evil/ } $b->notes), "$name: the backend does not see it");
    $h->close;
    $h = dialled();
    works($name);
    $well->drain(0.001);
}

sub open_one {
    $b->clear_notes;
    my $x = $h->request('POST', '/hold', hold => 1);
    $b->wait_note(qr{/hold}) or die "the request does not come\n";

    return $x;
}

sub settings { return frame(SETTINGS, 0, 0, settings_payload(@_)) }

works('at first');
my $memory = rss();

my @request = (':method' => 'GET', ':scheme' => 'http', ':path' => '/evil',
               ':authority' => 'h');
my $head = literal(@request);


# One frame that is wrong, for the connection: the stream $_[0] is open, the
# next would be $_[0] + 2.

my $rules = 'PROTOCOL_ERROR';
my $size = 'FRAME_SIZE_ERROR';
my $flow = 'FLOW_CONTROL_ERROR';
my $hpack = 'COMPRESSION_ERROR';

for my $case (
    [ 'DATA on no stream'       => $rules, sub { frame(DATA, 0, 0, 'evil') } ],
    [ 'DATA on an idle stream'  => $rules,
      sub { frame(DATA, 0, 99, 'evil') } ],
    [ 'DATA on an even stream'  => $rules, sub { frame(DATA, 0, 2, 'evil') } ],
    [ 'DATA after the end'      => 'STREAM_CLOSED',
      sub { frame(DATA, END_STREAM, $_[0], '')
            . frame(DATA, END_STREAM, $_[0], 'evil') } ],
    [ 'HEADERS on no stream'    => $rules,
      sub { frame(HEADERS, END_HEADERS, 0, $head) } ],
    [ 'HEADERS on an even stream' => $rules,
      sub { frame(HEADERS, END_HEADERS, 2, $head) } ],
    [ 'HEADERS after the end'   => 'STREAM_CLOSED',
      sub { frame(DATA, END_STREAM, $_[0], '')
            . frame(HEADERS, END_HEADERS | END_STREAM, $_[0],
                    literal(x => 'evil')) } ],
    [ 'PUSH_PROMISE'            => $rules,
      sub { frame(PUSH_PROMISE, END_HEADERS, $_[0], pack('N', 2) . $head) } ],
    [ 'CONTINUATION of nothing' => $rules,
      sub { frame(CONTINUATION, END_HEADERS, $_[0], $head) } ],
    [ 'DATA inside HEADERS'     => $rules,
      sub { frame(HEADERS, 0, $_[0] + 2, $head)
            . frame(DATA, 0, $_[0], 'evil') } ],
    [ 'PING inside HEADERS'     => $rules,
      sub { frame(HEADERS, 0, $_[0] + 2, $head)
            . frame(PING, 0, 0, 'x' x 8) } ],
    [ 'CONTINUATION of another' => $rules,
      sub { frame(HEADERS, 0, $_[0] + 2, $head)
            . frame(CONTINUATION, END_HEADERS, $_[0], '') } ],
    [ 'padding over all'        => $rules,
      sub { frame(DATA, PADDED, $_[0], "\x05evil") } ],
    [ 'padding of nothing'      => "(?:$size|$rules)",
      sub { frame(DATA, PADDED, $_[0], '') } ],
    [ 'padding over a head'     => $rules,
      sub { frame(HEADERS, END_HEADERS | PADDED, $_[0] + 2, "\xff$head") } ],
    [ 'half a priority'         => $size,
      sub { frame(HEADERS, END_HEADERS | WITH_PRIORITY, $_[0] + 2, "\0\0") } ],
    [ 'a stream that depends on itself' => $rules,
      sub { frame(HEADERS, END_HEADERS | WITH_PRIORITY, $_[0] + 2,
                  pack('NC', $_[0] + 2, 1) . $head) } ],
    [ 'RST_STREAM on no stream' => $rules,
      sub { frame(RST_STREAM, 0, 0, pack('N', 8)) } ],
    [ 'RST_STREAM, idle'        => $rules,
      sub { frame(RST_STREAM, 0, 99, pack('N', 8)) } ],
    [ 'a short RST_STREAM'      => $size,
      sub { frame(RST_STREAM, 0, $_[0], "\0\0\0") } ],
    [ 'SETTINGS on a stream'    => $rules,
      sub { frame(SETTINGS, 0, $_[0], '') } ],
    [ 'half a setting'          => $size,
      sub { frame(SETTINGS, 0, 0, "\0\1\0\0\0") } ],
    [ 'an ACK with settings'    => $size,
      sub { frame(SETTINGS, ACK, 0, "\0\1\0\0\0\0") } ],
    [ 'an ACK too many'         => $rules,
      sub { frame(SETTINGS, ACK, 0) x 3 } ],
    [ 'a push of two'           => $rules,
      sub { settings(ENABLE_PUSH => 2) } ],
    [ 'too large a window'      => $flow,
      sub { settings(INITIAL_WINDOW_SIZE => 0x80000000) } ],
    [ 'too small a frame size'  => $rules,
      sub { settings(MAX_FRAME_SIZE => 16383) } ],
    [ 'too large a frame size'  => $rules,
      sub { settings(MAX_FRAME_SIZE => 0x1000000) } ],
    [ 'a thousand settings'     => '(?:ENHANCE|SETTINGS|flood|too many)',
      sub { frame(SETTINGS, 0, 0, pack('nN', 0x4242, 1) x 1000) } ],
    [ 'PING on a stream'        => $rules,
      sub { frame(PING, 0, $_[0], 'x' x 8) } ],
    [ 'a short PING'            => $size,
      sub { frame(PING, 0, 0, 'x' x 7) } ],
    [ 'a long PING'             => $size,
      sub { frame(PING, 0, 0, 'x' x 9) } ],
    [ 'GOAWAY on a stream'      => $rules,
      sub { frame(GOAWAY, 0, $_[0], pack('NN', 0, 0)) } ],
    [ 'a short GOAWAY'          => $size,
      sub { frame(GOAWAY, 0, 0, "\0\0\0") } ],
    [ 'WINDOW_UPDATE of nothing' => $rules,
      sub { frame(WINDOW_UPDATE, 0, 0, pack('N', 0)) } ],
    [ 'WINDOW_UPDATE of nothing, of a stream' => $rules,
      sub { frame(WINDOW_UPDATE, 0, $_[0], pack('N', 0)) } ],
    [ 'WINDOW_UPDATE too much'  => $flow,
      sub { frame(WINDOW_UPDATE, 0, 0, pack('N', 0x7fffffff)) } ],
    [ 'WINDOW_UPDATE, idle'     => $rules,
      sub { frame(WINDOW_UPDATE, 0, 99, pack('N', 1)) } ],
    [ 'a short WINDOW_UPDATE'   => $size,
      sub { frame(WINDOW_UPDATE, 0, 0, "\0\0\1") } ],
    [ 'a short PRIORITY'        => $size,
      sub { frame(PRIORITY, 0, $_[0], "\0\0\0\0") } ],
    [ 'PRIORITY on no stream'   => $rules,
      sub { frame(PRIORITY, 0, 0, "\0" x 5) } ],
    [ 'a frame of 16 MiB'       => $size,
      sub { "\xff\xff\xff" . pack('CCN', 0, 0, $_[0]) . 'evil' x 16384 } ],
    [ 'a table index'           => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2, "\xff\xff\xff\x03") } ],
    [ 'index zero'              => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2, "\x80") } ],
    [ 'an endless number'       => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2, "\xff" x 50 . "\0") } ],
    [ 'a table of 1 GiB'        => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2,
                  "\x3f\xe1\xff\xff\xff\x03$head") } ],
    [ 'a late table size'       => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2, "$head\x20") } ],
    [ 'a string past the end'   => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2, "\0\x03x-a\x7fevil") } ],
    [ 'EOS in Huffman'          => $hpack,
      sub { frame(HEADERS, END_HEADERS, $_[0] + 2,
                  "\0\x01a\x84" . "\xff" x 4) } ],
    [ 'the preface again'       => '', sub { PREFACE } ],
    [ 'HTTP/1.1'                => '',
      sub { "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n" } ],
    [ 'TLS'                     => '',
      sub { "\x16\x03\x01\x02\0\x01\0\x01\xfc" . 'evil' x 100 } ],
    [ 'zeroes'                  => '',
      sub { "\0" x 4096 . "\xff" x 4096 } ],
) {
    my ($name, $why, $bytes) = @$case;
    my $x = open_one();
    my $before = length $a->log;

    $h->raw($bytes->($x->{id}));
    over($name, $before, $why);
}


# Before SETTINGS

for my $case ([ 'HEADERS first', frame(HEADERS, 5, 1, $head) ],
              [ 'PING first', frame(PING, 0, 0, 'x' x 8) ],
              [ 'an ACK first', frame(SETTINGS, ACK, 0) ])
{
    my ($name, $bytes) = @$case;

    $h->close;
    $h = dialled(start => 0);
    my $before = length $a->log;
    $h->raw(PREFACE . $bytes);
    ok($h->wait_end(10), "$name: the connection ends");
    ok(waitfor(sub { substr($a->log, $before) =~ /lost: the proxy breaks/ },
               10), "$name: the log says why");
    $h->close;
    $h = dialled();
    works($name);
}


# One stream, and no other

for my $case (
    [ 'too much window'          => sub { $_[0]->grant(0x7fffffff) } ],
    [ 'DATA beyond the window'   => sub {
        $h->send(DATA, 0, $_[0]{id}, 'x' x 16384) for 1 .. 20;
    } ],
    [ 'trailers without an end'  => sub {
        $_[0]->fields(literal(x => 'evil'));
    } ],
    [ 'trailers with a pseudo field' => sub {
        $_[0]->fields(literal(':path' => '/evil'), end => 1);
    } ],
    [ 'trailers with Transfer-Encoding' => sub {
        $_[0]->fields(literal('transfer-encoding' => 'chunked'), end => 1);
    } ],
    [ 'trailers with a line feed' => sub {
        $_[0]->fields(literal(x => "y\r\nevil: 1"), end => 1);
    } ],
) {
    my ($name, $do) = @$case;
    my $x = open_one();
    my $other = $h->request('POST', '/x', hold => 1);

    $do->($x);
    ok($x->wait_reset(10), "$name: the stream is reset") or diag($a->log);
    ok($b->wait_note(qr/^gone/), "$name: the backend is told");
    $other->data('z', end => 1);
    is($other->response && $other->{body}, 'fine z', "$name: others go on");
    ok(!defined $h->{closed} && !$h->{goaway}, "$name: on this connection");
}

# More DATA than was announced, or less: the backend does not see a request
# that looks whole.

for my $case ([ 'more', 3, 'abcd' ], [ 'less', 5, 'abcd' ],
              [ 'none', 5, '' ])
{
    my ($what, $length, $body) = @$case;

    $b->clear_notes;
    my $x = $h->request('POST', '/x', length => $length, hold => 1);
    $x->data($body, end => 1);
    ok($x->wait_reset(10), "$what than was announced: it is reset");
    works("$what than was announced");
}

# Streams beyond the limit that was announced, of each connection: that is
# against the rules.  Of both together: those that are too many may go
# elsewhere.

$b->clear_notes;
my $before = length $a->log;
my @x = map { $h->request('GET', '/hold') } 1 .. 80;
over('too many streams', $before, $rules);

@x = map { $well->request('GET', '/hold/both') } 1 .. 30;
ok(waitfor(sub { 30 == grep { m{^GET /hold/both} } $b->notes }, 20),
   'thirty streams');
push @x, map { $h->request('GET', '/hold/both') } 1 .. 40;
ok($h->wait(sub { 20 <= grep { defined $_->{reset} } @x }), 'too many of all');
is_deeply([ map { $_->{reset} } @x ],
          [ (undef) x 50, (REFUSED_STREAM) x 20 ], 'those are refused');
ok(waitfor(sub { 50 == grep { m{^GET /hold/both} } $b->notes }, 20),
   'the others are not');
$_->rst(CANCEL) for @x[0 .. 49];
ok(waitfor(sub { 50 == grep { m{^gone /hold/both} } $b->notes }, 20),
   'and are ended');
works('too many of all');

# What is sent on streams that are over is dropped, and its window comes back.

my $closed = $h->request('POST', '/hold', hold => 1);
$closed->rst(CANCEL);
$h->send(DATA, 0, $closed->{id}, 'x' x 16384) for 1 .. 1500;
$h->send(WINDOW_UPDATE, 0, $closed->{id}, pack('N', 1));
$h->send(RST_STREAM, 0, $closed->{id}, pack('N', 8));
works('DATA for a stream that is over');
is($h->{closed}, undef, 'on the same connection');

# Padding is window that nobody takes: it comes back, too.

my $padded = $h->request('POST', '/x', hold => 1);
for (1 .. 10) {
    my $granted = $padded->{granted};
    $h->send(DATA, PADDED, $padded->{id}, "\xffz" . "\0" x 255) for 1 .. 140;
    $h->wait(sub { $padded->{granted} > $granted || $padded->{closed} })
        or last;
}
$h->send(DATA, END_STREAM, $padded->{id}, '');
is($padded->response && $padded->{body}, 'fine ' . 'z' x 1400,
   'padding comes back as window');

# As are streams that go backwards.

my $skipped = $h->{next_id};
$h->{next_id} += 4;
works('a stream that is left out');
$b->clear_notes;
$h->send(HEADERS, END_HEADERS | END_STREAM, $skipped, $head);
works('and comes late');
ok(!grep({ /evil/ } $b->notes), 'the backend does not see it');

# Frames that nobody knows are nothing.

$h->send(0x42, 0xff, 0, 'what') for 1 .. 100;
$h->send(0x42, 0xff, $_ * 2 + 1, '') for 1 .. 100;
works('unknown frames');


# Floods of what costs the proxy little

sub flood {
    my ($one, $n) = @_;

    for (1 .. ($n || 6000)) {
        last if defined $h->{closed};
        eval { $one->($_); 1 } or last;
        $h->drain(0.001) if $_ % 50 == 0;
    }
}

for my $case (
    [ 'PRIORITY' => 'PRIORITY', sub {
        $h->send(PRIORITY, 0, 2 * $_[0] + 100_001, pack('NC', 0, 1));
    } ],
    [ 'empty CONTINUATION' => 'CONTINUATION', sub {
        $h->send($_[0] == 1 ? HEADERS : CONTINUATION, 0, 1001, '');
    } ],
    [ 'heads that are too large' => 'CONTINUATION', sub {
        $h->send($_[0] == 1 ? HEADERS : CONTINUATION, 0, 1001,
                 literal(x => 'y' x 16000));
    } ],
) {
    my ($name, $why, $one) = @$case;
    my $before;

    open_one();
    $before = length $a->log;
    flood($one);
    over("a flood of $name", $before, "(?:$why)");
}

# Streams that are wrong each cost the agent no more than the proxy.

$b->clear_notes;
flood(sub {
    my $x = $h->_stream($h->{next_id});
    $h->{next_id} += 2;
    $x->fields(literal(@request, connection => 'close'), end => 1);

    # No more at once than the agent allows: that would be another error.
    $x->wait_reset if $_[0] % 20 == 0;
}, 3000);
works('thousands of bad requests');
ok(!grep({ /evil/ } $b->notes), 'of which the backend sees none');

cmp_ok(rss() - $memory, '<', 8192, 'nothing is left of all this')
    if !$ENV{INVERTING_PROXY_PRELOAD} && !$ENV{INVERTING_PROXY_VALGRIND};

my $last = $well->request('POST', '/x', body => 'y')->response;
is($last && $last->{body}, 'fine y', 'the other connection is still there');
is(scalar($a->stop), 0, 'it ends well');
$t->done(idle => 0);
