#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-host.sh: tests of these scripts themselves, in seconds and without a
# kernel: a copy of the scripts in a temporary folder, with a "kernel source
# package" of a few files.  What is shown:
#
#   tree, export	the same bytes every time, whatever git is configured to do;
#			work is never discarded; an interrupted run harms nothing
#   check-series	passes, and fails for each way to disagree
#   KERNEL_SRC		a git tree, a plain one, a wrong one; never modified
#   setup		refuses without a terminal; finds the mirror in the apt
#			sources of both formats, not in a third party's
#   bad input		one line that says what to do, and a non-zero exit
#   clean	keeps work that was not exported, and nothing else
#   console	what boot.py calls a splat, and which data races count
#   kunit		a suite that is missing or skipped
#   check		counts what was recorded: nothing recorded, an exit code, a
#			phase that hangs are failures

. "$(dirname "$0")/series.sh"

alone check-host
rm -f "$RESULTS/host"
failed=0
temp_dir host
H=$TEMP		# the miniature checkout is $H/top
log=$LOGS/host.log
: >"$log"

# t NAME CMD...: one test.  CMD's output goes to the log.
t() {
	local name=$1 rc=0
	shift
	echo "== $name: $*" >>"$log"
	( set +e; "$@" ) >>"$log" 2>&1 </dev/null || rc=$?
	if [ $rc = 0 ]; then
		result host pass "$name"
	else
		result host fail "$name"
		failed=1
		say "FAILED $name (log: $log)"
	fi
}
# refuses PATTERN CMD...: CMD fails with exactly one line on stderr, "error: ..."
# that matches PATTERN
refuses() {
	local pattern=$1 rc=0 n
	shift
	"$@" 2>"$H/stderr" || rc=$?
	cat "$H/stderr"
	n=$(wc -l <"$H/stderr")
	[ $rc != 0 ] && [ "$n" = 1 ] && grep -qE "^error: .*$pattern" "$H/stderr"
}
M=$H/top
mini() { git -C "$M/build/linux-6.12" "$@"; }
run() { (cd "$M" && "$@"); }
sum() { (cd "$1" && find . -type f -not -path './.git/*' | sort | xargs -d '\n' sha256sum; find . -printf '%p %m %T@\n' | sort) | sha256sum; }

# ---- a miniature checkout

mkdir -p "$M/tools" "$M/patches/6.12" "$M/build/packages" "$H/deb/usr/src" "$H/deb/DEBIAN" "$H/linux-source-6.12/drivers/x"
cp -r "$TOP/scripts" "$M/"
cp "$TOP/tools/packages" "$M/tools/"
cp "$TOP/Makefile" "$TOP/Kconfig" "$TOP/.gitattributes" "$TOP/.gitignore" "$M/"
: >"$M/patches/6.12/added-files.txt"
echo 6.12.0-1 >"$M/tools/base-version"
cd "$H/linux-source-6.12"
printf 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\n\nmrproper:\n' >Makefile
printf '*.o\n/rust-project.json\n\n#\n# Debian packaging\n#\n/*\n!/debian/\n' >.gitignore
printf '*.[ch] diff=cpp\n' >.gitattributes
seq 1 60 | sed 's/.*/int line&(void)\n{\n\treturn &;\n}\n/' >drivers/x/x.c
ln -s x.c drivers/x/link.c
printf '#!/bin/sh\n' >drivers/x/run.sh
chmod +x drivers/x/run.sh
cd "$H"
tar -cJf deb/usr/src/linux-source-6.12.tar.xz linux-source-6.12
printf 'Package: linux-source-6.12\nVersion: 6.12.0-1\nArchitecture: all\nMaintainer: a <a@localhost>\nDescription: a\n' >deb/DEBIAN/control
dpkg-deb -b deb "$M/build/packages/linux-source-6.12_6.12.0-1_all.deb" >/dev/null
rm -rf "$H/unpacked"
cp -r linux-source-6.12 unpacked
(cd unpacked && git init -q -b series . && sed -i '\,^/rust-project.json$,q' .gitignore && git add -f -A &&
	"${IDENT[@]}" GIT_AUTHOR_DATE="$DATE" GIT_COMMITTER_DATE="$DATE" git commit -q -m "linux-source-6.12 6.12.0-1")
