#!/usr/bin/perl

# Two reloads, one after the other: a worker of the first one begins late, after
# those of the second, and must not put in force what is past.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;
my $late = "$t->{dir}/late";
my $r = run_command([ 'gcc', '-shared', '-fPIC', '-O1', '-o', "$late.so",
                      't/lib/late.c', '-ldl' ]);
is($r->{status}, 0, 'gcc') or diag($r->{err});

my $http = <<'EOC';
    inverting_proxy_zone zone=main:8m;
    %%BACKEND%%
    inverting_proxy_agent_user $http_x_agent;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main;
                           inverting_proxy_poll_timeout 1s; }
        location /api/ { inverting_proxy_api main; }
    }
EOC

sub backend {
    my ($id) = @_;
    return (vars => { BACKEND => "inverting_proxy_backend main $id"
                                 . ' end_user=allUsers backend_user=me;' });
}

my $n = $t->nginx(workers => 1, http => $http, backend('first'),
                  preload => "$late.so", env => { LATE => $late });

sub children { return InvertingProxy::Test::Process::children_of($n->pid) }

# Has the configuration loaded; does not wait for it to be in force.
sub load {
    my ($id) = @_;

    $n->{vars} = { backend($id) }->{vars};
    $n->write_conf;
    $n->signal('HUP');

    return;
}

sub backends {
    return join(' ', $t->get('/api/backends')->{body} =~ /"id":"([^"]*)"/g);
}

is(backends(), 'first', 'the first configuration');

# Of the second one the worker is not there yet when the third one comes.

spew($late, '');

my ($old) = $n->workers;
my $slow;

load('second');
ok(waitfor(sub { ($slow) = grep { $_ != $old } children() }),
   'a worker of the second');
nap(0.5);

# It is stopped, so that the file is for nobody else.

kill('STOP', $slow);
unlink($late);

load('third');
ok(waitfor(sub { eval { backends() } eq 'third' }), 'the third is in force')
    or diag(backends());

kill('CONT', $slow);
ok(waitfor(sub { !grep { $_ == $slow } children() }), 'the late one is gone');

is(backends(), 'third', 'the third is still in force');

my @me = (headers => [ 'X-Agent: me' ]);
is($t->peer(backend => 'third', @me)->pending->{status}, 200,
   'its agent is let in');
is($t->peer(backend => 'second', @me)->pending->{status}, 401,
   'that of the second is not');

$t->done;
