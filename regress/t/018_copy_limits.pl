# What bounds the copy: the age of its snapshots on the source, the rate that
# is asked for, the lag of those who replicate from the source, and memory, when
# the new node takes rows more slowly than the source sends them. Protects from
# a vacuum that is held back for hours, from a copy that drowns a production
# server, and from rows that differ because they were copied at different times.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use Time::HiRes qw(usleep);
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(
	nodes => 2,
	setup => $ZodanCluster::gate . join('', map { "CREATE TABLE t$_ (id int PRIMARY KEY, n int, filler text);" } 1 .. 20) . q{
		CREATE TABLE held (id int PRIMARY KEY, g gated, filler text);
		CREATE TABLE wide (id int PRIMARY KEY, doc bytea);
		ALTER TABLE wide ALTER doc SET STORAGE EXTERNAL;
		CREATE TABLE stalled (id int PRIMARY KEY);
		CREATE TABLE stuck (id int PRIMARY KEY, g gated, doc text);
		ALTER TABLE stuck ALTER doc SET STORAGE EXTERNAL;
	});
$c->psql('n1', join('', map { "INSERT INTO t$_ SELECT i, 0, repeat('x', 400) FROM generate_series(1, 1000) i;" } 1 .. 20)
	  . "INSERT INTO held SELECT i, i, repeat('x', 400) FROM generate_series(1, 2000) i; INSERT INTO stalled VALUES (1);");
$c->settle;
$c->add_server('c', conf => "zodan.copy_part_size = 1MB\nzodan.snapshot_max_age = 1s\n");

sub writer
{
	my ($name, $k) = @_;
	my $script = "\\set i random(0, 499)\n\\set new random(1, 1000000)\nBEGIN;\n";
	$script .= "UPDATE t$_ SET n = n + 1 WHERE id = :i * 2 + $k;\n" for 1, 7, 14, 20;
	$script .= "INSERT INTO t3 VALUES (10000000 * ($k + 1) + :new, 0) ON CONFLICT (id) DO UPDATE SET n = t3.n + 1;\n";
	$script .= "DELETE FROM t3 WHERE id = 10000000 * ($k + 1) + :new AND :new % 3 = 0;\nCOMMIT;\n";
	return $c->start_writer($name, $script, '--client=2', '--rate=100');
}

# what the status says of a request; '' if nothing
sub status
{
	my ($id, $what) = @_;
	return $c->queue('c', "SELECT $what FROM zodan.status WHERE request_id = $id");
}

# ---------- snapshots are short ----------