git -C unpacked rev-parse HEAD >"$M/tools/base-commit"
git -C unpacked rev-parse 'HEAD^{tree}' >"$M/tools/base-tree"
(cd "$M" && git init -q -b main . && git config user.name "A Developer" && git config user.email dev@localhost &&
	git add -A && git commit -q -m start)

# ---- tree

same_commit() { [ "$(mini rev-parse HEAD)" = "$(cat "$M/tools/base-commit")" ]; }
empty_tree() { run scripts/tree.sh && same_commit && [ -x "$M/build/linux-6.12/drivers/x/run.sh" ]; }
t "tree: the base is the same commit everywhere" empty_tree
empty_series() {
	run scripts/check-series.sh && grep -qx 'skip the series is empty' "$M/build/results/series" &&
		! grep -q ^pass "$M/build/results/series"
}
t "series: an empty one passes nothing" empty_series
t "tree: nothing to do the second time" run scripts/tree.sh

develop() {
	local x=$M/build/linux-6.12/drivers/x
	[ "$(mini config user.name)" = "A Developer" ] || return 1
	sed -i 's/return 30;/return 31;/' "$x/x.c" && printf 'int a;\n' >"$x/added.c" && printf 'config A\n\tbool\n' >"$x/Kconfig" &&
		mini add -A && mini commit -q -s -m "x: add a file

Why. Umlaut: ü." &&
		sed -i 's/return 40;/return 41;/' "$x/x.c" && chmod +x "$x/added.c" &&
		mini commit -q -a -s -m "x: second, a subject that is much longer than what a file name of a patch may hold"
}
t "tree: new files need no git add -f, identity is ours" develop
t "tree: stops at work that was never exported" refuses "never exported" run scripts/tree.sh
head=$(mini rev-parse HEAD)
t "tree: has not touched it" test "$(mini rev-parse HEAD)" = "$head"
t "tree: --use takes it as it is" run scripts/tree.sh --use

# ---- export

