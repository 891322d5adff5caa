# A crash of the coordinator takes back that a table was copied and its indexes
# and keys were made, which are there; and before the table is begun again there
# is another crash. Protects from a join that fails on what is there already,
# and from rows that are there twice. What the first crash takes back depends on
# the moment; so the test takes it back itself, while the request stands still.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(
	nodes => 1,
	setup => $ZodanCluster::gate . q{
		CREATE TABLE large (id int PRIMARY KEY, n int NOT NULL UNIQUE, filler text);
		CREATE INDEX large_filler ON large (filler, n);
		CREATE UNIQUE INDEX "large %s ""it's""" ON large (n) INCLUDE (id);
		ALTER TABLE large REPLICA IDENTITY USING INDEX "large %s ""it's""";
		CREATE TABLE "odd %I ""name's""" (id int CONSTRAINT "odd \key's" PRIMARY KEY, filler text);
		CREATE TABLE held (id int PRIMARY KEY, g gated);
	});
$c->psql('n1', q{
	INSERT INTO large SELECT i, i, repeat('x', 400) FROM generate_series(1, 1000) i;
	INSERT INTO "odd %I ""name's""" SELECT i, repeat('x', 400) FROM generate_series(1, 500) i;
	INSERT INTO held SELECT i, i FROM generate_series(1, 100) i;
});
$c->add_server('c', conf => "restart_after_crash = on\nzodan.copy_part_size = 1MB\nquote_all_identifiers = on\n");
$c->add_server('n2');

my $gate = $c->hold_gate('n2');
my $id = $c->request(new => 'n2', on => 'c', copy_jobs => 1);
ok($c->wait_queue("SELECT string_agg(relname, ' ') = 'held' FROM zodan.copy_tables WHERE request_id = $id AND built_at IS NULL AND state = 'copying'"),
	'all is there of the tables before the one that is held');
is($c->psql('n2', "SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'u') AND conrelid::regclass::text IN ('large', '\"odd %I \"\"name''s\"\"\"')"),
	'3', 'with their keys');

$c->failpoints('c', 'wait copy_data:begin');
$c->server('c')->stop('immediate');
$c->server('c')->start;
my $go = $c->wait_failpoint('c', 'copy_data:begin');
$c->queue('c', "UPDATE zodan.copy_tables SET state = 'copying', bytes_copied = 0, rows_copied = NULL, finished_at = NULL, built_at = NULL WHERE request_id = $id");
$c->queue('c', "UPDATE zodan.copy_indexes SET built_at = NULL WHERE request_id = $id");
$c->failpoints('c', 'kill copy_data:reading:snapshot');
# emptying a table waits for the session that the first process has left at the gate
$gate->quit;
$go->();
$c->wait_failpoint('c', 'copy_data:reading:snapshot');
is($c->queue('c', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND message LIKE '%emptied and copied again: 3'"), '1', 'a second crash, when all three tables have been emptied');
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n2';
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->psql('n2', q{SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'large'::regclass AND indisreplident}),
	q{"large %s ""it's"""}, 'and so is what an index is used for');
is($c->leftovers($id), '', 'nothing is left over');
$c->stop;
done_testing();
