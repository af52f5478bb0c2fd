// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the instructions of page table operations, for scripts/bench.sh.
 *
 * The counter is the PMU's INST_RETIRED.  Under QEMU with -icount it is exact:
 * every run and every host gives the same number.  A loop of known length
 * proves that before anything is measured; where it does not hold, nothing is
 * printed but an error.
 *
 * Every operation is called as drivers call it, through the io_pgtable_ops,
 * with interrupts off, after the same operation ran once on neighbouring
 * addresses (so the tables are there and the allocator's lists are filled). The
 * figure is the call's own: what reading the counter twice costs is subtracted.
 * The flush callbacks are those of arm-smmu-v3 without the hardware: one that
 * gathers the page, two that return.
 *
 * Page tables that count (io_pgtable_cfg::reserve), reserve and unreserve, and how
 * many tables binds allocate, are measured where the kernel has them.
 *
 * With more than one CPU nothing is counted: two of them map and unmap at the same
 * time, and the figures are nanoseconds.
 *
 * Prints lines "bench: TABLE OPERATION NUMBER".
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/dma-mapping.h>
#include <linux/io-pgtable.h>
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/xarray.h>

/* a macro of include/linux/iopte-alloc.h, which io-pgtable.h includes */
#ifdef IOPTE_FREE_SLEEPS
#define OURS
#endif

#define EVENT_INST_RETIRED	0x08

/* far enough from the other regions that no table but the root is shared */
#define WARM_IOVA		0x0000008000000000UL
#define WARM_IOVA_2M		(WARM_IOVA + SZ_1G)
#define COLD_IOVA		(WARM_IOVA + 2UL * SZ_1G)
#define PADDR			0x0000000080000000ULL

static void counter_start(void)
{
	asm volatile("msr pmevtyper0_el0, %0\n\t"
		     "msr pmcntenset_el0, %1\n\t"
		     "msr pmcr_el0, %1\n\t"
		     "isb" : : "r" ((u64)EVENT_INST_RETIRED), "r" (1UL));
}

static __always_inline u64 counter(void)
{
	u64 v;

	asm volatile("isb\n\tmrs %0, pmevcntr0_el0\n\tisb" : "=r" (v) : : "memory");
	return v;
}

static u32 overhead;

/* instructions of one statement, interrupts off, in _n */
#define MEASURE(_n, ...)					\
	do {							\
		unsigned long _flags;				\
		u64 _a, _b;					\
								\
		local_irq_save(_flags);				\
		_a = counter();					\
		__VA_ARGS__;					\
		_b = counter();					\
		local_irq_restore(_flags);			\
		_n = (u32)_b - (u32)_a - overhead;		\
	} while (0)

static noinline u32 loop(unsigned long n)
{
	u32 res;

	MEASURE(res, asm volatile("1:\n\tsubs %0, %0, #1\n\tb.ne 1b"
				  : "+r" (n) : : "cc"));
	return res;
}

static bool counter_is_exact(void)
{
	static const unsigned int len[] = { 1, 2, 10, 1000, 65536 };
	int i;

	overhead = 0;
	MEASURE(overhead, barrier());
	for (i = 0; i < ARRAY_SIZE(len); i++) {
		u32 n = loop(len[i]);

		if (n != 2 * len[i]) {
			pr_err("bench: error: a loop of %u instructions counts as %u\n",
			       2 * len[i], n);
			return false;
		}
	}
	pr_err("bench: counter exact\n");
	return true;
}

static struct iommu_domain domain;

static void bench_flush_all(void *cookie)
{
}

static void bench_flush_walk(unsigned long iova, size_t size, size_t granule,
			     void *cookie)
{
}

static void bench_add_page(struct iommu_iotlb_gather *gather, unsigned long iova,
			   size_t granule, void *cookie)
{
	iommu_iotlb_gather_add_page(cookie, gather, iova, granule);
}

static const struct iommu_flush_ops bench_tlb = {
	.tlb_flush_all	= bench_flush_all,
	.tlb_flush_walk	= bench_flush_walk,
	.tlb_add_page	= bench_add_page,
};

static void bench_iotlb_sync(struct iommu_domain *domain,
			     struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_gather_init(gather);
}

static const struct iommu_domain_ops bench_domain_ops = {
	.iotlb_sync = bench_iotlb_sync,
};

static const char *failed;

static u32 map(struct io_pgtable_ops *ops, unsigned long iova, size_t pgsize,
	       size_t count)
{
	size_t mapped = 0;
	int ret = 0;
	u32 n;

	MEASURE(n, ret = ops->map_pages(ops, iova, PADDR, pgsize, count,
					IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE,
					GFP_ATOMIC, &mapped));
	if (ret || mapped != pgsize * count)
		failed = "map";
	return n;
}

static u32 unmap(struct io_pgtable_ops *ops, unsigned long iova, size_t pgsize,
		 size_t count)
{
	struct iommu_iotlb_gather gather;
	size_t done = 0;
	u32 n;

	iommu_iotlb_gather_init(&gather);
	MEASURE(n, done = ops->unmap_pages(ops, iova, pgsize, count, &gather));
	if (done != pgsize * count)
		failed = "unmap";
	return n;
}

static u32 iova_to_phys(struct io_pgtable_ops *ops, unsigned long iova)
{
	phys_addr_t pa = 0;
	u32 n;

	MEASURE(n, pa = ops->iova_to_phys(ops, iova));
	if (pa != PADDR + (iova & (SZ_4K - 1)))
		failed = "iova_to_phys";
	return n;
}

struct table {
	const char		*name;
	enum io_pgtable_fmt	fmt;
	unsigned int		ias;
	unsigned int		oas;
	bool			counts;
};

/* the name of one that counts is the other's and "-counts" */
static const struct table tables[] = {
	{ "s1",   ARM_64_LPAE_S1, 48, 48 },
	{ "s2",   ARM_64_LPAE_S2, 48, 48 },
	{ "mali", ARM_MALI_LPAE,  48, 40 },
#ifdef OURS
	{ "s1-counts",   ARM_64_LPAE_S1, 48, 48, true },
	{ "s2-counts",   ARM_64_LPAE_S2, 48, 48, true },
	{ "mali-counts", ARM_MALI_LPAE,  48, 40, true },
#endif
};

static const struct size {
	const char	*name;
	unsigned long	iova;
	size_t		pgsize;
	size_t		count;
} sizes[] = {
	{ "1x4K",   WARM_IOVA,		SZ_4K, 1 },
	{ "16x4K",  WARM_IOVA,		SZ_4K, 16 },
	{ "256x4K", WARM_IOVA,		SZ_4K, 256 },
	{ "1x2M",   WARM_IOVA_2M,	SZ_2M, 1 },
};

#ifdef OURS
/* where alloc_table() takes tables from, when it is not the default allocator */
static struct iopte_allocator *counting;
#endif

static struct io_pgtable_ops *alloc_table(const struct table *t, struct device *dev)
{
	struct io_pgtable_ops *ops;
	struct io_pgtable_cfg cfg = {
		.pgsize_bitmap	= SZ_4K | SZ_2M | SZ_1G,
		.ias		= t->ias,
		.oas		= t->oas,
		.coherent_walk	= true,
		.tlb		= &bench_tlb,
		.iommu_dev	= dev,
#ifdef OURS
		.allocator	= counting,
		.reserve	= t->counts,
#endif
	};

	ops = alloc_io_pgtable_ops(t->fmt, &cfg, &domain);
	if (!ops)
		failed = "alloc_io_pgtable_ops";
	return ops;
}

#ifdef OURS
static int reserve(struct io_pgtable_ops *ops, unsigned long iova, size_t size,
		   size_t pgsize)
{
	int ret = ops->reserve(ops, iova, size, pgsize, GFP_KERNEL);

	if (ret)
		failed = "reserve";
	return ret;
}

/* What a map and unmap take where a reservation has brought the table. */
static void bench_reserved(const struct table *t, struct io_pgtable_ops *ops)
{
	unsigned long iova = COLD_IOVA + SZ_1G;
	int round;
	u32 n, m;

	if (reserve(ops, iova, SZ_2M, SZ_4K))
		return;
	for (round = 0; round < 2; round++) {
		n = map(ops, iova, SZ_4K, 1);
		m = unmap(ops, iova, SZ_4K, 1);
	}
	ops->unreserve(ops, iova, SZ_2M, SZ_4K);
	pr_err("bench: %s map_reserved %u\n", t->name, n);
	pr_err("bench: %s unmap_reserved %u\n", t->name, m);
}
#endif

static int bench_table(const struct table *t, struct device *dev)
{
	struct io_pgtable_ops *ops = alloc_table(t, dev);
	unsigned long iova;
	u32 n, m;
	int i, round;

	if (!ops)
		return -ENOMEM;
	/* neighbours that keep the tables of both regions alive */
	map(ops, WARM_IOVA + SZ_1M, SZ_4K, 1);
	map(ops, WARM_IOVA_2M + SZ_2M, SZ_2M, 1);

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		const struct size *s = &sizes[i];

		/* the first round warms */
		for (round = 0; round < 2; round++) {
			n = map(ops, s->iova, s->pgsize, s->count);
			m = unmap(ops, s->iova, s->pgsize, s->count);
		}
		pr_err("bench: %s map_%s %u\n", t->name, s->name, n);
		pr_err("bench: %s unmap_%s %u\n", t->name, s->name, m);
	}

	map(ops, WARM_IOVA, SZ_4K, 1);
	iova_to_phys(ops, WARM_IOVA);
	n = iova_to_phys(ops, WARM_IOVA + 0x123);
	pr_err("bench: %s iova_to_phys %u\n", t->name, n);
	unmap(ops, WARM_IOVA, SZ_4K, 1);

	/* each in a 2M region of its own; the smallest of 16 met a filled list */
	for (n = ~0, i = 0; i < 17; i++) {
		m = map(ops, COLD_IOVA + i * SZ_2M, SZ_4K, 1);
		if (i)
			n = min(n, m);
	}
	pr_err("bench: %s map_alloc_table %u\n", t->name, n);
#ifdef OURS
	if (t->counts)
		bench_reserved(t, ops);
#endif
	free_io_pgtable_ops(ops);

	/* a table of its own for what is freed as a whole */
	for (round = 0; round < 2; round++) {
		ops = alloc_table(t, dev);
		if (!ops)
			return -ENOMEM;
		for (iova = WARM_IOVA; iova < WARM_IOVA + SZ_1G; iova += SZ_2M)
			map(ops, iova, SZ_4K, 512);
		MEASURE(n, free_io_pgtable_ops(ops));
		/* what was deferred, if anything, is not the caller's */
		synchronize_rcu();
	}
	pr_err("bench: %s free_1G %u\n", t->name, n);
	return 0;
}

