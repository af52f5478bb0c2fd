// SPDX-License-Identifier: GPL-2.0
/*
 * Counts what the users of the IOMMU core cost, for scripts/bench.sh: SVA here, when
 * this is loaded, and for programs of tools/testing/vfio VFIO's containers (vfio-groups.c)
 * and what a guest invalidates through iommufd (iommufd-invalidate.c).
 *
 * SVA: a process, the one that loads this, is bound to devices on some instances. The
 * figures are the instructions of a bind and of an unbind, the calls of the driver's
 * attach and how many of them it has refused, the domains, and the allocations.
 *
 * The programs write "1" to /dev/iommu-bench before what they want to be counted, and read
 * struct counts there afterwards. Neither allocates.
 *
 * Invalidations: the driver does with commands what the kernel's own mock driver does
 * (drivers/iommu/iommufd/selftest.c), which is not there because CONFIG_IOMMUFD_TEST would
 * change what everything else costs. Where the kernel has virtual IOMMUs, writing "vdevices"
 * to /dev/iommu-bench fills one with up to 65,536 vdevices, below the ioctl: there are not
 * that many devices. That prints the instructions of the slowest lookup, and what was
 * allocated for all of them. Where the kernel knows of it, writing "coherent" says for all
 * PCI devices what firmware can say, that they are coherent whatever they ask for: only then
 * does arm-smmu-v3 offer virtual IOMMUs (iopt-nest.c).
 *
 * The instances are fakes, in whose driver an attach is a comparison: a domain is for
 * its own instance, as arm-smmu-v3 has it, and others are refused. So the instructions
 * are the core's, and those of an attach to hardware come on top. Page faults are not
 * reported, and an unbind has none to drain. The devices are left for vfio-platform.
 *
 * Instructions are counted while no probe is armed: the lowest of some rounds, since a
 * bind may sleep and interrupts are on. The counter is the one that iopt-bench has
 * started. What is allocated is counted in a round of its own, for one task, by probes of
 * the allocator's functions. So are the attaches and domains of arm-smmu-v3.
 *
 * Prints lines "bench: sva-DEVICESxINSTANCES OPERATION NUMBER" and "bench: vdevices-CASE
 * OPERATION NUMBER".
 */
#include <linux/io-pgtable.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/irqflags.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/property.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "iommu-bench.h"

/* a macro of include/linux/iopte-alloc.h, which io-pgtable.h includes */
#ifdef IOPTE_FREE_SLEEPS
#define OURS
#endif

/* a macro of include/linux/iommufd.h, where that has virtual IOMMUs */
#ifdef IOMMUFD_INV_BLOCK
#define VIOMMUS
#endif

#define INSTANCES		8
#define DEVICES			64
#define ROUNDS			24
#define PASID_BITS		8

static u32 counter(void)
{
	u64 v;

	asm volatile("isb\n\tmrs %0, pmevcntr0_el0\n\tisb" : "=r" (v) : : "memory");
	return v;
}

static struct counts counts;
static struct task_struct *counted;

/* What a probed function's first argument says of how much it allocates */
enum memory { NONE, CACHE, CACHE_OF_MANY, SIZE };

struct probe {
	struct kprobe	kp;
	u32		*count;
	enum memory	memory;
};

static u32 bytes(enum memory memory, struct pt_regs *regs)
{
	struct kmem_cache *cache = (void *)regs->regs[0];

	switch (memory) {
	case CACHE:
		return kmem_cache_size(cache);
	case CACHE_OF_MANY:
		return kmem_cache_size(cache) * regs->regs[2];
	case SIZE:
		return kmalloc_size_roundup(regs->regs[0]);
	default:
		return 0;
	}
}

static int count(struct kprobe *kp, struct pt_regs *regs)
{
	struct probe *probe = container_of(kp, struct probe, kp);

	if (counted == current && in_task()) {
		++*probe->count;
		counts.bytes += bytes(probe->memory, regs);
	}
	return 0;
}

#define PROBE(_function, _count, _memory)			\
	{							\
		.kp = {						\
			.symbol_name = _function,		\
			.pre_handler = count,			\
			.flags = KPROBE_FLAG_DISABLED,		\
		},						\
		.count = &counts._count,			\
		.memory = _memory,				\
	}

