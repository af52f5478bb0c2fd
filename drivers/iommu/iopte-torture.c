// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit torture test of page tables that count: map, unmap, reserve, unreserve
 * and readers, all at once in one page table, for some seconds.
 *
 * The model
 *
 *   addresses    A group is what one table of blocks translates (1G with 4K
 *                pages); the groups lie so that they share and do not share
 *                tables of the levels above.  A slot is what one block, or one
 *                table of pages, translates.  Few slots of a group are used, and
 *                64 pages of each, so that tables come and go.  What an address
 *                may be mapped to depends on the address alone and on one bit,
 *                the variant, by which an old mapping is told from a new one.
 *
 *   owners       A slot belongs to one thread, or its pages to all of them in
 *                turns.  With page sizes of 1G there are groups that belong to
 *                one thread.  A thread maps and unmaps what it owns; by pages, by
 *                blocks, blocks over pages, and parts out of blocks.  It knows
 *                what is mapped there, and looks after each step.
 *
 *   ranges       Each thread reserves ranges anywhere, also of what others own,
 *                and gives them back, in the same pieces or in others.  Where a
 *                range covers what a thread maps or unmaps, the allocator refuses
 *                that thread everything, and must not even be asked; elsewhere it
 *                refuses now and then.  In a tidy round, and where the user
 *                flushes, threads map in their ranges only; in a tidy round they
 *                unmap before they unreserve, and no table may be left at the end.
 *
 *   walker       A model of the hardware walks at random.  It has a cache of
 *                the tables that it has come by, out of which only flushes take
 *                them, and no more than they say.  A table that is freed must
 *                not be there.  When a map or unmap is over, the walker, cache
 *                and all, has to find what is there now.
 *
 *   readers      One calls iova_to_phys at random and reads and clears what is
 *                dirty.  One stays inside a read section for up to a few
 *                milliseconds, with a table that it has found: it must not be
 *                freed meanwhile.
 *
 * The first error ends a round.  The seed makes each thread do the same again,
 * but not at the same time.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/hash.h>
#include <linux/io-pgtable.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

#define TR_THREADS	8
#define TR_GROUPS	(4 + 2 * TR_THREADS)
#define TR_SLOTS	(4 * 12 + 2 * TR_THREADS * 4)
#define TR_PAGES	64	/* the first 32 and the last 32 of a slot */
#define TR_RUN		32
#define TR_RANGES	8
#define TR_LEVELS	4
#define TR_CACHE	32	/* tables per level, a power of 2 */
#define TR_ROUND_MS	1000
#define TR_SHARED	-1

#define TR_PTE_RDONLY	BIT_ULL(7)
#define TR_PTE_DBM	BIT_ULL(51)

#define TR_4K		(SZ_4K | SZ_2M | SZ_1G)
#define TR_16K		(SZ_16K | SZ_32M)
#define TR_64K		(SZ_64K | SZ_512M)

static unsigned int tr_seconds = 2;
module_param_named(seconds, tr_seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "how long each case runs, at most 250");

static unsigned int tr_seed;
module_param_named(seed, tr_seed, uint, 0444);
MODULE_PARM_DESC(seed, "seed of the random numbers, 0 for a random one");

static unsigned int tr_threads;
module_param_named(threads, tr_threads, uint, 0444);
MODULE_PARM_DESC(threads, "threads that map, 2 to 8; 0: as there are CPUs, but 2 to 4");

struct tr_case {
	const char *name;
	enum io_pgtable_fmt fmt;
	u64 pgsizes;
	unsigned int ias;
	unsigned int oas;
	unsigned long quirks;
	bool not_coherent;
	bool user_flush;
};

static const struct tr_case tr_cases[] = {
	{ "64_s1 4K ias 48", ARM_64_LPAE_S1, TR_4K, 48, 48,
	  IO_PGTABLE_QUIRK_ARM_HD },
	{ "64_s1 16K ias 48", ARM_64_LPAE_S1, TR_16K, 48, 48 },
	{ "64_s1 64K ias 48", ARM_64_LPAE_S1, TR_64K, 48, 48,
	  IO_PGTABLE_QUIRK_ARM_HD },
	{ "64_s2 4K ias 40 concatenated", ARM_64_LPAE_S2, TR_4K, 40, 40 },
	{ "mali ias 48", ARM_MALI_LPAE, TR_4K, 48, 40 },
	{ "64_s1 4K ias 48 not coherent", ARM_64_LPAE_S1, TR_4K, 48, 48,
	  .not_coherent = true },
	{ "64_s1 4K ias 48, user flushes", ARM_64_LPAE_S1, TR_4K, 48, 48,
	  .user_flush = true },
	{ "mali ias 48, user flushes", ARM_MALI_LPAE, TR_4K, 48, 40,
	  .user_flush = true },
};

enum tr_error {
	TR_MAP,		/* a map failed or mapped too little */
	TR_UNMAP,
	TR_RESERVE,
	TR_ASKED,	/* memory was asked for where a range is reserved */
	TR_TRANSLATE,	/* iova_to_phys differs from the model */
	TR_WALK,	/* the tables differ from it */
	TR_CACHED,	/* the walker does not find what is mapped, or finds more */
	TR_READER,	/* a translation that never was */
	TR_BROKEN,	/* an entry that is none */
	TR_LOST,	/* an entry leads to what is not the allocator's */
	TR_STALE,	/* a freed table was in the walk cache */
	TR_EARLY,	/* a table was freed under a reader */
	TR_UNKNOWN,	/* a block was freed twice, or was never allocated */
	TR_LEAK,	/* tables were left over */
	TR_ERRORS
};

static const char * const tr_error_name[TR_ERRORS] = {
	"map", "unmap", "reserve", "asked for memory", "iova_to_phys", "walk",
	"walk through the cache", "reader", "broken entry", "lost", "stale",
	"freed early", "unknown", "leak",
};

struct tr_group {
	u64 iova;
	int owner;
};

struct tr_slot {
	u64 iova;
	unsigned int group;
	int owner;
	bool pairs;	/* shared by pairs of pages, not by single ones */
};

/* What a thread has mapped in a slot. */
struct tr_slot_state {
	u64 mapped;	/* of the pages in use */
	u64 variant;
	bool rest;	/* whether those not in use are mapped, too */
	bool rest_variant;
	bool block;	/* by a block, of this level or above */
	bool parked;	/* a table was parked, as far as one can tell */
};

/* In a group that is its own. */
struct tr_group_state {
	bool block;
	bool rest;	/* of slots not in use */
	bool rest_variant;
};

struct tr_range {
	u64 iova;
	u64 size;
	u64 pgsize;
};

struct tr_thread {
	struct tr *tr;
	struct task_struct *task;
	unsigned int id;
	struct rnd_state rnd;

	/* the allocator looks at these, in the context of the thread */
	bool refuse;
	bool unlucky;
	unsigned int asked;
	unsigned int refused;

	unsigned int nr_own;
	unsigned int own[TR_SLOTS];
	struct tr_slot_state slot[TR_SLOTS];
	struct tr_group_state group[TR_GROUPS];
	unsigned int nr_ranges;
	struct tr_range range[TR_RANGES];

	unsigned long steps;
	unsigned long maps;
	unsigned long sure;	/* maps and unmaps that needed no memory */
	unsigned long unmaps;
	unsigned long reserves;
	unsigned long failed;
	unsigned long parked;
	unsigned long taken;
};

struct tr_cached {
	u64 prefix;
	u64 table;
};

