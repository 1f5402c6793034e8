#!/usr/bin/perl

# expiry: records of the API go when their agents have not been seen for so
# long, with a state and without; those of the configuration stay.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;

use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;
my $expiry = 3;

sub conf {
    my ($more) = @_;
    return <<"EOT";
    inverting_proxy_zone zone=main:4m expiry=${expiry}s $more;
    inverting_proxy_backend main static end_user=allUsers backend_user=me;
    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user me;
        }
        location / { inverting_proxy_pass main; }
        location = /pid { return 200 \$pid; }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT
}

for my $case ([ 'without a state', '' ],
              [ 'with a state', 'state=%%DIR%%/state/main.db' ])
{
    my ($name, $more) = @$case;

    my $n = $t->nginx(workers => 2, http => conf($more));

    my $ids = sub {
        return join(' ', map { $_->{id} }
                         @{decode_json($t->get('/api/backends',
                                               port => $n->port)->{body})});
    };

    for my $id (qw(gone polled seen)) {
        $t->get('/api/backends', port => $n->port, method => 'POST',
                body => encode_json({ id => $id, endUser => 'allUsers',
                                      backendUser => 'me',
                                      pathPrefixes => [ '/' ] }));
    }

    is($ids->(), 'gone polled seen static', "$name: all are there");

    # One agent waits all the time, one comes now and then.
    my $p = $t->peer(port => $n->port, backend => 'polled');
    my $poll = $p->poll;
    my $s = $t->peer(port => $n->port, backend => 'seen');

    ok(waitfor(sub {
        my $seen = $s->poll;
        waitfor(sub { $t->status($n)->agents('seen') });
        $seen->close;
        nap(0.5);
        $ids->() eq 'polled seen static';
    }, $expiry + 4), "$name: the one whose agent never came is gone");
    ok(waitfor(sub { $ids->() eq 'polled static' }, $expiry + 7),
       "$name: then the one whose agent is gone");
    like($n->log, qr/backend "gone" .* expires/, "$name: the log says so");

    nap($expiry + 1);
    is($ids->(), 'polled static', "$name: the others stay");
    $poll->close;

    if ($more) {
        $n->quit;

        # On a busy machine it may have expired again by the time we ask.
        my $t0 = now();
        $n->start;
        ok($ids->() eq 'polled static' || now() - $t0 > $expiry - 0.5,
           "$name: after a restart as well");
        ok(waitfor(sub { $ids->() eq 'static' }, $expiry + 7),
           "$name: which counts from the start");
    }
}

# A long response is as good as a poll, also where it ends while another worker
# looks for what expires: by the time of that one, it has not ended yet.

SKIP: {
    my $n = $t->nginx(workers => 2, http => conf(''));
    my ($A, $B) = $n->workers;

    skip('no debugger', 4) if cut_missing($B);

    my @headers = ('X-Inverting-Proxy-Backend-ID: long');
    my ($api, $agent, $post, $c) = map {
        $t->client_at($A, port => $n->port, timeout => 30)
    } 1 .. 4;

    my $long = sub {
        my $m = $api->get('/api/backends/long');
        return $m->{status} == 200 ? decode_json($m->{body}) : {};
    };

    $api->get('/api/backends', method => 'POST',
              body => encode_json({ id => 'long', endUser => 'allUsers',
                                    backendUser => 'me',
                                    pathPrefixes => [ '/long' ] }));

    $agent->request('GET', '/agent/pending', headers => \@headers);
    waitfor(sub { $long->()->{agents} });
    $c->request('GET', '/long');
    my ($id) = $agent->response->{body} =~ /(\w+)/;
    push @headers, "X-Inverting-Proxy-Request-ID: $id";
    is($agent->get('/agent/request', headers => \@headers)->{status}, 200,
       'a request is fetched');

    $post->request('POST', '/agent/response', chunked => 1,
                   headers => \@headers);
    $post->chunk("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1");
    my $m = $c->response(head_only => 1);
    nap($expiry + 1);

    my $r = cut($B, 'ngx_http_inverting_expire', go => 1, hold => sub {
        $post->chunk('2');
        $post->last_chunk;
        waitfor(sub { !$long->()->{active} });
    });

    ok($r->{stopped}, 'its response ends just then') or diag($r->{out});
    nap(0.5);
    is($c->read_body($m)->{body}, '12', 'it was a long one');
    is($long->()->{id}, 'long', 'its backend stays');
}


