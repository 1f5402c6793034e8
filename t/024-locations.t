#!/usr/bin/perl

# The client's location among nginx's others: subrequests to it and from it,
# error pages, rewrites, "if", limit_except, errors intercepted, variables in the
# log.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Http2;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req, digest => $req->{target} =~ /digest/ ? 1 : 0);
    $c->note("$req->{method} $req->{target} "
             . (defined $req->{body} ? $req->{body} : $req->{sha256})
             . ($req->{cut} ? ' cut' : ''));

    my ($what) = $req->{target} =~ m{^/(\w*)};

    if ($what eq 'auth') {
        my $who = $req->header('X-Who') || '';

        return $c->respond(401, [ 'WWW-Authenticate: Basic realm="inner"' ], '')
            if $who eq '';
        return $c->respond(403, [], 'no') if $who ne 'me';
        return $c->respond(204, [ "X-User: user-$who" ]);

    } elsif ($what eq 'status') {
        my ($status) = $req->{target} =~ /(\d+)/;
        return $c->respond($status, [ "X-Status: $status" ], "inner $status");

    } elsif ($what eq 'ssi') {
        return $c->respond(200, [ 'Content-Type: text/html' ],
                           'a<!--# include virtual="/part/1" -->b'
                           . '<!--# include virtual="/part/2?x=y" -->c');

    } elsif ($what eq 'trailers') {
        return $c->respond(200, [ 'Content-Type: text/html' ], 'part',
                           chunked => 1, trailers => [ 'X-T: 1' ]);
    }

    return $c->respond(200, [ 'X-Seen: ' . ($req->header('X-Seen') || 'none') ],
                       join(' ', $req->{method}, $req->{target},
                            $req->{framing}, $req->{length},
                            $req->{sha256} || $req->{body}),
                       head => $req->{method} eq 'HEAD' ? 1 : 0);
});

