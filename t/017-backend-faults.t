#!/usr/bin/perl

# Backends that misbehave, behind an agent: what can be answered is a 502, what
# has begun is a cut, which the client sees as one.

use lib 't/lib';
use InvertingProxy::Test ':transports';

my $t = InvertingProxy::Test->new;
my %case;

# What is answered with 502 in any case

my $ok = "HTTP/1.1 200 OK\r\n";

%case = (
    'nothing'             => '',
    'half a status line'  => 'HTTP/1.1 2',
    'half a head'         => "${ok}X-A: b\r\nX-",
    'no HTTP'             => "SSH-2.0-OpenSSH_9.2\r\n",
    'garbage'             => "\x16\x03\x01\x00\xff" x 50 . "\r\n\r\n",
    'only line ends'      => "\r\n\r\n\r\n",
    'HTTP/0.9'            => "<html>hello</html>\r\n\r\n",
    'HTTP/2'              => "HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
    'a status of letters' => "HTTP/1.1 2xx OK\r\nContent-Length: 0\r\n\r\n",
    'a short status'      => "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    'a long status'       => "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    'status 099'          => "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    'too large a head'    => $ok . "X-A: " . 'x' x 200000 . "\r\n"
                             . "Content-Length: 0\r\n\r\n",
    'endless fields'      => $ok . "X-A: b\r\n" x 50000
                             . "Content-Length: 0\r\n\r\n",
    'a head for the agent only'
                          => $ok . "X-A: " . 'x' x 20000 . "\r\n"
                             . "Content-Length: 0\r\n\r\n",
    'two lengths'         => "${ok}Content-Length: 5\r\nContent-Length: 6\r\n"
                             . "\r\nhello!",
    'a list of lengths'   => "${ok}Content-Length: 5, 5\r\n\r\nhello",
    'a length of letters' => "${ok}Content-Length: five\r\n\r\nhello",
    'a length with a sign'
                          => "${ok}Content-Length: +5\r\n\r\nhello",
    'a negative length'   => "${ok}Content-Length: -5\r\n\r\nhello",
    'an empty length'     => "${ok}Content-Length:\r\n\r\nhello",
    'a huge length'       => "${ok}Content-Length: " . '9' x 30
                             . "\r\n\r\nhello",
    'length and chunks'   => "${ok}Content-Length: 5\r\n"
                             . "Transfer-Encoding: chunked\r\n\r\n"
                             . "5\r\nhello\r\n0\r\n\r\n",
    'chunks and length'   => "${ok}Transfer-Encoding: chunked\r\n"
                             . "Content-Length: 5\r\n\r\n"
                             . "5\r\nhello\r\n0\r\n\r\n",
    'gzip'                => "${ok}Transfer-Encoding: gzip\r\n\r\nhello",
    'gzip and chunked'    => "${ok}Transfer-Encoding: gzip, chunked\r\n\r\n"
                             . "5\r\nhello\r\n0\r\n\r\n",
    'identity'            => "${ok}Transfer-Encoding: identity\r\n\r\nhello",
    'chunked twice'       => "${ok}Transfer-Encoding: chunked\r\n"
                             . "Transfer-Encoding: chunked\r\n\r\n"
                             . "5\r\nhello\r\n0\r\n\r\n",
    'chunked, not quite'  => "${ok}Transfer-Encoding: xchunked\r\n\r\n"
                             . "5\r\nhello\r\n0\r\n\r\n",
    'chunked, a bare one' => "${ok}Transfer-Encoding:\x0bchunked\r\n\r\n"
                             . "5\r\nhello\r\n0\r\n\r\n",
    'a space before the colon'
                          => "${ok}Content-Length : 5\r\n\r\nhello",
    'a folded line'       => "${ok}X-A: b\r\n c\r\nContent-Length: 5\r\n\r\n"
                             . "hello",
    'a folded first line' => "${ok} X-A: b\r\nContent-Length: 5\r\n\r\nhello",
    'no name'             => "${ok}: b\r\nContent-Length: 5\r\n\r\nhello",
    'no colon'            => "${ok}X-A\r\nContent-Length: 5\r\n\r\nhello",
    'NUL in a value'      => "${ok}X-A: a\0b\r\nContent-Length: 5\r\n\r\nhello",
    'NUL in a name'       => "${ok}X-\0A: b\r\nContent-Length: 5\r\n\r\nhello",
    'a control character' => "${ok}X-A: a\x07b\r\nContent-Length: 5\r\n\r\n"
                             . "hello",
    'a bare CR'           => "${ok}X-A: a\rX-B: b\r\nContent-Length: 5\r\n\r\n"
                             . "hello",
    'two CRs'             => "${ok}X-A: a\r\r\nContent-Length: 5\r\n\r\nhello",
    'DEL'                 => "${ok}X-A: a\x7f\r\nContent-Length: 5\r\n\r\n"
                             . "hello",
    'a control character in the reason'
                          => "HTTP/1.1 200 O\x01K\r\nContent-Length: 5\r\n\r\n"
                             . "hello",
    'CR in the reason'    => "HTTP/1.1 200 O\rK\r\nContent-Length: 5\r\n\r\n"
                             . "hello",
    'a 101'               => "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
);

