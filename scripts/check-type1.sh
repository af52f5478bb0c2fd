#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-type1.sh: SVA and VFIO in one boot with lockdep and KASAN.
#
# The KUnit suites of SVA, but for their slow tests, take page faults and drain them
# under the locks of groups and drivers.  Then, in the same boot,
# tools/testing/vfio/iopt-type1.c has two groups in one container of VFIO's type1, sets
# up MSIs and takes page faults on registers: what one half does in one order and the
# other half in another, lockdep reports.

. "$(dirname "$0")/boot-lib.sh"

phase="boot-type1"
: >"$RESULTS/$phase"
log=$LOGS/type1-console.log
rc=0
"$TOP/scripts/boot.py" --check-qemu || exit 1
[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" arm64-debug

step type1-program "building the type1 test for the guest" \
	guest_program iopt-type1 "$TESTING/vfio/iopt-type1.c" -pthread || {
	result $phase fail "type1: the program builds"
	exit 1
}
"$TOP/scripts/initramfs.sh"
rm "$BUILD/guest/root/iopt-type1"

say "SVA's suites, and two groups in a container, with lockdep ..."
start=$SECONDS
boot=pass
"$TOP/scripts/boot.py" --variant arm64-debug --kernel "$(kernel_out arm64-debug)/arch/arm64/boot/Image" \
	--initrd "$BUILD/guest/initramfs.cpio" --mem 1G --smp 4 --log "$log" --end --timeout 600 \
	"${EDU[@]}" "${EDU[@]}" \
	--append ioptes.test=type1 --append 'kunit.filter_glob=*sva*' --append 'kunit.filter=speed>slow' || boot=fail
result $phase $boot "type1: console free of splats, guest ended by itself"
[ $boot = pass ] || rc=1

for suite in iommu_sva arm-smmu-v3-sva; do
	if grep -qE "(^|\] )ok [0-9]+ $suite\$" "$log"; then
		result $phase pass "type1: $suite passes in the same boot"
	else
		result $phase fail "type1: $suite passes in the same boot"
		rc=1
	fi
done

guest_steps iopt-type1 "$log" type1 || rc=1
grep '^fail' "$RESULTS/$phase" || true
say "$phase: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase" || true) failed, $((SECONDS - start)) s, console: $log"
exit $rc