my $n = $t->nginx(workers => 2, ports => {}, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main away end_user=allUsers backend_user=me
                            prefix=/away;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    log_format vars '$uri|$status|$inverting_proxy_backend'
                    '|$inverting_proxy_id|$inverting_proxy_agent'
                    '|$inverting_proxy_transport|$inverting_proxy_queue_time'
                    '|$upstream_addr|$upstream_status|$upstream_response_length'
                    '|$upstream_response_time|$upstream_header_time'
                    '|$upstream_http_x_seen|$request_length|$body_bytes_sent';

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_body_buffer_size 8k;
        client_max_body_size 0;

        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }

        # asked of a backend, about a backend
        location /private/ {
            auth_request /auth;
            auth_request_set $who $upstream_http_x_user;
            inverting_proxy_set_header X-Seen $who;
            inverting_proxy_pass main;
        }
        location = /auth {
            internal;
            inverting_proxy_pass main real;
        }

        # asked of a backend, about something else
        location /elsewhere/ {
            auth_request /auth;
            proxy_pass http://127.0.0.1:%%PORT_IN%%;
        }

        # asked of something else, about a backend
        location /asked/ {
            auth_request /answer;
            inverting_proxy_pass main;
        }
        location = /answer {
            internal;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_pass http://127.0.0.1:%%PORT_IN%%/answer;
        }

        location /mirrored/ {
            mirror /mirror;
            inverting_proxy_pass main;
        }
        location = /mirror {
            internal;
            inverting_proxy_pass main real;
        }

        location /ssi {
            ssi on;
            inverting_proxy_pass main;
        }

        # a body that was read already
        location /fallback/ {
            proxy_pass http://127.0.0.1:%%PORT_DEAD%%;
            error_page 502 = @inverting;
        }
        location @inverting { inverting_proxy_pass main real; }

        # a body that nginx has discarded, all of it or the beginning
        location /limited/ {
            client_max_body_size 10;
            inverting_proxy_pass main;
            error_page 413 = @inverting;
        }
        location /limited2/ {
            client_max_body_size 10;
            inverting_proxy_pass main;
            error_page 413 /instead;
        }
        location /cached/ {
            set $memcached_key $uri;
            memcached_pass 127.0.0.1:%%PORT_DEAD%%;
            error_page 502 = @inverting;
        }

        # nobody there: another
        location /away/ {
            inverting_proxy_pass main;
            error_page 503 = @inverting;
        }
        location /away2/ {
            inverting_proxy_pass main away;
            error_page 503 = /instead;
        }

        # a body of which some has been passed on
        location /hand/ {
            inverting_proxy_pass main;
            error_page 502 504 = @inverting;
        }

        location /intercept/ {
            rewrite ^/intercept(/.*) $1 break;
            inverting_proxy_pass main real;
            inverting_proxy_intercept_errors on;
            error_page 404 /own404;
            error_page 500 =200 /own500;
            error_page 403 = @inverting;
            error_page 301 =410 /own301;
        }
        location /passed/ {
            rewrite ^/passed(/.*) $1 break;
            inverting_proxy_pass main real;
            error_page 404 500 502 /own404;
        }
        location /own { return 200 "own $uri"; }

        location /if/ {
            if ($request_method = PUT) {
                return 405;
            }
            return 200 "not inverting";
        }
        location /if2/ {
            inverting_proxy_set_header X-Seen outer;
            if ($arg_a) {
                inverting_proxy_pass main real;
            }
            inverting_proxy_pass main real;
        }

        location /except/ {
            limit_except GET { inverting_proxy_pass main real; deny all; }
            inverting_proxy_pass main;
        }
        location /except2/ {
            limit_except POST { inverting_proxy_pass main away; }
            inverting_proxy_pass main real;
        }

        location /denied/ { deny all; inverting_proxy_pass main; }
        location /method/ {
            if ($request_method !~ ^(GET|HEAD)$) { return 405; }
            inverting_proxy_pass main;
        }

        location /log/ {
            access_log %%DIR%%/vars.log vars;
            inverting_proxy_pass main;
        }
        location /away/log/ {
            access_log %%DIR%%/vars.log vars;
            inverting_proxy_pass main;
        }
        # a page for errors, as most have it
        location /pages/ {
            access_log %%DIR%%/pages.log vars;
            auth_request /allowed;
            rewrite ^/pages(/.*) $1 break;
            inverting_proxy_pass main;
            inverting_proxy_intercept_errors on;
            error_page 404 500 502 503 /page.html;
            error_page 403 = @page;
        }
        location = /allowed {
            internal;
            rewrite ^ /part break;
            inverting_proxy_pass main real;
        }
        location = /page.html {
            access_log %%DIR%%/pages.log vars;
            return 200 "page";
        }
        location @page {
            access_log %%DIR%%/pages.log vars;
            return 200 "page";
        }
        location = /elsewhere {
            access_log %%DIR%%/pages.log vars;
            auth_request /allowed;
            error_page 404 /page.html;
            root %%DIR%%;
        }
        location ~ ^/regex/(\w+)/ {
            inverting_proxy_pass main $1;
        }
        location /moved { return 301 /elsewhere; }
    }

    server {
        listen 127.0.0.1:%%PORT_IN%%;
        location / { return 200 "elsewhere $http_x_seen"; }
        location /answer { return 204; }
        location = /answer/no { return 403; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my ($m, $c);
my $big = 300_000;
my $sha = body_sha256('big', $big);


# auth_request

for my $body (undef, 'small', 'x' x 20000) {
    my $name = defined $body ? length($body) . ' bytes' : 'no body';
    my @opt = defined $body ? (method => 'POST', body => $body) : ();
    my @me = (@opt, headers => [ 'X-Who: me' ]);

    $b->clear_notes;
    $m = $t->get('/private/x', @me);
    is($m->{status}, 200, "auth_request, $name: allowed");
    is($m->{body}, defined $body
       ? 'POST /private/x length ' . length($body) . " $body"
       : 'GET /private/x none 0 ', "auth_request, $name: all of it");
    is($m->header('X-Seen'), 'user-me', "auth_request, $name: the user");
    is(($b->notes)[0], 'GET /auth ', "auth_request, $name: asked first");

    is($t->get('/private/x', @opt, headers => [ 'X-Who: you' ])->{status}, 403,
       "auth_request, $name: forbidden");
    $m = $t->get('/private/x', @opt);
    is($m->{status}, 401, "auth_request, $name: unauthorized");
    is($m->header('WWW-Authenticate'), 'Basic realm="inner"',
       "auth_request, $name: what the backend asks for");
    is(scalar(grep { m{private} } $b->notes), 1,
       "auth_request, $name: only one has got through");

    $m = $t->get('/elsewhere/', @me);
    is($m->{body}, 'elsewhere ', "auth_request, $name: to elsewhere");
    is($t->get('/elsewhere/', @opt)->{status}, 401,
       "auth_request, $name: not to elsewhere");

    $m = $t->get('/asked/?a=b', @opt);
    is($m->{body}, defined $body
       ? 'POST /asked/?a=b length ' . length($body) . " $body"
       : 'GET /asked/?a=b none 0 ', "auth_request, $name: from elsewhere");
}

$m = $t->get('/private/digest', method => 'POST', headers => [ 'X-Who: me' ],
             body => random_body('big', $big));
is($m->{body}, "POST /private/digest chunked $big $sha",
   'auth_request: a chunked body');


# mirror: both get it

$b->clear_notes;
$m = $t->get('/mirrored/digest', method => 'POST', length => $big,
             body => random_body('big', $big));
is($m->{body}, "POST /mirrored/digest length $big $sha", 'mirror: the original');
ok($b->wait_note(qr{^POST /mirror }), 'mirror: the copy')
    or diag(join("\n", $b->notes));


# ssi

$m = $t->get('/ssi');
is($m->{body}, 'aGET /part/1 none 0 bGET /part/2?x=y none 0 c', 'ssi');
is($m->{cut}, undef, 'ssi: whole');

for my $chunked (0, 1) {
    $c = $t->client;
    $c->request('POST', '/ssi', $chunked ? (chunked => 1) : (length => 20000));
    nap(0.02);
    $c->send_body('x' x 20000, chunked => $chunked);
    $m = $c->response;
    is($m->{body}, 'aGET /part/1 none 0 bGET /part/2?x=y none 0 c',
       "ssi: parts have nothing of a body, $chunked");
    $c->close;
}


# error_page

for my $case ([ 'none', undef ], [ 'small', 'abc' ], [ 'in memory', 'x' x 5000 ],
              [ 'in a file', body_bytes('big', $big) ])
{
    my ($name, $body) = @$case;

    for my $chunked (0, 1) {
        next if !defined $body && $chunked;

        $m = $t->get('/fallback/x?y=z',
                     defined $body ? (method => 'POST', body => $body,
                                      chunked => $chunked) : ());
        is($m->{body}, defined $body
           ? 'POST /fallback/x?y=z length ' . length($body) . " $body"
           : 'GET /fallback/x?y=z none 0 ',
           "error_page, body $name, $chunked: read before, passed on");
    }
}

$m = $t->get('/away/digest', method => 'POST', body => random_body('big', $big));
is($m->{body}, "POST /away/digest chunked $big $sha",
   'error_page 503 to a named location: the body was not read yet');
$m = $t->get('/away2/x', method => 'POST', body => 'abc');
like($m->{body}, qr{^GET /instead }, 'error_page 503 to another URI');


# A body that was discarded: the request goes on without one, and what follows
# it is another request.

for my $case ([ 'all of it', 20, 'x' x 20 ], [ 'some of it', 3_000_000, 'x' x 1000 ])
{
    my ($name, $length, $body) = @$case;

    $c = $t->client;
    $c->request('POST', '/limited/x', length => $length);
    $c->write($body);
    $m = $c->response;
    like($m->{body}, qr{^POST /limited/x \w+ 0 $},
         "413 to a named location: $name");
    $c->close;

    $c = $t->client;
    $c->request('POST', '/limited2/x', length => $length);
    $c->write($body);
    $m = $c->response;
    like($m->{body}, qr{^GET /instead \w+ 0 $}, "413 to another URI: $name");
    is($m->{status}, 413, "413 to another URI: $name: its status");
    $c->close;
}

$c = $t->client;
$c->request('GET', '/cached/x', chunked => 1);
$c->write("3\r\nabc\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
like($c->response->{body}, qr{^GET /cached/x \w+ 0 $},
     'a chunked body discarded');
is($c->response->{body}, 'GET /next none 0 ', 'what follows it');
$c->close;

my $client = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');
my $x = $client->request('POST', '/limited/x', hold => 1, length => 3_000_000);
ok($client->wait(sub { $x->{ended} }, 5), 'HTTP/2: 413 to a named location');
like($x->{body}, qr{^POST /limited/x \w+ 0 $}, 'HTTP/2: without a body');
$client->close;


# What of a body was passed on is gone: no other backend gets the rest of it, or
# an empty one, for the whole.

my $p = $t->peer(backend => 'hand');

for my $case ([ 'all of it', 3, 'abc', 'read' ], [ 'some of it', 10, 'abc', 'read' ],
              [ 'not read', 3, 'abc', 'no' ])
{
    my ($name, $length, $body, $how) = @$case;

    $b->clear_notes;
    my $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('hand') == 1 });
    $c = $t->client;
    $c->request('POST', '/hand/x', length => $length);
    my $id = $p->poll_end($poll)->{ids}[0];
    my $f = $p->fetch($id, stream => 1);
    $c->write($body);
    $f->{inner}->body_piece if $how eq 'read';
    my $w = $p->post($id);
    $w->write("nonsense\r\n\r\n");
    $w->answer;
    $w->close;
    $f->{client}->close;
    $m = $c->response;
    is($m->{status}, 502, "error_page after a body, $name: 502");
    is_deeply([ $b->notes ], [], "error_page after a body, $name: no other");
    $c->close;
}

# A request without a body can be passed on, and one whose body nginx has got
# with its head.
for my $body (undef, 'abc') {
    my $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('hand') == 1 });
    $c = $t->client;
    $c->request(defined $body ? 'POST' : 'GET', '/hand/x', body => $body);
    my $id = $p->poll_end($poll)->{ids}[0];
    my $f = $p->fetch($id);
    is($f->{request}{body}, $body || '', 'error_page 502: the first backend');
    $p->respond($id, "nonsense\r\n\r\n");
    $m = $c->response;
    is($m->{body}, defined $body ? 'POST /hand/x length 3 abc'
                                 : 'GET /hand/x none 0 ',
       'error_page 502: another backend');
    $c->close;
}


