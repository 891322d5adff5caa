# Every check made to fail, as many as can be in one request: all failures are
# listed at once, each with node, what was found, what was expected and what to
# do, and nothing is changed anywhere. Protects from an operator who mends one
# thing after the other, and from a join that starts on a cluster that can't
# take it.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use PostgreSQL::Test::Utils;
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $e = $ZodanCluster::engine;
my $spock = $e eq 'spock';
my $c = ZodanCluster->new(
	nodes => 3,
	setup => 'CREATE TABLE item (id int PRIMARY KEY, name text); CREATE SCHEMA s; CREATE TABLE s.item (id int PRIMARY KEY);');
my $add_table = 'SELECT ' . $c->e('add_table') . q{('default', 's.item')};
$c->psql($_, $add_table) for qw(n1 n2 n3);

# the failures of a request, as a hash of "check node" to rows
sub failures
{
	my ($id) = @_;
	my %failures;
	for my $row (split /\x1e/, $c->server($c->{coordinator})->safe_psql('postgres',
			"SELECT check_name || ' ' || node, found, expected, what_to_do FROM zodan.check_failures WHERE request_id = $id ORDER BY id",
			extra_params => [ '--record-separator', "\x1e", '--field-separator', "\x1f" ]))
	{
		my ($key, @row) = split /\x1f/, $row, -1;
		push @{ $failures{$key} }, \@row;
	}
	return \%failures;
}

# how often each was looked for, so that one that nobody looks for shows
my %seen;

sub failed
{
	my ($failures, $check, $node, $found, $expected, $todo) = @_;
	my @rows = @{ $failures->{"$check $node"} || [] };
	my @fit = grep { $_->[0] =~ $found && $_->[1] =~ $expected && $_->[2] =~ ($todo || qr/\w/) } @rows;
	$seen{"$check $node"}++;
	is(scalar @fit, 1, "$check on $node: $found")
	  or diag(join "\n", map { join ' | ', @$_ } @rows);
	return;
}

sub all_listed
{
	my ($id, $failures) = @_;
	my ($state, $phase, $error, $hint, $finished) = split /\x1f/, $c->server($c->{coordinator})->safe_psql('postgres',
		"SELECT state, phase, last_error, hint, finished_at IS NOT NULL FROM zodan.status WHERE request_id = $id",
		extra_params => [ '--field-separator', "\x1f" ]);
	my $count = 0;
	is($state, 'failed', 'the request has failed');
	is($finished, 't', 'and ended');
	like($hint, qr/zodan\.check_failures WHERE request_id = $id/, 'the hint tells where to look');
	for my $key (sort keys %$failures)
	{
		my ($check, $node) = split / /, $key, 2;
		for my $row (@{ $failures->{$key} })
		{
			$count++;
			ok(index($error, "$node: $check: found $row->[0]") >= 0, "last_error has $key") or diag($error);
			isnt($row->[$_], '', "$key: column $_ is filled") for 0 .. 2;
		}
	}
	like($error, qr/^$count checks? (have|has) failed/, 'it says how many');
	is($c->queue($c->{coordinator}, "SELECT count(*) FROM zodan.events WHERE request_id = $id AND level = 'error' AND phase LIKE 'check%' AND message LIKE '%: found %' AND message !~ '^\\d+ checks? ha'"),
		$count, 'each is an event');
	return;
}

$c->{quiet} = 1;

# ---------- nodes that don't answer ----------

$c->add_server('n4');
my $dead = PostgreSQL::Test::Cluster::get_free_port();
my $id = $c->request(
	new => 'n4', on => 'n1', operation => 'check',
	new_node_dsn => $c->dsn('n4') =~ s/dbname='\w+'/dbname=nowhere/r,
	options => '{"peer_dsns": {"n2": "host=' . $c->server('n2')->host . " port=$dead dbname=inventory\"}}");
is($c->wait_for($id), 'failed', 'unreachable nodes');
my $f = failures($id);
failed($f, 'connection', 'n4', qr/database "nowhere" does not exist/, qr/a connection/, qr/new_node_dsn/);
failed($f, 'connection', 'n2', qr/$dead/, qr/a connection/, qr/options\.peer_dsns\."n2"/);
all_listed($id, $f);

$id = $c->request(new => 'n4', on => 'n1', operation => 'check', src_dsn => 'host=/nowhere port=1 dbname=x');
is($c->wait_for($id), 'failed', 'no source');
failed(failures($id), 'connection', 'n1', qr/nowhere/, qr/a connection/, qr/src_dsn/);

