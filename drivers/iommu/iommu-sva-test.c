// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of SVA: what binds mms to devices, and the domains of an mm.
 *
 * The instances and devices are fakes that the core registers and probes as it does
 * real ones. They keep what real ones would have in memory: which domain each
 * PASID of a device has, and which mm an instance may have cached for a PASID. A
 * driver's call that no hardware would survive counts in svt::wrong, which is 0 in
 * the end: a PASID that is set where one is, a domain that is freed while a device
 * has it, a PASID of another mm that an instance has not forgotten, a domain on an
 * instance that it is not for.
 *
 * mms are those of nobody: they are allocated here, and exit when the test puts them.
 */

#include <kunit/resource.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mmu_context.h>
#include <linux/mmu_notifier.h>
#include <linux/platform_device.h>
#include <linux/prandom.h>
#include <linux/printk.h>
#include <linux/property.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <trace/events/kmem.h>

#include "iommu-priv.h"

#define SVT_INSTANCES	66
#define SVT_DEVICES	64
#define SVT_MMS		4
#define SVT_PASID_BITS	8
#define SVT_PASIDS	BIT(SVT_PASID_BITS)
#define SVT_GROUPS	BIT(16)
#define SVT_GROUPS_PER_STEP	32

struct svt;

/* Whether it comes true within ten seconds */
#define svt_wait_for(cond) ({						\
	bool __true = false;						\
									\
	for (unsigned int __i = 0; __i < 500 && !__true; __i++) {	\
		if (__i)						\
			msleep(20);					\
		__true = (cond);					\
	}								\
	__true;								\
})

/**
 * struct svt_gate - Where somebody waits until the test lets it go on
 * @held: completed by who waits
 * @go: completed by the test
 */
struct svt_gate {
	struct completion	held;
	struct completion	go;
};

/**
 * struct svt_instance - A fake IOMMU
 * @iommu: what the core registers
 * @fwnode: node by which devices name it
 * @t: the test
 * @cached: by PASID, the mm that may be cached
 * @faults: its fault queue
 * @reported: faults that the hardware has reported and nobody has handed over
 * @reporter: their devices
 * @reports: how many there are
 * @reports_lock: protects these
 */
struct svt_instance {
	struct iommu_device	iommu;
	struct fwnode_handle	*fwnode;
	struct svt		*t;
	struct mm_struct	*cached[SVT_PASIDS];
	struct iopf_queue	*faults;
	struct iopf_fault	reported[8];
	struct device		*reporter[8];
	unsigned int		reports;
	struct mutex		reports_lock; /* what was reported */
};

/**
 * struct svt_device - A device behind one
 * @pdev: the device
 * @instance: its IOMMU
 * @limit: what a domain must have to be for it
 * @domains: by PASID, what is set
 * @pasids: how many are
 */
struct svt_device {
	struct platform_device	*pdev;
	struct svt_instance	*instance;
	unsigned int		limit;
	struct svt_domain	*domains[SVT_PASIDS];
	unsigned int		pasids;
};

/**
 * struct svt_domain - An SVA domain
 * @domain: the domain
 * @instance: the instance that it was allocated for
 * @limit: limit of the device that it was allocated for
 * @users: how many devices have it
 * @notifier: notifier of the mm
 * @released: the mm has exited
 */
struct svt_domain {
	struct iommu_domain	domain;
	struct svt_instance	*instance;
	unsigned int		limit;
	unsigned int		users;
	struct mmu_notifier	notifier;
	bool			released;
};

/**
 * struct svt_failing - What failslab refuses
 * @task: to whom
 * @refused: how often to an allocation that could have slept
 * @loglevel: console_loglevel, when nothing fails
 */
struct svt_failing {
	struct task_struct	*task;
	unsigned int		refused;
	int			loglevel;
};

/**
 * struct svt - A test
 * @test: the KUnit test
 * @ops: what the instances' driver does
 * @domain_ops: what its domains do
 * @instances: the instances
 * @num_instances: how many there are
 * @devices: the devices
 * @num_devices: how many there are
 * @mms: mms
 * @lock: protects what the hardware has
 * @spans: domains are for all instances
 * @notifies: domains have a notifier
 * @allocs: domains that were allocated
 * @frees: domains that were freed
 * @attaches: calls of set_dev_pasid
 * @detaches: calls of remove_dev_pasid
 * @drains: calls of drain_faults
 * @answers: groups of page faults that were answered
 * @answered: what the last one was answered with
 * @valid: answers that had the device try again
 * @answered_groups: by group, that it was answered, where the test has several
 * @reported_groups: how many were reported then
 * @steps: what threads that bind have done
 * @wrong: calls that must not be
 * @fail_alloc: what the next allocations of domains fail with
 * @fail_attach: what the next attaches fail with
 * @allocations: how many the SVA core has asked for
 * @fail_allocation: the one of these that fails
 * @rival: device that is bound to the first mm by the first of these
 * @rival_bond: what that has given
 * @taken: a domain of somebody else
 * @fault_in_attach: when these fail there is a page fault before
 * @hold: device whose attach waits at @attach_gate
 * @attach_gate: where it waits
 * @handler: what handles page faults when it was let through @handler_gate
 * @hold_handler: handlers of domains that are attached wait there
 * @handler_gate: where they wait
 * @kept: groups of faults that a handler has dequeued
 * @num_kept: how many there are
 * @group: group of all devices that are added, if any
 * @groups: how many groups there are without those of this test
 * @failing: what fails
 */
struct svt {
	struct kunit		*test;
	struct iommu_ops	ops;
	struct iommu_domain_ops	domain_ops;
	struct svt_instance	instances[SVT_INSTANCES];
	unsigned int		num_instances;
	struct svt_device	devices[SVT_DEVICES];
	unsigned int		num_devices;
	struct mm_struct	*mms[SVT_MMS];
	spinlock_t		lock; /* what the hardware has */
	bool			spans;
	bool			notifies;
	atomic_t		allocs;
	atomic_t		frees;
	atomic_t		attaches;
	atomic_t		detaches;
	atomic_t		drains;
	atomic_t		answers;
	enum iommu_page_response_code answered;
	atomic_t		valid;
	unsigned long		*answered_groups;
	atomic_t		reported_groups;
	atomic_t		steps;
	atomic_t		wrong;
	int			fail_alloc;
	int			fail_attach;
	struct svt_domain	taken;
	bool			fault_in_attach;
	unsigned int		allocations;
	unsigned int		fail_allocation;
	struct device		*rival;
	struct iommu_sva	*rival_bond;
	struct device		*hold;
	struct svt_gate		attach_gate;
	int			(*handler)(struct iopf_group *group);
	bool			hold_handler;
	struct svt_gate		handler_gate;
	struct iopf_group	*kept[2];
	unsigned int		num_kept;
	struct iommu_group	*group;
	int			groups;
	struct svt_failing	failing;
};

/* For the driver's probe: one test runs at a time. */
static struct svt *svt_now;

/* Groups that the driver has made and that were not freed */
static atomic_t svt_groups;

static struct svt_domain *to_svt_domain(struct iommu_domain *domain)
{
	return container_of(domain, struct svt_domain, domain);
}

static void svt_wrong(struct svt *t, bool wrong)
{
	if (wrong)
		atomic_inc(&t->wrong);
}

static void svt_gate_init(struct svt_gate *gate)
{
	init_completion(&gate->held);
	init_completion(&gate->go);
}

static void svt_gate_pass(struct svt_gate *gate)
{
	complete(&gate->held);
	wait_for_completion(&gate->go);
}

/* The driver */

static int svt_identity_attach(struct iommu_domain *domain, struct device *dev)
{
	return 0;
}

static const struct iommu_domain_ops svt_identity_ops = {
	.attach_dev = svt_identity_attach,
};

static struct iommu_domain svt_identity = {
	.type = IOMMU_DOMAIN_IDENTITY,
	.ops = &svt_identity_ops,
};

static struct svt_device *svt_find(struct device *dev)
{
	return dev_iommu_priv_get(dev);
}

static struct iommu_device *svt_probe_device(struct device *dev)
{
	struct iommu_fwspec *fwspec = dev_iommu_fwspec_get(dev);
	struct svt *t = svt_now;

	for (unsigned int i = 0; i < t->num_devices; i++) {
		struct svt_device *sdev = &t->devices[i];

		if (&sdev->pdev->dev == dev && fwspec &&
		    fwspec->iommu_fwnode == sdev->instance->fwnode) {
			dev_iommu_priv_set(dev, sdev);
			return &sdev->instance->iommu;
		}
	}
	return ERR_PTR(-ENODEV);
}

/* As drivers do for one that has left SVA enabled */
static void svt_release_device(struct device *dev)
{
	struct svt_device *sdev = svt_find(dev);
	struct svt *t = sdev->instance->t;

	spin_lock(&t->lock);
	for (unsigned int pasid = 0; pasid < SVT_PASIDS; pasid++) {
		if (!sdev->domains[pasid])
			continue;
		sdev->domains[pasid]->users--;
		sdev->domains[pasid] = NULL;
	}
	sdev->pasids = 0;
	spin_unlock(&t->lock);
	iopf_queue_remove_device(sdev->instance->faults, dev);
}

