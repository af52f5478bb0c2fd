// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of arm-smmu-v3's nested translation: what the driver writes to the
 * stream table and the command queue of an SMMU in memory, for guests that have
 * devices behind it.
 *
 * What iommufd does with the driver's operations is done here: virtual IOMMUs and
 * vdevices are made, domains attached, and arrays of commands handed over in blocks.
 * What is expected is worked out from the architecture and the user API, with nothing
 * of the driver but its names for fields.
 */
#include <kunit/static_stub.h>
#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/iommufd.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/io-pgtable.h>
#include <linux/pci.h>
#include <linux/prandom.h>
#include <linux/uaccess.h>
#include <uapi/linux/iommufd.h>

#include "arm-smmu-v3-fake.h"
#include "../../iommu-priv.h"

#define ANT_VIOMMUS	66
#define ANT_DEVICES	4
#define ANT_DOMAINS	8
#define ANT_VSID	0x1000
/* As many commands as the core hands over at once, and as a batch has slots */
#define ANT_BLOCK	(IOMMUFD_INV_BLOCK / sizeof(struct ant_cmd))
#define ANT_BATCH	63
/* As many virtual IOMMUs as a parent is invalidated for one by one */
#define ANT_MANY	64

/* As a guest has it, in the CPU's byte order */
struct ant_cmd {
	u64 data[2];
};

/**
 * struct ant - A test
 * @test: the KUnit test
 * @fake: the SMMU
 * @user: a page of user memory
 * @parent: nesting parent, NULL before there is one
 * @viommu_data: what user space has for a virtual IOMMU, NULL for nothing
 * @viommus: virtual IOMMUs
 * @domains: nested domains
 * @fdevs: devices that were taken
 * @vdevs: their vdevices
 * @expected: commands that are expected next, too many for the stack
 * @n: how many
 * @locked: a command was issued under a lock
 * @array: commands of a guest
 */
struct ant {
	struct kunit			*test;
	struct arm_smmu_fake		*fake;
	void __user			*user;
	struct iommu_domain		*parent;
	const struct iommu_user_data	*viommu_data;
	struct iommufd_viommu		*viommus[ANT_VIOMMUS];
	struct iommu_domain		*domains[ANT_DOMAINS];
	struct arm_smmu_fake_device	*fdevs[ANT_DEVICES];
	struct iommufd_vdevice		*vdevs[ANT_DEVICES];
	struct arm_smmu_fake_cmd	expected[1024];
	unsigned int			n;
	bool				locked;
	struct ant_cmd			array[10000];
};

/* Making and unmaking */

static int ant_init(struct kunit *test)
{
	unsigned long addr;
	struct ant *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	t->test = test;
	test->priv = t;

	addr = kunit_vm_mmap(test, NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	t->user = (void __user *)addr;
	return 0;
}

static void ant_start(struct ant *t, const struct arm_smmu_fake_config *config)
{
	static const struct arm_smmu_fake_config plain;

	t->fake = arm_smmu_fake_add(t->test, config ?: &plain);
}

/* A device that user space has */
static struct arm_smmu_fake_device *
ant_add_device(struct ant *t, unsigned int i,
	       const struct arm_smmu_fake_device_config *config, bool canwbs)
{
	struct arm_smmu_fake_device *fdev;

	fdev = arm_smmu_fake_add_device(t->fake, config);
	if (canwbs)
		dev_iommu_fwspec_get(&fdev->pdev->dev)->flags |=
			IOMMU_FWSPEC_PCI_RC_CANWBS;
	KUNIT_ASSERT_EQ(t->test, 0,
			iommu_device_claim_dma_owner(&fdev->pdev->dev, t));
	t->fdevs[i] = fdev;
	return fdev;
}

static struct iommu_domain *ant_alloc_parent(struct ant *t, struct device *dev)
{
	struct iommu_domain *domain;

	domain = arm_smmu_ops.domain_alloc_user(dev, IOMMU_HWPT_ALLOC_NEST_PARENT,
						NULL, NULL);
	if (!IS_ERR(domain))
		domain->owner = &arm_smmu_ops;
	return domain;
}

static int ant_try_viommu(struct ant *t, unsigned int i, struct device *dev,
			  struct iommu_domain *parent)
{
	const struct iommufd_viommu_ops *ops =
		arm_smmu_ops.viommu_ops(dev, IOMMU_VIOMMU_TYPE_ARM_SMMUV3);
	struct iommufd_viommu *viommu;
	int rc;

	if (!ops)
		return -EOPNOTSUPP;
	viommu = kunit_kzalloc(t->test, ops->viommu_size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(t->test, viommu);
	viommu->ops = ops;
	viommu->iommu_dev = &arm_smmu_fake_master(dev_get_drvdata(dev))->smmu->iommu;
	xa_init(&viommu->vdevs);
	rc = ops->viommu_init(viommu, parent, t->viommu_data);
	if (!rc)
		t->viommus[i] = viommu;
	return rc;
}

static struct iommufd_viommu *ant_add_viommu(struct ant *t, unsigned int i,
					     struct device *dev)
{
	if (!t->parent) {
		t->parent = ant_alloc_parent(t, dev);
		KUNIT_ASSERT_FALSE(t->test, IS_ERR(t->parent));
	}
	KUNIT_ASSERT_EQ(t->test, 0, ant_try_viommu(t, i, dev, t->parent));
	return t->viommus[i];
}

static void ant_remove_viommu(struct ant *t, unsigned int i)
{
	t->viommus[i]->ops->viommu_destroy(t->viommus[i]);
	t->viommus[i] = NULL;
}

static void ant_add_vdevice(struct ant *t, unsigned int i,
			    struct iommufd_viommu *viommu, u64 vsid)
{
	struct iommufd_vdevice *vdev;

	/* Freed as iommufd does it */
	vdev = kzalloc(viommu->ops->vdevice_size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(t->test, vdev);
	vdev->viommu = viommu;
	vdev->dev = &t->fdevs[i]->pdev->dev;
	vdev->virt_id = vsid;
	KUNIT_ASSERT_EQ(t->test, 0, viommu->ops->vdevice_init(vdev));
	KUNIT_ASSERT_NULL(t->test, xa_store(&viommu->vdevs, vsid, vdev, GFP_KERNEL));
	t->vdevs[i] = vdev;
}

static void ant_remove_vdevice(struct ant *t, unsigned int i)
{
	struct iommufd_vdevice *vdev = t->vdevs[i];

	xa_erase(&vdev->viommu->vdevs, vdev->virt_id);
	vdev->viommu->ops->vdevice_destroy(vdev);
	kfree_rcu(vdev, rcu);
	t->vdevs[i] = NULL;
}

static struct iommu_domain *
ant_try_nested(struct ant *t, struct iommufd_viommu *viommu, u64 ste0, u64 ste1)
{
	struct iommu_hwpt_arm_smmuv3 arg = {
		.ste = { cpu_to_le64(ste0), cpu_to_le64(ste1) },
	};
	const struct iommu_user_data user_data = {
		.type = IOMMU_HWPT_DATA_ARM_SMMUV3,
		.uptr = t->user,
		.len = sizeof(arg),
	};
	struct iommu_domain *domain;

	KUNIT_ASSERT_EQ(t->test, 0, copy_to_user(t->user, &arg, sizeof(arg)));
	domain = viommu->ops->alloc_domain_nested(viommu, &user_data);
	if (!IS_ERR(domain))
		domain->owner = &arm_smmu_ops;
	return domain;
}

static struct iommu_domain *
ant_add_nested(struct ant *t, unsigned int i, struct iommufd_viommu *viommu,
	       u64 ste0, u64 ste1)
{
	t->domains[i] = ant_try_nested(t, viommu, ste0, ste1);
	KUNIT_ASSERT_FALSE(t->test, IS_ERR(t->domains[i]));
	KUNIT_EXPECT_EQ(t->test, t->domains[i]->type, IOMMU_DOMAIN_NESTED);
	return t->domains[i];
}

static int ant_attach(struct ant *t, unsigned int i, struct iommu_domain *domain)
{
	return iommu_group_replace_domain(t->fdevs[i]->pdev->dev.iommu_group,
					  domain);
}

static void ant_exit(struct kunit *test)
{
	struct ant *t = test->priv;
	unsigned int i;

	if (!t)
		return;
	for (i = 0; i != ANT_DEVICES; i++) {
		if (t->vdevs[i])
			ant_remove_vdevice(t, i);
		if (t->fdevs[i]) {
			struct device *dev = &t->fdevs[i]->pdev->dev;

			if (iommu_get_domain_for_dev(dev))
				iommu_detach_group(iommu_get_domain_for_dev(dev),
						   dev->iommu_group);
			iommu_device_release_dma_owner(dev);
		}
	}
	for (i = 0; i != ANT_DOMAINS; i++)
		if (!IS_ERR_OR_NULL(t->domains[i]))
			t->domains[i]->ops->free(t->domains[i]);
	for (i = 0; i != ANT_VIOMMUS; i++)
		if (t->viommus[i])
			ant_remove_viommu(t, i);
	if (!IS_ERR_OR_NULL(t->parent))
		iommu_domain_free(t->parent);
	arm_smmu_fake_remove_all();
}

/* One device with two streams, a vIOMMU, and a vdevice */
static void ant_start_guest(struct ant *t, const struct arm_smmu_fake_config *config,
			    bool ats)
{
	const struct arm_smmu_fake_device_config dev = {
		.sids = { 0x21, 0x42 },
		.num_sids = 2,
		.ats = ats,
	};

	ant_start(t, config);
	ant_add_device(t, 0, &dev, true);
	ant_add_viommu(t, 0, &t->fdevs[0]->pdev->dev);
	/* As many SSIDs as the SMMU has, to the guest; nobody uses them here */
	arm_smmu_fake_master(t->fdevs[0])->ssid_bits = ARM_SMMU_FAKE_SSID_BITS;
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
	arm_smmu_fake_master(t->fdevs[0])->ssid_bits = 0;
	arm_smmu_fake_skip_cmds(t->fake);
}

/* What is expected of the queue */

static void ant_expect(struct ant *t, u8 op, u64 word0, u64 word1)
{
	KUNIT_ASSERT_LT(t->test, t->n, ARRAY_SIZE(t->expected));
	t->expected[t->n++] = arm_smmu_fake_cmd(op, word0, word1);
}

static void ant_expect_sync(struct ant *t)
{
	KUNIT_ASSERT_LT(t->test, t->n, ARRAY_SIZE(t->expected));
	t->expected[t->n++] = arm_smmu_fake_sync();
}

static void ant_expect_vmid(struct ant *t, u8 op, u16 vmid)
{
	ant_expect(t, op, (u64)vmid << 32, 0);
	ant_expect_sync(t);
}

static void ant_check(struct ant *t)
{
	arm_smmu_fake_expect_cmds(t->fake, t->expected, t->n);
	t->n = 0;
}

/* What the SMMU has of a device, which is the same for all its streams */
static struct arm_smmu_ste ant_ste(struct ant *t, unsigned int i)
{
	struct arm_smmu_fake_device *fdev = t->fdevs[i];
	const u32 *sids = arm_smmu_fake_sids(&fdev->config);
	const struct arm_smmu_ste *ste;
	unsigned int s;

	ste = arm_smmu_fake_ste(t->fake, sids[0]);
	KUNIT_ASSERT_NOT_NULL(t->test, ste);
	for (s = 1; s != fdev->config.num_sids; s++)
		KUNIT_EXPECT_MEMEQ(t->test, ste,
				   arm_smmu_fake_ste(t->fake, sids[s]),
				   sizeof(*ste));
	return *ste;
}

static u16 ant_vmid_of(const struct arm_smmu_ste *ste)
{
	return FIELD_GET(STRTAB_STE_2_S2VMID, le64_to_cpu(ste->data[2]));
}

/* A guest's STEs */
#define ANT_CTXPTR	0x123456780ULL
#define ANT_CTXPTR2	0x9abcdef00ULL
#define ANT_ABORT	STRTAB_STE_0_V
#define ANT_BYPASS	(STRTAB_STE_0_V | (u64)STRTAB_STE_0_CFG_BYPASS << 1)
#define ANT_TRANS	(STRTAB_STE_0_V | (u64)STRTAB_STE_0_CFG_S1_TRANS << 1 | \
			 (ANT_CTXPTR & STRTAB_STE_0_S1CTXPTR_MASK))
#define ANT_TRANS2	(STRTAB_STE_0_V | (u64)STRTAB_STE_0_CFG_S1_TRANS << 1 | \
			 (ANT_CTXPTR2 & STRTAB_STE_0_S1CTXPTR_MASK))
/* Write-back, inner shareable, substream 0 */
#define ANT_TRANS_1	0xd6ULL
#define ANT_EATS	BIT_ULL(28)

static u16 ant_vmid(struct ant *t, unsigned int i)
{
	struct iommu_domain *bypass = ant_try_nested(t, t->viommus[i], ANT_BYPASS, 0);
	struct arm_smmu_ste ste;

	KUNIT_ASSERT_FALSE(t->test, IS_ERR(bypass));
	KUNIT_ASSERT_EQ(t->test, 0, ant_attach(t, 0, bypass));
	ste = ant_ste(t, 0);
	iommu_detach_group(bypass, t->fdevs[0]->pdev->dev.iommu_group);
	bypass->ops->free(bypass);
	return ant_vmid_of(&ste);
}

/* The guest's STE: each bit, each value of Config and EATS, and V = 0 */

static bool ant_guest_ste_ok(u64 ste0, u64 ste1)
{
	unsigned int cfg = ste0 >> 1 & 7, eats = ste1 >> 28 & 3;

	if (!(ste0 & 1))
		return true;
	/* V, Config, S1Fmt, S1ContextPtr, S1CDMax */
	if (ste0 & ~(GENMASK_ULL(51, 0) | GENMASK_ULL(63, 59)))
		return false;
	/* S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS */
	if (ste1 & ~(GENMASK_ULL(7, 0) | GENMASK_ULL(29, 27)))
		return false;
	return (cfg == 0 || cfg == 4 || cfg == 5) && eats < 2;
}

static void ant_check_guest_ste(struct kunit *test, u64 ste0, u64 ste1)
{
	__le64 guest[2] = { cpu_to_le64(ste0), cpu_to_le64(ste1) };
	__le64 ste[2] = { cpu_to_le64(~0ULL), cpu_to_le64(~0ULL) };
	int rc = arm_smmu_take_guest_ste(ste, guest);

	if (!ant_guest_ste_ok(ste0, ste1)) {
		if (rc != -EIO)
			KUNIT_FAIL(test, "%016llx %016llx: %d", ste0, ste1, rc);
		return;
	}
	if (!(ste0 & 1)) {
		ste0 = 1;
		ste1 = 0;
	}
	if (rc || ste[0] != cpu_to_le64(ste0) || ste[1] != cpu_to_le64(ste1))
		KUNIT_FAIL(test, "%016llx %016llx: %d, %016llx %016llx", ste0, ste1,
			   rc, le64_to_cpu(ste[0]), le64_to_cpu(ste[1]));
}

static void ant_guest_ste(struct kunit *test)
{
	static const u64 bases[][2] = {
		{ 0, 0 },
		{ ANT_ABORT, 0 },
		{ ANT_BYPASS, 0 },
		{ ANT_TRANS, ANT_TRANS_1 },
		{ ANT_TRANS, ANT_TRANS_1 | ANT_EATS | STRTAB_STE_1_S1STALLD },
	};
	struct rnd_state rnd;
	unsigned int b, i, j;

	for (b = 0; b != ARRAY_SIZE(bases); b++) {
		u64 ste0 = bases[b][0], ste1 = bases[b][1];

		ant_check_guest_ste(test, ste0, ste1);
		for (i = 0; i != 64; i++) {
			ant_check_guest_ste(test, ste0 ^ BIT_ULL(i), ste1);
			ant_check_guest_ste(test, ste0, ste1 ^ BIT_ULL(i));
			for (j = 0; j != 64; j++)
				ant_check_guest_ste(test, ste0 ^ BIT_ULL(i),
						    ste1 ^ BIT_ULL(j));
		}
		for (i = 0; i != 32; i++)
			ant_check_guest_ste(test, (ste0 & ~0xeULL) | (i & 7) << 1,
					    (ste1 & ~(3ULL << 28)) |
						    (u64)(i >> 3) << 28);
	}

	prandom_seed_state(&rnd, 4711);
	for (i = 0; i != 100000; i++) {
		u64 mask0 = i & 1 ? ~0ULL : GENMASK_ULL(51, 0);
		u64 mask1 = i & 2 ? ~0ULL : GENMASK_ULL(29, 27) | 0xff;

		ant_check_guest_ste(test,
				    ((u64)prandom_u32_state(&rnd) << 32 |
				     prandom_u32_state(&rnd)) & mask0,
				    ((u64)prandom_u32_state(&rnd) << 32 |
				     prandom_u32_state(&rnd)) & mask1);
	}
}

/* The STE that the SMMU sees */

static void ant_check_stes(struct ant *t, u32 features, bool stall_dev)
{
	const struct arm_smmu_fake_config config = {
		.features = features & ~ARM_SMMU_FEAT_STALLS,
		.lacks = ARM_SMMU_FEAT_STALLS & ~features,
	};
	const struct arm_smmu_fake_device_config dev = {
		.sids = { 0x21, 0x42, 0x21 },
		.num_sids = 3,
		.ats = true,
		.stall = stall_dev,
	};
	u64 s1stalld = features & ARM_SMMU_FEAT_STALLS ? BIT_ULL(27) : 0;
	u64 s2s = BIT_ULL(57), mev = BIT_ULL(19), eats = 3ULL << 28;
	struct kunit *test = t->test;
	struct arm_smmu_ste direct, ste;
	struct iommufd_viommu *viommu;

	ant_start(t, &config);
	ant_add_device(t, 0, &dev, true);
	viommu = ant_add_viommu(t, 0, &t->fdevs[0]->pdev->dev);

	/* Of which the others differ in what is told here only */
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->parent));
	direct = ant_ste(t, 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(direct.data[0]), 0xd);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(direct.data[1]) & eats, ANT_EATS);
	KUNIT_EXPECT_EQ(test, !!(le64_to_cpu(direct.data[1]) & BIT_ULL(25)),
			!!(features & ARM_SMMU_FEAT_S2FWB));
	KUNIT_EXPECT_TRUE(test, t->fdevs[0]->ats_enabled);

	/* These need no vdevice */
	ant_add_nested(t, 0, viommu, 0, ~0ULL);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	ste = ant_ste(t, 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[0]), 1);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[1]), 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[2]), 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[3]), 0);
	KUNIT_EXPECT_FALSE(test, t->fdevs[0]->ats_enabled);

	ant_add_nested(t, 1, viommu, ANT_BYPASS, ANT_EATS);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[1]));
	ste = ant_ste(t, 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[0]),
			le64_to_cpu(direct.data[0]));
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[1]),
			le64_to_cpu(direct.data[1]) | mev);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[2]) >> 16,
			(le64_to_cpu(direct.data[2]) & ~s2s) >> 16);
	KUNIT_EXPECT_NE(test, ant_vmid_of(&ste), ant_vmid_of(&direct));
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[3]),
			le64_to_cpu(direct.data[3]));
	KUNIT_EXPECT_TRUE(test, t->fdevs[0]->ats_enabled);

	/* This one does */
	ant_add_nested(t, 2, viommu, ANT_TRANS, ANT_TRANS_1);
	KUNIT_EXPECT_EQ(test, -ENOENT, ant_attach(t, 0, t->domains[2]));
	ant_add_vdevice(t, 0, viommu, ANT_VSID);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[2]));
	direct = ste;
	ste = ant_ste(t, 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[0]), ANT_TRANS | 7 << 1);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[1]),
			(le64_to_cpu(direct.data[1]) & ~eats) | ANT_TRANS_1 |
				s1stalld);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[2]),
			le64_to_cpu(direct.data[2]));
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[3]),
			le64_to_cpu(direct.data[3]));
	KUNIT_EXPECT_FALSE(test, t->fdevs[0]->ats_enabled);

	ant_add_nested(t, 3, viommu, ANT_TRANS,
		       ANT_TRANS_1 | ANT_EATS | STRTAB_STE_1_S1STALLD);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[3]));
	ste = ant_ste(t, 0);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(ste.data[1]),
			le64_to_cpu(direct.data[1]) | ANT_TRANS_1 | s1stalld);
	KUNIT_EXPECT_TRUE(test, t->fdevs[0]->ats_enabled);

	/* It may lose its vdevice; and goes back */
	ant_remove_vdevice(t, 0);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[1]));
	KUNIT_EXPECT_TRUE(test, t->fdevs[0]->ats_enabled);
	KUNIT_EXPECT_EQ(test, -ENOENT, ant_attach(t, 0, t->domains[2]));
	ste = ant_ste(t, 0);
	KUNIT_EXPECT_MEMEQ(test, &ste, &direct, sizeof(ste));
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->parent));
	KUNIT_EXPECT_TRUE(test, t->fdevs[0]->ats_enabled);
	KUNIT_EXPECT_EQ(test, 1,
			atomic_read(&to_smmu_domain(t->parent)->nr_ats_masters));
}

