#!/usr/bin/perl

# What inverting-proxy-admin shows to the server, where it has it from, and to
# whom it does not show it.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Admin;

my $t = InvertingProxy::Test->new;

my @ca = $t->certificate_for('ca');
my @server = $t->certificate_for('server', ca => \@ca);
my @me = $t->certificate_for('me', ca => \@ca);

my $r = run_command([ qw(openssl passwd -apr1), 'a: secret' ]);
spew("$t->{dir}/users", "admin:$r->{out}");
chmod(0644, "$t->{dir}/users");

# A server that writes down what it is shown.
my $spy = $t->backend(sub {
    my ($c, $req) = @_;
    my $shown = $req->header('Authorization');
    $c->note(defined $shown ? $shown : 'nothing');
    return $c->respond(200, [ 'Content-Type: application/json' ], '[]');
});

my $n = $t->nginx(vars => { CRT => $server[0], KEY => $server[1],
                            CA => $ca[0], USERS => "$t->{dir}/users" },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;

    map $http_authorization $token { "Bearer t-secret" 1; default 0; }

    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;
    ssl_client_certificate %%CA%%;

    server {
        listen 127.0.0.1:%%PORT%%;

        location /api/ { inverting_proxy_api main; }

        location /basic/ {
            auth_basic "admins only";
            auth_basic_user_file %%USERS%%;
            inverting_proxy_api main;
        }

        location /token/ {
            if ($token = 0) { return 403; }
            inverting_proxy_api main;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_tls%% ssl;
        ssl_verify_client optional;

        location /api/ { inverting_proxy_api main; }

        location /certificate/ {
            if ($ssl_client_verify != SUCCESS) { return 403; }
            inverting_proxy_api main;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_on%% ssl;
        ssl_verify_client on;
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $http = 'http://127.0.0.1:' . $n->port;
my $https = 'https://localhost:' . $n->port('tls');
my $admin = InvertingProxy::Test::Admin->new(rig => $t);
my $home = "$admin->{home}/.config/inverting-proxy";

spew("$home/password", "a: secret\n");
spew("$home/token", "t-secret\n");
chmod(0600, "$home/password", "$home/token");


# With that configuration: the ids, or the exit status and what is said.

sub asked {
    my ($config, %opt) = @_;

    $admin->config($config, $opt{mode});

    my $r = $admin->run(qw(backends list --quiet), @{$opt{args} || []});

    return $r->{status} == 0 && $r->{err} eq '' ? $r->{out}
         : "$r->{status} $r->{out}$r->{err}";
}


# Passwords

like(asked("server = $http/basic/"),
     qr/^1 .*"401 Authorization Required".*password-file.*admin\.conf/s,
     'no credentials');
is(asked("server = $http/basic/\nuser = admin\npassword-file = password"),
   "b\n", 'a password, in a file beside');
is(asked("server = $http/basic/\nuser = admin\n"
         . "password-file = ~/.config/inverting-proxy/password"),
   "b\n", 'in a file below the home folder');
is(asked("server = $http/basic/\nuser = admin\npassword = a: secret"),
   "b\n", 'in the configuration');
like(asked("server = $http/basic/\nuser = admin\npassword = wrong"),
     qr/^1 .*401.*Are the credentials in .*admin\.conf good/s, 'a wrong one');

my $says = asked("server = $http/basic/\nuser = admin\npassword = a: secret",
                 mode => 0644);
like($says, qr/^2 .*admin\.conf:3: password: .*chmod 600/, 'others may read');
unlike($says, qr/secret/, 'the password is not shown');

chmod(0640, "$home/password");
like(asked("server = $http/basic/\nuser = admin\npassword-file = password"),
     qr{^2 .*inverting-proxy/password".*chmod 600}, 'so with its own file');
like(asked("server = $http/basic/\nuser = admin\npassword-file = none"),
     qr{^2 .*inverting-proxy/none": No such file}, 'a file that is not there');


# Tokens

is(asked("server = $http/token/\ntoken-file = token"), "b\n", 'a token');
like(asked("server = $http/token/\ntoken = wrong"), qr/^1 .*403/, 'a wrong one');


# TLS

like(asked("server = $https/api/"),
     qr/^1 .*certificate.*verified against the system's.*ca-file/s,
     'a stranger as the server');
is(asked("server = $https/api/\nca-file = $ca[0]"), "b\n", 'with its authority');
like(asked("server = $https/api/\nca-file = $me[0]"), qr/^1 .*verified/s,
     'with another');
like(asked("server = $https/api/\nca-file = /none"), qr{^1 .*/none}s,
     'with none');

like(asked("server = $https/certificate/\nca-file = $ca[0]"), qr/^1 .*403/,
     'no certificate');
is(asked("server = $https/certificate/\nca-file = $ca[0]\n"
         . "client-cert = $me[0]\nclient-key = $me[1]"), "b\n",
   'a client certificate');
like(asked('server = https://localhost:' . $n->port('on') . "/api/\n"
           . "ca-file = $ca[0]"),
     qr/^1 .*"400 No required SSL certificate was sent".*client-cert/s,
     'one is required');

(my $plain = $https) =~ s/^https/http/;
like(asked("server = $plain/api/"), qr/^1 .*400.*HTTPS port/s, 'without TLS');
(my $tls = $http) =~ s/^http/https/;
like(asked("server = $tls/api/"), qr/^1 .*Does it speak TLS/s,
     'TLS where there is none');


# To whom

my $secret = "user = admin\npassword = a: secret\n";

is(asked("server = " . $spy->url . "/\n$secret"), '', 'the spy');
is_deeply([ $spy->notes ], [ 'Basic YWRtaW46YTogc2VjcmV0' ],
          'it was shown the password');

$spy->clear_notes;
is(asked("server = $http/\n$secret", args => [ '--server', $spy->url ]), '',
   'another server than that of the file');
is_deeply([ $spy->notes ], [ 'nothing' ], 'is shown nothing');

like(asked("server = http://localhost/\n$secret",
           args => [ '--server', "$http/basic/" ]),
     qr{^1 .*401.*are for http://localhost/ only}s, 'and that is told');

$spy->clear_notes;
is(asked($secret, args => [ '--server', $spy->url ]), '',
   'a file that names none');
is(scalar(grep { /^Basic/ } $spy->notes), 1, 'is for any');

like(asked("server = http://192.0.2.1/\n$secret"), qr/^2 .*TLS.*https/,
     'never to another machine in the clear');

{
    # A proxy would be another machine.
    $spy->clear_notes;
    local $admin->{env} = { http_proxy => $spy->url, all_proxy => $spy->url };
    is(asked("server = $http/basic/\n$secret"), "b\n",
       'no proxy on the way to this machine');
    is_deeply([ $spy->notes ], [], 'it sees nothing');
}

is(asked("server = $http/api/", mode => 0644), "b\n", 'no secret, no matter');

$t->done;
