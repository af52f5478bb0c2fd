#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# rebase-base.sh: adopt another packaged kernel source as the base of the series.
#
# VERSION= names it, by default the newest 6.12 that the mirror has.  The new
# source becomes refs/bases/VERSION in the tree and the series is tried on it:
#
#   - it applies: the tag `base`, the branch, tools/base-* and patches/ move over,
#     and the counts of the kernel's own tests are recorded anew on the new base;
#   - it does not: nothing has moved, and the message says how to rebase by hand;
#     then run this again, and it takes the rebased branch.
#
# Commit the outcome by itself.

. "$(dirname "$0")/series.sh"

[ -z "${KERNEL_SRC:-}" ] || die "the base is a package: leave KERNEL_SRC out"
[ -d "$SRC/.git" ] || die "there is no ${SRC#"$TOP/"}: run 'make tree' first"
if busy; then die "a rebase or am is under way in ${SRC#"$TOP/"}: finish it first (git status)"; fi
[ -z "$(tree status --porcelain | head -n 1)" ] ||
	die "${SRC#"$TOP/"} has changes that are not committed: commit or stash them first"

# ---- which version, and its source

fresh_lists() {
	rm -rf "$SHARED/apt"
	LISTS_ONLY=1 bash "$TOP/scripts/setup.sh"
}
STEP_QUIET=1 step rebase-lists "asking the mirror what it has" fresh_lists
version=${VERSION:-$(APT_CONFIG=$SHARED/apt/apt.conf apt-cache madison "$PACKAGE" |
	awk '$5 !~ /-backports\// { print $3; exit }')}
[ -n "$version" ] || die "the mirror offers no $PACKAGE: see $LOGS/setup-lists.log"
ref=refs/bases/$(sed 's/[^A-Za-z0-9.+-]/-/g' <<<"$version")
if [ "$version" = "$(base_version)" ] && [ "$version" = "$WANTED" ]; then
	say "the series stands on $PACKAGE $version already, the newest there is"
	exit 0
fi

import() {
	mkdir -p "$TEMP/deb" "$TEMP/linux"
	cd "$TEMP/deb" || return
	APT_CONFIG=$SHARED/apt/apt.conf apt-get -q download "$PACKAGE=$version"
	dpkg-deb --fsys-tarfile ./*.deb | tar -xO "./usr/src/$PACKAGE.tar.xz" |
		tar -xJ --no-same-owner --strip-components=1 -C "$TEMP/linux"
	repository "$TEMP/linux" "$PACKAGE $version"
	tool -C "$SRC" fetch -q "$TEMP/linux" "base:$ref"
	mkdir -p "$SHARED/packages"
	mv ./*.deb "$SHARED/packages/${PACKAGE}_${version}_all.deb"
}
if ! tree rev-parse -q --verify "$ref" >/dev/null; then
	need_space 5000 "a second kernel source"
	temp_dir import
	step import "importing $PACKAGE $version" import
fi
newbase=$(tree rev-parse "$ref")

# ---- the series on it

old=$(tree rev-parse HEAD)
if tree merge-base --is-ancestor "$newbase" HEAD; then
	new=$old
else
	[ "$old" = "$(exported)" ] ||
		die "${SRC#"$TOP/"} has commits that were not exported: 'make export' first"
	temp_dir replay
	replay "$TEMP/linux" "$newbase" ||
		die "the series does not apply to $version: patch $FAILED; rebase by hand with" \
			"'git -C ${SRC#"$TOP/"} rebase --onto $ref base', then run 'make rebase-base VERSION=$version' again"
	tool -C "$SRC" fetch -q "$TEMP/linux" HEAD
	new=$(tree rev-parse FETCH_HEAD)
fi
tree update-ref "refs/saved/$(date -u +%Y%m%dT%H%M%SZ)-${old:0:12}" "$old"
tree update-ref "refs/saved/base-$(tree rev-parse --short=12 'base^{commit}')" "$(tree rev-parse 'base^{commit}')"
tool -C "$SRC" reset -q --hard "$new"
tree tag -f base "$newbase" >/dev/null
echo "$version" >"$TOP/tools/base-version"
tree rev-parse "$newbase" >"$TOP/tools/base-commit"
tree rev-parse "$newbase^{tree}" >"$TOP/tools/base-tree"
REBASE=1 "$TOP/scripts/export.sh"

# ---- what the kernel's own tests give on it, without the series

record_counts() {
	local v
	base_worktree
	export KSRC=$BASE_SRC KOUT=$BUILD/base/out RECORD=1
	for v in uml arm64 arm64-debug arm64-kcsan arm64-64k arm64-16k; do
		"$TOP/scripts/kunit.sh" $v
	done
	"$TOP/scripts/check-selftests.sh"
}
step base-counts "recording the new base's test counts (six kernels: half an hour)" record_counts ||
	die "the new base's own tests fail: see $LOGS/base-counts.log; the series is rebased, tools/testing/base-counts is not whole"
say "the series stands on $PACKAGE $version: run 'make check-full', then commit tools/, patches/ and the added files"
