package InvertingProxy::Test::PtthAgent;

# An agent of PTTH, written from the text of the protocol: it dials, asks for
# the upgrade, and is the HTTP server of the connection from the 101 on.
#
#   my $answer = ptth_answer(port => $port, backend => 'id', %opt);
#       the proxy's answer to an upgrade, a Message; nothing after it
#   my $h = ptth_dial(port => $port, backend => 'id', %opt);
#       an Http2 (server), or for alpn => 'http%2F1.1' a connection as that of
#       a Backend; {answer} is the 101.  Croaks with any other answer, and
#       with a proxy that is away.
#
# Options: base ('/agent/'), alpn ('h2'; undef: no such field), headers, tls,
# unix, timeout; for odd requests method, version, upgrade, connection, body
# (undef: no such field); and whatever Http2 takes.
#
# One that serves, in a process of its own, and dials again when it has to:
#
#   my $s = InvertingProxy::Test::PtthAgent->new(dir => $d, name => $n,
#               port => $port, backend => 'id', code => sub { ... }, %opt);
#       code as for a Backend: called with ($x, $x) or ($c, $request)
#       connections => 1     so many at a time
#   $s->kill  $s->stop  $s->process  $s->notes ("up n/m", "down why")

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use POSIX qw(WNOHANG);

use InvertingProxy::Test::Backend;
use InvertingProxy::Test::Client;
use InvertingProxy::Test::Http2;
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(append_line nap slurp waitfor);

our @EXPORT_OK = qw(ptth_answer ptth_dial ptth_ask);


sub _or {
    my ($opt, $name, $default) = @_;
    return exists $opt->{$name} ? $opt->{$name} : $default;
}


# Sends the request; the client that has sent it.

sub ptth_ask {
    my (%opt) = @_;

    my $client = InvertingProxy::Test::Client->new(
        map({ $_ => $opt{$_} } grep { defined $opt{$_} }
            qw(host port unix tls timeout rcvbuf)));

    my %field = (
        Connection => _or(\%opt, 'connection', 'upgrade'),
        Upgrade => _or(\%opt, 'upgrade', 'ptth'),
        ALPN => _or(\%opt, 'alpn', 'h2'),
        'X-Inverting-Proxy-Backend-ID' => $opt{backend},
    );

    $client->request(
        $opt{method} || 'GET', _or(\%opt, 'base', '/agent/') . 'ptth',
        version => $opt{version} || '1.1',
        headers => [ @{$opt{headers} || []},
                     map { "$_: $field{$_}" } grep { defined $field{$_} }
                         sort keys %field ],
        map({ $_ => $opt{$_} } grep { exists $opt{$_} } qw(body chunked)));

    return $client;
}


sub ptth_answer {
    my (%opt) = @_;

    my $client = ptth_ask(%opt);
    my $answer = $client->response(head_only => 1);

    if ($answer && $answer->{status} != 101) {
        $client->read_body($answer, request_method => $opt{method});
    }

    $client->close;

    return $answer;
}


sub ptth_dial {
    my (%opt) = @_;

    my $client = ptth_ask(%opt);
    my $answer = $client->response(head_only => 1)
        or croak 'the upgrade was closed without an answer';

    croak "the upgrade was answered $answer->{start}"
        if $answer->{status} != 101;

    my $c;

    if (lc($answer->header('ALPN') || '') eq 'h2') {
        my %http2 = map { $_ => $opt{$_} } grep { exists $opt{$_} }
                    qw(settings start ack pong grant keep notes);
        $c = InvertingProxy::Test::Http2->new(%http2, stream => $client,
                                              role => 'server');
    } else {
        $c = InvertingProxy::Test::Backend::Connection->new(
            fh => $client->fh, buf => $client->{buf},
            notes => $opt{notes}, timeout => $opt{timeout} || 10);
    }

    $c->{answer} = $answer;

    return $c;
}


sub new {
    my ($class, %opt) = @_;

    my $self = bless { connections => 1, %opt }, $class;

    $self->{notes} = "$self->{dir}/$self->{name}.notes";
    $self->{log} = "$self->{dir}/$self->{name}.log";
    $self->start;

    return $self;
}


sub start {
    my ($self) = @_;

    $self->{process} = InvertingProxy::Test::Process->fork_code(
        name => $self->{name}, err => $self->{log},
        code => sub { $self->_run });

    return;
}


sub process { return $_[0]{process} }


sub kill {
    my ($self) = @_;

    my $process = delete $self->{process} or return;

    $process->signal_group('KILL');
    return $process->finish;
}


sub stop { return $_[0]->kill }


sub notes {
    my ($self) = @_;
    return split(/\n/, slurp($self->{notes}));
}


# A process for each connection, which ends with it: another one dials
# then.  What a GOAWAY leaves to do is done by one more process.

sub _run {
    my ($self) = @_;

    $0 = "test $self->{name}";

    my %live;

    while (1) {
        while ((my $pid = waitpid(-1, WNOHANG)) > 0) {
            delete $live{$pid};
        }

        for (1 .. $self->{connections} - keys(%live)) {
            my $pid = fork();
            die "fork: $!\n" unless defined $pid;

            if ($pid == 0) {
                eval { $self->_connection; 1 } or do {
                    append_line($self->{notes}, "down $@");
                    nap(0.05);
                };
                POSIX::_exit(0);
            }

            $live{$pid} = 1;
        }

        nap(0.01);
    }
}


sub _connection {
    my ($self) = @_;

    my $c = ptth_dial(%$self);
    my $worker = $c->{answer}->header('X-Inverting-Proxy-Worker');

    append_line($self->{notes}, 'up ' . (defined $worker ? $worker : '?'));

    if ($c->isa('InvertingProxy::Test::Http2')) {
        my $code = sub { my ($x) = @_; $self->{code}->($x, $x) };

        if ($c->serve($code, early => 1)) {
            my $pid = fork();
            die "fork: $!\n" unless defined $pid;

            return if $pid;

            $c->serve($code);
        }

        append_line($self->{notes}, 'down ' . ($c->{closed} || 'goaway'));
        return;
    }

    while (defined(my $request = $c->read_head)) {
        $self->{code}->($c, $request) or last;

        if (!$c->{body} || $c->{body}{message} != $request) {
            $c->body_start($request);
        }

        while (defined($c->body_piece)) { }
    }

    append_line($self->{notes}, 'down eof');

    return;
}


1;
