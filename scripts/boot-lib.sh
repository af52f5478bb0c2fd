# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# What the scripts that build and boot kernels share: lib.sh, and where the
# kernels, the guest's parts and the console logs are.
#
# KSRC=TREE works on another kernel source than build/linux-6.12, KOUT=DIR
# keeps its kernels in DIR instead of build/out.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SRC=${KSRC:-$SRC}
KOUT=${KOUT:-$BUILD/out}
# what compilers are called through; a machine of CI's has nothing cached, and keeps nothing
CCACHE=
if have ccache && [ "${CI:-}" != true ]; then CCACHE='ccache '; fi
TESTING=$TOP/tools/testing
KCONFIG=$TESTING/kconfig
BUSYBOX=$SHARED/busybox-arm64/busybox
# for boot.py: a PCI device with a DMA engine that tests can drive
EDU=(--qemu=-device --qemu=edu,dma_mask=0xffffffffffffffff)

# variants: the kernels that can be built, in one line
variants() {
	find "$KCONFIG" -name '*.config' -printf '%f\n' |
		sed -e 's/\.config$//' -e '/^common$/d' -e '/^acpi$/d' -e '/^small$/d' -e '/kunit$/d' | sort | tr '\n' ' '
}

# kernel_out VARIANT: its O= folder
kernel_out() { printf '%s/%s\n' "$KOUT" "$1"; }

# default_disk: 64 MiB that look random and are the same everywhere
default_disk() {
	local disk=$SHARED/disk.img
	if [ "$(stat -c %s "$disk" 2>/dev/null)" != $((64 << 20)) ]; then
		python3 - "$disk.new" <<-'EOF'
		import random, sys
		r = random.Random('ioptes')
		with open(sys.argv[1], 'wb') as f:
		    for _ in range(64):
		        f.write(r.randbytes(1 << 20))
		EOF
		mv "$disk.new" "$disk"
	fi
	printf '%s\n' "$disk"
}

# disk_size FILE: bytes of a file or block device
disk_size() {
	if [ -b "$1" ]; then blockdev --getsize64 "$1"; else stat -Lc %s "$1"; fi
}

# disk_sha256 FILE: of the disk that the guest will see: whole blocks of 512
# bytes, a last partial one padded with zeros (as QEMU does)
disk_sha256() {
	local pad
	pad=$(((512 - $(disk_size "$1") % 512) % 512))
	{ cat "$1" && head -c "$pad" /dev/zero; } | sha256sum | cut -d' ' -f1
}

# said LOG KEY: what the guest reported as KEY, empty if nothing
said() { sed -n "s/.*ioptes: $2 //p" "$1" | tail -n 1; }

# disk_boot LOG IMAGE DISK SHA256 [APPEND...]: boot, have the guest read the
# whole disk through the SMMU, and judge what it read and how.  Every line of
# the report that is wrong says so; fails if there is one.
disk_boot() {
	local log=$1 image=$2 disk=$3 want=$4 rc=0 append=() a got domain size features
	shift 4
	for a; do append+=(--append "$a"); done
	size=$(disk_size "$disk")
	# TCG reads and hashes some 20 MB/s; be patient with a busy machine
	"$TOP/scripts/boot.py" --kernel "$image" --initrd "$BUILD/guest/initramfs.cpio" \
		--disk "$disk" --log "$log" --end --timeout $((120 + size / 2000000)) \
		--append ioptes.test=disk --append kunit.enable=0 "${append[@]}" || rc=1

	features=$(sed -n 's/.*arm-smmu-v3 \(.*(features 0x.*)\).*/\1/p' "$log" | head -n 1)
	say "  SMMU           ${features:-WRONG: the SMMUv3 driver did not say its features}"
	[ -n "$features" ] || rc=1
	domain=$(said "$log" disk-domain)
	case $domain in
	DMA | DMA-FQ)
		say "  disk           NVMe $(said "$log" disk-device), $(said "$log" disk-bytes) bytes," \
			"behind $(said "$log" disk-iommu)"
		say "  IOMMU domain   $domain (translated), group $(said "$log" disk-group)" ;;
	*)	say "  IOMMU domain   WRONG: '$domain' is not translated"
		rc=1 ;;
	esac
	got=$(said "$log" disk-sha256)
	say "  sha256, host   $want"
	if [ "$got" = "$want" ]; then
		say "  sha256, guest  $got (equal)"
	else
		say "  sha256, guest  ${got:-none} WRONG: $(said "$log" disk-read-error)"
		rc=1
	fi
	if grep -q 'ioptes: iopte allocated' "$log"; then
		say "  table pages    $(sed -n 's/.*ioptes: iopte //p' "$log" | paste -sd' ')"
	elif [ -f "$SRC/drivers/iommu/iopte.c" ]; then
		say "  table pages    WRONG: no /sys/kernel/debug/iommu/iopte in this kernel"
		rc=1
	else
		say "  table pages    not in this kernel"
	fi
	DOMAIN=$domain
	return $rc
}

