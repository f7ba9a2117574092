# shellcheck shell=bash
# What the scripts share. Sourced by them; sets root (the checkout) and builds.
#
# SNAPTREE_BUILD names another directory than build/ for the build trees.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
builds=${SNAPTREE_BUILD:-$root/build}

# mke2fs, losetup and the like are not on an ordinary user's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

note() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Run a command and show its output only when it fails.
quietly() {
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
        return 0
    fi
    cat "$log" >&2
    rm -f "$log"
    return 1
}

# without_randomisation COMMAND...: kernels with much address randomisation break the sanitizers of
# Debian 12. Run a command without it, where a process may choose that.
without_randomisation() {
    if setarch -R true 2>/dev/null; then
        setarch -R "$@"
    else
        "$@"
    fi
}

# configure PRESET [cmake argument...]: set up the build tree of a preset.
configure() {
    local preset=$1
    shift
    (cd "$root" && quietly cmake --preset "$preset" -B "$builds/$preset" "$@")
}

# compile PRESET [target...]: build it all, or only the targets.
compile() {
    local tree=$builds/$1
    shift
    quietly cmake --build "$tree" ${1:+--target "$@"}
}

# The daemon of the release build alone; needs only the packages of the group build.
build_snaptree() {
    configure release -DSNAPTREE_TESTS=OFF
    compile release snaptree
}

# The same, and what scripts/bench compares with.
build_bench() {
    configure release -DSNAPTREE_TESTS=OFF -DSNAPTREE_BENCH=ON
    compile release snaptree floor
}
