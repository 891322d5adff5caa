# A fourth node joins three that are written all the time, in every way: insert,
# update, delete, upsert, with and without a primary key. Afterwards all rows
# are the same on all four. In the middle of the copy rows are changed on one
# node after another: those must come out in that order. Protects from what a
# join is there to avoid: a change that is lost, doubled, or overtaken.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use List::Util qw(sum);
use Test::More;
use Time::HiRes qw(time);

ZodanCluster::plan_or_skip();

my $add = 'SELECT ' . ZodanCluster->e('add_table');
my $c = ZodanCluster->new(
	nodes => 3,
	conf => "log_statement = none\nsynchronous_commit = off\n",
	setup => $ZodanCluster::gate . q{
		CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0, filler text);
		CREATE TABLE entry (id bigint PRIMARY KEY, account int NOT NULL REFERENCES account, at timestamptz);
		CREATE TABLE kv (k int PRIMARY KEY, v int, filler text);
		CREATE TABLE event (node int, n int, at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE relay (id int PRIMARY KEY, trail text, big text);
		CREATE TABLE held (id int PRIMARY KEY, g gated);
		CREATE INDEX ON entry (account);
		-- a node writes the rows whose number has its remainder
		CREATE PROCEDURE write(k int, times int) LANGUAGE plpgsql AS $$
		DECLARE
			r int;
			i int;
			new bigint;
		BEGIN
			FOR t IN 1 .. times LOOP
				r := floor(random() * 100);
				i := floor(random() * 100000) * 3 + k;
				IF r < 38 THEN
					UPDATE account SET balance = balance + 1 WHERE id = i;
				ELSIF r < 58 THEN
					INSERT INTO event (node, n) VALUES (k, i);
				ELSIF r < 78 THEN
					INSERT INTO kv VALUES (i, 1, 'new') ON CONFLICT ON CONSTRAINT kv_pkey DO UPDATE SET v = kv.v + 1;
				ELSIF r < 98 THEN
					DELETE FROM kv WHERE kv.k = i;
				ELSE
					new := floor(random() * 1000000000) * 3 + k;
					INSERT INTO entry VALUES (new, i, now()) ON CONFLICT DO NOTHING;
					UPDATE account SET balance = balance - 1 WHERE id = i;
					DELETE FROM entry WHERE account = i AND id <> new;
				END IF;
				COMMIT;
			END LOOP;
		END $$;
		INSERT INTO account SELECT i, 0, repeat('f', 150) FROM generate_series(0, 299999) i;
		INSERT INTO kv SELECT i, i, 'x' FROM generate_series(0, 149999) i;
		INSERT INTO event SELECT 0, i, '2020-01-01' FROM generate_series(1, 100000) i;
		INSERT INTO relay SELECT i, 'start', repeat('b', 3000) FROM generate_series(1, 600) i;
		INSERT INTO held VALUES (1, 1);
	},
	sets => join(';', map { "$add('default', '$_')" } qw(account entry kv relay held)) . ";$add('default_insert_only', 'event')");

# Each call is that many transactions: with a round trip for each, the two cores
# that all servers share would do little else. Apply workers that check all that
# they do have to follow, too.
my $batch = $c->psql('n1', 'SHOW debug_assertions') eq 'on' ? 10 : 50;

sub writer
{
	my ($name) = @_;
	my $k = substr($name, 1) - 1;
	return $c->start_writer($name, "CALL write($k, $batch);", '--client=2', '--rate=35', '--latency-limit=1000');
}

my $n4 = $c->add_server('n4');
my $gate = $c->hold_gate('n4');
my @writers = map { writer($_) } qw(n1 n2 n3);
$c->wait_writing(@writers);
my $started = time;
my $id = $c->request(new => 'n4');
$c->wait_gate('n4');

# ---------- changes that follow one another from node to node, while the copy stands still ----------

