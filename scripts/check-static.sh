#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-static.sh: the static checks add no finding that the base does not have.
#
#   checkpatch	--strict, on every patch
#   maintainers	every file that the series adds has an entry in MAINTAINERS
#   compile	sparse (C=2) and W=1, on every touched .c file, in the first of
#		the configurations below that builds it; a touched file that none
#		of them builds is a failure, not a pass (the programs among the
#		selftests are not the kernel's: check-selftests.sh builds them)
#   kernel-doc	-Wall, on every touched .c and .h file
#   coccinelle	coccicheck MODE=report on the touched files (FULL=1: on all of
#		drivers/iommu)
#
# Where a tool finds something it is run on the base's version of the same files
# too, and a finding counts if the base's has no equal one.  Findings are equal
# when file and text are, line numbers aside.  Nothing is recorded, so a newer
# base, compiler or checker brings its own findings on both sides.
#
# Each tool must also find what was seeded for it (or, where the kernel's build
# runs it, show that it ran on the file): one that has gone blind fails.

. "$(dirname "$0")/series.sh"

[ -d "$SRC/.git" ] || die "there is no ${SRC#"$TOP/"}: run 'make tree' first"
need perl sparse spatch
alone check-static
rm -f "$RESULTS/static"
failed=0
pass() { result static pass "$1"; }
fail() { result static fail "$1"; failed=1; say "FAILED $1"; }

touched=$(touched_files)
if [ -z "$touched" ]; then
	result static skip "the series is empty"
	say "the series is empty: nothing was tested"
	exit 0
fi
mapfile -t cfiles < <(touched_files '*.c' | grep -v '^tools/testing/selftests/')
mapfile -t docfiles < <(touched_files '*.c' '*.h')
work=$BUILD/static
mkdir -p "$work"
temp_dir static
perl=(perl -w)

# verdict NAME OURS BASE: fail with the lines that OURS has and BASE has not
# (both sorted, equal lines counted)
verdict() {
	local new
	new=$(comm -23 "$2" "$3")
	if [ -z "$new" ]; then
		pass "$1"
	else
		fail "$1"
		head -n 20 <<<"$new" | sed 's/^/    /'
	fi
}

# base_file FILE: print the base's version; nothing if the series adds it
base_file() { tree show "base:$1" 2>/dev/null || true; }

# ---- checkpatch

# It drops a cache file where it runs, so it runs in a folder of its own.
checkpatch() {
	(cd "$TEMP" && "${perl[@]}" "$SRC/scripts/checkpatch.pl" --root="$SRC" --strict --no-summary \
		--show-types --no-color --ignore FILE_PATH_CHANGES "$@" || true)
}
# findings: one line per finding, as TYPE: message | code
findings() {
	awk '
	function out() { if (msg != "") print msg " | " code; msg = code = "" }
	/^(ERROR|WARNING|CHECK):/ { out(); msg = $0; next }
	msg != "" && /^\+/ && code == "" { code = substr($0, 2); gsub(/^[ \t]+|[ \t]+$/, "", code); next }
	/^$/ { out() }
	END { out() }' | sort
}

