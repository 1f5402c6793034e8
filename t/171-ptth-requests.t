#!/usr/bin/perl

# Requests and responses over PTTH, h2: an agent by hand sees what the client
# has sent, and the client what the agent has answered.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /user/ {
            inverting_proxy_pass main b;
            inverting_proxy_user $arg_user;
        }
        location /set/ {
            inverting_proxy_pass main;
            inverting_proxy_set_header X-Forwarded-For "";
            inverting_proxy_set_header X-Added "yes it is";
            inverting_proxy_set_header Host backend.example;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b');
my $authority = 'localhost';

sub ask {
    my ($method, $target, %opt) = @_;

    my $c = $t->client;
    $c->request($method, $target, %opt);
    my $x = $h->take or die "$method $target does not come\n";

    return ($c, $x);
}

sub answer {
    my ($c, $x, @response) = @_;

    $x->respond(@response);
    $x->flush;
    my $m = $c->response;
    $c->close;

    return $m;
}


# Request lines

for my $method (qw(GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND MKCOL BREW
                   X-Y)) {
    my ($c, $x) = ask($method, '/p');
    is($x->{method}, $method, $method);
    is($x->read_body->{ended}, 1, "$method: no body");
    my $m = answer($c, $x, 200, [ 'X-A: b' ],
                   $method eq 'HEAD' ? undef : "to $method");
    is($m->{status}, 200, "$method: a response");
    is($m->{body}, $method eq 'HEAD' ? '' : "to $method", "$method: its body");
}

for my $target ('/', '/?', '/?a=b&c=%00', '/%2F%2f', '/a//b/../c/.', '/a%20b',
                '/;x=y?/', '/caf%C3%A9', '/a|b{}^`', '/*', '//x', '/a%zz?%zz')
{
    my $raw = $target;
    my $c = $t->client;
    $c->request('GET', $raw);

    # What nginx's parser refuses does not come.
    waitfor(sub { $h->wait(sub { @{$h->{arrived}} }, 0.01)
                  || $c->ready(0, 0) });
    my $x = @{$h->{arrived}} ? $h->take : undef;

    if (!$x) {
        is($c->response->{status}, 400, "$target is nginx's to refuse");
        next;
    }

    is($x->{target}, $raw, "target $target");
    is(answer($c, $x, 200, [], 'x')->{body}, 'x', "$target: answered");
}

my ($c, $x) = ask('GET', '/p?q');
is($x->{pseudo}{':scheme'}, 'http', 'the scheme');
is($x->{pseudo}{':authority'} || $x->header('Host'), $authority,
   'the authority');
is(scalar(grep { $_->[0] =~ /[A-Z]/ } @{$x->{raw_fields}}), 0,
   'names in lower case');
my @pseudo = grep { $_->[0] =~ /^:/ } @{$x->{raw_fields}};
is_deeply([ @{$x->{raw_fields}}[0 .. $#pseudo] ], \@pseudo,
          'pseudo-fields come first');
is(scalar @pseudo, scalar(keys %{{ map { @$_ } @pseudo }}), 'each once');
is($x->header('X-Inverting-Proxy-User-ID'), undef, 'nobody has signed in');
like($x->header('X-Inverting-Proxy-Request-ID'), qr/^[0-9a-f]{32}$/,
     'an ID');
like($x->header('X-Inverting-Proxy-Request-Start-Time'),
     qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/, 'when it began');
answer($c, $x, 200, [], '');

($c, my $y) = ask('GET', '/user/?user=ada@example.com');
is($y->header('X-Inverting-Proxy-User-ID'), 'ada@example.com',
   'who has signed in');
isnt($y->header('X-Inverting-Proxy-Request-ID'),
     $x->header('X-Inverting-Proxy-Request-ID'), 'another ID');
answer($c, $y, 200, [], '');


# Request fields

($c, $x) = ask('GET', '/f', headers => [
    'X-Same: 1', 'Cookie: a=b', 'X-Other: x', 'X-Same: 2', 'Cookie: c=d',
    'X-Empty:', "X-High: \xe4\xf6", 'X-Long: ' . 'y' x 5000,
    'Accept-Encoding: gzip, br', 'TE: trailers, deflate', 'Keep-Alive: 5',
    'Proxy-Connection: close', 'Proxy-Authorization: Basic x',
    'Proxy-Authenticate: x', 'Trailer: X-T', 'Upgrade: h2c',
    'HTTP2-Settings: AAMAAABk', 'Connection: X-Named, te, upgrade, '
    . 'http2-settings, X-Inverting-Proxy-User-ID, x-forwarded-for, host, '
    . 'X-Inverting-Proxy-Request-ID',
    'X-Named: gone', 'Expect: 100-continue', 'Authorization: Basic eDp5',
    'X-Inverting-Proxy-User-ID: forged', 'x-inverting-proxy-backend-id: b',
    'X_Inverting_Proxy_User_ID: forged', 'X-Inverting-Proxy-Anything: forged',
    'X-INVERTING-PROXY-REQUEST-ID: forged' ]);
is_deeply([ $x->all('X-Same') ], [ 1, 2 ], 'repeated fields, in their order');
is(join('; ', $x->all('Cookie')), 'a=b; c=d', 'cookies');
is($x->header('X-Empty'), '', 'an empty one');
is($x->header('X-High'), "\xe4\xf6", 'bytes above ASCII');
is($x->header('X-Long'), 'y' x 5000, 'a long one');
is($x->header('Accept-Encoding'), 'gzip, br', 'another');
is($x->header('Authorization'), 'Basic eDp5', 'Authorization');
is($x->header($_), undef, "$_ is of the connection")
    for qw(Connection Keep-Alive Proxy-Connection Proxy-Authorization Trailer
           Proxy-Authenticate Upgrade HTTP2-Settings X-Named Expect
           Transfer-Encoding);
ok(!defined $x->header('TE') || $x->header('TE') eq 'trailers',
   'TE is "trailers" or nothing');
ok(!(grep { $_->[1] =~ /forged/ } @{$x->{fields}}),
   'nobody says who he is himself');
is_deeply([ sort grep { /inverting/ } $x->names ],
          [ qw(x-inverting-proxy-request-id
               x-inverting-proxy-request-start-time) ], 'only ours are there');
is($x->header('X-Forwarded-For'), '127.0.0.1', 'X-Forwarded-For');
is($x->header('X-Forwarded-Proto'), 'http', '-Proto');
is($x->header('X-Forwarded-Host'), 'localhost', '-Host');
answer($c, $x, 200, [], '');

($c, $x) = ask('GET', '/f', headers => [ 'TE: trailers',
                                         'X-Forwarded-For: 1.2.3.4' ]);
is($x->header('TE'), 'trailers', 'TE: trailers passes');
is($x->header('X-Forwarded-For'), '1.2.3.4, 127.0.0.1', 'is added to');
answer($c, $x, 200, [], '');

($c, $x) = ask('GET', '/set/');
is($x->header('X-Added'), 'yes it is', 'inverting_proxy_set_header');
is($x->header('X-Forwarded-For'), undef, 'takes away');
is($x->{pseudo}{':authority'} || $x->header('Host'), 'backend.example',
   'and sets the authority');
answer($c, $x, 200, [], '');


# Request bodies

for my $size (0, 1, 16383, 16384, 16385, 100_000) {
    for my $chunked (0, 1) {
        my $name = "$size bytes, " . ($chunked ? 'chunked' : 'a length');
        my ($c, $x) = ask('POST', '/up', body => body_bytes('up', $size),
                          chunked => $chunked);
        ok($x->read_body->{ended}, "$name: all of it");
        is($x->{sha256}, body_sha256('up', $size), "$name: the same");
        is($x->header('Content-Length'), $chunked ? undef : $size,
           "$name: the length");
        answer($c, $x, 200, [], '');
    }
}

# It comes as it is sent.

$c = $t->client;
$c->request('POST', '/slowly', chunked => 1);
$x = $h->take;
ok($x, 'the head comes before the body');
for my $piece (qw(one two three)) {
    $c->chunk($piece);
    ok($h->wait(sub { $x->{body} =~ /$piece$/ }), "and \"$piece\" at once");
}
ok(!$x->{ended}, 'it has not ended');
$c->last_chunk;
ok($x->read_body->{ended}, 'now it has');
is(answer($c, $x, 200, [], 'thanks')->{body}, 'thanks', 'a response');

# The answer before the end of the request.

$c = $t->client;
$c->request('POST', '/early', length => 100_000);
$c->write('x' x 1000);
$x = $h->take;
$h->wait(sub { $x->{length} == 1000 });
$x->respond(413, [], 'too much');
$x->flush;
my $m = $c->response;
is($m->{status}, 413, 'an early answer');
is($m->{body}, 'too much', 'its body');
$c->close;
ok($x->wait_reset || $x->{ended}, 'and the rest is not waited for');


# Responses

for my $case (
    [ 200, [], 'x' ], [ 200, [], '' ], [ 201, [ 'Location: /x' ], 'made' ],
    [ 204, [], undef ], [ 206, [ 'Content-Range: bytes 0-1/9' ], 'ab' ],
    [ 301, [ 'Location: http://elsewhere.example/' ], 'moved' ],
    [ 304, [ 'ETag: "x"' ], undef ], [ 404, [], 'none' ], [ 418, [], 'tea' ],
    [ 500, [], 'no' ], [ 503, [ 'Retry-After: 7' ], 'later' ],
    [ 599, [], 'x' ], [ 999, [], 'x' ],
) {
    my ($status, $headers, $body) = @$case;
    my ($c, $x) = ask('GET', '/');
    my $m = answer($c, $x, $status, $headers, $body);
    is($m->{status}, $status, "$status comes through");
    is($m->{body}, defined $body ? $body : '', "$status: the body");
    is($m->header($_->[0]), $_->[1], "$status: $_->[0]")
        for map { [ /^([^:]+): (.*)/ ] } @$headers;
}

($c, $x) = ask('GET', '/r');
$m = answer($c, $x, 200, [
    'X-Same: 1', 'Set-Cookie: a=b', 'X-Same: 2', 'Set-Cookie: c=d',
    'Date: Thu, 01 Jan 1970 00:00:00 GMT', 'Server: something/1.0',
    "X-High: \xe4", 'X-Empty: ', 'Vary: a', 'Vary: b',
    'X-Accel-Redirect: /api/status', 'X-Accel-Buffering: no',
    'X-Accel-Anything: x', 'Cache-Control: no-store', 'ETag: W/"x"',
    'Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT', 'Accept-Ranges: bytes',
    'WWW-Authenticate: Basic', 'WWW-Authenticate: Digest',
    'Content-Type: text/x; charset=koi8-r', 'Content-Encoding: br',
    'Link: <a>', 'Link: <b>' ], 'body');
is($m->{body}, 'body', 'a response with many fields');
is_deeply([ $m->all('X-Same') ], [ 1, 2 ], 'repeated ones');
is_deeply([ $m->all('Set-Cookie') ], [ 'a=b', 'c=d' ], 'Set-Cookie');
is_deeply([ $m->all('Vary') ], [ 'a', 'b' ], 'Vary');
is_deeply([ $m->all('Link') ], [ '<a>', '<b>' ], 'Link');
is_deeply([ $m->all('WWW-Authenticate') ], [ 'Basic', 'Digest' ],
          'WWW-Authenticate');
is($m->header('Date'), 'Thu, 01 Jan 1970 00:00:00 GMT', 'Date');
is($m->header('Server'), 'something/1.0', 'Server');
is($m->header('X-High'), "\xe4", 'a byte above ASCII');
is($m->header('ETag'), 'W/"x"', 'ETag');
is($m->header('Content-Type'), 'text/x; charset=koi8-r', 'Content-Type');
is($m->header('Content-Encoding'), 'br', 'Content-Encoding');
is(scalar(grep { /^x-accel/i } $m->names), 0, 'no X-Accel-*');
is($m->header('Content-Length'), 4, 'the length');
is($m->header('Transfer-Encoding'), undef, 'one framing');

# A length, none, HEAD.

($c, $x) = ask('GET', '/');
$m = answer($c, $x, 200, [], 'no length', chunked => 1);
is($m->{body}, 'no length', 'without a length');
is($m->{framing}, 'chunked', 'chunked to a client of HTTP/1.1');
is($m->{cut}, undef, 'and well ended');

($c, $x) = ask('GET', '/', version => '1.0', headers => [ 'Host: h' ]);
$m = answer($c, $x, 200, [], 'old', chunked => 1);
is($m->{body}, 'old', 'to a client of HTTP/1.0');
is($m->{framing}, 'close', 'till it closes');

($c, $x) = ask('HEAD', '/');
$m = answer($c, $x, 200, [ 'Content-Length: 12345' ], undef, head => 1);
is($m->header('Content-Length'), 12345, 'HEAD: the length');
is($m->{body}, '', 'HEAD: no body');

($c, $x) = ask('GET', '/');
$m = answer($c, $x, 304, [ 'Content-Length: 12345' ], undef, head => 1);
is($m->{status}, 304, '304 with a length');
is($m->{cut}, undef, 'is whole');

# END_STREAM in a frame of its own, in one with the last byte, with the head.

for my $how (0 .. 2) {
    my ($c, $x) = ask('GET', '/');
    $x->fields([ [ ':status', 200 ], [ 'content-length', $how == 2 ? 0 : 4 ] ],
               end => $how == 2);
    $x->data('four', end => $how == 1) if $how < 2;
    $x->data('', end => 1) if $how == 0;
    my $m = $c->response;
    is($m->{cut}, undef, "the end, way $how");
    is($c->get('/api/status')->{status}, 200, 'and the next one, way $how');
    $c->close;
}

# Padding, priority, CONTINUATION: all of it is good HTTP/2.

($c, $x) = ask('GET', '/');
my $block = $h->{hpack}->encode([ [ ':status', 200 ], [ 'x-a', 'b' x 100 ],
                                  [ 'content-length', 5 ] ]);
$h->send(HEADERS, PADDED | WITH_PRIORITY, $x->{id},
         pack('CNC', 7, 0, 15) . substr($block, 0, 10) . "\0" x 7);
$h->send(CONTINUATION, 0, $x->{id}, substr($block, 10, 20));
$h->send(CONTINUATION, END_HEADERS, $x->{id}, substr($block, 30));
$h->send(DATA, PADDED, $x->{id}, "\x05he" . "\0" x 5);
$h->send(DATA, 0, $x->{id}, '');
$h->send(99, 0xff, $x->{id}, 'a type that nobody knows');
$h->send(DATA, PADDED | END_STREAM, $x->{id}, "\xffllo" . "\0" x 255);
$m = $c->response;
is($m->{body}, 'hello', 'padding, priority, continuations');
is($m->header('X-A'), 'b' x 100, 'and their fields');
$c->close;

# Trailers.

for my $length (0, 1) {
    my ($c, $x) = ask('GET', '/', headers => [ 'TE: trailers' ]);
    my $m = answer($c, $x, 200, [ 'Trailer: X-Sum' ], 'with trailers',
                   chunked => !$length,
                   trailers => [ 'X-Sum: 42', 'X-Sum: 43', 'X-More: z' ]);
    is($m->{body}, 'with trailers', "trailers, length $length: the body");
    is($m->{cut}, undef, "trailers, length $length: whole");
    is($m->trailer('X-Sum'), '42, 43', "trailers, length $length: they come")
        if !$length;
}

# Interim responses are consumed.

($c, $x) = ask('GET', '/');
$x->interim(100);
$x->interim(103, [ 'Link: </style>' ]) for 1 .. 3;
$m = answer($c, $x, 200, [], 'at last');
is_deeply($m->{interim}, [], 'interim responses');
is($m->{body}, 'at last', 'and then the final one');
is($m->header('Link'), undef, 'nothing of them');

# Streamed: each piece as it comes.

($c, $x) = ask('GET', '/events');
$x->respond(200, [ 'Content-Type: text/event-stream' ], undef, hold => 1);
my $head = $c->response(head_only => 1);
is($head->{status}, 200, 'a head alone');
$c->body_start($head);
for my $i (1 .. 3) {
    $x->data("event $i\n\n");
    is($c->body_piece, "event $i\n\n", "event $i comes at once");
}
$x->finish;
is($c->body_piece, undef, 'the end');
is($head->{cut}, undef, 'a good one');

# Many at once on one connection, answered the other way round.

my @c = map { my $c = $t->client; $c->request('GET', "/n$_"); $c } 1 .. 50;
ok($h->wait(sub { @{$h->{arrived}} == 50 }), 'fifty at once');
my @x = splice(@{$h->{arrived}});
$_->respond(200, [], "for $_->{target}") for reverse @x;
$_->flush for @x;
is(join(' ', map { $_->response->{body} } @c),
   join(' ', map { "for /n$_" } 1 .. 50), 'each has its own');


# gRPC, or what looks like it: HTTP/2 on both sides, trailers at the end.

my $g = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');
my $rpc = $g->request('POST', '/pkg.Service/Method', hold => 1, headers => [
    'Content-Type: application/grpc', 'TE: trailers',
    'grpc-timeout: 1S' ]);
$x = $h->take;
is($x->header('TE'), 'trailers', 'gRPC: TE');
is($x->header('Content-Type'), 'application/grpc', 'gRPC: the type');
$rpc->data("\0\0\0\0\5hello");
ok($h->wait(sub { $x->{length} == 10 }), 'gRPC: a message');
$x->respond(200, [ 'Content-Type: application/grpc' ], undef, hold => 1);
ok($rpc->head, 'gRPC: the head of the response, before the request ends');
$x->data("\0\0\0\0\5world");
ok($g->wait(sub { $rpc->{length} == 10 }), 'gRPC: a message back');
$rpc->data('', end => 1);
ok($x->read_body->{ended}, 'gRPC: the end of the request');
$x->finish('grpc-status: 0', 'grpc-message: fine');
ok($rpc->response, 'gRPC: the end of the response');
is($rpc->trailer('grpc-status'), 0, 'gRPC: its status');
is($rpc->trailer('grpc-message'), 'fine', 'gRPC: its message');

# "Trailers-Only": a response that is all head.

$rpc = $g->request('POST', '/pkg.Service/None', body => '', headers => [
    'Content-Type: application/grpc', 'TE: trailers' ]);
$x = $h->take;
$x->respond(200, [ 'Content-Type: application/grpc', 'grpc-status: 12' ],
            undef, head => 1);
ok($rpc->response, 'gRPC: trailers only');
is($rpc->header('grpc-status'), 12, 'gRPC: in the head');

$_->close for $g, $h;
$t->done;
