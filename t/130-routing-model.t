#!/usr/bin/perl

# Which backend answers, against a model that knows nothing of the module: random
# records that come, change and go over the API, random users and paths.  Nobody
# serves: a backend without an agent is a 503, one whose agent was just there a
# 504, and both say which one it was.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP ();

my $t = InvertingProxy::Test->new(timeout => 600);

my $n = $t->nginx(start => 0, workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:16m registry=8m;
    inverting_proxy_backend_timeout 3600s;
    inverting_proxy_poll_timeout 1ms;
    inverting_proxy_queue 8 timeout=1ms;

    keepalive_requests 1000000;
    large_client_header_buffers 4 16k;
    add_header X-Backend $inverting_proxy_backend always;

    server {
        listen 127.0.0.1:%%PORT%%;
        inverting_proxy_user $http_x_user;
        location / { inverting_proxy_pass main; }
    }

    server {
        listen 127.0.0.1:%%PORT_anybody%%;
        location / { inverting_proxy_pass main; }
    }

    server {
        listen 127.0.0.1:%%PORT_named%%;
        inverting_proxy_user $http_x_user;
        location / { inverting_proxy_pass main $http_x_name; }
    }

    server {
        listen 127.0.0.1:%%PORT_api%%;
        location /api/ { inverting_proxy_api main write=on; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $http_x_agent;
        }
    }
EOT

$n->{api_port} = $n->port('api');
$n->start;

# The same sequence each time, and another with another seed.
my $seed = $ENV{INVERTING_PROXY_SEED} || 20240229;
srand($seed);
note("INVERTING_PROXY_SEED=$seed");

my $json = JSON::PP->new->canonical->utf8;

# Names that are alike, in a few bytes or in all but one.
my @users = ('alice', 'alice2', 'Alice', 'ali', 'bob', 'b@example.com',
             'CN=bob,O=Example', "J\xc3\xbcrgen", 'u' x 256, 'u' x 255 . 'v',
             'allUser', map({ "user$_" } 1 .. 40));

my @segments = ('a', 'ab', 'abc', 'foo', 'foobar', 'fo', 'A', '~', '.x', 'x.',
                'a b', 'a%b', "\xc3\xa9", 'a+b', "'", ';', ':', '-', '0');

my (%record, %present, %connection);


sub pick { return $_[rand @_] }


sub path {
    my ($max) = @_;

    my $path = join('', map { '/' . pick(@segments) } 1 .. rand($max));
    $path .= '/' if $path eq '' || rand() < 0.3;
    $path .= 'x' x rand(300) if rand() < 0.02;

    return $path;
}


# A byte prefix of some path, not only one of whole segments.

sub prefix {
    my $prefix = substr(path(5), 0, rand() < 0.02 ? 256 : 40);

    $prefix = substr($prefix, 0, 1 + rand(length $prefix)) if rand() < 0.3;
    $prefix =~ s/[\xc2-\xf4]\z//;

    return $prefix;
}


sub random_record {
    my ($id) = @_;

    my $few = rand() < 0.9;
    my $user = rand() < 0.05 ? 'allUsers' : pick(@users);
    my %prefixes;

    # With a "/" for everybody nothing else would ever come to everybody.
    while (keys %prefixes < 1 + rand($few ? 3 : 64)) {
        my $prefix = prefix();
        next if $prefix eq '/' && rand() < ($user eq 'allUsers' ? 1 : 0.95);
        $prefixes{$prefix} = 1;
    }

    return { id => $id, backendUser => pick('one', 'two'), endUser => $user,
             pathPrefixes => [ sort { $a cmp $b } keys %prefixes ] };
}


# The model: what stands in the documentation, one line after the other.

sub expected {
    my ($user, $path) = @_;

    for my $who (($user eq '' ? () : $user), 'allUsers') {
        my @matching;

        for my $r (grep { $_->{endUser} eq $who } values %record) {
            for my $prefix (@{$r->{pathPrefixes}}) {
                next if substr($path, 0, length $prefix) ne $prefix;
                push @matching, [ length $prefix, $r->{id} ];
            }
        }

        next if !@matching;

        my ($first) = sort {
            $b->[0] <=> $a->[0]
            || ($present{$b->[1]} || 0) <=> ($present{$a->[1]} || 0)
            || $a->[1] cmp $b->[1]
        } @matching;

        return (found($first->[1]), $first->[1]);
    }

    return (undef, '');
}


sub found { return $present{$_[0]} ? 504 : 503 }


# One of the many ways to write it, all of them the same to nginx.

sub written {
    my ($path) = @_;

    my $raw = '';

    for my $byte (split(//, $path)) {
        my $plain = $byte =~ m{[A-Za-z0-9/.~+';:_-]};
        $raw .= !$plain || ($byte ne '/' && rand() < 0.05)
                ? sprintf(rand() < 0.5 ? '%%%02x' : '%%%02X', ord $byte)
                : $byte;
    }

    if (rand() < 0.2) {
        my @slashes;
        push @slashes, pos($raw) - 1 while $raw =~ m{/}g;
        substr($raw, pick(@slashes), 1) = pick('//', '/./', '/no/../', '/%2E/');
    }

    return $raw . (rand() < 0.3 ? '?/a/b&c' : '');
}


sub ask {
    my ($port, $target, @headers) = @_;

    my $c = $connection{$port} ||= $t->client(port => $n->port($port),
                                              timeout => 20);
    my $m = $c->get($target, headers => \@headers);

    delete $connection{$port} if !$m;

    return $m ? ($m->{status}, $m->header('X-Backend') || '') : ('cut', '');
}


sub api {
    my ($method, $path, $record) = @_;

    my $c = $connection{api} ||= $t->client(port => $n->port('api'));

    my $body;
    if ($record) {
        # The strings are bytes already.
        my %r = %$record;
        my @strings = map { utf8_of($_) } @r{qw(id endUser backendUser)};
        @r{qw(id endUser backendUser)} = @strings;
        $r{pathPrefixes} = [ map { utf8_of($_) } @{$r{pathPrefixes}} ];
        $body = $json->encode(\%r);
    }

    my $m = $c->get("/api/$path", method => $method, body => $body);

    return $m->{status} == 200 ? $m : die "$method $path: $m->{body}";
}


sub utf8_of {
    my ($bytes) = @_;
    utf8::decode($bytes) or die 'not UTF-8';
    return $bytes;
}


sub change {
    my ($count) = @_;

    for (1 .. $count) {
        my $id = pick('b', 'B', 'b.', 'b-') . int(rand(900));

        if ($record{$id} && rand() < 0.5) {
            api('DELETE', "backends/$id");
            delete $record{$id};
            delete $present{$id};

        } else {
            my $r = random_record($id);

            # An agent that may not serve it any more is not there any more.
            if ($present{$id}
                && $record{$id}{backendUser} ne $r->{backendUser})
            {
                delete $present{$id};
            }

            api('POST', 'backends', $r);
            $record{$id} = $r;
        }
    }

    return;
}


# Agents of some of them come by.

sub visit {
    my ($count) = @_;

    for my $id (map { pick(sort keys %record) } 1 .. $count) {
        my $c = $connection{api} ||= $t->client(port => $n->port('api'));
        my $m = $c->get('/agent/pending', headers => [
                            "X-Inverting-Proxy-Backend-ID: $id",
                            "X-Agent: $record{$id}{backendUser}" ]);

        die "the poll of $id: $m->{start}" if $m->{status} != 200;
        $present{$id} = 1;
    }

    return;
}


sub describe {
    my ($what, $got, $want) = @_;
    return "$what: @$got instead of @$want";
}


sub compare {
    my ($count, $name) = @_;

    my (@wrong, %seen);

    for (1 .. $count) {
        my $user = rand() < 0.05 ? '' : rand() < 0.03 ? 'allUsers'
                 : rand() < 0.05 ? 'nobody' : pick(@users);
        my $path = path(6);
        my $raw = written($path);

        my ($status, $id) = expected($user, $path);

        my @want = (defined $status ? $status : $user eq '' ? 401 : 404, $id);
        my @got = ask('', $raw, "X-User: $user");
        push @wrong, describe("$user $raw", \@got, \@want)
            if "@got" ne "@want";
        $seen{$want[0]}++;

        # Where nobody asks who it is, he is nobody, and there is no 401.
        if (rand() < 0.1) {
            ($status, $id) = expected('', $path);
            @want = (defined $status ? $status : 404, $id);
            @got = ask('anybody', $raw, "X-User: $user");
            push @wrong, describe("anybody $raw", \@got, \@want)
                if "@got" ne "@want";
        }

        # By name, whatever the path.
        if (rand() < 0.3) {
            my @own = grep { $record{$_}{endUser} eq $user } keys %record;
            my $named = rand() < 0.2 || !%record
                        ? pick('', 'none', '/', 'b/1', '.', '..', 'x' x 2000)
                        : pick(sort rand() < 0.5 && @own ? @own
                                                         : keys %record);
            my $r = $record{$named};
            my $ok = $r && ($r->{endUser} eq 'allUsers'
                            || ($user ne '' && $r->{endUser} eq $user));

            @want = $ok ? (found($named), $named) : (404, '');
            @got = ask('named', $raw, "X-User: $user", "X-Name: $named");
            push @wrong, describe("$named for $user $raw", \@got, \@want)
                if "@got" ne "@want";
            $seen{"named $want[0]"}++;
        }
    }

    is(scalar @wrong, 0, $name)
        or diag(join("\n", splice(@wrong, 0, 10)));

    return \%seen;
}


my $unused = $t->status->{doc}{registry}{used};
change(1500);

my %total;
my $count = $ENV{INVERTING_PROXY_SLOW} ? 150 : 400;

for my $round (1 .. 8) {
    my $seen = compare($count, "as the model says, round $round");
    $total{$_} += $seen->{$_} for keys %$seen;
    change(150);
    visit(40);
    note(scalar(keys %record), ' records, ', scalar(keys %present), ' present');
}

note(join(', ', map { "$_: $total{$_}" } sort keys %total));

# A comparison in which nothing was ever found would prove nothing.
for my $what (401, 404, 503, 504, 'named 404', 'named 503', 'named 504') {
    ok(($total{$what} || 0) >= 5, "$what was among the outcomes");
}

my $list = $json->decode($t->client(port => $n->port('api'))
                           ->get('/api/backends')->{body});
is_deeply([ map { $_->{id} } @$list ], [ sort keys %record ],
          'the list has what the model has');

# All of them gone: nothing is left of any route.
for my $id (sort keys %record) {
    api('DELETE', "backends/$id");
    delete $record{$id};
    delete $present{$id};
}

compare(100, 'nothing is found when all are gone');
is($t->status->{doc}{registry}{used}, $unused, 'and no memory is in use');

$_->close for values %connection;
$t->done;
