// SPDX-License-Identifier: GPL-2.0
/*
 * Reserved ranges under real DMA, for scripts/check-dma.sh.
 *
 * Drives QEMU's `edu` device, a DMA engine, through a domain of its own behind
 * the SMMUv3 driver.  What is reserved is mapped, unmapped, split and replaced
 * while allocation fails, and after each change the device copies a page
 * through the addresses that it is about: from RAM to the device, and from
 * there to another page.  QEMU's SMMU caches what it has translated, so that an
 * invalidation that is missing makes the copy go to the wrong page.
 *
 * Allocation fails by current->fail_nth = 1: the first attempt of this task to
 * allocate pages or an object fails, and clears it.  (The guest's test-dma makes
 * that hold for order 0 and GFP_KERNEL.)  In a reservation it has to be 1 still
 * when map or unmap return: nothing was even tried.  Outside of reservations map
 * has to return -ENOMEM, and fail_nth to be 0.
 *
 * A transfer takes 100 ms, in the device's documentation and in the guest.
 *
 * Writing to the device's attribute `run` runs the test, in that task.  It prints
 * lines "iopt-dma: pass|fail STEP", and what went wrong before the latter.
 */
#define pr_fmt(fmt) "iopt-dma: " fmt

#include <linux/delay.h>
#include <linux/iommu.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sizes.h>

#define EDU_SRC		0x80
#define EDU_DST		0x88
#define EDU_COUNT	0x90
#define EDU_CMD		0x98
#define EDU_CMD_START	BIT(0)
#define EDU_CMD_TO_RAM	BIT(1)
#define EDU_BUFFER	0x40000

/* First addresses of a 1G region each. */
#define R1	(5UL << 30)		/* 2M reserved in pages of 4K */
#define R2	((3UL << 40) + (7UL << 30))	/* 4M reserved in pages of 4K */
#define R3	(11UL << 30)		/* 1G reserved in pages of 2M */
#define OUT	(9UL << 30)		/* never reserved */
/* Two pages in R2 that stay mapped, to copy from and to. */
#define PEER1	(R2 + SZ_2M + PG(3))
#define PEER2	(R2 + SZ_2M + PG(200))

#define PG(n)	((unsigned long)(n) << 12)
#define PROT	(IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE)

struct edu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct iommu_domain *domain;
	u8 *a, *b, *c;			/* 2M each, aligned */
	u8 *peer1, *peer2;		/* what is mapped at PEER1, PEER2 */
};

/* Allocations that were made to fail. */
static unsigned int injected;

/* DMA */

static int edu_dma(struct edu *edu, u64 iova, size_t size, bool to_ram)
{
	u64 cmd;
	int ret;

	writeq(to_ram ? EDU_BUFFER : iova, edu->regs + EDU_SRC);
	writeq(to_ram ? iova : EDU_BUFFER, edu->regs + EDU_DST);
	writeq(size, edu->regs + EDU_COUNT);
	writeq(EDU_CMD_START | (to_ram ? EDU_CMD_TO_RAM : 0), edu->regs + EDU_CMD);
	ret = readq_poll_timeout(edu->regs + EDU_CMD, cmd, !(cmd & EDU_CMD_START),
				 5000, 20 * USEC_PER_SEC);
	if (ret)
		pr_err("DMA at %#llx does not end\n", iova);
	return ret;
}

/* Copy a page by DMA, and see that these two pages are what the device reaches. */
static int copy(struct edu *edu, u64 src, u8 *from, u64 dst, u8 *to)
{
	size_t i;
	int ret;

	get_random_bytes(from, SZ_4K);
	for (i = 0; i < SZ_4K; i++)
		to[i] = ~from[i];
	ret = edu_dma(edu, src, SZ_4K, false) ?: edu_dma(edu, dst, SZ_4K, true);
	if (!ret && memcmp(from, to, SZ_4K)) {
		pr_err("DMA from %#llx to %#llx does not arrive\n", src, dst);
		ret = -EIO;
	}
	return ret;
}