exported_files() {
	run scripts/export.sh && cmp "$M/drivers/x/added.c" "$M/build/linux-6.12/drivers/x/added.c" &&
		[ -x "$M/drivers/x/added.c" ] && grep -q 'source "drivers/x/Kconfig"' "$M/Kconfig" &&
		[ "$(find "$M/patches/6.12" -name '*.patch' | wc -l)" = 2 ] && [ ! -e "$M/drivers/x/x.c" ]
}
t "export: patches, added files and Kconfig" exported_files
hostile() {
	cp -r "$M/patches/6.12" "$H/patches.1" &&
	printf '[diff]\n\tnoprefix = true\n\talgorithm = patience\n\tcontext = 9\n[format]\n\tsignature = me\n\tnumbered = true\n\tthread = true\n[core]\n\tabbrev = 20\n\tquotePath = false\n[log]\n\tdate = raw\n' >"$H/gitconfig" &&
	mini config diff.noprefix true && mini config diff.context 7 && mini config format.subjectPrefix RFC &&
	mini config diff.renames copies && mini config format.signOff true &&
	(cd "$M" && HOME=$H XDG_CONFIG_HOME=$H GIT_CONFIG_GLOBAL=$H/gitconfig LC_ALL=C.UTF-8 TZ=Asia/Tokyo COLUMNS=40 scripts/export.sh) &&
	diff -r "$M/patches/6.12" "$H/patches.1"
}
t "export: the same bytes under a hostile git configuration" hostile
grep -h '' "$M"/patches/6.12/*.patch >>"$log"
zero() { grep -qE '^From 0{40} ' "$M"/patches/6.12/0001* && grep -qE '^index [0-9a-f]{40}\.\.[0-9a-f]{40}' "$M"/patches/6.12/0001*; }
t "export: no commit hash, full blob names" zero
foreign() { echo mine >"$M/README.md"; (cd "$M" && git add README.md); echo x >"$M/build/linux-6.12/README.md"
	mini add -A && mini commit -q -m r && refuses "file of this repository" run scripts/export.sh
	local rc=$?; mini reset -q --hard HEAD~; (cd "$M" && git rm -qf README.md); return $rc; }
t "export: never overwrites a file of ours" foreign
fixup() { mini commit -q --allow-empty -m 'fixup! x: add a file'; refuses autosquash run scripts/export.sh; local rc=$?; mini reset -q --hard HEAD~; return $rc; }
t "export: refuses a fixup that is not squashed" fixup

# ---- check-series

series_passes() {
	run scripts/check-series.sh && [ "$(grep -c ^pass "$M/build/results/series")" = 4 ] && ! grep -q ^fail "$M/build/results/series"
}
t "series: passes" series_passes
# breaks NAME CMD...: after CMD, check-series fails, and records NAME as failed
breaks() {
	local name=$1 rc=0
	shift
	rm -rf "$H/kept"
	mkdir "$H/kept"
	cp -a "$M/patches" "$M/drivers" "$M/Kconfig" "$H/kept/"
	(cd "$M" && "$@")
	run scripts/check-series.sh && rc=1
	grep -q "^fail $name" "$M/build/results/series" || rc=1
	rm -rf "$M/patches" "$M/drivers" "$M/Kconfig"
	cp -a "$H/kept/." "$M/"
	return $rc
}
t "series: a copy was edited" breaks copies sed -i 's/a/b/' drivers/x/added.c
t "series: a copy is missing" breaks copies rm drivers/x/added.c
t "series: a copy is left over" breaks copies cp drivers/x/added.c drivers/x/old.c
t "series: Kconfig was edited" breaks copies sed -i '$d' Kconfig
t "series: a patch was edited" breaks apply sed -i 's/return 31/return 32/' patches/6.12/0001-x-add-a-file.patch
t "series: a commit message was edited" breaks patches sed -i 's/^Why\./Why not./' patches/6.12/0001-x-add-a-file.patch
t "series: a patch was edited where git am does not look" breaks patches sh -c "sed -i '/^index /s/0/1/' patches/6.12/0002*"
t "series: a patch is missing" breaks apply sh -c 'rm patches/6.12/0002*'
t "series: a patch does not apply" breaks apply sed -i 's/return 30/return 29/' patches/6.12/0001-x-add-a-file.patch
touch_tree() { echo >>build/linux-6.12/drivers/x/x.c; }
t "series: the tree has changes" breaks clean touch_tree
mini reset -q --hard
t "series: passes again" series_passes

# ---- recreate, update, saved heads

tree_hash=$(mini rev-parse 'HEAD^{tree}')
recreate() {
	mv "$M/build/linux-6.12" "$H/linux.old" && run scripts/tree.sh && [ "$(mini rev-parse 'HEAD^{tree}')" = "$tree_hash" ] &&
		mini rev-parse HEAD >"$H/head.1" && rm -rf "$M/build/linux-6.12" && run scripts/tree.sh &&
		[ "$(mini rev-parse HEAD)" = "$(cat "$H/head.1")" ]
}
t "tree: recreated from the patches, the same commits every time" recreate
range_diff() { (cd "$M" && git add -A && git commit -q -m series) && sed -i 's/return 50;/return 51;/' "$M/build/linux-6.12/drivers/x/x.c" &&
	mini commit -q -a --amend --no-edit && run scripts/diff.sh | tee "$H/range" && grep -q 'return 51' "$H/range" && grep -q '^1: .* = 1:' "$H/range"; }
t "diff: shows what the tree changes in the series" range_diff
update() {
	local old
	run scripts/export.sh && old=$(mini rev-parse HEAD) && (cd "$M" && git checkout -q -f HEAD -- patches drivers) &&
		run scripts/tree.sh && [ "$(mini rev-parse 'HEAD^{tree}')" = "$tree_hash" ] &&
		mini for-each-ref refs/saved | grep -q "$old"
}
t "tree: follows changed patches, keeps the old head" update
dirty() {
	local rc
	echo '/* mine */' >>"$M/build/linux-6.12/drivers/x/x.c"
	mv "$M"/patches/6.12/0002* "$H/"
	refuses "not committed" run scripts/tree.sh && tail -n 1 "$M/build/linux-6.12/drivers/x/x.c" | grep mine
	rc=$?
	mv "$H"/0002* "$M/patches/6.12/"
	mini reset -q --hard
	return $rc
}
t "tree: stops at changes that are not committed" dirty
rebasing() { mkdir "$M/build/linux-6.12/.git/rebase-merge"; refuses "under way" run scripts/tree.sh; local rc=$?; rmdir "$M/build/linux-6.12/.git/rebase-merge"; return $rc; }
t "tree: stops in the middle of a rebase" rebasing
conflict() {
	local rc
	cp "$M"/patches/6.12/0001* "$H/p1" && sed -i 's/return 30/return 29/; /^index/d' "$M"/patches/6.12/0001* &&
	refuses "does not apply.*0001" run scripts/tree.sh && [ "$(mini rev-parse 'HEAD^{tree}')" = "$tree_hash" ] && [ -z "$(ls "$M/build/tmp")" ]
	rc=$?
	mv "$M/build/linux-6.12" "$H/aside"
	refuses "does not apply.*0001" run scripts/tree.sh && [ ! -e "$M/build/linux-6.12" ] && [ -z "$(ls "$M/build/tmp")" ] || rc=1
	mv "$H/aside" "$M/build/linux-6.12"
	cp "$H/p1" "$M"/patches/6.12/0001*
	return $rc
}
t "tree: a series that does not apply changes nothing" conflict
interrupted() {
	local pid
	mv "$M/build/linux-6.12" "$H/aside"
	# an xz that never ends, as a slow machine
	mkdir -p "$H/slow"
	printf '#!/bin/sh\nexec sleep 60\n' >"$H/slow/tar"
	chmod +x "$H/slow/tar"
	(cd "$M" && PATH=$H/slow:$PATH exec scripts/tree.sh) &
	pid=$!
	sleep 1
	kill -TERM $pid
	wait $pid
	[ ! -e "$M/build/linux-6.12" ] && run scripts/tree.sh && [ "$(mini rev-parse 'HEAD^{tree}')" = "$tree_hash" ]
}
t "tree: interrupted, then run again" interrupted
no_package() {
	local rc
	mv "$M/build/linux-6.12" "$H/aside2"
	mv "$M/build/packages" "$H/"
	refuses "make setup" run scripts/tree.sh
	rc=$?
	mv "$H/packages" "$M/build/"
	mv "$H/aside2" "$M/build/linux-6.12"
	return $rc
}
t "tree: no package" no_package

