// SPDX-License-Identifier: GPL-2.0 or MIT
/*
 * KUnit tests of VM operations. Included by panthor_mmu.c.
 *
 * The device is made up: its registers are memory, and its GEM objects have
 * scatter-gather tables of addresses that nobody accesses. All else is real, from
 * the preparation of an operation to the tables of io-pgtable. These come from an
 * allocator that counts them, and that can fail.
 */

#include <drm/drm_kunit_helpers.h>

#include <kunit/device.h>
#include <kunit/static_stub.h>
#include <kunit/test.h>

#include <linux/debug_locks.h>
#include <linux/logic_iomem.h>
#include <linux/prandom.h>

/* Where the random test maps: across the end of a 1G block. */
#define PMT_WINDOW		(SZ_1G - SZ_8M)
#define PMT_WINDOW_PAGES	(SZ_16M / SZ_4K)

#define PMT_REGS_SIZE		SZ_16K
#define PMT_VA_BITS		40
#define PMT_KERNEL_VA		(1ull << (PMT_VA_BITS - 1))

/* The most tables that 4K pages in one 2M block take: one each of three levels. */
#define PMT_TABLES_PER_EDGE	3

/**
 * struct pmt - A test
 */
struct pmt {
	/** @test: The KUnit test. */
	struct kunit *test;

	/** @ptdev: Fake device. */
	struct panthor_device *ptdev;

	/** @regs: Its registers. */
	u32 *regs;

	/** @vm: VM that is tested. */
	struct panthor_vm *vm;

	/** @allocator: Where tables come from. */
	struct iopte_allocator *allocator;

	/** @tables: How many there are. */
	atomic_t tables;

	/** @allocs: How often a table was asked for. */
	atomic_t allocs;

	/** @uncharged: How many of these were not for a memory cgroup. */
	atomic_t uncharged;

	/** @fail_after: Fail when that many have been asked for; -1 for never. */
	int fail_after;

	/** @objects: How often a preparation asked for anything else. */
	int objects;

	/** @fail_objects_after: Fail likewise; -1 for never. */
	int fail_objects_after;

	/** @bos: How many GEM objects there are. */
	atomic_t bos;

	/** @flushes: How many FLUSH_PT commands there were, where they are seen. */
	unsigned int flushes;

	/** @times_out: The next of these does not come to its end. */
	bool times_out;

	/** @tables_at_flush: How many tables there were at the last of these. */
	int tables_at_flush;

	/** @attach: What GEM objects are told to be imported by. */
	struct dma_buf_attachment attach;

	/** @file: File that has their handles. */
	struct drm_file file;

	/** @rnd: Random numbers, the same in each run. */
	struct rnd_state rnd;
};

/* For the registers and the GEM objects: one test runs at a time. */
static struct pmt *pmt_now;

/* Registers */

static void pmt_set_stuck(struct pmt *t, bool stuck)
{
	for (u32 as = 0; as < MAX_AS_SLOTS; as++)
		t->regs[AS_STATUS(as) / 4] = stuck ? AS_STATUS_AS_ACTIVE : 0;
}

#ifdef CONFIG_INDIRECT_IOMEM
static void pmt_command(struct pmt *t, u32 command)
{
	if (command != AS_COMMAND_FLUSH_PT)
		return;

	/* What was freed too early is gone now. */
	rcu_barrier();
	t->flushes++;
	t->tables_at_flush = atomic_read(&t->tables);
	if (t->times_out)
		pmt_set_stuck(t, true);
}

static unsigned long pmt_regs_read(void *priv, unsigned int offset, int size)
{
	return pmt_now->regs[offset / 4];
}

static void pmt_regs_write(void *priv, unsigned int offset, int size,
			   unsigned long val)
{
	pmt_now->regs[offset / 4] = val;
	for (u32 as = 0; as < MAX_AS_SLOTS; as++) {
		if (offset == AS_COMMAND(as))
			pmt_command(pmt_now, val);
	}
}

static const struct logic_iomem_ops pmt_regs_ops = {
	.read = pmt_regs_read,
	.write = pmt_regs_write,
};

static long pmt_regs_map(unsigned long offset, size_t size,
			 const struct logic_iomem_ops **ops, void **priv)
{
	*ops = &pmt_regs_ops;
	return 0;
}

static const struct logic_iomem_region_ops pmt_region_ops = {
	.map = pmt_regs_map,
};

static struct resource pmt_region =
	DEFINE_RES_MEM_NAMED(0x7000000000, PMT_REGS_SIZE, "panthor-test");

static void __iomem *pmt_iomem(struct pmt *t)
{
	static void __iomem *iomem;

	/* A region stays for good. */
	if (!iomem && !logic_iomem_add_region(&pmt_region, &pmt_region_ops))
		iomem = ioremap(pmt_region.start, PMT_REGS_SIZE);
	return iomem;
}

#define PMT_SEES_COMMANDS	true
#else
static void __iomem *pmt_iomem(struct pmt *t)
{
	return (void __iomem *)t->regs;
}

#define PMT_SEES_COMMANDS	false
#endif

static void pmt_reset(struct pmt *t, bool done)
{
	panthor_mmu_pre_reset(t->ptdev);
	if (done) {
		t->times_out = false;
		pmt_set_stuck(t, false);
	}
	panthor_mmu_post_reset(t->ptdev, done);
	atomic_set(&t->ptdev->reset.pending, 0);
}

/* Tables */

static unsigned int pmt_alloc(void *cookie, const struct iopte_request *req,
			      gfp_t gfp, struct page **pages, unsigned int n)
{
	struct pmt *t = cookie;

	if (!(gfp & __GFP_ACCOUNT))
		atomic_inc(&t->uncharged);

	if (atomic_inc_return(&t->allocs) > t->fail_after && t->fail_after >= 0)
		return 0;

	pages[0] = alloc_pages(gfp | (req->order ? __GFP_COMP : 0), req->order);
	if (!pages[0])
		return 0;

	atomic_inc(&t->tables);
	return 1;
}

static void pmt_free(void *cookie, struct page **pages, unsigned int n,
		     unsigned int order)
{
	struct pmt *t = cookie;

	for (u32 i = 0; i < n; i++)
		__free_pages(pages[i], order);
	atomic_sub(n, &t->tables);
}

static const struct iopte_allocator_ops pmt_allocator_ops = {
	.alloc = pmt_alloc,
	.free = pmt_free,
};

static struct iopte_allocator *pmt_pt_allocator(struct panthor_device *ptdev)
{
	return pmt_now->allocator;
}

/* What else the preparation of an operation allocates */

static bool pmt_object_fails(void)
{
	return ++pmt_now->objects > pmt_now->fail_objects_after &&
	       pmt_now->fail_objects_after >= 0;
}

static void *pmt_op_alloc(size_t size)
{
	return pmt_object_fails() ? NULL : kzalloc(size, GFP_KERNEL);
}

static struct drm_gpuvm_bo *pmt_vm_bo_create(struct panthor_vm *vm,
					     struct panthor_gem_object *bo)
{
	return pmt_object_fails() ? NULL :
	       drm_gpuvm_bo_create(&vm->base, &bo->base.base);
}

/*
 * No memory from here on. There are no tables and no objects, and the first slab
 * allocation that may not sleep fails, and is noticed. failslab leaves alone
 * others that may: where a fence waits, lockdep notices these.
 */
static void pmt_take_memory(struct pmt *t)
{
	t->fail_after = 0;
	t->fail_objects_after = 0;
#ifdef CONFIG_FAULT_INJECTION
	current->fail_nth = 1;
#endif
}

static void pmt_give_memory(struct pmt *t)
{
#ifdef CONFIG_FAULT_INJECTION
	KUNIT_EXPECT_EQ(t->test, current->fail_nth, 1);
	current->fail_nth = 0;
#endif
	t->fail_after = -1;
	t->fail_objects_after = -1;
}

