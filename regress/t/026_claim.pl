# A request whose node, or whose journal, isn't what it was: its coordinator comes
# back when the node has long been added by another one; was restored from a copy
# of its files; its new node or its source was restored or promoted. Protects live
# nodes from a request that trusts its journal: it would empty their tables, and
# drop their subscriptions; and new nodes from ending up with rows that the source
# has lost, or without those that it has.
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
my $setup = $ZodanCluster::gate . q{
	CREATE TABLE item (id int PRIMARY KEY, name text);
	CREATE TABLE held (id int PRIMARY KEY, g gated);
	CREATE TABLE held_too (id int PRIMARY KEY, g gated);
};
my $rows = q{
	INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i;
	INSERT INTO held SELECT i, i FROM generate_series(1, 1000) i;
	INSERT INTO held_too SELECT i, i FROM generate_series(1, 1000) i;
};
my $c = ZodanCluster->new(nodes => 2, setup => $setup);
$c->psql('n1', $rows);
$c->settle;
$c->add_server($_, conf => "zodan.copy_part_size = 1MB\n") for qw(c d n3);

sub status
{
	my ($on, $id, $columns) = @_;
	return $c->queue($on, "SELECT $columns FROM zodan.status WHERE request_id = $id");
}

# the request waits in the middle of the copy, with two tables under way
sub begin_copy
{
	my ($on, $new) = @_;
	my $gate = $c->hold_gate($new);
	my $id = $c->request(new => $new, on => $on, copy_jobs => 2);
	$c->server($new)->poll_query_until('inventory', "SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted")
	  or die 'no two tables are under way';
	return ($id, $gate);
}

# ---------- the coordinator is away, and comes back when another one has added the node ----------

my ($id, $gate) = begin_copy('c', 'n3');
my $claim = $c->psql('n3', "SELECT current_setting('zodan.claim', true)");
like($claim, qr{^[-0-9a-f]{36}/\d+/-1$}, 'the new node has the mark of the request');
$c->server('c')->stop('immediate');
$gate->quit;
my $removal = $c->request(new => 'n3', on => 'd', operation => 'remove_node');
is($c->wait_for($removal), 'done', 'what it has made is removed by another coordinator');
is($c->psql('n3', 'SELECT setconfig FROM pg_db_role_setting'), '', 'with the mark');
is($c->psql('n3', 'SELECT roname FROM pg_replication_origin'), '', 'and its origins');
$c->remake('n3');
is($c->join_node('n3', on => 'd'), 'done', 'which then adds the node');
is($c->psql('n3', 'SELECT setconfig FROM pg_db_role_setting'), '', 'an open node has no mark');
$c->psql('n3', "INSERT INTO item VALUES (900000, 'of a user')");
$c->settle;
my $user = $c->session('n3', 'SELECT 1');
my %before = map { $_ => $c->state_of($_) . $c->checksums($_) } qw(n1 n2 n3);

