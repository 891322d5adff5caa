# A join of one node to one, from INSERT to done, and of a fourth to three.
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
	nodes => 1,
	setup => 'CREATE TABLE item (id int PRIMARY KEY, name text);
			  CREATE TABLE stock (item int REFERENCES item, place text, n int, PRIMARY KEY (item, place));
			  CREATE SEQUENCE s START 77;');
$c->psql('n1', "INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 1000) i;
	INSERT INTO stock SELECT i, 'here', i FROM generate_series(1, 1000) i; SELECT nextval('s')");
$c->add_server('n2');
is($c->join_node('n2'), 'done', 'a second node joins the only one');
is($c->differences, '', 'rows are the same');
is($c->psql('n2', "SELECT last_value FROM s"), '77', 'sequences are set');
$c->psql('n2', "INSERT INTO item VALUES (-2, 'from n2')");
$c->psql('n1', "INSERT INTO item VALUES (-1, 'from n1')");
$c->settle;
is($c->psql('n1', 'SELECT count(*) FROM item'), '1002', 'n1 has the rows of both');
is($c->differences, '', 'so has n2');

$c->add_server('n3');
is($c->join_node('n3'), 'done', 'a third node joins');
$c->add_server('n4');
is($c->join_node('n4', src => 'n2'), 'done', 'a fourth joins, from the second');
for my $n (1 .. 4)
{
	$c->psql("n$n", "INSERT INTO item VALUES (-10 * $n, 'both ways')");
}
$c->settle;
is($c->psql('n4', 'SELECT count(*) FROM item WHERE id <= -10'), '4', 'a row of each arrives on the new one');
is($c->differences, '', 'and everywhere');
done_testing();
