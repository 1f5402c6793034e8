package InvertingProxy::Test::Proxy;

# A proxy of the poll protocol's family, made of Perl: what an agent is tested
# against.  It is a Backend (its notes, port, stop and start are there) whose
# state is files, since each connection has a process of its own.
#
#   my $p = $rig->stand_in(hold => 2);
#       hold: seconds that a poll without work is held (30)
#       tls => [crt, key], port: as for a Backend
#       pending, request, response => sub { my ($c, $req, $proxy) = @_; ... }
#           in place of what it does by itself; such a callback may write
#           anything, and returns true to keep the connection
#   my $id = $p->add("GET / HTTP/1.1\r\n...");     a request for the agent
#   my $m = $p->wait_response($id, $seconds);      a Message; its {outer} is the
#                                                  head of the POST, {text} all
#                                                  bytes of the response
#   $p->url                                        for -proxy
#   notes: "METHOD /path ID" for each call

use strict;
use warnings;

use parent -norequire, 'InvertingProxy::Test::Backend';

use Carp qw(croak);
use POSIX qw(strftime);

use InvertingProxy::Test::Backend;
use InvertingProxy::Test::Message;
use InvertingProxy::Test::Stream;
use InvertingProxy::Test::Util qw(now nap slurp spew waitfor);


sub new {
    my ($class, %opt) = @_;

    my $spool = "$opt{dir}/$opt{name}";
    mkdir($spool) or croak "mkdir \"$spool\": $!";

    my $self;
    my $code = sub { return $self->_call(@_) };

    # Started only when there is a self for the callback.
    $self = $class->SUPER::new(hold => 30, %opt, code => $code,
                               spool => $spool, start => 0);
    $self->{count} = 0;
    $self->start;

    return $self;
}


sub url {
    my ($self) = @_;
    return $self->SUPER::url . '/';
}


sub add {
    my ($self, $bytes) = @_;

    my $id = sprintf('id-%04d', ++$self->{count});

    # Complete when it is seen.
    spew("$self->{spool}/new", $bytes);
    rename("$self->{spool}/new", "$self->{spool}/$id.request");

    return $id;
}


sub wait_response {
    my ($self, $id, $timeout, %opt) = @_;

    my $file = "$self->{spool}/$id.response";

    waitfor(sub { -e $file }, $timeout) or return undef;

    my $text = slurp($file);
    my $read = 0;
    my $inner = InvertingProxy::Test::Stream->new(
        source => sub { return $read++ ? undef : $text });

    my $message = $inner->read_head or croak 'there is no response in it';
    $inner->read_body($message, %opt);
    $message->{text} = $text;
    $message->{outer} =
        InvertingProxy::Test::Message->parse(slurp("$self->{spool}/$id.head"));

    return $message;
}


sub _call {
    my ($self, $c, $req) = @_;

    my ($what) = $req->{target} =~ m{/agent/(\w+)$};
    my $id = $req->header('X-Inverting-Proxy-Request-ID');

    $c->note("$req->{method} $req->{target}" . (defined $id ? " $id" : ''));

    return $c->respond(404, [], '') if !defined $what;

    if ($self->{$what}) {
        return $self->{$what}->($c, $req, $self);
    }

    return $what eq 'pending' ? $self->pending_default($c)
         : $what eq 'request' ? $self->request_default($c, $id)
         : $what eq 'response' ? $self->response_default($c, $req, $id)
         : $c->respond(404, [], '');
}


# Each ID once: who makes the folder has it.

sub pending_default {
    my ($self, $c) = @_;

    my $end = now() + $self->{hold};
    my @ids;

    while (1) {
        for my $file (sort glob("$self->{spool}/*.request")) {
            my ($id) = $file =~ m{([^/]+)\.request$};
            push @ids, $id if mkdir("$self->{spool}/$id.taken");
        }

        last if @ids || now() > $end || $c->wait_end(0.02);
    }

    return $c->respond(200, [ 'Content-Type: application/json' ],
                       '[' . join(',', map { "\"$_\"" } @ids) . ']');
}


sub request_default {
    my ($self, $c, $id) = @_;

    my $file = "$self->{spool}/" . (defined $id ? $id : '') . '.request';

    return $c->respond(404, [], '') if !-e $file;

    return $c->respond(200, [
        "X-Inverting-Proxy-Request-ID: $id",
        'X-Inverting-Proxy-User-ID: someone@example.com',
        'X-Inverting-Proxy-Request-Start-Time: '
        . strftime('%Y-%m-%dT%H:%M:%S.000000001Z', gmtime),
    ], slurp($file));
}


sub response_default {
    my ($self, $c, $req, $id) = @_;

    my $text = '';
    $c->read_body($req, sink => sub { $text .= $_[0] });

    if ($req->{cut}) {
        $c->note("cut $id $req->{cut}");
        return 0;
    }

    spew("$self->{spool}/$id.head", $req->{raw});
    spew("$self->{spool}/$id.new", $text);
    rename("$self->{spool}/$id.new", "$self->{spool}/$id.response");

    return $c->respond(200, [], '');
}


1;
