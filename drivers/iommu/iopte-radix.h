/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The radix layer of io-pgtable: what the formats whose page tables are radix
 * trees have in common.  It knows the shape of the tree, and learns about
 * entries from the few operations of struct iopte_radix_ops.
 *
 * Words, in addition to those of iopte.h:
 *
 *   level     the tables at one distance from the root.  What an entry there
 *             translates, its span, is 2^shift bytes, and shift stands for the
 *             level: top_shift is the root's, last_shift that of the last
 *             level, whose entries are all leaf entries
 *   slot      an entry's place in its table
 *   leaf      an entry that translates to memory, at any level
 *   block     a leaf entry above the last level
 *
 * Map, unmap and iova_to_phys are the formats' own: they are the hot paths, and
 * loops over the tree with the strides of struct iopte_radix.
 */
#ifndef __IOPTE_RADIX_H
#define __IOPTE_RADIX_H

#include <linux/atomic.h>
#include <linux/io-pgtable.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>

#include "iopte.h"

#define IOPTE_RADIX_LEVELS	4
#define IOPTE_RADIX_LOCKS	16

struct iopte_radix;

enum iopte_entry_type {
	IOPTE_EMPTY,
	IOPTE_TABLE,
	IOPTE_LEAF,
};

/**
 * struct iopte_entry - what an entry was when it was read
 * @type: what it is.
 * @table: the table that it leads to, for IOPTE_TABLE.
 * @raw: its bits, as the format stores them.
 */
struct iopte_entry {
	enum iopte_entry_type	type;
	void			*table;
	u64			raw;
};

/**
 * struct iopte_radix_ops - what a format tells the radix layer about entries
 *
 * None of them sleeps, takes a lock or allocates.
 */
struct iopte_radix_ops {
	/** @read: Read the entry at @ptep, which translates 2^@shift bytes. */
	struct iopte_entry (*read)(struct iopte_radix *radix, unsigned int shift,
				   void *ptep);

	/** @clear: Empty the entry at @ptep, in the view of the walker too. */
	void (*clear)(struct iopte_radix *radix, void *ptep);

	/**
	 * @install: If the entry at @ptep still is @old, make it lead to
	 * @table, whose contents become visible before it does, and both to
	 * the walker too.  Return: whether it was.
	 */
	bool (*install)(struct iopte_radix *radix, void *ptep, u64 old,
			void *table);

	/**
	 * @fill: Empty @table, whose entries translate 2^@shift bytes, or make
	 * it translate what @block, the raw block entry above it, does.  A
	 * walker may still read it.
	 */
	void (*fill)(struct iopte_radix *radix, unsigned int shift, void *table,
		     u64 block);
};

/**
 * struct iopte_radix - the radix tree of a page table
 * @iop: the page table.
 * @ops: what its format knows.
 * @root: its root, which may be larger or smaller than the other tables.
 * @root_mask: the number of the root's entries, less one.
 * @table_mask: the number of entries of every other table, less one.
 * @top_shift: log2 of what an entry of the root translates, in bytes.
 * @last_shift: log2 of what an entry of the last level translates.
 * @stride: how much less the shift is with each level.
 * @entry_shift: log2 of the size of an entry in bytes.
 * @counts: whether tables count, for reserve: set before the first map, or never.
 * @whole: whether no table is smaller than a page, and each page's descriptor
 *         therefore its table's.
 * @pending: whether a sweep has unlinked tables and not flushed yet.  Written
 *           under @mutex.
 * @root_desc: the descriptor of the root.
 * @mutex: held where reservations are looked at or changed, but for unmaps; never
 *         across an allocation.
 * @locks: the parking locks.
 */
struct iopte_radix {
	struct io_pgtable		*iop;
	const struct iopte_radix_ops	*ops;
	void				*root;
	unsigned int			root_mask;
	unsigned int			table_mask;
	u8				top_shift;
	u8				last_shift;
	u8				stride;
	u8				entry_shift;
	bool				counts;
	bool				whole;
	bool				pending;
	struct iopte_page		*root_desc;
	struct mutex			mutex;	/* reservations */
	spinlock_t			locks[IOPTE_RADIX_LOCKS]; /* links, parked sets */
};

/**
 * struct iopte_child - a table that another leads to, as it was seen
 * @linked: whether it was linked, and not parked.
 * @reserved: how many of its entries reservations covered, in all.
 */
struct iopte_child {
	bool	linked;
	u32	reserved;
};

void iopte_radix_init(struct iopte_radix *radix, size_t root_size);
void iopte_radix_destroy(struct iopte_radix *radix, size_t root_size);
bool iopte_radix_unlink(struct iopte_radix *radix, unsigned int shift,
			void *table, u64 iova);

int iopte_radix_next_leaf(struct iopte_radix *radix, u64 *iova,
			  unsigned int *shift, struct iopte_entry *entry);
bool iopte_radix_next_child(struct iopte_radix *radix, unsigned int shift, u64 *iova,
			    struct iopte_child *child);

/* The slot in a table of level @shift that translates @iova. */
static inline unsigned int iopte_slot(const struct iopte_radix *radix,
				      unsigned int shift, u64 iova)
{
	return (iova >> shift) & (shift == radix->top_shift ? radix->root_mask :
							      radix->table_mask);
}

/* The last address that the tree translates. */
static inline u64 iopte_radix_last(const struct iopte_radix *radix)
{
	return ((u64)radix->root_mask << radix->top_shift) |
	       (BIT_ULL(radix->top_shift) - 1);
}

/* The entry in slot @slot of @table. */
static inline void *iopte_at(const struct iopte_radix *radix, void *table,
			     unsigned int slot)
{
	return table + ((size_t)slot << radix->entry_shift);
}

