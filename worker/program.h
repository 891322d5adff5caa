/*
 * program.h
 *		PostgreSQL's own programs as child processes.
 */
#ifndef ZODAN_PROGRAM_H
#define ZODAN_PROGRAM_H

#include "remote.h"

typedef struct ZodanProgram
{
	char	  **argv;
	int			argc;
	char	  **envp;
	const ZodanConn *conn;		/* to the node that it works on; NULL: to none */
} ZodanProgram;

extern ZodanProgram *zodan_program(const char *ddl_setting, const char *program, ZodanConn *conn);
extern void zodan_program_arg(ZodanProgram *command, char *arg);
extern char *zodan_program_run(ZodanProgram *command);

#endif							/* ZODAN_PROGRAM_H */
