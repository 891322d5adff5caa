# A member of the cluster whose database has lost the engine's extension: another node
# can't be removed before that one is, which takes force. Protects from errors of SQL that
# nobody can do anything about.
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
my $c = ZodanCluster->new(nodes => 3, setup => 'CREATE TABLE item (id int PRIMARY KEY)');
$c->add_server('c');
for my $sub (split /\n/, $c->psql('n2', "SELECT sub_name FROM $e.subscription"))
{
	$c->psql('n2', sprintf 'SELECT ' . $c->e('unsubscribed'), ZodanCluster::q_($sub));
}
$c->psql('n2', "DROP EXTENSION $e CASCADE");

my $verification = $c->queue('c', 'SELECT zodan.verify(' . join(', ', map { ZodanCluster::q_($_) } 'n1', $c->dsn('n1')) . ')');
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $verification", 'c'), 'rows are not compared without it');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $verification"),
	qr/^could not connect to node "n2": its database does not have the extension $e any more$/, 'and the error says why');
$c->queue('c', "SELECT zodan.cancel($verification)");

my $removal = $c->request(new => 'n3', on => 'c', operation => 'remove_node');
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $removal", 'c'), 'a removal of another node waits');
like($c->queue('c', "SELECT last_error FROM zodan.status WHERE request_id = $removal"),
	qr/^could not connect to node "n2": its database does not have the extension $e any more$/, 'and the error says why');
$c->queue('c', "SELECT zodan.cancel($removal)");
is($c->wait_for($removal, 'c'), 'cancelled', 'it is cancelled');

my $forced = $c->request(new => 'n2', on => 'c', operation => 'remove_node', options => '{"force": true}');
is($c->wait_for($forced, 'c'), 'done', 'that node is removed by force');
$removal = $c->request(new => 'n3', on => 'c', operation => 'remove_node');
is($c->wait_for($removal, 'c'), 'done', 'then the other one');
is($c->psql('n1', "SELECT (SELECT string_agg(node_name::text, ' ') FROM $e.node), (SELECT count(*) FROM $e.subscription)"), 'n1|0', 'one node is left');
is($c->psql('n1', 'SELECT string_agg(slot_name, chr(32)) FROM pg_replication_slots') // '', '', 'without slots');
done_testing();
