#!/usr/bin/perl

# What a stranger sees of somebody else's backend: what he sees where there is
# none.  Each answer is compared byte for byte, but for the date, and by how long
# it takes.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

# An agent may show a key, too.
my $key = 'ipk_0123456789abcdef_' . 'a' x 64;
spew("$t->{dir}/keys", "$key\n");

my $n = $t->nginx(workers => 1, vars => { KEYS => "$t->{dir}/keys" },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main idle end_user=alice prefix=/idle/
                            backend_user=agent;
    inverting_proxy_backend main live end_user=alice prefix=/live/
                            backend_user=agent;
    inverting_proxy_backend main full end_user=alice prefix=/full/
                            backend_user=agent key_file=%%KEYS%%;
    inverting_proxy_agent_user $http_x_agent;
    inverting_proxy_queue 1 timeout=60s;
    keepalive_requests 100000;

    server {
        listen 127.0.0.1:%%PORT%%;
        add_header X-Backend "$inverting_proxy_backend/$inverting_proxy_agent"
                             always;

        inverting_proxy_user $http_x_user;
        location / { inverting_proxy_pass main; }
        location /by/ { inverting_proxy_pass main $arg_name; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

# One backend whose agent is away, one whose agent waits, one with a full queue.
my %peer = map {
    $_ => $t->peer(backend => $_, headers => [ 'X-Agent: agent' ])
} qw(live full);

my $poll = $peer{live}->poll;
$t->wait_status(sub { $_[0]->agents('live') == 1 });

my $first = $peer{full}->poll;
$t->wait_status(sub { $_[0]->agents('full') == 1 });
$first->close;
$t->wait_status(sub { $_[0]->agents('full') == 0 });

my $queued = $t->client;
$queued->request('GET', '/full/', headers => [ 'X-User: alice' ]);
$t->wait_status(sub { $_[0]->waiting('full') == 1 });

is($t->get('/idle/', headers => [ 'X-User: alice' ])->{status}, 503,
   'idle has no agent');
is($t->get('/full/', headers => [ 'X-User: alice' ])->{status}, 503,
   'the queue of full is full');


# All bytes of an answer but for those of the clock.

sub answer {
    my ($target, %opt) = @_;

    my $c = $t->client(timeout => 5);
    my $m = eval { $c->get($target, %opt) } or return 'no answer in time';
    $c->close;

    (my $head = $m->{raw}) =~ s/^Date: .*?\r\n//m;
    return $head . ($m->{body} || '');
}


my @requests = (
    [ 'GET' ],
    [ 'HEAD', method => 'HEAD' ],
    [ 'POST', method => 'POST', body => 'x' x 10000 ],
    [ 'a chunked POST', method => 'POST', body => 'x' x 10000, chunked => 1 ],
    [ 'OPTIONS', method => 'OPTIONS' ],
    [ 'DELETE', method => 'DELETE' ],
    [ 'HTTP/1.0', version => '1.0' ],
    [ 'an upgrade', headers => [ 'Connection: Upgrade', 'Upgrade: websocket',
                                 'Sec-WebSocket-Version: 13',
                                 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==']],
    [ 'Expect', method => 'POST', body => 'x',
      headers => [ 'Expect: 100-continue' ] ],
    [ 'a control character', headers => [ "X-A: \x01" ] ],
);

for my $who ([ 'a stranger', 'mallory', 404 ], [ 'nobody', '', 401 ]) {
    my ($name, $user, $status) = @$who;

    for my $request (@requests) {
        my ($what, %opt) = @$request;
        my @headers = ("X-User: $user", @{delete $opt{headers} || []});

        my $none = answer('/none/', headers => \@headers, %opt);
        my $none_by = answer('/by/?name=none', headers => \@headers, %opt);

        my $expected = $what eq 'a control character' ? 400 : $status;
        like($none, qr{^HTTP/1\.1 $expected }, "$name, $what: $expected");

        for my $id (qw(idle live full)) {
            is(answer("/$id/", headers => \@headers, %opt), $none,
               "$name, $what: $id is as none");
            is(answer("/by/?name=$id", headers => \@headers, %opt), $none_by,
               "$name, $what: $id by name is as none");
        }
    }
}

unlike(answer('/none/', headers => [ 'X-User: mallory' ]),
       qr/Retry-After|WWW-Auth|X-Backend: [^\/]/, 'and it says nothing more');


# How long it takes, in turn, in one connection.  A wait, a lock or a log line
# more would be another order of magnitude, for each of them; where the machine
# is busy, half of them or more wait for that.

sub usual {
    my (@v) = sort { $a <=> $b } @_;
    return $v[@v / 10];
}

my $c = $t->client;

sub same_time {
    my ($none, %request) = @_;

    my %took;

    for my $round (1 .. 300) {
        for my $what (sort keys %request) {
            my ($target, @headers) = @{$request{$what}};
            my $start = now();
            $c->get($target, headers => \@headers);
            push @{$took{$what}}, now() - $start;
        }
    }

    for my $what (grep { $_ ne $none } sort keys %took) {
        my ($some, $first) = map { usual(@{$took{$_}}) } $what, $none;

        cmp_ok($some, '<', $first * 2 + 0.0005, "$what takes as long as $none")
            or diag(sprintf('%.0f and %.0f us', $some * 1e6, $first * 1e6));
        cmp_ok($first, '<', $some * 2 + 0.0005, '... and no less')
            or diag(sprintf('%.0f and %.0f us', $first * 1e6, $some * 1e6));
    }
}

same_time('none', map { $_ => [ "/$_/", 'X-User: mallory' ] }
                  qw(none idle live full));
same_time('none', map { $_ => [ "/by/?name=$_", 'X-User: mallory' ] }
                  qw(none idle live full));

my $logged = $n->log;
unlike($logged, qr/mallory.*(?:no agent|is full)|(?:no agent|is full).*mallory/,
       'no stranger is in the log beside a backend');


# An agent that is not the backend's: what it gets where there is no backend.

for my $call ([ 'GET', 'pending' ], [ 'GET', 'request' ],
              [ 'POST', 'response', body => 'HTTP/1.1 200 OK' ])
{
    my ($method, $path, %opt) = @$call;

    for my $who ('other', '') {
        for my $request (undef, 'x', '0' x 32) {
            my %got = map {
                $_ => answer("/agent/$path", method => $method, %opt,
                             headers => [ "X-Agent: $who",
                                 "X-Inverting-Proxy-Backend-ID: $_",
                                 defined $request
                                 ? "X-Inverting-Proxy-Request-ID: $request"
                                 : () ])
            } qw(live full none), 'x' x 1000;

            my $what = "$path as \"$who\", request "
                       . (defined $request ? $request : '-');
            like($got{none}, qr/^HTTP\/1\.1 401 /, "$what: 401");
            is($got{$_}, $got{none}, "$what: $_ is as none")
                for grep { $_ ne 'none' } sort keys %got;
        }
    }
}

# Keys: a wrong one, and none at all.

my $id_header = 'X-Inverting-Proxy-Backend-ID';
(my $wrong = $key) =~ s/a$/b/;
my %shown = (
    'none' => [ '/agent/pending' ],
    'a wrong key' => [ '/agent/pending', "Authorization: Bearer $wrong" ],
    'a short one' => [ '/agent/pending', 'Authorization: Bearer ipk_' ],
    'one of no id' => [ '/agent/pending', 'Authorization: Bearer ipk_'
                        . 'f' x 16 . '_' . 'a' x 64 ],
    'another backend\'s' => [ '/agent/pending', "Authorization: Bearer $key",
                              "$id_header: live" ],
    'no backend\'s' => [ '/agent/pending', "Authorization: Bearer $key",
                         "$id_header: none" ],
);

my $refused = answer('/agent/pending');
like($refused, qr{^HTTP/1\.1 401 .*^WWW-Authenticate: Bearer\r$}ms,
     'no key: 401');

for my $what (sort keys %shown) {
    my ($target, @headers) = @{$shown{$what}};
    is(answer($target, headers => \@headers), $refused, "$what: the same");
}

same_time('none', %shown);

# A request of another backend: it is not there.
my $id = $peer{full}->take;
is($peer{live}->fetch($id)->{status}, 404, 'the request of another backend');
is($peer{live}->fetch('0' x 32)->{status}, 404, 'as one that is not there');
is($peer{live}->respond($id, "HTTP/1.1 200 OK\r\n\r\n")->{status}, 404,
   'nor can it be answered');
is($peer{full}->fetch($id)->{status}, 200, 'it is unharmed');
$peer{full}->respond($id, $peer{full}->response(200, [], 'full'));
is($queued->response->{body}, 'full', 'and answered');

$poll->close;
$t->done;
