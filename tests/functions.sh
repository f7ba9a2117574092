# What the shell tests share. Source it first; it makes an empty directory $TMP, goes there, and
# takes back every mount, process and file when the test ends, however it ends.
#
# SNAPTREE, QCTOOL and SRCDIR come from ctest.

set -euo pipefail
export LC_ALL=C
# The system's programs before others of their names, such as the wrappers of version managers,
# which take a second to start a python3.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
: "${SNAPTREE:?the daemon}" "${QCTOOL:?qctool}" "${SRCDIR:?the source tree}"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# A test that cannot run here is skipped, but not where everything is meant to be there.
skip() {
    if [ "${CI:-}" = true ] || [ -n "${SNAPTREE_NO_SKIP:-}" ]; then
        fail "would be skipped: $*"
    fi
    echo "SKIP: $*"
    exit 77
}

requires() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

requires_root() {
    [ "$(id -u)" = 0 ] || skip "needs root"
}

requires_fuse() {
    [ -c /dev/fuse ] || skip "there is no /dev/fuse"
    requires fusermount3
}

# Turn the kernel's FUSE over io_uring on or off until the test ends; fails where that cannot be
# done. (ctest runs one test at a time that does so.)
RINGS=/sys/module/fuse/parameters/enable_uring
switch_rings() { # Y|N
    [ -w "$RINGS" ] || return
    on_exit "echo $(<"$RINGS") >$RINGS"
    { echo "$1" >"$RINGS"; } 2>/dev/null
}

# ---- cleaning up ----

