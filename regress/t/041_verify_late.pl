# A comparison of rows looks at one node late, since its answer takes its time, and at
# another one before a change has arrived there. Protects from a row that is reported to
# differ, though it came and went everywhere.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;
use ZodanProxy;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, password => 'secret', setup => q{
	CREATE TABLE job (id int PRIMARY KEY, n int);
	CREATE TABLE aside (id int PRIMARY KEY, n int);
	INSERT INTO aside VALUES (1, 0);
});
# the largest table is the first
$c->psql($_, "SELECT pg_replication_origin_create('planted'); SELECT pg_replication_origin_session_setup('planted'); INSERT INTO aside SELECT i, 0 FROM generate_series(2, 1000) i") for qw(n1 n2);
$c->add_server('c');
my $proxy = ZodanProxy->new($c->server('n2')->port);
my $through = $c->dsn('n2') =~ s/port=\d+/'port=' . $proxy->port/er;

sub reached { return $c->server($_[0])->poll_query_until('inventory', $_[1]) || die "not reached: $_[1]"; }

# until an apply worker waits for a lock
sub waits_for_lock { return reached($_[0], "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.backend_type <> 'client backend'"); }

# the row is a suspect that nothing can be said about
$c->psql('n1', "SELECT pg_replication_origin_session_setup('planted'); INSERT INTO job VALUES (5, 0)");
my $open = $c->session('n2', 'BEGIN', 'INSERT INTO job VALUES (100, 0)');
$c->failpoints('c', 'wait verify_rows:suspects:decided');
my $id = $c->queue('c', 'INSERT INTO zodan.requests (operation, src_node_name, src_dsn, options) VALUES (' . join(', ', map { ZodanCluster::q_($_) } 'verify', 'n1', $c->dsn('n1'), qq({"peer_dsns": {"n2": "$through"}})) . ') RETURNING id');
my $go = $c->wait_failpoint('c', 'verify_rows:suspects:decided');
$c->failpoints('c', '');
$c->psql('n1', 'DELETE FROM job WHERE id = 5');
$open->query_safe('COMMIT');
$open->quit;
$c->settle;

# no node has it when it is looked at on n1, but there is one when n2 is looked at
my $now = $c->psql('n1', 'SELECT clock_timestamp()');
$proxy->stall;
$go->();
reached('n1', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'SELECT q.zodan_n%' AND state = 'idle' AND query_start > '$now'");
$c->psql('n1', 'INSERT INTO job VALUES (5, 1)');
$c->settle;

# it is deleted behind the marker
my $aside = $c->session('n2', 'BEGIN', 'SELECT FROM aside WHERE id = 1 FOR UPDATE');
$c->psql('n1', 'UPDATE aside SET n = 1 WHERE id = 1');
waits_for_lock('n2');
$proxy->move;
my $behind = "SELECT coalesce(substring(detail FROM 'waiting for ([^;]*)'), '') FROM zodan.status WHERE request_id = $id";
$c->wait_queue("SELECT ($behind) <> ''", 'c');
my $marker = $c->queue('c', $behind);
$proxy->stall;
$aside->query_safe('ROLLBACK');
$aside->quit;
$c->settle;

# and still there when n2 is looked at again
my $lock = $c->session('n2', 'BEGIN', 'SELECT FROM job WHERE id = 5 FOR UPDATE');
$c->psql('n1', 'DELETE FROM job WHERE id = 5');
waits_for_lock('n2');
$proxy->move;
$c->wait_queue("SELECT finished_at IS NOT NULL OR ($behind) NOT IN ('', '$marker') FROM zodan.status WHERE request_id = $id", 'c');
$lock->query_safe('ROLLBACK');
$lock->quit;
is($c->wait_for($id, 'c'), 'done', 'a row that came and went does not differ');
is($c->queue('c', "SELECT count(*) FROM zodan.differences WHERE request_id = $id"), '0', 'and is not among those that do');
$proxy->stop;
done_testing();
