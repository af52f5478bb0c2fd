#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# setup.sh: have everything here that the other targets need.
#
# It installs what is missing from Debian's packages (tools/packages), QEMU 10 or
# later from the distribution's backports suite where the release's own is older,
# and downloads two packages without installing them: the kernel source, and a
# busybox for the arm64 guest (so no architecture is added to the system).  It
# shows every command first and asks.  Where nothing is missing it says so in one
# line and changes nothing.
#
# apt-get update of this machine may fail for sources that are none of our
# business; so its exit code does not count, what it then offers does.  What we
# download ourselves uses a private apt state in build/apt, which holds the
# distribution's own sources only and checks signatures as apt always does.

. "$(dirname "$0")/series.sh"

NAME=ioptres-backports
SOURCES=/etc/apt/sources.list.d/$NAME.sources
PREFS=/etc/apt/preferences.d/$NAME
QEMU_MIN=10
APT=$SHARED/apt
PKGS=$SHARED/packages
BUSYBOX=$SHARED/busybox-arm64/busybox

# qemu_version: of the QEMU in the PATH, its major number; 0 if none
qemu_version() {
	local v
	v=$(qemu-system-aarch64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p')
	echo "${v:-0}"
}

missing_packages() {
	local pkg what
	while read -r pkg what; do
		case $pkg in '' | '#'*) continue ;; esac
		case $what in
		'') dpkg-query -W -f='${db:Status-Status}' "$pkg" 2>/dev/null | grep -qx installed || echo "$pkg" ;;
		/*) [ -e "$what" ] || echo "$pkg" ;;
		*) have "$what" || echo "$pkg" ;;
		esac
	done <"$TOP/tools/packages"
}

# source_missing: the pinned kernel source is neither in the tree nor packaged here
source_missing() {
	[ -z "${KERNEL_SRC:-}" ] || return 1
	if [ -d "$SRC/.git" ]; then
		! tree rev-parse -q --verify base >/dev/null || return 1
	fi
	[ "$(dpkg-query -W -f='${Version}' "$PACKAGE" 2>/dev/null)" != "$WANTED" ] ||
		[ ! -r "/usr/src/$PACKAGE.tar.xz" ] || return 1
	! compgen -G "$PKGS/${PACKAGE}_*_all.deb" >/dev/null
}

# configured: the apt source files of this machine, ours excepted
configured() {
	local f
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ "$f" = "$SOURCES" ] || [ ! -e "$f" ] || echo "$f"
	done
}

# stanza URI SUITE SIGNED-BY
stanza() {
	printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$1" "$2"
	[ -z "$3" ] || printf 'Signed-By: %s\n' "$3" | tr '\001' '\n' | sed 's/ *$//'
	echo
}

# private ARGS...: apt with the private state
private() { APT_CONFIG=$APT/apt.conf "$@"; }

# private_update: make the private state: the distribution's own sources of this
# release, backports included, for this machine and for arm64
private_update() {
	local kind uri suite key native entries
	mapfile -t files < <(configured)
	entries=$(bash "$TOP/scripts/apt-sources.sh" debian "$CODENAME" "${files[@]}")
	[ -n "$entries" ] ||
		die "no source for Debian $CODENAME main in /etc/apt: add the release's own source, then run 'make setup' again"
	native=$(dpkg --print-architecture)
	rm -rf "$APT"
	mkdir -p "$APT/state/lists/partial" "$APT/cache/archives/partial"
	: >"$APT/state/status"
	backports=
	while IFS=$'\t' read -r kind uri suite _ key; do
		stanza "$uri" "$suite" "$key"
		case $kind in
		release) mirror=$uri mirror_key=$key ;;
		backports) backports=configured ;;
		esac
	done <<<"$entries" >"$APT/debian.sources"
	stanza "$mirror" "$CODENAME-backports" "$mirror_key" >"$APT/$NAME.sources"
	if [ -z "$backports" ]; then cat "$APT/$NAME.sources" >>"$APT/debian.sources"; fi
	cat >"$APT/apt.conf" <<-END
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear APT::Architectures;
		APT::Architecture "$native";
		APT::Architectures { "$native"; "arm64"; };
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Dir::State "$APT/state";
		Dir::State::status "$APT/state/status";
		Dir::Cache "$APT/cache";
		Dir::Etc::sourcelist "$APT/debian.sources";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
	END
	STEP_QUIET=1 step setup-lists "asking the mirror what it has" private apt-get -q update || true
}

# offers PACKAGE: "VERSION SUITE" of all that the private state knows, best first
offers() {
	private apt-cache madison "$1" | sed -n 's/^ *[^|]* | *\([^ |]*\) *| *[^ ]* *\([^ ]*\) .*/\1 \2/p'
}

