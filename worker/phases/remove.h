/*
 * remove.h
 *		The phases of remove_node.
 */
#ifndef ZODAN_REMOVE_H
#define ZODAN_REMOVE_H

#include "cluster/cluster.h"

extern void zodan_check_removal(ZodanJob *job);
extern void zodan_drain_node(ZodanJob *job);
extern void zodan_drop_node(ZodanJob *job);

#endif							/* ZODAN_REMOVE_H */
