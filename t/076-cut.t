#!/usr/bin/perl

# A worker dies in the middle of one certain change: what it had begun is
# brought to its end, and whoever waits in another worker gets his answer soon.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }
        location = /pid { return 200 $pid; }
    }
EOT

$n->allow_kill;

if (my $why = cut_missing($n->pid)) {
    plan(skip_all => $why);
}

my ($A, $B);                    # the one that dies, and the other one
my $peer = $t->peer(backend => 'b');


# A connection to that worker.
sub at { return $t->client_at($_[0], timeout => 20) }


sub agent_request {
    my ($c, $method, $call, $id, %opt) = @_;

    $c->request($method, "/agent/$call", %opt, headers => [
        'X-Inverting-Proxy-Backend-ID: ' . ($opt{backend} || 'b'),
        defined $id ? "X-Inverting-Proxy-Request-ID: $id" : () ]);

    return $c;
}


sub begin {
    ok(waitfor(sub { ($A, $B) = $n->workers; defined $B }), 'two workers');
    ok($t->wait_idle, 'the zone is idle');
}


# How long it took, and what it was.
sub response {
    my ($c) = @_;

    my $start = now();
    my $m = eval { $c->response };
    my $error = $@;

    return (now() - $start, $m, $error);
}


my $body = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
my $page = 'HTTP/1.1 200 OK';
my ($c, $id, $f, $p, $r, $m, $took, $error, $other);

my $i = 0;

sub request {
    my ($pid, $method, %opt) = @_;

    # Somebody has to have been there.
    $t->visit($peer);
    my $c = at($pid);
    $c->request($method, $opt{target} || '/' . ++$i, %opt);
    return $c;
}


# The agent is lost before its response.

begin();
$c = request($B, 'GET');
$id = $peer->take;
is($peer->fetch($id)->{status}, 200, 'fetched');
$p = agent_request(at($A), 'POST', 'response', $id, chunked => 1);
nap(0.1);
$r = cut($A, 'ngx_http_inverting_answerer_detach_locked',
         when => sub { $p->close });
ok($r->{stopped}, 'cut while an agent was lost') or diag($r->{out});

$other = eval { $peer->take(5) };
ok($other, 'offered again') or diag($@);
isnt($other, $id, 'by another ID');

if ($other) {
    $peer->fetch($other);
    $peer->respond($other, $body);
    is($c->response->{body}, 'ok', 'and answered');
}
$c->close;


# ... inside its response.

