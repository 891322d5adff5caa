# cppcheck has nothing to say about the C code.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use Test::More;

plan(skip_all => 'cppcheck is not installed') unless `cppcheck --version 2>/dev/null`;

chdir "$FindBin::RealBin/../.." || die $!;
# C files include the statements of worker/sql
is(system($ENV{MAKE} || 'make', '-s', 'sql-headers'), 0, 'the statements can be made into C');
is(`cppcheck --quiet --enable=warning,performance,portability --inline-suppr --suppress=normalCheckLevelMaxBranches -j 2 --include=regress/cppcheck.h -I worker worker 2>&1`,
	'', 'cppcheck');
done_testing();
