// SPDX-License-Identifier: GPL-2.0-only
/*
 * An example of an allocator of table memory with share and unshare, and its
 * KUnit tests.
 *
 * For authors of drivers whose IOMMU walks its tables under the eyes of a
 * hypervisor or of firmware that has to be told, page by page, which memory
 * holds page tables.  Here the hypervisor is pretended: an xarray of the pages
 * that were shared with it.  Like a real one it refuses nonsense: to share a
 * page twice, or to take back what was not shared.
 *
 * What a driver has to write is example_ops below, a call of
 * iopte_allocator_create() before it allocates its first page table, the
 * allocator in struct io_pgtable_cfg of each, and iopte_allocator_destroy()
 * after it has freed the last.
 *
 * What is tested: that the io-pgtable layer calls the operations in the order
 * that the hypervisor needs.  How: random maps and unmaps of a page table of
 * the ARM long descriptor format, with a hypervisor that now and then refuses
 * to share, and after every step a walk of all tables from the root: each page
 * that it finds must be shared.  The free operation checks that each page it
 * gets is not.  In the end nothing is shared and nothing allocated.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io-pgtable.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/xarray.h>

#include "iommu-pages.h"

/*
 * The hypervisor.
 */

/**
 * struct hypervisor - a pretended hypervisor
 * @shared: what is shared with it, by page frame number.  Its lock is taken
 *          with interrupts off: tables are unshared in RCU callbacks.
 * @channel: serializes the calls that sleep.
 * @budget: how many pages it agrees to share before it refuses one.
 * @refused: how many calls it has refused as nonsense.
 */
struct hypervisor {
	struct xarray	shared;
	struct mutex	channel;	/* calls that sleep */
	atomic_t	budget;
	atomic_t	refused;
};

static int hypervisor_share(struct hypervisor *hv, unsigned long pfn, gfp_t gfp)
{
	unsigned long flags;
	int ret;

	if (!atomic_add_unless(&hv->budget, -1, 0))
		return -EBUSY;

	/* The flags are for a table: the zone and zeroing are not for this. */
	gfp &= ~(GFP_ZONEMASK | __GFP_ZERO | __GFP_COMP | __GFP_ACCOUNT);

	xa_lock_irqsave(&hv->shared, flags);
	ret = __xa_insert(&hv->shared, pfn, xa_mk_value(1), gfp);
	xa_unlock_irqrestore(&hv->shared, flags);
	if (ret == -EBUSY)
		atomic_inc(&hv->refused);
	return ret;
}

static int hypervisor_unshare(struct hypervisor *hv, unsigned long pfn)
{
	unsigned long flags;
	void *old;

	xa_lock_irqsave(&hv->shared, flags);
	old = __xa_erase(&hv->shared, pfn);
	xa_unlock_irqrestore(&hv->shared, flags);
	if (old)
		return 0;

	atomic_inc(&hv->refused);
	return -ENOENT;
}

static bool hypervisor_sees(struct hypervisor *hv, unsigned long pfn)
{
	return xa_load(&hv->shared, pfn);
}

/*
 * The driver's allocator.
 */

/**
 * struct example - the driver's data, and its allocator's cookie
 * @hv: whom tables are shared with.
 * @sleeps: whether a call of the hypervisor that takes pages back sleeps.
 * @pages: how many pages are allocated.
 * @broken: how many promises the io-pgtable layer broke; for the tests.
 */
struct example {
	struct hypervisor	hv;
	bool			sleeps;
	atomic_long_t		pages;
	atomic_t		broken;
};

/*
 * Allocate up to n blocks.  That fewer are returned is no error: the caller
 * asks again or fails.
 */
static unsigned int example_alloc(void *cookie, const struct iopte_request *req,
				  gfp_t gfp, struct page **pages, unsigned int n)
{
	struct example *ex = cookie;
	unsigned int got;

	/* Honour the limit where there is a zone for it. */
	if (req->addr_bits <= 32)
		gfp |= IS_ENABLED(CONFIG_ZONE_DMA32) ? GFP_DMA32 : GFP_DMA;
	/* Blocks of several pages must be compound pages. */
	if (req->order)
		gfp |= __GFP_COMP;

	for (got = 0; got < n; got++) {
		pages[got] = alloc_pages_node(req->nid, gfp, req->order);
		if (!pages[got])
			break;
		/* To account for its memory is up to the allocator. */
		__iommu_alloc_account(pages[got], req->order);
		atomic_long_add(1L << req->order, &ex->pages);
	}
	return got;
}

