# The process that runs the request dies, again and again: killed with SIGKILL
# in the middle of the copy, which takes the whole server down with it, and
# ended in each phase where it can be made to wait. Another takes over, the
# request ends done, and the new node has exactly the rows of the others, which
# are written all the time. Protects from rows that are lost or doubled between
# the runner's death and its successor, and from a request that nobody goes on with.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(
	nodes => 2,
	conf => "restart_after_crash = on\n",
	setup => $ZodanCluster::gate . q{
		CREATE TABLE first (id int PRIMARY KEY, n int, filler text);      -- the largest is copied first
		CREATE TABLE base (id int PRIMARY KEY, filler text);
		CREATE TABLE held (g gated, PRIMARY KEY (id)) INHERITS (base);
		CREATE TABLE parent (id int PRIMARY KEY, n int);
		CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent);
	});
$c->psql('n1', q{
	INSERT INTO first SELECT i, 0, repeat('x', 500) FROM generate_series(1, 4000) i;
	INSERT INTO base SELECT i, repeat('x', 400) FROM generate_series(1, 3500) i;
	INSERT INTO held SELECT i, repeat('x', 400), i FROM generate_series(3501, 6500) i;
	INSERT INTO parent SELECT i, 0 FROM generate_series(1, 2000) i;
	INSERT INTO child SELECT i, i FROM generate_series(1, 2000) i;
});
$c->settle;

# each node writes its own rows: those whose id has the node's remainder
sub writer
{
	my ($name, $k) = @_;
	return $c->start_writer($name, qq{
		\\set i random(0, 1999)
		\\set new random(1, 1000000)
		BEGIN;
		UPDATE first SET n = n + 1 WHERE id = :i * 2 + $k;
		UPDATE base SET filler = :new WHERE id = :i * 2 + $k;
		INSERT INTO parent VALUES (10000000 * ($k + 1) + :new, 0) ON CONFLICT (id) DO UPDATE SET n = parent.n + 1;
		INSERT INTO child VALUES (10000000 * ($k + 1) + :new, 10000000 * ($k + 1) + :new) ON CONFLICT DO NOTHING;
		DELETE FROM child WHERE id = 10000000 * ($k + 1) + :new AND :new % 3 = 0;
		COMMIT;
	}, '--client=2', '--rate=200');
}

my $own = $c->add_server('c', conf => "zodan.copy_part_size = 1MB\n");
my $n3 = $c->add_server('n3');

# kills the runner as the out-of-memory killer does
sub kill_runner
{
	my ($id) = @_;
	my $pid = $c->queue($c->{coordinator}, "SELECT worker_pid FROM zodan.status WHERE request_id = $id");
	my $before = $c->queue($c->{coordinator}, 'SELECT pg_postmaster_start_time()');
	ok($pid && ZodanLogs::kill_process($pid), "killed the runner $pid");
	return;
}

sub attempt
{
	my ($id) = @_;
	return $c->queue($c->{coordinator}, "SELECT attempt FROM zodan.status WHERE request_id = $id");
}

# ---------- SIGKILL, the coordinator being a server of its own ----------

my @writers = (writer('n1', 0), writer('n2', 1));
$c->wait_writing(@writers);
my $gate = $c->hold_gate('n3');
my $id = $c->request(new => 'n3', on => 'c', copy_jobs => 1);
$c->wait_gate('n3');
is($c->queue('c', "SELECT string_agg(format('%s %s', relname, state), ', ' ORDER BY relname) FROM zodan.copy_tables WHERE request_id = $id"),
	'base copied, child pending, first copied, held copying, parent pending', 'two tables are copied, one is on its way');
is(attempt($id), '1', 'this is the first attempt');
my $copied = $c->queue('c', "SELECT finished_at, rows_copied, snapshot FROM zodan.copy_tables WHERE request_id = $id AND relname = 'first'");
my $filenode = $c->psql('n3', "SELECT pg_relation_filenode('first')");
for my $n (2, 3)
{
	my $waiting = $c->psql('n3', "SELECT string_agg(pid::text, ' ') FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted");
	kill_runner($id);
	ok($c->wait_queue("SELECT attempt = $n FROM zodan.status WHERE request_id = $id"), "attempt $n");
	# another session stands at the gate
	ok($n3->poll_query_until('inventory', "SELECT count(*) = 1 AND bool_and(pid <> $waiting) FROM pg_locks"
			. " WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"), 'copies again, and alone');
}
$gate->quit;
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n3';
is($c->queue('c', "SELECT finished_at, rows_copied, snapshot FROM zodan.copy_tables WHERE request_id = $id AND relname = 'first'"), $copied,
	'the table that was copied before was not copied again');
