# Upkeep, called by pg_cron and by hand: a missing launcher is started, old
# requests go, and the joined nodes are checked. One that becomes unhealthy or recovers
# is told once, by an event and a NOTIFY; and without a word by a request that
# changes the cluster. Protects from alerts that don't come, that come each time,
# or that come while all is well; from a purge of what is still needed; and from
# passwords that are kept for it.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils;
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $word = 'Geheim77';
my $c = ZodanCluster->new(
	nodes => 2,
	password => $word,
	conf => "zodan.max_lag = '2s'\n",
	setup => $ZodanCluster::gate . q{
		CREATE TABLE item (id int PRIMARY KEY, filler text);
		CREATE TABLE held (id int PRIMARY KEY, g gated);
		INSERT INTO item SELECT i, 'x' FROM generate_series(1, 100) AS i;
	});
my $cron = -e $c->server('n1')->config_data('--sharedir') . '/extension/pg_cron.control';
# the password file of those who run n3, which isn't there yet
my $passfile = $ENV{PGPASSFILE} = PostgreSQL::Test::Utils::tempdir() . '/pass';
# there is no launcher for the queue: the one that starts with the server finds no database
my $n3 = $c->add_server('n3', conf => "zodan.database = 'elsewhere'\n"
	  . ($cron ? "shared_preload_libraries = '$ZodanCluster::engine,zodan_bgw,pg_cron'\ncron.database_name = 'postgres'\ncron.use_background_workers = on\n" : ''));

sub launchers
{
	return $n3->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'zodan_bgw launcher' AND datname = 'postgres'");
}

# ---------- a launcher is missing; pg_cron ----------

