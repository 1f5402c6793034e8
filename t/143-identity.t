#!/usr/bin/perl

# What does not depend on how the end user was found out: nobody at all, values
# that can't be identities, levels of the configuration, and what the backend is
# told.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [], $req->{raw});
});

my $long = 'u' x 256;

my $n = $t->nginx(start => 0, vars => { LONG => $long }, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main public end_user=allUsers backend_user=agent;
    inverting_proxy_backend main alices end_user=alice prefix=/alice/
                            backend_user=agent;
    inverting_proxy_backend main longs end_user=%%LONG%% prefix=/alice/
                            backend_user=agent;

    inverting_proxy_user $http_x_user;
    inverting_proxy_agent_user $http_x_agent;

    underscores_in_headers on;
    large_client_header_buffers 4 16k;
    add_header X-Backend $inverting_proxy_backend always;

    server {
        listen 127.0.0.1:%%PORT%%;

        location / { inverting_proxy_pass main; }
        location /api/ { inverting_proxy_api main; }

        # Bytes that no field can have: the URI is decoded here.
        location ~ ^/who/(?<who>[^/]*)/ {
            inverting_proxy_user $who;
            inverting_proxy_pass main;
        }

        # Agents: of this level, of the outer one, of none.
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user agent;
        }
        location /outer/agent/ { inverting_proxy_agent main; }
        location /cancelled/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user "";
        }
    }

    # Levels: the location's own, the server's, none, and below each other.
    server {
        listen 127.0.0.1:%%PORT_levels%%;
        inverting_proxy_user $http_x_server_user;

        location / { inverting_proxy_pass main alices; }
        location /own/ {
            inverting_proxy_user $http_x_own_user;
            inverting_proxy_pass main alices;
        }
        location /cancelled/ {
            inverting_proxy_user "";
            inverting_proxy_pass main;

            location /cancelled/again/ {
                inverting_proxy_user $http_x_own_user;
                inverting_proxy_pass main alices;
            }
        }
    }

    # Nothing for everybody here.
    inverting_proxy_zone zone=private:4m;
    inverting_proxy_backend private alices end_user=alice prefix=/alice/
                            backend_user=agent;

    server {
        listen 127.0.0.1:%%PORT_private%%;

        location / { inverting_proxy_pass private; }
        location /cancelled/ {
            inverting_proxy_user "";
            inverting_proxy_pass private;
        }
        location /named/ { inverting_proxy_pass private alices; }
        location /page/ {
            error_page 401 =200 /page.html;
            inverting_proxy_pass private;
        }
        location = /page.html { return 200 "sign in here"; }
    }
EOT

$n->start;

sub ask {
    my ($port, $target, @headers) = @_;

    my $m = $t->get($target, port => $n->port($port), headers => \@headers);

    return $m->{status} . ' ' . ($m->header('X-Backend') || '-');
}


# Nobody, and what is for everybody

is(ask('', '/x'), '503 public', 'nobody, what is for everybody');
is(ask('', '/alice/'), '503 public', "and not alice's");
is(ask('', '/alice/', 'X-User: alice'), '503 alices', 'alice, hers');
is(ask('', '/bob/', 'X-User: alice'), '503 public', 'alice, elsewhere');
is(ask('', '/alice/', 'X-User: allUsers'), '503 public',
   'a user named "allUsers" is nobody special');

my $m = $t->get('/x', port => $n->port('private'));
is($m->{status}, 401, 'nobody, where nothing is for everybody');
is($m->header('WWW-Authenticate'), 'Bearer', 'is asked who it is');
is(ask('private', '/x', 'X-User: bob'), '404 -', 'somebody is not');
is(ask('private', '/named/'), '404 -', 'nor is anybody by name');
is(ask('private', '/cancelled/'), '404 -', 'nor anybody where nobody is asked');
is($t->get('/page/', port => $n->port('private'))->{body}, 'sign in here',
   'error_page takes the 401');


# Levels

is(ask('levels', '/', 'X-User: alice'), '404 -', 'not the http level\'s');
is(ask('levels', '/', 'X-Server-User: alice'), '503 alices', 'the server\'s');
is(ask('levels', '/own/', 'X-Server-User: alice'), '404 -',
   'not the server\'s');
is(ask('levels', '/own/', 'X-Own-User: alice'), '503 alices',
   'the location\'s');
is(ask('levels', '/cancelled/alice/', 'X-Server-User: alice'), '503 public',
   '"" cancels');
