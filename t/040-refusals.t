#!/usr/bin/perl

# What a client gets when its request is not passed to anybody, or nobody
# answers it; and what the log says.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main own end_user=me prefix=/own backend_user=a;
    inverting_proxy_backend main all end_user=allUsers prefix=/all
                            backend_user=a;
    inverting_proxy_backend main late end_user=allUsers prefix=/late
                            backend_user=a;
    inverting_proxy_agent_user a;

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            inverting_proxy_pass main;
        }

        location /own/ {
            inverting_proxy_pass main;
            inverting_proxy_user $http_x_user;
            inverting_proxy_backend_timeout 0;
        }

        location /named/ {
            inverting_proxy_pass main $arg_b;
            inverting_proxy_user $http_x_user;
        }

        location ~ ^/decoded/(?<what>(?s:.*)) {
            inverting_proxy_pass main $what;
        }

        location /all/queue {
            inverting_proxy_pass main;
            inverting_proxy_queue 2 timeout=1s;
        }

        location /all/full {
            inverting_proxy_pass main;
            inverting_proxy_queue 2 timeout=30s;
        }

        location /all/silent {
            inverting_proxy_pass main;
            inverting_proxy_read_timeout 500ms;
        }

        location /all/stall {
            inverting_proxy_pass main;
            inverting_proxy_read_timeout 2s;
            inverting_proxy_send_timeout 2s;
        }

        location /late {
            inverting_proxy_pass main;
            inverting_proxy_backend_timeout 3s;
        }

        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 200ms;
        }

        location /api/ { inverting_proxy_api main; }
    }
EOT

my $p = $t->peer(backend => 'all');


# no backend for this user and path

my $m = $t->get('/nothing');
is($m->{status}, 404, 'no backend, and no user in force');
is($m->header('WWW-Authenticate'), undef, 'nobody is asked who he is');
like($n->log, qr{\[info\].* no backend for user "" and path "/nothing"},
     'in the log');

$t->get('/nothing%0aEvil%1b[1m');
like($n->log, qr{ path "/nothing%0AEvil%1B\[1m"},
     'a path with a line end is no other line of the log');

$m = $t->get('/own/');
is($m->{status}, 401, 'a user in force, but empty');
ok($m->header('WWW-Authenticate'), 'WWW-Authenticate');

$m = $t->get('/own/', headers => [ 'X-User: another' ]);
is($m->{status}, 404, "another user's backend");
is($m->header('WWW-Authenticate'), undef, 'he is signed in');

$m = $t->get('/own/', headers => [ 'X-User: ' . 'x' x 257 ]);
is($m->{status}, 403, 'a user of 257 bytes');
like($n->log, qr/\[error\].* value of inverting_proxy_user is longer than 256/,
     'in the log');

$m = $t->get('/own/', headers => [ 'X-User: me' ]);
is($m->{status}, 503, 'his own');


# a backend by name

for my $case ([ 'b=unknown', 'me', 404 ], [ '', 'me', 404 ],
              [ 'b=', '', 404 ], [ 'b=own', 'another', 404 ],
              [ 'b=own', '', 404 ], [ 'b=own', 'me', 503 ],
              [ 'b=all', 'me', 503 ], [ 'b=all', '', 503 ],
              [ 'b=al', '', 404 ], [ 'b=' . 'x' x 500, '', 404 ],
              [ 'b=All', '', 404 ])
{
    my ($arg, $user, $status) = @$case;

    $m = $t->get("/named/?$arg",
                 headers => [ $user ? "X-User: $user" : () ]);
    is($m->{status}, $status, 'named ' . substr("$arg by \"$user\"", 0, 30));
    is($m->header('WWW-Authenticate'), undef, 'nobody is asked');
}

like($n->log, qr{\[info\].* no backend "unknown" for user "me"}, 'in the log');

$t->get('/decoded/a%0aEvil');
like($n->log, qr{ no backend "a%0AEvil" for}, 'nor is a name with one');
unlike($n->log, qr/^Evil|\e/m, 'nothing of that is as it came');


# nobody is there: once a minute in the log, and for each backend

is($t->get("/all/$_")->{status}, 503, "nobody is there, $_") for 1 .. 3;

$m = $t->get('/all/');
is($m->header('Retry-After'), 1, 'Retry-After');
is(scalar(() = $n->log =~ /no agent of backend "all" is present/g), 1,
   'one line in the log');
like($n->log, qr/\[error\].* no agent of backend "all" is present/,
     'an error');
is($t->status->{doc}{zone}{refused}{absent}, 8, 'counted');

is($t->get('/late')->{status}, 503, 'nobody is there for another one');
like($n->log, qr/no agent of backend "late" is present/, 'is a line, too');


# an agent counts as present for a while after its last poll

my $late = $t->peer(backend => 'late');
$late->pending;

my $c = $t->client;
$c->request('GET', '/late');
ok($t->wait_status(sub { $_[0]->waiting('late') == 1 }),
   'just after a poll a request waits');
