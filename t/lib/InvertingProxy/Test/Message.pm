package InvertingProxy::Test::Message;

# The head of an HTTP/1.1 message as it stood on the wire, and what is known of
# its body.
#
#   $m->{start}                       the start line
#   $m->{method} {target} {version}   of a request
#   $m->{status} {reason} {version}   of a response
#   $m->{fields}                      [ [ name, value ], ... ] in their order
#   $m->{raw}                         the bytes of the head
#   $m->header('Name')                the value, several joined by ", "; or undef
#   $m->all('Name')                   each value
#   $m->names                         the names, as they were written
#   $m->trailer('Name')
#
# After the body has been read (see Stream.pm):
#
#   {body}      the bytes, unless a sink or digest took them
#   {length}    how many they were
#   {sha256}    with digest => 1
#   {framing}   none, length, chunked, close
#   {cut}       undef, or why the body did not end as its framing says
#   {trailers}  as {fields}
#   {interim}   status codes of 1xx responses before this one
#   {at}        seconds from the request to: first (byte), head, body, end
#   {pieces}    how many reads it came in

use strict;
use warnings;


sub parse {
    my ($class, $raw) = @_;

    my ($start, @lines) = split(/\r?\n/, $raw);
    my $self = bless { start => defined $start ? $start : '', raw => $raw,
                       fields => fields(@lines), trailers => [],
                       interim => [], at => {} }, $class;

    if ($self->{start} =~ m{^HTTP/(\d\.\d) (\d{3})(?: (.*))?$}) {
        @$self{qw(version status reason)} = ($1, $2, $3);

    } elsif ($self->{start} =~ m{^(\S+) (\S+) HTTP/(\d\.\d)$}) {
        @$self{qw(method target version)} = ($1, $2, $3);

    } else {
        $self->{malformed} = 1;
    }

    return $self;
}


sub fields {
    my (@lines) = @_;

    my @fields;

    for my $line (@lines) {
        last if $line eq '';
        my ($name, $value) = $line =~ /^([^:]*):[ \t]*(.*?)[ \t]*$/
                             ? ($1, $2) : ($line, undef);
        push @fields, [ $name, $value ];
    }

    return \@fields;
}


sub _find {
    my ($fields, $name) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name } @$fields;
}


sub all {
    my ($self, $name) = @_;
    return _find($self->{fields}, $name);
}


sub header {
    my ($self, $name) = @_;

    my @values = $self->all($name);
    return @values ? join(', ', @values) : undef;
}


sub trailer {
    my ($self, $name) = @_;

    my @values = _find($self->{trailers}, $name);
    return @values ? join(', ', @values) : undef;
}


sub names {
    my ($self) = @_;
    return map { $_->[0] } @{$self->{fields}};
}


1;
