#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# check-models.sh: the models of the page tables' races hold, and find mistakes.
#
#   *.pml	spin looks at every order of steps.  It must end with everything
#		searched and no error; where it ran out of depth or memory, that
#		proves nothing and fails.
#   MUTANT_*	each #ifdef of that kind in a model is a mistake.  spin must find
#		an error in the model with it; a table too many allocated, the
#		models' own limit, is none.
#   *.litmus	herd7, where it is installed, with the kernel tree's memory model:
#		each outcome happens as often as its "Result:" says.
#
# One at a time: a model takes up to 800 MB.

. "$(dirname "$0")/lib.sh"

need spin gcc
alone check-models
rm -f "$RESULTS/models"
models=$TOP/tools/testing/models
failed=0
temp_dir models
log=$LOGS/models.log
: >"$log"

pass() { result models pass "$1"; }
fail() { result models fail "$1"; failed=1; say "FAILED $1 (log: $log)"; }

# search MODEL [MUTANT]: spin's output is in $TEMP/out; non-zero if it did not run.
# (An error in a mutant is found sooner than the compiler can optimise.)
search() {
	local dir=$TEMP/pan optimise=-O2
	[ -z "${2:-}" ] || optimise=-O0
	rm -rf "$dir"
	mkdir "$dir"
	(
		cd "$dir" || exit
		echo "== $*"
		spin ${2:+"-D$2"} -a "$models/$1.pml" &&
			gcc $optimise -w -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c &&
			timeout 600 nice ./pan -m100000
	) >"$TEMP/out" 2>&1 </dev/null || { cat "$TEMP/out" >>"$log"; return 1; }
	cat "$TEMP/out" >>"$log"
}
# whole: everything was searched, without an error
whole() {
	grep -qE 'State-vector .* errors: 0$' "$TEMP/out" &&
		! grep -qiE 'too small|out of memory|not completed|limit|warning|truncated|^pan:[0-9]|aborted' "$TEMP/out"
}
# found: an assertion or a deadlock, and not the models' number of tables
found() {
	grep -qE 'State-vector .* errors: [1-9][0-9]*$' "$TEMP/out" &&
		grep -qE '^pan:1: (assertion violated|invalid end state)' "$TEMP/out" &&
		! grep -q '^pan:1: assertion violated (allocated<=' "$TEMP/out"
}
states() { awk '/ states, stored/ { print $1; exit }' "$TEMP/out"; }

# model NAME: it, and each of its mutants
model() {
	local start=$SECONDS mutant n mutants
	if search "$1" && whole; then
		pass "$1: holds"
	else
		fail "$1: holds"
	fi
	n=$(states)
	mapfile -t mutants < <(sed -nE 's/^#ifn?def (MUTANT_[A-Z_]+)$/\1/p' "$models/$1.pml" | sort -u)
	# (none may be written in another way)
	if [ "$(grep -oE 'MUTANT_\w*' "$models/$1.pml" | sort -u | wc -l)" != ${#mutants[@]} ] || [ ${#mutants[@]} -lt 2 ]; then
		fail "$1: has mutants, each behind #ifdef or #ifndef"
	fi
	for mutant in "${mutants[@]}"; do
		if search "$1" "$mutant" && found; then
			pass "$1: $mutant is found"
		else
			fail "$1: $mutant is found"
		fi
	done
	say "model $1: $n states, ${#mutants[@]} mutants, $((SECONDS - start)) s"
}

litmus() {
	local f name want mm=$SRC/tools/memory-model
	if ! have herd7 || [ ! -f "$mm/linux-kernel.cfg" ]; then
		say "litmus tests: not run, there is no herd7 or no kernel tree with its memory model"
		result models skip "litmus tests: no herd7, or no memory model for it"
		return
	fi
	for f in "$models"/*.litmus; do
		name=$(basename "$f" .litmus)
		want=$(sed -n 's/^ \* Result: //p' "$f")
		(cd "$mm" && timeout 600 herd7 -conf linux-kernel.cfg "$f") >"$TEMP/out" 2>&1 </dev/null || true
		{ echo "== $name"; cat "$TEMP/out"; } >>"$log"
		if [ -n "$want" ] && grep -qE "^Observation $name $want " "$TEMP/out" && ! grep -q '^Flag ' "$TEMP/out"; then
			pass "litmus test $name: $want"
		else
			fail "litmus test $name: $want"
		fi
	done
}

for f in "$models"/*.pml; do
	model "$(basename "$f" .pml)"
done
litmus

say "models: $(grep -c '^pass' "$RESULTS/models" || true) passed, $(grep -c '^fail' "$RESULTS/models" || true) failed"
exit $failed
