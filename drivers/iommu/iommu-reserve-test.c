// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tests of reserving ranges of a domain, of the core's part in it.
 *
 * The domain is a fake whose operations record their arguments, and return what
 * the test says: what the core refuses must not get there, and what it does not
 * refuse must get there as it is, with the error on its way back.
 *
 * A WARN that a case provokes is announced on the console, with the lines
 * "expect-splat: begin <extended regular expression>" and "expect-splat: end"
 * around it.  As they are WARN_ON_ONCE()s, one case has all that lead to one.
 */

#include <kunit/test.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "iopte-test.h"

/* The aperture of the fake domain, and its page sizes. */
#define FIRST		((unsigned long)SZ_1G)
/* the address at that distance from the first one */
#define AT(offset)	(FIRST + (offset))
#define END		(3UL * SZ_1G)
#define PGSIZES		(SZ_4K | SZ_2M | SZ_1G)

/**
 * struct fake_domain - a domain that records what reaches its driver
 * @domain: the domain
 * @ops: its operations
 * @enabled: calls of enable_reserve
 * @reserved: calls of reserve_range
 * @unreserved: calls of unreserve_range
 * @ret: what those that can fail return
 * @iova: argument of the last call, or start of what is being mapped
 * @size: argument of the last call, or size of what is being mapped
 * @pgsize: argument of the last call
 * @gfp: argument of the last reserve_range
 * @at: where the next map_pages must begin
 * @run_end: end of the run that it is in
 * @run_pgsize: page size of that run
 * @at_most: pages that one map_pages maps, whatever it is asked for
 * @wrong: calls of map_pages that were not as expected
 */
struct fake_domain {
	struct iommu_domain domain;
	struct iommu_domain_ops ops;
	unsigned int enabled;
	unsigned int reserved;
	unsigned int unreserved;
	int ret;
	unsigned long iova;
	size_t size;
	size_t pgsize;
	gfp_t gfp;
	unsigned long at;
	unsigned long run_end;
	size_t run_pgsize;
	size_t at_most;
	unsigned int wrong;
};

static struct fake_domain *to_fake(struct iommu_domain *domain)
{
	return container_of(domain, struct fake_domain, domain);
}

static int fake_enable_reserve(struct iommu_domain *domain)
{
	struct fake_domain *fake = to_fake(domain);

	fake->enabled++;
	return fake->ret;
}

static int fake_reserve_range(struct iommu_domain *domain, unsigned long iova,
			      size_t size, size_t pgsize, gfp_t gfp)
{
	struct fake_domain *fake = to_fake(domain);

	fake->reserved++;
	fake->iova = iova;
	fake->size = size;
	fake->pgsize = pgsize;
	fake->gfp = gfp;
	return fake->ret;
}

static void fake_unreserve_range(struct iommu_domain *domain,
				 unsigned long iova, size_t size, size_t pgsize)
{
	struct fake_domain *fake = to_fake(domain);

	fake->unreserved++;
	fake->iova = iova;
	fake->size = size;
	fake->pgsize = pgsize;
}

/* Maps nothing: it only looks at what it is asked for. */
static int fake_map_pages(struct iommu_domain *domain, unsigned long iova,
			  phys_addr_t paddr, size_t pgsize, size_t pgcount,
			  int prot, gfp_t gfp, size_t *mapped)
{
	struct fake_domain *fake = to_fake(domain);

	if (iova == fake->run_end)
		fake->run_end += iommu_map_run(domain, iova, paddr,
					       fake->size - (iova - fake->iova),
					       &fake->run_pgsize);
	if (iova != fake->at || pgsize != fake->run_pgsize ||
	    pgsize * pgcount != fake->run_end - iova)
		fake->wrong++;

	*mapped = min(pgcount, fake->at_most) * pgsize;
	fake->at += *mapped;
	return 0;
}

