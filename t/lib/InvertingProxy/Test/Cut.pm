package InvertingProxy::Test::Cut;

# Kills a worker in the middle of something: a debugger stops it there.
#
#   my $why = cut_missing($pid)      undef, or why there can be no debugger
#   my $r = cut($pid, 'ngx_http_inverting_end_tx_locked',
#               then => [ 'stepi 10' ], when => sub { ... });
#
# Waits until the process comes to the function, does what else is wanted ("then"
# has commands of gdb), and kills it; with go => 1 it lets it go instead.  "when"
# is called once it is lying in wait, "hold" while the process stands still.
# Returns { stopped, out }.

use strict;
use warnings;

use Exporter qw(import);

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(run_command slurp waitfor);

our @EXPORT = qw(cut cut_missing);

my @quiet = ('set confirm off', 'set pagination off',
             'set debuginfod enabled off',
             'handle SIGALRM SIGCHLD SIGIO SIGPIPE nostop noprint pass');
my $count = 0;


sub argv {
    my ($pid, @commands) = @_;
    return (qw(gdb -nx -batch -p), $pid,
            map { ('-ex', $_) } @quiet, @commands);
}


sub cut_missing {
    my ($pid) = @_;

    return 'there is no gdb'
        if !grep { -x "$_/gdb" } split(/:/, $ENV{PATH} || '');

    my $r = run_command([ argv($pid, 'print 40 + 2', 'detach') ],
                        timeout => 30);

    return $r->{out} =~ /^\$1 = 42$/m && $r->{out} !~ /Operation not permitted/
           && $r->{err} !~ /Operation not permitted|ptrace:/
           ? undef : 'gdb may not look into a process';
}


sub cut {
    my ($pid, $function, %opt) = @_;

    my $out = ($ENV{TMPDIR} || '/tmp') . "/inverting-proxy-cut.$$." . ++$count;

    my @hold = $opt{hold} ? ("shell touch $out.held; "
                             . "while [ -e $out.held ]; do sleep 0.02; done")
                          : ();
    my $end = $opt{go} ? 'detach' : 'kill';

    my $gdb = InvertingProxy::Test::Process->spawn(
        name => 'gdb', out => $out, err => $out,
        argv => [ argv($pid, "break $function", 'echo in wait\n', 'continue',
                       @{$opt{then} || []}, 'bt 8', @hold, $end) ]);

    my $waits = waitfor(sub { slurp($out) =~ /^in wait$/m || !$gdb->alive },
                        20);

    $opt{when}->() if $opt{when} && $waits && $gdb->alive;

    if ($opt{hold}
        && waitfor(sub { -e "$out.held" || !$gdb->alive }, 20) && $gdb->alive)
    {
        $opt{hold}->();
        unlink("$out.held");
    }

    $gdb->wait($opt{timeout} || 20);
    $gdb->finish;

    my $text = slurp($out);
    unlink($out);

    return { out => $text,
             stopped => scalar $text =~
                        /^(?:Thread .* hit )?Breakpoint 1[.,].*^\[Inferior/ms };
}


1;
