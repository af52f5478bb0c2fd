// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the page layer of io-pgtable and of its allocators.
 *
 * What is tested: the life of a table from allocation to its allocator getting
 * it back, without a page-table format.  The tests call the layer's internal
 * functions, and stand in for the user of a page table with a struct io_pgtable
 * in which only the pool is set.
 *
 * How: most cases run for every table size (1K, 4K, 16K, 64K: tables that share
 * a page, that are one, and that are several), with the default allocator, the
 * caching one and one of the tests' own, for a walker that is coherent with
 * the CPU caches and one that is not.  The tests' own allocator takes its
 * memory from the default one, keeps a record of each block, fails where it
 * is told to, and counts as an error whatever breaks the promises made to
 * allocators: a block freed that is not allocated, in the wrong context, of
 * another order, not unshared or with a word that the mm needs to be NULL.
 *
 * After every case, whatever it did, all counters and NR_IOMMU_PAGES are back
 * where they were.
 *
 * A WARN that a case provokes is announced on the console, see iopte-test.h.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/device/driver.h>
#include <linux/dma-mapping.h>
#include <linux/io-pgtable.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/workqueue.h>

#include "iommu-pages.h"
#include "iopte.h"
#include "iopte-test.h"

#define NR_RECORDS	600
#define NEVER		UINT_MAX

/* How long a grace period that should not end is given to end. */
#define READER_MS	20

/*
 * The tests' own allocator.
 */

struct test_record {
	struct page *page;
	unsigned int order;
	bool shared;
};

/**
 * struct test_mem - the cookie of the tests' own allocator
 * @lock: protects @records and the counters.
 * @records: blocks that are allocated, and not yet freed.
 * @live: their number.
 * @attempts: how many blocks were asked for, counting what failed.
 * @allocated: how many were allocated.
 * @failed: how many attempts were made to fail.
 * @freed: how many were freed.
 * @free_calls: in how many calls.
 * @free_bh: how many of these with bottom halves disabled.
 * @shares: how many blocks were shared, or failed to be.
 * @unshares: how many were unshared, or failed to be.
 * @busy: how many calls of free are under way.
 * @errors: how many promises were broken.
 * @released: whether the release operation ran.
 * @sleeps: whether free and unshare may sleep.
 * @fail_from: number of the attempt from which on all fail.
 * @fail_share: number of the share that fails.
 * @fail_unshare: number of the unshare that fails.
 * @lost: the block that failed to be unshared.
 * @req: the last request.
 */
struct test_mem {
	spinlock_t lock;	/* protects what follows */
	struct test_record records[NR_RECORDS];
	unsigned int live;
	unsigned int attempts, allocated, failed;
	unsigned int freed, free_calls, free_bh;
	unsigned int shares, unshares;
	unsigned int busy;
	unsigned int errors;
	bool released;
	bool sleeps;
	unsigned int fail_from, fail_share, fail_unshare;
	struct test_record lost;
	struct iopte_request req;
};

static struct test_record *test_mem_find(struct test_mem *mem, struct page *page)
{
	unsigned int i;

	for (i = 0; i < mem->live; i++) {
		if (mem->records[i].page == page)
			return &mem->records[i];
	}
	return NULL;
}

#define test_mem_error(mem, fmt, ...)					\
do {									\
	(mem)->errors++;						\
	pr_err("test allocator: " fmt "\n", ##__VA_ARGS__);		\
} while (0)

static unsigned int test_mem_alloc(void *cookie, const struct iopte_request *req,
				   gfp_t gfp, struct page **pages, unsigned int n)
{
	struct test_mem *mem = cookie;
	unsigned int i, got, want;
	unsigned long flags;

	spin_lock_irqsave(&mem->lock, flags);
	mem->req = *req;
	want = mem->attempts >= mem->fail_from ? 0 :
	       min(n, mem->fail_from - mem->attempts);
	want = min(want, NR_RECORDS - mem->live);
	/* What comes after the one that failed was not tried. */
	mem->attempts += want < n ? want + 1 : n;
	mem->failed += want < n;
	if (!(gfp & __GFP_ZERO))
		test_mem_error(mem, "asked for memory that is not zeroed");
	for (i = 0; i < n; i++) {
		if (pages[i])
			test_mem_error(mem, "page array not NULL");
	}
	spin_unlock_irqrestore(&mem->lock, flags);

	got = iopte_default_ops.alloc(NULL, req, gfp, pages, want);

	spin_lock_irqsave(&mem->lock, flags);
	for (i = 0; i < got; i++) {
		mem->records[mem->live++] = (struct test_record) {
			.page = pages[i],
			.order = req->order,
		};
	}
	mem->allocated += got;
	spin_unlock_irqrestore(&mem->lock, flags);
	return got;
}

static void test_mem_check_context(struct test_mem *mem)
{
	if (!mem->sleeps)
		return;
	might_sleep();
	if (!(current->flags & PF_WQ_WORKER))
		test_mem_error(mem, "not called from a work item");
}

static void test_mem_free(void *cookie, struct page **pages, unsigned int n,
			  unsigned int order)
{
	struct test_mem *mem = cookie;
	struct test_record *record;
	unsigned long flags;
	unsigned int i;

	test_mem_check_context(mem);

	spin_lock_irqsave(&mem->lock, flags);
	mem->busy++;
	mem->free_calls++;
	mem->free_bh += !!softirq_count();
	for (i = 0; i < n; i++) {
		record = test_mem_find(mem, pages[i]);
		if (!record) {
			test_mem_error(mem, "freed what is not allocated");
			continue;
		}
		if (record->order != order || compound_order(pages[i]) != order)
			test_mem_error(mem, "freed with order %u", order);
		if (record->shared)
			test_mem_error(mem, "freed before it was unshared");
		if (pages[i]->mapping)
			test_mem_error(mem, "freed with a mapping");
		*record = mem->records[--mem->live];
		mem->freed++;
	}
	spin_unlock_irqrestore(&mem->lock, flags);

	iopte_default_ops.free(NULL, pages, n, order);

	spin_lock_irqsave(&mem->lock, flags);
	mem->busy--;
	spin_unlock_irqrestore(&mem->lock, flags);
}

static int test_mem_share(void *cookie, struct page *page, unsigned int order,
			  gfp_t gfp)
{
	struct test_mem *mem = cookie;
	struct test_record *record;
	unsigned long flags;
	int ret = 0;

	spin_lock_irqsave(&mem->lock, flags);
	record = test_mem_find(mem, page);
	if (!record || record->shared || record->order != order)
		test_mem_error(mem, "shared what cannot be shared");
	else if (memchr_inv(page_address(page), 0, PAGE_SIZE << order))
		test_mem_error(mem, "shared before it was zeroed");
	else if (mem->shares == mem->fail_share)
		ret = -EIO;
	else
		record->shared = true;
	mem->shares++;
	spin_unlock_irqrestore(&mem->lock, flags);
	return ret;
}

static int test_mem_unshare(void *cookie, struct page *page, unsigned int order)
{
	struct test_mem *mem = cookie;
	struct test_record *record;
	unsigned long flags;
	int ret = 0;

	test_mem_check_context(mem);

	spin_lock_irqsave(&mem->lock, flags);
	record = test_mem_find(mem, page);
	if (!record || !record->shared || record->order != order) {
		test_mem_error(mem, "unshared what is not shared");
	} else if (mem->unshares == mem->fail_unshare) {
		mem->lost = *record;
		*record = mem->records[--mem->live];
		ret = -EIO;
	} else {
		record->shared = false;
	}
	mem->unshares++;
	spin_unlock_irqrestore(&mem->lock, flags);
	return ret;
}

static void test_mem_release(void *cookie)
{
	struct test_mem *mem = cookie;

	mem->released = true;
}

static const struct iopte_allocator_ops test_mem_ops = {
	.alloc	 = test_mem_alloc,
	.free	 = test_mem_free,
	.release = test_mem_release,
};

static const struct iopte_allocator_ops test_mem_share_ops = {
	.alloc	 = test_mem_alloc,
	.free	 = test_mem_free,
	.share	 = test_mem_share,
	.unshare = test_mem_unshare,
	.release = test_mem_release,
};

/*
 * The page table.
 */

enum test_allocator {
	DEFAULT,
	CACHE,
	COUNTING,
	SHARING,
	SHARING_SLEEPS,
};

struct test_param {
	size_t size;
	enum test_allocator allocator;
	bool coherent;
};

static const char * const allocator_names[] = {
	[DEFAULT]		= "default",
	[CACHE]			= "cache",
	[COUNTING]		= "counting",
	[SHARING]		= "sharing",
	[SHARING_SLEEPS]	= "sharing, sleeps",
};

/* All sizes, coherent and not, for the allocators from @first to @last. */
static const void *test_param_next(const void *prev, char *desc,
				   enum test_allocator first,
				   enum test_allocator last)
{
	static struct test_param param;

	if (!prev) {
		param = (struct test_param) {
			.size = SZ_1K,
			.allocator = first,
			.coherent = true,
		};
	} else if (param.coherent) {
		param.coherent = false;
	} else if (param.size < SZ_64K) {
		param.size *= 4;
		param.coherent = true;
	} else if (param.allocator < last) {
		param.size = SZ_1K;
		param.allocator++;
		param.coherent = true;
	} else {
		return NULL;
	}

	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%zuK, %s, %s", param.size / SZ_1K,
		 allocator_names[param.allocator],
		 param.coherent ? "coherent" : "not coherent");
	return &param;
}

