#!/usr/bin/perl

# Lists: in pages; and of many backends, made by many clients at once, over many
# workers and with a state, without a stall for anybody else.

use lib 't/lib';
use InvertingProxy::Test;

use IO::Poll qw(POLLIN POLLOUT POLLHUP POLLERR);
use JSON::PP qw(decode_json);
use POSIX ();

# The sanitizers make everything several times slower.
my $many = $ENV{INVERTING_PROXY_BACKENDS}
           || ($ENV{INVERTING_PROXY_PRELOAD} ? 10000 : 100000);
my $clients = 2;
my $connections = 64;           # of each of them

my $t = InvertingProxy::Test->new(timeout => 600);

my $n = $t->nginx(workers => 2, connections => 512, http => <<'EOT');
    inverting_proxy_zone zone=main:128m registry=96m state=%%DIR%%/state/main.db;
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


# Requests, as many at a time as there are connections; returns how many were
# not answered 200.

sub all_of {
    my (@requests) = @_;

    my (%of, %asked);
    my $poll = IO::Poll->new;

    for my $i (0 .. $#requests) {
        $asked{$i % $connections} .= $requests[$i];
    }

    for my $i (keys %asked) {
        my $sock = $t->client->fh;
        $sock->blocking(0);
        $of{$sock} = { fh => $sock, out => $asked{$i}, in => '',
                       left => scalar(() = $asked{$i} =~ m{ HTTP/1\.1\r\n}g) };
        $poll->mask($sock => POLLIN | POLLOUT);
    }

    my $good = 0;

    while (%of) {
        $poll->poll(60 * slow()) > 0 or last;

        for my $sock ($poll->handles(POLLOUT)) {
            my $c = $of{$sock};
            my $n = syswrite($sock, $c->{out}, 16384);
            substr($c->{out}, 0, $n, '') if $n;
            $poll->mask($sock => POLLIN) if $c->{out} eq '';
        }

        for my $sock ($poll->handles(POLLIN | POLLHUP | POLLERR)) {
            my $c = $of{$sock};
            my $n = sysread($sock, $c->{in}, 65536, length $c->{in});

            if ($n) {
                my $answers = () = $c->{in} =~ m{HTTP/1\.1 \d+ [^\r]*\r\n}g;
                $good += () = $c->{in} =~ m{HTTP/1\.1 200 [^\r]*\r\n}g;
                $c->{left} -= $answers;

                # But for what may be the beginning of the next one.
                $c->{in} =~ s/.*\r\n//s;
            }

            if ($c->{left} <= 0 || (defined $n && $n == 0)) {
                $poll->remove($sock);
                delete $of{$sock};
            }
        }
    }

    return @requests - $good;
}


# The same by several clients; what it takes, so that it is seen what grows.

sub storm {
    my ($name, @requests) = @_;

    my $t0 = now();

    my @pids = map {
        my $number = $_;
        my $pid = fork();

        if ($pid == 0) {
            my @mine = @requests[grep { $_ % $clients == $number }
                                 0 .. $#requests];
            my $failed = eval { all_of(@mine) };
            print STDERR $@ if $@;
            POSIX::_exit(!defined $failed || $failed ? 1 : 0);
        }

        $pid;
    } 0 .. $clients - 1;

    my $failed = 0;
    for my $pid (@pids) { waitpid($pid, 0); $failed++ if $? }
    is($failed, 0, $name);
    diag(sprintf('%s: %.1f s', $name, now() - $t0))
        if $ENV{INVERTING_PROXY_KEEP};
    return;
}


# Many, and small requests beside the list of all.

my @ids = map { "b-$_" } 1 .. $many;

storm("$many are created", map {
    my $body = "{\"id\":\"$_\",\"endUser\":\"u-$_\",\"pathPrefixes\":[\"/\"]}";
    "POST /api/backends HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    . length($body) . "\r\n\r\n$body";
} @ids);

my $lister = fork();

if ($lister == 0) {
    my $mine = $t->client(timeout => 60);
    for (1 .. 3) {
        my $m = $mine->get('/api/backends', digest => 1);
        POSIX::_exit(1) if $m->{status} != 200;
    }
    POSIX::_exit(0);
}

my $worst = 0;
my $asked = 0;

# The first one may have been closed: it was idle for long.
$c = $t->client;

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
cmp_ok($worst, '<', 1 * slow(), 'none of them waits long');

# Not decoded: in Perl that takes longer than all the rest.

sub page {
    my ($args) = @_;
    my $body = $t->get("/api/backends$args", timeout => 60)->{body};
    return ($body =~ s/"lastSeen":"[^"]*",//gr, [ $body =~ /\{"id":"([^"]*)"/g ]);
}

my ($whole, $all) = page('');
is(join(' ', @$all), join(' ', sort @ids), 'all are in the list');

my ($after, @paged) = ('');
do {
    my (undef, $page) = page('?limit=5000' . ($after eq '' ? ''
                                                           : "&after=$after"));
    push @paged, @$page;
    $after = @$page ? $page->[-1] : undef;
} while (defined $after);

is(join(' ', @paged), join(' ', @$all), 'and in its pages');

cmp_ok(-s "$n->{dir}/state/main.db-wal", '<', 64 << 20,
       'the log of the state has not grown with them');

# The file has them as well; each worker kept in step with the others.
ok($n->quit, 'quit');
$n->start;
ok((page(''))[0] eq $whole, 'all are in the file');

storm('and all of them deleted', map {
    "DELETE /api/backends/$_ HTTP/1.1\r\nHost: localhost\r\n\r\n"
} @ids);
is(ids(''), '', 'none is left');

ok($n->quit, 'quit');
$n->start;
is(ids(''), '', 'nor in the file');

$t->done;
