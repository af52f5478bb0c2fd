#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-bisect.sh: every patch in turn builds and passes, so that a bisection of
# the series never ends in a broken commit.
#
# For each patch: the arm64 objects of the folders that it touches, and the UML
# kernel with the KUnit suites that exist by then, run.  A tree that has passed is
# not tested again: its hash is kept in build/bisect/passed, together with the
# configurations that it was tested with.
#
# The patches are checked out in a worktree of their own, build/bisect/linux-6.12,
# with O= folders and results of their own; the tree is not touched.

. "$(dirname "$0")/series.sh"

[ -d "$SRC/.git" ] || die "there is no ${SRC#"$TOP/"}: run 'make tree' first"
alone check-bisect
rm -f "$RESULTS/bisect"
if [ "$(tree rev-parse HEAD)" = "$(tree rev-parse 'base^{commit}')" ]; then
	result bisect skip "the series is empty"
	say "the series is empty: nothing was tested"
	exit 0
fi
need_space 6000 "the kernels of check-bisect"

work=$BUILD/bisect
wt=$work/linux-6.12
mkdir -p "$work/passed"
worktree() {
	tree worktree prune
	if ! git -C "$wt" rev-parse -q --verify HEAD; then
		rm -rf "$wt"
		tree worktree prune
		tool -C "$SRC" worktree add --force --detach "$wt" base
	fi
}
checkout() {
	tool -C "$wt" reset -q --hard
	tool -C "$wt" clean -q -fdx
	tool -C "$wt" checkout -q --detach "$1"
}
STEP_QUIET=1 step bisect "the worktree" worktree

# tested COMMIT: in one hash the configurations of UML and of arm64-users, and what
# UML's list of suites demands of this tree
tested() {
	{
		cd "$TOP/tools/testing" &&
		cat kconfig/{uml,arm64-users,common,kunit,small}.config &&
		while read -r name file; do
			case $name in '' | '#') continue ;; esac
			[ -z "$file" ] || tree cat-file -e "$1:$file" 2>/dev/null || continue
			echo "$name"
		done <suites/uml
	} | sha256sum | cut -c1-12
}

# folders COMMIT: where it changes what is compiled for arm64, as make targets
folders() {
	tree diff --name-only --no-renames "$1^" "$1" -- | while read -r f; do
		case $f in
		drivers/gpu/drm/*) cut -d/ -f1-4 <<<"$f" ;;
		drivers/* | include/* | mm/* | lib/* | arch/arm64/* | kernel/*) cut -d/ -f1-2 <<<"$f" ;;
		esac
	done | sed 's,^include/.*,drivers/iommu,' | sort -u | while read -r d; do
		[ ! -d "$wt/$d" ] || echo "$d/"
	done
}
# suites: the worktree has KUnit suites that UML can run, of ours
suites() { [ -f "$wt/drivers/iommu/.kunitconfig" ]; }

n=0 total=$(tree rev-list --count base..HEAD) failed=0 skipped=0
for c in $(tree rev-list --reverse base..HEAD); do
	n=$((n + 1))
	name="$(tree log -1 --format=%s "$c")"
	stamp=$work/passed/$(tree rev-parse "$c^{tree}")-$(tested "$c")
	if [ -e "$stamp" ]; then
		skipped=$((skipped + 1))
		result bisect pass "$name (passed before)"
		continue
	fi
	say "--- $n of $total: $name"
	checkout "$c"
	mapfile -t dirs < <(folders "$c")
	ok=pass
	if [ ${#dirs[@]} -gt 0 ]; then
		BUILD_DIR=$work "$TOP/scripts/kernel.sh" arm64-users "${dirs[@]}" || ok=fail
	fi
	if suites; then
		BUILD_DIR=$work "$TOP/scripts/kunit.sh" uml || ok=fail
	else
		BUILD_DIR=$work "$TOP/scripts/kernel.sh" uml || ok=fail
	fi
	result bisect $ok "$name"
	if [ $ok = pass ]; then : >"$stamp"; else failed=1; say "FAILED: $name"; fi
done
say "bisect: $total patches, $skipped of them passed before"
exit $failed