# ---- KERNEL_SRC

ks() { (cd "$M" && KERNEL_SRC=$1 scripts/tree.sh); }
t "KERNEL_SRC: no such folder" refuses "no kernel tree" ks "$H/nowhere"
mkdir "$H/old"
sed 's/= 12/= 6/' "$H/linux-source-6.12/Makefile" >"$H/old/Makefile"
t "KERNEL_SRC: wrong version" refuses "Linux 6\.6.*needs 6\.12" ks "$H/old"
user_git() {
	local before
	git clone -q "$H/unpacked" "$H/user" && cd "$H/user" && sed -i 's/return 2;/return 3;/' drivers/x/x.c &&
		"${IDENT[@]}" git commit -q -a -m theirs && sed -i 's/return 60;/return 61;/' drivers/x/x.c && before=$(sum "$H/user") &&
		ks "$H/user" && [ "$(sum "$H/user")" = "$before" ] && ks "$H/user" &&
		x=$(echo "$M"/build/src-*/linux-6.12/drivers/x/x.c) && grep -q 'return 3;' "$x" && grep -q 'return 31;' "$x" && ! grep -q 'return 61;' "$x"
}
t "KERNEL_SRC: a git tree, never modified" user_git
rm -rf "$M"/build/src-*
user_plain() {
	local before
	cp -r "$H/linux-source-6.12" "$H/plain" && before=$(sum "$H/plain") && ks "$H/plain" && [ "$(sum "$H/plain")" = "$before" ] &&
		grep -q 'return 31;' "$M"/build/src-*/linux-6.12/drivers/x/x.c
}
t "KERNEL_SRC: a plain tree, never modified" user_plain
rm -rf "$M"/build/src-*
user_conflict() {
	sed -i 's/return 30;/return 99;/' "$H/plain/drivers/x/x.c"
	refuses "does not apply to KERNEL_SRC" ks "$H/plain" && ! compgen -G "$M/build/src-*/linux-6.12"
}
t "KERNEL_SRC: the series does not apply" user_conflict

