#!/usr/bin/perl

# The API: what it answers, and what it refuses.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP ();

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:1m;
    inverting_proxy_zone zone=tiny:512k registry=32k;
    inverting_proxy_backend main fixed end_user=allUsers prefix=/fixed
                            prefix=/more backend_user=a;
    inverting_proxy_agent_user a;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ {
            inverting_proxy_api main write=on;
            location /api/inner/ { inverting_proxy_api main; }
        }
        location /bare { inverting_proxy_api main write=on; }
        location /read/ { inverting_proxy_api main; }
        location /off/ { inverting_proxy_api main write=off; }
        location /tiny/ { inverting_proxy_api tiny write=on; }
        location /small/ {
            inverting_proxy_api main write=on;
            client_max_body_size 100;
        }
    }
EOT

my $json = JSON::PP->new->utf8->canonical;


sub record {
    my ($id, %more) = @_;
    return { id => $id, endUser => 'allUsers', backendUser => 'a',
             pathPrefixes => [ '/' ], %more };
}


# The answer, with its body decoded; every one is JSON.

sub call {
    my ($method, $path, $body, @headers) = @_;

    $body = $json->encode($body) if ref $body;

    my $m = $t->get($path, method => $method, body => $body,
                    headers => \@headers);

    $m->{doc} = eval { JSON::PP->new->utf8->allow_nonref->decode($m->{body}) };

    return $m;
}


sub refused {
    my ($m, $status, $what, $field) = @_;

    is($m->{status}, $status, "$what: $status");
    is($m->header('Content-Type'), 'application/json', 'JSON');

    my $error = ref $m->{doc} eq 'HASH' && $m->{doc}{error} || {};

    is($error->{status}, $status, 'its status');
    ok($error->{message}, 'its message: '
       . (defined $error->{message} ? $error->{message} : 'none'));
    is($error->{field}, $field, 'its field');
}


# records

my $m = call('GET', '/api/backends');
is($m->{status}, 200, 'the list');
is($m->header('Content-Type'), 'application/json', 'is JSON');
is($m->header('Cache-Control'), 'no-store', 'and not to be kept');
is_deeply($m->{doc}, [ { id => 'fixed', endUser => 'allUsers',
                         backendUser => 'a',
                         pathPrefixes => [ '/fixed', '/more' ],
                         agents => 0, waiting => 0, active => 0 } ],
          'a bare array of what is configured');

my $new = record('new', endUser => "J\x{fc}rgen \"q\" \\ \x{263a}",
                 pathPrefixes => [ '/b', '/a', '/' ]);
$m = call('POST', '/api/backends', $new);
is($m->{status}, 200, 'a new one');
is_deeply($m->{doc}, { %$new, agents => 0, waiting => 0, active => 0 },
          'is the answer');
is_deeply(call('GET', '/api/backends/new')->{doc}, $m->{doc}, 'and is there');
is(call('HEAD', '/api/backends/new')->{status}, 200, 'for HEAD, too');

is(call('POST', '/api/backends', $m->{doc})->{status}, 200,
   'what was read can be written back');

$m = call('POST', '/api/backends', record('new', pathPrefixes => [ '/c' ]));
is($m->{status}, 200, 'it is replaced');
is_deeply(call('GET', '/api/backends/new')->{doc}{pathPrefixes}, [ '/c' ],
          'all of it');
is(call('GET', '/api/backends/new')->{doc}{endUser}, 'allUsers',
   'its user, too');
is(scalar @{call('GET', '/api/backends')->{doc}}, 2, 'there are two');
is($t->get('/c/x')->{status}, 503, 'requests reach it');
is($t->get('/b/x')->{status}, 404, 'by its new prefix only');

$m = call('DELETE', '/api/backends/new');
is($m->{status}, 200, 'it is deleted');
is($m->{body}, "{}\n", 'the answer');
refused(call('GET', '/api/backends/new'), 404, 'it is gone');
is($t->get('/c/x')->{status}, 404, 'for requests, too');
is(call('DELETE', '/api/backends/new')->{status}, 200, 'a second time');
is(call('DELETE', '/api/backends/never')->{status}, 200,
   'one that was never there');

is(call('POST', '/bare/backends', record('x'))->{status}, 200,
   'a location without a slash');
