# One of everything that a database can hold is on the source: the new node
# gets its structure as pg_dump tells it, and of the tables in the replication
# sets all rows. Protects from what is left out without a word: a constraint, a
# comment, a position of a sequence, rows of a kind of table that nobody thought of.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $e = $ZodanCluster::engine;
my $roles = q{
	CREATE ROLE app_owner; CREATE ROLE app_reader; CREATE ROLE "Odd Röle" LOGIN;
	GRANT app_reader TO "Odd Röle";
};
# a server may have been built without it
my $xml = `$ENV{PG_CONFIG} --configure` =~ /--with-libxml/ ? 'xml' : 'text';

# an extension that makes a table, and puts a row into it
chomp(my $share = `$ENV{PG_CONFIG} --sharedir`);
PostgreSQL::Test::Utils::append_to_file("$share/extension/lolor.control", "default_version = '1.0'\nrelocatable = false\nschema = lolor\n");
PostgreSQL::Test::Utils::append_to_file("$share/extension/lolor--1.0.sql",
	"CREATE TABLE lolor.pg_largeobject (loid oid, pageno int, data bytea, PRIMARY KEY (loid, pageno)); INSERT INTO lolor.pg_largeobject VALUES (1, 0, 'made')");

my $c = ZodanCluster->new(nodes => 1, sets => 'SELECT 1', setup => $roles . q{
	-- schemas, roles' rights, extensions
	CREATE SCHEMA app AUTHORIZATION app_owner;
	CREATE SCHEMA ext;
	CREATE SCHEMA "Ödd ""Schema""";
	CREATE SCHEMA left_out;
	COMMENT ON SCHEMA app IS 'the application''s';
	COMMENT ON SCHEMA public IS 'not what it was';
	GRANT USAGE ON SCHEMA app TO app_reader;
	GRANT CREATE ON SCHEMA public TO app_owner;
	ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO app_reader;
	CREATE EXTENSION hstore;
	CREATE EXTENSION pgcrypto SCHEMA ext;
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1');
	CREATE USER MAPPING FOR app_owner SERVER elsewhere OPTIONS (user 'u');
	CREATE FOREIGN TABLE app.far (id int) SERVER elsewhere;
	CREATE TABLE left_out.t (id int PRIMARY KEY);
	CREATE FUNCTION left_out.f() RETURNS int LANGUAGE sql RETURN 1;

	-- types
	CREATE TYPE app.mood AS ENUM ('so', 'sad', 'glad');
	ALTER TYPE app.mood ADD VALUE 'better' BEFORE 'glad';
	CREATE TYPE app.address AS (street text, no int, m app.mood);
	CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
	CREATE DOMAIN app.moods AS app.mood[];
	CREATE TYPE app.floatrange AS RANGE (subtype = float8, subtype_diff = float8mi);
	CREATE COLLATION app.c_like FROM "C";
	CREATE TEXT SEARCH CONFIGURATION app.search (COPY = simple);
	COMMENT ON TYPE app.mood IS 'how it is';

	-- functions
	CREATE FUNCTION app.twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';
	CREATE FUNCTION app.add(int, int) RETURNS int IMMUTABLE STRICT LANGUAGE sql AS 'SELECT $1 + $2';
	CREATE AGGREGATE app.total (int) (SFUNC = app.add, STYPE = int, INITCOND = '0');
	CREATE PROCEDURE app.nothing() LANGUAGE plpgsql AS 'BEGIN END' SET work_mem = '1MB';
	CREATE OPERATOR app.@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = app.add);
	CREATE CAST (app.address AS text) WITH INOUT;
	REVOKE EXECUTE ON FUNCTION app.twice FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION app.twice TO app_reader, app_owner;

	-- a column of every kind
	CREATE TABLE app.kinds (
		id int GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 7) PRIMARY KEY,
		double int GENERATED ALWAYS AS (app.twice(n)) STORED,
		gone_1 text, n int, t text COLLATE app.c_like, v varchar(20), ch char(5), qc "char", nm name,
		m app.mood, ms app.mood[], md app.moods, a app.address, aa app.address[], p app.positive,
		r int4range, mr int4multirange, fr app.floatrange, b bytea, j json, jb jsonb, h hstore, hs hstore[],
		cls regclass, prc regproc, typ regtype, typs regtype[], o oid, x } . $xml . q{, d numeric, ds numeric[][], f4 float4, f8 float8,
		ts timestamptz, iv interval, dt date, tm timetz, u uuid, ip inet, mac macaddr, tv tsvector, tq tsquery,
		bits varbit, cash money, pt point, poly polygon, lsn pg_lsn, yes bool, big text, ext_big text, "Ümlaut ""q"" ' \\ , :x" text);
	ALTER TABLE app.kinds DROP COLUMN gone_1;
	ALTER TABLE app.kinds ALTER ext_big SET STORAGE EXTERNAL, ALTER t SET STATISTICS 77, SET (fillfactor = 70);
	INSERT INTO app.kinds (n, t, v, ch, qc, nm, m, ms, md, a, aa, p, r, mr, fr, b, j, jb, h, hs, cls, prc, typ, typs, o, x, d, ds, f4, f8,
			ts, iv, dt, tm, u, ip, mac, tv, tq, bits, cash, pt, poly, lsn, yes, big, ext_big, "Ümlaut ""q"" ' \\ , :x")
		SELECT i, E'tab\tnl\nbs\\ "q" ''a'' \u00fc\u20ac\U0001F600', repeat('v', i % 20), 'ab', 'q', 'name' || i, 'glad', '{so,better}', '{sad}', ('a "b", (c)', i, 'sad')::app.address,
			ARRAY[('x,y', i, 'so')::app.address, NULL], i, int4range(i, i + 5), int4multirange(int4range(1, 2), int4range(4, 9)), app.floatrange(i::float8, i + 0.5::float8),
			decode(md5(i::text), 'hex') || '\\x00ff0d0a'::bytea, '{"a" : 1,  "a": 2}', jsonb_build_object('k', i), hstore('a', NULL) || hstore('b "', i::text), ARRAY[hstore('a', 'b')],
			'app.kinds', 'app.twice', 'app.mood', '{app.mood,int}', i::oid, '<a b="c">&amp;</a>', i / 3.0, '{{1,2},{3,NULL}}', i / 3.0, 'NaN',
			'infinity', '1 mon -3 days 00:00:01.5', '-infinity', '12:00+03', gen_random_uuid(), '::1/64', '08:00:2b:01:02:03', 'a fat cat'::tsvector, 'fat & (cat | rat)'::tsquery,
			B'10110', '12.34', '(1,2.5)', '((0,0),(1,1),(1,0))', '1/ABC', i % 2 = 0, repeat('long ', i * 100),
			(SELECT string_agg(md5(i::text || k), '') FROM generate_series(1, i * 40) k), 'y'
		  FROM generate_series(1, 50) i;
	INSERT INTO app.kinds DEFAULT VALUES;
	COMMENT ON COLUMN app.kinds."Ümlaut ""q"" ' \\ , :x" IS 'odd';

	-- tables of every kind
	CREATE TABLE app.by_default (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, s serial, t text DEFAULT 'dflt');
	INSERT INTO app.by_default (t) SELECT 'x' FROM generate_series(1, 10);
	CREATE TABLE app.nothing_in_it (id int PRIMARY KEY);
	CREATE TABLE app.zero ();
	INSERT INTO app.zero DEFAULT VALUES; INSERT INTO app.zero DEFAULT VALUES;
	CREATE TABLE app.all_dropped (a int); INSERT INTO app.all_dropped VALUES (1); ALTER TABLE app.all_dropped DROP COLUMN a;
	CREATE TABLE app.only_generated (id int GENERATED ALWAYS AS (7) STORED); INSERT INTO app.only_generated DEFAULT VALUES;
	CREATE TABLE app.no_key (a int, b text); INSERT INTO app.no_key SELECT 1, NULL FROM generate_series(1, 5);
	CREATE TABLE app.by_index (a int NOT NULL, b text); CREATE UNIQUE INDEX by_index_a ON app.by_index (a);
	ALTER TABLE app.by_index REPLICA IDENTITY USING INDEX by_index_a; INSERT INTO app.by_index VALUES (1, 'x');
	CREATE UNLOGGED TABLE app.unlogged (id int PRIMARY KEY); INSERT INTO app.unlogged VALUES (1);
	CREATE TABLE app.not_sent (id int PRIMARY KEY); INSERT INTO app.not_sent VALUES (1);
	CREATE TABLE app.filtered (gone int, id int PRIMARY KEY, keep bool, t text); ALTER TABLE app.filtered DROP gone;
	INSERT INTO app.filtered SELECT i, i % 3 = 0, 'row ' || i FROM generate_series(1, 30) i;
	CREATE TABLE app.heir_of_filtered (PRIMARY KEY (id)) INHERITS (app.filtered); INSERT INTO app.heir_of_filtered VALUES (33, true, 'of the heir');
	CREATE TABLE app.few_columns (id int PRIMARY KEY, open text, secret text DEFAULT 'none', later int NOT NULL DEFAULT 5);
	INSERT INTO app.few_columns SELECT i, 'open ' || i, 'secret ' || i, i FROM generate_series(1, 30) i;
	CREATE TABLE app.halved (id int PRIMARY KEY, a text, b text);
	INSERT INTO app.halved SELECT i, 'a ' || i, 'b ' || i FROM generate_series(1, 30) i;
	CREATE TABLE "Ödd ""Schema"""."Täble, 'x' ;" ("Cölumn" int PRIMARY KEY, "select" text, "a""b" text);
	INSERT INTO "Ödd ""Schema"""."Täble, 'x' ;" SELECT i, 's', 'q' FROM generate_series(1, 5) i;
	CREATE TABLE app.parts (id int, at date, k text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE app.parts_2020 PARTITION OF app.parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE app.parts_2021 (gone int, k text, at date NOT NULL, id int NOT NULL); ALTER TABLE app.parts_2021 DROP COLUMN gone;
	ALTER TABLE app.parts ATTACH PARTITION app.parts_2021 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
	CREATE TABLE app.parts_more PARTITION OF app.parts FOR VALUES FROM ('2022-01-01') TO ('2023-01-01') PARTITION BY HASH (id);
	CREATE TABLE app.parts_more_0 PARTITION OF app.parts_more FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE app.parts_more_1 PARTITION OF app.parts_more FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	ALTER TABLE app.parts_more ADD CHECK (id > 0);
	CREATE TABLE app.parts_default PARTITION OF app.parts DEFAULT;
	INSERT INTO app.parts SELECT i, '2020-06-01'::date + i * 10, 'k' FROM generate_series(1, 90) i;
	INSERT INTO app.parts VALUES (1, '1999-01-01', 'd');
	CREATE INDEX ON app.parts (k);
	CREATE TABLE app.parent (id int PRIMARY KEY, t text); CREATE TABLE app.heir (extra text, PRIMARY KEY (id)) INHERITS (app.parent);
	INSERT INTO app.parent VALUES (1, 'p'); INSERT INTO app.heir VALUES (1, 'h', 'e'), (2, 'h', 'e');

	-- constraints and indexes
	CREATE TABLE app.item (id int PRIMARY KEY, up int REFERENCES app.item DEFERRABLE INITIALLY DEFERRED, code text UNIQUE, a int, b int,
		CHECK (a > 0), CONSTRAINT pair UNIQUE (a, b) INCLUDE (code));
	INSERT INTO app.item SELECT i, nullif(i - 1, 0), 'c' || i, i, i FROM generate_series(1, 20) i;
	ALTER TABLE app.item ADD CONSTRAINT late CHECK (id <> 15) NOT VALID;
	CREATE TABLE app.part_of (item int, a int, b int, at date, FOREIGN KEY (item) REFERENCES app.item ON DELETE CASCADE ON UPDATE SET NULL,
		FOREIGN KEY (a, b) REFERENCES app.item (a, b) MATCH FULL, id int PRIMARY KEY, pid int, FOREIGN KEY (pid, at) REFERENCES app.parts);
	INSERT INTO app.part_of VALUES (1, 2, 2, '2020-06-11', 1, 1), (NULL, NULL, NULL, NULL, 2, NULL);
	ALTER TABLE app.no_key ADD CONSTRAINT dangling FOREIGN KEY (a) REFERENCES app.nothing_in_it NOT VALID;
	COMMENT ON CONSTRAINT dangling ON app.no_key IS 'never checked';
	COMMENT ON CONSTRAINT part_of_item_fkey ON app.part_of IS 'checked';
	ALTER TABLE app.parts ADD COLUMN item int; UPDATE app.parts SET item = id WHERE id < 10;
	ALTER TABLE app.parts ADD CONSTRAINT to_item FOREIGN KEY (item) REFERENCES app.item;
	ALTER TABLE app.parts_2020 ADD CONSTRAINT only_here FOREIGN KEY (item) REFERENCES app.parent NOT VALID;
	CREATE TABLE app.booking (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&) WHERE (id > 0));
	INSERT INTO app.booking VALUES (1, '[1,3)'), (2, '[3,9)');
	CREATE INDEX by_expression ON app.item ((app.twice(a)), lower(code)) WHERE a > 3;
	CREATE UNIQUE INDEX same_nulls ON app.item (up, id) NULLS NOT DISTINCT;
	ALTER TABLE app.item CLUSTER ON same_nulls;
	CREATE STATISTICS app.pairs ON a, b FROM app.item;
	CREATE INDEX ON app.kinds USING gin (jb); COMMENT ON INDEX app.by_expression IS 'an index';

	-- views, rules, triggers, policies
	CREATE VIEW app.seen WITH (security_barrier) AS SELECT * FROM app.item WHERE a > 1 WITH CHECK OPTION;
	CREATE VIEW app.more AS SELECT * FROM app.seen; GRANT SELECT ON app.more TO "Odd Röle";
	CREATE MATERIALIZED VIEW app.kept AS SELECT id, code FROM app.item; CREATE UNIQUE INDEX ON app.kept (id);
	CREATE MATERIALIZED VIEW app.on_kept AS SELECT count(*) FROM app.kept;
	CREATE MATERIALIZED VIEW app.not_filled AS SELECT 1 AS one WITH NO DATA;
	CREATE RECURSIVE VIEW app.tree (id) AS SELECT 1 UNION ALL SELECT id + 1 FROM tree WHERE id < 3;
	CREATE TABLE app.log (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, what text);
	CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO app.log (what) VALUES (TG_NAME || ' ' || TG_OP); RETURN NEW; END $$;
	CREATE TRIGGER usual AFTER INSERT ON app.item FOR EACH ROW EXECUTE FUNCTION app.note();
	CREATE TRIGGER always AFTER INSERT ON app.item FOR EACH ROW EXECUTE FUNCTION app.note();
	CREATE TRIGGER replica AFTER INSERT ON app.item FOR EACH ROW EXECUTE FUNCTION app.note();
	CREATE TRIGGER never BEFORE UPDATE OF a ON app.item FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION app.note();
	CREATE CONSTRAINT TRIGGER at_last AFTER INSERT ON app.item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note();
	ALTER TABLE app.item ENABLE ALWAYS TRIGGER always; ALTER TABLE app.item ENABLE REPLICA TRIGGER replica; ALTER TABLE app.item DISABLE TRIGGER never;
	INSERT INTO app.item VALUES (100, 1, 'trigger', 100, 100) ON CONFLICT DO NOTHING;
	REFRESH MATERIALIZED VIEW app.kept; REFRESH MATERIALIZED VIEW app.on_kept;
	COMMENT ON TRIGGER usual ON app.item IS 'a trigger';
	CREATE RULE kept_away AS ON DELETE TO app.by_default DO INSTEAD NOTHING;
	CREATE RULE twice AS ON INSERT TO app.by_index DO ALSO NOTHING;
	ALTER TABLE app.filtered ENABLE ROW LEVEL SECURITY; ALTER TABLE app.filtered FORCE ROW LEVEL SECURITY;
	CREATE POLICY for_readers ON app.filtered FOR SELECT TO app_reader USING (keep);
	CREATE FUNCTION app.guard() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.log (what) VALUES (tg_tag); END $$;
	CREATE EVENT TRIGGER guard ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE INDEX', 'COMMENT', 'DROP SCHEMA', 'DROP TABLE') EXECUTE FUNCTION app.guard();
	CREATE FUNCTION app.keep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nothing is dropped here'; END $$;
	CREATE EVENT TRIGGER keep ON sql_drop WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION app.keep();
	ALTER EVENT TRIGGER keep ENABLE ALWAYS;
	COMMENT ON EVENT TRIGGER guard IS 'writes what is done';
	CREATE PUBLICATION pub FOR TABLE app.item;

	-- sequences
	CREATE SEQUENCE app.untouched START 5;
	CREATE SEQUENCE app.used INCREMENT 3 CACHE 10; SELECT nextval('app.used'), nextval('app.used');
	CREATE SEQUENCE "Ödd ""Schema"""."Seq ü" INCREMENT -1 MINVALUE -100 MAXVALUE 10 START 10 CYCLE; SELECT nextval('"Ödd ""Schema"""."Seq ü"');
	CREATE SEQUENCE app.at_value; SELECT setval('app.at_value', 42, false);
	CREATE SEQUENCE app.small AS smallint MAXVALUE 99; SELECT setval('app.small', 99);
	ALTER TABLE app.item OWNER TO app_owner; GRANT UPDATE (code) ON app.item TO "Odd Röle";
	DO $$ BEGIN FOR i IN 1 .. 520 LOOP EXECUTE format('CREATE SEQUENCE app.many_%s START %1$s', i); END LOOP; END $$;
	SELECT lo_from_bytea(0, 'a large object');

	-- an extension that has a table, with rows
	CREATE EXTENSION lolor;
	UPDATE lolor.pg_largeobject SET data = 'of n1'; INSERT INTO lolor.pg_largeobject VALUES (2, 0, 'of n1');
});

