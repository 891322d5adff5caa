# The WAL that a join's slots make the nodes keep is watched. More of it than
# the operator allows is told, once, and cancels the request where he wants
# that. A node that has removed WAL which a slot still needed makes the request
# begin anew. Protects from a full disk on a production server, and from a new
# node that lacks what was in that WAL.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => $ZodanCluster::gate . q{
	CREATE TABLE item (id bigint PRIMARY KEY, filler text);
	ALTER TABLE item ALTER filler SET STORAGE EXTERNAL;
	CREATE TABLE held (id int PRIMARY KEY, g gated);
	INSERT INTO item SELECT i, 'x' FROM generate_series(1, 1000) AS i;
	INSERT INTO held VALUES (1, 1);
});
$c->add_server($_) for qw(c n3);
my @nodes = qw(n1 n2 n3);
my %before = map { $_ => $c->state_of($_) } @nodes;

# changes a setting of a server's
sub set
{
	my ($name, $setting, $value) = @_;
	my $server = $c->server($name);
	$server->append_conf('postgresql.conf', "$setting = '$value'\n");
	$server->reload;
	$server->poll_query_until('postgres', "SELECT current_setting('$setting') = '$value'") or die "$setting isn't $value";
	return;
}

my $next = 10000;

# writes some MB into the WAL of n1, and waits until n2 has them
sub write_wal
{
	my ($mb) = @_;
	$next += 100000;
	$c->psql('n1', "INSERT INTO item SELECT $next + i, repeat('x', 8000) FROM generate_series(1, 128 * $mb) AS i");
	$c->settle(qw(n1 n2));
	return;
}

sub said
{
	my ($id) = @_;
	return $c->queue('c', "SELECT string_agg(concat_ws(' ', level, node, message), E'\\n' ORDER BY id) FROM zodan.events WHERE request_id = $id");
}

# what is said of such a request
sub too_much
{
	my ($request) = @_;
	return "slots of request $request make node n1 keep \\d+ MB of WAL, more than zodan.max_retained_wal";
}

# the request is cancelled for that problem, where the operator wants that
sub is_cancelled
{
	my ($request, $why, $held) = @_;
	$c->{quiet} = 1;
	is($c->wait_for($request), 'cancelled', 'where the operator wants that, the request is cancelled');
	$c->{quiet} = 0;
	like($c->queue('c', "SELECT last_error, hint FROM zodan.status WHERE request_id = $request"), qr/^$why\|.*file the request again/, 'the status says why');
	is($c->text_difference($before{$_}, $c->state_of($_)), '', "$_ is as it was") for @nodes;
	$held->quit if $held;
	set('c', 'zodan.max_retained_wal', '0');
	return;
}

# ---------- more than allowed is told, once; and that it's over ----------

