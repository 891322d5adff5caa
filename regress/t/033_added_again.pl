# A removal that was interrupted, and a node that another coordinator has removed and
# added again since: the first one comes back and leaves the new node alone, however
# far it had come. Protects a live node from being taken out of its cluster by a
# request that meant an earlier one.
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
my $c = ZodanCluster->new(nodes => [qw(n1 n2)], setup => 'CREATE TABLE item (id int PRIMARY KEY, name text)');
$c->add_server($_) for qw(c d n5);
$c->{coordinator} = 'c';
$c->{quiet} = 1;
is($c->join_node('n5', on => 'd'), 'done', 'a node joins');

# the request of the first coordinator, which is interrupted: returns its number
my %interrupt = (
	'while a node is down' => sub {
		$c->server($_)->stop('immediate') for qw(n5 n2);
		my $id = $c->queue('c', sprintf q{SELECT zodan.remove_node('n1', %s, 'n5', force => true)}, ZodanCluster::q_($c->dsn('n1')));
		ok($c->wait_queue("SELECT state = 'retrying' AND phase = 'drop_node' FROM zodan.status WHERE request_id = $id", 'c'), 'it has dropped what it could');
		$c->server('c')->stop('immediate');
		$c->server('n2')->start;
		# its address is somebody else's by now
		$c->psql('n2', sprintf "UPDATE $e.node_interface SET if_dsn = %s WHERE if_name = 'n5'", ZodanCluster::q_($c->dsn('d')));
		return $id;
	},
	'before it could begin' => sub {
		$c->server('n2')->stop('immediate');
		my $id = $c->request(new => 'n5', on => 'c', operation => 'remove_node', new_node_dsn => undef);
		ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id", 'c'), 'it waits for a node that is down');
		$c->server('c')->stop('immediate');
		$c->server('n2')->start;
		$c->replicate_again;
		return $id;
	},
	'while it waits for another request' => sub {
		$c->failpoints('d', 'wait drop_node:begin');
		my $other = $c->request(new => 'n5', on => 'd', operation => 'remove_node');
		my $go = $c->wait_failpoint('d', 'drop_node:begin');
		my $id = $c->request(new => 'n5', on => 'c', operation => 'remove_node');
		ok($c->wait_queue("SELECT detail LIKE 'waits for another request%' FROM zodan.status WHERE request_id = $id", 'c'), 'it waits');
		$c->server('c')->stop('immediate');
		$go->();
		is($c->wait_for($other, 'd'), 'done', 'the other one removes the node');
		return $id;
	},
	'when the node is drained' => sub {
		$c->failpoints('c', 'wait drop_node:begin');
		my $id = $c->request(new => 'n5', on => 'c', operation => 'remove_node');
		$c->wait_failpoint('c', 'drop_node:begin');
		$c->server('c')->stop('immediate');
		return $id;
	},
	'by its user' => sub {
		$c->failpoints('c', 'wait drain_node:checkpoint');
		my $id = $c->request(new => 'n5', on => 'c', operation => 'remove_node');
		my $go = $c->wait_failpoint('c', 'drain_node:checkpoint');
		$c->queue('c', "SELECT zodan.pause($id)");
		$go->();
		ok($c->wait_queue("SELECT state = 'paused' AND worker_pid IS NULL FROM zodan.status WHERE request_id = $id", 'c'), 'it is paused');
		$c->server('c')->stop('immediate');
		return $id;
	},
);