is(call('DELETE', '/bare/backends/x')->{status}, 200, 'there, too');


# many of them: the list comes in steps

for my $i (1 .. 300) {
    my $id = sprintf('%04d-%s', $i, 'i' x 100);
    call('POST', '/api/backends', record($id, pathPrefixes => [ "/$i" ]))
        ->{status} == 200 or fail("backend $i");
}

$m = call('GET', '/api/backends');
is(scalar @{$m->{doc}}, 301, 'a longer list is whole');
is_deeply([ map { $_->{id} } @{$m->{doc}} ],
          [ sort map { $_->{id} } @{$m->{doc}} ], 'in order');
is(scalar @{call('GET', '/api/status')->{doc}{backends}}, 301,
   'in the status, too');

my $slow = $t->client(rcvbuf => 4096);
$slow->request('GET', '/api/backends');
nap(0.2);
call('DELETE', "/api/backends/$_->{id}")
    for grep { $_->{id} ne 'fixed' } @{$m->{doc}};
$m = $slow->response;
ok(eval { $json->decode($m->{body}) }, 'read slowly, while it shrinks: JSON');
is($m->{cut}, undef, 'whole');
is(scalar @{call('GET', '/api/backends')->{doc}}, 1, 'one is left');


# the status

$m = call('GET', '/api/status');
is($m->{status}, 200, 'the status');
is($m->{doc}{zone}{name}, 'main', 'of this zone');
is(scalar @{$m->{doc}{workers}}, 2, 'two workers');
is_deeply([ sort map { $_->{pid} } @{$m->{doc}{workers}} ],
          [ sort $n->workers ], 'these');
is($m->{doc}{registry}{backends}, 1, 'one backend');
is(call('GET', '/tiny/status')->{doc}{zone}{name}, 'tiny', 'of another zone');


# what is configured is not to be changed

refused(call('POST', '/api/backends', record('fixed')), 403,
        'changing what is configured', 'id');
refused(call('DELETE', '/api/backends/fixed'), 403,
        'deleting what is configured', 'id');
is(call('GET', '/api/backends/fixed')->{doc}{pathPrefixes}[0], '/fixed',
   'it is as it was');


# paths and methods

for my $path ('/api/', '/api/x', '/api/backend', '/api/backendsx',
              '/api/backends/', '/api/status/', '/api/status/x',
              '/api/backends/no/such', '/api/backends/none', '/bareX/status',
              '/api/Backends')
{
    refused(call('GET', $path), 404, "GET $path");
}

for my $case ([ 'PUT', 'backends', 'GET, HEAD, POST' ],
              [ 'DELETE', 'backends', 'GET, HEAD, POST' ],
              [ 'PATCH', 'backends', 'GET, HEAD, POST' ],
              [ 'POST', 'backends/fixed', 'GET, HEAD, DELETE' ],
              [ 'PUT', 'backends/fixed', 'GET, HEAD, DELETE' ],
              [ 'DELETE', 'backends/fixed/keys', 'GET, HEAD, POST' ],
              [ 'GET', 'backends/fixed/keys/1', 'DELETE' ],
              [ 'POST', 'backends/fixed/keys/1', 'DELETE' ],
              [ 'POST', 'status', 'GET, HEAD' ],
              [ 'DELETE', 'status', 'GET, HEAD' ])
{
    my ($method, $path, $allow) = @$case;

    $m = call($method, "/api/$path", $method eq 'DELETE' ? undef : '{}');
    refused($m, 405, "$method $path");
    is($m->header('Allow'), $allow, 'Allow');
}


# who may not write

for my $api ('/read', '/off', '/api/inner') {
    refused(call('POST', "$api/backends", record('x')), 403,
            "$api: a POST where there is no write=on");
    refused(call('DELETE', "$api/backends/fixed"), 403, "$api: a DELETE");
    is(call('GET', "$api/backends")->{status}, 200, "$api: a GET");
    is(call('GET', "$api/status")->{status}, 200, "$api: the status");
}

my $origin = 'Origin: http://localhost';

