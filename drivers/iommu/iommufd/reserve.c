// SPDX-License-Identifier: GPL-2.0
/*
 * The page tables that areas have reserved in domains
 *
 * What an area maps in a domain is reserved there first, if the domain can
 * reserve: each run of one page size, with the page size that iommu_map() is
 * about to choose for it, so that it takes no table more than the map does. Then
 * only the reserve allocates, and it fails before anything of the batch is
 * mapped. An unmap needs no memory: iommufd never splits a page, each unmap covers
 * whole pages of what was mapped. So the driver is never asked for less than the
 * page size that a run is reserved for, and down to that it has every table. A
 * domain that cannot reserve says -EOPNOTSUPP, and the area has nothing here for
 * it.
 *
 * iopt_area::table_resvs lists a struct iopt_table_resv for each domain in which
 * the area has something reserved. That has the runs, in the order of their IOVA.
 *
 *  - What an area has mapped in a domain that can reserve lies in runs of this
 *    area and domain, each page in one of the page size it is mapped with.
 *  - Runs lie inside of their area and do not overlap. Areas do not overlap, so
 *    nothing is reserved twice. Two runs that touch differ in their page size,
 *    so the memory of a list follows the fragmentation of the area, and not the
 *    number of batches that it was filled in.
 *  - Reserving goes from the start of an area to its end. Taking back is for all
 *    runs of an area and a domain at once, and after the last unmap: whoever
 *    unwinds unmaps first, whatever part was filled, and unreserves then. So it
 *    cuts no run, allocates nothing and cannot fail.
 *  - Only iopt_area_split() cuts a run. It allocates what that takes before it
 *    changes anything. A filled area is split only if large pages are disabled:
 *    then batch_iommu_map_small() has mapped all of it in PAGE_SIZE units, which
 *    are all of one page size of the domain, so the area has a single run in each
 *    domain. It is cut at the end of a page, so no page of a run is ever cut.
 *
 * The lists change under iopt_pages::mutex, by someone to whom the area belongs:
 *
 *  - map and unmap hold domains_rwsem for reading, so domains neither come nor go,
 *    and iopt_area::pages is NULL, so nobody else touches the area;
 *  - who adds or removes a domain, or splits an area, holds iova_rwsem for writing
 *    and leaves areas alone whose iopt_area::pages is NULL.
 *
 * So who holds iova_rwsem for writing may look at the lists of an area with pages
 * before it takes the mutex.
 *
 * Other threads may map, unmap, reserve and unreserve in the same domain, for
 * other areas: domains allow that. An area's IOVA stays taken until it has been
 * unreserved.
 *
 * Domains take locks of their own inside of iopt_pages::mutex, and sleep, as
 * iommu_map() does there with GFP_KERNEL. What is new is a mutex of the page table.
 * When the memory is that of another process, a batch is mapped with its mmap_lock
 * held for reading, see pfn_reader_user, so that mutex nests inside of mmap_lock
 * too. It cannot be the other way round: page tables are allocated without that
 * mutex, and nothing that is done with it faults or takes mmap_lock.
 */
#include <linux/iommu.h>
#include <linux/lockdep.h>
#include <linux/slab.h>

#include "io_pagetable.h"

/**
 * struct iopt_resv_run - IOVA whose page tables are reserved for one page size
 * @elm: In iopt_table_resv::runs
 * @iova: Start in bytes
 * @size: Length in bytes
 * @pgsize: The page size in bytes
 */
struct iopt_resv_run {
	struct list_head elm;
	unsigned long iova;
	size_t size;
	size_t pgsize;
};

/**
 * struct iopt_table_resv - All that an area has reserved in a domain
 * @elm: In iopt_area::table_resvs
 * @domain: The domain
 * @runs: Of struct iopt_resv_run, by iova, never empty
 */
struct iopt_table_resv {
	struct list_head elm;
	struct iommu_domain *domain;
	struct list_head runs;
};

static struct iopt_table_resv *iopt_area_find_resv(struct iopt_area *area,
						   struct iommu_domain *domain)
{
	struct iopt_table_resv *resv;