static void svt_group_released(void *data)
{
	atomic_dec(&svt_groups);
}

static struct iommu_group *svt_device_group(struct device *dev)
{
	struct svt *t = svt_now;
	struct iommu_group *group;

	if (t->group)
		return iommu_group_ref_get(t->group);

	group = generic_device_group(dev);
	if (!IS_ERR(group)) {
		atomic_inc(&svt_groups);
		iommu_group_set_iommudata(group, NULL, svt_group_released);
	}
	return group;
}

static bool svt_compatible(struct iommu_domain *domain, struct device *dev)
{
	struct svt_domain *svt = to_svt_domain(domain);
	struct svt_device *sdev = svt_find(dev);

	return svt->instance == sdev->instance && svt->limit == sdev->limit;
}

/* A fault, which may be one of a group */
static struct iopf_fault svt_fault(u32 pasid, u32 grpid, unsigned long addr, bool last)
{
	struct iopf_fault fault = {
		.fault = {
			.type = IOMMU_FAULT_PAGE_REQ,
			.prm = {
				.flags = IOMMU_FAULT_PAGE_REQUEST_PASID_VALID,
				.pasid = pasid,
				.grpid = grpid,
				.perm = IOMMU_FAULT_PERM_READ,
				.addr = addr,
			},
		},
	};

	if (last)
		fault.fault.prm.flags |= IOMMU_FAULT_PAGE_REQUEST_LAST_PAGE;
	return fault;
}

static void svt_hand_over_locked(struct svt_instance *instance)
{
	lockdep_assert_held(&instance->reports_lock);

	for (unsigned int i = 0; i < instance->reports; i++)
		iommu_report_device_fault(instance->reporter[i], &instance->reported[i]);
	instance->reports = 0;
}

/* What the hardware has reported is handed over: by the interrupt, or when asked. */
static void svt_hand_over(struct svt_instance *instance)
{
	mutex_lock(&instance->reports_lock);
	svt_hand_over_locked(instance);
	mutex_unlock(&instance->reports_lock);
}

/* The hardware reports a fault; nobody has looked yet, unless it has to wait. */
static void svt_report_fault(struct device *dev, struct iopf_fault fault)
{
	struct svt_instance *instance = svt_find(dev)->instance;

	mutex_lock(&instance->reports_lock);
	if (instance->reports == ARRAY_SIZE(instance->reported))
		svt_hand_over_locked(instance);
	instance->reporter[instance->reports] = dev;
	instance->reported[instance->reports++] = fault;
	mutex_unlock(&instance->reports_lock);
}

static void svt_report(struct device *dev, u32 pasid, unsigned long addr)
{
	svt_report_fault(dev, svt_fault(pasid, 0, addr, true));
}

/* The attach handle was found, and is not used yet. */
static int svt_handler(struct iopf_group *group)
{
	struct svt *t = svt_now;

	svt_gate_pass(&t->handler_gate);
	return t->handler(group);
}

static int svt_set_dev_pasid(struct iommu_domain *domain, struct device *dev,
			     ioasid_t pasid, struct iommu_domain *old)
{
	struct svt_domain *svt = to_svt_domain(domain);
	struct svt_device *sdev = svt_find(dev);
	struct svt_instance *instance = sdev->instance;
	struct svt *t = instance->t;

	atomic_inc(&t->attaches);
	if (t->hold_handler && domain->iopf_handler != svt_handler) {
		t->handler = domain->iopf_handler;
		domain->iopf_handler = svt_handler;
	}
	if (dev == t->hold)
		svt_gate_pass(&t->attach_gate);
	if (t->fail_attach) {
		if (t->fault_in_attach) {
			svt_report(dev, pasid, 0);
			svt_hand_over(instance);
		}
		return t->fail_attach;
	}
	if (!t->spans && !svt_compatible(domain, dev))
		return -EINVAL;

	spin_lock(&t->lock);
	svt_wrong(t, sdev->domains[pasid]);
	svt_wrong(t, instance->cached[pasid] && instance->cached[pasid] != domain->mm);
	instance->cached[pasid] = domain->mm;
	sdev->domains[pasid] = svt;
	sdev->pasids++;
	svt->users++;
	spin_unlock(&t->lock);
	return 0;
}

static void svt_remove_dev_pasid(struct device *dev, ioasid_t pasid,
				 struct iommu_domain *domain)
{
	struct svt_device *sdev = svt_find(dev);
	struct svt *t = sdev->instance->t;

	atomic_inc(&t->detaches);
	spin_lock(&t->lock);
	svt_wrong(t, sdev->domains[pasid] != to_svt_domain(domain));
	sdev->domains[pasid] = NULL;
	sdev->pasids--;
	to_svt_domain(domain)->users--;
	spin_unlock(&t->lock);
}

static void svt_notifier_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	WRITE_ONCE(container_of(mn, struct svt_domain, notifier)->released, true);
}

static void svt_notifier_free(struct mmu_notifier *mn)
{
	kfree(container_of(mn, struct svt_domain, notifier));
}

static const struct mmu_notifier_ops svt_notifier_ops = {
	.release = svt_notifier_release,
	.free_notifier = svt_notifier_free,
};

static void svt_domain_free(struct iommu_domain *domain)
{
	struct svt_domain *svt = to_svt_domain(domain);
	struct svt *t = svt->instance->t;

	atomic_inc(&t->frees);
	spin_lock(&t->lock);
	svt_wrong(t, svt->users);
	/* the instances forget the mm */
	for (unsigned int i = 0; i < t->num_instances; i++) {
		if (!t->spans && &t->instances[i] != svt->instance)
			continue;
		for (unsigned int pasid = 0; pasid < SVT_PASIDS; pasid++) {
			if (t->instances[i].cached[pasid] == domain->mm)
				t->instances[i].cached[pasid] = NULL;
		}
	}
	spin_unlock(&t->lock);

	if (t->notifies)
		mmu_notifier_put(&svt->notifier);
	else
		kfree(svt);
}

static struct iommu_domain *svt_domain_alloc(struct device *dev, struct mm_struct *mm)
{
	struct svt_device *sdev = svt_find(dev);
	struct svt *t = sdev->instance->t;
	struct svt_domain *svt;
	int ret;

	if (t->fail_alloc)
		return ERR_PTR(t->fail_alloc);

	svt = kzalloc(sizeof(*svt), GFP_KERNEL);
	if (!svt)
		return ERR_PTR(-ENOMEM);
	svt->domain.ops = &t->domain_ops;
	svt->instance = sdev->instance;
	svt->limit = sdev->limit;
	if (t->notifies) {
		svt->notifier.ops = &svt_notifier_ops;
		ret = mmu_notifier_register(&svt->notifier, mm);
		if (ret) {
			kfree(svt);
			return ERR_PTR(ret);
		}
	}
	atomic_inc(&t->allocs);
	return &svt->domain;
}

static void svt_drain_faults(struct device *dev)
{
	struct svt_instance *instance = svt_find(dev)->instance;

	atomic_inc(&instance->t->drains);
	svt_hand_over(instance);
}

static void svt_page_response(struct device *dev, struct iopf_fault *evt,
			      struct iommu_page_response *msg)
{
	struct svt *t = svt_find(dev)->instance->t;

	/* One that is not the last of its group, and that nobody takes */
	if (!(evt->fault.prm.flags & IOMMU_FAULT_PAGE_REQUEST_LAST_PAGE))
		return;

	WRITE_ONCE(t->answered, msg->code);
	atomic_inc(&t->answers);
	if (msg->code == IOMMU_PAGE_RESP_SUCCESS)
		atomic_inc(&t->valid);
	if (t->answered_groups)
		svt_wrong(t, test_and_set_bit(msg->grpid, t->answered_groups));
}

/* Instances, devices and mms */

static struct svt_instance *svt_add_instance(struct svt *t)
{
	struct svt_instance *instance = &t->instances[t->num_instances];
	struct iommu_device *iommu = &instance->iommu;
	struct kunit *test = t->test;

	instance->t = t;
	mutex_init(&instance->reports_lock);
	instance->fwnode = fwnode_create_software_node(NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, instance->fwnode);
	instance->faults = iopf_queue_alloc("sva-test");
	KUNIT_ASSERT_NOT_NULL(test, instance->faults);
	iommu->fwnode = instance->fwnode;
	iommu->max_pasids = SVT_PASIDS;
	KUNIT_ASSERT_EQ(test, 0, iommu_device_sysfs_add(iommu, NULL, NULL, "sva-test.%u",
							t->num_instances));
	KUNIT_ASSERT_EQ(test, 0, iommu_device_register(iommu, &t->ops, NULL));
	t->num_instances++;
	return instance;
}

static void svt_remove_instance(struct svt_instance *instance)
{
	iommu_device_unregister(&instance->iommu);
	iommu_device_sysfs_remove(&instance->iommu);
	iopf_queue_free(instance->faults);
	fwnode_remove_software_node(instance->fwnode);
	for (unsigned int pasid = 0; pasid < SVT_PASIDS; pasid++)
		svt_wrong(instance->t, instance->cached[pasid]);
}

