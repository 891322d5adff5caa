/*
 * program.h
 *		PostgreSQL's own programs as child processes.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_PROGRAM_H
#define ZODAN_PROGRAM_H

#include "remote/remote.h"

#include "base/wait.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

typedef struct ZodanProgram
{
	char	  **argv;
	int			argc;
	char	  **envp;
	ZodanSession *session;
	const ZodanConn *conn;		/* to the node that it works on; NULL: to none */

	/* while it runs, and after that */
	pid_t		pid;
	int			fd;				/* where it prints; -1: it has ended */
	ZodanDeadline deadline;		/* when its node is asked whether it's there */
	StringInfoData output;
} ZodanProgram;

extern ZodanProgram *zodan_program_new(ZodanSession *session, const char *ddl_setting, const char *program, ZodanConn *conn);
extern void zodan_program_arg(ZodanProgram *command, char *arg);
extern void zodan_program_run_all(const List *commands);
extern char *zodan_program_run(ZodanProgram *command);

#endif							/* ZODAN_PROGRAM_H */
