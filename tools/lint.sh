#!/bin/bash
# lint.sh - what a reviewer should not have to look for
#
# Every check prints file:line and what is wrong.  All run, then the exit status says whether any failed.  Patterns are written
# with brackets where this file would otherwise find itself.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-/usr/bin/python3}
tools/deps.sh run lint

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# Files of ours: in git or about to be (a checkout without git: everything but what is built).
files() {
    { git ls-files -co --exclude-standard -- "$@" 2>/dev/null || find "$@" -type f; } | while IFS= read -r f; do
        [ -f "$f" ] && printf '%s\n' "$f"
    done
}
mapfile -t C_FILES < <(files src cmd tests | grep -E '\.[ch]$' | grep -v '\.gen\.h$')
mapfile -t PRODUCT < <(printf '%s\n' "${C_FILES[@]}" | grep -E '^(src|cmd)/')
mapfile -t SCRIPTS < <(files tools .ci tests | xargs grep -lE '^#!/bin/(ba)?sh')
mapfile -t PYTHONS < <(files tools tests | grep '\.py$')
mapfile -t TEXTS < <(files . | sed 's,^\./,,' | grep -vE '^(LICENSE|data/|build/)')

# check NAME COMMAND…: any output or a failing status is a finding.
check() {
    local name=$1 status=0

    shift
    "$@" >"$scratch/out" 2>&1 || status=$?
    if [ -s "$scratch/out" ] || [ "$status" -ne 0 ]; then
        printf 'lint: %s\n' "$name"
        sed 's/^/  /' "$scratch/out" | head -n 40
        failures=$((failures + 1))
    fi
}

# Prints matches of a pattern in files; nothing found is good.
absent() {
    local pattern=$1

    shift
    [ $# -gt 0 ] || return 0
    grep -nHE -e "$pattern" "$@" || true
}

# The same without lines that are comment.
in_code() {
    absent "$@" | grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)' || true
}

product_but() {
    printf '%s\n' "${PRODUCT[@]}" | grep -vE "$1" || true
}

# A library is included by its owner only.
owned() {
    local header=$1 owner=$2

    mapfile -t others < <(product_but "$owner")
    absent "^[[:space:]]*#[[:space:]]*include[[:space:]]*<$header" "${others[@]}"
}

ownership() {
    owned 'microhttpd\.h>' '^src/api/server\.c$'
    owned 'sqlite3\.h>' '^src/meta/'
    owned '(libpq|postgresql/libpq|libpq-fe)' '^src/pg/'
    owned 'curl/' '^src/base/httpc\.c$'
    owned 'sys/(epoll|signalfd)\.h>' '^src/base/loop\.c$'
    owned 'openssl/' '^src/(base/crypt[a-z_]*|proxy/tls)\.c$'
}

sql() {
    mapfile -t others < <(product_but '^src/(meta|pg)/')
    absent '"[^"]*(SELECT [a-z*]|INSERT INTO|UPDATE [a-z_]+ SET|DELETE FROM|(CREATE|ALTER|DROP) (TABLE|ROLE|DATABASE|INDEX)|PRAGMA |BEGIN IMMEDIATE)' "${others[@]}"
}

banned_words() {
    absent '\bT[O]DO\b|\bF[I]XME\b|\bX[X]X\b|\bH[A]CK\b' "${TEXTS[@]}"
    absent '\b(d[e]sign|r[e]liability|a[p]i|c[l]ients|e[c]osystem|u[s]ers)\.md\b' "${TEXTS[@]}"
    absent '\b(rule|part) \(?[a-i][0-9]+\)?\b' "${PRODUCT[@]}"
}

# tools/fresh.sh speaks of the root it bootstraps, not of this machine.
machine_paths() {
    mapfile -t others < <(printf '%s\n' "${TEXTS[@]}" | grep -v '^tools/fresh\.sh$')
    absent '(^|[^[:alnum:]_.])/(w[o]rk|r[o]ot|h[o]me/[a-z]+|U[s]ers|t[m]p/(lab|house))(/|\b)' "${others[@]}"
}