struct tr {
	struct kunit *test;
	const struct tr_case *c;
	struct io_pgtable_cfg cfg;
	struct io_pgtable_ops *ops;
	struct device *dev;
	unsigned int round;
	bool tidy;
	bool stop;
	atomic_t error[TR_ERRORS];
	atomic_t errors;

	/* the shape of the tree, as the walker knows it */
	unsigned int page;	/* log2 of the page size */
	unsigned int block;	/* of a slot */
	unsigned int big;	/* of a group */
	bool has_big;		/* whether that is a page size */
	u64 root;
	unsigned int levels;
	unsigned int shift[TR_LEVELS];
	unsigned int bits[TR_LEVELS];

	unsigned int nr_groups;
	unsigned int nr_slots;
	unsigned int nr_shared;
	struct tr_group group[TR_GROUPS];
	struct tr_slot slot[TR_SLOTS];
	unsigned int shared[TR_SLOTS];

	struct iopte_allocator *allocator;
	struct xarray blocks;	/* pfn to order, of every page */
	atomic_t live;
	atomic_t freed;
	atomic_t dawdles;
	unsigned long hazard;	/* pfn of a table that a reader has */

	spinlock_t lock;	/* protects the walk cache */
	struct tr_cached cache[TR_LEVELS][TR_CACHE];

	unsigned long looks;
	unsigned long walks;
	unsigned long sits;
	unsigned int nr_threads;
	struct tr_thread thread[TR_THREADS];
};

static __printf(3, 4) void tr_fail(struct tr *tr, enum tr_error what,
				   const char *fmt, ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args;

	atomic_inc(&tr->error[what]);
	WRITE_ONCE(tr->stop, true);
	if (atomic_inc_return(&tr->errors) > 8)
		return;
	va_start(args, fmt);
	vaf.va = &args;
	pr_err("iopte_torture: %s: %s: %pV", tr->c->name, tr_error_name[what], &vaf);
	va_end(args);
}

static bool tr_failed(struct tr *tr)
{
	return atomic_read(&tr->errors);
}

static u32 tr_rnd(struct tr_thread *t, u32 n)
{
	return prandom_u32_state(&t->rnd) % n;
}

/* Make what is between two steps of an operation last, now and then. */
static void tr_dawdle(struct tr *tr)
{
	u32 n = hash_32(atomic_inc_return(&tr->dawdles), 16);

	if (!(n & 7))
		udelay(n >> 3 & (n & 0x8000 ? 31 : 255));
}

/* Addresses */

static unsigned int tr_group_of(struct tr *tr, u64 iova)
{
	unsigned int g;

	for (g = 0; g < tr->nr_groups; g++) {
		if (tr->group[g].iova >> tr->big == iova >> tr->big)
			break;
	}
	return g;
}

static u64 tr_pa(struct tr *tr, u64 iova, bool variant)
{
	return ((2ULL * tr_group_of(tr, iova) + variant + 1) << tr->big) +
	       (iova & (BIT_ULL(tr->big) - 1));
}

static u64 tr_page_iova(struct tr *tr, unsigned int slot, unsigned int page)
{
	u64 n = page;

	if (page >= TR_RUN)
		n += BIT_ULL(tr->block - tr->page) - TR_PAGES;
	return tr->slot[slot].iova + (n << tr->page);
}

/* The pages of a slot that belong to a thread. */
static u64 tr_mine(struct tr_thread *t, unsigned int slot)
{
	const struct tr_slot *s = &t->tr->slot[slot];
	unsigned int i, n = t->tr->nr_threads;
	u64 mine = 0;

	if (s->owner != TR_SHARED)
		return s->owner == t->id ? ~0ULL : 0;
	for (i = 0; i < TR_PAGES; i++) {
		if ((s->pairs ? i / 2 : i) % n == t->id)
			mine |= BIT_ULL(i);
	}
	return mine;
}

static void tr_add_slot(struct tr *tr, unsigned int group, u64 nr, int owner,
			bool pairs)
{
	if (owner == TR_SHARED)
		tr->shared[tr->nr_shared++] = tr->nr_slots;
	tr->slot[tr->nr_slots++] = (struct tr_slot){
		.iova	= tr->group[group].iova + (nr << tr->block),
		.group	= group,
		.owner	= owner,
		.pairs	= pairs,
	};
}

static void tr_add_group(struct tr *tr, u64 nr, int owner)
{
	unsigned int g = tr->nr_groups++, i;
	u64 n = BIT_ULL(tr->big - tr->block);

	tr->group[g] = (struct tr_group){ nr << tr->big, owner };
	if (owner != TR_SHARED) {
		tr_add_slot(tr, g, 0, owner, false);
		tr_add_slot(tr, g, 1, owner, false);
		tr_add_slot(tr, g, n - 2, owner, false);
		tr_add_slot(tr, g, n - 1, owner, false);
		return;
	}
	/* Between slots of all are pairs of one's own */
	for (i = 0; i < 12; i++)
		tr_add_slot(tr, g, i < 6 ? i : n - 12 + i,
			    i % 3 ? (int)((i / 3 + g) % tr->nr_threads) : TR_SHARED,
			    i & 1);
}

static void tr_layout(struct tr *tr)
{
	u64 total = BIT_ULL(tr->c->ias - tr->big);
	u64 n = BIT_ULL(tr->big - tr->block);
	unsigned int i;

	tr_add_group(tr, 0, TR_SHARED);
	if (total <= n) {
		tr_add_group(tr, 1, TR_SHARED);
		tr_add_group(tr, total - 2, TR_SHARED);
		tr_add_group(tr, total - 1, TR_SHARED);
		return;
	}
	tr_add_group(tr, n - 1, TR_SHARED);
	tr_add_group(tr, n, TR_SHARED);
	for (i = 0; tr->has_big && i < tr->nr_threads; i++) {
		tr_add_group(tr, 1 + i, i);
		tr_add_group(tr, n + 1 + i, i);
	}
}

/* The walker */

static void tr_geometry(struct tr *tr)
{
	unsigned int stride = tr->page - 3, ias = tr->c->ias, l, sl;

	switch (tr->c->fmt) {
	case ARM_64_LPAE_S1:
		tr->root = tr->cfg.arm_lpae_s1_cfg.ttbr;
		ias = 64 - tr->cfg.arm_lpae_s1_cfg.tcr.tsz;
		tr->levels = DIV_ROUND_UP(ias - tr->page, stride);
		break;
	case ARM_64_LPAE_S2:
		tr->root = tr->cfg.arm_lpae_s2_cfg.vttbr;
		ias = 64 - tr->cfg.arm_lpae_s2_cfg.vtcr.tsz;
		sl = tr->cfg.arm_lpae_s2_cfg.vtcr.sl;
		/* VTCR.SL0 counts from another level with 4K */
		tr->levels = 4 - (tr->page == 12 ? 2 - sl : 3 - sl);
		break;
	default:
		tr->root = tr->cfg.arm_mali_lpae_cfg.transtab & GENMASK_ULL(47, 5);
		tr->levels = 4;
		break;
	}

	for (l = 0; l < tr->levels; l++) {
		tr->shift[l] = tr->page + stride * (tr->levels - 1 - l);
		tr->bits[l] = stride;
	}
	tr->bits[0] = ias - tr->shift[0];
}

static struct tr_cached *tr_cached(struct tr *tr, unsigned int level, u64 prefix)
{
	return &tr->cache[level][prefix & (TR_CACHE - 1)];
}

/*
 * Walk as the hardware does.  With @cache: from the lowest table that is cached,
 * and what it comes by is cached; the leaf entry is made dirty.  Returns where
 * the address leads to, or 0.
 */
