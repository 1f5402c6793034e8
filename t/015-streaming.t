#!/usr/bin/perl

# What is said is heard while it is said: Expect, server-sent events, responses
# that begin before their request has ended, early refusals of an upload.

use lib 't/lib';
use InvertingProxy::Test ':transports';

use List::Util qw(min);

my $t = InvertingProxy::Test->new;
my $gap = 0.15;

# What the client has got of the events: the next one is sent when it has got
# the last one, however slow everybody is.
my $heard = $t->dir . '/heard';

sub heard {
    my ($i) = @_;
    waitfor(sub { slurp($heard) =~ /^data: $i$/m }, 5);
    nap($gap);
}

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my $what = $req->{target};

    if ($what eq '/events') {
        $c->head(200, [ 'Content-Type: text/event-stream',
                        'Transfer-Encoding: chunked' ]);
        for my $i (1 .. 5) {
            $c->chunk("data: $i\n\n");
            heard($i);
        }
        return $c->last_chunk;

    } elsif ($what eq '/until-close') {
        $c->head(200, [ 'Connection: close' ]);
        for my $i (1 .. 5) {
            $c->write("data: $i\n\n");
            heard($i);
        }
        return 0;

    } elsif ($what eq '/late-body') {
        $c->head(200, [ 'Content-Length: 4' ]);
        waitfor(sub { -e $t->dir . '/head' }, 5);
        return $c->write('late');

    } elsif ($what eq '/echo') {
        # Each piece is answered before the next is sent.
        $c->head(200, [ 'Transfer-Encoding: chunked' ]);
        $c->body_start($req);
        while (defined(my $piece = $c->body_piece)) {
            $c->chunk("<$piece>");
        }
        return $req->{cut} ? 0 : $c->last_chunk;

    } elsif ($what eq '/refuse') {
        # At once, and reads no more; the connection stays open for a while.
        $c->respond(413, [ 'Connection: close' ], 'too large');
        $c->note('refused');
        nap(0.5);
        return 0;

    } elsif ($what eq '/refuse-close') {
        $c->body_start($req);
        $c->body_piece;
        $c->respond(413, [ 'Connection: close' ], 'too large');
        $c->shutdown;
        nap(0.5);
        return 0;

    } elsif ($what eq '/refuse-drain') {
        $c->respond(413, [], 'too large');
        return 1;

    } elsif ($what eq '/expect') {
        my $expect = $req->header('Expect');
        $c->read_body($req);
        return $c->respond(200, [], "$req->{body} "
                                    . (defined $expect ? $expect : 'none'));
    }

    die "what is $what?";
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my ($m, $c);


# Expect

$c = $t->client;
$c->request('POST', '/expect', headers => [ 'Expect: 100-continue' ],
            length => 4);
$m = $c->read_head;
is($m->{status}, 100, 'nginx answers Expect');
$c->write('body');
$m = $c->response;
is($m->{body}, 'body none', 'Expect is of one hop');
is_deeply($m->{interim}, [], 'one 100 is enough');

$c->request('POST', '/expect', headers => [ 'expect: 100-Continue' ],
            chunked => 1);
is($c->read_head->{status}, 100, 'again, chunked');
$c->chunk('body');
$c->last_chunk;
is($c->response->{body}, 'body none', 'and its response');
$c->close;

# Without one nobody is told to go on before it has sent all.
$m = $t->get('/expect', method => 'POST', body => 'body');
is_deeply($m->{interim}, [], 'no 100 that nobody waits for');


# Events arrive when they are sent, one by one

for my $path ('/events', '/until-close') {
    for my $version ('1.1', '1.0') {
        my @at;
        spew($heard, '');
        $c = $t->client;
        $c->request('GET', $path, version => $version);
        my $text = '';
        $m = $c->response(sink => sub {
            push @at, now();
            $text .= $_[0];
            spew($heard, $text);
        });
        $c->close;

        is($text, join('', map { "data: $_\n\n" } 1 .. 5),
           "$path, HTTP/$version: the events");
        is(scalar @at, 5, "$path, HTTP/$version: each in a read of its own")
            or next;

        my @gaps = map { $at[$_] - $at[$_ - 1] } 1 .. $#at;
        my $least = min(@gaps);
        cmp_ok($least, '>', $gap / 3, "$path, HTTP/$version: when it is sent");
    }
}

