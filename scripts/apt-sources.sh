#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# apt-sources.sh list FILE...	what the apt source files name, in both formats
#				(one-line .list, deb822 .sources): one line per
#				URI and suite, as URI, suite, components, Signed-By
#				separated by tabs; line breaks of a key that is
#				written out in the file appear as \001
# apt-sources.sh debian CODENAME FILE...
#				of these, Debian's own for that release, with the
#				kind in front: release, updates, security, backports
#
# Third parties use the release's name for their suites too.  What makes an entry
# the distribution's own is that it has "main", and then how much speaks for it:
# the same URI has the -updates suite, its path ends in /debian, its key is the
# archive's or the system's.

set -euo pipefail
export LC_ALL=C

list() {
	local f
	for f; do
		[ -r "$f" ] || continue
		case $f in
		*.sources) awk "$AWK822" "$f" ;;
		*.list) awk "$AWKLINE" "$f" ;;
		esac
	done
}

# shellcheck disable=SC2016 # awk programs
AWKLINE='
/^[ \t]*deb[ \t]/ {
	sub(/[ \t]#.*/, "")
	key = ""
	if (match($0, /\[[^]]*\]/)) {
		n = split(substr($0, RSTART + 1, RLENGTH - 2), opt, /[ \t]+/)
		for (i = 1; i <= n; i++)
			if (opt[i] ~ /^signed-by=/) key = substr(opt[i], 11)
		$0 = substr($0, 1, RSTART - 1) " " substr($0, RSTART + RLENGTH)
	}
	if ($2 ~ /^cdrom:/) next
	comps = $4
	for (i = 5; i <= NF; i++) comps = comps " " $i
	printf "%s\t%s\t%s\t%s\n", $2, $3, comps, key
}'
AWK822='
function flush(   u, s, nu, ns, i, j, uri, suite) {
	if (f["types"] ~ /(^|[ \t\001])deb([ \t\001]|$)/ && tolower(f["enabled"]) !~ /^(no|false|0|off|without|disable)$/) {
		nu = split(f["uris"], uri, /[ \t\001]+/)
		ns = split(f["suites"], suite, /[ \t\001]+/)
		gsub(/[ \t\001]+/, " ", f["components"])
		for (i = 1; i <= nu; i++)
			for (j = 1; j <= ns; j++)
				if (uri[i] != "" && suite[j] != "" && uri[i] !~ /^cdrom:/)
					printf "%s\t%s\t%s\t%s\n", uri[i], suite[j], f["components"], f["signed-by"]
	}
	split("", f); field = ""
}
/^[ \t]*#/ { next }
/^[ \t]*\r?$/ { flush(); next }
/^[ \t]/ { sub(/\r$/, ""); if (field == "signed-by") f[field] = f[field] "\001" $0
	else { sub(/^[ \t]+/, ""); f[field] = f[field] " " $0 }
	next }
{
	sub(/\r$/, "")
	field = tolower(substr($0, 1, index($0, ":") - 1))
	value = substr($0, index($0, ":") + 1)
	gsub(/^[ \t]+|[ \t]+$/, "", value)
	f[field] = value
}
END { flush() }'

# shellcheck disable=SC2016
debian() {
	local code=$1
	shift
	list "$@" | awk -F '\t' -v OFS='\t' -v code="$code" '
	function kind(s) {
		if (s == code || s == "stable" || s == "oldstable") return "release"
		if (s == code "-updates" || s ~ /^(old)?stable-updates$/) return "updates"
		if (s == code "-security" || s ~ /^(old)?stable-security$/) return "security"
		if (s == code "-backports" || s ~ /^(old)?stable-backports$/) return "backports"
		return ""
	}
	{ sub(/\/+$/, "", $1); k = kind($2) }
	k == "" || $3 !~ /(^| )main( |$)/ { next }
	{ n++; line[n] = $0; kd[n] = k; uri[n] = $1; key[n] = $4; has[$1, k] = 1 }
	END {
		for (i = 1; i <= n; i++) {
			if (kd[i] != "release") continue
			score = 1 + 2 * has[uri[i], "updates"] + (uri[i] ~ /\/debian$/) + \
				(key[i] == "" || key[i] ~ /debian-archive/) + (uri[i] ~ /^mirror\+file:/)
			if (score > best) { best = score; m = i }
		}
		if (!m) exit
		print "release", line[m]
		for (i = 1; i <= n; i++) {
			if (kd[i] == "updates" && uri[i] == uri[m]) print kd[i], line[i]
			if (kd[i] == "backports") print kd[i], line[i]
			if (kd[i] == "security" && (key[i] == "" || key[i] == key[m] || key[i] ~ /debian-archive/)) print kd[i], line[i]
		}
	}'
}

cmd=$1
shift
"$cmd" "$@"
