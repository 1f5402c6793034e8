#!/usr/bin/perl

# The agent and a proxy that is away, slow, or lies.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    $c->note("$req->{method} $req->{target}" . ($req->{cut} ? ' cut' : ''));
    return $c->respond(200, [], $req->{body}) if !$req->{cut};
});

my $get = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";


sub lines {
    my ($a, $regex) = @_;
    return scalar(() = $a->log =~ /$regex/g);
}


# It still does its work.

sub works {
    my ($p, $what) = @_;

    my $m = $p->wait_response($p->add($get));
    is($m && $m->{status}, 200, "$what: it works");
}


# away, from the first moment; there; away; there again

my $p = $t->stand_in(hold => 1, start => 0);
$p->stop;

my $a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
                  wait => 0);
ok($a->wait_log(qr/\[warn\] proxy unreachable: /), 'the proxy is away');
nap(1);
is(lines($a, 'proxy unreachable'), 1, 'one line');
$p->start;
ok($a->wait_log(qr/connected to proxy/, 6), 'it comes');
works($p, 'there');
is(lines($a, 'connected to proxy'), 1, 'one line');
$p->stop;
ok(waitfor(sub { lines($a, 'proxy unreachable') == 2 }), 'it goes');
nap(1);
$p->start;
works($p, 'there again');
ok(waitfor(sub { lines($a, 'connected to proxy') == 2 }), 'a line each time');
is(lines($a, 'proxy unreachable'), 2, 'and no more');
is(scalar($a->stop), 0, 'it ends well');


# away, and then it is there and refuses: what is wrong is another thing now

for my $transport (qw(poll ptth)) {
    my $refusing = $t->backend(sub {
        my ($c, $req) = @_;
        return $c->respond(401, [], 'no');
    }, start => 0);

    $a = $t->agent(proxy => 'http://' . $refusing->address, backend => 'b',
                   host => $b->address, transport => $transport, wait => 0);
    ok($a->wait_log(qr/proxy unreachable: Connection refused/),
       "$transport: the proxy is away");
    $refusing->start;
    ok($a->wait_log(qr/proxy unreachable: it answers 401/), 'it refuses');
    $refusing->stop;
    nap(1);
    is(lines($a, 'proxy unreachable'), 2, 'not a line for each change');
    is(scalar($a->stop), 0, 'it ends well');
}


# away, and then it is there, but its certificate is none for us

my @cert = $t->certificate_for('localhost');

for my $transport (qw(poll ptth)) {
    my $strange = $t->backend(sub { 0 }, start => 0, tls => \@cert);

    $a = $t->agent(proxy => 'https://' . $strange->address, backend => 'b',
                   host => $b->address, transport => $transport, wait => 0);
    ok($a->wait_log(qr/proxy unreachable: .*(?:refused|connect)/),
       "$transport: the proxy is away");
    $strange->start;
    ok($a->wait_log(qr/proxy unreachable: .*certificate/, 20), 'it is strange');
    is(lines($a, 'proxy unreachable'), 2, 'a line for each');
    is(scalar($a->stop), 0, 'it ends well');
}


# what polls may be answered: the state is the spool's, a file says which

my $mode = "$t->{dir}/mode";


sub mode { spew("$mode.new", $_[0]); rename("$mode.new", $mode) }


mode('');

$p = $t->stand_in(hold => 0.2, pending => sub {
    my ($c, $req, $proxy) = @_;

    my $what = slurp($mode);

    return $proxy->pending_default($c) if $what eq '';

    my ($status, $rest) = $what =~ /^(\d+) (.*)$/s or do {
        $c->write($what);
        return 0;
    };

    my @h = $status =~ /^3/ ? ('Location: http://elsewhere.example/') : ();

    return $c->respond($status, \@h, $rest);
});

$a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
               wait => 0);
works($p, 'at first');

for my $case ([ 'no JSON', '200 hello' ], [ 'HTML', '200 <html>' ],
              [ 'an object', '200 {"a":"b"}' ], [ 'numbers', '200 [1,2]' ],
              [ 'a list in a list', '200 [["a"]]' ],
              [ 'half a list', '200 ["a",' ],
              [ 'more behind it', '200 [] []' ],
              [ 'deep nesting', '200 ' . '[' x 100_000 ],
              [ 'zero bytes', "200 \0\0\0" ],
              [ 'far too long', '200 [' . ' ' x 2_000_000 . ']' ],
              [ '401', '401 no' ], [ '403', '403 no' ], [ '404', '404 no' ],
              [ '500', '500 no' ], [ '503', '503 no' ],
              [ 'a redirect', '302 moved' ], [ '204', '204 ' ],
              [ 'no HTTP', "hello\r\n\r\n" ],
              [ 'half a head', "HTTP/1.1 200 OK\r\nX: " ],
              [ 'half a body', "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n["
              ],
              [ 'half a chunk', "HTTP/1.1 200 OK\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n5\r\n[" ],
              [ 'bad chunks', "HTTP/1.1 200 OK\r\n"
                . "Transfer-Encoding: chunked\r\n\r\nhello\r\n" ],
              [ 'an endless head', "HTTP/1.1 200 OK\r\n"
                . ("X: " . 'x' x 1000 . "\r\n") x 2000 ])
{
    my ($what, $answer) = @$case;
    my $down = lines($a, 'proxy unreachable');
    my $up = lines($a, 'connected to proxy');

    $p->clear_notes;
    mode($answer);
    ok(waitfor(sub { lines($a, 'proxy unreachable') > $down }),
       "$what: in the log");
    waitfor(sub { $p->notes >= 4 });
    is(lines($a, 'proxy unreachable'), $down + 1, 'one line');
    cmp_ok(scalar($p->notes), '<', 100, 'it backs off');
    mode('');
    works($p, $what);
    is(lines($a, 'connected to proxy'), $up + 1, 'one line');
}

