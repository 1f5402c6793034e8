#!/usr/bin/perl

# -force-http2: the agent as a client of HTTP/2.  Many requests on a connection;
# what the backend has not looked at is sent again, and nothing else; an answer
# may come at any time; one stream does not hold up another; what breaks the
# rules costs what it must.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

use constant LARGE => 20_000_000;

my $t = InvertingProxy::Test->new;
my $p = $t->ptth_proxy;
my ($crt, $key) = $t->certificate_for('localhost');
my $go = $t->dir . '/go';
my (%settings, $b, $a, $h);


# The backend: each connection is a process.

my %path = (
    '/slow' => sub { },
    '/dead' => sub { my ($x) = @_; waitfor(sub { -e $go }, 60) },

    '/refused-once' => sub {
        my ($x) = @_;
        return fine($x) if -e $go;
        spew($go, '');
        return $x->rst(REFUSED_STREAM);
    },
    '/refused' => sub { $_[0]->rst(REFUSED_STREAM) },
    '/reset' => sub {
        my ($x) = @_;
        $x->note('reset');
        return $x->rst(INTERNAL_ERROR);
    },

    # It was not looked at: the connection ends, with those before.
    '/leave' => sub {
        my ($x) = @_;
        my $h2 = $x->{http2};
        return fine($x) if -e $go;
        spew($go, '');
        $h2->goaway($x->{id} - 2);
        return;
    },

    # No word, no GOAWAY.
    '/gone' => sub { my ($x) = @_; $x->{http2}->close; exit(0) },
    '/gone-once' => sub {
        my ($x) = @_;
        return fine($x) if -e $go;
        spew($go, '');
        $x->{http2}->close;
        exit(0);
    },

    '/interim' => sub {
        my ($x) = @_;
        $x->interim(103, [ 'Link: a' ]) for 1 .. 3;
        return fine($x);
    },
    '/large' => sub {
        my ($x) = @_;
        return $x->respond(200, [], body_bytes('key', LARGE));
    },

    '/spaces' => sub { raw_head(@_, ':status' => 200, spaces => " a b\t ") },

    # Fields and framing that are not allowed
    '/bad/name' => sub {
        raw_head(@_, ':status' => 200, 'a b' => 'c');
    },
    '/bad/connection' => sub {
        raw_head(@_, ':status' => 200, connection => 'close');
    },
    '/bad/no-status' => sub { raw_head(@_, server => 'x') },
    '/bad/101' => sub { raw_head(@_, ':status' => 101) },
    '/bad/099' => sub {
        my ($x) = @_;
        $x->{http2}->send_fields($x->{id}, literal(':status' => '099'));
        $x->data('a body', end => 1);
    },
    '/bad/head' => sub {
        raw_head(@_, ':status' => 200, map { ("x$_" => 'y' x 1000) } 1 .. 70);
    },
    '/bad/fields' => sub {
        raw_head(@_, ':status' => 200, map { ("x$_" => 'y') } 1 .. 1100);
    },
    '/bad/short' => sub {
        my ($x) = @_;
        $x->respond(200, [], 'half', length => 8);
    },
    '/bad/long' => sub {
        my ($x) = @_;
        $x->respond(200, [], 'more than that', length => 8);
    },
    '/bad/trailers' => sub {
        my ($x) = @_;
        $x->respond(200, [], 'all', chunked => 1,
                    trailers => [ 'Connection: close' ]);
    },
);


