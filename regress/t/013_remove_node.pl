# Nodes leave a cluster that is written: one in good health, one that is lost,
# one that was only half added. What was written on the first has reached all
# the others, nothing of any of them is left on those, and one that comes back
# under its old name gets and sends everything. Protects from slots that hold
# WAL for a node that never comes, and from rows that were nowhere else.
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
my $c = ZodanCluster->new(nodes => 3, setup => q{
	CREATE TABLE item (id bigint PRIMARY KEY, node text, n int NOT NULL DEFAULT 0);
	CREATE SEQUENCE s;
	INSERT INTO item SELECT i, 'all' FROM generate_series(1, 1000) AS i;
});
$c->psql($_, 'CREATE ROLE app LOGIN; GRANT ALL ON item, s TO app') for qw(n1 n2 n3);

# an empty server for a node
sub fresh
{
	my ($name) = @_;
	$c->add_server($name);
	$c->queue($name, 'CREATE ROLE app LOGIN');
	return;
}

# each writes its own rows
sub writer
{
	my ($name) = @_;
	my $k = substr($name, 1);
	return $c->start_writer($name, "INSERT INTO item VALUES (1000000 + nextval('s') * 10 + $k, '$name');\n"
		  . "\\set i random(1, 99)\nUPDATE item SET n = n + 1 WHERE id = :i * 10 + $k;\n", '--client=1', '--rate=50', '--username=app');
}

# what a node that stays knows of others: names of nodes, and numbers of subscriptions, slots and origins
sub knows
{
	my ($name) = @_;
	return $c->psql($name, "SELECT (SELECT string_agg(node_name, ' ' ORDER BY node_name) FROM $e.node),"
		  . " (SELECT count(*) FROM $e.subscription), (SELECT count(*) FROM pg_replication_slots),"
		  . " (SELECT count(*) FROM pg_replication_origin)");
}

sub remove
{
	my ($name, %arg) = @_;
	return $c->request(new => $name, src => $arg{src} || 'n1', on => 'n1', operation => 'remove_node', %arg);
}

sub said
{
	my ($id) = @_;
	return $c->queue('n1', "SELECT state, concat_ws(' ', last_error, hint) FROM zodan.status WHERE request_id = $id");
}

# ---------- one in good health, while all are written ----------

my @writers = map { writer($_) } qw(n1 n2 n3);
$c->wait_writing(@writers);
# somebody else's, who isn't there at the moment
my $other = $c->psql('n1', ($e eq 'spock' ? q{SELECT spock.spock_gen_slot_name('inventory', 'n1', 'of_n2')}
	: q{SELECT pglogical.pglogical_gen_slot_name('inventory', 'n1', 'of_n2')}));
$c->psql('n1', "SELECT pg_create_logical_replication_slot('$other', '" . $c->e('plugin') . "')");
# it fails when the node isn't one any more, and goes on
$c->failpoints('n1', 'error drop_node:after_undo:node');
my $id = remove('n2', new_node_dsn => undef);
is($c->wait_for($id), 'done', 'a node in good health is removed, its DSN being known to the source');
$c->failpoints('n1', '');
is($c->queue('n1', "SELECT attempt FROM zodan.status WHERE request_id = $id"), '2', 'in two attempts');
eval { $c->stop_writer($writers[1]) };
is($c->psql('n2', "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"), '0', 'nobody writes it any more');
isnt($c->server('n2')->psql('inventory', 'SELECT 1', extra_params => [ '--username=app' ]), 0, 'nor can anybody');
like($c->queue('n1', "SELECT string_agg(message, ' ') FROM zodan.events WHERE request_id = $id"), qr/ALTER DATABASE "inventory" CONNECTION LIMIT -1 opens it/, 'and an event says how to open it');
is($c->psql('n1', "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = '$other'"), '1', 'a slot that only has its name in it stays');
is(knows($_), 'n1 n3|1|1|1', "$_ knows nothing of it") for qw(n1 n3);
is(knows('n2'), '|0|0|0', 'nor it of them');
my $rows = q{SELECT md5(string_agg(id::text, ',' ORDER BY id)), count(*) > 0 FROM item WHERE node = 'n2'};
is($c->psql($_, $rows), $c->psql('n2', $rows), "$_ has all that was written there") for qw(n1 n3);
$c->stop_writer($_) for @writers[ 0, 2 ];
$c->{order} = [qw(n1 n3)];
$c->settle;
is($c->differences, '', 'those that stay agree');

