# ZodanLogs: looks for crashes in the logs of servers. A server comes back by
# itself when one of its processes has crashed, so nobody else might notice.
#
#   perl -Iregress/perl -MZodanLogs -e 'exit ZodanLogs::report(@ARGV)' FILE...
#
# Copyright (c) 2026, the zodan_bgw authors
package ZodanLogs;

use strict;
use warnings;

# The ways in which PostgreSQL, its memory management, and the C library say so.
# A statement that is logged may have such words in it: they are looked for where
# a message begins. A background worker ends with 2 when another process has crashed.
my $crash = qr{
	\sLOG:\ \ .*\(PID\ \d+\)\ was\ terminated\ by\ (?:signal|exception)\b
	| \sLOG:\ \ (?!background\ worker)[\w\ ]+\(PID\ \d+\)\ exited\ with\ exit\ code\ (?![01]\b)
	| ^TRAP:\ | \sPANIC:\ \ 
	| \s(?:WARNING|ERROR|FATAL):\ \ (?:problem\ in\ \w+\ |detected\ write\ past\ chunk\ end|could\ not\ find\ block\ containing\ chunk
		|(?:pfree|repalloc|GetMemoryChunk\w+)\ called\ with\ invalid\ pointer)
	| ^(?:\*\*\*\ .*\ \*\*\*|double\ free\ or\ corruption|corrupted\ size|malloc\(\):|free\(\):|realloc\(\):|munmap_chunk\(\))
}x;

my %killed;

# kills processes, as the out-of-memory killer does: their ends are no crashes
sub kill_process
{
	my (@pids) = @_;
	$killed{$_} = 1 for @pids;
	return kill 'KILL', @pids;
}

# the lines of these logs by which a server says that it, or a process of it, has
# crashed, each with its file; those of processes that the test has killed, or
# that have done it themselves at a point where they had to, aren't among them
sub crashes
{
	my (@files) = @_;
	my @lines;

	for my $path (@files)
	{
		my %own;
		open my $file, '<', $path or do { push @lines, "$path: $!"; next; };
		while (my $line = <$file>)
		{
			chomp $line;
			$own{$1} = 1 if $line =~ /LOG:  failpoint \S+ kills process (\d+)$/;
			next unless $line =~ $crash;
			next if $line =~ /\(PID (\d+)\) was terminated by signal 9\b/ && ($killed{$1} || $own{$1});
			push @lines, "$path: $line";
		}
		close $file;
	}
	return @lines;
}

# tells of crashes on stderr; returns 1 if there was one, else 0
sub report
{
	my (@files) = @_;
	my @lines = crashes(@files);

	print STDERR "# a server has crashed: $_\n" for @lines;
	return @lines ? 1 : 0;
}

1;
