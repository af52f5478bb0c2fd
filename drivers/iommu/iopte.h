/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The page layer of io-pgtable: what a page-table format uses to get, retire
 * and free the memory of its tables.
 *
 * Words, each with one meaning everywhere:
 *
 *   table    what one entry of a level above points to; all tables of a page
 *            table but its root have the same size
 *   block    the 2^order pages that an allocator deals in: one table, or a
 *            split page, which holds several tables smaller than a page
 *   pool     the tables of one page table and where their memory comes from
 *   retire   a table has left the tree: from then on it is freed in due course
 *
 * The life of a table:
 *
 *   iopte_alloc()       private to the caller, zeroed, DMA mapped
 *     entry written     in the tree: walked by hardware and, under
 *                       rcu_read_lock(), by software
 *     entry cleared     unreachable from the root; walk caches and readers
 *                       inside a read section may still use it
 *   iopte_list_add()    on a list of the caller, DMA unmapped
 *     walk cache flush  by the format, when the page table has tlb_flush_walk
 *   iopte_retire()      with tlb_flush_walk: to RCU.  Without: the user flushes
 *                       at the end of an operation, and the table waits in
 *                       the pool until io_pgtable_flush_end() has seen a flush
 *                       of its range that began after the entry was cleared
 *     grace period
 *     unshare, free     back to the allocator
 *
 * A table that was never in a tree, or whose page table no walker uses any
 * more (free_io_pgtable_ops()), takes the short cut iopte_free_list().
 *
 * The invariant: no walker reaches a table that the allocator has back.  The
 * hardware walker is ordered by the flush, which comes after the entry was
 * cleared and before call_rcu(); software walkers are ordered by the grace
 * period.
 *
 * Who races with whom:
 *
 *   map, unmap      may run concurrently on disjoint ranges of one page table;
 *                   two maps may bring a table for the same entry, the cmpxchg
 *                   of the entry chooses one, and the loser's table was never
 *                   in the tree
 *   readers         iova_to_phys and the dirty walk, under rcu_read_lock(),
 *                   against anything but free_io_pgtable_ops()
 *   RCU callbacks,  after free_io_pgtable_ops() too: they use only the table,
 *   work items      its descriptor, the pool and the allocator, which they
 *                   keep alive by references, never the page table, its
 *                   cookie or its device
 *
 * pool->lock protects the split pages with a free table and the tables that
 * wait for a flush.  It is a leaf lock, taken with interrupts off; nothing is
 * allocated or freed under it.
 */
#ifndef __IOPTE_H
#define __IOPTE_H

#include <linux/io-pgtable.h>
#include <linux/iopte-alloc.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>

struct device;
struct iopte_debugfs;
struct iopte_pool;

/**
 * struct iopte_page - the descriptor of a table, or of a split page
 * @__page_flags: the mm's, in the descriptor of a block.
 * @table: address of the table, in the descriptor of a table in a split page,
 *         which lies in an array of its own and not in the memory map.
 * @next: the next table on a struct iopte_list.  Never a tail page's word: bit
 *        0 is clear.
 * @range: while the table waits for its user's flush: the first IOVA that the
 *         cleared entry translated, with the log2 of its span in the low bits.
 * @rcu_head: during the grace period, in the first table of a list.
 * @llnode: after it, in the first table of a list that waits for the work item
 *          of an allocator whose free sleeps.
 * @node: a split page's place on its pool's list of those with a free table.
 * @child: while the table is parked: its place in its parent's parked set.
 *         Tables are aligned: never a tail page's word either.
 * @pool: the pool, from allocation until iopte_list_add(), of a split page
 *        until it is freed, and in the first table of a list from
 *        call_rcu() on.  NULL otherwise, which is how a table that is freed
 *        twice is found.  Shares the word of page->mapping: an aligned
 *        pointer, and NULL when the allocator gets the page back.
 * @parked: the tables parked in this one, while IOPTE_COUNTED is set.
 * @used: of a split page: a bit for each table that is in use.
 * @rest: during the grace period, in the first table of a list: the others.
 * @reserved: how many entries reservations cover here, in all.
 * @children: how many of the child tables have a reservation, their own or
 *            a child's.
 * @tables: of a split page: the array of its tables' descriptors.
 * @slot: while the table is parked: its slot in its parent.
 * @state: IOPTE_ROOT and IOPTE_COUNTED.
 * @live: how many entries are not empty, or about to be written.  Negative: see
 *        IOPTE_MARKED.  A late mapper may still try it during the grace
 *        period, so it shares no word with what RCU needs.
 *
 * Overlays struct page as struct slab does.  What is not described here is the
 * mm's and is not touched.  A block above order 0 is a compound page; its
 * descriptor is the head page's.
 */
struct iopte_page {
	union {
		unsigned long __page_flags;
		void *table;
	};
	union {
		struct {
			struct iopte_page *next;
			unsigned long range;
		};
		struct rcu_head rcu_head;
		struct llist_node llnode;
		struct list_head node;
		struct iopte_page *child[2];
	};
	union {
		struct iopte_pool *pool;
		struct iopte_page *parked;
	};
	union {
		unsigned long used;
		struct iopte_page *rest;
#ifdef CONFIG_64BIT
		struct {
			u32 reserved;
			u32 children;
		};
#endif
	};
	union {
		struct iopte_page *tables;
		struct {
			u16 slot;
			u16 state;
#ifdef CONFIG_64BIT
			atomic_t live;
#endif
		};
	};
	/* private: the mm's */
	unsigned int __page_type;
	atomic_t __page_refcount;
#ifdef CONFIG_MEMCG
	unsigned long __memcg_data;
#endif
};

