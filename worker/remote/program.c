/*
 * program.c
 *		PostgreSQL's own programs as child processes.
 *
 * They end with us. Passwords reach them by their environment, never by their
 * arguments.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "remote/program.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/dsn.h"
#include "base/settings.h"
#include "lib/stringinfo.h"
#include "port.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

/* how long a program may take to end when it's told to */
#define END_MS		5000

/* how many there can be at a time */
#define CHILDREN_MAX	64

/* of what a program prints, more than this is left out */
#define OUTPUT_MAX	(512 * 1024 * 1024)

static char *
program_path(const char *program)
{
	char		path[MAXPGPATH];

	if (zodan_bindir[0])
		return psprintf("%s/%s", zodan_bindir, program);
	strlcpy(path, my_exec_path, sizeof(path));
	get_parent_directory(path);
	return psprintf("%s/%s", path, program);
}

/*
 * Adds an argument, which must stay as it is until the program has run.
 */
void
zodan_program_arg(ZodanProgram *command, char *arg)
{
	command->argv = command->argv ?
		repalloc(command->argv, sizeof(char *) * (command->argc + 2)) :
		palloc(sizeof(char *) * 2);
	command->argv[command->argc++] = arg;
	command->argv[command->argc] = NULL;
}

/*
 * The environment of a program: ours, but with nothing in it that changes what
 * it says, and the password.
 */
static void
set_environment(ZodanProgram *command, const char *password)
{
	extern char **environ;
	int			n = 0;

	for (char **e = environ; *e; e++)
		n++;
	command->envp = palloc0(sizeof(char *) * (n + 3));
	n = 0;
	for (char **e = environ; *e; e++)
		if (strncmp(*e, "PGPASSWORD=", 11) != 0 && strncmp(*e, "LC_ALL=", 7) != 0)
			command->envp[n++] = *e;
	if (password)
		command->envp[n++] = psprintf("PGPASSWORD=%s", password);
	command->envp[n++] = "LC_ALL=C";
}

/*
 * Begins the command of one of PostgreSQL's programs, which connects to a node
 * (NULL: to none). Its session logs nothing that it is sent, and doesn't
 * replicate what it changes: ddl_setting (may be NULL) is off there.
 */
ZodanProgram *
zodan_program_new(ZodanSession *session, const char *ddl_setting, const char *program, ZodanConn *conn)
{
	ZodanProgram *command = palloc0(sizeof(ZodanProgram));
	char	   *password = NULL;
	StringInfoData options;

	command->session = session;
	command->conn = conn;
	zodan_program_arg(command, program_path(program));
	initStringInfo(&options);
	if (conn)
	{
		appendStringInfoString(&options,
							   "-c log_statement=none -c log_min_error_statement=panic"
							   " -c log_min_duration_statement=-1 -c client_min_messages=error"
							   " -c statement_timeout=0 -c lock_timeout=0"
							   " -c idle_in_transaction_session_timeout=0 -c synchronous_commit=local");
		if (ddl_setting)
			appendStringInfo(&options, " -c %s=off", ddl_setting);
		zodan_program_arg(command, psprintf("--dbname=%s", zodan_dsn_for_child(conn->dsn, conn->pg, session->child,
																			   options.data, &password)));
	}
	set_environment(command, password);
	return command;
}

/*
 * A program must not outlive us: what it makes, our successor makes again.
 */
static void
end_children(int code, Datum arg)
{
	ZodanSession *session = (ZodanSession *) DatumGetPointer(arg);
	ZodanDeadline deadline = zodan_wait_deadline(END_MS);

	(void) code;
	for (int i = 0; i < session->nchildren; i++)
		kill(session->children[i], SIGTERM);
	/* it asks its server to cancel, and waits for ever for one that is silent */
	while (session->nchildren > 0)
	{
		pid_t		child = session->children[session->nchildren - 1];

		if (waitpid(child, NULL, WNOHANG) == 0)
		{
			if (!zodan_wait_passed(deadline))
			{
				zodan_wait_latch(20);
				continue;
			}
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
		}
		session->nchildren--;
	}
}

/*
 * Raises an error, with the node's name, if the program's node is silent.
 */
static void
require_answer(const ZodanProgram *command)
{
	if (command->conn && command->conn->pg && !zodan_remote_answers(command->conn))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("node \"%s\": no answer within " INT64_FORMAT " ms, while %s waits for it",
						command->conn->node, command->session->timeout_ms, last_dir_separator(command->argv[0]) + 1)));
}

/*
 * What kind of error a program has told of, which a node has told it, or which
 * it has seen itself: a lost connection, a lock that it didn't get in time, a
 * lack of resources, or something that stays as it is. The text also has the
 * names of objects in it, which may be any.
 */
