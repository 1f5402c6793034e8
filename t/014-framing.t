#!/usr/bin/perl

# How the response of an agent may be framed: HEAD, 204 and 304 in every way
# that agents in the field have, heads in pieces, interim responses, trailers,
# bodies that end with the POST.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my $what = $req->{target};

    if ($what eq '/interim') {
        $c->write("HTTP/1.1 100 Continue\r\n\r\n");
        $c->write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                  . "HTTP/1.1 102\r\nX-Interim: yes\r\n\r\n");
        nap(0.05);
        return $c->respond(200, [ 'X-Final: yes' ], 'final');

    } elsif ($what eq '/pieces') {
        $c->write_slowly("HTTP/1.1 200 In pieces\r\nX-A: 1\r\n"
                         . "Content-Length: 4\r\n\r\nbody", 1, 0.002);
        return 1;

    } elsif ($what eq '/trailers') {
        return $c->respond(200, [ 'Trailer: X-Sum, Content-Length' ], 'body',
                           chunked => 1,
                           trailers => [ 'X-Sum: 1', 'X-Sum: 2',
                                         'content-length: 1000',
                                         'Transfer-Encoding: gzip',
                                         'X-Accel-Redirect: /secret',
                                         'Connection: close',
                                         'X-Last:   spaces   ' ]);

    } elsif ($what eq '/101') {
        $c->write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                  . "Upgrade: websocket\r\n\r\n");
        return 0;

    } elsif ($what eq '/only-interim') {
        $c->write("HTTP/1.1 100 Continue\r\n\r\n");
        return 0;
    }

    my ($status, $how) = $what =~ m{^/(\d+)/(\w+)$};

    return $c->head($status, [ 'X-How: ' . $how,
                               { chunked => 'Transfer-Encoding: chunked',
                                 length  => 'Content-Length: 1234',
                                 zero    => 'Content-Length: 0',
                                 nothing => 'X-Nothing: 1' }->{$how} ]);
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me
                            prefix=/real;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    # "hand" has to count as present while the other agent is busy.
    inverting_proxy_backend_timeout 60s;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /real/ {
            rewrite ^/real(.*) $1 break;
            inverting_proxy_pass main real;
        }
        location /secret { internal; return 200 "secret"; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my $p = $t->peer(backend => 'hand');
my $poll = $p->poll;
my ($m, $c, $w, $answer);

$t->wait_status(sub { $_[0]->agents('hand') == 1 });


# A request, and its response in the pieces given, each in a write of its own;
# the POST's answer is in $answer.

sub by_hand {
    my ($method, $version, @pieces) = @_;

    my $c = $t->client;
    $c->request($method, '/', version => $version);

    if ($poll) {
        push @{$p->{ids}}, @{$p->poll_end($poll)->{ids}};
        $poll = undef;
    }

    my $id = $p->take;
    $p->fetch($id);

    my $w = $p->post($id);

    for my $piece (@pieces) {
        nap(0.002) if @pieces > 1;
        $w->write($piece);
    }

    $answer = $w->finish;
    $w->close;
    my $m = $c->response;

    if ($m && $version eq '1.1') {
        # Nothing is left behind: the connection is good for another one, or
        # closed.
        my $end = $c->wait_end(0.02);
        $m->{after} = defined $end ? $end : 'open';
    }

    $c->close;

    return $m;
}


# Responses without a body, in whatever framing

my %framing = (
    chunked => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    chunked_trailer => "Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n",
    length  => "Content-Length: 1234\r\n\r\n",
    zero    => "Content-Length: 0\r\n\r\n",
    nothing => "\r\n",
);

for my $how (sort keys %framing) {
    for my $case ([ HEAD => 200 ], [ HEAD => 404 ], [ GET => 204 ],
                  [ GET => 304 ], [ HEAD => 204 ], [ HEAD => 304 ])
    {
        my ($method, $status) = @$case;
        my $name = "$method, $status, $how";

        for my $pieces (0, 1) {
            my $text = "HTTP/1.1 $status Some\r\nX-How: $how\r\n"
                       . $framing{$how};

            $m = by_hand($method, '1.1',
                         $pieces ? split(/(?<=\n)/, $text) : $text);

            is($m->{start}, "HTTP/1.1 $status Some", "$name: the status");
            is($m->header('X-How'), $how, "$name: a field");
            is($m->{after}, 'open', "$name: no body");
            is($answer->{status}, 200, "$name: the POST");

            my $length = $status == 204 ? undef
                         : $how eq 'length' ? 1234
                         : $how eq 'zero' ? 0 : undef;
            is($m->header('Content-Length'), $length, "$name: the length");
        }
    }
}

# ... with an agent

for my $how (qw(chunked length zero nothing)) {
    for my $case ([ HEAD => 200 ], [ GET => 204 ], [ GET => 304 ],
                  [ HEAD => 304 ])
    {
        my ($method, $status) = @$case;
        my $name = "agent: $method, $status, $how";

        $c = $t->client;
        $m = $c->get("/real/$status/$how", method => $method);
        is($m->{status}, $status, "$name: the status");
        is($m->header('X-How'), $how, "$name: a field");

        my $length = $status == 204 ? undef
                     : $how eq 'length' ? 1234
                     : $how eq 'zero' ? 0 : undef;
        is($m->header('Content-Length'), $length, "$name: the length");

        is($c->get("/real/204/nothing")->{status}, 204,
           "$name: the connection is good for another");
        $c->close;
    }
}


# Bodies: in pieces, each byte in a chunk of its own; without a length, which
# ends with the POST; none.

for my $case (
    [ 'a length', "Content-Length: 5\r\n\r\nhello", 'hello', 'length' ],
    [ 'chunks', "Transfer-Encoding: chunked\r\n\r\n"
      . "2\r\nhe\r\n1;ext=\"a b\"\r\nl\r\n002\r\nlo\r\n0\r\n\r\n", 'hello',
      'chunked' ],
    [ 'upper case', "TRANSFER-ENCODING: Chunked\r\n\r\n"
      . "A\r\n0123456789\r\n00\r\n\r\n", '0123456789', 'chunked' ],
    [ 'the end of the POST', "\r\nhello", 'hello', 'chunked' ],
    [ 'no body, the end of the POST', "\r\n", '', 'chunked' ],
    [ 'a length of zero', "Content-Length: 0\r\n\r\n", '', 'length' ],
    [ 'no chunk', "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", '',
      'chunked' ],
) {
    my ($name, $text, $body, $framing) = @$case;

    for my $line ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200\r\n",
                  "HTTP/1.1 200 \r\n", "HTTP/1.0 200 OK\r\nX-Y: z\r\n")
    {
        (my $short = $line) =~ s/\r\n.*//s;

        for my $pieces (0, 1) {
            next if $pieces && $line ne "HTTP/1.1 200 OK\r\n";

            $m = by_hand('GET', '1.1', $pieces ? split(//, $line . $text)
                                               : $line . $text);
            is($m->{status}, 200, "$name, $short: the status");
            is($m->{body}, $body, "$name, $short: the body");
            is($m->{framing}, $framing, "$name, $short: the framing");
            is($m->{cut}, undef, "$name, $short: whole");
            is($m->{after}, 'open', "$name, $short: no more");
            is($answer->{status}, 200, "$name, $short: the POST");
        }
    }

    $m = by_hand('GET', '1.0', "HTTP/1.1 200 OK\r\n$text");
    is($m->{body}, $body, "$name, HTTP/1.0: the body");
    is($m->header('Transfer-Encoding'), undef, "$name, HTTP/1.0: no chunks");
    is($answer->{status}, 200, "$name, HTTP/1.0: the POST");
}


# The status line alone; the rest of the head only with the first byte

$m = by_hand('GET', '1.1', "HTTP/1.1 200 OK\r\n",
             "X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
             "0\r\n\r\n");
is($m->{body}, 'abc', 'the status line comes alone');
is($m->header('X-A'), 'b', 'then the head');

$m = $t->get('/real/pieces');
is($m->{start}, 'HTTP/1.1 200 In pieces', 'byte by byte, by an agent');
is($m->{body}, 'body', 'its body');


# A POST whose own length is known

for my $text ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
              "HTTP/1.1 200 OK\r\n\r\nhello",
              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              . "5\r\nhello\r\n0\r\n\r\n")
{
    for my $expect (0, 1) {
        my $c = $t->client;
        $c->request('GET', '/');
        my $id = $p->take;
        $p->fetch($id);

        my $w = $t->client;
        $w->request('POST', '/agent/response', length => length $text,
                    headers => [ 'X-Inverting-Proxy-Backend-ID: hand',
                                 "X-Inverting-Proxy-Request-ID: $id",
                                 $expect ? 'Expect: 100-continue' : () ]);
        is($w->read_head->{status}, 100, 'Expect of a POST') if $expect;
        $w->write($text);
        is($w->response->{status}, 200, 'a POST with a length');
        is($c->response->{body}, 'hello', 'a POST with a length: the body');
        $_->close for $c, $w;
    }
}


