// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of arm-smmu-v3's SVA: what the driver writes to the tables and command
 * queues of two SMMUs in memory, when mms are bound to devices behind them.
 *
 * What can be known beforehand is compared command by command. That a table had been
 * written when the SMMU was told to look at it again is seen by looking at that
 * moment (arm_smmu_fake::observe).
 */

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/cpufeature.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mmu_context.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "arm-smmu-v3-fake.h"
#include "../../io-pgtable-arm.h"

#define AST_MMS		4
#define AST_BONDS	8

/**
 * struct ast_bond - A device that is bound
 * @sva: the bond
 * @fdev: the device
 * @mm: the mm
 * @pasid: its PASID
 * @asid: its ASID on the device's SMMU
 */
struct ast_bond {
	struct iommu_sva		*sva;
	struct arm_smmu_fake_device	*fdev;
	struct mm_struct		*mm;
	u32				pasid;
	u16				asid;
};

/**
 * struct ast_watch - What an SMMU could see when it was told to look
 * @fdev: a device
 * @ssid: a PASID of it
 * @asid: an ASID of its SMMU
 * @cfgis: how many CFGI_CDs there were
 * @cd: the context descriptor at the last one
 * @tlbis: how many invalidations of an ASID, or in it, there were
 * @tlbi_cd: the context descriptor at the last one
 * @tlbi_asid: the ASID was in use then
 * @stall_at: number of the CFGI_CD at which a transaction stalls, or 0
 * @stall_again: another one stalls when the next one is answered
 * @stag: its tag
 */
struct ast_watch {
	struct arm_smmu_fake_device	*fdev;
	u32				ssid;
	u16				asid;
	unsigned int			cfgis;
	struct arm_smmu_cd		cd;
	unsigned int			tlbis;
	struct arm_smmu_cd		tlbi_cd;
	bool				tlbi_asid;
	unsigned int			stall_at;
	bool				stall_again;
	u16				stag;
};

/**
 * struct ast_cmds - Commands that are expected
 * @cmds: the commands
 * @n: how many
 */
struct ast_cmds {
	struct arm_smmu_fake_cmd	cmds[128];
	unsigned int			n;
};

/**
 * struct ast - A test
 * @test: the KUnit test
 * @fakes: two SMMUs
 * @mms: mms
 * @bonds: what is bound, for the exit
 * @watch: what is looked at
 * @cmds: commands that are expected; too many for the stack
 */
struct ast {
	struct kunit		*test;
	struct arm_smmu_fake	*fakes[2];
	struct mm_struct	*mms[AST_MMS];
	struct ast_bond		bonds[AST_BONDS];
	struct ast_watch	watch;
	struct ast_cmds		cmds;
};

/**
 * struct ast_param - What the SMMUs are like
 * @desc: in words
 * @config: for the fake
 * @pasid_bits: width of their devices' PASIDs
 * @sid: added to these' stream IDs
 */
struct ast_param {
	const char			*desc;
	struct arm_smmu_fake_config	config;
	unsigned int			pasid_bits;
	u32				sid;
};

static const struct ast_param ast_params[] = {
	{
		.desc = "linear tables",
		.pasid_bits = 8,
	}, {
		.desc = "two levels",
		.config = {
			.features = ARM_SMMU_FEAT_2_LVL_STRTAB |
				    ARM_SMMU_FEAT_2_LVL_CDTAB,
			.ssid_bits = 16,
			.sid_bits = 16,
		},
		.pasid_bits = 12,
		.sid = 0x1300,
	}, {
		.desc = "ranges, EL2",
		.config = {
			.features = ARM_SMMU_FEAT_RANGE_INV | ARM_SMMU_FEAT_HYP |
				    ARM_SMMU_FEAT_E2H,
		},
		.pasid_bits = 6,
		.sid = 0x40,
	}, {
		.desc = "forced stalls, small queue",
		.config = {
			.features = ARM_SMMU_FEAT_STALL_FORCE,
			.cmdq_shift = 7,
		},
		.pasid_bits = 8,
	},
};

static void ast_param_desc(const struct ast_param *param, char *desc)
{
	strscpy(desc, param->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ast, ast_params, ast_param_desc);

/* SMMUs, devices, mms and bonds */

static struct arm_smmu_fake *ast_add_fake(struct ast *t, unsigned int i)
{
	const struct ast_param *param = t->test->param_value;
	static const struct arm_smmu_fake_config none;

	t->fakes[i] = arm_smmu_fake_add(t->test, param ? &param->config : &none);
	t->fakes[i]->priv = t;
	return t->fakes[i];
}

static struct arm_smmu_fake_device *
ast_add_device(struct ast *t, struct arm_smmu_fake *fake,
	       struct arm_smmu_fake_device_config config)
{
	const struct ast_param *param = t->test->param_value;

	config.pasid_bits = param ? param->pasid_bits : 8;
	for (unsigned int i = 0; param && i < config.num_sids; i++)
		config.sids[i] += param->sid;
	return arm_smmu_fake_add_device(fake, &config);
}

/* Four devices: one with an ATC, one with two streams, one without, one beyond. */
struct ast_devices {
	struct arm_smmu_fake_device *one, *two, *no_atc, *other;
};

static struct ast_devices ast_add_devices(struct ast *t)
{
	struct arm_smmu_fake *fake = ast_add_fake(t, 0), *other = ast_add_fake(t, 1);
	struct ast_devices devs = {
		.one = ast_add_device(t, fake, (struct arm_smmu_fake_device_config) {
			.sids = { 0x10 }, .num_sids = 1, .ats = true, .stall = true,
		}),
		.two = ast_add_device(t, fake, (struct arm_smmu_fake_device_config) {
			.sids = { 0x20, 0x21 }, .num_sids = 2, .ats = true,
		}),
		.no_atc = ast_add_device(t, fake, (struct arm_smmu_fake_device_config) {
			.sids = { 0x30 }, .num_sids = 1,
		}),
		/* the same stream of another SMMU */
		.other = ast_add_device(t, other, (struct arm_smmu_fake_device_config) {
			.sids = { 0x10 }, .num_sids = 1, .ats = true, .stall = true,
		}),
	};

	arm_smmu_fake_skip_cmds(fake);
	arm_smmu_fake_skip_cmds(other);
	return devs;
}

static struct mm_struct *ast_mm(struct ast *t, unsigned int i)
{
	struct mm_struct *mm = mm_alloc();

	KUNIT_ASSERT_NULL(t->test, t->mms[i]);
	KUNIT_ASSERT_NOT_NULL(t->test, mm);
	mm->task_size = TASK_SIZE;
	mm->def_flags = VM_NOHUGEPAGE;
	arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	t->mms[i] = mm;
	return mm;
}

static void ast_mm_exit(struct ast *t, unsigned int i)
{
	mmput(t->mms[i]);
	t->mms[i] = NULL;
}

static struct arm_smmu_domain *ast_domain(struct ast_bond *bond)
{
	return to_smmu_domain(bond->sva->handle.domain);
}

static struct ast_bond *ast_bind(struct ast *t, struct arm_smmu_fake_device *fdev,
				 struct mm_struct *mm)
{
	struct ast_bond *bond = t->bonds;
	struct iommu_sva *sva;

	while (bond->sva)
		bond++;
	KUNIT_ASSERT_LT(t->test, bond - t->bonds, AST_BONDS);

	sva = iommu_sva_bind_device(&fdev->pdev->dev, mm);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, sva);
	*bond = (struct ast_bond) {
		.sva = sva,
		.fdev = fdev,
		.mm = mm,
		.pasid = iommu_sva_get_pasid(sva),
	};
	bond->asid = ast_domain(bond)->cd.asid;
	KUNIT_EXPECT_EQ(t->test, bond->pasid, mm_get_enqcmd_pasid(mm));
	KUNIT_EXPECT_PTR_EQ(t->test, ast_domain(bond)->smmu, &fdev->fake->smmu);
	KUNIT_EXPECT_PTR_EQ(t->test, xa_load(&fdev->fake->smmu.asid_xa, bond->asid),
			    (void *)ast_domain(bond));
	return bond;
}

