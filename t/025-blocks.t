#!/usr/bin/perl

# "if" and "limit_except" in the agents' location and in the API's: both are
# configurations of their own, which nginx puts in the place of the location's.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    client_max_body_size 100;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /api/ { inverting_proxy_api main; }
        location /agent/ { inverting_proxy_agent main; }

        location /if/agent/ {
            inverting_proxy_agent main;
            if ($http_x_set) { set $some thing; }
        }
        location /if/api/ {
            inverting_proxy_api main write=on;
            if ($arg_limit) { set $some thing; }
        }

        location /except/agent/ {
            limit_except GET { allow 127.0.0.1; deny all; }
            inverting_proxy_agent main;
        }
        location /except/api/ {
            limit_except GET { allow 127.0.0.1; deny all; }
            inverting_proxy_api main write=on;
        }
        location /denied/api/ {
            limit_except GET { deny all; }
            inverting_proxy_api main write=on;
        }

        # the block's own handler counts
        location /other/agent/ {
            inverting_proxy_agent main;
            if ($http_x_set) { return 200 "another"; }
        }
        location /other/api/ {
            inverting_proxy_api main;
            limit_except GET { inverting_proxy_pass main none; }
        }
    }
EOT

my $record = '{"id":"x","endUser":"u","backendUser":"a","pathPrefixes":["/"]}';
my ($m, $p, $c);


# The agents'

for my $block ('if', 'except') {
    $p = $t->peer(backend => 'b', base => "/$block/agent/",
                  headers => [ 'X-Set: 1' ]);
    my $poll = $p->poll;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), "$block: a poll");

    $c = $t->client;
    $c->request('GET', '/x');
    my $id = $p->poll_end($poll)->{ids}[0];
    is($p->fetch($id)->{request}{target}, '/x', "$block: a fetch");
    is($p->respond($id, $p->response(200, [], 'y' x 20000))->{status}, 200,
       "$block: a POST, of any size");
    is($c->response->{body}, 'y' x 20000, "$block: the response");
    $c->close;

    my $h = $t->ptth(backend => 'b', base => "/$block/agent/",
                     headers => [ 'X-Set: 1' ]);
    ok($h, "$block: PTTH");
    $h->close;
    $t->wait_status(sub { $_[0]->agents('b') == 0 });
}

is($t->get('/other/agent/pending', headers => [ 'X-Set: 1' ])->{body},
   'another', 'a block that answers for itself');


# The API's

for my $block ('if', 'except') {
    $m = $t->get("/$block/api/backends?limit=1");
    like($m->{body}, qr/"id":"b"/, "$block: a list");
    $m = $t->get("/$block/api/backends?limit=1", method => 'POST',
                 body => $record);
    is($m->{status}, 200, "$block: a backend is made");
    $m = $t->get("/$block/api/backends/x?limit=1", method => 'DELETE');
    is($m->{status}, 200, "$block: and deleted");
}

is($t->get('/denied/api/backends')->{status}, 200, 'a list, where');
is($t->get('/denied/api/backends', method => 'POST', body => $record)->{status},
   403, 'nothing else is allowed');
is($t->get('/other/api/backends')->{status}, 200, 'a list, where others');
is($t->get('/other/api/backends', method => 'POST', body => 'a')->{status}, 404,
   'are passed to a backend');

$t->done;
