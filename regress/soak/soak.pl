# Nodes are added and removed in a loop, while all are written and servers and
# processes die every few seconds. After each round the rows of all nodes are
# compared. Runs for MINUTES (default: 30); prints how often what died, how many
# nodes joined and left, and what was lost.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;
use Time::HiRes qw(time usleep);

ZodanCluster::plan_or_skip();

my $end = time + 60 * ($ENV{MINUTES} || 30);
my $seed = $ENV{SEED} || int(rand(1_000_000));
srand($seed);
diag("$ZodanCluster::engine: SEED=$seed repeats the choices of this run");

my $c = ZodanCluster->new(nodes => 3, setup => q{
	CREATE TABLE item (id bigint PRIMARY KEY, node text, n int NOT NULL DEFAULT 0);
	CREATE TABLE child (id bigint PRIMARY KEY, item bigint REFERENCES item);
	CREATE SEQUENCE s;
	INSERT INTO item SELECT i, 'all' FROM generate_series(1, 10000) AS i;
});
# its runner is killed, which ends all its processes
$c->add_server('c', conf => "restart_after_crash = on\n");
my %done = (join => 0, remove => 0, differ => 0);
my %died;
my $nodes = 3;

# who may write, and is kept out by a fence
sub writable
{
	my ($name) = @_;
	my $k = substr($name, 1) % 100;
	$c->psql($name, 'GRANT ALL ON item, child, s TO app');
	$c->keep_writing($name, qq{
		\\set i random(0, 99)
		BEGIN;
		INSERT INTO item VALUES (1000000 + nextval('s') * 100 + $k, '$name');
		INSERT INTO child SELECT 1000000 + currval('s') * 100 + $k, 1000000 + currval('s') * 100 + $k;
		COMMIT;
		UPDATE item SET n = n + 1 WHERE id = :i * 100 + $k;
	}, '--client=1', '--rate=20', '--username=app');
	return;
}

sub kill_something
{
	my ($id, $about) = @_;
	my @victims = ('runner', 'c', $about, @{ $c->{order} });
	my $victim = $victims[ rand @victims ];
	if ($victim eq 'runner')
	{
		my $pid = eval { $c->queue('c', "SELECT worker_pid FROM zodan.status WHERE request_id = $id") };
		return unless $pid;
		ZodanLogs::kill_process($pid);
	}
	else
	{
		$c->fault($victim, $victim eq 'c' ? 'kill' : 'immediate');
	}
	$died{ $victim eq $about ? 'the one it is about' : $victim eq 'runner' ? 'runner' : $victim eq 'c' ? 'coordinator' : 'another node' }++;
	return;
}

# waits for a request while things die; returns its state
sub survive
{
	my ($id, $about) = @_;
	my $next = time + 1 + rand 4;
	my $last = time + 60;
	my $state = '';
	until ($state =~ /^(done|failed|cancelled)$/)
	{
		usleep(200_000);
		if (time > $next && time < $last)
		{
			kill_something($id, $about);
			$next = time + 2 + rand 4;
		}
		$state = eval { $c->queue('c', "SELECT state FROM zodan.status WHERE request_id = $id") } // '';
	}
	diag($c->queue('c', "SELECT request_id, operation, node, state, attempt, last_error FROM zodan.status WHERE request_id = $id"));
	return $state;
}

$c->psql($_, 'CREATE ROLE app LOGIN') for @{ $c->{order} };
writable($_) for @{ $c->{order} };
while (time < $end)
{
	my $add = @{ $c->{order} } < 5 && (@{ $c->{order} } < 3 || rand() < 0.6);
	my ($about, $id);
	if ($add)
	{
		$about = 'n' . ++$nodes;
		$c->add_server($about);
		$c->queue($about, 'CREATE ROLE app LOGIN');
		$id = $c->request(new => $about, on => 'c', src => $c->{order}[ rand @{ $c->{order} } ]);
	}
	else
	{
		$about = splice(@{ $c->{order} }, 1 + int(rand(@{ $c->{order} } - 1)), 1);
		$id = $c->request(new => $about, on => 'c', operation => 'remove_node');
	}
	my $state = survive($id, $about);
	is($state, 'done', ($add ? 'add ' : 'remove ') . $about) or last;
	is($c->leftovers($id, @{ $c->{order} }), '', 'nothing is left over');
	if ($add)
	{
		$done{join}++;
		push @{ $c->{order} }, $about;
		writable($about);
	}
	else
	{
		$done{remove}++;
		# what was written there has reached the others
		my $rows = "SELECT count(*), sum(hashtext(id::text)) FROM item WHERE node = '$about'";
		my $want = $c->psql($about, $rows);
		is($c->psql($_, $rows), $want, "$_ has all of $about") for @{ $c->{order} };
		$c->end_writing($about);
		(delete $c->{servers}{$about})->stop('immediate');
	}
	$c->end_writing($_) for @{ $c->{order} };
	$c->settle;
	my $differences = $c->differences;
	$done{differ}++ if $differences ne '';
	is($differences, '', join(', ', @{ $c->{order} }) . ' agree') or last;
	writable($_) for @{ $c->{order} };
}
diag(sprintf '%s: %d joins, %d removals; died: %s; rounds in which rows were lost or doubled: %d', $ZodanCluster::engine,
	$done{join}, $done{remove}, join(', ', map { "$_ $died{$_} times" } sort keys %died) || 'nothing', $done{differ});
done_testing();
