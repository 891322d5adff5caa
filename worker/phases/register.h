/*
 * register.h
 *		The phase register_node.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_REGISTER_H
#define ZODAN_REGISTER_H

#include "cluster/cluster.h"

extern void zodan_register_node(ZodanJob *job);

#endif							/* ZODAN_REGISTER_H */
