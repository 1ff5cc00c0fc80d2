#!/bin/bash
# fresh.sh - does what the README promises hold on a machine that has nothing?
#
# Bootstraps a minimal Debian 12 into build/fresh, puts the committed tree (git archive HEAD) into it, and there runs
# `make run` (until the ready line, then a session with curl and psql, then Ctrl-C) and `make test`: as root, then in a second
# copy as an ordinary user with sudo.  Each goes into mount and process namespaces of its own, so that whatever happens, ending
# them takes every process and mount with them.  Nothing outside build/fresh is changed.
#
#   fresh.sh [root] [user]     default: both
#   FRESH_TESTS=unit           only the unit tests instead of `make test`
#   FRESH_FROM=worktree        the tree as it lies here instead of the committed one
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
home=$root/build/fresh
base=$home/bookworm.tar
release=bookworm

die() {
    printf 'fresh: %s\n' "$*" >&2
    exit 1
}

# --- outside: the base system, a copy of it, the namespaces --------------------------------------------------------------------

# The mirror this machine installs from, when it is a Debian one; else the public one.
mirror() {
    local found

    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        grep -oE '^(deb (\[[^]]*\] )?|URIs: *)(https?|file)://[^ ]+' | grep -oE '(https?|file)://[^ ]+' |
        grep -E '/debian/?$' | head -n 1 || true)
    echo "${found:-http://deb.debian.org/debian}"
}

# debootstrap and apt inside use the same proxy as apt here.
proxy() { apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p'; }

bootstrap() {
    local tree=$home/base from

    [ ! -s "$base" ] || return 0
    from=$(mirror)
    echo "fresh: bootstrapping $release from $from"
    rm -rf --one-file-system "$tree"
    env ${http_proxy:+http_proxy=$http_proxy} debootstrap --variant=minbase "$release" "$tree" "$from" >"$home/debootstrap.log" 2>&1 ||
        die "debootstrap failed; see $home/debootstrap.log"
    # What a user's machine has and a bare root lacks: security updates when the mirror carries them, and apt's proxy.
    if [ -n "$(proxy)" ]; then
        printf 'Acquire::http::Proxy "%s";\n' "$(proxy)" >"$tree/etc/apt/apt.conf.d/90proxy"
    fi
    tar -C "$tree" --one-file-system -cf "$base.new" .
    mv "$base.new" "$base"
    rm -rf --one-file-system "$tree"
}

# A new root with the committed tree in /srv/mere.
unpack() {
    local tree=$1

    rm -rf --one-file-system "$tree"
    mkdir -p "$tree"
    tar -C "$tree" -xf "$base"
    mkdir -p "$tree/srv/mere"
    if [ "${FRESH_FROM:-HEAD}" = worktree ]; then
        git ls-files -co --exclude-standard -z | tar -c --null --ignore-failed-read -T - | tar -C "$tree/srv/mere" -x
    else
        git archive HEAD | tar -C "$tree/srv/mere" -x
    fi
    cp /etc/resolv.conf "$tree/etc/resolv.conf"
    cp /etc/hosts "$tree/etc/hosts"
    printf 'exit 101\n' | install -m 0755 /dev/stdin "$tree/usr/sbin/policy-rc.d"
}

enter() {
    local who=$1 tree=$home/$1

    unpack "$tree"
    echo "fresh: as $who, log in $home/$who.log"
    : >"$home/$who.log" # then appended to, by programs that open it again as well
    if unshare --mount --pid --fork --kill-child --propagation private \
        "$0" --inside "$tree" "$who" >>"$home/$who.log" 2>&1; then
        grep -E '^fresh: ' "$home/$who.log"
    else
        tail -n 40 "$home/$who.log" >&2
        die "failed as $who; all of it is in $home/$who.log"
    fi
    rm -rf --one-file-system "$tree"
}

# --- inside the namespaces, still with the tools of this machine -----------------------------------------------------------------

inside() {
    local tree=$1 who=$2

    mount --bind "$tree" "$tree"
    mount -t proc proc "$tree/proc"
    mount --rbind /sys "$tree/sys"
    mount --rbind /dev "$tree/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
    mount -t tmpfs -o mode=0755 tmpfs "$tree/run"
    # Below the bind every mount belongs to this namespace and ends with it.
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/root \
        ${http_proxy:+http_proxy=$http_proxy} ${FRESH_TESTS:+FRESH_TESTS=$FRESH_TESTS} \
        chroot "$tree" /bin/bash /srv/mere/tools/fresh.sh --chroot "$who"
}

# --- in the new Debian -----------------------------------------------------------------------------------------------------------

# What a user has typed before the README begins: apt knows its packages, make is there, and sudo when not root.
prepare() {
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends make "$@"
}

# Puts the words in front that make a command run as the one this is about (array `run_as`).
set_run_as() {
    run_as=(env)
    [ "$who" = root ] || run_as=(setpriv --reuid=mere --regid=mere --init-groups env HOME=/home/mere USER=mere)
}

# Reads lines of $1 until one begins with `ready`; says how long it may take by the caller's timeout.
await_ready() {
    local line

    while IFS= read -r line; do
        printf '%s\n' "$line" >&2
        case $line in "ready "*)
            printf '%s\n' "$line"
            return 0
            ;;
        esac
    done <"$1"
    return 1
}