$late->serve($late->response(200, [], 'late'));
is($c->response->{body}, 'late', 'and is served');
nap(3.2);
is($t->get('/late')->{status}, 503, 'later nobody is there');


# in time

$p->pending;
$m = $t->get('/all/queue');
is($m->{status}, 504, 'nobody takes it in time');
cmp_ok($m->{at}{end}, '>', 0.9, 'not before');
cmp_ok($m->{at}{end}, '<', 8 * slow(), 'not long after');
like($n->log, qr{\[error\].* upstream timed out .*"GET /all/queue}s,
     'in the log');
ok($t->wait_idle, 'nothing is left of it');


# the queue

$p->pending;
my @c = map { my $c = $t->client; $c->request('GET', '/all/full'); $c } 1 .. 2;
$t->wait_status(sub { $_[0]->waiting('all') == 2 });

for (1 .. 2) {
    $m = $t->get('/all/full');
    is($m->{status}, 503, 'the queue is full');
    is($m->header('Retry-After'), 1, 'Retry-After');
}

is(scalar(() = $n->log =~ /\[error\].* inverting_proxy_queue of backend/g), 1,
   'one line in the log');
like($n->log, qr/inverting_proxy_queue of backend "all" is full: 2 requests/,
     'that says so');
is($t->status->{doc}{zone}{refused}{queueFull}, 2, 'counted');

$c[0]->close;
ok($t->wait_status(sub { $_[0]->waiting('all') == 1 }), 'one goes away');
$c[0] = $t->client;
$c[0]->request('GET', '/all/full');
ok($t->wait_status(sub { $_[0]->waiting('all') == 2 }), 'another takes its place');

$p->serve($p->response(200, [], $_)) for 1 .. 2;
is($c[1]->response->{body}, 1, 'the first one');
is($c[0]->response->{body}, 2, 'the second one');


# no byte of the response

$c = $t->client;
$c->request('GET', '/all/silent');
my $id = $p->take;
$p->fetch($id);
my $w = $p->post($id);
is($c->response->{status}, 504, 'no byte of the response in time');
is($w->answer->{status}, 404, 'the POST is over');
like($n->log, qr{\[error\].* upstream timed out .*"GET /all/silent}s,
     'in the log');
ok($t->wait_idle, 'nothing is left of it');


# no more of it; there is time enough for what there is

$c = $t->client;
$c->request('GET', '/all/stall');
$id = $p->take;
$p->fetch($id);
$w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
$m = $c->response;
is($m->{status}, 200, 'a response that stops in the middle');
is($m->{body}, 'five!', 'what there is of it');
ok($m->{cut}, 'is cut');
is($w->answer->{status}, 404, 'the POST is over');
ok($t->wait_idle, 'nothing is left of it');


# time-outs that are longer than the exchange's own rounds

$c = $t->client;
$c->request('GET', '/all/stall');
$id = $p->take;
$p->fetch($id);
$w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
$m = $c->response;
ok($m->{cut}, 'read_timeout of 2s: a response is cut');
cmp_ok($m->{at}{end}, '>', 1.9, 'not before');
cmp_ok($m->{at}{end}, '<', 8 * slow(), 'not long after');
is($w->answer->{status}, 404, 'the POST is over');

$c = $t->client;
$c->request('PUT', '/all/stall', body => 'x' x 500_000);
$id = $p->take;
my $f = $p->fetch($id, stream => 1);
$w = $p->post($id);
$m = $c->response;
is($m->{status}, 504, 'send_timeout of 2s: nobody reads the body');
cmp_ok($m->{at}{end}, '>', 1.9, 'not before');
cmp_ok($m->{at}{end}, '<', 8 * slow(), 'not long after');
is($w->answer->{status}, 404, 'the POST is over');
$f->{client}->close;
ok($t->wait_idle, 'nothing is left of it');


# a head that stops in the middle

$c = $t->client;
$c->request('GET', '/all/silent');
$id = $p->take;
$p->fetch($id);
$w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\nX-");
is($c->response->{status}, 504, 'a head that stops in the middle');
is($w->answer->{status}, 404, 'the POST is over');


# the agent goes away in the middle

for my $how (qw(close reset)) {
    $c = $t->client;
    $c->request('GET', '/all/');
    $id = $p->take;
    $p->fetch($id);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              . "5\r\nfive!\r\n");
    $m = $c->response(head_only => 1);
    is($m->{status}, 200, "the agent goes away in the middle, $how");
    $w->$how;
    $c->read_body($m);
    is($m->{body}, 'five!', 'what there is of it');
    ok($m->{cut}, 'is cut');
    ok($n->wait_log(qr/\[error\].* agent of backend "all" was lost inside/),
       'in the log');
    $n->mark;
}

$c = $t->client;
$c->request('POST', '/all/', body => 'x');
$id = $p->take;
$p->fetch($id);
$w = $p->post($id);
$w->close;
is($c->response->{status}, 502, 'the agent goes away before the response');
ok($n->wait_log(qr/\[error\].* agent of backend "all" was lost before/),
   'in the log');

$t->done;
