// SPDX-License-Identifier: GPL-2.0-only
/*
 * SMMUs that do not exist but in memory, for KUnit tests of the driver below its
 * probe.
 *
 * A struct arm_smmu_device is filled in as if the ID registers had been read. The
 * driver allocates queues and stream table for it, and its operations are
 * registered; devices are platform devices, which the core probes and groups. Only
 * what needs PCI, or looks an instance up among those of the driver, is a stub,
 * which is there for the test's thread and no other.
 *
 * Registers are memory. The command queue's consumer register is its producer
 * register: what is published counts as consumed, and stays in the queue, where the
 * test reads it. Stream table and context descriptors are read as the hardware
 * would, from the addresses that the driver has given it.
 */

#include <kunit/resource.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>
#include <kunit/visibility.h>
#include <linux/cpufeature.h>
#include <linux/dma-direct.h>
#include <linux/dma-mapping.h>
#include <linux/pci.h>
#include <linux/property.h>
#include <linux/slab.h>

#include "arm-smmu-v3-fake.h"

/* For the driver's probe_device: one test runs at a time. */
static LIST_HEAD(arm_smmu_fakes);

/* What the driver calls */

static struct arm_smmu_device *arm_smmu_fake_get_by_fwnode(struct fwnode_handle *fwnode)
{
	struct arm_smmu_fake *fake;

	list_for_each_entry(fake, &arm_smmu_fakes, elm) {
		if (fake->fwnode == fwnode)
			return &fake->smmu;
	}
	return NULL;
}

static int arm_smmu_fake_def_domain_type(struct device *dev)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(dev);

	return fdev->config.identity ? IOMMU_DOMAIN_IDENTITY : IOMMU_DOMAIN_DMA;
}

static bool arm_smmu_fake_ats_supported(struct arm_smmu_master *master)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(master->dev);

	return fdev->config.ats && master->smmu->features & ARM_SMMU_FEAT_ATS;
}

/* It is not a pci_dev, but has the device in the same place. */
static int arm_smmu_fake_enable_ats(struct pci_dev *pdev, int stu)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(&pdev->dev);
	struct kunit *test = fdev->fake->test;

	KUNIT_EXPECT_FALSE(test, fdev->ats_enabled);
	/* After the commands that are in the queue, as a write to a register is */
	smp_store_release(&fdev->ats_enabled, true);
	return 0;
}

static void arm_smmu_fake_disable_ats(struct pci_dev *pdev)
{
	struct arm_smmu_fake_device *fdev = dev_get_drvdata(&pdev->dev);
	struct kunit *test = fdev->fake->test;

	KUNIT_EXPECT_TRUE(test, fdev->ats_enabled);
	WRITE_ONCE(fdev->ats_enabled, false);
}

static struct arm_smmu_cmdq *
arm_smmu_fake_get_secondary_cmdq(struct arm_smmu_device *smmu,
				 struct arm_smmu_cmdq_ent *ent)
{
	struct arm_smmu_fake *fake = container_of(smmu, struct arm_smmu_fake, smmu);

	if (fake->observe)
		fake->observe(fake, ent);
	if (fake->second.supports_cmd && !fake->second_busy &&
	    fake->second.supports_cmd(ent))
		return &fake->second;
	return NULL;
}

/* SMMUs */

static unsigned int arm_smmu_fake_oas(void)
{
	u64 reg = read_sanitised_ftr_reg(SYS_ID_AA64MMFR0_EL1);
	int fld = cpuid_feature_extract_unsigned_field(reg, ID_AA64MMFR0_EL1_PARANGE_SHIFT);

	return id_aa64mmfr0_parange_to_phys_shift(fld);
}

