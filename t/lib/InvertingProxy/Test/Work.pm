package InvertingProxy::Test::Work;

# Requests whose answers can be checked byte by byte, and the origin that gives
# them: for tests that do many of them while something else happens.
#
#   my $b = $t->backend(work_origin());
#   my $wrong = work_small($t, $key, %opt)      one small request
#   my $wrong = work_download($t, $key, $size)  a body down, its digest
#   my $wrong = work_upload($t, $key, $size)    a body up, its digest
#   my $wrong = work_events($t, $key, $n, $pause)
#                                               n events, with pauses between
#
# Each makes a connection of its own, and returns undef when all was as it
# should be, or what was not.  Different keys have different bytes.  Options:
# port, tls, pause (between pieces of the body), chunked (how an upload goes),
# method, rcvbuf, timeout.

use strict;
use warnings;

use Exporter qw(import);

use InvertingProxy::Test::Body qw(random_body body_sha256);

our @EXPORT = qw(work_origin work_small work_download work_upload work_events);


sub work_origin {
    return sub {
        my ($c, $req) = @_;

        my ($what, $key, $size, $pause) =
            $req->{target} =~ m{^/\w*/?(small|down|up|events)/([^/]+)
                                (?:/(\d+)/([\d.]+))?$}x
            or return $c->respond(404, [], 'no such page');

        if ($what eq 'up') {
            $c->read_body($req, digest => 1);
            return 0 if $req->{cut};
            return $c->respond(200, [], "$req->{length} $req->{sha256}");
        }

        $c->read_body($req);

        if ($what eq 'small') {
            return $c->respond(200, [ 'X-Key: ' . ($req->header('X-Key') || '')
                                    ], "$req->{method} $key $req->{body}",
                               at_once => 1);
        }

        if ($what eq 'down') {
            return $c->respond(200, [], random_body($key, $size),
                               length => $size, pause => $pause);
        }

        my $i = 0;

        return $c->respond(200, [ 'Content-Type: text/event-stream' ],
                           sub { $i++ < $size ? "data: $key $i\n\n" : undef },
                           chunked => 1, pause => $pause);
    };
}


sub _get {
    my ($t, $target, %opt) = @_;

    my %connection = (port => $opt{port} || $t->nginx->port,
                      map({ $_ => $opt{$_} } grep { exists $opt{$_} }
                          qw(tls rcvbuf timeout)));

    my $c = $t->client(timeout => 20, %connection);
    my $m = $c->get(($opt{prefix} || '') . $target, %opt,
                    headers => [ 'Connection: close', @{$opt{headers} || []} ]);
    $c->close;

    if (!$m) {
        die "$target: no answer" . ($c->{error} ? " ($c->{error})" : '') . "\n";
    }

    die "$target: $m->{start}\n" if $m->{status} != 200;
    die "$target: cut: $m->{cut}\n" if defined $m->{cut};

    return $m;
}


sub _wrong {
    my ($code) = @_;

    my $wrong = eval { $code->() };

    if ($@) {
        chomp(my $text = $@);
        return $text;
    }

    return $wrong;
}


sub work_small {
    my ($t, $key, %opt) = @_;

    my $method = $opt{method} || 'GET';
    my $body = $method eq 'GET' ? undef : "body of $key";

    return _wrong(sub {
        my $m = _get($t, "/small/$key", %opt, method => $method,
                     headers => [ "X-Key: $key" ],
                     defined $body ? (body => $body) : ());
        my $want = "$method $key " . (defined $body ? $body : '');

        return "small $key: \"$m->{body}\"" if $m->{body} ne $want;
        return "small $key: the field" if $m->header('X-Key') ne $key;
        return undef;
    });
}


sub work_download {
    my ($t, $key, $size, %opt) = @_;

    my $pause = delete $opt{origin_pause} || 0;

    return _wrong(sub {
        my $m = _get($t, "/down/$key/$size/$pause", %opt, digest => 1);

        return "down $key: $m->{length} of $size bytes"
            if $m->{length} != $size;
        return "down $key: other bytes"
            if $m->{sha256} ne body_sha256($key, $size);
        return undef;
    });
}


sub work_upload {
    my ($t, $key, $size, %opt) = @_;

    return _wrong(sub {
        my $m = _get($t, "/up/$key", method => 'POST', %opt,
                     body => random_body($key, $size),
                     $opt{chunked} ? () : (length => $size));

        return "up $key: \"$m->{body}\""
            if $m->{body} ne "$size " . body_sha256($key, $size);
        return undef;
    });
}


sub work_events {
    my ($t, $key, $n, $pause, %opt) = @_;

    return _wrong(sub {
        my $m = _get($t, "/events/$key/$n/$pause", %opt);
        my $want = join('', map { "data: $key $_\n\n" } 1 .. $n);

        return "events $key: \"$m->{body}\"" if $m->{body} ne $want;
        return undef;
    });
}


1;
