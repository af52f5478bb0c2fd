// SPDX-License-Identifier: GPL-2.0-only
/*
 * A directory in debugfs for each page table whose format takes its memory from
 * the page layer: /sys/kernel/debug/iommu/page_tables/NUMBER, with its shape, how
 * many tables it has in which state, and what is mapped.
 *
 * Reading takes no lock that map, unmap or a driver holds for long: an entry, or
 * a table, is looked up from the root in a read section of its own.  So what a
 * file says of one entry was true at some time during the read, and no more.
 *
 * The directory is the last to be made and the first to go: removal waits for those
 * who read in it, and the page table is freed after that.
 */

#include <linux/debugfs.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "iopte-debugfs.h"
#include "iopte-radix.h"

static const char * const iopte_format_names[IO_PGTABLE_NUM_FMTS] = {
	[ARM_32_LPAE_S1]	= "ARM 32-bit LPAE stage 1",
	[ARM_32_LPAE_S2]	= "ARM 32-bit LPAE stage 2",
	[ARM_64_LPAE_S1]	= "ARM 64-bit LPAE stage 1",
	[ARM_64_LPAE_S2]	= "ARM 64-bit LPAE stage 2",
	[ARM_V7S]		= "ARM v7 short descriptors",
	[ARM_MALI_LPAE]		= "Mali LPAE",
	[APPLE_DART]		= "Apple DART",
	[APPLE_DART2]		= "Apple DART 2",
};

static int iopte_shape_show(struct seq_file *m, void *unused)
{
	struct io_pgtable *iop = m->private;
	struct iopte_radix *radix = iop->radix;
	unsigned int shift;

	seq_printf(m, "format: %s\n", iopte_format_names[iop->fmt]);
	seq_printf(m, "input address bits: %u\n", iop->cfg.ias);
	seq_printf(m, "output address bits: %u\n", iop->cfg.oas);
	seq_printf(m, "page sizes: 0x%lx\n", iop->cfg.pgsize_bitmap);
	seq_printf(m, "quirks: 0x%lx\n", iop->cfg.quirks);
	seq_printf(m, "coherent walk: %u\n", iop->cfg.coherent_walk);
	seq_printf(m, "table size: %u\n", iop->pool->table_size);
	if (!radix)
		return 0;

	seq_printf(m, "counts: %u\n", iopte_radix_counts(radix));
	for (shift = radix->top_shift;; shift -= radix->stride) {
		seq_printf(m, "level: %u entries of 0x%llx\n",
			   (shift == radix->top_shift ? radix->root_mask :
							radix->table_mask) + 1,
			   BIT_ULL(shift));
		if (shift == radix->last_shift)
			break;
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(iopte_shape);

static int iopte_tables_show(struct seq_file *m, void *unused)
{
	struct io_pgtable *iop = m->private;
	struct iopte_pool *pool = iop->pool;
	struct iopte_census census = {};
	struct iopte_page *desc;
	unsigned long unflushed = 0;

	if (iop->radix) {
		iopte_radix_census(iop->radix, &census);
		seq_printf(m, "linked: %lu\n", census.linked);
		seq_printf(m, "parked: %lu\n", census.parked);
		seq_printf(m, "reserved entries: %llu\n", census.reserved);
	}

	spin_lock_irq(&pool->lock);
	for (desc = pool->unflushed.head; desc; desc = desc->next)
		unflushed++;
	spin_unlock_irq(&pool->lock);

	seq_printf(m, "waiting: %ld\n", atomic_long_read(&pool->waiting));
	seq_printf(m, "unflushed: %lu\n", unflushed);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(iopte_tables);

/*
 * The dump: a line for each run of leaf entries of one level that follow each other
 * and differ by what they translate only.  The position is the first address
 * that has not been looked at.
 */
struct iopte_run {
	u64 iova;
	u64 num;
	u64 raw;
	unsigned int shift;
};

static void *iopte_map_find(struct seq_file *m, u64 iova)
{
	struct io_pgtable *iop = m->private;
	struct iopte_radix *radix = iop->radix;
	struct iopte_entry entry;
	struct iopte_run *run;
	unsigned int shift;

	if (!iopte_radix_next_leaf(radix, &iova, &shift, &entry))
		return NULL;
	run = kmalloc(sizeof(*run), GFP_KERNEL);
	if (!run)
		return ERR_PTR(-ENOMEM);

	*run = (struct iopte_run){ iova, 0, entry.raw, shift };
	do {
		run->num++;
		iova += BIT_ULL(shift);
		cond_resched();
	} while (iopte_radix_next_leaf(radix, &iova, &shift, &entry) &&
		 shift == run->shift && iova == run->iova + (run->num << shift) &&
		 entry.raw == run->raw + (run->num << shift));
	return run;
}

static void *iopte_map_start(struct seq_file *m, loff_t *pos)
{
	return iopte_map_find(m, *pos);
}

static void *iopte_map_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct iopte_run *run = v;

	*pos = run->iova + (run->num << run->shift);
	kfree(run);
	return iopte_map_find(m, *pos);
}

static void iopte_map_stop(struct seq_file *m, void *v)
{
	if (!IS_ERR(v))
		kfree(v);
}

static int iopte_map_show(struct seq_file *m, void *v)
{
	struct iopte_run *run = v;

	seq_printf(m, "0x%016llx 0x%llx * %llu 0x%016llx\n", run->iova,
		   BIT_ULL(run->shift), run->num, run->raw);
	return 0;
}

static const struct seq_operations iopte_map_sops = {
	.start	= iopte_map_start,
	.next	= iopte_map_next,
	.stop	= iopte_map_stop,
	.show	= iopte_map_show,
};
DEFINE_SEQ_ATTRIBUTE(iopte_map);

/**
 * iopte_debugfs_add - make the directory of a page table
 * @iop: the page table, complete but for maps.
 *
 * Context: May sleep.
 */
void iopte_debugfs_add(struct io_pgtable *iop)
{
	static DEFINE_MUTEX(lock);
	static struct dentry *all;
	char name[16];

	/* A format without a pool, or before iommu_init() */
	if (!iop->pool || !iommu_debugfs_dir)
		return;

	mutex_lock(&lock);
	if (!all)
		all = debugfs_create_dir("page_tables", iommu_debugfs_dir);
	mutex_unlock(&lock);

	snprintf(name, sizeof(name), "%u", iop->pool->id);
	iop->pool->debugfs = debugfs_create_dir(name, all);
	debugfs_create_file("shape", 0400, iop->pool->debugfs, iop, &iopte_shape_fops);
	debugfs_create_file("tables", 0400, iop->pool->debugfs, iop, &iopte_tables_fops);
	if (iop->radix)
		debugfs_create_file("map", 0400, iop->pool->debugfs, iop,
				    &iopte_map_fops);
}

/**
 * iopte_debugfs_remove - remove the directory of a page table
 * @iop: the page table, which is about to be freed.
 *
 * Context: May sleep: waits for those who read in it.
 */
void iopte_debugfs_remove(struct io_pgtable *iop)
{
	if (iop->pool)
		debugfs_remove(iop->pool->debugfs);
}