/* How many tables there are when all that may be freed has been. */
static int pmt_tables(struct pmt *t)
{
	flush_workqueue(panthor_cleanup_wq);
	rcu_barrier();
	return atomic_read(&t->tables);
}

/* GEM objects */

static void pmt_bo_free(struct drm_gem_object *obj)
{
	struct panthor_gem_object *bo = to_panthor_bo(obj);

	sg_free_table(bo->base.sgt);
	kfree(bo->base.sgt);
	drm_gem_free_mmap_offset(obj);
	drm_gem_object_release(obj);
	mutex_destroy(&bo->gpuva_list_lock);
	kfree(bo);
	atomic_dec(&pmt_now->bos);
}

static const struct drm_gem_object_funcs pmt_bo_funcs = {
	.free = pmt_bo_free,
};

/* An object of @size bytes, in segments of @seg bytes that are @gap bytes apart. */
static struct panthor_gem_object *pmt_bo(struct pmt *t, u64 size, u64 paddr,
					 u64 seg, u64 gap)
{
	struct drm_gem_object *obj;
	struct scatterlist *sgl;
	struct sg_table *sgt;
	u32 i;

	obj = panthor_gem_create_object(&t->ptdev->base, size);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, obj);
	drm_gem_private_object_init(&t->ptdev->base, obj, size);
	atomic_inc(&t->bos);
	obj->funcs = &pmt_bo_funcs;
	obj->import_attach = &t->attach;

	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(t->test, sgt);
	KUNIT_ASSERT_EQ(t->test, 0,
			sg_alloc_table(sgt, DIV_ROUND_UP(size, seg), GFP_KERNEL));
	for_each_sgtable_dma_sg(sgt, sgl, i) {
		sg_dma_address(sgl) = paddr + i * (seg + gap);
		sg_dma_len(sgl) = min(seg, size - i * seg);
	}

	to_panthor_bo(obj)->base.sgt = sgt;
	return to_panthor_bo(obj);
}

static void pmt_bo_put(struct panthor_gem_object *bo)
{
	drm_gem_object_put(&bo->base.base);
}

static u64 pmt_bo_paddr(struct panthor_gem_object *bo, u64 offset)
{
	struct scatterlist *sgl;
	u32 i;

	for_each_sgtable_dma_sg(bo->base.sgt, sgl, i) {
		if (offset < sg_dma_len(sgl))
			return sg_dma_address(sgl) + offset;
		offset -= sg_dma_len(sgl);
	}
	return 0;
}

/* Operations */

static int pmt_prepare_map(struct pmt *t, struct panthor_vm_op_ctx *op,
			   struct panthor_gem_object *bo, u64 offset, u64 size,
			   u64 va)
{
	return panthor_vm_prepare_map_op_ctx(op, t->vm, bo, offset, size, va,
					     DRM_PANTHOR_VM_BIND_OP_TYPE_MAP);
}

#ifdef CONFIG_LOCKDEP
#define pmt_lockdep_silent()	debug_locks
#else
#define pmt_lockdep_silent()	true
#endif

/* Execute an operation as the VM_BIND queue does: no table comes or goes. */
static int pmt_exec(struct pmt *t, struct panthor_vm_op_ctx *op)
{
	int tables = pmt_tables(t), allocs = atomic_read(&t->allocs), ret;
	bool silent = pmt_lockdep_silent(), cookie;

	cookie = dma_fence_begin_signalling();
	pmt_take_memory(t);
	ret = panthor_vm_exec_op(t->vm, op, true);
	pmt_give_memory(t);
	dma_fence_end_signalling(cookie);

	/* Lockdep speaks up about allocations that may sleep. */
	KUNIT_EXPECT_EQ(t->test, silent, pmt_lockdep_silent());
	KUNIT_EXPECT_EQ(t->test, allocs, atomic_read(&t->allocs));
	KUNIT_EXPECT_EQ(t->test, tables, pmt_tables(t));
	return ret;
}

static int pmt_map(struct pmt *t, struct panthor_gem_object *bo, u64 offset,
		   u64 size, u64 va)
{
	struct panthor_vm_op_ctx op;
	int ret;

	KUNIT_ASSERT_EQ(t->test, 0, pmt_prepare_map(t, &op, bo, offset, size, va));
	ret = pmt_exec(t, &op);
	panthor_vm_cleanup_op_ctx(&op, t->vm);
	return ret;
}

static int pmt_unmap(struct pmt *t, u64 va, u64 size)
{
	struct panthor_vm_op_ctx op;
	int ret;

	KUNIT_ASSERT_EQ(t->test, 0,
			panthor_vm_prepare_unmap_op_ctx(&op, t->vm, va, size));
	ret = pmt_exec(t, &op);
	panthor_vm_cleanup_op_ctx(&op, t->vm);
	return ret;
}

static u64 pmt_lookup(struct pmt *t, u64 va)
{
	return t->vm->pgtbl_ops->iova_to_phys(t->vm->pgtbl_ops, va);
}

static void pmt_expect_mapped(struct pmt *t, u64 va, u64 size,
			      struct panthor_gem_object *bo, u64 offset)
{
	u64 wrong = 0;

	for (u64 at = 0; at < size; at += SZ_4K) {
		u64 paddr = bo ? pmt_bo_paddr(bo, offset + at) : 0;

		wrong += pmt_lookup(t, va + at) != paddr;
	}
	KUNIT_EXPECT_EQ(t->test, wrong, 0);
}

/* Give the VM an AS. It keeps it when it is idle, and is flushed as before. */
static void pmt_give_as(struct pmt *t)
{
	KUNIT_ASSERT_EQ(t->test, panthor_vm_active(t->vm), 0);
	panthor_vm_idle(t->vm);
	KUNIT_ASSERT_GE(t->test, panthor_vm_as(t->vm), 0);
}

static void pmt_create_vm(struct pmt *t)
{
	t->vm = panthor_vm_create(t->ptdev, false, PMT_KERNEL_VA, PMT_KERNEL_VA,
				  PMT_KERNEL_VA, PMT_KERNEL_VA);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, t->vm);
}

/* What is mapped, and what is reserved, goes with the VM: look for what stays. */
static void pmt_destroy_vm(struct pmt *t)
{
	panthor_vm_destroy(t->vm);
	t->vm = NULL;
	KUNIT_EXPECT_EQ(t->test, pmt_tables(t), 0);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->bos), 0);
	KUNIT_ASSERT_TRUE(t->test, list_empty(&t->ptdev->mmu->vm.list));
}

/* Tests */

/* Map, remap, and unmap in pieces: what is reserved lasts until the last of them. */
static void pmt_test_remap(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_8M, SZ_1G, SZ_8M, 0);
	int root = pmt_tables(t), blocks;

	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_8M, SZ_2M), 0);
	pmt_bo_put(bo);
	pmt_expect_mapped(t, SZ_2M, SZ_8M, bo, 0);
	blocks = pmt_tables(t);
	/* 2M blocks: no table of the last level */
	KUNIT_EXPECT_EQ(test, blocks, root + 2);

	/* One block is split, by a table that then maps what is left of it. */
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_4M + SZ_64K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), blocks + 1);
	pmt_expect_mapped(t, SZ_2M, SZ_2M + SZ_64K, bo, 0);
	pmt_expect_mapped(t, SZ_4M + SZ_64K, SZ_4K, NULL, 0);
	pmt_expect_mapped(t, SZ_4M + SZ_64K + SZ_4K, SZ_4M, bo,
			  SZ_2M + SZ_64K + SZ_4K);

	/*
	 * The first part goes, and then all of the second but one page. Tables
	 * that are empty meanwhile go with the last part.
	 */
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, 0, SZ_4M + SZ_64K), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), blocks + 1);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_4M, SZ_4M), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), blocks + 1);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M, SZ_2M - SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), blocks + 2);
	pmt_expect_mapped(t, SZ_8M, SZ_2M - SZ_4K, NULL, 0);
	pmt_expect_mapped(t, SZ_8M + SZ_2M - SZ_4K, SZ_4K, bo, SZ_8M - SZ_4K);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 1);

	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M, SZ_2M), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	pmt_destroy_vm(t);
}

