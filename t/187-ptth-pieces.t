#!/usr/bin/perl

# A response in small pieces, whose reader stops for a while: it is held up and
# goes on, although each piece takes more room on its way than it has bytes.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_buffers 64 4k;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b');
my $c = $t->client(rcvbuf => 8192);
$c->request('GET', '/events');
my $x = $h->take;

# While the client reads, its pipe's share grows; then it stops.

my ($grow, $total) = (110_000, 190_000);
my $piece = "five\n";
my $i = 0;

$x->respond(200, [], sub { $i++ < $total ? $piece : undef }, chunked => 1);

pipe(my $rd, my $wr) or die;
my $pid = fork();

if ($pid == 0) {
    CORE::close($wr);
    my $end = now() + 150 * slow();
    my $read = 0;
    while ($read < $grow * length $piece && now() < $end) {
        $read += length $c->read_some(16384);
    }
    sysread($rd, my $byte, 1);
    my $last = '';
    while ($last !~ /\r\n0\r\n\r\n\z/ && now() < $end) {
        my $some = eval { $c->read_some(16384) } // '';
        last if $some eq '';
        $last = substr($last . $some, -7);
    }
    POSIX::_exit($last =~ /\r\n0\r\n\r\n\z/ ? 0 : 1);
}

CORE::close($rd);

my ($sent, $since) = (-1, now());
$h->wait(sub {
    ($sent, $since) = ($i, now()) if $i != $sent;
    return $since + 2 * slow() < now() || $x->{closed};
}, 1) while $since + 2 * slow() >= now() && !$x->{closed};

# Ten bytes of each piece arrive, with the framing.
cmp_ok($i, '>', $grow / 2, 'the client has stopped to read');
cmp_ok($i, '<', $total, 'and so has the agent');
is($x->{reset}, undef, 'which is no reason to give it up');

CORE::close($wr);
ok($x->flush(60), 'it goes on');
waitpid($pid, 0);
is($?, 0, 'to its end');
$c->close;

$h->close;
$t->done;
