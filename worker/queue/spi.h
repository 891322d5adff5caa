/*
 * spi.h
 *		Statements on the tables of the schema "zodan", for the files that keep
 *		them.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_SPI_H
#define ZODAN_SPI_H

#include "base/compat.h"

#include "nodes/pg_list.h"

/* The result of a statement: all values as text, NULL where SQL says NULL */
typedef struct ZodanRows
{
	int			nrows;
	char	 ***value;			/* [row][column] */
} ZodanRows;

extern void zodan_spi_pin_settings(void);
extern ZodanRows *zodan_spi_execute(const char *statement, int nargs,...);
extern ZodanRows *zodan_spi_one(const char *statement, int nargs,...);
extern ZodanRows *zodan_spi_one_async(const char *statement, int nargs,...);
extern bool zodan_spi_is_true(const char *text);
extern int64 zodan_spi_int64(const char *text);

#endif							/* ZODAN_SPI_H */
