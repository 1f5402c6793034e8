package InvertingProxy::Test::Backend;

# A backend made of Perl code: one process that accepts, one more for each
# connection.  Whatever a server can do wrong, a callback can.
#
#   my $b = InvertingProxy::Test::Backend->new(dir => $dir, name => 'backend-1',
#               code => sub { my ($c, $req) = @_; ...; return 1 });
#
# The callback gets a connection (a Stream) and the head of a request (a
# Message) whose body it may read; it returns true to keep the connection.
# With raw => 1 it is called once for each connection, with that alone.
# Other options: port, unix => 1 (a socket in the folder), tls => [crt, key],
# alpn => [ 'h2' ], backlog, rcvbuf, start => 0.
#
#   $c->respond(200, [ 'Content-Type: text/plain' ], $body, %opt)
#       Content-Length of its own, unless chunked => 1, or length => $n for a
#       generator; reason => 'text'; head => 1 (says how long, sends nothing)
#   $c->note('text')     a line that the test sees
#   $c->{number}         connections are counted from 1
#
#   $b->port  $b->address (host:port, or unix:/path)  $b->url
#   $b->notes  $b->wait_note(qr/.../, $seconds)  $b->clear_notes
#   $b->stop  $b->start  (same port)  $b->process

use strict;
use warnings;

use Carp qw(croak);
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Socket qw(SOL_SOCKET SO_RCVBUF IPPROTO_TCP TCP_NODELAY);

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(free_port waitfor slurp spew append_line);


sub new {
    my ($class, %opt) = @_;

    my $self = bless { backlog => 511, %opt }, $class;

    if ($opt{unix}) {
        $self->{path} = "$self->{dir}/$self->{name}.sock";
    } else {
        $self->{port} ||= free_port();
    }

    $self->{notes} = "$self->{dir}/$self->{name}.notes";
    $self->{log} = "$self->{dir}/$self->{name}.log";

    $self->start if !defined $opt{start} || $opt{start};

    return $self;
}


sub port { return $_[0]{port} }
sub process { return $_[0]{process} }


sub address {
    my ($self) = @_;
    return $self->{path} ? "unix:$self->{path}" : "127.0.0.1:$self->{port}";
}


sub url {
    my ($self) = @_;
    return ($self->{tls} ? 'https' : 'http') . '://' . $self->address;
}


sub start {
    my ($self) = @_;

    my $listen;

    # Made here, not in the child: it can be connected to when this returns.
    if ($self->{path}) {
        unlink($self->{path});
        $listen = IO::Socket::UNIX->new(Local => $self->{path},
                                        Listen => $self->{backlog});
    } else {
        $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                        LocalPort => $self->{port},
                                        Proto => 'tcp', ReuseAddr => 1,
                                        Listen => $self->{backlog});
    }

    croak "$self->{name}: cannot listen: $!" if !$listen;

    setsockopt($listen, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf})
        if $self->{rcvbuf};

    $self->{process} = InvertingProxy::Test::Process->fork_code(
        name => $self->{name}, err => $self->{log},
        code => sub { $self->_accept_loop($listen) });

    close($listen);

    return;
}


# Connections go with it: they are in its process group.

sub stop {
    my ($self) = @_;

    my $process = delete $self->{process} or return;

    $process->signal_group('KILL');
    return $process->finish;
}


sub _accept_loop {
    my ($self, $listen) = @_;

    $0 = "test $self->{name}";
    $SIG{CHLD} = sub { while (waitpid(-1, WNOHANG) > 0) { } };

    my $number = 0;

    while (1) {
        my $sock = $listen->accept;

        if (!$sock) {
            next if $!{EINTR} || $!{ECONNABORTED};
            die "accept: $!\n";
        }

        $number++;

        my $pid = fork();
        die "fork: $!\n" unless defined $pid;

        if ($pid == 0) {
            close($listen);
            $SIG{CHLD} = 'DEFAULT';
            eval { $self->_serve($sock, $number); 1 } or do {
                append_line($self->{notes}, "error: $@");
                syswrite(STDERR, "connection $number: $@");
            };
            POSIX::_exit(0);
        }

        close($sock);
    }
}


sub _serve {
    my ($self, $sock, $number) = @_;

    if ($self->{tls}) {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($sock, SSL_server => 1,
                                   SSL_cert_file => $self->{tls}[0],
                                   SSL_key_file => $self->{tls}[1],
                                   SSL_alpn_protocols => $self->{alpn})
            or die "TLS: " . IO::Socket::SSL::errstr() . "\n";
    }

    if (!$self->{path}) {
        setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1);
    }

    my $c = InvertingProxy::Test::Backend::Connection->new(
        fh => $sock, number => $number, notes => $self->{notes},
        timeout => $self->{timeout} || 60);

    if ($self->{raw}) {
        $self->{code}->($c);
        return;
    }

    while (defined(my $req = $c->read_head)) {
        $self->{code}->($c, $req) or last;

        # What the callback left of the body is not the next request.
        if (!$c->{body} || $c->{body}{message} != $req) {
            $c->body_start($req);
        }

        while (defined($c->body_piece)) { }
        last if $req->{cut};
    }

    $c->close;

    return;
}


sub notes {
    my ($self) = @_;
    return map { s/\\n/\n/gr } split(/\n/, slurp($self->{notes}));
}


sub wait_note {
    my ($self, $regex, $timeout) = @_;

    my $found;
    waitfor(sub { ($found) = grep { $_ =~ $regex } $self->notes; $found },
            $timeout);

    return $found;
}


sub clear_notes {
    my ($self) = @_;
    spew($self->{notes}, '');
    return;
}


package InvertingProxy::Test::Backend::Connection;

use parent -norequire, 'InvertingProxy::Test::Stream';

use InvertingProxy::Test::Stream;
use InvertingProxy::Test::Util ();


my %reason = (200 => 'OK', 201 => 'Created', 204 => 'No Content',
              206 => 'Partial Content', 301 => 'Moved Permanently',
              302 => 'Found', 304 => 'Not Modified', 400 => 'Bad Request',
              401 => 'Unauthorized', 403 => 'Forbidden', 404 => 'Not Found',
              405 => 'Method Not Allowed', 500 => 'Internal Server Error',
              502 => 'Bad Gateway', 503 => 'Service Unavailable');


sub note {
    my ($self, $text) = @_;

    InvertingProxy::Test::Util::append_line($self->{notes}, $text);
    return 1;
}


sub head {
    my ($self, $status, $headers, %opt) = @_;

    my $reason = $opt{reason};
    $reason = $reason{$status} || 'Whatever' if !defined $reason;

    return $self->write(join("\r\n", "HTTP/1.1 $status $reason",
                             @{$headers || []}) . "\r\n\r\n"
                        . (defined $opt{with} ? $opt{with} : ''));
}


sub respond {
    my ($self, $status, $headers, $body, %opt) = @_;

    my @headers = @{$headers || []};

    if ($opt{chunked}) {
        push @headers, 'Transfer-Encoding: chunked';
    } elsif (defined $opt{length}) {
        push @headers, "Content-Length: $opt{length}";
    } elsif (defined $body && !ref $body) {
        push @headers, 'Content-Length: ' . length $body;
    }

    # So that nobody can die between the two.
    return $self->head($status, \@headers, with => $body)
        if $opt{at_once} && !$opt{head};

    $self->head($status, \@headers, %opt) or return 0;

    if (!$opt{head} && defined $body) {
        $self->send_body($body, %opt) or return 0;
    }

    return 1;
}


1;
