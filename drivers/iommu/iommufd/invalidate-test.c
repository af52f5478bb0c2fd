// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of arrays of a guest's commands, and of looking up its devices
 *
 * The driver is one that writes down what it gets. Each command says where in the
 * array it is, so what the driver has seen tells order, losses and repetitions. It
 * takes as many commands at once as a test says, and may refuse one.
 *
 * User memory is the test's own. What cannot be read is a page that is not mapped,
 * and what changes is changed by the driver, between two reads and not by chance.
 */
#include <kunit/test.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "iommufd_private.h"

#define expect_splat_begin(regex)	pr_info("expect-splat: begin " regex "\n")
#define expect_splat_end()		pr_info("expect-splat: end\n")

#define TEST_TYPE	4711
#define TEST_MAX	10000
/* The longest command that a test passes */
#define TEST_LONGEST	32

/* A later kernel's command may have more than this, an early one had less */
struct test_cmd {
	u64 index;
	u64 later;
};

#define TEST_BLOCK (IOMMUFD_INV_BLOCK / sizeof(struct test_cmd))

struct test_viommu {
	struct iommufd_viommu core;
	struct kunit *test;
	void __user *array;
	size_t array_size;

	/* What the driver does */
	unsigned int batch;
	u32 bad_at;
	int bad_rc;
	void (*meanwhile)(struct test_viommu *viommu, unsigned int num);
	bool stuck;
	bool boasts;
	bool fails_late;

	/* What is expected */
	u32 readable;
	u64 later;

	/* What it has seen */
	u32 seen;
	u32 calls;
	u32 wrong;
};

static int test_invalidate(struct iommufd_viommu *core, const void *cmds,
			   unsigned int num, unsigned int *done)
{
	struct test_viommu *viommu =
		container_of(core, struct test_viommu, core);
	const struct test_cmd *cmd = cmds;
	unsigned int i;

	viommu->calls++;

	/* A block is full unless the array ends */
	if (num != min_t(u32, TEST_BLOCK, viommu->readable - viommu->seen))
		viommu->wrong++;

	if (viommu->meanwhile)
		viommu->meanwhile(viommu, num);
	if (viommu->stuck)
		return 0;
	if (viommu->boasts) {
		*done = num + 1;
		return 0;
	}
	if (viommu->fails_late) {
		*done = num;
		return -ENODEV;
	}

	num = min(num, viommu->batch);
	for (i = 0; i != num; i++) {
		if (cmd[i].index != viommu->seen || cmd[i].later != viommu->later)
			viommu->wrong++;
		if (viommu->seen == viommu->bad_at) {
			*done = i;
			return viommu->bad_rc;
		}
		viommu->seen++;
	}
	*done = num;
	return 0;
}

static const struct iommufd_viommu_ops test_ops = {
	.inv_type = TEST_TYPE,
	.inv_len = sizeof(struct test_cmd),
	.inv_min_len = offsetofend(struct test_cmd, index),
	.cache_invalidate = test_invalidate,
};

static int test_init(struct kunit *test)
{
	struct test_viommu *viommu;
	unsigned long addr;

	viommu = kunit_kzalloc(test, sizeof(*viommu), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, viommu);
	viommu->test = test;
	viommu->core.ops = &test_ops;
	xa_init(&viommu->core.vdevs);
	test->priv = viommu;

	/* There is nothing behind it */
	viommu->array_size = PAGE_ALIGN(TEST_MAX * TEST_LONGEST);
	addr = kunit_vm_mmap(test, NULL, 0, viommu->array_size + PAGE_SIZE,
			     PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + viommu->array_size, PAGE_SIZE));
	viommu->array = (void __user *)addr;
	return 0;
}

static void test_reset(struct test_viommu *viommu, unsigned int batch)
{
	viommu->batch = batch;
	viommu->bad_at = U32_MAX;
	viommu->seen = 0;
	viommu->calls = 0;
	viommu->wrong = 0;
	viommu->later = 0;
}

/* The nth command, in user memory that is there */
static void test_write(struct test_viommu *viommu, void __user *array,
		       size_t entry_len, u32 n, u64 index, u64 later)
{
	struct test_cmd cmd = { .index = index, .later = later };

	KUNIT_ASSERT_EQ(viommu->test, 0,
			copy_to_user(array + n * entry_len, &cmd,
				     min(entry_len, sizeof(cmd))));
}

