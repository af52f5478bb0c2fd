/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What several of the KUnit tests of I/O page tables need: to announce a splat,
 * to look at the accounting of pages, and to know whether a device has DMA.
 *
 * A WARN that a case provokes is announced on the console, with the lines
 * "expect-splat: begin <extended regular expression>" and "expect-splat: end"
 * around it.
 */
#ifndef __IOPTE_TEST_H
#define __IOPTE_TEST_H

#include <kunit/test.h>
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>

#define expect_splat_begin(regex)	pr_info("expect-splat: begin " regex "\n")
#define expect_splat_end()		pr_info("expect-splat: end\n")

/* A node counter of all nodes, with what CPUs have not folded into it yet. */
static inline long node_pages_once(enum node_stat_item item)
{
	long pages = 0;
	int nid;

	for_each_online_node(nid) {
		struct pglist_data *pgdat = NODE_DATA(nid);

		pages += atomic_long_read(&pgdat->vm_stat[item]);
#ifdef CONFIG_SMP
		int cpu;

		for_each_online_cpu(cpu)
			pages += per_cpu_ptr(pgdat->per_cpu_nodestats,
					     cpu)->vm_node_stat_diff[item];
#endif
	}
	return pages;
}

/* The same, but not torn by a CPU that folds its part just now. */
static inline long node_pages(enum node_stat_item item)
{
	long last, pages = node_pages_once(item);
	unsigned int same = 0;

	while (same < 3) {
		last = pages;
		pages = node_pages_once(item);
		same = pages == last ? same + 1 : 0;
	}
	return pages;
}

/* Skip the case where a device cannot map memory at its physical address. */
static inline void test_need_dma(struct kunit *test, struct device *dev)
{
	dma_addr_t dma;
	void *page;

	if (!IS_ENABLED(CONFIG_HAS_DMA))
		kunit_skip(test, "no DMA on this architecture");
	if (dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)))
		kunit_skip(test, "no DMA to all of memory");

	page = (void *)get_zeroed_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, page);
	dma = dma_map_single(dev, page, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, dma)) {
		free_page((unsigned long)page);
		kunit_skip(test, "no DMA for a device of KUnit's");
	}
	dma_unmap_single(dev, dma, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma != virt_to_phys(page)) {
		free_page((unsigned long)page);
		kunit_skip(test, "DMA addresses are not physical addresses");
	}
	free_page((unsigned long)page);
}

#endif /* __IOPTE_TEST_H */
