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
 * Prints lines "bench: TABLE OPERATION INSTRUCTIONS".
 */
#include <linux/dma-mapping.h>
#include <linux/io-pgtable.h>
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>

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
};

static const struct table tables[] = {
	{ "s1",   ARM_64_LPAE_S1, 48, 48 },
	{ "s2",   ARM_64_LPAE_S2, 48, 48 },
	{ "mali", ARM_MALI_LPAE,  48, 40 },
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

static struct io_pgtable_ops *alloc_table(const struct table *t, struct device *dev)
{
	struct io_pgtable_cfg cfg = {
		.pgsize_bitmap	= SZ_4K | SZ_2M | SZ_1G,
		.ias		= t->ias,
		.oas		= t->oas,
		.coherent_walk	= true,
		.tlb		= &bench_tlb,
		.iommu_dev	= dev,
	};

	return alloc_io_pgtable_ops(t->fmt, &cfg, &domain);
}

static int bench_table(const struct table *t, struct device *dev)
{
	struct io_pgtable_ops *ops = alloc_table(t, dev);
	unsigned long iova;
	u32 n, m;
	int i, round;

	if (!ops) {
		failed = "alloc_io_pgtable_ops";
		return -ENOMEM;
	}
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
	free_io_pgtable_ops(ops);

	/* a table of its own for what is freed as a whole */
	for (round = 0; round < 2; round++) {
		ops = alloc_table(t, dev);
		if (!ops) {
			failed = "alloc_io_pgtable_ops";
			return -ENOMEM;
		}
		for (iova = WARM_IOVA; iova < WARM_IOVA + SZ_1G; iova += SZ_2M)
			map(ops, iova, SZ_4K, 512);
		MEASURE(n, free_io_pgtable_ops(ops));
		/* what was deferred, if anything, is not the caller's */
		synchronize_rcu();
	}
	pr_err("bench: %s free_1G %u\n", t->name, n);
	return 0;
}

static int __init iopt_bench_init(void)
{
	struct platform_device *pdev;
	int i;

	counter_start();
	if (!counter_is_exact())
		return -EIO;
	pdev = platform_device_register_simple("iopt-bench", -1, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	pdev->dev.coherent_dma_mask = DMA_BIT_MASK(48);
	domain.ops = &bench_domain_ops;
	domain.pgsize_bitmap = SZ_4K | SZ_2M | SZ_1G;

	for (i = 0; i < ARRAY_SIZE(tables) && !failed; i++)
		bench_table(&tables[i], &pdev->dev);
	platform_device_unregister(pdev);
	if (failed) {
		pr_err("bench: error: %s failed\n", failed);
		return -EIO;
	}
	pr_err("bench: complete\n");
	return 0;
}
module_init(iopt_bench_init);

MODULE_DESCRIPTION("Instruction counts of io-pgtable operations");
MODULE_LICENSE("GPL");
