#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh: remove everything in build/ that can be made again.  Kernel trees
# stay when they hold commits that were not exported, or changes.

. "$(dirname "$0")/series.sh"

keep() {
	SRC=$1
	[ -d "$SRC/.git" ] || return 1
	tree worktree prune	# those of ours went before
	if busy || [ "$(tree rev-parse HEAD)" != "$(exported)" ] || [ -n "$(tree status --porcelain | head -n 1)" ] ||
	   [ "$(tree worktree list | wc -l)" -gt 1 ] || [ -n "$(tree for-each-ref refs/saved refs/stash)" ]; then
		return 0
	fi
	# other branches may hold work too
	[ -n "$(tree for-each-ref --format='%(objectname)' refs/heads --no-merged refs/exported)" ]
}

cd "$SHARED" || exit
for d in * .[!.]*; do
	[ -e "$d" ] || continue
	case $d in
	linux-6.12) ;;
	src-*)	find "$d" -mindepth 1 -maxdepth 1 ! -name linux-6.12 -exec rm -rf {} + ;;
	setup-installed) ;;	# what `make unsetup` reports
	*)	rm -rf "$d" ;;
	esac
done
for d in linux-6.12 src-*/linux-6.12; do
	[ -e "$d" ] || continue
	if keep "$SHARED/$d"; then
		say "kept: build/$d has work of yours (or old heads in refs/saved)"
	else
		rm -rf "$d"
	fi
done
for d in src-*; do
	[ -e "$d/linux-6.12" ] || rm -rf "$d"
done