static struct device *svt_add_device(struct svt *t, struct svt_instance *instance,
				     unsigned int limit, unsigned int pasid_bits)
{
	struct property_entry props[] = {
		PROPERTY_ENTRY_U32("pasid-num-bits", pasid_bits),
		{ }
	};
	struct svt_device *sdev = &t->devices[t->num_devices];
	struct kunit *test = t->test;
	struct device *dev;
	int ret;

	sdev->pdev = platform_device_alloc("sva-test", PLATFORM_DEVID_AUTO);
	KUNIT_ASSERT_NOT_NULL(test, sdev->pdev);
	sdev->instance = instance;
	sdev->limit = limit;
	dev = &sdev->pdev->dev;
	t->num_devices++;

	if (pasid_bits)
		KUNIT_ASSERT_EQ(test, 0, device_create_managed_software_node(dev, props, NULL));
	mutex_lock(&iommu_probe_device_lock);
	ret = iommu_fwspec_init(dev, instance->fwnode);
	mutex_unlock(&iommu_probe_device_lock);
	KUNIT_ASSERT_EQ(test, ret, 0);
	KUNIT_ASSERT_EQ(test, 0, platform_device_add(sdev->pdev));
	KUNIT_ASSERT_NOT_NULL(test, dev->iommu_group);
	KUNIT_ASSERT_EQ(test, 0, iopf_queue_add_device(instance->faults, dev));
	return dev;
}

static struct iommu_fault_param *svt_fault_param(struct device *dev)
{
	return rcu_dereference_protected(dev->iommu->fault_param, true);
}

/* Nothing of a device is left, nor a fault that is being handled. */
static void svt_remove_device(struct svt_device *sdev)
{
	struct svt *t = sdev->instance->t;
	struct device *dev = &sdev->pdev->dev;
	struct iommu_fault_param *param = svt_fault_param(dev);

	iopf_queue_flush_dev(dev);
	svt_wrong(t, sdev->pasids);
	svt_wrong(t, refcount_read(&param->users) != 1);
	svt_wrong(t, !list_empty(&param->partial));
	svt_wrong(t, !list_empty(&param->faults));
	platform_device_unregister(sdev->pdev);
}

static struct mm_struct *svt_mm(struct svt *t, unsigned int i)
{
	KUNIT_ASSERT_NULL(t->test, t->mms[i]);
	t->mms[i] = mm_alloc();
	KUNIT_ASSERT_NOT_NULL(t->test, t->mms[i]);
	return t->mms[i];
}

/* The process that had it is gone. */
static void svt_exit(struct svt *t, unsigned int i)
{
	mmput(t->mms[i]);
	t->mms[i] = NULL;
}

/*
 * A CPU keeps the mm that a thread has used last, and the mm its PASID: have it keep
 * one that has none.
 */
static void svt_forget_mms(void)
{
	struct mm_struct *mm = mm_alloc();
	unsigned int cpu;

	if (!mm)
		return;
	for_each_online_cpu(cpu) {
		set_cpus_allowed_ptr(current, cpumask_of(cpu));
		kthread_use_mm(mm);
		kthread_unuse_mm(mm);
	}
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	mmput(mm);
}

/* The PASID that the next mm would have */
static u32 svt_next_pasid(struct device *dev)
{
	u32 pasid = iommu_alloc_global_pasid(dev);

	if (pasid != IOMMU_PASID_INVALID)
		iommu_free_global_pasid(pasid);
	return pasid;
}

static struct iommu_sva *svt_bind(struct svt *t, struct device *dev, struct mm_struct *mm)
{
	struct iommu_sva *bond = iommu_sva_bind_device(dev, mm);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, bond);
	KUNIT_EXPECT_EQ(t->test, iommu_sva_get_pasid(bond), mm_get_enqcmd_pasid(mm));
	return bond;
}

static void svt_expect_counts(struct svt *t, int domains, int attaches)
{
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->allocs) - atomic_read(&t->frees), domains);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->attaches), attaches);
}

/* Tests */

static const unsigned int svt_instances[] = { 1, 2, 8, 64 };

static void svt_instances_desc(const unsigned int *n, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u instances", *n);
}

KUNIT_ARRAY_PARAM(svt_instances, svt_instances, svt_instances_desc);

/* N groups on M instances cost M domains and N attaches, and leave nothing. */
static void svt_test_costs(struct kunit *test)
{
	unsigned int instances = *(const unsigned int *)test->param_value;
	struct svt *t = test->priv;
	struct iommu_sva *bonds[SVT_DEVICES];
	struct mm_struct *mm = svt_mm(t, 0);

	for (unsigned int i = 0; i < instances; i++)
		svt_add_instance(t);
	for (unsigned int i = 0; i < SVT_DEVICES; i++)
		svt_add_device(t, &t->instances[i % instances], 0, SVT_PASID_BITS);

	for (unsigned int i = 0; i < SVT_DEVICES; i++) {
		bonds[i] = svt_bind(t, &t->devices[i].pdev->dev, mm);
		svt_expect_counts(t, min(i + 1, instances), i + 1);
	}
	for (unsigned int i = 0; i < SVT_DEVICES; i++) {
		unsigned int left = SVT_DEVICES - 1 - i;

		iommu_sva_unbind_device(bonds[i]);
		/* The last bond on an instance frees its domain, and no other. */
		svt_expect_counts(t, min(left, instances), SVT_DEVICES);
	}
	KUNIT_EXPECT_EQ(test, atomic_read(&t->allocs), instances);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->detaches), SVT_DEVICES);
}

/* Several bonds of one group are one, which is counted. */
static void svt_test_counted(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct iommu_sva *a = svt_bind(t, dev, svt_mm(t, 0)), *b;

	for (unsigned int i = 0; i < 3; i++)
		KUNIT_EXPECT_PTR_EQ(test, svt_bind(t, dev, t->mms[0]), a);
	svt_expect_counts(t, 1, 1);

	/* Another mm has another domain and another PASID. */
	b = svt_bind(t, dev, svt_mm(t, 1));
	KUNIT_EXPECT_NE(test, iommu_sva_get_pasid(a), iommu_sva_get_pasid(b));
	svt_expect_counts(t, 2, 2);

	for (unsigned int i = 0; i < 3; i++)
		iommu_sva_unbind_device(a);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->detaches), 0);
	iommu_sva_unbind_device(a);
	svt_expect_counts(t, 1, 2);
	iommu_sva_unbind_device(b);
}

/* A device that its instance's domain is not for gets one beside it, untried. */
static void svt_test_incompatible(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_sva *bonds[6];

	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		bonds[i] = svt_bind(t, svt_add_device(t, instance, i % 3, SVT_PASID_BITS), mm);
	svt_expect_counts(t, 3, 6);

	/* the first, the middle and the last one of a list of three */
	iommu_sva_unbind_device(bonds[1]);
	iommu_sva_unbind_device(bonds[4]);
	svt_expect_counts(t, 2, 6);
	iommu_sva_unbind_device(bonds[2]);
	iommu_sva_unbind_device(bonds[5]);
	svt_expect_counts(t, 1, 6);
	iommu_sva_unbind_device(bonds[0]);
	iommu_sva_unbind_device(bonds[3]);
	svt_expect_counts(t, 0, 6);
}

/* Of a driver that does not say all domains of the mm are tried. */
static void svt_test_no_op(struct kunit *test)
{
	struct svt *t = test->priv;
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_sva *bonds[4];

	t->domain_ops.compatible = NULL;
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		svt_add_device(t, svt_add_instance(t), 0, SVT_PASID_BITS);

	/* 1 + 2 + 3 + 4 attaches, of which the last in each bind succeeds */
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		bonds[i] = svt_bind(t, &t->devices[i].pdev->dev, mm);
	svt_expect_counts(t, 4, 10);
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		iommu_sva_unbind_device(bonds[i]);

	/* Domains that are for all instances are found, whichever they are under. */
	t->spans = true;
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		bonds[i] = svt_bind(t, &t->devices[i].pdev->dev, mm);
	svt_expect_counts(t, 1, 14);
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		iommu_sva_unbind_device(bonds[i]);
	svt_expect_counts(t, 0, 14);
}

/* A bind that fails has changed nothing. */
static void svt_test_fails(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct device *other = svt_add_device(t, instance, 1, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_sva *bond = NULL;

	for (unsigned int bound = 0; bound < 2; bound++) {
		u32 pasid = mm_get_enqcmd_pasid(mm);

		t->fail_alloc = -ENOSPC;
		KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, mm)), -ENOSPC);
		t->fail_alloc = 0;
		t->fail_attach = -EIO;
		t->fault_in_attach = bound;
		KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, mm)), -EIO);
		t->fail_attach = 0;
		KUNIT_EXPECT_EQ(test, mm_get_enqcmd_pasid(mm), pasid);
		KUNIT_EXPECT_EQ(test, mm_valid_pasid(mm), bound);
		svt_expect_counts(t, bound, 1 + 2 * bound);
		if (!bond)
			bond = svt_bind(t, other, mm);
		/* The first one: none has been lost. */
		KUNIT_EXPECT_EQ(test, mm_get_enqcmd_pasid(mm), IOMMU_FIRST_GLOBAL_PASID);
	}
	iommu_sva_unbind_device(bond);
	iopf_queue_flush_dev(dev);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->answers), 1);
}

