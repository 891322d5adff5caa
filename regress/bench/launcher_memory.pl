# A launcher lives for years: does it grow with the requests that it has served?
# Files 1,000 that fail at once, their nodes being out of reach, and prints its
# memory after the first 100 and after all. What a session's own caches take in
# the first requests isn't growth.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Time::HiRes qw(time);
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 1);
my $n1 = $c->server('n1');
my $pid = $c->queue('n1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'zodan_bgw launcher'");

# files so many requests and waits until all have ended
sub serve
{
	my ($requests) = @_;
	$c->queue('n1', "SELECT count(zodan.check('a', 'host=127.0.0.1 port=1', 'b', 'host=127.0.0.1 port=1')) FROM generate_series(1, $requests)");
	$c->wait_queue("SELECT count(*) = 0 FROM zodan.status WHERE state <> 'failed'", 'n1') or die 'requests do not end';
	return;
}

# kB that are resident and the process's own, and bytes in memory contexts
sub memory
{
	open my $in, '<', "/proc/$pid/status" or die $!;
	my ($resident) = join('', <$in>) =~ /^RssAnon:\s*(\d+) kB/m;
	my $before = -s $n1->logfile;
	$c->queue('n1', "SELECT pg_log_backend_memory_contexts($pid)");
	my $contexts;
	for (1 .. 600)
	{
		my $log = PostgreSQL::Test::Utils::slurp_file($n1->logfile, $before);
		last if ($contexts) = $log =~ /Grand total: (\d+) bytes/;
		Time::HiRes::usleep(50_000);
	}
	return ($resident, $contexts);
}

my @samples;
my $started = time;
for my $hundreds (1 .. 10)
{
	serve(100);
	push @samples, [ memory() ];
	diag(sprintf 'launcher after %4d requests: %d kB of its own, %d bytes in memory contexts', 100 * $hundreds, @{ $samples[-1] });
}
diag(sprintf '1000 requests in %.0f s; growth from 100 to 1000: %d kB, %d bytes in memory contexts (bound: 0)',
	time - $started, map { $samples[-1][$_] - $samples[0][$_] } 0, 1);
is($c->queue('n1', "SELECT count(*), count(DISTINCT worker_pid) FROM zodan.status WHERE state = 'failed'"), '1000|0', 'all have been served');
is($c->queue('n1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'zodan_bgw launcher'"), $pid, 'by one launcher');
$c->stop;
done_testing();
