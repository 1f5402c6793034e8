#!/usr/bin/perl

# Real agents are killed, at every point of a request, while another one of the
# same backend is there or comes.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

# The first agent's backend hangs at the point that is asked for; the second
# one's answers.

my $hangs = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{target} =~ /part/) {
        $c->body_start($req);
        $c->body_piece;
    } elsif ($req->{method} ne 'GET' && $req->{target} !~ /unread/) {
        $c->read_body($req);
    }

    if ($req->{target} =~ /answer/) {
        $c->head(200, [ 'Transfer-Encoding: chunked' ]);
        $c->chunk('five!');
    }

    $c->note("begin $req->{method} $req->{target}");
    $c->wait_end(20) if $req->{target} !~ /unread/;
    nap(20) if $req->{target} =~ /unread/;

    return 0;
}, rcvbuf => 4096);

my $good = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [], "good $req->{length}");
});

my $n = $t->nginx(workers => 2, http => <<'EOT',
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_agent_user a;
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout %%POLL_TIMEOUT%%;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT
    # As soon as a poll that is not answered shows that its agent is not well, so
    # does a connection on which nothing comes for that long.
    vars => { POLL_TIMEOUT => $t->over_ptth ? '3s' : '30s' });


# Its poll is gone as well, so that the next agent is seen to come.

sub kill_agent {
    my ($a) = @_;

    $a->kill;
    $t->wait_status(sub { $_[0]->agents('b') == 0 });
}


for my $case (
    # method, target, body, what the client gets
    [ 'GET', '/', undef, 'good 0' ],
    [ 'DELETE', '/', undef, 'good 0' ],
    [ 'POST', '/', '', 502 ],
    [ 'POST', '/', 'whole', 502 ],
    [ 'PUT', '/', 'whole', 502 ],
    [ 'PUT', '/part', 'part', 502 ],
    [ 'PUT', '/unread', 'full', 502 ],
    [ 'GET', '/answer', undef, 'cut' ],
    [ 'POST', '/part/answer', 'part', 'cut' ],
) {
    my ($method, $target, $body, $want) = @$case;
    my $what = "$method $target" . (length($body || '') ? ", a $body body"
                                                        : '');

    $hangs->clear_notes;
    my $a = $t->agent(backend => 'b', host => $hangs->address);
    my $c = $t->client(timeout => 20);

    $c->request($method, $target,
                !defined $body ? ()
                : $body eq 'part' || $body eq 'full' ? (length => 1e9)
                : (body => $body));
    $c->write('part') if ($body || '') eq 'part';

    if (($body || '') eq 'full') {
        $c->fh->blocking(0);
        for (1 .. 20) {
            1 while syswrite($c->fh, 'x' x 65536);
            nap(0.05);
        }
        $c->fh->blocking(1);
    }

    my $begin = qr/^begin \Q$method\E \Q$target\E$/;
    ok($hangs->wait_note($begin), "$what: the backend has it");
    nap(0.1);

    my $m;

    if ($want eq 'cut') {
        $m = $c->response(head_only => 1);
        is($m->{status}, 200, "$what: had begun");
        $c->body_start($m);
        is($c->body_piece, 'five!', 'what there is of it');
    }

    kill_agent($a);

    my $second = $t->agent(backend => 'b', host => $good->address);
    my $t0 = now();

    $m ||= $c->response;

    if ($want eq 'cut') {
        is($c->body_piece, undef, 'no more of it');
        ok($m->{cut}, 'the client sees a cut');
    } elsif ($want eq '502') {
        is($m->{status}, 502, "$what: 502");
    } else {
        is($m->{body}, $want, "$what: the second agent has it");
    }

    cmp_ok(now() - $t0, '<', 4 * slow(), 'soon');
    is($t->get('/again')->{body}, 'good 0', 'the second agent serves');
    $c->close;
    ok($t->wait_idle(5), "$what: nothing is left of it");
    is(scalar($second->stop), 0, 'it ends well');
    waitfor(sub { $t->status->agents('b') == 0 });
}


# one that is stopped: it is there, but does nothing; then it wakes up

my @one = (args => [ '-connections=1' ]);
my $a = $t->agent(backend => 'b', host => $good->address, @one);
my %c = map { $_ => $t->client(timeout => 20) } qw(GET POST);

$a->signal('STOP');
$c{GET}->request('GET', '/');
ok($t->wait_status(sub { $_[0]->agents('b') == 0 }),
   'an agent that is stopped is told');
$c{POST}->request('POST', '/', body => 'x');

my $second = $t->agent(backend => 'b', host => $good->address, @one);

is($c{POST}->response->{body}, 'good 1', 'the second one has the next');
my $m = $c{GET}->response;
is($m->{body}, 'good 0', 'and what the first one did not answer');
cmp_ok($m->{at}{end}, '>', $t->over_ptth ? 0.9 : 3,
       'after the lease, or a PING');
cmp_ok($m->{at}{end}, '<', 15 * slow(), 'not long after');
$_->close for values %c;

$a->signal('CONT');
ok($t->wait_status(sub { $_[0]->agents('b') == 2 }), 'it wakes up, too late');
is($t->get('/x')->{body}, 'good 0', 'both serve') for 1 .. 4;
is(scalar($a->stop), 0, 'it ends well');
is(scalar($second->stop), 0, 'as does the second one');
$t->wait_status(sub { $_[0]->agents('b') == 0 });


# stopped in the middle of a response, and then gone

$a = $t->agent(backend => 'b', host => $hangs->address);
my $c = $t->client(timeout => 20);
$c->request('GET', '/answer');
$m = $c->response(head_only => 1);
$c->body_start($m);
is($c->body_piece, 'five!', 'in the middle of a response');
$a->signal('STOP');
is($c->wait_end(0.3), undef, 'the agent is stopped');
kill_agent($a);
is($c->body_piece, undef, 'no more comes');
ok($m->{cut}, 'and gone: the client sees a cut');


# kill, and start, again and again, under load

$a = $t->agent(backend => 'b', host => $good->address);

my %got;
my $other = 0;

for my $round (1 .. 3) {
    my @c = map {
        my $c = $t->client(timeout => 20);
        $c->request('GET', "/$_");
        $c;
    } 1 .. 30;

    if ($round < 3) {
        kill_agent($a);
        $a = $t->agent(backend => 'b', host => $good->address);
    }

    for my $c (@c) {
        my $m = $c->response;
        $got{$m->{status}}++;
        $other++ if $m->{status} == 200 && $m->{body} ne 'good 0'
                    && !$m->{cut};
        $c->close;
    }
}

ok(!grep({ !/^(?:200|502)$/ } keys %got), 'killed under load: 200 or 502')
    or diag(join(' ', %got));
cmp_ok($got{200}, '>', 40, "most are answered: $got{200}");
is($other, 0, 'well, or cut');
ok($t->wait_idle(10), 'nothing is left');

$t->done;