$c->keep_files('c', 'copying');
$c->server('c')->start;
$c->{coordinator} = 'c';
$c->{quiet} = 1;
is($c->wait_for($id), 'failed', 'the first request comes back, and fails');
like(status('c', $id, 'last_error'), qr/^node "n3" is not this request's any more/, 'saying why');
like(status('c', $id, 'hint'), qr/left alone/, 'and that nothing was done about that');
is($c->text_difference($before{$_}, $c->state_of($_) . $c->checksums($_)), '', "nothing has changed on $_") for qw(n1 n2 n3);
is($user->query('SELECT 1'), '1', 'and a user is still connected');
for my $verb (qw(cancel retry))
{
	my ($rc, $out, $err) = $c->server('c')->psql('postgres', "SELECT zodan.$verb($id)");
	like($err, qr/has left nothing/, "it can't be brought to life by $verb");
}

# paused, it would be looked after; and it is cancelled
for my $verb ('', 'cancel')
{
	$c->server('c')->stop;
	$c->restore_files('c', 'copying');
	$c->server('c')->append_conf('postgresql.conf', "zodan.database = 'template1'");
	$c->server('c')->start;
	if ($verb eq '')
	{
		$c->queue('c', "UPDATE zodan.request_state SET state = 'paused', probe_at = NULL");
	}
	else
	{
		$c->queue('c', "SELECT zodan.cancel($id)");
	}
	$c->server('c')->append_conf('postgresql.conf', "zodan.database = 'postgres'");
	$c->server('c')->restart;
	if ($verb eq '')
	{
		$c->wait_queue("SELECT probe_at > now() FROM zodan.request_state WHERE request_id = $id", 'c');
		$c->queue('c', "SELECT zodan.resume($id)");
	}
	is($c->wait_for($id), 'failed', $verb eq '' ? 'resumed, it fails' : 'cancelled, it fails');
	is($c->text_difference($before{$_}, $c->state_of($_) . $c->checksums($_)), '', "nothing has changed on $_") for qw(n1 n2 n3);
}
$user->quit;
$c->{quiet} = 0;

# ---------- the coordinator's journal is from the past: it was restored, or is a standby that was behind ----------

for my $how (qw(restored promoted))
{
	my $new = $how eq 'restored' ? 'n4' : 'n4b';
	$c->add_server($new);
	($id, $gate) = begin_copy('c', $new);
	$c->server('c')->stop('immediate');
	$c->keep_files('c', 'copying');
	$gate->quit;
	$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = 'wait advance_slots:begin'");
	$c->server('c')->start;
	$c->wait_failpoint('c', 'advance_slots:begin');
	$c->server('c')->stop('immediate');
	$c->restore_files('c', 'copying');
	$c->psql('n1', "INSERT INTO item SELECT max(id) + 1, 'meanwhile' FROM item");
	# what isn't in the WAL a standby doesn't have
	system('rm', '-rf', $c->server('c')->data_dir . '/zodan') == 0 or die 'rm failed' if $how eq 'promoted';
	$c->promote('c') if $how eq 'promoted';
	$c->server('c')->start if $how eq 'restored';
	is($c->wait_for($id), 'done', "with a coordinator that was $how the request ends done");
	is($c->queue('c', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND message = 'the request starts from the beginning'"), '1', 'having begun anew');
	push @{ $c->{order} }, $new;
	$c->settle;
	is($c->differences, '', 'rows are the same');
	is($c->leftovers($id), '', 'nothing is left over');
}

# it lacks just the last thing that the request has intended
$c->add_server('n4d');
$c->failpoints('c', 'wait copy_data:begin');
$id = $c->request(new => 'n4d', on => 'c');
my $go = $c->wait_failpoint('c', 'copy_data:begin');
$c->server('c')->stop('immediate');
$go->();
$c->server('c')->append_conf('postgresql.conf', "zodan.database = 'template1'\nzodan.failpoints = ''");
$c->server('c')->start;
$c->queue('c', "UPDATE zodan.request_state SET claim = claim - 1, claim_told = claim - 1 WHERE request_id = $id");
$c->server('c')->append_conf('postgresql.conf', "zodan.database = 'postgres'");
$c->server('c')->restart;
is($c->wait_for($id), 'done', 'where the journal lacks one intent the request ends done');
like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $id"),
	qr/node "n4d" knows a later state of this request.*the request starts from the beginning/s, 'having begun anew');
push @{ $c->{order} }, 'n4d';

# within one attempt nothing but the rows tells that
$c->add_server('n4c');
$gate = $c->hold_gate('n4c');
$id = $c->request(new => 'n4c', on => 'c', copy_jobs => 1);
ok($c->wait_queue("SELECT string_agg(relname, ' ') = 'item' FROM zodan.copy_tables WHERE request_id = $id AND state = 'copied'"), 'a table is copied, another one is under way');
$c->wait_gate('n4c');
$c->server('c')->stop('immediate');
$c->server('c')->append_conf('postgresql.conf', "zodan.database = 'template1'");
$c->server('c')->start;
$c->queue('c', "UPDATE zodan.copy_tables SET state = 'pending', snapshot = NULL, started_at = NULL, finished_at = NULL, built_at = NULL, bytes_copied = 0, rows_copied = NULL WHERE request_id = $id AND relname = 'item'");
$c->queue('c', "UPDATE zodan.copy_indexes SET built_at = NULL WHERE request_id = $id AND relname = 'item'");
$c->server('c')->append_conf('postgresql.conf', "zodan.database = 'postgres'");
$c->server('c')->restart;
$gate->quit;
is($c->wait_for($id), 'done', 'where the journal lacks that a table was begun the request ends done');
like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $id"),
	qr/node "n4c" has rows of table public\.item, which the coordinator's tables don't know of.*the request starts from the beginning/s, 'having begun anew');
push @{ $c->{order} }, 'n4c';
$c->settle;
is($c->differences, '', 'rows are the same');

# ---------- the new node was restored to an earlier moment, or is a standby that was behind ----------

for my $how (qw(restored promoted))
{
	my $new = $how eq 'restored' ? 'n5' : 'n6';
	$c->add_server($new);
	$c->failpoints('c', 'wait copy_data:begin');
	$id = $c->request(new => $new, on => 'c');
	$go = $c->wait_failpoint('c', 'copy_data:begin');
	$c->server($new)->stop;
	$c->keep_files($new, 'empty');
	$c->server($new)->start;
	$c->failpoints('c', 'wait build_indexes:begin');
	$go->();
	$go = $c->wait_failpoint('c', 'build_indexes:begin');
	$c->server($new)->stop('immediate');
	$c->restore_files($new, 'empty');
	$c->promote($new) if $how eq 'promoted';
	$c->server($new)->start if $how eq 'restored';
	# as far as its WAL tells, nothing has happened
	$c->queue('c', "UPDATE zodan.servers SET lsn = '0/0' WHERE node = '$new'") if $how eq 'restored';
	$c->queue('c', "UPDATE zodan.request_state SET claim_told = 0 WHERE request_id = $id") if $how eq 'restored';
	$c->failpoints('c', '');
	$go->();
	is($c->wait_for($id), 'done', "with a new node that was $how, and lacks the tables that were copied, the request ends done");
	like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $id"),
		$how eq 'restored' ? qr/node "$new" has lost what was copied there: all of it/ : qr/node "$new" was (promoted or )?restored/, 'having seen that');
	push @{ $c->{order} }, $new;
	$c->settle;
	is($c->differences, '', 'rows are the same');
	is($c->leftovers($id), '', 'nothing is left over');
}

