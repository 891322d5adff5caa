# Columns to which Spock applies the difference instead of the value (delta_apply): two
# nodes add to the same rows while a third one joins, its tables are copied under several
# snapshots, and the runner dies while these are brought together. Protects the sums: on
# every node they are the number of transactions. (No server of a subscriber is stopped
# at once: Spock itself then applies some differences twice.)
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

plan(skip_all => 'only Spock has delta_apply') if $ZodanCluster::engine ne 'spock';
ZodanCluster::plan_or_skip();

my $c = ZodanCluster->new(nodes => 2, setup => q{
	CREATE TABLE large (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0, filler text);
	CREATE TABLE middle (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0, filler text);
	CREATE TABLE small (id int PRIMARY KEY, n numeric NOT NULL DEFAULT 0);
	ALTER TABLE large ALTER n SET (log_old_value = true, delta_apply_function = spock.delta_apply);
	ALTER TABLE middle ALTER n SET (log_old_value = true, delta_apply_function = spock.delta_apply);
	ALTER TABLE small ALTER n SET (log_old_value = true, delta_apply_function = spock.delta_apply);
	CREATE TABLE done (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
});
$c->psql('n1', "INSERT INTO $_ SELECT i, 0, repeat(md5(i::text), 6) FROM generate_series(1, 16000) i") for qw(large middle);
$c->psql('n1', 'INSERT INTO small SELECT i, 0 FROM generate_series(1, 10) i');
$c->settle;
$c->add_server('c', conf => "restart_after_crash = on\nzodan.snapshot_max_age = 1s\n");
$c->add_server('n3');

sub script
{
	my ($table) = @_;
	return "\\set id random(1, 10)\nBEGIN;\nUPDATE $table SET n = n + 1 WHERE id = :id;\nINSERT INTO done DEFAULT VALUES;\nCOMMIT;\n";
}

my @writers = map { my $node = $_; map { $c->start_writer($node, script($_), '--rate', '40') } qw(large middle small) } qw(n1 n2);
$c->wait_writing(@writers);
$c->failpoints('c', 'kill sync_source_to_new:gate:sealed');
my $id = $c->request(new => 'n3', on => 'c', copy_jobs => 1, copy_rate => 1_500_000);
ok($c->wait_queue("SELECT phase = 'sync_source_to_new' AND attempt > 1 OR state = 'done' FROM zodan.status WHERE request_id = $id", 'c'), 'the runner is killed while streams are brought together');
is($c->wait_for($id), 'done', 'the join is done');
push @{ $c->{order} }, 'n3';
cmp_ok($c->queue('c', "SELECT count(DISTINCT snapshot) FROM zodan.copy_tables WHERE request_id = $id"), '>', 1, 'tables were copied under more than one snapshot');
my $more = $c->start_writer('n3', script('small'), '--rate', '40');
$c->wait_writing($more);
$c->stop_writer($_) for @writers, $more;
$c->settle;
my $done = $c->psql('n1', 'SELECT count(*) FROM done');
cmp_ok($done, '>', 500, "$done transactions");
is($c->psql($_, 'SELECT (SELECT sum(n) FROM large) + (SELECT sum(n) FROM middle) + (SELECT sum(n) FROM small)'), $done, "the sums on $_ are as many") for qw(n1 n2 n3);
is($c->psql($_, 'SELECT count(*) FROM done'), $done, "and so are the rows on $_") for qw(n2 n3);
is($c->differences, '', 'rows are the same');
done_testing();
