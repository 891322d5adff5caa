/*
 * tables.c
 *		The tables that a verification compares, and how far it is with them:
 *		zodan.verify_tables.
 *
 *		pending -> comparing -> compared
 *
 * They are listed once, from the source's catalog, so that another process can
 * go on where one has ended: behind the last key that is stored.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "verify/tables.h"

#include "base/array.h"
#include "remote/query.h"
#include "utils/memutils.h"

static const char *const list_query =
#include "sql/tables.h"
		   ;

static const char *const store_statement =
#include "sql/tables_store.h"
		   ;

static const char *const left_query =
#include "sql/tables_left.h"
		   ;

/*
 * Stores which tables there are to compare, unless that has been done.
 */
void
zodan_tables_list(ZodanJob *job)
{
	ZodanMember *source = ZODAN_SOURCE(job);

	if (zodan_spi_execute("SELECT FROM zodan.verify_tables WHERE request_id = $1::bigint LIMIT 1", 1, job->req->id_text)->nrows > 0)
		return;
	zodan_spi_execute(store_statement, 2, job->req->id_text,
					  zodan_query_value(&source->conn, zodan_engine_sql(job->engine, psprintf(list_query, job->engine->table_info)),
										1, source->sets));
}

/*
 * Returns the tables (ZodanVerified) that aren't done, or have suspects, the
 * largest first.
 */
List *
zodan_tables_left(const ZodanRequest *req)
{
	ZodanRows  *rows = zodan_spi_execute(left_query, 1, req->id_text);
	List	   *tables = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		ZodanVerified *table = palloc0(sizeof(ZodanVerified));
		char	  **v = rows->value[i];

		table->nspname = v[0];
		table->relname = v[1];
		table->name = v[2];
		table->row = v[3];
		table->hashes = v[4];
		table->key = v[5];
		table->sort = v[6];
		table->after = v[7];
		table->upto = v[8];
		table->match = v[9];
		table->filter = v[10];
		table->compared = zodan_spi_is_true(v[11]);
		table->last_key = v[12];
		table->rows = zodan_spi_int64(v[13]);
		table->rows_expected = zodan_spi_int64(v[14]);
		table->bytes_total = zodan_spi_int64(v[15]);
		tables = lappend(tables, table);
	}
	return tables;
}

#define OF_TABLE	"request_id = $1::bigint AND nspname = $2 AND relname = $3"

/*
 * A table is about to be compared, or what lies behind its last key.
 */
void
zodan_tables_begin(const ZodanRequest *req, ZodanVerified *table)
{
	zodan_spi_one_async("UPDATE zodan.verify_tables SET state = 'comparing', started_at = coalesce(started_at, clock_timestamp()),"
						"       rows_compared = CASE WHEN last_key IS NULL THEN 0 ELSE rows_compared END,"
						"       bytes_compared = CASE WHEN last_key IS NULL THEN 0 ELSE bytes_compared END WHERE " OF_TABLE, 3,
						req->id_text, table->nspname, table->relname);
	if (!table->last_key)
		table->rows = 0;
}

/*
 * A block of rows has been compared, up to a key, and these keys are to be looked
 * at again. A crash may take that back; then the block is compared once more.
 */
void
zodan_tables_note(const ZodanRequest *req, ZodanVerified *table, const char *last_key, int64 rows, int64 bytes, const List *suspects)
{
	zodan_spi_one_async("WITH suspects AS ("
						"  INSERT INTO zodan.verify_suspects (request_id, nspname, relname, key)"
						"  SELECT $1::bigint, $2, $3, unnest($7::text[]) ON CONFLICT DO NOTHING)"
						" UPDATE zodan.verify_tables SET last_key = $4::text[], rows_compared = rows_compared + $5::bigint,"
						"        bytes_compared = bytes_compared + $6::bigint WHERE " OF_TABLE, 7,
						req->id_text, table->nspname, table->relname, last_key, psprintf(INT64_FORMAT, rows),
						psprintf(INT64_FORMAT, bytes), zodan_array_literal(suspects));
	table->rows += rows;
	if (table->last_key)
		pfree(table->last_key);
	table->last_key = last_key ? MemoryContextStrdup(GetMemoryChunkContext(table), last_key) : NULL;
}

/*
 * All rows of a table have been compared.
 */
void
zodan_tables_compared(const ZodanRequest *req, ZodanVerified *table)
{
	zodan_spi_one("UPDATE zodan.verify_tables SET state = 'compared', finished_at = clock_timestamp() WHERE " OF_TABLE, 3,
				  req->id_text, table->nspname, table->relname);
	table->compared = true;
}
