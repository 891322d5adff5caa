# Nodes that go away in the middle of a join and come back: the source, a peer
# and the new node are stopped as a crash does it, in several phases and in a
# rollback; a proxy before the source stalls. Each time the status says which
# node it is and when it's tried again, and the request goes on as soon as the
# node is back, long before that time. Protects from a request that fails for an
# outage, that waits on for a node that has been back for a minute, or that
# hangs on a connection whose other end has gone silent; and from one that is
# tried again where that can't help.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use Time::HiRes qw(usleep);
use ZodanCluster;
use ZodanProxy;

ZodanCluster::plan_or_skip();

my $e = $ZodanCluster::engine;
my $c = ZodanCluster->new(
	nodes => 2,
	password => 'a word',
	setup => $ZodanCluster::gate . q{
		CREATE TABLE item (id int PRIMARY KEY, name text);
		CREATE TABLE held (id int PRIMARY KEY, g gated);                  -- the second largest
		CREATE TABLE small (id int PRIMARY KEY);
		CREATE TABLE connections (id int PRIMARY KEY);
		INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i;
		INSERT INTO held SELECT i, i FROM generate_series(1, 1000) i;
		INSERT INTO small VALUES (1);
	});
$c->add_server($_) for qw(c n3);

sub status
{
	my ($id, $columns) = @_;
	return $c->queue('c', "SELECT $columns FROM zodan.status WHERE request_id = $id");
}