/*
 * The device writes to an address that is not mapped: the SMMU reports that, and
 * @page, if any, which was mapped there before, stays as it is.
 */
static int faults(struct edu *edu, u64 iova, u8 *page)
{
	u8 was[SZ_64];
	int ret;

	if (page) {
		get_random_bytes(page, sizeof(was));
		memcpy(was, page, sizeof(was));
	}
	pr_info("expect-splat: begin arm-smmu-v3 .*: event 0x10 received\n");
	pr_info("fault of %#x at %#llx\n", pci_dev_id(edu->pdev), iova);
	/* four bytes are one transaction and one event */
	ret = edu_dma(edu, iova, 4, true);
	/* for the SMMU's interrupt thread to report it */
	msleep(300);
	pr_info("expect-splat: end\n");
	if (!ret && page && memcmp(was, page, sizeof(was))) {
		pr_err("DMA to %#llx, which is not mapped, has arrived\n", iova);
		ret = -EIO;
	}
	return ret;
}

/* The page table, while allocation fails */

/* Returns whether something was allocated, or would have been. */
static bool failed(void)
{
	bool ret = !current->fail_nth;

	current->fail_nth = 0;
	injected += ret;
	return ret;
}

static int map_phys(struct edu *edu, u64 iova, phys_addr_t phys, size_t size)
{
	int ret;

	current->fail_nth = 1;
	ret = iommu_map(edu->domain, iova, phys, size, PROT, GFP_KERNEL);
	if (failed()) {
		pr_err("map of %#zx at %#llx allocates\n", size, iova);
		ret = ret ?: -EIO;
	}
	if (ret)
		pr_err("map of %#zx at %#llx: %d\n", size, iova, ret);
	return ret;
}

static int map(struct edu *edu, u64 iova, void *mem, size_t size)
{
	return map_phys(edu, iova, virt_to_phys(mem), size);
}

/* With allocation, which has to do it. */
static int map_alloc(struct edu *edu, u64 iova, void *mem, size_t size)
{
	int ret = iommu_map(edu->domain, iova, virt_to_phys(mem), size, PROT, GFP_KERNEL);

	if (ret)
		pr_err("map of %#zx at %#llx, with allocation: %d\n", size, iova, ret);
	return ret;
}

/* 2M by pages: the last one of @mem first, so that no page is where a block has it. */
static int map_pages(struct edu *edu, u64 iova, u8 *mem)
{
	int i, ret = 0;

	for (i = 0; i < 512 && !ret; i++)
		ret = map(edu, iova + PG(i), mem + PG(511 - i), SZ_4K);
	return ret;
}

static int unmap(struct edu *edu, u64 iova, size_t size)
{
	size_t done;
	int ret = 0;

	current->fail_nth = 1;
	done = iommu_unmap(edu->domain, iova, size);
	if (failed()) {
		pr_err("%s of %#zx at %#llx allocates\n", __func__, size, iova);
		ret = -EIO;
	}
	if (done != size) {
		pr_err("%s of %#zx at %#llx: %#zx\n", __func__, size, iova, done);
		ret = -EIO;
	}
	return ret;
}

/*
 * 2M of pages at once, with the sync after DMA.  Map may link the table again before
 * a sync, so the unmap itself has to flush the table, and with it what it mapped.
 */
static int unmap_late_sync(struct edu *edu, u64 iova, u64 at, u8 *page)
{
	struct iommu_iotlb_gather gather;
	size_t done;
	int ret;

	iommu_iotlb_gather_init(&gather);
	current->fail_nth = 1;
	done = iommu_unmap_fast(edu->domain, iova, SZ_2M, &gather);
	if (failed() || done != SZ_2M) {
		pr_err("unmap of 2M at %#llx: %#zx\n", iova, done);
		return -EIO;
	}
	ret = faults(edu, at, page);
	iommu_iotlb_sync(edu->domain, &gather);
	return ret;
}

