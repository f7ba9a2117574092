# Started with too little of something (descriptors, stack, threads), it says so, and leaves neither a
# mount nor a process behind; or it serves, with no request that is not answered.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/mount/ends.bash"
requires strace prlimit

# Neither mounted nor running, and the image as before.
assert_not_there() { # WHEN
    local pid
    pid=$(daemon_of "$TMP/mnt") && wait_for is_gone "$pid"
    assert_eq "$(mounts_below_tmp)" "" "mounts $1"
    DAEMON=1 WORKER=1
    ls mnt >/dev/null || fail "a dead mount point $1"
    check_clean "$IMAGE"
    assert_eq "$(snapshots)" "a " "snapshots $1"
}

# One line, and status 1.
assert_refused() { # REGEX COMMAND...
    local regex=$1
    shift
    assert_fails "$@"
    assert_eq "$STATUS $(wc -l <<<"$OUTPUT")" "1 1" "status and lines of '$*': $OUTPUT"
    assert_match "$OUTPUT" "^snaptree: $regex" "'$*'"
    assert_not_there "after '$*'"
}

# All of it works; then it is unmounted.
assert_serves() { # WHEN
    local pid
    DAEMON=$(daemon_of "$TMP/mnt") || fail "no daemon $1"
    WORKER=$(worker_of "$DAEMON")
    on_exit "kill -KILL $WORKER $DAEMON 2>/dev/null"
    find mnt >/dev/null || fail "find $1"
    cmp mnt/web.qcow2/snapshots/a a.raw || fail "a snapshot $1"
    control mnt/web.qcow2/control "take b" &
    wait_for is_gone $!
    control_ok mnt/web.qcow2/control "delete b"
    unmount_store "$TMP/mnt"
    unset "UNDO[-1]"
    assert_not_there "$1"
}

few_files() {
    local n
    for n in 5 7 8 16 31; do
        assert_refused "only $n files may be open \\(ulimit -n\\)" \
            prlimit --nofile=$n "$SNAPTREE" "$TMP/store" "$TMP/mnt"
        assert_refused "only $n files may be open \\(ulimit -n\\)" \
            prlimit --nofile=$n "$SNAPTREE" -f "$TMP/store" "$TMP/mnt"
    done
    prlimit --nofile=32 "$SNAPTREE" "$TMP/store" "$TMP/mnt"
    assert_serves "with as few files as may be"
}

small_stack() {
    [ -z "${SANITIZED:-}" ] || return 0 # which take more of it
    assert_refused "only 32 KiB of stack" prlimit --stack=32768 "$SNAPTREE" "$TMP/store" "$TMP/mnt"
    prlimit --stack=65536 "$SNAPTREE" "$TMP/store" "$TMP/mnt"
    assert_serves "with as small a stack as may be"
}

# Start it with a system call that fails; its threads and processes each count for themselves.
PATHS=() # -P and a path: only calls with that one
start_injected() { # CALL ERROR-AND-WHEN [OPTION...]
    local call=$1 how=$2
    shift 2
    STATUS=0
    strace -D -f -qq -o trace -e trace="$call" ${PATHS[@]+"${PATHS[@]}"} -e inject="$call:$how" \
        "$SNAPTREE" "$@" "$TMP/store" "$TMP/mnt" >said 2>&1 || STATUS=$?
    OUTPUT=$(<said)
    grep -q INJECTED trace || fail "$call was not called"
}

# Each of the threads that the first one starts, in its order.
no_thread() {
    local n options
    [ -z "${SANITIZED:-}" ] || return 0 # which start threads of their own
    for options in sandbox=on sandbox=off; do
        for n in $(seq 8); do
            start_injected clone3 error=EAGAIN:when="$n" -o $options
            if [ $STATUS = 0 ]; then
                assert_serves "without thread $n ($options)"
            else
                assert_match "$STATUS $OUTPUT" "^1 snaptree: [^ ]* could not be served" "without thread $n"
                assert_not_there "without thread $n ($options)"
            fi
        done
    done
}

# Without it no signal would end the daemon.
no_signals() {
    [ -z "${SANITIZED:-}" ] || return 0 # not confined: one process
    start_injected signalfd4 error=EMFILE
    assert_match "$STATUS $OUTPUT" "^1 snaptree: [^ ]* could not be served" "without signals"
    assert_not_there "without signals"
}

# The tree is served, but its root cannot be looked at: that is no tree to leave there.
no_root() {
    PATHS=(-P "$TMP/mnt") # which it and libfuse look at three times before
    start_injected newfstatat,stat error=EMFILE:when=4
    PATHS=()
    assert_match "$STATUS $OUTPUT" "^1 snaptree: $TMP/mnt could not be served \\($(message_of EMFILE)\\)"
    assert_not_there "without its root"
}

# Whether the mountpoint lies inside the store cannot be told: then it is not mounted there.
no_place() {
    PATHS=(-P "$TMP/store")
    start_injected newfstatat,stat error=EIO
    PATHS=()
    assert_match "$STATUS $OUTPUT" "^1 snaptree: mountpoint $TMP/mnt, and whether it lies inside the store"
    assert_not_there "where it cannot tell the place"
}

# The first answer of each thread is not taken at once.
answers_wait() {
    start_injected writev error=ENOMEM:when=1
    assert_eq "$STATUS" 0 "status when answers have to wait"
    assert_serves "when answers have to wait"
}

# An answer of the keeper that could not be taken is not taken for that to the next question.
late_answer() {
    local tracer user other
    [ -z "${SANITIZED:-}" ] || return 0 # not confined: one process
    cp "$IMAGE" store/other.qcow2
    start
    qemu-io -c "sleep 300000" "$IMAGE" >/dev/null &
    user=$!
    qemu-io -c "sleep 300000" store/other.qcow2 >/dev/null &
    other=$!
    PIDS+=("$user" "$other")
    wait_for holds "$user" "$IMAGE"
    wait_for holds "$other" store/other.qcow2
    strace -f -o /dev/null -p "$WORKER" -e trace=recvmsg -e inject=recvmsg:error=ENOMEM 2>/dev/null &
    tracer=$!
    wait_for is_traced "$WORKER"
    control_fails EBUSY mnt/web.qcow2/control "take b"
    kill -INT "$tracer"
    wait "$tracer" || true
    control_fails EBUSY mnt/other.qcow2/control "take b"
    assert_match "$(last_result mnt/other.qcow2/control)" "\\(process $other\\)" "who has the other image"
    control_fails EBUSY mnt/web.qcow2/control "take b"
    assert_match "$(last_result mnt/web.qcow2/control)" "\\(process $user\\)" "who has the image"
    kill "$user" "$other"
    wait "$user" "$other" || true
    unmount_store "$TMP/mnt"
    rm store/other.qcow2
    assert_not_there "after an answer that was late"
}

make_ends_store
few_files
small_stack
[ "$(id -u)" = 0 ] || exit 0 # others need fusermount3, which cannot be traced
no_thread
no_signals
no_root
no_place
answers_wait
late_answer