# seed_kernel WORK PATCH OBJECT...: OUT/arm64-seeded, a copy of OUT/arm64 in which these
# objects are compiled from sources that are patched in WORK, and the image is linked
# again: seconds, where a second tree would cost minutes.
seed_kernel() {
	local work=$1 patch=$2 to dir o cmd
	shift 2
	to=$(kernel_out arm64-seeded)
	rm -rf "$to" "$work/drivers"
	for o; do
		mkdir -p "$work/${o%/*}"
		cp "$SRC/$o.c" "$work/$o.c" || return
	done
	patch -s -f -p1 -d "$work" <"$patch" || return
	cp -a --reflink=auto "$(kernel_out arm64)" "$to" || return
	for o; do
		# the command that kbuild used, with another source; -iquote finds what
		# the source includes from its own folder
		dir=${o%/*}
		cmd=$(sed -n "s|^savedcmd_$o.o := ||p" "$to/$dir/.${o##*/}.o.cmd")
		case $cmd in
		*" $SRC/$o.c"*) ;;
		*) echo "unknown compile command: $cmd"; return 1 ;;
		esac
		cmd=${cmd/" $SRC/$o.c"/" -iquote $SRC/$dir $work/$o.c"}
		(cd "$to" && eval "$cmd") || return
	done
	"$TOP/scripts/kernel.sh" arm64-seeded
}

# functions VARIANT FOLDER FILE: the functions of that part of the kernel
functions() {
	find "$(kernel_out "$1")/$2" -name '*.o' -exec aarch64-linux-gnu-nm --defined-only {} + 2>/dev/null |
		awk 'NF == 3 && $2 ~ /^[tTwW]$/ && $3 !~ /^\$/ { print $3 }' | sort -u >"$3"
}

# whose_races VARIANT: RACES has boot.py's arguments by which data races count: those of
# the IOMMU subsystem do
whose_races() {
	functions "$1" drivers/iommu "$BUILD/own-functions"
	functions "$1" lib "$BUILD/library-functions"
	RACES=(--own "$BUILD/own-functions" --library "$BUILD/library-functions")
}

# guest_headers: the tree's user API, for programs of the guest
guest_headers() { make -C "$SRC" -j"$JOBS" O="$BUILD/guest/headers" ARCH=arm64 headers; }

# guest_program NAME SOURCE...: a static program, in the guest's root folder
guest_program() {
	local out=$BUILD/guest/root/$1
	shift
	mkdir -p "${out%/*}"
	guest_headers &&
	aarch64-linux-gnu-gcc -O2 -static -Wall -Wextra -Werror -D_GNU_SOURCE \
		-isystem "$BUILD/guest/headers/usr/include" -o "$out.new" "$@" &&
	mv "$out.new" "$out"
}

# guest_steps PROGRAM LOG NAME: record each step that a program of the guest says it has
# passed or failed, and that it came to its end with a status that fits; fails if one
# does not hold.
guest_steps() {
	local how step rc=0
	while read -r how step; do
		result "$phase" "$how" "$3: $step"
		[ "$how" = pass ] || rc=1
	done < <(sed -nE "s/.*$1: ((pass|fail) .*)/\1/p" "$2")
	if [ "$(grep -c "$1: complete" "$2")" = 1 ] && [ "$(sed -n "s/.*$1: exit //p" "$2")" = $rc ]; then
		result "$phase" pass "$3: all steps were run"
	else
		result "$phase" fail "$3: all steps were run"
		rc=1
	fi
	return $rc
}

# What nested translation needs: the SMMUv3 driver offers it where firmware says that the
# root complex is always coherent (CANWBS), which QEMU's does not.  So the machine boots
# by UEFI with ACPI, and the kernel takes an IORT that is QEMU's own but for this flag.
UEFI=/usr/share/qemu-efi-aarch64/QEMU_EFI.fd

# nest_image: the guest's image, with the program
nest_image() {
	[ -f "$UEFI" ] || die "no UEFI for arm64 in $UEFI: run 'make setup'"
	step nest-program "building the nesting test for the guest" \
		guest_program iopt-nest "$TESTING/vfio/iopt-nest.c" -pthread || return
	"$TOP/scripts/initramfs.sh"
	rm "$BUILD/guest/root/iopt-nest"
}

# nest_boot KERNEL INITRD LOG TEST [APPEND...]
nest_boot() {
	local image=$1 initrd=$2 log=$3 test=$4 a append=()
	shift 4
	for a; do append+=(--append "$a"); done
	"$TOP/scripts/boot.py" --kernel "$image" --initrd "$initrd" --mem 1G --smp 4 --log "$log" --end \
		--timeout 300 --qemu=-bios --qemu="$UEFI" "${EDU[@]}" --append acpi=force \
		--append "ioptes.test=$test" --append kunit.enable=0 "${append[@]}"
}

# nest_iort LOG IMAGE: the table that LOG has (see test-iort), with the flag, in front of
# the guest's image: IMAGE
nest_iort() {
	local dir=$BUILD/nest
	mkdir -p "$dir"
	"$TOP/scripts/iort-canwbs.py" "$1" "$dir/iort.aml" || return
	printf '%s\n' "dir /kernel 755 0 0" "dir /kernel/firmware 755 0 0" \
		"dir /kernel/firmware/acpi 755 0 0" \
		"file /kernel/firmware/acpi/iort.aml $dir/iort.aml 644 0 0" >"$dir/list"
	"$BUILD/guest/gen_init_cpio" "$dir/list" >"$dir/iort.cpio" &&
	cat "$dir/iort.cpio" "$BUILD/guest/initramfs.cpio" >"$2"
}
