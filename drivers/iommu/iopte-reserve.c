// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables that count: reserve and unreserve, and what map and unmap leave to
 * this file in such a page table: tables that are missing or in the way.
 *
 * Words, in addition to those of iopte.h and iopte-radix.h:
 *
 *   live      how many entries of a table are not empty, linked tables included,
 *             or are about to be written
 *   reserved  how many entries of a table reservations cover, in all; and, apart
 *             from that, how many of its child tables are reserved
 *   park      keep an unlinked table with its parent, under its slot
 *   marked    of a table: live is negative.  Nobody puts an entry in
 *   sweep     the part of unreserve that frees tables
 *
 * A table is in one of these states:
 *
 *   linked    its parent's entry leads to it
 *   parked    in its parent's parked set, marked
 *   leaving   neither; marked; freed after a flush and a grace period
 *
 * The invariants:
 *
 *   From reserve to unreserve every table that maps in the range need is linked,
 *   or parked in the slot where it is needed.  A table that is reserved, itself
 *   or a child of it, may be parked and linked again but does not leave.
 *
 *   A table is linked, unlinked, parked and taken back only under the parking
 *   lock of its parent.  So there is at most one for each slot.
 *
 *   A table in which there is an entry, or in which somebody is about to write
 *   one, has live > 0, and no sweep takes it.
 *
 *   When map() returns, no walk cache leads past what it has mapped.
 *
 * A parked table is only ever linked again in its own slot.  That is why it needs
 * no grace period: a software walker that still holds it translates the same
 * IOVA, and finds what was mapped there, nothing, or what is mapped there now, each
 * of which has been true during its walk.  The hardware was flushed out of it by
 * the unmap that parked it, before that returned.  Its leaf entries are dead and
 * are cleared when it is taken back, so that an unmap costs no more than today;
 * its entries for tables were cleared when those were parked in it.
 *
 * Who may race with whom, and what orders them.  Maps and unmaps of one range at
 * the same time are the caller's bug, as in any page table; the rest may meet.
 *
 *   map, map        that need a table in one slot: the parent's parking lock; the
 *                   second one finds it linked.
 *   map, unmap      of neighbours in one table: nothing to order.  An unmap leaves
 *                   tables linked, unless it covers all that they translate.
 *   unmap, unmap    of parts of one block: the parent's parking lock; the second
 *                   one finds a table.
 *   map, sweep      of one table: the mapper adds to live before it writes, the
 *                   sweep marks what has live 0; the one that comes second fails.
 *                   A mapper that fails passes through the parking locks of all
 *                   tables on its way, the last of which is held from marking to
 *                   unlinking, and starts again at the root.  It is in a read
 *                   section meanwhile and touches nothing but live.
 *   unmap, sweep    of one table: what the unmap is about to clear keeps live
 *                   above 0; it subtracts as its last access.  (A)
 *                   Of a table that the unmap unlinks: the parent's parking lock.
 *                   The one that comes second finds it gone.  What is parked in
 *                   it goes to the one who comes first to its own lock.
 *   map, sweep's    Until its flush the hardware may walk what a sweep has
 *   flush           unlinked.  It raises pending, clears entries, flushes, drops
 *                   pending.  Who fills an empty entry above the last level and
 *                   then sees pending flushes the way to it: for a table before
 *                   linking it, for a block before map() returns.  (B)
 *   reserve, map    in one slot: a table by the parent's parking lock.  Of a block,
 *                   both fill the entry by cmpxchg.  When reserve loses, it parks
 *                   its table under the block; when map loses, it parks the table
 *                   that it finds and tries again.
 *   reserve, unmap  of one table: an unmap decides under the parent's parking lock
 *                   whether the table is parked or leaves.  reserve adds to the
 *                   parent's count, from the root downwards, under the lock under
 *                   which it has found the child.
 *                   A subtree is parked from below, but marked from above first:
 *                   in a marked table reserve parks and does not link, so no table
 *                   comes that would be missed.
 *   reserve, split  A table that is taken back stays marked until it is linked and
 *   or take-back    filled: what reserve brings below it is parked.  (C)
 *   reserve,        exclude each other by the mutex, which unreserve holds until
 *   unreserve       its flush is over.
 *   reader,         iova_to_phys and the dirty walk, in a read section: see above
 *   anything        for parked tables; what leaves is freed a grace period later.
 *
 * Locks: the mutex, then one parking lock.  These are a few for all tables, chosen by
 * the parent, taken with interrupts off and never nested; nothing is allocated or
 * freed under one.  free_io_pgtable_ops() takes none: nobody else is left.
 *
 * Barriers:
 *
 *   (A) live: the release in iopte_live_sub() pairs with the cmpxchg in
 *       iopte_live_mark(): the sweep finds the entries cleared.
 *   (B) pending: smp_wmb() in iopte_sweep_begin() pairs with the fully ordered
 *       cmpxchg by which a block is written, and with the parking lock under
 *       which a table is: who finds an entry empty because of a sweep finds
 *       pending raised, or dropped after the flush.
 *   (C) the mark: the release in iopte_live_unmark() pairs with the cmpxchg in
 *       iopte_live_add(): nobody writes an entry in a table that is taken back
 *       before those that it had are cleared.
 *   (D) a table's contents, and live of one that nobody has seen before: the
 *       barrier in iopte_radix_ops::install pairs with the address dependency of
 *       walkers, the hardware's included.
 */

#include <linux/cleanup.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "iopte-radix.h"
#include "iopte_trace.h"

/* How many tables are allocated between looks at signals. */
#define IOPTE_RESERVE_BATCH	256

/* Beyond this many invalidations a sweep invalidates everything. */
#define IOPTE_SWEEP_FLUSHES	512

static spinlock_t *iopte_lock_of(struct iopte_radix *radix,
				 const struct iopte_page *desc)
{
	unsigned long n = (unsigned long)desc / sizeof(struct page);

	/* the lowest bits of large tables' page numbers are zero */
	return &radix->locks[(n ^ n / IOPTE_RADIX_LOCKS) % IOPTE_RADIX_LOCKS];
}

#define iopte_lock(radix, desc, flags)					\
	spin_lock_irqsave(iopte_lock_of(radix, desc), flags)
