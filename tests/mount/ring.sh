# Requests over io_uring: where the kernel offers that they come so, and where not the daemon does
# without; what is read is right in every size and from every processor; commands of many writers at
# once are all answered, and leave no memory behind.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 taskset
requires_fuse

N_IMAGES=80 # more commands at once than there are threads for

make_store() {
    local i
    mkdir store mnt
    qemu-img create -q -f qcow2 store/web.qcow2 24M
    scribble store/web.qcow2 web 1M 20000000
    qemu-img convert -O raw store/web.qcow2 web.raw
    for i in $(seq $N_IMAGES); do
        qemu-img create -q -f qcow2 "store/$i.qcow2" 1M
    done
}

# How often the threads that take requests from rings have slept.
sleeps_of_rings() {
    local task n sum=0
    for task in "/proc/$WORKER/task/"*; do
        [ "$(<"$task/comm")" = ring ] || continue
        n=$(awk '/^voluntary/ { print $2 }' "$task/status")
        sum=$((sum + n))
    done
    echo $sum
}

# Reads of many sizes, one after the other, as they come past the page cache or through it.
check_reading() {
    local size cpu
    for size in 512 4096 65536 131072 1M 3M; do
        cmp web.raw <(dd if=mnt/web.qcow2/disk bs=$size status=none) || fail "reading $size at a time"
    done
    cmp web.raw <(dd if=mnt/web.qcow2/disk bs=1M iflag=direct status=none) || fail "direct I/O"
    for cpu in $(python3 -c 'import os; print(*os.sched_getaffinity(0))'); do
        taskset -c "$cpu" cmp web.raw mnt/web.qcow2/disk || fail "reading on processor $cpu"
    done
    assert_eq "$(ls mnt | wc -l)" $((N_IMAGES + 2)) "names in the store"
    assert_fails ls mnt/nothing
}

# Write a line to a control file, in the background; then wait for all that do so.
WRITERS=()
write_line() { # FILE LINE
    { echo "$2" >"$1" || echo "$1" >>failed; } &
    WRITERS+=($!)
}

writers_are_done() { # WHAT
    wait "${WRITERS[@]}"
    WRITERS=()
    [ ! -e failed ] || fail "$1 failed: $(tr '\n' ' ' <failed)"
}

command_each() { # LINE
    local i
    for i in $(seq $N_IMAGES); do
        write_line "mnt/$i.qcow2/control" "$1"
    done
    cmp web.raw mnt/web.qcow2/disk || fail "reading beside commands"
    writers_are_done "'$1'"
}

# All requests there at once, as the process that is to serve them is stopped meanwhile.
check_crowd() {
    local i
    kill -STOP "$WORKER"
    for i in $(seq $N_IMAGES); do
        write_line "mnt/$i.qcow2/control" "take crowd"
    done
    cmp web.raw mnt/web.qcow2/disk &
    WRITERS+=($!)
    sleep 0.5
    kill -CONT "$WORKER"
    writers_are_done "of many commands at once, one"
    for i in $(seq $N_IMAGES); do
        assert_eq "$(ls "mnt/$i.qcow2/snapshots")" crowd "snapshots of image $i"
    done
}

is_reading() { # PID; read(2) from 0 has the number 0 on x86-64, and 63 on most others
    grep -qE '^(0|63) 0x0 ' "/proc/$1/syscall"
}

is_writing() { # PID; write(2)
    grep -qE '^(1|64) ' "/proc/$1/syscall"
}

# A writer that changes his mind after the kernel has handed the request over, before anybody looks.
check_regret() {
    local writer status=0
    env --default-signal=INT python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY); print(os.read(0, 1)); os.write(fd, b"take regretted\n")' \
        mnt/web.qcow2/control <go >/dev/null 2>&1 &
    writer=$!
    exec 3>go
    wait_for is_reading "$writer" # so it has opened the file
    kill -STOP "$WORKER"
    echo >&3
    exec 3>&-
    wait_for is_writing "$writer"
    kill -INT "$writer"
    wait_for has_been_interrupted "$writer"
    kill -CONT "$WORKER"
    wait "$writer" || status=$?
    [ $status != 0 ] || fail "a command that was cancelled has succeeded"
    assert_eq "$(ls mnt/web.qcow2/snapshots)" "" "snapshots after a command that was cancelled"
}

address_space() {
    awk '/^VmSize/ { print $2 }' "/proc/$WORKER/status"
}

check_commands() {
    local i before
    for i in 1 2 3; do
        command_each "take t"
        command_each "delete t"
    done
    for i in $(seq 12); do
        write_line mnt/web.qcow2/control "take $i"
    done
    writers_are_done "a take in line"
    assert_eq "$(ls mnt/web.qcow2/snapshots | wc -l)" 12 "snapshots that were taken in line"
    before=$(address_space)
    for i in $(seq 100); do
        control_ok mnt/1.qcow2/control "take t" "delete t"
    done
    i=$(address_space)
    [ -n "${SANITIZED:-}" ] || [ $((i - before)) -lt 32768 ] || fail "100 commands took $((i - before)) KiB"
}

without_rings() {
    start_daemon -o io_uring
    grep -q "^snaptree: io_uring is not used: " daemon.log || fail "it does not say why not"
    assert_eq "$(sleeps_of_rings)" 0 "of threads that should not be there"
    check_reading
    stop_daemon
}

with_rings() {
    local before
    start_daemon -o io_uring
    grep -q "^snaptree: requests come over io_uring, to [0-9]* threads$" daemon.log || fail "no rings: $(<daemon.log)"
    before=$(sleeps_of_rings)
    check_reading
    [ $(($(sleeps_of_rings) - before)) -ge 100 ] || fail "requests come another way"
    check_crowd
    mkfifo go
    check_regret
    check_commands
    FETCHERS=$(sed -n 's/.* over io_uring, to \([0-9]*\) threads$/\1/p' daemon.log)
    stop_daemon
    check_clean store/*.qcow2
}

# Rings take two descriptors for each of their threads: not the last ones that there are.
with_few_descriptors() {
    (
        ulimit -n $((2 * FETCHERS + 8))
        exec "$SNAPTREE" -f -o io_uring "$TMP/store" "$TMP/mnt" 2>daemon.log
    ) &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    check_reading
    grep -q "^snaptree: io_uring is not used: $(message_of EMFILE)" daemon.log || fail "it does not say why not"
    stop_daemon
}

make_store
if [ -e "$RINGS" ]; then
    switch_rings N || skip "it takes root to turn $RINGS off and on"
    without_rings
    switch_rings Y || fail "rings cannot be turned on"
    with_rings
    with_few_descriptors
else
    without_rings
fi
