/* SPDX-License-Identifier: GPL-2.0-only */
/* A directory in debugfs for each page table: see iopte-debugfs.c. */
#ifndef __IOPTE_DEBUGFS_H
#define __IOPTE_DEBUGFS_H

#include <linux/iommu.h>

struct io_pgtable;

#ifdef CONFIG_IOMMU_DEBUGFS
void iopte_debugfs_add(struct io_pgtable *iop);
void iopte_debugfs_remove(struct io_pgtable *iop);
#else
static inline void iopte_debugfs_add(struct io_pgtable *iop)
{
}

static inline void iopte_debugfs_remove(struct io_pgtable *iop)
{
}
#endif

#endif /* __IOPTE_DEBUGFS_H */