# ---- setup

sources() {
	local want got
	mkdir -p "$H/etc"
	cat >"$H/etc/a.sources" <<-'END'
		# third party, named first
		Types: deb
		URIs: http://third.example/apt
		Suites: bookworm
		Components: main
		Signed-By: /usr/share/keyrings/third.gpg

		Types: deb deb-src
		URIs: http://mirror.example/debian/
		# a comment inside
		Suites: bookworm bookworm-updates
		Components: main
		 contrib
		Signed-By:
		 -----BEGIN PGP PUBLIC KEY BLOCK-----
		 .
		 abc
		 -----END PGP PUBLIC KEY BLOCK-----

		Enabled: no
		Types: deb
		URIs: http://off.example/debian
		Suites: bookworm
		Components: main
	END
	cat >"$H/etc/b.list" <<-'END'
		# deb http://commented.example/debian bookworm main
		deb cdrom:[Debian]/ bookworm main
		deb [arch=amd64 signed-by=/usr/share/keyrings/third.gpg] http://third.example/debian bookworm main
		deb [ arch=amd64 ] http://mirror.example/debian bookworm main contrib # comment
		deb-src http://source.example/debian bookworm main
		deb http://mirror.example/debian bookworm-updates main
		deb http://security.example/debian-security bookworm-security main
	END
	printf 'deb http://mirror.example/debian stable main\ndeb http://mirror.example/debian stable-security main\n' >"$H/etc/c.list"
	: >"$H/etc/d.list"
	got=$(cd "$M" && for f in a.sources b.list c.list d.list; do
		echo "$f"; bash scripts/apt-sources.sh debian bookworm "$H/etc/$f" | tr '\t\001' '|^'; done)
	echo "$got"
	want='a.sources
release|http://mirror.example/debian|bookworm|main contrib|^ -----BEGIN PGP PUBLIC KEY BLOCK-----^ .^ abc^ -----END PGP PUBLIC KEY BLOCK-----
updates|http://mirror.example/debian|bookworm-updates|main contrib|^ -----BEGIN PGP PUBLIC KEY BLOCK-----^ .^ abc^ -----END PGP PUBLIC KEY BLOCK-----
b.list
release|http://mirror.example/debian|bookworm|main contrib|
updates|http://mirror.example/debian|bookworm-updates|main|
security|http://security.example/debian-security|bookworm-security|main|
c.list
release|http://mirror.example/debian|stable|main|
security|http://mirror.example/debian|stable-security|main|
d.list'
	[ "$got" = "$want" ]
}
t "setup: finds the mirror in the apt sources" sources
printf '#!/bin/sh\necho "QEMU emulator version 7.2.15"\n' >"$H/slow/qemu-system-aarch64"
chmod +x "$H/slow/qemu-system-aarch64"
rm "$H/slow/tar"
old_qemu() { refuses "missing: .*qemu-system-arm>=10" run env -u CI PATH="$H/slow:$PATH" bash scripts/setup.sh; }
t "setup: an old QEMU, no terminal: one line, nothing done" old_qemu
t "run: an old QEMU" refuses "QEMU" run env PATH="$H/slow:$PATH" scripts/run.sh
t "run: DISK is not there" refuses "DISK=.*" run env DISK="$H/nothing" scripts/run.sh
t "run: DISK is a folder" refuses "DISK=.*" run env DISK="$H" scripts/run.sh

