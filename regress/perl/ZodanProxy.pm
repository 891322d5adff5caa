# ZodanProxy: forwards a TCP port to a server, and stalls when told to.
#
#   my $p = ZodanProxy->new($port_of_the_server);
#   $p->port; $p->stall; $p->move; $p->stop;
#   ZodanProxy->new($port, pooler => 1);
#
# A pooler tells its clients another process's number than that of the server's
# process which runs their statements.
#
# While it stalls it neither reads nor writes nor closes anything, and who
# connects is accepted by the kernel and never answered: what it looks like when
# packets vanish, but that TCP itself doesn't notice.
#
# Copyright (c) 2026, the zodan_bgw authors
package ZodanProxy;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use POSIX ();

sub new
{
	my ($class, $to, %arg) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50, Proto => 'tcp') or die "proxy: $!";
	my $self = bless { port => $listener->sockport, stalled => PostgreSQL::Test::Utils::tempdir() . '/stalled' }, $class;

	$self->{pid} = fork // die "proxy: $!";
	if ($self->{pid} == 0)
	{
		$SIG{PIPE} = 'IGNORE';
		$SIG{TERM} = sub { POSIX::_exit(0) };
		eval { forward($listener, $to, $self->{stalled}, $arg{pooler}) };
		POSIX::_exit(1);
	}
	close $listener;
	return $self;
}

sub port { return $_[0]->{port}; }

sub stall
{
	my ($self) = @_;
	append_to_file($self->{stalled}, '');
	return;
}

sub move
{
	my ($self) = @_;
	unlink $self->{stalled} or die "proxy: $!";
	return;
}

sub stop
{
	my ($self) = @_;
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

# what has been read is written before anything else is: a slow end slows down
# the other one, and no data is kept here
sub forward
{
	my ($listener, $to, $stalled, $pooler) = @_;
	my $select = IO::Select->new($listener);
	my %other;

	my $parent = getppid;

	# a test that has died would be waited for as long as this lives
	while (getppid == $parent)
	{
		my @ready = $select->can_read(0.02);
		if (-e $stalled)
		{
			select undef, undef, undef, 0.02;
			next;
		}
		for my $socket (@ready)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;
				my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to, Proto => 'tcp') or next;
				@other{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				next;
			}
			my $other = $other{$socket} or next;
			my $n = sysread $socket, my $data, 65536;
			$data =~ s/(K\0\0\0\x0c)(....)/$1 . pack('N', unpack('N', $2) ^ 1)/se if $pooler;
			my $written = 0;
			while ($n && $written < $n)
			{
				my $w = syswrite $other, $data, $n - $written, $written;
				last unless $w;
				$written += $w;
			}
			next if $n && $written == $n;
			$select->remove($socket, $other);
			delete @other{ $socket, $other };
			close $_ for $socket, $other;
		}
	}
	return;
}

1;
