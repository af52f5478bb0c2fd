// SPDX-License-Identifier: GPL-2.0
/*
 * Maps 1 GiB for a device through VFIO and iommufd, by 4K and by 2M pages.
 *
 * `iopt-vfio test` looks at what each step does to the page tables: how many pages
 * they take before, while something is mapped and afterwards, whom these are
 * charged to, and whether the device (QEMU's `edu`) reads and writes what is mapped.
 * Then it does the same when what was mapped goes another way: with the device's
 * detach, its move to another IOAS, the end of the file, and a signal that kills.
 * It prints a line "iopt-vfio: pass NAME" or "iopt-vfio: fail NAME" for each.
 *
 * `iopt-vfio bench` prints "bench: vfio OPERATION NUMBER" for the instructions of a
 * map and an unmap, and for the table pages in between.  The counter is
 * INST_RETIRED, which the module iopt-bench has started and left to user space.
 *
 * The memory is touched in an order in which no two neighbours are neighbours in
 * physical memory, too: then iommufd can map it with its own page size only.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "guest.h"

#define SZ_4K	0x1000UL
#define SZ_2M	0x200000UL
#define SZ_1G	0x40000000UL

/* Nothing else is near, neither of the device's MSIs nor reserved regions. */
#define IOVA		(1UL << 40)
/*
 * The tables that 1 GiB takes there, besides the root: one of the level whose
 * entries translate 1G, one of 2M, and by 4K another one for each 2M.
 */
#define TABLES_2M	2
#define TABLES_4K	(TABLES_2M + SZ_1G / SZ_2M)

#define DEVICE		"/dev/vfio/devices/vfio0"
#define CGROUP		"/sys/fs/cgroup/iopt"

/* ---- page tables, as the kernel counts them ---- */

/*
 * Bytes of page tables that are charged to the group that all of this runs in.  The kernel
 * brings small changes together every two seconds.
 */
static long charged(void)
{
	sleep(3);
	return number(CGROUP "/memory.stat", "sec_pagetables");
}

/* ---- VFIO and iommufd ---- */

struct user {
	int iommufd;
	int device;
};

static uint32_t new_ioas(struct user *u)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	if (ioctl(u->iommufd, IOMMU_IOAS_ALLOC, &alloc))
		die("IOMMU_IOAS_ALLOC");
	return alloc.out_ioas_id;
}

static void attach(struct user *u, uint32_t ioas)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = ioas,
	};

	if (ioctl(u->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		die("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

static void detach(struct user *u)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	if (ioctl(u->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach))
		die("VFIO_DEVICE_DETACH_IOMMUFD_PT");
}

/* The device, attached to an IOAS in which nothing is mapped. */
static uint32_t open_all(struct user *u)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	uint32_t ioas;

	u->iommufd = open("/dev/iommu", O_RDWR);
	if (u->iommufd < 0)
		die("/dev/iommu");
	u->device = open(DEVICE, O_RDWR);
	if (u->device < 0)
		die(DEVICE);
	bind.iommufd = u->iommufd;
	if (ioctl(u->device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		die("VFIO_DEVICE_BIND_IOMMUFD");
	ioas = new_ioas(u);
	attach(u, ioas);
	return ioas;
}

static void close_all(struct user *u)
{
	close(u->device);
	close(u->iommufd);
}

static void map(struct user *u, uint32_t ioas, void *mem)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas,
		.user_va = (uintptr_t)mem,
		.length = SZ_1G,
		.iova = IOVA,
	};

	if (ioctl(u->iommufd, IOMMU_IOAS_MAP, &map))
		die("IOMMU_IOAS_MAP");
}

static void unmap(struct user *u, uint32_t ioas)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = ioas,
		.iova = IOVA,
		.length = SZ_1G,
	};

	if (ioctl(u->iommufd, IOMMU_IOAS_UNMAP, &unmap) || unmap.length != SZ_1G)
		die("IOMMU_IOAS_UNMAP");
}

