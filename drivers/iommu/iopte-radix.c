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

/* The child of a table in a slot, linked or, in a tree that counts, parked. */
static void *iopte_radix_child(struct iopte_radix *radix, unsigned int shift,
			       void *table, unsigned int slot, bool *linked)
{
	struct iopte_entry entry;

	if (iopte_radix_counts(radix))
		return iopte_counted_child(radix, shift, table, slot, linked);

	entry = radix->ops->read(radix, shift, iopte_at(radix, table, slot));
	*linked = true;
	return entry.type == IOPTE_TABLE ? entry.table : NULL;
}

/**
 * iopte_radix_next_leaf - find the next leaf entry
 * @radix: the tree.
 * @iova: where to begin, which may be inside of a block.  Set to the start of what
 *        the entry translates, or to where to go on.
 * @shift: set to the level of the entry.
 * @entry: set to the entry, as it was read.
 *
 * For those who look at a page table that others change meanwhile.  Starts at the
 * root and looks at one table, in a read section of its own: whoever calls it again
 * and again may sleep between the calls.
 *
 * Context: Any context but NMI.
 * Return: 1: found; 0: not in this table, go on; -ENOENT: there is none.
 */
int iopte_radix_next_leaf(struct iopte_radix *radix, u64 *iova,
			  unsigned int *shift, struct iopte_entry *entry)
{
	unsigned int slot, mask = radix->root_mask;
	void *table = radix->root;

	if (*iova > iopte_radix_last(radix))
		return -ENOENT;

	guard(rcu)();
	*shift = radix->top_shift;
	slot = iopte_slot(radix, *shift, *iova);
	for (;;) {
		*entry = radix->ops->read(radix, *shift, iopte_at(radix, table, slot));
		if (entry->type == IOPTE_TABLE) {
			table = entry->table;
			mask = radix->table_mask;
			*shift -= radix->stride;
			slot = iopte_slot(radix, *shift, *iova);
			continue;
		}
		*iova &= ~(BIT_ULL(*shift) - 1);
		if (entry->type == IOPTE_LEAF)
			return 1;
		*iova += BIT_ULL(*shift);
		if (slot++ == mask)
			return 0;
	}
}

/**
 * iopte_radix_next_child - find the next child of a table
 * @radix: the tree.
 * @shift: level of the table, above the last one.
 * @iova: an address that the table translates, in the slot to begin with.  Set to
 *        where the slot's range begins.
 * @child: set to what was found.
 *
 * As iopte_radix_next_leaf().
 *
 * Context: Any context but NMI.
 * Return: whether there is one.
 */
bool iopte_radix_next_child(struct iopte_radix *radix, unsigned int shift, u64 *iova,
			    struct iopte_child *child)
{
	unsigned int at = radix->top_shift, slot, mask = radix->root_mask;
	void *table = radix->root;

	guard(rcu)();
	for (; at > shift; at -= radix->stride) {
		table = iopte_radix_child(radix, at, table,
					  iopte_slot(radix, at, *iova),
					  &child->linked);
		if (!table)
			return false;
		mask = radix->table_mask;
	}

	*iova &= ~(BIT_ULL(shift) - 1);
	for (slot = iopte_slot(radix, shift, *iova); slot <= mask; slot++) {
		void *found = iopte_radix_child(radix, shift, table, slot,
						&child->linked);

		if (found) {
			child->reserved = iopte_radix_reserved(radix, found);
			return true;
		}
		*iova += BIT_ULL(shift);
	}
	return false;
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