static const void *all_gen_params(const void *prev, char *desc)
{
	return test_param_next(prev, desc, DEFAULT, COUNTING);
}

/* Where the allocator's records are what is looked at. */
static const void *counting_gen_params(const void *prev, char *desc)
{
	return test_param_next(prev, desc, COUNTING, COUNTING);
}

static const void *sharing_gen_params(const void *prev, char *desc)
{
	return test_param_next(prev, desc, SHARING, SHARING_SLEEPS);
}

/**
 * struct test_table - a page table without a format
 * @test: the test.
 * @iop: what the users' functions are called with.
 * @pool: the pool.
 * @mem: the tests' own allocator, of which @allocator may be another.
 * @allocator: the allocator, or NULL for the default one.
 * @dev: the IOMMU.
 * @param: what is tested.
 * @per_page: how many tables share a page, and 1 when none do.
 * @pages: how many pages there are per table, and 1 when several share one.
 * @iommu_pages: NR_IOMMU_PAGES when the case began.
 * @secondary: NR_SECONDARY_PAGETABLE then, in pages.
 */
struct test_table {
	struct kunit *test;
	struct io_pgtable iop;
	struct iopte_pool *pool;
	struct test_mem *mem;
	struct iopte_allocator *allocator;
	struct device *dev;
	struct test_param param;
	unsigned int per_page;
	unsigned int pages;
	long iommu_pages, secondary;
};

static void walk_flush(unsigned long iova, size_t size, size_t granule,
		       void *cookie)
{
}

static const struct iommu_flush_ops io_pgtable_flushes = {
	.tlb_flush_walk	= walk_flush,
};

static const struct iommu_flush_ops user_flushes = {};

static struct test_mem *test_mem_create(struct kunit *test)
{
	struct test_mem *mem = kunit_kzalloc(test, sizeof(*mem), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mem);
	spin_lock_init(&mem->lock);
	mem->fail_from = NEVER;
	mem->fail_share = NEVER;
	mem->fail_unshare = NEVER;
	return mem;
}

static void test_pool_create(struct test_table *tt,
			     const struct iommu_flush_ops *tlb)
{
	struct io_pgtable_cfg cfg = {
		.coherent_walk	= tt->param.coherent,
		.tlb		= tlb,
		.iommu_dev	= tt->dev,
		.allocator	= tt->allocator,
	};

	tt->pool = iopte_pool_create(&cfg, tt->param.size,
				     BITS_PER_TYPE(phys_addr_t));
	KUNIT_ASSERT_NOT_NULL(tt->test, tt->pool);
	tt->iop.pool = tt->pool;
}

