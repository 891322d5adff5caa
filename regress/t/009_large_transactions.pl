# The source writes transactions that take a while to apply, so that the stream
# by which the new node catches up is stopped in the middle of one. Protects from
# losing that one: Spock takes a worker that was stopped in the middle for a
# transaction that can't be applied, and would discard it.
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
	"INSERT INTO item SELECT 1000000 + nextval('s') * 2, 'large' FROM generate_series(1, 6000);\n", '--client=1', '--rate=20');
$c->wait_writing($writer);
is($c->join_node('n3'), 'done', 'the node joins');
$c->stop_writer($writer);
my $join = $c->queue('n3', "SELECT format('BETWEEN %L AND %L', started_at, finished_at) FROM zodan.status");
cmp_ok($c->psql('n1', "SELECT count(DISTINCT xmin::text) FROM item WHERE pg_xact_commit_timestamp(xmin) $join"), '>', 1,
	'large transactions were committed on the source meanwhile');
$c->settle;
is($c->discarded, '', 'nothing was discarded');
is($c->differences, '', 'rows are the same');
done_testing();
