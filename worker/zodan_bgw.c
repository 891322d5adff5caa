/*
 * zodan_bgw.c
 *		The library's entry points: _PG_init() and the functions that SQL calls.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "base/compat.h"

#include "base/dsn.h"
#include "base/failpoint.h"
#include "base/settings.h"
#include "commands/event_trigger.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "phases/phases.h"
#include "process/launcher.h"
#include "process/upkeep.h"
#include "queue/queue.h"
#include "queue/request.h"
#include "queue/states.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

ZODAN_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(zodan_validate_request);
PG_FUNCTION_INFO_V1(zodan_refuse_drop);
PG_FUNCTION_INFO_V1(zodan_queue_request);
PG_FUNCTION_INFO_V1(zodan_phases);
PG_FUNCTION_INFO_V1(zodan_transitions);
PG_FUNCTION_INFO_V1(zodan_start);
PG_FUNCTION_INFO_V1(zodan_wake);
PG_FUNCTION_INFO_V1(zodan_upkeep);
PG_FUNCTION_INFO_V1(zodan_redact_dsn);

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	BackgroundWorker launcher;

	zodan_failpoint_define();
	zodan_settings_define();
	if (!process_shared_preload_libraries_in_progress)
		return;
	zodan_launcher_describe(&launcher, InvalidOid);
	RegisterBackgroundWorker(&launcher);
}

/* ---------- zodan.requests ---------- */

/*
 * Refuses the row. The statement isn't logged with the error, since there are
 * passwords in it.
 */
static void
refuse(const char *field, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s %s", field, problem),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * The data of a trigger for each row that is inserted into zodan.requests, before or
 * after. Whoever may call its function can make it a trigger of any table, and the
 * columns of that aren't what their names say.
 */
static TriggerData *
require_trigger(FunctionCallInfo fcinfo, bool before)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!(before ? TRIGGER_FIRED_BEFORE(trigger->tg_event) : TRIGGER_FIRED_AFTER(trigger->tg_event)) ||
		RelationGetRelid(trigger->tg_relation) != get_relname_relid("requests", get_func_namespace(fcinfo->flinfo->fn_oid)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be fired %s INSERT on zodan.requests, for each row", before ? "before" : "after")));
	return trigger;
}

static Datum
field_datum(TriggerData *trigger, const char *field, bool *isnull)
{
	return SPI_getbinval(trigger->tg_trigtuple, trigger->tg_relation->rd_att,
						 SPI_fnumber(trigger->tg_relation->rd_att, field), isnull);
}

/*
 * A field's value as text; refuses NULL.
 */
static char *
field_text(TriggerData *trigger, const char *field)
{
	TupleDesc	desc = trigger->tg_relation->rd_att;
	char	   *value = SPI_getvalue(trigger->tg_trigtuple, desc, SPI_fnumber(desc, field));

	if (!value)
		refuse(field, "must not be null");
	return value;
}

static void
validate_name(const char *field, const char *name)
{
	if (name[0] == '\0')
		refuse(field, "must not be empty");
	if (strlen(name) >= NAMEDATALEN)
		refuse(field, psprintf("is longer than %d bytes", NAMEDATALEN - 1));
}

static void
validate_dsn(const char *field, const char *dsn, bool need_password)
{
	char	   *problem;

	if (dsn[strspn(dsn, " \t\n\r")] == '\0')
		refuse(field, "must not be empty");
	problem = zodan_dsn_check(dsn, need_password);
	if (problem)
		refuse(field, problem);
}

/* What can stand in options */
typedef enum OptionKind
{
	DSN_OBJECT,
	STRING_ARRAY,
	BOOLEAN
} OptionKind;

static const struct
{
	const char *name;
	OptionKind	kind;
	const char *operation;		/* whose it is; NULL: all */
}			known_options[] =
{
	{"peer_dsns", DSN_OBJECT, NULL},
	{"replication_sets", STRING_ARRAY, "add_node"},
	{"accept_triggers", STRING_ARRAY, "add_node"},
	{"force", BOOLEAN, "remove_node"},
};

static bool
is_option_of(int option, const char *operation)
{
	const char *owner = known_options[option].operation;

	/* a check is one of add_node */
	return !owner || (strcmp(owner, "remove_node") == 0) == (strcmp(operation, "remove_node") == 0);
}

static void
validate_option(const char *field, OptionKind kind, JsonbValue *value, bool need_password)
{
	static const char *const must_be[] = {"must be an object of strings", "must be an array of strings", "must be true or false"};
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	char	   *node = NULL;

	if (kind == BOOLEAN)
	{
		if (value->type != jbvBool)
			refuse(field, must_be[kind]);
		return;
	}
	if (value->type != jbvBinary ||
		(kind == DSN_OBJECT ? !JsonContainerIsObject(value->val.binary.data) : !JsonContainerIsArray(value->val.binary.data)))
		refuse(field, must_be[kind]);
	if (kind == STRING_ARRAY && JsonContainerSize(value->val.binary.data) == 0)
		refuse(field, "must name at least one");

	it = JsonbIteratorInit(value->val.binary.data);
	JsonbIteratorNext(&it, &v, true);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		char	   *text;

		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
			continue;
		if (v.type != jbvString)
			refuse(field, must_be[kind]);
		text = pnstrdup(v.val.string.val, v.val.string.len);
		if (token == WJB_KEY)
			node = text;
		else if (kind == DSN_OBJECT)
			validate_dsn(psprintf("%s.%s", field, node), text, need_password);
	}
}