# The curl and psql session of the README against the running server.
session() {
    local api=$1 key=$2 uri

    uri=$(curl -fsS "$api/api/v2/projects" -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d '{"project":{"name":"hello"}}' | sed 's/.*"connection_uri": *"\([^"]*\)".*/\1/')
    [ "$(psql -X -A -t "$uri" -c 'create table t as select generate_series(1, 10) as n' -c 'select count(*) from t' | tail -n 1)" = 10 ] ||
        die "the session with psql gave a wrong answer"
    # And what the README shows with mere, which finds the server and the key by itself.
    "${run_as[@]}" build/bin/mere branches create dev
    [ "$("${run_as[@]}" build/bin/mere psql dev -- -X -A -t -c 'select count(*) from t')" = 10 ] || die "the branch has not its parent's rows"
    echo "fresh: $who: a project, a branch, psql on both: right"
}

run_make_run() {
    local out ready pid key status=0

    out=$(mktemp -u)
    mkfifo -m 0666 "$out"
    # With job control the job is a process group of its own that does not ignore SIGINT: one signal to it is what Ctrl-C is.
    set -m
    "${run_as[@]}" make run >"$out" 2>"$out.err" &
    pid=$!
    set +m
    exec 9<"$out"
    ready=$(await_ready /dev/fd/9) || {
        cat "$out.err" >&2
        die "make run ended before it was ready (are the ports 7432 and 7433 free?)"
    }
    cat <&9 >"$out.rest" &
    read -r _ api _ <<<"$ready"
    key=$(cat data/admin.key)
    session "${api#api=}" "$key"
    kill -INT -- "-$pid"
    wait "$pid" || status=$?
    exec 9<&-
    case $status in 0 | 2 | 130) ;; *) die "make run ended with status $status after Ctrl-C" ;; esac
    ! pgrep_ours || die "Ctrl-C left processes: $(pgrep_ours)"
    grep -qF 'A first session' "$out.rest" || die "make run showed no first session"
    echo "fresh: $who: make run: ready, session, Ctrl-C, nothing left"
}

# Programs of ours and Postgres that still run in this process namespace.
pgrep_ours() {
    local p found=1

    for p in /proc/[0-9]*/exe; do
        case $(readlink "$p" 2>/dev/null) in */postgres | */mered | */mere-*)
            echo "$p"
            found=0
            ;;
        esac
    done
    return $found
}

cluster_untouched() {
    if compgen -G '/var/lib/postgresql/*/*' >/dev/null || compgen -G '/etc/postgresql/*/*' >/dev/null; then
        die "Debian's own cluster was made"
    fi
    echo "fresh: $who: Debian's own cluster was not made"
}

run_make_test() {
    local last words=(test)

    [ -z "${FRESH_TESTS:-}" ] || words=(deps-test "$FRESH_TESTS")
    last=$("${run_as[@]}" make "${words[@]}" | tee -a /dev/stderr | tail -n 1) || die "make ${words[*]} failed: $last"
    echo "fresh: $who: make ${words[*]}: $last"
}

in_chroot() {
    who=$1
    ip link set lo up 2>/dev/null || true
    if [ "$who" = root ]; then
        prepare
    else
        prepare sudo
        useradd -m -s /bin/bash mere
        printf 'mere ALL=(ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/mere
        mv /srv/mere /home/mere/mere
        chown -R mere: /home/mere/mere
    fi
    if [ "$who" = root ]; then
        cd /srv/mere
    else
        chmod 0700 /home/mere
        cd /home/mere/mere
    fi
    set_run_as
    run_make_run
    cluster_untouched
    run_make_test
}

case ${1:-} in
--inside)
    inside "$2" "$3"
    ;;
--chroot)
    in_chroot "$2"
    ;;
*)
    [ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
    tools/deps.sh fresh
    [ "${FRESH_FROM:-HEAD}" = worktree ] || git rev-parse -q --verify HEAD >/dev/null || die "nothing is committed yet"
    mkdir -p "$home"
    bootstrap
    [ $# -gt 0 ] || set -- root user
    for who in "$@"; do
        case $who in root | user) enter "$who" ;; *) die "who is $who? root or user" ;; esac
    done
    echo "fresh: all passed"
    ;;
esac