static u64 __tr_walk(struct tr *tr, u64 iova, bool cache)
{
	unsigned int granule = tr->page, level = 0, l;
	u64 table = tr->root, pte, *ptep, pa;
	struct tr_cached *c;
	bool last, leaf;

	for (l = tr->levels - 1; cache && l; l--) {
		c = tr_cached(tr, l, iova >> tr->shift[l - 1]);
		if (c->table && c->prefix == iova >> tr->shift[l - 1]) {
			table = c->table;
			level = l;
			break;
		}
	}

	for (;; level++) {
		if (!xa_load(&tr->blocks, PHYS_PFN(table))) {
			tr_fail(tr, TR_LOST, "table %llx of level %u, iova %llx\n",
				table, level, iova);
			return 0;
		}
		ptep = phys_to_virt(table);
		ptep += (iova >> tr->shift[level]) & ((1U << tr->bits[level]) - 1);
		pte = READ_ONCE(*ptep);
		if (!pte)
			return 0;

		last = level == tr->levels - 1;
		leaf = !(pte & 2);
		if (last)
			leaf = !leaf == (tr->c->fmt != ARM_MALI_LPAE);
		if (!(pte & 1) || (last && !leaf)) {
			tr_fail(tr, TR_BROKEN, "%llx in level %u, iova %llx\n",
				pte, level, iova);
			return 0;
		}
		pa = pte & GENMASK_ULL(47, granule);
		if (leaf)
			break;
		table = pa;
		if (cache) {
			c = tr_cached(tr, level + 1, iova >> tr->shift[level]);
			*c = (struct tr_cached){ iova >> tr->shift[level], table };
		}
	}

	if (cache && tr->c->quirks & IO_PGTABLE_QUIRK_ARM_HD &&
	    pte & TR_PTE_DBM && pte & TR_PTE_RDONLY)
		cmpxchg64(ptep, pte, pte & ~TR_PTE_RDONLY);

	return (pa & ~(BIT_ULL(tr->shift[level]) - 1)) |
	       (iova & (BIT_ULL(tr->shift[level]) - 1));
}

static u64 tr_walk(struct tr *tr, u64 iova, bool cache)
{
	unsigned long flags;
	u64 pa;

	/* The tables that it comes by stay meanwhile, or are a mistake to find */
	guard(rcu)();
	if (!cache)
		return __tr_walk(tr, iova, false);

	spin_lock_irqsave(&tr->lock, flags);
	pa = __tr_walk(tr, iova, true);
	spin_unlock_irqrestore(&tr->lock, flags);
	return pa;
}

/*
 * Forget tables: as an SMMU those that an address in the range, in steps of
 * @granule, is translated by; as a GPU, which locks a region and has no @granule,
 * those that translate nothing outside of the range.
 */
static void tr_forget(struct tr *tr, u64 iova, u64 size, u64 granule)
{
	unsigned long flags;
	unsigned int l, i;

	spin_lock_irqsave(&tr->lock, flags);
	for (l = 1; l < tr->levels; l++) {
		u64 span = BIT_ULL(tr->shift[l - 1]);

		for (i = 0; i < TR_CACHE; i++) {
			struct tr_cached *c = &tr->cache[l][i];
			u64 start = c->prefix * span, at = iova;
			bool hit;

			if (granule && start > iova)
				at += ALIGN(start - iova, granule);
			if (granule)
				hit = at >= start && at < start + span &&
				      at < iova + size;
			else
				hit = start >= iova && start + span <= iova + size;
			if (hit)
				c->table = 0;
		}
	}
	spin_unlock_irqrestore(&tr->lock, flags);
}

static void tr_flush_all(void *cookie)
{
	struct tr *tr = cookie;

	tr_dawdle(tr);
	tr_forget(tr, 0, BIT_ULL(tr->c->ias), 0);
}

static void tr_flush_walk(unsigned long iova, size_t size, size_t granule,
			  void *cookie)
{
	tr_dawdle(cookie);
	tr_forget(cookie, iova, size, granule);
}

static int tr_flush_sweep(unsigned long iova, size_t size, void *cookie)
{
	struct tr *tr = cookie;

	might_sleep();
	tr_dawdle(tr);
	tr_forget(tr, iova, size, 0);
	return 0;
}

static const struct iommu_flush_ops tr_tlb_ops = {
	.tlb_flush_all	= tr_flush_all,
	.tlb_flush_walk	= tr_flush_walk,
};

static const struct iommu_flush_ops tr_user_tlb_ops = {
	.tlb_flush_all	= tr_flush_all,
	.tlb_flush_sweep = tr_flush_sweep,
};

static void tr_user_flush(struct tr *tr, u64 iova, u64 size)
{
	struct io_pgtable_flush ticket;

	if (!tr->c->user_flush)
		return;
	ticket = io_pgtable_flush_begin(tr->ops, iova, size);
	tr_dawdle(tr);
	tr_forget(tr, iova, size, 0);
	io_pgtable_flush_end(tr->ops, &ticket, true);
}

/* The allocator */

static void tr_record(struct tr *tr, struct page *page, unsigned int order, bool add)
{
	unsigned long pfn = page_to_pfn(page), i, flags;
	void *entry = add ? xa_mk_value(order) : NULL, *old;

	xa_lock_irqsave(&tr->blocks, flags);
	for (i = 0; i < 1UL << order; i++) {
		old = __xa_store(&tr->blocks, pfn + i, entry, GFP_ATOMIC);
		if (old != (add ? NULL : xa_mk_value(order)))
			tr_fail(tr, TR_UNKNOWN, "pfn %lx\n", pfn + i);
	}
	xa_unlock_irqrestore(&tr->blocks, flags);
}

/* Whether this thread gets no memory now. */
static bool tr_refused(struct tr *tr)
{
	struct tr_thread *t;
	unsigned int i;

	for (i = 0; i < tr->nr_threads; i++) {
		t = &tr->thread[i];
		if (t->task != current)
			continue;
		t->asked++;
		if (!t->refuse && !(t->unlucky && !tr_rnd(t, 4)))
			return false;
		t->refused++;
		return true;
	}
	return false;
}

static unsigned int tr_alloc(void *cookie, const struct iopte_request *req,
			     gfp_t gfp, struct page **pages, unsigned int n)
{
	struct tr *tr = cookie;
	unsigned int i;

	if (req->order)
		gfp |= __GFP_COMP;
	tr_dawdle(tr);
	for (i = 0; i < n; i++) {
		if (tr_refused(tr))
			break;
		pages[i] = alloc_pages_node(req->nid, gfp, req->order);
		if (!pages[i])
			break;
		tr_record(tr, pages[i], req->order, true);
		atomic_inc(&tr->live);
	}
	return i;
}

static void tr_free_block(struct tr *tr, struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page), hazard, flags;
	unsigned int l, i;

	hazard = READ_ONCE(tr->hazard);
	if (hazard >= pfn && hazard - pfn < 1UL << order)
		tr_fail(tr, TR_EARLY, "pfn %lx\n", pfn);

	spin_lock_irqsave(&tr->lock, flags);
	for (l = 1; l < tr->levels; l++) {
		for (i = 0; i < TR_CACHE; i++) {
			struct tr_cached *c = &tr->cache[l][i];
			unsigned long table = PHYS_PFN(c->table);

			if (!c->table || table < pfn || table - pfn >= 1UL << order)
				continue;
			tr_fail(tr, TR_STALE, "pfn %lx, level %u, iova %llx\n",
				pfn, l, c->prefix << tr->shift[l - 1]);
			c->table = 0;
		}
	}
	tr_record(tr, page, order, false);
	spin_unlock_irqrestore(&tr->lock, flags);

	memset(page_address(page), 0x5a, PAGE_SIZE << order);
	__free_pages(page, order);
	atomic_dec(&tr->live);
	atomic_inc(&tr->freed);
}