/*
 * options: an object with the keys that we know, and values of their kinds.
 */
static void
validate_options(Jsonb *options, const char *operation, bool need_password)
{
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	int			option = 0;

	if (!JB_ROOT_IS_OBJECT(options))
		refuse("options", "must be a JSON object");
	it = JsonbIteratorInit(&options->root);
	JsonbIteratorNext(&it, &v, true);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);

			for (option = 0; option < lengthof(known_options); option++)
				if (strcmp(key, known_options[option].name) == 0)
					break;
			if (option == lengthof(known_options) || !is_option_of(option, operation))
			{
				StringInfoData names;

				initStringInfo(&names);
				for (int i = 0; i < lengthof(known_options); i++)
					if (is_option_of(i, operation))
						appendStringInfo(&names, "%s%s", names.len ? ", " : "", known_options[i].name);
				refuse(psprintf("options.%s", key), psprintf("is not an option of %s; there are: %s", operation, names.data));
			}
		}
		else if (token == WJB_VALUE)
			validate_option(psprintf("options.%s", known_options[option].name), known_options[option].kind, &v, need_password);
	}
}

/*
 * Refuses an interval that isn't between two others.
 */
static void
validate_interval(TriggerData *trigger, const char *field, const char *least, const char *most)
{
	bool		isnull;
	Datum		datum;

	field_text(trigger, field);
	datum = field_datum(trigger, field, &isnull);
	if (DatumGetBool(DirectFunctionCall2(interval_lt, datum,
										 DirectFunctionCall3(interval_in, CStringGetDatum(least),
															 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)))))
		refuse(field, psprintf("must be at least %s", least));
	if (DatumGetBool(DirectFunctionCall2(interval_gt, datum,
										 DirectFunctionCall3(interval_in, CStringGetDatum(most),
															 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)))))
		refuse(field, psprintf("must not be more than %s", most));
}

/*
 * Refuses numbers and times that are out of bounds.
 */
static void
validate_bounds(TriggerData *trigger)
{
	bool		isnull;
	Datum		datum;

	validate_interval(trigger, "sync_timeout", "1 second", "30 days");
	validate_interval(trigger, "verify_timeout", "0 seconds", "30 days");
	datum = field_datum(trigger, "max_attempts", &isnull);
	if (!isnull && DatumGetInt32(datum) < 1)
		refuse("max_attempts", "must be positive");
	datum = field_datum(trigger, "copy_jobs", &isnull);
	if (!isnull && (DatumGetInt32(datum) < 1 || DatumGetInt32(datum) > 64))
		refuse("copy_jobs", "must be between 1 and 64");
	datum = field_datum(trigger, "copy_rate", &isnull);
	if (!isnull && DatumGetInt64(datum) < 1)
		refuse("copy_rate", "must be positive");
}

/*
 * The node that is added or removed. A verification is of all nodes.
 */
static void
validate_new_node(TriggerData *trigger, const char *operation, bool need_password)
{
	bool		removal = strcmp(operation, "remove_node") == 0;
	bool		no_name;
	bool		no_dsn;

	field_datum(trigger, "new_node_name", &no_name);
	field_datum(trigger, "new_node_dsn", &no_dsn);
	if (strcmp(operation, "verify") == 0)
	{
		if (!no_name || !no_dsn)
			refuse(no_name ? "new_node_dsn" : "new_node_name", "must be null: a verification is of all nodes that the source knows");
		return;
	}
	validate_name("new_node_name", field_text(trigger, "new_node_name"));
	if (strcmp(field_text(trigger, "src_node_name"), field_text(trigger, "new_node_name")) == 0)
		refuse("new_node_name", removal ? "must not be the source's: another node, which stays, has to be the source, and the last one cannot be removed" :
			   "must not be the source's");
	/* the source knows how to reach a node that is there */
	if (!no_dsn || !removal)
		validate_dsn("new_node_dsn", field_text(trigger, "new_node_dsn"), need_password);
}

