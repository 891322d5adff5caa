# Measures joins: fixed cost, how it grows with the cluster, what it costs the
# writers, and what an idle launcher takes. Prints figures and ratios; nothing
# is asserted, since the machine's noise is in all of them.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(max min sum);
use Time::HiRes qw(time);
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $rounds = $ENV{BENCH_ROUNDS} || 3;

# as servers are that nobody tests
my $conf = "autovacuum_naptime = 1min\nlog_statement = none\n";
my $mb = 'CREATE TABLE item (id int PRIMARY KEY, name text, filler text);
	INSERT INTO item SELECT i, md5(i::text), repeat(md5(i::text), 3) FROM generate_series(1, 6000) i';

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ @sorted / 2 ];
}

# seconds from insert to done, of the cluster's last request
sub seconds
{
	my ($c) = @_;
	return $c->queue($c->{coordinator},
		'SELECT extract(epoch FROM finished_at - requested_at) FROM zodan.status LIMIT 1');
}

# Waits until nothing is left of the join before: the engine's manager keeps a
# lock that the next one needs for up to a second after it has started a worker.
sub rest
{
	my ($c, @nodes) = @_;
	for my $name (@nodes)
	{
		$c->server($name)->poll_query_until($c->{dbname}, "SELECT NOT EXISTS (SELECT FROM pg_locks
			WHERE relation = '$ZodanCluster::engine.local_node'::regclass AND mode = 'ShareUpdateExclusiveLock')")
		  or die "node $name does not come to rest";
	}
	return;
}

# 1 MB on the first node; joins one node after the other up to $to nodes, and
# returns the seconds that each took, by the number of nodes before
sub grow
{
	my ($to) = @_;
	my $c = ZodanCluster->new(nodes => 1, setup => $mb, conf => $conf);
	my %took;
	for my $n (2 .. $to)
	{
		$c->add_server("n$n");
		rest($c, map { "n$_" } 1 .. $n - 1);
		$c->join_node("n$n") eq 'done' or die 'the join failed';
		$took{ $n - 1 } = seconds($c);
	}
	$c->stop;
	return \%took;
}

my %took;
for my $round (1 .. $rounds)
{
	my $result = grow(8);
	push @{ $took{$_} }, $result->{$_} for keys %$result;
}
diag('seconds from INSERT to done, 1 MB, no writers, by nodes before the join (median of ' . $rounds . '):');
diag(sprintf '  %d nodes: %.2f s  (%s)', $_, median(@{ $took{$_} }), join ', ', map { sprintf '%.2f', $_ } @{ $took{$_} })
  for sort { $a <=> $b } keys %took;
diag(sprintf 'fixed cost of a fourth node: %.2f s (bound: 3 s)', median(@{ $took{3} }));
diag(sprintf 'growth from a cluster of 2 to one of 7: %.2f x (bound: 1.5 x)', median(@{ $took{7} }) / median(@{ $took{2} }));

# Writers on three nodes, first as fast as they can, then at a third of that.
my $c = ZodanCluster->new(nodes => 3, conf => $conf, setup => 'CREATE TABLE account (id bigint PRIMARY KEY, n bigint, filler text)');
$c->psql('n1', "INSERT INTO account SELECT i, 0, repeat('x', 100) FROM generate_series(1, 1500000) i");
$c->settle;
$c->add_server('n4');

# one node's part of the keys; SELECTs none, since it's writes that compete
sub script
{
	my ($n) = @_;
	return "\\set id random(1, 500000)\nUPDATE account SET n = n + 1 WHERE id = :id + 500000 * ($n - 1);\n";
}

# runs writers for some seconds or until $until returns; their log, as pairs of
# the time of the end and the latency in ms
sub writers
{
	my ($rate, $seconds, $during) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my @writers = map {
		$c->start_writer("n$_", script($_), '--client=2', '--jobs=1', "--time=$seconds", '--log', "--log-prefix=$dir/w$_",
			$rate ? ('--rate=' . $rate / 3) : ())
	} 1 .. 3;
	my @window = (time);
	$during->() if $during;
	@window = (time - 0) unless $during;
	my $from = $window[0];
	my $to = time;
	eval { $_->{run}->finish } for @writers;
	my @log;
	for my $file (glob "$dir/w*")
	{
		open my $in, '<', $file or die $!;
		while (<$in>)
		{
			my @f = split;
			push @log, [ $f[4] + $f[5] / 1e6, $f[2] / 1000 ];
		}
		close $in;
	}
	@log = sort { $a->[0] <=> $b->[0] } @log;
	# without the first and the last second, which starting and ending take
	($from, $to) = ($log[0][0] + 1, $log[-1][0] - 1) unless $during;
	my @in = grep { $_->[0] >= $from && $_->[0] <= $to } @log;
	my @latency = sort { $a <=> $b } map { $_->[1] } @in;
	return (@in / ($to - $from), $latency[ @latency * 0.99 ], $to - $from);
}

my ($most) = writers(0, 15);
my ($before, $p99_before) = writers($most / 3, 20);
my ($during, $p99_during, $join) = writers($most / 3, 60, sub { $c->join_node('n4') });
diag(sprintf 'writers on three nodes: %.0f transactions/s at most, held at %.0f', $most, $most / 3);
diag(sprintf '  alone: %.0f/s, p99 %.1f ms; during a join of %.1f s (1.5 million rows): %.0f/s, p99 %.1f ms',
	$before, $p99_before, $join, $during, $p99_during);
diag(sprintf 'rate kept during the join: %.1f %% (bound: 95 %%)', 100 * $during / ($most / 3));
$c->settle;
is($c->differences('n1', 'n4'), '', 'rows are equal after the benchmark');

# The launcher of a server with nothing to do, at the default poll interval.
$c->server('n1')->append_conf('postgresql.conf', "zodan.poll_interval = '5s'");
$c->server('n1')->reload;
my $pid = $c->queue('n1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'zodan_bgw launcher'");

# seconds that it has run; its times in "stat" are whole ticks, which are given to whoever runs when one ends
sub cpu_seconds
{
	open my $in, '<', "/proc/$pid/schedstat" or die $!;
	my ($ns) = split ' ', <$in>;
	return $ns / 1e9;
}
my ($cpu, $started) = (cpu_seconds(), time);
$c->psql('n1', 'SELECT pg_sleep(60)');
diag(sprintf 'idle launcher: %.3f %% of a core (bound: 0.1 %%)', 100 * (cpu_seconds() - $cpu) / (time - $started));
$c->stop;
done_testing();