static void ant_stes(struct kunit *test)
{
	ant_check_stes(test->priv, ARM_SMMU_FEAT_STALLS, false);
}

static void ant_stes_stall(struct kunit *test)
{
	ant_check_stes(test->priv, ARM_SMMU_FEAT_STALLS |
				   ARM_SMMU_FEAT_ATTR_TYPES_OVR, true);
}

static void ant_stes_no_stalls(struct kunit *test)
{
	ant_check_stes(test->priv, ARM_SMMU_FEAT_S2FWB, false);
}

static void ant_stes_el2(struct kunit *test)
{
	ant_check_stes(test->priv, ARM_SMMU_FEAT_STALLS | ARM_SMMU_FEAT_HYP |
				   ARM_SMMU_FEAT_E2H | ARM_SMMU_FEAT_S2FWB |
				   ARM_SMMU_FEAT_2_LVL_STRTAB, false);
}

/* From each STE to each other one */

struct ant_writer {
	struct arm_smmu_entry_writer writer;
	struct kunit *test;
	const struct arm_smmu_ste *from, *to;
	struct arm_smmu_ste *now;
	bool invalid;
};

static bool ant_looks_like(const struct arm_smmu_ste *now,
			   const struct arm_smmu_ste *other)
{
	__le64 used[STRTAB_STE_DWORDS] = {};
	unsigned int i;

	arm_smmu_get_ste_used(now->data, used);
	/* MEV; EATS, while ATS is off */
	used[1] &= ~cpu_to_le64(BIT_ULL(19) | 3ULL << 28);
	for (i = 0; i != STRTAB_STE_DWORDS; i++)
		if ((now->data[i] ^ other->data[i]) & used[i])
			return false;
	return true;
}

static void ant_writer_sync(struct arm_smmu_entry_writer *writer)
{
	struct ant_writer *w = container_of(writer, struct ant_writer, writer);

	if (!(w->now->data[0] & cpu_to_le64(STRTAB_STE_0_V)))
		w->invalid = true;
	else if (!ant_looks_like(w->now, w->from) &&
		 !ant_looks_like(w->now, w->to))
		KUNIT_FAIL(w->test, "neither the one nor the other");
}

static const struct arm_smmu_entry_writer_ops ant_writer_ops = {
	.sync = ant_writer_sync,
	.get_used = arm_smmu_get_ste_used,
	.get_update_safe = arm_smmu_get_ste_update_safe,
};

enum {
	ANT_S_BLOCKED,
	ANT_S_DIRECT,
	ANT_S_BYPASS,
	ANT_S_TRANS,
	ANT_S_TRANS_ATS,
	ANT_S_TRANS2,
	ANT_S_TRANS2_1,
	/* The host's own, before and after the guest */
	ANT_S_IDENTITY,
	ANT_S_CDTABLE,
	ANT_S_CDTABLE_ATS,
	ANT_S_MAX,
};

static void ant_check_transitions(struct ant *t, u32 features)
{
	const struct arm_smmu_fake_config config = { .features = features };
	struct arm_smmu_ste *stes, now;
	struct arm_smmu_master *master;
	struct kunit *test = t->test;
	unsigned int i, j;

	ant_start_guest(t, &config, true);
	master = arm_smmu_fake_master(t->fdevs[0]);
	stes = kunit_kcalloc(test, ANT_S_MAX, sizeof(*stes), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, stes);

	ant_add_nested(t, ANT_S_BLOCKED, t->viommus[0], ANT_ABORT, 0);
	ant_add_nested(t, ANT_S_BYPASS, t->viommus[0], ANT_BYPASS, 0);
	ant_add_nested(t, ANT_S_TRANS, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	ant_add_nested(t, ANT_S_TRANS_ATS, t->viommus[0], ANT_TRANS,
		       ANT_TRANS_1 | ANT_EATS);
	ant_add_nested(t, ANT_S_TRANS2, t->viommus[0], ANT_TRANS2, ANT_TRANS_1);
	ant_add_nested(t, ANT_S_TRANS2_1, t->viommus[0], ANT_TRANS2,
		       ANT_TRANS_1 ^ 3);
	for (i = 0; i != ANT_S_IDENTITY; i++) {
		KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[i] ?: t->parent));
		stes[i] = ant_ste(t, 0);
	}
	arm_smmu_make_bypass_ste(&t->fake->smmu, &stes[ANT_S_IDENTITY]);
	arm_smmu_make_cdtable_ste(&stes[ANT_S_CDTABLE], master, false,
				  STRTAB_STE_1_S1DSS_SSID0);
	arm_smmu_make_cdtable_ste(&stes[ANT_S_CDTABLE_ATS], master, true,
				  STRTAB_STE_1_S1DSS_SSID0);

	for (i = 0; i != ANT_S_MAX; i++) {
		for (j = 0; j != ANT_S_MAX; j++) {
			struct ant_writer w = {
				.writer.ops = &ant_writer_ops,
				.test = test,
				.from = &stes[i],
				.to = &stes[j],
				.now = &now,
			};
			unsigned int lo = min(i, j), hi = max(i, j);
			bool hit = false;

			/* Two words of stage 1, or another VMID and stage 1 */
			if (hi == ANT_S_TRANS2_1)
				hit = lo == ANT_S_TRANS || lo == ANT_S_TRANS_ATS;
			if (i == ANT_S_DIRECT)
				hit = j >= ANT_S_TRANS;
			if (j == ANT_S_DIRECT)
				hit = i >= ANT_S_TRANS;

			now = stes[i];
			arm_smmu_write_entry(&w.writer, now.data, stes[j].data);
			KUNIT_EXPECT_MEMEQ(test, &now, &stes[j], sizeof(now));
			/* The host has no DMA that goes on as a guest's */
			if (hi >= ANT_S_IDENTITY)
				continue;
			if (w.invalid != hit)
				KUNIT_FAIL(test, "from %u to %u: V = 0 %d", i, j,
					   w.invalid);
		}
	}
}

static void ant_transitions(struct kunit *test)
{
	ant_check_transitions(test->priv, 0);
}

static void ant_transitions_s2fwb(struct kunit *test)
{
	ant_check_transitions(test->priv, ARM_SMMU_FEAT_S2FWB |
					  ARM_SMMU_FEAT_ATTR_TYPES_OVR);
}

static void ant_transitions_el2(struct kunit *test)
{
	ant_check_transitions(test->priv, ARM_SMMU_FEAT_HYP | ARM_SMMU_FEAT_E2H |
					  ARM_SMMU_FEAT_STALLS);
}

/* Commands */

