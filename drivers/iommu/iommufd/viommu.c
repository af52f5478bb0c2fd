// SPDX-License-Identifier: GPL-2.0
/*
 * The part of an IOMMU that a virtual machine may use
 *
 * A virtual IOMMU (struct iommufd_viommu) is made of one physical instance, for
 * one nesting parent. The IOMMU's driver embeds it in a structure of its own and
 * says in struct iommufd_viommu_ops what is to be done with it. Which physical
 * resource stands behind it is the driver's business.
 *
 * A vdevice (struct iommufd_vdevice) is a device of that virtual machine, under the
 * ID by which the guest knows it.
 *
 *  - References go one way, from what uses to what is used: a vdevice keeps its
 *    virtual IOMMU, and this its nesting parent. So whatever order user space
 *    destroys objects in, it is told -EBUSY until the users are gone, and a close
 *    finds an object without users until there is none left.
 *  - A device and its vdevice do not keep each other: each can go first, and at the
 *    same time. iommufd_device::vdev and iommufd_vdevice::idev are both set, or
 *    neither is, and change under iommufd_ctx::vdevice_lock. Who finds the one that
 *    it looks at set unlinks the two, and calls the driver; so the driver is called
 *    once, and before either of them is gone. Therefore the mutex belongs to neither
 *    of them, and not to the virtual IOMMU, which is reached through the vdevice
 *    only. Who frees a vdevice is another question: the one who takes it out of
 *    iommufd_ctx::objects, under the lock of these, IOMMU_DESTROY, a close, or the
 *    device. Nobody else may touch it once the mutex is released.
 *  - Drivers look vdevices up under RCU, with no lock. What they find is complete,
 *    because it gets into iommufd_viommu::vdevs after the driver has set it up, and
 *    stays until they are done with it, because it is freed after a grace period.
 *    Nobody waits for one.
 *  - A mapping of a virtual IOMMU's pages is a user of it like any other, so the
 *    pages go after the last mapping. It finds the virtual IOMMU by its ID, which is
 *    what the offset says, and so none that is not finished or about to go.
 *  - An object that user space does not know yet cannot be used, so who makes one
 *    can always undo it. All that can fail is done before
 *    iommufd_object_finalize(). A vdevice can be used under its virtual ID as soon
 *    as it is linked, so that is the last thing that can fail.
 *  - User memory is read and written with references held and no lock, by drivers
 *    too: a page fault may take as long as another process likes, and mmap_lock
 *    nests outside of what a driver takes. A reference on a device is as bad as a
 *    lock there: who unbinds the device waits for it, and VFIO holds its dev_set
 *    lock meanwhile. So the ioctls here do not have one then. (Of the ioctls that
 *    were there before, IOMMU_GET_HW_INFO and IOMMU_HWPT_ALLOC do.)
 *
 * VFIO unbinds devices under its dev_set lock, which therefore nests outside of
 * iommufd_ctx::vdevice_lock, and the driver's nest inside. What is mapped or unmapped
 * takes spinlocks only, inside of mmap_lock. The mutex is not held to wait for
 * users of an object. Neither iommufd_group::lock nor a group's mutex is taken in it,
 * nor it in them: an attach looks up, and does not link.
 */
#include <kunit/visibility.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/ioport.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <uapi/linux/iommufd.h>

#include "../iommu-priv.h"
#include "iommufd_private.h"

void iommufd_viommu_destroy(struct iommufd_object *obj)
{
	struct iommufd_viommu *viommu =
		container_of(obj, struct iommufd_viommu, obj);

	if (viommu->ops->viommu_destroy)
		viommu->ops->viommu_destroy(viommu);
	/* No vdevice is left, but nodes may be, see iommufd_vdevice_link() */
	xa_destroy(&viommu->vdevs);
	refcount_dec(&viommu->hwpt->common.obj.users);
}
EXPORT_SYMBOL_IF_KUNIT(iommufd_viommu_destroy);