#ifdef OURS
static unsigned long allocated;

static unsigned int counting_alloc(void *cookie, const struct iopte_request *req,
				   gfp_t gfp, struct page **pages, unsigned int n)
{
	unsigned int got;

	if (req->order)
		gfp |= __GFP_COMP;
	for (got = 0; got < n; got++) {
		pages[got] = alloc_pages_node(req->nid, gfp, req->order);
		if (!pages[got])
			break;
		allocated++;
	}
	return got;
}

static void counting_free(void *cookie, struct page **pages, unsigned int n,
			  unsigned int order)
{
	while (n)
		__free_pages(pages[--n], order);
}

static const struct iopte_allocator_ops counting_ops = {
	.alloc	= counting_alloc,
	.free	= counting_free,
};

/*
 * Reservations.  They sleep and allocate with GFP_KERNEL, so interrupts are on, and
 * a tick or an RCU callback may come in between: the figure is the smallest of some
 * rounds.
 */
#define RESERVE_ROUNDS		8

static const struct reservation {
	const char	*name;
	unsigned long	iova;
	size_t		size;
	size_t		pgsize;
} reservations[] = {
	{ "4K_table_present",	WARM_IOVA,		SZ_4K, SZ_4K },
	{ "4K_table_missing",	WARM_IOVA + SZ_4M,	SZ_4K, SZ_4K },
	{ "2M_by_4K",		WARM_IOVA + SZ_4M,	SZ_2M, SZ_4K },
	{ "2M_by_2M",		WARM_IOVA + SZ_4M,	SZ_2M, SZ_2M },
	{ "1G_by_4K",		COLD_IOVA,		SZ_1G, SZ_4K },
	{ "1G_by_2M",		COLD_IOVA,		SZ_1G, SZ_2M },
};

