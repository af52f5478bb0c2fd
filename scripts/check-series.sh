#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-series.sh: patches, tree and copies say the same.
#
#   apply	`git am patches/6.12/*.patch`, typed as a user types it, works on
#		the pristine source and gives the exported tree
#   patches	exporting that result again gives the same bytes, and so does
#		exporting the tree
#   copies	the files that the series adds are in this repository, equal, and
#		no copy is left of a file that it no longer adds
#   clean	nothing in the tree waits to be committed or exported
#
# On a base other than the pinned one (a newer package, KERNEL_SRC) line numbers
# and blob names differ, so there "patches" compares what is added and removed.

. "$(dirname "$0")/series.sh"

[ -d "$SRC/.git" ] || die "there is no ${SRC#"$TOP/"}: run 'make tree' first"
alone check-series
rm -f "$RESULTS/series"
failed=0
pass() { result series pass "$1"; }
fail() { result series fail "$1"; failed=1; say "FAILED $1: $2"; }

head=$(exported)
if [ "$(tree rev-parse HEAD)" != "$head" ]; then
	fail clean "the tree has commits that were not exported: make export"
elif [ -n "$(tree status --porcelain | head -n 1)" ]; then
	fail clean "the tree has changes that are not committed (git -C ${SRC#"$TOP/"} status)"
elif ! series_empty; then
	pass clean
fi

temp_dir series
export KERNEL_TREE=$TEMP/linux
pristine "$KERNEL_TREE" base

if series_empty; then
	# An empty series is a state, not a success: it must not count as one.
	if [ "$(tree rev-parse "$head^{tree}")" != "$(tree rev-parse 'base^{tree}')" ]; then
		fail apply "patches/ is empty and the exported tree is not the base: make export"
	elif [ -s "$PATCHES/added-files.txt" ]; then
		fail copies "patches/ is empty and added-files.txt is not: make export"
	else
		result series skip "the series is empty"
		say "the series is empty: nothing was tested"
	fi
	exit $failed
fi

if ! "${IDENT[@]}" sh -c 'cd "$KERNEL_TREE" && git am '"'$PATCHES'"'/*.patch' >"$LOGS/series-am.log" 2>&1 </dev/null; then
	fail apply "git am stops at $(sed -n 's/^Patch failed at //p' "$LOGS/series-am.log" | head -n 1), log: $LOGS/series-am.log"
	exit 1
fi
if [ "$(git -C "$KERNEL_TREE" rev-parse 'HEAD^{tree}')" = "$(tree rev-parse "$head^{tree}")" ]; then
	pass apply
else
	fail apply "git am gives another tree than the exported one: make export, or take main's patches and make tree"
fi

mkdir "$TEMP/again" "$TEMP/want" "$TEMP/tree"
format_series "$SRC" "$(tree rev-parse 'base^{commit}')" "$head" "$TEMP/tree"
format_series "$KERNEL_TREE" "$(git -C "$KERNEL_TREE" rev-parse base)" \
	"$(git -C "$KERNEL_TREE" rev-parse HEAD)" "$TEMP/again"
patch_list | xargs -d '\n' cp -t "$TEMP/want"
if ! pinned_base; then
	sed -i -E -e '/^index [0-9a-f]+\.\.[0-9a-f]+/d' -e '/^[-+]/!{/^ /d}' -e 's/^@@ .*/@@/' \
		"$TEMP/again"/*.patch "$TEMP/want"/*.patch "$TEMP/tree"/*.patch
fi
if diff -r "$TEMP/want" "$TEMP/again" >"$LOGS/series-patches.log" &&
   diff -r "$TEMP/want" "$TEMP/tree" >"$LOGS/series-patches.log"; then
	pass patches
else
	fail patches "patches/6.12 is not what export writes: make export (differences: $LOGS/series-patches.log)"
fi

added_files "$KERNEL_TREE" base HEAD >"$TEMP/added-files.txt"
bad=$(cmp -s "$TEMP/added-files.txt" "$PATCHES/added-files.txt" || echo patches/6.12/added-files.txt)
while read -r f; do
	cmp -s "$KERNEL_TREE/$f" "$TOP/$f" || bad+=" $f"
done <"$TEMP/added-files.txt"
write_kconfig "$TEMP" "$TEMP/Kconfig"
cmp -s "$TEMP/Kconfig" "$TOP/Kconfig" || bad+=" Kconfig"
# copies of files that are no longer added lie in folders only the kernel has
while read -r f; do
	case $f in
	*/*) top=${f%%/*} ;;
	*) continue ;;
	esac
	case $top in scripts | tools | patches | build | .ci | .git) continue ;; esac
	grep -qxF "$f" "$TEMP/added-files.txt" || bad+=" $f(stale)"
done < <(git -C "$TOP" ls-files -co --exclude-standard)
if [ -z "$bad" ]; then
	pass copies
else
	fail copies "not as the series has them:$(echo "$bad" | cut -c1-300): make export"
fi
exit $failed
