/*
 * units.c
 *		The work of a copy, in pieces that a lane does at a time, and which of
 *		them comes next.
 *
 * A large table is read in parts, so that several lanes can work at one; tables
 * so small that beginning and ending would take most of their time are handled
 * together, in one transaction. When the rows of a table are there its indexes
 * are built, each by a lane; then it is finished.
 *
 *		rows (parts) -> indexes -> finish
 *
 * What is under way goes first: the indexes of a table go before the rows of
 * the next one, while its pages are still in memory; so lanes also read from
 * the source and sort on the new node at the same time, and how long indexes
 * take is known early. Then comes the largest piece, so that no lane is left
 * alone at the end with something that takes long. But where there are very
 * many tables, the rows of all but the largest of them go before that, under
 * the first snapshot if possible: each table of a later one slows down every
 * transaction that the new node applies until it has passed that snapshot.
 *
 * Lanes that add rows to the same table get into each other's way where it
 * grows. So each has one of its own, and helps with another's parts when it
 * can't begin one; but all of them read a table together that would take one
 * lane longer than its snapshot is to last.
 *
 * Tables of a family need the same snapshot: when one is begun all are given
 * it, and come next.
 *
 * A table that was truncated or rewritten since its snapshot was taken can't be
 * read under it any more. The parts that are there are removed, and it's begun
 * again under a later one, while all else goes on.
 *
 * Copyright (c) 2026, the zodan_bgw authors
 */
#include "copy/units.h"

/* what is small, and how much of that makes a group, as fractions of a part; and how many at most */
#define SMALL_FRACTION	64
#define GROUP_FRACTION	16
#define GROUP_TABLES	64

/* how many tables may be begun late */
#define LATE_TABLES		100

/* the bytes a second that a lane can be trusted to copy */
#define LANE_BYTES_S	(INT64CONST(20) * 1024 * 1024)

static ZodanGroup *
make_group(List *tables, int64 bytes, int64 part_bytes, int64 lane_bytes)
{
	ZodanGroup *group = palloc0(sizeof(ZodanGroup));
	ZodanTable *first = linitial(tables);
	ListCell   *cell;

	group->tables = tables;
	group->bytes = bytes;
	group->shared = bytes > lane_bytes;
	group->family = first->family;
	group->part_bytes = part_bytes;
	group->lane_bytes = lane_bytes;
	group->refused = -1;
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
		group->nparts = (int) Max(Min((bytes + part_bytes - 1) / part_bytes, first->pages), 1);
		group->nbuilds = list_length(group->builds);
		foreach(cell, group->builds)
			group->nlong += ((ZodanIndex *) lfirst(cell))->work > part_bytes;
	}
	if (first->copied)
		group->parts_begun = group->parts_done = group->nparts;
	return group;
}

/*
 * Sorts tables for their groups: by what a group has in common, then by size.
 */
static int
compare_tables(const ListCell *a, const ListCell *b)
{
	const ZodanTable *x = lfirst(a);
	const ZodanTable *y = lfirst(b);

	if (x->copied != y->copied)
		return x->copied ? 1 : -1;
	if (x->family != y->family)
		return x->family > y->family ? 1 : -1;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? 1 : -1;
	return strcmp(x->name, y->name);
}

/*
 * May a table be handled together with those, whose size is bytes?
 */
static bool
goes_with(const ZodanTable *table, const List *small, int64 bytes, int64 part_bytes)
{
	const ZodanTable *first = linitial(small);

	/* the largest comes first: where that isn't small, the group has it alone */
	return table->copied == first->copied && table->family == first->family &&
		list_length(small) < GROUP_TABLES && bytes + table->bytes <= part_bytes / GROUP_FRACTION &&
		first->bytes <= part_bytes / SMALL_FRACTION;
}

/*
 * Groups the tables, those whose rows are there and those whose aren't. A part
 * of a table has about part_bytes; the lanes share one that a lane would take
 * longer for than snapshot_s seconds.
 */
List *
zodan_units_load(List *tables, int64 part_bytes, int snapshot_s)
{
	int64		lane_bytes = snapshot_s * LANE_BYTES_S;
	List	   *groups = NIL;
	List	   *sorted = list_copy(tables);
	List	   *small = NIL;
	int64		bytes = 0;
	int			before = 0;
	ListCell   *cell;

	list_sort(sorted, compare_tables);
	foreach(cell, sorted)
	{
		ZodanTable *table = lfirst(cell);

		if (small != NIL && !goes_with(table, small, bytes, part_bytes))
		{
			groups = lappend(groups, make_group(small, bytes, part_bytes, lane_bytes));
			small = NIL;
			bytes = 0;
		}
		small = lappend(small, table);
		bytes += table->bytes;
	}
	if (small != NIL)
		groups = lappend(groups, make_group(small, bytes, part_bytes, lane_bytes));

	/* those whose rows aren't there stand first, by family and size */
	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		group->early = before >= LATE_TABLES;
		before += list_length(group->tables);
	}
	return groups;
}

