package InvertingProxy::Test::Util;

# Small things that every part of the harness needs: files, waiting, ports.
# Nothing here knows of nginx, of the agent or of Test::More.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use Fcntl qw(O_WRONLY O_APPEND O_CREAT F_SETLK F_WRLCK SEEK_SET);
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(SOL_SOCKET SO_REUSEADDR);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

our @EXPORT_OK = qw(slurp spew append_line tail now nap slow waitfor
                    free_port become run_command certificate state_lock);


# Seconds on a clock that nobody sets.

sub now { return clock_gettime(CLOCK_MONOTONIC) }


# Sleeps the whole time, signals or not.

sub nap {
    my ($seconds) = @_;

    my $end = now() + $seconds;

    while ((my $left = $end - now()) > 0) {
        select(undef, undef, undef, $left);
    }

    return;
}


# Every time-out of the harness is multiplied by this: sanitizers and valgrind
# make the same work many times slower.

sub slow { return $ENV{INVERTING_PROXY_SLOW} || 1 }


# Polls $code until it returns something true, and returns that; undef when
# $timeout seconds (10, times slow()) have passed without.

sub waitfor {
    my ($code, $timeout) = @_;

    my $end = now() + ($timeout || 10) * slow();
    my $pause = 0.002;

    while (1) {
        my $result = $code->();
        return $result if $result;
        return undef if now() > $end;

        nap($pause);
        $pause *= 1.5 if $pause < 0.05;
    }
}


sub slurp {
    my ($path) = @_;

    open(my $fh, '<:raw', $path) or return '';
    local $/;
    my $data = <$fh>;
    close($fh);

    return defined $data ? $data : '';
}


sub spew {
    my ($path, $data) = @_;

    open(my $fh, '>:raw', $path) or croak "cannot write \"$path\": $!";
    print $fh $data or croak "cannot write \"$path\": $!";
    close($fh) or croak "cannot write \"$path\": $!";

    return $path;
}


# One line, one write(): lines of different processes never mix.

sub append_line {
    my ($path, $line) = @_;

    $line =~ s/\n/\\n/g;

    sysopen(my $fh, $path, O_WRONLY | O_APPEND | O_CREAT)
        or croak "cannot open \"$path\": $!";
    syswrite($fh, "$line\n");
    close($fh);

    return;
}


sub tail {
    my ($path, $lines) = @_;

    my @all = split(/^/, slurp($path));
    splice(@all, 0, @all - $lines) if @all > $lines;

    return join('', @all);
}


# The write lock of a state file, as another process would have it: commits wait
# until the handle is closed.  It is a byte of the index of SQLite's log, which
# has to be there; undef: somebody else has it.

sub state_lock {
    my ($file) = @_;

    open(my $fh, '+<', "$file-shm") or croak "cannot open \"$file-shm\": $!";

    # struct flock where off_t has 64 bits; byte 120 is WAL_WRITE_LOCK
    my $lock = pack('s s x![q] q q i x![q]', F_WRLCK, SEEK_SET, 120, 1, 0);

    return waitfor(sub { fcntl($fh, F_SETLK, $lock) }) ? $fh : undef;
}


# A port of 127.0.0.1 that stays ours until this process ends, so that test
# files can run side by side: it is bound, not listened on.  SO_REUSEADDR set
# only after bind() gets a port that nobody else has, and still lets the program
# that is to listen there (nginx sets it as well) bind it beside us.  A
# connection to it is refused as long as nobody listens.

my @held;

sub free_port {
    my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0,
                                     Proto => 'tcp')
        or croak "no free port: $!";

    setsockopt($sock, SOL_SOCKET, SO_REUSEADDR, 1) or croak "setsockopt: $!";
    push @held, $sock;

    return $sock->sockport;
}


# Makes this process, a child, the command; env names variables to set, or to
# unset (undef).

sub become {
    my ($argv, $env) = @_;

    for my $name (keys %{$env || {}}) {
        if (defined $env->{$name}) {
            $ENV{$name} = $env->{$name};
        } else {
            delete $ENV{$name};
        }
    }

    {
        no warnings 'exec';
        exec { $argv->[0] } @$argv;
    }

    syswrite(STDERR, "cannot run \"$argv->[0]\": $!\n");
    POSIX::_exit(127);
}


# Runs a command to its end and returns { status, signal, out, err, timeout }.
# Options: stdin (bytes), timeout (seconds), env (hash of changes).

sub run_command {
    my ($argv, %opt) = @_;

    pipe(my $out_r, my $out_w) or croak "pipe: $!";
    pipe(my $err_r, my $err_w) or croak "pipe: $!";
    pipe(my $in_r, my $in_w) or croak "pipe: $!";

    my $pid = fork();
    croak "fork: $!" unless defined $pid;

    if ($pid == 0) {
        setpgrp(0, 0);
        POSIX::dup2(fileno($in_r), 0);
        POSIX::dup2(fileno($out_w), 1);
        POSIX::dup2(fileno($err_w), 2);

        become($argv, $opt{env});
    }

    close($_) for $in_r, $out_w, $err_w;

    local $SIG{PIPE} = 'IGNORE';
    my $stdin = defined $opt{stdin} ? $opt{stdin} : '';
    syswrite($in_w, $stdin) if length $stdin;
    close($in_w);

    my %got = (out => '', err => '', timeout => 0);
    my %name = (fileno($out_r) => 'out', fileno($err_r) => 'err');
    my $end = now() + ($opt{timeout} || 60) * slow();
    my $select = IO::Select->new($out_r, $err_r);

    while ($select->count) {
        my $left = $end - now();

        if ($left <= 0) {
            kill('KILL', -$pid);
            $got{timeout} = 1;
            last;
        }

        for my $fh ($select->can_read($left)) {
            my $n = sysread($fh, my $data, 65536);
            if (!$n) {
                $select->remove($fh);
                next;
            }
            $got{$name{fileno($fh)}} .= $data;
        }
    }

    waitpid($pid, 0);
    $got{status} = $? >> 8;
    $got{signal} = $? & 127;

    return \%got;
}


# A certificate for 127.0.0.1, localhost and $name; returns the paths of
# certificate and key.  Self-signed, unless ca => [ crt, key ] signs it.

sub certificate {
    my ($dir, $name, %opt) = @_;

    my ($crt, $key) = ("$dir/$name.crt", "$dir/$name.key");

    if (!-e $crt) {
        my @ca = $opt{ca} ? ('-CA', $opt{ca}[0], '-CAkey', $opt{ca}[1],
                             '-addext', 'basicConstraints=critical,CA:FALSE')
                          : ();
        my $r = run_command([ qw(openssl req -x509 -newkey rsa:2048 -nodes),
                              '-days', 2, '-subj', "/CN=$name", @ca,
                              '-addext',
                              "subjectAltName=DNS:$name,DNS:localhost"
                              . ",IP:127.0.0.1",
                              '-keyout', $key, '-out', $crt ]);
        croak "openssl: $r->{err}" if $r->{status} != 0;
    }

    return ($crt, $key);
}


1;
