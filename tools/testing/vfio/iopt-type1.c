// SPDX-License-Identifier: GPL-2.0
/*
 * Two groups in one container of VFIO's type1, each with an `edu` device of QEMU's:
 * the second group joins the domain of the first, both devices read and write what
 * is mapped, and each of their MSIs arrives, while a thread takes page faults on the
 * registers of both.  So each lock that VFIO holds while it sets interrupts up, and
 * each that a page fault takes in VFIO, has been taken when this is over.
 *
 * Called with the folders of the two devices in sysfs.  Prints a line "iopt-type1: pass
 * NAME" or "iopt-type1: fail NAME" for each thing that it looks at.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "guest.h"

#define SZ_1M		0x100000UL
/* Nothing else is near, neither of the devices' MSIs nor reserved regions. */
#define IOVA		(1UL << 40)

#define EDU_BAR		SZ_1M

#define ROUNDS		50

struct edu {
	const char *path;
	int group;
	int device;
	int event;
	off_t bar;
};

static struct edu devices[2];
static int container;
static bool failed;

static void result(bool ok, const char *what)
{
	printf("iopt-type1: %s %s\n", ok ? "pass" : "fail", what);
	failed |= !ok;
}

/* ---- VFIO ---- */

static void open_group(struct edu *edu)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char link[PATH_MAX], path[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/iommu_group", edu->path);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		die(path);
	link[n] = 0;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);
	edu->group = open(path, O_RDWR);
	if (edu->group < 0)
		die(path);
	if (ioctl(edu->group, VFIO_GROUP_GET_STATUS, &status) ||
	    !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("a group that is viable");
}

static void join(struct edu *edu)
{
	if (ioctl(edu->group, VFIO_GROUP_SET_CONTAINER, &container))
		die("VFIO_GROUP_SET_CONTAINER");
}

static void open_device(struct edu *edu)
{
	struct vfio_region_info info = { .argsz = sizeof(info) };
	uint16_t command;

	edu->device = ioctl(edu->group, VFIO_GROUP_GET_DEVICE_FD, strrchr(edu->path, '/') + 1);
	if (edu->device < 0)
		die("VFIO_GROUP_GET_DEVICE_FD");

	/* memory and bus mastering */
	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &info) ||
	    pread(edu->device, &command, 2, info.offset + 4) != 2)
		die("the device's command register");
	command |= 1 << 1 | 1 << 2;
	if (pwrite(edu->device, &command, 2, info.offset + 4) != 2)
		die("the device's command register");

	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &info))
		die("VFIO_DEVICE_GET_REGION_INFO");
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP) || info.size < EDU_BAR) {
		fprintf(stderr, "the registers cannot be mapped\n");
		exit(1);
	}
	edu->bar = info.offset;
}

static void leave(struct edu *edu)
{
	close(edu->device);
	if (ioctl(edu->group, VFIO_GROUP_UNSET_CONTAINER))
		die("VFIO_GROUP_UNSET_CONTAINER");
}

static void map(void *mem)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)mem,
		.iova = IOVA,
		.size = SZ_1M,
	};

	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		die("VFIO_IOMMU_MAP_DMA");
}

/* ---- the devices ---- */

static void write_reg(struct edu *edu, uint32_t reg, uint64_t value, size_t size)
{
	if (pwrite(edu->device, &value, size, edu->bar + reg) != (ssize_t)size)
		die("a register of the device");
}

static bool dma(struct edu *edu, uint64_t from, uint64_t to, size_t n, uint64_t flags)
{
	uint64_t command;

	write_reg(edu, EDU_DMA_SRC, from, 8);
	write_reg(edu, EDU_DMA_DST, to, 8);
	write_reg(edu, EDU_DMA_CNT, n, 8);
	write_reg(edu, EDU_DMA_CMD, EDU_DMA_START | flags, 8);
	for (int i = 0; i < 500; i++) {
		if (pread(edu->device, &command, 8, edu->bar + EDU_DMA_CMD) != 8)
			die("a register of the device");
		if (!(command & EDU_DMA_START))
			return true;
		usleep(10000);
	}
	return false;
}

/* The device copies a page from one end of what is mapped to the other. */
static bool copies(struct edu *edu, char *mem, unsigned int seed)
{
	const size_t n = 4096, src = 5 * n, dst = SZ_1M - 3 * n;

	for (size_t i = 0; i < n; i++) {
		mem[src + i] = i * 7 + seed;
		mem[dst + i] = 0;
	}
	return dma(edu, IOVA + src, EDU_BUFFER, n, 0) &&
	       dma(edu, EDU_BUFFER, IOVA + dst, n, EDU_DMA_TO_RAM) &&
	       !memcmp(mem + src, mem + dst, n);
}

