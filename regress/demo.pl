# The demo: three nodes that keep writing, and a fourth that joins them.
# Run by "make demo", inside regress/sandbox.sh, which stops what still runs
# at the end. KEEP=1 leaves it all running and says how to connect.
#
# DEMO_ORDERS: rows to begin with; DEMO_RATE: transactions/s on each node.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use File::Basename qw(dirname);
use FindBin;
use lib "$FindBin::RealBin/perl";
use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use IPC::Open3 qw(open3);
use JSON::PP qw(decode_json);
use List::Util qw(max min sum0);
use Text::Wrap ();
use Time::HiRes qw(sleep time);
use ZodanLogs;

my $scratch = $ENV{ZODAN_SCRATCH} || die "run 'make demo'\n";
my $orders = $ENV{DEMO_ORDERS} || 300_000;
my $rate = $ENV{DEMO_RATE} || 500;
my @existing = qw(n1 n2 n3);
my $new = 'n4';
my @all = (@existing, $new);
my @tables = qw(customers orders payments);

my $terminal = -t STDOUT;
my $width = min(100, $terminal ? (split ' ', `stty size 2>/dev/null` || '24 80')[1] || 80 : 80) - 1;
my $bar = '';    # what stands on the terminal's last line

my (%port, %password, %writer, $bin);

STDOUT->autoflush(1);
$SIG{INT} = $SIG{TERM} = $SIG{HUP} = sub { show(''); print "\nstopped\n"; exit 130; };
END { kill 'TERM', values %writer if %writer && !($ENV{KEEP} && $? == 0); }

# ---------- what a person sees ----------

# replaces the terminal's last line
sub show
{
	my ($text) = @_;
	print "\r\e[K", substr($text, 0, $width) if $terminal && ($text ne '' || $bar ne '');
	$bar = $text;
	return;
}

sub line
{
	my ($text) = @_;
	show('');
	print "$text\n";
	return;
}

sub wrapped
{
	my ($first, $next, $text) = @_;
	local ($Text::Wrap::columns, $Text::Wrap::unexpand) = ($width + 1, 0);
	line(Text::Wrap::wrap($first, $next, $text));
	return;
}

my $step = 0;

sub step
{
	my ($title, $why) = @_;
	line('');
	line(++$step . ". $title");
	wrapped('   ', '   ', $why) if $why;
	return;
}

sub thousands
{
	my ($number) = @_;
	1 while $number =~ s/^(\d+)(\d{3})/$1,$2/;
	return $number;
}

sub fail
{
	my ($why) = @_;
	show('');
	print "\nFAILED: $why\n";
	print "$_\n" for ZodanLogs::crashes(glob "$scratch/n?.log");
	exit 1;
}

# ---------- servers ----------

# runs a program; its output, or the end of the demo
sub run
{
	my ($input, @command) = @_;
	my $pid = open3(my $in, my $out, undef, @command);
	print $in $input;
	close $in;
	my $output = do { local $/; <$out> };
	waitpid($pid, 0);
	fail("$command[0] says:\n$output") if $?;
	chomp $output;
	return $output;
}

# does the same for several nodes, side by side
sub on_each
{
	my ($nodes, $do) = @_;
	my @pids;
	for my $node (@$nodes)
	{
		my $pid = fork() // die "fork: $!";
		push @pids, $pid;
		next if $pid;
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
		%writer = ();
		$do->($node);
		exit 0;
	}
	my $failed = grep { waitpid($_, 0); $? } @pids;
	exit 1 if $failed;
	return;
}

# passwords are in the file that PGPASSFILE names, not in arguments
sub psql_command
{
	my ($node, $db, @options) = @_;
	return ("$bin/psql", '-XqAt', '-v', 'ON_ERROR_STOP=1', @options, '-h', '127.0.0.1', '-p', $port{$node}, '-U', 'shop_admin', $db);
}

sub sql
{
	my ($node, $sql, $db) = @_;
	return run($sql, psql_command($node, $db || 'shop'));
}