major() { sed -E 's/^[0-9]+://; s/[^0-9].*//' <<<"$1"; }

os() { sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | tr -d \"; }
CODENAME=$(os VERSION_CODENAME)

# for `make rebase-base`: only look at what the mirror has
if [ -n "${LISTS_ONLY:-}" ]; then
	private_update
	exit 0
fi

# ---- what is missing

mapfile -t install < <(missing_packages)
qemu=
[ "$(qemu_version)" -ge $QEMU_MIN ] || qemu=yes
download=()
[ -x "$BUSYBOX" ] || download+=(busybox-static:arm64)
if source_missing; then download+=("$PACKAGE=$WANTED"); fi

if [ ${#install[@]} = 0 ] && [ ${#download[@]} = 0 ] && [ -z "$qemu" ]; then
	say "setup: everything is here"
	exit 0
fi
wanted=(${install[@]+"${install[@]}"} ${qemu:+"qemu-system-arm>=$QEMU_MIN"} ${download[@]+"${download[@]}"})

# ---- may we, and can we

if [ ! -t 0 ] && [ "${CI:-}" != true ]; then
	die "missing: ${wanted[*]}; run 'make setup' in a terminal (it shows its commands and asks), or with CI=true to agree to them"
fi
if [ "$(os ID)" != debian ] || [ -z "$CODENAME" ] || ! have apt-get dpkg-deb; then
	die "missing: ${wanted[*]}; setup knows Debian 12 and later only: install them by hand"
fi
if [ "$(id -u)" = 0 ]; then
	root=()
elif have sudo; then
	root=(sudo)
elif [ ${#install[@]} -gt 0 ] || [ -n "$qemu" ]; then
	die "missing: ${wanted[*]}; packages are installed by root: install sudo, or run 'make setup' as root once"
fi
need_space 1500 "setup"

config=
if [ -n "$qemu" ] || [ ${#download[@]} -gt 0 ]; then
	private_update
	what="the mirror $mirror, log: $LOGS/setup-lists.log"
	if [ -n "$qemu" ]; then
		release=$(offers qemu-system-arm | sed '/-backports\//d' | sed -n 1p)
		newest=$(offers qemu-system-arm | sed -n 1p)
		[ -n "$newest" ] || die "cannot get the package lists of $what: check the network, then run 'make setup' again"
		if [ "$(major "${release:-0}")" -lt $QEMU_MIN ]; then
			[ "$(major "$newest")" -ge $QEMU_MIN ] ||
				die "no QEMU $QEMU_MIN at $what: install qemu-system-aarch64 $QEMU_MIN or later by hand"
			config=yes
		fi
		install+=(qemu-system-arm)
	fi
	if [ ! -x "$BUSYBOX" ] && [ -z "$(offers busybox-static:arm64)" ]; then
		die "no busybox-static for arm64 at $what: put a static arm64 busybox in $BUSYBOX by hand"
	fi
	if source_missing && ! offers "$PACKAGE" | grep -F "$WANTED " >/dev/null; then
		# A Debian update must not stop an unchanged project: the series is
		# tried on what there is; `make tree` says so if it does not apply.
		got=$(offers "$PACKAGE" | sed -n '1s/ .*//p')
		[ -n "$got" ] || die "no $PACKAGE at $what: point KERNEL_SRC= to a 6.12 tree of your own"
		say "note: the mirror no longer has $PACKAGE $WANTED; taking $got, if the series applies to it ('make rebase-base' adopts it)"
		download[${#download[@]} - 1]=$PACKAGE=$got
	fi
fi

if [ -n "$config" ]; then
	{
		echo "# Written by 'make setup', removed by 'make unsetup': QEMU $QEMU_MIN or later, and nothing else, from backports."
		if [ -z "$backports" ]; then
			printf 'Package: *\nPin: release n=%s-backports\nPin-Priority: -1\n\n' "$CODENAME"
		fi
		printf 'Package: src:qemu\nPin: release n=%s-backports\nPin-Priority: 990\n' "$CODENAME"
	} >"$APT/$NAME.pref"
fi

# ---- show, ask, do

aptget=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
commands=()
if [ -n "$config" ]; then
	[ -n "$backports" ] || commands+=("install -m 644 $APT/$NAME.sources $SOURCES")
	commands+=("install -m 644 $APT/$NAME.pref $PREFS")
fi
[ ${#install[@]} = 0 ] ||
	commands+=("${aptget[*]} update" "${aptget[*]} install --no-install-recommends ${install[*]}")
say "setup: these are missing: ${install[*]} ${download[*]}"
if [ ${#commands[@]} -gt 0 ]; then
	say "to be run as root:"
	printf '    %s\n' "${commands[@]}"
	if [ -n "$config" ]; then
		say "where the new files are:"
		for f in "$SOURCES=$APT/$NAME.sources" "$PREFS=$APT/$NAME.pref"; do
			[ -n "$backports" ] && [ "${f%%=*}" = "$SOURCES" ] && continue
			printf '    %s:\n' "${f%%=*}"
			sed '/./s/^/        /' "${f#*=}"
		done
	fi
fi
[ ${#download[@]} = 0 ] ||
	{ say "to be run as you, in build/:"; printf '    apt-get download %s\n' "${download[@]}"; }
if [ "${CI:-}" != true ]; then
	read -r -p "Go on? [y/N] " answer
	case $answer in y | Y | yes) ;; *) die "nothing was changed; run 'make setup' again when you like" ;; esac
fi

# undo_config: our apt files never stay behind a setup that failed
undo_config() {
	[ -z "$config" ] || "${root[@]}" rm -f "$SOURCES" "$PREFS"
}
if [ ${#commands[@]} -gt 0 ]; then
	trap 'undo_config' EXIT
	for c in "${commands[@]}"; do
		case $c in
		*' update')
			step setup-update "fetching the package lists" "${root[@]}" bash -c "$c" ||
				say "note: some list failed; going on with what there is" ;;
		*' install '*)
			for p in "${install[@]}"; do
				v=$(apt-cache policy "$p" | sed -n 's/^  Candidate: //p')
				case $v in '' | '(none)') die "apt offers no package $p: see $LOGS/setup-update.log" ;; esac
				[ "$p" != qemu-system-arm ] || [ "$(major "$v")" -ge $QEMU_MIN ] ||
					die "apt would take QEMU $v, not $QEMU_MIN: another pin in /etc/apt/preferences.d outranks ours"
			done
			step setup-install "installing ${#install[@]} packages" "${root[@]}" bash -c "$c" ||
				die "apt-get could not install the packages: see $LOGS/setup-install.log" ;;
		*)	"${root[@]}" bash -c "$c" ;;
		esac
	done
	trap - EXIT
	printf '%s\n' "${install[@]}" >>"$SHARED/setup-installed"
fi

# fetch NAME[=VERSION]: into a temporary folder first, so that a package in
# build/packages is always whole
fetch() {
	rm -rf "$APT/new"
	mkdir -p "$APT/new" "$PKGS"
	cd "$APT/new" || return
	private apt-get -q download "$1"
	case $1 in
	busybox-static*)
		dpkg-deb -x ./*.deb x
		mkdir -p "$(dirname "$BUSYBOX")"
		chmod 755 x/bin/busybox
		mv x/bin/busybox "$BUSYBOX" ;;
	*)	mv ./*.deb "$PKGS/${PACKAGE}_${1#*=}_all.deb" ;;
	esac
}
for p in "${download[@]}"; do
	step setup-download "downloading ${p%%=*}" fetch "$p" ||
		die "could not download $p: see $LOGS/setup-download.log"
done
rm -rf "$APT/new"

[ "$(qemu_version)" -ge $QEMU_MIN ] ||
	die "$(command -v qemu-system-aarch64) is older than QEMU $QEMU_MIN: remove it, or put a newer one first in the PATH"
say "setup: everything is here"
