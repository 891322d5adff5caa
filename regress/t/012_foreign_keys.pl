# While the new node's foreign keys are checked, the source writes the tables
# that they are of. Protects from locks that an apply worker deadlocks with: the
# worker's transaction would be the victim, which Spock discards.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 1, setup => $ZodanCluster::gate . q{
	CREATE TABLE first (id int PRIMARY KEY);
	CREATE TABLE parent (id int PRIMARY KEY, g gated);
	-- the keys are checked by the names of their tables
	CREATE TABLE a_kid (id int PRIMARY KEY REFERENCES first);
	CREATE TABLE child (id int PRIMARY KEY REFERENCES parent) PARTITION BY HASH (id);
	CREATE TABLE child_0 PARTITION OF child FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE child_1 PARTITION OF child FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE TABLE unchecked (id int PRIMARY KEY, parent int);
	CREATE TABLE z_kid (id int PRIMARY KEY REFERENCES parent, up int REFERENCES z_kid);
	INSERT INTO first SELECT generate_series(1, 10);
	INSERT INTO a_kid SELECT generate_series(1, 10);
	INSERT INTO parent SELECT i, i FROM generate_series(1, 10) AS i;
	INSERT INTO child SELECT generate_series(1, 10);
	INSERT INTO z_kid SELECT i, i / 2 + 1 FROM generate_series(1, 10) AS i;
	INSERT INTO unchecked VALUES (1, 4711);
	ALTER TABLE unchecked ADD FOREIGN KEY (parent) REFERENCES parent NOT VALID;
});
$c->add_server('n2');
my $n2 = $c->server('n2');
$c->failpoints('n2', 'wait sync_source_to_new:begin');
my $id = $c->request(new => 'n2');
my $go_on = $c->wait_failpoint('n2', 'sync_source_to_new:begin');

# the first key doesn't hold for the time being, which gives time to stop the apply worker between two tables
$c->psql('n2', q{SET session_replication_role = replica; DELETE FROM first WHERE id = 1});
$go_on->();
ok($c->wait_queue("SELECT detail::text LIKE '%waits for rows%' FROM zodan.status WHERE request_id = $id"), 'a key that does not hold is waited for');
like($c->queue('n2', "SELECT detail FROM zodan.status WHERE request_id = $id"), qr/foreign key a_kid_id_fkey of public.a_kid waits for rows/, 'and named');
my $gate = $c->hold_gate('n2');
$c->psql('n1', 'BEGIN; INSERT INTO parent VALUES (11, 11); INSERT INTO child VALUES (11); INSERT INTO z_kid VALUES (11, 11); COMMIT');
$c->wait_gate('n2');
my $tries = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
my $before = $c->psql('n2', $tries);
$c->psql('n2', q{INSERT INTO first VALUES (1)});
ok($n2->poll_query_until($c->{dbname}, "SELECT ($tries) > $before + 100"), 'locks that the apply worker holds are tried for, not waited for');
is($c->psql('n2', 'SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = \'relation\''), '0', 'nobody waits for a lock');
$gate->quit;
is($c->wait_for($id), 'done', 'the node joins');
push @{ $c->{order} }, 'n2';
$c->settle;
is($c->discarded, '', 'nothing was discarded');
is($c->differences, '', 'rows are the same');
my $keys = 'SELECT string_agg(format(\'%s %s %s\', conrelid::regclass, pg_get_constraintdef(oid), convalidated), E\'\n\' ORDER BY conrelid::regclass::text, conname)'
  . " FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text !~ '\\.'";
is($c->psql('n2', $keys), $c->psql('n1', $keys), 'foreign keys are the same, and as valid');
unlike(PostgreSQL::Test::Utils::slurp_file($n2->logfile), qr/could not obtain lock|deadlock/, 'the log tells of no error');
done_testing();
