// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the SMMUv3 driver does for user space that has an IOMMU of its own to give to
 * a guest, through iommufd.
 */
#include <kunit/visibility.h>
#include <linux/io.h>
#include <linux/iommufd.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <uapi/linux/iommufd.h>

#include "arm-smmu-v3.h"

/**
 * struct arm_vsmmu - The part of an SMMU that a guest has
 * @core: what the core has of it
 * @smmu: the SMMU
 * @parent: stage 2, which @core keeps
 * @vmid: the VMID of all STEs of the guest, on the list of @parent
 *
 * Nothing of it changes.
 */
struct arm_vsmmu {
	struct iommufd_viommu core;
	struct arm_smmu_device *smmu;
	struct arm_smmu_domain *parent;
	struct arm_smmu_vmid *vmid;
};

/**
 * struct arm_smmu_nested_domain - Stage 1 of a guest for a device
 * @domain: what the core has of it
 * @vsmmu: the vIOMMU that it is on, and which it keeps
 * @ste: what is allowed of the guest's STE, and nothing else
 *
 * Nothing of it changes.
 */
struct arm_smmu_nested_domain {
	struct iommu_domain domain;
	struct arm_vsmmu *vsmmu;
	__le64 ste[2];
};

static struct arm_smmu_nested_domain *
to_smmu_nested_domain(struct iommu_domain *domain)
{
	return container_of(domain, struct arm_smmu_nested_domain, domain);
}

static struct arm_vsmmu *to_vsmmu(struct iommufd_viommu *viommu)
{
	return container_of(viommu, struct arm_vsmmu, core);
}

/**
 * arm_smmu_hw_info() - Tell what an SMMU is like
 * @dev: device behind it
 * @length: where to put the size of what is returned
 * @type: the type that is asked for, one of enum iommu_hw_info_type, and where to put
 *        the type of what is returned
 *
 * The registers are read-only, and never change (IHI0070 6.3).
 *
 * Context: May sleep. The device keeps the SMMU.
 * Return: A struct iommu_hw_info_arm_smmuv3 that the caller frees, or an ERR_PTR:
 * -EOPNOTSUPP for another type, -ENOMEM.
 */
void *arm_smmu_hw_info(struct device *dev, u32 *length, u32 *type)
{
	struct arm_smmu_master *master = dev_iommu_priv_get(dev);
	static const u16 idr[] = {
		ARM_SMMU_IDR0, ARM_SMMU_IDR1, ARM_SMMU_IDR2,
		ARM_SMMU_IDR3, ARM_SMMU_IDR4, ARM_SMMU_IDR5,
	};
	void __iomem *base = master->smmu->base;
	struct iommu_hw_info_arm_smmuv3 *info;
	unsigned int i;

	static_assert(ARRAY_SIZE(idr) ==
		      sizeof_field(struct iommu_hw_info_arm_smmuv3, idr) /
			      sizeof(info->idr[0]));

	if (*type != IOMMU_HW_INFO_TYPE_DEFAULT &&
	    *type != IOMMU_HW_INFO_TYPE_ARM_SMMUV3)
		return ERR_PTR(-EOPNOTSUPP);

	info = kzalloc(sizeof(*info), GFP_KERNEL_ACCOUNT);
	if (!info)
		return ERR_PTR(-ENOMEM);

	for (i = 0; i < ARRAY_SIZE(idr); i++)
		info->idr[i] = readl_relaxed(base + idr[i]);
	info->iidr = readl_relaxed(base + ARM_SMMU_IIDR);
	info->aidr = readl_relaxed(base + ARM_SMMU_AIDR);

	*length = sizeof(*info);
	*type = IOMMU_HW_INFO_TYPE_ARM_SMMUV3;
	return info;
}

/*
 * A guest that writes stage 1 chooses memory attributes. It must not get behind the
 * CPUs' caches with them: the host has cleaned none of the memory that it has cleared
 * for the guest. Stage 2 with S2FWB, or the root complex, overrides them.
 *
 * Two things are not asked here. iommufd has refused devices that are not coherent by
 * themselves, without IOMMU_CAP_CACHE_COHERENCY. And what a device marks as No-Snoop
 * only the root complex overrides; about that IOMMU_CAP_ENFORCE_CACHE_COHERENCY tells,
 * as for a device without nesting.
 */
