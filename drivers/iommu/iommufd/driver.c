// SPDX-License-Identifier: GPL-2.0
/*
 * What IOMMU drivers call of iommufd
 *
 * iommufd is usually a module, and IOMMU drivers are not. So this is built in, and
 * refers to nothing of the module. It works on objects that the module has made,
 * which the module keeps as long as a driver can have them.
 */
#include <linux/export.h>
#include <linux/iommufd.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/xarray.h>

/**
 * iommufd_viommu_find_vdevice() - Find a device by the ID the guest knows it by
 * @viommu: virtual IOMMU
 * @virt_id: ID, as it came from the guest
 *
 * The vdevice, with what the driver has embedded it in, stays until the end of the
 * RCU read-side critical section. The device need not. The ID may be destroyed and
 * given to another device at any moment, also before this returns; then it is as if
 * the guest had named the device before that.
 *
 * Context: Any. The caller holds rcu_read_lock(), and keeps @viommu.
 * Return: The vdevice, or NULL if the ID is that of no device.
 */
struct iommufd_vdevice *
iommufd_viommu_find_vdevice(struct iommufd_viommu *viommu, u64 virt_id)
{
	RCU_LOCKDEP_WARN(!rcu_read_lock_held(),
			 "a vdevice is only there under RCU");

	if (virt_id > ULONG_MAX)
		return NULL;
	return xa_load(&viommu->vdevs, virt_id);
}
EXPORT_SYMBOL_NS_GPL(iommufd_viommu_find_vdevice, IOMMUFD);

/**
 * iommufd_viommu_get_virt_id() - Tell the ID by which the guest knows a device
 * @viommu: virtual IOMMU
 * @dev: device, which is only compared
 * @virt_id: output
 *
 * It looks at every device of the virtual IOMMU, so it is for attaching, and not for
 * what happens often. Like what iommufd_viommu_find_vdevice() finds, the answer may
 * be out of date as soon as it is given.
 *
 * Context: Any. The caller keeps @viommu.
 * Return: 0, or -ENOENT if the device has no vdevice on @viommu: @virt_id is
 * unchanged then.
 */
int iommufd_viommu_get_virt_id(struct iommufd_viommu *viommu,
			       struct device *dev, unsigned long *virt_id)
{
	struct iommufd_vdevice *vdev;
	unsigned long index;
	int rc = -ENOENT;

	rcu_read_lock();
	xa_for_each(&viommu->vdevs, index, vdev) {
		if (vdev->dev == dev) {
			*virt_id = index;
			rc = 0;
			break;
		}
	}
	rcu_read_unlock();
	return rc;
}
EXPORT_SYMBOL_NS_GPL(iommufd_viommu_get_virt_id, IOMMUFD);

/**
 * iommufd_viommu_set_mmap() - Let user space map pages of a virtual IOMMU
 * @viommu: virtual IOMMU
 * @phys: physical address, aligned to a page
 * @size: size in bytes, a multiple of a page, not 0
 *
 * Each virtual IOMMU has one range at most. Whoever has the file can map it, all of
 * it and shared, at the offset that this returns, which the driver hands to user
 * space. System memory is mapped as the kernel has it, anything else uncached. A
 * mapping keeps the virtual IOMMU: what is mapped may go in
 * &iommufd_viommu_ops.viommu_destroy, and not before.
 *
 * Context: Any. For &iommufd_viommu_ops.viommu_init, before anybody can map it.
 * Return: The offset.
 */
u64 iommufd_viommu_set_mmap(struct iommufd_viommu *viommu, phys_addr_t phys,
			    size_t size)
{
	viommu->mmap_phys = phys;
	viommu->mmap_size = size;
	return (u64)viommu->obj.id << PAGE_SHIFT;
}
EXPORT_SYMBOL_NS_GPL(iommufd_viommu_set_mmap, IOMMUFD);
