#!/usr/bin/perl

# Agents that do not keep to the protocol, and what the protocol answers them.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_backend main other end_user=allUsers prefix=/other
                            backend_user=a;
    inverting_proxy_backend main foreign end_user=allUsers prefix=/foreign
                            backend_user=z;
    inverting_proxy_agent_user $http_x_agent;
    inverting_proxy_poll_timeout 500ms;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /silent {
            inverting_proxy_pass main;
            inverting_proxy_read_timeout 3s;
        }
        location /patient/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 3s;
        }
        location /agent/ {
            inverting_proxy_agent main;
            client_max_body_size 1k;
            client_body_timeout 1s;
            lingering_time 3s;
        }
        location /none/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user "";
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my @who = ('X-Agent: a');
my $p = $t->peer(backend => 'b', headers => \@who);
my $patient = $t->peer(backend => 'b', headers => \@who,
                       base => '/patient/agent/');
my $other = $t->peer(backend => 'other', headers => \@who);
my $nobody = '0123456789abcdef' x 2;


sub request {
    my ($target) = @_;

    my $c = $t->client;
    $c->request('GET', $target || '/');

    return $c;
}


sub call {
    my ($method, $call, @headers) = @_;
    return $t->get($call =~ m{^/} ? $call : "/agent/$call",
                   method => $method, headers => \@headers,
                   $method eq 'POST' ? (body => '') : ());
}


# who calls

my @b = ('X-Inverting-Proxy-Backend-ID: b');
my $id_header = "X-Inverting-Proxy-Request-ID: $nobody";

for my $call ([ 'GET', 'pending' ], [ 'GET', 'request', $id_header ],
              [ 'POST', 'response', $id_header ], [ 'GET', 'request' ],
              [ 'GET', 'request', 'X-Inverting-Proxy-Request-ID: x' ])
{
    my ($method, $name, @more) = @$call;

    for my $case ([ 'no identity', @b ], [ 'an empty one', @b, 'X-Agent: ' ],
                  [ 'a wrong one', @b, 'X-Agent: z' ],
                  [ 'its beginning', @b, 'X-Agent: ' ],
                  [ 'more than it', @b, 'X-Agent: aa' ],
                  [ 'no backend', @who ],
                  [ 'an empty one', @who, 'X-Inverting-Proxy-Backend-ID: ' ],
                  [ 'an unknown one', @who,
                    'X-Inverting-Proxy-Backend-ID: x' ],
                  [ "another's", @who,
                    'X-Inverting-Proxy-Backend-ID: foreign' ])
    {
        my ($what, @headers) = @$case;

        my $m = call($method, $name, @headers, @more);
        is($m->{status}, 401, "$name: $what");
        is($m->header('WWW-Authenticate'), 'Bearer', 'WWW-Authenticate');
    }
}

my $m = call('GET', '/none/agent/pending', @who, @b);
is($m->{status}, 401, 'no inverting_proxy_agent_user: nobody is anybody');
is($t->status->agents('b'), 0, 'nobody was taken for an agent');
like($n->log, qr/\[warn\].* agent of backend "x" was refused: there is no such/,
     'in the log');
call('GET', '/agent/pending', @who, "X-Inverting-Proxy-Backend-ID: x\e[1m");
like($n->log, qr/\[warn\].* agent of backend "x%1B.*1m" was refused/,
     'without what a terminal would obey');


# what is called

for my $case ([ 'POST', 'pending', 'GET' ], [ 'HEAD', 'pending', 'GET' ],
              [ 'PUT', 'request', 'GET' ], [ 'POST', 'request', 'GET' ],
              [ 'GET', 'response', 'POST' ], [ 'PUT', 'response', 'POST' ],
              [ 'DELETE', 'response', 'POST' ])
{
    my ($method, $name, $allow) = @$case;

    $m = call($method, $name, @who, @b, $id_header);
    is($m->{status}, 405, "$method $name");
    is($m->header('Allow'), $allow, 'Allow');
}

for my $call (qw(pendin pendings pending/ response/x / Pending), '') {
    is(call('GET', $call, @who, @b)->{status}, $call eq '/' ? 503 : 404,
       "no such call: $call");
}


# which request

for my $call ([ 'GET', 'request' ], [ 'POST', 'response' ]) {
    my ($method, $name) = @$call;

    is(call($method, $name, @who, @b)->{status}, 400, "$name: no ID");
    is(call($method, $name, @who, @b, 'X-Inverting-Proxy-Request-ID: ')
           ->{status}, 400, "$name: an empty one");

    for my $id ($nobody, 'x', '0' x 31, '0' x 33, 'g' x 32, uc $nobody,
                "../$nobody", '0' x 4000, "\xff" x 32)
    {
        is(call($method, $name, @who, @b, "X-Inverting-Proxy-Request-ID: $id")
               ->{status}, 404, "$name: " . substr($id, 0, 40));
    }
}