static void ast_unbind(struct ast_bond *bond)
{
	struct iommu_sva *sva = bond->sva;

	bond->sva = NULL;
	iommu_sva_unbind_device(sva);
}

static unsigned int ast_asids(struct arm_smmu_fake *fake)
{
	unsigned long asid;
	unsigned int n = 0;
	void *domain;

	xa_for_each(&fake->smmu.asid_xa, asid, domain)
		n++;
	return n;
}

/* The domain's list has these bonds' devices, and no others. */
static void ast_expect_masters(struct ast *t, struct ast_bond *const *bonds, unsigned int n)
{
	struct arm_smmu_domain *smmu_domain = ast_domain(bonds[0]);
	struct arm_smmu_master_domain *md;
	unsigned int found = 0, ats = 0;

	list_for_each_entry(md, &smmu_domain->devices, devices_elm) {
		unsigned int i = 0;

		while (i < n && arm_smmu_fake_master(bonds[i]->fdev) != md->master)
			i++;
		KUNIT_ASSERT_LT(t->test, i, n);
		KUNIT_EXPECT_EQ(t->test, md->ssid, bonds[i]->pasid);
		KUNIT_EXPECT_FALSE(t->test, found & BIT(i));
		found |= BIT(i);
		ats += bonds[i]->fdev->config.ats;
	}
	KUNIT_EXPECT_EQ(t->test, found, BIT(n) - 1);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&smmu_domain->nr_ats_masters), ats);
}

/* Context descriptors */

static u64 ast_cd0(const struct arm_smmu_cd *cd)
{
	return le64_to_cpu(cd->data[0]);
}

static void ast_check_cd(struct ast *t, const struct ast_bond *bond,
			 const struct arm_smmu_cd *cd, bool exited)
{
	struct arm_smmu_master *master = arm_smmu_fake_master(bond->fdev);
	bool forced = master->smmu->features & ARM_SMMU_FEAT_STALL_FORCE;
	u64 tg0 = IS_ENABLED(CONFIG_ARM64_64K_PAGES) ? ARM_LPAE_TCR_TG0_64K :
		  IS_ENABLED(CONFIG_ARM64_16K_PAGES) ? ARM_LPAE_TCR_TG0_16K :
						       ARM_LPAE_TCR_TG0_4K;
	struct kunit *test = t->test;
	struct arm_smmu_cd want;
	u64 word0;

	KUNIT_ASSERT_NOT_NULL(test, cd);
	arm_smmu_make_sva_cd(&want, master, exited ? NULL : bond->mm, bond->asid);
	KUNIT_EXPECT_MEMEQ(test, cd, &want, sizeof(want));

	/* and what of that is not to be what the driver says */
	word0 = ast_cd0(cd);
	KUNIT_EXPECT_TRUE(test, word0 & CTXDESC_CD_0_V);
	KUNIT_EXPECT_TRUE(test, word0 & CTXDESC_CD_0_AA64);
	KUNIT_EXPECT_TRUE(test, word0 & CTXDESC_CD_0_A);
	KUNIT_EXPECT_TRUE(test, word0 & CTXDESC_CD_0_ASET);
	KUNIT_EXPECT_TRUE(test, word0 & CTXDESC_CD_0_TCR_EPD1);
	KUNIT_EXPECT_EQ(test, FIELD_GET(CTXDESC_CD_0_ASID, word0), bond->asid);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(cd->data[3]), read_sysreg(mair_el1));
	KUNIT_EXPECT_EQ(test, !!(word0 & CTXDESC_CD_0_TCR_EPD0), exited);
	if (exited) {
		KUNIT_EXPECT_EQ(test, !!(word0 & CTXDESC_CD_0_S), forced);
		KUNIT_EXPECT_EQ(test, !!(word0 & CTXDESC_CD_0_R), forced);
		KUNIT_EXPECT_EQ(test, le64_to_cpu(cd->data[1]), 0);
		return;
	}
	KUNIT_EXPECT_EQ(test, !!(word0 & CTXDESC_CD_0_S), bond->fdev->config.stall || forced);
	KUNIT_EXPECT_TRUE(test, word0 & CTXDESC_CD_0_R);
	KUNIT_EXPECT_EQ(test, FIELD_GET(CTXDESC_CD_0_TCR_T0SZ, word0), 64 - vabits_actual);
	KUNIT_EXPECT_EQ(test, FIELD_GET(CTXDESC_CD_0_TCR_TG0, word0), tg0);
	KUNIT_EXPECT_EQ(test, FIELD_GET(CTXDESC_CD_0_TCR_SH0, word0), ARM_LPAE_TCR_SH_IS);
	KUNIT_EXPECT_EQ(test, le64_to_cpu(cd->data[1]), virt_to_phys(bond->mm->pgd));
}

/* All of the device's streams find the mm, or what an mm that exits leaves. */
static void ast_expect_cd(struct ast *t, const struct ast_bond *bond, bool exited)
{
	const struct arm_smmu_fake_device_config *config = &bond->fdev->config;

	for (unsigned int i = 0; i < config->num_sids; i++)
		ast_check_cd(t, bond, arm_smmu_fake_cd(bond->fdev->fake, config->sids[i],
						       bond->pasid), exited);
}

static void ast_expect_no_cd(struct ast *t, const struct arm_smmu_fake_device *fdev, u32 ssid)
{
	static const struct arm_smmu_cd none;

	for (unsigned int i = 0; i < fdev->config.num_sids; i++) {
		const struct arm_smmu_cd *cd =
			arm_smmu_fake_cd(fdev->fake, fdev->config.sids[i], ssid);

		if (cd)
			KUNIT_EXPECT_MEMEQ(t->test, cd, &none, sizeof(none));
	}
}

/* Called by the driver, maybe in atomic context: just look. */
static void ast_observe(struct arm_smmu_fake *fake, const struct arm_smmu_cmdq_ent *ent)
{
	struct ast_watch *watch = &((struct ast *)fake->priv)->watch;
	u32 sid = watch->fdev->config.sids[0];
	static const struct arm_smmu_cd none;
	const struct arm_smmu_cd *cd;

	if (fake != watch->fdev->fake)
		return;

	cd = arm_smmu_fake_cd(fake, sid, watch->ssid);
	switch (ent->opcode) {
	case CMDQ_OP_CFGI_CD:
		if (ent->cfgi.ssid != watch->ssid)
			break;
		watch->cd = cd ? *cd : none;
		if (++watch->cfgis == watch->stall_at)
			arm_smmu_fake_stall(fake, sid, watch->ssid, watch->stag, 0, false);
		break;
	case CMDQ_OP_RESUME:
		if (watch->stall_again)
			arm_smmu_fake_stall(fake, sid, watch->ssid, watch->stag, 0, false);
		watch->stall_again = false;
		break;
	case CMDQ_OP_TLBI_NH_ASID:
	case CMDQ_OP_TLBI_EL2_ASID:
	case CMDQ_OP_TLBI_NH_VA:
	case CMDQ_OP_TLBI_EL2_VA:
		if (ent->tlbi.asid != watch->asid)
			break;
		watch->tlbis++;
		watch->tlbi_cd = cd ? *cd : none;
		watch->tlbi_asid = xa_load(&fake->smmu.asid_xa, watch->asid);
		break;
	}
}

