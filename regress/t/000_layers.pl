# The wings of the C code, in the Makefile: a file includes only headers of files
# that stand before it in its wing, and of wings before that. queue and remote know
# nothing of each other. Phases are known to phases.c only. PostgreSQL's version is
# asked for in compat.h only. What changes an engine's subscriptions or nodes is a
# ZodanChange, made in engine_*.c and handed to change.c by engine.c: a session that
# runs it has to be one of zodan_change_all()'s. The same rules
# hold for the statements in worker/sql, which C files include: NAME.sql and NAME_*.sql
# belong to NAME.c.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use Test::More;

my $tree = "$FindBin::RealBin/../..";

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) || die "$path: $!";
	local $/;
	return scalar <$file>;
}

my $makefile = slurp("$tree/Makefile");
my ($wings) = $makefile =~ /^WINGS = (.*)$/m;
my %place;

for my $wing (split ' ', $wings)
{
	my ($files) = $makefile =~ /^$wing = (.*)$/m or die "no list of the files in $wing";
	$place{"$wing/$_"} = keys %place for ($wing eq 'base' ? qw(compat locks) : ()), split ' ', $files;
}
my %phase = map { $_ => 1 } grep { m{^phases/} && !m{/(?:undo|phases)$} } keys %place;

# what keeps a file from including a header of ours
sub is_wrong
{
	my ($name, $header) = @_;
	my ($from, $to) = map { m{^(\w+)/} ? $1 : '' } $name, $header;

	return 0 if $header eq $name;
	return 1 if !defined $place{$header} || $from ne '' && $place{$header} > $place{$name};
	return 1 if "$from $to" =~ /^(?:queue remote|remote queue)$/;
	return $phase{$header} && $name ne 'phases/phases';
}

# the fields of ZodanEngine that are changes
my $changes = join '|', slurp("$tree/worker/engine/engine.h") =~ /^\tZodanChange (\w+)/mg;

# what neither C nor SQL may contain, in the file of that name
sub looks_right
{
	my ($text, $file, $name) = @_;

	unlike($text, qr/PG_VERSION_NUM/, "$file leaves versions to compat.h") unless $name eq 'compat';
	unlike($text, qr/\b(?:spock|pglogical|\{e\})\.\w+ *\(/, "$file leaves the engines' functions to them") unless $name =~ /^engine_/;
	unlike($text, qr/\bpg_temp\.|\bCREATE\s+TEMP/, "$file makes nothing temporary");
	return;
}

my %user;

for my $path (sort grep { !m{/worker/sql/} } glob("$tree/worker/*.[ch] $tree/worker/*/*.[ch]"))
{
	my ($file, $path_name, $name) = $path =~ m{worker/(((?:\w+/)?(\w+))\.[ch])$} or die $path;
	my $text = slurp($path);
	my @headers = $text =~ /^\s*#\s*include\s+"([^"]+)\.h"/mg;

	if ($path_name ne 'zodan_bgw' && !defined $place{$path_name})
	{
		fail("$file is in no wing's list");
		next;
	}
	for (map { m{^sql/(\w+)$} ? $1 : () } @headers)
	{
		ok(-e "$tree/worker/sql/$_.sql" && /^$name(?:_|$)/, "sql/$_ is there, and is named after $file");
		$user{$_} = $name;
	}
	is(join(' ', grep { !m{^sql/} && -e "$tree/worker/$_.h" && is_wrong($path_name, $_) } @headers), '', "$file includes only what comes before it");
	is(join(' ', grep { !m{/} && -e ($path =~ s{[^/]+$}{}r) . "$_.h" } @headers), '', "$file names the wings of what it includes");
	looks_right($text, $file, $name);
	unlike($text, qr/engine->(?:$changes)\b/, "$file leaves changes to engine.c") unless $name eq 'engine';
	unlike($text, qr/\bzodan_effects_intend(?:_running)?\(/, "$file stores no intent without the claim") unless $name =~ /^(?:effects|claim)$/;
	unlike($text, qr/change\.text\b/, "$file leaves the text of a change to change.c") unless $name =~ /^(?:change|remote)$/;
}
for my $path (sort glob("$tree/worker/sql/*.sql"))
{
	my ($file, $name) = $path =~ m{worker/(sql/(\w+)\.sql)$} or die $path;

	ok($user{$name}, "$file is a part of some file") or next;
	like(slurp($path), qr/\A-- .*\n(?:--.*\n)*[^-\s]/, "$file says first what it is");
	looks_right(slurp($path), $file, $user{$name});
}
done_testing();