/* What the driver's arm_smmu_device_hw_probe() finds out. */
static void arm_smmu_fake_hw(struct arm_smmu_fake *fake,
			     const struct arm_smmu_fake_config *config)
{
	struct arm_smmu_device *smmu = &fake->smmu;
	struct kunit *test = fake->test;

	smmu->features = (ARM_SMMU_FAKE_FEATURES & ~config->lacks) | config->features;
	if (vabits_actual == 52)
		smmu->features |= ARM_SMMU_FEAT_VAX;
	smmu->options = config->options;
	smmu->pgsize_bitmap = PAGE_SIZE | PMD_SIZE;
	smmu->oas = arm_smmu_fake_oas();
	smmu->ias = smmu->oas;
	smmu->asid_bits = 16;
	smmu->vmid_bits = config->vmid_bits ?: 16;
	smmu->ssid_bits = config->ssid_bits ?: ARM_SMMU_FAKE_SSID_BITS;
	smmu->sid_bits = config->sid_bits ?: ARM_SMMU_FAKE_SID_BITS;
	smmu->iommu.max_pasids = 1UL << smmu->ssid_bits;
	smmu->cmdq.q.llq.max_n_shift = config->cmdq_shift ?: ARM_SMMU_FAKE_CMDQ_SHIFT;
	smmu->evtq.q.llq.max_n_shift = ARM_SMMU_FAKE_EVTQ_SHIFT;
	smmu->priq.q.llq.max_n_shift = ARM_SMMU_FAKE_EVTQ_SHIFT;

	KUNIT_ASSERT_TRUE(test, arm_smmu_sva_supported(smmu));
	smmu->features |= ARM_SMMU_FEAT_SVA;
	/* One with fewer than the CPU would do no SVA, but runs out of them soon. */
	if (config->asid_bits)
		smmu->asid_bits = config->asid_bits;
}

static void arm_smmu_fake_stubs(struct kunit *test)
{
	kunit_activate_static_stub(test, arm_smmu_get_by_fwnode,
				   arm_smmu_fake_get_by_fwnode);
	kunit_activate_static_stub(test, arm_smmu_def_domain_type,
				   arm_smmu_fake_def_domain_type);
	kunit_activate_static_stub(test, arm_smmu_ats_supported,
				   arm_smmu_fake_ats_supported);
	kunit_activate_static_stub(test, arm_smmu_pci_enable_ats,
				   arm_smmu_fake_enable_ats);
	kunit_activate_static_stub(test, arm_smmu_pci_disable_ats,
				   arm_smmu_fake_disable_ats);
}

/**
 * arm_smmu_fake_add() - Add an SMMU
 * @test: the test that has it; it is aborted if this fails
 * @config: what it is like
 *
 * The test's exit function calls arm_smmu_fake_remove_all().
 *
 * Context: the test's thread.
 * Return: the SMMU.
 */
struct arm_smmu_fake *arm_smmu_fake_add(struct kunit *test,
					const struct arm_smmu_fake_config *config)
{
	/* What is logged for it is not to look like trouble with a real one. */
	struct platform_device_info info = {
		.name = "smmu3-fake",
		.id = PLATFORM_DEVID_AUTO,
	};
	struct arm_smmu_device *smmu;
	struct arm_smmu_fake *fake;
	int ret;

	fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fake);
	fake->regs = kunit_kzalloc(test, SZ_128K, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fake->regs);
	fake->test = test;
	INIT_LIST_HEAD(&fake->devices);

	fake->fwnode = fwnode_create_software_node(NULL, NULL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake->fwnode);
	info.fwnode = fake->fwnode;
	fake->pdev = platform_device_register_full(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, fake->pdev);

	smmu = &fake->smmu;
	smmu->dev = &fake->pdev->dev;
	smmu->base = (void __force __iomem *)fake->regs;
	smmu->page1 = smmu->base + SZ_64K;
	arm_smmu_fake_hw(fake, config);
	/* Tables that the test finds by their addresses */
	smmu->dev->dma_coherent = true;
	KUNIT_ASSERT_EQ(test, 0, dma_set_mask_and_coherent(smmu->dev,
							   DMA_BIT_MASK(smmu->oas)));

	KUNIT_ASSERT_EQ(test, 0, arm_smmu_init_structures(smmu));
	arm_smmu_fake_unhang(fake);
	fake->impl_ops.get_secondary_cmdq = arm_smmu_fake_get_secondary_cmdq;
	smmu->impl_ops = &fake->impl_ops;

	arm_smmu_fake_stubs(test);
	ret = iommu_device_sysfs_add(&smmu->iommu, smmu->dev, NULL, "smmu3-fake.%d",
				     fake->pdev->id);
	KUNIT_ASSERT_EQ(test, ret, 0);
	ret = iommu_device_register(&smmu->iommu, &arm_smmu_ops, smmu->dev);
	KUNIT_ASSERT_EQ(test, ret, 0);
	list_add_tail(&fake->elm, &arm_smmu_fakes);
	return fake;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_add);