$id = $c->request(new => 'n4', on => 'n1', operation => 'check', src_dsn => $c->dsn('n1') =~ s/dbname='\w+'/dbname=postgres/r);
is($c->wait_for($id), 'failed', 'a source without an engine');
failed(failures($id), 'engine_version', 'n1', qr/neither/, qr/spock or pglogical/);

# the name of a node that isn't the one that the DSN reaches
$id = $c->request(new => 'n4', on => 'n1', operation => 'check', src_node_name => 'n9');
is($c->wait_for($id), 'failed', 'another source than the DSN reaches');
failed(failures($id), 'node_identity', 'n9', qr/node n1/, qr/node n9/);

# ---------- all that can be wrong with nodes that answer ----------

# the new one
my $bad = $c->add_server('bad', database => "ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0",
	conf => "max_wal_senders = 1\nmax_worker_processes = 5\nmax_replication_slots = 3\n"
	  . ($spock ? "spock.enable_ddl_replication = on\nspock.exception_logging = none\n" : "$e.conflict_log_level = 'debug1'\n"));
my $has_plugin_list = ZodanCluster::system_knows($bad, 'output_plugin_libraries');
$c->psql('bad', sprintf 'SELECT ' . $c->e('node'), "'other'", ZodanCluster::q_($c->dsn('bad')));
$c->psql('bad', sprintf 'SELECT ' . $c->e('set'), "'extra'");
$c->psql('bad', 'CREATE TABLE here (id int); CREATE TABLE "Here Too" (id int); CREATE MATERIALIZED VIEW seen AS SELECT 1; CREATE SCHEMA s; CREATE EXTENSION hstore');
$c->psql('bad', sprintf 'SELECT ' . $c->e('subscribe'), "'sub_from_n1_x'", ZodanCluster::q_($c->dsn('n1')), '');
# (which makes a slot on n1 that isn't in the way)
my $slot_name = $spock ? 'spock.spock_gen_slot_name' : 'pglogical.pglogical_gen_slot_name';
my $slot_in = $c->psql('n1', "SELECT $slot_name('inventory', 'n2', 'sub_n2_bad')");
my $slot_out = $c->psql('n1', "SELECT $slot_name('inventory', 'bad', 'sub_bad_n3')");
$c->psql('bad', "SELECT pg_replication_origin_create('$slot_in')");
$c->psql('bad', "SELECT pg_create_physical_replication_slot('$slot_out')");
$bad->append_conf('postgresql.conf', "wal_level = replica\nmax_locks_per_transaction = 10\nmax_connections = 20\n"
	  . ($has_plugin_list ? "output_plugin_libraries = 'pgoutput'\n" : '')
	  . ($spock ? '' : "track_commit_timestamp = off\npglogical.conflict_resolution = 'apply_remote'\n"));
my $has_idle_timeout = ZodanCluster::system_knows($bad, 'idle_replication_slot_timeout');
$bad->append_conf('postgresql.conf', "idle_replication_slot_timeout = 1h\n") if $has_idle_timeout;
$bad->restart;

# the existing ones
$c->psql('n1', q{
	CREATE ROLE here_only LOGIN;
	CREATE ROLE differs LOGIN CREATEDB CONNECTION LIMIT 7;
	CREATE ROLE of_group LOGIN IN ROLE pg_monitor;
	CREATE ROLE owner_only NOLOGIN;
	CREATE ROLE unused NOLOGIN;
	CREATE ROLE same LOGIN NOINHERIT;
	ALTER TABLE s.item OWNER TO owner_only;
	CREATE SCHEMA many;
	DO $$ BEGIN FOR i IN 1 .. 150 LOOP EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY, name text)', i); END LOOP; END $$;
	CREATE EXTENSION tcn;
	SET allow_system_table_mods = on;
	UPDATE pg_extension SET extname = 'not there' WHERE extname = 'tcn';
});
$c->psql('bad', 'CREATE ROLE differs LOGIN; CREATE ROLE of_group LOGIN; CREATE ROLE same LOGIN NOINHERIT;'
	  . " SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = regexp_replace(extversion, '^\\d+', '99') WHERE extname = '$e'");
