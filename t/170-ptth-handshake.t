#!/usr/bin/perl

# The upgrade to PTTH: who gets the 101, what is in it, and every answer that
# is not one.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::PtthAgent qw(ptth_ask);

use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;
my @cert = $t->certificate_for('proxy');

my $n = $t->nginx(workers => 2, vars => { CRT => $cert[0], KEY => $cert[1] },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main other end_user=allUsers backend_user=you
                            prefix=/other;
    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_TLS%% ssl;
        listen 127.0.0.1:%%PORT_H2%% http2;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $http_x_me;
        }
        location /deep/er/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $http_x_me;
        }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my @me = (backend => 'b', headers => [ 'X-Me: me' ]);


# Accepted

sub serves {
    my ($name, $h) = @_;

    my $answer = $h->{answer};
    is($answer->{status}, 101, "$name: 101");
    is($answer->{reason}, 'Switching Protocols', "$name: its text");
    is(lc $answer->header('Connection'), 'upgrade', "$name: Connection");
    is($answer->header('Upgrade'), 'ptth', "$name: Upgrade");
    is($answer->header('ALPN'), 'h2', "$name: ALPN");
    like($answer->header('X-Inverting-Proxy-Worker'), qr{^[01]/2$},
         "$name: the worker");
    is($answer->header('Transfer-Encoding'), undef, "$name: no framing");
    is($answer->header('Content-Length'), undef, "$name: none at all");

    my $c = $t->client;
    $c->request('GET', '/page');

    my $x = $h->take or return fail("$name: a request comes");
    is($x->{target}, '/page', "$name: a request");
    $x->respond(200, [], 'over ptth');
    $x->flush;
    is($c->response->{body}, 'over ptth', "$name: its response");

    $c->close;
    $h->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), "$name: it is gone");
}

my $tls = $n->port('TLS');

for my $case (
    [ 'plain' ],
    [ 'TLS', port => $tls, tls => 1 ],
    [ 'a longer base', base => '/deep/er/agent/' ],
    [ 'two versions', alpn => 'h2, http%2F1.1' ],
    [ 'one that nobody knows', alpn => 'x%2Fy, h2' ],
    [ 'spaces and empty ones', alpn => ' ,h2 ,, ' ],
    [ 'two fields', alpn => 'x', headers => [ 'X-Me: me', 'ALPN: h2' ] ],
    [ 'another case', upgrade => 'PTTH', connection => 'Upgrade' ],
    [ 'one of several', upgrade => 'websocket, ptth',
      connection => 'keep-alive, Upgrade' ],
) {
    my ($name, %opt) = @$case;
    serves($name, $t->ptth(@me, %opt));
}

# What comes together with the upgrade belongs to the connection after it.

my $early = ptth_ask(port => $n->port, @me);
$early->write(frame(SETTINGS, 0, 0));
is($early->response(head_only => 1)->{status}, 101, 'in a hurry: 101');
my $h = InvertingProxy::Test::Http2->new(stream => $early, start => 0);
ok($h->wait(sub { $h->{settings_acks} }), 'in a hurry: nothing is lost');
$early->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'in a hurry: it is gone');


# Keys

sub api {
    my ($path, $data) = @_;
    my $m = $t->get("/api/$path", method => 'POST',
                    body => encode_json($data));
    is($m->{status}, 200, "made: $path");
    return decode_json($m->{body});
}

api('backends', { id => 'keyed', endUser => 'allUsers',
                  pathPrefixes => [ '/keyed' ] });
my $key = api('backends/keyed/keys', {})->{secret};
my $bearer = "Authorization: Bearer $key";

$h = $t->ptth(headers => [ $bearer ], wait => 0);
ok($t->wait_status(sub { $_[0]->agents('keyed') == 1 }),
   'a key names its backend');
$h->close;
ok($t->wait_status(sub { $_[0]->agents('keyed') == 0 }), 'until it is gone');

$h = $t->ptth(backend => 'keyed', headers => [ $bearer ]);
is($h->{answer}{status}, 101, 'a key and its backend');
$h->close;


# Refused

sub refused {
    my ($name, $regex, %opt) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $answer = $t->ptth_answer(%opt);

    like($answer && $answer->{status}, qr/^$regex$/, $name);

    if ($answer && $answer->{status} == 401) {
        like($answer->header('WWW-Authenticate'), qr/^Bearer/,
             "$name: how to do better");

    } elsif ($answer && $answer->{status} == 426) {
        is($answer->header('Upgrade'), 'ptth', "$name: to what");
    }

    ok($answer && !defined $answer->{cut}, "$name: an ordinary answer");

    return $answer;
}