/* Send the device's MSI to its event, or to nothing. */
static void set_msi(struct edu *edu, bool on)
{
	if (set_irq(edu->device, VFIO_PCI_MSI_IRQ_INDEX, on ? edu->event : -1))
		die("VFIO_DEVICE_SET_IRQS");
}

/* The device raises its MSI: one event comes, and no other one. */
static bool interrupts(struct edu *edu)
{
	uint64_t n = 0;

	write_reg(edu, EDU_RAISE, 1, 4);
	for (int i = 0; i < 200; i++) {
		if (read(edu->event, &n, sizeof(n)) == sizeof(n))
			break;
		if (errno != EAGAIN)
			die("an eventfd");
		usleep(10000);
	}
	write_reg(edu, EDU_ACK, 1, 4);
	return n == 1;
}

/* ---- page faults on registers ---- */

static bool stop;
static unsigned long faults;

/* Map the registers anew and read the device's identification, again and again. */
static void *fault(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 2; i++) {
			volatile uint32_t *reg;
			uint32_t id;

			reg = mmap(NULL, EDU_BAR, PROT_READ | PROT_WRITE, MAP_SHARED,
				   devices[i].device, devices[i].bar);
			if (reg == MAP_FAILED)
				die("mmap of registers");
			id = reg[0];
			munmap((void *)reg, EDU_BAR);
			if (id != 0x010000ed) {
				fprintf(stderr, "identification %x\n", id);
				exit(1);
			}
			faults++;
		}
	}
	return NULL;
}

static bool interrupt_for_a_while(void)
{
	bool ok = true;

	for (int i = 0; i < ROUNDS; i++) {
		struct edu *edu = &devices[i % 2];

		set_msi(edu, true);
		ok &= interrupts(edu);
		set_msi(edu, false);
	}
	return ok;
}

int main(int argc, char **argv)
{
	long without, one, mapped;
	pthread_t thread;
	char *mem;
	bool ok;

	setlinebuf(stdout);
	if (argc != 3)
		return 2;
	without = table_pages();
	container = open("/dev/vfio/vfio", O_RDWR);
	if (container < 0)
		die("/dev/vfio/vfio");
	for (int i = 0; i < 2; i++) {
		devices[i].path = argv[i + 1];
		devices[i].event = eventfd(0, EFD_NONBLOCK);
		if (devices[i].event < 0)
			die("eventfd");
		open_group(&devices[i]);
	}
	mem = mmap(NULL, SZ_1M, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		die("mmap");

	join(&devices[0]);
	/* VFIO_TYPE1_NESTING_IOMMU; -EINVAL where no group has joined */
	result(!ioctl(container, VFIO_CHECK_EXTENSION, 6) &&
	       ioctl(container, VFIO_SET_IOMMU, 6) == -1 && errno == ENODEV,
	       "type1's own nesting is not there");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU");
	one = table_pages();
	map(mem);
	mapped = table_pages();
	result(one > without && mapped > one, "a domain and what it maps take tables");

	/* a domain of its own would have tables, for all that is mapped */
	join(&devices[1]);
	result(settles(mapped), "the second group joins the domain of the first");
	for (int i = 0; i < 2; i++)
		open_device(&devices[i]);
	result(copies(&devices[0], mem, 1), "the first device reads and writes what is mapped");
	result(copies(&devices[1], mem, 2), "so does the second");

	if (pthread_create(&thread, NULL, fault, NULL))
		die("pthread_create");
	ok = interrupt_for_a_while();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	result(ok, "each MSI of both devices arrives, once");
	result(faults > 0, "their registers were mapped and read meanwhile");

	/* the MSIs' doorbell stays mapped */
	mapped = table_pages();
	leave(&devices[0]);
	result(settles(mapped), "the first group leaves, and the domain stays");
	result(copies(&devices[1], mem, 3), "the second device goes on");
	join(&devices[0]);
	result(settles(mapped), "the first group joins again");
	open_device(&devices[0]);
	result(copies(&devices[0], mem, 4), "and its device reads and writes again");
	set_msi(&devices[0], true);
	result(interrupts(&devices[0]), "and its MSI arrives");

	for (int i = 0; i < 2; i++) {
		close(devices[i].device);
		close(devices[i].group);
	}
	close(container);
	result(settles(without), "closing all gives the tables back");
	printf("iopt-type1: complete\n");
	return failed;
}
