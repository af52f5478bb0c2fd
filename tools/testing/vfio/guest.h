/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs share that drive devices from user space in the guest: how many
 * pages I/O page tables take, a count of instructions, a device's interrupts, and the
 * registers of QEMU's `edu` device.
 */
#ifndef GUEST_H
#define GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#define EDU_RAISE	0x60
#define EDU_ACK		0x64
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_CNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_DMA_START	1
#define EDU_DMA_TO_RAM	2
#define EDU_BUFFER	0x40000UL

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Instructions of this CPU; the module iopt-bench lets user space read them. */
static inline uint32_t counter(void)
{
	uint64_t n;

	asm volatile("isb\n\tmrs %0, pmevcntr0_el0\n\tisb" : "=r" (n) : : "memory");
	return n;
}

/* Send one of a device's interrupts to an eventfd, or to nothing; or the error. */
static inline int set_irq(int device, uint32_t index, int fd)
{
	union {
		struct vfio_irq_set set;
		char room[sizeof(struct vfio_irq_set) + sizeof(int)];
	} irq = {
		.set.argsz = sizeof(irq),
		.set.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			     (fd >= 0 ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE),
		.set.index = index,
		.set.count = fd >= 0,
	};

	memcpy(irq.room + sizeof(struct vfio_irq_set), &fd, sizeof(int));
	return ioctl(device, VFIO_DEVICE_SET_IRQS, &irq) ? -errno : 0;
}

/* The number that follows a word in a file. */
static inline long number(const char *path, const char *word)
{
	char name[64];
	long n;
	FILE *f;

	f = fopen(path, "r");
	if (!f)
		die(path);
	while (fscanf(f, "%63s %ld", name, &n) == 2) {
		if (!strcmp(name, word)) {
			fclose(f);
			return n;
		}
	}
	fclose(f);
	fprintf(stderr, "no %s in %s\n", word, path);
	exit(1);
}

/* Pages that I/O page tables take, with what each CPU has not added yet. */
static inline long table_pages(void)
{
	int fd = open("/proc/sys/vm/stat_refresh", O_WRONLY);

	if (fd < 0 || write(fd, "1", 1) != 1)
		die("/proc/sys/vm/stat_refresh");
	close(fd);
	return number("/proc/vmstat", "nr_iommu_pages");
}

/* Tables are freed after a grace period: wait for their number, a while. */
static inline bool settles(long want)
{
	int i;

	for (i = 0; i < 100; i++) {
		if (table_pages() == want)
			return true;
		usleep(50000);
	}
	return false;
}

#endif
