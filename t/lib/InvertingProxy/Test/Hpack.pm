package InvertingProxy::Test::Hpack;

# Field sections of HTTP/2: Debian's Protocol::HTTP2 packs and unpacks them,
# and what no library would write is written here.
#
#   my $p = InvertingProxy::Test::Hpack->new(decoder_size => 4096);
#   my $block = $p->encode([ [ name, value ], ... ]);
#   my $fields = $p->decode($block);    croaks when it cannot be
#   $p->encoder_size($n)                what the other side's SETTINGS allow
#   literal(name => value, ...)         as they are: neither index nor Huffman

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use Protocol::HTTP2::Constants qw(:settings);
use Protocol::HTTP2::HeaderCompression qw(headers_encode headers_decode
                                          int_encode);

our @EXPORT_OK = qw(literal);

use constant DEFAULT_SIZE => 4096;


sub new {
    my ($class, %opt) = @_;

    my $size = defined $opt{decoder_size} ? $opt{decoder_size} : DEFAULT_SIZE;

    return bless {
        encode => _context(DEFAULT_SIZE),
        decode => { %{_context(DEFAULT_SIZE)},
                    settings => { &SETTINGS_HEADER_TABLE_SIZE => $size } },
    }, $class;
}


sub _context {
    my ($size) = @_;

    return { header_table => [], ht_size => 0, max_ht_size => $size,
             emitted_headers => [],
             settings => { &SETTINGS_HEADER_TABLE_SIZE => $size } };
}


# The table is never larger than the default: nobody has to use all of it.

sub encoder_size {
    my ($self, $size) = @_;

    $size = DEFAULT_SIZE if $size > DEFAULT_SIZE;
    $self->{encode}{settings}{&SETTINGS_HEADER_TABLE_SIZE} = $size;

    my $context = $self->{encode};

    # The library announces the new size, but does not apply it.
    while ($context->{ht_size} > $size) {
        my $last = pop @{$context->{header_table}};
        $context->{ht_size} -= 32 + length($last->[0]) + length $last->[1];
    }

    return;
}


sub encode {
    my ($self, $fields) = @_;
    return headers_encode($self->{encode}, [ map { @$_ } @$fields ]);
}


# What the library asks a connection for.

sub decode_context { return $_[0]{decode} }
sub error { my ($self, $code) = @_; return $self->{error} = $code }
sub stream_error { my ($self, undef, $code) = @_;
                   return $self->{error} = $code }


sub decode {
    my ($self, $block) = @_;

    $self->{error} = undef;
    $self->{decode}{emitted_headers} = [];

    my $done = headers_decode($self, \$block, 0, length $block, 0);

    if (!defined $done || defined $self->{error}) {
        croak 'a field section that cannot be unpacked: '
              . unpack('H*', substr($block, 0, 200));
    }

    my @flat = @{$self->{decode}{emitted_headers}};
    my @fields;

    while (my ($name, $value) = splice(@flat, 0, 2)) {
        push @fields, [ $name, $value ];
    }

    return \@fields;
}


sub literal {
    my (@flat) = @_;

    my $block = '';

    while (my ($name, $value) = splice(@flat, 0, 2)) {
        $block .= "\0" . int_encode(length $name, 7) . $name
                  . int_encode(length $value, 7) . $value;
    }

    return $block;
}


1;
