# The source writes transactions that take a while to apply, so that the stream
# by which the new node catches up is stopped in the middle of one. Protects from
# losing that one: Spock takes a worker that was stopped in the middle for a
# transaction that can't be applied, and would discard it.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id bigint PRIMARY KEY, name text); CREATE SEQUENCE s');
$c->psql('n1', "INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 1000) AS i");
$c->add_server('n3');
my $writer = $c->start_writer('n1',
	"INSERT INTO item SELECT 1000000 + nextval('s') * 2, 'large' FROM generate_series(1, 6000);\n", '--client=1', '--rate=2');
$c->wait_writing($writer);
$c->failpoints('n3', 'wait build_indexes:begin');
my $id = $c->request(new => 'n3');
my $go = $c->wait_failpoint('n3', 'build_indexes:begin');
my $rows = $c->psql('n1', 'SELECT count(*) FROM item');
ok($c->server('n1')->poll_query_until($c->{dbname}, "SELECT count(*) > $rows + 15000 FROM item"), 'the source is written between the copy and the cut');
$go->();
is($c->wait_for($id), 'done', 'the node joins');
push @{ $c->{order} }, 'n3';
$c->stop_writer($writer);
$c->settle;
is($c->discarded, '', 'nothing was discarded');
is($c->differences, '', 'rows are the same');
done_testing();
