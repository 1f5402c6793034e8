#!/usr/bin/perl

# key_file of inverting_proxy_backend: what may be in it, what is said of the
# rest, changes by reload; and an agent whose key is rotated under it.

use lib 't/lib';
use InvertingProxy::Test ':transports';

use Digest::SHA qw(sha256_hex);
use JSON::PP qw(decode_json);

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [], 'hello');
});

sub secret { return sprintf('ipk_%016x_', $_[0]) . $_[0] x 64 }

my $file = "$t->{dir}/keys";
spew($file, "# the agent at home\n\n  " . secret(1) . "  \r\nsha256:"
            . sha256_hex(secret(2)));

my $conf = <<"EOT";
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers key_file=$file;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location = /agent/pending {
            # not of PTTH: there it is how soon an agent has to answer
            inverting_proxy_agent main;
            inverting_proxy_poll_timeout 200ms;
        }
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $n = $t->nginx(workers => 2, http => $conf);

sub poll {
    my ($token) = @_;
    return $t->get('/agent/pending', headers => [ "Authorization: Bearer "
                                                  . $token ])->{status};
}

is(poll(secret(1)), 200, 'a secret');
is(poll(secret(2)), 200, 'the hash of one');
is(poll(secret(3)), 401, 'another one');

my $keys = decode_json($t->get('/api/backends/b/keys')->{body});
is(scalar @$keys, 2, 'the API lists them');
is_deeply([ grep { defined $_->{created} } @$keys ], [], 'without a time');
is($t->get('/api/backends/b/keys', method => 'POST')->{status}, 403,
   'and adds none');

my $token = "$t->{dir}/token";
spew($token, secret(1) . "\n");
my $agent = $t->agent(backend => 'b', host => $b->address,
                      args => [ "-token-file=$token" ]);
is($t->get('/')->{body}, 'hello', 'the agent serves');

spew($file, secret(1) . "\n" . secret(3) . "\n");
ok($n->reload, 'reload');
is(poll(secret(1)), 200, 'the one that stays');
is(poll(secret(2)), 401, 'the one that went');
is(poll(secret(3)), 200, 'the one that came');
is($t->get('/')->{body}, 'hello', 'the agent still serves');

# Rotated: the agent has the new one before the old one goes.

spew("$token.new", secret(3));
rename("$token.new", $token);

# A poll reads it, as does a new connection: the reload asks for that.
sub read_again { ok($agent->wait_log(qr/was read again/), 'the agent reads it') }

read_again() if !$t->over_ptth;
spew($file, secret(3));
ok($n->reload, 'reload without the old one');
read_again() if $t->over_ptth;
is(poll(secret(1)), 401, 'which is gone');
is($t->get('/')->{body}, 'hello', 'the agent serves with the new one')
    for 1 .. 3;

ok($agent->running, 'it was not started again');
unlike($agent->log, qr/\b401\b|unauthorized/i, 'and was never refused');


# What is wrong is said, with file and line, but not what is there.

my $bad = "$t->{dir}/bad";

sub bad {
    my ($name, $text, $regex) = @_;

    spew($bad, $text) if defined $text;
    (my $http = $conf) =~ s/\Q$file\E/$bad/;
    my $r = $n->test(http => $http);

    is($r->{status}, 1, "$name: fails");
    like($r->{out}, qr/\[emerg\].*$regex/, "$name: says why");
    unlike($r->{out}, qr/[0-9a-f]{17}/, "$name: shows nothing of it");
    return;
}

bad('no file', undef, qr/open\(\) key_file "\Q$bad\E" failed/);
bad('an empty file', '', qr/"\Q$bad\E".* must have 1 to 16 keys/);
bad('comments only', "# x\n", qr/must have 1 to 16 keys/);
bad('too many', join('', map { secret($_) . "\n" } 1 .. 9)
                . join('', map { 'sha256:' . sha256_hex($_) . "\n" } 1 .. 8),
    qr/must have 1 to 16 keys/);
bad('no secret', secret(1) . "\n" . substr(secret(2), 0, -1),
    qr/neither a secret .* in "\Q$bad\E":2/);
bad('upper case', "\n" . uc(secret(1)) . "\n", qr/in "\Q$bad\E":2/);
bad('a short hash', "sha256:" . 'a' x 63, qr/in "\Q$bad\E":1/);
bad('no hash', "sha256:" . 'g' x 64, qr/not 64 hex.* in "\Q$bad\E":1/);
bad('a key twice', join("\n", secret(1), secret(1)),
    qr/duplicate key in "\Q$bad\E":2/);
bad('an id twice', secret(1) . "\n" . substr(secret(1), 0, -1) . '2',
    qr/duplicate key in "\Q$bad\E":2/);
bad('a large file', '#' x 70000, qr/"\Q$bad\E" is larger than 65536 bytes/);

my $two = "inverting_proxy_backend main c end_user=allUsers key_file=$file;";
(my $http = $conf) =~ s/(inverting_proxy_backend)/$two $1/;
my $r = $n->test(http => $http);
is($r->{status}, 1, 'a key of two backends: fails');
like($r->{out}, qr/duplicate key in "\Q$file\E":1/, 'and says so');

($http = $conf) =~ s/key_file=\S+;/;/;
$r = $n->test(http => $http);
like($r->{out}, qr/neither "backend_user" nor "key_file"/, 'neither of them');

unlike($n->log, qr/ipk_[0-9a-f]/, 'no secret is in the log');

$t->done;
