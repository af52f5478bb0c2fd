/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What one IOMMU_HWPT_INVALIDATE takes, for the programs that scripts/bench.sh runs.
 */
#ifndef INVALIDATE_H
#define INVALIDATE_H

#include <sys/ioctl.h>

#include <linux/iommufd.h>

#include "guest.h"

#define MAX_COMMANDS	10000

/*
 * Prints a line for each number of commands from the beginning of an array. The lowest
 * of the rounds: an interrupt may come in some of them.
 */
static inline void measure(const char *name, int iommufd, uint32_t id, uint32_t type,
			   const void *cmds, size_t len)
{
	static const uint32_t sizes[] = { 1, 16, 256, MAX_COMMANDS };
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		uint32_t lowest = UINT32_MAX;
		int round;

		for (round = 0; round < 24; round++) {
			struct iommu_hwpt_invalidate inv = {
				.size = sizeof(inv),
				.hwpt_id = id,
				.data_uptr = (uintptr_t)cmds,
				.data_type = type,
				.entry_len = len,
				.entry_num = sizes[i],
			};
			uint32_t n = counter();

			if (ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &inv))
				die("IOMMU_HWPT_INVALIDATE");
			n = counter() - n;
			if (n < lowest)
				lowest = n;
			if (inv.entry_num != sizes[i]) {
				fprintf(stderr, "bench: error: %u of %u commands\n",
					inv.entry_num, sizes[i]);
				exit(1);
			}
		}
		printf("bench: %s commands_%u %u\n", name, sizes[i], lowest);
	}
}

#endif