/* num commands, the last of which ends where user memory does */
static void __user *test_fill(struct test_viommu *viommu, size_t entry_len, u32 num)
{
	void __user *array = viommu->array + viommu->array_size - num * entry_len;
	u32 i;

	KUNIT_ASSERT_EQ(viommu->test, 0, clear_user(array, num * entry_len));
	for (i = 0; i != num; i++)
		test_write(viommu, array, entry_len, i, i, viommu->later);
	viommu->readable = num;
	return array;
}

static int test_run(struct test_viommu *viommu, void __user *array,
		    size_t entry_len, u32 num, u32 *done)
{
	struct iommu_user_data_array user_array = {
		.type = TEST_TYPE,
		.uptr = array,
		.entry_len = entry_len,
		.entry_num = num,
	};
	int rc;

	rc = iommufd_viommu_invalidate(&viommu->core, &user_array);
	*done = user_array.entry_num;
	return rc;
}

static const unsigned int test_batches[] = {
	1, 2, 31, TEST_BLOCK - 1, TEST_BLOCK, TEST_BLOCK + 1, 1000
};

/* Sizes around those of blocks and batches: all commands, in order, and once */
static void test_sizes(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	unsigned int b, i;

	for (b = 0; b != ARRAY_SIZE(test_batches); b++) {
		u32 batch = test_batches[b];
		u32 sizes[] = { 0, 1, 2, batch - 1, batch, batch + 1,
				2 * batch - 1, 2 * batch, 2 * batch + 1,
				TEST_BLOCK - 1, TEST_BLOCK, TEST_BLOCK + 1,
				2 * TEST_BLOCK - 1, 2 * TEST_BLOCK,
				2 * TEST_BLOCK + 1, TEST_MAX };

		for (i = 0; i != ARRAY_SIZE(sizes); i++) {
			void __user *array;
			u32 done;
			int rc;

			test_reset(viommu, batch);
			viommu->later = 0x1234567812345678;
			array = test_fill(viommu, sizeof(struct test_cmd), sizes[i]);
			rc = test_run(viommu, array, sizeof(struct test_cmd),
				      sizes[i], &done);
			KUNIT_EXPECT_EQ(test, 0, rc);
			KUNIT_EXPECT_EQ(test, sizes[i], done);
			KUNIT_EXPECT_EQ(test, sizes[i], viommu->seen);
			KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
			/* No batch is smaller than it could be */
			KUNIT_EXPECT_EQ(test, DIV_ROUND_UP(sizes[i],
							   min(batch, TEST_BLOCK)),
					viommu->calls);
		}
	}
}

/* The driver refuses a command: at each place of two blocks, and at some behind */
static void test_bad_command(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	void __user *array = test_fill(viommu, sizeof(struct test_cmd), TEST_MAX);
	u32 seed = 1;
	unsigned int b;
	u32 i, done;

	for (b = 0; b != ARRAY_SIZE(test_batches); b++) {
		for (i = 0; i != 2 * TEST_BLOCK + 64; i++) {
			u32 at = i;
			int rc;

			if (i >= 2 * TEST_BLOCK) {
				seed = seed * 1103515245 + 12345;
				at += (seed >> 8) % (TEST_MAX - i);
			}
			test_reset(viommu, test_batches[b]);
			viommu->bad_at = at;
			viommu->bad_rc = -EIO;
			rc = test_run(viommu, array, sizeof(struct test_cmd),
				      TEST_MAX, &done);
			KUNIT_EXPECT_EQ(test, -EIO, rc);
			KUNIT_EXPECT_EQ(test, at, done);
			KUNIT_EXPECT_EQ(test, at, viommu->seen);
			KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
		}
	}
}

