#!/usr/bin/perl

# Requests and responses through an agent over PTTH, h2: a proxy by hand, and
# backends that answer as they like.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $work = work_origin();
my $big = 8 * 1024 * 1024 + 3;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{target} =~ m{^/(?:small|up|down|events)/}) {
        return $work->($c, $req);

    } elsif ($req->{target} =~ m{^/raw/(\w+)$}) {
        my %raw = (
            interim => "HTTP/1.1 100 Continue\r\n\r\n"
                       . "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                       . "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate",
            hop => "HTTP/1.1 200 OK\r\nConnection: X-Named, keep-alive\r\n"
                   . "Keep-Alive: timeout=5\r\nX-Named: gone\r\n"
                   . "Proxy-Connection: x\r\nTrailer: X-T\r\nUpgrade: h2c\r\n"
                   . "Transfer-Encoding: chunked\r\n\r\n"
                   . "4\r\nbody\r\n0\r\nX-T: end\r\nX-T: two\r\n\r\n",
            close => "HTTP/1.0 200 OK\r\n\r\nuntil it closes",
            short => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            chunk => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                     . "4\r\nhalf\r\n",
            two => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                   . "Content-Length: 2\r\n\r\nxx",
            both => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                    . "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            garbage => "\0\1\2\3 what\r\n\r\n",
            long => "HTTP/1.1 200 OK\r\nX: " . 'x' x 200_000 . "\r\n\r\n",
            switch => "HTTP/1.1 101 Yes\r\nConnection: upgrade\r\n"
                      . "Upgrade: x\r\n\r\n",
            none => '',
            head => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
            no => "HTTP/1.1 204 No\r\n\r\n",
            # A POST follows: it could not be sent again if it met the end.
            same => "HTTP/1.1 304 Same\r\nETag: \"x\"\r\n"
                    . "Connection: close\r\nContent-Length: 100\r\n\r\n",
            fields => "HTTP/1.1 200 OK\r\nX-Same: 1\r\nSet-Cookie: a=b\r\n"
                      . "X-Same: 2\r\nSet-Cookie: c=d\r\nX-Empty:\r\n"
                      . "X-High: \xe4\r\nServer: s/1\r\n"
                      . "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                      . "Content-Length: 0\r\n\r\n",
        );
        $c->read_body($req);
        $c->write($raw{$1});
        return 0;

    } elsif ($req->{target} =~ m{^/fields/(\d+)/(\d+)$}) {
        $c->read_body($req);
        return $c->respond(200, [ map { "X-$_: " . 'y' x $2 } 1 .. $1 ], '');

    } elsif ($req->{target} eq '/hold') {
        $c->note('held');
        my $end = $c->wait_end(20);
        $c->note('client ' . (defined $end ? $end : 'stays'));
        return 0;

    } elsif ($req->{target} eq '/early') {
        # What is unread when it closes would take the response along.
        $c->body_start($req);
        $c->body_piece;
        $c->respond(413, [ 'Connection: close' ], 'too much');
        $c->wait_end(5);
        return 0;
    }

    $c->read_body($req);
    return $c->respond(200, [ 'Content-Type: text/plain' ],
                       "$req->{raw}|$req->{framing}|$req->{body}",
                       head => $req->{method} eq 'HEAD');
});

my $p = $t->ptth_proxy;
my $a = $t->agent(transport => 'auto',
                  proxy => $p->url, backend => 'b', host => $b->address,
                  args => [ '-transport=ptth',
                            '-request-forwarding-timeout=5s',
                            '-proxy-timeout=10s' ]);
my $h = $p->dialled;

sub ask {
    my ($method, $target, %opt) = @_;

    $opt{headers} = [
        'X-Inverting-Proxy-Request-ID: ' . '0' x 32,
        'X-Inverting-Proxy-Request-Start-Time: 2026-01-01T00:00:00.000000001Z',
        @{$opt{headers} || []} ];

    return $h->request($method, $target, %opt);
}

sub goes_on {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    # The backend may still be busy with what was cancelled.
    my $x = ask('GET', '/small/on')->response(60);
    is($x && $x->{body}, 'GET on ', "$name: it goes on");
}


# What reaches the backend

for my $method (qw(GET POST PUT DELETE OPTIONS PATCH PROPFIND BREW)) {
    my $x = ask($method, '/echo?x=y')->response;
    like($x->{body}, qr{^$method /echo\?x=y HTTP/1\.1\r\n}, $method);
    is($x->{status}, 200, "$method: a response");
}

