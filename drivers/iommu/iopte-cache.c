// SPDX-License-Identifier: GPL-2.0-only
/*
 * An allocator of table memory that keeps pages back for the next table.
 *
 * For drivers that allocate and free tables all the time.  The cache keeps up
 * to a fixed number of single pages of one node; a shrinker gives them back
 * under memory pressure.  A page in the cache is no table: it is neither counted
 * in NR_IOMMU_PAGES and SecPageTables nor charged to a memcg, and its contents
 * are undefined.  It is zeroed, counted and, with __GFP_ACCOUNT, charged to
 * whoever needs it when it becomes one again.
 *
 * What the cache cannot serve or keep goes through to the default allocator:
 * larger blocks, requests with an address limit, pages of other nodes.
 *
 * cache->lock protects the list and the count.  It is a leaf lock, taken with
 * interrupts off, because tables are freed from RCU callbacks and allocated in
 * atomic context.
 */

#include <linux/io-pgtable.h>
#include <linux/list.h>
#include <linux/memcontrol.h>
#include <linux/shrinker.h>
#include <linux/slab.h>

#include "iommu-pages.h"
#include "iopte.h"

/**
 * struct iopte_cache - the cookie of a caching allocator
 * @nid: node whose pages it keeps, or NUMA_NO_NODE for those of any node.
 * @max_pages: how many pages it keeps at most.
 * @shrinker: gives pages back to the mm.
 * @lock: protects what follows.
 * @pages: the pages, linked by page->lru.
 * @nr_pages: their number.
 */
struct iopte_cache {
	int			nid;
	unsigned int		max_pages;
	struct shrinker		*shrinker;
	spinlock_t		lock;	/* protects what follows */
	struct list_head	pages;
	unsigned int		nr_pages;
};

static struct page *iopte_cache_pop(struct iopte_cache *cache)
{
	struct page *page;
	unsigned long flags;

	spin_lock_irqsave(&cache->lock, flags);
	page = list_first_entry_or_null(&cache->pages, struct page, lru);
	if (page) {
		list_del(&page->lru);
		WRITE_ONCE(cache->nr_pages, cache->nr_pages - 1);
	}
	spin_unlock_irqrestore(&cache->lock, flags);
	return page;
}

static bool iopte_cache_push(struct iopte_cache *cache, struct page *page)
{
	unsigned long flags;
	bool room;

	spin_lock_irqsave(&cache->lock, flags);
	room = cache->nr_pages < cache->max_pages;
	if (room) {
		list_add(&page->lru, &cache->pages);
		WRITE_ONCE(cache->nr_pages, cache->nr_pages + 1);
	}
	spin_unlock_irqrestore(&cache->lock, flags);
	return room;
}

static bool iopte_cache_keeps(struct iopte_cache *cache, int nid)
{
	return cache->nid == NUMA_NO_NODE || cache->nid == nid;
}

static bool iopte_cache_serves(struct iopte_cache *cache,
			       const struct iopte_request *req)
{
	bool anywhere = req->addr_bits >= BITS_PER_TYPE(phys_addr_t);

	return !req->order && anywhere && iopte_cache_keeps(cache, req->nid);
}

static unsigned int iopte_cache_alloc(void *cookie,
				      const struct iopte_request *req,
				      gfp_t gfp, struct page **pages,
				      unsigned int n)
{
	struct iopte_cache *cache = cookie;
	unsigned int got = 0;

	while (got < n && iopte_cache_serves(cache, req)) {
		struct page *page = iopte_cache_pop(cache);

		if (!page)
			break;
		if (gfp & __GFP_ACCOUNT && memcg_kmem_charge_page(page, gfp, 0)) {
			/* The limit of a memcg, not want of memory. */
			__free_page(page);
			return got;
		}
		clear_page(page_address(page));
		__iommu_alloc_account(page, 0);
		pages[got++] = page;
	}
	if (got == n)
		return got;

	return got + iopte_default_ops.alloc(NULL, req, gfp, pages + got,
					     n - got);
}

static void iopte_cache_free(void *cookie, struct page **pages, unsigned int n,
			     unsigned int order)
{
	struct iopte_cache *cache = cookie;
	unsigned int i;

	if (order) {
		iopte_default_ops.free(NULL, pages, n, order);
		return;
	}

	for (i = 0; i < n; i++) {
		struct page *page = pages[i];

		__iommu_free_account(page, 0);
		if (PageMemcgKmem(page))
			memcg_kmem_uncharge_page(page, 0);
		if (!iopte_cache_keeps(cache, page_to_nid(page)) ||
		    !iopte_cache_push(cache, page))
			__free_page(page);
	}
}

static unsigned long iopte_cache_shrink(struct iopte_cache *cache,
					unsigned long nr)
{
	unsigned long freed;

	for (freed = 0; freed < nr; freed++) {
		struct page *page = iopte_cache_pop(cache);

		if (!page)
			break;
		__free_page(page);
	}
	return freed;
}

static unsigned long iopte_cache_shrinker_count(struct shrinker *shrinker,
						struct shrink_control *sc)
{
	struct iopte_cache *cache = shrinker->private_data;

	return READ_ONCE(cache->nr_pages) ?: SHRINK_EMPTY;
}

static unsigned long iopte_cache_shrinker_scan(struct shrinker *shrinker,
					       struct shrink_control *sc)
{
	return iopte_cache_shrink(shrinker->private_data, sc->nr_to_scan) ?:
	       SHRINK_STOP;
}

static void iopte_cache_release(void *cookie)
{
	struct iopte_cache *cache = cookie;

	shrinker_free(cache->shrinker);
	iopte_cache_shrink(cache, ULONG_MAX);
	kfree(cache);
}

static const struct iopte_allocator_ops iopte_cache_ops = {
	.alloc		= iopte_cache_alloc,
	.free		= iopte_cache_free,
	.release	= iopte_cache_release,
};

/**
 * iopte_cache_create - make an allocator that keeps pages back
 * @nid: node whose pages to keep: the IOMMU's, or NUMA_NO_NODE for any.
 * @max_pages: how many pages to keep at most.
 *
 * Context: May sleep.
 * Return: the allocator, for io_pgtable_cfg::allocator and, in the end,
 * iopte_allocator_destroy(), or ERR_PTR(-ENOMEM).
 */
struct iopte_allocator *iopte_cache_create(int nid, unsigned int max_pages)
{
	struct iopte_allocator *allocator;
	struct iopte_cache *cache;

	cache = kzalloc(sizeof(*cache), GFP_KERNEL);
	if (!cache)
		return ERR_PTR(-ENOMEM);

	cache->nid = nid;
	cache->max_pages = max_pages;
	spin_lock_init(&cache->lock);
	INIT_LIST_HEAD(&cache->pages);

	cache->shrinker = shrinker_alloc(0, "iopte-cache");
	if (!cache->shrinker)
		goto err_cache;
	cache->shrinker->count_objects = iopte_cache_shrinker_count;
	cache->shrinker->scan_objects = iopte_cache_shrinker_scan;
	cache->shrinker->private_data = cache;

	allocator = iopte_allocator_create(&iopte_cache_ops, cache, 0);
	if (IS_ERR(allocator))
		goto err_shrinker;

	shrinker_register(cache->shrinker);
	return allocator;

err_shrinker:
	shrinker_free(cache->shrinker);
err_cache:
	kfree(cache);
	return ERR_PTR(-ENOMEM);
}
EXPORT_SYMBOL_GPL(iopte_cache_create);
