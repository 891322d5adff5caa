# Measures the loop that moves rows, from one socket to the other, against two
# ends that do nothing but send and take in: what it takes of a processor, by
# the size of rows. Shows by perf, where that is there, what takes the time.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $gigabytes = $ENV{BENCH_GB} || 2;

# One end of a COPY, as a server of which just enough is there for libpq: it
# sends rows of so many bytes, or takes in what comes; returns its port.
sub end_of_copy
{
	my ($row) = @_;
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1, ReuseAddr => 1, Timeout => 60) or die $!;
	my $pid = fork() // die $!;
	return $listen->sockport if $pid;

	# nobody comes where the other end could not be reached
	my $c = $listen->accept // POSIX::_exit(1);
	my $message = sub { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; };
	my $read = sub {
		my ($n) = @_;
		my $buf = '';
		while (length $buf < $n) { sysread($c, $buf, $n - length $buf, length $buf) or POSIX::_exit(0) }
		return $buf;
	};
	my $send = sub { my ($bytes) = @_; while (length $bytes) { my $n = syswrite($c, $bytes) // POSIX::_exit(0); substr($bytes, 0, $n, '') } };
	my $ready = $message->('Z', 'I');
	my $per_block = int(1_000_000 / $row);
	my $blocks = int($gigabytes * 1000 + 1);
	my $copied = $message->('C', 'COPY ' . $per_block * $blocks . "\0") . $ready;

	$read->(unpack('N', $read->(4)) - 4);
	my %says = (server_version => '15.0', server_encoding => 'UTF8', client_encoding => 'UTF8', in_hot_standby => 'off',
		default_transaction_read_only => 'off');
	$send->($message->('R', pack 'N', 0) . join('', map { $message->('S', "$_\0$says{$_}\0") } sort keys %says) . $ready);
	while (1)
	{
		my $type = $read->(1);
		my $sql = $read->(unpack('N', $read->(4)) - 4);
		POSIX::_exit(0) if $type eq 'X';
		if ($sql =~ /^COPY OUT/)
		{
			my $block = $message->('d', 'x' x $row) x $per_block;
			$send->($message->('H', pack 'Cn', 1, 0));
			for (1 .. $blocks)
			{
				for (my $at = 0; $at < length $block;) { $at += syswrite($c, $block, length($block) - $at, $at) // POSIX::_exit(0) }
			}
			$send->($message->('c', '') . $copied);
		}
		elsif ($sql =~ /^COPY IN/)
		{
			my ($buf, $end) = ('', '');
			$send->($message->('G', pack 'Cn', 1, 0));
			# the data are all x, and so aren't taken for the end
			until ($end eq "c\0\0\0\x04") { sysread($c, $buf, 1_048_576) or POSIX::_exit(0); $end = substr($end . substr($buf, -5), -5) }
			$send->($copied);
		}
		elsif ($sql =~ /repeat\(' ', (\d+)\)/)
		{
			$send->($message->('T', pack 'nZ*NnNnNn', 1, 'repeat', 0, 0, 25, -1, -1, 0)
				  . $message->('D', pack 'nN/a*', 1, ' ' x $1) . $message->('C', "SELECT 1\0") . $ready);
		}
		else { $send->($message->('C', "SELECT 1\0") . $ready) }
	}
}

my $worker = "$FindBin::RealBin/../../worker";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = PostgreSQL::Test::Cluster->new('pipe');
$node->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$node->start;
# the headers are where the server was copied from
my %path = map { my $o = $_; $o => $node->config_data("--$o") =~ s{^\Q$ENV{ZODAN_SCRATCH}\E/servers/[^/]+}{}r } qw(includedir-server includedir libdir);
system('cc', '-shared', '-fPIC', '-O2', '-Wno-unused-parameter', "-I$path{'includedir-server'}", "-I$path{includedir}", "-I$worker",
	'-o', "$dir/pipe_bench.so", "$FindBin::RealBin/pipe.c", (map { "$worker/$_.c" } qw(base/settings base/wait base/dsn remote/session remote/connection remote/remote remote/query remote/pipe)),
	"-L$path{libdir}", '-lpq') == 0 or die 'cc failed';
$node->safe_psql('postgres', "CREATE FUNCTION pipe_bench(text, text, OUT bytes bigint, OUT seconds float8, OUT cpu float8) AS '$dir/pipe_bench' LANGUAGE C STRICT");

for my $row (50, 200, 1000, 8000)
{
	my ($from, $to) = (end_of_copy($row), end_of_copy($row));
	my $session = $node->background_psql('postgres');
	my ($pid) = $session->query_safe('SELECT pg_backend_pid()') =~ /(\d+)/;
	my $perf = $row == 200 && `perf --version 2>/dev/null` ? fork() // die $! : undef;
	exec('perf', 'record', '-q', '-e', 'cpu-clock', '-F', '999', '-o', "$dir/perf.data", '-p', $pid) if defined $perf && $perf == 0;
	my ($bytes, $seconds, $cpu) = split /\|/, $session->query_safe("SELECT * FROM pipe_bench('host=127.0.0.1 port=$from sslmode=disable gssencmode=disable', 'host=127.0.0.1 port=$to sslmode=disable gssencmode=disable')");
	if ($perf)
	{
		kill 'INT', $perf;
		waitpid $perf, 0;
	}
	$session->quit;
	diag(sprintf 'rows of %d bytes: %.2f GB in %.2f s, %.2f GB for each second of a processor (bound: 1.5)', $row, $bytes / 1e9, $seconds, $bytes / 1e9 / $cpu);
	diag(grep { /%/ && !/^#/ } (split /^/, `perf report -f -i $dir/perf.data --no-children -g none --sort sym --stdio 2>/dev/null`)[0 .. 22]) if $perf;
	cmp_ok($bytes, '>=', $gigabytes * 1e9, "rows of $row bytes went through");
}
$node->stop;
done_testing();
