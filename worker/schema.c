/*
 * schema.c
 *		The structure of the database: pg_dump, pg_restore, foreign keys and
 *		sequences.
 *
 * The dump is made once, under the snapshot of the subscription's slot, and
 * kept in a directory of the request's below the data directory until the
 * request ends. It is restored in three parts, each by its own list of the
 * dump's contents:
 *
 *		tables		all of the section "pre-data", in one transaction
 *		indexes		"post-data" but foreign keys, comments and event triggers
 *		last		the comments and event triggers
 *
 * Foreign keys are taken from the source's catalog instead, since pg_restore
 * can't add them without locking out the engine's apply for the time that
 * checking all rows takes.
 *
 * Passwords reach the programs by their environment.
 */
#include "schema.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"
#include "lib/stringinfo.h"
#include "port.h"
#include "settings.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#define WORK_DIR	"zodan"
#define OUTPUT_MAX	(512 * 1024 * 1024)

/* an argument list that grows */
typedef struct Command
{
	char	  **argv;
	int			argc;
	char	  **envp;
} Command;

/* ---------- programs ---------- */

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

static void
add_arg(Command *command, char *arg)
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
set_environment(Command *command, const char *password)
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
 * Begins a command that connects to a node (NULL: to none). Its session logs
 * nothing that it is sent, and doesn't replicate what it changes.
 */
static Command *
new_command(ZodanJob *job, const char *program, ZodanConn *conn)
{
	Command    *command = palloc0(sizeof(Command));
	char	   *password = NULL;
	StringInfoData options;

	add_arg(command, program_path(program));
	initStringInfo(&options);
	if (conn)
	{
		appendStringInfoString(&options,
							   "-c log_statement=none -c log_min_error_statement=panic"
							   " -c log_min_duration_statement=-1 -c client_min_messages=error"
							   " -c statement_timeout=0 -c lock_timeout=0"
							   " -c idle_in_transaction_session_timeout=0");
		if (job->engine->ddl_setting)
			appendStringInfo(&options, " -c %s=off", job->engine->ddl_setting);
		add_arg(command, psprintf("--dbname=%s", zodan_dsn_for_child(conn, options.data, &password)));
	}
	set_environment(command, password);
	return command;
}

/* the program under way; 0: none */
static pid_t child = 0;

/*
 * A program must not outlive us: what it makes, our successor makes again.
 */
static void
end_child(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (child > 0)
	{
		kill(child, SIGTERM);
		waitpid(child, NULL, 0);
		child = 0;
	}
}

/*
 * Runs the program to its end and returns what it has printed. How long that
 * takes depends on the data, so there is no deadline; it ends if we are asked
 * to. An error of the program's is raised with its last line.
 */
