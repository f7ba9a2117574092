# The locks of a command are dropped a moment before the command has ended. A machine that starts in
# between is seen by who reads the disk, like any other.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 strace
requires_root
requires_fuse

IMAGE=store/web.qcow2

# Whether a program has a lock on the image that keeps writers out.
has_writer() {
    grep -qE "OFDLCK .* $PLACE (201|203) " /proc/locks
}

has_no_writer() {
    ! has_writer
}

mkdir store mnt
uniform_image "$IMAGE" 1M 1
DEVICE=$(stat -c %d "$IMAGE")
PLACE=$(printf '%02x:%02x:%s' $((DEVICE >> 8)) $((DEVICE & 255)) "$(stat -c %i "$IMAGE")")
start_daemon
exec 4<mnt/web.qcow2/disk
head -c 512 <&4 >first

# Right behind its locks the command drops the file: whoever does that takes long. And its syncs do,
# so that the locks are not missed.
strace -f -q -o /dev/null -e trace=close,fdatasync -P "$TMP/$IMAGE" -e inject=close:delay_enter=1500000 \
    -e inject=fdatasync:delay_enter=300000 -p "$WORKER" &
STRACE=$!
PIDS+=("$STRACE")
wait_for grep -q "^TracerPid:[[:space:]]*$STRACE\$" "/proc/$WORKER/status"
(
    control mnt/web.qcow2/control 'take one'
    echo "$STATUS $OUTPUT" >result
) &
COMMANDER=$!
wait_for has_writer
wait_for has_no_writer

qemu-io -c 'write -q -P 2 0 64K' -c 'sleep 20000' "$IMAGE" &
MACHINE=$!
PIDS+=("$MACHINE")
wait_for has_writer
[ ! -e result ] || fail "the command had ended before the machine was there"
python3 - <<'END' || fail "the disk of a running machine is read"
import errno, os, sys

try:
    sys.exit("%r" % os.pread(4, 4, 0))
except OSError as error:
    if error.errno != errno.EBUSY:
        sys.exit(str(error))
END
wait "$COMMANDER"
assert_eq "$(cat result)" "0 " "the command"
kill "$MACHINE"
exec 4<&-