static const struct iommufd_viommu_ops *
iommufd_viommu_get_ops(struct device *dev, u32 type)
{
	const struct iommu_ops *ops = dev_iommu_ops(dev);
	const struct iommufd_viommu_ops *viommu_ops;

	if (!ops->viommu_ops)
		return NULL;

	viommu_ops = ops->viommu_ops(dev, type);
	if (!viommu_ops)
		return NULL;
	if (WARN_ON_ONCE(viommu_ops->viommu_size <
			 sizeof(struct iommufd_viommu)))
		return NULL;
	if (WARN_ON_ONCE(viommu_ops->cache_invalidate &&
			 (!viommu_ops->inv_len ||
			  viommu_ops->inv_len > IOMMUFD_INV_BLOCK)))
		return NULL;
	return viommu_ops;
}

int iommufd_viommu_alloc_ioctl(struct iommufd_ucmd *ucmd)
{
	struct iommu_viommu_alloc *cmd = ucmd->cmd;
	const struct iommu_user_data user_data = {
		.type = cmd->type,
		.uptr = u64_to_user_ptr(cmd->data_uptr),
		.len = cmd->data_len,
	};
	const struct iommufd_viommu_ops *ops;
	struct iommufd_hwpt_paging *hwpt_paging;
	struct iommufd_viommu *viommu;
	struct iommu_domain *domain;
	struct iommufd_object *obj;
	struct iommufd_device *idev;
	int rc;

	if (cmd->flags || cmd->__reserved ||
	    cmd->type == IOMMU_VIOMMU_TYPE_DEFAULT)
		return -EOPNOTSUPP;

	idev = iommufd_get_device(ucmd, cmd->dev_id);
	if (IS_ERR(idev))
		return PTR_ERR(idev);

	ops = iommufd_viommu_get_ops(idev->dev, cmd->type);
	if (!ops) {
		rc = -EOPNOTSUPP;
		goto out_put_idev;
	}

	hwpt_paging = iommufd_get_hwpt_paging(ucmd, cmd->hwpt_id);
	if (IS_ERR(hwpt_paging)) {
		rc = PTR_ERR(hwpt_paging);
		goto out_put_idev;
	}

	domain = hwpt_paging->common.domain;
	if (!hwpt_paging->nest_parent ||
	    !iommu_domain_compatible(domain, idev->dev)) {
		rc = -EINVAL;
		goto out_put_hwpt;
	}
	/* Or it would be compatible with every device of the driver */
	if (WARN_ON_ONCE(!domain->ops->compatible)) {
		rc = -EINVAL;
		goto out_put_hwpt;
	}

	obj = _iommufd_object_alloc(ucmd->ictx, ops->viommu_size,
				    IOMMUFD_OBJ_VIOMMU);
	if (IS_ERR(obj)) {
		rc = PTR_ERR(obj);
		goto out_put_hwpt;
	}
	viommu = container_of(obj, struct iommufd_viommu, obj);
	viommu->ictx = ucmd->ictx;
	viommu->iommu_dev = __iommu_get_iommu_dev(idev->dev);
	viommu->hwpt = hwpt_paging;
	viommu->ops = ops;
	xa_init_flags(&viommu->vdevs, XA_FLAGS_ACCOUNT);

	/* The rest touches user memory, and needs the device no more */
	iommufd_put_object(ucmd->ictx, &idev->obj);
	idev = NULL;

	rc = ops->viommu_init(viommu, domain,
			      user_data.len ? &user_data : NULL);
	if (rc) {
		iommufd_object_abort(ucmd->ictx, &viommu->obj);
		goto out_put_hwpt;
	}
	/* Pairs with iommufd_viommu_destroy() */
	refcount_inc(&hwpt_paging->common.obj.users);

	cmd->out_viommu_id = viommu->obj.id;
	rc = iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		iommufd_object_abort_and_destroy(ucmd->ictx, &viommu->obj);
	else
		iommufd_object_finalize(ucmd->ictx, &viommu->obj);

out_put_hwpt:
	iommufd_put_object(ucmd->ictx, &hwpt_paging->common.obj);
out_put_idev:
	if (idev)
		iommufd_put_object(ucmd->ictx, &idev->obj);
	return rc;
}