static void *memory(size_t page)
{
	/* shared, so that a child that pins it takes no copy */
	int flags = MAP_SHARED | MAP_ANONYMOUS | (page == SZ_2M ? MAP_HUGETLB : 0);
	char *mem = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE, flags, -1, 0);
	size_t i;

	if (mem == MAP_FAILED)
		die("mmap");
	/* fails where the kernel has no such pages to avoid */
	if (page == SZ_4K)
		madvise(mem, SZ_1G, MADV_NOHUGEPAGE);
	for (i = 0; i < SZ_1G; i += 2 * page)
		mem[i] = 1;
	for (i = page; i < SZ_1G; i += 2 * page)
		mem[i] = 1;
	return mem;
}

/* ---- the device ---- */

static uint64_t region(struct user *u, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(u->device, VFIO_DEVICE_GET_REGION_INFO, &info))
		die("VFIO_DEVICE_GET_REGION_INFO");
	return info.offset;
}

static void edu_write(struct user *u, uint32_t reg, uint64_t value)
{
	uint64_t at = region(u, VFIO_PCI_BAR0_REGION_INDEX) + reg;

	if (pwrite(u->device, &value, sizeof(value), at) != sizeof(value))
		die("a register of the device");
}

static uint64_t edu_read(struct user *u, uint32_t reg)
{
	uint64_t at = region(u, VFIO_PCI_BAR0_REGION_INDEX) + reg;
	uint64_t value;

	if (pread(u->device, &value, sizeof(value), at) != sizeof(value))
		die("a register of the device");
	return value;
}

static bool edu_dma(struct user *u, uint64_t from, uint64_t to, size_t n, uint64_t flags)
{
	int i;

	edu_write(u, EDU_DMA_SRC, from);
	edu_write(u, EDU_DMA_DST, to);
	edu_write(u, EDU_DMA_CNT, n);
	edu_write(u, EDU_DMA_CMD, EDU_DMA_START | flags);
	for (i = 0; i < 200; i++) {
		if (!(edu_read(u, EDU_DMA_CMD) & EDU_DMA_START))
			return true;
		usleep(10000);
	}
	return false;
}

static void bus_master(struct user *u)
{
	uint64_t at = region(u, VFIO_PCI_CONFIG_REGION_INDEX) + 4;
	uint16_t command;

	if (pread(u->device, &command, sizeof(command), at) != sizeof(command))
		die("the device's command register");
	command |= 1 << 1 | 1 << 2;
	if (pwrite(u->device, &command, sizeof(command), at) != sizeof(command))
		die("the device's command register");
}

/* The device copies a page from one end of what is mapped to the other. */
static bool copies(struct user *u, char *mem, unsigned int seed)
{
	const size_t n = 4096, src = 5 * SZ_4K, dst = SZ_1G - SZ_2M - 3 * SZ_4K;
	size_t i;

	for (i = 0; i < n; i++) {
		mem[src + i] = i * 7 + seed;
		mem[dst + i] = 0;
	}
	return edu_dma(u, IOVA + src, EDU_BUFFER, n, 0) &&
	       edu_dma(u, EDU_BUFFER, IOVA + dst, n, EDU_DMA_TO_RAM) &&
	       !memcmp(mem + src, mem + dst, n);
}

/* ---- test ---- */

static bool failed;

static void result(bool ok, const char *size, const char *what)
{
	printf("iopt-vfio: %s %s: %s\n", ok ? "pass" : "fail", size, what);
	failed |= !ok;
}