# What may have begun: a 502, or a cut

my $chunked = "${ok}Transfer-Encoding: chunked\r\n\r\n";

my %cut = (
    'too short a body'      => "${ok}Content-Length: 100\r\n\r\nhello",
    'no body'               => "${ok}Content-Length: 100\r\n\r\n",
    'no last chunk'         => "${chunked}5\r\nhello\r\n",
    'half a last chunk'     => "${chunked}5\r\nhello\r\n0\r\n",
    'half a trailer'        => "${chunked}5\r\nhello\r\n0\r\nX-A: b\r\n",
    'half a chunk'          => "${chunked}5\r\nhel",
    'no chunk'              => $chunked,
    'no size'               => "${chunked}\r\nhello\r\n0\r\n\r\n",
    'a size of letters'     => "${chunked}hello\r\nhello\r\n0\r\n\r\n",
    'a negative size'       => "${chunked}-5\r\nhello\r\n0\r\n\r\n",
    'a hexadecimal prefix'  => "${chunked}0x5\r\nhello\r\n0\r\n\r\n",
    'a huge size'           => "${chunked}" . 'f' x 17 . "\r\nhello",
    'a size too small'      => "${chunked}4\r\nhello\r\n0\r\n\r\n",
    'a size too large'      => "${chunked}6\r\nhello\r\n0\r\n\r\n",
    'a bare LF in a chunk'  => "${chunked}5\nhello\n0\n\n",
    'a bare CR in a chunk'  => "${chunked}5\rhello\r\n0\r\n\r\n",
    'NUL in an extension'   => "${chunked}5;a=\0\r\nhello\r\n0\r\n\r\n",
    'an endless extension'  => "${chunked}5;" . 'a' x 20000
                               . "\r\nhello\r\n0\r\n\r\n",
    'endless trailers'      => "${chunked}5\r\nhello\r\n0\r\n"
                               . "X-A: b\r\n" x 20000 . "\r\n",
    'garbage for chunks'    => "${chunked}\x00\xff\x01",
    'a later garbage'       => "${chunked}5\r\nhello\r\n!!!\r\n",
);

# What is whole, however it looks

my %good = (
    'the same length twice' => [ "${ok}Content-Length: 5\r\n"
                                 . "Content-Length: 5\r\n\r\nhello", 'hello' ],
    'a chunk extension'     => [ "${chunked}5;a=b;c=\"d e\"\r\nhello\r\n"
                                 . "0;x\r\n\r\n", 'hello' ],
    'Chunked'               => [ "${ok}transfer-encoding:  Chunked \r\n\r\n"
                                 . "5\r\nhello\r\n0\r\n\r\n", 'hello' ],
    'until it closes'       => [ "${ok}\r\nhello", 'hello' ],
    'no space after a colon'
                            => [ "${ok}Content-Length:5\r\n\r\nhello",
                                 'hello' ],
    'a tab in a value'      => [ "${ok}X-A: a\tb\r\nContent-Length: 5\r\n\r\n"
                                 . "hello", 'hello' ],
    'the output of a CGI script'
                            => [ "${ok}X-A: a\nX-B: b\nContent-Length: 5\n\n"
                                 . "hello", 'hello' ],
    'one without a length'  => [ "${ok}X-A: a\n\nhello", 'hello' ],
);

my @names = (sort(keys %case), sort(keys %cut), sort(keys %good));

my $b = $t->backend(sub {
    my ($c, $req) = @_;
    my ($how, $i) = $req->{target} =~ m{^/(\w+)/(\d+)$};

    if ($how eq 'ok') {
        return $c->respond(200, [], 'fine');
    }

    my $name = $names[$i];
    my $text = exists $case{$name} ? $case{$name}
               : exists $cut{$name} ? $cut{$name} : $good{$name}[0];

    if ($how eq 'head' && $text =~ /^(.*?\r\n\r\n)(.+)$/s) {
        # The body only when the head has been passed on.
        $c->write($1);
        nap(0.05);
        $text = $2;
    }

    $c->write($text);

    if ($how eq 'reset') {
        nap(0.05);
        $c->reset;
        return 0;
    }

    return 0;
});

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main real end_user=allUsers backend_user=me;
    inverting_proxy_backend main more-http end_user=allUsers backend_user=me
                            prefix=/http;
    inverting_proxy_backend main more-https end_user=allUsers backend_user=me
                            prefix=/https;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

