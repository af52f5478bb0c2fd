// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of the io-pgtable formats: where their tables come from, when
 * they go back, and what is mapped meanwhile.
 *
 * One body runs over a table of configurations.  Beside the page table under
 * test there are
 *
 *   a counting allocator, which knows every block that it has handed out and
 *   can refuse any one of them,
 *
 *   a list of extents, which says what has to be mapped where, and
 *
 *   a model of the hardware walker, which decodes the memory of the tables on
 *   its own, starting at the registers' contents in struct io_pgtable_cfg.  It
 *   has a walk cache that only flushes empty, and for no more than their range.
 *   When a block goes back to the allocator no entry of the cache may lead into
 *   it: the walker would walk a freed table.
 */

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io-pgtable.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

#include "iopte-radix.h"
#include "iopte-test.h"
#include "iopte_trace.h"

#define FT_LEVELS	4
#define FT_WINDOWS	8
#define FT_CACHE	128
#define FT_EXTENTS	192
#define FT_RESERVED	12
/* Set by the driver once it has cleaned the entry of a table from the caches. */
#define FT_SW_SYNC	BIT_ULL(55)

#define FT_4K		(SZ_4K | SZ_2M | SZ_1G)
#define FT_16K		(SZ_16K | SZ_32M)
#define FT_64K		(SZ_64K | SZ_512M)
#define FT_V7S		(SZ_4K | SZ_64K | SZ_1M | SZ_16M)

struct ft_case {
	const char *name;
	enum io_pgtable_fmt fmt;
	u64 pgsizes;
	unsigned int ias;
	unsigned int oas;
	unsigned long quirks;
	bool not_coherent;	/* the walker does not snoop the CPUs' caches */
};

static const struct ft_case ft_cases[] = {
	{ "64_s1 4K ias 32", ARM_64_LPAE_S1, FT_4K, 32, 40 },
	{ "64_s1 4K ias 39", ARM_64_LPAE_S1, FT_4K, 39, 44 },
	{ "64_s1 4K ias 48", ARM_64_LPAE_S1, FT_4K, 48, 48 },
	{ "64_s1 4K ias 48 ttbr1", ARM_64_LPAE_S1, FT_4K, 48, 48,
	  IO_PGTABLE_QUIRK_ARM_TTBR1 },
	{ "64_s1 4K ias 39 ns", ARM_64_LPAE_S1, FT_4K, 39, 40,
	  IO_PGTABLE_QUIRK_ARM_NS },
	{ "64_s1 16K ias 36", ARM_64_LPAE_S1, FT_16K, 36, 40 },
	{ "64_s1 16K ias 47 ttbr1", ARM_64_LPAE_S1, FT_16K, 47, 48,
	  IO_PGTABLE_QUIRK_ARM_TTBR1 },
	{ "64_s1 16K ias 48", ARM_64_LPAE_S1, FT_16K, 48, 48 },
	{ "64_s1 64K ias 32", ARM_64_LPAE_S1, FT_64K, 32, 40 },
	{ "64_s1 64K ias 42", ARM_64_LPAE_S1, FT_64K, 42, 48 },
	{ "64_s1 64K ias 48", ARM_64_LPAE_S1, FT_64K, 48, 48 },
	{ "64_s1 64K ias 52 oas 52", ARM_64_LPAE_S1, FT_64K | BIT_ULL(42), 52, 52 },
	{ "64_s2 4K ias 32", ARM_64_LPAE_S2, FT_4K, 32, 40 },
	{ "64_s2 4K ias 40 concatenated", ARM_64_LPAE_S2, FT_4K, 40, 40 },
	{ "64_s2 4K ias 43 concatenated", ARM_64_LPAE_S2, FT_4K, 43, 44 },
	{ "64_s2 4K ias 48", ARM_64_LPAE_S2, FT_4K, 48, 48 },
	{ "64_s2 16K ias 40", ARM_64_LPAE_S2, FT_16K, 40, 40 },
	{ "64_s2 16K ias 48 concatenated", ARM_64_LPAE_S2, FT_16K, 48, 48 },
	{ "64_s2 64K ias 42", ARM_64_LPAE_S2, FT_64K, 42, 42 },
	{ "64_s2 64K ias 48", ARM_64_LPAE_S2, FT_64K, 48, 48 },
	{ "32_s1", ARM_32_LPAE_S1, FT_4K, 32, 40 },
	{ "32_s2 ias 32", ARM_32_LPAE_S2, FT_4K, 32, 40 },
	{ "32_s2 ias 40 concatenated", ARM_32_LPAE_S2, FT_4K, 40, 40 },
	{ "mali ias 48", ARM_MALI_LPAE, FT_4K, 48, 40 },
	{ "mali ias 33", ARM_MALI_LPAE, FT_4K, 33, 40 },
	{ "v7s", ARM_V7S, FT_V7S, 32, 32 },
	{ "64_s1 4K ias 48 not coherent", ARM_64_LPAE_S1, FT_4K, 48, 48,
	  .not_coherent = true },
	{ "64_s2 64K ias 48 not coherent", ARM_64_LPAE_S2, FT_64K, 48, 48,
	  .not_coherent = true },
	{ "mali ias 48 not coherent", ARM_MALI_LPAE, FT_4K, 48, 40,
	  .not_coherent = true },
	{ "v7s not coherent", ARM_V7S, FT_V7S, 32, 32, .not_coherent = true },
	{ "v7s ns", ARM_V7S, FT_V7S, 32, 32, IO_PGTABLE_QUIRK_ARM_NS },
	{ "v7s mtk", ARM_V7S, FT_V7S, 32, 34,
	  IO_PGTABLE_QUIRK_NO_PERMS | IO_PGTABLE_QUIRK_ARM_MTK_EXT },
	{ "v7s mtk ttbr", ARM_V7S, FT_V7S, 34, 35,
	  IO_PGTABLE_QUIRK_NO_PERMS | IO_PGTABLE_QUIRK_ARM_MTK_EXT |
	  IO_PGTABLE_QUIRK_ARM_MTK_TTBR_EXT },
	{ "dart 4K ias 32", APPLE_DART, SZ_4K, 32, 36 },
	{ "dart 16K ias 32", APPLE_DART, SZ_16K, 32, 36 },
	{ "dart2 16K ias 36", APPLE_DART2, SZ_16K, 36, 42 },
	{ "dart2 16K ias 38", APPLE_DART2, SZ_16K, 38, 42 },
};

/* A configuration, who flushes: io-pgtable or the user, and whether tables count. */
struct ft_param {
	const struct ft_case *c;
	bool user_flush;
	bool counts;
};

/* A kernel that checks each access takes many times as long. */
static unsigned int ft_steps =
	IS_ENABLED(CONFIG_KASAN) || IS_ENABLED(CONFIG_KCSAN) ? 50 : 250;
module_param_named(steps, ft_steps, uint, 0444);
MODULE_PARM_DESC(steps, "operations of a test that picks them at random");

static unsigned int ft_every = 1;
module_param_named(every, ft_every, uint, 0444);
MODULE_PARM_DESC(every, "a test runs with one in so many of its parameters, and the next test with other ones");

static const void *ft_every_gen(const void *(*gen)(const void *prev, char *desc),
				const void *prev, char *desc)
{
	static unsigned int turn;
	unsigned int skip = prev ? ft_every - 1 : turn++ % ft_every;
	const void *param = prev;

	do {
		param = gen(param, desc);
	} while (param && skip--);
	/* at least one of a few */
	return param || prev ? param : gen(NULL, desc);
}

static struct ft_param ft_params[2 * ARRAY_SIZE(ft_cases)];
static struct ft_param ft_count_params[2 * ARRAY_SIZE(ft_cases)];

/* How flushes are: right, slow, or wrong in a way that the model must find. */
enum ft_flush {
	FT_FLUSH_RIGHT,
	FT_FLUSH_SLOW,		/* a grace period passes before it does a thing */
	FT_FLUSH_NOTHING,
	FT_FLUSH_ELSEWHERE,
	FT_FLUSH_TOO_LATE,
};

struct ft_extent {
	u64 iova;
	u64 size;
	u64 pa;
	u64 leaf;	/* size of the leaf entries when it was mapped */
};

struct ft_reserved {
	u64 iova;
	u64 size;
	u64 pgsize;
};

struct ft_cached {
	unsigned int level;	/* of the table; 0, the root, is not cached */
	u64 prefix;		/* the IOVA bits that lead to it */
	u64 table;
};

enum ft_type { FT_NONE, FT_TABLE, FT_LEAF, FT_BROKEN };

/* A decoded entry. */
struct ft_entry {
	enum ft_type type;
	u64 pa;
	unsigned int shift;	/* of a leaf: log2 of its size */
	void *ptep;
};

struct ft {
	struct kunit *test;
	const struct ft_case *c;
	bool user_flush;
	bool counts;
	struct io_pgtable_cfg cfg;
	struct io_pgtable_ops *ops;
	struct device *dev;
	u64 base;			/* the IOVA bits above ias */
	unsigned int nr_sizes;
	u64 size[4];
	unsigned int nr_windows;
	u64 window[FT_WINDOWS];		/* page and table sizes, ascending */

	/* how the walker sees it */
	unsigned int levels;
	unsigned int shift[FT_LEVELS];
	unsigned int bits[FT_LEVELS];
	unsigned int pte_size;

	/* the counting allocator */
	struct iopte_allocator *allocator;
	struct xarray blocks;		/* pfn to order, of every page */
	atomic_t live;
	atomic_t freed;
	atomic_t unknown;
	atomic_t attempts;
	unsigned int refused;
	int fail_at;		/* refuse this attempt; 0: none */
	int fail_from;		/* and each from this one on */
	void (*hook)(struct ft *f);	/* called once, inside alloc */

	/* the walker */
	spinlock_t lock;		/* protects what follows */
	enum ft_flush flush;
	bool flush_fails;	/* so the user's flush of a sweep says */
	void (*flush_hook)(struct ft *f);	/* called once, before it */
	struct ft_cached cache[FT_CACHE];
	unsigned int nr_cached;
	unsigned int victim;
	unsigned int stale;		/* freed tables that were cached */
	unsigned int lost;		/* tables that are not the allocator's */
	unsigned int unsynced;		/* entries of tables without FT_SW_SYNC */
	unsigned int found;		/* hits of the cache */

	/* what is mapped */
	struct ft_extent extent[FT_EXTENTS];
	unsigned int nr_extents;
	struct ft_reserved reserved[FT_RESERVED];
	unsigned int nr_reserved;
	u64 hook_iova;
	u64 hook_pa;
	size_t hook_len;
	struct rnd_state rnd;
};

static u32 ft_rnd(struct ft *f, u32 n)
{
	return prandom_u32_state(&f->rnd) % n;
}

static bool ft_is_lpae(const struct ft_case *c)
{
	return c->fmt != ARM_V7S && c->fmt != APPLE_DART && c->fmt != APPLE_DART2;
}

static bool ft_is_dart(const struct ft_case *c)
{
	return c->fmt == APPLE_DART || c->fmt == APPLE_DART2;
}

/* The walker */

static void ft_lpae_geometry(struct ft *f, unsigned int start, unsigned int ias)
{
	unsigned int granule = ilog2(f->size[0]), l;

	f->levels = 4 - start;
	f->pte_size = 8;
	for (l = 0; l < f->levels; l++) {
		f->shift[l] = granule + (granule - 3) * (f->levels - 1 - l);
		f->bits[l] = granule - 3;
	}
	f->bits[0] = ias > f->shift[0] ? ias - f->shift[0] : 0;
}

static void ft_geometry(struct ft *f)
{
	unsigned int granule = ilog2(f->size[0]), ias, sl;

	switch (f->c->fmt) {
	case ARM_64_LPAE_S1:
	case ARM_32_LPAE_S1:
		ias = 64 - f->cfg.arm_lpae_s1_cfg.tcr.tsz;
		ft_lpae_geometry(f, 4 - DIV_ROUND_UP(ias - granule, granule - 3),
				 ias);
		break;
	case ARM_64_LPAE_S2:
	case ARM_32_LPAE_S2:
		ias = 64 - f->cfg.arm_lpae_s2_cfg.vtcr.tsz;
		sl = f->cfg.arm_lpae_s2_cfg.vtcr.sl;
		/* VTCR.SL0 counts from another level with 4K */
		ft_lpae_geometry(f, granule == 12 ? 2 - sl : 3 - sl, ias);
		break;
	case ARM_MALI_LPAE:
		ft_lpae_geometry(f, 0, f->c->ias);
		break;
	case ARM_V7S:
		f->levels = 2;
		f->pte_size = 4;
		f->shift[0] = 20;
		f->bits[0] = f->c->ias - 20;
		f->shift[1] = 12;
		f->bits[1] = 8;
		break;
	default:
		f->levels = 2;
		f->pte_size = 8;
		f->shift[0] = granule + granule - 3;
		f->bits[0] = granule - 3;
		f->shift[1] = granule;
		f->bits[1] = granule - 3;
		break;
	}
}

static u64 ft_root(struct ft *f, u64 iova)
{
	switch (f->c->fmt) {
	case ARM_64_LPAE_S1:
	case ARM_32_LPAE_S1:
		return f->cfg.arm_lpae_s1_cfg.ttbr;
	case ARM_64_LPAE_S2:
	case ARM_32_LPAE_S2:
		return f->cfg.arm_lpae_s2_cfg.vttbr;
	case ARM_MALI_LPAE:
		return f->cfg.arm_mali_lpae_cfg.transtab & GENMASK_ULL(47, 5);
	case ARM_V7S:
		if (f->c->quirks & IO_PGTABLE_QUIRK_ARM_MTK_EXT)
			return (f->cfg.arm_v7s_cfg.ttbr & GENMASK_ULL(31, 7)) |
			       (u64)(f->cfg.arm_v7s_cfg.ttbr & 7) << 32;
		return f->cfg.arm_v7s_cfg.ttbr & GENMASK_ULL(31, 14);
	default:
		return f->cfg.apple_dart_cfg.ttbr[iova >> (f->shift[0] + f->bits[0])];
	}
}

static struct ft_entry ft_decode_lpae(struct ft *f, unsigned int level, u64 pte)
{
	unsigned int granule = ilog2(f->size[0]);
	bool last = level == f->levels - 1;
	struct ft_entry e = {};

	if (!(pte & 1))
		return e;

	if (granule == 16)
		e.pa = (pte & GENMASK_ULL(47, 16)) |
		       (pte & GENMASK_ULL(15, 12)) << 36;
	else
		e.pa = pte & GENMASK_ULL(47, granule);

	if (!last && (pte & 2)) {
		e.type = FT_TABLE;
	} else if (!last || !!(pte & 2) == (f->c->fmt != ARM_MALI_LPAE)) {
		e.type = FT_LEAF;
		e.shift = f->shift[level];
	} else {
		e.type = FT_BROKEN;
	}
	return e;
}

static u64 ft_mtk_bits(u64 pte)
{
	return (pte & BIT(9) ? BIT_ULL(32) : 0) |
	       (pte & BIT(4) ? BIT_ULL(33) : 0) |
	       (pte & BIT(5) ? BIT_ULL(34) : 0);
}