# ---------- one that was kept, and whose node was removed and added again ----------

$c->add_server('n7');
$c->failpoints('c', 'wait mirror_replication_sets:begin');
my $kept = $c->request(new => 'n7', on => 'c');
$go = $c->wait_failpoint('c', 'mirror_replication_sets:begin');
$c->failpoints('c', '');
$c->queue('c', "SELECT zodan.cancel($kept, keep => true)");
$go->();
$c->{quiet} = 1;
is($c->wait_for($kept), 'cancelled', 'a request is cancelled and keeps what it has made');
$id = $c->request(new => 'n7', on => 'c', operation => 'remove_node');
is($c->wait_for($id), 'done', 'its node is removed');
$c->remake('n7');
is($c->join_node('n7', on => 'c'), 'done', 'and added again');
$c->settle;
%before = map { $_ => $c->state_of($_) . $c->checksums($_) } qw(n1 n2 n7);
for my $verb (qw(cancel retry resume))
{
	my ($rc, $out, $err) = $c->server('c')->psql('postgres', "SELECT zodan.$verb($kept)");
	like($err, qr/has left nothing|is cancelled: cannot/, "the first request can't be brought to life by $verb");
}
is($c->text_difference($before{$_}, $c->state_of($_) . $c->checksums($_)), '', "nothing has changed on $_") for qw(n1 n2 n7);

# ---------- one that has failed, and another by a different address ----------

$c->add_server('n8');
$c->failpoints('c', 'error mirror_replication_sets:begin');
my $failed = $c->request(new => 'n8', on => 'c', max_attempts => 1);
is($c->wait_for($failed), 'failed', 'a request fails in the middle');
$c->failpoints('c', '');
$id = $c->request(new => 'n8', on => 'c', new_node_dsn => $c->dsn('n8') . ' host=' . $c->server('n8')->host . '/.');
is($c->wait_for($id), 'failed', 'another one has another address for the node');
like(status('c', $id, 'last_error'), qr/n8: claimed: found the mark of request $failed, add_node, which is failed/, 'and is refused');
$c->queue('c', "SELECT zodan.retry($failed)");
is($c->wait_for($failed), 'done', 'the first one goes on to its end');
push @{ $c->{order} }, 'n8';
$c->settle;
is($c->differences, '', 'rows are the same');
# ---------- the new node's server comes back with our mark, when the node has been added on another one ----------

$c->add_server('n9');
($id, $gate) = begin_copy('c', 'n9');
$c->server('c')->stop('immediate');
$gate->quit;
$c->server('n9')->stop;
$c->keep_files('n9', 'marked');
$removal = $c->queue('d', sprintf q{SELECT zodan.remove_node('n1', %s, 'n9', force => true)}, ZodanCluster::q_($c->dsn('n1')));
is($c->wait_for($removal, 'd'), 'done', 'the node is removed while its server is away');
$c->server('n9')->start;
$c->remake('n9');
$c->psql('n9', 'SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin');
is($c->join_node('n9', on => 'd'), 'done', 'and added on another one, with the same address');
$c->settle;
%before = map { $_ => $c->state_of($_) . $c->checksums($_) } qw(n1 n2);
$c->server('n9')->stop;
$c->restore_files('n9', 'marked');
$c->server('n9')->start;
$c->{coordinator} = 'c';
$c->server('c')->start;
is($c->wait_for($id), 'failed', 'the first server is back, with the mark, and so is the request');
like(status('c', $id, 'last_error'), qr/has another subscription "[^"]+" than this request has made: node "n9" was added again or removed since/, 'which sees that others have the node');
is($c->text_difference($before{$_}, $c->state_of($_) . $c->checksums($_)), '', "nothing has changed on $_") for qw(n1 n2);
$c->{quiet} = 0;

