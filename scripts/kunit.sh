#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kunit.sh VARIANT [SUITE]: build that kernel, boot it, and have the kernel's own
# kunit.py read the KTAP on its console.
#
# Recorded as results: every leaf test that ran (a skipped one is counted, and
# proves nothing), every suite that tools/testing/suites/VARIANT demands and the
# run lacks, io-pgtable's boot-time selftests (which print no KTAP) against the
# number that pass on the base, and the console being free of splats that no test
# announced (see boot.py).  SUITE is a glob; with it, only what it names runs, and
# nothing else is demanded.
#
# UML's tests run on all of their parameters, on uml-debug with KASAN and lockdep.  A
# processor that is emulated takes many times as long, so there each test of
# io-pgtable takes one in EVERY; which one depends on the test.
#
# APPEND= are further kernel parameters, PHASE= another name to record under,
# TIMEOUT= other seconds to wait for the end.  No test at all is a failure.
# RECORD=1 on a base tree records the selftests' counts in tools/testing/base-counts.

. "$(dirname "$0")/boot-lib.sh"

[ $# -ge 1 ] || die "usage: $0 VARIANT [SUITE]; variants: $(variants)"
variant=$1 suite=${2:-}
[ -f "$TESTING/suites/$variant" ] || die "no KUnit on '$variant': see tools/testing/suites"
phase=${PHASE:-kunit-$variant}
log=$LOGS/$phase-console.log
json=$LOGS/$phase.json
out=$(kernel_out "$variant")

case $variant in
uml*)	kernel=$out/linux timeout=120 smp=1 append=(kunit_shutdown=halt) every=1 ;;
*)	kernel=$out/arch/arm64/boot/Image timeout=600 smp=2 append=(kunit_shutdown=poweroff) every=15
	"$TOP/scripts/boot.py" --check-qemu || exit 1 ;;
esac
case $variant in
# Instrumented kernels are several times slower; four threads also find more.  The
# torture test has a minute, in eight cases: there threads meet, which is what KCSAN
# is for, while most tests of io-pgtable have one.
uml-debug) timeout=300 ;;
# the CPU's page size decides little about the formats; `make check` has it with KCSAN only
*-64k) every=9 ;;
*-debug | *-kcsan) timeout=1500 smp=4 every=45 append+=(iopte_torture.seconds=8) ;;
esac
timeout=${TIMEOUT:-$timeout}
every=${EVERY:-$every}
append+=(io_pgtable_test.every="$every" ${APPEND:-})
[ -z "$suite" ] || append+=("kunit.filter_glob=$suite")

[ -n "${NOBUILD:-}" ] || "$TOP/scripts/kernel.sh" "$variant"

RACES=()
case $variant in
*-kcsan) whose_races "$variant" ;;
esac

: >"$RESULTS/$phase"
args=()
for a in "${append[@]}"; do args+=(--append "$a"); done
start=$SECONDS
say "KUnit on $variant ..."
splat=pass
"$TOP/scripts/boot.py" --variant "$variant" --kernel "$kernel" --log "$log" --mem 1G \
	--smp $smp --timeout $timeout "${args[@]}" ${RACES[@]+"${RACES[@]}"} || splat=fail

rm -f "$json"
parse=pass
python3 "$SRC/tools/testing/kunit/kunit.py" parse --json="$json" "$log" \
	>"$LOGS/$phase.log" 2>&1 || parse=fail

rc=0
python3 "$TOP/scripts/kunit-results.py" --variant "$variant" --suite "$suite" --json "$json" \
	--console "$log" --tree "$SRC" --results "$RESULTS/$phase" --testing "$TESTING" \
	--parse $parse ${RECORD:+--record} || rc=1
result "$phase" $splat "$variant: console free of splats"
if grep -q '# Subtest: io-pgtable$' "$log"; then
	if ! grep -q "# io-pgtable: steps: [0-9]*, one parameter in $every\$" "$log"; then
		result "$phase" fail "$variant: io-pgtable runs on one parameter in $every"
		rc=1
	fi
fi
[ $splat = pass ] || rc=1
grep -E 'Testing complete' "$LOGS/$phase.log" || true
say "$variant: $(grep -c '^pass' "$RESULTS/$phase") passed, $(grep -c '^fail' "$RESULTS/$phase") failed, $(grep -c '^skip' "$RESULTS/$phase") skipped, $((SECONDS - start)) s"
if [ $rc != 0 ]; then
	grep '^fail' "$RESULTS/$phase" | head -n 20 || true
	say "console: $log, kunit.py: $LOGS/$phase.log"
fi
exit $rc