static void tr_free(void *cookie, struct page **pages, unsigned int n,
		    unsigned int order)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		tr_free_block(cookie, pages[i], order);
}

static const struct iopte_allocator_ops tr_allocator_ops = {
	.alloc	= tr_alloc,
	.free	= tr_free,
};

/* Steps of a thread */

/* Whether maps and unmaps by this size need no memory there. */
static bool tr_covered(struct tr_thread *t, u64 iova, u64 size, u64 pgsize)
{
	unsigned int i;

	for (i = 0; i < t->nr_ranges; i++) {
		struct tr_range *r = &t->range[i];

		if (r->pgsize <= pgsize && r->iova <= iova &&
		    iova + size <= r->iova + r->size)
			return true;
	}
	return false;
}

static void tr_begin(struct tr_thread *t, bool sure)
{
	t->asked = 0;
	t->refused = 0;
	t->unlucky = !tr_rnd(t, 4);
	t->refuse = sure;
}

static void tr_end(struct tr_thread *t, const char *what, u64 iova, u64 size)
{
	if (t->refuse) {
		t->sure++;
		if (t->asked)
			tr_fail(t->tr, TR_ASKED, "%s of %llx+%llx, thread %u\n",
				what, iova, size, t->id);
	}
	t->refuse = false;
	t->unlucky = false;
}

static bool tr_map(struct tr_thread *t, u64 iova, u64 pgsize, unsigned int count,
		   bool variant)
{
	struct tr *tr = t->tr;
	u64 size = pgsize * count, pa = tr_pa(tr, iova, variant), at;
	bool sure = tr_covered(t, iova, size, pgsize);
	bool atomic = sure && tr_rnd(t, 2);
	unsigned long flags = 0;
	size_t mapped = 0;
	int ret;

	if (!sure && (tr->tidy || tr->c->user_flush))
		return false;

	tr_begin(t, sure);
	if (atomic)
		local_irq_save(flags);
	ret = tr->ops->map_pages(tr->ops, iova, pa, pgsize, count,
				 IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE,
				 atomic || tr_rnd(t, 2) ? GFP_ATOMIC : GFP_KERNEL,
				 &mapped);
	if (atomic)
		local_irq_restore(flags);
	t->maps++;
	tr_end(t, "map", iova, size);

	if (ret == -ENOMEM && t->refused && !sure && !mapped) {
		t->failed++;
		return false;
	}
	if (ret || mapped != size) {
		tr_fail(tr, TR_MAP, "%llx+%llx by %llx: %d, mapped %zx, %s, thread %u\n",
			iova, size, pgsize, ret, mapped,
			sure ? "reserved" : "not reserved", t->id);
		return false;
	}

	/* Pages have displaced no table, and no flush is waited for */
	at = iova + ((u64)tr_rnd(t, size >> tr->page) << tr->page);
	pa += at - iova;
	if (!tr->c->user_flush || pgsize == BIT_ULL(tr->page)) {
		u64 got = tr_walk(tr, at, true);

		if (got != pa)
			tr_fail(tr, TR_CACHED, "mapped %llx to %llx by %llx: %llx, thread %u\n",
				at, pa, pgsize, got, t->id);
	}
	tr_user_flush(tr, iova, size);
	return true;
}

static bool tr_unmap(struct tr_thread *t, u64 iova, u64 pgsize, unsigned int count)
{
	struct tr *tr = t->tr;
	u64 size = pgsize * count;
	bool sure = tr_covered(t, iova, size, pgsize);
	bool atomic = sure && tr_rnd(t, 2);
	unsigned long flags = 0;
	size_t got;

	tr_begin(t, sure);
	if (atomic)
		local_irq_save(flags);
	got = tr->ops->unmap_pages(tr->ops, iova, pgsize, count, NULL);
	if (atomic)
		local_irq_restore(flags);
	t->unmaps++;
	tr_end(t, "unmap", iova, size);

	if (!got && t->refused && !sure) {
		t->failed++;
		return false;
	}
	tr_user_flush(tr, iova, size);
	if (got != size) {
		tr_fail(tr, TR_UNMAP, "%llx+%llx by %llx: %zx, %s, thread %u\n",
			iova, size, pgsize, got,
			sure ? "reserved" : "not reserved", t->id);
		return false;
	}
	return true;
}

/* What the model says about a page; @page TR_PAGES: one that is not in use. */
static void tr_check_page(struct tr_thread *t, unsigned int slot, unsigned int page)
{
	struct tr_slot_state *s = &t->slot[slot];
	struct tr *tr = t->tr;
	u64 iova, want = 0, got;

	if (page < TR_PAGES) {
		iova = tr_page_iova(tr, slot, page);
		if (s->mapped & BIT_ULL(page))
			want = tr_pa(tr, iova, s->variant & BIT_ULL(page));
	} else {
		iova = tr->slot[slot].iova + BIT_ULL(tr->block - 1);
		if (s->rest)
			want = tr_pa(tr, iova, s->rest_variant);
	}

	got = tr->ops->iova_to_phys(tr->ops, iova);
	if (got != want)
		tr_fail(tr, TR_TRANSLATE, "%llx: %llx, not %llx, thread %u\n",
			iova, got, want, t->id);
	if (!tr->c->not_coherent) {
		got = tr_walk(tr, iova, false);
		if (got != want)
			tr_fail(tr, TR_WALK, "%llx: %llx, not %llx, thread %u\n",
				iova, got, want, t->id);
	}
	got = tr_walk(tr, iova, true);
	if (got != want)
		tr_fail(tr, TR_CACHED, "%llx: %llx, not %llx, thread %u\n", iova,
			got, want, t->id);
}

static void tr_check_slot(struct tr_thread *t, unsigned int slot, bool all)
{
	u64 mine = tr_mine(t, slot);
	unsigned int i;

	for (i = 0; i < TR_PAGES; i++) {
		if (mine & BIT_ULL(i) && (all || !tr_rnd(t, 32)))
			tr_check_page(t, slot, i);
	}
	if (mine == ~0ULL)
		tr_check_page(t, slot, TR_PAGES);
}

/* Where the threads meet, for some time: a slot that all share, or any. */
static unsigned int tr_hot_slot(struct tr *tr)
{
	u32 n = hash_32(jiffies / DIV_ROUND_UP(HZ, 20), 16);

	return n & 1 ? tr->shared[n / 2 % tr->nr_shared] : n / 2 % tr->nr_slots;
}

/* A slot of the thread's: that one, where it has reserved a range, or any. */
static unsigned int tr_pick_slot(struct tr_thread *t)
{
	unsigned int how = tr_rnd(t, 4), i, n;
	struct tr *tr = t->tr;
	struct tr_range *r;

	i = tr_hot_slot(tr);
	if (!how && tr_mine(t, i))
		return i;
	i = tr_rnd(t, t->nr_own);
	if (how == 1 || !t->nr_ranges)
		return t->own[i];
	r = &t->range[tr_rnd(t, t->nr_ranges)];
	for (n = 0; n < t->nr_own; n++, i = (i + 1) % t->nr_own) {
		u64 iova = tr->slot[t->own[i]].iova;

		if (iova < r->iova + r->size && r->iova < iova + BIT_ULL(tr->block))
			break;
	}
	return t->own[i];
}

