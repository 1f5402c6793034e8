#!/usr/bin/perl

# What README.md and docs/ tell people to do, done: every piece of nginx's
# configuration passes nginx -t, and the first steps and some of the recipes are
# followed to a request that is answered.

use lib 't/lib';
use InvertingProxy::Test;

use Digest::SHA qw(sha256_hex);
use JSON::PP ();

my $t = InvertingProxy::Test->new;

mkdir("$t->{dir}/$_") for qw(etc home);

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req);
    return $c->respond(200, [], join("\n", 'the backend',
                       map({ "$_: " . ($req->header($_) || '') }
                           qw(Authorization Cookie Destination
                              X-Auth-Request-Email
                              X-Inverting-Proxy-User-ID)), ''));
});


# Blocks of a file: { lang ('' for an indented one), text, file, line, section }

sub blocks {
    my ($file) = @_;

    my (@blocks, $block, $section);
    my $line = 0;

    for my $text (split(/^/, slurp($file))) {
        $line++;

        if ($block && $block->{lang} ne '') {
            if ($text =~ /^```/) {
                push @blocks, $block;
                $block = undef;
            } else {
                $block->{text} .= $text;
            }
            next;
        }

        if ($text =~ /^    (.*\n)/) {
            $block ||= { lang => '', text => '', file => $file, line => $line,
                         section => $section };
            $block->{text} .= $1;
            next;
        }

        # An empty line within an indented block belongs to it.
        if ($block && $text eq "\n") {
            $block->{text} .= $text;
            next;
        }

        push @blocks, $block if $block;
        $block = undef;

        $section = $1 if $text =~ /^#+ (.*)/;

        if ($text =~ /^```(\w+)/) {
            $block = { lang => $1, text => '', file => $file, line => $line,
                       section => $section };
        }
    }

    push @blocks, $block if $block;

    return @blocks;
}

my @blocks = map { blocks($_) } 'README.md', sort glob('docs/*.md');


sub find {
    my ($section, $regex) = @_;

    my ($block) = grep { $_->{section} eq $section && $_->{text} =~ $regex }
                       @blocks;

    return $block ? $block->{text} : die "\"$section\" has no $regex";
}


# Their paths and ports are ours, nothing else is changed.

sub here {
    my ($text) = @_;

    $text =~ s{\bsudo }{}g;
    $text =~ s{/etc/(?:nginx|ssl/private|ssl/certs)/}{$t->{dir}/etc/}g;
    $text =~ s{/var/lib/inverting-proxy/}{$t->{dir}/etc/state/}g;
    $text =~ s{ -o www-data }{ }g if $> != 0;
    $text =~ s{\blisten 443 ssl}{listen 127.0.0.1:%%PORT%% ssl};
    $text =~ s{\blisten 443 ssl}{listen 127.0.0.1:%%PORT%% ssl}g;
    $text =~ s{\blisten 80\b}{listen 127.0.0.1:%%PORT%%}g;

    return $text;
}


# In a home folder of ours, with the commands that were built; what a terminal
# would be asked for comes from stdin.

sub shell {
    my ($text, %opt) = @_;

    my $r = run_command([ 'setsid', '-w', 'bash', '-e', '-c', here($text) ],
                        stdin => $opt{stdin},
                        env => { http_proxy => undef, no_proxy => '*',
                                 HOME => "$t->{dir}/home",
                                 XDG_CONFIG_HOME => undef,
                                 INVERTING_PROXY_SERVER => $opt{server},
                                 PATH => "$ENV{INVERTING_PROXY_BUILD}"
                                         . ":$ENV{PATH}" });
    is($r->{status}, 0, 'a command of the text: ' . ($text =~ /^(.{1,40})/)[0])
        or diag($r->{err});

    return $r;
}


# The agent's command line, with the address of this nginx.

sub agent {
    my ($n, $command, $token, @more) = @_;

    my %opt;
    my @words = split(' ', $command);
    my @args;

    shift @words;
    while (@words) {
        my $flag = shift @words;
        $flag =~ s/^-//;

        if ($flag =~ /^(?:proxy|backend|host)$/) {
            $opt{$flag} = shift @words;
        } elsif ($flag eq 'token-file') {
            push @args, '-token-file', $token;
            shift @words;
        } else {
            push @args, "-$flag";
        }
    }

    like($opt{proxy}, qr{^https://[\w.-]+/$}, 'the agent goes by TLS');

    my $port = $n->port($n->{http} =~ /PORT_agents/ ? 'agents' : '');

    return $t->agent(proxy => "https://127.0.0.1:$port/", wait => 0,
                     backend => $opt{backend}, host => $b->address,
                     args => [ @args, @more ]);
}


# curl, which finds any name here.

sub curl {
    my ($n, $url, @args) = @_;

    my ($name) = $url =~ m{^https://([\w.-]+)/};
    my $port = $n->port;
    $url =~ s{^https://[\w.-]+/}{https://$name:$port/};

    my $r = run_command([ qw(curl -sS --noproxy * --max-time 20 --cacert),
                          "$t->{dir}/etc/example.com.pem",
                          '--resolve', "$name:$port:127.0.0.1",
                          '-w', '%{http_code}', @args, $url ]);

    return $r->{out} . $r->{err};
}


# The certificate, as "First steps" makes it; the agent comes by address, and
# there is more than one name.

(my $openssl = find('The administrator', qr/^sudo openssl req/)) =~
    s/(subjectAltName=DNS:example.com)/$1,DNS:*.example.com,IP:127.0.0.1/;
shell($openssl);
shell("cp $t->{dir}/etc/example.com.pem $t->{dir}/etc/$_-ca.pem")
    for 'users', 'agents';


# Every piece of configuration

my $check = $t->nginx(start => 0);

shell(find('A hundred tenants by host name', qr/tenants\.conf/));
shell(find('Backends that come and go', qr/^token=/));

my $cookies = find('A sign-on service', qr/^map \$http_cookie/);

for my $block (grep { $_->{lang} eq 'nginx' } @blocks) {
    my $text = here($block->{text});
    my %conf;

    $text =~ s/^\s*http \{\n(.*)^\}\n/$1/ms;

    $text = $cookies . $text if $text =~ /Cookie \$cookies;/;

    # A location needs a server, which needs a port.
    $text = "server {\nlisten 127.0.0.1:%%PORT%%;\n$text}\n"
        if $text =~ /^location /;

    $text = "inverting_proxy_zone zone=main:16m;\n$text"
        if $text =~ /inverting_proxy_\w+ +main/
           && $text !~ /inverting_proxy_zone /;

    my $r = $check->test(http => $text);
    is($r->{status}, 0, "$block->{file}, line $block->{line}: passes")
        or diag($r->{out});
}


# First steps

my $token = shell(find('The administrator', qr/^token=/))->{out};
like($token, qr/^[0-9a-f]{32}$/, 'a token');
is((stat("$t->{dir}/etc/agents.map"))[2] & 0777, 0600,
   'only its owner can read it');
spew("$t->{dir}/token", $token);

my $n = $t->nginx(http => here(find('The administrator', qr/^inverting_proxy_zone/)));

my $curl = find('The end user', qr/^curl/);
my ($url) = $curl =~ m{^curl (https://\S+/)$}m;
like(curl($n, $url), qr/503$/, 'no agent is there');

# The agent's command, with this address in place of the name.
my $command = find('Whoever runs an agent', qr/^inverting-proxy-agent/m);
my $agent = agent($n, $command =~ /^(inverting-proxy-agent .*)$/m,
                  "$t->{dir}/token", '-ca-file', "$t->{dir}/etc/example.com.pem");

ok(waitfor(sub { curl($n, $url) =~ /^the backend\n.*200$/s }),
   'the server at home answers');
like($agent->log, qr/\[info\] connected to proxy/, 'the agent says so');
unlike($agent->log, qr/\[(?:warn|error)\]/, 'and nothing is wrong');
$agent->stop;

spew("$t->{dir}/wrong", "wrong\n");
$agent = agent($n, $command =~ /^(inverting-proxy-agent .*)$/m,
               "$t->{dir}/wrong", '-ca-file', "$t->{dir}/etc/example.com.pem");
ok($agent->wait_log(qr/401/), 'one with a wrong token says that it is refused');
$agent->stop;


# A hundred tenants by host name

shell(find('A hundred tenants by host name', qr/agents\.map/));

# Agents find no name here: theirs is another port.
(my $tenants = here(find('A hundred tenants by host name',
                         qr/^inverting_proxy_zone/))) =~
    s/%%PORT%%( ssl;\s+server_name agents)/%%PORT_agents%%$1/;

$n = $t->nginx(http => $tenants);

$token = (split(/\n/, slurp("$t->{dir}/etc/agents.map")))[6] =~
         /^"Bearer ([0-9a-f]{32})" tenant-7;$/ ? $1 : '';
spew("$t->{dir}/token", "$token\n");

agent($n, find('A hundred tenants by host name', qr/^inverting-proxy-agent/),
      "$t->{dir}/token", '-ca-file', "$t->{dir}/etc/example.com.pem");

ok(waitfor(sub { curl($n, 'https://tenant-7.example.com/agent/pending')
                 =~ /^the backend\n.*200$/s }),
   'a tenant answers, at any path');
like(curl($n, 'https://tenant-8.example.com/'), qr/503$/, 'another one is away');
like(curl($n, 'https://tenant-101.example.com/'), qr/404$/,
     'there is no hundred and first');


# Who signs in with a password: it is asked for twice, and stays here.

shell(find('A password file', qr/^printf/), stdin => "a-secret\na-secret\n");
is((stat("$t->{dir}/etc/users"))[2] & 0777, 0400, 'nobody else can read it');

my $agents = <<'EOT';
    server {
        listen 127.0.0.1:%%PORT_agents%%;
        location / {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $http_authorization;
        }
    }
EOT

sub comes {
    my ($n, $id, $identity, @args) = @_;

    spew("$t->{dir}/$id.token", "$identity\n");

    return $t->agent(proxy => 'http://127.0.0.1:' . $n->port('agents') . '/',
                     backend => $id, host => $b->address, wait => 0,
                     args => [ "-token-file=$t->{dir}/$id.token", @args ]);
}

$n = $t->nginx(http => <<'EOT' . here(find('A password file', qr/^location/))
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main alices end_user=alice
                            "backend_user=Bearer me";
    ssl_certificate %%DIR%%/../etc/example.com.pem;
    ssl_certificate_key %%DIR%%/../etc/example.com.key;
    server {
        listen 127.0.0.1:%%PORT%% ssl;
        server_name example.com;
EOT
    . "}\n$agents");

comes($n, 'alices', 'me');

$curl = find('A password file', qr/^curl/);
my @as = $curl =~ m{^curl (-u alice) (https://example.com/)$}m;
is(scalar @as, 2, 'she shows a password');

ok(waitfor(sub { curl($n, $as[1], '-u', 'alice:a-secret') =~ /200$/ }),
   'alice signs in');
like(curl($n, $as[1], '-u', 'alice:wrong'), qr/401$/, 'with her password only');
like(curl($n, $as[1], '-u', 'alice:a-secret'), qr/^Authorization: $/m,
     'which the backend is not told');


# WebDAV, whose targets are the backend's

$n = $t->nginx(http => $agents . <<'EOT'
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main dav end_user=allUsers
                            "backend_user=Bearer dav";
EOT
    . here(find('What applications ask for', qr/^map/)));

comes($n, 'dav', 'dav');

my $dav = 'https://dav.example.com/';

ok(waitfor(sub { curl($n, $dav) =~ /^Destination: $/m }), 'WebDAV, a GET');
like(curl($n, $dav, '-X', 'MOVE', '-H', "Destination: ${dav}https:/a"),
     qr{^Destination: http://dav\.example\.com/https:/a$}m, 'a MOVE');
like(curl($n, $dav, '-X', 'COPY', '-H', 'Destination: http://other/a'),
     qr{^Destination: http://other/a$}m, 'a COPY to elsewhere');


# A sign-on service and its cookie, in both recipes that have one.

my $service = $t->backend(sub {
    my ($c, $req) = @_;
    my ($who) = ($req->header('Cookie') || '') =~ /_oauth2_proxy=s-(\w+)/;
    return $c->respond($who ? 202 : 401,
                       [ 'X-Auth-Request-Email: ' . ($who || '')
                         . '@example.com' ], '');
});

sub signed_on {
    my ($text) = @_;

    my $conf = here($cookies . $text);

    # Agents come by another port; nor is the recipe's token file theirs.
    $conf =~ s/127\.0\.0\.1:4180/$service->address/ge;
    $conf =~ s/backend_user=(\S+);/"backend_user=Bearer $1";/g;
    $conf =~ s/^map \$http_authorization .*?^\}\n//ms;
    $conf =~ s/^ +location \/agent\/ .*?^    \}\n//ms;

    return $t->nginx(http => $conf . $agents . ($conf =~ /_zone / ? '' : <<'EOT'));
    inverting_proxy_zone zone=main:8m;
    inverting_proxy_backend main b end_user=alice@example.com
                            "backend_user=Bearer me";
EOT
}

$n = signed_on(find('A sign-on service', qr/^server/m));
comes($n, 'b', 'me', '-forward-user-id');

my $s = '_oauth2_proxy=s-alice';

waitfor(sub { curl($n, 'https://example.com/', '-b', $s) =~ /200$/ });

for my $case ([ $s, '' ], [ "a=b; $s", 'a=b; ' ], [ "$s; c=d", 'c=d' ],
              [ "a=b; $s; c=d", 'a=b; c=d' ],
              [ "a=b; $s; _oauth2_proxy_csrf=x; c=d", 'a=b; c=d' ],
              [ "_oauth2_proxy_0=x; _oauth2_proxy_1=y; $s", '' ],
              [ "$s; c=d; _oauth2_proxy_1=y", '' ],
              [ "x_oauth2_proxy=1; $s", '' ])
{
    my ($sent, $told) = @$case;

    my $page = curl($n, 'https://example.com/', '-b', $sent,
                    '-H', 'X-Auth-Request-Email: root@example.com',
                    '-H', 'X-Inverting-Proxy-User-ID: root@example.com');
    $told =~ s/ $//;
    like($page, qr/^Cookie: \Q$told\E$/m, "$sent: told as \"$told\"");
    like($page, qr/^X-Auth-Request-Email: alice\@example\.com$/m, 'who it is');
    like($page, qr/^X-Inverting-Proxy-User-ID: alice\@example\.com$/m,
         'and again');
}

$n = signed_on(find('A notebook for each user', qr/^inverting_proxy_zone/));

# With what the recipe's own command says besides.
my ($more) = find('A notebook for each user', qr/^inverting-proxy-agent/)
             =~ /-token-file token (.*)$/m;
like($more, qr/-request-forwarding-timeout 1h/, 'the agent is patient');
comes($n, 'alices-notebook', 'alices-agent', split(' ', $more));
comes($n, 'handbook', 'staff-agent');

for my $case ([ 'alice', '', qr/^X-Inverting-Proxy-User-ID: alice\@.*200$/ms ],
              [ 'alice', 'handbook/', qr/ID: alice\@.*200$/s ],
              [ 'bob', '', qr/503$/ ], [ 'bob', 'handbook/', qr/503$/ ],
              [ 'carl', '', qr/404$/ ], [ 'carl', 'handbook/', qr/200$/ ])
{
    my ($who, $path, $expected) = @$case;

    my $page = '';
    ok(waitfor(sub {
        $page = curl($n, "https://notebooks.example.com/$path", '-b',
                     "a=b; _oauth2_proxy=s-$who");
        return $page =~ $expected;
    }), "$who at /$path") or diag($page);
    unlike($page, qr/_oauth2_proxy/, 'the cookie is not passed on');
    like($page, qr/^Cookie: a=b;$/m, 'another one is') if $page =~ /200$/;
}


# Backends that come and go: by the command for the API, with keys.

(my $conf = here(find('Backends that come and go',
                      qr/^inverting_proxy_zone/))) =~
    s/%%PORT%%( ssl;\s+server_name api)/%%PORT_api%%$1/;
$n = $t->nginx(http => $conf);

my $home = "$t->{dir}/home";
my $api = 'https://127.0.0.1:' . $n->port('api') . '/api/';

($conf = here(find('Backends that come and go', qr/^server =/)))
    =~ s{https://api\.example\.com/api/}{$api};
spew("$home/.config/inverting-proxy/admin.conf",
     $conf . "ca-file = $t->{dir}/etc/example.com.pem\n");

is((stat("$home/.config/inverting-proxy/token"))[2] & 0777, 0600,
   "the administrator's token is only his");

my $made = find('Backends that come and go', qr/^inverting-proxy-admin.* create/);
shell("cd\n$made");
like(slurp("$home/home.key"), qr/^ipk_\w+\n\z/, 'a key for the agent');

agent($n, find('Backends that come and go', qr/^inverting-proxy-agent/),
      "$home/home.key", '-ca-file', "$t->{dir}/etc/example.com.pem");
ok(waitfor(sub { curl($n, 'https://example.com/') =~ /^the backend\n.*200$/s }),
   'with which it serves');

my $listed = shell('inverting-proxy-admin keys list home --quiet')->{out};
my ($key) = $listed =~ /^([0-9a-f]{16})\n\z/;
(my $ends = find('Backends that come and go', qr/ keys revoke/)) =~ s/KEY/$key/;
like(shell($ends)->{out}, qr/^\Q$key\E .* laptop$/m, 'it is listed, and ended');
ok(waitfor(sub { curl($n, 'https://example.com/') =~ /404$/ }), 'and all is gone');

(my $says) = slurp('docs/recipes.md') =~ /`(curl -H[^`]*)`/;
$says =~ s/\n/ /g;
$says =~ s{https://api\.example\.com/api/}{$api};
is(shell('token=$(cat ~/.config/inverting-proxy/token); '
         . ($says =~ s/^curl/curl -sS --cacert $t->{dir}\/etc\/example.com.pem/r))
   ->{out}, "[]\n", 'the same by curl');
like(run_command([ qw(curl -sSki --noproxy *), "${api}backends" ])->{out},
     qr/^HTTP\S+ 401 .*^WWW-Authenticate: Bearer\r$/ms, 'not without a token');


# The API's commands

$n = $t->nginx(http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    server {
        listen 127.0.0.1:%%PORT%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $port = $n->port;
my $made_key = '';

for my $command (split(/\n(?=curl)/, find('The API', qr/^curl/))) {
    (my $text = $command) =~ s{http://127\.0\.0\.1/}{http://127.0.0.1:$port/};
    $text =~ s{/keys/0123456789abcdef}{/keys/$made_key};

    my $r = shell($text =~ s/^curl/curl -sS --fail/r);
    ok(eval { JSON::PP->new->decode($r->{out}) }, "JSON: $command")
        or diag($r->{out}, $r->{err});
    $made_key = $1 if $r->{out} =~ /^\{"id":"([0-9a-f]{16})",.*"secret"/;
}


# Those of the command for it

for my $command (split(/\n/, find('The command for the API',
                                  qr/^inverting-proxy-admin backends/)))
{
    $command =~ s/ KEY$/ \$(inverting-proxy-admin keys list home --quiet)/;
    $command = "timeout -s INT 1 $command || [ \$? = 0 -o \$? = 124 ]"
        if $command =~ /--watch/;
    shell($command, server => "http://127.0.0.1:$port/api/");
}


# A secret for key_file, and its other form

my $forms = shell('cd; ' . find('inverting_proxy_backend', qr/^echo ipk_/))->{out};
my ($secret, $hash) = $forms =~ /^(ipk_\w+)\n(sha256:\w+)\n\z/;
is($hash, 'sha256:' . sha256_hex($secret), 'one is the SHA-256 of the other');

for my $form ($secret, $hash) {
    spew("$t->{dir}/etc/keys", "$form\n");
    is($check->test(http => <<'EOT')->{status}, 0, 'a file of ' . substr($form, 0, 6));
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers key_file=%%DIR%%/../etc/keys;
EOT
}


# The list of the module's files

my %listed = map { $_ => 1 } slurp('README.md') =~ /\.\.\.(_\w+\.c)\b/g;
my %there = map { m{/ngx_http_inverting(_\w+\.c)$} ? ($1 => 1) : () }
            glob('ngx_http_inverting_proxy_module/*.c');
is_deeply(\%listed, \%there, 'the files of the module');

$t->done;
