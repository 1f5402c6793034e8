#!/usr/bin/perl

# Responses over PTTH that an agent should not give: the client gets 502,
# nothing of them, and the connection goes on if HTTP/2 lets it.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Hpack qw(literal);

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(workers => 2, http => <<'EOT');
    inverting_proxy_zone zone=main:4m;
    inverting_proxy_backend main b end_user=allUsers backend_user=me;
    inverting_proxy_backend main other end_user=allUsers backend_user=me
                            prefix=/other;
    inverting_proxy_agent_user me;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /secret { internal; return 200 "secret"; }
        location /agent/ { inverting_proxy_agent main; }
        location /api/ { inverting_proxy_api main; }
    }
EOT

my $other = $t->ptth(backend => 'other');
my $h;

sub by_hand {
    my ($fields, %opt) = @_;

    # Its PINGs want their answers.
    $other->drain(0.001);

    if (!$h || defined $h->{closed} || $h->{goaway}) {
        $h->close if $h;
        $t->wait_status(sub { $_[0]->agents('b') == 0 });
        $h = $t->ptth(backend => 'b');
    }

    my $c = $t->client;
    $c->request('POST', '/', body => '');
    my $x = $h->take or die "the request does not come\n";

    my $block = literal(@$fields);
    $h->send_fields($x->{id}, $block, end => !defined $opt{body});
    $x->data($opt{body}, end => 1) if defined $opt{body};
    $h->send_fields($x->{id}, literal(@{$opt{trailers}}), end => 1)
        if $opt{trailers};

    my $m = $c->response;
    $c->close;

    opinion();

    return $m;
}

# What it thinks of us: an answer to PING comes after all that it has to say.

sub opinion {
    my $pongs = @{$h->{pongs}};

    $h->ping;
    $h->wait(sub { $h->{goaway} || @{$h->{pongs}} > $pongs });
    $h->drain(0.005);
}

my @ok = (':status' => 200);

is(by_hand([ @ok, 'x-a' => 'b' ], body => 'hello')->{body}, 'hello',
   'a good one');

for my $case (
    # Forbidden in HTTP/2 (RFC 9113, 8.2).
    [ 'Connection'             => [ @ok, 'connection' => 'close' ] ],
    [ 'Connection: x'          => [ @ok, 'connection' => 'x', 'x' => 'y' ] ],
    [ 'Keep-Alive'             => [ @ok, 'keep-alive' => '5' ] ],
    [ 'Proxy-Connection'       => [ @ok, 'proxy-connection' => 'close' ] ],
    [ 'Transfer-Encoding'      => [ @ok, 'transfer-encoding' => 'chunked' ] ],
    [ 'Transfer-Encoding, gzip'=> [ @ok, 'transfer-encoding' => 'gzip' ] ],
    [ 'Upgrade'                => [ @ok, 'upgrade' => 'websocket' ] ],
    [ 'an upper case name'     => [ @ok, 'X-Upper' => 'y' ] ],
    [ 'a 101'                  => [ ':status' => 101 ] ],
    [ 'a 101 for WebSocket'    => [ ':status' => 101,
                                    'sec-websocket-accept' => 'x' ] ],
    # Pseudo-fields.
    [ 'no status'              => [ 'x-a' => 'b' ] ],
    [ 'an empty status'        => [ ':status' => '' ] ],
    [ 'a short status'         => [ ':status' => '20' ] ],
    [ 'a long status'          => [ ':status' => '2000' ] ],
    [ 'letters for a status'   => [ ':status' => 'abc' ] ],
    [ 'a status with a reason' => [ ':status' => '200 OK' ] ],
    [ 'a status below 100'     => [ ':status' => '099' ] ],
    [ 'a negative status'      => [ ':status' => '-20' ] ],
    [ 'two status'             => [ @ok, ':status' => 201 ] ],
    [ 'a late status'          => [ 'x-a' => 'b', @ok ] ],
    [ 'a path'                 => [ @ok, ':path' => '/' ] ],
    [ 'a method'               => [ @ok, ':method' => 'GET' ] ],
    [ 'an unknown pseudo'      => [ @ok, ':what' => 'x' ] ],
    # What would be another message as HTTP/1.1.
    [ 'CR LF in a value'       => [ @ok, 'x-a' => "b\r\nx-evil: 1" ] ],
    [ 'LF in a value'          => [ @ok, 'x-a' => "b\nx-evil: 1" ] ],
    [ 'CR in a value'          => [ @ok, 'x-a' => "b\rx-evil: 1" ] ],
    [ 'NUL in a value'         => [ @ok, 'x-a' => "b\0c" ] ],
    [ 'a control character'    => [ @ok, 'x-a' => "b\x07c" ] ],
    [ 'DEL'                    => [ @ok, 'x-a' => "b\x7fc" ] ],
    [ 'CR LF in a name'        => [ @ok, "x-a\r\nx-evil" => '1' ] ],
    [ 'a colon in a name'      => [ @ok, 'x-a:x-evil' => '1' ] ],
    [ 'a space in a name'      => [ @ok, 'x a' => '1' ] ],
    [ 'a space after a name'   => [ @ok, 'x-a ' => '1' ] ],
    [ 'NUL in a name'          => [ @ok, "x\0a" => '1' ] ],
    [ 'a name not of ASCII'    => [ @ok, "x-\xe4" => '1' ] ],
    [ 'an empty name'          => [ @ok, '' => '1' ] ],
    # Lengths.
    [ 'two lengths'            => [ @ok, 'content-length' => 5,
                                    'content-length' => 6 ], 'hello' ],
    [ 'a list of lengths'      => [ @ok, 'content-length' => '5, 5' ],
      'hello' ],
    [ 'a length of letters'    => [ @ok, 'content-length' => 'five' ],
      'hello' ],
    [ 'a length with a sign'   => [ @ok, 'content-length' => '+5' ], 'hello' ],
    [ 'a negative length'      => [ @ok, 'content-length' => '-5' ], 'hello' ],
    [ 'an empty length'        => [ @ok, 'content-length' => '' ], 'hello' ],
    [ 'a huge length'          => [ @ok, 'content-length' => 9 x 30 ],
      'hello' ],
    # Sizes.
    [ 'one long value'         => [ @ok, 'x-a' => 'v' x 40_000 ] ],
    [ 'one long name'          => [ @ok, 'n' x 40_000 => 'v' ] ],
    [ 'many fields'            => [ @ok, map { ("x-$_" => 'v' x 20) }
                                             1 .. 2000 ] ],
    [ 'very many small ones'   => [ @ok, map { ('a' => '') } 1 .. 20_000 ] ],
) {
    my ($name, $fields, $body) = @$case;

    my $m = by_hand($fields, body => $body);
    is($m && $m->{status}, 502, "$name: 502");
    is($m && $m->{cut}, undef, "$name: a whole one");
    unlike($m ? $m->{raw} . $m->{body} : '',
           qr/x-evil|x-upper|hello|^x-a|secret/im, "$name: nothing of it");
}

