#!/usr/bin/perl

# The agent's other two calls against a proxy that lies: fetching, and posting.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req);
    $c->note("$req->{method} $req->{target} " . ($req->{cut} ? 'cut'
                                                             : 'whole'));
    return 0 if $req->{cut};

    return $c->respond(200, [], 'x' x $1) if $req->{target} =~ m{^/size/(\d+)};

    if ($req->{target} =~ m{^/parts/(\d+)}) {
        $c->head(200, [ "Content-Length: " . ($1 + 3) ], with => 'x' x $1);
        nap(0.5);
        $c->write('end');
        return 1;
    }

    if ($req->{target} =~ m{^/after/([\w-]+)}) {
        # a little, and very much more when that was refused twice
        my $refused = "$t->{dir}/calls/$1.response.1";

        $c->head(200, [ 'Content-Length: 1000003' ], with => 'one');
        waitfor(sub { -d $refused || nap(0.005) });
        nap(0.05);      # it is counted before it is answered
        $c->write('x' x 1_000_000);
        return 1;
    }

    return $c->respond(200, [], $req->{body});
});

# Each ID is a plan for what comes of it: files in a folder count the calls.

my $dir = "$t->{dir}/calls";
mkdir($dir);


sub count {
    my ($id, $call) = @_;

    my $n = 0;
    $n++ while !mkdir("$dir/$id.$call.$n");

    return $n + 1;
}


my @start = ('X-Inverting-Proxy-Request-Start-Time: 2026-01-01T00:00:00.0Z');
my $p;

$p = $t->stand_in(hold => 0.5, request => sub {
    my ($c, $req, $proxy) = @_;

    my $id = $req->header('X-Inverting-Proxy-Request-ID');
    my $n = count($id, 'request');
    my $plan = slurp("$proxy->{spool}/$id.request");

    return $proxy->request_default($c, $id) if $plan !~ /^PLAN ([^\n]*)\n(.*)/s;
    my ($what, $message) = ($1, $2);

    if ($what =~ /^fails (\d+) (\S+)/) {
        if ($n <= $1) {
            return 0 if $2 eq 'close';
            return $c->reset if $2 eq 'reset';
            return $c->respond($2, [], 'no');
        }

        return $c->respond(200, \@start, $message);
    }

    if ($what eq 'cut') {
        $c->head(200, [ @start, 'Content-Length: 100000' ]);
        $c->write($message);
        nap(0.2);
        return 0;
    }

    return $c->respond(200, \@start, $message) if $what eq 'plain';
    return $c->respond(200, [], $message) if $what eq 'no-time';

    die "no such plan: $what";

}, response => sub {
    my ($c, $req, $proxy) = @_;

    my $id = $req->header('X-Inverting-Proxy-Request-ID');
    my $n = count($id, 'response');
    my $plan = slurp("$dir/$id.post");

    return $proxy->response_default($c, $req, $id)
        if $plan eq '' || $plan !~ /^(\d+) (\w+)/ || $n > $1;

    my $how = $2;

    if ($how eq 'close') {
        # when more is there than can be sent again, or all of it
        my $got = 0;
        $c->body_start($req);

        while (defined(my $piece = $c->body_piece)) {
            last if ($got += length $piece) > 4096;
        }

        return $c->reset && 0;
    }

    if ($how eq 'late') {
        $c->read_body($req);
        return $c->respond(503, [], 'no');
    }

    return $c->respond($how, [], 'no') && 0;
});

my $a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
                  wait => 0);


sub add {
    my ($what, $message) = @_;
    return $p->add("PLAN $what\n" . $message);
}


# Posts are planned before the ID can be told.

sub plan_post {
    my ($post, $message) = @_;

    my $id = sprintf('id-%04d', $p->{count} + 1);
    spew("$dir/$id.post", $post);

    return $p->add($message);
}


sub calls {
    my ($id, $call) = @_;
    my @all = glob("$dir/$id.$call.*");
    return scalar @all;
}


my $get = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";


# fetching

my $id = add('plain', $get);
my $m = $p->wait_response($id);
is($m->{status}, 200, 'a plain one');

$id = add('no-time', $get);
$m = $p->wait_response($id);
is($m->{status}, 200, 'without a start time');

for my $how ('close', 'reset', 500, 503) {
    $id = add("fails 2 $how", $get);
    $m = $p->wait_response($id);
    is($m && $m->{status}, 200, "a fetch fails twice, $how");
    cmp_ok(calls($id, 'request'), '>=', 3, 'at the third');

    $id = add("fails 99 $how", $get);
    waitfor(sub { calls($id, 'request') >= 3 });
    nap(0.5);

    # one more each time that a connection that was kept turns out to be closed
    my $calls = calls($id, 'request');
    ok($calls == 3 || ($how =~ /^\D/ && $calls > 3 && $calls <= 6),
       "a fetch fails always, $how: $calls calls");
    is(calls($id, 'response'), 0, 'nothing is posted');
}