static struct ft_entry ft_decode_v7s(struct ft *f, unsigned int level, u64 pte)
{
	unsigned long high = IO_PGTABLE_QUIRK_ARM_MTK_EXT;
	struct ft_entry e = {};

	if (!(pte & 3))
		return e;

	if (!level && (pte & 3) == 1) {
		e.type = FT_TABLE;
		e.pa = pte & GENMASK_ULL(31, 10);
		high = IO_PGTABLE_QUIRK_ARM_MTK_TTBR_EXT;
	} else {
		e.type = FT_LEAF;
		if (!level)
			e.shift = pte & BIT(18) ? 24 : 20;
		else
			e.shift = pte & 2 ? 12 : 16;
		e.pa = pte & GENMASK_ULL(31, 0) & ~(BIT_ULL(e.shift) - 1);
	}
	if (f->c->quirks & high)
		e.pa |= ft_mtk_bits(pte);
	return e;
}

static struct ft_entry ft_decode_dart(struct ft *f, unsigned int level, u64 pte)
{
	struct ft_entry e = {};

	if (!(pte & 1))
		return e;

	e.type = level ? FT_LEAF : FT_TABLE;
	e.shift = f->shift[1];
	if (f->c->fmt == APPLE_DART)
		e.pa = pte & GENMASK_ULL(35, 12);
	else
		e.pa = (pte & GENMASK_ULL(37, 10)) << 4;
	return e;
}

static struct ft_entry ft_read(struct ft *f, unsigned int level, u64 table,
			       unsigned int idx)
{
	void *ptep = phys_to_virt(table) + idx * f->pte_size;
	struct ft_entry e;

	if (ft_is_lpae(f->c))
		e = ft_decode_lpae(f, level, READ_ONCE(*(u64 *)ptep));
	else if (f->c->fmt == ARM_V7S)
		e = ft_decode_v7s(f, level, READ_ONCE(*(u32 *)ptep));
	else
		e = ft_decode_dart(f, level, READ_ONCE(*(u64 *)ptep));
	e.ptep = ptep;
	return e;
}

static void ft_cache_table(struct ft *f, unsigned int level, u64 prefix, u64 table)
{
	unsigned int i = f->nr_cached;

	if (i < FT_CACHE)
		f->nr_cached++;
	else
		i = f->victim++ % FT_CACHE;
	f->cache[i] = (struct ft_cached){ level, prefix, table };
}

/*
 * Walk as the hardware does: on from the lowest table that is cached.  Without
 * @cache walk from the root and cache nothing.
 */
static struct ft_entry __ft_walk(struct ft *f, u64 iova, bool cache)
{
	struct ft_entry none = {}, e;
	u64 table = ft_root(f, iova);
	unsigned int level = 0, i;

	lockdep_assert_held(&f->lock);

	/* Without the counting allocator nobody says what is freed. */
	cache &= !!f->allocator;

	for (i = 0; cache && i < f->nr_cached; i++) {
		struct ft_cached *c = &f->cache[i];

		if (c->level > level && c->prefix == iova >> f->shift[c->level - 1]) {
			level = c->level;
			table = c->table;
			f->found++;
		}
	}

	for (;; level++) {
		if (f->allocator && !xa_load(&f->blocks, PHYS_PFN(table))) {
			f->lost++;
			return none;
		}
		e = ft_read(f, level, table,
			    (iova >> f->shift[level]) & ((1U << f->bits[level]) - 1));
		if (e.type == FT_BROKEN ||
		    (e.type == FT_TABLE && level == f->levels - 1)) {
			f->lost++;
			return none;
		}
		if (e.type != FT_TABLE)
			return e;
		if (!cache && f->c->not_coherent && ft_is_lpae(f->c) &&
		    !(READ_ONCE(*(u64 *)e.ptep) & FT_SW_SYNC))
			f->unsynced++;
		table = e.pa;
		if (cache)
			ft_cache_table(f, level + 1, iova >> f->shift[level], table);
	}
}

/* What the page table says, for comparison. */
static struct ft_entry ft_entry_of(struct ft *f, u64 iova)
{
	struct ft_entry e;
	unsigned long flags;

	spin_lock_irqsave(&f->lock, flags);
	e = __ft_walk(f, iova, false);
	spin_unlock_irqrestore(&f->lock, flags);
	return e;
}

static u64 ft_walk(struct ft *f, u64 iova)
{
	struct ft_entry e = ft_entry_of(f, iova);

	return e.type == FT_LEAF ? e.pa | (iova & (BIT_ULL(e.shift) - 1)) : 0;
}

/* A device accesses the address. */
static void ft_touch(struct ft *f, u64 iova)
{
	unsigned long flags;

	spin_lock_irqsave(&f->lock, flags);
	__ft_walk(f, iova & (BIT_ULL(f->c->ias) - 1), true);
	spin_unlock_irqrestore(&f->lock, flags);
}

static void ft_touch_range(struct ft *f, u64 iova, u64 size)
{
	ft_touch(f, iova);
	ft_touch(f, iova + size / 2);
	ft_touch(f, iova + size - 1);
}

/*
 * Forget tables: without @granule, as a GPU that locks a region, those that
 * translate nothing outside of the range; with it, as an SMMU, those that an
 * address in the range, in steps of @granule, is translated by.
 */
static void ft_forget(struct ft *f, u64 iova, u64 size, u64 granule)
{
	unsigned long flags;
	unsigned int i = 0;

	iova &= BIT_ULL(f->c->ias) - 1;
	spin_lock_irqsave(&f->lock, flags);
	while (i < f->nr_cached) {
		struct ft_cached *c = &f->cache[i];
		u64 span = BIT_ULL(f->shift[c->level - 1]);
		u64 start = c->prefix * span;
		u64 end = min(start + span, BIT_ULL(f->c->ias));
		bool hit = start >= iova && end <= iova + size;
		u64 at = iova;

		/* the first address that is not below the table's */
		if (granule && start > iova)
			at += round_up(start - iova, granule);
		if (granule)
			hit = at >= start && at < end && at < iova + size;
		if (hit)
			*c = f->cache[--f->nr_cached];
		else
			i++;
	}
	spin_unlock_irqrestore(&f->lock, flags);
}

static void ft_hw_flush(struct ft *f, u64 iova, u64 size, u64 granule)
{
	u64 mask = BIT_ULL(f->c->ias) - 1;
	void (*hook)(struct ft *f) = f->flush_hook;

	if (hook) {
		f->flush_hook = NULL;
		hook(f);
	}
	if (f->flush == FT_FLUSH_NOTHING)
		return;
	if (f->flush == FT_FLUSH_ELSEWHERE)
		iova = (iova ^ BIT_ULL(f->c->ias - 1)) & mask;
	if (f->flush == FT_FLUSH_SLOW && !irqs_disabled())
		rcu_barrier();
	ft_forget(f, iova, size, granule);
	/* Devices do not wait: what is still linked is cached again. */
	ft_touch_range(f, iova, size);
}

static void ft_tlb_flush_all(void *cookie)
{
	struct ft *f = cookie;

	ft_forget(f, 0, BIT_ULL(f->c->ias), 0);
}

static void ft_tlb_flush_walk(unsigned long iova, size_t size, size_t granule,
			      void *cookie)
{
	ft_hw_flush(cookie, iova, size, granule);
}

static void ft_tlb_add_page(struct iommu_iotlb_gather *gather,
			    unsigned long iova, size_t granule, void *cookie)
{
}

static const struct iommu_flush_ops ft_tlb_ops = {
	.tlb_flush_all	= ft_tlb_flush_all,
	.tlb_flush_walk	= ft_tlb_flush_walk,
	.tlb_add_page	= ft_tlb_add_page,
};

static int ft_tlb_flush_sweep(unsigned long iova, size_t size, void *cookie)
{
	struct ft *f = cookie;

	might_sleep();
	if (f->flush_fails)
		return -EIO;
	ft_hw_flush(f, iova, size, 0);
	return 0;
}

static const struct iommu_flush_ops ft_user_tlb_ops = {
	.tlb_flush_all	= ft_tlb_flush_all,
	.tlb_add_page	= ft_tlb_add_page,
	.tlb_flush_sweep = ft_tlb_flush_sweep,
};

/* The user's flush at the end of an operation. */
static void ft_user_flush(struct ft *f, u64 iova, u64 size)
{
	struct io_pgtable_flush ticket;

	ticket = io_pgtable_flush_begin(f->ops, f->base | iova, size);
	if (f->user_flush && f->flush == FT_FLUSH_TOO_LATE) {
		io_pgtable_flush_end(f->ops, &ticket, true);
		rcu_barrier();
		ft_hw_flush(f, iova, size, 0);
		return;
	}
	if (f->user_flush)
		ft_hw_flush(f, iova, size, 0);
	io_pgtable_flush_end(f->ops, &ticket, true);
}

static void ft_user_flush_failed(struct ft *f, u64 iova, u64 size)
{
	struct io_pgtable_flush ticket;

	ticket = io_pgtable_flush_begin(f->ops, f->base | iova, size);
	ft_touch_range(f, iova, size);
	io_pgtable_flush_end(f->ops, &ticket, false);
}

/* The counting allocator */

static void ft_record(struct ft *f, struct page *page, unsigned int order, bool add)
{
	unsigned long pfn = page_to_pfn(page), i, flags;
	void *entry = add ? xa_mk_value(order) : NULL, *old;

	xa_lock_irqsave(&f->blocks, flags);
	for (i = 0; i < 1UL << order; i++) {
		old = __xa_store(&f->blocks, pfn + i, entry, GFP_ATOMIC);
		if (old != (add ? NULL : xa_mk_value(order)))
			atomic_inc(&f->unknown);
	}
	xa_unlock_irqrestore(&f->blocks, flags);
}

/* Between these nothing is made to fail that the test itself allocates. */
static unsigned int ft_nth_save(void)
{
	unsigned int nth = 0;

#ifdef CONFIG_FAULT_INJECTION
	swap(nth, current->fail_nth);
#endif
	return nth;
}

static void ft_nth_restore(unsigned int nth)
{
#ifdef CONFIG_FAULT_INJECTION
	current->fail_nth = nth;
#endif
}

static unsigned int ft_alloc(void *cookie, const struct iopte_request *req,
			     gfp_t gfp, struct page **pages, unsigned int n)
{
	void (*hook)(struct ft *f);
	struct ft *f = cookie;
	unsigned int i, nth;

	hook = f->hook;
	if (hook) {
		f->hook = NULL;
		hook(f);
	}

	if (req->addr_bits <= 32)
		gfp |= IS_ENABLED(CONFIG_ZONE_DMA32) ? GFP_DMA32 : GFP_DMA;
	if (req->order)
		gfp |= __GFP_COMP;

	nth = ft_nth_save();
	for (i = 0; i < n; i++) {
		int attempt = atomic_inc_return(&f->attempts);

		if (attempt == f->fail_at ||
		    (f->fail_from && attempt >= f->fail_from)) {
			f->refused++;
			break;
		}
		pages[i] = alloc_pages_node(req->nid, gfp, req->order);
		if (!pages[i])
			break;
		ft_record(f, pages[i], req->order, true);
		atomic_inc(&f->live);
	}
	ft_nth_restore(nth);
	return i;
}

static void ft_free(void *cookie, struct page **pages, unsigned int n,
		    unsigned int order)
{
	struct ft *f = cookie;
	unsigned long flags;
	unsigned int i, c;

	for (i = 0; i < n; i++) {
		unsigned long pfn = page_to_pfn(pages[i]);

		spin_lock_irqsave(&f->lock, flags);
		for (c = 0; c < f->nr_cached;) {
			unsigned long table = PHYS_PFN(f->cache[c].table);

			if (table >= pfn && table - pfn < 1UL << order) {
				f->stale++;
				f->cache[c] = f->cache[--f->nr_cached];
			} else {
				c++;
			}
		}
		ft_record(f, pages[i], order, false);
		spin_unlock_irqrestore(&f->lock, flags);

		memset(page_address(pages[i]), 0x5a, PAGE_SIZE << order);
		__free_pages(pages[i], order);
		atomic_dec(&f->live);
		atomic_inc(&f->freed);
	}
}

static const struct iopte_allocator_ops ft_allocator_ops = {
	.alloc	= ft_alloc,
	.free	= ft_free,
};

/* Opening and closing page tables */

static struct io_pgtable_ops *ft_try_open(struct ft *f)
{
	f->cfg = (struct io_pgtable_cfg){
		.quirks		= f->c->quirks,
		.pgsize_bitmap	= f->c->pgsizes,
		.ias		= f->c->ias,
		.oas		= f->c->oas,
		.coherent_walk	= !f->c->not_coherent,
		.iommu_dev	= f->dev,
		.tlb		= f->user_flush ? &ft_user_tlb_ops : &ft_tlb_ops,
		.allocator	= f->allocator,
		.reserve	= f->counts,
	};
	atomic_set(&f->attempts, 0);
	f->refused = 0;
	f->nr_extents = 0;
	f->nr_reserved = 0;
	return alloc_io_pgtable_ops(f->c->fmt, &f->cfg, f);
}

static void ft_open(struct ft *f)
{
	unsigned int l, i, j;
	u64 w;

	f->ops = ft_try_open(f);
	KUNIT_ASSERT_NOT_NULL(f->test, f->ops);
	KUNIT_ASSERT_EQ(f->test, (u64)f->cfg.pgsize_bitmap, f->c->pgsizes);
	ft_geometry(f);

	f->nr_windows = 0;
	for (i = 0; i < f->nr_sizes; i++)
		f->window[f->nr_windows++] = f->size[i];
	for (l = 0; l < f->levels; l++) {
		w = BIT_ULL(f->shift[l]);
		for (i = 0; i < f->nr_windows && f->window[i] < w; i++)
			;
		if (w >= BIT_ULL(f->c->ias) ||
		    (i < f->nr_windows && f->window[i] == w))
			continue;
		for (j = f->nr_windows++; j > i; j--)
			f->window[j] = f->window[j - 1];
		f->window[i] = w;
	}
}

static void ft_expect_clean(struct ft *f)
{
	KUNIT_EXPECT_EQ(f->test, atomic_read(&f->unknown), 0);
	KUNIT_EXPECT_EQ(f->test, f->unsynced, 0);
	if (f->flush == FT_FLUSH_RIGHT) {
		KUNIT_EXPECT_EQ_MSG(f->test, f->stale, 0,
				    "the walker walks a freed table");
		KUNIT_EXPECT_EQ_MSG(f->test, f->lost, 0,
				    "an entry leads to no table");
	}
}

/* Free the page table; every table must be back after a grace period. */
static void ft_close(struct ft *f)
{
	struct io_pgtable_ops *ops = f->ops;

	f->ops = NULL;
	ft_forget(f, 0, BIT_ULL(f->c->ias), 0);
	free_io_pgtable_ops(ops);
	rcu_barrier();
	KUNIT_EXPECT_EQ_MSG(f->test, atomic_read(&f->live), 0, "tables leaked");
	KUNIT_EXPECT_TRUE(f->test, xa_empty(&f->blocks));
	ft_expect_clean(f);
}

