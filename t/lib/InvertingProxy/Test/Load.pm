package InvertingProxy::Test::Load;

# Clients that go on while the test does something else: each is a process that
# calls the callback again and again until it is told to stop.
#
#   my $l = $rig->load(clients => 4, code => sub { my ($load, $i) = @_; ... });
#
# The callback gets $i = 0, 1, 2, ..., and returns undef when all was well, or
# what was wrong; what it dies of is wrong, too.  {client} is which of the
# clients this is (from 0); {state} is a hash that is kept between calls.
# Options: pause (seconds between calls), count (calls of each client; 0: until
# stop).  A client whose call failed waits a moment before the next one.
#
#   $l->stop($seconds)   lets each finish its call; returns a hash:
#       { count, wrong => [ [ what, seconds since the start ], ... ], slowest }
#   $l->wait($seconds)   the same, without telling them: with a count
#   $l->done             calls that have ended so far
#   $l->text($result)    what was wrong, for diag()

use strict;
use warnings;

use Carp qw(croak);
use JSON::PP ();

use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(append_line now nap slurp waitfor);


sub new {
    my ($class, %opt) = @_;

    my $self = bless { clients => 1, pause => 0, count => 0, state => {},
                       wait => 60, %opt, t0 => now() }, $class;

    for my $n (0 .. $self->{clients} - 1) {
        my $file = "$self->{dir}/$self->{name}.$n";

        push @{$self->{files}}, $file;
        push @{$self->{processes}}, InvertingProxy::Test::Process->fork_code(
            name => "$self->{name}.$n", err => "$file.err",
            code => sub { $self->{client} = $n; $self->_run($file) });
    }

    return $self;
}


sub _run {
    my ($self, $file) = @_;

    my $stop = 0;
    $SIG{TERM} = sub { $stop = 1 };
    $0 = "test $self->{name}";

    for (my $i = 0; !$stop && (!$self->{count} || $i < $self->{count}); $i++) {
        my $t = now();
        my $wrong = eval { $self->{code}->($self, $i) };
        $wrong = "died: $@" if $@;
        my $took = now() - $t;

        append_line($file, JSON::PP->new->canonical->encode(
            { took => $took, at => $t - $self->{t0},
              defined $wrong ? (wrong => "$wrong") : () }));

        nap(0.3) if defined $wrong;
        nap($self->{pause}) if $self->{pause};
    }

    return;
}


sub done {
    my ($self) = @_;

    my $n = 0;

    for my $file (@{$self->{files}}) {
        $n += () = slurp($file) =~ /\n/g;
    }

    return $n;
}


sub stop {
    my ($self, $timeout) = @_;

    $_->signal('TERM') for @{$self->{processes}};
    return $self->wait($timeout);
}


sub wait {
    my ($self, $timeout) = @_;

    my %r = (count => 0, wrong => [], slowest => 0);

    for my $p (@{$self->{processes}}) {
        if (!$p->wait($timeout || $self->{wait})) {
            push @{$r{wrong}}, [ $p->name . ' does not end',
                                 now() - $self->{t0} ];
        }
        $p->finish;
    }

    for my $file (@{$self->{files}}) {
        for my $line (split(/\n/, slurp($file))) {
            my $call = JSON::PP->new->decode($line);

            $r{count}++;
            $r{slowest} = $call->{took} if $call->{took} > $r{slowest};
            push @{$r{wrong}}, [ $call->{wrong}, $call->{at} ]
                if defined $call->{wrong};
        }

        my $err = slurp("$file.err");
        push @{$r{wrong}}, [ "stderr: $err", 0 ] if $err ne '';
    }

    return \%r;
}


# What was wrong, as text for diag().

sub text {
    my ($self, $r) = @_;

    my @wrong = sort { $a->[1] <=> $b->[1] } @{$r->{wrong}};
    my $n = @wrong;

    splice(@wrong, 20) if @wrong > 20;

    return join("\n", "$n of $r->{count}", map { sprintf('%.3f s: %s', $_->[1],
                                                         $_->[0]) } @wrong);
}


1;