#define iopte_unlock(radix, desc, flags)				\
	spin_unlock_irqrestore(iopte_lock_of(radix, desc), flags)
#define iopte_assert_locked(radix, desc)				\
	lockdep_assert_held(iopte_lock_of(radix, desc))

static bool iopte_is_reserved(const struct iopte_page *desc)
{
	return desc->reserved || desc->children;
}

/* Whether an entry is empty, which is all zeros in every format. */
static bool iopte_is_empty(const struct iopte_radix *radix, const void *ptep)
{
	if (radix->entry_shift == ilog2(sizeof(u64)))
		return !READ_ONCE(*(const u64 *)ptep);
	return !READ_ONCE(*(const u32 *)ptep);
}

static u64 iopte_span_last(u64 iova, unsigned int shift)
{
	return iova | (BIT_ULL(shift) - 1);
}

/*
 * What a table of the last level translates, in bytes.  An invalidation for one
 * address drops all walk cache entries that lead to what translates it, of any
 * level: one in each such span drops those for a range.
 */
static u64 iopte_walk_span(const struct iopte_radix *radix)
{
	return BIT_ULL(radix->last_shift + radix->stride);
}

/*
 * The parked set of a table: a digital search tree, which needs two words of a
 * table's descriptor and never allocates.  The bits of the slot, lowest first,
 * lead from the root to a table; each table on the way has a slot of its own.  So
 * a search takes no more steps than a slot has bits.
 */

static void iopte_parked_add(struct iopte_page *parent, struct iopte_page *desc)
{
	struct iopte_page **link = &parent->parked;
	unsigned int bits = desc->slot;

	for (; *link; bits >>= 1)
		link = &(*link)->child[bits & 1];
	desc->child[0] = NULL;
	desc->child[1] = NULL;
	*link = desc;
}

/* What points to the table that is parked in @slot, or to where it would be. */
static struct iopte_page **iopte_parked_find(struct iopte_page *parent,
					     unsigned int slot)
{
	struct iopte_page **link = &parent->parked;
	unsigned int bits = slot;

	for (; *link && (*link)->slot != slot; bits >>= 1)
		link = &(*link)->child[bits & 1];
	return link;
}

static struct iopte_page *iopte_parked_take(struct iopte_page **link)
{
	struct iopte_page *desc = *link, *leaf;
	struct iopte_page **end = link;

	if (!desc)
		return NULL;

	/* Any leaf below it can take its place. */
	while ((*end)->child[0] || (*end)->child[1])
		end = &(*end)->child[!(*end)->child[0]];
	leaf = *end;
	*end = NULL;
	if (leaf != desc) {
		leaf->child[0] = desc->child[0];
		leaf->child[1] = desc->child[1];
		*link = leaf;
	}
	return desc;
}

/* Make a table that is in no tree one that counts, for slot @slot, with that live. */
static struct iopte_page *iopte_count_table(struct iopte_page *desc,
					    unsigned int slot, int live)
{
	desc->parked = NULL;
	desc->reserved = 0;
	desc->children = 0;
	desc->slot = slot;
	desc->state |= IOPTE_COUNTED;
	atomic_set(&desc->live, live);
	return desc;
}

/* And back.  Its contents are as they were: zero, if it was never linked. */
static void iopte_uncount_table(struct iopte_radix *radix, struct iopte_page *desc)
{
	desc->reserved = 0;
	desc->children = 0;
	desc->state &= ~IOPTE_COUNTED;
	desc->pool = radix->iop->pool;
}

/*
 * The child of @parent in @slot, linked or parked, or NULL, also where @parent
 * itself has left the tree.  *@linked tells which.
 */
static struct iopte_page *iopte_child(struct iopte_radix *radix, void *table,
				      struct iopte_page *parent,
				      unsigned int shift, unsigned int slot,
				      bool *linked)
{
	struct iopte_entry entry;

	iopte_assert_locked(radix, parent);

	*linked = false;
	if (!(parent->state & IOPTE_COUNTED))
		return NULL;

	entry = radix->ops->read(radix, shift, iopte_at(radix, table, slot));
	*linked = entry.type == IOPTE_TABLE;
	if (*linked)
		return iopte_of(radix->iop->pool, entry.table);
	return *iopte_parked_find(parent, slot);
}

/**
 * iopte_counted_child - the child of a table in a slot, linked or parked
 * @radix: the tree.
 * @shift: level of the table.
 * @table: the table.
 * @slot: the slot.
 * @linked: whether it is linked.
 *
 * Context: In a read section, which keeps the child from being freed.
 * Return: the child, or NULL.
 */
void *iopte_counted_child(struct iopte_radix *radix, unsigned int shift, void *table,
			  unsigned int slot, bool *linked)
{
	struct iopte_page *parent = iopte_desc(radix, table), *child;
	unsigned long flags;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "iopte: child without a read section");
	iopte_lock(radix, parent, flags);
	child = iopte_child(radix, table, parent, shift, slot, linked);
	iopte_unlock(radix, parent, flags);
	return child ? iopte_address(radix->iop->pool, child) : NULL;
}

/**
 * iopte_radix_reserved - how many entries of a table reservations cover, in all
 * @radix: the tree.
 * @table: the table, which may have left the tree meanwhile.
 *
 * Context: In a read section, which keeps the table from being freed.
 * Return: that number; 0 in a tree that does not count.
 */
u32 iopte_radix_reserved(struct iopte_radix *radix, const void *table)
{
	struct iopte_page *desc = iopte_desc(radix, table);
	unsigned long flags;
	u32 reserved = 0;

	/* Retired, the descriptor has something else there. */
	iopte_lock(radix, desc, flags);
	if (iopte_radix_counts(radix) && desc->state & IOPTE_COUNTED)
		reserved = desc->reserved;
	iopte_unlock(radix, desc, flags);
	return reserved;
}

/**
 * iopte_radix_collect_counted - collect a table that nobody finds any more
 * @radix: the tree.
 * @desc: the table, to which no entry leads, and which is not parked.
 * @list: where to put it, and what is parked in it.
 *
 * A sweep may still hold the table.  What is parked in it goes to the one who
 * comes first to its parking lock.
 *
 * Context: Any context but NMI.
 */
