package InvertingProxy::Test::Body;

# Bodies of any size that are never held in memory, and their digests.
#
#   my $next = random_body($seed, $length);    $next->() is a piece, or undef
#   my $hex  = body_sha256($seed, $length);    what all of it hashes to
#   my $data = body_bytes($seed, $length);     all of it, for small ones
#
# The bytes look random, differ from one piece to the next, and the pieces are
# of an odd length: data that is lost, repeated or swapped anywhere, in
# whatever unit, changes the digest.

use strict;
use warnings;

use Digest::SHA qw(sha512);
use Exporter qw(import);

our @EXPORT_OK = qw(random_body body_sha256 body_bytes);

use constant PIECE => 65521;

my %base;


sub _base {
    my ($seed) = @_;

    if (!$base{$seed}) {
        my ($data, $block) = ('', $seed);

        while (length $data < PIECE) {
            $block = sha512($block . $seed);
            $data .= $block;
        }

        %base = () if keys %base > 16;
        $base{$seed} = substr($data, 0, PIECE - 8);
    }

    return $base{$seed};
}


sub random_body {
    my ($seed, $length) = @_;

    my $base = _base($seed);
    my ($left, $i) = ($length, 0);

    return sub {
        return undef if $left <= 0;

        my $piece = pack('Q>', $i++) . $base;
        $piece = substr($piece, 0, $left) if length $piece > $left;
        $left -= length $piece;

        return $piece;
    };
}


sub body_sha256 {
    my ($seed, $length) = @_;

    my $sha = Digest::SHA->new(256);
    my $next = random_body($seed, $length);

    while (defined(my $piece = $next->())) {
        $sha->add($piece);
    }

    return $sha->hexdigest;
}


sub body_bytes {
    my ($seed, $length) = @_;

    my $data = '';
    my $next = random_body($seed, $length);

    while (defined(my $piece = $next->())) {
        $data .= $piece;
    }

    return $data;
}


1;
