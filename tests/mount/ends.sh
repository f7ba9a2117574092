# However the daemon ends - by signals, killed, by an unmount, in the middle of reads and commands -
# nothing stays mounted or locked that it could take back, no process stays, and every image is as
# before the command or as after it.
IN_MEMORY=1 # so that only the syncs that are held up are slow
. "${SRCDIR:?run by ctest}/tests/mount/ends.bash"
requires strace
requires_root # to trace the process that serves

# In the foreground, with no signal ignored. (The shell lets its background processes ignore INT and
# QUIT.)
start_open_to_signals() { # OPTION...
    env --default-signal "$SNAPTREE" -f "$@" "$TMP/store" "$TMP/mnt" 2>daemon.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    ls mnt >/dev/null # once it serves, it has its worker
    WORKER=$(worker_of "$DAEMON")
}

# The same, held up in the sync of that number of its next command, and in those behind.
start_slow() { # NUMBER
    start_open_to_signals
    SYNC=$1
    hold_up "$WORKER" fdatasync "$SYNC"
}

# Whether a thread is held up so, in fdatasync, which has the number 75 on x86-64, and 83 on most others.
is_in_sync() {
    [ "$(grep -c 'fdatasync.* = 0' trace)" -ge $((SYNC - 1)) ] && grep -qE '^(75|83) ' "/proc/$WORKER/task/"*/syscall
}

# Whether the process that serves knows that it is to end; what is held up has not gone on by then.
knows_the_end() {
    grep -q '^snaptree: ends: ' daemon.log
}

# A command in the background; its status in $TMP/result when it is over.
command_in_background() {
    rm -f result
    (
        control mnt/web.qcow2/control "$1"
        echo "$STATUS $OUTPUT" >result
    ) &
    COMMANDER=$!
}

idle() {
    local signal
    for signal in TERM INT HUP; do
        start
        ls -R mnt >/dev/null
        kill -$signal "$DAEMON"
        assert_nothing_left "a " "after SIG$signal"
    done
}

told_to_end() { # SIGNAL PROCESS
    kill -"$1" "$2"
    wait "$DAEMON" || fail "status $? after SIG$1: $(cat daemon.log)"
    assert_match "$(cat daemon.log)" "snaptree: ends: told to by signal $(kill -l "$1") \\(" "log after SIG$1"
    assert_nothing_left "a " "after SIG$1"
}

# None of the signals that a program may be sent leaves a dead mount, whichever process gets it; and
# nothing ends the daemon without a word.
every_end_is_told() {
    local signal
    for signal in TERM INT HUP QUIT USR1 USR2 ALRM XCPU RTMIN; do
        start_open_to_signals
        told_to_end $signal "$DAEMON"
        [ "$DAEMON" = "$WORKER" ] ||
            assert_match "$(cat daemon.log)" "told to end by signal $(kill -l $signal) \\(.*\\), sent by process $BASHPID of uid $UID" "log"
        start_open_to_signals
        told_to_end $signal "$WORKER"
        start_open_to_signals -o sandbox=off
        told_to_end $signal "$DAEMON"
    done
    start_open_to_signals
    fusermount3 -u mnt
    wait "$DAEMON" || fail "status $? after an unmount: $(cat daemon.log)"
    assert_match "$(cat daemon.log)" "snaptree: ends: unmounted" "log after an unmount"
}

# Nor does it wait for somebody who reads what it says.
with_a_log_that_nobody_reads() {
    local options
    mkfifo log
    exec 9<>log
    on_exit "dd if=$TMP/log of=/dev/null iflag=nonblock 2>/dev/null"
    for options in sandbox=on sandbox=off; do
        "$SNAPTREE" -f -o $options "$TMP/store" "$TMP/mnt" 2>&9 &
        DAEMON=$!
        PIDS+=("$DAEMON")
        wait_for mountpoint -q mnt
        ls mnt >/dev/null # once it serves, it has its worker
        WORKER=$(worker_of "$DAEMON")
        assert_fails dd if=/dev/zero of=log oflag=nonblock bs=4096
        kill -TERM "$DAEMON"
        assert_nothing_left "a " "after SIGTERM with a log that nobody reads"
        dd if=log of=/dev/null iflag=nonblock bs=4096 2>/dev/null || true
    done
    exec 9>&-
    rm log
}