# makes all nodes of the mesh follow each other again at once
sub wake_mesh
{
	my @order = @{ $c->{order} };
	my %slots;
	for my $to (@order)
	{
		for (split /\n/, $c->psql($to, "SELECT sub_name, sub_slot_name, node_name FROM $e.subscription JOIN $e.node ON node_id = sub_origin"
				  . " WHERE sub_enabled AND node_name = ANY ('{" . join(',', @order) . "}')"))
		{
			my ($name, $slot, $from) = split /\|/;
			# Spock comes back by itself within seconds, pglogical after minutes
			$c->psql($to, sprintf 'SELECT ' . $c->e($_), ZodanCluster::q_($name)) for $e eq 'spock' ? () : qw(unsubscribed enable);
			push @{ $slots{$from} }, ZodanCluster::q_($slot);
		}
	}
	for my $from (@order)
	{
		my $names = join ', ', @{ $slots{$from} };
		$c->server($from)->poll_query_until('inventory', 'SELECT count(*) = ' . $#order . " FROM pg_replication_slots WHERE active AND slot_name IN ($names)")
		  or die "somebody doesn't follow $from";
	}
	return;
}

# waits until the request waits for a node
sub wait_retrying
{
	my ($id, $node, $state) = @_;
	$state ||= 'retrying';
	# all at once: an attempt may be about to begin
	ok($c->wait_queue("SELECT s.state = '$state' AND r.missing = '{$node}' AND s.next_attempt_at > s.updated_at"
			  . " FROM zodan.status s JOIN zodan.request_state r USING (request_id) WHERE request_id = $id"),
		"$node is gone: $state, and it is known when it's tried again");
	like(status($id, "concat_ws(' ', last_error, hint)"), qr/node "$node"|^$node: /im, 'the status says which node');
	return;
}

# puts off the next attempt of a request that waits for it; false: it doesn't, in all that time
sub put_off
{
	my ($id, $condition) = @_;
	return $c->wait_queue("WITH u AS (UPDATE zodan.request_state SET next_attempt_at = now() + interval '1 hour'"
		  . " WHERE request_id = $id AND $condition RETURNING 1) SELECT count(*) = 1 FROM u");
}

# A node goes; the request waits. Its next attempt is put off, as it is after a
# long outage; the node comes back, and the request goes on.
sub outage
{
	my ($id, $node, %arg) = @_;
	my $state = $arg{state} || 'retrying';

	$arg{down} ? $arg{down}->() : $c->server($node)->stop('immediate');
	wait_retrying($id, $node, $state);
	put_off($id, "state = '$state' AND missing IS NOT NULL");
	my $before = status($id, 'attempt, last_error, updated_at');
	my $events = $c->queue('c', "SELECT max(id) FROM zodan.events WHERE request_id = $id");

	# it's looked for, which leaves no trace
	my $look = $c->queue('c', "SELECT probe_at FROM zodan.request_state WHERE request_id = $id");
	$c->wait_queue("SELECT probe_at > '$look' FROM zodan.request_state WHERE request_id = $id");
	is(status($id, 'attempt, last_error, updated_at'), $before, 'looking for it changes nothing');
	is($c->queue('c', "SELECT max(id) FROM zodan.events WHERE request_id = $id"), $events, 'nor does it say anything');

	$arg{up} ? $arg{up}->() : $c->server($node)->start;
	my $back = $c->queue('c', 'SELECT clock_timestamp()');
	wake_mesh() if grep { $_ eq $node } @{ $c->{order} };
	my $found = "FROM zodan.events WHERE request_id = $id AND id > $events AND node = '$node' AND message = 'node $node can be reached again'";
	ok($c->wait_queue("SELECT count(*) = 1 $found"), 'it goes on when the node is back');
	my $seconds = $c->queue('c', "SELECT round(extract(epoch FROM at - '$back'), 1) $found");
	diag("$e: $node was back for $seconds s");
	cmp_ok($seconds, '<', 15, 'soon');
	cmp_ok(status($id, 'attempt'), '>', (split /\|/, $before)[0], 'which is an attempt, as any');
	return;
}

# the peer comes back as a standby, which isn't the node yet, and is promoted
sub fail_over
{
	my $server = $c->server('n2');
	$server->set_standby_mode;
	$server->start;
	$server->poll_query_until('postgres', 'SELECT pg_is_in_recovery()') or die 'n2 is no standby';
	my $look = $c->queue('c', 'SELECT max(probe_at) FROM zodan.request_state');
	$c->wait_queue("SELECT max(probe_at) > '$look' FROM zodan.request_state");
	is($c->queue('c', 'SELECT state FROM zodan.status LIMIT 1'), 'retrying', 'a standby is not taken for the node');
	$server->promote;
	$server->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'n2 is not promoted';
	return;
}

# how the source lets others in over TCP from now on
sub let_in
{
	my ($method) = @_;
	my $server = $c->server('n1');
	my $before = $server->safe_psql('postgres', 'SELECT clock_timestamp()');
	open my $hba, '>', $server->data_dir . '/pg_hba.conf' or die $!;
	print $hba "local all,replication all trust\nhost all,replication all 127.0.0.1/32 $method\n";
	close $hba;
	$server->reload;
	$server->poll_query_until('postgres', "SELECT pg_conf_load_time() > '$before'") or die 'no reload';
	return;
}

# ---------- checking: the new node isn't ready for connections ----------

my $server = $c->server('n3');
$server->stop;
$server->append_conf('postgresql.conf', 'hot_standby = off');
$server->set_standby_mode;
$server->start;
$c->failpoints('c', 'wait check_prerequisites:begin');
my $id = $c->request(new => 'n3', on => 'c');
outage($id, 'n3', down => sub { }, up => sub {
	like(status($id, 'last_error'), qr/n3: connection: found [^\n]*not accepting connections[^\n]*\n?(DETAIL[^\n]*)?, expected a connection/, 'the status says what the server does');
	unlike(status($id, 'last_error'), qr/57P03|\.c:/, 'and no more');
	$server->promote;
	$server->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'n3 is not promoted';
});
my $go = $c->wait_failpoint('c', 'check_prerequisites:begin');

# a peer is away for long: that its subscriptions are down when it's back isn't held against the request
$c->failpoints('c', 'wait register_node:begin');
outage($id, 'n2', down => sub {
	$c->server('n2')->stop('immediate');
	$go->();
}, up => sub {
	my $attempt = status($id, 'attempt');
	$c->queue('c', "SELECT zodan.retry($id)");
	ok($c->wait_queue("SELECT attempt > $attempt AND state IN ('retrying', 'failed') FROM zodan.status WHERE request_id = $id"), 'an attempt without it');
	is(status($id, "state, last_error ~ '(^|\n)n2: connection: '"), 'retrying|t', 'says that it is missing');
	$c->queue('c', "UPDATE zodan.checkpoints SET attempts = 50 WHERE request_id = $id AND phase = 'check_prerequisites'");
	$c->server('n2')->start;
	# pglogical's subscriptions to it are still down then
	$c->wait_queue("SELECT max(transient) > 0 OR bool_or(phase = 'register_node') OR (SELECT state = 'failed' FROM zodan.status WHERE request_id = $id)"
		  . " FROM zodan.checkpoints WHERE request_id = $id");
});
$go = $c->wait_failpoint('c', 'register_node:begin');
$c->{quiet} = 1;
# in the middle of a change of the source's subscriptions
my $held = $c->session('n1', 'BEGIN', "LOCK TABLE $e.local_sync_status IN SHARE MODE");
$c->failpoints('c', '');
$go->();
$c->server('n1')->poll_query_until('inventory', "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
	  . " WHERE NOT l.granted AND a.application_name = 'zodan_bgw: request $id'") or die 'nothing is under way on n1';
$c->queue('c', "SELECT zodan.cancel($id)");
$c->wait_queue("SELECT state <> 'running' FROM zodan.status WHERE request_id = $id");
is($c->wait_for($id), 'cancelled', 'which is where it is cancelled');
$held->quit;

# one that answers, and will not answer otherwise
$id = $c->request(new => 'n3', on => 'c', new_node_dsn => $c->dsn('n3') =~ s/dbname='\w+'/dbname=nowhere/r);
is($c->wait_for($id), 'failed', 'a database that does not exist');
is(status($id, 'attempt'), '1', 'is not waited for');
$c->{quiet} = 0;

# where the request stands still when the rows are copied
$c->failpoints('c', 'wait mirror_replication_sets:begin');

# ---------- registering: a peer and the new node wait for locks, the latter goes ----------

my $lock = $c->session('n2', 'BEGIN', "LOCK TABLE $e.local_node IN SHARE UPDATE EXCLUSIVE MODE");
my $busy = $c->session('n3', 'BEGIN', "LOCK TABLE $e.subscription IN SHARE MODE");
$id = $c->request(new => 'n3', on => 'c');
$c->wait_phase($id, 'register_node');
$c->server($_)->poll_query_until('inventory', "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
	  . " WHERE NOT l.granted AND a.application_name = 'zodan_bgw: request $id'")
  or die "$_ doesn't wait" for qw(n2 n3);
outage($id, 'n3', down => sub { $c->server('n3')->stop('immediate'); $busy->{run}->kill_kill; });
$lock->quit;

# ---------- copying: the source, a peer ----------

my $gate = $c->hold_gate('n3');
my %up = (n2 => \&fail_over);
for my $node (qw(n1 n2))
{
	$c->wait_gate('n3');
	outage($id, $node, up => $up{$node});
	$c->psql($_, "INSERT INTO item VALUES ((SELECT max(id) + 1 FROM item WHERE id % 2 = " . substr($_, 1) . " % 2) + 1, 'after $node')") for qw(n1 n2);
}

# ---------- catching up: the apply worker stands still, the new node goes ----------

$c->wait_gate('n3');
$gate->quit;
$go = $c->wait_failpoint('c', 'mirror_replication_sets:begin');
$gate = $c->hold_gate('n3');
$c->psql('n1', 'INSERT INTO held VALUES (1001, 1)');
$go->();
$c->wait_phase($id, 'sync_source_to_new');
$c->wait_gate('n3');
outage($id, 'n3', down => sub { $c->server('n3')->stop('immediate'); $gate->{run}->kill_kill; });
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n3';
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- undoing: a peer ----------

$c->add_server('n4');
$gate = $c->hold_gate('n4');
$id = $c->request(new => 'n4', on => 'c');
$c->wait_gate('n4');
outage($id, 'n2', state => 'rolling_back', down => sub {
	$c->server('n2')->stop('immediate');
	$c->queue('c', "SELECT zodan.cancel($id)");
});
$c->{quiet} = 1;
is($c->wait_for($id), 'cancelled', 'it is undone by itself');
$gate->quit;
is($c->leftovers($id), '', 'nothing is left over');
is($c->psql($_, "SELECT count(*) FROM $e.node WHERE node_name = 'n4'"), '0', "$_ does not know the node") for qw(n1 n2 n3);

# ---------- retry, and an error that trying again does not mend ----------

$c->failpoints('c', 'error sync_peers_to_source:%');
$id = $c->request(new => 'n4', on => 'c');
put_off($id, "state = 'retrying'");
like(status($id, 'last_error'), qr/failpoint/, 'an error that passes');
is($c->queue('c', "SELECT missing IS NULL AND probe_at IS NULL FROM zodan.request_state WHERE request_id = $id"), 't', 'while all nodes are there: none is looked for');
$c->failpoints('c', 'wait copy_schema:begin');
is(status($id, 'state'), 'retrying', 'it waits for its time');
$c->queue('c', "SELECT zodan.retry($id)");
$go = $c->wait_failpoint('c', 'copy_schema:begin');
ok(1, 'zodan.retry lets it go on at once');
$c->failpoints('c', '');
$c->psql('n4', 'CREATE TABLE public.connections ()');
$go->();
is($c->wait_for($id), 'failed', 'what is in the way makes it fail');
is(status($id, "attempt, last_error ~ 'node \"n4\": pg_restore failed: .*relation \"connections\" already exists', hint ~ 'zodan.retry\\($id\\)'"), '1|t|t',
	'at once, with a hint');
$c->psql('n4', 'DROP TABLE public.connections');
$c->failpoints('c', 'wait advance_slots:begin');
$c->queue('c', "SELECT zodan.retry($id)");
$go = $c->wait_failpoint('c', 'advance_slots:begin');
ok(1, 'when it is gone, retry lets it go on');

# ---------- nodes that can't reach each other, while we reach all ----------

$c->failpoints('c', '');
let_in('reject');
$go->();
ok(put_off($id, "state = 'retrying' AND last_error ~ 'could not connect'"), 'the request waits');
like(status($id, 'last_error'), qr/^node "n4": .*could not connect/, 'the new node can\'t reach the source: that passes');
# the engine's message has the whole DSN
is($c->queue('c', "SELECT (SELECT count(*) FROM zodan.events e WHERE e::text LIKE '%a word%'), (SELECT count(*) FROM zodan.status s WHERE s::text LIKE '%a word%')"),
	'0|0', 'and no password is told');
let_in('scram-sha-256');
$c->queue('c', "SELECT zodan.retry($id)");
is($c->wait_for($id), 'done', 'when it can, the request ends');
push @{ $c->{order} }, 'n4';

# ---------- a proxy before the source that stalls: while pg_dump runs, and in the middle of the copy ----------

$c->add_server('n5');
my $pooler = ZodanProxy->new($c->server('n5')->port, pooler => 1);
$c->{quiet} = 1;
$id = $c->request(new => 'n5', on => 'c', operation => 'check', new_node_dsn => $c->dsn('n5') =~ s/port=\d+/'port=' . $pooler->port/er);
is($c->wait_for($id), 'failed', 'a pooler instead of the new node');
like(status($id, 'last_error'), qr/n5: connection: found a connection pooler, expected a connection to the server itself/, 'is found by the checks');
$c->{quiet} = 0;
$pooler->stop;
my $proxy = ZodanProxy->new($c->server('n1')->port);
my $port = $proxy->port;

# how many connections there are to the proxy, and on how many of them the
# kernel asks within 10 s whether the other end is there (see proc(5): the timer 02)
sub keepalives
{
	open my $tcp, '<', '/proc/net/tcp' or die $!;
	my @timers = map { /^\s*\d+: \S+ \S+:(\S+) 01 \S+ (\w\w):(\w+) / && hex $1 == $port ? [ hex $2, hex $3 ] : () } <$tcp>;
	return (scalar(@timers), scalar(grep { $_->[0] == 2 && $_->[1] <= 1000 } @timers));
}

# a look at the connections finds some of them at work; there are at least so many
sub wait_keepalives
{
	my ($least) = @_;
	my ($all, $asked);
	for (1 .. 100)
	{
		($all, $asked) = keepalives();
		last if $all >= $least && $asked == $all;
		usleep(100_000);
	}
	return "$all, $asked";
}

sub stall
{
	my ($session) = @_;
	$proxy->stall;
	$session->quit;
	return;
}

$c->failpoints('c', 'wait copy_schema:after_effect:slot');
$id = $c->request(new => 'n5', on => 'c', src_dsn => $c->dsn('n1') =~ s/port=\d+/port=$port/r, sync_timeout => '30 s', copy_jobs => 1);
# the slot from which the stream may begin, then that of the first snapshot
$go = $c->wait_failpoint('c', 'copy_schema:after_effect:slot');
$go->();
$go = $c->wait_failpoint('c', 'copy_schema:after_effect:slot');
$c->failpoints('c', '');
$lock = $c->session('n1', 'BEGIN', 'LOCK TABLE item');
$go->();
$c->server('n1')->poll_query_until('inventory', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'zodan%child%' AND wait_event_type = 'Lock'");
like(wait_keepalives(4), qr/^([4-9]), \1$/, 'the request, its snapshot, the question what to copy, and pg_dump each notice when packets vanish');
$gate = $c->hold_gate('n5');
outage($id, 'n1', down => sub { stall($lock) }, up => sub { $proxy->move });
like($c->queue('c', "SELECT string_agg(message, E'\n') FROM zodan.events WHERE request_id = $id AND level = 'error'"),
	qr/node "n1": no answer within 30000 ms, while pg_dump waits for it/, 'pg_dump is not waited for for ever');
$c->wait_gate('n5');
outage($id, 'n1', down => sub { stall($gate) }, up => sub { $proxy->move });
is($c->wait_for($id), 'done', 'the request ends done');
push @{ $c->{order} }, 'n5';
$c->psql($_, "INSERT INTO item VALUES (900000 + " . substr($_, 1) . ", 'at the end')") for qw(n1 n5);
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->leftovers($id), '', 'nothing is left over');

# ---------- cancelled while the source stands still: nobody can cancel there what is under way ----------

$c->add_server('n6');
$c->failpoints('c', 'wait mirror_replication_sets:begin');
$id = $c->request(new => 'n6', on => 'c', src_dsn => $c->dsn('n1') =~ s/port=\d+/port=$port/r);
$go = $c->wait_failpoint('c', 'mirror_replication_sets:begin');
$proxy->stall;
$go->();
$c->queue('c', "SELECT zodan.cancel($id)");
ok($c->wait_queue("SELECT state IN ('cancelling', 'rolling_back') FROM zodan.status WHERE request_id = $id"), 'it is left, long before sync_timeout has passed');
$proxy->move;
$c->{quiet} = 1;
is($c->wait_for($id), 'cancelled', 'and undone when the source is back');
is($c->leftovers($id), '', 'nothing is left over');
$proxy->stop;

$c->stop;
done_testing();
