#!/usr/bin/perl

# The harness itself, around a plain nginx: each thing that tests rely on to tell
# right from wrong is shown to tell it.

use lib 't/lib';
use InvertingProxy::Test;

use Digest::SHA qw(sha256_hex);

my $t = InvertingProxy::Test->new;
my $big = 3 * 1024 * 1024 + 17;


# Bodies

is(length body_bytes('x', 200000), 200000, 'a body has its length');
is(sha256_hex(body_bytes('x', 200000)), body_sha256('x', 200000),
   'and its digest');
isnt(body_sha256('x', 200000), body_sha256('y', 200000), 'seeds differ');


# A backend that does what its path says

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my ($what) = $req->{target} =~ m{^/(\w+)};

    $c->note("$req->{method} $req->{target}");

    if ($what eq 'hello') {
        return $c->respond(200, [ 'X-A: 1', 'X-A: 2' ], 'hello');

    } elsif ($what eq 'big') {
        return $c->respond(200, [], random_body('big', $big), chunked => 1,
                           trailers => [ 'X-Trailer: end' ]);

    } elsif ($what eq 'digest') {
        $c->read_body($req, digest => 1);
        return $c->respond(200, [], "$req->{framing} $req->{length} "
                                    . "$req->{sha256}");

    } elsif ($what eq 'cut') {
        $c->respond(200, [ 'Content-Length: 100' ], undef);
        $c->write('only this');
        return 0;

    } elsif ($what eq 'cutchunk') {
        $c->respond(200, [ 'Transfer-Encoding: chunked' ], undef);
        $c->chunk('only this');
        return 0;

    } elsif ($what eq 'reset') {
        $c->respond(200, [ 'Content-Length: 100' ], undef);
        $c->write('only this');
        nap(0.2);
        $c->reset;
        return 0;

    } elsif ($what eq 'slow') {
        $c->respond(200, [ 'Transfer-Encoding: chunked' ], undef);
        for my $i (1 .. 3) {
            nap(0.1);
            $c->chunk("piece $i\n");

            # The next one when this one has been read.
            waitfor(sub { slurp($t->dir . '/read') eq $i }, 5);
        }
        return $c->last_chunk;

    } elsif ($what eq 'early') {
        $c->write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        return $c->respond(200, [], 'late');

    } elsif ($what eq 'hold') {
        my $end = $c->wait_end(10);
        $c->note('client ' . (defined $end ? $end : 'stays'));
        return 0;
    }

    die "what is $what?\n";
});


# ... directly

my $m = $t->get('/hello', port => $b->port);
is($m->{status}, 200, 'status');
is($m->header('x-a'), '1, 2', 'repeated fields');
is($m->{body}, 'hello', 'body');
is($m->{framing}, 'length', 'framing');
is($m->{cut}, undef, 'not cut');

$m = $t->get('/big', port => $b->port, digest => 1);
is($m->{length}, $big, 'a large body');
is($m->{sha256}, body_sha256('big', $big), 'its digest');
is($m->trailer('X-Trailer'), 'end', 'a trailer');

is($t->get('/cut', port => $b->port)->{cut}, 'eof', 'too short a body');
is($t->get('/cutchunk', port => $b->port)->{cut}, 'eof',
   'a chunked body without its end');
is($t->get('/reset', port => $b->port)->{cut}, 'reset', 'a reset');

$m = $t->get('/early', port => $b->port);
is_deeply($m->{interim}, [ 103 ], 'an interim response');
is($m->{body}, 'late', 'and the final one');

$m = $t->get('/digest', port => $b->port, method => 'POST',
             body => random_body('up', $big));
is($m->{body}, "chunked $big " . body_sha256('up', $big), 'chunked upload');

$m = $t->get('/digest', port => $b->port, method => 'POST', length => $big,
             body => random_body('up', $big));
is($m->{body}, "length $big " . body_sha256('up', $big), 'upload with a length');

my $c = $t->client(port => $b->port);
is($c->get('/hello')->{body}, 'hello', 'first of a connection');
is($c->get('/hello')->{body}, 'hello', 'second of the same');

$c->write("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" x 2);
is($c->response->{body}, 'hello', 'first of a pipeline');
is($c->response->{body}, 'hello', 'second of a pipeline');

$c->request('GET', '/hold');
ok($b->wait_note(qr/^GET .hold/), 'a note');
$c->close;
is($b->wait_note(qr/^client/), 'client eof', 'a client that goes away');

$b->clear_notes;
$c = $t->client(port => $b->port);
$c->request('GET', '/hold');
$b->wait_note(qr/^GET .hold/);
$c->reset;
is($b->wait_note(qr/^client/), 'client reset', 'a client that resets');

$t->get('/what', port => $b->port);
ok($b->wait_note(qr/^error: what is what/), 'an error of the backend');


# ... and through nginx

my $n = $t->nginx(module => 0, workers => 2, vars => { B => $b->address },
                  http => <<'EOT');
    server {
        listen 127.0.0.1:%%PORT%%;
        location / {
            proxy_pass http://%%B%%;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_request_buffering off;
            client_max_body_size 0;
        }
    }
