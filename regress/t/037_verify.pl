# Rows of all nodes are compared while all are written to: operation verify. What was
# planted on a node, so that it isn't replicated, is found and named, and nothing else,
# however much is under way; also after the runner or the server was killed. Protects
# those who believe that their nodes are the same, and those who are told that they
# aren't.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $e = $ZodanCluster::engine;
my $c = ZodanCluster->new(nodes => 3, setup => q{
	CREATE TABLE item (id int PRIMARY KEY, n int, f float8, t text, filler text);
	CREATE TABLE pair (a text COLLATE "C", b timestamptz, c numeric, d text, PRIMARY KEY (a, b, c));
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE DOMAIN small AS int CHECK (VALUE < 1000);
	CREATE TABLE "Odd ""name""" ("q.zodan_key" mood, x small, "n" bytea, n2 int GENERATED ALWAYS AS (1) STORED, PRIMARY KEY ("q.zodan_key", x));
	CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
	CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (1000000);
	CREATE TABLE empty (id int PRIMARY KEY);
	CREATE TABLE hot (id int PRIMARY KEY, n int);
	CREATE SCHEMA keyless;
	CREATE TABLE keyless.log (at int, t text);
	CREATE SCHEMA filtered;
	CREATE TABLE filtered.rest (id int PRIMARY KEY, n int);
	ALTER TABLE filtered.rest DROP COLUMN n, ADD zodan_n int;
}, sets => sprintf("SELECT %s; SELECT %s('default_insert_only', 'keyless.log', false); SELECT %s('default', 'filtered.rest', false, row_filter := 'zodan_n > 0')",
	  sprintf(ZodanCluster->e('add_all'), "'default'", "'{public}'"), ZodanCluster->e('add_table'), ZodanCluster->e('add_table')));
$c->psql('n1', $_) for "INSERT INTO item SELECT i, i, i / 3.0, 'text ' || i, repeat('x', i % 50) FROM generate_series(1, 110000) i",
  q{INSERT INTO pair SELECT 'k' || i % 10, '2026-01-01'::timestamptz + i * interval '1 s', i, NULL FROM generate_series(1, 1000) i},
  q{INSERT INTO "Odd ""name""" SELECT 'ok', i, '\x01' FROM generate_series(1, 100) i}, 'INSERT INTO parted SELECT i, 0 FROM generate_series(1, 1000) i',
  q{INSERT INTO keyless.log SELECT i / 2, 'x' || i / 2 FROM generate_series(1, 30000) i}, 'INSERT INTO hot SELECT i, 0 FROM generate_series(1, 20) i',
  'INSERT INTO filtered.rest SELECT i, i - 50 FROM generate_series(1, 100) i', 'ANALYZE';
$c->psql('n2', 'INSERT INTO filtered.rest VALUES (200, -1)');
$c->settle;
$c->add_server('c', conf => "restart_after_crash = on\n");

# changes something on a node only
sub plant
{
	my ($node, $sql) = @_;
	my $origin = "SELECT pg_replication_origin_create('planted') WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'planted')";
	return $c->psql($node, "$origin; SELECT pg_replication_origin_session_setup('planted'); $sql");
}

sub verify
{
	my (%column) = @_;
	$column{operation} = 'verify';
	$column{src_node_name} //= 'n1';
	$column{src_dsn} //= $c->dsn('n1');
	return $c->queue('c', sprintf 'INSERT INTO zodan.requests (%s) VALUES (%s) RETURNING id',
		join(', ', sort keys %column), join(', ', map { ZodanCluster::q_($column{$_}) } sort keys %column));
}

sub found
{
	my ($id) = @_;
	return $c->queue('c', "SELECT concat_ws(' ', format('%I.%I', nspname, relname), CASE WHEN nspname <> 'keyless' THEN key END, node, difference, columns)"
		  . " FROM zodan.differences WHERE request_id = $id ORDER BY 1");
}

sub summary { return $c->queue('c', "SELECT concat_ws(' ', tables, tables_compared, rows, differing, undecided) FROM zodan.verifications WHERE request_id = $_[0]"); }

# ---------- nodes that are the same ----------

