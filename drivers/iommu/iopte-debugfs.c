// SPDX-License-Identifier: GPL-2.0-only
/*
 * A directory in debugfs for each page table whose format takes its memory from
 * the page layer: /sys/kernel/debug/iommu/page_tables/NUMBER, with its shape, how
 * many tables it has in which state, and what is mapped.
 *
 * Who reads a file takes the lock of its page table for one look at one table, and
 * may be rescheduled or killed between two.  So what a file says of an entry was true
 * at some time during the read, and no more.
 *
 * free_io_pgtable_ops() may be called from reclaim, and so by somebody who is about to
 * make or to read a file here.  It takes the page table away from the readers, under
 * the lock, and leaves the directory, which waits for them, to a work item.
 */

#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "iopte-debugfs.h"
#include "iopte-radix.h"

/**
 * struct iopte_debugfs - the directory of a page table
 * @lock: protects @iop, and keeps the page table while it is held.
 * @iop: the page table, or NULL when it has gone.
 * @dir: the directory.
 * @remove: removes it, and frees this.
 */
struct iopte_debugfs {
	spinlock_t		lock;	/* protects the page table */
	struct io_pgtable	*iop;
	struct dentry		*dir;
	struct work_struct	remove;
};

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

static void iopte_show_shape(struct seq_file *m, struct io_pgtable *iop)
{
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
		return;

	seq_printf(m, "counts: %u\n", iopte_radix_counts(radix));
	for (shift = radix->top_shift;; shift -= radix->stride) {
		seq_printf(m, "level: %u entries of 0x%llx\n",
			   (shift == radix->top_shift ? radix->root_mask :
							radix->table_mask) + 1,
			   BIT_ULL(shift));
		if (shift == radix->last_shift)
			break;
	}
}

static int iopte_shape_show(struct seq_file *m, void *unused)
{
	struct iopte_debugfs *d = m->private;
	int ret = 0;

	spin_lock_irq(&d->lock);
	if (d->iop)
		iopte_show_shape(m, d->iop);
	else
		ret = -ENODEV;
	spin_unlock_irq(&d->lock);
	return ret;
}
DEFINE_SHOW_ATTRIBUTE(iopte_shape);

struct iopte_census {
	unsigned long linked;
	unsigned long parked;
	u64 reserved;
};

/*
 * Count the tables below the one of level @shift whose range begins at @iova and ends
 * at @last.
 */
static int iopte_count_below(struct iopte_debugfs *d, unsigned int shift, u64 iova,
			     u64 last, struct iopte_census *census)
{
	unsigned int below = 0, last_shift = 0;
	struct iopte_child child;
	int found, ret;

	do {
		found = -ENODEV;
		spin_lock_irq(&d->lock);
		if (d->iop) {
			found = iopte_radix_next_child(d->iop->radix, shift, &iova,
						       &child);
			below = shift - d->iop->radix->stride;
			last_shift = d->iop->radix->last_shift;
		}
		spin_unlock_irq(&d->lock);
		if (found <= 0)
			return found;

		census->linked += child.linked;
		census->parked += !child.linked;
		census->reserved += child.reserved;
		if (below != last_shift) {
			ret = iopte_count_below(d, below, iova,
						iova + (BIT_ULL(shift) - 1), census);
			if (ret)
				return ret;
		}
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		iova += BIT_ULL(shift);
	} while (iova <= last);
	return 0;
}

/* Count the root, and what it says of itself. */
static int iopte_count_root(struct iopte_radix *radix, struct iopte_census *census)
{
	guard(rcu)();
	census->linked = 1;
	census->reserved = iopte_radix_reserved(radix, radix->root);
	return radix->top_shift != radix->last_shift;
}

static unsigned long iopte_count_unflushed(struct iopte_pool *pool)
{
	struct iopte_page *desc;
	unsigned long n = 0;

	spin_lock(&pool->lock);
	for (desc = pool->unflushed.head; desc; desc = desc->next)
		n++;
	spin_unlock(&pool->lock);
	return n;
}

