# Nodes that are reached by other means than a plain DSN: the source by a client
# certificate, the new node by a service of a service file. Protects from a
# part of a join (its programs, the copy, the engine) that connects in another
# way than the rest.
#
# Copyright (c) 2026, the zodan_bgw authors
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ZodanCluster;
use PostgreSQL::Test::Utils;
use Test::More;

ZodanCluster::plan_or_skip();

my $dir = PostgreSQL::Test::Utils::tempdir();
$ENV{PGSERVICEFILE} = "$dir/services";

# an authority, and certificates by it
sub openssl
{
	my (@arguments) = @_;
	PostgreSQL::Test::Utils::run_log([ 'openssl', @arguments ]) or die "openssl @arguments";
	return;
}

sub certificate
{
	my ($name, $subject) = @_;
	openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$subject", '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
	openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key", '-CAcreateserial', '-days', '2', '-out', "$dir/$name.crt");
	chmod 0600, "$dir/$name.key";
	return;
}
openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=authority', '-keyout', "$dir/ca.key", '-out', "$dir/ca.crt");
certificate('server', '127.0.0.1');

my $c = ZodanCluster->new(
	nodes => 1,
	conf => "listen_addresses = '127.0.0.1'\nssl = on\nssl_ca_file = '$dir/ca.crt'\nssl_cert_file = '$dir/server.crt'\nssl_key_file = '$dir/server.key'\n",
	setup => 'CREATE TABLE item (id int PRIMARY KEY, name text)');
my $n1 = $c->server('n1');
certificate('client', $c->psql('n1', 'SELECT current_user'));
$c->psql('n1', "INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 1000) AS i");
open my $hba, '>', $n1->data_dir . '/pg_hba.conf' or die $!;
print $hba "local all,replication all trust\nhostssl all,replication all 127.0.0.1/32 cert\n";
close $hba;
$n1->reload;

my $n2 = $c->add_server('n2');
open my $services, '>', $ENV{PGSERVICEFILE} or die $!;
print $services "[the_new_one]\nhost=" . $n2->host . "\nport=" . $n2->port . "\ndbname=inventory\nuser=" . $c->psql('n2', 'SELECT current_user') . "\n";
close $services;

my $src_dsn = 'host=127.0.0.1 port=' . $n1->port . ' dbname=inventory user=' . $c->psql('n1', 'SELECT current_user')
  . " sslmode=verify-full sslrootcert=$dir/ca.crt";
my $id = $c->request(new => 'n2', src_dsn => $src_dsn, new_node_dsn => 'service=the_new_one', operation => 'check');
$c->{quiet} = 1;
is($c->wait_for($id), 'failed', 'no certificate');
like($c->queue('n2', "SELECT found FROM zodan.check_failures WHERE request_id = $id AND node = 'n1'"), qr/certificate/, 'is told as such');
$c->{quiet} = 0;
$id = $c->request(new => 'n2', src_dsn => "$src_dsn sslcert=$dir/client.crt sslkey=$dir/client.key", new_node_dsn => 'service=the_new_one');
is($c->wait_for($id), 'done', 'with one, and by a service');
push @{ $c->{order} }, 'n2';
$c->psql('n2', "INSERT INTO item VALUES (-2, 'n2')");
$c->psql('n1', "INSERT INTO item VALUES (-1, 'n1')");
$c->settle;
is($c->differences, '', 'rows are the same');
is($c->psql('n1', 'SELECT count(*) FROM item'), '1002', 'both ways');
done_testing();
