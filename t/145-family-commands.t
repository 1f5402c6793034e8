#!/usr/bin/perl

# The commands that the inverting proxy family's own documentation gives to
# administrators, as they stand there: curl, with a token of gcloud's.  What is
# ours here is a gcloud that prints a token, and where the names lead to.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP qw(decode_json encode_json);

my $t = InvertingProxy::Test->new;

my ($crt, $key) = $t->certificate_for('*.appspot.com');

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    return $c->respond(200, [], "hello from $req->{target}");
});

my $n = $t->nginx(start => 0, workers => 2, vars => { CRT => $crt, KEY => $key },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;

    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;

    map $http_authorization $who {
        "Bearer admin-token" admin@example.com;
        "Bearer agent-token" agent@example.com;
    }

    server {
        listen 127.0.0.1:%%PORT%% ssl;
        server_name api-dot-p.appspot.com;

        location /api/ {
            if ($who != admin@example.com) { return 401; }
            inverting_proxy_api main write=on;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%% ssl;
        server_name agent-dot-p.appspot.com;

        location / {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $who;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%% ssl;
        server_name p.appspot.com;
        location / { inverting_proxy_pass main; }
    }

    # The real agent finds no name here.
    server {
        listen 127.0.0.1:%%PORT_agent%%;

        location / {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $who;
        }
    }
EOT

$n->start;

my $bin = "$t->{dir}/bin";
mkdir($bin);
spew("$bin/gcloud", <<'EOT');
#!/bin/sh
[ "$*" = "auth print-access-token" ] && echo "$TOKEN"
EOT
chmod(0755, "$bin/gcloud");

my $port = $n->port;
spew("$t->{dir}/.curlrc", <<"EOT");
silent
show-error
cacert = "$crt"
connect-to = "::127.0.0.1:$port"
write-out = "\\n%{http_code} %{content_type}"
EOT

my %env = (HOME => $t->{dir}, CURL_HOME => $t->{dir}, TOKEN => 'admin-token',
           PATH => "$bin:$ENV{PATH}", PROJECT_ID => 'p', BACKEND_ID => 'b',
           https_proxy => undef, HTTPS_PROXY => undef, all_proxy => undef,
           ALL_PROXY => undef, XDG_CONFIG_HOME => undef);

my $list = <<'EOT';
curl -H "Authorization: Bearer $(gcloud auth print-access-token)" \
    https://api-dot-${PROJECT_ID}.appspot.com/api/backends
EOT

my $create = <<'EOT';
curl -H "Authorization: Bearer $(gcloud auth print-access-token)" \
    -d "${BACKEND_RECORD}" \
    https://api-dot-${PROJECT_ID}.appspot.com/api/backends
EOT

my $delete = <<'EOT';
curl -X DELETE \
    -H "Authorization: Bearer $(gcloud auth print-access-token)" \
    https://api-dot-${PROJECT_ID}.appspot.com/api/backends/${BACKEND_ID}
EOT

my $visit = 'curl https://${PROJECT_ID}.appspot.com';


# Its last line is status and type.

sub done {
    my ($command, %more) = @_;

    my $r = run_command([ 'bash', '-c', $command ], env => { %env, %more });
    is("$r->{status} $r->{err}", '0 ', 'curl is content');

    my ($body, $status, $type) = $r->{out} =~ /^(.*)\n(\d+) (\S*)\z/s;
    return { status => $status, body => $body,
             json => $type eq 'application/json' ? decode_json($body) : undef };
}


my %record = (id => 'b', endUser => 'allUsers',
              backendUser => 'agent@example.com', pathPrefixes => [ '/' ]);

is_deeply(done($list)->{json}, [], 'no backends');
is(done($list, TOKEN => 'agent-token')->{status}, 401,
   'an agent is no administrator');

my $m = done($create, BACKEND_RECORD => encode_json(\%record));
is($m->{status}, 200, 'one is made');
is_deeply({ map { $_ => $m->{json}{$_} } keys %record }, \%record,
          'as it was asked for');

$m = done($list);
is($m->{status}, 200, 'a list');
is_deeply([ map { $_->{id} } @{$m->{json}} ], [ 'b' ], 'with it');

is(done($visit)->{status}, 503, 'its agent is not there');

spew("$t->{dir}/token", "agent-token\n");
$t->agent(backend => 'b', host => $b->address, wait => 0,
          proxy => 'http://127.0.0.1:' . $n->port('agent') . '/',
          args => [ "-token-file=$t->{dir}/token" ]);

ok(waitfor(sub { done($visit)->{body} eq 'hello from /' }),
   'and then it answers');

$m = done($list);
like($m->{json}[0]{lastUsed}, qr/^\d{4}-\d\d-\d\dT[\d:]{8}Z$/,
     'the list has when it was used');

is(done($delete)->{status}, 200, 'it is deleted');
is_deeply(done($list)->{json}, [], 'and is gone');
is(done($visit)->{status}, 404, 'for its users, too');
is(done($delete)->{status}, 200, 'once more is no error');

$t->done;