# inverting_proxy_intercept_errors

is($t->get('/intercept/status/200')->{body}, 'inner 200', 'intercept: 200');
$m = $t->get('/intercept/status/404');
is("$m->{status} $m->{body}", '404 own /own404', 'intercept: 404');
is($m->header('X-Status'), undef, 'intercept: nothing of the inner one');
$m = $t->get('/intercept/status/500');
is("$m->{status} $m->{body}", '200 own /own500', 'intercept: another status');
$m = $t->get('/intercept/status/301');
is("$m->{status} $m->{body}", '410 own /own301', 'intercept: 301');
$m = $t->get('/intercept/status/403');
is("$m->{status} $m->{body}", '403 inner 403', 'intercept: another backend');
$m = $t->get('/intercept/status/418');
is("$m->{status} $m->{body}", '418 inner 418', 'intercept: no page for it');
$m = $t->get('/intercept/status/404', method => 'POST', body => 'x' x 20000);
is("$m->{status} $m->{body}", '404 own /own404', 'intercept: with a body');

for my $status (404, 500, 502) {
    $m = $t->get("/passed/status/$status");
    is("$m->{status} $m->{body}", "$status inner $status",
       "not intercepted: $status");
}


# if, limit_except, access rules

is($t->get('/if/?to=x')->{body}, 'not inverting', '"if": not');
is($t->get('/if/?to=x', method => 'PUT')->{status}, 405, '"if": a method');
for my $args ('', '?a=1') {
    $m = $t->get("/if2/$args");
    is($m->{body}, "GET /if2/$args none 0 ", "\"if\" $args: to the backend");
    is($m->header('X-Seen'), 'outer', "\"if\" $args: what is inherited");
}