/* Take n blocks back.  By now they are unshared. */
static void example_free(void *cookie, struct page **pages, unsigned int n,
			 unsigned int order)
{
	struct example *ex = cookie;
	unsigned int i, j;

	if (ex->sleeps)
		might_sleep();

	for (i = 0; i < n; i++) {
		for (j = 0; j < 1U << order; j++) {
			if (hypervisor_sees(&ex->hv, page_to_pfn(pages[i]) + j))
				atomic_inc(&ex->broken);
		}
		__iommu_free_account(pages[i], order);
		__free_pages(pages[i], order);
		atomic_long_sub(1L << order, &ex->pages);
	}
}

/* Take the first n pages of a block back from the hypervisor. */
static int example_unshare_pages(struct example *ex, struct page *page,
				 unsigned int n)
{
	int ret = 0, err;

	while (n--) {
		err = hypervisor_unshare(&ex->hv, page_to_pfn(page) + n);
		ret = ret ?: err;
	}
	return ret;
}

/*
 * Share a block before it becomes a table.  It may be called in atomic context
 * when page tables are mapped there, which @gfp says, also by a driver whose
 * unshare sleeps.
 *
 * All or nothing: a block that cannot be shared goes to the free operation
 * without unshare.
 */
static int example_share(void *cookie, struct page *page, unsigned int order,
			 gfp_t gfp)
{
	struct example *ex = cookie;
	unsigned int i;
	int ret;

	/* It was zeroed by the allocator, and must be when this returns. */
	if (memchr_inv(page_address(page), 0, PAGE_SIZE << order))
		atomic_inc(&ex->broken);

	for (i = 0; i < 1U << order; i++) {
		ret = hypervisor_share(&ex->hv, page_to_pfn(page) + i, gfp);
		if (ret) {
			example_unshare_pages(ex, page, i);
			return ret;
		}
	}
	return 0;
}

/*
 * Take a block back when nothing can reach it any more.  To fail means to lose
 * the block: what the hypervisor may still look at must not be reused.
 *
 * With IOPTE_FREE_SLEEPS this runs in a work item, as free does.  Without, it
 * may be an RCU callback or the caller's spinlock that it runs under.
 */
static int example_unshare(void *cookie, struct page *page, unsigned int order)
{
	struct example *ex = cookie;
	int ret;

	if (!ex->sleeps)
		return example_unshare_pages(ex, page, 1U << order);

	mutex_lock(&ex->hv.channel);
	usleep_range(10, 20);
	ret = example_unshare_pages(ex, page, 1U << order);
	mutex_unlock(&ex->hv.channel);
	return ret;
}

/* The allocator is destroyed, and with it goes what only it needs. */
static void example_release(void *cookie)
{
	struct example *ex = cookie;

	if (!xa_empty(&ex->hv.shared))
		atomic_inc(&ex->broken);
	xa_destroy(&ex->hv.shared);
}

static const struct iopte_allocator_ops example_ops = {
	.alloc		= example_alloc,
	.free		= example_free,
	.share		= example_share,
	.unshare	= example_unshare,
	.release	= example_release,
};

static struct iopte_allocator *example_create(struct example *ex, bool sleeps)
{
	xa_init_flags(&ex->hv.shared, XA_FLAGS_LOCK_IRQ);
	mutex_init(&ex->hv.channel);
	atomic_set(&ex->hv.budget, INT_MAX);
	ex->sleeps = sleeps;
	return iopte_allocator_create(&example_ops, ex,
				      sleeps ? IOPTE_FREE_SLEEPS : 0);
}

/*
 * The tests.
 */

#define IAS		48
#define OAS		48
#define REGIONS		12
#define STEPS		300

struct example_param {
	const char *name;
	size_t granule;
	bool sleeps;
};

static const struct example_param example_params[] = {
	{ "4K", SZ_4K, false },
	{ "16K", SZ_16K, false },
	{ "64K", SZ_64K, false },
	{ "4K, unshare sleeps", SZ_4K, true },
	{ "16K, unshare sleeps", SZ_16K, true },
	{ "64K, unshare sleeps", SZ_64K, true },
};

KUNIT_ARRAY_PARAM_DESC(example, example_params, name);