void iopte_radix_collect_counted(struct iopte_radix *radix,
				 struct iopte_page *desc,
				 struct iopte_list *list)
{
	struct iopte_pool *pool = radix->iop->pool;
	struct iopte_page *set, *child;
	unsigned long flags;

	iopte_lock(radix, desc, flags);
	set = desc->parked;
	iopte_uncount_table(radix, desc);
	iopte_unlock(radix, desc, flags);

	while ((child = iopte_parked_take(&set)))
		iopte_radix_collect_counted(radix, child, list);
	iopte_list_add(pool, list, iopte_address(pool, desc));
}

/* Let entries be put in a table that was marked: it has @num by now. */
static void iopte_live_unmark(struct iopte_page *desc, unsigned int num)
{
	/*
	 * (C) pairs with iopte_live_add().  Not a store: once the table is
	 * linked an unmap that needs no other table may have subtracted.
	 */
	atomic_fetch_add_release(num - IOPTE_MARKED, &desc->live);
}

/* Mark a table that has no entry and that nobody is about to write to. */
static bool iopte_live_mark(struct iopte_page *desc)
{
	/* (A) pairs with iopte_live_sub() */
	return atomic_cmpxchg(&desc->live, 0, IOPTE_MARKED) == 0;
}

static void iopte_flush_walk(struct iopte_radix *radix, u64 iova, u64 size)
{
	u64 span = iopte_walk_span(radix);

	if ((size - 1) / span >= IOPTE_SWEEP_FLUSHES)
		io_pgtable_tlb_flush_all(radix->iop);
	else
		io_pgtable_tlb_flush_walk(radix->iop, iova, size, span);
}

/**
 * iopte_radix_flush_pending - flush a sweep's unlinked tables out of the hardware
 * @radix: the tree.
 * @iova: start of a range that was empty, and where a block has been written.
 * @size: its size in bytes.
 *
 * The caller has filled the entries by a fully ordered operation, and has made
 * them visible to the walker.
 *
 * Context: Any context but NMI.
 */
void iopte_radix_flush_pending(struct iopte_radix *radix, u64 iova, size_t size)
{
	/* (B) pairs with iopte_sweep_begin() */
	if (unlikely(READ_ONCE(radix->pending)))
		iopte_flush_walk(radix, iova, size);
}

/*
 * Take the table that iopte_parked_find() has found.  It is marked until it is linked
 * and unmarked.
 */
static struct iopte_page *iopte_take_parked(struct iopte_radix *radix,
					    struct iopte_page **link, void **table)
{
	struct iopte_page *desc = iopte_parked_take(link);

	*table = iopte_address(radix->iop->pool, desc);
	/* an unmap that parked it, or a sweep below, may have subtracted */
	atomic_set(&desc->live, IOPTE_MARKED);
	return desc;
}

/*
 * Whether it is worth to lock a table in order to look.  Where a slot is reserved,
 * its table has counted as a child since before this map, also while somebody else
 * takes it back and the set looks empty.
 */
static bool iopte_may_be_parked(const struct iopte_page *parent)
{
	/* A hint, but for reserved slots: who comes under the lock looks again */
	return data_race(parent->parked) || data_race(parent->children);
}

/*
 * Link @child in a slot that was empty.  False if it is not any more: a block may
 * have been written since, which takes no lock.
 */
static __always_inline bool iopte_link(struct iopte_radix *radix, void *ptep, u64 iova,
				       void *child)
{
	/*
	 * (B) pairs with iopte_sweep_begin().  What else the slot translates has
	 * empty slots below, for others to find.
	 */
	if (unlikely(READ_ONCE(radix->pending)))
		io_pgtable_tlb_flush_walk(radix->iop,
					  iova & ~(iopte_walk_span(radix) - 1),
					  iopte_walk_span(radix),
					  iopte_walk_span(radix));
	return radix->ops->install(radix, ptep, 0, child);
}

/*
 * Link the table that is parked in the empty slot of level @shift that translates
 * @iova, or @fresh, which is NULL afterwards.  In a read section; @parent is the
 * descriptor of @table.  Returns 0: look at the entry again; or, with nothing
 * changed, -ENOMEM: bring a fresh one, or -EAGAIN: @table is marked.
 */
static int iopte_bring(struct iopte_radix *radix, unsigned int shift, void *table,
		       struct iopte_page *parent, u64 iova, void **fresh)
{
	unsigned int slot = iopte_slot(radix, shift, iova);
	void *ptep = iopte_at(radix, table, slot), *child;
	struct iopte_page **link, *desc;
	unsigned long flags;
	int ret = 0;

	iopte_lock(radix, parent, flags);
	if (!__iopte_live_add(parent, 1)) {
		ret = -EAGAIN;
		goto out_unlock;
	}

	if (!iopte_is_empty(radix, ptep))
		goto out_sub;

	link = iopte_parked_find(parent, slot);
	if (*link) {
		desc = iopte_take_parked(radix, link, &child);
		radix->ops->fill(radix, shift - radix->stride, child, 0);
		if (iopte_link(radix, ptep, iova, child)) {
			trace_iopte_unpark(radix->iop->pool->id, child, table, slot);
			iopte_live_unmark(desc, 0);
			goto out_unlock;
		}
		iopte_parked_add(parent, desc);
	} else if (*fresh) {
		desc = iopte_count_table(iopte_live_desc(radix, *fresh), slot, 0);
		if (iopte_link(radix, ptep, iova, *fresh)) {
			*fresh = NULL;
			goto out_unlock;
		}
		iopte_uncount_table(radix, desc);
	} else {
		ret = -ENOMEM;
	}

out_sub:
	iopte_live_sub(radix, table, 1);
out_unlock:
	iopte_unlock(radix, parent, flags);
	return ret;
}

/*
 * Replace the block in the slot of level @shift that translates @iova by a table
 * that maps the same: the one that is parked there, or @fresh.  As iopte_bring(),
 * but in @table the caller has something mapped.
 */