/* What it becomes, of one device with two streams; 0 if it is refused */
static unsigned int ant_converted(struct ant *t, const struct ant_cmd *cmd, u16 vmid,
				  bool ril, bool ats, struct arm_smmu_fake_cmd *out)
{
	unsigned int ssid, size = cmd->data[1] & 0x3f;
	unsigned int num = cmd->data[0] >> 12 & 31, scale = cmd->data[0] >> 20 & 31;
	unsigned int ttl = cmd->data[1] >> 8 & 3, tg = cmd->data[1] >> 10 & 3;
	u64 m0 = 0xff, m1 = 0, w0 = cmd->data[0], w1 = cmd->data[1];
	u64 vmid_mask = GENMASK_ULL(47, 32), asid = GENMASK_ULL(63, 48);
	u64 sid = GENMASK_ULL(63, 32), ssid_mask = GENMASK_ULL(31, 12);
	u64 range0 = GENMASK_ULL(16, 12) | GENMASK_ULL(24, 20);
	u64 va1 = 1 | GENMASK_ULL(11, 8) | GENMASK_ULL(63, 12);
	bool tlbi = true;

	switch (w0 & 0xff) {
	case 0x30:
		w0 = (w0 & ~0xffULL) | 0x10;
		break;
	case 0x10:
		m0 |= vmid_mask;
		break;
	case 0x11:
		m0 |= vmid_mask | asid;
		break;
	case 0x12:
		m0 |= asid;
		fallthrough;
	case 0x13:
		m0 |= vmid_mask | range0;
		m1 |= va1;
		if (!tg && (num || scale || ttl))
			return 0;
		if (tg && !ril)
			return 0;
		if (tg && !(t->fake->smmu.pgsize_bitmap &
			    (tg == 1 ? SZ_4K : tg == 2 ? SZ_16K : SZ_64K)))
			return 0;
		/* Level 1 of 16K tables is no level to name */
		if (tg && !num && !scale && (!ttl || (tg == 2 && ttl == 1)))
			return 0;
		break;
	case 0x05:
		m0 |= ssid_mask | sid;
		m1 |= 1;
		tlbi = false;
		break;
	case 0x06:
		m0 |= sid;
		tlbi = false;
		break;
	case 0x40:
		m0 |= BIT(11) | BIT(9) | ssid_mask | sid;
		m1 |= 0x3f | GENMASK_ULL(63, 12);
		if (!ats || size > 52)
			return 0;
		tlbi = false;
		break;
	default:
		return 0;
	}
	if (cmd->data[0] & ~m0 || cmd->data[1] & ~m1)
		return 0;

	if (tlbi) {
		out[0].data[0] = (w0 & ~vmid_mask) | (u64)vmid << 32;
		out[0].data[1] = w1;
		return 1;
	}

	if ((w0 & 0xff) == 0x40 && !(w0 & BIT(11)))
		w0 &= ~(ssid_mask | BIT(9));
	ssid = w0 >> 12 & 0xfffff;
	if (ssid >= 1 << ARM_SMMU_FAKE_SSID_BITS || w0 >> 32 != ANT_VSID)
		return 0;
	out[0].data[0] = (w0 & ~sid) | 0x21ULL << 32;
	out[1].data[0] = (w0 & ~sid) | 0x42ULL << 32;
	out[0].data[1] = w1;
	out[1].data[1] = w1;
	return 2;
}

static void ant_check_cmd(struct ant *t, u64 w0, u64 w1, u16 vmid, bool ril, bool ats)
{
	const struct iommufd_viommu_ops *ops = t->viommus[0]->ops;
	struct ant_cmd cmd = { { w0, w1 } };
	struct arm_smmu_fake_cmd out[2], seen = {};
	unsigned int n, i, done = 7;
	__le64 guest[2] = { cpu_to_le64(w0), cpu_to_le64(w1) };
	int rc;

	n = ant_converted(t, &cmd, vmid, ril, ats, out);
	rc = ops->cache_invalidate(t->viommus[0], guest, 1, &done);
	if (rc != (n ? 0 : -EIO) || done != !!n)
		KUNIT_FAIL(t->test, "%016llx %016llx: %d, %u", w0, w1, rc, done);
	for (i = 0; i != n; i++) {
		if (!arm_smmu_fake_next_cmd(t->fake, &seen) ||
		    memcmp(&seen, &out[i], sizeof(seen)))
			KUNIT_FAIL(t->test, "%016llx %016llx: %016llx %016llx", w0, w1,
				   seen.data[0], seen.data[1]);
	}
	if (n) {
		out[0] = arm_smmu_fake_sync();
		KUNIT_EXPECT_TRUE(t->test, arm_smmu_fake_next_cmd(t->fake, &seen));
		KUNIT_EXPECT_MEMEQ(t->test, &seen, &out[0], sizeof(seen));
	}
	KUNIT_EXPECT_FALSE(t->test, arm_smmu_fake_next_cmd(t->fake, &seen));
}

static const struct ant_cmd ant_cmds[] = {
	{ { 0x30, 0 } },
	{ { 0x10 | 0x1234ULL << 32, 0 } },
	{ { 0x11 | 0x1234ULL << 32 | 0x4711ULL << 48, 0 } },
	{ { 0x12 | 0x1234ULL << 32 | 0x4711ULL << 48, 0xffff800012345001 } },
	{ { 0x13 | 0x1234ULL << 32, 0xffff800012345000 } },
	{ { 0x12 | 3 << 12 | 2 << 20, 0x12345000 | 1 << 10 | 3 << 8 | 1 } },
	{ { 0x13 | 3 << 12 | 2 << 20, 0x12345000 | 1 << 10 } },
	{ { 0x05 | 0x12 << 12 | (u64)ANT_VSID << 32, 1 } },
	{ { 0x06 | (u64)ANT_VSID << 32, 0 } },
	{ { 0x40 | (u64)ANT_VSID << 32, 52 } },
	{ { 0x40 | BIT(11) | 0x12 << 12 | (u64)ANT_VSID << 32, 0x12345000 | 3 } },
};

static void ant_check_cmds(struct ant *t, u32 features, bool ats,
			   unsigned long pgsizes)
{
	const struct arm_smmu_fake_config config = {
		.features = features,
		.lacks = ats ? 0 : ARM_SMMU_FEAT_ATS,
	};
	bool ril = features & ARM_SMMU_FEAT_RANGE_INV;
	unsigned int i, j, op;
	u16 vmid;

	ant_start_guest(t, &config, true);
	vmid = ant_vmid(t, 0);
	arm_smmu_fake_skip_cmds(t->fake);
	/* Of other sizes than that of the parent, which is the CPU's */
	t->fake->smmu.pgsize_bitmap |= pgsizes;

	for (i = 0; i != ARRAY_SIZE(ant_cmds); i++) {
		u64 w0 = ant_cmds[i].data[0], w1 = ant_cmds[i].data[1];

		ant_check_cmd(t, w0, w1, vmid, ril, ats);
		for (j = 0; j != 64; j++) {
			ant_check_cmd(t, w0 ^ BIT_ULL(j), w1, vmid, ril, ats);
			ant_check_cmd(t, w0, w1 ^ BIT_ULL(j), vmid, ril, ats);
		}
		/* Combinations of NUM, SCALE, TTL and TG, or sizes */
		for (j = 0; j != 64; j++) {
			u64 r0 = (j & 1 ? 31 << 12 : 0) | (j & 2 ? 31 << 20 : 0);
			u64 r1 = (u64)(j >> 2) << 8;

			ant_check_cmd(t, (w0 & ~0x1f1f000ULL) | r0,
				      (w1 & ~0xf00ULL) | r1, vmid, ril, ats);
			ant_check_cmd(t, w0, (w1 & ~0x3fULL) | j, vmid, ril, ats);
		}
	}
	for (op = 0; op != 256; op++) {
		ant_check_cmd(t, op, 0, vmid, ril, ats);
		ant_check_cmd(t, op | (u64)ANT_VSID << 32, 0, vmid, ril, ats);
		ant_check_cmd(t, op | (u64)(ANT_VSID + 1) << 32, 0, vmid, ril, ats);
	}
}

static void ant_commands(struct kunit *test)
{
	ant_check_cmds(test->priv, 0, true, 0);
}

static void ant_commands_ranges(struct kunit *test)
{
	ant_check_cmds(test->priv, ARM_SMMU_FEAT_RANGE_INV, false, 0);
}

static void ant_commands_granules(struct kunit *test)
{
	ant_check_cmds(test->priv, ARM_SMMU_FEAT_RANGE_INV, true,
		       SZ_4K | SZ_16K | SZ_64K);
}

/* ASIDs of 8 bits, and a device that has no ATS behind an SMMU that has */
static void ant_commands_narrow(struct kunit *test)
{
	const struct arm_smmu_fake_config config = { .asid_bits = 8 };
	struct ant *t = test->priv;
	const struct iommufd_viommu_ops *ops;
	static const u64 bad[][2] = {
		{ 0x11 | 0x100ULL << 48, 0 },
		{ 0x12 | 0x8000ULL << 48, 0x1000 },
		{ 0x40 | (u64)ANT_VSID << 32, 52 },
	};
	__le64 good[2] = { cpu_to_le64(0x11 | 0xffULL << 48), 0 };
	unsigned int i, done;

	ant_start_guest(t, &config, false);
	ops = t->viommus[0]->ops;
	for (i = 0; i != ARRAY_SIZE(bad); i++) {
		__le64 cmd[2] = { cpu_to_le64(bad[i][0]), cpu_to_le64(bad[i][1]) };

		KUNIT_EXPECT_EQ(test, -EIO,
				ops->cache_invalidate(t->viommus[0], cmd, 1, &done));
	}
	ant_check(t);
	KUNIT_EXPECT_EQ(test, 0, ops->cache_invalidate(t->viommus[0], good, 1, &done));
}

/* An SMMU that has more SSIDs than the device, or the device none */
static void ant_commands_ssid(struct kunit *test)
{
	struct ant *t = test->priv;
	const struct iommufd_viommu_ops *ops;
	const u64 atc = 0x40 | (u64)ANT_VSID << 32;
	unsigned int bits, i, done;

	ant_start_guest(t, NULL, true);
	ops = t->viommus[0]->ops;
	for (bits = 0; bits <= 3; bits += 3) {
		const struct {
			u64 cmd;
			bool good;
		} cmds[] = {
			{ atc, true },
			{ atc | 0x7 << 12, true },
			{ atc | BIT(11), bits },
			{ atc | BIT(11) | BIT(9), bits },
			{ atc | BIT(11) | 0x7 << 12, bits },
			{ atc | BIT(11) | 0x8 << 12, false },
		};

		ant_remove_vdevice(t, 0);
		arm_smmu_fake_master(t->fdevs[0])->ssid_bits = bits;
		ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
		arm_smmu_fake_master(t->fdevs[0])->ssid_bits = 0;
		for (i = 0; i != ARRAY_SIZE(cmds); i++) {
			__le64 cmd[2] = { cpu_to_le64(cmds[i].cmd), cpu_to_le64(52) };

			KUNIT_EXPECT_EQ_MSG(test, cmds[i].good ? 0 : -EIO,
					    ops->cache_invalidate(t->viommus[0], cmd, 1,
								  &done),
					    "%u bits, %016llx", bits, cmds[i].cmd);
		}
	}
}

/* Arrays */

static int ant_kind(const struct ant_cmd *cmd)
{
	switch (cmd->data[0] & 0xff) {
	case 0x05:
	case 0x06:
		return 0;
	case 0x40:
		return 2;
	default:
		return 1;
	}
}

/*
 * Hand over an array as the core does, and compare each batch with what it has to be.
 * Returns the error, and how many commands were counted.
 */
