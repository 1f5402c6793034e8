package Systems;

# The systems that are measured, all running at once (an idle one costs nothing):
#
#   backend alone   the origin itself: an nginx with small answers and a file
#   one hop         a plain nginx before it, with keepalive connections
#   two hops        two of them: what ours is compared with
#   poll            our nginx and our agents
#
# A system is { name, port, processes => sub { pids }, nginx => [ ... ], ours }.
# Another transport is one more line in start().

use strict;
use warnings;

use Carp qw(croak);

use InvertingProxy::Test::Body qw(random_body);
use InvertingProxy::Test::Util ();


# Connections are not closed after a thousand requests anywhere: none of the
# systems is to pay for wrk's dialling.
use constant COMMON => <<'EOT';
    keepalive_requests 100000000;
    client_max_body_size 0;
EOT


sub start {
    my ($class, $rig, %opt) = @_;

    my $self = bless { rig => $rig, file => '/file.bin' }, $class;

    my $origin = $rig->nginx(module => 0, log => 'warn', http => COMMON . <<'EOT');
    sendfile on;
    tcp_nopush on;
    default_type text/plain;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / {
            return 200 "A small response, of about the size of an API's.\n";
        }
        location = /file.bin { root %%DIR%%; }
    }
EOT

    write_file("$origin->{dir}/file.bin", $opt{length});

    # Reads an upload as fast as it can; its checksum only when asked for.
    my $sink = $rig->backend(sub {
        my ($c, $req) = @_;
        my $digest = $req->{target} =~ /\?digest$/;

        $c->read_body($req, $digest ? (digest => 1) : (sink => sub { }));
        return 0 if $req->{cut};
        return $c->respond(200, [], $digest ? $req->{sha256}
                                            : $req->{length});
    });

    $self->{origin} = { name => 'backend alone', port => $origin->port,
                        processes => sub { tree($origin) },
                        nginx => [ $origin ] };

    my $near = hop($rig, $origin->port, $sink->port);
    my $far = hop($rig, $near->port, $near->port);

    $self->{one} = { name => 'one hop', port => $near->port,
                     processes => sub { tree($near) }, nginx => [ $near ] };
    $self->{two} = { name => 'two hops', port => $far->port,
                     processes => sub { (tree($near), tree($far)) },
                     nginx => [ $near, $far ] };

    $self->{ours} = [
        ours($rig, 'poll', $origin, $sink, $opt{zone}),
    ];

    return $self;
}


sub hop {
    my ($rig, $port, $sink) = @_;

    return $rig->nginx(module => 0, log => 'warn',
                       vars => { TO => $port, SINK => $sink },
                       http => COMMON . <<'EOT');
    upstream next {
        server 127.0.0.1:%%TO%%;
        keepalive 256;
        keepalive_requests 100000000;
    }
    upstream sink {
        server 127.0.0.1:%%SINK%%;
        keepalive 256;
    }
    server {
        listen 127.0.0.1:%%PORT%%;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        location / {
            proxy_pass http://next;
        }
        location = /file.bin {
            proxy_pass http://next;
            proxy_buffering off;
        }
        location /upload {
            proxy_pass http://sink;
            proxy_buffering off;
            proxy_request_buffering off;
        }
    }
EOT
}


# Two agents: the origin and the sink are two backends.

sub ours {
    my ($rig, $name, $origin, $sink, $zone, @args) = @_;

    my $token = unpack('H*', pack('NN', rand(2**32), rand(2**32)));
    my $file = "$rig->{dir}/token-$name";

    InvertingProxy::Test::Util::spew($file, $token);
    chmod(0600, $file);

    my $nginx = $rig->nginx(log => 'warn', api => '/api/',
                            vars => { ZONE => $zone, TOKEN => $token },
                            http => COMMON . <<'EOT');
    inverting_proxy_zone zone=main:%%ZONE%%;
    inverting_proxy_backend main origin end_user=allUsers prefix=/
                            backend_user=bench;
    inverting_proxy_backend main sink end_user=allUsers prefix=/upload
                            backend_user=bench;

    map $http_authorization $bench_agent {
        "Bearer %%TOKEN%%" bench;
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        location / { inverting_proxy_pass main; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $bench_agent;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

    my @agents;

    for my $b ([ origin => "127.0.0.1:" . $origin->port ],
               [ sink => $sink->address ])
    {
        my $agent = InvertingProxy::Test::Agent->new(
            dir => $rig->{dir}, reports => $rig->{reports},
            name => "agent-$name-$b->[0]", backend => $b->[0], host => $b->[1],
            proxy => 'http://127.0.0.1:' . $nginx->port . '/',
            args => [ "-token-file=$file", @args ]);

        push @{$rig->{agents}}, $agent;
        push @agents, $agent;

        InvertingProxy::Test::Util::waitfor(sub {
            $rig->status($nginx)->agents($b->[0]) > 0
        }) or croak "$agent->{name} does not come up";
    }

    return { name => $name, port => $nginx->port, nginx => [ $nginx ], ours => 1,
             processes => sub { (tree($nginx), map { $_->pid } @agents) } };
}


sub tree {
    my ($nginx) = @_;
    return ($nginx->pid, $nginx->workers);
}


sub write_file {
    my ($path, $length) = @_;

    open(my $fh, '>:raw', $path) or croak "cannot write \"$path\": $!";
    my $next = random_body('bench', $length);

    while (defined(my $piece = $next->())) {
        print $fh $piece or croak "cannot write \"$path\": $!";
    }

    close($fh) or croak "cannot write \"$path\": $!";

    return;
}


sub origin { return $_[0]{origin} }
sub chain { return $_[0]{two} }
sub ours_systems { return @{$_[0]{ours}} }
sub file { return $_[0]{file} }


sub all {
    my ($self) = @_;
    return (@$self{qw(origin one two)}, $self->ours_systems);
}


1;
