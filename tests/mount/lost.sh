# The store is full, is renamed, is removed, or its file system goes away: no crash, no hang, the
# images stay what they were, and the tree can be unmounted.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io mke2fs strace prlimit
requires_root
requires_fuse

new_image() { # PATH
    qemu-img create -q -f qcow2 -o cluster_size=4K "$1" 4M
    scribble "$1" lost 0 3000000
    qemu-img snapshot -c a "$1"
    scribble "$1" more 1000000 1000000
}

# A file system of its own for the store, of 16 MiB.
make_disk() { # TYPE
    mkdir -p disk
    truncate -s 16M disk.img
    if [ "$1" = tmpfs ]; then
        mount -t tmpfs -o size=16M tmpfs disk
    else
        mke2fs -q -F -t "$1" -m 0 disk.img
        mount -o loop disk.img disk
    fi
    mkdir disk/store
    new_image disk/store/web.qcow2
    qemu-img convert -O raw disk/store/web.qcow2 disk.raw
    qemu-img convert -O raw -l a disk/store/web.qcow2 a.raw
}

# All that is left of the room but so many KiB, in blocks of 4 KiB.
fill_up() { # KIB
    rm -f disk/filler
    dd if=/dev/zero of=disk/filler bs=4K status=none 2>/dev/null || true
    sync disk/filler
    truncate -s -"$1"K disk/filler
}

assert_readable() { # WHEN
    cmp mnt/web.qcow2/disk disk.raw || fail "the disk $1"
    cmp mnt/web.qcow2/snapshots/a a.raw || fail "the snapshot $1"
    ls -lR mnt >/dev/null || fail "ls $1"
}

# The last command, "take b", has found no room, and has changed nothing of what there was BEFORE.
assert_no_room() { # WHEN REASON
    assert_match "$OUTPUT" "$(message_of ENOSPC)" "take $1"
    assert_match "$(tail -n1 mnt/web.qcow2/control)" "Z ENOSPC take b: .*$2.*; nothing was changed$" "result line"
    assert_eq "$(state_of_image)" "$BEFORE" "the image after ENOSPC $1"
    check_clean disk/store/web.qcow2
    assert_readable "$1"
}

state_of_image() {
    stat -c %s disk/store/web.qcow2
    sha256sum <disk/store/web.qcow2
}

# With less room than a command needs, however much that is, nothing changes; with enough, it works.
full() { # TYPE
    local room refused=0
    make_disk "$1"
    mount_store "$TMP/disk/store" "$TMP/mnt"
    BEFORE=$(state_of_image)
    for room in 0 4 8 16 32 64; do
        fill_up $room
        if control mnt/web.qcow2/control "take b" && [ "$STATUS" = 0 ]; then
            control_ok mnt/web.qcow2/control "delete b"
            break
        fi
        refused=$((refused + 1))
        assert_no_room "with $room KiB on $1" "web.qcow2: "
    done
    [ $refused -gt 1 ] || fail "$1 was never full"
    rm disk/filler
    control_ok mnt/web.qcow2/control "take b" "revert a" "delete b"
    check_clean disk/store/web.qcow2
    cmp mnt/web.qcow2/disk a.raw || fail "the disk once there is room"
    unmount_store "$TMP/mnt"
    umount disk
}

# The length of files is limited (ulimit -f, LimitFSIZE=): that is want of room, and no end of the daemon.
limited() {
    local room size worker refused=0
    mkdir -p disk/store
    new_image disk/store/web.qcow2
    qemu-img convert -O raw disk/store/web.qcow2 disk.raw
    qemu-img convert -O raw -l a disk/store/web.qcow2 a.raw
    mount_store "$TMP/disk/store" "$TMP/mnt"
    ls mnt >/dev/null # once it serves, it has its worker
    worker=$(worker_of "$(daemon_of "$TMP/mnt")")
    size=$(stat -c %s disk/store/web.qcow2)
    BEFORE=$(state_of_image)
    for room in 0 4 6 8 16 32 64; do
        prlimit --pid "$worker" --fsize=$((size + room * 1024)):
        if control mnt/web.qcow2/control "take b" && [ "$STATUS" = 0 ]; then
            break
        fi
        refused=$((refused + 1))
        assert_no_room "with $room KiB to the limit" "ulimit -f"
    done
    [ $refused -gt 0 ] || fail "there was no limit"
    prlimit --pid "$worker" --fsize=unlimited:
    control_ok mnt/web.qcow2/control "take c" "delete c"
    check_clean disk/store/web.qcow2
    # The same of the tool.
    assert_errno ENOSPC prlimit --fsize=65536 "$QCTOOL" take disk/store/web.qcow2 d
    check_clean disk/store/web.qcow2
    unmount_store "$TMP/mnt"
    rm -r disk/store
}