struct reserve_cost {
	u32		reserve;
	u32		unreserve;
	unsigned long	tables;
};

static void measure_reserve(struct io_pgtable_ops *ops, const struct reservation *r,
			    struct reserve_cost *cost)
{
	u64 before, between, after;
	int ret;

	/* what earlier rounds have freed is back */
	rcu_barrier();
	allocated = 0;
	before = counter();
	ret = ops->reserve(ops, r->iova, r->size, r->pgsize, GFP_KERNEL);
	between = counter();
	if (ret) {
		failed = "reserve";
		return;
	}
	cost->reserve = (u32)between - (u32)before - overhead;
	cost->tables = allocated;

	before = counter();
	ops->unreserve(ops, r->iova, r->size, r->pgsize);
	after = counter();
	cost->unreserve = (u32)after - (u32)before - overhead;
}

static void bench_reserve(const struct table *t, struct device *dev)
{
	struct reserve_cost costs[ARRAY_SIZE(reservations)], cost;
	struct io_pgtable_ops *ops;
	int i, round;

	ops = alloc_table(t, dev);
	if (!ops)
		return;
	map(ops, WARM_IOVA + SZ_1M, SZ_4K, 1);
	for (i = 0; i < ARRAY_SIZE(reservations) && !failed; i++) {
		const struct reservation *r = &reservations[i];

		for (round = 0; round < RESERVE_ROUNDS && !failed; round++) {
			measure_reserve(ops, r, &cost);
			if (!round)
				costs[i] = cost;
			costs[i].reserve = min(costs[i].reserve, cost.reserve);
			costs[i].unreserve = min(costs[i].unreserve, cost.unreserve);
		}
	}
	free_io_pgtable_ops(ops);

	/* the same again: how many tables */
	counting = iopte_allocator_create(&counting_ops, NULL, 0);
	if (IS_ERR(counting)) {
		failed = "iopte_allocator_create";
		counting = NULL;
		return;
	}
	ops = alloc_table(t, dev);
	if (ops) {
		map(ops, WARM_IOVA + SZ_1M, SZ_4K, 1);
		for (i = 0; i < ARRAY_SIZE(reservations) && !failed; i++) {
			const struct reservation *r = &reservations[i];

			measure_reserve(ops, r, &cost);
			pr_err("bench: %s reserve_%s %u\n", t->name, r->name,
			       costs[i].reserve);
			pr_err("bench: %s unreserve_%s %u\n", t->name, r->name,
			       costs[i].unreserve);
			pr_err("bench: %s tables_%s %lu\n", t->name, r->name,
			       cost.tables);
		}
		free_io_pgtable_ops(ops);
	}
	iopte_allocator_destroy(counting);
	counting = NULL;
}

