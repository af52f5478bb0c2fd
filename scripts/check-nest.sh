#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-nest.sh: nested translation on the SMMUv3 driver, and that its test can fail.
#
# In the guest tools/testing/vfio/iopt-nest.c, a program, is a virtual machine monitor
# and its guest in one: QEMU's `edu` device translates by tables that the program has
# written, and where its DMA arrives tells what the SMMU has cached.  Each of its steps
# is a result, and once more with KASAN and lockdep.
#
# A first boot has QEMU's own IORT, by which there is no nesting: the program must be
# refused.  For the others see nest_boot() in boot-lib.sh.
#
# Then a kernel with seeded bugs (tools/testing/seeded/nest.patch), which its parameter
# ioptes_nest=N chooses from.  With 0 the part of the program that depends on
# invalidations passes; with each other one the steps that it touches must fail, and
# no others, or a test of the KUnit suite, or the kernel stumbles over a domain that has
# gone.

. "$(dirname "$0")/boot-lib.sh"

phase="boot-nest"
: >"$RESULTS/$phase"
rc=0
work=$BUILD/nest
"$TOP/scripts/boot.py" --check-qemu || exit 1
[ -n "${NOBUILD:-}" ] || { "$TOP/scripts/kernel.sh" arm64 && "$TOP/scripts/kernel.sh" arm64-debug; }
mkdir -p "$work"

nest_image || {
	result $phase fail "nest: the program builds"
	exit 1
}
plain=$BUILD/guest/initramfs.cpio initrd=$work/initramfs.cpio
start=$SECONDS

# check pass|fail NAME
check() {
	result $phase "$1" "nest: $2"
	[ "$1" = pass ] || rc=1
}

image=$(kernel_out arm64)/arch/arm64/boot/Image

say "the guest as QEMU describes it ..."
log=$LOGS/nest-refused-console.log
boot=pass
nest_boot "$image" "$plain" "$log" iort ioptes.nest=caches || boot=fail
check $boot "console free of splats, guest ended by itself, as QEMU describes it"
ok=fail
if grep -q 'iopt-nest: pass DMA lands where stage 2 says' "$log" &&
   grep -q 'IOMMU_VIOMMU_ALLOC: Operation not supported' "$log"; then
	ok=pass
fi
check $ok "no vIOMMU where firmware does not say that it is coherent"

step nest-iort "writing an IORT that says it is coherent" nest_iort "$log" "$initrd" || {
	check fail "there is an IORT"
	exit 1
}

# program NAME KERNEL LOG
program() {
	local boot=pass
	say "$1 in the guest ..."
	nest_boot "$2" "$initrd" "$3" nest || boot=fail
	result $phase $boot "$1: console free of splats, guest ended by itself"
	[ $boot = pass ] || rc=1
	guest_steps iopt-nest "$3" "$1" || rc=1
	sed -nE 's/.*iopt-nest: ((SMMU:|stream|[0-9]+ of) .*)/  \1/p' "$3"
}
program "nest" "$image" "$LOGS/nest-console.log"
program "nest, KASAN and lockdep" "$(kernel_out arm64-debug)/arch/arm64/boot/Image" \
	"$LOGS/nest-debug-console.log"

seeded=$(kernel_out arm64-seeded)
# shellcheck disable=SC2317
build_seeded() {
	local o
	seed_kernel "$work" "$TESTING/seeded/nest.patch" drivers/iommu/iommu \
		drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3{,-iommufd} || return
	# the patched objects must have gone in, and not been compiled over
	for o in '' _commands _msi; do grep -q " ioptes_nest$o\$" "$seeded/System.map" || return; done
}

