// SPDX-License-Identifier: GPL-2.0-only
/*
 * The radix layer of io-pgtable: what is done once for all formats.
 *
 * The model and the words: iopte-radix.h.  The life of a table: iopte.h.
 */

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
