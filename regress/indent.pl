# Formats the C code as PostgreSQL does, with PostgreSQL's own formatter.
#
#   perl regress/indent.pl              formats worker and regress/bench in place
#   perl regress/indent.pl --check      changes nothing; names the files that would change
#
# Run by "make indent". First it writes regress/typedefs.list, which the
# formatter needs: the names that the code uses as types. The formatter is
# pg_bsd_indent 2.1.2, which belongs to PostgreSQL 16 to 18. PG_BSD_INDENT names
# it; otherwise it is looked for beside the pg_config that PG_CONFIG names, in
# PATH, and where Debian's packages have it.
#
# Some code is handed to the formatter in disguise, and gets its own shape back
# afterwards:
#
# - Comments keep their line breaks.
# - foreach () is a loop.
# - Braces inside a compound literal become parentheses, and so do those of a
#   compound literal that is an argument.
#
# Only white space changes: the tokens are compared before a file is written.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use File::Find;
use File::Temp;
use FindBin;

my $version = '2.1.2';

# those of pgindent
my @options = qw(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4);

# what comes before a comment's text, so that the formatter leaves that alone
my $boxed = '-ZODAN';

my %keyword = map { $_ => 1 } qw(auto break case char const continue default do double else enum extern float for
  goto if inline int long register restrict return short signed sizeof static struct switch typedef union unsigned
  void volatile while);

sub read_file
{
	my ($path) = @_;
	open(my $file, '<:raw', $path) || die "$path: $!\n";
	local $/;
	return scalar <$file>;
}

sub write_file
{
	my ($path, $text) = @_;
	open(my $file, '>:raw', $path) || die "$path: $!\n";
	print $file $text or die "$path: $!\n";
	close($file) || die "$path: $!\n";
	return;
}

# the tokens of a text, each with the white space before it; the last one is empty
sub tokens
{
	my ($text) = @_;
	my @tokens;

	while ($text =~ m{\G(\s*)(/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[A-Za-z_]\w*|[0-9][\w.]*|\\\n|\S|\z)}gcs)
	{
		push @tokens, { space => $1, text => $2 };
		last if $2 eq '';
	}
	return \@tokens;
}

sub join_tokens
{
	my ($tokens) = @_;
	return join '', map { $_->{space} . $_->{text} } @$tokens;
}

# a token without what the formatter may change in it
sub bare
{
	my ($token) = @_;
	return $token->{text} =~ m{^/\*} ? $token->{text} =~ s/\s+/ /gr : $token->{text};
}