/* An empty operation does nothing: no VMA is split, and none is empty. */
static void pmt_test_empty(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_4M, 0);
	struct drm_panthor_vm_bind_op op = {
		.flags = DRM_PANTHOR_VM_BIND_OP_TYPE_UNMAP,
		.va = SZ_1M,
	};
	int root = pmt_tables(t);

	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_4M, 0), 0);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_1M, 0), 0);
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), 0);
	KUNIT_EXPECT_NOT_NULL(test, drm_gpuva_find(&t->vm->base, 0, SZ_4M));
	pmt_expect_mapped(t, 0, SZ_4M, bo, 0);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, 0, SZ_4M), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);

	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, 0, 0), 0);
	KUNIT_EXPECT_TRUE(test, drm_gpuvm_interval_empty(&t->vm->base, 0,
							 PMT_KERNEL_VA));
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_2M, SZ_4M), 0);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_2M, 0), 0);
	pmt_expect_mapped(t, SZ_4M, SZ_2M, bo, 0);
	pmt_bo_put(bo);
	pmt_destroy_vm(t);
}

/* A synchronous operation is done, and leaves nothing, when the ioctl returns. */
static void pmt_test_sync(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_4M, 0);
	struct drm_panthor_vm_bind_op op = {
		.flags = DRM_PANTHOR_VM_BIND_OP_TYPE_MAP,
		.size = SZ_4M,
		.va = SZ_2M,
	};
	int root = pmt_tables(t), handle, tables;

	handle = idr_alloc(&t->file.object_idr, &bo->base.base, 1, 0, GFP_KERNEL);
	KUNIT_ASSERT_GT(test, handle, 0);
	op.bo_handle = handle;

	/* A map that fails has done nothing. */
	t->fail_after = atomic_read(&t->allocs);
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), -ENOMEM);
	t->fail_after = -1;
	op.va = PMT_KERNEL_VA - SZ_2M;
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), -EINVAL);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);

	op.va = SZ_2M;
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), 0);
	pmt_expect_mapped(t, SZ_2M, SZ_4M, bo, 0);
	tables = pmt_tables(t);
	idr_remove(&t->file.object_idr, handle);
	pmt_bo_put(bo);

	/* Nor has an unmap that fails: it would split a block. */
	op.flags = DRM_PANTHOR_VM_BIND_OP_TYPE_UNMAP;
	op.bo_handle = 0;
	op.size = SZ_2M + SZ_4K;
	t->fail_after = atomic_read(&t->allocs);
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), -ENOMEM);
	t->fail_after = -1;
	pmt_expect_mapped(t, SZ_2M, SZ_4M, bo, 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), tables);

	/* The table that splits the second block maps what is left of it. */
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), 0);
	pmt_expect_mapped(t, SZ_2M, SZ_2M + SZ_4K, NULL, 0);
	pmt_expect_mapped(t, SZ_4M + SZ_4K, SZ_2M - SZ_4K, bo, SZ_2M + SZ_4K);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), tables + 1);

	op.size = SZ_4M;
	KUNIT_EXPECT_EQ(test, panthor_vm_bind_exec_sync_op(&t->file, t->vm, &op), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	pmt_destroy_vm(t);
}

#define PMT_OPS		4
#define PMT_BOS		6
#define PMT_STEPS	600

/**
 * struct pmt_random_op - An operation of the random test
 */
struct pmt_random_op {
	/** @ctx: The operation. */
	struct panthor_vm_op_ctx ctx;

	/** @bo: What it maps, or NULL. */
	struct panthor_gem_object *bo;

	/** @offset: Where it starts in @bo, in bytes. */
	u64 offset;
};

/*
 * Operations are prepared, executed in that order, and cleaned up in any. After
 * each, what is mapped is what they have mapped.
 */
static void pmt_test_random(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct pmt_random_op *queue[PMT_OPS] = {}, *done[PMT_OPS] = {}, *op;
	struct panthor_gem_object *bos[PMT_BOS];
	unsigned int queued = 0;
	int root = pmt_tables(t);
	u64 *model;

	pmt_give_as(t);
	model = kunit_kcalloc(test, PMT_WINDOW_PAGES, sizeof(*model), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, model);

	/* Blocks, pages, blocks that pages lead to, and segments of odd sizes. */
	bos[0] = pmt_bo(t, SZ_8M, SZ_1G, SZ_8M, 0);
	bos[1] = pmt_bo(t, SZ_4M, SZ_2G, SZ_4K, SZ_4K);
	bos[2] = pmt_bo(t, SZ_8M, SZ_2G + SZ_1G + SZ_4K, SZ_8M, 0);
	bos[3] = pmt_bo(t, SZ_8M, SZ_4G, SZ_2M, SZ_2M);
	bos[4] = pmt_bo(t, SZ_8M, SZ_4G + SZ_1G - SZ_64K, SZ_2M + SZ_64K, SZ_4K);
	bos[5] = pmt_bo(t, SZ_8M, SZ_4G + SZ_2G, SZ_1M, 0);

	for (u32 step = 0; step < PMT_STEPS || queued; step++) {
		u32 rnd = prandom_u32_state(&t->rnd), i, wrong = 0;
		u64 page, pages, size, va, granule;

		if (step < PMT_STEPS && (!queued || (queued < PMT_OPS && rnd & 1))) {
			op = kunit_kzalloc(test, sizeof(*op), GFP_KERNEL);
			KUNIT_ASSERT_NOT_NULL(test, op);

			/* Half of what is done is aligned to 2M. */
			granule = rnd & 2 ? SZ_2M : rnd & 4 ? SZ_64K : SZ_4K;
			granule /= SZ_4K;
			page = prandom_u32_state(&t->rnd) % PMT_WINDOW_PAGES;
			page -= page % granule;
			pages = prandom_u32_state(&t->rnd) % (SZ_8M / SZ_4K);
			pages = max(pages - pages % granule, granule);
			pages = min(pages, PMT_WINDOW_PAGES - page);
			va = PMT_WINDOW + page * SZ_4K;
			/* One in eight is empty. */
			size = rnd & 0xe0 ? pages * SZ_4K : 0;

			if (rnd & 8) {
				op->bo = bos[(rnd >> 8) % PMT_BOS];
				size = min_t(u64, size, op->bo->base.base.size);
				op->offset = rnd & 16 ? 0 :
					     op->bo->base.base.size - size;
				KUNIT_ASSERT_EQ(test, 0,
						pmt_prepare_map(t, &op->ctx, op->bo,
								op->offset, size, va));
			} else {
				KUNIT_ASSERT_EQ(test, 0,
						panthor_vm_prepare_unmap_op_ctx(&op->ctx, t->vm,
										va, size));
			}
			queue[queued++] = op;
			continue;
		}

		op = queue[0];
		queued--;
		memmove(queue, queue + 1, queued * sizeof(*queue));
		KUNIT_ASSERT_EQ(test, pmt_exec(t, &op->ctx), 0);

		page = (op->ctx.va.addr - PMT_WINDOW) / SZ_4K;
		for (u64 at = 0; at < op->ctx.va.range; at += SZ_4K)
			model[page++] = op->bo ? pmt_bo_paddr(op->bo, op->offset + at) : 0;
		for (i = 0; i < PMT_WINDOW_PAGES; i++)
			wrong += pmt_lookup(t, PMT_WINDOW + (u64)i * SZ_4K) != model[i];
		KUNIT_ASSERT_EQ(test, wrong, 0);

		i = (rnd >> 16) % PMT_OPS;
		swap(op, done[i]);
		if (op) {
			panthor_vm_cleanup_op_ctx(&op->ctx, t->vm);
			kunit_kfree(test, op);
		}
	}

	for (u32 i = 0; i < PMT_OPS; i++) {
		if (done[i])
			panthor_vm_cleanup_op_ctx(&done[i]->ctx, t->vm);
	}

	/* With nothing mapped nothing is reserved, and there is no table. */
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, PMT_WINDOW, SZ_16M), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	for (u32 i = 0; i < PMT_BOS; i++)
		pmt_bo_put(bos[i]);
	pmt_destroy_vm(t);
}