# Whoever has started it with HUP or INT ignored, as nohup and scripts do, means that. TERM always
# ends it.
with_signals_ignored() {
    env --default-signal=TERM --ignore-signal=HUP,INT "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>daemon.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    ls mnt >/dev/null # once it serves, it has its worker
    WORKER=$(worker_of "$DAEMON")
    kill -HUP "$DAEMON" "$WORKER"
    kill -INT "$DAEMON" "$WORKER"
    sleep 6 # longer than the keeper waits for a worker that is to end
    mountpoint -q mnt || fail "ignored signals have ended it: $(cat daemon.log)"
    cmp mnt/web.qcow2/snapshots/a a.raw || fail "reading after ignored signals"
    kill -TERM "$DAEMON"
    wait "$DAEMON" || fail "status $? after ignored signals: $(cat daemon.log)"
    assert_nothing_left "a " "after ignored signals"

    env --ignore-signal=TERM "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>daemon.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    ls mnt >/dev/null
    WORKER=$(worker_of "$DAEMON")
    kill -TERM "$DAEMON"
    wait "$DAEMON" || fail "status $? after an ignored SIGTERM: $(cat daemon.log)"
    ! grep "has not yet" daemon.log || fail "SIGTERM was ignored"
    assert_nothing_left "a " "after a SIGTERM that the caller ignored"
}

# Who ignores the end of its own children does not mean that of ours.
with_ends_of_children_ignored() {
    [ -z "${SANITIZED:-}" ] || return 0 # not confined: one process
    local status=0
    env --ignore-signal=CHLD "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>daemon.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    ls mnt >/dev/null
    WORKER=$(worker_of "$DAEMON")
    kill -KILL "$WORKER"
    wait "$DAEMON" || status=$?
    assert_eq "$status" 137 "status of a daemon whose worker was killed"
    assert_match "$(cat daemon.log)" "was killed by signal 9" "log"
    assert_nothing_left "a " "after an end that the caller ignored"
}

with_files_open() {
    start
    exec 3<mnt/web.qcow2/disk 4<mnt/web.qcow2/snapshots/a 5<>mnt/web.qcow2/control
    head -c 4096 <&3 >/dev/null
    kill -TERM "$DAEMON"
    assert_nothing_left "a " "after SIGTERM with files open"
    assert_fails head -c 4096 <&3
    assert_fails bash -c "echo 'take late' >&5"
    exec 3<&- 4<&- 5<&-
}

# Unmounted while the kernel has a lot to say: a thousand files are closed at that moment.
with_files_just_closed() {
    local holder i
    for i in 1 2 3; do
        start_daemon
        python3 -c 'import os, time
files = [os.open("mnt/web.qcow2/snapshots/a", os.O_RDONLY) for i in range(1000)]
open("ready", "w").close()
time.sleep(60)' &
        holder=$!
        wait_for test -e ready
        kill -KILL $holder
        wait $holder 2>/dev/null || true
        rm ready
        stop_daemon
        assert_nothing_left "a " "after many were closed"
    done
}

# The command that runs is finished, and told; then the daemon ends, with status 0.
in_a_command() {
    local signal
    for signal in TERM INT HUP; do
        start_slow 1
        command_in_background "take $signal"
        wait_for is_in_sync
        kill -$signal "$DAEMON"
        wait_for knows_the_end
        go_on
        wait "$COMMANDER"
        assert_eq "$(cat result)" "0 " "a command during SIG$signal"
        wait "$DAEMON" || fail "status $? after SIG$signal: $(cat daemon.log)"
        assert_nothing_left "$signal a " "after SIG$signal in a command"
        qemu-img snapshot -d $signal "$IMAGE"
    done
}

# Of several lines, and of writes that wait for others, the one that runs is finished; the others are not
# begun, so the daemon does not go on for as long as somebody has thought of things to do.
in_a_list_of_commands() {
    local i own=() store=() writers=()
    for i in $(seq 10); do
        own+=("take own$i")
        store+=("take web.qcow2 store$i")
    done
    start_slow 1
    exec 3>mnt/control
    (control mnt/web.qcow2/control "${own[@]}" && echo "$STATUS $OUTPUT" >own.result) &
    writers+=($!)
    wait_for is_in_sync
    env printf '%s\n' "${store[@]}" >&3 2>store.log &
    writers+=($!)
    kill -TERM "$DAEMON"
    wait_for knows_the_end
    go_on
    wait "${writers[@]}" || true
    assert_match "$(cat own.result)" "^[^0].*$(message_of ECANCELED)" "several lines during SIGTERM"
    exec 3>&-
    assert_match "$(cat store.log)" "$(message_of ECANCELED)|$DEAD" "a write that waits during SIGTERM"
    wait "$DAEMON" || fail "status $? after SIGTERM: $(cat daemon.log)"
    assert_nothing_left any "after SIGTERM in a list of commands"
    assert_match " $(snapshots)" " own1 " "snapshots"
    [[ " $(snapshots)" != *" own10 "* && " $(snapshots)" != *" store10 "* ]] || fail "all is done: $(snapshots)"
    for i in $(snapshots); do
        [ "$i" = a ] || qemu-img snapshot -d "$i" "$IMAGE"
    done
}

