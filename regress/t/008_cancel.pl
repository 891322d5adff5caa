# Cancel in the middle of the copy, and before and after it: everything that
# the request has made is gone from every node, and the same request can be
# filed again. Pause and resume in the middle. Protects from half a node that
# is left behind: slots that hold WAL for ever, a database that nobody can
# connect to, a cluster that thinks it has one node more.
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
	setup => $ZodanCluster::gate . q{
		CREATE SCHEMA app;
		CREATE TYPE app.mood AS ENUM ('good', 'bad');
		CREATE TABLE item (id int PRIMARY KEY, name text, m app.mood);
		CREATE TABLE child (id int PRIMARY KEY, item int REFERENCES item);
		CREATE INDEX ON child (item);
		CREATE VIEW v AS SELECT * FROM item;
		CREATE FUNCTION app.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION app.f();
		CREATE FUNCTION app.keep() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''nothing is dropped here''; END';
		CREATE EVENT TRIGGER keep ON sql_drop EXECUTE FUNCTION app.keep();
		ALTER EVENT TRIGGER keep ENABLE ALWAYS;
		CREATE EVENT TRIGGER not_even_asked ON ddl_command_start WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION app.keep();
		ALTER EVENT TRIGGER not_even_asked ENABLE ALWAYS;
		COMMENT ON TABLE item IS 'an item';
		CREATE TABLE held (id int PRIMARY KEY, g gated);
		CREATE SEQUENCE s;
	});
$c->psql('n1', q{
	INSERT INTO item SELECT i, 'item ' || i, 'good' FROM generate_series(1, 1000) i;
	INSERT INTO child SELECT i, i FROM generate_series(1, 1000) i;
	INSERT INTO held VALUES (1, 1);
});
$c->settle;
# what the new node had before stays: a schema, a function, a setting, a limit on connections
my $n3 = $c->add_server('n3');
my $own = $c->add_server('c');    # the coordinator is a server of its own
$c->psql('n3', q{
	CREATE SCHEMA mine; CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql RETURN 1;
	ALTER DATABASE inventory SET work_mem = '5MB'; ALTER DATABASE inventory CONNECTION LIMIT 17;
});
# the template's own node of the first server's number of origins isn't ours to count
my @nodes = qw(n1 n2 n3);
my %before = map { $_ => $c->state_of($_) } @nodes;
$c->{quiet} = 1;

sub is_undone
{
	my ($id, $what) = @_;
	is($c->wait_for($id), 'cancelled', "$what: the request is cancelled");
	is($c->text_difference($before{$_}, $c->state_of($_)), '', "$what: $_ is as it was") for @nodes;
	is($c->queue('c', "SELECT string_agg(DISTINCT state, ' ') FROM zodan.effects WHERE request_id = $id"), 'rolled_back',
		"$what: every effect is undone");
	is($c->queue('c', "SELECT asked IS NULL, finished_at IS NOT NULL, last_error FROM zodan.request_state WHERE request_id = $id"),
		't|t|', "$what: and the request has ended");
	is(join(' ', $c->work_directories($id, 'c')), '', "$what: without its files");
	return;
}

# ---------- in the middle of the copy ----------

my $gate = $c->hold_gate('n3');
my $id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
is($c->queue('c', "SELECT state, phase, worker_pid IS NOT NULL FROM zodan.status WHERE request_id = $id"),
	'running|copy_data|t', 'the copy is on its way');
isnt($c->state_of('n3'), $before{n3}, 'and the new node is not what it was');
is($c->queue('c', "SELECT zodan.cancel($id)"), 'running', 'cancel is asked for');
is_undone($id, 'cancelled while copying');
$gate->quit;

# ---------- the same, but what it has made is to be looked at ----------

$gate = $c->hold_gate('n3');
$id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
$c->queue('c', "SELECT zodan.cancel($id, keep => true)");
is($c->wait_for($id), 'cancelled', 'cancelled, to be kept');
like($c->queue('c', "SELECT last_error, hint FROM zodan.status WHERE request_id = $id"),
	qr/^cancelled; \d+ objects were kept, and slots.*\|.*zodan\.effects WHERE request_id = $id.*zodan\.cancel\($id\)/, 'says what is left, and how to undo it');
is($c->psql('n1', "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%catchup%'"), '1', 'a slot is there');
is($c->queue('c', "SELECT count(*) = (SELECT count(*) FROM zodan.effects WHERE request_id = $id AND state <> 'rolled_back') FROM zodan.events"
	  . " WHERE request_id = $id AND level = 'warning' AND message LIKE '% is left'"), 't', 'and every thing is in the log');
$gate->quit;
is($c->queue('c', "SELECT zodan.cancel($id)"), 'cancelling', 'cancelled again');
is_undone($id, 'cancelled after that');

# ---------- before anything is made ----------

