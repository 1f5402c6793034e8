#!/usr/bin/perl

# An agent that is told to go: what is open is finished, nothing new is taken,
# and it ends whatever the proxy does.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::WebSocket;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->note($req->{start});

    if ($req->{target} eq '/ws') {
        ws_echo($c, $req);
        $c->note('ws over');
        return 0;

    } elsif ($req->{target} eq '/down') {
        my $n = 200;
        return $c->respond(200, [], sub { $n-- > 0 ? 'x' x 65536 : undef },
                           length => 200 * 65536);
    }

    return $c->respond(200, [], 'fine');
});

my ($p, $a, $h);

sub begin {
    my (@args) = @_;

    $b->clear_notes;
    $p = $t->ptth_proxy(rcvbuf => 4096);
    $a = $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
                   host => $b->address, args => \@args, wait => 0);
    $h = $p->dialled;
    $h->wait(sub { $h->{settings}{ENABLE_CONNECT_PROTOCOL} });

    return;
}

sub websocket {
    my $x = $h->request('CONNECT', '/ws', protocol => 'websocket', hold => 1);

    $x->head(10);

    return ($x, ws_over($x, mask => 1));
}

sub ends {
    my ($name, $seconds) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $end = now() + $seconds * slow();

    # PINGs want their answers meanwhile.
    while (now() < $end && $a->running) {
        defined $h->{closed} ? nap(0.02) : $h->drain(0.02);
    }

    is($a->wait_end(0.1), 0, "$name: it ends, with status 0");
    ok(!$p->call(qr/./, 0.1), "$name: and does not dial again");
    $h->close;
    $p->stop;

    return;
}


# A WebSocket goes on until it ends, and no other begins.

begin();
my ($x, $w) = websocket();
$a->signal('TERM');
ok($h->wait(sub { $h->{goaway} && $h->{goaway}[0] == $x->{id} }),
   'WebSocket: the agent names its last stream');
$w->text('still here');
my $m = $w->message;
is($m && $m->{data}, 'still here', 'WebSocket: it goes on');
my $late = $h->request('GET', '/late');
$w->text('and here');
$m = $w->message;
is($m && $m->{data}, 'and here', 'WebSocket: after another request, too');
ok(!$late->{has_head} && !grep({ /late/ } $b->notes),
   'WebSocket: which is not taken');
ok($a->running, 'WebSocket: the agent waits');
$x->data('', end => 1);
ends('WebSocket', 5);

# Or until its time is over.

begin('-graceful-shutdown-timeout=1s');
($x, $w) = websocket();
$a->signal('TERM');
ends('WebSocket without an end', 5);
ok($b->wait_note(qr/ws over/), 'the backend is told');

# Or until a second signal.

begin();
($x, $w) = websocket();
$a->signal('TERM');
$h->wait(sub { $h->{goaway} });
$a->signal('TERM');
ends('a second signal', 3);
ok($b->wait_note(qr/ws over/), 'the backend is told');

# A download is finished.

begin();
$h->{grant} = 'none';
$x = $h->request('GET', '/down');
$x->head;
$a->signal('TERM');
ok($h->wait(sub { $h->{goaway} }), 'download: GOAWAY');
$h->{grant} = 'both';
$h->window($_, 200 * 65536) for 0, $x->{id};
ok($x->response(30), 'download: it is finished');
is($x->{length}, 200 * 65536, 'download: whole');
ends('download', 5);

# A proxy that confirms nothing, goes on asking, and does not close.

begin();
$h->{pong} = 0;
$h->{ack} = 0;
$a->signal('TERM');
my $asked = 0;
my $end = now() + 5 * slow();
while (now() < $end && $a->running) {
    last if !eval { $h->request('GET', '/more'); 1 };
    $asked++;
    $h->drain(0.02);
}
cmp_ok($asked, '>', 5, 'a stubborn proxy: it asks');
ends('a stubborn proxy', 5);

# One that does not read.

begin('-graceful-shutdown-timeout=2s');
$h->settings(INITIAL_WINDOW_SIZE => 0x7fffffff);
$h->window(0, 0x7f000000);
$h->request('GET', '/down') for 1 .. 3;
ok(waitfor(sub { 3 == grep { /down/ } $b->notes }), 'three downloads');
$a->signal('TERM');
is($a->wait_end(10), 0, 'one that does not read: it ends, with status 0');
$h->close;
$p->stop;

# One that has not answered the call yet.

$p = $t->ptth_proxy;
$a = $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
               host => $b->address, wait => 0);
my $c = $p->call(qr/ptth$/);
$a->signal('TERM');
is($a->wait_end(5), 0, 'while it dials: it ends, with status 0');
$c->close;
$p->stop;

$t->done(idle => 0);