# the same with a heading for each column, one line a value
sub sql_record
{
	my ($node, $sql, $db) = @_;
	return run($sql, psql_command($node, $db, '-P', 'format=wrapped', '-P', 'columns=' . ($width - 3), '-P', 'expanded=on'));
}

sub until_true
{
	my ($what, $node, $sql) = @_;
	my $end = time + 60;
	until (sql($node, $sql) eq 't')
	{
		fail("after 60 s still waiting: $what") if time > $end;
		sleep 0.05;
	}
	return;
}

sub dsn
{
	my ($node) = @_;
	return "host=127.0.0.1 port=$port{$node} dbname=shop user=shop_admin password=$password{$node}";
}

# free ports, and a password for each server
sub choose
{
	my @sockets = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') || die "no free port: $!" } @all;
	@port{@all} = map { $_->sockport } @sockets;
	open(my $random, '<', '/dev/urandom') || die $!;
	read($random, my $bytes, 16 * @all);
	@password{@all} = unpack('H32' x @all, $bytes);
	$ENV{PGPASSFILE} = "$scratch/passwords";
	umask 0077;
	write_file('passwords', map { "127.0.0.1:$port{$_}:*:shop_admin:$password{$_}\n" } @all);
	return;
}

sub write_file
{
	my ($name, @text) = @_;
	open(my $file, '>', "$scratch/$name") || die "$scratch/$name: $!";
	print $file @text;
	close $file || die $!;
	return;
}

sub read_file
{
	my ($name) = @_;
	open(my $file, '<', "$scratch/$name") || return '';
	local $/;
	return scalar <$file>;
}

# a server with the empty database and pglogical in it
sub start_server
{
	my ($node) = @_;
	my $dir = "$scratch/$node";
	my $libraries = $node eq $new ? 'pglogical, zodan_bgw' : 'pglogical';

	write_file("$node.password", $password{$node});
	run('', "$bin/initdb", '-D', $dir, '-U', 'shop_admin', '-A', 'scram-sha-256', "--pwfile=$scratch/$node.password",
		'-E', 'UTF8', '--locale=C.UTF-8', '--no-sync');
	# a server of the newest releases has a list of the output plugins it trusts, and one of 18 a limit for origins
	my ($list, $origins) = map { scalar `'$bin/postgres' -C $_ -D '$dir' 2>/dev/null` } qw(output_plugin_libraries max_active_replication_origins);
	write_file("$node/postgresql.auto.conf", qq{
listen_addresses = '127.0.0.1'
port = $port{$node}
unix_socket_directories = ''
shared_preload_libraries = '$libraries'
wal_level = logical
track_commit_timestamp = on
max_replication_slots = 20
max_wal_senders = 20
max_worker_processes = 20
pglogical.conflict_resolution = 'last_update_wins'
fsync = off   # nothing here has to outlive the machine
shared_buffers = 64MB
max_wal_size = 4GB
log_line_prefix = '%m [%p] %a '
}, $list =~ /\S/ ? "output_plugin_libraries = 'pgoutput, pglogical_output'\n" : '', $origins =~ /\S/ ? "max_active_replication_origins = 20\n" : '');
	run('', "$bin/pg_ctl", '-D', $dir, '-l', "$scratch/$node.log", '-w', '-s', 'start');
	sql($node, 'CREATE DATABASE shop', 'postgres');
	sql($node, 'CREATE EXTENSION pglogical');
	return;
}

# ---------- the three nodes ----------

sub make_node
{
	my ($node) = @_;
	sql($node, qq{
		CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, since date);
		CREATE TABLE orders (id bigint PRIMARY KEY, customer int REFERENCES customers, item text, amount numeric(10, 2), changed timestamptz);
		CREATE INDEX ON orders (customer);
		CREATE TABLE payments (id uuid PRIMARY KEY, customer int REFERENCES customers, amount numeric(10, 2), node text);
		INSERT INTO customers SELECT i, 'customer ' || i, date '2020-01-01' + i FROM generate_series(1, 1000) i;
		INSERT INTO orders SELECT i, i % 1000 + 1, repeat(md5(i::text), 4), i % 100, '2024-01-01' FROM generate_series(1, $orders) i;
		VACUUM ANALYZE;
		SELECT pglogical.create_node('$node', '@{[dsn($node)]}');
		SELECT pglogical.replication_set_add_all_tables('default', '{public}')});
	return;
}

