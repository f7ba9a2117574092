# A store on a file system whose client remembers attributes, as network file systems do: what others
# change on the server shows at once.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io mergerfs
requires_root # to mount the store
requires_fuse

mkdir server store
qemu-img create -q -f qcow2 server/base.qcow2 1M
scribble server/base.qcow2 base 0 1000000
(cd server && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 web.qcow2)
truncate -s 1M server/disk.raw
noise raw 1048576 >server/base.raw
for i in one two; do
    (cd server && qemu-img create -q -f qcow2 -b base.raw -F raw $i.qcow2)
done
mergerfs -o cache.attr=3600,cache.entry=3600,cache.files=auto-full,fsname=server "$TMP/server" "$TMP/store"
on_exit "umount -l '$TMP/store'"
stat store/* >/dev/null

# The client's memory is real: a plain stat is told an old size.
truncate -s 2M server/disk.raw
assert_eq "$(stat -c %s store/disk.raw)" 1048576 "the size that the client remembers"

mount_store "$TMP/store" "$TMP/mnt"
assert_eq "$(stat -c %s mnt/disk.raw/disk)" 2097152 "size of a raw disk"
cmp mnt/web.qcow2/disk "$(qemu_raw server/web.qcow2)" || fail "disk"
for i in 1 2 3; do
    scribble server/web.qcow2 "$i" $((i * 100000)) 300000
    qemu-img snapshot -c "s$i" server/web.qcow2
    assert_eq "$(ls mnt/web.qcow2/snapshots | wc -l)" "$i" "snapshots"
    cmp mnt/web.qcow2/disk "$(qemu_raw server/web.qcow2)" || fail "disk $i"
    cmp "mnt/web.qcow2/snapshots/s$i" mnt/web.qcow2/disk || fail "snapshot $i"
    truncate -s $((i + 4))M server/disk.raw
    assert_eq "$(stat -c %s mnt/disk.raw/disk)" $(((i + 4) * 1048576)) "size of a raw disk"
done
# A raw layer that the client has in its page cache, when the server's file changes.
exec 3<mnt/one.qcow2/layers/1-base.raw 4<mnt/two.qcow2/layers/1-base.raw
cmp /dev/fd/3 server/base.raw || fail "a raw layer"
noise other 500000 | dd of=server/base.raw conv=notrunc status=none
cmp /dev/fd/4 server/base.raw || fail "a raw layer that was read before it changed, by another name"
exec 3<&- 4<&-
control_ok mnt/web.qcow2/control "take ours" "revert s1"
cmp "$(qemu_raw server/web.qcow2)" mnt/web.qcow2/snapshots/s1 || fail "reverted"
check_clean server/web.qcow2
unmount_store "$TMP/mnt"