my $x = ask('HEAD', '/echo')->response;
is($x->{status}, 200, 'HEAD');
is($x->{length}, 0, 'HEAD: no body');
cmp_ok($x->header('Content-Length'), '>', 10, 'HEAD: the length of it');

for my $target ('/', '/?', '/a//b/../c/.', '/%2F%2f', '/a%20b?c=%00', '/*',
                '/;x?/', '//x')
{
    $x = ask('GET', $target)->response;
    like($x->{body}, qr{^GET \Q$target\E HTTP/1\.1\r\n}, "target $target");
}

$x = ask('OPTIONS', '*')->response;
like($x->{body}, qr{^OPTIONS \* HTTP/1\.1\r\n}, 'OPTIONS *');

$x = ask('GET', '/echo', authority => 'some.example:81', headers => [
    'X-Same: 1', 'X-Other: 2', 'X-Same: 3', 'X-Empty:', "X-High: \xe4",
    'Cookie: a=b', 'Cookie: c=d', 'TE: trailers', 'X-Forwarded-For: 1.2.3.4',
    'Authorization: Basic eDp5' ])->response;
my $raw = $x->{body};
like($raw, qr/^Host: some\.example:81\r$/mi, 'Host');
is(() = $raw =~ /^Host:/mig, 1, 'once');
like($raw, qr/^X-Same: 1\r\n(?:.*\r\n)*X-Same: 3\r$/mi,
     'repeated fields, in their order');
like($raw, qr/^X-Empty: ?\r$/mi, 'an empty one');
like($raw, qr/^X-High: \xe4\r$/mi, 'a byte above ASCII');
like($raw, qr/^Cookie: a=b; c=d\r$/mi, 'cookies are one field');
like($raw, qr/^X-Forwarded-For: 1\.2\.3\.4\r$/mi, 'X-Forwarded-For');
like($raw, qr/^Authorization: Basic eDp5\r$/mi, 'Authorization');
unlike($raw, qr/^:|^(?:Transfer-Encoding|Content-Length|User-Agent|Accept):/mi,
       'nothing that was not sent');


# Bodies

for my $size (0, 1, 16384, 100_000) {
    for my $chunked (0, 1) {
        my $name = "$size bytes, " . ($chunked ? 'no length' : 'a length');
        my $x = ask('POST', '/up/u', body => body_bytes('u', $size),
                    chunked => $chunked)->response;
        is($x && $x->{body}, "$size " . body_sha256('u', $size), $name);
    }
}

$x = ask('POST', '/echo', body => 'xyz')->response;
like($x->{body}, qr/\|length\|xyz$/, 'a length is a length');
$x = ask('POST', '/echo', body => 'xyz', chunked => 1)->response;
like($x->{body}, qr/\|chunked\|xyz$/, 'none is chunked');

my @many = ((map { ask('GET', "/down/d$_/$big/0") } 1 .. 3),
            (map { ask('POST', "/up/u$_", body => random_body("u$_", $big)) }
                 1 .. 3));
$_->response(60) for @many;
is($many[$_ - 1]{sha256}, body_sha256("d$_", $big), "large, down $_")
    for 1 .. 3;
is($many[$_ + 2]{body}, "$big " . body_sha256("u$_", $big), "large, up $_")
    for 1 .. 3;

# As it comes.

$x = ask('GET', '/events/e/3/0.5');
$x->head;
ok($h->wait(sub { $x->{body} =~ /^data: e 1\n\n/ }), 'the first event');
ok(!$x->{ended}, 'before the last');
$x->response;
is(scalar(() = $x->{body} =~ /data/g), 3, 'all of them');


# Responses

$x = ask('GET', '/raw/interim')->response;
is($x->{body}, 'late', 'interim responses are consumed');
is_deeply($x->{interim}, [], 'all of them');

$x = ask('GET', '/raw/hop', headers => [ 'TE: trailers' ])->response;
is($x->{body}, 'body', 'fields of the connection');
is($x->header($_), undef, "$_ is gone")
    for qw(Connection Keep-Alive X-Named Proxy-Connection Transfer-Encoding
           Upgrade);
is($x->trailer('X-T'), 'end, two', 'trailers');

