#!/usr/bin/perl

# gRPC from end to end: a client of HTTP/2, nginx, the agent with -force-http2,
# a server that speaks HTTP/2 from its first byte on.  The outcome is in the
# trailers.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

# A server that answers while it is still being asked, behind an nginx that
# speaks HTTP/2 to the agent.
my $chat = $t->backend(sub {
    my ($c, $req) = @_;
    $c->body_start($req);
    $c->head(200, [ 'Transfer-Encoding: chunked' ]);
    while (defined(my $piece = $c->body_piece)) { $c->chunk("<$piece>") }
    return $c->last_chunk;
});
my ($chat_port) = $chat->address =~ /:(\d+)$/;

my $n = $t->nginx(workers => 2, vars => { CHAT => $chat_port },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main chat end_user=allUsers backend_user=me
                            prefix=/chat;
    inverting_proxy_backend main over end_user=allUsers backend_user=me
                            prefix=/over;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }

    server {
        listen 127.0.0.1:%%PORT_CHAT%% http2;
        location / {
            proxy_pass http://127.0.0.1:%%CHAT%%;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
        }
    }
EOT

sub message { return pack('CN/a*', 0, $_[0]) }

sub serve {
    my ($c) = @_;

    my $h = InvertingProxy::Test::Http2->new(stream => $c, role => 'server',
                                             notes => $c->{notes});
    $h->serve(sub {
        my ($x) = @_;

        if ($x->{target} eq '/svc/Unary') {
            $x->read_body;
            return $x->respond(200, [ 'Content-Type: application/grpc' ],
                               message('got ' . substr($x->{body}, 5)),
                               chunked => 1, trailers => [ 'grpc-status: 0' ]);
        }

        if ($x->{target} eq '/svc/Stream') {
            $x->respond(200, [ 'Content-Type: application/grpc' ],
                        join('', map { message("number $_") } 1 .. 1000),
                        chunked => 1, trailers => [ 'grpc-status: 0',
                                                    'grpc-message: all' ]);
            return;
        }

        # trailers only
        return $x->fields([ [ ':status', 200 ],
                            [ 'content-type', 'application/grpc' ],
                            [ 'grpc-status', 12 ] ], end => 1);
    });
    return 0;
}

my $b = $t->backend(\&serve, raw => 1);

$t->agent(transport => 'auto', backend => 'b', host => $b->address,
          args => [ '-force-http2' ]);

my $c = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');

sub call {
    my ($name, $body) = @_;

    return $c->request('POST', "/svc/$name", body => $body, headers => [
        'Content-Type: application/grpc', 'TE: trailers' ]);
}

for my $i (1 .. 5) {
    my $x = call('Unary', message("hello $i"));
    ok($x->response, 'a call');
    is($x->{status}, 200, 'its status');
    is($x->{body}, message("got hello $i"), 'its message');
    is($x->trailer('grpc-status'), 0, 'its outcome, in the trailers');
}

my @x = map { call('Stream', message('')) } 1 .. 10;
for my $x (@x) {
    ok($x->response(20), 'a stream of messages');
    is($x->{body}, join('', map { message("number $_") } 1 .. 1000), 'whole');
    is($x->trailer('grpc-status'), 0, 'its outcome');
    is($x->trailer('grpc-message'), 'all', 'and what it says');
}

# Clients take it for the outcome only if nothing follows.
my $data = $c->{seen}{DATA};
my $none = $c->request('POST', '/svc/Unknown', body => message('x'),
                       chunked => 1, headers => [
                           'Content-Type: application/grpc', 'TE: trailers' ]);
ok($none->response, 'trailers only');
is($none->header('grpc-status'), 12, 'the outcome');
is($c->{seen}{DATA}, $data, 'and the end, without another frame');

# Both ways while it lasts.

$t->agent(transport => 'auto', backend => 'chat',
          host => '127.0.0.1:' . $n->port('CHAT'), args => [ '-force-http2' ]);

my $talk = $c->request('POST', '/chat', hold => 1);
ok($talk->head, 'an answer before there was a question');
my $want = '';

for my $i (1 .. 3) {
    $talk->data("question $i");
    $want .= "<question $i>";
    ok($c->wait(sub { $talk->{body} eq $want }), "answer $i");
}

$talk->data('', end => 1);
ok($talk->response, 'the end of it');
ok($talk->{ended}, 'is a good one');


# The server may end a call before the client has.

my $over = $t->backend(sub {
    my ($s) = @_;
    my $h = InvertingProxy::Test::Http2->new(stream => $s, role => 'server',
                                             notes => $s->{notes});

    while (my $x = $h->take(3600)) {
        $h->wait(sub { length $x->{body} });

        if ($x->{target} eq '/over/refused') {
            $x->fields([ [ ':status', 200 ],
                         [ 'content-type', 'application/grpc' ],
                         [ 'grpc-status', 7 ] ], end => 1);
            $x->flush(5);

        } elsif ($x->{target} eq '/over/short') {
            $x->respond(200, [ 'Content-Type: application/grpc' ],
                        message('some'), length => 1000, hold => 1);
            $h->wait(sub { length $x->{body} > length message('hello') });
            $x->fields([ [ 'grpc-status', 0 ] ], end => 1);
            $x->flush(5);

        } else {
            $x->respond(200, [ 'Content-Type: application/grpc' ],
                        message('enough'), chunked => 1, hold => 1);
            $h->wait(sub { length $x->{body} > length message('hello') });
            $x->fields([ [ 'grpc-status', 16 ],
                         [ 'grpc-message', 'no more' ] ], end => 1);

            # as servers do that want no more of the request
            $x->flush(5);
            $x->rst(NO_ERROR);
        }
    }

    return 0;
}, raw => 1);

$t->agent(transport => 'auto', backend => 'over', host => $over->address,
          args => [ '-force-http2' ]);

for my $how ('refused', 'ended') {
    my $x = $c->request('POST', "/over/$how", hold => 1, headers => [
        'Content-Type: application/grpc', 'TE: trailers' ]);
    $x->data(message('hello'));

    if ($how eq 'ended') {
        ok($c->wait(sub { length $x->{body} }), 'a message');
        $x->data(message('more'));
    }

    ok($x->response, "$how while the client is silent");
    ok($x->{ended}, 'a good end');
    is($x->header('grpc-status') // $x->trailer('grpc-status'),
       $how eq 'refused' ? 7 : 16, 'with the outcome');
    is($x->{body}, $how eq 'refused' ? '' : message('enough'), 'and the rest');
}

# What is short of its length is a cut, trailers or not.
my $x = $c->request('POST', '/over/short', hold => 1, headers => [
    'Content-Type: application/grpc', 'TE: trailers' ]);
$x->data(message('hello'));
ok($c->wait(sub { length $x->{body} }), 'a part of a body');
$x->data(message('more'));
$c->wait(sub { $x->{ended} || $x->{reset} });
ok(!$x->{ended}, 'is never whole');

$c->close;
$t->done;
