#!/usr/bin/perl

# Somebody goes: the client, the agent, or only its answer.  Each learns of the
# other's end at once, a cut is seen as a cut, and what may be asked again is.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main poll end_user=allUsers backend_user=me
                            prefix=/poll;
    inverting_proxy_agent_user me;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /impatient/ {
            inverting_proxy_pass main;
            inverting_proxy_read_timeout 2s;
        }
        location /unsent/ {
            inverting_proxy_pass main;
            inverting_proxy_send_timeout 300ms;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $h = $t->ptth(backend => 'b');

sub ask {
    my ($method, $target, %opt) = @_;

    my $c = $t->client(rcvbuf => delete $opt{rcvbuf});
    $c->request($method, $target, %opt);
    my $x = $h->take or die "$method $target does not come\n";

    return ($c, $x);
}

# The connection is as good as before.
sub goes_on {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my ($c, $x) = ask('GET', '/on');
    $x->respond(200, [], 'goes on');
    $x->flush;
    is($c->response->{body}, 'goes on', "$name: the connection goes on");
    $c->close;
}


# The client goes

for my $how ('close', 'reset') {
    my ($c, $x) = ask('GET', '/');
    $c->$how;
    ok($x->wait_reset, "client: $how before the response");
    is($x->{reset}, CANCEL, "client: $how: its code");

    ($c, $x) = ask('GET', '/');
    $x->respond(200, [], undef, hold => 1);
    $x->data('the beginning');
    $c->response(head_only => 1);
    $c->$how;
    ok($x->wait_reset, "client: $how inside the response");
    is($x->{reset}, CANCEL, "client: $how: its code");

    ($c, $x) = ask('POST', '/', body => undef, length => 1000);
    $c->write('x' x 10);
    $h->wait(sub { $x->{length} == 10 });
    $c->$how;
    ok($x->wait_reset, "client: $how inside the request");
    ok(!$x->{ended}, "client: $how: the request has not ended well");

    ($c, $x) = ask('POST', '/', chunked => 1);
    $c->chunk('x' x 10);
    $h->wait(sub { $x->{length} == 10 });
    $c->$how;
    ok($x->wait_reset, "client: $how inside a chunked request");
    ok(!$x->{ended}, "client: $how: it has not ended well either");

    ($c, $x) = ask('GET', '/', rcvbuf => 8192);
    $x->respond(200, [], random_body('gone', 8 << 20), length => 8 << 20);
    $h->wait(sub { ($x->{sent} || 0) > 100_000 });
    $c->$how;
    ok($x->wait_reset, "client: $how while it does not read");
}

goes_on('clients that go');

# One stream of a client of HTTP/2.

my $client = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');
my @y = map { $client->request('GET', "/y$_") } 1, 2;
my @x = map { $h->take } 1, 2;
@x = reverse @x if $x[0]{target} ne '/y1';
$y[0]->rst(CANCEL);
ok($x[0]->wait_reset, 'a stream of a client is reset');
$x[1]->respond(200, [], 'two');
$x[1]->flush;
is($y[1]->response->{body}, 'two', 'another one is not');
$client->close;

# A request that nobody has taken yet.

my $held = $t->ptth(backend => 'poll',
                    settings => { MAX_CONCURRENT_STREAMS => 0 });
$held->wait(sub { $held->{settings_acks} });
my $c = $t->client;
$c->request('GET', '/poll');
ok($t->wait_status(sub { $_[0]->waiting('poll') == 1 }), 'one waits');
$c->close;
ok($t->wait_status(sub { $_[0]->waiting('poll') == 0 }), 'and goes');
$held->close;

# Answers to a stream that is cancelled are on their way: nothing comes of
# them.

for my $i (1 .. 50) {
    my ($c, $x) = ask('GET', "/crossing$i");
    $c->close;
    $x->respond(200, [], 'x' x 1000);
    $x->flush;
}

goes_on('answers to what is cancelled');
ok($t->wait_idle, 'nothing is left');


# The agent's answer goes

for my $code (NO_ERROR, INTERNAL_ERROR, CANCEL, PROTOCOL_ERROR) {
    my ($c, $x) = ask('POST', '/', body => 'x');
    $x->read_body;
    $x->rst($code);
    is($c->response->{status}, 502, "RST_STREAM $code before: 502");
    $c->close;

    ($c, $x) = ask('GET', '/');
    $x->respond(200, [], undef, hold => 1);
    $x->data('half');
    my $m = $c->response(head_only => 1);
    $x->rst($code);
    $c->read_body($m);
    ok($m->{cut}, "RST_STREAM $code inside: a cut");
    like($m->{body}, qr/^(?:half)?$/, "RST_STREAM $code: nothing else");
    $c->close;

    ($c, $x) = ask('GET', '/');
    $x->respond(200, [], 'four', length => 8, hold => 1);
    $x->flush;
    $x->rst($code);
    ok($c->response->{cut}, "RST_STREAM $code inside a length: a cut");
    $c->close;
}

goes_on('RST_STREAM');

# A stream of HTTP/2 to the client is reset, not ended.

$client = InvertingProxy::Test::Http2->new(
    stream => $t->client(port => $n->port('H2')), role => 'client');
my $y = $client->request('GET', '/cut');
my $x = $h->take;
$x->respond(200, [], undef, hold => 1);
$x->data('half');
$y->head;
$x->rst(INTERNAL_ERROR);
ok($client->wait(sub { defined $y->{reset} || $y->{ended}
                       || defined $client->{closed} }), 'HTTP/2: an end');
ok(!$y->{ended}, 'HTTP/2: not a good one');
$client->close;

# REFUSED_STREAM: nothing was done with it, so that even a POST may go again.

{
    my $two = $t->ptth(backend => 'b');
    my $c = $t->client;
    $c->request('POST', '/refused', body => 'once');
    ok(waitfor(sub { $_->wait(sub { @{$_->{arrived}} }, 0.02)
                         for $h, $two;
                     grep { @{$_->{arrived}} } $h, $two }), 'one has it');
    my ($a, $b) = @{$h->{arrived}} ? ($h, $two) : ($two, $h);
    my $x = $a->take;
    $x->rst(REFUSED_STREAM);
    my $again;
    waitfor(sub {
        ($again) = grep { my $h = $_;
                          $h->wait(sub { @{$h->{arrived}} }, 0.02) } $a, $b;
        return $again || $c->ready(0, 0);
    });

    if ($again) {
        my $y = $again->take;
        is($y->read_body->{body}, 'once', 'refused, and offered again');
        $y->respond(200, [], 'done');
        $y->flush;
        is($c->response->{body}, 'done', 'to another one');
    } else {
        is($c->response->{status}, 502, 'refused: 502');
    }
    $c->close;
    $two->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');
}


# The agent goes, before the first byte of the response

sub both {
    my ($method, $target, %opt) = @_;

    my $other = $t->ptth(backend => 'b');
    my $c = $t->client;
    $c->request($method, $target, %opt);

    my $has;
    waitfor(sub {
        ($has) = grep { my $h = $_;
                        $h->wait(sub { @{$h->{arrived}} }, 0.01) } $h, $other;
        return $has;
    }) or die "$method $target does not come\n";

    return ($c, $has, $has == $h ? $other : $h);
}

for my $how ('close', 'reset') {
    for my $case ([ 'GET' ], [ 'HEAD' ], [ 'DELETE' ], [ 'OPTIONS' ]) {
        my ($method) = @$case;
        my ($c, $has, $other) = both($method, '/again');
        my $id = $has->take->header('X-Inverting-Proxy-Request-ID');
        $has->$how;
        my $x = $other->take;
        is($x && $x->{target}, '/again', "$method, $how: another one gets it");
        isnt($x->header('X-Inverting-Proxy-Request-ID'), $id,
             "$method, $how: with a fresh ID");
        $x->respond(200, [ 'X-From: the other' ],
                    $method eq 'HEAD' ? undef : 'ok');
        $x->flush;
        my $m = $c->response;
        is($m->{status}, 200, "$method, $how: it is answered");
        is($m->header('X-From'), 'the other', "$method, $how: by that one");
        $c->close;
        $h = $other;
        ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');
    }

    for my $method (qw(POST PATCH LOCK)) {
        my ($c, $has, $other) = both($method, '/once', body => 'x');
        $has->take->read_body;
        $has->$how;
        is($c->response->{status}, 502, "$method, $how: 502");
        ok(!$other->wait(sub { @{$other->{arrived}} }, 0.1),
           "$method, $how: not again");
        $c->close;
        $h = $other;
        ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');
    }

    # A body that was read, even of an idempotent one, is gone.

    my ($c, $has, $other) = both('PUT', '/read', body => undef, length => 200);
    my $x = $has->take;
    $c->write('x' x 100);
    $has->wait(sub { $x->{length} == 100 });
    $has->$how;
    is($c->response->{status}, 502, "PUT, $how, of its body some: 502");
    $c->close;
    $h = $other;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');

    # Only once.

    ($c, $has, $other) = both('GET', '/twice');
    my $third = $t->ptth(backend => 'b', wait => 0);
    $has->$how;
    ($has) = grep { defined } waitfor(sub {
        (grep { my $h = $_; $h->wait(sub { @{$h->{arrived}} }, 0.01) }
             $other, $third)[0];
    });
    $h = $has == $other ? $third : $other;
    $has->$how;
    is($c->response->{status}, 502, "lost twice, $how: 502");
    $c->close;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');
}

# An agent is lost once, with all of its connections.

sub process {
    my ($name) = @_;
    return $t->ptth(backend => 'b', headers =>
                    $name eq '' ? []
                    : [ "X-Inverting-Proxy-Process-ID: $name" ]);
}

# The connection that gets the request, out of those given, which goes then.
sub loses {
    my ($how, @among) = @_;

    my $has;
    waitfor(sub {
        ($has) = grep { my $h = $_;
                        $h->wait(sub { @{$h->{arrived}} }, 0.01) } @among;
        return $has;
    }) or die "the request does not come\n";
    $has->$how;

    # One that comes now comes after the loss.
    my @left = grep { $_ != $has } @among;
    $t->wait_status(sub { $_[0]->agents('b') == @left })
        or die "nobody learns of the loss\n";

    return @left;
}

$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'nobody is left');

