#!/usr/bin/perl

# What the API does with JSON of all sorts: 400 that names the field, and nothing
# is written.

use lib 't/lib';
use InvertingProxy::Test;

use JSON::PP ();

my $t = InvertingProxy::Test->new;

my $n = $t->nginx(http => <<'EOT');
    inverting_proxy_zone zone=main:1m;

    server {
        listen 127.0.0.1:%%PORT%%;
        location /api/ { inverting_proxy_api main write=on; }
    }
EOT

my $c = $t->client;


sub post {
    my ($body) = @_;

    # one connection: whatever came, the next request is understood
    my $m = $c->get('/api/backends', method => 'POST', body => $body);

    $m->{doc} = eval { JSON::PP->new->utf8->decode($m->{body}) };

    return $m;
}


# A record whose fields are JSON text; undef leaves one out.

sub record {
    my (%f) = @_;

    my %all = (id => '"x"', endUser => '"allUsers"', backendUser => '"a"',
               pathPrefixes => '["/"]', %f);

    return '{' . join(',', map { "\"$_\":$all{$_}" }
                           grep { defined $all{$_} } sort keys %all) . '}';
}


sub bad {
    my ($body, $field, $what) = @_;

    my $m = post($body);
    is($m->{status}, 400, "$what: 400");

    my $error = $m->{doc} ? $m->{doc}{error} : {};
    is($error->{field}, $field, 'the field: '
       . (defined $field ? $field : 'none'));
    ok($error->{message}, defined $error->{message} ? $error->{message} : '');
}


# what is no JSON

