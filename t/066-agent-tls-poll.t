#!/usr/bin/perl

# An agent that polls over TLS: the proxy's certificate is another one, and so is
# what -ca-file says; the proxy is lost while the backend is quiet: the backend's
# connection is closed soon.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;
my @first = $t->certificate_for('localhost');
my @second = $t->certificate_for('second');
my ($crt, $key, $ca) = map { "$t->{dir}/$_" } qw(crt key ca);

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    return $c->respond(200, [], 'fine') if $req->{target} ne '/quiet';

    $c->note('has it');
    $c->note('end') if $c->wait_end(30);
    return 0;
});


sub certify {
    my ($to, $from) = @_;

    spew($to, slurp($from));
}


certify($crt, $first[0]);
certify($key, $first[1]);
certify($ca, $first[0]);

my $n = $t->nginx(workers => 1, http => <<"EOT");
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_TLS%% ssl;
        ssl_certificate $crt;
        ssl_certificate_key $key;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$n->allow_kill;

my $a = $t->agent(transport => 'poll', backend => 'b', host => $b->address,
                  proxy => 'https://localhost:' . $n->port('TLS') . '/',
                  args => [ "-ca-file=$ca" ]);
is($t->get('/')->{status}, 200, 'it polls');

certify($crt, $second[0]);
certify($key, $second[1]);
$n->reload;
ok($a->wait_log(qr{proxy unreachable}), 'another certificate');
certify($ca, $second[0]);
ok(waitfor(sub { $t->get('/')->{status} == 200 }, 20),
   '-ca-file is read again');

my $c = $t->client;
$c->request('GET', '/quiet');
ok($b->wait_note(qr/has it/), 'a request at a quiet backend');

# the agent has opened its POST
nap(0.3);

ok($n->kill_worker(($n->workers)[0]), 'the worker is killed');
ok($b->wait_note(qr/^end/, 10), 'the backend is let go');

$t->done;