static bool ft_supported(const struct ft_case *c)
{
	u64 sizes = c->pgsizes;

	if (c->fmt == ARM_V7S && !IS_ENABLED(CONFIG_IOMMU_IO_PGTABLE_ARMV7S))
		return false;
	if (ft_is_dart(c) && !IS_ENABLED(CONFIG_IOMMU_IO_PGTABLE_DART))
		return false;
	if (c->quirks & IO_PGTABLE_QUIRK_ARM_MTK_EXT &&
	    !IS_ENABLED(CONFIG_PHYS_ADDR_T_64BIT))
		return false;
	if (c->ias > BITS_PER_LONG || c->oas > BITS_PER_TYPE(phys_addr_t))
		return false;
	return sizes == (unsigned long)sizes;
}

static struct ft *ft_start(struct kunit *test, const struct ft_case *c,
			   bool user_flush)
{
	struct iopte_allocator *allocator;
	struct ft *f;
	u64 sizes;

	if (!ft_supported(c))
		kunit_skip(test, "not with this configuration");

	f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f);
	f->test = test;
	f->c = c;
	f->user_flush = user_flush;
	for (sizes = c->pgsizes; sizes; sizes &= sizes - 1)
		f->size[f->nr_sizes++] = sizes & -sizes;
	if (c->quirks & IO_PGTABLE_QUIRK_ARM_TTBR1)
		f->base = ~0ULL << c->ias;
	if (c->not_coherent) {
		f->dev = kunit_device_register(test, "io-pgtable-test");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, f->dev);
		test_need_dma(test, f->dev);
	}
	spin_lock_init(&f->lock);
	xa_init_flags(&f->blocks, XA_FLAGS_LOCK_IRQ);
	prandom_seed_state(&f->rnd, 0x10917 + c->fmt * 977 + c->ias * 31 + user_flush);

	allocator = iopte_allocator_create(&ft_allocator_ops, f, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, allocator);
	f->allocator = allocator;
	test->priv = f;
	return f;
}

static struct ft *ft_start_param(struct kunit *test)
{
	const struct ft_param *p = test->param_value;
	struct ft *f = ft_start(test, p->c, p->user_flush);

	f->counts = p->counts;
	return f;
}

static void ft_exit(struct kunit *test)
{
	struct ft *f = test->priv;

	if (!f)
		return;
	test->priv = NULL;	/* the next parameter's test has it too */
	if (f->ops)
		ft_close(f);
	iopte_allocator_destroy(f->allocator);
	xa_destroy(&f->blocks);
}

/* Mapping, as the IOMMU core does it, and the list of what is mapped. */

static int ft_map(struct ft *f, u64 iova, u64 pa, u64 pgsize, size_t count,
		  gfp_t gfp, size_t *mapped)
{
	size_t total = pgsize * count;
	int ret = 0;

	*mapped = 0;
	while (!ret && *mapped < total) {
		size_t m = 0;

		ret = f->ops->map_pages(f->ops, f->base | (iova + *mapped),
					pa + *mapped, pgsize,
					(total - *mapped) >> ilog2(pgsize),
					IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE,
					gfp, &m);
		*mapped += m;
		if (!ret && !m)
			ret = -EIO;
	}
	if (*mapped) {
		KUNIT_ASSERT_LT(f->test, f->nr_extents, FT_EXTENTS);
		f->extent[f->nr_extents++] =
			(struct ft_extent){ iova, *mapped, pa, pgsize };
	}
	return ret;
}

static void ft_cut(struct ft *f, u64 iova, u64 size)
{
	unsigned int i, n = f->nr_extents;
	u64 end = iova + size;

	for (i = 0; i < n; i++) {
		struct ft_extent *x = &f->extent[i], old = *x;
		u64 old_end = old.iova + old.size;

		if (old_end <= iova || old.iova >= end)
			continue;
		x->size = iova > old.iova ? iova - old.iova : 0;
		if (old_end > end) {
			struct ft_extent tail = { end, old_end - end,
						  old.pa + (end - old.iova),
						  old.leaf };

			if (!x->size) {
				*x = tail;
			} else {
				KUNIT_ASSERT_LT(f->test, f->nr_extents, FT_EXTENTS);
				f->extent[f->nr_extents++] = tail;
			}
		}
	}
	for (i = 0; i < f->nr_extents;) {
		if (f->extent[i].size)
			i++;
		else
			f->extent[i] = f->extent[--f->nr_extents];
	}
}

static size_t ft_unmap(struct ft *f, u64 iova, u64 pgsize, size_t count)
{
	size_t total = pgsize * count, done = 0, n;

	while (done < total) {
		n = f->ops->unmap_pages(f->ops, f->base | (iova + done), pgsize,
					(total - done) >> ilog2(pgsize), NULL);
		if (!n)
			break;
		done += n;
	}
	ft_cut(f, iova, done);
	return done;
}

static u64 ft_model(struct ft *f, u64 iova)
{
	unsigned int i;

	for (i = 0; i < f->nr_extents; i++) {
		struct ft_extent *x = &f->extent[i];

		if (iova >= x->iova && iova - x->iova < x->size)
			return x->pa + (iova - x->iova);
	}
	return 0;
}

/* The list, the format and the walker agree. */
static void ft_check(struct ft *f, u64 iova)
{
	u64 want = ft_model(f, iova);

	KUNIT_EXPECT_EQ_MSG(f->test, ft_walk(f, iova), want, "walk of %llx", iova);
	KUNIT_EXPECT_EQ_MSG(f->test,
			    (u64)f->ops->iova_to_phys(f->ops, f->base | iova),
			    want, "iova_to_phys of %llx", iova);
}

static void ft_check_range(struct ft *f, u64 iova, u64 size, u64 step)
{
	u64 end = min(iova + size, BIT_ULL(f->c->ias)), at;

	for (at = iova; at < end; at += step)
		ft_check(f, at + ft_rnd(f, min_t(u64, step, f->size[0])));
}

static void ft_check_extents(struct ft *f)
{
	unsigned int i;

	for (i = 0; i < f->nr_extents; i++) {
		struct ft_extent *x = &f->extent[i];

		ft_check(f, x->iova);
		ft_check(f, x->iova + x->size - 1);
		if (x->iova)
			ft_check(f, x->iova - 1);
		if (x->iova + x->size < BIT_ULL(f->c->ias))
			ft_check(f, x->iova + x->size);
	}
}

/* The blocks that hold the tables that can be reached from the root. */
static void ft_collect(struct ft *f, struct xarray *seen, unsigned int level,
		       u64 table)
{
	unsigned long head = page_to_pfn(compound_head(pfn_to_page(PHYS_PFN(table))));
	unsigned int i;

	/* One lock class with the blocks, which RCU callbacks record. */
	xa_store_irq(seen, head, xa_mk_value(1), GFP_KERNEL);
	if (level == f->levels - 1)
		return;
	for (i = 0; i < 1U << f->bits[level]; i++) {
		struct ft_entry e = ft_read(f, level, table, i);

		if (e.type == FT_TABLE)
			ft_collect(f, seen, level + 1, e.pa);
	}
}

/* Nothing is out of the tree, or in it, that should not be. */
static void ft_check_count(struct ft *f)
{
	unsigned int roots = 1, i, n = 0;
	struct xarray seen;
	unsigned long pfn;
	void *entry;

	if (f->user_flush)
		ft_user_flush(f, 0, BIT_ULL(f->c->ias));
	rcu_barrier();

	xa_init_flags(&seen, XA_FLAGS_LOCK_IRQ);
	if (ft_is_dart(f->c))
		roots = f->cfg.apple_dart_cfg.n_ttbrs;
	for (i = 0; i < roots; i++)
		ft_collect(f, &seen, 0,
			   ft_root(f, (u64)i << (f->shift[0] + f->bits[0])));
	xa_for_each(&seen, pfn, entry)
		n++;
	xa_destroy(&seen);
	KUNIT_EXPECT_EQ_MSG(f->test, atomic_read(&f->live), n,
			    "blocks in use and blocks in the tree");
}

/* Random sequences */

static u64 ft_random_iova(struct ft *f, u64 align)
{
	u64 top = f->window[f->nr_windows - 1];
	u64 units = BIT_ULL(f->c->ias) >> ilog2(top);
	const u64 places[] = { 0, units / 2, units - 2 };
	u64 iova = (places[ft_rnd(f, 3)] + ft_rnd(f, 2)) * top;
	unsigned int i;

	for (i = f->nr_windows - 1; i && f->window[i] > align; i--) {
		u64 ratio = f->window[i] >> ilog2(f->window[i - 1]);
		const u64 digits[] = { 0, 0, 1, ratio / 2, ratio - 1 };

		iova += digits[ft_rnd(f, 5)] * f->window[i - 1];
	}
	return iova & (BIT_ULL(f->c->ias) - 1);
}

static u64 ft_random_pa(struct ft *f, u64 pgsize, u64 size)
{
	u64 max = BIT_ULL(f->c->oas) - size, pa;

	pa = (u64)prandom_u32_state(&f->rnd) << 32 | prandom_u32_state(&f->rnd);
	pa = (pa & (max - 1)) & ~(pgsize - 1);
	return max(pa, pgsize);
}

/* The smallest size that an extent may be unmapped with. */
static u64 ft_grain(struct ft *f, u64 leaf)
{
	/* v7s does not keep the output address when it splits a section */
	if (f->c->fmt == ARM_V7S)
		return leaf >= SZ_1M ? SZ_1M : SZ_4K;
	return f->size[0];
}

static u64 ft_covered(struct ft *f, u64 iova, u64 size, u64 *grain)
{
	u64 n = 0, end = iova + size;
	unsigned int i;

	*grain = 0;
	for (i = 0; i < f->nr_extents; i++) {
		struct ft_extent *x = &f->extent[i];
		u64 a = max(iova, x->iova), b = min(end, x->iova + x->size);

		if (a >= b)
			continue;
		n += b - a;
		*grain = max(*grain, ft_grain(f, x->leaf));
	}
	return n;
}

/* Unmap what is mapped in the range, with sizes that fit. */
static void ft_unmap_range(struct ft *f, u64 iova, u64 size)
{
	u64 end = iova + size, grain;
	unsigned int i, s;

	for (i = 0; i < f->nr_extents;) {
		struct ft_extent x = f->extent[i];
		u64 a = max(iova, x.iova), b = min(end, x.iova + x.size);

		if (a >= b) {
			i++;
			continue;
		}
		grain = ft_grain(f, x.leaf);
		a = round_down(a, grain);
		b = round_up(b, grain);
		while (a < b) {
			for (s = f->nr_sizes - 1; s; s--)
				if (!(a & (f->size[s] - 1)) && b - a >= f->size[s])
					break;
			KUNIT_ASSERT_EQ(f->test, ft_unmap(f, a, f->size[s], 1),
					f->size[s]);
			a += f->size[s];
		}
		i = 0;
	}
}

static void ft_random_flush(struct ft *f, u64 iova, u64 size)
{
	switch (ft_rnd(f, 6)) {
	case 0:		/* none: the tables wait */
		break;
	case 1:
		ft_user_flush_failed(f, iova, size);
		break;
	case 2:
		ft_user_flush(f, 0, BIT_ULL(f->c->ias));
		break;
	default:
		ft_user_flush(f, iova, size);
		break;
	}
}

static void ft_random_step(struct ft *f)
{
	unsigned int s = ft_rnd(f, f->nr_sizes);
	u64 pgsize = f->size[s], iova, size, covered, grain;
	size_t count = 1 + ft_rnd(f, 4), mapped;

	iova = ft_random_iova(f, pgsize);
	if (s + 1 < f->nr_sizes && !ft_rnd(f, 3)) {
		/* all that one entry of the next size could map */
		iova = round_down(iova, f->size[s + 1]);
		count = f->size[s + 1] >> ilog2(pgsize);
	}
	size = pgsize * count;
	if (iova + size > BIT_ULL(f->c->ias) || size >= BIT_ULL(f->c->oas - 1))
		return;
	ft_touch_range(f, iova, size);

	if (f->nr_extents > FT_EXTENTS / 2) {
		iova = 0;
		size = BIT_ULL(f->c->ias);
		ft_unmap_range(f, iova, size);
		ft_random_flush(f, iova, size);
		return;
	}

	covered = ft_covered(f, iova, size, &grain);
	if (!covered) {
		KUNIT_EXPECT_EQ(f->test, 0,
				ft_map(f, iova, ft_random_pa(f, pgsize, size),
				       pgsize, count, GFP_KERNEL, &mapped));
	} else if (covered == size && pgsize >= grain) {
		KUNIT_EXPECT_EQ(f->test, ft_unmap(f, iova, pgsize, count), size);
	} else if (ft_rnd(f, 2)) {
		ft_unmap_range(f, iova, size);
	}
	ft_random_flush(f, iova, size);
	ft_check(f, iova);
	ft_check(f, iova + size - 1);
}

static void ft_random(struct ft *f, unsigned int steps)
{
	unsigned int i, j;

	for (i = 0; i < steps; i++) {
		ft_random_step(f);
		for (j = 0; j < 4; j++) {
			u64 at = ft_random_iova(f, f->size[0]) +
				 ft_rnd(f, f->size[0]);

			ft_touch(f, at);
			ft_check(f, at);
		}
		if (f->allocator && !ft_rnd(f, 40))
			ft_check_count(f);
		if (!ft_rnd(f, 100))
			ft_check_extents(f);
		cond_resched();
	}
	ft_check_extents(f);
}

static void ft_test_random(struct kunit *test)
{
	struct ft *f = ft_start_param(test);

	ft_open(f);
	ft_random(f, ft_steps);
	ft_check_count(f);
	/* The walker's cache was of use; a few steps do not warm it. */
	KUNIT_EXPECT_GT(test, f->found, ft_steps < 250 ? ft_steps / 10 : ft_steps);
	ft_close(f);

	/* And one that goes with all that is mapped and all that waits. */
	ft_open(f);
	ft_random(f, ft_steps / 5);
	ft_close(f);
}

static void ft_test_default_allocator(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	struct iopte_allocator *own = f->allocator;
	struct io_pgtable_ops *ops;
	long before;

	rcu_barrier();
	f->allocator = NULL;
	before = node_pages(NR_IOMMU_PAGES);
	ft_open(f);
	ft_random(f, 50);
	KUNIT_EXPECT_GT(test, node_pages(NR_IOMMU_PAGES), before);
	ops = f->ops;
	f->ops = NULL;
	free_io_pgtable_ops(ops);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, node_pages(NR_IOMMU_PAGES), before);
	KUNIT_EXPECT_EQ(test, atomic_read(&f->attempts), 0);
	f->allocator = own;
}

/* RCU */

struct ft_reader {
	struct completion inside;
	bool leave;
	bool left;
};