# A store that is renamed is the same directory.
renamed() {
    mkdir store
    new_image store/web.qcow2
    qemu-img convert -O raw store/web.qcow2 disk.raw
    mount_store "$TMP/store" "$TMP/mnt"
    mv store elsewhere
    assert_readable "of a store that was renamed"
    control_ok mnt/web.qcow2/control "take b" "delete b"
    check_clean elsewhere/web.qcow2
    mkdir store # another one by that name is none of ours
    new_image store/other.qcow2
    assert_eq "$(ls mnt)" "$(printf '%s\n' control web.qcow2)" "names after a rename"
    unmount_store "$TMP/mnt"
    rm -r store
    mv elsewhere store
}

# What is open stays readable, everything else is gone; unmounting works.
removed() {
    mount_store "$TMP/store" "$TMP/mnt"
    DAEMON=$(daemon_of "$TMP/mnt")
    exec 3<mnt/web.qcow2/snapshots/a 4<>mnt/web.qcow2/control
    head -c 4096 <&3 >/dev/null
    rm -rf store
    assert_gone
    cmp - <(tail -c +4097 a.raw) <&3 || fail "a snapshot that was open when the store was removed"
    assert_fails bash -c "echo 'take late' >&4"
    assert_match "$OUTPUT" "$(message_of ENOENT)" "a command on what was removed"
    exec 3<&- 4<&-
    assert_alive_and_unmount
}

assert_gone() {
    assert_eq "$(timeout 20 ls -A mnt 2>/dev/null | grep -v '^control$')" "" "names in a store that is gone"
    assert_fails timeout 20 cat mnt/web.qcow2/disk
    assert_match "$OUTPUT" "$(message_of ENOENT)" "a disk in a store that is gone"
    assert_fails timeout 20 bash -c "echo 'take web.qcow2 c' >mnt/control"
    assert_match "$OUTPUT" "$(message_of ENOENT)" "a command in a store that is gone"
    timeout 20 find mnt >/dev/null 2>&1 || [ $? != 124 ] || fail "find hangs"
    timeout 20 df mnt >/dev/null 2>&1 || [ $? != 124 ] || fail "df hangs"
}

assert_alive_and_unmount() {
    kill -0 "$DAEMON" || fail "the daemon is dead"
    unmount_store "$TMP/mnt"
}

# Its file system unmounted beneath it, lazily: it lives on for who has it open, as we do.
unmounted() {
    make_disk ext4
    mount_store "$TMP/disk/store" "$TMP/mnt"
    DAEMON=$(daemon_of "$TMP/mnt")
    umount -l disk
    assert_readable "of a store whose file system was unmounted lazily"
    control_ok mnt/web.qcow2/control "take b" "delete b"
    assert_alive_and_unmount
    wait_for sh -c '! losetup -j disk.img | grep -q .' # let go of
    mount -o loop disk.img disk
    check_clean disk/store/web.qcow2
    umount disk
}

# A disk beneath it that gives nothing but errors.
disk_dies() {
    mkdir store
    new_image store/web.qcow2
    sha256sum <store/web.qcow2 >before
    ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f -o /dev/null -P "$TMP/store/web.qcow2" -e trace=pread64 \
        -e inject=pread64:error=EIO "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>/dev/null &
    PIDS+=($!)
    wait_for mountpoint -q mnt
    DAEMON=$(daemon_of "$TMP/mnt")
    assert_fails timeout 20 cat mnt/web.qcow2/disk
    assert_match "$(cat mnt/web.qcow2/error)" "$(message_of EIO)" "error of an image on a dead disk"
    control_fails EIO mnt/web.qcow2/control "take c"
    ls -l mnt >/dev/null || fail "ls on a dead disk"
    timeout 20 ls -lR mnt >/dev/null 2>&1 || [ $? != 124 ] || fail "ls -R hangs"
    assert_alive_and_unmount
    assert_same <(sha256sum <store/web.qcow2) before "the image"
}

