# What remove_node must leave alone: slots of other nodes that are down, whose names
# contain that of the node which goes; and a node of the same name in another
# cluster, to which a wrong connection string leads. Protects live nodes from being
# taken out of their cluster, and those that are down from not being able to go on.
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
my $setup = 'CREATE TABLE item (id int PRIMARY KEY, name text)';
my @nodes = qw(us us_e sub n4-dc2);
my $c = ZodanCluster->new(nodes => \@nodes, setup => $setup);
$c->add_server('c');
$c->{coordinator} = 'c';

sub slots { return $c->psql($_[0], "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots"); }

# the slot that one node reads on another
sub slot_of
{
	my ($reader, $on) = @_;
	return $c->psql($reader, "SELECT sub_slot_name FROM $e.subscription JOIN $e.node ON node_id = sub_origin WHERE node_name = '$on'");
}

# ---------- the connection string of a node that stays leads to another cluster's ----------

my $other = ZodanCluster->new(nodes => [qw(us_e n4-dc2)], setup => $setup);
my %before = map { $_ => $other->state_of($_) } qw(us_e n4-dc2);
my $id;
for my $src (qw(n4-dc2 us))
{
	my $of_us_e = $c->psql($src, "SELECT if_dsn FROM $e.node_interface WHERE if_name = 'us_e'");
	$c->psql($src, sprintf "UPDATE $e.node_interface SET if_dsn = %s WHERE if_name = 'us_e'", ZodanCluster::q_($other->dsn('us_e')));
	my %here = map { $_ => $c->state_of($_) } @nodes;
	$c->{quiet} = 1;
	$id = $c->request(new => 'sub', src => $src, on => 'c', operation => 'remove_node');
	is($c->wait_for($id), 'failed', "where that of $src leads to a node of the same name elsewhere a removal fails");
	like($c->queue('c', "SELECT concat_ws(' ', last_error, hint) FROM zodan.status WHERE request_id = $id"),
		$src eq 'us' ? qr/the connection string of node "us_e" leads to one that doesn't know node "us".*options.peer_dsns/ :
		  qr/the connection string of node "us_e" leads to one that knows another node "n4-dc2".*options.peer_dsns/, 'and says so');
	is($other->text_difference($before{$_}, $other->state_of($_)), '', "nothing has changed on $_ there") for qw(us_e n4-dc2);
	is($c->text_difference($here{$_}, $c->state_of($_)), '', "nor here on $_") for @nodes;
	$c->psql($src, sprintf "UPDATE $e.node_interface SET if_dsn = %s WHERE if_name = 'us_e'", ZodanCluster::q_($of_us_e));
}

# ---------- a node is lost while another one is down, in whose name its own is ----------

for my $lost (qw(us sub))
{
	my ($down) = grep { $_ ne $lost } qw(us_e n4-dc2);
	my @stay = grep { $_ ne $lost && $_ ne $down && $c->server($_) } @{ $c->{order} };
	my %slot = map { $_ => slot_of($down, $_) } @stay;
	my $of_lost = slot_of($lost, $stay[0]);
	$c->server($lost)->stop('immediate');
	$c->server($down)->stop('immediate');
	$c->{quiet} = 1;
	$id = $c->queue('c', sprintf q{SELECT zodan.remove_node(%s, %s, %s, force => true)},
		map { ZodanCluster::q_($_) } $stay[0], $c->dsn($stay[0]), $lost);
	ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id"), "$lost is removed by force while $down is down");
	like(slots($_), qr/(^| )\Q$slot{$_}\E( |$)/, "the slot of $down on $_ is still there") for @stay;
	$c->server($down)->start;
	is($c->wait_for($id), 'done', "when $down is back the request ends done");
	like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $id AND level = 'warning'"),
		qr/pg_drop_replication_slot\('\Q$of_lost\E'\)/, "and tells of the slot that $lost has left");
	$c->{order} = [ grep { $_ ne $lost } @{ $c->{order} } ];
	$c->psql($_, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND slot_name NOT IN ('" . join("', '", map { slot_of($_->[0], $_->[1]) } map { my $a = $_; map { [ $a, $_ ] } grep { $_ ne $a } @{ $c->{order} } } @{ $c->{order} }) . "')")
	  for @{ $c->{order} };
	$c->replicate_again;
	my $n = @{ $c->{order} };
	$c->psql($down, "INSERT INTO item VALUES ($n, '$down')");
	$c->settle;
	is($c->differences, '', "$down and those that stay agree");
}

# ---------- a node of that name in another cluster ----------

%before = map { $_ => $other->state_of($_) } qw(us_e n4-dc2);
$id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => $other->dsn('n4-dc2'));
is($c->wait_for($id), 'failed', 'a connection string that leads to a node of the same name elsewhere');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/leads to a node of that name that isn't shown to be this cluster's/, 'is told from the right one');
is($other->text_difference($before{$_}, $other->state_of($_)), '', "nothing has changed on $_ there") for qw(us_e n4-dc2);
is($c->psql('us_e', "SELECT count(*) FROM $e.subscription"), '1', 'nor here');

# ---------- the same where no connection string of a node's can be used from here: only what is written there tells ----------

