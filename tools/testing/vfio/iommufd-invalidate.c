// SPDX-License-Identifier: GPL-2.0
/*
 * Invalidates by arrays of a guest's commands through iommufd, and prints what that takes,
 * for scripts/bench.sh.
 *
 * `iommufd-invalidate DEVICE`: the device is a folder in sysfs, one of those that the
 * module iommu-bench has made up, with vfio-platform as its driver. Prints lines
 *
 *  - "bench: invalidate-hwpt commands_N NUMBER": the instructions of one
 *    IOMMU_HWPT_INVALIDATE with N commands for a nested HWPT on its parent
 *  - "bench: invalidate-viommu commands_N NUMBER": the same through a virtual IOMMU; each
 *    of the commands names a device, which is looked up
 *  - "bench: viommu bytes NUMBER", "bench: vdevice bytes NUMBER": what the ioctls that make
 *    these have allocated, as the module has counted it
 *
 * all but the first only where the kernel has virtual IOMMUs. Instructions are counted as
 * iopt-vfio.c does, from user space to user space.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "../bench/iommu-bench.h"
#include "guest.h"
#include "invalidate.h"

/* What a guest's first device behind PCI has: 00:01.0 */
#define VIRT_ID		8

static int iommufd;

static int open_device(const char *device)
{
	char path[600];
	struct dirent *entry;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "%s/vfio-dev", device);
	dir = opendir(path);
	if (!dir)
		die(path);
	do {
		entry = readdir(dir);
		if (!entry)
			die(path);
	} while (strncmp(entry->d_name, "vfio", 4));
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	closedir(dir);
	fd = open(path, O_RDWR);
	if (fd < 0)
		die(path);
	return fd;
}

static uint32_t bind_device(int device)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = iommufd,
	};

	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind))
		die("VFIO_DEVICE_BIND_IOMMUFD");
	return bind.out_devid;
}

static uint32_t new_ioas(void)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc))
		die("IOMMU_IOAS_ALLOC");
	return alloc.out_ioas_id;
}

/* A nesting parent on an IOAS, or a nested HWPT on its parent. */
static uint32_t new_hwpt(uint32_t dev, uint32_t on, int nested)
{
	uint32_t data = 0;
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = nested ? 0 : IOMMU_HWPT_ALLOC_NEST_PARENT,
		.dev_id = dev,
		.pt_id = on,
	};

	if (nested) {
		alloc.data_type = BENCH_TYPE;
		alloc.data_len = sizeof(data);
		alloc.data_uptr = (uintptr_t)&data;
	}
	if (ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc))
		die("IOMMU_HWPT_ALLOC");
	return alloc.out_hwpt_id;
}

static void start_counting(int fd)
{
	if (write(fd, "1", 1) != 1)
		die("counting");
}

static uint32_t counted_bytes(int fd)
{
	struct counts counts;

	if (read(fd, &counts, sizeof(counts)) != sizeof(counts))
		die("what was counted");
	return counts.bytes;
}

int main(int argc, char **argv)
{
	static struct bench_viommu_invalidate viommu_cmds[MAX_COMMANDS];
	static struct bench_hwpt_invalidate hwpt_cmds[MAX_COMMANDS];
	struct iommu_viommu_alloc viommu = {
		.size = sizeof(viommu),
		.type = BENCH_TYPE,
	};
	struct iommu_vdevice_alloc vdevice = {
		.size = sizeof(vdevice),
		.virt_id = VIRT_ID,
	};
	uint32_t dev, parent, bytes;
	int counts, error, i;

	if (argc != 2)
		return 2;
	for (i = 0; i < MAX_COMMANDS; i++) {
		hwpt_cmds[i].iotlb_id = i % BENCH_CACHES;
		viommu_cmds[i].vdev_id = VIRT_ID;
		viommu_cmds[i].cache_id = i % BENCH_CACHES;
	}

	counts = open("/dev/iommu-bench", O_RDWR);
	if (counts < 0)
		die("/dev/iommu-bench");
	iommufd = open("/dev/iommu", O_RDWR);
	if (iommufd < 0)
		die("/dev/iommu");
	dev = bind_device(open_device(argv[1]));
	parent = new_hwpt(dev, new_ioas(), 0);
	measure("invalidate-hwpt", iommufd, new_hwpt(dev, parent, 1), BENCH_TYPE,
		hwpt_cmds, sizeof(*hwpt_cmds));

	viommu.dev_id = dev;
	viommu.hwpt_id = parent;
	start_counting(counts);
	error = ioctl(iommufd, IOMMU_VIOMMU_ALLOC, &viommu) ? errno : 0;
	bytes = counted_bytes(counts);
	/* a kernel without virtual IOMMUs */
	if (error == ENOTTY)
		return 0;
	errno = error;
	if (error)
		die("IOMMU_VIOMMU_ALLOC");
	printf("bench: viommu bytes %u\n", bytes);

	vdevice.viommu_id = viommu.out_viommu_id;
	vdevice.dev_id = dev;
	start_counting(counts);
	if (ioctl(iommufd, IOMMU_VDEVICE_ALLOC, &vdevice))
		die("IOMMU_VDEVICE_ALLOC");
	printf("bench: vdevice bytes %u\n", counted_bytes(counts));

	measure("invalidate-viommu", iommufd, viommu.out_viommu_id, BENCH_TYPE,
		viommu_cmds, sizeof(*viommu_cmds));
	return 0;
}