static void ast_watch(struct ast *t, struct arm_smmu_fake_device *fdev, u32 ssid, u16 asid)
{
	t->watch = (struct ast_watch) {
		.fdev = fdev,
		.ssid = ssid,
		.asid = asid,
	};
	for (unsigned int i = 0; i < ARRAY_SIZE(t->fakes); i++) {
		if (t->fakes[i])
			t->fakes[i]->observe = ast_observe;
	}
}

static void ast_watch_bond(struct ast *t, struct ast_bond *bond)
{
	ast_watch(t, bond->fdev, bond->pasid, bond->asid);
}

/* Commands */

static void ast_add(struct ast *t, struct arm_smmu_fake_cmd cmd)
{
	KUNIT_ASSERT_LT(t->test, t->cmds.n, ARRAY_SIZE(t->cmds.cmds));
	t->cmds.cmds[t->cmds.n++] = cmd;
}

/* There are the commands that were added, or none. */
static void ast_expect(struct ast *t, struct arm_smmu_fake *fake)
{
	arm_smmu_fake_expect_cmds(fake, t->cmds.cmds, t->cmds.n);
	t->cmds.n = 0;
}

/* A descriptor is written in two steps, of which one sets or clears V, or EPD0. */
static void ast_add_cfgi(struct ast *t, const struct ast_bond *bond)
{
	const struct arm_smmu_fake_device_config *config = &bond->fdev->config;

	for (unsigned int step = 0; step < 2; step++) {
		for (unsigned int i = 0; i < config->num_sids; i++)
			ast_add(t, arm_smmu_fake_cfgi_cd(config->sids[i], bond->pasid));
		ast_add(t, arm_smmu_fake_sync());
	}
}

/* A device's part of an invalidation of ATCs, without the SYNC */
static void ast_add_atc(struct ast *t, const struct ast_bond *bond, u64 addr,
			unsigned int size)
{
	const struct arm_smmu_fake_device_config *config = &bond->fdev->config;

	for (unsigned int i = 0; config->ats && i < config->num_sids; i++)
		ast_add(t, arm_smmu_fake_atc_inv(config->sids[i], bond->pasid, addr, size));
}

static void ast_add_atc_all(struct ast *t, const struct ast_bond *bond)
{
	if (!bond->fdev->config.ats)
		return;
	ast_add_atc(t, bond, 0, ATC_INV_SIZE_ALL);
	ast_add(t, arm_smmu_fake_sync());
}

static bool ast_e2h(struct arm_smmu_fake *fake)
{
	return fake->smmu.features & ARM_SMMU_FEAT_E2H;
}

static void ast_add_tlbi_asid(struct ast *t, struct arm_smmu_fake *fake, u16 asid)
{
	ast_add(t, arm_smmu_fake_tlbi_asid(ast_e2h(fake) ? CMDQ_OP_TLBI_EL2_ASID :
							      CMDQ_OP_TLBI_NH_ASID, asid));
	ast_add(t, arm_smmu_fake_sync());
}

/* Tests */

/*
 * The descriptors of what is bound, and the commands that follow them; what is
 * unbound is cleared, and forgotten before its ASID is free.
 */
static void ast_test_bind(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct arm_smmu_fake *fake = t->fakes[0], *other = t->fakes[1];
	unsigned int asids = ast_asids(fake), other_asids = ast_asids(other);
	struct mm_struct *mm = ast_mm(t, 0);
	struct arm_smmu_fake_device *fdevs[] = {
		devs.one, devs.two, devs.no_atc, devs.other,
	};
	struct ast_bond *bonds[ARRAY_SIZE(fdevs)];
	u32 pasid;

	/* From now on the mm has a PASID. */
	ast_unbind(ast_bind(t, devs.one, mm));
	pasid = mm_get_enqcmd_pasid(mm);
	arm_smmu_fake_skip_cmds(fake);

	for (unsigned int i = 0; i < ARRAY_SIZE(fdevs); i++) {
		ast_watch(t, fdevs[i], pasid, 0);
		bonds[i] = ast_bind(t, fdevs[i], mm);
		KUNIT_ASSERT_EQ(test, bonds[i]->pasid, pasid);
		ast_expect_cd(t, bonds[i], false);
		/* It was so when the SMMU was told last. */
		KUNIT_EXPECT_EQ(test, t->watch.cfgis, 2);
		ast_check_cd(t, bonds[i], &t->watch.cd, false);

		ast_add_cfgi(t, bonds[i]);
		ast_add_atc_all(t, bonds[i]);
		ast_expect(t, fdevs[i]->fake);
		ast_expect(t, fdevs[i]->fake == fake ? other : fake);
		KUNIT_EXPECT_EQ(test, arm_smmu_fake_master(fdevs[i])->cd_table.used_ssids, 1);
	}

	/* One domain, and one ASID, for each instance */
	KUNIT_EXPECT_EQ(test, ast_asids(fake), asids + 1);
	KUNIT_EXPECT_EQ(test, ast_asids(other), other_asids + 1);
	KUNIT_EXPECT_PTR_EQ(test, ast_domain(bonds[0]), ast_domain(bonds[1]));
	KUNIT_EXPECT_PTR_EQ(test, ast_domain(bonds[0]), ast_domain(bonds[2]));
	KUNIT_EXPECT_PTR_NE(test, ast_domain(bonds[0]), ast_domain(bonds[3]));
	ast_expect_masters(t, bonds, 3);
	ast_expect_masters(t, bonds + 3, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(fdevs); i++) {
		for (unsigned int j = 0; j < ARRAY_SIZE(fdevs); j++) {
			struct iommu_domain *domain = bonds[i]->sva->handle.domain;
			struct device *dev = &fdevs[j]->pdev->dev;

			KUNIT_EXPECT_EQ(test, iommu_domain_compatible(domain, dev),
					fdevs[i]->fake == fdevs[j]->fake);
		}
	}

	/* Whoever is not the last leaves what the others have. */
	for (unsigned int i = 0; i < ARRAY_SIZE(fdevs); i++) {
		bool last = i >= 2;

		ast_watch_bond(t, bonds[i]);
		ast_unbind(bonds[i]);
		ast_expect_no_cd(t, fdevs[i], bonds[i]->pasid);
		KUNIT_EXPECT_EQ(test, t->watch.cfgis, 2);
		KUNIT_EXPECT_EQ(test, ast_cd0(&t->watch.cd), 0);
		KUNIT_EXPECT_EQ(test, t->watch.tlbis, last);
		KUNIT_EXPECT_EQ(test, ast_cd0(&t->watch.tlbi_cd), 0);
		KUNIT_EXPECT_EQ(test, t->watch.tlbi_asid, last);
		if (last)
			KUNIT_EXPECT_NULL(test, xa_load(&fdevs[i]->fake->smmu.asid_xa,
							bonds[i]->asid));

		ast_add_cfgi(t, bonds[i]);
		ast_add_atc_all(t, bonds[i]);
		if (last)
			ast_add_tlbi_asid(t, fdevs[i]->fake, bonds[i]->asid);
		ast_expect(t, fdevs[i]->fake);
		ast_expect(t, fdevs[i]->fake == fake ? other : fake);
		KUNIT_EXPECT_EQ(test, arm_smmu_fake_master(fdevs[i])->cd_table.used_ssids, 0);

		for (unsigned int j = i + 1; j < ARRAY_SIZE(fdevs); j++)
			ast_expect_cd(t, bonds[j], false);
		if (i < 2)
			ast_expect_masters(t, bonds + i + 1, 2 - i);
	}
	KUNIT_EXPECT_EQ(test, ast_asids(fake), asids);
	KUNIT_EXPECT_EQ(test, ast_asids(other), other_asids);
}

