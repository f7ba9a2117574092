# Block devices in the store, directly or behind a link, as logical volumes are: qcow2 and raw
# on them read right, take snapshots, notice every change; one that is full or read-only changes nothing.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io losetup blockdev
requires_root
requires_fuse

# A loop device of that many bytes; its name is in $DEVICE.
make_device() {
    truncate -s "$1" "$TMP/backing.$2"
    DEVICE=$(losetup --find --show "$TMP/backing.$2") || skip "no loop device to be had"
    on_exit "losetup -d $DEVICE"
}

make_store() {
    mkdir store
    make_device 24M qcow
    QCOW=$DEVICE
    qemu-img create -q -f qcow2 "$QCOW" 16M
    scribble "$QCOW" one 0 4194304
    ln -s "$QCOW" store/volume
    make_device 4M raw
    RAW=$DEVICE
    scribble "$RAW" two 1048576 1048576 raw
    mknod store/plain b $((0x$(stat -c %t "$RAW"))) $((0x$(stat -c %T "$RAW")))
}

reads_right() {
    assert_same mnt/volume/disk "$(qemu_raw "$QCOW" -f qcow2)" "qcow2 on a device"
    assert_same mnt/plain/disk "$(qemu_raw "$RAW" -f raw)" "raw device"
}

takes_and_reverts() {
    qemu_raw "$QCOW" -f qcow2 >/dev/null
    cp .raw then.raw
    control_ok mnt/volume/control 'take then'
    check_clean "$QCOW"
    assert_same mnt/volume/snapshots/then then.raw
    scribble "$QCOW" three 2097152 3145728
    reads_right
    assert_same mnt/volume/snapshots/then then.raw
    control_ok mnt/volume/control 'revert then'
    check_clean "$QCOW"
    assert_same mnt/volume/disk then.raw
}

# A device tells nothing of changes: what is read through an open file has to be right even so.
notices_changes() {
    python3 - "$QCOW" <<'END'
import os, subprocess, sys
fd = os.open("mnt/volume/disk", os.O_RDONLY)
before = os.pread(fd, 65536, 1 << 20)
subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 77 1M 64K", sys.argv[1]], check=True)
after = os.pread(fd, 65536, 1 << 20)
assert before != after and after == b"\x4d" * 65536, "stale bytes through an open file"
# The tables move: those that were there lie unchanged in free clusters.
subprocess.run([os.environ["QCTOOL"], "revert", sys.argv[1], "then"], check=True)
assert os.pread(fd, 65536, 1 << 20) == before, "bytes from before a revert through an open file"
END
    reads_right
}

# Such a device may well be opened for writing.
read_only_device() {
    on_exit "blockdev --setrw $QCOW" # for whoever gets that loop device next
    blockdev --setro "$QCOW"
    control_fails EROFS mnt/volume/control 'take then2'
    reads_right
    blockdev --setrw "$QCOW"
    control_ok mnt/volume/control 'take then2' 'delete then2'
    check_clean "$QCOW"
}

# Overwriting the disk again and again with snapshots between fills the device.
fills_up() {
    local i
    for i in 1 2 3 4 5 6 7 8; do
        control mnt/volume/control "take s$i"
        [ "$STATUS" = 0 ] || break
        check_clean "$QCOW"
        qemu-io -f qcow2 -c "write -q -P $i 0 3M" "$QCOW" >/dev/null 2>&1 || break
    done
    qemu-img check -q "$QCOW" || qemu-img check -q -r leaks "$QCOW" # QEMU's own failed write
    cp "$TMP/backing.qcow" before
    for i in $(seq 1 100); do
        control mnt/volume/control "take fill$i"
        [ "$STATUS" = 0 ] || break
        check_clean "$QCOW"
    done
    [ "$STATUS" != 0 ] || fail "the device never filled up"
    assert_match "$OUTPUT" "$(message_of ENOSPC)"
    check_clean "$QCOW"
}

# A device that cannot be opened is an image that says so, whatever its name. (Of this number there
# is no driver.)
shows_what_it_cannot_open() {
    local entry
    mknod store/dead b 60 1
    ln -s dead store/alias
    for entry in dead alias; do
        assert_eq "$(ls mnt/$entry)" $'control\nerror\ninfo.json\nlayers\nsnapshots' "$entry"
        assert_match "$(cat mnt/$entry/error)" "$entry: " "error"
    done
    rm store/dead store/alias
}

# Where LVM makes its nodes without udev, /dev/VG/LV is a link by an absolute path.
follows_links_below_dev() {
    local dir=/dev/snaptree-test.$$
    mkdir "$dir"
    on_exit "rm -r $dir"
    ln -s "$QCOW" "$dir/target"
    ln -s "$dir/target" "$dir/lv"
    ln -s "$dir/round" "$dir/round"
    cp "$TMP/backing.raw" outside.raw
    ln -s "$TMP/outside.raw" "$dir/outside"
    ln -s "$dir/lv" store/lv
    ln -s "$dir/round" store/round.img
    ln -s "$dir/outside" store/outside.img
    assert_same mnt/lv/disk mnt/volume/disk
    control_ok mnt/lv/control 'take linked' 'delete linked'
    check_clean "$QCOW"
    [ ! -e mnt/outside.img/disk ] && [ ! -e mnt/round.img/disk ] || fail "a link out of /dev is followed"
    rm store/lv store/round.img store/outside.img
}