for my $when (sort keys %interrupt)
{
	note("---------- interrupted $when ----------");
	my $id = $interrupt{$when}->();
	my $down = $when eq 'while a node is down';
	if ($down)
	{
		# what the cluster's own catalog says leads to a database that isn't a node
		my $wrong = $c->request(new => 'n5', src => 'n2', on => 'd', operation => 'remove_node', new_node_dsn => undef);
		is($c->wait_for($wrong, 'd'), 'failed', 'to be found in the catalog is no proof');
		like($c->queue('d', "SELECT last_error FROM zodan.status WHERE request_id = $wrong"), qr/leads to a database that isn't shown to be this cluster's: it is no node/, 'as the error says');
		is($c->psql('d', 'SELECT datconnlimit FROM pg_database WHERE datname = current_database()'), '-1', 'the database there is not closed');
	}
	if ($when !~ /another request/)
	{
		# which is given up at first, when it has begun to drop; its address isn't known
		if ($down)
		{
			$c->failpoints('d', 'wait drop_node:after_intent:subscription');
			my $kept = $c->queue('d', sprintf q{SELECT zodan.remove_node('n2', %s, 'n5', force => true)}, ZodanCluster::q_($c->dsn('n2')));
			my $go = $c->wait_failpoint('d', 'drop_node:after_intent:subscription');
			$c->failpoints('d', '');
			$c->server('n1')->stop('immediate');
			$go->();
			ok($c->wait_queue("SELECT state = 'retrying' AND phase = 'drop_node' FROM zodan.status WHERE request_id = $kept", 'd'), 'another coordinator begins to remove it');
			$c->queue('d', "SELECT zodan.cancel($kept, keep => true)");
			is($c->wait_for($kept, 'd'), 'cancelled', 'and gives that up');
			$c->server('n1')->start;
			like($c->queue('d', "SELECT hint FROM zodan.status WHERE request_id = $kept"), qr/SELECT zodan.cancel\($kept\) forgets them/, 'which can be forgotten');
		}
		my $other = $c->queue('d', sprintf q{SELECT zodan.remove_node('n2', %s, 'n5', force => %s)}, ZodanCluster::q_($c->dsn('n2')), $down ? 'true' : 'false');
		is($c->wait_for($other, 'd'), 'done', 'another coordinator removes it');
		is($c->queue('d', "SELECT count(*) FROM zodan.effects e JOIN zodan.request_state s USING (request_id) WHERE e.state IN ('intent', 'done') AND s.state <> 'done'"), '0',
			'and nothing of an earlier request is left');
	}
	$c->{order} = [qw(n1 n2)];
	$c->replicate_again if $down;
	$c->server('n5')->start if $down;
	$c->remake('n5');
	$c->server('n5')->safe_psql('postgres', 'SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin');
	$c->failpoints('d', 'wait copy_data:begin');
	my $join = $c->request(new => 'n5', on => 'd');
	my $go = $c->wait_failpoint('d', 'copy_data:begin');
	$c->failpoints('d', '');
	$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = ''");
	$c->server('c')->start;
	ok($c->wait_queue("SELECT detail LIKE 'waits for another request%' FROM zodan.status WHERE request_id = $id", 'c'), 'the first coordinator is back while it is added again')
	  if $when ne 'by its user';
	$go->();
	is($c->wait_for($join, 'd'), 'done', 'it has joined again');
	push @{ $c->{order} }, 'n5';
	my %before = map { $_ => $c->state_of($_) } qw(n1 n2 n5);
	$c->queue('c', "SELECT zodan.cancel($id)") if $when eq 'by its user';
	is($c->wait_for($id, 'c'), 'failed', 'the old removal fails');
	my $closed = $when =~ /drained|user/ ? ' The request had closed database inventory of node n5: ALTER DATABASE "?inventory"? CONNECTION LIMIT -1 opens it, if it is still closed.' : '';
	like($c->queue('c', "SELECT concat_ws(' ', last_error, hint) FROM zodan.status WHERE request_id = $id"),
		qr/^node "n5" was added again after this request was checked: node "n[12]" has a new entry for it Nothing more was dropped. To remove the node as it is now, file a new request.$closed$/, 'and says why');
	is($c->text_difference($before{$_}, $c->state_of($_)), '', "it has changed nothing on $_") for qw(n1 n2 n5);
	$c->psql('n5', "INSERT INTO item SELECT coalesce(max(id), 0) + 1, '$when' FROM item");
	$c->settle;
	is($c->differences, '', 'all nodes agree');
}
$c->stop;
done_testing();
