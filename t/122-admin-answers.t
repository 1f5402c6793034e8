#!/usr/bin/perl

# inverting-proxy-admin against a stand-in: keys, lists of any length, answers
# that are cut or are not the API's, and --watch.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Admin;

use JSON::PP ();

my $t = InvertingProxy::Test->new;
my $json = JSON::PP->new->utf8->canonical;
my $many = 100000;
my $type = 'Content-Type: application/json';

my %key = (id => 'k1', created => '2001-02-03T04:05:06Z');

sub error {
    my ($c, $status, $message) = @_;
    return $c->respond($status, [ $type ], $json->encode(
        { error => { status => $status, message => $message } }) . "\n");
}

sub list {
    my ($c) = @_;
    my $n = 0;

    return $c->respond(200, [ $type ], sub {
        return undef if $n > $many;

        my $piece = $n ? '' : '[';
        for (1 .. 1000) {
            last if $n == $many;
            $piece .= ($n ? ",\n" : '') . '{"id":"backend-' . $n++ . '",'
                      . '"endUser":"user@example.com","backendUser":"b",'
                      . '"pathPrefixes":["/"],"agents":0,"waiting":0}';
        }

        if ($n == $many) {
            $n++;
            $piece .= "]\n";
        }

        return $piece;
    }, chunked => 1);
}

my $folded = $t->dir . '/folded';

my $server = $t->backend(sub {
    my ($c, $req) = @_;
    my $what = "$req->{method} $req->{target}";

    $c->read_body($req);
    $c->note("$what $req->{body}");

    if ($what eq 'POST /api/backends/home/keys') {
        my $given = $json->decode($req->{body});
        return $c->respond(200, [ $type ], $json->encode(
            { %key, backend => 'home', secret => 'ipk_0123456789',
              note => $given->{note} }));

    } elsif ($what eq 'GET /api/backends/home/keys') {
        return $c->respond(200, [ $type ], $json->encode([
            { %key, lastUsed => undef, note => "lap\x{1b}top" },
            { %key, id => 'k2', lastUsed => '2001-02-03T04:05:06Z',
              note => '' } ]));

    } elsif ($what eq 'DELETE /api/backends/home/keys/k1') {
        return $c->respond(200, [ $type ], "{}\n");

    } elsif ($what =~ m{^DELETE .*/keys/}) {
        return error($c, 404, 'there is no such key');

    } elsif ($what eq 'GET /many/backends') {
        return list($c);

    } elsif ($what eq 'GET /cut/backends') {
        $c->respond(200, [ $type, 'Content-Length: 100' ], undef);
        $c->write('[{"id":"a"},');
        return 0;

    } elsif ($what eq 'GET /short/backends') {
        return $c->respond(200, [ $type ], '[{"id":"a"}');

    } elsif ($what eq 'GET /broken/backends') {
        return $c->respond(200, [ $type ], '[{"id":"a"},{id}]');

    } elsif ($what =~ m{^GET /page/}) {
        return $c->respond(200, [ 'Content-Type: text/html' ], '<p>Hello');

    } elsif ($what =~ m{^GET /moved/}) {
        return $c->respond(301, [ 'Location: /api/' ], '');

    } elsif ($what =~ m{^GET /evil/}) {
        return error($c, 400, "a\x{1b}[2Jb");

    } elsif ($what =~ m{^GET /mute/}) {
        $c->wait_end(20);
        return 0;

    } elsif ($what eq 'GET /folded/status') {
        # every second head begins with a folded line
        $c->write("HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 0\r\n\r\n")
            if -e $folded;
        return 0 if unlink($folded);
        spew($folded, '');
        return $c->respond(200, [ $type ],
                           '{"zone":{"name":"z"},"workers":[],"backends":[]}');

    } elsif ($what eq 'GET /api/status') {
        return $c->respond(200, [ $type ], $json->encode({
            version => '9', zone => { name => 'z', size => 1048576 },
            workers => [ { pid => 1, exiting => JSON::PP::true } ],
            backends => [ map { { id => "b$_", agents => 1, waiting => $_,
                                  active => 0 } } 1 .. 30 ] }));
    }

    return error($c, 404, 'there is no such backend');
});

my $admin = InvertingProxy::Test::Admin->new(rig => $t,
                                             server => $server->url . '/api/');

sub done {
    my (@args) = @_;

    my $r = $admin->run(@args);
    is("$r->{status} $r->{err}", '0 ', join(' ', @args));

    return $r->{out};
}

sub refused {
    my ($status, $says, @args) = @_;

    my $r = $admin->run(@args);
    is("$r->{status} $r->{out}", "$status ", join(' ', @args, 'is refused'));
    like($r->{err}, qr/^inverting-proxy-admin: .*$says/s, '... and says why');

    return $r->{err};
}

sub at { return ('--server', $server->url . "/$_[0]/") }


# Keys

like(done(qw(keys create home --note laptop)),
     qr/^id\ +k1\nbackend\ +home\ncreated\ +2001-02-03T04:05:06Z\n
        note\ +laptop\nsecret\ +ipk_0123456789\n/x, 'a key');
is(done(qw(keys create home --quiet)), "ipk_0123456789\n", 'its secret only');
is($json->decode(done(qw(keys create home --json --note x)))->{note}, 'x',
   'as JSON');
is_deeply([ grep { /^POST/ } $server->notes ],
          [ 'POST /api/backends/home/keys {"note":"laptop"}',
            'POST /api/backends/home/keys {}',
            'POST /api/backends/home/keys {"note":"x"}' ], 'what was sent');