$c->stop;

# ---------- the source was promoted, and was restored ----------

$c = ZodanCluster->new(nodes => 1, setup => $setup);
$c->psql('n1', $rows);
$c->add_server('c', conf => "zodan.copy_part_size = 1MB\n");
$c->add_server('n2');
($id, $gate) = begin_copy('c', 'n2');
my $source = $c->server('n1');
$source->stop('immediate');
$c->promote('n1');
$gate->quit;
is($c->wait_for($id), 'done', 'with a source that was promoted in mid-copy the request ends done');
like($c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $id"),
	qr/node "n1" was promoted or restored: it is on timeline 2 now, and was on 1.*the request starts from the beginning/s, 'having begun anew, for that reason');
push @{ $c->{order} }, 'n2';
$c->settle;
is($c->differences, '', 'rows are the same');

$c = ZodanCluster->new(nodes => 1, setup => $setup);
$c->psql('n1', $rows);
$c->add_server('c');
$c->add_server('n2');
$source = $c->server('n1');
$source->stop;
$c->keep_files('n1', 'early');
$source->start;
$c->psql('n1', "INSERT INTO item SELECT i, 'lost' FROM generate_series(10001, 15000) i");
$c->failpoints('c', 'wait mirror_replication_sets:begin');
$id = $c->request(new => 'n2', on => 'c');
$go = $c->wait_failpoint('c', 'mirror_replication_sets:begin');
$c->failpoints('c', '');
$source->stop('immediate');
$c->restore_files('n1', 'early');
$source->start;
$c->psql('n1', "INSERT INTO item VALUES (20001, 'since')");
$go->();
is($c->wait_for($id), 'done', 'with a source that was restored to an earlier moment the request ends done');
is($c->psql('n2', "SELECT count(*) FILTER (WHERE name = 'lost'), count(*) FILTER (WHERE name = 'since') FROM item"), '0|1',
	'with the rows that the source has now');
push @{ $c->{order} }, 'n2';
$c->settle;
is($c->differences, '', 'rows are the same');

# ---------- the source fails over to a standby that lags, and has its slots ----------

