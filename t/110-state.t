#!/usr/bin/perl

# The file of state=: what is kept over restarts and reloads, what is said of a
# file that is not good, and what happens when it can't be written.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);
use POSIX ();

my $t = InvertingProxy::Test->new;

my $conf = <<'EOT';
    inverting_proxy_zone zone=main:%%SIZE%% state=%%DIR%%/state/main.db;
    %%STATIC%%
    server {
        listen 127.0.0.1:%%PORT%%;
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 200ms;
        }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $n = $t->nginx(workers => 2, http => $conf,
                  vars => { SIZE => '4m', STATIC => '' });
my $folder = "$n->{dir}/state";
my $file = "$folder/main.db";

sub api {
    my ($method, $path, $data) = @_;

    my $m = $t->get("/api/$path", method => $method,
                    body => $data ? encode_json($data) : undef);
    $m->{json} = decode_json($m->{body});
    return $m;
}

sub create {
    my ($id, $user) = @_;
    return api('POST', 'backends',
               { id => $id, endUser => $user || 'allUsers',
                 pathPrefixes => [ "/$id", "/\x{e4}$id" ] })->{status};
}

sub ids {
    return join(' ', map { $_->{id} } @{api('GET', 'backends')->{json}});
}

sub poll {
    my ($secret) = @_;
    return $t->get('/agent/pending', headers => [ "Authorization: Bearer "
                                                  . $secret ])->{status};
}

is(create($_), 200, "$_ is created") for qw(a b c);
my $key = api('POST', 'backends/a/keys', { note => 'n' })->{json};
my $gone = api('POST', 'backends/a/keys')->{json};
is(poll($key->{secret}), 200, 'a key');
is(api('DELETE', "backends/a/keys/$gone->{id}")->{status}, 200, 'revoked');
is(api('DELETE', 'backends/b')->{status}, 200, 'b is deleted');
is(api('DELETE', 'backends/b')->{status}, 200, 'b once more');
is(api('POST', 'backends/b/keys')->{status}, 404, 'and has no keys');
is(create('a', 'me'), 200, 'a is replaced');

is((stat($folder))[2] & 07777, 0700, 'the folder is nobody else\'s');
is((stat($file))[2] & 07777, 0600, 'nor is the file');

sub check {
    my ($name) = @_;

    is(ids(), 'a c', "$name: what is there");
    is(api('GET', 'backends/a')->{json}{endUser}, 'me', "$name: as it was");
    is_deeply(api('GET', 'backends/c')->{json}{pathPrefixes},
              [ '/c', "/\x{e4}c" ], "$name: its prefixes");
    is_deeply([ map { "$_->{id} $_->{created} $_->{note}" }
                @{api('GET', 'backends/a/keys')->{json}} ],
              [ "$key->{id} $key->{created} n" ], "$name: its key");
    is(poll($key->{secret}), 200, "$name: is good");
    is(poll($gone->{secret}), 401, "$name: the other is not");
    return;
}

ok($n->reload, 'reload');
check('after a reload');
ok($n->quit, 'quit');
$n->start;
check('after a restart');
ok($n->reload(vars => { SIZE => '5m', STATIC => '' }), 'another size');
check('with another size');

# A static backend stands before one of the file, as long as it is there.

my $static = 'inverting_proxy_backend main c end_user=you backend_user=me;';
ok($n->reload(vars => { SIZE => '5m', STATIC => $static }), 'a static one');
is(api('GET', 'backends/c')->{json}{endUser}, 'you', 'it is in force');
is(create('c'), 403, 'and not to be changed');
ok($n->reload(vars => { SIZE => '5m', STATIC => '' }), 'and not any more');
ok(waitfor(sub { api('GET', 'backends/c')->{json}{endUser} eq 'allUsers' }),
   'the one of the file is back');

# Another state needs another zone.

(my $other = $conf) =~ s/main\.db/other.db/;
$n->mark;
$n->{http} = $other;
$n->write_conf;
$n->signal('HUP');
ok($n->wait_log(qr/\[emerg\].* had another "state" before/),
   'another file is refused');
$n->allow(qr/had another "state" before/);
$n->{http} = $conf;
$n->write_conf;


# A disk that fills up, where there may be one: what becomes of a full disk is in
# t/116-state-faults.t as well, for those who may not mount any.

mkdir("${folder}2");