/* None of these is called by another one. */
static struct probe probes[] = {
	PROBE("kmem_cache_alloc_noprof", allocations, CACHE),
	PROBE("kmem_cache_alloc_lru_noprof", allocations, CACHE),
	PROBE("kmem_cache_alloc_node_noprof", allocations, CACHE),
	PROBE("kmem_cache_alloc_bulk_noprof", allocations, CACHE_OF_MANY),
	PROBE("__kmalloc_noprof", allocations, SIZE),
	PROBE("__kmalloc_node_noprof", allocations, SIZE),
	PROBE("__kmalloc_node_track_caller_noprof", allocations, SIZE),
	PROBE("__kmalloc_cache_noprof", allocations, CACHE),
	PROBE("__kmalloc_cache_node_noprof", allocations, CACHE),
	PROBE("__kmalloc_large_noprof", allocations, SIZE),
	PROBE("__kmalloc_large_node_noprof", allocations, SIZE),
	PROBE("arm_smmu_attach_dev", attaches, NONE),
	PROBE("arm_smmu_attach_dev_blocked", blocks, NONE),
	PROBE("arm_smmu_domain_alloc_paging", domains, NONE),
};

static void remove_probes(int n)
{
	while (n--)
		unregister_kprobe(&probes[n].kp);
}

static int add_probes(void)
{
	for (int i = 0; i < ARRAY_SIZE(probes); i++) {
		int ret = register_kprobe(&probes[i].kp);

		if (ret) {
			pr_err("bench: error: no probe of %s\n", probes[i].kp.symbol_name);
			remove_probes(i);
			return ret;
		}
	}
	return 0;
}

static void stop_counting(void)
{
	counted = NULL;
	for (int i = 0; i < ARRAY_SIZE(probes); i++)
		disable_kprobe(&probes[i].kp);
}

static int start_counting(void)
{
	for (int i = 0; i < ARRAY_SIZE(probes); i++) {
		int ret = enable_kprobe(&probes[i].kp);

		if (ret) {
			stop_counting();
			return ret;
		}
	}
	counts = (struct counts) { };
	counted = current;
	return 0;
}

/* The driver */

struct instance {
	struct iommu_device	iommu;
	struct fwnode_handle	*fwnode;
};

struct fake_domain {
	struct iommu_domain	domain;
	struct instance		*instance;
};

static struct instance instances[INSTANCES];
static struct platform_device *devices[DEVICES];
static struct iommu_sva *bonds[DEVICES];

static struct instance *instance_of(struct device *dev)
{
	return container_of(dev->iommu->iommu_dev, struct instance, iommu);
}

static struct fake_domain *to_fake(struct iommu_domain *domain)
{
	return container_of(domain, struct fake_domain, domain);
}

static int identity_attach(struct iommu_domain *domain, struct device *dev)
{
	return 0;
}

static const struct iommu_domain_ops identity_ops = {
	.attach_dev = identity_attach,
};

static struct iommu_domain identity = {
	.type = IOMMU_DOMAIN_IDENTITY,
	.ops = &identity_ops,
};

static int blocked_attach(struct iommu_domain *domain, struct device *dev)
{
	counts.blocks++;
	return 0;
}

static const struct iommu_domain_ops blocked_ops = {
	.attach_dev = blocked_attach,
};

static struct iommu_domain blocked = {
	.type = IOMMU_DOMAIN_BLOCKED,
	.ops = &blocked_ops,
};

static int fake_attach(struct iommu_domain *domain, struct device *dev)
{
	counts.attaches++;
	if (to_fake(domain)->instance == instance_of(dev))
		return 0;
	counts.refused++;
	return -EINVAL;
}

static int fake_set_dev_pasid(struct iommu_domain *domain, struct device *dev,
			      ioasid_t pasid, struct iommu_domain *old)
{
	return fake_attach(domain, dev);
}

#ifdef OURS
static bool fake_compatible(struct iommu_domain *domain, struct device *dev)
{
	return to_fake(domain)->instance == instance_of(dev);
}
#endif

static int fake_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr,
		    size_t pgsize, size_t pgcount, int prot, gfp_t gfp, size_t *mapped)
{
	*mapped = pgsize * pgcount;
	return 0;
}

static size_t fake_unmap(struct iommu_domain *domain, unsigned long iova, size_t pgsize,
			 size_t pgcount, struct iommu_iotlb_gather *gather)
{
	return pgsize * pgcount;
}

static void fake_free(struct iommu_domain *domain)
{
	kfree(to_fake(domain));
}

