# Measures the copy: zodan_bgw against the same done by hand (pg_dump, pipes of
# COPY, pg_restore), pgcopydb, and the engine's own initial synchronization, on
# the same data and the same two servers, one after the other. Prints seconds
# and ratios; nothing is asserted but that the rows are the same.
#
# BENCH_MB (400) is the size of a set's rows, BENCH_JOBS (2) what works at a
# time, BENCH_SETS names those to run, BENCH_ROUNDS (1) is how often.
# BENCH_CONTENDERS names what zodan_bgw is compared with, divided by commas.
#
# zodan_bgw leaves tables with statistics, as pgcopydb does; what gathering them
# afterwards takes is printed with the others' seconds, not counted in them.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use File::Path qw(rmtree);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use List::Util qw(max min);
use Time::HiRes qw(time usleep);
use ZodanCluster;
use Test::More;

ZodanCluster::plan_or_skip();

my $mb = $ENV{BENCH_MB} || 400;
my $jobs = $ENV{BENCH_JOBS} || 2;
my $rounds = $ENV{BENCH_ROUNDS} || 1;

# as servers are that nobody tests, with room for the data
my $conf = "fsync = on\nfull_page_writes = on\nautovacuum_naptime = 1min\nlog_statement = none\nshared_buffers = 512MB\nmax_wal_size = 16GB\nmaintenance_work_mem = 64MB\n"
  . "checkpoint_timeout = 1h\nautovacuum = off\nmax_locks_per_transaction = 1024\n";

# a table of so many MB, with rows of about 200 bytes, and indexes on some of its columns
sub plain
{
	my ($name, $size, @indexed) = @_;
	my $rows = int($size * 5000);
	return "CREATE TABLE $name (id int PRIMARY KEY, a int, b text, c timestamptz, d numeric, e text, f bigint);"
	  . "INSERT INTO $name SELECT i, hashint4(i), md5(i::text), now() - i * interval '1 s', i * 1.25, repeat(md5(i::text), 3), hashint8(i)"
	  . " FROM generate_series(1, $rows) i;"
	  . join('', map { "CREATE INDEX ON $name ($_);" } @indexed);
}

my %sets = (
	a => [ '8 tables of the same size, 32 indexes', sub { map { plain("t$_", $mb / 8, 'a', 'b', 'c') } 1 .. 8 } ],
	b => [ 'one table with 90 % of the rows', sub { plain('large', $mb * 0.9, 'a'), map { plain("t$_", $mb / 40, 'a') } 1 .. 4 } ],
	c => [ '2,000 tables of 200 rows', sub { map { plain("t$_", 0.04) } 1 .. 2000 } ],
	d => [ 'wide rows, stored out of line', sub {
		map { my $n = $_; "CREATE TABLE t$n (id int PRIMARY KEY, doc text); ALTER TABLE t$n ALTER doc SET STORAGE EXTERNAL;"
			  . "INSERT INTO t$n SELECT i, repeat(md5((i * $n)::text), 1000) FROM generate_series(1, " . int($mb * 32 / 4) . ') i;' } 1 .. 4 } ],
	e => [ 'a table with 12 indexes', sub { plain('t', $mb / 2, qw(a b c d e f), '(a, c)', '(f, id)', 'lower(b)', 'left(b, 8)', '(d, a)') =~ s/\(\((.*?)\)\)/($1)/gr } ],
	short => [ 'the 8 tables, a snapshot every second', sub { map { plain("t$_", $mb / 8, 'a', 'b', 'c') } 1 .. 8 }, "zodan.snapshot_max_age = 1s\n" ],
	twice => [ 'the 8 tables, twice as large', sub { map { plain("t$_", $mb / 4, 'a', 'b', 'c') } 1 .. 8 } ],
	tenfold => [ 'the 8 tables, ten times as large', sub { map { plain("t$_", $mb * 10 / 8) } 1 .. 8 } ],
);
# files are made more slowly by some file systems when many were removed shortly before, as after each set
my @names = split ' ', $ENV{BENCH_SETS} || 'c a b d e short twice tenfold';

my $c;
my $bin;

sub shell
{
	my ($script) = @_;
	my $out = '';
	IPC::Run::run([ 'sh', '-e', '-c', $script ], '>', \$out, '2>&1') or die "$script: $out";
	return $out;
}

