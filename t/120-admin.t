#!/usr/bin/perl

# inverting-proxy-admin against a real nginx: each command, tables and JSON,
# errors and exit statuses.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Admin;

use JSON::PP ();

my $t = InvertingProxy::Test->new;
my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main fixed end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen unix:%%DIR%%/api.sock;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main write=on; }
        location /read/ { inverting_proxy_api main; }
    }
EOT

my $url = 'http://127.0.0.1:' . $n->port . '/api/';
my $admin = InvertingProxy::Test::Admin->new(rig => $t, server => $url);
my $json = JSON::PP->new->utf8;

sub admin { return $admin->run(@_) }


# Done without a word on stderr; its output.

sub done {
    my (@args) = @_;

    my $r = admin(@args);
    is("$r->{status} $r->{err}", '0 ', join(' ', @args));

    return $r->{out};
}


# Refused with that status, with nothing on stdout.

sub refused {
    my ($status, $says, @args) = @_;

    my $r = admin(@args);
    is("$r->{status} $r->{out}", "$status ", join(' ', @args, 'is refused'));
    like($r->{err}, qr/^inverting-proxy-admin: .*$says/s, '... and says why');

    return;
}


# Backends

is(done(qw(backends list)), <<'EOT', 'a table');
ID     END USER  BACKEND USER  PREFIXES  AGENTS  WAITING  ACTIVE  LAST SEEN  LAST USED
fixed  allUsers  me            /              0        0       0  -          -
EOT

is(done(qw(backends create home --end-user allUsers --backend-user me
           --prefix /home --prefix=/at)), <<'EOT', 'what was made');
id             home
end user       allUsers
backend user   me
prefixes       /home
               /at
agents         0
waiting        0
active         0
last seen      -
last used      -
EOT

my $record = $json->decode($t->get('/api/backends/home')->{body});
is_deeply([ @$record{qw(id endUser backendUser)}, @{$record->{pathPrefixes}} ],
          [ qw(home allUsers me /home /at) ], 'the record');

done(qw(backends create home --end-user), "M\x{c3}\x{bc}ller \"x\"",
     qw(--backend-user b --quiet));
$record = $json->decode(done(qw(backends get home --json)));
is($record->{endUser}, "M\x{fc}ller \"x\"", 'replaced, any text');
is_deeply($record->{pathPrefixes}, [ '/' ], 'the prefix by default');

is(done(qw(backends create quiet --quiet --end-user a --backend-user b)), '',
   '--quiet');
is($json->decode(done(qw(backends create json --json --end-user a
                         --backend-user b)))->{id}, 'json', '--json');

is(done(qw(backends list --quiet)), "fixed\nhome\njson\nquiet\n", 'ids');
is(done(qw(backends list --json)), $t->get('/api/backends')->{body},
   "the API's own JSON");
like(done(qw(backends list)), qr/^home   M\x{c3}\x{bc}ller "x"  b  /m,
     'columns of characters, not of bytes');

is(done(qw(backends delete quiet)), "backend \"quiet\" is deleted\n",
   'deleted');
is(done(qw(backends delete json --quiet)), '', 'quietly');
is(done(qw(backends delete json --json)), "{}\n", 'once more is no error');
is(done(qw(backends list --quiet)), "fixed\nhome\n", 'they are gone');


# Errors

refused(3, 'no such backend \(status 404\)', qw(backends get nobody));
refused(3, '404', qw(backends get nobody --json));
refused(1, 'backendUser.*\(status 400, field "backendUser"\).*--backend-user',
        qw(backends create x --end-user u --backend-user), "a\tb");
refused(1, 'field "pathPrefixes".*--prefix',
        qw(backends create x --end-user u --backend-user b --prefix home));
refused(1, 'valid UTF-8.*field "endUser"',
        qw(backends create x --backend-user b --end-user), "\xff");
refused(1, 'inverting_proxy_backend.*403', qw(backends delete fixed));
refused(2, 'which command', ());
refused(2, 'no command', qw(backends rename home));
refused(2, 'does not belong', qw(backends list --prefix /));

(my $read = $url) =~ s{/api/}{/read/};
refused(1, 'write=on', qw(backends delete home --server), $read);

(my $wrong = $url) =~ s{/api/}{/nothing/here/};
refused(1, '503.*', qw(backends list --server), $wrong);

my $port = free_port();
refused(1, 'connect.*Is nginx running.*--server',
        qw(backends list --server), "http://127.0.0.1:$port/api/");
refused(2, 'http://', qw(backends list --server localhost));

{
    local $admin->{server} = 'http://nobody.invalid/api/';
    refused(1, 'resolve.*INVERTING_PROXY_SERVER', qw(backends list));
    local $admin->{server};
    refused(2, 'which server\?.*admin\.conf', qw(backends list));
}


