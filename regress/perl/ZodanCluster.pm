# ZodanCluster: an active-active cluster of real servers for tests, the demo
# and the benchmarks.
#
#   my $c = ZodanCluster->new(nodes => 3, setup => $sql);
#   my $n4 = $c->add_server('n4');            # a server that isn't a node yet
#   my $id = $c->request(new => 'n4');        # files a request for it
#   is($c->wait_for($id), 'done');
#   $c->settle; is($c->differences, '');
#
# The engine is pglogical, or Spock where ZODAN_ENGINE says so; PG_CONFIG is
# the server's pg_config.
#
# Copyright (c) 2026, the zodan_bgw authors
package ZodanCluster;

use strict;
use warnings;

my @logs;

# A test in which a server has crashed fails, whatever else it says. The last
# of these blocks is run first: this one when the servers have been stopped.
END
{
	my $crashed = ZodanLogs::report(@logs);
	$? ||= $crashed;
}

use Digest::MD5 qw(md5_hex);
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
use ZodanLoad;
use ZodanLogs;

use parent -norequire, 'ZodanLoad';

our $engine = $ENV{ZODAN_ENGINE} || 'pglogical';

my %engines = (
	pglogical => {
		plugin => 'pglogical_output',
		node => 'pglogical.create_node(%s, %s)',
		subscribe => 'pglogical.create_subscription(%s, %s, synchronize_data := false, forward_origins := \'{}\'%s)',
		unsubscribed => 'pglogical.alter_subscription_disable(%s, true)',
		enable => 'pglogical.alter_subscription_enable(%s, true)',
		drop => 'pglogical.drop_subscription(%s)',
		set => 'pglogical.create_replication_set(%s)',
		status => 'pglogical.show_subscription_status()',
		add_all => 'pglogical.replication_set_add_all_tables(%s, %s)',
		add_table => 'pglogical.replication_set_add_table',
		add_seq => 'pglogical.replication_set_add_sequence',
		settings => "pglogical.conflict_resolution = 'last_update_wins'\n",
	},
	spock => {
		plugin => 'spock_output',
		node => 'spock.node_create(%s, %s)',
		subscribe => 'spock.sub_create(%s, %s%s)',
		unsubscribed => 'spock.sub_disable(%s, true)',
		enable => 'spock.sub_enable(%s, true)',
		drop => 'spock.sub_drop(%s)',
		set => 'spock.repset_create(%s)',
		status => 'spock.sub_show_status()',
		add_all => 'spock.repset_add_all_tables(%s, %s)',
		add_table => 'spock.repset_add_table',
		add_seq => 'spock.repset_add_seq',
		settings => "spock.enable_ddl_replication = off\nspock.include_ddl_repset = off\n",
	},);

sub plan_or_skip
{
	my ($why) = ($ENV{ZODAN_SKIP} || '');
	plan(skip_all => "$engine: $why") if $why;
	return;
}

sub e { return $engines{$engine}->{ $_[1] }; }

# SQL's literal
sub q_
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

sub ident
{
	my ($text) = @_;
	$text =~ s/"/""/g;
	return "\"$text\"";
}