# each step has arrived on all existing nodes before the next
my @nodes = qw(n1 n2 n3);
my @steps = (
	{   n1 => "INSERT INTO relay SELECT i, 'n1', repeat('1', 3000) FROM generate_series(1001, 1400) i;",
		n2 => "INSERT INTO relay SELECT i, 'n2', repeat('2', 3000) FROM generate_series(2001, 2400) i;"
		  . "UPDATE relay SET trail = trail || ' n2' WHERE id <= 200; DELETE FROM relay WHERE id BETWEEN 401 AND 500;",
		n3 => "INSERT INTO relay SELECT i, 'n3', repeat('3', 3000) FROM generate_series(3001, 3400) i;" },
	{   n1 => "UPDATE relay SET trail = trail || ' n1' WHERE id BETWEEN 2001 AND 2200 OR id BETWEEN 3001 AND 3100 OR id <= 200;"
		  . "DELETE FROM relay WHERE id BETWEEN 2301 AND 2400; INSERT INTO relay SELECT i, 'again n1', NULL FROM generate_series(401, 500) i;",
		n2 => "UPDATE relay SET trail = trail || ' n2' WHERE id BETWEEN 1001 AND 1200 OR id BETWEEN 3101 AND 3200;"
		  . "DELETE FROM relay WHERE id BETWEEN 1301 AND 1400;",
		n3 => "UPDATE relay SET trail = trail || ' n3' WHERE id BETWEEN 2201 AND 2300; DELETE FROM relay WHERE id BETWEEN 501 AND 600;" },
	{   n1 => "UPDATE relay SET trail = trail || ' n1' WHERE id BETWEEN 3101 AND 3150 OR id BETWEEN 2201 AND 2250; DELETE FROM relay WHERE id BETWEEN 3151 AND 3200;",
		n2 => "INSERT INTO relay SELECT i, 'again n2', repeat('4', 3000) FROM generate_series(2301, 2400) i; UPDATE relay SET id = id + 100000 WHERE id <= 100;",
		n3 => "UPDATE relay SET trail = trail || ' n3' WHERE id BETWEEN 1001 AND 1100 OR id BETWEEN 101 AND 200 OR id BETWEEN 401 AND 450;"
		  . "DELETE FROM relay WHERE id BETWEEN 2001 AND 2050;" },
);
for my $step (@steps)
{
	$c->psql($_, $step->{$_}) for @nodes;
	$c->settle(@nodes);
}
my $relay = q{SELECT count(*), md5(string_agg(format('%s %s %s', id, trail, md5(big)), ',' ORDER BY id)) FROM relay};
my $want = $c->psql('n1', $relay);
is($c->psql($_, $relay), $want, "$_ agrees before the copy goes on") for qw(n2 n3);
is($c->queue('n4', "SELECT state, phase FROM zodan.status WHERE request_id = $id"), 'running|copy_data', 'the copy has stood still');
is($c->psql($_, 'SELECT count(*) FROM pg_replication_slots'), '2', "meanwhile $_ holds no WAL for the new node") for qw(n2 n3);
$gate->quit;

# ---------- the join ----------

is($c->wait_for($id, 'n4', 600), 'done', 'a fourth node joins');
my $took = time - $started;
push @{ $c->{order} }, 'n4';
my @rates = map { [ $c->stop_writer($_) ] } @writers;
diag(sprintf '%s: joined in %.1f s, %s', $ZodanCluster::engine, $took,
	join(', ', map { sprintf '%.0f transactions/s on %s', $batch * sum(@{ $rates[$_] }) / @{ $rates[$_] }, $nodes[$_] } 0 .. 2));
for my $i (0 .. 2)
{
	cmp_ok(scalar @{ $rates[$i] }, '>=', int($took), "$nodes[$i] was written for as long as it took");
	is(scalar(grep { $_ == 0 } @{ $rates[$i] }), 0, "and in each second of it");
}
$c->settle;
is($c->psql('n4', $relay), $want, 'changes that went from node to node are the same on the new one');
is($c->differences, '', 'all rows are the same on all four');
cmp_ok($c->psql('n4', 'SELECT count(*) FROM event WHERE node > 0'), '>', 0, 'among them those of the peers');

# ---------- what is there afterwards ----------

my $status = 'SELECT count(*) FROM ' . $c->e('status') . " WHERE status = 'replicating'";
is(sum(map { $c->psql($_, $status) } qw(n1 n2 n3 n4)), 12, 'all twelve subscriptions are replicating');
is($c->leftovers($id), '', 'nothing is left over');
is($c->psql('n4', "SELECT string_agg(conname, ' ') FROM pg_constraint WHERE contype = 'f' AND convalidated AND conrelid = 'entry'::regclass"), 'entry_account_fkey', 'foreign keys are checked');
is($c->queue('n4', "SELECT count(*) = 6 AND bool_and(state = 'copied') AND sum(rows_copied) > 500000 FROM zodan.copy_tables WHERE request_id = $id"), 't',
	'every table was copied');
for my $n (1 .. 4)
{
	$c->psql("n$n", "INSERT INTO relay VALUES (-$n, 'after'); UPDATE account SET balance = -7 WHERE id = $n; INSERT INTO event VALUES (100 + $n, 0)");
}
$c->settle;
is($c->psql('n4', 'SELECT count(*) FROM relay WHERE id < 0'), '4', 'a row of each arrives on the new one');
is($c->differences, '', 'and everywhere');
done_testing();