# Addresses

my $socket = "unix:$n->{dir}/api.sock:/api/";
is(done(qw(backends list --quiet --server), $socket), "fixed\nhome\n",
   'over a socket');

{
    local $admin->{server};
    $admin->config("# mine\nserver = $socket\n", 0644);
    is(done(qw(backends list --quiet)), "fixed\nhome\n",
       'the configuration file');
    rename($admin->{file}, "$t->{dir}/other.conf");
    is(done(qw(backends list --quiet --config), "$t->{dir}/other.conf"),
       "fixed\nhome\n", 'another one');

    mkdir("$t->{dir}/xdg");
    mkdir("$t->{dir}/xdg/inverting-proxy");
    rename("$t->{dir}/other.conf", "$t->{dir}/xdg/inverting-proxy/admin.conf");
    local $admin->{env} = { XDG_CONFIG_HOME => "$t->{dir}/xdg" };
    is(done(qw(backends list --quiet)), "fixed\nhome\n", 'XDG_CONFIG_HOME');
}


# Status

my $status = done('status');
like($status, qr/^zone +main, 4\.0 MiB, version \d/m, 'the zone');
like($status, qr/^workers +2 \(\d+, \d+\)$/m, 'workers');
like($status, qr/^requests +0 of \d+ in use: 0 waiting, 0 assigned/m,
     'requests');
like($status, qr/^backends +2: 0 with an agent, 0 waiting and 0 active/m,
     'backends');
like($status, qr/^fixed  +0  +0  +0$/m, 'each of them');
ok(exists $json->decode(done(qw(status --json)))->{zone}, 'as JSON');

$t->agent(backend => 'fixed', host => '127.0.0.1:1',
          args => [ '-connections=1' ]);
like(done('status'), qr/^BACKEND  AGENTS  WAITING  ACTIVE\nfixed +1 /m,
     'one that is present comes first');
like(done(qw(backends get fixed)),
     qr/^agents         1\n.*^last seen +\d{4}-.*Z \(\d+s ago\)$/ms,
     'when it was seen');


# What needs no server

{
    local $admin->{server};
    like(done('help'), qr/^  keys revoke BACKEND KEY$/m, 'help');
    like(done(qw(help keys create)), qr/^  --note TEXT$/m, 'of a command');
    is(done(qw(keys create --help)), done(qw(help keys create)), '--help');
    like(done(qw(help keys)), qr/^  keys list BACKEND$/m, 'of a group');
    like(done('version'), qr/^inverting-proxy-admin \d+\.\d+\.\d+$/, 'version');
    is(done('--version'), done('version'), '--version');
    refused(2, 'no command', qw(help nonsense));
}

{
    my $r = run_command([ 'sh', '-c', '"$@" >/dev/full', 'sh',
                          $admin->argv(qw(backends list)) ],
                        env => $admin->env);
    is($r->{status}, 1, 'a disk that is full');
    like($r->{err}, qr/cannot write the output/, 'is told');
}


# Keys

my $key = $json->decode(done(qw(keys create home --json --note laptop)));
like($key->{secret}, qr/^ipk_[0-9a-f]{16}_[0-9a-f]{64}$/, 'a key');
is($key->{note}, 'laptop', 'its note');

my $secret = done(qw(keys create home --quiet));
like($secret, qr/^ipk_[0-9a-f]{16}_[0-9a-f]{64}\n\z/, 'the secret only');

like(done(qw(keys list home)), qr/^\Q$key->{id}\E +\d+s ago +- +laptop$/m,
     'listed');
unlike(done(qw(keys list home --json)), qr/\Q$key->{secret}\E/,
       'not with its secret');
is(scalar(() = done(qw(keys list home --quiet)) =~ /^[0-9a-f]{16}$/mg), 2,
   'both ids');

is(done(qw(keys revoke home), $key->{id}),
   "key \"$key->{id}\" of backend \"home\" is revoked\n", 'revoked');
unlike(done(qw(keys list home --quiet)), qr/^\Q$key->{id}\E$/m,
       'and not there any more');
refused(3, 'no such key', qw(keys revoke home), $key->{id});
refused(3, 'no such key', qw(keys revoke home zzz --json));

refused(3, 'no such backend', qw(keys create nobody));
refused(3, 'no such backend', qw(keys list nobody));
refused(3, 'no such backend', qw(keys revoke nobody), $key->{id});
refused(1, 'inverting_proxy_backend.*403', qw(keys create fixed));

done(qw(keys create home --quiet)) for 1 .. 15;
refused(1, '409', qw(keys create home));

$t->done;
