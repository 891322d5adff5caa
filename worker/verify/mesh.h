/*
 * mesh.h
 *		The nodes whose rows are compared, and the streams between them.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#ifndef ZODAN_MESH_H
#define ZODAN_MESH_H

#include "cluster/cluster.h"
#include "engine/markers.h"

typedef struct ZodanMesh
{
	ZodanJob   *job;
	int			nnodes;			/* whose rows are compared */
	int			nall;			/* the others of the cluster come behind these */
	ZodanConn **nodes;			/* the first is the source */
	int			nstreams;
	ZodanConfirm *streams;		/* from every node to each whose rows are compared */
} ZodanMesh;

extern ZodanMesh *zodan_mesh_open(ZodanJob *job, bool with_new);
extern ZodanCall *zodan_mesh_ask(ZodanMesh *mesh, const ZodanCall *call);
extern void zodan_mesh_clear(ZodanMesh *mesh, ZodanCall *calls);
extern void zodan_mesh_mark(ZodanMesh *mesh);
extern void zodan_mesh_wait(ZodanMesh *mesh);

#endif							/* ZODAN_MESH_H */