static int ant_run(struct ant *t, u16 vmid, unsigned int num, unsigned int *total)
{
	const struct iommufd_viommu_ops *ops = t->viommus[0]->ops;
	struct iommu_viommu_arm_smmuv3_invalidate *block;
	unsigned int done, i, j;
	int rc = 0;

	block = kunit_kcalloc(t->test, ANT_BLOCK, sizeof(*block), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(t->test, block);

	for (*total = 0; *total != num && !rc; *total += done) {
		unsigned int first = *total, n = min(num - first, ANT_BLOCK);
		unsigned int slots = 0, want = 0;
		int last = -1, want_rc = 0;

		for (i = 0; i != n; i++)
			for (j = 0; j != 2; j++)
				block[i].cmd[j] =
					cpu_to_le64(t->array[first + i].data[j]);

		for (; want != n; want++) {
			struct ant_cmd *cmd = &t->array[first + want];
			int kind = ant_kind(cmd);
			bool sync = last != -1 && kind > last;
			struct arm_smmu_fake_cmd out[2];
			unsigned int k;

			k = ant_converted(t, cmd, vmid, false, true, out);
			if (!k) {
				want_rc = -EIO;
				break;
			}
			if (slots + sync + k > ANT_BATCH)
				break;
			if (sync)
				ant_expect(t, CMDQ_OP_CMD_SYNC, 0, 0);
			for (i = 0; i != k; i++)
				t->expected[t->n++] = out[i];
			slots += sync + k;
			last = kind;
		}
		if (slots)
			ant_expect_sync(t);

		rc = ops->cache_invalidate(t->viommus[0], block, n, &done);
		KUNIT_EXPECT_EQ(t->test, rc, want_rc);
		KUNIT_EXPECT_EQ(t->test, done, want);
		KUNIT_ASSERT_TRUE(t->test, rc || done);
		ant_check(t);
	}
	kunit_kfree(t->test, block);
	return rc;
}

static void ant_fill(struct ant *t, struct rnd_state *rnd, unsigned int num)
{
	/* Without ranges, which the SMMU of these tests has not */
	static const u8 some[] = { 0, 1, 2, 3, 4, 7, 8, 9, 10 };
	unsigned int i;

	for (i = 0; i != num; i++)
		t->array[i] = ant_cmds[some[prandom_u32_state(rnd) %
					    ARRAY_SIZE(some)]];
}

static void ant_arrays(struct kunit *test)
{
	static const unsigned int sizes[] = {
		1, 2, 3, 31, 32, 33, 61, 62, 63, 64, 65, 125, 126, 127, 128, 129, 10000,
	};
	struct ant *t = test->priv;
	struct rnd_state rnd;
	unsigned int i, j, total;
	u16 vmid;

	ant_start_guest(t, NULL, true);
	vmid = ant_vmid(t, 0);
	arm_smmu_fake_skip_cmds(t->fake);
	prandom_seed_state(&rnd, 42);

	for (i = 0; i != ARRAY_SIZE(sizes); i++) {
		ant_fill(t, &rnd, sizes[i]);
		KUNIT_EXPECT_EQ(test, 0, ant_run(t, vmid, sizes[i], &total));
		KUNIT_EXPECT_EQ(test, total, sizes[i]);
		/* Of one kind, which leaves the most in a batch */
		for (j = 0; j != sizes[i]; j++)
			t->array[j] = ant_cmds[3];
		KUNIT_EXPECT_EQ(test, 0, ant_run(t, vmid, sizes[i], &total));
		KUNIT_EXPECT_EQ(test, total, sizes[i]);
	}

	/* Each order of two and three kinds, spelled out for the most important one */
	for (i = 0; i != 27; i++) {
		static const u8 of_kind[] = { 8, 3, 9 };

		t->array[0] = ant_cmds[of_kind[i % 3]];
		t->array[1] = ant_cmds[of_kind[i / 3 % 3]];
		t->array[2] = ant_cmds[of_kind[i / 9]];
		KUNIT_EXPECT_EQ(test, 0, ant_run(t, vmid, 3, &total));
	}
}

static void ant_tlbi_then_atc(struct kunit *test)
{
	struct iommu_viommu_arm_smmuv3_invalidate cmds[2];
	struct ant *t = test->priv;
	unsigned int done;
	u16 vmid;

	ant_start_guest(t, NULL, true);
	vmid = ant_vmid(t, 0);
	arm_smmu_fake_skip_cmds(t->fake);

	cmds[0].cmd[0] = cpu_to_le64(0x11 | 7ULL << 48);
	cmds[0].cmd[1] = 0;
	cmds[1].cmd[0] = cpu_to_le64(0x40 | (u64)ANT_VSID << 32);
	cmds[1].cmd[1] = cpu_to_le64(52);
	KUNIT_EXPECT_EQ(test, 0, t->viommus[0]->ops->cache_invalidate(t->viommus[0],
								      cmds, 2, &done));
	KUNIT_EXPECT_EQ(test, done, 2);
	ant_expect(t, 0x11, 7ULL << 48 | (u64)vmid << 32, 0);
	ant_expect(t, 0x46, 0, 0);
	ant_expect(t, 0x40, 0x21ULL << 32, 52);
	ant_expect(t, 0x40, 0x42ULL << 32, 52);
	ant_expect_sync(t);
	ant_check(t);
}

/* Two queues have no order, so an array takes one that has room for all of it */
static bool ant_second_supports(struct arm_smmu_cmdq_ent *ent)
{
	return ent->opcode == 0x11 || ent->opcode == 0x40;
}

static void ant_second_queue(struct kunit *test)
{
	static const struct {
		u8 ops[3];
		bool second;
	} cases[] = {
		{ { 0x11 }, true },
		{ { 0x40 }, true },
		{ { 0x11, 0x11 }, true },
		/* With a CMD_SYNC between them */
		{ { 0x11, 0x40 }, true },
		{ { 0x11, 0x40, 0x11 }, true },
		{ { 0x10 }, false },
		{ { 0x10, 0x11 }, false },
		{ { 0x11, 0x10 }, false },
		{ { 0x11, 0x10, 0x11 }, false },
		{ { 0x11, 0x40, 0x10 }, false },
		{ { 0x11, 0x40, 0x06 }, false },
		{ { 0x06, 0x11, 0x40 }, false },
	};
	struct ant *t = test->priv;
	const struct iommufd_viommu_ops *ops;
	unsigned int i, j, done;
	u16 vmid;

	ant_start_guest(t, NULL, true);
	ops = t->viommus[0]->ops;
	vmid = ant_vmid(t, 0);
	arm_smmu_fake_skip_cmds(t->fake);
	arm_smmu_fake_add_second_cmdq(t->fake, ant_second_supports);

	for (i = 0; i != ARRAY_SIZE(cases); i++) {
		__le64 guest[3][2] = {};
		u8 op, last = 0;

		for (j = 0; j != 3 && cases[i].ops[j]; j++, last = op) {
			u64 sid = (u64)ANT_VSID << 32;

			op = cases[i].ops[j];
			if (op == 0x10 || op == 0x11) {
				if (last == 0x06)
					ant_expect(t, 0x46, 0, 0);
				guest[j][0] = cpu_to_le64(op);
				ant_expect(t, op, (u64)vmid << 32, 0);
				continue;
			}
			if (op == 0x40 && last)
				ant_expect(t, 0x46, 0, 0);
			guest[j][0] = cpu_to_le64(op | sid);
			ant_expect(t, op, 0x21ULL << 32, 0);
			ant_expect(t, op, 0x42ULL << 32, 0);
		}
		ant_expect_sync(t);
		KUNIT_EXPECT_EQ(test, 0, ops->cache_invalidate(t->viommus[0], guest, j,
							       &done));
		KUNIT_EXPECT_EQ(test, done, j);
		if (cases[i].second) {
			arm_smmu_fake_expect_second_cmds(t->fake, t->expected, t->n);
			t->n = 0;
		} else {
			arm_smmu_fake_expect_second_cmds(t->fake, NULL, 0);
		}
		ant_check(t);
	}
}

/* A bad command at each position of two batches, and at some beyond */
static void ant_bad_command(struct kunit *test)
{
	struct ant *t = test->priv;
	struct rnd_state rnd;
	unsigned int i, at, total;
	u16 vmid;

	ant_start_guest(t, NULL, true);
	vmid = ant_vmid(t, 0);
	arm_smmu_fake_skip_cmds(t->fake);
	prandom_seed_state(&rnd, 4712);

	for (i = 0; i != 2 * ANT_BATCH + 2 + 64; i++) {
		unsigned int num = 3 * ANT_BATCH;

		at = i;
		if (i >= 2 * ANT_BATCH + 2) {
			num = 2000;
			at += prandom_u32_state(&rnd) % (num - at);
		}
		ant_fill(t, &rnd, num);
		/* A reserved bit, another opcode, a stream ID that nobody has */
		if (i % 3 == 0)
			t->array[at].data[0] ^= BIT_ULL(8);
		else if (i % 3 == 1)
			t->array[at].data[0] = 0x46;
		else
			t->array[at].data[0] = 0x06 | (ANT_VSID + 1ULL) << 32;
		if (i % 3)
			t->array[at].data[1] = 0;
		KUNIT_EXPECT_EQ(test, -EIO, ant_run(t, vmid, num, &total));
		KUNIT_EXPECT_EQ(test, total, at);
	}
}

/* What was in a batch that failed is not counted, all before it is */
static void ant_timeout(struct kunit *test)
{
	struct iommu_viommu_arm_smmuv3_invalidate *cmds;
	struct ant *t = test->priv;
	const struct iommufd_viommu_ops *ops;
	unsigned int i, done;

	cmds = kunit_kcalloc(test, ANT_BLOCK, sizeof(*cmds), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, cmds);
	ant_start_guest(t, NULL, true);
	ops = t->viommus[0]->ops;
	for (i = 0; i != ANT_BLOCK; i++)
		cmds[i].cmd[0] = cpu_to_le64(0x10);

	KUNIT_EXPECT_EQ(test, 0, ops->cache_invalidate(t->viommus[0], cmds, ANT_BLOCK,
						       &done));
	KUNIT_EXPECT_EQ(test, done, ANT_BATCH);

	arm_smmu_fake_hang(t->fake, 10);
	KUNIT_EXPECT_EQ(test, -ETIMEDOUT,
			ops->cache_invalidate(t->viommus[0], cmds, ANT_BLOCK, &done));
	KUNIT_EXPECT_EQ(test, done, 0);
	arm_smmu_fake_unhang(t->fake);

	/* Nor does the bad command matter that comes after it */
	cmds[5].cmd[1] = cpu_to_le64(1);
	arm_smmu_fake_hang(t->fake, 3);
	KUNIT_EXPECT_EQ(test, -ETIMEDOUT,
			ops->cache_invalidate(t->viommus[0], cmds, ANT_BLOCK, &done));
	KUNIT_EXPECT_EQ(test, done, 0);
	arm_smmu_fake_unhang(t->fake);
	KUNIT_EXPECT_EQ(test, -EIO,
			ops->cache_invalidate(t->viommus[0], cmds, ANT_BLOCK, &done));
	KUNIT_EXPECT_EQ(test, done, 5);
}

/* A command for all streams of a device counts once, how many there ever are */
static void ant_many_streams(struct kunit *test)
{
	static u32 sids[136];
	const struct arm_smmu_fake_device_config dev = {
		.many_sids = sids,
		.num_sids = ARRAY_SIZE(sids),
		.ats = true,
	};
	struct iommu_viommu_arm_smmuv3_invalidate cmds[3];
	struct ant *t = test->priv;
	const struct iommufd_viommu_ops *ops;
	unsigned int i, done;
	u16 vmid;

	ant_start(t, NULL);
	/* Some of them twice */
	for (i = 0; i != ARRAY_SIZE(sids); i++)
		sids[i] = i < 130 ? i + 1 : i - 100;
	ant_add_device(t, 0, &dev, true);
	ant_add_viommu(t, 0, &t->fdevs[0]->pdev->dev);
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
	ops = t->viommus[0]->ops;
	vmid = ant_vmid(t, 0);
	arm_smmu_fake_skip_cmds(t->fake);

	cmds[0].cmd[0] = cpu_to_le64(0x10);
	cmds[0].cmd[1] = 0;
	cmds[1].cmd[0] = cpu_to_le64(0x40 | (u64)ANT_VSID << 32);
	cmds[1].cmd[1] = cpu_to_le64(52);
	cmds[2] = cmds[0];

	KUNIT_EXPECT_EQ(test, 0, ops->cache_invalidate(t->viommus[0], cmds, 3, &done));
	KUNIT_EXPECT_EQ(test, done, 1);
	ant_expect_vmid(t, 0x10, vmid);
	ant_check(t);

	KUNIT_EXPECT_EQ(test, 0, ops->cache_invalidate(t->viommus[0], &cmds[1], 2,
						       &done));
	KUNIT_EXPECT_EQ(test, done, 1);
	for (i = 1; i <= 130; i++) {
		ant_expect(t, 0x40, (u64)i << 32, 52);
		if (i == 63 || i == 126 || i == 130)
			ant_expect_sync(t);
	}
	ant_check(t);

	/* The second batch of three hangs */
	arm_smmu_fake_hang(t->fake, 64 + 10);
	KUNIT_EXPECT_EQ(test, -ETIMEDOUT, ops->cache_invalidate(t->viommus[0], &cmds[1],
								2, &done));
	KUNIT_EXPECT_EQ(test, done, 0);
	arm_smmu_fake_unhang(t->fake);
}

/* A batch of the driver's own is in one queue, though it is more than once full */
static void ant_second_once(struct arm_smmu_fake *fake,
			    const struct arm_smmu_cmdq_ent *ent)
{
	if (ent->opcode != 0x40)
		return;
	fake->second_busy = fake->priv;
	fake->priv = fake;
}

/* And whoever waits for it has no lock of the domain, and no interrupts off */
static bool ant_atc_supports(struct arm_smmu_cmdq_ent *ent)
{
	struct ant *t = kunit_get_current_test()->priv;
	struct arm_smmu_domain *parent = to_smmu_domain(t->parent);
	unsigned long flags;

	if (ent->opcode != 0x40)
		return false;
	if (irqs_disabled() || !spin_trylock_irqsave(&parent->devices_lock, flags)) {
		t->locked = true;
		return true;
	}
	spin_unlock_irqrestore(&parent->devices_lock, flags);
	return true;
}

static void ant_many_atcs(struct kunit *test)
{
	static u32 sids[130];
	const struct arm_smmu_fake_device_config dev = {
		.many_sids = sids,
		.num_sids = ARRAY_SIZE(sids),
		.ats = true,
	};
	struct ant *t = test->priv;
	unsigned int i;

	ant_start(t, NULL);
	for (i = 0; i != ARRAY_SIZE(sids); i++)
		sids[i] = i + 1;
	ant_add_device(t, 0, &dev, true);
	t->parent = ant_alloc_parent(t, &t->fdevs[0]->pdev->dev);
	KUNIT_ASSERT_FALSE(test, IS_ERR(t->parent));
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->parent));
	KUNIT_ASSERT_EQ(test, 0, iommu_map(t->parent, SZ_1G, SZ_1G, PAGE_SIZE,
					   IOMMU_READ | IOMMU_CACHE, GFP_KERNEL));
	arm_smmu_fake_add_second_cmdq(t->fake, ant_atc_supports);
	t->fake->observe = ant_second_once;

	KUNIT_EXPECT_EQ(test, PAGE_SIZE, iommu_unmap(t->parent, SZ_1G, PAGE_SIZE));
	for (i = 0; i != ARRAY_SIZE(sids); i++)
		ant_expect(t, 0x40, (u64)sids[i] << 32, SZ_1G | (PAGE_SHIFT - 12));
	ant_expect_sync(t);
	arm_smmu_fake_expect_second_cmds(t->fake, t->expected, t->n);
	t->n = 0;
	arm_smmu_fake_skip_cmds(t->fake);

	KUNIT_EXPECT_FALSE(test, t->fake->second_busy);
	KUNIT_EXPECT_FALSE(test, t->locked);
	t->fake->observe = NULL;
	t->fake->second_busy = true;
}

/* VMIDs */

static void ant_expect_ipa(struct ant *t, u16 vmid, u64 ipa, bool ril)
{
	unsigned int tg = PAGE_SHIFT / 2 - 5;

	ant_expect(t, 0x2a, (u64)vmid << 32,
		   ipa | 1 | (ril ? tg << 10 | 3 << 8 : 0));
}

/* All of the ATC of ant_start_guest()'s device */
static void ant_expect_atc(struct ant *t)
{
	ant_expect(t, 0x40, 0x21ULL << 32, 52);
	ant_expect(t, 0x40, 0x42ULL << 32, 52);
	ant_expect_sync(t);
}

