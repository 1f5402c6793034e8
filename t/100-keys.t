#!/usr/bin/perl

# Keys of backends: made, listed and revoked over the API, by way of several
# workers and across a reload; what is no key; what a revoked one was used for.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;

my $conf = <<'EOT';
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main static end_user=allUsers prefix=/static
                            backend_user=me;
    log_format keys '$uri $status $inverting_proxy_backend '
                    '$inverting_proxy_agent';

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        access_log %%DIR%%/access.log keys;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $http_x_me;
            inverting_proxy_poll_timeout 500ms;
        }
        location /slow/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $http_x_me;
        }
        location /api/ { inverting_proxy_api main write=on; }
        location /ro/ { inverting_proxy_api main; }
        location = /pid { return 200 $pid; }
    }
EOT

my $n = $t->nginx(workers => 3, http => $conf);

sub api {
    my ($method, $path, $data, %opt) = @_;

    my $m = $t->get(($opt{base} || '/api/') . $path, method => $method,
                    body => defined $data
                            ? ref $data ? encode_json($data) : $data : undef,
                    headers => $opt{headers} || []);
    $m->{json} = decode_json($m->{body});
    return $m;
}

sub bearer { return "Authorization: Bearer $_[0]" }

# The status of a poll, on a connection of its own: any worker may get it.
sub poll {
    my ($token, %opt) = @_;

    my @headers = defined $token ? (bearer($token)) : ();
    push @headers, "X-Inverting-Proxy-Backend-ID: $opt{backend}"
        if defined $opt{backend};
    push @headers, "X-Me: $opt{me}" if defined $opt{me};

    return $t->get('/agent/pending', headers => \@headers);
}

sub waiting_poll {
    my ($token) = @_;
    my $p = $t->peer(base => '/slow/agent/', headers => [ bearer($token) ],
                     poll_timeout => 10);
    return ($p, $p->poll);
}


# Made.

is(api('POST', 'backends', { id => 'b', endUser => 'allUsers',
                             pathPrefixes => [ '/b' ] })->{status}, 200,
   'a backend without a backendUser');
is(api('GET', 'backends/b')->{json}{backendUser}, '', 'which is empty');
is(api('POST', 'backends', { id => 'c', endUser => 'allUsers',
                             backendUser => '', pathPrefixes => [ '/c' ] })
   ->{status}, 200, 'an empty one');

my $m = api('GET', 'backends/b/keys');
is_deeply($m->{json}, [], 'no keys yet');

$m = api('POST', 'backends/b/keys', { note => "the f\x{fc}rst" });
is($m->{status}, 200, 'a key is made');
my $first = $m->{json};
like($first->{id}, qr/^[0-9a-f]{16}$/, 'its id');
like($first->{secret}, qr/^ipk_\Q$first->{id}\E_[0-9a-f]{64}$/, 'its secret');
like($first->{created}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'when');
is($first->{note}, "the f\x{fc}rst", 'its note');
is($first->{backend}, 'b', 'its backend');

$m = api('POST', 'backends/b/keys');
is($m->{status}, 200, 'without a body');
my $second = $m->{json};
is($second->{note}, '', 'no note');
isnt($second->{secret}, $first->{secret}, 'another secret');

$m = api('GET', 'backends/b/keys');
is_deeply([ sort map { $_->{id} } @{$m->{json}} ],
          [ sort $first->{id}, $second->{id} ], 'both are listed');
is_deeply([ sort keys %{$m->{json}[0]} ], [ qw(created id lastUsed note) ],
          'without secrets');
ok(!defined $m->{json}[0]{lastUsed}, 'none was used');

for my $case ([ 'not JSON', '{', '' ], [ 'not an object', '[]', '' ],
              [ 'an unknown field', '{"x": 1}', 'x' ],
              [ 'a note that is no string', '{"note": 1}', 'note' ],
              [ 'a note twice', '{"note": "", "note": "a"}', 'note' ],
              [ 'bad UTF-8', "{\"note\": \"\xff\"}", 'note' ],
              [ 'control characters', '{"note": "\n"}', 'note' ],
              [ 'a long note', '{"note": "' . 'x' x 257 . '"}', 'note' ])
{
    $m = api('POST', 'backends/b/keys', $case->[1]);
    is($m->{status}, 400, "$case->[0]: refused");
    is($m->{json}{error}{field} || '', $case->[2], "$case->[0]: the field");
}

is(api('POST', 'backends/b/keys', '{"note": "' . 'x' x 256 . '"}')->{status},
   200, 'a note as long as may be');

is(api('POST', 'backends/x/keys')->{status}, 404, 'POST to no backend');
is(api('GET', 'backends/x/keys')->{status}, 404, 'GET of no backend');
is(api('DELETE', 'backends/x/keys/1')->{status}, 404, 'DELETE of no backend');
is(api('DELETE', 'backends/b/keys/1')->{status}, 404, 'DELETE of no key');
is(api('DELETE', 'backends/b/keys/' . '0' x 16)->{status}, 404, 'nor this');
$m = api('DELETE', 'backends/b/keys/' . uc('abcdef' . '0' x 10));
is($m->{status}, 404, 'nor is this one');
is($m->{json}{error}{message}, 'there is no such key', 'and is told so');
is(api('POST', 'backends/static/keys')->{status}, 403, 'a static backend');
is(api('DELETE', 'backends/static/keys/1')->{status}, 403, 'nor to delete');
is(api('GET', 'backends/static/keys')->{status}, 200, 'but to read');
is(api('POST', 'backends/b/keys', undef, base => '/ro/')->{status}, 403,
   'write=off');