static int iommu_reserve_test_init(struct kunit *test)
{
	struct fake_domain *fake;

	fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, fake);

	fake->ops.enable_reserve = fake_enable_reserve;
	fake->ops.reserve_range = fake_reserve_range;
	fake->ops.unreserve_range = fake_unreserve_range;
	fake->ops.map_pages = fake_map_pages;
	fake->domain.type = IOMMU_DOMAIN_UNMANAGED;
	fake->domain.ops = &fake->ops;
	fake->domain.pgsize_bitmap = PGSIZES;
	fake->domain.geometry.aperture_start = FIRST;
	fake->domain.geometry.aperture_end = END - 1;
	fake->domain.geometry.force_aperture = true;

	test->priv = fake;
	return 0;
}

static void expect_calls(struct kunit *test, unsigned int enabled,
			 unsigned int reserved, unsigned int unreserved)
{
	struct fake_domain *fake = test->priv;

	KUNIT_EXPECT_EQ(test, fake->enabled, enabled);
	KUNIT_EXPECT_EQ(test, fake->reserved, reserved);
	KUNIT_EXPECT_EQ(test, fake->unreserved, unreserved);
	fake->enabled = 0;
	fake->reserved = 0;
	fake->unreserved = 0;
}

/* Reserve and unreserve a range that the core must not refuse. */
static void expect_passed(struct kunit *test, unsigned long iova, size_t size,
			  size_t pgsize, gfp_t gfp)
{
	struct fake_domain *fake = test->priv;

	KUNIT_EXPECT_EQ(test, iommu_reserve_range(&fake->domain, iova, size,
						  pgsize, gfp), fake->ret);
	expect_calls(test, 0, 1, 0);
	KUNIT_EXPECT_EQ(test, fake->iova, iova);
	KUNIT_EXPECT_EQ(test, fake->size, size);
	KUNIT_EXPECT_EQ(test, fake->pgsize, pgsize);
	KUNIT_EXPECT_EQ(test, (__force u32)fake->gfp, (__force u32)gfp);

	fake->iova = ~iova;
	fake->size = 0;
	fake->pgsize = 0;
	iommu_unreserve_range(&fake->domain, iova, size, pgsize);
	expect_calls(test, 0, 0, 1);
	KUNIT_EXPECT_EQ(test, fake->iova, iova);
	KUNIT_EXPECT_EQ(test, fake->size, size);
	KUNIT_EXPECT_EQ(test, fake->pgsize, pgsize);
}

static void expect_refused(struct kunit *test, unsigned long iova, size_t size,
			   size_t pgsize, int error)
{
	struct fake_domain *fake = test->priv;

	KUNIT_EXPECT_EQ_MSG(test, iommu_reserve_range(&fake->domain, iova, size,
						      pgsize, GFP_KERNEL),
			    error, "iova 0x%lx size 0x%zx pgsize 0x%zx",
			    iova, size, pgsize);
	expect_calls(test, 0, 0, 0);
}

static const unsigned int paging_types[] = {
	IOMMU_DOMAIN_UNMANAGED, IOMMU_DOMAIN_DMA, IOMMU_DOMAIN_DMA_FQ,
};

static const unsigned int other_types[] = {
	IOMMU_DOMAIN_BLOCKED, IOMMU_DOMAIN_IDENTITY, IOMMU_DOMAIN_SVA,
	IOMMU_DOMAIN_PLATFORM, IOMMU_DOMAIN_NESTED,
};

/* What drivers are documented to return, and others. */
static const int driver_errors[] = {
	-EINVAL, -ERANGE, -ENODEV, -EOPNOTSUPP, -ENOMEM, -EOVERFLOW, -EINTR,
	-EBUSY, -EACCES,
};

static void test_enable(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(paging_types); i++) {
		fake->domain.type = paging_types[i];
		KUNIT_EXPECT_EQ(test, iommu_enable_reserve(&fake->domain), 0);
		expect_calls(test, 1, 0, 0);
	}

	for (i = 0; i < ARRAY_SIZE(driver_errors); i++) {
		fake->ret = driver_errors[i];
		KUNIT_EXPECT_EQ(test, iommu_enable_reserve(&fake->domain),
				driver_errors[i]);
		expect_calls(test, 1, 0, 0);
	}
}