/* How many there are of an opcode, and what else is there does not matter */
static void ant_count(struct ant *t, u8 op, unsigned int want)
{
	struct arm_smmu_fake_cmd cmd;
	unsigned int n = 0;

	while (arm_smmu_fake_next_cmd(t->fake, &cmd))
		n += arm_smmu_fake_op(&cmd) == op;
	KUNIT_EXPECT_EQ(t->test, n, want);
}

static void ant_check_vmids(struct ant *t, u32 features)
{
	const struct arm_smmu_fake_config config = { .features = features, .vmid_bits = 8 };
	const struct arm_smmu_fake_device_config dev1 = {
		.sids = { 0x7 }, .num_sids = 1, .ats = true,
	};
	bool ril = features & ARM_SMMU_FEAT_RANGE_INV;
	unsigned int max = PAGE_SIZE / 8, tg = PAGE_SHIFT / 2 - 5, num, i, j;
	struct kunit *test = t->test;
	u64 ipa = SZ_1G;
	u16 own, vmid[2];
	struct iommu_iotlb_gather gather = { .start = ipa, .pgsize = PAGE_SIZE };

	ant_start_guest(t, &config, true);
	ant_add_viommu(t, 1, &t->fdevs[0]->pdev->dev);
	own = to_smmu_domain(t->parent)->s2_cfg.vmid;
	vmid[0] = ant_vmid(t, 0);
	vmid[1] = ant_vmid(t, 1);
	KUNIT_EXPECT_NE(test, own, vmid[0]);
	KUNIT_EXPECT_NE(test, own, vmid[1]);
	KUNIT_EXPECT_NE(test, vmid[0], vmid[1]);
	KUNIT_EXPECT_NE(test, 0, vmid[0] && vmid[1] && own);
	arm_smmu_fake_skip_cmds(t->fake);

	/* Nothing to invalidate */
	KUNIT_ASSERT_EQ(test, 0, iommu_map(t->parent, ipa, ipa, PAGE_SIZE,
					   IOMMU_READ | IOMMU_CACHE, GFP_KERNEL));
	ant_check(t);

	KUNIT_EXPECT_EQ(test, PAGE_SIZE, iommu_unmap(t->parent, ipa, PAGE_SIZE));
	ant_expect_ipa(t, own, ipa, ril);
	ant_expect_ipa(t, vmid[0], ipa, ril);
	ant_expect_ipa(t, vmid[1], ipa, ril);
	ant_expect_sync(t);
	ant_expect(t, 0x10, (u64)vmid[0] << 32, 0);
	ant_expect_vmid(t, 0x10, vmid[1]);
	ant_check(t);

	/* The guest's device, and one of the parent's, have ATCs */
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	ant_add_device(t, 1, &dev1, true);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 1, t->parent));
	KUNIT_ASSERT_EQ(test, 0, iommu_map(t->parent, ipa, ipa, PAGE_SIZE,
					   IOMMU_READ | IOMMU_CACHE, GFP_KERNEL));
	arm_smmu_fake_skip_cmds(t->fake);
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, iommu_unmap(t->parent, ipa, PAGE_SIZE));
	ant_expect_ipa(t, own, ipa, ril);
	ant_expect_ipa(t, vmid[0], ipa, ril);
	ant_expect_ipa(t, vmid[1], ipa, ril);
	ant_expect_sync(t);
	ant_expect(t, 0x10, (u64)vmid[0] << 32, 0);
	ant_expect_vmid(t, 0x10, vmid[1]);
	ant_expect(t, 0x40, 0x21ULL << 32, 52);
	ant_expect(t, 0x40, 0x42ULL << 32, 52);
	ant_expect(t, 0x40, 0x7ULL << 32, ipa | (PAGE_SHIFT - 12));
	ant_expect_sync(t);
	ant_check(t);

	/* A guest that does without */
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[1]));
	KUNIT_EXPECT_EQ(test, 1,
			atomic_read(&to_smmu_domain(t->parent)->nr_ats_masters));
	iommu_detach_group(t->parent, t->fdevs[1]->pdev->dev.iommu_group);
	KUNIT_EXPECT_EQ(test, 0,
			atomic_read(&to_smmu_domain(t->parent)->nr_ats_masters));

	/* As many commands as it may be, or too many, or everything */
	num = ril ? max : max / 3;
	gather.end = ipa + num * PAGE_SIZE - 1;
	arm_smmu_fake_skip_cmds(t->fake);
	t->parent->ops->iotlb_sync(t->parent, &gather);
	ant_count(t, 0x2a, ril ? 3 : 3 * num);
	gather.end += PAGE_SIZE;
	t->parent->ops->iotlb_sync(t->parent, &gather);
	if (ril) {
		arm_smmu_fake_skip_cmds(t->fake);
	} else {
		ant_expect_vmid(t, 0x28, own);
		ant_expect(t, 0x28, (u64)vmid[0] << 32, 0);
		ant_expect_vmid(t, 0x28, vmid[1]);
		ant_check(t);
	}
	t->parent->ops->flush_iotlb_all(t->parent);
	ant_expect_vmid(t, 0x28, own);
	ant_expect(t, 0x28, (u64)vmid[0] << 32, 0);
	ant_expect_vmid(t, 0x28, vmid[1]);
	ant_check(t);

	/* A table, whose entries may be cached, on all levels */
	arm_smmu_fake_skip_cmds(t->fake);
	io_pgtable_tlb_flush_walk(io_pgtable_ops_to_pgtable(to_smmu_domain(t->parent)->pgtbl_ops),
				  ipa, 16 * PAGE_SIZE, PAGE_SIZE);
	for (i = 0; i != 3; i++) {
		u64 w0 = (u64)(i ? vmid[i - 1] : own) << 32;

		if (ril)
			ant_expect(t, 0x2a, w0 | 4 << 20, ipa | tg << 10);
		for (j = 0; !ril && j != 16; j++)
			ant_expect(t, 0x2a, w0, ipa + j * PAGE_SIZE);
	}
	ant_expect_sync(t);
	ant_expect(t, 0x10, (u64)vmid[0] << 32, 0);
	ant_expect_vmid(t, 0x10, vmid[1]);
	ant_check(t);

	/* Invalidated before it can be another's, and nobody's then */
	ant_remove_viommu(t, 1);
	ant_expect_vmid(t, 0x28, vmid[1]);
	ant_check(t);
	t->parent->ops->flush_iotlb_all(t->parent);
	ant_expect_vmid(t, 0x28, own);
	ant_expect_vmid(t, 0x28, vmid[0]);
	ant_check(t);
}

static void ant_vmids(struct kunit *test)
{
	ant_check_vmids(test->priv, 0);
}

static void ant_vmids_ranges(struct kunit *test)
{
	ant_check_vmids(test->priv, ARM_SMMU_FEAT_RANGE_INV);
}

/* One vIOMMU more than are invalidated one by one, and one less again */
static void ant_check_many_vmids(struct ant *t, u32 features)
{
	const struct arm_smmu_fake_config config = { .features = features };
	bool ril = features & ARM_SMMU_FEAT_RANGE_INV;
	struct kunit *test = t->test;
	struct io_pgtable *pgtable;
	struct device *dev;
	u16 own, vmid[ANT_MANY];
	u64 ipa = SZ_1G;
	unsigned int i;

	ant_start_guest(t, &config, true);
	dev = &t->fdevs[0]->pdev->dev;
	own = to_smmu_domain(t->parent)->s2_cfg.vmid;
	vmid[0] = ant_vmid(t, 0);
	for (i = 1; i != ANT_MANY + 1; i++) {
		ant_add_viommu(t, i, dev);
		if (i != ANT_MANY)
			vmid[i] = ant_vmid(t, i);
	}
	/* Whatever there is of VMIDs, ATCs come last */
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));

	KUNIT_ASSERT_EQ(test, 0, iommu_map(t->parent, ipa, ipa, PAGE_SIZE,
					   IOMMU_READ | IOMMU_CACHE, GFP_KERNEL));
	arm_smmu_fake_skip_cmds(t->fake);
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, iommu_unmap(t->parent, ipa, PAGE_SIZE));
	ant_expect(t, 0x30, 0, 0);
	ant_expect_sync(t);
	ant_expect_atc(t);
	ant_check(t);

	pgtable = io_pgtable_ops_to_pgtable(to_smmu_domain(t->parent)->pgtbl_ops);
	io_pgtable_tlb_flush_walk(pgtable, ipa, 16 * PAGE_SIZE, PAGE_SIZE);
	ant_expect(t, 0x30, 0, 0);
	ant_expect_sync(t);
	ant_expect_atc(t);
	ant_check(t);

	t->parent->ops->flush_iotlb_all(t->parent);
	ant_expect_vmid(t, 0x28, own);
	ant_expect(t, 0x30, 0, 0);
	ant_expect_sync(t);
	ant_expect_atc(t);
	ant_check(t);

	ant_remove_viommu(t, ANT_MANY);
	KUNIT_ASSERT_EQ(test, 0, iommu_map(t->parent, ipa, ipa, PAGE_SIZE,
					   IOMMU_READ | IOMMU_CACHE, GFP_KERNEL));
	arm_smmu_fake_skip_cmds(t->fake);
	KUNIT_EXPECT_EQ(test, PAGE_SIZE, iommu_unmap(t->parent, ipa, PAGE_SIZE));
	ant_expect_ipa(t, own, ipa, ril);
	for (i = 0; i != ANT_MANY; i++)
		ant_expect_ipa(t, vmid[i], ipa, ril);
	ant_expect_sync(t);
	for (i = 0; i != ANT_MANY; i++)
		ant_expect(t, 0x10, (u64)vmid[i] << 32, 0);
	ant_expect_sync(t);
	ant_expect_atc(t);
	ant_check(t);

	t->parent->ops->flush_iotlb_all(t->parent);
	ant_expect_vmid(t, 0x28, own);
	for (i = 0; i != ANT_MANY; i++)
		ant_expect(t, 0x28, (u64)vmid[i] << 32, 0);
	ant_expect_sync(t);
	ant_expect_atc(t);
	ant_check(t);
}

static void ant_many_vmids(struct kunit *test)
{
	ant_check_many_vmids(test->priv, 0);
}

static void ant_many_vmids_ranges(struct kunit *test)
{
	ant_check_many_vmids(test->priv, ARM_SMMU_FEAT_RANGE_INV);
}

static void ant_vmids_run_out(struct kunit *test)
{
	const struct arm_smmu_fake_config config = { .vmid_bits = 2 };
	struct ant *t = test->priv;
	struct device *dev;
	u16 vmid;

	ant_start_guest(t, &config, false);
	dev = &t->fdevs[0]->pdev->dev;
	ant_add_viommu(t, 1, dev);
	vmid = ant_vmid(t, 1);
	KUNIT_EXPECT_EQ(test, -ENOSPC, ant_try_viommu(t, 2, dev, t->parent));
	KUNIT_EXPECT_EQ(test, -ENOSPC, PTR_ERR_OR_ZERO(ant_alloc_parent(t, dev)));
	ant_remove_viommu(t, 1);
	ant_add_viommu(t, 2, dev);
	KUNIT_EXPECT_EQ(test, vmid, ant_vmid(t, 2));
}

/* What is unmapped when ATS is about to be on may be in the ATC by then */
static int ant_enable_ats(struct pci_dev *pdev, int stu)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(&pdev->dev);
	struct ant *t = fdev->fake->test->priv;

	fdev->ats_enabled = true;
	if (!iommu_iova_to_phys(t->parent, SZ_1G))
		return 0;
	arm_smmu_fake_skip_cmds(t->fake);
	KUNIT_EXPECT_EQ(t->test, PAGE_SIZE, iommu_unmap(t->parent, SZ_1G, PAGE_SIZE));
	/* It is on the list for the old domain and for the new one */
	ant_count(t, 0x40, 2 * fdev->config.num_sids);
	return 0;
}

static void ant_unmap_meanwhile(struct kunit *test)
{
	struct ant *t = test->priv;

	ant_start_guest(t, NULL, true);
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	KUNIT_ASSERT_EQ(test, 0, iommu_map(t->parent, SZ_1G, SZ_1G, PAGE_SIZE,
					   IOMMU_READ | IOMMU_CACHE, GFP_KERNEL));
	kunit_activate_static_stub(test, arm_smmu_pci_enable_ats, ant_enable_ats);
	KUNIT_EXPECT_EQ(test, 0, ant_attach(t, 0, t->domains[1]));
	KUNIT_EXPECT_FALSE(test, iommu_iova_to_phys(t->parent, SZ_1G));
	KUNIT_EXPECT_EQ(test, 1,
			atomic_read(&to_smmu_domain(t->parent)->nr_ats_masters));
}

/* A device whose ATS cannot be enabled, which is tried again each time */
static int ant_fail_enable_ats(struct pci_dev *pdev, int stu)
{
	return -EINVAL;
}

static void ant_no_ats(struct kunit *test)
{
	struct ant *t = test->priv;
	struct arm_smmu_domain *parent;

	ant_start_guest(t, NULL, true);
	parent = to_smmu_domain(t->parent);
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	ant_add_nested(t, 2, t->viommus[0], ANT_TRANS2, ANT_TRANS_1 | ANT_EATS);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	kunit_activate_static_stub(test, arm_smmu_pci_enable_ats,
				   ant_fail_enable_ats);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[1]));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&parent->nr_ats_masters));
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[2]));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&parent->nr_ats_masters));
	/* The fake counts it as an error to disable what is not enabled */
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&parent->nr_ats_masters));
}

/* It is not tried again for a PASID: what has none then would not be invalidated */
static int ant_late_enable_ats(struct pci_dev *pdev, int stu)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(&pdev->dev);

	fdev->ats_enabled = true;
	return 0;
}