$c->psql('n2', sprintf 'SELECT ' . $c->e('unsubscribed'), ZodanCluster::q_($c->sub_name('n3', 'n2')));
$c->psql('n3', sprintf 'SELECT ' . $c->e('drop'), ZodanCluster::q_($c->sub_name('n2', 'n3')));
$c->psql('n2', "SELECT pg_replication_origin_create('" . $c->psql('n1', "SELECT $slot_name('inventory', 'bad', 'sub_bad_n2')") . "')");
$c->psql('n2', "SELECT pg_create_physical_replication_slot('$slot_in')");
$c->psql('n2', "SELECT pg_create_physical_replication_slot('full_' || i) FROM generate_series(1, 40 - (SELECT count(*)::int FROM pg_replication_slots)) i");
my $plain = 'plain';
$c->psql('n3', "CREATE ROLE $plain LOGIN; GRANT USAGE ON SCHEMA $e TO $plain; GRANT SELECT ON ALL TABLES IN SCHEMA $e TO $plain; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA $e TO $plain");
if ($spock)
{
	$c->psql('n2', "ALTER ROLE postgres IN DATABASE inventory SET spock.enable_ddl_replication = on");
	$c->psql('n3', "SELECT pg_create_logical_replication_slot('spk_somebody_1', 'spock_output')");
}
# a server that is too old, and whose contrib modules aren't there
$c->psql('bad', q{
	ALTER FUNCTION pg_catalog.current_setting(text) RENAME TO real_setting;
	CREATE FUNCTION pg_catalog.current_setting(text) RETURNS text LANGUAGE sql
		AS $$ SELECT CASE $1 WHEN 'server_version_num' THEN '140012' WHEN 'server_version' THEN '14.12' ELSE pg_catalog.real_setting($1) END $$;
	CREATE FUNCTION s.no_functions() RETURNS event_trigger LANGUAGE plpgsql
		AS $$ BEGIN RAISE 'could not access file "$libdir/pg_walinspect": No such file or directory'; END $$;
	CREATE EVENT TRIGGER no_functions ON ddl_command_start WHEN TAG IN ('CREATE FUNCTION') EXECUTE FUNCTION s.no_functions();
	ALTER LANGUAGE plpgsql RENAME TO plpgsql_no_more;
});
# (Spock) a label that could be n2's or an origin's
my $origin = 'roident = (SELECT node_id FROM spock.node WHERE node_name = \'n2\')';
my $of_n3 = "roname = (SELECT sub_slot_name FROM spock.subscription JOIN spock.node ON node_id = sub_origin WHERE node_name = 'n3')";
my $roident;
if ($spock)
{
	$roident = $c->psql('n1', "SELECT roident FROM pg_replication_origin WHERE $of_n3");
	$c->psql('n1', "SET allow_system_table_mods = on; UPDATE pg_replication_origin SET $origin WHERE $of_n3");
}
$c->server('n1')->append_conf('postgresql.conf', "zodan.bindir = '/nowhere'\n");
$c->server('n1')->reload;
$c->server('n1')->poll_query_until('postgres', "SELECT current_setting('zodan.bindir') = '/nowhere'");

