/*
 * phases.c
 *		The table of phases: the only place where they, their order and their
 *		names stand. zodan.phases() shows it.
 *
 * What a phase has made is undone by its effects: see undo.c.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "phases/phases.h"

#include "phases/check.h"
#include "phases/copy_database.h"
#include "phases/finish.h"
#include "phases/peers.h"
#include "phases/register.h"
#include "phases/remove.h"
#include "phases/subscribe.h"
#include "phases/verify.h"

#define ADD_NODE	0x1
#define CHECK		0x2
#define REMOVE_NODE	0x4
#define VERIFY		0x8
#define LOOKS		ZODAN_PHASE_LOOKS

const ZodanPhase zodan_phases_table[] = {
	{"check_versions", ADD_NODE | CHECK | LOOKS, 1, zodan_check_versions,
	"all nodes answer, and their versions go together"},
	{"check_prerequisites", ADD_NODE | CHECK | LOOKS, 1, zodan_check_prerequisites,
	"everything else that a join needs; all that is missing is listed at once"},
	{"register_node", ADD_NODE, 1, zodan_register_node,
	"fence the new node, make it a node, make the subscriptions between it and the others, disabled"},
	{"sync_peers_to_source", ADD_NODE, 1, zodan_peers_sync,
	"wait until the source has what its peers had"},
	{"copy_schema", ADD_NODE, 3, zodan_copy_database_schema,
	"take a snapshot of the source, copy the structure"},
	{"copy_data", ADD_NODE, 72, zodan_copy_database_rows,
	"copy the rows, build indexes on those that are there"},
	{"build_indexes", ADD_NODE, 3, zodan_copy_database_indexes,
	"the indexes and constraints that are left but foreign keys, triggers; sequences"},
	{"mirror_replication_sets", ADD_NODE, 1, zodan_subscribe_mirror_sets,
	"make the new node's replication sets those of the source"},
	{"sync_source_to_new", ADD_NODE, 6, zodan_subscribe_sync_source_to_new,
	"follow the source from the snapshot on; add the foreign keys"},
	{"bookmark_peers", ADD_NODE, 1, zodan_peers_bookmark,
	"slots on the peers, which from now on keep what the new node may need"},
	{"advance_slots", ADD_NODE, 3, zodan_subscribe_advance_slots,
	"cut the source's stream, and set where each peer's own begins"},
	{"enable_subscriptions", ADD_NODE, 2, zodan_subscribe_enable,
	"replicate from every node"},
	{"subscribe_existing_nodes", ADD_NODE, 2, zodan_subscribe_existing_nodes,
	"every node replicates from the new one"},
	{"monitor_lag", ADD_NODE, 1, zodan_finish_monitor_lag,
	"wait until the new node keeps up"},
	{"check_replication", VERIFY | LOOKS, 0, zodan_verify_check,
	"all nodes answer, and each replicates from every other one"},
	{"verify_rows", ADD_NODE | CHECK | VERIFY | LOOKS, 1, zodan_verify_rows,
	"compare the rows of the nodes, if that is asked for"},
	{"finish", ADD_NODE, 1, zodan_finish,
	"a last look at everything; open the new node"},
	{"check_removal", REMOVE_NODE | LOOKS, 1, zodan_remove_check,
	"the node is one of the cluster, and can be reached or is lost"},
	{"drain_node", REMOVE_NODE, 9, zodan_remove_drain,
	"close the node; wait until the others have what was written there"},
	{"drop_node", REMOVE_NODE, 10, zodan_remove_drop,
	"drop all subscriptions, slots and entries of the node, everywhere"},
};
const int	zodan_phases_count = lengthof(zodan_phases_table);

/*
 * Does an operation only look, so that it needs neither a node's lock nor its mark?
 */
bool
zodan_phases_only_look(const char *operation)
{
	int			bit = zodan_phases_operation_bit(operation);

	for (int i = 0; i < zodan_phases_count; i++)
		if ((zodan_phases_table[i].operations & bit) && !(zodan_phases_table[i].operations & LOOKS))
			return false;
	return true;
}

/*
 * The bit of an operation in ZodanPhase.operations; 0: there is none such.
 */
int
zodan_phases_operation_bit(const char *operation)
{
	return strcmp(operation, "add_node") == 0 ? ADD_NODE :
		strcmp(operation, "remove_node") == 0 ? REMOVE_NODE :
		strcmp(operation, "verify") == 0 ? VERIFY :
		strcmp(operation, "check") == 0 ? CHECK : 0;
}