	list_for_each_entry(resv, &area->table_resvs, elm)
		if (resv->domain == domain)
			return resv;
	return NULL;
}

static struct iopt_table_resv *iopt_alloc_resv(struct iommu_domain *domain)
{
	struct iopt_table_resv *resv;

	resv = kmalloc(sizeof(*resv), GFP_KERNEL_ACCOUNT);
	if (!resv)
		return NULL;
	resv->domain = domain;
	INIT_LIST_HEAD(&resv->runs);
	return resv;
}

static struct iopt_resv_run *iopt_alloc_run(void)
{
	return kmalloc(sizeof(struct iopt_resv_run), GFP_KERNEL_ACCOUNT);
}

/**
 * iopt_area_reserve_tables() - Reserve a run of page tables for an area
 * @area: The area that is about to be mapped
 * @pages: The pages associated with the area (area->pages may be NULL)
 * @domain: The domain that it is about to be mapped in
 * @iova: Start of the run in bytes, inside of the area and behind all that it has
 *        reserved in @domain so far
 * @size: Length of the run in bytes
 * @pgsize: The page size in bytes that all of the run is about to be mapped with
 *
 * To be undone by iopt_area_unreserve_tables(), with all that the area has in
 * @domain.
 *
 * Context: Process context with pages->mutex held. Allocates.
 *
 * Return: 0, or an error of iommu_reserve_range(), or -ENOMEM for the memory of
 * the list; nothing of the run is reserved then and the list is as before.
 * -EOPNOTSUPP says that @domain cannot reserve, no matter what. -EINTR: a fatal
 * signal is pending, as with pin_user_pages().
 */
int iopt_area_reserve_tables(struct iopt_area *area, struct iopt_pages *pages,
			     struct iommu_domain *domain, unsigned long iova,
			     size_t size, size_t pgsize)
{
	struct iopt_table_resv *new_resv = NULL;
	struct iopt_table_resv *resv;
	struct iopt_resv_run *run;
	int rc;

	lockdep_assert_held(&pages->mutex);

	resv = iopt_area_find_resv(area, domain);
	if (resv) {
		run = list_last_entry(&resv->runs, struct iopt_resv_run, elm);
		if (run->pgsize == pgsize && run->iova + run->size == iova) {
			rc = iommu_reserve_range(domain, iova, size, pgsize,
						 GFP_KERNEL_ACCOUNT);
			if (!rc)
				run->size += size;
			return rc;
		}
	} else {
		new_resv = iopt_alloc_resv(domain);
		if (!new_resv)
			return -ENOMEM;
		resv = new_resv;
	}

	run = iopt_alloc_run();
	if (!run) {
		rc = -ENOMEM;
		goto out_free_resv;
	}

	rc = iommu_reserve_range(domain, iova, size, pgsize,
				 GFP_KERNEL_ACCOUNT);
	if (rc)
		goto out_free_run;

	run->iova = iova;
	run->size = size;
	run->pgsize = pgsize;
	list_add_tail(&run->elm, &resv->runs);
	if (new_resv)
		list_add_tail(&new_resv->elm, &area->table_resvs);
	return 0;

out_free_run:
	kfree(run);
out_free_resv:
	kfree(new_resv);
	return rc;
}

/**
 * iopt_area_unreserve_tables() - Take back all an area has reserved in a domain
 * @area: The area
 * @pages: The pages associated with the area (area->pages may be NULL)
 * @domain: The domain, in which nothing of the area is mapped any more
 *
 * Does nothing if nothing is reserved.
 *
 * Context: Process context with pages->mutex held. May sleep, allocates nothing.
 */
void iopt_area_unreserve_tables(struct iopt_area *area,
				struct iopt_pages *pages,
				struct iommu_domain *domain)
{
	struct iopt_resv_run *run, *next;
	struct iopt_table_resv *resv;

	lockdep_assert_held(&pages->mutex);

	resv = iopt_area_find_resv(area, domain);
	if (!resv)
		return;

