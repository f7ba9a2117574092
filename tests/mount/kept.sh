# What was read of a file is kept only while its change time tells of every later write. That does
# not hold of a write under way, whose time was taken when it began; nor for a while of files whose
# times are whole seconds; nor where a write through a mapping may change no time at all.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 cmp mkfs.ext4 debugfs
requires_fuse

new_store() { # DIRECTORY
    mkdir "$1"
    uniform_image "$1/base.qcow2" 4M 0x11
    (cd "$1" && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2)
    qemu-img snapshot -c s "$1/top.qcow2"
    sync -f "$1"
}

PARTS=(layers/1-base.qcow2 snapshots/s disk)

expect_all() { # MOUNT RAW WHAT
    local part
    for part in "${PARTS[@]}"; do
        cmp "$1/top.qcow2/$part" "$2" || fail "$3: $part"
    done
}

# ---- somebody who has the file mapped ----

new_store store
mount_store store "$TMP/mnt"

cat >map.py <<'END'
import mmap, os, sys, time

base, parts = sys.argv[1], sys.argv[2:]
with open(base, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
    pages[:] = pages[:]  # from here on, until they are written back, writing takes no time
    time.sleep(0.1)
    before = os.stat(base).st_ctime_ns
    for part in parts:
        with open(part, "rb") as disk:
            disk.read()
    pages[:] = pages[:].replace(b"\x11" * 65536, b"\x77" * 65536)
    if os.stat(base).st_ctime_ns != before:
        sys.exit(3)
END
status=0
python3 map.py store/base.qcow2 "${PARTS[@]/#/$TMP/mnt/top.qcow2/}" || status=$?
[ $status = 0 ] || [ $status = 3 ] || fail "map.py: $status"
expect_all "$TMP/mnt" "$(qemu_raw store/top.qcow2)" "after who had it mapped"
unmount_store "$TMP/mnt"

# ---- a header that is written long after the time was set, by who takes QEMU's locks ----

new_store locked
mount_store locked "$TMP/mnt"

cat >late.py <<'END'
import fcntl, mmap, os, struct, sys, time

F_OFD_SETLK = 37
image, disk, snapshots = sys.argv[1:]


def seen():
    return os.stat(disk).st_size, os.listdir(snapshots)


with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
    for byte in 100, 101, 103, 201, 203:  # a writer's
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0)
        fcntl.fcntl(file.fileno(), F_OFD_SETLK, lock)
    pages[:512] = pages[:512]  # from here on, until it is written back, writing takes no time
    time.sleep(0.1)
    before = os.stat(image).st_ctime_ns
    if seen() != (4 << 20, ["s"]):
        sys.exit(f"at first: {seen()}")
    pages[24:32] = struct.pack(">Q", 5 << 20)
    resized = seen()
    pages[60:64] = struct.pack(">I", 0)
    without = seen()
    late = os.stat(image).st_ctime_ns != before
if late:
    sys.exit(0)
if resized != (5 << 20, ["s"]) or without != (5 << 20, []):
    sys.exit(f"resized: {resized}, and without snapshots: {without}")
END
python3 late.py locked/top.qcow2 "$TMP/mnt/top.qcow2/disk" "$TMP/mnt/top.qcow2/snapshots" ||
    fail "written late by who takes QEMU's locks"
unmount_store "$TMP/mnt"

# ---- somebody who has it mapped where that changes no times ----

cat >unnoticed.py <<'END'
import mmap, os, sys

image, old, new = sys.argv[1:]
before = os.stat(image).st_ctime_ns
with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
    was = pages[:]  # of a tmpfs, what was read can be written from here on
    pages[:] = was.replace(bytes([int(old)]) * 65536, bytes([int(new)]) * 65536)
print("noticed" if os.stat(image).st_ctime_ns != before else "unnoticed")
END

expect_unnoticed() { # DIRECTORY
    local part seen
    new_store "$1/store"
    mount_store "$1/store" "$TMP/mnt"
    sleep 0.1 # so that the times of the files are old enough to be trusted
    for part in "${PARTS[@]}"; do
        cmp -s "$TMP/mnt/top.qcow2/$part" "$TMP/mnt/top.qcow2/disk" || fail "$1: $part"
    done
    seen=$(python3 unnoticed.py "$1/store/base.qcow2" 17 119)
    [ "$seen" = unnoticed ] || echo "$1: such a write is noticed here"
    expect_all "$TMP/mnt" "$(qemu_raw "$1/store/top.qcow2")" "$1: after who had it mapped"
    unmount_store "$TMP/mnt"
}

if [ "$(id -u)" = 0 ]; then
    mkdir memory
    mount -t tmpfs -o size=64M tmpfs memory
    expect_unnoticed memory
    mkdir memory/{lower,upper,work} over
    if mount -t overlay -o lowerdir=memory/lower,upperdir=memory/upper,workdir=memory/work overlay over; then
        expect_unnoticed over
    fi
fi

# ---- whole seconds ----

[ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] || exit 0
truncate -s 64M volume
mkfs.ext4 -q -F -I 128 volume >mkfs.log 2>&1
mkdir fs
mount -o loop volume fs || exit 0
new_store fs/store
mount_store fs/store "$TMP/mnt"

cat >twice.py <<'END'
import subprocess, sys, time

base, parts = sys.argv[1], sys.argv[2:]


def write(*commands):
    subprocess.run(["qemu-io", *commands, base], check=True, stdout=subprocess.DEVNULL)


time.sleep(1.05 - time.time() % 1)  # both in one second, most likely
write("-c", "write -P 0x22 0 4M")
for part in parts:
    with open(part, "rb") as disk:
        disk.read()
write("-c", "write -z 0 2M", "-c", "write -P 0x33 2M 2M")
time.sleep(2)
END
python3 twice.py fs/store/base.qcow2 "${PARTS[@]/#/$TMP/mnt/top.qcow2/}"
expect_all "$TMP/mnt" "$(qemu_raw fs/store/top.qcow2)" "written twice in a second"
unmount_store "$TMP/mnt"

# ---- whole seconds, and a clock that was set back: it comes to the time of the last write again ----

rm -r fs/store
new_store fs/store
umount fs
ahead=$(($(date +%s) + 8))
debugfs -w -R "set_inode_field /store/base.qcow2 ctime @$ahead" volume >debugfs.log 2>&1
debugfs -w -R "set_inode_field /store/base.qcow2 mtime @$ahead" volume >>debugfs.log 2>&1
mount -o loop volume fs
[ "$(stat -c %Z fs/store/base.qcow2)" = "$ahead" ] || fail "the time of the file: $(<debugfs.log)"
mount_store fs/store "$TMP/mnt"

cat >again.py <<'END'
import os, sys, time

base, ahead, parts = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
for part in parts:
    with open(part, "rb") as disk:
        disk.read()
with open(base, "rb") as file:
    new = file.read().replace(b"\x11" * 65536, b"\x77" * 65536)
time.sleep(max(0, ahead + 0.3 - time.time()))  # within that second, most likely
with open(base, "r+b", buffering=0) as file:
    file.write(new)
END
python3 again.py fs/store/base.qcow2 "$ahead" "${PARTS[@]/#/$TMP/mnt/top.qcow2/}"
expect_all "$TMP/mnt" "$(qemu_raw fs/store/top.qcow2)" "written again at the time of the last write"
unmount_store "$TMP/mnt"