set('c', 'zodan.max_retained_wal', '2MB');
my $listener = $c->server('c')->background_psql('postgres', on_error_stop => 1);
$listener->query_safe('LISTEN zodan_alerts');
my $gate = $c->hold_gate('n3');
my $id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
write_wal(4);
my $problem = too_much($id);
ok($c->wait_queue("SELECT count(*) = 1 FROM zodan.events WHERE request_id = $id AND message LIKE '%max_retained_wal'"), 'too much WAL is told');
like(said($id), qr/^warning n1 $problem$/m, 'in the log');
ok($c->wait_queue("SELECT wal_retained > 4000000 FROM zodan.status WHERE request_id = $id"), 'the status has how much it is');
my $seen = $c->queue('c', "SELECT wal_retained FROM zodan.status WHERE request_id = $id");
write_wal(1);
$c->wait_queue("SELECT wal_retained > $seen + 500000 FROM zodan.status WHERE request_id = $id");
set('c', 'zodan.max_retained_wal', '1GB');
ok($c->wait_queue("SELECT count(*) = 1 FROM zodan.events WHERE request_id = $id AND message LIKE '%max_retained_wal again'"), 'that it is less again is told, too');
is(() = said($id) =~ /^warning n1 slots/mg, 1, 'the log tells it once');
my $notes = $listener->query('SELECT 1');
like($notes, qr/"zodan_alerts" with payload "\{"v" : 1, "request" : $id, "node" : "n1", "state" : "unhealthy", "problem" : "$problem", "at" : "[^"]+"\}"/, 'listeners are told');
like($notes, qr/"node" : "n1", "state" : "healthy", "problem" : null/, 'both times');
is(() = $notes =~ /with payload/g, 2, 'and not more often');
$listener->quit;

# ---------- it cancels ----------

set('c', 'zodan.on_max_retained_wal', 'cancel');
set('c', 'zodan.max_retained_wal', '2MB');
is_cancelled($id, $problem, $gate);

# ---------- also while nobody works on it ----------

# has the request looked at now, with another bound
sub look
{
	my ($request, $bound) = @_;
	$c->queue('c', "UPDATE zodan.request_state SET probe_at = now() WHERE request_id = $request");
	set('c', 'zodan.max_retained_wal', $bound);
	return;
}

sub pause
{
	my ($request) = @_;
	$c->queue('c', "SELECT zodan.pause($request)");
	ok($c->wait_queue("SELECT state = 'paused' AND worker_pid IS NULL FROM zodan.status WHERE request_id = $request"), 'a request is paused');
	return;
}

set('c', 'zodan.on_max_retained_wal', 'warn');
$gate = $c->hold_gate('n3');
$id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
pause($id);
write_wal(4);
look($id, '2MB');
$problem = too_much($id);
ok($c->wait_queue("SELECT count(*) = 1 FROM zodan.events WHERE request_id = $id AND message LIKE '%max_retained_wal'"), 'too much WAL is told');
like(said($id), qr/^warning n1 $problem$/m, 'in the log');
look($id, '1GB');
ok($c->wait_queue("SELECT count(*) = 1 FROM zodan.events WHERE request_id = $id AND message LIKE '%max_retained_wal again'"), 'so is that it is less again');
is($c->queue('c', "SELECT state, attempt FROM zodan.status WHERE request_id = $id"), 'paused|1', 'the request stays paused');
set('c', 'zodan.on_max_retained_wal', 'cancel');
look($id, '2MB');
is_cancelled($id, $problem, $gate);

# ---------- also while it waits for a node that is down ----------

$gate = $c->hold_gate('n3');
$id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
$c->server('n3')->stop('immediate');
$gate->{run}->kill_kill;
ok($c->wait_queue("SELECT state = 'retrying' FROM zodan.status WHERE request_id = $id"), 'the new node is down');
write_wal(4);
set('c', 'zodan.max_retained_wal', '2MB');
ok($c->server('n1')->poll_query_until('inventory', 'SELECT count(*) = 1 FROM pg_replication_slots'), 'too much WAL is let go without it');
$problem = too_much($id);
like(said($id), qr/^warning n1 $problem$/m, 'as the log tells');
$c->server('n3')->start;
is_cancelled($id, $problem);

# ---------- WAL that is needed is removed ----------

# writes WAL on n1, and has it removed, until that was noticed
sub lose_wal
{
	my ($noticed) = @_;
	# what the cluster's own slots need is there all the time
	set('n1', 'max_slot_wal_keep_size', '48MB');
	for (1 .. 50)
	{
		$c->psql('n1', 'SELECT pg_switch_wal()');
		write_wal(1);
		$c->psql('n1', 'CHECKPOINT');
		return 1 if $noticed->() eq 't';
	}
	return 0;
}

sub is_undone
{
	my ($request) = @_;
	return $c->queue('c', "SELECT count(*) > 0 FROM zodan.events WHERE request_id = $request AND message = 'what the request made is rolled back'");
}

$gate = $c->hold_gate('n3');
$id = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
my $writer = $c->start_writer('n2', "\\set i random(1, 1000000)\nINSERT INTO item VALUES (100000000 + :i, 'n2') ON CONFLICT DO NOTHING;", '--client=1', '--rate=50');
$c->wait_writing($writer);
ok(lose_wal(sub { is_undone($id) }), 'the source has removed WAL that the join needs: what was made is undone');
like($c->queue('c', "SELECT last_error, hint FROM zodan.status WHERE request_id = $id"),
	qr/^node "n1" has removed WAL that slot \S+, \S+ still needed\|Set max_slot_wal_keep_size/, 'the status says why, and what to do');
set('n1', 'max_slot_wal_keep_size', '-1');
$gate->quit;
is($c->wait_for($id), 'done', 'the request starts from the beginning, and ends done');
push @{ $c->{order} }, 'n3';
like(said($id), qr/starts from the beginning.*snapshot 0/s, 'by a new snapshot');
$c->stop_writer($writer);
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- while nobody works on it ----------

$c->add_server('n4');
$gate = $c->hold_gate('n4');
$listener = $c->server('c')->background_psql('postgres', on_error_stop => 1);
$listener->query_safe('LISTEN zodan_alerts');
$id = $c->request(new => 'n4', on => 'c');
$c->wait_gate('n4');
pause($id);
ok(lose_wal(sub { $c->psql('n1', "SELECT count(*) > 0 FROM pg_replication_slots WHERE wal_status = 'lost'") }), 'the source removes WAL that a paused join needs');
look($id, '0');
ok($c->wait_queue("SELECT last_error LIKE 'node \"n1\" has removed WAL that slot % still needed' FROM zodan.status WHERE request_id = $id"), 'the status says so');
is($c->queue('c', "SELECT state, hint FROM zodan.status WHERE request_id = $id"),
	"paused|SELECT zodan.cancel($id), which rolls back what it has made. If it is resumed, it starts from the beginning.", 'and what to do');
like(said($id), qr/^error n1 node "n1" has removed WAL/m, 'so does the log');
set('n1', 'max_slot_wal_keep_size', '-1');
$gate->quit;
$c->queue('c', "SELECT zodan.resume($id)");
is($c->wait_for($id), 'done', 'when it goes on, it begins anew');
push @{ $c->{order} }, 'n4';
like(said($id), qr/starts from the beginning/, 'as the log tells');
$notes = $listener->query('SELECT 1');
like($notes, qr/"request" : $id, "node" : "n1", "state" : "unhealthy", "problem" : "node \\"n1\\" has removed WAL.*"state" : "healthy"/s, 'listeners are told, also when that is over');
$listener->quit;
$c->settle;
is($c->differences, '', 'rows are the same');

# ---------- the last attempt ----------

$c->add_server('n5');
$gate = $c->hold_gate('n5');
$id = $c->request(new => 'n5', on => 'c', max_attempts => 1);
$c->wait_gate('n5');
lose_wal(sub { is_undone($id) });
$c->{quiet} = 1;
is($c->wait_for($id), 'failed', 'without another attempt the request fails');
like($c->queue('c', "SELECT last_error, hint FROM zodan.status WHERE request_id = $id"),
	qr/^node "n1" has removed WAL.*\|Set max_slot_wal_keep_size.* file the request again/, 'the status says why');
is($c->queue('c', "SELECT count(*) FROM zodan.effects WHERE request_id = $id AND state <> 'rolled_back'"), '0', 'and nothing is left');
done_testing();