is($t->get('/except/x')->{body}, 'GET /except/x none 0 ', 'limit_except');
is($t->get('/except/x', method => 'HEAD')->{status}, 200, 'GET is HEAD, too');
$b->clear_notes;
is($t->get('/except/x', method => 'POST', body => 'a')->{status}, 403,
   'limit_except: others');
is($t->get('/except2/x', method => 'POST', body => 'a')->{body},
   'POST /except2/x length 1 a', 'limit_except: POST');
is($t->get('/except2/x')->{status}, 503, 'limit_except: another backend');

is($t->get('/denied/x')->{status}, 403, 'deny');
is($t->get('/method/x', method => 'POST', body => 'a')->{status}, 405,
   'a method refused');
is(scalar(grep { m{denied|method|except/} } $b->notes), 0,
   'the backend saw nothing of those');

is($t->get('/regex/real/x')->{body}, 'GET /regex/real/x none 0 ',
   'a backend out of the location');
is($t->get('/regex/none/x')->{status}, 404, 'one that there is not');


# Variables

my $log;

$t->get('/log/x', headers => [ 'X-Seen: me' ]);
# Another worker might be the first to write its line.
waitfor(sub { slurp($n->{dir} . '/vars.log') =~ /\n/ });
$t->get('/away/log/x');