/* All streams are blocked when their devices have left, as in the beginning. */
static void arm_smmu_fake_expect_blocked(struct arm_smmu_fake *fake)
{
	struct kunit *test = fake->test;
	struct arm_smmu_ste abort;

	arm_smmu_make_abort_ste(&abort);
	for (u32 sid = 0; sid < 1U << fake->smmu.sid_bits; sid++) {
		const struct arm_smmu_ste *ste = arm_smmu_fake_ste(fake, sid);

		if (ste && memcmp(ste, &abort, sizeof(abort)))
			KUNIT_FAIL(test, "stream %u: 0x%llx 0x%llx", sid,
				   le64_to_cpu(ste->data[0]), le64_to_cpu(ste->data[1]));
	}
}

/**
 * arm_smmu_fake_remove() - Remove an SMMU
 * @fake: the SMMU
 *
 * Its devices are removed first. Nothing may be left: neither ASIDs nor VMIDs,
 * streams, or a stream that is not blocked.
 *
 * Context: the test's thread, or that of its exit function.
 */
void arm_smmu_fake_remove(struct arm_smmu_fake *fake)
{
	struct arm_smmu_device *smmu = &fake->smmu;
	struct arm_smmu_fake_device *fdev, *next;
	struct kunit *test = fake->test;

	arm_smmu_fake_unhang(fake);
	list_for_each_entry_safe(fdev, next, &fake->devices, elm)
		arm_smmu_fake_remove_device(fdev);

	KUNIT_EXPECT_TRUE(test, xa_empty(&smmu->asid_xa));
	KUNIT_EXPECT_TRUE(test, ida_is_empty(&smmu->vmid_map));
	KUNIT_EXPECT_TRUE(test, RB_EMPTY_ROOT(&smmu->streams));
	arm_smmu_fake_expect_blocked(fake);

	iommu_device_unregister(&smmu->iommu);
	iommu_device_sysfs_remove(&smmu->iommu);
	list_del(&fake->elm);
	platform_device_unregister(fake->pdev);
	fwnode_remove_software_node(fake->fwnode);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_remove);

/**
 * arm_smmu_fake_remove_all() - Remove all SMMUs that the test has
 *
 * Context: as arm_smmu_fake_remove().
 */
void arm_smmu_fake_remove_all(void)
{
	struct arm_smmu_fake *fake, *next;

	list_for_each_entry_safe(fake, next, &arm_smmu_fakes, elm)
		arm_smmu_fake_remove(fake);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_remove_all);

/* Devices */

/**
 * arm_smmu_fake_add_device() - Add a device behind an SMMU
 * @fake: the SMMU
 * @config: what it is like
 *
 * If it has PASIDs, SVA is enabled, and page faults before that if they stall.
 *
 * Context: the test's thread, which is aborted if this fails.
 * Return: the device.
 */
struct arm_smmu_fake_device *
arm_smmu_fake_add_device(struct arm_smmu_fake *fake,
			 const struct arm_smmu_fake_device_config *config)
{
	struct property_entry props[3] = {};
	struct kunit *test = fake->test;
	struct arm_smmu_fake_device *fdev;
	unsigned int n = 0;
	struct device *dev;
	int ret;

	fdev = kunit_kzalloc(test, sizeof(*fdev), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fdev);
	fdev->config = *config;
	fdev->fake = fake;
	fdev->pdev = platform_device_alloc("smmu3-fake-master", PLATFORM_DEVID_AUTO);
	KUNIT_ASSERT_NOT_NULL(test, fdev->pdev);
	dev = &fdev->pdev->dev;
	dev_set_drvdata(dev, fdev);

	if (config->pasid_bits)
		props[n++] = PROPERTY_ENTRY_U32("pasid-num-bits", config->pasid_bits);
	if (config->stall)
		props[n++] = PROPERTY_ENTRY_BOOL("dma-can-stall");
	if (n)
		KUNIT_ASSERT_EQ(test, 0, device_create_managed_software_node(dev, props,
									     NULL));
	mutex_lock(&iommu_probe_device_lock);
	ret = iommu_fwspec_init(dev, fake->fwnode);
	mutex_unlock(&iommu_probe_device_lock);
	KUNIT_ASSERT_EQ(test, ret, 0);
	KUNIT_ASSERT_EQ(test, 0, iommu_fwspec_add_ids(dev, arm_smmu_fake_sids(config),
						      config->num_sids));
	KUNIT_ASSERT_EQ(test, 0, platform_device_add(fdev->pdev));
	list_add_tail(&fdev->elm, &fake->devices);
	if (config->refused) {
		KUNIT_ASSERT_NULL(test, dev->iommu_group);
		return fdev;
	}
	KUNIT_ASSERT_NOT_NULL(test, dev->iommu_group);
	KUNIT_ASSERT_PTR_EQ(test, arm_smmu_fake_master(fdev)->smmu, &fake->smmu);

	if (arm_smmu_master_iopf_supported(arm_smmu_fake_master(fdev)))
		KUNIT_ASSERT_EQ(test, 0, iommu_dev_enable_feature(dev, IOMMU_DEV_FEAT_IOPF));
	if (config->pasid_bits)
		KUNIT_ASSERT_EQ(test, 0, iommu_dev_enable_feature(dev, IOMMU_DEV_FEAT_SVA));
	return fdev;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_add_device);

