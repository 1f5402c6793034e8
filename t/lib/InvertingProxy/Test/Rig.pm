package InvertingProxy::Test::Rig;

# Everything that one test, the demonstration or the benchmark has running: a
# temporary folder, nginx, agents, backends.  It knows nothing of Test::More.
#
#   my $rig = InvertingProxy::Test::Rig->new;
#   my $n = $rig->nginx(http => ...);           see Nginx.pm
#   my $b = $rig->backend(sub { ... }, %opt);   see Backend.pm
#   my $a = $rig->agent(backend => 'id', host => $b->address);
#                                               see Agent.pm; wait => 0 does not
#                                               wait until the proxy knows it
#   my $p = $rig->peer(backend => 'id');        see Peer.pm
#   $rig->visit($p)                             a poll of it that ends at once
#   my $p = $rig->stand_in(%opt);               a proxy in Perl, see Proxy.pm
#   my $h = $rig->ptth(backend => 'id');        an agent of PTTH, by hand, see
#                                               PtthAgent.pm; wait => 0 as above
#   my $m = $rig->ptth_answer(backend => 'id'); only the answer to an upgrade
#   my $s = $rig->ptth_server(backend => 'id', code => sub { ... });
#                                               one that serves by itself
#   my $p = $rig->ptth_proxy;                   see PtthProxy.pm
#   my $c = $rig->client;                       see Client.pm
#   my $c = $rig->client_at($pid, %opt);        one of this worker, which says
#                                               so: location = /pid
#   my $l = $rig->load(code => sub { ... });    see Load.pm
#   my $m = $rig->get('/path', %opt);           one request on its own connection
#   my $s = $rig->status;                       see Status.pm
#   $rig->wait_status(sub { $_[0]->waiting('id') == 1 }, $seconds)
#   $rig->wait_idle($seconds)
#   $rig->transport, over_ptth, spelled($name)  how agents take requests
#   $rig->stop                                  returns what went wrong
#   $rig->problems                              what the logs and reports say
#
# The first nginx is the one that the others talk to by themselves.
# Environment: INVERTING_PROXY_BUILD (where module and agent are), _SLOW,
# _PRELOAD, _VALGRIND, _TRANSPORT, _LOG=debug, _KEEP=1 (leave the folder).

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Temp ();

use InvertingProxy::Test::Agent;
use InvertingProxy::Test::Backend;
use InvertingProxy::Test::Client;
use InvertingProxy::Test::Load;
use InvertingProxy::Test::Nginx;
use InvertingProxy::Test::Peer;
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Proxy;
use InvertingProxy::Test::PtthAgent;
use InvertingProxy::Test::PtthProxy;
use InvertingProxy::Test::Status;
use InvertingProxy::Test::Util qw(waitfor slurp tail);


sub new {
    my ($class, %opt) = @_;

    my $self = bless { nginx => [], agents => [], backends => [], owner => $$,
                       %opt }, $class;

    $ENV{INVERTING_PROXY_BUILD} =
        abs_path($ENV{INVERTING_PROXY_BUILD} || 'build')
        or croak 'there is no build folder: run "make"';

    $self->{dir} = File::Temp::tempdir('inverting-proxy-XXXXXXXX', TMPDIR => 1);
    $self->{keep} = $ENV{INVERTING_PROXY_KEEP};

    # In any case now, when there is nothing yet that the guardian could inherit
    # and hold open.
    InvertingProxy::Test::Process::guard($self->{keep} ? 'hello'
                                                       : "dir $self->{dir}");

    # Workers that have given up root write their reports here, too.
    $self->{reports} = "$self->{dir}/reports";
    mkdir($self->{reports});
    chmod(01777, $self->{reports});

    return $self;
}


sub dir { return $_[0]{dir} }


sub _name {
    my ($self, $kind) = @_;
    return $kind . '-' . ++$self->{count}{$kind};
}


sub nginx {
    my ($self, %opt) = @_;

    return $self->{nginx}[0] if !%opt;

    # On the list before it starts: its log is looked at even if it does not.
    my $nginx = InvertingProxy::Test::Nginx->new(
        dir => $self->{dir}, reports => $self->{reports},
        name => $self->_name('nginx'), %opt, start => 0);

    push @{$self->{nginx}}, $nginx;
    $nginx->start if !defined $opt{start} || $opt{start};

    return $nginx;
}


sub backend {
    my ($self, $code, %opt) = @_;

    my $backend = InvertingProxy::Test::Backend->new(
        dir => $self->{dir}, name => $self->_name('backend'), code => $code,
        %opt);

    push @{$self->{backends}}, $backend;

    return $backend;
}


