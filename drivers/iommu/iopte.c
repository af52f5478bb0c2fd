// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page layer of io-pgtable: memory for I/O page tables.
 *
 * The model, the invariant and who races with whom: iopte.h.  What allocators
 * promise: include/linux/iopte-alloc.h.
 *
 * A block from the allocator is one table, or, when the page table's tables are
 * smaller than a page, a split page.  The tables of a split page have their
 * descriptors in an array that is allocated with the page, so that freeing
 * never allocates; the page goes back to the allocator when its last table has
 * been freed, which is after that table's grace period.
 *
 * Tables are freed by the list.  The first table of a list stands for all of
 * them where one object is needed: its rcu_head is what call_rcu() gets, and it
 * carries the pool.  So a subtree does not cost one RCU callback per table.
 */

#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/io-pgtable.h>
#include <linux/kmemleak.h>
#include <linux/log2.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "iommu-pages.h"
#include "iopte.h"
#define CREATE_TRACE_POINTS
#include "iopte_trace.h"

/* How many blocks an allocator is asked for or given at a time. */
#define IOPTE_BATCH		16

/* How many tables one RCU callback frees: what it may take a softirq. */
#define IOPTE_RCU_BATCH		256

/*
 * iopte_page::range: the cleared entry's span is at least a table's, and no
 * table translates less than 4K, so the low bits can hold log2 of the span.
 */
#define IOPTE_RANGE_SPAN_MASK	(SZ_4K - 1)

/**
 * struct iopte_allocator - where the memory of page tables comes from
 * @ops: operations.
 * @cookie: for @ops.
 * @flags: IOPTE_FREE_SLEEPS or 0.
 * @ref: held by its creator and by each pool.
 * @unused: completed when the last reference goes.
 * @batches: first tables of lists that wait for @work.
 * @rejected: blocks that were never shared and wait for @work.
 * @work: frees @batches and @rejected in process context, with
 *        IOPTE_FREE_SLEEPS.
 */
struct iopte_allocator {
	const struct iopte_allocator_ops *ops;
	void			*cookie;
	unsigned int		flags;
	refcount_t		ref;
	struct completion	unused;
	struct llist_head	batches;
	struct llist_head	rejected;
	struct work_struct	work;
};

/*
 * What all page tables together have done, for debugfs.  @waiting is for a
 * grace period or a work item, @unflushed for a flush by the page table's user.
 */
static struct {
	atomic_long_t allocated, freed, waiting, unflushed;
} iopte_stats;

#define iopte_count(counter, n)						\
do {									\
	if (IS_ENABLED(CONFIG_IOMMU_DEBUGFS))				\
		atomic_long_add(n, &iopte_stats.counter);		\
} while (0)

static void iopte_count_waiting(struct iopte_pool *pool, long n)
{
#ifdef CONFIG_IOMMU_DEBUGFS
	atomic_long_add(n, &pool->waiting);
#endif
	iopte_count(waiting, n);
}

static bool iopte_block_charged(struct page *block)
{
#ifdef CONFIG_MEMCG
	return block->memcg_data;
#else
	return false;
#endif
}

static unsigned int iopte_default_alloc(void *cookie,
					const struct iopte_request *req,
					gfp_t gfp, struct page **pages,
					unsigned int n)
{
	unsigned int got = 0, last;

	if (req->addr_bits <= 32)
		gfp |= IS_ENABLED(CONFIG_ZONE_DMA32) ? GFP_DMA32 : GFP_DMA;
	if (req->order)
		gfp |= __GFP_COMP;

	if (n == 1 || req->order) {
		for (; got < n; got++) {
			pages[got] = alloc_pages_node(req->nid, gfp, req->order);
			if (!pages[got])
				break;
			__iommu_alloc_account(pages[got], req->order);
		}
		return got;
	}

	/* One page at a time when they are charged to a memcg. */
	do {
		last = got;
		got = alloc_pages_bulk_array_node(gfp, req->nid, n, pages);
	} while (got > last && got < n);

	for (last = 0; last < got; last++)
		__iommu_alloc_account(pages[last], 0);
	return got;
}

/* Blocks that no memcg pays for, @pages pages together. */
static void iopte_unaccount(struct pglist_data *pgdat, long pages)
{
	if (!pages)
		return;
	mod_node_page_state(pgdat, NR_IOMMU_PAGES, -pages);
	mod_node_page_state(pgdat, NR_SECONDARY_PAGETABLE, -pages);
}

