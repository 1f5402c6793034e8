package Idle;

# Connections on which nothing happens, and what they cost.
#
#   my $r = Idle->websockets($rig, $count, $zone)
#       bytes each: { nginx, agent } have for a WebSocket, zone is nginx's
#       shared memory of that, chunks what is taken of it, used or not; plain is
#       a client of an nginx of the same configuration.  failed says so if not
#       every WebSocket carries a message in the end.
#   Idle::descriptors($n)    lets this process and its children have as many

use strict;
use warnings;

use Carp qw(croak);
use IO::Socket::INET;

use InvertingProxy::Test::Client;
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(nap run_command slurp);
use InvertingProxy::Test::WebSocket;

use Measure qw(pss);
use Systems;


sub descriptors {
    my ($want) = @_;

    my ($soft) = slurp("/proc/$$/limits") =~ /^Max open files\s+(\d+)/m;

    return if $soft && $soft >= $want;

    # Without an upper limit of its own, or below that.
    my $r = run_command([ 'prlimit', "--pid=$$", "--nofile=$want:" ]);

    croak "$want open files are needed, and not to be had: $r->{err}"
        if $r->{status} != 0;

    return;
}


sub websockets {
    my ($class, $rig, $count, $zone) = @_;

    # Of each process: nginx and the agent have one for each, and some more.
    descriptors($count + 1000);

    my $backend = serve($rig);
    # The virtual connection of a request is one of a worker's, too.
    my @start = ($rig, [ [ 'ws', "127.0.0.1:$backend->{port}", '/' ] ],
                 transport => 'ptth', zone => $zone,
                 connections => 2 * $count + 1000);
    my $limit = '-max-concurrency=' . ($count + 100);

    my $plain = Systems::ours_for(@start, name => 'plain', args => [ $limit ]);
    my %result = (plain => plain($plain, $count));
    stop($plain);

    my $system = Systems::ours_for(@start, name => 'idle', args => [ $limit ]);
    my ($nginx, $agent) = ($system->{nginx}[0], $system->{agents}[0]);

    # What is used once for all of them is not theirs.
    close_all(open_websockets($system, 20));

    my $memory = sub {
        my @nginx = Systems::tree($nginx);

        return (nginx => pss('Pss', @nginx), zone => pss('Pss_Shmem', @nginx),
                agent => pss('Pss', $agent->pid),
                chunks => $rig->status($nginx)->bytes_used);
    };

    my %before = $memory->();
    my @sockets = open_websockets($system, $count);
    nap(1);
    my %after = $memory->();

    for my $what (keys %after) {
        $result{$what} = ($after{$what} - $before{$what}) / $count;
    }

    my $deaf = grep { !echoes($sockets[$_], "message $_") } 0 .. $#sockets;
    $result{failed} = "$deaf of $count WebSockets do not carry a message"
        if $deaf;

    close_all(@sockets);
    stop($system);
    $backend->{process}->signal('KILL');
    $backend->{process}->finish;

    return \%result;
}


# Clients of nginx alone, each after one request.

sub plain {
    my ($system, $count) = @_;

    my @pids = Systems::tree($system->{nginx}[0]);
    my $client = sub {
        my $c = InvertingProxy::Test::Client->new(port => $system->{port});
        my $m = $c->get('/plain');
        croak 'nginx does not answer' if !$m || $m->{status} != 200;
        return $c;
    };

    $_->close for map { $client->() } 1 .. 20;

    my $before = pss('Pss', @pids);
    my @clients = map { $client->() } 1 .. $count;
    nap(1);
    my $bytes = (pss('Pss', @pids) - $before) / $count;

    $_->close for @clients;

    return $bytes;
}


sub open_websockets {
    my ($system, $count) = @_;

    return map {
        my $c = InvertingProxy::Test::Client->new(port => $system->{port},
                                                  timeout => 10);
        ws_connect($c, "/socket/$_");
    } 1 .. $count;
}


sub echoes {
    my ($socket, $message) = @_;

    my $m = eval {
        $socket->text($message);
        $socket->message;
    };

    return $m && $m->{data} eq $message;
}


sub close_all {
    my (@sockets) = @_;

    $_->{stream}->close for @sockets;

    return;
}


sub stop {
    my ($system) = @_;

    my @wrong = (map({ $_->stop } @{$system->{agents}}),
                 map({ $_->stop } @{$system->{nginx}}));

    croak join("\n", @wrong) if @wrong;

    return;
}


# A backend that has room for all of them: one process, which sends every
# message back.

sub serve {
    my ($rig) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                       Listen => 1024, Proto => 'tcp',
                                       Blocking => 0)
        or croak "backend: $!";

    my $process = InvertingProxy::Test::Process->fork_code(
        name => 'websockets', err => "$rig->{dir}/websockets.err",
        code => sub { echo_all($listen) });

    return { port => $listen->sockport, process => $process };
}


sub echo_all {
    my ($listen) = @_;

    my %connection;
    my $all = '';

    vec($all, fileno($listen), 1) = 1;

    while (1) {
        next if select(my $ready = $all, undef, undef, undef) < 0;

        my $bits = unpack('b*', $ready);

        for (my $fd = index($bits, '1'); $fd >= 0;
             $fd = index($bits, '1', $fd + 1))
        {
            if ($fd == fileno($listen)) {
                my $sock = $listen->accept or next;
                $connection{fileno($sock)} = { sock => $sock, in => '' };
                vec($all, fileno($sock), 1) = 1;

            } elsif (!echo_some($connection{$fd})) {
                vec($all, $fd, 1) = 0;
                delete $connection{$fd};
            }
        }
    }
}


# Messages are short: what is written always fits.

sub echo_some {
    my ($c) = @_;

    my $n = sysread($c->{sock}, $c->{in}, 4096, length $c->{in});
    return 0 if !$n;

    if (!$c->{open}) {
        my ($head) = $c->{in} =~ /^(.*?\r\n\r\n)/s or return 1;
        my ($key) = $head =~ /^Sec-WebSocket-Key: *(\S+)\r$/mi or return 0;

        substr($c->{in}, 0, length $head, '');
        $c->{open} = 1;
        syswrite($c->{sock}, "HTTP/1.1 101 Switching Protocols\r\n"
                             . "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                             . 'Sec-WebSocket-Accept: ' . ws_key($key)
                             . "\r\n\r\n");
    }

    while (my $f = ws_decode(\$c->{in})) {
        return 0 if $f->{op} == WS_CLOSE;
        syswrite($c->{sock}, ws_encode($f->{op}, $f->{data}));
    }

    return 1;
}


1;
