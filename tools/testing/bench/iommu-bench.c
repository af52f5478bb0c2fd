// SPDX-License-Identifier: GPL-2.0
/*
 * Counts what the users of the IOMMU core cost, for scripts/bench.sh: SVA here, when
 * this is loaded, and VFIO's containers for a program, tools/testing/vfio/vfio-groups.c.
 *
 * SVA: a process, the one that loads this, is bound to devices on some instances. The
 * figures are the instructions of a bind and of an unbind, the calls of the driver's
 * attach and how many of them it has refused, the domains, and the allocations.
 *
 * Containers: the program writes to /dev/iommu-bench before what it wants to be counted,
 * and reads struct counts there afterwards. Neither allocates.
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
 * Prints lines "bench: sva-DEVICESxINSTANCES OPERATION NUMBER".
 */
#include <linux/io-pgtable.h>
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/property.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* a macro of include/linux/iopte-alloc.h, which io-pgtable.h includes */
#ifdef IOPTE_FREE_SLEEPS
#define OURS
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

/*
 * What one task has done. The program has the same structure. The fakes' driver counts
 * here too.
 */
static struct counts {
	u32 attaches;		/* the driver's attach was called, for a domain */
	u32 refused;		/* and has refused; the fakes' only */
	u32 blocks;		/* the same for the domain that blocks all */
	u32 domains;		/* domains were allocated */
	u32 allocations;	/* kmalloc() and kmem_cache_alloc(), in all their forms */
} counts;

static struct task_struct *counted;

struct probe {
	struct kprobe	kp;
	u32		*count;
};

static int count(struct kprobe *kp, struct pt_regs *regs)
{
	if (counted == current && in_task())
		++*container_of(kp, struct probe, kp)->count;
	return 0;
}

#define PROBE(_function, _count)				\
	{							\
		.kp = {						\
			.symbol_name = _function,		\
			.pre_handler = count,			\
			.flags = KPROBE_FLAG_DISABLED,		\
		},						\
		.count = &counts._count,			\
	}

/* None of these is called by another one. */
static struct probe probes[] = {
	PROBE("kmem_cache_alloc_noprof", allocations),
	PROBE("kmem_cache_alloc_lru_noprof", allocations),
	PROBE("kmem_cache_alloc_node_noprof", allocations),
	PROBE("kmem_cache_alloc_bulk_noprof", allocations),
	PROBE("__kmalloc_noprof", allocations),
	PROBE("__kmalloc_node_noprof", allocations),
	PROBE("__kmalloc_node_track_caller_noprof", allocations),
	PROBE("__kmalloc_cache_noprof", allocations),
	PROBE("__kmalloc_cache_node_noprof", allocations),
	PROBE("__kmalloc_large_noprof", allocations),
	PROBE("__kmalloc_large_node_noprof", allocations),
	PROBE("arm_smmu_attach_dev", attaches),
	PROBE("arm_smmu_attach_dev_blocked", blocks),
	PROBE("arm_smmu_domain_alloc_paging", domains),
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

static ssize_t counts_write(struct file *file, const char __user *buf, size_t n,
			    loff_t *pos)
{
	return (counted ? -EBUSY : start_counting()) ?: n;
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

MODULE_DESCRIPTION("Costs of SVA, and counts of what a task costs the IOMMU core");
MODULE_LICENSE("GPL");
