# What the new node had before a join, and has after its roll back: extensions,
# their members and comments, functions and views of its own, privileges, the schema
# "public". Protects from a roll back that drops by the names of what was dumped,
# which may be the user's; from privileges of the source's that stay; and from one
# that tries for ever where something has come to depend on what was copied.
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
my $c = ZodanCluster->new(
	nodes => 1,
	setup => q{
		CREATE EXTENSION hstore;
		CREATE EXTENSION pg_stat_statements;
		CREATE EXTENSION citext;
		CREATE SCHEMA app;
		CREATE TABLE item (id int PRIMARY KEY, name text, h hstore);
		CREATE TABLE app.other (id int PRIMARY KEY, c citext);
		CREATE FUNCTION app.twice(int) RETURNS int LANGUAGE sql AS 'SELECT 2 * $1';
		CREATE VIEW app.items AS SELECT id, app.twice(id) FROM item;
		COMMENT ON EXTENSION hstore IS 'of the source';
		COMMENT ON SCHEMA public IS 'of the source';
	});
$c->psql('n1', 'INSERT INTO item SELECT i, i FROM generate_series(1, 1000) i');
$c->queue('n1', 'CREATE ROLE app; CREATE ROLE owner');
$c->psql('n1', q{
	GRANT EXECUTE ON FUNCTION hstore(text, text) TO app WITH GRANT OPTION;
	REVOKE EXECUTE ON FUNCTION hstore(text, text) FROM PUBLIC;
	GRANT SELECT ON pg_stat_statements TO app;
	REVOKE SELECT ON pg_stat_statements FROM PUBLIC;
	GRANT ALL ON SCHEMA public TO app;
	REVOKE USAGE ON SCHEMA public FROM PUBLIC;
	ALTER SCHEMA public OWNER TO owner;
	GRANT EXECUTE ON FUNCTION pg_ls_waldir() TO app;
	REVOKE EXECUTE ON FUNCTION pg_sleep(float8) FROM PUBLIC;
	GRANT SELECT (rolname) ON pg_authid TO app;
	ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT ON TABLES TO app;
	ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
	ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO app WITH GRANT OPTION;
	ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
});
$c->add_server('c');
$c->add_server('n2');
$c->queue('n2', 'CREATE ROLE app; CREATE ROLE owner; CREATE ROLE other');
$c->psql('n2', q{
	CREATE EXTENSION hstore;
	CREATE EXTENSION pg_stat_statements;
	CREATE FUNCTION public.of_user(hstore) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
	CREATE TYPE public.of_user AS ENUM ('a');
	CREATE CAST (public.of_user AS hstore) WITH INOUT;
	CREATE FUNCTION public.plus(hstore, int) RETURNS int LANGUAGE sql AS 'SELECT $2';
	CREATE OPERATOR public.+% (LEFTARG = hstore, RIGHTARG = int, FUNCTION = public.plus);
	CREATE SEQUENCE public.of_user_s;
	CREATE VIEW public.of_user_v AS SELECT 'a=>1'::hstore AS h;
	CREATE SCHEMA mine;
	CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
	COMMENT ON EXTENSION hstore IS 'of the new node';
	COMMENT ON SCHEMA public IS 'of the new node';
	GRANT EXECUTE ON FUNCTION hstore(text, text) TO other;
	GRANT EXECUTE ON FUNCTION pg_ls_logdir() TO other;
	ALTER DEFAULT PRIVILEGES FOR ROLE owner GRANT SELECT ON TABLES TO other;
	ALTER DEFAULT PRIVILEGES FOR ROLE other GRANT USAGE ON SEQUENCES TO app;
	GRANT CREATE ON SCHEMA public TO other WITH GRANT OPTION;
	SET ROLE other;
	GRANT CREATE ON SCHEMA public TO app;
	RESET ROLE;
});
my $before = $c->state_of('n2');

sub status
{
	my ($id, $columns) = @_;
	return $c->queue('c', "SELECT $columns FROM zodan.status WHERE request_id = $id");
}

# ---------- undone at several points ----------