static int iopte_split(struct iopte_radix *radix, unsigned int shift, void *table,
		       u64 iova, void **fresh)
{
	unsigned int slot = iopte_slot(radix, shift, iova), num = radix->table_mask + 1;
	struct iopte_page *parent = iopte_desc(radix, table), **link, *desc;
	void *ptep = iopte_at(radix, table, slot), *child;
	struct iopte_entry entry;
	unsigned long flags;
	bool parked;
	int ret = 0;

	iopte_lock(radix, parent, flags);
	entry = radix->ops->read(radix, shift, ptep);
	if (entry.type != IOPTE_LEAF)
		goto out_unlock;

	link = iopte_parked_find(parent, slot);
	parked = *link;
	if (parked) {
		desc = iopte_take_parked(radix, link, &child);
	} else if (*fresh) {
		child = *fresh;
		desc = iopte_count_table(iopte_live_desc(radix, child), slot, num);
	} else {
		ret = -ENOMEM;
		goto out_unlock;
	}

	do {
		radix->ops->fill(radix, shift - radix->stride, child, entry.raw);
		if (radix->ops->install(radix, ptep, entry.raw, child)) {
			if (parked) {
				trace_iopte_unpark(radix->iop->pool->id, child,
						   table, slot);
				iopte_live_unmark(desc, num);
			} else {
				*fresh = NULL;
			}
			goto out_unlock;
		}
		/* The hardware has made it dirty, or somebody clean. */
		entry = radix->ops->read(radix, shift, ptep);
	} while (entry.type == IOPTE_LEAF);

	/* Unmapped meanwhile: two callers for one range */
	radix->ops->fill(radix, shift - radix->stride, child, 0);
	if (parked)
		iopte_parked_add(parent, desc);
	else
		iopte_uncount_table(radix, desc);

out_unlock:
	iopte_unlock(radix, parent, flags);
	return ret;
}

/**
 * iopte_radix_settle - wait for who has marked a table
 * @radix: the tree.
 * @iova: an address that the table translates.
 *
 * A sweep that marks a table holds its parent's lock until it is unlinked: pass
 * through the locks of all tables on the way.
 *
 * Context: Any context but NMI.
 */
void iopte_radix_settle(struct iopte_radix *radix, u64 iova)
{
	unsigned int shift = radix->top_shift;
	void *table = radix->root;
	struct iopte_entry entry;

	guard(rcu)();
	for (; shift > radix->last_shift; shift -= radix->stride) {
		struct iopte_page *desc = iopte_desc(radix, table);
		unsigned long flags;

		iopte_lock(radix, desc, flags);
		entry = radix->ops->read(radix, shift,
					 iopte_at(radix, table,
						  iopte_slot(radix, shift, iova)));
		iopte_unlock(radix, desc, flags);
		if (entry.type != IOPTE_TABLE)
			break;
		table = entry.table;
	}
}

/*
 * Bring the tables on the way to the one of level @shift that translates @iova, or
 * split the blocks on that way.  Returns as iopte_bring(); with 0 the way is free,
 * or what is in it is the caller's to judge.
 */
static int iopte_clear_way(struct iopte_radix *radix, unsigned int shift, u64 iova,
			   bool split, void **fresh)
{
	unsigned int at = radix->top_shift;
	void *table = radix->root;
	struct iopte_entry entry;
	int ret = 0;

	guard(rcu)();
	while (at > shift && !ret) {
		entry = radix->ops->read(radix, at,
					 iopte_at(radix, table,
						  iopte_slot(radix, at, iova)));
		if (entry.type == IOPTE_TABLE) {
			table = entry.table;
			at -= radix->stride;
		} else if (split != (entry.type == IOPTE_LEAF)) {
			break;
		} else if (split) {
			ret = iopte_split(radix, at, table, iova, fresh);
		} else {
			struct iopte_page *desc = iopte_desc(radix, table);

			ret = *fresh || iopte_may_be_parked(desc) ?
			      iopte_bring(radix, at, table, desc, iova, fresh) : -ENOMEM;
		}
	}
	return ret;
}

static int iopte_make_way(struct iopte_radix *radix, unsigned int shift, u64 iova,
			  bool split, gfp_t gfp)
{
	struct iopte_pool *pool = radix->iop->pool;
	void *fresh = NULL;
	int ret;

	while ((ret = iopte_clear_way(radix, shift, iova, split, &fresh))) {
		if (ret == -EAGAIN) {
			iopte_radix_settle(radix, iova);
			continue;
		}
		fresh = iopte_alloc(pool, gfp);
		if (!fresh)
			return -ENOMEM;
	}
	/* Somebody else was quicker */
	if (fresh)
		iopte_free(pool, fresh);
	return 0;
}

/**
 * iopte_radix_bring - bring a table that a map needs
 * @radix: the tree.
 * @shift: level of @table, in which the map has found an empty slot.
 * @table: the table.
 * @leaf_shift: level of the entries that are going to be written.
 * @iova: an address that they translate.
 * @gfp: how to allocate what is not parked there.
 *
 * Context: As @gfp allows.  The caller's read section, which takes no locks, ends
 * here, after one that may has begun.
 * Return: 0: walk again from the root; or -ENOMEM, with tables brought, maybe, and
 * nothing mapped.
 */
int iopte_radix_bring(struct iopte_radix *radix, unsigned int shift, void *table,
		      unsigned int leaf_shift, u64 iova, gfp_t gfp)
	__releases(RCU_SCHED)
{
	struct iopte_page *desc;
	void *fresh = NULL;
	int ret = -ENOMEM;

	rcu_read_lock();
	rcu_read_unlock_sched();

	desc = iopte_live_desc(radix, table);
	if (iopte_may_be_parked(desc))
		ret = iopte_bring(radix, shift, table, desc, iova, &fresh);

	if (ret == -ENOMEM && !gfpflags_allow_blocking(gfp)) {
		fresh = iopte_alloc(radix->iop->pool, gfp);
		if (fresh)
			ret = iopte_bring(radix, shift, table, desc, iova, &fresh);
		if (unlikely(fresh))
			iopte_free(radix->iop->pool, fresh);
	}
	rcu_read_unlock();

	/* -ENOMEM of who must not sleep: the allocation has been tried */
	if (likely(!ret) || (ret == -ENOMEM && !gfpflags_allow_blocking(gfp)))
		return ret;
	return iopte_make_way(radix, leaf_shift, iova, false, gfp);
}

/**
 * iopte_radix_split - split the blocks on the way to what an unmap clears
 * @radix: the tree.
 * @shift: level of the entries that are going to be cleared.
 * @iova: an address that they translate.
 *
 * Each is replaced by a table that maps the same: the one that is parked there, or
 * one that is allocated.
 *
 * Context: Any context but NMI, outside of the caller's read section.
 * Return: 0: walk again from the root; or -ENOMEM, with what is mapped as it was.
 */
