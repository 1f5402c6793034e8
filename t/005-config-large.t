#!/usr/bin/perl

# nginx -t with thousands of backends in the configuration: what it costs.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;
my $n = $t->nginx(start => 0);

my $checked = $ENV{INVERTING_PROXY_PRELOAD} || $ENV{INVERTING_PROXY_VALGRIND};

sub http {
    return "inverting_proxy_zone zone=main:64m;\n" . join('', @_);
}


# A file of keys for each: no more memory than the largest of them takes.

my @backends;

for my $i (1 .. 2000) {
    my $file = "$t->{dir}/key-$i";
    spew($file, sprintf("ipk_%016x_%064x\n", $i, $i));

    push @backends, "inverting_proxy_backend main b$i end_user=u$i"
                    . " key_file=$file;\n";
}

{
    local $n->{under} = [ 'prlimit', '--as=' . (160 << 20) ] if !$checked;

    my $r = $n->test(http => http(@backends));
    is($r->{status}, 0, 'many files of keys') or diag($r->{out});
}


# The time that it takes grows with their number, not with its square.

sub seconds {
    my ($count) = @_;

    my $http = http(map { "inverting_proxy_backend main b$_ end_user=u$_"
                          . " backend_user=a;\n" } 1 .. $count);
    my $before = (times())[2];
    my $r = $n->test(http => $http);

    is($r->{status}, 0, "$count backends") or diag($r->{out});

    return (times())[2] - $before;
}

my $few = seconds(8000);
my $many = seconds(40000);

cmp_ok($many, '<', 12 * $few + 0.2, "$many s are not many more than $few");

$t->done;