static void iopte_default_free(void *cookie, struct page **pages,
			       unsigned int n, unsigned int order)
{
	struct pglist_data *pgdat = NULL;
	long uncharged = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (iopte_block_charged(pages[i])) {
			__iommu_free_account(pages[i], order);
		} else {
			if (page_pgdat(pages[i]) != pgdat) {
				iopte_unaccount(pgdat, uncharged);
				pgdat = page_pgdat(pages[i]);
				uncharged = 0;
			}
			uncharged += 1L << order;
		}
		__free_pages(pages[i], order);
	}
	iopte_unaccount(pgdat, uncharged);
}

/*
 * The default allocator: the page allocator, on the IOMMU's node, counted in
 * NR_IOMMU_PAGES and SecPageTables and charged to a memcg as the caller's gfp
 * flags say.
 */
const struct iopte_allocator_ops iopte_default_ops = {
	.alloc	= iopte_default_alloc,
	.free	= iopte_default_free,
};

static struct iopte_allocator iopte_default_allocator = {
	.ops	= &iopte_default_ops,
	.ref	= REFCOUNT_INIT(1),
};

static void iopte_allocator_put(struct iopte_allocator *allocator)
{
	if (refcount_dec_and_test(&allocator->ref))
		complete(&allocator->unused);
}

static void iopte_pool_put(struct iopte_pool *pool)
{
	if (!refcount_dec_and_test(&pool->ref))
		return;

	/* The page table's destruction has freed every table it knew of. */
	WARN_ON(!list_empty(&pool->partial));
	iopte_allocator_put(pool->allocator);
	kfree(pool);
}

/* Give blocks that no walker can reach back to their allocator. */
static void iopte_free_blocks(struct iopte_allocator *allocator,
			      struct page **pages, unsigned int n,
			      unsigned int order)
{
	const struct iopte_allocator_ops *ops = allocator->ops;
	unsigned int i, kept = 0;

	if (ops->unshare) {
		for (i = 0; i < n; i++) {
			if (!WARN(ops->unshare(allocator->cookie, pages[i], order),
				  "iopte: a table cannot be unshared, its memory is lost\n"))
				pages[kept++] = pages[i];
		}
		n = kept;
	}
	if (n)
		ops->free(allocator->cookie, pages, n, order);
}

/* Give back a block that has not been shared. */
static void iopte_reject_block(struct iopte_allocator *allocator,
			       struct page *page, unsigned int order)
{
	struct iopte_page *block = page_iopte_page(page);

	if (allocator->flags & IOPTE_FREE_SLEEPS) {
		llist_add(&block->llnode, &allocator->rejected);
		queue_work(system_unbound_wq, &allocator->work);
	} else {
		allocator->ops->free(allocator->cookie, &page, 1, order);
	}
}

static __always_inline
bool iopte_too_high(const struct iopte_request *req, struct page *page)
{
	phys_addr_t last;

	if (req->addr_bits >= BITS_PER_TYPE(last))
		return false;

	last = page_to_phys(page) + (PAGE_SIZE << req->order) - 1;
	return last >> req->addr_bits;
}

/*
 * Make a block that the allocator returned one of the pool's.  Gives it back
 * and returns NULL when it lies too high or cannot be shared.
 */
static __always_inline
struct iopte_page *iopte_adopt_block(struct iopte_pool *pool,
				     const struct iopte_request *req, gfp_t gfp,
				     struct page *page)
{
	struct iopte_allocator *allocator = pool->allocator;
	const struct iopte_allocator_ops *ops = allocator->ops;
	struct iopte_page *block = page_iopte_page(page);

	if (unlikely(iopte_too_high(req, page))) {
		phys_addr_t at = page_to_phys(page);

		pr_err_ratelimited("iopte: a table is not below 2^%u: %pa\n",
				   req->addr_bits, &at);
		goto reject;
	}
	if (unlikely(ops->share) &&
	    ops->share(allocator->cookie, page, req->order, gfp))
		goto reject;

	block->pool = pool;
	return block;

reject:
	iopte_reject_block(allocator, page, req->order);
	return NULL;
}

static __always_inline
struct iopte_page *iopte_alloc_block(struct iopte_pool *pool,
				     const struct iopte_request *req, gfp_t gfp)
{
	struct iopte_allocator *allocator = pool->allocator;
	struct page *page = NULL;

	if (!allocator->ops->alloc(allocator->cookie, req, gfp | __GFP_ZERO,
				   &page, 1))
		return NULL;
	return iopte_adopt_block(pool, req, gfp, page);
}

