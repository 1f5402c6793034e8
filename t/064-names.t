#!/usr/bin/perl

# Names that cannot be resolved for a while, and addresses that drop what they
# get: the agent's, and those of the command for the API.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Admin;

use IO::Select;
use Socket;

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


# A port that gives no answer: its queue is full.  Who listens, and who is in
# the queue.

sub silent {
    my ($address, $port) = @_;

    my $to = pack_sockaddr_in($port, inet_aton($address));
    my @queue;

    socket(my $listener, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($listener, $to) && listen($listener, 0) or die "bind: $!\n";

    for (1 .. 3) {
        socket(my $s, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
        $s->blocking(0);
        connect($s, $to);
        push @queue, $s;
    }

    return ($listener, @queue);
}


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
ok($a->wait_log(qr/proxy unreachable: Resolving timed out/, 20),
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

my $admin = InvertingProxy::Test::Admin->new(
    rig => $t, server => 'http://one.test/api/',
    env => { NAMES => $names, LD_PRELOAD => "$names.so",
             ASAN_OPTIONS => 'verify_asan_link_order=0' });
my $began = now();

$r = $admin->run(qw(--timeout 1 status));
is($r->{status}, 1, 'the command for the API gives up');
like($r->{err}, qr/did not answer within 1 s/, 'and says why');
cmp_ok(now() - $began, '<', 30, 'when its time is over');

unlink($names);
ok(waitfor(sub { $t->get('/')->{status} == 200 }, 20), 'the name is back');
$c->close;
is(scalar($a->stop), 0, 'it ends well');


# The first name server is dead, and the second one has its turn only after
# five seconds, each time.

spew($names, 'late');
$a = $t->agent(transport => 'ptth', backend => 'b', host => $b->address,
               proxy => 'https://one.test:' . $n->port('tls') . '/',
               args => [ "-ca-file=$crt" ], preload => "$names.so",
               env => { NAMES => $names }, wait => 0);
ok($a->wait_log(qr/connected to proxy/, 30), 'a name that takes long');
unlike($a->log, qr/unreachable/, 'is waited for');
unlink($names);
is(scalar($a->stop), 0, 'it ends well');


# An agent may end while a name can't be resolved; its backend's as well, which
# somebody has asked for.

spew($names, '');

for my $proxy ('http://one.test:' . $n->port,
               'https://one.test:' . $n->port('tls'),
               'http://127.0.0.1:' . $n->port)
{
    for my $transport (qw(poll ptth)) {
        my $requested = $proxy !~ /one/;

        $a = $t->agent(transport => $transport, backend => 'b',
                       host => 'one.test:' . $b->port, proxy => $proxy,
                       args => [ "-ca-file=$crt" ], preload => "$names.so",
                       env => { NAMES => $names }, wait => $requested);

        if ($requested) {
            $c = $t->client;
            $c->request('GET', '/');
        }

        nap(1);
        $began = now();
        $a->signal('TERM');

        if ($requested) {
            $a->wait_log(qr/SIGTERM: finishing/);
            $a->signal('TERM');
        }

        is($a->wait_end(30), 0, "$transport, $proxy: it ends, with status 0");
        cmp_ok(now() - $began, '<', 10, 'soon');
    }
}

unlink($names);


# A name with two addresses, the first of which gives no answer; a backend's
# and the proxy's.

my @silent = map { silent('127.0.0.2', $_) } $b->port, $n->port;

for my $transport (qw(poll ptth)) {
    $a = $t->agent(transport => $transport, backend => 'b',
                   host => 'two.test:' . $b->port, preload => "$names.so",
                   proxy => 'http://two.test:' . $n->port . '/');

    for (1 .. 2) {
        $r = $t->get('/', timeout => 20);
        is($r->{status}, 200, "$transport: the second address");
    }

    is(scalar($a->stop), 0, 'it ends well');
}


# The first one is only slow, and the other one refuses, or gives no answer.

for my $other ('refuses', 'gives no answer') {
    my $port = free_port();
    my ($listener, @queue) = silent('127.0.0.2', $port);
    my @other = $other eq 'refuses' ? () : silent('127.0.0.1', $port);

    $a = $t->agent(backend => 'b', host => "two.test:$port",
                   preload => "$names.so");
    $c = $t->client(timeout => 20);
    $c->request('GET', '/');
    nap(3);
    undef @queue;

    while (IO::Select->new($listener)->can_read(10 * slow())) {
        accept(my $s, $listener);

        my $stream = InvertingProxy::Test::Stream->new(fh => $s);

        next if !$stream->read_head;
        $stream->write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        last;
    }

    is($c->response->{status}, 200, "it is waited for, if the other one $other");
    is(scalar($a->stop), 0, 'it ends well');
}

$t->done;