int iopte_radix_split(struct iopte_radix *radix, unsigned int shift, u64 iova)
{
	return iopte_make_way(radix, shift, iova, true, GFP_ATOMIC);
}

/*
 * Mark a table, whose entries translate 2^@shift bytes and are all the caller's,
 * and those below it, and park each of those in its parent.
 */
static void iopte_park_children(struct iopte_radix *radix, unsigned int shift,
				void *table)
{
	struct iopte_page *desc = iopte_of(radix->iop->pool, table);
	unsigned int slot, n = radix->table_mask + 1;
	struct iopte_entry entry;
	unsigned long flags;

	if (shift == radix->last_shift) {
		atomic_set(&desc->live, IOPTE_MARKED);
		return;
	}

	/* From here on reserve() parks here and does not link. */
	iopte_lock(radix, desc, flags);
	atomic_set(&desc->live, IOPTE_MARKED);
	iopte_unlock(radix, desc, flags);

	for (slot = 0; slot < n; slot++) {
		entry = radix->ops->read(radix, shift,
					 iopte_at(radix, table, slot));
		if (entry.type == IOPTE_TABLE)
			iopte_park_children(radix, shift - radix->stride,
					    entry.table);
	}

	iopte_lock(radix, desc, flags);
	for (slot = 0; slot < n && desc->state & IOPTE_COUNTED; slot++) {
		void *ptep = iopte_at(radix, table, slot);
		struct iopte_page *child;

		entry = radix->ops->read(radix, shift, ptep);
		if (entry.type != IOPTE_TABLE)
			continue;
		radix->ops->clear(radix, ptep);
		child = iopte_of(radix->iop->pool, entry.table);
		child->slot = slot;
		iopte_parked_add(desc, child);
		trace_iopte_park(radix->iop->pool->id, entry.table, table, slot);
	}
	iopte_unlock(radix, desc, flags);
}

/**
 * iopte_radix_park - iopte_radix_unlink() in a page table that counts
 * @radix: the tree.
 * @shift: log2 of the size of the range.
 * @table: a table of that level, in which the caller has something mapped.
 * @iova: an address in the range.
 *
 * Parks the table that the entry leads to, and those below it, in @table where
 * that is reserved, or has reserved children, and retires them otherwise.
 *
 * Context: Any context but NMI.
 * Return: whether it has emptied the entry.  Then the caller has to subtract it
 * from the entries of @table.
 */
bool iopte_radix_park(struct iopte_radix *radix, unsigned int shift, void *table,
		      u64 iova)
{
	struct iopte_page *parent = iopte_desc(radix, table), *desc;
	unsigned int slot = iopte_slot(radix, shift, iova);
	void *ptep = iopte_at(radix, table, slot);
	unsigned long start = iova & ~(BIT_ULL(shift) - 1), flags;
	struct io_pgtable *iop = radix->iop;
	struct iopte_entry entry, now;
	struct iopte_list list = {};
	bool leaves = false;

	/* Keeps what a sweep that comes first unlinks */
	guard(rcu)();

	entry = radix->ops->read(radix, shift, ptep);
	if (entry.type != IOPTE_TABLE)
		return false;
	iopte_park_children(radix, shift - radix->stride, entry.table);

	iopte_lock(radix, parent, flags);
	now = radix->ops->read(radix, shift, ptep);
	if (now.table != entry.table) {
		/* A sweep has come first, which flushes. */
		iopte_unlock(radix, parent, flags);
		return false;
	}
	radix->ops->clear(radix, ptep);
	desc = iopte_of(iop->pool, entry.table);
	if (iopte_is_reserved(parent)) {
		desc->slot = slot;
		iopte_parked_add(parent, desc);
		trace_iopte_park(iop->pool->id, entry.table, table, slot);
	} else {
		leaves = true;
	}
	iopte_unlock(radix, parent, flags);

	if (leaves)
		iopte_radix_collect_counted(radix, desc, &list);
	io_pgtable_tlb_flush_walk(iop, start, BIT_ULL(shift),
				  BIT(radix->last_shift));
	iopte_retire(iop->pool, &list, start, BIT_ULL(shift));
	return true;
}

/* reserve */

/* The last address of what @iova's table of level @target translates, or @last. */
static u64 iopte_table_last(struct iopte_radix *radix, u64 iova, u64 last,
			    unsigned int target)
{
	if (target == radix->top_shift)
		return last;
	return min(iopte_span_last(iova, target + radix->stride), last);
}

/* How many tables below level @shift, down to @target, [first, last] needs. */
static u64 iopte_tables_below(struct iopte_radix *radix, unsigned int shift,
			      unsigned int target, u64 first, u64 last)
{
	u64 n = 0;

	for (; shift > target; shift -= radix->stride)
		n += (last >> shift) - (first >> shift) + 1;
	return n;
}

/* How many of those are missing.  They may come and go meanwhile. */
static u64 iopte_count_missing(struct iopte_radix *radix, u64 iova, u64 last,
			       unsigned int target)
{
	u64 missing = 0, part_last;

	for (;;) {
		unsigned int shift = radix->top_shift;
		void *table = radix->root;

		rcu_read_lock();
		for (; shift > target; shift -= radix->stride) {
			struct iopte_page *desc = iopte_desc(radix, table), *child;
			unsigned long flags;
			bool linked;

			iopte_lock(radix, desc, flags);
			child = iopte_child(radix, table, desc, shift,
					    iopte_slot(radix, shift, iova),
					    &linked);
			iopte_unlock(radix, desc, flags);
			if (!child)
				break;
			table = iopte_address(radix->iop->pool, child);
		}
		rcu_read_unlock();

		if (shift > target) {
			part_last = min(iopte_span_last(iova, shift), last);
			missing += iopte_tables_below(radix, shift, target,
						      iova, part_last);
		} else {
			part_last = iopte_table_last(radix, iova, last, target);
		}
		if (part_last == last)
			return missing;
		iova = part_last + 1;
		cond_resched();
	}
}

