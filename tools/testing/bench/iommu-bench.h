/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module iommu-bench and the programs of tools/testing/vfio tell each other:
 * what a task has done, and the commands that the module's driver takes.
 */
#ifndef IOMMU_BENCH_H
#define IOMMU_BENCH_H

#include <linux/types.h>

/* What one task has done. The fakes' driver counts here too. */
struct counts {
	__u32 attaches;		/* the driver's attach was called, for a domain */
	__u32 refused;		/* and has refused; the fakes' only */
	__u32 blocks;		/* the same for the domain that blocks all */
	__u32 domains;		/* domains were allocated */
	__u32 allocations;	/* kmalloc() and kmem_cache_alloc(), in all their forms */
	__u32 bytes;		/* of these, as large as the allocator makes them */
};

/* Whatever has a type: data of a nested HWPT, virtual IOMMUs, commands */
#define BENCH_TYPE		0xbe4c4

/* The commands are those of the kernel's mock driver, see iommufd_test.h there. */
#define BENCH_INVALIDATE_ALL	1
#define BENCH_CACHES		4

struct bench_hwpt_invalidate {
	__u32 flags;
	__u32 iotlb_id;
};

struct bench_viommu_invalidate {
	__u32 flags;
	__u32 vdev_id;
	__u32 cache_id;
};

#endif