# ---- space, tools

printf '#!/bin/sh\nprintf "Filesystem 1M Used Available\\nx 9 9 1 9 /\\n"\n' >"$H/slow/df"
chmod +x "$H/slow/df"
no_space() {
	local rc
	mv "$M/build/linux-6.12" "$H/aside3"
	refuses "disk space.*free" run env PATH="$H/slow:$PATH" scripts/tree.sh && [ ! -e "$M/build/linux-6.12" ]
	rc=$?
	mv "$H/aside3" "$M/build/linux-6.12"
	return $rc
}
t "tree: no disk space" no_space
mkdir "$H/bin"
for c in bash git dirname cat sed sha256sum mkdir realpath cut nproc basename find sort env df awk; do
	ln -s "$(command -v $c)" "$H/bin/$c"
done
t "static: a missing tool" refuses "not installed: run 'make setup'" run env PATH="$H/bin" scripts/check-static.sh

# ---- the console's judge

# judged pass|fail PATTERN LINE...: boot.py's verdict on that console, and what it
# says about it; a LINE may be a whole report
judged() {
	local want=$1 pattern=$2 got=pass
	shift 2
	printf '%s\n' 'booting' "$@" 'the end' >"$H/console"
	printf 'ours\nours_too\n' >"$H/own"
	printf 'memcpy\nxa_load\n' >"$H/library"
	"$TOP/scripts/boot.py" --own "$H/own" --library "$H/library" --check "$H/console" >"$H/out" || got=fail
	cat "$H/out"
	[ $got = "$want" ] || return 1
	if [ -n "$pattern" ]; then grep -qE "$pattern" "$H/out"; else [ ! -s "$H/out" ]; fi
}
ruler=$(printf '=%.0s' {1..66})
# race STACK STACK: a report of a race between two, each a list of functions, innermost
# first
race() {
	local f how=write
	printf '[ 1.0] %s\n' "$ruler" "BUG: KCSAN: data-race in ${1%% *} / ${2%% *}" ''
	for f; do
		printf '%s to 0xff of 8 bytes by task 1 on cpu 0:\n' $how
		# shellcheck disable=SC2086
		printf ' %s+0x10/0x20\n' $f
		echo
		how=read
	done
	printf '%s\n' 'Reported by Kernel Concurrency Sanitizer on:' "$ruler"
}
warn=('[ 1.0] ------------[ cut here ]------------' '[ 1.0] a table is lost' '[ 1.0] WARNING: CPU: 0 PID: 1 at x.c:1 ours+0x0/0x4')
t "console: nothing to say" judged pass '' 'ordinary text'
t "console: a WARN" judged fail unexpected "${warn[@]}"
t "console: an announced WARN" judged pass '' 'expect-splat: begin table is lost' "${warn[@]}" 'expect-splat: end'
t "console: another WARN than the announced one" judged fail unexpected 'expect-splat: begin stock' "${warn[@]}" 'expect-splat: end'
t "console: announced, and it never came" judged fail 'never came' 'expect-splat: begin table' 'expect-splat: end'
for splat in 'BUG: KASAN: slab-use-after-free in x' 'WARNING: suspicious RCU usage' 'WARNING: possible circular locking dependency detected' \
	'rcu: INFO: rcu_preempt self-detected stall on CPU' 'UBSAN: shift-out-of-bounds in x.c' 'Unable to handle kernel paging request' \
	'arm-smmu-v3 9050000.smmuv3: event 0x10 received:'; do
	t "console: ${splat:0:40}" judged fail unexpected "[ 1.0] $splat"
