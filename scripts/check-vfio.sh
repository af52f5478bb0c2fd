#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-vfio.sh: what user space maps through VFIO and iommufd, on the SMMUv3 driver.
#
# In the guest tools/testing/vfio, a program, maps 1 GiB by 4K and by 2M pages for
# QEMU's `edu` device, and looks at the page tables and at the device's DMA while
# that comes and goes in each way that there is.  Each of its steps is a result.

. "$(dirname "$0")/boot-lib.sh"

phase="boot-vfio"
: >"$RESULTS/$phase"
log=$LOGS/vfio-console.log
rc=0
"$TOP/scripts/boot.py" --check-qemu || exit 1
[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" arm64

step vfio-program "building the VFIO test for the guest" guest_program iopt-vfio "$TESTING/vfio/iopt-vfio.c" || {
	result $phase fail "vfio: the program builds"
	exit 1
}
"$TOP/scripts/initramfs.sh"
rm "$BUILD/guest/root/iopt-vfio"

say "VFIO and iommufd in the guest ..."
start=$SECONDS
boot=pass
"$TOP/scripts/boot.py" --kernel "$(kernel_out arm64)/arch/arm64/boot/Image" \
	--initrd "$BUILD/guest/initramfs.cpio" --mem 3G --log "$log" --end --timeout 300 \
	"${EDU[@]}" \
	--append ioptes.test=vfio --append kunit.enable=0 || boot=fail
result $phase $boot "vfio: console free of splats, guest ended by itself"
[ $boot = pass ] || rc=1

guest_steps iopt-vfio "$log" vfio || rc=1
sed -n 's/.*iopt-vfio: tables /  table pages, by /p' "$log"
grep '^fail' "$RESULTS/$phase" || true
say "$phase: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase" || true) failed, $((SECONDS - start)) s, console: $log"
exit $rc
