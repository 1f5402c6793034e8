#!/usr/bin/perl

# -force-http2: gRPC, from a PTTH connection to a backend that speaks HTTP/2 from
# its first byte on.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $work = work_origin();
my $n = 3_000_001;
my $go = $t->dir . '/go';


# What a gRPC server does: a status in the trailers; messages as they come.

sub answer {
    my ($x) = @_;
    my $target = $x->{target};

    if ($target eq '/svc/unary') {
        $x->read_body($x);
        return $x->respond(200, [ 'Content-Type: application/grpc',
                                  'X-TE: ' . ($x->header('te') || 'none') ],
                           "reply to $x->{body}", chunked => 1,
                           trailers => [ 'grpc-status: 0',
                                         'grpc-message: fine' ]);
    }

    if ($target eq '/svc/error') {
        # trailers only: all of it in one field section
        return $x->fields([ [ ':status', 200 ],
                            [ 'content-type', 'application/grpc' ],
                            [ 'grpc-status', 5 ] ], end => 1);
    }

    if ($target eq '/svc/reset') {
        $x->respond(200, [], 'part', hold => 1, chunked => 1);
        $x->flush(5);
        waitfor(sub { -e $go });
        return $x->rst(INTERNAL_ERROR);
    }

    if ($target eq '/head') {
        return $x->respond(200, [], 'x' x 1000, head => 1);
    }

    if ($target eq '/chunked') {
        return $x->respond(200, [], body_bytes('key', $n), chunked => 1);
    }

    return $work->($x, $x);
}

sub serve {
    my ($c) = @_;
    my $h = InvertingProxy::Test::Http2->new(stream => $c, role => 'server',
                                             notes => $c->{notes});
    $h->serve(\&answer);
    return 0;
}

my $p = $t->ptth_proxy;

for my $kind ('tcp', 'unix') {
    my $b = $t->backend(\&serve, raw => 1, unix => $kind eq 'unix');
    my $a = $t->agent(transport => 'auto',
                      proxy => $p->url, backend => 'b', wait => 0,
                      host => $b->address, args => [ '-force-http2' ]);
    my $h = $p->dialled;

    my $x = $h->request('POST', '/svc/unary', body => 'ask', chunked => 1,
                        headers => [ 'TE: trailers',
                                     'Content-Type: application/grpc' ]);
    ok($x->response, "$kind: a call") or diag($a->log);
    is($x->{status}, 200, 'a status');
    is($x->{body}, 'reply to ask', 'a message');
    is($x->header('X-TE'), 'trailers', 'TE gets there');
    is($x->trailer('grpc-status'), 0, 'a status in the trailers');
    is($x->trailer('grpc-message'), 'fine', 'and a message');

    $x = $h->request('POST', '/svc/error', body => 'ask', chunked => 1);
    ok($x->response, 'trailers only');
    is($x->header('grpc-status'), 5, 'the status');

    unlink($go);
    $x = $h->request('GET', '/svc/reset');
    ok($x->head, 'a head');
    spew($go, '');
    ok($x->wait_reset(10), 'a reset');
    ok(!$x->{ended}, 'is no end');

    for my $path ("/down/key/$n/0", '/chunked') {
        $x = $h->request('GET', $path);
        ok($x->response(20), "$path: a large response");
        is($x->{sha256}, body_sha256('key', $n), 'whole and right');
    }

    for my $length (1, 0) {
        $x = $h->request('POST', '/up/q', body => body_bytes('u', $n),
                         chunked => !$length);
        ok($x->response(20), 'a large request');
        is($x->{body}, "$n " . body_sha256('u', $n), 'whole and right');
    }

    $x = $h->request('HEAD', '/head');
    ok($x->response, 'HEAD');
    is($x->{status}, 200, 'is answered');
    $x = $h->request('HEAD', '/head', body => 'abc');
    ok($x->response, 'HEAD with a body');
    is($x->{status}, 200, 'is answered');

    my @x = map { $h->request('GET', "/small/$_") } 1 .. 50;
    ok($h->wait(sub { !grep({ !$_->{ended} } @x) }, 20), 'many at once');
    is(scalar(grep { ($_->{status} || 0) == 200 } @x), 50, 'all well');

    $b->stop;
    $x = $h->request('GET', '/small/x');
    ok($x->response, 'a backend that is away');
    is($x->{status}, 502, 'is 502');

    $a->signal('TERM');
    $h->wait_end(10);
    is($a->wait_end(10), 0, 'it ends well');
}

$t->done(idle => 0);
