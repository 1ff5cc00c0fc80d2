#!/bin/bash
# demo.sh - a scripted tour on its own data directory, build/demo
#
# Every step checks what it brought about; exit 0 only when each result was right.  Ports are free ones, so that a running
# Mere is not disturbed.  On a terminal the steps are told as they go.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
bin=$root/${BUILD:-build}/bin
home=$root/build/demo
data=$home/data
log=$home/mered.log
mered=""
run=""
step=0

say() { printf '\n%2d. %s\n' $((step += 1)) "$*"; }
right() { printf '    right: %s\n' "$*"; }
wrong() {
    printf '    WRONG: %s\n' "$*" >&2
    exit 1
}

# Whatever happens, what we started ends; the log stays for whoever wants to know why.
finish() {
    local status=$?

    if [ -n "$mered" ] && kill -TERM "$mered" 2>/dev/null; then
        wait "$mered" 2>/dev/null || true
    fi
    if [ $status -ne 0 ]; then
        echo
        echo "demo: failed; the last lines of $log:" >&2
        tail -n 15 "$log" >&2 || true
    fi
    exit $status
}

# Pids of programs called $1 (a pattern) that name our data or run directory as argument or working directory.
pids_of() {
    local p

    for p in /proc/[0-9]*; do
        # shellcheck disable=SC2254 # a pattern on purpose
        case $(readlink "$p/exe" 2>/dev/null) in */$1) ;; *) continue ;; esac
        # Not -q: who stops reading early kills the writer, and that would count as "not found".
        if { readlink "$p/cwd" && tr '\0' '\n' <"$p/cmdline"; } 2>/dev/null | grep -F -e "$data" -e "$run/" >/dev/null; then
            echo "${p#/proc/}"
        fi
    done
}

postgres_pids() { pids_of postgres; }

mounts_below() { awk -v at="$1" 'index($5, at) == 1 { print $5 }' /proc/self/mountinfo; }
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
expect() { [ "$2" = "$3" ] || wrong "$1: expected \"$3\", got \"$2\""; }
# The state of an endpoint as the API says it.
state() { mere --json endpoints get "$1" | sed -n 's/^ *"current_state": "\(.*\)".*/\1/p'; }
mere() { "$bin/mere" "$@"; }

tools/deps.sh run
[ -x "$bin/mered" ] || wrong "$bin/mered is not built: run make"
if [ -d "$home" ]; then
    [ -z "$(mounts_below "$home/")" ] || wrong "something of an earlier run is still mounted below $home"
    rm -rf --one-file-system "$home"
fi
mkdir -p "$home"
trap finish EXIT
trap 'exit 130' INT TERM

say "Start Mere on a data directory of its own"
mkfifo "$home/out"
"$bin/mered" --data "$data" --listen 127.0.0.1:0 --pg-listen 127.0.0.1:0 >"$home/out" 2>"$log" &
mered=$!
# mered prints one line when it serves; it ends, and the read with it, when it cannot.
read -r ready <"$home/out" || wrong "mered did not start"
case $ready in "ready api=http://"*" postgres="*" store="*) right "$ready" ;; *) wrong "unexpected: $ready" ;; esac
read -r _ MERE_API_URL _ <<<"${ready/api=/}"
MERE_API_KEY=$(cat "$data/admin.key")
export MERE_API_URL MERE_API_KEY
run=$(dirname "$(grep -lF "$MERE_API_URL\"" /run/mere/*/cli.json "${XDG_RUNTIME_DIR:-/nowhere}"/mere/*/cli.json \
    "/tmp/mere-$(id -u)"/*/cli.json 2>/dev/null)") || wrong "mered left no state file for the CLI"
expect "mode of the admin key" "$(stat -c %a "$data/admin.key")" 600

say "Make a project: one call gives a Postgres"
mere projects create --name demo
uri=$(mere url)
right "$(sql "$uri" -c "select split_part(version(), ' on ', 1)")"

say "Put rows into it with plain psql"
sql "$uri" -c "create table cities (id int primary key, name text)" \
    -c "insert into cities select n, 'city ' || n from generate_series(1, 1000) as n"
expect "rows" "$(sql "$uri" -c 'select count(*) from cities')" 1000
right "1000 rows through the proxy"

say "Branch off while the parent is running"
expect "state of the parent" "$(state main)" active
mere branches create dev
dev=$(mere url dev)
[ "$dev" != "$uri" ] || wrong "the branch has its parent's connection string"
expect "rows on the branch" "$(sql "$dev" -c 'select count(*) from cities')" 1000
right "dev has the 1000 rows of main, copied by nobody"

say "Both sides go their own way"
sql "$dev" -c "delete from cities where id > 10" -c "create table only_here (x int)"
sql "$uri" -c "insert into cities values (1001, 'newcomer')"
expect "rows on dev" "$(sql "$dev" -c 'select count(*) from cities')" 10
expect "rows on main" "$(sql "$uri" -c 'select count(*) from cities')" 1001
expect "dev's own table on main" "$(sql "$uri" -c "select count(*) from pg_tables where tablename = 'only_here'")" 0
right "dev has 10 rows, main has 1001, and main knows nothing of dev's table"

say "Suspend both: nobody looks, nothing runs"
[ -n "$(postgres_pids)" ] || wrong "no Postgres process of ours can be seen while two run: the count would mean nothing"
mere endpoints suspend main >/dev/null
mere endpoints suspend dev >/dev/null
expect "state of main" "$(state main)" idle
expect "state of dev" "$(state dev)" idle
expect "Postgres processes" "$(postgres_pids)" ""
right "zero Postgres processes"

say "Wake one by connecting with plain psql"
expect "rows on dev" "$(sql "$dev" -c 'select count(*) from cities')" 10
expect "state of dev" "$(state dev)" active
expect "state of main" "$(state main)" idle
right "dev woke with its 10 rows; main sleeps on"

say "Delete the branch, then the project"
mere branches delete dev --yes
sql "$dev" -c 'select 1' >/dev/null 2>&1 && wrong "a deleted branch still serves"
expect "rows on main" "$(sql "$uri" -c 'select count(*) from cities')" 1001
mere projects delete demo --hard --yes
expect "projects" "$(mere --json projects list | tr -d ' \n' | sed 's/.*"projects":\[\([^]]*\)\].*/\1/')" ""
right "no project left"

say "Nothing is left behind"
expect "Postgres processes" "$(postgres_pids)" ""
expect "volumes" "$(find "$data/volumes" -mindepth 1 -maxdepth 1 -not -name '.*' -not -name 'im-template-*')" ""
expect "WAL" "$(find "$data/wal" -mindepth 1 -maxdepth 1 -name 'br-*')" ""
kill -TERM "$mered"
status=0
wait "$mered" || status=$?
mered=""
expect "exit status of mered" "$status" 0
expect "mounts" "$(mounts_below "$data")" ""
# One that detaches by itself may live on for as long as another mount namespace (of another server's compute) holds a copy.
expect "loop devices" "$(losetup -l -n -O AUTOCLEAR,BACK-FILE 2>/dev/null | grep -F "$data" | grep -v '^ *1' || true)" ""
expect "processes" "$(pids_of 'mere*')$(postgres_pids)" ""
expect "run directory" "$(find "$run" -mindepth 1 2>/dev/null)" ""
right "no process, mount or loop device"

printf '\ndemo: every result was right\n'