# A file system beneath it that gives nothing but errors: no name seems to be removed by that, which a
# copy of the tree would follow; and a file that cannot be told is an image with an error.
store_fails() {
    local errno tracer name worker listed
    rm -rf store
    mkdir store
    new_image store/web.qcow2
    cp store/web.qcow2 store/named-otherwise
    echo text >store/README
    mount_store "$TMP/store" "$TMP/mnt"
    ls mnt >before
    assert_eq "$(tr '\n' ' ' <before)" "control named-otherwise web.qcow2 "
    DAEMON=$(daemon_of "$TMP/mnt")
    worker=$(worker_of "$DAEMON")
    for errno in EIO ESTALE ETIMEDOUT EAGAIN; do
        strace -f -o /dev/null -p "$worker" -P web.qcow2 -P named-otherwise -e trace=openat2 \
            -e inject=openat2:error=$errno 2>/dev/null &
        tracer=$!
        wait_for is_traced "$worker"
        if listed=$(ls mnt 2>/dev/null); then
            for name in web.qcow2 named-otherwise; do
                grep -qxF $name <<<"$listed" || fail "$name is not listed after $errno"
            done
        fi
        assert_match "$(cat mnt/web.qcow2/error)" "$(message_of $errno)" "error of an image after $errno"
        assert_fails stat mnt/named-otherwise
        assert_match "$OUTPUT" "$(message_of $errno)" "a look-up after $errno"
        kill $tracer
        wait $tracer || true
        assert_same <(ls mnt) before "what is there after $errno"
    done
    assert_alive_and_unmount
    # An image under any name, which cannot be read.
    ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f -o /dev/null -P "$TMP/store/named-otherwise" -e trace=pread64 \
        -e inject=pread64:error=EIO "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>/dev/null &
    PIDS+=($!)
    wait_for mountpoint -q mnt
    DAEMON=$(daemon_of "$TMP/mnt")
    assert_match "$(cat mnt/named-otherwise/error)" "$(message_of EIO)" "error of an image on a dead disk"
    ls -l mnt >/dev/null || fail "ls on a dead disk"
    assert_alive_and_unmount
}

# A storage that does not say any more who has locks, and so whether somebody writes to the disk.
locks_fail() {
    local tracer worker
    rm -rf store
    mkdir store
    new_image store/web.qcow2
    mount_store "$TMP/store" "$TMP/mnt"
    DAEMON=$(daemon_of "$TMP/mnt")
    worker=$(worker_of "$DAEMON")
    exec 4<mnt/web.qcow2/disk
    dd bs=4K count=1 status=none <&4 >first || fail "a disk that is open"
    strace -f -o /dev/null -p "$worker" -e trace=fcntl -e inject=fcntl:error=EIO 2>/dev/null &
    tracer=$!
    wait_for is_traced "$worker"
    assert_fails dd bs=4K count=1 status=none of=/dev/null <&4
    assert_match "$OUTPUT" "$(message_of EIO)" "a disk of which it is not known who writes to it"
    kill $tracer
    wait $tracer || true
    dd bs=4K count=1 status=none <&4 >second || fail "a disk whose locks can be asked about again"
    cat first second | cmp -n 8192 - mnt/web.qcow2/disk
    exec 4<&-
    assert_alive_and_unmount
}

# Errors of the storage that the kernel would take for something else: that no file is to be opened any
# more (ENOSYS), or for no answer at all (524, which NFS lets out).
errors_of_no_program() {
    local errno tracer worker
    rm -rf store
    mkdir store
    new_image store/web.qcow2
    qemu-img convert -O raw store/web.qcow2 disk.raw
    for errno in ENOSYS 524; do
        mount_store "$TMP/store" "$TMP/mnt"
        DAEMON=$(daemon_of "$TMP/mnt")
        worker=$(worker_of "$DAEMON")
        strace -f -o /dev/null -p "$worker" -e trace=fcntl -e inject=fcntl:error=$errno 2>/dev/null &
        tracer=$!
        wait_for is_traced "$worker"
        assert_fails timeout -s KILL 20 cat mnt/web.qcow2/disk
        assert_match "$OUTPUT" "$(message_of EIO)" "a disk that cannot be opened for $errno"
        control_fails EIO mnt/web.qcow2/control "take c"
        kill $tracer
        wait $tracer || true
        cmp mnt/web.qcow2/disk disk.raw || fail "the disk after $errno"
        assert_alive_and_unmount
    done
    check_clean store/web.qcow2
}

full ext4
limited
full tmpfs
renamed
removed
unmounted
disk_dies
store_fails
locks_fail
errors_of_no_program
