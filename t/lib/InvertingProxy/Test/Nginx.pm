package InvertingProxy::Test::Nginx;

# A real nginx with our module, in a folder of its own.
#
#   my $n = InvertingProxy::Test::Nginx->new(dir => $dir, name => 'nginx-1',
#               http => $conf, %opt);
#
# The configuration is made of the parts given: main (top level), events, http;
# or conf, which is all of it.  In each of them %%DIR%% is the folder and
# %%PORT%%, %%PORT_1%%, %%PORT_anything%% are free ports, the same ones each
# time; %%SOMETHING%% is vars => { SOMETHING => ... }.
#
# Options: workers (1), single => 1 (master_process off), connections (1024),
# log (info; debug), module => 0 (do not load it), api => the prefix of the
# API's location (found in the configuration by itself), ready => 0 (do not wait
# for it to listen), quit_timeout (20), env, ports => { '' => 8080 } (not any
# that is free), user => the workers' where the test is root's (root), as => the
# user of all of it, then; preload => a library for LD_PRELOAD.
#
#   $n->port  $n->port('1')        $n->pid
#   $n->workers  $n->exiting       pids, oldest first
#   $n->signal('HUP')              to the master
#   $n->reload(%opt)               with new parts, if any; waits for new workers
#   $n->kill_worker($pid)          SIGKILL; waits until another has its place
#   $n->quit  $n->stop  $n->start
#   $n->log  $n->wait_log(qr/.../) $n->mark: only what was logged after it
#   $n->allow(qr/.../)             an alert that the test expects
#   $n->test(%parts)               nginx -t: { status, out }
#   $n->problems                   lines of the log that fail a test

use strict;
use warnings;

use Carp qw(croak);
use IO::Socket::INET;

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(free_port waitfor slurp spew tail
                                  run_command);


my @parts = qw(main events http conf workers single connections log vars
               user);


sub new {
    my ($class, %opt) = @_;

    my $self = bless {
        workers => 1, single => 0, connections => 1024, module => 1,
        ready => 1, quit_timeout => 20, vars => {}, main => '', events => '',
        http => '', log => $ENV{INVERTING_PROXY_LOG} || 'info', ports => {},
        user => 'root', %opt, allowed => [], mark => 0,
    }, $class;

    # One folder for each nginx, the temporary ones of nginx below it.
    $self->{dir} = "$opt{dir}/$opt{name}";
    mkdir($self->{dir}) or croak "mkdir \"$self->{dir}\": $!";

    if ($self->{as} && $> == 0) {
        chown((getpwnam($self->{as}))[2, 3], $self->{dir});
        $self->{under} = [ 'setpriv', "--reuid=$self->{as}",
                           '--regid=' . (getpwnam($self->{as}))[3],
                           '--clear-groups' ];
    }

    $self->{error_log} = "$self->{dir}/error.log";
    $self->{stderr} = "$self->{dir}/stderr";
    $self->{file} = "$self->{dir}/nginx.conf";
    $self->{binary} = $ENV{INVERTING_PROXY_NGINX} || find_nginx();

    $self->start if !defined $opt{start} || $opt{start};

    return $self;
}


sub find_nginx {
    for my $dir (split(/:/, $ENV{PATH} || ''), '/usr/sbin', '/usr/local/sbin') {
        return "$dir/nginx" if -x "$dir/nginx";
    }

    croak 'there is no nginx: "make deps" installs it';
}


sub module_path {
    my $build = $ENV{INVERTING_PROXY_BUILD} || 'build';
    return "$build/ngx_http_inverting_proxy_module.so";
}


sub port {
    my ($self, $name) = @_;

    $name = '' if !defined $name;
    return $self->{ports}{$name} ||= free_port();
}


sub render {
    my ($self, %opt) = @_;

    my %p = (map({ $_ => $self->{$_} } @parts), %opt);
    my $conf = $p{conf};

    if (!defined $conf) {
        my $dir = $self->{dir};
        my $load = $self->{module} ? 'load_module ' . module_path() . ';' : '';
        my $user = $> == 0 && !$self->{as}
                   ? "user $p{user} " . getgrgid((getpwnam($p{user}))[3]) . ';'
                   : '';
        my $master = $p{single} ? 'master_process off;' : '';

        $conf = <<"EOT";
$load
$user
daemon off;
$master
worker_processes $p{workers};
pid $dir/nginx.pid;
error_log $self->{error_log} $p{log};
$p{main}

events {
    worker_connections $p{connections};
    $p{events}
}

http {
    access_log off;
    client_body_temp_path $dir/client_body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;

$p{http}
}
EOT
    }

    $conf =~ s/%%DIR%%/$self->{dir}/g;
    $conf =~ s/%%PORT(?:_(\w+))?%%/$self->port($1)/ge;
    $conf =~ s{%%(\w+)%%}{
        defined $p{vars}{$1} ? $p{vars}{$1}
                             : croak "nothing to put for \"%%$1%%\""
    }ge;

    return $conf;
}