/* What @used of a split page is when none of its tables is free. */
static unsigned long iopte_all_used(const struct iopte_pool *pool)
{
	return ~0UL >> (BITS_PER_LONG - (PAGE_SIZE >> pool->table_shift));
}

static struct iopte_page *iopte_take_table(struct iopte_pool *pool,
					   struct iopte_page *block)
{
	struct iopte_page *desc;
	unsigned long nr = ffz(block->used);

	lockdep_assert_held(&pool->lock);

	block->used |= BIT(nr);
	if (block->used == iopte_all_used(pool))
		list_del(&block->node);

	desc = &block->tables[nr];
	desc->pool = pool;
	return desc;
}

static void *iopte_alloc_split(struct iopte_pool *pool, gfp_t gfp)
{
	unsigned int i, n = PAGE_SIZE >> pool->table_shift;
	struct iopte_page *block, *tables, *desc = NULL;
	void *addr;

	scoped_guard(spinlock_irqsave, &pool->lock) {
		block = list_first_entry_or_null(&pool->partial,
						 struct iopte_page, node);
		if (block)
			desc = iopte_take_table(pool, block);
	}
	if (desc)
		return memset(desc->table, 0, pool->table_size);

	tables = kcalloc(n, sizeof(*tables), gfp & ~__GFP_ZERO);
	if (!tables)
		return NULL;
	/* Only the page's descriptor points to it, which is not scanned. */
	kmemleak_not_leak(tables);

	block = iopte_alloc_block(pool, &pool->req, gfp);
	if (!block) {
		kfree(tables);
		return NULL;
	}

	addr = folio_address(iopte_page_folio(block));
	for (i = 0; i < n; i++)
		tables[i].table = addr + ((size_t)i << pool->table_shift);
	block->tables = tables;
	block->used = 0;

	scoped_guard(spinlock_irqsave, &pool->lock) {
		list_add(&block->node, &pool->partial);
		desc = iopte_take_table(pool, block);
	}
	return desc->table;
}

/*
 * Free one table of a split page.  Returns the page when that was the last, for
 * the caller to free, and NULL otherwise.
 */
static struct iopte_page *iopte_free_split(struct iopte_pool *pool,
					   struct iopte_page *desc)
{
	struct iopte_page *block = iopte_block(desc->table);
	unsigned long nr = desc - block->tables;

	scoped_guard(spinlock_irqsave, &pool->lock) {
		if (block->used == iopte_all_used(pool))
			list_add(&block->node, &pool->partial);
		block->used &= ~BIT(nr);
		if (block->used)
			return NULL;
		list_del(&block->node);
	}

	kfree(block->tables);
	block->pool = NULL;
	return block;
}

static void iopte_trace_free(struct iopte_pool *pool, struct iopte_page *desc)
{
	if (!trace_iopte_free_enabled())
		return;

	if (pool->split && !(desc->state & IOPTE_ROOT))
		trace_iopte_free(pool->id, desc->table, pool->table_size);
	else
		trace_iopte_free(pool->id, folio_address(iopte_page_folio(desc)),
				 folio_size(iopte_page_folio(desc)));
}

/* Free a list of tables of one order that no walker can reach; returns how many. */
static long iopte_free_tables(struct iopte_pool *pool, struct iopte_page *desc)
{
	struct page *pages[IOPTE_BATCH];
	struct iopte_page *next;
	unsigned int order = 0, n = 0;
	long freed = 0;

	if (!pool->split)
		order = folio_order(iopte_page_folio(desc));

	for (; desc; desc = next) {
		next = desc->next;
		freed++;
		iopte_trace_free(pool, desc);
		if (pool->split) {
			if (desc->state & IOPTE_ROOT)
				order = folio_order(iopte_page_folio(desc));
			else
				desc = iopte_free_split(pool, desc);
			if (!desc)
				continue;
		}
		pages[n++] = folio_page(iopte_page_folio(desc), 0);
		if (n == IOPTE_BATCH) {
			iopte_free_blocks(pool->allocator, pages, n, order);
			n = 0;
		}
	}
	if (n)
		iopte_free_blocks(pool->allocator, pages, n, order);
	iopte_count(freed, freed);
	return freed;
}

/* The tables of a list, of which @first stands for all; drops its reference. */
static void iopte_free_batch(struct iopte_page *first)
{
	struct iopte_pool *pool = first->pool;
	long freed;

	first->next = first->rest;
	first->pool = NULL;
	freed = iopte_free_tables(pool, first);
	iopte_count_waiting(pool, -freed);
	iopte_pool_put(pool);
}