/* Allocate what is missing, and @spare tables. */
static int iopte_reserve_stock(struct iopte_radix *radix, u64 iova, u64 last,
			       unsigned int target, unsigned int spare, gfp_t gfp,
			       struct iopte_stock *stock)
{
	u64 missing = iopte_count_missing(radix, iova, last, target) + spare;
	unsigned int n;

	for (; missing; missing -= n) {
		n = min(missing, IOPTE_RESERVE_BATCH);
		if (fatal_signal_pending(current))
			return -EINTR;
		if (iopte_stock_fill(radix->iop->pool, stock, n, gfp))
			return -ENOMEM;
		cond_resched();
	}
	return 0;
}

/*
 * Find the child of a table in @slot, or bring it from @stock, and count it as
 * reserved.  From here on it may be parked and linked but does not leave.
 */
static struct iopte_page *iopte_reserve_child(struct iopte_radix *radix,
					      unsigned int shift, void *table,
					      unsigned int slot,
					      struct iopte_stock *stock)
{
	struct iopte_page *parent = iopte_desc(radix, table), *child;
	void *ptep = iopte_at(radix, table, slot);
	unsigned long flags;
	bool linked;

	lockdep_assert_held(&radix->mutex);

	iopte_lock(radix, parent, flags);
	child = iopte_child(radix, table, parent, shift, slot, &linked);
	if (!child) {
		child = iopte_stock_pop(stock);
		if (!child)
			goto out_unlock;

		/*
		 * A table that is marked is on its way to being parked, and so
		 * is what it has.  A block in the slot, or one that a mapper
		 * writes there this moment, stays above the table.
		 */
		iopte_count_table(child, slot, 0);
		if (iopte_is_empty(radix, ptep) && iopte_live_add(radix, table, 1)) {
			linked = radix->ops->install(radix, ptep, 0,
						     iopte_address(radix->iop->pool,
								   child));
			if (!linked)
				iopte_live_sub(radix, table, 1);
		}
		if (!linked) {
			atomic_set(&child->live, IOPTE_MARKED);
			iopte_parked_add(parent, child);
			trace_iopte_park(radix->iop->pool->id,
					 iopte_address(radix->iop->pool, child),
					 table, slot);
		}
	}
	if (!iopte_is_reserved(child))
		parent->children++;
out_unlock:
	iopte_unlock(radix, parent, flags);
	return child;
}

/*
 * Give a reserved table's count back where it has none left, and so on towards
 * the root: @path are the tables from the root to that table.
 */
static void iopte_uncount_path(struct iopte_radix *radix, struct iopte_page **path,
			       unsigned int depth)
{
	unsigned long flags;

	lockdep_assert_held(&radix->mutex);

	for (; depth && !iopte_is_reserved(path[depth]); depth--) {
		struct iopte_page *parent = path[depth - 1];

		iopte_lock(radix, parent, flags);
		parent->children--;
		iopte_unlock(radix, parent, flags);
	}
}

/* Reserve @num entries in the table of level @target that translates @iova. */
static int iopte_reserve_table(struct iopte_radix *radix, u64 iova,
			       unsigned int target, unsigned int num,
			       struct iopte_stock *stock)
{
	struct iopte_page *path[IOPTE_RADIX_LEVELS] = { radix->root_desc };
	unsigned int shift = radix->top_shift, depth = 0;
	void *table = radix->root;
	struct iopte_page *desc;
	unsigned long flags;
	int ret = 0;

	for (; shift > target; shift -= radix->stride) {
		desc = iopte_reserve_child(radix, shift, table,
					   iopte_slot(radix, shift, iova), stock);
		if (!desc) {
			ret = -EAGAIN;
			goto out_uncount;
		}
		path[++depth] = desc;
		table = iopte_address(radix->iop->pool, desc);
	}

	desc = path[depth];
	iopte_lock(radix, desc, flags);
	if (check_add_overflow(desc->reserved, num, &num))
		ret = -EOVERFLOW;
	else
		desc->reserved = num;
	iopte_unlock(radix, desc, flags);
	if (!ret)
		return 0;

out_uncount:
	iopte_uncount_path(radix, path, depth);
	return ret;
}

/* Subtract what reservations of [iova, last] have added, or check that one may. */
static bool iopte_uncount_range(struct iopte_radix *radix, u64 iova, u64 last,
				unsigned int target, bool check)
{
	u64 part_last;

	lockdep_assert_held(&radix->mutex);

	for (;; iova = part_last + 1) {
		struct iopte_page *path[IOPTE_RADIX_LEVELS] = { radix->root_desc };
		unsigned int shift = radix->top_shift, depth = 0, num;
		struct iopte_page *desc = radix->root_desc, *child;
		unsigned long flags;
		bool linked;

		part_last = iopte_table_last(radix, iova, last, target);
		num = ((part_last - iova) >> target) + 1;

		for (; shift > target; shift -= radix->stride) {
			void *table = depth ? iopte_address(radix->iop->pool, desc) :
					      radix->root;

			iopte_lock(radix, desc, flags);
			child = iopte_child(radix, table, desc, shift,
					    iopte_slot(radix, shift, iova),
					    &linked);
			/* With a reservation it stays when the lock is dropped */
			if (child && !iopte_is_reserved(child))
				child = NULL;
			iopte_unlock(radix, desc, flags);
			if (!child)
				return false;
			desc = child;
			path[++depth] = desc;
		}

		if (check) {
			if (desc->reserved < num)
				return false;
		} else {
			iopte_lock(radix, desc, flags);
			desc->reserved -= num;
			iopte_unlock(radix, desc, flags);
			iopte_uncount_path(radix, path, depth);
		}

		if (part_last == last)
			return true;
		cond_resched();
	}
}

/* The sweep */

struct iopte_sweep {
	struct iopte_list list;
	u64 first, last;	/* what to flush */
};

static void iopte_sweep_begin(struct iopte_radix *radix, struct iopte_sweep *sweep)
{
	lockdep_assert_held(&radix->mutex);

	*sweep = (struct iopte_sweep){ .first = U64_MAX };
	WRITE_ONCE(radix->pending, true);
	/*
	 * (B) pairs with the operation, fully ordered, by which a mapper fills a
	 * slot: when it finds one empty that the sweep has emptied, it sees
	 * pending, or the flush is over.
	 */
	smp_wmb();
}

