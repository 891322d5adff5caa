#!/bin/sh
# Stops the servers whose data is below a folder, at once.
#
#   regress/stop-servers.sh FOLDER
#
# Copyright (c) 2026, the zodan_bgw authors

# whether a process is there and is a server: a crash leaves the file with its number
is_server() { grep -qs postgres "/proc/$1/cmdline"; }

find "$1" -name postmaster.pid -exec head -qn 1 {} + 2>/dev/null |
	while read -r pid
	do
		is_server "$pid" || continue
		kill -QUIT "$pid"
		for i in $(seq 100)
		do
			is_server "$pid" || break
			sleep 0.1
		done
	done