# ---------- it comes back under its old name, with an empty database ----------

$c->server('n2')->stop;
fresh('n2');
@writers = map { writer($_) } qw(n1 n3);
$c->wait_writing(@writers);
is($c->join_node('n2', on => 'n1'), 'done', 'a node of the same name joins');
push @writers, writer('n2');
$c->wait_writing($writers[2]);
$c->stop_writer($_) for @writers;
$c->settle;
is($c->differences, '', 'and has all rows');
is(knows($_), 'n1 n2 n3|2|2|2', "$_ knows it") for qw(n1 n3);

# ---------- one that is lost ----------

$c->server('n3')->stop('immediate');
$c->{quiet} = 1;
$id = remove('n3');
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id"), 'a node that does not answer is waited for');
like(said($id), qr/^(?:retrying|running)\|could not connect to node "n3".*option force/s, 'and the status says which, and what to do');
isnt(knows('n1'), 'n1 n2|1|1|1', 'nothing has been dropped');
$c->queue('n1', "SELECT zodan.cancel($id)");
is($c->wait_for($id), 'cancelled', 'it is cancelled');
$c->{quiet} = 0;
$id = $c->queue('n1', sprintf q{SELECT zodan.remove_node('n1', %s, 'n3', force => true)}, ZodanCluster::q_($c->dsn('n1')));
is($c->wait_for($id), 'done', 'by force it is removed');
is(knows($_), 'n1 n2|1|1|1', "$_ knows nothing of it") for qw(n1 n2);
$c->{order} = [qw(n1 n2)];

# ---------- while another that stays is down ----------

fresh('n3');
is($c->join_node('n3', on => 'n1'), 'done', 'a third node again');
$c->server('n3')->stop('immediate');
$c->server('n2')->stop('immediate');
$c->{quiet} = 1;
$id = $c->queue('n1', sprintf q{SELECT zodan.remove_node('n1', %s, 'n3', force => true)}, ZodanCluster::q_($c->dsn('n1')));
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id"), 'one that stays is down');
like(said($id), qr/^(?:retrying|running)\|could not connect to node "n2".*goes on when the node can be reached/s, 'it is named');
is($c->psql('n1', "SELECT count(*) FROM pg_replication_slots"), '1', 'what could be dropped is');
my ($rc, $out, $err) = $c->server('n1')->psql('postgres', "SELECT zodan.cancel($id)");
like($err, qr/has begun to remove the node/, 'it can only go forward now');
$c->server('n2')->start;
eval { $c->queue('n1', "SELECT zodan.retry($id)") };
is($c->wait_for($id), 'done', 'it goes on when that one is back');
is(knows($_), 'n1 n2|1|1|1', "$_ knows nothing of it") for qw(n1 n2);
$c->{order} = [qw(n1 n2)];

# ---------- one that somebody has begun to add by hand ----------

