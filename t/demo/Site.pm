package Site;

# The private backend of the demonstration: a small web site.  A callback for
# InvertingProxy::Test::Backend, one request at a time.
#
#   GET  /                       the page
#   GET  /events?count=n&every=s server-sent events, without end by default
#   POST /upload                 a form's file, or a bare body: its SHA-256
#   GET  /download/N             N MiB; /download/N.sha256 is their checksum
#   GET  /request                the request as it arrived

use strict;
use warnings;

use Digest::SHA ();
use POSIX qw(strftime);

use InvertingProxy::Test::Body qw(random_body body_sha256);
use InvertingProxy::Test::Util qw(nap slurp now);

use constant MIB => 1024 * 1024;
use constant MAX_MIB => 10240;

my $page;


sub load {
    my ($dir) = @_;
    $page = slurp("$dir/index.html");
    return;
}


sub handle {
    my ($c, $req) = @_;

    my ($path, $query) = $req->{target} =~ m{^([^?]*)(?:\?(.*))?$};
    my %arg = map { /^(\w+)=(.*)$/ ? ($1, $2) : () }
                  split(/&/, defined $query ? $query : '');
    my $head = $req->{method} eq 'HEAD';

    if ($path eq '/upload') {
        return upload($c, $req);
    }

    if ($req->{method} !~ /^(GET|HEAD)$/) {
        return text($c, 405, "only GET\n", headers => [ 'Allow: GET, HEAD' ]);
    }

    if ($path eq '/') {
        return $c->respond(200, [ 'Content-Type: text/html; charset=utf-8' ],
                           $page, head => $head);

    } elsif ($path eq '/events') {
        return events($c, $arg{count}, $arg{every});

    } elsif ($path =~ m{^/download/(\d{1,5})$} && $1 <= MAX_MIB) {
        return $c->respond(200, [
            'Content-Type: application/octet-stream',
            "Content-Disposition: attachment; filename=\"$1.bin\"",
        ], random_body('demo', $1 * MIB), length => $1 * MIB, head => $head);

    } elsif ($path =~ m{^/download/(\d{1,5})\.sha256$} && $1 <= MAX_MIB) {
        return text($c, 200, body_sha256('demo', $1 * MIB) . "  $1.bin\n",
                    head => $head);

    } elsif ($path eq '/request') {
        return text($c, 200, $req->{raw}, head => $head);
    }

    return text($c, 404, "there is no such page here\n", head => $head);
}


sub text {
    my ($c, $status, $text, %opt) = @_;

    return $c->respond($status, [ 'Content-Type: text/plain; charset=utf-8',
                                  @{$opt{headers} || []} ], $text, %opt);
}


sub events {
    my ($c, $count, $every) = @_;

    $every = defined $every && $every =~ /^\d*\.?\d+$/ ? $every : 1;

    $c->head(200, [ 'Content-Type: text/event-stream',
                    'Cache-Control: no-cache',
                    'Transfer-Encoding: chunked' ]) or return 0;

    for (my $i = 1; !$count || $i <= $count; $i++) {
        nap($every) if $i > 1;

        my ($load) = slurp('/proc/loadavg') =~ /^(\S+)/;
        my $time = strftime('%H:%M:%S', localtime);

        # Fails, and ends it, once nobody listens any more.
        $c->chunk("id: $i\ndata: event $i at $time, load $load\n\n")
            or return 0;
    }

    return $c->last_chunk;
}


sub upload {
    my ($c, $req) = @_;

    if ($req->{method} !~ /^(POST|PUT)$/) {
        return text($c, 405, "only POST\n", headers => [ 'Allow: POST, PUT' ]);
    }

    if (($req->header('Expect') || '') =~ /100-continue/i) {
        $c->write("HTTP/1.1 100 Continue\r\n\r\n");
    }

    my $start = now();
    my $type = $req->header('Content-Type') || '';
    my ($boundary) = $type =~ m{^multipart/form-data;.*\bboundary="?([^";]+)"?}i;
    my $file = { name => '', size => 0, sha => Digest::SHA->new(256) };

    if (defined $boundary) {
        form_file($c, $req, $boundary, $file);

    } else {
        $c->read_body($req, sink => sub {
            $file->{sha}->add($_[0]);
            $file->{size} += length $_[0];
        });
    }

    return 0 if $req->{cut};

    my $digest = $file->{sha}->hexdigest;

    if (!defined $boundary) {
        return text($c, 200, "$digest  $file->{size} bytes\n");
    }

    my $seconds = sprintf('%.2f', now() - $start);
    my %escape = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;');
    (my $name = $file->{name}) =~ s/([&<>"])/$escape{$1}/g;
    (my $style) = $page =~ m{(<style>.*</style>)}s;

    return $c->respond(200, [ 'Content-Type: text/html; charset=utf-8' ], <<"EOT");
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Uploaded</title>
<meta name="viewport" content="width=device-width, initial-scale=1">$style
</head>
<body><main>
<h1>The backend has read it</h1>
<dl>
<dt>File</dt><dd>$name</dd>
<dt>Size</dt><dd>$file->{size} bytes</dd>
<dt>SHA-256</dt><dd><code>$digest</code></dd>
<dt>Time</dt><dd>$seconds s</dd>
</dl>
<p><a href="/">Back</a></p>
</main></body>
</html>
EOT
}


# The first part of a form, as it comes: what could be the beginning of the
# boundary is held back until it is known to be none.

sub form_file {
    my ($c, $req, $boundary, $file) = @_;

    my $mark = "\r\n--$boundary";
    my $buf = "\r\n";
    my $where = 'preamble';

    $c->read_body($req, sink => sub {
        $buf .= $_[0];

        if ($where eq 'preamble' && (my $i = index($buf, $mark)) >= 0) {
            substr($buf, 0, $i + length $mark, '');
            $where = 'head';
        }

        if ($where eq 'head' && (my $i = index($buf, "\r\n\r\n")) >= 0) {
            my $head = substr($buf, 0, $i + 4, '');
            ($file->{name}) = $head =~ /\bfilename="((?:\\.|[^"\\])*)"/;
            $file->{name} = '' if !defined $file->{name};
            $where = 'file';
        }

        if ($where eq 'file') {
            my $i = index($buf, $mark);
            my $n = $i >= 0 ? $i : length($buf) - length($mark);

            if ($n > 0) {
                my $data = substr($buf, 0, $n, '');
                $file->{sha}->add($data);
                $file->{size} += length $data;
            }

            $where = 'rest' if $i >= 0;
        }

        $buf = '' if $where eq 'rest';
    });

    return;
}


1;