is(api('DELETE', "backends/b/keys/$first->{id}", undef, base => '/ro/')
   ->{status}, 403, 'neither');
is(api('POST', 'backends/b/keys', undef, headers => [ 'Origin: http://evil' ])
   ->{status}, 403, 'a foreign page');
is(api('DELETE', 'backends/b/keys')->{status}, 405, 'DELETE of all');
is(api('GET', "backends/b/keys/$first->{id}")->{status}, 405, 'GET of one');
is(api('GET', 'backends/b/kez')->{status}, 404, 'not "keys"');
is(api('DELETE', 'backends/b/keys/')->{status}, 404, 'no id');
is(api('DELETE', 'backends/b/keys/a/b')->{status}, 404, 'more than an id');

my @more = map { api('POST', 'backends/b/keys')->{json} } 1 .. 13;
is(api('POST', 'backends/b/keys')->{status}, 409, 'the 17th');
is(scalar @{api('GET', 'backends/b/keys')->{json}}, 16, 'sixteen');
is(api('DELETE', "backends/b/keys/$_->{id}")->{status}, 200, 'deleted')
    for @more;
is(api('DELETE', "backends/b/keys/$more[0]{id}")->{status}, 404,
   'which is done once');
is(api('DELETE', "backends/c/keys/$first->{id}")->{status}, 404,
   "another backend's");


# Shown.

is(poll($first->{secret})->{status}, 200, 'it names its backend');
is(poll($second->{secret}, backend => 'b')->{status}, 200, 'or it is named');
is(poll($first->{secret}, backend => 'c')->{status}, 401, 'not another one');
is(poll($first->{secret}, backend => 'x')->{status}, 401, 'nor none');
is($t->get('/agent/pending', headers =>
           [ "Authorization: bearer  $first->{secret}" ])->{status}, 200,
   'the scheme in lower case');

my $wrong = $first->{secret};
substr($wrong, -1) =~ tr/0-9a-f/1-9a-f0/;

my $refused = poll($wrong);
is($refused->{status}, 401, 'a wrong one');
is($refused->header('WWW-Authenticate'), 'Bearer', 'how to do better');

for my $token ($more[0]{secret}, 'ipk_', substr($first->{secret}, 0, -1),
               "$first->{secret}0", uc $first->{secret}, "x$first->{secret}",
               'something', undef)
{
    my $name = defined $token ? substr($token, 0, 25) : 'none';
    $m = poll($token, backend => 'b');
    is($m->{status}, 401, "$name: refused");
    is($m->{body}, $refused->{body}, "$name: in the same words");
}

is(poll(undef, backend => 'b', me => '')->{status}, 401,
   'an empty identity is not the empty backendUser');
is(poll(undef, backend => 'static', me => 'me')->{status}, 200, 'by identity');
is(poll($wrong, backend => 'static', me => 'me')->{status}, 401,
   'a wrong key is no other identity');
is(poll('other', backend => 'static', me => 'me')->{status}, 200,
   'another token may be');

my ($used) = grep { $_->{id} eq $first->{id} }
             @{api('GET', 'backends/b/keys')->{json}};
ok(defined $used->{lastUsed}, 'it was used');


# A whole request, and what the log says of it.

my ($p, $poll) = waiting_poll($first->{secret});
$t->wait_status(sub { $_[0]->agents('b') == 1 });
my $c = $t->client;
$c->request('GET', '/b');
my $id = $p->poll_end($poll)->{ids}[0];
$p->fetch($id);
$p->respond($id, $p->response(200, [], 'by key'));
is($c->response->{body}, 'by key', 'a request is served');

ok(waitfor(sub { slurp("$n->{dir}/access.log")
                 =~ m{^/b 200 b key:\Q$first->{id}\E$}m }),
   'the variable');
ok(waitfor(sub { slurp("$n->{dir}/access.log")
                 =~ m{^/slow/agent/response 200 b key:\Q$first->{id}\E$}m }),
   'the variable in the agent\'s location');


# Across a reload.

ok($n->reload, 'reload');
is(poll($first->{secret})->{status}, 200, 'it is still good');
is(api('DELETE', "backends/b/keys/$second->{id}")->{status}, 200, 'revoked');
is_deeply([ grep { $_ != 401 } map { poll($second->{secret})->{status} }
            1 .. 12 ], [], 'at once, in every worker');


# Polls end with their key, others go on.

my $third = api('POST', 'backends/b/keys')->{json};
my @polls = map { [ waiting_poll($first->{secret}) ] } 1 .. 6;
my ($other, $other_poll) = waiting_poll($third->{secret});

ok($t->wait_status(sub { $_[0]->agents('b') == 7 }), 'seven polls wait');

