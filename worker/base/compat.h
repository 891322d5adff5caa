/*
 * compat.h
 *		Differences between the PostgreSQL releases that we build for, 15 to 18.
 *
 * This is the only place where PG_VERSION_NUM stands.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_COMPAT_H
#define ZODAN_COMPAT_H

#include "postgres.h"

#include <limits.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

#if PG_VERSION_NUM < 150000
#error "zodan_bgw needs PostgreSQL 15 or newer"
#endif

/* 17 ties wait event sets to a resource owner, none being a valid one */
#if PG_VERSION_NUM >= 170000
#define zodan_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#else
#define zodan_create_wait_event_set(nevents) CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

/* 18 reports a module's name and version by pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define ZODAN_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "zodan_bgw", .version = "1.0")
#else
#define ZODAN_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* before 18 it's an attribute with another name */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

#endif							/* ZODAN_COMPAT_H */