for my $how ('close', 'reset') {
    my @left = map { process('one') } 1 .. 4;
    my $c = $t->client;
    $c->request('GET', '/all');
    @left = loses($how, @left) while @left;

    $h = process('two');
    my $x = $h->take;
    is($x && $x->{target}, '/all', "all connections, $how: the next agent");
    $x->respond(200, [], 'next');
    $x->flush;
    is($c->response->{body}, 'next', "all connections, $how: its answer");
    $c->close;

    # ... which is no other one because it has more of them.

    for my $case ([ 'made after', 'two' ], [ 'another', 'one', 'two' ],
                  [ 'nameless', '', '' ])
    {
        my ($name, @who) = @$case;

        $h->close;
        ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'nobody is left');
        @left = map { process($_) } @who;
        $c = $t->client;
        $c->request('GET', '/twice');
        @left = loses($how, @left);
        @left = process('two') if !@left;
        loses($how, @left);
        is($c->response->{status}, 502, "$name, $how: lost twice");
        $c->close;
    }

    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'nobody is left');
}

# One that is there, but ends its stream again and again.

for my $case ([ 'one', 'one' ], [ 'one', 'two' ]) {
    my @h = map { process($_) } @$case;
    my $c = $t->client;
    $c->request('GET', '/ends');
    my $ends = 0;

    waitfor(sub {
        for my $h (@h) {
            $h->wait(sub { @{$h->{arrived}} }, 0.01) or next;
            (shift @{$h->{arrived}})->rst(INTERNAL_ERROR);
            $h->drain(0.01);
            $ends++;
        }

        return $c->ready(0, 0);
    });

    is($c->response->{status}, 502, "@$case: 502");
    cmp_ok($ends, '<=', 2, "@$case: after two times");
    $c->close;
    $_->close for @h;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'nobody is left');
}