static bool arm_smmu_master_coherent(struct arm_smmu_master *master)
{
	return arm_smmu_master_canwbs(master) ||
	       master->smmu->features & ARM_SMMU_FEAT_S2FWB;
}

static int arm_vsmmu_init(struct iommufd_viommu *viommu,
			  struct iommu_domain *parent,
			  const struct iommu_user_data *user_data)
{
	struct arm_vsmmu *vsmmu = to_vsmmu(viommu);
	int ret;

	/* There are no data of this type, so it must be all zeros, and not endless */
	if (user_data) {
		if (user_data->len > PAGE_SIZE)
			return -E2BIG;
		ret = check_zeroed_user(user_data->uptr, user_data->len);
		if (ret <= 0)
			return ret ?: -E2BIG;
	}

	vsmmu->smmu = container_of(viommu->iommu_dev, struct arm_smmu_device,
				   iommu);
	vsmmu->parent = to_smmu_domain(parent);
	if (!arm_smmu_is_nest_parent(vsmmu->parent) ||
	    vsmmu->parent->smmu != vsmmu->smmu)
		return -EINVAL;

	vsmmu->vmid = arm_smmu_nest_parent_add_vmid(vsmmu->parent, vsmmu->smmu);
	return PTR_ERR_OR_ZERO(vsmmu->vmid);
}

/**
 * arm_smmu_nested_domain_parent() - Find stage 2 of a nested domain
 * @domain: nested domain
 *
 * Context: Any.
 * Return: the parent, which is there as long as @domain is.
 */
struct arm_smmu_domain *
arm_smmu_nested_domain_parent(struct iommu_domain *domain)
{
	return to_smmu_nested_domain(domain)->vsmmu->parent;
}

static unsigned int
arm_smmu_nested_domain_cfg(const struct arm_smmu_nested_domain *nested)
{
	return FIELD_GET(STRTAB_STE_0_CFG, le64_to_cpu(nested->ste[0]));
}

/* With a guest that bypasses it is the host's affair, as it is with the parent alone */
static bool
arm_smmu_nested_domain_allows_ats(const struct arm_smmu_nested_domain *nested)
{
	switch (arm_smmu_nested_domain_cfg(nested)) {
	case STRTAB_STE_0_CFG_S1_TRANS:
		return FIELD_GET(STRTAB_STE_1_EATS, le64_to_cpu(nested->ste[1])) ==
		       STRTAB_STE_1_EATS_TRANS;
	case STRTAB_STE_0_CFG_BYPASS:
		return true;
	default:
		return false;
	}
}

/*
 * What a guest may say of its STE. The rest is the host's: which stage 2 there is, and
 * what the SMMU does for the stream beside translating. What it may say can still be
 * ILLEGAL for the hardware (IHI0070 5.2.2), which then terminates what comes from the
 * device, and reports C_BAD_STE: that is the guest's own affair.
 */
#define ARM_SMMU_GUEST_STE_0                                          \
	cpu_to_le64(STRTAB_STE_0_V | STRTAB_STE_0_CFG |               \
		    STRTAB_STE_0_S1FMT | STRTAB_STE_0_S1CTXPTR_MASK | \
		    STRTAB_STE_0_S1CDMAX)
#define ARM_SMMU_GUEST_STE_1                                          \
	cpu_to_le64(STRTAB_STE_1_S1DSS | STRTAB_STE_1_S1CIR |         \
		    STRTAB_STE_1_S1COR | STRTAB_STE_1_S1CSH |         \
		    STRTAB_STE_1_S1STALLD | STRTAB_STE_1_EATS)

/*
 * Take over a guest's STE. An invalid one becomes a valid one that aborts, so that
 * nobody needs to look at V again.
 */
