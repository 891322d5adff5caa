/*
 * register.h
 *		The phase register_node.
 */
#ifndef ZODAN_REGISTER_H
#define ZODAN_REGISTER_H

#include "cluster/cluster.h"

extern void zodan_register_node(ZodanJob *job);

#endif							/* ZODAN_REGISTER_H */
