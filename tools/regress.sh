#!/bin/bash
# regress.sh - Postgres's own regression suite, of the version that is installed, into build/regress/VERSION
#
# Sources and server headers come from Debian's archive, by the lists of this machine and lists of sources of our own; nothing is installed.
# What is there already is kept.  tests/e2e/test_regress.py runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
    printf 'regress: %s\n' "$*" >&2
    exit 1
}

command -v dpkg-query >/dev/null || die "not a Debian system"
major=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | cut -d/ -f5 | sort -n | tail -n 1)
[ -n "$major" ] || die "no Postgres is installed"
version=$(dpkg-query -W -f='${Version}' "postgresql-$major")
out=build/regress/$version
work=$out.new
[ ! -e "$out" ] || exit 0

rm -rf --one-file-system "$work"
mkdir -p "$work"/{sources,lists/partial,dev}
cd "$work"
for from in /etc/apt/sources.list.d/*.sources; do
    [ -e "$from" ] && grep -q '/debian' "$from" && sed 's/^Types:.*/Types: deb-src/' "$from" >"sources/${from##*/}"
done
for from in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$from" ] && grep '/debian' "$from" | sed -n 's/^deb /deb-src /p' >"sources/$(basename "$from" .list).list"
done
own=(-q -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$PWD/sources" -o "Dir::State::Lists=$PWD/lists" -o APT::Sandbox::User=root)
apt-get "${own[@]}" update >&2
apt-get "${own[@]}" source --download-only "postgresql-$major=$version" >&2 || die "no sources of postgresql-$major $version"
apt-get -q -o APT::Sandbox::User=root download "postgresql-server-dev-$major=$version" >&2 || die "no server headers of $version"

tar -xf postgresql-"$major"_*.orig.tar.* --strip-components=1 --wildcards '*/src/test/regress'
dpkg-deb -x postgresql-server-dev-"$major"_*.deb dev
gcc -O2 -fPIC -shared -I"dev/usr/include/postgresql/$major/server" -Idev/usr/include/postgresql/internal -o regress.so src/test/regress/regress.c
for name in refint autoinc; do cp "/usr/lib/postgresql/$major/lib/$name.so" .; done
mv src/test/regress suite
rm -rf --one-file-system sources lists dev src postgresql-*
cd - >/dev/null
mv "$work" "$out"
