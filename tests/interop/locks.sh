# QEMU's image locks in both directions, with QEMU's own programs as the other side.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-nbd qemu-system-x86_64 python3

# ---- holders: each opens image.qcow2 and holds it until release ----

HOLDER=

# qemu-io that waits for commands on a FIFO: options
hold_with_io() {
    mkfifo in
    qemu-io "$@" image.qcow2 <in >io.out 2>&1 &
    HOLDER=$!
    PIDS+=("$HOLDER")
    exec 9>in
    echo "read -q 0 512" >&9
    wait_for holds "$HOLDER" image.qcow2
}

hold_with_vm() { # OPTIONS OF -drive
    qemu-system-x86_64 -S -display none -nodefaults -machine pc,accel=tcg -monitor none \
        -drive "file=image.qcow2,format=qcow2,if=virtio$1" >vm.out 2>&1 &
    HOLDER=$!
    PIDS+=("$HOLDER")
    wait_for holds "$HOLDER" "${2:-image.qcow2}"
}

hold_with_nbd() { # OPTIONS
    qemu-nbd -f qcow2 -k "$TMP/nbd.sock" -t "$@" image.qcow2 &
    HOLDER=$!
    PIDS+=("$HOLDER")
    wait_for test -S "$TMP/nbd.sock"
    wait_for holds "$HOLDER" image.qcow2
}

# True when the process has the file open and any lock of QEMU's on it.
holds() {
    local fd
    for fd in /proc/"$1"/fd/*; do
        if [ "$fd" -ef "$2" ] && grep -q '^lock:.* OFDLCK ' "/proc/$1/fdinfo/${fd##*/}"; then
            return 0
        fi
    done
    return 1
}

release() {
    exec 9>&-
    kill "$HOLDER" 2>/dev/null || true
    wait "$HOLDER" 2>/dev/null || true
    rm -f in nbd.sock
}

# ---- what we may do meanwhile ----

commands_are_busy() {
    local before
    before=$(sha256sum <image.qcow2)
    assert_errno EBUSY "$QCTOOL" take image.qcow2 new
    assert_errno EBUSY "$QCTOOL" revert image.qcow2 old
    assert_errno EBUSY "$QCTOOL" delete image.qcow2 old
    assert_errno EBUSY "$QCTOOL" rename image.qcow2 old new
    assert_eq "$(sha256sum <image.qcow2)" "$before" "the file after commands that were refused"
}

commands_work() {
    "$QCTOOL" take image.qcow2 new
    "$QCTOOL" rename image.qcow2 new newer
    "$QCTOOL" delete image.qcow2 newer
}

snapshots_are_readable() {
    "$QCTOOL" cat image.qcow2 snapshot=old >got
    assert_same got old.raw "snapshot while $1"
}

disk_is_busy() {
    assert_errno EBUSY "$QCTOOL" cat image.qcow2
}

disk_is_readable() {
    "$QCTOOL" cat image.qcow2 >got
    assert_same got old.raw "disk while $1"
}

# A process that writes: nothing may change, and the disk has no fixed content.
beside_writer() {
    commands_are_busy
    disk_is_busy
    snapshots_are_readable "$1"
    release
    commands_work
    disk_is_readable "$1 has ended"
    check_clean image.qcow2
}

# A process that reads and excludes writers: no command, but all can be read.
beside_reader() {
    commands_are_busy
    disk_is_readable "$1"
    snapshots_are_readable "$1"
    release
    commands_work
    check_clean image.qcow2
}

# ---- the daemon's side ----

# An open `disk` never keeps a VM from starting.
browsing_keeps_nobody_out() {
    mkdir store
    cp image.qcow2 store/
    mount_store store mnt
    exec 8<mnt/image.qcow2/disk
    head -c 512 <&8 >/dev/null
    qemu-io -c "write -q -P 7 0 512" store/image.qcow2 || fail "a reader of disk kept qemu-io out"
    exec 8<&-
    exec 8<mnt/image.qcow2/snapshots/old
    head -c 512 <&8 >/dev/null
    qemu-io -c "write -q -P 8 0 512" store/image.qcow2 || fail "a reader of a snapshot kept qemu-io out"
    qemu-img snapshot -c more store/image.qcow2 || fail "a reader of a snapshot kept qemu-img out"
    exec 8<&-
    check_clean store/image.qcow2
}

# The same rules through the mount.
mount_beside_vm() {
    ln -sf store/image.qcow2 image.qcow2
    hold_with_vm "" store/image.qcow2
    control_fails EBUSY mnt/image.qcow2/control "take new"
    assert_match "$(tail -n1 mnt/image.qcow2/control)" "qemu-system.*$HOLDER" "the line names the process"
    control_fails EBUSY mnt/control "take image.qcow2 new"
    assert_match "$(tail -n1 mnt/control)" "image.qcow2" "the line names the file"
    assert_fails cat mnt/image.qcow2/disk
    assert_match "$OUTPUT" "$(message_of EBUSY)" "opening the disk of a running VM"
    cmp mnt/image.qcow2/snapshots/old old.raw || fail "snapshot of a running VM"
    release
    control_ok mnt/image.qcow2/control "take new"
    check_clean store/image.qcow2
    unmount_store mnt
}

qemu-img create -q -f qcow2 image.qcow2 2M
scribble image.qcow2 locks 0 1000000
qemu-img snapshot -c old image.qcow2
qemu-img convert -O raw image.qcow2 old.raw

hold_with_io && beside_writer "qemu-io writes"
hold_with_io -r && beside_reader "qemu-io reads"
hold_with_vm "" && beside_writer "a VM runs"
hold_with_vm ",readonly=on" && beside_reader "a VM reads"
hold_with_nbd && beside_writer "qemu-nbd writes"
hold_with_nbd -r && beside_reader "qemu-nbd reads"

# A process that shares all (-U) excludes nobody.
hold_with_io -r -U && true
commands_work
release

# A running VM's backing file must not change, and can be read.
qemu-img create -q -f qcow2 -b image.qcow2 -F qcow2 overlay.qcow2
mv image.qcow2 base.qcow2
qemu-img rebase -q -u -b base.qcow2 -F qcow2 overlay.qcow2
ln -s overlay.qcow2 image.qcow2
hold_with_vm "" base.qcow2
rm image.qcow2
cp -l base.qcow2 image.qcow2
beside_reader "a VM has it as its backing file"

browsing_keeps_nobody_out
mount_beside_vm
