# What is said to who may not use an image because a VM holds it. Who may do what: lock-matrix.sh.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-system-x86_64 qemu-storage-daemon python3
requires_fuse

mkdir store
qemu-img create -q -f qcow2 store/image.qcow2 2M
scribble store/image.qcow2 locks 0 1000000
qemu-img snapshot -c old store/image.qcow2
(cd store && qemu-img create -q -f qcow2 -b image.qcow2 -F qcow2 over.qcow2 &&
    qemu-img snapshot -c s over.qcow2)
mount_store store mnt

# Who only has it open is not to blame, however many they are and whoever came first.
for _ in 1 2 3 4 5; do
    tail -f store/image.qcow2 >/dev/null &
    PIDS+=($!)
done
exec 4<mnt/image.qcow2/disk
qemu-system-x86_64 -S -display none -nodefaults -machine pc,accel=tcg -monitor none \
    -drive file=store/image.qcow2,format=qcow2,if=virtio >vm.out 2>&1 &
VM=$!
PIDS+=("$VM")
wait_for holds "$VM" store/image.qcow2

assert_errno EBUSY "$QCTOOL" take store/image.qcow2 new
control_fails EBUSY mnt/image.qcow2/control "take new"
assert_match "$(tail -n1 mnt/image.qcow2/control)" "new: qemu-system[^,]*$VM\\) has image" "the line names the process"
assert_match "$(tail -n1 mnt/image.qcow2/control)" "; stop it first$" "the line says what to do"
control_fails EBUSY mnt/control "take image.qcow2 new"
assert_match "$(tail -n1 mnt/control)" "image.qcow2" "the line names the file"
for file in disk layers/0-image.qcow2; do
    assert_fails bash -c "exec 5<mnt/image.qcow2/$file"
    assert_match "$OUTPUT" "$(message_of EBUSY)" "opening $file of a running VM"
done
assert_fails head -c 512 <&4
assert_match "$OUTPUT" "$(message_of EBUSY)" "reading the disk that was open before the VM came"
exec 4<&-

kill "$VM"
wait "$VM" || true
control_ok mnt/image.qcow2/control "take new"

# A machine that writes to the backing file of others: nothing that rests on it can be read.
over="mnt/over.qcow2/disk mnt/over.qcow2/snapshots/s mnt/over.qcow2/layers/1-image.qcow2"
exec 3<mnt/over.qcow2/disk
cmp -n 65536 /proc/self/fd/3 mnt/image.qcow2/disk || fail "an overlay"
qemu-storage-daemon --blockdev driver=file,node-name=file,filename=store/image.qcow2 \
    --blockdev driver=qcow2,node-name=disk,file=file \
    --export type=fuse,id=export,node-name=disk,mountpoint="$TMP/vm.out",writable=on &
VM=$!
PIDS+=("$VM")
wait_for holds "$VM" store/image.qcow2
for file in $over; do
    assert_fails cat "$file"
    assert_match "$OUTPUT" "$(message_of EBUSY)" "opening $file"
done
ls -lR mnt/over.qcow2 >/dev/null || fail "ls"
control_ok mnt/over.qcow2/control "take t" # it changes the overlay only
wait_for mountpoint -q vm.out
dd if=/dev/zero of=vm.out bs=64K count=4 conv=notrunc status=none
assert_fails head -c 65536 <&3
assert_match "$OUTPUT" "$(message_of EBUSY)" "reading what was open before"
kill "$VM"
wait "$VM" || true
exec 3<&-
for file in $over; do
    head -c 65536 "$file" | cmp - <(head -c 65536 /dev/zero) || fail "$file when nobody writes any more"
done
check_clean store/image.qcow2
unmount_store mnt
