# Far more images than files may be open, more open files than there is room for, and less memory
# than is asked for: some requests fail with the errno that says so, all others go on.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 prlimit
requires_fuse

COUNT=${SANITIZED:+700} # which are slow enough
COUNT=${COUNT:-5000}
FILES=256

make_store() {
    mkdir store one
    qemu-img create -q -f qcow2 -o cluster_size=512 one/image.qcow2 64K
    scribble one/image.qcow2 limits 0 65536
    qemu-img snapshot -c s one/image.qcow2
    qemu-img convert -O raw one/image.qcow2 image.raw
    python3 -c 'import shutil, sys
for i in range(int(sys.argv[1])):
    shutil.copyfile("one/image.qcow2", "store/%d.qcow2" % i)' "$COUNT"
}

# Everything is seen by ls, and a part of everything read, one file after the other.
one_after_the_other() {
    ls -lR mnt >ls.out || fail "ls -lR"
    assert_eq "$(grep -c ' disk$' ls.out)" "$COUNT" "disks in ls -lR"
    assert_eq "$(grep -c ' s$' ls.out)" "$COUNT" "snapshots in ls -lR"
    python3 - "$COUNT" <<'END' || fail "reading one after the other"
import sys
want = open("image.raw", "rb").read()
for i in range(0, int(sys.argv[1]), 5):
    for part in ("disk", "snapshots/s") if i % 10 == 0 else ("disk",):
        got = open("mnt/%d.qcow2/%s" % (i, part), "rb").read()
        assert got == want, (i, part)
END
}