my $id = $c->queue('c', 'SELECT zodan.verify(' . join(', ', map { ZodanCluster::q_($_) } 'n1', $c->dsn('n1')) . ')');
is($c->wait_for($id, 'c'), 'done', 'nodes that are the same');
is(summary($id), '8 8 142170 0 0', 'all rows have been compared, but those that a filter holds back');
is($c->queue('c', "SELECT node IS NULL AND source = 'n1' AND percent = 100 FROM zodan.status WHERE request_id = $id"), 't', 'the status says so');
is($c->queue('c', "SELECT count(*) FROM zodan.requests WHERE id = $id AND src_dsn ~ 'password=[^*]'"), '0', 'no password is left');

$c->psql('n3', 'CREATE TABLE of_n3 (id int PRIMARY KEY); SELECT ' . ZodanCluster->e('add_table') . q{('default', 'of_n3')});
$id = verify();
is($c->wait_for($id, 'c'), 'done', 'a table that only another node replicates is not compared');
like($c->queue('c', "SELECT string_agg(node || ' ' || message, ' ') FROM zodan.events WHERE request_id = $id AND level = 'warning'"),
	qr/^n3 tables that node n1 does not replicate are not compared: public\.of_n3$/, 'and an event tells that');
$c->psql('n3', 'DROP TABLE of_n3 CASCADE');

# ---------- what is not compared ----------

# the nodes that a request names must be those that it reaches: rows would be repaired on another one
for my $case ([ { src_node_name => 'n2' }, qr/^node "n2": the connection string leads to node "n1"$/, qr/src_node_name or src_dsn/ ],
	[ { options => sprintf '{"peer_dsns": {"n2": "%s", "n3": "%s"}}', map { $c->dsn($_) } qw(n3 n2) }, qr/^node "n2": the connection string leads to node "n3"$/, qr/peer_dsns/ ])
{
	local $c->{quiet} = 1;
	$id = verify(%{ $case->[0] });
	is($c->wait_for($id, 'c'), 'failed', 'a connection string leads to another node');
	like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), $case->[1], 'the error names it');
	like($c->queue('c', "SELECT hint FROM zodan.status WHERE request_id = $id"), $case->[2], 'and says what to do');
}
$c->add_server('alone');
$c->psql('alone', sprintf 'SELECT ' . ZodanCluster->e('node'), "'alone'", ZodanCluster::q_($c->dsn('alone')));
$id = verify(src_node_name => 'alone', src_dsn => $c->dsn('alone'));
is($c->wait_for($id, 'c'), 'failed', 'a node that knows no other is not the same as all others');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/^node "alone" knows no other node/, 'the error says so');
$c->server('alone')->stop;

# ---------- under load, ten times ----------

my @writers = map {
	$c->start_writer($_, q{
		\set id random(1, 40000)
		\set hot random(1, 20)
		\set new random(1, 1000000000)
		UPDATE item SET n = n + 1 WHERE id = :id;
		UPDATE hot SET n = n + 1 WHERE id = :hot;
		INSERT INTO pair VALUES ('new', '2026-01-01', :new, NULL) ON CONFLICT DO NOTHING;
		INSERT INTO keyless.log VALUES (:new, 'new');
		DELETE FROM part WHERE id = :id AND id < 500;
	}, '--rate', '200')
} qw(n1 n2 n3);
$c->wait_writing(@writers);
my @ids = map { verify(verify_timeout => '2 s') } 1 .. 3;
for (1 .. 10)
{
	$id = verify(verify_timeout => '1 s');
	my $state = $c->wait_for($id, 'c');
	is($state . found($id), 'done', "no false alarm, run $_") || last;
}
is(join(' ', map { $c->wait_for($_, 'c') } @ids), 'done done done', 'nor where several run at a time');
$c->stop_writer($_) for @writers;
$c->settle;
# two nodes may have changed one row at the same time, and have not resolved that alike
$c->psql('n1', 'UPDATE item SET n = 0; UPDATE hot SET n = 0');
$c->settle;

# ---------- what was planted ----------