/* Several mms on one device, and a bond that is counted */
static void ast_test_mms(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct ast_bond *bonds[AST_MMS], *again;

	for (unsigned int i = 0; i < AST_MMS; i++) {
		bonds[i] = ast_bind(t, devs.two, ast_mm(t, i));
		for (unsigned int j = 0; j < i; j++) {
			KUNIT_EXPECT_NE(test, bonds[i]->pasid, bonds[j]->pasid);
			KUNIT_EXPECT_NE(test, bonds[i]->asid, bonds[j]->asid);
		}
	}
	arm_smmu_fake_skip_cmds(t->fakes[0]);
	again = ast_bind(t, devs.two, t->mms[0]);
	KUNIT_EXPECT_PTR_EQ(test, again->sva, bonds[0]->sva);
	ast_unbind(again);
	ast_expect(t, t->fakes[0]);
	KUNIT_EXPECT_EQ(test, arm_smmu_fake_master(devs.two)->cd_table.used_ssids, AST_MMS);

	for (unsigned int i = 0; i < AST_MMS; i++) {
		for (unsigned int j = i; j < AST_MMS; j++)
			ast_expect_cd(t, bonds[j], false);
		ast_unbind(bonds[i]);
		ast_expect_no_cd(t, devs.two, bonds[i]->pasid);
	}
}

/* The identity domain has no descriptors: the streams change while PASIDs are used. */
static void ast_test_identity(struct kunit *test)
{
	struct ast *t = test->priv;
	struct arm_smmu_fake *fake = ast_add_fake(t, 0);
	struct arm_smmu_fake_device *fdev =
		ast_add_device(t, fake, (struct arm_smmu_fake_device_config) {
			.sids = { 0x10, 0x11 }, .num_sids = 2, .ats = true, .identity = true,
		});
	u32 *sids = fdev->config.sids;
	struct arm_smmu_ste bypass, want;
	struct arm_smmu_fake_cmd cmd;
	unsigned int l1s = 0, cds = 0, stes = 0;
	struct ast_bond *bond, *second;

	arm_smmu_make_bypass_ste(&fake->smmu, &bypass);
	KUNIT_EXPECT_FALSE(test, fdev->ats_enabled);
	for (unsigned int i = 0; i < 2; i++)
		KUNIT_EXPECT_MEMEQ(test, arm_smmu_fake_ste(fake, sids[i]), &bypass,
				   sizeof(bypass));
	arm_smmu_fake_skip_cmds(fake);

	bond = ast_bind(t, fdev, ast_mm(t, 0));
	arm_smmu_make_cdtable_ste(&want, arm_smmu_fake_master(fdev), true,
				  STRTAB_STE_1_S1DSS_BYPASS);
	for (unsigned int i = 0; i < 2; i++)
		KUNIT_EXPECT_MEMEQ(test, arm_smmu_fake_ste(fake, sids[i]), &want,
				   sizeof(want));
	ast_expect_cd(t, bond, false);
	KUNIT_EXPECT_TRUE(test, fdev->ats_enabled);
	/* First the descriptor, then the streams, and at last the ATC is emptied. */
	while (t->cmds.n < 3 && arm_smmu_fake_next_cmd(fake, &cmd)) {
		u8 op = arm_smmu_fake_op(&cmd);

		KUNIT_EXPECT_TRUE(test, op != CMDQ_OP_CFGI_CD || !stes);
		cds += op == CMDQ_OP_CFGI_CD && cmd.data[1] & CMDQ_CFGI_1_LEAF;
		l1s += op == CMDQ_OP_CFGI_CD && !(cmd.data[1] & CMDQ_CFGI_1_LEAF);
		stes += op == CMDQ_OP_CFGI_STE;
		if (op == CMDQ_OP_ATC_INV || t->cmds.n)
			ast_add(t, cmd);
	}
	KUNIT_EXPECT_EQ(test, l1s, arm_smmu_fake_master(fdev)->cd_table.s1fmt ==
			STRTAB_STE_0_S1FMT_64K_L2 ? 2 : 0);
	KUNIT_EXPECT_EQ(test, cds, 4);
	KUNIT_EXPECT_GE(test, stes, 4);
	KUNIT_ASSERT_EQ(test, t->cmds.n, 3);
	for (unsigned int i = 0; i < 3; i++) {
		struct arm_smmu_fake_cmd last =
			i == 2 ? arm_smmu_fake_sync() :
			arm_smmu_fake_atc_inv(sids[i], IOMMU_NO_PASID, 0, ATC_INV_SIZE_ALL);

		KUNIT_EXPECT_MEMEQ(test, &t->cmds.cmds[i], &last, sizeof(last));
	}
	t->cmds.n = 0;
	ast_expect(t, fake);

	/* A second PASID changes no stream, nor does the first one's end. */
	second = ast_bind(t, fdev, ast_mm(t, 1));
	ast_add_cfgi(t, second);
	ast_add_atc_all(t, second);
	ast_expect(t, fake);
	ast_unbind(bond);
	ast_add_cfgi(t, bond);
	ast_add_atc_all(t, bond);
	ast_add_tlbi_asid(t, fake, bond->asid);
	ast_expect(t, fake);
	ast_expect_cd(t, second, false);

	ast_unbind(second);
	for (unsigned int i = 0; i < 2; i++)
		KUNIT_EXPECT_MEMEQ(test, arm_smmu_fake_ste(fake, sids[i]), &bypass,
				   sizeof(bypass));
	KUNIT_EXPECT_FALSE(test, fdev->ats_enabled);
}

