#!/bin/bash
# test.sh - runs the tests and counts them
#
#   test.sh                 packages, build, unit tests, end-to-end tests; last line exactly `N passed, N failed`
#   test.sh --unit DIR      the unit tests of the build in DIR (build, build/asan, …)
#   test.sh --e2e DIR ARGS  the end-to-end tests on the build in DIR; ARGS go to pytest
#
# The end-to-end tests run in three processes (JOBS), a file of them in one: much of their time is waiting.  ARGS may say otherwise (-n 0).
# What is skipped is named, and counted neither as passed nor as failed.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-/usr/bin/python3}
logs=build/test
passed=0
failed=0

# A run that died without a summary, or says failure without naming one, is one failure.
add() {
    local ok=$1 bad=$2 status=$3

    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + ok))
    failed=$((failed + bad))
}

unit() {
    local dir=$1 log=$logs/unit.log status=0 ok bad skipped

    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
    export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=0:second_deadlock_stack=1}
    export CK_DEFAULT_TIMEOUT=${CK_DEFAULT_TIMEOUT:-180}
    MERE_BIN_DIR=$PWD/$dir/bin "$dir/bin/unit-tests" 2>&1 | tee "$log" || status=$?
    skipped=$(grep -c '^SKIP ' "$log" || true)
    read -r ok bad < <(sed -n 's/^unit: \([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1; echo "0 0")
    if [ "$skipped" -gt "$ok" ]; then ok=0; else ok=$((ok - skipped)); fi
    add "$ok" "$bad" "$status"
}

# `1 failed, 9 passed, 2 skipped, 1 error in 3.21s`: the last line of pytest, in any order.
pytest_count() {
    tail -n 1 "$1" | tr ',=' '\n' | awk -v words="$2" '$1 ~ /^[0-9]+$/ && index(" " words " ", " " $2 " ") { n += $1 } END { print n + 0 }'
}

e2e() {
    local dir=$1 log=$logs/e2e.log status=0

    shift
    compgen -G 'tests/e2e/test_*.py' >/dev/null || return 0
    MERE_BIN_DIR=$PWD/$dir/bin MERE_CRASH_BIN_DIR=$PWD/build/crash/bin PYTHONDONTWRITEBYTECODE=1 \
        "$PYTHON" -m pytest tests/e2e -q -rs -p no:cacheprovider --color=no -n "${JOBS:-3}" --dist loadfile "$@" 2>&1 | tee "$log" || status=$?
    add "$(pytest_count "$log" "passed xpassed")" "$(pytest_count "$log" "failed error errors")" "$status"
}

mkdir -p "$logs"
rm -f "$logs"/unit.log "$logs"/e2e.log
case ${1:-} in
--unit)
    unit "$2"
    ;;
--e2e)
    make --no-print-directory crash
    shift
    e2e "$@"
    ;;
"")
    tools/deps.sh run test drivers clients terraform
    make --no-print-directory all build/bin/unit-tests
    make --no-print-directory crash
    unit build
    e2e build
    ;;
*)
    echo "test: unknown argument '$1'" >&2
    exit 2
    ;;
esac
grep -hE '^SKIP(PED)? ' "$logs"/unit.log "$logs"/e2e.log 2>/dev/null | sed 's/^/not run: /' || true
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
