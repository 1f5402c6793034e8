#!/usr/bin/perl

# 1, 2, 4 and 16 workers, and no master at all: small bodies and large ones, both
# ways; and where there are several workers, proof that client and agent met
# across them.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Work;

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());

# Each worker has a queue of connections of its own.  In each line of the logs is
# who served it.
my $http = <<'EOT';
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    log_format met "$pid $inverting_proxy_id $uri $status";

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_max_body_size 0;
        location / {
            inverting_proxy_pass main;
            access_log %%DIR%%/client.log met;
        }
        location /agent/ {
            inverting_proxy_agent main;
            access_log %%DIR%%/agent.log met;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

for my $workers (1, 2, 4, 16, 0) {
    my $name = $workers ? "$workers workers" : 'no master';
    my $n = $t->nginx(workers => $workers || 1, http => $http,
                      single => !$workers);

    # The first one is the one that rig and clients talk to.
    unshift @{$t->{nginx}}, pop @{$t->{nginx}};

    # A connection of PTTH takes what its own worker has, before anything else:
    # there is only one.
    my @agents = map { $t->agent(backend => 'b', host => $b->address,
                                 args => [ '-connections=1' ]) }
                 1 .. ($t->over_ptth ? 1 : 2);

    my $l = $t->load(clients => 4, count => 25, code => sub {
        my ($load, $i) = @_;
        my $key = "$load->{client}-$i";

        return work_download($t, $key, 300_000 + $i) if $i % 8 == 1;
        return work_upload($t, $key, 300_000 + $i) if $i % 8 == 3;
        return work_upload($t, $key, 300_000 + $i, chunked => 1) if $i % 8 == 5;
        return work_small($t, $key, method => 'POST') if $i % 8 == 7;
        return work_small($t, $key);
    });

    my $r = $l->wait;
    is($r->{count}, 100, "$name: all requests");
    is(scalar @{$r->{wrong}}, 0, "$name: not one went wrong")
        or diag($l->text($r));

    is(work_download($t, 'large', 8_000_000), undef, "$name: a large download");
    is(work_upload($t, 'large', 8_000_000), undef, "$name: a large upload");

    is($t->status->{doc}{zone}{rebuilds}, 0, "$name: nothing was rebuilt");
    is(scalar $t->status->workers, $workers || 1, "$name: the status has them");

    ok($t->wait_idle(10, $n), "$name: the zone is idle");
    is(join('', map { $_->stop } @agents), '', "$name: the agents end well");

    # Logged when a request has ended, which the client need not wait for.
    my ($last, $count) = $t->over_ptth ? (qr{/ptth 101$}m, 1)
                                       : (qr{/re(?:quest|sponse) 200$}m, 204);
    waitfor(sub { (() = slurp("$n->{dir}/client.log") =~ /\n/g) >= 102
                  && (() = slurp("$n->{dir}/agent.log") =~ /$last/g)
                     >= $count }, 5);

    my %client = map { /^(\d+) ([0-9a-f]{32}) / ? ($2 => $1) : () }
                 split(/\n/, slurp("$n->{dir}/client.log"));
    my (%fetched, %answered);

    for my $line (split(/\n/, slurp("$n->{dir}/agent.log"))) {
        my ($pid, $id, $uri) = split(' ', $line);
        $fetched{$id} = $pid if $uri eq '/agent/request';
        $answered{$id} = $pid if $uri eq '/agent/response';

        if ($uri eq '/agent/ptth') {
            $fetched{$_} = $answered{$_} = $pid for keys %client;
        }
    }

    is(scalar keys %client, 102, "$name: every request has its ID");
    is(scalar(grep { !$fetched{$_} || !$answered{$_} } keys %client), 0,
       "$name: each was fetched and answered by that ID");

    my %pid = map { $_ => 1 } values %client, values %fetched,
                              values %answered;
    my $fetched = grep { $client{$_} != $fetched{$_} } keys %client;
    my $answered = grep { $client{$_} != $answered{$_} } keys %client;
    my $three = grep { $client{$_} != $fetched{$_}
                       && $client{$_} != $answered{$_}
                       && $fetched{$_} != $answered{$_} } keys %client;

    if ($workers > 1) {
        # By chance, a connection is another worker's in (n - 1)/n of all cases;
        # agents keep few connections, though.
        cmp_ok(scalar keys %pid, '>', 1, "$name: more than one took part");
        cmp_ok($fetched, '>=', 5, "$name: requests went to other workers");
        cmp_ok($answered, '>=', 5, "$name: responses came from others");

        if ($workers > 2 && !$t->over_ptth) {
            cmp_ok($three, '>=', 1, "$name: three workers for one request");
        }

        diag("$name: " . keys(%pid) . ' took part; other worker fetched '
             . "$fetched, answered $answered, all different $three")
            if $ENV{INVERTING_PROXY_VERBOSE};

    } else {
        is(scalar keys %pid, 1, "$name: one process did it all");
    }

    is(join('', $n->stop), '', "$name: nginx ends well");
}

$t->done;