/* Map memory in an mm that nobody runs in, and touch some of its pages. */
static unsigned long ast_map(struct ast *t, struct mm_struct *mm, size_t size,
			     size_t touch_from, size_t touch_to, size_t step)
{
	unsigned long addr;
	int ret = 0;

	kthread_use_mm(mm);
	/* With pages of 64K, some are larger than memory. */
	addr = vm_mmap(NULL, 0, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
	for (size_t off = touch_from; !IS_ERR_VALUE(addr) && off < touch_to; off += step)
		ret = ret ?: put_user(1, (u8 __user *)(addr + off));
	kthread_unuse_mm(mm);
	KUNIT_ASSERT_FALSE(t->test, IS_ERR_VALUE(addr));
	KUNIT_ASSERT_EQ(t->test, ret, 0);
	return addr;
}

static void ast_unmap(struct ast *t, struct mm_struct *mm, unsigned long addr, size_t size)
{
	int ret;

	kthread_use_mm(mm);
	ret = vm_munmap(addr, size);
	kthread_unuse_mm(mm);
	KUNIT_ASSERT_EQ(t->test, ret, 0);
}

/*
 * Read commands up to a SYNC that invalidate a range by address in an ASID: just
 * that range, but for the page by which the driver makes some ranges longer.
 */
static void ast_expect_tlbi(struct ast *t, struct arm_smmu_fake *fake, u16 asid,
			    unsigned long start, unsigned long end)
{
	bool ranges = fake->smmu.features & ARM_SMMU_FEAT_RANGE_INV;
	u64 next = start, tg = (PAGE_SHIFT - 10) / 2;
	struct arm_smmu_fake_cmd cmd, sync = arm_smmu_fake_sync();
	struct kunit *test = t->test;

	while (arm_smmu_fake_next_cmd(fake, &cmd) && memcmp(&cmd, &sync, sizeof(sync))) {
		u64 num = FIELD_GET(CMDQ_TLBI_0_NUM, cmd.data[0]);
		u64 scale = FIELD_GET(CMDQ_TLBI_0_SCALE, cmd.data[0]);

		KUNIT_ASSERT_EQ(test, arm_smmu_fake_op(&cmd),
				ast_e2h(fake) ? CMDQ_OP_TLBI_EL2_VA : CMDQ_OP_TLBI_NH_VA);
		KUNIT_EXPECT_EQ(test, FIELD_GET(CMDQ_TLBI_0_ASID, cmd.data[0]), asid);
		KUNIT_EXPECT_EQ(test, FIELD_GET(CMDQ_TLBI_0_VMID, cmd.data[0]), 0);
		/* Tables may have gone. */
		KUNIT_EXPECT_FALSE(test, cmd.data[1] & CMDQ_TLBI_1_LEAF);
		KUNIT_EXPECT_EQ(test, FIELD_GET(CMDQ_TLBI_1_TTL, cmd.data[1]), 0);
		KUNIT_EXPECT_EQ(test, FIELD_GET(CMDQ_TLBI_1_TG, cmd.data[1]), ranges ? tg : 0);
		KUNIT_EXPECT_EQ(test, cmd.data[1] & CMDQ_TLBI_1_VA_MASK, next);
		if (!ranges) {
			KUNIT_EXPECT_EQ(test, num, 0);
			KUNIT_EXPECT_EQ(test, scale, 0);
		}
		next += (num + 1) << scale << PAGE_SHIFT;
	}
	KUNIT_EXPECT_MEMEQ(test, &cmd, &sync, sizeof(sync));
	KUNIT_EXPECT_GE(test, next, end);
	KUNIT_EXPECT_LE(test, next, end + (ranges ? PAGE_SIZE : 0));
}

/* The smallest range of an ATC that holds this one */
static void ast_add_atc_range(struct ast *t, const struct ast_bond *bond,
			      unsigned long start, unsigned long end)
{
	unsigned int size = 0;

	while (start >> (12 + size) != (end - 1) >> (12 + size))
		size++;
	ast_add_atc(t, bond, start & ~(BIT(12 + size) - 1), size);
}

/* What is unmapped is invalidated on both SMMUs, and in the ATCs of who is bound. */
static void ast_test_unmap(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct mm_struct *mm = ast_mm(t, 0), *mm2 = ast_mm(t, 1);
	struct ast_bond *none = ast_bind(t, devs.one, mm2);
	struct ast_bond *no_atc = ast_bind(t, devs.no_atc, mm);
	struct ast_bond *two = ast_bind(t, devs.two, mm);
	struct ast_bond *other2 = ast_bind(t, devs.other, mm2);
	struct ast_bond *other = ast_bind(t, devs.other, mm);
	static const size_t sizes[] = { 1, 7, 32, 33 };
	unsigned long addr;

	KUNIT_EXPECT_EQ(test, no_atc->asid, two->asid);
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		size_t size = sizes[i] * PAGE_SIZE;
		unsigned long start, end;

		/* What stays on both sides keeps the tables. */
		addr = ast_map(t, mm, 3 * size, 0, 3 * size, PAGE_SIZE);
		start = addr + size;
		end = start + size;
		arm_smmu_fake_skip_cmds(t->fakes[0]);
		arm_smmu_fake_skip_cmds(t->fakes[1]);
		ast_unmap(t, mm, start, size);

		ast_expect_tlbi(t, t->fakes[0], two->asid, start, end);
		ast_add_atc_range(t, two, start, end);
		ast_add(t, arm_smmu_fake_sync());
		ast_expect(t, t->fakes[0]);
		ast_expect_tlbi(t, t->fakes[1], other->asid, start, end);
		ast_add_atc_range(t, other, start, end);
		ast_add(t, arm_smmu_fake_sync());
		ast_expect(t, t->fakes[1]);
	}

	/* None is left with an ATC on the first one, and another mm is bound there. */
	ast_unbind(two);
	addr = ast_map(t, mm, 3 * PAGE_SIZE, 0, 3 * PAGE_SIZE, PAGE_SIZE);
	arm_smmu_fake_skip_cmds(t->fakes[0]);
	ast_unmap(t, mm, addr + PAGE_SIZE, PAGE_SIZE);
	ast_expect_tlbi(t, t->fakes[0], no_atc->asid, addr + PAGE_SIZE, addr + 2 * PAGE_SIZE);
	ast_expect(t, t->fakes[0]);

	/* Nobody who is bound to this one: the other one stays untouched. */
	addr = ast_map(t, mm2, 3 * PAGE_SIZE, 0, 3 * PAGE_SIZE, PAGE_SIZE);
	ast_unbind(other2);
	arm_smmu_fake_skip_cmds(t->fakes[0]);
	arm_smmu_fake_skip_cmds(t->fakes[1]);
	ast_unmap(t, mm2, addr + PAGE_SIZE, PAGE_SIZE);
	ast_expect_tlbi(t, t->fakes[0], none->asid, addr + PAGE_SIZE, addr + 2 * PAGE_SIZE);
	ast_add_atc_range(t, none, addr + PAGE_SIZE, addr + 2 * PAGE_SIZE);
	ast_add(t, arm_smmu_fake_sync());
	ast_expect(t, t->fakes[0]);
	ast_expect(t, t->fakes[1]);
}

/* So much that single commands would take too long, where there are no ranges */
static void ast_test_unmap_much(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct mm_struct *mm = ast_mm(t, 0);
	struct ast_bond *bonds[] = {
		ast_bind(t, devs.one, mm), ast_bind(t, devs.other, mm),
	};
	size_t map = 4 * PMD_SIZE, size = 2 * PMD_SIZE - 2 * PAGE_SIZE;
	unsigned long addr = ast_map(t, mm, map, 0, 0, 0);
	unsigned long start = ALIGN(addr, PMD_SIZE) + PAGE_SIZE, end = start + size;
	int ret;

	/* What stays on both sides keeps the two tables. */
	kthread_use_mm(mm);
	ret = put_user(1, (u8 __user *)start) ?: put_user(1, (u8 __user *)end - 1);
	kthread_unuse_mm(mm);
	KUNIT_ASSERT_EQ(test, ret, 0);

	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		arm_smmu_fake_skip_cmds(t->fakes[i]);
	ast_unmap(t, mm, start, size);
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++) {
		struct arm_smmu_fake *fake = t->fakes[i];

		/* A CPU without ranges asks for everything. */
		if (fake->smmu.features & ARM_SMMU_FEAT_RANGE_INV &&
		    system_supports_tlb_range()) {
			ast_expect_tlbi(t, fake, bonds[i]->asid, start, end);
			ast_add_atc_range(t, bonds[i], start, end);
			ast_add(t, arm_smmu_fake_sync());
		} else {
			ast_add_tlbi_asid(t, fake, bonds[i]->asid);
			ast_add_atc_all(t, bonds[i]);
		}
		ast_expect(t, fake);
	}
}

