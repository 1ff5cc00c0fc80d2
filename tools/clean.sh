#!/bin/bash
# clean.sh - removes build/, except when something is still mounted below it
#
# Removing through a mount would delete the data of a running test or a bootstrapped root; that is refused by name.
set -euo pipefail
cd "$(dirname "$0")/.."

[ -d build ] || exit 0
mounted=$(awk -v at="$PWD/build/" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo)
if [ -n "$mounted" ]; then
    printf 'clean: still mounted below build, nothing was removed; stop what uses it, then unmount:\n%s\n' "$mounted" >&2
    exit 1
fi
rm -rf --one-file-system build
