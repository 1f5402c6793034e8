#!/usr/bin/perl

# An agent whose log nobody reads: the pipe is full, or there is none.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Agent;

use Fcntl;
use POSIX qw(mkfifo);

my $t = InvertingProxy::Test->new;
my $b = $t->backend(sub {
    my ($c, $req) = @_;
    return $c->respond(200, [], 'fine');
});

my $n = $t->nginx(http => <<'EOT');
    inverting_proxy_zone zone=main:1m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user a;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $fifo = "$t->{dir}/fifo";

mkfifo($fifo, 0600) or die "mkfifo: $!\n";
sysopen(my $log, $fifo, O_RDWR | O_NONBLOCK) or die "$fifo: $!\n";

my $a = InvertingProxy::Test::Process->spawn(
    name => 'agent', err => $fifo,
    argv => [ InvertingProxy::Test::Agent::binary(), '-debug', '-backend=b',
              '-proxy=http://127.0.0.1:' . $n->port, '-host=' . $b->address ]);

ok(waitfor(sub { $t->status->agents('b') }), 'it is there');

my $text;

sysread($log, $text, 4096);
like($text, qr/-agent \d.*\n/, 'it writes a log');

my ($client, $answered) = ($t->client, 0);
my $target = '/' . 'x' x 1000;

# more than a pipe holds, and what is set aside for one

for (1 .. 200) {
    my $m = eval { $client->get($target) };

    last if !$m || $m->{status} != 200;
    $answered++;
}

is($answered, 200, 'requests are answered when it is full');

1 while sysread($log, $text, 65536);
$client->get('/later');
ok(waitfor(sub { sysread($log, $text, 65536) && $text =~ /later/ }),
   'it writes again when there is room');
$client->close;

$a->signal('TERM');
ok($a->wait(10), 'it ends');
is($a->status, 0, 'well');

# nothing to read, nor to write to: descriptors that it opens are others

$a = InvertingProxy::Test::Process->spawn(
    name => 'agent without a log',
    argv => [ 'sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh',
              InvertingProxy::Test::Agent::binary(), '-debug', '-backend=b',
              '-proxy=http://127.0.0.1:' . $n->port, '-host=' . $b->address,
              '-transport=poll' ]);

ok(waitfor(sub { $t->status->agents('b') }), 'one without a log');
is($t->get("/$_")->{status}, 200, 'it works') for 1 .. 20;
$a->signal('TERM');
ok($a->wait(10), 'it ends');
is($a->status, 0, 'well');

$t->done;
