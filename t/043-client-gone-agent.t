#!/usr/bin/perl

# A client goes away, at every point of its request, and a real agent serves
# it: the backend's connection is closed soon.  Clients are killed commands.

use lib 't/lib';
use InvertingProxy::Test ':transports';
use InvertingProxy::Test::Process;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->{timeout} = 20;

    my $part = sub {
        $c->body_start($req);
        $c->note('part ' . $c->body_piece);
    };

    if ($req->{target} =~ /part/) {
        $part->();
    }

    if ($req->{target} =~ /answer/) {
        $c->head(200, [ 'Transfer-Encoding: chunked' ]);
        $c->chunk('five!');
    }

    $c->note("has $req->{target}");

    if ($req->{target} =~ /endless/) {
        # until it cannot write any more
        while ($c->chunk('x' x 4096)) { }
        $c->note("end of $req->{target}");
        return 0;
    }

    if ($req->{target} =~ /blocked/) {
        # the end is behind what is on its way
        nap(1);
        $c->read_body($req, sink => sub { });
        $c->note("end of $req->{target}") if $req->{cut};
        return 0;
    }

    my $end = $c->wait_end(15);
    $c->note('end of ' . $req->{target}) if $end && $end ne 'data';

    return 0;
}, rcvbuf => 4096);


my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=a;
    inverting_proxy_agent_user a;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_h2%% http2;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $a = $t->agent(backend => 'b', host => $b->address);


sub command {
    my ($h2, $target, $upload) = @_;

    my $url = 'http://127.0.0.1:' . $n->port($h2 ? 'h2' : '') . $target;
    my $curl = 'curl -sN -o /dev/null'
               . ($h2 ? ' --http2-prior-knowledge' : '');

    $curl .= ' --limit-rate 1k' if $target =~ /slow/;

    my $line = !defined $upload ? "exec $curl $url"
               : $upload eq 'part' ? "(printf part; exec sleep 60) "
                                     . "| $curl -T . $url"
                                   : "exec $curl -T $upload $url";

    return InvertingProxy::Test::Process->spawn(name => 'curl',
        argv => [ 'sh', '-c', $line ], env => { http_proxy => undef });
}


my $big = "$t->{dir}/big";

spew($big, '');
truncate($big, 1_000_000_000);

for my $h2 (0, 1) {
    for my $case (
        [ 'before the response', '/nothing' ],
        [ 'in the middle of the response', '/answer' ],
        [ 'in the middle of a response without an end', '/answer/endless' ],
        [ 'while it reads slowly', '/answer/endless/slow' ],
        [ 'in the middle of its upload', '/part', 'part' ],
        [ 'in the middle of both', '/part/answer', 'part' ],
        [ 'in the middle of an upload that is not read', '/blocked', $big ],
    ) {
        my ($what, $target, $upload) = @$case;

        $what = 'HTTP/2: ' . $what if $h2;
        $b->clear_notes;

        my $client = command($h2, $target, $upload);

        ok($b->wait_note(qr/^has \Q$target\E$/), "$what: the backend has it");
        nap(0.3) if $target =~ /endless|blocked/;

        $client->signal_group('KILL');
        my $t0 = now();
        $client->finish;

        ok($b->wait_note(qr/^end of \Q$target\E$/), "$what: and its end")
            or diag(join("\n", $b->notes));
        cmp_ok(now() - $t0, '<', 8 * slow(), 'soon');
        ok($t->wait_idle(5), "$what: nothing is left of it");
    }
}

ok($a->running, 'the agent runs');

$t->done;