/*
 * Prepare a map, and then an unmap, with one allocation more each time. Whatever the
 * preparation cannot allocate, it leaves nothing. @failed is how often each has failed.
 */
static void pmt_prepare_fails(struct pmt *t, bool objects, int failed[2])
{
	/* Pages, blocks, pages */
	struct panthor_gem_object *bo = pmt_bo(t, SZ_8M, SZ_2G + SZ_1M, SZ_8M, 0);
	struct kunit *test = t->test;
	struct panthor_vm_op_ctx op;
	int root = pmt_tables(t), ret;

	for (u32 unmap = 0; unmap < 2; unmap++) {
		failed[unmap] = 0;
		do {
			if (objects)
				t->fail_objects_after = t->objects + failed[unmap];
			else
				t->fail_after = atomic_read(&t->allocs) + failed[unmap];
			if (unmap)
				ret = panthor_vm_prepare_unmap_op_ctx(&op, t->vm,
								      SZ_1G - SZ_64K,
								      SZ_8M);
			else
				ret = pmt_prepare_map(t, &op, bo, 0, SZ_8M,
						      SZ_1G - SZ_2M - SZ_1M);
			t->fail_after = -1;
			t->fail_objects_after = -1;
			if (ret) {
				KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
				failed[unmap]++;
			} else {
				panthor_vm_cleanup_op_ctx(&op, t->vm);
			}
			KUNIT_ASSERT_EQ(test, pmt_tables(t), root);
		} while (ret);
	}

	pmt_bo_put(bo);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	pmt_destroy_vm(t);
}

static void pmt_test_prepare_fails(struct kunit *test)
{
	int failed[2];

	pmt_prepare_fails(test->priv, false, failed);
	/* Two of the last level, two of that above, for the 1G border, and one */
	KUNIT_EXPECT_EQ(test, failed[0], 5);
	KUNIT_EXPECT_EQ(test, failed[1], 5);
}

/* A VMA, the vm_bo, or the record of what is reserved */
static void pmt_test_prepare_fails_object(struct kunit *test)
{
	int failed[2];

	pmt_prepare_fails(test->priv, true, failed);
	/* Three VMAs, vm_bo and record; two VMAs */
	KUNIT_EXPECT_EQ(test, failed[0], 5);
	KUNIT_EXPECT_EQ(test, failed[1], 2);
}

/* An object that is smaller than it says cannot be bound. */
static void pmt_test_short_object(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_2M, 0);
	struct panthor_vm_op_ctx op;
	int root = pmt_tables(t);

	sg_dma_len(sg_next(bo->base.sgt->sgl)) = SZ_1M;
	KUNIT_EXPECT_EQ(test, pmt_prepare_map(t, &op, bo, 0, SZ_4M, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_2M + SZ_1M, 0), 0);
	pmt_bo_put(bo);
	pmt_destroy_vm(t);
}

/* A user unmaps all that may be mapped: it costs no more than two edges. */
static void pmt_test_unmap_all(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_64K, SZ_64K);
	int root = pmt_tables(t), allocs;

	for (u32 edges = 0; edges < 2; edges++) {
		for (u32 i = 0; i < 8; i++)
			KUNIT_EXPECT_EQ(test, 0,
					pmt_map(t, bo, 0, SZ_4M,
						SZ_1G + i * (PMT_KERNEL_VA / 8)));

		allocs = atomic_read(&t->allocs);
		KUNIT_EXPECT_EQ(test, 0,
				pmt_unmap(t, edges * SZ_4K,
					  PMT_KERNEL_VA - 2 * edges * SZ_4K));
		KUNIT_EXPECT_LE(test, atomic_read(&t->allocs) - allocs,
				edges * 2 * PMT_TABLES_PER_EDGE);
		KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	}

	pmt_bo_put(bo);
	pmt_destroy_vm(t);
}

/* Kernel objects are unmapped, and a VM is destroyed: see pmt_take_memory(). */
static void pmt_test_whole_vmas(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_8M, SZ_1G, SZ_2M, SZ_4K);
	struct panthor_kernel_bo *kbo[2];
	struct panthor_vm *mcu, *vm;
	int root = pmt_tables(t);

	mcu = panthor_vm_create(t->ptdev, true, 0, SZ_4G, SZ_64M, SZ_64M);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, mcu);

	for (u32 i = 0; i < ARRAY_SIZE(kbo); i++) {
		vm = i ? mcu : t->vm;
		kbo[i] = panthor_kernel_bo_create(t->ptdev, vm, SZ_2M + SZ_16K,
						  DRM_PANTHOR_BO_NO_MMAP,
						  DRM_PANTHOR_VM_BIND_OP_MAP_NOEXEC,
						  PANTHOR_VM_KERNEL_AUTO_VA);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, kbo[i]);
		KUNIT_EXPECT_NE(test, 0,
				vm->pgtbl_ops->iova_to_phys(vm->pgtbl_ops,
							    panthor_kernel_bo_gpuva(kbo[i])));
	}

	pmt_take_memory(t);
	for (u32 i = 0; i < ARRAY_SIZE(kbo); i++)
		panthor_kernel_bo_destroy(kbo[i]);
	panthor_vm_put(mcu);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	pmt_give_memory(t);

	/* In part split, in part replaced */
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_8M, SZ_1G - SZ_2M), 0);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_1G + SZ_4K, SZ_4K), 0);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, SZ_4K, SZ_1M, SZ_1G - SZ_4K), 0);
	pmt_bo_put(bo);
	pmt_take_memory(t);
	pmt_destroy_vm(t);
	pmt_give_memory(t);
}

/* Heaps are kernel objects. They grow, and go with the VM. */
static void pmt_test_heap(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_heap_pool *pool = panthor_vm_get_heap_pool(t->vm, true);
	u64 context, chunks[2];
	int ret;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pool);
	ret = panthor_heap_create(pool, 1, SZ_2M, 2, 1, &context, &chunks[0]);
	KUNIT_ASSERT_GE(test, ret, 0);
	KUNIT_ASSERT_EQ(test, panthor_heap_grow(pool, context, 0, 0, &chunks[1]), 0);
	panthor_heap_pool_put(pool);
	for (u32 i = 0; i < ARRAY_SIZE(chunks); i++)
		KUNIT_EXPECT_NE(test, 0, pmt_lookup(t, chunks[i] & ~(u64)(SZ_4K - 1)));

	pmt_take_memory(t);
	pmt_destroy_vm(t);
	pmt_give_memory(t);
}

/* How many tables to bring with a bind if nothing is known of the page table. */
static unsigned int pmt_worst_case(u64 va, u64 size)
{
	unsigned int n = 0;

	for (u32 shift = 39; shift >= 21; shift -= 9)
		n += ((va + size - 1) >> shift) - (va >> shift) + 1;
	return n;
}

/* As pmt_map(), which takes some milliseconds to look at each operation */
static int pmt_map_quick(struct pmt *t, struct panthor_gem_object *bo, u64 size,
			 u64 va)
{
	struct panthor_vm_op_ctx op;
	int ret = pmt_prepare_map(t, &op, bo, 0, size, va);

	if (ret)
		return ret;
	ret = panthor_vm_exec_op(t->vm, &op, true);
	panthor_vm_cleanup_op_ctx(&op, t->vm);
	return ret;
}