static const struct iommu_domain_ops fake_domain_ops = {
	.attach_dev = fake_attach,
	.set_dev_pasid = fake_set_dev_pasid,
#ifdef OURS
	.compatible = fake_compatible,
#endif
	.map_pages = fake_map,
	.unmap_pages = fake_unmap,
	.free = fake_free,
};

static struct iommu_domain *fake_alloc(struct device *dev)
{
	struct fake_domain *fake = kzalloc(sizeof(*fake), GFP_KERNEL);

	if (!fake)
		return ERR_PTR(-ENOMEM);
	counts.domains++;
	fake->domain.ops = &fake_domain_ops;
	fake->domain.geometry.aperture_end = ~0UL;
	fake->instance = instance_of(dev);
	return &fake->domain;
}

static struct iommu_domain *fake_alloc_sva(struct device *dev, struct mm_struct *mm)
{
	return fake_alloc(dev);
}

/* What a guest invalidates, as the kernel's mock driver does it */

struct fake_nested {
	struct iommu_domain	domain;
	u32			iotlb[BENCH_CACHES];
};

static void nested_free(struct iommu_domain *domain)
{
	kfree(container_of(domain, struct fake_nested, domain));
}

static int nested_invalidate(struct iommu_domain *domain,
			     struct iommu_user_data_array *array)
{
	struct fake_nested *nested = container_of(domain, struct fake_nested, domain);
	struct bench_hwpt_invalidate inv;
	u32 processed = 0;
	int ret = 0;

	if (array->type != BENCH_TYPE) {
		array->entry_num = 0;
		return -EINVAL;
	}

	for (int i = 0; i < array->entry_num; i++) {
		ret = iommu_copy_struct_from_user_array(&inv, array, BENCH_TYPE, i,
							iotlb_id);
		if (ret)
			break;
		if (inv.flags & ~BENCH_INVALIDATE_ALL) {
			ret = -EOPNOTSUPP;
			break;
		}
		if (inv.iotlb_id >= BENCH_CACHES) {
			ret = -EINVAL;
			break;
		}
		if (inv.flags & BENCH_INVALIDATE_ALL)
			memset(nested->iotlb, 0, sizeof(nested->iotlb));
		else
			nested->iotlb[inv.iotlb_id] = 0;
		processed++;
	}

	array->entry_num = processed;
	return ret;
}

static const struct iommu_domain_ops nested_ops = {
	.attach_dev = identity_attach,
	.cache_invalidate_user = nested_invalidate,
	.free = nested_free,
};

static struct iommu_domain *fake_alloc_user(struct device *dev, u32 flags,
					    struct iommu_domain *parent,
					    const struct iommu_user_data *user_data)
{
	struct iommu_domain *domain;
	struct fake_nested *nested;

	if (!parent) {
		domain = fake_alloc(dev);
		if (!IS_ERR(domain)) {
			domain->type = IOMMU_DOMAIN_UNMANAGED;
			domain->pgsize_bitmap = PAGE_SIZE;
		}
		return domain;
	}

	nested = kzalloc(sizeof(*nested), GFP_KERNEL);
	if (!nested)
		return ERR_PTR(-ENOMEM);
	nested->domain.type = IOMMU_DOMAIN_NESTED;
	nested->domain.ops = &nested_ops;
	return &nested->domain;
}

#ifdef VIOMMUS
/* Commands that the driver does at once, as many as the mock driver does */
#define BATCH			32U

struct fake_viommu {
	struct iommufd_viommu	core;
};

struct fake_vdevice {
	struct iommufd_vdevice	core;
	u32			*caches;
};

static u32 caches[DEVICES][BENCH_CACHES];

static int viommu_init(struct iommufd_viommu *viommu, struct iommu_domain *parent,
		       const struct iommu_user_data *user_data)
{
	return 0;
}

static int vdevice_init(struct iommufd_vdevice *vdev)
{
	container_of(vdev, struct fake_vdevice, core)->caches =
		caches[to_platform_device(vdev->dev)->id];
	return 0;
}

