#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# run.sh: the main job.  Builds the arm64 kernel, boots it on an emulated machine
# whose SMMUv3 walks the page tables that this kernel writes, reads a whole NVMe
# disk through them and compares what arrived with what is on the host.
#
# DISK=FILE reads that file (or block device) instead of 64 MiB of generated
# data.  It is opened read-only.  A size that is not a multiple of 512 is padded
# with zeros, in the guest's disk and in the host's sum, never in the file.

. "$(dirname "$0")/boot-lib.sh"

disk=${DISK:-}
if [ -n "$disk" ]; then
	[ -e "$disk" ] || die "DISK=$disk: no such file"
	[ ! -d "$disk" ] || die "DISK=$disk: a folder; name a file or a block device"
	[ -f "$disk" ] || [ -b "$disk" ] || die "DISK=$disk: neither a file nor a block device"
	[ -r "$disk" ] && head -c 1 "$disk" >/dev/null 2>&1 || die "DISK=$disk: not readable"
	[ "$(disk_size "$disk")" -gt 0 ] || die "DISK=$disk: empty"
else
	disk=$(default_disk)
fi
"$TOP/scripts/boot.py" --check-qemu || exit 1

"$TOP/scripts/kernel.sh" arm64
"$TOP/scripts/initramfs.sh"

size=$(disk_size "$disk")
if [ $((size % 512)) != 0 ]; then
	say "$disk is $size bytes: the guest sees $((512 - size % 512)) bytes of zeros behind it"
fi
say "hashing $disk on the host ..."
sum=$(disk_sha256 "$disk")
say "reading it in the guest ..."
start=$SECONDS
rc=0
disk_boot "$LOGS/run-console.log" "$(kernel_out arm64)/arch/arm64/boot/Image" "$disk" "$sum" \
	iommu.passthrough=0 iommu.strict=1 || rc=1
say "  kernel         $(sed -n 's/.*\(Linux version [^ ]*\).*/\1/p' "$LOGS/run-console.log" | head -n 1)"
say "  console        ${LOGS#"$TOP/"}/run-console.log ($((SECONDS - start)) s)"

# nested: the same kernel, by UEFI, see boot-lib.sh
nested() {
	local image log=$LOGS/run-nest-console.log initrd=$BUILD/nest/initramfs.cpio ok=pass
	image=$(kernel_out arm64)/arch/arm64/boot/Image
	nest_image || return
	nest_boot "$image" "$BUILD/guest/initramfs.cpio" "$LOGS/run-iort-console.log" iort || return
	nest_iort "$LOGS/run-iort-console.log" "$initrd" || return
	nest_boot "$image" "$initrd" "$log" nest || ok=fail
	sed -nE 's/.*iopt-nest: fail (.*)/  nested         WRONG: \1/p' "$log"
	[ "$(grep -c 'iopt-nest: complete' "$log")" = 1 ] && ! grep -q 'iopt-nest: fail' "$log" || ok=fail
	say "  nested         $(sed -n 's/.*iopt-nest: \(stream ID .*\)/\1/p' "$log")," \
		"$(grep -c 'iopt-nest: pass' "$log") steps passed"
	say "  console        ${log#"$TOP/"}"
	[ $ok = pass ]
}
if [ -f "$SRC/drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c" ]; then
	say "a VMM and its guest's page tables ..."
	nested || rc=1
fi
if [ $rc = 0 ]; then
	say "run: the disk was read through the SMMU, and it is the same"
else
	say "run: FAILED"
fi
exit $rc
