/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SMMUs that do not exist but in memory, for KUnit tests of the driver below its
 * probe.
 */
#ifndef _ARM_SMMU_V3_FAKE_H
#define _ARM_SMMU_V3_FAKE_H

#include <linux/platform_device.h>

#include "arm-smmu-v3.h"

struct kunit;

/**
 * struct arm_smmu_fake_config - What an SMMU is like
 * @features: ARM_SMMU_FEAT_* beside ARM_SMMU_FAKE_FEATURES
 * @lacks: those of ARM_SMMU_FAKE_FEATURES that it has not
 * @options: ARM_SMMU_OPT_*
 * @asid_bits: width of its ASIDs, or 0: 16
 * @vmid_bits: width of its VMIDs, or 0: 16
 * @ssid_bits: width of its SSIDs, or 0: ARM_SMMU_FAKE_SSID_BITS
 * @sid_bits: width of its stream IDs, or 0: ARM_SMMU_FAKE_SID_BITS
 * @cmdq_shift: log2 of the entries of its command queue, or 0:
 *	ARM_SMMU_FAKE_CMDQ_SHIFT
 */
struct arm_smmu_fake_config {
	u32			features;
	u32			lacks;
	u32			options;
	unsigned int		asid_bits;
	unsigned int		vmid_bits;
	unsigned int		ssid_bits;
	unsigned int		sid_bits;
	unsigned int		cmdq_shift;
};

#define ARM_SMMU_FAKE_FEATURES	(ARM_SMMU_FEAT_TT_LE | ARM_SMMU_FEAT_COHERENCY | \
				 ARM_SMMU_FEAT_TRANS_S1 | ARM_SMMU_FEAT_TRANS_S2 | \
				 ARM_SMMU_FEAT_NESTING | ARM_SMMU_FEAT_STALLS | \
				 ARM_SMMU_FEAT_ATS)
#define ARM_SMMU_FAKE_SSID_BITS		8
#define ARM_SMMU_FAKE_SID_BITS		8
#define ARM_SMMU_FAKE_CMDQ_SHIFT	14
#define ARM_SMMU_FAKE_EVTQ_SHIFT	7

/**
 * struct arm_smmu_fake - An SMMU
 * @smmu: what the driver sees of it
 * @test: the test that has it
 * @elm: in the list of SMMUs
 * @devices: its devices
 * @pdev: its device
 * @fwnode: node by which devices name it
 * @regs: its registers, page 0 and page 1
 * @impl_ops: lets it look at commands that are about to be built
 * @observe: called with each command, or the first one of a batch, before it is
 *	built; may be in atomic context. What the command is to make the SMMU
 *	look at again has been written.
 * @priv: for the test
 * @hung_cons: consumer index of a command queue that hangs
 * @seen: index of the command that is to be read next
 * @second: another command queue, if its supports_cmd is not NULL
 * @second_seen: as @seen, of that one
 * @second_busy: no other command or batch gets that one
 */
struct arm_smmu_fake {
	struct arm_smmu_device		smmu;
	struct kunit			*test;
	struct list_head		elm;
	struct list_head		devices;
	struct platform_device		*pdev;
	struct fwnode_handle		*fwnode;
	void				*regs;
	struct arm_smmu_impl_ops	impl_ops;
	void				(*observe)(struct arm_smmu_fake *fake,
						   const struct arm_smmu_cmdq_ent *ent);
	void				*priv;
	__le32				hung_cons;
	u32				seen;
	struct arm_smmu_cmdq		second;
	u32				second_seen;
	bool				second_busy;
};

/**
 * struct arm_smmu_fake_device_config - What a device behind one is like
 * @sids: its stream IDs
 * @many_sids: those instead, if not NULL; they stay as long as the device
 * @num_sids: how many it has
 * @pasid_bits: width of its PASIDs, or 0: it has none
 * @stall: its faults stall
 * @ats: it has an ATC
 * @refused: its group's domain is not for it, so it comes to be in no group
 * @identity: its default domain is the identity domain
 */
struct arm_smmu_fake_device_config {
	u32			sids[4];
	const u32		*many_sids;
	unsigned int		num_sids;
	unsigned int		pasid_bits;
	bool			stall;
	bool			ats;
	bool			refused;
	bool			identity;
};

/**
 * struct arm_smmu_fake_device - A device behind one
 * @config: what it is like
 * @fake: its SMMU
 * @elm: in the list of its devices
 * @pdev: the device
 * @ats_enabled: the driver has enabled ATS
 */
struct arm_smmu_fake_device {
	struct arm_smmu_fake_device_config config;
	struct arm_smmu_fake	*fake;
	struct list_head	elm;
	struct platform_device	*pdev;
	bool			ats_enabled;
};

/**
 * struct arm_smmu_fake_cmd - A command
 * @data: as it is in the queue, in the CPU's byte order
 */
struct arm_smmu_fake_cmd {
	u64 data[CMDQ_ENT_DWORDS];
};

struct arm_smmu_fake *arm_smmu_fake_add(struct kunit *test,
					const struct arm_smmu_fake_config *config);
void arm_smmu_fake_remove(struct arm_smmu_fake *fake);
struct arm_smmu_fake_device *
arm_smmu_fake_add_device(struct arm_smmu_fake *fake,
			 const struct arm_smmu_fake_device_config *config);
