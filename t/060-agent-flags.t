#!/usr/bin/perl

# The agent's command line, credentials, and TLS.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Agent;

my $t = InvertingProxy::Test->new;

my @good = ('-proxy=http://127.0.0.1:1/', '-backend=b');


sub run {
    my (@args) = @_;

    return run_command([ InvertingProxy::Test::Agent::binary(), @args ],
                       timeout => 10);
}


sub refused {
    my ($status, $regex, @args) = @_;

    my $r = run(@args);
    my $what = substr("@args", 0, 60);

    is($r->{status}, $status, "$what: exit status $status");
    like($r->{err}, $regex, 'says why');
    is(scalar(() = $r->{err} =~ /\n/g), 1, 'in one line');
    is($r->{out}, '', 'nothing on stdout');
}


# usage

refused(2, qr/-nonsense: unknown flag/, @good, '-nonsense');
refused(2, qr/--nonsense: unknown flag/, '--nonsense=1', @good);
refused(2, qr/---proxy: unknown flag/, '---proxy=http://x/', '-backend=b');
refused(2, qr/x: unexpected argument/, @good, 'x');
refused(2, qr/x: unexpected argument/, @good, '--', 'x');
refused(2, qr/-backend: the value is missing/, '-proxy=http://x/', '-backend');
refused(2, qr/for -debug: it is neither/, @good, '-debug=maybe');
refused(2, qr/for -proxy: it must begin with/, '-proxy=x', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=ftp://x/', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=http://u:p@x/', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=http://x/?y', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=http://x:0/', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=http://x:65536/', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=http://[::x]/', '-backend=b');
refused(2, qr/for -proxy: /, '-proxy=', '-backend=b');
refused(2, qr/for -backend: /, '-proxy=http://x/', '-backend=a b');
refused(2, qr/for -backend: /, '-proxy=http://x/', '-backend=');
refused(2, qr/for -backend: /, '-proxy=http://x/', "-backend=a\r\nX: y");
refused(2, qr/for -host: /, @good, '-host=http://x/path');
refused(2, qr/for -host: /, @good, '-host=unix:relative');
refused(2, qr/for -host: /, @good, '-host=ftp://x');
refused(2, qr/for -proxy-timeout: it is not a duration/, @good,
        '-proxy-timeout=60');
refused(2, qr/for -proxy-timeout: /, @good, '-proxy-timeout', '-1s');
refused(2, qr/for -proxy-timeout: it must be 1ms at least/, @good,
        "-proxy-timeout=$_") for '0', '0s';
refused(2, qr/for -connections: it is not a number from 0 to 64$/, @good,
        '-connections=65');
refused(2, qr/for -max-concurrency: /, @good, "-max-concurrency=$_")
    for 0, -1, 'x', '1x', 1e9;
refused(2, qr/for -token-file: it is empty/, @good, '-token-file=');

refused(1, qr/-proxy is required/, '-backend=b');
refused(1, qr/-backend is required/, '-proxy=http://x/');
refused(1, qr/-token-file: cannot use "\/nowhere": No such file/, @good,
        '-token-file=/nowhere');
refused(1, qr/-token-file: cannot use "\/": it is not a regular/, @good,
        '-token-file=/');

my $r = run(@good, '-token-file=/nowhere', '-help');
is($r->{status}, 0, '-help');
like($r->{out}, qr/-token-file FILE/, 'prints the flags');
is($r->{err}, '', 'nothing on stderr');
is(run('-h')->{out}, $r->{out}, '-h is the same');
$r = run('--version');
is($r->{status}, 0, '--version');
like($r->{out}, qr/^inverting-proxy-agent \d+\.\d+\.\d+\n$/, 'prints it');

my $secret = run(@good, '-debug=S3CRET');
unlike($secret->{err}, qr/S3CRET/, 'a bad value is not repeated');


# what a token file may be

my $token = "$t->{dir}/token";

for my $case ([ 'empty', '' ], [ 'an empty line', "\n" ], [ 'a space', "a b" ],
              [ 'two lines', "a\nb\n" ], [ 'a control character', "a\x01" ],
              [ 'no ASCII', "\xc3\xa9" ], [ 'too large', 'x' x 20000 ])
{
    my ($what, $text) = @$case;

    spew($token, $text);
    my $r = run(@good, "-token-file=$token");
    is($r->{status}, 1, "a token file, $what: exit status 1");
    like($r->{err}, qr/-token-file: cannot use /, 'says why');
}


# credentials without TLS

spew($token, "first\n");

for my $proxy ('http://192.0.2.1/', 'http://example.com/',
               'http://[2001:db8::1]/', 'http://0.0.0.0/',
               'http://localhost.example.com/')
{
    refused(1, qr/-token-file: the token would be sent to .* without TLS/,
            "-proxy=$proxy", '-backend=b', "-token-file=$token");
}


# where they are allowed, and what is sent

my $p = $t->stand_in(hold => 1, pending => sub {
    my ($c, $req, $proxy) = @_;
    $c->note('auth ' . join('|', $req->all('Authorization')));
    return $proxy->pending_default($c);
});

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    return $c->respond(200, [], $req->{raw});
});

my $a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
                  args => [ "-token-file=$token" ], wait => 0);
