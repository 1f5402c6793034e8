#!/usr/bin/perl

# Lists: in pages; and of many backends, made by many clients at once, without
# a stall for anybody else.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);
use POSIX ();

my $many = $ENV{INVERTING_PROXY_BACKENDS} || 20000;
my $clients = 4;

my $t = InvertingProxy::Test->new(timeout => 600);

my $n = $t->nginx(workers => 1, http => <<'EOT');
    inverting_proxy_zone zone=main:128m registry=64m;
    server {
        listen 127.0.0.1:%%PORT%%;
        keepalive_requests 1000000;
        location /api/ { inverting_proxy_api main write=on; }
        location /ok { return 200 ok; }
    }
EOT

sub list {
    my ($args) = @_;
    my $m = $t->get("/api/backends$args");
    $m->{json} = decode_json($m->{body});
    return $m;
}

sub ids { return join(' ', map { $_->{id} } @{list($_[0])->{json}}) }

sub create {
    my ($c, $id) = @_;
    return $c->get('/api/backends', method => 'POST',
                   body => "{\"id\":\"$id\",\"endUser\":\"u-$id\","
                           . '"pathPrefixes":["/"]}')->{status};
}

my $c = $t->client;
create($c, $_) for qw(e b d a c);

is(ids(''), 'a b c d e', 'all of them');
is(ids('?limit=2'), 'a b', 'the first page');
is(ids('?limit=2&after=b'), 'c d', 'the next one');
is(ids('?after=d&limit=2'), 'e', 'the last one');
is(ids('?limit=5'), 'a b c d e', 'as many as there are');
is(ids('?limit=10000'), 'a b c d e', 'more than there are');
is(ids('?after=bb'), 'c d e', 'after one that is not there');
is(ids('?after=e'), '', 'after the last one');
is(list('?limit=1')->header('Content-Type'), 'application/json', 'JSON');

for my $bad ([ 'limit', 'limit=' ], [ 'limit', 'limit=0' ], [ 'limit', 'limit=10001' ],
             [ 'limit', 'limit=-1' ], [ 'limit', 'limit=1x' ],
             [ 'limit', 'limit=99999999999999999999' ],
             [ 'after', 'after=' ], [ 'after', 'after=a/b' ],
             [ 'after', 'after=' . 'x' x 129 ], [ 'after', 'after=%00' ])
{
    my $m = list("?$bad->[1]");
    is($m->{status}, 400, "$bad->[1]: refused");
    is($m->{json}{error}{field}, $bad->[0], "$bad->[1]: the parameter");
}

$c->get("/api/backends/$_", method => 'DELETE') for qw(a b c d e);


# Many, and small requests beside the list of all.

my @pids = map {
    my $number = $_;
    my $pid = fork();

    if ($pid == 0) {
        my $mine = $t->client(timeout => 60);
        my $failed = 0;
        for my $i (1 .. $many / $clients) {
            $failed++ if create($mine, "b-$number-$i") != 200;
        }
        POSIX::_exit($failed ? 1 : 0);
    }

    $pid;
} 1 .. $clients;

my $failed = 0;
for my $pid (@pids) { waitpid($pid, 0); $failed++ if $? }
is($failed, 0, "$many are created");

my $lister = fork();

if ($lister == 0) {
    my $mine = $t->client(timeout => 60);
    for (1 .. 5) {
        my $m = $mine->get('/api/backends', digest => 1);
        POSIX::_exit(1) if $m->{status} != 200;
    }
    POSIX::_exit(0);
}

my $worst = 0;
my $asked = 0;

while (waitpid($lister, POSIX::WNOHANG()) == 0) {
    my $t0 = now();
    $c->get('/ok');
    my $took = now() - $t0;
    $worst = $took if $took > $worst;
    $asked++;
    nap(0.001);
}

is($?, 0, 'they are listed');
cmp_ok($asked, '>', 0, 'small requests meanwhile');
cmp_ok($worst, '<', 0.25 * slow(), 'none of them waits long');

my $all = list('')->{json};
is(scalar @$all, $many, 'all are in the list');

my ($after, @paged) = ('');
do {
    my $page = list('?limit=5000' . ($after eq '' ? '' : "&after=$after"));
    push @paged, map { $_->{id} } @{$page->{json}};
    $after = @{$page->{json}} ? $page->{json}[-1]{id} : undef;
} while (defined $after);

is_deeply(\@paged, [ map { $_->{id} } @$all ], 'and in its pages');

$c->get("/api/backends/$_", method => 'DELETE') for @paged;
is(ids(''), '', 'and deleted');

$t->done;