# A value with spaces around it is refused, or passed without them.
my $m = by_hand([ @ok, 'x-a' => '  b  ' ]);
ok($m->{status} == 502 || $m->header('X-A') eq 'b', 'spaces around a value');

# Bodies where there is none.

for my $status (204, 304) {
    my $m = by_hand([ ':status' => $status ], body => 'evil');
    ok($m->{status} == 502 || $m->{status} == $status, "$status with a body");
    unlike($m->{body}, qr/evil/, "$status: nothing of it");
}

# X-Accel-*: neither done nor passed.

for my $to ('/secret', '/api/status', '/agent/pending') {
    my $m = by_hand([ @ok, 'x-accel-redirect' => $to ], body => 'hello');
    is($m->{body}, 'hello', "X-Accel-Redirect: $to is not followed");
    is($m->header('X-Accel-Redirect'), undef, 'nor passed');
}

# Trailers: what is forbidden there is not passed, or cuts.

for my $trailers ([ ':status' => 200 ], [ 'Upper' => 'x' ],
                  [ 'x-a' => "b\r\nx-evil: 1" ],
                  [ 'transfer-encoding' => 'chunked' ],
                  [ 'content-length' => '3' ], [ 'x' => 'v' x 40_000 ],
                  [ map { ("x-$_" => 'v') } 1 .. 3000 ])
{
    my $c;
    my $m;

    if (!$h || defined $h->{closed} || $h->{goaway}) {
        $h->close if $h;
        $t->wait_status(sub { $_[0]->agents('b') == 0 });
        $h = $t->ptth(backend => 'b');
    }

    $c = $t->client;
    $c->request('GET', '/');
    my $x = $h->take;
    $x->respond(200, [], undef, hold => 1);
    $x->data('body');
    $h->send_fields($x->{id}, literal(@$trailers), end => 1);
    $m = $c->response;
    my $name = substr("trailer $trailers->[0]", 0, 40);
    ok($m->{cut} || !@{$m->{trailers}}
       || !grep { $_->[0] =~ /^:|^x-evil$|^transfer-enc|^content-length$/i
                  || $_->[1] =~ /evil/ } @{$m->{trailers}},
       "$name: a cut, or nothing of it");
    is($m->{body}, 'body', "$name: the body") if !$m->{cut};
    $c->close;
    opinion();
}

# Informational responses for ever are not.

{
    if (defined $h->{closed} || $h->{goaway}) {
        $h->close;
        $t->wait_status(sub { $_[0]->agents('b') == 0 });
        $h = $t->ptth(backend => 'b');
    }

    my $c = $t->client;
    $c->request('POST', '/', body => '');
    my $x = $h->take;
    for (1 .. 20_000) {
        $x->interim(103, [ 'Link: </' . 'x' x 100 . '>' ]) or last;
        last if $_ % 100 == 0
                && $h->wait(sub { $h->{goaway} || defined $x->{reset} },
                            0.001);
    }
    $x->respond(200, [], 'at last') if !defined $x->{reset} && !$h->{closed};
    $x->flush if !$h->{closed};
    my $m = $c->response;
    ok($m && $m->{status} =~ /^(?:200|502)$/, 'interim responses without end');
    $c->close;
}

# What an agent sends is shown in the log as what it is, not as lines of it.

is(scalar(grep { $_ ne '' && !m{^\d{4}/\d\d/\d\d } } split(/\n/, $n->log)), 0,
   'each line of the log is one of nginx')
    or diag(grep { !m{^\d{4}/} } split(/^/, $n->log));

# The other backend's connection has not noticed anything.

my $c = $t->client;
$c->request('GET', '/other');
my $x = $other->take;
$x->respond(200, [], 'unmoved');
$x->flush;
is($c->response->{body}, 'unmoved', 'another backend');
is($other->{goaway}, undef, 'its connection is as it was');
$c->close;
$_->close for $h, $other;
ok($t->wait_status(sub { !$_[0]->agents('b') && !$_[0]->agents('other') }),
   'nobody is left');

$t->done;