/* Some pages of @set that follow one another; returns how many. */
static unsigned int tr_pick_pages(struct tr_thread *t, u64 set, unsigned int *first)
{
	unsigned int want = 1 + tr_rnd(t, tr_rnd(t, 4) ? 4 : TR_RUN), n, i;

	if (!set)
		return 0;
	i = tr_rnd(t, TR_PAGES);
	while (!(set & BIT_ULL(i)))
		i = (i + 1) % TR_PAGES;
	*first = i;
	for (n = 1; n < want; n++) {
		i++;
		if (i == TR_RUN || i == TR_PAGES || !(set & BIT_ULL(i)))
			break;
	}
	return n;
}

static u64 tr_page_mask(unsigned int first, unsigned int n)
{
	return GENMASK_ULL(first + n - 1, first);
}

static bool tr_step_map_pages(struct tr_thread *t, unsigned int slot)
{
	unsigned int first, n;
	struct tr_slot_state *s = &t->slot[slot];
	struct tr *tr = t->tr;
	u64 iova, pgsize = BIT_ULL(tr->page), mask;
	bool variant = tr_rnd(t, 2);

	n = tr_pick_pages(t, tr_mine(t, slot) & ~s->mapped, &first);
	if (!n)
		return false;
	iova = tr_page_iova(tr, slot, first);
	mask = tr_page_mask(first, n);
	if (!tr_map(t, iova, pgsize, n, variant))
		return false;

	if (s->parked && tr_covered(t, iova, pgsize * n, pgsize)) {
		s->parked = false;
		t->taken++;
	}
	s->mapped |= mask;
	s->variant = variant ? s->variant | mask : s->variant & ~mask;
	tr_check_slot(t, slot, false);
	return true;
}

/* A part of a slot or of a group goes: it is no block any more. */
static void tr_split(struct tr_thread *t, unsigned int slot, bool pages)
{
	struct tr_slot_state *s = &t->slot[slot];

	t->group[t->tr->slot[slot].group].block = false;
	if (s->block && pages) {
		s->block = false;
		if (s->parked)
			t->taken++;
		s->parked = false;
	}
}

static bool tr_step_unmap_pages(struct tr_thread *t, unsigned int slot)
{
	unsigned int first, n;
	struct tr_slot_state *s = &t->slot[slot];

	n = tr_pick_pages(t, tr_mine(t, slot) & s->mapped, &first);
	if (!n || !tr_unmap(t, tr_page_iova(t->tr, slot, first),
			    BIT_ULL(t->tr->page), n))
		return false;
	tr_split(t, slot, true);
	s->mapped &= ~tr_page_mask(first, n);
	tr_check_slot(t, slot, false);
	return true;
}

static void tr_set_slot(struct tr_thread *t, unsigned int slot, bool map,
			bool variant)
{
	struct tr_slot_state *s = &t->slot[slot];
	u64 iova = t->tr->slot[slot].iova, size = BIT_ULL(t->tr->block);

	if (!s->block && (s->mapped || s->rest) &&
	    tr_covered(t, iova, size, size)) {
		t->parked++;
		s->parked = true;
	}
	s->mapped = map ? ~0ULL : 0;
	s->variant = variant ? ~0ULL : 0;
	s->rest = map;
	s->rest_variant = variant;
	s->block = map;
}

static bool tr_has(const struct tr_slot_state *s)
{
	return s->mapped || s->rest;
}

/* Whether a block can be mapped, or unmapped, in a slot. */
static bool tr_block_fits(struct tr_thread *t, unsigned int slot, bool map)
{
	struct tr_slot_state *s = &t->slot[slot];

	if (slot >= t->tr->nr_slots || t->tr->slot[slot].owner != t->id)
		return false;
	if (!map)
		return tr_has(s);
	/* over something that is mapped only now and then */
	return !s->block && (!tr_has(s) || !tr_rnd(t, 4));
}

static bool tr_step_block(struct tr_thread *t, unsigned int slot, bool map)
{
	unsigned int n = 1, i;
	struct tr *tr = t->tr;
	u64 iova = tr->slot[slot].iova, size = BIT_ULL(tr->block);
	bool variant = tr_rnd(t, 2);

	if (!tr_block_fits(t, slot, map))
		return false;
	if (tr_rnd(t, 2) && tr_block_fits(t, slot + 1, map) &&
	    tr->slot[slot + 1].iova == iova + size)
		n = 2;
	if (!(map ? tr_map(t, iova, size, n, variant) : tr_unmap(t, iova, size, n)))
		return false;

	for (i = 0; i < n; i++) {
		if (!map)
			tr_split(t, slot + i, false);
		tr_set_slot(t, slot + i, map, variant);
		tr_check_slot(t, slot + i, false);
	}
	return true;
}

static bool tr_group_has(struct tr_thread *t, unsigned int group)
{
	unsigned int i;

	for (i = 0; i < t->tr->nr_slots; i++) {
		if (t->tr->slot[i].group == group && tr_has(&t->slot[i]))
			return true;
	}
	return t->group[group].rest;
}

static void tr_set_group(struct tr_thread *t, unsigned int group, bool map,
			 bool variant)
{
	struct tr_group_state *g = &t->group[group];
	unsigned int i;

	for (i = 0; i < t->tr->nr_slots; i++) {
		if (t->tr->slot[i].group == group)
			tr_set_slot(t, i, map, variant);
	}
	g->block = map;
	g->rest = map;
	g->rest_variant = variant;
}

static bool tr_step_big(struct tr_thread *t, unsigned int group, bool map)
{
	unsigned int i;
	struct tr_group_state *g = &t->group[group];
	struct tr *tr = t->tr;
	u64 iova = tr->group[group].iova, size = BIT_ULL(tr->big);
	bool variant = tr_rnd(t, 2), has;

	if (tr->group[group].owner != t->id)
		return false;
	has = tr_group_has(t, group);
	if (map) {
		if (g->block || (has && tr_rnd(t, 4)))
			return false;
		if (!tr_map(t, iova, size, 1, variant))
			return false;
	} else {
		if (!has || !tr_unmap(t, iova, size, 1))
			return false;
	}
	tr_set_group(t, group, map, variant);
	for (i = 0; i < tr->nr_slots; i++) {
		if (tr->slot[i].group == group)
			tr_check_slot(t, i, false);
	}
	return true;
}

/* Reservations */

static bool tr_pick_range(struct tr_thread *t, struct tr_range *r)
{
	unsigned int slot = tr_rnd(t, t->tr->nr_slots), group, a;
	struct tr *tr = t->tr;
	u64 page = BIT_ULL(tr->page), block = BIT_ULL(tr->block);
	u64 big = BIT_ULL(tr->big);

	if (tr_rnd(t, 2))
		slot = t->own[tr_rnd(t, t->nr_own)];
	group = tr->slot[slot].group;
	r->pgsize = tr_rnd(t, 2) ? page : block;

	switch (tr_rnd(t, 16)) {
	case 0 ... 3:		/* pages */
		a = tr_rnd(t, TR_PAGES);
		r->iova = tr_page_iova(tr, slot, a);
		r->size = page * (1 + tr_rnd(t, TR_RUN - a % TR_RUN));
		r->pgsize = page;
		break;
	case 4 ... 8:		/* slots */
		r->iova = tr->slot[slot].iova;
		r->size = block * (1 + tr_rnd(t, 2));
		break;
	case 9 ... 10:		/* more of them */
		r->iova = tr->slot[slot].iova;
		r->size = block * (1 + tr_rnd(t, 12));
		r->pgsize = block;
		break;
	case 11 ... 12:		/* slots of two groups */
		a = 1 + tr_rnd(t, 3);
		r->iova = tr->group[group].iova + big - a * block;
		r->size = block * (a + 1 + tr_rnd(t, 3));
		break;
	case 13:		/* a group, which is a loop of many steps */
		if (tr_rnd(t, block >> tr->page > 512 ? 32 : 8))
			return false;
		r->iova = tr->group[group].iova;
		r->size = big;
		r->pgsize = block;
		if (block >> tr->page <= 512 && !tr_rnd(t, 4))
			r->pgsize = page;
		break;
	default:		/* groups, which may be one, too */
		if (!tr->has_big || tr_rnd(t, 4))
			return false;
		r->iova = tr->group[group].iova;
		r->size = big * (1 + tr_rnd(t, 2));
		r->pgsize = big;
		break;
	}
	return r->iova + r->size <= BIT_ULL(tr->c->ias);
}