$_->[0]->psql($_->[1], "UPDATE $e.node_interface SET if_dsn = 'host=/nowhere dbname=nothing' WHERE if_name NOT IN (SELECT node_name FROM $e.local_node JOIN $e.node USING (node_id))")
  for map { my $in = $_; map { [ $in, $_ ] } qw(us_e n4-dc2) } $c, $other;
# that is true of what the cluster's own catalog has, too: it's no proof that it leads to where it leads
$c->psql('us_e', sprintf "UPDATE $e.node_interface SET if_dsn = %s WHERE if_name = 'n4-dc2'", ZodanCluster::q_($other->dsn('n4-dc2')));
%before = map { $_ => $other->state_of($_) } qw(us_e n4-dc2);
$id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => undef);
is($c->wait_for($id), 'failed', 'a connection string of the cluster that leads to such a node from here');
is($other->text_difference($before{$_}, $other->state_of($_)), '', "does no harm to $_ there") for qw(us_e n4-dc2);
is($c->psql('us_e', "SELECT count(*) FROM $e.subscription"), '1', 'nor here');
$id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => $other->dsn('n4-dc2'));
is($c->wait_for($id), 'failed', 'nor is it a proof if the same is given');
is($other->text_difference($before{$_}, $other->state_of($_)), '', "no harm is done to $_ there") for qw(us_e n4-dc2);
$c->psql('us_e', "UPDATE $e.node_interface SET if_dsn = 'host=/nowhere dbname=nothing' WHERE if_name = 'n4-dc2'");
$id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => $other->dsn('n4-dc2'));
for my $i (1 .. 1000)
{
	$other->psql('n4-dc2', "INSERT INTO item VALUES (1000 + $i, 'there')");
	last if $c->queue('c', "SELECT state = 'failed' FROM zodan.status WHERE request_id = $id") eq 't';
}
is($c->wait_for($id), 'failed', 'nor is that one shown to be this cluster\'s by what is written there');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/nothing that was written there within the last seconds has arrived/, 'which the error tells');
is($other->text_difference($before{$_}, $other->state_of($_)), '', "nothing has changed on $_ there") for qw(us_e n4-dc2);
$id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => $c->dsn('n4-dc2'));
for my $i (1 .. 1000)
{
	$c->psql('n4-dc2', "INSERT INTO item VALUES (1000 + $i, 'here')");
	last if $c->queue('c', "SELECT phase <> 'check_removal' FROM zodan.status WHERE request_id = $id") eq 't';
}
is($c->wait_for($id), 'done', 'the right one is, and the node is removed');
is($c->psql('us_e', "SELECT count(*) FROM $e.subscription"), '0', 'from its own cluster');

# ---------- what was proven is so in later attempts, too ----------

$c = do { $c->stop; ZodanCluster->new(nodes => [qw(n1 n2 n3)], setup => $setup) };
$c->add_server('c');
$c->{coordinator} = 'c';
$c->{quiet} = 1;
# by no connection string but the cluster's own
$c->failpoints('c', 'error drop_node:end');
$id = $c->request(new => 'n3', on => 'c', operation => 'remove_node', new_node_dsn => undef);
is($c->wait_for($id), 'done', 'a removal without a connection string that is interrupted at its end ends done');
$c->failpoints('c', '');
is($c->psql('n3', "SELECT count(*) FROM $e.node"), '0', 'on the node as well');
$c->{order} = [qw(n1 n2)];
# a database that isn't the node, with the mark of another request
$c->server('c')->safe_psql('postgres', 'CREATE DATABASE other');
my $mark = '00000000-0000-4000-8000-000000000000/7/-1';
$c->server('c')->safe_psql('other', "ALTER DATABASE other SET zodan.claim = '$mark'");
$c->add_server('n4');
is($c->join_node('n4', on => 'c'), 'done', 'another node joins');
$c->server('n4')->stop('immediate');
$c->server('n2')->stop('immediate');
$id = $c->queue('c', sprintf q{SELECT zodan.remove_node('n1', %s, 'n4', node_dsn => %s, force => true)},
	map { ZodanCluster::q_($_) } $c->dsn('n1'), $c->dsn('c') =~ s/dbname='?\w+'?/dbname=other/r);
ok($c->wait_queue("SELECT state = 'retrying' AND phase = 'drop_node' FROM zodan.status WHERE request_id = $id"), 'a node is removed by force by a wrong connection string, while another one is down');
$c->server('n2')->start;
is($c->wait_for($id), 'done', 'when that one is back the request ends done');
is($c->server('c')->safe_psql('other', 'SELECT setconfig[1] FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database()'),
	"zodan.claim=$mark", 'and has left the database alone to which the connection string leads');

# ---------- two nodes on one server ----------

if ($e eq 'pglogical')
{
	$c->server('n1')->safe_psql('postgres', 'CREATE DATABASE second');
	$c->server('n1')->safe_psql('second', "CREATE EXTENSION $e");
	$id = $c->request(new => 'n9', src => 'n1', on => 'c', new_node_dsn => $c->dsn('n1') =~ s/dbname='\w+'/dbname=second/r);
	is($c->wait_for($id), 'failed', 'a node on the server of another one');
	like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/n9: same_server: found the server of node n1, expected a server of its own/, 'is refused');
}

$other->stop;
$c->stop;
done_testing();