static int
program_sqlstate(const char *text, int status)
{
	static const struct
	{
		const char *message;
		int			sqlstate;
	}			kinds[] = {
		{"connection to server ", ERRCODE_CONNECTION_FAILURE},
		{"could not translate host name", ERRCODE_CONNECTION_FAILURE},
		{"closed the connection", ERRCODE_CONNECTION_FAILURE},
		{"connection has been closed", ERRCODE_CONNECTION_FAILURE},
		{"no connection to the server", ERRCODE_CONNECTION_FAILURE},
		{"SSL SYSCALL error", ERRCODE_CONNECTION_FAILURE},
		{"terminating connection", ERRCODE_CONNECTION_FAILURE},
		{"could not receive data from server", ERRCODE_CONNECTION_FAILURE},
		{"could not send data to server", ERRCODE_CONNECTION_FAILURE},
		{"canceling statement", ERRCODE_QUERY_CANCELED},
		/* several at work at one table can be in each other's way */
		{"deadlock detected", ERRCODE_T_R_DEADLOCK_DETECTED},
		{"No space left on device", ERRCODE_DISK_FULL},
		{"out of memory", ERRCODE_OUT_OF_MEMORY},
		{"out of shared memory", ERRCODE_OUT_OF_MEMORY},
	};

	if (WIFSIGNALED(status))
		return ERRCODE_CONNECTION_FAILURE;
	for (int i = 0; i < lengthof(kinds); i++)
		if (strstr(text, kinds[i].message))
			return kinds[i].sqlstate;
	return ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;
}

static void
start(ZodanProgram *command)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	none;
	sigset_t	all;
	int			fds[2];
	int			rc;
	ZodanSession *session = command->session;

	if (!session->children)
	{
		session->children = MemoryContextAlloc(TopMemoryContext, sizeof(pid_t) * CHILDREN_MAX);
		before_shmem_exit(end_children, PointerGetDatum(session));
	}
	if (session->nchildren == CHILDREN_MAX)
		elog(ERROR, "too many programs at a time");
	if (pipe(fds) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not make a pipe: %m")));
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fcntl(fds[1], F_SETFD, FD_CLOEXEC);

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawn(&command->pid, command->argv[0], &actions, &attributes, command->argv, command->envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(fds[1]);
	if (rc != 0)
	{
		close(fds[0]);
		errno = rc;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("could not run \"%s\": %m", command->argv[0]),
				 errhint("Set zodan.bindir to the directory of the new node's PostgreSQL programs.")));
	}
	session->children[session->nchildren++] = command->pid;
	command->fd = fds[0];
	command->deadline = zodan_session_deadline(command->session);
	initStringInfo(&command->output);
}

/*
 * Takes what the program has printed. Returns false when that was all.
 */
static bool
take_output(ZodanProgram *command)
{
	char		chunk[8192];
	ssize_t		n;

	while ((n = read(command->fd, chunk, sizeof(chunk))) > 0)
	{
		command->deadline = zodan_session_deadline(command->session);
		if (command->output.len + n < OUTPUT_MAX)
			appendBinaryStringInfo(&command->output, chunk, (int) n);
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from \"%s\": %m", command->argv[0])));
	return n != 0;
}

/*
 * Ends a program that has closed its output. An error of its is raised with its
 * last line.
 */
static void
finish(ZodanProgram *command)
{
	ZodanSession *session = command->session;
	int			status;
	int			i;

	close(command->fd);
	command->fd = -1;
	while (waitpid(command->pid, &status, WNOHANG) == 0)
		zodan_wait_latch(1);
	for (i = 0; session->children[i] != command->pid; i++)
		;
	session->children[i] = session->children[--session->nchildren];

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
	{
		char	   *text = zodan_dsn_redact_text(&session->secrets, command->output.data);
		char	   *statement = strstr(text, "Command was:");

		/* the statement may hold the password of a user mapping, say */
		if (statement)
			*statement = '\0';
		while (text[0] && text[strlen(text) - 1] == '\n')
			text[strlen(text) - 1] = '\0';
		ereport(ERROR,
				(errcode(program_sqlstate(text, status)),
				 errmsg("%s%s failed: %s", command->conn ? psprintf("node \"%s\": ", command->conn->node) : "",
						last_dir_separator(command->argv[0]) + 1, text)));
	}
}

/*
 * Runs programs side by side, at most CHILDREN_MAX, all to their ends. How long
 * that takes depends on the data, so there is no deadline as long as the nodes
 * are there; it ends if we are asked to. An error of one of them is raised; the
 * others end with us.
 */
void
zodan_program_run_all(const List *commands)
{
	ZodanSession *session;
	ListCell   *cell;

	if (commands == NIL)
		return;
	session = ((ZodanProgram *) linitial(commands))->session;
	foreach(cell, commands)
		start(lfirst(cell));
	for (;;)
	{
		ZodanSocket sockets[CHILDREN_MAX];
		int			nsockets = 0;

		foreach(cell, commands)
		{
			ZodanProgram *command = lfirst(cell);

			if (command->fd < 0)
				continue;
			if (!take_output(command))
			{
				finish(command);
				continue;
			}
			if (zodan_wait_passed(command->deadline))
			{
				require_answer(command);
				command->deadline = zodan_session_deadline(command->session);
			}
			sockets[nsockets++] = (ZodanSocket)
			{
				.fd = command->fd,.events = WL_SOCKET_READABLE
			};
		}
		if (nsockets == 0)
			return;
		zodan_wait_sockets(&session->waiter, sockets, nsockets, zodan_session_deadline(session));
	}
}

/*
 * Runs one program as zodan_program_run_all() does, and returns what it has
 * printed.
 */
char *
zodan_program_run(ZodanProgram *command)
{
	zodan_program_run_all(list_make1(command));
	return command->output.data;
}
