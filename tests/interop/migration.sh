# Machines of QEMU that give up their image and take it again: one is saved and goes on, one is
# restored, one is migrated. The tree tells at each moment who has the image; while nobody has it,
# commands work, and the machine that goes on finds what they did. And block-commit.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-system-x86_64 python3
requires_fuse

monitor() { # MACHINE LINE [ARGUMENTS]
    python3 "$SRCDIR/tests/interop/qmp.py" "$TMP/$1.sock" "${@:2}"
}

start_machine() { # NAME OPTION...
    qemu-system-x86_64 -display none -nodefaults -machine pc,accel=tcg -m 16 \
        -qmp "unix:$TMP/$1.sock,server,nowait" "${@:2}" >/dev/null &
    MACHINES[$1]=$!
    PIDS+=("$!")
    wait_for monitor "$1" "info status"
}
declare -A MACHINES

start_on_disk() { # NAME OPTION...
    start_machine "$@" -drive id=disk,file=store/vm.qcow2,format=qcow2,if=none \
        -device virtio-blk-pci,drive=disk
}

stop_machine() { # NAME
    monitor "$1" quit >/dev/null || true
    wait "${MACHINES[$1]}" || true
}

is_now() { # NAME STATUS
    monitor "$1" "info status" | grep -q "$2"
}

guest_writes() { # NAME BYTE
    monitor "$1" "qemu-io disk \"write -q -P $2 1M 64k\""
    monitor "$1" "qemu-io disk flush"
}

assert_held() { # BY
    control_fails EBUSY mnt/vm.qcow2/control "take held"
    assert_fails head -c 1 mnt/vm.qcow2/disk
    assert_match "$OUTPUT" "$(message_of EBUSY)" "the disk, held by $1"
    assert_match "$(cat mnt/vm.qcow2/info.json)" '"in-use": true' "info.json, held by $1"
}

assert_free() { # WHEN
    cmp mnt/vm.qcow2/disk "$(qemu_raw store/vm.qcow2 -U)" || fail "the disk $1"
    assert_match "$(cat mnt/vm.qcow2/info.json)" '"in-use": false' "info.json $1"
}

# The guest's last write is on the disk, and the snapshot is what it was.
assert_written() { # BYTE SNAPSHOT FILE
    check_clean store/vm.qcow2
    assert_free "after the last write"
    qemu-io -r -f qcow2 -c "read -q -P $1 1M 64k" store/vm.qcow2 | grep . && fail "the write is lost"
    cmp "mnt/vm.qcow2/snapshots/$2" "$3" || fail "snapshot $2"
    cmp "mnt/vm.qcow2/snapshots/$2" "$(qemu_raw store/vm.qcow2 -l "snapshot.name=$2")" || fail "QEMU's $2"
}

saved_and_goes_on() {
    start_on_disk first
    guest_writes first 2
    assert_held "a machine"
    monitor first 'migrate -d "exec:cat >saved"'
    wait_for is_now first postmigrate
    assert_free "of a machine that was saved"
    control_ok mnt/vm.qcow2/control "take between" "rename old older" "check"
    cp mnt/vm.qcow2/snapshots/between between.raw
    monitor first cont
    wait_for is_now first running
    assert_held "a machine that went on"
    guest_writes first 3
    cmp mnt/vm.qcow2/snapshots/between between.raw || fail "a snapshot while the machine goes on"
    stop_machine first
    assert_written 3 between between.raw
}

restored() {
    start_on_disk second -incoming defer
    assert_free "of a machine that waits for its state"
    control_ok mnt/vm.qcow2/control "delete between" "take again"
    cp mnt/vm.qcow2/snapshots/again again.raw
    monitor second 'migrate_incoming "exec:cat saved"'
    wait_for is_now second running
    assert_held "a machine that was restored"
    guest_writes second 4
}

migrated() {
    start_on_disk third -incoming "unix:$TMP/migration"
    assert_held "the machine that is to be migrated"
    monitor second "migrate -d unix:$TMP/migration"
    wait_for is_now third running
    assert_held "the machine that was migrated"
    stop_machine second
    assert_held "the machine that was migrated, alone"
    guest_writes third 5
    stop_machine third
    assert_written 5 again again.raw
}

file_node() { # NODE IMAGE
    echo "driver=file,node-name=file-$1,filename=$TMP/store/$2.qcow2"
}

is_done() {
    monitor fourth "info block-jobs" | grep -q "No active jobs"
}

# An image whose disk is open is not committed: to its reader it would come to be garbage.
committed() {
    qemu-img create -q -f qcow2 store/base.qcow2 4M
    scribble store/base.qcow2 base 0 1000000
    qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 store/middle.qcow2
    scribble store/middle.qcow2 middle 300000 1000000
    qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 store/top.qcow2
    qemu-img convert -O raw store/middle.qcow2 middle.raw
    start_machine fourth -blockdev "$(file_node base base)" \
        -blockdev driver=qcow2,node-name=base,file=file-base,read-only=on \
        -blockdev "$(file_node middle middle)" \
        -blockdev driver=qcow2,node-name=middle,file=file-middle,backing=base,read-only=on \
        -blockdev "$(file_node top top)" -blockdev driver=qcow2,node-name=top,file=file-top,backing=middle
    exec 3<mnt/middle.qcow2/disk
    assert_fails monitor fourth block-commit "$COMMIT"
    assert_match "$OUTPUT" 'Failed to get shared "consistent read" lock' "a commit of what is read"
    cmp - middle.raw <&3 || fail "the disk after a commit that failed"
    exec 3<&-
    monitor fourth block-commit "$COMMIT"
    wait_for is_done
    assert_eq "$(ls mnt/top.qcow2/layers)" "$(printf '%s\n' 0-top.qcow2 1-base.qcow2)" "layers"
    cmp mnt/top.qcow2/layers/1-base.qcow2 middle.raw || fail "the base after the commit"
    stop_machine fourth
    cmp mnt/top.qcow2/disk middle.raw || fail "the disk after the commit"
    check_clean store/base.qcow2 store/top.qcow2
}
COMMIT='{"job-id": "commit", "device": "top", "top-node": "middle", "base-node": "base"}'

mkdir store
qemu-img create -q -f qcow2 store/vm.qcow2 8M
scribble store/vm.qcow2 vm 0 3000000
qemu-img snapshot -c old store/vm.qcow2
mount_store "$TMP/store" "$TMP/mnt"
saved_and_goes_on
restored
migrated
committed
