package InvertingProxy::Test::Admin;

# The real command for the API, run to its end.
#
#   my $admin = InvertingProxy::Test::Admin->new(rig => $t, server => $url);
#   my $r = $admin->run(qw(backends list), %opt);   { status, out, err, ... },
#                                       see run_command of Util.pm
#   $admin->{file}                      its configuration file, not there yet
#   $admin->config("name = value\n", 0600)          writes it
#   $admin->spawn('name', @args)        a Process; its output in $admin->{out}
#
# HOME is a folder of its own; without server => the address is for the file or
# the arguments to give.

use strict;
use warnings;

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(run_command spew);


sub new {
    my ($class, %opt) = @_;

    my $self = bless { %opt }, $class;

    $self->{home} = "$self->{rig}{dir}/home";
    $self->{out} = "$self->{rig}{dir}/admin.out";
    mkdir($_) for $self->{home}, "$self->{home}/.config",
                  "$self->{home}/.config/inverting-proxy";
    $self->{file} = "$self->{home}/.config/inverting-proxy/admin.conf";

    return $self;
}


sub binary {
    my $build = $ENV{INVERTING_PROXY_BUILD} || 'build';
    return "$build/inverting-proxy-admin";
}


sub argv {
    my ($self, @args) = @_;

    my @argv = (binary(), @args);

    if ($ENV{INVERTING_PROXY_VALGRIND}) {
        unshift @argv, split(' ', $ENV{INVERTING_PROXY_VALGRIND}),
                       "--log-file=$self->{rig}{reports}/valgrind.admin.%p";
    }

    return @argv;
}


# Nothing of whoever runs the tests.

sub env {
    my ($self) = @_;

    my %env = map { $_ => undef }
                  qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY
                     no_proxy NO_PROXY SSL_CERT_FILE SSL_CERT_DIR
                     XDG_CONFIG_HOME);

    my $reports = $self->{rig}{reports};
    my $common = 'print_stacktrace=1:exitcode=99';

    return { %env, HOME => $self->{home},
             INVERTING_PROXY_SERVER => $self->{server},
             ASAN_OPTIONS => "log_path=$reports/asan.admin:detect_leaks=1:"
                             . $common,
             UBSAN_OPTIONS => "log_path=$reports/ubsan.admin:$common",
             %{$self->{env} || {}} };
}


sub run {
    my ($self, @args) = @_;
    return run_command([ $self->argv(@args) ], env => $self->env);
}


sub spawn {
    my ($self, $name, @args) = @_;

    return InvertingProxy::Test::Process->spawn(
        name => $name, argv => [ $self->argv(@args) ], env => $self->env,
        out => $self->{out}, err => $self->{out});
}


sub config {
    my ($self, $text, $mode) = @_;

    spew($self->{file}, $text);
    chmod(defined $mode ? $mode : 0600, $self->{file});

    return;
}


1;
