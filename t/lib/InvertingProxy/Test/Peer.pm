package InvertingProxy::Test::Peer;

# An agent of the poll protocol, done by hand, one call at a time.
#
#   my $p = InvertingProxy::Test::Peer->new(port => $port, backend => 'id');
#       options: base ('/agent/' by default), headers => [ 'Authorization: …' ],
#       tls => 1, timeout, and whatever Client takes
#
#   my $m = $p->pending;            one poll; $m->{ids} if it was a list
#   my $c = $p->poll;               sends it; $p->poll_end($c) reads the answer
#   my $id = $p->take($seconds);    polls until there is an ID (others wait their
#                                   turn in $p->{ids})
#   my $f = $p->fetch($id);         the answer: {status}, {user}, {start_time},
#                                   {id}, and {request}, a whole Message
#   my $f = $p->fetch($id, stream => 1);
#                                   {request} is its head only; $f->{inner} is a
#                                   Stream that reads its body
#   my $w = $p->post($id);          opens a POST; $w->{response} of it at the end
#       $w->write($bytes)           as one chunk of the POST, $w->raw($bytes) as is
#       $w->finish                  its last chunk, and the answer (a Message)
#       $w->answer                  the answer, without ending the POST
#       $w->close  $w->reset  $w->wait_end
#   my $m = $p->respond($id, $bytes)    a whole POST
#   my $id = $p->serve($bytes)      take, fetch, respond: one request
#
# HTTP/1.1 bytes of a response: $p->response(200, [ 'X: y' ], $body).

use strict;
use warnings;

use Carp qw(croak);
use JSON::PP ();

use InvertingProxy::Test::Client;
use InvertingProxy::Test::Stream;
use InvertingProxy::Test::Util qw(now slow);


sub new {
    my ($class, %opt) = @_;
    return bless { base => '/agent/', ids => [], %opt }, $class;
}


sub _client {
    my ($self, %opt) = @_;

    return InvertingProxy::Test::Client->new(
        map({ $_ => $self->{$_} } grep { defined $self->{$_} }
            qw(host port unix tls timeout)), %opt);
}


sub _headers {
    my ($self, $id, @more) = @_;

    my @headers = @{$self->{headers} || []};

    push @headers, "X-Inverting-Proxy-Backend-ID: $self->{backend}"
        if defined $self->{backend};
    push @headers, "X-Inverting-Proxy-Request-ID: $id" if defined $id;

    return [ @headers, @more ];
}


sub poll {
    my ($self) = @_;

    my $client = $self->_client(timeout => $self->{poll_timeout} || 45);
    $client->request('GET', "$self->{base}pending",
                     headers => $self->_headers(undef));

    return $client;
}


sub poll_end {
    my ($self, $client) = @_;

    my $m = $client->response or croak 'the poll was closed without an answer';

    if ($m->{status} == 200) {
        my $list = $m->{body} eq '' ? [] : JSON::PP->new->utf8->allow_nonref
                                                   ->decode($m->{body});
        $m->{ids} = $list || [];
    }

    $client->close;

    return $m;
}


sub pending {
    my ($self) = @_;
    return $self->poll_end($self->poll);
}


sub take {
    my ($self, $timeout) = @_;

    my $end = now() + ($timeout || 10) * slow();

    while (!@{$self->{ids}}) {
        croak 'no request to take' if now() > $end;

        my $m = $self->pending;
        croak "the poll was answered $m->{start}" if $m->{status} != 200;
        push @{$self->{ids}}, @{$m->{ids}};
    }

    return shift @{$self->{ids}};
}


sub fetch {
    my ($self, $id, %opt) = @_;

    my $client = $self->_client;

    $client->request('GET', "$self->{base}request",
                     headers => $self->_headers($id));

    my $m = $client->response(head_only => 1)
        or croak 'the fetch was closed without an answer';

    $m->{user} = $m->header('X-Inverting-Proxy-User-ID');
    $m->{start_time} = $m->header('X-Inverting-Proxy-Request-Start-Time');
    $m->{id} = $m->header('X-Inverting-Proxy-Request-ID');
    $m->{client} = $client;

    if ($m->{status} != 200) {
        $client->read_body($m, request_method => 'GET');
        return $m;
    }

    $client->body_start($m, request_method => 'GET');
    my $inner = InvertingProxy::Test::Stream->new(
        source => sub { return $client->body_piece });

    $m->{inner} = $inner;
    $m->{request} = $inner->read_head or croak 'there is no request in it';

    if ($opt{stream}) {
        $inner->body_start($m->{request}, %opt);
        return $m;
    }

    $inner->read_body($m->{request}, %opt);
    $m->{rest} = $inner->read_some;
    $client->close;

    return $m;
}


sub post {
    my ($self, $id, %opt) = @_;

    my $client = $self->_client;

    $client->request('POST', "$self->{base}response", chunked => 1,
                     headers => $self->_headers($id, 'Content-Type: text/plain',
                                                @{$opt{headers} || []}));

    return bless { client => $client }, 'InvertingProxy::Test::Peer::Post';
}


sub respond {
    my ($self, $id, $bytes) = @_;

    my $post = $self->post($id);
    $post->write($bytes);

    return $post->finish;
}


sub serve {
    my ($self, $bytes, %opt) = @_;

    my $id = $self->take($opt{timeout});
    my $request = $self->fetch($id)->{request};

    $bytes = $bytes->($request) if ref $bytes;
    $self->respond($id, $bytes);

    return $id;
}


# As existing agents send it: chunked.

sub response {
    my ($self, $status, $headers, $body) = @_;

    return join("\r\n", "HTTP/1.1 $status Whatever", @{$headers || []},
                'Transfer-Encoding: chunked') . "\r\n\r\n"
           . (length $body ? sprintf("%x\r\n%s\r\n", length $body, $body) : '')
           . "0\r\n\r\n";
}


package InvertingProxy::Test::Peer::Post;

sub client { return $_[0]{client} }
sub write { my ($self, $bytes) = @_; return $self->{client}->chunk($bytes) }
sub raw { my ($self, $bytes) = @_; return $self->{client}->write($bytes) }
sub close { return $_[0]{client}->close }
sub reset { return $_[0]{client}->reset }
sub wait_end { my ($self, $s) = @_; return $self->{client}->wait_end($s) }


sub answer {
    my ($self) = @_;
    return $self->{response} = $self->{client}->response;
}


sub finish {
    my ($self) = @_;

    $self->{client}->last_chunk;
    return $self->answer;
}


1;
