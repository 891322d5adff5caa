# Tables that are truncated or rewritten while a join copies, so that the snapshot
# under which they were to be read shows none of their rows, or other pages. Protects
# the rows that would be missing on the new node, and those of other tables that Spock
# discards with an update of a row that isn't there.
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
my $c = ZodanCluster->new(nodes => 2, setup => q{
	CREATE TABLE truncated (id int PRIMARY KEY, n int);
	CREATE TABLE rewritten (id int PRIMARY KEY, n int);
	CREATE TABLE large (id int PRIMARY KEY, n int, filler text);
	CREATE TABLE other (id int PRIMARY KEY, n int);
	CREATE TABLE held (id int PRIMARY KEY, filler text);
});
$c->psql('n1', $_) for 'INSERT INTO truncated SELECT i, i FROM generate_series(1, 5000) i', 'INSERT INTO rewritten SELECT i, i FROM generate_series(1, 5000) i',
  q{INSERT INTO large SELECT i, i, repeat(md5(i::text), 6) FROM generate_series(1, 30000) i}, 'INSERT INTO other SELECT i, i FROM generate_series(1, 100) i',
  q{INSERT INTO held SELECT i, repeat('x', 200) FROM generate_series(1, 100) i};
$c->settle;
$c->add_server('c');
$c->add_server('n3');

sub said { return $c->queue('c', "SELECT string_agg(message, E'\\n') FROM zodan.events WHERE request_id = $_[0] AND $_[1]"); }

# ---------- before any of their rows is read ----------

$c->failpoints('c', 'wait copy_data:reading:snapshot');
my $id = $c->request(new => 'n3', on => 'c', copy_jobs => 2);
my $go = $c->wait_failpoint('c', 'copy_data:reading:snapshot');
$c->failpoints('c', '');
# what a stream sends of the rows that are gone, in one transaction with others
$c->psql('n1', 'BEGIN; UPDATE truncated SET n = -n WHERE id = 1; UPDATE other SET n = -n WHERE id = 1; COMMIT');
$c->psql('n1', 'TRUNCATE truncated');
$c->psql('n1', 'INSERT INTO truncated VALUES (1, 1)');
# not sent to anybody, and nothing that a snapshot from before could see
$c->psql($_, 'ALTER TABLE rewritten ALTER n TYPE int USING n + 0') for qw(n1 n2);
$c->psql('n1', 'INSERT INTO rewritten VALUES (5001, 1)');
$go->();
is($c->wait_for($id), 'done', 'tables that are truncated and rewritten before they are read: the join is done');
push @{ $c->{order} }, 'n3';
$c->settle;
is($c->differences, '', 'all nodes agree');
is($c->psql('n3', 'SELECT count(*) FROM rewritten'), '5001', 'and no row is missing');
is($c->queue('c', "SELECT string_agg(relname, ' ' ORDER BY relname) FROM zodan.copy_tables WHERE request_id = $id AND snapshot > 0"), 'rewritten truncated',
	'those that were copied with them were not begun again');
like(said($id, "level = 'warning'"), qr/rewritten or truncated after snapshot 0 was taken.*: (?=.*public\.truncated)(?=.*public\.rewritten)/, 'an event names them');
is(said($id, "level = 'error'"), '', 'there was no error');
is($c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id"), '1', 'nor another attempt');

# ---------- a large one, when some of its parts are there ----------

$c->add_server('n4');
$c->server('c')->append_conf('postgresql.conf', "zodan.copy_part_size = '1MB'");
$c->server('c')->reload;
$id = $c->request(new => 'n4', on => 'c', copy_jobs => 2, copy_rate => 1000000);
ok($c->wait_queue("SELECT detail ~ 'public\\.large \\(part [3-5] of' FROM zodan.status WHERE request_id = $id"), 'parts of a large table are copied');
my $begun = $c->queue('c', "SELECT started_at FROM zodan.copy_tables WHERE request_id = $id AND relname = 'large'");
$c->psql($_, 'ALTER TABLE large ALTER n TYPE int USING n + 0') for qw(n1 n2 n3);
$c->psql('n1', q{INSERT INTO large VALUES (30001, 1, 'after')});
ok($c->wait_queue("SELECT count(*) > 0 FROM zodan.events WHERE request_id = $id AND message ~ 'rewritten or truncated after snapshot 0 was taken.*public\\.large'"),
	'that it was rewritten is noticed');
$c->queue('c', "SELECT zodan.set_copy_rate($id, NULL)");
is($c->wait_for($id), 'done', 'the join is done');
push @{ $c->{order} }, 'n4';
$c->settle;
is($c->differences, '', 'all nodes agree');
is($c->psql('n4', 'SELECT count(*) FROM large'), '30001', 'no row is missing, and none is there twice');
is($c->queue('c', "SELECT string_agg(relname, ' ' ORDER BY relname) FROM zodan.copy_tables WHERE request_id = $id AND snapshot > 0"), 'large', 'it alone was copied under a later snapshot');
is(said($id, "level = 'error'"), '', 'there was no error');
is($c->queue('c', "SELECT attempt FROM zodan.status WHERE request_id = $id"), '1', 'nor another attempt');
$c->stop;
done_testing();
