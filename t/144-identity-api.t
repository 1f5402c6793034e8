#!/usr/bin/perl

# A page of another site can make a browser send requests, with the cookies and
# passwords of whoever looks at it: the API refuses them.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP ();

my $t = InvertingProxy::Test->new;
my ($crt, $key) = $t->certificate_for('localhost');

my $n = $t->nginx(start => 0, vars => { CRT => $crt, KEY => $key },
                  http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    ssl_certificate %%CRT%%;
    ssl_certificate_key %%KEY%%;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_tls%% ssl;
        location /api/ { inverting_proxy_api main write=on; }
    }

    # TLS ends here, and the API is behind.
    server {
        listen 127.0.0.1:%%PORT_front%% ssl;

        location / {
            proxy_pass http://127.0.0.1:%%PORT%%;
            proxy_set_header Host $http_host;
        }
    }
EOT
$n->start;

my $body = JSON::PP->new->encode({ id => 'b', endUser => 'allUsers',
                                   backendUser => 'me',
                                   pathPrefixes => [ '/' ] });

my @calls = ([ 'POST', 'backends', $body ], [ 'DELETE', 'backends/c' ],
             [ 'GET', 'backends' ], [ 'GET', 'backends/c' ],
             [ 'GET', 'status' ], [ 'HEAD', 'status' ],
             [ 'OPTIONS', 'backends' ]);

sub call {
    my ($call, $port, @headers) = @_;

    my ($method, $path, $data) = @$call;

    return $t->get("/api/$path", method => $method, body => $data,
                   headers => \@headers, port => $n->port($port),
                   tls => $port ne '');
}

(my $other = $body) =~ s/"b"/"c"/;
is(call([ 'POST', 'backends', $other ], '')->{status}, 200,
   'curl needs no field');

my @foreign = (
    'Origin: http://evil.example.com', 'Origin: null', 'Origin:',
    'Origin: http://h.example.com.evil.com', 'Origin: http://h.example.co',
    'Origin: https://h.example.com', 'Origin: http://h.example.com:81',
    'ORIGIN: http://evil.example.com', 'Sec-Fetch-Site: cross-site',
    'Sec-Fetch-Site: same-site', 'sec-fetch-site: cross-site',
    'Sec-Fetch-Site: anything',
    "Origin: http://h.example.com\r\nSec-Fetch-Site: cross-site",
    "Origin: http://h.example.com\r\nOrigin: http://evil.example.com",
);

for my $field (@foreign) {
    (my $name = $field) =~ s/\r\n/, /;

    for my $call (@calls) {
        my $m = call($call, '', 'Host: h.example.com', $field);
        is($m->{status}, 403, "$call->[0] $call->[1], $name: refused");
    }
}

my $list = JSON::PP->new->decode(call([ 'GET', 'backends' ], '')->{body});
is_deeply([ map { $_->{id} } @$list ], [ 'c' ], 'nothing has changed');

my $m = call($calls[0], '', 'Origin: http://evil.example.com');
like($m->{body}, qr/"message":"[^"]*page of another site/,
     'the answer says why');
is($m->header('Access-Control-Allow-Origin'), undef, 'and allows nothing');

for my $field ('Origin: http://h.example.com', 'Sec-Fetch-Site: same-origin',
               'Sec-Fetch-Site: none', 'Origin: HTTP://H.example.com',
               "Origin: http://h.example.com\r\nSec-Fetch-Site: same-origin")
{
    (my $name = $field) =~ s/\r\n/, /;

    is(call($_, '', 'Host: h.example.com', $field)->{status}, 200,
       "$_->[0] $_->[1], $name: allowed") for @calls[0, 2];
}

is(call($calls[0], 'tls', 'Host: h:8443', 'Origin: https://h:8443')->{status},
   200, 'over TLS');
is(call($calls[0], 'tls', 'Host: h:8443', 'Origin: http://h:8443')->{status},
   403, 'over TLS, by a page that came without');

# Where TLS ends before nginx, the origin has another scheme than nginx sees:
# today's browsers say themselves that it is the same, old ones do not.
my @origin = ('Host: h.example.com', 'Origin: https://h.example.com');

is(call($calls[0], 'front', @origin, 'Sec-Fetch-Site: same-origin')->{status},
   200, 'TLS ends before nginx');
is(call($calls[0], 'front', @origin)->{status}, 403,
   'TLS ends before nginx, and nobody says whose page it is');

for my $site ('cross-site', 'same-site', '', "same-origin\r\nSec-Fetch-Site: x",
              "x\r\nSec-Fetch-Site: same-origin")
{
    is(call($calls[0], 'front', @origin, "Sec-Fetch-Site: $site")->{status},
       403, 'TLS ends before nginx, ' . $site =~ s/\r\n/, /r);
}

$t->done;