static bool tr_reserve(struct tr_thread *t, const struct tr_range *r)
{
	struct tr *tr = t->tr;
	int ret;

	tr_begin(t, false);
	ret = tr->ops->reserve(tr->ops, r->iova, r->size, r->pgsize, GFP_KERNEL);
	t->reserves++;
	tr_end(t, "reserve", r->iova, r->size);
	if (!ret)
		return true;
	if (ret == -ENOMEM && t->refused)
		t->failed++;
	else
		tr_fail(tr, TR_RESERVE, "%llx+%llx by %llx: %d, thread %u\n",
			r->iova, r->size, r->pgsize, ret, t->id);
	return false;
}

static bool tr_step_reserve(struct tr_thread *t)
{
	struct tr_range r;
	unsigned int i;

	if (t->nr_ranges == TR_RANGES || !tr_pick_range(t, &r) ||
	    !tr_reserve(t, &r))
		return false;

	for (i = 0; i < t->nr_ranges; i++) {
		struct tr_range *o = &t->range[i];

		if (o->pgsize == r.pgsize && o->iova + o->size == r.iova) {
			o->size += r.size;
			return true;
		}
	}
	t->range[t->nr_ranges++] = r;
	return true;
}

/* Whether the thread has anything mapped in a range. */
static bool tr_mapped_in(struct tr_thread *t, u64 iova, u64 size)
{
	struct tr *tr = t->tr;
	u64 page = BIT_ULL(tr->page), block = BIT_ULL(tr->block), at;
	unsigned int i, p;

	for (i = 0; i < tr->nr_slots; i++) {
		struct tr_slot_state *s = &t->slot[i];

		at = tr->slot[i].iova;
		if (at >= iova + size || at + block <= iova || !tr_has(s))
			continue;
		if (s->rest)
			return true;
		for (p = 0; p < TR_PAGES; p++) {
			at = tr_page_iova(tr, i, p);
			if (s->mapped & BIT_ULL(p) && at < iova + size &&
			    at + page > iova)
				return true;
		}
	}
	for (i = 0; i < tr->nr_groups; i++) {
		at = tr->group[i].iova;
		if (t->group[i].rest && at < iova + size &&
		    at + BIT_ULL(tr->big) > iova)
			return true;
	}
	return false;
}

static bool tr_step_unreserve(struct tr_thread *t)
{
	struct tr *tr = t->tr;
	struct tr_range *r, piece, tail;
	u64 n, a, b;

	if (!t->nr_ranges)
		return false;
	r = &t->range[tr_rnd(t, t->nr_ranges)];
	piece = *r;
	n = div64_u64(r->size, r->pgsize);
	if (n > 1 && t->nr_ranges < TR_RANGES && tr_rnd(t, 2)) {
		a = tr_rnd(t, n);
		b = 1 + tr_rnd(t, n - a);
		piece.iova += a * r->pgsize;
		piece.size = b * r->pgsize;
	}
	if (tr->tidy && tr_mapped_in(t, piece.iova, piece.size))
		return false;

	tail = (struct tr_range){
		.iova	= piece.iova + piece.size,
		.size	= r->iova + r->size - (piece.iova + piece.size),
		.pgsize	= r->pgsize,
	};
	r->size = piece.iova - r->iova;
	if (!r->size)
		*r = t->range[--t->nr_ranges];
	if (tail.size)
		t->range[t->nr_ranges++] = tail;
	tr->ops->unreserve(tr->ops, piece.iova, piece.size, piece.pgsize);
	return true;
}

/* Unmap what the thread has in a slot. */
static void tr_clear_slot(struct tr_thread *t, unsigned int slot)
{
	struct tr_slot_state *s = &t->slot[slot];
	struct tr *tr = t->tr;

	if (tr->slot[slot].owner == t->id && tr_has(s))
		tr_step_block(t, slot, false);
	while (tr->slot[slot].owner == TR_SHARED && s->mapped && !tr_failed(tr))
		tr_step_unmap_pages(t, slot);
}

/*
 * Reserve, map, unmap and unreserve where the others do so, too: that is where
 * tables come and go.
 */
static bool tr_step_meet(struct tr_thread *t)
{
	unsigned int slot = tr_hot_slot(t->tr), n;
	bool mine = tr_mine(t, slot), need, reserved;
	struct tr *tr = t->tr;
	struct tr_range r;

	need = !mine || tr->tidy || tr->c->user_flush;
	for (n = 1 + tr_rnd(t, 8); n && !tr_failed(tr); n--) {
		if (t->nr_ranges == TR_RANGES)
			return false;
		r.pgsize = BIT_ULL(tr->page);
		r.iova = tr_page_iova(tr, slot, tr_rnd(t, TR_PAGES));
		r.size = r.pgsize;
		if (!tr_rnd(t, 4)) {
			r.iova = tr->slot[slot].iova;
			r.size = BIT_ULL(tr->block);
			r.pgsize = tr_rnd(t, 2) ? r.size : r.pgsize;
		}
		reserved = (need || tr_rnd(t, 2)) && tr_reserve(t, &r);
		if (reserved)
			t->range[t->nr_ranges++] = r;
		/* Let the walker cache what was linked */
		tr_walk(tr, r.iova, true);

		if (mine) {
			if (tr->slot[slot].owner == TR_SHARED || tr_rnd(t, 2))
				tr_step_map_pages(t, slot);
			else
				tr_step_block(t, slot, true);
			if (!tr_rnd(t, 4))
				tr_step_unmap_pages(t, slot);
			tr_clear_slot(t, slot);
		}

		/* It may be refused the memory for a split. */
		if (reserved && !(tr->tidy && tr_has(&t->slot[slot]))) {
			t->nr_ranges--;
			tr->ops->unreserve(tr->ops, r.iova, r.size, r.pgsize);
		}
		cond_resched();
	}
	return true;
}

/* Returns whether there was anything to do. */
static bool tr_step(struct tr_thread *t)
{
	unsigned int slot = tr_pick_slot(t);

	switch (tr_rnd(t, 20)) {
	case 0 ... 1:
		return tr_step_reserve(t);
	case 2 ... 4:
		return tr_step_unreserve(t);
	case 5 ... 7:
		return tr_step_map_pages(t, slot);
	case 8 ... 10:
		return tr_step_unmap_pages(t, slot);
	case 11 ... 12:
		return tr_step_block(t, slot, true);
	case 13 ... 14:
		return tr_step_block(t, slot, false);
	case 15:
		return tr_step_big(t, t->tr->slot[slot].group, true);
	case 16:
		return tr_step_big(t, t->tr->slot[slot].group, false);
	case 17:
		tr_check_slot(t, slot, !tr_rnd(t, 4));
		return true;
	default:
		return tr_step_meet(t);
	}
}