static int ft_reader_fn(void *arg)
{
	struct ft_reader *r = arg;

	rcu_read_lock();
	complete(&r->inside);
	while (!READ_ONCE(r->leave))
		cpu_relax();
	WRITE_ONCE(r->left, true);
	rcu_read_unlock();

	while (!kthread_should_stop()) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!kthread_should_stop())
			schedule();
		__set_current_state(TASK_RUNNING);
	}
	return 0;
}

/* Map a block's range with pages, for an unmap of the block to take the table. */
static void ft_fill(struct ft *f, u64 iova)
{
	size_t count = f->size[1] >> ilog2(f->size[0]), mapped;

	if (f->c->fmt == ARM_V7S)	/* the size that one table maps */
		count = SZ_1M / SZ_4K;
	KUNIT_ASSERT_EQ(f->test, 0,
			ft_map(f, iova, ft_random_pa(f, f->size[0], SZ_1G),
			       f->size[0], count, GFP_KERNEL, &mapped));
	ft_touch_range(f, iova, mapped);
}

static u64 ft_table_span(struct ft *f)
{
	return f->c->fmt == ARM_V7S ? SZ_1M : f->size[1];
}

/* A table that an unmap removes is the only one in its block. */
static bool ft_table_is_block(struct ft *f)
{
	return f->c->fmt == ARM_V7S || f->size[0] >= PAGE_SIZE;
}

static u64 ft_random_span(struct ft *f)
{
	return round_down(ft_random_iova(f, f->size[0]), ft_table_span(f));
}

static void ft_test_reader_here(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	unsigned int i;
	int freed, inside;
	unsigned long flags;
	u64 iova, span;
	size_t done;

	if (ft_is_dart(f->c))
		kunit_skip(test, "removes no tables");

	ft_open(f);
	span = ft_table_span(f);
	for (i = 0; i < 3; i++) {
		iova = ft_random_span(f);
		ft_fill(f, iova);
		freed = atomic_read(&f->freed);

		/* UML's ticks take the kernel for user mode: none of them. */
		if (IS_ENABLED(CONFIG_UML))
			local_irq_save(flags);
		rcu_read_lock();
		done = ft_unmap(f, iova, span, 1);
		ft_user_flush(f, iova, span);
		if (!IS_ENABLED(CONFIG_UML))
			mdelay(20);
		inside = atomic_read(&f->freed);
		rcu_read_unlock();
		if (IS_ENABLED(CONFIG_UML))
			local_irq_restore(flags);
		KUNIT_EXPECT_EQ(test, done, span);
		KUNIT_EXPECT_EQ(test, inside, freed);

		rcu_barrier();
		if (ft_table_is_block(f))
			KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed + 1);
	}
	ft_close(f);
}

static void ft_test_reader_elsewhere(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	struct task_struct *task;
	struct ft_reader r = {};
	u64 iova, span;
	int freed;

	if (ft_is_dart(f->c))
		kunit_skip(test, "removes no tables");
	if (num_online_cpus() == 1 && !IS_ENABLED(CONFIG_PREEMPT_RCU))
		kunit_skip(test, "needs a second CPU");

	ft_open(f);
	span = ft_table_span(f);
	iova = ft_random_span(f);
	ft_fill(f, iova);
	freed = atomic_read(&f->freed);

	init_completion(&r.inside);
	task = kthread_run(ft_reader_fn, &r, "io-pgtable-reader");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	wait_for_completion(&r.inside);

	KUNIT_EXPECT_EQ(test, ft_unmap(f, iova, span, 1), span);
	ft_user_flush(f, iova, span);
	msleep(30);
	KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed);
	KUNIT_EXPECT_FALSE(test, READ_ONCE(r.left));

	WRITE_ONCE(r.leave, true);
	rcu_barrier();
	KUNIT_EXPECT_TRUE(test, READ_ONCE(r.left));
	if (ft_table_is_block(f))
		KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed + 1);
	kthread_stop(task);
	ft_close(f);
}

/* The model finds what is wrong with a flush. */

static unsigned int ft_stale_with(struct ft *f, enum ft_flush flush, bool replace)
{
	u64 iova, span = ft_table_span(f);
	unsigned int stale;
	size_t mapped;

	ft_open(f);
	iova = ft_random_span(f);
	ft_fill(f, iova);
	f->stale = 0;
	f->flush = flush;
	if (replace) {
		/* leave an empty table, cached, for a block to replace */
		ft_unmap(f, iova, f->size[0], span >> ilog2(f->size[0]));
		ft_touch_range(f, iova, span);
		KUNIT_EXPECT_EQ(f->test, 0,
				ft_map(f, iova, ft_random_pa(f, span, span), span,
				       1, GFP_KERNEL, &mapped));
	} else {
		KUNIT_EXPECT_EQ(f->test, ft_unmap(f, iova, span, 1), span);
	}
	ft_user_flush(f, iova, span);
	rcu_barrier();
	stale = f->stale;
	ft_close(f);
	f->flush = FT_FLUSH_RIGHT;
	f->stale = 0;
	f->lost = 0;
	return stale;
}

static void ft_test_wrong_flush(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	unsigned int replace;

	if (ft_is_dart(f->c))
		kunit_skip(test, "removes no tables");
	if (!ft_table_is_block(f))
		kunit_skip(test, "tables share blocks");

	for (replace = 0; replace < 2; replace++) {
		KUNIT_EXPECT_EQ(test, ft_stale_with(f, FT_FLUSH_RIGHT, replace), 0);
		KUNIT_EXPECT_EQ(test, ft_stale_with(f, FT_FLUSH_SLOW, replace), 0);
		KUNIT_EXPECT_GT(test, ft_stale_with(f, FT_FLUSH_NOTHING, replace), 0);
		KUNIT_EXPECT_GT(test, ft_stale_with(f, FT_FLUSH_ELSEWHERE, replace), 0);
		if (f->user_flush)
			KUNIT_EXPECT_GT(test, ft_stale_with(f, FT_FLUSH_TOO_LATE, replace), 0);
	}
}

/* A flush releases the tables of its range, when it was not skipped. */
static void ft_test_user_flush(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	u64 a = 0, b, span;
	int freed, shared;

	if (ft_is_dart(f->c))
		kunit_skip(test, "removes no tables");
	if (!f->user_flush)
		kunit_skip(test, "io-pgtable flushes");

	ft_open(f);
	span = ft_table_span(f);
	b = BIT_ULL(f->c->ias) - span;
	ft_fill(f, a);
	ft_fill(f, b);
	freed = atomic_read(&f->freed);
	KUNIT_EXPECT_EQ(test, ft_unmap(f, a, span, 1), span);
	KUNIT_EXPECT_EQ(test, ft_unmap(f, b, span, 1), span);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed);

	ft_user_flush(f, a + span, span);
	ft_user_flush(f, a, span / 2);
	ft_user_flush(f, a + span / 2, span);
	ft_user_flush_failed(f, a, span);
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed);

	ft_user_flush(f, a, span);
	rcu_barrier();
	shared = f->c->fmt == ARM_V7S;
	if (ft_table_is_block(f))
		KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed + 1 - shared);
	ft_user_flush(f, b, span);
	rcu_barrier();
	if (ft_table_is_block(f))
		KUNIT_EXPECT_EQ(test, atomic_read(&f->freed), freed + 2 - shared);
	ft_close(f);
}

/* Allocations that fail */

static void ft_test_fail_open(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	unsigned int n, injected = 0;

	for (n = 1;; n++) {
		f->fail_at = n;
		f->ops = ft_try_open(f);
		if (!f->refused)
			break;
		injected++;
		KUNIT_ASSERT_NULL(test, f->ops);
		rcu_barrier();
		KUNIT_ASSERT_EQ(test, atomic_read(&f->live), 0);
	}
	KUNIT_ASSERT_NOT_NULL(test, f->ops);
	KUNIT_EXPECT_GE(test, injected, 1);
	KUNIT_EXPECT_EQ(test, injected, atomic_read(&f->attempts));
	f->fail_at = 0;
	ft_close(f);
}

/* Fail attempt @n of the allocator, or with @slab of kmalloc() by this task. */
static void ft_inject(struct ft *f, bool slab, unsigned int n)
{
	if (!slab)
		f->fail_at = n;
#ifdef CONFIG_FAILSLAB
	else
		current->fail_nth = n;
#endif
}

/* End that; whether the attempt came. */
static bool ft_injected(struct ft *f, bool slab)
{
	bool came = !slab && f->refused;

#ifdef CONFIG_FAILSLAB
	if (slab)
		came = !current->fail_nth;
#endif
	ft_inject(f, slab, 0);
	return came;
}

static unsigned int ft_fail_map(struct ft *f, u64 iova, u64 pgsize,
				size_t count, bool slab)
{
	/* failslab lets allocations pass that may wait */
	gfp_t gfp = slab ? GFP_NOWAIT | __GFP_NOWARN : GFP_KERNEL;
	unsigned int n, injected = 0;
	u64 pa = ft_random_pa(f, pgsize, pgsize * count);
	u64 step = max(f->size[0], pgsize / 16);
	size_t mapped;
	bool failed;
	int ret;

	for (n = 1;; n++) {
		ft_open(f);
		atomic_set(&f->attempts, 0);
		ft_inject(f, slab, n);
		ret = ft_map(f, iova, pa, pgsize, count, gfp, &mapped);
		failed = ft_injected(f, slab);
		if (failed) {
			injected++;
			KUNIT_EXPECT_EQ(f->test, ret, -ENOMEM);
			KUNIT_EXPECT_LT(f->test, mapped, pgsize * count);
		} else {
			KUNIT_EXPECT_EQ(f->test, ret, 0);
			KUNIT_EXPECT_EQ(f->test, mapped, pgsize * count);
		}
		/* Exactly what it says is mapped. */
		ft_check_range(f, iova, pgsize * (count + 1), step);
		if (iova)
			ft_check(f, iova - 1);
		ft_check_count(f);
		ft_unmap_range(f, iova, pgsize * count);
		if (!failed)
			break;
		/* The same page table takes the map when there is memory. */
		ret = ft_map(f, iova, pa, pgsize, count, GFP_KERNEL, &mapped);
		KUNIT_EXPECT_EQ(f->test, ret, 0);
		ft_check_range(f, iova, pgsize * (count + 1), step);
		ft_close(f);
	}
	if (!slab)
		KUNIT_EXPECT_EQ(f->test, injected, atomic_read(&f->attempts));
	ft_close(f);
	return injected;
}

static unsigned int ft_fail_pages(struct ft *f, u64 iova, bool slab)
{
	return ft_fail_map(f, iova - 2 * f->size[0], f->size[0], 4, slab);
}

static void ft_test_fail_map(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	u64 span = BIT_ULL(ft_is_dart(f->c) || ft_is_lpae(f->c) ?
			   2 * ilog2(f->size[0]) - 3 : 20);
	unsigned int least = f->c->fmt == ARM_V7S ? 1 : 2;

	/* Pages on both sides of a table's end, and of higher tables' ends. */
	if (!ft_table_is_block(f))
		least = 0;
	KUNIT_EXPECT_GE(test, ft_fail_pages(f, span, false), least);
	KUNIT_EXPECT_GE(test, ft_fail_pages(f, BIT_ULL(f->c->ias - 1), false), least);
	if (f->nr_sizes > 1)
		ft_fail_map(f, f->size[1], f->size[1], 2, false);
}

/* The descriptors of tables that share a page are allocated beside it. */
static void ft_test_fail_slab(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	unsigned int n;

	if (!IS_ENABLED(CONFIG_FAILSLAB))
		kunit_skip(test, "needs CONFIG_FAILSLAB");

	n = ft_fail_pages(f, BIT_ULL(f->c->ias - 1), true);
	if (f->c->fmt == ARM_V7S)
		KUNIT_EXPECT_GE(test, n, 1);
	else if (ft_table_is_block(f))
		KUNIT_EXPECT_EQ(test, n, 0);
	/* else the root's page may have room for all that the map needs */
}

static void ft_fail_split(struct ft *f, u64 block, u64 page)
{
	unsigned int n, injected = 0;
	u64 iova = BIT_ULL(f->c->ias - 1), at = iova + block / 2;
	size_t mapped, done;

	for (n = 1;; n++) {
		ft_open(f);
		KUNIT_ASSERT_EQ(f->test, 0,
				ft_map(f, iova, ft_random_pa(f, block, block),
				       block, 1, GFP_KERNEL, &mapped));
		atomic_set(&f->attempts, 0);
		f->fail_at = n;
		done = ft_unmap(f, at, page, 1);
		f->fail_at = 0;
		if (!f->refused)
			break;
		injected++;
		KUNIT_EXPECT_EQ(f->test, done, 0);
		/* As it was. */
		ft_check(f, iova);
		ft_check(f, at - 1);
		ft_check(f, at);
		ft_check(f, at + page);
		ft_check(f, iova + block - 1);
		ft_check_count(f);
		ft_unmap_range(f, iova, block);
		ft_close(f);
	}
	KUNIT_EXPECT_EQ(f->test, done, page);
	KUNIT_EXPECT_EQ(f->test, injected, atomic_read(&f->attempts));
	if (f->size[0] >= PAGE_SIZE)
		KUNIT_EXPECT_GE(f->test, injected, 1);
	KUNIT_EXPECT_EQ(f->test, ft_walk(f, at), 0);
	KUNIT_EXPECT_EQ(f->test,
			(u64)f->ops->iova_to_phys(f->ops, f->base | at), 0);
	if (f->c->fmt != ARM_V7S) {
		ft_check(f, iova);
		ft_check(f, at - 1);
		ft_check(f, at + page);
		ft_check(f, iova + block - 1);
	}
	ft_check_count(f);
	ft_close(f);
}

static void ft_test_fail_split(struct kunit *test)
{
	struct ft *f = ft_start_param(test);

	if (ft_is_dart(f->c))
		kunit_skip(test, "has no blocks");

	if (f->c->fmt == ARM_V7S) {
		ft_fail_split(f, SZ_1M, SZ_4K);
		ft_fail_split(f, SZ_1M, SZ_64K);
		return;
	}
	ft_fail_split(f, f->size[1], f->size[0]);
	if (f->nr_sizes > 2) {
		ft_fail_split(f, f->size[2], f->size[1]);
		ft_fail_split(f, f->size[2], f->size[0]);
	}
}

/*
 * Two threads bring a table for one entry.  The second runs inside the first's
 * allocation, so that the first always loses.
 */

static void ft_hook_map(struct ft *f)
{
	KUNIT_EXPECT_EQ(f->test, 0,
			ft_map(f, f->hook_iova, f->hook_pa, f->size[0], 1,
			       GFP_ATOMIC, &f->hook_len));
}

static void ft_hook_unmap(struct ft *f)
{
	f->hook_len = ft_unmap(f, f->hook_iova, f->size[0], 1);
}

