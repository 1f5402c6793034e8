#!/usr/bin/perl

# Slow readers and slow writers: who is slow slows its own other side, holds a
# bounded part of the zone, and nobody else notices.  limit_rate;
# client_max_body_size.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;
my $size = 64 * 1024 * 1024;
my $share = 256 * 1024;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{target} eq '/small') {
        return $c->respond(200, [], 'small');

    } elsif ($req->{target} =~ m{^/download}) {
        my $next = random_body('down', $size);
        my $sent = 0;
        $c->head(200, [ "Content-Length: $size" ]);
        while (defined(my $piece = $next->())) {
            $c->write($piece) or last;
            $sent += length $piece;
            $c->note("sent $sent") if $sent % (1024 * 1024) < length $piece;
        }
        $c->note("all sent") if $sent == $size;
        return 0;

    } elsif ($req->{target} eq '/stuck') {
        # Reads the head, then nothing at all until it is told to.
        waitfor(sub { -e $t->dir . '/go' }, 20);
        $c->read_body($req, digest => 1);
        return $c->respond(200, [], "$req->{length} $req->{sha256}");

    } elsif ($req->{target} =~ m{^/bytes/(\d+)}) {
        return $c->respond(200, [], random_body('rate', $1), length => $1);

    } elsif ($req->{target} =~ m{^/blob/(\w+)}) {
        return $c->respond(200, [], random_body('blob', 180000),
                           $1 eq 'chunked' ? (chunked => 1)
                                           : (length => 180000));

    } elsif ($req->{target} eq '/trickle') {
        $c->head(200, [ 'Content-Length: 20' ]);
        for (1 .. 20) {
            $c->write('x');
            nap(0.02);
        }
        return 1;
    }

    $c->note("$req->{method} $req->{target}");
    $c->read_body($req, digest => 1);
    return $c->respond(200, [], "$req->{length}");
}, rcvbuf => 16384);

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_buffers 64 4k;

    server {
        listen 127.0.0.1:%%PORT%% sndbuf=32k rcvbuf=32k;
        listen 127.0.0.1:%%PORT_H2%% http2;
        client_max_body_size 0;
        inverting_proxy_send_timeout 30s;
        location / { inverting_proxy_pass main; }
        location /bytes/ {
            inverting_proxy_pass main;
            limit_rate 100k;

            location /bytes/200000/after {
                inverting_proxy_pass main;
                limit_rate 10k;
                limit_rate_after 300k;
            }

            location /bytes/2000000/set {
                inverting_proxy_pass main;
                set $limit_rate 0;
            }
        }
        location /limited { inverting_proxy_pass main;
                            client_max_body_size 1000; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my ($m, $c);


# Until it moves no more; how much it is then.

sub settled {
    my ($code) = @_;

    my ($last, $since) = (-1, now());

    waitfor(sub {
        my $is = $code->();
        ($last, $since) = ($is, now()) if $is != $last;
        return now() - $since > 0.3;
    }, 15);

    return $last;
}


sub sent {
    my ($last) = reverse grep { /^sent/ } $b->notes;
    return defined $last && $last =~ /(\d+)/ ? $1 : 0;
}


# A reader that does not read

my $quick = sub {
    my ($name) = @_;
    my $t0 = now();
    is($t->get('/small')->{body}, 'small', "$name: others are served");
    cmp_ok(now() - $t0, '<', 5 * slow(), "$name: at once");
};

$c = $t->client(rcvbuf => 16384, timeout => 30);
$c->request('GET', '/download');
$m = $c->response(head_only => 1);

# Not before there is anything to be held.
my $held;
waitfor(sub { ($held = settled(sub { $t->status->bytes_used })) > 0 });
cmp_ok($held, '<=', $share + 65536, 'a share of the zone, at most');
cmp_ok($held, '>', 0, 'but some of it');


cmp_ok(settled(\&sent), '<', $size / 2, 'the backend has to wait');
$quick->('slow reader');

# ... and then it does, for a while slowly
$c->body_start($m, piece => 8192);
my $sha = Digest::SHA->new(256);

for my $i (1 .. 50) {
    $sha->add($c->body_piece);
    nap(0.005);
}

cmp_ok($t->status->bytes_used, '<=', $share + 65536, 'no more of it later');

while (defined(my $piece = $c->body_piece)) {
    $sha->add($piece);
}

is($sha->hexdigest, body_sha256('down', $size), 'all of it in the end');
is($m->{cut}, undef, 'whole');
$c->close;
ok($t->wait_idle, 'then nothing is held');


# Whole, but not read yet: the response ends while its client still has to be
# waited for, time and again on the same worker.

for my $how ('length', 'chunked') {
    my @slow = map {
        my $c = $t->client(rcvbuf => 4096);
        $c->request('GET', "/blob/$how");
        $c;
    } 1 .. 6;

    nap(0.2);

    for my $c (@slow) {
        $m = $c->response(digest => 1, piece => 4096, pause => 0.0005);
        is($m->{sha256}, body_sha256('blob', 180000), "read late, $how");
        is($m->{cut}, undef, "read late, $how: whole");
    }

    $_->close for @slow;
}


# Many that do not read: each has a share, not all of the zone; small requests
# pass.

my @many = map {
    my $c = $t->client(rcvbuf => 16384);
    $c->request('GET', '/download');
    $c;
} 1 .. 12;

$_->response(head_only => 1) for @many;
$held = settled(sub { $t->status->bytes_used });
cmp_ok($held, '<=', 12 * ($share + 65536), 'many slow readers');
cmp_ok($t->status->chunks_free, '>', 0, 'do not have all of the zone');
$quick->('many slow readers');
$_->close for @many;
ok($t->wait_idle, 'they leave nothing behind');


# A backend that does not read

$c = $t->client(timeout => 30);
my $pid = fork();
if ($pid == 0) {
    $c->request('POST', '/stuck', body => random_body('up', $size),
                length => $size);
    POSIX::_exit(0);
}

$held = settled(sub { $t->status->bytes_used });
cmp_ok($held, '<=', $share + 65536, 'a slow backend: a share of the zone');
$quick->('slow backend');
spew($t->dir . '/go', '');
$c->{method} = 'POST';
$m = $c->response;
is($m->{body}, "$size " . body_sha256('up', $size), 'all of it in the end');
waitpid($pid, 0);
$c->close;


# Slow writers: nobody is cut off, and none is waited for by others.

$c = $t->client;
$c->request('POST', '/slow', length => 30);
$c->write_slowly('x' x 15, 1, 0.02);
$quick->('slow writer');
$c->write_slowly('x' x 15, 1, 0.02);
is($c->response->{body}, 30, 'a slow client');
$c->close;

$m = $t->get('/trickle');
is($m->{body}, 'x' x 20, 'a slow backend');
cmp_ok($m->{at}{end}, '>', 0.35, 'as slow as it is');


# limit_rate

# How often the workers were woken.
sub woken {
    my $sum = 0;

    for my $pid ($n->workers) {
        $sum += $1
            if slurp("/proc/$pid/status") =~ /^voluntary_ctxt\w+:\s*(\d+)/m;
    }

    return $sum;
}

my $woken = woken();
$m = $t->get('/bytes/450000', digest => 1);
cmp_ok(woken() - $woken, '<', 500, 'limit_rate: nothing spins');
is($m->{sha256}, body_sha256('rate', 450000), 'limit_rate: all of it');
cmp_ok($m->{at}{end}, '>', 2.8, 'limit_rate: not too fast');
cmp_ok($m->{at}{end}, '<', 9 * slow(), 'limit_rate: not too slow');
cmp_ok($m->{at}{body}, '<', 2 * slow(), 'limit_rate: from the beginning');

my $t0 = now();
is($t->get('/bytes/200000/after', digest => 1)->{sha256},
   body_sha256('rate', 200000), 'limit_rate_after: all of it');
cmp_ok(now() - $t0, '<', 8 * slow(), 'limit_rate_after: at once');

$t0 = now();
is($t->get('/bytes/2000000/set', digest => 1)->{sha256},
   body_sha256('rate', 2000000), '$limit_rate: all of it');
cmp_ok(now() - $t0, '<', 8 * slow(), '$limit_rate: at once');

$t0 = now();
my $r = run_command([ qw(curl -sS --http2-prior-knowledge -o /dev/null -w
                         %{size_download}),
                      'http://127.0.0.1:' . $n->port('H2') . '/bytes/250000' ]);
is($r->{out}, 250000, 'HTTP/2, limit_rate: all of it');
cmp_ok(now() - $t0, '>', 0.8, 'HTTP/2, limit_rate: not too fast');

# A client that goes away while it waits for its turn
$c = $t->client;
$c->request('GET', '/bytes/1000000');
$c->response(head_only => 1);
$c->close;
ok($t->wait_idle, 'limit_rate: a client that goes away');


# client_max_body_size

$b->clear_notes;

$m = $t->get('/limited', method => 'POST', body => 'x' x 1001);
is($m->{status}, 413, 'client_max_body_size');
is($t->get('/limited', method => 'POST', body => 'x' x 1000)->{body}, 1000,
   'up to it');
is(scalar(grep { /limited/ } $b->notes), 1, 'the backend saw one of them');

$m = $t->get('/limited', method => 'POST', body => 'x' x 1000, chunked => 1);
is($m->{body}, 1000, 'up to it, chunked');

$c = $t->client;
$c->request('POST', '/limited', chunked => 1);
$c->chunk('x' x 600);
ok($b->wait_note(qr/limited/), 'chunked: it has begun');
$c->chunk('x' x 600);
is($c->response->{status}, 413, 'chunked: and is refused on the way');
$c->close;
ok($t->wait_idle, 'nothing stays behind');

$t->done;