for my $case ([ 'nothing', '' ], [ 'spaces', " \r\n\t" ], [ 'a word', 'hello' ],
              [ 'half an object', '{' ], [ 'no value', '{"id":' ],
              [ 'no colon', '{"id" "x"}' ], [ 'a comma too many', '{"id":"x",}' ],
              [ 'two of them', record() . record() ],
              [ 'more behind it', record() . 'x' ],
              [ 'a zero byte behind it', record() . "\0" ],
              [ 'a byte order mark', "\xef\xbb\xbf" . record() ],
              [ 'single quotes', "{'id':'x'}" ], [ 'a comment', '/**/{}' ],
              [ 'an open string', '{"id":"x' ],
              [ 'a bare line end in a string', record(id => "\"x\ny\"") ],
              [ 'a zero byte in a string', record(endUser => "\"x\0y\"") ],
              [ 'a bad escape', record(endUser => '"\\x41"') ],
              [ 'half a surrogate', record(endUser => '"\\ud800"') ],
              [ 'an escaped zero', record(endUser => '"a\\u0000b"') ],
              [ 'bad UTF-8', record(endUser => "\"\xff\"") ],
              [ 'an overlong form', record(endUser => "\"\xc0\xaf\"") ],
              [ 'a surrogate in UTF-8', record(endUser => "\"\xed\xa0\x80\"") ],
              [ 'UTF-16', join("\0", split(//, record())) . "\0" ],
              [ 'deep nesting', '[' x 10000 ],
              [ 'deeper', '{"a":' x 10000 ],
              [ 'closed deep nesting', '[' x 5000 . ']' x 5000 ],
              [ 'bytes', join('', map { chr } 0 .. 255) ])
{
    my ($what, $body) = @$case;
    my $m = post($body);

    is($m->{status}, 400, "$what: 400");
    ok($m->{doc} && $m->{doc}{error}{message}, $m->{body});
}


# what is no object

bad($_, undef, $_) for '[]', 'null', 'true', '1', '"x"', '[' . record() . ']';


# fields

for my $field (qw(id endUser backendUser pathPrefixes)) {
    # without one its agents need a key
    bad(record($field => undef), $field, "no $field")
        if $field ne 'backendUser';

    for my $value ('null', '1', 'true', '{}', $field eq 'pathPrefixes'
                                              ? '"/"' : '["x"]')
    {
        bad(record($field => $value), $field, "$field is $value");
    }

    my $twice = record();
    my $again = $field eq 'pathPrefixes' ? '["/"]' : '"x"';
    $twice =~ s/\}$/,"$field":$again}/;
    bad($twice, $field, "$field twice");
}

bad(record(id => "\"$_\""), 'id', "id \"$_\"")
    for '', ' ', 'a b', 'a/b', '.', '..', 'a\\u00e9', "\xc3\xa9", 'a%20',
        'x' x 129, 'a\\n', '../x';
bad(record(endUser => "\"$_\""), 'endUser', 'endUser "' . substr($_, 0, 20))
    for '', ' ', ' a', 'a ', 'x' x 257, 'a\\n', 'a\\u0007', 'a\\u007f',
        "\xc2\x85", "\xc3\xa9" x 129;
bad(record(backendUser => "\"$_\""), 'backendUser',
    'backendUser "' . substr($_, 0, 20))
    for 'x' x 257, 'a\\tb';
bad(record(pathPrefixes => $_), 'pathPrefixes',
    'pathPrefixes ' . substr($_, 0, 30))
    for '[]', '[""]', '["x"]', '["/", ""]', '["/", 1]', '[null]', '[["/"]]',
        '["/a", "/b", "/a"]', '["/\\n"]', '["/' . 'x' x 256 . '"]',
        '[' . join(',', map { "\"/$_\"" } 1 .. 65) . ']';

for my $field (qw(id endUser backendUser pathPrefixes agents)) {
    my $value = $field eq 'pathPrefixes' ? sub { "[\"/$_[0]\"]" }
                                         : sub { "\"$_[0]\"" };

    bad(record($field => $value->($_->[1])), $field, "$field: $_->[0]")
        for [ 'bad UTF-8', "a\xff" ], [ 'an overlong form', "\xc0\xaf" ],
            [ 'a cut character', "\xe2\x82" ],
            [ 'an escaped zero', 'a\\u0000b' ], [ 'a line end', "a\nb" ];
    bad(record($field => '[' x $_ . ']' x $_), $field, "$field: $_ deep")
        for 4, 1000, 10000;
    bad(record($field => '{"a":' x 1000 . '1' . '}' x 1000), $field,
        "$field: objects, 1000 deep");
}

bad(record(unknown => '1'), 'unknown', 'an unknown field');
bad(record(Id => '"x"'), 'Id', 'one in another case');
bad(record('x' x 1000 => '1'), 'x' x 64, 'one with a long name');
bad(record('' => '1'), undef, 'one without a name');
is(post(record('id\\u0000b' => '1'))->{status}, 400,
   'one with a zero in its name');

is($t->get('/api/backends')->{body}, "[]\n", 'nothing was written')
    or diag($t->get('/api/backends')->{body});


# what is just good enough

for my $case ([ 'spaces', " \n" . record() . "\r\n\t " ],
              [ 'the longest id', record(id => '"' . 'x' x 128 . '"') ],
              [ 'three dots', record(id => '"..."') ],
              [ 'all that may be in one', record(id => '"AZaz09._-"') ],
              [ 'the longest user', record(endUser => '"' . 'x' x 256 . '"') ],
              [ 'a space within', record(endUser => '"a b"') ],
              [ 'of two-byte characters',
                record(endUser => "\"" . "\xc3\xa9" x 128 . '"') ],
              [ 'escapes', record(endUser => '"\\"\\\\\\/\\u00e9"') ],
              [ 'a pair of surrogates',
                record(endUser => '"\\ud83d\\ude00"') ],
              [ 'an escaped name', '{"\\u0069d":"x","endUser":"u",'
                . '"backendUser":"a","pathPrefixes":["/"]}' ],
              [ '64 prefixes', record(pathPrefixes => '['
                . join(',', map { "\"/$_\"" } 1 .. 64) . ']') ],
              [ 'the longest prefix', record(pathPrefixes => '["/'
                . 'x' x 255 . '"]') ],
              [ 'what the API adds', record(agents => '[1,{"a":[]}]',
                lastSeen => 'null', waiting => '-1e99') ])
{
    my ($what, $body) = @$case;
    my $m = post($body);

    is($m->{status}, 200, $what) or diag($m->{body});
    ok($m->{doc}, 'the answer is JSON');
}

is($t->get('/api/backends/x')->{status}, 200, 'written');

my $m = post(record(endUser => "\"\\ud83d\\ude00\""));
is($m->{doc}{endUser}, "\x{1f600}", 'a user as it was written');


# bytes at random, and JSON with bytes changed: an answer for each

srand(4711);
my $good = record();
my %status;

for (1 .. 500) {
    my $body = $good;

    substr($body, int(rand(length $body)), int(rand(3)),
           join('', map { chr(int(rand(256))) } 1 .. int(rand(3))))
        for 1 .. 1 + int(rand(3));
    $status{post($body)->{status}}++;
}

is(join(' ', sort keys %status), '200 400', 'changed at random: 200 or 400');
ok(eval { JSON::PP->new->utf8->decode($t->get('/api/backends')->{body}) },
   'the list is JSON');

$t->done;
