# What a comparison of rows meets in tables: names with quotes, percent signs and those
# that its statements use, keys and columns of all kinds, nodes whose databases have other
# settings. No row is taken for another, and what differs is found in each. Protects from
# false alarms, and from tables that are passed over.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $odd = q{"100%s 'q' \\ ""x"" %1$s"};
my $c = ZodanCluster->new(nodes => 2, setup => qq{
	CREATE EXTENSION citext;
	CREATE TYPE duo AS (a int, b text);
	CREATE DOMAIN positive AS numeric(10, 2) CHECK (VALUE > 0);
	CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE $odd ("k %d" int, "k ""2""" text, "x" int, "r" int, "q" int, "rows" int, "zodan_key" text, "zodan_n" int, "%I" numeric, PRIMARY KEY ("k %d", "k ""2"""));
	CREATE TABLE ci (k citext PRIMARY KEY, n int);
	CREATE TABLE caseless (k text COLLATE caseless PRIMARY KEY, n int);
	CREATE TABLE locale (k text COLLATE "en-x-icu" PRIMARY KEY, n int);
	CREATE TABLE domains (k positive, d date, PRIMARY KEY (k, d));
	CREATE TABLE kinds (a char(5), b numeric, c float8, d int[], e int4range, f bytea, g interval, h money, i inet, j "char", k uuid, l bit(3), n name, o bool, p oid, z int,
		PRIMARY KEY (a, b, c, d, e, f, g, h, i, j, k, l, n, o, p));
	CREATE TABLE columns (id int PRIMARY KEY, a duo, b duo[], c jsonb, d xml, e tsvector, f float4, g timestamptz, h timetz, i interval, j money, k bytea, m point, dropped int, o int);
	ALTER TABLE columns DROP COLUMN dropped;
	ALTER TABLE columns ADD added int DEFAULT 7;
	CREATE TABLE gap (id int PRIMARY KEY);
	CREATE TABLE copies (n citext PRIMARY KEY);
	CREATE TABLE base (id int PRIMARY KEY);
	CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (base);
});
$c->psql('n1', qq{
	INSERT INTO $odd SELECT i, 'a,"' || chr(39) || '\\' || i, 1, 2, 3, 4, '{}', 5, 1.0 FROM generate_series(1, 100) i;
	INSERT INTO ci SELECT CASE WHEN i % 2 = 0 THEN 'a' ELSE 'B' END || i, i FROM generate_series(1, 100) i;
	INSERT INTO caseless SELECT CASE WHEN i % 2 = 0 THEN 'a' ELSE 'B' END || i, i FROM generate_series(1, 100) i;
	INSERT INTO locale SELECT CASE WHEN i % 2 = 0 THEN 'a ' ELSE 'ä-' END || i, i FROM generate_series(1, 100) i;
	INSERT INTO domains SELECT i / 3.0, date '0001-01-01 BC' + i FROM generate_series(1, 100) i;
	INSERT INTO kinds SELECT 'a' || i, i / 7.0, CASE i % 4 WHEN 0 THEN '-0' WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' ELSE 1e-300 END::float8, ARRAY[i, NULL], int4range(i, i + 2), ('\\x' || to_hex(256 + i) || '0')::bytea,
		i * interval '1 month -3 days 04:05:06.7', i::money / 3, '10.0.0.1/24', 'x', gen_random_uuid(), B'101', 'n' || i, i % 2 = 0, i, i FROM generate_series(1, 100) i;
	INSERT INTO columns SELECT i, ROW(i, NULL)::duo, ARRAY[ROW(i, 'a"b')::duo], '{"a": 1.0}', '<a/>', 'a:1 b:2', 1.1 * i, now(), now()::timetz, '1 month -1 s', 1234.5, '\\x00ff', '(1,2)', NULL FROM generate_series(1, 100) i;
	INSERT INTO gap SELECT i * 1000 FROM generate_series(-100, 100) i;
	INSERT INTO base VALUES (1);
	INSERT INTO heir VALUES (1), (2);
});
# what a session of a node prints by itself
$c->psql('n2', "ALTER DATABASE inventory SET $_") for q{datestyle = 'German, DMY'}, q{timezone = 'Asia/Tokyo'}, q{bytea_output = 'escape'}, q{intervalstyle = 'iso_8601'}, 'extra_float_digits = -5',
  'quote_all_identifiers = on', q{xmlbinary = 'hex'}, q{search_path = 'nowhere'}, 'enable_indexscan = off', 'standard_conforming_strings = off', q{default_transaction_isolation = 'serializable'};