/*
 * Are there groups that have rows to copy, and no snapshot?
 */
bool
zodan_units_waiting(List *groups)
{
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (!group->snapshot && group->parts_begun == 0)
			return true;
	}
	return false;
}

/*
 * How many units, as long as a part of a table or longer, go before those of a
 * table that has no snapshot yet?
 */
int
zodan_units_before_waiting(List *groups)
{
	int			parts = 0;
	int			builds = 0;
	bool		early = false;
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (group->parts_begun > 0 || group->snapshot)
		{
			parts += group->nparts - group->parts_begun;
			builds += Max(group->nlong - group->builds_begun, 0);
		}
		else
			early |= group->early;
	}
	return early ? parts : parts + builds;
}

/*
 * How many units that take their time could be begun now, by as many lanes?
 * That a snapshot may have to be waited for doesn't count.
 */
int
zodan_units_left(List *groups)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		n += group->nparts - group->parts_begun;
		if (group->parts_done == group->nparts)
			n += group->nbuilds - group->builds_begun;
	}
	return n;
}

/*
 * The most work that any index takes which hasn't been begun: of those that are
 * sorted by a collation, or of the others. Those of several small tables, which
 * one lane builds, don't count.
 */
int64
zodan_units_largest_index(List *groups, bool collated)
{
	int64		largest = 0;
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (list_length(group->tables) > 1)
			continue;
		for (int i = group->builds_begun; i < group->nbuilds; i++)
		{
			ZodanIndex *index = list_nth(group->builds, i);

			if (index->collated == collated)
				largest = Max(largest, index->work);
		}
	}
	return largest;
}

static ZodanUnit *
make_unit(ZodanUnitKind kind, ZodanGroup *group)
{
	ZodanUnit  *unit = palloc0(sizeof(ZodanUnit));
	ListCell   *cell;

	unit->kind = kind;
	unit->group = group;
	unit->since = zodan_wait_clock();
	switch (kind)
	{
		case UNIT_ROWS:
			unit->part = group->parts_begun++;
			unit->size = group->bytes / group->nparts;
			break;
		case UNIT_EMPTY:
			group->emptying = true;
			break;
		case UNIT_INDEX:
			unit->indexes = list_length(group->tables) > 1 ? list_copy(group->builds) :
				list_make1(list_nth(group->builds, group->builds_begun));
			group->builds_begun++;
			foreach(cell, unit->indexes)
				unit->size += ((ZodanIndex *) lfirst(cell))->work;
			break;
		case UNIT_FINISH:
			group->finish_begun = true;
			foreach(cell, group->tables)
				unit->size += ((ZodanTable *) lfirst(cell))->finish_work;
			break;
	}
	return unit;
}

/*
 * May a group, of which nothing has been begun, be begun while that is the current
 * snapshot, or NULL?
 */
static bool
may_begin(const ZodanGroup *group, const ZodanSnapshot *snapshot)
{
	return group->snapshot || (snapshot && snapshot->number > group->refused);
}

/*
 * Is a group, of which nothing has been begun, to be begun before another one?
 */
static bool
goes_before(const ZodanGroup *group, const ZodanGroup *other)
{
	if ((group->snapshot != NULL) != (other->snapshot != NULL))
		return group->snapshot != NULL;
	if (group->early != other->early)
		return group->early;
	return group->bytes > other->bytes;
}

static int64
next_index_work(const ZodanGroup *group)
{
	return ((ZodanIndex *) list_nth(group->builds, group->builds_begun))->work;
}

/*
 * Gives a group, and all of its family, the snapshot under which they are
 * copied: each is a user of its own.
 */
static void
give_snapshot(List *groups, ZodanGroup *first, ZodanSnapshot *snapshot)
{
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (group == first || (first->family && group->family == first->family))
		{
			Assert(!group->snapshot && group->parts_begun == 0);
			group->snapshot = snapshot;
			snapshot->users++;
		}
	}
}

/*
 * Is a table in parts, at which other lanes work, to be helped with before
 * anything else is begun?
 */
static bool
is_urgent(const ZodanGroup *group, const ZodanSnapshot *snapshot)
{
	/* a snapshot under which no others are begun is to end */
	return group->shared || group->snapshot != snapshot;
}

