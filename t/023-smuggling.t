#!/usr/bin/perl

# Requests that two parsers might read as two different ones: refused, or passed
# on as the one that nginx has read.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    if ($req->{target} eq '/half') {
        $c->body_start($req);
        $req->{body} = $c->body_piece;
        $c->note('some of it');
        1 while defined $c->body_piece;

    } else {
        $c->read_body($req);
    }

    $c->note("$req->{method} $req->{target} $req->{body}"
             . ($req->{cut} ? ' and a cut' : ''));
    return $c->respond(200, [ "X-Framing: $req->{framing}",
                              'X-TE: ' . join('|', $req->all(
                                  'Transfer-Encoding')),
                              'X-CL: ' . join('|', $req->all(
                                  'Content-Length')) ],
                       "$req->{target} <$req->{body}>");
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_agent_user me;
    underscores_in_headers on;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }

    server {
        listen 127.0.0.1:%%PORT_LAX%%;
        ignore_invalid_headers off;
        location / { inverting_proxy_pass main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

my $head = "POST /a HTTP/1.1\r\nHost: h\r\n";
my $evil = "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n";
my $length = 'Content-Length: ' . length("0\r\n\r\n$evil");
my ($c, $m);


# What must not be taken: nothing of it reaches the backend.

my %refused = (
    'CL and TE'             => "$length\r\nTransfer-Encoding: chunked",
    'TE and CL'             => "Transfer-Encoding: chunked\r\n$length",
    'two CL'                => "Content-Length: 5\r\n$length",
    'the same CL twice'     => "$length\r\n$length",
    'a list of CL'          => "Content-Length: 5, 5",
    'a signed CL'           => "Content-Length: +5",
    'a negative CL'         => "Content-Length: -5",
    'a hexadecimal CL'      => "Content-Length: 0x5",
    'an empty CL'           => "Content-Length:",
    'a huge CL'             => "Content-Length: " . 9 x 25,
    'gzip'                  => 'Transfer-Encoding: gzip',
    'gzip, chunked'         => 'Transfer-Encoding: gzip, chunked',
    'chunked, gzip'         => 'Transfer-Encoding: chunked, gzip',
    'chunked twice'         => "Transfer-Encoding: chunked\r\n"
                               . 'Transfer-Encoding: chunked',
    'chunked, and identity' => "Transfer-Encoding: chunked\r\n"
                               . 'Transfer-Encoding: identity',
    'identity'              => 'Transfer-Encoding: identity',
    'xchunked'              => 'Transfer-Encoding: xchunked',
    'a quoted one'          => 'Transfer-Encoding: "chunked"',
    'a vertical tab'        => "Transfer-Encoding: \x0bchunked",
    'a tab'                 => "Transfer-Encoding:\tchunked",
    'space before a colon'  => 'Transfer-Encoding : chunked',
    'a tab before a colon'  => "Transfer-Encoding\t: chunked",
    'a folded line'         => "Transfer-Encoding:\r\n chunked",
    'a folded X'            => "X-A: b\r\n Transfer-Encoding: chunked",
    'a space at the start'  => " Transfer-Encoding: chunked",
    'NUL'                   => "Transfer-Encoding: chunked\0",
    'a bare CR'             => "X-A: b\rTransfer-Encoding: chunked",
    'a late DEL'            => "Content-Length: 0\r\n"
                               . "X-A: aaaaaaaaa\tbbbbbbbbb\x7f",
    'two Hosts'             => 'Host: other',
    'too many options'      => "Content-Length: 0\r\nConnection: "
                               . 'x, ' x 64 . 'close',
);

for my $name (sort keys %refused) {
    $b->clear_notes;
    $c = $t->client;
    $c->write("$head$refused{$name}\r\n\r\n0\r\n\r\n$evil");
    $m = $c->response;
    like($m->{status}, qr/^(?:400|501|413)$/, "$name is refused")
        or diag($m->{raw});
    is($c->wait_end(2), 'eof', "$name: the connection ends");
    is_deeply([ $b->notes ], [], "$name: the backend saw nothing");
    $c->close;
}

for my $start ('POST /a HTTP/1.1 ', ' POST /a HTTP/1.1', 'POST  /a HTTP/1.1x',
               'POST /a HTTP/2.0', 'POST /a HTTP/0.9', 'POST /a HTTP/1.1\t',
               "POST /a\x0b HTTP/1.1", 'PO ST /a HTTP/1.1')
{
    $b->clear_notes;
    $c = $t->client;
    $c->write("$start\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    my $status = eval { $c->response->{status} } || 400;

    # What nginx lets pass is one well-formed request.
    if ($status == 200) {
        is_deeply([ $b->notes ], [ 'POST /a x' ], "\"$start\": as it was read");
    } else {
        like($status, qr/^(?:400|505)$/, "\"$start\" is refused");
        is_deeply([ $b->notes ], [], "\"$start\": the backend saw nothing");
    }
    $c->close;
}


# Fields that only look like framing pass for what they are: not at all, or as
# fields, beside the one framing that there is.

for my $port ('', 'LAX') {
    for my $field ('Transfer_Encoding: chunked', 'Content_Length: 0',
                   'X-Transfer-Encoding: chunked', 'Content-Length-X: 0',
                   'Transfer-Encoding-: chunked')
    {
        $c = $t->client(port => $n->port($port));
        $c->write("${head}Content-Length: 5\r\n$field\r\n\r\nhello");
        $m = $c->response;
        is($m->{body}, '/a <hello>', "$field, $port: the body");
        is($m->header('X-Framing'), 'length', "$field, $port: its framing");
        is($m->header('X-TE'), '', "$field, $port: no other");
        is($m->header('X-CL'), 5, "$field, $port: nor another length");
        $c->close;
    }
}

# HTTP/1.0 and chunks
$b->clear_notes;
$c = $t->client;
$c->write("POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
          . "5\r\nhello\r\n0\r\n\r\n");
$m = $c->response;
ok($m->{status} == 400 || $m->{status} == 501 || $m->{body} eq '/a <hello>',
   'chunks of HTTP/1.0') or diag($m->{raw});
$c->close;


# Chunked bodies: what nginx reads is written anew

for my $case (
    [ 'extensions', "5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", 'hello' ],
    [ 'leading zeros', "0005\r\nhello\r\n000\r\n\r\n", 'hello' ],
    [ 'upper case', "A\r\n0123456789\r\n0\r\n\r\n", '0123456789' ],
    [ 'trailers', "5\r\nhello\r\n0\r\nX-A: b\r\nContent-Length: 7\r\n\r\n",
      'hello' ],
    [ 'an evil extension', "5;\r\nhello\r\n0\r\n\r\n", 'hello' ],
) {
    my ($name, $body, $is) = @$case;

    $b->clear_notes;
    $c = $t->client;
    $c->write("${head}Transfer-Encoding: chunked\r\n\r\n${body}"
              . "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    $m = $c->response;
    is($m->{body}, "/a <$is>", "$name: the body");
    is($m->header('X-TE'), 'chunked', "$name: chunks");
    is($c->response->{body}, '/next <>', "$name: and the next request");
    is_deeply([ $b->notes ], [ "POST /a $is", 'GET /next ' ],
              "$name: no other request");
    $c->close;
}

for my $case (
    [ 'no size', "\r\nhello\r\n0\r\n\r\n" ],
    [ 'letters', "xyz\r\nhello\r\n0\r\n\r\n" ],
    [ 'a negative size', "-5\r\nhello\r\n0\r\n\r\n" ],
    [ 'a prefix', "0x5\r\nhello\r\n0\r\n\r\n" ],
    [ 'too small', "4\r\nhello\r\n0\r\n\r\n" ],
    [ 'too large', "7\r\nhello\r\n0\r\n\r\n" ],
    [ 'a huge size', 'f' x 17 . "\r\nhello\r\n0\r\n\r\n" ],
    [ 'a size that wraps', '1' . '0' x 16 . "5\r\nhello\r\n0\r\n\r\n" ],
    [ 'no end of a chunk', "5\r\nhello0\r\n\r\n" ],
) {
    my ($name, $body) = @$case;

    for my $late (0, 1) {
        $b->clear_notes;
        $c = $t->client;
        $c->write("${head}Transfer-Encoding: chunked\r\n\r\n");
        nap(0.03) if $late;
        $c->write("$body$evil");
        $m = $c->response;
        like($m ? $m->{status} : 400, qr/^(?:400|413)$/, "$name is refused")
            or diag("$m->{raw}$m->{body}");
        is($c->wait_end(2), 'eof', "$name: the connection ends");
        ok($t->wait_idle(5), "$name: nothing stays behind");
        is(scalar(grep { /evil/ || !/ and a cut$/ } $b->notes), 0,
           "$name: no whole request, and no other");
        $c->close;
    }
}


# A body that is not all there is not all there for the backend, either.

for my $framing ("Content-Length: 10\r\n\r\nhello",
                 "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
{
    (my $name = $framing) =~ s/:.*//s;
    (my $half = $head) =~ s{/a}{/half};
    $b->clear_notes;
    $c = $t->client;
    $c->write("$half$framing");
    ok($b->wait_note(qr/some of it/), "$name: the backend gets what there is");
    $c->close;
    ok($t->wait_idle(5), "$name: a client that goes leaves nothing");

    # A note of an earlier request may still have come.
    my ($note) = $b->wait_note(qr{POST /half});
    is($note, 'POST /half hello and a cut',
       "$name: the backend's connection is closed");
}

is($t->get('/end')->{body}, '/end <>', 'all is well in the end');

$t->done;
