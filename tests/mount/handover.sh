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

# Whether a thread is in close, which has the number 3 on x86-64, and 57 on most others.
is_between() {
    has_no_writer && grep -qE '^(3|57) ' "/proc/$WORKER/task/"*/syscall
}

# Who reads waits for the end of the command, and looks then.
waits_or_has_ended() { # PID
    is_gone "$1" || grep -q request_wait_answer "/proc/$1/wchan"
}

mkdir store mnt
uniform_image "$IMAGE" 1M 1
DEVICE=$(stat -c %d "$IMAGE")
PLACE=$(printf '%02x:%02x:%s' $((DEVICE >> 8)) $((DEVICE & 255)) "$(stat -c %i "$IMAGE")")
start_daemon
exec 4<mnt/web.qcow2/disk
head -c 512 <&4 >first

# Right behind its locks the command drops the file. Held up is first the sync before, and when all
# stands still, that.
hold_up "$WORKER" fdatasync 1
(
    control mnt/web.qcow2/control 'take one'
    echo "$STATUS $OUTPUT" >result
) &
COMMANDER=$!
wait_for has_writer
on_exit "kill -CONT $WORKER"
kill -STOP "$WORKER"
wait_for grep -q 'stopped by SIGSTOP' trace
go_on
hold_up "$WORKER" close 1 -P "$TMP/$IMAGE"
kill -CONT "$WORKER"
wait_for is_between

qemu-io -c 'write -q -P 2 0 64K' -c 'sleep 600000' "$IMAGE" &
MACHINE=$!
PIDS+=("$MACHINE")
wait_for has_writer
[ ! -e result ] || fail "the command had ended before the machine was there"
python3 - <<'END' &
import errno, os, sys

try:
    sys.exit("%r" % os.pread(4, 4, 0))
except OSError as error:
    if error.errno != errno.EBUSY:
        sys.exit(str(error))
END
READER=$!
wait_for waits_or_has_ended "$READER"
go_on
wait "$READER" || fail "the disk of a running machine is read"
wait "$COMMANDER"
assert_eq "$(cat result)" "0 " "the command"
kill "$MACHINE"
exec 4<&-