static struct test_table *test_table_param(struct kunit *test,
					   const struct test_param *param,
					   const struct iommu_flush_ops *tlb)
{
	struct test_table *tt = test->priv;

	tt->param = *param;
	tt->dev = kunit_device_register(test, "iopte-test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, tt->dev);
	set_dev_node(tt->dev, first_online_node);
	if (!param->coherent)
		test_need_dma(test, tt->dev);

	tt->mem = test_mem_create(test);
	tt->mem->sleeps = param->allocator == SHARING_SLEEPS;
	switch (param->allocator) {
	case DEFAULT:
		break;
	case CACHE:
		tt->allocator = iopte_cache_create(NUMA_NO_NODE, 8);
		break;
	case COUNTING:
		tt->allocator = iopte_allocator_create(&test_mem_ops, tt->mem, 0);
		break;
	case SHARING:
		tt->allocator = iopte_allocator_create(&test_mem_share_ops,
						       tt->mem, 0);
		break;
	case SHARING_SLEEPS:
		tt->allocator = iopte_allocator_create(&test_mem_share_ops,
						       tt->mem,
						       IOPTE_FREE_SLEEPS);
		break;
	}
	KUNIT_ASSERT_FALSE(test, IS_ERR(tt->allocator));

	tt->per_page = max(PAGE_SIZE / param->size, 1);
	tt->pages = max(param->size / PAGE_SIZE, 1);
	test_pool_create(tt, tlb);
	return tt;
}

static struct test_table *test_table(struct kunit *test,
				     const struct iommu_flush_ops *tlb)
{
	return test_table_param(test, test->param_value, tlb);
}

/* The pages of @n tables that were allocated one after the other. */
static long table_pages(struct test_table *tt, unsigned int n)
{
	return (long)DIV_ROUND_UP(n, tt->per_page) * tt->pages;
}

static long pages_in_use(struct test_table *tt)
{
	return node_pages(NR_IOMMU_PAGES) - tt->iommu_pages;
}

static long secondary_in_use(struct test_table *tt)
{
	return node_pages(NR_SECONDARY_PAGETABLE) - tt->secondary;
}

static struct iopte_page *block_of(void *table)
{
	return page_iopte_page(virt_to_page(table));
}

static struct iopte_page *desc_of(struct test_table *tt, void *table)
{
	struct iopte_page *block = block_of(table);

	if (tt->per_page == 1)
		return block;
	return &block->tables[offset_in_page(table) / tt->param.size];
}

/* What the mm expects of a page's words in every state of a table. */
static bool words_are_sane(void *table)
{
	struct page *page = &virt_to_folio(table)->page;

	return !(page->compound_head & 1) &&
	       !((unsigned long)page->mapping & (sizeof(long) - 1)) &&
	       !PageSlab(page) && !PageLRU(page);
}

static void *table_alloc(struct test_table *tt)
{
	void *table = iopte_alloc(tt->pool, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(tt->test, table);
	return table;
}

static void **tables_alloc(struct test_table *tt, unsigned int n)
{
	void **tables = kunit_kcalloc(tt->test, n, sizeof(*tables), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(tt->test, tables);
	for (i = 0; i < n; i++)
		tables[i] = table_alloc(tt);
	return tables;
}

static void tables_list(struct test_table *tt, struct iopte_list *list,
			void **tables, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		iopte_list_add(tt->pool, list, tables[i]);
}

static void retire(struct test_table *tt, void *table, unsigned long iova,
		   size_t span)
{
	struct iopte_list list = {};

	iopte_list_add(tt->pool, &list, table);
	iopte_retire(tt->pool, &list, iova, span);
}

/* Wait until the work items of an allocator whose free sleeps have run. */
static bool all_freed(struct test_table *tt)
{
	struct test_mem *mem = tt->mem;
	unsigned int ms;
	bool done;

	for (ms = 0; ms < 10000; ms++) {
		spin_lock_irq(&mem->lock);
		done = !mem->live && !mem->busy;
		spin_unlock_irq(&mem->lock);
		if (done)
			return true;
		usleep_range(500, 1000);
	}
	return false;
}

/*
 * Be a reader.  Interrupts are off on UML because it may take a tick in the
 * kernel for one in user space, and that for the end of all read sections.
 */
static unsigned long reader_enter(void)
	__acquires(RCU)
{
	unsigned long flags = 0;

	if (IS_ENABLED(CONFIG_UML))
		local_irq_save(flags);
	rcu_read_lock();
	return flags;
}

static void reader_leave(unsigned long flags)
	__releases(RCU)
{
	rcu_read_unlock();
	if (IS_ENABLED(CONFIG_UML))
		local_irq_restore(flags);
}

/* Devices that are being probed may have tables allocated. */
static int iopte_test_suite_init(struct kunit_suite *suite)
{
	wait_for_device_probe();
	return 0;
}

static int iopte_test_init(struct kunit *test)
{
	struct test_table *tt = kunit_kzalloc(test, sizeof(*tt), GFP_KERNEL);

	if (!tt)
		return -ENOMEM;

	rcu_barrier();
	tt->test = test;
	tt->iommu_pages = node_pages(NR_IOMMU_PAGES);
	tt->secondary = node_pages(NR_SECONDARY_PAGETABLE);
	test->priv = tt;
	return 0;
}

/* After a case, also one that was aborted: nothing is left. */
static void iopte_test_exit(struct kunit *test)
{
	struct test_table *tt = test->priv;
	struct test_mem *mem;

	if (!tt)
		return;

	mem = tt->mem;
	if (tt->pool)
		iopte_pool_destroy(tt->pool);
	rcu_barrier();
	iopte_allocator_destroy(tt->allocator);

	if (mem && mem->lost.page)
		iopte_default_ops.free(NULL, &mem->lost.page, 1, mem->lost.order);

	KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);
	KUNIT_EXPECT_EQ(test, secondary_in_use(tt), 0);
	if (!mem)
		return;
	KUNIT_EXPECT_EQ(test, mem->errors, 0);
	KUNIT_EXPECT_EQ(test, mem->live, 0);
	KUNIT_EXPECT_EQ(test, mem->allocated, mem->freed + !!mem->lost.page);
	if (tt->param.allocator >= COUNTING && tt->allocator)
		KUNIT_EXPECT_TRUE(test, mem->released);
}

/*
 * Suite iopte_page: the life of a table.
 */

/* Words of struct page where struct iopte_page says they are. */
static void test_layout(struct kunit *test)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	struct iopte_page *desc;

	KUNIT_ASSERT_NOT_NULL(test, page);
	desc = page_iopte_page(page);
	KUNIT_EXPECT_PTR_EQ(test, &iopte_page_folio(desc)->page, page);

#define EXPECT_SAME(a, b)					\
	KUNIT_EXPECT_PTR_EQ(test, (void *)(a), (void *)(b))
	EXPECT_SAME(&desc->__page_flags, &page->flags);
	EXPECT_SAME(&desc->table, &page->flags);
	EXPECT_SAME(&desc->next, &page->compound_head);
	EXPECT_SAME(&desc->rcu_head, &page->rcu_head);
	EXPECT_SAME(&desc->llnode, &page->compound_head);
	EXPECT_SAME(&desc->node, &page->lru);
	EXPECT_SAME(&desc->pool, &page->mapping);
	EXPECT_SAME(&desc->child, &page->compound_head);
	EXPECT_SAME(&desc->parked, &page->mapping);
	EXPECT_SAME(&desc->used, &page->index);
	EXPECT_SAME(&desc->rest, &page->index);
	EXPECT_SAME(&desc->tables, &page->private);
	EXPECT_SAME(&desc->__page_type, &page->page_type);
	EXPECT_SAME(&desc->__page_refcount, &page->_refcount);
#ifdef CONFIG_MEMCG
	EXPECT_SAME(&desc->__memcg_data, &page->memcg_data);
#endif
#undef EXPECT_SAME
	/* The second word of the union that rcu_head and the range share. */
	KUNIT_EXPECT_PTR_EQ(test, (void *)&desc->range,
			    (void *)&desc->rcu_head.func);
	KUNIT_EXPECT_LE(test, sizeof(*desc), sizeof(*page));
	__free_page(page);
}

/* The mm's words stay sane in every state, and the pool is set as said. */
static void test_words(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	unsigned long flags;
	struct io_pgtable_flush flush;
	struct iopte_list list = {};
	struct iopte_page *desc;
	struct page *page;
	bool sane, set;
	void *table;

	table = table_alloc(tt);
	page = &virt_to_folio(table)->page;
	desc = desc_of(tt, table);
	KUNIT_EXPECT_TRUE(test, words_are_sane(table));
	KUNIT_EXPECT_PTR_EQ(test, desc->pool, tt->pool);

	iopte_list_add(tt->pool, &list, table);
	KUNIT_EXPECT_TRUE(test, words_are_sane(table));
	KUNIT_EXPECT_NULL(test, desc->pool);
	KUNIT_EXPECT_PTR_EQ(test, list.head, desc);

	iopte_retire(tt->pool, &list, SZ_2M, SZ_2M);
	KUNIT_EXPECT_NULL(test, list.head);
	KUNIT_EXPECT_TRUE(test, words_are_sane(table));

	flush = io_pgtable_flush_begin(&tt->iop.ops, SZ_2M, SZ_2M);
	KUNIT_EXPECT_PTR_EQ(test, flush.tables, desc);
	KUNIT_EXPECT_TRUE(test, words_are_sane(table));

	/* The reference keeps the page from the mm, not from the allocator. */
	get_page(page);
	flags = reader_enter();
	io_pgtable_flush_end(&tt->iop.ops, &flush, true);
	sane = words_are_sane(table);
	set = desc->pool == tt->pool;
	reader_leave(flags);
	KUNIT_EXPECT_TRUE(test, sane);
	KUNIT_EXPECT_TRUE(test, set);

	rcu_barrier();
	KUNIT_EXPECT_TRUE(test, words_are_sane(table));
	KUNIT_EXPECT_NULL(test, page->mapping);
	put_page(page);
}

/* Tables are aligned, zeroed and apart, and cost the pages they should. */
static void test_alloc_free(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	size_t size = tt->param.size;
	unsigned int i, j, n = 2 * tt->per_page + 1;
	void **tables;

	tables = tables_alloc(tt, n);
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), table_pages(tt, n));
	KUNIT_EXPECT_EQ(test, secondary_in_use(tt), table_pages(tt, n));

	for (i = 0; i < n; i++) {
		KUNIT_EXPECT_TRUE(test, IS_ALIGNED(virt_to_phys(tables[i]), size));
		KUNIT_EXPECT_NULL(test, memchr_inv(tables[i], 0, size));
		for (j = 0; j < i; j++)
			KUNIT_EXPECT_PTR_NE(test, tables[i], tables[j]);
		memset(tables[i], 0xff, size);
	}

	/* The second lot may be the same memory. */
	for (i = 0; i < n; i++)
		iopte_free(tt->pool, tables[i]);
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);
	KUNIT_EXPECT_EQ(test, secondary_in_use(tt), 0);
	for (i = 0; i < n; i++) {
		tables[i] = table_alloc(tt);
		KUNIT_EXPECT_NULL(test, memchr_inv(tables[i], 0, size));
	}
	for (i = 0; i < n; i++)
		iopte_free(tt->pool, tables[i]);
}

/* Roots of every size that formats use, also larger than a table. */
static void test_root(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	size_t sizes[] = { SZ_1K, SZ_4K, SZ_8K, SZ_16K, SZ_64K };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t size = max(sizes[i], tt->param.size);
		long pages = max(size / PAGE_SIZE, 1);
		void *root, *table;

		root = iopte_alloc_root(tt->pool, sizes[i], GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, root);
		KUNIT_EXPECT_TRUE(test, IS_ALIGNED(virt_to_phys(root), sizes[i]));
		KUNIT_EXPECT_NULL(test, memchr_inv(root, 0, sizes[i]));
		KUNIT_EXPECT_TRUE(test, words_are_sane(root));
		KUNIT_EXPECT_EQ(test, pages_in_use(tt), pages);

		table = table_alloc(tt);
		KUNIT_EXPECT_PTR_NE(test, table, root);
		iopte_free(tt->pool, table);
		iopte_free_root(tt->pool, root, sizes[i]);
		KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);
	}
}