my $id = $c->request(new => 'n3', not_before => '2999-01-01');
is(launchers(), '0', 'there is no launcher');
SKIP:
{
	skip 'this server has no pg_cron', 10 unless $cron;
	my ($rc, $out, $err) = $n3->psql('postgres', 'SELECT zodan.schedule_upkeep()');
	like($err, qr/pg_cron is not installed in database "postgres"\n.*CREATE EXTENSION pg_cron;/, 'what is missing is said');
	$n3->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
	my $job = $n3->safe_psql('postgres', 'SELECT zodan.schedule_upkeep()');
	is($n3->safe_psql('postgres', "SELECT zodan.schedule_upkeep('* * * * *')"), $job, 'scheduling it again changes the job');
	is($n3->safe_psql('postgres', 'SELECT schedule, command, database FROM cron.job'), '* * * * *|SELECT zodan.upkeep()|postgres', 'and there is one');
	($rc, $out, $err) = $n3->psql('postgres', "SELECT zodan.schedule_upkeep('each morning')");
	like($err, qr/invalid schedule/, 'a schedule that is none is refused');
	isnt($n3->psql('postgres', 'SELECT zodan.schedule_upkeep(NULL)'), 0, 'so is none at all');
	ok($n3->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE jobid = $job AND status = 'succeeded'"), 'it runs')
	  or diag($n3->safe_psql('postgres', 'SELECT * FROM cron.job_run_details'));
	is(launchers(), '1', 'and has started a launcher');
	is($n3->safe_psql('postgres', 'SELECT zodan.unschedule_upkeep(), zodan.unschedule_upkeep()'), 't|f', 'and it can be ended');
	is($n3->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '0', 'and leaves no job');
	$n3->poll_query_until('postgres', 'SELECT count(*) = 0 FROM cron.job_run_details WHERE end_time IS NULL');
	$n3->safe_psql('postgres', q{UPDATE cron.job_run_details SET end_time = end_time - interval '31 days'; INSERT INTO cron.job_run_details (command, end_time) VALUES ('SELECT 1', '2000-01-01')});
	$n3->safe_psql('postgres', 'SELECT zodan.upkeep()');
	is($n3->safe_psql('postgres', 'SELECT command FROM cron.job_run_details'), 'SELECT 1', 'what it has noted of upkeep is purged, too, and nothing else');
}
is($n3->safe_psql('postgres', 'SELECT zodan.upkeep()'), $cron ? '(0,f,0)' : '(0,t,0)', 'by hand it starts one if there is none');
is(launchers(), '1', 'there is a launcher');
$n3->safe_psql('postgres', "UPDATE zodan.requests SET not_before = NULL WHERE id = $id; SELECT zodan.wake()");
is($c->wait_for($id), 'done', 'which does what was waiting');
push @{ $c->{order} }, 'n3';

# ---------- the joined node is looked at ----------

my $listener = $n3->background_psql('postgres', on_error_stop => 1);
# it lives longer than one query may take
$listener->set_query_timer_restart;
$listener->query_safe('LISTEN zodan_alerts');

# notifications since the last call
sub notes
{
	return map { decode_json($_) } $listener->query('SELECT 1') =~ /"zodan_alerts" with payload "(\{.*?\})" received/g;
}

sub events
{
	return $n3->safe_psql('postgres', q{SELECT string_agg(concat_ws(' ', level, node, translate(message, E'\n', ' ')), E'\n' ORDER BY id) FROM zodan.events WHERE request_id IS NULL});
}

# has all nodes looked at, and waits until the last of them has been: one that can't be, as is known
sub look
{
	$n3->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'zodan_bgw upkeep'") or die 'upkeep does not end';
	$n3->safe_psql('postgres', "INSERT INTO zodan.nodes (node, engine, dsn, state) VALUES ('last', '$ZodanCluster::engine', 'password=x', 'unknown')");
	$n3->safe_psql('postgres', 'SELECT zodan.upkeep()');
	$n3->poll_query_until('postgres', "SELECT checked_at IS NOT NULL FROM zodan.nodes WHERE node = 'last'") or die 'upkeep does not end';
	$n3->safe_psql('postgres', "DELETE FROM zodan.nodes WHERE node = 'last'");
	return;
}

sub found
{
	my ($name) = @_;
	return $n3->safe_psql('postgres', "SELECT state, problem FROM zodan.nodes WHERE node = '$name'");
}

# exactly this has been told of exactly this node since the last call, once: by events and by notifications
sub told
{
	my ($node, $state, $what) = @_;
	my @notes = notes();
	my $events = events() // '';
	my %level = (healthy => 'info', unhealthy => 'error', unknown => 'warning');
	is(join(' ', map { "$_->{node} $_->{state}" } @notes), "$node $state", "$what: one notification");
	is_deeply([ sort keys %{ $notes[0] // {} } ], [qw(at node problem request state v)], 'with these fields');
	like($events, qr/^$level{$state} $node [^\n]*\z/, 'one event');
	$n3->safe_psql('postgres', 'DELETE FROM zodan.events WHERE request_id IS NULL');
	return;
}

# nothing has
sub silent
{
	my ($what) = @_;
	is(scalar(notes()), 0, "$what: no notification");
	is(events(), '', 'no event');
	return;
}

sub subscription
{
	my ($call, $from) = @_;
	my $sub = $c->psql('n3', "SELECT sub_name FROM $ZodanCluster::engine.subscription s JOIN $ZodanCluster::engine.node ON node_id = sub_origin WHERE node_name = '$from'");
	$c->psql('n3', sprintf 'SELECT ' . $c->e($call), ZodanCluster::q_($sub));
	return $sub;
}

is($n3->safe_psql('postgres', 'SELECT node, engine, state, problem FROM zodan.nodes'), "n3|$ZodanCluster::engine||", 'the node that has joined is known');
look();
like(found('n3'), qr/^unknown\|the server asks for a password, and none is kept: UPDATE zodan.nodes SET check_dsn/, 'its password is not kept');
told('n3', 'unknown', 'a node that cannot be checked');
look();
silent('again');

append_to_file($passfile, "127.0.0.1:*:*:mesh:$word\n");
chmod 0600, $passfile;
look();
is(found('n3'), 'healthy|', "it is healthy, checked with the server's own password file") or diag(events());
told('n3', 'healthy', 'a node that can be checked');
my %by_file = map { $_ => ZodanCluster::q_($c->dsn($_) =~ s/password=.*/passfile='$passfile'/r) } qw(n1 n3);
rename $passfile, "$passfile.2" or die $!;
$by_file{$_} =~ s/\Q$passfile\E/$passfile.2/ for keys %by_file;
$n3->safe_psql('postgres', "UPDATE zodan.nodes SET check_dsn = $by_file{n3} WHERE node = 'n3'");
look();
silent('by a password file in its DSN, it is as it was');
is($n3->safe_psql('postgres', 'SELECT checked_at >= since AND since > joined_at FROM zodan.nodes'), 't', 'the times are right');

# ---------- it becomes unhealthy, and recovers ----------

my $sub = subscription('unsubscribed', 'n1');
look();
like(found('n3'), qr/^unhealthy\|subscription "$sub" is disabled$/, 'a disabled subscription');
told('n3', 'unhealthy', 'becoming unhealthy');
look();
silent('still unhealthy');

# its slot holds WAL now
$c->psql('n1', 'INSERT INTO item SELECT i, md5(i::text) FROM generate_series(1000, 20000) AS i');
$n3->append_conf('postgresql.conf', "zodan.max_retained_wal = '1MB'\n");
$n3->reload;
look();
like(found('n3'), qr/^unhealthy\|subscription "$sub" is disabled; slot "\w+n1_$sub" on node "n1" holds \d+ \wB of WAL/, 'and the WAL that its slot holds');
silent('another reason to be unhealthy');
$n3->append_conf('postgresql.conf', "zodan.max_retained_wal = 0\n");
$n3->reload;

subscription('enable', 'n1');
$c->wait_replicating(qw(n1 n2 n3));
look();
is(found('n3'), 'healthy|', 'it is healthy again');
told('n3', 'healthy', 'recovery');
look();
silent('still well');

# an apply worker that can't go on
my $gate = $c->hold_gate('n3');
$c->psql('n1', 'INSERT INTO held VALUES (2, 2)');
$c->wait_gate('n3');
look();
like(found('n3'), qr/^unhealthy\|subscription "$sub" lags more than 2000 ms behind node "n1"$/, 'lag');
told('n3', 'unhealthy', 'lag');
$gate->quit;
$c->settle;
look();
told('n3', 'healthy', 'no lag');

# another node: put there by hand, and down
my $n1_dsn = ZodanCluster::q_($c->dsn('n1'));
$n3->safe_psql('postgres', "INSERT INTO zodan.nodes (node, engine, dsn, check_dsn) VALUES ('n1', '$ZodanCluster::engine', $n1_dsn, $by_file{n1})");
look();
silent('a new node that is healthy');
is(found('n1'), 'healthy|', 'it was looked at');
$n3->safe_psql('postgres', "DELETE FROM zodan.nodes WHERE node = 'n3'");
$c->server('n1')->stop('immediate');
look();
like(found('n1'), qr/^unhealthy\|could not connect: /, 'a server that is down');
told('n1', 'unhealthy', 'a server that is down');
$c->server('n1')->start;
subscription('unsubscribed', 'n1');
subscription('enable', 'n1');
$c->psql('n2', sprintf 'SELECT ' . $c->e($_), ZodanCluster::q_($c->sub_name('n1', 'n2'))) for qw(unsubscribed enable);
$c->wait_replicating(qw(n1 n2 n3));
look();
told('n1', 'healthy', 'it is back');
is(found('n1'), 'healthy|', 'and well');

# an operator's DSN isn't used with our rights, even if the server would let us in
my $trusted = ZodanCluster::q_('host=' . $c->server('n1')->host . ' port=' . $c->server('n1')->port . " dbname=inventory user=mesh password=$word");
$n3->safe_psql('postgres', "UPDATE zodan.nodes SET check_dsn = $trusted");
look();
like(found('n1'), qr/^unknown\|its connection string has a password, and none is kept/, 'a DSN with a password');
told('n1', 'unknown', 'a DSN with a password');

# a database that is another node
$n3->safe_psql('postgres', "UPDATE zodan.nodes SET check_dsn = $by_file{n3}");
look();
is(found('n1'), 'unhealthy|its connection string leads to node "n3"', 'another node');
told('n1', 'unhealthy', 'another node');
$n3->safe_psql('postgres', "UPDATE zodan.nodes SET check_dsn = $by_file{n1}");
look();
told('n1', 'healthy', 'the right one');

# ---------- while a request changes the cluster ----------

my $n4 = $c->add_server('n4');
$gate = $c->hold_gate('n4');
# upkeep in a transaction that began before the request was filed leaves its files alone
my $old = $n3->background_psql('postgres', on_error_stop => 1);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM zodan.requests');
$c->failpoints('n3', 'wait copy_schema:dump:planned');
$id = $c->request(new => 'n4', on => 'n3');
my $go_on = $c->wait_failpoint('n3', 'copy_schema:dump:planned');
$old->query_safe('SELECT zodan.upkeep(); COMMIT');
$old->quit;
$go_on->();
$c->wait_gate('n4');
look();
silent('a node that is being subscribed to');
is(found('n1'), 'healthy|', 'it is as it was');
$n3->safe_psql('postgres', "SELECT zodan.pause($id)");
$c->wait_queue("SELECT worker_pid IS NULL AND state = 'paused' FROM zodan.status WHERE request_id = $id");
look();
like(found('n1'), qr/^unhealthy\|.*"sub_n4_n1" is disabled/, 'one that is paused is seen');
told('n1', 'unhealthy', 'a join that is paused');
$listener->quit;
$n3->safe_psql('postgres', "SELECT zodan.resume($id)");
$gate->quit;
is($c->wait_for($id), 'done', 'the join is done');
is($n3->safe_psql('postgres', "SELECT string_agg(message, '; ') FROM zodan.events WHERE request_id = $id AND level = 'error'"), '', 'without an error: upkeep has left its files alone');
look();
is(found('n1'), 'healthy|', 'then all is well');
is($n3->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', node, state), ',' ORDER BY node) FROM zodan.nodes"), 'n1 healthy,n4 unknown', 'and the new node is known, too');
$id = $c->request(new => 'n4', on => 'n3', operation => 'remove_node');
is($c->wait_for($id), 'done', 'it is removed');
is($n3->safe_psql('postgres', 'SELECT string_agg(node, $$,$$) FROM zodan.nodes'), 'n1', 'and not known any more');

# ---------- purge ----------

# two requests that have failed, without and with something left; one that waits
$c->{quiet} = 1;
my @ids = map { $c->request(new => "x$_", on => 'n3', operation => 'check', new_node_dsn => 'host=127.0.0.1 port=1') } 1 .. 2;
is($c->wait_for($_), 'failed', 'a request has ended') for @ids;
push @ids, $c->request(new => 'x3', on => 'n3', not_before => '2999-01-01', new_node_dsn => 'host=127.0.0.1 port=1');
$n3->safe_psql('postgres', "INSERT INTO zodan.effects (request_id, node, kind, name) VALUES ($ids[1], 'n1', 'slot', 'left')");
my $requests = 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM zodan.requests';
my $all = $n3->safe_psql('postgres', $requests);
$n3->safe_psql('postgres', q{UPDATE zodan.request_state SET finished_at = finished_at - interval '29 days 23 hours'; UPDATE zodan.events SET at = at - interval '29 days 23 hours'});
my $events = $n3->safe_psql('postgres', 'SELECT count(*) FROM zodan.events');
is($n3->safe_psql('postgres', 'SELECT requests_purged FROM zodan.upkeep()'), '0', 'nothing is old enough');
is($n3->safe_psql('postgres', $requests), $all, 'all requests are there');
is($n3->safe_psql('postgres', 'SELECT count(*) FROM zodan.events'), $events, 'and all events');
$n3->safe_psql('postgres', q{UPDATE zodan.request_state SET finished_at = finished_at - interval '2 hours'; UPDATE zodan.events SET at = at - interval '2 hours'});
$n3->append_conf('postgresql.conf', "zodan.retention = 0\n");
$n3->reload;
$n3->poll_query_until('postgres', "SELECT current_setting('zodan.retention') = '0'");
is($n3->safe_psql('postgres', 'SELECT requests_purged FROM zodan.upkeep()'), '0', 'nor is anything if all is to be kept');
$n3->append_conf('postgresql.conf', "zodan.retention = 30d\n");
$n3->reload;
$n3->poll_query_until('postgres', "SELECT current_setting('zodan.retention') = '30d'");
is($n3->safe_psql('postgres', 'SELECT requests_purged FROM zodan.upkeep()'), split(' ', $all) - 2, 'what is old is purged');
is($n3->safe_psql('postgres', $requests), "$ids[1] $ids[2]", 'but not what has left something, nor what waits');
is($n3->safe_psql('postgres', 'SELECT count(*) FROM zodan.events'), '0', 'old events are gone');
is($n3->safe_psql('postgres', "SELECT count(*) FROM zodan.checkpoints WHERE request_id <> $ids[1]"), '0', 'and checkpoints, with their requests');

# ---------- no password ----------

is($n3->safe_psql('postgres', "SELECT count(*) FROM zodan.nodes x WHERE x::text LIKE '%$word%'"), '0', 'no password is kept');
done_testing();