# polls

$m = $p->pending;
is($m->{status}, 200, 'a poll without work');
is($m->{body}, '[]', 'is answered with an empty list');
is($m->header('Content-Type'), 'application/json', 'its type');
cmp_ok($m->{at}{end}, '>', 0.4, 'not before poll_timeout');
cmp_ok($m->{at}{end}, '<', 5 * slow(), 'not long after');

# They last until both are seen.
my @polls = ($patient->poll, $patient->poll);
ok($t->wait_status(sub { $_[0]->agents('b') == 2 }), 'two polls at once');
my %c = map { $_ => request($_) } qw(/one /two);
my @ids = map { @{$patient->poll_end($_)->{ids}} } @polls;
push @ids, $p->take while @ids < 2;
isnt($ids[0], $ids[1], 'two IDs');

# Whose ID is whose is not known before the fetch: each may be in either poll.

for my $id (@ids) {
    like($id, qr/^[0-9a-f]{32}$/, 'of 128 bits');
    my $target = $p->fetch($id)->{request}{target};
    $p->respond($id, $p->response(200, [], "x $target"));
    is($c{$target}->response->{body}, "x $target", 'each is answered');
}

my $poll = $p->poll;
$t->wait_status(sub { $_[0]->agents('b') == 1 });
$poll->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'a poll is left');

my $c = $t->client;
$c->write("GET /agent/pending HTTP/1.1\r\nHost: h\r\nX-Agent: a\r\n"
          . "X-Inverting-Proxy-Backend-ID: b\r\nContent-Length: 3\r\n\r\nabc");
is($c->response->{status}, 200, 'a poll with a body');
is($c->get('/agent/pending', headers => [ @who, @b ])->{status}, 200,
   'another one behind it');


# another backend's request

$c = request();
my $id = $p->take;
is($other->fetch($id)->{status}, 404, "another's ID: cannot be fetched");
is($other->respond($id, $p->response(200, [], 'x'))->{status}, 404,
   'nor answered');
is($p->respond($id, $p->response(200, [], 'x'))->{status}, 404,
   'an answer before the fetch');
is($p->fetch($id)->{status}, 200, 'its own agent has it');
is($p->fetch($id)->{status}, 404, 'but once');
is($other->respond($id, $p->response(200, [], 'x'))->{status}, 404,
   'now it cannot be answered by another either');

# The 100 comes when the POST is known.
my $w = $p->post($id, headers => [ 'Expect: 100-continue' ]);
is($w->client->read_head->{status}, 100, 'a POST');
is($p->respond($id, $p->response(200, [], 'twice'))->{status}, 404,
   'a second POST, while there is one');
$w->write($p->response(200, [], 'once'));
is($w->finish->{status}, 200, 'the first one');
is($c->response->{body}, 'once', 'has answered it');
is($p->respond($id, $p->response(200, [], 'again'))->{status}, 404,
   'another one after it');
is($p->fetch($id)->{status}, 404, 'nor is it to be fetched');
is($other->pending->{body}, '[]', 'the other backend has no work');


# when the POST is answered

$c = request();
$p->fetch($id = $p->take);
$w = $p->post($id);
$w->write($p->response(200, [], 'whole'));
is($c->response->{body}, 'whole', 'the client has its response');
is($w->wait_end(0.3), undef, 'the POST is not answered before its end');
is($w->finish->{status}, 200, 'but then');

$c = request();
$p->fetch($id = $p->take);
$w = $p->post($id);
$w->write($p->response(200, [], 'whole'));
is($c->response->{body}, 'whole', 'the client has its response');
is($w->answer->{status}, 400, 'a POST that does not end is not kept');

$c = request();
$p->fetch($id = $p->take);
$w = $p->post($id);
$w->write($p->response(200, [], 'whole'));
$c->response;
$w->write('x' x 200_000);
is($w->answer->{status}, 400, 'nor one that goes on and on');


# limits of nginx that do not hold here

$c = request();
$p->fetch($id = $p->take);
$w = $p->post($id);
nap(1.5);
$w->write("HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n");
nap(1.5);
$w->write('x' x 10001);
is($c->response->{length}, 10001, 'client_max_body_size, client_body_timeout');
is($w->finish->{status}, 200, 'do not cut a response');


# what is no response