# what is replicated: rows by a filter, columns by a list, each other table whole
$c->psql('n1', sprintf 'SELECT ' . $c->e('add_table') . '(%s)', q{'default', 'app.filtered', false, NULL, 'keep AND id > 3'});
$c->psql('n1', sprintf 'SELECT ' . $c->e('add_table') . '(%s)', q{'default_insert_only', 'app.filtered', false, NULL, 'id <> 9'});
$c->psql('n1', sprintf 'SELECT ' . $c->e('add_table') . '(%s)', q{'default', 'lolor.pg_largeobject'});
$c->psql('n1', sprintf 'SELECT ' . $c->e('add_table') . '(%s)', q{'default', 'app.few_columns', false, '{id,open,later}'});
$c->psql('n1', sprintf 'SELECT ' . $c->e('add_table') . '(%s)', q{'default', 'app.halved', false, '{id,a}', $$id % 2 = 0 AND a <> 'a 4'$$});
$c->psql('n1', sprintf q{
	DO $$
	DECLARE t record;
	BEGIN
		FOR t IN SELECT c.oid::regclass AS name, EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)) AS key
		           FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('app', '"Ödd ""Schema"""') AND c.relkind = 'r' AND c.relpersistence = 'p'
		            AND c.relname NOT IN ('filtered', 'few_columns', 'halved', 'not_sent')
		LOOP
			PERFORM %s(CASE WHEN t.key THEN 'default' ELSE 'default_insert_only' END, t.name);
		END LOOP;
	END $$}, $c->e('add_table'));
