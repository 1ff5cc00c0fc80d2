#!/bin/bash
# deps.sh - installs the Debian packages that are missing: deps.sh run [test] [drivers] [clients] [terraform] [lint] [fuzz] [fresh] [deb]
#
# Never asks, installs no recommendations, does nothing when all are there.  sudo only when not root and something is missing.
# Debian's own cluster is neither made nor touched: a drop-in says so before postgresql arrives.  Nor does Debian's own
# pgbouncer run: it is installed switched off.  For `run` it is optional: taken along where nobody has to be asked for it.
#
# `drivers`, the clients that tests/e2e/test_drivers.py tries, is Debian's too.  Only where a node that is not Debian's is there, beside
# which its node-pg cannot be installed, npm puts node-postgres into build/drivers; without it those tests are skipped by name.
#
# `clients`, those of Neon's API that tests/e2e/test_neon_clients.py runs, are npm's alone: into build/clients, in these very versions.
# They want node 20 or later; without it, or without npm, those tests are skipped by name.
#
# `terraform`, what our provider for Terraform stands on, is npm's as well: into build/terraform, in the versions of its package.json.
set -euo pipefail

RUN="gcc libc6-dev make libmicrohttpd-dev libjansson-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev libssl-dev
     curl btrfs-progs mount"
OPTIONAL="pgbouncer"
TEST="pgbouncer check python3 python3-pytest python3-pytest-xdist python3-yaml python3-psycopg2 xfsprogs"
DRIVERS="python3-psycopg libpostgresql-jdbc-java"
LINT="clang clang-format shellcheck python3-yaml"
FUZZ="clang libclang-rt-dev"
NODE_DRIVERS="pg@8 pg-copy-streams@7 pg-cursor@2"
NEON_CLIENTS="neonctl5@npm:neonctl@5.0.1 neonctl2@npm:neonctl@2.22.0 @neondatabase/api-client@2.7.3 @neon/sdk@6.0.0"
FRESH="debootstrap"
DEB="debhelper dpkg-dev fakeroot lintian check python3"

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

# Root without a question.
is_easy() {
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Any major version of Postgres will do; Debian's own is installed only where there is none.
postgres_packages() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || echo postgresql
    command -v psql >/dev/null || echo postgresql-client
}

# A node whose package, if it has one, is not what node-pg depends on.
foreign_node() {
    command -v node >/dev/null && ! dpkg-query -W -f='${Version}' nodejs 2>/dev/null | grep -q '[+~]dfsg'
}

# npm_packages DIR PACKAGE...: into build/DIR, unless these very ones are there.
npm_packages() {
    local dir

    dir=$(cd "$(dirname "$0")/.." && pwd)/build/$1
    shift
    [ "$(cat "$dir/packages" 2>/dev/null)" != "$*" ] || return 0
    command -v npm >/dev/null || return 1
    mkdir -p "$dir"
    npm install --prefix "$dir" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error "$@" >&2 || return 1
    echo "$*" >"$dir/packages"
}

node_is_new() {
    command -v node >/dev/null && [ "$(node --version | sed 's/^v\([0-9]*\).*/\1/')" -ge 20 ]
}

# NAME@VERSION of each dependency.
provider_packages() {
    sed -n '/"dependencies"/,/}/s/^ *"\(.*\)": "\([0-9.]*\)",\{0,1\}$/\1@\2/p' "$(dirname "$0")/../contrib/terraform/provider/package.json"
}

# Any JDK will do.
driver_packages() {
    command -v javac >/dev/null || echo default-jdk-headless
    foreign_node || echo node-pg
}

wanted=""
for group in "$@"; do
    case $group in
    run) wanted="$wanted $RUN $(postgres_packages)" ;;
    test) wanted="$wanted $TEST" ;;
    drivers)
        wanted="$wanted $DRIVERS $(driver_packages)"
        # shellcheck disable=SC2086 # a list of packages
        ! foreign_node || npm_packages drivers $NODE_DRIVERS || echo "deps: node-postgres was not installed; its tests are skipped" >&2
        ;;
    clients)
        # shellcheck disable=SC2086 # a list of packages
        { node_is_new && npm_packages clients $NEON_CLIENTS; } ||
            echo "deps: the clients of Neon's API were not installed (npm, and node 20 or later); their tests are skipped" >&2
        ;;
    terraform)
        # shellcheck disable=SC2046 # a list of packages
        { node_is_new && npm_packages terraform $(provider_packages); } ||
            echo "deps: what the provider for Terraform stands on was not installed (npm, and node 20 or later); its tests are skipped" >&2
        ;;
    lint) wanted="$wanted $LINT" ;;
    fuzz) wanted="$wanted $FUZZ" ;;
    fresh) wanted="$wanted $FRESH" ;;
    deb) wanted="$wanted $DEB" ;;
    *) die "unknown group '$group': use run, test, drivers, clients, terraform, lint, fuzz, fresh, deb" ;;
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
optional=""
for package in $OPTIONAL; do
    case " $wanted " in *" $package "*) continue ;; esac
    if ! installed "$package" && is_easy; then optional="$optional $package"; fi
done
optional=${optional# }
[ -n "$missing$optional" ] || exit 0

# Without a word of policy-rc.d the package pgbouncer starts a service of its own on port 6432.
keep_services_off() {
    [ ! -e /usr/sbin/policy-rc.d ] || return 0
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
}

# install PACKAGE...
install() {
    echo "deps: installing $*" >&2
    case " $* " in
    *" postgresql "*)
        as_root mkdir -p /etc/postgresql-common/createcluster.d
        printf '# Written by Mere: it makes its own clusters and leaves 5432 alone.\ncreate_main_cluster = false\n' |
            as_root tee /etc/postgresql-common/createcluster.d/mere.conf >/dev/null
        ;;
    esac
    case " $* " in *" pgbouncer "*) keep_services_off ;; esac
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >&2 || return 1
    case " $* " in *" pgbouncer "*) as_root update-rc.d pgbouncer disable >&2 ;; esac
}

as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >&2 || [ -z "$missing" ] || die "apt-get update failed"
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # a list of package names
    install $missing || die "apt-get could not install: $missing"
fi
for package in $optional; do
    install "$package" || echo "deps: $package was not installed; all works but what needs it (pooled connections)" >&2
done