static void test_enable_refused(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(other_types); i++) {
		fake->domain.type = other_types[i];
		KUNIT_EXPECT_EQ(test, iommu_enable_reserve(&fake->domain), -EINVAL);
	}
	expect_calls(test, 0, 0, 0);

	fake->domain.type = IOMMU_DOMAIN_UNMANAGED;
	fake->ops.enable_reserve = NULL;
	KUNIT_EXPECT_EQ(test, iommu_enable_reserve(&fake->domain), -EOPNOTSUPP);
	expect_calls(test, 0, 0, 0);
}

static void test_reserve(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(paging_types); i++) {
		fake->domain.type = paging_types[i];
		expect_passed(test, FIRST, SZ_4K, SZ_4K, GFP_KERNEL);
	}

	/* All of the aperture, its ends, and every page size. */
	expect_passed(test, FIRST, END - FIRST, SZ_4K, GFP_KERNEL_ACCOUNT);
	expect_passed(test, FIRST, END - FIRST, SZ_2M, GFP_KERNEL_ACCOUNT);
	expect_passed(test, FIRST, END - FIRST, SZ_1G, GFP_KERNEL_ACCOUNT);
	expect_passed(test, END - SZ_4K, SZ_4K, SZ_4K, GFP_KERNEL);
	expect_passed(test, END - SZ_1G, SZ_1G, SZ_1G, GFP_KERNEL);
	expect_passed(test, AT(SZ_2M), 3 * SZ_2M, SZ_2M, GFP_KERNEL);
	expect_passed(test, AT(SZ_4K), 5 * SZ_4K, SZ_4K, GFP_KERNEL);

	/* It sleeps on a mutex also where it does not for memory. */
	expect_passed(test, FIRST, SZ_4K, SZ_4K, GFP_NOWAIT);
	expect_passed(test, FIRST, SZ_4K, SZ_4K,
		      GFP_KERNEL | __GFP_ACCOUNT | __GFP_NOWARN | __GFP_ZERO);
}

static void test_reserve_fails(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(driver_errors); i++) {
		fake->ret = driver_errors[i];
		expect_passed(test, FIRST, SZ_2M, SZ_4K, GFP_KERNEL);
	}
}

/* The first page of the address space is one as any other. */
static void test_bottom(struct kunit *test)
{
	struct fake_domain *fake = test->priv;

	fake->domain.geometry.aperture_start = 0;
	expect_passed(test, 0, SZ_4K, SZ_4K, GFP_KERNEL);
	expect_passed(test, 0, SZ_1G, SZ_1G, GFP_KERNEL);
	expect_passed(test, 0, END, SZ_2M, GFP_KERNEL);
	expect_refused(test, 0, END + 2 * SZ_1M, SZ_2M, -ERANGE);
}

/* A range may end where the address space does, and no range goes beyond. */
static void test_top(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	unsigned long last_4k = -(unsigned long)SZ_4K;
	unsigned long last_1g = -(unsigned long)SZ_1G;

	fake->domain.geometry.aperture_end = ULONG_MAX;
	expect_passed(test, last_4k, SZ_4K, SZ_4K, GFP_KERNEL);
	expect_passed(test, last_1g, SZ_1G, SZ_4K, GFP_KERNEL);
	expect_passed(test, last_1g, SZ_1G, SZ_1G, GFP_KERNEL);
	expect_passed(test, FIRST, -FIRST, SZ_1G, GFP_KERNEL);

	expect_refused(test, last_4k, 2 * SZ_4K, SZ_4K, -ERANGE);
	expect_refused(test, last_1g, SZ_1G + 4 * SZ_1K, SZ_4K, -ERANGE);
	expect_refused(test, last_1g, 2UL * SZ_1G, SZ_1G, -ERANGE);
	expect_refused(test, last_4k, -(size_t)SZ_4K, SZ_4K, -ERANGE);
	/* What wraps around is no range, with any aperture or none. */
	expect_refused(test, AT(SZ_4K), -FIRST, SZ_4K, -ERANGE);
	fake->domain.geometry.aperture_start = 0;
	expect_refused(test, last_4k, 2 * SZ_4K, SZ_4K, -ERANGE);
	fake->domain.geometry.force_aperture = false;
	expect_refused(test, last_4k, 2 * SZ_4K, SZ_4K, -ERANGE);
	expect_passed(test, last_4k, SZ_4K, SZ_4K, GFP_KERNEL);
}

