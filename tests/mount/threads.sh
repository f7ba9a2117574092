# Many readers, listings and commands at once, on one image and on many; images that come and go,
# readers that are killed. With a daemon that is built with ThreadSanitizer, that has nothing to
# say in the end.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

TRAFFIC=$SRCDIR/tests/mount/traffic.py

python3 "$TRAFFIC" prepare "$TMP/store"
mkdir mnt
TSAN_OPTIONS="log_path=$TMP/tsan exitcode=66 io_sync=0 halt_on_error=0 second_deadlock_stack=1" \
    "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>daemon.log &
DAEMON=$!
PIDS+=("$DAEMON")
wait_for mountpoint -q mnt
python3 "$TRAFFIC" "${TRAFFIC_SECONDS:-6}" "${TRAFFIC_SEED:-threads}" "$TMP/store" "$TMP/mnt" "$(worker_of "$DAEMON")" || fail "see above"
unmount_store mnt
wait "$DAEMON" || STATUS=$?
complaints tsan* daemon.log >said 2>/dev/null || true
assert_eq "${STATUS:-0}" 0 "status of the daemon, which said: $(head -c 8000 said)"
[ ! -s said ] || fail "the daemon said: $(head -c 8000 said)"
python3 "$TRAFFIC" verify "$TMP/store" || fail "see above"
check_clean store/*.qcow2
