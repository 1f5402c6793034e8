#!/usr/bin/perl

# 100 MiB up and down, in both framings, and what of it is in memory meanwhile.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;
my $size = 100 * 1024 * 1024;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req, digest => 1);

    return $c->respond(200, [], "$req->{framing} $req->{length} $req->{sha256}")
        if $req->{method} eq 'POST';

    return $c->respond(200, [], random_body('down', $size),
                       $req->{target} eq '/chunked' ? (chunked => 1)
                                                    : (length => $size));
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        client_max_body_size 0;
        client_body_temp_path %%DIR%%/temp;
        proxy_temp_path %%DIR%%/temp;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $a = $t->agent(backend => 'real', host => $b->address);

sub rss {
    my $sum = 0;
    for my $pid ($n->workers, $a->pid) {
        $sum += $1 if slurp("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
    }
    return $sum;
}

my $digest = { map { $_ => body_sha256($_, $size) } qw(up down) };
my $before = rss();
my $m;

for my $framing (qw(length chunked)) {
    $m = $t->get("/$framing", digest => 1, timeout => 30);
    is($m->{sha256}, $digest->{down}, "100 MiB down, $framing");
    is($m->{framing}, $framing, "its framing: $framing");
    is($m->{cut}, undef, "whole, $framing");

    $m = $t->get('/', method => 'POST', body => random_body('up', $size),
                 timeout => 30, $framing eq 'length' ? (length => $size) : ());
    is($m->{body}, "$framing $size $digest->{up}", "100 MiB up, $framing");
}

SKIP: {
    skip 'instruments use memory of their own', 1
        if $ENV{INVERTING_PROXY_PRELOAD} || $ENV{INVERTING_PROXY_VALGRIND};

    cmp_ok(rss() - $before, '<', 4096, 'memory has not grown by 4 MiB');
}

my @temp = grep { -f } glob($n->{dir} . '/{temp,client_body,proxy}/*/*/*');
is(scalar @temp, 0, 'nor is anything in files');
unlike($n->log, qr/buffered to a temporary file/, 'nor was it');

$t->done;
