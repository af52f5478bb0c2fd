# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2119,SC2120
#
# What every script here shares: where things are, how a long step shows its
# progress and where its log goes, and how a result is recorded.
#
# A result is one line in $RESULTS/<phase>: "pass NAME", "fail NAME" or
# "skip NAME".  The closing line of `make check` is counted from these files and
# from nothing else, so a test that records nothing does not count.
#
# KERNEL_SRC= (the user's own 6.12 tree) and BUILD_DIR= move everything that
# depends on the kernel source to a folder of its own, so that two trees never
# share an object file.

set -euo pipefail
export LC_ALL=C
umask 022

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SHARED=$TOP/build
BUILD=${BUILD_DIR:-$SHARED}
if [ -n "${KERNEL_SRC:-}" ] && [ -z "${BUILD_DIR:-}" ]; then
	BUILD=$SHARED/src-$(realpath -m "$KERNEL_SRC" | sha256sum | cut -c1-8)
fi
SRC=$BUILD/linux-6.12
PATCHES=$TOP/patches/6.12
LOGS=${LOGS_DIR:-$BUILD/logs}
RESULTS=$BUILD/results
V=${V:-0}
JOBS=${JOBS:-$(nproc)}

# A kernel build must depend on what our scripts say, not on how make was
# called or on what the user's shell exports for another kernel.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL
unset ARCH CROSS_COMPILE CC LLVM C CHECK W M O KBUILD_OUTPUT KBUILD_EXTMOD
unset KCFLAGS KAFLAGS KCONFIG_CONFIG INSTALL_MOD_PATH GREP_OPTIONS

export KBUILD_BUILD_TIMESTAMP='2024-11-17 22:15:08 UTC'
export KBUILD_BUILD_USER=build KBUILD_BUILD_HOST=localhost
export CCACHE_DIR=$SHARED/ccache CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1
# a first build is not preprocessed twice
export CCACHE_DEPEND=1
export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}

# Nothing in the user's git configuration may change what we write, and a
# checkout that belongs to another user (root in a container) is still ours.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_EXTERNAL_DIFF GIT_DIFF_OPTS
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_ATTR_NOSYSTEM=1
export GIT_CONFIG_COUNT=2
export GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_CONFIG_KEY_1=core.attributesFile GIT_CONFIG_VALUE_1=/dev/null

# No error of ours is longer than its one line, also where it cannot even start.
mkdir -p "$LOGS" "$RESULTS" 2>/dev/null || {
	echo "error: cannot write to $BUILD: make the checkout writable, or clone it elsewhere" >&2
	exit 1
}

die() { printf 'error: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

# have CMD...: every command is there
have() { local c; for c; do command -v "$c" >/dev/null || return 1; done; }

# need CMD...: refuse to start without them
need() { local c; for c; do have "$c" || die "'$c' is not installed: run 'make setup'"; done; }

# need_space MB WHAT: refuse to start what the disk cannot hold
need_space() {
	local free
	free=$(df -Pm "$BUILD" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$1" ] ||
		die "$2 needs $1 MB of disk space under $BUILD, $free MB are free: free some, or move the checkout"
}

# step LOG TITLE CMD...: run CMD (a program or a function) with its output in
# $LOGS/LOG.log and show what is being done and for how long.  A failure names
# the log and shows its last lines; V=1 shows everything as it comes.
#
# CMD runs in a process group of its own, which an interrupt takes down whole, and
# under `set -e` also where step's caller looks at its outcome (`step ... || die`
# would switch that off inside CMD; a process substitution is a fresh start).
# Its variables have names of their own: CMD, if a function, sees them.
step() {
	local _log=$LOGS/$1.log _title=$2 _start=$SECONDS _rc=0 _pid _job _fd _out
	shift 2
	if [ "$V" != 0 ] || { [ -z "${STEP_QUIET:-}" ] && [ ! -t 1 ]; }; then
		say "$_title ..."
	fi
	exec {_out}>&1
	exec {_fd}< <(
		set -em
		if [ "$V" != 0 ]; then
			"$@" > >(tee "$_log" >&"$_out") 2>&1 </dev/null &
		else
			"$@" >"$_log" 2>&1 </dev/null &
		fi
		echo $!
		exec >&-
		wait $!
	)
	_job=$!
	read -r -u "$_fd" _pid
	trap 'kill -- -"$_pid" 2>/dev/null; exit 130' INT TERM
	if [ "$V" = 0 ] && [ -t 1 ]; then
		while kill -0 "$_pid" 2>/dev/null; do
			printf '\r%s ... %d s ' "$_title" $((SECONDS - _start))
			sleep 0.5
		done
		printf '\r'
	fi
	wait "$_job" || _rc=$?
	trap - INT TERM
	exec {_fd}<&- {_out}>&-
	if [ "$_rc" != 0 ]; then
		say "$_title: FAILED after $((SECONDS - _start)) s, log: $_log"
		[ "$V" != 0 ] || tail -n 20 "$_log" | sed 's/^/    /'
	elif [ -z "${STEP_QUIET:-}" ]; then
		say "$_title: done, $((SECONDS - _start)) s"
	fi
	return "$_rc"
}

# result PHASE pass|fail|skip NAME
result() { printf '%s %s\n' "$2" "$3" >>"$RESULTS/$1"; }

# alone NAME: wait until no other script in this checkout is at NAME
alone() {
	local _lock
	exec {_lock}>"$BUILD/$1.lock"
	flock -n "$_lock" || { say "waiting for another $1 in this checkout"; flock "$_lock"; }
}

# temp_dir NAME: TEMP is a fresh folder, removed when the script ends; what killed
# runs have left goes too
temp_dir() {
	local d
	for d in "$BUILD/tmp/$1".*; do
		[ -d "$d" ] || continue
		kill -0 "${d##*.}" 2>/dev/null || rm -rf "$d"
	done
	TEMP=$BUILD/tmp/$1.$$
	rm -rf "$TEMP"
	mkdir -p "$TEMP"
	TEMP_DIRS+=("$TEMP")
	trap 'rm -rf "${TEMP_DIRS[@]}"' EXIT
}
TEMP_DIRS=()
