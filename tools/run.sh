#!/bin/bash
# run.sh - `make run`: packages, build, then mered in the foreground on ./data (DATA= names another directory), with a first
# session to paste
#
# This shell becomes mered (exec), so Ctrl-C and kill reach it and its exit status is ours.  A reader on its standard output
# passes lines on and, once it says `ready`, prints what to do next.  Arguments, or RUN_ARGS, go to mered.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
data=$(realpath -m -- "${DATA:-$root/data}")

tools/deps.sh run
make --no-print-directory all >&2

session() {
    local api=$1 pg=$2 store=$3 sudo="" bin key

    bin=$(printf %q "$root/build/bin")
    key=$(printf %q "$data/admin.key")

    [ -r "$data/admin.key" ] || sudo="sudo "
    cat <<TEXT

Mere is running, store=$store.  Ctrl-C stops it and everything it started.

  REST API    $api/api/v2
  Postgres    $pg
  admin key   $data/admin.key

A first session, to paste into another terminal:

  export PATH=$bin:\$PATH MERE_API_URL=$api MERE_API_KEY=\$(${sudo}cat $key) MERE_PROJECT=first
  mere projects create --name first
  mere psql -- -c "create table t as select generate_series(1, 10) as n"
  mere branches create --name dev
  mere psql dev  -- -c "delete from t where n > 3; select count(*) from t"
  mere psql main -- -c "select count(*) from t"

The same with curl and psql:

  API=$api/api/v2 KEY=\$(${sudo}cat $key)
  URI=\$(curl -s \$API/projects -H "Authorization: Bearer \$KEY" -H 'Content-Type: application/json' \\
        -d '{"project":{"name":"first-curl"}}' | sed 's/.*"connection_uri": *"\([^"]*\)".*/\1/')
  psql "\$URI" -c 'select version()'

TEXT
    if ! getent hosts ep-any-name-at-all.localhost >/dev/null; then
        cat <<TEXT
The connection strings above work as they are.  To use the host names in the API's answers (ep-….localhost) as well,
let *.localhost resolve: apt-get install libnss-myhostname

TEXT
    fi
}

reader() {
    trap '' INT TERM HUP
    while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in
        "ready api="*)
            # ready api=http://HOST:PORT postgres=HOST:PORT store=DRIVER
            read -r _ api pg store _ <<<"$line"
            session "${api#api=}" "${pg#postgres=}" "${store#store=}"
            ;;
        esac
    done
}

# shellcheck disable=SC2086 # RUN_ARGS is a list of words
exec build/bin/mered --data "$data" ${RUN_ARGS:-} "$@" > >(reader)
