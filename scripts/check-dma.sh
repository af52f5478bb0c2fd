#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-dma.sh: DMA through reserved ranges, on the SMMUv3 driver.
#
# In the guest tools/testing/dma, a module, drives QEMU's `edu` device through a
# domain that it maps, unmaps, reserves and unreserves while allocation fails.
# Each of its steps is a result.  So are what it cannot judge itself: that the
# SMMU reported each DMA to what is not mapped, with that device and address;
# that the kernel's fault injection counted as many failures as the module met;
# and that no page of a page table was left.

. "$(dirname "$0")/boot-lib.sh"

phase="boot-dma"
: >"$RESULTS/$phase"
work=$BUILD/dma
log=$LOGS/dma-console.log
rc=0
"$TOP/scripts/boot.py" --check-qemu || exit 1
[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" arm64

# module: iopt-dma.ko for that kernel.  An image alone leaves no Module.symvers,
# hence the warnings; what is not exported, insmod refuses.
# shellcheck disable=SC2317
module() {
	mkdir -p "$work"
	cp "$TESTING"/dma/Kbuild "$TESTING"/dma/*.c "$work/"
	local make=(make -C "$SRC" O="$(kernel_out arm64)" ARCH=arm64 LOCALVERSION=
		    CROSS_COMPILE=aarch64-linux-gnu- CC="${CCACHE}aarch64-linux-gnu-gcc"
		    HOSTCC="${CCACHE}gcc")
	"${make[@]}" modules_prepare
	"${make[@]}" M="$work" KBUILD_MODPOST_WARN=1 modules
}
step dma-module "building the DMA test for the guest" module || {
	result $phase fail "dma: the module builds"
	exit 1
}
mkdir -p "$BUILD/guest/root"
cp "$work/iopt-dma.ko" "$BUILD/guest/root/"
"$TOP/scripts/initramfs.sh"
rm "$BUILD/guest/root/iopt-dma.ko"

say "DMA through reserved ranges in the guest ..."
start=$SECONDS
boot=pass
"$TOP/scripts/boot.py" --kernel "$(kernel_out arm64)/arch/arm64/boot/Image" \
	--initrd "$BUILD/guest/initramfs.cpio" --log "$log" --end --timeout 240 \
	"${EDU[@]}" \
	--append ioptes.test=dma --append kunit.enable=0 || boot=fail
result $phase $boot "dma: console free of splats, guest ended by itself"
[ $boot = pass ] || rc=1

python3 - "$log" >>"$RESULTS/$phase" <<'EOF' || rc=1
import re, sys
lines = open(sys.argv[1], errors='backslashreplace').read().splitlines()
bad = 0

def result(ok, name):
    global bad
    bad += not ok
    print('pass' if ok else 'fail', 'dma: ' + name)

def said(what):
    """The numbers that the guest reported so, none if it did not."""
    m = [re.search(rf'{what}((?: -?\d+)+)$', l) for l in lines]
    return [int(n) for n in next((m[1].split() for m in m if m), [])]

steps = [m for m in (re.search(r'iopt-dma: (pass|fail) (.*)', l) for l in lines) if m]
for m in steps:
    result(m[1] == 'pass', m[2])
result(bool(steps) and any('iopt-dma: complete' in l for l in lines), 'all steps were run')

# Between the announcements: events of the announced stream and address, nothing else
faults, ok, want, event = 0, True, None, None
for l in lines:
    m = re.search(r'iopt-dma: fault of (0x[0-9a-f]+) at (0x[0-9a-f]+)', l)
    if m:
        want, seen = (int(m[1], 16), int(m[2], 16)), 0
    elif 'iopt-dma: expect-splat: end' in l:
        faults, ok, want = faults + 1, ok and seen > 0, None
    elif re.search(r'arm-smmu-v3 .*: event 0x10 received', l):
        event = []
    m = event is not None and re.search(r'arm-smmu-v3 .*:\s+(0x[0-9a-f]{16})$', l)
    if m:
        event.append(int(m[1], 16))
        if len(event) == 4:
            # event record of F_TRANSLATION: StreamID, InputAddr
            ok &= want == (event[0] >> 32, event[2])
            seen, event = seen + 1, None
result(faults > 0 and ok, 'the SMMU reports the device and the address of each fault')

injected, met = said('ioptes: dma-injected'), said('iopt-dma: injected')
result(injected == met and met > [0], 'as many allocations failed as the steps met')
before, after = said('ioptes: dma-pages-before'), said('ioptes: dma-pages-after')
result(len(before) == 2 and before == after, 'no page of a page table is left')
print(f'  {faults} faults, {(met + [0])[0]} failed allocations, '
      f'pages before {before}, after {after}', file=sys.stderr)
sys.exit(bad != 0)
EOF
grep '^fail' "$RESULTS/$phase" || true
say "$phase: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase" || true) failed, $((SECONDS - start)) s, console: $log"
exit $rc
