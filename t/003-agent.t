#!/usr/bin/perl

# The agent by itself, against a stand-in for a proxy of the family.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [ 'X-Back: yes' ], "$req->{start} $req->{body}");
});

my $p = $t->stand_in(hold => 2);
my $a = $t->agent(proxy => $p->url, backend => 'b', host => $b->address,
                  wait => 0, transport => 'poll');

ok($p->wait_note(qr{^GET /agent/pending}), 'it polls');

my $get = $p->add("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
my $post = $p->add("POST /y HTTP/1.1\r\nHost: h\r\n"
                   . "Content-Length: 2\r\n\r\nup");

my $m = $p->wait_response($get);
is($m->{status}, 200, 'the status of a GET');
is($m->header('X-Back'), 'yes', 'a field');
is($m->{body}, 'GET /x HTTP/1.1 ', 'the body');
is($m->{cut}, undef, 'whole');
is($m->{outer}->header('X-Inverting-Proxy-Backend-ID'), 'b',
   'the backend in the POST');

is($p->wait_response($post)->{body}, 'POST /y HTTP/1.1 up', 'a POST');

$b->stop;
is($p->wait_response($p->add("GET /z HTTP/1.1\r\nHost: h\r\n\r\n"))->{status},
   502, 'no backend');

$a->signal('TERM');
is($a->wait_end(5), 0, 'SIGTERM ends it with status 0');

$t->done;
