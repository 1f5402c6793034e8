#!/usr/bin/perl

# Workers, or all of nginx, are killed at any moment while clients create and
# delete over several workers.  Whatever was answered 200 is there afterwards,
# what was refused is not, what was not answered may be either; and what the
# zone has is what the file has.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);
use POSIX ();

my $rounds = $ENV{INVERTING_PROXY_ROUNDS} || 20;
my $writers = 4;
my $ids = 12;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 3, http => <<'EOT');
    inverting_proxy_zone zone=main:4m state=%%DIR%%/state/main.db;
    server {
        listen 127.0.0.1:%%PORT%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

$n->allow_kill;

# Of each backend a list of what its endUser may be ('' for none), and its keys
# if they are certain.

my %expected;


# One request.  Its status; undef: no answer.

sub call {
    my ($c, $method, $path, $data) = @_;

    $$c ||= eval { $t->client(timeout => 15) } or return (undef, undef, 1);

    my $m = eval { $$c->get("/api/$path", method => $method,
                            body => $data ? encode_json($data) : undef) };

    if (!$m || !defined $m->{status}) {
        eval { $$c->close };
        $$c = undef;
        return;
    }

    return ($m->{status}, $m->{body});
}


sub change {
    my ($c, $id, $count) = @_;

    my $was = $expected{$id} ||= { may => [ '' ], keys => {} };
    my $what = int(rand(10));

    if ($what < 5) {
        my $user = "user-$$-$$count";
        my ($status, undef, $unsent) =
            call($c, 'POST', 'backends',
                 { id => $id, endUser => $user, pathPrefixes => [ "/$id" ] });

        return if $unsent;

        if (!defined $status) {
            push @{$was->{may}}, $user;
            $was->{keys} = undef if grep { $_ eq '' } @{$was->{may}};
        } elsif ($status == 200) {
            $was->{may} = [ $user ];
        }

        return $status;
    }

    if ($what < 8) {
        my ($status, undef, $unsent) = call($c, 'DELETE', "backends/$id");

        return if $unsent;

        if (!defined $status) {
            push @{$was->{may}}, '';
            $was->{keys} = undef;
        } elsif ($status == 200) {
            $was = $expected{$id} = { may => [ '' ], keys => {} };
        }

        return $status;
    }

    my ($status, $body, $unsent) = call($c, 'POST', "backends/$id/keys");

    return if $unsent;

    if (!defined $status) {
        $was->{keys} = undef;
    } elsif ($status == 200 && $was->{keys}) {
        $was->{keys}{decode_json($body)->{id}} = 1;
    }

    return $status;
}


sub writer {
    my ($number, $seconds, $file) = @_;

    srand($$ + time());

    my $end = now() + $seconds;
    my ($c, %statuses);
    my $count = 0;

    while (now() < $end) {
        my $status = change(\$c, "b-$number-" . int(rand($ids)), \$count);
        $statuses{$status || 'none'}++;
        $count++;

        nap(0.01) if !defined $status;
    }

    my %mine = map { $_ => $expected{$_} }
                   grep { /^b-$number-/ } keys %expected;
    spew($file, encode_json({ expected => \%mine, statuses => \%statuses }));

    return;
}


sub list {
    return { map { $_->{id} => $_ }
                 @{decode_json($t->get('/api/backends')->{body})} };
}


# Everything, as it can be compared.

sub whole {
    my $list = list();

    return encode_json_sorted({ map {
        my $b = $list->{$_};
        my $keys = decode_json($t->get("/api/backends/$_/keys")->{body});
        $_ => [ $b->{endUser}, $b->{pathPrefixes},
                [ sort map { $_->{id} } @$keys ] ]
    } keys %$list });
}

sub encode_json_sorted { return JSON::PP->new->canonical->encode($_[0]) }


sub verify {
    my @wrong;
    my $list = list();

    for my $id (sort keys %expected) {
        my $e = $expected{$id};
        my $is = $list->{$id} ? $list->{$id}{endUser} : '';

        if (!grep { $_ eq $is } @{$e->{may}}) {
            push @wrong, "$id is \"$is\", not " . join(' or ', @{$e->{may}});
            next;
        }

        my @keys = map { $_->{id} } $is eq '' ? ()
            : @{decode_json($t->get("/api/backends/$id/keys")->{body})};

        if ($e->{keys} && join(' ', sort @keys)
                          ne join(' ', sort keys %{$e->{keys}}))
        {
            push @wrong, "$id has the keys @keys, not "
                         . join(' ', sort keys %{$e->{keys}});
        }

        # It is certain from here on.
        $expected{$id} = { may => [ $is ], keys => { map { $_ => 1 } @keys } };
    }

    push @wrong, map { "$_ is there" } grep { !$expected{$_} } keys %$list;

    return @wrong;
}


# At once: a master process that lives a little longer makes new workers.

sub kill_all {
    my @pids = ($n->pid, $n->workers);

    $n->process->signal_group('KILL');
    $n->process->wait(10);
    $n->process->finish;

    waitfor(sub { !grep { kill(0, $_) && slurp("/proc/$_/stat") !~ /\) Z/ }
                  @pids });

    # also those that the master had forked only just now
    waitfor(sub { !$n->listening }, 20);
    return;
}


my %statuses;

for my $round (1 .. $rounds) {
    my $all = $round % 2;
    my $seconds = 0.2 + rand(0.3);
    my @children;

    for my $number (1 .. $writers) {
        my $file = "$t->{dir}/writer-$number";
        my $pid = fork();

        if ($pid == 0) {
            # Not the parent's to clean up.
            eval { writer($number, $seconds, $file) };
            POSIX::_exit($@ ? 1 : 0);
        }

        push @children, [ $pid, $file ];
    }

    nap($seconds * rand());

    if ($all) {
        kill_all();

    } else {
        my @workers = $n->workers;
        kill('KILL', $workers[rand(@workers)]);
    }

    for my $child (@children) {
        waitpid($child->[0], 0);
        my $told = decode_json(slurp($child->[1]));
        %expected = (%expected, %{$told->{expected}});
        $statuses{$_} += $told->{statuses}{$_} for keys %{$told->{statuses}};
    }

    if ($all) {
        $n->start;

    } else {
        waitfor(sub { $n->workers == 3 });
        # What a dead worker has committed, or not quite, is settled by others.
        nap(2.5);
    }

    my @wrong = verify();
    ok(!@wrong, "round $round: " . ($all ? 'nginx' : 'a worker')
                . ' was killed') or diag(join("\n", @wrong));

    next if $all;

    my $zone = whole();
    kill_all();
    $n->start;
    is(whole(), $zone, "round $round: the file is as the zone was");
}

diag(join(', ', map { "$_: $statuses{$_}" } sort keys %statuses))
    if $ENV{INVERTING_PROXY_KEEP};

cmp_ok($statuses{200}, '>', 20 * $rounds, 'changes were made');

my $m = $t->get('/api/backends', method => 'POST',
                body => '{"id": "x", "endUser": "x", "pathPrefixes": ["/"]}');
is($m->{status}, 200, 'and can be made');

$t->done;