static void ant_late_ats(struct kunit *test)
{
	const struct arm_smmu_fake_device_config config = {
		.sids = { 0x21 },
		.num_sids = 1,
		.pasid_bits = 4,
		.ats = true,
	};
	struct ant *t = test->priv;
	struct arm_smmu_fake_device *fdev;
	struct iommu_domain *old, *domain;
	struct device *dev;

	ant_start(t, NULL);
	kunit_activate_static_stub(test, arm_smmu_pci_enable_ats,
				   ant_fail_enable_ats);
	fdev = arm_smmu_fake_add_device(t->fake, &config);
	dev = &fdev->pdev->dev;
	old = iommu_get_domain_for_dev(dev);
	domain = iommu_paging_domain_alloc(dev);
	KUNIT_ASSERT_FALSE(test, IS_ERR(domain));

	kunit_activate_static_stub(test, arm_smmu_pci_enable_ats,
				   ant_late_enable_ats);
	KUNIT_EXPECT_EQ(test, 0, iommu_attach_device_pasid(domain, dev, 1, NULL));
	KUNIT_EXPECT_FALSE(test, fdev->ats_enabled);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&to_smmu_domain(domain)->nr_ats_masters));
	iommu_detach_device_pasid(domain, dev, 1);

	KUNIT_EXPECT_EQ(test, 0, iommu_attach_group(domain, dev->iommu_group));
	KUNIT_EXPECT_TRUE(test, fdev->ats_enabled);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&to_smmu_domain(domain)->nr_ats_masters));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&to_smmu_domain(old)->nr_ats_masters));
	iommu_detach_group(domain, dev->iommu_group);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&to_smmu_domain(domain)->nr_ats_masters));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&to_smmu_domain(old)->nr_ats_masters));
	iommu_domain_free(domain);
}

/**
 * struct ant_thread - What goes on beside a test's own thread
 * @t: the test
 * @task: the thread
 * @times: how often it has done it
 * @bad: what went wrong, the last time
 */
struct ant_thread {
	struct ant		*t;
	struct task_struct	*task;
	unsigned long		times;
	int			bad;
};

static int ant_map_fn(void *data)
{
	struct ant_thread *thread = data;
	struct iommu_domain *parent = thread->t->parent;

	for (; !kthread_should_stop(); thread->times++) {
		int ret = iommu_map(parent, SZ_1G, SZ_1G, PAGE_SIZE,
				    IOMMU_READ | IOMMU_CACHE, GFP_KERNEL);

		if (ret || iommu_unmap(parent, SZ_1G, PAGE_SIZE) != PAGE_SIZE)
			thread->bad = ret ?: -EIO;
		cond_resched();
	}
	return 0;
}

static int ant_viommu_fn(void *data)
{
	struct ant_thread *thread = data;
	struct ant *t = thread->t;

	for (; !kthread_should_stop(); thread->times++) {
		const struct iommufd_viommu_ops *ops = t->viommus[0]->ops;
		struct iommufd_viommu *viommu;
		int ret;

		viommu = kzalloc(ops->viommu_size, GFP_KERNEL);
		if (!viommu)
			continue;
		viommu->ops = ops;
		viommu->iommu_dev = t->viommus[0]->iommu_dev;
		xa_init(&viommu->vdevs);
		ret = ops->viommu_init(viommu, t->parent, NULL);
		if (ret)
			thread->bad = ret;
		else
			ops->viommu_destroy(viommu);
		kfree(viommu);
		cond_resched();
	}
	return 0;
}

static int ant_commands_fn(void *data)
{
	struct ant_thread *thread = data;
	struct iommufd_viommu *viommu = thread->t->viommus[0];
	const struct iommu_viommu_arm_smmuv3_invalidate cmds[] = {
		{ .cmd = { cpu_to_le64(0x10) } },
		{ .cmd = { cpu_to_le64(0x06 | (u64)ANT_VSID << 32) } },
		{ .cmd = { cpu_to_le64(0x40 | (u64)ANT_VSID << 32), cpu_to_le64(52) } },
	};

	for (; !kthread_should_stop(); thread->times++) {
		unsigned int done = 7;
		int ret;

		ret = viommu->ops->cache_invalidate(viommu, cmds, ARRAY_SIZE(cmds), &done);
		/* The device comes and goes */
		if (ret ? ret != -EIO || !done || done > 2 : done != 3)
			thread->bad = ret ?: -ERANGE;
		cond_resched();
	}
	return 0;
}

/* For a second: everything that goes without the group's mutex, and attaches */
static void ant_meanwhile(struct kunit *test)
{
	int (*const fns[])(void *) = { ant_map_fn, ant_viommu_fn, ant_commands_fn };
	struct ant_thread threads[ARRAY_SIZE(fns)] = {};
	unsigned long end = jiffies + HZ, rounds = 0;
	struct ant *t = test->priv;
	struct arm_smmu_domain *parent;
	unsigned int i;

	ant_start_guest(t, NULL, true);
	parent = to_smmu_domain(t->parent);
	ant_add_nested(t, 0, t->viommus[0], ANT_BYPASS, 0);
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	ant_add_nested(t, 2, t->viommus[0], ANT_TRANS2, ANT_TRANS_1);
	for (i = 0; i != ARRAY_SIZE(fns); i++) {
		threads[i].t = t;
		threads[i].task = kthread_run(fns[i], &threads[i], "nest-%u", i);
		if (IS_ERR(threads[i].task))
			break;
	}

	for (; i == ARRAY_SIZE(fns) && time_before(jiffies, end); rounds++) {
		int ret;

		ret = ant_attach(t, 0, t->domains[rounds % 3]);
		if (ret)
			break;
		if (rounds % 3 == 2) {
			ant_remove_vdevice(t, 0);
			ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
		}
		cond_resched();
	}
	while (i--) {
		kthread_stop(threads[i].task);
		KUNIT_EXPECT_EQ_MSG(test, threads[i].bad, 0, "thread %u", i);
		KUNIT_EXPECT_GT_MSG(test, threads[i].times, 0, "thread %u", i);
	}
	KUNIT_EXPECT_FALSE(test, time_before(jiffies, end));

	KUNIT_EXPECT_TRUE(test, list_is_singular(&parent->devices));
	KUNIT_EXPECT_TRUE(test, list_is_singular(&parent->vmids));
	KUNIT_EXPECT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&parent->nr_ats_masters));
	KUNIT_EXPECT_EQ(test, 0, ant_attach(t, 0, t->domains[2]));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&parent->nr_ats_masters));
	kunit_info(test, "%lu attaches, %lu unmaps, %lu vIOMMUs, %lu arrays\n", rounds,
		   threads[0].times, threads[1].times, threads[2].times);
}

/*
 * A model of what the SMMU and a device cache of one IPA, and how they come to that.
 *
 * The walk cache has stage 2 by VMID, the TLB has both stages together by VMID, made of
 * what the walk cache has, and the ATC has what the TLB had. They are filled whenever
 * the STE allows it, also between two commands, and each command of the queue takes away
 * what the architecture says. Who unmaps then looks whether there is anything left that
 * the device could use.
 *
 * An STE that is being replaced is not used, and neither is one that has been replaced
 * since it was read: the SMMU's CFGI_STE and CMD_SYNC wait for that, commands in memory
 * do not.
 */
#define ANT_CACHE_VMIDS	16

struct ant_caches {
	struct ant		*t;
	/* All below but attaches, and what has been read of the queue */
	struct mutex		lock;
	/* Attaches that are complete, counted by who attaches */
	unsigned int		attaches;
	phys_addr_t		walk[ANT_CACHE_VMIDS];
	phys_addr_t		tlb[ANT_CACHE_VMIDS];
	phys_addr_t		atc;
	unsigned long		fills[3];
	unsigned long		checks;
	unsigned long		stale[3];
	unsigned long		bad;
};

/* What an STE says, if it is as it is to stay */
struct ant_stream {
	u64 data[3];
	u16 vmid;
	bool nested;
	bool ats;
};

static bool ant_read_stream(struct ant *t, struct ant_stream *stream)
{
	const struct arm_smmu_ste *ste = arm_smmu_fake_ste(t->fake, 0x21);
	unsigned int i, cfg;

	for (i = 0; i != ARRAY_SIZE(stream->data); i++)
		stream->data[i] = le64_to_cpu(READ_ONCE(ste->data[i]));
	cfg = FIELD_GET(STRTAB_STE_0_CFG, stream->data[0]);
	stream->vmid = FIELD_GET(STRTAB_STE_2_S2VMID, stream->data[2]);
	stream->nested = cfg == 7;
	stream->ats = FIELD_GET(STRTAB_STE_1_EATS, stream->data[1]) == 1 &&
		      READ_ONCE(t->fdevs[0]->ats_enabled);
	return stream->data[0] & 1 && (cfg == 6 || cfg == 7);
}

static bool ant_same_stream(struct ant *t, const struct ant_stream *stream)
{
	struct ant_stream now;

	return ant_read_stream(t, &now) && now.ats == stream->ats &&
	       !memcmp(now.data, stream->data, sizeof(now.data));
}

static void ant_fill_caches(struct ant_caches *caches)
{
	struct ant *t = caches->t;
	struct ant_stream stream;
	unsigned int attaches;
	phys_addr_t phys;

	lockdep_assert_held(&caches->lock);

	/* Pairs with ant_count_attach(): before the STE, and again after it */
	attaches = smp_load_acquire(&caches->attaches);
	if (!ant_read_stream(t, &stream))
		return;
	if (stream.vmid >= ANT_CACHE_VMIDS) {
		caches->bad++;
		return;
	}
	/*
	 * The STE before the PTE, as the SMMU reads them. Pairs with the barriers of
	 * arm_smmu_nest_parent_add_vmid() and of who unmaps.
	 */
	smp_rmb();
	phys = caches->walk[stream.vmid] ?: iommu_iova_to_phys(t->parent, SZ_1G);
	if (stream.nested && caches->tlb[stream.vmid])
		phys = caches->tlb[stream.vmid];
	/* The PTE while the STE was there; pairs with dma_wmb() before one is written */
	smp_rmb();
	if (!ant_same_stream(t, &stream))
		return;
	/* Pairs with ant_count_attach(): the STE has not been away and back */
	smp_rmb();
	if (!phys || READ_ONCE(caches->attaches) != attaches)
		return;

	if (!caches->walk[stream.vmid] &&
	    !(stream.nested && caches->tlb[stream.vmid])) {
		caches->walk[stream.vmid] = phys;
		caches->fills[0]++;
	}
	if (stream.nested && !caches->tlb[stream.vmid]) {
		caches->tlb[stream.vmid] = phys;
		caches->fills[1]++;
	}
	if (stream.ats && !caches->atc) {
		caches->atc = phys;
		caches->fills[2]++;
	}
}

/* One command; returns false if there is none */
static bool ant_run_command(struct ant_caches *caches)
{
	struct arm_smmu_fake_cmd cmd;
	u16 vmid;

	lockdep_assert_held(&caches->lock);

	if (!arm_smmu_fake_next_cmd(caches->t->fake, &cmd))
		return false;
	vmid = cmd.data[0] >> 32;
	switch (arm_smmu_fake_op(&cmd)) {
	case 0x2a:	/* TLBI_S2_IPA */
		if (vmid < ANT_CACHE_VMIDS)
			caches->walk[vmid] = 0;
		break;
	case 0x10:	/* TLBI_NH_ALL */
		if (vmid < ANT_CACHE_VMIDS)
			caches->tlb[vmid] = 0;
		break;
	case 0x28:	/* TLBI_S12_VMALL */
		if (vmid < ANT_CACHE_VMIDS) {
			caches->walk[vmid] = 0;
			caches->tlb[vmid] = 0;
		}
		break;
	case 0x40:	/* ATC_INV, of the other stream as well */
		if (cmd.data[0] >> 32 == 0x21)
			caches->atc = 0;
		break;
	}
	return true;
}

/* After an unmap: nothing is left that the device could use */
static void ant_check_caches(struct ant_caches *caches)
{
	struct ant *t = caches->t;
	struct ant_stream stream;
	bool usable;

	mutex_lock(&caches->lock);
	/*
	 * Before the commands: what invalidates a VMID before it has another owner, or
	 * an ATC before ATS is enabled, is in the queue before the STE or device has it.
	 */
	usable = ant_read_stream(t, &stream) && ant_same_stream(t, &stream);
	/* Pairs with dma_wmb() before an STE is written, and with ATS being enabled */
	smp_rmb();
	while (ant_run_command(caches))
		;
	if (usable && stream.vmid < ANT_CACHE_VMIDS) {
		caches->checks++;
		caches->stale[0] += !!caches->walk[stream.vmid];
		caches->stale[1] += stream.nested && caches->tlb[stream.vmid];
		caches->stale[2] += stream.ats && caches->atc;
	}
	mutex_unlock(&caches->lock);
}

static int ant_device_fn(void *data)
{
	struct ant_caches *caches = data;

	while (!kthread_should_stop()) {
		mutex_lock(&caches->lock);
		ant_fill_caches(caches);
		if (ant_run_command(caches))
			ant_fill_caches(caches);
		mutex_unlock(&caches->lock);
		cond_resched();
	}
	return 0;
}

static int ant_unmap_fn(void *data)
{
	struct ant_caches *caches = data;
	struct iommu_domain *parent = caches->t->parent;

	while (!kthread_should_stop()) {
		if (iommu_map(parent, SZ_1G, SZ_1G, PAGE_SIZE,
			      IOMMU_READ | IOMMU_CACHE, GFP_KERNEL))
			caches->bad++;
		cond_resched();
		if (iommu_unmap(parent, SZ_1G, PAGE_SIZE) != PAGE_SIZE)
			caches->bad++;
		ant_check_caches(caches);
		cond_resched();
	}
	return 0;
}

static void ant_count_attach(struct ant_caches *caches)
{
	/* After the STE; pairs with ant_fill_caches() */
	smp_store_release(&caches->attaches, caches->attaches + 1);
}

