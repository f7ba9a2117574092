# A long command shows how far it is, and a signal to its writer stops it. A tracer makes the daemon
# so slow that a command takes a minute, and lets go of it when what there is to see has been seen.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io strace python3 setpriv
requires_fuse
requires_root # to trace the process that serves

NOW='[0-9]{4}-[0-9-]{5}T[0-9:]{8}Z'

# Small clusters, and every table of them by itself: many reads.
uniform_image image.qcow2 8M 5 -o cluster_size=512
mkdir store mnt
cp image.qcow2 store/slow.qcow2
cp image.qcow2 store/other.qcow2

start_daemon -o allow_other

slow_down() {
    strace -f -o /dev/null -e trace=pread64 -e inject=pread64:delay_enter=200000 -p "$WORKER" 2>/dev/null &
    TRACER=$!
    PIDS+=("$TRACER")
    wait_for is_traced "$WORKER"
}

let_go() {
    kill "$TRACER"
    wait "$TRACER" || true
}

# Start a command in the background; it is running when this returns. $WRITER is who waits for it.
start() { # CONTROL LINE
    env --default-signal=INT,TERM sh -c 'echo "$2" >"$1"' sh "$1" "$2" 2>writer.log &
    WRITER=$!
    PIDS+=("$WRITER")
    wait_for grep -qE "^$NOW [0-9]+% $2\$" "$1"
}

percent() { # CONTROL
    sed -nE "s/^$NOW ([0-9]+)% .*/\1/p" "$1"
}

shows_how_far_it_is() {
    slow_down
    start mnt/slow.qcow2/control "take slow"
    local first second
    first=$(percent mnt/slow.qcow2/control)
    assert_eq "$(grep -c % mnt/other.qcow2/control)" 0 "commands that run on another image"
    timeout 60 cmp -n 4096 mnt/slow.qcow2/disk <(head -c 4096 /dev/zero | tr '\0' '\5') || fail "reading next to a command"
    [ -n "$(percent mnt/slow.qcow2/control)" ] || fail "a read waits until the command is over"
    wait_for bash -c "p=\$(sed -nE 's/^$NOW ([0-9]+)% .*/\1/p' mnt/slow.qcow2/control); [ \"\${p:-100}\" -gt ${first:-0} ]"
    second=$(percent mnt/slow.qcow2/control)
    [ -z "$second" ] || [ "$second" -le 99 ] || fail "$second percent"
    let_go
    wait "$WRITER" || fail "the command failed: $(tail -n1 mnt/slow.qcow2/control)"
    assert_match "$(tail -n1 mnt/slow.qcow2/control)" "^$NOW ok take slow$"
}

# Nothing has changed, and the next command works.
assert_stopped() { # CONTROL LINE
    local status=0 before=$3
    wait "$WRITER" || status=$?
    [ "$status" != 0 ] || fail "the writer of '$2' does not know that it was stopped"
    wait_for grep -qE "^$NOW ECANCELED $2: cancelled" "$1"
    assert_eq "$(sha256sum <store/other.qcow2)" "$before" "the image after '$2' was stopped"
}

stops_on_a_signal() {
    local before signal
    before=$(sha256sum <store/other.qcow2)
    slow_down
    for signal in INT TERM KILL; do
        start mnt/other.qcow2/control "take $signal"
        kill -"$signal" "$WRITER"
        assert_stopped mnt/other.qcow2/control "take $signal" "$before"
    done
    start mnt/control "take other.qcow2 by-store"
    assert_match "$(tail -n1 mnt/other.qcow2/control)" "^$NOW [0-9]+% take by-store$"
    kill "$WRITER"
    assert_stopped mnt/control "take other.qcow2 by-store" "$before"
    let_go
    check_clean store/other.qcow2
}

# Write a command, and send the writer a signal when he waits.
wait_in_line() { # FILE LINE
    env --default-signal=TERM sh -c 'echo "$1" >"$0"' "$1" "$2" 2>writer.log &
    WRITER=$!
    PIDS+=("$WRITER")
    wait_for bash -c "[[ \$(readlink /proc/$WRITER/fd/1) == */control ]]"
    wait_for grep -q request_wait_answer "/proc/$WRITER/wchan"
    kill "$WRITER"
    ! wait "$WRITER" || fail "the writer does not know that it was stopped"
}

# A command that waits behind another is answered at once, and never run. (Of two writers to one
# control file the second waits in the kernel; these are two files.) So it is by another name.
stops_in_the_line() {
    local first alias=mnt/alias.qcow2/control
    slow_down
    start mnt/other.qcow2/control "take first"
    first=$WRITER
    wait_in_line mnt/control "take other.qcow2 waiting"
    let_go
    wait "$first" || fail "the command before it failed"
    assert_eq "$(sed -nE "s/^$NOW ([A-Za-z]+ take (first|waiting)).*/\1/p" mnt/other.qcow2/control | tr '\n' ' ')" \
        "ECANCELED take waiting ok take first " "the results, in this order"
    assert_match "$(tail -n1 mnt/control)" "ECANCELED take other.qcow2 waiting: cancelled by a signal before it began"
    [ ! -e mnt/other.qcow2/snapshots/waiting ] || fail "what was cancelled has been run"

    ln store/other.qcow2 store/alias.qcow2
    slow_down
    start mnt/other.qcow2/control "take second"
    first=$WRITER
    wait_in_line $alias "take waiting"
    let_go
    wait "$first" || fail "the command before it failed"
    assert_match "$(tail -n1 $alias)" "ECANCELED take waiting: cancelled by a signal before it began"
    rm store/alias.qcow2
    control_ok mnt/other.qcow2/control "delete first" "delete second"
}