like($a->log, qr/redirect to "http:\/\/elsewhere.example\/"; redirects are not/,
     'the log names where to');
like($a->log, qr/unreachable: it answers 401/, 'and what it was answered');
like($a->log, qr/401 [^\n]*-backend[^\n]*-token-file/, 'and what may be wrong');


# answers that are strange, but good

for my $case ([ 'null', '200 null' ], [ 'nothing', '200 ' ],
              [ 'spaces', "200  \n[ ] \r\n" ],
              [ 'IDs that are none', '200 ["", "a b", "x\ty", "\u0000", "'
                . 'x' x 10000 . '"]' ])
{
    my ($what, $answer) = @$case;
    my $down = lines($a, 'proxy unreachable');

    mode($answer);
    $p->clear_notes;
    nap(0.5);
    my $polls = $p->notes;
    is(lines($a, 'proxy unreachable'), $down, "$what: is an answer");
    cmp_ok($polls, '<', 60, "$polls polls");
    ok(!grep({ /request/ } $p->notes), 'nothing is fetched');
    mode('');
    works($p, $what);
}


# the same IDs on each poll: each is fetched once

# a poll of before may be told of them, too
$p->clear_notes;
my @id = map { $p->add($get) } 1 .. 3;
mode('200 [' . join(',', map { "\"$_\"" } @id, @id, 'unknown') . ']');
ok($p->wait_response($_), "$_ is answered") for @id;
$p->wait_note(qr{/request unknown$});
nap(0.5);

for my $id (@id, 'unknown') {
    is(scalar(grep { $_ eq "GET /agent/request $id" } $p->notes), 1,
       "$id is fetched once");
}

cmp_ok(scalar(grep { m{/pending} } $p->notes), '<', 40,
       'it does not poll like mad');
mode('');
works($p, 'repeated IDs');


# a huge list

my @many = map { sprintf('many-%05d', $_) } 1 .. 5000;
mode('200 [' . join(',', map { "\"$_\"" } @many) . ']');
$p->clear_notes;
ok(waitfor(sub { $p->notes > 1500 }, 30), 'a list of 5000 is worked off');
mode('');
ok(waitfor(sub { (grep { m{/request many} } $p->notes) >= 5000 }, 60),
   'to its end');
works($p, 'a huge list');

is(scalar($a->stop), 0, 'it ends well');


# no answer at all: a poll is given up after -proxy-timeout

$p = $t->stand_in(hold => 0.2, pending => sub {
    my ($c, $req, $proxy) = @_;
    return $proxy->pending_default($c) if $c->{number} > 2;
    $c->wait_end(30);
    return 0;
});
$a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
               args => [ '-proxy-timeout=1s' ], wait => 0);
works($p, 'polls without an answer');
is(lines($a, 'proxy unreachable'), 0, 'which is not the same as away');
is(scalar($a->stop), 0, 'it ends well');


# byte by byte

$p = $t->stand_in(hold => 0.2, pending => sub {
    my ($c, $req, $proxy) = @_;

    return $proxy->pending_default($c) if $c->{number} > 1;
    my $id = $proxy->add($get);
    mkdir("$proxy->{spool}/$id.taken");
    $c->write_slowly("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"
                     . "[\"$id\"]", 1, 0.005);
    return 0;
}, request => sub {
    my ($c, $req, $proxy) = @_;

    my $body = "PUT /slow HTTP/1.1\r\nHost: h\r\n"
               . "Transfer-Encoding: chunked\r\n\r\n"
               . "4\r\nbody\r\n0\r\nX: y\r\n\r\n";
    $c->write_slowly("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        . "X-Inverting-Proxy-Request-Start-Time: 2026-01-01T00:00:00Z\r\n\r\n",
        1, 0.001);

    for my $byte (split(//, $body)) {
        $c->chunk($byte);
        nap(0.002);
    }

    $c->last_chunk;
    return 1;
});
$a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
               wait => 0);
my $m = $p->wait_response('id-0001');
is($m && $m->{body}, 'body', 'byte by byte');
is(scalar($a->stop), 0, 'it ends well');

$t->done;
