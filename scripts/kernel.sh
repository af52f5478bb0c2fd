#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# kernel.sh VARIANT [TARGET...]: configure and build one kernel in
# build/out/VARIANT, incrementally and through ccache.
#
# The configuration is tools/testing/kconfig/VARIANT.config on top of Kconfig's
# defaults (olddefconfig), the same in every run.  In a fragment
#
#   #include FILE	reads another fragment of that folder first
#   #? CONFIG_X=y	asks for CONFIG_X only in trees that define it
#
# and a later line overrides an earlier one.  Kconfig drops what it cannot meet
# without a word, so each option asked for is looked up in the result, and the
# first one missing stops the build: a test that silently is not built would
# pass for ever.
#
# Kernels with KUnit also take the series' own drivers/iommu/.kunitconfig, where
# the fragment does not say otherwise.
#
# KSRC=TREE builds another source tree, KOUT=DIR puts the result in DIR/VARIANT.
# TARGETs replace the default (the bootable image), e.g. drivers/iommu/.

. "$(dirname "$0")/boot-lib.sh"

[ $# -ge 1 ] || die "usage: $0 VARIANT [TARGET...]; variants: $(variants)"
variant=$1
shift
# a seeded kernel is a copy of another one's folder, see check-boot.sh
frag=$KCONFIG/${variant%-seeded}.config
[ -f "$frag" ] || die "no variant '$variant': there are $(variants)"
[ -f "$SRC/Makefile" ] || die "no kernel source in $SRC: run 'make tree' first"
odir=$(kernel_out "$variant")
mkdir -p "$odir"
need_space 3000 "the $variant kernel"
exec 9>"$odir.lock"
flock -n 9 || { say "waiting for another build of $variant"; flock 9; }

# what the compile-only variants compile
users=(drivers/iommu/ drivers/gpu/drm/panfrost/ drivers/gpu/drm/panthor/)
case $variant in
uml*)	make=(ARCH=um) image=(linux) cross= ;;
i386)	make=(ARCH=i386) image=(drivers/iommu/) cross= ;;
arm32*)	make=(ARCH=arm) image=("${users[@]}") cross=arm-linux-gnueabihf- ;;
*-users) make=(ARCH=arm64) image=("${users[@]}") cross=aarch64-linux-gnu- ;;
*)	make=(ARCH=arm64) image=(Image) cross=aarch64-linux-gnu- ;;
esac
have "${cross}gcc" || die "no ${cross}gcc: run 'make setup'"
# LOCALVERSION= (empty, but set) keeps setlocalversion from appending the
# state of the git tree, which would rebuild with every commit.
make=(make -C "$SRC" -j"$JOBS" O="$odir" "${make[@]}" LOCALVERSION=
      CROSS_COMPILE="$cross" CC="$CCACHE${cross}gcc" HOSTCC="${CCACHE}gcc")

# expand FRAGMENT: includes and optional lines resolved
expand() {
	local line sym
	while IFS= read -r line; do
		case $line in
		'#include '*) expand "$KCONFIG/${line#\#include }" ;;
		'#? CONFIG_'*)
			line=${line#\#\? } sym=${line#CONFIG_} sym=${sym%%=*}
			if git_grep_symbol "$sym"; then printf '%s\n' "$line"; fi ;;
		*) printf '%s\n' "$line" ;;
		esac
	done <"$1"
}
git_grep_symbol() {
	grep -rqsE --include='Kconfig*' "^[[:space:]]*(menu)?config $1\$" \
		"$SRC/drivers" "$SRC/lib" "$SRC/mm" "$SRC/kernel" "$SRC/init"
}

wanted=$odir/wanted.config
{
	# first, so that the fragment has the last word
	if [ -f "$SRC/drivers/iommu/.kunitconfig" ] && [ "$variant" != bench ]; then
		cat "$SRC/drivers/iommu/.kunitconfig"
	fi
	expand "$frag"
} >"$wanted.new"

# Configure when the wish changed, and otherwise let kbuild notice Kconfig
# changes by itself; .config is only rewritten when its content changes.
configure() {
	rm -f "$odir/.config"
	cp "$wanted.new" "$odir/.config"
	"${make[@]}" olddefconfig
}
if [ -f "$odir/.config" ] && cmp -s "$wanted.new" "$wanted" && [ "$odir/src" -ef "$SRC" ]; then
	step "kernel-$variant" "checking the $variant configuration" "${make[@]}" olddefconfig
else
	rm -f "$wanted"
	ln -sfn "$SRC" "$odir/src"
	step "kernel-$variant" "configuring the $variant kernel" configure
fi

python3 - "$wanted.new" "$odir/.config" <<'EOF' || die "the $variant kernel is not configured as asked"
import re, sys
def read(path):
    d = {}
    for l in open(path):
        m = re.match(r'(CONFIG_\w+)=(.*)$', l.rstrip('\n'))
        if m:
            d[m[1]] = m[2]
        m = re.match(r'# (CONFIG_\w+) is not set', l)
        if m:
            d[m[1]] = 'n'
    return d
want, have = read(sys.argv[1]), read(sys.argv[2])
bad = [k for k in want if have.get(k, 'n') != want[k]]
for k in bad[:1]:
    print(f'error: {k}={want[k]} was asked for, .config has {have.get(k, "n")}'
          + (f'; {len(bad) - 1} more: ' + ' '.join(bad[1:]) if bad[1:] else ''),
          file=sys.stderr)
sys.exit(bool(bad))
EOF
mv "$wanted.new" "$wanted"

[ $# -gt 0 ] || set -- "${image[@]}"
step "kernel-$variant" "building the $variant kernel" "${make[@]}" "$@"