begin();
$c = request($B, 'GET');
$id = $peer->take;
$peer->fetch($id);
$p = agent_request(at($A), 'POST', 'response', $id, chunked => 1);
$p->chunk("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
is($c->response(head_only => 1)->{status}, 200, 'a response begins');
$r = cut($A, 'ngx_http_inverting_answerer_detach_locked',
         when => sub { $p->close });
ok($r->{stopped}, 'cut while its agent was lost') or diag($r->{out});
is($c->read_exactly(4), 'half', 'what came before');
ok($c->wait_end(5), 'then the client is told');
$c->close;


# What may not be offered again.

begin();
$c = request($B, 'POST', body => '');
$id = $peer->take;
$peer->fetch($id);
$p = agent_request(at($A), 'POST', 'response', $id, chunked => 1);
nap(0.1);
$r = cut($A, 'ngx_http_inverting_forget_id_locked', then => [ 'finish' ],
         when => sub { $p->close });
ok($r->{stopped}, 'cut while it failed') or diag($r->{out});

$p = $peer->poll;
($took, $m, $error) = response($c);
is($m && $m->{status}, 502, 'the client is told') or diag($error);
cmp_ok($took, '<', 5 * slow(), 'soon');
is($p->wait_end(0.5), undef, 'the agent does not get it again');
$_->close for $p, $c;


# The client goes.

begin();
$c = request($A, 'POST', length => 100_000);
$id = $peer->take;
$f = agent_request(at($B), 'GET', 'request', $id);
is($f->response(head_only => 1)->{status}, 200, 'a request begins');
$p = agent_request(at($B), 'POST', 'response', $id, chunked => 1);
nap(0.1);
$r = cut($A, 'ngx_http_inverting_client_detach_locked',
         when => sub { $c->close });
ok($r->{stopped}, 'cut while a client was going') or diag($r->{out});

($took, $m) = response($p);
is($m && $m->{status}, 404, 'the POST ends');
cmp_ok($took, '<', 5 * slow(), 'soon');
ok(waitfor(sub { my $e = $f->wait_end(0.1);
                 $f->{buf} = '' if $e && $e eq 'data';
                 $e && $e ne 'data' }, 5), 'and so does the request');
$_->close for $p, $f;


# A backend is deleted: its transactions are ended one after the other.

begin();
is($t->get('/api/backends', method => 'POST', body => '{"id":"x",'
           . '"endUser":"allUsers","backendUser":"me","pathPrefixes":["/x"]}')
   ->{status}, 200, 'another backend');
$other = $t->peer(backend => 'x');
$t->visit($other);
$c = at($B);
$c->request('GET', '/x');
$id = $other->take;
$other->fetch($id);
$p = at($A);
$r = cut($A, 'ngx_http_inverting_end_tx_locked',
         then => [ 'watch -l t->state', 'continue' ],
         when => sub { $p->request('DELETE', '/api/backends/x') });
ok($r->{stopped} && $r->{out} =~ /^New value = 5$/m,
   'cut while a transaction was ended') or diag($r->{out});

($took, $m, $error) = response($c);
is($m && $m->{status}, 502, 'the client is told') or diag($error);
cmp_ok($took, '<', 5 * slow(), 'soon');
$c->close;


# An agent was about to be told.

begin();
$c = request($B, 'GET');
ok($t->wait_status(sub { $_[0]->waiting('b') == 1 }), 'a request waits');
$p = at($A);
$r = cut($A, 'ngx_http_inverting_dequeue_locked',
         when => sub { agent_request($p, 'GET', 'pending') });
ok($r->{stopped}, 'cut while an agent was told') or diag($r->{out});

# Longer than it would have had time to fetch it.
nap(6.5);
is($t->status->waiting('b'), 1, 'it goes on waiting');
is($t->status->active('b'), 0, 'and counts as that');
$id = $peer->take;
$peer->fetch($id);
$peer->respond($id, $body);
is($c->response->{body}, 'ok', 'until an agent comes');
$c->close;

# An agent reads the body of a request: it has some, though nobody knows how much.

begin();
$c = request($B, 'POST', body => body_bytes('up', 30_000));
$id = $peer->take;
$f = at($A);
$r = cut($A, 'ngx_http_inverting_chunk_put',
         when => sub { agent_request($f, 'GET', 'request', $id) });
ok($r->{stopped}, 'cut while a request was read') or diag($r->{out});

ok(waitfor(sub { $n->workers == 2 }) && $t->status, 'it is recovered');
is($peer->fetch($id)->{status}, 404, 'nobody can fetch the rest of it');
($took, $m, $error) = response($c);
is($m && $m->{status}, 502, 'the client is told') or diag($error);
cmp_ok($took, '<', 3 * slow(), 'soon');
$_->close for $c, $f;


# An agent writes the first bytes of a response: nobody has seen them.

begin();
$c = request($B, 'GET');
$id = $peer->take;
$peer->fetch($id);
$p = agent_request(at($A), 'POST', 'response', $id, chunked => 1);
$r = cut($A, 'ngx_http_inverting_chunk_get', then => [ 'finish', 'stepi 25' ],
         when => sub {
             $p->chunk("HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n"
                       . body_bytes('lost', 30_000));
         });
ok($r->{stopped}, 'cut while a response was written') or diag($r->{out});

$other = eval { $peer->take(5) };
ok($other, 'offered again') or diag($@);

if ($other) {
    $peer->fetch($other);
    $peer->respond($other, $peer->response(200, [],
                                           body_bytes('second', 30_000)));
    $m = eval { $c->response };
    ok($m && $m->{body} eq body_bytes('second', 30_000),
       'the client sees those of the next one') or diag($@ || $m->{start});
}
$c->close;

$t->done;