/*
 * Which rows are to be compared. A verification compares all, unless it says otherwise.
 */
static char *
validate_verify(TriggerData *trigger, const char *operation)
{
	char	   *verify = field_text(trigger, "verify");

	if (strcmp(verify, "none") != 0 && strcmp(verify, "sample") != 0 && strcmp(verify, "full") != 0)
		refuse("verify", "must be none, sample or full");
	if (strcmp(operation, "remove_node") == 0 && strcmp(verify, "none") != 0)
		refuse("verify", "must be none: remove_node compares no rows");
	return strcmp(operation, "verify") == 0 && strcmp(verify, "none") == 0 ? pstrdup("full") : verify;
}

/*
 * Trigger before INSERT on zodan.requests: refuses what could not run, with
 * the field's name, before a constraint could print the row. Who asks, and
 * when, isn't the user's to say.
 */
Datum
zodan_validate_request(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = require_trigger(fcinfo, true);
	TupleDesc	desc = trigger->tg_relation->rd_att;
	bool		need_password = !superuser();
	bool		isnull;
	char	   *operation;
	char	   *verify;
	int			columns[4];
	Datum		values[4];
	bool		nulls[4] = {false};

	field_datum(trigger, "id", &isnull);
	if (!isnull)
		refuse("id", "is not yours to choose: leave it out");
	operation = field_text(trigger, "operation");
	if (!zodan_phases_operation_bit(operation))
		refuse("operation", "must be add_node, remove_node, check or verify");
	validate_name("src_node_name", field_text(trigger, "src_node_name"));
	validate_dsn("src_dsn", field_text(trigger, "src_dsn"), need_password);
	validate_new_node(trigger, operation, need_password);
	verify = validate_verify(trigger, operation);
	field_text(trigger, "new_node_location");
	field_text(trigger, "new_node_country");
	field_text(trigger, "new_node_info");
	field_text(trigger, "verb");
	field_text(trigger, "fence");

	validate_bounds(trigger);
	field_text(trigger, "options");
	validate_options(DatumGetJsonbP(field_datum(trigger, "options", &isnull)), operation, need_password);

	columns[0] = SPI_fnumber(desc, "requested_by");
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false)));
	columns[1] = SPI_fnumber(desc, "requested_at");
	values[1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	/* whoever may insert gets a number, without a right on the sequence */
	columns[2] = SPI_fnumber(desc, "id");
	values[2] = Int64GetDatum(nextval_internal(get_relname_relid("request_ids", RelationGetNamespace(trigger->tg_relation)), false));
	columns[3] = SPI_fnumber(desc, "verify");
	values[3] = CStringGetTextDatum(verify);
	return PointerGetDatum(heap_modify_tuple_by_cols(trigger->tg_trigtuple, desc, 4, columns, values, nulls));
}

/*
 * Refuses a request about a node that another one is about already. Nodes of
 * one name may be in different clusters, and then have different DSNs.
 */
static void
refuse_rival(int64 id, const char *dsn)
{
	ZodanRows  *rivals = zodan_queue_rivals(id);

	for (int i = 0; i < rivals->nrows; i++)
	{
		char	  **v = rivals->value[i];

		if (dsn && v[3] && !zodan_dsn_same_target(dsn, v[3]))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("new_node_name is that of request %s, %s, which is %s", v[0], v[1], v[2]),
				 errhint("CALL zodan.watch(%s) shows it until it ends, SELECT zodan.cancel(%s) rolls it back.", v[0], v[0]),
				 errhidestmt(true), errhidecontext(true)));
	}
}

/*
 * Does a command drop the extension? behavior: CASCADE or RESTRICT.
 */
static bool
drops_extension(Node *command, DropBehavior *behavior)
{
	ListCell   *cell;

	if (IsA(command, DropStmt))
	{
		*behavior = ((DropStmt *) command)->behavior;
		foreach(cell, ((DropStmt *) command)->objects)
			if (((DropStmt *) command)->removeType == OBJECT_EXTENSION && strcmp(strVal(lfirst(cell)), "zodan_bgw") == 0)
				return true;
	}
	else if (IsA(command, DropOwnedStmt))
	{
		Oid			owner = (Oid) zodan_spi_int64(zodan_spi_execute("SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'zodan_bgw'", 0)->value[0][0]);

		*behavior = ((DropOwnedStmt *) command)->behavior;
		foreach(cell, ((DropOwnedStmt *) command)->roles)
			if (get_rolespec_oid(lfirst(cell), true) == owner)
				return true;
	}
	return false;
}

