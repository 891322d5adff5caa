# pglogical may take an apply worker that runs for dead, when it starts several in
# the same moment: its subscription is down, and stays so, though its rows arrive.
# Here a function in the place of pglogical's own says so of the first worker
# that a subscription gets, or of one that has been seen replicating before. The
# request has all apply workers of that node started again, and only there.
# Protects from a request that waits forever for what nobody mends.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();
plan(skip_all => 'Spock is not known to lose workers') if $ZodanCluster::engine eq 'spock';

my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id int PRIMARY KEY, name text);');
$c->psql('n1', 'INSERT INTO item SELECT i FROM generate_series(1, 100) i');
$c->settle;
$c->add_server($_) for qw(n3 n4 n5);

# the first worker that is seen of the node's subscription to $from will be lost
sub lose_worker
{
	my ($node, $from) = @_;
	$c->psql($node, 'ALTER FUNCTION pglogical.show_subscription_status(name) RENAME TO honest_status');
	$c->psql($node, 'CREATE TABLE pglogical.lost (pid int)');
	$c->psql($node, <<"END");
CREATE FUNCTION pglogical.show_subscription_status(name DEFAULT NULL) RETURNS TABLE (subscription_name text, status text)
LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO pglogical.lost
	SELECT a.pid FROM pglogical.subscription s JOIN pglogical.node n ON n.node_id = s.sub_origin
	  JOIN pg_stat_activity a ON a.backend_type LIKE 'pglogical apply %:' || s.sub_id
	 WHERE n.node_name = '$from' AND NOT EXISTS (SELECT FROM pglogical.lost);
	RETURN QUERY
	SELECT h.subscription_name, CASE WHEN a.pid IS NULL THEN h.status ELSE 'down' END
	  FROM pglogical.honest_status(\$1) h JOIN pglogical.subscription s ON s.sub_name = h.subscription_name
	  LEFT JOIN (pglogical.lost JOIN pg_stat_activity a USING (pid)) ON a.backend_type LIKE 'pglogical apply %:' || s.sub_id;
END \$\$
END
	return;
}

# the process ids of a node's apply workers
sub workers { return $c->psql($_[0], "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'pglogical apply %'"); }

# ---------- on the new node ----------

lose_worker('n3', 'n2');
my $before = workers('n1') . '; ' . workers('n2');
my $id = $c->request(new => 'n3', on => 'n3');
is($c->wait_for($id), 'done', 'a worker is lost on the new node: the request ends by itself');
is($c->queue('n3', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND node = 'n3' AND level = 'warning' AND message LIKE '%lost sight of%sub_n2_n3%started again'"),
	'1', 'and says what it has done');
is($c->psql('n3', 'SELECT count(*) FROM pglogical.lost JOIN pg_stat_activity USING (pid)'), '0', 'the worker is another one');
push @{ $c->{order} }, 'n3';
is(join('; ', map { join ' ', grep { $before =~ /\b$_\b/ } split / /, workers($_) } qw(n1 n2)), $before, 'the others go on with theirs');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- there, when all have been seen replicating before ----------

$c->failpoints('n4', 'wait finish:begin');
$id = $c->request(new => 'n4', on => 'n4');
my $go_on = $c->wait_failpoint('n4', 'finish:begin');
lose_worker('n4', 'n2');
$c->failpoints('n4', '');
$go_on->();
is($c->wait_for($id), 'done', 'a worker is lost before the last look: the request ends by itself');
like($c->queue('n4', "SELECT string_agg(phase || ': ' || message, '; ') FROM zodan.events WHERE request_id = $id AND node = 'n4' AND level = 'warning'"),
	qr/finish: .*lost sight of.*sub_n2_n4.*started again/, 'and says what it has done');
push @{ $c->{order} }, 'n4';
is($c->leftovers($id), '', 'nothing is left over');

# ---------- on one that exists ----------

lose_worker('n2', 'n5');
$before = workers('n2');
$id = $c->request(new => 'n5', on => 'n5');
is($c->wait_for($id), 'done', 'a worker is lost on a node that exists: the request ends by itself');
is($c->queue('n5', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND node = 'n2' AND level = 'warning' AND message LIKE '%lost sight of%sub_n5_n2%started again'"),
	'1', 'and says what it has done');
is(join(' ', grep { $before =~ /\b$_\b/ } split / /, workers('n2')), '', 'all workers there are others');
push @{ $c->{order} }, 'n5';
is($c->leftovers($id), '', 'nothing is left over');

$c->psql($_, "INSERT INTO item SELECT generate_series(1, 100) + 1000 * substr('$_', 2)::int") for @{ $c->{order} };
$c->settle;
is($c->differences, '', 'rows are the same');
$c->stop;
done_testing();