/* A retired table is not freed while a reader is inside. */
static void test_retire(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned long flags;
	long before, inside;
	void *table;
	bool kept;

	table = table_alloc(tt);
	before = pages_in_use(tt);
	memset(table, 0x5a, tt->param.size);

	flags = reader_enter();
	retire(tt, table, SZ_2M, SZ_2M);
	mdelay(READER_MS);
	inside = pages_in_use(tt);
	kept = !memchr_inv(table, 0x5a, tt->param.size);
	reader_leave(flags);

	KUNIT_EXPECT_EQ(test, inside, before);
	KUNIT_EXPECT_TRUE(test, kept);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);
}

struct test_reader {
	struct completion inside;
	bool leave;
};

static int test_reader_thread(void *data)
{
	struct test_reader *reader = data;

	rcu_read_lock();
	complete(&reader->inside);
	while (!READ_ONCE(reader->leave))
		cpu_relax();
	rcu_read_unlock();

	while (!kthread_should_stop())
		usleep_range(500, 1000);
	return 0;
}

/* The same with a reader that was inside before, on a CPU of its own or not. */
static void test_retire_reader(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned int live, freed;
	struct test_reader reader = {};
	struct task_struct *task;
	void *table;

	if (!IS_ENABLED(CONFIG_PREEMPT_RCU) && num_online_cpus() == 1)
		kunit_skip(test, "one CPU, and readers are not preempted");

	table = table_alloc(tt);
	live = tt->mem->live;
	init_completion(&reader.inside);
	task = kthread_run(test_reader_thread, &reader, "iopte-reader");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	wait_for_completion(&reader.inside);

	retire(tt, table, SZ_2M, SZ_2M);
	iopte_pool_destroy(tt->pool);
	tt->pool = NULL;
	msleep(READER_MS);
	freed = READ_ONCE(tt->mem->freed);
	KUNIT_EXPECT_EQ(test, READ_ONCE(tt->mem->live), live);
	KUNIT_EXPECT_EQ(test, freed, 0);

	WRITE_ONCE(reader.leave, true);
	rcu_barrier();
	KUNIT_EXPECT_TRUE(test, all_freed(tt));
	KUNIT_EXPECT_EQ(test, READ_ONCE(tt->mem->freed), live);
	if (!tt->mem->sleeps)
		KUNIT_EXPECT_GE(test, tt->mem->free_bh, 1);
	kthread_stop(task);
}

/* A list of tables costs an RCU callback for each 256, not for each. */
static void test_batch(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned long flags;
	static const unsigned int counts[] = { 1, 2, 255, 256, 257, 513 };
	struct iopte_list list = {};
	unsigned int i, n, batches;
	void **tables;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		n = counts[i];
		tables = tables_alloc(tt, n);
		KUNIT_EXPECT_EQ(test, tt->mem->live, DIV_ROUND_UP(n, tt->per_page));
		tables_list(tt, &list, tables, n);

		/* Each callback holds a reference until it has run. */
		flags = reader_enter();
		iopte_retire(tt->pool, &list, 0, SZ_1G);
		batches = refcount_read(&tt->pool->ref) - 1;
		reader_leave(flags);
		KUNIT_EXPECT_EQ(test, batches, DIV_ROUND_UP(n, 256));
		KUNIT_EXPECT_NULL(test, list.head);

		rcu_barrier();
		KUNIT_EXPECT_EQ(test, refcount_read(&tt->pool->ref), 1);
		KUNIT_EXPECT_EQ(test, tt->mem->live, 0);
	}
}

/* What was never in a tree goes without a grace period, in one go. */
static void test_free_list(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned long flags;
	unsigned int n = 40 * tt->per_page;
	struct iopte_list list = {};
	long inside;
	void **tables;

	tables = tables_alloc(tt, n);
	tables_list(tt, &list, tables, n);
	flags = reader_enter();
	iopte_free_list(tt->pool, &list);
	inside = pages_in_use(tt);
	reader_leave(flags);
	KUNIT_EXPECT_NULL(test, list.head);
	KUNIT_EXPECT_EQ(test, inside, 0);
	iopte_free_list(tt->pool, &list);
}

/* The allocator is told the node, the order and the limit. */
static void test_request(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned int bits = BITS_PER_TYPE(phys_addr_t);
	void *table, *root;

	table = table_alloc(tt);
	KUNIT_EXPECT_EQ(test, tt->mem->req.nid, dev_to_node(tt->dev));
	KUNIT_EXPECT_EQ(test, tt->mem->req.order, get_order(tt->param.size));
	KUNIT_EXPECT_EQ(test, tt->mem->req.addr_bits, bits);
	if (IS_ENABLED(CONFIG_NUMA))
		KUNIT_EXPECT_EQ(test, page_to_nid(virt_to_page(table)),
				first_online_node);

	root = iopte_alloc_root(tt->pool, SZ_128K, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, root);
	KUNIT_EXPECT_EQ(test, tt->mem->req.nid, dev_to_node(tt->dev));
	KUNIT_EXPECT_EQ(test, tt->mem->req.order, get_order(SZ_128K));
	iopte_free_root(tt->pool, root, SZ_128K);
	iopte_free(tt->pool, table);
}

/* Tables that share a page take one, which goes back after the last. */
static void test_split(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned long flags;
	unsigned int i, inside, n = tt->per_page;
	struct iopte_page *block;
	void **tables, *again;

	if (n == 1)
		kunit_skip(test, "tables of this size do not share pages");

	tables = tables_alloc(tt, n);
	KUNIT_EXPECT_EQ(test, tt->mem->live, 1);
	block = block_of(tables[0]);
	KUNIT_EXPECT_EQ(test, hweight_long(block->used), n);
	KUNIT_EXPECT_PTR_EQ(test, block->pool, tt->pool);
	KUNIT_EXPECT_TRUE(test, list_empty(&tt->pool->partial));
	for (i = 0; i < n; i++) {
		KUNIT_EXPECT_PTR_EQ(test, desc_of(tt, tables[i])->table, tables[i]);
		KUNIT_EXPECT_PTR_EQ(test, desc_of(tt, tables[i])->pool, tt->pool);
		memset(tables[i], 0xff, tt->param.size);
	}

	/* One goes and comes again: zeroed, in the same page; others stay. */
	retire(tt, tables[1], 0, SZ_1M);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, hweight_long(block->used), n - 1);
	KUNIT_EXPECT_FALSE(test, list_empty(&tt->pool->partial));
	again = table_alloc(tt);
	KUNIT_EXPECT_PTR_EQ(test, again, tables[1]);
	KUNIT_EXPECT_NULL(test, memchr_inv(again, 0, tt->param.size));
	KUNIT_EXPECT_NULL(test, memchr_inv(tables[0], 0xff, tt->param.size));
	KUNIT_EXPECT_EQ(test, tt->mem->live, 1);

	/* A table in its grace period is not handed out again. */
	flags = reader_enter();
	retire(tt, tables[0], 0, SZ_1M);
	again = iopte_alloc(tt->pool, GFP_ATOMIC);
	reader_leave(flags);
	KUNIT_ASSERT_NOT_NULL(test, again);
	KUNIT_EXPECT_PTR_NE(test, again, tables[0]);
	iopte_free(tt->pool, again);
	rcu_barrier();

	for (i = 1; i + 1 < n; i++)
		iopte_free(tt->pool, tables[i]);
	KUNIT_EXPECT_EQ(test, tt->mem->live, 1);
	flags = reader_enter();
	retire(tt, tables[n - 1], 0, SZ_1M);
	inside = READ_ONCE(tt->mem->live);
	reader_leave(flags);
	KUNIT_EXPECT_EQ(test, inside, 1);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, tt->mem->live, 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&tt->pool->partial));
}

/* The descriptors of tables that share a page are freed with it. */
static void test_split_descriptors(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned int i, rounds = 4000;
	long before, after;
	void *table;

	if (tt->per_page == 1)
		kunit_skip(test, "tables of this size do not share pages");
	if (IS_ENABLED(CONFIG_KASAN_GENERIC))
		kunit_skip(test, "KASAN holds back what is freed");

	/* An array leaked in each round is more than the noise. */
	before = node_pages(NR_SLAB_UNRECLAIMABLE_B);
	for (i = 0; i < rounds; i++) {
		table = table_alloc(tt);
		iopte_free(tt->pool, table);
	}
	after = node_pages(NR_SLAB_UNRECLAIMABLE_B);
	KUNIT_EXPECT_LT(test, after - before,
			(long)(rounds * tt->per_page * sizeof(struct iopte_page) /
			       PAGE_SIZE / 2));
}

