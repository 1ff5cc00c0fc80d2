#!/bin/bash
# fuzz.sh - runs the fuzz targets of the build in DIR, one after the other: fuzz.sh DIR [TARGET…]
#
# T=60 is the time for each, in seconds.  What is learnt stays in DIR/corpus and is the beginning of the next run; the seeds in
# tests/fuzz/corpus are added to it.  An input that breaks a property is printed as the text of a seed: it belongs into that
# directory, with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
shift
T=${T:-60}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}

fuzz() {
    local name=$1 corpus=$dir/corpus/$1 found=$dir/found/$1

    mkdir -p "$corpus" "$found"
    rm -f "$found"/*
    FUZZ_SEEDS=tests/fuzz/corpus/$name FUZZ_CORPUS=$corpus nice "$dir/bin/fuzz_$name" -max_total_time="$T" -timeout=10 -rss_limit_mb=2048 \
        -max_len=12000 -use_value_profile=1 -print_final_stats=1 -verbosity=0 -artifact_prefix="$found/" "$corpus" 2>"$dir/$name.log" || true
    if compgen -G "$found/*" >/dev/null; then
        tail -n 40 "$dir/$name.log"
        echo "fuzz: $name found:"
        for input in "$found"/*; do
            echo "  $input"
            od -An -v -tx1 "$input"
        done
        return 1
    fi
    printf '  %-10s %s executions, %s inputs kept, nothing found\n' "$name" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")" "$(find "$corpus" -type f | wc -l)"
}

if [ $# -eq 0 ]; then
    for target in tests/fuzz/fuzz_*.c; do
        target=${target##*/fuzz_}
        set -- "$@" "${target%.c}"
    done
fi
bad=0
for target in "$@"; do
    fuzz "$target" || bad=1
done
exit "$bad"