/* A command that is missing wholly, or but for a part of it */
static void test_bad_memory(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	static const size_t lens[] = { 8, 12, 16, 24 };
	u32 i, l, missing, done;
	int rc;

	for (l = 0; l != ARRAY_SIZE(lens); l++) {
		for (i = 0; i != 2 * TEST_BLOCK + 2; i++) {
			for (missing = 1; missing <= lens[l]; missing += 5) {
				void __user *array;
				u32 n;

				test_reset(viommu, 31);
				array = test_fill(viommu, lens[l], i) -
					lens[l] + missing;
				KUNIT_ASSERT_EQ(test, 0,
						clear_user(array, (i + 1) * lens[l] -
								  missing));
				for (n = 0; n != i; n++)
					test_write(viommu, array, lens[l], n, n,
						   0);
				rc = test_run(viommu, array, lens[l], TEST_MAX,
					      &done);
				KUNIT_EXPECT_EQ(test, -EFAULT, rc);
				KUNIT_EXPECT_EQ(test, i, done);
				KUNIT_EXPECT_EQ(test, i, viommu->seen);
				KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
			}
		}
	}
}

/* Commands of other lengths than this kernel's */
static void test_lengths(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	struct iommu_user_data_array user_array;
	void __user *array;
	u32 done, i;
	size_t len;
	int rc;

	for (len = 0; len <= TEST_LONGEST; len++) {
		test_reset(viommu, 31);
		array = test_fill(viommu, len, 200);
		rc = test_run(viommu, array, len, 200, &done);
		KUNIT_EXPECT_EQ(test, len < 8 ? -EINVAL : 0, rc);
		KUNIT_EXPECT_EQ(test, len < 8 ? 0 : 200, done);
		KUNIT_EXPECT_EQ(test, done, viommu->seen);
		KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
		if (len <= sizeof(struct test_cmd))
			continue;

		/* Something that the kernel does not know, in the last byte */
		for (i = 0; i != 2 * TEST_BLOCK + 2; i++) {
			test_reset(viommu, 31);
			array = test_fill(viommu, len, 200);
			viommu->readable = i;
			KUNIT_ASSERT_EQ(test, 0,
					put_user(1, (u8 __user *)array +
						    (i + 1) * len - 1));
			rc = test_run(viommu, array, len, 200, &done);
			KUNIT_EXPECT_EQ(test, -E2BIG, rc);
			KUNIT_EXPECT_EQ(test, i, done);
			KUNIT_EXPECT_EQ(test, i, viommu->seen);
			KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
		}
	}

	/* Probing looks at the type only */
	test_reset(viommu, 31);
	user_array = (struct iommu_user_data_array){ .type = TEST_TYPE };
	KUNIT_EXPECT_EQ(test, 0,
			iommufd_viommu_invalidate(&viommu->core, &user_array));
	user_array.type++;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			iommufd_viommu_invalidate(&viommu->core, &user_array));
	user_array = (struct iommu_user_data_array){
		.type = TEST_TYPE + 1,
		.uptr = array,
		.entry_len = sizeof(struct test_cmd),
		.entry_num = 1,
	};
	KUNIT_EXPECT_EQ(test, -EINVAL,
			iommufd_viommu_invalidate(&viommu->core, &user_array));
	KUNIT_EXPECT_EQ(test, 0, user_array.entry_num);
	KUNIT_EXPECT_EQ(test, 0, viommu->calls);
}

/*
 * While the driver looks at a block, user space writes: over all that was read, which
 * nobody may read again, and it gets what comes behind ready only now, which nobody
 * may have read yet.
 */
static void test_write_meanwhile(struct test_viommu *viommu, unsigned int num)
{
	void __user *array = viommu->array + viommu->array_size -
			     viommu->readable * sizeof(struct test_cmd);
	u32 read = viommu->seen + num;
	u32 i;

	for (i = viommu->seen; i != read; i++)
		test_write(viommu, array, sizeof(struct test_cmd), i, U64_MAX,
			   U64_MAX);
	for (i = read; i != min_t(u32, read + TEST_BLOCK, viommu->readable); i++)
		test_write(viommu, array, sizeof(struct test_cmd), i, i, 0);
}

static void test_changing(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	unsigned int b;

	viommu->meanwhile = test_write_meanwhile;
	for (b = 0; b != ARRAY_SIZE(test_batches); b++) {
		void __user *array;
		u32 done, i;
		int rc;

		test_reset(viommu, test_batches[b]);
		array = test_fill(viommu, sizeof(struct test_cmd), 1000);
		for (i = TEST_BLOCK; i != 1000; i++)
			test_write(viommu, array, sizeof(struct test_cmd), i,
				   U64_MAX, U64_MAX);
		rc = test_run(viommu, array, sizeof(struct test_cmd), 1000,
			      &done);
		KUNIT_EXPECT_EQ(test, 0, rc);
		KUNIT_EXPECT_EQ(test, 1000, done);
		KUNIT_EXPECT_EQ(test, 1000, viommu->seen);
		KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
	}
}

