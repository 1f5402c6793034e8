#!/usr/bin/perl

# The fields of a response: what passes, in which order and spelling, and what
# does not; through an agent, and posted by hand.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

my @plain = ('Date: Tue, 15 Nov 1994 08:12:31 GMT', 'Server: other/1.0',
             'Content-Type: text/html;charset=UTF-8', 'X-Repeated: a',
             'x-REPEATED: b', 'Set-Cookie: a=1; Path=/', 'X-Repeated: c',
             'Set-Cookie: b=2', 'Location: /relative', 'ETag: "abc"',
             'Last-Modified: Tue, 15 Nov 1994 08:12:31 GMT',
             'Expires: 0', 'Cache-Control: private', 'Cache-Control: no-store',
             'Pragma: no-cache', 'Refresh: 5; url=/x', 'Vary: Accept',
             'Vary: Cookie', 'Link: </a>; rel=x', 'Link: </b>; rel=y',
             'Accept-Ranges: bytes', 'Content-Range: bytes 0-4/100',
             'Content-Encoding: br', 'Content-Language: en',
             'Content-Disposition: attachment', 'WWW-Authenticate: Basic realm=x',
             'WWW-Authenticate: Bearer', 'Age: 5', 'Via: 1.1 inner',
             'Status: 404 Not', 'X_Under: 1', "X-Latin: \xe4", 'X-Empty:',
             'X-Colon: a:b: c', 'Warning: 1', 'Retry-After: 5', 'Allow: GET',
             'P3P: x', 'X.Dotted: 1', "!#\$%&'*+-.^_`|~: 1", 'Strict-Transport-Security: max-age=1',
             'Content-Security-Policy: default-src *', 'Alt-Svc: h3=":1"',
             'X-Inverting-Proxy-Something: fine');