static void ft_test_race(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	u64 iova = BIT_ULL(f->c->ias - 1), block, page = f->size[0];
	size_t mapped;

	ft_open(f);
	f->hook_iova = iova + page;
	f->hook_pa = ft_random_pa(f, page, page);
	f->hook = ft_hook_map;
	KUNIT_EXPECT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, page, page),
					page, 1, GFP_KERNEL, &mapped));
	if (ft_table_is_block(f))
		KUNIT_EXPECT_NULL(test, f->hook);
	f->hook = NULL;
	ft_check(f, iova);
	ft_check(f, iova + page);
	ft_check_count(f);
	ft_close(f);

	if (ft_is_dart(f->c))
		return;

	ft_open(f);
	block = ft_table_span(f);
	KUNIT_EXPECT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, block, block),
					block, 1, GFP_KERNEL, &mapped));
	f->hook_iova = iova + page;
	f->hook = ft_hook_unmap;
	KUNIT_EXPECT_EQ(test, ft_unmap(f, iova, page, 1), page);
	if (ft_table_is_block(f)) {
		KUNIT_EXPECT_NULL(test, f->hook);
		KUNIT_EXPECT_EQ(test, f->hook_len, page);
	}
	f->hook = NULL;
	KUNIT_EXPECT_EQ(test, ft_walk(f, iova), 0);
	if (f->c->fmt != ARM_V7S) {
		ft_check(f, iova + page);
		ft_check(f, iova + 2 * page);
		ft_check(f, iova + block - 1);
	}
	ft_check_count(f);
	ft_close(f);
}

/* Dirty tracking */

#ifdef CONFIG_IOMMU_API

#define FT_DIRTY_PAGES	150

static const struct ft_case ft_dirty_cases[] = {
	{ "4K ias 48", ARM_64_LPAE_S1, FT_4K, 48, 48, IO_PGTABLE_QUIRK_ARM_HD },
	{ "4K ias 32", ARM_64_LPAE_S1, FT_4K, 32, 40, IO_PGTABLE_QUIRK_ARM_HD },
	{ "16K ias 36", ARM_64_LPAE_S1, FT_16K, 36, 40, IO_PGTABLE_QUIRK_ARM_HD },
	{ "64K ias 42", ARM_64_LPAE_S1, FT_64K, 42, 48, IO_PGTABLE_QUIRK_ARM_HD },
};

struct ft_leaf {
	u64 iova;
	u64 size;
	bool dirty;
};

#define FT_RDONLY	BIT_ULL(7)

static void ft_set_dirty(struct ft *f, struct ft_leaf *leaf, bool dirty)
{
	struct ft_entry e = ft_entry_of(f, leaf->iova);
	u64 *ptep = e.ptep;

	KUNIT_ASSERT_EQ(f->test, e.type, FT_LEAF);
	KUNIT_ASSERT_EQ(f->test, BIT_ULL(e.shift), leaf->size);
	leaf->dirty = dirty;
	WRITE_ONCE(*ptep, dirty ? *ptep & ~FT_RDONLY : *ptep | FT_RDONLY);
}

static bool ft_is_dirty(struct ft *f, struct ft_leaf *leaf)
{
	struct ft_entry e = ft_entry_of(f, leaf->iova);

	KUNIT_ASSERT_EQ(f->test, e.type, FT_LEAF);
	return !(READ_ONCE(*(u64 *)e.ptep) & FT_RDONLY);
}

/* Read [iova, end) and compare with the leaves inside. */
static void ft_read_dirty(struct ft *f, struct ft_leaf *leaf, unsigned int n,
			  u64 iova, u64 end, unsigned long flags)
{
	struct iommu_iotlb_gather gather;
	struct iommu_dirty_bitmap dirty;
	u64 first = 0, last = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (!leaf[i].dirty || leaf[i].iova < iova || leaf[i].iova >= end)
			continue;
		if (!last)
			first = leaf[i].iova;
		last = leaf[i].iova + leaf[i].size - 1;
	}

	iommu_dirty_bitmap_init(&dirty, NULL, &gather);
	KUNIT_ASSERT_EQ(f->test, 0,
			f->ops->read_and_clear_dirty(f->ops, iova, end - iova,
						     flags, &dirty));
	KUNIT_EXPECT_EQ_MSG(f->test, (u64)gather.end, last, "%llx-%llx", iova, end);
	if (last)
		KUNIT_EXPECT_EQ_MSG(f->test, (u64)gather.start, first,
				    "%llx-%llx", iova, end);

	for (i = 0; i < n; i++) {
		if (!(flags & IOMMU_DIRTY_NO_CLEAR) &&
		    leaf[i].iova >= iova && leaf[i].iova < end)
			leaf[i].dirty = false;
		KUNIT_EXPECT_EQ_MSG(f->test, ft_is_dirty(f, &leaf[i]), leaf[i].dirty,
				    "%llx after %llx-%llx", leaf[i].iova, iova, end);
	}
}

static void ft_test_dirty(struct kunit *test)
{
	struct ft *f = ft_start(test, test->param_value, false);
	u64 page, block, at = 0, end;
	struct ft_leaf *leaf;
	unsigned int i, j, round, n = 0;
	size_t mapped;

	leaf = kunit_kcalloc(test, FT_DIRTY_PAGES + 4, sizeof(*leaf), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, leaf);
	ft_open(f);
	page = f->size[0];
	block = f->size[1];

	/* pages with holes, over the end of a table; blocks; pages after a gap */
	at = block - 30 * page;
	for (i = 0; i < FT_DIRTY_PAGES + 4; i++) {
		u64 size = page;

		if (i >= 70 && i < 74) {
			at = round_up(at, block);
			size = block;
		} else if (i == 74) {
			at += 2 * block;
		} else if (i % 7 == 3) {
			at += page * (1 + i % 3);
		}
		KUNIT_ASSERT_EQ(test, 0,
				ft_map(f, at, ft_random_pa(f, size, size), size,
				       1, GFP_KERNEL, &mapped));
		leaf[n++] = (struct ft_leaf){ at, size };
		at += size;
	}
	end = at + 3 * page;

	for (round = 0; round < clamp(ft_steps / 20, 3, 6); round++) {
		for (i = 0; i < n; i++)
			ft_set_dirty(f, &leaf[i], round == 0 ? i & 1 :
					   round == 1 ? true :
					   round == 2 ? i % 3 : ft_rnd(f, 2));

		/* each entry on its own, and ranges from one to another */
		for (i = 0; i < n; i++)
			ft_read_dirty(f, leaf, n, leaf[i].iova,
				      leaf[i].iova + leaf[i].size,
				      IOMMU_DIRTY_NO_CLEAR);
		for (i = 0; i < 60; i++) {
			unsigned int a = ft_rnd(f, n), b = a + ft_rnd(f, n - a);

			ft_read_dirty(f, leaf, n, leaf[a].iova,
				      leaf[b].iova + leaf[b].size,
				      IOMMU_DIRTY_NO_CLEAR);
		}
		/* all of it, from a hole to a hole */
		ft_read_dirty(f, leaf, n, 0, end, IOMMU_DIRTY_NO_CLEAR);

		/* clear a part, then the rest */
		j = ft_rnd(f, n / 2);
		ft_read_dirty(f, leaf, n, leaf[j].iova,
			      leaf[j + n / 3].iova + leaf[j + n / 3].size, 0);
		ft_read_dirty(f, leaf, n, 0, end, 0);
		ft_read_dirty(f, leaf, n, 0, end, 0);
	}
	ft_check_extents(f);
	ft_close(f);
}

static void ft_dirty_desc(const struct ft_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ft_dirty_all, ft_dirty_cases, ft_dirty_desc);

static const void *ft_dirty_gen_params(const void *prev, char *desc)
{
	return ft_every_gen(ft_dirty_all_gen_params, prev, desc);
}

#endif /* CONFIG_IOMMU_API */

/*
 * Threads, each with pages of its own: some in a span that has a table to
 * itself, which comes and goes, and one in a span that all of them share.  In
 * each turn that is a fresh one, as long as there are any, and the threads race
 * to install its table.  A reader looks at any address at any time, and so does
 * the device.
 */
#define FT_THREADS	3
#define FT_THREAD_PAGES	8
#define FT_THREAD_FRESH	12
#define FT_THREAD_PA	SZ_256M

struct ft_threads {
	struct ft *f;
	struct completion start;
	u64 span;		/* what a table of leaves maps */
	unsigned int fresh;	/* shared spans */
	atomic_t running;	/* mappers that have not ended */
	unsigned int hits;	/* translations that the reader has found */
	struct ft_thread {
		struct ft_threads *all;
		struct task_struct *task;
		struct completion done;
		unsigned int nr;
		unsigned int wrong;
	} thread[FT_THREADS + 1];	/* the last one is the reader */
};

static u64 ft_thread_pa(u64 iova)
{
	return FT_THREAD_PA + iova;
}

static void ft_thread_expect(struct ft_thread *t, bool ok)
{
	if (!ok)
		t->wrong++;
}

static void ft_thread_map(struct ft_thread *t, u64 iova, size_t count)
{
	struct ft *f = t->all->f;
	size_t mapped = 0;

	ft_thread_expect(t, !f->ops->map_pages(f->ops, f->base | iova,
					       ft_thread_pa(iova), f->size[0],
					       count, IOMMU_READ | IOMMU_CACHE,
					       GFP_KERNEL, &mapped));
	ft_thread_expect(t, mapped == count * f->size[0]);
	iova += mapped - 1;
	ft_touch(f, iova);
	ft_thread_expect(t, f->ops->iova_to_phys(f->ops, f->base | iova) ==
			    ft_thread_pa(iova));
}

static void ft_thread_unmap(struct ft_thread *t, u64 iova, u64 pgsize,
			    size_t count)
{
	struct ft *f = t->all->f;
	u64 size = pgsize * count;

	ft_thread_expect(t, f->ops->unmap_pages(f->ops, f->base | iova, pgsize,
						count, NULL) == size);
	ft_user_flush(f, iova, size);
	ft_thread_expect(t, !f->ops->iova_to_phys(f->ops, f->base | iova));
}

/* The threads have a span each, behind the shared ones. */
static int ft_mapper_fn(void *arg)
{
	struct ft_thread *t = arg;
	struct ft_threads *all = t->all;
	struct ft *f = all->f;
	u64 page = f->size[0], span = all->span, own, shared;
	unsigned int i, turns = max(ft_steps / 10, 10);

	wait_for_completion(&all->start);
	own = span * (all->fresh + t->nr);
	for (i = 0; i < turns || !READ_ONCE(all->hits); i++) {
		shared = span * (i % all->fresh) + page * t->nr;
		ft_thread_map(t, shared, 1);
		ft_thread_map(t, own, FT_THREAD_PAGES);
		if (ft_is_dart(f->c))
			ft_thread_unmap(t, own, page, FT_THREAD_PAGES);
		else
			ft_thread_unmap(t, own, span, 1);
		ft_thread_unmap(t, shared, page, 1);
		cond_resched();
	}
	atomic_dec(&all->running);
	complete(&t->done);
	return 0;
}

static int ft_looker_fn(void *arg)
{
	struct ft_thread *t = arg;
	struct ft_threads *all = t->all;
	struct ft *f = all->f;
	struct rnd_state rnd;
	u64 iova, pa;

	prandom_seed_state(&rnd, 0x100c);
	wait_for_completion(&all->start);
	while (atomic_read(&all->running)) {
		iova = prandom_u32_state(&rnd) % (all->fresh + FT_THREADS) * all->span +
		       prandom_u32_state(&rnd) % FT_THREAD_PAGES * f->size[0];
		pa = f->ops->iova_to_phys(f->ops, f->base | iova);
		ft_thread_expect(t, !pa || pa == ft_thread_pa(iova));
		if (pa)
			WRITE_ONCE(all->hits, all->hits + 1);
		ft_touch(f, iova);
		cond_resched();
	}
	complete(&t->done);
	return 0;
}

static void ft_test_threads(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	struct ft_threads *all;
	struct ft_thread *t;
	unsigned int i, round;
	bool failed = false;

	if (num_online_cpus() == 1)
		kunit_skip(test, "needs a second CPU");

	all = kunit_kmalloc(test, sizeof(*all), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, all);

	for (round = 0; round < 2; round++) {
		ft_open(f);
		*all = (struct ft_threads){ .f = f };
		all->span = BIT_ULL(f->shift[f->levels - 2]);
		/* every format can map 3 GiB to what is behind FT_THREAD_PA */
		all->fresh = min((3U * SZ_1G >> f->shift[f->levels - 2]) - FT_THREADS,
				 FT_THREAD_FRESH);
		init_completion(&all->start);
		for (i = 0; i <= FT_THREADS; i++) {
			t = &all->thread[i];
			t->all = all;
			t->nr = i;
			init_completion(&t->done);
			t->task = kthread_create(i < FT_THREADS ? ft_mapper_fn : ft_looker_fn,
						 t, "io-pgtable-%u", i);
			failed |= IS_ERR(t->task);
		}
		atomic_set(&all->running, FT_THREADS);
		for (i = 0; i <= FT_THREADS; i++) {
			t = &all->thread[i];
			if (!IS_ERR(t->task))
				get_task_struct(t->task);
			if (!failed)
				wake_up_process(t->task);
		}
		complete_all(&all->start);
		for (i = 0; i <= FT_THREADS; i++) {
			t = &all->thread[i];
			if (!failed)
				wait_for_completion(&t->done);
			if (!IS_ERR(t->task))
				kthread_stop_put(t->task);
			KUNIT_EXPECT_EQ(test, t->wrong, 0);
		}
		KUNIT_EXPECT_FALSE(test, failed);
		for (i = 0; i < all->fresh + FT_THREADS; i++)
			KUNIT_EXPECT_EQ(test, ft_walk(f, i * all->span), 0);
		ft_check_count(f);
		ft_close(f);
	}
}

static bool ft_next_leaf(struct iopte_radix *radix, u64 *iova, unsigned int *shift,
			 struct iopte_entry *entry)
{
	int ret;

	do {
		ret = iopte_radix_next_leaf(radix, iova, shift, entry);
	} while (!ret);
	return ret > 0;
}

/* The walker for debugfs finds what is mapped, all of it and once. */
static void ft_test_walk(struct kunit *test)
{
	struct ft *f = ft_start_param(test);
	struct iopte_radix *radix;
	struct iopte_entry entry;
	struct iopte_child child;
	u64 iova = 0, mapped = 0, found = 0, end = 0, all = 0;
	unsigned int i, round, shift;

	ft_open(f);
	radix = io_pgtable_ops_to_pgtable(f->ops)->radix;
	if (!radix)
		kunit_skip(test, "not on the radix layer");
	KUNIT_EXPECT_FALSE(test, ft_next_leaf(radix, &iova, &shift, &entry));
	iova = 0;
	KUNIT_EXPECT_FALSE(test, iopte_radix_next_child(radix, radix->top_shift, &iova,
							&child));

	for (round = 0; round < 3; round++) {
		ft_random(f, ft_steps / 5);
		for (i = 0, mapped = 0; i < f->nr_extents; i++)
			mapped += f->extent[i].size;

		for (iova = 0, found = 0, end = 0;
		     ft_next_leaf(radix, &iova, &shift, &entry);
		     iova = end) {
			KUNIT_ASSERT_EQ(test, entry.type, IOPTE_LEAF);
			KUNIT_ASSERT_GE(test, iova, end);
			KUNIT_ASSERT_EQ(test, iova & (BIT_ULL(shift) - 1), 0);
			KUNIT_EXPECT_NE(test, ft_model(f, iova), 0);
			end = iova + BIT_ULL(shift);
			KUNIT_EXPECT_NE(test, ft_model(f, end - 1), 0);
			found += BIT_ULL(shift);
		}
		KUNIT_EXPECT_EQ(test, found, mapped);
		all += found;
	}
	KUNIT_EXPECT_GT(test, all, 0);

	/* from inside of a block: the block */
	for (i = 0; i < f->nr_extents; i++) {
		iova = f->extent[i].iova + f->extent[i].size - 1;
		KUNIT_ASSERT_TRUE(test, ft_next_leaf(radix, &iova, &shift, &entry));
		KUNIT_EXPECT_EQ(test, iova + BIT_ULL(shift),
				f->extent[i].iova + f->extent[i].size);
	}
	ft_close(f);
}