# But not into another file system that is mounted there, neither by a link of the store nor by one in
# /dev: any user may have made what lies in /dev/shm.
stays_in_dev() {
    local dir=/dev/snaptree-test.$$.other other entry
    other=$(mktemp -d /dev/shm/snaptree-test.XXXXXX)
    mkdir "$dir"
    on_exit "rm -r $dir $other"
    cmp -s <(stat -c %d /dev) <(stat -c %d "$other") && fail "/dev/shm is no file system of its own"
    mknod "$other/node" b $((0x$(stat -c %t "$QCOW"))) $((0x$(stat -c %T "$QCOW")))
    ln -s "$QCOW" "$other/link"
    ln -s "$other/node" "$dir/node"
    ln -s "$other/link" "$dir/link"
    ln -s "$other/node" store/direct-node
    ln -s "$other/link" store/direct-link
    ln -s "$dir/node" store/node
    ln -s "$dir/link" store/link
    for entry in direct-node direct-link node link; do
        [ ! -e "mnt/$entry" ] || fail "$entry is followed: $(ls "mnt/$entry")"
    done
    rm store/direct-node store/direct-link store/node store/link
}

# Another host writes to a device that both share: the file beneath the loop device, of which this
# kernel keeps what it has read of the device while a program has that open.
another_host() {
    local file=$TMP/backing.shared
    make_device 24M shared
    qemu-img create -q -f qcow2 "$DEVICE" 16M
    scribble "$DEVICE" four 0 8388608
    qemu-img snapshot -c gone "$DEVICE"
    scribble "$DEVICE" five 0 65536
    blockdev --flushbufs "$DEVICE"
    mkdir shared mnt2
    ln -s "$DEVICE" shared/volume
    mount_store shared mnt2
    python3 - "$DEVICE" "$file" <<'END'
import errno, os, subprocess, sys, time
device, file = sys.argv[1:]
held = os.open(device, os.O_RDONLY)
tree = "mnt2/volume/"
def there(*command):
    subprocess.run(command, check=True)
    subprocess.run(["sync", file], check=True)
def qemu_raw(*options):
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", *options, "-O", "raw", file, "there.raw"], check=True)
    return open("there.raw", "rb").read()
def here(path):
    return open(tree + path, "rb").read()
gone = os.open(tree + "snapshots/gone", os.O_RDONLY)
assert os.pread(gone, 4096, 4 << 20) == qemu_raw("-l", "snapshot.name=gone")[4 << 20:][:4096]
assert here("disk") == qemu_raw()
os.pread(held, 24 << 20, 0) # all of it is in this kernel's memory

there("qemu-img", "snapshot", "-d", "gone", file)
there("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xcc 8M 8M", "-c", "write -q -P 0xdd 0 64K", file)
there("qemu-img", "snapshot", "-c", "new", file)
there("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xee 2M 1M", file)
time.sleep(0.05)
try:
    got = os.pread(gone, 65536, 7 << 20) # which was not read ahead
    assert not got, "bytes of a deleted snapshot"
except OSError as error:
    assert error.errno in (errno.EIO, errno.ESTALE), error
os.close(gone)
assert os.listdir(tree + "snapshots") == ["new"], os.listdir(tree + "snapshots")
assert here("disk") == qemu_raw(), "the disk"
assert here("snapshots/new") == qemu_raw("-l", "snapshot.name=new"), "the snapshot"

before = qemu_raw()
os.pread(held, 24 << 20, 0)
there("qemu-io", "-f", "qcow2", "-c", "write -q -P 0xab 4M 4M", file)
now = qemu_raw()
assert now != before
open(tree + "control", "w").write("take after\n")
os.close(held)
subprocess.run(["sync", device], check=True)
assert qemu_raw() == now, "a command undid what the other host wrote"
assert qemu_raw("-l", "snapshot.name=after") == now
assert here("disk") == now

# A raw disk becomes an image there: it is not handed out as the disk.
held = os.open(device, os.O_RDONLY)
there("dd", "if=/dev/zero", "of=" + file, "bs=1M", "count=24", "conv=notrunc", "status=none")
assert here("disk") == bytes(24 << 20)
os.pread(held, 24 << 20, 0)
there("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", "other.qcow2", "8M")
there("dd", "if=other.qcow2", "of=" + file, "conv=notrunc", "status=none")
assert b'"format": "qcow2"' in here("info.json")
assert here("disk") == bytes(8 << 20)
os.close(held)
END
    check_clean "$file"
    unmount_store "$TMP/mnt2"
}

make_store
mount_store store mnt
assert_eq "$(ls mnt)" $'control\nplain\nvolume' "entries"
reads_right
shows_what_it_cannot_open
follows_links_below_dev
stays_in_dev
takes_and_reverts
notices_changes
read_only_device
fills_up
another_host
