#!/bin/sh
# Makes a private copy of a server in a folder, builds this tree's extension
# for it, and installs it there: PostgreSQL finds its files relative to its
# programs, so what is installed on the machine stays as it is, and nobody
# needs to be root. The output of make is in FOLDER/build.log.
#
#   regress/server.sh PG_CONFIG FOLDER
#
# With FAILPOINTS in the environment, tests can make a request fail there.
#
# Copyright (c) 2026, the zodan_bgw authors
set -eu

pg_config=$1
to=$2
tree=$(cd "$(dirname "$0")/.." && pwd)
bin=$("$pg_config" --bindir)
lib=$("$pg_config" --pkglibdir)
share=$("$pg_config" --sharedir)

# programs are copied, since a link would lead them back; the rest is linked
mkdir -p "$to$bin" "$to$lib" "$to$share/extension"
cp -RL "$bin/." "$to$bin"
ln -s "$lib"/* "$to$lib"
for file in "$share"/*
do
	[ "${file##*/}" = extension ] || ln -s "$file" "$to$share"
done
ln -s "$share"/extension/* "$to$share/extension"
rm -f "$to$lib"/zodan_bgw* "$to$share"/extension/zodan_bgw*

# of its own, since objects are made where the sources are
mkdir "$to/src"
cp -R "$tree/Makefile" "$tree/zodan_bgw.control" "$tree/worker" "$tree/sql" "$to/src"
{
	make -C "$to/src" -j2 PG_CONFIG="$pg_config" with_llvm=no ${FAILPOINTS:+FAILPOINTS=1}
	make -C "$to/src" PG_CONFIG="$pg_config" with_llvm=no ${FAILPOINTS:+FAILPOINTS=1} install DESTDIR="$to"
} >"$to/build.log" 2>&1 </dev/null || { tail -n 30 "$to/build.log" >&2; echo "The extension could not be built for $pg_config." >&2; exit 1; }