/* What is not reserved cannot be mapped. */
static int map_fails(struct edu *edu, u64 iova)
{
	bool tried;
	int ret;

	current->fail_nth = 1;
	ret = iommu_map(edu->domain, iova, virt_to_phys(edu->a), SZ_4K, PROT, GFP_KERNEL);
	tried = failed();
	if (ret == -ENOMEM && tried)
		return 0;
	pr_err("map at %#llx, with no table there: %d, it %s to allocate\n", iova, ret,
	       tried ? "tried" : "did not try");
	return -EIO;
}

/* What is not reserved cannot be split. */
static int split_fails(struct edu *edu, u64 iova)
{
	size_t done;
	bool tried;

	current->fail_nth = 1;
	done = iommu_unmap(edu->domain, iova, SZ_4K);
	tried = failed();
	if (!done && tried)
		return 0;
	pr_err("unmap of a part of a block at %#llx: %#zx, it %s to allocate\n", iova, done,
	       tried ? "tried" : "did not try");
	return -EIO;
}

static int reserve(struct edu *edu, u64 iova, size_t size, size_t pgsize)
{
	int ret = iommu_reserve_range(edu->domain, iova, size, pgsize, GFP_KERNEL);

	if (ret)
		pr_err("%s of %#zx at %#llx: %d\n", __func__, size, iova, ret);
	return ret;
}

/* To unreserve allocates nothing either. */
static int unreserve(struct edu *edu, u64 iova, size_t size, size_t pgsize)
{
	current->fail_nth = 1;
	iommu_unreserve_range(edu->domain, iova, size, pgsize);
	if (!failed())
		return 0;
	pr_err("%s of %#zx at %#llx allocates\n", __func__, size, iova);
	return -EIO;
}

/* The steps */

static int step_translated(struct edu *edu)
{
	return faults(edu, R1, NULL);
}

/* Each allocation of a reservation fails in turn, and then none does. */
static int step_reserve(struct edu *edu)
{
	unsigned int n;
	int ret;

	for (n = 1;; n++) {
		current->fail_nth = n;
		ret = iommu_reserve_range(edu->domain, R1, SZ_2M, SZ_4K, GFP_KERNEL);
		if (!failed())
			break;
		if (ret != -ENOMEM || n == 100) {
			pr_err("reservation with failure %u: %d\n", n, ret);
			return -EIO;
		}
		ret = map_fails(edu, R1);
		if (ret)
			return ret;
	}
	if (ret || n == 1) {
		pr_err("reservation after %u failures: %d\n", n - 1, ret);
		return -EIO;
	}
	return reserve(edu, R2, SZ_4M, SZ_4K) ?: faults(edu, R1 + PG(1), NULL);
}

static int step_outside(struct edu *edu)
{
	return map_fails(edu, OUT) ?: map_fails(edu, R1 + SZ_2M) ?: map_fails(edu, R2 - SZ_4K);
}

static int step_pages(struct edu *edu)
{
	return map_pages(edu, R1, edu->c) ?:
	       map(edu, PEER1, edu->peer1, SZ_4K) ?:
	       map(edu, PEER2, edu->peer2, SZ_4K) ?:
	       copy(edu, R1, edu->c + PG(511), R1 + PG(511), edu->c) ?:
	       copy(edu, PEER1, edu->peer1, R1 + PG(7), edu->c + PG(504)) ?:
	       copy(edu, R1 + PG(7), edu->c + PG(504), PEER2, edu->peer2);
}

static int step_replaced(struct edu *edu)
{
	return unmap(edu, R1 + PG(7), SZ_4K) ?:
	       map(edu, R1 + PG(7), edu->a + PG(9), SZ_4K) ?:
	       copy(edu, R1 + PG(7), edu->a + PG(9), R1 + PG(8), edu->c + PG(503)) ?:
	       copy(edu, PEER1, edu->peer1, R1 + PG(7), edu->a + PG(9));
}