/* Undo iommufd_vdevice_link(). From here on the two do not know each other. */
static void iommufd_vdevice_unlink(struct iommufd_vdevice *vdev)
{
	struct iommufd_viommu *viommu = vdev->viommu;

	lockdep_assert_held(&viommu->ictx->vdevice_lock);

	xa_erase(&viommu->vdevs, vdev->virt_id);
	if (viommu->ops->vdevice_destroy)
		viommu->ops->vdevice_destroy(vdev);
	vdev->idev->vdev = NULL;
	vdev->idev = NULL;
}

static int iommufd_vdevice_link(struct iommufd_vdevice *vdev,
				struct iommufd_device *idev)
{
	struct iommufd_viommu *viommu = vdev->viommu;
	int rc;

	lockdep_assert_held(&viommu->ictx->vdevice_lock);

	if (idev->vdev)
		return -EEXIST;

	/*
	 * Take the ID, with what memory it needs, and let nobody find anything. If
	 * some of the memory is not to be had, what was there stays in the array,
	 * for the next one or until iommufd_viommu_destroy().
	 */
	rc = xa_insert(&viommu->vdevs, vdev->virt_id, NULL, GFP_KERNEL_ACCOUNT);
	if (rc)
		return rc == -EBUSY ? -EEXIST : rc;

	if (viommu->ops->vdevice_init) {
		rc = viommu->ops->vdevice_init(vdev);
		if (rc) {
			xa_release(&viommu->vdevs, vdev->virt_id);
			return rc;
		}
	}

	/* The entry is there, so this needs no memory */
	WARN_ON(xa_store(&viommu->vdevs, vdev->virt_id, vdev,
			 GFP_KERNEL_ACCOUNT));
	vdev->idev = idev;
	idev->vdev = vdev;
	return 0;
}

/* By IOMMU_DESTROY, by a close, when an allocation fails, or with the device */
void iommufd_vdevice_destroy(struct iommufd_object *obj)
{
	struct iommufd_vdevice *vdev =
		container_of(obj, struct iommufd_vdevice, obj);
	struct iommufd_viommu *viommu = vdev->viommu;

	mutex_lock(&viommu->ictx->vdevice_lock);
	if (vdev->idev)
		iommufd_vdevice_unlink(vdev);
	mutex_unlock(&viommu->ictx->vdevice_lock);
	refcount_dec(&viommu->obj.users);
}

void iommufd_vdevice_free(struct iommufd_object *obj)
{
	struct iommufd_vdevice *vdev =
		container_of(obj, struct iommufd_vdevice, obj);

	kfree_rcu(vdev, rcu);
}

/*
 * A device is going away. It is not found by its ID any more, and who has found it
 * is done, so nobody links a vdevice to it.
 */
void iommufd_device_remove_vdevice(struct iommufd_device *idev)
{
	struct iommufd_ctx *ictx = idev->ictx;
	struct iommufd_vdevice *vdev;
	bool retired = false;

	mutex_lock(&ictx->vdevice_lock);
	vdev = idev->vdev;
	if (vdev) {
		iommufd_vdevice_unlink(vdev);
		retired = iommufd_object_retire(ictx, &vdev->obj);
	}
	mutex_unlock(&ictx->vdevice_lock);

	if (retired)
		iommufd_object_destroy_retired(ictx, &vdev->obj);
}