static char *
run_command(Command *command)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	none;
	sigset_t	all;
	StringInfoData output;
	int			fds[2];
	int			status;
	int			rc;
	static bool registered = false;

	if (!registered)
		before_shmem_exit(end_child, (Datum) 0);
	registered = true;
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
	rc = posix_spawn(&child, command->argv[0], &actions, &attributes, command->argv, command->envp);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(fds[1]);
	if (rc != 0)
	{
		child = 0;
		errno = rc;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FILE),
				 errmsg("could not run \"%s\": %m", command->argv[0]),
				 errhint("Set zodan.bindir to the directory of the new node's PostgreSQL programs.")));
	}

	initStringInfo(&output);
	for (;;)
	{
		char		chunk[8192];
		ssize_t		n = read(fds[0], chunk, sizeof(chunk));

		if (n == 0)
			break;
		if (n < 0)
		{
			ZodanSocket sock = {.fd = fds[0],.events = WL_SOCKET_READABLE};

			if (errno != EAGAIN && errno != EINTR)
				ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from \"%s\": %m", command->argv[0])));
			zodan_wait_sockets(&sock, 1, zodan_deadline(1000));
		}
		else if (output.len + n < OUTPUT_MAX)
			appendBinaryStringInfo(&output, chunk, (int) n);
	}
	close(fds[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	child = 0;

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
	{
		char	   *text = zodan_redact(output.data);
		char	   *statement = strstr(text, "Command was:");

		/* the statement may hold the password of a user mapping, say */
		if (statement)
			*statement = '\0';

		/* what it says comes from a node or from itself: both are worth trying again if it is the connection */
		while (text[0] && text[strlen(text) - 1] == '\n')
			text[strlen(text) - 1] = '\0';
		ereport(ERROR,
				(errcode(strstr(text, "connection") || WIFSIGNALED(status) ?
						 ERRCODE_CONNECTION_FAILURE : ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("%s failed: %s", last_dir_separator(command->argv[0]) + 1, text)));
	}
	return output.data;
}

/*
 * Are pg_dump and pg_restore there, and of the version (server_version_num)
 * that the new node has? Returns what is found instead, or NULL.
 */
char *
zodan_schema_check_tools(ZodanJob *job, int version)
{
	static char *const programs[] = {"pg_dump", "pg_restore"};

	for (int i = 0; i < lengthof(programs); i++)
	{
		Command    *command = new_command(job, programs[i], NULL);
		int			major = 0;

		if (access(command->argv[0], X_OK) != 0)
			return psprintf("no program \"%s\"", command->argv[0]);
		add_arg(command, "--version");
		if (sscanf(run_command(command), "%*s (PostgreSQL) %d", &major) != 1 || major != version / 10000)
			return psprintf("\"%s\" of PostgreSQL %d", command->argv[0], major);
	}
	return NULL;
}

/* ---------- the dump ---------- */

static char *
work_path(ZodanJob *job, const char *file)
{
	return psprintf("%s/%s/" INT64_FORMAT "/%s", DataDir, WORK_DIR, job->req->id, file);
}

static void
make_directory(const char *path)
{
	if (MakePGDirectory(path) < 0 && errno != EEXIST)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create directory \"%s\": %m", path)));
}