/**
 * arm_smmu_fake_remove_device() - Remove a device
 * @fdev: the device
 *
 * Context: as arm_smmu_fake_remove().
 */
void arm_smmu_fake_remove_device(struct arm_smmu_fake_device *fdev)
{
	struct device *dev = &fdev->pdev->dev;
	struct kunit *test = fdev->fake->test;

	/* What is not enabled is refused. */
	if (dev->iommu_group) {
		iommu_dev_disable_feature(dev, IOMMU_DEV_FEAT_SVA);
		iommu_dev_disable_feature(dev, IOMMU_DEV_FEAT_IOPF);
	}
	list_del(&fdev->elm);
	platform_device_unregister(fdev->pdev);
	KUNIT_EXPECT_FALSE(test, fdev->ats_enabled);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_remove_device);

/* The command queue */

static u32 arm_smmu_fake_prod(struct arm_smmu_fake *fake)
{
	return readl(fake->smmu.cmdq.q.prod_reg);
}

static bool arm_smmu_fake_read_cmd(struct arm_smmu_fake *fake, struct arm_smmu_queue *q,
				   u32 *seen, struct arm_smmu_fake_cmd *cmd)
{
	u32 size = 1U << q->llq.max_n_shift, prod = readl(q->prod_reg);
	struct kunit *test = fake->test;

	if (prod == *seen)
		return false;

	KUNIT_ASSERT_LE(test, (prod - *seen) & (2 * size - 1), size);
	for (unsigned int i = 0; i < CMDQ_ENT_DWORDS; i++)
		cmd->data[i] = le64_to_cpu(Q_ENT(q, *seen)[i]);
	*seen = (*seen + 1) & (2 * size - 1);
	return true;
}

/**
 * arm_smmu_fake_next_cmd() - Read a command that the driver has published
 * @fake: the SMMU
 * @cmd: where to put it
 *
 * The queue must not have been filled since the last one that was read.
 *
 * Return: false if there is none.
 */
bool arm_smmu_fake_next_cmd(struct arm_smmu_fake *fake, struct arm_smmu_fake_cmd *cmd)
{
	return arm_smmu_fake_read_cmd(fake, &fake->smmu.cmdq.q, &fake->seen, cmd);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_next_cmd);

/**
 * arm_smmu_fake_skip_cmds() - Leave out the commands that are there
 * @fake: the SMMU
 */
void arm_smmu_fake_skip_cmds(struct arm_smmu_fake *fake)
{
	fake->seen = arm_smmu_fake_prod(fake);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_skip_cmds);

static void arm_smmu_fake_expect(struct arm_smmu_fake *fake, struct arm_smmu_queue *q,
				 u32 *seen, const struct arm_smmu_fake_cmd *cmds,
				 unsigned int n)
{
	struct kunit *test = fake->test;
	struct arm_smmu_fake_cmd cmd;
	unsigned int i = 0, wrong = 0;

	for (; arm_smmu_fake_read_cmd(fake, q, seen, &cmd); i++) {
		static const struct arm_smmu_fake_cmd none;
		const struct arm_smmu_fake_cmd *want = i < n ? &cmds[i] : &none;

		/* One wrong command is often followed by many. */
		if (memcmp(&cmd, want, sizeof(cmd)) && wrong++ < 8)
			KUNIT_FAIL(test, "command %u: %016llx %016llx, not %016llx %016llx",
				   i, cmd.data[0], cmd.data[1], want->data[0],
				   want->data[1]);
	}
	KUNIT_EXPECT_EQ(test, i, n);
}

/**
 * arm_smmu_fake_expect_cmds() - Read commands, which must be these, and no others
 * @fake: the SMMU
 * @cmds: the commands
 * @n: how many
 */