$x = ask('GET', '/raw/fields')->response;
is_deeply([ $x->all('X-Same') ], [ 1, 2 ], 'repeated fields');
is_deeply([ $x->all('Set-Cookie') ], [ 'a=b', 'c=d' ], 'Set-Cookie');
is($x->header('X-Empty'), '', 'an empty one');
is($x->header('X-High'), "\xe4", 'a byte above ASCII');
is($x->header('Server'), 's/1', 'Server');
is($x->header('Date'), 'Thu, 01 Jan 1970 00:00:00 GMT', 'Date');

# A head as large as one may be, in few fields and in many.
for my $case ([ 1, 65_000 ], [ 60, 1000 ], [ 900, 60 ]) {
    my ($count, $size) = @$case;
    my $x = ask('GET', "/fields/$count/$size")->response;
    is($x && $x->{status}, 200, "$count fields of $size bytes");
    is($x && length $x->header("X-$count"), $size, 'all of them');
}

is(ask('GET', '/raw/close')->response->{body}, 'until it closes',
   'a body that ends with the connection');
$x = ask('HEAD', '/raw/head')->response;
is($x && $x->header('Content-Length'), 12345, 'HEAD with a length');
is(ask('GET', '/raw/no')->response->{status}, 204, 'a 204');
$x = ask('GET', '/raw/same')->response;
is($x && $x->{status}, 304, '304 with a length');
is($x && $x->{length}, 0, '304: no body');

$x = ask('POST', '/early', hold => 1, chunked => 1);
$x->data('x' x 10);
ok($x->response, 'an answer before the end of the request');
is($x->{status}, 413, 'comes through');
$x->rst(NO_ERROR);
goes_on('an early answer');

for my $what (qw(short chunk)) {
    my $x = ask('GET', "/raw/$what");
    ok($h->wait(sub { defined $x->{reset} || $x->{ended} }), "$what: an end");
    ok(!$x->{ended}, "$what: a cut, not a good end");
    is($x->{body}, 'half', "$what: what there was");
}

for my $what (qw(two both garbage long switch none)) {
    my $x = ask('POST', "/raw/$what", body => '')->response;
    is($x && $x->{status}, 502, "$what: 502");
}

goes_on('bad responses');

# No backend, one that does not answer.

my $no = $t->agent(transport => 'auto',
                   proxy => $p->url, backend => 'no', host => '127.0.0.1:'
                   . free_port(), args => [ '-transport=ptth' ], wait => 0);
my $hn = $p->dialled;
is($hn->request('GET', '/')->response->{status}, 502, 'no backend: 502');
is($hn->request('GET', '/')->response->{status}, 502, 'again');
$no->signal('TERM');

# PINGs on the other connection want their answers.
waitfor(sub { $h->drain(0.05); $hn->drain(0.05); !$no->running }, 10);
is($no->wait_end(1), 0, 'it ends');

$x = ask('GET', '/hold');
ok($x->response(20), 'a backend that does not answer');
is($x->{status}, 504, 'is a 504');


# Who goes away

$b->clear_notes;
$x = ask('GET', '/hold');
ok($b->wait_note(qr/^held/), 'a request');
$x->rst(CANCEL);
like($b->wait_note(qr/^client/), qr/^client (?:eof|reset)$/,
     'RST_STREAM reaches the backend');
goes_on('RST_STREAM');

for (1 .. 200) {
    ask('GET', "/down/rapid/$big/0")->rst(CANCEL);
}
goes_on('200 that are cancelled at once') if !defined $h->{closed};
if (defined $h->{closed} || $h->{goaway}) {
    $h->close;
    $h = $p->dialled(timeout => 20);
    goes_on('a new connection');
}

$b->clear_notes;
$x = ask('GET', '/hold');
ok($b->wait_note(qr/^held/), 'a request');
$h->close;
like($b->wait_note(qr/^client/), qr/^client (?:eof|reset)$/,
     'the end of the connection reaches the backend');
$h = $p->dialled;
goes_on('a new connection');


# Bad requests: the stream is reset, or 400, and nothing reaches the backend

my @head = (':method' => 'GET', ':scheme' => 'http', ':path' => '/bad',
            ':authority' => 'h');

