#!/usr/bin/perl

# Reloads that change what the zone is made of, those that are refused, the end of
# it all with work in flight, and "nginx -t" beside a running nginx.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $work = work_origin();
my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->note($req->{target});
    return $work->($c, $req);
});

my $http = <<'EOT';
    inverting_proxy_zone zone=main:%%SIZE%%;
    %%BACKENDS%%
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /named/ { inverting_proxy_pass main b; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $first = 'inverting_proxy_backend main b end_user=allUsers backend_user=me;';
my %vars = (SIZE => '4m', BACKENDS => $first);

my $n = $t->nginx(workers => 2, http => $http, vars => { %vars });

# The workers of before, and a log that says why.
sub refused {
    my ($why, %new) = @_;

    my %old = map { $_ => 1 } $n->workers;
    my $http = delete $new{http};

    $n->mark;
    local $n->{vars} = { %vars, %new };
    local $n->{http} = $http if $http;
    $n->write_conf;
    $n->signal('HUP');

    ok($n->wait_log($why), "refused: $why") or diag($n->log);
    nap(0.3);
    is(scalar(grep { $old{$_} } $n->workers), 2, 'the workers stay');
}

sub changed {
    my ($name, %new) = @_;

    @vars{keys %new} = values %new;
    ok($n->reload(vars => { %vars }), $name);
}

sub backends {
    return join(' ', $t->get('/api/backends')->{body} =~ /"id":"([^"]*)"/g);
}

$t->agent(backend => 'b', host => $b->address);
is(work_small($t, 'first'), undef, 'it serves');

# Static backends: added, changed, removed; those of the API are not touched.
is($t->get('/api/backends', method => 'POST', body => '{"id":"dynamic",'
           . '"endUser":"allUsers","backendUser":"me","pathPrefixes":["/d"]}')
   ->{status}, 200, 'one by the API');
is(backends(), 'b dynamic', 'two backends');

my $second = $first . ' inverting_proxy_backend main second end_user=allUsers'
             . ' backend_user=me prefix=/second;';
changed('one more', BACKENDS => $second);
is(backends(), 'b dynamic second', 'three backends');

my $p = $t->peer(backend => 'second');
my $poll = $p->poll;
ok($t->wait_status(sub { $_[0]->agents('second') == 1 }), 'an agent of it');
my $c = $t->client;
$c->request('GET', '/second/x');
my ($id) = @{$p->poll_end($poll)->{ids}};
is($p->fetch($id)->{request}{start}, 'GET /second/x HTTP/1.1', 'its request');

# Neither its agent nor its request cares about another prefix.
changed('another prefix', BACKENDS => $first . ' inverting_proxy_backend main'
        . ' second end_user=allUsers backend_user=me prefix=/other;');
is($p->respond($id, $p->response(200, [], 'second'))->{status}, 200,
   'its request goes on');
is($c->response->{body}, 'second', 'to its end');
$c->close;

$c = $t->client;
$c->request('GET', '/other/x');
$id = $p->take;
is($p->fetch($id)->{request}{start}, 'GET /other/x HTTP/1.1',
   'the new prefix is in force');

# Removed while it has a request and a poll.
changed('without it', BACKENDS => $first);
is($c->response->{status}, 502, 'its request fails');
is(backends(), 'b dynamic', 'two backends again');
is($p->pending->{status}, 401, 'its agent is refused');
is(work_small($t, 'others'), undef, 'the others are as they were');
$c->close;

changed('one that the API had made', BACKENDS => $first
        . ' inverting_proxy_backend main dynamic end_user=allUsers'
        . ' backend_user=me;');
is($t->get('/api/backends/dynamic', method => 'DELETE')->{status}, 403,
   'it belongs to the configuration now');
changed('and has lost', BACKENDS => $first);
is(backends(), 'b', 'one backend is left');

# Another share for the registry is no longer the same zone.
$n->allow(qr/"main" has registry=/);
refused(qr/\[emerg\].*inverting_proxy_zone "main" has registry=2097152 while/,
        SIZE => '4m registry=2m');
is(work_small($t, 'after'), undef, 'it serves as before');