# Before the switch, nothing has happened; behind it, all has. What is left of the mount when the
# whole daemon is gone can be unmounted; or the next mount takes its place.
killed_in_a_command() {
    local sync left=("" "a " "a " "a " "a b ")
    for sync in 1 2 3 4; do
        start_slow $sync
        command_in_background "take b"
        wait_for is_in_sync
        kill -KILL "$DAEMON" "$WORKER"
        go_on
        wait "$COMMANDER"
        [ "$(cut -d' ' -f1 <result)" != 0 ] || fail "a command of a killed daemon has succeeded"
        wait "$DAEMON" || true
        assert_fails ls mnt
        assert_match "$OUTPUT" "$DEAD" "a dead mount point"
        if [ $sync != 4 ]; then
            fusermount3 -u "$TMP/mnt"
        else
            start
            cmp mnt/web.qcow2/disk "$(qemu_raw "$IMAGE")" || fail "mounted again over a dead mount point"
            unmount_store "$TMP/mnt"
        fi
        assert_nothing_left "${left[sync]}" "after SIGKILL in sync $sync"
    done
    qemu-img snapshot -d b "$IMAGE"
}

# When only the process that serves is killed, the other one unmounts.
worker_killed() {
    [ -z "${SANITIZED:-}" ] || return 0 # not confined: one process
    start
    exec 3<mnt/web.qcow2/disk
    kill -KILL "$WORKER"
    assert_nothing_left "a " "after SIGKILL of the worker"
    assert_fails head -c 4096 <&3
    exec 3<&-
}

is_unmounted() { # asked of the table, as the tree does not answer
    ! grep -qF " $TMP/mnt " /proc/self/mountinfo
}

# The worker does not end: the tree is unmounted all the same, so that nobody else hangs. The
# command is finished, and told, when the worker goes on.
worker_hangs() {
    [ -z "${SANITIZED:-}" ] || return 0
    start_slow 1
    command_in_background "take b"
    wait_for is_in_sync
    on_exit "kill -CONT $WORKER 2>/dev/null"
    kill -STOP "$WORKER"
    kill -TERM "$DAEMON"
    wait_for is_unmounted
    ls mnt >/dev/null || fail "a dead mount point while the worker hangs"
    kill -0 "$WORKER" || fail "a worker in a command was killed"
    kill -CONT "$WORKER"
    go_on
    wait "$COMMANDER"
    assert_eq "$(cat result)" "0 " "a command while the worker hung"
    wait "$DAEMON" || fail "status $? after the worker hung: $(cat daemon.log)"
    grep -q "was told to end, and has not yet" daemon.log || fail "the log does not tell: $(cat daemon.log)"
    assert_nothing_left "a b " "after the worker hung"
    qemu-img snapshot -d b "$IMAGE"
}

# It hangs while nobody uses the tree. The next file system gets the number of the device that the
# tree had, and stays when the daemon ends.
neighbour_stays() {
    [ -z "${SANITIZED:-}" ] || return 0
    start
    on_exit "kill -CONT $WORKER 2>/dev/null"
    kill -STOP "$WORKER"
    kill -TERM "$DAEMON"
    wait_for is_unmounted
    mount_store "$TMP/store" "$TMP/mnt2"
    kill -CONT "$WORKER"
    wait_for is_gone "$DAEMON"
    ls mnt2/web.qcow2 >/dev/null || fail "the tree of another daemon"
    mountpoint -q mnt2 || fail "the tree of another daemon is gone"
    unmount_store "$TMP/mnt2"
    assert_nothing_left "a " "after an idle worker hung"
}

# The same when only the worker is told to end, and is in a command for longer than is waited for.
worker_ends_slowly() {
    [ -z "${SANITIZED:-}" ] || return 0
    start_slow 4 # the last sync
    command_in_background "take b"
    wait_for is_in_sync
    kill -TERM "$WORKER"
    wait_for is_unmounted
    kill -0 "$WORKER" || fail "the tree stayed until the worker was gone"
    ls mnt >/dev/null || fail "a dead mount point while the worker ends"
    go_on
    wait "$COMMANDER"
    assert_eq "$(cat result)" "0 " "a command while the worker ended"
    wait "$DAEMON" || fail "status $? after the worker ended: $(cat daemon.log)"
    assert_nothing_left "a b " "after the worker ended slowly"
    qemu-img snapshot -d b "$IMAGE"
}