# Sleeping is not waiting; JSON is not text with braces in it; SQL and shell are not either.
habits() {
    in_code '(^|[^_[:alnum:]])(sleep|nanosleep|clock_nanosleep|sched_yield)[[:space:]]*\(' "${PRODUCT[@]}"
    in_code '"[^"]*\{\\"' "${PRODUCT[@]}"
    in_code '(^|[^_[:alnum:]])(v?fork[[:space:]]*\(\)|wait(pid)?[[:space:]]*\((-1|NULL|&))' "${PRODUCT[@]}"
    in_code '"/bin/(ba)?sh"|"sh"' "${PRODUCT[@]}"
}

# Regenerates into a copy of the tree's inputs and compares, so that a failing check changes nothing.
generated() {
    local f tree=$scratch/gen

    compgen -G 'tools/gen_*.py' >/dev/null || return 0
    mkdir -p "$tree"
    cp -a tools src migrations docs "$tree/"
    [ ! -f openapi.yaml ] || cp -a openapi.yaml "$tree/"
    [ ! -f Makefile ] || cp -a Makefile "$tree/"
    make -s -C "$tree" gen PYTHON="$PYTHON" >/dev/null
    for f in $(files src | grep '\.gen\.[ch]$' || true) docs/errors.md; do
        cmp -s "$f" "$tree/$f" || echo "$f is not what its generator writes: run make gen"
    done
}

# Every setting of the key table is explained, and whether SIGHUP changes it.
documented() {
    sed -nE 's/^ *(KEY|LIVE|CRED)\("([a-z-]*)".*/\1 \2/p' cmd/mered.c | while read -r kind key; do
        row=$(grep -m 1 -E "^\|[^|]*\`$key\`[^|]*\|" docs/operations.md) || row=
        reload=$(cut -d '|' -f 4 <<<"$row" | tr -d ' ')
        if [ -z "$row" ]; then
            echo "docs/operations.md: no row for the setting $key"
        elif [ "$kind" = LIVE ] && [ "$reload" != yes ]; then
            echo "docs/operations.md: SIGHUP changes $key, and its row does not say yes"
        elif [ "$kind" != LIVE ] && [ "$reload" = yes ]; then
            echo "docs/operations.md: SIGHUP does not change $key, and its row says yes"
        fi
    done
}

# Warnings are errors with both compilers; only objects, nothing is linked.
builds() {
    make -s VARIANT=werror CC="$1" OUT="build/werror-$1" -j"$(nproc)" objects >/dev/null
}

formatted() {
    clang-format --dry-run -Werror "${C_FILES[@]}" 2>&1 | grep -E 'error:' | cut -d: -f1 | sort | uniq -c |
        awk '{ printf "%s: %d places differ from clang-format\n", $2, $1 }' || true
}

python_compiles() {
    [ ${#PYTHONS[@]} -eq 0 ] ||
        "$PYTHON" -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' "${PYTHONS[@]}"
}

trailing_blanks() {
    absent '[[:blank:]]+$' "${TEXTS[@]}"
}

check "floors" awk -f tools/layers.awk "${PRODUCT[@]}"
check "limits" awk -f tools/limits.awk "${C_FILES[@]}" "${SCRIPTS[@]}" "${PYTHONS[@]}"
check "library ownership" ownership
check "SQL outside src/meta and src/pg" sql
check "banned words" banned_words
check "paths of somebody's machine" machine_paths
check "habits" habits
check "generated files" generated
check "settings without documentation" documented
check "trailing blanks" trailing_blanks
check "shell scripts" shellcheck "${SCRIPTS[@]}"
check "python" python_compiles
check "format" formatted
check "gcc -Werror" builds gcc
check "clang -Werror" builds clang

if [ "$failures" -gt 0 ]; then
    echo "lint: $failures checks failed"
    exit 1
fi
echo "lint: clean"