/* A vIOMMU and a nested domain that are there for one attach */
static int ant_attach_other(struct ant *t, struct ant_caches *caches)
{
	struct iommufd_viommu *viommu;
	struct iommu_domain *nested;
	int ret;

	viommu = kzalloc(t->viommus[0]->ops->viommu_size, GFP_KERNEL);
	if (!viommu)
		return -ENOMEM;
	viommu->ops = t->viommus[0]->ops;
	viommu->iommu_dev = t->viommus[0]->iommu_dev;
	xa_init(&viommu->vdevs);
	ret = viommu->ops->viommu_init(viommu, t->parent, NULL);
	if (ret)
		goto out_free;
	ant_remove_vdevice(t, 0);
	ant_add_vdevice(t, 0, viommu, ANT_VSID);
	nested = ant_try_nested(t, viommu, ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	if (IS_ERR(nested)) {
		ret = PTR_ERR(nested);
		goto out_destroy;
	}
	ret = ant_attach(t, 0, nested);
	ant_count_attach(caches);
	if (!ret) {
		/* For a while */
		schedule_timeout_uninterruptible(1);
		ret = ant_attach(t, 0, t->parent);
		ant_count_attach(caches);
	}
	nested->ops->free(nested);
out_destroy:
	ant_remove_vdevice(t, 0);
	viommu->ops->viommu_destroy(viommu);
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
out_free:
	kfree(viommu);
	return ret;
}

/* The device has it, the driver does not know it yet */
static int ant_slow_enable_ats(struct pci_dev *pdev, int stu)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(&pdev->dev);

	/* As arm_smmu_fake_enable_ats() */
	smp_store_release(&fdev->ats_enabled, true);
	schedule_timeout_uninterruptible(1);
	return 0;
}

static void ant_stale(struct kunit *test)
{
	int (*const fns[])(void *) = { ant_device_fn, ant_unmap_fn };
	struct task_struct *tasks[ARRAY_SIZE(fns)];
	unsigned long end = jiffies + 2 * HZ, rounds = 0;
	struct ant *t = test->priv;
	struct ant_caches *caches;
	unsigned int i;
	int ret = 0;

	caches = kunit_kzalloc(test, sizeof(*caches), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, caches);
	caches->t = t;
	mutex_init(&caches->lock);
	ant_start_guest(t, NULL, true);
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	ant_add_nested(t, 2, t->viommus[0], ANT_TRANS2, ANT_TRANS_1 | ANT_EATS);
	kunit_activate_static_stub(test, arm_smmu_pci_enable_ats,
				   ant_slow_enable_ats);
	for (i = 0; i != ARRAY_SIZE(fns); i++) {
		tasks[i] = kthread_run(fns[i], caches, "nest-%u", i);
		if (IS_ERR(tasks[i]))
			break;
	}

	for (; !ret && i == ARRAY_SIZE(fns) && time_before(jiffies, end); rounds++) {
		if (rounds % 4 == 3) {
			ret = ant_attach_other(t, caches);
		} else {
			ret = ant_attach(t, 0, t->domains[rounds % 4]);
			ant_count_attach(caches);
		}
		/* The queue is not to be full, who else reads it may not run */
		mutex_lock(&caches->lock);
		while (ant_run_command(caches))
			;
		mutex_unlock(&caches->lock);
		cond_resched();
	}
	KUNIT_EXPECT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, i, ARRAY_SIZE(fns));
	while (i--)
		kthread_stop(tasks[i]);

	KUNIT_EXPECT_EQ(test, caches->bad, 0);
	KUNIT_EXPECT_GT(test, caches->checks, 0);
	for (i = 0; i != ARRAY_SIZE(caches->fills); i++) {
		KUNIT_EXPECT_GT_MSG(test, caches->fills[i], 0, "cache %u", i);
		KUNIT_EXPECT_EQ_MSG(test, caches->stale[i], 0, "cache %u", i);
	}
	kunit_info(test, "%lu rounds, %lu checks, filled %lu, %lu, %lu times\n", rounds,
		   caches->checks, caches->fills[0], caches->fills[1], caches->fills[2]);
}

/* Who cannot have it */

static int ant_no_iopf(struct iopf_group *group)
{
	return -ENODEV;
}

static void ant_refused(struct kunit *test)
{
	const struct arm_smmu_fake_device_config devs[] = {
		{ .sids = { 0x30 }, .num_sids = 1 },
		{ .sids = { 0x31 }, .num_sids = 1 },
	};
	struct ant *t = test->priv;
	const u32 flags = IOMMU_HWPT_ALLOC_NEST_PARENT |
			  IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
	struct iommu_user_data data = {
		.type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
		.uptr = t->user,
		.len = sizeof(u64),
	};
	struct iommu_domain *domain;
	struct arm_smmu_fake *first;
	struct device *dev;

	ant_start_guest(t, NULL, false);
	first = t->fake;
	dev = &t->fdevs[0]->pdev->dev;
	KUNIT_EXPECT_NULL(test, arm_smmu_ops.viommu_ops(dev, 0));
	KUNIT_EXPECT_NULL(test, arm_smmu_ops.viommu_ops(dev, 2));
	ant_add_nested(t, 0, t->viommus[0], ANT_BYPASS, 0);
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS, ANT_TRANS_1);

	/* No vIOMMU has data */
	t->viommu_data = &data;
	KUNIT_ASSERT_EQ(test, 0, put_user(1ULL << 63, (u64 __user *)t->user));
	KUNIT_EXPECT_EQ(test, -E2BIG, ant_try_viommu(t, 1, dev, t->parent));
	KUNIT_ASSERT_EQ(test, 0, put_user(0ULL, (u64 __user *)t->user));
	KUNIT_EXPECT_EQ(test, 0, ant_try_viommu(t, 1, dev, t->parent));
	ant_remove_viommu(t, 1);
	data.len = PAGE_SIZE + 1;
	KUNIT_EXPECT_EQ(test, -E2BIG, ant_try_viommu(t, 1, dev, t->parent));
	t->viommu_data = NULL;

	/* Its root complex does not make it coherent */
	ant_add_device(t, 1, &devs[0], false);
	KUNIT_EXPECT_NULL(test, arm_smmu_ops.viommu_ops(&t->fdevs[1]->pdev->dev, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, ant_attach(t, 1, t->domains[0]));
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 1, t->parent));

	/* Page faults are not a guest's to answer */
	t->domains[0]->iopf_handler = ant_no_iopf;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, ant_attach(t, 0, t->domains[0]));
	t->domains[0]->iopf_handler = NULL;
	KUNIT_EXPECT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));

	/* Not a parent, and STEs that are not a guest's to write */
	domain = arm_smmu_ops.domain_alloc_user(dev, 0, NULL, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(domain));
	KUNIT_EXPECT_EQ(test, -EINVAL, ant_try_viommu(t, 1, dev, domain));
	domain->owner = &arm_smmu_ops;
	iommu_domain_free(domain);
	domain = ant_try_nested(t, t->viommus[0], ANT_BYPASS | BIT_ULL(52), 0);
	KUNIT_EXPECT_EQ(test, -EIO, PTR_ERR_OR_ZERO(domain));
	domain = arm_smmu_ops.domain_alloc_user(dev, flags, NULL, NULL);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, PTR_ERR_OR_ZERO(domain));

	/* Another instance */
	ant_start(t, NULL);
	ant_add_device(t, 2, &devs[1], true);
	KUNIT_EXPECT_EQ(test, -EINVAL, ant_attach(t, 2, t->domains[0]));
	KUNIT_EXPECT_EQ(test, -EINVAL, ant_try_viommu(t, 1, &t->fdevs[2]->pdev->dev,
						      t->parent));
	t->fake = first;
}

/* A device keeps what it has, with a vdevice or without, when it cannot have another */
static void ant_attach_again(struct kunit *test)
{
	struct ant *t = test->priv;
	struct arm_smmu_ste before, ste;
	struct device *dev;

	ant_start_guest(t, NULL, true);
	dev = &t->fdevs[0]->pdev->dev;
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	ant_add_nested(t, 1, t->viommus[0], ANT_TRANS2, ANT_TRANS_1);
	ant_add_nested(t, 2, t->viommus[0], ANT_BYPASS, 0);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	before = ant_ste(t, 0);
	ant_remove_vdevice(t, 0);

	KUNIT_EXPECT_EQ(test, -ENOENT, ant_attach(t, 0, t->domains[1]));
	t->domains[2]->iopf_handler = ant_no_iopf;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, ant_attach(t, 0, t->domains[2]));
	t->domains[2]->iopf_handler = NULL;
	KUNIT_EXPECT_PTR_EQ(test, iommu_get_domain_for_dev(dev), t->domains[0]);
	ste = ant_ste(t, 0);
	KUNIT_EXPECT_MEMEQ(test, &ste, &before, sizeof(ste));
	KUNIT_EXPECT_TRUE(test, t->fdevs[0]->ats_enabled);
	KUNIT_EXPECT_EQ(test, 1,
			atomic_read(&to_smmu_domain(t->parent)->nr_ats_masters));
	KUNIT_EXPECT_TRUE(test, list_is_singular(&to_smmu_domain(t->parent)->devices));

	/* Given up, it is like any other */
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[2]));
	KUNIT_EXPECT_EQ(test, -ENOENT, ant_attach(t, 0, t->domains[0]));
	KUNIT_EXPECT_PTR_EQ(test, iommu_get_domain_for_dev(dev), t->domains[2]);
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
}

static struct iommu_group *ant_group;

static struct iommu_group *ant_one_group(struct device *dev)
{
	return ant_group ? iommu_group_ref_get(ant_group) : generic_device_group(dev);
}

/* One device of a group gets it, the other one has no vdevice: both go back */
static void ant_group_again(struct kunit *test)
{
	const struct arm_smmu_fake_config config = {
		.features = ARM_SMMU_FEAT_S2FWB,
	};
	const struct arm_smmu_fake_device_config devs[] = {
		{ .sids = { 0x30 }, .num_sids = 1, .ats = true },
		{ .sids = { 0x31 }, .num_sids = 1, .ats = true },
		{ .sids = { 0x32 }, .num_sids = 1, .ats = true, .refused = true },
	};
	struct iommu_group *(*device_group)(struct device *dev) =
		arm_smmu_ops.device_group;
	struct arm_smmu_ste before[2], ste;
	struct ant *t = test->priv;
	struct arm_smmu_domain *parent;
	unsigned int i;

	/* With S2FWB any device is coherent enough */
	ant_start(t, &config);
	arm_smmu_ops.device_group = ant_one_group;
	ant_group = NULL;
	ant_add_device(t, 0, &devs[0], true);
	ant_group = t->fdevs[0]->pdev->dev.iommu_group;
	ant_add_device(t, 1, &devs[1], true);
	arm_smmu_ops.device_group = device_group;
	KUNIT_ASSERT_PTR_EQ(test, ant_group, t->fdevs[1]->pdev->dev.iommu_group);

	ant_add_viommu(t, 0, &t->fdevs[0]->pdev->dev);
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
	parent = to_smmu_domain(t->parent);
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1 | ANT_EATS);
	ant_add_nested(t, 1, t->viommus[0], ANT_BYPASS, 0);

	/* From stage 2 alone, which has the same list, and from another HWPT */
	for (i = 0; i != 2; i++) {
		struct iommu_domain *domain = i ? t->domains[1] : t->parent;

		KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, domain));
		before[0] = ant_ste(t, 0);
		before[1] = ant_ste(t, 1);
		KUNIT_EXPECT_EQ(test, -ENOENT, ant_attach(t, 0, t->domains[0]));
		ste = ant_ste(t, 0);
		KUNIT_EXPECT_MEMEQ(test, &ste, &before[0], sizeof(ste));
		ste = ant_ste(t, 1);
		KUNIT_EXPECT_MEMEQ(test, &ste, &before[1], sizeof(ste));
		KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&parent->devices));
		KUNIT_EXPECT_EQ(test, 2, atomic_read(&parent->nr_ats_masters));
	}

	/* Both have it, and both lose their vdevices */
	ant_add_vdevice(t, 1, t->viommus[0], ANT_VSID + 1);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	before[0] = ant_ste(t, 0);
	ant_remove_vdevice(t, 0);
	ant_remove_vdevice(t, 1);
	KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&parent->devices));
	ant_add_nested(t, 2, t->viommus[0], ANT_TRANS2, ANT_TRANS_1);
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
	KUNIT_EXPECT_EQ(test, -ENOENT, ant_attach(t, 0, t->domains[2]));
	ant_remove_vdevice(t, 0);
	t->domains[1]->iopf_handler = ant_no_iopf;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, ant_attach(t, 0, t->domains[1]));
	t->domains[1]->iopf_handler = NULL;
	for (i = 0; i != 2; i++) {
		ste = ant_ste(t, i);
		KUNIT_EXPECT_MEMEQ(test, &ste, &before[0], sizeof(ste));
	}
	KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&parent->devices));
	KUNIT_EXPECT_EQ(test, 2, atomic_read(&parent->nr_ats_masters));

	/* One that joins the group has no vdevice, and cannot have lost one */
	arm_smmu_ops.device_group = ant_one_group;
	KUNIT_EXPECT_FALSE(test, arm_smmu_fake_add_device(t->fake, &devs[2])->ats_enabled);
	arm_smmu_ops.device_group = device_group;
	KUNIT_EXPECT_EQ(test, 2, list_count_nodes(&parent->devices));
	KUNIT_EXPECT_EQ(test, 2, atomic_read(&parent->nr_ats_masters));

	iommu_detach_group(t->domains[0], ant_group);
	KUNIT_EXPECT_TRUE(test, list_empty(&parent->devices));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&parent->nr_ats_masters));
}

static void ant_no_nesting(struct kunit *test)
{
	static const struct arm_smmu_fake_config configs[] = {
		{ .lacks = ARM_SMMU_FEAT_NESTING },
		{ .features = ARM_SMMU_FEAT_STALL_FORCE },
	};
	struct ant *t = test->priv;
	unsigned int i;

	for (i = 0; i != ARRAY_SIZE(configs); i++) {
		const struct arm_smmu_fake_device_config dev = {
			.sids = { 0x30 + i }, .num_sids = 1,
		};
		struct iommu_domain *parent;

		ant_start(t, &configs[i]);
		ant_add_device(t, i, &dev, true);
		KUNIT_EXPECT_NULL(test,
				  arm_smmu_ops.viommu_ops(&t->fdevs[i]->pdev->dev, 1));
		parent = ant_alloc_parent(t, &t->fdevs[i]->pdev->dev);
		KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, PTR_ERR_OR_ZERO(parent));
	}
}

