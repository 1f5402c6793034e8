#!/usr/bin/perl

# HTTP/2 clients: methods, bodies, trailers, many streams at once, cuts.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Http2;

use Digest::SHA qw(sha256_hex);

my $t = InvertingProxy::Test->new;
my $size = 1024 * 1024 + 3;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req, digest => 1);

    if ($req->{target} =~ m{^/large}) {
        return $c->respond(200, [], random_body('down', $size),
                           head => $req->{method} eq 'HEAD' ? 1 : 0,
                           $req->{target} =~ /chunked/ ? (chunked => 1)
                                                       : (length => $size));

    } elsif ($req->{target} eq '/trailer') {
        return $c->respond(200, [ 'Trailer: X-Sum' ], 'body', chunked => 1,
                           trailers => [ 'X-Sum: 42', 'Connection: close' ]);

    } elsif ($req->{target} eq '/cut') {
        $c->respond(200, [ 'Content-Length: 100' ], undef);
        $c->write('only this');
        nap(0.2);
        return 0;

    } elsif ($req->{target} eq '/cutchunk') {
        $c->respond(200, [ 'Transfer-Encoding: chunked' ], undef);
        $c->chunk('only this');
        nap(0.2);
        return 0;

    } elsif ($req->{target} eq '/empty') {
        return $c->respond(204, [ 'X-Empty: yes' ]);

    } elsif ($req->{target} eq '/cookies') {
        return $c->respond(200, [], join('|', $req->all('Cookie')));

    } elsif ($req->{target} eq '/wait') {
        nap(0.2);
        return $c->respond(200, [], 'a' x 5000);
    }

    return $c->respond(200, [ 'Connection: X-Secret', 'X-Secret: 1',
                              'Keep-Alive: timeout=5' ],
                       join(' ', $req->{method}, $req->{target},
                            'host=' . $req->header('Host'),
                            "$req->{framing} $req->{length} $req->{sha256}"));
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_max_body_size 0;
        http2_max_concurrent_streams 256;
        keepalive_requests 100000;
        location / { inverting_proxy_pass main; }
        location /hand/impatient {
            inverting_proxy_pass main;
            inverting_proxy_read_timeout 300ms;
            client_body_timeout 3s;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my $url = 'http://127.0.0.1:' . $n->port('H2');

sub curl {
    my (@args) = @_;
    return run_command([ qw(curl -sS --http2-prior-knowledge -m 30), @args ]);
}

my $none = '0 ' . sha256_hex('');

is(curl("$url/a?b")->{out},
   'GET /a?b host=127.0.0.1:' . $n->port('H2') . " none $none", 'GET');
is(curl('-H', 'Host: other.example', "$url/")->{out},
   "GET / host=other.example none $none", ':authority');

for my $method (qw(PUT PATCH DELETE OPTIONS PROPFIND X-THING)) {
    my $r = curl('-X', $method, '-d', 'body', "$url/m");
    like($r->{out}, qr{^$method /m .* length 4 }, $method);
}

my $r = curl('-I', "$url/large");
like($r->{out}, qr/^content-length: $size\r$/m, 'HEAD');
is($r->{status}, 0, 'HEAD ends well');

$r = curl('-i', "$url/empty");
like($r->{out}, qr/^HTTP\/2 204/, 'status 204');
like($r->{out}, qr/^x-empty: yes\r$/m, 'its field');
is($r->{status}, 0, 'it ends well');

$r = curl('-i', "$url/x");
unlike($r->{out}, qr/^(?:connection|x-secret|keep-alive):/m,
       'what concerns the connection is gone');

for my $how ('', '-chunked') {
    $r = curl("$url/large$how");
    is(sha256_hex($r->{out}), body_sha256('down', $size), "a large body$how");
}

my $file = spew($t->dir . '/up', body_bytes('up', $size));
$r = curl('-T', $file, "$url/up");
like($r->{out}, qr/ length $size @{[ body_sha256('up', $size) ]}$/,
     'an upload with a length');
# curl names a length whenever it knows one: nghttp does not.
$r = run_command([ 'nghttp', '--no-content-length', '-d', $file, '-H',
                   ':method: POST', "$url/up" ]);
like($r->{out}, qr/ chunked $size @{[ body_sha256('up', $size) ]}$/,
     'an upload without a length');

$r = run_command([ 'nghttp', '-v', "$url/trailer" ]);
like($r->{out}, qr/x-sum: .*42/, 'a trailer');
unlike($r->{out}, qr/recv .* connection: /, 'but not one that frames');

$r = run_command([ 'nghttp', '-H', 'cookie: a=1', '-H', 'cookie: b=2',
                   "$url/cookies" ]);
is($r->{out}, 'a=1; b=2', 'cookie crumbs are one field again');

for my $how (qw(cut cutchunk)) {
    $r = curl("$url/$how");
    isnt($r->{status}, 0, "$how is seen as one");
    is($r->{out}, 'only this', "$how: what there was");
}


# 100 streams at once: all are there at the same time, since each takes a
# while; none is lost.

my $t0 = now();
$r = run_command([ qw(h2load -n 200 -c 1 -m 100), "$url/wait" ]);
my $took = now() - $t0;
like($r->{out}, qr/200 succeeded, 0 failed, 0 errored/, '100 streams at once')
    or diag($r->{out});
cmp_ok($took, '<', 20 * slow(), 'side by side, not one after the other');

$r = run_command([ qw(h2load -n 100 -c 2 -m 50), "$url/large-chunked" ],
                 timeout => 60);
like($r->{out}, qr/100 succeeded, 0 failed, 0 errored/,
     '100 streams of a large body') or diag($r->{out});
like($r->{out}, qr/\(@{[ 100 * $size ]}\) data/, 'all of each')
    or diag($r->{out});

$r = run_command([ qw(h2load -n 200 -c 1 -m 100 -d), $file, "$url/up" ]);
like($r->{out}, qr/200 succeeded, 0 failed, 0 errored/, '100 uploads at once')
    or diag($r->{out});


# A stream that is reset in the middle: its backend request goes, the others
# stay.

my $p = $t->peer(backend => 'hand');

# Whoever asks before its first poll would hear that nobody is there.
$t->visit($p);

my $pid = fork();

if ($pid == 0) {
    open(STDOUT, '>', '/dev/null');
    open(STDERR, '>', '/dev/null');
    exec(qw(nghttp -t 3), "$url/hand") or POSIX::_exit(127);
}

my $id = $p->take;
my $w;
$p->fetch($id);
$w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
is($w->answer->{status}, 404, 'a client that goes ends the POST');
$w->close;
waitpid($pid, 0);


# Time-outs are in force while an empty body has not ended.

my $client = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');

for my $case ([ 'that ends later', 1, 504 ], [ 'that does not end', 0, 408 ]) {
    my ($name, $ends, $status) = @$case;

    my $x = $client->request('POST', '/hand/impatient', length => 0, hold => 1);
    my $id = $p->take;
    $p->fetch($id);
    my $w = $p->post($id);

    if ($ends) {
        nap(0.1);
        $x->data('', end => 1);
    }

    ok($client->wait(sub { $x->{ended} || defined $x->{reset} }, 10),
       "an empty body $name: it does not last for ever");
    ok(defined $x->{reset} || $x->{status} == $status,
       "an empty body $name: $status") or diag($x->{status});
    $w->close;
}

$client->close;

$t->done;
