// SPDX-License-Identifier: GPL-2.0
/*
 * Adds the groups of some devices to a VFIO container of type 1, and prints what the
 * last one of them has cost, for scripts/bench.sh.
 *
 * `vfio-groups NAME DEVICE...`: devices are folders in sysfs. Prints lines
 * "bench: groups-NAME OPERATION NUMBER". Instructions are those of the ioctls, counted
 * as iopt-vfio.c does; everything else is counted by the module iommu-bench, in a
 * container of its own.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/vfio.h>

#include "../bench/iommu-bench.h"
#include "guest.h"

#define MAX_GROUPS	8

static int open_group(const char *device)
{
	char link[256], target[256], path[300];
	ssize_t n;
	int fd;

	snprintf(link, sizeof(link), "%s/iommu_group", device);
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		die(link);
	target[n] = 0;
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(target, '/'));
	fd = open(path, O_RDWR);
	if (fd < 0)
		die(path);
	return fd;
}

/* Add a group; the first one decides what the container is. */
static void add(int container, int group, int i)
{
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		die("VFIO_GROUP_SET_CONTAINER");
	if (!i && ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU");
}

/*
 * A container with all of the groups. What the last one costs is in @counts, or, without
 * that, its instructions are returned.
 */
static uint32_t fill(char **devices, int n, int counts_fd, struct counts *counts)
{
	int container, groups[MAX_GROUPS], i;
	uint32_t start, instructions = 0;

	container = open("/dev/vfio/vfio", O_RDWR);
	if (container < 0)
		die("/dev/vfio/vfio");
	for (i = 0; i < n; i++)
		groups[i] = open_group(devices[i]);

	for (i = 0; i < n - 1; i++)
		add(container, groups[i], i);

	if (counts) {
		if (write(counts_fd, "1", 1) != 1)
			die("counting");
		add(container, groups[i], i);
		if (read(counts_fd, counts, sizeof(*counts)) != sizeof(*counts))
			die("what was counted");
	} else {
		start = counter();
		add(container, groups[i], i);
		instructions = counter() - start;
	}

	for (i = 0; i < n; i++)
		close(groups[i]);
	close(container);
	return instructions;
}

int main(int argc, char **argv)
{
	uint32_t instructions = UINT32_MAX, n;
	int fd, devices = argc - 2, i;
	struct counts counts, none;

	if (devices < 1 || devices > MAX_GROUPS)
		return 2;
	fd = open("/dev/iommu-bench", O_RDWR);
	if (fd < 0)
		die("/dev/iommu-bench");

	/* an interrupt may come in some of them, or the allocator has more to do */
	for (i = 0; i < 24; i++) {
		n = fill(argv + 2, devices, fd, NULL);
		if (n < instructions)
			instructions = n;
	}
	fill(argv + 2, devices, fd, &counts);

	/* counting has no costs of its own */
	if (write(fd, "1", 1) != 1 || read(fd, &none, sizeof(none)) != sizeof(none))
		die("counting nothing");
	if (none.allocations) {
		fprintf(stderr, "bench: error: what counts is counted\n");
		return 1;
	}

	printf("bench: groups-%s attaches %u\n", argv[1], counts.attaches);
	printf("bench: groups-%s refused %u\n", argv[1], counts.refused);
	printf("bench: groups-%s blocks %u\n", argv[1], counts.blocks);
	printf("bench: groups-%s domains %u\n", argv[1], counts.domains);
	printf("bench: groups-%s allocations %u\n", argv[1], counts.allocations);
	printf("bench: groups-%s instructions %u\n", argv[1], instructions);
	return 0;
}
