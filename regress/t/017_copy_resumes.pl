# A copy of many tables that is broken off at 60%: by SIGKILL of the process
# that runs the request, by a crash of the source, by a crash of the new node.
# Each time the tables that had been copied stay as they are, less than 55% of
# the rows are copied again, and all nodes end with the same rows although they
# were written all the time. Protects from a copy that starts from zero, and
# from rows that differ because tables were copied at different times.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

use constant TABLES => 40;
use constant BEFORE => 20;    # as many tables at least are copied when the crash comes

my $structure = $ZodanCluster::gate;
$structure .= "CREATE TABLE t$_ (id int PRIMARY KEY, n int, filler text);" for 1 .. TABLES;
my $c = ZodanCluster->new(
	nodes => 2,
	conf => "restart_after_crash = on\nlog_statement = none\n",
	setup => $structure . q{
		CREATE TABLE held1 (id int PRIMARY KEY, g gated, filler text);
		CREATE TABLE held2 (id int PRIMARY KEY, g gated, filler text);
		CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES t1, late int NOT NULL REFERENCES t40);
		CREATE TABLE emptied (id int PRIMARY KEY, filler text);
		CREATE TABLE with_it (id int PRIMARY KEY REFERENCES emptied);
	});

# tables are copied from the largest to the smallest, two at a time: the copy can be stopped where it gets to the held ones
my $rows = join '', map { "INSERT INTO t$_ SELECT i, 0, repeat('x', 400) FROM generate_series(1, " . ($_ <= BEFORE ? 1300 : 700) . ') i;' } 1 .. TABLES;
$c->psql('n1', $rows . q{
	INSERT INTO held1 SELECT i, i, repeat('x', 400) FROM generate_series(1, 1000) i;
	INSERT INTO held2 SELECT * FROM held1;
	INSERT INTO child SELECT i, i, i FROM generate_series(1, 500) i;
	INSERT INTO emptied SELECT i, repeat('x', 400) FROM generate_series(1, 1500) i;
	INSERT INTO with_it SELECT i FROM generate_series(1, 10) i;
});
$c->settle;
$c->add_server('c', conf => "zodan.copy_part_size = 1MB\n");

# each node writes its own rows: those whose id has the node's remainder
sub writer
{
	my ($name, $k) = @_;
	my $script = "\\set i random(0, 250)\n\\set new random(1, 1000000)\nBEGIN;\n";
	$script .= "UPDATE t$_ SET n = n + 1 WHERE id = :i * 2 + $k;\n" for 1, 2, BEFORE + 2, TABLES - 1;
	$script .= "INSERT INTO t$_ VALUES (10000000 * ($k + 1) + :new, 0) ON CONFLICT (id) DO UPDATE SET n = t$_.n + 1;\n" for 1, TABLES;
	$script .= "INSERT INTO child SELECT 10000000 * ($k + 1) + :new, 10000000 * ($k + 1) + :new, 10000000 * ($k + 1) + :new ON CONFLICT DO NOTHING;\n";
	$script .= "DELETE FROM child WHERE id = 10000000 * ($k + 1) + :new AND :new % 3 = 0;\nCOMMIT;\n";
	return $c->start_writer($name, $script, '--client=2', '--rate=30');
}

# what the tables that are copied say of that
sub copied
{
	my ($id, @tables) = @_;
	my $only = @tables ? ' AND relname IN (' . join(', ', map { "'$_'" } @tables) . ')' : '';
	return $c->queue('c', "SELECT relname, snapshot, rows_copied, finished_at FROM zodan.copy_tables"
		  . " WHERE request_id = $id AND state = 'copied'$only ORDER BY relname");
}

# a crash of a node, and its start
sub restart
{
	my ($name, $id) = @_;
	$c->server($name)->stop('immediate');
	$c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id");
	$c->server($name)->start;
	return;
}