/* Killed in the second batch, which takes effect, and is the last to do so */
static void test_kill_meanwhile(struct test_viommu *viommu, unsigned int num)
{
	if (viommu->calls != 2)
		return;
	sigaddset(&current->pending.signal, SIGKILL);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
}

static void test_signal_meanwhile(struct test_viommu *viommu, unsigned int num)
{
	sigaddset(&current->pending.signal, SIGUSR1);
	set_tsk_thread_flag(current, TIF_SIGPENDING);
}

static void test_signals(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	void __user *array = test_fill(viommu, sizeof(struct test_cmd), 1000);
	u32 done, again;
	int rc;

	test_reset(viommu, 31);
	viommu->meanwhile = test_kill_meanwhile;
	rc = test_run(viommu, array, sizeof(struct test_cmd), 1000, &done);
	sigdelset(&current->pending.signal, SIGKILL);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, -EINTR, rc);
	KUNIT_EXPECT_EQ(test, 62, done);
	KUNIT_EXPECT_EQ(test, 62, viommu->seen);

	/* All of it took effect: there is nothing to interrupt */
	test_reset(viommu, 500);
	array = test_fill(viommu, sizeof(struct test_cmd), 2 * TEST_BLOCK);
	rc = test_run(viommu, array, sizeof(struct test_cmd), 2 * TEST_BLOCK,
		      &again);
	sigdelset(&current->pending.signal, SIGKILL);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, 0, rc);
	KUNIT_EXPECT_EQ(test, 2 * TEST_BLOCK, again);

	test_reset(viommu, 31);
	viommu->meanwhile = test_signal_meanwhile;
	array = test_fill(viommu, sizeof(struct test_cmd), 1000);
	rc = test_run(viommu, array, sizeof(struct test_cmd), 1000, &done);
	sigdelset(&current->pending.signal, SIGUSR1);
	clear_tsk_thread_flag(current, TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, 0, rc);
	KUNIT_EXPECT_EQ(test, 1000, done);
	KUNIT_EXPECT_EQ(test, 0, viommu->wrong);
}

/* A driver that does not keep to the rules gets an end, and nobody a wrong count */
static void test_bad_driver(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	void __user *array = test_fill(viommu, sizeof(struct test_cmd), 1000);
	struct iommufd_viommu_ops no_ops = {};
	u32 done;
	int rc;

	test_reset(viommu, 31);
	viommu->stuck = true;
	expect_splat_begin("WARNING:.* iommufd_viommu_invalidate");
	rc = test_run(viommu, array, sizeof(struct test_cmd), 1000, &done);
	expect_splat_end();
	KUNIT_EXPECT_EQ(test, -EIO, rc);
	KUNIT_EXPECT_EQ(test, 0, done);

	viommu->stuck = false;
	viommu->boasts = true;
	rc = test_run(viommu, array, sizeof(struct test_cmd), 1000, &done);
	KUNIT_EXPECT_EQ(test, -EIO, rc);
	KUNIT_EXPECT_EQ(test, 0, done);

	/* An error of a command, and all of them took effect: one of it is wrong */
	viommu->boasts = false;
	viommu->fails_late = true;
	rc = test_run(viommu, array, sizeof(struct test_cmd), 1000, &done);
	KUNIT_EXPECT_EQ(test, -EIO, rc);
	KUNIT_EXPECT_EQ(test, 0, done);

	viommu->core.ops = &no_ops;
	rc = test_run(viommu, array, sizeof(struct test_cmd), 1000, &done);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, rc);
	KUNIT_EXPECT_EQ(test, 0, done);
	rc = test_run(viommu, NULL, 0, 0, &done);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, rc);
}