static void iopte_allocator_work(struct work_struct *work)
{
	struct iopte_allocator *allocator =
		container_of(work, struct iopte_allocator, work);
	struct llist_node *rejected = llist_del_all(&allocator->rejected);
	struct llist_node *batches = llist_del_all(&allocator->batches);
	struct iopte_page *first, *next;

	llist_for_each_entry_safe(first, next, rejected, llnode) {
		struct folio *folio = iopte_page_folio(first);
		struct page *page = folio_page(folio, 0);

		allocator->ops->free(allocator->cookie, &page, 1,
				     folio_order(folio));
	}

	llist_for_each_entry_safe(first, next, batches, llnode) {
		iopte_free_batch(first);
		cond_resched();
	}
}

static void iopte_queue_batch(struct iopte_page *first)
{
	struct iopte_allocator *allocator = first->pool->allocator;

	/*
	 * A run of the work that is under way may free the batch as soon as it
	 * is on the list, and with it the pool's reference to the allocator.
	 * The allocator stays: in an RCU callback because
	 * iopte_allocator_destroy() waits for those, elsewhere because the page
	 * table holds the pool.
	 */
	if (llist_add(&first->llnode, &allocator->batches))
		queue_work(system_unbound_wq, &allocator->work);
}

static void iopte_rcu_callback(struct rcu_head *rcu)
{
	struct iopte_page *first = container_of(rcu, struct iopte_page, rcu_head);

	if (first->pool->allocator->flags & IOPTE_FREE_SLEEPS)
		iopte_queue_batch(first);
	else
		iopte_free_batch(first);
}

/*
 * Take up to IOPTE_RCU_BATCH tables off a non-empty list and make the first of
 * them stand for all.
 */
static struct iopte_page *iopte_make_batch(struct iopte_pool *pool,
					   struct iopte_list *list)
{
	struct iopte_page *first = list->head, *last = first;
	unsigned int n;

	for (n = 1; n < IOPTE_RCU_BATCH && last->next; n++)
		last = last->next;
	list->head = last->next;
	last->next = NULL;
	iopte_count_waiting(pool, n);

	first->rest = first->next;
	first->pool = pool;
	refcount_inc(&pool->ref);
	return first;
}

/**
 * iopte_free_list - free tables that no walker can reach
 * @pool: the pool.
 * @list: tables that were never in a tree, or whose page table neither hardware
 *        nor software walks any more.  Empty on return.
 *
 * Context: Any context but NMI.
 */
void iopte_free_list(struct iopte_pool *pool, struct iopte_list *list)
{
	if (!list->head)
		return;

	if (pool->allocator->flags & IOPTE_FREE_SLEEPS) {
		while (list->head)
			iopte_queue_batch(iopte_make_batch(pool, list));
	} else {
		iopte_free_tables(pool, list->head);
		list->head = NULL;
	}
}

/* Free one table or root, which is not DMA mapped. */
static void iopte_free_one(struct iopte_pool *pool, struct iopte_page *desc)
{
	struct iopte_list list = { .head = desc };

	desc->pool = NULL;
	desc->next = NULL;
	iopte_free_list(pool, &list);
}

static void iopte_free_rcu(struct iopte_pool *pool, struct iopte_list *list)
{
	while (list->head)
		call_rcu(&iopte_make_batch(pool, list)->rcu_head,
			 iopte_rcu_callback);
}

static void iopte_add_unflushed(struct iopte_pool *pool, struct iopte_list *list)
{
	struct iopte_page *last = list->head;
	unsigned long flags;
	long n = 1;

	for (; last->next; last = last->next)
		n++;
	iopte_count(unflushed, n);

	/*
	 * The lock's release pairs with its acquisition in
	 * io_pgtable_flush_begin(): a ticket that takes these tables is drawn,
	 * and its flush issued, after their entry was cleared.
	 */
	spin_lock_irqsave(&pool->lock, flags);
	last->next = pool->unflushed.head;
	pool->unflushed.head = list->head;
	spin_unlock_irqrestore(&pool->lock, flags);
	list->head = NULL;
}

/**
 * iopte_retire - free tables that have left the tree
 * @pool: the pool.
 * @list: the tables, each of which iopte_list_add() put there after the entry
 *        was cleared.  Empty on return.
 * @iova: first IOVA that the cleared entry translated.
 * @span: how much it translated, in bytes: a power of two.
 *
 * Where the page table has tlb_flush_walk the caller has invalidated the walk
 * cache for the range, after it had cleared the entry.  Where it has not, the
 * tables wait until the user has flushed the range: io_pgtable_flush_end().
 *
 * Context: Any context but NMI.
 */