# a join whose copy is broken off in the middle by $crash, which gets the request's id and the gate
sub broken_copy
{
	my ($new, $how, $crash, @source) = @_;
	$c->add_server($new);
	my @writers = (writer('n1', 0), writer('n2', 1));
	$c->wait_writing(@writers);
	my $gate = $c->hold_gate($new);
	my $id = $c->request(new => $new, on => 'c', @source, copy_jobs => 2);
	ok($c->wait_queue("SELECT string_agg(relname, ' ' ORDER BY relname) = 'held1 held2' FROM zodan.copy_tables WHERE request_id = $id AND state = 'copying'"),
		"$how: two tables are on their way");
	my $before = copied($id);
	my @before = map { /^(\w+)/ } split /\n/, $before;
	cmp_ok(scalar @before, '>=', BEFORE, scalar(@before) . ' have been copied');
	my $filenodes = join ', ', map { "pg_relation_filenode('$_')" } grep { $_ ne 'emptied' } @before;
	my $at = $c->psql($new, "SELECT $filenodes");
	my $attempt = $c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id");

	# both at once, one copied before that and one after; pglogical empties one after the other, which their key refuses
	$c->psql('n1', 'TRUNCATE emptied, with_it; INSERT INTO emptied VALUES (1), (2); INSERT INTO with_it VALUES (2)')
	  if $new eq 'n3' && $ZodanCluster::engine eq 'spock';
	my $crashed = $c->queue('c', 'SELECT clock_timestamp()');
	$crash->($id, $gate);
	ok($c->wait_queue("SELECT attempt > $attempt FROM zodan.status WHERE request_id = $id"), 'another attempt');
	$gate->quit if $gate->{run}->pumpable;
	is($c->wait_for($id), 'done', 'the request ends done');
	push @{ $c->{order} }, $new;

	is(copied($id, @before), $before, 'the tables that were copied were not copied again');
	is($c->psql($new, "SELECT $filenodes"), $at, 'nor touched');
	my $percent = $c->queue('c', "SELECT round(100.0 * sum(rows_copied) FILTER (WHERE finished_at > '$crashed') / sum(rows_copied), 1)"
		  . " FROM zodan.copy_tables WHERE request_id = $id");
	diag("$ZodanCluster::engine: $how: $percent% of the rows were copied afterwards");
	cmp_ok($percent, '<', 55, 'less than 55% of the rows were copied afterwards');
	is($c->queue('c', "SELECT count(*) = " . (TABLES + 5) . ", bool_and(state = 'copied'), count(DISTINCT snapshot) > 1 FROM zodan.copy_tables WHERE request_id = $id"),
		't|t|t', 'all are there, under more than one snapshot');
	eval { $c->stop_writer($_) } for @writers;
	$c->settle;
	is($c->differences, '', 'rows are the same');
	is($c->psql($new, 'SELECT count(*) FROM child c WHERE NOT EXISTS (SELECT FROM t1 WHERE id = c.parent) OR NOT EXISTS (SELECT FROM t40 WHERE id = c.late)'),
		'0', 'foreign keys hold');
	is($c->psql($new, "SELECT count(*), bool_and(convalidated) FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('child'::regclass, 'with_it'::regclass)"), '3|t', 'and are checked');
	is($c->leftovers($id), '', 'nothing is left over');
	return;
}

broken_copy('n3', 'the runner is killed', sub {
	my ($id) = @_;
	my $pid = $c->queue('c', "SELECT worker_pid FROM zodan.status WHERE request_id = $id");
	ok($pid && ZodanLogs::kill_process($pid), "killed the runner $pid");
});

broken_copy('n4', 'the new node crashes', sub {
	my ($id, $gate) = @_;
	restart('n4', $id);
	$gate->{run}->kill_kill;
});

# a server extends a table by more than it needs, which would change their order by size
$c->psql('n4', 'VACUUM ' . join ', ', 'held1', 'held2', map { "t$_" } 1 .. TABLES);
broken_copy('n5', 'the source crashes', sub {
	my ($id) = @_;
	restart('n4', $id);
}, src => 'n4');

$c->stop;
done_testing();
