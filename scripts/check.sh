#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh check|full|quick|kunit|boot: run the phases of one level in order and
# count what they recorded.
#
# A phase is a name, the file in build/results that it records in, and a command.
# It fails when it records a failure, exits non-zero, or records nothing at all.
# The closing line is counted from those files only.  `check` must end within 50
# minutes on two cores and stops by itself, naming the phase, at 80.
#
# To add a phase, add a line to a list below.
#
# The kernels that check and full boot are built ahead, in the background and one
# after the other: most phases keep one core busy.  A phase that comes to a kernel
# which is being built waits for it (kernel.sh holds a lock), and one whose build
# failed builds it again and says why.

. "$(dirname "$0")/series.sh"

level=${1:-check}
S=$TOP/scripts

kunit=(
	"kunit-uml-debug    $S/kunit.sh uml-debug"
	"kunit-arm64        $S/kunit.sh arm64"
	"kunit-arm64-debug  $S/kunit.sh arm64-debug"
	"kunit-arm64-kcsan  $S/kunit.sh arm64-kcsan"
)
boot=(
	"boot               $S/check-boot.sh"
)
check=(
	"host               $S/check-host.sh"
	"series             $S/check-series.sh"
	"static             LESS=1 $S/check-static.sh"
	"${kunit[@]}"
	"build-arm32        build arm32 drivers/iommu/ drivers/gpu/drm/panfrost/"
	"build-i386         build i386 drivers/iommu/"
	"${boot[@]}"
	"selftests          $S/check-selftests.sh"
	"selftests-debug    $S/check-selftests.sh arm64-debug"
	"selftests-kcsan    $S/check-selftests.sh arm64-kcsan"
	"boot-dma           $S/check-dma.sh"
	"boot-vfio          $S/check-vfio.sh"
	"boot-type1         $S/check-type1.sh"
	"boot-nest          $S/check-nest.sh"
)
full=(
	"${check[@]}"
	"models             $S/check-models.sh"
	"kunit-arm64-16k    $S/kunit.sh arm64-16k"
	"kunit-arm64-64k    $S/kunit.sh arm64-64k"
	"kunit-long-uml     long uml 100000 io-pgtable"
	"kunit-long-arm64   long arm64 2500 io-pgtable.ft_test_threads"
	"kunit-plain        record 'kunit.py run --kunitconfig=drivers/iommu' plain"
	"build-users        build arm64-users drivers/iommu/ drivers/gpu/drm/"
	"build-modules      modules"
	"bisect             $S/check-bisect.sh"
	"bench              $S/bench.sh"
)
ahead=(uml-debug arm64 arm64-debug arm64-kcsan)
quick=(
	"kunit-uml          $S/kunit.sh uml"
	"boot-quick         record 'the disk is read through the SMMU' $S/run.sh"
)

# record NAME CMD...: run CMD, which records nothing by itself, as one test
record() {
	local name=$1
	shift
	if "$@"; then result "$phase" pass "$name"; else result "$phase" fail "$name"; return 1; fi
}
# build VARIANT TARGET...: those parts of that kernel compile
build() {
	record "$1 builds: ${*:2}" "$S/kernel.sh" "$@"
}
# modules: panthor, panfrost and iommufd, linked against what the patched kernel exports
modules() {
	local m dir=$BUILD/out/arm64-panthor/drivers ko
	ko=("$dir"/gpu/drm/{panthor/panthor,panfrost/panfrost}.ko "$dir/iommu/iommufd/iommufd.ko")
	rm -f "${ko[@]}"
	record "panthor, panfrost and iommufd build as modules" "$S/kernel.sh" arm64-panthor Image modules &&
	for m in "${ko[@]}"; do
		record "${m##*/} is there" test -s "$m" || return
	done
}

# long VARIANT STEPS SUITE: with that many steps in each random test
long() {
	PHASE=$phase APPEND=io_pgtable_test.steps=$2 TIMEOUT=1500 EVERY=1 "$S/kunit.sh" "$1" "$3" || return
	record "$1: the tests have $2 steps" grep -q "# io-pgtable: steps: $2," "$LOGS/$phase-console.log"
}
# plain: what the README says of a tree of one's own, with kunit.py's own settings
# (with which UML's PCI driver warns at boot; kunit-uml-debug judges the console)
plain() {
	cd "$SRC" &&
	step plain "kunit.py in a tree of one's own" ./tools/testing/kunit/kunit.py run \
		--kunitconfig=drivers/iommu --build_dir="$BUILD/plain" --jobs="$JOBS" &&
	grep 'Testing complete.*passed: [1-9]' "$LOGS/plain.log" &&
	for s in iopte_page iopte_alloc iopte_share_example io-pgtable iommu_sva; do
		grep -q "^# $s: pass:[1-9]" "$BUILD/plain/test.log" || return
	done &&
	step plain-panthor "and with panthor's settings" ./tools/testing/kunit/kunit.py run \
		--kunitconfig=drivers/gpu/drm/panthor --build_dir="$BUILD/plain" --jobs="$JOBS" &&
	grep "^# panthor-vm: pass:[1-9]" "$BUILD/plain/test.log"
}

limit=$((80 * 60))
case $level in
check) phases=("${check[@]}") ;;
full) phases=("${full[@]}") limit=$((5 * 3600)) ;;
quick) phases=("${quick[@]}") ;;
kunit) phases=("${kunit[@]}") ;;
boot) phases=("${boot[@]}") ;;
*) die "usage: $0 check|full|quick|kunit|boot" ;;
esac
limit=${CHECK_LIMIT:-$limit}
[ "$level" != full ] || export FULL=1

begin=$SECONDS
table=()
timeout=

