#!/usr/bin/perl

# A worker dies while it is changing the zone: a debugger stops it inside a
# function that holds the lock, lets it go on for some instructions and kills it
# there.  Whoever takes the lock next puts everything right; nothing is lost
# but what the dead one held.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;
use InvertingProxy::Test::Work;

# What is to be cut short, and after how many instructions of it.
my @cuts = (
    [ 'chunks_alloc_locked', 30 ],
    [ 'attach_locked', 0 ],
    [ 'place_locked', 0, 20 ],
    [ 'enqueue_locked', 20 ],
    [ 'dequeue_locked', 8 ],
    [ 'tell_locked', 250 ],
    [ 'remember_id_locked', 10 ],
    [ 'forget_id_locked', 15 ],
    [ 'detach_locked', 0, 10 ],
    [ 'end_tx_locked', 0, 40 ],
    [ 'pipes_free_locked', 0, 40 ],
    [ 'chunk_free_locked', 4 ],
    [ 'free_tx_locked', 0 ],
    [ 'link_receiver_locked', 5 ],
    [ 'free_receiver_locked', 20 ],
    [ 'return_locked', 0 ],
    [ 'units_alloc', 40 ],
    [ 'units_free', 5 ],
    [ 'backend_make', 80 ],
    [ 'tree_insert', 30 ],
    [ 'index_insert', 12 ],
    [ 'index_delete', 10 ],
    [ 'routes_add', 60 ],
    [ 'routes_remove', 5 ],
    [ 'backend_remove', 3, 12, 100 ],
    [ 'backend_free', 12 ],
    [ 'backend_end_locked', 30 ],
);

# Not under the lock: a chunk is between two lists.
my @free = (
    [ 'chunk_get', 'finish' ],
    [ 'chunk_put', 0 ],
    [ 'chunk_get', 'finish' ],
    [ 'chunk_put', 0 ],
);

my $t = InvertingProxy::Test->new(timeout => $ENV{INVERTING_PROXY_CUTS} ? 3600 : 300);
my $b = $t->backend(work_origin());

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m registry=512k;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main fixed end_user=somebody backend_user=me
                            prefix=/a prefix=/b;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

$n->allow_kill;

if (my $why = cut_missing($n->pid)) {
    plan(skip_all => $why);
}

# Few at a time, over PTTH: else there would be no queue to die in.
$t->agent(backend => 'b', host => $b->address,
          $t->over_ptth ? (args => [ '-max-concurrency=2' ]) : ());

sub api {
    my ($method, $path, $body) = @_;
    my $m = eval { $t->get("/api/$path", method => $method, timeout => 5,
                           defined $body ? (body => $body) : ()) };
    return $m && $m->{status};
}

# Something of everything, without an end.
my @load = (
    $t->load(clients => 2, code => sub {
        my ($load, $i) = @_;
        return work_upload($t, "$load->{client}-$i", 100_000, timeout => 15)
            if $i % 8 == 3;
        return work_small($t, "$load->{client}-$i", timeout => 15,
                          method => $i % 2 ? 'GET' : 'POST');
    }),

    # Backends come and go while an agent polls for them.
    $t->load(code => sub {
        my ($load, $i) = @_;
        my $id = 'x' . $i % 3;
        my $p = $t->peer(backend => $id, timeout => 5);

        api('POST', 'backends', '{"id":"' . $id . '","endUser":"allUsers",'
            . '"backendUser":"me","pathPrefixes":["/x","/x' . $i % 5 . '"]}');
        my @polls = map { $p->poll } 1 .. 3;
        my $c = $t->client(timeout => 5);
        $c->request('GET', "/x$i");
        nap(0.01);
        $c->close if $i % 2;
        api('POST', 'backends', '{"id":"' . $id . '","endUser":"me",'
            . '"backendUser":"me","pathPrefixes":["/y"]}') if $i % 3;
        nap(0.01);
        $polls[0]->close;
        api('DELETE', "backends/$id");
        $_->close for @polls;
        return undef;
    }),

    # Clients that do not wait for an answer, agents that do not give one.
    $t->load(code => sub {
        my ($load, $i) = @_;
        my $c = $t->client(timeout => 5);
        $c->request('POST', "/up/gone-$i", body => undef, length => 1000);
        $c->write('x' x 10);
        nap(0.02 * ($i % 3));
        $c->close;
        return undef;
    }),
);

my $rebuilds = 0;

# As many others as the environment wants, anywhere; but not in the unlock itself,
# where nginx loses a wake-up.
if (my $more = $ENV{INVERTING_PROXY_CUTS}) {
    my $seed = srand($ENV{INVERTING_PROXY_SEED} || time);
    diag("seed $seed");
    @cuts = map { [ $cuts[rand @cuts][0], int(2 ** rand(6)) ] } 1 .. $more;
}

for my $cut (@cuts, @free) {
    my ($function, @steps) = @$cut;

    for my $steps (@steps) {
        my $name = "$function + $steps";
        my ($pid) = $n->workers;

        my $r = cut($pid, "ngx_http_inverting_$function",
                    then => [ !$steps ? () : $steps eq 'finish' ? $steps
                              : "stepi $steps" ]);

        if (!$r->{stopped}) {
            fail("$name: stopped");
            diag($r->{out});
            next;
        }

        my $ok = waitfor(sub { my @w = $n->workers;
                               @w == 2 && !grep { $_ == $pid } @w })
                 && waitfor(sub { !grep { defined work_small($t, "k-$_",
                                                             timeout => 3) }
                                  1 .. 4 }, 15);
        ok($ok, "$name: it serves") or diag($r->{out});

        my $s = eval { $t->status };
        diag(sprintf('%.1f ', now() - $load[0]{t0}), "$name: ", $s->{doc}{zone}{rebuilds} - $rebuilds)
            if $s && $ENV{INVERTING_PROXY_VERBOSE};
        $rebuilds = $s->{doc}{zone}{rebuilds} if $s;

        last if !$ok;
    }
}

cmp_ok($rebuilds, '>', 0.8 * @cuts, 'the zone was rebuilt many a time');

my $r = $load[0]->stop;
$_->stop for @load[1, 2];

# An answer that nobody will ever give is not waited for.
my @late = grep { $_->[0] =~ /timed out/ } @{$r->{wrong}};
is(scalar @late, 0, 'no request was forgotten')
    or diag($load[0]->text({ %$r, wrong => \@late }));

ok($t->wait_idle(15), 'the zone is idle') or diag($t->status->{text});

my $list = $t->get('/api/backends')->{body};
like($list, qr/"id":"$_"/, "backend $_ is there") for 'b', 'fixed';

api('DELETE', "backends/x$_") for 0 .. 2;
my $s = $t->status;
diag($s->{text}) if $ENV{INVERTING_PROXY_VERBOSE};

is(work_upload($t, 'last', 3_000_000), undef, 'a large upload');
is(work_download($t, 'last', 3_000_000), undef, 'a large download');

$t->done;