checkpatch_all() {
	local f p patches log=$LOGS/static-checkpatch.log
	printf '%s\n' 'From 0 Mon Sep 17 00:00:00 2001' 'From: a <a@localhost>' 'Subject: [PATCH] x: seeded' '' \
		'Text.' '' 'Signed-off-by: a <a@localhost>' '---' '--- a/x.c' '+++ b/x.c' '@@ -1 +1,2 @@' ' int a;' \
		'+int  foo( int a ){return (1);} ' >"$TEMP/seeded.patch"
	if ! checkpatch "$TEMP/seeded.patch" | grep -q '^ERROR:'; then
		fail "checkpatch: does not see the seeded error"
		return
	fi
	# one run for all, which says of each patch at least that there is nothing to say
	mapfile -t patches < <(patch_list "$TEMP/patches")
	checkpatch "${patches[@]}" >"$log"
	for p in "${patches[@]}"; do
		awk -v name="$p" '
		/^-+$/ { if (getline title <= 0) exit; mine = title == name; getline; next }
		mine' "$log" >"$TEMP/out"
		p=${p#"$TEMP/patches/"}
		if ! grep -qE 'has no obvious style problems|has style problems' "$TEMP/out"; then
			fail "checkpatch: $p was not looked at"
			continue
		fi
		findings <"$TEMP/out" >"$TEMP/ours.findings"
		: >"$TEMP/base.findings"
		if [ -s "$TEMP/ours.findings" ]; then
			sed -n 's,^+++ b/\(.*\.[ch]\)$,\1,p' "$TEMP/patches/$p" | sort -u | while read -r f; do
				base_file "$f" >"$TEMP/${f##*/}"
				[ ! -s "$TEMP/${f##*/}" ] || checkpatch -f "$TEMP/${f##*/}" | findings
			done | sort >"$TEMP/base.findings"
		fi
		verdict "checkpatch: $p" "$TEMP/ours.findings" "$TEMP/base.findings"
	done
	rm -f "$TEMP"/.checkpatch-camelcase*
}
say "checkpatch --strict ..."
start=$SECONDS
# of the tree's commits, which may be ahead of patches/
format_series "$SRC" "$(tree rev-parse 'base^{commit}')" "$(tree rev-parse HEAD)" "$TEMP/patches"
checkpatch_all
say "checkpatch --strict: $((SECONDS - start)) s"

# ---- MAINTAINERS

for f in $(added_files "$SRC" base HEAD); do
	if (cd "$SRC" && "${perl[@]}" scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats -f "$f" 2>/dev/null) |
	   grep -v 'linux-kernel@' | grep @ >/dev/null; then
		pass "maintainers: $f"
	else
		fail "maintainers: $f has no entry in MAINTAINERS"
	fi
done

# ---- sparse and W=1

# unit FILE: what is compiled for it: itself, or the touched file that includes it
unit() {
	local f dir
	for f in "${cfiles[@]}"; do
		dir=${f%/*}/
		case $1 in
		"$dir"*)
			if grep -qF "#include \"${1#"$dir"}\"" "$SRC/$f"; then
				echo "$f"
				return
			fi ;;
		esac
	done
	echo "$1"
}

# compile TREE NAME FILE...: messages of both, normalised, in $TEMP/NAME.compile; what
# they came up in, in $TEMP/NAME.units; files that were compiled and checked in
# $TEMP/NAME.done.  With NAME ours every file must be; of the base, those that it has.
variants=(arm64-users i386 arm64 arm32)
compile() {
	local src=$1 name=$2 v f o objs log left units
	mapfile -t left < <(for f in "${@:3}"; do unit "$f"; done | sort -u)
	: >"$TEMP/$name.raw"
	: >"$TEMP/$name.said"
	: >"$TEMP/$name.done"
	for v in "${variants[@]}"; do
		[ ${#left[@]} -gt 0 ] || break
		[ -f "$TOP/tools/testing/kconfig/$v.config" ] || continue
		o=$work/$name/$v
		objs=()
		for f in "${left[@]}"; do
			# an object that is up to date would not warn again
			rm -f "$o/${f%.c}.o"
			objs+=("${f%.c}.o")
		done
		log=$LOGS/static-$name-$v.log
		KSRC=$src KOUT=$work/$name STEP_QUIET=1 "$TOP/scripts/kernel.sh" "$v" \
			-k -O W=1 C=2 "${objs[@]}" >"$TEMP/kernel.out" 2>&1 || true
		cp "$LOGS/kernel-$v.log" "$log" 2>/dev/null || true
		if ! grep -q '^  CHECK ' "$log" 2>/dev/null && grep -q '^error:' "$TEMP/kernel.out"; then
			cat "$TEMP/kernel.out"
			return 1
		fi
		cat "$log" >>"$TEMP/$name.raw"
		objs=()
		units=()
		for f in "${left[@]}"; do
			if grep -qE "^  CHECK +(.*/)?$f\$" "$log" && grep -qE "^  CC (\[M\])? +${f%.c}\.o\$" "$log"; then
				units+=("$f")
				# with the .c files that it includes, if this variant does
				(
					echo "$f"
					cd "$o" || exit
					grep -oE '^  [^ ]+\.c ' "${f%/*}/.$(basename "$f" .c).o.cmd" |
						xargs -r realpath -m --relative-to="$src" || true
				) >>"$TEMP/$name.done"
			else
				objs+=("$f")
			fi
		done
		left=("${objs[@]}")
		# (make -O: what is said of a file follows its name)
		awk -v src="$src/" '
		NR == FNR { mine[$0] = 1; next }
		match($0, /^  (CC|CC \[M\]|CHECK) +/) {
			unit = substr($0, RLENGTH + 1)
			if (index(unit, src) == 1) unit = substr(unit, length(src) + 1)
			sub(/\.o$/, ".c", unit)
		}
		unit in mine { print unit "\t" $0 }' <(printf '%s\n' "${units[@]}") "$log" >>"$TEMP/$name.said"
	done
	awk -F'\t' -v said="$SAID" '$2 ~ said { print $1 }' "$TEMP/$name.said" | sort -u >"$TEMP/$name.units"
	{ printf '%s:\n' "${cfiles[@]}"; echo '.h:'; } >"$TEMP/names"
	cut -f2- "$TEMP/$name.said" | normalise "$src" | grep -F -f "$TEMP/names" >"$TEMP/$name.compile" || true
}

# normalise TREE: "file: message" of every warning and error, sorted
SAID='^[^ ]+:[0-9]+(:[0-9]+)?: *(fatal error|warning|error|Error)'
normalise() {
	grep -E "$SAID" |
		sed -E -e "s,$1/,,g" -e 's,^(\.\./)+,,' -e 's,:[0-9]+(:[0-9]+)?:,:,g' -e 's/(line|at line) [0-9]+/\1 N/g' |
		sort || true
}

compile_all() {
	local f mine
	[ ${#cfiles[@]} -gt 0 ] || return 0
	compile "$SRC" ours "${cfiles[@]}"
	: >"$TEMP/base.compile"
	if [ -s "$TEMP/ours.compile" ]; then
		# the files in which something came up
		mine=()
		for f in "${cfiles[@]}"; do
			! tree cat-file -e "base:$f" 2>/dev/null || ! grep -qxF "$(unit "$f")" "$TEMP/ours.units" || mine+=("$f")
		done
		STEP_QUIET=1 step static-base "the base's source" base_worktree
		[ ${#mine[@]} = 0 ] || compile "$BASE_SRC" base "${mine[@]}"
	fi
	for f in "${cfiles[@]}"; do
		if ! grep -qxF "$f" "$TEMP/ours.done"; then
			fail "sparse and W=1: $f is compiled by none of ${variants[*]}"
			grep -F "$f:" "$TEMP/ours.raw" | grep -E 'error' | head -n 5 | sed 's/^/    /' || true
			continue
		fi
		grep -F "$f:" "$TEMP/ours.compile" >"$TEMP/a" || true
		grep -F "$f:" "$TEMP/base.compile" >"$TEMP/b" || true
		verdict "sparse and W=1: $f" "$TEMP/a" "$TEMP/b"
	done
	# what is said about headers, touched or not
	printf '%s:\n' "${cfiles[@]}" >"$TEMP/names"
	# (a header's finding appears once per file that includes it)
	for f in ours base; do
		grep -vF -f "$TEMP/names" "$TEMP/$f.compile" | sort -u >"$TEMP/$f.headers" || true
	done
	verdict "sparse and W=1: headers" "$TEMP/ours.headers" "$TEMP/base.headers"
}
say "sparse and W=1 on ${#cfiles[@]} files ..."
start=$SECONDS
compile_all
say "sparse and W=1: $((SECONDS - start)) s"

# ---- kernel-doc

kerneldoc() { "${perl[@]}" "$SRC/scripts/kernel-doc" -none -Wall "$1" 2>&1 | normalise "$PWD" || true; }
kerneldoc_all() {
	local f
	mkdir -p "$TEMP/doc"
	cd "$TEMP/doc" || return
	# shellcheck disable=SC2016
	printf '/**\n * f() - seeded\n * @no: parameter\n */\nint f(int yes)\n{\n}\n' >seeded.c
	if [ -z "$(kerneldoc seeded.c)" ]; then
		fail "kernel-doc: does not see the seeded error"
		return
	fi
	for f in "${docfiles[@]}"; do
		mkdir -p "$(dirname "$f")"
		cp "$SRC/$f" "$f"
		kerneldoc "$f" >"$TEMP/a"
		: >"$TEMP/b"
		if [ -s "$TEMP/a" ]; then
			base_file "$f" >"$f"
			kerneldoc "$f" >"$TEMP/b"
		fi
		verdict "kernel-doc: $f" "$TEMP/a" "$TEMP/b"
	done
}
say "kernel-doc on ${#docfiles[@]} files ..."
kerneldoc_all
cd "$TOP" || exit

# ---- coccinelle

# coccinelle NAME TREE RULES [FILE...]: reports, normalised, in $TEMP/NAME.cocci, and the
# semantic patches that they are of in $TEMP/NAME.rules.  With RULES, a file of such,
# no others are tried.  coccicheck takes a folder, so the files are copied into one, with
# a seeded one.
coccinelle() {
	local name=$1 src=$2 dir=$work/cocci-$1 rules=$3 f
	shift 3
	rm -rf "$dir"
	mkdir -p "$dir"
	if [ -n "${FULL:-}" ]; then
		mkdir -p "$dir/drivers"
		cp -r "$src/drivers/iommu" "$dir/drivers/"
	fi
	for f; do
		[ -e "$src/$f" ] || continue
		mkdir -p "$dir/$(dirname "$f")"
		cp "$src/$f" "$dir/$f"
	done
	# shellcheck disable=SC2016
	printf 'int seeded(int a)\n{\n\tint *p = kmalloc(4, 0);\n\n\tif (a) {\n\t\ta = 1;\n\t};\n\tkfree(p);\n\treturn *p;\n}\n' >"$dir/seeded.c"
	step "static-cocci-$name" "coccinelle ($name)" coccicheck "$src" "$dir" "$rules"
	awk -v dir="$src/" '
	match($0, /--cocci-file [^ ]+/) { rule = substr($0, RSTART + 13, RLENGTH - 13); sub("^" dir, "", rule); next }
	/^[^ ]+\.[ch]:[0-9]+/ && rule != "" { print rule }' "$LOGS/static-cocci-$name.log" | sort -u >"$TEMP/$name.rules"
	# reports are "path:line:column-column: TEXT"
	sed -nE "s,^($dir/)?([^ :]+\.[ch]):[0-9]+(:[-0-9]+)?: *,\2: ,p" "$LOGS/static-cocci-$name.log" |
		sed -E -e "s,$dir/,,g" -e 's/line [0-9]+/line N/g' | sort -u >"$TEMP/$name.cocci"
	if ! grep '^seeded.c' "$TEMP/$name.cocci" >/dev/null; then
		fail "coccinelle: does not see the seeded error ($name)"
		return 1
	fi
}
coccicheck() {
	local rule make=(make -C "$1" O="$work/ours/${variants[0]}" ARCH=arm64
			 CROSS_COMPILE=aarch64-linux-gnu- coccicheck MODE=report J="$JOBS" M="$2")
	# (of the kernel's semantic patches, two need an OCaml compiler)
	if [ -z "$3" ]; then
		"${make[@]}"
		return
	fi
	while read -r rule; do
		"${make[@]}" COCCI="$1/$rule"
	done <"$3"
}
coccinelle_all() {
	local f mine
	coccinelle ours "$SRC" "" "${docfiles[@]}" || return 0
	: >"$TEMP/base.cocci"
	if [ "$(grep -vc '^seeded.c' "$TEMP/ours.cocci")" != 0 ]; then
		STEP_QUIET=1 step static-base "the base's source" base_worktree
		# headers, and the files that something is said about
		mine=()
		for f in "${docfiles[@]}"; do
			case $f in
			*.h) mine+=("$f") ;;
			*) ! grep -qF "$f:" "$TEMP/ours.cocci" || mine+=("$f") ;;
			esac
		done
		# by the same semantic patches: the others have nothing to be compared
		coccinelle base "$BASE_SRC" "$TEMP/ours.rules" ${mine[@]+"${mine[@]}"} || return 0
	fi
	sed -i '/^seeded.c/d' "$TEMP/ours.cocci" "$TEMP/base.cocci"
	verdict "coccinelle${FULL:+ on drivers/iommu}" "$TEMP/ours.cocci" "$TEMP/base.cocci"
}
# it takes as long as half a kernel's build
if [ -n "${FULL:-}" ] || [ -z "${LESS:-}" ]; then coccinelle_all; fi

say "static: $(grep -c '^pass' "$RESULTS/static" || true) passed, $(grep -c '^fail' "$RESULTS/static" || true) failed"
exit $failed
