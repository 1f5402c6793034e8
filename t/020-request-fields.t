#!/usr/bin/perl

# The fields of a request: what passes, in which order and spelling, what does
# not, what the proxy says in its own name; as an agent by hand gets them, and as
# a backend behind a real one does.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

# The head as it came
my $b = $t->backend(sub {
    my ($c, $req) = @_;
    $c->read_body($req);
    return $c->respond(200, [], $req->{raw});
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    underscores_in_headers on;

    server {
        listen 127.0.0.1:%%PORT%%;
        server_name example.test;
        location / { inverting_proxy_pass main $arg_b; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }

        location /user/ {
            inverting_proxy_user someone@example.com;
            inverting_proxy_pass main $arg_b;
        }

        location /set/ {
            inverting_proxy_set_header X-Forwarded-For $remote_addr;
            inverting_proxy_set_header X-Forwarded-Host "";
            inverting_proxy_set_header Host inner.example;
            inverting_proxy_set_header x-mine "a $arg_v b";
            inverting_proxy_set_header Authorization "";
            inverting_proxy_set_header X-Empty $arg_none;
            inverting_proxy_pass main $arg_b;

            location /set/inherited/ {
                inverting_proxy_pass main $arg_b;
            }

            location /set/own/ {
                inverting_proxy_set_header X-Own yes;
                inverting_proxy_pass main $arg_b;
            }
        }
    }

    server {
        listen 127.0.0.1:%%PORT_STRICT%%;
        underscores_in_headers off;
        location / { inverting_proxy_pass main $arg_b; }
    }

    server {
        listen 127.0.0.1:%%PORT_LAX%%;
        ignore_invalid_headers off;
        location / { inverting_proxy_pass main $arg_b; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my $p = $t->peer(backend => 'hand');
my $poll = $p->poll;
$t->wait_status(sub { $_[0]->agents('hand') == 1 });

my ($user, $m);


# Sends a head as it is; returns what the agent by hand was told, as a Message.
# With $real => 1: what the backend of the real one was.

sub told {
    my ($real, $target, $fields, %opt) = @_;

    my $c = $t->client(port => $n->port($opt{port}));
    my $method = $opt{method} || 'GET';

    $c->write("$method $target" . ($target =~ /\?/ ? '&' : '?')
              . 'b=' . ($real ? 'real' : 'hand')
              . ' HTTP/' . ($opt{version} || '1.1') . "\r\n"
              . join('', map { "$_\r\n" } @$fields) . "\r\n"
              . (defined $opt{body} ? $opt{body} : ''));

    if ($real) {
        $c->{method} = $method;
        my $m = $c->response;
        $c->close;
        return $m->{status} == 200
               ? InvertingProxy::Test::Message->parse($m->{body}) : $m;
    }

    if ($opt{refused}) {
        my $m = $c->response;
        $c->close;
        return $m;
    }

    if ($poll) {
        push @{$p->{ids}}, @{$p->poll_end($poll)->{ids}};
        $poll = undef;
    }

    my $id = $p->take;
    my $f = $p->fetch($id);
    $user = $f->{user};
    $p->respond($id, "HTTP/1.1 204 No\r\n\r\n");
    $c->response;
    $c->close;

    return $f->{request};
}

sub both { return map { told($_, @_) } 0, 1 }

my $host = 'Host: example.test';


# Order, spelling, repetition

for my $real (0, 1) {
    my @fields = ('X-First: 1', 'x-REPEATED: a', 'Accept: */*', 'X-repeated: b',
                  'Cookie: a=1', 'X-Repeated: c', 'cookie: b=2',
                  'X-Empty:', 'X_Under_Score: yes', 'X-Tab: a	b',
                  "X-Latin: \xe4\xf6", 'X-Colon: a:b: c', 'User-Agent: t/020',
                  'Content-Type: text/x', 'Authorization: Basic YTpi',
                  'Cache-Control: no-cache', 'If-None-Match: "x"',
                  'Range: bytes=0-1', 'Accept-Encoding: br', 'Via: 1.0 a',
                  'Forwarded: for=1.2.3.4', 'Origin: null', 'Date: today',
                  'Max-Forwards: 3', 'X-Last: 1');

    $m = told($real, '/', [ $host, @fields ]);
    my @own = qw(Host X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host);
    my @expected = map { [ /^([^:]+): ?(.*)/s ] } @fields;

    if ($real && $t->over_ptth) {
        $_ = $t->spelled($_) for @own[1 .. 3];
        $_->[0] = $t->spelled($_->[0]) for @expected;

        # RFC 9113, 8.2.3: several Cookie fields become one.
        my ($first, @other) = grep { $_->[0] eq 'cookie' } @expected;
        $first->[1] = join('; ', map { $_->[1] } $first, @other);
        @expected = grep { my $f = $_; !grep { $_ == $f } @other } @expected;
    }

    my @left = grep { my $f = $_; !grep { $_ eq $f->[0] } @own }
               @{$m->{fields}};

    is_deeply(\@left, \@expected,
              "$real: fields pass as they are, in their order");
    is_deeply([ sort grep { my $n = $_; grep { $_ eq $n } @own } $m->names ],
              [ sort @own ], "$real: our own, once each");
}

# White space around a value is none of it, be it tabulators

for my $real (0, 1) {
    $m = told($real, '/', [ $host, "X-Before:\ta b", "X-After: a b\t",
                            "X-Both: \t a\tb \t ", "X-Nothing:\t",
                            "X-Forwarded-For:\t1.2.3.4" ]);
    is($m->{method}, 'GET', "$real: tabulators around values");
    is($m->header($_) =~ s/^[ \t]+|[ \t]+$//gr,
       { 'X-Both' => "a\tb", 'X-Nothing' => '' }->{$_} // 'a b', "$real: $_")
        for qw(X-Before X-After X-Both X-Nothing);
    is($m->header('X-Forwarded-For') =~ s/^[ \t]+//r, '1.2.3.4, 127.0.0.1',
       "$real: X-Forwarded-For");
}


# Ours: whatever the spelling, no client says them

my @spoofed = map { "$_: evil" } (
    'X-Inverting-Proxy-User-ID', 'x-inverting-proxy-user-id',
    'X-INVERTING-PROXY-USER-ID', 'X_Inverting_Proxy_User_ID',
    'x_inverting-proxy_user-id', 'X-Inverting-Proxy-User_ID',
    'X-Inverting-Proxy-Backend-ID', 'X-Inverting-Proxy-Request-ID',
    'X-Inverting-Proxy-VM-ID', 'X-Inverting-Proxy-Request-Start-Time',
    'X-Inverting-Proxy-', 'X-Inverting_Proxy-Whatever');

for my $port ('', 'STRICT', 'LAX') {
    for my $real (0, 1) {
        $m = told($real, '/', [ $host, @spoofed, 'X-Ok: yes' ], port => $port);
        is(scalar(grep { /inverting/i } $m->names), 0,
           "$real, $port: what is ours is not the client's");
        is($m->header('X-Ok'), 'yes', "$real, $port: but what is not is");
    }
}

told(0, '/', [ $host, @spoofed ]);
is($user, undef, 'no user');
told(0, '/user/', [ $host, @spoofed ]);
is($user, 'someone@example.com', 'the user is who the proxy says');
is(scalar(grep { /inverting/i } told(0, '/', [ $host, @spoofed ],
                                     method => 'POST', body => '')->names),
   0, 'nor with another method');


# Hop-by-hop fields

my @hop = ('Connection: close', 'Keep-Alive: timeout=5',
           'Proxy-Connection: keep-alive', 'Proxy-Authorization: Basic YTpi',
           'Proxy-Authenticate: Basic', 'TE: gzip', 'Trailer: X-T',
           'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA');

for my $real (0, 1) {
    $m = told($real, '/', [ $host, @hop, map { lc } @hop[1 .. 4] ]);
    is_deeply([ sort map { lc } $m->names ],
              [ sort qw(host x-forwarded-for x-forwarded-proto
                        x-forwarded-host) ],
              "$real: hop-by-hop fields go");
}

for my $te ([ 'trailers', 'trailers' ], [ 'gzip', undef ],
            [ 'deflate;q=0.5, trailers', 'trailers' ],
            [ 'TRAILERS , gzip', 'trailers' ], [ 'trailersx', undef ],
            [ '', undef ])
{
    for my $real (0, 1) {
        $m = told($real, '/', [ $host, "TE: $te->[0]" ]);
        is($m->header('TE'), $te->[1], "$real: TE: $te->[0]");
    }
}

$m = told(0, '/', [ $host, 'Connection: TE', 'TE: trailers', 'TE: gzip' ]);
is($m->header('TE'), 'trailers', 'TE, named in Connection as it has to be');

for my $real (0, 1) {
    $m = told($real, '/', [ $host, 'Expect: 100-continue',
                            'Content-Length: 1' ],
              method => 'POST', body => 'x');
    is($m->header('Expect'), undef, "$real: Expect goes");
}


# What Connection names goes, but for what is not the client's to name

for my $real (0, 1) {
    $m = told($real, '/',
              [ $host, 'Connection: X-One, x-TWO ,, close',
                'connection: X-Three', 'X-One: 1', 'X-Two: 2', 'x-three: 3',
                'X-Four: 4', 'X-On: 5' ]);
    is($m->header('X-One'), undef, "$real: named");
    is($m->header('X-Two'), undef, "$real: named in another case");
    is($m->header('X-Three'), undef, "$real: named in another field");
    is($m->header('X-Four'), 4, "$real: not named");
    is($m->header('X-On'), 5, "$real: named in part");

    $m = told($real, '/user/',
              [ $host, 'Connection: close, Host, X-Forwarded-For, '
                . 'X-Forwarded-Proto, x-forwarded-host, Content-Length, '
                . 'Transfer-Encoding, X-Inverting-Proxy-User-ID',
                'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Host: evil',
                'X-Forwarded-Proto: gopher', 'Content-Length: 4' ],
              method => 'POST', body => 'body');
    is($m->header('Host'), 'example.test', "$real: Host stays");
    is($m->header('X-Forwarded-For'), '1.2.3.4, 127.0.0.1',
       "$real: X-Forwarded-For stays");
    is($m->header('X-Forwarded-Proto'), 'http',
       "$real: X-Forwarded-Proto stays");
    is($m->header('X-Forwarded-Host'), 'example.test',
       "$real: X-Forwarded-Host stays");
    is($m->header('Content-Length'), 4, "$real: so does the framing");
}

is($user, 'someone@example.com', 'and the user');


# What the proxy says

for my $real (0, 1) {
    $m = told($real, '/', [ $host ]);
    is($m->header('X-Forwarded-For'), '127.0.0.1', "$real: X-Forwarded-For");
    is($m->header('X-Forwarded-Proto'), 'http', "$real: X-Forwarded-Proto");
    is($m->header('X-Forwarded-Host'), 'example.test',
       "$real: X-Forwarded-Host");
    is($m->header('Host'), 'example.test', "$real: Host");
}

$m = told(0, '/', [ 'Host: example.test:8080', 'X-Forwarded-For: 10.0.0.1',
                    'X-Forwarded-For: 10.0.0.2, 10.0.0.3' ]);
is_deeply([ $m->all('X-Forwarded-For') ],
          [ '10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1' ], 'a longer list');
is($m->header('X-Forwarded-Host'), 'example.test:8080', 'with its port');
is_deeply([ $m->all('Host') ], [ 'example.test:8080' ], 'Host as it is');
is((told(0, '/', [ 'HOST: EXAMPLE.test' ])->all('Host'))[0], 'EXAMPLE.test',
   'Host in its own case');

$m = told(0, '/', [], version => '1.0');
is_deeply([ $m->all('Host') ], [ '' ], 'HTTP/1.0 without Host');
is($m->header('X-Forwarded-Host'), undef, 'nor X-Forwarded-Host');

$m = told(0, '/', [ 'X-A: b', "Connection: keep-alive" ], version => '1.0');
is($m->{version}, '1.1', 'HTTP/1.1 in any case');
is($m->header('Connection'), undef, 'Connection is of one hop');


# inverting_proxy_set_header

for my $path ('/set/', '/set/inherited/') {
    for my $real (0, 1) {
        $m = told($real, "$path?v=x", [
            $host, 'X-Forwarded-For: 1.2.3.4', 'X-Forwarded-Host: evil',
            'X-Mine: client', 'X-MINE: again', 'Authorization: secret',
            'X-Empty: client', 'X-Other: 1', 'Connection: x-mine' ]);

        is($m->header('X-Forwarded-For'), '127.0.0.1', "$path: set anew");
        is($m->header('X-Forwarded-Proto'), 'http', "$path: a default stays");
        is($m->header('X-Forwarded-Host'), undef, "$path: set to nothing");
        is_deeply([ $m->all('Host') ], [ 'inner.example' ], "$path: Host");
        is_deeply([ grep { lc $_->[0] eq 'x-mine' } @{$m->{fields}} ],
                  [ [ 'x-mine', 'a x b' ] ], "$path: a value with variables");
        is($m->header('Authorization'), undef, "$path: a client's field removed");
        is($m->header('X-Empty'), undef, "$path: an empty value");
        is($m->header('X-Other'), 1, "$path: others pass");
    }
}

$m = told(0, '/set/own/', [ $host, 'X-Mine: client', 'Authorization: secret' ]);
is($m->header('X-Own'), 'yes', 'its own');
is($m->header('X-Mine'), 'client', 'nothing is inherited then');
is($m->header('Authorization'), 'secret', 'nothing at all');
is($m->header('X-Forwarded-Host'), 'example.test', 'but the defaults are there');
is($m->header('Host'), 'example.test', 'and Host');

# A value of the client's must not become more than a value.
for my $evil ('a%0d%0aX-Evil: 1', 'a%0aX-Evil: 1', 'a%00b') {
    # $arg_v is not decoded: nothing happens.
    (my $v = $evil) =~ s/ /%20/g;
    $m = told(0, "/set/?v=$v", [ $host ]);
    is($m->header('X-Mine'), "a $v b", 'an argument is not decoded');
    is($m->header('X-Evil'), undef, 'and remains one');
}


# What is no field

for my $bad ("X-A: a\x01b", "X-A: \x7f", "X-A: a\x1bb", "X-A: a\x0bb") {
    (my $name = $bad) =~ s/[^ -~]/?/g;
    $m = told(0, '/', [ $host, $bad ], refused => 1);
    is($m && $m->{status}, 400, "$name is refused");
}

# Names that are none: ignored by default; where nginx is told to take them, not
# passed on all the same.
for my $bad ('X(A): b', 'X A: b', 'X"A": b', "X\xe4: b", 'X.A/B: c', 'X@: b') {
    $m = told(0, '/', [ $host, $bad, 'X-Ok: yes' ],
              $bad =~ /^X A/ ? (refused => 1) : ());

    if ($bad =~ /^X A/) {
        is($m->{status}, 400, "\"$bad\" is refused by nginx");
        next;
    }

    is($m->header('X-Ok'), 'yes', "\"$bad\" is ignored");
    is(scalar(grep { /[()"\@\/\xe4]/ } $m->names), 0, 'and does not pass');

    $m = told(0, '/', [ $host, $bad, 'X-Ok: yes' ], port => 'LAX',
              refused => 1);
    is($m && $m->{status}, 400, "\"$bad\" is refused where it is not ignored");
}

$t->done;
