# A request is cancelled, and its runner is killed, while a statement of its is
# under way that changes subscriptions or nodes: wherever that makes, enables,
# disables or drops them, on the new node and on the others, in a join, in its
# roll back and in a removal. No server loses a process by it, and each request
# ends as it should, also where the server is busy with changes of its catalogs.
# Protects from what pglogical and Spock before 6 do when a transaction that has
# changed a subscription is aborted, and something else is committed in the same
# session: they crash the server, and with it everybody who is connected to that
# node.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $e = $ZodanCluster::engine;
my $c = ZodanCluster->new(nodes => 2, setup => 'CREATE TABLE item (id int PRIMARY KEY, n int)');
$c->psql('n1', 'INSERT INTO item SELECT i, 0 FROM generate_series(1, 100) i');
# From 17 on such a trigger gives every session a temporary schema before it does anything.
my $login = q{
	CREATE FUNCTION at_login() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN CREATE TEMPORARY TABLE of_session (id int PRIMARY KEY); END';
	CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION at_login();
};
if ($c->psql('n1', 'SHOW server_version_num') >= 170000)
{
	$c->psql($_, $login) for qw(n1 n2);
	is($c->psql('n1', 'SELECT pg_my_temp_schema() <> 0'), 't', 'sessions have a temporary schema');
}
$c->settle;
$c->add_server('c', conf => "restart_after_crash = on\n");
$c->add_server('n3');
my %before = map { $_ => $c->state_of($_) } qw(n1 n2 n3);
my $moments = 0;

# A moment is a node and a table that the statement can't write there: what it
# has changed before, it has changed. Takes the table.
sub trap
{
	my ($node, $table) = @_;
	return $c->session($node, 'BEGIN', 'LOCK TABLE ' . relation($table) . ' IN SHARE MODE');
}

sub relation { return $_[0] =~ /^pg_/ ? "pg_catalog.$_[0]" : "$e.$_[0]"; }

# The request's sessions that wait at a moment: pids. The engine's manager may have
# been caught first, and hold what they wait for: $any.
sub trapped
{
	my ($id, $any, $node, $table) = @_;
	return split /\n/, $c->psql($node, "SELECT DISTINCT pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted"
		  . ($any ? '' : " AND l.relation = '" . relation($table) . "'::regclass") . " AND a.application_name = 'zodan_bgw: request $id'");
}

