# docs/quickstart.md, typed word for word into one shell: every command succeeds, and
# what the page says that they print is what they print. Protects newcomers from a
# page that has drifted from the product.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ZodanCluster;
use ZodanLogs;

ZodanCluster::plan_or_skip();

my $engine = $ZodanCluster::engine;
my $folder = "$PostgreSQL::Test::Utils::tmp_check/quickstart";

# a test that has failed leaves servers
END
{
	my $failed = $?;
	system('pg_ctl', '-D', $_, '-m', 'immediate', '-s', 'stop') for map { s{/postmaster.pid$}{}r } glob "$folder/n?/postmaster.pid";
	my $crashed = ZodanLogs::report(glob "$folder/n?.log");
	$? = $failed || $crashed;
}

# ---------- the page ----------

# Its blocks for this engine: their kind (sh, sql, text), their text, and the heading
# that they stand under. "With NAME:" ends the paragraph before a block that is for one.
sub blocks
{
	my ($text) = @_;
	my ($heading, $said, @blocks) = ('', '');
	my @lines = split /\n/, $text;

	while (defined(my $line = shift @lines))
	{
		$heading = $1 if $line =~ /^#+ (.*)/;
		if ($line !~ /^```(\w*)/)
		{
			$said = $line if $line ne '';
			next;
		}
		my $block = { kind => $1, heading => $heading, text => '' };
		while (defined($line = shift @lines) && $line ne '```')
		{
			$block->{text} .= "$line\n";
		}
		die "a block under \"$heading\" doesn't end" unless defined $line;
		die "a block of kind \"$block->{kind}\" under \"$heading\"" unless $block->{kind} =~ /^(?:sh|sql|text)$/;
		push @blocks, $block unless $said =~ /\bWith (pglogical|Spock):$/ && lc $1 ne $engine;
		$said = '';
	}
	return @blocks;
}

# What is typed: runs of blocks that one command of the shell reads. SQL is typed into
# the session that the block before it has opened by its last line.
sub runs
{
	my @runs;

	for my $block (@_)
	{
		if ($block->{kind} eq 'sh')
		{
			push @runs, [$block];
		}
		elsif ($block->{kind} eq 'sql')
		{
			die "SQL under \"$block->{heading}\", and no psql" unless @runs && $runs[-1][0]{text} =~ /^psql [^\n]*\n\z/m;
			push @{ $runs[-1] }, $block;
		}
		else
		{
			die "an output under \"$block->{heading}\", and no command" unless @runs && !exists $runs[-1][-1]{prints};
			$runs[-1][-1]{prints} = $block->{text};
		}
	}
	return @runs;
}

# ---------- the shell ----------

mkdir $folder or die "$folder: $!";
chdir $folder or die $!;
# an error ends a session, and the shell: so it's seen
append_to_file("$folder/psqlrc", "\\set ON_ERROR_STOP on\n");
$ENV{PSQLRC} = "$folder/psqlrc";
my ($in, $out, $err) = ('', '', '');
my $shell = IPC::Run::start([ 'sh', '-e' ], '<', \$in, '>', \$out, '2>', \$err);
my $typed = 0;

# what the parts of a run print, one after the other; nothing more comes after an error
sub type
{
	my (@parts) = @_;
	my $end = '::' . ++$typed . '::';
	my ($first, @sql) = map { $_->{text} } @parts;
	if (@sql)
	{
		chomp $first;
		$first .= join("\\echo $end\n", " <<'$end'\n", @sql) . "$end\n";
	}
	($out, $err) = ('', '');
	$in .= "${first}echo $end.\n";
	my $until = time + 300;
	eval {
		while ($out !~ /^\Q$end\E\.\n/m && time < $until)
		{
			$shell->pump_nb;
			last unless $shell->pumpable;
			sleep 0.05;
		}
	};
	# psql ends lines of a table with blanks, and a table with an empty line
	return map { s/[ \t]+$//mgr =~ s/\n\n\z/\n/r } split /^\Q$end\E\.?\n/m, $out, -1;
}

# one of its ports after the other is free, below those that servers of other tests take
sub choose_ports
{
	for (1 .. 100)
	{
		my $prefix = 2000 + int rand 1200;
		my @sockets = grep { $_ } map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => "$prefix$_") } 1 .. 3;
		return $prefix if @sockets == 3;
	}
	die 'no free ports';
}

# ---------- it is run ----------

my @runs = runs(blocks(slurp_file("$FindBin::RealBin/../../docs/quickstart.md")));
my $ports = choose_ports();
$runs[0][0]{text} =~ s/^export PORT=\K600$/$ports/m or die 'the first block sets no PORT';
cmp_ok(grep({ 1 } map { @$_ } @runs), '>', 20, 'the page has commands');
cmp_ok(grep({ exists $_->{prints} } map { @$_ } @runs), '>', 5, 'and says what they print');

RUN: for my $run (@runs)
{
	my $prints = $run->[0]{prints};
	my @printed = type(@$run);
	# what isn't there yet is looked for again, as the page says
	for (my $until = time + 60; defined $prints && @printed > 1 && $printed[0] ne $prints && time < $until; sleep 0.3)
	{
		@printed = type(@$run);
	}
	for my $i (0 .. $#$run)
	{
		my $block = $run->[$i];
		my $name = "$block->{heading}: " . ($block->{text} =~ /^(.*)/)[0];
		# after its end something follows: another end, or nothing
		if (!ok($i < $#printed, $name))
		{
			diag("It printed:\n$out\nand as errors:\n$err");
			last RUN;
		}
		next unless exists $block->{prints};
		is($printed[$i], $block->{prints}, "$name - prints what the page says") or last RUN;
	}
	note($err);
}
is_deeply([ glob 'n?/postmaster.pid' ], [], 'no server is left at the end');
eval { $shell->finish };
done_testing();
