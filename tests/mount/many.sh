# A thousand images: nothing of them is read at mount, and an idle daemon is small.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img strace python3
requires_fuse

COUNT=1000

make_store() {
    mkdir -p store/dir one
    qemu-img create -q -f qcow2 one/image.qcow2 1G
    qemu-img snapshot -c s one/image.qcow2
    local i
    for ((i = 0; i < COUNT; i++)); do
        cp one/image.qcow2 "store/image-$i.qcow2"
    done
}

# Calls of a daemon that touch an image, from its start to its end, when nobody looks at the tree.
touched_at_mount() { # STORE
    mkdir -p traced
    ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f --seccomp-bpf -y -s 300 -o trace \
        -e trace=open,openat,openat2,pread64,read,getdents64 "$SNAPTREE" -f "$TMP/$1" "$TMP/traced" 2>/dev/null &
    local pid=$!
    PIDS+=("$pid")
    wait_for mountpoint -q traced
    unmount_store traced
    wait "$pid" || fail "the daemon ended with status $?"
    [ -s trace ] || fail "strace has seen nothing"
    grep -c "image.*\.qcow2" trace || true
}

listing_is_complete() {
    assert_eq "$(ls mnt | grep -c '^image-')" $COUNT "images listed"
    assert_eq "$(find mnt -name disk | wc -l)" $COUNT "disks found"
    assert_eq "$(find mnt/image-7*.qcow2/snapshots -type f | wc -l)" 111 "snapshots found"
}

# Of the daemon and the process that serves, together.
rss_kib() {
    awk '/^VmRSS/ { sum += $2 } END { print sum }' "/proc/$1/status" "/proc/$(worker_of "$1")/status"
}

# While there are threads, the kernel takes milliseconds to make more room for open files.
has_room_for_files() { # DAEMON
    local wanted room
    wanted=$(ulimit -H -n)
    [ "$wanted" != unlimited ] && [ "$wanted" -lt 4096 ] || wanted=4096
    room=$(awk '/^FDSize/ { print $2 }' "/proc/$(worker_of "$1")/status")
    [ "$room" -ge "$wanted" ] || fail "room for $room open files, not $wanted"
}

make_store
assert_eq "$(touched_at_mount one)" 0 "calls that touch the one image at mount"
assert_eq "$(touched_at_mount store)" 0 "calls that touch any of $COUNT images at mount"

mount_store "$TMP/store" "$TMP/mnt"
PID=$(daemon_of "$TMP/mnt") || fail "no daemon"
has_room_for_files "$PID"
RSS=$(rss_kib "$PID")
echo "resident after mounting: $RSS KiB"
[ -n "${SANITIZED:-}" ] || [ "$RSS" -lt 30720 ] || fail "the idle daemon has $RSS KiB"
listing_is_complete
RSS=$(rss_kib "$PID")
echo "resident after listing everything: $RSS KiB"
[ -n "${SANITIZED:-}" ] || [ "$RSS" -lt 65536 ] || fail "after listing the daemon has $RSS KiB"
# Commands on many images in one write.
for i in $(seq 0 19); do
    echo "take image-$i.qcow2 t"
done >lines
cat lines >mnt/control || fail "commands on twenty images"
check_clean store/image-0.qcow2 store/image-19.qcow2
unmount_store mnt