/* Addresses as in the upper half of a split address space. */
static void test_upper_half(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	unsigned long start = -(unsigned long)SZ_1G;

	fake->domain.geometry.aperture_start = start;
	fake->domain.geometry.aperture_end = ULONG_MAX;
	expect_passed(test, start, SZ_1G, SZ_4K, GFP_KERNEL);
	expect_refused(test, start - SZ_4K, SZ_4K, SZ_4K, -ERANGE);
	expect_refused(test, start - SZ_4K, 2 * SZ_4K, SZ_4K, -ERANGE);
	expect_refused(test, 0, SZ_4K, SZ_4K, -ERANGE);
}

/* Before a driver has made a page table, the aperture means nothing. */
static void test_no_aperture(struct kunit *test)
{
	struct fake_domain *fake = test->priv;

	memset(&fake->domain.geometry, 0, sizeof(fake->domain.geometry));
	fake->domain.pgsize_bitmap = ~0UL;
	fake->ret = -ENODEV;
	expect_passed(test, FIRST, SZ_4K, SZ_4K, GFP_KERNEL);
	expect_passed(test, FIRST, SZ_64K, SZ_16K, GFP_KERNEL);
	expect_refused(test, FIRST, SZ_4K, SZ_4K | SZ_2M, -EINVAL);
	expect_refused(test, FIRST, SZ_4K, 0, -EINVAL);
}

/* Ranges and page sizes that the core refuses, with what error. */
static const struct refused {
	const char *what;
	unsigned long iova;
	size_t size;
	size_t pgsize;
	int error;
} refused[] = {
	{ "no page size", FIRST, SZ_4K, 0, -EINVAL },
	{ "nothing at all", 0, 0, 0, -EINVAL },
	{ "bytes", FIRST, SZ_4K, 1, -EINVAL },
	{ "a page size below all", FIRST, SZ_4K, SZ_2K, -EINVAL },
	{ "a page size between", FIRST, SZ_2M, SZ_64K, -EINVAL },
	{ "a page size above all", AT(SZ_1G), SZ_1G, SZ_1G * 2UL, -EINVAL },
	{ "two page sizes", FIRST, SZ_1G, SZ_4K | SZ_2M, -EINVAL },
	{ "all page sizes", FIRST, SZ_1G, PGSIZES, -EINVAL },
	{ "a page size and bits", FIRST, SZ_2M, SZ_2M | SZ_64K, -EINVAL },
	{ "empty", FIRST, 0, SZ_4K, -EINVAL },
	{ "empty, outside", 0, 0, SZ_4K, -EINVAL },
	{ "half a page", FIRST, SZ_2K, SZ_4K, -EINVAL },
	{ "a page and a half", FIRST, 3 * SZ_2K, SZ_4K, -EINVAL },
	{ "a byte more", FIRST, SZ_4K + 1, SZ_4K, -EINVAL },
	{ "a byte less", FIRST, SZ_4K - 1, SZ_4K, -EINVAL },
	{ "small for 2M", FIRST, SZ_4K, SZ_2M, -EINVAL },
	{ "small for 1G", FIRST, SZ_2M, SZ_1G, -EINVAL },
	{ "starts inside a page", FIRST + 1, SZ_4K, SZ_4K, -EINVAL },
	{ "starts inside 2M", AT(SZ_4K), SZ_2M, SZ_2M, -EINVAL },
	{ "starts inside 1G", AT(SZ_2M), SZ_1G, SZ_1G, -EINVAL },
	{ "below", 0, SZ_4K, SZ_4K, -ERANGE },
	{ "just below", FIRST - SZ_4K, SZ_4K, SZ_4K, -ERANGE },
	{ "starts below", FIRST - SZ_4K, 2 * SZ_4K, SZ_4K, -ERANGE },
	{ "just above", END, SZ_4K, SZ_4K, -ERANGE },
	{ "ends above", END - SZ_4K, 2 * SZ_4K, SZ_4K, -ERANGE },
	{ "ends above, from the start", FIRST, END - FIRST + SZ_4K, SZ_4K, -ERANGE },
	{ "around", FIRST - SZ_2M, END - FIRST + 2 * SZ_2M, SZ_2M, -ERANGE },
	{ "at the top", -(unsigned long)SZ_4K, SZ_4K, SZ_4K, -ERANGE },
	{ "over the top", -(unsigned long)SZ_4K, 2 * SZ_4K, SZ_4K, -ERANGE },
	{ "over the top and back", END - SZ_4K, -(size_t)SZ_4K, SZ_4K, -ERANGE },
	{ "all but the first page", SZ_4K, -(size_t)SZ_4K, SZ_4K, -ERANGE },
};