plant('n2', "UPDATE item SET n = -1 WHERE id = 17");
plant('n2', 'DELETE FROM item WHERE id = 39999');
plant('n3', "INSERT INTO item VALUES (500000, 0)");
plant('n3', "UPDATE item SET f = f + 2e-12, t = 'text' WHERE id = 20000");
plant('n1', "UPDATE item SET t = '' WHERE id = 5");
plant($_, "UPDATE item SET t = NULL WHERE id = 5") for qw(n2 n3);
plant('n3', "UPDATE item SET filler = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i) WHERE id = 300");
plant('n2', q{UPDATE pair SET d = 'd' WHERE a = 'k3' AND c = 3});
plant('n2', q{UPDATE "Odd ""name""" SET "n" = '\x02' WHERE x = 7});
plant('n3', 'DELETE FROM parted WHERE id = 777');
plant('n2', "INSERT INTO keyless.log VALUES (3, 'x3')");
plant('n3', "DELETE FROM keyless.log WHERE at = 4; INSERT INTO keyless.log VALUES (-1, NULL)");
plant('n3', 'INSERT INTO empty VALUES (1)');
plant('n2', 'UPDATE filtered.rest SET zodan_n = 1000 WHERE id = 60; INSERT INTO filtered.rest VALUES (300, -5)');
$id = verify();
is($c->wait_for($id, 'c'), 'failed', 'what was planted is found');
my @expected = ('filtered.rest {60} n2 changed {zodan_n}',
	'keyless.log n2 count', 'keyless.log n3 extra', 'keyless.log n3 missing',
	'public."Odd ""name""" {ok,7} n2 changed {n}', 'public.empty {1} n3 extra',
	'public.item {17} n2 changed {n}', 'public.item {20000} n3 changed {f,t}', 'public.item {300} n3 changed {filler}',
	'public.item {39999} n2 missing', 'public.item {5} n2 changed {t}', 'public.item {5} n3 changed {t}', 'public.item {500000} n3 extra',
	'public.pair {k3,"2026-01-01 00:00:03+00",3} n2 changed {d}', 'public.part {777} n3 missing');
is(join("\n", sort split /\n/, found($id)), join("\n", sort @expected), 'and named, and nothing else');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/^14 rows differ from those of node "n1" on: n2, n3 \(6 of table public\.item, 3 of table keyless\.log, /,
	'the error says how many, where');
like($c->queue('c', "SELECT hint FROM zodan.status WHERE request_id = $id"), qr/zodan\.differences WHERE request_id = $id/, 'and where they are listed');
like($c->queue('c', "SELECT detail FROM zodan.differences WHERE request_id = $id AND difference = 'count'"), qr/^3 here, .*; 2 on the source, /, 'how often rows without a key are there');

# ---------- it is killed, paused, and cannot reach a node ----------