fresh('n4');
$c->psql('n4', "CREATE TABLE item (id bigint PRIMARY KEY, node text, n int NOT NULL DEFAULT 0)");
$c->psql('n4', sprintf 'SELECT ' . $c->e('node'), "'n4'", ZodanCluster::q_($c->dsn('n4')));
$c->subscribe('n1', 'n4');
$c->subscribe('n2', 'n4');
$c->psql('n4', sprintf 'SELECT ' . $c->e('unsubscribed'), ZodanCluster::q_($c->sub_name('n2', 'n4')));
$c->subscribe('n4', 'n1');
$c->{quiet} = 0;
$c->wait_queue("SELECT count(*) = 2 FROM pg_replication_slots WHERE active AND database = 'inventory'", 'n1');
$c->wait_queue("SELECT count(*) = 1 FROM pg_replication_slots WHERE active AND database = 'inventory'", 'n4');
# which also subscribes to a node of nobody's
$c->psql('n4', "INSERT INTO $e.node (node_id, node_name) VALUES (4711, 'stranger')");
$c->psql('n4', "INSERT INTO $e.node_interface (if_id, if_name, if_nodeid, if_dsn) VALUES (4711, 'stranger', 4711, 'host=/nowhere dbname=nothing')");
$c->psql('n4', qq{INSERT INTO $e.subscription SELECT (jsonb_populate_record(s, '{"sub_id": 4712, "sub_name": "of_stranger", "sub_origin": 4711,
	"sub_origin_if": 4711, "sub_enabled": false, "sub_slot_name": "its_slot"}')).* FROM $e.subscription s LIMIT 1});
$id = remove('n4', src => 'n2');
is($c->wait_for($id), 'done', 'half a node is removed, asked of another than it was added by');
like($c->queue('n1', "SELECT string_agg(message, ' ') FROM zodan.events WHERE request_id = $id AND level = 'warning'"),
	qr/node n4 subscribes to stranger, which isn't a node of this cluster: if slot its_slot is there, drop it there/, 'what a node that is not of the cluster may have of it is named');
is(knows($_), ($_ eq 'n4' ? '|0|0|0' : 'n1 n2|1|1|1'), "$_ is clean") for qw(n1 n2 n4);

# ---------- one that a join has left in the middle of the cut ----------

fresh('n4');
$c->failpoints('n1', 'wait advance_slots:after_effect:slot');
$id = $c->request(new => 'n4', on => 'n1');
$c->wait_failpoint('n1', 'advance_slots:after_effect:slot')->() for 1, 2;
$c->wait_failpoint('n1', 'advance_slots:after_effect:slot');
$c->failpoints('n1', '');
is($c->psql($_, q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'zodan\_wal\_%'}), '1', "a join holds WAL of $_") for qw(n1 n4);
$c->queue('n1', "SELECT zodan.cancel($id, keep => true)");
is($c->wait_for($id), 'cancelled', 'it is cancelled, and has left that');
$id = remove('n4', src => 'n2');
is($c->wait_for($id), 'done', 'its node is removed');
is(knows($_), ($_ eq 'n4' ? '|0|0|0' : 'n1 n2|1|1|1'), "$_ is clean") for qw(n1 n2 n4);

# ---------- what is refused ----------

$c->{quiet} = 1;
my $sub = $c->psql('n1', "SELECT sub_name FROM $e.subscription");
$c->psql('n1', sprintf 'SELECT ' . $c->e('unsubscribed'), ZodanCluster::q_($sub));
$id = remove('n2');
is($c->wait_for($id), 'failed', 'a node to which a subscription is disabled');
like(said($id), qr/subscription "$sub" of node "n1" to node "n2" is disabled: what was written there would be missing.* Enable it/s, 'says so');
is(knows('n1'), 'n1 n2|1|1|1', 'and nothing has been dropped');
$c->psql('n1', sprintf 'SELECT ' . $c->e('enable'), ZodanCluster::q_($sub));
$id = remove('n9', new_node_dsn => undef);
is($c->wait_for($id), 'failed', 'a node that nobody knows, without a connection string');
like(said($id), qr/there is no node "n9" in the cluster of node "n1", which has: n1, n2/, 'says so');
$id = remove('n9', new_node_dsn => $c->dsn('n4'));
is($c->wait_for($id), 'failed', 'a node that nobody knows');
like(said($id), qr/there is no node "n9" in the cluster of node "n1", which has: n1, n2/, 'says so');
$id = remove('n9', new_node_dsn => $c->dsn('n2'));
is($c->wait_for($id), 'failed', 'another node than its name says');
like(said($id), qr/"n9" leads to node "n2"/, 'says so');
$id = remove('n2', src => 'n3', src_dsn => $c->dsn('n1'));
is($c->wait_for($id), 'failed', 'a source that is another node');
like(said($id), qr/src_dsn leads to node "n1", not to node "n3"/, 'says so');
($rc, $out, $err) = $c->server('n1')->psql('postgres', sprintf q{SELECT zodan.remove_node('n1', %s, 'n1')}, ZodanCluster::q_($c->dsn('n1')));
like($err, qr/new_node_name must not be the source's: .*the last one cannot be removed/, 'the last node, or the source itself');

# ---------- by the node itself, the last but one ----------

$c->{quiet} = 0;
$id = $c->request(new => 'n1', src => 'n2', on => 'n1', operation => 'remove_node', options => '{"force": false}');
is($c->wait_for($id), 'done', 'a node removes itself');
is(knows('n2'), 'n2|0|0|0', 'one is left');
$c->{order} = ['n2'];
$c->psql('n2', 'GRANT ALL ON item TO app');
fresh('n5');
is($c->join_node('n5', src => 'n2'), 'done', 'and can be joined');
$c->settle;
is($c->differences, '', 'rows are the same');
done_testing();