# each replicates from all others, and passes on only what was written on it
sub connect_nodes
{
	my ($node) = @_;
	for my $from (grep { $_ ne $node } @existing)
	{
		sql($node, qq{SELECT pglogical.create_subscription('${from}_to_$node', '@{[dsn($from)]}',
			synchronize_data := false, forward_origins := '{}')});
	}
	until_true("$node replicates", $node, q{SELECT count(*) = 2 FROM pglogical.show_subscription_status() WHERE status = 'replicating'});
	return;
}

# ---------- writers ----------

# each node writes rows of its own, as one cluster for several places would;
# the n-th node's orders are those with id % 4 = n
sub start_writer
{
	my ($node) = @_;
	my $number = substr($node, 1);
	write_file("writer.$node.sql", qq{
\\set id 4 * random(0, @{[int $orders / 2]}) + $number
\\set customer random(1, 1000)
\\set what random(1, 100)
\\if :what <= 40
UPDATE orders SET amount = amount + 1, changed = now() WHERE id = :id;
\\elif :what <= 60
INSERT INTO orders VALUES (:id, :customer, 'upsert', 1, now()) ON CONFLICT (id) DO UPDATE SET item = 'upsert', changed = now();
\\elif :what <= 80
DELETE FROM orders WHERE id = :id;
\\else
INSERT INTO payments VALUES (gen_random_uuid(), :customer, :what, '$node');
\\endif
});
	my $pid = fork() // die "fork: $!";
	if (!$pid)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', "$scratch/writer.$node.log");
		open(STDERR, '>&', \*STDOUT);
		exec "$bin/pgbench", '-n', '-f', "$scratch/writer.$node.sql", '-c', 2, '-R', $rate, '-T', 3600,
		  '-P', 1, '--progress-timestamp', '-h', '127.0.0.1', '-p', $port{$node}, '-U', 'shop_admin', 'shop';
		die "pgbench: $!";
	}
	$writer{$node} = $pid;
	return;
}

sub stop_writers
{
	for my $node (sort keys %writer)
	{
		# it may only end by our signal
		fail("the writer on $node has ended:\n" . read_file("writer.$node.log")) if waitpid($writer{$node}, 1);
		kill 'INT', $writer{$node};
		waitpid($writer{$node}, 0);
		fail("the writer on $node failed:\n" . read_file("writer.$node.log"))
		  if read_file("writer.$node.log") =~ /error|aborted/i;
	}
	%writer = ();
	return;
}

# transactions/s of all writers between two times
sub rate
{
	my ($from, $to) = @_;
	my $sum = 0;
	for my $node (@existing)
	{
		my @tps;
		for (split /\n/, read_file("writer.$node.log"))
		{
			# a line tells about the second before it
			push @tps, $2 if /^progress: ([\d.]+) s, ([\d.]+) tps/ && $1 - 0.5 >= $from && $1 - 0.5 <= $to;
		}
		$sum += sum0(@tps) / @tps if @tps;
	}
	return int($sum + 0.5);
}

# ---------- the join ----------