refused('nobody', 401, backend => 'b');
refused('somebody else', 401, backend => 'b', headers => [ 'X-Me: you' ]);
refused('no backend', 401, headers => [ 'X-Me: me' ]);
refused('an unknown backend', 401, backend => 'x', headers => [ 'X-Me: me' ]);
refused('an odd backend', 401, backend => '../b', headers => [ 'X-Me: me' ]);
refused('a wrong key', 401, backend => 'b',
        headers => [ "Authorization: Bearer " . 'x' x length $key ]);
refused('a key of another backend', 401, backend => 'other',
        headers => [ $bearer ]);
refused('no version', 426, @me, alpn => undef);
refused('an empty list', 426, @me, alpn => '');
refused('a wrong version', 426, @me, alpn => 'h3');
refused('h2c', 426, @me, alpn => 'h2c');
refused('a longer name', 426, @me, alpn => 'h22');
refused('a shorter name', 426, @me, alpn => 'h');
refused('not encoded', 426, @me, alpn => 'http/1.1');
refused('HTTP/1.0 as a version', 426, @me, alpn => 'http%2F1.0');
refused('no Upgrade', 426, @me, upgrade => undef);
refused('another protocol', 426, @me, upgrade => 'websocket');
refused('a longer protocol', 426, @me, upgrade => 'ptth2');
refused('no Connection', '(?:400|426)', @me, connection => undef);
refused('Connection: close', '(?:400|426)', @me, connection => 'close');
refused('POST', '40[05]', @me, method => 'POST', body => '');
refused('HEAD', '40[05]', @me, method => 'HEAD');
refused('PUT', '40[05]', @me, method => 'PUT', body => 'x');
refused('a body', 400, @me, body => 'x');
refused('a chunked body', 400, @me, body => 'x', chunked => 1);
refused('HTTP/1.0', '(?:400|426|505)', @me, version => '1.0');

# Credentials come first: an unknown version must not tell who exists.

refused('nobody, with a wrong version', 401, backend => 'b', alpn => 'h3');

# A client of HTTP/2 has no connection to turn around.

$h = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');
my $x = $h->request('GET', '/agent/ptth', headers => [
    'X-Me: me', 'X-Inverting-Proxy-Backend-ID: b', 'ALPN: h2' ]);
ok($x->response, 'HTTP/2: an answer');
like($x->{status}, qr/^(?:400|426)$/, 'HTTP/2: is refused');
is($h->request('GET', '/api/status')->response->{status}, 200,
   'HTTP/2: the connection goes on');
$h->close;

# The connection of an ordinary refusal can be used again.

my $c = $t->client;
$c->request('GET', '/agent/ptth', headers => [
    'X-Me: me', 'X-Inverting-Proxy-Backend-ID: b' ]);
is($c->response->{status}, 426, 'refused');
is($c->get('/api/status')->{status}, 200, 'and used again');
$c->close;

is($t->status->agents('b'), 0, 'nobody has become an agent');


# While nginx ends, there is nothing for it to take any more.

my $busy = $t->ptth(@me);
$c = $t->client;
$c->request('GET', '/held');
$x = $busy->take;
my @idle = map { $t->client } 1 .. 8;
for my $idle (@idle) {
    $idle->write("GET /agent/ptth HTTP/1.1\r\nHost: localhost\r\n");
}
$t->get('/api/status') for 1 .. 8;

ok($n->reload, 'a reload');
ok($busy->wait(sub { $busy->{goaway} }), 'the old worker says goodbye');

my %status;
for my $idle (@idle) {
    $idle->write("Connection: upgrade\r\nUpgrade: ptth\r\nALPN: h2\r\n"
                 . "X-Me: me\r\nX-Inverting-Proxy-Backend-ID: b\r\n\r\n");
    my $m = $idle->response(head_only => 1) or next;
    $status{$m->{status}}++;
    ok(!defined $m->header('Retry-After'), 'no need to wait: others take it')
        if $m->{status} == 503;
    $idle->close;
}
is(join(' ', keys %status), '503', 'an old worker takes no new connection')
    or diag(join(' ', %status));

$x->respond(200, [], 'done');
$x->flush;
is($c->response->{body}, 'done', 'what it had is finished');
is($busy->wait_end, 'eof', 'and then it goes');

$t->done;
