#!/usr/bin/perl

# Reloads in a row with work on PTTH: small requests, downloads, uploads,
# events and WebSockets that last longer than the time between two of them; at
# an agent by hand, and at a real one.  Nothing is lost, every byte is right.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::WebSocket;
use InvertingProxy::Test::Work;

my $reloads = 4;

my $t = InvertingProxy::Test->new;
my $work = work_origin();

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:16m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me
                            prefix=/real;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    return $req->{target} =~ m{/ws} ? ws_echo($c, $req) : $work->($c, $req);
});

$t->agent(transport => 'auto', backend => 'real', host => $b->address,
          args => [ '-transport=ptth' ]);
my $s = $t->ptth_server(backend => 'hand', connections => 2,
    settings => { ENABLE_CONNECT_PROTOCOL => 1 }, code => sub {
        my ($x) = @_;
        return $work->($x, $x) if !$x->tunnel;
        $x->{on_data} = \&ws_echo_data;
        $x->respond(200, [], undef, hold => 1);
    });
ok($t->wait_status(sub { $_[0]->agents('hand') }), 'an agent by hand');

# A WebSocket that talks all the time.

sub talk {
    my ($to, $key) = @_;

    my $w = ws_connect($t->client(timeout => 20), "$to/ws");

    for my $i (1 .. 12) {
        $w->text("$key $i");
        my $m = $w->message or return "ws $key: ended at $i";
        return "ws $key: \"$m->{data}\"" if $m->{data} ne "$key $i";
        nap(0.05);
    }

    $w->close(1000);
    my $m = $w->message or return "ws $key: no close";
    return $m->{op} == WS_CLOSE ? undef : "ws $key: $m->{op}";
}

my @to = ('/real', '/hand');

my $small = $t->load(clients => 3, code => sub {
    my ($load, $i) = @_;
    return work_small($t, "$load->{client}-$i", prefix => $to[$i % 2],
                      method => $i % 3 ? 'GET' : 'POST');
});

my $large = $t->load(clients => 5, code => sub {
    my ($load, $i) = @_;
    my $key = "$load->{client}-$i";
    my %opt = (prefix => $to[$i % 2]);

    return talk($opt{prefix}, $key) if $load->{client} == 0;
    return work_download($t, $key, 2_000_000, %opt) if $load->{client} == 1;
    return work_download($t, $key, 500_000, %opt, origin_pause => 0.05)
        if $load->{client} == 2;
    return work_upload($t, $key, 1_000_000, %opt, pause => 0.05)
        if $load->{client} == 3;
    return work_events($t, $key, 6, 0.1, %opt);
});

for my $i (1 .. $reloads) {
    my $before = $small->done;
    ok(waitfor(sub { $small->done > $before + 10 }), "at work, $i");
    ok($n->reload, "reload $i");
    nap(0.2);
}

waitfor(sub { $large->done > 10 }, 30);

for my $load ($small, $large) {
    my $r = $load->stop(30 * slow());
    is(scalar @{$r->{wrong}}, 0, "$load->{name}: nothing was lost")
        or diag($load->text($r));
    cmp_ok($r->{count}, '>', 10, "$load->{name}: and much was done");
}

ok(waitfor(sub { !$n->exiting }, 15), 'the old workers end');
ok($t->wait_status(sub { $_[0]->agents('hand') && $_[0]->agents('real') }),
   'the agents are back');
cmp_ok(scalar(grep { /^up/ } $s->notes), '>', 2, 'they have dialled again');
$s->stop;

$t->done;
