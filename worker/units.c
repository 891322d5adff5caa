/*
 * units.c
 *		The work of a copy, in pieces that a lane does at a time, and which of
 *		them comes next.
 *
 * A large table is read in parts, so that all lanes can work at one; tables so
 * small that beginning and ending would take most of their time are handled
 * together, in one transaction. When the rows of a table are there its indexes
 * are built, each by a lane; then it is finished.
 *
 *		rows (parts) -> indexes -> finish
 *
 * What is under way goes first, then the largest piece: so no lane is left
 * alone at the end with something that takes long. But where there are very
 * many tables, all but the largest of them go before that, under the first
 * snapshot if possible: each table of a later one slows down every transaction
 * that the new node applies until it has passed that snapshot.
 */
#include "units.h"

/* what is small, and how much of that makes a group, as fractions of a part; and how many at most */
#define SMALL_FRACTION	64
#define GROUP_FRACTION	16
#define GROUP_TABLES	64

/* how many tables may be begun late */
#define LATE_TABLES		100

static ZodanGroup *
make_group(List *tables, int64 bytes, int64 part_bytes)
{
	ZodanGroup *group = palloc0(sizeof(ZodanGroup));
	ZodanTable *first = linitial(tables);
	ListCell   *cell;

	group->tables = tables;
	group->bytes = bytes;
	group->counts = palloc0(sizeof(ZodanPipeCount) * list_length(tables));
	foreach(cell, tables)
		group->indexes = list_concat(group->indexes, ((ZodanTable *) lfirst(cell))->indexes);
	foreach(cell, group->indexes)
		if (!((ZodanIndex *) lfirst(cell))->built)
			group->builds = lappend(group->builds, lfirst(cell));
	group->nparts = 1;
	group->nbuilds = group->builds == NIL ? 0 : 1;
	if (list_length(tables) == 1)
	{
		/* what a row filter lets through is a function's result, which can't be read in parts */
		if (!first->filtered)
			group->nparts = (int) Max(Min((bytes + part_bytes - 1) / part_bytes, first->pages), 1);
		group->nbuilds = list_length(group->builds);
	}
	if (first->copied)
		group->parts_begun = group->parts_done = group->nparts;
	return group;
}

/*
 * Groups the tables, which are sorted, those whose rows are there and those
 * whose aren't. A part of a table has about part_bytes.
 */
List *
zodan_units_load(List *tables, int64 part_bytes)
{
	List	   *groups = NIL;
	int			before = 0;
	ListCell   *cell;

	for (int copied = 0; copied < 2; copied++)
	{
		List	   *small = NIL;
		int64		bytes = 0;

		foreach(cell, tables)
		{
			ZodanTable *table = lfirst(cell);

			if (table->copied != (copied == 1))
				continue;
			/* the largest come first: where one isn't small, the group has it alone */
			if (small != NIL && (list_length(small) == GROUP_TABLES || bytes + table->bytes > part_bytes / GROUP_FRACTION ||
								 ((ZodanTable *) linitial(small))->bytes > part_bytes / SMALL_FRACTION))
			{
				groups = lappend(groups, make_group(small, bytes, part_bytes));
				small = NIL;
				bytes = 0;
			}
			small = lappend(small, table);
			bytes += table->bytes;
		}
		if (small != NIL)
			groups = lappend(groups, make_group(small, bytes, part_bytes));
	}

	/* those whose rows aren't there stand first, by size */
	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		group->early = before >= LATE_TABLES;
		before += list_length(group->tables);
	}
	return groups;
}

/*
 * Is there a group of which some parts have been begun, and others not?
 */
bool
zodan_units_in_parts(List *groups)
{
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (group->parts_begun > 0 && group->parts_begun < group->nparts)
			return true;
	}
	return false;
}

/*
 * Are there groups that haven't been begun?
 */
bool
zodan_units_waiting(List *groups)
{
	ListCell   *cell;

	foreach(cell, groups)
		if (((ZodanGroup *) lfirst(cell))->parts_begun == 0)
			return true;
	return false;
}

static ZodanUnit *
make_unit(ZodanUnitKind kind, ZodanGroup *group)
{
	ZodanUnit  *unit = palloc0(sizeof(ZodanUnit));
	ListCell   *cell;

	unit->kind = kind;
	unit->group = group;
	unit->since = GetCurrentTimestamp();
	switch (kind)
	{
		case UNIT_ROWS:
			unit->part = group->parts_begun++;
			unit->size = group->bytes / group->nparts;
			break;
		case UNIT_INDEX:
			unit->indexes = list_length(group->tables) > 1 ? list_copy(group->builds) :
				list_make1(list_nth(group->builds, group->builds_begun));
			group->builds_begun++;
			foreach(cell, unit->indexes)
				unit->size += ((ZodanIndex *) lfirst(cell))->bytes;
			break;
		case UNIT_FINISH:
			group->finish_begun = true;
			break;
	}
	return unit;
}

/*
 * Is a group, of which nothing has been begun, to be begun before another one?
 */
static bool
goes_before(const ZodanGroup *group, const ZodanGroup *other)
{
	if (group->early != other->early)
		return group->early;
	return group->bytes > other->bytes;
}

static double
next_index_weight(const ZodanGroup *group)
{
	return ((ZodanIndex *) list_nth(group->builds, group->builds_begun))->bytes * ZODAN_INDEX_WEIGHT;
}

/*
 * The next unit, palloc'd; NULL: there is none now. Groups are begun under the
 * given snapshot; NULL: none is begun.
 */
ZodanUnit *
zodan_units_next(List *groups, ZodanView *view)
{
	ZodanGroup *begin = NULL;
	ZodanGroup *build = NULL;
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (group->parts_done == group->nparts && group->builds_done == group->nbuilds)
		{
			if (!group->finish_begun)
				return make_unit(UNIT_FINISH, group);
		}
		else if (group->parts_done == group->nparts)
		{
			if (group->builds_begun < group->nbuilds && (!build || next_index_weight(group) > next_index_weight(build)))
				build = group;
		}
		else if (group->parts_begun > 0 && group->parts_begun < group->nparts)
			return make_unit(UNIT_ROWS, group);
		else if (group->parts_begun == 0 && view && (!begin || goes_before(group, begin)))
			begin = group;
	}
	if (build && (!begin || next_index_weight(build) >= begin->bytes))
		return make_unit(UNIT_INDEX, build);
	if (!begin)
		return NULL;
	begin->view = view;
	view->users++;
	return make_unit(UNIT_ROWS, begin);
}

/*
 * The unit is done. Returns whether that was all of its kind that the group
 * has.
 */
bool
zodan_units_end(ZodanUnit *unit)
{
	ZodanGroup *group = unit->group;

	if (unit->kind == UNIT_ROWS)
		return ++group->parts_done == group->nparts;
	if (unit->kind == UNIT_INDEX)
		return ++group->builds_done == group->nbuilds;
	return true;
}