/*
 * Event trigger before DROP EXTENSION and DROP OWNED: as long as requests are open
 * nobody would know otherwise what they have made on the nodes, slots among it. A
 * superuser who says CASCADE is told what that is.
 */
Datum
zodan_refuse_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;
	DropBehavior behavior;
	ZodanRows  *open;
	StringInfoData requests;
	StringInfoData made;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("must be called as an event trigger")));
	if (!drops_extension(trigger->parsetree, &behavior))
		PG_RETURN_NULL();
	open = zodan_queue_open();
	if (open->nrows == 0)
		PG_RETURN_NULL();
	initStringInfo(&requests);
	initStringInfo(&made);
	for (int i = 0; i < open->nrows; i++)
	{
		appendStringInfo(&requests, "%s%s", i ? "; " : "", open->value[i][0]);
		if (open->value[i][1])
			appendStringInfo(&made, "%s%s", made.len ? ", " : "", open->value[i][1]);
	}
	if (behavior != DROP_CASCADE || !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("extension zodan_bgw has requests that are open, or have left something on nodes"),
				 errdetail("These are: %s.", requests.data),
				 errhint("Let them end, or SELECT zodan.cancel(id). DROP EXTENSION ... CASCADE by a superuser leaves all that they have made where it is.")));
	ereport(WARNING,
			(errmsg("requests of extension zodan_bgw are dropped, and nobody rolls back what they have made: %s", requests.data),
			 made.len ? errdetail("These are left: %s.", made.data) : 0));
	PG_RETURN_NULL();
}

/*
 * Trigger after INSERT on zodan.requests: puts the request into the queue and
 * wakes the launcher when the transaction commits.
 */
Datum
zodan_queue_request(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = require_trigger(fcinfo, false);
	bool		isnull;
	int64		id;

	id = DatumGetInt64(field_datum(trigger, "id", &isnull));
	refuse_rival(id, SPI_getvalue(trigger->tg_trigtuple, trigger->tg_relation->rd_att,
								  SPI_fnumber(trigger->tg_relation->rd_att, "new_node_dsn")));
	zodan_queue_add(id);
	zodan_launcher_wake_at_commit();
	return PointerGetDatum(NULL);
}

/* ---------- functions ---------- */

/*
 * zodan.phases(operation): the table of phases, as rows.
 */
Datum
zodan_phases(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			bit = zodan_phases_operation_bit(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < zodan_phases_count; i++)
	{
		Datum		values[3];
		bool		nulls[3] = {false, false, false};

		if (!(zodan_phases_table[i].operations & bit))
			continue;
		values[0] = Int32GetDatum(++n);
		values[1] = CStringGetTextDatum(zodan_phases_table[i].name);
		values[2] = CStringGetTextDatum(zodan_phases_table[i].comment);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * zodan.transitions(): the table of states, as rows.
 */
Datum
zodan_transitions(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < zodan_states_count; i++)
	{
		const ZodanTransition *t = &zodan_states_table[i];
		Datum		values[4] = {CStringGetTextDatum(t->from), CStringGetTextDatum(t->event),
		CStringGetTextDatum(t->to), CStringGetTextDatum(t->comment)};
		bool		nulls[4] = {false, false, false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * zodan.start(): starts a launcher for the current database, and returns
 * whether there was none. It is gone after the server's next restart.
 */
Datum
zodan_start(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(zodan_launcher_start());
}

/*
 * zodan.wake(): the launcher looks at the queue when the transaction commits.
 */
Datum
zodan_wake(PG_FUNCTION_ARGS)
{
	zodan_launcher_wake_at_commit();
	PG_RETURN_VOID();
}

/*
 * zodan.upkeep(): see upkeep.c.
 */
Datum
zodan_upkeep(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	ZodanUpkeep done = zodan_upkeep_run();
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum(done.requests_purged);
	values[1] = BoolGetDatum(done.launcher_started);
	values[2] = Int32GetDatum(done.nodes);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * zodan.redact_dsn(dsn): the DSN with its passwords masked.
 */
Datum
zodan_redact_dsn(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(zodan_dsn_redact(text_to_cstring(PG_GETARG_TEXT_PP(0)))));
}