static int step_unmap_2m(struct edu *edu)
{
	return unmap_late_sync(edu, R1, R1 + PG(7), edu->a + PG(9)) ?:
	       copy(edu, PEER1, edu->peer1, PEER2, edu->peer2);
}

static int step_block(struct edu *edu)
{
	return map(edu, R1, edu->a, SZ_2M) ?:
	       copy(edu, R1 + PG(7), edu->a + PG(7), R1 + PG(511), edu->a + PG(511));
}

static int step_split(struct edu *edu)
{
	return unmap(edu, R1 + PG(7), SZ_4K) ?:
	       faults(edu, R1 + PG(7), edu->a + PG(7)) ?:
	       copy(edu, R1 + PG(6), edu->a + PG(6), R1 + PG(8), edu->a + PG(8)) ?:
	       map(edu, R1 + PG(7), edu->b + PG(9), SZ_4K) ?:
	       copy(edu, R1 + PG(7), edu->b + PG(9), R1 + PG(511), edu->a + PG(511));
}

static int step_back(struct edu *edu)
{
	return unmap(edu, R1, SZ_2M) ?:
	       map(edu, R1, edu->b, SZ_2M) ?:
	       copy(edu, R1 + PG(511), edu->b + PG(511), R1 + PG(7), edu->b + PG(7)) ?:
	       unmap(edu, R1, SZ_2M) ?:
	       map_pages(edu, R1, edu->c) ?:
	       copy(edu, R1 + PG(7), edu->c + PG(504), R1 + PG(511), edu->c);
}

static int step_unmap_1g(struct edu *edu)
{
	return unmap(edu, R1, SZ_1G) ?:
	       map(edu, R1 + PG(3), edu->a, SZ_4K) ?:
	       copy(edu, PEER1, edu->peer1, R1 + PG(3), edu->a) ?:
	       faults(edu, R1 + PG(7), edu->c + PG(504)) ?:
	       unmap(edu, R1, SZ_1G);
}

/* All memory as one block, which is split down to one page. */
static int step_block_1g(struct edu *edu)
{
	phys_addr_t a = virt_to_phys(edu->a), phys = a & ~(phys_addr_t)(SZ_1G - 1);
	u64 at = R1 + (a - phys);

	return map_phys(edu, R1, phys, SZ_1G) ?:
	       copy(edu, at, edu->a, at + PG(1), edu->a + PG(1)) ?:
	       unmap(edu, R1 + PG(5), SZ_4K) ?:
	       copy(edu, at + PG(1), edu->a + PG(1), at + PG(2), edu->a + PG(2)) ?:
	       faults(edu, R1 + PG(5), NULL) ?:
	       map(edu, R1 + PG(5), edu->c, SZ_4K) ?:
	       copy(edu, R1 + PG(5), edu->c, PEER2, edu->peer2) ?:
	       unmap(edu, R1, SZ_1G);
}

static int step_by_2m(struct edu *edu)
{
	return reserve(edu, R3, SZ_1G, SZ_2M) ?:
	       map(edu, R3 + SZ_2M, edu->a, SZ_2M) ?:
	       copy(edu, PEER1, edu->peer1, R3 + SZ_2M + PG(5), edu->a + PG(5)) ?:
	       unmap(edu, R3 + SZ_2M, SZ_2M) ?:
	       map(edu, R3 + SZ_2M, edu->b, SZ_2M) ?:
	       copy(edu, PEER1, edu->peer1, R3 + SZ_2M + PG(5), edu->b + PG(5)) ?:
	       map_fails(edu, R3);
}

