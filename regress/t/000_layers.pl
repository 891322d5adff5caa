# The layers of the C code: a file includes only headers of files that stand
# above it in the Makefile's OBJS. Headers without a file of that name have
# their place here. PostgreSQL's version is asked for in compat.h only. What
# changes an engine's subscriptions or nodes is a ZodanChange, made in engine_*.c
# and handed to change.c by engine.c: a session that runs it has to be one of
# zodan_change_all()'s.
use strict;
use warnings;

use FindBin;
use Test::More;

my $tree = "$FindBin::RealBin/../..";

# header => the first file that may include it
my %header_only = (compat => 'settings', phase => 'phase_check');

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) || die "$path: $!";
	local $/;
	return scalar <$file>;
}

my ($list) = slurp("$tree/Makefile") =~ /^OBJS = (.*?[^\\])$/ms;
my @layers = $list =~ /(\w+)\.o/g;
my %place = map { $layers[$_] => $_ } 0 .. $#layers;
$place{$_} = $place{ $header_only{$_} } - 0.5 for keys %header_only;

# the fields of ZodanEngine that are changes
my $changes = join '|', slurp("$tree/worker/engine.h") =~ /^\tZodanChange (\w+)/mg;

for my $path (sort glob("$tree/worker/*.[ch]"))
{
	my ($file, $name) = $path =~ m{((\w+)\.[ch])$};
	my $text = slurp($path);
	my @wrong;

	if (!defined $place{$name})
	{
		fail("$file has no place among the layers");
		next;
	}
	for my $header ($text =~ /^\s*#\s*include\s+"(\w+)\.h"/mg)
	{
		next unless -e "$tree/worker/$header.h";
		push @wrong, "$header.h" unless $header eq $name || defined $place{$header} && $place{$header} < $place{$name};
	}
	is("@wrong", '', "$file includes only what stands above it");
	unlike($text, qr/PG_VERSION_NUM/, "$file leaves versions to compat.h") unless $name eq 'compat';
	unlike($text, qr/\b(?:spock|pglogical|\{e\})\.\w+ *\(/, "$file leaves the engines' functions to them") unless $name =~ /^engine_/;
	unlike($text, qr/\bpg_temp\.|\bCREATE\s+TEMP/, "$file makes nothing temporary");
	unlike($text, qr/engine->(?:$changes)\b/, "$file leaves changes to engine.c") unless $name eq 'engine';
	unlike($text, qr/\bzodan_effect_intent\(/, "$file stores no intent without the claim") unless $name =~ /^(?:journal|claim)$/;
	unlike($text, qr/change\.text\b/, "$file leaves the text of a change to change.c") unless $name =~ /^(?:change|remote)$/;
}
done_testing();
