#!/usr/bin/perl

# While a change waits to be committed: nothing else waits, and whatever comes in
# between (the client goes, a worker is killed, a reload, the end) it is made
# and answered, or neither is the case.  The test holds the file's write lock.

use lib 't/lib';
use InvertingProxy::Test;

use IO::Select;
use JSON::PP qw(decode_json);

my $t = InvertingProxy::Test->new;

my $conf = <<'EOT';
    inverting_proxy_zone zone=main:4m state=%%DIR%%/state/main.db;
    server {
        listen 127.0.0.1:%%PORT%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $n = $t->nginx(workers => 2, http => $conf);
my $file = "$n->{dir}/state/main.db";

sub body {
    my ($id) = @_;
    return JSON::PP->new->canonical->encode({ id => $id, endUser => 'allUsers',
                                              pathPrefixes => [ "/$id" ] });
}

# Sent, not answered.

sub post {
    my ($id, %opt) = @_;
    my $c = $t->client(timeout => 60, %opt);
    $c->request('POST', '/api/backends', body => body($id));
    return $c;
}

sub create {
    my ($id) = @_;
    return post($id)->response->{status};
}

sub there {
    my ($id) = @_;
    return $t->get("/api/backends/$id")->{status};
}

sub used {
    return decode_json($t->get('/api/status')->{body})->{registry}{used};
}

sub ids {
    return join(' ', map { $_->{id} }
                     @{decode_json($t->get('/api/backends')->{body})});
}

sub restart_agrees {
    my ($name) = @_;
    my $before = ids();
    $n->quit if $n->running;
    $n->start;
    is(ids(), $before, "$name: zone and file agree");
    return;
}


# Another nginx, for what takes long: nobody waits for ever.

my $late = $t->nginx(http => $conf);
my $late_file = "$late->{dir}/state/main.db";
ok(waitfor(sub { -e "$late_file-shm" }), 'the file is there');
my $late_lock = state_lock($late_file);
my $late_t0 = now();
my $late_post = post('late', port => $late->port);


is(create('first'), 200, 'one is created');
my $first = used();
is($t->get('/api/backends/first', method => 'DELETE')->{status}, 200,
   'and deleted');
my $base = used();

my $lock = state_lock($file);
ok($lock, 'the file is locked');

my $c = post('wait');
ok(waitfor(sub { used() > $base }), 'it waits, and its place is taken');
is(there('wait'), 404, 'it is not there before it is committed');
ok(!IO::Select->new($c->fh)->can_read(0.3), 'nor answered');

close($lock);
is($c->response->{status}, 200, 'then it is');
is(there('wait'), 200, 'and there');
is($t->get('/api/backends/wait', method => 'DELETE')->{status}, 200, 'deleted');
is(used(), $base, 'nothing is left of it');

# The client goes.
$lock = state_lock($file);
$c = post('gone');
ok(waitfor(sub { used() > $base }), 'another one waits');
$c->close;
nap(0.3);
close($lock);
ok(waitfor(sub { there('gone') == 200 }), 'it is made though nobody waits');
restart_agrees('the client has gone');
$t->get('/api/backends/gone', method => 'DELETE');
is(used(), $base, 'nothing is left of it');

# The workers are killed.
$n->allow_kill;
$lock = state_lock($file);
$c = post('killed');
ok(waitfor(sub { used() > $base }), 'one waits in a worker');
$n->mark;
$n->kill_worker($_) for $n->workers;
ok($n->wait_log(qr/exited on signal 9.*exited on signal 9/s), 'they are gone');
nap(2.5);
cmp_ok(used(), '>', $base, 'its place is kept: it may have been committed');
close($lock);
ok(waitfor(sub { used() == $base }, 20), 'until that is settled');
is(there('killed'), 404, 'it was not');
restart_agrees('workers were killed');

# A reload: old workers bring to its end what they have begun, and begin nothing.
my @old = $n->workers;
$lock = state_lock($file);
$c = post('flight');
ok(waitfor(sub { used() > $base }), 'one waits');
my @half = map {
    my $h = $t->client(timeout => 60);
    $h->request('POST', '/api/backends', length => length body("half$_"),
                headers => [ 'Expect: 100-continue' ]);
    is($h->read_head->{status}, 100, 'an old worker has one more');
    $h->write(substr(body("half$_"), 0, 20));
    $h;
} 1 .. 4;
ok($n->reload, 'reload');
my $new = post('new');
is(there('flight'), 404, 'new workers answer');

for my $i (1 .. 4) {
    $half[$i - 1]->write(substr(body("half$i"), 20));
    my $m = $half[$i - 1]->response;
    is($m->{status}, 503, 'an old worker begins no change');
    like($m->{body}, qr/exiting, try again/, 'and says why');
}

close($lock);
is($c->response->{status}, 200, 'what an old worker had begun is made');
is($new->response->{status}, 200, 'what a new one has, too');
ok(waitfor(sub { !$n->exiting }), 'the old workers are gone');
is(ids(), 'flight new', 'and that is what is there');
is(create('half1'), 200, 'a new worker takes what an old one did not');
restart_agrees('a reload');

# The end.
$lock = state_lock($file);
my $before = used();
$c = post('last');
ok(waitfor(sub { used() > $before }), 'one waits');
$n->signal('QUIT');
nap(0.5);
ok($n->running, 'nginx waits for it');
close($lock);
is($c->response->{status}, 200, 'it is answered');
ok($n->process->wait(20), 'then nginx ends');
$n->start;
is(there('last'), 200, 'it is there');

# Many wait behind one: all of them in one commit, or a few.
$before = used();
$lock = state_lock($file);
my @many = map { post("many$_") } 1 .. 100;
ok(waitfor(sub { used() >= $before + 100 * ($first - $base) }), 'many wait');
close($lock);
is(scalar grep({ $_->response->{status} != 200 } @many), 0,
   'all of them are made');
restart_agrees('many at once');


# The first one, which nobody has let go on.
my $m = $late_post->response;
is($m->{status}, 500, 'it does not wait for ever');
like($m->{body}, qr/nothing was changed/, 'it says that nothing was changed');
cmp_ok(now() - $late_t0, '>', 5, 'but for a while');
like($late->log, qr/\[error\].*main\.db": database is locked/, 'the log says why');
close($late_lock);
is(post('after', port => $late->port)->response->{status}, 200,
   'when the lock is gone all is well');
is($t->get('/api/backends/late', port => $late->port)->{status}, 404,
   'and what was refused is not there');

$t->done;