$id = $c->request(new => 'n3', on => 'c', not_before => '2999-01-01');
is($c->queue('c', "SELECT zodan.cancel($id)"), 'cancelling', 'a queued request is cancelled');
is($c->wait_for($id), 'cancelled', 'and ends so');
is($c->queue('c', "SELECT count(*) FROM zodan.effects WHERE request_id = $id"), '0', 'nothing was made');

# ---------- while a slot is being made: it waits for a transaction on the source ----------

my $open = $c->session('n1', 'BEGIN', 'SELECT pg_current_xact_id()');
$id = $c->request(new => 'n3', on => 'c');
$c->wait_phase($id, 'copy_schema');
ok($c->wait_queue("SELECT detail LIKE '%transaction of%' FROM zodan.status WHERE request_id = $id"), 'and the status says for whom')
  or diag($c->queue('c', "SELECT detail FROM zodan.status WHERE request_id = $id"));
$c->queue('c', "SELECT zodan.cancel($id)");
is_undone($id, 'cancelled while the snapshot is waited for');
$open->quit;

# ---------- when nearly everything is there: the first stream runs ----------

$gate = $c->hold_gate('n3');
$id = $c->request(new => 'n3', on => 'c', copy_jobs => 1);
$c->wait_gate('n3');
$c->psql('n1', 'INSERT INTO held VALUES (2, 2)');
$c->psql('n2', 'INSERT INTO held VALUES (3, 3)');
# the copy's session gets through, the next one doesn't
my $second = $c->server('n3')->background_psql('inventory', on_error_stop => 1);
$second->query_until(qr/wait/, "\\echo wait\nSELECT pg_advisory_lock(4711);\n");
$c->server('n3')->poll_query_until('inventory',
	"SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted");
$gate->quit;
$c->wait_phase($id, 'sync_source_to_new');
$c->wait_gate('n3');
$c->queue('c', "SELECT zodan.cancel($id)");
# pglogical's apply worker doesn't end before it gets its lock
$c->wait_queue("SELECT state IN ('cancelling', 'rolling_back') FROM zodan.status WHERE request_id = $id");
$second->quit;
is_undone($id, 'cancelled while the new node catches up');
$c->psql('n1', 'DELETE FROM held WHERE id > 1');
$c->settle;

# ---------- when all is there, also event triggers that let nobody drop anything ----------

$c->failpoints('c', 'wait finish:before_intent:open');
$id = $c->request(new => 'n3', on => 'c');
my $go = $c->wait_failpoint('c', 'finish:before_intent:open');
is($c->psql('n3', "SELECT string_agg(evtname, ' ' ORDER BY evtname) FROM pg_event_trigger WHERE evtname IN ('e', 'keep')"), 'e keep', 'event triggers are there');
$c->queue('c', "SELECT zodan.cancel($id)");
$c->failpoints('c', '');
$go->();
is_undone($id, 'cancelled before the node is opened');

# ---------- the same request again, with a pause ----------

$c->{quiet} = 0;
$gate = $c->hold_gate('n3');
$id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
is($c->queue('c', "SELECT zodan.pause($id)"), 'running', 'pause is asked for');
ok($c->wait_queue("SELECT state = 'paused' FROM zodan.status WHERE request_id = $id"), 'the request pauses');
ok($c->wait_queue("SELECT worker_pid IS NULL FROM zodan.status WHERE request_id = $id"), 'nobody runs it');
is($c->queue('c', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND level = 'warning' AND message LIKE '%WAL%'"), '1',
	'and an event tells that WAL is kept meanwhile');
$c->psql('n1', "UPDATE item SET name = 'while paused' WHERE id <= 10; INSERT INTO held VALUES (5, 5)");
$c->psql('n2', "INSERT INTO child VALUES (5000, 20); DELETE FROM child WHERE id = 30");
$gate->quit;
$c->failpoints('c', 'wait enable_subscriptions:begin');
is($c->queue('c', "SELECT zodan.resume($id)"), 'queued', 'resumed');
my $go_on = $c->wait_failpoint('c', 'enable_subscriptions:begin');
is($c->psql($_, "SELECT count(*) FROM pg_proc WHERE proname LIKE 'zodan%'"), '0', "the cut has left nothing in the catalogs of $_, which a crash would leave") for qw(n1 n3);
# the event triggers that let nobody drop anything are there already when this phase is tried again
$c->failpoints('c', 'error finish:before_intent:open');
$go_on->();
is($c->wait_for($id), 'done', 'the same request succeeds, paused in between');
$c->failpoints('c', '');
is($c->queue('c', "SELECT attempts FROM zodan.checkpoints WHERE request_id = $id AND phase = 'finish'"), '2', 'its last phase at the second time');
push @{ $c->{order} }, 'n3';
$c->settle;
is($c->differences, '', 'rows are the same');
$c->psql('n3', "INSERT INTO item VALUES (-1, 'from n3')");
$c->settle;
is($c->psql('n2', 'SELECT name FROM item WHERE id = -1'), 'from n3', 'both ways');
is($c->psql('n3', "SELECT datconnlimit FROM pg_database WHERE datname = 'inventory'"), '17', 'the limit on connections is what it was');
done_testing();
