#!/usr/bin/perl

# A change is committed only when it has its place in the registry, however
# full and however broken up that is: what the file has, the zone has.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m registry=128k state=%%DIR%%/state/main.db;
    server {
        listen 127.0.0.1:%%PORT%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $c = $t->client;

sub api {
    my ($method, $path, $data) = @_;

    my $m = $c->get("/api/$path", method => $method,
                    body => $data ? encode_json($data) : undef);
    $m->{json} = decode_json($m->{body});
    return $m;
}

sub create {
    my ($id, @prefixes) = @_;
    return api('POST', 'backends', { id => $id, endUser => 'allUsers',
                                     pathPrefixes => \@prefixes })->{status};
}

sub registry {
    my $r = api('GET', 'status')->{json}{registry};
    return $r;
}

# What a restart may change: times, and what agents do.

sub whole {
    return join("\n", map { my $b = $_; join(' ', $b->{id}, $b->{endUser},
        @{$b->{pathPrefixes}},
        sort map { $_->{id} } @{api('GET', "backends/$b->{id}/keys")->{json}})
    } @{api('GET', 'backends')->{json}});
}

sub agree {
    my ($name) = @_;
    my $zone = whole();
    $c->close;
    $n->quit;
    $n->start;
    $c = $t->client;
    is(whole(), $zone, "$name: zone and file agree");
    return;
}

# Pieces of free memory, many of them and small ones.

my @small;
for my $i (1000 .. 9999) {
    my $status = create("s$i", "/s$i");
    if ($status != 200) {
        is($status, 507, 'the registry is full');
        last;
    }
    push @small, "s$i";
}
cmp_ok(scalar @small, '>', 50, 'of small ones');

# A full one still is changed, as far as that takes no more.
is(api('DELETE', "backends/$small[0]")->{status}, 200, 'one is deleted');
is(create($small[0], "/$small[0]"), 200, 'and is back');

for (my $i = 0; $i < @small; $i += 2) {
    api('DELETE', "backends/$small[$i]");
}

my @large = map { "/$_" . 'x' x 250 } 10 .. 29;

is(create('large', @large), 507, 'no piece is large enough');
is(api('GET', 'backends/large')->{status}, 404, 'nor is it there');

# Until they fit no more, of every size.
my %statuses;
for my $i (1 .. 400) {
    my @some = @large[0 .. $i % 6];
    my $id = 'm' . $i % 90;
    my $status = $i % 11 ? create($id, @some)
               : api('POST', "backends/$id/keys",
                     { note => 'n' x ($i % 250) })->{status};
    $statuses{$status}++;
}
cmp_ok($statuses{200}, '>', 10, 'some have room');
cmp_ok($statuses{507}, '>', 10, 'others have none');
is(join(' ', grep { !/^(?:200|404|409|507)$/ } keys %statuses), '',
   'and that is all');

agree('in pieces');

unlike($n->log, qr/not in force/, 'what was committed is in force');

# Many at once: each must leave the others theirs.

my $l = $t->load(clients => 6, count => 60, code => sub {
    my ($load, $i) = @_;
    my $mine = $load->{state}{c} ||= $t->client;
    my $id = "p$load->{client}-" . $i % 9;
    my $m = $i % 4 == 3
            ? $mine->get("/api/backends/$id", method => 'DELETE')
            : $mine->get('/api/backends', method => 'POST',
                         body => encode_json({ id => $id, endUser => 'u',
                             pathPrefixes => [ @large[0 .. ($i * 7) % 12] ] }));
    return $m->{status} =~ /^(?:200|507)$/ ? undef : "$m->{status}";
});
my $r = $l->wait(120);
is(scalar @{$r->{wrong}}, 0, 'many changes at once') or diag($l->text($r));
agree('at once');
unlike($n->log, qr/not in force/, 'what was committed is in force');

# All of it comes back.
api('DELETE', "backends/$_->{id}") for @{api('GET', 'backends')->{json}};
is(create('large', @large), 200, 'an empty one has room');
api('DELETE', 'backends/large');

$t->done;
