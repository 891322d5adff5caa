# Every source file has the copyright line of LICENSE in its head comment, once.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use File::Find;
use FindBin;
use Test::More;

chdir "$FindBin::RealBin/../.." || die $!;

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) || die "$path: $!";
	local $/;
	return scalar <$file>;
}

my ($line) = slurp('LICENSE') =~ /^(Copyright .*)$/m or die 'LICENSE has no copyright line';

# the comment at the beginning of a file: a block, or lines that begin alike
my $head = qr{\A(?:/\*.*?\*/|(?:\#.*?\n)+|(?:--.*?\n)+)}s;

# those of the tree but what is made from others; where git is missing, as in the tests' copy, all that are there
my @files = split /\0/, `git ls-files -z 2>/dev/null`;
find({ no_chdir => 1, wanted => sub { push @files, $File::Find::name =~ s{^\./}{}r } }, '.') unless @files;
@files = grep { m{\.(?:c|h|pl|pm|sh|sql)\z|(?:^|/)Makefile\z|^\.ci/run\z|^regress/expected/} && !m{(?:^|/)(?:tmp_check|output)/|^worker/sql/.*\.h\z} && -f } @files;

for my $file (sort @files)
{
	my ($comment) = slurp($file) =~ /($head)/;
	my @found = ($comment // '') =~ /^(?: \* |# |-- )\Q$line\E$/mg;

	is(scalar @found, 1, $file);
}
done_testing();
