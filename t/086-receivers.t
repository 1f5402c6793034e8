#!/usr/bin/perl

# Many agents of one backend: whoever has room is found, and those of other
# backends still get in.

use lib 't/lib';
use InvertingProxy::Test;
use IO::Select;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 1, connections => 4000, http => <<'EOC');
    inverting_proxy_zone zone=main:1m;
    inverting_proxy_backend main b end_user=allUsers backend_user=b;
    inverting_proxy_backend main other end_user=allUsers backend_user=other
                            prefix=/other;
    inverting_proxy_agent_user $http_x_agent;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOC

my @b = (backend => 'b', headers => [ 'X-Agent: b' ]);

sub agents {
    my ($count) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($t->wait_status(sub { $_[0]->agents('b') == $count }),
              "$count agents");
}

# The one of the connections to which a request comes.
sub asked {
    my (@connections) = @_;

    my ($fh) = IO::Select->new(map { $_->{fh} } @connections)
               ->can_read(5 * slow());

    my ($one) = grep { $fh && $_->{fh} == $fh } @connections;
    $one->read_head if $one;

    return $one;
}

# One takes a poll, and a response comes by it.
sub served {
    my ($peer, $poll, $target) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $c = $t->client;
    $c->request('GET', $target);

    my $m = eval { $peer->poll_end($poll) };
    my $id = $m && $m->{ids} && $m->{ids}[0];
    ok($id, "$target: the poll that waits is told") or diag($@);

    if ($id) {
        $peer->fetch($id);
        $peer->respond($id, $peer->response(200, [], 'served'));
        is($c->response->{body}, 'served', "$target: a response");
    }

    $c->close;

    return;
}

# As many requests at once as there are connections of one request each.

my @h = map { $t->ptth(@b, alpn => 'http%2F1.1') } 1 .. 70;
agents(70);

my (@c, @busy);

for my $i (1 .. 70) {
    push @c, $t->client;
    $c[-1]->request('GET', "/$i");

    my $one = asked(@h) or last;
    @h = grep { $_ != $one } @h;
    push @busy, $one;
}

is(scalar @busy, 70, 'each has come to an idle connection');
$_->respond(200, [], 'ok') for @busy;
is(scalar(grep { $_->response->{status} == 200 } @c), 70, 'and is answered');

# They are free again: in any order.

$c[0]->request('GET', '/again');
my $again = asked(@busy);
ok($again, 'one has the next request');
$again->respond(200, [], 'again');
is($c[0]->response->{body}, 'again', 'and answers it');
$_->close for @busy, @c;
agents(0);

# A poll behind more connections than are looked at, which take nothing.

@h = map { $t->ptth(@b, settings => { MAX_CONCURRENT_STREAMS => 0 }) } 1 .. 70;
agents(70);
$_->wait(sub { $_->{settings_acks} }) for @h;

my $p = $t->peer(@b);
my $poll = $p->poll;
agents(71);
served($p, $poll, '/behind');
$_->close for @h;
agents(0);

# All polls that one backend can have.

my $total = $t->status->{doc}{zone}{receivers}{total};
my @p = map { $p->poll } 1 .. $total;
ok($t->wait_status(sub { $_[0]->agents('b') >= $total / 2 }),
   "half of $total are one backend's");
cmp_ok($t->status->agents('b'), '<=', $total / 2 + 1, 'and no more');
is($p->pending->{status}, 503, 'one more is refused');

my $other = $t->peer(backend => 'other', headers => [ 'X-Agent: other' ]);
$poll = $other->poll;
ok($t->wait_status(sub { $_[0]->agents('other') == 1 }),
   'an agent of another backend');
served($other, $poll, '/other');
$_->close for @p;

$t->done;