static bool
helped_before(const ZodanGroup *group, const ZodanGroup *other, const ZodanSnapshot *snapshot)
{
	if (is_urgent(group, snapshot) != is_urgent(other, snapshot))
		return is_urgent(group, snapshot);
	return group->nparts - group->parts_begun > other->nparts - other->parts_begun;
}

/*
 * The next unit, palloc'd; NULL: there is none now. Groups are begun under the
 * given snapshot; NULL: none is begun.
 */
ZodanUnit *
zodan_units_next(List *groups, ZodanSnapshot *snapshot)
{
	ZodanGroup *begin = NULL;
	ZodanGroup *build = NULL;
	ZodanGroup *help = NULL;
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (group->rewritten)
		{
			if (group->parts_begun == group->parts_done && !group->emptying)
				return make_unit(UNIT_EMPTY, group);
		}
		else if (group->parts_done == group->nparts && group->builds_done == group->nbuilds)
		{
			if (!group->finish_begun)
				return make_unit(UNIT_FINISH, group);
		}
		else if (group->parts_done == group->nparts)
		{
			if (group->builds_begun < group->nbuilds && (!build || next_index_work(group) > next_index_work(build)))
				build = group;
		}
		else if (group->parts_begun > 0 && group->parts_begun < group->nparts)
		{
			/* nobody works at it */
			if (group->parts_begun == group->parts_done)
				return make_unit(UNIT_ROWS, group);
			if (!help || helped_before(group, help, snapshot))
				help = group;
		}
		else if (group->parts_begun == 0 && may_begin(group, snapshot) && (!begin || goes_before(group, begin)))
			begin = group;
	}
	if (help && is_urgent(help, snapshot))
		return make_unit(UNIT_ROWS, help);
	if (build && !(begin && (begin->snapshot || begin->early)))
		return make_unit(UNIT_INDEX, build);
	if (!begin)
		return help ? make_unit(UNIT_ROWS, help) : NULL;
	if (!begin->snapshot)
		give_snapshot(groups, begin, snapshot);
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

/*
 * A unit of rows can't be read under its snapshot any more. Returns whether nothing
 * of its group is there or under way; else that is removed by a unit of its own.
 */
bool
zodan_units_refuse(ZodanUnit *unit)
{
	ZodanGroup *group = unit->group;

	group->refused = group->snapshot->number;
	group->rewritten = true;
	return --group->parts_begun == 0;
}

/*
 * Parts a group of several tables, of which nothing is there or under way: those
 * (ZodanTable) that are too new for its snapshot wait for a later one, each by itself,
 * since one of them can hold up all others again; the rest goes on. The group keeps the
 * latter. Returns all groups.
 */
List *
zodan_units_split(List *groups, ZodanGroup *group, List *refused)
{
	List	   *rest = NIL;
	ZodanGroup *made;
	ListCell   *cell;

	foreach(cell, group->tables)
		if (!list_member_ptr(refused, lfirst(cell)))
			rest = lappend(rest, lfirst(cell));
	foreach(cell, refused)
	{
		made = make_group(list_make1(lfirst(cell)), ((ZodanTable *) lfirst(cell))->bytes, group->part_bytes, group->lane_bytes);
		made->early = group->early;
		made->refused = group->snapshot->number;
		groups = lappend(groups, made);
	}
	if (rest == NIL)
		return list_delete_ptr(groups, group);
	made = make_group(rest, 0, group->part_bytes, group->lane_bytes);
	foreach(cell, rest)
		made->bytes += ((ZodanTable *) lfirst(cell))->bytes;
	made->early = group->early;
	made->refused = group->refused;
	made->snapshot = group->snapshot;
	*group = *made;
	return groups;
}

/*
 * Nothing of the group is there any more: it waits for a later snapshot.
 */
void
zodan_units_reset(ZodanGroup *group)
{
	group->parts_begun = group->parts_done = 0;
	group->rewritten = group->emptying = false;
	group->snapshot = NULL;
	memset(group->counts, 0, sizeof(ZodanPipeCount) * list_length(group->tables));
}

/*
 * Are there groups that wait for a snapshot, and none of them for that one?
 */
bool
zodan_units_outdated(List *groups, const ZodanSnapshot *snapshot)
{
	bool		waiting = false;
	ListCell   *cell;

	foreach(cell, groups)
	{
		ZodanGroup *group = lfirst(cell);

		if (group->parts_begun > 0)
			continue;
		if (may_begin(group, snapshot))
			return false;
		waiting = true;
	}
	return waiting;
}