/* Binds: reserve, map, and later unmap, unreserve. */

#define HEAP_SLOT		SZ_64K
#define HEAP_SLOTS_PER_TABLE	(SZ_2M / HEAP_SLOT - 1)
#define HEAP_SLOTS		(SZ_1G / SZ_2M * HEAP_SLOTS_PER_TABLE)

/* Slot 0 of each 2M is what keeps the heap warm; 7919 and HEAP_SLOTS are coprime. */
static unsigned long heap_bind(unsigned int i)
{
	unsigned int slot = i * 7919UL % HEAP_SLOTS;

	return WARM_IOVA + slot / HEAP_SLOTS_PER_TABLE * SZ_2M +
	       (slot % HEAP_SLOTS_PER_TABLE + 1) * HEAP_SLOT;
}

static unsigned long row_bind(unsigned int i)
{
	return WARM_IOVA + i * (unsigned long)SZ_4K;
}

static const struct pattern {
	const char	*name;
	unsigned long	(*bind)(unsigned int i);
	unsigned int	binds;
	unsigned int	live;		/* at most so many at a time */
	u64		size;
	size_t		pgsize;
	bool		warm;		/* a page is mapped in each 2M of 1G before */
} patterns[] = {
	{ "bind-64K-in-heap", heap_bind, 10000, 1000, HEAP_SLOT, SZ_4K, true },
	{ "bind-16G-by-2M", row_bind, 1, 1, 16ULL * SZ_1G, SZ_2M },
	{ "bind-4K-in-a-row", row_bind, DIV_ROUND_UP(100000000, SZ_4K), UINT_MAX,
	  SZ_4K, SZ_4K },
};

/* What panthor_vm_prepare_map_op_ctx() of the base allocates: the same formula. */
static u64 worst_case(u64 va, u64 size)
{
	return ((ALIGN(va + size, 1ull << 39) - ALIGN_DOWN(va, 1ull << 39)) >> 39) +
	       ((ALIGN(va + size, 1ull << 30) - ALIGN_DOWN(va, 1ull << 30)) >> 30) +
	       ((ALIGN(va + size, 1ull << 21) - ALIGN_DOWN(va, 1ull << 21)) >> 21);
}

