# What an operator sees of a join: the status while it goes on, a NOTIFY for
# each step, the log with all statements where that was asked for. And what
# nobody may see: a password, anywhere, whoever looks. The servers ask for one,
# and log every statement. Protects from a status that is wrong or stands
# still, from requests that wait for the next poll, and from a password in a
# log, an event, a notification, a list of processes.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(usleep);
use ZodanCluster;

ZodanCluster::plan_or_skip();

# a word that can be looked for, with what needs escaping around it
my $password = "Pa' \\Geheim77 %\@:/\xc3\xa4\"";
my $word = 'Geheim77';
my $e = $ZodanCluster::engine;
my $c = ZodanCluster->new(
	nodes => 2,
	password => $password,
	setup => $ZodanCluster::gate . q{
		CREATE TABLE item (id int PRIMARY KEY, name text);
		CREATE TABLE child (id int PRIMARY KEY, item int REFERENCES item);
		CREATE TABLE held (id int PRIMARY KEY, g gated);
		INSERT INTO item SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i;
		INSERT INTO child SELECT i, i FROM generate_series(1, 1000) i;
		INSERT INTO held VALUES (1, 1);
	});
# none of these is so small that it is copied together with others
my $n3 = $c->add_server('n3', conf => "zodan.copy_part_size = 1MB\n");
my @names = qw(n1 n2 n3);

# an operator, as docs/operations.md has it
$c->queue('n3', q{
	CREATE ROLE operator LOGIN;
	SELECT zodan.grant_operator('operator');
	ALTER ROLE operator SET log_statement = none;
	ALTER ROLE operator SET log_min_duration_statement = -1;
	ALTER ROLE operator SET log_min_error_statement = panic;
});

# from here on, everything is logged
for my $name (@names)
{
	my $node = $c->server($name);
	$node->append_conf('postgresql.conf', qq{
log_statement = all
log_min_duration_statement = 0
log_min_error_statement = debug5
log_connections = on
log_disconnections = on
log_replication_commands = on
log_error_verbosity = verbose
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_min_messages = debug1
});
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('log_min_messages') = 'debug1'");
}

# files a request as somebody, without leaving traces of our own
sub file
{
	my ($role, %column) = @_;
	my @columns = sort keys %column;
	local $ENV{PGOPTIONS} = '-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic';
	my $id = $n3->safe_psql('postgres', "SET ROLE $role; INSERT INTO zodan.requests (" . join(', ', @columns) . ') VALUES ('
		  . join(', ', map { ZodanCluster::q_($column{$_}) } @columns) . ') RETURNING id');
	$c->{coordinator} = 'n3';
	return $id;
}

# the DSN as an URI
sub uri
{
	my ($name) = @_;
	my $escaped = $password =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
	return "postgresql://mesh:$escaped\@127.0.0.1:" . $c->server($name)->port . "/inventory?sslmode=prefer";
}

# ---------- refused: nobody borrows the server's own trust ----------

my %good = (
	src_node_name => 'n1', src_dsn => $c->dsn('n1'),
	new_node_name => 'n3', new_node_dsn => uri('n3'),
	options => encode_json({ peer_dsns => { n2 => 'PASSWORD' } }) =~ s/PASSWORD/uri('n2')/er);
$c->{quiet} = 1;
my $trusting = 'host=' . $c->server('n1')->host . ' port=' . $c->server('n1')->port . " dbname=inventory user=mesh password=$word";
my $id = file('operator', %good, src_dsn => $trusting);
is($c->wait_for($id), 'failed', 'a server that does not ask for the password');
like($c->queue('n3', "SELECT found FROM zodan.check_failures WHERE request_id = $id AND check_name = 'connection' AND node = 'n1'"),
	qr/did not ask for the password/, 'is refused to a role that is not a superuser');
$id = file('postgres', %good, src_dsn => $trusting, operation => 'check');
is($c->wait_for($id), 'done', 'but not to a superuser');
$id = file('operator', %good, operation => 'check', new_node_dsn => uri('n3') =~ s/$word/Falsch99/r);
is($c->wait_for($id), 'failed', 'a wrong password');
like($c->queue('n3', "SELECT found FROM zodan.check_failures WHERE request_id = $id"), qr/password authentication failed/, 'is told as such');

