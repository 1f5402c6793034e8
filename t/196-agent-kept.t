#!/usr/bin/perl

# Connections to the backend that the agent keeps: a request that can't be sent
# twice takes none that the backend is about to close, by what it did before.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

$t->nginx(http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

# Which connection the request came by; "/close?ms" is closed so much later,
# without a word.

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req);
    $c->respond(200, [], $c->{number}, at_once => 1);

    if ($req->{target} =~ m{^/close\?(\d+)}) {
        nap($1 / 1000);
        $c->note('closed');
        return 0;
    }

    return 1;
});

my $a = $t->agent(backend => 'b', host => $b->address);

my $c = $t->client;

sub by {
    my ($method, $target) = @_;
    return $c->get($target, method => $method,
                   $method eq 'POST' ? (body => 'x') : ())->{body};
}

# A connection that is closed after $ms without a request.
sub closed {
    my ($ms) = @_;

    $b->clear_notes;
    by('GET', "/close?$ms");
    $b->wait_note(qr/closed/, 10);
    nap(0.3);
}

is(join(' ', map { by($_, '/') } qw(GET POST GET POST)), '1 1 1 1',
   'nothing is known: a kept connection is used by all');

# It takes a moment until the agent sees it, which it takes for the origin's.
closed(0);
is(join(' ', map { nap(0.1); by($_, '/') } qw(POST POST GET POST GET)),
   '2 3 3 4 4',
   'closed at once: a POST has a connection of its own, a GET any');

# Those that were not taken have been closed, and not kept for nothing.
sub established {
    my $from = sprintf('^ *\d+: 0100007F:%04X \S+ 01 ', $b->port);
    return scalar(grep { /$from/ } split(/\n/, slurp('/proc/net/tcp')));
}

ok(waitfor(sub { established() == 1 }), 'there is one connection in the end')
    or diag(established());

# What was seen before is forgotten with the agent.

$a->signal('TERM');
is($a->wait_end(10), 0, 'the agent ends');
$t->agent(backend => 'b', host => $b->address);

closed(3000);
my $first = by('GET', '/');
is(by('POST', '/'), $first, 'closed after 3 s: a POST in time has a kept one');
nap(2);
isnt(my $second = by('POST', '/'), $first, 'a late one has its own');
is(by('POST', '/'), $second, 'which is the next to be used again');

# The origin closes every connection at once, and many ask at the same time.

my $result = $t->load(clients => 4, count => 100, code => sub {
    my ($load) = @_;
    my $x = ($load->{state}{c} ||= $t->client)->get('/close?0', method => 'POST',
                                                   body => 'x');
    return $x && $x->{status} == 200 ? undef : 'status ' . $x->{status};
})->wait(60);

is($result->{count}, 400, 'POSTs to a backend that closes without a word');
cmp_ok(scalar @{$result->{wrong}}, '<', 5, 'few of them are lost')
    or diag(scalar @{$result->{wrong}});

$t->done;