static int step_add_up(struct edu *edu)
{
	return reserve(edu, R1, SZ_2M, SZ_4K) ?:
	       unreserve(edu, R1, SZ_2M, SZ_4K) ?:
	       map(edu, R1, edu->a, SZ_2M) ?:
	       copy(edu, PEER1, edu->peer1, R1 + PG(5), edu->a + PG(5)) ?:
	       unmap(edu, R1, SZ_2M) ?:
	       map_pages(edu, R1, edu->c) ?:
	       copy(edu, PEER1, edu->peer1, R1 + PG(5), edu->c + PG(506));
}

/* What is mapped stays so.  Then its table goes with the unmap of the whole. */
static int step_unreserve_mapped(struct edu *edu)
{
	return unreserve(edu, R1, SZ_2M, SZ_4K) ?:
	       copy(edu, R1 + PG(5), edu->c + PG(506), R1 + PG(6), edu->c + PG(505)) ?:
	       unmap(edu, R1, SZ_2M) ?:
	       map_fails(edu, R1) ?:
	       faults(edu, R1 + PG(5), edu->c + PG(506)) ?:
	       copy(edu, PEER1, edu->peer1, PEER2, edu->peer2);
}

/*
 * A table beside what is reserved is kept where it was unmapped at once, until
 * nothing in its parent is reserved.  Then the parent itself is kept, and the
 * table in it.
 */
static int step_unreserve_kept(struct edu *edu)
{
	return reserve(edu, R1, SZ_2M, SZ_4K) ?:
	       map(edu, R1 + PG(5), edu->a, SZ_4K) ?:
	       map_alloc(edu, R1 + SZ_2M, edu->b, SZ_4K) ?:
	       copy(edu, R1 + SZ_2M, edu->b, R1 + PG(5), edu->a) ?:
	       unmap(edu, R1 + SZ_2M, SZ_2M) ?:
	       unreserve(edu, R1, SZ_2M, SZ_4K) ?:
	       map_fails(edu, R1 + SZ_2M) ?:
	       copy(edu, R1 + PG(5), edu->a, PEER1, edu->peer1) ?:
	       reserve(edu, R1, SZ_2M, SZ_4K) ?:
	       unmap(edu, R1, SZ_1G) ?:
	       faults(edu, R1 + PG(5), edu->a) ?:
	       unreserve(edu, R1, SZ_2M, SZ_4K) ?:
	       map_fails(edu, R1);
}

/* A block above a table that is kept for it; half of what was reserved. */
static int step_unreserve_block(struct edu *edu)
{
	return map_pages(edu, R2, edu->c) ?:
	       copy(edu, R2 + PG(5), edu->c + PG(506), PEER1, edu->peer1) ?:
	       unmap(edu, R2, SZ_2M) ?:
	       map(edu, R2, edu->b, SZ_2M) ?:
	       unreserve(edu, R2, SZ_2M, SZ_4K) ?:
	       copy(edu, R2 + PG(5), edu->b + PG(5), PEER1, edu->peer1) ?:
	       split_fails(edu, R2 + PG(5)) ?:
	       copy(edu, PEER1, edu->peer1, R2 + PG(5), edu->b + PG(5));
}

/* The tables of PEER1, PEER2 and of R3 go, what is beside them stays. */
static int step_unreserve_empty(struct edu *edu)
{
	return unmap(edu, R3 + SZ_2M, SZ_2M) ?:
	       unreserve(edu, R3, SZ_1G, SZ_2M) ?:
	       map_fails(edu, R3) ?:
	       unmap(edu, PEER1, SZ_4K) ?:
	       unmap(edu, PEER2, SZ_4K) ?:
	       unreserve(edu, R2 + SZ_2M, SZ_2M, SZ_4K) ?:
	       map_fails(edu, PEER1) ?:
	       faults(edu, PEER1, edu->peer1) ?:
	       copy(edu, R2 + PG(5), edu->b + PG(5), R2 + PG(6), edu->b + PG(6));
}

static int step_unmapped(struct edu *edu)
{
	return unmap(edu, R2, SZ_2M) ?: faults(edu, R2 + PG(5), edu->b + PG(5));
}

