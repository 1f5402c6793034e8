#!/usr/bin/perl

# Methods, statuses and reasons as they come out at the other end; HTTP/1.0 and
# HTTP/1.1 clients, keepalive, pipelining.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    my ($status, $reason) = $req->{target} =~ m{^/status/(\d+)/?(.*)};

    if (defined $status) {
        $reason = { none => undef, blank => '', odd => "a (b) \xff \xc3\xa9 :c",
                    spaced => " \tAll is well\t ", spaces => "  \t" }
                  ->{$reason};

        # "none" has not even the space before it.
        return $c->write(sprintf("HTTP/1.1 %s%s\r\n%s\r\n", $status,
                                 defined $reason ? " $reason" : '',
                                 $status =~ /^(?:204|304)/
                                 ? '' : "Content-Length: 3\r\n")
                         . ($status =~ /^(?:204|304)/ ? '' : 'abc'));
    }

    if ($req->{target} eq '/close') {
        $c->write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
        return 0;
    }

    if ($req->{target} eq '/old') {
        $c->write("HTTP/1.0 200 Old\r\nX-Old: yes\r\n\r\nuntil the end");
        return 0;
    }

    $c->read_body($req);

    return $c->respond(200, [ "X-Method: $req->{method}",
                              "X-Version: $req->{version}",
                              "X-Framing: $req->{framing}" ],
                       "$req->{method} $req->{target} <$req->{body}>",
                       chunked => $req->{target} =~ /chunked/ ? 1 : 0,
                       head => $req->{method} eq 'HEAD' ? 1 : 0);
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my ($m, $c);


# Methods: those that there are, and those that there might be

for my $method (qw(GET POST PUT PATCH DELETE OPTIONS PROPFIND MKCOL COPY MOVE
                   LOCK UNLOCK PROPPATCH SEARCH M-SEARCH X_EXTENSION PURGE
                   A), 'B' x 200)
{
    $m = $t->get('/m', method => $method);
    is("$m->{status} $m->{body}", "200 $method /m <>", "$method")
        or diag($m->{raw});
    is($m->header('X-Framing'), 'none', "$method: no body");

    $m = $t->get('/m', method => $method, body => 'some');
    is($m->{body}, "$method /m <some>", "$method with a body");
    is($m->header('X-Framing'), 'length', "$method: its framing");
}

$m = $t->get('/m', method => 'HEAD');
is($m->header('X-Method'), 'HEAD', 'HEAD');
is($m->header('Content-Length'), length 'HEAD /m <>', 'HEAD: the length');
is($m->{cut}, undef, 'HEAD: no body');

$m = $t->get('/m', method => 'HEAD', body => 'some');
is($m->header('Content-Length'), length 'HEAD /m <some>', 'HEAD with a body');

$m = $t->get('/m', method => 'POST', body => '');
is($m->header('X-Framing'), 'length', 'Content-Length: 0 is kept');
$m = $t->get('/m', method => 'POST', body => '', chunked => 1);
is($m->header('X-Framing'), 'chunked', 'an empty chunked body');
$m = $t->get('/m', method => 'DELETE', body => 'xyz', chunked => 1);
is($m->{body}, 'DELETE /m <xyz>', 'DELETE, chunked');

for my $method (qw(get Get CONNECT TRACE)) {
    $m = $t->get('/m', method => $method);
    like($m->{status}, qr/^40[05]$/, "$method is refused by nginx");
}


# Statuses

for my $status (qw(200 201 202 203 206 207 226 299 300 301 302 303 304 307 308
                   400 401 402 403 404 405 408 410 413 416 418 421 422 429 431
                   444 451 494 499 500 501 502 503 504 505 511 599 600 700 999))
{
    $m = $t->get("/status/$status/odd");
    is($m->{start}, "HTTP/1.1 $status a (b) \xff \xc3\xa9 :c",
       "$status and an odd reason");
    is($m->{cut}, undef, "$status: whole");
    is($m->{body}, $status == 304 ? '' : 'abc', "$status: its body");
}

