#!/bin/sh
# Runs one test and tells its outcome in TAP: see check.sh, which prepares the
# servers.
#
#   regress/check-one.sh SERVER:TEST
#
# TEST is a Perl file below regress, or "build": nothing was warned of when the
# extension was built; or "sql": the tests of pg_regress, on a server of their own.
#
# Copyright (c) 2026, the zodan_bgw authors
set -eu

name=${1%%:*}
test=${1#*:}
server=$ZODAN_SCRATCH/servers/$name
work=$ZODAN_SCRATCH/work/$name/$test

# the lines of a file as remarks that a person sees
remarks() { sed 's/^/# /' "$@" >&2; }

# says whether the one test of a plan of one was passed
outcome() {
	echo 1..1
	[ "$1" = 0 ] || printf 'not '
	echo "ok 1 - $2"
	return "$1"
}

if [ "$name" = tree ]
then
	exec perl "regress/$test"
fi

engine='' bin='' source=''
# shellcheck source=/dev/null
. "$server/settings"
mkdir -p "$work"
export PATH="$bin:$PATH"

case $test in
	build)
		rc=0
		if grep -i -A 8 'warning:' "$server/build.log" >"$work/warnings"
		then
			rc=1
			remarks "$work/warnings"
		fi
		outcome $rc 'built without a warning'
		;;
	sql)
		cat >"$work/conf" <<-END
			shared_preload_libraries = 'zodan_bgw'
			wal_level = logical
			track_commit_timestamp = on
			fsync = off
		END
		rc=0
		# shellcheck disable=SC2012,SC2046
		"$source/test/regress/pg_regress" --bindir="$bin" --inputdir=regress --outputdir="$work" \
			--temp-instance="$work/instance" --temp-config="$work/conf" --encoding=UTF8 --dbname=contrib_regression \
			$(ls regress/sql/*.sql | sed 's,.*/,,; s,\.sql$,,') >"$work/output" 2>&1 || rc=1
		[ $rc = 0 ] || remarks "$work/output"
		[ $rc = 0 ] || [ ! -e "$work/regression.diffs" ] || remarks "$work/regression.diffs"
		perl -Iregress/perl -MZodanLogs -e 'exit ZodanLogs::report(@ARGV)' "$work"/log/*.log || rc=1
		outcome $rc 'pg_regress'
		;;
	*)
		# what the makefiles of PostgreSQL set: of 15 the first, of 16 and later the next two
		export TESTDIR="$work" TESTDATADIR="$work/data" TESTLOGDIR="$work/log"
		export PG_REGRESS="$source/test/regress/pg_regress" PG_TEST_PORT_DIR="$ZODAN_SCRATCH/ports"
		export PG_CONFIG="$bin/pg_config" ZODAN_ENGINE="$engine" ZODAN_TEMPLATE="$server/template"
		if [ "$name" = spock ]
		then
			export ZODAN_ENGINE=spock ZODAN_SKIP='no server with Spock: set SPOCK_PG_CONFIG'
		fi
		# "Bail out!" would end the other tests as well
		{
			timeout --foreground -k 60 "${TEST_SECONDS:-900}" perl -I "$source/test/perl" "regress/$test" && rc=0 || rc=$?
			echo "$rc" >"$work/rc"
		} | sed -u 's/^Bail out!/# bailed out:/'
		rc=$(cat "$work/rc")
		if [ "$rc" != 0 ]
		then
			# what was done last, without the end of the servers
			find "$work" -name 'regress_log_*' -exec grep -v -e 'pg_ctl.* stop$' -e 'Stopping node' -e 'No postmaster PID' \
				-e '^waiting for server to shut down' -e '^server stopped' {} + | tail -n 10 | remarks
			# a test that was ended has left them, and its writers
			sh regress/stop-servers.sh "$work"
		fi
		exit "$rc"
		;;
esac
