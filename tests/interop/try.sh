# A snapshot is tried without a copy, on an image on top of it that lies outside the store, as the
# guide has it: what is written goes there, and the snapshot cannot go away beneath it.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-nbd
requires_fuse

mkdir store
qemu-img create -q -f qcow2 store/web.qcow2 4M
scribble store/web.qcow2 tuesday 0 2000000
cp "$(qemu_raw store/web.qcow2)" tuesday.raw
cp tuesday.raw tried.raw
printf '\7%.0s' {1..512} | dd of=tried.raw bs=512 seek=1000 conv=notrunc status=none
mount_store "$TMP/store" "$TMP/mnt"
control_ok mnt/web.qcow2/control "take tuesday"
scribble store/web.qcow2 wednesday 500000 2000000

COMMAND=$(sed -n 's/^ *\$ \(qemu-img create .* try.qcow2\)$/\1/p' "$SRCDIR/docs/GUIDE.md" | sed "s|/mnt/images|$TMP/mnt|")
[ -n "$COMMAND" ] || fail "the guide has no such command"
bash -c "$COMMAND" >/dev/null

qemu-nbd -t -k "$TMP/socket" -f qcow2 try.qcow2 &
MACHINE=$!
PIDS+=("$MACHINE")
wait_for test -S socket
qemu-io -f raw -c "write -q -P 7 512000 512" "nbd+unix:///?socket=$TMP/socket"
control_fails EBUSY mnt/web.qcow2/control "delete tuesday"
control_ok mnt/web.qcow2/control "take wednesday"
kill "$MACHINE"
wait "$MACHINE" || true

cmp "$(qemu_raw try.qcow2)" tried.raw || fail "what was tried"
cmp mnt/web.qcow2/snapshots/tuesday tuesday.raw || fail "the snapshot"
control_ok mnt/web.qcow2/control "delete tuesday"
check_clean store/web.qcow2
unmount_store "$TMP/mnt"