# Interim responses: the agent takes them for itself; one that is posted is
# none.

$m = $t->get('/real/interim');
is($m->{body}, 'final', 'the final response');
is($m->header('X-Final'), 'yes', 'its field');
is($m->header('X-Interim'), undef, 'not those of the interim ones');
is($m->header('Link'), undef, 'not those of any of them');
is_deeply($m->{interim}, [], 'no interim response');

is($t->get('/real/only-interim')->{status}, 502, 'nothing but interim ones');
is($t->get('/real/101')->{status}, 502, 'an unasked 101, by an agent');

for my $status (100, 101, 102, 103, 199, '000', '099') {
    for my $rest ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "\r\n",
                  "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    {
        $m = by_hand('GET', '1.1', "HTTP/1.1 $status Some\r\n$rest");
        is($m->{status}, 502, "a posted $status is a 502");
        is_deeply($m->{interim}, [], "$status: nor an interim response");
        is($answer->{status}, 400, "$status: the POST is refused");
    }
}


# Trailers

$m = $t->get('/real/trailers');
is($m->{body}, 'body', 'a body before trailers');
is_deeply($m->{trailers}, [ [ $t->spelled('X-Sum'), 1 ],
                            [ $t->spelled('X-Sum'), 2 ],
                            [ $t->spelled('X-Last'), 'spaces' ] ],
          'trailers, but for what frames or steers');
