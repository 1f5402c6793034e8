package InvertingProxy::Test;

# What a test file uses.  The rig (InvertingProxy::Test::Rig) with Test::More
# around it: strict, warnings and Test::More come with it.
#
#   use lib 't/lib';
#   use InvertingProxy::Test;
#
#   my $t = InvertingProxy::Test->new;
#
#   my $b = $t->backend(sub {
#       my ($c, $req) = @_;
#       return $c->respond(200, [ 'X-Seen: ' . $req->{target} ], 'hello');
#   });
#
#   $t->nginx(http => <<'EOF');
#       inverting_proxy_zone zone=main:16m;
#       inverting_proxy_backend main b end_user=allUsers;
#       server {
#           listen 127.0.0.1:%%PORT%%;
#           location / { inverting_proxy_pass main; }
#           location /agent/ { inverting_proxy_agent main; ... }
#           location /api/ { inverting_proxy_api main; }
#       }
#   EOF
#
#   $t->agent(backend => 'b', host => $b->address);
#   is($t->get('/x')->{body}, 'hello', 'a page of the backend');
#
#   $t->done;
#
# done() is the end of every file, in place of done_testing.  It asserts, in this
# order, that the zone of each nginx with an API is idle; that all processes end
# when they are asked to, with status 0, and leave none behind; that no log has
# an [alert] or [emerg] but for those allowed ($nginx->allow, allow_kill); that
# neither a sanitizer nor valgrind has reported anything.  With idle => 0 the
# first is left out.
#
# With "use InvertingProxy::Test ':transports'" all of the file is run twice, as two
# subtests: once with agents that poll, once with agents that take requests by
# PTTH.  With INVERTING_PROXY_TRANSPORT=poll or =ptth it is run once, over that.
# Where the two differ, $t->over_ptth says which it is.
#
# Exported besides: waitfor, nap, now, slow, random_body, body_sha256,
# body_bytes, run_command, state_lock.  With INVERTING_PROXY_KEEP=1 the folder is
# kept.

use strict;
use warnings;

use parent -norequire, 'InvertingProxy::Test::Rig';

use Test::More;

use InvertingProxy::Test::Body qw(random_body body_sha256 body_bytes);
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Rig;
use InvertingProxy::Test::Util qw(waitfor nap now slow slurp spew run_command
                                  free_port certificate state_lock);


my @export = qw(waitfor nap now slow slurp spew run_command free_port
                state_lock random_body body_sha256 body_bytes);
my $current;


sub import {
    my ($class, @options) = @_;

    my $caller = caller;

    # Not if the file is only looked at: perl -c.

    if (grep({ $_ eq ':transports' } @options)
        && !$ENV{INVERTING_PROXY_TRANSPORT} && !$^C)
    {
        _run_over($_) for qw(poll ptth);
        done_testing();
        exit(0);
    }

    strict->import;
    warnings->import;

    no strict 'refs';
    *{"${caller}::$_"} = \&{$_} for @export;
    *{"${caller}::$_"} = \&{"Test::More::$_"} for @Test::More::EXPORT;
    *{"${caller}::TODO"} = \${"${caller}::TODO"};

    return;
}


# The file once more, in a process of its own.

sub _run_over {
    my ($transport) = @_;

    local $ENV{INVERTING_PROXY_TRANSPORT} = $transport;
    local $| = 1;

    my $pid = open(my $out, '-|', $^X, $0) or die "$^X: $!\n";

    local @SIG{qw(INT TERM HUP)} = (sub { kill('TERM', $pid); exit(130) }) x 3;

    print "# Subtest: over $transport\n";

    while (defined(my $line = <$out>)) {
        print "    $line";
    }

    close($out);

    is($?, 0, "over $transport");

    return;
}


sub new {
    my ($class, %opt) = @_;

    my $self = $class->SUPER::new(%opt);
    $current = $self;

    # A test that hangs is a failure with logs to read, not a CI run without
    # an end.
    my $timeout = ($opt{timeout} || 300) * slow();
    $SIG{ALRM} = sub {
        diag("the test file takes more than $timeout s");
        exit(124);
    };
    alarm($timeout);

    # exit() runs the END block below.
    $SIG{$_} = sub { exit(130) } for qw(INT TERM HUP);

    return $self;
}


sub certificate_for {
    my ($self, $name, %opt) = @_;
    return certificate($self->{dir}, $name, %opt);
}


sub done {
    my ($self, %opt) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    if (!defined $opt{idle} || $opt{idle}) {
        $self->check_idle;
    }

    my @wrong = eval { $self->stop };
    push @wrong, $@ if $@;
    ok(!@wrong, 'all processes end well') or diag(join("\n", @wrong));

    my @problems = $self->problems;
    ok(!@problems, 'nothing in the logs') or diag(join("\n", @problems));

    # What ended badly shows its logs in the END block.
    done_testing();

    return;
}


sub check_idle {
    my ($self, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    for my $nginx (grep { $self->_api($_) && $_->running } @{$self->{nginx}}) {
        my $idle = eval { $self->wait_idle(10, $nginx) };

        ok($idle, $name || "the zone of $nginx->{name} is idle")
            or diag($@ || eval { $self->status($nginx)->{text} } || $@);
    }

    return;
}


END {
    if ($current && $current->{owner} == $$) {
        my $status = $?;

        alarm(0);

        if ($status != 0 || !Test::More->builder->is_passing) {
            diag($current->tails);

            if ($current->{keep}) {
                diag("the folder is $current->{dir}");
            }
        }

        $current->destroy;
        InvertingProxy::Test::Process::release();
        $? = $status;
    }
}


1;