/* The attributes that the parent's page table has for the IPA 0 */
static unsigned int ant_memattr(struct ant *t)
{
	struct io_pgtable_ops *ops = to_smmu_domain(t->parent)->pgtbl_ops;
	const struct io_pgtable_cfg *cfg = &io_pgtable_ops_to_pgtable(ops)->cfg;
	unsigned int sl = cfg->arm_lpae_s2_cfg.vtcr.sl;
	unsigned int level = (PAGE_SHIFT == 12 ? 2 : 3) - sl;
	u64 pte, *table = phys_to_virt(cfg->arm_lpae_s2_cfg.vttbr);

	for (;; level++) {
		pte = READ_ONCE(table[0]);
		KUNIT_ASSERT_EQ(t->test, pte & 3, 3);
		if (level == 3)
			return pte >> 2 & 0xf;
		table = phys_to_virt(pte & GENMASK_ULL(47, PAGE_SHIFT));
	}
}

static void ant_check_memattr(struct ant *t, int prot, unsigned int want)
{
	KUNIT_ASSERT_EQ(t->test, 0, iommu_map(t->parent, 0, 0, PAGE_SIZE,
					      IOMMU_READ | prot, GFP_KERNEL));
	KUNIT_EXPECT_EQ(t->test, want, ant_memattr(t));
	KUNIT_EXPECT_EQ(t->test, PAGE_SIZE, iommu_unmap(t->parent, 0, PAGE_SIZE));
}

/* Stage 2 makes it coherent: the page table and the STE say so */
static void ant_s2fwb(struct kunit *test)
{
	const struct arm_smmu_fake_config config = { .features = ARM_SMMU_FEAT_S2FWB };
	const struct arm_smmu_fake_device_config dev = { .sids = { 1 }, .num_sids = 1 };
	struct ant *t = test->priv;
	struct io_pgtable_ops *ops;

	ant_start(t, &config);
	ant_add_device(t, 0, &dev, false);
	ant_add_viommu(t, 0, &t->fdevs[0]->pdev->dev);
	ant_add_nested(t, 0, t->viommus[0], ANT_BYPASS, 0);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	KUNIT_EXPECT_TRUE(test, le64_to_cpu(ant_ste(t, 0).data[1]) & BIT_ULL(25));
	ops = to_smmu_domain(t->parent)->pgtbl_ops;
	KUNIT_EXPECT_TRUE(test, io_pgtable_ops_to_pgtable(ops)->cfg.quirks &
					IO_PGTABLE_QUIRK_ARM_S2FWB);
	/* Write-back whatever stage 1 says; at most non-cacheable; device */
	ant_check_memattr(t, IOMMU_CACHE, 6);
	ant_check_memattr(t, 0, 5);
	ant_check_memattr(t, IOMMU_MMIO, 1);
}

static void ant_no_s2fwb(struct kunit *test)
{
	struct ant *t = test->priv;

	ant_start_guest(t, NULL, false);
	ant_check_memattr(t, IOMMU_CACHE, 0xf);
	ant_check_memattr(t, 0, 5);
	ant_check_memattr(t, IOMMU_MMIO, 1);
}

/* A domain keeps out who could bypass the caches, or says that it cannot */
static void ant_enforce_coherency(struct kunit *test)
{
	const struct arm_smmu_fake_config config = { .features = ARM_SMMU_FEAT_S2FWB };
	const struct arm_smmu_fake_device_config devs[] = {
		{ .sids = { 0x30 }, .num_sids = 1 },
		{ .sids = { 0x31 }, .num_sids = 1 },
	};
	struct ant *t = test->priv;
	struct device *dev;

	ant_start(t, &config);
	ant_add_device(t, 0, &devs[0], true);
	ant_add_device(t, 1, &devs[1], false);
	dev = &t->fdevs[1]->pdev->dev;
	KUNIT_EXPECT_TRUE(test, arm_smmu_ops.capable(&t->fdevs[0]->pdev->dev,
						     IOMMU_CAP_ENFORCE_CACHE_COHERENCY));
	KUNIT_EXPECT_FALSE(test, arm_smmu_ops.capable(dev,
						      IOMMU_CAP_ENFORCE_CACHE_COHERENCY));

	ant_add_viommu(t, 0, dev);
	ant_add_nested(t, 0, t->viommus[0], ANT_BYPASS, 0);
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 0, t->domains[0]));
	KUNIT_ASSERT_EQ(test, 0, ant_attach(t, 1, t->domains[0]));
	KUNIT_EXPECT_FALSE(test, t->parent->ops->enforce_cache_coherency(t->parent));
	KUNIT_EXPECT_TRUE(test, t->parent->ops->compatible(t->parent, dev));

	iommu_detach_group(t->domains[0], dev->iommu_group);
	KUNIT_EXPECT_TRUE(test, t->parent->ops->enforce_cache_coherency(t->parent));
	KUNIT_EXPECT_FALSE(test, t->parent->ops->compatible(t->parent, dev));
	KUNIT_EXPECT_EQ(test, -EINVAL, ant_attach(t, 1, t->parent));
	KUNIT_EXPECT_EQ(test, -EINVAL, ant_attach(t, 1, t->domains[0]));
	KUNIT_EXPECT_TRUE(test, list_is_singular(&to_smmu_domain(t->parent)->devices));
	KUNIT_EXPECT_EQ(test, 0, ant_attach(t, 0, t->parent));
}

/* Which of Arm's SMMUs can nest, and which need a CMD_SYNC after each command */
static void ant_errata(struct kunit *test)
{
	static const struct {
		u32 product, variant, revision;
		bool nesting, sync;
	} parts[] = {
		{ 0x483, 0, 0, false, false },
		{ 0x483, 1, 0, false, false },
		{ 0x483, 2, 0, true, false },
		{ 0x487, 0, 0, false, true },
		{ 0x487, 1, 0, false, true },
		{ 0x487, 1, 1, true, false },
		{ 0x487, 2, 0, true, false },
		{ 0x488, 0, 0, true, false },
	};
	struct arm_smmu_device *smmu;
	struct ant *t = test->priv;
	unsigned int i;

	ant_start_guest(t, NULL, false);
	smmu = kunit_kzalloc(test, sizeof(*smmu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, smmu);
	smmu->base = t->fake->smmu.base;
	for (i = 0; i != ARRAY_SIZE(parts); i++) {
		writel(parts[i].product << 20 | parts[i].variant << 16 |
		       parts[i].revision << 12 | 0x43b, smmu->base + ARM_SMMU_IIDR);
		smmu->features = ARM_SMMU_FEAT_NESTING;
		smmu->options = 0;
		arm_smmu_device_iidr_probe(smmu);
		KUNIT_EXPECT_EQ_MSG(test, parts[i].nesting,
				    !!(smmu->features & ARM_SMMU_FEAT_NESTING), "%u", i);
		KUNIT_EXPECT_EQ_MSG(test, parts[i].sync,
				    !!(smmu->options & ARM_SMMU_OPT_CMDQ_FORCE_SYNC),
				    "%u", i);
	}
}

/* Nothing stalls, and if something did, it would be answered */
static void ant_check_stall(struct ant *t, bool stall, unsigned int num_sids)
{
	const struct arm_smmu_fake_device_config dev = {
		.sids = { 0x55, 0x56 }, .num_sids = num_sids, .stall = stall,
	};
	struct arm_smmu_fake_cmd want[3] = {
		arm_smmu_fake_resume(0x55, 17, CMDQ_RESUME_0_RESP_ABORT),
		arm_smmu_fake_resume(0x55, 18, CMDQ_RESUME_0_RESP_ABORT),
		arm_smmu_fake_resume(0x56, 19, CMDQ_RESUME_0_RESP_ABORT),
	};

	ant_start(t, NULL);
	ant_add_device(t, 0, &dev, true);
	ant_add_viommu(t, 0, &t->fdevs[0]->pdev->dev);
	ant_add_vdevice(t, 0, t->viommus[0], ANT_VSID);
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	KUNIT_ASSERT_EQ(t->test, 0, ant_attach(t, 0, t->domains[0]));
	arm_smmu_fake_skip_cmds(t->fake);

	arm_smmu_fake_stall(t->fake, 0x55, 0, 17, 0x1000, true);
	arm_smmu_fake_stall(t->fake, 0x55, 3, 18, 0x1000, false);
	/* Nobody's, or its second stream's */
	arm_smmu_fake_stall(t->fake, 0x56, 0, 19, 0x1000, false);
	arm_smmu_fake_irq(t->fake);
	arm_smmu_fake_expect_cmds(t->fake, want, ARRAY_SIZE(want));
}

static void ant_stall(struct kunit *test)
{
	ant_check_stall(test->priv, true, 1);
}

static void ant_stall_unexpected(struct kunit *test)
{
	ant_check_stall(test->priv, false, 1);
}

static void ant_stall_streams(struct kunit *test)
{
	ant_check_stall(test->priv, false, 2);
}

static void ant_hw_info(struct kunit *test)
{
	static const u16 regs[] = { 0x0, 0x4, 0x8, 0xc, 0x10, 0x14, 0x18, 0x1c };
	struct iommu_hw_info_arm_smmuv3 *info;
	struct ant *t = test->priv;
	u32 type = 0, len = 0;
	struct device *dev;
	unsigned int i;

	ant_start_guest(t, NULL, false);
	dev = &t->fdevs[0]->pdev->dev;
	for (i = 0; i != ARRAY_SIZE(regs); i++)
		writel(0xa0b0c0d0 + i, t->fake->smmu.base + regs[i]);

	info = arm_smmu_ops.hw_info(dev, &len, &type);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, info);
	KUNIT_EXPECT_EQ(test, type, 2);
	KUNIT_EXPECT_EQ(test, len, 40);
	KUNIT_EXPECT_EQ(test, info->flags, 0);
	KUNIT_EXPECT_EQ(test, info->__reserved, 0);
	for (i = 0; i != 6; i++)
		KUNIT_EXPECT_EQ(test, info->idr[i], 0xa0b0c0d0 + i);
	KUNIT_EXPECT_EQ(test, info->iidr, 0xa0b0c0d6);
	KUNIT_EXPECT_EQ(test, info->aidr, 0xa0b0c0d7);
	kfree(info);
	type = 3;
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			PTR_ERR_OR_ZERO(arm_smmu_ops.hw_info(dev, &len, &type)));
	KUNIT_EXPECT_TRUE(test, arm_smmu_ops.capable(dev, IOMMU_CAP_PCI_ATS_NOT_SUPPORTED));
	KUNIT_EXPECT_TRUE(test, arm_smmu_ops.capable(dev,
						     IOMMU_CAP_ENFORCE_CACHE_COHERENCY));
}

/* Doorbells are mapped in stage 2 */
static void ant_msi_domain(struct kunit *test)
{
	struct ant *t = test->priv;

	ant_start_guest(t, NULL, false);
	ant_add_nested(t, 0, t->viommus[0], ANT_TRANS, ANT_TRANS_1);
	KUNIT_EXPECT_PTR_EQ(test, t->parent,
			    t->domains[0]->ops->msi_domain(t->domains[0]));
}

static struct kunit_case ant_cases[] = {
	KUNIT_CASE(ant_guest_ste),
	KUNIT_CASE(ant_stes),
	KUNIT_CASE(ant_stes_stall),
	KUNIT_CASE(ant_stes_no_stalls),
	KUNIT_CASE(ant_stes_el2),
	KUNIT_CASE(ant_transitions),
	KUNIT_CASE(ant_transitions_s2fwb),
	KUNIT_CASE(ant_transitions_el2),
	KUNIT_CASE_SLOW(ant_commands),
	KUNIT_CASE_SLOW(ant_commands_ranges),
	KUNIT_CASE_SLOW(ant_commands_granules),
	KUNIT_CASE(ant_commands_narrow),
	KUNIT_CASE(ant_commands_ssid),
	KUNIT_CASE_SLOW(ant_arrays),
	KUNIT_CASE(ant_tlbi_then_atc),
	KUNIT_CASE(ant_second_queue),
	KUNIT_CASE_SLOW(ant_bad_command),
	KUNIT_CASE_SLOW(ant_timeout),
	KUNIT_CASE_SLOW(ant_many_streams),
	KUNIT_CASE(ant_many_atcs),
	KUNIT_CASE(ant_vmids),
	KUNIT_CASE(ant_vmids_ranges),
	KUNIT_CASE(ant_many_vmids),
	KUNIT_CASE(ant_many_vmids_ranges),
	KUNIT_CASE(ant_vmids_run_out),
	KUNIT_CASE(ant_unmap_meanwhile),
	KUNIT_CASE(ant_no_ats),
	KUNIT_CASE(ant_late_ats),
	KUNIT_CASE_SLOW(ant_meanwhile),
	KUNIT_CASE_SLOW(ant_stale),
	KUNIT_CASE(ant_refused),
	KUNIT_CASE(ant_attach_again),
	KUNIT_CASE(ant_group_again),
	KUNIT_CASE(ant_no_nesting),
	KUNIT_CASE(ant_s2fwb),
	KUNIT_CASE(ant_no_s2fwb),
	KUNIT_CASE(ant_enforce_coherency),
	KUNIT_CASE(ant_errata),
	KUNIT_CASE(ant_stall),
	KUNIT_CASE(ant_stall_unexpected),
	KUNIT_CASE(ant_stall_streams),
	KUNIT_CASE(ant_hw_info),
	KUNIT_CASE(ant_msi_domain),
	{},
};

static struct kunit_suite ant_suite = {
	.name = "arm-smmu-v3-nesting",
	.init = ant_init,
	.exit = ant_exit,
	.test_cases = ant_cases,
};

kunit_test_suite(ant_suite);

MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_IMPORT_NS(IOMMUFD_INTERNAL);
MODULE_DESCRIPTION("KUnit tests for arm-smmu-v3's nested translation");
MODULE_LICENSE("GPL");