KUNIT_ARRAY_PARAM_DESC(refused, refused, what);

static void test_refused(struct kunit *test)
{
	const struct refused *r = test->param_value;

	expect_refused(test, r->iova, r->size, r->pgsize, r->error);
}

static void test_not_paging(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(other_types); i++) {
		fake->domain.type = other_types[i];
		expect_refused(test, FIRST, SZ_4K, SZ_4K, -EINVAL);
	}
}

static void test_no_ops(struct kunit *test)
{
	struct fake_domain *fake = test->priv;

	fake->ops.reserve_range = NULL;
	expect_refused(test, FIRST, SZ_4K, SZ_4K, -EOPNOTSUPP);
	/* That is the answer to any range. */
	expect_refused(test, FIRST, SZ_4K, 0, -EOPNOTSUPP);
	expect_refused(test, END, SZ_4K, SZ_4K, -EOPNOTSUPP);

	fake->ops.unreserve_range = NULL;
	expect_refused(test, FIRST, SZ_4K, SZ_4K, -EOPNOTSUPP);

	/* What could not be taken back is not given. */
	fake->ops.reserve_range = fake_reserve_range;
	expect_refused(test, FIRST, SZ_4K, SZ_4K, -EOPNOTSUPP);
}

static void test_gfp(struct kunit *test)
{
	static const gfp_t strange[] = {
		__GFP_COMP, __GFP_DMA, __GFP_DMA32, __GFP_HIGHMEM,
	};
	struct fake_domain *fake = test->priv;
	int i;

	expect_splat_begin("WARNING: .* at drivers/iommu/iommu[.]c:");
	for (i = 0; i < ARRAY_SIZE(strange); i++) {
		KUNIT_EXPECT_EQ(test, iommu_reserve_range(&fake->domain, FIRST,
							  SZ_4K, SZ_4K,
							  GFP_KERNEL | strange[i]),
				-EINVAL);
		expect_calls(test, 0, 0, 0);
	}
	expect_splat_end();
}

/* Nothing that cannot have been reserved is passed on. */
static void test_unreserve_refused(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	int i;

	expect_splat_begin("WARNING: .* at drivers/iommu/iommu[.]c:");
	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		iommu_unreserve_range(&fake->domain, refused[i].iova,
				      refused[i].size, refused[i].pgsize);
		expect_calls(test, 0, 0, 0);
	}

	for (i = 0; i < ARRAY_SIZE(other_types); i++) {
		fake->domain.type = other_types[i];
		iommu_unreserve_range(&fake->domain, FIRST, SZ_4K, SZ_4K);
		expect_calls(test, 0, 0, 0);
	}

	fake->domain.type = IOMMU_DOMAIN_UNMANAGED;
	fake->ops.unreserve_range = NULL;
	iommu_unreserve_range(&fake->domain, FIRST, SZ_4K, SZ_4K);
	expect_calls(test, 0, 0, 0);
	expect_splat_end();
}

/* What a segment is mapped with, run by run. */
struct run {
	size_t size;
	size_t pgsize;
};

