#!/bin/sh
# Installs the Debian packages that are missing, and prints the path of the
# server's pg_config. Everything else that is said goes to stderr.
#
#   regress/install.sh demo|check|bench
#
# The server is the one that PG_CONFIG names. Without that it's one of Debian's
# packages: a version that has all of them already, or else the release's own.
# Installing needs root; where nothing is missing, anybody can run this.
#
# Copyright (c) 2026, the zodan_bgw authors
set -eu

# what is needed besides the server
case $1 in
	demo) tools='gcc libc6-dev make perl' ;;
	check) tools='gcc libc6-dev make perl libipc-run-perl cppcheck openssl' ;;
	bench) tools='gcc libc6-dev make perl libipc-run-perl pgcopydb' ;;
	*) echo "usage: $0 demo|check|bench" >&2; exit 2 ;;
esac

say() { echo "$@" >&2; }
fail() { say "$@"; exit 1; }

# the server's packages, of one version
server() {
	echo "postgresql-$1 postgresql-server-dev-$1 postgresql-$1-pglogical"
	[ "$2" = demo ] || echo "postgresql-$1-cron"
}

# those of the packages that aren't installed
missing() {
	for package in "$@"
	do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
	done
}

# the version that the release's package "postgresql" stands for
release_version() {
	apt-cache depends postgresql 2>/dev/null | sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}

install() {
	[ "$(id -u)" = 0 ] || fail "Packages are missing: run this as root, or: apt-get install $*"
	log=$(mktemp)
	own=/etc/postgresql-common/createcluster.d/zodan.conf
	# no cluster is made, and so none is started, with a server's package
	made=
	[ -d "${own%/*}" ] || made=${own%/*}
	mkdir -p "${own%/*}"
	trap 'rm -f "$log" "$own"; [ -z "$made" ] || rmdir "$made" 2>/dev/null || :' EXIT
	trap 'exit 130' INT TERM HUP
	echo 'create_main_cluster = false' >"$own"
	say "Installing Debian packages, which may take minutes:" "$@"
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" \
		>"$log" 2>&1 </dev/null || { tail -n 30 "$log" >&2; fail "apt-get could not install them."; }
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
then
	if [ -n "${PG_CONFIG:-}" ]
	then
		# names without blanks, from here on
		# shellcheck disable=SC2046,SC2086
		set -- $(missing $tools)
	else
		version=
		# shellcheck disable=SC2012
		for dir in $(ls -d /usr/lib/postgresql/* 2>/dev/null | sort -rV)
		do
			# shellcheck disable=SC2046
			[ -n "$(missing $(server "${dir##*/}" "$1"))" ] || { version=${dir##*/}; break; }
		done
		[ -n "$version" ] || version=$(release_version)
		if [ -z "$version" ] && [ "$(id -u)" = 0 ]
		then
			apt-get -qq update >&2
			version=$(release_version)
		fi
		[ -n "$version" ] || fail "No package 'postgresql' is known: run 'apt-get update' as root."
		PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config
		# shellcheck disable=SC2046,SC2086
		set -- $(missing $tools $(server "$version" "$1"))
	fi
	[ $# = 0 ] || install "$@"
elif [ -z "${PG_CONFIG:-}" ]
then
	fail "This isn't Debian: name a server that has pglogical, as in PG_CONFIG=/path/to/pg_config."
fi

"$PG_CONFIG" --version >/dev/null || fail "$PG_CONFIG doesn't run."
echo "$PG_CONFIG"