# a file with the password
my $passfile = PostgreSQL::Test::Utils::tempdir() . '/pass';
append_to_file($passfile, "127.0.0.1:*:*:mesh:" . ($password =~ s/([:\\])/\\$1/gr) . "\n");
chmod 0600, $passfile;
my %by_file = map { $_ => $c->dsn(/src/ ? 'n1' : 'n3') =~ s/password=.*/passfile='$passfile'/r } qw(src_dsn new_node_dsn);
$id = file('postgres', %good, %by_file, operation => 'check');
is($c->wait_for($id), 'done', 'a superuser may use a file with passwords');
$c->{quiet} = 0;

# ---------- a join, watched ----------

# who looks at the processes of this machine; the programs are told from those
# of a test that runs beside this one by where they are
my $seen = PostgreSQL::Test::Utils::tempdir() . '/seen';
my $bindir = PostgreSQL::Test::Utils::tempdir();
my $test = $$;
my $watcher = fork // die;
if ($watcher == 0)
{
	my %found;
	my $note = sub { append_to_file($seen, "$_[0]\n") unless $found{ $_[0] }++; };
	$SIG{TERM} = sub { POSIX::_exit(0) };
	# no longer than the test, which may die
	while (getppid() == $test)
	{
		for my $file (glob '/proc/[0-9]*/cmdline')
		{
			open my $f, '<', $file or next;
			local $/;
			my $line = <$f> // next;
			$line =~ tr/\0/ /;
			$note->("program $1") if $line =~ m{\Q$bindir\E/(pg_dump|pg_restore) -(?!-version)};
			$note->("password in: $line") if $line =~ /$word/;
		}
		usleep(2000);
	}
	POSIX::_exit(1);
}

# the programs don't do anything before they have been seen
append_to_file($seen, '');
for my $program (qw(pg_dump pg_restore))
{
	append_to_file("$bindir/$program", "#!/bin/sh\n[ \"\$1\" = --version ] || until grep -q '^program $program' '$seen'; do :; done\nexec '"
		  . $n3->config_data('--bindir') . "/$program' \"\$@\"\n");
	chmod 0755, "$bindir/$program";
}
$n3->append_conf('postgresql.conf', "zodan.bindir = '$bindir'");
$n3->reload;

my $listener = $n3->background_psql('postgres', on_error_stop => 1);
$listener->query_safe('LISTEN zodan_progress');
$n3->safe_psql('postgres', q{
	CREATE TABLE stored (at timestamptz);
	CREATE FUNCTION stored() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.stored VALUES (clock_timestamp()); RETURN NULL; END $$;
	CREATE TRIGGER stored AFTER INSERT OR UPDATE ON zodan.copy_progress FOR EACH ROW EXECUTE FUNCTION stored();
});
my $gate = $c->hold_gate('n3');
$id = file('operator', %good, verb => 'true', copy_jobs => 1, new_node_info => '{"key": "value"}');
$c->wait_gate('n3');
my $status = decode_json($n3->safe_psql('postgres', "SELECT row_to_json(s) FROM zodan.status s WHERE request_id = $id"));
is($status->{$_}, { operation => 'add_node', node => 'n3', source => 'n1', engine => $e, state => 'running', phase => 'copy_data', phase_no => 7,
		attempt => 1, requested_by => 'operator', last_error => undef, hint => undef, finished_at => undef }->{$_}, "while copying: $_")
  for qw(operation node source engine state attempt requested_by last_error hint finished_at phase);
is($status->{phase_no}, $n3->safe_psql('postgres', "SELECT phase_no FROM zodan.phases() WHERE phase = 'copy_data'"), 'the number of the phase');
is($status->{phases}, $n3->safe_psql('postgres', 'SELECT count(*) FROM zodan.phases()'), 'of how many');
ok($n3->poll_query_until('postgres', "SELECT bytes_copied > 0 AND bytes_total > 0 AND detail LIKE '%2 of 3 tables%held%' FROM zodan.status WHERE request_id = $id"),
	'bytes and tables');