# a value in a connection string
sub dsn_value
{
	my ($text) = @_;
	$text =~ s/([\\'])/\\$1/g;
	return "'$text'";
}

# nodes: how many, or a list of names; dbname; setup: SQL for the first node's
# structure, run on all; conf: more settings; sets: SQL that fills the
# replication sets; subscribe_sets: SQL for an array of those to subscribe to;
# password: connections between the servers go over TCP, by a role "mesh" with
# this password, which the servers ask for
sub new
{
	my ($class, %arg) = @_;
	my $self = bless {
		dbname => $arg{dbname} || 'inventory',
		conf => $arg{conf} || '',
		setup => $arg{setup} || '',
		password => $arg{password},
		servers => {},
		order => [],
	}, $class;
	my @names = ref $arg{nodes} ? @{ $arg{nodes} } : map { "n$_" } 1 .. ($arg{nodes} // 1);

	for my $name (@names)
	{
		$self->add_server($name);
		$self->psql($name, $self->{setup}) if $self->{setup};
		$self->psql($name, sprintf 'SELECT ' . $self->e('node'), q_($name), q_($self->dsn($name)));
		$self->psql($name, $arg{sets} || sprintf 'SELECT ' . $self->e('add_all'), q_('default'), "'{public}'");
		push @{ $self->{order} }, $name;
	}
	for my $to (@names)
	{
		for my $from (@names)
		{
			next if $from eq $to;
			$self->subscribe($from, $to, $arg{subscribe_sets} ? ", replication_sets := $arg{subscribe_sets}" : '');
		}
	}
	$self->end_lost_workers(@names) if $engine eq 'pglogical';
	$self->wait_replicating(@names);
	return $self;
}

# makes one node subscribe to another, by hand; more: further arguments
sub subscribe
{
	my ($self, $from, $to, $more) = @_;
	$self->psql($to, sprintf 'SELECT ' . $self->e('subscribe'),
		q_($self->sub_name($from, $to)), q_($self->dsn($from)), $more || '');
	return;
}

# the name of a subscription made here, not by the worker
sub sub_name
{
	my ($self, $from, $to) = @_;
	my $name = "s_${from}_to_$to";
	return "${name}_x" if $name =~ /^[a-z0-9_]{1,50}$/;
	return 's_' . md5_hex($name) . '_x';
}

my $server_no = 0;

# a server with the database and the engine, which isn't a node yet; bare:
# without the engine; conf: more settings; database: options of the database
sub add_server
{
	my ($self, $name, %arg) = @_;
	my $node = PostgreSQL::Test::Cluster->new('server' . ++$server_no);
	my $conf = $arg{conf} || '';

	push @logs, $node->logfile;
	init($node);
	$node->append_conf('postgresql.conf', qq{
wal_level = logical
track_commit_timestamp = on
max_replication_slots = 40
max_wal_senders = 40
max_worker_processes = 40
max_connections = 60
wal_sender_timeout = 60s
shared_preload_libraries = '$engine,zodan_bgw'
zodan.database = 'postgres'
zodan.poll_interval = 60s
log_line_prefix = '%m [%p] %a '
log_min_messages = info
fsync = off
full_page_writes = off
shared_buffers = 64MB
max_wal_size = 2GB
autovacuum_naptime = 10s
} . $self->e('settings') . $self->{conf} . $conf);
	$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, test_decoding, " . $self->e('plugin') . "'")
	  if system_knows($node, 'output_plugin_libraries');
	$node->append_conf('postgresql.conf', 'max_active_replication_origins = 40') if system_knows($node, 'max_active_replication_origins');
	if ($self->{password})
	{
		$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nlog_statement = none\n");
		open my $hba, '>', $node->data_dir . '/pg_hba.conf' or die $!;
		print $hba "local all,replication all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n";
		close $hba;
	}
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE mesh LOGIN SUPERUSER PASSWORD ' . q_($self->{password})) if $self->{password};
	$node->safe_psql('postgres', 'CREATE DATABASE ' . ident($self->{dbname}) . ' ' . ($arg{database} || ''));
	$node->safe_psql('postgres', 'CREATE EXTENSION zodan_bgw');
	$self->{servers}{$name} = $node;
	$self->psql($name, "CREATE EXTENSION $engine") unless $arg{bare};
	return $node;
}

# a data directory: initdb makes the first of a server's only, the others, of all tests, are its copies
sub init
{
	my ($node) = @_;
	my $template = bless { path => $ENV{ZODAN_TEMPLATE} || "$PostgreSQL::Test::Utils::tmp_check/template" }, 'ZodanTemplate';
	if (-d $template->backup_dir . '/new')
	{
		$node->init_from_backup($template, 'new');
		identify($node);
		return;
	}
	$node->init(allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
	mkdir $template->backup_dir;
	# of tests that run at the same time one succeeds
	my $own = $template->backup_dir . "/$$";
	system('cp', '-a', $node->data_dir, $own) == 0 or die 'cp failed';
	rename $own, $template->backup_dir . '/new';
	return;
}

# Gives a copy a system identifier of its own, the first thing in pg_control;
# pg_resetwal mends the checksum and the WAL.
sub identify
{
	my ($node) = @_;
	my $dir = $node->data_dir;
	open my $control, '+<:raw', "$dir/global/pg_control" or die $!;
	print $control pack 'LL', map { int rand 2**31 } 1, 2;
	close $control or die $!;
	my ($out, $err) = ('', '');
	IPC::Run::run([ $node->config_data('--bindir') . '/pg_resetwal', '-f', $dir ], '>', \$out, '2>', \$err) or die "pg_resetwal: $err";
	return;
}

# does this server have a setting?
sub system_knows
{
	my ($node, $setting) = @_;
	my $postgres = $node->config_data('--bindir') . '/postgres';
	my ($out, $err) = ('', '');
	return IPC::Run::run([ $postgres, '-C', $setting, '-D', $node->data_dir, '-c', 'shared_preload_libraries=' ],
		'>', \$out, '2>', \$err);
}

sub server { return $_[0]->{servers}{ $_[1] }; }

# the crashes that the logs of all servers tell of
sub crashes { return ZodanLogs::crashes(@logs); }

sub dsn
{
	my ($self, $name) = @_;
	my $node = $self->server($name);
	return 'host=127.0.0.1 port=' . $node->port . ' dbname=' . dsn_value($self->{dbname}) . ' user=mesh password=' . dsn_value($self->{password})
	  if $self->{password};
	return 'host=' . $node->host . ' port=' . $node->port . ' dbname=' . dsn_value($self->{dbname}) . ' user=postgres'
	  if $ENV{USER} && $ENV{USER} eq 'postgres';
	return 'host=' . $node->host . ' port=' . $node->port . ' dbname=' . dsn_value($self->{dbname});
}

# psql in the cluster's database
sub psql
{
	my ($self, $name, $sql) = @_;
	return $self->server($name)->safe_psql($self->{dbname}, $sql);
}

# psql where the queue is, on a node's server: database "postgres", unless queue_db is set
sub queue
{
	my ($self, $name, $sql) = @_;
	return $self->server($name)->safe_psql($self->{queue_db} || 'postgres', $sql);
}

# files a request: new (name), src (default: the first node), on (whose server
# has the queue; default: the new one), and columns of zodan.requests
sub request
{
	my ($self, %arg) = @_;
	my $new = delete $arg{new};
	my $src = delete $arg{src} || $self->{order}[0];
	my $on = delete $arg{on} || $new;
	my %column = (
		src_node_name => $src,
		new_node_name => $new,
		%arg);
	$column{src_dsn} = $self->dsn($src) unless exists $arg{src_dsn};
	$column{new_node_dsn} = $self->dsn($new) unless exists $arg{new_node_dsn};
	my @names = sort keys %column;

	$self->{coordinator} = $on;
	return $self->queue($on, sprintf 'INSERT INTO zodan.requests (%s) VALUES (%s) RETURNING id',
		join(', ', @names), join(', ', map { defined $column{$_} ? q_($column{$_}) : "NULL" } @names));
}

# waits for a request's end and returns its state; tells why, if it isn't done
sub wait_for
{
	my ($self, $id, $on, $seconds) = @_;
	$on ||= $self->{coordinator};
	$seconds ||= 170;
	my $until = time + $seconds;
	my $state;
	# the coordinator may have been killed a moment ago
	until (defined($state = eval { $self->queue($on, "CALL zodan.wait($id, '$seconds s')") }))
	{
		last if time > $until || $@ =~ /is still/;
		usleep(100_000);
	}
	$state //= 'timeout';
	if ($state ne 'done' && !$self->{quiet})
	{
		diag($self->queue($on, "SELECT state, phase, detail, last_error, hint FROM zodan.status WHERE request_id = $id"));
		diag($self->discarded);
	}
	return $state;
}

# adds a node and waits
sub join_node
{
	my ($self, $new, %arg) = @_;
	my $id = $self->request(new => $new, %arg);
	my $state = $self->wait_for($id);
	note($self->queue($self->{coordinator}, "SELECT to_char(at, 'SS.MS'), phase, node, message FROM zodan.events WHERE request_id = $id ORDER BY id"));
	push @{ $self->{order} }, $new if $state eq 'done';
	return $state;
}

# waits until the subscriptions of a node are replicating; false: they don't
sub replicating
{
	my ($self, $name, $others) = @_;
	return $self->server($name)->poll_query_until($self->{dbname},
		'SELECT count(*) = ' . $others . ' FROM ' . $self->e('status') . " WHERE status = 'replicating'");
}

# When pglogical starts several workers at the same time it may lose one:
# another has taken its place in shared memory, so that it's thought to have
# died, and goes on; those that follow it can't have its origin. Then all
# workers of that node are ended.
sub end_lost_workers
{
	my ($self, @names) = @_;
	for my $name (@names)
	{
		local $PostgreSQL::Test::Utils::timeout_default = 60;
		next if $self->replicating($name, @names - 1);
		diag("$name has lost a worker: " . $self->psql($name, 'SELECT string_agg(concat_ws($$ $$, subscription_name, status), $$, $$) FROM ' . $self->e('status')));
		my @subscriptions = map { q_($_) } split /\n/, $self->psql($name, "SELECT sub_name FROM $engine.subscription");
		$self->psql($name, sprintf 'SELECT ' . $self->e('unsubscribed'), $_) for @subscriptions;
		$self->psql($name, "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE backend_type LIKE 'pglogical apply %'");
		$self->psql($name, sprintf 'SELECT ' . $self->e('enable'), $_) for @subscriptions;
	}
	return;
}

sub wait_replicating
{
	my ($self, @names) = @_;
	my $others = @names - 1;
	for my $name (@names)
	{
		$self->replicating($name, $others) or die "subscriptions of $name don't replicate";
		$self->server($name)->poll_query_until($self->{dbname},
			"SELECT count(*) = $others FROM pg_replication_slots WHERE active AND plugin = '" . $self->e('plugin') . "'")
		  or die "slots of $name aren't in use";
	}
	return;
}

# waits until every node has what was committed on every other; of all nodes,
# or of some
sub settle
{
	my ($self, @names) = @_;
	@names = @{ $self->{order} } unless @names;
	for my $name (@names)
	{
		my @slots = map {
			$self->psql($_, "SELECT s.sub_slot_name FROM $engine.subscription s JOIN $engine.node n ON n.node_id = s.sub_origin"
				  . ' WHERE n.node_name = ' . q_($name))
		} grep { $_ ne $name } @names;
		my $lsn = $self->psql($name, "SELECT pg_logical_emit_message(true, 'test', 'settle')");
		$self->server($name)->poll_query_until($self->{dbname},
			'SELECT count(*) = ' . @slots . " FROM pg_replication_slots WHERE confirmed_flush_lsn >= '$lsn' AND slot_name IN ("
			  . join(', ', "''", map { q_($_) } @slots) . ')') or die "the readers of $name don't follow";
	}
	return;
}

# one line a table: its name, rows and checksum of rows, on a node
sub checksums
{
	my ($self, $name) = @_;
	my $tables = $self->psql($name, q{
		SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'spock', 'pglogical', 'zodan')
		   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		 ORDER BY 1});
	my @sums = map {
		'SELECT ' . q_($_) . " || ' ' || count(*) || '|' || coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint::numeric), 0) FROM ONLY $_ AS t"
	} split /\n/, $tables;
	return '' unless @sums;
	return $self->psql($name, 'SELECT line FROM (' . join(' UNION ALL ', @sums) . ') AS x (line) ORDER BY line COLLATE "C"') . "\n";
}

# tables that differ between any two nodes: '' if none
sub differences
{
	my ($self, @names) = @_;
	@names = @{ $self->{order} } unless @names;
	my $first = shift @names;
	my $want = $self->checksums($first);
	my @different;
	for my $name (@names)
	{
		my $got = $self->checksums($name);
		next if $got eq $want;
		my %want = map { /^(.*) (\S+)$/ } split /\n/, $want;
		my %got = map { /^(.*) (\S+)$/ } split /\n/, $got;
		push @different, map { "$_: $first " . ($want{$_} // 'none') . ", $name " . ($got{$_} // 'none') }
		  grep { ($want{$_} // '') ne ($got{$_} // '') } sort keys %{ { %want, %got } };
	}
	return join "\n", @different;
}

# ---------- waiting and holding ----------

# waits until a statement says t, where the queue is
sub wait_queue
{
	my ($self, $sql, $on) = @_;
	$on ||= $self->{coordinator};
	for (;;)
	{
		my $reached = eval { $self->server($on)->poll_query_until($self->{queue_db} || 'postgres', $sql) };
		return $reached unless $@;
		# psql may have ended, its server being down, before it was told the statement
		die $@ unless $@ =~ /Broken pipe/;
	}
}

# waits until a request is in a phase; dies if it has got past it
sub wait_phase
{
	my ($self, $id, $phase) = @_;
	$self->wait_queue("SELECT coalesce(phase_no, 0) >= (SELECT phase_no FROM zodan.phases(operation) p WHERE p.phase = '$phase')"
		  . " OR state IN ('done', 'failed', 'cancelled') FROM zodan.status WHERE request_id = $id");
	my $found = $self->queue($self->{coordinator}, "SELECT concat_ws(' ', state, phase, last_error) FROM zodan.status WHERE request_id = $id");
	die "request $id, which should be in phase $phase, is $found" unless $found =~ /^\w+ $phase\b/;
	return 1;
}

# A gate: SQL for a domain "gated" whose values can't get into a table of a
# node while hold_gate() holds that node. The copy, or an apply worker, waits
# there, so that a test may do what it wants in the middle of it.
our $gate = q{
	CREATE FUNCTION public.gate(int) RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_catalog.pg_advisory_lock_shared(4711);
		PERFORM pg_catalog.pg_advisory_unlock_shared(4711);
		RETURN true;
	END $$;
	CREATE DOMAIN public.gated AS int CHECK (public.gate(VALUE));
};

# a session in the cluster's database that stays
sub session
{
	my ($self, $name, @sql) = @_;
	my $session = $self->server($name)->background_psql($self->{dbname}, on_error_stop => 1);
	$session->query_safe($_) for @sql;
	return $session;
}

# closes a node's gate until ->quit
sub hold_gate
{
	my ($self, $name) = @_;
	return $self->session($name, 'SELECT pg_advisory_lock(4711)');
}

# waits until somebody stands before a node's gate
sub wait_gate
{
	my ($self, $name) = @_;
	return $self->server($name)->poll_query_until($self->{dbname},
		"SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted");
}

# after a server's crash pglogical's workers would take their time
sub replicate_again
{
	my ($self) = @_;
	for my $node ($engine eq 'pglogical' ? @{ $self->{order} } : ())
	{
		for my $sub (split /\n/, $self->psql($node, "SELECT sub_name FROM $engine.subscription"))
		{
			$self->psql($node, sprintf 'SELECT ' . $self->e($_), q_($sub)) for qw(unsubscribed enable);
		}
	}
	return $self->wait_replicating(@{ $self->{order} });
}

# sets where a node's server lets a request fail or stop: see worker/base/failpoint.c
sub failpoints
{
	my ($self, $name, $setting) = @_;
	my $server = $self->server($name);
	$server->append_conf('postgresql.conf', "zodan.failpoints = '$setting'\n");
	$server->reload;
	$server->poll_query_until('postgres', "SELECT current_setting('zodan.failpoints') = '$setting'")
	  or die "$name doesn't know zodan.failpoints";
	return;
}

# waits until a request stands at a point; returns a sub that lets it go on
sub wait_failpoint
{
	my ($self, $name, $point) = @_;
	my $file = $self->server($name)->data_dir . "/zodan_failpoints/$point";
	$self->wait_queue("SELECT (pg_stat_file('zodan_failpoints/$point', true)).size IS NOT NULL", $name)
	  or die "$point isn't reached";
	return sub { unlink $file or die "$file: $!" };
}

# ---------- servers that go back in time ----------

# the files of a server that is stopped, kept under a name; and put back
sub keep_files
{
	my ($self, $name, $as) = @_;
	my $dir = $self->server($name)->data_dir;
	system('rm', '-rf', "$dir.$as") == 0 && system('cp', '-a', $dir, "$dir.$as") == 0 or die 'cp failed';
	return;
}

sub restore_files
{
	my ($self, $name, $from) = @_;
	my $dir = $self->server($name)->data_dir;
	system('rm', '-rf', $dir) == 0 && system('cp', '-a', "$dir.$from", $dir) == 0 or die 'cp failed';
	return;
}

# the database of a node is made anew; pglogical's supervisor would let that wait for ever
sub remake
{
	my ($self, $name) = @_;
	my $server = $self->server($name);
	$server->append_conf('postgresql.conf', "shared_preload_libraries = 'zodan_bgw'");
	$server->restart;
	$server->safe_psql('postgres', 'DROP DATABASE inventory WITH (FORCE)');
	$server->safe_psql('postgres', 'CREATE DATABASE inventory');
	$server->append_conf('postgresql.conf', "shared_preload_libraries = '$engine,zodan_bgw'");
	$server->restart;
	$self->psql($name, "CREATE EXTENSION $engine");
	return;
}

# a server whose files are those of a standby starts, and becomes the primary
sub promote
{
	my ($self, $name) = @_;
	my $server = $self->server($name);
	$server->set_standby_mode;
	$server->start;
	$server->promote;
	$server->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die "$name is not promoted";
	return;
}

# ---------- looking for what is left ----------

# what an engine could not apply, and has discarded, on any node that can be asked
sub discarded
{
	my ($self) = @_;
	return join "\n", map {
		my $name = $_;
		eval { $self->psql($name, "SELECT '$name', x FROM spock.exception_log AS x LIMIT 10") } || ();
	} sort keys %{ $self->{servers} };
}

# everything that a join could leave on a node: the engine's catalogs, slots,
# origins, settings of the database, and the structure
sub state_of
{
	my ($self, $name) = @_;
	my @catalogs = map { "SELECT '$_ ' || x::text AS line FROM $engine.$_ AS x" }
	  qw(node node_interface local_node subscription replication_set replication_set_table replication_set_seq);

	return $self->psql($name, "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (" . join(' UNION ALL ', @catalogs, qq{
		SELECT format('sync %s %s %s.%s %s', sync_kind, sync_subid, sync_nspname, sync_relname, sync_status)
		  FROM $engine.local_sync_status
		UNION ALL SELECT format('slot %s %s', slot_name, plugin) FROM pg_replication_slots
		UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
		UNION ALL SELECT format('database %s %s', datname, datconnlimit) FROM pg_database
		UNION ALL SELECT 'setting ' || s::text FROM pg_db_role_setting s
		UNION ALL SELECT 'role ' || rolname FROM pg_roles
		UNION ALL SELECT format('prepared %s', gid) FROM pg_prepared_xacts}) . ') AS x')
	  . "\n" . $self->dump($name);
}

# what differs between two texts, line by line
sub text_difference
{
	my ($self, $before, $after) = @_;
	my (%before, %after);
	$before{$_}++ for split /\n/, $before;
	$after{$_}++ for split /\n/, $after;
	return join "\n", (map { "gone: $_" } grep { ($after{$_} // 0) < $before{$_} } sort keys %before),
	  (map { "new: $_" } grep { ($before{$_} // 0) < $after{$_} } sort keys %after);
}

# the structure of a node's database, as pg_dump tells it
sub dump
{
	my ($self, $name, @options) = @_;
	my $node = $self->server($name);
	my ($out, $err) = ('', '');

	IPC::Run::run([ $node->config_data('--bindir') . '/pg_dump', '--schema-only', @options, '--dbname', $self->dsn($name) ],
		'>', \$out, '2>', \$err) or die "pg_dump: $err";
	# what differs from run to run
	$out =~ s/^\\(un)?restrict .*\n//mg;
	$out =~ s/^-- Dumped .*\n//mg;
	return $out;
}

# what a join that has ended has left where it should be gone: '' if nothing
sub leftovers
{
	my ($self, $id, @names) = @_;
	my $left;

	@names = sort keys %{ $self->{servers} } unless @names;
	# a session's process ends a little after its client does
	for (1 .. 100)
	{
		$left = join "\n", map {
			my $name = $_;
			map { "$name: $_" } split /\n/, $self->psql($name, q{
				SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name LIKE 'zodan%' OR slot_name LIKE '%catchup%' OR temporary
				UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin WHERE roname LIKE 'zodan%' OR roname LIKE '%catchup%'
				UNION ALL SELECT 'connection limit of ' || datname FROM pg_database WHERE datconnlimit <> -1
				UNION ALL SELECT 'session of ' || application_name FROM pg_stat_activity
				           WHERE application_name LIKE 'zodan%' AND backend_type = 'client backend'
				UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc
				           WHERE proname LIKE 'zodan%' AND pronamespace::regnamespace::text <> 'zodan'})
		} @names;
		last if $left eq '';
		usleep(100_000);
	}
	$left .= "\ndirectory $_" for $self->work_directories($id);
	return $left;
}

# where a request keeps its files
sub work_directories
{
	my ($self, $id, $on) = @_;
	return glob($self->server($on || $self->{coordinator})->data_dir . "/zodan/${id}_*");
}

# the kinds of things that a request on $on has made, and what became of them
sub kinds
{
	my ($self, $on, $id) = @_;
	return $self->queue($on, "SELECT string_agg(DISTINCT concat_ws(' ', e.kind, e.state), ', ') FROM zodan.effects e WHERE request_id = $id");
}

sub stop
{
	my ($self) = @_;
	$_->stop('fast') for values %{ $self->{servers} };
	return;
}

# what init_from_backup() asks for
package ZodanTemplate;

sub name { return 'template'; }
sub backup_dir { return $_[0]->{path}; }

1;
