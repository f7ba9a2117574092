# QEMU's locks on a block device belong to the node that it was opened by, and a machine under libvirt
# has nodes of its own, in a private /dev: it is seen all the same. Two nodes of one device in a store
# are one image. Who may not look at all processes changes no device.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io losetup unshare setpriv strace
requires_root
requires_fuse

# What a machine leaves on the device counts from here on.
make_store() {
    truncate -s 24M backing
    DEVICE=$(losetup --find --show backing) || skip "no loop device to be had"
    on_exit "losetup -d $DEVICE"
    MAJOR=$((0x$(stat -c %t "$DEVICE"))) MINOR=$((0x$(stat -c %T "$DEVICE")))
    qemu-img create -q -f qcow2 "$DEVICE" 16M
    scribble "$DEVICE" one 0 1048576
    mkdir store elsewhere
    ln -s "$DEVICE" store/volume
    mknod store/twin b "$MAJOR" "$MINOR"
    mknod elsewhere/vda b "$MAJOR" "$MINOR"
    qemu-img create -q -f qcow2 -b volume -F qcow2 store/overlay.qcow2
    qemu-img snapshot -c over store/overlay.qcow2
}

has_locks() { # PID BYTE
    grep -qE "^lock:.* $2 [0-9]+\$" /proc/"$1"/fdinfo/*
}

# Let a program of QEMU hold the image until let_go: the command, which ends in exec qemu-io.
hold() { # COMMAND...
    rm -f orders
    mkfifo orders
    timeout 300 sleep 300 >orders &
    FEED=$!
    "$@" <orders >/dev/null &
    HOLDER=$!
    PIDS+=("$FEED" "$HOLDER")
    wait_for has_locks "$HOLDER" 100
}

let_go() {
    kill "$HOLDER" "$FEED"
    wait "$HOLDER" "$FEED" || true
}

writer_elsewhere() {
    exec qemu-io -f qcow2 elsewhere/vda
}

writer_here() {
    exec qemu-io -f qcow2 "$DEVICE"
}

reader_elsewhere() {
    exec qemu-io -r -f qcow2 elsewhere/vda
}

# As libvirt starts a machine.
writer_with_a_private_dev() {
    # shellcheck disable=SC2016
    exec "${OWN_MOUNTS[@]}" sh -c 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/vda b "$@" && exec qemu-io -f qcow2 /dev/vda' sh \
        "$MAJOR" "$MINOR"
}

refuses_to_open() { # FILE
    assert_fails timeout 60 head -c 1 "$1"
    assert_match "$OUTPUT" "$(message_of EBUSY)" "$1"
}

in_use() {
    grep -c '"in-use": true' "mnt/$1/info.json"
}

# Nothing that the holder could see or mind.
stays_out() {
    local command node
    cp backing before
    for node in volume twin; do
        refuses_to_open mnt/$node/disk
        for command in 'take no' 'check' 'repair'; do
            control_fails EBUSY mnt/$node/control "$command"
            assert_match "$(last_result mnt/$node/control)" \
                "EBUSY $command: qemu-io \(process $HOLDER\) has $node open: .*; stop it first$" "who is in the way"
        done
        wait_for in_use $node
    done
    refuses_to_open mnt/overlay.qcow2/disk
    assert_same mnt/volume/snapshots/old old.raw "a snapshot of a disk that is written to"
    assert_same before backing "the device"
}

works_again() {
    assert_same mnt/volume/disk "$(qemu_raw "$DEVICE" -f qcow2)"
    control_ok mnt/volume/control 'take new' 'delete new'
    check_clean "$DEVICE"
}

sees_writers() {
    local how
    for how in writer_elsewhere writer_with_a_private_dev; do
        hold $how
        stays_out
        let_go
        works_again
    done
}

# A program that only reads, and keeps writers out, is not in the way of those who read.
sees_readers() {
    hold reader_elsewhere
    head -c 1 mnt/volume/disk >/dev/null || fail "a reader elsewhere keeps readers out"
    control_fails EBUSY mnt/volume/control 'take no'
    let_go
}

# Within some seconds; also below what is read. By the same node, at once.
notices_one_that_comes() {
    local file
    refuses_to_go_on() {
        ! head -c 4096 >/dev/null <&5
    }
    for file in volume/disk overlay.qcow2/disk overlay.qcow2/snapshots/over; do
        exec 5<mnt/$file
        head -c 65536 >/dev/null <&5
        hold writer_elsewhere
        wait_for refuses_to_go_on
        let_go
        wait_for head -c 4096 <&5
        hold writer_here
        refuses_to_go_on || fail "$file is read while the device is written to"
        let_go
        head -c 4096 <&5 >/dev/null || fail "$file is not read when nobody writes any more"
        exec 5<&-
    done
}

# As of two names of a file.
two_nodes_are_one_image() {
    exec 5<mnt/twin/disk
    control_fails EBUSY mnt/volume/control 'revert old'
    assert_match "$(last_result mnt/volume/control)" "somebody is reading this disk through this tree"
    exec 5<&-
    local i volume
    for i in 1 2 3 4 5; do
        { echo "take volume-$i" >mnt/volume/control; } &
        volume=$!
        echo "take twin-$i" >mnt/twin/control || fail "$(last_result mnt/twin/control)"
        wait $volume || fail "$(last_result mnt/volume/control)"
        check_clean "$DEVICE"
    done
    for i in 1 2 3 4 5; do
        control_ok mnt/twin/control "delete volume-$i" "delete twin-$i"
    done
}

# All of it with the process that looks outside of the sandbox, and where there is none.
try_with() { # OPTIONS
    mount_store store mnt -o "$1"
    [ -e mnt/volume/snapshots/old ] || control_ok mnt/volume/control 'take old'
    cp mnt/volume/snapshots/old old.raw
    sees_writers
    sees_readers
    notices_one_that_comes
    two_nodes_are_one_image
    unmount_store mnt
}

# A look that ends before it gets to the machine, as there is too much to look at: slow calls stand
# for many.
takes_too_long() {
    local keeper tracer
    mount_store store "$TMP/mnt"
    keeper=$(daemon_of "$TMP/mnt") # or the only process, where there is no sandbox
    hold writer_elsewhere
    strace -f -o /dev/null -p "$keeper" -e trace=getdents64 -e inject=getdents64:delay_enter=2000000 2>/dev/null &
    tracer=$!
    wait_for is_traced "$keeper"
    refuses_to_open mnt/volume/disk
    control_fails EBUSY mnt/volume/control 'take no'
    assert_match "$(last_result mnt/volume/control)" "it took too long to look at all open files"
    kill $tracer
    wait $tracer || true
    let_go
    wait_for head -c 1 mnt/volume/disk
    works_again
    unmount_store mnt
}

# A machine that starts in the middle of a command, which is held up in its first sync.
looks_once_more() {
    local writer worker
    mount_store "$TMP/store" "$TMP/mnt"
    ls mnt >/dev/null # once it serves, it has its worker
    worker=$(worker_of "$(daemon_of "$TMP/mnt")")
    hold_up "$worker" fdatasync 1
    { echo 'take late' >mnt/volume/control; } 2>/dev/null &
    writer=$!
    wait_for grep -qE '^(75|83) ' "/proc/$worker/task/"*/syscall # fdatasync's number on x86-64, and most others
    hold writer_elsewhere
    go_on
    ! wait $writer || fail "a machine has started meanwhile, and the command goes on"
    assert_match "$(last_result mnt/volume/control)" "EBUSY take late: qemu-io \(process $HOLDER\) has volume open"
    let_go
    check_clean "$DEVICE"
    unmount_store "$TMP/mnt"
}

