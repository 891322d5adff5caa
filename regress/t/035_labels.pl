# While the source's stream is cut, others commit with labels of their own: prepared
# transactions of another database of the new node's server, and somebody in the new
# node's database itself. Protects from a position that isn't that of the stream, from
# which rows would be missing, or come twice.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $e = $ZodanCluster::engine;
my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id int PRIMARY KEY, name text)');
$c->psql('n1', "INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i");
$c->settle;
$c->add_server('c');

# commits a row with a label that says so; in two phases or at once
sub commit_labelled
{
	my ($name, $db, $lsn, $prepared) = @_;
	return $c->server($name)->safe_psql($db, "SELECT pg_replication_origin_session_setup('elsewhere'); BEGIN; SELECT pg_replication_origin_xact_setup('$lsn', now());"
		  . "INSERT INTO labelled VALUES (1);" . ($prepared ? "PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'" : 'COMMIT'));
}

# ---------- transactions of the source that are empty on the way to others ----------

# what a worker commits by itself after one of these is labelled with where that begins
$c->psql('n1', 'CREATE TABLE unsent (i int)');
$c->add_server('n5');
my $writer = $c->start_writer('n1', "INSERT INTO unsent VALUES (1);\n", '--client=2', '--rate=200');
$c->wait_writing($writer);
is($c->join_node('n5', on => 'c'), 'done', 'a node joins while the source commits what is not sent');
$c->stop_writer($writer);
$c->psql($_, 'DROP TABLE IF EXISTS unsent') for qw(n1 n5);
$c->settle;
is($c->differences, '', 'no row is missing');

# ---------- labels of others ----------

for my $where ('another database', 'its own database')
{
	my $own = $where eq 'its own database';
	my $new = $own ? 'n4' : 'n3';
	$c->add_server($new, conf => "max_prepared_transactions = 5\n");
	my $db = $own ? $c->{dbname} : 'postgres';
	$c->failpoints('c', 'wait advance_slots:cut:stopped');
	my $id = $c->request(new => $new, on => 'c');
	my $go = $c->wait_failpoint('c', 'advance_slots:cut:stopped');
	$c->failpoints('c', '');
	# the new node doesn't have these yet
	my ($first, $last) = $own ? (7001, 8000) : (6001, 7000);
	$c->psql('n1', "INSERT INTO item SELECT i, 'after the cut' FROM generate_series($first, $last) i");
	$c->psql('n1', "SELECT pg_logical_emit_message(false, 'test', 'no commit')") if $own;
	my $lsn = $c->psql('n1', 'SELECT pg_current_wal_insert_lsn()');
	$c->server($new)->safe_psql($db, "CREATE TABLE labelled (i int); SELECT pg_replication_origin_create('elsewhere')");
	commit_labelled($new, $db, $lsn, !$own);
	# changes of nobody's, as those of a commit whose record has no transaction id
	$c->psql($new, 'VACUUM (FREEZE) item');
	$c->{quiet} = 1;
	$go->();
	if ($own && $e eq 'spock')
	{
		is($c->wait_for($id), 'failed', "spock: a label of $where that is none of the source's commits is an error");
		like($c->queue('c', "SELECT concat_ws(' ', last_error, hint) FROM zodan.status WHERE request_id = $id"),
			qr/node "n4" has a commit that is labelled with \Q$lsn\E, which is that of no commit of node "n1": something else commits with a replication origin in its database/, 'and says so');
		next;
	}
	is($c->wait_for($id), 'done', "labels of $where: the join is done");
	push @{ $c->{order} }, $new;
	$c->server($new)->safe_psql($db, 'DROP TABLE labelled');
	$c->settle;
	is($c->differences, '', 'no row is missing');
	is($c->psql($new, 'SELECT count(*) FROM item WHERE id > 6000'), $last - 6000, 'not of those that came after the cut');
}
$c->stop;
done_testing();
