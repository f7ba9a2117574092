# What is said to who may not use an image because a VM holds it. Who may do what: lock-matrix.sh.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-system-x86_64 python3
requires_fuse

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

mkdir store
qemu-img create -q -f qcow2 store/image.qcow2 2M
scribble store/image.qcow2 locks 0 1000000
qemu-img snapshot -c old store/image.qcow2
mount_store store mnt

qemu-system-x86_64 -S -display none -nodefaults -machine pc,accel=tcg -monitor none \
    -drive file=store/image.qcow2,format=qcow2,if=virtio >vm.out 2>&1 &
VM=$!
PIDS+=("$VM")
wait_for holds "$VM" store/image.qcow2

assert_errno EBUSY "$QCTOOL" take store/image.qcow2 new
control_fails EBUSY mnt/image.qcow2/control "take new"
assert_match "$(tail -n1 mnt/image.qcow2/control)" "qemu-system.*$VM" "the line names the process"
control_fails EBUSY mnt/control "take image.qcow2 new"
assert_match "$(tail -n1 mnt/control)" "image.qcow2" "the line names the file"
assert_fails cat mnt/image.qcow2/disk
assert_match "$OUTPUT" "$(message_of EBUSY)" "opening the disk of a running VM"

kill "$VM"
wait "$VM" || true
control_ok mnt/image.qcow2/control "take new"
check_clean store/image.qcow2
unmount_store mnt
