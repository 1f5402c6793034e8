package Registry;

# An nginx with many backends, which are created over the API.
#
#   my $r = Registry->start($rig, 100000)    a system, as those of Systems.pm
#   $r->{count} {rate} {cpu}    how many, created per second, CPU us for each
#   $r->bytes                   of the registry, for a record and what is in
#                               the indices for as many as there is room for
#   $r->list                    the whole list: { ms, bytes }
#
# A thousand users share them; each has a path of its own.  Names are of the same
# length however many there are: what nginx reads and writes is the same.

use strict;
use warnings;

use Carp qw(croak);

use InvertingProxy::Test::Client;
use InvertingProxy::Test::Util qw(now);

use Measure qw(cpu);


# Those of paths.lua.
my %answer = (control => 'no look-up', found => '503', missing => '404',
              named => '503 named');


sub ways { return sort keys %answer }
sub answer { my ($class, $way) = @_; return $answer{$way} }


sub start {
    my ($class, $rig, $count) = @_;

    # Enough for such records, and as much for all else.
    my $registry = 4 + int($count * 640 / 2**20);
    my $zone = 2 * $registry + 8;

    my $nginx = $rig->nginx(start => 0, log => 'crit',
                            vars => { ZONE => "${zone}m",
                                      REGISTRY => "${registry}m" },
                            http => <<'EOT');
    inverting_proxy_zone zone=main:%%ZONE%% registry=%%REGISTRY%%;
    inverting_proxy_user $http_x_user;
    keepalive_requests 100000000;

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location ~ ^/named/(?<name>.*) {
            inverting_proxy_pass main app-$name;
        }
        location /control/ {
            add_header Retry-After 1 always;
            return 503;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_api%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

    $nginx->{api_port} = $nginx->port('api');
    $nginx->start;

    my $self = bless { rig => $rig, size => $registry * 2**20, nginx => [ $nginx ], count => $count,
                       name => "$count backends", port => $nginx->port,
                       processes => sub { $nginx->workers } }, $class;

    $self->{empty} = $self->status->{used};
    $self->create($count);

    return $self;
}


# A hundred calls at a time on one connection: it is not this client's speed
# that is measured.

sub create {
    my ($self, $count) = @_;

    my $api = $self->client;
    my @pids = $self->{processes}->();
    my ($start, $cpu) = (now(), cpu(@pids));

    for (my $i = 0; $i < $count; $i += 100) {
        my $last = $i + 99 < $count ? $i + 99 : $count - 1;
        my $calls = '';

        for my $n ($i .. $last) {
            my $body = sprintf('{"id":"app-%05d","endUser":"user-%03d@example.com",'
                               . '"backendUser":"agent-%05d@example.com",'
                               . '"pathPrefixes":["/app-%05d/"]}',
                               $n, $n % 1000, $n, $n);

            $calls .= "POST /api/backends HTTP/1.1\r\nHost: localhost\r\n"
                      . 'Content-Length: ' . length($body) . "\r\n\r\n$body";
        }

        $api->write($calls);

        for my $n ($i .. $last) {
            my $m = $api->response;
            croak "app-$n: ", $m ? $m->{body} : 'no answer'
                if !$m || $m->{status} != 200;
        }
    }

    $api->close;

    $self->{rate} = $count / (now() - $start);
    $self->{cpu} = (cpu(@pids) - $cpu) / 1e3 / $count;

    return;
}


sub client {
    my ($self) = @_;

    return InvertingProxy::Test::Client->new(
        port => $self->{nginx}[0]{api_port}, timeout => 30);
}


sub status {
    my ($self) = @_;
    return $self->{rig}->status($self->{nginx}[0])->{doc}{registry};
}


sub bytes {
    my ($self) = @_;

    my $status = $self->status;
    my $used = ($status->{used} - $self->{empty}) / $self->{count};

    return $used * $self->{size} / $status->{size};
}


sub list {
    my ($self) = @_;

    my $start = now();
    my $bytes = 0;
    my $m = $self->client->get('/api/backends',
                               sink => sub { $bytes += length $_[0] });

    croak 'the list was cut' if !$m || $m->{status} != 200 || $m->{cut};

    return { ms => (now() - $start) * 1e3, bytes => $bytes };
}


1;