static void
write_file(const char *path, const char *text)
{
	FILE	   *file = AllocateFile(path, "w");
	size_t		length = strlen(text);

	if (!file || fwrite(text, 1, length, file) != length || fflush(file) != 0 ||
		pg_fsync(fileno(file)) != 0 || FreeFile(file) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

/*
 * The schemas of the new node that are the user's: neither the system's, nor
 * an extension's, nor "public", which every database has. The literal of an
 * array.
 */
char *
zodan_schema_own_schemas(ZodanJob *job)
{
	return zodan_value(&job->new_conn,
					   "SELECT pg_catalog.array_agg(n.nspname ORDER BY n.nspname)::text"
					   "  FROM pg_catalog.pg_namespace n"
					   " WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')"
					   "   AND n.nspname <> ALL ($1::text[])"
					   "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
					   "                    WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass"
					   "                      AND d.objid = n.oid AND d.deptype = 'e')",
					   1, job->engine->foreign_schemas);
}

bool
zodan_schema_dumped(ZodanJob *job)
{
	return access(work_path(job, "schema.dump"), R_OK) == 0;
}

/*
 * One entry of pg_restore's list, such as
 *		"3301; 2606 16390 FK CONSTRAINT public t t_fkey owner"
 * The type is upper case words, then come the schema and the name.
 */
static bool
entry_is(const char *line, const char *type)
{
	unsigned	oid;
	unsigned	table;
	int			dump_id;
	int			start = 0;
	size_t		length = strlen(type);

	return sscanf(line, "%d; %u %u %n", &dump_id, &table, &oid, &start) >= 3 && start > 0 &&
		strncmp(line + start, type, length) == 0 && line[start + length] == ' ';
}

/*
 * Is it about an extension that no node gets by a restore: the engine's, ours
 * and what belongs to one server only?
 */
static bool
entry_is_foreign(ZodanJob *job, const char *line)
{
	const char *own[] = {job->engine->name, "zodan_bgw", "pg_cron"};

	for (int i = 0; i < lengthof(own); i++)
	{
		if (strstr(line, psprintf(" EXTENSION - %s ", own[i])) ||
			strstr(line, psprintf(" COMMENT - EXTENSION %s ", own[i])) ||
			strstr(line, psprintf(" SCHEMA - %s ", own[i])) ||
			strstr(line, psprintf(" ACL - SCHEMA %s ", own[i])))
			return true;
	}
	return false;
}

/*
 * The entries of a section of the dump, one a line.
 */
static char *
list_section(ZodanJob *job, char *dump, const char *section)
{
	Command    *command = new_command(job, "pg_restore", NULL);

	add_arg(command, "--list");
	add_arg(command, psprintf("--section=%s", section));
	add_arg(command, dump);
	return run_command(command);
}

/*
 * Writes the lists of what is restored when.
 */
static void
write_lists(ZodanJob *job, char *dump)
{
	StringInfoData pre,
				post,
				last;
	char	   *rest;

	initStringInfo(&pre);
	initStringInfo(&post);
	initStringInfo(&last);

	for (char *line = strtok_r(list_section(job, dump, "pre-data"), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
		if (line[0] != ';' && !entry_is_foreign(job, line))
			appendStringInfo(&pre, "%s\n", line);
	for (char *line = strtok_r(list_section(job, dump, "post-data"), "\n", &rest); line;
		 line = strtok_r(NULL, "\n", &rest))
	{
		if (line[0] == ';' || entry_is(line, "FK CONSTRAINT"))
			continue;
		appendStringInfo(entry_is(line, "COMMENT") || entry_is(line, "EVENT TRIGGER") ? &last : &post,
						 "%s\n", line);
	}
	write_file(work_path(job, "pre.list"), pre.data);
	write_file(work_path(job, "post.list"), post.data);
	write_file(work_path(job, "last.list"), last.data);
}

/*
 * Dumps the source's structure as the snapshot shows it, without the schemas
 * in skipped_schemas (an array literal, as the engine's are skipped too).
 */
void
zodan_schema_dump(ZodanJob *job, const char *snapshot, const char *skipped_schemas)
{
	ZodanMember *source = ZODAN_SOURCE(job);
	Command    *command = new_command(job, "pg_dump", &source->conn);
	char	   *unfinished = work_path(job, psprintf("schema.%d", MyProcPid));
	PGresult   *result;

	make_directory(psprintf("%s/%s", DataDir, WORK_DIR));
	make_directory(psprintf("%s/%s/" INT64_FORMAT, DataDir, WORK_DIR, job->req->id));

	add_arg(command, "--format=custom");
	add_arg(command, "--section=pre-data");
	add_arg(command, "--section=post-data");
	add_arg(command, "--no-subscriptions");
	/* large objects: their contents don't replicate */
	add_arg(command, "-B");
	add_arg(command, psprintf("--snapshot=%s", snapshot));
	add_arg(command, psprintf("--lock-wait-timeout=" INT64_FORMAT, zodan_remote_timeout()));
	add_arg(command, psprintf("--file=%s", unfinished));

	/* only what exists, for a pattern that matches nothing is an error to some versions */
	result = zodan_query(&source->conn,
						 "SELECT pg_catalog.replace(nspname, '\"', '\"\"') FROM pg_catalog.pg_namespace"
						 " WHERE nspname = ANY ($1::text[] || $2::text[] || '{zodan}'::text[])", 2,
						 skipped_schemas, job->engine->foreign_schemas);
	for (int i = 0; i < PQntuples(result); i++)
		add_arg(command, psprintf("--exclude-schema=\"%s\"", PQgetvalue(result, i, 0)));
	PQclear(result);
	run_command(command);
	/* the dump gets its name last: where that stands, all is there */
	write_lists(job, unfinished);
	durable_rename(unfinished, work_path(job, "schema.dump"), ERROR);
}

static Command *
restore_command(ZodanJob *job, const char *list, bool again)
{
	Command    *command = new_command(job, "pg_restore", &job->new_conn);

	add_arg(command, "--exit-on-error");
	add_arg(command, psprintf("--use-list=%s", work_path(job, list)));
	/* what an earlier attempt may have made is replaced */
	if (again)
	{
		add_arg(command, "--clean");
		add_arg(command, "--if-exists");
	}
	return command;
}

static bool
list_is_empty(ZodanJob *job, const char *list)
{
	struct stat st;

	return stat(work_path(job, list), &st) == 0 && st.st_size == 0;
}

/*
 * Makes everything that rows need: all or nothing. again: an earlier attempt
 * may have made it.
 */
void
zodan_schema_restore_tables(ZodanJob *job, bool again)
{
	Command    *command = restore_command(job, "pre.list", again);

	add_arg(command, "--single-transaction");
	add_arg(command, work_path(job, "schema.dump"));
	run_command(command);
}

/*
 * Builds indexes, and makes all constraints but foreign keys, triggers, rules
 * and policies; jobs at the same time.
 */
void
zodan_schema_restore_indexes(ZodanJob *job, int jobs, bool again)
{
	Command    *command = restore_command(job, "post.list", again);

	if (list_is_empty(job, "post.list"))
		return;
	add_arg(command, psprintf("--jobs=%d", jobs));
	add_arg(command, work_path(job, "schema.dump"));
	run_command(command);
}

/*
 * Makes what has to come last: comments, which may be about foreign keys, and
 * event triggers, which might fire for what comes before.
 */
void
zodan_schema_restore_last(ZodanJob *job, bool again)
{
	Command    *command = restore_command(job, "last.list", again);

	if (list_is_empty(job, "last.list"))
		return;
	add_arg(command, "--single-transaction");
	add_arg(command, work_path(job, "schema.dump"));
	run_command(command);
}

/*
 * Drops what the restores have made: pg_restore writes the statements for
 * that in front of all others, in the right order, when it's told to clean.
 * Returns false if the dump is not there any more.
 */
bool
zodan_schema_drop(ZodanJob *job)
{
	static const char *const lists[] = {"last.list", "post.list", "pre.list"};

	if (!zodan_schema_dumped(job))
		return false;
	for (int i = 0; i < lengthof(lists); i++)
	{
		Command    *command;
		char	   *script;
		char	   *end;

		if (list_is_empty(job, lists[i]))
			continue;
		command = new_command(job, "pg_restore", NULL);
		add_arg(command, psprintf("--use-list=%s", work_path(job, lists[i])));
		add_arg(command, "--clean");
		add_arg(command, "--if-exists");
		add_arg(command, "--file=-");
		add_arg(command, work_path(job, "schema.dump"));
		script = run_command(command);

		/* the first entry's heading ends them; psql's own commands are not SQL */
		end = strstr(script, "\n-- Name: ");
		if (end)
			*end = '\0';
		for (char *line = script; line && *line; line = strchr(line, '\n'))
		{
			line += *line == '\n';
			if (*line == '\\')
				line[0] = line[1] = '-';
		}
		PQclear(zodan_query(&job->new_conn, psprintf("BEGIN; %s\n; COMMIT; RESET ALL", script), 0));
	}
	return true;
}

/*
 * Removes the dump; missing files are no error.
 */
void
zodan_schema_forget(ZodanJob *job)
{
	char	   *path = psprintf("%s/%s/" INT64_FORMAT, DataDir, WORK_DIR, job->req->id);

	if (access(path, F_OK) == 0 && !rmtree(path, true))
		ereport(WARNING, (errmsg("could not remove directory \"%s\"", path)));
}

/* ---------- foreign keys ---------- */

/*
 * Adds one foreign key, unless it's there, and checks it without keeping the
 * apply workers out. While other nodes' changes are still on their way, rows
 * may be there before those that they refer to: then it's tried again.
 */
static void
add_foreign_key(ZodanJob *job, const char *table, const char *name, const char *definition,
				bool validated, bool partitioned)
{
	ZodanDeadline deadline = zodan_deadline(zodan_remote_timeout());
	const char *sql;

	sql = psprintf("ALTER TABLE %s ADD CONSTRAINT %s %s%s", table, zodan_quote(name), definition,
				   validated && !partitioned ? " NOT VALID" : "");
	for (;;)
	{
		ZodanCall	call = {.conn = &job->new_conn};

		if (!zodan_value(&job->new_conn, "SELECT 1 FROM pg_catalog.pg_constraint"
						 " WHERE conrelid = $1::pg_catalog.regclass AND conname = $2 AND contype = 'f'",
						 2, table, name))
		{
			call.sql = sql;
			zodan_call_all(&call, 1, ZODAN_NO_TIMEOUT);
		}
		if (!call.error && validated && !partitioned)
		{
			PQclear(call.result);
			call = (ZodanCall)
			{
				.conn = &job->new_conn
			};
			call.sql = psprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s", table, zodan_quote(name));
			zodan_call_all(&call, 1, ZODAN_NO_TIMEOUT);
		}
		if (!call.error)
		{
			PQclear(call.result);
			return;
		}
		if (call.sqlstate != ERRCODE_FOREIGN_KEY_VIOLATION || zodan_deadline_passed(deadline))
			zodan_raise(&call);
		zodan_report(psprintf("foreign key %s of %s waits for rows that are on their way: %s",
							  zodan_quote(name), table, call.error));
		zodan_sleep(1000);
	}
}

/*
 * Adds the source's foreign keys to the new node; returns how many there are.
 */
int
zodan_add_foreign_keys(ZodanJob *job, const char *skipped_schemas)
{
	PGresult   *result;
	int			n;

	result = zodan_query(&ZODAN_SOURCE(job)->conn,
						 "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), k.conname,"
						 "       pg_catalog.pg_get_constraintdef(k.oid), k.convalidated, c.relkind = 'p'"
						 "  FROM pg_catalog.pg_constraint k"
						 "  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
						 "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
						 " WHERE k.contype = 'f' AND k.conparentid = 0"
						 "   AND n.nspname <> ALL ($1::text[] || $2::text[] || '{zodan,pg_catalog,information_schema}'::text[])"
						 "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
						 "                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
						 "                      AND d.objid = c.oid AND d.deptype = 'e')"
						 " ORDER BY 1, 2", 2, skipped_schemas, job->engine->foreign_schemas);
	n = PQntuples(result);
	/* on a node that replicates DDL by itself, this must stay here */
	if (n > 0 && job->engine->ddl_setting)
		PQclear(zodan_query(&job->new_conn, "SELECT pg_catalog.set_config($1, 'off', false)", 1,
							job->engine->ddl_setting));
	for (int i = 0; i < n; i++)
		add_foreign_key(job, PQgetvalue(result, i, 0), PQgetvalue(result, i, 1),
						PQgetvalue(result, i, 2), PQgetvalue(result, i, 3)[0] == 't',
						PQgetvalue(result, i, 4)[0] == 't');
	PQclear(result);
	return n;
}

/* ---------- sequences ---------- */

/*
 * Sets all of the new node's sequences to where the source's stand; returns
 * how many. Positions are not transactional, so this is done again before the
 * node is opened.
 */
int
zodan_copy_sequences(ZodanJob *job, const char *skipped_schemas)
{
	ZodanConn  *source = &ZODAN_SOURCE(job)->conn;
	PGresult   *result;
	StringInfoData query;
	char	   *positions;
	int			n;

	result = zodan_query(source,
						 "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)"
						 "  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
						 " WHERE c.relkind = 'S' AND c.relpersistence = 'p'"
						 "   AND n.nspname <> ALL ($1::text[] || $2::text[] || '{zodan,pg_catalog,information_schema}'::text[])"
						 "   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
						 "                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
						 "                      AND d.objid = c.oid AND d.deptype = 'e')"
						 " ORDER BY 1", 2, skipped_schemas, job->engine->foreign_schemas);
	n = PQntuples(result);
	if (n > 0)
	{
		initStringInfo(&query);
		appendStringInfoString(&query, "SELECT pg_catalog.json_agg(s) FROM (");
		for (int i = 0; i < n; i++)
			appendStringInfo(&query, "%sSELECT %s AS seq, last_value, is_called FROM %s",
							 i ? " UNION ALL " : "", zodan_literal(PQgetvalue(result, i, 0)),
							 PQgetvalue(result, i, 0));
		appendStringInfoString(&query, ") AS s");
		positions = zodan_value(source, query.data, 0);
		PQclear(zodan_query(&job->new_conn,
							"SELECT pg_catalog.setval(s.seq::pg_catalog.regclass, s.last_value, s.is_called)"
							"  FROM pg_catalog.json_to_recordset($1::json)"
							"         AS s(seq text, last_value bigint, is_called bool)", 1, positions));
	}
	PQclear(result);
	return n;
}
