#!/usr/bin/perl

# A backend is deleted, or made another agent's, whatever is going on at it.

use lib 't/lib';
use InvertingProxy::Test;

use IO::Select;
use JSON::PP ();

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_agent_user $http_x_agent;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main $arg_b; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $p = $t->peer(backend => 'b', headers => [ 'X-Agent: me' ]);


sub set {
    my ($user) = @_;

    my $m = $t->get('/api/backends', method => 'POST',
                    body => JSON::PP->new->encode(
                        { id => 'b', endUser => 'allUsers',
                          backendUser => $user, pathPrefixes => [ '/' ] }));
    is($m->{status}, 200, "the backend is ${user}'s");
}


# A request that an agent has been told of.

sub told {
    my (%opt) = @_;

    set('me');

    my $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('b') });

    my $c = request('/?b=b', %opt);
    my ($id) = @{$p->poll_end($poll)->{ids}};

    return ($c, $id);
}


sub gone {
    my ($how) = @_;

    if ($how eq 'deleted') {
        my $m = $t->get('/api/backends/b', method => 'DELETE');
        is($m->{status}, 200, 'the backend is deleted');
        is($m->{body}, "{}\n", 'an empty object');

    } else {
        set('other');
    }
}


sub request {
    my ($target, %opt) = @_;

    my $c = $t->client(rcvbuf => delete $opt{rcvbuf});
    $c->request(delete $opt{method} || 'GET', $target, %opt);

    return $c;
}



for my $how ('deleted', 'given to another') {

    # polls

    set('me');
    my @polls = map { $p->poll } 1 .. 3;
    $t->wait_status(sub { $_[0]->agents('b') == 3 });
    gone($how);

    for my $poll (@polls) {
        my $m = $p->poll_end($poll);
        is($m->{status}, 401, 'a poll that waited');
        is($m->header('WWW-Authenticate'), 'Bearer', 'WWW-Authenticate');
        cmp_ok($m->{at}{end}, '<', 15 * slow(), 'at once');
    }

    is($p->pending->{status}, 401, 'another poll');
    like($n->log, qr/\[warn\].* agent of backend "b" was refused: /,
         'in the log');
    $n->mark;


    # a request in the queue

    set('me');
    my $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('b') });
    $poll->close;
    $t->wait_status(sub { !$_[0]->agents('b') });

    my ($c, $id) = request('/?b=b');
    $t->wait_status(sub { $_[0]->waiting('b') == 1 });
    gone($how);
    my $m = $c->response;
    is($m->{status}, 502, 'a request in the queue');
    cmp_ok($m->{at}{end}, '<', 15 * slow(), 'at once');
    is($t->get('/?b=b')->{status}, $how eq 'deleted' ? 404 : 503,
       'another one');
    like($n->log, qr/\[notice\].* backend "b" was deleted or changed/,
         'in the log');
    ok($t->wait_idle, 'nothing is left of it');


    # told, not fetched

    ($c, $id) = told();
    gone($how);
    is($c->response->{status}, 502, 'a request that an agent knows of');
    is($p->fetch($id)->{status}, 401, 'it does not get it');
    ok($t->wait_idle, 'nothing is left of it');


    # fetched, not answered

    ($c, $id) = told();
    is($p->fetch($id)->{status}, 200, 'a request is fetched');
    gone($how);
    is($c->response->{status}, 502, 'a request that an agent has');
    is($p->respond($id, $p->response(200, [], 'x'))->{status}, 401,
       'its response is not wanted');
    ok($t->wait_idle, 'nothing is left of it');


    # fetched in part

    ($c, $id) = told(method => 'PUT', length => 100);
    $c->write('in part');
    my $f = $p->fetch($id, stream => 1);
    is($f->{inner}->body_piece, 'in part', 'a part of a request');
    gone($how);
    is($f->{inner}->body_piece, undef, 'the rest does not come');
    ok($f->{request}{cut}, 'it is cut');
    is($c->response->{status}, 502, 'a request that an agent has a part of');
    ok($t->wait_idle, 'nothing is left of it');


    # the POST is open

    ($c, $id) = told();
    $p->fetch($id);
    my $w = $p->post($id);
    nap(0.1);
    gone($how);
    $m = $w->answer;
    is($m->{status}, 401, 'a POST without a byte of the response');
    is($m->header('WWW-Authenticate'), 'Bearer', 'WWW-Authenticate');
    is($c->response->{status}, 502, 'its client');
    ok($t->wait_idle, 'nothing is left of it');


    # in the middle of the response

    ($c, $id) = told();
    $p->fetch($id);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!");
    $m = $c->response(head_only => 1);
    is($m->{status}, 200, 'a response has begun');
    gone($how);
    is($w->answer->{status}, 401, 'its POST');
    $c->read_body($m);
    is($m->{body}, 'five!', 'what there is of it');
    ok($m->{cut}, 'is cut');
    ok($t->wait_idle, 'nothing is left of it');


    # a response that nobody reads

    ($c, $id) = told(rcvbuf => 4096);
    $p->fetch($id);
    $w = $p->post($id);
    $w->write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    $m = $c->response(head_only => 1);

    # the writer itself must not block
    my $piece = 'x' x 65536;
    my $blocked;
    while (!$blocked) {
        $blocked = !IO::Select->new($w->client->fh)->can_write(0.5);
        $w->client->fh->blocking(0);
        syswrite($w->client->fh, sprintf("%x\r\n", length $piece) . $piece
                                 . "\r\n") if !$blocked;
    }
    $w->client->fh->blocking(1);

    gone($how);
    $c->read_body($m, sink => sub { });
    is($m->{status}, 200, 'a response that nobody read');
    ok($m->{cut}, 'is cut');
    ok($w->wait_end(5), 'its POST is over');
    ok($t->wait_idle, 'nothing is left of it');
    $n->mark;
}


# what has never been there

my $m = $t->get('/api/backends/b', method => 'DELETE');
$m = $t->get('/api/backends/b', method => 'DELETE');
is($m->{status}, 200, 'deleting what is not there');

$t->done;