# Whether a thread is in statx, which has the number 332 on x86-64, and 291 on most others.
is_in_statx() {
    grep -qE '^(332|291) ' "/proc/$WORKER/task/"*/syscall
}

# It hangs because one directory of the store does: on a file system (a snaptree, here) that answers
# nothing.
storage_hangs() {
    local asker other stuck
    [ -z "${SANITIZED:-}" ] || return 0
    mkdir inner store/sub
    mount_store "$TMP/inner" "$TMP/store/sub"
    other=$(daemon_of "$TMP/store/sub") || fail "no daemon of the inner store"
    stuck=$(worker_of "$other")
    start
    on_exit "kill -CONT $stuck 2>/dev/null"
    kill -STOP "$stuck"
    ls mnt >listing & # asks sub for nothing
    wait_for grep -qx sub listing
    stat mnt/sub >/dev/null 2>&1 &
    asker=$!
    wait_for is_in_statx
    kill -TERM "$DAEMON"
    wait_for is_unmounted
    ls mnt >/dev/null || fail "a dead mount point while the storage hangs"
    kill -CONT "$stuck"
    wait "$asker" || true
    assert_nothing_left "a " "after the storage hung"
    unmount_store "$TMP/store/sub"
    rmdir store/sub inner
}

# Whether all of these processes are gone, but for those that the pool's threads may be stuck with.
most_are_gone() { # PID...
    local pid remaining=0 threads
    threads=$(nproc)
    for pid; do
        is_gone "$pid" || remaining=$((remaining + 1))
    done
    [ $remaining -le $((threads > 4 ? threads : 4)) ]
}

# A line to a control file that was opened as this descriptor. The process becomes the writer.
write_to() { # DESCRIPTOR LINE
    exec >&"$1"
    exec 2>/dev/null
    exec sh -c 'echo "$1"' sh "$2"
}

# As many commands wait for a directory that does not answer as would take all threads that serve. The
# tree is served all the same, and the writers that wait in line can be killed.
commands_on_hanging_storage() {
    local i fd other stuck controls=() writers=() n=40
    # Over io_uring each takes one of a processor's places, of which there are 8 at least.
    [ "$(cat "$RINGS" 2>/dev/null)" != Y ] || n=6
    [ -z "${SANITIZED:-}" ] || return 0
    mkdir inner store/sub
    qemu-img create -q -f qcow2 image 1M
    for i in $(seq 0 "$n"); do
        qemu-img convert -f raw -O qcow2 image inner/$i # its disk there is an image here
    done
    mount_store "$TMP/inner" "$TMP/store/sub"
    other=$(daemon_of "$TMP/store/sub") || fail "no daemon of the inner store"
    stuck=$(worker_of "$other")
    start
    on_exit "kill -CONT $stuck 2>/dev/null"
    for i in $(seq 0 "$n"); do
        exec {fd}>"mnt/sub/$i/disk/control"
        controls[i]=$fd
    done
    kill -STOP "$stuck"
    for i in $(seq "$n"); do
        write_to "${controls[i]}" "take s" &
        writers+=($!)
    done
    wait_for bash -c "grep -q request_wait_answer /proc/$WORKER/task/*/wchan"
    timeout -s KILL 30 cmp mnt/web.qcow2/snapshots/a a.raw || fail "reading beside $n commands: status $?"
    write_to "${controls[0]}" bogus & # what cannot be a command waits for nothing
    wait_for is_gone $!
    kill -TERM "${writers[@]}"
    wait_for most_are_gone "${writers[@]}"
    kill -CONT "$stuck"
    wait "${writers[@]}" || true
    for i in $(seq 0 "$n"); do
        fd=${controls[i]}
        exec {fd}>&-
    done
    control_ok mnt/web.qcow2/control "take b" "delete b"
    unmount_store "$TMP/mnt"
    assert_nothing_left "a " "after commands on hanging storage"
    unmount_store "$TMP/store/sub"
    rm -r store/sub inner image
}

# When only the other one is killed, what runs is finished; nobody is left who could unmount.
keeper_killed() {
    [ -z "${SANITIZED:-}" ] || return 0
    start_slow 1
    command_in_background "take b"
    wait_for is_in_sync
    kill -KILL "$DAEMON"
    wait_for grep -q "the process that unmounts was killed; the mount ends" daemon.log
    go_on
    wait "$COMMANDER"
    assert_eq "$(cat result)" "0 " "a command during SIGKILL of the keeper"
    wait "$DAEMON" || true
    wait_for is_gone "$WORKER"
    fusermount3 -u -z "$TMP/mnt"
    assert_nothing_left "a b " "after SIGKILL of the keeper"
    qemu-img snapshot -d b "$IMAGE"
}

