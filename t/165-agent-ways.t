#!/usr/bin/perl

# The way to the proxy, for PTTH as for polls: TLS, certificates, HTTP and SOCKS
# proxies in between.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);
use InvertingProxy::Test::Work;
use InvertingProxy::Test::PtthProxy qw(ptth_wrong);

my $t = InvertingProxy::Test->new;
my $b = $t->backend(work_origin());
my ($crt, $key) = $t->certificate_for('localhost');
my $n = 5_000_003;


sub exchange {
    my ($h, $what) = @_;

    my $x = $h->request('GET', "/down/k/$n/0");
    ok($x->response(30), "$what: a response");
    is($x->{sha256}, body_sha256('k', $n), 'whole and right');
    $x = $h->request('POST', '/up/q', body => body_bytes('u', $n));
    ok($x->response(30), "$what: a request");
    is($x->{body}, "$n " . body_sha256('u', $n), 'whole and right');
    my @x = map { $h->request('GET', "/small/$_") } 1 .. 50;
    ok($h->wait(sub { !grep({ !$_->{ended} } @x) }, 20), 'many at once');
}


sub stop {
    my ($a, $h) = @_;
    $a->signal('TERM');
    $h->wait_end(10);
    is($a->wait_end(10), 0, 'it ends well');
}


# TLS

my $p = $t->ptth_proxy(tls => [ $crt, $key ]);
(my $url = $p->url) =~ s/127\.0\.0\.1/localhost/;
my $a = $t->agent(transport => 'auto',
                  proxy => $url, backend => 'b', host => $b->address,
                  args => [ "-ca-file=$crt" ], wait => 0);
my $c = $p->call(qr{ptth});
is(ptth_wrong($c->{request}), undef, 'over TLS: it asks for PTTH');
my $h = $p->upgrade($c);
exchange($h, 'TLS');

# a slow reader over TLS: what libcurl holds back is sent later
$h->settings(INITIAL_WINDOW_SIZE => 4_000_000);
$h->window(0, 16_000_000);
my $x = $h->request('GET', '/down/slow/8000000/0');
nap(1);
ok($x->response(30), 'a slow reader');
is($x->{sha256}, body_sha256('slow', 8_000_000), 'gets it all');
stop($a, $h);

# a certificate that nobody vouches for
$a = $t->agent(transport => 'auto',
               proxy => $url, backend => 'b', host => $b->address, wait => 0);
$SIG{PIPE} = 'IGNORE';
my $call;
ok(waitfor(sub { $call ||= $p->call(qr/./, 0.1);
                 $a->log =~ /proxy unreachable: .*certificate/i }),
   'a certificate that nobody vouches for: the log says so');
ok(!$call, 'and there is no call');
is(scalar($a->stop), 0, 'it ends well');


# a client certificate

my ($ccrt, $ckey) = $t->certificate_for('client');
$p = $t->ptth_proxy(tls => [ $crt, $key ], tls_options => {
    SSL_verify_mode => 0x03, SSL_ca_file => $ccrt });
($url = $p->url) =~ s/127\.0\.0\.1/localhost/;
$a = $t->agent(transport => 'auto',
               proxy => $url, backend => 'b', host => $b->address, wait => 0,
               args => [ "-ca-file=$crt", "-client-cert=$ccrt",
                         "-client-key=$ckey" ]);
$h = $p->dialled;
$x = $h->request('GET', '/small/m');
ok($x->response, 'with a client certificate');
stop($a, $h);


# HTTP and SOCKS proxies: relays that note what they are asked

sub relay {
    my ($c, $port) = @_;

    require IO::Socket::INET;
    my $up = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
        or return 0;
    my $down = $c->fh;

    while (1) {
        my $in = '';
        vec($in, fileno($_), 1) = 1 for $up, $down;
        select(my $ready = $in, undef, undef, 60) or return 0;

        for my $pair ([ $up, $down ], [ $down, $up ]) {
            next if !vec($ready, fileno($pair->[0]), 1);
            sysread($pair->[0], my $bytes, 65536) or return 0;
            while (length $bytes) {
                my $sent = syswrite($pair->[1], $bytes) or return 0;
                substr($bytes, 0, $sent, '');
            }
        }
    }
}

my $connect = $t->backend(sub {
    my ($c, $req) = @_;
    $c->note($req->{start});
    my ($port) = $req->{target} =~ /:(\d+)$/ or return 0;
    $c->write("HTTP/1.1 200 Connection established\r\n\r\n");
    relay($c, $port);
    return 0;
});

my $socks = $t->backend(sub {
    my ($c) = @_;
    my (undef, $methods) = unpack('CC', $c->read_exactly(2));
    $c->read_exactly($methods);
    $c->write("\5\0");
    my (undef, undef, undef, $type) = unpack('C4', $c->read_exactly(4));
    my $host = $c->read_exactly($type == 1 ? 4 : ord($c->read_exactly(1)));
    my $port = unpack('n', $c->read_exactly(2));
    $c->note("socks $port");
    $c->write("\5\0\0\1\0\0\0\0\0\0");
    relay($c, $port);
    return 0;
}, raw => 1);

for my $tls (0, 1) {
    my $way = $tls ? 'https' : 'http';

    for my $case ([ 'HTTP proxy', 'http://' . $connect->address, $connect,
                    qr/^CONNECT / ],
                  [ 'SOCKS proxy', 'socks5h://' . $socks->address, $socks,
                    qr/^socks / ])
    {
        my ($what, $proxy, $relay, $note) = @$case;
        my $p = $t->ptth_proxy($tls ? (tls => [ $crt, $key ]) : ());
        (my $url = $p->url) =~ s/127\.0\.0\.1/localhost/;

        $relay->clear_notes;
        my $a = $t->agent(transport => 'auto',
                          proxy => $url, backend => 'b', host => $b->address,
                          args => [ "-ca-file=$crt" ], wait => 0,
                          env => { "${way}_proxy" => $proxy });
        my $h = $p->dialled;
        ok($relay->wait_note($note), "$way by $what");
        exchange($h, "$way by $what");
        stop($a, $h);
    }
}


# an HTTP proxy that makes no tunnels, to this port at least, but passes
# requests on

my $filter = $t->backend(sub {
    my ($c, $req) = @_;
    $c->note("$req->{method} $req->{target}");
    return $c->respond(403, [], 'no') if $req->{method} eq 'CONNECT';
    nap(0.1);
    return $c->respond(200, [], '[]');
});

$a = $t->agent(transport => 'auto', proxy => 'http://proxy.example/',
               backend => 'b', host => $b->address, wait => 0,
               env => { http_proxy => $filter->url });
ok($filter->wait_note(qr{^GET http://proxy\.example/agent/pending}),
   'a tunnel is refused: it polls');
ok($a->wait_log(qr/no PTTH .* CONNECT .* 403; polling/), 'in the log');
ok($a->wait_log(qr/connected to proxy proxy\.example$/m), 'and that works');
is(scalar($a->stop), 0, 'it ends well');


# a proxy in between that takes the upgrade for its own

my $strip = $t->backend(sub {
    my ($c, $req) = @_;
    $c->note("$req->{method} $req->{target}");
    return $c->respond(200, [], $req->{target} =~ /pending/ ? '[]' : 'hello');
});

$a = $t->agent(transport => 'auto',
               proxy => $strip->url, backend => 'b', host => $b->address,
               wait => 0);
ok($strip->wait_note(qr/pending/), 'an upgrade that is stripped: it polls');
is(scalar($a->stop), 0, 'it ends well');

$t->done(idle => 0);