sub stand_in {
    my ($self, %opt) = @_;

    my $proxy = InvertingProxy::Test::Proxy->new(
        dir => $self->{dir}, name => $self->_name('proxy'), %opt);

    push @{$self->{backends}}, $proxy;

    return $proxy;
}


# How agents take requests, unless a test says otherwise.

sub transport { return $ENV{INVERTING_PROXY_TRANSPORT} || 'poll' }
sub over_ptth { return $_[0]->transport eq 'ptth' }


# The name of a field that an agent has passed on: HTTP/2 knows no upper case.

sub spelled {
    my ($self, $name) = @_;
    return $self->over_ptth ? lc $name : $name;
}


sub agent {
    my ($self, %opt) = @_;

    my $wait = defined $opt{wait} ? delete $opt{wait} : 1;

    $opt{transport} ||= $self->transport;

    if (!exists $opt{proxy}) {
        $opt{proxy} = 'http://127.0.0.1:' . $self->nginx->port . '/';
    }

    my $before = $wait && defined $opt{backend} && $self->{nginx}[0]
                 && $self->_api ? $self->status->agents($opt{backend}) : undef;

    my $agent = InvertingProxy::Test::Agent->new(
        dir => $self->{dir}, reports => $self->{reports},
        name => $self->_name('agent'), %opt);

    push @{$self->{agents}}, $agent;

    if (defined $before) {

        # Over PTTH others may have more connections for a moment.
        my $up = sub {
            my $agents = $self->status->agents($opt{backend});
            return $opt{transport} eq 'poll' ? $agents > $before
                   : $agents && $agent->log =~ /connected to proxy/;
        };

        # Not asked again: it may be busy by then.
        my $is_up;
        waitfor(sub { ($is_up = $up->()) || !$agent->running }, 15);

        if (!$is_up) {
            croak "$agent->{name} does not come up:\n", tail($agent->{log}, 20);
        }
    }

    return $agent;
}


sub peer {
    my ($self, %opt) = @_;

    return InvertingProxy::Test::Peer->new(
        ($opt{port} || $opt{unix} ? () : (port => $self->nginx->port)), %opt);
}


sub _ptth {
    my ($self, %opt) = @_;
    return ($opt{port} || $opt{unix} ? () : (port => $self->nginx->port),
            dir => $self->{dir}, notes => "$self->{dir}/ptth.notes", %opt);
}


sub ptth {
    my ($self, %opt) = @_;

    my $wait = defined $opt{wait} ? delete $opt{wait} : 1;
    my $id = $wait && $self->{nginx}[0] && $self->_api ? $opt{backend} : undef;
    my $before = defined $id ? $self->status->agents($id) : 0;

    my $h = InvertingProxy::Test::PtthAgent::ptth_dial($self->_ptth(%opt));

    if (defined $id) {
        # One that was closed just before may have been counted, and go now.
        $self->wait_status(sub { $_[0]->agents($id) > $before }, 2)
            or $self->wait_status(sub { $_[0]->agents($id) > 0 })
            or croak "the connection does not count as an agent of \"$id\"";

        # An acknowledgement that comes after nginx has closed resets the
        # connection.
        $h->wait(sub { $h->{seen}{SETTINGS} })
            if $h->isa('InvertingProxy::Test::Http2');
    }

    return $h;
}


sub ptth_answer {
    my ($self, %opt) = @_;
    return InvertingProxy::Test::PtthAgent::ptth_answer($self->_ptth(%opt));
}


sub ptth_server {
    my ($self, %opt) = @_;

    my $wait = defined $opt{wait} ? delete $opt{wait} : 1;

    my $server = InvertingProxy::Test::PtthAgent->new(
        $self->_ptth(%opt), name => $self->_name('ptth'));

    push @{$self->{backends}}, $server;

    if ($wait) {
        waitfor(sub { grep { /^up/ } $server->notes })
            or croak "$server->{name} does not come up:\n",
                     join("\n", $server->notes);
    }

    return $server;
}


sub ptth_proxy {
    my ($self, %opt) = @_;

    my $proxy = InvertingProxy::Test::PtthProxy->new(%opt);
    push @{$self->{ptth_proxies}}, $proxy;

    return $proxy;
}


# An agent that has been there, and is gone.

sub visit {
    my ($self, $peer) = @_;

    my $poll = $peer->poll;
    $self->wait_status(sub { $_[0]->agents($peer->{backend}) > 0 });
    $poll->close;

    return;
}