/*
 * How many tables a range needs, in a tree with a root of 512G entries, that are
 * not in @seen, where they are then.
 */
static unsigned long needed(struct xarray *seen, u64 va, u64 size, size_t pgsize)
{
	unsigned long n = 0, index;
	unsigned int shift;

	for (shift = 39; BIT_ULL(shift) > pgsize; shift -= 9) {
		for (index = va >> shift; index <= (va + size - 1) >> shift; index++) {
			unsigned long key = index << 6 | shift;

			if (xa_load(seen, key))
				continue;
			n++;
			if (xa_err(xa_store(seen, key, xa_mk_value(1), GFP_KERNEL)))
				failed = "xa_store";
		}
	}
	return n;
}

static void bind(struct io_pgtable_ops *ops, const struct pattern *p, u64 va)
{
	size_t done, mapped;

	if (reserve(ops, va, p->size, p->pgsize))
		return;
	for (done = 0; done < p->size; done += mapped) {
		mapped = 0;
		if (ops->map_pages(ops, va + done, PADDR + done, p->pgsize,
				   (p->size - done) / p->pgsize, IOMMU_READ,
				   GFP_KERNEL, &mapped)) {
			failed = "map";
			return;
		}
	}
}

static void unbind(struct io_pgtable_ops *ops, const struct pattern *p, u64 va)
{
	struct iommu_iotlb_gather gather;
	size_t done, n;

	iommu_iotlb_gather_init(&gather);
	for (done = 0; done < p->size; done += n) {
		n = ops->unmap_pages(ops, va + done, p->pgsize,
				     (p->size - done) / p->pgsize, &gather);
		if (!n) {
			failed = "unmap";
			return;
		}
	}
	ops->unreserve(ops, va, p->size, p->pgsize);
}

static void bench_binds(const struct table *t, struct device *dev,
			const struct pattern *p)
{
	unsigned long all_needed = 0, all_allocated = 0, differ = 0, n;
	struct io_pgtable_ops *ops = alloc_table(t, dev);
	u64 worst = 0, va;
	DEFINE_XARRAY(seen);
	unsigned int i, gone = 0;

	if (!ops)
		return;
	for (va = WARM_IOVA; p->warm && va < WARM_IOVA + SZ_1G; va += SZ_2M) {
		map(ops, va, SZ_4K, 1);
		needed(&seen, va, SZ_4K, SZ_4K);
	}

	for (i = 0; i < p->binds && !failed; i++) {
		va = p->bind(i);
		if (i - gone == p->live)
			unbind(ops, p, p->bind(gone++));
		allocated = 0;
		bind(ops, p, va);
		n = needed(&seen, va, p->size, p->pgsize);
		differ += allocated != n;
		all_allocated += allocated;
		all_needed += n;
		worst += worst_case(va, p->size);
	}
	while (gone < i && !failed)
		unbind(ops, p, p->bind(gone++));
	xa_destroy(&seen);
	free_io_pgtable_ops(ops);

	pr_err("bench: %s binds %u\n", p->name, p->binds);
	pr_err("bench: %s worst_case %llu\n", p->name, worst);
	pr_err("bench: %s needed %lu\n", p->name, all_needed);
	pr_err("bench: %s allocated %lu\n", p->name, all_allocated);
	pr_err("bench: %s not_as_needed %lu\n", p->name, differ);
}

static void bench_ours(struct device *dev)
{
	const struct table *t;
	int i;

	for (t = tables; !t->counts; t++)
		;
	bench_reserve(t, dev);
	if (failed)
		return;

	counting = iopte_allocator_create(&counting_ops, NULL, 0);
	if (IS_ERR(counting)) {
		failed = "iopte_allocator_create";
		counting = NULL;
		return;
	}
	for (i = 0; i < ARRAY_SIZE(patterns) && !failed; i++)
		bench_binds(t, dev, &patterns[i]);
	iopte_allocator_destroy(counting);
	counting = NULL;
}
#endif /* OURS */

/* Two CPUs at a time, in nanoseconds. */

#define CPUS			2
#define CPU_PAIRS		50000
#define CPU_ROUNDS		7

struct cpu_bench {
	struct io_pgtable_ops	*ops;
	unsigned long		iova;
	atomic_t		*ready;
	u64			ns;
	bool			ok;
	struct completion	done;
};