like(done(qw(keys list home)), qr/^ID  CREATED +LAST USED +NOTE
k1  \d+d ago +-  +lap\?top
k2  \d+d ago +\d+d ago +-\n\z/, 'a list');
is(done(qw(keys list home --quiet)), "k1\nk2\n", 'ids');
is(scalar @{$json->decode(done(qw(keys list home --json)))}, 2, 'as JSON');

is(done(qw(keys revoke home k1)),
   "key \"k1\" of backend \"home\" is revoked\n", 'revoked');
is(done(qw(keys revoke home k1 --quiet)), '', 'quietly');
refused(3, 'no such key', qw(keys revoke home k9));
refused(3, 'no such backend', qw(keys list nobody));

for my $case ([ '--quiet', qr/key k1 was made, but its secret is lost/ ],
              [ '--json', qr/a key was made, but its secret is lost: "keys / ])
{
    my ($flag, $told) = @$case;
    my $r = run_command([ 'sh', '-c', '"$@" >/dev/full', 'sh',
                          $admin->argv(qw(keys create home), $flag) ],
                        env => $admin->env);
    is($r->{status}, 1, "a secret that cannot be written, $flag");
    like($r->{err}, $told, "$flag: is told");
    is(scalar(() = $r->{err} =~ /cannot write/g), 1, "$flag: once");
}


# Lists

is(scalar(split(/\n/, done(qw(backends list), at('many')))), $many + 1,
   'a long table');
is(scalar @{$json->decode(done(qw(backends list --json), at('many')))}, $many,
   'as JSON');

SKIP: {
    skip 'an instrument needs memory of its own', 1
        if $ENV{INVERTING_PROXY_PRELOAD} || $ENV{INVERTING_PROXY_VALGRIND};

    my $r = run_command([ 'sh', '-c', 'ulimit -d 8000; "$@" | tail -n 1', 'sh',
                          $admin->argv(qw(backends list), at('many')) ],
                        env => $admin->env);
    like($r->{out}, qr/^backend-99999 +user\@example\.com +b +\/ /,
         'in 8 MB of memory');
}

my $r = run_command([ 'sh', '-c', '"$@" | head -n 1', 'sh',
                      $admin->argv(qw(backends list --quiet), at('many')) ],
                    env => $admin->env);
is("$r->{out}$r->{err}", "backend-0\n", 'somebody has seen enough');


# Answers that are no good

refused(1, 'closed|transfer|missing', qw(backends list), at('cut'));
refused(1, 'not the JSON', qw(backends list), at('short'));
refused(1, 'not the JSON', qw(backends list), at('broken'));
refused(1, "not the API's.*inverting_proxy_api", qw(backends list --json),
        at('page'));
refused(1, '301.*inverting_proxy_api', qw(backends list), at('moved'));
refused(1, 'within 1 s; --timeout', qw(backends list --timeout 1), at('mute'));
unlike(refused(1, 'a\?\[2Jb', qw(backends list), at('evil')), qr/\x1b/,
       'nothing that a terminal obeys');


# Status

my $status = done('status');
like($status, qr/^zone +z, 1\.0 MiB, version 9\nworkers +1 \(1 exiting\)$/m,
     'what there is');
like($status, qr/^requests +- of - in use/m, 'and what there is not');
like($status, qr/^backends +30: 30 with an agent, 465 waiting/m, 'sums');
like($status, qr/^b30 .*^b11 [^\n]*\nand 10 more$/ms, 'the busiest');
unlike($status, qr/^b10 /m, 'and no more');

my $watch = $admin->spawn('watch', qw(status --watch 1));
ok(waitfor(sub { (() = slurp($admin->{out}) =~ /^zone/mg) >= 2 }),
   'shown again');
$server->stop;
ok(waitfor(sub { slurp($admin->{out}) =~ /Is nginx running/ }),
   'the server goes away');
$server->start;
my $before = length slurp($admin->{out});
ok(waitfor(sub { substr(slurp($admin->{out}), $before) =~ /^zone/m }),
   'and comes back');
$watch->signal('INT');
ok($watch->wait(5), 'Ctrl-C ends it');
is($watch->status, 0, 'with status 0');
is_deeply([ $watch->finish ], [], 'and nothing is left');

# libcurl before 8.1 adds the folded line to what it has freed.
$before = length slurp($admin->{out});
$watch = $admin->spawn('folded', '--server', $server->url . '/folded/',
                       qw(status --watch 1));
ok(waitfor(sub { (() = substr(slurp($admin->{out}), $before) =~ /^zone/mg) >= 3
                 || !$watch->alive }) && $watch->alive,
   'a folded line is a bad answer, and no more')
    or diag(slurp($admin->{out}));
$watch->signal('INT');
ok($watch->wait(5), 'Ctrl-C ends it');
is($watch->status, 0, 'with status 0');
is_deeply([ $watch->finish ], [], 'and nothing is left');

SKIP: {
    skip 'there is no "script"', 1
        if run_command([ 'sh', '-c', 'command -v script' ])->{status};

    my $screen = "$t->{dir}/screen";
    my $script = InvertingProxy::Test::Process->spawn(
        name => 'script', out => $screen, err => $screen,
        argv => [ 'script', '-qefc',
                  join(' ', 'timeout --foreground -s INT', 20 * slow(),
                       $admin->argv(qw(status --watch 1))), '/dev/null' ],
        env => { %{$admin->env}, TERM => 'vt100' });
    ok(waitfor(sub {
        slurp($screen)
            =~ /\e\[2J\e\[Hzone [^\n]*\e\[K\r\n.*\e\[J\e\[Hzone /s
    }), 'redrawn on a terminal') or diag(slurp($screen));
    $script->stop('TERM');
    $script->finish;
}

$server->stop;
refused(1, 'Is nginx running', qw(status --watch));

$t->done;
