#!/usr/bin/perl

# auth_basic with a real password file, for end users and for agents; and what
# $remote_user is worth without it.

use lib 't/lib';
use InvertingProxy::Test;

use MIME::Base64 qw(encode_base64);

my $t = InvertingProxy::Test->new;

sub htpasswd {
    my (%password) = @_;

    return join('', map {
        my $r = run_command([ 'openssl', 'passwd', '-apr1', $password{$_} ]);
        "$_:$r->{out}";
    } sort keys %password);
}

sub basic {
    my ($user, $password) = @_;
    return 'Authorization: Basic ' . encode_base64("$user:$password", '');
}

spew("$t->{dir}/users", htpasswd(alice => 'a-secret', bob => 'b-secret'));
spew("$t->{dir}/agents", htpasswd('home-agent' => 'h-secret',
                                  'other-agent' => 'o-secret'));
chmod(0644, "$t->{dir}/users", "$t->{dir}/agents");

my $n = $t->nginx(vars => { USERS => "$t->{dir}/users",
                            AGENTS => "$t->{dir}/agents" }, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main alices end_user=alice backend_user=home-agent;
    inverting_proxy_backend main public end_user=allUsers prefix=/public/
                            backend_user=home-agent;

    inverting_proxy_user $remote_user;

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            auth_basic "members only";
            auth_basic_user_file %%USERS%%;
            inverting_proxy_pass main;
            inverting_proxy_set_header Authorization "";
        }

        # On purpose: what the README warns of.
        location /open/ {
            inverting_proxy_pass main;
        }

        location /any/ {
            satisfy any;
            allow 127.0.0.1;
            auth_basic "members only";
            auth_basic_user_file %%USERS%%;
            inverting_proxy_pass main;
        }

        location /agent/ {
            auth_basic "agents only";
            auth_basic_user_file %%AGENTS%%;
            inverting_proxy_agent main;
            inverting_proxy_agent_user $remote_user;
        }

        location /api/ { inverting_proxy_api main; }
    }
EOT

sub status {
    my ($target, @headers) = @_;
    return $t->get($target, headers => \@headers)->{status};
}


# End users

my $m = $t->get('/');
is($m->{status}, 401, 'without a password');
is($m->header('WWW-Authenticate'), 'Basic realm="members only"',
   'nginx asks for it');

is(status('/', basic('alice', 'wrong')), 401, 'a wrong password');
is(status('/', basic('bob', 'b-secret')), 404, 'bob has no backend');
is(status('/', basic('alice', 'a-secret')), 503, 'alice has one');
is(status('/public/', basic('bob', 'b-secret')), 503, 'bob may use a public one');
is(status('/public/'), 401, 'but not without a password');


# Agents: theirs is another file.

sub agent {
    my ($backend, @headers) = @_;
    return $t->peer(backend => $backend, headers => \@headers);
}

is(agent('alices')->pending->{status}, 401, 'an agent without a password');
is(agent('alices', basic('home-agent', 'wrong'))->pending->{status}, 401,
   'an agent with a wrong one');
is(agent('alices', basic('alice', 'a-secret'))->pending->{status}, 401,
   'an end user is no agent');
is(agent('alices', basic('other-agent', 'o-secret'))->pending->{status}, 401,
   "another agent is not the backend's");
is(agent('none', basic('home-agent', 'h-secret'))->pending->{status}, 401,
   'nor is there any backend');

my $p = agent('alices', basic('home-agent', 'h-secret'));
my $poll = $p->poll;
ok($t->wait_status(sub { $_[0]->agents('alices') == 1 }), 'the right one');

my $c = $t->client;
$c->request('GET', '/x', headers => [ basic('alice', 'a-secret'),
                                      'X-Inverting-Proxy-User-ID: root' ]);

my $f = $p->fetch($p->poll_end($poll)->{ids}[0]);
is($f->{user}, 'alice', 'the agent is told who it is');
is($f->{request}->header('Authorization'), undef,
   "and is not told the proxy's password");
is($f->{request}->header('X-Inverting-Proxy-User-ID'), undef,
   "nor what the client says about who it is");
$p->respond($f->{id}, $p->response(200, [], 'for alice'));
is($c->response->{body}, 'for alice', 'alice is served');


# Without auth_basic anybody is whoever he says: a password is not looked at.

for my $case ([ '/open/', 'without auth_basic' ],
              [ '/any/', 'with another way in' ])
{
    my ($path, $name) = @$case;

    $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('alices') == 1 });

    $c = $t->client;
    $c->request('GET', $path, headers => [ basic('alice', 'anything') ]);

    $f = $p->fetch($p->poll_end($poll)->{ids}[0]);
    is($f->{user}, 'alice', "$name \$remote_user is anybody's word");
    is($f->{request}->header('Authorization'),
       basic('alice', 'anything') =~ s/^.*?: //r,
       "$name and set_header the password goes on");
    $p->respond($f->{id}, $p->response(200, [], 'for alice'));
    is($c->response->{status}, 200, "$name he gets what is alice's");
}

is(status('/open/'), 401, 'who says nothing is nobody');

$t->done;
