/* SPDX-License-Identifier: GPL-2.0 */
/* See shim.h.  The mock device has no PASID, and is asked for none. */
#define MOCK_FLAGS_DEVICE_PASID		0
#define MOCK_PASID_WIDTH		0