/*
 * What the SVA core allocates by, until the test says no. failslab leaves alone what
 * may sleep.
 */
static void *svt_zalloc(size_t size)
{
	struct svt *t = svt_now;

	/* Somebody else is faster. */
	if (t->rival && !t->rival_bond) {
		t->rival_bond = ERR_PTR(-EAGAIN);
		t->rival_bond = iommu_sva_bind_device(t->rival, t->mms[0]);
	}
	return svt_now->allocations++ == svt_now->fail_allocation ? NULL :
	       kzalloc(size, GFP_KERNEL);
}

/* Whichever allocation of a bind fails, it has changed nothing. */
static void svt_test_no_memory(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct iommu_sva *bond;

	kunit_activate_static_stub(test, iommu_sva_zalloc, svt_zalloc);
	svt_mm(t, 0);
	/* a wrapper, a bond, and a domain */
	for (int i = 0; i < 3; i++) {
		t->allocations = 0;
		t->fail_allocation = i;
		KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, t->mms[0])), -ENOMEM);
		KUNIT_EXPECT_FALSE(test, mm_valid_pasid(t->mms[0]));
		/* The next one needs a wrapper again. */
		svt_exit(t, 0);
		svt_mm(t, 0);
	}
	kunit_deactivate_static_stub(test, iommu_sva_zalloc);
	svt_expect_counts(t, 0, 0);

	bond = svt_bind(t, dev, t->mms[0]);
	iommu_sva_unbind_device(bond);
}

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_TRACEPOINTS)
/*
 * failslab's nth refuses a task one allocation, by kmalloc() or from a cache, if
 * that must not sleep. With the mask that is so of all of them, and who was refused one
 * that must not is refused the one that it tries then.
 *
 * It dumps the stack at the next one. The console does not have to show that, but
 * all that is said from then on.
 */
static void svt_quiet(struct svt_failing *failing)
{
	console_loglevel = current->fail_nth == 1 ? LOGLEVEL_WARNING : failing->loglevel;
}

static void svt_on_alloc(struct svt_failing *failing, const void *ptr, gfp_t gfp)
{
	if (current != failing->task || !in_task())
		return;
	if (!ptr) {
		if (gfp & __GFP_DIRECT_RECLAIM)
			failing->refused++;
		else
			current->fail_nth = 1;
	}
	svt_quiet(failing);
}

static void svt_on_kmalloc(void *data, unsigned long call_site, const void *ptr,
			   size_t bytes_req, size_t bytes_alloc, gfp_t gfp, int node)
{
	svt_on_alloc(data, ptr, gfp);
}

static void svt_on_cache_alloc(void *data, unsigned long call_site, const void *ptr,
			       struct kmem_cache *s, gfp_t gfp, int node)
{
	svt_on_alloc(data, ptr, gfp);
}

static void svt_end_failing(void *data)
{
	unregister_trace_kmalloc(svt_on_kmalloc, data);
	unregister_trace_kmem_cache_alloc(svt_on_cache_alloc, data);
	tracepoint_synchronize_unregister();
}

static void svt_start_failing(struct svt *t)
{
	int ret;

	/* What the allocator and the console are told is for all CPUs. */
	if (num_online_cpus() > 1)
		kunit_skip(t->test, "needs to be alone on one CPU");

	ret = register_trace_kmalloc(svt_on_kmalloc, &t->failing) ?:
	      register_trace_kmem_cache_alloc(svt_on_cache_alloc, &t->failing);
	KUNIT_ASSERT_EQ(t->test, ret, 0);
	KUNIT_ASSERT_EQ(t->test, 0, kunit_add_action_or_reset(t->test, svt_end_failing,
							      &t->failing));
}

/* From here on the nth allocation fails. */
static void svt_fail(struct svt *t, unsigned int nth)
{
	t->failing.refused = 0;
	t->failing.loglevel = console_loglevel;
	gfp_allowed_mask &= ~__GFP_DIRECT_RECLAIM;
	current->fail_nth = nth;
	svt_quiet(&t->failing);
	t->failing.task = current;
}

/* To here; whether there were as many. */
static bool svt_failed(struct svt *t)
{
	bool came = !current->fail_nth;

	t->failing.task = NULL;
	current->fail_nth = 0;
	gfp_allowed_mask |= __GFP_DIRECT_RECLAIM;
	console_loglevel = t->failing.loglevel;
	return came;
}
#else
static void svt_start_failing(struct svt *t)
{
	kunit_skip(t->test, "needs CONFIG_FAILSLAB and CONFIG_TRACEPOINTS");
}

static void svt_fail(struct svt *t, unsigned int nth)
{
}

static bool svt_failed(struct svt *t)
{
	return false;
}
#endif

/* The mm is as it was, and so is what the core and the driver have. */
static void svt_expect_mm(struct svt *t, struct mm_struct *mm, u32 pasid, int domains)
{
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(t->test, mm_get_enqcmd_pasid(mm), pasid);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&mm->mm_users), 1);
	/* one by its users, one by each domain and one by each notifier of them */
	KUNIT_EXPECT_EQ(t->test, atomic_read(&mm->mm_count), 1 + 2 * domains);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->allocs) - atomic_read(&t->frees), domains);
}

/* As the test of one allocation, but with all there are, in the core and around it. */
static void svt_test_each_allocation(struct kunit *test)
{
	struct svt *t = test->priv;
	struct device *dev, *other;
	struct iommu_sva *bond, *bound;
	u32 held[BITS_PER_XA_VALUE - 1], pasid, next;
	struct mm_struct *mm;
	unsigned int nth, refusals = 0;
	bool came;

	svt_start_failing(t);
	t->notifies = true;
	/* The last one's id takes two nodes of the mm's array. */
	for (unsigned int i = 0; i < SVT_INSTANCES; i++)
		svt_add_instance(t);
	dev = svt_add_device(t, &t->instances[SVT_INSTANCES - 1], 0, SVT_PASID_BITS);
	other = svt_add_device(t, &t->instances[0], 0, SVT_PASID_BITS);

	/* An mm without a PASID, and one that has one, and another device */
	for (unsigned int first = 0; first < 2; first++) {
		nth = 0;
		refusals = 0;
		do {
			mm = svt_mm(t, 0);
			bound = first ? NULL : svt_bind(t, other, mm);
			/* Where PASIDs are there is no room for another one. */
			for (unsigned int i = 0; i < ARRAY_SIZE(held); i++)
				held[i] = iommu_alloc_global_pasid(dev);
			pasid = mm_get_enqcmd_pasid(mm);
			next = held[ARRAY_SIZE(held) - 1] + 1;

			svt_fail(t, ++nth);
			bond = iommu_sva_bind_device(dev, mm);
			came = svt_failed(t);

			refusals += t->failing.refused;
			KUNIT_EXPECT_EQ(test, IS_ERR(bond), t->failing.refused);
			if (IS_ERR(bond)) {
				KUNIT_EXPECT_TRUE(test, PTR_ERR(bond) == -ENOMEM ||
						  PTR_ERR(bond) == -ENOSPC);
				svt_expect_mm(t, mm, pasid, !first);
				KUNIT_EXPECT_EQ(test, svt_next_pasid(dev), next);
				KUNIT_EXPECT_EQ(test, t->devices[0].pasids, 0);
				bond = svt_bind(t, dev, mm);
			}
			KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), first ? next : pasid);
			svt_expect_mm(t, mm, iommu_sva_get_pasid(bond), 1 + !first);

			/* An unbind does not fail. */
			svt_fail(t, 1);
			iommu_sva_unbind_device(bond);
			svt_failed(t);
			KUNIT_EXPECT_EQ(test, t->failing.refused, 0);
			KUNIT_EXPECT_EQ(test, t->devices[0].pasids, 0);
			if (bound)
				iommu_sva_unbind_device(bound);
			svt_expect_mm(t, mm, mm_get_enqcmd_pasid(mm), 0);
			svt_exit(t, 0);
			for (unsigned int i = 0; i < ARRAY_SIZE(held); i++)
				iommu_free_global_pasid(held[i]);
		} while (came);
		kunit_info(test, "%u allocations, %u failures\n", nth - 1, refusals);
		/*
		 * the bond, the SVA core's domain and the driver's, two nodes or more,
		 * and the group's; the wrapper, the PASID, and the mm's notifiers
		 */
		KUNIT_EXPECT_GE(test, refusals, first ? 9 : 6);
	}
}

/* Two first binds of an mm: both find a wrapper to be missing, and there is one. */
static void svt_test_first_binds(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_mm_data *iommu_mm;
	struct iommu_sva *bond;

	t->rival = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	t->fail_allocation = UINT_MAX;
	kunit_activate_static_stub(test, iommu_sva_zalloc, svt_zalloc);
	bond = svt_bind(t, dev, mm);
	kunit_deactivate_static_stub(test, iommu_sva_zalloc);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->rival_bond);
	svt_expect_counts(t, 1, 2);
	KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), iommu_sva_get_pasid(t->rival_bond));

	iommu_mm = mm->iommu_mm;
	iommu_sva_unbind_device(t->rival_bond);
	iommu_sva_unbind_device(bond);
	KUNIT_EXPECT_PTR_EQ(test, mm->iommu_mm, iommu_mm);
}

