#!/usr/bin/perl

# The target of a request: the client's own bytes, or what nginx has made of
# them, escaped; whatever its parser takes, and nothing that it does not.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [ map { "X-Is-$_: " . join(', ', $req->all($_)) }
                              'Host', 'X-Forwarded-Host' ], $req->{start});
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main deep end_user=allUsers backend_user=me
                            prefix=/deep prefix=/q/r;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;
        large_client_header_buffers 4 32k;
        error_page 404 = @nowhere;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
        location @nowhere { return 404 "nowhere"; }

        location /rewritten/ {
            rewrite (?s)^/rewritten/(.*) /new/$1 break;
            inverting_proxy_pass main;
        }
        location /args/ {
            rewrite (?s)^/args/(.*) /new?x=$1 break;
            inverting_proxy_pass main;
        }
        location /noargs/ {
            rewrite ^/noargs/(.*) /$1? break;
            inverting_proxy_pass main;
        }
        location /decoded/ {
            set $args "x=$uri";
            rewrite ^ /new break;
            inverting_proxy_pass main;
        }
        location /last/ { rewrite ^/last/(.*) /$1 last; }
    }

    server {
        listen 127.0.0.1:%%PORT_LOOSE%%;
        merge_slashes off;
        location / { inverting_proxy_pass main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my $m;

sub target {
    my ($target, %opt) = @_;

    my $c = $t->client(port => $n->port($opt{port}));
    $c->write("GET $target HTTP/1.1\r\nHost: example.test\r\n\r\n");
    my $m = $c->response;
    $c->close;

    return $m->{status} if $m->{status} != 200;
    return $m->{body} =~ m{^GET (.*) HTTP/1\.1$}s ? $1 : "? $m->{body}";
}

sub is_target {
    my ($from, $to, $name, %opt) = @_;

    $name = $from if !defined $name;
    $name =~ s/([^ -~])/sprintf('\\x%02x', ord($1))/ge;
    is(target($from, %opt), $to, substr($name, 0, 60));

    return;
}


# As it is

for my $target ('/', '/a', '/a/', '/a?', '/?', '/??', '/a?b', '/a?b=c&d=e',
                '/a?b=%00', '/a?b=/../c', '/a?b?c', '/a?b#c', '/a#b', '//',
                '//a', '/a//b', '///a///b//', '/./a', '/a/./b', '/a/../b',
                '/a/..;/b', '/..;/', '/a;b=c/d;e', '/%2f', '/%2F', '/a%2fb',
                '/a%2Fb', '/b/%2e%2e%2fa', '/a/%2e%2e/b', '/%61', '/%C3%A4',
                '/%c3%a4', "/\xc3\xa4", "/\xff\xfe", '/a%20b', '/a+b',
                '/a%0d%0ab', '/a?b=%0d%0aX-Evil:%201', '/%25', '/%2500',
                '/"', '/<a>', '/{a}|\\^`', "/'", '/~a', '/a:b', '/a@b', '/*',
                '/a,b', '/a!$&\'()*+,;=:@', '/?a=b%00', "/?\xe4", '/?"<>',
                '/.', '/a/.', '/a/..', '/...', '/.a', '/a..', '/..a',
                '/http://other.example/', '/a?' . 'x' x 10000,
                '/' . 'y' x 12000)
{
    is_target($target, $target);
}

for my $target ('//', '//a//b', '/a//../b', '///') {
    is_target($target, $target, "merge_slashes off: $target", port => 'LOOSE');
}

# What nginx refuses before we see it

for my $target ('/..', '/../a', '/a/../../b', '/%2e%2e/', '/%2e%2e%2fa', '/%2e%2e%2fa/..%2f..',
                '/%', '/%4', '/%zz', '/a%00b', "/a\x01", "/a\x7f", 'a', '*',
                '', "/a\tb", '/a b', '..', '/%00')
{
    my $got = target($target);
    like($got, qr/^(?:400|404|50.)$/, "refused: $target") or diag($got);
}

# Absolute form: what is behind the authority, and that authority.
is_target('http://example.test/a//b?c', '/a//b?c');
is_target('http://example.test/', '/');
is_target('http://example.test', '/');
is_target('http://example.test?a=b', '/?a=b');
is_target('HTTP://example.test:1234/%2f', '/%2f');

# Host is the one that nginx has chosen the server by, whatever the field says.
for my $case ([ 'http://public.test/', 'Host: private.test', 'public.test' ],
              [ 'http://Public.test:81?a=b', 'Host: private.test',
                'Public.test:81' ],
              [ 'http://[::1]:81', 'Host: private.test', '[::1]:81' ],
              [ 'http://public.test/', 'Host: public.test', 'public.test' ],
              [ '/', 'Host: private.test', 'private.test' ],
              [ '/http://public.test/', 'Host: private.test', 'private.test' ])
{
    my ($target, $field, $host) = @$case;

    my $c = $t->client;
    $c->write("GET $target HTTP/1.1\r\n$field\r\n"
              . 'X-Large: ' . 'x' x 8000 . "\r\n\r\n");
    $m = $c->response;
    is($m->header('X-Is-Host'), $host, "$target, $field: the host");
    is($m->header('X-Is-X-Forwarded-Host'), $host, 'and the forwarded one');
    $c->close;
}

# nginx looks at what is before the colon only, others might look behind it.
for my $host ('public.test:@private.test', 'public.test:80@private.test',
              'public.test:x', 'public.test:80:81', '[::1]:@private.test')
{
    my $c = $t->client;
    $c->write("GET / HTTP/1.1\r\nHost: $host\r\n\r\n");
    is($c->response->{status}, 400, "Host: $host");
    $c->close;
}

# Bytes that no authority has, which HTTP/2 would not carry: no agent gets them.
for my $case ([ '/', "b\xc3\xbccher.test" ], [ '/', 'a`b' ], [ '/', 'a"b:80' ],
              [ "http://b\xc3\xbccher.test/", 'x' ])
{
    my $c = $t->client;
    $c->write("GET $case->[0] HTTP/1.1\r\nHost: $case->[1]\r\n\r\n");
    is($c->response->{status}, 400, "$case->[0], Host: $case->[1]");
    $c->close;
}

for my $host ('public.test:', 'public.test.:80', '[::1]', 'a_b', 'a%62~') {
    my $c = $t->client;
    $c->write("GET / HTTP/1.1\r\nHost: $host\r\n\r\n");
    is($c->response->header('X-Is-Host'), $host, "Host: $host");
    $c->close;
}

my $old = $t->client;
$old->write("GET http://public.test:81/ HTTP/1.0\r\n\r\n");
is($old->response->header('X-Is-Host'), 'public.test:81', 'HTTP/1.0: it too');
$old->close;


# What nginx has changed is escaped again

is_target('/rewritten/a', '/new/a', 'rewritten');
is_target('/rewritten/a%20b', '/new/a%20b', 'a space');
is_target('/rewritten/a%3fb', '/new/a%3Fb', 'a question mark');
is_target('/rewritten/a%23b', '/new/a%23b', 'a hash');
is_target('/rewritten/a%26b+c%2bd', '/new/a&b+c+d', 'what needs no escaping');
is_target('/rewritten/a%25b', '/new/a%25b', 'a percent sign');
is_target('/rewritten/a%0d%0aX-Evil:%201', '/new/a%0D%0AX-Evil:%201',
          'line ends');
is_target('/rewritten/a%2fb', '/new/a/b', 'a slash is one, decoded');
is_target('/rewritten//a/./b/../c', '/new/a/c', 'dots and slashes are gone');
is_target('/rewritten/%c3%a4', '/new/%C3%A4', 'not ASCII');
is_target('/rewritten/a%7f', '/new/a%7F', 'DEL');
is_target('/rewritten/a?b=c%20d', '/new/a?b=c%20d', 'arguments as they are');
is_target('/noargs/a?b=c', '/a', 'no arguments');
is_target('/args/a%20b', '/new?x=a%20b', 'into the arguments');
is_target('/args/a%0d%0ab?c=d', '/new?x=a%0D%0Ab&c=d',
          'line ends into the arguments');
is_target('/last/a%20b', '/a%20b', 'to another location');
is_target('/last/rewritten/a%3fb', '/new/a%3Fb', 'twice');

# $uri is decoded: what comes of it must not be a request of its own.
is_target('/decoded/abc', '/new?x=/decoded/abc', '$uri in $args');
is_target("/decoded/a%0d%0aX-Evil:%201", 400, 'line ends there');
is_target('/decoded/a%0aX-Evil:1', 400, 'LF there');
is_target('/decoded/a%20HTTP/1.1%0d%0aX-Evil:%201', 400, 'a request there');
is_target('/decoded/a%20b', 400, 'a space there');
is_target('/decoded/a%09b', 400, 'a tab there');
is_target('/decoded/a%7fb', 400, 'DEL there');


# HTTP/2

for my $target ('/a//b?c=%00', '/%2f;..', '/"<>', '/a?b#c') {
    my $r = run_command([ qw(curl -sS --http2-prior-knowledge --path-as-is
                             --globoff --request-target), $target,
                          'http://127.0.0.1:' . $n->port('H2') . '/' ]);
    is($r->{out}, "GET $target HTTP/1.1", "HTTP/2: $target");
}


# The path that a prefix is compared with is nginx's

is($t->get('/deep')->{status}, 503, 'a prefix: another backend');
is($t->get('/deeper')->{status}, 503, 'of bytes, not of segments');
is($t->get('//deep')->{status}, 503, 'slashes merged');
is($t->get('/x/../deep/y')->{status}, 503, 'dots gone');
is($t->get('/%64eep')->{status}, 503, 'decoded');
is($t->get('/q%2fr')->{status}, 503, 'a slash decoded');
is($t->get('/Deep')->{status}, 200, 'case matters');
is($t->get('/dee')->{status}, 200, 'not all of it');

$t->done;