int iommufd_vdevice_alloc_ioctl(struct iommufd_ucmd *ucmd)
{
	struct iommu_vdevice_alloc *cmd = ucmd->cmd;
	struct iommufd_viommu *viommu;
	struct iommufd_vdevice *vdev;
	struct iommufd_device *idev;
	struct iommufd_object *obj;
	int rc;

	/* virt_id indexes an xarray */
	if (cmd->virt_id > ULONG_MAX)
		return -EINVAL;

	viommu = iommufd_get_viommu(ucmd, cmd->viommu_id);
	if (IS_ERR(viommu))
		return PTR_ERR(viommu);

	obj = _iommufd_object_alloc(ucmd->ictx,
				    max(viommu->ops->vdevice_size,
					sizeof(struct iommufd_vdevice)),
				    IOMMUFD_OBJ_VDEVICE);
	if (IS_ERR(obj)) {
		rc = PTR_ERR(obj);
		goto out_put_viommu;
	}
	vdev = container_of(obj, struct iommufd_vdevice, obj);
	/* Pairs with iommufd_vdevice_destroy() */
	refcount_inc(&viommu->obj.users);
	vdev->viommu = viommu;
	vdev->virt_id = cmd->virt_id;

	/*
	 * This comes first because it touches user memory, which must not be done
	 * with the device held, and may fail, which must not be once a guest's
	 * commands can find the vdevice.
	 */
	cmd->out_vdevice_id = vdev->obj.id;
	rc = iommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		goto out_abort;

	idev = iommufd_get_device(ucmd, cmd->dev_id);
	if (IS_ERR(idev)) {
		rc = PTR_ERR(idev);
		goto out_abort;
	}
	if (viommu->iommu_dev != __iommu_get_iommu_dev(idev->dev)) {
		rc = -EINVAL;
		goto out_put_idev;
	}
	vdev->dev = idev->dev;

	mutex_lock(&ucmd->ictx->vdevice_lock);
	rc = iommufd_vdevice_link(vdev, idev);
	mutex_unlock(&ucmd->ictx->vdevice_lock);
	if (!rc)
		iommufd_object_finalize(ucmd->ictx, &vdev->obj);

out_put_idev:
	iommufd_put_object(ucmd->ictx, &idev->obj);
out_abort:
	if (rc)
		iommufd_object_abort_and_destroy(ucmd->ictx, &vdev->obj);
out_put_viommu:
	iommufd_put_object(ucmd->ictx, &viommu->obj);
	return rc;
}

static void iommufd_viommu_vm_open(struct vm_area_struct *vma)
{
	struct iommufd_viommu *viommu = vma->vm_private_data;

	refcount_inc(&viommu->obj.users);
}

static void iommufd_viommu_vm_close(struct vm_area_struct *vma)
{
	struct iommufd_viommu *viommu = vma->vm_private_data;

	refcount_dec(&viommu->obj.users);
}

static const struct vm_operations_struct iommufd_viommu_vm_ops = {
	.open = iommufd_viommu_vm_open,
	.close = iommufd_viommu_vm_close,
};

static int iommufd_viommu_map_pages(struct iommufd_viommu *viommu,
				    struct vm_area_struct *vma)
{
	unsigned long size = vma->vm_end - vma->vm_start;
	unsigned long pfn = PHYS_PFN(viommu->mmap_phys);
	int rc;

	if (!viommu->mmap_size || size != viommu->mmap_size)
		return -ENXIO;

	vm_flags_clear(vma, VM_MAYEXEC);
	/* What is not RAM is a device's, and never encrypted */
	if (page_is_ram(pfn)) {
		rc = remap_pfn_range(vma, vma->vm_start, pfn, size,
				     vma->vm_page_prot);
	} else {
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
		rc = io_remap_pfn_range(vma, vma->vm_start, pfn, size,
					vma->vm_page_prot);
	}
	if (rc)
		return rc;

	vma->vm_private_data = viommu;
	vma->vm_ops = &iommufd_viommu_vm_ops;
	iommufd_viommu_vm_open(vma);
	return 0;
}

/*
 * mmap() of the file: all the pages of a virtual IOMMU, or nothing. Called with
 * mmap_lock held, so this takes no lock that is ever held to touch user memory.
 */
int iommufd_viommu_mmap(struct iommufd_ctx *ictx, struct vm_area_struct *vma)
{
	struct iommufd_object *obj;
	int rc;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;

	/* The offset is the ID, see iommufd_viommu_set_mmap() */
	if (vma->vm_pgoff > INT_MAX)
		return -ENXIO;
	obj = iommufd_get_object(ictx, vma->vm_pgoff, IOMMUFD_OBJ_VIOMMU);
	if (IS_ERR(obj))
		return -ENXIO;

	rc = iommufd_viommu_map_pages(container_of(obj, struct iommufd_viommu,
						   obj), vma);
	iommufd_put_object(ictx, obj);
	return rc;
}
