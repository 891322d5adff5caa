# Requests that wait: for a process of the server's, for a node that stays away, and
# for their time, which is told by a clock that somebody sets. And one that was
# cancelled, and has left its slots. Protects from attempts that are used up without
# having been made, from nodes that are asked again and again though nothing is
# wrong with them, from requests that stand still when a clock is put back, and from
# disks that fill up unseen.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id int PRIMARY KEY)', conf => "log_connections = on\nzodan.max_retained_wal = 1MB\n");
my $coordinator = $c->add_server('c');
$c->add_server($_) for qw(n3 n4);

sub status
{
	my ($id, $columns) = @_;
	return $c->queue('c', "SELECT $columns FROM zodan.status WHERE request_id = $id");
}

# how often we have connected to a node, as its log tells
sub connections
{
	my ($name) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($c->server($name)->logfile);
	return scalar(() = $log =~ /connection authorized: .*application_name=zodan_bgw/g);
}

# ---------- no place for another process ----------

# those that start with the server; an engine's managers come and go
my $used = $c->queue('c', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type NOT IN ('client backend', 'walsender', 'checkpointer',
	'background writer', 'walwriter', 'archiver', 'startup', 'walreceiver', 'autovacuum launcher', 'autovacuum worker', 'logger',
	'slotsync worker', 'walsummarizer', 'io worker', 'standalone backend') AND backend_type NOT LIKE '%manager%'});
$coordinator->append_conf('postgresql.conf', "max_worker_processes = $used\nzodan.poll_interval = 100ms\n");
$coordinator->restart;
my $id = $c->request(new => 'n3', on => 'c', max_attempts => 1);
ok($c->wait_queue("SELECT detail LIKE 'waits for a free background worker%' FROM zodan.status WHERE request_id = $id"), 'a request waits for a process, and says so');
my $offset = -s $coordinator->logfile;
$coordinator->wait_for_log(qr/no background worker is free for request $id/, $offset);
is(status($id, 'state, attempt'), 'queued|0', 'which is no attempt');
$coordinator->append_conf('postgresql.conf', "max_worker_processes = 40\n");
$coordinator->restart;
is($c->wait_for($id), 'done', 'when there is one, its only attempt ends done');
push @{ $c->{order} }, 'n3';

# ---------- a node that stays away ----------

$c->server('n4')->stop;
$c->{quiet} = 1;
my $second = $c->request(new => 'n4', on => 'c');
ok($c->wait_queue("SELECT s.state = 'retrying' AND r.missing = '{n4}' FROM zodan.status s JOIN zodan.request_state r USING (request_id) WHERE request_id = $second"),
	'a request waits for its node');
$c->queue('c', "UPDATE zodan.request_state SET next_attempt_at = now() + interval '1 hour' WHERE request_id = $second");
my %before = map { $_ => connections($_) } qw(n1 n2);
for (1, 2)
{
	my $look = $c->queue('c', "SELECT probe_at FROM zodan.request_state WHERE request_id = $second");
	$c->wait_queue("SELECT probe_at > '$look' FROM zodan.request_state WHERE request_id = $second");
}
is(connections($_), $before{$_}, "while it is looked for, nobody asks $_") for qw(n1 n2);
$c->queue('c', "UPDATE zodan.request_state SET missing_since = now() - interval '1 hour', probe_at = now() WHERE request_id = $second");
ok($c->wait_queue("SELECT probe_at - clock_timestamp() BETWEEN '40 s' AND '61 s' FROM zodan.request_state WHERE request_id = $second"),
	'after an hour it is looked for once a minute');

# ---------- the clock is put back ----------

$c->server('n4')->start;
$c->queue('c', "UPDATE zodan.request_state SET updated_at = now() + interval '1 day', next_attempt_at = now() + interval '1 day', probe_at = now() + interval '1 day'"
	  . " WHERE request_id = $second");
$c->failpoints('c', 'wait copy_data:begin');
my $go = $c->wait_failpoint('c', 'copy_data:begin');
ok(1, 'a request whose times are of a clock that was put back goes on');

# ---------- cancelled, and kept ----------

$c->queue('c', "SELECT zodan.cancel($second, keep => true)");
$c->failpoints('c', '');
$go->();
is($c->wait_for($second), 'cancelled', 'the request is cancelled, and keeps what it has made');
$c->psql('n1', q{SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000)) FROM generate_series(1, 3)});
$c->queue('c', "UPDATE zodan.request_state SET probe_at = NULL WHERE request_id = $second");
$c->queue('c', 'SELECT zodan.wake()');
ok($c->wait_queue("SELECT wal_retained > 2000000 FROM zodan.status WHERE request_id = $second"), 'its slots are watched');
like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $second AND level = 'warning'"),
	qr/slots of request $second make node n1 keep \d+ MB of WAL/, 'and it is told how much they hold');
my ($rc, $out, $err) = $c->server('c')->psql('postgres', sprintf "INSERT INTO zodan.requests (src_node_name, src_dsn, new_node_name, new_node_dsn) VALUES ('n1', %s, 'n4', %s)",
	map { ZodanCluster::q_($c->dsn($_)) } qw(n1 n4));
like($err, qr/new_node_name is that of request $second, add_node, which is cancelled/, 'nobody else may have the node');
my $other = $c->request(new => 'n4', on => 'c', new_node_dsn => $c->dsn('n4') . ' connect_timeout=10 host=' . $c->server('n4')->host . '/.');
is($c->wait_for($other), 'failed', 'nor under another address');
like(status($other, 'last_error'), qr/n4: claimed: found the mark of request $second, add_node, which is cancelled/, 'as the checks find');
$c->queue('c', "SELECT zodan.cancel($second)");
is($c->wait_for($second), 'cancelled', 'it is undone');
is($c->leftovers($second), '', 'nothing is left over');
is($c->join_node('n4', on => 'c'), 'done', 'and the node can join');
$c->settle;
is($c->differences, '', 'rows are the same');
$c->stop;
done_testing();
