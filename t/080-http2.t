#!/usr/bin/perl

# HTTP/2 with TLS on both sides: clients with a hundred streams at once, agents
# whose calls are streams of one connection, beside others of HTTP/1.1; and
# nginx's own limits, which are not for agents.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());
my ($crt, $key) = $t->certificate_for('proxy');

my $n = $t->nginx(workers => 2, vars => { CRT => $crt, KEY => $key },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;
    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;

    # As long as an agent may not be quiet, if nobody sets it aside.
    client_body_timeout 1s;
    send_timeout 5s;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_tls%% ssl http2 reuseport;
        http2_max_concurrent_streams 128;
        location / {
            inverting_proxy_pass main;
            client_max_body_size 0;
            client_body_timeout 60s;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $tls = 'https://127.0.0.1:' . $n->port('tls');

# curl with HTTP/2 and nothing else.
sub curl {
    my (@args) = @_;
    my %opt = ref $args[-1] ? %{pop @args} : ();

    return run_command([ qw(curl --http2 -sS --cacert), $crt,
                         '--max-time', 30 * slow(), @args ], %opt);
}

sub agent_curl {
    my ($call, $id, @args) = @_;

    return curl('-H', 'X-Inverting-Proxy-Backend-ID: hand',
                defined $id ? ('-H', "X-Inverting-Proxy-Request-ID: $id") : (),
                @args, "$tls/agent/$call");
}

my $r = curl('--version');
plan(skip_all => 'curl has no HTTP/2') if $r->{out} !~ /HTTP2/;

# An agent, by hand.
my $pid = fork();
if ($pid == 0) {
    my $poll = agent_curl('pending', undef, '-w', ' %{http_version}');
    spew($t->dir . '/poll', $poll->{out} . $poll->{err});
    POSIX::_exit(0);
}

ok($t->wait_status(sub { $_[0]->agents('hand') == 1 }), 'a poll over HTTP/2');
my $c = $t->client(timeout => 40);
$c->request('POST', '/hand', body => 'up');
waitpid($pid, 0);

my ($id, $version) = slurp($t->dir . '/poll') =~ /^\["([0-9a-f]{32})"\] (\d)$/;
ok($id, 'an ID') or diag(slurp($t->dir . '/poll'));
is($version, 2, 'HTTP/2 it is');

$r = agent_curl('request', $id, '-i');
like($r->{out}, qr{^HTTP/2 200 \r\n}, 'fetched');
like($r->{out}, qr{^x-inverting-proxy-request-id: $id\r$}mi, 'its ID');
like($r->{out}, qr{\r\n\r\nPOST /hand HTTP/1\.1\r\n.*\r\n\r\nup\z}s, 'the request');

# 10 MB in answer, in two parts with a pause of more than client_body_timeout.
my $size = 10_000_000;
my $fifo = $t->dir . '/fifo';
POSIX::mkfifo($fifo, 0600);

$pid = fork();
if ($pid == 0) {
    open(my $fh, '>', $fifo) or POSIX::_exit(1);
    $fh->autoflush(1);
    print $fh "HTTP/1.1 200 OK\r\n";
    nap(1.6);
    print $fh "Content-Length: $size\r\n\r\n";
    my $next = random_body('down', $size);
    my $i = 0;
    while (defined(my $piece = $next->())) {
        nap(1.6) if ++$i == 70;
        print $fh $piece;
    }
    close($fh);
    POSIX::_exit(0);
}

my $post = fork();
if ($post == 0) {
    my $m = agent_curl('response', $id, '-X', 'POST', '-T', $fifo,
                       '-H', 'Content-Type: text/plain',
                       '-w', '%{http_code} %{http_version}');
    spew($t->dir . '/post', "$m->{out}$m->{err}");
    POSIX::_exit(0);
}

my $m = eval { $c->response(digest => 1) };
is($m && $m->{status}, 200, 'a response that pauses') or diag($@);
is($m && $m->{sha256}, body_sha256('down', $size), 'and is large');
waitpid($_, 0) for $pid, $post;
is(slurp($t->dir . '/post'), '200 2', 'the POST ends well');
$c->close;

# The same over HTTP/1.1.
my $p = $t->peer(backend => 'hand', timeout => 40);
$t->visit($p);
$c = $t->client(timeout => 40);
$c->request('GET', '/hand');
$id = $p->take;
$p->fetch($id);
my $w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\n");
nap(1.6);
$w->write("Content-Length: 3000000\r\n\r\n");
$w->client->send_body(random_body('h1', 3_000_000), chunked => 1);
$m = $c->response(digest => 1);
is($m->{sha256}, body_sha256('h1', 3_000_000), 'over HTTP/1.1 as well');
is($w->answer->{status}, 200, 'the POST ends well');

# Real agents, one each way.
my $other = $t->agent(backend => 'b', host => $b->address,
                      proxy => "$tls/", args => [ "-ca-file=$crt" ]);
$t->agent(backend => 'b', host => $b->address);

# Clients: a hundred streams of one connection, of several.
for my $case ([ 'one connection', 400, 1, 100 ],
              [ 'four connections', 800, 4, 50 ])
{
    my ($name, $requests, $connections, $streams) = @$case;

    $r = run_command([ 'h2load', '-n', $requests, '-c', $connections,
                       '-m', $streams, "$tls/small/x" ]);
    like($r->{out}, qr/\b$requests succeeded, 0 failed, 0 errored, 0 timeout/,
         "$name: requests") or diag("$r->{out}$r->{err}");
    like($r->{out}, qr/status codes: $requests 2xx, 0 3xx, 0 4xx, 0 5xx/,
         "$name: answers");
}

$r = run_command([ 'h2load', qw(-n 200 -c 2 -m 100),
                   "$tls/down/h2load/100000/0" ]);
like($r->{out}, qr/status codes: 200 2xx, 0 3xx, 0 4xx, 0 5xx/,
     'a hundred streams with bodies') or diag("$r->{out}$r->{err}");
like($r->{out}, qr{MB \(20000000\) data}, 'of all their bytes')
    or diag($r->{out});

my $file = $t->dir . '/up';
spew($file, body_bytes('h2up', 300_000));
$r = run_command([ 'h2load', qw(-n 100 -c 1 -m 100 -d), $file, "$tls/up/h2" ]);
like($r->{out}, qr/status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx/,
     'a hundred uploads') or diag("$r->{out}$r->{err}");

$r = curl('--data-binary', "\@$file", "$tls/up/h2");
is($r->{out}, '300000 ' . body_sha256('h2up', 300_000), 'its bytes');

# One stream that nobody reads is in nobody's way.
$r = curl('-o', '/dev/null', '--limit-rate', '1k', '-m', 2,
          "$tls/down/slow/5000000/0", '-w', '%{http_code}',
          '--next', '--cacert', $crt, '-s', "$tls/small/beside");
ok($t->wait_idle(10), 'a client that gave up leaves nothing');

$t->done;
