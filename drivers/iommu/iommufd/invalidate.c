// SPDX-License-Identifier: GPL-2.0
/*
 * Arrays of a guest's invalidation commands
 *
 * A guest's commands come through a virtual IOMMU as an array, in the order in which
 * the guest has given them. They take effect in that order, and the caller is told
 * how many did:
 *
 *  - Commands are never reordered, dropped or merged here, whatever their kinds.
 *  - The count that is returned is that of the commands that took effect, and they
 *    are the first ones. With an error, the command after them is the bad one, or
 *    would have been the next. There is such a command: a driver that fails and
 *    still counts all that it was offered contradicts itself.
 *  - Each command is read from user memory once. Drivers get the copy, so what they
 *    check is what they use, whatever user space writes meanwhile.
 *  - Nothing is allocated. Up to IOMMUFD_INV_BLOCK bytes of commands are on the stack;
 *    a driver takes as many of them as fit in a batch of its own, and what is left
 *    over comes first in the next block. So no batch is cut short by the end of a
 *    block.
 *  - A command that cannot be read is an error after all commands before it took
 *    effect, and not before.
 *  - Between two batches the CPU can be had by others, and a fatal signal ends it. No
 *    other signal does: the caller takes an error for a bad command of the guest, and
 *    entry_num, which says how many there were, has been overwritten.
 *
 * The caller keeps the virtual IOMMU, and holds no lock: reading user memory may take
 * as long as another process likes. Several threads may do this on one virtual IOMMU;
 * each has an order of its own.
 */
#include <kunit/visibility.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "iommufd_private.h"

/*
 * Copy num commands, beginning with the command first of the array. Returns why it
 * stopped before the end, and in copied how many are complete.
 */
static int iommufd_copy_commands(const struct iommufd_viommu_ops *ops,
				 const struct iommu_user_data_array *array,
				 u32 first, void *cmds, u32 num, u32 *copied)
{
	void __user *uptr = array->uptr + array->entry_len * first;
	size_t len = ops->inv_len;
	int rc = 0;
	u32 i = 0;

	/*
	 * How much could not be copied is known roughly only. What it says is
	 * missing is tried again by itself, so that a fault is counted exactly.
	 */
	if (array->entry_len == len)
		i = num - DIV_ROUND_UP(copy_from_user(cmds, uptr, num * len),
				       len);

	for (; i != num; i++) {
		rc = copy_struct_from_user(cmds + i * len, len,
					   uptr + i * array->entry_len,
					   array->entry_len);
		if (rc)
			break;
	}

	*copied = i;
	return rc;
}

/**
 * iommufd_viommu_invalidate() - Do what an array of a guest's commands says
 * @viommu: virtual IOMMU
 * @array: the array in user memory, of no or more entries; there is some memory, and
 *         entry_len is not 0, if there are any. On return entry_num is the number of
 *         commands that took effect, of which it is sure that they are the first.
 *
 * Context: May sleep. The caller keeps @viommu and holds no lock.
 * Return: 0 when all of them took effect, or there are none and the type of the
 * entries is known. -EOPNOTSUPP when there is no invalidation through such a virtual
 * IOMMU, and -EINVAL for entries of another type or shorter than the type has ever
 * been: nothing took effect. -EFAULT for a command that cannot be read, -E2BIG for
 * one that is longer than is known and not zero there, -EINTR for a fatal signal, or
 * what the driver says of a command: those before it took effect.
 */
int iommufd_viommu_invalidate(struct iommufd_viommu *viommu,
			      struct iommu_user_data_array *array)
{
	const struct iommufd_viommu_ops *ops = viommu->ops;
	u64 block[IOMMUFD_INV_BLOCK / sizeof(u64)];
	u32 total = array->entry_num;
	int copy_rc = 0;
	int rc = 0;
	u32 queued = 0; /* in the block, and not done */
	u32 done = 0;
	u32 max;

	array->entry_num = 0;
	if (!ops->cache_invalidate)
		return -EOPNOTSUPP;
	if (array->type != ops->inv_type)
		return -EINVAL;
	if (total && array->entry_len < ops->inv_min_len)
		return -EINVAL;
	max = sizeof(block) / ops->inv_len;

	while (done != total) {
		unsigned int num = 0;

		if (!copy_rc) {
			void *cmds = (void *)block + queued * ops->inv_len;
			u32 first = done + queued;
			u32 want = min(max - queued, total - first);
			u32 copied;

			copy_rc = iommufd_copy_commands(ops, array, first, cmds,
							want, &copied);
			queued += copied;
		}
		if (!queued) {
			rc = copy_rc;
			break;
		}

		rc = ops->cache_invalidate(viommu, block, queued, &num);
		/*
		 * It must say why it stops, or it would be asked for ever, and an
		 * error is that of a command that did not take effect.
		 */
		if (WARN_ON_ONCE(rc ? num >= queued : !num || num > queued)) {
			rc = -EIO;
			break;
		}
		done += num;
		queued -= num;
		if (rc || done == total)
			break;
		memmove(block, (void *)block + num * ops->inv_len,
			queued * ops->inv_len);

		cond_resched();
		if (fatal_signal_pending(current)) {
			rc = -EINTR;
			break;
		}
	}

	array->entry_num = done;
	return rc;
}
EXPORT_SYMBOL_IF_KUNIT(iommufd_viommu_invalidate);
