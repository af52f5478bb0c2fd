#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# gdb.sh: the guest under gdb.  Builds arm64-gdb (the arm64 kernel with debugging
# information, a build of its own), starts it halted with its console in a log
# file, and gdb on it.  Leaving gdb ends the guest.
#
# GDBARGS= are further arguments of gdb, e.g. GDBARGS='-ex "hbreak panic"' .

. "$(dirname "$0")/boot-lib.sh"

have gdb-multiarch || die "no gdb-multiarch: apt-get install gdb-multiarch"
"$TOP/scripts/boot.py" --check-qemu || exit 1
"$TOP/scripts/kernel.sh" arm64-gdb
"$TOP/scripts/initramfs.sh"
out=$(kernel_out arm64-gdb)
log=$LOGS/gdb-console.log
"$TOP/scripts/boot.py" --gdb --kernel "$out/arch/arm64/boot/Image" --timeout 86400 --smp 1 \
	--initrd "$BUILD/guest/initramfs.cpio" --disk "${DISK:-$(default_disk)}" --log "$log" \
	--append ioptes.test=disk --append nokaslr ${APPEND:+--append "$APPEND"} &
guest=$!
trap 'kill "$guest" 2>/dev/null; wait "$guest" 2>/dev/null' EXIT
say "the guest's console: tail -f $log"
say "hbreak, not break, before the MMU is on; 'continue' starts the guest"
eval "gdb-multiarch -q -ex 'set pagination off' -ex 'target remote localhost:1234' ${GDBARGS:-} \"$out/vmlinux\""