void arm_smmu_fake_remove_device(struct arm_smmu_fake_device *fdev);
void arm_smmu_fake_remove_all(void);

bool arm_smmu_fake_next_cmd(struct arm_smmu_fake *fake, struct arm_smmu_fake_cmd *cmd);
void arm_smmu_fake_skip_cmds(struct arm_smmu_fake *fake);
void arm_smmu_fake_expect_cmds(struct arm_smmu_fake *fake,
			       const struct arm_smmu_fake_cmd *cmds, unsigned int n);
void arm_smmu_fake_add_second_cmdq(struct arm_smmu_fake *fake,
				   bool (*supports_cmd)(struct arm_smmu_cmdq_ent *ent));
void arm_smmu_fake_expect_second_cmds(struct arm_smmu_fake *fake,
				      const struct arm_smmu_fake_cmd *cmds,
				      unsigned int n);
void arm_smmu_fake_hang(struct arm_smmu_fake *fake, unsigned int n);
void arm_smmu_fake_unhang(struct arm_smmu_fake *fake);

void arm_smmu_fake_event(struct arm_smmu_fake *fake, const u64 *evt);
void arm_smmu_fake_stall(struct arm_smmu_fake *fake, u32 sid, u32 ssid, u16 stag,
			 u64 addr, bool write);
void arm_smmu_fake_irq(struct arm_smmu_fake *fake);

const struct arm_smmu_ste *arm_smmu_fake_ste(struct arm_smmu_fake *fake, u32 sid);
const struct arm_smmu_cd *arm_smmu_fake_cd(struct arm_smmu_fake *fake, u32 sid, u32 ssid);

static inline const u32 *
arm_smmu_fake_sids(const struct arm_smmu_fake_device_config *config)
{
	return config->many_sids ?: config->sids;
}

static inline struct arm_smmu_master *
arm_smmu_fake_master(struct arm_smmu_fake_device *fdev)
{
	return dev_iommu_priv_get(&fdev->pdev->dev);
}

/* Commands as the architecture has them; nothing here is the driver's. */

static inline struct arm_smmu_fake_cmd arm_smmu_fake_cmd(u8 op, u64 word0, u64 word1)
{
	return (struct arm_smmu_fake_cmd) { {
		FIELD_PREP(CMDQ_0_OP, op) | word0, word1
	} };
}

static inline u8 arm_smmu_fake_op(const struct arm_smmu_fake_cmd *cmd)
{
	return FIELD_GET(CMDQ_0_OP, cmd->data[0]);
}

/* The one that the driver waits for, without MSIs */
static inline struct arm_smmu_fake_cmd arm_smmu_fake_sync(void)
{
	return arm_smmu_fake_cmd(CMDQ_OP_CMD_SYNC,
				 FIELD_PREP(CMDQ_SYNC_0_CS, CMDQ_SYNC_0_CS_SEV) |
				 FIELD_PREP(CMDQ_SYNC_0_MSH, ARM_SMMU_SH_ISH) |
				 FIELD_PREP(CMDQ_SYNC_0_MSIATTR, ARM_SMMU_MEMATTR_OIWB),
				 0);
}

static inline struct arm_smmu_fake_cmd arm_smmu_fake_cfgi_ste(u32 sid)
{
	return arm_smmu_fake_cmd(CMDQ_OP_CFGI_STE, FIELD_PREP(CMDQ_CFGI_0_SID, sid),
				 CMDQ_CFGI_1_LEAF);
}

static inline struct arm_smmu_fake_cmd arm_smmu_fake_cfgi_cd(u32 sid, u32 ssid)
{
	return arm_smmu_fake_cmd(CMDQ_OP_CFGI_CD,
				 FIELD_PREP(CMDQ_CFGI_0_SID, sid) |
				 FIELD_PREP(CMDQ_CFGI_0_SSID, ssid),
				 CMDQ_CFGI_1_LEAF);
}

static inline struct arm_smmu_fake_cmd arm_smmu_fake_tlbi_asid(u8 op, u16 asid)
{
	return arm_smmu_fake_cmd(op, FIELD_PREP(CMDQ_TLBI_0_ASID, asid), 0);
}

/* @size: log2 of the number of pages of 4K, or ATC_INV_SIZE_ALL */
static inline struct arm_smmu_fake_cmd
arm_smmu_fake_atc_inv(u32 sid, u32 ssid, u64 addr, unsigned int size)
{
	return arm_smmu_fake_cmd(CMDQ_OP_ATC_INV,
				 FIELD_PREP(CMDQ_0_SSV, ssid != IOMMU_NO_PASID) |
				 FIELD_PREP(CMDQ_ATC_0_SID, sid) |
				 FIELD_PREP(CMDQ_ATC_0_SSID, ssid),
				 addr | FIELD_PREP(CMDQ_ATC_1_SIZE, size));
}

static inline struct arm_smmu_fake_cmd
arm_smmu_fake_resume(u32 sid, u16 stag, unsigned int resp)
{
	return arm_smmu_fake_cmd(CMDQ_OP_RESUME,
				 FIELD_PREP(CMDQ_RESUME_0_SID, sid) |
				 FIELD_PREP(CMDQ_RESUME_0_RESP, resp),
				 FIELD_PREP(CMDQ_RESUME_1_STAG, stag));
}

#endif /* _ARM_SMMU_V3_FAKE_H */
