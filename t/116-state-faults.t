#!/usr/bin/perl

# What the file of a state can suffer while nginx is there: it can't be read or
# written, its disk is full or fails, it goes or is replaced.  Whatever is
# refused is not there, nor after a restart; and once all is well again,
# nginx needs no restart.

use lib 't/lib';
use InvertingProxy::Test;

use File::Copy qw(copy);
use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;

# Root may do everything: the workers, or all of nginx, are nobody's then, who
# must come to the module as well.

chmod(0755, $t->{dir});
copy("$ENV{INVERTING_PROXY_BUILD}/ngx_http_inverting_proxy_module.so",
     "$t->{dir}/ngx_http_inverting_proxy_module.so");
chmod(0755, "$t->{dir}/ngx_http_inverting_proxy_module.so");
$ENV{INVERTING_PROXY_BUILD} = $t->{dir};

my $conf = <<'EOT';
    inverting_proxy_zone zone=main:4m state=%%DIR%%/state/main.db;
    server {
        listen 127.0.0.1:%%PORT%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

sub create {
    my ($n, $id) = @_;
    return $t->get('/api/backends', port => $n->port, method => 'POST',
                   body => encode_json({ id => $id, endUser => 'allUsers',
                                         pathPrefixes => [ '/' ] }));
}

sub ids {
    my ($n) = @_;
    return join(' ', map { $_->{id} } @{decode_json(
                     $t->get('/api/backends', port => $n->port)->{body})});
}

sub refused {
    my ($n, $name, $regex) = @_;

    my $before = ids($n);
    $n->mark;

    my $m = create($n, 'refused');
    is($m->{status}, 500, "$name: refused");
    like($m->{body}, qr/state file could not be written/, "$name: says so");
    like($n->log, qr/\[error\].*main\.db": $regex/, "$name: so does the log");
    is(ids($n), $before, "$name: nothing has changed");
    return;
}

# As soon as every worker knows.

sub accepted {
    my ($n, $id, $name) = @_;

    my $good = 0;
    ok(waitfor(sub { $good = create($n, $id)->{status} == 200 ? $good + 1 : 0;
                     return $good >= 4 }, 10),
       "$name: then it is taken");
    return;
}


# All of nginx is somebody's who may not read the file.

my $n = $t->nginx(workers => 2, http => $conf, as => 'nobody');
my $file = "$n->{dir}/state/main.db";

is(create($n, 'a')->{status}, 200, 'a is created');
ok($n->quit, 'quit');

for my $case ([ 'an unreadable file', 0, $file ],
              [ 'an unreadable folder', 0, "$n->{dir}/state" ])
{
    my ($name, $mode, $path) = @$case;
    my $was = (stat($path))[2] & 07777;
    my $regex = qr/it can't be read: \w+\(\) failed \(13: Permission/;

    chmod($mode, $path);
    my $r = $n->test;
    is($r->{status}, 1, "$name: nginx -t fails");
    like($r->{out}, qr/\[emerg\].*"main".*\Q$file\E": $regex/,
         "$name: says why");
    eval { $n->start };
    like($@, qr/does not start/, "$name: nginx does not start");
    $n->process->finish;
    chmod($was, $path);
}

$n->allow(qr/it can't be read/);
$n->start;
is(ids($n), 'a', 'nothing was overwritten');
is(create($n, 'b')->{status}, 200, 'b is created');


# The workers may not write it.

$n = $t->nginx(workers => 2, http => $conf, user => 'nobody');
$file = "$n->{dir}/state/main.db";

is(create($n, 'a')->{status}, 200, 'a is created');

for my $case ([ 'a read-only file', 0400, $file,
                qr/it can't be written: access\(\) failed \(13: / ],
              [ 'a read-only folder', 0500, "$n->{dir}/state",
                qr/.*: it and its folder must be writable/ ])
{
    my ($name, $mode, $path, $regex) = @$case;
    my $was = (stat($path))[2] & 07777;

    ok($n->quit, "$name: quit");
    my $content = slurp($file);
    chmod($mode, $path);
    $n->start;

    is(ids($n), 'a', "$name: what was there");
    refused($n, $name, $regex);
    ok(slurp($file) eq $content, "$name: the file is whole");

    chmod($was, $path);
    accepted($n, 'a', $name);
}


# A full disk, and one that fails to write what it was given.

my $disk = "$t->{dir}/disk";
mkdir($disk);
my $r = run_command([ 'gcc', '-shared', '-fPIC', '-O1', '-o', "$disk/disk.so",
                      't/lib/disk.c', '-ldl' ]);
is($r->{status}, 0, 'gcc') or diag($r->{err});

$n = $t->nginx(workers => 2, http => $conf, preload => "$disk/disk.so",
               env => { DISK => $disk });
$n->allow_kill;
$file = "$n->{dir}/state/main.db";
is(create($n, 'a')->{status}, 200, 'a is created');

for my $case ([ 'a full disk', 'full', qr/database or disk is full/ ],
              [ 'a broken disk', 'broken', qr/disk I\/O error/ ])
{
    my ($name, $what, $regex) = @$case;

    spew("$disk/$what", '');
    refused($n, $name, $regex);

    # Put right, and killed before anybody else asks for anything: what was
    # refused is still in SQLite's log, but for what nginx does itself.

    unlink("$disk/$what");
    nap(3 * slow());
    $n->process->signal_group('KILL');
    $n->process->wait(10);
    $n->process->finish;
    waitfor(sub { !$n->listening }, 20);
    $n->start;
    is(ids($n), 'a', "$name: nor has it after a restart");
    accepted($n, 'a', $name);
}


# It goes, or another one comes in its place.

$n = $t->nginx(workers => 2, http => $conf);
$file = "$n->{dir}/state/main.db";
is(create($n, $_)->{status}, 200, "$_ is created") for qw(a b);
ok($n->quit, 'quit');
copy($file, "$file.backup");
$n->start;
is(create($n, 'c')->{status}, 200, 'c is created');

my $other = $t->nginx(workers => 1, http => $conf);
for my $i (1 .. 9) {
    is(create($other, "x$i")->{status}, 200, "x$i is created elsewhere");
}
is(join(' ', $other->stop), '', 'and that nginx ends');
copy("$other->{dir}/state/main.db", "$file.other");

rename($file, "$file.away");
refused($n, 'without the file', qr/it is gone/);
rename("$file.away", $file);
accepted($n, 'c', 'without the file');

for my $case ([ 'a backup', 'backup' ], [ 'another file', 'other' ]) {
    my ($name, $what) = @$case;
    my $content = slurp("$file.$what");

    rename($file, "$file.away");
    copy("$file.$what", $file);
    refused($n, $name, qr/it is not the one that the zone was loaded from/);
    ok(slurp($file) eq $content, "$name: it is not written to");

    my @workers = $n->workers;
    $n->mark;
    $n->write_conf;
    $n->signal('HUP');
    ok($n->wait_log(qr/\[emerg\].*not the one that the zone was loaded/),
       "$name: no reload with it");
    is(join(' ', sort $n->workers), join(' ', sort @workers),
       "$name: the workers are the same");

    rename("$file.away", $file);
    accepted($n, 'c', $name);
}

$n->allow(qr/not the one that the zone was loaded/);
is(ids($n), 'a b c', 'all are there');
ok($n->quit, 'quit');
$n->start;
is(ids($n), 'a b c', 'and after a restart');

# A backup, as the README says.
ok($n->quit, 'quit');
unlink("$file-wal", "$file-shm");
rename("$file.backup", $file);
$n->start;
is(ids($n), 'a b', 'a backup is put back while nginx is stopped');
is(create($n, 'd')->{status}, 200, 'd is created');

$t->done;