$c->settle;
$c->add_server('c');

sub verify
{
	return $c->queue('c', 'SELECT zodan.verify(' . join(', ', map { ZodanCluster::q_($_) } 'n1', $c->dsn('n1')) . ", verify_timeout => '1 s')");
}

sub plant { return $c->psql('n2', "SELECT pg_replication_origin_session_setup('planted'); SET search_path = public; SET standard_conforming_strings = on; $_[0]"); }

my $id = verify();
is($c->wait_for($id, 'c'), 'done', 'no row differs');
is($c->queue('c', "SELECT concat_ws(' ', tables, tables_compared, rows, differing, undecided) FROM zodan.verifications WHERE request_id = $id"), '11 11 904 0 0', 'and all have been compared');

my @changes = (qq{UPDATE $odd SET "%I" = 1.00 WHERE "k %d" = 5}, qq{DELETE FROM $odd WHERE "k %d" = 6}, 'UPDATE ci SET n = 0 WHERE n = 50', q{UPDATE ci SET k = upper(k) WHERE n = 60},
	'UPDATE caseless SET n = 0 WHERE n = 1', 'DELETE FROM locale WHERE n = 99', "DELETE FROM domains WHERE k = 0.33", 'UPDATE kinds SET z = 0 WHERE z = 4', 'DELETE FROM kinds WHERE z IN (1, 2)',
	q{UPDATE columns SET e = 'a:1 b:3', m = '(1,3)', added = NULL WHERE id = 9}, q{UPDATE columns SET o = 0 WHERE id = 10}, 'INSERT INTO gap VALUES (1), (-200000), (200000)', 'DELETE FROM heir WHERE id = 1');
$c->psql('n2', "SELECT pg_replication_origin_create('planted')");
plant($_) for @changes;
$id = verify();
is($c->wait_for($id, 'c'), 'failed', 'rows differ');
is($c->queue('c', "SELECT string_agg(concat_ws(' ', relname, CASE WHEN relname NOT IN ('ci', 'kinds', 'domains') THEN key END, difference, columns), E'\\n' ORDER BY relname COLLATE \"C\", difference, key COLLATE \"C\") FROM zodan.differences WHERE request_id = $id"),
	join("\n", q{100%s 'q' \\ "x" %1$s {5,"a,\"'\\\\5"} changed {%I}}, q{100%s 'q' \\ "x" %1$s {6,"a,\"'\\\\6"} missing},
		'caseless {B1} changed {n}', 'ci extra', 'ci extra', 'ci missing', 'ci missing', 'columns {10} changed {o}', 'columns {9} changed {e,m,added}', 'domains missing',
		'gap {-200000} extra', 'gap {1} extra', 'gap {200000} extra', 'heir {1} missing', 'kinds changed {z}', 'kinds missing', 'kinds missing', 'locale {ä-99} missing'),
	'what was planted is found in each, and nothing else');

# ---------- a node with far more rows than the source ----------

plant($_) for 'INSERT INTO base SELECT i FROM generate_series(10, 250000) i', 'INSERT INTO copies SELECT i FROM generate_series(10, 100000) i', 'DELETE FROM kinds';
$id = verify();
is($c->wait_for($id, 'c'), 'failed', 'a node has far more rows than the source');
is($c->queue('c', "SELECT string_agg(relname || ' ' || (n >= 10000), ', ' ORDER BY relname) FROM (SELECT relname, count(*) AS n FROM zodan.differences WHERE request_id = $id AND relname IN ('base', 'copies') GROUP BY 1) AS d"),
	'base true, copies true', 'ten thousand of each are named');
cmp_ok($c->queue('c', "SELECT max(n) FROM (SELECT count(*) AS n FROM zodan.differences WHERE request_id = $id GROUP BY relname) AS d"), '<', 20000, 'and not many more');
like($c->queue('c', "SELECT string_agg(message, ' ') FROM zodan.events WHERE request_id = $id AND level = 'warning'"), qr/table public\.base: at least 10\d\d\d rows differ; the rest of the table is not compared/, 'an event tells that');
is($c->queue('c', "SELECT undecided FROM zodan.verifications WHERE request_id = $id"), '0', 'nothing is left undecided');
is($c->queue('c', "SELECT count(*) FROM zodan.differences WHERE request_id = $id AND relname = 'kinds' AND difference = 'missing'"), '100', 'all rows of a table are missing');
done_testing();