void iopte_retire(struct iopte_pool *pool, struct iopte_list *list,
		  unsigned long iova, size_t span)
{
	struct iopte_page *desc;

	if (!list->head)
		return;

	if (!pool->user_flush) {
		iopte_free_rcu(pool, list);
		return;
	}

	for (desc = list->head; desc; desc = desc->next)
		desc->range = (iova & ~(span - 1)) | ilog2(span);
	iopte_add_unflushed(pool, list);
}

/**
 * iopte_retire_flushed - free tables that no hardware walks any more
 * @pool: the pool.
 * @list: the tables, each of which iopte_list_add() put there after the entry
 *        was cleared, and after that the walk cache was invalidated for all that
 *        the entries translated.  Empty on return.
 *
 * Context: Any context but NMI.
 */
void iopte_retire_flushed(struct iopte_pool *pool, struct iopte_list *list)
{
	iopte_free_rcu(pool, list);
}

/* Whether the entry that led to a table translated only [first, last]. */
static bool iopte_range_inside(const struct iopte_page *desc, u64 first, u64 last)
{
	unsigned long start = desc->range & ~(unsigned long)IOPTE_RANGE_SPAN_MASK;
	u64 span = BIT_ULL(desc->range & IOPTE_RANGE_SPAN_MASK);

	return start >= first && start + (span - 1) <= last;
}

/**
 * io_pgtable_flush_begin - draw a ticket for a flush of walk caches
 * @ops: page table whose configuration has no tlb_flush_walk.  Any other has no
 *       tables that wait, and this does nothing.
 * @iova: first address of the range that is about to be flushed.
 * @size: size of the range in bytes; iova + size may wrap to 0.
 *
 * The flush that follows releases the tables that unmap or map has removed
 * from the range before this call, and no others: not those that another
 * thread removes meanwhile, and none whose entry translated more than the
 * range.  The flush must invalidate all of [@iova, @iova + @size - 1], and must
 * be issued after this call.
 *
 * Context: Any context but NMI.
 * Return: the ticket, for exactly one io_pgtable_flush_end().
 */
struct io_pgtable_flush io_pgtable_flush_begin(struct io_pgtable_ops *ops,
					       u64 iova, u64 size)
{
	struct iopte_pool *pool = io_pgtable_ops_to_pgtable(ops)->pool;
	struct io_pgtable_flush flush = {};
	struct iopte_page **link, *desc;
	unsigned long flags;
	long n = 0;

	if (!pool || !pool->user_flush || !size)
		return flush;

	/* Pairs with iopte_retire(). */
	spin_lock_irqsave(&pool->lock, flags);
	for (link = &pool->unflushed.head; (desc = *link);) {
		if (iopte_range_inside(desc, iova, iova + (size - 1))) {
			*link = desc->next;
			desc->next = flush.tables;
			flush.tables = desc;
			n++;
		} else {
			link = &desc->next;
		}
	}
	spin_unlock_irqrestore(&pool->lock, flags);
	iopte_count(unflushed, -n);

	return flush;
}
EXPORT_SYMBOL_GPL(io_pgtable_flush_begin);

/**
 * io_pgtable_flush_end - say how a flush of walk caches ended
 * @ops: the page table.
 * @flush: the ticket, which must end before the page table is freed.
 * @flushed: whether the hardware has no walk cache for the range any more: the
 *           flush completed, or the hardware had left the page table.  False
 *           when it failed or was skipped: the tables wait for another flush,
 *           or for free_io_pgtable_ops().
 *
 * Context: Any context but NMI.
 */
void io_pgtable_flush_end(struct io_pgtable_ops *ops,
			  struct io_pgtable_flush *flush, bool flushed)
{
	struct iopte_pool *pool = io_pgtable_ops_to_pgtable(ops)->pool;
	struct iopte_list list = { .head = flush->tables };

	if (!list.head)
		return;

	flush->tables = NULL;
	if (flushed)
		iopte_free_rcu(pool, &list);
	else
		iopte_add_unflushed(pool, &list);
}
EXPORT_SYMBOL_GPL(io_pgtable_flush_end);