/*
 * Page tables that count, and reserve.
 *
 * A list of reservations says which counts the tables have to hold.  After each
 * step all tables are looked at, linked and parked ones.
 */
#ifdef CONFIG_64BIT

/* What the reservations add to a table of level @shift that begins at @base. */
static u64 ft_model_reserved(struct ft *f, unsigned int shift, u64 base, u64 size)
{
	unsigned int i;
	u64 n = 0;

	for (i = 0; i < f->nr_reserved; i++) {
		struct ft_reserved *r = &f->reserved[i];
		u64 a = max(base, r->iova), b = min(base + size, r->iova + r->size);

		if (r->pgsize == BIT_ULL(shift) && a < b)
			n += (b - a) >> shift;
	}
	return n;
}

/* What was found in all tables. */
struct ft_census {
	struct xarray *blocks;	/* where to record where they lie, or NULL */
	unsigned int tables;	/* the root excepted */
	unsigned int parked;
	u64 reserved;
};

static void ft_look_at(struct ft *f, struct ft_census *census, unsigned int shift,
		       struct iopte_page *desc, void *table, u64 base, bool linked);

/* The parked set: a table's place says its lowest bits. */
static unsigned int ft_look_at_parked(struct ft *f, struct ft_census *census,
				      unsigned int shift, struct iopte_page *desc,
				      unsigned int depth, unsigned int bits,
				      void *parent, u64 base)
{
	struct iopte_radix *radix = io_pgtable_ops_to_pgtable(f->ops)->radix;
	unsigned int reserved, i;
	void *table;

	if (!desc)
		return 0;

	table = iopte_address(radix->iop->pool, desc);
	census->parked++;
	KUNIT_EXPECT_EQ(f->test, desc->slot & ((1U << depth) - 1), bits);
	KUNIT_EXPECT_NE(f->test, (int)IOPTE_TABLE,
			(int)radix->ops->read(radix, shift,
					      iopte_at(radix, parent, desc->slot)).type);
	ft_look_at(f, census, shift - radix->stride, desc, table,
		   base + ((u64)desc->slot << shift), false);
	reserved = desc->reserved || desc->children;
	for (i = 0; i < 2; i++)
		reserved += ft_look_at_parked(f, census, shift, desc->child[i],
					      depth + 1, bits | i << depth,
					      parent, base);
	return reserved;
}

static void ft_look_at(struct ft *f, struct ft_census *census, unsigned int shift,
		       struct iopte_page *desc, void *table, u64 base, bool linked)
{
	struct iopte_radix *radix = io_pgtable_ops_to_pgtable(f->ops)->radix;
	bool root = table == radix->root;
	unsigned int i, live = 0, children = 0;
	unsigned int n = (root ? radix->root_mask : radix->table_mask) + 1;

	for (i = 0; i < n; i++) {
		struct iopte_entry e = radix->ops->read(radix, shift,
							iopte_at(radix, table, i));
		struct iopte_page *child;

		live += e.type != IOPTE_EMPTY;
		if (shift == radix->last_shift || e.type != IOPTE_TABLE)
			continue;
		/* What leads to tables is gone when a table is parked */
		KUNIT_EXPECT_TRUE(f->test, linked);
		child = iopte_desc(radix, e.table);
		ft_look_at(f, census, shift - radix->stride, child, e.table,
			   base + ((u64)i << shift), true);
		children += child->reserved || child->children;
	}
	if (shift > radix->last_shift)
		children += ft_look_at_parked(f, census, shift, desc->parked, 0,
					      0, table, base);

	census->tables += !root;
	census->reserved += desc->reserved;
	if (census->blocks)
		xa_store_irq(census->blocks,
			     page_to_pfn(compound_head(virt_to_page(table))),
			     xa_mk_value(1), GFP_KERNEL);
	KUNIT_EXPECT_TRUE(f->test, desc->state & IOPTE_COUNTED);
	if (!linked)
		KUNIT_EXPECT_LT(f->test, atomic_read(&desc->live), 0);
	else if (!root)
		KUNIT_EXPECT_EQ(f->test, atomic_read(&desc->live), live);
	KUNIT_EXPECT_EQ(f->test, desc->children, children);
	KUNIT_EXPECT_EQ(f->test, (u64)desc->reserved,
			ft_model_reserved(f, shift, base, (u64)n << shift));
}

/* What who looks on sees: the tables below one of level @shift, up to @last. */
static void ft_look_on(struct ft *f, struct ft_census *census, unsigned int shift,
		       u64 iova, u64 last)
{
	struct iopte_radix *radix = io_pgtable_ops_to_pgtable(f->ops)->radix;
	unsigned int below = shift - radix->stride;
	struct iopte_child child;

	for (; iova <= last && iopte_radix_next_child(radix, shift, &iova, &child);
	     iova += BIT_ULL(shift)) {
		census->tables++;
		census->parked += !child.linked;
		census->reserved += child.reserved;
		if (below != radix->last_shift)
			ft_look_on(f, census, below, iova, iova + (BIT_ULL(shift) - 1));
	}
}

/* All counts are as the entries and the list of reservations say. */
static struct ft_census __ft_check_counts(struct ft *f, struct xarray *blocks)
{
	struct iopte_radix *radix = io_pgtable_ops_to_pgtable(f->ops)->radix;
	struct ft_census census = { .blocks = blocks }, own = {};
	unsigned int i;
	u64 reserved = 0;

	ft_look_at(f, &census, radix->top_shift, radix->root_desc, radix->root, 0,
		   true);
	/* There is a table for each reserved entry. */
	for (i = 0; i < f->nr_reserved; i++)
		reserved += f->reserved[i].size >> ilog2(f->reserved[i].pgsize);
	KUNIT_EXPECT_EQ(f->test, census.reserved, reserved);
	KUNIT_EXPECT_FALSE(f->test, radix->pending);

	/* Who looks on, by debugfs, sees the same. */
	rcu_read_lock();
	own.reserved = iopte_radix_reserved(radix, radix->root);
	rcu_read_unlock();
	if (radix->top_shift != radix->last_shift)
		ft_look_on(f, &own, radix->top_shift, 0, iopte_radix_last(radix));
	KUNIT_EXPECT_EQ(f->test, own.tables, census.tables);
	KUNIT_EXPECT_EQ(f->test, own.parked, census.parked);
	KUNIT_EXPECT_EQ(f->test, own.reserved, reserved);
	return census;
}

static struct ft_census ft_check_counts(struct ft *f)
{
	return __ft_check_counts(f, NULL);
}

/* Every block in use has a table in it that is linked or parked. */
static void ft_check_blocks(struct ft *f)
{
	struct xarray blocks;
	unsigned int n = 0;
	unsigned long pfn;
	void *entry;

	if (f->user_flush)
		ft_user_flush(f, 0, BIT_ULL(f->c->ias));
	rcu_barrier();

	xa_init_flags(&blocks, XA_FLAGS_LOCK_IRQ);
	__ft_check_counts(f, &blocks);
	xa_for_each(&blocks, pfn, entry)
		n++;
	xa_destroy(&blocks);
	KUNIT_EXPECT_EQ(f->test, atomic_read(&f->live), n);
}

static int ft_reserve(struct ft *f, u64 iova, u64 size, u64 pgsize)
{
	int ret = f->ops->reserve(f->ops, f->base | iova, size, pgsize, GFP_KERNEL);

	if (!ret) {
		KUNIT_ASSERT_LT(f->test, f->nr_reserved, FT_RESERVED);
		f->reserved[f->nr_reserved++] =
			(struct ft_reserved){ iova, size, pgsize };
	}
	return ret;
}

/* Give all or a part of reservation @i back. */
static void ft_unreserve(struct ft *f, unsigned int i, u64 iova, u64 size)
{
	struct ft_reserved *r = &f->reserved[i], old = *r;

	f->ops->unreserve(f->ops, f->base | iova, size, r->pgsize);
	*r = f->reserved[--f->nr_reserved];
	if (iova > old.iova)
		f->reserved[f->nr_reserved++] =
			(struct ft_reserved){ old.iova, iova - old.iova, old.pgsize };
	if (iova + size < old.iova + old.size)
		f->reserved[f->nr_reserved++] =
			(struct ft_reserved){ iova + size,
					      old.iova + old.size - iova - size,
					      old.pgsize };
}

static struct ft *ft_start_counts(struct kunit *test)
{
	const struct ft_param *p = test->param_value;

	if (!ft_is_lpae(p->c))
		kunit_skip(test, "does not reserve");
	return ft_start_param(test);
}

/* Whether maps and unmaps of [iova, iova + size) with @pgsize must not allocate. */
static bool ft_is_reserved(struct ft *f, u64 iova, u64 size, u64 pgsize)
{
	unsigned int i;

	for (i = 0; i < f->nr_reserved; i++) {
		struct ft_reserved *r = &f->reserved[i];

		if (iova >= r->iova && iova + size <= r->iova + r->size &&
		    pgsize >= r->pgsize)
			return true;
	}
	return false;
}

/*
 * From here on the allocator refuses everything, and the slab, where it can, what
 * may not wait; how often they are asked.
 */
static void ft_refuse(struct ft *f)
{
	atomic_set(&f->attempts, 0);
	f->fail_from = 1;
	ft_inject(f, true, 1);
}

static unsigned int ft_refused(struct ft *f)
{
	f->fail_from = 0;
	return atomic_read(&f->attempts) + ft_injected(f, true);
}

static void ft_random_reserve(struct ft *f, bool outside)
{
	unsigned int s = ft_rnd(f, f->nr_sizes), i;
	u64 pgsize = f->size[s], size = pgsize * (1 + ft_rnd(f, 4)), iova;

	/* splitting one leaves at most one more */
	if (f->nr_reserved > FT_RESERVED - 3 || !ft_rnd(f, 3)) {
		if (!f->nr_reserved)
			return;
		i = ft_rnd(f, f->nr_reserved);
		iova = f->reserved[i].iova;
		size = f->reserved[i].size;
		pgsize = f->reserved[i].pgsize;
		if (size > pgsize && ft_rnd(f, 2)) {
			u64 cut = pgsize * (1 + ft_rnd(f, min(size >> ilog2(pgsize), 4) - 1));

			if (ft_rnd(f, 2))
				iova += cut;
			size -= cut;
		}
		/* What is mapped when the last reservation goes keeps its table */
		if (!outside) {
			ft_unmap_range(f, iova, size);
			if (f->user_flush)
				ft_user_flush(f, iova, size);
		}
		ft_unreserve(f, i, iova, size);
		return;
	}

	iova = ft_random_iova(f, pgsize);
	if (s + 1 < f->nr_sizes && ft_rnd(f, 2)) {
		iova = round_down(iova, f->size[s + 1]);
		size = f->size[s + 1];
	}
	if (iova + size <= BIT_ULL(f->c->ias))
		KUNIT_EXPECT_EQ(f->test, ft_reserve(f, iova, size, pgsize), 0);
}

/*
 * Map what is not mapped in a range, or unmap what is.  Where it is reserved
 * nothing is allocated and nothing freed.
 */
static void ft_random_use(struct ft *f, bool outside)
{
	unsigned int s = ft_rnd(f, f->nr_sizes);
	u64 pgsize = f->size[s], iova, size, covered, grain;
	struct ft_census before, after;
	size_t count = 1 + ft_rnd(f, 4), mapped;
	bool reserved, look = !ft_rnd(f, 6);
	gfp_t gfp = GFP_KERNEL;

	iova = ft_random_iova(f, pgsize);
	if (f->nr_reserved && (!outside || ft_rnd(f, 3))) {
		struct ft_reserved *r = &f->reserved[ft_rnd(f, f->nr_reserved)];

		iova = r->iova;
		if (r->size > r->pgsize)
			iova += r->pgsize * ft_rnd(f, min(r->size >> ilog2(r->pgsize), 512));
		iova = round_down(iova, pgsize);
	}
	if (s + 1 < f->nr_sizes && !ft_rnd(f, 3)) {
		iova = round_down(iova, f->size[s + 1]);
		count = f->size[s + 1] >> ilog2(pgsize);
	}
	size = pgsize * count;
	if (iova + size > BIT_ULL(f->c->ias) || size >= BIT_ULL(f->c->oas - 1))
		return;
	reserved = ft_is_reserved(f, iova, size, pgsize);
	if (!reserved && !outside)
		return;

	covered = ft_covered(f, iova, size, &grain);
	if (covered && covered != size)
		return;
	if (f->nr_extents > FT_EXTENTS / 2 && !covered)
		return;
	ft_touch_range(f, iova, size);

	if (look)
		before = ft_check_counts(f);
	if (reserved) {
		/* failslab lets allocations pass that may wait */
		if (ft_rnd(f, 2))
			gfp = GFP_NOWAIT | __GFP_NOWARN;
		ft_refuse(f);
	}
	if (covered)
		KUNIT_EXPECT_EQ(f->test, ft_unmap(f, iova, pgsize, count), size);
	else
		KUNIT_EXPECT_EQ(f->test, 0,
				ft_map(f, iova, ft_random_pa(f, pgsize, size),
				       pgsize, count, gfp, &mapped));
	if (reserved)
		KUNIT_EXPECT_EQ(f->test, ft_refused(f), 0);
	if (look)
		after = ft_check_counts(f);
	if (look && reserved)
		KUNIT_EXPECT_EQ(f->test, after.tables, before.tables);
	if (f->user_flush)
		ft_user_flush(f, iova, size);
	ft_touch_range(f, iova, size);
	ft_check(f, iova);
	ft_check(f, iova + size - 1);
}

/*
 * Random reservations, nested and given back in pieces, and what is mapped
 * inside and, with @outside, outside of them.
 */