static int cpu_thread(void *arg)
{
	struct cpu_bench *b = arg;
	struct iommu_iotlb_gather gather;
	size_t mapped;
	ktime_t start;
	int i;

	b->ok = true;
	iommu_iotlb_gather_init(&gather);
	atomic_dec(b->ready);
	while (atomic_read(b->ready))
		cpu_relax();

	start = ktime_get();
	for (i = 0; i < CPU_PAIRS; i++) {
		mapped = 0;
		if (b->ops->map_pages(b->ops, b->iova, PADDR, SZ_4K, 1, IOMMU_READ,
				      GFP_ATOMIC, &mapped) ||
		    b->ops->unmap_pages(b->ops, b->iova, SZ_4K, 1, &gather) != SZ_4K)
			b->ok = false;
	}
	b->ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	complete(&b->done);
	return 0;
}

/* Nanoseconds of a map and unmap, the slower CPU's, when the CPUs are @apart. */
static u64 cpu_round(struct io_pgtable_ops *ops, int cpus, unsigned long apart)
{
	struct cpu_bench bench[CPUS];
	struct task_struct *task[CPUS];
	atomic_t ready = ATOMIC_INIT(cpus);
	u64 ns = 0;
	int i;

	for (i = 0; i < cpus; i++) {
		bench[i] = (struct cpu_bench) {
			.ops	= ops,
			.iova	= WARM_IOVA + i * apart,
			.ready	= &ready,
		};
		init_completion(&bench[i].done);
		task[i] = kthread_create_on_cpu(cpu_thread, &bench[i], i, "bench/%u");
		if (IS_ERR(task[i])) {
			failed = "kthread_create_on_cpu";
			while (i)
				kthread_stop(task[--i]);
			return 0;
		}
	}
	for (i = 0; i < cpus; i++)
		wake_up_process(task[i]);
	for (i = 0; i < cpus; i++) {
		wait_for_completion(&bench[i].done);
		if (!bench[i].ok)
			failed = "map or unmap of two CPUs";
		ns = max(ns, bench[i].ns);
	}
	return ns / CPU_PAIRS;
}

static void bench_cpus(const struct table *t, struct device *dev)
{
	static const struct {
		const char	*name;
		int		cpus;
		unsigned long	apart;
	} cases[] = {
		{ "one_cpu",		1 },
		{ "two_cpus_in_2M",	2, SZ_1M },
		{ "two_cpus_in_two_2M",	2, SZ_2M },
	};
	struct io_pgtable_ops *ops = alloc_table(t, dev);
	int i, round;

	if (!ops)
		return;
	/* neighbours, on other cache lines */
	map(ops, WARM_IOVA + SZ_64K, SZ_4K, 1);
	map(ops, WARM_IOVA + SZ_2M + SZ_64K, SZ_4K, 1);
	for (i = 0; i < ARRAY_SIZE(cases) && !failed; i++) {
		u64 ns = U64_MAX;

		for (round = 0; round < CPU_ROUNDS && !failed; round++)
			ns = min(ns, cpu_round(ops, cases[i].cpus, cases[i].apart));
		pr_err("bench: %s %s %llu\n", t->name, cases[i].name, ns);
	}
	free_io_pgtable_ops(ops);
}

static int __init iopt_bench_init(void)
{
	bool count = num_online_cpus() == 1;
	struct platform_device *pdev;
	int i;

	if (count) {
		counter_start();
		if (!counter_is_exact())
			return -EIO;
	}
	pdev = platform_device_register_simple("iopt-bench", -1, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	pdev->dev.coherent_dma_mask = DMA_BIT_MASK(48);
	domain.ops = &bench_domain_ops;
	domain.pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G;

	for (i = 0; i < ARRAY_SIZE(tables) && !failed; i++) {
		if (count)
			bench_table(&tables[i], &pdev->dev);
		else
			bench_cpus(&tables[i], &pdev->dev);
	}
#ifdef OURS
	if (count && !failed)
		bench_ours(&pdev->dev);
#endif
	/* The counter runs on, for the programs that are measured next. */
	if (count)
		asm volatile("msr pmuserenr_el0, %0\n\tisb" : : "r" (1UL));
	platform_device_unregister(pdev);
	if (failed) {
		pr_err("bench: error: %s failed\n", failed);
		return -EIO;
	}
	pr_err("bench: complete\n");
	return 0;
}
module_init(iopt_bench_init);

MODULE_DESCRIPTION("Costs of io-pgtable operations");
MODULE_LICENSE("GPL");