/* Bad input: an error, and nothing has changed. */
static void svt_test_refused(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *none = svt_add_device(t, instance, 0, 0);
	struct device *few = svt_add_device(t, instance, 0, 1);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0), *other = svt_mm(t, 1);
	struct iommu_sva *bond, *bond2;

	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, NULL)), -EINVAL);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(none, mm)), -EOPNOTSUPP);
	KUNIT_EXPECT_FALSE(test, mm_valid_pasid(mm));

	/* One bit: there is PASID 1, and no other. */
	bond = svt_bind(t, few, mm);
	KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), 1);
	t->taken.domain.ops = &t->domain_ops;
	t->taken.domain.owner = &t->ops;
	t->taken.domain.mm = mm;
	t->taken.instance = instance;
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(few, other)), -ENOSPC);
	KUNIT_EXPECT_FALSE(test, mm_valid_pasid(other));
	bond2 = svt_bind(t, dev, other);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(few, other)), -EOVERFLOW);
	svt_expect_counts(t, 2, 2);
	iommu_sva_unbind_device(bond2);
	iommu_sva_unbind_device(bond);

	/* Somebody else has that PASID of the device. */
	KUNIT_EXPECT_EQ(test, 0, iommu_attach_device_pasid(&t->taken.domain, dev,
							   mm_get_enqcmd_pasid(mm), NULL));
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, mm)), -EBUSY);
	iommu_detach_device_pasid(&t->taken.domain, dev, mm_get_enqcmd_pasid(mm));
	svt_expect_counts(t, 0, 3);

	/* It is exiting. */
	mmgrab(mm);
	svt_exit(t, 0);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(dev, mm)), -ESRCH);
	svt_expect_counts(t, 0, 3);
	mmdrop(mm);
}

/* The mm exits before the unbind, which may be the last that holds it, or after. */
static void svt_test_exit(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct iommu_sva *bond, *other;
	struct svt_domain *svt;
	u32 pasid;

	for (unsigned int notifies = 0; notifies < 2; notifies++) {
		t->notifies = notifies;

		bond = svt_bind(t, dev, svt_mm(t, 0));
		pasid = iommu_sva_get_pasid(bond);
		svt = to_svt_domain(bond->handle.domain);
		KUNIT_EXPECT_FALSE(test, READ_ONCE(svt->released));
		svt_exit(t, 0);
		if (notifies)
			KUNIT_EXPECT_TRUE(test, READ_ONCE(svt->released));

		/* Its PASID is not free: an instance knows it. */
		other = svt_bind(t, dev, svt_mm(t, 1));
		KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), pasid);
		KUNIT_EXPECT_NE(test, iommu_sva_get_pasid(other), pasid);
		iommu_sva_unbind_device(bond);

		/* Now it is. */
		mmu_notifier_synchronize();
		bond = svt_bind(t, dev, svt_mm(t, 0));
		KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), pasid);

		/* Without any bond the mm keeps it. */
		iommu_sva_unbind_device(bond);
		KUNIT_EXPECT_TRUE(test, mm_valid_pasid(t->mms[0]));
		bond = svt_bind(t, dev, t->mms[0]);
		KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), pasid);
		iommu_sva_unbind_device(bond);
		iommu_sva_unbind_device(other);
		svt_exit(t, 0);
		svt_exit(t, 1);
	}
}

/**
 * struct svt_thread - What another thread does: a bind, an unbind, or one of the rest
 * @dev: device to bind, or NULL
 * @mm: mm to bind it to
 * @bond: what this has given, or what is unbound
 * @instance: whose faults are handed over
 * @pdev: device that is unregistered
 * @done: completed after that
 */
struct svt_thread {
	struct device		*dev;
	struct mm_struct	*mm;
	struct iommu_sva	*bond;
	struct svt_instance	*instance;
	struct platform_device	*pdev;
	struct completion	done;
};

static int svt_thread_fn(void *data)
{
	struct svt_thread *thread = data;

	if (thread->dev)
		thread->bond = iommu_sva_bind_device(thread->dev, thread->mm);
	else if (thread->instance)
		svt_hand_over(thread->instance);
	else if (thread->pdev)
		platform_device_unregister(thread->pdev);
	else
		iommu_sva_unbind_device(thread->bond);
	complete_all(&thread->done);
	return 0;
}

static void svt_thread_run(struct kunit *test, struct svt_thread *thread)
{
	init_completion(&thread->done);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, kthread_run(svt_thread_fn, thread, "sva-test"));
}

/* By another thread, if this one has a lock that comes after those of the core. */
static void svt_unbind_by_thread(struct svt *t, struct iommu_sva *bond)
{
	struct svt_thread thread = { .bond = bond };

	svt_thread_run(t->test, &thread);
	wait_for_completion(&thread.done);
}

static struct iommu_sva *svt_bind_by_thread(struct svt *t, struct device *dev,
					    struct mm_struct *mm)
{
	struct svt_thread thread = { .dev = dev, .mm = mm };

	svt_thread_run(t->test, &thread);
	wait_for_completion(&thread.done);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, thread.bond);
	return thread.bond;
}

/* A bind that is held up in a driver does not hold up that of another mm. */
static void svt_test_no_global_lock(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct svt_thread held = {
		.dev = svt_add_device(t, instance, 0, SVT_PASID_BITS),
		.mm = svt_mm(t, 0),
	}, same = held, other = {
		.dev = svt_add_device(t, instance, 0, SVT_PASID_BITS),
		.mm = svt_mm(t, 1),
	};

	t->hold = held.dev;
	svt_thread_run(test, &held);
	wait_for_completion(&t->attach_gate.held);
	KUNIT_EXPECT_FALSE(test, mm_valid_pasid(held.mm));

	svt_thread_run(test, &other);
	KUNIT_EXPECT_GT(test, wait_for_completion_timeout(&other.done, 10 * HZ), 0);
	/* One of the same mm waits. */
	svt_thread_run(test, &same);
	KUNIT_EXPECT_EQ(test, wait_for_completion_timeout(&same.done, HZ / 20), 0);

	t->hold = NULL;
	complete(&t->attach_gate.go);
	wait_for_completion(&held.done);
	wait_for_completion(&other.done);
	wait_for_completion(&same.done);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, held.bond);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, other.bond);
	KUNIT_EXPECT_PTR_EQ(test, held.bond, same.bond);
	svt_expect_counts(t, 2, 2);
	iommu_sva_unbind_device(held.bond);
	iommu_sva_unbind_device(same.bond);
	iommu_sva_unbind_device(other.bond);
}

/* Page faults */

/* Map some memory in an mm that nobody runs in. */
static unsigned long svt_map(struct svt *t, struct mm_struct *mm)
{
	unsigned long addr;

	mm->task_size = TASK_SIZE;
	arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	kthread_use_mm(mm);
	addr = vm_mmap(NULL, 0, SZ_64K, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, 0);
	kthread_unuse_mm(mm);
	KUNIT_ASSERT_FALSE(t->test, IS_ERR_VALUE(addr));
	return addr;
}

static void svt_expect_answers(struct svt *t, int answers,
			       enum iommu_page_response_code code)
{
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->answers), answers);
	KUNIT_EXPECT_EQ(t->test, t->answered, code);
}

static void svt_test_faults(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_sva *bond = svt_bind(t, dev, mm);
	u32 pasid = iommu_sva_get_pasid(bond);
	unsigned long addr = svt_map(t, mm);
	struct svt_thread unbind = { .bond = bond };

	/* Bound */
	svt_report(dev, pasid, addr);
	svt_hand_over(instance);
	iopf_queue_flush_dev(dev);
	svt_expect_answers(t, 1, IOMMU_PAGE_RESP_SUCCESS);
	svt_report(dev, pasid, 0);
	svt_hand_over(instance);
	iopf_queue_flush_dev(dev);
	svt_expect_answers(t, 2, IOMMU_PAGE_RESP_INVALID);

	/* An unbind answers what is being handled, and does not wait for it, ... */
	mmap_write_lock(mm);
	svt_report(dev, pasid, addr);
	svt_hand_over(instance);
	svt_thread_run(test, &unbind);
	KUNIT_EXPECT_GT(test, wait_for_completion_timeout(&unbind.done, 10 * HZ), 0);
	svt_expect_answers(t, 3, IOMMU_PAGE_RESP_INVALID);
	mmap_write_unlock(mm);
	iopf_queue_flush_dev(dev);
	svt_expect_answers(t, 3, IOMMU_PAGE_RESP_INVALID);

	/* ... but leaves none behind that the hardware has reported before it. */
	bond = svt_bind(t, dev, mm);
	svt_report(dev, pasid, addr);
	iommu_sva_unbind_device(bond);
	svt_expect_answers(t, 4, IOMMU_PAGE_RESP_INVALID);

	/* Not bound */
	svt_report(dev, pasid, addr);
	svt_hand_over(instance);
	svt_expect_answers(t, 5, IOMMU_PAGE_RESP_INVALID);

	/* The mm has exited. */
	bond = svt_bind(t, dev, mm);
	svt_exit(t, 0);
	svt_report(dev, pasid, addr);
	svt_hand_over(instance);
	iopf_queue_flush_dev(dev);
	svt_expect_answers(t, 6, IOMMU_PAGE_RESP_INVALID);
	iommu_sva_unbind_device(bond);
}