/* The mm exits: translation ends, and devices get no C_BAD_CD until the unbind. */
static void ast_test_exit(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct mm_struct *mm = ast_mm(t, 0);
	struct ast_bond *no_atc = ast_bind(t, devs.no_atc, mm);
	struct ast_bond *two = ast_bind(t, devs.two, mm);
	struct ast_bond *one = ast_bind(t, devs.one, mm);
	struct ast_bond *other = ast_bind(t, devs.other, mm);
	/* in the order of the domain's list */
	struct ast_bond *bonds[] = { no_atc, two, one };

	ast_map(t, mm, 16 * PAGE_SIZE, 0, 16 * PAGE_SIZE, PAGE_SIZE);
	arm_smmu_fake_skip_cmds(t->fakes[0]);
	arm_smmu_fake_skip_cmds(t->fakes[1]);

	ast_watch_bond(t, one);
	ast_mm_exit(t, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++) {
		ast_expect_cd(t, bonds[i], true);
		ast_add_cfgi(t, bonds[i]);
	}
	ast_add_tlbi_asid(t, t->fakes[0], one->asid);
	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++)
		ast_add_atc(t, bonds[i], 0, ATC_INV_SIZE_ALL);
	ast_add(t, arm_smmu_fake_sync());
	ast_expect(t, t->fakes[0]);

	ast_expect_cd(t, other, true);
	ast_add_cfgi(t, other);
	ast_add_tlbi_asid(t, t->fakes[1], other->asid);
	ast_add_atc_all(t, other);
	ast_expect(t, t->fakes[1]);

	/* The tables of the mm could not be walked any more when the TLB was emptied. */
	KUNIT_EXPECT_EQ(test, t->watch.tlbis, 1);
	ast_check_cd(t, one, &t->watch.cd, true);
	ast_check_cd(t, one, &t->watch.tlbi_cd, true);
	ast_expect_masters(t, bonds, 3);

	for (unsigned int i = 0; i < ARRAY_SIZE(bonds); i++) {
		ast_unbind(bonds[i]);
		ast_expect_no_cd(t, bonds[i]->fdev, bonds[i]->pasid);
		ast_add_cfgi(t, bonds[i]);
		ast_add_atc_all(t, bonds[i]);
	}
	ast_add_tlbi_asid(t, t->fakes[0], one->asid);
	ast_expect(t, t->fakes[0]);
	KUNIT_EXPECT_EQ(test, ast_cd0(&t->watch.tlbi_cd), 0);
	KUNIT_EXPECT_TRUE(test, t->watch.tlbi_asid);
	ast_expect_cd(t, other, true);
	ast_expect(t, t->fakes[1]);
}

/* Page faults */

/* Of the commands since then, these answer stalls, in this order. */
static void ast_expect_resumes(struct ast *t, struct arm_smmu_fake *fake, u32 sid,
			       const u16 *stags, unsigned int n, unsigned int resp)
{
	struct arm_smmu_fake_cmd cmd;
	unsigned int found = 0;

	while (arm_smmu_fake_next_cmd(fake, &cmd)) {
		if (arm_smmu_fake_op(&cmd) != CMDQ_OP_RESUME)
			continue;
		if (found < n) {
			struct arm_smmu_fake_cmd want =
				arm_smmu_fake_resume(sid, stags[found], resp);

			KUNIT_EXPECT_MEMEQ(t->test, &cmd, &want, sizeof(want));
		}
		found++;
	}
	KUNIT_EXPECT_EQ(t->test, found, n);
}

static void ast_test_faults(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct arm_smmu_fake *fake = t->fakes[0];
	struct device *dev = &devs.one->pdev->dev;
	struct mm_struct *mm = ast_mm(t, 0);
	struct ast_bond *bond = ast_bind(t, devs.one, mm);
	u32 sid = devs.one->config.sids[0], pasid = bond->pasid;
	unsigned long addr = ast_map(t, mm, 4 * PAGE_SIZE, 0, 0, PAGE_SIZE);
	struct arm_smmu_fake_cmd cmd;
	unsigned int seen = 0;
	u8 byte = 1;

	ast_bind(t, devs.other, mm);
	arm_smmu_fake_skip_cmds(fake);
	arm_smmu_fake_skip_cmds(t->fakes[1]);

	/* Nobody looks before the interrupt. */
	arm_smmu_fake_stall(fake, sid, pasid, 0x1234, addr, true);
	iopf_queue_flush_dev(dev);
	ast_expect(t, fake);
	arm_smmu_fake_irq(fake);
	iopf_queue_flush_dev(dev);
	ast_add(t, arm_smmu_fake_resume(sid, 0x1234, CMDQ_RESUME_0_RESP_RETRY));
	ast_expect(t, fake);
	/* The page is there. */
	kthread_use_mm(mm);
	pagefault_disable();
	KUNIT_EXPECT_EQ(test, get_user(byte, (u8 __user *)addr), 0);
	pagefault_enable();
	kthread_unuse_mm(mm);
	KUNIT_EXPECT_EQ(test, byte, 0);

	/* There is no such page; it is not for writing; the PASID is nobody's. */
	for (u16 i = 0; i < 3; i++) {
		if (i == 1) {
			kthread_use_mm(mm);
			addr = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ,
				       MAP_PRIVATE | MAP_ANONYMOUS, 0);
			kthread_unuse_mm(mm);
		}
		arm_smmu_fake_stall(fake, sid, pasid + (i == 2), i, i ? addr : 0, true);
		arm_smmu_fake_irq(fake);
		iopf_queue_flush_dev(dev);
		ast_add(t, arm_smmu_fake_resume(sid, i, CMDQ_RESUME_0_RESP_ABORT));
		ast_expect(t, fake);
	}

	/*
	 * Before the unbind, but without the interrupt, and while it clears the
	 * descriptor: they are answered when it returns, and before the ASID goes.
	 */
	ast_watch_bond(t, bond);
	t->watch.stall_at = 2;
	t->watch.stag = 0xffff;
	arm_smmu_fake_stall(fake, sid, pasid, 0x8000, addr, false);
	ast_unbind(bond);
	while (arm_smmu_fake_next_cmd(fake, &cmd)) {
		static const u16 stags[] = { 0x8000, 0xffff };
		u8 op = arm_smmu_fake_op(&cmd);

		if (op == CMDQ_OP_RESUME && seen < 2) {
			struct arm_smmu_fake_cmd want =
				arm_smmu_fake_resume(sid, stags[seen++],
						     CMDQ_RESUME_0_RESP_ABORT);

			KUNIT_EXPECT_MEMEQ(test, &cmd, &want, sizeof(want));
		} else if (seen == 0) {
			KUNIT_EXPECT_TRUE(test, op == CMDQ_OP_CFGI_CD ||
					  op == CMDQ_OP_ATC_INV ||
					  op == CMDQ_OP_CMD_SYNC);
		} else {
			KUNIT_EXPECT_EQ(test, seen, 2);
			KUNIT_EXPECT_TRUE(test, op == CMDQ_OP_TLBI_NH_ASID ||
					  op == CMDQ_OP_CMD_SYNC);
		}
	}
	KUNIT_EXPECT_EQ(test, seen, 2);

	/* Not bound; the interrupt goes on until there are no more. */
	t->watch.stall_again = true;
	arm_smmu_fake_stall(fake, sid, pasid, 7, addr, false);
	arm_smmu_fake_irq(fake);
	ast_add(t, arm_smmu_fake_resume(sid, 7, CMDQ_RESUME_0_RESP_ABORT));
	ast_add(t, arm_smmu_fake_resume(sid, 0xffff, CMDQ_RESUME_0_RESP_ABORT));
	ast_expect(t, fake);

	/* Nobody's stream: what it holds is the SMMU's, and goes back. */
	arm_smmu_fake_stall(fake, sid + 1, pasid, 8, addr, false);
	arm_smmu_fake_irq(fake);
	ast_add(t, arm_smmu_fake_resume(sid + 1, 8, CMDQ_RESUME_0_RESP_ABORT));
	ast_expect(t, fake);

	/* The other SMMU has heard nothing of it, nor the device's own end. */
	ast_expect(t, t->fakes[1]);
	arm_smmu_fake_stall(t->fakes[1], sid, pasid, 9, addr, false);
	arm_smmu_fake_irq(t->fakes[1]);
	iopf_queue_flush_dev(&devs.other->pdev->dev);
	ast_add(t, arm_smmu_fake_resume(sid, 9, CMDQ_RESUME_0_RESP_RETRY));
	ast_expect(t, t->fakes[1]);
	ast_expect(t, fake);

	/* The mm has exited. */
	bond = ast_bind(t, devs.one, mm);
	ast_mm_exit(t, 0);
	arm_smmu_fake_skip_cmds(fake);
	arm_smmu_fake_stall(fake, sid, pasid, 10, addr, false);
	arm_smmu_fake_irq(fake);
	iopf_queue_flush_dev(dev);
	ast_add(t, arm_smmu_fake_resume(sid, 10, CMDQ_RESUME_0_RESP_ABORT));
	ast_expect(t, fake);
}

