#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-selftests.sh [VARIANT]: the kernel's own tools/testing/selftests/iommu in the guest.
#
# The programs are built from the base's sources whatever the series is, so base
# and ours run the same ones, but for one line, see below; where the distribution's
# copy does not compile against its own headers, tools/testing/selftests-iommu/shim.h
# helps.  Ours must pass exactly as many tests as tools/testing/base-counts says the
# base does; each test is a result.  RECORD=1 on a base tree records the counts.
#
# The tests that the series adds to them are built from the tree's sources, and run
# by themselves.  All of them must pass.
#
# VARIANT is arm64, or a kernel with checks: arm64-debug, where most of the tests that the
# series adds run, and kmemleak looks for what they leave behind, and arm64-kcsan, where
# the one with threads does.

. "$(dirname "$0")/boot-lib.sh"

variant=${1:-arm64} only=. skip=
case $variant in
arm64)	phase=selftests programs=(iommufd iommufd_fail_nth own_iommufd own_iommufd_fail_nth)
	boot=(--mem 1G --timeout 300) ;;
arm64-debug)
	phase=selftests-debug programs=(own_iommufd own_iommufd_fail_nth)
	# these take longer there than the 30 s that the harness gives them
	skip="invalidate_bad\|fail_nth.reserve"
	boot=(--mem 1G --smp 4 --timeout 900 --append kmemleak=on --append IOMMUFD_TORTURE_SECONDS=5) ;;
arm64-kcsan)
	phase=selftests-kcsan programs=(own_iommufd)
	only=torture
	boot=(--mem 1G --smp 4 --timeout 600 --append IOMMUFD_TORTURE_SECONDS=5) ;;
*)	die "usage: $0 [arm64|arm64-debug|arm64-kcsan]" ;;
esac
: >"$RESULTS/$phase"
work=$BUILD/selftests
log=$LOGS/$phase-console.log
mkdir -p "$work" "$BUILD/guest/root"

[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" "$variant"

# The base's sources: the tag, or the tree itself where it has none.
rm -rf "$work/src"
mkdir "$work/src"
paths=(tools/testing/selftests/iommu tools/testing/selftests/kselftest.h
       tools/testing/selftests/kselftest_harness.h drivers/iommu/iommufd/iommufd_test.h)
if git -C "$SRC" rev-parse -q --verify base^0 >/dev/null 2>&1; then
	git -C "$SRC" archive base "${paths[@]}" | tar -xC "$work/src"
else
	(cd "$SRC" && tar -c "${paths[@]}") | tar -xC "$work/src"
fi

# With virtual IOMMUs IOMMU_HWPT_INVALIDATE of a parent is -EINVAL, as in mainline and
# its tests, and no longer -ENOENT.
if [ -f "$SRC/drivers/iommu/iommufd/viommu.c" ]; then
	f=$work/src/tools/testing/selftests/iommu/iommufd.c
	old='test_err_hwpt_invalidate(ENOENT, parent_hwpt_id,'
	[ "$(grep -cF "$old" "$f")" = 1 ] || die "the base's test has changed: no '$old' in $f"
	sed -i "s/test_err_hwpt_invalidate(ENOENT, parent_hwpt_id,/test_err_hwpt_invalidate(EINVAL, parent_hwpt_id,/" "$f"
fi

# tests SOURCES PROGRAM: its tests, as FIXTURE.NAME
tests() {
	sed -nE 's/^TEST_(F|F_TIMEOUT|FAIL_NTH)\((\w+), (\w+)[,)].*/\2.\3/p' "$1/tools/testing/selftests/iommu/$2.c" | sort
}

# program SOURCES NAME RESULT: as it is, or else with the shim
program() {
	local inc shim
	# (tools/include has a linux/types.h with fewer types than the user API's)
	inc=(-isystem "$BUILD/guest/headers/usr/include" -I"$1/tools/testing/selftests"
	     -I"$1/tools/testing/selftests/iommu" -idirafter "$SRC/tools/include")
	for s in no shim-pasid.h shim.h; do
		shim=()
		[ $s = no ] || shim=(-include "$TESTING/selftests-iommu/$s")
		if aarch64-linux-gnu-gcc -O2 -static -Wall -Wno-unused-function -D_GNU_SOURCE= \
			"${inc[@]}" "${shim[@]}" -o "$work/$2.new" \
			"$1/tools/testing/selftests/iommu/$2.c" -lpthread; then
			mv "$work/$2.new" "$BUILD/guest/root/$3"
			return
		fi
		echo "== $2 does not compile (shim: $s)"
	done
	return 1
}

# own_tests PROGRAM: those that only the tree has, and that are for this kernel
own_tests() {
	comm -13 <(tests "$work/src" "$1") <(tests "$SRC" "$1") |
		grep "$only" | if [ "$skip" ]; then grep -v "$skip"; else cat; fi
}
build() {
	local p
	guest_headers || return
	for p in "${programs[@]}"; do
		case $p in
		own_*)	own_tests "${p#own_}" >"$work/$p.tests" || true
			[ -s "$work/$p.tests" ] || continue
			program "$SRC" "${p#own_}" "$p" || return
			cp "$work/$p.tests" "$BUILD/guest/root/" ;;
		*)	program "$work/src" "$p" "$p" || return ;;
		esac
	done
}
clear_root() { rm -f "$BUILD"/guest/root/{own_,}iommufd{,_fail_nth}{,.tests}; }
clear_root
step "$phase" "building selftests/iommu for the guest" build
"$TOP/scripts/initramfs.sh"
clear_root