# Killed at any moment while many read and command; then mounted again at the same place.
killed_in_traffic() {
    local round
    for round in 1 2 3 4; do
        start
        reader &
        READER=$!
        commander &
        COMMANDER=$!
        sleep 0.$((round * 2))
        kill -KILL "$DAEMON" "$WORKER"
        wait $READER $COMMANDER || true
        wait_for is_gone "$DAEMON"
        fusermount3 -u -z "$TMP/mnt"
        assert_nothing_left any "after SIGKILL in traffic"
    done
    mount_store "$TMP/store" "$TMP/mnt"
    "$QCTOOL" list "$IMAGE" | grep -q " b$" && control_ok mnt/web.qcow2/control "delete b"
    control_ok mnt/web.qcow2/control "take c" "delete c"
    cmp mnt/web.qcow2/disk "$(qemu_raw "$IMAGE")" || fail "the disk after all that"
    unmount_store "$TMP/mnt"
}

reader() {
    while cat mnt/web.qcow2/disk mnt/web.qcow2/snapshots/a >/dev/null 2>&1; do :; done
}

commander() {
    while echo "take b" >mnt/web.qcow2/control && echo "delete b" >mnt/web.qcow2/control; do :; done 2>/dev/null
}

# A lazy unmount: the files that are open stay what they are, and the daemon ends with the last.
lazily() {
    start
    exec 3<mnt/web.qcow2/snapshots/a 4<>mnt/web.qcow2/control
    fusermount3 -u -z "$TMP/mnt"
    ! mountpoint -q mnt || fail "mounted after a lazy unmount"
    cmp - a.raw <&3 || fail "a file open across a lazy unmount"
    env printf 'take c\ndelete c\n' >&4 || fail "a control file open across a lazy unmount"
    kill -0 "$DAEMON" || fail "the daemon ended before the last file was closed"
    exec 3<&-
    kill -0 "$DAEMON" || fail "the daemon ended before the last file was closed"
    exec 4<&-
    assert_nothing_left "a " "after a lazy unmount"
}

# An unmount in the middle of a command is refused; it is busy.
unmounted_in_a_command() {
    start_slow 4 # the last sync
    command_in_background "take b"
    wait_for is_in_sync
    assert_fails fusermount3 -u "$TMP/mnt"
    go_on
    wait "$COMMANDER"
    assert_eq "$(cat result)" "0 " "a command during an unmount"
    # The command's file is closed a moment after it is answered.
    wait_for fusermount3 -u "$TMP/mnt"
    wait "$DAEMON" || fail "status $? after an unmount: $(cat daemon.log)"
    assert_nothing_left "a b " "after an unmount"
    qemu-img snapshot -d b "$IMAGE"
}

# Who waits for a command may be killed, or get Ctrl-C: the command is done or cancelled, and
# everybody else goes on.
interrupted() {
    local signal
    start_open_to_signals
    for signal in INT TERM KILL; do
        SYNC=1
        hold_up "$WORKER" fdatasync $SYNC
        env --default-signal=INT "$(command -v printf)" 'take %s' $signal >mnt/web.qcow2/control &
        COMMANDER=$!
        wait_for is_in_sync
        kill -$signal $COMMANDER
        wait_for has_been_interrupted $COMMANDER
        cmp mnt/web.qcow2/snapshots/a a.raw || fail "reading meanwhile"
        go_on
        wait $COMMANDER || true
        control_ok mnt/web.qcow2/control "check"
        [ ! -e mnt/web.qcow2/snapshots/$signal ] || control_ok mnt/web.qcow2/control "delete $signal"
    done
    unmount_store "$TMP/mnt"
    wait "$DAEMON" || fail "status $?: $(cat daemon.log)"
    assert_nothing_left "a " "after interrupts"
}

make_ends_store
idle
every_end_is_told
with_a_log_that_nobody_reads
with_signals_ignored
with_ends_of_children_ignored
with_files_open
with_files_just_closed
in_a_command
in_a_list_of_commands
killed_in_a_command
worker_killed
worker_hangs
neighbour_stays
worker_ends_slowly
storage_hangs
commands_on_hanging_storage
keeper_killed
killed_in_traffic
lazily
unmounted_in_a_command
interrupted
