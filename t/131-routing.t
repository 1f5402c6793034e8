#!/usr/bin/perl

# Backends named by a value ($host, a map), and changes of a record while an
# agent is waiting.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP ();

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_zone zone=many:8m;
    inverting_proxy_backend main a.example.com end_user=allUsers
                            prefix=/only/here backend_user=me;
    inverting_proxy_backend main b.example.com end_user=bob backend_user=me;
    inverting_proxy_backend main tenant-7 end_user=allUsers
                            prefix=/only/there backend_user=me;
    inverting_proxy_agent_user $http_x_agent;

    map $host $tenant {
        hostnames;
        *.seven.example.com  tenant-7;
        ~^(?<who>[a-z])\.to  $who.example.com;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        server_name *.example.com;
        add_header X-Backend $inverting_proxy_backend always;

        inverting_proxy_user $http_x_user;
        location / { inverting_proxy_pass main $host; }
        location /map/ { inverting_proxy_pass main $tenant; }
        location /routed/ { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }

        location /many/ {
            inverting_proxy_pass many;
            inverting_proxy_backend_timeout 1ms;
        }
        location /many/agent/ { inverting_proxy_agent many; }
        location /many/brief/agent/ {
            inverting_proxy_agent many;
            inverting_proxy_poll_timeout 1ms;
        }
        location /many/api/ { inverting_proxy_api many write=on; }
    }
EOT

sub ask {
    my ($host, $target, $user) = @_;

    my $m = $t->get($target, headers => [ "Host: $host",
                        defined $user ? "X-User: $user" : () ]);

    return "$m->{status} " . ($m->header('X-Backend') || '-');
}


# By $host

is(ask('a.example.com', '/'), '503 a.example.com',
   'the backend of the host, whatever its prefixes');
is(ask('A.EXAMPLE.com:8443', '/x'), '503 a.example.com',
   'in lower case, without the port');
is(ask('b.example.com', '/', 'bob'), '503 b.example.com', 'for its user');
is(ask('b.example.com', '/', 'alice'), '404 -', 'for another user');
is(ask('b.example.com', '/'), '404 -', 'for nobody');
is(ask('c.example.com', '/', 'bob'), '404 -', 'a host without a backend');


# By a map

is(ask('www.seven.example.com', '/map/'), '503 tenant-7', 'by a map');
is(ask('b.to.example.com', '/map/', 'bob'), '503 b.example.com',
   'by a part of the name');
is(ask('b.to.example.com', '/map/', 'bobby'), '404 -',
   'the user counts with a map, too');
is(ask('x.example.com', '/map/', 'bob'), '404 -', 'the map has nothing');


# A request by name arrives with its whole path, at the right one of two.

my %peer = map { $_ => $t->peer(backend => $_, headers => [ 'X-Agent: me' ]) }
           'a.example.com', 'tenant-7';

for my $case ([ 'a.example.com', 'a.example.com', '/x/y?z' ],
              [ 'www.seven.example.com', 'tenant-7', '/map/x' ])
{
    my ($host, $id, $target) = @$case;

    my $poll = $peer{$id}->poll;
    $t->wait_status(sub { $_[0]->agents($id) == 1 });

    my $c = $t->client;
    $c->request('GET', $target, headers => [ "Host: $host" ]);

    my $got = $peer{$id}->fetch($peer{$id}->poll_end($poll)->{ids}[0]);
    is($got->{request}{target}, $target, "$id is told the target");
    is($got->{request}->header('Host'), $host, "$id is told the host");

    $peer{$id}->respond($got->{id}, $peer{$id}->response(200, [], $id));
    is($c->response->{body}, $id, "$id answers");
}


# Records that change

my $json = JSON::PP->new->utf8;

sub set {
    my ($id, $agent, @prefixes) = @_;

    my $m = $t->get('/api/backends', method => 'POST', body => $json->encode(
                        { id => $id, endUser => 'allUsers',
                          backendUser => $agent, pathPrefixes => \@prefixes }));
    is($m->{status}, 200, "$id is $agent\'s at @prefixes");
}