# waits until the request has come to one of these moments; returns which
sub wait_trapped
{
	my ($id, @at) = @_;
	my $begin = ZodanCluster::time();
	while ((my $waited = ZodanCluster::time() - $begin) < $PostgreSQL::Test::Utils::timeout_default)
	{
		for my $i (0 .. $#at)
		{
			return $i if trapped($id, $waited > 3, @{ $at[$i] });
		}
		ZodanCluster::usleep(20_000);
	}
	die 'no statement waits for any of ' . join(', ', map { "$_->[1] of $_->[0]" } @at) . ": the request is "
	  . $c->queue('c', "SELECT concat_ws(', ', state, phase, detail, last_error) FROM zodan.status WHERE request_id = $id");
}

sub said
{
	my ($id, $how, $node, $table) = @_;
	return $c->queue('c', "SELECT concat_ws(', ', state, phase) FROM zodan.status WHERE request_id = $id") . ", $how before $table of $node";
}

sub no_crash
{
	my ($what) = @_;
	is(join("\n", $c->crashes), '', "$what: no server has lost a process") || die 'so would the rest';
	return;
}

# Kills the request's runner at each of the moments, whose traps are given; another
# goes on with it. Half of the statements end by themselves, the other half is
# ended by the next runner.
sub kill_at
{
	my ($id, $traps, @at) = @_;
	my @left = map { { at => $at[$_], trap => $traps->[$_] } } 0 .. $#at;
	while (@left)
	{
		my $moment = splice @left, wait_trapped($id, map { $_->{at} } @left), 1;
		my @pids = trapped($id, 1, @{ $moment->{at} });
		my $what = said($id, 'killed', @{ $moment->{at} });
		my $runner = $c->queue('c', "SELECT worker_pid FROM zodan.status WHERE request_id = $id");
		ok($runner && ZodanLogs::kill_process($runner), $what);
		$c->server($moment->{at}[0])->poll_query_until('inventory', 'SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN (' . join(', ', 0, @pids) . ')')
		  if $moments++ % 2;
		$moment->{trap}->quit;
		no_crash($what);
		# the coordinator starts again; sessions of the dead runner may have come to other moments meanwhile
		$c->server('c')->poll_query_until('postgres', "SELECT worker_pid IS DISTINCT FROM $runner AND (worker_pid IS NOT NULL OR state = 'done' OR state = 'cancelled') FROM zodan.status WHERE request_id = $id")
		  or die 'no other runner goes on';
	}
	return;
}

# Cancels the request at a moment. Half of the statements get the lock, and end
# by themselves, the other half has to be ended.
sub cancel_at
{
	my ($id, $trap, @at) = @_;
	wait_trapped($id, [@at]);
	my ($pid) = trapped($id, 1, @at);
	# so much has changed elsewhere that its backend is told to catch up, which it does when it waits for its client
	$c->server($at[0])->safe_psql('postgres', 'UPDATE pg_catalog.pg_proc SET proname = proname');
	my $what = said($id, 'cancelled', @at);
	# a removal that has begun can only be given up, and has no phase behind it that would see that
	my $keep = $what =~ /drop_node/ ? 'true' : 'false';
	my $ends = $moments++ % 2 && $keep eq 'false';
	$c->queue('c', "SELECT zodan.cancel($id, keep => $keep)");
	$trap->quit if $ends;
	$c->wait_queue("SELECT state IN ('cancelling', 'rolling_back', 'cancelled', 'done', 'failed') FROM zodan.status WHERE request_id = $id");
	$trap->quit unless $ends;
	is($c->wait_for($id, 'c', 60), 'cancelled', $what);
	my $log = PostgreSQL::Test::Utils::slurp_file($c->server($at[0])->logfile);
	my @left = $log =~ /^[^\n]*\[$pid\][^\n]*(canceling statement|terminating connection|connection to client lost|Broken pipe)/mg;
	is("@left", $ends ? '' : 'canceling statement', "$what: the statement " . ($ends ? 'ends by itself' : 'is cancelled') . ' before its session goes');
	no_crash($what);
	return;
}


# the moments of a phase are those after its begin
sub begin
{
	my ($phase, %arg) = @_;
	$c->failpoints('c', "wait $phase:begin");
	my $id = $c->request(new => 'n3', on => 'c', %arg);
	my $go = $c->wait_failpoint('c', "$phase:begin");
	return ($id, $go);
}

# ---------- cancelled where nodes and subscriptions are made, enabled, disabled, dropped ----------

$c->{quiet} = 1;
for my $at ([qw(register_node n3 node)], [qw(register_node n3 replication_set)], [qw(register_node n3 subscription)],
	[qw(register_node n3 local_sync_status)], [qw(register_node n3 pg_replication_origin)], [qw(register_node n1 node)],
	[qw(register_node n1 subscription)], [qw(register_node n1 local_sync_status)], [qw(register_node n2 local_sync_status)],
	[qw(register_node n2 pg_replication_origin)],
	[qw(sync_source_to_new n3 subscription)], [qw(advance_slots n3 subscription)], [qw(advance_slots n3 pg_replication_origin)],
	[qw(advance_slots n3 local_sync_status)],
	[qw(enable_subscriptions n3 subscription)], [qw(subscribe_existing_nodes n1 subscription)], [qw(subscribe_existing_nodes n2 subscription)])
{
	my ($phase, @at) = @$at;
	my ($id, $go) = begin($phase);
	my $trap = trap(@at);
	$go->();
	cancel_at($id, $trap, @at);
}
is($c->text_difference($before{$_}, $c->state_of($_)), '', "$_ is as it was") for qw(n1 n2 n3);

# ---------- the runner is killed in a roll back ----------

my ($id, $go) = begin('monitor_lag');
my @at = ([qw(n3 subscription)], [qw(n3 node)], [qw(n1 subscription)], [qw(n1 local_sync_status)], [qw(n2 subscription)], [qw(n2 pg_replication_origin)]);
my @traps = map { trap(@$_) } @at;
$c->queue('c', "SELECT zodan.cancel($id)");
$go->();
kill_at($id, \@traps, @at);
is($c->wait_for($id), 'cancelled', 'the request is cancelled');
is($c->text_difference($before{$_}, $c->state_of($_)), '', "$_ is as it was") for qw(n1 n2 n3);

# ---------- the runner is killed in a join ----------

# not before "node" of n1: the engines ask other nodes for it while they make a
# subscription, and can't be interrupted meanwhile

$c->{quiet} = 0;
($id, $go) = begin('register_node', sync_timeout => '30 days');
for ([ 'sync_source_to_new', [qw(n3 node)], [qw(n3 subscription)], [qw(n1 subscription)], [qw(n2 subscription)] ], [ 'advance_slots', [qw(n3 subscription)] ], [ 'enable_subscriptions', [qw(n3 local_sync_status)], [qw(n3 pg_replication_origin)] ],
	[ 'subscribe_existing_nodes', [qw(n3 subscription)] ], [ 'monitor_lag', [qw(n1 subscription)], [qw(n2 subscription)] ])
{
	my $next;
	($next, @at) = @$_;
	$c->failpoints('c', "wait $next:begin");
	@traps = map { trap(@$_) } @at;
	$go->();
	kill_at($id, \@traps, @at);
	$go = $c->wait_failpoint('c', "$next:begin");
}
$c->failpoints('c', '');
$go->();
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n3';
$c->settle;
is($c->differences, '', 'rows are the same');

# ---------- a removal is cancelled, and its runner killed ----------

$c->{quiet} = 1;
for my $at ([qw(n2 local_sync_status)], [qw(n1 subscription)])
{
	($id, $go) = begin('drop_node', operation => 'remove_node');
	my $trap = trap(@$at);
	$go->();
	cancel_at($id, $trap, @$at);
}
$c->{quiet} = 0;
($id, $go) = begin('drop_node', operation => 'remove_node');
@at = ([qw(n3 subscription)], [qw(n3 local_sync_status)], [qw(n3 node)]);
@traps = map { trap(@$_) } @at;
$c->failpoints('c', '');
$go->();
kill_at($id, \@traps, @at);
is($c->wait_for($id), 'done', 'the node is removed');
is($c->psql($_, "SELECT (SELECT count(*) FROM $e.subscription), (SELECT count(*) FROM pg_replication_slots)"), '1|1', "$_ knows nothing of it") for qw(n1 n2);
is($c->psql('n3', "SELECT (SELECT count(*) FROM $e.node), (SELECT count(*) FROM pg_replication_slots)"), '0|0', 'nor it of them');
$c->{order} = [qw(n1 n2)];
$c->settle;

# ---------- the coordinator dies, and another one has a request while a change of the first is under way ----------

$c->add_server('n4');
($id, $go) = begin('register_node', new => 'n4');
@at = qw(n1 subscription);
my $trap = trap(@at);
$go->();
wait_trapped($id, [@at]);
$c->server('c')->stop('immediate');
$id = $c->request(new => 'n4', on => 'n1', operation => 'remove_node');
is($c->wait_for($id), 'done', 'the node is removed by another coordinator');
$trap->quit;
is($c->server('n1')->poll_query_until('inventory', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'zodan%'"), 1, 'nothing is under way any more');
is($c->psql('n1', "SELECT count(*) FROM $e.subscription"), '1', 'nothing has been made behind its back');
no_crash('that');
diag("$e: $moments moments");
done_testing();