my %before = map { $_ => $c->state_of($_) } qw(n1 n2 n3 bad);
my $files = $c->queue('n1', "SELECT count(*) FROM zodan.effects");
my $peers = '{"peer_dsns": {"n3": "' . ($c->dsn('n3') =~ s/ user=\w+//r) . " user=$plain\"}}";
$id = $c->request(new => 'bad', on => 'n1', options => $peers);
is($c->wait_for($id), 'failed', 'add_node fails');
$f = failures($id);
$c->psql('n1', "SET allow_system_table_mods = on; UPDATE pg_replication_origin SET roident = $roident WHERE $of_n3") if $spock;
failed($f, 'postgresql_version', 'bad', qr/PostgreSQL 14\.12/, qr/15\.13 or newer/, qr/Upgrade/);
failed($f, 'postgresql_major', 'bad', qr/PostgreSQL 14\.12/, qr/PostgreSQL \d\d or newer, as on the source/);
failed($f, 'pg_walinspect', 'bad', qr{could not access file "\$libdir/pg_walinspect"}, qr/library of pg_walinspect/, qr/contrib/);
failed($f, 'commit_labels', 'n1', qr/node n2 has the id \d+, which is also that of origin/, qr/tell/, qr/another node as the source/) if $spock;
failed($f, 'engine_version', 'bad', qr/^$e 99\./, qr/^$e \d+\.\d+\.\d+/);
failed($f, 'programs', 'the coordinator', qr{/nowhere/pg_dump}, qr/pg_dump and pg_restore of PostgreSQL \d+/, qr/zodan\.bindir/);
failed($f, 'superuser', 'n3', qr/role $plain/, qr/superuser/);
failed($f, 'already_a_node', 'bad', qr/node other/, qr/not a node yet/);
failed($f, 'new_node_subscriptions', 'bad', qr/subscription sub_from_n1_x/, qr/none/);
failed($f, 'new_node_sets', 'bad', qr/replication set extra$/, qr/none/);
failed($f, 'new_node_tables', 'bad', qr/table public\.here$/, qr/empty/);
failed($f, 'new_node_tables', 'bad', qr/table public\."Here Too"$/, qr/empty/);
failed($f, 'new_node_tables', 'bad', qr/public\.seen$/, qr/empty/);
failed($f, 'leftover_slots', 'bad', qr/slot $slot_out$/, qr/none/, qr/pg_drop_replication_slot\('$slot_out'\)/);
failed($f, 'leftover_origins', 'bad', qr/origin $slot_in$/, qr/none/, qr/pg_replication_origin_drop\('$slot_in'\)/);
failed($f, 'leftover_slots', 'n2', qr/slot $slot_in$/, qr/none/);
failed($f, 'leftover_origins', 'n2', qr/origin/, qr/none/);
failed($f, 'roles', 'bad', qr/no role here_only$/, qr/the source has/);
failed($f, 'roles', 'bad', qr/no role owner_only$/, qr/the source has/);
failed($f, 'roles', 'bad', qr/role differs: LOGIN$/, qr/^LOGIN CREATEDB CONNECTION LIMIT 7$/);
failed($f, 'roles', 'bad', qr/role of_group: LOGIN$/, qr/IN ROLE pg_monitor$/);
is(scalar @{ $f->{'roles bad'} || [] }, 4, 'no other role, neither the same nor an unused group');
failed($f, 'encoding', 'bad', qr/SQL_ASCII/, qr/UTF8/);
failed($f, 'exception_logging', 'bad', qr/spock\.exception_logging = none/, qr/another value/) if $spock;
failed($f, 'extensions', 'bad', qr/no extension not there/, qr/available/);
failed($f, 'plpgsql', 'bad', qr/no language plpgsql$/, qr/language plpgsql/, qr/CREATE EXTENSION plpgsql/);
failed($f, 'schema_in_use', 'bad', qr/schema s$/, qr/replicated tables/);
failed($f, 'engine_settings', 'bad', $spock ? qr/spock\.enable_ddl_replication = on/ : qr/conflict_resolution = apply_remote/,
	$spock ? qr/ = off/ : qr/= last_update_wins/);
failed($f, 'engine_settings', 'bad', qr/conflict_log_level = debug1/, qr/conflict_log_level = log/) unless $spock;
failed($f, 'subscriptions', 'n2', qr/subscription s_n3_to_n2_x is disabled/, qr/replicating/);
failed($f, 'subscriptions', 'n3', qr/no subscription to node n2/, qr/every node subscribing/);
failed($f, 'setting', 'bad', qr/wal_level = replica/, qr/wal_level = logical/);
# (a server with Spock doesn't start without it)
failed($f, 'setting', 'bad', qr/track_commit_timestamp = off/, qr/= on/) unless $spock;
failed($f, 'capacity', 'n2', qr/max_replication_slots = 40, 40 of them in use/, qr/\d more to be free/, qr/Set max_replication_slots to \d+/);
failed($f, 'locks', 'bad', qr/room for \d+ locks \(max_locks_per_transaction = 10\)$/, qr/room for \d+, as many as there are tables, indexes/, qr/Set max_locks_per_transaction to \d\d /);
failed($f, 'capacity', 'bad', qr/max_wal_senders = 1,/, qr/3 more/);
failed($f, 'capacity', 'bad', qr/max_worker_processes = 5,/, qr/more/);
ok(grep({ $_->[0] =~ /max_replication_slots = 3,/ } @{ $f->{'capacity bad'} || [] }), 'capacity on bad: slots and origins');
$seen{'capacity bad'}++;
failed($f, 'idle_slots', 'bad', qr/idle_replication_slot_timeout = 1h/, qr/^0$/, qr/reload/) if $has_idle_timeout;
failed($f, 'output_plugin_libraries', 'bad', qr/pgoutput/, qr/${e}_output/, qr/reload/) if $has_plugin_list;
if ($spock)
{
	failed($f, 'automatic_ddl', 'bad', qr/spock\.enable_ddl_replication = on/, qr/off/);
	failed($f, 'automatic_ddl', 'n2', qr/spock\.enable_ddl_replication.*on for role postgres, database inventory/, qr/off/);
	failed($f, 'shared_streams', 'n3', qr/slot spk_somebody_1$/, qr/does not end in/);
}
# what only a superuser may see has to be listed, but isn't asked for here
delete $f->{$_} for grep { / n3$/ && !$seen{$_} } keys %$f;
is(join(', ', grep { !$seen{$_} } sort keys %$f), '', 'and nothing else');
all_listed($id, failures($id));
is($c->queue('n1', 'SELECT count(*) FROM zodan.effects'), $files, 'nothing was done');
for my $name (sort keys %before)
{
	is($c->text_difference($before{$name}, $c->state_of($name)), '', "$name is as it was");
}

# ---------- the name ----------

# the server that would be "bad" has n2's name: that node isn't a member then, and the name is taken
$id = $c->request(new => 'n4', on => 'n1', new_node_name => 'n2', operation => 'check');
is($c->wait_for($id), 'failed', 'a name that is taken');
failed(failures($id), 'name_in_use', 'n1', qr/node n2 \(id \d+\)/, qr/no node n2/, qr/another name/);

if ($spock)
{
	my $same = $c->psql('n1', "SELECT 'x' || i FROM generate_series(1, 10000000) AS i WHERE hashtext('x' || i) & 65535 = hashtext('n2') & 65535 LIMIT 1");
	$id = $c->request(new => 'n4', on => 'n1', new_node_name => $same, operation => 'check');
	is($c->wait_for($id), 'failed', 'a name whose id is taken');
	failed(failures($id), 'name_in_use', 'n1', qr/node n2 \(id \d+\)/, qr/no node $same, and none with its id/, qr/another name/);
}

# ---------- a peer that is down hides nothing ----------

$c->psql('n4', 'CREATE TABLE public.in_the_way ()');
$id = $c->request(new => 'n4', on => 'n1',
	options => '{"peer_dsns": {"n2": "host=' . $c->server('n2')->host . " port=$dead dbname=inventory\"}}");
is($c->wait_for($id), 'failed', 'what does not pass fails at once, though the peer may come back');
$f = failures($id);
failed($f, 'connection', 'n2', qr/$dead/, qr/a connection/);
failed($f, 'new_node_tables', 'n4', qr/in_the_way/, qr/empty/);
$c->psql('n4', 'DROP TABLE public.in_the_way');

# ---------- a good one ----------

$c->psql('n2', "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical'");
$c->psql('n2', "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname LIKE '%bad%'");
$c->psql('bad', sprintf 'SELECT ' . $c->e('drop'), "'sub_from_n1_x'");
$c->psql('n2', sprintf 'SELECT ' . $c->e('enable'), ZodanCluster::q_($c->sub_name('n3', 'n2')));
$c->psql('n3', sprintf 'SELECT ' . $c->e('subscribe'), ZodanCluster::q_($c->sub_name('n2', 'n3')), ZodanCluster::q_($c->dsn('n2')), '');
$c->psql('n1', 'ALTER TABLE s.item OWNER TO postgres; DROP ROLE here_only, differs, of_group, owner_only, unused, same;'
	  . " SET allow_system_table_mods = on; UPDATE pg_extension SET extname = 'tcn' WHERE extname = 'not there'");
if ($spock)
{
	$c->psql('n2', 'ALTER ROLE postgres IN DATABASE inventory RESET spock.enable_ddl_replication');
	$c->psql('n3', "SELECT pg_drop_replication_slot('spk_somebody_1')");
}
$c->server('n1')->append_conf('postgresql.conf', "zodan.bindir = ''\n");
$c->server('n1')->reload;
$c->server('n1')->poll_query_until('postgres', "SELECT current_setting('zodan.bindir') = ''");
$c->server('bad')->stop('fast');
$c->wait_replicating(qw(n1 n2 n3));
$c->{quiet} = 0;
%before = map { $_ => $c->state_of($_) } qw(n1 n2 n3 n4);
$id = $c->queue('n1', sprintf q{SELECT zodan.check('n1', %s, 'n4', %s)}, ZodanCluster::q_($c->dsn('n1')), ZodanCluster::q_($c->dsn('n4')));
is($c->wait_for($id), 'done', 'a good check ends done');
is($c->queue('n1', "SELECT count(*) FROM zodan.check_failures WHERE request_id = $id"), '0', 'without failures');
is($c->queue('n1', "SELECT phase, phase_no, phases, percent, engine, last_error IS NULL FROM zodan.status WHERE request_id = $id"),
	"verify_rows|3|3|100.0|$e|t", 'and its status says so');
is($c->text_difference($before{$_}, $c->state_of($_)), '', "$_ is as it was") for sort keys %before;

# ---------- a cluster whose streams aren't what a join relies on ----------

$c->{quiet} = 1;
$c->psql('n3', sprintf 'SELECT ' . $c->e('set'), "'more'");
$c->psql('n2', sprintf $spock ? q{SELECT spock.sub_create('twice_x', %s, replication_sets := '{more}')} :
	  q{SELECT pglogical.create_subscription('twice_x', %s, '{more}', false, false)}, ZodanCluster::q_($c->dsn('n3')));
# Spock 6 doesn't make such a one any more, but those made before may be there
$c->psql('n2', "UPDATE $e.subscription SET sub_forward_origins = '{all}' WHERE sub_name = 'twice_x'");
$c->psql('n2', 'CREATE TABLE only_here (id int PRIMARY KEY); SELECT ' . $c->e('add_table') . q{('default', 'only_here')});
$id = $c->request(new => 'n4', on => 'n1', operation => 'check');
is($c->wait_for($id), 'failed', 'streams that a join could not rely on');
$f = failures($id);
failed($f, 'subscriptions', 'n2', qr/2 subscriptions to node n3: .*twice_x/, qr/one subscription/);
failed($f, 'subscriptions', 'n2', qr/twice_x with forward_origins \{all\}/, qr/forward_origins \{\}/);
failed($f, 'tables_of_sets', 'n2', qr/replicated table public\.only_here/, qr/source does not replicate/);

# ---------- triggers that fire for what is replicated ----------

$c->psql('n1', q{
	CREATE FUNCTION s.writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN Insert INTO S.ITEM SELECT; RETURN NEW; END $$;
	CREATE FUNCTION s.writes_elsewhere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO s.items SELECT; RETURN NEW; END $$;
	CREATE FUNCTION s.writes_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM s.item; RETURN NEW; END $$;
	CREATE TRIGGER "Doubles" AFTER INSERT ON s.item FOR EACH ROW EXECUTE FUNCTION s.writes();
	CREATE TRIGGER in_replicas AFTER INSERT ON s.item FOR EACH ROW EXECUTE FUNCTION s.writes();
	CREATE TRIGGER of_origin AFTER INSERT ON s.item FOR EACH ROW EXECUTE FUNCTION s.writes();
	CREATE TRIGGER off AFTER INSERT ON s.item FOR EACH ROW EXECUTE FUNCTION s.writes();
	CREATE TRIGGER elsewhere AFTER INSERT ON s.item FOR EACH ROW EXECUTE FUNCTION s.writes_elsewhere();
	CREATE TRIGGER nothing AFTER INSERT ON s.item FOR EACH ROW EXECUTE FUNCTION s.writes_nothing();
	ALTER TABLE s.item ENABLE ALWAYS TRIGGER "Doubles", ENABLE REPLICA TRIGGER in_replicas, DISABLE TRIGGER off, ENABLE ALWAYS TRIGGER elsewhere, ENABLE ALWAYS TRIGGER nothing;
});
$id = $c->request(new => 'n4', on => 'n1', operation => 'check');
is($c->wait_for($id), 'failed', 'triggers that fire for what is replicated');
$f = failures($id);
failed($f, 'triggers', 'n1', qr/^trigger "Doubles" of table s\.item is enabled ALWAYS, and its function s\.writes\(\) names what is replicated: public\.item, s\.item$/,
	qr/come twice/, qr/ALTER TABLE s\.item ENABLE TRIGGER "Doubles" .* with "s\.item\.\\"Doubles\\"" in options\.accept_triggers/);
failed($f, 'triggers', 'n1', qr/^trigger in_replicas of table s\.item is enabled REPLICA/, qr/come twice/);
is(scalar @{ $f->{'triggers n1'} }, 2, 'no other trigger');
$id = $c->request(new => 'n4', on => 'n1', operation => 'check', options => q({"accept_triggers": ["s.item.\\"Doubles\\"", "s.item.in_replicas"]}));
$c->wait_for($id);
is(scalar @{ failures($id)->{'triggers n1'} || [] }, 0, 'nor these, if they are accepted');
done_testing();