for my $status (400, 401, 403, 404, 302) {
    $id = add("fails 99 $status", $get);
    waitfor(sub { calls($id, 'request') == 1 });
    nap(0.3);
    is(calls($id, 'request'), 1, "a fetch is answered $status: one call");
}


# what is fetched

$b->clear_notes;

for my $case ([ 'nothing', '' ], [ 'garbage', "hello\r\n\r\n" ],
              [ 'a response', "HTTP/1.1 200 OK\r\n\r\n" ],
              [ 'half a head', "GET / HTTP/1.1\r\nHost" ],
              [ 'HTTP/2.0', "GET / HTTP/2.0\r\nHost: h\r\n\r\n" ],
              [ 'a space in the target', "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"
              ],
              [ 'a control character', "GET / HTTP/1.1\r\nX: \x01\r\n\r\n" ],
              [ 'a bare CR', "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n" ],
              [ 'a folded line', "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n" ],
              [ 'a space before a colon', "GET / HTTP/1.1\r\nX : a\r\n\r\n" ],
              [ 'no colon', "GET / HTTP/1.1\r\nhello\r\n\r\n" ],
              [ 'two hosts', "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" ],
              [ 'two lengths', "PUT / HTTP/1.1\r\nContent-Length: 1\r\n"
                . "Content-Length: 2\r\n\r\nab" ],
              [ 'two framings', "PUT / HTTP/1.1\r\nContent-Length: 1\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" ],
              [ 'a bad length', "PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n" ],
              [ 'an endless head', "GET / HTTP/1.1\r\nX: " . 'x' x 1_000_000 ],
              [ 'CONNECT', "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 501 ])
{
    my ($what, $message, $status) = @$case;

    $m = $p->wait_response(add('plain', $message));
    is($m && $m->{status}, $status || 502, "$what: refused");
}

is_deeply([ $b->notes ], [], 'the backend has seen nothing of them');

for my $case ([ 'a short body', "PUT / HTTP/1.1\r\nHost: h\r\n"
                . "Content-Length: 10\r\n\r\nfive!" ],
              [ 'half a chunk', "PUT / HTTP/1.1\r\nHost: h\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n10\r\nfive!" ],
              [ 'a bad chunk', "PUT / HTTP/1.1\r\nHost: h\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\nhello\r\n"
              ])
{
    my ($what, $message) = @$case;

    $b->clear_notes;
    $m = $p->wait_response(add('plain', $message));
    is($m && $m->{status}, 502, "$what: refused");
    nap(0.1);
    ok(!grep({ /whole/ } $b->notes), 'the backend does not see it whole');
}

$b->clear_notes;
$id = add('cut', "PUT /breaks HTTP/1.1\r\nHost: h\r\n"
                 . "Content-Length: 10\r\n\r\nfive");
ok($b->wait_note(qr/^PUT \/breaks cut$/), 'a fetch breaks in its body: a cut');
nap(0.2);
is(calls($id, 'request'), 1, 'it is not fetched again');


# posting

for my $how ('close', 'late', 500, 503) {
    $id = plan_post("2 $how", "GET /size/100 HTTP/1.1\r\nHost: h\r\n\r\n");
    $m = $p->wait_response($id);
    is($m && $m->{body}, 'x' x 100, "a POST fails twice, $how");
    is(calls($id, 'response'), 3, 'three calls');

    $id = plan_post("99 $how", "GET /size/100 HTTP/1.1\r\nHost: h\r\n\r\n");
    waitfor(sub { calls($id, 'response') == 3 });
    nap(0.6);
    is(calls($id, 'response'), 3, "a POST fails always, $how: three calls");

    $id = plan_post("99 $how", "GET /parts/10000 HTTP/1.1\r\nHost: h\r\n\r\n");
    waitfor(sub { calls($id, 'response') == 1 });
    nap(1);

    # what is refused before more than a little was sent can be sent again
    my $calls = calls($id, 'response');
    ok($how =~ /^5/ ? $calls >= 1 : $calls == 1,
       "a POST of more than 4096 bytes fails, $how: $calls calls");
}

# What comes between two tries is all taken at once by a connection that is
# there already: the backend, held back until then, must be let go on.
$p->wait_response($_) for map { $p->add($get) } 1 .. 4;
$id = plan_post('2 503', sprintf("GET /after/id-%04d HTTP/1.1\r\n"
                                 . "Host: h\r\n\r\n", $p->{count} + 1));
$m = $p->wait_response($id);
is(length($m ? $m->{body} : ''), 1_000_003, 'more than the agent keeps of a '
   . 'response, between two tries');
is(calls($id, 'response'), 3, 'three calls');

for my $status (400, 401, 404, 413, 302) {
    $id = plan_post("99 $status", $get);
    waitfor(sub { calls($id, 'response') == 1 });
    nap(0.3);
    is(calls($id, 'response'), 1, "a POST is answered $status: one call");
}


# after all that

$m = $p->wait_response($p->add($get));
is($m && $m->{status}, 200, 'it works');
cmp_ok(scalar(() = $a->log =~ /\n/g), '<', 20, 'and has not said much')
    or diag($a->log);
is(scalar($a->stop), 0, 'it ends well');

$t->done;
