#!/bin/bash
# bench.sh - runs every measuring program and shows one table: bench.sh BUILD_DIR [SUITE…]
#
# A suite is tests/bench/bench_<name>.py; it writes build/bench/<suite>.json, an array of {measure, value, unit, must, ok}.
# Exit status 1 when a row is not ok.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-/usr/bin/python3}
dir=$1
shift
status=0

tools/deps.sh run test
mkdir -p build/bench
[ $# -gt 0 ] || set -- tests/bench/bench_*.py
for suite in "$@"; do
    suite=$(basename "$suite" .py)
    [ -e "tests/bench/$suite.py" ] || { echo "bench: there is no tests/bench/$suite.py" >&2; exit 2; }
    MERE_BIN_DIR=$PWD/$dir/bin "$PYTHON" "tests/bench/$suite.py" || status=1
done
exit $status
