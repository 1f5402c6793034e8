#!/usr/bin/perl

# A request whose agent is lost, by itself or with its worker, before anything of
# the body was read, is offered again with all of its body.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Cut;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%% reuseport;
        client_max_body_size 0;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
        location = /pid { return 200 $pid; }
    }
EOT

$n->allow_kill;

my ($A, $B) = $n->workers;

sub at { return $t->client_at($_[0], timeout => 15) }

my $peer = $t->peer(backend => 'b', timeout => 15);

sub headers {
    my ($id) = @_;
    return (headers => [ 'X-Inverting-Proxy-Backend-ID: b',
                         "X-Inverting-Proxy-Request-ID: $id" ]);
}

my $no_debugger = cut_missing($A);

for my $how ('closes both', 'dies with its worker',
             'closes both, and its worker dies of it', 'closes the request')
{
  SKIP: {
    skip($no_debugger, 1) if $no_debugger && $how =~ /dies of it/;

    my $size = $how eq 'closes the request' ? 8_000_000 : 200_000;
    my $data = body_bytes($how, $size);

    $t->visit($peer);
    my $c = at($A);
    $c->request('PUT', '/x', length => $size);

    my $id = $peer->take;
    my $f = at($B);
    $f->request('GET', '/agent/request', headers($id));
    is($f->response(head_only => 1)->{status}, 200, "$how: fetched");
    my $p = at($B);
    $p->request('POST', '/agent/response', chunked => 1, headers($id));
    nap(0.1);

    if ($how eq 'closes the request') {

        # And answers without it.
        $f->close;
        nap(0.1);
        $p->chunk("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");

        # The client reads it only when it has sent all that it wants to.
        my $sent = eval { $c->write('x' x ($size - 1)) };
        ok($sent, "$how: nobody reads it, but it can be sent");
        $c->write('x');
        is($c->response->{status}, 403, "$how: its answer");
        $p->last_chunk;
        is($p->response->{status}, 200, "$how: the end of its POST");
        $c->close;
        last SKIP;
    }

    if ($how eq 'closes both') {
        $f->close;
        nap(0.1);
        $p->close;

    } elsif ($how =~ /dies of it/) {
        $p->close;
        nap(0.3);

        # After its end was given up, before anything followed from that.
        my $r = cut($B, 'ngx_http_inverting_taker_detach_locked',
                    when => sub { $f->close });
        ok($r->{stopped}, "$how: stopped") or diag($r->{out});
        waitfor(sub { my @w = $n->workers;
                      @w == 2 && !grep { $_ == $B } @w });
        ($B) = grep { $_ != $A } $n->workers;

    } else {
        ok($n->kill_worker($B), "$how");
        ($B) = grep { $_ != $A } $n->workers;
    }

    my $other = $peer->take;
    ok($other && $other ne $id, "$how: another ID");

    $f = $peer->fetch($other, stream => 1);
    $p = $peer->post($other);
    $c->write($data);

    # All of it, and no less.
    my $got = '';

    eval {
        while (defined(my $piece = $f->{inner}->body_piece)) {
            $got .= $piece;
        }
    };

    is(length $got, $size, "$how: the length of the body") or diag($@);
    ok($got eq $data, "$how: its bytes");

    $p->write($peer->response(200, [], 'ok'));
    is($c->response->{body}, 'ok', "$how: an answer");
    $p->finish;
    $c->close;
  }
}


# The response is lost, and the request is not let go of.

my $c = at($A);
$c->request('PUT', '/x', length => 4);
my $id = $peer->take;
my $f = at($B);
$f->request('GET', '/agent/request', headers($id));
is($f->response(head_only => 1)->{status}, 200, 'a request');
is($peer->respond($id, '')->{status}, 400, 'its response is lost');
is($peer->respond($id, $peer->response(200, [], 'x'))->{status}, 404,
   'another one comes too late');
my $m = $c->response;
is($m->{status}, 502, 'not for ever is its end waited for');
cmp_ok($m->{at}{end}, '<', 15 * slow(), 'no longer than for an agent');

$t->done;
