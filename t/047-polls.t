#!/usr/bin/perl

# Lists of many requests, many polls, and what one of them is given.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, connections => 2048, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_backend main other end_user=allUsers prefix=/other
                            backend_user=a;
    inverting_proxy_agent_user a;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 20s;
        }
        location /quick/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 100ms;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $p = $t->peer(backend => 'b');
my $quick = $t->peer(backend => 'b', base => '/quick/agent/');


# more than a hundred wait

$quick->pending;
my @c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 250;
ok($t->wait_status(sub { $_[0]->waiting('b') == 250 }), '250 requests wait');

my %id;
my @order;

for my $want (100, 100, 50) {
    my $m = $quick->pending;
    is(scalar @{$m->{ids}}, $want, "$want IDs in one answer");
    push @order, @{$m->{ids}};
    $id{$_}++ for @{$m->{ids}};
}

is(scalar keys %id, 250, 'each once');
is($quick->pending->{body}, '[]', 'then none');

my %seen;

for my $id (reverse @order) {
    my $f = $quick->fetch($id);
    $seen{$f->{request}{target}}++;
    $quick->respond($id, $quick->response(200, [], $f->{request}{target}));
}

is(scalar keys %seen, 250, 'each is another request');
is(scalar(grep { $c[$_ - 1]->response->{body} eq "/$_" } 1 .. 250), 250,
   'each client has its own response');
$_->close for @c;


# many polls: each request is told to one of them

my @polls = map { $p->poll } 1 .. 20;
ok($t->wait_status(sub { $_[0]->agents('b') == 20 }), '20 polls wait');

@c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 20;

my @ids;
my @rest = @polls;

waitfor(sub {
    for my $poll (splice(@rest)) {
        if (!$poll->wait_end(0)) {
            push @rest, $poll;
            next;
        }

        my @told = @{$p->poll_end($poll)->{ids}};

        # at once: an ID is good for a few seconds
        for my $id (@told) {
            my $f = $p->fetch($id);
            $p->respond($id, $p->response(200, [], $f->{request}{target}));
        }

        push @ids, @told;
    }

    return @ids >= 20;
});

is(scalar @ids, 20, '20 requests are told');
my %u = map { $_ => 1 } @ids;
is(scalar keys %u, 20, 'each to one');
is($t->status->agents('b'), scalar @rest, 'the others wait on');

is(scalar(grep { $c[$_ - 1]->response->{body} eq "/$_" } 1 .. 20), 20,
   'each client has its own response');
$_->close for @c;


# those that are left are still good

$_->close for splice(@rest, 1);
my $c = $t->client;

if (!@rest) {
    push @rest, $p->poll;
}

$t->wait_status(sub { $_[0]->agents('b') == 1 });
$c->request('GET', '/x');
my ($id) = @{$p->poll_end($rest[0])->{ids}};
ok($id, 'a poll that waited longer is told');


# an agent that goes half-open: the poll is there, but nobody reads it

$p->fetch($id);
$p->respond($id, $p->response(200, [], 'x'));
is($c->response->{body}, 'x', 'its request is answered');

my $dead = $p->poll;
$t->wait_status(sub { $_[0]->agents('b') == 1 });
$c->request('GET', '/lost');
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'it is told to nobody');
$quick->serve($quick->response(200, [], 'found'), timeout => 9);
is($c->response->{body}, 'found', 'after the lease another has it');
is($quick->fetch($p->poll_end($dead)->{ids}[0])->{status}, 404,
   'what it was told is worth nothing');


# another backend's polls are not told

my $other = $t->peer(backend => 'other', base => '/quick/agent/');
$c->request('GET', '/not-other');
$t->wait_status(sub { $_[0]->waiting('b') == 1 });
is($other->pending->{body}, '[]', "another backend's poll is told nothing");
$quick->serve($quick->response(200, [], 'x'));
is($c->response->{body}, 'x', 'its own is');


# without end

my $t0 = now();
my $count = 0;

while (now() - $t0 < 1) {
    my $poll = $p->poll;
    $poll->close;
    $count++;
}

ok($t->wait_status(sub { $_[0]->agents('b') == 0 }),
   'nothing is left of polls that are made and dropped');
cmp_ok($count, '>', 50, 'many of them');


# one connection, one request behind the other

my @h = ('X-Inverting-Proxy-Backend-ID: b');
$c = $t->client;
is($c->get('/quick/agent/pending', headers => \@h)->{body}, '[]',
   'polls on one connection') for 1 .. 3;

my $pipelined = "GET /quick/agent/pending HTTP/1.1\r\nHost: h\r\n$h[0]\r\n\r\n";
$c->write($pipelined x 3);
is($c->response->{body}, '[]', 'pipelined ones') for 1 .. 3;

$t->done;
