# What the documents list is what there is: columns, settings with their defaults,
# phases, tables, functions, checks. Protects from a reference that has drifted away.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use Test::More;
use ZodanCluster;

ZodanCluster::plan_or_skip();

my $tree = "$FindBin::RealBin/../..";
my $c = ZodanCluster->new(nodes => 0);
$c->add_server('c');

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', "$tree/$path") or die "$path: $!";
	local $/;
	return scalar <$file>;
}

# a section of a document, up to the next one that is not below it
sub section
{
	my ($path, $title) = @_;
	my ($level, $text) = slurp($path) =~ /^(#+) \Q$title\E\n(.*)/ms or die "$path has no section $title";
	my $end = '^#{1,' . length($level) . '} ';
	$text =~ s/$end.*//ms;
	return $text;
}

# what the first columns of its tables name
sub listed
{
	my ($text) = @_;
	return join ' ', sort map { /`([^`]+)`/g } grep { !/^\| *-/ } $text =~ /^(\| [^|]*) \|/mg;
}

sub is_listed
{
	my ($text, $sql, $what) = @_;
	is(listed($text), join(' ', sort split /\n/, $c->queue('c', $sql)), $what);
	return;
}

my $columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'zodan.%s'::regclass AND attnum > 0 AND NOT attisdropped";
for my $table (qw(requests status verifications differences events check_failures nodes))
{
	# without the sections below it, which list other things
	is_listed(section('docs/reference.md', "zodan.$table") =~ s/^###.*//msr, sprintf($columns, $table), "the columns of zodan.$table");
}
is_listed(section('docs/reference.md', 'zodan.positions') =~ s/^\*\*.*//msr, sprintf($columns, 'positions') . " AND attname <> 'request_id'", 'the columns of zodan.positions');

my $phases = section('docs/reference.md', 'Phases');
is_listed($phases, 'SELECT phase FROM zodan.phases() UNION SELECT phase FROM zodan.phases(\'remove_node\') UNION SELECT phase FROM zodan.phases(\'verify\')', 'the phases, in the reference');
my $meanings = section('docs/operations.md', 'What each phase means');
is(join(' ', grep { $meanings !~ /`$_`/ } split /\n/, $c->queue('c', 'SELECT phase FROM zodan.phases()')), '', 'and what each of them means when it stalls');

my $settings = section('docs/reference.md', 'Settings');
my $mine = "name LIKE 'zodan.%' AND name NOT IN ('zodan.claim', 'zodan.failpoints')";
is_listed($settings, "SELECT name FROM pg_settings WHERE $mine", 'the settings');
for my $row (split /\n/, $c->queue('c', "SELECT name, boot_val, coalesce(unit, ''), vartype FROM pg_settings WHERE $mine"))
{
	my ($name, $value, $unit, $type) = split /\|/, $row;
	my ($said) = $settings =~ /^\| `\Q$name\E` \| [^|]*\| ([^|]*?) \|/m;
	$said =~ s/`//g;
	$said = '' if $said eq 'empty';
	my $sql = $type ne 'integer' || $unit eq '' || $said eq '0' ? ZodanCluster::q_($said) :
	  $unit =~ /B$/ ? sprintf(q{pg_size_bytes(%s) / pg_size_bytes('1 %s')}, ZodanCluster::q_($said), $unit) :
	  sprintf(q{extract(epoch FROM %s::interval)::numeric / extract(epoch FROM '1 %s'::interval)::numeric}, ZodanCluster::q_($said), $unit);
	is($c->queue('c', "SELECT trim_scale(($sql)::numeric)") // '', $value, "the default of $name") if $type eq 'integer';
	is($said, $value, "the default of $name") if $type ne 'integer';
}

my $reference = slurp('docs/reference.md');
is(join(' ', grep { $reference !~ /(?:^##+ |\*\*|`)zodan\.$_\b/m } split /\n/, $c->queue('c', "SELECT relname FROM pg_class WHERE relnamespace = 'zodan'::regnamespace AND relkind IN ('r', 'v')")),
	'', 'all tables are described');
my $functions = section('docs/reference.md', 'Functions');
is(join(' ', grep { $functions !~ /zodan\.$_\(/ } split /\n/, $c->queue('c', "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'zodan'::regnamespace"
		. " AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND proname NOT IN ('steer', 'redact_dsns')")), '', 'all functions are described');

my $code = slurp('worker/phases/check.c');
my %check = map { $_ => 1 } $code =~ /^\t\t"(\w+)", (?:ON_|\w+ \|)/mg, $code =~ /zodan_journal_check_failure\([^"]*"(\w+)"/g;
cmp_ok(scalar keys %check, '>', 20, 'the checks are found in the code');
is(join(' ', map { /`([^`]+)`/g } section('docs/operations.md', 'The checks') =~ /^\| (`[^|]*) \|/mg) =~ s/(\w+)/exists $check{$1} ? '' : $1/ger =~ s/\s+/ /gr =~ s/^ | $//gr, '', 'no other check is described');
my $described = section('docs/operations.md', 'The checks');
is(join(' ', grep { $described !~ /`$_`/ } sort keys %check), '', 'and each of them is');

$c->stop;
done_testing();
