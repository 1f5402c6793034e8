package InvertingProxy::Test::Status;

# The API's status document.  The names of its fields are in this file only:
# tests ask by method.
#
#   my $s = InvertingProxy::Test::Status->fetch(port => $p, api => '/api/');
#   $s->chunks_used  $s->chunks_free  $s->chunks_total  $s->chunk_size
#   $s->bytes_used                       of the zone's chunks
#   $s->transactions  $s->transactions('waiting')
#   $s->idle                             nothing in use
#   $s->backend($id)                     its part of the document, or undef
#   $s->agents($id)  $s->waiting($id)  $s->active($id)
#   $s->workers                          pids
#   $s->{doc}                            all of it

use strict;
use warnings;

use Carp qw(croak);
use JSON::PP ();

use InvertingProxy::Test::Client;


my %field = (
    chunks       => [ qw(zone chunks) ],
    transactions => [ qw(zone transactions) ],
    total        => 'total',
    free         => 'free',
    used         => 'used',
    size         => 'size',
    workers      => [ qw(workers) ],
    pid          => 'pid',
    backends     => [ qw(backends) ],
    id           => 'id',
    agents       => 'agents',
    waiting      => 'waiting',
    active       => 'active',
);


sub fetch {
    my ($class, %opt) = @_;

    my $client = InvertingProxy::Test::Client->new(port => $opt{port},
                                                   timeout => 10);
    my $m = $client->get("$opt{api}status",
                         headers => [ 'Connection: close',
                                      @{$opt{headers} || []} ])
        or croak "$opt{api}status: no answer";

    if ($m->{status} != 200) {
        croak "$opt{api}status: $m->{start}";
    }

    my $doc = eval { JSON::PP->new->utf8->decode($m->{body}) }
        or croak "$opt{api}status is not JSON: $@\n$m->{body}";

    return bless { doc => $doc, text => $m->{body} }, $class;
}


sub _at {
    my ($self, $what) = @_;

    my $node = $self->{doc};
    $node = ref $node eq 'HASH' ? $node->{$_} : undef for @{$field{$what}};

    return $node;
}


sub _number {
    my ($self, $what, $name) = @_;

    my $node = $self->_at($what);

    if (ref $node ne 'HASH' || !defined $node->{$name}) {
        croak "the status has no " . join('.', @{$field{$what}}, $name);
    }

    return $node->{$name};
}


sub chunks_used { return $_[0]->_number('chunks', $field{used}) }
sub chunks_free { return $_[0]->_number('chunks', $field{free}) }
sub chunks_total { return $_[0]->_number('chunks', $field{total}) }
sub chunk_size { return $_[0]->_number('chunks', $field{size}) }


sub bytes_used {
    my ($self) = @_;
    return $self->chunks_used * $self->chunk_size;
}


sub transactions {
    my ($self, $state) = @_;
    return $self->_number('transactions', $state || $field{used});
}


sub idle {
    my ($self) = @_;
    return $self->chunks_used == 0 && $self->transactions == 0;
}


sub backend {
    my ($self, $id) = @_;

    my ($found) = grep { $_->{$field{id}} eq $id } @{$self->_at('backends') || []};

    return $found;
}


sub _of_backend {
    my ($self, $id, $name) = @_;

    my $backend = $self->backend($id) or return 0;
    my $value = $backend->{$name};

    # A list of them is as good as their number.
    return ref $value eq 'ARRAY' ? scalar @$value : $value || 0;
}


sub agents { return $_[0]->_of_backend($_[1], $field{agents}) }
sub waiting { return $_[0]->_of_backend($_[1], $field{waiting}) }
sub active { return $_[0]->_of_backend($_[1], $field{active}) }


sub workers {
    my ($self) = @_;
    return map { $_->{$field{pid}} } @{$self->_at('workers') || []};
}


1;