	list_for_each_entry_safe(run, next, &resv->runs, elm) {
		iommu_unreserve_range(domain, run->iova, run->size,
				      run->pgsize);
		kfree(run);
	}
	list_del(&resv->elm);
	kfree(resv);
}

/**
 * iopt_area_free_resvs() - Free the lists of an area that was never used
 * @area: The area, with no more than iopt_area_prepare_split_resvs() has put there
 *
 * Context: Any, nobody else can see @area.
 */
void iopt_area_free_resvs(struct iopt_area *area)
{
	struct iopt_table_resv *resv, *next_resv;
	struct iopt_resv_run *run, *next_run;

	list_for_each_entry_safe(resv, next_resv, &area->table_resvs, elm) {
		list_for_each_entry_safe(run, next_run, &resv->runs, elm)
			kfree(run);
		kfree(resv);
	}
	INIT_LIST_HEAD(&area->table_resvs);
}

/**
 * iopt_area_prepare_split_resvs() - Allocate what it takes to split reservations
 * @area: The area that is going to be split, which has pages
 * @rhs: A new area, to become the upper part of it
 *
 * Gives @rhs a list of one run, not filled in yet, for each domain in which @area
 * has something reserved. The lower part is going to take over the lists that there
 * are. To be followed by iopt_area_split_resvs() or iopt_area_free_resvs().
 *
 * Context: Process context with iova_rwsem held for writing, until the split is
 * over. Allocates.
 *
 * Return: 0, or -ENOMEM and nothing is left allocated.
 */
int iopt_area_prepare_split_resvs(struct iopt_area *area,
				  struct iopt_area *rhs)
{
	struct iopt_table_resv *resv, *new_resv;
	struct iopt_resv_run *run;

	lockdep_assert_held_write(&area->iopt->iova_rwsem);

	list_for_each_entry(resv, &area->table_resvs, elm) {
		new_resv = iopt_alloc_resv(resv->domain);
		if (!new_resv)
			goto err_free;
		list_add_tail(&new_resv->elm, &rhs->table_resvs);
		run = iopt_alloc_run();
		if (!run)
			goto err_free;
		list_add(&run->elm, &new_resv->runs);
	}
	return 0;

err_free:
	iopt_area_free_resvs(rhs);
	return -ENOMEM;
}

/* Cut the run of lower in two, the run of upper becomes what starts at cut */
static void iopt_resv_split(struct iopt_table_resv *lower,
			    struct iopt_table_resv *upper, unsigned long cut)
{
	struct iopt_resv_run *run =
		list_first_entry(&lower->runs, struct iopt_resv_run, elm);
	struct iopt_resv_run *rest =
		list_first_entry(&upper->runs, struct iopt_resv_run, elm);
	size_t keep = cut - run->iova;

	if (IS_ENABLED(CONFIG_IOMMUFD_TEST))
		WARN_ON(!list_is_singular(&lower->runs) || cut % run->pgsize);

	rest->iova = cut;
	rest->size = run->size - keep;
	rest->pgsize = run->pgsize;
	run->size = keep;
}

/**
 * iopt_area_split_resvs() - Split what an area has reserved
 * @area: The area that is split. Nothing is reserved for it afterwards
 * @pages: The pages of all three areas
 * @lhs: The lower part
 * @rhs: The upper part, which iopt_area_prepare_split_resvs() has prepared
 *
 * No domain is asked: it does not matter to it in what pieces a range is
 * unreserved.
 *
 * Context: Process context with iova_rwsem held for writing and pages->mutex
 * held. Allocates nothing.
 */
void iopt_area_split_resvs(struct iopt_area *area, struct iopt_pages *pages,
			   struct iopt_area *lhs, struct iopt_area *rhs)
{
	struct iopt_table_resv *upper;

	lockdep_assert_held_write(&area->iopt->iova_rwsem);
	lockdep_assert_held(&pages->mutex);

	list_splice_init(&area->table_resvs, &lhs->table_resvs);
	list_for_each_entry(upper, &rhs->table_resvs, elm)
		iopt_resv_split(iopt_area_find_resv(lhs, upper->domain), upper,
				iopt_area_iova(rhs));
}