ok($n3->poll_query_until('postgres', "SELECT percent > 5 AND percent < 100 AND elapsed > '0' AND requested_at <= started_at AND started_at <= updated_at FROM zodan.status WHERE request_id = $id"),
	'percent and times');
is($n3->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity a JOIN zodan.status s ON s.worker_pid = a.pid WHERE request_id = $id"), '1', 'worker_pid is that of a process');
# time passes while nothing moves
ok($n3->poll_query_until('postgres', "SELECT clock_timestamp() > updated_at + '200 ms' AND started_at + '4 s' < updated_at FROM zodan.status WHERE request_id = $id"), 'the status is renewed meanwhile');
is($c->psql('n1', "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'zodan_bgw: request $id'"), 't', 'the sessions say whose they are');
is($c->psql($_, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%$word%' AND pid <> pg_backend_pid()"), '0', "no query with a password is seen on $_") for @names;
is($n3->safe_psql('postgres', "SELECT count(*) > 2 FROM stored WHERE at < (SELECT min(at) FROM stored) + '0.9 s'"), 't', 'the figures of the first second, several times');
# in this order, for they are stored meanwhile
$n3->safe_psql('postgres', 'DROP FUNCTION stored CASCADE; DROP TABLE stored');
$gate->quit;
is($c->wait_for($id), 'done', 'the join, asked for by a role that is not a superuser, is done');
push @{ $c->{order} }, 'n3';

my $text = $listener->query('SELECT 1');
kill 'TERM', $watcher;
waitpid $watcher, 0;
my @notes = map { decode_json($_) } $text =~ /"zodan_progress" with payload "(\{.*?\})" received/g;
@notes = grep { $_->{request} == $id } @notes;
cmp_ok(scalar @notes, '>=', 15, 'each step was notified');
is_deeply([ sort keys %{ $notes[0] } ], [ sort qw(v request operation node state phase phase_no phases percent detail at) ], 'with these fields');
my %phase_of = map { split /\|/ } split /\n/, $n3->safe_psql('postgres', 'SELECT phase, phase_no FROM zodan.phases()');
my ($percent, $phase_no, %phases) = (0, 0);
my @wrong;
for my $note (@notes)
{
	push @wrong, encode_json($note) unless $note->{v} == 1 && $note->{operation} eq 'add_node' && $note->{node} eq 'n3'
	  && $note->{phases} == keys %phase_of && $note->{state} =~ /^(running|done)$/
	  && $note->{percent} >= $percent && (!defined $note->{phase} || $note->{phase_no} == $phase_of{ $note->{phase} } && $note->{phase_no} >= $phase_no)
	  && $note->{at} =~ /^\d{4}-\d\d-\d\dT/;
	$percent = $note->{percent};
	$phase_no = $note->{phase_no} // $phase_no;
	$phases{ $note->{phase} }++ if defined $note->{phase};
}
is_deeply(\@wrong, [], 'each of the right form, and percent and phase never go back');
is_deeply([ sort keys %phases ], [ sort keys %phase_of ], 'of every phase');
is("$notes[-1]{state} $notes[-1]{percent}", 'done 100', 'the last says that it is done');
my @copying = map { $_->{at} =~ /T(\d\d):(\d\d):([\d.]+)/ ? $1 * 3600 + $2 * 60 + $3 : () } grep { $_->{detail} =~ /of 3 tables/ } @notes;
cmp_ok(scalar @copying, '>=', 2, 'the copy was notified while it went on');
is(scalar(grep { $copying[$_] - $copying[ $_ - 1 ] < 0.9 && $copying[$_] > $copying[ $_ - 1 ] } 1 .. $#copying), 0, 'at most once a second');

# ---------- how soon ----------

is($n3->safe_psql('postgres', 'SHOW zodan.poll_interval'), '1min', 'the launcher looks by itself once a minute');
my $ms = $n3->safe_psql('postgres', "SELECT round(extract(epoch FROM (SELECT started_at FROM zodan.status WHERE request_id = $id) - at) * 1000, 1) FROM zodan.events WHERE request_id = $id ORDER BY id LIMIT 1");
diag("$e: picked up after $ms ms");
cmp_ok($ms, '<', 30_000, 'it was the insert that woke it');

# ---------- the log ----------

is($n3->safe_psql('postgres', "SELECT count(*) FROM zodan.events WHERE request_id = $id AND level = 'debug' AND node = '$_' AND message ~ 'SELECT'") > 0, 1,
	"verb logs the statements on $_") for @names;
is($n3->safe_psql('postgres', "SELECT bool_or(message LIKE '%CREATE_REPLICATION_SLOT%'), bool_or(message LIKE '%COPY%TO STDOUT%'), bool_or(message LIKE '%FROM STDIN%') FROM zodan.events WHERE request_id = $id AND level = 'debug'"),
	't|t|t', 'those of the snapshot and of the copy as well');
is($n3->safe_psql('postgres', "SELECT count(*) FROM zodan.events WHERE request_id <> $id AND level = 'debug'"), '0', 'without it there are none');
is($n3->safe_psql('postgres', "SELECT string_agg(DISTINCT phase, ' ' ORDER BY phase) FROM zodan.events WHERE request_id = $id AND level = 'info'"),
	join(' ', sort keys %phase_of), 'every phase has an event');
is($n3->safe_psql('postgres', "SELECT string_agg(format('%s %s', phase, state), ' ' ORDER BY started_at) FROM zodan.checkpoints WHERE request_id = $id"),
	join(' ', map { "$_ done" } sort { $phase_of{$a} <=> $phase_of{$b} } keys %phase_of), 'and a checkpoint, in that order');
is($n3->safe_psql('postgres', "SELECT state, percent, worker_pid IS NULL, finished_at IS NOT NULL, eta IS NULL, bytes_copied > 0, elapsed = finished_at - started_at FROM zodan.status WHERE request_id = $id"),
	'done|100.0|t|t|t|t|t', 'the status at the end');

# ---------- no password ----------

is($n3->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE src_dsn ~ '$word|Falsch' OR new_node_dsn ~ '$word|Falsch' OR options::text ~ '$word|Falsch')"
		. ", count(*) FILTER (WHERE new_node_dsn LIKE '%********%' OR new_node_dsn LIKE '%passfile%') FROM zodan.requests"), '5|0|5', 'blanked in the requests, which have ended');
is($n3->safe_psql('postgres', "SELECT count(*) FROM zodan.$_ AS x WHERE x::text ~ '$word|Falsch99'"), '0', "none in zodan.$_")
  for qw(status events check_failures checkpoints effects positions copy_tables copy_progress wal_watch request_state);
unlike($text, qr/$word/, 'none in the notifications');
my $found = slurp_file($seen);
like($found, qr/^program pg_dump\nprogram pg_restore\n/, 'the programs were seen');
unlike($found, qr/password in/, 'none in the arguments of any process') or diag($found);
for my $name (@names)
{
	# what the engine's own workers say when they are being debugged isn't ours, nor are this test's questions
	my @lines = grep { /$word|Falsch99/ && !/ (?:pglogical|spock) .* DEBUG: / && !/ 007_status\.pl / }
	  split /\n/, slurp_file($c->server($name)->logfile);
	is(scalar @lines, 0, "none in the log of $name") or diag(join "\n", map { substr $_, 0, 500 } @lines[ 0 .. ($#lines > 5 ? 5 : $#lines) ]);
}

# ---------- and it works ----------

$c->psql($_, 'INSERT INTO item VALUES (-' . substr($_, 1) . ", 'both ways')") for @names;
$c->settle;
is($c->psql('n3', 'SELECT count(*) FROM item WHERE id < 0'), '3', 'a row of each arrives on the new node');
is($c->differences, '', 'and everywhere');
is($c->leftovers($id), '', 'nothing is left over');
is($c->psql('n1', "SELECT location || country || info::text FROM spock.node WHERE node_name = 'n3'"), 'NYUSA{"key": "value"}', 'what the request said of the node') if $e eq 'spock';
done_testing();