/*
 * A bind allocates what is missing, and no more, and it is charged to who binds.
 * (Not so chunks by which the tiler's heaps grow: a worker binds these, and
 * they are charged to the root cgroup.)
 */
static void pmt_test_pages_per_bind(struct kunit *test)
{
	static const struct {
		const char *name;
		u64 size, seg, gap;
		u32 binds, tables;
		bool warm;
	} patterns[] = {
		{ "10000 binds of 64 KiB into a warm heap of 1 GiB",
		  SZ_64K, SZ_4K, SZ_4K, 10000, 0, true },
		/* One table for its 1G entries, and 16 for its blocks */
		{ "1 bind of 16 GiB by 2M", SZ_16G, SZ_2M, SZ_2M, 1, 1 + 16 },
		/* They end in the 48th block of 2M. */
		{ "24415 binds of 4 KiB in a row", SZ_4K, SZ_4K, 0, 24415, 2 + 48 },
	};
	struct pmt *t = test->priv;
	int root = pmt_tables(t);

	atomic_set(&t->uncharged, 0);
	for (u32 i = 0; i < ARRAY_SIZE(patterns); i++) {
		u64 size = patterns[i].size, va = SZ_1G, wrong = 0;
		struct panthor_gem_object *bo;
		unsigned int worst = 0, allocs;

		/*
		 * The heap has been mapped once, by 4K, and unmapped but for its
		 * end. All of its tables stay for that.
		 */
		if (patterns[i].warm) {
			bo = pmt_bo(t, SZ_1G, SZ_2G + SZ_4K, SZ_1G, 0);
			KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_1G, va), 0);
			pmt_bo_put(bo);
			KUNIT_EXPECT_EQ(test, pmt_unmap(t, va, SZ_1G - SZ_4K), 0);
		}

		allocs = atomic_read(&t->allocs);
		bo = pmt_bo(t, size, SZ_2G, patterns[i].seg, patterns[i].gap);
		for (u32 bind = 0; bind < patterns[i].binds; bind++, va += size) {
			wrong += !!pmt_map_quick(t, bo, size, va);
			worst += pmt_worst_case(va, size);
		}
		allocs = atomic_read(&t->allocs) - allocs;
		KUNIT_EXPECT_EQ(test, wrong, 0);
		KUNIT_EXPECT_EQ(test, allocs, patterns[i].tables);
		kunit_info(test, "panthor: %s: %u tables, base %u\n",
			   patterns[i].name, allocs, worst);
		pmt_expect_mapped(t, va - size, min(size, SZ_2M), bo, 0);
		pmt_bo_put(bo);

		KUNIT_EXPECT_EQ(test, 0,
				pmt_unmap(t, SZ_1G, max(va, SZ_2G) - SZ_1G));
		KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	}

	/* Two splits at the ends of an unmap */
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_1M, SZ_4M), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->uncharged), 0);
	pmt_destroy_vm(t);
}

/* What becomes of a flush */
enum pmt_flush {
	PMT_FLUSHED,
	PMT_IDLE,	/* the VM has no AS */
	PMT_STUCK,	/* the MMU does not take the command */
	PMT_TIMEOUT,	/* it does, and does not come to its end */
	PMT_LOST,	/* nor did it take one before */
	PMT_RESET,	/* a reset is pending */
	PMT_UNPLUGGED,
	PMT_SUSPENDED,	/* as PMT_LOST, with a suspend instead of a reset */
};

static const char * const pmt_flush_names[] = {
	"flushed", "idle", "stuck", "timeout", "lost", "reset", "unplugged", "suspended",
};

static void pmt_flush_desc(const enum pmt_flush *how, char *desc)
{
	strscpy(desc, pmt_flush_names[*how], KUNIT_PARAM_DESC_SIZE);
}

static const enum pmt_flush pmt_flushes[] = {
	PMT_FLUSHED, PMT_IDLE, PMT_STUCK, PMT_LOST, PMT_RESET, PMT_UNPLUGGED,
	PMT_SUSPENDED,
#ifdef CONFIG_INDIRECT_IOMEM
	PMT_TIMEOUT,
#endif
};

KUNIT_ARRAY_PARAM(pmt_flush, pmt_flushes, pmt_flush_desc);

static void pmt_flush_break(struct pmt *t, enum pmt_flush how)
{
	switch (how) {
	case PMT_LOST:
	case PMT_SUSPENDED:
		mutex_lock(&t->ptdev->mmu->as.slots_lock);
		t->ptdev->mmu->as.lost = true;
		mutex_unlock(&t->ptdev->mmu->as.slots_lock);
		fallthrough;
	case PMT_STUCK:
		pmt_set_stuck(t, true);
		break;
	case PMT_TIMEOUT:
		t->times_out = true;
		break;
	case PMT_RESET:
		atomic_set(&t->ptdev->reset.pending, 1);
		break;
	case PMT_UNPLUGGED:
		t->ptdev->base.unplugged = true;
		break;
	default:
		break;
	}
}

static void pmt_suspend(struct pmt *t)
{
	int tables = pmt_tables(t), bos = atomic_read(&t->bos);

	/* It takes commands again, but nobody knows what it has missed. */
	pmt_set_stuck(t, false);

	/* Without a reset, neither suspend nor resume lets go of anything. */
	panthor_mmu_suspend(t->ptdev);
	panthor_mmu_resume(t->ptdev);
	KUNIT_EXPECT_TRUE(t->test, t->ptdev->mmu->as.lost);
	KUNIT_EXPECT_EQ(t->test, pmt_tables(t), tables);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->bos), bos);

	panthor_mmu_suspend(t->ptdev);
	panthor_mmu_has_left(t->ptdev);
	panthor_mmu_resume(t->ptdev);
	atomic_set(&t->ptdev->reset.pending, 0);
}

/* The MMU leaves all page tables. */
static void pmt_flush_repair(struct pmt *t, enum pmt_flush how)
{
	switch (how) {
	case PMT_UNPLUGGED:
		/* It takes its commands: it has left without a reset. */
		KUNIT_EXPECT_EQ(t->test, panthor_mmu_unplug(t->ptdev), 0);
		t->ptdev->base.unplugged = false;
		break;
	case PMT_SUSPENDED:
		pmt_suspend(t);
		break;
	default:
		pmt_reset(t, true);
		break;
	}
}