say "selftests/iommu in the guest ..."
case $variant in
*-kcsan) whose_races "$variant"; boot+=("${RACES[@]}") ;;
esac
start=$SECONDS
rc=0
splat=pass
"$TOP/scripts/boot.py" --variant "$variant" --kernel "$(kernel_out "$variant")/arch/arm64/boot/Image" \
	--initrd "$BUILD/guest/initramfs.cpio" --log "$log" --end "${boot[@]}" \
	--append ioptes.test=selftests --append kunit.enable=0 || splat=fail
result $phase $splat "$phase: console free of splats, guest ended by itself"
[ $splat = pass ] || rc=1
if [ "$variant" = arm64-debug ]; then
	leaks=pass
	[ "$(said "$log" kmemleak-scanned)" = 2 ] || leaks=fail rc=1
	result $phase $leaks "$phase: kmemleak has looked for leaks"
fi

python3 - "$log" "$TESTING/base-counts" "$work" "${RECORD:-}" "${programs[*]}" >>"$RESULTS/$phase" <<'EOF' || rc=1
import re, sys
log, counts, work, record, programs = sys.argv[1:]
programs = programs.split()
ours = {}
prog, rc = None, 0
for line in open(log, errors='backslashreplace'):
    m = re.search(r'ioptes: selftest-(begin|end) (\w+)', line)
    if m:
        prog = m[2] if m[1] == 'begin' else None
        if prog:
            ours[prog] = []
        continue
    m = prog and re.search(r'tap: (not )?ok \d+ (.*)', line)
    # a test that was skipped has proven nothing
    if m and not re.search(r'# SKIP', m[2]):
        ours[prog].append((not m[1], m[2].split(' # ')[0].strip()))
text = open(counts).read()
for prog in (p for p in programs if not p.startswith('own_')):
    tests = ours.get(prog, [])
    for ok, name in tests:
        print('pass' if ok else 'fail', f'{prog}: {name}')
        rc |= not ok
    passed = sum(ok for ok, _ in tests)
    if record:
        text = re.sub(rf'^{prog} arm64 .*\n', '', text, flags=re.M) + f'{prog} arm64 {passed}\n'
    want = re.search(rf'^{prog} arm64 (\d+)$', text, re.M)
    if not want or passed != int(want[1]) or not passed:
        print(f'fail {prog}: {passed} pass, on the base {want[1] if want else "not recorded"}')
        rc = 1
def test_of(name):
    """FIXTURE.NAME of FIXTURE.VARIANT.NAME"""
    parts = name.split('.')
    return f'{parts[0]}.{parts[-1]}'

for prog in (p for p in programs if p.startswith('own_')):
    want = set(open(f'{work}/{prog}.tests').read().split())
    for ok, name in ours.get(prog, []):
        # one of the base's may have the same name
        if test_of(name) in want:
            print('pass' if ok else 'fail', f'{prog}: {name}')
            rc |= not ok
    for test in sorted(want - {test_of(name) for _, name in ours.get(prog, [])}):
        print(f'fail {prog}: {test} did not run')
        rc = 1
if not ours:
    print('fail no program ran')
    rc = 1
if record:
    open(counts, 'w').write(text)
sys.exit(rc)
EOF
grep '^fail' "$RESULTS/$phase" | head -n 20 || true
say "selftests/iommu: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase") failed, $((SECONDS - start)) s, console: $log"
exit $rc
