# Tables that were copied at different times are brought to the same point by
# the source's stream, which begins with a transaction that changes nothing, in a
# worker that nobody else can start. That worker ends in the middle, and the
# request's process dies at each step of starting it. Protects from an engine
# that applies the first transaction of a stream to tables that have it already
# (a row becomes older than it was copied, and stays so), and from changes that
# are applied twice or never when the stream begins again.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

# "log" has no key: what is applied twice stands there twice
my $c = ZodanCluster->new(
	nodes => 2,
	setup => $ZodanCluster::gate . join('', map { "CREATE TABLE tiny$_ (id int PRIMARY KEY);" } 1 .. 200) . q{
		CREATE TABLE early (id int PRIMARY KEY, n int, filler text);
		CREATE TABLE held (id int PRIMARY KEY, g gated, filler text);
		CREATE TABLE late (id int PRIMARY KEY, n int, filler text);
		CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
		CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (1000000);
		CREATE TABLE base (id int PRIMARY KEY, n int, filler text);
		CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (base);
		CREATE SCHEMA keyless;
		CREATE TABLE keyless.log (node text, n int, filler text);
	},
	sets => sprintf("SELECT %s; SELECT %s('default_insert_only', 'keyless.log', false)",
		sprintf(ZodanCluster->e('add_all'), "'default'", "'{public}'"), ZodanCluster->e('add_table')));
$c->psql('n1', q{
	INSERT INTO keyless.log SELECT 'n1', i, repeat('x', 400) FROM generate_series(1, 4000) i;
	INSERT INTO early SELECT i, 0, repeat('x', 400) FROM generate_series(1, 3000) i;
	INSERT INTO held SELECT i, i, repeat('x', 400) FROM generate_series(1, 1500) i;
	INSERT INTO late SELECT i, 0, repeat('x', 400) FROM generate_series(1, 1000) i;
	INSERT INTO base SELECT i, 0, repeat('x', 400) FROM generate_series(1, 2000) i;
	INSERT INTO heir SELECT i, 0, repeat('x', 400) FROM generate_series(2001, 2500) i;
});
$c->settle;
$c->add_server('c', conf => "restart_after_crash = on\nzodan.copy_part_size = 1MB\nzodan.snapshot_max_age = 1s\n");
$c->queue('n1', 'CREATE EXTENSION pg_walinspect');

# each node changes its own rows, the same ones again and again
sub writer
{
	my ($name, $k) = @_;
	return $c->start_writer($name, "\\set i random(0, 20)\nBEGIN;\n"
		  . "UPDATE early SET n = n + 1 WHERE id = :i * 2 + $k + 1;\nUPDATE late SET n = n + 1 WHERE id = :i * 2 + $k + 1;\n"
		  . "INSERT INTO keyless.log VALUES ('$name', :i);\nCOMMIT;\n", '--client=2', '--rate=40');
}
my @writers = (writer('n1', 0), writer('n2', 1));
$c->wait_writing(@writers);

# begins a join whose tables are copied at different times, with changes in between, one of them of row 2999 of
# "early", and brings it to where $failpoint makes it stop; returns the request
sub begin_join
{
	my ($new, $failpoint) = @_;
	$c->add_server($new);
	my $gate = $c->hold_gate($new);
	my $id = $c->request(new => $new, on => 'c', copy_jobs => 1);
	ok($c->wait_queue("SELECT string_agg(relname, ' ') = 'held' FROM zodan.copy_tables WHERE request_id = $id AND state = 'copying'"),
		"$new: the largest tables are copied, all but the one that is held");
	is($c->queue('c', "SELECT count(*) > 60 FROM zodan.copy_tables WHERE request_id = $id AND relname LIKE 'tiny%'"
			  . " AND finished_at < (SELECT min(started_at) FROM zodan.copy_tables WHERE request_id = $id AND relname IN ('log', 'early', 'held'))"),
		't', 'but before them those that are the most, and the smallest');
	# what has come since stands in a partition that is copied later, and must not be truncated there
	$c->psql('n1', 'TRUNCATE parted');
	$c->psql('n1', 'INSERT INTO parted SELECT i, i FROM generate_series(1, 10) i');
	# what stands in a table that inherits must not be truncated, either
	$c->psql('n1', 'TRUNCATE base');
	$c->psql('n1', "INSERT INTO base SELECT i, 0, repeat('x', 400) FROM generate_series(1, 2000) i");
	$c->psql('n1', "INSERT INTO heir SELECT i, 0, repeat('x', 400) FROM generate_series(2001, 2500) i");
	$c->psql('n1', 'UPDATE early SET n = n + 1 WHERE id = 2999');
	my $lsn = $c->psql('n1', 'SELECT pg_current_wal_lsn()');
	ok($c->wait_queue("SELECT max(consistent_lsn) > '$lsn' FROM zodan.positions WHERE request_id = $id AND node = 'n1'"), 'the last is for a later snapshot');
	$c->failpoints('c', $failpoint);
	$gate->quit;
	return $id;
}

# waits until a request stands at a point, where it's to stop once; returns a sub that lets it go on
sub stopped_at
{
	my ($point) = @_;
	my $go_on = $c->wait_failpoint('c', $point);
	$c->failpoints('c', '');
	return $go_on;
}

