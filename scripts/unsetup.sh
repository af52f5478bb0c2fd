#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# unsetup.sh: take back what setup changed in the apt configuration.  Packages
# stay: other work may have come to need them.

. "$(dirname "$0")/lib.sh"

files=()
for f in /etc/apt/sources.list.d/ioptres-backports.sources /etc/apt/preferences.d/ioptres-backports; do
	[ ! -e "$f" ] || files+=("$f")
done
if [ ${#files[@]} = 0 ]; then
	say "unsetup: the apt configuration has nothing of ours"
else
	root=()
	if [ "$(id -u)" != 0 ]; then
		have sudo || die "removing ${files[*]} takes root: run 'make unsetup' as root, or install sudo"
		root=(sudo)
	fi
	"${root[@]}" rm -f "${files[@]}"
	say "unsetup: removed ${files[*]}; the next apt-get update forgets the suite"
fi
if [ -s "$SHARED/setup-installed" ]; then
	say "packages that setup installed and that stay: $(sort -u "$SHARED/setup-installed" | paste -sd' ')"
else
	say "setup installed no packages from this checkout"
fi
