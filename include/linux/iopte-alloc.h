/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Allocators for the memory of I/O page tables.
 *
 * A page table takes the memory of its tables from a struct iopte_allocator
 * that its driver names in struct io_pgtable_cfg, or from the default one.  An
 * allocator is an operations structure and a cookie.  It deals in pages and
 * knows nothing of page tables: zeroing, tables smaller than a page, DMA
 * mapping, the grace period before a table is freed and the accounting of a
 * table's life are the io-pgtable layer's (drivers/iommu/iopte.c).
 *
 * Invariant: between iopte_allocator_ops::alloc and ::free the page's
 * struct page belongs to the io-pgtable layer, all but the words that are the
 * mm's (flags, refcount, mapcount and page type, memcg).  So the memory cannot
 * come from a kmem_cache.
 *
 * Lifetime: every page table holds a reference to its allocator until its last
 * table is past its grace period and back with the allocator, which may be
 * after free_io_pgtable_ops().  iopte_allocator_destroy() waits for these
 * references: when it returns, no operation runs or will run.
 */
#ifndef __LINUX_IOPTE_ALLOC_H
#define __LINUX_IOPTE_ALLOC_H

#include <linux/bits.h>
#include <linux/gfp_types.h>
#include <linux/types.h>

struct iopte_allocator;
struct page;

/**
 * struct iopte_request - what a page table asks of its allocator
 * @nid:       NUMA node of the IOMMU that walks the table, or NUMA_NO_NODE.
 * @order:     log2 of the number of contiguous pages.
 * @addr_bits: the last byte's physical address must be below 2^addr_bits.  The
 *             io-pgtable layer checks the result: an allocator that ignores
 *             the limit makes allocations fail, nothing worse.
 */
struct iopte_request {
	int		nid;
	unsigned int	order;
	unsigned int	addr_bits;
};

/**
 * struct iopte_allocator_ops - operations of an allocator
 */
struct iopte_allocator_ops {
	/**
	 * @alloc: Allocate up to @n blocks of 2^(req->order) contiguous pages
	 * and store their head pages in @pages, from the first element on.
	 * @pages is all NULL on entry.  The memory must be in the linear map
	 * and must allow virt_to_phys() and DMA.  With @gfp containing
	 * __GFP_ZERO, which is always so, it must be zeroed.  Blocks above
	 * order 0 must be compound pages (__GFP_COMP).
	 *
	 * Context: as @gfp allows; @gfp may be GFP_ATOMIC.
	 * Return: how many blocks were allocated, 0 to @n.
	 */
	unsigned int (*alloc)(void *cookie, const struct iopte_request *req,
			      gfp_t gfp, struct page **pages, unsigned int n);

	/**
	 * @free: Take back @n blocks of order @order.  Their contents are
	 * undefined.
	 *
	 * Context: process context when IOPTE_FREE_SLEEPS is set, and any
	 * context without NMI otherwise.
	 */
	void (*free)(void *cookie, struct page **pages, unsigned int n,
		     unsigned int order);

	/**
	 * @share: Optional. Tell a hypervisor or firmware that the block is
	 * about to become a table.  Called after @alloc and before any entry
	 * refers to the block.  Must leave it zeroed.
	 *
	 * Context: as @gfp allows.
	 * Return: 0, or a negative error code, which makes the allocation fail
	 * and gives the block back to @free, without @unshare.
	 */
	int (*share)(void *cookie, struct page *page, unsigned int order,
		     gfp_t gfp);

	/**
	 * @unshare: The counterpart of @share, required with it.  Called when
	 * no walker, hardware or software, can reach the block any more, and
	 * before @free.
	 *
	 * Context: as @free.
	 * Return: 0, or a negative error code: the block is then not given to
	 * @free but lost on purpose, with one warning.
	 */
	int (*unshare)(void *cookie, struct page *page, unsigned int order);

	/**
	 * @release: Optional. Called by iopte_allocator_destroy() when nothing
	 * uses the allocator any more, to free what @cookie points to.
	 */
	void (*release)(void *cookie);
};

/*
 * Flags of an allocator.
 *
 * IOPTE_FREE_SLEEPS: @free or @unshare may sleep.  They are then always called
 * from a work item, because tables are freed from RCU callbacks and under
 * spinlocks.
 */
#define IOPTE_FREE_SLEEPS	BIT(0)

struct iopte_allocator *
iopte_allocator_create(const struct iopte_allocator_ops *ops, void *cookie,
		       unsigned int flags);
void iopte_allocator_destroy(struct iopte_allocator *allocator);

struct iopte_allocator *iopte_cache_create(int nid, unsigned int max_pages);

#endif /* __LINUX_IOPTE_ALLOC_H */
