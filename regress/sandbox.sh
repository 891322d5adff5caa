#!/bin/sh
# Runs a command in a scratch folder that holds a copy of this tree. Missing
# packages are installed before (see install.sh); root becomes "postgres", as
# PostgreSQL wants. At the end servers that still run are stopped and the
# folder is removed, whatever happened; with KEEP=1 both are left.
#
#   regress/sandbox.sh demo|check|bench COMMAND...
#
# The command finds PG_CONFIG, and the scratch folder as ZODAN_SCRATCH.
#
# Copyright (c) 2026, the zodan_bgw authors
set -eu
umask 022
cd "$(dirname "$0")/.."

PG_CONFIG=$(sh regress/install.sh "$1")
shift

# variables that would reach into what runs below
unset MAKEFLAGS MFLAGS MAKELEVEL LANGUAGE
# shellcheck disable=SC2046
unset $(env | sed -n 's/^\(PG[A-Z]*\)=.*/\1/p')
# pg_regress takes LC_ALL away
export LC_ALL=C.UTF-8 LANG=C.UTF-8

# root's own temporary folder may be closed to others
[ "$(id -u)" != 0 ] || unset TMPDIR
ZODAN_SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/zodan.XXXXXX")

cp regress/stop-servers.sh "$ZODAN_SCRATCH"
cat >"$ZODAN_SCRATCH/stop" <<END
#!/bin/sh
# stops the servers in this folder, and removes it
cd '$ZODAN_SCRATCH' || exit
sh ./stop-servers.sh .
cd / && rm -rf '$ZODAN_SCRATCH'
END
[ -n "${KEEP:-}" ] || trap 'sh "$ZODAN_SCRATCH/stop"' EXIT
# the command gets them too: leave, by way of the trap, when it has ended
trap 'exit 130' INT TERM HUP

mkdir "$ZODAN_SCRATCH/tree"
tar -cf - --exclude=.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' --exclude='worker/sql/*.h' --exclude=tmp_check . |
	tar -xf - --no-same-owner -C "$ZODAN_SCRATCH/tree"

as=
if [ "$(id -u)" = 0 ]
then
	user=postgres
	id "$user" >/dev/null 2>&1 || user=nobody
	group=$(id -gn "$user")
	chown -R "$user:$group" "$ZODAN_SCRATCH"
	as="setpriv --reuid=$user --regid=$group --init-groups env USER=$user LOGNAME=$user"
fi
cd "$ZODAN_SCRATCH/tree"
$as env HOME="$ZODAN_SCRATCH" ZODAN_SCRATCH="$ZODAN_SCRATCH" PG_CONFIG="$PG_CONFIG" "$@"
