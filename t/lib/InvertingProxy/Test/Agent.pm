package InvertingProxy::Test::Agent;

# A real agent.
#
#   my $a = InvertingProxy::Test::Agent->new(dir => $dir, name => 'agent-1',
#               proxy => "http://127.0.0.1:$port/", backend => 'id',
#               host => $backend->address, args => [ '-debug' ], env => {});
#           preload => a library for LD_PRELOAD
#
#   $a->pid  $a->running  $a->signal('TERM')  $a->kill
#   $a->log  $a->wait_log(qr/.../)  $a->status
#   $a->stop             SIGTERM; returns what is wrong about how it ended
#
# An agent that the test has killed, or whose end it has waited for, is as it
# should be; one that ended by itself otherwise is a failure.

use strict;
use warnings;

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(slow waitfor slurp);


sub new {
    my ($class, %opt) = @_;

    my $self = bless { stop_timeout => 40, %opt }, $class;

    $self->{log} = "$self->{dir}/$self->{name}.log";
    $self->start if !defined $opt{start} || $opt{start};

    return $self;
}


sub binary {
    my $build = $ENV{INVERTING_PROXY_BUILD} || 'build';
    return $ENV{INVERTING_PROXY_AGENT} || "$build/inverting-proxy-agent";
}


sub argv {
    my ($self) = @_;

    my @argv = binary();

    push @argv, "-proxy=$self->{proxy}" if defined $self->{proxy};
    push @argv, "-backend=$self->{backend}" if defined $self->{backend};
    push @argv, "-host=$self->{host}" if defined $self->{host};
    push @argv, "-transport=$self->{transport}" if defined $self->{transport};
    push @argv, @{$self->{args} || []};

    if ($ENV{INVERTING_PROXY_VALGRIND}) {
        unshift @argv, split(' ', $ENV{INVERTING_PROXY_VALGRIND}),
                       "--log-file=$self->{reports}/valgrind.$self->{name}.%p";
    }

    return @argv;
}


# Neither a proxy nor credentials of whoever runs the tests.

sub env {
    my ($self) = @_;

    my %env = map { $_ => undef }
                  qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY
                     no_proxy NO_PROXY GOOGLE_APPLICATION_CREDENTIALS
                     GCE_METADATA_HOST SSL_CERT_FILE SSL_CERT_DIR);

    $env{HOME} = $self->{dir};

    if ($self->{reports}) {
        my $common = 'print_stacktrace=1:exitcode=99';
        $env{ASAN_OPTIONS} = "log_path=$self->{reports}/asan.$self->{name}:"
                             . "detect_leaks=1:$common";
        $env{UBSAN_OPTIONS} = "log_path=$self->{reports}/ubsan.$self->{name}:"
                              . $common;
    }

    if ($self->{preload}) {
        $env{LD_PRELOAD} = $self->{preload};
        $env{ASAN_OPTIONS} .= ':verify_asan_link_order=0'
            if $env{ASAN_OPTIONS};
    }

    return { %env, %{$self->{env} || {}} };
}


sub start {
    my ($self) = @_;

    $self->{expected} = 0;
    $self->{process} = InvertingProxy::Test::Process->spawn(
        name => $self->{name}, argv => [ $self->argv ], env => $self->env,
        out => $self->{log}, err => $self->{log});

    return;
}


sub process { return $_[0]{process} }
sub pid { return $_[0]{process}->pid }
sub running { return $_[0]{process} && $_[0]{process}->alive }
sub status { return $_[0]{process} ? $_[0]{process}->status : $_[0]{last} }


sub signal {
    my ($self, $signal) = @_;
    return $self->{process}->signal($signal);
}


sub kill {
    my ($self) = @_;

    $self->{expected} = 1;
    $self->{process}->signal_group('KILL');

    return $self->{process}->wait(5);
}


# Its $? once it has ended by itself, or undef.

sub wait_end {
    my ($self, $timeout) = @_;

    $self->{process}->wait($timeout) or return undef;
    $self->{expected} = 1;

    return $self->{process}->status;
}


sub log {
    my ($self) = @_;
    return slurp($self->{log});
}


sub wait_log {
    my ($self, $regex, $timeout) = @_;
    return waitfor(sub { $self->log =~ $regex }, $timeout);
}


sub stop {
    my ($self, $signal) = @_;

    my $process = $self->{process} or return;
    my @wrong;

    if (!$process->alive) {
        if (!$self->{expected}) {
            push @wrong, "$self->{name} had ended by itself, "
                         . how($process->status);
        }

    } elsif (!$process->stop($signal || 'TERM', $self->{stop_timeout})) {
        push @wrong, "$self->{name} did not end when asked to";

    } elsif ($process->status != 0) {
        push @wrong, "$self->{name} ended with " . how($process->status);
    }

    push @wrong, map { "$self->{name} left a process: $_" } $process->finish;

    $self->{last} = $process->status;
    $self->{process} = undef;

    return @wrong;
}


sub how {
    my ($status) = @_;
    return $status & 127 ? 'signal ' . ($status & 127)
                         : 'status ' . ($status >> 8);
}


1;