/*
 * What is freed twice, or as what it is not, warns and stays.
 */

static void test_wrong_free(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct io_pgtable_cfg cfg = { .coherent_walk = true };
	struct iopte_list list = {};
	struct iopte_pool *other;
	void *table, *root;

	cfg.tlb = &io_pgtable_flushes;
	table = table_alloc(tt);
	iopte_list_add(tt->pool, &list, table);
	expect_splat_begin("iopte: freeing what is no table of this page table");
	iopte_list_add(tt->pool, &list, table);
	expect_splat_end();
	KUNIT_EXPECT_PTR_EQ(test, list.head, desc_of(tt, table));
	KUNIT_EXPECT_NULL(test, list.head->next);
	iopte_free_list(tt->pool, &list);

	/* Another page table's. */
	table = table_alloc(tt);
	other = iopte_pool_create(&cfg, tt->param.size, BITS_PER_TYPE(phys_addr_t));
	KUNIT_ASSERT_NOT_NULL(test, other);
	expect_splat_begin("iopte: freeing what is no table of this page table");
	iopte_list_add(other, &list, table);
	expect_splat_end();
	KUNIT_EXPECT_NULL(test, list.head);
	iopte_pool_destroy(other);

	/* A table as a root, and a root as a table or a smaller root. */
	expect_splat_begin("iopte: freeing a table of order [0-9]+ as one of order [0-9]+");
	iopte_free_root(tt->pool, table, SZ_128K);
	expect_splat_end();
	root = iopte_alloc_root(tt->pool, SZ_128K, GFP_KERNEL);
	if (root) {
		expect_splat_begin("iopte: freeing a table of order [0-9]+ as one of order [0-9]+");
		iopte_list_add(tt->pool, &list, root);
		expect_splat_end();
		expect_splat_begin("iopte: freeing a table of order [0-9]+ as one of order [0-9]+");
		iopte_free_root(tt->pool, root, SZ_256K);
		expect_splat_end();
		KUNIT_EXPECT_NULL(test, list.head);
		iopte_free_root(tt->pool, root, SZ_128K);
	} else {
		KUNIT_FAIL(test, "no root");
	}
	iopte_free(tt->pool, table);
}

/*
 * Tickets: what a user's flush releases.
 */

static struct io_pgtable_flush begin(struct test_table *tt, u64 iova, u64 size)
{
	return io_pgtable_flush_begin(&tt->iop.ops, iova, size);
}

static void end(struct test_table *tt, struct io_pgtable_flush *flush, bool done)
{
	io_pgtable_flush_end(&tt->iop.ops, flush, done);
}

/* What the allocator still has of tables that do not share pages. */
static unsigned int waiting(struct test_table *tt)
{
	rcu_barrier();
	return tt->mem->allocated - tt->mem->freed;
}

static void test_ticket_range(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	static const struct {
		u64 iova, size;
		bool released;
	} flushes[] = {
		{ 0, SZ_4M, false },			/* before */
		{ SZ_8M - SZ_2M, SZ_2M, false },
		{ SZ_8M + SZ_2M, SZ_16M, false },	/* after */
		{ SZ_8M, SZ_2M - 1, false },		/* part of it */
		{ SZ_8M, SZ_4K, false },
		{ SZ_8M + 1, SZ_2M, false },
		{ SZ_8M + SZ_1M, SZ_2M, false },	/* across its end */
		{ SZ_8M - SZ_1M, SZ_2M, false },	/* across its start */
		{ SZ_8M - SZ_1M, SZ_2M + SZ_1M - 1, false },
		{ SZ_8M, 0, false },			/* nothing */
		{ SZ_8M, SZ_2M, true },			/* exactly it */
		{ SZ_8M - 1, SZ_2M + 1, true },
		{ SZ_8M, SZ_2M + 1, true },
		{ 0, U64_MAX, true },
		{ 0, SZ_16M, true },
		{ SZ_4M, 0 - (u64)SZ_4M, true },	/* up to the very end */
	};
	struct io_pgtable_flush flush;
	unsigned int i;
	void *table;

	for (i = 0; i < ARRAY_SIZE(flushes); i++) {
		table = table_alloc(tt);
		/* The address need not be the first that the entry translated. */
		retire(tt, table, SZ_8M + SZ_64K, SZ_2M);
		KUNIT_EXPECT_EQ(test, waiting(tt), 1);
		flush = begin(tt, flushes[i].iova, flushes[i].size);
		KUNIT_EXPECT_EQ(test, waiting(tt), 1);
		end(tt, &flush, true);
		KUNIT_EXPECT_EQ_MSG(test, waiting(tt), !flushes[i].released,
				    "flush %u", i);
		/* Another that is wide enough. */
		flush = begin(tt, 0, U64_MAX);
		end(tt, &flush, true);
		KUNIT_EXPECT_EQ(test, waiting(tt), 0);
	}
}

/* At the top of the address space first + size is 0. */
static void test_ticket_wrap(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	unsigned long top = 0UL - SZ_2M;
	struct io_pgtable_flush flush;

	retire(tt, table_alloc(tt), top, SZ_2M);
	flush = begin(tt, top - SZ_2M, SZ_2M);
	end(tt, &flush, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), 1);
	flush = begin(tt, 0, SZ_2M);
	end(tt, &flush, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), 1);
	flush = begin(tt, top, SZ_2M);
	end(tt, &flush, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);

	retire(tt, table_alloc(tt), top, SZ_2M);
	flush = begin(tt, SZ_2M, 0 - (u64)SZ_2M);
	end(tt, &flush, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);
}

/* A grace period passes after the flush, too. */
static void test_ticket_retire(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	unsigned long flags;
	struct io_pgtable_flush flush;
	unsigned int inside;

	retire(tt, table_alloc(tt), 0, SZ_2M);
	flush = begin(tt, 0, SZ_2M);
	flags = reader_enter();
	end(tt, &flush, true);
	mdelay(READER_MS);
	inside = READ_ONCE(tt->mem->live);
	reader_leave(flags);
	KUNIT_EXPECT_EQ(test, inside, 1);
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);
}

/* A flush releases what left the tree before its ticket, and no more. */
static void test_ticket_order(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	struct io_pgtable_flush first, second;
	unsigned int before = tt->per_page;

	/* Fill a page each, so that tables and blocks count alike. */
	retire(tt, table_alloc(tt), 0, SZ_2M);
	first = begin(tt, 0, SZ_1G);
	while (--before)
		retire(tt, table_alloc(tt), 0, SZ_2M);
	retire(tt, table_alloc(tt), SZ_2M, SZ_2M);
	end(tt, &first, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), tt->per_page == 1 ? 1 : 2);
	KUNIT_EXPECT_NULL(test, first.tables);
	end(tt, &first, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), tt->per_page == 1 ? 1 : 2);

	/* Two flushes at once: the second does not release the first's. */
	first = begin(tt, 0, SZ_1G);
	second = begin(tt, 0, SZ_1G);
	KUNIT_EXPECT_NULL(test, second.tables);
	end(tt, &second, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), tt->per_page == 1 ? 1 : 2);
	end(tt, &first, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);
}

/* Tickets that overlap share out the tables by range. */
static void test_ticket_overlap(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	struct io_pgtable_flush low, high;
	unsigned int i, n, left;
	struct iopte_page *desc;

	for (i = 0; i < 4; i++)
		retire(tt, table_alloc(tt), i * SZ_2M, SZ_2M);
	low = begin(tt, 0, 2 * SZ_2M + SZ_1M);
	high = begin(tt, SZ_2M, 2 * SZ_2M);
	for (n = 0, desc = low.tables; desc; desc = desc->next)
		n++;
	KUNIT_EXPECT_EQ(test, n, 2);
	for (n = 0, desc = high.tables; desc; desc = desc->next)
		n++;
	KUNIT_EXPECT_EQ(test, n, 1);
	for (left = 0, desc = tt->pool->unflushed.head; desc; desc = desc->next)
		left++;
	KUNIT_EXPECT_EQ(test, left, 1);
	end(tt, &high, true);
	end(tt, &low, true);
	if (tt->per_page == 1)
		KUNIT_EXPECT_EQ(test, waiting(tt), 1);
}