ok(waitfor(sub {
    $log = slurp($n->{dir} . '/vars.log');
    return 2 == (() = $log =~ /\n/g);
}), 'the access log');

my ($first, $second) = map { [ split(/\|/, $_, -1) ] } split(/\n/, $log);

is($first->[0], '/log/x', 'the request');
is($first->[1], 200, '$status');
is($first->[2], 'real', '$inverting_proxy_backend');
like($first->[3], qr/^[0-9a-f]{32}$/, '$inverting_proxy_id');
is($first->[4], 'me', '$inverting_proxy_agent');
is($first->[5], $t->transport, '$inverting_proxy_transport');
like($first->[6], qr/^\d+\.\d{3}$/, '$inverting_proxy_queue_time');
is($first->[7], 'real', '$upstream_addr');
is($first->[8], 200, '$upstream_status');
cmp_ok($first->[9], '>', 10, '$upstream_response_length');
like($first->[10], qr/^\d+\.\d{3}$/, '$upstream_response_time');
like($first->[11], qr/^\d+\.\d{3}$/, '$upstream_header_time');
is($first->[12], 'me', '$upstream_http_...');

is($second->[1], 503, 'refused: $status');
is($second->[2], 'away', 'refused: $inverting_proxy_backend');
is($second->[3], '-', 'refused: no $inverting_proxy_id');
is($second->[5], '-', 'refused: no $inverting_proxy_transport');
is($second->[6], '-', 'refused: no $inverting_proxy_queue_time');


# What led to an error page is in the log nevertheless

my $lines = 0;

for my $case ([ '/pages/status/404', 'real' ], [ '/pages/status/403', 'real' ],
              [ '/pages/away/x', 'away' ], [ '/elsewhere', '-' ])
{
    my ($target, $backend) = @$case;

    is($t->get($target)->{body}, 'page', "$target: a page in its place");

    $lines++;
    ok(waitfor(sub {
        $log = slurp($n->{dir} . '/pages.log');
        return $lines == (() = $log =~ /\n/g);
    }), "$target: in the log");

    my @of = split(/\|/, (split(/\n/, $log))[-1], -1);
    is($of[2], $backend, "$target: \$inverting_proxy_backend");

    my $served = $backend eq 'real' ? qr/^[0-9a-f]{32}$/ : qr/^-$/;
    like($of[3], $served, "$target: \$inverting_proxy_id");
    is($of[5], $backend eq 'real' ? $t->transport : '-',
       "$target: \$inverting_proxy_transport");
}

$t->done;