is($c->psql('n3', "SELECT pg_relation_filenode('first')"), $filenode, 'nor touched');
is($c->queue('c', "SELECT count(DISTINCT snapshot) > 1, bool_and(state = 'copied') FROM zodan.copy_tables WHERE request_id = $id"), 't|t',
	'the others were, under a later snapshot');
is($c->queue('c', "SELECT count(DISTINCT snapshot) FROM zodan.copy_tables WHERE request_id = $id AND relname IN ('base', 'held')"),
	$ZodanCluster::engine eq 'pglogical' ? '1' : '2', 'those that the engine truncates together under the same one');
is($c->queue('c', "SELECT attempts FROM zodan.checkpoints WHERE request_id = $id AND phase = 'copy_data'"), '3', 'the phase has been tried three times');
is(scalar(grep { $_ == 0 } map { $c->stop_writer($_) } @writers), 0, 'every node was written all the time');
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->psql('n3', q{SELECT count(*) FROM child c WHERE NOT EXISTS (SELECT FROM parent p WHERE p.id = c.parent)}), '0', 'foreign keys hold');
is($c->psql('n3', q{SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'child'::regclass}), 't', 'and are checked');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- SIGKILL, the coordinator being the new node: all its sessions die as well ----------

my $n4 = $c->add_server('n4', conf => "zodan.copy_part_size = 2MB\n");
@writers = (writer('n1', 0), writer('n2', 1));
$c->wait_writing(@writers);
$gate = $c->hold_gate('n4');
$id = $c->request(new => 'n4', src => 'n2', copy_jobs => 2);
$c->wait_gate('n4');
ok($c->wait_queue("SELECT built_at IS NOT NULL FROM zodan.copy_tables WHERE request_id = $id AND relname = 'base'", 'n4'), 'a table is ready that another one inherits from');
kill_runner($id);
# the gate's session has died with the server
$gate->{run}->kill_kill;
ok($c->wait_queue('SELECT count(*) = 0 FROM pg_locks WHERE objid = 4711', 'n4'), 'the server is there again');
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n4';
cmp_ok(attempt($id), '>=', 2, 'by another runner');
$c->stop_writer($_) for @writers;
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- ended by an administrator, in other phases ----------

my $n5 = $c->add_server('n5');
my $e = $ZodanCluster::engine;

# where a phase waits: what makes it wait, on which node
my @traps = (
	[ 'register_node', 'n2', 'BEGIN', "LOCK TABLE $e.local_node IN SHARE UPDATE EXCLUSIVE MODE" ],
	[ 'copy_schema', 'n1', 'BEGIN', 'SELECT pg_current_xact_id()' ],
	[ 'copy_data', 'n5', 'SELECT pg_advisory_lock(4711)' ],
	[ 'bookmark_peers', 'n3', 'BEGIN', 'SELECT pg_current_xact_id()' ],
);
my @held = map { $c->session(@$_[ 1 .. $#$_ ]) } @traps;
@writers = (writer('n1', 0), writer('n2', 1));
$id = $c->request(new => 'n5', on => 'c', copy_jobs => 2);
for my $i (0 .. $#traps)
{
	my $phase = $traps[$i][0];
	$c->wait_phase($id, $phase);
	$c->server($traps[$i][1])->poll_query_until('inventory',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'zodan%' AND wait_event_type = 'Lock'");
	my $before = attempt($id);
	is($c->queue('c', "SELECT pg_terminate_backend(worker_pid) FROM zodan.status WHERE request_id = $id"), 't', 'its process is ended');
	ok($c->wait_queue("SELECT attempt > $before AND worker_pid IS NOT NULL FROM zodan.status WHERE request_id = $id"), 'another one takes over')
	  or last;
	$held[$i]->quit;
}
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n5';
$c->stop_writer($_) for @writers;
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->leftovers($id), '', 'nothing is left over');
cmp_ok(attempt($id), '>=', 1 + @traps, 'the status tells how many attempts it took');
# ---------- a session on a peer, while it is asked by the first checks ----------

$c->add_server('n6');
# they read this one; what they found then may pass, and is looked at again
my $catalog = $c->session('n2', 'BEGIN', 'LOCK TABLE pg_extension');
$id = $c->request(new => 'n6', on => 'c');
my $asked = "FROM pg_stat_activity WHERE application_name = 'zodan_bgw: request $id' AND wait_event_type = 'Lock'";
ok($c->server('n2')->poll_query_until('postgres', "SELECT count(*) = 1 $asked"), 'a check waits on a peer');
is($c->queue('n2', "SELECT pg_terminate_backend(pid) $asked"), 't', 'where its session is ended');
$catalog->quit;
is($c->wait_for($id), 'done', 'the request ends done, since that passes');

done_testing();
