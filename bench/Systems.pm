package Systems;

# The systems that are measured, all running at once (an idle one costs nothing):
#
#   backend alone   the origin itself: an nginx with small answers and a file
#   one hop         a plain nginx before it, with keepalive connections
#   two hops        two of them: what ours is compared with
#   ptth, poll      our nginx and our agents, with either transport
#
#   my $s = Systems->start($rig, zone => '32m', files => { 'file.bin' => $n });
#   $s->origin  $s->chain  $s->all  $s->ours_systems
#   $s->ours(name => 'many', %opt)      another one of ours, with the options
#                                       workers, transport, zone; or as
#   Systems::ours_for($rig, [ [ ID, address, prefix ], ... ], %opt)
#                                       for other backends.  Also: connections (of
#                                       a worker), args (of the agents), relay:
#                                       code that gets nginx's port and returns
#                                       the one that the agents dial; nginx:
#                                       options of the harness's
#
# A system is { name, port, processes => sub { pids }, nginx => [ ... ], ours,
# agents }.

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

    my $self = bless { rig => $rig, zone => $opt{zone} }, $class;

    my $origin = origin_for($rig);

    write_file("$origin->{dir}/$_", $opt{files}{$_}) for keys %{$opt{files}};

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

    $self->{sink} = $sink->address;
    $self->{two} = $self->hops(name => 'two hops');
    my ($near) = @{$self->{two}{nginx}};

    $self->{one} = { name => 'one hop', port => $near->port,
                     processes => sub { tree($near) }, nginx => [ $near ] };
    $self->{ours} = [ map { $self->ours(name => $_, transport => $_) }
                          qw(ptth poll) ];

    return $self;
}


sub origin_for {
    my ($rig) = @_;

    return $rig->nginx(module => 0, log => 'warn', http => COMMON . <<'EOT');
    sendfile on;
    tcp_nopush on;
    default_type text/plain;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / {
            return 200 "A small response, of about the size of an API's.\n";
        }
        location ~ \.bin$ { root %%DIR%%; }
    }
EOT
}


# Another chain, with the options name and workers.

sub hops {
    my ($self, %opt) = @_;

    my $near = hop($self->{rig}, $self->{origin}{port}, $self->{sink},
                   $opt{workers});
    my $address = '127.0.0.1:' . $near->port;
    my $far = hop($self->{rig}, $near->port, $address, $opt{workers});

    return { name => $opt{name}, port => $far->port,
             processes => sub { (tree($near), tree($far)) },
             nginx => [ $near, $far ] };
}


sub hop {
    my ($rig, $port, $sink, $workers) = @_;

    $workers ||= 1;

    return $rig->nginx(module => 0, log => 'warn', workers => $workers,
                       vars => { TO => $port, SINK => $sink,
                                 EACH => $workers > 1 ? ' reuseport' : '' },
                       http => COMMON . <<'EOT');
    upstream next {
        server 127.0.0.1:%%TO%%;
        keepalive 256;
        keepalive_requests 100000000;
    }
    upstream sink {
        server %%SINK%%;
        keepalive 256;
    }
    server {
        listen 127.0.0.1:%%PORT%%%%EACH%%;
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
    my ($self, %opt) = @_;

    return ours_for($self->{rig},
                    [ [ 'origin', '127.0.0.1:' . $self->{origin}{port}, '/' ],
                      [ 'sink', $self->{sink}, '/upload' ] ],
                    zone => $self->{zone}, %opt);
}


# With several workers each has a socket to listen on, so that the kernel spreads
# the clients over them; the agents look for a worker that they do not have yet.

sub ours_for {
    my ($rig, $backends, %opt) = @_;

    my $name = $opt{name};
    my $workers = $opt{workers} || 1;
    my $token = unpack('H*', pack('NN', rand(2**32), rand(2**32)));
    my $file = "$rig->{dir}/token-$name";

    InvertingProxy::Test::Util::spew($file, $token);
    chmod(0600, $file);

    my $records = join('', map {
        "    inverting_proxy_backend main $_->[0] end_user=allUsers "
        . "prefix=$_->[2] backend_user=bench;\n"
    } @$backends);

    my $nginx = $rig->nginx(log => 'warn', api => '/api/', workers => $workers,
                            connections => $opt{connections} || 1024,
                            %{$opt{nginx} || {}},
                            vars => { ZONE => $opt{zone}, TOKEN => $token,
                                      RECORDS => $records,
                                      EACH => $workers > 1 ? ' reuseport' : '' },
                            http => COMMON . <<'EOT');
    inverting_proxy_zone zone=main:%%ZONE%%;
%%RECORDS%%
    map $http_authorization $bench_agent {
        "Bearer %%TOKEN%%" bench;
    }

    server {
        listen 127.0.0.1:%%PORT%%%%EACH%%;
        location / { inverting_proxy_pass main; }
        location = /plain { return 200 "of nginx itself\n"; }
        location /agent/ {
            inverting_proxy_agent main;
            inverting_proxy_agent_user $bench_agent;
        }
        location /api/ { inverting_proxy_api main; }
    }
EOT

    my $dial = $opt{relay} ? $opt{relay}->($nginx->port) : $nginx->port;
    my @agents;

    for my $b (@$backends) {
        my ($id, $address) = @$b;

        my $agent = InvertingProxy::Test::Agent->new(
            dir => $rig->{dir}, reports => $rig->{reports},
            name => "agent-$name-$id", backend => $id, host => $address,
            proxy => "http://127.0.0.1:$dial/", transport => $opt{transport},
            args => [ "-token-file=$file", @{$opt{args} || []} ]);

        push @{$rig->{agents}}, $agent;
        push @agents, $agent;

        InvertingProxy::Test::Util::waitfor(sub {
            $rig->status($nginx)->agents($id) >= $workers
        }, 30) or croak "$agent->{name} does not come up";
    }

    return { name => $name, port => $nginx->port, nginx => [ $nginx ], ours => 1,
             agents => \@agents,
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


sub all {
    my ($self) = @_;
    return (@$self{qw(origin one two)}, $self->ours_systems);
}


1;
