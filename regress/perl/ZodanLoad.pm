# ZodanLoad: what goes on in a ZodanCluster while a node joins: writers on its
# nodes, and servers that die.
#
# Copyright (c) 2026, the zodan_bgw authors
package ZodanLoad;

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

# starts pgbench with a script on a node, in the background
sub start_writer
{
	my ($self, $name, $script, @options) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/writer.sql';
	my $node = $self->server($name);
	PostgreSQL::Test::Utils::append_to_file($file, $script);
	my $writer = { node => $name, out => '', err => '' };
	$writer->{run} = IPC::Run::start(
		[ $node->config_data('--bindir') . '/pgbench', '--no-vacuum', '--file', $file,
			'--progress', '1', '--time', '3600',
			'--host', $node->host, '--port', $node->port, @options, $self->{dbname} ],
		'<', \undef, '>', \$writer->{out}, '2>', \$writer->{err});
	return $writer;
}

# waits until a writer writes
sub wait_writing
{
	my ($self, @writers) = @_;
	for my $writer (@writers)
	{
		for (1 .. 600)
		{
			last if ($writer->{err} =~ /^progress:/m);
			die "writer on $writer->{node}: $writer->{err}" unless $writer->{run}->pumpable;
			$writer->{run}->pump_nb;
			usleep(50_000);
		}
	}
	return;
}

# ends a writer; returns its transactions per second, one number for each
# second that it ran, and dies if it had ended by itself
sub stop_writer
{
	my ($self, $writer) = @_;
	$writer->{run}->pump_nb;
	die "writer on $writer->{node} has ended: $writer->{err}" unless $writer->{run}->pumpable;
	$writer->{run}->signal('INT');
	eval { $writer->{run}->finish };
	die "writer on $writer->{node}: $writer->{err}" if $writer->{err} =~ /error|aborted/;
	return $writer->{err} =~ /^progress: [0-9.]+ s, ([0-9.]+) tps/mg;
}

# ---------- servers that die ----------

# a writer that is started again when its node's server has died
sub keep_writing
{
	my ($self, $name, $script, @options) = @_;
	$self->{kept}{$name} = { start => sub { $self->start_writer($name, $script, @options) } };
	$self->{kept}{$name}{writer} = $self->{kept}{$name}{start}->();
	return;
}

# ends such a writer, which may have ended with its server; returns whether it
# has written since its last start
sub end_writing
{
	my ($self, $name) = @_;
	my $kept = delete $self->{kept}{$name};
	# its first report comes after a second
	eval { $self->wait_writing($kept->{writer}) };
	my @rates = eval { $self->stop_writer($kept->{writer}) };
	return scalar grep { $_ > 0 } @rates;
}

# a server dies, by SIGKILL of its postmaster or by an immediate stop, and is started again
sub fault
{
	my ($self, $name, $how) = @_;
	my $server = $self->server($name);
	my $kept = $self->{kept}{$name};

	$how eq 'kill' ? $server->kill9 : $server->stop('immediate');
	eval { $kept->{writer}{run}->kill_kill } if $kept;
	# what its processes held is free only when the last one has gone
	for (1 .. 100)
	{
		last if PostgreSQL::Test::Utils::system_log($server->config_data('--bindir') . '/pg_ctl', '--wait',
			'--pgdata', $server->data_dir, '--log', $server->logfile, 'start') == 0;
		usleep(200_000);
	}
	$server->_update_pid(1);
	$server->poll_query_until('postgres', 'SELECT true') or die "$name doesn't start";
	$kept->{writer} = $kept->{start}->() if $kept;
	return;
}

# structure and rows for tests in which processes or servers die: parents and
# children, an index, a sequence, a comment
our $family = q{
	CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
	CREATE TABLE child (id int PRIMARY KEY, item int REFERENCES item);
	CREATE INDEX ON child (item);
	CREATE SEQUENCE s;
	COMMENT ON TABLE item IS 'an item';
	INSERT INTO item SELECT i FROM generate_series(1, 4000) AS i;
	INSERT INTO child SELECT i, i FROM generate_series(1, 4000) AS i;
};

# a writer's script for these, which never conflicts with that of another node; $k: 0 or 1
sub family_script
{
	my ($k) = @_;
	return qq{
		\\set i random(0, 1999)
		\\set new random(1, 1000000)
		BEGIN;
		UPDATE item SET n = n + 1 WHERE id = :i * 2 + $k;
		INSERT INTO item VALUES (10000000 * ($k + 1) + :new) ON CONFLICT (id) DO UPDATE SET n = item.n + 1;
		INSERT INTO child VALUES (10000000 * ($k + 1) + :new, 10000000 * ($k + 1) + :new) ON CONFLICT DO NOTHING;
		DELETE FROM child WHERE id = 10000000 * ($k + 1) + :new AND :new % 3 = 0;
		COMMIT;
	};
}

1;