$n->allow(qr/unknown zone "nothere"/, qr/zone "nothere"/);
refused(qr/\[emerg\].*nothere/, http => $http =~ s/agent main/agent nothere/r);
is(work_small($t, 'after'), undef, 'it serves as before');

# Another size is another zone: the API's backends are gone with the old one,
# old workers finish in it, agents come again by themselves.
is($t->get('/api/backends', method => 'POST', body => '{"id":"dynamic",'
           . '"endUser":"allUsers","backendUser":"me","pathPrefixes":["/d"]}')
   ->{status}, 200, 'one by the API');
my $before = $t->status->chunks_total;
my $old = $t->client;
$old->request('POST', '/up/old', body => undef, length => 3_000_000);
ok($b->wait_note(qr{^/up/old$}), 'an upload');
nap(0.3 * slow()); # for the agent's post

changed('a larger zone', SIZE => '8m');
cmp_ok($t->status->chunks_total, '>', $before, 'it is larger');
is($t->status->transactions, 0, 'with nothing in it');
is(backends(), 'b', 'but for what the configuration has');
ok(waitfor(sub { !defined work_small($t, 'new') }, 5), 'it serves');

# The upload's agent is still posting in the old one, and so it ends.
$old->send_body(random_body('old', 3_000_000));
my $m = $old->response;
is($m && $m->{body}, '3000000 ' . body_sha256('old', 3_000_000),
   'the upload in the old one ends well');
$old->close;
ok(waitfor(sub { !$n->exiting }, 10), 'and with it the old workers');

changed('a larger one with another share', SIZE => '9m registry=1m');
ok(waitfor(sub { !defined work_small($t, 'new') }, 5), 'it serves');

# "nginx -t" does nothing to the one that runs.
sub descriptors {
    my ($pid) = @_;
    return join("\n", sort map { readlink($_) || '' } glob("/proc/$pid/fd/*"));
}

# Those for the workers that went are closed behind them.
my $sockets = 1 + 2 * $n->workers;
ok(waitfor(sub { $sockets == (() = descriptors($n->pid) =~ /socket:/g) }),
   'a socket to listen on, and two for each worker');

my $fds = descriptors($n->pid);
my $eventfds = () = $fds =~ /eventfd/g;
is($eventfds, 256, 'the eventfds');
my $r = $n->test;
is($r->{status}, 0, 'nginx -t') or diag($r->{out});
is($n->test(vars => { %vars, SIZE => '16m' })->{status}, 0, 'with another size');
is($n->test(vars => { %vars, BACKENDS => '' })->{status}, 0, 'without backends');
isnt($n->test(vars => { %vars, SIZE => '1k' })->{status}, 0, 'with an error');
is(descriptors($n->pid), $fds, 'its descriptors are the same');
is(backends(), 'b', 'and so are the backends');
is(work_small($t, 'after'), undef, 'it serves as before');

ok($n->reload, 'a reload');
ok($n->reload, 'and another one');
is(() = descriptors($n->pid) =~ /eventfd/g, 256, 'not one eventfd more');

# The end, with everything in flight.
my $l = $t->load(clients => 4, count => 1, code => sub {
    my ($load, $i) = @_;
    my $k = "last-$load->{client}";

    return work_download($t, $k, 1_500_000, origin_pause => 0.1)
        if $load->{client} == 0;
    return work_upload($t, $k, 1_500_000, pause => 0.1)
        if $load->{client} == 1;
    return work_events($t, $k, 24, 0.1) if $load->{client} == 2;
    return work_download($t, $k, 3_000_000, origin_pause => 0.05,
                         piece => 65536, pause => 0.02);
});

# After QUIT no agent can connect any more.
ok(waitfor(sub { 4 == grep { m{/last-\d} } $b->notes }), 'an agent has them');
is($t->status->transactions, 4, 'four requests');
nap(0.3 * slow()); # for the agent's posts: after QUIT no new ones are accepted
my $start = now();
ok($n->quit, 'QUIT ends it');
$r = $l->wait;
is(scalar @{$r->{wrong}}, 0, 'they come to their end') or diag($l->text($r));
cmp_ok(now() - $start, '<', 10 * slow(), 'soon');

$n->start;
ok(waitfor(sub { !defined work_small($t, 'again') }, 10),
   'the agent comes to the next one');

$t->done;
