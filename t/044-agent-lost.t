#!/usr/bin/perl

# An agent is lost: what is offered to another one, and what fails.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_backend main busy end_user=allUsers prefix=/busy
                            backend_user=a;
    inverting_proxy_agent_user a;
    inverting_proxy_poll_timeout 200ms;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /short {
            inverting_proxy_pass main;
            inverting_proxy_queue 10 timeout=3s;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $one = $t->peer(backend => 'b');
my $two = $t->peer(backend => 'b');


sub request {
    my ($method, $target, %opt) = @_;

    my $c = $t->client(timeout => 30);
    $c->request($method, $target, %opt);

    return $c;
}


# It is another's, with a fresh ID; the old one is worth nothing.

sub again {
    my ($what, $old, $c) = @_;

    my $id = $two->take;
    isnt($id, $old, "$what: a fresh ID");
    is($one->fetch($old)->{status}, 404, "$what: the old one cannot be fetched");
    is($one->respond($old, $one->response(200, [], 'old'))->{status}, 404,
       "$what: nor answered");
    is($two->fetch($id)->{id}, $id, "$what: another agent has it");
    is($two->respond($id, $two->response(200, [], 'two'))->{status}, 200,
       "$what: and answers it");

    my $m = $c->response;
    is($m->{status}, 200, "$what: the client gets the answer");
    is($m->{body}, $c->{method} eq 'HEAD' ? '' : 'two', "$what: of that one");
}


$one->pending;

# before the first byte of the response

for my $method (qw(GET HEAD OPTIONS PUT DELETE)) {
    for my $how ('close', 'reset') {
        my $what = "$method, $how before the response";
        my $c = request($method, '/');
        my $id = $one->take;
        $one->fetch($id);
        my $w = $one->post($id);
        nap(0.05);
        $w->$how;
        again($what, $id, $c);
    }
}

for my $method (qw(POST PATCH LOCK BREW)) {
    my $c = request($method, '/');
    my $id = $one->take;
    $one->fetch($id);
    my $w = $one->post($id);
    nap(0.05);
    $w->reset;
    is($c->response->{status}, 502, "$method, lost before the response: 502");
    is($one->fetch($id)->{status}, 404, "$method: not offered again");
}

is_deeply($two->pending->{ids}, [], 'not offered again');


# only once

my $c = request('GET', '/');
my @id;

for my $p ($one, $two) {
    push @id, $p->take;
    $p->fetch($id[-1]);
    my $w = $p->post($id[-1]);
    nap(0.05);
    $w->close;
}

isnt($id[0], $id[1], 'lost again');
is($c->response->{status}, 502, 'is too often');
is_deeply($two->pending->{ids}, [], 'not offered again');


# it is the first one in the queue

$c = request('GET', '/first');
my $id = $one->take;
$one->fetch($id);
my $w = $one->post($id);
my @other = map { request('GET', "/$_") } 1, 2;
$t->wait_status(sub { $_[0]->waiting('b') == 2 });
$w->close;
$t->wait_status(sub { $_[0]->waiting('b') == 3 });

my @targets;
$two->serve(sub {
    push @targets, $_[0]{target};
    return $two->response(200, [], $_[0]{target});
}) for 1 .. 3;

is($targets[0], '/first', 'what was lost comes first');
is($c->response->{body}, '/first', 'its client');
is($other[$_]->response->{body}, '/' . ($_ + 1), 'another') for 0, 1;


# and nobody takes it

$c = request('GET', '/short');
$id = $one->take;
$one->fetch($id);
$w = $one->post($id);
nap(0.05);
$w->close;
my $m = $c->response;
is($m->{status}, 504, 'lost, and nobody takes it');
cmp_ok($m->{at}{end}, '<', 15 * slow(), 'in time');
ok($t->wait_idle, 'nothing is left of it');


# a fetch that breaks

for my $method ('PUT', 'POST') {
    $c = request($method, '/', length => 4);
    $id = $one->take;
    my $f = $one->fetch($id, stream => 1);
    is($f->{status}, 200, "$method: is fetched");
    is($two->fetch($id)->{status}, 404, 'once');
    $f->{client}->reset;
    waitfor(sub {
        $f = $two->fetch($id, stream => 1);
        return $f->{status} == 200;
    }, 3);
    is($f->{status}, 200, 'breaks, is fetched again with the same ID');
    $c->write('body');
    is($f->{inner}->body_piece, 'body', 'its body');
    is($two->respond($id, $two->response(200, [], 'x'))->{status}, 200,
       'is answered');
    is($c->response->{body}, 'x', 'its client');


    $c = request($method, '/', length => 6);
    $id = $one->take;
    $f = $one->fetch($id, stream => 1);
    $c->write('bo');
    is($f->{inner}->body_piece, 'bo', "$method: a part of a body");
    $f->{client}->reset;
    is($c->response->{status}, 502, 'its fetch breaks: 502');
    is($one->fetch($id)->{status}, 404, 'not offered again');
}

is_deeply($two->pending->{ids}, [], 'not offered again');


# its POST goes first, with nothing of the body read

for my $end ('close', 'reset') {
    $c = request('PUT', '/', length => 4);
    $id = $one->take;
    my $f = $one->fetch($id, stream => 1);
    is($one->respond($id, '')->{status}, 400, "PUT, $end: a POST that is lost");
    is($one->respond($id, $one->response(200, [], 'x'))->{status}, 404,
       'another one comes too late');
    $f->{client}->$end;
    my $new = $two->take;
    isnt($new, $id, 'then the fetch as well: offered again');
    $f = $two->fetch($new, stream => 1);
    $c->write('body');
    is($f->{inner}->body_piece, 'body', 'its body');
    $two->respond($new, $two->response(200, [], 'x'));
    is($c->response->{body}, 'x', 'its client');
}

$c = request('PUT', '/', length => 4);
$id = $one->take;
my $f = $one->fetch($id, stream => 1);
is($one->respond($id, '')->{status}, 400, 'a POST that is lost');
$c->write('body');
is($f->{inner}->body_piece, 'body', 'the body is read after all');
is($c->response->{status}, 502, 'there is nobody to answer: 502');


# a body that was read

$c = request('PUT', '/', body => 'body');
$id = $one->take;
is($one->fetch($id)->{request}{body}, 'body', 'a body is read');
$w = $one->post($id);
nap(0.05);
$w->close;
is($c->response->{status}, 502, 'and its POST lost: 502');


# the lease: told, not fetched; fetched, not answered

my %c = map { $_ => request($_, "/$_", $_ eq 'POST' ? (length => 4) : ()) }
        qw(GET POST);
my %told;

for (1 .. 2) {
    my $id = $one->take;
    # whose it is, only one knows who fetches it: by the order of arrival
    push @{$told{all}}, $id;
}

my $busy = $t->peer(backend => 'busy');
$busy->pending;
my $b = request('POST', '/busy', body => 'x');
my @bid = ($busy->take);

my $g = request('GET', '/fetched');
my $gid = $one->take;
$one->fetch($gid);

my $o = request('POST', '/fetched', body => '');
my $oid = $one->take;
my $t0 = now();
$one->fetch($oid);

$m = $o->response;
is($m->{status}, 502, 'a POST is fetched, but there is no response: 502');
cmp_ok(now() - $t0, '>', 3, 'not at once');
cmp_ok(now() - $t0, '<', 15 * slow(), 'after the lease');

$t->wait_status(sub { $_[0]->waiting('b') == 3 });
is($t->status->waiting('b'), 3, 'the others are offered again');

my %seen;
my @again = map { $two->take } 1 .. 3;

for my $id (@again) {
    my $f = $two->fetch($id, stream => 1);
    $seen{$f->{request}{start}} = $id;
}

is_deeply([ sort keys %seen ],
          [ 'GET /GET HTTP/1.1', 'GET /fetched HTTP/1.1',
            'POST /POST HTTP/1.1' ], 'all of them');

for my $old (@{$told{all}}, $gid) {
    ok(!grep({ $_ eq $old } @again), 'a fresh ID');
    is($one->fetch($old)->{status}, 404, 'the old one is worth nothing');
}

# and again: the second agent does not answer either

push @bid, $busy->take;
isnt($bid[1], $bid[0], 'told again, and not fetched');

is($g->response->{status}, 502, 'a GET is fetched and lost again: 502');
is($c{POST}->response->{status}, 502, 'a POST is fetched and lost: 502');
$two->serve($two->response(200, [], 'third'));
is($c{GET}->response->{body}, 'third',
   'a GET that was fetched once is offered again');

push @bid, $busy->take;
isnt($bid[2], $bid[1], 'what was never fetched is offered again and again');
is($busy->fetch($_)->{status}, 404, 'an old ID') for @bid[0, 1];
is($busy->fetch($bid[2])->{request}{body}, 'x', 'is fetched at last');
$busy->respond($bid[2], $busy->response(200, [], 'busy'));
is($b->response->{body}, 'busy', 'and answered');


# a late agent

$c = request('GET', '/');
$id = $one->take;
nap(3);
is($one->fetch($id)->{status}, 200, 'fetched just in time');
nap(3);
is($one->respond($id, $one->response(200, [], 'late'))->{status}, 200,
   'answered just in time');
is($c->response->{body}, 'late', 'its client');

$t->done;
