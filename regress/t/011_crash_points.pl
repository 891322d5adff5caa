# The runner is killed with SIGKILL, which takes the coordinator's server down
# with it, once at every point of a join: before and after the intent to make
# something, after it was made, at the beginning and at the end of each phase
# and after that was stored. The request ends done without anybody's help, rows are
# the same, and nothing is left that a join without a crash wouldn't leave.
# Protects from a step that can't be taken twice, and from debris.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => $ZodanLoad::family);
$c->add_server('c', conf => "restart_after_crash = on\n");
my $coordinator = $c->server('c');
my @writers = map {
	my $k = substr($_, 1) - 1;
	$c->start_writer($_, ZodanLoad::family_script($k), '--client=1', '--rate=50')
} qw(n1 n2);

# what a join without a crash leaves behind
$c->add_server('n3');
is($c->join_node('n3', on => 'c'), 'done', 'a join without a crash');
my $kinds = $c->kinds('c', 1);

$c->add_server('n4');
$c->failpoints('c', 'kill %');
my $id = $c->request(new => 'n4', on => 'c');
# each crash ends our sessions as well; bounded by the time that a test may take
my $state = '';
while (1)
{
	$state = eval { $c->queue('c', "SELECT state FROM zodan.status WHERE request_id = $id") } // '';
	last if $state =~ /^(done|failed|cancelled)$/;
	ZodanCluster::usleep(500_000);
}
is($state, 'done', 'the request ends done, without help')
  or diag($c->queue('c', "SELECT phase, detail, last_error FROM zodan.status WHERE request_id = $id") . "\n" . $c->discarded);
push @{ $c->{order} }, 'n4';
$c->failpoints('c', '');

my %hit = map { m{/([^/]+)$} ? ($1 => 1) : () } glob $coordinator->data_dir . '/zodan_failpoints/*';
for my $phase (split /\n/, $c->queue('c', 'SELECT phase FROM zodan.phases()'))
{
	my @places = qw(begin end checkpoint);
	is(join(' ', grep { !$hit{"$phase:$_"} } @places), '', "killed at the beginning and the end of $phase");
}
ok($hit{'copy_schema:dump:planned'}, 'killed when the plan was stored, and the dump did not count yet');
for my $kind (split /\n/, $c->queue('c', "SELECT DISTINCT kind FROM zodan.effects WHERE request_id = $id"))
{
	for my $place (qw(before_intent after_intent))
	{
		ok(grep({ /:$place:$kind$/ } keys %hit), "killed at $place of a $kind");
	}
}
diag(sprintf '%s: killed at %d points, %s attempts', $ZodanCluster::engine, scalar keys %hit,
	$c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id"));
is($c->kinds('c', $id), $kinds, 'the same things were made, and undone, as without a crash');
is($c->leftovers($id), '', 'nothing is left over');
is(scalar(grep { $_ == 0 } map { $c->stop_writer($_) } @writers), 0, 'the nodes were written all the time');
$c->settle;
is($c->differences, '', 'rows are the same');
$c->psql('n4', 'INSERT INTO item VALUES (-4)');
$c->settle;
is($c->differences, '', 'both ways');
done_testing();
