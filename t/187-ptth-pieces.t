#!/usr/bin/perl

# A response in small pieces, whose reader stops for a while: it is held up and
# goes on, although each piece would take more room on its way than it has
# bytes.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:32m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_buffers 64 4k;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k;
        location / { inverting_proxy_pass main; }
        location /log {
            inverting_proxy_pass main;
            inverting_proxy_buffers 256 4k;
        }
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

# With framing, more bytes arrive than the pieces have.
cmp_ok($i, '>', $grow / 2, 'the client has stopped to read');
cmp_ok($i, '<', $total, 'and so has the agent');
is($x->{reset}, undef, 'which is no reason to give it up');

CORE::close($wr);
ok($x->flush(60), 'it goes on');
waitpid($pid, 0);
is($?, 0, 'to its end');
$c->close;


# One that has begun with large pieces: its window is for such.

sub begin_large {
    my ($window) = @_;

    my $c = $t->client(rcvbuf => 8192);
    $c->request('GET', '/log');
    my $x = $h->take;
    $x->fields([ [ ':status', 200 ] ]);

    for (1 .. 100) {
        last if $x->{window} >= $window;
        my $size = $x->{window};
        $x->data('L' x $size);
        while ($size > 0) {
            my $some = $c->read_some(16384);
            $size -= ($some =~ tr/L//);
        }
        $h->wait(sub { $x->{window} }, 10);
    }

    return ($c, $x);
}

# As many as its window allows, which the proxy has seen then.
sub send_lines {
    my ($x, $line) = @_;

    my $count = int($x->{window} / length $line);
    $h->raw(frame(DATA, 0, $x->{id}, $line) x $count);
    $x->{window} -= $count * length $line;
    $h->ping('have you');
    $h->wait(sub { shift @{$h->{pongs}} });

    return $count;
}

sub read_lines {
    my ($c, $count) = @_;

    while ($count > 0) {
        my $some = eval { $c->read_some(16384) } // '';
        last if $some eq '';
        $count -= ($some =~ tr/\n//) - ($some =~ tr/\r//);
    }

    return $count;
}

for my $line ("\n", "line\n") {
    my $name = length($line) . ' bytes';

    my ($c, $x) = begin_large(400_000);
    my $count = send_lines($x, $line);
    cmp_ok($count, '>=', 80_000, "$name: many lines while nobody reads");
    $h->drain(0);
    is($x->{reset}, undef, "$name: which is no reason to give it up");
    is(read_lines($c, $count), 0, "$name: all of them, without another word");
    ok($h->wait(sub { $x->{window} >= 1000 }), "$name: and window for more");
    $c->close;
    ok($h->wait(sub { defined $x->{reset} }), "$name: it goes away");
}

# What has come of one that is cut is passed on.

($c, $x) = begin_large(0);
$h->raw(frame(DATA, 0, $x->{id}, "line\n") x 6000
        . frame(RST_STREAM, 0, $x->{id}, pack('N', CANCEL)));
is(read_lines($c, 6000), 0, 'all that came before a reset');
is(eval { $c->read_some(1) } // '', '', 'and no more');
$c->close;

# The smallest pieces of all, as many as every response may begin with.

($c, $x) = begin_large(0);
my $count = send_lines($x, "\n");
is($count, 32768, 'the first window, byte by byte');
$h->raw(frame(DATA, END_STREAM, $x->{id}, ''));
my $m = $c->response;
is($m->{cut}, undef, 'the response is not cut');
is($m->{body}, "\n" x $count, 'and is all there');
$c->close;

$h->close;
$t->done;