for my $case (
    [ 'no method'          => [ @head[2 .. 7] ] ],
    [ 'no path'            => [ @head[0 .. 3, 6, 7] ] ],
    [ 'an empty path'      => [ @head[0 .. 3], ':path' => '' ] ],
    [ 'a path without /'   => [ @head[0 .. 3], ':path' => 'bad' ] ],
    [ 'a foreign scheme'   => [ @head[0, 1], ':scheme' => 'ftp',
                                ':path' => 'bad' ] ],
    [ 'a foreign target'   => [ @head[0, 1], ':scheme' => 'ftp',
                                ':path' => 'http://other/bad' ] ],
    [ 'two paths'          => [ @head, ':path' => '/bad' ] ],
    [ 'a status'           => [ @head, ':status' => '200' ] ],
    [ 'a late pseudo'      => [ @head[0 .. 5], 'x' => 'y', @head[6, 7] ] ],
    [ 'an unknown pseudo'  => [ @head, ':what' => 'x' ] ],
    [ 'a protocol of GET'  => [ @head, ':protocol' => 'websocket' ] ],
    [ 'Connection'         => [ @head, 'connection' => 'close' ] ],
    [ 'Transfer-Encoding'  => [ @head, 'transfer-encoding' => 'chunked' ] ],
    [ 'Upgrade'            => [ @head, 'upgrade' => 'websocket' ] ],
    [ 'TE: gzip'           => [ @head, 'te' => 'gzip' ] ],
    [ 'upper case'         => [ @head, 'X-Bad' => 'y' ] ],
    [ 'CR LF in a value'   => [ @head, 'x' => "y\r\nx-bad: 1" ] ],
    [ 'NUL in a value'     => [ @head, 'x' => "y\0" ] ],
    [ 'CR LF in a name'    => [ @head, "x: y\r\nx-bad" => '1' ] ],
    [ 'CR LF in the path'  => [ @head[0 .. 3, 6, 7],
                                ':path' => "/bad HTTP/1.1\r\nx-bad: 1" ] ],
    [ 'a space in the path'=> [ @head[0 .. 3, 6, 7], ':path' => '/bad x' ] ],
    [ 'a space in a method'=> [ ':method' => 'GET /bad', @head[2 .. 7] ] ],
    [ 'CR LF in a host'    => [ @head[0 .. 5],
                                ':authority' => "h\r\nx-bad: 1" ] ],
    [ 'a foreign one'      => [ @head[0, 1], ':scheme' => 'ftp', @head[4, 5],
                                ':authority' => "h\r\nx-bad: 1" ] ],
    [ 'DEL in a value'     => [ @head, 'x' => "y\x7f" ] ],
    [ 'DEL, foreign scheme'=> [ @head[0, 1], ':scheme' => 'ftp', @head[4 .. 7],
                                'x' => "y\x7f" ] ],
    [ 'two lengths'        => [ @head, 'content-length' => 0,
                                'content-length' => 1 ] ],
    [ 'a bad length'       => [ @head, 'content-length' => '-1' ] ],
    [ 'a long value'       => [ @head, 'x' => 'v' x 200_000 ] ],
) {
    my ($name, $fields) = @$case;

    $b->clear_notes;
    my $id = $h->{next_id};
    $h->{next_id} += 2;
    my $x = $h->_stream($id);
    $h->send_fields($id, literal(@$fields), end => 1);
    $h->wait(sub { defined $x->{reset} || $x->{ended} || $h->{goaway}
                   || defined $h->{closed} });
    ok(defined $x->{reset} || $h->{goaway} || defined $h->{closed}
       || $x->{status} && $x->{status} =~ /^(?:4\d\d|50[02])$/,
       "$name is refused") or diag($x->{status}, $x->{body});
    unlike($x->{body}, qr{/bad}, "$name: it has not reached the backend");

    if ($h->{goaway} || defined $h->{closed}) {
        $h->close;
        $h = $p->dialled(timeout => 20);
    }
}

# A length that is not true.

for my $case ([ 10, 'short' ], [ 2, 'too long' ]) {
    my ($length, $body) = @$case;
    my $x = ask('POST', '/up/x', body => $body, length => $length);
    $h->wait(sub { defined $x->{reset} || $x->{ended} });
    ok(defined $x->{reset} || $x->{status} =~ /^[45]/, "a body that is $body")
        or diag("$x->{status} $x->{body}");
    if ($h->{goaway} || defined $h->{closed}) {
        $h->close;
        $h = $p->dialled(timeout => 20);
    }
}

goes_on('bad requests');

$a->signal('TERM');
is($a->wait_end(10), 0, 'it ends, with status 0');

$t->done(idle => 0);
