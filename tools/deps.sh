#!/bin/bash
# deps.sh - installs the Debian packages that are missing: deps.sh run [test] [lint] [fresh]
#
# Never asks, installs no recommendations, does nothing when all are there.  sudo only when not root and something is missing.
# Debian's own cluster is neither made nor touched: a drop-in says so before postgresql arrives.
set -euo pipefail

RUN="gcc libc6-dev make libmicrohttpd-dev libjansson-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev libssl-dev
     curl btrfs-progs mount"
TEST="check python3 python3-pytest python3-yaml python3-psycopg2 xfsprogs"
LINT="clang clang-format shellcheck python3-yaml"
FRESH="debootstrap"

die() {
    printf 'deps: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        die "packages are missing and neither root nor sudo is at hand; as root: apt-get install $missing"
    fi
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Any major version of Postgres will do; Debian's own is installed only where there is none.
postgres_packages() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || echo postgresql
    command -v psql >/dev/null || echo postgresql-client
}

wanted=""
for group in "$@"; do
    case $group in
    run) wanted="$wanted $RUN $(postgres_packages)" ;;
    test) wanted="$wanted $TEST" ;;
    lint) wanted="$wanted $LINT" ;;
    fresh) wanted="$wanted $FRESH" ;;
    *) die "unknown group '$group': use run, test, lint, fresh" ;;
    esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "deps: not a Debian system; install the counterparts of:$(echo "$wanted" | tr -s ' \n' ' ')" >&2
    exit 0
fi

missing=""
for package in $wanted; do
    case " $missing " in *" $package "*) continue ;; esac
    installed "$package" || missing="$missing $package"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

echo "deps: installing $missing" >&2
case " $missing " in
*" postgresql "*)
    as_root mkdir -p /etc/postgresql-common/createcluster.d
    printf '# Written by Mere: it makes its own clusters and leaves 5432 alone.\ncreate_main_cluster = false\n' |
        as_root tee /etc/postgresql-common/createcluster.d/mere.conf >/dev/null
    ;;
esac
as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >&2
# shellcheck disable=SC2086 # a list of package names
as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends $missing >&2 ||
    die "apt-get could not install: $missing"