EOT

is($t->get('/hello')->{body}, 'hello', 'through nginx');
is($t->get('/big', digest => 1)->{sha256}, body_sha256('big', $big),
   'a large body');
is($t->get('/cutchunk')->{cut}, 'eof', 'a cut is a cut');

my @at;
$m = $t->get('/slow', sink => sub {
    push @at, now();
    spew($t->dir . '/read', scalar @at);
});
cmp_ok(scalar @at, '>=', 3, 'pieces as they come');
cmp_ok($at[-1] - $at[0], '>', 0.15, 'not all at the end');

my @workers = $n->workers;
is(scalar @workers, 2, 'two workers');

ok($n->reload(workers => 3), 'reload');
is(scalar(grep { my $w = $_; grep { $_ == $w } @workers } $n->workers), 0,
   'none of the old ones');
is($t->get('/hello')->{body}, 'hello', 'after a reload');

$n->allow_kill;
ok($n->kill_worker(($n->workers)[0]), 'a killed worker is replaced');
is($t->get('/hello')->{body}, 'hello', 'after a kill');

$b->stop;
is($t->get('/hello')->{status}, 502, 'the backend is down');
$b->start;
is($t->get('/hello')->{body}, 'hello', 'and up again');

my $r = $n->test(http => 'server { nonsense; }');
is($r->{status}, 1, 'nginx -t fails');
like($r->{out}, qr/unknown directive "nonsense"/, 'and says why');
is($n->test->{status}, 0, 'nginx -t passes');


# An agent by hand, and a proxy by hand

my $proxy = $t->stand_in(hold => 0.2);
my $p = $t->peer(port => $proxy->port, backend => 'b');

is_deeply($p->pending->{ids}, [], 'an empty list');

my $id = $proxy->add("PUT /p HTTP/1.1\r\nHost: h\r\n"
                     . "Transfer-Encoding: chunked\r\n\r\n"
                     . "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n");
is($p->take, $id, 'an ID');

my $f = $p->fetch($id);
is($f->{user}, 'someone@example.com', 'the user');
is($f->{request}{target}, '/p', 'the target');
is($f->{request}{body}, 'abc', 'the body');
is($f->{request}->trailer('X-T'), 1, 'a trailer');

my $w = $p->post($id);
$w->write("HTTP/1.1 200 OK\r\n");
$w->write("Content-Length: 2\r\n\r\nok");
is($w->finish->{status}, 200, 'the POST is answered');

$m = $proxy->wait_response($id);
is($m->{body}, 'ok', 'the response');
is($m->{outer}->header('X-Inverting-Proxy-Backend-ID'), 'b', 'the backend');
is($p->fetch('none')->{status}, 404, 'an ID that there is not');


# An alert is found, once, and can be allowed.

open(my $log, '>>', $n->{error_log}) or die;
print $log "2026/01/01 00:00:00 [alert] 1#1: something impossible\n";
close($log);

is_deeply([ $n->problems ], [ 'nginx-1: [alert] 1#1: something impossible' ],
          'an alert is a problem');
$n->allow(qr/something impossible/);
is_deeply([ $n->problems ], [], 'unless it is allowed');

spew("$t->{reports}/asan.agent-1.1", "==1==ERROR: AddressSanitizer\n");
spew("$t->{reports}/valgrind.agent-1.2", "ERROR SUMMARY: 1 errors\n");
spew("$t->{reports}/valgrind.agent-1.3", "ERROR SUMMARY: 0 errors\n");
is(scalar $t->reports, 2, 'reports are problems');
unlink(glob("$t->{reports}/*"));

# A signal while a connection is made, which takes as long as the queue of those
# that are not yet accepted is full.

{
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                         Listen => 1);
    my $port = $listener->sockport;
    my @full = map { IO::Socket::INET->new(Blocking => 0, PeerPort => $port,
                                           PeerAddr => '127.0.0.1') } 1 .. 4;

    my $p = InvertingProxy::Test::Process->fork_code(name => 'y', code => sub {
        my $signals = 0;
        local $SIG{USR1} = sub { $signals++ };
        spew($t->dir . '/connects', '');
        my $c = eval { $t->client(port => $port) };
        POSIX::_exit($c ? $signals ? 0 : 1 : 2);
    });

    # Before it is ready the signal would be its end.
    waitfor(sub { -e $t->dir . '/connects' });
    nap(0.3);
    $p->signal('USR1');
    nap(0.1);

    # All that are made, until that one is among them.
    my @accepted;
    $listener->blocking(0);
    waitfor(sub { push @accepted, $listener->accept; !$p->alive }, 20);
    $p->wait(1);
    is($p->status, 0, 'a signal does not end a connect()');
}

my @left = do {
    my $p = InvertingProxy::Test::Process->fork_code(name => 'x', code => sub {
        fork() and POSIX::_exit(0);
        nap(100);
    });
    $p->wait(5);
    $p->finish;
};
is(scalar @left, 1, 'an orphan is found');

$t->done;