is($m->header('Trailer'), undef, 'Trailer is of one hop');

$m = by_hand('GET', '1.1', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
             . "\r\n4\r\nbody\r\n0\r\nA: 1\r\nx-accel-buffering: no\r\n"
             . "HOST: h\r\nTe: trailers\r\nContent-LENGTH: 9\r\na:  2 \r\n"
             . "Empty:\r\n\r\n");
is_deeply($m->{trailers}, [ [ 'A', 1 ], [ 'a', 2 ], [ 'Empty', '' ] ],
          'posted trailers');
is($answer->{status}, 200, 'the POST with trailers');

$m = by_hand('GET', '1.1', split(//, "HTTP/1.1 200 OK\r\n"
             . "Transfer-Encoding: chunked\r\n\r\n"
             . "4\r\nbody\r\n0\r\nX-Sum: a b\r\n\r\n"));
is($m->trailer('X-Sum'), 'a b', 'a trailer byte by byte');

$m = by_hand('GET', '1.0', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
             . "\r\n4\r\nbody\r\n0\r\nA: 1\r\n\r\n");
is($m->{body}, 'body', 'HTTP/1.0: no trailers');
is($answer->{status}, 200, 'the POST with trailers for HTTP/1.0');

for my $bad ("A B: 1\r\n", "A : 1\r\n", " A: 1\r\n", ": 1\r\n", "A: \x01\r\n",
             "A: a\rb\r\n", "A\r\n", "A: 1\n", "A: " . 'x' x 20000 . "\r\n")
{
    $m = by_hand('GET', '1.1', "HTTP/1.1 200 OK\r\n"
                 . "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
                 "0\r\n${bad}\r\n");
    (my $name = substr($bad, 0, 10)) =~ s/[^ -~]/?/g;

    # Read along with the head it leaves the client without a byte.
    ok($m->{cut} || ($m->{status} || 502) == 502,
       "a bad trailer \"$name\" is a cut");

    # 200 where it was read to its end before that was noticed.
    like($answer->{status}, qr/^[24]00$/, "bad trailer \"$name\": the POST");
}

$t->done;