sub write_conf {
    my ($self) = @_;

    my $conf = $self->render;

    spew($self->{file}, $conf);

    if (!defined $self->{api_given}) {
        $self->{api_given} = defined $self->{api} ? 1 : 0;
    }

    if (!$self->{api_given}) {
        # As nginx reads it: comments out, then the location's first argument.
        (my $plain = $conf) =~ s/#.*//g;
        ($self->{api}) = $plain =~
            /location\s+(?:\^~\s+)?(\/\S*)\s*\{[^{}]*\binverting_proxy_api\b/;
    }

    my @ports = $conf =~ /\blisten\s+(?:127\.0\.0\.1:)?(\d+)\b/g;
    $self->{listen} = \@ports;

    return;
}


sub argv {
    my ($self, @more) = @_;
    return (@{$self->{under} || []}, $self->{binary}, '-p', "$self->{dir}/",
            '-e', $self->{error_log}, '-c', $self->{file}, @more);
}


# Only the module is sanitized, so the run-time libraries come with LD_PRELOAD.
# nginx frees nothing when it exits, and asks for pages past what it uses.

sub env {
    my ($self) = @_;

    my %env = %{$self->{env} || {}};

    my @preload = grep { defined } $ENV{INVERTING_PROXY_PRELOAD},
                                   $self->{preload};
    $env{LD_PRELOAD} = "@preload" if @preload;

    if ($ENV{INVERTING_PROXY_PRELOAD}) {
        my $common = 'print_stacktrace=1';
        my $reports = $self->{reports};

        $env{ASAN_OPTIONS} = "log_path=$reports/asan.nginx:detect_leaks=0:"
                             . "detect_odr_violation=0:$common";
        $env{UBSAN_OPTIONS} = "log_path=$reports/ubsan.nginx:$common";
    }

    return \%env;
}


sub start {
    my ($self) = @_;

    $self->write_conf;

    $self->{process} = InvertingProxy::Test::Process->spawn(
        name => $self->{name}, argv => [ $self->argv ], env => $self->env,
        out => $self->{stderr}, err => $self->{stderr});

    return if !$self->{ready};

    waitfor(sub { !$self->{process}->alive || $self->listening }, 20);

    if (!$self->{process}->alive || !$self->listening) {
        croak "$self->{name} does not start:\n", tail($self->{stderr}, 20),
              tail($self->{error_log}, 20);
    }

    # It listens before it has forked.
    if (!$self->{single}) {
        waitfor(sub { $self->workers >= $self->{workers} }, 20)
            or croak "$self->{name} has not got its workers";
    }

    return;
}


sub listening {
    my ($self) = @_;

    # In /proc, not by connecting: no test wants to see our connections.
    my %open;

    for my $line (split(/\n/, slurp('/proc/net/tcp'))) {
        my ($port, $state) = $line =~ /^\s*\d+: [0-9A-F]+:([0-9A-F]+) \S+ (\S+)/
            or next;
        $open{hex($port)} = 1 if $state eq '0A';
    }

    return !grep { !$open{$_} } @{$self->{listen}};
}


sub process { return $_[0]{process} }
sub pid { return $_[0]{process}->pid }
sub running { return $_[0]{process} && $_[0]{process}->alive }


sub _processes {
    my ($self) = @_;

    return map { my $c = slurp("/proc/$_/cmdline"); $c =~ tr/\0//d; [ $_, $c ] }
               InvertingProxy::Test::Process::children_of($self->pid);
}


sub workers {
    my ($self) = @_;

    return $self->pid if $self->{single};
    return map { $_->[0] } grep { $_->[1] =~ /^nginx: worker process$/ }
           $self->_processes;
}


sub exiting {
    my ($self) = @_;
    return map { $_->[0] } grep { $_->[1] =~ /^nginx: worker .*shutting down/ }
           $self->_processes;
}


sub signal {
    my ($self, $signal) = @_;
    return $self->{process}->signal($signal);
}


# Returns when all new workers are there and no old one takes connections any
# more; old ones may still be busy.  False when it did not come to that.

sub reload {
    my ($self, %opt) = @_;

    my %old = map { $_ => 1 } $self->workers;

    @$self{keys %opt} = values %opt;
    $self->write_conf;
    $self->signal('HUP');

    return waitfor(sub {
        my @now = $self->workers;
        @now == $self->{workers} && !grep({ $old{$_} } @now);
    }, 20);
}


sub kill_worker {
    my ($self, $pid, $signal) = @_;

    kill($signal || 'KILL', $pid);

    return waitfor(sub {
        my @now = $self->workers;
        @now == $self->{workers} && !grep({ $_ == $pid } @now);
    }, 20);
}


# True when it ended by itself, with status 0.

sub quit {
    my ($self, $signal) = @_;

    return 1 if !$self->running;

    my $asked = $self->{process}->stop($signal || 'QUIT',
                                       $self->{quit_timeout});

    return $asked && $self->{process}->status == 0;
}


# Ends it in any case; returns what is wrong about how it ended.

sub stop {
    my ($self, $signal) = @_;

    my $process = $self->{process} or return;
    my @wrong;

    if (!$process->alive && !$self->{stopped}) {
        push @wrong, "$self->{name} had ended by itself, status "
                     . $process->status;

    } elsif (!$self->quit($signal)) {
        push @wrong, "$self->{name} did not end when asked to, or not well: "
                     . 'status ' . $process->status;
    }

    push @wrong, map { "$self->{name} left a process: $_" } $process->finish;

    $self->{process} = undef;

    return @wrong;
}


# The log from the last mark on.

sub log {
    my ($self) = @_;
    return substr(slurp($self->{error_log}), $self->{mark});
}


sub mark {
    my ($self) = @_;
    $self->{mark} = -s $self->{error_log} || 0;
    return;
}


sub wait_log {
    my ($self, $regex, $timeout) = @_;
    return waitfor(sub { $self->log =~ $regex }, $timeout);
}


sub allow {
    my ($self, @regex) = @_;
    push @{$self->{allowed}}, @regex;
    return;
}


# What nginx itself says after a worker was killed.

sub allow_kill {
    my ($self) = @_;
    $self->allow(qr/exited on signal 9/, qr/zone .* was locked by \d+/);
    return;
}


sub test {
    my ($self, %opt) = @_;

    my $file = "$self->{dir}/test.conf";
    my $conf = $self->render(%opt);

    # "nginx -t" writes to the log that is configured, too: not to the one that
    # is looked at in the end.
    $conf =~ s/\Q$self->{error_log}\E/$self->{dir}\/test.log/g;
    spew($file, $conf);

    my $r = run_command([ @{$self->{under} || []}, $self->{binary}, '-t',
                          '-p', "$self->{dir}/", '-e', "$self->{dir}/test.log",
                          '-c', $file ],
                        env => $self->env);

    return { status => $r->{signal} ? -$r->{signal} : $r->{status},
             out => $r->{err} . $r->{out} };
}


# A sanitizer's report may come in the log instead of a file of its own: UBSan
# looks for its options when it first has something to say, and nginx has
# overwritten its environment with its title by then.

sub problems {
    my ($self) = @_;

    my (%count, @found);
    my $report = 0;

    for my $file ($self->{error_log}, $self->{stderr}) {
        open(my $fh, '<', $file) or next;

        while (my $line = <$fh>) {
            chomp($line);

            # What belongs to a report: everything until nginx says something.
            if ($report && $line !~ m{^\d+/\d+/\d+ }) {
                $found[-1] .= "\n$line" if $report++ < 30;
                next;
            }

            $report = 0;

            next if $line !~ /\[(?:alert|emerg)\]
                              |runtime\ error:\ | ERROR:\ AddressSanitizer/x;
            next if grep { $line =~ $_ } @{$self->{allowed}};

            # What nginx prints before it reads its configuration is in both.
            $line =~ s{^\d+/\d+/\d+ \S+ }{};
            $line =~ s{^nginx: }{};

            (my $same = $line) =~ s/0x[0-9a-f]+|\d+//g;
            next if $count{$same}++;

            push @found, "$self->{name}: $line";
            $report = 1 if $line =~ /AddressSanitizer|runtime error/;
        }

        close($fh);
    }

    return @found;
}


1;