/* What a failed flush would have released waits for another. */
static void test_ticket_failed(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	struct io_pgtable_flush flush;
	unsigned int i;

	for (i = 0; i < 3; i++)
		retire(tt, table_alloc(tt), i * SZ_2M, SZ_2M);
	i = waiting(tt);
	flush = begin(tt, 0, SZ_1G);
	KUNIT_EXPECT_NULL(test, tt->pool->unflushed.head);
	end(tt, &flush, false);
	KUNIT_EXPECT_EQ(test, waiting(tt), i);
	KUNIT_EXPECT_NOT_NULL(test, tt->pool->unflushed.head);

	/* With its range. */
	flush = begin(tt, SZ_8M, SZ_1G);
	end(tt, &flush, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), i);
	flush = begin(tt, 0, SZ_1G);
	end(tt, &flush, true);
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);
}

/* Destruction releases what no flush has, and after it nothing needs the pool. */
static void test_ticket_destroy(struct kunit *test)
{
	struct test_table *tt = test_table(test, &user_flushes);
	struct io_pgtable_flush flush;
	unsigned int i;

	for (i = 0; i < 3; i++)
		retire(tt, table_alloc(tt), i * SZ_2M, SZ_2M);
	flush = begin(tt, 0, SZ_2M);
	end(tt, &flush, true);
	flush = begin(tt, SZ_2M, SZ_2M);
	end(tt, &flush, false);
	iopte_pool_destroy(tt->pool);
	tt->pool = NULL;
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);
}

/* With tlb_flush_walk there is nothing for tickets to do. */
static void test_ticket_none(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct io_pgtable_flush flush;

	KUNIT_EXPECT_FALSE(test, tt->pool->user_flush);
	retire(tt, table_alloc(tt), 0, SZ_2M);
	KUNIT_EXPECT_EQ(test, waiting(tt), 0);
	flush = begin(tt, 0, SZ_2M);
	KUNIT_EXPECT_NULL(test, flush.tables);
	end(tt, &flush, true);
}

/* A pool of which one table is walked, and as many left in their grace period. */
static void test_destroy_in_grace_period(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned long flags;
	unsigned int inside;
	void **tables;

	tables = tables_alloc(tt, 3);
	flags = reader_enter();
	retire(tt, tables[0], 0, SZ_2M);
	retire(tt, tables[1], SZ_2M, SZ_2M);
	iopte_free(tt->pool, tables[2]);
	iopte_pool_destroy(tt->pool);
	inside = READ_ONCE(tt->mem->live);
	reader_leave(flags);
	tt->pool = NULL;
	KUNIT_EXPECT_GE(test, inside, 1);
	KUNIT_EXPECT_LE(test, inside, 2);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, tt->mem->live, 0);
}

static struct kunit_case iopte_page_cases[] = {
	KUNIT_CASE(test_layout),
	KUNIT_CASE_PARAM(test_words, all_gen_params),
	KUNIT_CASE_PARAM(test_alloc_free, all_gen_params),
	KUNIT_CASE_PARAM(test_root, all_gen_params),
	KUNIT_CASE_PARAM(test_retire, all_gen_params),
	KUNIT_CASE_PARAM(test_retire_reader, counting_gen_params),
	KUNIT_CASE_PARAM(test_batch, counting_gen_params),
	KUNIT_CASE_PARAM(test_free_list, all_gen_params),
	KUNIT_CASE_PARAM(test_request, counting_gen_params),
	KUNIT_CASE_PARAM(test_split, counting_gen_params),
	KUNIT_CASE_PARAM(test_split_descriptors, counting_gen_params),
	KUNIT_CASE_PARAM(test_wrong_free, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_range, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_wrap, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_retire, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_order, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_overlap, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_failed, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_destroy, counting_gen_params),
	KUNIT_CASE_PARAM(test_ticket_none, counting_gen_params),
	KUNIT_CASE_PARAM(test_destroy_in_grace_period, counting_gen_params),
	{}
};

static struct kunit_suite iopte_page_suite = {
	.name = "iopte_page",
	.suite_init = iopte_test_suite_init,
	.init = iopte_test_init,
	.exit = iopte_test_exit,
	.test_cases = iopte_page_cases,
};

/*
 * Suite iopte_alloc: what allocators are promised, and stocks.
 */

static void test_create(struct kunit *test)
{
	struct iopte_allocator_ops ops;
	struct iopte_allocator *allocator;
	struct test_mem *mem = test_mem_create(test);

#define EXPECT_EINVAL(change, flags) do {				\
	ops = test_mem_share_ops;					\
	change;								\
	allocator = iopte_allocator_create(&ops, mem, flags);		\
	KUNIT_EXPECT_EQ(test, PTR_ERR_OR_ZERO(allocator), -EINVAL);	\
	iopte_allocator_destroy(allocator);				\
} while (0)
	EXPECT_EINVAL(ops.alloc = NULL, 0);
	EXPECT_EINVAL(ops.free = NULL, 0);
	EXPECT_EINVAL(ops.share = NULL, 0);
	EXPECT_EINVAL(ops.unshare = NULL, 0);
	EXPECT_EINVAL(, BIT(1));
	EXPECT_EINVAL(, IOPTE_FREE_SLEEPS | BIT(31));
#undef EXPECT_EINVAL
	KUNIT_EXPECT_FALSE(test, mem->released);
	iopte_allocator_destroy(NULL);

	allocator = iopte_allocator_create(&test_mem_ops, mem, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR(allocator));
	iopte_allocator_destroy(allocator);
	KUNIT_EXPECT_TRUE(test, mem->released);

	/* Release is optional. */
	ops = test_mem_ops;
	ops.release = NULL;
	allocator = iopte_allocator_create(&ops, mem, IOPTE_FREE_SLEEPS);
	KUNIT_ASSERT_FALSE(test, IS_ERR(allocator));
	iopte_allocator_destroy(allocator);
}

/* Every operation is called, each block once, in order. */
static void test_share(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct test_mem *mem = tt->mem;
	unsigned int i, blocks, n = 20 * tt->per_page;
	struct iopte_list list = {};
	void **tables, *root;

	tables = tables_alloc(tt, n);
	root = iopte_alloc_root(tt->pool, SZ_128K, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, root);
	blocks = n / tt->per_page + 1;
	KUNIT_EXPECT_EQ(test, mem->attempts, blocks);
	KUNIT_EXPECT_EQ(test, mem->allocated, blocks);
	KUNIT_EXPECT_EQ(test, mem->shares, blocks);
	KUNIT_EXPECT_EQ(test, mem->unshares, 0);
	for (i = 0; i < mem->live; i++)
		KUNIT_EXPECT_TRUE(test, mem->records[i].shared);

	/* The allocator counts as an error what it gets back too early. */
	iopte_free_root(tt->pool, root, SZ_128K);
	tables_list(tt, &list, tables, n / 2);
	iopte_retire(tt->pool, &list, 0, SZ_2M);
	tables_list(tt, &list, tables + n / 2, n - n / 2);
	iopte_free_list(tt->pool, &list);
	rcu_barrier();
	KUNIT_EXPECT_TRUE(test, all_freed(tt));
	KUNIT_EXPECT_EQ(test, mem->unshares, blocks);
	KUNIT_EXPECT_EQ(test, mem->freed, blocks);
}

/* A block that cannot be shared is no table, and not unshared. */
static void test_share_fails(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct iopte_stock stock = {};
	struct test_mem *mem = tt->mem;
	unsigned int n, shares;
	int ret;

	for (n = 0; n < 20; n++) {
		mem->shares = 0;
		mem->unshares = 0;
		mem->fail_share = n;
		ret = iopte_stock_fill(tt->pool, &stock, 20 * tt->per_page,
				       GFP_KERNEL);
		/* One of a bulk that cannot be shared is replaced. */
		if (ret)
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		else
			iopte_stock_empty(tt->pool, &stock);
		KUNIT_EXPECT_NULL(test, stock.tables);
		shares = mem->shares;
		KUNIT_EXPECT_GT(test, shares, n);
		KUNIT_EXPECT_TRUE(test, all_freed(tt));
		KUNIT_EXPECT_EQ(test, mem->unshares, shares - 1);
	}

	mem->shares = 0;
	mem->fail_share = 0;
	KUNIT_EXPECT_NULL(test, iopte_alloc(tt->pool, GFP_KERNEL));
	mem->shares = 0;
	KUNIT_EXPECT_NULL(test, iopte_alloc_root(tt->pool, SZ_128K, GFP_KERNEL));
	KUNIT_EXPECT_TRUE(test, all_freed(tt));
}

