#!/usr/bin/perl

# An agent and names: ones that cannot be resolved for a while.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;
my $names = "$t->{dir}/names";
my $r = run_command([ 'gcc', '-shared', '-fPIC', '-O1', '-o', "$names.so",
                      't/lib/names.c', '-ldl' ]);
is($r->{status}, 0, 'gcc') or diag($r->{err});

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{target} eq '/stream') {
        $c->head(200, [ 'Transfer-Encoding: chunked' ]);
        while ($c->chunk(now() . "\n")) {
            nap(0.1);
        }
        return 0;
    }

    return $c->respond(200, [], 'fine');
});

my ($crt, $key) = $t->certificate_for('one.test');

my $n = $t->nginx(vars => { CRT => $crt, KEY => $key }, http => <<'EOT');
    inverting_proxy_zone zone=main:1m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_agent_user a;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }

    server {
        listen 127.0.0.1:%%PORT_tls%% ssl;
        ssl_certificate %%CRT%%;
        ssl_certificate_key %%KEY%%;
        location /agent/ { inverting_proxy_agent main; }
    }
EOT


# The proxy's name, when the agent has to dial once more: that takes as long as
# it takes, and what is in progress on the old connection goes on.

my $a = $t->agent(transport => 'ptth', backend => 'b', host => $b->address,
                  proxy => 'https://one.test:' . $n->port('tls') . '/',
                  args => [ "-ca-file=$crt" ], preload => "$names.so",
                  env => { NAMES => $names });
my $c = $t->client;

$c->request('GET', '/stream');
my $m = $c->read_head;
is($m->{status}, 200, 'a response that goes on');
$c->body_start($m);
ok(length($c->body_piece), 'its first bytes');

spew($names, '');
$n->reload;
ok($a->wait_log(qr/proxy unreachable: no connection in time/, 20),
   'a dial is given up');

# What was sent since then comes, too.

my $given_up = now();
my $end = $given_up + 10 * slow();
my $sent = 0;

while ($sent <= $given_up && now() < $end) {
    my $piece = eval { $c->body_piece };

    last if !defined $piece;
    $sent = $1 if $piece =~ /([\d.]+)\n\z/;
}

cmp_ok($sent, '>', $given_up, 'the response goes on, meanwhile');
unlink($names);
ok(waitfor(sub { $t->get('/')->{status} == 200 }, 20), 'the name is back');
$c->close;
is(scalar($a->stop), 0, 'it ends well');

$t->done;