done
t "console: a data race of our function" judged fail unexpected "$(race 'ours main' 'beta main')"
t "console: one of our function, on the other side" judged fail unexpected "$(race 'alpha main' 'ours main')"
t "console: one through the library" judged fail unexpected "$(race 'memcpy xa_load ours' 'beta main')"
t "console: one through nothing but the library" judged fail unexpected "$(race 'memcpy xa_load' 'beta main')"
t "console: a data race of the base kernel is listed" judged pass 'not counted: alpha / beta' "$(race 'alpha gamma' 'beta main')"
t "console: one of the base kernel's in calls of ours" judged pass 'not counted: alpha / beta' "$(race 'alpha ours' 'beta gamma ours_too')"
t "console: one of the base kernel's with its library" judged pass 'not counted' "$(race 'memcpy alpha ours' 'memcpy beta main')"
t "console: a function whose name begins like ours" judged pass 'not counted' "$(race 'ours_not main' 'beta main')"
t "console: a report without an end" judged fail unexpected "$(race alpha beta | sed '$d')"
t "console: one that is cut off by another" judged fail unexpected "$(race ours beta | sed '/write/q')" "$(race alpha beta)"
t "console: one that knows one side only" judged fail unexpected "$(race alpha beta | sed '/^read to/,/ beta+/d')"
# one_sided STACK: a report of a value that changed, by what KCSAN has not seen
one_sided() {
	printf '[ 1.0] %s\n' "$ruler" "BUG: KCSAN: data-race in ${1%% *}+0x10/0x20" '' \
		'race at unknown origin, with read to 0xff of 8 bytes by task 2 on cpu 1:'
	# shellcheck disable=SC2086
	printf ' %s+0x10/0x20\n' $1
	printf '%s\n' '' 'Reported by Kernel Concurrency Sanitizer on:' "$ruler"
}
t "console: what we look at changes" judged fail unexpected "$(one_sided 'xa_load ours alpha')"
t "console: what the base kernel looks at changes" judged pass 'not counted: alpha' "$(one_sided 'alpha ours')"
t "console: the same, without an end" judged fail unexpected "$(one_sided 'alpha ours' | sed '$d')"
t "console: lines were lost" judged fail unexpected '** 12 printk messages dropped **'
t "console: a report without a stack" judged fail unexpected "$(race alpha beta | grep -v 0x20)"
t "console: a race of ours after one of the base kernel" judged fail unexpected "$(race alpha beta)" "$(race ours_too beta)"

# ---- what a KUnit run must contain

# kunit_results SUITE STATUS: the results of a run of that suite alone
kunit_results() {
	printf '{"name": "", "sub_groups": [{"name": "%s", "sub_groups": [], "test_cases": [{"name": "a", "status": "%s"}]}], "test_cases": []}' "$@" >"$H/json"
	mkdir -p "$H/testing/suites"
	printf 'wanted\nlater x/y.c\n' >"$H/testing/suites/uml"
	printf 'lpae-selftest uml 18\nv7s-selftest uml 1\n' >"$H/testing/base-counts"
	printf 'arm-lpae io-pgtable: selftest: completed with 18 PASS 0 FAIL\narm-v7s io-pgtable: self test ok\n' >"$H/console"
	rm -f "$H/results"
	"$TOP/scripts/kunit-results.py" --variant uml --suite '' --json "$H/json" --console "$H/console" --tree "$H" \
		--results "$H/results" --testing "$H/testing" --parse pass
}
suite_there() { kunit_results wanted PASS && [ "$(grep -c ^pass "$H/results")" = 21 ]; }
suite_missing() { ! kunit_results other PASS && grep -q '^fail uml: suite wanted is missing' "$H/results"; }
suite_skipped() { ! kunit_results wanted SKIP && grep -q '^fail uml: suite wanted is missing' "$H/results"; }
test_fails() { ! kunit_results wanted FAIL && grep -q '^fail uml: wanted.a' "$H/results"; }
t "kunit: the suite is there" suite_there
t "kunit: a suite is missing" suite_missing
t "kunit: a suite is skipped" suite_skipped
t "kunit: a test fails" test_fails