static void *iopte_dma_map(struct iopte_pool *pool, void *table, size_t size)
{
	dma_addr_t dma = dma_map_single(pool->dev, table, size, DMA_TO_DEVICE);

	if (dma_mapping_error(pool->dev, dma))
		return NULL;

	/*
	 * The walker uses physical addresses.  If the DMA API translates or
	 * bounces them it cannot work.
	 */
	if (dma == virt_to_phys(table))
		return table;

	dev_err(pool->dev, "Cannot accommodate DMA translation for IOMMU page tables\n");
	dma_unmap_single(pool->dev, dma, size, DMA_TO_DEVICE);
	return NULL;
}

/* What is freed twice, or is not of this pool, is one warning and stays. */
static bool iopte_foreign(struct iopte_pool *pool, struct iopte_page *desc)
{
	return WARN(desc->pool != pool,
		    "iopte: freeing what is no table of this page table\n");
}

static bool iopte_wrong_order(const void *table, unsigned int order)
{
	return WARN(compound_order(virt_to_page(table)) != order,
		    "iopte: freeing a table of order %u as one of order %u\n",
		    compound_order(virt_to_page(table)), order);
}

/**
 * iopte_list_add - put a table on a list of tables to be freed
 * @pool: the pool.
 * @list: the list.
 * @table: a table from iopte_alloc(), which the caller has unlinked, or which
 *         was never in a tree.  Its contents stay as they are: walkers may
 *         still be inside.
 *
 * Ends the DMA mapping of the table.
 *
 * Context: Any context but NMI.
 */
void iopte_list_add(struct iopte_pool *pool, struct iopte_list *list,
		    void *table)
{
	struct iopte_page *desc;

	if (iopte_wrong_order(table, pool->req.order) ||
	    (pool->split && iopte_foreign(pool, iopte_block(table))))
		return;

	desc = iopte_of(pool, table);
	if (iopte_foreign(pool, desc))
		return;

	if (pool->dev)
		dma_unmap_single(pool->dev, virt_to_phys(table),
				 pool->table_size, DMA_TO_DEVICE);
	desc->pool = NULL;
	desc->next = list->head;
	list->head = desc;
}

/**
 * iopte_free - free a table that was never in a tree
 * @pool: the pool.
 * @table: a table from iopte_alloc().
 *
 * Context: Any context but NMI.
 */
void iopte_free(struct iopte_pool *pool, void *table)
{
	struct iopte_list list = {};

	iopte_list_add(pool, &list, table);
	iopte_free_list(pool, &list);
}

/**
 * iopte_alloc - allocate a table
 * @pool: the pool.
 * @gfp: how.  __GFP_ACCOUNT charges the memory to the current memcg.
 *
 * Context: As @gfp allows.
 * Return: a zeroed table of the pool's table size, aligned to it and DMA
 * mapped, or NULL, with nothing changed.
 */
void *iopte_alloc(struct iopte_pool *pool, gfp_t gfp)
{
	struct iopte_page *desc;
	void *table;

	might_alloc(gfp);

	if (pool->split) {
		table = iopte_alloc_split(pool, gfp);
		if (!table)
			return NULL;
	} else {
		desc = iopte_alloc_block(pool, &pool->req, gfp);
		if (!desc)
			return NULL;
		table = iopte_address(pool, desc);
	}

	iopte_count(allocated, 1);
	trace_iopte_alloc(pool->id, table, pool->table_size);

	if (pool->dev && !iopte_dma_map(pool, table, pool->table_size)) {
		iopte_free_one(pool, iopte_of(pool, table));
		return NULL;
	}
	return table;
}

/* Allocate up to @nr tables, at most IOPTE_BATCH, into a stock. */
static unsigned int iopte_stock_add(struct iopte_pool *pool,
				    struct iopte_stock *stock,
				    unsigned int nr, gfp_t gfp)
{
	struct iopte_allocator *allocator = pool->allocator;
	struct page *pages[IOPTE_BATCH] = {};
	unsigned int i, got, added = 0;
	struct iopte_page *desc;
	void *table;

	if (pool->split) {
		table = iopte_alloc(pool, gfp);
		if (!table)
			return 0;
		desc = iopte_of(pool, table);
		desc->next = stock->tables;
		stock->tables = desc;
		return 1;
	}

	got = allocator->ops->alloc(allocator->cookie, &pool->req,
				    gfp | __GFP_ZERO, pages,
				    min(nr, IOPTE_BATCH));
	for (i = 0; i < got; i++) {
		desc = iopte_adopt_block(pool, &pool->req, gfp, pages[i]);
		if (!desc)
			continue;
		table = iopte_address(pool, desc);
		iopte_count(allocated, 1);
		trace_iopte_alloc(pool->id, table, pool->table_size);
		if (pool->dev && !iopte_dma_map(pool, table, pool->table_size)) {
			iopte_free_one(pool, desc);
			continue;
		}
		desc->next = stock->tables;
		stock->tables = desc;
		added++;
	}
	return added;
}