static void test_find_vdevice(struct kunit *test)
{
	struct test_viommu *viommu = test->priv;
	struct iommufd_vdevice *vdevs;
	struct device *dev = (void *)test;
	unsigned long virt_id;
	unsigned int i, num;

	num = 65536;
	vdevs = kvcalloc(num, sizeof(*vdevs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vdevs);
	for (i = 0; i != num; i++) {
		vdevs[i].virt_id = i * 3;
		vdevs[i].dev = (void *)dev + i;
		KUNIT_EXPECT_FALSE(test, xa_is_err(xa_store(&viommu->core.vdevs,
							    i * 3, &vdevs[i],
							    GFP_KERNEL)));
	}

	rcu_read_lock();
	for (i = 0; i != num; i++) {
		if (iommufd_viommu_find_vdevice(&viommu->core, i * 3) != &vdevs[i] ||
		    iommufd_viommu_find_vdevice(&viommu->core, i * 3 + 1))
			break;
	}
	KUNIT_EXPECT_NULL(test, iommufd_viommu_find_vdevice(&viommu->core, U64_MAX));
	KUNIT_EXPECT_NULL(test,
			  iommufd_viommu_find_vdevice(&viommu->core, 1ULL << 32));
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, num, i);

	KUNIT_EXPECT_EQ(test, 0, iommufd_viommu_get_virt_id(&viommu->core, dev,
							    &virt_id));
	KUNIT_EXPECT_EQ(test, 0, virt_id);
	KUNIT_EXPECT_EQ(test, 0,
			iommufd_viommu_get_virt_id(&viommu->core,
						   (void *)dev + num - 1,
						   &virt_id));
	KUNIT_EXPECT_EQ(test, (num - 1) * 3, virt_id);
	KUNIT_EXPECT_EQ(test, -ENOENT,
			iommufd_viommu_get_virt_id(&viommu->core,
						   (void *)dev + num, &virt_id));
	KUNIT_EXPECT_EQ(test, (num - 1) * 3, virt_id);

	xa_destroy(&viommu->core.vdevs);
	kvfree(vdevs);
}

/*
 * The array of vdevices after an xa_insert() whose memory ended half-way: it has
 * nodes, and no entry.
 */
static void test_destroy_nodes(struct kunit *test)
{
	static const unsigned long indexes[] = { 0, 1, 64, 1UL << 20, ULONG_MAX };
	const struct iommufd_viommu_ops no_ops = {};
	struct test_viommu *viommu = test->priv;
	struct iommufd_hwpt_paging *hwpt;
	unsigned int i;

	hwpt = kunit_kzalloc(test, sizeof(*hwpt), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hwpt);
	viommu->core.hwpt = hwpt;
	viommu->core.ops = &no_ops;
	refcount_set(&hwpt->common.obj.users, 1 + ARRAY_SIZE(indexes));

	for (i = 0; i != ARRAY_SIZE(indexes); i++) {
		XA_STATE(xas, &viommu->core.vdevs, indexes[i]);

		do {
			xas_lock(&xas);
			xas_create_range(&xas);
			xas_unlock(&xas);
		} while (xas_nomem(&xas, GFP_KERNEL));
		KUNIT_EXPECT_EQ(test, !i, xa_empty(&viommu->core.vdevs));
		KUNIT_EXPECT_NULL(test, xa_load(&viommu->core.vdevs, indexes[i]));

		iommufd_viommu_destroy(&viommu->core.obj);
		KUNIT_EXPECT_TRUE(test, xa_empty(&viommu->core.vdevs));
	}
	KUNIT_EXPECT_EQ(test, 1, refcount_read(&hwpt->common.obj.users));
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(test_sizes),
	KUNIT_CASE_SLOW(test_bad_command),
	KUNIT_CASE_SLOW(test_bad_memory),
	KUNIT_CASE_SLOW(test_lengths),
	KUNIT_CASE(test_changing),
	KUNIT_CASE(test_signals),
	KUNIT_CASE(test_bad_driver),
	KUNIT_CASE(test_find_vdevice),
	KUNIT_CASE(test_destroy_nodes),
	{},
};

static struct kunit_suite test_suite = {
	.name = "iommufd_viommu",
	.init = test_init,
	.test_cases = test_cases,
};

kunit_test_suite(test_suite);

MODULE_IMPORT_NS(EXPORTED_FOR_KUNIT_TESTING);
MODULE_IMPORT_NS(IOMMUFD);
MODULE_DESCRIPTION("KUnit tests of arrays of a guest's invalidation commands");
MODULE_LICENSE("GPL");
