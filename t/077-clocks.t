#!/usr/bin/perl

# What time it is, each worker only knows as of its last turn of the loop: what
# another one has just done may lie in its future.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_backend_timeout 60s;
    log_format queued $inverting_proxy_queue_time;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / {
            inverting_proxy_pass main;
            access_log %%DIR%%/queued.log queued;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
        location = /pid { return 200 $pid; }
    }
EOT

if (my $why = cut_missing($n->pid)) {
    plan(skip_all => $why);
}

my ($A, $B) = $n->workers;

sub at { return $t->client_at($_[0]) }

sub agent_request {
    my ($c, $method, $call, @headers) = @_;

    $c->request($method, "/agent/$call", headers => [
        'X-Inverting-Proxy-Backend-ID: b', @headers ]);

    return $c;
}

my $peer = $t->peer(backend => 'b');
my $c = at($A);
my $p = at($B);
my $s = at($B);
my $body = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

# The request stands still in A while the one agent comes and goes in B.
my $r = cut($A, 'ngx_http_inverting_client_handler', go => 1,
            when => sub { $c->request('GET', '/1') },
            hold => sub {
                agent_request($p, 'GET', 'pending');
                waitfor(sub { $s->get('/api/status')->{body}
                              =~ /"id":"b","agents":1/ });
                $p->close;
                waitfor(sub { $s->get('/api/status')->{body}
                              =~ /"id":"b","agents":0/ });
            });

like($r->{out}, qr/Breakpoint 1[.,]/, 'a request stands still') or diag($r->{out});

my $id = eval { $peer->take(3) };
ok($id, 'it waits for the agent that was there a moment ago');

if ($id) {
    $peer->fetch($id);
    $peer->respond($id, $body);
}

is($c->response->{status}, 200, 'and is answered');
$c->close;

# A poll stands still while a request comes that it gets: no time in the queue
# at all, rather than less.
$c = at($A);
$p = at($B);
$s = at($A);
$r = cut($B, 'ngx_http_inverting_poll_handler', go => 1,
         when => sub { agent_request($p, 'GET', 'pending') },
         hold => sub {
             $c->request('GET', '/2');
             waitfor(sub { $s->get('/api/status')->{body}
                           =~ /"id":"b","agents":0,"waiting":1/ });
         });

like($r->{out}, qr/Breakpoint 1[.,]/, 'a poll stands still') or diag($r->{out});
($id) = $p->response->{body} =~ /^\["([0-9a-f]{32})"\]$/;
ok($id, 'it gets a request');
$peer->fetch($id);
$peer->respond($id, $body);
is($c->response->{status}, 200, 'which is answered');
$_->close for $c, $p;
ok(waitfor(sub { slurp("$n->{dir}/queued.log") =~ /^.+\n.+\n\z/ }), 'logged');
unlike(slurp("$n->{dir}/queued.log"), qr/^(?!\d+\.\d{3}$)/m,
       'with the time in the queue') or diag(slurp("$n->{dir}/queued.log"));

# The worker of a client looks after its requests while one of them is offered
# again elsewhere.
$c = at($A);
$p = at($B);
$s = at($B);
$t->visit($peer);
$c->request('GET', '/3');
$id = $peer->take;
$peer->fetch($id);
$p->request('POST', '/agent/response', chunked => 1, headers => [
    'X-Inverting-Proxy-Backend-ID: b', "X-Inverting-Proxy-Request-ID: $id" ]);
nap(0.1);
$r = cut($A, 'ngx_http_inverting_rescan', go => 1,
         hold => sub {
             nap(0.1);
             $p->close;
             waitfor(sub { $s->get('/api/status')->{body}
                           =~ /"id":"b","agents":0,"waiting":1/ });
         });
like($r->{out}, qr/Breakpoint 1[.,]/, 'a rescan stands still')
    or diag($r->{out});
is($c->wait_end(0.3), undef, 'the request has not timed out');
$id = eval { $peer->take(3) };
ok($id, 'it is offered again');

if ($id) {
    $peer->fetch($id);
    $peer->respond($id, $body);
}

is($c->response->{status}, 200, 'and answered');
$_->close for $c, $s;

$t->done;
