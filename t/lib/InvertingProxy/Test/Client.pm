package InvertingProxy::Test::Client;

# A client of HTTP/1.1 (a Stream) that sends what it is told to.
#
#   my $c = InvertingProxy::Test::Client->new(port => $port);
#           options: host, unix, tls => 1 (IO::Socket::SSL; or a hash of its
#           options: a certificate, a name), timeout, rcvbuf
#   $c->request('POST', '/x', headers => [ 'X: y' ], body => $bytes_or_generator,
#               length => $n, chunked => 1, trailers => [...], version => '1.0')
#   my $m = $c->response(%opt);      options as for Stream's bodies
#   my $m = $c->get('/x', %opt);     request and response, keepalive
#   $c->write("GET / HTTP/1.1\r\n")  or anything else of a Stream
#
# "Host" is sent unless it is among the headers.  A generator without a length
# is sent chunked.  Only the head is sent with body => undef and length or
# chunked given: the test writes the body as it likes.

use strict;
use warnings;

use parent -norequire, 'InvertingProxy::Test::Stream';

use Carp qw(croak);
use Errno;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_RCVBUF IPPROTO_TCP TCP_NODELAY
              pack_sockaddr_in inet_aton);

use InvertingProxy::Test::Stream;
use InvertingProxy::Test::Util qw(now);


sub new {
    my ($class, %opt) = @_;

    my $sock;

    if ($opt{unix}) {
        $sock = IO::Socket::UNIX->new(Peer => $opt{unix})
            or croak "cannot connect to \"$opt{unix}\": $!";

    } else {
        my $host = $opt{host} || '127.0.0.1';

        # The buffer has to be small before the connection is made: the window
        # that is offered then is never taken back.
        $sock = IO::Socket::INET->new(Proto => 'tcp') or croak "socket: $!";
        setsockopt($sock, SOL_SOCKET, SO_RCVBUF, $opt{rcvbuf}) if $opt{rcvbuf};
        # A signal does not end it: asked once more, it waits on.
        my $address = pack_sockaddr_in($opt{port}, inet_aton($host));
        my $done;

        do {
            $done = connect($sock, $address);
        } while (!$done && $!{EINTR});

        $done or croak "cannot connect to $host:$opt{port}: $!";
        setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1);
    }

    if ($opt{tls}) {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($sock, SSL_verify_mode => 0,
                                   SSL_hostname => 'localhost',
                                   ref $opt{tls} ? %{$opt{tls}} : ())
            or croak "TLS: " . IO::Socket::SSL::errstr();
    }

    my $self = $class->SUPER::new(fh => $sock,
                                  timeout => $opt{timeout} || 10);
    $self->{authority} = $opt{authority} || 'localhost';

    return $self;
}


sub request {
    my ($self, $method, $target, %opt) = @_;

    my @headers = @{$opt{headers} || []};
    my $body = $opt{body};
    my $chunked = $opt{chunked};
    my $length = $opt{length};

    if (!grep { /^Host:/i } @headers) {
        unshift @headers, "Host: $self->{authority}";
    }

    if (defined $body && !ref $body && !$chunked && !defined $length) {
        $length = length $body;
    }

    $chunked = 1 if ref $body && !defined $length;

    push @headers, "Content-Length: $length" if defined $length;
    push @headers, 'Transfer-Encoding: chunked' if $chunked;

    $self->{method} = $method;
    $self->{t0} = now();

    my $head = join("\r\n", "$method $target HTTP/" . ($opt{version} || '1.1'),
                    @headers) . "\r\n\r\n";

    # Head and a small body in one packet, as other clients do.
    if (defined $body && !ref $body && !$chunked) {
        return $self->write($head . $body);
    }

    $self->write($head) or return 0;

    return 1 if !defined $body;
    return $self->send_body($body, chunked => $chunked, pause => $opt{pause},
                            trailers => $opt{trailers});
}


# Interim responses are remembered and skipped; 101 is final.

sub response {
    my ($self, %opt) = @_;

    my @interim;

    while (1) {
        my $message = $self->read_head or return undef;

        if ($message->{status} && $message->{status} =~ /^1/
            && $message->{status} != 101)
        {
            push @interim, $message->{status};
            next;
        }

        $message->{interim} = \@interim;

        return $message if $opt{head_only};
        return $self->read_body($message,
                                request_method => $self->{method}, %opt);
    }
}


sub get {
    my ($self, $target, %opt) = @_;

    $self->request($opt{method} || 'GET', $target, %opt) or return undef;
    return $self->response(%opt);
}


1;
