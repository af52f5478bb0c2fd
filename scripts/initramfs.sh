#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# initramfs.sh: pack the guest image, build/guest/initramfs.cpio: a static arm64
# busybox, tools/testing/guest/* in the root folder, and whatever the other
# scripts have put in build/guest/root (test programs).
#
# gen_init_cpio, from the kernel's sources, makes device nodes without root.

. "$(dirname "$0")/boot-lib.sh"

guest=$BUILD/guest
mkdir -p "$guest/root"
[ -x "$BUSYBOX" ] || [ -f "$BUSYBOX" ] || die "no arm64 busybox in $BUSYBOX: run 'make setup'"
if [ ! -x "$guest/gen_init_cpio" ] || [ "$SRC/usr/gen_init_cpio.c" -nt "$guest/gen_init_cpio" ]; then
	gcc -O2 -o "$guest/gen_init_cpio.new" "$SRC/usr/gen_init_cpio.c"
	mv "$guest/gen_init_cpio.new" "$guest/gen_init_cpio"
fi

{
	echo "dir /bin 755 0 0"
	echo "dir /dev 755 0 0"
	echo "nod /dev/console 600 0 0 c 5 1"
	echo "nod /dev/kmsg 600 0 0 c 1 11"
	echo "file /bin/busybox $BUSYBOX 755 0 0"
	echo "slink /bin/sh busybox 777 0 0"
	for f in "$TESTING"/guest/* "$guest"/root/*; do
		[ -f "$f" ] && echo "file /$(basename "$f") $f 755 0 0"
	done
	true
} >"$guest/list"
"$guest/gen_init_cpio" "$guest/list" >"$guest/initramfs.cpio.new" ||
	die "cannot pack the guest image from $guest/list"
mv "$guest/initramfs.cpio.new" "$guest/initramfs.cpio"
