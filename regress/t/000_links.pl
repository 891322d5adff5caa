# The links in README.md and docs/: each file that they name is there, and has the
# heading. Protects readers from a section that was renamed or moved.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec::Functions qw(abs2rel canonpath);
use FindBin;
use Test::More;

my $tree = "$FindBin::RealBin/../..";

# the text of a page without its code, in which brackets mean something else
sub prose
{
	my ($path) = @_;
	open(my $file, '<:encoding(UTF-8)', "$tree/$path") || die "$path: $!";
	my $text = do { local $/; <$file> };
	$text =~ s/^ *```.*?^ *```$//gms;
	return $text;
}

# the anchors that GitHub makes of its headings: in lower case, without punctuation,
# with hyphens for blanks; of the same ones the later have a number
sub anchors
{
	my ($text) = @_;
	my (%anchors, %seen);

	for my $heading ($text =~ /^#+ +(.*?) *$/mg)
	{
		my $anchor = lc($heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr);
		$anchor =~ s/[^\w\- ]//g;
		$anchor =~ tr/ /-/;
		$anchors{ $seen{$anchor} ? "$anchor-$seen{$anchor}" : $anchor } = 1;
		$seen{$anchor}++;
	}
	return \%anchors;
}

# dir/../file is file
sub resolved
{
	my ($path) = @_;
	1 while $path =~ s{(?:^|(?<=/))(?!\.\./)[^/]+/\.\./}{};
	return canonpath($path);
}

my @pages = map { abs2rel($_, $tree) } glob("$tree/README.md $tree/docs/*.md");
my %anchors = map { $_ => anchors(prose($_)) } @pages;
my $links = 0;

for my $page (@pages)
{
	my @broken;
	(my $text = prose($page)) =~ s/`[^`\n]*`//g;
	while ($text =~ /\]\(([^)\s]+)\)/g)
	{
		my ($target, $anchor) = split /#/, $1, 2;
		next if $target =~ /^[a-z]+:/;
		my $path = $target eq '' ? $page : resolved(dirname($page) . "/$target");
		$links++;
		push @broken, "$target: there is no such file" unless -e "$tree/$path";
		push @broken, "$target#$anchor: there is no such heading" if defined $anchor && $anchors{$path} && !$anchors{$path}{$anchor};
	}
	is(join("\n", @broken), '', "the links of $page lead somewhere");
}
cmp_ok($links, '>', 50, 'there are links');
done_testing();
