# Measures a comparison of all nodes' rows: its time against one aggregate by hand (count
# and sum of a 64-bit hash of the row's text) on all nodes side by side; what it costs
# the writers; the memory of its process. Prints figures and ratios; nothing is
# asserted, since the machine's noise is in all of them.
#
#   make bench-verify
#   ROWS        of the larger table; there is another one with half of them, and wider
#   ROUNDS      of each
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IPC::Run ();
use List::Util qw(max min sum);
use Time::HiRes qw(time);
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $rows = $ENV{ROWS} || 1_000_000;
my $rounds = $ENV{ROUNDS} || 3;
my $c = ZodanCluster->new(nodes => 2, conf => "autovacuum = off\nlog_statement = none\nmax_wal_size = 8GB\nmax_parallel_workers_per_gather = 0\n", setup => q{
	CREATE TABLE narrow (id int PRIMARY KEY, a int, b bigint, c timestamptz);
	CREATE TABLE wide (id bigint PRIMARY KEY, name text, filler text, x float8);
	CREATE TABLE hot (id int PRIMARY KEY, n int);
});
$c->psql('n1', $_) for "INSERT INTO narrow SELECT i, i % 100, i * 7, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, $rows) i",
  "INSERT INTO wide SELECT i, md5(i::text), repeat(md5(i::text), 6), i / 7.0 FROM generate_series(1, $rows / 2) i",
  'INSERT INTO hot SELECT i, 0 FROM generate_series(1, 1000) i';
$c->settle;
$c->psql($_, 'VACUUM ANALYZE') for qw(n1 n2);
$c->add_server('c');

sub seconds_by_hand
{
	my $sql = join ' ', map { "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM $_ t;" } qw(narrow wide hot);
	my $begin = time;
	my @out;
	my @runs = map {
		push @out, '';
		IPC::Run::start([ $c->server($_)->config_data('--bindir') . '/psql', '-XAtq', '-c', $sql, $c->dsn($_) ], '<', \undef, '>', \$out[-1])
	} qw(n1 n2);
	$_->finish || die for @runs;
	return time - $begin;
}

my @memory;

# waits in one session, for starting a psql again and again would be measured, too
sub verify
{
	my $id = $c->queue('c', 'SELECT zodan.verify(' . join(', ', map { ZodanCluster::q_($_) } 'n1', $c->dsn('n1')) . ", verify_timeout => '10 s')");
	my $out = '';
	my $wait = IPC::Run::start([ $c->server('c')->config_data('--bindir') . '/psql', '-XAtq', '-c', "CALL zodan.wait($id)", $c->server('c')->connstr('postgres') ], '<', \undef, '>', \$out);
	my $pid = $c->queue('c', "SELECT coalesce(worker_pid, 0) FROM zodan.status WHERE request_id = $id");
	while ($wait->pumpable)
	{
		if ($pid && open my $file, '<', "/proc/$pid/smaps_rollup")
		{
			push @memory, map { /^Anonymous:\s+(\d+)/ ? $1 / 1024 : () } <$file>;
		}
		$wait->pump_nb;
		ZodanCluster::usleep(100_000);
	}
	$wait->finish;
	diag("the request is $out") if $out ne "done\n";
	return $c->queue('c', "SELECT extract(epoch FROM finished_at - started_at) FROM zodan.status WHERE request_id = $id");
}

my (@hand, @own);
for (1 .. $rounds)
{
	push @hand, seconds_by_hand();
	push @own, verify();
}
diag(sprintf 'by hand %s s, verify %s s: ratio of the least %.2f', join(' ', map { sprintf '%.2f', $_ } @hand), join(' ', map { sprintf '%.2f', $_ } @own), min(@own) / min(@hand));
diag(sprintf 'memory of the process %.1f to %.1f MB', min(@memory), max(@memory));

# ---------- writers ----------

my $script = q{
	\set id random(1, 1000)
	UPDATE hot SET n = n + 1 WHERE id = :id;
};

sub rate
{
	my ($seconds) = @_;
	my @writers = map { $c->start_writer($_, $script, '--rate', '500') } qw(n1 n2);
	$c->wait_writing(@writers);
	my $verified = 0;
	my $end = time + $seconds;
	while (time < $end)
	{
		$verified += $_[1] ? verify() : 0;
		ZodanCluster::usleep(100_000);
	}
	my @rates = map { my @r = $c->stop_writer($_); sum(@r) / @r } @writers;
	return (sum(@rates), $verified);
}

my ($alone) = rate(10);
my ($beside, $verified) = rate(10, 1);
diag(sprintf '1,000 writes/s asked for: %.0f/s alone, %.0f/s while rows were compared for %.1f s: ratio %.2f', $alone, $beside, $verified, $beside / $alone);
ok(1, 'measured');
done_testing();