# marks the tokens of preprocessor lines
sub mark_directives
{
	my ($tokens) = @_;
	my $in = 0;

	for my $i (0 .. $#$tokens)
	{
		my $token = $tokens->[$i];
		my $first = $i == 0 || $token->{space} =~ /\n/ || $tokens->[ $i - 1 ]{text} eq "\\\n";

		$in = 0 if $token->{space} =~ /\n/;
		$in = 1 if $first && $token->{text} eq '#';
		$token->{directive} = $in;
	}
	return;
}

# The names that are used as types in all files: before another name, with or
# without asterisks, or in a cast to a pointer. A name that a variable has, too,
# is left out, since the formatter would take the variable for a type.
sub typedefs
{
	my @files = @_;
	my (%type, %variable);

	for my $file (@files)
	{
		my $tokens = tokens(read_file($file));
		my $is_name = sub { $_[0] && $_[0]{text} =~ /^[A-Za-z_]/ && !$keyword{ $_[0]{text} } };

		mark_directives($tokens);
		$tokens = [ grep { !$_->{directive} && $_->{text} !~ m{^/[*/]} } @$tokens ];
		for my $i (0 .. $#$tokens)
		{
			my ($before, $name) = ($i > 0 ? $tokens->[ $i - 1 ]{text} : '', $tokens->[$i]);
			my $k = $i + 1;

			next if !$is_name->($name) || $before =~ /^(?:struct|enum|union|goto|\.|->)$/;
			$k++ while $tokens->[$k] && ($tokens->[$k]{text} eq '*' || $tokens->[$k]{text} eq 'const');

			my ($next, $after) = @$tokens[ $k, $k + 1 ];
			my $stars = $k > $i + 1;

			# a product has blanks on both sides of the asterisk, a declaration on one
			next
			  if $stars
			  && $name->{text} !~ /^[A-Z]\w*[a-z]/
			  && ($tokens->[ $i + 1 ]{space} eq '' || $next->{space} ne '' && $next->{text} ne ')');
			if ($is_name->($next) && !($is_name->($after) || $keyword{ $after->{text} }))
			{
				$type{ $name->{text} } = 1;
				$variable{ $next->{text} } = 1 if $after->{text} =~ /^[;=,)\[]$/ && !($before eq '}');
			}
			$type{ $name->{text} } = 1 if $stars && $before eq '(' && $next->{text} eq ')';
			$type{ $name->{text} } = 1 if $before eq '}' && $name->{space} eq ' ' && $next->{text} eq ';';
		}
	}
	return grep { !$variable{$_} } sort keys %type;
}

# disguises what the formatter would spoil; restore() takes that back
sub disguise
{
	my ($tokens) = @_;
	my @open;

	mark_directives($tokens);
	for my $i (0 .. $#$tokens)
	{
		my $token = $tokens->[$i];
		my $text = $token->{text};

		if ($text =~ m{^/\*(?![-*])} && $token->{space} !~ /\n\z/ && $i > 0)
		{
			$token->{own} = $text;
			$token->{text} =~ s{^/\*}{/*$boxed};
		}
		next if $token->{directive};
		if ($text eq 'foreach')
		{
			$token->{own} = $text;
			$token->{text} = 'for';
		}
		elsif ($text eq '(' || $text eq '[')
		{
			push @open, $text;
		}
		elsif ($text eq '{')
		{
			my $cast = $i > 3 && $tokens->[ $i - 1 ]{text} eq ')' && $tokens->[ $i - 2 ]{text} =~ /^[\w\]]/;
			my $literal = $cast && join('', map { $_->{text} } @$tokens[ ($i > 10 ? $i - 10 : 0) .. $i ]) =~ /[=,(]\(\w+(?:\[\w*\])?\)\{$/;
			my $within = grep { $_ eq 'literal' || $_ eq 'hidden' } @open;

			if ($within || $literal && grep { $_ eq '(' } @open)
			{
				$token->{own} = $text;
				$token->{text} = '(';
				$token->{space} = ' ' if $literal && $token->{space} !~ /\n/;
				$tokens->[ $i + 1 ]{space} = '' if $literal;
				push @open, 'hidden';
			}
			else
			{
				push @open, $literal ? 'literal' : $text;
			}
		}
		elsif ($text =~ /^[])}]$/ && (pop(@open) // '') eq 'hidden')
		{
			$token->{own} = $text;
			$token->{text} = ')';
			$token->{space} = '' if $token->{space} =~ /\n/;
		}
	}
	return;
}

# what the formatter made of the tokens, with their own shape again
sub restore
{
	my ($path, $tokens, $text) = @_;
	my $formatted = tokens($text);

	for my $i (0 .. $#$tokens)
	{
		my $token = $formatted->[$i];

		die "$path: the formatter changed more than white space, at \"$tokens->[$i]{text}\"\n"
		  if !$token || bare($token) ne bare($tokens->[$i]);
		# "} name[] =", as the formatter writes it, ends with an empty line
		$token->{space} =~ s/\n+/\n/ if $token->{text} eq '{' && $i > 0 && $formatted->[ $i - 1 ]{text} eq '=';
		next unless defined $tokens->[$i]{own};
		if ($tokens->[$i]{own} eq 'foreach')
		{
			$token->{text} = 'foreach';
			$formatted->[ $i + 1 ]{space} = '';
		}
		elsif ($token->{text} =~ m{^/\*})
		{
			$token->{text} =~ s{^/\*$boxed}{/*};
		}
		else
		{
			$token->{text} = $tokens->[$i]{own};
		}
	}
	die "$path: the formatter added a token\n" if @$formatted != @$tokens;
	return join_tokens($formatted);
}

sub run
{
	my ($formatter, $typedefs, $path, $text) = @_;
	my $dir = File::Temp->newdir();
	my $in = "$dir/in.c";
	my $out = "$dir/out.c";
	my $tokens = tokens($text);

	die "$path: no token begins after \"", substr(join_tokens($tokens), -40), "\"\n" if join_tokens($tokens) ne $text;
	disguise($tokens);
	write_file($in, join_tokens($tokens));

	my $said = `'$formatter' @options -nfcb '-U$typedefs' '$in' '$out' 2>&1`;

	die "$path: $said\n" if $? || $said ne '';
	$text = read_file($out);
	# a function's type ends with one blank and the asterisk, as in pgindent
	$text =~ s/^([A-Za-z_]\S*)[ \t]+\*$/$1 */gm;
	return restore($path, $tokens, $text);
}

sub find_formatter
{
	my @places = $ENV{PG_BSD_INDENT} // ();

	if (!@places)
	{
		my $bindir = $ENV{PG_CONFIG} ? `'$ENV{PG_CONFIG}' --bindir 2>/dev/null` : '';

		chomp $bindir;
		@places = map { "$_/pg_bsd_indent" } grep { $_ ne '' } $bindir, split(/:/, $ENV{PATH}), sort glob('/usr/lib/postgresql/*/bin');
	}
	for my $place (@places)
	{
		return $place if -x $place && `'$place' --version 2>/dev/null` =~ /^pg_bsd_indent \Q$version\E /;
	}
	die "make indent needs pg_bsd_indent $version, of PostgreSQL 16 to 18: install Debian 13's package postgresql-server-dev-17,\n"
	  . "or set PG_BSD_INDENT=/path/to/pg_bsd_indent. On Debian 12, see docs/CONTRIBUTING.md.\n";
}

my $check = @ARGV && $ARGV[0] eq '--check';
my @files;
my $wrong = 0;

chdir "$FindBin::RealBin/.." || die $!;
# what is made by a build is left alone, where git knows that
@files = split /\0/, `git ls-files -z --cached --others --exclude-standard -- worker regress/bench 2>/dev/null`;
find({ no_chdir => 1, wanted => sub { push @files, $_ } }, 'worker', 'regress/bench') unless @files;
@files = sort grep { /\.[ch]\z/ && -f } @files;

my $list = 'regress/typedefs.list';
my $types = join '', map { "$_\n" } typedefs(@files);

if (!-e $list || read_file($list) ne $types)
{
	$check ? print("$list\n") : write_file($list, $types);
	$wrong = 1;
}

my $formatter = find_formatter();
my $typedefs = File::Temp->new();
my %formatted;

print $typedefs $types;
close($typedefs) || die $!;

# all or nothing
for my $file (@files)
{
	my $text = read_file($file);
	my $new = run($formatter, $typedefs->filename, $file, $text);

	$formatted{$file} = $new if $new ne $text;
}
for my $file (sort keys %formatted)
{
	print "$file\n";
	write_file($file, $formatted{$file}) unless $check;
	$wrong = 1;
}
exit($check && $wrong ? 1 : 0);