# A test that syncs a lot and means no disk by it says IN_MEMORY=1 before it sources this.
if [ -n "${IN_MEMORY:-}" ] && [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
    TMPDIR=/dev/shm
fi
# A path with a blank is two words to qemu-io's commands, and written otherwise in the table of mounts.
[[ ${TMPDIR:-} != *[[:space:]]* ]] || TMPDIR=/tmp
TMP=$(mktemp -d "${TMPDIR:-/tmp}/snaptree-test.XXXXXX")
export TMP
PIDS=()
UNDO=() # commands, run last first

on_exit() {
    UNDO+=("$*")
}

# Everything mounted below $TMP, deepest first.
mounts_below_tmp() {
    awk -v tmp="$TMP/" 'index($5, tmp) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

cleanup() {
    local status=$? i
    trap - EXIT INT TERM
    set +e
    cd /
    for ((i = ${#UNDO[@]} - 1; i >= 0; i--)); do
        eval "${UNDO[i]}"
    done
    # The mounts first: a daemon that is not served any more ends by itself, traced or not.
    mounts_below_tmp | while IFS= read -r i; do
        umount "$i" 2>/dev/null || fusermount3 -u -z "$i" 2>/dev/null || umount -l "$i"
    done
    for i in ${PIDS[@]+"${PIDS[@]}"}; do
        kill "$i" 2>/dev/null && wait "$i" 2>/dev/null
    done
    rm -rf --one-file-system "$TMP"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cd "$TMP"

# ---- assertions ----

assert_eq() { # GOT WANTED [WHAT]
    [ "$1" = "$2" ] || fail "${3:-values differ}: got '$1', wanted '$2'"
}

assert_match() { # TEXT REGEX [WHAT]
    [[ $1 =~ $2 ]] || fail "${3:-text}: '$1' does not match '$2'"
}

assert_same() { # FILE FILE [WHAT]
    cmp -- "$1" "$2" || fail "${3:-$1 and $2} differ"
}

# The command must fail; what it printed is in $OUTPUT, its status in $STATUS.
assert_fails() {
    STATUS=0
    OUTPUT=$("$@" 2>&1) || STATUS=$?
    [ "$STATUS" != 0 ] || fail "'$*' did not fail: $OUTPUT"
}

# The command must fail with a line that begins with the errno's name, as qctool's do.
assert_errno() { # ERRNO COMMAND...
    local errno=$1
    shift
    assert_fails "$@"
    assert_match "$OUTPUT" "^$errno: " "$*"
    assert_eq "$(wc -l <<<"$OUTPUT")" 1 "lines of the message of '$*'"
}

# Wait until a command succeeds: for processes that are starting, never for results. On a busy machine
# that may take long. Not for an assertion: the first that does not hold ends the test, and silently.
wait_for() {
    local end=$((SECONDS + 120))
    while [ $SECONDS -lt $end ]; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    ps -e -o pid,ppid,stat,wchan:24,args | grep '[s]naptree' >&2
    fail "gave up waiting for: $*"
}

# ---- images ----

# QEMU's verdict must be that there is nothing to say at all.
check_clean() {
    local image output
    for image; do
        output=$(qemu-img check "$image" 2>&1) || fail "qemu-img check $image: $output"
        assert_match "$output" "No errors were found" "qemu-img check $image"
    done
}

# Bytes that repeat nowhere and compress a little: seed, size.
noise() {
    python3 -c 'import random, sys
r = random.Random(sys.argv[1]); n = int(sys.argv[2])
sys.stdout.buffer.write(b"".join(b"%015x\n" % r.getrandbits(60) for _ in range(n // 16 + 1))[:n])' "$1" "$2"
}

# Write noise onto an image's disk, by QEMU: image, seed, offset, length.
scribble() {
    noise "$2" "$4" >"$TMP/.noise"
    qemu-io -f "${5:-qcow2}" -c "write -q -s $TMP/.noise $3 $4" "$1" >/dev/null
}

# Make an image whose disk has this byte everywhere, in clusters of its own.
uniform_image() { # PATH SIZE BYTE [OPTION OF CREATE...]
    qemu-img create -q -f qcow2 "${@:4}" "$1" "$2"
    qemu-io -c "write -q -P $3 0 $2" "$1"
}

# What QEMU says the disk is: image [options of convert]; into file $TMP/.raw, whose name is printed.
qemu_raw() {
    local image=$1
    shift
    rm -f "$TMP/.raw"
    qemu-img convert "$@" -O raw "$image" "$TMP/.raw"
    echo "$TMP/.raw"
}

# The last line of a control file.
last_result() {
    tail -n1 "$1"
}

# Replace bytes of a file: file, offset, bytes as hexadecimal digits.
patch_bytes() {
    python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2], 0)); f.write(bytes.fromhex(sys.argv[3]))' "$@"
}

# ---- mounts ----

# Mount a store: store, mount point, options. The mount point is made.
mount_store() {
    local store=$1 mnt=$2
    shift 2
    requires_fuse
    mkdir -p "$mnt"
    "$SNAPTREE" "$@" "$store" "$mnt" || fail "snaptree $* $store $mnt"
    mountpoint -q "$mnt" || fail "$mnt is not mounted although snaptree returned"
}

# Serve store on mnt by a daemon in the foreground: $DAEMON, and $WORKER, the process of it that
# serves. What it says is in daemon.log.
start_daemon() { # OPTION...
    "$SNAPTREE" -f "$@" "$TMP/store" "$TMP/mnt" 2>daemon.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for mountpoint -q mnt
    ls mnt >/dev/null # once it serves, it has its worker
    # shellcheck disable=SC2034 # for the tests
    WORKER=$(worker_of "$DAEMON")
}

# Unmount; it has to end well, without having complained.
stop_daemon() {
    fusermount3 -u mnt
    wait "$DAEMON" || fail "the daemon's status is $?: $(cat daemon.log)"
    ! complaints daemon.log || fail "the daemon complains"
}

# Whether a tracer has come to all threads of a process, and not to the first of them alone.
is_traced() { # PID
    ! grep -qx TracerPid:.0 "/proc/$1/task/"*/status
}

# Hold up a process in its calls of that name, until go_on: in each thread from call number FIRST on. So
# what there is to see in the middle of a call can be waited for, however busy the machine is.
hold_up() { # PID CALL FIRST [OPTION OF STRACE...]
    strace -f -q -o trace "${@:4}" -e "trace=$2" -e "inject=$2:delay_enter=600000000:when=$3+" -p "$1" 2>/dev/null &
    TRACER=$!
    on_exit go_on
    wait_for is_traced "$1"
}

go_on() {
    [ -n "$TRACER" ] || return 0
    kill -KILL "$TRACER" 2>/dev/null || true # told to end, it would wait for each thread to stop
    wait "$TRACER" 2>/dev/null || true
    TRACER=
}

# Whether a process has the lock of QEMU's that keeps other writers away from a file. To try to open it
# instead would keep away the process itself, if that is about to take its locks.
holds() { # PID FILE
    local fd
    for fd in /proc/"$1"/fd/*; do
        if [ "$fd" -ef "$2" ] && grep -qE '^lock:.* OFDLCK .* (201|203) ' "/proc/$1/fdinfo/${fd##*/}"; then
            return 0
        fi
    done
    return 1
}

# Who traces a process; 0: nobody.
tracer_of() { # PID
    awk '/^TracerPid:/ { print $2 }' "/proc/$1/status"
}

# Ended; what nobody has waited for yet counts as ended too.
is_gone() {
    local state
    state=$(ps -o stat= -p "$1") || return 0
    [[ $state == Z* ]]
}

# Unmount, and wait until the daemon has let go of the store.
unmount_store() {
    local pid
    pid=$(daemon_of "$1") || pid=
    fusermount3 -u "$1" || fail "cannot unmount $1"
    [ -z "$pid" ] || wait_for is_gone "$pid"
}

# What a daemon in the foreground has said beyond how it began, which commands it ran, and that it
# was told to end, or unmounted.
complaints() { # LOG...
    cat "$@" | grep -v "^snaptree: \(confined\|not confined\|requests come over io_uring\|io_uring is not used\|ends: \|told to end by \|.* (uid [0-9]*, process [0-9]*)$\)"
}

# Begins a command that is to run in a mount namespace of its own. What other tests have mounted is not
# in there: it would live on when they unmount it, and their daemons with it.
# shellcheck disable=SC2016,SC2034 # for the inner shell; for the tests
OWN_MOUNTS=(unshare --mount bash -c '
    cut -d " " -f 5 /proc/self/mountinfo | grep -F /snaptree-test. | grep -vF "$TMP/" | sort -r |
        while IFS= read -r at; do umount --lazy --no-canonicalize "$(printf %b "$at")"; done
    exec "$@"' bash)

# The daemon of a mount: the process that has the mount point as its last argument, is not the child
# of such a one, and was started by this test: others have a "mnt" too.
daemon_of() {
    local pid
    for pid in $(pgrep -x snaptree); do
        if [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" | tail -1)" = "$1" ] &&
            tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "TMP=$TMP" &&
            [ "$(ps -o comm= -p "$(ps -o ppid= -p "$pid")")" != snaptree ]; then
            echo "$pid"
            return
        fi
    done 2>/dev/null
    return 1
}

# The process that serves the tree of a daemon: its child, or itself where it is not confined.
worker_of() {
    pgrep -x -P "$1" snaptree || echo "$1"
}

# Write commands; on failure the shell's message is in $OUTPUT and the status in $STATUS. One is
# written by the shell itself; several by printf(1), as bash's own makes a write(2) of each line.
control() { # FILE LINE...
    local file=$1 printf=printf
    shift
    [ $# = 1 ] || printf="env printf"
    OUTPUT=$( ($printf '%s\n' "$@" >"$file") 2>&1) && STATUS=0 || STATUS=$?
}

# Whether a process that waits for its write has got a signal, and the kernel has told the daemon: from
# then on nothing but SIGKILL wakes it.
has_been_interrupted() { # PID
    [ "$(ps -o state= -p "$1")" = D ]
}

# One line of text for each errno, as strerror gives it.
message_of() {
    python3 -c 'import errno, os, sys; print(os.strerror(getattr(errno, sys.argv[1])))' "$1"
}

# The command must fail with that errno from write(2) itself, and leave a line that names it.
control_fails() { # ERRNO FILE LINE
    control "$2" "$3"
    [ "$STATUS" != 0 ] || fail "'$3' > $2 did not fail"
    assert_match "$OUTPUT" "write error: $(message_of "$1")" "'$3' > $2"
    assert_match "$(tail -n1 "$2")" "^[0-9]{4}-[0-9-]{5}T[0-9:]{8}Z $1 .+: .+" "result line of '$3'"
}

control_ok() { # FILE LINE...
    control "$@"
    [ "$STATUS" = 0 ] || fail "'${*:2}' > $1: $OUTPUT $(tail -n1 "$1")"
}