void arm_smmu_fake_expect_cmds(struct arm_smmu_fake *fake,
			       const struct arm_smmu_fake_cmd *cmds, unsigned int n)
{
	arm_smmu_fake_expect(fake, &fake->smmu.cmdq.q, &fake->seen, cmds, n);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_expect_cmds);

/**
 * arm_smmu_fake_add_second_cmdq() - Let the SMMU have another command queue
 * @fake: the SMMU
 * @supports_cmd: says which commands it takes
 *
 * The driver has it for any command that it takes, or batch that begins with one.
 * The commands in it are for arm_smmu_fake_expect_second_cmds() to read, and what is
 * said of hanging and skipping is not about them.
 *
 * Context: the test's thread, which is aborted if this fails; once.
 */
void arm_smmu_fake_add_second_cmdq(struct arm_smmu_fake *fake,
				   bool (*supports_cmd)(struct arm_smmu_cmdq_ent *ent))
{
	struct arm_smmu_queue *q = &fake->second.q;
	struct kunit *test = fake->test;

	q->llq.max_n_shift = fake->smmu.cmdq.q.llq.max_n_shift;
	/* Registers beside those of the event queue */
	KUNIT_ASSERT_EQ(test, 0, arm_smmu_init_one_queue(&fake->smmu, q, fake->smmu.page1,
							 SZ_4K, SZ_4K, CMDQ_ENT_DWORDS,
							 "second cmdq"));
	KUNIT_ASSERT_EQ(test, 0, arm_smmu_cmdq_init(&fake->smmu, &fake->second));
	fake->second.supports_cmd = supports_cmd;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_add_second_cmdq);

/**
 * arm_smmu_fake_expect_second_cmds() - As arm_smmu_fake_expect_cmds(), of the second queue
 * @fake: the SMMU, which has one
 * @cmds: the commands
 * @n: how many
 */
void arm_smmu_fake_expect_second_cmds(struct arm_smmu_fake *fake,
				      const struct arm_smmu_fake_cmd *cmds,
				      unsigned int n)
{
	arm_smmu_fake_expect(fake, &fake->second.q, &fake->second_seen, cmds, n);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_expect_second_cmds);

/**
 * arm_smmu_fake_hang() - Have the command queue hang
 * @fake: the SMMU
 * @n: how many more commands are consumed before
 *
 * A CMD_SYNC that comes later times out, after a second.
 */
void arm_smmu_fake_hang(struct arm_smmu_fake *fake, unsigned int n)
{
	struct arm_smmu_queue *q = &fake->smmu.cmdq.q;
	u32 mask = (2U << q->llq.max_n_shift) - 1;

	fake->hung_cons = cpu_to_le32((arm_smmu_fake_prod(fake) + n) & mask);
	q->cons_reg = (u32 __force __iomem *)&fake->hung_cons;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_hang);

/**
 * arm_smmu_fake_unhang() - Have published commands count as consumed
 * @fake: the SMMU
 */
void arm_smmu_fake_unhang(struct arm_smmu_fake *fake)
{
	fake->smmu.cmdq.q.cons_reg = fake->smmu.cmdq.q.prod_reg;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_unhang);

/* The event queue */

/**
 * arm_smmu_fake_event() - Write an event
 * @fake: the SMMU
 * @evt: the event
 *
 * It raises no interrupt, see arm_smmu_fake_irq(). The test is to leave room.
 *
 * Context: Any; one at a time.
 */
void arm_smmu_fake_event(struct arm_smmu_fake *fake, const u64 *evt)
{
	struct arm_smmu_queue *q = &fake->smmu.evtq.q;
	u32 mask = (2U << q->llq.max_n_shift) - 1, prod = readl(q->prod_reg);

	for (unsigned int i = 0; i < EVTQ_ENT_DWORDS; i++)
		Q_ENT(q, prod)[i] = cpu_to_le64(evt[i]);
	writel((prod + 1) & mask, q->prod_reg);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_event);

/**
 * arm_smmu_fake_stall() - Write the event of a transaction that stalls
 * @fake: the SMMU
 * @sid: its stream
 * @ssid: its substream
 * @stag: its tag
 * @addr: its address
 * @write: it is a write
 *
 * Context: as arm_smmu_fake_event().
 */
