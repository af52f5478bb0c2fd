#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh: instructions per page table operation, base beside ours.
#
# Two kernels from one fragment (tools/testing/kconfig/bench.config), one of the
# tag `base`, one of the tree; the same module (tools/testing/bench) built for
# each and loaded in the guest.  -icount makes the guest's instruction counter
# exact: the numbers are the same on every run and every host, so one run each
# is enough.
#
# Fails when ours needs more than 5% more instructions than the base in any row,
# or more at all for iova_to_phys or the teardown.

. "$(dirname "$0")/boot-lib.sh"

phase=bench
: >"$RESULTS/$phase"
"$TOP/scripts/boot.py" --check-qemu || exit 1

# base_tree: the tag `base` beside the tree.  Its place relative to its O= folder
# is that of the tree to build/out, which is what lets ccache share objects.
base=$BUILD/base/linux-6.12
base_tree() {
	git -C "$SRC" worktree prune
	if [ "$(git -C "$base" rev-parse HEAD 2>/dev/null)" != "$(git -C "$SRC" rev-parse base^0)" ]; then
		rm -rf "$base"
		git -C "$SRC" worktree prune
		git -C "$SRC" worktree add --force --detach "$base" base
	fi
	git -C "$base" diff --quiet HEAD
}
git -C "$SRC" rev-parse -q --verify base^0 >/dev/null || die "no tag 'base' in $SRC: run 'make tree'"
step bench-base "the base's source" base_tree

# module NAME TREE KOUT: iopt-bench.ko for that kernel, as build/bench/NAME.ko
module() {
	local dir=$BUILD/bench/module-$1
	mkdir -p "$dir"
	cp "$TESTING"/bench/Kbuild "$TESTING"/bench/*.c "$dir/"
	local make=(make -C "$2" O="$3/bench" ARCH=arm64 LOCALVERSION=
		    CROSS_COMPILE=aarch64-linux-gnu- CC="$(have ccache && echo 'ccache ')aarch64-linux-gnu-gcc")
	"${make[@]}" modules_prepare
	# an image alone leaves no Module.symvers, hence the warnings
	"${make[@]}" M="$dir" KBUILD_MODPOST_WARN=1 modules
	cp "$dir/iopt-bench.ko" "$BUILD/bench/$1.ko"
}

# measure NAME TREE KOUT
measure() {
	local log=$LOGS/bench-$1-console.log
	KSRC=$2 KOUT=$3 "$TOP/scripts/kernel.sh" bench
	step "bench-$1" "building the benchmark ($1)" module "$1" "$2" "$3"
	mkdir -p "$BUILD/guest/root"
	cp "$BUILD/bench/$1.ko" "$BUILD/guest/root/iopt-bench.ko"
	"$TOP/scripts/initramfs.sh"
	rm "$BUILD/guest/root/iopt-bench.ko"
	say "counting instructions ($1) ..."
	"$TOP/scripts/boot.py" --kernel "$3/bench/arch/arm64/boot/Image" \
		--initrd "$BUILD/guest/initramfs.cpio" --log "$log" --end --timeout 300 --smp 1 \
		--qemu=-icount --qemu=shift=0,sleep=off --qemu=-seed --qemu=1 \
		--qemu=-rtc --qemu=base=2026-01-01T00:00:00,clock=vm \
		--append nokaslr --append quiet --append ioptes.test=bench
}
mkdir -p "$BUILD/bench"
measure base "$base" "$BUILD/base/out"
measure ours "$SRC" "$KOUT"

python3 - "$LOGS/bench-base-console.log" "$LOGS/bench-ours-console.log" "$RESULTS/$phase" <<'EOF'
import re, sys
def read(path):
    text = open(path, errors='backslashreplace').read()
    if 'bench: complete' not in text:
        sys.exit(f'error: the benchmark did not come to its end, see {path}')
    return {(t, o): int(n) for t, o, n in re.findall(r'bench: (\w+) (\w+) (\d+)$', text, re.M)}
base, ours = read(sys.argv[1]), read(sys.argv[2])
if not base or base.keys() != ours.keys():
    sys.exit('error: base and ours did not measure the same')
names = {'s1': 'LPAE stage 1', 's2': 'LPAE stage 2', 'mali': 'Mali LPAE'}
print(f'{"instructions per call":32}{"base":>10}{"ours":>10}')
bad = 0
with open(sys.argv[3], 'a') as out:
    last = None
    for (t, o), b in base.items():
        if t != last:
            print(names[t])
            last = t
        n = ours[t, o]
        limit = b if o in ('iova_to_phys', 'free_1G') else b * 1.05
        ok = 0 < n <= limit
        bad += not ok
        print(f'  {o.replace("_", " "):30}{b:10}{n:10}{(n - b) * 100 / b:+8.1f}%{"" if ok else "  TOO MANY"}')
        print('pass' if ok else 'fail', f'bench: {t} {o}', file=out)
print(f'bench: {len(base) - bad} rows within their limit, {bad} not')
sys.exit(bad != 0)
EOF