/* A block that cannot be unshared is not given back. */
static void test_unshare_fails(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct test_mem *mem = tt->mem;
	unsigned int n = 5 * tt->per_page;
	struct iopte_list list = {};
	void **tables;

	tables = tables_alloc(tt, n);
	mem->fail_unshare = 2;
	tables_list(tt, &list, tables, n);
	expect_splat_begin("iopte: a table cannot be unshared, its memory is lost");
	iopte_free_list(tt->pool, &list);
	KUNIT_EXPECT_TRUE(test, all_freed(tt));
	expect_splat_end();
	KUNIT_EXPECT_NOT_NULL(test, mem->lost.page);
	KUNIT_EXPECT_EQ(test, mem->unshares, 5);
	KUNIT_EXPECT_EQ(test, mem->freed, 4);
}

/* Memory above the limit is not used, and goes back without being shared. */
static void test_limit(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct iopte_stock stock = {};
	struct test_mem *mem = tt->mem;

	/* No block fits below, whatever zone the default allocator tries. */
	tt->pool->req.addr_bits = 10;
	KUNIT_EXPECT_NULL(test, iopte_alloc(tt->pool, GFP_KERNEL));
	KUNIT_EXPECT_NULL(test, iopte_alloc_root(tt->pool, SZ_128K, GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, iopte_stock_fill(tt->pool, &stock, 3, GFP_KERNEL),
			-ENOMEM);
	KUNIT_EXPECT_NULL(test, stock.tables);
	KUNIT_EXPECT_EQ(test, mem->req.addr_bits, 10);
	KUNIT_EXPECT_GE(test, mem->allocated, 3);
	KUNIT_EXPECT_EQ(test, mem->shares, 0);
	KUNIT_EXPECT_TRUE(test, all_freed(tt));
}

/* The default allocator honours the limit where the mm has a zone for it. */
static void test_default_limit(struct kunit *test)
{
	struct iopte_request req = { .nid = NUMA_NO_NODE, .addr_bits = 32 };
	struct page *pages[4] = {};
	unsigned int i, got;

	if (!IS_ENABLED(CONFIG_ZONE_DMA32))
		kunit_skip(test, "no zone below 4G");
	got = iopte_default_ops.alloc(NULL, &req, GFP_KERNEL | __GFP_ZERO, pages, 4);
	KUNIT_EXPECT_EQ(test, got, 4);
	for (i = 0; i < got; i++)
		KUNIT_EXPECT_LT(test, (u64)page_to_phys(pages[i]), BIT_ULL(32));
	iopte_default_ops.free(NULL, pages, got, 0);
}

/* The default allocator's bulks are counted page by page. */
static void test_default_bulk(struct kunit *test)
{
	struct iopte_request req = {
		.nid = NUMA_NO_NODE,
		.addr_bits = BITS_PER_TYPE(phys_addr_t),
	};
	struct test_table *tt = test->priv;
	unsigned int i, got, order;

	for (order = 0; order < 3; order++) {
		struct page *pages[16] = {};

		req.order = order;
		got = iopte_default_ops.alloc(NULL, &req, GFP_KERNEL_ACCOUNT | __GFP_ZERO,
					      pages, ARRAY_SIZE(pages));
		KUNIT_EXPECT_EQ(test, got, ARRAY_SIZE(pages));
		KUNIT_EXPECT_EQ(test, pages_in_use(tt), (long)got << order);
		KUNIT_EXPECT_EQ(test, secondary_in_use(tt), (long)got << order);
		for (i = 0; i < got; i++) {
			KUNIT_EXPECT_EQ(test, compound_order(pages[i]), order);
			KUNIT_EXPECT_NULL(test, memchr_inv(page_address(pages[i]),
							   0, PAGE_SIZE << order));
		}
		iopte_default_ops.free(NULL, pages, got, order);
		KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);
	}
}

/* Destruction waits for grace periods and work items, and then releases. */
static void test_destroy_waits(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct test_mem *mem = tt->mem;
	struct iopte_list list = {};
	unsigned int n = 300;
	void **tables;

	tables = tables_alloc(tt, n);
	tables_list(tt, &list, tables, n);
	iopte_retire(tt->pool, &list, 0, SZ_1G);
	iopte_pool_destroy(tt->pool);
	tt->pool = NULL;
	KUNIT_EXPECT_FALSE(test, mem->released);
	iopte_allocator_destroy(tt->allocator);
	tt->allocator = NULL;
	KUNIT_EXPECT_TRUE(test, mem->released);
	KUNIT_EXPECT_EQ(test, mem->live, 0);
	KUNIT_EXPECT_EQ(test, mem->freed, mem->allocated);
}

/* Every allocation fails in turn: an error, and nothing lost. */
static void test_alloc_fails(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned int n = 3 * tt->per_page, i, j, failures = 0, attempts;
	struct test_mem *mem = tt->mem;
	struct iopte_list list = {};
	void *table;

	for (i = 0; ; i++) {
		mem->attempts = 0;
		mem->failed = 0;
		mem->fail_from = i;
		for (j = 0; j < n; j++) {
			table = iopte_alloc(tt->pool, GFP_KERNEL);
			if (!table)
				break;
			iopte_list_add(tt->pool, &list, table);
		}
		KUNIT_EXPECT_EQ(test, mem->failed, j < n);
		KUNIT_EXPECT_EQ(test, mem->attempts, mem->live + mem->failed);
		failures += mem->failed;
		attempts = mem->attempts;
		iopte_free_list(tt->pool, &list);
		KUNIT_EXPECT_TRUE(test, all_freed(tt));
		if (j == n || i > n)
			break;
	}
	/* As many failures as a run without any makes attempts. */
	KUNIT_EXPECT_EQ(test, failures, attempts);
	KUNIT_EXPECT_EQ(test, attempts, 3);

	mem->attempts = 0;
	mem->fail_from = 0;
	KUNIT_EXPECT_NULL(test, iopte_alloc_root(tt->pool, SZ_128K, GFP_KERNEL));
	KUNIT_EXPECT_EQ(test, mem->attempts, 1);
}

/* A stock gives what it has, zeroed, then nothing, and allocates nothing itself. */
static void test_stock(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	struct iopte_stock stock = {};
	struct test_mem *mem = tt->mem;
	unsigned int i, n = 20, attempts;
	struct iopte_list list = {};
	struct iopte_page *desc;
	void *table;

	KUNIT_ASSERT_EQ(test, iopte_stock_fill(tt->pool, &stock, 0, GFP_KERNEL), 0);
	KUNIT_EXPECT_NULL(test, stock.tables);
	KUNIT_ASSERT_EQ(test, iopte_stock_fill(tt->pool, &stock, n, GFP_KERNEL), 0);
	attempts = mem->attempts;
	KUNIT_EXPECT_EQ(test, attempts, DIV_ROUND_UP(n, tt->per_page));
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), table_pages(tt, n));

	for (i = 0; i < n; i++) {
		desc = iopte_stock_pop(&stock);
		KUNIT_ASSERT_NOT_NULL(test, desc);
		table = iopte_address(tt->pool, desc);
		KUNIT_EXPECT_NULL(test, memchr_inv(table, 0, tt->param.size));
		memset(table, 0xff, tt->param.size);
		iopte_list_add(tt->pool, &list, table);
	}
	KUNIT_EXPECT_NULL(test, iopte_stock_pop(&stock));
	KUNIT_EXPECT_EQ(test, mem->attempts, attempts);
	iopte_free_list(tt->pool, &list);

	/* Emptied when it was never used, too. */
	KUNIT_ASSERT_EQ(test, iopte_stock_fill(tt->pool, &stock, n, GFP_KERNEL), 0);
	iopte_stock_empty(tt->pool, &stock);
	KUNIT_EXPECT_NULL(test, stock.tables);
	iopte_stock_empty(tt->pool, &stock);
	KUNIT_EXPECT_TRUE(test, all_freed(tt));
}