sub client {
    my ($self, %opt) = @_;

    return InvertingProxy::Test::Client->new(
        ($opt{port} || $opt{unix} ? () : (port => $self->nginx->port)), %opt);
}


sub client_at {
    my ($self, $pid, %opt) = @_;

    for (1 .. 200) {
        my $client = $self->client(%opt);
        return $client if $client->get('/pid')->{body} == $pid;
        $client->close;
    }

    croak "no connection to worker $pid";
}


sub load {
    my ($self, %opt) = @_;

    my $load = InvertingProxy::Test::Load->new(
        dir => $self->{dir}, name => $self->_name('load'), %opt);

    push @{$self->{loads}}, $load;

    return $load;
}


sub get {
    my ($self, $target, %opt) = @_;

    my %connection = map { $_ => delete $opt{$_} } grep { exists $opt{$_} }
                     qw(host port unix tls timeout rcvbuf);
    my $client = $self->client(%connection);

    $opt{headers} = [ @{$opt{headers} || []}, 'Connection: close' ];
    my $message = $client->get($target, %opt);
    $client->close;

    return $message;
}


sub _api {
    my ($self, $nginx) = @_;

    $nginx ||= $self->nginx;

    return $nginx && $nginx->{module} ? $nginx->{api} : undef;
}


sub status {
    my ($self, $nginx) = @_;

    $nginx ||= $self->nginx;

    return InvertingProxy::Test::Status->fetch(
        port => $nginx->{api_port} || $nginx->port, api => $nginx->{api},
        headers => $nginx->{api_headers});
}


sub wait_status {
    my ($self, $code, $timeout) = @_;
    return waitfor(sub { $code->($self->status) }, $timeout);
}


sub wait_idle {
    my ($self, $timeout, $nginx) = @_;
    return waitfor(sub { $self->status($nginx)->idle }, $timeout);
}


# Stops everything, in the order in which nobody misses anybody.

sub stop {
    my ($self) = @_;

    my @wrong;

    push @wrong, $_->stop for @{$self->{agents}};
    push @wrong, $_->stop for grep { $_->{process} } @{$self->{nginx}};
    $_->stop for @{$self->{backends}};

    return @wrong;
}


# Gone, whatever it takes, and no questions asked.

sub destroy {
    my ($self) = @_;

    return if $self->{owner} != $$ || $self->{destroyed}++;

    for my $thing (@{$self->{agents}}, @{$self->{nginx}}, @{$self->{backends}})
    {
        my $process = $thing->process or next;
        $process->signal_group('KILL');
        $process->finish;
    }

    for my $process (map { @{$_->{processes}} } @{$self->{loads}}) {
        $process->signal_group('KILL');
        $process->finish;
    }

    if (!$self->{keep}) {
        system('rm', '-rf', '--', $self->{dir});
    }

    return;
}


sub problems {
    my ($self) = @_;

    return ((map { $_->problems } @{$self->{nginx}}), $self->reports);
}


# What sanitizers and valgrind have written; valgrind writes a file in any case.

sub reports {
    my ($self) = @_;

    my @found;

    for my $file (sort glob("$self->{reports}/*")) {
        my $text = slurp($file);
        next if $text eq '';

        if ($file =~ m{/valgrind\.}) {
            # Of an agent that was killed there is no summary, but what was
            # found until then.
            next if $text !~ /ERROR\ SUMMARY:\ [1-9]
                              |Invalid\ (?:read|write|free)
                              |Use\ of\ uninitialised | depends\ on\ uninit
                              |points\ to\ (?:uninit|unaddr)
                              |(?:definitely|indirectly)\ lost:\ [1-9]
                              |Source\ and\ destination\ overlap/x;
        }

        $file =~ s{.*/}{};
        push @found, "$file:\n$text";
    }

    return @found;
}


# For whoever has to find out why: the ends of all logs.

sub tails {
    my ($self, $lines) = @_;

    my $text = '';

    for my $file (map({ $_->{error_log}, $_->{stderr} } @{$self->{nginx}}),
                  map({ $_->{log} } @{$self->{agents}}, @{$self->{backends}}))
    {
        my $tail = tail($file, $lines || 30);
        next if $tail eq '';

        (my $name = $file) =~ s{^\Q$self->{dir}\E/}{};
        $text .= "---- the end of $name\n$tail";
    }

    return $text;
}


sub DESTROY {
    my ($self) = @_;
    local ($@, $?);
    $self->destroy;
}


1;