$t->agent(backend => 'real', host => $b->address);

for my $i (0 .. $#names) {
    my $name = $names[$i];

    for my $how (qw(close head reset)) {
        my $c = $t->client;
        my $m = $c->get("/$how/$i");

        if (!$m) {
            # Nothing at all is how a cut looks before the head.
            ok(0, "$name, $how: an answer");
            next;
        }

        if ($good{$name}) {
            next if $how eq 'reset';
            is($m->{body}, $good{$name}[1], "$name, $how: whole");
            is($m->{cut}, undef, "$name, $how: not cut");

        } elsif (exists $case{$name}) {
            is($m->{status}, 502, "$name, $how: 502");
            is($m->{cut}, undef, "$name, $how: a whole one");

        } else {
            ok($m->{status} == 502 || $m->{cut}, "$name, $how: cut, or 502")
                or diag("$m->{raw}$m->{body}");
            like($m->{body}, qr/^(?:hel?l?o?)?$/,
                 "$name, $how: nothing that was not sent")
                if $m->{status} == 200;
            ok($m->{cut}, "$name, $how: what had begun is cut")
                if $how eq 'head' && $name !~ /no (?:chunk|body|size)|garbage/
                   && $m->{status} == 200;
        }

        $c->close;
    }
}

is($t->get('/ok/0')->{body}, 'fine', 'all is well in the end');


# More than the length says, as of a CGI script that prints a body after its
# answer to a HEAD: what the length says, and never more; and never the
# beginning of the next response. By TLS a connection that the backend closes
# has more to read on it, too.

my @cert = $t->certificate_for('localhost');

for my $scheme ('http', 'https') {
    my $more = $t->backend(sub {
        my ($c) = @_;

        while (my $req = $c->read_head) {
            my $evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            my $what = $req->{target};
            $what =~ s{^/\w+}{};

            if ($what eq '/length' || $what eq '/head') {
                $c->write("${ok}Content-Length: 5\r\n\r\nhello$evil");
            } elsif ($what eq '/later') {
                $c->write("${ok}Content-Length: 5\r\n\r\nhello");
                nap(0.02);
                $c->write($evil);
                $c->note('later');
            } elsif ($what eq '/last') {
                $c->write("${ok}Content-Length: 5\r\n\r\n");
                nap(0.02);
                $c->write("hello$evil");
            } elsif ($what eq '/closed') {
                $c->write("${ok}Content-Length: 5\r\n\r\nhello");
                nap(0.02);
                $c->{fh}->close;
                $c->note('later');
                return;
            } elsif ($what eq '/chunks') {
                $c->write("${chunked}5\r\nhello\r\n0\r\n\r\n$evil");
            } elsif ($what eq '/204') {
                $c->write("HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n"
                          . "\r\n0\r\n\r\n$evil");
            } elsif ($what eq '/304') {
                $c->write("HTTP/1.1 304 Not\r\nContent-Length: 4\r\n\r\nevil");
            } else {
                $c->read_body($req);
                $c->write("${ok}Content-Length: 4\r\n\r\nfine");
            }
        }
    }, raw => 1, $scheme eq 'https' ? (tls => [ @cert[0, 1] ]) : ());

    my $id = "more-$scheme";

    $t->agent(backend => $id,
              $scheme eq 'https' ? (host => 'https://localhost:' . $more->port,
                                    args => [ "-ca-file=$cert[0]" ])
                                 : (host => $more->address));

    my $late = 0;

    for my $what (qw(length head later last closed chunks 204 304)) {
        for my $i (1 .. 3) {
            my $name = "$scheme, $what";
            my $m = $t->get("/$scheme/$what",
                            $what eq 'head' ? (method => 'HEAD') : ());
            is($m->{status}, $what =~ /^\d/ ? $what : 200,
               "more than there is to be, $name");
            is($m->{body}, $what =~ /^[lc]/ ? 'hello' : '', 'nothing of it');
            is($m->{cut}, undef, 'and all that is to be');

            # What comes together with the next request is taken for its
            # response: that is how HTTP/1.1 is.
            if ($what eq 'later' || $what eq 'closed') {
                $late++;
                waitfor(sub {
                    grep({ $_ eq 'later' } $more->notes) >= $late;
                });
                nap(0.05);
            }

            # One that is not sent twice
            is($t->get("/$scheme/fine", method => 'POST', body => 'x')->{body},
               'fine', "$name: nothing is left of it");
        }
    }
}


# A backend that is not there, and one that comes back

$b->stop;
is($t->get('/ok/0')->{status}, 502, 'refused');
is($t->get('/ok/0', method => 'POST', body => 'x' x 100000)->{status}, 502,
   'refused, with a body');
$b->start;
is($t->get('/ok/0')->{body}, 'fine', 'there again');

$t->done;