my $named = found($id);
for my $point (qw(block:first block:next block:last suspects:seen suspects:decided))
{
	$c->failpoints('c', "kill verify_rows:$point");
	$id = verify();
	is($c->wait_for($id, 'c'), 'failed', "killed at $point: it goes on");
	is(found($id), $named, 'and finds the same') || last;
	ok($c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id") > 1, 'in another attempt');
}
$c->failpoints('c', 'wait verify_rows:block:%');
$id = verify();
my $go = $c->wait_failpoint('c', 'verify_rows:block:next');
$c->queue('c', "SELECT zodan.pause($id)");
$go->();
ok($c->wait_queue("SELECT state = 'paused' FROM zodan.status WHERE request_id = $id", 'c'), 'it is paused');
$c->failpoints('c', '');
$c->server('n3')->stop;
$c->queue('c', "SELECT zodan.resume($id)");
ok($c->wait_queue("SELECT state = 'retrying' AND last_error ~ 'node \"n3\"' FROM zodan.status WHERE request_id = $id", 'c'), 'a node is down: it waits');
$c->server('n3')->start;
is($c->wait_for($id, 'c'), 'failed', 'and goes on when the node is there');
is(found($id), $named, 'and finds the same');
is($c->queue('c', "SELECT count(*) FROM zodan.verify_tables WHERE request_id = $id AND rows_compared <> (SELECT max(v.rows_compared) FROM zodan.verify_tables v WHERE v.nspname = verify_tables.nspname AND v.relname = verify_tables.relname AND v.request_id > $id - 3)"),
	'0', 'having compared each row once');
$id = verify(copy_rate => 1000);
ok($c->wait_queue("SELECT detail ~ 'held to' FROM zodan.status WHERE request_id = $id", 'c'), 'its rate is held');
$c->queue('c', "SELECT zodan.cancel($id)");
is($c->wait_for($id, 'c'), 'cancelled', 'it is cancelled');

# ---------- a node that shows a commit later than others have it ----------

# Spock's walsender does not send such a commit
if ($e eq 'pglogical')
{
	$c->wait_replicating(qw(n1 n2 n3));
	$c->server('n1')->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
	$c->server('n1')->reload;
	my $slow = $c->start_writer('n1', "SET synchronous_commit = on;\nUPDATE item SET n = 7 WHERE id = 8;\n\\sleep 3600 s\n");
	ok($c->server('n2')->poll_query_until('inventory', 'SELECT n = 7 FROM item WHERE id = 8'), 'another node has a commit');
	is($c->psql('n1', 'SET synchronous_commit = local; SELECT n FROM item WHERE id = 8'), '0', 'that its own does not show yet');
	$id = verify(verify_timeout => '1 s');
	is($c->wait_for($id, 'c'), 'failed', 'rows differ');
	is(found($id), $named =~ s/^.*\{500000\}.*\n//mr, 'the same as before but one that the node lacks: that row is not among them');
	is($c->queue('c', "SELECT string_agg(key, ' ' ORDER BY key) FROM zodan.verify_suspects WHERE request_id = $id"), '{500000} {8}', 'nothing can be said about these two');
	like($c->queue('c', "SELECT string_agg(message, ' ') FROM zodan.events WHERE request_id = $id AND level = 'warning'"), qr/a transaction that may have changed them did not end/, 'an event says why');
	$c->server('n1')->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$c->server('n1')->reload;
	ok($c->server('n1')->poll_query_until('inventory', 'SELECT n = 7 FROM item WHERE id = 8'), 'it shows it now');
	$c->stop_writer($slow);
}

# ---------- in a join, and in a check ----------

$c->add_server('n4');
$c->failpoints('c', 'wait verify_rows:begin');
$id = $c->request(new => 'n4', on => 'c', verify => 'full');
$go = $c->wait_failpoint('c', 'verify_rows:begin');
$c->failpoints('c', '');
$c->psql('n4', "SELECT pg_replication_origin_create('planted')");
$c->psql('n4', "SELECT pg_replication_origin_session_setup('planted'); UPDATE item SET n = -5 WHERE id = 35000; DELETE FROM pair WHERE a = 'k3' AND c = 3");
$go->();
is($c->wait_for($id, 'c'), 'failed', 'a join that has a row wrong fails');
is(found($id), "public.item {35000} n4 changed {n}\npublic.pair {k3,\"2026-01-01 00:00:03+00\",3} n4 missing", 'and names it');
like($c->queue('c', "SELECT hint FROM zodan.status WHERE request_id = $id"), qr/zodan\.differences WHERE request_id = $id.*zodan\.retry\($id\).*zodan\.cancel\($id\)/, 'and says what to do');
is($c->psql('n4', "SELECT datconnlimit FROM pg_database WHERE datname = current_database()"), '0', 'before anybody is let in');
$c->psql('n4', "SELECT pg_replication_origin_session_setup('planted'); UPDATE item SET n = 0 WHERE id = 35000; INSERT INTO pair VALUES ('k3', '2026-01-01 00:00:03+00', 3, NULL)");
$c->psql('n4', "SELECT pg_replication_origin_drop('planted')");
$c->queue('c', "SELECT zodan.retry($id)");
is($c->wait_for($id, 'c'), 'done', 'it goes on when that is repaired');
is($c->queue('c', "SELECT concat_ws(' ', node, verify, tables = tables_compared, differing, undecided) FROM zodan.verifications WHERE request_id = $id"), 'n4 full t 0 0', 'and tells that all rows are the same');
$c->add_server('n5');
$id = $c->request(new => 'n5', on => 'c', operation => 'check', verify => 'sample');
is($c->wait_for($id, 'c'), 'failed', 'a check compares the nodes that there are');
like(found($id), qr/^public\.empty \{1\} n3 extra$/m, 'and finds what differs');
$c->failpoints('c', 'wait finish:begin');
$id = $c->request(new => 'n5', on => 'c', verify => 'sample');
$go = $c->wait_failpoint('c', 'finish:begin');
$c->failpoints('c', '');
# as when a slot is lost now
my $first = $c->queue('c', "UPDATE zodan.request_state SET asked = 'restart', reason = 'wanted' WHERE request_id = $id; SELECT max(finished_at) FROM zodan.verify_tables WHERE request_id = $id");
$go->();
is($c->wait_for($id, 'c'), 'done', 'a join compares some rows of each table');
is($c->queue('c', "SELECT rows > 20000 AND tables = tables_compared FROM zodan.verifications WHERE request_id = $id"), 't', 'of all of them');
is($c->queue('c', "SELECT min(started_at) > '$first' FROM zodan.verify_tables WHERE request_id = $id"), 't', 'and again when it has started from the beginning');
done_testing();