# Many at once: those beyond the limit get EMFILE, and nobody else suffers.
many_at_once() {
    python3 - "$COUNT" $FILES <<'END' || fail "many at once"
import errno, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
want = open("image.raw", "rb").read()
opened, refused = [], 0
for i in range(600):
    try:
        opened.append(os.open("mnt/%d.qcow2/disk" % i, os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        refused += 1
limit = int(sys.argv[2])
assert limit // 2 < len(opened) < limit and refused > 300, (len(opened), refused)
# All that are open can be read, and what has no need of a descriptor goes on.
for fd in opened:
    assert os.pread(fd, 65536, 0) == want
os.statvfs("mnt")
# A listing looks at the images, for which there are no descriptors: it fails, or is complete.
try:
    assert len(os.listdir("mnt")) == int(sys.argv[1]) + 1
except OSError as error:
    assert error.errno == errno.EMFILE, error
# Some that are closed make room for another.
for _ in range(3):
    os.close(opened.pop())
fd = os.open("mnt/%d.qcow2/disk" % (int(sys.argv[1]) - 9), os.O_RDONLY)
assert os.pread(fd, 65536, 0) == want
os.close(fd)
print("%d open at once, %d refused" % (len(opened), refused))
END
    # All closed: everything as before.
    assert_eq "$(find mnt -maxdepth 1 -name "*.qcow2" | wc -l)" "$COUNT" "images after all is closed"
    cmp mnt/$((COUNT - 1)).qcow2/disk image.raw || fail "a disk after all is closed"
    control_ok mnt/$((COUNT - 1)).qcow2/control "take t" "delete t"
    check_clean store/$((COUNT - 1)).qcow2
}

# An image with many snapshots: names that say nothing, all of the same disk. (Its refcounts are
# wrong, which nobody asks here.) And one whose tables are large.
make_large_images() {
    mkdir large
    cp one/image.qcow2 large/small.qcow2
    qemu-img create -q -f qcow2 -o cluster_size=64K large/crowd.qcow2 64K
    python3 - large/crowd.qcow2 <<'END'
import struct, sys
f = open(sys.argv[1], "r+b")
header = f.read(104)
l1 = struct.unpack(">Q", header[40:48])[0]
at = f.seek((f.seek(0, 2) + 65535) & -65536)
for i in range(40000):
    name, id = b"a name that takes some room, number %d" % i, b"%d" % (i + 1)
    entry = struct.pack(">QIHHIIQII", l1, 1, len(id), len(name), 1600000000 + i, 0, 0, 0, 16)
    entry += struct.pack(">QQ", 0, 65536) + id + name
    f.write(entry + bytes(-len(entry) % 8))
f.seek(60)
f.write(struct.pack(">IQ", 40000, at))
END
    qemu-img create -q -f qcow2 -o cluster_size=64K large/wide.qcow2 512T
}

# What needs more memory than there is fails with ENOMEM; the daemon and everybody else go on.
short_of_memory() {
    local vm i
    # One heap: of others the address space is reserved, so that the limit is none for them.
    MALLOC_ARENA_MAX=1 mount_store "$TMP/large" "$TMP/mnt" -o cache=1
    WORKER=$(worker_of "$(daemon_of "$TMP/mnt")")
    for i in $(seq 20); do # its threads are there, and have what they need
        cat mnt/small.qcow2/disk >/dev/null &
    done
    wait
    control_ok mnt/small.qcow2/control "take t" "delete t"
    vm=$(awk '/^VmSize/ { print $2 }' "/proc/$WORKER/status")
    prlimit --pid "$WORKER" --as=$(((vm + 4096) * 1024)):
    for i in 1 2 3; do
        assert_fails ls mnt/crowd.qcow2/snapshots
        assert_match "$OUTPUT" "$(message_of ENOMEM)" "a listing that there is no memory for"
        assert_fails cat mnt/crowd.qcow2/info.json
        assert_match "$OUTPUT" "$(message_of ENOMEM)" "a text that there is no memory for"
        control_fails ENOMEM mnt/crowd.qcow2/control "rename x y"
        control_fails ENOMEM mnt/wide.qcow2/control "take s"
        cmp mnt/small.qcow2/disk image.raw || fail "the others, when memory is short"
        ls -l mnt mnt/small.qcow2/snapshots >/dev/null || fail "listing the others"
        control_ok mnt/small.qcow2/control "take t" "delete t"
    done
    kill -0 "$WORKER" || fail "the daemon is dead"
    check_clean large/small.qcow2 large/wide.qcow2
    prlimit --pid "$WORKER" --as=unlimited:
    assert_eq "$(find mnt/crowd.qcow2/snapshots -type f | wc -l)" 40000 "snapshots once there is memory"
    grep -c '"vm-clock-nsec"' mnt/crowd.qcow2/info.json | grep -qx 40000 || fail "info.json once there is memory"
    control_ok mnt/wide.qcow2/control "take s" "delete s"
    check_clean large/wide.qcow2
    unmount_store "$TMP/mnt"
}

# What is open often at once is there once, whatever its size: 36 descriptors more take less than 20 MiB.
cheap_to_open() { # PATH
    python3 - "$WORKER" "$@" <<'END' || fail "memory of many descriptors of $1"
import os, sys
worker, path = sys.argv[1:]

def resident():
    with open("/proc/%s/status" % worker) as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

fds = [os.open(path, os.O_RDONLY) for i in range(4)]
before = resident()
fds += [os.open(path, os.O_RDONLY) for i in range(36)]
grown = resident() - before
assert grown < 20480, "%d KiB" % grown
END
}

many_descriptors() {
    MALLOC_ARENA_MAX=1 mount_store "$TMP/large" "$TMP/mnt"
    WORKER=$(worker_of "$(daemon_of "$TMP/mnt")")
    cheap_to_open mnt/crowd.qcow2/snapshots
    cheap_to_open mnt/crowd.qcow2/disk
    unmount_store "$TMP/mnt"
}

# An image of 768 compressed clusters of 64 KiB.
make_packed_image() {
    mkdir packed
    python3 -c 'import os, sys
for _ in range(768):
    sys.stdout.buffer.write(os.urandom(512) * 128)' >packed.raw
    qemu-img convert -c -f raw -O qcow2 packed.raw packed/packed.qcow2
    rm packed.raw
}

resident() {
    awk '/^VmRSS/ { print $2 }' "/proc/$WORKER/status"
}

# Read a piece of each compressed cluster, in no order; by how many KiB the daemon has grown is in $GROWN.
decode_all() { # MIB OF CACHE
    MALLOC_ARENA_MAX=1 mount_store "$TMP/packed" "$TMP/mnt" -o cache="$1"
    WORKER=$(worker_of "$(daemon_of "$TMP/mnt")")
    dd if=mnt/packed.qcow2/disk of=/dev/null bs=4096 count=1 status=none
    GROWN=$(resident)
    python3 - <<'END'
import os, random
disk = os.open("mnt/packed.qcow2/disk", os.O_RDONLY)
for cluster in random.Random(1).sample(range(768), 768):
    assert len(os.pread(disk, 4096, cluster * 65536)) == 4096
END
    GROWN=$(($(resident) - GROWN))
    unmount_store "$TMP/mnt"
}

# Of 48 MiB that are decoded the daemon keeps what the option says; more would be seen.
cache_is_bounded() {
    decode_all 64
    [ "$GROWN" -gt 40960 ] || fail "a cache that has room for all has grown by only $GROWN KiB"
    decode_all 4
    [ "$GROWN" -lt 12288 ] || fail "a cache of 4 MiB has grown by $GROWN KiB"
}

# No thread can be started any more while many read. What then fails may fail, but all that was begun
# ends: so does the daemon, once it is unmounted.
short_of_threads() {
    local i data daemon
    mount_store "$TMP/disks" "$TMP/mnt"
    daemon=$(daemon_of "$TMP/mnt")
    WORKER=$(worker_of "$daemon")
    data=$(awk '/^VmData/ { print $2 }' "/proc/$WORKER/status")
    prlimit --pid "$WORKER" --data=$(((data + $1) * 1024)):
    for i in $(seq 8); do
        { cat "mnt/$i.qcow2/disk" || true; } >/dev/null 2>&1 &
    done
    wait
    # libfuse gives up when it has no buffer
    { prlimit --pid "$WORKER" --data=unlimited: && fusermount3 -u "$TMP/mnt"; } 2>/dev/null || true
    wait_for is_gone "$daemon"
    wait_for is_gone "$WORKER"
}

make_store
mkdir mnt
if [ -z "${SANITIZED:-}" ]; then # whose programs take all the memory there is
    make_large_images
    short_of_memory
    many_descriptors
    make_packed_image
    cache_is_bounded
    mkdir disks
    for i in $(seq 8); do
        qemu-img create -q -f qcow2 "disks/$i.qcow2" 8M
    done
    for room in 8192 16384 20480 28672; do
        short_of_threads $room
    done
fi
(
    ulimit -n $FILES
    mount_store "$TMP/store" "$TMP/mnt"
)
ls mnt/0.qcow2 >/dev/null
WORKER=$(worker_of "$(daemon_of "$TMP/mnt")")
assert_eq "$(awk '/^Max open files/ { print $5 }' "/proc/$WORKER/limits")" $FILES "files that the daemon may open"
one_after_the_other
many_at_once
kill -0 "$WORKER" || fail "the daemon is dead"
unmount_store "$TMP/mnt"