# ---- check

counts() {
	# shellcheck disable=SC2016
	(cd "$M" && cp scripts/check.sh scripts/check-mini.sh &&
	 sed -i -e 's,^quick=(,quick=(\n"good record one true"\n"bad record two false"\n"silent true"\n"exits exits"\n"hangs sleep 60"\n"late record three true"\n)\nunused=(,' \
		-e 's,^limit=.*,exits() { result exits pass four; return 3; }\n&,' scripts/check-mini.sh &&
	 printf '#!/bin/sh\n' >scripts/setup.sh && CHECK_LIMIT=4 scripts/check-mini.sh quick) >"$H/out"
	local rc=$?
	cat "$H/out"
	[ $rc != 0 ] && [ "$(tail -n 1 "$H/out")" = "2 passed, 4 failed" ] && grep -q 'out of time.*hangs' "$H/out" && ! grep -q '=== late' "$H/out"
}
t "check: counts what was recorded, stops what hangs" counts
nothing() {
	(cd "$M" && sed -i 's,^"bad .*,,; s,^"silent.*,,; s,^"exits.*,,; s,^"hangs.*,,; s,^"late.*,,; s,^"good.*,"skips result skips skip five",' scripts/check-mini.sh &&
	 scripts/check-mini.sh quick) >"$H/out"
	local rc=$?
	cat "$H/out"
	[ $rc != 0 ] && [ "$(tail -n 1 "$H/out")" = "0 passed, 0 failed" ] && grep -q "^1 skipped" "$H/out"
}
t "check: no test passed is a failure" nothing

# ---- clean

clean_keeps() {
	mkdir -p "$M/build/src-0a1b2c3d/out" "$M/build/out" && mini worktree add -q --detach "$M/build/bisect/linux-6.12" base &&
		run scripts/tree.sh && mini commit -q --allow-empty -m work && run scripts/clean.sh | tee "$H/out" && grep -q '^kept: build/linux-6.12' "$H/out" &&
		[ -d "$M/build/linux-6.12/.git" ] && [ ! -e "$M/build/src-0a1b2c3d" ] && [ ! -e "$M/build/out" ] && [ ! -e "$M/build/bisect" ]
}
t "clean: keeps a tree with commits that were not exported" clean_keeps
clean_removes() {
	mini reset -q --hard HEAD~ && mini worktree remove --force ../mywork && mini for-each-ref --format='%(refname)' refs/saved refs/stash | xargs -rn1 git -C "$M/build/linux-6.12" update-ref -d &&
		mini worktree add -q --detach "$M/build/bisect/linux-6.12" base &&
		run scripts/clean.sh && [ -z "$(ls -A "$M/build")" ]
}
clean_worktree() {
	mini reset -q --hard HEAD~ && mini worktree add -q --detach "$M/build/mywork" base && mini worktree add -q --detach "$H/elsewhere" base &&
		rm -rf "$H/elsewhere" && echo mine >"$M/build/mywork/mine" && run scripts/clean.sh &&
		[ -e "$M/build/mywork/mine" ] && [ -d "$M/build/linux-6.12/.git" ] && mini worktree list | grep -q elsewhere &&
		mini commit -q --allow-empty -m work && mini worktree prune
}
t "clean: keeps worktrees of the user, and those that are not there now" clean_worktree
t "clean: leaves nothing otherwise" clean_removes

say "host: $(grep -c '^pass' "$RESULTS/host") passed, $(grep -c '^fail' "$RESULTS/host" || true) failed"
exit $failed