set('x', 'one', '/routed/');

my $one = $t->peer(backend => 'x', headers => [ 'X-Agent: one' ]);
my $poll = $one->poll;
$t->wait_status(sub { $_[0]->agents('x') == 1 });

# Another prefix: the agent stays, and serves that.
set('x', 'one', '/routed/new');
is(ask('x', '/routed/old', 'zoe'), '404 -', 'the old prefix is gone');

my $c = $t->client;
$c->request('GET', '/routed/new');
my $ids = $one->poll_end($poll)->{ids};
is(scalar @$ids, 1, 'the poll that was waiting gets the request');
$one->fetch($ids->[0]);
$one->respond($ids->[0], $one->response(200, [], 'x'));
is($c->response->{body}, 'x', 'and it is answered');

# Another agent: the old one's poll ends, and the new one is not there because
# the old one was.
$poll = $one->poll;
$t->wait_status(sub { $_[0]->agents('x') == 1 });
set('x', 'two', '/routed/new');
is($one->poll_end($poll)->{status}, 401, 'the old agent is sent away');
$t->wait_status(sub { $_[0]->agents('x') == 0 });

my $m = $t->get('/routed/new');
is($m->{status}, 503, 'no agent is there');
is($m->header('Retry-After'), 1, 'that may change');
cmp_ok($m->{at}{end}, '<', 5, 'which is said at once');
is($one->pending->{status}, 401, 'the old agent is not let in again');

$poll = $t->peer(backend => 'x', headers => [ 'X-Agent: two' ])->poll;
ok($t->wait_status(sub { $_[0]->agents('x') == 1 }), 'the new one is');
$poll->close;

# Of equal prefixes: one whose agent is there, then the smallest id.
set('z1', 'one', '/routed/z');
set('z0', 'one', '/routed/z');
is(ask('x', '/routed/z/'), '503 z0', 'the smallest id');

$poll = $t->peer(backend => 'z1', headers => [ 'X-Agent: one' ])->poll;
$t->wait_status(sub { $_[0]->agents('z1') == 1 });
$c = $t->client;
$c->request('GET', '/routed/z/');
$m = $t->peer(backend => 'z1')->poll_end($poll);
is(scalar @{$m->{ids}}, 1, 'but one whose agent is there comes first');
$one = $t->peer(backend => 'z1', headers => [ 'X-Agent: one' ]);
$one->fetch($m->{ids}[0]);
$one->respond($m->{ids}[0], $one->response(200, [], 'z1'));
is($c->response->header('X-Backend'), 'z1', 'and answers');

# Also if it is the last of many whose agents were there and have gone at once.
my @many = map { sprintf('m%03d', $_) } 0 .. 200;
my $writer = $t->client(timeout => 60);
my $brief = $t->client(timeout => 60);
my $wrong = 0;

for my $id (@many) {
    $writer->request('POST', '/many/api/backends', body => $json->encode(
                         { id => $id, endUser => 'allUsers',
                           backendUser => 'one',
                           pathPrefixes => [ '/' ] }));
    $wrong++ if $writer->response->{status} != 200;

    next if $id eq $many[-1];

    $brief->request('GET', '/many/brief/agent/pending',
                    headers => [ 'X-Agent: one',
                                 "X-Inverting-Proxy-Backend-ID: $id" ]);
    $wrong++ if $brief->response->{status} != 200;
}

is($wrong, 0, 'many agents were there');
$_->close for $writer, $brief;

$one = $t->peer(backend => $many[-1], base => '/many/agent/',
                headers => [ 'X-Agent: one' ]);
$poll = $one->poll;
waitfor(sub {
    $t->get("/many/api/backends/$many[-1]")->{body} =~ /"agents":1/;
});

$c = $t->client;
$c->request('GET', '/many/');
$m = $one->poll_end($poll);
is(scalar @{$m->{ids}}, 1, 'the one that has stayed gets the request');
$one->fetch($m->{ids}[0]);
$one->respond($m->{ids}[0], $one->response(200, [], 'many'));
is($c->response->header('X-Backend'), $many[-1], 'and answers');

$t->done;
