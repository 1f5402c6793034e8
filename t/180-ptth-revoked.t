#!/usr/bin/perl

# A key is revoked, a backend deleted or given to somebody else: connections of
# PTTH that stood on it are closed at once, in whatever worker, and others not.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 3, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_agent_user $http_x_agent;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

sub api {
    my ($method, $path, $data) = @_;

    my $m = $t->get("/api/$path", method => $method,
                    body => $data ? encode_json($data) : undef);
    is($m->{status}, 200, "$method $path");

    return decode_json($m->{body});
}

sub make {
    my ($user) = @_;
    api('POST', 'backends', { id => 'b', endUser => 'allUsers',
                              backendUser => $user, pathPrefixes => [ '/' ] });
}

make('me');
api('POST', 'backends', { id => 'other', endUser => 'allUsers',
                          backendUser => 'me', pathPrefixes => [ '/other' ] });
my $other = $t->ptth(backend => 'other', headers => [ 'X-Agent: me' ]);

# One request waits for its response, one has begun to get it.

sub under_way {
    my ($h) = @_;

    my @c = map { $t->client } 1, 2;
    $c[0]->request('GET', '/waits');
    my @x = $h->take;
    $c[1]->request('GET', '/begun');
    push @x, $h->take;
    $x[1]->respond(200, [], undef, hold => 1);
    $x[1]->data('begun');
    my $m = $c[1]->response(head_only => 1);

    return (@c, $m);
}

sub closed {
    my ($name, $h, @way) = @_;

    like($h->wait_end(3), qr/^(?:eof|reset)$/, "$name: closed at once");
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), "$name: and gone");

    if (@way) {
        my ($waits, $begun, $m) = @way;
        like($waits->response->{status}, qr/^(?:404|50[23])$/,
             "$name: what waited fails");
        ok($begun->read_body($m)->{cut}, "$name: what had begun is cut");
        $_->close for $waits, $begun;
    }

    $h->close;
}

# Keys: of two, one goes.

my @key = map { api('POST', 'backends/b/keys', {}) } 1, 2;
my @h = map { $t->ptth(backend => 'b', headers => [
                  "Authorization: Bearer $_->{secret}" ]) } @key;
my $me = $t->ptth(backend => 'b', headers => [ 'X-Agent: me' ]);

api('DELETE', "backends/b/keys/$key[0]{id}");
like($h[0]->wait_end(3), qr/^(?:eof|reset)$/, 'a key is revoked: closed');
$_->drain(0.1) for $h[1], $me;
is($h[1]{closed}, undef, 'the other key is good');
is($me->{closed}, undef, 'and so is a name');
is($t->ptth_answer(backend => 'b', headers => [
       "Authorization: Bearer $key[0]{secret}" ])->{status}, 401,
   'it cannot come back');

$me->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');
my @way = under_way($h[1]);
api('DELETE', "backends/b/keys/$key[1]{id}");
closed('the last key', $h[1], @way);
$h[0]->close;

# The backend: for somebody else, then gone.

for my $how ('given away', 'deleted') {
    make('me');
    my @h = map { $t->ptth(backend => 'b', headers => [ 'X-Agent: me' ],
                           wait => 0) } 1 .. 6;
    ok($t->wait_status(sub { $_[0]->agents('b') == 6 }), "$how: six of them");
    $_->close for @h[1 .. 5];
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), "$how: one");
    my @way = under_way($h[0]);
    my @more = map { $t->ptth(backend => 'b', headers => [ 'X-Agent: me' ],
                              wait => 0) } 1 .. 5;
    ok($t->wait_status(sub { $_[0]->agents('b') == 6 }), "$how: six again");

    $how eq 'deleted' ? api('DELETE', 'backends/b') : make('you');

    is(scalar(grep { ($_->wait_end(3) || '') =~ /^(?:eof|reset)$/ } @more), 5,
       "$how: all are closed, whatever the worker");
    closed($how, $h[0], @way);
    is($t->ptth_answer(backend => 'b', headers => [ 'X-Agent: me' ])
       ->{status}, 401, "$how: it cannot come back");
    $_->close for @more;
}

# Nobody else has noticed.

my $c = $t->client;
$c->request('GET', '/other');
my $x = $other->take;
$x->respond(200, [], 'still here');
$x->flush;
is($c->response->{body}, 'still here', 'another backend');
$_->close for $c, $other;

$t->done;