static void iopte_sweep_end(struct iopte_radix *radix, struct iopte_sweep *sweep)
{
	const struct iommu_flush_ops *tlb = radix->iop->cfg.tlb;
	struct iopte_pool *pool = radix->iop->pool;
	u64 size = sweep->last - sweep->first + 1;
	bool flushed = true;

	lockdep_assert_held(&radix->mutex);

	if (sweep->list.head) {
		if (pool->user_flush)
			flushed = !tlb->tlb_flush_sweep(sweep->first, size,
							radix->iop->cookie);
		else
			iopte_flush_walk(radix, sweep->first, size);
	}
	/* After the flush: (B), the other way round */
	smp_store_release(&radix->pending, false);

	if (flushed) {
		iopte_retire_flushed(pool, &sweep->list);
	} else {
		/* a range that a flush of any part of it does not cover */
		u64 span = BIT_ULL(fls64(sweep->first ^ sweep->last));

		iopte_retire(pool, &sweep->list, sweep->first, span);
	}
}

/*
 * A table leaves the slot of level @shift that translates @iova.  Of one that was
 * linked only the way to @iova is flushed: it was empty, and what had been below it
 * was flushed when it left.  Of a parked one everything is, since the unmap that
 * parked it may not have done so yet; and a user's flush reaches only tables that
 * translate nothing outside of its range.
 */
static void iopte_sweep_add(struct iopte_radix *radix, struct iopte_sweep *sweep,
			    u64 iova, unsigned int shift, struct iopte_page *desc,
			    bool linked)
{
	u64 span = BIT_ULL(min(shift, radix->iop->cfg.ias));

	if (linked && !radix->iop->pool->user_flush)
		span = iopte_walk_span(radix);
	sweep->first = min(sweep->first, iova & ~(span - 1));
	sweep->last = max(sweep->last, iova | (span - 1));
	iopte_radix_collect_counted(radix, desc, &sweep->list);
}

/* Collect what is parked in a table that has no reservation left. */
static void iopte_sweep_parked(struct iopte_radix *radix, struct iopte_sweep *sweep,
			       unsigned int shift, struct iopte_page *desc, u64 iova)
{
	unsigned int top = radix->top_shift;
	struct iopte_page *set = NULL, *child;
	unsigned long flags;
	u64 base;

	iopte_lock(radix, desc, flags);
	if (desc->state & IOPTE_COUNTED && !iopte_is_reserved(desc))
		swap(set, desc->parked);
	iopte_unlock(radix, desc, flags);

	/* where the table's range begins */
	if (shift == top)
		base = iova & ~(((u64)radix->root_mask << top) | (BIT_ULL(top) - 1));
	else
		base = iova & ~(BIT_ULL(shift + radix->stride) - 1);
	while ((child = iopte_parked_take(&set)))
		iopte_sweep_add(radix, sweep, base + ((u64)child->slot << shift),
				shift, child, false);
}

/* Free the table in a slot of @table, if it still is @child and nobody needs it. */
static void iopte_sweep_table(struct iopte_radix *radix, struct iopte_sweep *sweep,
			      unsigned int shift, void *table, u64 iova,
			      struct iopte_page *child)
{
	struct iopte_page *parent = iopte_desc(radix, table);
	unsigned int slot = iopte_slot(radix, shift, iova);
	void *memory = iopte_address(radix->iop->pool, child);
	unsigned long flags;
	bool linked;

	iopte_lock(radix, parent, flags);
	if (iopte_child(radix, table, parent, shift, slot, &linked) != child ||
	    iopte_is_reserved(child)) {
		child = NULL;
	} else if (!linked) {
		iopte_parked_take(iopte_parked_find(parent, slot));
	} else if (!iopte_live_mark(child)) {
		child = NULL;
	} else if (WARN_ONCE(memchr_inv(memory, 0, radix->iop->pool->table_size),
			     "iopte: a table that counts 0 entries has some\n")) {
		iopte_live_unmark(child, 1);	/* and stays for good */
		child = NULL;
	} else {
		radix->ops->clear(radix, iopte_at(radix, table, slot));
		iopte_live_sub(radix, table, 1);
	}
	iopte_unlock(radix, parent, flags);

	if (child)
		iopte_sweep_add(radix, sweep, iova, shift, child, linked);
}

/*
 * Free the tables on the way from the root to @iova that nobody needs, each when
 * the range ends or leaves what it translates.  Returns the last address that has
 * been dealt with.
 */
static u64 iopte_sweep_path(struct iopte_radix *radix, struct iopte_sweep *sweep,
			    u64 iova, u64 last)
{
	struct iopte_page *path[IOPTE_RADIX_LEVELS] = { radix->root_desc };
	void *table[IOPTE_RADIX_LEVELS] = { radix->root };
	unsigned int shift = radix->top_shift, depth = 0;
	struct iopte_page *child = NULL;
	unsigned long flags;
	bool linked;
	u64 part_last;

	/* What another unlinks meanwhile stays here until we are through. */
	guard(rcu)();

	for (;;) {
		iopte_sweep_parked(radix, sweep, shift, path[depth], iova);
		if (shift == radix->last_shift)
			break;

		iopte_lock(radix, path[depth], flags);
		child = iopte_child(radix, table[depth], path[depth], shift,
				    iopte_slot(radix, shift, iova), &linked);
		iopte_unlock(radix, path[depth], flags);

		/* Tables of the last level have nothing below */
		if (!child || shift - radix->stride == radix->last_shift)
			break;
		depth++;
		path[depth] = child;
		table[depth] = iopte_address(radix->iop->pool, child);
		child = NULL;
		shift -= radix->stride;
	}

	part_last = last;
	if (shift > radix->last_shift)
		part_last = min(iopte_span_last(iova, shift), last);

	for (;;) {
		if (child)
			iopte_sweep_table(radix, sweep, shift, table[depth],
					  iova, child);
		if (!depth)
			break;
		child = path[depth--];
		shift += radix->stride;
		if (part_last != last && part_last != iopte_span_last(iova, shift))
			break;
	}
	return part_last;
}

static void iopte_sweep(struct iopte_radix *radix, u64 iova, u64 last)
{
	struct iopte_sweep sweep;
	u64 part_last;

	iopte_sweep_begin(radix, &sweep);
	for (;; iova = part_last + 1) {
		part_last = iopte_sweep_path(radix, &sweep, iova, last);
		if (part_last == last)
			break;
		cond_resched();
	}
	iopte_sweep_end(radix, &sweep);
}

