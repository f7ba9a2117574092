# The daemon is confined: what it can open, seen from inside it.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img pgrep
requires_fuse
requires_root # the process that serves can be traced by nobody else
[ -z "${SANITIZED:-}" ] || skip "the sanitizers need what the sandbox takes away"
INSIDE=$(dirname "$QCTOOL")/inside
[ -x "$INSIDE" ] || skip "needs x86-64"

make_store() {
    mkdir store
    qemu-img create -q -f qcow2 store/web.qcow2 1M
    scribble store/web.qcow2 1 0 500000
    echo secret >outside
    qemu-img create -q -f qcow2 outside.qcow2 1M
    (cd store && qemu-img create -q -f qcow2 -b ../outside.qcow2 -F qcow2 far.qcow2)
}

status_of() { # PID KEY
    awk -v key="$2:" '$1 == key { print $2 }' "/proc/$1/status"
}

EBADF=9
EACCES=13
ENOSYS=38
O_RDONLY=0
O_RDWR=2
O_CREAT=64

confined_by_default() {
    start_daemon -o rw
    [ "$WORKER" != "$DAEMON" ] || fail "the daemon is one process"
    assert_match "$(cat daemon.log)" "^snaptree: confined: .*no new privileges, Landlock.*, seccomp$" "log"
    assert_eq "$(status_of "$WORKER" NoNewPrivs)" 1 "no new privileges"
    assert_eq "$(status_of "$WORKER" Seccomp)" 2 "seccomp filter"
    # DAC_OVERRIDE, DAC_READ_SEARCH, LEASE
    assert_eq "$(status_of "$WORKER" CapEff)" 0000000010000006 "capabilities"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/outside" $O_RDONLY)" $EACCES "a file outside"
    assert_eq "$("$INSIDE" "$WORKER" open /etc/passwd $O_RDONLY)" $EACCES "a file of the system"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/store/new" $((O_RDWR | O_CREAT)))" $EACCES "a new file"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/store/web.qcow2" $O_RDWR)" 0 "a file of the store"
    assert_eq "$("$INSIDE" "$WORKER" socket)" $ENOSYS "a socket"
    assert_eq "$("$INSIDE" "$WORKER" fork)" $ENOSYS "a process"
    assert_eq "$("$INSIDE" "$WORKER" ring)" $ENOSYS "a ring, where none is wanted"
    assert_eq "$("$INSIDE" "$WORKER" dumpable)" 0 "dumpable"
    [ ! -e store/new ] || fail "a file was made"
    control_ok mnt/web.qcow2/control "take s"
    cmp mnt/web.qcow2/disk "$(qemu_raw store/web.qcow2)" || fail "disk"
    stop_daemon
}

# The same questions have other answers without the sandbox: they can tell.
not_confined_where_asked() {
    start_daemon -o sandbox=off
    assert_eq "$WORKER" "$DAEMON" "processes"
    assert_match "$(cat daemon.log)" "^snaptree: not confined" "log"
    assert_eq "$(status_of "$WORKER" Seccomp)" 0 "seccomp filter"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/outside" $O_RDONLY)" 0 "a file outside"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/store/new" $((O_RDWR | O_CREAT)))" 0 "a new file"
    rm store/new
    assert_eq "$("$INSIDE" "$WORKER" socket)" 0 "a socket"
    assert_eq "$("$INSIDE" "$WORKER" ring)" $EBADF "a ring that is not there"
    control_ok mnt/web.qcow2/control "take t"
    stop_daemon
}

read_only_means_that_too() {
    start_daemon -o ro
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/store/web.qcow2" $O_RDONLY)" 0 "reading"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/store/web.qcow2" $O_RDWR)" $EACCES "writing"
    stop_daemon
}

outside_is_for_reading_where_allowed() {
    start_daemon -o backing=any
    cmp mnt/far.qcow2/disk "$(qemu_raw store/far.qcow2)" || fail "a backing file outside"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/outside" $O_RDONLY)" 0 "reading outside"
    assert_eq "$("$INSIDE" "$WORKER" open "$TMP/outside" $O_RDWR)" $EACCES "writing outside"
    stop_daemon
}

threads_of_their_own_descriptor() {
    start_daemon -o clone_fd
    cmp mnt/web.qcow2/disk "$(qemu_raw store/web.qcow2)" || fail "disk"
    [ "$(readlink "/proc/$WORKER"/fd/* | grep -c '^/dev/fuse$')" -gt 1 ] || fail "no thread has its own descriptor"
    stop_daemon
}

# Who serves is killed: the other takes the mount back, and says so.
killed_and_cleaned_up() {
    local status=0
    start_daemon -o rw
    kill -KILL "$WORKER"
    wait "$DAEMON" || status=$?
    assert_eq "$status" 137 "status of the daemon"
    assert_match "$(cat daemon.log)" "was killed by signal 9" "log"
    ! mountpoint -q mnt || fail "still mounted"
    ls mnt >/dev/null || fail "a dead mount"
}

# The other is killed: who serves ends, as it could not unmount.
orphaned_and_gone() {
    start_daemon -o rw
    kill -KILL "$DAEMON"
    wait_for is_gone "$WORKER"
    umount -l mnt 2>/dev/null || fail "cannot unmount"
}

# Nothing of what libc loads late is missing where the program was copied with its libraries alone, as
# into a small container.
with_its_libraries_alone() {
    local library
    mkdir -p root/{dev,proc,store,tree}
    cp "$SNAPTREE" root/snaptree
    ldd "$SNAPTREE" | grep -o '/[^ ]*' >libraries
    while read -r library; do
        mkdir -p "root${library%/*}"
        cp -L "$library" "root$library"
    done <libraries
    # shellcheck disable=SC2016 # for the inner shell
    "${OWN_MOUNTS[@]}" bash -c 'mount --bind /dev root/dev && mount --bind store root/store &&
        mount -t proc proc root/proc && exec chroot root /snaptree -f /store /tree' 2>alone.log &
    DAEMON=$!
    PIDS+=("$DAEMON")
    wait_for test -e "/proc/$DAEMON/root/tree/web.qcow2/disk"
    cmp "/proc/$DAEMON/root/tree/web.qcow2/disk" "$(qemu_raw store/web.qcow2)" || fail "disk"
    kill "$DAEMON"
    wait "$DAEMON" || fail "the daemon's status is $?: $(cat alone.log)"
    ! complaints alone.log || fail "the daemon complains"
}

mkdir mnt
make_store
confined_by_default
not_confined_where_asked
read_only_means_that_too
outside_is_for_reading_where_allowed
threads_of_their_own_descriptor
killed_and_cleaned_up
orphaned_and_gone
with_its_libraries_alone
check_clean store/web.qcow2