#define IOPTE_MATCH(pg, pt)						\
	static_assert(offsetof(struct page, pg) == offsetof(struct iopte_page, pt))
IOPTE_MATCH(flags, __page_flags);
IOPTE_MATCH(compound_head, next);
IOPTE_MATCH(rcu_head, rcu_head);
IOPTE_MATCH(compound_head, llnode);
IOPTE_MATCH(lru, node);
IOPTE_MATCH(mapping, pool);
IOPTE_MATCH(index, used);
IOPTE_MATCH(private, tables);
IOPTE_MATCH(page_type, __page_type);
IOPTE_MATCH(_refcount, __page_refcount);
#ifdef CONFIG_MEMCG
IOPTE_MATCH(memcg_data, __memcg_data);
#endif
#undef IOPTE_MATCH
static_assert(sizeof(struct iopte_page) <= sizeof(struct page));

/* iopte_page::state: the root of a page table, in a block of its own */
#define IOPTE_ROOT		BIT(0)
/* iopte_page::state: in a tree that counts, linked or parked */
#define IOPTE_COUNTED		BIT(1)

/* The folio of a block, which @block describes. */
static inline struct folio *iopte_page_folio(struct iopte_page *block)
{
	return (struct folio *)block;
}

/* The descriptor of the block that begins with @page. */
static inline struct iopte_page *page_iopte_page(struct page *page)
{
	return (struct iopte_page *)page;
}

/**
 * struct iopte_list - tables that are to be retired or freed together
 * @head: the first table, or NULL.
 */
struct iopte_list {
	struct iopte_page *head;
};

/**
 * struct iopte_pool - the tables of one page table
 * @allocator: where blocks come from; the pool holds a reference.
 * @req: what is asked of @allocator for a block of tables.
 * @dev: the device for DMA mapping, when the IOMMU's walks are not coherent
 *       with the CPU caches, and NULL otherwise and once the page table is
 *       gone.
 * @ref: held by the page table and by each list in its grace period.
 * @table_size: size of a table in bytes, the root excepted.
 * @table_shift: log2 of @table_size.
 * @id: the page table's number, for tracing and debugfs.
 * @split: whether tables are smaller than a page, and pages therefore split.
 * @user_flush: whether the user of the page table brackets its own flushes.
 * @lock: protects @partial with the split pages on it, and @unflushed.
 * @waiting: how many tables wait for a grace period or a work item.
 * @debugfs: the page table's directory.
 * @partial: split pages with at least one free table.
 * @unflushed: tables that wait for their user's flush.
 */
struct iopte_pool {
	struct iopte_allocator	*allocator;
	struct iopte_request	req;
	struct device		*dev;
	refcount_t		ref;
	unsigned int		table_size;
	u32			id;
	u8			table_shift;
	bool			split;
	bool			user_flush;
#ifdef CONFIG_IOMMU_DEBUGFS
	atomic_long_t		waiting;
	struct iopte_debugfs	*debugfs;
#endif
	spinlock_t		lock;	/* protects what follows */
	struct list_head	partial;
	struct iopte_list	unflushed;
};

/**
 * struct iopte_stock - tables allocated ahead of their use
 * @tables: the tables.
 *
 * Starts zeroed.
 */
struct iopte_stock {
	struct iopte_page	*tables;
};

struct iopte_pool *iopte_pool_create(const struct io_pgtable_cfg *cfg,
				     size_t table_size, unsigned int addr_bits);
void iopte_pool_destroy(struct iopte_pool *pool);

extern const struct iopte_allocator_ops iopte_default_ops;

void *iopte_alloc(struct iopte_pool *pool, gfp_t gfp);
void *iopte_alloc_root(struct iopte_pool *pool, size_t size, gfp_t gfp);
void iopte_free(struct iopte_pool *pool, void *table);
void iopte_free_root(struct iopte_pool *pool, void *root, size_t size);

int iopte_stock_fill(struct iopte_pool *pool, struct iopte_stock *stock,
		     unsigned int nr, gfp_t gfp);
void iopte_stock_empty(struct iopte_pool *pool, struct iopte_stock *stock);

void iopte_list_add(struct iopte_pool *pool, struct iopte_list *list,
		    void *table);
void iopte_retire(struct iopte_pool *pool, struct iopte_list *list,
		  unsigned long iova, size_t span);
void iopte_retire_flushed(struct iopte_pool *pool, struct iopte_list *list);
void iopte_free_list(struct iopte_pool *pool, struct iopte_list *list);

/* The block that holds @table, or is it. */
static inline struct iopte_page *iopte_block(const void *table)
{
	return page_iopte_page(virt_to_page(table));
}

/* The descriptor of @table, which is no root. */
static inline struct iopte_page *iopte_of(struct iopte_pool *pool,
					  const void *table)
{
	struct iopte_page *block = iopte_block(table);

	if (!pool->split)
		return block;
	return &block->tables[offset_in_page(table) >> pool->table_shift];
}

static inline void *iopte_address(struct iopte_pool *pool, struct iopte_page *desc)
{
	return pool->split ? desc->table : folio_address(iopte_page_folio(desc));
}

static inline struct iopte_page *iopte_stock_pop(struct iopte_stock *stock)
{
	struct iopte_page *desc = stock->tables;

	if (desc)
		stock->tables = desc->next;
	return desc;
}

#endif /* __IOPTE_H */