# count WORD [FILE...]: results of that kind
count() { cat "$RESULTS"/* 2>/dev/null | grep -c "^$1 " || true; }

# run PHASE COMMAND: in a process group of its own, within what is left of the limit
run() {
	local start=$SECONDS rc=0 left=$((limit - SECONDS + begin)) pid dog n
	phase=$1
	rm -f "$RESULTS/$phase"
	say "=== $phase"
	set -m
	( eval "$2" ) </dev/null &
	pid=$!
	( sleep "$left"; : >"$BUILD/timeout"; kill -TERM -- "-$pid"; sleep 20; kill -KILL -- "-$pid" ) >/dev/null 2>&1 &
	dog=$!
	set +m
	trap 'kill -TERM -- "-$pid" "-$dog" 2>/dev/null; echo; say "interrupted in phase $phase"; exit 130' INT TERM HUP
	wait "$pid" || rc=$?
	trap - INT TERM HUP
	kill -- "-$dog" 2>/dev/null || true
	wait "$dog" 2>/dev/null || true
	n=$(grep -c . "$RESULTS/$phase" 2>/dev/null) || true
	if [ -e "$BUILD/timeout" ]; then
		result "$phase" fail "phase $phase: stopped, the limit of $((limit / 60)) minutes is over"
		say "FAILED: out of time ($((limit / 60)) minutes) in phase $phase"
		timeout=$phase
	elif [ "${n:-0}" = 0 ]; then
		result "$phase" fail "phase $phase recorded no result (exit code $rc)"
		say "FAILED: phase $phase recorded no result"
	elif [ $rc != 0 ] && ! grep -q '^fail ' "$RESULTS/$phase"; then
		result "$phase" fail "phase $phase exited with $rc"
		say "FAILED: phase $phase exited with $rc"
	fi
	table+=("$(printf '%6d s  %-20s %5d passed %3d failed %3d skipped' $((SECONDS - start)) "$phase" \
		"$(grep -c '^pass ' "$RESULTS/$phase")" "$(grep -c '^fail ' "$RESULTS/$phase")" \
		"$(grep -c '^skip ' "$RESULTS/$phase")")")
}

# summary: the seconds of each phase, what failed, and the closing line
summary() {
	local p f s
	say
	printf '%s\n' "${table[@]}"
	say "$(printf '%6d s  in all' $((SECONDS - begin)))"
	grep -h '^fail ' "$RESULTS"/* 2>/dev/null | head -n 40 || true
	[ -z "$timeout" ] || say "stopped in phase $timeout; the phases after it did not run"
	p=$(count pass) f=$(count fail) s=$(count skip)
	closing="$p passed, $f failed"
	say
	[ "$s" = 0 ] || say "$s skipped, which proves nothing"
	[ "$level" != full ] || [ -n "$timeout" ] || write_last
	say "$closing"
	[ "$f" = 0 ] && [ "$p" -gt 0 ] && [ -z "$timeout" ]
}

# write_last: the summary that is committed
write_last() {
	{
		echo "# Written by 'make check-full'."
		echo "date        $(date -u +%Y-%m-%d)"
		echo "base        $(tree log -1 --format=%s base)"
		echo "series      $(patch_list | wc -l) patches, tree $(tree rev-parse --short=12 'HEAD^{tree}')"
		echo "machine     $(nproc) cores, $(awk '/MemTotal/ { printf "%d", $2 / 1048576 + 0.5 }' /proc/meminfo) GiB"
		local c
		for c in 'aarch64-linux-gnu-gcc --version' 'gcc --version' 'qemu-system-aarch64 --version' \
			'sparse --version' 'spatch --version' 'git --version' 'python3 --version'; do
			printf '%-11s %s\n' "${c%% *}" "$($c 2>&1 | sed -n 1p)"
		done
		echo
		printf '%s\n' "${table[@]}"
		echo
		[ "$s" = 0 ] || echo "$s skipped"
		echo "$closing"
	} >"$TOP/tools/testing/last-check-full.txt.new"
	mv "$TOP/tools/testing/last-check-full.txt.new" "$TOP/tools/testing/last-check-full.txt"
}

exec 7>"$BUILD/check.lock"
flock -n 7 || die "another check is running in this checkout: wait for it"
rm -rf "$RESULTS" "$BUILD/timeout"
mkdir -p "$RESULTS"

# What has to be there first.  A failure here ends the run.
start=$SECONDS
for p in setup tree; do
	case $level:$p in
	check:tree | full:tree) cmd="$S/tree.sh" ;;
	*:tree) cmd="$S/tree.sh --use" ;;
	*) cmd="bash $S/setup.sh" ;;
	esac
	rc=0
	$cmd || rc=$?
	if [ $rc != 0 ]; then
		result $p fail "$p"
		table+=("$(printf '%6d s  %-20s failed' $((SECONDS - start)) $p)")
		summary || exit 1
	fi
	table+=("$(printf '%6d s  %-20s' $((SECONDS - start)) $p)")
	start=$SECONDS
done

# build_ahead VARIANT...: in a process group of its own, which ends with this script
build_ahead() {
	local v
	set -m
	(
		for v; do
			# (the static phase builds kernels of the same names)
			JOBS=$((JOBS + 1)) LOGS_DIR=$BUILD/logs/ahead STEP_QUIET=1 nice "$S/kernel.sh" "$v" || true
		done
	) >/dev/null 2>&1 </dev/null 7>&- &
	ahead_pid=$!
	set +m
	trap 'kill -TERM -- "-$ahead_pid" 2>/dev/null || true' EXIT
}
case $level in
check | full) build_ahead "${ahead[@]}" ;;
esac

for line in "${phases[@]}"; do
	read -r name command <<<"$line"
	run "$name" "$command"
	[ -z "$timeout" ] || break
done
summary