/**
 * iopte_stock_empty - free the tables of a stock
 * @pool: the pool.
 * @stock: the stock.
 *
 * Context: Any context but NMI.
 */
void iopte_stock_empty(struct iopte_pool *pool, struct iopte_stock *stock)
{
	struct iopte_list list = {};
	struct iopte_page *desc;

	while ((desc = iopte_stock_pop(stock)))
		iopte_list_add(pool, &list, iopte_address(pool, desc));
	iopte_free_list(pool, &list);
}

/**
 * iopte_stock_fill - allocate tables ahead of their use
 * @pool: the pool.
 * @stock: where to put them.
 * @nr: how many tables.
 * @gfp: how.
 *
 * Context: As @gfp allows.
 * Return: 0, with a stock that iopte_stock_empty() must empty before the pool is
 * destroyed, or -ENOMEM, with the stock empty.
 */
int iopte_stock_fill(struct iopte_pool *pool, struct iopte_stock *stock,
		     unsigned int nr, gfp_t gfp)
{
	unsigned int added;

	might_alloc(gfp);

	for (; nr; nr -= added) {
		added = iopte_stock_add(pool, stock, nr, gfp);
		if (!added) {
			iopte_stock_empty(pool, stock);
			return -ENOMEM;
		}
	}
	return 0;
}

/**
 * iopte_alloc_root - allocate a root
 * @pool: the pool.
 * @size: size of the root in bytes.  One that is no larger than a table takes a
 *        table, any other 2^n pages of its own.
 * @gfp: how.
 *
 * Context: As @gfp allows.
 * Return: a zeroed root, aligned to its size and DMA mapped, or NULL, with
 * nothing changed.
 */
void *iopte_alloc_root(struct iopte_pool *pool, size_t size, gfp_t gfp)
{
	struct iopte_request req = pool->req;
	struct iopte_page *block;
	void *root;

	might_alloc(gfp);

	if (size <= pool->table_size)
		return iopte_alloc(pool, gfp);

	req.order = get_order(size);
	block = iopte_alloc_block(pool, &req, gfp);
	if (!block)
		return NULL;

	block->state = IOPTE_ROOT;
	root = folio_address(iopte_page_folio(block));
	iopte_count(allocated, 1);
	trace_iopte_alloc(pool->id, root, PAGE_SIZE << req.order);
	if (pool->dev && !iopte_dma_map(pool, root, size)) {
		iopte_free_one(pool, block);
		return NULL;
	}
	return root;
}

/**
 * iopte_free_root - free the root of a page table that nothing walks any more
 * @pool: the pool.
 * @root: from iopte_alloc_root().
 * @size: its size in bytes.
 *
 * Context: Any context but NMI.
 */
void iopte_free_root(struct iopte_pool *pool, void *root, size_t size)
{
	struct iopte_page *block = iopte_block(root);

	if (size <= pool->table_size) {
		iopte_free(pool, root);
		return;
	}

	if (iopte_wrong_order(root, get_order(size)) || iopte_foreign(pool, block))
		return;

	if (pool->dev)
		dma_unmap_single(pool->dev, virt_to_phys(root), size,
				 DMA_TO_DEVICE);
	iopte_free_one(pool, block);
}

/**
 * iopte_pool_create - make the pool of a page table
 * @cfg: configuration of the page table: allocator, device, whether walks are
 *       coherent, and whether io-pgtable or the user flushes walk caches.
 * @table_size: size of a table in bytes, a power of two, at least 1/64 of a
 *              page.
 * @addr_bits: tables lie below 2^addr_bits in physical memory.
 *
 * Context: May sleep.
 * Return: the pool, or NULL for want of memory.
 */