# seeded N NAME STEP...: with that bug each of these steps of the program has failed, and
# all others have passed: there are as many as with none, which fails none
seeded() {
	local n=$1 name=$2 ok=pass s steps
	sed -n "/ioptes: seeded $n\$/,/ioptes: seeded end/p" "$slog" >"$work/steps"
	shift 2
	grep -q 'iopt-nest: complete' "$work/steps" || ok=fail
	for s; do [ "$(grep -cF "iopt-nest: fail $s" "$work/steps")" = 1 ] || ok=fail; done
	[ "$(grep -c 'iopt-nest: fail ' "$work/steps")" = $# ] || ok=fail
	steps=$(grep -cE 'iopt-nest: (pass|fail) ' "$work/steps") || ok=fail
	if [ "$n" = 0 ]; then
		all=$steps
		check $ok "seeded bug, none: the program passes"
	else
		[ "$steps" = "$all" ] || ok=fail
		check $ok "seeded bug, $name: $# steps of the program fail, and no others"
	fi
}

# seeded_msi N: the part with interrupts, in a kernel that poisons what is free: with 11 it
# stumbles over a domain that was replaced, with 0 it passes
seeded_msi() {
	local log=$LOGS/nest-seeded-$1-console.log ok=pass boot=pass
	nest_boot "$simage" "$initrd" "$log" nest ioptes.nest=msi "ioptes_nest=$1" \
		slub_debug=P oops=panic panic=-1 >/dev/null || boot=fail
	! grep -q 'iopt-nest: fail' "$log" || ok=fail
	if [ "$1" = 0 ]; then
		[ $boot = pass ] && grep -q 'iopt-nest: complete' "$log" || ok=fail
		check $ok "seeded bug, none: interrupts while HWPTs are replaced"
	else
		! grep -q 'iopt-nest: complete' "$log" || ok=fail
		sed -n '/Internal error: Oops/,$p' "$log" | grep -q ' iommu_dma_prepare_msi+' || ok=fail
		check $ok "seeded bug, a doorbell mapped without the mutex: the kernel stumbles over it"
	fi
}

# seeded_kunit N NAME TEST: with that bug this test of the suite must fail; with none all
# must pass
seeded_kunit() {
	local log=$LOGS/nest-seeded-$1-console.log ok=fail
	"$TOP/scripts/boot.py" --kernel "$simage" --log "$log" --mem 1G --timeout 300 \
		--append kunit_shutdown=poweroff --append "kunit.filter_glob=arm-smmu-v3-nesting$3" \
		--append "ioptes_nest=$1" >/dev/null || true
	if [ "$1" = 0 ]; then
		grep -qE "(^|\] )ok [0-9]+ arm-smmu-v3-nesting\$" "$log" && ok=pass
		check $ok "seeded bug, none: the KUnit suite passes"
	else
		grep -qE "(^|\] ) +not ok [0-9]+ ${3#.}\$" "$log" && ok=pass
		check $ok "seeded bug, $2: the KUnit test ${3#.} fails"
	fi
}

say "seeded bugs (must fail) ..."
if step nest-seeded "building the kernel with the seeded bugs" build_seeded; then
	simage=$seeded/arch/arm64/boot/Image
	slog=$LOGS/nest-seeded-console.log
	# faults that were not announced are among what these bugs do
	nest_boot "$simage" "$initrd" "$slog" nest-seeded ioptes.nest=caches >/dev/null || true
	seeded 0 none
	tlbi=("NH_VA:" "NH_VA, the leaf only:" "NH_VAA:" "NH_ASID:" "NH_ALL:" "NSNH_ALL:"
	      "NH_VA of a range:" "NH_VAA of a range:" "those before a bad one take effect")
	cfgi=("CFGI_CD:" "CFGI_CD_ALL:")
	seeded 1 "VMID not replaced" "${tlbi[@]}"
	seeded 2 "vSID not translated" "${cfgi[@]}"
	seeded 3 "commands counted and not issued" "${tlbi[@]}" "${cfgi[@]}"
	seeded 4 "stage 1 not invalidated when the parent unmaps" "a page that stage 2 has no more" \
		"stage 2 has another page there"
	seeded_kunit 0 none ''
	seeded_kunit 5 "no SYNC between TLBI and ATC_INV" .ant_tlbi_then_atc
	seeded_kunit 6 "a failed batch counted" .ant_timeout
	seeded_kunit 7 "ATS counted when it is enabled" .ant_unmap_meanwhile
	seeded_kunit 8 "no way back without a vdevice" .ant_attach_again
	seeded_kunit 9 "the group's domain taken for the device's" .ant_group_again
	seeded_kunit 10 "a stall answered for another stream" .ant_stall_streams
	# whether the freed domain is found depends on who has its memory then
	if [ -n "${FULL:-}" ]; then
		seeded_msi 0
		seeded_msi 11
	fi
else
	check fail "seeded bugs: the kernel builds"
fi
rm -rf "$seeded"

grep '^fail' "$RESULTS/$phase" || true
say "$phase: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase" || true) failed, $((SECONDS - start)) s, console: $LOGS/nest-console.log"
exit $rc