sub fine {
    my ($x) = @_;
    $x->note("$x->{method} $x->{target}" . ($x->{body} eq '' ? '' : ' body'));
    return $x->respond(200, [ 'X-Id: ' . ($x->header('x-id') // '') ],
                       "fine $x->{body}");
}


sub raw_head {
    my ($x, @fields) = @_;
    return $x->{http2}->send_fields($x->{id}, literal(@fields), end => 1);
}


sub serve {
    my ($c) = @_;

    my $h2 = InvertingProxy::Test::Http2->new(
        stream => $c, role => 'server', notes => $c->{notes},
        settings => {%settings});

    $c->note('connection');

    my @open;

    $h2->wait(sub {
        push @open, splice(@{$h2->{arrived}});

        # some get an answer before they are whole
        my @ready = grep { $_->{ended} || $_->{target} =~ m{^/early/} } @open;
        my %ready = map { $_->{id} => 1 } @ready;
        @open = grep { !$ready{$_->{id}} } @open;

        # as Netty does
        if (($h2->{seen}{RST_STREAM} || 0) > 200) {
            $h2->goaway(undef, ENHANCE_YOUR_CALM);
            $h2->close;
            exit(0);
        }

        for my $x (@ready) {
            my $code = $x->{target} =~ m{^/early/} ? \&early
                       : $path{$x->{target}} || \&fine;
            $code->($x);
        }

        return 0;
    }, 3600);

    return 0;
}


# Two at a time, answered when no more come; it has not looked at the others.

sub two {
    my ($c) = @_;

    my $h2 = InvertingProxy::Test::Http2->new(
        stream => $c, role => 'server', notes => $c->{notes},
        settings => { MAX_CONCURRENT_STREAMS => 2 });
    my @open;

    until ($h2->{closed}) {
        my $n = @{$h2->{arrived}};
        next if $h2->wait(sub { @{$h2->{arrived}} > $n }, 0.2);

        fine($_) for @open;
        my @refused = splice(@{$h2->{arrived}});
        @open = splice(@refused, 0, 2);
        $h2->raw(join('', map { frame(RST_STREAM, 0, $_->{id},
                                      pack('N', REFUSED_STREAM)) } @refused));
    }

    return 0;
}


# Does not read what comes after the first head, and goes.

sub stuck {
    my ($c) = @_;

    return serve($c) if $c->{number} > 1;

    my $h2 = InvertingProxy::Test::Http2->new(
        stream => $c, role => 'server', notes => $c->{notes},
        settings => { INITIAL_WINDOW_SIZE => 2 ** 31 - 1 });

    $h2->window(0, 2 ** 30);
    $h2->take(10);
    waitfor(sub { -e $go }, 60);
    exit(0);
}


# Breaks the rules while it does not read, and then reads on.

sub wrong {
    my ($c) = @_;

    return serve($c) if $c->{number} > 1;

    my $h2 = InvertingProxy::Test::Http2->new(
        stream => $c, role => 'server', notes => $c->{notes},
        settings => { INITIAL_WINDOW_SIZE => 2 ** 31 - 1 });

    $h2->window(0, 2 ** 30);
    $h2->take(10);
    nap(1);
    $h2->send(DATA, 0, 0, 'of no stream');
    waitfor(sub { -e $go }, 60);
    $h2->wait_end(10);
    return 0;
}


# Gives no window back: that of the connection is one upload's.

sub full {
    my ($c) = @_;

    return serve($c) if $c->{number} > 1;

    my $h2 = InvertingProxy::Test::Http2->new(
        stream => $c, role => 'server', notes => $c->{notes},
        grant => 'none');

    $h2->wait_end(60);
    return 0;
}


# As Node does, and gRPC: all of the answer, and no interest in the rest.

sub early {
    my ($x) = @_;
    my ($how) = $x->{target} =~ m{^/early/(\w+)};

    if ($how eq 'empty') {
        $x->fields([ [ ':status', 403 ] ], end => 1);

    } elsif ($how eq 'length') {
        $x->respond(413, [], 'too much');

    } elsif ($how eq 'unknown') {
        $x->respond(413, [], 'too much', chunked => 1);

    } elsif ($how eq 'trailers') {
        $x->respond(413, [], 'too much', chunked => 1,
                    trailers => [ 'X-Why: large' ]);
    }

    # in one piece, if that can be
    $x->flush(5);
    $x->rst(NO_ERROR) if $x->{target} =~ /reset/;
    return;
}


sub begin {
    my (%opt) = @_;

    $a->stop if $a;
    $h->close if $h;
    $b->stop if $b;
    unlink($go);

    %settings = %{$opt{settings} || {}};
    $b = $t->backend($opt{serve} || \&serve, raw => 1,
                     rcvbuf => $opt{rcvbuf},
                     $opt{tls} ? (tls => [ $crt, $key ], alpn => [ 'h2' ])
                               : ());
    $a = $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
                   wait => 0, host => $opt{host}
                                      || ($opt{tls} ? 'https://localhost:'
                                                      . $b->port
                                                    : $b->address),
                   args => [ '-force-http2', "-ca-file=$crt",
                             @{$opt{args} || []} ]);
    $h = $p->dialled(%{$opt{dialled} || {}});
    return;
}


# A connection that has served already, in any case; nothing noted.

sub warm {
    unlink($go);
    is(status_of(get('/first')), 200, 'a connection');
    $b->clear_notes;
    return;
}


sub get {
    my ($path, %opt) = @_;
    return $h->request('GET', $path, %opt);
}


sub connections { return scalar(grep { $_ eq 'connection' } $b->notes) }
sub made { return grep { $_ ne 'connection' } $b->notes }


sub status_of {
    my ($x, $timeout) = @_;
    $h->wait(sub { $x->{closed} || $x->{ended} }, $timeout || 10);
    return $x->{status} // 'none';
}


# Many on a connection

begin();
is(status_of(get('/first')), 200, 'a request');
my @x = map { get("/n/$_", headers => [ "X-Id: $_" ]) } 1 .. 90;
ok($h->wait(sub { !grep { !$_->{ended} } @x }), 'ninety at once');
is(scalar(grep { $_->{status} == 200
                 && $x[$_->header('x-id') - 1] == $_ } @x), 90,
   'each has its own answer');
is(connections(), 1, 'on one connection');

begin(settings => { MAX_CONCURRENT_STREAMS => 2 });
is(status_of(get('/first')), 200, 'a backend that wants two at a time');
@x = map { get('/large') } 1 .. 6;
ok($h->wait(sub { !grep { !$_->{ended} } @x }, 30), 'six at once');
is(scalar(grep { $_->{sha256} eq body_sha256('key', LARGE) } @x), 6,
   'all are answered');
cmp_ok(connections(), '<=', 6, 'on no more connections than it takes');
cmp_ok(connections(), '>', 1, 'which is more than one');

begin(serve => \&two);
@x = map { get("/n/$_") } 1 .. 40;
$h->wait(sub { !grep { !$_->{ended} } @x }, 30);
is(scalar(grep { ($_->{status} // 0) == 200 } @x), 40,
   'forty at once, before it has said so');

begin(settings => { MAX_CONCURRENT_STREAMS => 0 });
is(status_of(get('/first')), 200, 'one that wants none, and then has some');


# What was not looked at

begin();

for my $case ([ 'GET' ], [ 'POST', body => '' ], [ 'POST', body => 'pay' ],
              [ 'POST', body => 'x' x 60_000, chunked => 1 ])
{
    my ($method, @body) = @$case;
    my $name = "$method with " . (@body ? length $body[1] : 'no') . ' bytes';

    warm();
    my $x = $h->request($method, '/refused-once', @body);
    is(status_of($x), 200, "$name: refused, and made again");
    is(scalar(made()), 1, 'once');

    $x = $h->request($method, '/refused', @body);
    is(status_of($x), 502, "$name: not for ever");

    warm();
    $x = $h->request($method, '/leave', @body);
    is(status_of($x), 200, "$name: not covered by a GOAWAY");
    is(scalar(made()), 1, 'is made once, on another connection');
    is(connections(), 1, 'which is a new one');

    # What may have been looked at
    for my $path ('/reset', '/gone') {
        warm();
        is(status_of($h->request($method, $path, @body)), 502,
           "$name: $path is 502");
        is(scalar(made()), 1, 'made once') if $path eq '/reset';
    }

    warm();
    is(status_of($h->request($method, '/gone-once', @body)),
       $method eq 'GET' ? 200 : 502,
       "$name: a kept connection is closed instead of an answer");
}


# Others on a connection that ends: those that it covers are answered

warm();
my $first = $h->request('POST', '/first', hold => 1);
$first->data('half');
my $x = get('/leave');
is(status_of($x), 200, 'one that is not covered');
$first->data('half', end => 1);
is(status_of($first), 200, 'one that is');
is($first->{body}, 'fine halfhalf', 'with its body');


# Requests that have not left the agent when a connection ends

begin(serve => \&stuck, rcvbuf => 65536);
my $up = $h->request('POST', '/up', body => body_bytes('key', LARGE));
$h->drain(2);
@x = map { $h->request('POST', "/n/$_", body => 'pay') } 1 .. 3;
$h->drain(0.5);
spew($go, '');
is(status_of($up), 502, 'an upload to a backend that goes is lost');
is(status_of($_), 200, 'one that was behind it is not') for @x;
is(scalar(made()), 3, 'and made once');


begin(serve => \&wrong, rcvbuf => 65536);
$up = $h->request('POST', '/up', body => body_bytes('key', LARGE));
$h->drain(2);
is(status_of(get('/after')), 200,
   'nothing waits for a connection that is to end');
spew($go, '');
is(status_of($up), 502, 'what was on it ends with it');


# Answers to requests of which more was to come

for my $tls (0, 1) {
    begin(tls => $tls);

    for my $how ('empty', 'length', 'unknown', 'trailers') {
        for my $reset ('', '/reset') {
            my $name = ($tls ? 'https, ' : 'http, ') . "$how$reset";
            my $x = $h->request('POST', "/early/$how$reset", hold => 1);
            $x->data('a part');
            is(status_of($x), $how eq 'empty' ? 403 : 413,
               "$name: an early answer");
            ok($x->{ended}, 'and its end');
            is($x->{body}, $how eq 'empty' ? '' : 'too much', 'whole');
            is($x->trailer('x-why'), 'large', 'with trailers')
                if $how eq 'trailers';
        }
    }
}


# Clients that go away: servers end connections on which too many do

begin();
my $beside = get('/slow');
$x = get('/large');
ok($x->head, 'one that is in progress');

for (1 .. 15) {
    my @y = map { get('/slow') } 1 .. 20;
    get('/fine')->response;
    $_->rst(CANCEL) for @y;
}

is(status_of(get('/after')), 200, 'after very many that were given up');
cmp_ok(connections(), '>', 2, 'no connection has seen all of them');
ok($x->response(30), 'the one in progress is answered');
is($x->{sha256}, body_sha256('key', LARGE), 'whole and right');
$beside->rst(CANCEL);


# A stream that nobody reads

begin(dialled => { settings => { INITIAL_WINDOW_SIZE => 65535 },
                   grant => 'connection' });
my @slow = map { get('/large') } 1 .. 8;
is(scalar(grep { $_->head } @slow), 8, 'readers that then read no more');
@x = map { get("/small/$_") } 1 .. 50;
ok($h->wait(sub { !grep { !$_->{ended} } @x }), 'others go on');
is(connections(), 1, 'on the same connection');
$_->rst(CANCEL) for @slow;
is(status_of(get('/after')), 200, 'and after it');


# An upload that the backend does not take, with the connection's window

begin(serve => \&full);
$up = $h->request('POST', '/up', body => 'x' x 200_000);
$h->drain(1);
is(status_of($h->request('POST', '/after', body => 'pay')), 200,
   'another request has a body, too');
ok(!defined $up->{status}, 'the upload waits');
$up->rst(CANCEL);


# A connection that is dead does not stay the way for the next

begin(args => [ '-proxy-timeout=6s' ]);
get('/first')->response;
my $stuck = get('/dead');
is(status_of($stuck, 20), 504, 'no answer in time');
is(status_of(get('/second')), 200, 'the next has one, elsewhere');
is(connections(), 2, 'on a new connection');
spew($go, '');


# Against the rules

begin();
is(status_of(get('/interim')), 200, 'interim responses are no answer');
$x = get('/spaces');
is(status_of($x), 200, 'white space around a value');
is($x->header('spaces'), 'a b', 'is taken away');

for my $case ([ '/bad/name' ], [ '/bad/connection' ], [ '/bad/no-status' ],
              [ '/bad/101' ], [ '/bad/099' ], [ '/bad/head' ],
              [ '/bad/fields' ])
{
    is(status_of(get($case->[0])), 502, "$case->[0] is 502");
}

for my $path ('/bad/short', '/bad/long', '/bad/trailers') {
    my $x = get($path);
    $h->wait(sub { $x->{closed} || $x->{ended} });
    ok(!$x->{ended} || $x->{status} == 502, "$path is never whole");
}

is(status_of(get('/after')), 200, 'others are not harmed');


# Backends that speak something else

my $other = $t->backend(sub { my ($c) = @_; $c->respond(200, [], 'hello') });
begin(host => $other->address);
is(status_of(get('/')), 502, 'a backend that speaks HTTP/1.1 only');
like($a->log, qr/does not speak HTTP\/2/, 'the log says why');

$other = $t->backend(sub { my ($c) = @_; $c->respond(200, [], 'hello') },
                     tls => [ $crt, $key ]);
begin(host => 'https://localhost:' . $other->port);
is(status_of(get('/')), 502, 'the same over TLS');
like($a->log, qr/HTTP\/2/, 'the log says why');

my $garbage = $t->backend(sub {
    my ($c) = @_;
    $c->write(frame(SETTINGS, 0, 0, '') . frame(DATA, 0, 99, 'x' x 100)
              . frame(HEADERS, END_HEADERS, 2, "\xff" x 20));
    $c->wait_end(10);
    return 0;
}, raw => 1);
begin(host => $garbage->address);
is(status_of(get('/')), 502, 'one that sends garbage');

is(scalar($a->stop), 0, 'the agent ends well');
$h->close;
$t->done(idle => 0);
