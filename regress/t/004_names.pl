# Names as people shouldn't choose them but may: blanks, quotes, backslashes,
# umlauts, 63 bytes, what means something to a format, an array or a shell; for
# nodes, the database, schemas, tables, columns, sequences, constraints, roles.
# Protects from a name that is taken apart on its way through SQL, a connection
# string, an array, JSON, pg_dump's arguments or the name of a slot.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(sum);
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

# nodes, the last two of 63 bytes and the same but for the last
my @nodes = ('n 1', qq{n"2' \\x}, ("\xc3\xbc" x 31) . 'u');
my @new = (("\xc3\xbc" x 31) . 'v', 'NULL,{"Z\xc3\xa4hler"} %s $1 ; --');
my $dbname = q{Odd "db" 'x' \\ } . "\xc3\xa4 100% {a,b} \$1";
$dbname .= 'd' x (63 - length $dbname);
my $long = ("\xc3\xb6" x 31) . 'o';
my ($schema, $table, $column, $sequence) = map { ZodanCluster::ident($_) } ("S 'ch' \"e\" \\ma.%", "$long", "C, \"o\" 'l' \\ \$1", 'Seq."1"');
my $lower = ZodanCluster::ident('a,b;{c}');
my $roles = q{CREATE ROLE "R 'o' ""l"" e" LOGIN; CREATE ROLE "} . $long . '" LOGIN; GRANT "' . $long . q{" TO "R 'o' ""l"" e";};
my $setup = qq{
	$roles
	CREATE SCHEMA $schema;
	CREATE TABLE $schema.$table ($column int CONSTRAINT "the ""key"" 'x'" PRIMARY KEY, "select" text, "$long" text DEFAULT 'd', "\xe2\x82\xac" numeric);
	CREATE TABLE $schema.$lower ("id""'" int PRIMARY KEY, up int CONSTRAINT "to 'it' ""%""" REFERENCES $schema.$table, keep int);
	CREATE TABLE "Public.table" ("group" int, "a b" text);
	CREATE SEQUENCE $schema.$sequence START 7;
	CREATE INDEX "in,dex \\" ON $schema.$table ("$long");
	ALTER TABLE $schema.$table OWNER TO "R 'o' ""l"" e"; GRANT USAGE ON SCHEMA $schema TO "$long";
	COMMENT ON COLUMN $schema.$table.$column IS 'odd \\ "too"';
};
my $add = 'SELECT ' . ZodanCluster->e('add_table');
my $sets = join ';', sprintf('SELECT ' . ZodanCluster->e('set'), "'Set \"1\" ''x'''"),
  "$add('default', " . ZodanCluster::q_("$schema.$table") . ')',
  "$add('Set \"1\" ''x''', " . ZodanCluster::q_("$schema.$lower") . ", false, NULL, 'keep > 0')",
  "$add('default_insert_only', '\"Public.table\"')";
my $c = ZodanCluster->new(nodes => \@nodes, dbname => $dbname, setup => $setup, sets => $sets,
	subscribe_sets => "ARRAY['default', 'default_insert_only', 'Set \"1\" ''x''']");
$c->psql($nodes[0], qq{
	INSERT INTO $schema.$table SELECT i, 'a', 'b', i / 3.0 FROM generate_series(1, 100) i;
	INSERT INTO $schema.$lower SELECT i, i, i % 2 FROM generate_series(1, 100) i;
	INSERT INTO "Public.table" VALUES (1, 'x'), (1, 'x');
	SELECT nextval('$schema.$sequence') \\g /dev/null
} =~ s/nextval\('(.*)'\)/"nextval(" . ZodanCluster::q_($1) . ")"/er);
$c->settle;

my $n = @nodes;
for my $new (@new)
{
	$c->add_server($new);
	$c->psql($new, $roles);
	my $id = $c->request(new => $new, src => $n == 3 ? $nodes[0] : $new[0], verb => 't');
	is($c->wait_for($id), 'done', "$new joins");
	push @{ $c->{order} }, $new;
	$n++;
	is($c->leftovers($id), '', 'nothing is left over');
	is($c->text_difference($c->dump($nodes[0]), $c->dump($new)), '', 'the structure is the same');
	is($c->psql($new, "SELECT count(*), min(keep) FROM $schema.$lower"), '50|1', 'rows are let through by the filter of a set with an odd name');
	is($c->queue($new, "SELECT node FROM zodan.status WHERE request_id = $id"), $new, 'the status has the name');
	is($c->psql($new, 'SELECT string_agg(node_name, chr(10) ORDER BY node_id) FROM ' . $ZodanCluster::engine . '.node'),
		$c->psql($nodes[0], 'SELECT string_agg(node_name, chr(10) ORDER BY node_id) FROM ' . $ZodanCluster::engine . '.node'), 'so has every node');
}
is(sum(map { $c->psql($_, 'SELECT count(*) FROM ' . $c->e('status') . " WHERE status = 'replicating'") } @nodes, @new), 20,
	'all twenty subscriptions are replicating');
my $k = 0;
for my $name (@nodes, @new)
{
	$k++;
	$c->psql($name, qq{INSERT INTO $schema.$table VALUES (-$k, 'from $k'); INSERT INTO "Public.table" VALUES ($k, 'from'); INSERT INTO $schema.$lower VALUES (-$k, -$k, 5); UPDATE $schema.$table SET "select" = 'u' WHERE $column = $k});
}
$c->settle;
for my $name (@nodes, @new)
{
	is($c->psql($name, qq{SELECT (SELECT count(*) FROM $schema.$table WHERE $column < 0 OR "select" = 'u'), (SELECT count(*) FROM $schema.$lower WHERE "id""'" < 0), (SELECT count(*) FROM "Public.table" WHERE "a b" = 'from')}),
		'10|5|5', "a row of each arrives on $name");
}
# the filter has kept half of one table's rows from the new nodes
my @same = grep { !/a,b;\{c\}/ } split /\n/, $c->checksums($nodes[0]);
is_deeply([ grep { !/a,b;\{c\}/ } split /\n/, $c->checksums($_) ], \@same, "rows are the same on $_") for @new;
done_testing();