/* As long as a fault is handled, its mm's PASID is not another's. */
static void svt_test_faults_pasid(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_sva *bond = svt_bind(t, dev, mm);
	u32 pasid = iommu_sva_get_pasid(bond);

	/* Its handler has mm_users, and waits. */
	mmgrab(mm);
	mmap_write_lock(mm);
	svt_report(dev, pasid, 0);
	svt_hand_over(instance);
	KUNIT_ASSERT_TRUE(test, svt_wait_for(atomic_read(&mm->mm_users) == 2));
	svt_unbind_by_thread(t, bond);
	svt_exit(t, 0);
	bond = svt_bind_by_thread(t, dev, svt_mm(t, 1));
	KUNIT_EXPECT_NE(test, iommu_sva_get_pasid(bond), pasid);
	svt_unbind_by_thread(t, bond);

	/* It goes on, and the mm with it. */
	mmap_write_unlock(mm);
	KUNIT_EXPECT_TRUE(test, svt_wait_for(atomic_read(&mm->mm_count) == 1));
	mmdrop(mm);
	bond = svt_bind(t, dev, svt_mm(t, 0));
	KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), pasid);
	iommu_sva_unbind_device(bond);
}

/* A device leaves the fault queue while its faults wait: each is answered once. */
static void svt_test_faults_remove(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);
	struct iommu_sva *bond = svt_bind(t, dev, mm);
	unsigned long addr = svt_map(t, mm);

	mmap_write_lock(mm);
	for (unsigned int i = 0; i < 4; i++)
		svt_report(dev, iommu_sva_get_pasid(bond), addr);
	svt_hand_over(instance);
	iopf_queue_remove_device(instance->faults, dev);
	svt_expect_answers(t, 4, IOMMU_PAGE_RESP_INVALID);
	svt_unbind_by_thread(t, bond);
	mmap_write_unlock(mm);

	KUNIT_EXPECT_EQ(test, iopf_queue_add_device(instance->faults, dev), 0);
	iopf_queue_flush_dev(dev);
	svt_expect_answers(t, 4, IOMMU_PAGE_RESP_INVALID);
}

/* Parts of groups are pending when their device goes: from the queue, or at all. */
static void svt_test_faults_partial(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);
	unsigned long addr = svt_map(t, mm);
	struct iommu_fault_param *param;
	struct iommu_sva *bond;

	for (unsigned int unregister = 0; unregister < 2; unregister++) {
		struct svt_thread thread = { .pdev = t->devices[0].pdev };
		int answers = atomic_read(&t->answers);
		u32 pasid;

		bond = svt_bind(t, dev, mm);
		pasid = iommu_sva_get_pasid(bond);
		/* A group is being handled, and keeps what the device had. */
		mmap_write_lock(mm);
		svt_report(dev, pasid, addr);
		for (u32 grpid = 1; grpid < 4; grpid++)
			svt_report_fault(dev, svt_fault(pasid, grpid, addr, false));
		svt_hand_over(instance);
		param = svt_fault_param(dev);
		KUNIT_EXPECT_EQ(test, list_count_nodes(&param->partial), 3);
		KUNIT_EXPECT_EQ(test, list_count_nodes(&param->faults), 1);
		refcount_inc(&param->users);

		if (unregister) {
			svt_thread_run(test, &thread);
			KUNIT_EXPECT_GT(test, wait_for_completion_timeout(&thread.done,
									  10 * HZ), 0);
			/* None is left for the exit of the test. */
			t->num_devices = 0;
		} else {
			iopf_queue_remove_device(instance->faults, dev);
		}
		/* Of these, the one that was complete is answered. */
		KUNIT_EXPECT_TRUE(test, list_empty(&param->partial));
		KUNIT_EXPECT_TRUE(test, list_empty(&param->faults));
		svt_expect_answers(t, answers + 1, IOMMU_PAGE_RESP_INVALID);
		if (!unregister) {
			KUNIT_EXPECT_EQ(test, iopf_queue_add_device(instance->faults, dev), 0);
			svt_report_fault(dev, svt_fault(pasid, 1, addr, false));
			svt_report(dev, pasid, addr);
			svt_hand_over(instance);
			KUNIT_EXPECT_EQ(test, list_count_nodes(&svt_fault_param(dev)->partial), 1);
			/* An unbind forgets a part of a group, and answers a whole one. */
			svt_unbind_by_thread(t, bond);
			KUNIT_EXPECT_TRUE(test, list_empty(&svt_fault_param(dev)->partial));
			svt_expect_answers(t, answers + 2, IOMMU_PAGE_RESP_INVALID);
		}
		mmap_write_unlock(mm);
		/* Its handler leaves what is gone alone. */
		KUNIT_EXPECT_TRUE(test, svt_wait_for(refcount_read(&param->users) == 1));
		svt_expect_answers(t, answers + 2 - unregister, IOMMU_PAGE_RESP_INVALID);
		kfree(param);
	}

	/* The bond was the group's. */
	iommu_sva_unbind_device(bond);
	svt_expect_counts(t, 0, 2);
}

/*
 * Who has found a bond by a fault, and is about to hand that over, is waited for: by
 * an unbind, and by a bind that fails.
 */
static void svt_test_faults_drain(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0);

	t->hold_handler = true;
	for (unsigned int fails = 0; fails < 2; fails++) {
		struct svt_thread event = { .instance = instance }, thread = {};
		int frees = atomic_read(&t->frees), drains = atomic_read(&t->drains);

		if (fails) {
			t->fail_attach = -EIO;
			t->hold = dev;
			thread.dev = dev;
			thread.mm = mm;
			svt_thread_run(test, &thread);
			wait_for_completion(&t->attach_gate.held);
		} else {
			thread.bond = svt_bind(t, dev, mm);
		}
		svt_report(dev, mm_get_enqcmd_pasid(mm), 0);
		svt_thread_run(test, &event);
		wait_for_completion(&t->handler_gate.held);

		if (fails)
			complete(&t->attach_gate.go);
		else
			svt_thread_run(test, &thread);
		KUNIT_EXPECT_TRUE(test, svt_wait_for(atomic_read(&t->drains) > drains ||
						     completion_done(&thread.done)));
		KUNIT_EXPECT_EQ(test, wait_for_completion_timeout(&thread.done, HZ / 20), 0);
		KUNIT_EXPECT_EQ(test, atomic_read(&t->frees), frees);
		KUNIT_EXPECT_EQ(test, atomic_read(&t->answers), fails);

		complete(&t->handler_gate.go);
		wait_for_completion(&event.done);
		wait_for_completion(&thread.done);
		KUNIT_EXPECT_EQ(test, atomic_read(&t->frees), frees + 1);
		svt_expect_answers(t, fails + 1, IOMMU_PAGE_RESP_INVALID);
		if (fails)
			KUNIT_EXPECT_EQ(test, PTR_ERR(thread.bond), -EIO);
	}
}

static int svt_keep(struct iopf_group *group)
{
	struct svt *t = svt_now;

	iopf_group_dequeue(group);
	t->kept[t->num_kept++] = group;
	return 0;
}

/* What a handler has dequeued it answers, and nobody else, as long as there is a device. */
static void svt_test_faults_dequeued(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct iommu_sva *bond = svt_bind(t, dev, svt_mm(t, 0));

	bond->handle.domain->iopf_handler = svt_keep;
	for (unsigned int i = 0; i < ARRAY_SIZE(t->kept); i++)
		svt_report(dev, iommu_sva_get_pasid(bond), 0);
	svt_hand_over(instance);
	KUNIT_ASSERT_EQ(test, t->num_kept, ARRAY_SIZE(t->kept));
	iommu_sva_unbind_device(bond);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->answers), 0);
	iopf_group_response(t->kept[0], IOMMU_PAGE_RESP_SUCCESS);
	iopf_queue_remove_device(instance->faults, dev);
	iopf_group_response(t->kept[1], IOMMU_PAGE_RESP_SUCCESS);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->answers), 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(t->kept); i++)
		iopf_free_group(t->kept[i]);
	KUNIT_EXPECT_EQ(test, iopf_queue_add_device(instance->faults, dev), 0);
}