static void ft_reserve_random(struct ft *f, unsigned int steps, bool outside)
{
	unsigned int i, j;

	for (i = 0; i < steps; i++) {
		if (!ft_rnd(f, 4)) {
			ft_random_reserve(f, outside);
			if (!ft_rnd(f, 4))
				ft_check_counts(f);
		} else {
			ft_random_use(f, outside);
		}
		/* What is unmapped from the middle leaves two extents. */
		if (f->nr_extents > FT_EXTENTS * 3 / 4) {
			ft_unmap_range(f, 0, BIT_ULL(f->c->ias));
			if (f->user_flush)
				ft_user_flush(f, 0, BIT_ULL(f->c->ias));
		}
		for (j = 0; j < 2; j++) {
			u64 at = ft_random_iova(f, f->size[0]) +
				 ft_rnd(f, f->size[0]);

			ft_touch(f, at);
			ft_check(f, at);
		}
		if (!ft_rnd(f, 50)) {
			ft_check_extents(f);
			ft_check_blocks(f);
		}
		cond_resched();
	}
	ft_check_extents(f);
}

static void ft_test_reserve_random(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	struct ft_census census;
	unsigned int outside;

	/* Who flushes on his own maps nothing outside. */
	for (outside = 0; outside < 2 - f->user_flush; outside++) {
		ft_open(f);
		ft_reserve_random(f, ft_steps / 2, outside);
		ft_check_blocks(f);

		/* All goes but what maps outside have left. */
		ft_unmap_range(f, 0, BIT_ULL(f->c->ias));
		if (f->user_flush)
			ft_user_flush(f, 0, BIT_ULL(f->c->ias));
		while (f->nr_reserved)
			ft_unreserve(f, 0, f->reserved[0].iova, f->reserved[0].size);
		census = ft_check_counts(f);
		if (!outside)
			KUNIT_EXPECT_EQ(test, census.tables, 0);
		ft_check_blocks(f);
		ft_close(f);
	}

	/* And one that goes with all that is mapped. */
	ft_open(f);
	ft_reserve_random(f, ft_steps / 4, !f->user_flush);
	while (f->nr_reserved)
		ft_unreserve(f, 0, f->reserved[0].iova, f->reserved[0].size);
	ft_check_counts(f);
	ft_close(f);
}

/* Without a reservation a page table that counts does what any other does. */
static void ft_test_counts_random(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);

	ft_open(f);
	ft_random(f, ft_steps / 2);
	ft_check_counts(f);
	ft_check_count(f);
	ft_close(f);
}

/* A reserve that finds no memory, at each allocation in turn, changes nothing. */
static void ft_fail_reserve(struct ft *f, u64 iova, u64 size, u64 pgsize)
{
	struct ft_census before, after;
	unsigned int n, needed;
	size_t mapped;
	int blocks;

	for (n = 1;; n++) {
		ft_open(f);
		/* something is there, below the first of the tables */
		KUNIT_ASSERT_EQ(f->test, 0,
				ft_map(f, iova, ft_random_pa(f, f->size[0], f->size[0]),
				       f->size[0], 1, GFP_KERNEL, &mapped));
		before = ft_check_counts(f);
		blocks = atomic_read(&f->live);
		atomic_set(&f->attempts, 0);
		f->fail_from = n;
		if (!ft_reserve(f, iova, size, pgsize))
			break;
		f->fail_from = 0;
		after = ft_check_counts(f);
		KUNIT_EXPECT_EQ(f->test, after.tables, before.tables);
		KUNIT_EXPECT_EQ(f->test, atomic_read(&f->live), blocks);
		ft_check_extents(f);
		ft_close(f);
	}
	f->fail_from = 0;
	needed = atomic_read(&f->attempts);
	after = ft_check_counts(f);
	/* What was missing and nothing else. */
	if (ft_table_is_block(f))
		KUNIT_EXPECT_EQ(f->test, after.tables - before.tables, needed);
	KUNIT_EXPECT_EQ(f->test, n, needed + 1);
	ft_unreserve(f, 0, iova, size);
	ft_check_counts(f);
	ft_unmap_range(f, iova, size);
	ft_close(f);
}

static void ft_test_fail_reserve(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 iova = BIT_ULL(f->c->ias - 1);

	ft_fail_reserve(f, iova - f->size[1], 3 * f->size[1], f->size[0]);
	ft_fail_reserve(f, iova - f->size[1], 3 * f->size[1], f->size[1]);
	if (f->nr_sizes > 2)
		ft_fail_reserve(f, iova, f->size[2], f->size[1]);
}

/* Blocks over reserved tables, and back: what the page table is reserved for. */
static void ft_test_park(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], block, iova = BIT_ULL(f->c->ias - 1);
	struct ft_census want, census;
	unsigned int s, round;
	size_t mapped;

	ft_open(f);
	block = f->size[f->nr_sizes > 2 ? 2 : 1];
	if (block > SZ_1G)
		block = f->size[1];
	/* over a live block */
	KUNIT_ASSERT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, block, block),
					block, 1, GFP_KERNEL, &mapped));
	KUNIT_ASSERT_EQ(test, 0, ft_reserve(f, iova, block, page));
	want = ft_check_counts(f);
	KUNIT_EXPECT_GT(test, want.parked, 0);
	ft_refuse(f);

	for (round = 0; round < 2; round++) {
		/* split by pages and by blocks */
		KUNIT_EXPECT_EQ(test, ft_unmap(f, iova + page, page, 2), 2 * page);
		KUNIT_EXPECT_EQ(test, ft_unmap(f, iova + block - page, page, 1), page);
		ft_check(f, iova);
		ft_check(f, iova + 3 * page);
		ft_check(f, iova + block / 2);
		census = ft_check_counts(f);
		KUNIT_EXPECT_EQ(test, census.tables, want.tables);

		/* one unmap of it all */
		ft_unmap_range(f, iova, block);
		ft_user_flush(f, iova, block);
		KUNIT_ASSERT_EQ(test, 0,
				ft_map(f, iova + block / 2,
				       ft_random_pa(f, page, page), page, 1,
				       GFP_KERNEL, &mapped));
		ft_user_flush(f, iova, block);
		ft_touch_range(f, iova, block);
		KUNIT_EXPECT_EQ(test, f->ops->unmap_pages(f->ops, f->base | iova, block,
							  1, NULL), block);
		ft_user_flush(f, iova, block);
		ft_cut(f, iova, block);
		census = ft_check_counts(f);
		KUNIT_EXPECT_EQ(test, census.tables, want.tables);

		/* each size, each over what the one before has left */
		for (s = 0; s < f->nr_sizes && f->size[s] <= block; s++) {
			KUNIT_ASSERT_EQ(test, 0,
					ft_map(f, iova, ft_random_pa(f, f->size[s], f->size[s]),
					       f->size[s], 1, GFP_KERNEL, &mapped));
			ft_user_flush(f, iova, block);
			ft_touch_range(f, iova, block);
			ft_check_extents(f);
			if (f->size[s] == block)
				break;
			KUNIT_EXPECT_EQ(test, ft_unmap(f, iova, f->size[s], 1),
					f->size[s]);
			ft_user_flush(f, iova, block);
		}
		census = ft_check_counts(f);
		KUNIT_EXPECT_EQ(test, census.tables, want.tables);
	}
	KUNIT_EXPECT_EQ(test, ft_refused(f), 0);

	/* The block stays when the reservation goes, and its tables do not. */
	ft_unreserve(f, 0, iova, block);
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.parked, 0);
	ft_check(f, iova);
	ft_check(f, iova + block - 1);
	ft_check_count(f);
	ft_close(f);
}

/* What the tracepoints say of one page table: the first that allocates. */
struct ft_traced {
	atomic_t pgtable;
	atomic_t allocated;
	atomic_t freed;
	atomic_t parked;
	atomic_t reserved;
	atomic_t unreserved;
	u64 iova;
	u64 size;
	u64 pgsize;
	int ret;
	bool done;
};

static void ft_on_alloc(void *data, u32 pgtable, const void *table, size_t size)
{
	struct ft_traced *t = data;

	atomic_cmpxchg(&t->pgtable, 0, pgtable);
	if (atomic_read(&t->pgtable) == pgtable)
		atomic_inc(&t->allocated);
}

static void ft_on_free(void *data, u32 pgtable, const void *table, size_t size)
{
	struct ft_traced *t = data;

	if (atomic_read(&t->pgtable) == pgtable)
		atomic_inc(&t->freed);
}

static void ft_on_park(void *data, u32 pgtable, const void *table,
		       const void *parent, unsigned int slot)
{
	struct ft_traced *t = data;

	if (atomic_read(&t->pgtable) == pgtable)
		atomic_inc(&t->parked);
}

static void ft_on_unpark(void *data, u32 pgtable, const void *table,
			 const void *parent, unsigned int slot)
{
	struct ft_traced *t = data;

	if (atomic_read(&t->pgtable) == pgtable)
		atomic_dec(&t->parked);
}

static void ft_on_reserve(void *data, u32 pgtable, u64 iova, u64 size, u64 pgsize,
			  int ret)
{
	struct ft_traced *t = data;

	if (atomic_read(&t->pgtable) != pgtable)
		return;
	atomic_inc(&t->reserved);
	t->iova = iova;
	t->size = size;
	t->pgsize = pgsize;
	t->ret = ret;
}

static void ft_on_unreserve(void *data, u32 pgtable, u64 iova, u64 size, u64 pgsize,
			    bool done)
{
	struct ft_traced *t = data;

	if (atomic_read(&t->pgtable) != pgtable)
		return;
	atomic_inc(&t->unreserved);
	t->iova = iova;
	t->size = size;
	t->pgsize = pgsize;
	t->done = done;
}

static void ft_trace_stop(void *data)
{
	unregister_trace_iopte_alloc(ft_on_alloc, data);
	unregister_trace_iopte_free(ft_on_free, data);
	unregister_trace_iopte_park(ft_on_park, data);
	unregister_trace_iopte_unpark(ft_on_unpark, data);
	unregister_trace_iopte_reserve(ft_on_reserve, data);
	unregister_trace_iopte_unreserve(ft_on_unreserve, data);
	tracepoint_synchronize_unregister();
}

static struct ft_traced *ft_trace_start(struct kunit *test)
{
	struct ft_traced *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, t);
	if (!IS_ENABLED(CONFIG_TRACEPOINTS))
		kunit_skip(test, "needs tracepoints");

	ret = register_trace_iopte_alloc(ft_on_alloc, t) ?:
	      register_trace_iopte_free(ft_on_free, t) ?:
	      register_trace_iopte_park(ft_on_park, t) ?:
	      register_trace_iopte_unpark(ft_on_unpark, t) ?:
	      register_trace_iopte_reserve(ft_on_reserve, t) ?:
	      register_trace_iopte_unreserve(ft_on_unreserve, t);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, ft_trace_stop, t));
	KUNIT_ASSERT_EQ(test, ret, 0);
	return t;
}

/* What has been traced adds up to the tables that there are. */
static void ft_check_traced(struct ft *f, struct ft_traced *t)
{
	struct ft_census census;

	ft_user_flush(f, 0, BIT_ULL(f->c->ias));
	rcu_barrier();
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(f->test, census.tables + 1,
			atomic_read(&t->allocated) - atomic_read(&t->freed));
	/* without a reservation what is parked has gone, and is not unparked */
	if (f->nr_reserved)
		KUNIT_EXPECT_EQ(f->test, atomic_read(&t->parked), census.parked);
}

static void ft_test_trace(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], block = f->size[1], iova = BIT_ULL(f->c->ias - 1);
	struct ft_traced *t = ft_trace_start(test);
	u64 big = f->size[f->nr_sizes > 2 ? 2 : 1];
	size_t mapped;

	if (big > SZ_1G)
		big = block;

	ft_open(f);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->pgtable),
			io_pgtable_ops_to_pgtable(f->ops)->pool->id);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->allocated), 1);
	KUNIT_ASSERT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, block, block),
					block, 1, GFP_KERNEL, &mapped));
	ft_check_traced(f, t);

	KUNIT_ASSERT_EQ(test, 0, ft_reserve(f, iova, 2 * block, page));
	KUNIT_EXPECT_EQ(test, atomic_read(&t->reserved), 1);
	KUNIT_EXPECT_EQ(test, t->iova, f->base | iova);
	KUNIT_EXPECT_EQ(test, t->size, 2 * block);
	KUNIT_EXPECT_EQ(test, t->pgsize, page);
	KUNIT_EXPECT_EQ(test, t->ret, 0);
	KUNIT_EXPECT_GT(test, atomic_read(&t->parked), 0);
	ft_check_traced(f, t);

	/* one that fails, where no table is */
	ft_refuse(f);
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			f->ops->reserve(f->ops, f->base, page, page, GFP_KERNEL));
	ft_refused(f);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->reserved), 2);
	KUNIT_EXPECT_EQ(test, t->ret, -ENOMEM);
	ft_check_traced(f, t);

	/* split the block; unmap it as one; map again */
	KUNIT_EXPECT_EQ(test, ft_unmap(f, iova + page, page, 1), page);
	ft_check_traced(f, t);
	ft_unmap_range(f, iova, block);
	ft_check_traced(f, t);
	KUNIT_ASSERT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, page, page),
					page, 1, GFP_KERNEL, &mapped));
	ft_check_traced(f, t);
	/* a table with tables in it, where there are such blocks */
	KUNIT_EXPECT_EQ(test, big,
			f->ops->unmap_pages(f->ops, f->base | iova, big, 1, NULL));
	ft_cut(f, iova, big);
	ft_check_traced(f, t);
	KUNIT_ASSERT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, page, page),
					page, 1, GFP_KERNEL, &mapped));
	ft_check_traced(f, t);

	ft_unreserve(f, 0, iova, 2 * block);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->unreserved), 1);
	KUNIT_EXPECT_EQ(test, t->iova, f->base | iova);
	KUNIT_EXPECT_EQ(test, t->size, 2 * block);
	KUNIT_EXPECT_EQ(test, t->pgsize, page);
	KUNIT_EXPECT_TRUE(test, t->done);
	ft_check_traced(f, t);

	ft_close(f);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->allocated), atomic_read(&t->freed));
}

/*
 * What is unmapped beside a reservation is parked, and goes with the parent's last
 * reservation, wherever that is.
 */
static void ft_test_park_beside(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], block = f->size[1], iova = 0;
	struct ft_census before, census;
	unsigned int i;
	size_t mapped;

	ft_open(f);
	KUNIT_ASSERT_EQ(test, ft_reserve(f, iova, page, page), 0);
	before = ft_check_counts(f);
	for (i = 1; i < 6; i++) {
		KUNIT_ASSERT_EQ(test, 0,
				ft_map(f, iova + i * block, ft_random_pa(f, page, page),
				       page, 1, GFP_KERNEL, &mapped));
		ft_touch(f, iova + i * block);
		KUNIT_EXPECT_EQ(test, block,
				f->ops->unmap_pages(f->ops, f->base | (iova + i * block),
						    block, 1, NULL));
		ft_user_flush(f, iova + i * block, block);
		ft_cut(f, iova + i * block, block);
		census = ft_check_counts(f);
		KUNIT_EXPECT_EQ(test, census.parked, i);
		KUNIT_EXPECT_EQ(test, census.tables, before.tables + i);
	}

	/* In the range of an unreserve they go as well, when others stay. */
	KUNIT_ASSERT_EQ(test, ft_reserve(f, iova + 2 * block, page, page), 0);
	ft_unreserve(f, 1, iova + 2 * block, page);
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.parked, 4);

	ft_unreserve(f, 0, iova, page);
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.tables, 0);
	ft_check_blocks(f);
	ft_close(f);
}