ok($p->wait_note(qr/^auth Bearer first$/), 'the token is sent');
spew($token, "second");
ok($p->wait_note(qr/^auth Bearer second$/), 'read again when it has changed');
like($a->log, qr/token file .* was read again/, 'in the log');
unlink($token);
ok($a->wait_log(qr/cannot read the token file .* No such file/), 'it is gone');
$p->clear_notes;
ok($p->wait_note(qr/^auth Bearer second$/), 'the last one stays in use');
is(scalar(() = $a->log =~ /cannot read the token file/g), 1, 'one line');
spew($token, "bad token");
nap(1.2);
spew("$token.new", "third\r\n");
rename("$token.new", $token);
ok($p->wait_note(qr/^auth Bearer third$/), 'replaced');
unlike($a->log, qr/Bearer|first|second|third/, 'no token in the log');

my $m = $p->wait_response($p->add("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
unlike($m->{body}, qr/Authorization/, 'nor for the backend');
is($m->{outer}->header('Authorization'), 'Bearer third', 'it is in the POST');
is(scalar($a->stop), 0, 'it ends well');

$a = $t->agent(proxy => 'http://192.0.2.1:9/', backend => 'b', wait => 0,
               args => [ "-token-file=$token", '-insecure-http' ]);
ok($a->wait_log(qr/backend "b"/), '-insecure-http allows it');
nap(0.2);
ok($a->running, 'it runs');
is(scalar($a->stop), 0, 'it ends well, unconnected');


# TLS

my ($crt, $key) = $t->certificate_for('proxy.example');
my ($client_crt, $client_key) = $t->certificate_for('agent.example');

my $n = $t->nginx(vars => { CRT => $crt, KEY => $key, CA => $client_crt },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:1m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_backend main c end_user=allUsers prefix=/c
                            backend_user=CN=agent.example;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /api/ { inverting_proxy_api main; }
    }

    server {
        listen 127.0.0.1:%%PORT_tls%% ssl http2;
        ssl_certificate %%CRT%%;
        ssl_certificate_key %%KEY%%;
        ssl_client_certificate %%CA%%;
        ssl_verify_client optional;

        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user a;
        }

        location /cert/agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $ssl_client_s_dn;
        }
    }
EOT

my $url = 'https://127.0.0.1:' . $n->port('tls');

$a = $t->agent(proxy => "$url/", backend => 'b', host => $b->address,
               wait => 0);
ok($a->wait_log(qr/proxy unreachable: .*certificate/i), 'an unknown CA')
    or diag($a->log);
nap(0.5);
is($t->status->agents('b'), 0, 'nobody is there');
is(scalar(() = $a->log =~ /proxy unreachable/g), 1, 'one line in the log');
is(scalar($a->stop), 0, 'it ends well');

$a = $t->agent(proxy => "$url/", backend => 'b', host => $b->address,
               args => [ "-ca-file=$crt" ]);
is($t->get('/')->{status}, 200, 'ca-file');

my $other = $t->agent(proxy => 'https://localhost.:' . $n->port('tls'),
                      backend => 'b', host => $b->address, wait => 0,
                      args => [ "-ca-file=$client_crt" ]);
ok($other->wait_log(qr/proxy unreachable/), "another one's CA");
is(scalar($other->stop), 0, 'it ends well');

$other = $t->agent(proxy => "$url/cert/", backend => 'c', host => $b->address,
                   wait => 0, args => [ "-ca-file=$crt" ]);
ok($other->wait_log(qr/answers 401/), 'no client certificate: 401');
is(scalar($other->stop), 0, 'it ends well');

$other = $t->agent(proxy => "$url/cert", backend => 'c', host => $b->address,
                   args => [ "-ca-file=$crt", "-client-cert=$client_crt",
                             "-client-key=$client_key" ]);
is($t->get('/c')->{status}, 200, 'client-cert');

$other = $t->agent(proxy => "$url/cert", backend => 'c', host => $b->address,
                   args => [ "-ca-file=$crt", "-client-cert=$client_crt",
                             "-client-key=$key" ], wait => 0);
ok($other->wait_log(qr/private key/), "a key that is not the certificate's");
is(scalar($other->stop), 0, 'it ends well');

for my $arg ('-ca-file=/nowhere', '-client-cert=/nowhere',
             "-client-key=$client_key")
{
    refused(1, qr/-(?:ca-file|client-cert|client-key): /,
            "-proxy=$url/", '-backend=b', $arg);
}

# what nginx itself answers, and does not say why

$other = $t->agent(proxy => 'http://127.0.0.1:' . $n->port('tls'),
                   backend => 'b', host => $b->address, wait => 0);
ok($other->wait_log(qr{answers 400 .*-proxy should be https://}),
   'http where it is https');
is(scalar($other->stop), 0, 'it ends well');


# a key with a passphrase: nobody is asked for it

my $locked = $t->dir . '/secret.key';
my $plain = $t->dir . '/plain.key';

spew($plain, slurp($client_key));
$r = run_command([ qw(openssl pkey -aes256 -passout pass:secret),
                   '-in', $client_key, '-out', $locked ]);
is($r->{status}, 0, 'a key with a passphrase') or diag($r->{err});

for my $args ([ "-client-cert=$client_crt", "-client-key=$locked" ],
              [ "-client-cert=$locked" ])
{
    refused(1, qr/-client-(?:key|cert): the key in .* has a passphrase/,
            "-proxy=$url/", '-backend=b', @$args);
}

# that the agent has got only now

$other = $t->agent(proxy => "$url/cert", backend => 'c', host => $b->address,
                   args => [ "-ca-file=$crt", "-client-cert=$client_crt",
                             "-client-key=$plain" ]);
is($t->get('/c')->{status}, 200, 'a key without one');
spew($plain, slurp($locked));
$n->reload;
ok($other->wait_log(qr/unreachable: .*private key/, 20), 'then with one');
unlike($other->log, qr/pass phrase/i, 'nobody is asked');
is(scalar($other->stop), 0, 'it ends well');

$t->done;