/* No memory for a fault: its group is answered, and none of it is left. */
static void svt_test_faults_no_memory(struct kunit *test)
{
	struct svt *t = test->priv;
	struct iommu_fault_param *param;
	struct iopf_fault part, last;
	struct svt_instance *instance;
	struct iommu_sva *bond;
	struct mm_struct *mm;
	unsigned long addr;
	struct device *dev;
	int ret;

	svt_start_failing(t);
	instance = svt_add_instance(t);
	dev = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	param = svt_fault_param(dev);
	mm = svt_mm(t, 0);
	addr = svt_map(t, mm);
	bond = svt_bind(t, dev, mm);
	part = svt_fault(iommu_sva_get_pasid(bond), 1, addr, false);
	last = svt_fault(iommu_sva_get_pasid(bond), 1, addr, true);

	svt_fail(t, 1);
	ret = iommu_report_device_fault(dev, &part);
	svt_failed(t);
	KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
	KUNIT_EXPECT_TRUE(test, list_empty(&param->partial));
	KUNIT_EXPECT_EQ(test, refcount_read(&param->users), 1);

	KUNIT_EXPECT_EQ(test, iommu_report_device_fault(dev, &part), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->answers), 0);
	svt_fail(t, 1);
	ret = iommu_report_device_fault(dev, &last);
	svt_failed(t);
	KUNIT_EXPECT_EQ(test, ret, 0);
	svt_expect_answers(t, 1, IOMMU_PAGE_RESP_FAILURE);
	KUNIT_EXPECT_TRUE(test, list_empty(&param->partial));
	KUNIT_EXPECT_TRUE(test, list_empty(&param->faults));
	KUNIT_EXPECT_EQ(test, refcount_read(&param->users), 1);

	/* The device tries again. */
	KUNIT_EXPECT_EQ(test, iommu_report_device_fault(dev, &part), 0);
	KUNIT_EXPECT_EQ(test, iommu_report_device_fault(dev, &last), 0);
	iopf_queue_flush_dev(dev);
	svt_expect_answers(t, 2, IOMMU_PAGE_RESP_SUCCESS);
	iommu_sva_unbind_device(bond);
}

/* Groups of several devices */

static struct device *svt_add_to_group(struct svt *t, struct device *dev, unsigned int limit,
				       unsigned int pasid_bits)
{
	struct svt_instance *instance = svt_find(dev)->instance;
	struct device *other;

	t->group = dev->iommu_group;
	other = svt_add_device(t, instance, limit, pasid_bits);
	t->group = NULL;
	KUNIT_ASSERT_PTR_EQ(t->test, other->iommu_group, dev->iommu_group);
	return other;
}

/* A bind is of all its devices that have PASIDs, whichever it is called for. */
static void svt_test_group(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *one = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct device *two = svt_add_to_group(t, one, 0, SVT_PASID_BITS);
	struct device *none = svt_add_to_group(t, one, 1, 0);
	struct device *single = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct mm_struct *mm = svt_mm(t, 0), *other_mm = svt_mm(t, 1);
	unsigned long addr = svt_map(t, mm);
	struct iommu_sva *bond, *other;
	u32 pasid;

	bond = svt_bind(t, one, mm);
	pasid = iommu_sva_get_pasid(bond);
	KUNIT_EXPECT_PTR_EQ(test, svt_bind(t, two, mm), bond);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(none, mm)), -EOPNOTSUPP);
	svt_expect_counts(t, 1, 2);
	for (unsigned int i = 0; i < 2; i++) {
		KUNIT_EXPECT_PTR_EQ(test, &t->devices[i].domains[pasid]->domain,
				    bond->handle.domain);
	}
	KUNIT_EXPECT_EQ(test, t->devices[2].pasids, 0);

	/* Another mm's bond is beside it. */
	other = svt_bind(t, two, other_mm);
	KUNIT_EXPECT_PTR_NE(test, other, bond);
	svt_expect_counts(t, 2, 4);

	/* Faults of both are taken. */
	svt_report(one, pasid, addr);
	svt_report(two, pasid, addr);
	svt_hand_over(instance);
	iopf_queue_flush_dev(one);
	svt_expect_answers(t, 2, IOMMU_PAGE_RESP_SUCCESS);

	/* The last unbind is of all of them, and answers all of them. */
	iommu_sva_unbind_device(bond);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->detaches), 0);
	mmap_write_lock(mm);
	svt_report(two, pasid, addr);
	svt_hand_over(instance);
	svt_report(one, pasid, addr);
	svt_unbind_by_thread(t, bond);
	svt_expect_answers(t, 4, IOMMU_PAGE_RESP_INVALID);
	mmap_write_unlock(mm);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->detaches), 2);
	for (unsigned int i = 0; i < 2; i++) {
		KUNIT_EXPECT_NULL(test, t->devices[i].domains[pasid]);
		KUNIT_EXPECT_EQ(test, t->devices[i].pasids, 1);
	}
	svt_expect_counts(t, 1, 4);
	iommu_sva_unbind_device(other);
	svt_expect_counts(t, 0, 4);

	/* It may be to a domain that is not for one that has none. */
	other = svt_bind(t, single, mm);
	bond = svt_bind(t, one, mm);
	svt_expect_counts(t, 1, 7);
	iommu_sva_unbind_device(bond);
	iommu_sva_unbind_device(other);
	svt_expect_counts(t, 0, 7);
}

/* What one of them cannot have none of them gets. */
static void svt_test_group_differs(struct kunit *test)
{
	struct svt *t = test->priv;
	struct svt_instance *instance = svt_add_instance(t);
	struct device *single = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct device *one = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct device *two = svt_add_to_group(t, one, 1, SVT_PASID_BITS);
	struct device *many = svt_add_device(t, instance, 0, SVT_PASID_BITS);
	struct device *few = svt_add_to_group(t, many, 0, 1);
	struct mm_struct *mm = svt_mm(t, 0), *other_mm = svt_mm(t, 1);
	struct iommu_sva *bond = svt_bind(t, single, mm), *other;

	/*
	 * The domain that there is would be for one of them, and is not tried. Another
	 * is, and the first one loses it when the second one does not take it.
	 */
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(one, mm)), -EINVAL);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->allocs), 2);
	svt_expect_counts(t, 1, 3);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->detaches), 1);
	KUNIT_EXPECT_EQ(test, svt_find(one)->pasids, 0);
	KUNIT_EXPECT_EQ(test, svt_find(two)->pasids, 0);

	/* PASID 1 is for all of them, 2 is not. */
	KUNIT_EXPECT_EQ(test, iommu_sva_get_pasid(bond), 1);
	other = svt_bind(t, many, mm);
	svt_expect_counts(t, 1, 5);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(few, other_mm)), -ENOSPC);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(many, other_mm)), -EINVAL);
	KUNIT_EXPECT_FALSE(test, mm_valid_pasid(other_mm));
	svt_expect_counts(t, 1, 5);
	iommu_sva_unbind_device(other);
	iommu_sva_unbind_device(bond);
}

/* Threads */

#define SVT_THREADS	4
#define SVT_STEPS	2000
#define SVT_BONDS	8

/**
 * struct svt_worker - A thread that binds and unbinds
 * @t: the test
 * @rnd: its random numbers
 * @mm: an mm of its own
 * @bonds: what it has bound
 * @steps: how many binds and unbinds it does
 * @failed: binds that failed, or gave another PASID than the mm's
 * @done: completed at its end
 */
struct svt_worker {
	struct svt		*t;
	struct rnd_state	rnd;
	struct mm_struct	*mm;
	struct iommu_sva	*bonds[SVT_BONDS];
	unsigned int		steps;
	unsigned int		failed;
	struct completion	done;
};

static void svt_work_step(struct svt_worker *w)
{
	u32 rnd = prandom_u32_state(&w->rnd);
	struct iommu_sva **bond = &w->bonds[rnd % SVT_BONDS];
	struct svt *t = w->t;
	struct mm_struct *mm;
	struct device *dev;

	if (*bond) {
		iommu_sva_unbind_device(*bond);
		*bond = NULL;
		return;
	}

	/* Its own may exit while devices are bound to it. */
	if (!w->mm)
		w->mm = mm_alloc();
	mm = rnd & BIT(8) && w->mm ? w->mm : t->mms[(rnd >> 16) % 2];
	dev = &t->devices[(rnd >> 20) % t->num_devices].pdev->dev;
	*bond = iommu_sva_bind_device(dev, mm);
	if (IS_ERR(*bond)) {
		*bond = NULL;
		w->failed++;
		return;
	}
	if (iommu_sva_get_pasid(*bond) != mm_get_enqcmd_pasid(mm))
		w->failed++;
	if (mm == w->mm && rnd & BIT(9)) {
		mmput(w->mm);
		w->mm = NULL;
	}
}

static int svt_worker_fn(void *data)
{
	struct svt_worker *w = data;

	for (unsigned int step = 0; step < w->steps; step++) {
		svt_work_step(w);
		atomic_inc(&w->t->steps);
		cond_resched();
	}
	for (unsigned int i = 0; i < SVT_BONDS; i++) {
		if (w->bonds[i])
			iommu_sva_unbind_device(w->bonds[i]);
	}
	if (w->mm)
		mmput(w->mm);
	complete(&w->done);
	return 0;
}

/* An mm's PASID is none, and then the same for good. */
static int svt_reader_fn(void *data)
{
	struct svt *t = data;
	u32 seen[2] = { IOMMU_PASID_INVALID, IOMMU_PASID_INVALID };
	int wrong = 0;

	while (!kthread_should_stop()) {
		for (unsigned int i = 0; i < ARRAY_SIZE(seen); i++) {
			u32 pasid = mm_get_enqcmd_pasid(t->mms[i]);

			wrong += seen[i] != IOMMU_PASID_INVALID && seen[i] != pasid;
			seen[i] = pasid;
		}
		cond_resched();
	}
	return wrong;
}

/**
 * struct svt_reporter - A thread of which devices' faults come
 * @t: the test
 * @rnd: its random numbers
 * @addrs: by mm, an address that is mapped
 */
