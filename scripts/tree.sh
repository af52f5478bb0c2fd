#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# tree.sh: build/linux-6.12 from the packaged source and patches/6.12.
#
# It never discards work: it acts only where the tree's HEAD is the base or what
# was exported last, and even then the old head stays under refs/saved/.  The
# new tree is made beside the old one and takes its place at the end, so that an
# interrupted run leaves nothing that the next one trips over.
#
# --use, for whoever only wants a tree to work on: a tree with work in it that was
# not exported is used as it is, and a note says so.
#
# KERNEL_SRC=DIR takes the user's own 6.12 tree instead of the package; that tree
# is only read.

. "$(dirname "$0")/series.sh"

need git tar xz
rel=${SRC#"$TOP/"}
use=${1:-}

# package VERSION: print the packaged tarball of that version
package_is_here() {
	[ ! -r "$SHARED/packages/${PACKAGE}_${1}_all.deb" ] || return 0
	[ "$(dpkg-query -W -f='${Version}' "$PACKAGE" 2>/dev/null)" = "$1" ] && [ -r "/usr/src/$PACKAGE.tar.xz" ]
}
package() {
	if [ -r "$SHARED/packages/${PACKAGE}_${1}_all.deb" ]; then
		dpkg-deb --fsys-tarfile "$SHARED/packages/${PACKAGE}_${1}_all.deb" |
			tar -xO "./usr/src/$PACKAGE.tar.xz"
	else
		cat "/usr/src/$PACKAGE.tar.xz"
	fi
}

# unpack VERSION DIR
unpack() {
	mkdir -p "$2"
	package "$1" | tar -xJ --no-same-owner --strip-components=1 -C "$2"
	repository "$2" "$PACKAGE $1"
}

# which_version: the packaged source to use.  The pinned one, while it can be
# had; where the mirror has dropped it, setup has fetched another and the series
# must apply to that.
which_version() {
	local v f
	if package_is_here "$WANTED"; then echo "$WANTED"; return; fi
	for f in "$SHARED"/packages/"$PACKAGE"_*_all.deb; do
		[ -e "$f" ] || continue
		v=${f##*/"$PACKAGE"_}
		echo "${v%_all.deb}"
		return
	done
	die "the kernel source $PACKAGE $WANTED is not here: run 'make setup'"
}

# use_identity DIR: commits in the tree are made by whom this repository says
use_identity() {
	local k v
	for k in user.name user.email; do
		v=$(git -C "$TOP" config --local $k || true)
		[ -z "$v" ] || git -C "$1" config --local $k "$v"
	done
}

# finish DIR: record that DIR's HEAD is what patches/ says
finish() {
	git -C "$1" update-ref refs/exported HEAD
	patches_id >"$1/.git/exported-patches"
}

cannot_apply() {
	die "the series does not apply to $1: patch $FAILED; ${2:-see $LOGS/am.log}"
}

rebase_hint="this is a newer package than $WANTED, which the series was made for: 'make rebase-base' adapts it"

# fresh: no tree yet
fresh() {
	local version
	version=$(which_version)
	need_space 4000 "the kernel source"
	temp_dir tree
	step unpack "unpacking the kernel source $version (about a minute)" unpack "$version" "$TEMP/linux"
	if [ "$version" = "$WANTED" ] &&
	   [ "$(git -C "$TEMP/linux" rev-parse 'base^{tree}')" != "$(cat "$TOP/tools/base-tree")" ]; then
		die "$PACKAGE $version has not the content the series was made for (tools/base-tree): 'apt-get download' it anew"
	fi
	if ! am "$TEMP/linux" -3; then
		[ "$version" = "$WANTED" ] || cannot_apply "$PACKAGE $version" "$rebase_hint"
		cannot_apply "$PACKAGE $version"
	fi
	use_identity "$TEMP/linux"
	finish "$TEMP/linux"
	mv "$TEMP/linux" "$SRC"
	say "$rel: $(patch_list | wc -l) patches on $PACKAGE $version"
}

# user_tree: the same from KERNEL_SRC
user_tree() {
	local src=$KERNEL_SRC v how=-3
	[ -r "$src/Makefile" ] || die "KERNEL_SRC=$src is no kernel tree: it has no Makefile that can be read"
	v=$(sed -n 's/^\(VERSION\|PATCHLEVEL\) = //p' "$src/Makefile" | paste -sd.)
	[ "$v" = 6.12 ] || die "KERNEL_SRC=$src is Linux ${v:-of no known version}: the series needs 6.12"
	src=$(cd "$src" && pwd -P)
	need_space 5000 "a copy of $src"
	temp_dir tree
	if [ "$(git -C "$src" rev-parse --show-toplevel 2>/dev/null)" = "$src" ] &&
	   git -C "$src" rev-parse -q --verify HEAD >/dev/null; then
		[ -z "$(git -C "$src" --no-optional-locks status --porcelain -uno 2>/dev/null | head -n 1)" ] ||
			say "note: changes in $src that are not committed are left out"
		step unpack "cloning $src" tool clone -q --shared --no-tags "$src" "$TEMP/linux"
		tool -C "$TEMP/linux" checkout -q -B series
		git -C "$TEMP/linux" config gc.auto 0
		git -C "$TEMP/linux" tag -f base >/dev/null
	else
		how=
		step unpack "copying $src" copy_plain "$src" "$TEMP/linux"
	fi
	v=$(git -C "$TEMP/linux" rev-parse base)
	am "$TEMP/linux" ${how:+"$how"} ||
		cannot_apply "KERNEL_SRC=$KERNEL_SRC" "take a tree closer to $PACKAGE $WANTED (log: $LOGS/am.log)"
	use_identity "$TEMP/linux"
	finish "$TEMP/linux"
	git -C "$src" rev-parse -q --verify HEAD >"$TEMP/linux/.git/kernel-src" 2>/dev/null || true
	mv "$TEMP/linux" "$SRC"
	say "$rel: $(patch_list | wc -l) patches on $KERNEL_SRC"
}
copy_plain() {
	mkdir -p "$2"
	tar -c -C "$1" --exclude=./.git . | tar -x --no-same-owner -C "$2"
	[ ! -e "$2/.config" ] || make -s -C "$2" mrproper
	repository "$2" "a copy of $1"
}

# replace NEWBASE: put NEWBASE plus patches/ in the tree's place
replace() {
	local old new saved
	old=$(tree rev-parse HEAD)
	temp_dir replay
	replay "$TEMP/linux" "$1" ||
		cannot_apply "$(tree log -1 --format=%s "$1")" "$rel is as it was; on a merge conflict take one side's patches whole (log: $LOGS/am.log)"
	tool -C "$SRC" fetch -q "$TEMP/linux" HEAD
	new=$(tree rev-parse FETCH_HEAD)
	if [ "$new" != "$old" ]; then
		saved=refs/saved/$(date -u +%Y%m%dT%H%M%SZ)-${old:0:12}
		tree update-ref "$saved" "$old"
		tool -C "$SRC" reset -q --hard "$new"
	fi
	tree tag -f base "$1" >/dev/null
	finish "$SRC"
	say "$rel: $(patch_list | wc -l) patches applied${saved:+; the old head is $saved}"
}

# update: there is a tree
update() {
	local head exp newbase
	if [ "$use" = --use ] && { busy || [ "$(tree rev-parse HEAD)" != "$(exported)" ]; }; then
		say "note: $rel is used as it is, with commits that were not exported"
		return 0
	fi
	if busy; then
		die "a rebase or am is under way in $rel: finish or abort it there (git status), then try again"
	fi
	head=$(tree rev-parse HEAD)
	exp=$(exported) || die "$rel has no tag 'base': it was not made by 'make tree'; move it away and try again"
	if [ "$head" != "$exp" ] && { [ "$head" != "$(tree rev-parse 'base^{commit}')" ] || ! series_empty; }; then
		die "$rel is at $(tree log -1 --format='%h (%s)'), which was never exported: 'make export' writes it to patches/," \
			"'git -C $rel reset --hard ${exp:0:12}' drops it; nothing was changed"
	fi

	newbase=$(tree rev-parse 'base^{commit}')
	if [ -z "${KERNEL_SRC:-}" ] && [ "$newbase" != "$(cat "$TOP/tools/base-commit")" ] &&
	   { package_is_here "$WANTED" || tree cat-file -e "$(cat "$TOP/tools/base-commit")^{commit}" 2>/dev/null; }; then
		newbase=$(cat "$TOP/tools/base-commit")
	fi
	if [ "$newbase" = "$(tree rev-parse 'base^{commit}')" ] &&
	   { [ "$(cat "$(tree rev-parse --absolute-git-dir)/exported-patches" 2>/dev/null)" = "$(patches_id)" ] ||
	     { [ "$head" = "$newbase" ] && series_empty; }; }; then
		return 0
	fi
	[ -z "$(tree status --porcelain | head -n 1)" ] ||
		die "patches/ has changed and $rel has changes that are not committed: commit or stash them there (git status), then try again"
	if ! tree cat-file -e "$newbase^{commit}" 2>/dev/null; then
		need_space 4000 "the new kernel source"
		temp_dir tree
		step unpack "unpacking the kernel source $WANTED" unpack "$WANTED" "$TEMP/linux"
		tool -C "$SRC" fetch -q "$TEMP/linux" base
		[ "$(tree rev-parse FETCH_HEAD)" = "$newbase" ] ||
			die "$PACKAGE $WANTED has not the content that tools/base-commit names: 'make clean', then 'make setup'"
	fi
	replace "$newbase"
}

alone tree

if [ -n "${KERNEL_SRC:-}" ] && [ -d "$SRC/.git" ]; then
	# a user's tree that has moved on is taken anew, unless there is work in ours
	now=$(git -C "$KERNEL_SRC" rev-parse -q --verify HEAD 2>/dev/null || true)
	if [ "$now" != "$(cat "$SRC/.git/kernel-src" 2>/dev/null || true)" ] &&
	   [ "$(tree rev-parse HEAD)" = "$(exported)" ] && [ -z "$(tree status --porcelain | head -n 1)" ]; then
		rm -rf "$SRC"
	fi
fi
if [ -d "$SRC/.git" ]; then
	update
elif [ -e "$SRC" ]; then
	die "$rel is no git repository: move it away and try again"
elif [ -n "${KERNEL_SRC:-}" ]; then
	user_tree
else
	fresh
fi