my $t0 = now();
is(api('DELETE', "backends/b/keys/$first->{id}")->{status}, 200, 'revoked');
is_deeply([ map { $_->[0]->poll_end($_->[1])->{status} } @polls ],
          [ (401) x 6 ], 'its polls');
cmp_ok(now() - $t0, '<', 3 * slow(), 'at once');
is($t->status->agents('b'), 1, 'the other goes on');


# Told of a request and revoked: another agent gets it.

$c = $t->client(timeout => 20);
$c->request('GET', '/b/again');
$id = $other->poll_end($other_poll)->{ids}[0];
ok($id, 'it was told');

my $fourth = api('POST', 'backends/b/keys')->{json};
api('DELETE', "backends/b/keys/$third->{id}");
is($other->fetch($id)->{status}, 401, 'it may not fetch');

my $q = $t->peer(headers => [ bearer($fourth->{secret}) ]);
my $again = $q->take;
isnt($again, $id, 'offered again');
$q->fetch($again);


# Revoked while it answers, and while the body of a request is fetched.

my $w = $q->post($again);
$w->write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
is($c->response(head_only => 1)->{status}, 200, 'the response has begun');

my $up = $t->client(timeout => 20);
$up->request('POST', '/b/up', body => undef, length => 1000);
$up->write('x' x 10);
my $up_id = $q->take;
my $f = $q->fetch($up_id, stream => 1);

is(api('DELETE', "backends/b/keys/$fourth->{id}")->{status}, 200, 'revoked');

$w->answer;
is($w->{response}{status}, 401, 'the POST ends');
ok($c->wait_end(5), 'the client sees a cut');
is($up->response->{status}, 502, 'what it had fetched fails');
ok($f->{client}->wait_end(5), 'and the fetch is cut');


# In each worker a poll, a fetch and a response, and one call that ends them all.

my $everywhere = api('POST', 'backends/b/keys')->{json};
my $e = $t->peer(base => '/slow/agent/',
                 headers => [ bearer($everywhere->{secret}) ]);

sub at { return $t->client_at($_[0], timeout => 20) }

sub call {
    my ($pid, $method, $call, @id) = @_;

    my $conn = at($pid);
    $conn->request($method, "/slow/agent/$call", headers => [
        bearer($everywhere->{secret}),
        map { "X-Inverting-Proxy-Request-ID: $_" } @id ],
        $method eq 'POST' ? (chunked => 1) : ());

    return $conn;
}

sub client {
    my ($target, %opt) = @_;

    my $conn = $t->client(timeout => 20);
    $conn->request($opt{length} ? 'POST' : 'GET', $target, %opt);

    return ($conn, $e->take);
}

my @pids = $n->workers;
is(scalar @pids, 3, 'three workers');

my (@waits, @fetches, @uploads, @answers, @clients);

for my $pid (@pids) {
    my ($conn, $id) = client("/b/$pid", length => 1000);
    push @uploads, $conn;
    push @fetches, call($pid, 'GET', 'request', $id);
    is($fetches[-1]->response(head_only => 1)->{status}, 200,
       'a body is fetched');

    ($conn, $id) = client("/b/$pid");
    $e->fetch($id);
    my $post = call($pid, 'POST', 'response', $id);
    $post->chunk("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    is($conn->response(head_only => 1)->{status}, 200,
       'a response is on its way');
    push @answers, $post;
    push @clients, $conn;
}

push @waits, call($_, 'GET', 'pending') for @pids;
ok($t->wait_status(sub { $_[0]->agents('b') == 3 }), 'in each a poll waits');

$t0 = now();
is(api('DELETE', "backends/b/keys/$everywhere->{id}")->{status}, 200,
   'revoked');
is_deeply([ map { $_->response->{status} } @waits ], [ (401) x 3 ], 'the polls');
is_deeply([ map { $_->response->{status} } @answers ], [ (401) x 3 ],
          'the responses');
is(scalar(grep { $_->wait_end(5) } @fetches), 3, 'the fetches');
is(scalar(grep { $_->wait_end(5) } @clients), 3, 'clients see a cut');
is_deeply([ map { $_->response->{status} } @uploads ], [ (502) x 3 ],
          'or why there will be nothing');
cmp_ok(now() - $t0, '<', 3 * slow(), 'all at once');


# With its backend.

my $fifth = api('POST', 'backends/b/keys')->{json};
($p, $poll) = waiting_poll($fifth->{secret});
$t->wait_status(sub { $_[0]->agents('b') == 1 });
is(api('DELETE', 'backends/b')->{status}, 200, 'the backend is deleted');
is($p->poll_end($poll)->{status}, 401, 'its poll ends');
is(poll($fifth->{secret})->{status}, 401, 'its key is no more');

api('POST', 'backends', { id => 'b', endUser => 'allUsers',
                          pathPrefixes => [ '/b' ] });
is_deeply(api('GET', 'backends/b/keys')->{json}, [], 'nor in a new one');
is(poll($fifth->{secret})->{status}, 401, 'still not');

unlike($n->log, qr/ipk_[0-9a-f]/, 'no secret is in the log');

$t->done;