/* All of a batch is checked before any of it is done, as with a queue. */
static int viommu_invalidate(struct iommufd_viommu *viommu, const void *cmds,
			     unsigned int num, unsigned int *done)
{
	const struct bench_viommu_invalidate *cmd = cmds;
	unsigned int i, n, cache;
	u32 *found[BATCH];
	int ret = 0;

	num = min(num, BATCH);

	rcu_read_lock();
	for (n = 0; n != num; n++) {
		struct iommufd_vdevice *vdev;

		if (cmd[n].flags & ~BENCH_INVALIDATE_ALL) {
			ret = -EOPNOTSUPP;
			break;
		}
		vdev = iommufd_viommu_find_vdevice(viommu, cmd[n].vdev_id);
		if (cmd[n].cache_id >= BENCH_CACHES || !vdev) {
			ret = -EINVAL;
			break;
		}
		found[n] = container_of(vdev, struct fake_vdevice, core)->caches;
	}

	for (i = 0; i != n; i++) {
		for (cache = 0; cache != BENCH_CACHES; cache++) {
			if (cache == cmd[i].cache_id || cmd[i].flags & BENCH_INVALIDATE_ALL)
				WRITE_ONCE(found[i][cache], 0);
		}
	}
	rcu_read_unlock();

	*done = n;
	return ret;
}

static const struct iommufd_viommu_ops viommu_ops = {
	.viommu_size = IOMMUFD_VIOMMU_SIZE(struct fake_viommu),
	.viommu_init = viommu_init,
	.inv_type = BENCH_TYPE,
	.inv_len = sizeof(struct bench_viommu_invalidate),
	.inv_min_len = sizeof(struct bench_viommu_invalidate),
	.cache_invalidate = viommu_invalidate,
	.vdevice_size = IOMMUFD_VDEVICE_SIZE(struct fake_vdevice),
	.vdevice_init = vdevice_init,
};

static const struct iommufd_viommu_ops *fake_viommu_ops(struct device *dev,
							unsigned int type)
{
	return type == BENCH_TYPE ? &viommu_ops : NULL;
}
#endif

static bool fake_capable(struct device *dev, enum iommu_cap cap)
{
	/* VFIO asks for it */
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

static struct iommu_device *fake_probe(struct device *dev)
{
	struct iommu_fwspec *fwspec = dev_iommu_fwspec_get(dev);

	for (int i = 0; fwspec && i < INSTANCES; i++) {
		if (fwspec->iommu_fwnode == instances[i].fwnode)
			return &instances[i].iommu;
	}
	return ERR_PTR(-ENODEV);
}

static void fake_remove_dev_pasid(struct device *dev, ioasid_t pasid,
				  struct iommu_domain *domain)
{
}

static const struct iommu_ops fake_ops = {
	.capable = fake_capable,
	.probe_device = fake_probe,
	.device_group = generic_device_group,
	.default_domain = &identity,
	.blocked_domain = &blocked,
	.domain_alloc_paging = fake_alloc,
	.domain_alloc_sva = fake_alloc_sva,
	.domain_alloc_user = fake_alloc_user,
#ifdef VIOMMUS
	.viommu_ops = fake_viommu_ops,
#endif
	.remove_dev_pasid = fake_remove_dev_pasid,
	.pgsize_bitmap = PAGE_SIZE,
	.owner = THIS_MODULE,
};

static int add_instance(struct instance *instance, int i)
{
	struct iommu_device *iommu = &instance->iommu;
	int ret;

	instance->fwnode = fwnode_create_software_node(NULL, NULL);
	if (IS_ERR(instance->fwnode))
		return PTR_ERR(instance->fwnode);
	iommu->fwnode = instance->fwnode;
	iommu->max_pasids = BIT(PASID_BITS);
	ret = iommu_device_sysfs_add(iommu, NULL, NULL, "iommu-bench.%d", i);
	if (ret)
		goto err_fwnode;
	ret = iommu_device_register(iommu, &fake_ops, NULL);
	if (ret)
		goto err_sysfs;
	return 0;

err_sysfs:
	iommu_device_sysfs_remove(iommu);
err_fwnode:
	fwnode_remove_software_node(instance->fwnode);
	return ret;
}

static void remove_instance(struct instance *instance)
{
	iommu_device_unregister(&instance->iommu);
	iommu_device_sysfs_remove(&instance->iommu);
	fwnode_remove_software_node(instance->fwnode);
}

static int add_device(unsigned int i, struct instance *instance)
{
	static const struct property_entry props[] = {
		PROPERTY_ENTRY_U32("pasid-num-bits", PASID_BITS),
		/* vfio-platform asks for it */
		PROPERTY_ENTRY_STRING("compatible", "iommu-bench"),
		{ }
	};
	struct platform_device *pdev = platform_device_alloc("iommu-bench", i);
	int ret;

	if (!pdev)
		return -ENOMEM;
	ret = device_create_managed_software_node(&pdev->dev, props, NULL) ?:
	      iommu_fwspec_init(&pdev->dev, instance->fwnode) ?:
	      platform_device_add(pdev);
	if (ret) {
		platform_device_put(pdev);
		return ret;
	}
	devices[i] = pdev;
	return pdev->dev.iommu_group ? 0 : -ENODEV;
}

static void remove_devices(void)
{
	for (int i = 0; i < DEVICES; i++) {
		if (devices[i])
			platform_device_unregister(devices[i]);
		devices[i] = NULL;
	}
}

/* SVA */

/* By device, the lowest of the rounds: what the allocator does now and then is in none. */
static u32 binds[DEVICES], unbinds[DEVICES];

static void unbind(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		u32 start = counter();

		iommu_sva_unbind_device(bonds[i]);
		unbinds[i] = min(unbinds[i], counter() - start);
	}
}