static int iopte_tables_show(struct seq_file *m, void *unused)
{
	struct iopte_debugfs *d = m->private;
	struct iopte_census census = {};
	unsigned long unflushed = 0;
	unsigned int top = 0;
	long waiting = 0;
	int ret = -ENODEV;
	u64 last = 0;

	spin_lock_irq(&d->lock);
	if (d->iop) {
		waiting = atomic_long_read(&d->iop->pool->waiting);
		unflushed = iopte_count_unflushed(d->iop->pool);
		ret = 0;
		if (d->iop->radix) {
			top = d->iop->radix->top_shift;
			last = iopte_radix_last(d->iop->radix);
			ret = iopte_count_root(d->iop->radix, &census);
		}
	}
	spin_unlock_irq(&d->lock);
	if (ret > 0)
		ret = iopte_count_below(d, top, 0, last, &census);
	if (ret)
		return ret;

	if (top) {
		seq_printf(m, "linked: %lu\n", census.linked);
		seq_printf(m, "parked: %lu\n", census.parked);
		seq_printf(m, "reserved entries: %llu\n", census.reserved);
	}
	seq_printf(m, "waiting: %ld\n", waiting);
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

/* The next leaf entry at or behind *@iova: 1, or 0 when there is none, or an error. */
static int iopte_map_leaf(struct iopte_debugfs *d, u64 *iova, unsigned int *shift,
			  struct iopte_entry *entry)
{
	int ret;

	do {
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = -ENODEV;
		spin_lock_irq(&d->lock);
		if (d->iop)
			ret = iopte_radix_next_leaf(d->iop->radix, iova, shift, entry);
		spin_unlock_irq(&d->lock);
	} while (!ret);
	return ret == -ENOENT ? 0 : ret;
}

static void *iopte_map_find(struct seq_file *m, u64 iova)
{
	struct iopte_entry entry;
	struct iopte_run *run;
	unsigned int shift;
	int ret;

	ret = iopte_map_leaf(m->private, &iova, &shift, &entry);
	if (ret <= 0)
		return ERR_PTR(ret);
	run = kmalloc(sizeof(*run), GFP_KERNEL);
	if (!run)
		return ERR_PTR(-ENOMEM);

	*run = (struct iopte_run){ iova, 0, entry.raw, shift };
	do {
		run->num++;
		iova += BIT_ULL(shift);
		ret = iopte_map_leaf(m->private, &iova, &shift, &entry);
	} while (ret > 0 && shift == run->shift &&
		 iova == run->iova + (run->num << shift) &&
		 entry.raw == run->raw + (run->num << shift));
	if (ret < 0) {
		kfree(run);
		return ERR_PTR(ret);
	}
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

static void iopte_debugfs_work(struct work_struct *work)
{
	struct iopte_debugfs *d = container_of(work, struct iopte_debugfs, remove);

	debugfs_remove(d->dir);
	kfree(d);
}

/**
 * iopte_debugfs_add - make the directory of a page table
 * @iop: the page table, complete but for maps.
 *
 * Where that is not possible the page table has none.
 *
 * Context: May sleep.
 */
void iopte_debugfs_add(struct io_pgtable *iop)
{
	static DEFINE_MUTEX(lock);
	static struct dentry *all;
	struct iopte_debugfs *d;
	char name[16];

	/* A format without a pool, or before iommu_init() */
	if (!iop->pool || !iommu_debugfs_dir)
		return;
	d = kzalloc(sizeof(*d), GFP_KERNEL);
	if (!d)
		return;

	mutex_lock(&lock);
	if (!all)
		all = debugfs_create_dir("page_tables", iommu_debugfs_dir);
	mutex_unlock(&lock);

	spin_lock_init(&d->lock);
	d->iop = iop;
	INIT_WORK(&d->remove, iopte_debugfs_work);
	snprintf(name, sizeof(name), "%u", iop->pool->id);
	d->dir = debugfs_create_dir(name, all);
	debugfs_create_file("shape", 0400, d->dir, d, &iopte_shape_fops);
	debugfs_create_file("tables", 0400, d->dir, d, &iopte_tables_fops);
	if (iop->radix)
		debugfs_create_file("map", 0400, d->dir, d, &iopte_map_fops);
	iop->pool->debugfs = d;
}

/**
 * iopte_debugfs_remove - take a page table away from those who read in its directory
 * @iop: the page table, which is about to be freed.
 *
 * Context: Any context but NMI.
 */
void iopte_debugfs_remove(struct io_pgtable *iop)
{
	struct iopte_debugfs *d = iop->pool ? iop->pool->debugfs : NULL;

	if (!d)
		return;

	scoped_guard(spinlock_irqsave, &d->lock)
		d->iop = NULL;
	queue_work(system_unbound_wq, &d->remove);
}