/* Nothing that the MMU may translate to, or walk, is freed before it is flushed. */
static void pmt_test_flush_unmap(struct kunit *test)
{
	enum pmt_flush how = *(const enum pmt_flush *)test->param_value;
	bool missed = how != PMT_FLUSHED && how != PMT_IDLE;
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_2M, SZ_1G, SZ_4K, SZ_4K);
	int root = pmt_tables(t), tables;
	struct panthor_vm_op_ctx op;

	if (how != PMT_IDLE)
		pmt_give_as(t);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_2M, SZ_2M), 0);
	pmt_bo_put(bo);
	tables = pmt_tables(t);
	KUNIT_EXPECT_EQ(test, tables, root + 3);

	/* It unmaps, whatever becomes of the flush, and gives back nothing yet. */
	KUNIT_ASSERT_EQ(test, 0,
			panthor_vm_prepare_unmap_op_ctx(&op, t->vm, 0, SZ_4M));
	pmt_flush_break(t, how);
	t->flushes = 0;
	KUNIT_EXPECT_EQ(test, pmt_exec(t, &op), 0);
	KUNIT_EXPECT_FALSE(test, panthor_vm_is_unusable(t->vm));
	pmt_expect_mapped(t, SZ_2M, SZ_2M, NULL, 0);
	KUNIT_EXPECT_TRUE(test, drm_gpuvm_interval_empty(&t->vm->base, 0, SZ_4M));
	KUNIT_EXPECT_EQ(test, pmt_tables(t), tables);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 1);
	if (PMT_SEES_COMMANDS)
		KUNIT_EXPECT_EQ(test, t->flushes,
				how == PMT_FLUSHED || how == PMT_RESET ||
				how == PMT_TIMEOUT);

	/* The cleanup flushes once more, for the tables that it removes. */
	t->flushes = 0;
	panthor_vm_cleanup_op_ctx(&op, t->vm);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), missed ? tables : root);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), missed);
	if (PMT_SEES_COMMANDS && how == PMT_FLUSHED) {
		KUNIT_EXPECT_EQ(test, t->flushes, 1);
		KUNIT_EXPECT_EQ(test, t->tables_at_flush, tables);
	}

	if (missed) {
		/* Nor does the next flush help if it is missed. */
		KUNIT_EXPECT_EQ(test, panthor_vm_flush_all(t->vm),
				how == PMT_RESET || how == PMT_UNPLUGGED ? 0 : -EIO);
		KUNIT_EXPECT_EQ(test, pmt_tables(t), tables);

		/* A reset that fails changes nothing. */
		if (how != PMT_UNPLUGGED) {
			pmt_reset(t, false);
			KUNIT_EXPECT_EQ(test, pmt_tables(t), tables);
			KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 1);
		}
		pmt_flush_repair(t, how);
		/* With no AS any more, it lets go of them in its next operation. */
		KUNIT_EXPECT_EQ(test, panthor_vm_flush_all(t->vm), 0);
		KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
		KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	}

	pmt_destroy_vm(t);
}

/* A map whose flush fails has mapped nothing; one that is skipped has. */
static void pmt_test_flush_map(struct kunit *test)
{
	enum pmt_flush how = *(const enum pmt_flush *)test->param_value;
	struct pmt *t = test->priv;
	struct panthor_gem_object *old = pmt_bo(t, SZ_4M, SZ_2G, SZ_4M, 0);
	struct panthor_gem_object *bo = pmt_bo(t, SZ_2M, SZ_1G, SZ_4K, SZ_4K);
	struct panthor_vm_op_ctx op;
	bool fails = how == PMT_STUCK || how == PMT_TIMEOUT;
	int root = pmt_tables(t);

	if (how != PMT_IDLE)
		pmt_give_as(t);
	if (!fails) {
		KUNIT_EXPECT_EQ(test, pmt_map(t, old, 0, SZ_4M, SZ_4M), 0);
		KUNIT_EXPECT_EQ(test, pmt_map(t, old, 0, SZ_4M, SZ_2M), 0);
	}
	KUNIT_ASSERT_EQ(test, pmt_prepare_map(t, &op, bo, 0, SZ_2M, SZ_4M), 0);
	pmt_bo_put(old);
	pmt_bo_put(bo);

	pmt_flush_break(t, how);
	KUNIT_EXPECT_EQ(test, pmt_exec(t, &op), fails ? -ETIMEDOUT : 0);
	KUNIT_EXPECT_EQ(test, panthor_vm_is_unusable(t->vm), fails);
	if (fails)
		pmt_expect_mapped(t, SZ_2M, SZ_4M, NULL, 0);
	else
		pmt_expect_mapped(t, SZ_4M, SZ_2M, bo, 0);
	panthor_vm_cleanup_op_ctx(&op, t->vm);

	/* The MMU may have seen it. */
	flush_workqueue(panthor_cleanup_wq);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), fails ? 1 : 2);
	if (how != PMT_FLUSHED && how != PMT_IDLE)
		pmt_flush_repair(t, how);
	flush_workqueue(panthor_cleanup_wq);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), fails ? 0 : 2);
	if (fails)
		KUNIT_EXPECT_EQ(test, pmt_tables(t), root);

	pmt_destroy_vm(t);
}

/*
 * The MMU gets stuck when an operation has been executed and flushed: the cleanup
 * flushes once more, for the tables that it removes, and then the VM goes. It keeps
 * its tables until the MMU has left them.
 */
static void pmt_test_flush_destroy(struct kunit *test)
{
	enum pmt_flush how = *(const enum pmt_flush *)test->param_value;
	bool missed = how != PMT_FLUSHED && how != PMT_IDLE;
	/* An unplug takes the slots away as long as there are registers. */
	bool held = missed && how != PMT_UNPLUGGED;
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_2M, SZ_1G, SZ_4K, SZ_4K);
	int root = pmt_tables(t), tables;
	struct panthor_vm_op_ctx op;

	if (how != PMT_IDLE)
		pmt_give_as(t);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_2M, SZ_2M), 0);
	pmt_bo_put(bo);
	tables = pmt_tables(t);
	KUNIT_ASSERT_EQ(test, 0,
			panthor_vm_prepare_unmap_op_ctx(&op, t->vm, 0, SZ_4M));
	KUNIT_EXPECT_EQ(test, pmt_exec(t, &op), 0);

	pmt_flush_break(t, how);
	panthor_vm_cleanup_op_ctx(&op, t->vm);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), missed ? tables : root);

	/* Nor does it help to have no slot, when the MMU is lost track of. */
	if (how == PMT_LOST) {
		pmt_reset(t, false);
		KUNIT_EXPECT_LT(test, panthor_vm_as(t->vm), 0);
	}

	panthor_vm_destroy(t->vm);
	t->vm = NULL;
	KUNIT_EXPECT_TRUE(test, list_empty(&t->ptdev->mmu->vm.list));
	KUNIT_EXPECT_EQ(test, pmt_tables(t), held ? tables : 0);
	if (missed)
		pmt_flush_repair(t, how);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), 0);
}

/*
 * The MMU is lost track of, and then unplugged: what was unmapped waits for a reset,
 * and what is unmapped later for nothing.
 */
static void pmt_test_unplug_lost(struct kunit *test)
{
	static const enum pmt_flush how[] = { PMT_STUCK, PMT_LOST };
	struct pmt *t = test->priv;

	for (u32 i = 0; i < ARRAY_SIZE(how); i++) {
		struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_4K, SZ_4K);
		struct panthor_gem_object *old = pmt_bo(t, SZ_2M, SZ_2G, SZ_2M, 0);

		if (!t->vm)
			pmt_create_vm(t);
		pmt_give_as(t);
		KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_4M, SZ_2M), 0);
		KUNIT_EXPECT_EQ(test, pmt_map(t, old, 0, SZ_2M, SZ_8M), 0);
		pmt_bo_put(bo);
		pmt_bo_put(old);
		pmt_flush_break(t, how[i]);
		KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M, SZ_2M), 0);
		KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_2M, SZ_2M), 0);

		/* It takes commands again, but nobody knows what it has missed. */
		pmt_set_stuck(t, false);
		KUNIT_EXPECT_EQ(test, panthor_mmu_unplug(t->ptdev), -EIO);
		flush_workqueue(panthor_cleanup_wq);
		KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 2);
		panthor_mmu_has_left(t->ptdev);
		flush_workqueue(panthor_cleanup_wq);
		KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 1);
		pmt_destroy_vm(t);
		atomic_set(&t->ptdev->reset.pending, 0);
	}
}

