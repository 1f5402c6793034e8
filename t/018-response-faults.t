#!/usr/bin/perl

# Responses that an agent should not post: the client gets 502, or a cut if it
# has begun, the agent 400.  Backends are strangers, and so are agents.

use lib 't/lib';
use InvertingProxy::Test;

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main hand end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /small/ {
            inverting_proxy_pass main;
            inverting_proxy_buffer_size 1k;
        }
        location /secret { internal; return 200 "secret"; }
        location @secret { return 200 "secret"; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $p = $t->peer(backend => 'hand');
my $poll = $p->poll;
$t->wait_status(sub { $_[0]->agents('hand') == 1 });

my ($m, $answer);

sub by_hand {
    my ($target, @pieces) = @_;

    my $c = $t->client;
    $c->request('GET', $target);

    if ($poll) {
        push @{$p->{ids}}, @{$p->poll_end($poll)->{ids}};
        $poll = undef;
    }

    my $id = $p->take;
    $p->fetch($id);

    my $w = $p->post($id);
    my $m;

    for my $i (0 .. $#pieces) {
        # when the client has got the head
        $m = $c->response(head_only => 1) if $i == 1;
        $w->write($pieces[$i]);
    }

    $answer = $w->finish;
    $w->close;

    $m = $m ? $c->read_body($m) : $c->response;
    $c->close;

    return $m;
}

my $ok = "HTTP/1.1 200 OK\r\n";
my $length = "Content-Length: 5\r\n\r\nhello";
my $chunked = "Transfer-Encoding: chunked\r\n\r\n";
my $body = "5\r\nhello\r\n0\r\n\r\n";

for my $case (
    [ 'nothing of HTTP'       => 'SSH-2.0-OpenSSH_9.2' ],
    [ 'garbage'               => "\x16\x03\x01\0\xff\r\n\r\n" ],
    [ 'HTTP/0.9'              => "<html>hello</html>\r\n\r\n" ],
    [ 'a request'             => "GET / HTTP/1.1\r\nHost: h\r\n\r\n" ],
    [ 'an empty line before'  => "\r\n$ok$length" ],
    [ 'letters for a status'  => "HTTP/1.1 2xx OK\r\n$length" ],
    [ 'a short status'        => "HTTP/1.1 20 OK\r\n$length" ],
    [ 'a long status'         => "HTTP/1.1 2000 OK\r\n$length" ],
    [ 'only a status line'    => $ok ],
    [ 'half a status line'    => 'HTTP/1.1 2' ],
    [ 'half a head'           => "${ok}X-A: b\r\nX-" ],
    [ 'too large a head'      => $ok . 'X-A: ' . 'x' x 17000 . "\r\n$length" ],
    [ 'too many fields'       => $ok . "X-A: b\r\n" x 3000 . $length ],
    [ 'an endless head'       => $ok . "X-A: b\r\n" x 100000 ],
    [ 'too many options'      => "${ok}Connection: " . 'x, ' x 64
                                 . "close\r\n$length" ],
    [ 'two lengths'           => "${ok}Content-Length: 6\r\n$length" ],
    [ 'two lengths, swapped'  => "${ok}Content-Length: 4\r\n$length" ],
    [ 'a list of lengths'     => "${ok}Content-Length: 5, 5\r\n\r\nhello" ],
    [ 'a length of letters'   => "${ok}Content-Length: five\r\n\r\nhello" ],
    [ 'a length with a sign'  => "${ok}Content-Length: +5\r\n\r\nhello" ],
    [ 'a negative length'     => "${ok}Content-Length: -5\r\n\r\nhello" ],
    [ 'an empty length'       => "${ok}Content-Length:\r\n\r\nhello" ],
    [ 'a huge length'         => "${ok}Content-Length: " . 9 x 30
                                 . "\r\n\r\nhello" ],
    [ 'a hexadecimal length'  => "${ok}Content-Length: 0x5\r\n\r\nhello" ],
    [ 'both framings'         => "${ok}Content-Length: 5\r\n$chunked$body" ],
    [ 'both, swapped'         => "${ok}Transfer-Encoding: chunked\r\n$length" ],
    [ 'gzip'                  => "${ok}Transfer-Encoding: gzip\r\n\r\nhello" ],
    [ 'gzip, chunked'         => "${ok}Transfer-Encoding: gzip, chunked\r\n"
                                 . "\r\n$body" ],
    [ 'chunked, gzip'         => "${ok}Transfer-Encoding: chunked, gzip\r\n"
                                 . "\r\n$body" ],
    [ 'gzip, then chunked'    => "${ok}Transfer-Encoding: gzip\r\n"
                                 . "$chunked$body" ],
    [ 'chunked twice'         => "${ok}Transfer-Encoding: chunked\r\n"
                                 . "$chunked$body" ],
    [ 'chunked, with params'  => "${ok}Transfer-Encoding: chunked;q=1\r\n"
                                 . "\r\n$body" ],
    [ 'an empty coding'       => "${ok}Transfer-Encoding:\r\n\r\nhello" ],
    [ 'identity'              => "${ok}Transfer-Encoding: identity\r\n\r\nhello"
    ],
    [ 'a vertical tab'        => "${ok}Transfer-Encoding:\x0bchunked\r\n\r\n"
                                 . $body ],
    [ 'space before a colon'  => "${ok}X-A : b\r\n$length" ],
    [ 'space, of framing'     => "${ok}Transfer-Encoding : chunked\r\n\r\n"
                                 . $body ],
    [ 'a tab before a colon'  => "${ok}X-A\t: b\r\n$length" ],
    [ 'a folded line'         => "${ok}X-A: b\r\n c\r\n$length" ],
    [ 'a folded first line'   => "${ok} X-A: b\r\n$length" ],
    [ 'no name'               => "${ok}: b\r\n$length" ],
    [ 'no colon'              => "${ok}X-A\r\n$length" ],
    [ 'a name in quotes'      => "${ok}\"X-A\": b\r\n$length" ],
    [ 'a name with a slash'   => "${ok}X/A: b\r\n$length" ],
    [ 'a name not of ASCII'   => "${ok}X-\xe4: b\r\n$length" ],
    [ 'NUL in a value'        => "${ok}X-A: a\0b\r\n$length" ],
    [ 'NUL in a name'         => "${ok}X-\0A: b\r\n$length" ],
    [ 'a control character'   => "${ok}X-A: a\x07b\r\n$length" ],
    [ 'a late one'            => "${ok}X-A: aaaaaaaaa\tbbbbbbbbb\x07c\r\n"
                                 . $length ],
    [ 'escape'                => "${ok}X-A: \x1b[31m\r\n$length" ],
    [ 'DEL'                   => "${ok}X-A: a\x7f\r\n$length" ],
    [ 'a bare CR'             => "${ok}X-A: a\rX-B: b\r\n$length" ],
    [ 'two CRs'               => "${ok}X-A: a\r\r\n$length" ],
    [ 'two CRs, empty line'   => "${ok}Content-Length: 0\r\n\r\r\n" ],
    [ 'a control character in the reason'
                              => "HTTP/1.1 200 O\x01K\r\n$length" ],
    [ 'CR in the reason'      => "HTTP/1.1 200 O\rK\r\n$length" ],
    [ 'NUL in the reason'     => "HTTP/1.1 200 O\0K\r\n$length" ],
    [ 'a 101'                 => "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"
    ],
) {
    my ($name, $text) = @$case;

    $m = by_hand('/', $text);
    is($m && $m->{status}, 502, "$name: 502");
    is($m && $m->{cut}, undef, "$name: a whole one");
    unlike($m ? $m->{raw} . $m->{body} : '', qr/X-A|hello|secret/,
           "$name: nothing of it");
    is($answer && $answer->{status}, 400, "$name: the POST is refused");
}

is(by_hand('/small/', $ok . 'X-A: ' . 'x' x 1100 . "\r\n$length")->{status},
   502, 'inverting_proxy_buffer_size');
is(by_hand('/small/', $ok . 'X-A: ' . 'x' x 900 . "\r\n$length")->{status},
   200, 'up to it');
is(by_hand('/', $ok . 'X-A: ' . 'x' x 16000 . "\r\n$length")->{status}, 200,
   'its default');

# An empty POST is the loss of an agent: the request is offered once more.

{
    my $c = $t->client;
    $c->request('GET', '/');

    for my $i (1, 2) {
        my $id = $p->take;
        $p->fetch($id);
        my $w = $p->post($id);
        is($w->finish->{status}, 400, 'an empty POST is refused');
        $w->close;
    }

    is($c->response->{status}, 502, 'two empty POSTs: 502');
    $c->close;
}


# What has begun is cut

for my $case (
    [ 'too short a body'      => "${ok}Content-Length: 10\r\n\r\n", 'hello' ],
    [ 'no body'               => "${ok}Content-Length: 10\r\n\r\n", '' ],
    [ 'no last chunk'         => "$ok$chunked", "5\r\nhello\r\n" ],
    [ 'half a last chunk'     => "$ok$chunked", "5\r\nhello\r\n0\r\n" ],
    [ 'half a trailer'        => "$ok$chunked", "5\r\nhello\r\n0\r\nX-A: b" ],
    [ 'half a chunk'          => "$ok$chunked", "a\r\nhello" ],
    [ 'no end of a chunk'     => "$ok$chunked", "5\r\nhello" ],
    [ 'no chunk'              => "$ok$chunked", '' ],
    [ 'no size'               => "$ok$chunked", "\r\nhello\r\n0\r\n\r\n" ],
    [ 'no size at the end'    => "$ok$chunked", "5\r\nhello\r\n\r\n\r\n" ],
    [ 'only an extension'     => "$ok$chunked", "5\r\nhello\r\n;x\r\n\r\n" ],
    [ 'a size of letters'     => "$ok$chunked", "hello\r\nhello\r\n0\r\n\r\n" ],
    [ 'a negative size'       => "$ok$chunked", "-5\r\nhello\r\n0\r\n\r\n" ],
    [ 'a signed size'         => "$ok$chunked", "+5\r\nhello\r\n0\r\n\r\n" ],
    [ 'a hexadecimal prefix'  => "$ok$chunked", "0x5\r\nhello\r\n0\r\n\r\n" ],
    [ 'space before a size'   => "$ok$chunked", " 5\r\nhello\r\n0\r\n\r\n" ],
    [ 'a huge size'           => "$ok$chunked",
      'f' x 16 . "\r\nhello\r\n0\r\n\r\n" ],
    [ 'a size that wraps'     => "$ok$chunked",
      '1' . '0' x 15 . "5\r\nhello\r\n0\r\n\r\n" ],
    [ 'a size too small'      => "$ok$chunked", "4\r\nhello\r\n0\r\n\r\n" ],
    [ 'a size too large'      => "$ok$chunked", "6\r\nhello\r\n0\r\n\r\n" ],
    [ 'bare LF'               => "$ok$chunked", "5\nhello\n0\n\n" ],
    [ 'bare CR'               => "$ok$chunked", "5\rhello\r0\r\r" ],
    [ 'NUL in an extension'   => "$ok$chunked", "5;\0\r\nhello\r\n0\r\n\r\n" ],
    [ 'an endless extension'  => "$ok$chunked",
      "5;" . 'x' x 20000 . "\r\nhello\r\n0\r\n\r\n" ],
    [ 'endless trailers'      => "$ok$chunked",
      "5\r\nhello\r\n0\r\n" . "X-A: b\r\n" x 3000 . "\r\n" ],
    [ 'a second garbage'      => "$ok$chunked", "5\r\nhello\r\n\0\0\0" ],
) {
    my ($name, $head, $rest) = @$case;

    for my $how (0, 1) {
        $m = by_hand('/', $how ? ($head, $rest) : $head . $rest);
        ok(!$m || $m->{status} == 502 || $m->{cut}, "$name: a cut");
        ok($m && $m->{cut}, "$name: which has begun") if $how;
        like($m->{body}, qr/^(?:hel?l?o?)?\r?$/, "$name: nothing that is not it")
            if $m && $m->{status} == 200;

        # 200 where all was read before anything was found wrong.
        like($answer->{status}, qr/^(?:200|400)$/, "$name: the POST");
    }
}


# More than there is to be: what there is to be, and nothing else; the next
# request of the connection has its own response.

for my $case (
    [ 'a length'     => "${ok}$length", 'hello' ],
    [ 'chunks'       => "$ok$chunked$body", 'hello' ],
    [ '204'          => "HTTP/1.1 204 No\r\n\r\n", '' ],
    [ '304'          => "HTTP/1.1 304 Not\r\nContent-Length: 4\r\n\r\n", '' ],
    [ 'nothing'      => "${ok}Content-Length: 0\r\n\r\n", '' ],
) {
    my ($name, $text, $is) = @$case;
    my $evil = "HTTP/1.1 200 Smuggled\r\nContent-Length: 4\r\n\r\nevil";

    for my $pieces (0, 1) {
        my $c = $t->client;
        $c->request('GET', '/');
        my $id = $p->take;
        $p->fetch($id);
        my $w = $p->post($id);
        $w->write($text . ($pieces ? '' : $evil));
        if ($pieces) {
            nap(0.02);
            $w->write($evil);
        }
        $w->finish;
        $w->close;
        $m = $c->response;
        is($m->{body}, $is, "more than there is to be, $name");

        $c->request('GET', '/');
        $p->serve("${ok}Content-Length: 4\r\n\r\nfine");
        is($c->response->{body}, 'fine', "$name: nothing of it is left");
        $c->close;
    }
}

# For ever: the POST is ended.

{
    my $c = $t->client;
    $c->request('GET', '/');
    my $id = $p->take;
    $p->fetch($id);
    my $w = $p->post($id);
    $w->write("$ok$length");
    is($c->response->{body}, 'hello', 'a POST that does not end: the client');
    for (1 .. 200) {
        $w->write('x' x 10000) or last;
    }
    is($w->answer->{status}, 400, 'a POST that does not end: the agent');
    $w->close;
    $c->close;
}


# X-Accel-*: neither done nor passed

for my $name (qw(X-Accel-Redirect x-accel-redirect X-ACCEL-REDIRECT)) {
    for my $to ('/secret', '@secret', '/agent/pending') {
        $m = by_hand('/', "${ok}$name: $to\r\n$length");
        is($m->{body}, 'hello', "$name: $to is not followed");
        is($m->header('X-Accel-Redirect'), undef, "$name: $to is not passed");
    }
}

$m = by_hand('/', "${ok}X-Accel-Limit-Rate: 1\r\nX-Accel-Buffering: yes\r\n"
             . "X-Accel-Charset: koi8-r\r\nX-Accel-Expires: 100\r\n"
             . "X-Accel-Anything: x\r\nContent-Type: text/plain\r\n"
             . $length);
is($m->{body}, 'hello', 'the other X-Accel-* fields');
is(scalar(grep { /^x-accel/i } $m->names), 0, 'none is passed');
is($m->header('Content-Type'), 'text/plain', 'nor acted on');
cmp_ok($m->{at}{end}, '<', 5 * slow(), 'nor slows anything');

$t->done;
