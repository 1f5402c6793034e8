package Measure;

# How things are measured: wrk and curl for the load, /proc for the rest.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use FindBin;
use IO::Select;

use InvertingProxy::Test::Client;
use InvertingProxy::Test::Process;
use InvertingProxy::Test::Util qw(slurp spew now nap run_command waitfor);

our @EXPORT_OK = qw(wrk transfer slow_clients median quantile cpu rss pss);


# Nanoseconds of CPU that these processes have used, with all their threads:
# the scheduler's own count, or clock ticks where it is not to be had.

sub cpu {
    my (@pids) = @_;

    my $sum = 0;

    for my $pid (@pids) {
        for my $file (glob("/proc/$pid/task/*/schedstat")) {
            my ($ns) = slurp($file) =~ /^(\d+)/;
            $sum += $ns if $ns;
        }

        if (!-e "/proc/$pid/schedstat") {
            my $stat = InvertingProxy::Test::Process::proc_stat($pid);
            $sum += ($stat->{utime} + $stat->{stime}) * 1e7 if $stat;
        }
    }

    return $sum;
}


# Resident memory, pages of the zone included.

sub rss {
    my (@pids) = @_;

    my $sum = 0;

    for my $pid (@pids) {
        my ($kb) = slurp("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m;
        $sum += $kb * 1024 if $kb;
    }

    return $sum;
}


# Resident memory of which each process has its part of what is shared: all of
# it ("Pss"), or only shared memory ("Pss_Shmem").

sub pss {
    my ($what, @pids) = @_;

    my $sum = 0;

    for my $pid (@pids) {
        my ($kb) = slurp("/proc/$pid/smaps_rollup") =~ /^$what:\s+(\d+)/m
            or croak "the memory of process $pid is not to be had";
        $sum += $kb * 1024;
    }

    return $sum;
}


sub quantile {
    my ($q, @values) = @_;

    @values = sort { $a <=> $b } @values;
    return $values[int($q * $#values + 0.5)];
}


sub median {
    my (@values) = @_;
    return quantile(0.5, @values);
}


sub wrk {
    my ($system, $connections, $seconds, $origin, %opt) = @_;

    my $script = $opt{script} || 'wrk.lua';

    my @pids = $system->{processes}->();
    my @origin = $origin ? $origin->{processes}->() : ();
    my ($before, $origin_before) = (cpu(@pids), cpu(@origin));

    my $r = run_command([ 'wrk', '-t1', "-c$connections", "-d${seconds}s",
                          '-s', "$FindBin::Bin/$script",
                          "http://127.0.0.1:$system->{port}/",
                          @{$opt{args} || []} ],
                        timeout => $seconds + 30);

    my ($requests, $us, $p50, $p99, $errors) =
        $r->{out} =~ /^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$/m
        or croak "wrk: $r->{out}$r->{err}";

    croak "$system->{name}: wrk got no response" if $requests == 0;

    return { requests => $requests,
             rate => $requests / $us * 1e6, p50 => $p50, p99 => $p99,
             cpu => (cpu(@pids) - $before) / 1e3 / $requests,
             origin => (cpu(@origin) - $origin_before) / 1e3 / $requests,
             rss => rss(@pids), errors => $errors };
}


# One large body, one way: $file is one of the origin's.

sub transfer {
    my ($system, $way, $systems, $file, $length) = @_;

    my $base = "http://127.0.0.1:$system->{port}";
    my @what = $way eq 'download'
               ? ('-o', '/dev/null', "$base/$file")
               : ('-o', '/dev/null', '-H', 'Expect:', '-T',
                  "$systems->{origin}{nginx}[0]{dir}/$file",
                  "$base/upload");

    my @pids = $system->{processes}->();
    my $before = cpu(@pids);

    my $r = run_command([ 'curl', '-sS', '--noproxy', '*', '-w',
                          '%{http_code} %{time_total} %{size_download} '
                          . '%{size_upload}', @what ], timeout => 120);

    my ($status, $seconds, $down, $up) = split(' ', $r->{out});
    my $bytes = $way eq 'download' ? $down : $up;

    if ($r->{status} != 0 || $status != 200 || $bytes != $length) {
        croak "$system->{name}, $way: $r->{out} $r->{err}";
    }

    return { rate => $bytes / $seconds, cpu => cpu(@pids) - $before,
             rss => rss(@pids) };
}


# Clients that read 100 kB/s each, in one process; what the system's memory and
# a small request come to beside them.  At first everything goes at full speed,
# into the sockets' buffers (megabytes for each client, on loopback), so the
# latency is also taken without the first two seconds ("later").

sub slow_clients {
    my ($rig, $system, $file, %opt) = @_;

    my @pids = $system->{processes}->();
    my $small = InvertingProxy::Test::Client->new(port => $system->{port},
                                                  timeout => 30);
    $small->get('/') for 1 .. 100;

    my $before = rss(@pids);
    my $max = $before;
    my $count = "$rig->{dir}/slow-clients";
    unlink($count);

    my $readers = InvertingProxy::Test::Process->fork_code(
        name => 'slow clients', err => "$count.err", code => sub {
            spew($count, read_slowly($system->{port}, $file, %opt));
        });

    my (@took, @later, $failed);
    my $files = 0;
    my $end = now() + $opt{seconds};
    my $filled = now() + 2;

    while (now() < $end) {
        my $start = now();
        my $m = $small->get('/');
        push @took, now() - $start;
        push @later, $took[-1] if $start > $filled;

        if (!$m || $m->{status} != 200) {
            $failed = 'the small request failed: ' . ($m ? $m->{start} : 'cut');
            last;
        }

        # A look at /proc costs more than the request: not each time.
        if (@took % 20 == 0) {
            my $rss = rss(@pids);
            $max = $rss if $rss > $max;
            my $n = temporary_files($system, @pids);
            $files = $n if $n > $files;
        }

        my $left = 0.01 - (now() - $start);
        nap($left) if $left > 0;
    }

    $readers->wait(15);
    $readers->finish;

    my $read = slurp($count);
    my $expected = $opt{clients} * $opt{seconds} * 100e3;

    if ($read eq '' || $read < $expected * 0.8) {
        $failed ||= sprintf('the slow clients have read %.1f of %.1f MB. %s',
                            ($read || 0) / 1e6, $expected / 1e6,
                            slurp("$count.err"));
    }

    return { before => $before, growth => $max - $before, read => $read || 0,
             p50 => quantile(0.5, @took), p99 => quantile(0.99, @took),
             later => @later ? quantile(0.99, @later) : 0,
             files => $files, failed => $failed };
}


# 100 kB/s each, ten times a second and not all at the same moment: they are not
# one client.  Returns how many bytes all have read.

sub read_slowly {
    my ($port, $file, %opt) = @_;

    my @clients;

    for (1 .. $opt{clients}) {
        my $c = InvertingProxy::Test::Client->new(port => $port);
        $c->request('GET', $file);
        push @clients, $c;
    }

    my $start = now();
    my @read = (0) x @clients;
    my $step = 0.1 / @clients;

    for (my $turn = 0; $turn * $step < $opt{seconds}; $turn++) {
        my $i = $turn % @clients;
        my $fh = $clients[$i]->fh;
        my $due = (now() - $start) * 100e3;

        # What has come by now; a client without data does not stop others.
        while ($read[$i] < $due && IO::Select->new($fh)->can_read(0)) {
            my $want = $due - $read[$i];
            my $n = sysread($fh, my $data, $want < 10000 ? $want + 1 : 10000);
            die "client $i: the response was cut\n" if !$n;
            $read[$i] += $n;
        }

        my $left = $turn * $step - (now() - $start);
        nap($left) if $left > 0;
    }

    my $sum = 0;
    $sum += $_ for @read;

    $_->close for @clients;

    return $sum;
}


# nginx unlinks them at once: they show as deleted descriptors, and in the log.

sub temporary_files {
    my ($system, @pids) = @_;

    my $files = 0;

    for my $pid (@pids) {
        for my $fd (glob("/proc/$pid/fd/*")) {
            my $to = readlink($fd);
            next if !defined $to || $to =~ m{^(?:/dev/|/memfd:|/SYSV|anon_inode)};
            $files++ if $to =~ / \(deleted\)$/;
        }
    }

    for my $nginx (@{$system->{nginx}}) {
        $files++ if slurp($nginx->{error_log}) =~ /buffered to a temporary file/;
    }

    return $files;
}


1;