if ($e eq 'spock' && $c->psql('n1', 'SHOW server_version_num') >= 170000)
{
	$c = ZodanCluster->new(nodes => 1, setup => $setup);
	$c->psql('n1', $rows);
	$c->add_server('c');
	$c->add_server('n2');
	$source = $c->server('n1');
	$source->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('standby')");
	$source->backup('standby');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($source, 'standby', has_streaming => 1);
	$standby->append_conf('postgresql.conf', "primary_slot_name = 'standby'\nhot_standby_feedback = on\nprimary_conninfo = '"
		  . ($source->connstr('inventory') =~ s/'/''/gr) . "'\n");
	$standby->start;
	$c->failpoints('c', 'wait bookmark_peers:begin');
	$id = $c->request(new => 'n2', on => 'c');
	$go = $c->wait_failpoint('c', 'bookmark_peers:begin');
	$c->failpoints('c', '');
	# a slot can be synchronized when it has moved on since the standby began
	my $slots = 'SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary';
	for my $i (1 .. 300)
	{
		$c->psql('n1', "INSERT INTO item VALUES (6000 + $i, 'both'); SELECT pg_log_standby_snapshot()");
		$source->wait_for_catchup($standby);
		$standby->psql('inventory', 'SELECT pg_sync_replication_slots()');
		last if $standby->safe_psql('inventory', $slots) > 0;
		ZodanCluster::usleep(100_000);
	}
	cmp_ok($standby->safe_psql('inventory', $slots), '>', 0, 'the standby has slots of the join');
	$standby->stop;
	$c->psql('n1', "INSERT INTO item SELECT i, 'lost' FROM generate_series(10001, 10100) i");
	ok($c->server('n2')->poll_query_until('inventory', "SELECT count(*) = 100 FROM item WHERE name = 'lost'"), 'the new node has rows that the standby has not');
	$source->stop('immediate');
	my $dir = $source->data_dir;
	system('cp', '-a', "$dir/postgresql.conf", $standby->data_dir . '/source.conf') == 0 or die 'cp failed';
	system('rm', '-rf', $dir) == 0 && system('cp', '-a', $standby->data_dir, $dir) == 0 && rename("$dir/source.conf", "$dir/postgresql.conf") or die 'cp failed';
	$source->append_conf('postgresql.conf', "primary_conninfo = ''\n");
	$c->promote('n1');
	$go->();
	is($c->wait_for($id), 'done', 'with a source that has failed over to a standby that lagged the request ends done');
	push @{ $c->{order} }, 'n2';
	$c->settle;
	is($c->differences, '', 'rows are the same');
	is($c->psql('n2', "SELECT count(*) FROM item WHERE name = 'lost'"), '0', 'without those that the source has lost');
	$c->stop;
	$c = ZodanCluster->new(nodes => 2, setup => $setup);
	$c->add_server('c');
}

# ---------- opening and cancelling exclude each other ----------

$c->add_server('n3');
$c->failpoints('c', 'wait finish:before_intent:open');
$id = $c->request(new => 'n3', on => 'c');
$go = $c->wait_failpoint('c', 'finish:before_intent:open');
$c->failpoints('c', '');
$c->queue('c', "SELECT zodan.cancel($id)");
$go->();
$c->{quiet} = 1;
is($c->wait_for($id), 'cancelled', 'cancelled a moment before the node is opened it is undone');
is($c->leftovers($id), '', 'nothing is left over');
$c->{quiet} = 0;
$c->failpoints('c', 'wait finish:after_intent:open');
$id = $c->request(new => 'n3', on => 'c');
$go = $c->wait_failpoint('c', 'finish:after_intent:open');
my ($rc, $out, $err) = $c->server('c')->psql('postgres', "SELECT zodan.cancel($id)");
like($err, qr/the new node has been opened to its users/, 'a moment after that it can not be cancelled');
$c->server('c')->stop('immediate');
$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = ''");
$c->server('c')->start;
is($c->wait_for($id), 'done', 'and after a crash it ends done');
is($c->psql('n3', 'SELECT datconnlimit FROM pg_database WHERE datname = current_database()'), '-1', 'the node is open');
is($c->psql('n3', 'SELECT setconfig FROM pg_db_role_setting'), '', 'and has no mark');

# ---------- a node that was opened, and lost before its join came to its end ----------

$c->{order} = [qw(n1 n2 n3)];
$c->add_server('n4');
$go->();
$c->failpoints('c', 'wait finish:after_intent:open');
$id = $c->request(new => 'n4', on => 'c');
$c->wait_failpoint('c', 'finish:after_intent:open');
$c->server($_)->stop('immediate') for qw(c n4);
$c->server('c')->append_conf('postgresql.conf', "zodan.failpoints = ''");
$c->server('c')->start;
$c->{quiet} = 1;
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id"), 'a request that has opened its node waits for it');
($rc, $out, $err) = $c->server('c')->psql('postgres', sprintf q{SELECT zodan.remove_node('n1', %s, 'n4', force => true)}, ZodanCluster::q_($c->dsn('n1')));
like($err, qr/new_node_name is that of request $id/, 'as long as it does the node can not be removed');
($rc, $out, $err) = $c->server('c')->psql('postgres', "SELECT zodan.cancel($id)");
like($err, qr/If the node never comes back, SELECT zodan.cancel\($id, keep => true\)/, 'nor can it be cancelled, and the hint says what to do');
$c->queue('c', "SELECT zodan.cancel($id, keep => true)");
is($c->wait_for($id), 'cancelled', 'it is given up');
like($c->queue('c', "SELECT hint FROM zodan.status WHERE request_id = $id"), qr/zodan.remove_node\(\) removes the node and them, SELECT zodan.cancel\($id\) forgets them/, 'with a hint what removes the rest');
$c->queue('c', "SELECT zodan.cancel($id)");
is($c->wait_for($id), 'cancelled', 'and forgotten');
is($c->queue('c', "SELECT count(*) FILTER (WHERE state = 'left') > 0, count(*) FILTER (WHERE state IN ('intent', 'done')) FROM zodan.effects WHERE request_id = $id"),
	't|0', 'with nothing dropped');
$id = $c->queue('c', sprintf q{SELECT zodan.remove_node('n1', %s, 'n4', force => true)}, ZodanCluster::q_($c->dsn('n1')));
is($c->wait_for($id), 'done', 'then the node is removed');
is(join(' ', map { $c->psql($_, "SELECT count(*) FROM pg_replication_slots") } @{ $c->{order} }), '2 2 2', 'nothing of it is left');
$c->settle;
is($c->differences, '', 'those that stay agree');

$c->stop;
done_testing();