# without quotes, which are in the way in other languages
sub source { return $c->dsn('n1') =~ s/'//gr; }

# an empty database on the new server, and its DSN; it stays, since pglogical's
# supervisor lets DROP DATABASE wait for ever
my $databases = 0;
sub database
{
	my $name = 'target' . ++$databases;
	$c->queue('n2', "CREATE DATABASE $name");
	return ($name, $c->dsn('n2') =~ s/dbname=\S+/dbname=$name/r);
}

# what it takes to gather the statistics of a database, by as many sessions
sub analyze
{
	my ($target) = @_;
	my $started = time;
	shell("'$bin/vacuumdb' --analyze-only --quiet -j $jobs -d '$target'");
	return time - $started;
}

sub by_hand
{
	my ($source, $dir) = (source(), PostgreSQL::Test::Utils::tempdir());
	my ($database, $target) = database();
	my $started = time;
	shell("cd $dir
		'$bin/pg_dump' -Fc --schema-only -N pglogical -e plpgsql -f dump '$source'
		'$bin/pg_restore' --section=pre-data -d '$target' dump
		'$bin/psql' -XAtq -c \"SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY pg_table_size(oid) DESC\" '$source' > tables
		xargs -P $jobs -I TABLE sh -c \"'$bin/psql' -Xq -c 'COPY TABLE TO STDOUT (FORMAT binary)' '$source' | '$bin/psql' -Xq -c 'COPY TABLE FROM STDIN (FORMAT binary)' '$target'\" < tables
		'$bin/pg_restore' --section=post-data -j $jobs -d '$target' dump");
	my $seconds = time - $started;
	return { seconds => $seconds, analyze => analyze($target), database => $database };
}

sub pgcopydb
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my ($database, $target) = database();
	shell("printf '[exclude-schema]\npglogical\n' > $dir/filters");
	my $started = time;
	shell("PATH='$bin':\$PATH timeout 600 pgcopydb clone --dir $dir/work --source '" . source() . "' --target '$target'"
		  . " --table-jobs $jobs --index-jobs $jobs --skip-extensions --skip-large-objects --filters $dir/filters --not-consistent");
	return { seconds => time - $started, database => $database };
}

sub own_sync
{
	my ($database, $target) = database();
	my $sql = sub { $c->server('n2')->safe_psql($database, $_[0]) };
	$sql->('CREATE EXTENSION pglogical');
	$sql->("SELECT pglogical.create_node('own', '$target')");
	my $started = time;
	$sql->("SELECT pglogical.create_subscription('sub_own', '" . source() . "', synchronize_structure := true, synchronize_data := true)");
	# the subscription's own row is ready when all tables are
	until ($sql->("SELECT count(*) > 0 AND bool_and(sync_status = 'r') FROM pglogical.local_sync_status") eq 't') { usleep(50_000) }
	my $seconds = time - $started;
	return { seconds => $seconds, analyze => analyze($target), database => $database, end => sub {
		$sql->("SELECT pglogical.drop_subscription('sub_own')");
		$sql->("SELECT pglogical.drop_node('own')");
	} };
}

# memory of the process that runs the request, besides what it shares, in MB
sub memory
{
	my ($pid) = @_;
	open my $in, '<', "/proc/$pid/status" or return 0;
	my ($kb) = join('', <$in>) =~ /^RssAnon:\s+(\d+)/m;
	return ($kb || 0) / 1024;
}

sub zodan
{
	my ($database, $target) = database();
	$c->server('n2')->safe_psql($database, 'CREATE EXTENSION pglogical');
	my $id = $c->request(new => 'n2', new_node_dsn => $target, copy_jobs => $jobs);
	# by one session, and not from the view, which looks through all locks: that would take part of what is measured
	my ($out, $memory, $pid, @eta) = ('', 0);
	my $watch = "SELECT state, phase, extract(epoch FROM eta - clock_timestamp()), extract(epoch FROM clock_timestamp())"
	  . " FROM zodan.request_state LEFT JOIN zodan.copy_progress USING (request_id) WHERE request_id = $id \\watch 0.05\n";
	my $psql = IPC::Run::start([ "$bin/psql", '-XAtq', $c->server('n2')->connstr('postgres') ], '<', \$watch, '>', \$out);
	until ($out =~ /^(?:done|failed|cancelled)\|/m)
	{
		$psql->pump;
		$pid ||= $c->queue('n2', "SELECT worker_pid FROM zodan.status WHERE request_id = $id") if $out =~ /^running\|/m;
		$memory = max($memory, memory($pid)) if $pid;
	}
	$psql->kill_kill;
	for (split /\n/, $out)
	{
		my (undef, $phase, $left, $now) = split /\|/;
		push @eta, [ $now, $left ] if ($phase // '') eq 'copy_data' && length($left // '');
	}
	$c->wait_for($id) eq 'done' or die 'the join failed';
	my ($begin, $end, $data, $data_end, $all) = split /\|/, $c->queue('n2', "SELECT extract(epoch FROM min(started_at) FILTER (WHERE phase = 'copy_schema')),"
		  . " extract(epoch FROM max(finished_at) FILTER (WHERE phase = 'build_indexes')),"
		  . " extract(epoch FROM min(started_at) FILTER (WHERE phase = 'copy_data')),"
		  . " extract(epoch FROM max(finished_at) FILTER (WHERE phase = 'copy_data')),"
		  . " extract(epoch FROM max(finished_at) - min(started_at)) FROM zodan.checkpoints WHERE request_id = $id");
	my $phases = $c->queue('n2', "SELECT string_agg(format('%s %s', phase, round(extract(epoch FROM finished_at - started_at)::numeric, 2)), ', ' ORDER BY started_at)"
		  . " FROM zodan.checkpoints WHERE request_id = $id AND phase IN ('copy_schema', 'copy_data', 'build_indexes')");
	my $snapshots = $c->queue('n2', "SELECT count(DISTINCT snapshot) FROM zodan.copy_tables WHERE request_id = $id");
	# what was told at half time, of what was left then
	my ($half) = grep { $_->[0] >= ($data + $data_end) / 2 } @eta;
	my $eta = $half && $data_end > $half->[0] ? $half->[1] / ($data_end - $half->[0]) : undef;
	return { seconds => $end - $begin, all => $all, phases => $phases, snapshots => $snapshots, memory => $memory, eta => $eta, database => $database, end => sub {
		$c->wait_for($c->request(new => 'n2', operation => 'remove_node', new_node_dsn => $target)) eq 'done'
		  or die 'the node was not removed';
	} };
}

sub rows
{
	my ($node, $database) = @_;
	return $c->server($node)->safe_psql($database, q{SELECT string_agg(format('%s %s', relname, (xpath('//n/text()',
		query_to_xml(format('SELECT count(*) AS n FROM %I', relname), false, true, '')))[1]), ', ' ORDER BY relname)
		FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace});
}

my %contenders = (zodan => \&zodan, 'by hand' => \&by_hand, pgcopydb => \&pgcopydb, 'own sync' => \&own_sync);
my %chosen = map { $_ => 1 } $ENV{BENCH_CONTENDERS} ? split /,\s*/, $ENV{BENCH_CONTENDERS} : keys %contenders;
my (%least, %snapshots);

for my $name (@names)
{
	my ($title, $make, $more) = @{ $sets{$name} };
	# how time grows with size is asked of others only where they were named
	my @who = grep { $_ eq 'zodan' || ($ENV{BENCH_CONTENDERS} || $name !~ /short|twice|tenfold/) && $chosen{$_} } sort keys %contenders;
	my (%seconds, %analyze, $result);

	$c = ZodanCluster->new(nodes => 1, conf => $conf . ($more || ''), setup => 'SELECT 1');
	$c->add_server('n2');
	$bin = $c->server('n1')->config_data('--bindir');
	$c->psql('n1', join '', $make->());
	$c->psql('n1', "SELECT pglogical.replication_set_add_all_tables('default', '{public}')");
	my $want = rows('n1', 'inventory');
	diag("($name) $title, $mb MB, $jobs jobs, seconds:");
	for my $round (1 .. $rounds)
	{
		for my $who (@who)
		{
			$c->queue($_, 'CHECKPOINT') for qw(n1 n2);
			my $r = $contenders{$who}->();
			push @{ $seconds{$who} }, $r->{seconds};
			push @{ $analyze{$who} }, $r->{analyze} if $r->{analyze};
			is(rows('n2', $r->{database}), $want, "($name) $who: the rows are there");
			$r->{end}->() if $r->{end};
			$result = $r if $who eq 'zodan';
		}
	}
	my $mine = min(@{ $seconds{zodan} });
	for my $who (@who)
	{
		my $least = $least{$name}{$who} = min(@{ $seconds{$who} });
		my $analyze = $analyze{$who} ? min(@{ $analyze{$who} }) : 0;

		diag(sprintf '  %-8s %6.2f%s%s', $who, $least, $who eq 'zodan' ? '' : sprintf('   zodan takes %.2f of it', $mine / $least),
			$analyze ? sprintf(', %.2f with %.2f s for statistics', $mine / ($least + $analyze), $analyze) : '');
	}
	diag("  $result->{phases}; snapshots: $result->{snapshots}");
	diag(sprintf '  the whole join %.2f, runner\'s own memory at most %.0f MB%s', $result->{all}, $result->{memory},
		defined $result->{eta} ? sprintf(', ETA at half time %.2f of what was left', $result->{eta}) : '');
	$snapshots{$name} = $result->{snapshots};
	# so that the sets needn't all have room at once
	$c->stop;
	rmtree($c->server($_)->data_dir) for qw(n1 n2);
}
if ($least{short} && $least{a})
{
	my ($often, $once) = ($least{short}{zodan}, $least{a}{zodan});
	my $each = ($often - $once) / max(1, $snapshots{short} - 1);
	diag(sprintf 'each further snapshot takes %.2f s: %.1f %% of the time where one is taken every second, %.2f %% by default, every 300 s (bound: 3)',
		$each, 100 * ($often / $once - 1), 100 * $each / 300);
}
for my $who (sort keys %{ $least{twice} || {} })
{
	diag(sprintf 'twice the rows take %s %.2f times as long (bound: 2.1)', $who, $least{twice}{$who} / $least{a}{$who}) if $least{a}{$who};
}
done_testing();
