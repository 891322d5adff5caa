# How the copy is divided: a large table in parts that several lanes read,
# small tables together, indexes as soon as their table's rows are there, while
# other tables are still copied; keys made from such indexes; statistics. All
# that is left to pg_restore is there, too, and the new node's structure is the
# source's. Protects from lost or doubled rows at the seams of parts, and from
# indexes, keys or statistics that nobody made.
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
	nodes => 2,
	conf => "restart_after_crash = on\n",
	setup => $ZodanCluster::gate . q{
		ALTER SCHEMA public OWNER TO CURRENT_USER;
		CREATE TABLE large (id int PRIMARY KEY, n int, filler text);
		CREATE INDEX large_n ON large (n DESC NULLS LAST) WHERE n > 10;
		CREATE UNIQUE INDEX "Large ""expr""" ON large (lower(filler), id) INCLUDE (n) WITH (fillfactor = 70);
		CREATE TABLE held (id int PRIMARY KEY, g gated, filler text);
		CREATE INDEX ON held (g);
		CREATE INDEX large_hash ON large USING hash (n);
		CREATE TABLE toasted (id int PRIMARY KEY, doc text);
		ALTER TABLE toasted ALTER doc SET STORAGE EXTERNAL;

		-- what pg_restore makes, or what rests on it
		CREATE TABLE special (id int PRIMARY KEY, a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b int NOT NULL, r int4range,
			CONSTRAINT apart EXCLUDE USING gist (r WITH &&));
		CREATE UNIQUE INDEX special_b ON special (b);
		ALTER TABLE special REPLICA IDENTITY USING INDEX special_b;
		CREATE INDEX special_clustered ON special (a);
		ALTER TABLE special CLUSTER ON special_clustered;
		CREATE INDEX special_expr ON special ((a + b));
		ALTER INDEX special_expr ALTER COLUMN 1 SET STATISTICS 200;
		CREATE VIEW grouped AS SELECT id, a, b FROM special GROUP BY id;
		CREATE STATISTICS special_stats ON a, b FROM special;
		COMMENT ON INDEX special_expr IS 'the sum';
		CREATE TABLE parts (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
		CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
		CREATE INDEX ON parts (k);
		CREATE UNLOGGED TABLE here (id int PRIMARY KEY);
		CREATE TABLE empty (id int PRIMARY KEY);
	} . join('', map { "CREATE TABLE small$_ (id int PRIMARY KEY, name text UNIQUE);" } 1 .. 70));

# one that isn't replicated
$c->psql($_, 'CREATE TABLE bare (a int, b text); CREATE INDEX ON bare (a)') for qw(n1 n2);
$c->psql('n1', q{
	INSERT INTO large SELECT i, i % 1000, repeat(md5(i::text), 5) FROM generate_series(1, 30000) i;
	-- what an update leaves: pages with holes, rows that have moved
	UPDATE large SET n = n + 1 WHERE id % 7 = 0;
	DELETE FROM large WHERE id % 11 = 0;
	INSERT INTO held SELECT i, i, 'x' FROM generate_series(1, 100) i;
	INSERT INTO toasted SELECT i, repeat(md5(i::text), 150) FROM generate_series(1, 1500) i;
	INSERT INTO special SELECT i, i, i, int4range(i, i + 1) FROM generate_series(1, 100) i;
	INSERT INTO parts SELECT i, 1 + i % 2 FROM generate_series(1, 500) i;
} . join('', map { "INSERT INTO small$_ SELECT i, 'name ' || i FROM generate_series(1, $_) i;" } 1 .. 70));
$c->settle;
$c->add_server('c', conf => "zodan.copy_part_size = 2MB\nzodan.maintenance_work_mem = 20MB\n");
$c->add_server('n3');

my $gate = $c->hold_gate('n3');
my $id = $c->request(new => 'n3', on => 'c', copy_jobs => 3, verb => 'true');
$c->wait_gate('n3');
ok($c->wait_queue("SELECT built_at IS NOT NULL FROM zodan.copy_tables WHERE request_id = $id AND relname = 'large'"),
	'while a table is still copied another one is ready');
is($c->queue('c', "SELECT state FROM zodan.copy_tables WHERE request_id = $id AND relname = 'held'"), 'copying', 'the one that is held is not');
is($c->psql('n3', "SELECT string_agg(indexrelid::regclass::text, ', ' ORDER BY indexrelid::regclass::text COLLATE \"C\") FROM pg_index WHERE indrelid = 'large'::regclass AND indisvalid"),
	'"Large ""expr""", large_hash, large_n, large_pkey', 'its indexes are there');