/* Two that map neighbours at the same time, where the table is parked. */
struct ft_pair {
	struct ft *f;
	u64 iova;
	unsigned int round;	/* the one that has begun; UINT_MAX: no more */
	unsigned int over;	/* the one that the second has mapped in */
	unsigned int failed;
	struct completion done;
};

static int ft_pair_map(struct ft_pair *p, u64 iova)
{
	struct ft *f = p->f;
	size_t mapped = 0;

	return f->ops->map_pages(f->ops, f->base | iova, 0, f->size[0], 1,
				 IOMMU_READ | IOMMU_WRITE, GFP_NOWAIT | __GFP_NOWARN,
				 &mapped);
}

static int ft_pair_fn(void *arg)
{
	struct ft_pair *p = arg;
	unsigned int round = 0, next;

	for (;;) {
		/* pairs with the release of who begins a round */
		next = smp_load_acquire(&p->round);
		if (next == UINT_MAX)
			break;
		if (next != round) {
			round = next;
			p->failed += !!ft_pair_map(p, p->iova + p->f->size[0]);
			/* pairs with the acquire of who waits for it */
			smp_store_release(&p->over, round);
		}
		cond_resched();
	}
	complete(&p->done);
	return 0;
}

static void ft_test_take_back_two(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], block = f->size[1];
	struct ft_pair p = { .f = f, .iova = BIT_ULL(f->c->ias - 1) };
	struct task_struct *task;
	unsigned int round, failed = 0;
	u64 unmapped = 0;

	if (num_online_cpus() == 1)
		kunit_skip(test, "needs a second CPU");

	ft_open(f);
	KUNIT_ASSERT_EQ(test, ft_reserve(f, p.iova, block, page), 0);
	init_completion(&p.done);
	task = kthread_run(ft_pair_fn, &p, "io-pgtable-pair");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	ft_refuse(f);
	for (round = 1; round <= 4 * ft_steps; round++) {
		/* pairs with the acquire of the second */
		smp_store_release(&p.round, round);
		failed += !!ft_pair_map(&p, p.iova);
		/* pairs with the release of the second */
		while (smp_load_acquire(&p.over) != round)
			cond_resched();
		unmapped += f->ops->unmap_pages(f->ops, f->base | p.iova, block, 1, NULL);
		ft_user_flush(f, p.iova, block);
	}
	/* pairs with the acquire of the second */
	smp_store_release(&p.round, UINT_MAX);
	wait_for_completion(&p.done);

	KUNIT_EXPECT_EQ(test, failed, 0);
	KUNIT_EXPECT_EQ(test, p.failed, 0);
	KUNIT_EXPECT_EQ(test, unmapped, (round - 1) * block);
	KUNIT_EXPECT_EQ(test, ft_refused(f), 0);
	ft_check_counts(f);
	ft_unreserve(f, 0, p.iova, block);
	ft_check_counts(f);
	ft_close(f);
}

/* Ranges and page sizes that cannot be reserved, each with nothing changed. */
static void ft_test_reserve_wrong(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], end = BIT_ULL(f->c->ias), wrong;
	struct io_pgtable_ops *ops;
	struct ft_census census;
	size_t mapped;

	ft_open(f);
	ops = f->ops;
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, 0, page), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, page, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, page, page / 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, f->size[1], page * 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, f->size[1], page | f->size[1]), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, page / 2, page, page), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, page / 2, page), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, page, f->size[1], f->size[1]), -EINVAL);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, f->size[1] + page, f->size[1]), -EINVAL);
	KUNIT_EXPECT_EQ(test, -ERANGE, ft_reserve(f, end - page, 2 * page, page));
	/* the other half, of which a part translates nothing */
	wrong = f->base ? end - page : -page;
	KUNIT_EXPECT_EQ(test, -ERANGE,
			ops->reserve(ops, wrong, page, page, GFP_KERNEL));
	if (!f->base)
		KUNIT_EXPECT_EQ(test, -ERANGE,
				ops->reserve(ops, end, page, page, GFP_KERNEL));
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.tables, 0);

	/* The last page, whose end is 0 with TTBR1 and 64 bits. */
	KUNIT_EXPECT_EQ(test, ft_reserve(f, end - page, page, page), 0);
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.tables, f->levels - 1);

	expect_splat_begin("iopte: unreserve of what is not reserved");
	ops->unreserve(ops, f->base | (end - 2 * page), 2 * page, page);
	expect_splat_end();
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.tables, f->levels - 1);
	expect_splat_begin("iopte: unreserve of what is not reserved");
	ops->unreserve(ops, f->base, page, page);
	expect_splat_end();
	expect_splat_begin("iopte: unreserve of what is not reserved");
	ops->unreserve(ops, f->base | (end - f->size[1]), f->size[1], f->size[1]);
	expect_splat_end();
	ft_unreserve(f, 0, end - page, page);
	census = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, census.tables, 0);
	expect_splat_begin("iopte: unreserve of what is not reserved");
	ops->unreserve(ops, f->base | (end - page), page, page);
	expect_splat_end();
	ft_check_counts(f);

	/* Gone while reserved: one warning, and nothing stays. */
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, f->size[1], page), 0);
	expect_splat_begin("iopte: a page table goes that is reserved");
	ft_close(f);
	expect_splat_end();

	/* One that does not count yet. */
	f->counts = false;
	ft_open(f);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, page, page), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, f->ops->enable_reserve(f->ops), 0);
	KUNIT_EXPECT_EQ(test, f->ops->enable_reserve(f->ops), 0);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, page, page), 0);
	ft_unreserve(f, 0, 0, page);
	ft_close(f);

	ft_open(f);
	KUNIT_ASSERT_EQ(test, 0, ft_map(f, 0, ft_random_pa(f, page, page), page, 1,
					GFP_KERNEL, &mapped));
	KUNIT_EXPECT_EQ(test, f->ops->enable_reserve(f->ops), -EBUSY);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, 0, page, page), -EOPNOTSUPP);
	ft_close(f);
	f->counts = true;
}

/* A count that would overflow is refused. */
static void ft_test_reserve_overflow(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], block = f->size[1];
	struct ft_census before, after;
	struct iopte_radix *radix;
	struct iopte_page *desc;
	struct iopte_entry e;
	unsigned int shift;
	void *table;
	u32 reserved;

	ft_open(f);
	radix = io_pgtable_ops_to_pgtable(f->ops)->radix;
	KUNIT_ASSERT_EQ(test, ft_reserve(f, block, block, page), 0);
	before = ft_check_counts(f);

	table = radix->root;
	for (shift = radix->top_shift; shift > radix->last_shift; shift -= radix->stride) {
		e = radix->ops->read(radix, shift,
				     iopte_at(radix, table, iopte_slot(radix, shift, block)));
		KUNIT_ASSERT_EQ(test, (int)e.type, (int)IOPTE_TABLE);
		table = e.table;
	}
	desc = iopte_desc(radix, table);
	reserved = desc->reserved;
	desc->reserved = U32_MAX - 1;
	/* the last of three tables overflows */
	KUNIT_EXPECT_EQ(test, ft_reserve(f, block - page, 3 * page, page), -EOVERFLOW);
	KUNIT_EXPECT_EQ(test, ft_reserve(f, block, page, page), 0);
	ft_unreserve(f, 1, block, page);
	desc->reserved = reserved;
	after = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, after.tables, before.tables);
	ft_unreserve(f, 0, block, block);
	after = ft_check_counts(f);
	KUNIT_EXPECT_EQ(test, after.tables, 0);
	ft_close(f);
}

/*
 * Between the sweep's unlink and its flush somebody fills the slot: when map()
 * returns the walker finds the new mapping, past any cache.
 */
static void ft_hook_fill(struct ft *f)
{
	struct ft_entry e;
	unsigned long flags;
	size_t mapped;

	KUNIT_EXPECT_EQ(f->test, 0,
			ft_map(f, f->hook_iova, f->hook_pa, f->hook_len, 1,
			       GFP_ATOMIC, &mapped));
	spin_lock_irqsave(&f->lock, flags);
	e = __ft_walk(f, f->hook_iova, true);
	spin_unlock_irqrestore(&f->lock, flags);
	KUNIT_EXPECT_EQ_MSG(f->test, (int)e.type, (int)FT_LEAF,
			    "a walk cache leads past a new mapping");
	if (e.type == FT_LEAF)
		KUNIT_EXPECT_EQ(f->test, e.pa, f->hook_pa);
}

static void ft_test_sweep_pending(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], iova = BIT_ULL(f->c->ias - 1), other;
	unsigned int s, keep;
	size_t mapped;

	if (f->user_flush)
		kunit_skip(test, "maps only where no sweep is pending");

	for (s = 0; s < f->nr_sizes; s++) {
		for (keep = 0; keep < 2; keep++) {
			if (f->size[s] > SZ_1G)
				continue;
			ft_open(f);
			/* a neighbour keeps the tables above */
			other = iova - 2 * f->size[max(s, 1)];
			if (keep)
				KUNIT_ASSERT_EQ(test, 0,
						ft_map(f, other,
						       ft_random_pa(f, f->size[s], f->size[s]),
						       f->size[s], 1, GFP_KERNEL, &mapped));
			KUNIT_ASSERT_EQ(test, ft_reserve(f, iova, page, page), 0);
			ft_touch_range(f, iova, page);
			f->hook_iova = iova;
			f->hook_len = f->size[s];
			f->hook_pa = ft_random_pa(f, f->size[s], f->size[s]);
			f->flush_hook = ft_hook_fill;
			ft_unreserve(f, 0, iova, page);
			if (f->levels > 1 && f->size[0] >= PAGE_SIZE)
				KUNIT_EXPECT_NULL(test, f->flush_hook);
			f->flush_hook = NULL;
			ft_check_extents(f);
			ft_check_counts(f);
			ft_check_count(f);
			ft_close(f);
		}
	}
}

/* Tables of a sweep whose flush fails wait for another one. */
static void ft_test_sweep_flush_fails(struct kunit *test)
{
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], iova = BIT_ULL(f->c->ias - 1);
	int roots, blocks;

	if (!f->user_flush)
		kunit_skip(test, "io-pgtable flushes");

	ft_open(f);
	roots = atomic_read(&f->live);
	KUNIT_ASSERT_EQ(test, ft_reserve(f, iova, 2 * f->size[1], page), 0);
	blocks = atomic_read(&f->live);
	KUNIT_EXPECT_GT(test, blocks, roots - !ft_table_is_block(f));
	f->flush_fails = true;
	ft_touch_range(f, iova, 2 * f->size[1]);
	ft_unreserve(f, 0, iova, 2 * f->size[1]);
	f->flush_fails = false;
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, atomic_read(&f->live), blocks);
	ft_user_flush(f, 0, BIT_ULL(f->c->ias));
	rcu_barrier();
	KUNIT_EXPECT_EQ(test, atomic_read(&f->live), roots);
	ft_close(f);
}

/* With the flush of unreserve missing the walker walks a freed table. */
static void ft_test_sweep_wrong_flush(struct kunit *test)
{
	static const enum ft_flush wrong[] = {
		FT_FLUSH_NOTHING, FT_FLUSH_ELSEWHERE, FT_FLUSH_RIGHT,
	};
	struct ft *f = ft_start_counts(test);
	u64 page = f->size[0], iova = BIT_ULL(f->c->ias - 1);
	unsigned int i, stale;
	size_t mapped;

	if (!ft_table_is_block(f))
		kunit_skip(test, "tables share blocks");

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		ft_open(f);
		KUNIT_ASSERT_EQ(test, ft_reserve(f, iova, page, page), 0);
		KUNIT_ASSERT_EQ(test, 0, ft_map(f, iova, ft_random_pa(f, page, page),
						page, 1, GFP_KERNEL, &mapped));
		ft_touch_range(f, iova, page);
		KUNIT_EXPECT_EQ(test, ft_unmap(f, iova, page, 1), page);
		f->stale = 0;
		f->flush = wrong[i];
		ft_unreserve(f, 0, iova, page);
		rcu_barrier();
		stale = f->stale;
		ft_close(f);
		f->flush = FT_FLUSH_RIGHT;
		f->stale = 0;
		f->lost = 0;
		if (wrong[i] == FT_FLUSH_RIGHT)
			KUNIT_EXPECT_EQ(test, stale, 0);
		else
			KUNIT_EXPECT_GT(test, stale, 0);
	}
}

#endif /* CONFIG_64BIT */

static void ft_desc(struct ft_param *p, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s%s", p->c->name,
		 p->user_flush ? ", user flushes" : "");
}

KUNIT_ARRAY_PARAM(ft_all, ft_params, ft_desc);

static const void *ft_gen_params(const void *prev, char *desc)
{
	return ft_every_gen(ft_all_gen_params, prev, desc);
}

#ifdef CONFIG_64BIT
KUNIT_ARRAY_PARAM(ft_count_all, ft_count_params, ft_desc);

static const void *ft_count_gen_params(const void *prev, char *desc)
{
	return ft_every_gen(ft_count_all_gen_params, prev, desc);
}
#endif

static struct kunit_case ft_test_cases[] = {
	KUNIT_CASE_PARAM(ft_test_random, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_walk, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_default_allocator, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_reader_here, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_reader_elsewhere, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_wrong_flush, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_user_flush, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_fail_open, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_fail_map, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_fail_slab, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_fail_split, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_race, ft_gen_params),
	KUNIT_CASE_PARAM(ft_test_threads, ft_gen_params),
#ifdef CONFIG_IOMMU_API
	KUNIT_CASE_PARAM(ft_test_dirty, ft_dirty_gen_params),
#endif
#ifdef CONFIG_64BIT
	KUNIT_CASE_PARAM(ft_test_counts_random, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_reserve_random, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_fail_reserve, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_park, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_park_beside, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_take_back_two, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_trace, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_reserve_wrong, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_reserve_overflow, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_sweep_pending, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_sweep_flush_fails, ft_count_gen_params),
	KUNIT_CASE_PARAM(ft_test_sweep_wrong_flush, ft_count_gen_params),
#endif
	{}
};

static int ft_suite_init(struct kunit_suite *suite)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ft_params); i++) {
		ft_params[i] = (struct ft_param){ &ft_cases[i / 2], i & 1 };
		ft_count_params[i] = (struct ft_param){ &ft_cases[i / 2], i & 1, true };
	}
	ft_every = max(ft_every, 1);
	kunit_info(suite, "steps: %u, one parameter in %u\n", ft_steps, ft_every);
	return 0;
}

static struct kunit_suite ft_suite = {
	.name		= "io-pgtable",
	.suite_init	= ft_suite_init,
	.exit		= ft_exit,
	.test_cases	= ft_test_cases,
};

kunit_test_suite(ft_suite);

MODULE_DESCRIPTION("KUnit tests of the io-pgtable formats");
MODULE_LICENSE("GPL");
