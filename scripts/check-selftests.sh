#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-selftests.sh: the kernel's own tools/testing/selftests/iommu in the guest.
#
# The programs are built from the base's sources whatever the series is, so base
# and ours run the same ones; where the distribution's copy does not compile
# against its own headers, tools/testing/selftests-iommu/shim.h helps.  Ours
# must pass exactly as many tests as tools/testing/base-counts says the base
# does; each test is a result.  RECORD=1 on a base tree records the counts.
#
# The tests that the series adds to them are built from the tree's sources, and run
# by themselves.  All of them must pass.

. "$(dirname "$0")/boot-lib.sh"

phase=selftests
: >"$RESULTS/$phase"
work=$BUILD/selftests
log=$LOGS/selftests-console.log
mkdir -p "$work" "$BUILD/guest/root"

[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" arm64

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

# tests SOURCES PROGRAM: its tests, as FIXTURE.NAME
tests() {
	sed -nE 's/^TEST_(F|FAIL_NTH)\((\w+), (\w+)\).*/\2.\3/p' "$1/tools/testing/selftests/iommu/$2.c" | sort
}

# program SOURCES NAME RESULT: as it is, or else with the shim
program() {
	local inc shim
	inc=(-isystem "$BUILD/guest/headers/usr/include" -I"$1/tools/testing/selftests"
	     -I"$1/tools/testing/selftests/iommu" -I"$SRC/tools/include")
	for s in no yes; do
		shim=()
		[ $s = no ] || shim=(-include "$TESTING/selftests-iommu/shim.h")
		if aarch64-linux-gnu-gcc -O2 -static -Wall -Wno-unused-function -D_GNU_SOURCE= \
			"${inc[@]}" "${shim[@]}" -o "$work/$2.new" \
			"$1/tools/testing/selftests/iommu/$2.c" -lpthread; then
			mv "$work/$2.new" "$BUILD/guest/root/$3"
			return
		fi
		[ $s = yes ] || echo "== $2 does not compile as it is, with the shim:"
	done
	return 1
}

programs=(iommufd iommufd_fail_nth)
build() {
	local t
	guest_headers || return
	for t in "${programs[@]}"; do
		program "$work/src" "$t" "$t" || return
		comm -13 <(tests "$work/src" "$t") <(tests "$SRC" "$t") >"$work/own_$t.tests"
		[ -s "$work/own_$t.tests" ] || continue
		program "$SRC" "$t" "own_$t" || return
		cp "$work/own_$t.tests" "$BUILD/guest/root/"
	done
}
rm -f "$BUILD"/guest/root/own_*
step selftests "building selftests/iommu for the guest" build
"$TOP/scripts/initramfs.sh"
rm -f "$BUILD"/guest/root/own_*

say "selftests/iommu in the guest ..."
start=$SECONDS
rc=0
boot=pass
"$TOP/scripts/boot.py" --kernel "$(kernel_out arm64)/arch/arm64/boot/Image" \
	--initrd "$BUILD/guest/initramfs.cpio" --mem 1G --log "$log" --end --timeout 300 \
	--append ioptes.test=selftests --append kunit.enable=0 || boot=fail
result $phase $boot "selftests/iommu: console free of splats, guest ended by itself"
[ $boot = pass ] || rc=1

python3 - "$log" "$TESTING/base-counts" "$work" "${RECORD:-}" >>"$RESULTS/$phase" <<'EOF' || rc=1
import re, sys
log, counts, work, record = sys.argv[1:]
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
for prog in 'iommufd', 'iommufd_fail_nth':
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

for prog in 'own_iommufd', 'own_iommufd_fail_nth':
    want = set(open(f'{work}/{prog}.tests').read().split())
    for ok, name in ours.get(prog, []):
        # one of the base's may have the same name
        if test_of(name) in want:
            print('pass' if ok else 'fail', f'{prog}: {name}')
            rc |= not ok
    for test in sorted(want - {test_of(name) for _, name in ours.get(prog, [])}):
        print(f'fail {prog}: {test} did not run')
        rc = 1
if record:
    open(counts, 'w').write(text)
sys.exit(rc)
EOF
grep '^fail' "$RESULTS/$phase" | head -n 20 || true
say "selftests/iommu: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase") failed, $((SECONDS - start)) s, console: $log"
exit $rc