static const struct segment {
	const char *what;
	unsigned long pgsizes;
	unsigned long iova;
	phys_addr_t paddr;
	size_t size;
	struct run runs[6];
} segments[] = {
	{ "a page", PGSIZES, FIRST, SZ_4K, SZ_4K, {{ SZ_4K, SZ_4K }} },
	{ "a large page", PGSIZES, FIRST, SZ_2M, SZ_2M, {{ SZ_2M, SZ_2M }} },
	{ "at the bottom", PGSIZES, 0, 0, SZ_1G, {{ SZ_1G, SZ_1G }} },
	{ "large enough, but the memory is not aligned", PGSIZES,
	  FIRST, SZ_4K, 2 * SZ_2M, {{ 2 * SZ_2M, SZ_4K }} },
	{ "large enough, but the address is not aligned", PGSIZES,
	  AT(SZ_4K), SZ_2M, 2 * SZ_2M, {{ 2 * SZ_2M, SZ_4K }} },
	{ "aligned, but not large enough", PGSIZES,
	  FIRST, SZ_2M, SZ_2M - SZ_4K, {{ SZ_2M - SZ_4K, SZ_4K }} },
	{ "small pages at both ends", PGSIZES,
	  AT(SZ_2M - SZ_4K), SZ_2M - SZ_4K, SZ_4K + 3 * SZ_2M + 2 * SZ_4K,
	  {{ SZ_4K, SZ_4K }, { 3 * SZ_2M, SZ_2M }, { 2 * SZ_4K, SZ_4K }} },
	{ "just not a large page in the middle", PGSIZES,
	  AT(SZ_2M - SZ_4K), SZ_2M - SZ_4K, SZ_2M, {{ SZ_2M, SZ_4K }} },
	{ "all page sizes, up and down", PGSIZES,
	  AT(SZ_1G - SZ_2M - SZ_4K), SZ_1G - SZ_2M - SZ_4K,
	  SZ_1G + 2 * SZ_2M + 2 * SZ_4K,
	  {{ SZ_4K, SZ_4K }, { SZ_2M, SZ_2M }, { SZ_1G, SZ_1G },
	   { SZ_2M, SZ_2M }, { SZ_4K, SZ_4K }} },
	{ "alike within 2M and not within 1G", PGSIZES,
	  FIRST, SZ_2M, 2UL * SZ_1G, {{ 2UL * SZ_1G, SZ_2M }} },
	{ "one page size", SZ_4K, FIRST, SZ_1G, SZ_1G, {{ SZ_1G, SZ_4K }} },
	{ "half pages", SZ_2K | SZ_1M, AT(SZ_1M - SZ_2K), SZ_1M - SZ_2K,
	  SZ_1M + 2 * SZ_2K,
	  {{ SZ_2K, SZ_2K }, { SZ_1M, SZ_1M }, { SZ_2K, SZ_2K }} },
};

KUNIT_ARRAY_PARAM_DESC(segments, segments, what);

/* A segment is mapped with the page sizes of its runs. */
static void expect_mapped(struct kunit *test, unsigned long iova,
			  phys_addr_t paddr, size_t size, size_t at_most)
{
	struct fake_domain *fake = test->priv;

	fake->iova = iova;
	fake->size = size;
	fake->at = iova;
	fake->run_end = iova;
	fake->at_most = at_most;
	KUNIT_EXPECT_EQ(test, iommu_map(&fake->domain, iova, paddr, size,
					IOMMU_READ, GFP_KERNEL), 0);
	KUNIT_EXPECT_EQ(test, fake->at, iova + size);
	KUNIT_EXPECT_EQ_MSG(test, fake->wrong, 0,
			    "pgsizes 0x%lx iova 0x%lx paddr %pa size 0x%zx at most %zu",
			    fake->domain.pgsize_bitmap, iova, &paddr, size,
			    at_most);
	fake->wrong = 0;
}

static void test_map_run(struct kunit *test)
{
	const struct segment *s = test->param_value;
	struct fake_domain *fake = test->priv;
	size_t done = 0, size, pgsize;
	const struct run *run;

	fake->domain.pgsize_bitmap = s->pgsizes;
	for (run = s->runs; run->size; run++) {
		size = iommu_map_run(&fake->domain, s->iova + done,
				     s->paddr + done, s->size - done, &pgsize);
		KUNIT_ASSERT_EQ(test, size, run->size);
		KUNIT_ASSERT_EQ(test, pgsize, run->pgsize);
		done += size;
	}
	KUNIT_EXPECT_EQ(test, done, s->size);
	expect_calls(test, 0, 0, 0);

	/* That is what the driver sees, also one that does not map all at once. */
	expect_mapped(test, s->iova, s->paddr, s->size, SIZE_MAX);
	if (s->size / SZ_2K < SZ_8K) {
		expect_mapped(test, s->iova, s->paddr, s->size, 1);
		expect_mapped(test, s->iova, s->paddr, s->size, 3);
	}
}