$h = $t->ptth(backend => 'b');


# Interim responses are no response.

{
    my ($c, $has, $other) = both('GET', '/interim');
    $has->take->interim(103);
    $has->drain(0.05);
    $has->close;
    my $x = $other->take;
    ok($x, 'lost after an interim response: offered again');
    $x->respond(200, [], 'ok');
    $x->flush;
    is($c->response->{body}, 'ok', 'and answered');
    $c->close;
    $h = $other;
    ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');
}

# ... inside of it: all that were on the connection are cut.

{
    my @all = map { [ ask('GET', "/all$_") ] } 1 .. 10;
    for (@all) {
        $_->[1]->respond(200, [], undef, hold => 1);
        $_->[1]->data('begun');
        $_->[2] = $_->[0]->response(head_only => 1);
    }
    $h->close;
    is(scalar(grep { $_->[0]->read_body($_->[2])->{cut} } @all), 10,
       'lost inside of ten responses: ten cuts');
    $_->[0]->close for @all;
    ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'nobody is left');
    ok($t->wait_idle, 'and nothing');
    $h = $t->ptth(backend => 'b');
}

# One that has gone to an agent of the polls goes to PTTH, and back.

{
    my $p = $t->peer(backend => 'poll');
    my $c = $t->client;
    my $poll = $p->poll;
    ok($t->wait_status(sub { $_[0]->agents('poll') == 1 }), 'an agent polls');
    $c->request('GET', '/poll');
    my ($id) = @{$p->poll_end($poll)->{ids}};
    $p->fetch($id);
    my $w = $p->post($id);
    my $ptth = $t->ptth(backend => 'poll', wait => 0);
    nap(0.05);
    $w->reset;
    my $x = $ptth->take;
    is($x && $x->{target}, '/poll', 'lost by a poll, offered to PTTH');
    $poll = $p->poll;
    $t->wait_status(sub { $_[0]->agents('poll') == 2 });
    $x->respond(200, [], 'ok');
    $x->flush;
    is($c->response->{body}, 'ok', 'and answered');

    # Whoever it is offered to first, it is answered by the poll.
    $c->request('GET', '/poll');
    waitfor(sub { $ptth->wait(sub { @{$ptth->{arrived}} }, 0.01)
                  || $poll->ready(0, 0) });
    $ptth->close if @{$ptth->{arrived}};
    ($id) = @{$p->poll_end($poll)->{ids}};
    $p->fetch($id);
    is($p->respond($id, $p->response(200, [], 'poll'))->{status}, 200,
       'lost by PTTH, offered to a poll');
    is($c->response->{body}, 'poll', 'and answered');
    $c->close;
    $ptth->close;
}