# In HTTP/2 there is no reason: one that is missing is the registered one then.
my %registered = (204 => 'No Content', 200 => 'OK', 404 => 'Not Found');

for my $status (sort keys %registered) {
    my $expected = $t->over_ptth ? " $registered{$status}" : ' ?';

    for my $reason (qw(none blank)) {
        $m = $t->get("/status/$status/$reason");
        like($m->{raw}, qr{^HTTP/1\.1 $status$expected\r\n},
             "$status, $reason reason");
        is($m->{body}, $status == 204 ? '' : 'abc', "$status, $reason: body");
    }
}

# Nor is there white space around a field's value.
$m = $t->get('/status/200/spaced');
like($m->{raw}, qr{^HTTP/1\.1 200\s+All is well\s*\r\n},
     'white space around a reason');
is($m->{body}, 'abc', 'white space around a reason: body');
$m = $t->get('/status/200/spaces');
is("$m->{status} $m->{body}", '200 abc', 'a reason of white space');

$m = $t->get('/close');
is($m->{body}, 'until the end', 'a body without a length');
is($m->{framing}, 'chunked', 'which it is told in chunks');
is($m->{cut}, undef, 'to its end');

$m = $t->get('/old');
is($m->{start}, 'HTTP/1.1 200 Old', 'a backend of HTTP/1.0');
is($m->{body}, 'until the end', 'and its body');
is($m->header('X-Old'), 'yes', 'and its field');


# HTTP/1.0 clients

$c = $t->client;
$m = $c->get('/m', version => '1.0');
is($m->{body}, 'GET /m <>', 'HTTP/1.0');
is($m->header('X-Version'), '1.1', 'the request is HTTP/1.1 then');
is($m->header('Connection'), 'close', 'no keepalive by default');
is($c->wait_end, 'eof', 'and closed');

$c = $t->client;
$c->write("GET /m HTTP/1.0\r\n\r\n");
$m = $c->response;
is($m->{body}, 'GET /m <>', 'HTTP/1.0 without Host');

$c = $t->client;
$m = $c->get('/chunked', version => '1.0');
is($m->{framing}, 'close', 'HTTP/1.0: no chunks');
is($m->header('Transfer-Encoding'), undef, 'HTTP/1.0: nor their name');
is($m->{body}, 'GET /chunked <>', 'HTTP/1.0: the body without chunks');

$c = $t->client;
for my $i (1, 2) {
    $m = $c->get("/m$i", version => '1.0', method => 'POST', body => "b$i",
                 headers => [ 'Connection: keep-alive' ]);
    is($m->{body}, "POST /m$i <b$i>", "HTTP/1.0 keepalive, request $i");
}


# Keepalive and pipelining

$c = $t->client;
for my $i (1 .. 20) {
    my $method = (qw(GET POST PUT HEAD))[$i % 4];
    my @body = $method =~ /^P/ ? (body => 'x' x $i, chunked => $i % 3 == 0) : ();
    $m = $c->get("/k$i" . ($i % 5 == 0 ? 'chunked' : ''), method => $method,
                 @body);
    is($m && $m->header('X-Method'), $method, "keepalive, request $i");
}

$c = $t->client;
$c->write(join('', map { my $body = 'y' x $_;
                         $_ % 2 ? "GET /p$_ HTTP/1.1\r\nHost: h\r\n\r\n"
                         : "POST /p$_ HTTP/1.1\r\nHost: h\r\n"
                           . "Content-Length: $_\r\n\r\n$body" } 1 .. 20)
          . "POST /last HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
          . "\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: t\r\n\r\n"
          . "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");

for my $i (1 .. 20) {
    $c->{method} = $i % 2 ? 'GET' : 'POST';
    $m = $c->response;
    is($m->{body}, $i % 2 ? "GET /p$i <>" : "POST /p$i <" . 'y' x $i . '>',
       "pipeline, response $i");
}

is($c->response->{body}, 'POST /last <abcde>', 'pipeline, a chunked one');
is($c->response->{body}, 'GET /end <>', 'pipeline, after it');
is($c->wait_end, 'eof', 'and the end');
$c->close;

$t->done;