/**
 * struct example_test - a page table, and what is mapped in it
 * @ex: the allocator's cookie.
 * @allocator: the allocator.
 * @ops: the page table.
 * @cfg: its configuration.
 * @granule: size of a page and of a table.
 * @shift: log2 of @granule.
 * @bits: how many address bits a level translates.
 * @pages: how many pages each region has mapped, from its first on.
 * @block: whether it has a block mapped.
 * @tables: how many tables the last walk found.
 */
struct example_test {
	struct example ex;
	struct iopte_allocator *allocator;
	struct io_pgtable_ops *ops;
	struct io_pgtable_cfg cfg;
	size_t granule;
	unsigned int shift, bits;
	unsigned int pages[REGIONS];
	bool block[REGIONS];
	unsigned int tables;
};

static void example_flush_all(void *cookie)
{
}

static void example_flush_walk(unsigned long iova, size_t size, size_t granule,
			       void *cookie)
{
}

static const struct iommu_flush_ops example_flush_ops = {
	.tlb_flush_all	= example_flush_all,
	.tlb_flush_walk	= example_flush_walk,
};

/* Four neighbours under one table, then one further away. */
static unsigned long region_iova(struct example_test *et, unsigned int region)
{
	return ((unsigned long)(region % 4) << (et->shift + et->bits)) |
	       ((unsigned long)(region / 4) << (et->shift + 2 * et->bits));
}

/* Returns how many pages of the tables from @table on are not shared. */
static unsigned int example_walk(struct example_test *et, u64 *table,
				 unsigned int levels)
{
	unsigned long pfn = page_to_pfn(virt_to_page(table));
	unsigned int i, missing = 0;
	unsigned int entries = 1 << et->bits;
	u64 mask = GENMASK_ULL(OAS - 1, et->shift);

	et->tables++;
	for (i = 0; i < max(et->granule / PAGE_SIZE, 1); i++)
		missing += !hypervisor_sees(&et->ex.hv, pfn + i);

	if (levels == 1)
		return missing;

	/* The root may be smaller, and is then the start of a page. */
	if (et->tables == 1)
		entries = 1 << (IAS - et->shift - (levels - 1) * et->bits);
	for (i = 0; i < entries; i++) {
		u64 entry = READ_ONCE(table[i]);

		if ((entry & 3) == 3)
			missing += example_walk(et, phys_to_virt(entry & mask),
						levels - 1);
	}
	return missing;
}

static void example_check(struct kunit *test)
{
	struct example_test *et = test->priv;
	u64 root = et->cfg.arm_lpae_s1_cfg.ttbr;
	unsigned int missing;

	et->tables = 0;
	rcu_read_lock();
	missing = example_walk(et, phys_to_virt(root),
			       DIV_ROUND_UP(IAS - et->shift, et->bits));
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, missing, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&et->ex.broken), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&et->ex.hv.refused), 0);
}

static void region_map(struct kunit *test, unsigned int region, bool block,
		       unsigned int n, gfp_t gfp)
{
	struct example_test *et = test->priv;
	size_t size = block ? et->granule << et->bits : et->granule;
	unsigned long iova = region_iova(et, region);
	size_t mapped = 0;
	int ret;

	ret = et->ops->map_pages(et->ops, iova, iova, size, n,
				 IOMMU_READ | IOMMU_WRITE, gfp, &mapped);
	KUNIT_EXPECT_TRUE(test, ret ? !mapped : mapped == n * size);
	if (mapped) {
		et->block[region] = block;
		et->pages[region] = block ? 0 : n;
		KUNIT_EXPECT_EQ(test, et->ops->iova_to_phys(et->ops, iova), iova);
	}
}

static void region_unmap(struct kunit *test, unsigned int region)
{
	struct example_test *et = test->priv;
	size_t size = et->block[region] ? et->granule << et->bits : et->granule;
	size_t n = et->block[region] ? 1 : et->pages[region];
	unsigned long iova = region_iova(et, region);

	KUNIT_EXPECT_EQ(test, et->ops->unmap_pages(et->ops, iova, size, n, NULL),
			n * size);
	et->block[region] = false;
	et->pages[region] = 0;
}

static void example_test_exit(struct kunit *test)
{
	struct example_test *et = test->priv;

	if (!et)
		return;
	if (et->ops)
		free_io_pgtable_ops(et->ops);
	iopte_allocator_destroy(et->allocator);
	KUNIT_EXPECT_EQ(test, atomic_read(&et->ex.broken), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&et->ex.hv.refused), 0);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&et->ex.pages), 0);
}