# files the request, and follows it by LISTEN until it ends; returns its id,
# its last state, and all that was told
sub join_node
{
	my ($insert) = @_;
	my %phase = map { split /\t/, $_, 2 }
	  split /\n/, sql($new, q{SELECT format(E'%s\t%s', phase, description) FROM zodan.phases()}, 'postgres');
	my $pid = open3(my $in, my $out, undef, psql_command($new, 'postgres'));
	my $select = IO::Select->new($out);
	my ($buffer, $all, $id, $state, $phase, $since) = ('', '', undef, '', '', time);
	my $end = time + 300;
	my $last = {};

	my $phase_done = sub {
		wrapped(sprintf('   %2d %-25s%5.1f s  ', $last->{phase_no}, $phase, time - $since), ' ' x 40, $phase{$phase}) if $phase;
		$since = time;
	};

	$in->autoflush(1);
	print $in "LISTEN zodan_progress;\n$insert\n";
	while (!grep { $state eq $_ } qw(done failed cancelled))
	{
		# psql looks for notifications after each statement
		print $in "SELECT 1;\n";
		if ($select->can_read(0.2))
		{
			sysread($out, $buffer, 65536, length $buffer) || fail("the connection to $new is lost: $buffer");
		}
		while ($buffer =~ s/^(.*)\n//)
		{
			my $text = $1;
			$all .= "$text\n";
			$id //= $1 if $text =~ /^(\d+)$/;
			fail($text) if $text =~ /^ERROR/;
			next unless $text =~ /^Asynchronous notification "zodan_progress" with payload "(\{.*\})" received/;
			my $note = decode_json($1);
			$state = $note->{state};
			if (($note->{phase} // '') ne $phase)
			{
				$phase_done->();
				$phase = $note->{phase} // '';
			}
			$last = $note;
			line(sprintf '   %5.1f %%  %s', $last->{percent}, $last->{detail})
			  if !$terminal && $phase && $last->{detail} ne $phase{$phase};
		}
		if ($phase)
		{
			my $cells = $width - 54;
			my $full = int($cells * $last->{percent} / 100);
			show(sprintf('   [%s%s] %3d %%  %2d of %d: %s', '#' x $full, '.' x ($cells - $full), $last->{percent},
				$last->{phase_no}, $last->{phases}, $last->{detail} || $phase));
		}
		fail("not done after 300 s; the last that was told:\n$all") if time > $end;
		sleep 0.05;
	}
	$phase_done->();
	show('');
	close $in;
	waitpid($pid, 0);
	return ($id, $state, $all);
}

# ---------- the proof ----------

# waits until every node has what was committed on every other: that its
# readers have confirmed it
sub settle
{
	for my $node (@all)
	{
		my $lsn = sql($node, q{SELECT pg_logical_emit_message(true, 'demo', 'the end')});
		until_true("all read what $node wrote", $node, qq{SELECT count(*) = 3 AND bool_and(confirmed_flush_lsn >= '$lsn')
			FROM pg_replication_slots WHERE plugin = 'pglogical_output'});
	}
	return;
}

# counts, and a checksum over all rows in the order of the key; says whether all agree
sub compare
{
	my $same = 1;
	on_each(\@all, sub {
		my ($node) = @_;
		write_file("$node.rows", map { sql($node, qq{SELECT '$_', count(*), md5(string_agg(t::text, E'\\n' ORDER BY id)) FROM $_ t}) . "\n" } @tables);
	});
	line(sprintf '   %-12s' . '%12s' x @all, 'rows of', @all);
	for my $table (@tables)
	{
		my @rows = map { [ read_file("$_.rows") =~ /^$table\|(\d+)\|(\w*)$/m ] } @all;
		my $equal = !grep { "@$_" ne "@{$rows[0]}" } @rows;
		line(sprintf '   %-12s' . '%12s' x @all . '  %s', $table, (map { thousands($_->[0]) } @rows), $equal ? 'same rows' : 'DIFFERENT');
		$same &&= $equal;
	}
	return $same;
}

# ---------- main ----------

my $started = time;
$bin = run('', $ENV{PG_CONFIG}, '--bindir');
-e run('', $ENV{PG_CONFIG}, '--sharedir') . '/extension/pglogical.control'
  || fail("the server of $ENV{PG_CONFIG} has no pglogical");

line('zodan_bgw: a fourth node joins three that never stop writing');
line('');
wrapped('', '', "All servers run on 127.0.0.1, in $scratch, "
	  . ($ENV{KEEP} ? 'and are left running.' : 'and are gone afterwards (KEEP=1 leaves them).'));

step('Build the extension');
run('', 'sh', dirname($0) . '/server.sh', $ENV{PG_CONFIG}, "$scratch/server");
$bin = "$scratch/server$bin";

choose();
step('Start three nodes, each replicating from both others',
	'Every node takes writes and has all rows: ' . thousands($orders) . ' orders to begin with.');
on_each(\@all, \&start_server);
on_each(\@existing, \&make_node);
on_each(\@existing, \&connect_nodes);
line("   $_") for split /\n/, sql('n1', q{SELECT format('PostgreSQL %s, pglogical %s, %s of data on each node', split_part(current_setting('server_version'), ' ', 1), extversion,
	pg_size_pretty(pg_database_size('shop'))) FROM pg_extension WHERE extname = 'pglogical'});

step('Start writers on all three',
	"Inserts, updates, deletes and upserts, @{[thousands($rate)]} transactions/s on each node. They don't stop before the join is done.");
start_writer($_) for @existing;
sleep 4;

step('Ask for the fourth node',
	"$new is an empty server with zodan_bgw. To ask is to insert a row there; a background worker does the rest.");
sql($new, 'CREATE EXTENSION zodan_bgw', 'postgres');
my $insert = qq{
   INSERT INTO zodan.requests
          (src_node_name, src_dsn, new_node_name, new_node_dsn)
   VALUES ('n1', '@{[dsn('n1')]}',
           'n4', '@{[dsn('n4')]}')
   RETURNING id;
};
(my $shown = $insert) =~ s/password=\w+/password=.../g;
$shown =~ s/ (user=)/\n                 $1/g;
line($shown);
line('   What LISTEN zodan_progress tells:');
my $from = time;
my ($id, $state, $told) = join_node($insert);
my $to = time;

step('What the server says', "SELECT * FROM zodan.status WHERE request_id = $id (some of its columns)");
line("   $_") for split /\n/, sql_record($new, qq{
	SELECT operation, node, source, engine, state, phase, format('%s of %s', phase_no, phases) AS phase_no, percent, detail,
	       pg_size_pretty(bytes_copied) AS copied, attempt, last_error, hint, requested_by, elapsed
	  FROM zodan.status WHERE request_id = $id}, 'postgres');
if ($state ne 'done')
{
	line($_) for '', sql($new, "SELECT node, check_name, found, expected, what_to_do FROM zodan.check_failures WHERE request_id = $id", 'postgres'),
	  "the last lines of ${new}'s log:", (split /\n/, read_file("$new.log"))[ -10 .. -1 ];
	fail("the request is $state");
}

step('Compare every row',
	"The new node writes, too. Then all writers stop, and when the last change has arrived everywhere, all rows are compared.");
start_writer($new);
sleep 2;
stop_writers();
settle();
my $same = compare();
line('');
my ($before, $during) = (rate($from - 3, $from), rate($from, $to));
line(sprintf '   Writers: %s transactions/s before the join, %s during its %.1f s.', thousands($before), thousands($during), $to - $from);

# neither what it told nor what it stored nor what it logged holds a password
my $stored = run('', "$bin/pg_dump", '-h', '127.0.0.1', '-p', $port{$new}, '-U', 'shop_admin', '-n', 'zodan', 'postgres')
  . sql($new, 'SELECT * FROM zodan.requests; SELECT * FROM zodan.status; SELECT * FROM zodan.events', 'postgres');
my @leaks = grep { my $secret = $_; grep { index($_, $secret) >= 0 } $told, $stored, map { read_file("$_.log") } @all } values %password;
line('   Passwords in what it told, stored or logged: ' . (@leaks ? 'FOUND' : 'none.'));

my @crashes = ZodanLogs::crashes(map { "$scratch/$_.log" } @all);
line('   Crashes in the logs of the servers: ' . (@crashes ? 'FOUND' : 'none.'));

line('');
fail(join "\n", 'a server has crashed', @crashes) if @crashes;
fail('the nodes differ') unless $same;
fail('a password can be read') if @leaks;
line(sprintf 'All four nodes agree: no write was lost, none was stopped. (%.0f s)', time - $started);
if ($ENV{KEEP})
{
	line('');
	line('Still running (without writers):');
	line("   PGPASSFILE=$scratch/passwords psql -h 127.0.0.1 -p $port{$_} -U shop_admin shop   # $_") for @all;
	line('   zodan.status is in the database "postgres" of n4. To stop and remove it all:');
	line("   sh $scratch/stop");
}