/* More stalls than the event queue holds at once, and it wraps: in order */
static void ast_test_many_faults(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct arm_smmu_fake *fake = t->fakes[0];
	struct ast_bond *bond = ast_bind(t, devs.one, ast_mm(t, 0));
	u32 sid = devs.one->config.sids[0];
	u16 stags[100];

	for (unsigned int round = 0; round < 4; round++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(stags); i++) {
			stags[i] = round << 8 | i;
			arm_smmu_fake_stall(fake, sid, bond->pasid + 1, stags[i], 0, false);
		}
		arm_smmu_fake_skip_cmds(fake);
		if (round == 3)
			ast_unbind(bond);
		else
			arm_smmu_fake_irq(fake);
		ast_expect_resumes(t, fake, sid, stags, ARRAY_SIZE(stags),
				   CMDQ_RESUME_0_RESP_ABORT);
	}
}

#define AST_STALLS	4000

/**
 * struct ast_irq - A thread that has transactions stall, and is the interrupt
 * @fdev: the device
 * @pasid: the PASID
 * @addr: the address
 * @done: completed at its end
 */
struct ast_irq {
	struct arm_smmu_fake_device	*fdev;
	u32				pasid;
	unsigned long			addr;
	struct completion		done;
};

static int ast_irq_fn(void *data)
{
	struct ast_irq *irq = data;
	u32 sid = irq->fdev->config.sids[0];

	for (unsigned int i = 0; i < AST_STALLS; i++) {
		arm_smmu_fake_stall(irq->fdev->fake, sid, irq->pasid, i,
				    READ_ONCE(irq->addr), false);
		/* Some wait, for the next one's or for an unbind. */
		if (i % 3 == 0)
			arm_smmu_fake_irq(irq->fdev->fake);
		cond_resched();
	}
	arm_smmu_fake_irq(irq->fdev->fake);
	complete(&irq->done);
	return 0;
}

/* Stalls come in while binds, unbinds and unmaps go on: each has one answer. */
static void ast_test_faults_meanwhile(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct arm_smmu_fake *fake = t->fakes[0];
	struct mm_struct *mm = ast_mm(t, 0);
	unsigned long addr = ast_map(t, mm, PAGE_SIZE, 0, 0, PAGE_SIZE);
	struct ast_bond *bond = ast_bind(t, devs.one, mm);
	struct ast_irq irq = {
		.fdev = devs.one,
		.pasid = bond->pasid,
		.addr = addr,
	};
	unsigned long *answered = kunit_kcalloc(test, BITS_TO_LONGS(AST_STALLS),
						sizeof(long), GFP_KERNEL);
	unsigned int twice = 0, retried = 0, binds = 0;
	struct arm_smmu_fake_cmd cmd;
	bool done;

	KUNIT_ASSERT_NOT_NULL(test, answered);
	init_completion(&irq.done);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, kthread_run(ast_irq_fn, &irq, "sva-irq"));
	do {
		done = try_wait_for_completion(&irq.done);
		ast_unbind(bond);
		bond = ast_bind(t, devs.one, mm);
		if (!(++binds % 8)) {
			ast_unmap(t, mm, addr, PAGE_SIZE);
			addr = ast_map(t, mm, PAGE_SIZE, 0, 0, PAGE_SIZE);
			WRITE_ONCE(irq.addr, addr);
		}
		if (done)
			iopf_queue_flush_dev(&devs.one->pdev->dev);
		while (arm_smmu_fake_next_cmd(fake, &cmd)) {
			u64 stag = FIELD_GET(CMDQ_RESUME_1_STAG, cmd.data[1]);

			if (arm_smmu_fake_op(&cmd) != CMDQ_OP_RESUME)
				continue;
			if (stag >= AST_STALLS || test_and_set_bit(stag, answered))
				twice++;
			retried += FIELD_GET(CMDQ_RESUME_0_RESP, cmd.data[0]) ==
				   CMDQ_RESUME_0_RESP_RETRY;
		}
		cond_resched();
	} while (!done);
	KUNIT_EXPECT_EQ(test, twice, 0);
	KUNIT_EXPECT_EQ(test, bitmap_weight(answered, AST_STALLS), AST_STALLS);
	kunit_info(test, "%u binds, %u of %u stalls retried\n", binds, retried, AST_STALLS);
}

/* What is refused changes nothing. */
static void ast_test_refused(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct arm_smmu_fake *fake = t->fakes[0];
	struct arm_smmu_fake_device *none =
		arm_smmu_fake_add_device(fake, &(struct arm_smmu_fake_device_config) {
			.sids = { 0x50 }, .num_sids = 1,
		});
	unsigned int asids = ast_asids(fake);
	struct mm_struct *mm = ast_mm(t, 0);

	arm_smmu_fake_skip_cmds(fake);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(&none->pdev->dev, mm)),
			-EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(&devs.one->pdev->dev, NULL)),
			-EINVAL);
	mmgrab(mm);
	ast_mm_exit(t, 0);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(&devs.one->pdev->dev, mm)),
			-ESRCH);
	KUNIT_EXPECT_FALSE(test, mm_valid_pasid(mm));
	mmdrop(mm);
	KUNIT_EXPECT_EQ(test, ast_asids(fake), asids);
	ast_expect(t, fake);
}