sub ends_done
{
	my ($new, $id) = @_;
	$c->wait_queue("SELECT state IN ('done', 'failed', 'cancelled') FROM zodan.status WHERE request_id = $id");
	is($c->wait_for($id), 'done', "$new: the request ends done") or diag($c->discarded);
	push @{ $c->{order} }, $new;
	$c->failpoints('c', '');
	cmp_ok($c->queue('c', "SELECT count(DISTINCT snapshot) FROM zodan.copy_tables WHERE request_id = $id"), '>', 1, 'tables were copied under more than one snapshot');
	$c->stop_writer($_) for @writers;
	$c->settle;
	is($c->differences, '', 'rows are the same');
	is($c->leftovers($id), '', 'nothing is left over');
	@writers = (writer('n1', 0), writer('n2', 1));
	$c->wait_writing(@writers);
	return;
}

# ---------- the worker ends in the middle ----------

my $id = begin_join('n3', 'wait sync_source_to_new:begin');
my $go_on = stopped_at('sync_source_to_new:begin');
my $row = $c->session('n3', 'BEGIN; SELECT FROM early WHERE id = 2999 FOR UPDATE');
$go_on->();
my ($sub, $slot) = split /\|/, $c->queue('c', "SELECT name, result FROM zodan.effects WHERE request_id = $id AND kind = 'subscription' AND node = 'n3'"
	  . ' ORDER BY id LIMIT 1');
my $worker = "FROM pg_stat_activity a JOIN $ZodanCluster::engine.subscription s ON a.backend_type LIKE '$ZodanCluster::engine apply %:' || s.sub_id"
  . " WHERE s.sub_name = '$sub' AND a.datname = current_database()";
ok($c->server('n3')->poll_query_until($c->{dbname}, "SELECT count(*) = 1 $worker AND a.wait_event_type = 'Lock' AND s.sub_slot_name = 'zodan_sealed'"),
	'the worker is in the middle, and nobody else can start it');
my $start = $c->queue('c', "SELECT marker_lsn FROM zodan.positions WHERE request_id = $id AND node = 'n1' AND moment = 'catch_up'");
is($c->queue('n1', "SELECT resource_manager, record_type FROM pg_get_wal_record_info('$start')"), 'Transaction|COMMIT', 'its stream began at a commit');
is($c->queue('c', "SELECT bool_and(consistent_lsn > '$start') FROM zodan.positions WHERE request_id = $id AND node = 'n1' AND moment = 'snapshot'"), 't', 'before all snapshots');
is($c->psql('n1', "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '$slot'"), 't', 'its connection is ended');
$row->quit;
ok($c->wait_queue("SELECT count(*) > 0 FROM zodan.events WHERE request_id = $id AND level = 'error' AND message LIKE '%nobody reads slot%'"), 'that is noticed');
ends_done('n3', $id);

# ---------- the request's process dies while the worker is started ----------

$id = begin_join('n4', 'kill sync_source_to_new:gate:%');
ends_done('n4', $id);
is(join(' ', sort map { m{sync_source_to_new:gate:(\w+)$} } glob $c->server('c')->data_dir . '/zodan_failpoints/*'), 'gone sealed slot waiting', 'it died at each step');

# ---------- the new node dies meanwhile ----------

unlink glob $c->server('c')->data_dir . '/zodan_failpoints/*';
$id = begin_join('n5', 'wait sync_source_to_new:gate:sealed');
$go_on = stopped_at('sync_source_to_new:gate:sealed');
$c->server('n5')->stop('immediate');
$go_on->();
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id"), 'n5: it died');
$c->server('n5')->start;
ends_done('n5', $id);

# ---------- a cancel while the worker runs, once of everything ----------

for my $keep ('', ', keep => true')
{
	my $new = $keep ? 'n7' : 'n6';
	$id = begin_join($new, 'wait sync_source_to_new:begin');
	$go_on = stopped_at('sync_source_to_new:begin');
	$row = $c->session($new, 'BEGIN; SELECT FROM early WHERE id = 2999 FOR UPDATE');
	$go_on->();
	ok($c->server($new)->poll_query_until($c->{dbname}, "SELECT count(*) = 1 FROM $ZodanCluster::engine.subscription WHERE sub_slot_name = 'zodan_sealed'"), "$new: it runs");
	$c->queue('c', "SELECT zodan.cancel($id$keep)");
	ok($c->wait_queue("SELECT state IN ('rolling_back', 'cancelled') FROM zodan.status WHERE request_id = $id"), 'and is ended');
	$row->quit;
	is($c->wait_for($id), 'cancelled', 'the request is cancelled');
	# what is kept stands in the engine's catalogs
	is($c->wait_for($c->request(new => $new, src => 'n1', on => 'c', operation => 'remove_node')), 'done', 'the node is removed') if $keep;
	is($c->psql($new, 'SELECT count(*) FROM pg_replication_origin WHERE roname !~ \'copy\''), '0', 'no origin is left');
	is($c->psql('n1', "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%$new%' OR slot_name LIKE 'zodan_start%'"), '0', 'nor a slot');
}

$c->stop_writer($_) for @writers;
$c->stop;
done_testing();
