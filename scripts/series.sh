# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2119,SC2120
#
# How the series is stored, for the scripts that read or write it.
#
#   build/linux-6.12	a git repository: the tag `base` is the pristine source,
#			then one commit per patch on the branch `series`
#   refs/exported	its HEAD when patches/ was last equal to it
#   refs/saved/*	heads that `make tree` has replaced
#   patches/6.12/	*.patch, cover-letter.txt (by hand) and added-files.txt,
#			the files that the series adds and the repository holds
#			copies of, at their paths in the kernel tree

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PACKAGE=linux-source-6.12
WANTED=$(cat "$TOP/tools/base-version")
IDENT=(env GIT_AUTHOR_NAME=base GIT_AUTHOR_EMAIL=base@localhost
       GIT_COMMITTER_NAME=base GIT_COMMITTER_EMAIL=base@localhost)
DATE=2024-11-17T22:15:08Z

# tree CMD...: git in the kernel tree, tool CMD...: git with nothing signed,
# shown in colour, run in the background or flushed to disk at every step
tree() { git -C "$SRC" "$@"; }
tool() {
	git -c gc.auto=0 -c maintenance.auto=false -c core.fsync=none -c core.hooksPath=/dev/null \
		-c commit.gpgSign=false -c core.autocrlf=false -c core.commentChar='#' "$@"
}

# patch_list [DIR]: the series' patches in order, one a line; nothing if empty
patch_list() { find "${1:-$PATCHES}" -maxdepth 1 -name '*.patch' 2>/dev/null | sort; }
series_empty() { [ -z "$(patch_list)" ]; }

# patches_id: one hash for all that the patches say
patches_id() { patch_list | while read -r f; do basename "$f"; cat "$f"; done | sha256sum | cut -d' ' -f1; }

# base_version: which packaged source the tree stands on; empty for a user's own
base_version() { tree log -1 --format=%s base -- 2>/dev/null | sed -n "s/^$PACKAGE //p"; }

# pinned_base: the tree stands on the very source that the series was made for
pinned_base() { [ "$(tree rev-parse -q --verify 'base^{commit}')" = "$(cat "$TOP/tools/base-commit")" ]; }

# exported: the commit that patches/ describes
exported() { tree rev-parse -q --verify refs/exported || tree rev-parse -q --verify 'base^{commit}'; }

# busy: a rebase or an am is going on in the tree
busy() {
	local d
	for d in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD; do
		if [ -e "$(tree rev-parse --absolute-git-dir)/$d" ]; then return 0; fi
	done
	return 1
}

# added_files REPO BASE HEAD
added_files() { git -C "$1" diff --no-renames --name-only --diff-filter=A "$2" "$3" --; }

# touched_files [PATTERN...]: what the series adds or changes, as HEAD has it
touched_files() { tree diff --no-renames --name-only --diff-filter=AM base HEAD -- "$@"; }

# am DIR OPTION...: the whole series onto DIR's HEAD.  The committer is fixed, so
# the same patches give the same commits everywhere.  On failure FAILED is the
# patch that did not apply, and the log is in $LOGS/am.log.
am() {
	local dir=$1 list
	shift
	mapfile -t list < <(patch_list)
	FAILED=
	[ ${#list[@]} -gt 0 ] || return 0
	if ! "${IDENT[@]}" git -c gc.auto=0 -c core.fsync=none -c core.hooksPath=/dev/null -C "$dir" \
		am -q --committer-date-is-author-date "$@" "${list[@]}" >"$LOGS/am.log" 2>&1 </dev/null; then
		FAILED=$(sed -n 's/^Patch failed at //p' "$LOGS/am.log" | head -n 1)
		FAILED=${FAILED:-$(tail -n 1 "$LOGS/am.log")}
		return 1
	fi
}

# repository DIR MESSAGE: a git repository over the files of DIR, all of them, whatever a
# .gitignore says.  Debian's ends by ignoring every path, which would make new
# files miss their patch: those lines go.
repository() (
	cd "$1" || exit
	sed -i '\,^/rust-project.json$,q' .gitignore
	tool init -q --template= -b series .
	git config gc.auto 0
	tool add -f -A
	"${IDENT[@]}" GIT_AUTHOR_DATE="$DATE" GIT_COMMITTER_DATE="$DATE" \
		git -c core.fsync=none -c gc.auto=0 commit -q --no-verify -m "$2"
	git tag base
)

# base_worktree: the tag `base`, checked out beside the tree in $BASE_SRC; the same
# for every script that compares with the base
BASE_SRC=$BUILD/base/linux-6.12
base_worktree() {
	tree worktree prune
	if [ "$(git -C "$BASE_SRC" rev-parse HEAD 2>/dev/null)" != "$(tree rev-parse 'base^{commit}')" ]; then
		rm -rf "$BASE_SRC"
		tree worktree prune
		tool -C "$SRC" worktree add --force --detach "$BASE_SRC" base
	fi
	git -C "$BASE_SRC" diff --quiet HEAD
}

# format_series REPO BASE HEAD DIR: the patches of BASE..HEAD, the same bytes on
# every machine: git runs in an empty repository that borrows REPO's objects, so
# that no configuration of REPO counts; of its attributes, only BASE's.
format_series() {
	local bare=$BUILD/tmp/format.$$.git objects
	objects=$(git -C "$1" rev-parse --git-path objects)
	case $objects in /*) ;; *) objects=$1/$objects ;; esac
	rm -rf "$bare"
	mkdir -p "$BUILD/tmp" "$4"
	git init -q --bare --template= "$bare"
	mkdir -p "$bare/objects/info" "$bare/info"
	echo "$objects" >"$bare/objects/info/alternates"
	git -C "$bare" show "$2:.gitattributes" >"$bare/info/attributes" 2>/dev/null || true
	git -C "$bare" -c core.abbrev=12 -c core.quotePath=true -c diff.algorithm=histogram \
		-c diff.indentHeuristic=true -c i18n.logOutputEncoding=UTF-8 \
		format-patch -q --zero-commit --no-signature -N --full-index --no-color \
		--diff-algorithm=histogram --no-renames --unified=3 --inter-hunk-context=0 \
		--src-prefix=a/ --dst-prefix=b/ --stat=72 --summary --no-base --no-thread \
		--no-cover-letter --subject-prefix=PATCH --filename-max-length=64 \
		-o "$4" "$2..$3"
	rm -rf "$bare"
}

# write_kconfig DIR FILE: source every option file that the series adds
write_kconfig() {
	{
		echo '# SPDX-License-Identifier: GPL-2.0'
		echo "# Written by 'make export': the option files that the series adds."
		grep -E '(^|/)Kconfig[^/]*$' "$1/added-files.txt" | sed 's/.*/source "&"/' || true
	} >"$2"
}

# pristine DIR COMMIT: a throw-away clone at COMMIT that shares the tree's objects,
# with only the folders checked out that the series touches (all 85,000 files
# would take a minute on a busy disk)
pristine() {
	tool clone -q --shared --no-checkout "$SRC" "$1"
	{
		printf '/*\n!/*/\n'
		patch_list | xargs -r grep -hE '^(---|\+\+\+) [ab]/' |
			sed -E 's,^[-+]{3} [ab]/,/,; s,[^/]*$,*,' | sort -u
	} | tool -C "$1" sparse-checkout set --no-cone --stdin
	tool -C "$1" checkout -q --detach "$2"
}

# replay DIR BASE: the series applied to BASE, a commit of the tree, in a clone
replay() {
	pristine "$1" "$2"
	am "$1" -3
}
