// SPDX-License-Identifier: GPL-2.0-only
/*
 * The radix layer of io-pgtable: what is done once for all formats.
 *
 * The model and the words: iopte-radix.h.  The life of a table: iopte.h.
 */

#include <linux/cleanup.h>

#include "iopte-radix.h"

/*
 * Put the tables that @num entries of level @shift, from @ptep on, lead to on
 * @list, at any depth.  Nobody adds a table there meanwhile: the entries are
 * unlinked, or the page table goes.
 */
static void iopte_radix_collect(struct iopte_radix *radix, unsigned int shift,
				void *ptep, unsigned int num,
				struct iopte_list *list)
{
	const unsigned int size = 1U << radix->entry_shift;
	struct iopte_entry entry;

	if (shift == radix->last_shift)
		return;

	for (; num; num--, ptep += size) {
		entry = radix->ops->read(radix, shift, ptep);
		if (entry.type != IOPTE_TABLE)
			continue;
		iopte_radix_collect(radix, shift - radix->stride, entry.table,
				    radix->table_mask + 1, list);
		if (iopte_radix_counts(radix))
			iopte_radix_collect_counted(radix,
						    iopte_desc(radix, entry.table),
						    list);
		else
			iopte_list_add(radix->iop->pool, list, entry.table);
	}
}

/**
 * iopte_radix_unlink - unlink what a block-size range is mapped by
 * @radix: the tree.
 * @shift: log2 of the size of the range.
 * @table: a table of that level.
 * @iova: an address in the range.  All of the range is the caller's: nobody maps
 *        or unmaps there meanwhile.
 *
 * Clears the entry, invalidates the walk cache and the leaf entries of the range
 * where the page table has tlb_flush_walk, and retires the tables that the entry
 * led to, of which there may be none by now.  In a page table that counts the
 * tables may be parked instead: iopte_radix_park().
 *
 * Context: Any context but NMI.
 * Return: whether it has emptied the entry.
 */
bool iopte_radix_unlink(struct iopte_radix *radix, unsigned int shift,
			void *table, u64 iova)
{
	void *ptep = iopte_at(radix, table, iopte_slot(radix, shift, iova));
	struct io_pgtable *iop = radix->iop;
	unsigned long start = iova & ~(BIT_ULL(shift) - 1);
	struct iopte_list list = {};
	struct iopte_entry entry;

	if (iopte_radix_counts(radix))
		return iopte_radix_park(radix, shift, table, iova);

	entry = radix->ops->read(radix, shift, ptep);
	if (entry.type != IOPTE_TABLE)
		return false;

	/* From here on no new walk gets to the tables */
	radix->ops->clear(radix, ptep);
	iopte_radix_collect(radix, shift - radix->stride, entry.table,
			    radix->table_mask + 1, &list);
	iopte_list_add(iop->pool, &list, entry.table);

	io_pgtable_tlb_flush_walk(iop, start, BIT_ULL(shift),
				  BIT(radix->last_shift));
	iopte_retire(iop->pool, &list, start, BIT_ULL(shift));
	return true;
}

/**
 * iopte_radix_next_leaf - find the first leaf at or behind an address
 * @radix: the tree.
 * @iova: where to begin; what the leaf entry translates begins at or before it only
 *        where it is in a block.  Set to the start of what the entry translates.
 * @shift: set to the level of the entry.
 * @entry: set to the entry, as it was read.
 *
 * A walker for those who look at a page table that others change meanwhile: it
 * starts at the root, in a read section of its own, so that the caller may sleep
 * between two calls.
 *
 * Context: Any context but NMI.
 * Return: whether there is one.
 */
bool iopte_radix_next_leaf(struct iopte_radix *radix, u64 *iova,
			   unsigned int *shift, struct iopte_entry *entry)
{
	const u64 last = ((u64)radix->root_mask << radix->top_shift) |
			 (BIT_ULL(radix->top_shift) - 1);
	u64 at = *iova, next;
	void *table;

	while (at <= last) {
		*shift = radix->top_shift;
		table = radix->root;
		rcu_read_lock();
		for (;;) {
			*entry = radix->ops->read(radix, *shift,
						  iopte_at(radix, table,
							   iopte_slot(radix, *shift, at)));
			if (entry->type != IOPTE_TABLE)
				break;
			table = entry->table;
			*shift -= radix->stride;
		}
		rcu_read_unlock();

		next = at & ~(BIT_ULL(*shift) - 1);
		if (entry->type == IOPTE_LEAF) {
			*iova = next;
			return true;
		}
		at = next + BIT_ULL(*shift);
	}
	return false;
}

static void iopte_census_table(struct iopte_radix *radix, unsigned int shift,
			       void *table, struct iopte_census *census)
{
	unsigned int n = (shift == radix->top_shift ? radix->root_mask :
						      radix->table_mask) + 1;
	unsigned int slot;

	if (iopte_radix_counts(radix))
		census->reserved += iopte_reserved(radix, table);
	if (shift == radix->last_shift)
		return;

	for (slot = 0; slot < n; slot++) {
		struct iopte_entry entry;
		bool linked = true;
		void *child = NULL;

		if (iopte_radix_counts(radix)) {
			child = iopte_radix_child(radix, shift, table, slot, &linked);
		} else {
			entry = radix->ops->read(radix, shift,
						 iopte_at(radix, table, slot));
			if (entry.type == IOPTE_TABLE)
				child = entry.table;
		}
		if (!child)
			continue;
		if (linked)
			census->linked++;
		else
			census->parked++;
		iopte_census_table(radix, shift - radix->stride, child, census);
	}
}

/**
 * iopte_radix_census - count the tables of a page table
 * @radix: the tree, which others may change meanwhile.
 * @census: what there was; a table that comes or goes may be missed.
 *
 * Looks at each slot above the last level.
 *
 * Context: Any context but NMI.
 */
void iopte_radix_census(struct iopte_radix *radix, struct iopte_census *census)
{
	*census = (struct iopte_census){ .linked = 1 };
	guard(rcu)();
	iopte_census_table(radix, radix->top_shift, radix->root, census);
}

/**
 * iopte_radix_init - prepare a tree
 * @radix: the tree: zero, but for its page table, operations, root and shape.
 * @root_size: size of the root in bytes.
 */
void iopte_radix_init(struct iopte_radix *radix, size_t root_size)
{
	struct iopte_pool *pool = radix->iop->pool;
	unsigned int i;

	/* A root that is no larger than a table has taken one */
	if (root_size <= pool->table_size)
		radix->root_desc = iopte_of(pool, radix->root);
	else
		radix->root_desc = iopte_block(radix->root);
	radix->whole = !pool->split;
	mutex_init(&radix->mutex);
	for (i = 0; i < IOPTE_RADIX_LOCKS; i++)
		spin_lock_init(&radix->locks[i]);
}

/**
 * iopte_radix_destroy - free all tables of a page table
 * @radix: the tree, which neither hardware nor software walks any more.
 * @root_size: size of its root in bytes.
 *
 * Context: Any context but NMI.
 */
void iopte_radix_destroy(struct iopte_radix *radix, size_t root_size)
{
	struct iopte_pool *pool = radix->iop->pool;
	struct iopte_list list = {};

	iopte_radix_collect(radix, radix->top_shift, radix->root,
			    radix->root_mask + 1, &list);
	if (iopte_radix_counts(radix))
		iopte_radix_disable(radix, &list);
	iopte_free_list(pool, &list);
	iopte_free_root(pool, radix->root, root_size);
}
