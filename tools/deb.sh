#!/bin/bash
# deb.sh - the Debian packages, from a copy of the tree, into build/deb; then lintian, for which nothing may be left to say
#
#   DEB_FROM=head     the committed tree instead of the one that lies here
#   DEB_BUILD_OPTIONS=nocheck    without the unit tests
set -euo pipefail
cd "$(dirname "$0")/.."
tools/deps.sh run deb

out=$PWD/build/deb
rm -rf "$out"
mkdir -p "$out/mere"
if [ "${DEB_FROM:-}" = head ]; then
    git archive HEAD | tar -x -C "$out/mere"
else
    git ls-files -co --exclude-standard -z | tar -c --null -T - --ignore-failed-read | tar -x -C "$out/mere"
fi
# A debhelper that the archive has not yet, or no longer, is no reason against: what the build needs was installed above.
(cd "$out/mere" && dpkg-buildpackage -us -uc -b -d) >"$out/build.log" 2>&1 || {
    tail -n 40 "$out/build.log" >&2
    echo "deb: the build failed; all of it is in $out/build.log" >&2
    exit 1
}
rm -rf "$out/mere"
(cd "$out" && lintian --fail-on error,warning --allow-root ./*.changes)
ls -l "$out"/*.deb
