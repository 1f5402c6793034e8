#!/usr/bin/perl

# Client certificates: $ssl_client_s_dn of end users, and of the real agent.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

# Our authority, and one that nobody knows but who claims the same names.
my @ca = $t->certificate_for('ca');
my %cert = map { $_ => [ $t->certificate_for($_, ca => \@ca) ] }
               qw(server alice bob home-agent other-agent);

mkdir("$t->{dir}/false");
my @false_ca = InvertingProxy::Test::Util::certificate("$t->{dir}/false", 'ca');
my %false = map { $_ => [ InvertingProxy::Test::Util::certificate(
                              "$t->{dir}/false", $_, ca => \@false_ca) ] }
                qw(alice home-agent);

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my $user = $req->header('X-Inverting-Proxy-User-ID');
    return $c->respond(200, [], defined $user ? $user : 'not said');
});

my $n = $t->nginx(start => 0, vars => { CRT => $cert{server}[0],
                                        KEY => $cert{server}[1],
                                        CA => $ca[0] },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main alices end_user=CN=alice
                            backend_user=CN=home-agent;
    inverting_proxy_backend main public end_user=allUsers prefix=/public/
                            backend_user=CN=home-agent;

    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;
    ssl_client_certificate %%CA%%;

    inverting_proxy_user $ssl_client_s_dn;
    inverting_proxy_agent_user $ssl_client_s_dn;

    server {
        listen 127.0.0.1:%%PORT%% ssl;
        ssl_verify_client on;

        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
    }

    server {
        listen 127.0.0.1:%%PORT_optional%% ssl;
        ssl_verify_client optional;

        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
    }

    # On purpose: what the README warns of.
    server {
        listen 127.0.0.1:%%PORT_unverified%% ssl;
        ssl_verify_client optional_no_ca;

        location / { inverting_proxy_pass main; }
    }

    server {
        listen 127.0.0.1:%%PORT_api%%;
        location /api/ { inverting_proxy_api main; }
    }
EOT

$n->{api_port} = $n->port('api');
$n->start;

sub ask {
    my ($port, $target, $cert) = @_;

    my $m = $t->get($target, port => $n->port($port), tls => $cert
                    ? { SSL_cert_file => $cert->[0], SSL_key_file => $cert->[1] }
                    : 1);

    return $m->{status} . ($m->{status} == 200 ? " $m->{body}" : '');
}


is(ask('', '/', $cert{alice}), 503, 'no agent yet');


# The real agent, with its certificate

sub agent {
    my ($cert, %opt) = @_;

    return $t->agent(backend => 'alices', host => $b->address,
                     proxy => 'https://127.0.0.1:' . $n->port . '/',
                     args => [ "-ca-file=$ca[0]", '-forward-user-id', $cert
                               ? ("-client-cert=$cert->[0]",
                                  "-client-key=$cert->[1]") : () ], %opt);
}

for my $case ([ 'no certificate', undef, qr/400/ ],
              [ "another agent's", $cert{'other-agent'}, qr/401/ ],
              [ "an end user's", $cert{alice}, qr/401/ ],
              [ 'one of a false authority', $false{'home-agent'}, qr/400/ ])
{
    my ($name, $cert, $says) = @$case;

    my $agent = agent($cert, wait => 0);
    ok($agent->wait_log($says), "an agent with $name is refused, and says so")
        or diag($agent->log);
    is($t->status->agents('alices'), 0, "an agent with $name serves nothing");
    $agent->stop;
}

my $agent = agent($cert{'home-agent'});


# End users

is(ask('', '/', $cert{alice}), '200 CN=alice', 'alice, with her certificate');
is(ask('', '/', $cert{bob}), 404, 'bob, with his');
is(ask('', '/'), 400, 'nobody');
is(ask('', '/', $false{alice}), 400, 'a false alice');
is(ask('', '/public/', $cert{bob}), 503, 'bob and what is for all');

is(ask('optional', '/', $cert{alice}), '200 CN=alice', 'optional: alice');
is(ask('optional', '/'), 401, 'optional: nobody');
is(ask('optional', '/public/'), 503, 'optional: nobody and what is for all');
is(ask('optional', '/', $false{alice}), 400, 'optional: a false alice');

is(ask('unverified', '/', $false{alice}), '200 CN=alice',
   'with optional_no_ca a certificate is anybody\'s word');

$t->done;
