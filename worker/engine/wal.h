/*
 * wal.h
 *		What a node's WAL tells of commits.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_WAL_H
#define ZODAN_WAL_H

#include "base/lsn.h"
#include "remote/connection.h"
#include "remote/remote.h"


/* A peer whose commits are looked for in the source's WAL */
typedef struct ZodanResume
{
	const char *node;
	const char *ids[2];			/* what its commits may be labelled with; "*": anything */
	XLogRecPtr	lsn;			/* in: where its marker is; out: where to go on */
	bool		found;			/* private */
} ZodanResume;

extern bool zodan_wal_readable(ZodanCall *call);
extern void zodan_wal_resume_points(ZodanConn *source, XLogRecPtr window, XLogRecPtr consistent,
									ZodanResume *peers, int npeers);
extern bool zodan_wal_are_commits(ZodanConn *conn, const char *from, const char *positions, int at_least);
extern XLogRecPtr zodan_wal_last_marker(ZodanConn *conn, const char *name, XLogRecPtr window, XLogRecPtr before);

#endif							/* ZODAN_WAL_H */