/* Unmap and give back all that a thread has. */
static void tr_finish(struct tr_thread *t)
{
	struct tr *tr = t->tr;
	unsigned int i;

	for (i = 0; i < tr->nr_groups && !tr_failed(tr); i++) {
		if (tr->group[i].owner != t->id || !tr_group_has(t, i))
			continue;
		/* nothing is split, so nothing is needed */
		if (tr_unmap(t, tr->group[i].iova, BIT_ULL(tr->big), 1))
			tr_set_group(t, i, false, false);
	}
	for (i = 0; i < tr->nr_slots && !tr_failed(tr); i++) {
		tr_clear_slot(t, i);
		if (!tr_failed(tr))
			tr_check_slot(t, i, false);
		cond_resched();
	}
	for (; t->nr_ranges; t->nr_ranges--) {
		struct tr_range *r = &t->range[t->nr_ranges - 1];

		tr->ops->unreserve(tr->ops, r->iova, r->size, r->pgsize);
	}
}

static int tr_thread_fn(void *arg)
{
	struct tr_thread *t = arg;

	while (!READ_ONCE(t->tr->stop)) {
		t->steps += tr_step(t);
		cond_resched();
	}
	tr_finish(t);
	return 0;
}

/* Those that only look */

static u64 tr_random_iova(struct tr *tr, struct rnd_state *rnd)
{
	u32 r = prandom_u32_state(rnd);

	if (r & 3)
		return tr_page_iova(tr, prandom_u32_state(rnd) % tr->nr_slots,
				    (r >> 2) % TR_PAGES) + (r >> 22);
	return tr->group[prandom_u32_state(rnd) % tr->nr_groups].iova +
	       (((u64)prandom_u32_state(rnd) << 32 | r) & (BIT_ULL(tr->big) - 1));
}

/* What is found must be nothing, or what the address may be mapped to. */
static void tr_judge(struct tr *tr, const char *who, u64 iova, u64 pa)
{
	if (pa && pa != tr_pa(tr, iova, false) && pa != tr_pa(tr, iova, true))
		tr_fail(tr, TR_READER, "%s: %llx leads to %llx\n", who, iova, pa);
}

static void tr_read_dirty(struct tr *tr, u64 iova)
{
#ifdef CONFIG_IOMMU_API
	u64 size = BIT_ULL(iova & BIT_ULL(tr->page) ? tr->block : tr->big);
	struct iommu_iotlb_gather gather;
	struct iommu_dirty_bitmap dirty;

	if (!(tr->c->quirks & IO_PGTABLE_QUIRK_ARM_HD))
		return;
	iommu_dirty_bitmap_init(&dirty, NULL, &gather);
	if (tr->ops->read_and_clear_dirty(tr->ops, iova & ~(size - 1), size, 0,
					  &dirty))
		tr_fail(tr, TR_READER, "dirty entries at %llx\n", iova);
#endif
}

static int tr_reader_fn(void *arg)
{
	struct tr *tr = arg;
	struct rnd_state rnd;
	u64 iova;

	prandom_seed_state(&rnd, tr_seed + tr->round);
	while (!READ_ONCE(tr->stop)) {
		iova = tr_random_iova(tr, &rnd);
		tr_judge(tr, "iova_to_phys", iova,
			 tr->ops->iova_to_phys(tr->ops, iova));
		if (!(tr->looks++ % 32)) {
			tr_read_dirty(tr, iova);
			usleep_range(100, 200);
		}
		cond_resched();
	}
	return 0;
}

static int tr_walker_fn(void *arg)
{
	struct tr *tr = arg;
	struct rnd_state rnd;
	u64 iova;

	prandom_seed_state(&rnd, tr_seed + tr->round + 1);
	while (!READ_ONCE(tr->stop)) {
		iova = tr_random_iova(tr, &rnd);
		tr_judge(tr, "walker", iova, tr_walk(tr, iova, true));
		if (!(tr->walks++ % 32))
			usleep_range(100, 200);
		cond_resched();
	}
	return 0;
}

/* The lowest table on the way to an address, the root excepted, or 0. */
static u64 tr_find_table(struct tr *tr, u64 iova)
{
	u64 table = tr->root, pte, *ptep;
	unsigned int level;

	for (level = 0; level < tr->levels - 1; level++) {
		ptep = phys_to_virt(table);
		ptep += (iova >> tr->shift[level]) & ((1U << tr->bits[level]) - 1);
		pte = READ_ONCE(*ptep);
		if ((pte & 3) != 3)
			break;
		table = pte & GENMASK_ULL(47, tr->page);
	}
	return level ? table : 0;
}

/* Stays in a read section with a table that was linked when it began. */
static int tr_sitter_fn(void *arg)
{
	struct tr *tr = arg;
	struct rnd_state rnd;
	unsigned int n;
	u64 table;

	prandom_seed_state(&rnd, tr_seed + tr->round + 2);
	while (!READ_ONCE(tr->stop)) {
		rcu_read_lock();
		table = tr_find_table(tr, tr_random_iova(tr, &rnd));
		if (table) {
			WRITE_ONCE(tr->hazard, PHYS_PFN(table));
			tr->sits++;
			for (n = prandom_u32_state(&rnd) % 500; n; n--)
				udelay(5);
			WRITE_ONCE(tr->hazard, 0);
		}
		rcu_read_unlock();
		usleep_range(1000, 4000);
	}
	return 0;
}

/* One page table, for some time */

static bool tr_open(struct tr *tr)
{
	const struct tr_case *c = tr->c;
	struct tr_thread *t;
	unsigned int i, s;

	tr->cfg = (struct io_pgtable_cfg){
		.quirks		= c->quirks,
		.pgsize_bitmap	= c->pgsizes,
		.ias		= c->ias,
		.oas		= c->oas,
		.coherent_walk	= !c->not_coherent,
		.iommu_dev	= tr->dev,
		.tlb		= c->user_flush ? &tr_user_tlb_ops : &tr_tlb_ops,
		.allocator	= tr->allocator,
		.reserve	= true,
	};
	tr->ops = alloc_io_pgtable_ops(c->fmt, &tr->cfg, tr);
	if (!tr->ops)
		return false;
	tr_geometry(tr);

	WRITE_ONCE(tr->stop, false);
	memset(tr->cache, 0, sizeof(tr->cache));
	for (i = 0; i < tr->nr_threads; i++) {
		t = &tr->thread[i];
		t->tr = tr;
		t->id = i;
		t->nr_own = 0;
		t->nr_ranges = 0;
		memset(t->slot, 0, sizeof(t->slot));
		memset(t->group, 0, sizeof(t->group));
		prandom_seed_state(&t->rnd, hash_64(tr_seed + i * 977ULL + tr->round * 31ULL +
						    ((u64)(c - tr_cases) << 32), 64));
		for (s = 0; s < tr->nr_slots; s++) {
			if (tr_mine(t, s))
				t->own[t->nr_own++] = s;
		}
	}
	return true;
}

/* Tables that were brought outside of reservations go with the next sweep. */
static void tr_sweep(struct tr *tr)
{
	u64 size = BIT_ULL(tr->block);
	unsigned int i;

	for (i = 0; i < tr->nr_slots; i++) {
		u64 iova = tr->slot[i].iova;

		if (tr->ops->reserve(tr->ops, iova, size, size, GFP_KERNEL))
			tr_fail(tr, TR_RESERVE, "%llx+%llx\n", iova, size);
		else
			tr->ops->unreserve(tr->ops, iova, size, size);
	}
}