/* Maps and unmaps at random, and a hypervisor that now and then refuses. */
static void example_test_order(struct kunit *test)
{
	const struct example_param *param = test->param_value;
	struct example_test *et;
	struct device *dev;
	struct rnd_state rnd;
	unsigned int step, refusals = 0;
	struct iopte_allocator *allocator;

	if (sizeof(long) < sizeof(u64))
		kunit_skip(test, "the regions need 64-bit addresses");

	et = kunit_kzalloc(test, sizeof(*et), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, et);
	dev = kunit_device_register(test, "iopte-share-example");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);

	allocator = example_create(&et->ex, param->sleeps);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, allocator);
	et->allocator = allocator;
	test->priv = et;

	et->granule = param->granule;
	et->shift = ilog2(et->granule);
	et->bits = et->shift - 3;
	et->cfg = (struct io_pgtable_cfg) {
		.pgsize_bitmap	= et->granule | et->granule << et->bits,
		.ias		= IAS,
		.oas		= OAS,
		.coherent_walk	= true,
		.tlb		= &example_flush_ops,
		.iommu_dev	= dev,
		.allocator	= allocator,
	};
	et->ops = alloc_io_pgtable_ops(ARM_64_LPAE_S1, &et->cfg, et);
	KUNIT_ASSERT_NOT_NULL(test, et->ops);
	KUNIT_EXPECT_GT(test, atomic_long_read(&et->ex.pages), 0);

	prandom_seed_state(&rnd, 1);
	for (step = 0; step < STEPS; step++) {
		u32 random = prandom_u32_state(&rnd);
		unsigned int region = random % REGIONS;
		bool block = random & BIT(16);
		unsigned int n = 1 + (random >> 20) % ((1 << et->bits) - 1);
		gfp_t gfp = random & BIT(17) ? GFP_KERNEL : GFP_ATOMIC;

		/* Refuse the next page, or the one after. */
		if (!(random & (BIT(18) | BIT(19)))) {
			atomic_set(&et->ex.hv.budget, region & 1);
			refusals++;
		}
		if (et->block[region] || et->pages[region])
			region_unmap(test, region);
		else
			region_map(test, region, block, block ? 1 : n, gfp);
		atomic_set(&et->ex.hv.budget, INT_MAX);
		example_check(test);
	}
	KUNIT_EXPECT_GT(test, refusals, 0);
	KUNIT_EXPECT_GT(test, et->tables, 1);

	/* With everything mapped that there is. */
	for (step = 0; step < REGIONS; step++) {
		if (!et->block[step] && !et->pages[step])
			region_map(test, step, step & 1, 1, GFP_KERNEL);
	}
	example_check(test);
}

/* The hypervisor of this example refuses nonsense. */
static void example_test_hypervisor(struct kunit *test)
{
	struct example *ex = kunit_kzalloc(test, sizeof(*ex), GFP_KERNEL);
	struct iopte_allocator *allocator;

	KUNIT_ASSERT_NOT_NULL(test, ex);
	allocator = example_create(ex, false);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, allocator);
	KUNIT_EXPECT_EQ(test, hypervisor_share(&ex->hv, 1, GFP_KERNEL), 0);
	KUNIT_EXPECT_NE(test, hypervisor_share(&ex->hv, 1, GFP_KERNEL), 0);
	KUNIT_EXPECT_TRUE(test, hypervisor_sees(&ex->hv, 1));
	KUNIT_EXPECT_EQ(test, hypervisor_unshare(&ex->hv, 1), 0);
	KUNIT_EXPECT_NE(test, hypervisor_unshare(&ex->hv, 1), 0);
	KUNIT_EXPECT_FALSE(test, hypervisor_sees(&ex->hv, 1));
	KUNIT_EXPECT_EQ(test, atomic_read(&ex->hv.refused), 2);
	iopte_allocator_destroy(allocator);
	KUNIT_EXPECT_EQ(test, atomic_read(&ex->broken), 0);
}

static struct kunit_case example_cases[] = {
	KUNIT_CASE(example_test_hypervisor),
	KUNIT_CASE_PARAM(example_test_order, example_gen_params),
	{}
};

static struct kunit_suite example_suite = {
	.name = "iopte_share_example",
	.exit = example_test_exit,
	.test_cases = example_cases,
};

kunit_test_suite(example_suite);

MODULE_DESCRIPTION("Example of an io-pgtable allocator with share and unshare");
MODULE_LICENSE("GPL");
