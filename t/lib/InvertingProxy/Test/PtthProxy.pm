package InvertingProxy::Test::PtthProxy;

# A proxy of PTTH, written from the text of the protocol, in the test's own
# process: it listens, takes the calls of an agent by hand, and is the HTTP
# client of a connection from the 101 on.
#
#   my $p = InvertingProxy::Test::PtthProxy->new(tls => [ crt, key ]);
#       options: tls, port, rcvbuf
#   $p->url                          for -proxy;  $p->port
#   my $c = $p->call(qr{ptth$}, $seconds)
#       the next call whose path matches: a connection as that of a Backend,
#       whose {request} is a Message; undef: none in time.  Others are kept,
#       unanswered: $p->call finds them later.
#   my $h = $p->upgrade($c, %opt)    answers 101, and is an Http2 (client), or
#       for alpn => 'http%2F1.1' a Client; worker => '0/1', headers => [], and
#       whatever Http2 takes
#   my $h = $p->dialled(%opt)        both: the next connection of the agent
#   $c->respond(404, [ ... ], 'text')  $c->close   anything else instead
#   $p->keep($c)                     its next call is looked for, too
#   $p->stop  $p->start              nobody listens in between
#
# The fields that an upgrade has to have are not looked at:
# ptth_wrong($request) says what is wrong with them, or undef.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use IO::Select;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_RCVBUF IPPROTO_TCP TCP_NODELAY);

use InvertingProxy::Test::Backend;
use InvertingProxy::Test::Client;
use InvertingProxy::Test::Http2;
use InvertingProxy::Test::Util qw(free_port now slow);

our @EXPORT_OK = qw(ptth_wrong);


sub new {
    my ($class, %opt) = @_;

    my $self = bless { %opt, calls => [], idle => [] }, $class;

    $self->{port} ||= free_port();
    $self->start;

    return $self;
}


sub port { return $_[0]{port} }


sub url {
    my ($self) = @_;
    return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{port}/";
}


sub start {
    my ($self) = @_;

    $self->{listen} = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Proto => 'tcp',
        ReuseAddr => 1, Listen => 511) or croak "cannot listen: $!";

    setsockopt($self->{listen}, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf})
        if $self->{rcvbuf};

    return;
}


sub stop {
    my ($self) = @_;

    close(delete $self->{listen}) if $self->{listen};
    $_->close for splice(@{$self->{idle}}), splice(@{$self->{calls}});

    return;
}


sub keep {
    my ($self, $c) = @_;
    push @{$self->{idle}}, $c;
    return;
}


sub call {
    my ($self, $regex, $timeout) = @_;

    my $end = now() + ($timeout || 10) * slow();

    while (1) {
        my $calls = $self->{calls};

        for my $i (0 .. $#$calls) {
            if ($calls->[$i]{request}{target} =~ $regex) {
                return splice(@$calls, $i, 1);
            }
        }

        my $left = $end - now();
        return undef if $left <= 0;

        $self->_collect($left);
    }
}


sub _collect {
    my ($self, $left) = @_;

    my $select = IO::Select->new(grep { defined } $self->{listen},
                                 map { $_->fh } @{$self->{idle}});

    for my $fh ($select->can_read($left)) {
        if ($self->{listen} && $fh == $self->{listen}) {
            my $c = $self->_accept or next;
            $self->_read_call($c);
            next;
        }

        my ($c) = grep { $_->fh == $fh } @{$self->{idle}};
        @{$self->{idle}} = grep { $_ != $c } @{$self->{idle}};
        $self->_read_call($c);
    }

    return;
}


sub _accept {
    my ($self) = @_;

    my $sock = $self->{listen}->accept or return undef;

    if ($self->{tls}) {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($sock, SSL_server => 1,
                                   SSL_cert_file => $self->{tls}[0],
                                   SSL_key_file => $self->{tls}[1],
                                   %{$self->{tls_options} || {}})
            or return undef;
    }

    setsockopt($sock, IPPROTO_TCP, TCP_NODELAY, 1);

    return InvertingProxy::Test::Backend::Connection->new(fh => $sock,
                                                          timeout => 10);
}


# A connection that was given up before it said anything is nobody's call.

sub _read_call {
    my ($self, $c) = @_;

    $c->{request} = eval { $c->read_head } or return $c->close;
    push @{$self->{calls}}, $c;

    return;
}


sub upgrade {
    my ($self, $c, %opt) = @_;

    my $alpn = $opt{alpn} || 'h2';
    my $worker = defined $opt{worker} ? $opt{worker} : '0/1';

    $c->head(101, [ 'Connection: upgrade', 'Upgrade: ptth', "ALPN: $alpn",
                    "X-Inverting-Proxy-Worker: $worker",
                    @{$opt{headers} || []} ],
             reason => 'Switching Protocols');

    if ($alpn ne 'h2') {
        # The same socket, read as a client.
        return bless { %$c, authority => 'localhost' },
                     'InvertingProxy::Test::Client';
    }

    my %http2 = map { $_ => $opt{$_} } grep { exists $opt{$_} }
                qw(settings start ack pong grant keep);
    my $h = InvertingProxy::Test::Http2->new(%http2, stream => $c,
                                             role => 'client');
    $h->{call} = $c->{request};

    return $h;
}


sub dialled {
    my ($self, %opt) = @_;

    my $c = $self->call(qr{/ptth(?:\?|$)}, $opt{timeout})
        or croak 'the agent does not dial';

    return $self->upgrade($c, %opt);
}


sub ptth_wrong {
    my ($request) = @_;

    my %is = map { $_ => $request->header($_) || '' }
                 qw(Connection Upgrade ALPN);

    return "method $request->{method}" if $request->{method} ne 'GET';
    return "version $request->{version}" if $request->{version} ne '1.1';
    return "target $request->{target}" if $request->{target} !~ m{agent/ptth$};
    return "Connection: $is{Connection}"
        if !grep { lc eq 'upgrade' } split(/\s*,\s*/, $is{Connection});
    return "Upgrade: $is{Upgrade}" if $is{Upgrade} ne 'ptth';
    return "ALPN: $is{ALPN}"
        if grep { !/^(?:h2|http%2F1\.1)$/ } split(/\s*,\s*/, $is{ALPN});
    return 'no ALPN' if $is{ALPN} eq '';
    return 'no Host' if !defined $request->header('Host');
    return 'a body' if defined $request->header('Transfer-Encoding')
                       || ($request->header('Content-Length') || 0) > 0;

    return undef;
}


1;