/* Two bits: three ASIDs, of which the device's own domain has one. */
static void ast_test_asids(struct kunit *test)
{
	struct ast *t = test->priv;
	struct arm_smmu_fake_config few = { .asid_bits = 2, .vmid_bits = 2 };
	struct arm_smmu_fake_device_config config = {
		.sids = { 0x10 }, .num_sids = 1, .pasid_bits = 8, .ats = true,
	};
	struct arm_smmu_fake *fake = t->fakes[0] = arm_smmu_fake_add(test, &few);
	struct arm_smmu_fake_device *fdev = arm_smmu_fake_add_device(fake, &config);
	struct arm_smmu_fake_device *other;
	struct ast_bond *bonds[3], *elsewhere;
	struct iommu_domain *domain;
	ioasid_t pasid, next;
	u16 asid;

	fake->priv = t;
	other = ast_add_device(t, ast_add_fake(t, 1), config);
	for (unsigned int i = 0; i < 3; i++)
		ast_mm(t, i);
	KUNIT_EXPECT_EQ(test, ast_asids(fake), 1);
	for (unsigned int i = 0; i < 2; i++)
		bonds[i] = ast_bind(t, fdev, t->mms[i]);
	KUNIT_EXPECT_EQ(test, ast_asids(fake), 3);
	KUNIT_EXPECT_NE(test, bonds[0]->asid, bonds[1]->asid);
	arm_smmu_fake_skip_cmds(fake);
	pasid = iommu_alloc_global_pasid(&fdev->pdev->dev);
	KUNIT_ASSERT_NE(test, pasid, IOMMU_PASID_INVALID);
	iommu_free_global_pasid(pasid);

	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(&fdev->pdev->dev, t->mms[2])),
			-EBUSY);
	KUNIT_EXPECT_FALSE(test, mm_valid_pasid(t->mms[2]));
	KUNIT_EXPECT_EQ(test, ast_asids(fake), 3);
	ast_expect(t, fake);
	ast_expect_no_cd(t, fdev, pasid);
	next = iommu_alloc_global_pasid(&fdev->pdev->dev);
	iommu_free_global_pasid(next);
	KUNIT_EXPECT_LE(test, next, pasid);
	domain = iommu_paging_domain_alloc(&fdev->pdev->dev);
	KUNIT_EXPECT_EQ(test, PTR_ERR(domain), -EBUSY);

	/* The other SMMU's are its own; that fails no less, and changes nothing. */
	elsewhere = ast_bind(t, other, t->mms[2]);
	arm_smmu_fake_skip_cmds(fake);
	KUNIT_EXPECT_EQ(test, PTR_ERR(iommu_sva_bind_device(&fdev->pdev->dev, t->mms[2])),
			-EBUSY);
	KUNIT_EXPECT_TRUE(test, mm_valid_pasid(t->mms[2]));
	ast_expect_no_cd(t, fdev, elsewhere->pasid);
	ast_expect_cd(t, elsewhere, false);
	for (unsigned int i = 0; i < 2; i++)
		ast_expect_cd(t, bonds[i], false);

	/* One is free again, of which the TLB knows nothing. */
	asid = bonds[0]->asid;
	ast_watch_bond(t, bonds[0]);
	ast_unbind(bonds[0]);
	KUNIT_EXPECT_EQ(test, t->watch.tlbis, 1);
	KUNIT_EXPECT_TRUE(test, t->watch.tlbi_asid);
	bonds[2] = ast_bind(t, fdev, t->mms[2]);
	KUNIT_EXPECT_EQ(test, bonds[2]->asid, asid);
	ast_expect_cd(t, bonds[2], false);
}

/* One SMMU's queue hangs: the driver goes on, and tells the other one. */
static void ast_test_hang(struct kunit *test)
{
	struct ast *t = test->priv;
	struct ast_devices devs = ast_add_devices(t);
	struct mm_struct *mm = ast_mm(t, 0);
	struct ast_bond *bond = ast_bind(t, devs.one, mm);
	struct ast_bond *other = ast_bind(t, devs.other, mm);
	unsigned long addr = ast_map(t, mm, 6 * PAGE_SIZE, 0, 6 * PAGE_SIZE, PAGE_SIZE);
	ktime_t start;

	for (unsigned int i = 0; i < 2; i++) {
		unsigned long from = addr + (2 * i + 1) * PAGE_SIZE, to = from + PAGE_SIZE;

		arm_smmu_fake_skip_cmds(t->fakes[0]);
		arm_smmu_fake_skip_cmds(t->fakes[1]);
		/* TLBI, SYNC, ATC_INV and SYNC: none is left, or the last one hangs. */
		arm_smmu_fake_hang(t->fakes[0], i ? 3 : 4);
		start = ktime_get();
		ast_unmap(t, mm, from, PAGE_SIZE);
		if (i)
			KUNIT_EXPECT_GE(test, ktime_us_delta(ktime_get(), start),
					ARM_SMMU_POLL_TIMEOUT_US);
		arm_smmu_fake_unhang(t->fakes[0]);

		ast_expect_tlbi(t, t->fakes[0], bond->asid, from, to);
		ast_add_atc_range(t, bond, from, to);
		ast_add(t, arm_smmu_fake_sync());
		ast_expect(t, t->fakes[0]);
		ast_expect_tlbi(t, t->fakes[1], other->asid, from, to);
		ast_add_atc_range(t, other, from, to);
		ast_add(t, arm_smmu_fake_sync());
		ast_expect(t, t->fakes[1]);
	}

	/* It is back. */
	ast_unbind(bond);
	ast_add_cfgi(t, bond);
	ast_add_atc_all(t, bond);
	ast_add_tlbi_asid(t, t->fakes[0], bond->asid);
	ast_expect(t, t->fakes[0]);
}

static int ast_init(struct kunit *test)
{
	struct ast *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);

	t->test = test;
	test->priv = t;
	return 0;
}

/*
 * A CPU keeps the mm that a thread has used last, and the mm its PASID, which other
 * tests may count on: have it keep one that has none.
 */
static void ast_forget_mms(void)
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

/* Nothing is left, see arm_smmu_fake_remove(). */
static void ast_exit(struct kunit *test)
{
	struct ast *t = test->priv;

	for (unsigned int i = 0; i < ARRAY_SIZE(t->fakes); i++) {
		if (t->fakes[i])
			t->fakes[i]->observe = NULL;
	}
	for (unsigned int i = 0; i < AST_BONDS; i++) {
		if (t->bonds[i].sva)
			ast_unbind(&t->bonds[i]);
	}
	for (unsigned int i = 0; i < AST_MMS; i++) {
		if (t->mms[i])
			ast_mm_exit(t, i);
	}
	mmu_notifier_synchronize();
	ast_forget_mms();
	arm_smmu_fake_remove_all();
}

static struct kunit_case ast_cases[] = {
	KUNIT_CASE_PARAM(ast_test_bind, ast_gen_params),
	KUNIT_CASE_PARAM(ast_test_mms, ast_gen_params),
	KUNIT_CASE_PARAM(ast_test_identity, ast_gen_params),
	KUNIT_CASE_PARAM(ast_test_unmap, ast_gen_params),
	KUNIT_CASE_PARAM(ast_test_unmap_much, ast_gen_params),
	KUNIT_CASE_PARAM(ast_test_exit, ast_gen_params),
	KUNIT_CASE(ast_test_faults),
	KUNIT_CASE(ast_test_many_faults),
	KUNIT_CASE_SLOW(ast_test_faults_meanwhile),
	KUNIT_CASE(ast_test_refused),
	KUNIT_CASE(ast_test_asids),
	KUNIT_CASE_SLOW(ast_test_hang),
	{}
};

static struct kunit_suite ast_suite = {
	.name = "arm-smmu-v3-sva",
	.init = ast_init,
	.exit = ast_exit,
	.test_cases = ast_cases,
};

kunit_test_suite(ast_suite);

MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_DESCRIPTION("KUnit tests of arm-smmu-v3's SVA");
MODULE_LICENSE("GPL");