# An ordinary user, who sees nothing of other users' processes.
sees_too_little() {
    local option as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    chmod 755 "$TMP"
    chmod 644 old.raw
    cp "$SNAPTREE" snaptree
    mkdir -p home/store home/mnt
    mknod home/store/volume b "$MAJOR" "$MINOR"
    qemu-img create -q -f qcow2 home/store/file.qcow2 1M
    chown -R 65534:65534 home
    on_exit "chmod $(stat -c %a /dev/fuse) /dev/fuse"
    chmod 666 /dev/fuse
    for option in sandbox=on sandbox=off; do
        "${as_user[@]}" "$TMP/snaptree" -o $option home/store home/mnt || fail "mount as an ordinary user"
        # shellcheck disable=SC2016
        "${as_user[@]}" bash -c '
            set -e
            cmp home/mnt/volume/disk "$1"
            cat home/mnt/volume/snapshots/old | cmp - old.raw
            echo "take own" >home/mnt/file.qcow2/control
            echo "delete own" >home/mnt/file.qcow2/control
            ! echo "take no" 2>/dev/null >home/mnt/volume/control
            tail -n1 home/mnt/volume/control >home/result' bash "$(qemu_raw "$DEVICE" -f qcow2)" ||
            fail "as an ordinary user with $option"
        assert_match "$(cat home/result)" "EACCES take no: volume is a block device, .*may not look at all processes" "$option"
        "${as_user[@]}" fusermount3 -u home/mnt
    done
    check_clean "$DEVICE"
}

make_store
try_with sandbox=on
try_with sandbox=off
takes_too_long
looks_once_more
sees_too_little
