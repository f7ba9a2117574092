# Random traffic of all kinds for a while (scripts/soak: for long): what the daemon holds, memory
# and descriptors, does not grow, and every image holds in the end what the model says.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

TRAFFIC=$SRCDIR/tests/mount/traffic.py
MARGIN_KIB=6144 # what an allocator keeps more at one time than at another
MARGIN_FDS=40   # at the moment of a sample: each of 20 workers has two files open

descriptors() {
    find "/proc/$DAEMON/fd" -type l | wc -l
}

descriptors_are_back() {
    [ "$(descriptors)" -le "$IDLE" ]
}

python3 "$TRAFFIC" prepare "$TMP/store"
# One heap for all threads: what it has is what is in use, more or less.
MALLOC_ARENA_MAX=1 mount_store "$TMP/store" "$TMP/mnt" -o cache=4
ls mnt >/dev/null
DAEMON=$(worker_of "$(daemon_of "$TMP/mnt")")
IDLE=$(descriptors)
python3 "$TRAFFIC" "${TRAFFIC_SECONDS:-15}" "${TRAFFIC_SEED:-traffic}" "$TMP/store" "$TMP/mnt" "$DAEMON" || fail "see above"
[ -n "${SANITIZED:-}" ] || python3 "$TRAFFIC" flat "$TMP/store" $MARGIN_KIB $MARGIN_FDS || fail "see above"
# An image that nobody asks for is closed after a few seconds.
wait_for descriptors_are_back
unmount_store mnt
python3 "$TRAFFIC" verify "$TMP/store" || fail "see above"
check_clean store/*.qcow2
