#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# clean.sh: remove everything in build/ that can be made again.  Kernel trees
# stay when they hold commits that were not exported, or changes.

. "$(dirname "$0")/series.sh"

# worktrees: those of the tree in $SRC, itself and ours excepted, also those that
# are not there at the moment
worktrees() {
	tree worktree list --porcelain | sed -n 's/^worktree //p' |
		grep -vxF -e "$SRC" -e "${SRC%/*}/base/linux-6.12" -e "${SRC%/*}/bisect/linux-6.12"
}

# keep TREE: it holds work of the user's
keep() {
	SRC=$1
	[ -e "$SRC/.git" ] || return 1
	[ -d "$SRC/.git" ] || return 0
	if busy || [ "$(tree rev-parse HEAD)" != "$(exported)" ] || [ -n "$(tree status --porcelain | head -n 1)" ] ||
	   [ -n "$(worktrees)" ] || [ -n "$(tree for-each-ref refs/saved refs/stash)" ]; then
		return 0
	fi
	# other branches may hold work too
	[ -n "$(tree for-each-ref --format='%(objectname)' refs/heads --no-merged refs/exported)" ]
}

cd "$SHARED" || exit
kept=()
for d in linux-6.12 src-*/linux-6.12; do
	[ -e "$d" ] || continue
	if keep "$SHARED/$d"; then
		say "kept: build/$d has work of yours (or old heads in refs/saved)"
		mapfile -t more < <([ ! -d "$d/.git" ] || worktrees)
		kept+=("$SHARED/$d" ${more[@]+"${more[@]}"})
	fi
done

# remove FOLDER: all in it, but what is kept
remove() {
	local d k
	for d in "$1"/* "$1"/.[!.]*; do
		[ -e "$d" ] || continue
		for k in ${kept[@]+"${kept[@]}"} "$SHARED/setup-installed"; do	# (`make unsetup` reports that)
			case $k in
			"$d")	continue 2 ;;
			"$d"/*)	remove "$d"; continue 2 ;;
			esac
		done
		rm -rf "$d"
	done
}
remove "$SHARED"
