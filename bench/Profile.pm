package Profile;

# What a small request over PTTH costs in user space: nginx and the agent under
# callgrind, which counts instructions.  It counts none of the kernel's.
#
#   my $p = Profile->measure($rig, $seconds, $zone)
#
# { requests => N, nginx => { objects => { name => n }, functions => [ ... ] },
#   agent => the same }: n are instructions for each request, functions are the
# first few, [ n, name, object ].

use strict;
use warnings;

use Carp qw(croak);

use InvertingProxy::Test::Util qw(run_command);
use Measure qw(wrk);
use Systems;

use constant FUNCTIONS => 8;


sub measure {
    my ($class, $rig, $seconds, $zone) = @_;

    local $ENV{INVERTING_PROXY_SLOW} = 10;

    my $origin = Systems::origin_for($rig);
    my %file = map { $_ => "$rig->{dir}/callgrind.$_" } qw(nginx agent);

    local $ENV{INVERTING_PROXY_VALGRIND} = join(' ', callgrind($file{agent}));

    # In one process: callgrind counts in the one that was started.
    my $system = Systems::ours_for(
        $rig, [ [ 'origin', '127.0.0.1:' . $origin->port, '/' ] ],
        name => 'profile', transport => 'ptth', zone => $zone,
        nginx => { single => 1,
                   under => [ callgrind($file{nginx}),
                              "--log-file=$file{nginx}.log" ] });

    my ($nginx) = @{$system->{nginx}};
    my ($agent) = @{$system->{agents}};
    my @pids = ($nginx->pid, $agent->pid);

    # Not the first requests, for which everything is made.
    wrk($system, 32, 1);

    instrument('on', $_) for @pids;
    my $requests = wrk($system, 32, $seconds)->{requests};
    instrument('off', $_) for @pids;

    $_->stop for $agent, $nginx, $origin;

    return { requests => $requests,
             map { $_ => cost($file{$_}, $requests) } keys %file };
}


sub callgrind {
    my ($file) = @_;
    return ('valgrind', '--tool=callgrind', '--instr-atstart=no',
            "--callgrind-out-file=$file");
}


sub instrument {
    my ($state, $pid) = @_;

    my $r = run_command([ 'callgrind_control', '-i', $state, $pid ]);
    croak "callgrind_control: $r->{out}$r->{err}" if $r->{status} != 0;

    return;
}


# Lines of callgrind_annotate: "1,234 ( 5.67%)  file:function [object]".

sub cost {
    my ($file, $requests) = @_;

    my $r = run_command([ 'callgrind_annotate', '--auto=no',
                          '--threshold=100', $file ], timeout => 60);
    my (%object, @functions);

    for my $line (split(/\n/, $r->{out})) {
        my ($n, $name, $object) =
            $line =~ /^\s*([\d,]+)\s+\([\s\d.]+%\)\s+\S*?:(\S+) \[(\S+)\]/
            or next;

        $n =~ tr/,//d;
        $object =~ s{.*/}{};
        $object =~ s/\.so\b.*//;

        $object{$object} += $n / $requests;
        push @functions, [ $n / $requests, $name ] if $object =~ /inverting/;
    }

    croak "callgrind_annotate: $r->{out}$r->{err}" if !@functions;

    @functions = (sort { $b->[0] <=> $a->[0] } @functions)[0 .. FUNCTIONS - 1];

    return { objects => \%object, functions => \@functions };
}


1;
