#!/usr/bin/perl

# nginx -t: what is right passes, and what is wrong is said, with the name of the
# directive.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;
my $n = $t->nginx(start => 0);

# A whole http block from the directives of its levels.
sub http {
    my ($main, $location) = @_;

    return "$main\nserver { listen 127.0.0.1:%%PORT%%;"
           . " location /x { $location } }";
}

my $zone = 'inverting_proxy_zone zone=main:4m;';

my @good = (
    [ 'the module alone', '', '' ],
    [ 'a zone', $zone, '' ],
    [ 'a zone with a share for its registry',
      'inverting_proxy_zone zone=main:4m registry=1m;', '' ],
    [ 'two zones', "$zone inverting_proxy_zone zone=other:4m;", '' ],
    [ 'a zone after its use', '', 'inverting_proxy_pass main;', $zone ],
    [ 'pass', $zone, 'inverting_proxy_pass main;' ],
    [ 'pass to a backend', $zone, 'inverting_proxy_pass main $arg_b;' ],
    [ 'pass in an if', $zone, 'if ($arg_a) { inverting_proxy_pass main; }' ],
    [ 'agents', $zone,
      'inverting_proxy_agent main; inverting_proxy_agent_user $remote_user;' ],
    [ 'the API', $zone, 'inverting_proxy_api main;' ],
    [ 'the API with writing', $zone, 'inverting_proxy_api main write=on;' ],
    [ 'a backend', "$zone inverting_proxy_backend main b "
      . "end_user=allUsers backend_user=me;",
      '' ],
    [ 'a backend with everything',
      "$zone inverting_proxy_backend main b end_user=me prefix=/a prefix=/b "
      . 'backend_user=agent;', '' ],
    [ 'all the rest', $zone, <<'EOT' ],
        inverting_proxy_pass main;
        inverting_proxy_user $remote_user;
        inverting_proxy_queue 10 timeout=3s;
        inverting_proxy_read_timeout 1s;
        inverting_proxy_send_timeout 1s;
        inverting_proxy_poll_timeout 1s;
        inverting_proxy_backend_timeout 1s;
        inverting_proxy_buffer_size 8k;
        inverting_proxy_buffers 16 4k;
        inverting_proxy_set_header X-A $uri;
        inverting_proxy_intercept_errors on;
EOT
);

for my $case (@good) {
    my ($name, $main, $location, $after) = @$case;

    my $r = $n->test(http => http($main, $location) . ($after || ''));
    is($r->{status}, 0, "$name: passes") or diag($r->{out});
}

my @bad = (
    [ 'a zone without a size', 'inverting_proxy_zone',
      'inverting_proxy_zone zone=main;', '' ],
    [ 'a zone that is too small', 'inverting_proxy_zone',
      'inverting_proxy_zone zone=main:8k;', '' ],
    [ 'a zone with a bad size', 'inverting_proxy_zone',
      'inverting_proxy_zone zone=main:x;', '' ],
    [ 'a share that leaves too little', 'registry=3670016 of '
      . '"inverting_proxy_zone" "main" leaves too little of 4194304: it must be '
      . '3145728 at most',
      'inverting_proxy_zone zone=main:4m registry=3584k;', '' ],
    [ 'a zone twice', 'inverting_proxy_zone', $zone . $zone, '' ],
    [ 'a zone with a parameter that there is not', 'inverting_proxy_zone',
      'inverting_proxy_zone zone=main:4m nonsense=1;', '' ],
    [ 'pass to a zone that there is not', 'inverting_proxy_pass', $zone,
      'inverting_proxy_pass other;' ],
    [ 'agents of a zone that there is not', 'inverting_proxy_agent', $zone,
      'inverting_proxy_agent other;' ],
    [ 'the API of a zone that there is not', 'inverting_proxy_api', $zone,
      'inverting_proxy_api other;' ],
    [ 'pass twice', 'inverting_proxy_pass', $zone,
      'inverting_proxy_pass main; inverting_proxy_pass main;' ],
    [ 'a backend without an end user', 'inverting_proxy_backend',
      "$zone inverting_proxy_backend main b;", '' ],
    [ 'a backend with a bad id', 'inverting_proxy_backend',
      "$zone inverting_proxy_backend main b/c end_user=allUsers;", '' ],
    [ 'a backend with a bad prefix', 'inverting_proxy_backend',
      "$zone inverting_proxy_backend main b end_user=allUsers prefix=x;", '' ],
    [ 'a backend twice', 'inverting_proxy_backend',
      $zone . 'inverting_proxy_backend main b end_user=allUsers backend_user=me;'
              x 2, '' ],
    [ 'the API with a bad value', 'inverting_proxy_api', $zone,
      'inverting_proxy_api main write=maybe;' ],
    [ 'a queue with a bad number', 'inverting_proxy_queue', $zone,
      'inverting_proxy_queue many;' ],
);

for my $case (@bad) {
    my ($name, $directive, $main, $location) = @$case;

    my $r = $n->test(http => http($main, $location));
    is($r->{status}, 1, "$name: fails");
    like($r->{out}, qr/\[emerg\].*\b\Q$directive\E\b/,
         "$name: names the directive");
}

# Sizes have no "g" in nginx.
like($n->test(http => http('inverting_proxy_zone zone=main:200000m;', ''))
       ->{out}, qr/it must be 32768m at most: set "registry"/,
     'a registry that is too large: what to write');

$t->done;