void arm_smmu_fake_stall(struct arm_smmu_fake *fake, u32 sid, u32 ssid, u16 stag,
			 u64 addr, bool write)
{
	u64 evt[EVTQ_ENT_DWORDS] = {
		FIELD_PREP(EVTQ_0_ID, EVT_ID_TRANSLATION_FAULT) | EVTQ_0_SSV |
			FIELD_PREP(EVTQ_0_SSID, ssid) | FIELD_PREP(EVTQ_0_SID, sid),
		FIELD_PREP(EVTQ_1_STAG, stag) | EVTQ_1_STALL | (write ? 0 : EVTQ_1_RnW),
		addr,
	};

	arm_smmu_fake_event(fake, evt);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_stall);

/**
 * arm_smmu_fake_irq() - Run what the event queue's interrupt does
 * @fake: the SMMU
 */
void arm_smmu_fake_irq(struct arm_smmu_fake *fake)
{
	arm_smmu_evtq_thread(0, &fake->smmu);
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_irq);

/* Tables */

static void *arm_smmu_fake_virt(struct arm_smmu_fake *fake, dma_addr_t addr)
{
	return phys_to_virt(dma_to_phys(fake->smmu.dev, addr));
}

/**
 * arm_smmu_fake_ste() - Find a stream table entry
 * @fake: the SMMU
 * @sid: the stream
 *
 * Return: the entry, or NULL if the table has none.
 */
const struct arm_smmu_ste *arm_smmu_fake_ste(struct arm_smmu_fake *fake, u32 sid)
{
	struct arm_smmu_strtab_cfg *cfg = &fake->smmu.strtab_cfg;
	struct arm_smmu_strtab_l1 *l1;
	struct arm_smmu_ste *stes;
	u64 desc;

	if (!(fake->smmu.features & ARM_SMMU_FEAT_2_LVL_STRTAB)) {
		stes = arm_smmu_fake_virt(fake, cfg->linear.ste_dma);
		return sid < cfg->linear.num_ents ? &stes[sid] : NULL;
	}

	if (sid >> STRTAB_SPLIT >= cfg->l2.num_l1_ents)
		return NULL;
	l1 = arm_smmu_fake_virt(fake, cfg->l2.l1_dma);
	desc = le64_to_cpu(l1[sid >> STRTAB_SPLIT].l2ptr);
	if (FIELD_GET(STRTAB_L1_DESC_SPAN, desc) != STRTAB_SPLIT + 1)
		return NULL;
	stes = arm_smmu_fake_virt(fake, desc & STRTAB_L1_DESC_L2PTR_MASK);
	return &stes[sid & (BIT(STRTAB_SPLIT) - 1)];
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_ste);

/**
 * arm_smmu_fake_cd() - Find a context descriptor
 * @fake: the SMMU
 * @sid: the stream
 * @ssid: the substream
 *
 * Return: the descriptor, or NULL if the SMMU would not find one.
 */
const struct arm_smmu_cd *arm_smmu_fake_cd(struct arm_smmu_fake *fake, u32 sid, u32 ssid)
{
	const struct arm_smmu_ste *ste = arm_smmu_fake_ste(fake, sid);
	struct arm_smmu_cdtab_l1 *l1;
	struct arm_smmu_cd *cds;
	void *table;
	u64 data;

	if (!ste)
		return NULL;
	data = le64_to_cpu(ste->data[0]);
	if (!(data & STRTAB_STE_0_V) ||
	    FIELD_GET(STRTAB_STE_0_CFG, data) != STRTAB_STE_0_CFG_S1_TRANS ||
	    ssid >> FIELD_GET(STRTAB_STE_0_S1CDMAX, data))
		return NULL;

	table = arm_smmu_fake_virt(fake, data & STRTAB_STE_0_S1CTXPTR_MASK);
	switch (FIELD_GET(STRTAB_STE_0_S1FMT, data)) {
	case STRTAB_STE_0_S1FMT_LINEAR:
		cds = table;
		return &cds[ssid];
	case STRTAB_STE_0_S1FMT_64K_L2:
		l1 = table;
		data = le64_to_cpu(l1[ssid / CTXDESC_L2_ENTRIES].l2ptr);
		if (!(data & CTXDESC_L1_DESC_V))
			return NULL;
		cds = arm_smmu_fake_virt(fake, data & CTXDESC_L1_DESC_L2PTR_MASK);
		return &cds[ssid % CTXDESC_L2_ENTRIES];
	}
	return NULL;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_fake_cd);

MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_DESCRIPTION("Fake SMMUs for KUnit tests of arm-smmu-v3");
MODULE_LICENSE("GPL");