# Time

my ($c3, $x3) = ask('GET', '/impatient/');
is($c3->response->{status}, 504, 'no response in time: 504');
ok($x3->wait_reset, 'and the stream is reset');
$c3->close;

($c3, $x3) = ask('GET', '/impatient/');
$x3->respond(200, [], undef, hold => 1);
$x3->data('begun');
ok($c3->response->{cut}, 'no more of a response in time: a cut');
ok($x3->wait_reset, 'and the stream is reset');
$c3->close;

goes_on('time-outs');


# The end of the stream where it should not be

for my $case (
    [ 'no response',         sub { $_[0]->data('', end => 1) }, 502 ],
    [ 'a body without head', sub { $_[0]->data('x', end => 1) }, 502 ],
    [ 'only an interim one', sub { $_[0]->fields([ [ ':status', 103 ] ],
                                                 end => 1) }, 502 ],
    [ 'too short a body',    sub { $_[0]->respond(200, [], 'four',
                                                  length => 10) }, 'cut' ],
    [ 'too long a body',     sub { $_[0]->respond(200, [], 'four',
                                                  length => 3) }, 'cut' ],
    [ 'no body of a length', sub { $_[0]->fields([ [ ':status', 200 ],
                                     [ 'content-length', 5 ] ], end => 1) },
      '502|cut' ],
    [ 'trailers too early',  sub { $_[0]->respond(200, [], 'four',
                                     length => 10, trailers => [ 'x: y' ]) },
      'cut' ],
) {
    my ($name, $code, $want) = @$case;
    my ($c, $x) = ask('POST', '/', body => '');

    $code->($x);
    $x->flush;
    my $m = $c->response;
    my $is = !$m ? 'cut' : $m->{cut} ? 'cut' : $m->{status};
    like($is, qr/^(?:502|$want)$/, "$name: $want");
    is($m->{cut}, undef, "$name: whole") if $m && $m->{status} == 502;
    $c->close;

    # Whether it was an error of the stream or of the connection: an answer to
    # PING comes after all that there is to say about it.
    my $pongs = @{$h->{pongs}};
    $h->ping;
    $h->wait(sub { $h->{goaway} || @{$h->{pongs}} > $pongs });
    $h->drain(0.02);
    if (defined $h->{closed} || $h->{goaway}) {
        $h->close;
        $t->wait_status(sub { $_[0]->agents('b') == 0 });
        $h = $t->ptth(backend => 'b');
    }
}

goes_on('bad ends');
ok($t->wait_idle, 'nothing is left');
$h->close;

$t->done;
