#!/usr/bin/perl

# An https backend gets what a plain one gets: one request for each request, as
# it was, and the client its response as soon as there is one.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;
my $p = $t->ptth_proxy;
my ($crt, $key) = $t->certificate_for('localhost');


sub serve {
    my ($c, $req) = @_;

    if ($req->{target} =~ m{^/early/(\d+)}) {
        # no word of the body was read, and no more is said
        $c->respond($1, [], $1 == 200 ? 'early' : undef);
        $c->wait_end(30);
        return 0;
    }

    if ($req->{target} eq '/leave') {
        # in the middle of the body
        $c->body_start($req);
        $c->body_piece;
        return 0;
    }

    $c->read_body($req);
    $c->note("$req->{method} $req->{target}"
             . ($req->{target} eq '/framing' ? " $req->{framing}" : ''));

    if ($req->{target} =~ m{^/folded/(\d+)}) {
        $c->write("HTTP/1.1 200 OK\r\n X: " . 'x' x $1
                  . "\r\nContent-Length: 0\r\n\r\n");
        return 0;
    }

    # Done, and gone without an answer.
    return 0 if $req->{target} eq '/gone';

    return $c->respond(200, [], 'fine', head => $req->{method} eq 'HEAD');
}

for my $kind ('http', 'https') {
    my $tls = $kind eq 'https';
    my $b = $t->backend(\&serve, $tls ? (tls => [ $crt, $key ]) : ());
    my $a = $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
                      host => $tls ? 'https://localhost:' . $b->port
                                   : $b->address,
                      args => [ "-ca-file=$crt" ], wait => 0);
    my $h = $p->dialled;

    # What may not be made twice is not, when a kept connection is closed
    for my $case ([ 'no body' ], [ 'an empty body', body => '' ],
                  [ 'a body', body => 'pay 100' ])
    {
        my ($name, @body) = @$case;

        my $x = $h->request('GET', '/warm')->response;
        is($x && $x->{status}, 200, "$kind, $name: a connection that is kept");
        $b->clear_notes;
        $x = $h->request('POST', '/gone', @body)->response;
        is($x && $x->{status}, 502, "$kind: POST with $name is not answered");
        is(join(', ', $b->notes), 'POST /gone', "$kind: and was made once");
    }

    # HEAD may have a body, as any request; and none is not an empty one
    for my $method ('HEAD', 'GET') {
        for my $case ([ 'no body', 'none' ],
                      [ 'an empty body', 'length', body => '' ],
                      [ 'a body', 'length', body => 'abc' ],
                      [ 'chunks', 'chunked', body => 'abc', chunked => 1 ])
        {
            my ($name, $framing, @body) = @$case;

            $b->clear_notes;
            my $x = $h->request($method, '/framing', @body)->response;
            is($x && $x->{status}, 200, "$kind: $method with $name");
            is(join(', ', $b->notes), "$method /framing $framing",
               "$kind: $method, its framing");
            is($x && $x->header('Content-Length'), 4, "$kind: the length");
        }
    }

    # A response that is whole is passed on, whatever the request still sends
    for my $status (200, 204, 304) {
        my $x = $h->request('POST', "/early/$status", hold => 1);
        $x->data('some');
        ok($x->response, "$kind: $status before the end of the request");
        is($x->{status}, $status, "$kind, $status: as it was");
        is($x->{body}, $status == 200 ? 'early' : '', "$kind, $status: whole");
    }

    # A head that begins with a folded line, after one that is well-formed, is
    # refused and nothing else (libcurl before 8.1 wrote where others were).
    my %status;

    for my $n (1 .. 100) {
        for my $target ('/warm', "/folded/$n") {
            my $x = $h->request('GET', $target)->response or last;
            $status{$x->{status}}++;
        }
    }

    is_deeply(\%status, { 200 => 100, 502 => 100 },
              "$kind: a folded line is no more than a bad response");
    ok($a->process->alive, "$kind: the agent lives");

    # One that leaves is missed at once, though the request is not at its end
    my $x = $h->request('POST', '/leave', hold => 1);
    $x->data('some');
    ok($x->response, "$kind: an answer for a backend that leaves");
    is($x->{status}, 502, "$kind: which is a 502");

    is(scalar($a->stop), 0, "$kind: it ends well");
    $h->close;
}

$t->done(idle => 0);
