# What the tests share of how a daemon ends. They source it first.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

IMAGE=store/web.qcow2
# What a mount without a daemon answers; the others for a moment, where requests came over io_uring.
# shellcheck disable=SC2034 # for the tests
DEAD="($(message_of ENOTCONN)|$(message_of ECONNABORTED)|$(message_of ECANCELED))"
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" # what is open when it ends is the kernel's to free

# A daemon in the background: $DAEMON, and $WORKER, the process in it that serves.
start() {
    "$SNAPTREE" "$TMP/store" "$TMP/mnt" || fail "cannot mount"
    ls mnt >/dev/null # once it serves, it has its worker
    DAEMON=$(daemon_of "$TMP/mnt") || fail "no daemon"
    WORKER=$(worker_of "$DAEMON")
}

snapshots() {
    qemu-img snapshot -l "$IMAGE" | awk 'NR > 2 { print $2 }' | sort | tr '\n' ' '
}

# Nothing is left: no mount, no process, no lock, and the image is sound.
assert_nothing_left() { # SNAPSHOTS WHEN
    wait_for is_gone "$DAEMON"
    wait_for is_gone "$WORKER"
    ! mountpoint -q mnt || fail "mounted $2"
    ls mnt >/dev/null || fail "a dead mount point $2"
    ! daemon_of "$TMP/mnt" || fail "a process is left $2"
    qemu-io -c "write -q -P 1 0 64K" "$IMAGE" || fail "the image is locked $2"
    check_clean "$IMAGE"
    [ "$1" = any ] || assert_eq "$(snapshots)" "$1" "snapshots $2"
}

make_ends_store() {
    mkdir store mnt
    qemu-img create -q -f qcow2 "$IMAGE" 16M
    scribble "$IMAGE" ends 0 10000000
    qemu-img snapshot -c a "$IMAGE"
    qemu-img convert -O raw "$IMAGE" a.raw
    scribble "$IMAGE" more 1000000 5000000
}
