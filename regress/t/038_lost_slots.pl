# Slots of a join are dropped while it works, as a failover to a standby without them
# does. The error says on which node, and which; the join starts from the beginning and
# ends done, with every row. Protects from a request that stops for good, or that tells
# of an invalid position without a word of where.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id int PRIMARY KEY, n int); CREATE TABLE first (id int PRIMARY KEY, filler text); CREATE TABLE second (id int PRIMARY KEY, filler text)');
$c->psql('n1', 'INSERT INTO item SELECT i, 0 FROM generate_series(1, 1000) i');
# two of 2 MB, each of which takes longer than a snapshot may last
$c->psql('n1', "INSERT INTO $_ SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, 10000) i") for qw(first second);
$c->settle;
$c->add_server('c', conf => "zodan.snapshot_max_age = 1s\n");
my @writers = map { $c->start_writer($_, "\\set id random(1, 1000)\nUPDATE item SET n = n + 1 WHERE id = :id;\n", '--rate', '100') } qw(n1 n2);
$c->wait_writing(@writers);

# drops the request's slots on a node that no worker reads, and that are like a pattern
sub drop
{
	my ($node, $like) = @_;
	return $c->psql($node, "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE NOT active AND slot_name LIKE '$like'");
}

my $n = 3;
for my $case ([ 'n1', 'zodan\\_start\\_%', 'sync_source_to_new:gate:waiting', copy_rate => 1_500_000 ], [ 'n2', '%n4%', 'advance_slots:begin' ])
{
	my ($node, $like, $point, @columns) = @$case;
	my $new = 'n' . $n++;
	$c->add_server($new);
	$c->failpoints('c', "wait $point");
	my $id = $c->request(new => $new, on => 'c', copy_jobs => 1, @columns);
	my $go = $c->wait_failpoint('c', $point);
	$c->failpoints('c', '');
	cmp_ok(drop($node, $like), '>', 0, "slots on $node are dropped at $point");
	$go->();
	is($c->wait_for($id, 'c'), 'done', 'the join is done');
	like($c->queue('c', "SELECT string_agg(message, E'\n') FROM zodan.events WHERE request_id = $id AND level = 'error'"),
		qr/node "$node" does not have slot \w+.* any more, which the join needs/, 'having told which slots are gone');
	push @{ $c->{order} }, $new;
}
$c->stop_writer($_) for @writers;
$c->settle;
$c->psql('n1', 'UPDATE item SET n = 0');
$c->settle;
is($c->differences, '', 'rows are the same');
done_testing();