$c->add_server('n3');
my @writers = (writer('n1', 0), writer('n2', 1));
$c->wait_writing(@writers);
my $gate = $c->hold_gate('n3');
# the largest is copied first, and is held; the lane that is left is slow
my $id = $c->request(new => 'n3', on => 'c', copy_jobs => 2, copy_rate => 1000000);
$c->wait_gate('n3');
ok($c->wait_queue("SELECT count(DISTINCT snapshot) >= 4 FROM zodan.copy_tables WHERE request_id = $id"), 'tables are copied under one snapshot after the other');
# where making the structure takes longer than a second, that isn't the structure's
my $first = $c->queue('c', "SELECT min(snapshot) FROM zodan.copy_tables WHERE request_id = $id");
is($c->queue('c', "SELECT count(*) FROM zodan.copy_tables WHERE request_id = $id AND snapshot = $first AND state = 'copying'"), '1', 'the one that is held keeps its own');
ok($c->wait_queue("SELECT snapshot_age > interval '2 s' FROM zodan.status WHERE request_id = $id"), 'the status shows how old the oldest is');
is($c->queue('c', "SELECT coalesce(max(age), 0) < 2 FROM (SELECT extract(epoch FROM max(finished_at) - min(started_at)) AS age
	FROM zodan.copy_tables WHERE request_id = $id AND snapshot > $first AND state = 'copied' GROUP BY snapshot) AS x"), 't', 'no other one was used for much longer than a second');
like(status($id, 'detail'), qr/held to 1\.0 MB\/s/, 'and that the rate is held');

# ---------- the rate may be changed meanwhile ----------

my $before = status($id, 'bytes_per_second');
$c->queue('c', "SELECT zodan.set_copy_rate($id, NULL)");
$gate->quit;
is($c->wait_for($id), 'done', 'with no rate asked for it ends');
push @{ $c->{order} }, 'n3';
$c->stop_writer($_) for @writers;
$c->settle;
is($c->differences, '', 'rows are the same');
cmp_ok($before, '<=', 1300000, "$before bytes a second were copied before, no more than asked for");
is($c->leftovers($id), '', 'nothing is left over');

# ---------- no snapshot is opened for lanes that all build indexes ----------

$c->psql($_, q{CREATE FUNCTION held_back(id int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT id WHERE public.gate(id)';
	CREATE TABLE indexed (id int PRIMARY KEY, filler text);
	CREATE INDEX indexed_held ON indexed (held_back(id));
	INSERT INTO indexed SELECT i, repeat('x', 400) FROM generate_series(1, 4000) i;
	SELECT } . $c->e('add_table') . q{('default', 'indexed')}) for qw(n1 n2 n3);
$c->settle;
$c->add_server('stopped');
$gate = $c->hold_gate('stopped');
$id = $c->request(new => 'stopped', on => 'c', copy_jobs => 1);
$c->wait_gate('stopped');
ok($c->wait_queue("SELECT snapshot_age IS NULL AND detail LIKE '%now: index indexed_held' FROM zodan.status WHERE request_id = $id"),
	'while the only lane builds an index the source may vacuum');
ok($c->wait_queue("SELECT max(at) < clock_timestamp() - interval '4 s' FROM zodan.events WHERE request_id = $id AND message LIKE 'snapshot %'"),
	'no snapshot is opened for four times as long as one may be used');
is($c->queue('c', "SELECT count(*) > 0 FROM zodan.copy_tables WHERE request_id = $id AND state = 'pending'"), 't', 'and there are tables yet to be copied');
$c->queue('c', "SELECT zodan.cancel($id)");
is($c->wait_for($id), 'cancelled', 'cancelled');
$gate->quit;

# ---------- who replicates from the source comes first ----------

$c->server('c')->append_conf('postgresql.conf', "zodan.copy_lag_limit = 1MB\nzodan.snapshot_max_age = 5min\n");
$c->server('c')->reload;
$c->add_server('n4');
# a subscriber that stands still, and WAL for it
my $lock = $c->session('n2', 'BEGIN; LOCK TABLE stalled');
$c->psql('n1', 'DELETE FROM stalled WHERE id = 1');
$c->psql('n1', "SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))");
$gate = $c->hold_gate('n4');
$id = $c->request(new => 'n4', on => 'c', copy_jobs => 2, sync_timeout => '1 h');
ok($c->wait_queue("SELECT count(*) = 1 FROM zodan.events WHERE request_id = $id AND level = 'warning' AND message LIKE 'the copy slows down:%'"),
	'replication that lags slows the copy down') if $c->wait_queue("SELECT phase IN ('sync_peers_to_source', 'copy_data') FROM zodan.status WHERE request_id = $id");
ok($c->wait_queue("SELECT detail LIKE '%since replication from the source lags%' FROM zodan.status WHERE request_id = $id"), 'the status says so');
$lock->quit;
ok($c->wait_queue("SELECT count(*) = 1 FROM zodan.events WHERE request_id = $id AND message LIKE 'the copy goes at full speed again:%'"), 'until it has caught up');
$gate->quit;
is($c->wait_for($id), 'done', 'the join ends');
push @{ $c->{order} }, 'n4';

# ---------- memory ----------

# what the process that runs a request has for itself, in kB
sub memory
{
	my ($pid) = @_;
	open my $in, '<', "/proc/$pid/status" or return 0;
	my ($kb) = join('', <$in>) =~ /^RssAnon:\s+(\d+)/m;
	return $kb || 0;
}

# a table that the new node doesn't take in, while another one moves all the time
$c->psql('n1', q{INSERT INTO stuck SELECT i, i, repeat(md5(i::text), 500) FROM generate_series(1, 6000) i;
	INSERT INTO wide SELECT i, decode(repeat(md5(i::text), 30000), 'hex') FROM generate_series(1, 180) i;});
$c->settle;
$c->server('c')->append_conf('postgresql.conf', "zodan.copy_part_size = 1GB\nzodan.copy_lag_limit = 0\n");
$c->server('c')->reload;
$c->add_server('n5');
$gate = $c->hold_gate('n5');
$id = $c->request(new => 'n5', on => 'c', copy_jobs => 2);
$c->wait_gate('n5');
ok($c->wait_queue("SELECT state = 'copied' FROM zodan.copy_tables WHERE request_id = $id AND relname = 'wide'"), 'one of two tables of 90 MB is copied');
is($c->queue('c', "SELECT string_agg(relname, ' ') FROM zodan.copy_tables WHERE request_id = $id AND state = 'copying' AND bytes_total > 50000000"), 'stuck', 'the other one does not get on');
my $pid = status($id, 'worker_pid');
my $kb = memory($pid);
cmp_ok($kb, '>', 1000, 'the memory can be seen');
cmp_ok($kb, '<', 65536, "the copy has $kb kB");
$gate->quit;
is($c->wait_for($id), 'done', 'the join ends');
push @{ $c->{order} }, 'n5';

# rows of 8 MB, and one of 96 MB
$c->psql('n1', q{INSERT INTO wide SELECT i, decode(repeat(md5(i::text), 500000), 'hex') FROM generate_series(201, 210) i;
	INSERT INTO wide SELECT 300, decode(repeat(md5('x'), 6000000), 'hex')});
$c->settle;
$c->add_server('n6');
$id = $c->request(new => 'n6', on => 'c', copy_jobs => 2);
my $most = 0;
while ($c->queue('c', "SELECT state FROM zodan.request_state WHERE request_id = $id") !~ /done|failed|cancelled/)
{
	$pid = status($id, 'worker_pid') || 0;
	for (1 .. 20)
	{
		$kb = memory($pid);
		$most = $kb if $kb > $most;
		usleep(5_000);
	}
}
is($c->wait_for($id), 'done', 'rows of 8 MB and one of 96 MB pass');
push @{ $c->{order} }, 'n6';
# libpq has a row as it comes in, as it is handed out, and as it leaves, and doubles its buffers
cmp_ok($most, '<', 65536 + 6 * 96 * 1024, "the copy had $most kB at most");
$c->settle;
is($c->psql('n6', 'SELECT md5(string_agg(md5(doc), NULL ORDER BY id)) FROM wide'), $c->psql('n1', 'SELECT md5(string_agg(md5(doc), NULL ORDER BY id)) FROM wide'), 'and are the same');
$c->stop;
done_testing();
