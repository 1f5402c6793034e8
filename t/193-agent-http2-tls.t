#!/usr/bin/perl

# -force-http2 to an https backend, here nginx: what the agent holds for slow
# readers is bounded, and a request that has a body outlives a GOAWAY.

use lib 't/lib';
use InvertingProxy::Test;
use InvertingProxy::Test::Http2 qw(:all);

use constant { SLOW => 8, LARGE => 20_000_000 };

my $t = InvertingProxy::Test->new;
my $p = $t->ptth_proxy;
my ($crt, $key) = $t->certificate_for('localhost');
my $root = $t->dir . '/www';

mkdir($root);
chmod(0755, $root, $t->dir);
spew("$root/small", 'small');
spew("$root/large", '');
truncate("$root/large", LARGE);

my $b = $t->backend(sub {
    my ($c, $req) = @_;

    $c->read_body($req);
    $c->note($req->{target});
    return $c->respond(200, [], $req->{body});
});
my $address = $b->address;

my $n = $t->nginx(workers => 1, http => <<"EOT");
    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_TLS%% ssl http2;
        ssl_certificate $crt;
        ssl_certificate_key $key;
        keepalive_requests 20;
        root $root;
        location /app/ {
            proxy_pass http://$address;
            proxy_next_upstream off;
        }
    }
EOT

my $a = $t->agent(transport => 'ptth', proxy => $p->url, backend => 'b',
                  wait => 0, host => 'https://localhost:' . $n->port('TLS'),
                  args => [ '-force-http2', "-ca-file=$crt" ]);
my $h = $p->dialled(settings => { INITIAL_WINDOW_SIZE => 65535 },
                    grant => 'connection');


sub rss {
    return slurp('/proc/' . $a->pid . '/status') =~ /^VmRSS:\s+(\d+)/m && $1;
}

sub get_many {
    my ($what) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my @x = map { $h->request('GET', '/small')->response } 1 .. 100;
    is(scalar(grep { $_ && $_->{body} eq 'small' } @x), 100,
       "a hundred requests $what");
}


# slow readers

get_many('at first');

my $before = rss();
my @slow = map { $h->request('GET', '/large') } 1 .. SLOW;
is(scalar(grep { $_->head } @slow), SLOW, 'readers that then read no more');
get_many('beside slow readers');
cmp_ok(rss() - $before, '<', 65536, 'little is held for these')
    if !$ENV{INVERTING_PROXY_PRELOAD} && !$ENV{INVERTING_PROXY_VALGRIND};

$_->rst(CANCEL) for @slow;


# a backend that says GOAWAY now and then

for my $body ('', 'x') {
    my ($sent, $fine, @open) = (0, 0);

    while ($sent < 300 || @open) {
        push @open, $h->request('POST', '/app/' . length($body) . '/'
                                        . $sent++, body => $body)
            while $sent < 300 && @open < 10;

        $h->wait(sub { grep { $_->{closed} || $_->{ended} } @open }, 10)
            or last;
        $fine += grep { $_->{ended} && $_->{status} == 200 } @open;
        @open = grep { !$_->{closed} && !$_->{ended} } @open;
    }

    is($fine, 300, 'POST with ' . length($body) . ' bytes: all are answered');
}

my %times;
$times{$_}++ for $b->notes;
is(scalar(keys %times), 600, 'the backend has seen them all');
is(scalar(grep { $_ > 1 } values %times), 0, 'none twice');

is(scalar($a->stop), 0, 'it ends well');
$h->close;
$t->done(idle => 0);
