package InvertingProxy::Test::Process;

# A child process in a process group of its own: started, watched, and gone when
# the test is.
#
#   my $p = InvertingProxy::Test::Process->spawn(name => 'nginx',
#               argv => [...], env => {...}, out => $file, err => $file);
#   my $p = InvertingProxy::Test::Process->fork_code(name => 'backend',
#               code => sub { ... }, err => $file);
#
#   $p->pid  $p->alive  $p->status           status: as $?, undef while it runs
#   $p->signal('HUP')  $p->signal_group('KILL')
#   $p->wait(seconds)                        true once it has ended
#   $p->stop('TERM', seconds)                true if that signal was enough
#   $p->members                              live processes of its group
#
# A guardian process waits for the end of the test, whichever way it comes, and
# then kills what is left and removes the temporary folder: a test that was
# killed by SIGKILL leaves nothing behind either.

use strict;
use warnings;

use Carp qw(croak);
use IO::Handle;
use POSIX qw(WNOHANG);

use InvertingProxy::Test::Util qw(become waitfor slurp);


my $guardian;                   # pipe to it
my $guardian_pid;
my $guardian_owner = 0;         # the process that made it


sub guard {
    my ($line) = @_;

    if (!$guardian || $guardian_owner != $$) {
        start_guardian();
    }

    syswrite($guardian, "$line\n");
    return;
}


# At the end of all: it does its work, if there is any left, and is reaped.

sub release {
    return if !$guardian || $guardian_owner != $$;

    close($guardian);
    undef $guardian;

    local $?;
    waitpid($guardian_pid, 0);

    return;
}


sub start_guardian {
    pipe(my $r, my $w) or croak "pipe: $!";

    my $pid = fork();
    croak "fork: $!" unless defined $pid;

    if ($pid) {
        close($r);
        $guardian = $w;
        $guardian_pid = $pid;
        $guardian_owner = $$;
        return;
    }

    # Whoever reads our output must not wait for the guardian.
    open(STDIN, '<', '/dev/null');
    open(STDOUT, '>', '/dev/null');
    open(STDERR, '>', '/dev/null');
    close($w);
    POSIX::setsid();
    $SIG{$_} = 'IGNORE' for qw(INT TERM HUP QUIT PIPE);
    $0 = 'test guardian';

    my (%group, %dir);

    while (defined(my $line = <$r>)) {
        if ($line =~ /^\+(\d+)$/) { $group{$1} = 1 }
        elsif ($line =~ /^-(\d+)$/) { delete $group{$1} }
        elsif ($line =~ m{^dir (/.+)$}) { $dir{$1} = 1 }
        elsif ($line =~ m{^keep (/.+)$}) { delete $dir{$1} }
    }

    for my $pid (keys %group) {
        kill('KILL', -$pid);
    }

    for my $dir (keys %dir) {
        system('rm', '-rf', '--', $dir) if -d $dir;
    }

    POSIX::_exit(0);
}


sub spawn {
    my ($class, %opt) = @_;

    return $class->_start(%opt, code => sub {
        chdir($opt{cwd}) if $opt{cwd};
        become($opt{argv}, $opt{env});
    });
}


sub fork_code {
    my ($class, %opt) = @_;
    return $class->_start(%opt);
}


sub _start {
    my ($class, %opt) = @_;

    guard('hello');             # before the fork: the child must not make one

    STDOUT->flush;
    STDERR->flush;

    my $pid = fork();
    croak "fork: $!" unless defined $pid;

    if ($pid == 0) {
        # Nothing of the test may run twice: this child ends by exec or _exit,
        # whatever happens in it.
        eval {
            setpgrp(0, 0);
            $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP QUIT CHLD ALRM);
            alarm(0);
            close($guardian);

            open(STDIN, '<', '/dev/null') or die;
            open(STDOUT, '>>', $opt{out} || '/dev/null') or die;
            open(STDERR, '>>', $opt{err} || '/dev/null') or die;
            STDERR->autoflush(1);

            $opt{code}->();
            1;
        } or syswrite(STDERR, $@);

        POSIX::_exit($@ ? 1 : 0);
    }

    # Both sides: whoever is first.
    setpgrp($pid, $pid);
    guard("+$pid");

    my $self = bless { pid => $pid, name => $opt{name}, argv => $opt{argv},
                       owner => $$ }, $class;

    return $self;
}


sub pid { return $_[0]{pid} }
sub name { return $_[0]{name} }


# Reaps it if it has ended; its $? or undef.

sub status {
    my ($self) = @_;

    if (!defined $self->{status}) {
        my $pid = waitpid($self->{pid}, WNOHANG);
        $self->{status} = $? if $pid == $self->{pid};
        $self->{status} = -1 if $pid == -1;
    }

    return $self->{status};
}


sub alive {
    my ($self) = @_;
    return !defined $self->status;
}


sub signal {
    my ($self, $signal) = @_;
    return $self->alive ? kill($signal, $self->{pid}) : 0;
}


sub signal_group {
    my ($self, $signal) = @_;
    return kill($signal, -$self->{pid});
}


sub wait {
    my ($self, $timeout) = @_;
    return waitfor(sub { !$self->alive }, $timeout);
}


# Asks with $signal; kills the whole group when that did not end it in time.

sub stop {
    my ($self, $signal, $timeout) = @_;

    my $asked = 1;

    if ($self->alive) {
        $self->signal($signal || 'TERM');

        if (!$self->wait($timeout || 10)) {
            $asked = 0;
            $self->signal_group('KILL');
            $self->wait(5);
        }
    }

    return $asked;
}


# The end of it: kills what is left of the group and forgets it.  Returns the
# command lines of what should not have been there.

sub finish {
    my ($self) = @_;

    $self->stop('KILL', 5);

    my @left;

    # A child of the one that ended may need a moment to follow it.
    waitfor(sub { !$self->members }, 2);

    for my $pid ($self->members) {
        my $what = slurp("/proc/$pid/cmdline");
        $what =~ tr/\0/ /;
        push @left, "$pid $what";
    }

    if (@left) {
        $self->signal_group('KILL');
        waitfor(sub { !$self->members }, 5);
    }

    guard("-$self->{pid}");

    return @left;
}


# Live processes of the group; zombies that await their reaper do not count.

sub members {
    my ($self) = @_;

    return grep {
        my $stat = proc_stat($_);
        $stat && $stat->{pgrp} == $self->{pid} && $stat->{state} !~ /[ZX]/;
    } all_pids();
}


# Children of a process, oldest first.

sub children_of {
    my ($parent) = @_;

    my @children = grep {
        my $stat = proc_stat($_);
        $stat && $stat->{ppid} == $parent && $stat->{state} !~ /[ZX]/;
    } all_pids();

    return sort { $a <=> $b } @children;
}


sub all_pids {
    opendir(my $dh, '/proc') or croak "cannot read /proc: $!";
    my @pids = grep { /^\d+$/ } readdir($dh);
    closedir($dh);

    return @pids;
}


sub proc_stat {
    my ($pid) = @_;

    # The name in parentheses may hold anything, parentheses too.
    my ($rest) = slurp("/proc/$pid/stat") =~ /^.*\) (.*)$/s or return undef;
    my @field = split(' ', $rest);

    return { state => $field[0], ppid => $field[1], pgrp => $field[2],
             utime => $field[11], stime => $field[12] };
}


1;