static void tr_close(struct tr *tr)
{
	struct io_pgtable_ops *ops = tr->ops;
	int live;

	if (!tr->tidy)
		tr_sweep(tr);
	rcu_barrier();
	live = atomic_read(&tr->live);
	if (live != 1 && !tr_failed(tr))
		tr_fail(tr, TR_LEAK, "%d blocks, 1 of them the root%s\n", live,
			tr->tidy ? ", tidy" : "");

	tr->ops = NULL;
	memset(tr->cache, 0, sizeof(tr->cache));
	free_io_pgtable_ops(ops);
	rcu_barrier();
	live = atomic_read(&tr->live);
	if (live)
		tr_fail(tr, TR_LEAK, "%d blocks of a page table that has gone\n", live);
}

static bool tr_round(struct tr *tr, unsigned int ms)
{
	static int (* const look[])(void *arg) = {
		tr_reader_fn, tr_walker_fn, tr_sitter_fn,
	};
	struct task_struct *task[TR_THREADS + ARRAY_SIZE(look)];
	unsigned int i, n = tr->nr_threads + ARRAY_SIZE(look);
	unsigned long end;
	bool ok = true;

	if (!tr_open(tr))
		return false;

	for (i = 0; i < n; i++) {
		if (i < tr->nr_threads)
			task[i] = kthread_create(tr_thread_fn, &tr->thread[i],
						 "iopte_torture/%u", i);
		else
			task[i] = kthread_create(look[i - tr->nr_threads], tr,
						 "iopte_torture/l");
		if (IS_ERR(task[i])) {
			ok = false;
			continue;
		}
		get_task_struct(task[i]);
		if (i < tr->nr_threads)
			tr->thread[i].task = task[i];
	}
	for (i = 0; ok && i < n; i++)
		wake_up_process(task[i]);

	end = jiffies + msecs_to_jiffies(ms);
	while (ok && time_before(jiffies, end) && !READ_ONCE(tr->stop))
		msleep(20);
	WRITE_ONCE(tr->stop, true);

	/* Those that look see the others unmap */
	for (i = 0; i < n; i++) {
		if (!IS_ERR(task[i]))
			kthread_stop_put(task[i]);
		if (i < tr->nr_threads)
			tr->thread[i].task = NULL;
	}
	tr_close(tr);
	return ok;
}

static void tr_report(struct tr *tr, unsigned int rounds, unsigned int ms)
{
	unsigned long steps = 0, maps = 0, unmaps = 0, reserves = 0, sure = 0;
	unsigned long failed = 0, parked = 0, taken = 0;
	unsigned int i;

	for (i = 0; i < tr->nr_threads; i++) {
		struct tr_thread *t = &tr->thread[i];

		steps += t->steps;
		maps += t->maps;
		unmaps += t->unmaps;
		reserves += t->reserves;
		sure += t->sure;
		failed += t->failed;
		parked += t->parked;
		taken += t->taken;
	}
	kunit_info(tr->test, "%u threads, %u rounds, %u ms: %lu steps, %lu maps, %lu unmaps (%lu reserved), %lu reserves, %lu refused\n",
		   tr->nr_threads, rounds, ms, steps, maps, unmaps, sure,
		   reserves, failed);
	kunit_info(tr->test, "parked at least %lu, taken back at least %lu, freed %d, %lu translations, %lu walks, %lu long read sections\n",
		   parked, taken, atomic_read(&tr->freed), tr->looks, tr->walks,
		   tr->sits);
}

/* A device can map memory, and at its physical address; @buf is some. */
static bool tr_has_dma(struct device *dev, void *buf)
{
	dma_addr_t dma;

	if (!IS_ENABLED(CONFIG_HAS_DMA) ||
	    dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)))
		return false;
	dma = dma_map_single(dev, buf, SZ_64, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, dma))
		return false;
	dma_unmap_single(dev, dma, SZ_64, DMA_TO_DEVICE);
	return dma == virt_to_phys(buf);
}

static struct tr *tr_start(struct kunit *test)
{
	const struct tr_case *c = test->param_value;
	unsigned int stride, threads = tr_threads;
	struct iopte_allocator *allocator;
	struct tr *tr;

	if (num_online_cpus() == 1)
		kunit_skip(test, "needs a second CPU");

	tr = kunit_kzalloc(test, sizeof(*tr), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, tr);
	tr->test = test;
	tr->c = c;
	if (!threads)
		threads = min(num_online_cpus(), 4U);
	tr->nr_threads = clamp(threads, 2U, TR_THREADS);
	if (c->not_coherent) {
		tr->dev = kunit_device_register(test, "iopte-torture");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, tr->dev);
		if (!tr_has_dma(tr->dev, tr))
			kunit_skip(test, "a device of KUnit's has no DMA to all of memory");
	}

	tr->page = __ffs(c->pgsizes);
	stride = tr->page - 3;
	tr->block = tr->page + stride;
	tr->big = tr->block + stride;
	tr->has_big = c->pgsizes & BIT_ULL(tr->big);
	tr_layout(tr);

	spin_lock_init(&tr->lock);
	xa_init_flags(&tr->blocks, XA_FLAGS_LOCK_IRQ);
	allocator = iopte_allocator_create(&tr_allocator_ops, tr, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, allocator);
	tr->allocator = allocator;
	test->priv = tr;
	return tr;
}

static void tr_test(struct kunit *test)
{
	struct tr *tr = tr_start(test);
	unsigned long start = jiffies, end;
	unsigned int i;

	end = start + min(tr_seconds, 250) * HZ;
	do {
		tr->tidy = tr->round & 1;
		KUNIT_EXPECT_TRUE_MSG(test, tr_round(tr, TR_ROUND_MS),
				      "out of memory");
		tr->round++;
	} while (time_before(jiffies, end) && !tr_failed(tr) &&
		 test->status == KUNIT_SUCCESS);

	tr_report(tr, tr->round, jiffies_to_msecs(jiffies - start));
	for (i = 0; i < TR_ERRORS; i++)
		KUNIT_EXPECT_EQ_MSG(test, atomic_read(&tr->error[i]), 0,
				    "%s, with iopte_torture.seed=%u",
				    tr_error_name[i], tr_seed);
}

static void tr_exit(struct kunit *test)
{
	struct tr *tr = test->priv;

	if (!tr)
		return;
	test->priv = NULL;	/* the next parameter's test has it too */
	iopte_allocator_destroy(tr->allocator);
	xa_destroy(&tr->blocks);
}

static int tr_suite_init(struct kunit_suite *suite)
{
	if (!tr_seed)
		tr_seed = get_random_u32() | 1;
	kunit_info(suite, "seed: %u\n", tr_seed);
	return 0;
}

static void tr_desc(const struct tr_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(tr, tr_cases, tr_desc);

static struct kunit_case tr_test_cases[] = {
	KUNIT_CASE_PARAM_ATTR(tr_test, tr_gen_params, { .speed = KUNIT_SPEED_SLOW }),
	{}
};

static struct kunit_suite tr_suite = {
	.name		= "iopte_torture",
	.suite_init	= tr_suite_init,
	.exit		= tr_exit,
	.test_cases	= tr_test_cases,
};

kunit_test_suite(tr_suite);

MODULE_DESCRIPTION("KUnit torture test of page tables that count");
MODULE_LICENSE("GPL");