my @hop = ('Connection: X-One, close', 'connection: x-TWO', 'X-One: 1',
           'X-Two: 2', 'Keep-Alive: timeout=5', 'Proxy-Connection: close',
           'Proxy-Authenticate: Basic', 'Proxy-Authorization: Basic x',
           'TE: trailers', 'Trailer: X-T', 'Upgrade: h2c');

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req);
    $c->note('head ' . $req->{raw} =~ s/\r//gr) if $req->{method} eq 'POST';

    my ($what) = $req->{target} =~ m{(\w+)$};

    my @fields = $what eq 'plain' ? @plain
                 : $what eq 'hop' ? (@hop, 'X-Left: 1')
                 : $what eq 'naked' ? ()
                 : $what eq 'connection' ? ('Connection: Content-Length, '
                                            . 'Transfer-Encoding, Server, X-A',
                                            'Server: x', 'X-A: 1')
                 : ("X-What: $what");

    my ($status) = $req->{target} =~ m{/(\d+)/};

    return $c->respond($status || 200, \@fields, 'hello',
                       chunked => $req->{target} =~ /chunked/ ? 1 : 0);
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me
                            prefix=/hand;
    inverting_proxy_agent_user me;
    # "hand" has to count as present while the other agent is busy.
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        absolute_redirect on;
        location / { inverting_proxy_pass main; }
        location /added/ {
            inverting_proxy_pass main;
            add_header X-Added yes always;
            expires 1h;
        }
        location /filtered/ {
            inverting_proxy_pass main;
            sub_filter hello goodbye;
            charset utf-8;
            default_type application/x-default;
        }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my $p = $t->peer(backend => 'hand');
my $poll = $p->poll;
$t->wait_status(sub { $_[0]->agents('hand') == 1 });
my $m;

sub by_hand {
    my ($bytes) = @_;

    my $c = $t->client;
    $c->request('GET', '/hand');

    if ($poll) {
        push @{$p->{ids}}, @{$p->poll_end($poll)->{ids}};
        $poll = undef;
    }

    $p->serve($bytes);
    my $m = $c->response;
    $c->close;

    return $m;
}

# What HTTP/2 was in between of has lost its upper case, but for what nginx writes
# itself.

sub spelled {
    my ($name, @fields) = @_;

    return @fields if $name =~ /by hand/;
    return map { [ $t->spelled($_->[0]), $_->[1] ] } @fields;
}

# nginx sorts some of what it writes itself to the top: in all of them the order
# of fields of the same name counts.

sub by_name {
    my (@fields) = @_;

    my %by;
    push @{$by{lc $_->[0]}}, "$_->[0]: $_->[1]" for @fields;

    return \%by;
}

sub fields {
    my @lines = @_;
    return map { [ /^([^:]+): ?(.*)/ ] } @lines;
}

my $text = join('', map { "$_\r\n" } @plain);
my %framed = (
    'an agent'          => sub { $t->get('/plain') },
    'an agent, chunked' => sub { $t->get('/chunked/plain') },
    'by hand'           => sub {
        by_hand("HTTP/1.1 200 OK\r\n${text}Content-Length: 5\r\n\r\nhello") },
    'by hand, chunked'  => sub {
        by_hand("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n$text\r\n"
                . "5\r\nhello\r\n0\r\n\r\n") },
    'by hand, 404'      => sub {
        by_hand("HTTP/1.1 404 No\r\n${text}Content-Length: 5\r\n\r\nhello") },
    'by hand, 301'      => sub {
        by_hand("HTTP/1.1 301 No\r\n${text}Content-Length: 5\r\n\r\nhello") },
    'by hand, 304'      => sub {
        by_hand("HTTP/1.1 304 No\r\n${text}Content-Length: 5\r\n\r\n") },
);

for my $name (sort keys %framed) {
    $m = $framed{$name}->();

    my @expected = spelled($name, fields(@plain));
    my @got = grep { $_->[0] !~ /^(?:Connection|Content-Length
                                     |Transfer-Encoding)$/xi }
              spelled($name, @{$m->{fields}});

    is_deeply(by_name(@got), by_name(@expected),
              "$name: fields pass as they are");
    is($m->{body}, $name =~ /304/ ? '' : 'hello', "$name: the body, too");

    my @rest = grep { $_ !~ /^(?:Date|Server|Content-Type|Content-Length
                              |Location|Last-Modified|ETag|Connection
                              |Transfer-Encoding|Content-Encoding
                              |Accept-Ranges|WWW-Authenticate|Expires
                              |Content-Range)$/xi } map { $_->[0] } @got;
    my @order = grep { my $f = $_; grep { $_ eq $f } @rest }
                map { $_->[0] } @expected;
    is_deeply(\@rest, \@order, "$name: in their order");
}


# Of one hop

for my $path ('/hop', '/chunked/hop') {
    $m = $t->get($path);
    is_deeply([ grep { !/^(?:Date|Connection|Content-Length
                          |Transfer-Encoding)$/x } $m->names ],
              [ $t->spelled('X-Left') ], "$path: hop-by-hop fields go");
    is($m->{body}, 'hello', "$path: the body does not");
}

my $hop = join('', map { "$_\r\n" } @hop);
$m = by_hand("HTTP/1.1 200 OK\r\n${hop}X-Left: 1\r\nContent-Length: 5\r\n\r\n"
             . 'hello');
is_deeply([ grep { !/^(?:Date|Connection|Content-Length)$/ } $m->names ],
          [ 'X-Left' ], 'by hand: hop-by-hop fields go');
is($m->header('Connection'), 'keep-alive', 'by hand: Connection is our own');

$m = $t->get('/connection');
is($m->header('Content-Length'), 5, 'Connection cannot name the framing');
is($m->header('X-A'), undef, 'but anything else');

$m = by_hand("HTTP/1.1 200 OK\r\nConnection: content-length\r\n"
             . "Content-Length: 5\r\n\r\nhello");
is($m->{body}, 'hello', 'by hand: nor can it there');
is($m->header('Content-Length'), 5, 'by hand: the framing stays');


# What an agent posts is clean already: other proxies of the family may pass it
# on as it is.

my $stand_in = $t->stand_in(hold => 1);
$t->agent(backend => 'real', host => $b->address, proxy => $stand_in->url,
          wait => 0, transport => 'poll');

my $id = $stand_in->add("GET /hop HTTP/1.1\r\nHost: h\r\n\r\n");
$m = $stand_in->wait_response($id);
is_deeply([ $m->names ], [ 'X-Left', 'Content-Length' ],
          'posted: hop-by-hop fields are gone');

$id = $stand_in->add("GET /plain HTTP/1.1\r\nHost: h\r\n\r\n");
$m = $stand_in->wait_response($id);
is_deeply([ map { "$_->[0]: $_->[1]" } @{$m->{fields}} ],
          [ map({ $_ eq 'X-Empty:' ? 'X-Empty: ' : $_ } @plain),
            'Content-Length: 5' ],
          'posted: all others, in their order');

$id = $stand_in->add("POST /x HTTP/1.1\r\nHost: h\r\n"
                     . "Connection: X-Secret\r\nX-Secret: 1\r\n"
                     . "Keep-Alive: 1\r\nExpect: 100-continue\r\n"
                     . "Proxy-Authorization: x\r\nUpgrade: h2c\r\n"
                     . "X-Inverting-Proxy-User-ID: evil\r\n"
                     . "x_inverting_proxy_user_id: evil\r\n"
                     . "TE: trailers\r\nX-Repeated: 1\r\nx-repeated: 2\r\n"
                     . "Content-Length: 5\r\n\r\nhello");
$stand_in->wait_response($id);
my ($note) = grep { m{^head POST /x} } $b->notes;
is($note, join("\n", 'head POST /x HTTP/1.1', 'Host: h', 'TE: trailers',
               'X-Repeated: 1', 'x-repeated: 2', 'Content-Length: 5', '', ''),
   'an agent cleans what it is given, too');


# What there is not is not made up

$m = by_hand("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
is_deeply([ sort $m->names ], [ sort qw(Date Content-Length Connection) ],
          'neither Server nor Content-Type');

$m = $t->get('/naked');
is_deeply([ sort $m->names ], [ sort qw(Date Content-Length Connection) ],
          'by an agent neither');


# What nginx does with any response it can do with these, too

$m = $t->get('/added/x');
is($m->header('X-Added'), 'yes', 'add_header');
is($m->header('Cache-Control'), 'max-age=3600', 'expires');

$m = by_hand("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
             . "Content-Length: 5\r\n\r\nhello");
is($m->header('Content-Type'), 'text/html', 'a type without a charset');

$m = $t->get('/filtered/plain');
is($m->{body}, 'goodbye', 'sub_filter');
is($m->header('Content-Type'), 'text/html;charset=UTF-8',
   'charset leaves a type that has one');


# Many, and long ones

my @many = map { "X-Field-$_: " . 'v' x 20 } 1 .. 300;
$m = by_hand("HTTP/1.1 200 OK\r\n" . join('', map { "$_\r\n" } @many)
             . "Content-Length: 5\r\n\r\nhello");
is_deeply([ map { "$_->[0]: $_->[1]" }
            grep { $_->[0] =~ /^X-Field/ } @{$m->{fields}} ], \@many,
          '300 fields');

$m = by_hand("HTTP/1.1 200 OK\r\nX-Long: " . 'l' x 15000
             . "\r\nContent-Length: 5\r\n\r\nhello");
is($m->header('X-Long'), 'l' x 15000, 'a long one');

$t->done;