struct iopte_pool *iopte_pool_create(const struct io_pgtable_cfg *cfg,
				     size_t table_size, unsigned int addr_bits)
{
	static atomic_t last_id;
	struct iopte_pool *pool;

	if (WARN_ON(!is_power_of_2(table_size) ||
		    PAGE_SIZE / table_size > BITS_PER_LONG))
		return NULL;

	pool = kzalloc(sizeof(*pool), GFP_KERNEL);
	if (!pool)
		return NULL;

	pool->allocator = cfg->allocator ?: &iopte_default_allocator;
	refcount_inc(&pool->allocator->ref);
	pool->req.nid = cfg->iommu_dev ? dev_to_node(cfg->iommu_dev) : NUMA_NO_NODE;
	pool->req.order = get_order(table_size);
	pool->req.addr_bits = addr_bits;
	pool->dev = cfg->coherent_walk ? NULL : cfg->iommu_dev;
	refcount_set(&pool->ref, 1);
	pool->table_size = table_size;
	pool->id = atomic_inc_return(&last_id);
	pool->table_shift = ilog2(table_size);
	pool->split = table_size < PAGE_SIZE;
	pool->user_flush = !cfg->tlb || !cfg->tlb->tlb_flush_walk;
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->partial);
	return pool;
}

/**
 * iopte_pool_destroy - the page table goes
 * @pool: the pool, whose tables the caller has freed, but for those that wait
 *        for a flush, which are freed here: the hardware has left the page
 *        table.  What is in its grace period follows on its own, with no
 *        reference to the page table, its cookie or its device.
 *
 * Context: Any context but NMI.
 */
void iopte_pool_destroy(struct iopte_pool *pool)
{
	struct iopte_page *desc;

	for (desc = pool->unflushed.head; desc; desc = desc->next)
		iopte_count(unflushed, -1);
	iopte_free_list(pool, &pool->unflushed);
	pool->dev = NULL;
	iopte_pool_put(pool);
}

/**
 * iopte_allocator_create - make an allocator of table memory
 * @ops: its operations.
 * @cookie: passed to every operation.
 * @flags: IOPTE_FREE_SLEEPS, or 0.
 *
 * Context: May sleep.
 * Return: the allocator, for io_pgtable_cfg::allocator, or an ERR_PTR:
 * -EINVAL when a required operation is missing, -ENOMEM.
 */
struct iopte_allocator *
iopte_allocator_create(const struct iopte_allocator_ops *ops, void *cookie,
		       unsigned int flags)
{
	struct iopte_allocator *allocator;

	if (!ops->alloc || !ops->free || !ops->share != !ops->unshare ||
	    flags & ~IOPTE_FREE_SLEEPS)
		return ERR_PTR(-EINVAL);

	allocator = kzalloc(sizeof(*allocator), GFP_KERNEL);
	if (!allocator)
		return ERR_PTR(-ENOMEM);

	allocator->ops = ops;
	allocator->cookie = cookie;
	allocator->flags = flags;
	refcount_set(&allocator->ref, 1);
	init_completion(&allocator->unused);
	init_llist_head(&allocator->batches);
	init_llist_head(&allocator->rejected);
	INIT_WORK(&allocator->work, iopte_allocator_work);
	return allocator;
}
EXPORT_SYMBOL_GPL(iopte_allocator_create);

/**
 * iopte_allocator_destroy - destroy an allocator
 * @allocator: from iopte_allocator_create(), NULL or an ERR_PTR.
 *
 * Every page table that uses it must have been freed.  Waits until the last of
 * their tables is past its grace period and freed: when it returns no operation
 * runs or will run, and a module that provides them may go.
 *
 * Context: May sleep, for a grace period and more.
 */
void iopte_allocator_destroy(struct iopte_allocator *allocator)
{
	if (IS_ERR_OR_NULL(allocator))
		return;

	iopte_allocator_put(allocator);
	rcu_barrier();		/* do not wait for lazy callbacks' time-out */
	wait_for_completion(&allocator->unused);
	/*
	 * The last reference may have gone while a callback was still between
	 * llist_add() and queue_work().
	 */
	rcu_barrier();
	flush_work(&allocator->work);

	if (allocator->ops->release)
		allocator->ops->release(allocator->cookie);
	kfree(allocator);
}
EXPORT_SYMBOL_GPL(iopte_allocator_destroy);

#ifdef CONFIG_IOMMU_DEBUGFS
static int iopte_stats_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "allocated: %ld\n", atomic_long_read(&iopte_stats.allocated));
	seq_printf(m, "freed: %ld\n", atomic_long_read(&iopte_stats.freed));
	seq_printf(m, "waiting: %ld\n", atomic_long_read(&iopte_stats.waiting));
	seq_printf(m, "unflushed: %ld\n", atomic_long_read(&iopte_stats.unflushed));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(iopte_stats);

static int __init iopte_debugfs_init(void)
{
	debugfs_create_file("iopte", 0444, iommu_debugfs_dir, NULL,
			    &iopte_stats_fops);
	return 0;
}
late_initcall(iopte_debugfs_init);
#endif
