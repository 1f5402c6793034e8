#!/usr/bin/perl

# Several agents of a backend: the least loaded one is asked, one of the same
# worker first.  The worker that a connection has reached is named, so that an
# agent can have one in each.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 3, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
        location /pid { return 200 "$pid"; }
    }
EOT

sub arrived {
    return map { my $h = $_; $h->wait(sub { 0 }, 0.005);
                 scalar @{$h->{arrived}} } @_;
}

# One in each worker.

my %h;
my %extra;

for (1 .. 200) {
    my $h = $t->ptth(backend => 'b', wait => 0);
    my $worker = $h->{answer}->header('X-Inverting-Proxy-Worker');
    like($worker, qr{^[0-2]/3$}, 'a worker and their number') or last;
    $h{$worker} ? $h->close : ($h{$worker} = $h);
    last if keys %h == 3;
}

is(join(' ', sort keys %h), '0/3 1/3 2/3', 'each worker was reached');
my @h = values %h;
ok($t->wait_status(sub { $_[0]->agents('b') == 3 }), 'three agents');

# Requests that are held: each of them has its share of them.

my @c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 30;
ok(waitfor(sub { my $sum = 0; $sum += $_ for arrived(@h); $sum == 30 }),
   'thirty requests');
my @share = sort { $a <=> $b } arrived(@h);
cmp_ok($share[0], '>', 0, "each has some (@share)");

# Every one of them answers; clients of all workers are served by each.

for my $h (@h) {
    my @x = splice(@{$h->{arrived}});
    $_->respond(200, [], $_->{target}) for @x;
    $_->flush for @x;
}
is(join(' ', map { $_->response->{body} } @c),
   join(' ', map { "/$_" } 1 .. 30),
   'all are answered');
$_->close for @c;

# One is full: the others are asked, whatever the worker.

$h[0]->settings(MAX_CONCURRENT_STREAMS => 0);
$h[0]->wait(sub { $h[0]{settings_acks} == 2 });
@c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 30;
ok(waitfor(sub { my $sum = 0; $sum += $_ for arrived(@h); $sum == 30 }),
   'thirty more');
is(scalar @{$h[0]{arrived}}, 0, 'who is full gets none');
for my $h (@h) {
    my @x = splice(@{$h->{arrived}});
    $_->respond(200, [], $_->{target}) for @x;
    $_->flush for @x;
}
is(scalar(grep { $_->response->{status} == 200 } @c), 30, 'all are answered');
$_->close for @c;

# Two of one worker: the one with less to do.

my ($first) = $h[1]{answer}->header('X-Inverting-Proxy-Worker');
$_->close for @h[0, 2];
ok($t->wait_status(sub { $_[0]->agents('b') == 1 }), 'one is left');

my $second;
for (1 .. 200) {
    $second = $t->ptth(backend => 'b', wait => 0);
    last if $second->{answer}->header('X-Inverting-Proxy-Worker') eq $first;
    $second->close;
}
ok($t->wait_status(sub { $_[0]->agents('b') == 2 }), 'two in one worker');
@h = ($h[1], $second);

@c = map { my $c = $t->client; $c->request('GET', "/$_"); $c } 1 .. 20;
ok(waitfor(sub { my $sum = 0; $sum += $_ for arrived(@h); $sum == 20 }),
   'twenty requests');
@share = arrived(@h);
is_deeply(\@share, [ 10, 10 ], 'evenly shared');
for my $h (@h) {
    my @x = splice(@{$h->{arrived}});
    $_->respond(200, [], 'ok') for @x;
    $_->flush for @x;
}
is(scalar(grep { $_->response->{status} == 200 } @c), 20, 'all are answered');
$_->close for @c, @h;

$t->done;
