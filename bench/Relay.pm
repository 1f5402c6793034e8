package Relay;

# A path that is long: what comes in goes out on the other side after a time,
# in both directions.  The rate has no limit but what this process can do.
#
#   my $r = Relay->start($rig, $port, 0.05);    to a port of 127.0.0.1; seconds
#   $r->port

use strict;
use warnings;

use Carp qw(croak);
use Errno;
use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(now);

# On the way at one time, in a direction: 5 Gbit/s for the 50 ms.
use constant ON_THE_WAY => 32 * 1024 * 1024;
use constant PIECE => 128 * 1024;


sub start {
    my ($class, $rig, $to, $delay) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128,
                                       Proto => 'tcp')
        or croak "relay: $!";

    my $self = bless { port => $listen->sockport }, $class;

    $self->{process} = InvertingProxy::Test::Process->fork_code(
        name => 'relay', err => "$rig->{dir}/relay.err",
        code => sub { run($listen, $to, $delay) });

    return $self;
}


sub port { return $_[0]{port} }


sub stop {
    my ($self) = @_;

    $self->{process}->signal('KILL');
    $self->{process}->finish;

    return;
}


sub run {
    my ($listen, $to, $delay) = @_;

    my %flow;                   # by the descriptor that it reads

    $SIG{PIPE} = 'IGNORE';

    while (1) {
        my ($read, $write, $wait) = interest($listen, \%flow);

        next if select($read, $write, undef, $wait) < 0;

        for my $flow (values %flow) {
            take($flow, $delay) if vec($read, fileno($flow->{from}), 1);
            give($flow);
        }

        accept_one($listen, $to, \%flow) if vec($read, fileno($listen), 1);

        for my $fd (keys %flow) {
            delete $flow{$fd} if over($flow{$fd});
        }
    }
}


sub interest {
    my ($listen, $flows) = @_;

    my ($read, $write, $wait) = ('', '', undef);
    my $now = now();

    vec($read, fileno($listen), 1) = 1;

    for my $flow (values %$flows) {
        if (!$flow->{end} && $flow->{bytes} < ON_THE_WAY) {
            vec($read, fileno($flow->{from}), 1) = 1;
        }

        next if !@{$flow->{queue}};

        my $left = $flow->{queue}[0][0] - $now;

        if ($left <= 0) {
            vec($write, fileno($flow->{to}), 1) = 1;
        } elsif (!defined $wait || $left < $wait) {
            $wait = $left;
        }
    }

    return ($read, $write, $wait);
}


sub accept_one {
    my ($listen, $to, $flows) = @_;

    my $near = $listen->accept or return;
    my $far = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to,
                                    Proto => 'tcp') or return;

    for my $sock ($near, $far) {
        setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1);
        $sock->blocking(0);
    }

    my ($up, $down) = map {
        { from => $_->[0], to => $_->[1], queue => [], bytes => 0 }
    } [ $near, $far ], [ $far, $near ];

    $flows->{fileno($near)} = $up;
    $flows->{fileno($far)} = $down;

    return;
}


sub take {
    my ($flow, $delay) = @_;

    my $n = sysread($flow->{from}, my $data, PIECE);

    return if !defined $n && ($!{EAGAIN} || $!{EINTR});

    # The end takes as long as all else; an empty piece is the end.
    push @{$flow->{queue}}, [ now() + $delay, $n ? $data : '' ];
    $flow->{bytes} += $n || 0;
    $flow->{end} = 1 if !$n;

    return;
}


sub give {
    my ($flow) = @_;

    my $queue = $flow->{queue};
    my $now = now();

    while (@$queue && $queue->[0][0] <= $now) {
        my $piece = $queue->[0];

        if ($piece->[1] eq '') {
            shutdown($flow->{to}, 1);
            shift @$queue;
            $flow->{done} = 1;
            return;
        }

        my $n = syswrite($flow->{to}, $piece->[1]);

        if (!defined $n) {
            return if $!{EAGAIN} || $!{EINTR};

            # Nobody is there any more: nor will the other side be.
            shutdown($flow->{from}, 2);
            @$queue = ();
            @$flow{qw(end done)} = (1, 1);
            return;
        }

        $flow->{bytes} -= $n;

        if ($n == length $piece->[1]) {
            shift @$queue;
        } else {
            substr($piece->[1], 0, $n, '');
            return;
        }
    }

    return;
}


# The sockets are closed when neither direction holds them.

sub over {
    my ($flow) = @_;
    return $flow->{done} && !@{$flow->{queue}};
}


1;