/* A reset that fails, or has missed that the MMU is stuck, is not the last one. */
static void pmt_test_reset_fails(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_8M, SZ_1G, SZ_8M, 0);
	int root = pmt_tables(t);

	pmt_give_as(t);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_8M, SZ_8M), 0);
	pmt_bo_put(bo);
	pmt_set_stuck(t, true);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M, SZ_2M), 0);
	KUNIT_EXPECT_TRUE(test, panthor_device_reset_is_pending(t->ptdev));

	/* The next operation schedules another one. It has no AS any more, ... */
	pmt_reset(t, false);
	pmt_set_stuck(t, false);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M + SZ_2M, SZ_2M), 0);
	KUNIT_EXPECT_TRUE(test, panthor_device_reset_is_pending(t->ptdev));

	/* ... or it has, but no flush may be tried. */
	atomic_set(&t->ptdev->reset.pending, 0);
	pmt_give_as(t);
	t->flushes = 0;
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M + SZ_4M, SZ_2M), 0);
	KUNIT_EXPECT_TRUE(test, panthor_device_reset_is_pending(t->ptdev));
	KUNIT_EXPECT_EQ(test, t->flushes, 0);

	pmt_reset(t, true);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_8M, SZ_8M), 0);
	KUNIT_EXPECT_FALSE(test, panthor_device_reset_is_pending(t->ptdev));
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	pmt_destroy_vm(t);
}

/**
 * struct pmt_block - A work item that lasts
 */
struct pmt_block {
	/** @work: The work item. */
	struct work_struct work;

	/** @go_on: When it is complete, so is the work. */
	struct completion go_on;
};

static void pmt_block_work(struct work_struct *work)
{
	wait_for_completion(&container_of(work, struct pmt_block, work)->go_on);
}

/*
 * What the MMU has left is dropped late: what it may translate to by then, because
 * a flush was missed since it has left, is not dropped with it.
 */
static void pmt_test_drop_late(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo[2];
	struct panthor_vm_op_ctx op[2];
	struct pmt_block block;
	int ret;

	for (u32 i = 0; i < ARRAY_SIZE(bo); i++) {
		bo[i] = pmt_bo(t, SZ_2M, SZ_1G, SZ_2M, 0);
		KUNIT_EXPECT_EQ(test, pmt_map(t, bo[i], 0, SZ_2M, i * SZ_2M), 0);
		pmt_bo_put(bo[i]);
		KUNIT_ASSERT_EQ(test, 0,
				panthor_vm_prepare_unmap_op_ctx(&op[i], t->vm,
								i * SZ_2M, SZ_2M));
	}

	/* Nothing may stop the test while the work is queued. */
	INIT_WORK_ONSTACK(&block.work, pmt_block_work);
	init_completion(&block.go_on);
	workqueue_set_max_active(panthor_cleanup_wq, 1);
	queue_work(panthor_cleanup_wq, &block.work);

	for (u32 i = 0; i < ARRAY_SIZE(bo); i++) {
		ret = panthor_vm_active(t->vm);
		KUNIT_EXPECT_EQ(test, ret, 0);
		if (!ret)
			panthor_vm_idle(t->vm);
		pmt_set_stuck(t, true);
		KUNIT_EXPECT_EQ(test, panthor_vm_exec_op(t->vm, &op[i], true), 0);
		panthor_vm_cleanup_op_ctx(&op[i], t->vm);
		if (!i)
			pmt_reset(t, true);
	}

	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 2);
	complete(&block.go_on);
	flush_workqueue(panthor_cleanup_wq);
	workqueue_set_max_active(panthor_cleanup_wq, WQ_DFL_ACTIVE);
	destroy_work_on_stack(&block.work);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 1);

	pmt_reset(t, true);
	flush_workqueue(panthor_cleanup_wq);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	pmt_destroy_vm(t);
}

/* A VM whose MMU is stuck is destroyed like any other. */
static void pmt_test_destroy_stuck(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_8M, SZ_1G, SZ_2M, SZ_4K);

	pmt_give_as(t);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_8M, SZ_1G - SZ_2M), 0);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_4M, SZ_1G), 0);
	pmt_bo_put(bo);
	pmt_set_stuck(t, true);
	panthor_vm_destroy(t->vm);
	flush_workqueue(panthor_cleanup_wq);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 1);

	pmt_reset(t, true);
	t->vm = NULL;
	KUNIT_EXPECT_EQ(test, pmt_tables(t), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->ptdev->mmu->vm.list));
}

static struct drm_sched_job *pmt_push(struct pmt *t, u32 type, u32 handle, u64 size,
				      u64 va, struct dma_fence *dep)
{
	struct drm_panthor_vm_bind_op op = {
		.flags = type,
		.bo_handle = handle,
		.va = va,
		.size = size,
	};
	struct drm_sched_job *job;

	job = panthor_vm_bind_job_create(&t->file, t->vm, &op);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(t->test, job);
	KUNIT_ASSERT_EQ(t->test, 0,
			drm_sched_job_add_dependency(job, dma_fence_get(dep)));
	drm_sched_job_arm(job);
	return job;
}

static const char *pmt_fence_name(struct dma_fence *fence)
{
	return "panthor-test";
}

static const struct dma_fence_ops pmt_fence_ops = {
	.get_driver_name = pmt_fence_name,
	.get_timeline_name = pmt_fence_name,
};

/* A fence for jobs to wait for */
static struct dma_fence *pmt_fence(struct pmt *t)
{
	static DEFINE_SPINLOCK(lock);
	struct dma_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(t->test, fence);
	dma_fence_init(fence, &pmt_fence_ops, &lock, dma_fence_context_alloc(1), 1);
	return fence;
}

/* Jobs that are queued wait for a reset, and then do what they are to do. */
static void pmt_test_queue_reset(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_4M, 0);
	static const struct {
		u32 type;
		u64 va, size;
	} ops[] = {
		{ DRM_PANTHOR_VM_BIND_OP_TYPE_UNMAP, SZ_2M + SZ_1M, 0 },
		{ DRM_PANTHOR_VM_BIND_OP_TYPE_MAP, 0, 0 },
		/* All that is the user's */
		{ DRM_PANTHOR_VM_BIND_OP_TYPE_UNMAP, 0, PMT_KERNEL_VA },
		{ DRM_PANTHOR_VM_BIND_OP_TYPE_MAP, SZ_1G, SZ_4M },
	};
	struct dma_fence *dep = pmt_fence(t), *finished[ARRAY_SIZE(ops)];
	int root = pmt_tables(t), handle, allocs;

	handle = idr_alloc(&t->file.object_idr, &bo->base.base, 1, 0, GFP_KERNEL);
	KUNIT_ASSERT_GT(test, handle, 0);
	pmt_give_as(t);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_4M, SZ_2M), 0);
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_4M - SZ_4K, PMT_KERNEL_VA - SZ_4M), 0);

	for (u32 i = 0; i < ARRAY_SIZE(ops); i++) {
		bool map = ops[i].type == DRM_PANTHOR_VM_BIND_OP_TYPE_MAP;
		struct drm_sched_job *job;

		job = pmt_push(t, ops[i].type, map ? handle : 0, ops[i].size,
			       ops[i].va, dep);
		finished[i] = dma_fence_get(&job->s_fence->finished);
		drm_sched_entity_push_job(job);
	}
	idr_remove(&t->file.object_idr, handle);

	/* All is reserved: from here on there is no memory. */
	allocs = atomic_read(&t->allocs);
	t->fail_after = 0;
	panthor_mmu_pre_reset(t->ptdev);
	dma_fence_signal(dep);
	KUNIT_EXPECT_EQ(test, dma_fence_wait_timeout(finished[0], false, HZ / 50), 0);
	panthor_mmu_post_reset(t->ptdev, true);
	for (u32 i = 0; i < ARRAY_SIZE(ops); i++) {
		KUNIT_EXPECT_GT(test, dma_fence_wait_timeout(finished[i], false, HZ), 0);
		KUNIT_EXPECT_EQ(test, finished[i]->error, 0);
		dma_fence_put(finished[i]);
	}
	dma_fence_put(dep);
	t->fail_after = -1;
	KUNIT_EXPECT_EQ(test, allocs, atomic_read(&t->allocs));
	KUNIT_EXPECT_FALSE(test, panthor_vm_is_unusable(t->vm));

	KUNIT_EXPECT_TRUE(test, drm_gpuvm_interval_empty(&t->vm->base, 0, SZ_1G));
	KUNIT_EXPECT_TRUE(test, drm_gpuvm_interval_empty(&t->vm->base, SZ_1G + SZ_4M,
							 PMT_KERNEL_VA - SZ_1G - SZ_4M));
	pmt_expect_mapped(t, SZ_2M, SZ_4M, NULL, 0);
	pmt_expect_mapped(t, SZ_1G, SZ_4M, bo, 0);
	KUNIT_EXPECT_EQ(test, pmt_unmap(t, SZ_1G, SZ_4M), 0);
	pmt_bo_put(bo);

	/* free_job() runs after the fence has been signaled. */
	for (u32 i = 0; i < 100 && pmt_tables(t) != root; i++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, pmt_tables(t), root);
	pmt_destroy_vm(t);
}

