# What remove_node must leave alone: slots of other nodes that are down, whose names
# contain that of the node which goes; and a node of the same name in another
# cluster, to which a wrong connection string leads. Protects live nodes from being
# taken out of their cluster, and those that are down from not being able to go on.
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
	my $id = $c->queue('c', sprintf q{SELECT zodan.remove_node(%s, %s, %s, force => true)},
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
	if ($e eq 'pglogical')
	{
		for my $node (@{ $c->{order} })
		{
			for my $sub (split /\n/, $c->psql($node, "SELECT sub_name FROM $e.subscription"))
			{
				$c->psql($node, sprintf 'SELECT ' . $c->e($_), ZodanCluster::q_($sub)) for qw(unsubscribed enable);
			}
		}
	}
	$c->wait_replicating(@{ $c->{order} });
	my $n = @{ $c->{order} };
	$c->psql($down, "INSERT INTO item VALUES ($n, '$down')");
	$c->settle;
	is($c->differences, '', "$down and those that stay agree");
}

# ---------- a node of that name in another cluster ----------

my $other = ZodanCluster->new(nodes => [qw(us_e n4-dc2)], setup => $setup);
my %before = map { $_ => $other->state_of($_) } qw(us_e n4-dc2);
my $id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => $other->dsn('n4-dc2'));
is($c->wait_for($id), 'failed', 'a connection string that leads to a node of the same name elsewhere');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/leads to a node of that name that isn't shown to be this cluster's/, 'is told from the right one');
is($other->text_difference($before{$_}, $other->state_of($_)), '', "nothing has changed on $_ there") for qw(us_e n4-dc2);
is($c->psql('us_e', "SELECT count(*) FROM $e.subscription"), '1', 'nor here');
$id = $c->request(new => 'n4-dc2', src => 'us_e', on => 'c', operation => 'remove_node', new_node_dsn => $c->dsn('n4-dc2'));
is($c->wait_for($id), 'done', 'with the right one the node is removed');
is($c->psql('us_e', "SELECT count(*) FROM $e.subscription"), '0', 'from its own cluster');

# ---------- two nodes on one server ----------

if ($e eq 'pglogical')
{
	$c->server('us_e')->safe_psql('postgres', 'CREATE DATABASE second');
	$c->server('us_e')->safe_psql('second', "CREATE EXTENSION $e");
	$id = $c->request(new => 'n9', src => 'us_e', on => 'c', new_node_dsn => $c->dsn('us_e') =~ s/dbname='\w+'/dbname=second/r);
	is($c->wait_for($id), 'failed', 'a node on the server of another one');
	like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $id"), qr/n9: same_server: found the server of node us_e, expected a server of its own/, 'is refused');
}

$other->stop;
$c->stop;
done_testing();