$c->psql('n1', sprintf 'SELECT ' . $c->e('add_seq') . q{('default', 'app.used')});

my $n2 = $c->add_server('n2');
$c->psql('n2', $roles . 'CREATE SCHEMA left_out');
# nobody writes into their table
my $id = $c->request(new => 'n2', copy_jobs => 3, options => '{"accept_triggers": ["app.item.always", "app.item.replica"]}');
is($c->wait_for($id), 'done', 'the node joins');
note($c->queue('n2', "SELECT to_char(at, 'SS.MS'), phase, node, message FROM zodan.events WHERE request_id = $id ORDER BY id"));
push @{ $c->{order} }, 'n2';

# ---------- structure ----------

is($c->text_difference($c->dump('n1', '--exclude-schema=left_out'), $c->dump('n2', '--exclude-schema=left_out')), '', 'the structure is that of the source');
is($c->queue('n2', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND level = 'warning' AND message LIKE '%{left_out}'"), '1',
	'the schema that was there already is named in an event');
is($c->psql('n2', "SELECT count(*) FROM pg_class WHERE relnamespace = 'left_out'::regnamespace"), '0', 'and is left as it was');
is($c->psql('n2', "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE NOT convalidated AND conparentid = 0"),
	$c->psql('n1', "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE NOT convalidated AND conparentid = 0"), 'the same constraints are not validated');
is($c->psql('n2', 'SELECT count(*) FROM pg_index WHERE NOT indisvalid'), '0', 'all indexes are valid');
is($c->psql('n2', 'SELECT count(*) FROM pg_largeobject_metadata'), '0', 'no large object is made without its contents');

# ---------- rows ----------

my @whole = grep { !/^app\.(filtered|few_columns|halved|not_sent|unlogged|log) / && !/^left_out/ } split /\n/, $c->checksums('n1');
my @got = grep { !/^app\.(filtered|few_columns|halved|not_sent|unlogged|log) / && !/^left_out/ } split /\n/, $c->checksums('n2');
cmp_ok(scalar @whole, '>', 15, 'there is something to compare');
is_deeply(\@got, \@whole, 'all rows of all tables that are replicated whole');
is($c->psql('n2', "SELECT string_agg(id::text, ' ' ORDER BY id), bool_and(keep AND t IS NOT NULL) FROM app.filtered"), '6 12 15 18 21 24 27 30 33|t',
	'the rows that both filters let through, those of the heir once');
is($c->psql('n2', 'SELECT loid, data FROM lolor.pg_largeobject ORDER BY loid'), "1|\\x6f66206e31\n2|\\x6f66206e31", 'the table of an extension has the source\'s rows');
is($c->psql('n2', "SELECT count(*), bool_and(open = 'open ' || id AND later = id AND secret = 'none') FROM app.few_columns"), '30|t',
	'the columns of the list, the others by their default');
is($c->psql('n2', "SELECT count(*), bool_and(a = 'a ' || id), count(b) FROM app.halved"), '14|t|0', 'rows by a filter and columns by a list');
is($c->psql('n2', 'SELECT (SELECT count(*) FROM app.not_sent), (SELECT count(*) FROM app.unlogged)'), '0|0', 'what is in no set is empty');
is($c->psql('n2', 'SELECT count(*) FROM ONLY app.parent'), '1', 'rows of an heir are not copied twice');
is($c->psql('n2', 'SELECT count(*) FROM app.kept JOIN app.item USING (id, code)'), $c->psql('n1', 'SELECT count(*) FROM app.kept'), 'materialized views are filled');
is($c->psql('n2', "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'm' AND NOT relispopulated"), 'not_filled', 'but for the one that was not');
is($c->psql('n2', 'SELECT count FROM app.on_kept'), $c->psql('n1', 'SELECT count FROM app.on_kept'), 'also one that reads another');
is($c->psql('n2', 'SELECT count(*) FROM app.log'), $c->psql('n1', 'SELECT count(*) FROM app.log'), 'no trigger and no event trigger was fired by the join');
is($c->queue('n2', "SELECT count(*) FROM zodan.copy_tables WHERE request_id = $id AND (state <> 'copied' OR rows_copied IS NULL)"), '0', 'every table is known as copied');
is($c->queue('n2', "SELECT bool_and(binary_copy) FILTER (WHERE relname = 'item'), bool_or(binary_copy) FILTER (WHERE relname = 'kinds') FROM zodan.copy_tables WHERE request_id = $id"),
	't|f', 'binary where types allow it, text elsewhere');

# ---------- sequences ----------

# one that is in a replication set the engine itself moves on by 1000, on the other nodes, whenever the manager of one that has it looks at it
my $positions = q{SELECT string_agg(format('%s.%s %s', schemaname, sequencename, last_value), E'\n' ORDER BY 1) FROM
	(SELECT * FROM pg_sequences WHERE schemaname NOT IN ('left_out', 'spock', 'pglogical') AND sequencename <> 'used' ORDER BY 1, 2) AS s};
is($c->psql('n2', $positions), $c->psql('n1', $positions), 'sequences stand where those of the source stand');
like($c->psql('n2', 'SELECT last_value FROM app.used'), qr/^([1-9]\d*0)?28$/, 'that of a replication set as well');
is($c->psql('n2', "SELECT nextval('app.at_value'), nextval('app.untouched')"), '42|5', 'also where no value was taken yet');

# ---------- and the streams ----------

$c->psql('n1', q{
	INSERT INTO app.parts VALUES (7, '2020-02-02', 'n1'), (8, '2021-02-02', 'n1'), (9, '1980-01-01', 'n1');
	INSERT INTO app.kinds (n, ms, a, aa, h, cls, b) VALUES (-1, '{glad}', ('s', 1, 'so'), ARRAY[('t', 2, 'sad')::app.address], 'x=>y', 'app.item', '\x00');
	UPDATE app.kinds SET t = 'updated' WHERE n = 5;
	INSERT INTO app.filtered VALUES (100, true, 'yes'), (101, false, 'no');
	INSERT INTO app.few_columns VALUES (100, 'o', 's', 1);
	INSERT INTO app.no_key VALUES (NULL, 'n1');
	INSERT INTO "Ödd ""Schema"""."Täble, 'x' ;" VALUES (100, 'n1', 'n1');
});
$c->psql('n2', q{
	INSERT INTO app.parts VALUES (17, '2020-02-02', 'n2'), (19, '1980-01-01', 'n2');
	INSERT INTO app.no_key VALUES (NULL, 'n2');
	INSERT INTO app.few_columns VALUES (200, 'o', 's', 1);
	INSERT INTO app.filtered VALUES (200, true, 'yes'), (201, false, 'no');
	INSERT INTO "Ödd ""Schema"""."Täble, 'x' ;" VALUES (200, 'n2', 'n2');
});
$c->settle;
@whole = grep { !/^app\.(filtered|few_columns|halved|not_sent|unlogged|log) / && !/^left_out/ } split /\n/, $c->checksums('n1');
@got = grep { !/^app\.(filtered|few_columns|halved|not_sent|unlogged|log) / && !/^left_out/ } split /\n/, $c->checksums('n2');
is_deeply(\@got, \@whole, 'what is written later is the same on both');
is($c->psql('n2', 'SELECT count(*) FROM app.filtered WHERE id IN (100, 101)'), '1', 'the source sends by its filter');
is($c->psql('n1', 'SELECT count(*) FROM app.filtered WHERE id IN (200, 201)'), '1', 'and so does the new node');
is($c->psql('n1', 'SELECT secret FROM app.few_columns WHERE id = 200'), 'none', 'and by the list of columns');
is($c->leftovers($id), '', 'nothing is left over');
done_testing();
