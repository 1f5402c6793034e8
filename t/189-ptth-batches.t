#!/usr/bin/perl

# What many clients ask in one turn of a worker's loop is sent to the agent in
# batches, the first of them while the others are read; whatever becomes of the
# connection meanwhile, each request is answered.

use lib 't/lib';
use InvertingProxy::Test;

use constant CLIENTS => 100;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(log => 'debug', http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /ready { return 200 "ready\n"; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my @clients = map { $t->client } 1 .. CLIENTS;

# All of them ask before the worker looks, and then something else happens.

sub ask_at_once {
    my ($then) = @_;

    my ($worker) = $n->workers;

    # They are accepted, and have nothing else to say.
    $_->request('GET', '/ready') for @clients;
    $_->response for @clients;

    kill('STOP', $worker);
    waitfor(sub { InvertingProxy::Test::Process::proc_stat($worker)->{state}
                  eq 'T' }) or die "the worker does not stop\n";
    $n->mark;
    $clients[$_]->request('GET', "/$_") for 0 .. $#clients;
    $then->() if $then;
    kill('CONT', $worker);

    return;
}

sub answer {
    my ($h) = @_;

    while (my $x = $h->take(5)) {
        $x->respond(200, [], "for $x->{target}");
        $x->flush;
        last if ++$h->{answers} == CLIENTS;
    }

    return;
}

sub answered {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my @wrong = grep {
        my $m = $clients[$_]->response;
        !$m || $m->{status} != 200 || $m->{body} ne "for /$_";
    } 0 .. $#clients;

    is("@wrong", '', "$name: each client has its answer");

    return;
}

# What is sent otherwise goes by writev().
sub sends { return scalar(() = $n->log =~ / send: fd:\d+ \d+ of \d+/g) }


my $h = $t->ptth(backend => 'b');

ask_at_once();
$h->wait(sub { $h->open_streams == CLIENTS });
# It is logged when it has been sent.
waitfor(sub { sends() >= 5 }, 5);
my $sends = sends();
ok($sends >= 5 && $sends <= 10, 'batches: 24 each, where there are so many')
    or diag("sent at $sends times");
answer($h);
answered('batches');

# A batch is no more than the agent takes.

$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has gone');

$h = $t->ptth(backend => 'b', settings => { MAX_CONCURRENT_STREAMS => 10 });
$h->wait(sub { $h->{settings_acks} });

ask_at_once();
answer($h);
answered('few streams');

# The connection is found dead when the first batch is sent: what was in it, and
# what the rest of the turn brings, waits for another agent.

$h->close;
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }), 'the agent has gone');

$h = $t->ptth(backend => 'b');

ask_at_once(sub { $h->reset });
ok($t->wait_status(sub { $_[0]->agents('b') == 0
                         && $_[0]->waiting('b') == CLIENTS }),
   'reset: all wait');
like($n->log, qr{agent of backend "b" ends.*GET /99 HTTP}s,
     'it is found out before the last is read');

$h = $t->ptth(backend => 'b');
answer($h);
answered('reset');

# So it is if all of them leave at once.

ask_at_once(sub { $_->reset for @clients });
ok($t->wait_status(sub { $_[0]->waiting('b') == 0
                         && $_[0]->active('b') == 0 }),
   'clients that leave: nothing is left of them');

$t->done;