/* What is mapped goes in each way that there is; nothing is left of it. */
static void test(const char *size, char *mem, long tables)
{
	long before, while_mapped, after, without, charge;
	struct user u;
	uint32_t ioas, other;
	int go[2], rc;
	pid_t pid;
	char c;

	without = table_pages();
	ioas = open_all(&u);
	bus_master(&u);
	before = table_pages();
	charge = charged();
	map(&u, ioas, mem);
	while_mapped = table_pages();
	charge = charged() - charge;
	result(while_mapped - before == tables, size, "the tables that 1 GiB takes, and no other");
	result(charge == tables * (long)SZ_4K, size, "they are charged to who maps");
	result(copies(&u, mem, 1), size, "the device reads and writes what is mapped");
	unmap(&u, ioas);
	result(settles(before), size, "the unmap gives the tables back");
	after = table_pages();
	printf("iopt-vfio: tables %s: before %ld mapped %ld after %ld\n", size, before,
	       while_mapped, after);

	map(&u, ioas, mem);
	detach(&u);
	result(settles(without), size, "the detach gives the tables back");
	attach(&u, ioas);
	result(table_pages() == while_mapped, size, "what is mapped is mapped in a domain added later");
	result(copies(&u, mem, 2), size, "and the device reads and writes it");

	other = new_ioas(&u);
	attach(&u, other);
	result(settles(before), size, "replacing the domain gives the tables back");
	attach(&u, ioas);
	result(settles(while_mapped), size, "and replacing it again takes them again");
	close(u.device);
	result(settles(without), size, "closing the device gives the tables back");
	close(u.iommufd);

	ioas = open_all(&u);
	map(&u, ioas, mem);
	close(u.iommufd);
	close(u.device);
	result(settles(without), size, "closing all with 1 GiB mapped gives the tables back");

	if (pipe(go))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		ioas = open_all(&u);
		map(&u, ioas, mem);
		if (write(go[1], "", 1) != 1)
			_exit(1);
		/* again and again, so that the signal comes at any point */
		for (;;) {
			unmap(&u, ioas);
			map(&u, ioas, mem);
		}
	}
	rc = read(go[0], &c, 1);
	usleep(700000);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(go[0]);
	close(go[1]);
	result(rc == 1 && settles(without), size, "a killed process leaves no table");
}

/* ---- bench ---- */

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static uint64_t start_time;
static uint32_t start_count;

static void count_from_here(void)
{
	start_time = now();
	start_count = counter();
}

/* The counter has 32 bits, and an instruction takes a nanosecond. */
static uint32_t counted(void)
{
	uint32_t n = counter() - start_count;

	if (now() - start_time > UINT32_MAX) {
		printf("bench: error: too many instructions to count\n");
		exit(1);
	}
	return n;
}

static void bench(const char *size, char *mem)
{
	uint32_t ioas, mapped, unmapped;
	struct user u;
	long tables;
	int i;

	/*
	 * Once for what is allocated only the first time, and both times in a domain
	 * that is new: what an unmap leaves there is no other map's.
	 */
	for (i = 0; i < 2; i++) {
		ioas = open_all(&u);
		/* what was freed waits for a grace period */
		usleep(500000);
		tables = table_pages();
		count_from_here();
		map(&u, ioas, mem);
		mapped = counted();
		tables = table_pages() - tables;
		count_from_here();
		unmap(&u, ioas);
		unmapped = counted();
		close_all(&u);
	}
	printf("bench: vfio map_1G_by_%s %u\n", size, mapped);
	printf("bench: vfio unmap_1G_by_%s %u\n", size, unmapped);
	printf("bench: vfio tables_1G_by_%s %ld\n", size, tables);
}

int main(int argc, char **argv)
{
	void *small, *large;

	setlinebuf(stdout);
	if (argc != 2)
		return 2;
	small = memory(SZ_4K);
	large = memory(SZ_2M);
	if (!strcmp(argv[1], "test")) {
		test("4K", small, TABLES_4K);
		test("2M", large, TABLES_2M);
		printf("iopt-vfio: complete\n");
	} else if (!strcmp(argv[1], "bench")) {
		bench("4K", small);
		bench("2M", large);
	} else {
		return 2;
	}
	return failed;
}