is(ask('levels', '/cancelled/again/', 'X-Own-User: alice'), '503 alices',
   'and can be followed by another one');

for my $case ([ '/agent/', '', 200 ], [ '/outer/agent/', 'agent', 200 ],
              [ '/outer/agent/', '', 401 ],
              [ '/cancelled/agent/', 'agent', 401 ],
              [ '/cancelled/agent/', '', 401 ])
{
    my ($base, $agent, $status) = @$case;

    my $p = $t->peer(backend => 'alices', base => $base,
                     headers => [ "X-Agent: $agent" ]);

    if ($status == 200) {
        my $poll = $p->poll;
        ok($t->wait_status(sub { $_[0]->agents('alices') == 1 }),
           "an agent of $base as \"$agent\": let in");
        $poll->close;
        $t->wait_status(sub { $_[0]->agents('alices') == 0 });
        next;
    }

    is($p->pending->{status}, $status, "an agent of $base as \"$agent\"");
}


# What can't be an identity

is(ask('', '/alice/', "X-User: $long"), '503 longs', 'an identity of 256 bytes');
is(ask('', '/', "X-User: ${long}u"), '403 -', 'one of 257 is refused');
is(ask('', '/', 'X-User: ' . 'x' x 10000), '403 -', 'one of 10000 is refused');

$n->mark;
is(ask('', '/who/alice/'), '503 public', 'a decoded one');

for my $bad ('%0d%0aX-A:b', '%01', 'a%09b', '%7f', 'alice%0a', '%0d', '%1fx',
             '%20alice', 'alice%20', '%20')
{
    is(ask('', "/who/$bad/"), '403 -', "$bad is refused");
}

is(ask('', '/who/a%20b/'), '503 public', 'a space within is right');
is(ask('', '/who/%C3%BC%ff/'), '503 public', 'and so are other bytes');
like($n->log, qr/\[error\].*the value of inverting_proxy_user/,
     'the log says what is wrong');

# Of an agent they are wrong ones, like any other.
for my $bad ('agent ' x 50, 'x' x 5000, "\xff\xfe") {
    is($t->peer(backend => 'alices', base => '/outer/agent/',
                headers => [ "X-Agent: $bad" ])->pending->{status}, 401,
       'an agent of ' . length($bad) . ' bytes');
}


# What the backend is told: by an agent that is asked to, and by one that is not.

my @spoof = ('X-Inverting-Proxy-User-ID: root', 'x-inverting-proxy-user-id: root',
             'X_Inverting_Proxy_User_ID: root', 'X-Inverting-Proxy_USER-ID: root',
             'X-Inverting-Proxy-User-ID : root',
             'X-Inverting-Proxy-Backend-ID: alices',
             'X-Inverting-Proxy-Anything: root',
             "Connection: X-Inverting-Proxy-User-ID, close");

for my $case ([ 'alices', '-forward-user-id' ], [ 'public' ]) {
    my ($id, @args) = @$case;

    my $agent = $t->agent(backend => $id, host => $b->address, args => \@args);

    my %user = $id eq 'alices' ? ('alice' => '/alice/')
             : ('alice' => '/', '' => '/', 'allUsers' => '/alice/');

    for my $user (sort keys %user) {
        for my $spoof ('X-None: x', @spoof) {
            # Not even what nginx drops or refuses gets through.
            my $r = $t->get($user{$user},
                            headers => [ "X-User: $user", $spoof ]);
            next if $r->{status} == 400;

            my @got = $r->{body} =~ /^(x.inverting.proxy.[^\r]*)/gmi;
            my @want = $id eq 'alices' ? ("X-Inverting-Proxy-User-ID: $user")
                                       : ();

            is($r->{status}, 200, "$id, \"$user\", $spoof: served");
            is_deeply(\@got, \@want, "$id, \"$user\", $spoof: not told");
        }
    }

    $agent->stop;
}

# Nobody is nobody to the backend, too.
my $agent = $t->agent(backend => 'public', host => $b->address,
                      args => [ '-forward-user-id' ]);
unlike($t->get('/')->{body}, qr/^x.inverting.proxy/mi,
       'nobody is told as nobody');
like($t->get('/', headers => [ 'X-User: bob' ])->{body},
     qr/^X-Inverting-Proxy-User-ID: bob\r$/m, 'somebody as himself');

$t->done;
