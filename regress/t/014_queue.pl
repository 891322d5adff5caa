# Several requests at once: in the queue of one coordinator and of another, for
# the same cluster. One runs, the others wait and say for whom; each in its turn
# adds its node. Protects from two that change a cluster together, and from one
# that nobody starts when the other has ended.
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
	CREATE TABLE item (id int PRIMARY KEY, g gated);
	INSERT INTO item SELECT i, i FROM generate_series(1, 100) AS i;
});
$c->add_server($_) for qw(c n3 n4 n5);

# ---------- the states: the picture in the reference is the table ----------

open(my $file, '<', "$FindBin::RealBin/../../docs/reference.md") or die $!;
my ($picture) = do { local $/; <$file> } =~ /^stateDiagram-v2\n(.*?)^```/ms;
is(join('', sort grep { !/\[\*\]/ } $picture =~ /^ +(.*\n)/mg),
	join('', map { "$_\n" } sort split /\n/, $c->queue('c', "SELECT format('%s --> %s: %s', from_state, to_state, event) FROM zodan.transitions() WHERE from_state <> to_state")),
	'docs/reference.md shows what leads from one state to another');
is($c->queue('c', 'SELECT from_state, event FROM zodan.transitions() GROUP BY 1, 2 HAVING count(*) > 1'), '', 'an event leads to one state');
is($c->queue('c', "SELECT string_agg(DISTINCT to_state, ' ' ORDER BY to_state) FROM zodan.transitions() WHERE to_state NOT IN (SELECT from_state FROM zodan.transitions())"), 'done', 'none but done is a dead end');

# ---------- a cancel that is asked for while the state changes for another reason ----------

for my $when ([ 'pause', sub { $c->queue('c', "SELECT zodan.pause($_[0])") } ], [ 'an error', sub { } ])
{
	my ($what, $do) = @$when;
	$c->failpoints('c', 'wait check_prerequisites:begin');
	my $id = $c->request(new => 'n3', on => 'c', $what eq 'pause' ? () : (new_node_dsn => $c->dsn('n1')));
	my $go = $c->wait_failpoint('c', 'check_prerequisites:begin');
	$do->($id);
	# the runner waits for the row, and finds the other answer when it has it
	my $lock = $c->server('c')->background_psql('postgres', on_error_stop => 1);
	$lock->query_safe("BEGIN; SELECT zodan.cancel($id)");
	$go->();
	ok($c->server('c')->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%zodan.request_state%' AND pid <> pg_backend_pid()"), "$what: the runner waits");
	$lock->query_safe('COMMIT');
	$lock->quit;
	$c->{quiet} = 1;
	is($c->wait_for($id, 'c'), 'cancelled', "$what: a cancel isn't lost");
	$c->{quiet} = 0;
}
$c->failpoints('c', '');

# ---------- waiting keeps nothing from being vacuumed, and shows what happens ----------

$c->failpoints('c', 'wait check_prerequisites:begin');
my $watched = $c->request(new => 'n3', on => 'c', operation => 'check');
my $go = $c->wait_failpoint('c', 'check_prerequisites:begin');
my %waiting;
for my $call (qw(wait watch))
{
	$waiting{$call} = { out => '', err => '' };
	$waiting{$call}{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->server('c')->connstr('postgres'), '-c', "CALL zodan.$call($watched)" ],
		'>', \$waiting{$call}{out}, '2>', \$waiting{$call}{err});
	ok($c->server('c')->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL zodan.$call(%'"), "CALL zodan.$call waits");
}
my $xid = $c->queue('c', 'SELECT pg_current_xact_id()::xid');
$c->queue('c', 'SELECT pg_current_xact_id()') for 1 .. 3;
ok($c->server('c')->poll_query_until('postgres', "SELECT count(*) = 2 AND bool_and(backend_xmin IS NULL OR age(backend_xmin) < age('$xid'::xid)) FROM pg_stat_activity WHERE query LIKE 'CALL zodan.%'"),
	'and holds no snapshot but for a moment');
$go->();
$c->failpoints('c', '');
$_->{run}->finish for values %waiting;
is($waiting{wait}{out}, "done\n", 'wait returns the state');
like($waiting{watch}{err}, qr/INFO:.*all nodes answer.*INFO:.*request $watched is done/s, 'watch shows each step');
is($c->queue('c', "SELECT count(*) FROM pg_extension e, unnest(extconfig) WHERE extname = 'zodan_bgw'"), '0', 'a dump has no rows of the queue: restored, it would act on nodes');

# ---------- several requests ----------

my $gate = $c->hold_gate('n3');
my $first = $c->request(new => 'n3', on => 'c');
$c->wait_gate('n3');
# one more in the same queue, which can have only one attempt; one that isn't due; one on another coordinator
my $second = $c->request(new => 'n4', on => 'c', max_attempts => 1);
my $later = $c->request(new => 'n9', on => 'c', not_before => '2999-01-01', new_node_dsn => 'host=127.0.0.1 port=1');
my $other = $c->request(new => 'n5', on => 'n2', src => 'n2');
for ([ 'c', $second ], [ 'n2', $other ])
{
	my ($on, $id) = @$_;
	ok($c->wait_queue("SELECT state = 'queued' AND attempt = 0 AND detail LIKE 'waits for another%' FROM zodan.status WHERE request_id = $id", $on),
		"a request on $on waits, without an attempt being counted");
	like($c->queue($on, "SELECT detail FROM zodan.status WHERE request_id = $id"), qr/^waits for another request, which is changing node "n\d": zodan_bgw: request $first of /, 'and says for whom');
}
# it looks again and again, and tells it once
$c->wait_queue("SELECT updated_at > requested_at + interval '3 s' FROM zodan.status WHERE request_id = $other", 'n2');
is($c->queue('n2', "SELECT count(*) FROM zodan.events WHERE request_id = $other AND message LIKE 'waits for another%'"), '1', 'the log tells it once');
is($c->queue('c', "SELECT state, started_at IS NULL FROM zodan.status WHERE request_id = $later"), 'queued|t', 'the one that is not due has not been touched');
$gate->quit;
is($c->wait_for($first, 'c'), 'done', 'the first is done');
is($c->wait_for($second, 'c'), 'done', 'and the second');
is($c->wait_for($other, 'n2'), 'done', 'and the one on another coordinator');
push @{ $c->{order} }, qw(n3 n4 n5);
$c->psql($_, 'INSERT INTO item VALUES (1000 + ' . substr($_, 1) . ', 1)') for qw(n1 n2 n3 n4 n5);
$c->settle;
is($c->differences, '', 'five nodes agree');
is($c->psql('n1', 'SELECT count(*) FROM item'), '105', 'and have what each of them wrote');
is($c->queue('c', "SELECT zodan.cancel($later)"), 'cancelling', 'the last one is not needed');
$c->{quiet} = 1;
is($c->wait_for($later, 'c'), 'cancelled', 'and goes');
done_testing();