is($c->psql('n3', "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'large'::regclass AND contype = 'p'"), 'large_pkey|PRIMARY KEY (id)', 'and its key');
is($c->psql('n3', "SELECT reltuples > 20000, (SELECT count(*) FROM pg_stats WHERE tablename = 'large') > 2 FROM pg_class WHERE relname = 'large'"), 't|t', 'and its statistics');
is($c->psql('n3', "SELECT count(*) FROM pg_class WHERE relname = 'held_pkey'"), '0', 'but no index of the one that is held');
is($c->psql('n3', "SELECT count(DISTINCT l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objid = 4711 AND NOT l.granted"), '1', 'which holds up one lane only');
ok($c->wait_queue("SELECT bool_and(state = 'copying') FROM zodan.copy_tables WHERE request_id = $id AND built_at IS NULL"), 'all that are not held with it are ready');
$gate->quit;
is($c->wait_for($id), 'done', 'the join ends');
push @{ $c->{order} }, 'n3';
$c->settle;
is($c->differences, '', 'rows are the same');

my @said = split /\n/, $c->queue('c', "SELECT replace(message, E'\\n', ' ') FROM zodan.events WHERE request_id = $id AND level = 'debug' ORDER BY id");
my @parts = grep { /COPY \(SELECT .* FROM ONLY public\.large WHERE ctid/ } @said;
cmp_ok(scalar @parts, '>', 2, 'the large table was read in ' . @parts . ' parts');
cmp_ok(scalar(grep { /COPY \(SELECT .* FROM ONLY public\.toasted WHERE ctid/ } @said), '>', 1, 'and the one whose rows are stored out of line in several');
my ($together) = sort { $b <=> $a } map { scalar(() = /COPY public\.small\d+ /g) } grep { /TO STDOUT/ } @said;
cmp_ok($together, '>', 3, "$together small tables were read together");
my $alone = qr/^SET LOCAL max_parallel_maintenance_workers = 0;/;
my ($first) = grep { /CREATE UNIQUE INDEX IF NOT EXISTS "Large / } @said;
like($first, $alone, 'an index is built by one process where the other lanes have work');
my ($last) = grep { /CREATE UNIQUE INDEX IF NOT EXISTS held_pkey / } @said;
unlike($last, $alone, 'and by as many as the server wants where they have none');
my $memory = qr/set_config\('maintenance_work_mem', least\(setting::int, 8192\)::text, true\)/;
unlike($first, $memory, 'with the memory that was set');
ok((grep { /VALUES .*''public.large'', ''large_pkey'', ''PRIMARY KEY''.* ADD CONSTRAINT %s %s USING INDEX %s/ } @said) > 0, 'the key was made from its index');
is($c->queue('c', "SELECT count(*) FILTER (WHERE built_at IS NULL), count(*) > 70 FROM zodan.copy_tables WHERE request_id = $id"), '0|t', 'every table is known to be ready');
is($c->queue('c', "SELECT count(*) FILTER (WHERE built_at IS NULL), count(*) > 140 FROM zodan.copy_indexes WHERE request_id = $id"), '0|t', 'every index too');
like($c->queue('c', "SELECT rows_copied, tables_copied = tables_total, bytes_copied > 0, snapshot_age FROM zodan.status WHERE request_id = $id"), qr/^\d+\|t\|t\|$/,
	'the status says how much that was');
is($c->text_difference($c->dump('n1'), $c->dump('n3')), '', 'the structure is the same');
is($c->psql('n3', q{SELECT count(*) FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname NOT IN ('empty', 'bare', 'here')
	AND NOT EXISTS (SELECT FROM pg_statistic WHERE starelid = c.oid)}), '0', 'every table that has rows has statistics');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- broken off between an index and the key that rests on it ----------

$c->add_server('n4');
# an error is stored durably, and with it that the index is there
$c->failpoints('c', 'error copy_data:built:key');
$c->server('c')->append_conf('postgresql.conf', 'zodan.maintenance_work_mem = 0');
$c->server('c')->reload;
$id = $c->request(new => 'n4', on => 'c', copy_jobs => 1, verb => 'true');
ok($c->wait_queue("SELECT attempt > 1 FROM zodan.status WHERE request_id = $id"), 'an error when an index was built, the join goes on');
is($c->wait_for($id), 'done', 'and ends done');
push @{ $c->{order} }, 'n4';
$c->failpoints('c', '');
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->text_difference($c->dump('n1'), $c->dump('n4')), '', 'and the structure');
is($c->queue('c', qq{SELECT count(*) FROM zodan.copy_tables t JOIN zodan.copy_indexes x USING (request_id, nspname, relname)
	JOIN zodan.copy_tables next USING (request_id) WHERE request_id = $id AND next.started_at BETWEEN t.finished_at AND x.built_at}), '0',
	'no table is begun by a lane that could build an index');
@said = split /\n/, $c->queue('c', "SELECT replace(message, E'\\n', ' ') FROM zodan.events WHERE request_id = $id AND level = 'debug' AND message LIKE '%CREATE %INDEX%' ORDER BY id");
like((grep { /EXISTS "Large / } @said)[0], $memory, 'an index gets the memory that its size needs, where none was set');
my ($hash) = grep { /EXISTS large_hash / } @said;
like($hash, $alone, 'one that is not sorted');
unlike($hash, $memory, 'gets all that there is');

# ---------- a table that is rewritten between two of its parts ----------

$c->add_server('n5');
# the queue being in a database of another encoding
$c->queue('c', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$c->{queue_db} = 'latin';
$c->queue('c', 'CREATE EXTENSION zodan_bgw; SELECT zodan.start()');
$c->psql('n1', qq{UPDATE held SET filler = 'no Latin: \x{20ac} \x{2603}' WHERE id = 1});
# in the same join, what pg_restore makes is made twice
$c->failpoints('c', 'error build_indexes:end');
$id = $c->request(new => 'n5', on => 'c', copy_jobs => 3, copy_rate => 1000000);
ok($c->wait_queue("SELECT bytes_copied > 100000 FROM zodan.status WHERE request_id = $id"), 'a large table is copied slowly');
ok($c->wait_queue("SELECT detail ~ 'part 1 of .*part 1 of' FROM zodan.status WHERE request_id = $id"), 'and another one by another lane');
ok($c->wait_queue("SELECT detail ~ 'public\\.(\\w+) \\(part .*public\\.\\1 \\(part' FROM zodan.status WHERE request_id = $id"),
	'the third one, when there is no other table, helps with one of them');
my ($largest) = split /\n/, $c->queue('c', "SELECT relname FROM zodan.copy_tables WHERE request_id = $id AND state = 'copying'");
$c->psql('n1', "VACUUM FULL $largest");
ok($c->wait_queue("SELECT count(*) > 0 FROM zodan.events WHERE request_id = $id AND message LIKE 'rewritten or truncated after snapshot%public.$largest%'"),
	"that $largest was rewritten is noticed");
$c->queue('c', "SELECT zodan.set_copy_rate($id, NULL)");
is($c->wait_for($id), 'done', 'it is copied again');
push @{ $c->{order} }, 'n5';
$c->settle;
is($c->differences, '', 'rows are the same');
like($c->queue('c', "SELECT string_agg(message, ', ') FROM zodan.events WHERE request_id = $id AND level = 'error'"), qr/failpoint build_indexes:end/,
	'a second attempt was made to restore what comes after the rows');
is($c->text_difference($c->dump('n1'), $c->dump('n5')), '', 'the structure is the same');
is($c->queue('c', "SELECT count(*) FROM zodan.copy_tables WHERE request_id = $id AND relname = 'held' AND binary_copy"), '1', 'also of text that the coordinator has no characters for');
$c->{queue_db} = undef;

# ---------- a table that is younger than the snapshot, which is gone when it's to be used ----------

$c->add_server('n6');
$c->failpoints('c', 'wait copy_%:snapshot');
$id = $c->request(new => 'n6', on => 'c', copy_jobs => 1);
my $go_on = $c->wait_failpoint('c', 'copy_schema:dump:snapshot');
$c->psql('n1', 'CREATE TABLE late (id int PRIMARY KEY); SELECT ' . $c->e('add_table') . "('default', 'late')");
$go_on->();
$go_on = $c->wait_failpoint('c', 'copy_data:reading:snapshot');
$c->failpoints('c', '');
is($c->queue('c', "SELECT count(*), count(*) FILTER (WHERE relname = 'late') FROM zodan.copy_tables WHERE request_id = $id"),
	$c->queue('c', "SELECT count(*), 0 FROM zodan.copy_tables WHERE request_id = 1"), 'what is copied is what the snapshot shows, as the structure is');
$c->psql('n1', 'DROP TABLE late CASCADE');
is($c->psql('n1', "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'walsender' AND application_name LIKE 'zodan_bgw: request $id%'"),
	't', 'its session is ended');
$go_on->();
is($c->wait_for($id), 'done', 'the request goes on under another one');
push @{ $c->{order} }, 'n6';
is($c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id"), '2', 'in another attempt');
$c->settle;
is($c->differences, '', 'rows are the same');
$c->stop;
done_testing();
