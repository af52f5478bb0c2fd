#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# bench.sh: instructions per page table operation, base beside ours.
#
# Two kernels from one fragment (tools/testing/kconfig/bench.config), one of the
# tag `base`, one of the tree; the same modules (tools/testing/bench) built for
# each and loaded in the guest.  -icount makes the guest's instruction counter
# exact: the numbers are the same on every run and every host, so one run each
# is enough.
#
# Ours is measured twice, in page tables that do not count and in those that do
# (io_pgtable_cfg::reserve); the base has only the former, and its figure stands
# beside both.  Each row has its limit, printed next to it, and fails beyond it;
# the limits are in the Python code below.  The limit of a bind is the number of
# tables that were missing, which the module finds from the addresses alone.
#
# tools/testing/vfio, a program, is measured in the same boot: what it takes to map
# and unmap 1 GiB for a device through VFIO and iommufd, and how many tables.
#
# So is what it takes to bind a process to devices (SVA), and to add a group to a VFIO
# container that has others: instructions, the driver's attaches, domains, allocations.
# That is on fake IOMMU instances, whose driver counts also what it refuses, and for
# containers on the SMMUv3 too.  The limit of a count is what the step needs.
#
# And so is what a guest's invalidations take, in arrays of commands through iommufd: for
# a nested HWPT, and through a virtual IOMMU.  The base has no virtual IOMMU, and its nested
# HWPT stands beside that as what is nearest: it looks up no device.  Lookups and memory
# of virtual IOMMUs have nothing beside them.  The commands are those of the kernel's mock
# driver, and the module does with them what that does: CONFIG_IOMMUFD_TEST would bring
# fault injection, and checks into the code that the rows of VFIO go through.
#
# The SMMUv3's own commands go through a virtual IOMMU of its driver's, from the ioctl until
# QEMU's SMMUv3 has consumed them, CMD_SYNC and all.  The base's driver has no such thing.
# It offers them for a device that is coherent whatever it asks for.  Firmware says so, and
# QEMU's does not (see check-nest.sh): the module does in its stead, when all else has been
# measured.
#
# How many tables panthor's binds allocate is what its KUnit suite says, on UML; the
# base's number is what that driver's formula for the worst case allocates.
#
# What two CPUs do at the same time is nanoseconds of a second boot, without
# -icount: an observation, without a limit.

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