$c->{quiet} = 1;
for my $phase (qw(copy_data mirror_replication_sets finish))
{
	$c->failpoints('c', "wait $phase:" . ($phase eq 'finish' ? 'before_intent:open' : 'begin'));
	my $id = $c->request(new => 'n2', on => 'c');
	my $go = $c->wait_failpoint('c', $phase eq 'finish' ? 'finish:before_intent:open' : "$phase:begin");
	is($c->psql('n2', q{SELECT count(*) FROM pg_extension WHERE extname = 'citext'}), '1', 'the structure is there');
	$c->queue('c', "SELECT zodan.cancel($id)");
	$go->();
	is($c->wait_for($id), 'cancelled', "the request is cancelled in $phase");
	is($c->text_difference($before, $c->state_of('n2')), '', 'and the new node is as it was');
}
$c->failpoints('c', '');

# ---------- what has the name of something that is to be made ----------

$c->psql('n2', q{
	CREATE SCHEMA app;
	DROP SCHEMA app;
	CREATE FUNCTION public.clash() RETURNS int LANGUAGE sql AS 'SELECT 1';
	CREATE TYPE public.clash AS ENUM ('x');
});
$c->psql('n1', q{
	CREATE FUNCTION public.clash() RETURNS int LANGUAGE sql AS 'SELECT 2';
	CREATE TYPE public.clash AS ENUM ('y');
});
my $clash = $c->state_of('n2');
my $id = $c->request(new => 'n2', on => 'c');
is($c->wait_for($id), 'failed', 'a function and a type that both nodes have');
like(status($id, 'last_error'), qr/new_node_objects: found function public\.clash\(\), expected[^\n]*\n.*new_node_objects: found type public\.clash,/s, 'are refused by the checks');
is($c->text_difference($clash, $c->state_of('n2')), '', 'and the new node is as it was');
$c->psql('n1', 'DROP FUNCTION public.clash(); DROP TYPE public.clash');

# made when the checks have been passed
$c->failpoints('c', 'wait copy_schema:begin');
$id = $c->request(new => 'n2', on => 'c');
my $go = $c->wait_failpoint('c', 'copy_schema:begin');
$c->failpoints('c', '');
$c->psql('n1', q{CREATE FUNCTION public.clash() RETURNS int LANGUAGE sql AS 'SELECT 2'});
$go->();
is($c->wait_for($id), 'failed', 'one that was made when the checks had been passed');
$c->queue('c', "SELECT zodan.cancel($id)");
is($c->wait_for($id), 'cancelled', 'the request is cancelled');
is($c->text_difference($clash, $c->state_of('n2')), '', 'and the new node is as it was');
$c->psql('n1', 'DROP FUNCTION public.clash()');

# ---------- something of a user's depends on what was copied ----------

$c->failpoints('c', 'wait mirror_replication_sets:begin');
$id = $c->request(new => 'n2', on => 'c');
$go = $c->wait_failpoint('c', 'mirror_replication_sets:begin');
$c->failpoints('c', '');
$c->psql('n2', 'CREATE VIEW mine.items AS SELECT * FROM item');
$c->queue('c', "SELECT zodan.cancel($id)");
$go->();
is($c->wait_for($id), 'failed', 'a view of a user depends on what was copied');
like(status($id, 'last_error'), qr/^node "n2": cannot drop table public\.item because other objects depend on it: view mine\.items depends on table public\.item/, 'the status says which');
like(status($id, 'hint'), qr/the node is open again.*SELECT zodan\.cancel\($id\)/, 'and what to do');
is($c->psql('n2', 'SELECT datconnlimit FROM pg_database WHERE datname = current_database()'), '-1', 'the fence is lifted');
$c->psql('n2', 'DROP VIEW mine.items');
$c->queue('c', "SELECT zodan.cancel($id)");
is($c->wait_for($id), 'cancelled', 'when the view is gone, it is undone');
is($c->text_difference($clash, $c->state_of('n2')), '', 'and the new node is as it was');

# ---------- and it joins ----------

$c->{quiet} = 0;
is($c->join_node('n2', on => 'c'), 'done', 'the node joins');
is($c->psql('n2', q{SELECT obj_description('public'::regnamespace, 'pg_namespace'), has_function_privilege('app', 'hstore(text, text)', 'EXECUTE'), nspowner::regrole FROM pg_namespace WHERE nspname = 'public'}),
	'of the source|t|owner', 'with what the source says of public and of the extension');
is($c->psql('n2', q{SELECT of_user('a=>1'::hstore), mine.f()}), '"a"=>"1"|1', 'and with what it had');
$c->settle;
is($c->differences, '', 'rows are the same');
$c->stop;
done_testing();
