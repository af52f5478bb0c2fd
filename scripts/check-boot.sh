#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-boot.sh: boot the arm64 kernel with the SMMU in strict and in lazy mode
# and read a disk through it, as `make run` does; and show that this can fail:
#
#   - without translation (iommu.passthrough=1) the same disk read is refused;
#   - a kernel with a seeded bug reads the disk like ours while the bug is off,
#     and when it is on (a boot parameter), the SMMU reports faults and the disk
#     does not arrive.  So the tables are really walked.

. "$(dirname "$0")/boot-lib.sh"

phase=boot
: >"$RESULTS/$phase"
"$TOP/scripts/boot.py" --check-qemu || exit 1
[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" arm64
"$TOP/scripts/initramfs.sh"
disk=$(default_disk)
sum=$(disk_sha256 "$disk")
odir=$(kernel_out arm64)
image=$odir/arch/arm64/boot/Image
rc=0

# check pass|fail NAME
check() {
	result $phase "$1" "$2"
	say "$1: $2"
	[ "$1" = pass ] || rc=1
}

# mode NAME DOMAIN IMAGE APPEND...: must read the disk, through that domain type
mode() {
	local name=$1 want=$2 image=$3 ok=pass
	shift 3
	say "$name:"
	disk_boot "$LOGS/boot-$name-console.log" "$image" "$disk" "$sum" "$@" || ok=fail
	check $ok "boot, $name: the disk is read through the SMMU"
	if [ "$DOMAIN" = "$want" ]; then ok=pass; else ok=fail; fi
	check $ok "boot, $name: the domain type is $want"
}

mode strict DMA "$image" iommu.passthrough=0 iommu.strict=1
# Each page table's own account of its tables adds up to the count over all.
log=$LOGS/boot-strict-console.log
# number WHAT: what the guest reported so, or 0
number() { said "$log" "$1" | grep -x '[0-9][0-9]*' || echo 0; }
used=$(($(number 'iopte allocated:') - $(number 'iopte freed:') -
	$(number 'iopte waiting:') - $(number 'iopte unflushed:')))
ok=fail
if [ "$used" -gt 1 ] && [ "$(number page-tables-tables)" = "$used" ] &&
   [ "$(number page-tables-bytes)" -gt 0 ] &&
   grep -q 'ioptes: page-table [0-9]* ARM 64-bit LPAE stage' "$log"; then
	ok=pass
fi
check $ok "boot, strict: debugfs shows the $used tables in use, and what is mapped"

mode lazy DMA-FQ "$image" iommu.passthrough=0 iommu.strict=0

say "passthrough (must be refused):"
log=$LOGS/boot-passthrough-console.log
ok=fail
if ! disk_boot "$log" "$image" "$disk" "$sum" iommu.passthrough=1; then
	[ "$DOMAIN" = identity ] && [ "$(said "$log" disk-sha256)" = "$sum" ] && ok=pass
fi
check $ok "boot, passthrough: refused, because nothing is translated"

seeded=$(kernel_out arm64-seeded)
# shellcheck disable=SC2317
build_seeded() {
	local p
	for p in "$TESTING"/seeded/wrong-pte*.patch; do
		if patch -s -f --dry-run -p1 -d "$SRC" <"$p"; then
			seed_kernel "$BUILD/seeded" "$p" drivers/iommu/io-pgtable-arm &&
			# the patched object must have gone in, and not been compiled over
			grep -q ioptes_wrong_pte "$seeded/System.map"
			return
		fi
	done
	echo "no seeded bug fits drivers/iommu/io-pgtable-arm.c"
	return 1
}
if step seeded "building the kernel with the seeded bug" build_seeded; then
	simage=$seeded/arch/arm64/boot/Image
	mode seeded-off DMA "$simage" iommu.passthrough=0 iommu.strict=1

	say "seeded bug on (must fail):"
	log=$LOGS/boot-seeded-on-console.log
	ok=fail
	if ! disk_boot "$log" "$simage" "$disk" "$sum" \
		iommu.passthrough=0 iommu.strict=1 ioptes_wrong_pte=1; then
		ok=pass
	fi
	check $ok "boot, seeded bug: the run fails"
	ok=fail
	if grep -qE 'arm-smmu-v3 .*event 0x[0-9a-f]+ received' "$log"; then ok=pass; fi
	check $ok "boot, seeded bug: the SMMU reports a fault"
	ok=fail
	# the disk was there and translated, and its contents did not arrive
	if [ "$(said "$log" disk-domain)" = DMA ] && [ -n "$(said "$log" disk-bytes)" ] &&
	   [ "$(said "$log" disk-sha256)" != "$sum" ]; then
		ok=pass
	fi
	check $ok "boot, seeded bug: the disk does not arrive"
else
	check fail "boot, seeded bug: the kernel builds"
fi

say "boot: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase" || true) failed"
exit $rc