spew($heard, '');
my $r = run_command([ qw(curl -sSN --http2-prior-knowledge -o), $heard,
                      qw(-w %{time_starttransfer}:%{time_total}),
                      'http://127.0.0.1:' . $n->port('H2') . '/events' ]);
my ($first, $last) = $r->{out} =~ /^([\d.]+):([\d.]+)\z/m;
cmp_ok($first, '<', 3 * slow(), 'HTTP/2: the first of them');
cmp_ok($last - $first, '>', 3 * $gap, 'HTTP/2: not all at the end');

$c = $t->client;
$c->request('GET', '/late-body');
my $t0 = now();
$m = $c->response(head_only => 1);
cmp_ok(now() - $t0, '<', 4 * slow(), 'a head comes before its body');
spew($t->dir . '/head', '');
$c->read_body($m);
is($m->{body}, 'late', 'then the body');
$c->close;


# Both directions at once

for my $framing (qw(chunked length)) {
    $c = $t->client;
    $c->request('POST', '/echo', $framing eq 'chunked' ? (chunked => 1)
                                                       : (length => 20));
    $m = $c->response(head_only => 1);
    is($m->{status}, 200, "$framing: a response before any of the body");
    $c->body_start($m);

    for my $i (1 .. 4) {
        if ($framing eq 'chunked') {
            $c->chunk("ping$i");
        } else {
            $c->write("ping$i");
        }
        is($c->body_piece, "<ping$i>", "$framing: $i of them, answered");
    }

    $c->last_chunk if $framing eq 'chunked';
    is($c->body_piece, undef, "$framing: the end of both");
    is($m->{cut}, undef, "$framing: a good one");
    $c->close;
}


# A client that still sends is told to stop; by a backend that reads no more,
# one that closes, and one that keeps the connection

for my $path ('/refuse', '/refuse-close', '/refuse-drain') {
    for my $framing (qw(length chunked)) {
        $c = $t->client;
        my $size = 4 * 1024 * 1024 * 1024;
        my $body = random_body('x', $size);

        $c->request('POST', $path, $framing eq 'chunked' ? (chunked => 1)
                                                         : (length => $size));

        # Until the answer is there: all of it is never sent.
        my $sent = 0;
        while (!$c->ready(0, 0)) {
            my $piece = $body->();
            last if !defined $piece;
            ($framing eq 'chunked' ? $c->chunk($piece) : $c->write($piece))
                or last;
            $sent += length $piece;
        }

        $m = $c->response;
        is($m && $m->{status}, 413, "$path, $framing: the refusal");
        is($m && $m->{body}, 'too large', "$path, $framing: why");
        is($m && $m->{cut}, undef, "$path, $framing: whole");
        cmp_ok($sent, '<', $size,  "$path, $framing: before the end");
        $c->close;
        ok($t->wait_idle(5), "$path, $framing: nothing stays behind");
    }
}


# The same when the upload is stuck: the agent reads no more of it, its pipe is
# full, and then comes the answer.

my $p = $t->peer(backend => 'hand');
my $poll = $p->poll;
$t->wait_status(sub { $_[0]->agents('hand') == 1 });

$c = $t->client;
my $pid = fork();
if ($pid == 0) {
    $c->request('POST', '/hand', body => random_body('x', 64 * 1024 * 1024));
    POSIX::_exit(0);
}

my $id = $p->poll_end($poll)->{ids}[0];
my $f = $p->fetch($id, stream => 1);
my $used = 0;

waitfor(sub {
    my $now = $t->status->chunks_used;
    my $same = $now > 4 && $now == $used;
    $used = $now;
    nap(0.1);
    return $same;
});

my $w = $p->post($id);
$w->write($p->response(413, [ 'X-Stuck: yes' ], 'too large'));
$c->{method} = 'POST';
$m = $c->response;
is($m && $m->{status}, 413, 'stuck: the refusal');
is($m && $m->{body}, 'too large', 'stuck: why');
is($w->finish->{status}, 200, 'stuck: the POST');
$_->close for $c, $w, $f->{client};
kill('KILL', $pid);
waitpid($pid, 0);

$t->done;
