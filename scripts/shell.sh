#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# shell.sh: a busybox shell in the guest, on this terminal: the arm64 kernel with
# an NVMe disk behind the SMMU.  'exit' powers it off; ctrl-a x kills QEMU.
# DISK=FILE is the disk (read-only), APPEND= adds kernel parameters, MEM= and SMP=
# size the machine.

. "$(dirname "$0")/boot-lib.sh"

"$TOP/scripts/boot.py" --check-qemu || exit 1
"$TOP/scripts/kernel.sh" arm64
"$TOP/scripts/initramfs.sh"
exec "$TOP/scripts/boot.py" --interactive --kernel "$(kernel_out arm64)/arch/arm64/boot/Image" \
	--initrd "$BUILD/guest/initramfs.cpio" --disk "${DISK:-$(default_disk)}" \
	--mem "${MEM:-1G}" --smp "${SMP:-2}" --append ioptes.test=shell --append quiet ${APPEND:+--append "$APPEND"}
