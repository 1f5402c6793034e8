#!/usr/bin/perl

# auth_request with a sign-on service such as oauth2-proxy: it looks at a cookie,
# and answers 202 with X-Auth-Request-Email, or 401.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

# Who is signed in, by cookie.
my %session = ('s-alice' => 'alice@example.com', 's-bob' => 'bob@example.com');

my $service = $t->backend(sub {
    my ($c, $req) = @_;

    my ($cookie) = ($req->header('Cookie') || '') =~ /\b_oauth2_proxy=([^;\s]*)/;
    my $email = defined $cookie ? $session{$cookie} : undef;

    $c->read_body($req);
    $c->note("$req->{method} $req->{target} $req->{length} "
             . ($req->header('X-Original-URI') || ''));

    if ($req->{target} =~ m{^/oauth2/(?:sign_in|start)}) {
        return $c->respond(200, [], 'please sign in');
    }

    return $c->respond(500, [], '') if defined $cookie && $cookie eq 's-broken';
    return $c->respond(401, [], '') if !defined $email;
    return $c->respond(202, [ "X-Auth-Request-Email: $email",
                              "X-Auth-Request-User: $email" ], '');
});

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req, digest => 1);
    return $c->respond(200, [], join(' ', $req->{method}, $req->{sha256},
                       map { my $v = $req->header($_); defined $v ? $v : '-' }
                       qw(X-Inverting-Proxy-User-ID X-Auth-Request-Email
                          X-Forwarded-Email)));
});

my $n = $t->nginx(vars => { SERVICE => $service->address }, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main alices end_user=alice@example.com
                            backend_user=agent;
    map $http_authorization $agent { "Bearer agent-token" agent; }

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;

        location / {
            auth_request /oauth2/auth;
            auth_request_set $email $upstream_http_x_auth_request_email;
            error_page 401 = /oauth2/sign_in;

            inverting_proxy_user $email;
            inverting_proxy_set_header X-Auth-Request-Email $email;
            inverting_proxy_pass main;
        }

        location = /oauth2/auth {
            internal;
            proxy_pass http://%%SERVICE%%;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-URI $request_uri;
        }

        location /oauth2/ { proxy_pass http://%%SERVICE%%; }

        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $agent;
        }

        location /api/ { inverting_proxy_api main; }
    }
EOT

spew("$t->{dir}/token", "agent-token\n");
$t->agent(backend => 'alices', host => $b->address,
          args => [ "-token-file=$t->{dir}/token", '-forward-user-id' ]);

sub ask {
    my ($cookie, %opt) = @_;

    my @headers = @{delete $opt{headers} || []};
    push @headers, "Cookie: x=y; _oauth2_proxy=$cookie; z=1" if defined $cookie;

    return $t->get('/private/x?y', headers => \@headers, %opt);
}


my $empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

my $m = ask('s-alice');
is($m->{status}, 200, 'alice is signed in');
is($m->{body}, "GET $empty alice\@example.com alice\@example.com -",
   'and the backend is told by agent and proxy');
ok($service->wait_note(qr{^GET /oauth2/auth 0 /private/x\?y$}),
   'the service was asked about the request');

is(ask('s-bob')->{status}, 404, 'bob has no backend');
is(ask('s-bob', headers => [ 'X-Auth-Request-Email: alice@example.com' ])
       ->{status}, 404, 'whatever he says');
is(ask('s-bob', headers => [ 'X-Inverting-Proxy-User-ID: alice@example.com' ])
       ->{status}, 404, 'and however he says it');

$m = ask(undef);
is($m->{body}, 'please sign in', 'who is not signed in, is asked to');
$m = ask('forged');
is($m->{body}, 'please sign in', 'and so is who has a wrong cookie');
is(ask('s-broken')->{status}, 500, 'a broken service lets nobody in');

# What a user says about himself beside a good cookie is not what arrives.
$m = ask('s-alice', headers => [ 'X-Auth-Request-Email: root@example.com',
                                 'X-Inverting-Proxy-User-ID: root@example.com' ]);
is($m->{body}, "GET $empty alice\@example.com alice\@example.com -",
   'the identity is as the proxy set it');

# A body goes past the service, to the backend, whole.
my $size = 3 * 1024 * 1024;
for my $how ([ 'with its length', length => $size ], [ 'chunked' ]) {
    my ($name, %opt) = @$how;

    $m = ask('s-alice', method => 'POST', body => random_body('up', $size),
             %opt);
    is($m->{body}, 'POST ' . body_sha256('up', $size)
       . ' alice@example.com alice@example.com -', "an upload, $name");
}

# Each request is asked about.
is(ask('s-alice')->{status}, 200, 'still signed in');
$service->stop;
is(ask('s-alice')->{status}, 500, 'no service, no way in');

$t->done;