# modules NAME TREE KOUT: the modules for that kernel, in build/bench/module-NAME
modules() {
	local dir=$BUILD/bench/module-$1
	mkdir -p "$dir"
	cp "$TESTING"/bench/Kbuild "$TESTING"/bench/*.[ch] "$dir/"
	local make=(make -C "$2" O="$3/bench" ARCH=arm64 LOCALVERSION=
		    CROSS_COMPILE=aarch64-linux-gnu- CC="${CCACHE}aarch64-linux-gnu-gcc")
	"${make[@]}" modules_prepare
	# an image alone leaves no Module.symvers, hence the warnings
	"${make[@]}" M="$dir" KBUILD_MODPOST_WARN=1 modules
}

# measure NAME TREE KOUT
measure() {
	local boot=("$TOP/scripts/boot.py" --kernel "$3/bench/arch/arm64/boot/Image"
		    --initrd "$BUILD/guest/initramfs.cpio" --end --timeout 600
		    --append nokaslr --append quiet --append ioptes.test=bench
		    --append vfio_platform.reset_required=0)
	KSRC=$2 KOUT=$3 "$TOP/scripts/kernel.sh" bench
	step "bench-$1" "building the benchmark ($1)" modules "$1" "$2" "$3"
	cp "$BUILD/bench/module-$1"/{iopt,iommu}-bench.ko "$BUILD/guest/root/"
	"$TOP/scripts/initramfs.sh"
	rm "$BUILD/guest/root"/{iopt,iommu}-bench.ko
	say "counting instructions ($1) ..."
	"${boot[@]}" --log "$LOGS/bench-$1-console.log" --smp 1 --mem 3G \
		"${EDU[@]}" "${EDU[@]}" \
		--qemu=-icount --qemu=shift=0,sleep=off --qemu=-seed --qemu=1 \
		--qemu=-rtc --qemu=base=2026-01-01T00:00:00,clock=vm
	say "timing two CPUs ($1) ..."
	"${boot[@]}" --log "$LOGS/bench-$1-cpus-console.log" --smp 2
}
mkdir -p "$BUILD/bench"
step bench-vfio "building the program that maps through VFIO" \
	guest_program iopt-vfio "$TESTING/vfio/iopt-vfio.c"
step bench-groups "building the program that fills containers" \
	guest_program vfio-groups "$TESTING/vfio/vfio-groups.c"
step bench-invalidate "building the program that invalidates" \
	guest_program iommufd-invalidate "$TESTING/vfio/iommufd-invalidate.c"
step bench-nest "building the program that nests translation" \
	guest_program iopt-nest "$TESTING/vfio/iopt-nest.c" -pthread
measure base "$base" "$BUILD/base/out"
measure ours "$SRC" "$KOUT"
rm "$BUILD/guest/root"/{iopt-vfio,vfio-groups,iommufd-invalidate,iopt-nest}
rc=0
PHASE=bench-panthor "$TOP/scripts/kunit.sh" uml-debug panthor-vm || rc=1

python3 - "$LOGS" "$RESULTS/$phase" <<'EOF'
import re, sys

def read(name):
    path = f'{sys.argv[1]}/bench-{name}-console.log'
    text = open(path, errors='backslashreplace').read()
    if 'bench: complete' not in text:
        sys.exit(f'error: the benchmark did not come to its end, see {path}')
    return {(t, o): int(n) for t, o, n in re.findall(r'bench: ([\w-]+) (\w+) (\d+)$', text, re.M)}

# per cent of the base: in page tables that do not count, and in those that do
LIMITS = {
    'map_1x4K': (50, 60),    'unmap_1x4K': (50, 60),
    'map_16x4K': (100, 100), 'unmap_16x4K': (100, 100),
    'map_256x4K': (30, 30),  'unmap_256x4K': (85, 85),
    'map_1x2M': (50, 60),    'unmap_1x2M': (50, 60),
    'iova_to_phys': (75, 75),
    'map_alloc_table': (110, 110),
    'free_1G': (100, 110),
}
# a map or unmap in a reservation, beside one where the tables are there anyway
RESERVED = {'map_reserved': 'map_1x4K', 'unmap_reserved': 'unmap_1x4K'}
SAME = 2    # per cent

# through VFIO and iommufd: instructions, and tables
VFIO = {f'{o}_1G_by_{page}': limit for page in ('4K', '2M')
        for o, limit in (('map', 105), ('unmap', 105), ('tables', 100))}

# SVA, (devices, instances): per cent of the base's instructions, for a bind and an
# unbind.  Ours has more to do for one device, and refuses nothing where there are more
# instances.  These limits, and those of a group, are 5% above what was measured.
SVA = {
    (1, 1): (193, 205), (8, 1): (145, 135), (64, 1): (137, 125),
    (8, 8): (45, 190), (64, 8): (29, 133),
}
# a device needs a bond, and a node of its group's array; a domain itself and the core's
# structure; and the process one node, by which its domains are found
SVA_COUNTS = {
    'attaches': lambda n, m: n,
    'refused': lambda n, m: 0,
    'domains': lambda n, m: m,
    'allocations': lambda n, m: 2 * n + 2 * m + 1,
}
# a group that is added to a container: what it is, domains and allocations that it
# takes, per cent of the base's instructions
GROUPS = {
    'smmu-first': ('first group, SMMUv3', 1, 13, 114),
    'smmu-second': ('second group, SMMUv3', 0, 6, 43),
    'same': ('second group, same instance', 0, 2, 76),
    'other': ('second group, other instance', 1, 4, 96),
    'same-as-oldest': ('after three instances, of the first', 0, 2, 59),
    'other-than-three': ('after three instances, of another', 1, 4, 83),
}
# One attach. Before it, who owns the group attaches the domain that blocks all.
GROUP_COUNTS = {'attaches': 1, 'refused': 0, 'blocks': 1}
GROUP_ALL = ('domains', 'allocations', 'instructions', *GROUP_COUNTS)

# iommufd, by the number of commands in an array: per cent of the base's instructions, for a
# nested HWPT, where nothing has changed, and through a virtual IOMMU, where a lookup comes
# on top for each command.  These limits, and those of lookups, are 5% above what was
# measured; for the nested HWPT above the base.
INVALIDATE = {
    'hwpt': ('nested HWPT', {1: 105, 16: 105, 256: 105, 10000: 105}),
    'viommu': ('virtual IOMMU, beside the nested HWPT of the base',
               {1: 158, 16: 226, 256: 308, 10000: 321}),
}
# The same by the SMMUv3's commands, through its driver: instructions per command.  The last
# one names a device by its virtual stream ID, which is looked up.  5% above again.
SMMU = {
    'nh_va': ('TLBI_NH_VA', {1: 2032, 16: 220.3, 256: 123, 10000: 115.1}),
    'nh_asid': ('TLBI_NH_ASID', {1: 2028, 16: 216.1, 256: 118.7, 10000: 111.5}),
    'cfgi_cd': ('CFGI_CD', {1: 2164, 16: 342.6, 256: 246.8, 10000: 239.6}),
}
# vdevices: their number, the most instructions of a lookup, and bytes for each of them.  That
# is the structure, as large as the allocator makes it (96), and the nodes of the table that
# it is found in (576 for 64 IDs, and so on).
VDEVICES = {
    '1': ('1 vdevice, of ID 0', 1, 119, 672),
    '256': ('256 vdevices, of IDs from 0', 256, 144, 108),
    '65536': ('65,536 vdevices, of IDs from 0', 65536, 170, 106),
    'last': ('1 vdevice, of ID 65,535', 1, 170, 1824),
}
# what the ioctls allocate: the structure, and for the first vdevice a node of the table
VIOMMU_BYTES = {
    'viommu': ('a virtual IOMMU, by its ioctl', 96),
    'vdevice': ('a vdevice of ID 8, by its ioctl', 672),
}

base, ours = read('base'), read('ours')
failed, rows = [], 0
out = open(sys.argv[2], 'a')

def words(op):
    return op.replace('_', ' ')

def row(table, op, beside, n, text, ok, why):
    """One row with a limit; why says it in full when it is not met."""
    global rows
    rows += 1
    print(f'  {words(op):30}{beside:>10}{n:>10}{text}{"" if ok else "  NOT MET"}')
    print('pass' if ok else 'fail', f'bench: {table} {op}', file=out)
    if not ok:
        failed.append(f'{table} {op}: {why}')

def count_row(table, op, most):
    b, n = base[table, op], ours[table, op]
    # none where there must be some was not counted
    row(table, op, b, n, f'{"":11}{most}', n <= most and bool(n) == bool(most),
        f'{n} is not {most}')

def command_row(table, op, commands, limit):
    """Instructions for each command; the limit is that of the whole array."""
    b, n = base['invalidate-hwpt', op], ours[table, op]
    most = b * limit // 100
    row(table, op, f'{b / commands:.1f}', f'{n / commands:.1f}',
        f'{n * 100 / b:8.1f}%  {limit:3}% = {most / commands:.1f}',
        0 < n <= most, f'{n} is {n - most} more than {limit}% of {b}')

def own_row(table, op, each, most):
    """What only ours has, each of a number of them."""
    n = ours[table, op]
    row(table, op, '-', n // each if n % each == 0 else f'{n / each:.1f}', f'{"":11}{most}',
        0 < n <= most * each, f'{n / each:.2f} is not above 0 and at most {most}')

def percent_row(table, op, limit):
    b, n = base[table, op], ours[table, op]
    most = b * limit // 100
    row(table, op, b, n, f'{n * 100 / b:8.1f}%  {limit:3}% = {most}',
        0 < n <= most, f'{n} is {n - most} more than {limit}% of {b}')

names = {'s1': 'LPAE stage 1', 's2': 'LPAE stage 2', 'mali': 'Mali LPAE'}
want = {(t, o) for t in names for o in LIMITS}
counting = {(f'{t}-counts', o) for t in names for o in [*LIMITS, *RESERVED]}
want |= {('vfio', o) for o in VFIO}
want |= {(f'sva-{n}x{m}', o) for n, m in SVA for o in ('bind', 'unbind', *SVA_COUNTS)}
want |= {(f'groups-{t}', o) for t in GROUPS for o in GROUP_ALL}
commands = {w: {(f'invalidate-{w}', f'commands_{c}') for c in INVALIDATE[w][1]} for w in INVALIDATE}
want |= commands['hwpt']
viommus = commands['viommu'] | {(t, 'bytes') for t in VIOMMU_BYTES}
viommus |= {(f'smmu-{t}', f'commands_{c}') for t in SMMU for c in SMMU[t][1]}
viommus |= {(f'vdevices-{t}', o) for t in VDEVICES for o in ('lookup', 'bytes')}
if base.keys() != want or not ours.keys() >= want | counting | viommus:
    sys.exit('error: base and ours did not measure the same')

print(f'{"instructions per call":32}{"base":>10}{"ours":>10}{"of base":>9}  limit')
for counts in (False, True):
    for t, title in names.items():
        mine = f'{t}-counts' if counts else t
        print(title + (', counting' if counts else ''))
        for o, limits in LIMITS.items():
            b, n = base[t, o], ours[mine, o]
            most = b * limits[counts] // 100
            row(mine, o, b, n, f'{n * 100 / b:8.1f}%  {limits[counts]:3}% = {most}',
                0 < n <= most, f'{n} is {n - most} more than {limits[counts]}% of {b}')
        if not counts:
            continue
        for o, plain in RESERVED.items():
            p, n = ours[mine, plain], ours[mine, o]
            row(mine, o, base[t, plain], n, f'{n * 100 / base[t, plain]:8.1f}%  '
                f'{SAME}% from our {words(plain)} = {p}', abs(n - p) * 100 <= SAME * p,
                f'{n} differs from {p} by more than {SAME}%')
        print(f'  a reservation saves the map {ours[mine, "map_alloc_table"] - n} instructions')

t = 's1-counts'
print(f'{"reservations, counting stage 1":32}{"reserve":>10}{"unreserve":>10}{"tables":>9}')
for o in [o.removeprefix('tables_') for x, o in ours if x == t and o.startswith('tables_')]:
    print(f'  {words(o):30}{ours[t, "reserve_" + o]:10}{ours[t, "unreserve_" + o]:10}'
          f'{ours[t, "tables_" + o]:9}')

binds = [x for x, o in ours if o == 'worst_case']
if len(binds) != 3:
    sys.exit('error: the binds were not measured')
print(f'{"tables allocated by binds":32}{"base":>10}{"ours":>10}{"":11}limit')
for t in binds:
    n, need, off = (ours[t, o] for o in ('allocated', 'needed', 'not_as_needed'))
    row(t, f'{ours[t, "binds"]}_{t.removeprefix("bind-")}', ours[t, 'worst_case'], n,
        f'{"":11}as needed = {need}', n == need and not off,
        f'{n} allocated, {need} needed; {off} binds allocated another number than they needed')

text = open(f'{sys.argv[1]}/bench-panthor-console.log', errors='backslashreplace').read()
binds = re.findall(r'panthor: (.*): (\d+) tables, base (\d+)$', text, re.M)
if len(binds) != 3:
    sys.exit('error: the binds of panthor were not measured')
print("the same by panthor's own code, in its KUnit suite")
for i, (what, n, b) in enumerate(binds):
    print(f'  {what}:')
    row('panthor', f'binds_{i + 1}', int(b), int(n), f'{"":11}fewer than the base',
        int(n) < int(b), f'{n} tables, base {b}')

print(f'{"1 GiB through VFIO and iommufd":32}{"base":>10}{"ours":>10}{"of base":>9}  limit')
for o, limit in VFIO.items():
    percent_row('vfio', o, limit)

print(f'{"SVA: a process bound to devices":32}{"base":>10}{"ours":>10}{"of base":>9}  limit')
for (n, m), limits in SVA.items():
    t = f'sva-{n}x{m}'
    print(f'{n} device{"s"[:n > 1]} on {m} instance{"s"[:m > 1]}: instructions for each, '
          'and what all take')
    for o, limit in zip(('bind', 'unbind'), limits):
        percent_row(t, o, limit)
    for o, most in SVA_COUNTS.items():
        count_row(t, o, most(n, m))

# The SMMUv3's are counted by probes; were one of these wrong, less would be counted.
for k in (base, ours):
    if any(k['groups-smmu-first', o] != 1 for o in ('attaches', 'blocks', 'domains')):
        sys.exit('error: what the SMMUv3 does was not counted')

print(f'{"VFIO: a group for a container":32}{"base":>10}{"ours":>10}{"of base":>9}  limit')
for t, (title, domains, allocations, limit) in GROUPS.items():
    print(title)
    t = f'groups-{t}'
    for o, most in GROUP_COUNTS.items():
        # there is only one SMMUv3
        if o != 'refused' or 'smmu' not in t:
            count_row(t, o, most)
    count_row(t, 'domains', domains)
    count_row(t, 'allocations', allocations)
    percent_row(t, 'instructions', limit)

print(f'{"iommufd: instructions per command":32}{"base":>8}{"ours":>10}{"of base":>9}  limit')
for w, (title, limits) in INVALIDATE.items():
    print(title)
    for c, limit in limits.items():
        command_row(f'invalidate-{w}', f'commands_{c}', c, limit)
for t, (title, limits) in SMMU.items():
    print(f'virtual IOMMU of the SMMUv3, {title}')
    for c, most in limits.items():
        own_row(f'smmu-{t}', f'commands_{c}', c, most)
print(f'{"virtual IOMMUs":32}{"base":>10}{"ours":>10}{"":11}limit')
for t, (title, n, lookup, size) in VDEVICES.items():
    print(f'{title}: instructions of a lookup, bytes for each')
    own_row(f'vdevices-{t}', 'lookup', 1, lookup)
    own_row(f'vdevices-{t}', 'bytes', n, size)
for t, (title, most) in VIOMMU_BYTES.items():
    print(title)
    own_row(t, 'bytes', 1, most)

base, ours = read('base-cpus'), read('ours-cpus')
print('nanoseconds of a map and unmap of 4K (an observation: emulated CPUs, noisy, no limit)')
print(f'{"":32}{"base":>10}{"ours":>10}{"counting":>10}')
for t, title in names.items():
    print(title)
    for o in [o for x, o in ours if x == t]:
        print(f'  {words(o):30}{base[t, o]:10}{ours[t, o]:10}{ours[f"{t}-counts", o]:10}')

print(f'bench: {rows - len(failed)} rows within their limit, {len(failed)} not')
for f in failed:
    print(f'  {f}')
sys.exit(bool(failed))
EOF
exit $rc