for my $case ([ 'no HTTP', "hello\r\n\r\n" ],
              [ 'HTTP/0.9', "<html>" ],
              [ 'a request', "GET / HTTP/1.1\r\nHost: h\r\n\r\n" ],
              [ 'zero bytes', "\0" x 100 ],
              [ 'a bad status', "HTTP/1.1 2000 OK\r\n\r\n" ],
              [ 'a status of 0', "HTTP/1.1 000 OK\r\n\r\n" ],
              [ 'an interim one', "HTTP/1.1 100 Continue\r\n\r\n" ],
              [ 'an unasked upgrade', "HTTP/1.1 101 Switching Protocols\r\n"
                . "Connection: upgrade\r\nUpgrade: x\r\n\r\n" ],
              [ 'no colon', "HTTP/1.1 200 OK\r\nhello\r\n\r\n" ],
              [ 'a space before it', "HTTP/1.1 200 OK\r\nX : y\r\n\r\n" ],
              [ 'a control character', "HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n" ],
              [ 'too large a head', "HTTP/1.1 200 OK\r\nX: "
                . 'x' x 20000 . "\r\n\r\n" ],
              [ 'two framings', "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" ],
              [ 'a bad length', "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"
                . 'x' ],
              [ 'another coding', "HTTP/1.1 200 OK\r\n"
                . "Transfer-Encoding: gzip\r\n\r\nx" ],
              [ 'half a head', "HTTP/1.1 200 OK\r\nX: y\r\n" ],
              [ 'too many options', "HTTP/1.1 200 OK\r\nConnection: "
                . 'x, ' x 64 . "close\r\nContent-Length: 0\r\n\r\n" ],
              [ 'half a status line', 'HTTP/1.1 2' ])
{
    my ($what, $bytes) = @$case;

    $c = request();
    $p->fetch($id = $p->take);
    is($p->respond($id, $bytes)->{status}, 400, "$what: 400");
    is($c->response->{status}, 502, "$what: 502 to the client");
    ok($n->wait_log(qr/\[error\]/), 'in the log') or diag($n->log);
    $n->mark;
}

ok($t->wait_idle, 'nothing is left of them');


# an empty POST: the agent is lost, as far as anybody knows

$c = request();
$p->fetch($id = $p->take);
is($p->respond($id, '')->{status}, 400, 'an empty POST');
$p->serve($p->response(200, [], 'again'));
is($c->response->{body}, 'again', 'another agent is asked');

for my $case ([ 'a short body', "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
                . 'five!' ],
              [ 'half a chunk', "HTTP/1.1 200 OK\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n10\r\nfive!" ],
              [ 'no last chunk', "HTTP/1.1 200 OK\r\n"
                . "Transfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n" ])
{
    my ($what, $bytes) = @$case;

    $c = request();
    $p->fetch($id = $p->take);
    $p->respond($id, $bytes);
    $m = $c->response;
    is($m->{body}, 'five!', "$what: what there is of it");
    ok($m->{cut}, 'the client sees a cut');
    ok($n->wait_log(qr/\[error\]/), 'in the log');
    $n->mark;
}

$c = request();
$p->fetch($id = $p->take);
$w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
          . "5\r\nfive!\r\n");
$m = $c->response(head_only => 1);
$w->write("hello\r\n");
$c->read_body($m);
is($m->{body}, 'five!', 'a chunk that is none');
ok($m->{cut}, 'the client sees a cut');
is($w->answer->{status}, 400, 'the POST is refused');


# the framing of the POST itself

$c = request();
$p->fetch($id = $p->take);
$w = $p->post($id);
$w->raw("hello\r\n");
is($c->response->{status}, 200, 'another agent is asked')
    if $p->serve($p->response(200, [], 'again'));
is($w->answer->{status}, 400, 'a POST that is not chunked as it says: 400');

$c = request();
$p->fetch($id = $p->take);
$m = $t->get('/agent/response', method => 'POST',
             headers => [ @who, @b, "X-Inverting-Proxy-Request-ID: $id" ],
             body => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
is($m->{status}, 200, 'a POST with a length');
is($c->response->{body}, 'x', 'is as good');


# it says nothing any more, and does not go away

$c = request('/silent');
$p->fetch($id = $p->take);
$w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
$m = $c->response;
ok($m->{cut}, 'a POST that stalls: the client sees a cut');
cmp_ok($m->{at}{end}, '<', 9 * slow(), 'after read_timeout');
is($w->answer->{status}, 404, '404 to the POST');

$c = request('/silent');
$p->fetch($id = $p->take);
is($c->response->{status}, 504, 'no POST at all: 504');
is($p->respond($id, $p->response(200, [], 'x'))->{status}, 404,
   'then it is too late');

$t->done;