/* Bind the process to @n devices. */
static int bind(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		u32 start = counter();

		bonds[i] = iommu_sva_bind_device(&devices[i]->dev, current->mm);
		binds[i] = min(binds[i], counter() - start);
		if (IS_ERR(bonds[i])) {
			unbind(i);
			return PTR_ERR(bonds[i]);
		}
	}
	return 0;
}

static u32 average(const u32 *costs, unsigned int n)
{
	u32 sum = 0;

	for (unsigned int i = 0; i < n; i++)
		sum += costs[i];
	return sum / n;
}

static int measure(unsigned int n, unsigned int num_instances)
{
	char name[16];
	int ret;

	memset(binds, 0xff, sizeof(binds));
	memset(unbinds, 0xff, sizeof(unbinds));
	for (int round = 0; round < ROUNDS; round++) {
		ret = bind(n);
		if (ret)
			return ret;
		unbind(n);
	}

	ret = start_counting();
	if (ret)
		return ret;
	ret = bind(n);
	stop_counting();
	if (ret)
		return ret;
	unbind(n);

	snprintf(name, sizeof(name), "sva-%ux%u", n, num_instances);
	pr_err("bench: %s bind %u\n", name, average(binds, n));
	pr_err("bench: %s unbind %u\n", name, average(unbinds, n));
	pr_err("bench: %s domains %u\n", name, counts.domains);
	pr_err("bench: %s attaches %u\n", name, counts.attaches);
	pr_err("bench: %s refused %u\n", name, counts.refused);
	pr_err("bench: %s allocations %u\n", name, counts.allocations);
	return 0;
}

static int measure_sva(void)
{
	static const unsigned int cases[][2] = {
		{ 1, 1 }, { 8, 1 }, { 64, 1 }, { 8, 8 }, { 64, 8 },
	};
	int ret = 0;

	for (int i = 0; i < ARRAY_SIZE(cases) && !ret; i++) {
		unsigned int n = cases[i][0], num_instances = cases[i][1];

		for (unsigned int j = 0; j < n && !ret; j++)
			ret = add_device(j, &instances[j % num_instances]);
		if (!ret)
			ret = measure(n, num_instances);
		remove_devices();
	}
	return ret;
}

/* vdevices */

#ifdef VIOMMUS
/* What iommufd_vdevice_link() and its caller do */
static int add_vdevice(struct iommufd_viommu *viommu, unsigned long virt_id)
{
	struct fake_vdevice *fake = kzalloc(sizeof(*fake), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!fake)
		return -ENOMEM;
	fake->core.viommu = viommu;
	fake->core.virt_id = virt_id;
	ret = xa_insert(&viommu->vdevs, virt_id, NULL, GFP_KERNEL_ACCOUNT);
	if (!ret)
		ret = xa_err(xa_store(&viommu->vdevs, virt_id, &fake->core,
				      GFP_KERNEL_ACCOUNT));
	if (ret)
		kfree(fake);
	return ret;
}

static void remove_vdevices(struct iommufd_viommu *viommu)
{
	struct iommufd_vdevice *vdev;
	unsigned long virt_id;

	xa_for_each(&viommu->vdevs, virt_id, vdev)
		kfree(container_of(vdev, struct fake_vdevice, core));
	xa_destroy(&viommu->vdevs);
}

