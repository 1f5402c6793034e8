#!/usr/bin/perl

# One request each way through everything: a client, nginx, an agent, a backend;
# then the same with the agent's part done by hand.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;
my $size = 1024 * 1024 + 1;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{method} eq 'POST') {
        $c->read_body($req, digest => 1);
        return $c->respond(200, [], "$req->{length} $req->{sha256}");
    }

    return $c->respond(200, [], random_body('down', $size), length => $size)
        if $req->{target} eq '/large';

    return $c->respond(201, [ 'X-Back: yes' ],
                       "$req->{method} $req->{target} "
                       . $req->header('X-There'), reason => 'Made');
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers prefix=/hand
                            backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

is($t->get('/')->{status}, 503, 'nobody is there');

$t->agent(backend => 'real', host => $b->address);

my $m = $t->get('/a?b', headers => [ 'X-There: me' ]);
is($m->{start}, 'HTTP/1.1 201 Made', 'the status line');
is($m->header('X-Back'), 'yes', 'a header');
is($m->{body}, 'GET /a?b me', 'a body');

$m = $t->get('/large', digest => 1);
is($m->{sha256}, body_sha256('down', $size), 'a larger body');

$m = $t->get('/', method => 'POST', body => random_body('up', $size));
is($m->{body}, "$size " . body_sha256('up', $size), 'an upload');


my $p = $t->peer(backend => 'hand');
my $c = $t->client;
my $poll = $p->poll;

$t->wait_status(sub { $_[0]->agents('hand') == 1 });
$c->request('POST', '/hand', body => 'up');

my $ids = $p->poll_end($poll)->{ids};
is(scalar @$ids, 1, 'one ID');

my $f = $p->fetch($ids->[0]);
is($f->{id}, $ids->[0], 'the ID in the answer');
like($f->{start_time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/,
     'the start time');
is($f->{request}{start}, 'POST /hand HTTP/1.1', 'the request line');
is($f->{request}{body}, 'up', 'its body');

my $w = $p->post($ids->[0]);
$w->write($p->response(200, [ 'X-By: hand' ], 'down'));

$m = $c->response;
is($m->header('X-By'), 'hand', 'a response by hand');
is($m->{body}, 'down', 'its body');
is($w->finish->{status}, 200, 'the end of the POST');

is($t->client(timeout => 5)->get('/agent/pending')->{status}, 401,
   'a poll without a backend');

$t->done;
