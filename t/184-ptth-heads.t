#!/usr/bin/perl

# Heads over PTTH that are at the limits of HTTP/2, or beyond them.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:32m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main real end_user=allUsers backend_user=me
                            prefix=/real;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        large_client_header_buffers 8 256k;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b');

# They may be larger than the library's own limit of 64k for what it sends.

for my $fields ([ map { "A-$_: " . 'v' x 100 } 1 .. 900 ],
                [ map { "A-Large-$_: " . 'v' x 60_000 } 1 .. 2 ])
{
    my $c = $t->client;
    $c->request('GET', '/' . @$fields, headers => $fields);
    my $x = $h->take;
    ok($x, scalar(@$fields) . ' fields: they come');
    next if !$x;

    my ($name, $value) = split /: /, $fields->[-1];
    is($x->header($name), $value, 'all of them');
    $x->respond(200, [], 'ok');
    $x->flush;
    is($c->response->{body}, 'ok', 'and are answered');
    $c->close;
}

# A field that HTTP/2 does not know is no reason to leave it out: the response
# is refused (and the connection goes on).

for my $field ([ "x-a\x01", 'b' ], [ 'x-a', "b\x01" ], [ '', 'b' ])
{
    my $c = $t->client;
    $c->request('GET', '/bad');
    my $x = $h->take;
    $x->fields([ [ ':status', 200 ], $field, [ 'x-c', 'd' ] ], end => 1);
    is($c->response->{status}, 502, 'a field that is none');
    $c->close;
}

# One that is too large for anything: it fails, and nothing else does.

my $c = $t->client;
$c->request('GET', '/huge',
            headers => [ map { "A-Large-$_: " . 'v' x 240_000 } 1 .. 5 ]);
is($c->response->{status}, 502, 'a head of more than 1m');
$c->close;

$c = $t->client;
$c->request('GET', '/');
my $x = $h->take;
is($x && $x->{target}, '/', 'the next one');
$x->respond(200, [], 'ok');
$x->flush;
is($c->response->{body}, 'ok', 'is answered');
$c->close;

$h->close;

# The agent's library ends a connection on which a head comes in more pieces
# than it takes: requests of others must not be lost with it.

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->respond(200, [ 'Content-Length: 4' ], undef);
    $c->write('ab');
    waitfor(sub { -e $t->dir . '/go' });
    $c->write('cd');
    return 0;
});

$t->agent(backend => 'real', host => $b->address,
          transport => 'ptth', args => [ '-connections=1' ]);

my $other = $t->client;
$other->request('GET', '/real/other');
my $m = $other->response(head_only => 1);
is($m && $m->{status}, 200, 'a response is on its way');

for my $fields (3, 8) {
    $c = $t->client;
    $c->request('GET', '/real/large',
                headers => [ map { "A-Large-$_: " . 'v' x 60_000 }
                             1 .. $fields ]);
    is($c->response->{status}, 502, "a head of $fields times 60k fails");
    $c->close;
}

spew($t->dir . '/go', '');
$other->read_body($m);
is($m->{body}, 'abcd', 'the other response is complete');
$other->close;

$t->done;
