#!/bin/sh
# Runs the tests, for pglogical and for every server with Spock that there is,
# in one run of prove, whose summary comes last.
#
#   regress/check.sh [WORD]     all tests, or those with WORD in their name
#   regress/check.sh --bench FILE...   measurements of regress/bench
#   regress/check.sh --soak     the endurance test of regress/soak, for MINUTES
#
# Run by "make check", inside regress/sandbox.sh. Servers with Spock are those
# that SPOCK_PG_CONFIG names (pg_configs, divided by blanks), or else all of
# /opt/*/bin/pg_config that have it. A test's name is SERVER:TEST; "tree"
# instead of a server stands for what is found by reading the sources.
# CHECK_JOBS is the number of tests that run at a time: 2, since a test mostly
# waits. With ZODAN_FAULTS those of regress/nightly are run, too.
#
# Copyright (c) 2026, the zodan_bgw authors
set -eu

servers=$ZODAN_SCRATCH/servers

# the version of an extension that a server has; fails if it has none
version() {
	sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$("$1" --sharedir)/extension/$2.control" 2>/dev/null | grep .
}

# a private copy of a server, by name, for check-one.sh
add_server() {
	engine=$1 pg_config=$2
	number=$("$pg_config" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
	name=$engine-$(version "$pg_config" "$engine")-pg$number
	[ ! -e "$servers/$name" ] || name=$name-$(echo "$pg_config" | cksum | cut -d ' ' -f 1)
	echo "Building for $name ($pg_config)"
	FAILPOINTS=$failpoints sh regress/server.sh "$pg_config" "$servers/$name"
	pgxs=$("$pg_config" --pgxs)
	cat >"$servers/$name/settings" <<-END
		engine='$engine'
		bin='$servers/$name$("$pg_config" --bindir)'
		source='${pgxs%/makefiles/*}'
	END
}

# shellcheck disable=SC2153
version "$PG_CONFIG" pglogical >/dev/null || { echo "The server of $PG_CONFIG has no pglogical." >&2; exit 1; }
mkdir "$servers"
failpoints=1
[ "${1:-}" != --bench ] || failpoints=
add_server pglogical "$PG_CONFIG"
pglogical=$name

if [ "${1:-}" = --bench ]
then
	shift
	for file in "$@"
	do
		TEST_SECONDS=7200 sh regress/check-one.sh "$pglogical:bench/$file.pl"
	done
	exit
fi

for pg_config in ${SPOCK_PG_CONFIG:-/opt/*/bin/pg_config}
do
	if [ -x "$pg_config" ] && version "$pg_config" spock >/dev/null
	then
		add_server spock "$pg_config"
	elif [ -n "${SPOCK_PG_CONFIG:-}" ]
	then
		echo "SPOCK_PG_CONFIG: no server with Spock at $pg_config" >&2
		exit 1
	fi
done

if [ "${1:-}" = --soak ]
then
	export TEST_SECONDS=$((MINUTES * 60 + 900))
	# shellcheck disable=SC2046
	exec prove --verbose --exec 'sh regress/check-one.sh' $(ls "$servers" | sed 's,$,:soak/soak.pl,')
fi

# without Spock, its tests say that they are skipped
set -- "${1:-}"
[ "$(ls "$servers")" != "$pglogical" ] || ln -s "$pglogical" "$servers/spock"

tests=$(
	for file in regress/t/000_*.pl
	do
		echo "tree:${file#regress/}"
	done
	for server in "$servers"/*
	do
		server=${server##*/}
		[ "$server" = spock ] || printf '%s\n' "$server:build" "$server:sql"
		for file in regress/t/*.pl ${ZODAN_FAULTS:+regress/nightly/*.pl}
		do
			case $file in */000_*) ;; *) echo "$server:${file#regress/}" ;; esac
		done
	done
)
tests=$(echo "$tests" | tr ' ' '\n' | grep -F -e "$1") || { echo "No test has '$1' in its name." >&2; exit 1; }

# shellcheck disable=SC2086
prove -j "${CHECK_JOBS:-2}" --timer --exec 'sh regress/check-one.sh' $tests