# The clock is set, by much more than that: nothing expires.

my $clock = "$t->{dir}/clock";
my $r = run_command([ 'gcc', '-shared', '-fPIC', '-O1', '-o', "$clock.so",
                      't/lib/clock.c', '-ldl' ]);
is($r->{status}, 0, 'gcc') or diag($r->{err});

$expiry = 3600;
my $set = $t->nginx(http => conf('state=%%DIR%%/state/main.db'),
                    env => { CLOCK => $clock }, preload => "$clock.so");
$expiry = 3;

$r = $t->get('/api/backends', port => $set->port, method => 'POST',
             body => '{"id":"one","endUser":"u","pathPrefixes":["/"]}');
is($r->{status}, 200, 'a backend');

spew($clock, '');
nap(4);
$r = $t->get('/api/backends/one', port => $set->port);
is($r->{status}, 200, 'the clock is set: it is there');
unlike($set->log, qr/expires/, 'and nothing is said');
unlink($clock);

# Whoever creates one anew expects its agent from then on; also while the state
# has been waiting to let it go, in every worker.

for my $case ([ 'without a state', '' ],
              [ 'with a state', 'state=%%DIR%%/state/main.db' ])
{
    my ($name, $more) = @$case;

    my $n = $t->nginx(workers => 2, http => conf($more));
    my ($missing, $last, $t0) = (0, now(), now());

    while (now() < $t0 + $expiry + 2) {
        my $there = $t->get('/api/backends/again', port => $n->port)->{status};
        $missing++ if $there != 200 && now() - $last < $expiry - 1
                      && $last > $t0;
        $last = now();
        $t->get('/api/backends', port => $n->port, method => 'POST',
                body => '{"id":"again","endUser":"u","pathPrefixes":["/"]}');
        nap(0.5);
    }

    is($missing, 0, "$name: created again and again, it stays");
}

my $n = $t->nginx(workers => 2, http => conf('state=%%DIR%%/state/main.db'));

sub post {
    my ($id) = @_;
    my $c = $t->client(port => $n->port, timeout => 60);
    $c->request('POST', '/api/backends', body => encode_json({ id => $id,
        endUser => 'allUsers', pathPrefixes => [ '/' ] }));
    return $c;
}

is(post("b$_")->response->{status}, 200, "b$_ is created") for 1 .. 20;

my $lock = state_lock("$n->{dir}/state/main.db");
nap($expiry + 2.5);
my @posts = map { post("b$_") } 1 .. 20;
nap(0.5);
my $t0 = now();
close($lock);

is(scalar grep({ $_->response->{status} != 200 } @posts), 0,
   'created anew while they expire');
nap(1);
my $ids = () = $t->get('/api/backends', port => $n->port)->{body} =~ /"b\d+"/g;
ok($ids == 20 || now() - $t0 > $expiry - 0.5, 'they are there') or diag($ids);

$n->stop;

$n = $t->nginx;

for my $bad ('expiry=0', 'expiry=x', 'expiry=', 'expiry=1s expiry=2s',
             'state=', 'state=a state=b')
{
    my $r = $n->test(http => "inverting_proxy_zone zone=main:4m $bad;");
    is($r->{status}, 1, "$bad: fails");
    like($r->{out}, qr/\[emerg\].*inverting_proxy_zone/, "$bad: says why");
}

$r = $n->test(http => 'inverting_proxy_zone zone=a:4m state=s/x;'
                         . 'inverting_proxy_zone zone=b:4m state=s/x;');
like($r->{out}, qr/state file.*"b" is that of "a"/, 'a file of two zones');

$t->done;