/*
 * Page tables that count (iopte-reserve.c), which takes 64 bits: struct page of
 * 32-bit kernels has no room for counts.
 */
#ifdef CONFIG_64BIT

/*
 * iopte_page::live of a table in which nobody may put an entry.  So is any other
 * negative value: the count may still be subtracted from.
 */
#define IOPTE_MARKED		(-1)

static inline bool iopte_radix_counts(const struct iopte_radix *radix)
{
	return READ_ONCE(radix->counts);
}

static inline struct iopte_page *iopte_desc(struct iopte_radix *radix,
					    const void *table)
{
	return table == radix->root ? radix->root_desc :
				      iopte_of(radix->iop->pool, table);
}

/* The same, quicker where tables are whole pages: in all but a few kernels. */
static __always_inline struct iopte_page *iopte_live_desc(struct iopte_radix *radix,
							  const void *table)
{
	if (likely(radix->whole))
		return iopte_block(table);
	return iopte_desc(radix, table);
}

static __always_inline bool __iopte_live_add(struct iopte_page *desc, unsigned int num)
{
	int live = atomic_read(&desc->live);

	do {
		if (unlikely(live < 0))
			return false;
	} while (!atomic_try_cmpxchg(&desc->live, &live, live + num));
	return true;
}

/*
 * Add to what keeps @table in the tree, before @num entries are written there.
 * Returns false when the table is marked: it may be on its way out.
 */
static __always_inline bool iopte_live_add(struct iopte_radix *radix,
					   const void *table, unsigned int num)
{
	return __iopte_live_add(iopte_live_desc(radix, table), num);
}

/*
 * Give that back for entries that have been cleared, or not been written.  The
 * caller's last access to @table.
 */
static __always_inline void iopte_live_sub(struct iopte_radix *radix,
					   const void *table, unsigned int num)
{
	/* (A) pairs with iopte_live_mark() */
	atomic_fetch_sub_release(num, &iopte_live_desc(radix, table)->live);
}

int iopte_radix_bring(struct iopte_radix *radix, unsigned int shift, void *table,
		      unsigned int leaf_shift, u64 iova, gfp_t gfp)
	__releases(RCU_SCHED);
int iopte_radix_split(struct iopte_radix *radix, unsigned int shift, u64 iova);
void iopte_radix_settle(struct iopte_radix *radix, u64 iova);
bool iopte_radix_park(struct iopte_radix *radix, unsigned int shift, void *table,
		      u64 iova);
void iopte_radix_flush_pending(struct iopte_radix *radix, u64 iova, size_t size);
void iopte_radix_collect_counted(struct iopte_radix *radix,
				 struct iopte_page *desc,
				 struct iopte_list *list);

void *iopte_counted_child(struct iopte_radix *radix, unsigned int shift, void *table,
			  unsigned int slot, bool *linked);
u32 iopte_radix_reserved(struct iopte_radix *radix, const void *table);

int iopte_radix_enable(struct iopte_radix *radix);
void iopte_radix_disable(struct iopte_radix *radix, struct iopte_list *list);
int iopte_radix_reserve(struct iopte_radix *radix, u64 iova, u64 size,
			u64 pgsize, gfp_t gfp);
void iopte_radix_unreserve(struct iopte_radix *radix, u64 iova, u64 size,
			   u64 pgsize);

#else /* !CONFIG_64BIT */

static inline bool iopte_radix_counts(const struct iopte_radix *radix)
{
	return false;
}

static inline bool iopte_live_add(struct iopte_radix *radix, const void *table,
				  unsigned int num)
{
	return true;
}

static inline void iopte_live_sub(struct iopte_radix *radix, const void *table,
				  unsigned int num)
{
}

static inline int iopte_radix_bring(struct iopte_radix *radix, unsigned int shift,
				    void *table, unsigned int leaf_shift,
				    u64 iova, gfp_t gfp)
	__releases(RCU_SCHED)
{
	rcu_read_unlock_sched();
	return -EOPNOTSUPP;
}

static inline int iopte_radix_split(struct iopte_radix *radix, unsigned int shift,
				    u64 iova)
{
	return -EOPNOTSUPP;
}

static inline void iopte_radix_settle(struct iopte_radix *radix, u64 iova)
{
}

static inline bool iopte_radix_park(struct iopte_radix *radix, unsigned int shift,
				    void *table, u64 iova)
{
	return false;
}

static inline void iopte_radix_flush_pending(struct iopte_radix *radix, u64 iova,
					     size_t size)
{
}

static inline struct iopte_page *iopte_desc(struct iopte_radix *radix,
					    const void *table)
{
	return NULL;
}

static inline void iopte_radix_collect_counted(struct iopte_radix *radix,
					       struct iopte_page *desc,
					       struct iopte_list *list)
{
}

static inline void *iopte_counted_child(struct iopte_radix *radix,
					unsigned int shift, void *table,
					unsigned int slot, bool *linked)
{
	return NULL;
}

static inline u32 iopte_radix_reserved(struct iopte_radix *radix, const void *table)
{
	return 0;
}

static inline int iopte_radix_enable(struct iopte_radix *radix)
{
	return -EOPNOTSUPP;
}

static inline void iopte_radix_disable(struct iopte_radix *radix,
				       struct iopte_list *list)
{
}

static inline int iopte_radix_reserve(struct iopte_radix *radix, u64 iova,
				      u64 size, u64 pgsize, gfp_t gfp)
{
	return -EOPNOTSUPP;
}

static inline void iopte_radix_unreserve(struct iopte_radix *radix, u64 iova,
					 u64 size, u64 pgsize)
{
}

#endif /* CONFIG_64BIT */

#endif /* __IOPTE_RADIX_H */