struct svt_reporter {
	struct svt		*t;
	struct rnd_state	rnd;
	unsigned long		addrs[2];
};

/* A group of faults, of one or more, of a PASID that may have a bond then, or none */
static void svt_report_group(struct svt_reporter *r)
{
	u32 rnd = prandom_u32_state(&r->rnd), grpid;
	struct svt *t = r->t;
	struct svt_device *sdev = &t->devices[(rnd >> 8) % t->num_devices];
	unsigned int parts = rnd & 3, i = (rnd >> 2) & 1;
	unsigned long addr = rnd & BIT(3) ? r->addrs[i] : 0;
	u32 pasid = (rnd >> 4) & 7 ? mm_get_enqcmd_pasid(t->mms[i]) : (rnd >> 16) & 15;

	grpid = atomic_fetch_inc(&t->reported_groups);
	while (parts--)
		svt_report_fault(&sdev->pdev->dev, svt_fault(pasid, grpid, addr, false));
	svt_report_fault(&sdev->pdev->dev, svt_fault(pasid, grpid, addr, true));
	/* Some are left for an unbind. */
	if (rnd & BIT(7))
		svt_hand_over(sdev->instance);
}

static int svt_reporter_fn(void *data)
{
	struct svt_reporter *r = data;

	while (!kthread_should_stop()) {
		/* Some for each bind and unbind, and not all before the first */
		int most = min_t(int, SVT_GROUPS - SVT_THREADS,
				 SVT_GROUPS_PER_STEP * (1 + atomic_read(&r->t->steps)));

		if (atomic_read(&r->t->reported_groups) < most)
			svt_report_group(r);
		else
			schedule_timeout_uninterruptible(1);
		cond_resched();
	}
	return 0;
}

static void svt_run_threads(struct svt *t, unsigned int steps, bool faults)
{
	struct task_struct *reader, *reporters[2];
	struct kunit *test = t->test;
	struct svt_worker *workers;
	struct svt_reporter *r;

	workers = kunit_kcalloc(test, SVT_THREADS, sizeof(*workers), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, workers);
	r = kunit_kcalloc(test, ARRAY_SIZE(reporters), sizeof(*r), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r);
	t->notifies = true;
	for (unsigned int i = 0; i < 2; i++) {
		struct svt_instance *instance = svt_add_instance(t);

		svt_mm(t, i);
		r[0].addrs[i] = svt_map(t, t->mms[i]);
		for (unsigned int limit = 0; limit < 2; limit++) {
			svt_add_device(t, instance, limit, SVT_PASID_BITS);
			svt_add_device(t, instance, limit, SVT_PASID_BITS);
		}
	}

	reader = kthread_run(svt_reader_fn, t, "sva-reader");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, reader);
	for (unsigned int i = 0; faults && i < ARRAY_SIZE(reporters); i++) {
		r[i] = r[0];
		r[i].t = t;
		prandom_seed_state(&r[i].rnd, SVT_THREADS + i);
		reporters[i] = kthread_run(svt_reporter_fn, &r[i], "sva-reporter");
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, reporters[i]);
	}
	for (unsigned int i = 0; i < SVT_THREADS; i++) {
		workers[i].t = t;
		workers[i].steps = steps;
		prandom_seed_state(&workers[i].rnd, i);
		init_completion(&workers[i].done);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, kthread_run(svt_worker_fn, &workers[i],
							       "sva-worker"));
	}
	for (unsigned int i = 0; i < SVT_THREADS; i++) {
		wait_for_completion(&workers[i].done);
		KUNIT_EXPECT_EQ(test, workers[i].failed, 0);
	}
	for (unsigned int i = 0; faults && i < ARRAY_SIZE(reporters); i++)
		KUNIT_EXPECT_EQ(test, kthread_stop(reporters[i]), 0);
	KUNIT_EXPECT_EQ(test, kthread_stop(reader), 0);
	KUNIT_EXPECT_GT(test, atomic_read(&t->attaches), steps);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->attaches), atomic_read(&t->detaches));
}

static void svt_test_threads(struct kunit *test)
{
	svt_run_threads(test->priv, SVT_STEPS, false);
}

/* Faults come in while threads bind and unbind: each group has one answer. */
static void svt_test_faults_threads(struct kunit *test)
{
	struct svt *t = test->priv;
	unsigned int groups;

	t->answered_groups = kunit_kcalloc(test, BITS_TO_LONGS(SVT_GROUPS), sizeof(long),
					   GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->answered_groups);
	svt_run_threads(t, SVT_STEPS / 4, true);
	for (unsigned int i = 0; i < t->num_instances; i++)
		svt_hand_over(&t->instances[i]);
	for (unsigned int i = 0; i < t->num_devices; i++)
		iopf_queue_flush_dev(&t->devices[i].pdev->dev);

	groups = atomic_read(&t->reported_groups);
	KUNIT_EXPECT_EQ(test, bitmap_weight(t->answered_groups, SVT_GROUPS), groups);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->answers), groups);
	KUNIT_EXPECT_GT(test, atomic_read(&t->valid), 0);
	KUNIT_EXPECT_LT(test, atomic_read(&t->valid), groups);
	kunit_info(test, "%u groups, %d of them retried\n", groups, atomic_read(&t->valid));
}

static int svt_init(struct kunit *test)
{
	struct svt *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);

	t->test = test;
	spin_lock_init(&t->lock);
	svt_gate_init(&t->attach_gate);
	svt_gate_init(&t->handler_gate);
	t->groups = atomic_read(&svt_groups);
	t->ops = (struct iommu_ops) {
		.probe_device = svt_probe_device,
		.release_device = svt_release_device,
		.device_group = svt_device_group,
		.default_domain = &svt_identity,
		.domain_alloc_sva = svt_domain_alloc,
		.remove_dev_pasid = svt_remove_dev_pasid,
		.page_response = svt_page_response,
		.drain_faults = svt_drain_faults,
	};
	t->domain_ops = (struct iommu_domain_ops) {
		.set_dev_pasid = svt_set_dev_pasid,
		.compatible = svt_compatible,
		.free = svt_domain_free,
	};
	test->priv = t;
	svt_now = t;
	/* Tests count on the first PASID. */
	svt_forget_mms();
	return 0;
}

/*
 * Nothing is left: no domain, no group, no page fault, and no PASID, of an mm or one that a
 * device or an instance knows.
 */
static void svt_exit_test(struct kunit *test)
{
	struct svt *t = test->priv;

	for (unsigned int i = 0; i < SVT_MMS; i++) {
		if (t->mms[i])
			svt_exit(t, i);
	}
	mmu_notifier_synchronize();
	svt_forget_mms();
	for (unsigned int i = 0; i < t->num_devices; i++) {
		struct device *dev = &t->devices[i].pdev->dev;

		if (!dev->iommu->max_pasids)
			continue;
		KUNIT_EXPECT_TRUE(test, svt_wait_for(svt_next_pasid(dev) ==
						     IOMMU_FIRST_GLOBAL_PASID));
		break;
	}
	for (unsigned int i = 0; i < t->num_devices; i++)
		svt_remove_device(&t->devices[i]);
	for (unsigned int i = 0; i < t->num_instances; i++)
		svt_remove_instance(&t->instances[i]);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->allocs), atomic_read(&t->frees));
	KUNIT_EXPECT_EQ(test, atomic_read(&t->wrong), 0);
	KUNIT_EXPECT_TRUE(test, svt_wait_for(atomic_read(&svt_groups) == t->groups));
	svt_now = NULL;
}

static struct kunit_case svt_cases[] = {
	KUNIT_CASE_PARAM(svt_test_costs, svt_instances_gen_params),
	KUNIT_CASE(svt_test_counted),
	KUNIT_CASE(svt_test_incompatible),
	KUNIT_CASE(svt_test_no_op),
	KUNIT_CASE(svt_test_fails),
	KUNIT_CASE(svt_test_no_memory),
	KUNIT_CASE(svt_test_each_allocation),
	KUNIT_CASE(svt_test_first_binds),
	KUNIT_CASE(svt_test_refused),
	KUNIT_CASE(svt_test_exit),
	KUNIT_CASE(svt_test_no_global_lock),
	KUNIT_CASE(svt_test_faults),
	KUNIT_CASE(svt_test_faults_pasid),
	KUNIT_CASE(svt_test_faults_remove),
	KUNIT_CASE(svt_test_faults_partial),
	KUNIT_CASE(svt_test_faults_drain),
	KUNIT_CASE(svt_test_faults_dequeued),
	KUNIT_CASE(svt_test_faults_no_memory),
	KUNIT_CASE(svt_test_group),
	KUNIT_CASE(svt_test_group_differs),
	KUNIT_CASE_SLOW(svt_test_threads),
	KUNIT_CASE_SLOW(svt_test_faults_threads),
	{}
};

static struct kunit_suite svt_suite = {
	.name = "iommu_sva",
	.init = svt_init,
	.exit = svt_exit_test,
	.test_cases = svt_cases,
};

kunit_test_suite(svt_suite);

MODULE_DESCRIPTION("KUnit tests of SVA");
MODULE_LICENSE("GPL");
