# While nodes join, servers die: the coordinator's by SIGKILL of its postmaster,
# the source, a peer and the new node by an immediate stop. Each is started again at
# once, as an operating system would do. Every request ends done without
# anybody's help, rows are the same, and nothing is left that a join without a
# fault wouldn't leave. Protects from a state that only one process or one
# server knew.
#
# The phases are those of zodan.phases(). Each victim dies at the beginning of
# every third of them; with ZODAN_FAULTS=all at every point of all of them.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $all = ($ENV{ZODAN_FAULTS} || '') eq 'all';
my $c = ZodanCluster->new(nodes => 2, setup => $ZodanLoad::family);
$c->add_server('c');
my $directory = $c->server('c')->data_dir . '/zodan_failpoints';

for my $name (qw(n1 n2))
{
	my $k = substr($name, 1) - 1;
	$c->keep_writing($name, ZodanLoad::family_script($k), '--client=1', '--rate=50');
}
$c->add_server('n3');
is($c->join_node('n3', on => 'c'), 'done', 'a join without a fault');

my $kinds = $c->kinds('c', 1);
my %phase_no = map { split /\|/ } split /\n/, $c->queue('c', 'SELECT phase, phase_no FROM zodan.phases()');

my $turn = 0;
for my $victim (qw(c n1 n2 new))
{
	my $new = 'n' . (4 + $turn);
	my $dies = $victim eq 'new' ? $new : $victim;
	my $died = 0;
	my $id;
	my $state;

	$c->add_server($new);
	unlink glob "$directory/*";
	$c->failpoints('c', $all ? 'wait %' : 'wait %:begin');
	$id = $c->request(new => $new, on => 'c');
	# bounded by the time that a test may take
	while (1)
	{
		$state = eval { $c->queue('c', "SELECT state FROM zodan.status WHERE request_id = $id") } // '';
		last if $state =~ /^(done|failed|cancelled)$/;
		# a point is reached when its file is there, and let go of when it's empty no longer
		for my $file (grep { -z $_ } glob "$directory/*")
		{
			my ($phase) = $file =~ m{/(\w+):[^/]*$};
			if ($all || ($phase_no{$phase} + $turn) % 3 == 0)
			{
				$c->fault($dies, $victim eq 'c' ? 'kill' : 'immediate');
				$died++;
			}
			PostgreSQL::Test::Utils::append_to_file($file, 'gone on');
		}
		ZodanCluster::usleep(50_000);
	}
	is($state, 'done', "$victim dies: the request ends done, without help")
	  or diag($c->queue('c', "SELECT phase, detail, last_error FROM zodan.status WHERE request_id = $id") . "\n" . $c->discarded);
	push @{ $c->{order} }, $new if $state eq 'done';
	$c->failpoints('c', '');
	cmp_ok($died, '>=', 4, 'it died often enough');
	diag(sprintf '%s: %s died %d times, %s attempts', $ZodanCluster::engine, $victim, $died,
		$c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id"));
	is($c->kinds('c', $id), $kinds, 'the same things were made, and undone, as without a fault');
	is($c->leftovers($id), '', 'nothing is left over');
	$turn++;
}
ok($c->end_writing($_), "$_ is written") for qw(n1 n2);
$c->settle;
is($c->differences, '', 'rows are the same');
my @names = @{ $c->{order} };
$c->psql($_, 'INSERT INTO item VALUES (-' . substr($_, 1) . ')') for @names;
$c->settle;
is($c->psql('n1', 'SELECT count(*) FROM item WHERE id < 0'), scalar @names, 'a row of each node arrives');
is($c->differences, '', 'everywhere');
done_testing();
