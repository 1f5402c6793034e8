#!/usr/bin/perl

# Tenants share a zone: limit_conn keeps one of them, whose agent takes requests
# and answers none, from filling it.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::PtthAgent qw(ptth_dial);

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [], 'fine');
});

my $n = $t->nginx(connections => 4096, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main good.test end_user=allUsers backend_user=me;
    inverting_proxy_backend main evil.test end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    limit_conn_zone $host zone=tenants:1m;

    server {
        listen 127.0.0.1:%%PORT%%;

        location / {
            limit_conn tenants 50;
            inverting_proxy_pass main $host;
        }

        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'good.test', host => $b->address);

my $h = ptth_dial(port => $n->port, backend => 'evil.test',
                  settings => { MAX_CONCURRENT_STREAMS => 10_000 });
ok($h->wait(sub { $h->{settings} }, 10), 'an agent that answers nothing');

sub ask {
    my ($host) = @_;

    my $c = $t->client;
    $c->write("GET / HTTP/1.1\r\nHost: $host\r\n\r\n");

    return $c;
}

my $there = sub { $_[0]->active('evil.test') + $_[0]->waiting('evil.test') };

# more than the zone has room for
my @clients;

for (1 .. 600) {
    push @clients, ask('evil.test');
    $h->drain(0) if $_ % 20 == 0;
}

ok($t->wait_status(sub { $there->($_[0]) == 50 }),
   'it has as many requests as it may have');
$h->drain(0);

is(ask('good.test')->response->{status}, 200, 'there is room for others');
is(ask('evil.test')->response->{status}, 503, 'but not for more of its own');

$_->close for @clients;
$h->drain(0.1);
ok($t->wait_status(sub { $there->($_[0]) == 0 }), 'those go');

my $again = ask('evil.test');
ok($t->wait_status(sub { $there->($_[0]) == 1 }), 'and there is room again');
$again->close;
$h->close;

$t->done;