VISIBLE_IF_KUNIT
int arm_smmu_take_guest_ste(__le64 *ste, const __le64 *guest)
{
	unsigned int eats = FIELD_GET(STRTAB_STE_1_EATS, le64_to_cpu(guest[1]));

	if (!(guest[0] & cpu_to_le64(STRTAB_STE_0_V))) {
		ste[0] = cpu_to_le64(STRTAB_STE_0_V |
				     FIELD_PREP(STRTAB_STE_0_CFG,
						STRTAB_STE_0_CFG_ABORT));
		ste[1] = 0;
		return 0;
	}

	if (guest[0] & ~ARM_SMMU_GUEST_STE_0 ||
	    guest[1] & ~ARM_SMMU_GUEST_STE_1)
		return -EIO;

	switch (FIELD_GET(STRTAB_STE_0_CFG, le64_to_cpu(guest[0]))) {
	case STRTAB_STE_0_CFG_ABORT:
	case STRTAB_STE_0_CFG_BYPASS:
	case STRTAB_STE_0_CFG_S1_TRANS:
		break;
	default:
		return -EIO;
	}

	if (eats != STRTAB_STE_1_EATS_ABT && eats != STRTAB_STE_1_EATS_TRANS)
		return -EIO;

	ste[0] = guest[0];
	ste[1] = guest[1];
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(arm_smmu_take_guest_ste);

/*
 * The STE of a device that is attached to a nested domain.
 *
 * Bypass and translation have the same words but for stage 1, and the same VMID, so
 * that a guest goes from one to the other without losing DMA: see
 * arm_smmu_get_ste_used().
 *
 * The stream world is always NS-EL1, STRW is 0: with stage 2 there is no other
 * (IHI0070 5.2), whatever the host uses for its own stage 1.
 *
 * Nothing stalls: the SMMU has room for a number of stalls only, and a guest that
 * answers none would take it from all. S1STALLD depends on the SMMU alone, since where
 * it cannot stall, or must, the bit makes the STE ILLEGAL (3.12).
 *
 * MEV is set because all the events go to one queue, and the guest's devices can
 * cause any number of them.
 */
static void arm_smmu_make_nested_ste(struct arm_smmu_ste *target,
				     struct arm_smmu_master *master,
				     struct arm_smmu_nested_domain *nested,
				     bool ats_enabled)
{
	struct arm_vsmmu *vsmmu = nested->vsmmu;
	unsigned int cfg = arm_smmu_nested_domain_cfg(nested);

	if (cfg == STRTAB_STE_0_CFG_ABORT) {
		arm_smmu_make_abort_ste(target);
		return;
	}

	arm_smmu_make_s2_domain_ste(target, master, vsmmu->parent, ats_enabled);
	target->data[1] |= cpu_to_le64(STRTAB_STE_1_MEV);
	target->data[2] &= ~cpu_to_le64(STRTAB_STE_2_S2VMID | STRTAB_STE_2_S2S);
	target->data[2] |= cpu_to_le64(FIELD_PREP(STRTAB_STE_2_S2VMID,
						  vsmmu->vmid->vmid));
	if (cfg == STRTAB_STE_0_CFG_BYPASS)
		return;

	target->data[0] = nested->ste[0] & ~cpu_to_le64(STRTAB_STE_0_CFG);
	target->data[0] |= cpu_to_le64(FIELD_PREP(STRTAB_STE_0_CFG,
						  STRTAB_STE_0_CFG_NESTED));
	target->data[1] |= nested->ste[1] & ~cpu_to_le64(STRTAB_STE_1_S1STALLD |
							 STRTAB_STE_1_EATS);
	if (vsmmu->smmu->features & ARM_SMMU_FEAT_STALLS)
		target->data[1] |= cpu_to_le64(STRTAB_STE_1_S1STALLD);
}

static int arm_smmu_attach_dev_nested(struct iommu_domain *domain,
				      struct device *dev)
{
	struct arm_smmu_nested_domain *nested = to_smmu_nested_domain(domain);
	struct arm_smmu_master *master = dev_iommu_priv_get(dev);
	struct arm_vsmmu *vsmmu = nested->vsmmu;
	struct arm_smmu_attach_state state = {
		.master = master,
		.ssid = IOMMU_NO_PASID,
		.disable_ats = !arm_smmu_nested_domain_allows_ats(nested),
	};
	struct arm_smmu_ste ste;
	unsigned long virt_id;
	int ret;

	iommu_group_mutex_assert(dev);

	/* Faults do not stall, so there would be none to be answered */
	if (domain->iopf_handler)
		return -EOPNOTSUPP;
	/* The vIOMMU was made for one device, which may be another one */
	if (vsmmu->smmu != master->smmu || !arm_smmu_master_coherent(master))
		return -EINVAL;
	/* The host's CD table has no place in the STE */
	if (arm_smmu_ssids_in_use(&master->cd_table))
		return -EBUSY;
	/*
	 * The guest must be able to invalidate what it lets the device use. It may
	 * give that up later, by destroying the vdevice: then the device keeps this
	 * domain, also when an attach to another one fails and the core comes back
	 * to it. A device that joins a group, whose domain it is, has not had it.
	 */
	if ((!master->domain || iommu_get_domain_for_dev(dev) != domain) &&
	    arm_smmu_nested_domain_cfg(nested) == STRTAB_STE_0_CFG_S1_TRANS) {
		ret = iommufd_viommu_get_virt_id(&vsmmu->core, dev, &virt_id);
		if (ret)
			return ret;
	}

	mutex_lock(&vsmmu->smmu->asid_lock);
	ret = arm_smmu_attach_prepare(&state, domain);
	if (ret) {
		mutex_unlock(&vsmmu->smmu->asid_lock);
		return ret;
	}
	arm_smmu_make_nested_ste(&ste, master, nested, state.ats_enabled);
	arm_smmu_install_ste_for_dev(master, &ste);
	arm_smmu_attach_commit(&state);
	mutex_unlock(&vsmmu->smmu->asid_lock);

	arm_smmu_clear_cd(master, IOMMU_NO_PASID);
	return 0;
}

static struct iommu_domain *
arm_smmu_nested_msi_domain(struct iommu_domain *domain)
{
	return &arm_smmu_nested_domain_parent(domain)->domain;
}

static void arm_smmu_domain_free_nested(struct iommu_domain *domain)
{
	kfree(to_smmu_nested_domain(domain));
}

static const struct iommu_domain_ops arm_smmu_nested_ops = {
	.attach_dev	= arm_smmu_attach_dev_nested,
	.msi_domain	= arm_smmu_nested_msi_domain,
	.free		= arm_smmu_domain_free_nested,
};

static struct iommu_domain *
arm_vsmmu_alloc_domain_nested(struct iommufd_viommu *viommu,
			      const struct iommu_user_data *user_data)
{
	struct arm_smmu_nested_domain *nested;
	struct iommu_hwpt_arm_smmuv3 arg;
	int ret;

	ret = iommu_copy_struct_from_user(&arg, user_data,
					  IOMMU_HWPT_DATA_ARM_SMMUV3, ste);
	if (ret)
		return ERR_PTR(ret);

	nested = kzalloc(sizeof(*nested), GFP_KERNEL_ACCOUNT);
	if (!nested)
		return ERR_PTR(-ENOMEM);

	ret = arm_smmu_take_guest_ste(nested->ste, arg.ste);
	if (ret) {
		kfree(nested);
		return ERR_PTR(ret);
	}

	nested->domain.type = IOMMU_DOMAIN_NESTED;
	nested->domain.ops = &arm_smmu_nested_ops;
	nested->vsmmu = to_vsmmu(viommu);
	return &nested->domain;
}

/* No STE has the VMID: each nested domain keeps its vIOMMU */
static void arm_vsmmu_destroy(struct iommufd_viommu *viommu)
{
	struct arm_vsmmu *vsmmu = to_vsmmu(viommu);

	arm_smmu_nest_parent_del_vmid(vsmmu->parent, vsmmu->vmid);
}

/**
 * struct arm_vsmmu_streams - The streams of a device
 * @rcu: to free it
 * @ats: the device can use ATS
 * @ssid_bits: width of its SSIDs, 0 if it has none
 * @num: how many there are, at least one
 * @ids: their IDs, none of them twice
 *
 * Nothing of it changes. The device may be gone as soon as its vdevice is, so whoever
 * has found that under RCU looks here and not at the device.
 */
struct arm_vsmmu_streams {
	struct rcu_head rcu;
	bool ats;
	u8 ssid_bits;
	unsigned int num;
	u32 ids[] __counted_by(num);
};

/**
 * struct arm_vsmmu_vdevice - A device as a guest knows it
 * @core: what the core has of it
 * @streams: its streams. There as long as it is, under RCU.
 */
struct arm_vsmmu_vdevice {
	struct iommufd_vdevice core;
	struct arm_vsmmu_streams *streams;
};

static int arm_vsmmu_vdevice_init(struct iommufd_vdevice *vdev)
{
	struct arm_vsmmu_vdevice *vsmmu_vdev =
		container_of(vdev, struct arm_vsmmu_vdevice, core);
	struct arm_smmu_master *master = dev_iommu_priv_get(vdev->dev);
	struct arm_vsmmu_streams *streams;
	unsigned int i, j;

	streams = kzalloc(struct_size(streams, ids, master->num_streams),
			  GFP_KERNEL_ACCOUNT);
	if (!streams)
		return -ENOMEM;

	streams->ats = arm_smmu_ats_supported(master);
	streams->ssid_bits = master->ssid_bits;
	for (i = 0; i != master->num_streams; i++) {
		/* Bridged PCI devices may end up with duplicated IDs */
		for (j = 0; j != streams->num; j++)
			if (streams->ids[j] == master->streams[i].id)
				break;
		if (j != streams->num)
			continue;
		streams->num++;
		streams->ids[j] = master->streams[i].id;
	}

	vsmmu_vdev->streams = streams;
	return 0;
}

/* Commands that have found it may still use it */
static void arm_vsmmu_vdevice_destroy(struct iommufd_vdevice *vdev)
{
	struct arm_vsmmu_vdevice *vsmmu_vdev =
		container_of(vdev, struct arm_vsmmu_vdevice, core);

	kfree_rcu(vsmmu_vdev->streams, rcu);
}

/*
 * A guest's commands
 *
 * The queue is shared with the host and with other guests. A command that the SMMU
 * does not know stops it with an error, until the host has replaced it, and logs
 * that. So nothing gets there that is not understood here, to the last bit: see
 * arm_vsmmu_convert_cmd().
 *
 * The commands of an array take effect in their order. The SMMU may run commands at
 * the same time that are not separated by a CMD_SYNC (IHI0070 4.7), and the array has
 * none. So one is put in wherever a later command may count on an earlier one: a TLB
 * entry is made again from a context descriptor that was not invalidated yet, and a
 * device's ATC from such a TLB entry, so the order that matters is configuration, TLB,
 * ATC. Commands of the same kind do not count on each other, and what goes against
 * that order does not count on what came before.
 *
 * They are issued in batches, each of them whole, and waited for at its end. A batch is
 * what is in the queue with nobody else's commands in between, and with interrupts off
 * while the CPU waits, so it is no longer than the driver's own.
 *
 * A command that is counted has completed. A batch that fails is not counted at all:
 * what of it took effect nobody knows, and to invalidate again does no harm.
 */
enum arm_vsmmu_cmd_kind {
	ARM_VSMMU_CMD_CFGI,
	ARM_VSMMU_CMD_TLBI,
	ARM_VSMMU_CMD_ATC,
};

struct arm_vsmmu_cmd {
	u64 data[CMDQ_ENT_DWORDS];
	enum arm_vsmmu_cmd_kind kind;
	/* NULL, or it is to be given for each of them */
	const struct arm_vsmmu_streams *streams;
};

/* One slot is left for the CMD_SYNC at the end */
#define ARM_VSMMU_BATCH_ENTRIES	(CMDQ_BATCH_ENTRIES - 1)

#define ARM_VSMMU_TLBI_RANGE_0	(CMDQ_TLBI_0_NUM | CMDQ_TLBI_0_SCALE)
#define ARM_VSMMU_TLBI_RANGE_1	(CMDQ_TLBI_1_TTL | CMDQ_TLBI_1_TG)

/*
 * Range and level of an address-based TLBI, IHI0070 4.4.1.1: without a granule there is
 * neither, and without RIL there is no granule. A granule alone is CERROR_ILL.
 *
 * Level 1 of 4K and 64K tables can be named whatever the size of addresses. That of 16K
 * tables only can with SMMU_IDR5.DS, which nobody uses here: without it the hardware
 * takes it as no level, so there has to be a range.
 */
static bool arm_vsmmu_tlbi_range_valid(struct arm_smmu_device *smmu,
				       u64 cmd0, u64 cmd1)
{
	unsigned int tg = FIELD_GET(CMDQ_TLBI_1_TG, cmd1);
	unsigned int ttl = FIELD_GET(CMDQ_TLBI_1_TTL, cmd1);

	if (!tg)
		return !(cmd0 & ARM_VSMMU_TLBI_RANGE_0) && !ttl;

	/* 1, 2, 3 are 4K, 16K, 64K */
	if (!(smmu->features & ARM_SMMU_FEAT_RANGE_INV) ||
	    !(smmu->pgsize_bitmap & BIT(10 + 2 * tg)))
		return false;
	if (tg == 2 && ttl == 1)
		ttl = 0;
	return ttl || cmd0 & ARM_VSMMU_TLBI_RANGE_0;
}

/*
 * Check a command of a guest, and make it one of the host's: with the VMID of the
 * vIOMMU, and the streams of the device that it names by a virtual stream ID.
 *
 * What is not in the command's masks is refused, be it reserved, of another security
 * state, or of an extension that nobody has told the guest about. VMIDs are not looked
 * at: the guest has only one.
 */
static int arm_vsmmu_convert_cmd(struct arm_vsmmu *vsmmu, u64 cmd0, u64 cmd1,
				 struct arm_vsmmu_cmd *cmd)
{
	struct arm_smmu_device *smmu = vsmmu->smmu;
	u8 opcode = FIELD_GET(CMDQ_0_OP, cmd0);
	u64 mask0 = CMDQ_0_OP, mask1 = 0;
	struct iommufd_vdevice *vdev;

	RCU_LOCKDEP_WARN(!rcu_read_lock_held(),
			 "streams are only there under RCU");

	switch (opcode) {
	case CMDQ_OP_TLBI_NH_VA:
	case CMDQ_OP_TLBI_NH_VAA:
		mask0 |= ARM_VSMMU_TLBI_RANGE_0;
		mask1 |= ARM_VSMMU_TLBI_RANGE_1 | CMDQ_TLBI_1_LEAF |
			 CMDQ_TLBI_1_VA_MASK;
		if (!arm_vsmmu_tlbi_range_valid(smmu, cmd0, cmd1))
			return -EIO;
		fallthrough;
	case CMDQ_OP_TLBI_NH_ASID:
	case CMDQ_OP_TLBI_NH_ALL:
		mask0 |= CMDQ_TLBI_0_VMID;
		fallthrough;
	case CMDQ_OP_TLBI_NSNH_ALL:
		cmd->kind = ARM_VSMMU_CMD_TLBI;
		break;
	case CMDQ_OP_CFGI_CD:
		mask0 |= CMDQ_CFGI_0_SSID;
		mask1 |= CMDQ_CFGI_1_LEAF;
		fallthrough;
	case CMDQ_OP_CFGI_CD_ALL:
		mask0 |= CMDQ_CFGI_0_SID;
		cmd->kind = ARM_VSMMU_CMD_CFGI;
		break;
	case CMDQ_OP_ATC_INV:
		if (!(smmu->features & ARM_SMMU_FEAT_ATS) ||
		    FIELD_GET(CMDQ_ATC_1_SIZE, cmd1) > ATC_INV_SIZE_ALL)
			return -EIO;
		mask0 |= CMDQ_0_SSV | CMDQ_ATC_0_GLOBAL | CMDQ_ATC_0_SSID |
			 CMDQ_ATC_0_SID;
		mask1 |= CMDQ_ATC_1_SIZE | CMDQ_ATC_1_ADDR_MASK;
		cmd->kind = ARM_VSMMU_CMD_ATC;
		break;
	default:
		return -EIO;
	}

	if (opcode == CMDQ_OP_TLBI_NH_VA || opcode == CMDQ_OP_TLBI_NH_ASID) {
		mask0 |= CMDQ_TLBI_0_ASID;
		if (FIELD_GET(CMDQ_TLBI_0_ASID, cmd0) >> smmu->asid_bits)
			return -EIO;
	}

	if (cmd0 & ~mask0 || cmd1 & ~mask1)
		return -EIO;

	if (cmd->kind == ARM_VSMMU_CMD_TLBI) {
		/* To the guest, stage 1 of its VMID is everything */
		if (opcode == CMDQ_OP_TLBI_NSNH_ALL)
			u64p_replace_bits(&cmd0, CMDQ_OP_TLBI_NH_ALL, CMDQ_0_OP);
		u64p_replace_bits(&cmd0, vsmmu->vmid->vmid, CMDQ_TLBI_0_VMID);
		cmd->streams = NULL;
	} else {
		if (opcode == CMDQ_OP_CFGI_CD &&
		    FIELD_GET(CMDQ_CFGI_0_SSID, cmd0) >> smmu->ssid_bits)
			return -EIO;

		/* Stream IDs are in the same place in all of them */
		vdev = iommufd_viommu_find_vdevice(&vsmmu->core,
						   FIELD_GET(CMDQ_CFGI_0_SID, cmd0));
		if (!vdev)
			return -EIO;
		cmd->streams = container_of(vdev, struct arm_vsmmu_vdevice,
					    core)->streams;

		if (opcode == CMDQ_OP_ATC_INV) {
			if (!cmd->streams->ats)
				return -EIO;
			/*
			 * A device without PASIDs would not answer. Without
			 * SSV the hardware looks at neither, IHI0070 4.5.1.
			 */
			if (!(cmd0 & CMDQ_0_SSV))
				cmd0 &= ~(CMDQ_ATC_0_SSID | CMDQ_ATC_0_GLOBAL);
			else if (!cmd->streams->ssid_bits ||
				 FIELD_GET(CMDQ_ATC_0_SSID, cmd0) >>
					 cmd->streams->ssid_bits)
				return -EIO;
		}
		cmd0 &= ~CMDQ_CFGI_0_SID;
	}

	cmd->data[0] = cmd0;
	cmd->data[1] = cmd1;
	return 0;
}

/* Put a command in slots, for num of its streams from the one first on */
static void arm_vsmmu_put_cmd(u64 *slot, const struct arm_vsmmu_cmd *cmd,
			      unsigned int first, unsigned int num)
{
	unsigned int i;

	for (i = first; i != first + num; i++) {
		u64 sid = cmd->streams ? cmd->streams->ids[i] : 0;

		*slot++ = cmd->data[0] | FIELD_PREP(CMDQ_CFGI_0_SID, sid);
		*slot++ = cmd->data[1];
	}
}

/*
 * A command for more streams than a batch has room for. It takes the next batches for
 * itself, and is done when the last one is. The streams are kept by the RCU read-side
 * critical section meanwhile: that is longer than usual, and not more than it takes.
 */
static int arm_vsmmu_issue_long_cmd(struct arm_vsmmu *vsmmu,
				    const struct arm_vsmmu_cmd *cmd, u64 *slots)
{
	unsigned int first, num;
	int ret;

	for (first = 0; first != cmd->streams->num; first += num) {
		num = min(cmd->streams->num - first, ARM_VSMMU_BATCH_ENTRIES);
		arm_vsmmu_put_cmd(slots, cmd, first, num);
		ret = arm_smmu_cmdq_issue_guest_cmds(vsmmu->smmu, slots, num);
		if (ret)
			return ret;
	}
	return 0;
}

static int arm_vsmmu_cache_invalidate(struct iommufd_viommu *viommu,
				      const void *cmds, unsigned int num,
				      unsigned int *done)
{
	const struct iommu_viommu_arm_smmuv3_invalidate *guest = cmds;
	u64 slots[ARM_VSMMU_BATCH_ENTRIES * CMDQ_ENT_DWORDS];
	struct arm_vsmmu *vsmmu = to_vsmmu(viommu);
	enum arm_vsmmu_cmd_kind last = 0;
	unsigned int i, used = 0;
	int ret = 0, issue_ret;

	*done = 0;
	rcu_read_lock();
	for (i = 0; i != num; i++) {
		struct arm_vsmmu_cmd cmd;
		unsigned int need;
		bool sync;

		ret = arm_vsmmu_convert_cmd(vsmmu, le64_to_cpu(guest[i].cmd[0]),
					    le64_to_cpu(guest[i].cmd[1]), &cmd);
		if (ret)
			break;

		sync = used && cmd.kind > last;
		need = cmd.streams ? cmd.streams->num : 1;
		if (used + sync + need > ARM_VSMMU_BATCH_ENTRIES) {
			/* It is the first one of the next batch */
			if (used)
				break;
			ret = arm_vsmmu_issue_long_cmd(vsmmu, &cmd, slots);
			rcu_read_unlock();
			*done = !ret;
			return ret;
		}

		if (sync) {
			slots[used * CMDQ_ENT_DWORDS] =
				FIELD_PREP(CMDQ_0_OP, CMDQ_OP_CMD_SYNC) |
				FIELD_PREP(CMDQ_SYNC_0_CS, CMDQ_SYNC_0_CS_NONE);
			slots[used * CMDQ_ENT_DWORDS + 1] = 0;
			used++;
		}
		arm_vsmmu_put_cmd(&slots[used * CMDQ_ENT_DWORDS], &cmd, 0, need);
		used += need;
		last = cmd.kind;
	}
	rcu_read_unlock();

	if (used) {
		issue_ret = arm_smmu_cmdq_issue_guest_cmds(vsmmu->smmu, slots,
							   used);
		if (issue_ret)
			return issue_ret;
	}
	*done = i;
	return ret;
}

static const struct iommufd_viommu_ops arm_vsmmu_ops = {
	.viommu_size	= IOMMUFD_VIOMMU_SIZE(struct arm_vsmmu),
	.viommu_init	= arm_vsmmu_init,
	.viommu_destroy	= arm_vsmmu_destroy,
	.alloc_domain_nested = arm_vsmmu_alloc_domain_nested,
	.no_fault_queue	= true,
	.inv_type	= IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
	.inv_len	= sizeof(struct iommu_viommu_arm_smmuv3_invalidate),
	.inv_min_len	= sizeof(struct iommu_viommu_arm_smmuv3_invalidate),
	.cache_invalidate = arm_vsmmu_cache_invalidate,
	.vdevice_size	= IOMMUFD_VDEVICE_SIZE(struct arm_vsmmu_vdevice),
	.vdevice_init	= arm_vsmmu_vdevice_init,
	.vdevice_destroy = arm_vsmmu_vdevice_destroy,
};

/**
 * arm_smmu_viommu_ops() - Say how vIOMMUs are made of a device's SMMU
 * @dev: the device
 * @type: one of enum iommu_viommu_type
 *
 * Context: Any.
 * Return: the operations, or NULL if there are no such vIOMMUs, or not for this device.
 */
const struct iommufd_viommu_ops *arm_smmu_viommu_ops(struct device *dev,
						     unsigned int type)
{
	struct arm_smmu_master *master = dev_iommu_priv_get(dev);

	if (type != IOMMU_VIOMMU_TYPE_ARM_SMMUV3 ||
	    !arm_smmu_nesting_supported(master->smmu) ||
	    !arm_smmu_master_coherent(master))
		return NULL;
	return &arm_vsmmu_ops;
}

MODULE_IMPORT_NS(IOMMUFD);
