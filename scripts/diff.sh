#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# diff.sh: what the tree changes in the series, patch by patch: git range-diff of
# the series that this repository has at REF (default HEAD) against the tree.

. "$(dirname "$0")/series.sh"

[ -d "$SRC/.git" ] || die "there is no ${SRC#"$TOP/"}: run 'make tree' first"
ref=${REF:-HEAD}
git -C "$TOP" rev-parse -q --verify "$ref^{commit}" >/dev/null || die "REF=$ref is no commit of this repository"
temp_dir diff
if git -C "$TOP" rev-parse -q --verify "$ref:patches/6.12" >/dev/null; then
	git -C "$TOP" archive "$ref" -- patches/6.12 | tar -x -C "$TEMP"
fi
mkdir -p "$TEMP/patches/6.12"
PATCHES=$TEMP/patches/6.12
replay "$TEMP/linux" "$(tree rev-parse 'base^{commit}')" ||
	die "the series of $ref does not apply to $(tree log -1 --format=%s base): patch $FAILED"
tool -C "$TEMP/linux" fetch -q "$SRC" HEAD
color=never
if [ -t 1 ]; then color=always; fi
git -C "$TEMP/linux" range-diff --color=$color base HEAD FETCH_HEAD
