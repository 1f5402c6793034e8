#!/usr/bin/perl

# Bodies of every size at which something changes, in both directions and both
# framings, with an agent and with its part done by hand; all are checked.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

# A chunk of the zone, the first share of a pipe, and one more or less; the head
# of a response shares a pipe with its body, so what fits is a little less, too.
my @sizes = (0, 1, 2, 4095, 4096, 4097, 8192, 16384, 32767, 32768, 32769,
             65535, 65536, 65537, 1024 * 1024);

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my ($framing, $size) = $req->{target} =~ m{^/(\w+)/(\d+)};

    $c->read_body($req, digest => 1);

    my @fields = ("X-Up: $req->{framing} $req->{length} $req->{sha256}");
    my $body = random_body('down', $size);

    if ($framing eq 'close') {
        $c->head(200, [ @fields, 'Connection: close' ]);
        $c->send_body($body);
        return 0;
    }

    return $c->respond(200, \@fields, $body,
                       $framing eq 'chunked' ? (chunked => 1)
                                             : (length => $size));
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my ($m, $c);


# With an agent: the same connection all the time, so that a byte too many or too
# few shows in the next response at the latest.

$c = $t->client(timeout => 20);

for my $size (@sizes) {
    for my $framing (qw(length chunked close)) {
        $m = $c->get("/$framing/$size", digest => 1);
        is($m->{sha256}, body_sha256('down', $size), "$size down, $framing");

        # In HTTP/2 what ends with its head has no body.
        my $expected = $framing eq 'length' ? 'length'
                       : $size == 0 && $t->over_ptth ? 'chunked|length'
                       : 'chunked';
        like($m->{framing}, qr/^(?:$expected)$/,
             "$size down, $framing: its framing");
        is($m->{cut}, undef, "$size down, $framing: whole");
    }

    for my $framing (qw(length chunked)) {
        $m = $c->get("/length/$size", method => 'POST', digest => 1,
                     body => random_body('up', $size),
                     $framing eq 'length' ? (length => $size) : ());
        is($m->header('X-Up'), "$framing $size " . body_sha256('up', $size),
           "$size up, $framing");
        is($m->{sha256}, body_sha256('down', $size), "$size back, $framing");
    }
}

$c->close;


# In small pieces: each arrives in a read of its own.

my $data = body_bytes('bits', 40);

$c = $t->client;
$c->request('POST', '/length/0', length => length $data);
$c->write_slowly($data, 1, 0.002);
$m = $c->response;
is($m->header('X-Up'), 'length 40 ' . body_sha256('bits', 40),
   'byte by byte');

$c->request('POST', '/length/0', chunked => 1);
$c->write_slowly(join('', map { "1\r\n$_\r\n" } split(//, $data))
                 . "0\r\n\r\n", 3, 0.001);
$m = $c->response;
is($m->header('X-Up'), 'chunked 40 ' . body_sha256('bits', 40),
   'chunks of one byte, their framing in pieces');
$c->close;


# By hand

my $p = $t->peer(backend => 'hand');

$c = $t->client(timeout => 20);

my $poll = $p->poll;
$t->wait_status(sub { $_[0]->agents('hand') == 1 });

for my $size (@sizes) {
    for my $framing (qw(length chunked)) {
        my $up = body_bytes('up', $size);
        my $down = body_bytes('down', $size);

        # What does not fit into a pipe is sent while it is fetched.
        my $pid = fork();
        if ($pid == 0) {
            $c->request('POST', '/hand', body => random_body('up', $size),
                        $framing eq 'length' ? (length => $size) : ());
            POSIX::_exit(0);
        }

        if ($poll) {
            push @{$p->{ids}}, @{$p->poll_end($poll)->{ids}};
            $poll = undef;
        }

        my $id = $p->take;
        my $f = $p->fetch($id, digest => 1);
        is($f->{request}{sha256}, body_sha256('up', $size),
           "$size fetched, $framing");
        is($f->{request}{framing}, $framing, "$size fetched: its framing");
        is($f->{request}{cut}, undef, "$size fetched, $framing: whole");
        is($f->{rest}, '', "$size fetched, $framing: and no more");
        waitpid($pid, 0);

        $pid = fork();
        if ($pid == 0) {
            my $w = $p->post($id);
            $w->write("HTTP/1.1 200 OK\r\n"
                      . ($framing eq 'length'
                         ? "Content-Length: $size\r\n\r\n"
                         : "Transfer-Encoding: chunked\r\n\r\n"));

            for (my $at = 0; $at < $size; $at += 50000) {
                my $piece = substr($down, $at, 50000);
                $w->write($framing eq 'length' ? $piece
                          : sprintf("%x\r\n", length $piece)
                            . "$piece\r\n");
            }

            $w->write("0\r\n\r\n") if $framing eq 'chunked';
            my $status = $w->finish->{status};
            POSIX::_exit($status == 200 ? 0 : 1);
        }

        $c->{method} = 'POST';
        $m = $c->response(digest => 1);
        is($m->{sha256}, body_sha256('down', $size), "$size posted, $framing");
        is($m->{framing}, $framing, "$size posted, its framing");
        waitpid($pid, 0);
        is($?, 0, "$size posted, $framing: the POST is answered 200");
    }
}

$c->close;

$t->done;