# A first signal that means nothing does not hide the second, which does.
stops_on_a_second_signal() {
    local before status=0
    before=$(sha256sum <store/other.qcow2)
    slow_down
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGWINCH, lambda *_: None)
os.write(os.open(sys.argv[1], os.O_WRONLY), b"take second")' mnt/other.qcow2/control 2>writer.log &
    WRITER=$!
    wait_for grep -qE "^$NOW [0-9]+% take second$" mnt/other.qcow2/control
    kill -WINCH "$WRITER"
    sleep 0.3
    kill -TERM "$WRITER"
    assert_stopped mnt/other.qcow2/control "take second" "$before"
    let_go
}

# Asynchronous writes (libaio) return before their commands have run: one user has 16 under way and
# no more, everybody else reads beside them, and none outlives who has written. What root writes to
# what a user has opened counts as that user's.
asynchronous_writes() { # UID
    cat >writer.py <<'END'
import ctypes, errno, mmap, os, struct, sys
setup, getevents, submit = (206, 208, 209) if os.uname().machine == "x86_64" else (0, 4, 2)
libc = ctypes.CDLL(None, use_errno=True)
os.setegid(65534)
os.seteuid(65534)
fd = os.open("mnt/control", os.O_WRONLY | os.O_DIRECT)
os.seteuid(0)
os.setresuid(*[int(sys.argv[1])] * 3)
page = mmap.mmap(-1, 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
page[:] = b"#" * 4095 + b"\n"
assert os.pwrite(fd, page, 0) == 4096  # now the kernel takes the file to be so long
page[:] = b"check other.qcow2\n".ljust(4095, b"#") + b"\n"
context = ctypes.c_ulong(0)
assert libc.syscall(setup, 70, ctypes.byref(context)) == 0
for i in range(70):
    block = ctypes.create_string_buffer(struct.pack("<QIiHhIQQqQII", i, 0, 0, 1, 0, fd, address, 4096, 0, 0, 0, 0))
    assert libc.syscall(submit, context, 1, (ctypes.c_void_p * 1)(ctypes.addressof(block))) == 1
for i in range(70 - 16):
    event = ctypes.create_string_buffer(32)
    assert libc.syscall(getevents, context, 1, 1, event, None) == 1
    result = struct.unpack("<QQqq", event.raw)[2]
    assert result == -errno.EAGAIN, "a write that was let in has ended: %d" % result
open("submitted", "w").close()
os.read(0, 1)
END
    rm -f end submitted
    mkfifo end
    slow_down
    timeout -s KILL 100 setpriv --clear-groups /usr/bin/python3 writer.py "$1" <end 2>writer.log &
    WRITER=$!
    exec 3>end
    wait_for bash -c "[ -e submitted ] || ! kill -0 $WRITER"
    [ -e submitted ] || fail "the writer: $(<writer.log)"
    assert_eq "$(head -c 4096 mnt/slow.qcow2/snapshots/slow | tr -d '\005' | wc -c)" 0 "bytes that are wrong, read meanwhile"
    assert_match "$(grep -c ' EAGAIN (4096 bytes): ' mnt/control)" "^[1-9]" "writes that were refused"
    exec 3>&-
    wait "$WRITER" || fail "the writer: $(<writer.log)"
    let_go
    assert_match "$(grep -c ' ECANCELED check other.qcow2: cancelled as its writer is gone' mnt/control)" "^[1-9]" "commands that went with their writer"
    control_ok mnt/control "take other.qcow2 later" "delete other.qcow2 later"
}

# A signal that a program handles and goes on after is no reason to stop.
goes_on_after_other_signals() {
    slow_down
    python3 - mnt/other.qcow2/control <<'END' &
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: open("signalled", "w").close())
fd = os.open(sys.argv[1], os.O_WRONLY)
assert os.write(fd, b"take undisturbed\n") == 17
END
    WRITER=$!
    PIDS+=("$WRITER")
    wait_for grep -qE "^$NOW [0-9]+% take undisturbed$" mnt/other.qcow2/control
    kill -ALRM "$WRITER"
    wait_for has_been_interrupted "$WRITER"
    sleep 0.3 # time to do it wrong
    let_go
    wait "$WRITER" || fail "the writer's status is $?"
    [ -e signalled ] || fail "no signal came"
    [ -e mnt/other.qcow2/snapshots/undisturbed ] || fail "no snapshot"
}

shows_how_far_it_is
stops_on_a_signal
stops_on_a_second_signal
stops_in_the_line
goes_on_after_other_signals
chown 65534 store/other.qcow2
chmod 777 .
asynchronous_writes 0
asynchronous_writes 65534
check_clean store/slow.qcow2 store/other.qcow2
unmount_store "$TMP/mnt"
