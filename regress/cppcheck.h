/*
 * What cppcheck must know of PostgreSQL's headers, which it doesn't read: see t/000_cppcheck.pl
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#define PG_VERSION_NUM 170000
#define INT64_FORMAT "%ld"
#define UINT64_FORMAT "%lu"
#define LOG 15
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define elog(level, ...) do { if ((level) >= ERROR) abort(); } while (0)
#define ereport(level, ...) do { if ((level) >= ERROR) abort(); } while (0)
#define foreach(cell, list) for (cell = list_head(list); cell; cell = lnext(list, cell))
#define PG_TRY() if (no_error()) {
#define PG_CATCH() } else {
#define PG_FINALLY() } {
#define PG_END_TRY() }
#define CppAsString2(x)		#x
