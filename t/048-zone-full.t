#!/usr/bin/perl

# The zone is full: new requests are refused, old ones go on, and afterwards all
# is as before.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;
my $size = 300_001;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{method} eq 'PUT') {
        $c->read_body($req, digest => 1);
        return $c->respond(200, [], $req->{sha256});
    }

    if ($req->{target} eq '/large') {
        # Not before all of them have asked: what the zone keeps for new requests
        # is less than they need.
        nap(slow());
        return $c->respond(200, [], random_body('down', 1e9), length => 1e9);
    }

    return $c->respond(200, [], 'small');
});

my $n = $t->nginx(workers => 2, connections => 2048, http => <<'EOT');
    inverting_proxy_zone zone=main:1m registry=64k;
    inverting_proxy_backend main hand end_user=allUsers prefix=/hand
                            backend_user=a;
    inverting_proxy_backend main real end_user=allUsers backend_user=a;
    inverting_proxy_agent_user a;
    inverting_proxy_backend_timeout 60s;
    inverting_proxy_queue 10000 timeout=30s;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location = /agent/pending {
            # not of PTTH: there it is how soon an agent has to answer
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 200ms;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $p = $t->peer(backend => 'hand');
my $s = $t->status;
my $total = $s->chunks_total;

cmp_ok($total, '>', 100, "the zone has $total chunks");


# full of requests that wait

sub fill_up {
    my ($method, %opt) = @_;

    my @c;
    my $refused;

    while (!$refused && @c < 2000) {
        my $c = $t->client(timeout => 30);
        my $before = $t->status->{doc}{zone}{refused}{zoneFull};

        $c->request($method, '/hand', %opt);

        $t->wait_status(sub {
            $refused = $_[0]->{doc}{zone}{refused}{zoneFull} > $before;
            $refused || $_[0]->waiting('hand') == @c + 1;
        });

        push @c, $c;
    }

    return ($refused, @c);
}


$p->pending;
my ($refused, @c) = fill_up('GET');
ok($refused, 'the zone is full after ' . @c . ' requests');
cmp_ok(scalar @c, '>', 100, 'not before it is');

my $m = pop(@c)->response;
is($m->{status}, 503, 'one more is refused');
is($m->header('Retry-After'), 1, 'Retry-After');
is($t->get('/hand')->{status}, 503, 'and another one');
is(scalar(() = $n->log =~ /inverting_proxy_zone "main" is full/g), 1,
   'one line in the log');
like($n->log, qr/\[error\].* inverting_proxy_zone "main" is full/, 'an error');
is($t->status->{doc}{zone}{refused}{zoneFull}, 2, 'counted');

my ($good, $served) = (0, 0);
my $body = body_bytes('hand', $size);

# An ID that is told is good for a few seconds.
my @posts = map { my $id = $p->take; $p->fetch($id); $p->post($id) } @c;

for my $c (@c) {
    my $w = shift @posts;

    # large ones at first, while there is no other chunk left
    my $large = $served++ < 10;
    my $pid = fork();

    if ($pid == 0) {
        $w->write($p->response(200, [], $large ? $body : 'small'));
        $w->finish;
        POSIX::_exit(0);
    }

    $m = $c->response;
    $good++ if $m->{body} eq ($large ? $body : 'small');
    waitpid($pid, 0);
    $_->close for $c, $w;
}

is($good, scalar @c, 'those that were in it are served, large responses too');
ok($t->wait_idle, 'the zone is idle');
is($t->status->chunks_total, $total, 'and whole');


# full of uploads

my $length = 100_000;
($refused, @c) = fill_up('PUT', length => $length);
ok($refused, 'the zone is full after ' . @c . ' uploads');
is(pop(@c)->response->{status}, 503, 'one more is refused');

$good = 0;

for my $i (0 .. 9) {
    my $pid = fork();

    if ($pid == 0) {
        $c[$i]->send_body(random_body("up$i", $length));
        POSIX::_exit(0);
    }

    my $id = $p->take;
    my $f = $p->fetch($id, digest => 1);

    $good++ if $f->{request}{sha256} eq body_sha256("up$i", $length);
    $p->respond($id, $p->response(200, [], 'x'));
    waitpid($pid, 0);
    is($c[$i]->response->{status}, 200, 'an upload in a full zone');
}

is($good, 10, 'whole');
$_->close for @c;
ok($t->wait_idle, 'the zone is idle');


# slow readers: a zone that is full of responses has room for requests

my $a = $t->agent(backend => 'real', host => $b->address);
my @slow;

for (1 .. 40) {
    my $c = $t->client(rcvbuf => 4096, timeout => 30);
    $c->request('GET', '/large');
    push @slow, $c;
}

# until their number is all that grows
my ($before, $same) = (-1, 0);

waitfor(sub {
    my $used = $t->status->chunks_used;
    $same = $used == $before ? $same + 1 : 0;
    $before = $used;
    nap(0.1);
    $same > 5 && $t->status->transactions == 40;
}, 30);

$s = $t->status;
is($s->transactions, 40, '40 slow readers');
cmp_ok($s->chunks_free, '>=', int($total / 8) - 40 * 2,
       'they do not eat the zone: ' . $s->chunks_free . " of $total are free");

my $ok = 0;
my ($long, $longest) = (0, 0);

for (1 .. 100) {
    $m = $t->get('/small');
    $ok++ if $m->{status} == 200 && $m->{body} eq 'small';
    $longest = $m->{at}{end} if $m->{at}{end} > $longest;
    $long++ if $m->{at}{end} >= 1 * slow();
}

is($ok, 100, '100 small requests beside them');
# One or another may, on a busy machine.
cmp_ok($long, '<=', 3, 'hardly one takes long');
cmp_ok($longest, '<', 5 * slow(), sprintf('none very long: %.3f s', $longest));

$m = $t->get('/', method => 'PUT', body => random_body('up', $size));
is($m->{body}, body_sha256('up', $size), 'an upload beside them');


# they read on

for my $c (@slow[0 .. 4]) {
    $m = $c->response(head_only => 1);
    is($m->{status}, 200, 'a slow reader reads on');
    $c->body_start($m);

    my ($sha, $got) = ('', 0);
    my $next = random_body('down', 1e9);
    my $want = '';

    while ($got < $size) {
        defined(my $piece = $c->body_piece) or last;
        $want .= $next->() while length $want < length $piece;
        substr($want, 0, length $piece, '') eq $piece or last;
        $got += length $piece;
    }

    cmp_ok($got, '>=', $size, 'and gets what was sent');
}

$_->close for @slow;
ok($t->wait_idle, 'the zone is idle again');
is($t->status->chunks_free, $total, 'no chunk is missing');

$t->done;