/* Every allocation of a stock fails in turn: an error, and nothing lost. */
static void test_stock_fails(struct kunit *test)
{
	struct test_table *tt = test_table(test, &io_pgtable_flushes);
	unsigned int n = 20 * tt->per_page, i, failures = 0;
	struct iopte_stock stock = {};
	struct test_mem *mem = tt->mem;
	int ret;

	for (i = 0; i <= n; i++) {
		mem->attempts = 0;
		mem->fail_from = i;
		ret = iopte_stock_fill(tt->pool, &stock, n, GFP_KERNEL);
		if (!ret)
			break;
		failures++;
		KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
		KUNIT_EXPECT_NULL(test, stock.tables);
		KUNIT_EXPECT_TRUE(test, all_freed(tt));
		KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, failures, mem->attempts);
	KUNIT_EXPECT_EQ(test, failures, 20);
	iopte_stock_empty(tt->pool, &stock);
}

/*
 * The caching allocator.
 */

static const struct test_param cache_param = {
	PAGE_SIZE, CACHE, true,
};

static struct test_table *test_cache(struct kunit *test)
{
	struct test_table *tt = test_table_param(test, &cache_param,
						 &io_pgtable_flushes);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, tt->allocator);
	return tt;
}

/* Keeps the last pages up to its limit of 8, and serves them first. */
static void test_cache_keeps(struct kunit *test)
{
	struct test_table *tt = test_cache(test);
	unsigned int i, j, kept = 0, n = 12;
	unsigned long pfns[12];
	void **tables;

	tables = tables_alloc(tt, n);
	for (i = 0; i < n; i++) {
		pfns[i] = page_to_pfn(virt_to_page(tables[i]));
		memset(tables[i], 0xff, PAGE_SIZE);
		get_page(virt_to_page(tables[i]));
	}
	for (i = 0; i < n; i++)
		iopte_free(tt->pool, tables[i]);

	/* A page that the cache keeps is the mm's in every way but one. */
	for (i = 0; i < n; i++) {
		struct page *page = pfn_to_page(pfns[i]);

		kept += page_ref_count(page) == 2;
		KUNIT_EXPECT_NULL(test, page->mapping);
	}
	KUNIT_EXPECT_EQ(test, kept, 8);
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), 0);

	tables = tables_alloc(tt, 8);
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), 8);
	for (i = 0; i < 8; i++) {
		unsigned long pfn = page_to_pfn(virt_to_page(tables[i]));

		for (j = 0; j < n && pfns[j] != pfn; j++)
			;
		KUNIT_EXPECT_LT_MSG(test, j, n, "not from the cache");
		KUNIT_EXPECT_NULL(test, memchr_inv(tables[i], 0, PAGE_SIZE));
	}
	for (i = 0; i < n; i++)
		put_page(pfn_to_page(pfns[i]));
	for (i = 0; i < 8; i++)
		iopte_free(tt->pool, tables[i]);
}

/* Blocks of several pages and requests with a limit pass through. */
static void test_cache_bypass(struct kunit *test)
{
	struct test_table *tt = test_cache(test);
	unsigned long pfn;
	struct page *page;
	void *table;
	bool kept;

	table = iopte_alloc_root(tt->pool, 4 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, table);
	KUNIT_EXPECT_EQ(test, pages_in_use(tt), 4);
	page = virt_to_page(table);
	get_page(page);
	iopte_free_root(tt->pool, table, 4 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	put_page(page);

	table = table_alloc(tt);
	pfn = page_to_pfn(virt_to_page(table));
	get_page(pfn_to_page(pfn));
	iopte_free(tt->pool, table);
	kept = page_ref_count(pfn_to_page(pfn)) == 2;
	KUNIT_EXPECT_TRUE(test, kept);
	tt->pool->req.addr_bits--;
	table = table_alloc(tt);
	KUNIT_EXPECT_NE(test, page_to_pfn(virt_to_page(table)), pfn);
	put_page(pfn_to_page(pfn));
	iopte_free(tt->pool, table);
}

/* A cache of another node neither serves nor keeps. */
static void test_cache_node(struct kunit *test)
{
	struct test_table *tt = test->priv;
	struct iopte_allocator *allocator;
	struct io_pgtable_cfg cfg = {
		.coherent_walk = true,
		.tlb = &io_pgtable_flushes,
	};
	struct iopte_pool *pool;
	struct page *page;
	void *table;

	allocator = iopte_cache_create(MAX_NUMNODES, 8);
	KUNIT_ASSERT_FALSE(test, IS_ERR(allocator));
	tt->allocator = allocator;
	cfg.allocator = allocator;
	pool = iopte_pool_create(&cfg, PAGE_SIZE, BITS_PER_TYPE(phys_addr_t));
	KUNIT_ASSERT_NOT_NULL(test, pool);
	tt->pool = pool;

	table = iopte_alloc(pool, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, table);
	page = virt_to_page(table);
	get_page(page);
	iopte_free(pool, table);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	put_page(page);
}

/* Memory pressure takes all that is kept. */
static void test_cache_shrink(struct kunit *test)
{
	struct test_table *tt = test_cache(test);
	unsigned int i, n = 8, kept = 0, left = 0;
	struct page *pages[8];
	void **tables;

	tables = tables_alloc(tt, n);
	for (i = 0; i < n; i++) {
		pages[i] = virt_to_page(tables[i]);
		get_page(pages[i]);
	}
	for (i = 0; i < n; i++)
		iopte_free(tt->pool, tables[i]);
	for (i = 0; i < n; i++)
		kept += page_ref_count(pages[i]) == 2;
	drop_slab();
	for (i = 0; i < n; i++) {
		left += page_ref_count(pages[i]) == 2;
		put_page(pages[i]);
	}
	KUNIT_EXPECT_EQ(test, kept, n);
	KUNIT_EXPECT_EQ(test, left, 0);
}

/* So does destruction. */
static void test_cache_destroy(struct kunit *test)
{
	struct test_table *tt = test_cache(test);
	struct page *page;
	void *table;

	table = table_alloc(tt);
	page = virt_to_page(table);
	get_page(page);
	iopte_free(tt->pool, table);
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 2);
	iopte_pool_destroy(tt->pool);
	tt->pool = NULL;
	iopte_allocator_destroy(tt->allocator);
	tt->allocator = NULL;
	KUNIT_EXPECT_EQ(test, page_ref_count(page), 1);
	put_page(page);
}

static struct kunit_case iopte_alloc_cases[] = {
	KUNIT_CASE(test_create),
	KUNIT_CASE(test_default_bulk),
	KUNIT_CASE(test_default_limit),
	KUNIT_CASE_PARAM(test_share, sharing_gen_params),
	KUNIT_CASE_PARAM(test_share_fails, sharing_gen_params),
	KUNIT_CASE_PARAM(test_unshare_fails, sharing_gen_params),
	KUNIT_CASE_PARAM(test_limit, sharing_gen_params),
	KUNIT_CASE_PARAM(test_retire_reader, sharing_gen_params),
	KUNIT_CASE_PARAM(test_destroy_waits, sharing_gen_params),
	KUNIT_CASE_PARAM(test_alloc_fails, sharing_gen_params),
	KUNIT_CASE_PARAM(test_stock, counting_gen_params),
	KUNIT_CASE_PARAM(test_stock_fails, sharing_gen_params),
	KUNIT_CASE(test_cache_keeps),
	KUNIT_CASE(test_cache_bypass),
	KUNIT_CASE(test_cache_node),
	KUNIT_CASE(test_cache_shrink),
	KUNIT_CASE(test_cache_destroy),
	{}
};

static struct kunit_suite iopte_alloc_suite = {
	.name = "iopte_alloc",
	.suite_init = iopte_test_suite_init,
	.init = iopte_test_init,
	.exit = iopte_test_exit,
	.test_cases = iopte_alloc_cases,
};

kunit_test_suites(&iopte_page_suite, &iopte_alloc_suite);