/* Any segments, with the page sizes of any granule. */
static void test_map_run_random(struct kunit *test)
{
	static const unsigned long bitmaps[] = {
		SZ_4K, PGSIZES, SZ_16K | SZ_32M, SZ_64K | SZ_512M,
		SZ_4K | SZ_64K | SZ_1M | SZ_16M, SZ_2K | SZ_1M, ~0xfffUL,
	};
	struct fake_domain *fake = test->priv;
	struct rnd_state rnd;
	int i;

	prandom_seed_state(&rnd, 11);
	for (i = 0; i < 3000; i++) {
		unsigned long bitmap = bitmaps[i % ARRAY_SIZE(bitmaps)];
		unsigned long granule = 1UL << __ffs(bitmap);
		/* Few bits, and often alike: else all would be small pages. */
		unsigned int shift = prandom_u32_state(&rnd) % 20;
		unsigned long iova = prandom_u32_state(&rnd) & 0xff;
		unsigned long paddr = prandom_u32_state(&rnd) & 0xff;
		size_t size = prandom_u32_state(&rnd) & 0xfff;

		iova = (iova << shift) * granule;
		paddr = (paddr << shift) * granule;
		if (i & 3)
			paddr = iova ^ (paddr & ~(SZ_2M - 1));
		size = (size + 1) * granule;

		fake->domain.pgsize_bitmap = bitmap;
		expect_mapped(test, iova, paddr, size, SIZE_MAX);
		expect_mapped(test, iova, paddr, size, 7);
	}
}

/* No run where nothing is mapped, and no word on the console. */
static void test_map_run_refused(struct kunit *test)
{
	struct fake_domain *fake = test->priv;
	size_t pgsize = SZ_512;
	int i;

	KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, FIRST, 0, 0, &pgsize), 0);
	KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, AT(SZ_2K), 0, SZ_4K,
					    &pgsize), 0);
	KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, FIRST, SZ_2K, SZ_4K,
					    &pgsize), 0);
	KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, FIRST, 0, SZ_2K,
					    &pgsize), 0);
	KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, FIRST, 0,
					    3 * SZ_2K, &pgsize), 0);

	for (i = 0; i < ARRAY_SIZE(other_types); i++) {
		fake->domain.type = other_types[i];
		KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, FIRST, 0,
						    SZ_4K, &pgsize), 0);
	}

	fake->domain.type = IOMMU_DOMAIN_UNMANAGED;
	fake->domain.pgsize_bitmap = 0;
	KUNIT_EXPECT_EQ(test, iommu_map_run(&fake->domain, FIRST, 0, SZ_4K,
					    &pgsize), 0);
	KUNIT_EXPECT_EQ(test, pgsize, SZ_512);
}

static struct kunit_case iommu_reserve_cases[] = {
	KUNIT_CASE(test_enable),
	KUNIT_CASE(test_enable_refused),
	KUNIT_CASE(test_reserve),
	KUNIT_CASE(test_reserve_fails),
	KUNIT_CASE(test_bottom),
	KUNIT_CASE(test_top),
	KUNIT_CASE(test_upper_half),
	KUNIT_CASE(test_no_aperture),
	KUNIT_CASE_PARAM(test_refused, refused_gen_params),
	KUNIT_CASE(test_not_paging),
	KUNIT_CASE(test_no_ops),
	KUNIT_CASE(test_gfp),
	KUNIT_CASE(test_unreserve_refused),
	KUNIT_CASE_PARAM(test_map_run, segments_gen_params),
	KUNIT_CASE(test_map_run_random),
	KUNIT_CASE(test_map_run_refused),
	{}
};

static struct kunit_suite iommu_reserve_suite = {
	.name = "iommu_reserve",
	.init = iommu_reserve_test_init,
	.test_cases = iommu_reserve_cases,
};

kunit_test_suite(iommu_reserve_suite);

MODULE_DESCRIPTION("KUnit tests of reserving ranges of a domain");
MODULE_LICENSE("GPL");