static const struct step {
	const char *name;
	int (*run)(struct edu *edu);
} steps[] = {
	{ "the device is translated: DMA to what is not mapped faults", step_translated },
	{ "a reservation that cannot allocate fails, and one that can succeeds", step_reserve },
	{ "while allocation fails, so does a map outside of reservations", step_outside },
	{ "pages are mapped", step_pages },
	{ "a page is replaced", step_replaced },
	{ "2M of pages are unmapped at once", step_unmap_2m },
	{ "a 2M block is mapped where pages were", step_block },
	{ "a page of a 2M block is unmapped, and another mapped", step_split },
	{ "a split block becomes a block, and pages again", step_back },
	{ "1G is unmapped at once, and a page mapped", step_unmap_1g },
	{ "a page of a 1G block is unmapped, and another mapped", step_block_1g },
	{ "in a range reserved in 2M, blocks are replaced", step_by_2m },
	{ "reserved twice and unreserved once is reserved", step_add_up },
	{ "unreserved with pages mapped", step_unreserve_mapped },
	{ "unreserved with tables that nothing is mapped in", step_unreserve_kept },
	{ "unreserved with a block mapped", step_unreserve_block },
	{ "unreserved with nothing mapped", step_unreserve_empty },
	{ "all is unmapped", step_unmapped },
};

static int run_steps(struct edu *edu)
{
	int i, ret = 0;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		/* a step starts from what the one before it has left */
		if (ret)
			pr_err("not run after a failure:\n");
		else
			ret = steps[i].run(edu);
		pr_info("%s %s\n", ret ? "fail" : "pass", steps[i].name);
	}
	pr_info("injected %u\n", injected);
	return ret;
}

/* In a domain that is made for it and goes with it */
static int run(struct edu *edu)
{
	struct device *dev = &edu->pdev->dev;
	int ret;

	edu->domain = iommu_paging_domain_alloc(dev);
	if (IS_ERR(edu->domain))
		return PTR_ERR(edu->domain);
	ret = iommu_enable_reserve(edu->domain);
	if (ret)
		goto out_free;
	ret = iommu_attach_device(edu->domain, dev);
	if (ret)
		goto out_free;
	ret = run_steps(edu);
	iommu_detach_device(edu->domain, dev);
out_free:
	iommu_domain_free(edu->domain);
	/* for who counts the pages that are left */
	rcu_barrier();
	return ret;
}

static ssize_t run_store(struct device *dev, struct device_attribute *attr,
			 const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	unsigned int order = get_order(SZ_4M);
	unsigned long ab, c;
	int ret = -ENOMEM;

	/* three times 2M and two pages */
	ab = __get_free_pages(GFP_KERNEL, order);
	c = __get_free_pages(GFP_KERNEL, order);
	if (ab && c) {
		edu->a = (u8 *)ab;
		edu->b = edu->a + SZ_2M;
		edu->c = (u8 *)c;
		edu->peer1 = edu->c + SZ_2M;
		edu->peer2 = edu->peer1 + PG(3);
		ret = run(edu);
	}
	free_pages(ab, order);
	free_pages(c, order);
	if (ret)
		pr_err("error %d\n", ret);
	else
		pr_info("complete\n");
	return ret ?: count;
}
static DEVICE_ATTR_WO(run);

static struct attribute *edu_attrs[] = {
	&dev_attr_run.attr,
	NULL
};
ATTRIBUTE_GROUPS(edu);

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	int ret;

	if (!edu)
		return -ENOMEM;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap(pdev, 0, 0);
	if (!edu->regs)
		return -ENOMEM;
	edu->pdev = pdev;
	pci_set_drvdata(pdev, edu);
	pci_set_master(pdev);
	return 0;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name			= "iopt-dma",
	.id_table		= edu_ids,
	.probe			= edu_probe,
	.dev_groups		= edu_groups,
	.driver_managed_dma	= true,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("DMA through ranges that were reserved");
MODULE_LICENSE("GPL");