if ($> == 0 && run_command([ 'mount', '-t', 'tmpfs', '-o', 'size=400k',
                             'tmpfs', "${folder}2" ])->{status} == 0)
{
    my $m = eval {
        (my $full = $conf) =~ s/%%DIR%%\/state/${folder}2/;
        my $d = $t->nginx(workers => 2, http => $full,
                          vars => { SIZE => '4m', STATIC => '' });
        my @prefixes = map { "/$_" . 'x' x 200 } 1 .. 20;
        my $post = sub {
            my ($id) = @_;
            my $m = $t->get('/api/backends', port => $d->port,
                            method => 'POST', body => encode_json({
                                id => $id, endUser => 'x' x 200,
                                pathPrefixes => \@prefixes }));
            $m->{json} = decode_json($m->{body});
            return $m;
        };
        my $list = sub {
            return map { $_->{id} } @{decode_json(
                       $t->get('/api/backends', port => $d->port)->{body})};
        };
        my (@made, $refused);

        for my $i (100 .. 400) {
            $refused = $post->("d$i");
            last if $refused->{status} != 200;
            push @made, "d$i";
        }

        is($refused->{status}, 500, 'the disk is full');
        like($refused->{json}{error}{message}, qr/state file/, 'it says so');
        like($d->log, qr/\[error\].*state file "\S+main\.db": .*full/i,
             'and the log');
        cmp_ok(scalar @made, '>', 3, 'some were made');
        is(join(' ', $list->()), "@made", 'nothing changed in memory');

        ok($d->quit, 'quit');
        $d->start;
        is(join(' ', $list->()), "@made", 'and the file is whole');

        run_command([ 'mount', '-o', 'remount,size=4m', "${folder}2" ]);
        is($post->('e')->{status}, 200, 'there is room again');
        is(join(' ', $list->()), "@made e", 'and there it is');
        $d->stop;
        1;
    };
    my $error = $@;
    run_command([ 'umount', "${folder}2" ]);
    die $error if !$m;
}


# Files that are not good: nginx does not start, and changes nothing.

$n->quit;
my $good = slurp($file);

sub bad {
    my ($name, $regex, $content) = @_;

    spew($file, $content) if defined $content;
    my $before = slurp($file);
    my $list = join(' ', sort glob("$folder/*"));
    my $r = $n->test;

    is($r->{status}, 1, "$name: nginx -t fails");
    like($r->{out}, qr/\[emerg\].*"main".*\Q$file\E.*$regex/,
         "$name: says why");
    ok(slurp($file) eq $before, "$name: the file is as it was");
    is(join(' ', sort glob("$folder/*")), $list, "$name: and the folder");

    eval { $n->start };
    like($@, qr/does not start/, "$name: nor does nginx start");
    $n->process->finish;
    return;
}

bad('an empty file', qr/no state of an inverting proxy/, '');
spew("$file-wal", 'x');
bad('an empty file, with its log', qr/is empty.*restore it/, '');
unlink("$file-wal");
bad('text', qr/not a database: restore it/, "something\n" x 1000);
bad('a truncated file', qr/restore it/,
    substr($good, 0, length($good) - 4096));
bad('a damaged page', qr/restore it/,
    substr($good, 0, 4096) . "\xa5" x (length($good) - 4096));

my $foreign = $good;
substr($foreign, 68, 4) = pack('N', 1);
bad('another application\'s', qr/no state of an inverting proxy/, $foreign);

my $newer = $good;
substr($newer, 60, 4) = pack('N', 2);
bad('a newer one', qr/newer version/, $newer);

unlink($file);
spew("$file-wal", 'x');
bad('without the file, with its log', qr/put it back, or remove both/);
unlink("$file-wal");

mkdir($file);
bad('a folder', qr/it is not a file/);
rmdir($file);

$n->allow(qr/inverting_proxy_zone "main": state file/);

# Workers that close it at the same time may leave "-shm" and "-wal" behind.
spew($file, $good);
my $there = join(' ', sort glob("$folder/*"));
is($n->test->{status}, 0, 'nginx -t with the good one');
is(join(' ', sort glob("$folder/*")), $there, 'makes no files');

$n->start;
check('the good one again');


# Many clients on many workers, the same few backends: one registry.

my @pids = map {
    my $number = $_;
    my $pid = fork();

    if ($pid == 0) {
        my $c = $t->client;

        for my $i (1 .. 60) {
            my $id = 'same' . $i % 5;
            my $m = $i % 7 ? $c->get('/api/backends', method => 'POST',
                                     body => encode_json({ id => $id,
                                         endUser => "u$number-$i",
                                         pathPrefixes => [ '/' ] }))
                           : $c->get("/api/backends/$id", method => 'DELETE');
            POSIX::_exit(1) if $m->{status} != 200;
        }
        POSIX::_exit(0);
    }

    $pid;
} 1 .. 6;

my $failed = 0;
for my $pid (@pids) { waitpid($pid, 0); $failed++ if $? }
is($failed, 0, 'many changes at once');

# But for when an agent was there, which the file is not told.

sub body {
    return $t->get('/api/backends')->{body} =~ s/"lastSeen":"[^"]*",//gr;
}

my $before = body();
$n->quit;
$n->start;
is(body(), $before, 'zone and file agree');

$t->done;
