# A coordinator, or the new node, goes back in time at just the wrong moment: what the
# request did last can't be taken back, or was thought to be rolled back. And one is
# overtaken when its node was open already. Protects from requests that can neither go
# on nor be rolled back, from a dump of the life before, and from a node that nobody
# can connect to.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id int PRIMARY KEY, name text)');
$c->psql('n1', "INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i");
$c->settle;
$c->add_server($_, conf => "restart_after_crash = on\n") for qw(c d);

sub joined
{
	my ($new, $id, $what) = @_;
	is($c->wait_for($id, 'c'), 'done', "$what: the request ends done");
	push @{ $c->{order} }, $new;
	$c->settle;
	is($c->differences, '', "$what: rows are the same");
	is($c->leftovers($id), '', "$what: nothing is left over");
	is($c->psql($new, 'SELECT datconnlimit FROM pg_database WHERE datname = current_database()'), '-1', "$what: the node is open");
	return;
}

sub begun_anew { return $c->queue('c', "SELECT count(*) FROM zodan.events WHERE request_id = $_[0] AND message = 'the request starts from the beginning'"); }

# ---------- it dies when all is rolled back, and begins anew ----------

$c->add_server('n3');
$c->failpoints('c', 'wait build_indexes:begin');
my $id = $c->request(new => 'n3', on => 'c');
my $go = $c->wait_failpoint('c', 'build_indexes:begin');
$c->failpoints('c', 'kill %:rolled_back');
$c->queue('c', "UPDATE zodan.request_state SET asked = 'restart', reason = 'a test asks for it' WHERE request_id = $id");
$c->psql('n1', 'CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)');
$c->psql('n2', 'CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)');
$c->psql($_, sprintf 'SELECT ' . $c->e('add_table') . '(%s)', "'default', 'later'") for qw(n1 n2);
$go->();
joined('n3', $id, 'killed when it was rolled back');
is($c->psql('n3', 'SELECT count(*) FROM later'), '1', 'a table that came meanwhile is there');
$c->failpoints('c', '');

# ---------- the coordinator lacks what can't be taken back ----------

for my $at (['n4', 'advance_slots:cut:held', 'advance_slots:cut:stopped'], ['n5', 'subscribe_existing_nodes:after_effect:running', 'subscribe_existing_nodes:end'])
{
	my ($new, $before, $after) = @$at;
	$c->add_server($new);
	$c->failpoints('c', "wait $before");
	$id = $c->request(new => $new, on => 'c');
	$go = $c->wait_failpoint('c', $before);
	# by a backup, since another attempt would tell the node by itself
	$c->server('c')->backup($new);
	$c->failpoints('c', "wait $after");
	$go->();
	$c->wait_failpoint('c', $after);
	$c->server('c')->stop('immediate');
	my ($dir, $backup) = ($c->server('c')->data_dir, $c->server('c')->backup_dir . "/$new");
	system('rm', '-rf', $dir) == 0 && system('cp', '-a', $backup, $dir) == 0 or die 'cp failed';
	unlink $c->server('c')->data_dir . "/zodan_failpoints/$before";
	$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = ''");
	$c->promote('c');
	joined($new, $id, "a coordinator that is what it was at $before, after $after");
	is(begun_anew($id), '1', 'having begun anew');
}

# ---------- the new node has again what was rolled back ----------

$c->add_server('n6');
$c->failpoints('c', 'wait copy_schema:begin');
$id = $c->request(new => 'n6', on => 'c');
$go = $c->wait_failpoint('c', 'copy_schema:begin');
$c->server('n6')->stop;
$c->keep_files('n6', 'made');
$c->server('n6')->start;
$c->failpoints('c', 'wait register_node:begin');
$c->queue('c', "UPDATE zodan.request_state SET asked = 'restart', reason = 'a test asks for it' WHERE request_id = $id");
$go->();
$go = $c->wait_failpoint('c', 'register_node:begin');
$c->server('c')->stop('immediate');
$go->();
$c->server('n6')->stop('immediate');
$c->restore_files('n6', 'made');
$c->promote('n6');
$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = ''");
$c->server('c')->start;
joined('n6', $id, 'a new node on which all was rolled back that is there again');

# ---------- it is open, which isn't stored, and another coordinator removes it ----------

$c->add_server('n7');
$c->failpoints('c', 'wait finish:end');
$id = $c->request(new => 'n7', on => 'c');
$go = $c->wait_failpoint('c', 'finish:end');
$c->server('c')->stop('immediate');
$go->();
my $removal = $c->request(new => 'n7', on => 'd', operation => 'remove_node');
is($c->wait_for($removal), 'done', 'another coordinator removes a node that is open, whose join is not stored as done');
$c->remake('n7');
$c->{coordinator} = 'c';
$c->{quiet} = 1;
$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = ''");
$c->server('c')->start;
is($c->wait_for($id), 'failed', 'the first one is back, and its request fails');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/^node "n7" is not this request's any more/, 'saying why');
is($c->queue('c', "SELECT count(*) FROM zodan.effects WHERE request_id = $id AND state IN ('intent', 'done')"), '0', 'it holds on to nothing');
$c->{quiet} = 0;
is($c->join_node('n7', on => 'c'), 'done', 'so the node can be added again from there');
$c->settle;
is($c->differences, '', 'rows are the same');

# ---------- a node that is to be removed is promoted when it was drained, and is written ----------

$c->failpoints('c', 'wait drop_node:begin');
$removal = $c->request(new => 'n7', on => 'c', operation => 'remove_node');
$go = $c->wait_failpoint('c', 'drop_node:begin');
$c->failpoints('c', '');
$c->{quiet} = 1;
$c->server('n7')->stop('immediate');
$c->promote('n7');
$c->psql('n7', "INSERT INTO item VALUES (7777, 'late')");
# which n1 can't apply for the moment
my $held = $c->session('n1', 'BEGIN', 'LOCK TABLE item');
$c->psql('n7', "INSERT INTO item VALUES (7778, 'later')");
$go->();
$c->wait_queue("SELECT s.state = 'done' OR EXISTS (SELECT FROM zodan.checkpoints p WHERE p.request_id = $removal AND p.phase = 'drain_node' AND p.state = 'running') FROM zodan.status s WHERE s.request_id = $removal", 'c');
$held->quit;
is($c->wait_for($removal), 'done', 'it is removed');
like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $removal AND level = 'warning'"),
	qr/^node "n7" was promoted or restored: it is on timeline \d+ now, and was on \d+: the nodes are checked and drained again$/m, 'having been drained again');
$c->{order} = [ grep { $_ ne 'n7' } @{ $c->{order} } ];
$c->settle;
is($c->psql($_, "SELECT count(*) FROM item WHERE id IN (7777, 7778)"), '2', "what was written there meanwhile is on $_") for @{ $c->{order} };

$c->stop;
done_testing();