/* The instructions of a lookup, as a driver does it; 0 if it does not find the vdevice. */
static u32 lookup(struct iommufd_viommu *viommu, unsigned long virt_id)
{
	struct iommufd_vdevice *vdev;
	unsigned long flags;
	u32 nothing, start, end;
	bool found;

	local_irq_save(flags);
	nothing = counter();
	start = counter();
	rcu_read_lock();
	vdev = iommufd_viommu_find_vdevice(viommu, virt_id);
	rcu_read_unlock();
	end = counter();
	found = vdev && vdev->virt_id == virt_id;
	local_irq_restore(flags);
	return found ? end - start - (start - nothing) : 0;
}

static int measure_case(const char *name, unsigned long first, unsigned long n)
{
	static struct iommufd_viommu viommu;
	unsigned long i;
	u32 slowest = 0;
	int ret;

	xa_init_flags(&viommu.vdevs, XA_FLAGS_ACCOUNT);
	ret = start_counting();
	if (ret)
		return ret;
	for (i = 0; i < n && !ret; i++)
		ret = add_vdevice(&viommu, first + i);
	stop_counting();

	for (i = 0; i < n && !ret; i++) {
		u32 cost = lookup(&viommu, first + i);

		slowest = max(slowest, cost);
		if (!cost)
			ret = -ENOENT;
	}
	remove_vdevices(&viommu);
	if (ret)
		return ret;

	pr_err("bench: vdevices-%s lookup %u\n", name, slowest);
	pr_err("bench: vdevices-%s bytes %u\n", name, counts.bytes);
	return 0;
}

static int measure_vdevices(void)
{
	return measure_case("1", 0, 1) ?:
	       measure_case("256", 0, 256) ?:
	       measure_case("65536", 0, 65536) ?:
	       measure_case("last", 65535, 1);
}
#else
static int measure_vdevices(void)
{
	return 0;
}
#endif

/* For the programs */

static int make_coherent(void)
{
#ifdef IOMMU_FWSPEC_PCI_RC_CANWBS
	struct pci_dev *pdev = NULL;
	struct iommu_fwspec *fwspec;

	for_each_pci_dev(pdev) {
		fwspec = dev_iommu_fwspec_get(&pdev->dev);
		if (fwspec)
			fwspec->flags |= IOMMU_FWSPEC_PCI_RC_CANWBS;
	}
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

static ssize_t counts_write(struct file *file, const char __user *buf, size_t n,
			    loff_t *pos)
{
	char what;

	if (!n || get_user(what, buf))
		return -EFAULT;
	if (counted)
		return -EBUSY;
	switch (what) {
	case 'v':
		return measure_vdevices() ?: n;
	case 'c':
		return make_coherent() ?: n;
	default:
		return start_counting() ?: n;
	}
}

static ssize_t counts_read(struct file *file, char __user *buf, size_t n, loff_t *pos)
{
	if (counted != current || n != sizeof(counts))
		return -EINVAL;
	stop_counting();
	return copy_to_user(buf, &counts, n) ? -EFAULT : n;
}

static const struct file_operations counts_fops = {
	.owner = THIS_MODULE,
	.read = counts_read,
	.write = counts_write,
};

static struct miscdevice counts_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "iommu-bench",
	.fops = &counts_fops,
};

/* iopt-bench has shown that the counter is exact; it may not have been loaded. */
static bool counter_runs(void)
{
	u32 start = counter();

	return counter() != start;
}

static int __init iommu_bench_init(void)
{
	/* for vfio-platform: two devices on the first instance, and three on others */
	static const unsigned int left[] = { 0, 0, 1, 2, 3 };
	int ret, n;

	if (!counter_runs())
		return -ENXIO;
	ret = add_probes();
	if (ret)
		return ret;

	for (n = 0; n < INSTANCES; n++) {
		ret = add_instance(&instances[n], n);
		if (ret)
			break;
	}
	if (!ret)
		ret = measure_sva();
	for (int i = 0; i < ARRAY_SIZE(left) && !ret; i++)
		ret = add_device(i, &instances[left[i]]);
	if (!ret)
		ret = misc_register(&counts_device);
	if (!ret)
		return 0;

	pr_err("bench: error: the IOMMU core's users: %d\n", ret);
	remove_devices();
	while (n--)
		remove_instance(&instances[n]);
	remove_probes(ARRAY_SIZE(probes));
	return ret;
}
module_init(iommu_bench_init);

MODULE_DESCRIPTION("Costs of SVA and vdevices, and counts of what a task costs the IOMMU core");
MODULE_LICENSE("GPL");
#ifdef VIOMMUS
MODULE_IMPORT_NS(IOMMUFD);
#endif
