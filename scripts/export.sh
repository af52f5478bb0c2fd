#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# export.sh: write the tree's commits to patches/6.12, and the files that the
# series adds to their places in this repository; then the tree is "exported".
#
# The result depends on nothing but the commits (see format_series).  Files of
# ours are never overwritten: added-files.txt says which ones are copies.

. "$(dirname "$0")/series.sh"

[ -d "$SRC/.git" ] || die "there is no ${SRC#"$TOP/"} to export: run 'make tree' first"
[ -z "${KERNEL_SRC:-}" ] || die "the series is not exported from a user's tree: leave KERNEL_SRC out"
alone tree
if busy; then
	die "a rebase or am is under way in ${SRC#"$TOP/"}: finish it there (git status), then export"
fi
head=$(tree rev-parse HEAD)
base=$(tree rev-parse 'base^{commit}')
pinned_base || [ -n "${REBASE:-}" ] ||
	die "the tree stands on $(base_version), the series on $WANTED: 'make rebase-base' adopts the new base and exports"
tree merge-base --is-ancestor "$base" "$head" || die "the tree's HEAD does not descend from the tag 'base'"
[ -z "$(tree rev-list --merges "$base..$head")" ] || die "the series has a merge commit: rebase it into a line"
fix=$(tree log --format='%h %s' "$base..$head" | grep -E '^[0-9a-f]+ (fixup|squash|amend)! ' | head -n 1 || true)
[ -z "$fix" ] || die "the series still has '$fix': git rebase -i --autosquash base"
[ -z "$(tree status --porcelain | head -n 1)" ] ||
	say "note: changes in ${SRC#"$TOP/"} that are not committed are not exported"

temp_dir export
new=$TEMP
format_series "$SRC" "$base" "$head" "$new"
added_files "$SRC" "$base" "$head" >"$new/added-files.txt"
old=$PATCHES/added-files.txt
[ -f "$old" ] || old=/dev/null

while read -r f; do
	if [ -e "$TOP/$f" ] && ! grep -qxF "$f" "$old"; then
		git -C "$TOP" ls-files --error-unmatch -- "$f" >/dev/null 2>&1 &&
			die "the series adds $f, but that is a file of this repository: rename one of them"
	fi
done <"$new/added-files.txt"

# the copies, then those that are no longer added
if [ -s "$new/added-files.txt" ]; then
	xargs -d '\n' git -C "$SRC" -c tar.umask=0022 archive --format=tar "$head" -- \
		<"$new/added-files.txt" | tar -x -m --no-same-owner -C "$TOP"
fi
grep -vxF -f "$new/added-files.txt" "$old" | while read -r f; do
	rm -f "$TOP/$f"
	rmdir -p --ignore-fail-on-non-empty "$(dirname "$TOP/$f")" 2>/dev/null || true
done || true
write_kconfig "$new" "$new/Kconfig"
cmp -s "$new/Kconfig" "$TOP/Kconfig" || cp "$new/Kconfig" "$TOP/Kconfig"

mkdir -p "$PATCHES"
patch_list | while read -r f; do
	[ -e "$new/${f##*/}" ] || rm -f "$f"
done
for f in "$new"/*.patch "$new/added-files.txt"; do
	[ -e "$f" ] || continue
	cmp -s "$f" "$PATCHES/${f##*/}" || cp "$f" "$PATCHES/"
done
tree update-ref refs/exported "$head"
patches_id >"$(tree rev-parse --absolute-git-dir)/exported-patches"
say "exported $(patch_list | wc -l) patches and $(wc -l <"$new/added-files.txt") added files from ${head:0:12}"