/* Interface */

/* Whether a range can be reserved; sets the level whose entries have that size. */
static int iopte_reserve_check(struct iopte_radix *radix, u64 iova, u64 size,
			       u64 pgsize, unsigned int *target)
{
	if (!pgsize || (pgsize & radix->iop->cfg.pgsize_bitmap) != pgsize ||
	    !is_power_of_2(pgsize) || !size || (iova | size) & (pgsize - 1))
		return -EINVAL;

	*target = ilog2(pgsize);
	if (*target > radix->top_shift)
		return -EINVAL;
	return 0;
}

/**
 * iopte_radix_reserve - see io_pgtable_ops::reserve
 * @radix: the tree.
 * @iova: first address, a multiple of @pgsize.
 * @size: size in bytes, a multiple of @pgsize.  The format has checked that all
 *        of the range can be translated.
 * @pgsize: the smallest page size that is going to be mapped there.
 * @gfp: how to allocate.
 *
 * Context: May sleep.
 * Return: 0; or, with nothing reserved, -EOPNOTSUPP when the page table does not
 * count, -EINVAL for a range or page size that is none, -ENOMEM, -EOVERFLOW when
 * there are more reservations than a count can say, -EINTR for a fatal signal.
 */
int iopte_radix_reserve(struct iopte_radix *radix, u64 iova, u64 size,
			u64 pgsize, gfp_t gfp)
{
	u64 at = iova, last = iova + (size - 1), part_last;
	struct iopte_stock stock = {};
	unsigned int target;
	bool done = false, changed = false;
	unsigned int spare = 0;
	int ret;

	might_sleep();
	if (!radix->counts)
		return -EOPNOTSUPP;
	ret = iopte_reserve_check(radix, iova, size, pgsize, &target);
	if (ret)
		return ret;

	while (!done) {
		ret = iopte_reserve_stock(radix, at, last, target, spare, gfp,
					  &stock);
		if (ret)
			break;

		mutex_lock(&radix->mutex);
		changed = true;
		for (;; at = part_last + 1) {
			part_last = iopte_table_last(radix, at, last, target);
			ret = iopte_reserve_table(radix, at, target,
						  ((part_last - at) >> target) + 1,
						  &stock);
			if (!ret && part_last != last && fatal_signal_pending(current)) {
				at = part_last + 1;
				ret = -EINTR;
			}
			done = !ret && part_last == last;
			if (ret || done)
				break;
			cond_resched();
		}
		mutex_unlock(&radix->mutex);
		if (ret && ret != -EAGAIN)
			break;
		/*
		 * Tables that were there when they were counted have gone.  With
		 * one for each level the next round gets on, whatever goes.
		 */
		spare = IOPTE_RADIX_LEVELS - 1;
	}
	iopte_stock_empty(radix->iop->pool, &stock);

	if (ret && changed) {
		mutex_lock(&radix->mutex);
		if (at != iova)
			iopte_uncount_range(radix, iova, at - 1, target, false);
		iopte_sweep(radix, iova, last);
		mutex_unlock(&radix->mutex);
	}
	trace_iopte_reserve(radix->iop->pool->id, iova, size, pgsize, ret);
	return ret;
}

/**
 * iopte_radix_unreserve - see io_pgtable_ops::unreserve
 * @radix: the tree.
 * @iova: first address.
 * @size: size in bytes.
 * @pgsize: as it was reserved.
 *
 * What was not reserved is one warning, and nothing has changed.
 *
 * Context: May sleep.
 */
void iopte_radix_unreserve(struct iopte_radix *radix, u64 iova, u64 size,
			   u64 pgsize)
{
	u64 last = iova + (size - 1);
	unsigned int target;
	bool reserved;

	might_sleep();
	mutex_lock(&radix->mutex);
	reserved = radix->counts &&
		   !iopte_reserve_check(radix, iova, size, pgsize, &target) &&
		   iopte_uncount_range(radix, iova, last, target, true);
	if (reserved) {
		iopte_uncount_range(radix, iova, last, target, false);
		iopte_sweep(radix, iova, last);
	}
	mutex_unlock(&radix->mutex);
	trace_iopte_unreserve(radix->iop->pool->id, iova, size, pgsize, reserved);
	WARN(!reserved, "iopte: unreserve of what is not reserved\n");
}

/**
 * iopte_radix_enable - make a page table count
 * @radix: the tree.
 *
 * Context: The caller serializes this with maps.
 * Return: 0, -EBUSY when the root has an entry, or -EOPNOTSUPP when neither the page
 * table nor its user can flush what unreserve removes.
 */
int iopte_radix_enable(struct iopte_radix *radix)
{
	const struct iommu_flush_ops *tlb = radix->iop->cfg.tlb;
	unsigned long flags;

	if (radix->counts)
		return 0;
	if (radix->iop->pool->user_flush && !(tlb && tlb->tlb_flush_sweep))
		return -EOPNOTSUPP;
	if (memchr_inv(radix->root, 0,
		       (size_t)(radix->root_mask + 1) << radix->entry_shift))
		return -EBUSY;

	/* The lock is for who looks at the root in debugfs */
	iopte_lock(radix, radix->root_desc, flags);
	/* It is kept, and never marked */
	iopte_count_table(radix->root_desc, 0, 0);
	iopte_unlock(radix, radix->root_desc, flags);
	WRITE_ONCE(radix->counts, true);
	return 0;
}

/**
 * iopte_radix_disable - forget the counts of a page table that goes
 * @radix: the tree, which nobody walks any more, and whose linked tables have been
 *         collected.
 * @list: where to put the tables that are parked in the root.
 *
 * Context: Any context but NMI.
 */
void iopte_radix_disable(struct iopte_radix *radix, struct iopte_list *list)
{
	struct iopte_page *root = radix->root_desc, *child;
	struct iopte_page *set = root->parked;

	WARN(iopte_is_reserved(root), "iopte: a page table goes that is reserved\n");
	radix->counts = false;
	iopte_uncount_table(radix, root);
	while ((child = iopte_parked_take(&set)))
		iopte_radix_collect_counted(radix, child, list);
}
