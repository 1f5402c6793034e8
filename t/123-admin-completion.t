#!/usr/bin/perl

# Completion in a real bash, and the manual page.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Admin;

my $t = InvertingProxy::Test->new;
my $build = $ENV{INVERTING_PROXY_BUILD};

my $server = $t->backend(sub {
    my ($c, $req) = @_;
    $c->note($req->{target});

    my $ids = $req->{target} =~ m{/keys$} ? '[{"id":"k1"},{"id":"k2"}]'
            : '[{"id":"home"},{"id":"hotel.x"},{"id":"other"}]';

    return $c->respond(200, [ 'Content-Type: application/json' ], $ids);
});

my $url = $server->url . '/api/';
my $admin = InvertingProxy::Test::Admin->new(rig => $t, server => $url);

# Fills in what bash would for a line with the cursor at its end.
spew("$t->{dir}/complete", <<'EOT');
source "$1" || exit
complete -p inverting-proxy-admin >/dev/null || exit
COMP_LINE=$2 COMP_POINT=${#2}
_inverting_proxy_admin "$3"
printf '%s\n' "${COMPREPLY[@]}"
EOT

sub completed {
    my ($line) = @_;

    my $r = run_command([ 'bash', '--norc', "$t->{dir}/complete",
                          "$build/inverting-proxy-admin.bash",
                          "inverting-proxy-admin $line",
                          InvertingProxy::Test::Admin::binary() ],
                        env => $admin->env);

    return "$r->{status} $r->{err}" if $r->{status} || $r->{err} ne '';
    return join(' ', split(' ', $r->{out}));
}

sub completes {
    my ($line, $expected, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    return is(completed($line), $expected, $name || "\"$line\"");
}

completes('', 'backends keys status help version');
completes('b', 'backends');
completes('backends ', 'list get create delete');
completes('backends l', 'list');
completes('keys ', 'list create revoke');
completes('help ', 'backends keys status help version');
completes('help backends c', 'create');
completes('help backends create ', '');
completes('nonsense ', '');

completes('backends list --', '--server --config --timeout --json --quiet '
                              . '--help');
completes('keys create x --n', '--note');
completes('backends create --pre', '--prefix');
completes('status --w', '--watch');
completes('--v', '--version');

completes('backends get ', 'home hotel.x other');
completes('backends get ho', 'home hotel.x');
completes('backends delete --quiet ot', 'other');
completes('keys revoke home ', 'k1 k2');
ok($server->wait_note(qr{/backends/home/keys$}), 'it has asked for keys of it');
completes('backends get home ', '', 'no second id');
completes('backends create x --end-user ', '', 'a value that nobody knows');
completes('--timeout 5 backends get oth', 'other', 'options before it');

# Where the server is: on the line, in a file, nowhere.
{
    local $admin->{server};
    completes('backends get ', '', 'no server');
    completes("--server $url backends get ot", 'other', '--server');
    completes("backends get --server=$url ot", 'other', '--server=');
    completes('--server http://127.0.0.1:1/ backends get ', '', 'a dead one');

    $admin->config("server = $url\n");
    rename($admin->{file}, "$admin->{home}/mine.conf");
    completes('--config ~/mine.conf backends get ot', 'other', '--config');
    completes('backends get --config=~/mine.conf ot', 'other', '--config=');
}

completes("--config $admin->{home}/mi", "$admin->{home}/mine.conf", 'a file');
completes("status --config=$admin->{home}/mi", "$admin->{home}/mine.conf",
          'behind "="');


# With keys that are pressed

SKIP: {
    skip 'there is no "script"', 1
        if run_command([ 'sh', '-c', 'command -v script' ])->{status};

    spew("$t->{dir}/rc", "PATH=$build:\$PATH\nPS1='> '\n"
                         . "source $build/inverting-proxy-admin.bash\n");

    my $r = run_command([ 'script', '-qec',
                          "bash --noprofile --rcfile $t->{dir}/rc -i",
                          '/dev/null' ],
                        stdin => "inverting-proxy-admin backends g\tot\t"
                                 . "--js\t >$t->{dir}/got\nexit\n",
                        env => { %{$admin->env}, TERM => 'dumb',
                                 HISTFILE => undef });
    is(slurp("$t->{dir}/got"),
       '[{"id":"home"},{"id":"hotel.x"},{"id":"other"}]', 'typed')
        or diag($r->{out}, $r->{err});
}


# The manual page has everything that the help has.

my $manual = slurp("$build/inverting-proxy-admin.1");
$manual =~ s/\\-/-/g;

my @commands = $admin->run('help')->{out} =~ /^  ([a-z]+(?: [a-z]+)?)(?: .*)?$/mg;
cmp_ok(scalar @commands, '>=', 10, 'commands');

for my $command (@commands) {
    like($manual, qr/^\\fB\Q$command\E\\fR/m, "the manual has \"$command\"");

    my $help = $admin->run('help', split(' ', $command))->{out};
    my @missing = grep { $manual !~ /^\\fB\Q$_\E\\fR/m }
                  $help =~ /^  (--[a-z-]+)/mg;
    is("@missing", '', '... and its options');
}

like($manual, qr/^\\fB$_\\fR/m, "the manual has $_")
    for qw(server user password-file token-file client-cert ca-file
           INVERTING_PROXY_SERVER 0 1 2 3);

SKIP: {
    skip 'there is no groff', 2
        if run_command([ 'sh', '-c', 'command -v groff' ])->{status};

    my $r = run_command([ qw(groff -man -ww -Tutf8),
                          "$build/inverting-proxy-admin.1" ]);
    is("$r->{status} $r->{err}", '0 ', 'groff has nothing to say');
    like($r->{out}, qr/--end-user allUsers/, 'dashes are dashes');
}

$t->done;
