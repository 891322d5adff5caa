# cppcheck has nothing to say about the C code.
use strict;
use warnings;

use FindBin;
use Test::More;

plan(skip_all => 'cppcheck is not installed') unless `cppcheck --version 2>/dev/null`;

my $tree = "$FindBin::RealBin/../..";
my $said = `cd '$tree' && cppcheck --quiet --enable=warning,performance,portability --inline-suppr -j 2 -I worker worker 2>&1`;
is($said, '', 'cppcheck');
done_testing();