/* A VM is destroyed while jobs of its VM_BIND queue wait for a fence. */
static void pmt_test_destroy_pending(struct kunit *test)
{
	struct pmt *t = test->priv;
	struct panthor_gem_object *bo = pmt_bo(t, SZ_4M, SZ_1G, SZ_4M, 0);
	static const u32 types[] = {
		DRM_PANTHOR_VM_BIND_OP_TYPE_MAP, DRM_PANTHOR_VM_BIND_OP_TYPE_UNMAP,
		DRM_PANTHOR_VM_BIND_OP_TYPE_MAP,
	};
	struct dma_fence *dep = pmt_fence(t), *finished[ARRAY_SIZE(types)];
	int handle;

	handle = idr_alloc(&t->file.object_idr, &bo->base.base, 1, 0, GFP_KERNEL);
	KUNIT_ASSERT_GT(test, handle, 0);

	/* With nothing to wait for it maps. */
	KUNIT_EXPECT_EQ(test, pmt_map(t, bo, 0, SZ_4M, SZ_2M), 0);

	for (u32 i = 0; i < ARRAY_SIZE(types); i++) {
		bool map = types[i] == DRM_PANTHOR_VM_BIND_OP_TYPE_MAP;
		struct drm_sched_job *job;

		job = pmt_push(t, types[i], map ? handle : 0, SZ_2M + SZ_4K,
			       SZ_2M + SZ_64K, dep);
		finished[i] = dma_fence_get(&job->s_fence->finished);
		drm_sched_entity_push_job(job);
	}

	idr_remove(&t->file.object_idr, handle);
	pmt_bo_put(bo);
	panthor_vm_destroy(t->vm);
	KUNIT_EXPECT_GT(test, pmt_tables(t), 0);

	dma_fence_signal(dep);
	for (u32 i = 0; i < ARRAY_SIZE(types); i++) {
		bool map = types[i] == DRM_PANTHOR_VM_BIND_OP_TYPE_MAP;

		KUNIT_EXPECT_GT(test, dma_fence_wait_timeout(finished[i], false, HZ), 0);
		KUNIT_EXPECT_EQ(test, finished[i]->error, map ? -EINVAL : 0);
		dma_fence_put(finished[i]);
	}
	dma_fence_put(dep);

	/* free_job() runs after the fence has been signaled. */
	for (u32 i = 0; i < 100 && atomic_read(&t->bos); i++)
		msleep(20);
	t->vm = NULL;
	KUNIT_EXPECT_EQ(test, pmt_tables(t), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->bos), 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->ptdev->mmu->vm.list));
}

/* The device */

static const struct drm_driver pmt_driver = {
	.driver_features = DRIVER_GEM | DRIVER_GEM_GPUVA | DRIVER_SYNCOBJ,
	.gem_create_object = panthor_gem_create_object,
};

static int pmt_init(struct kunit *test)
{
	struct device *dev;
	struct drm_device *drm;
	struct pmt *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	t->test = test;
	t->fail_after = -1;
	t->fail_objects_after = -1;
	prandom_seed_state(&t->rnd, 0x9a27408);
	idr_init(&t->file.object_idr);
	spin_lock_init(&t->file.table_lock);

	t->regs = kunit_kzalloc(test, PMT_REGS_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->regs);
	pmt_now = t;

	dev = drm_kunit_helper_alloc_device(test);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0, dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64)));

	drm = __drm_kunit_helper_alloc_drm_device_with_driver(test, dev,
							      sizeof(*t->ptdev),
							      offsetof(struct panthor_device, base),
							      &pmt_driver);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, drm);
	t->ptdev = container_of(drm, struct panthor_device, base);
	t->ptdev->iomem = pmt_iomem(t);
	KUNIT_ASSERT_NOT_NULL(test, (void __force *)t->ptdev->iomem);
	t->ptdev->coherent = true;
	t->ptdev->gpu_info.mmu_features = PMT_VA_BITS | (40 << 8);
	t->ptdev->gpu_info.as_present = 0xff;
	t->ptdev->gpu_info.l2_features = ilog2(SZ_64);
	KUNIT_ASSERT_EQ(test, panthor_mmu_alloc(t->ptdev), 0);
	t->ptdev->mmu->irq.ptdev = t->ptdev;

	t->allocator = iopte_allocator_create(&pmt_allocator_ops, t, 0);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->allocator);
	kunit_activate_static_stub(test, panthor_vm_pt_allocator, pmt_pt_allocator);

	kunit_activate_static_stub(test, panthor_op_alloc, pmt_op_alloc);
	kunit_activate_static_stub(test, panthor_vm_bo_create, pmt_vm_bo_create);

	if (IS_ENABLED(CONFIG_PROVE_LOCKING) && !pmt_lockdep_silent())
		kunit_warn(test, "lockdep is off: it does not check any operation\n");

	pmt_create_vm(t);
	return 0;
}

static void pmt_exit(struct kunit *test)
{
	struct pmt *t = test->priv;

	/* pmt_init() may have stopped anywhere. */
	if (!t)
		return;

	/* A test that has failed may leave its VM. */
	if (!IS_ERR_OR_NULL(t->vm))
		panthor_vm_destroy(t->vm);
	flush_workqueue(panthor_cleanup_wq);
	if (!IS_ERR_OR_NULL(t->allocator) &&
	    list_empty(&t->ptdev->mmu->vm.list) && !pmt_tables(t))
		iopte_allocator_destroy(t->allocator);
	idr_destroy(&t->file.object_idr);
}

static struct kunit_case pmt_cases[] = {
	KUNIT_CASE(pmt_test_remap),
	KUNIT_CASE(pmt_test_empty),
	KUNIT_CASE(pmt_test_sync),
	KUNIT_CASE(pmt_test_random),
	KUNIT_CASE(pmt_test_prepare_fails),
	KUNIT_CASE(pmt_test_prepare_fails_object),
	KUNIT_CASE(pmt_test_short_object),
	KUNIT_CASE(pmt_test_unmap_all),
	KUNIT_CASE(pmt_test_whole_vmas),
	KUNIT_CASE(pmt_test_heap),
	KUNIT_CASE(pmt_test_pages_per_bind),
	KUNIT_CASE_PARAM(pmt_test_flush_unmap, pmt_flush_gen_params),
	KUNIT_CASE_PARAM(pmt_test_flush_map, pmt_flush_gen_params),
	KUNIT_CASE_PARAM(pmt_test_flush_destroy, pmt_flush_gen_params),
	KUNIT_CASE(pmt_test_unplug_lost),
	KUNIT_CASE(pmt_test_reset_fails),
	KUNIT_CASE(pmt_test_drop_late),
	KUNIT_CASE(pmt_test_destroy_stuck),
	KUNIT_CASE(pmt_test_queue_reset),
	KUNIT_CASE(pmt_test_destroy_pending),
	{}
};

static struct kunit_suite pmt_suite = {
	.name = "panthor-vm",
	.init = pmt_init,
	.exit = pmt_exit,
	.test_cases = pmt_cases,
};

kunit_test_suite(pmt_suite);