for my $case ([ 'another origin', 'Origin: http://evil.example' ],
              [ 'no origin that can be named', 'Origin: null' ],
              [ 'another scheme', 'Origin: https://localhost' ],
              [ 'another port', 'Origin: http://localhost:81' ],
              [ 'one that begins like it', "$origin.evil.example" ],
              [ 'two', $origin, 'Origin: http://evil.example' ],
              [ 'another site', 'Sec-Fetch-Site: cross-site' ],
              [ 'the same site', 'Sec-Fetch-Site: same-site' ],
              [ 'both', $origin, 'Sec-Fetch-Site: cross-site' ])
{
    my ($what, @headers) = @$case;

    refused(call('POST', '/api/backends', record('x'), @headers), 403,
            "a page of $what");
    refused(call('DELETE', '/api/backends/x', undef, @headers), 403,
            "a page of $what, DELETE");
}

is(scalar @{call('GET', '/api/backends')->{doc}}, 1, 'nothing was written');

for my $case ([ 'the same origin', $origin ],
              [ 'in another case', 'Origin: HTTP://LocalHost' ],
              [ 'the same origin, as the browser says',
                'Sec-Fetch-Site: same-origin' ],
              [ 'nobody', 'Sec-Fetch-Site: none' ])
{
    my ($what, @headers) = @$case;
    is(call('POST', '/api/backends', record('x'), @headers)->{status}, 200,
       "a page of $what");
}

call('DELETE', '/api/backends/x');


# bodies

my $long = $json->encode(record('x'));
my $pad = ' ' x (65536 - length $long);

is(call('POST', '/api/backends', $long . $pad)->{status}, 200,
   'a body of 65536 bytes');
refused(call('POST', '/api/backends', "$long$pad "), 413, 'one more');

for my $size (65537, 1_000_000) {
    my $c = $t->client;
    $c->request('POST', '/api/backends', body => ' ' x $size, chunked => 1);
    $m = $c->response;
    is($m->{status}, 413, "chunked, $size bytes");
    ok($json->decode($m->{body})->{error}, 'JSON');
}

my $c = $t->client;
$c->request('POST', '/api/backends', chunked => 1);
$c->chunk($_) for split(//, $long);
$c->last_chunk;
is($c->response->{status}, 200, 'in many small chunks');
is($c->get('/api/status')->{status}, 200, 'another call behind it');

$c = $t->client;
$c->request('POST', '/api/backends', length => length $long);
$c->write_slowly($long, 7, 0.002);
is($c->response->{status}, 200, 'slowly');

$c = $t->client;
$c->request('POST', '/api/backends', length => 1000);
$c->write('{"id": ');
$c->close;

is(call('POST', '/small/backends', $long . ' ' x 100)->{status}, 413,
   'client_max_body_size holds');
$c = $t->client;
$c->request('POST', '/api/backends', headers => [ 'Expect: 100-continue' ],
            length => 100_000);
$m = $c->response;
is($m->{status}, 413, 'Expect: 100-continue, too large');
is_deeply($m->{interim}, [], 'is not asked for');
call('DELETE', '/api/backends/x');


# the registry is full

my $count = 0;
do {
    $m = call('POST', '/tiny/backends', record("b$count", pathPrefixes =>
              [ map { "/$_/" . 'x' x 200 } 1 .. 10 ]));
    $count++;
} while ($m->{status} == 200 && $count < 1000);

refused($m, 507, "the registry is full after $count backends");
cmp_ok($count, '>', 3, 'not at once');
like($n->log, qr/\[error\].* registry of inverting_proxy_zone "tiny" is full/,
     'in the log');

my $list = call('GET', '/tiny/backends')->{doc};
is(scalar @$list, $count - 1, 'the others are there');
refused(call('POST', '/tiny/backends', record('b0', pathPrefixes =>
             [ map { "/$_/" . 'y' x 240 } 1 .. 64 ])), 507,
        'no room to replace one either');
is_deeply(call('GET', '/tiny/backends/b0')->{doc}, $list->[0],
          'then it is as it was');
is(call('DELETE', '/tiny/backends/b1')->{status}, 200, 'one is deleted');
is(call('POST', '/tiny/backends', record('z'))->{status}, 200,
   'there is room again');

for my $id (map { $_->{id} } @{call('GET', '/tiny/backends')->{doc}}) {
    call('DELETE', "/tiny/backends/$id");
}

is(call('GET', '/tiny/status')->{doc}{registry}{used}, 0,
   'all are deleted, and nothing is in use');

$t->done;
