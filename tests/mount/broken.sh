# Hostile images: each costs only itself. The tree can be listed and read, the other images are
# fine, the daemon lives, and nothing that an image names outside the store is ever opened.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3 strace prlimit
requires_fuse

# The tree is listed and read in full by tools that know nothing of images.
walk_all() {
    timeout 900 ls -lR mnt >ls.out || fail "ls -lR: status $?"
    timeout 900 find mnt -ls >find.out || fail "find: status $?"
    timeout 900 find mnt \( -name info.json -o -name control -o -name error \) -exec cat {} + >cat.out ||
        fail "reading the small files: status $?"
}

# What was opened for more than looking at it lies in the store, or is the daemon's own: with -y
# strace names the file behind each new descriptor.
assert_nothing_outside_opened() {
    ! grep -E '\b(connect|socket)\(' trace | grep -v AF_UNIX || fail "a socket was opened"
    grep -E '\b(open|openat|openat2)\(' trace | grep -v O_PATH | grep -oE '= [0-9]+<[^>]*' |
        sed 's/^= [0-9]*<//' | sort -u >opened || true
    grep -q "^$TMP/store/good.qcow2" opened || fail "strace has seen nothing: $(head -5 trace)"
    grep -vE "^$TMP/(store|mnt)|^/proc/|^/sys/|^/dev/fuse|^/dev/null|^/usr/lib|^/lib|^/etc/(ld\.so|localtime|mtab|fuse\.conf|nsswitch|passwd|group)|^/usr/share/(zoneinfo|locale)|^/run/mount|^$(dirname "$(readlink -f "$SNAPTREE")")" \
        opened >strange || true
    [ ! -s strange ] || fail "opened outside the store: $(cat strange)"
    ! grep -qE '"(/etc/(passwd|shadow)|/dev/(zero|null|kmsg)|/proc/self/mem|/proc/kmsg)"' <(grep -v O_PATH trace | grep -A100000 'dev/fuse') ||
        fail "a file that an image names was opened by its name"
    ! grep -qx "$TMP/outside" opened || fail "the file outside was opened"
}

# Seconds of the processor that the process which serves a tree has used.
worked() { # MOUNT
    awk -v ticks="$(getconf CLK_TCK)" '{ print int(($14 + $15) / ticks) }' "/proc/$(worker_of "$(daemon_of "$1")")/stat"
}

# As many snapshots as the format has. (Untraced: to list them is 65,536 look-ups. How long these take
# depends on what else the machine does; what the daemon works for them, little.)
many_snapshots() {
    mkdir crowd
    mv "$TMP/crowded.qcow2" crowd/
    mount_store "$TMP/crowd" "$TMP/mnt2"
    assert_eq "$(timeout 300 ls -U mnt2/crowded.qcow2/snapshots | wc -l)" 65536 "snapshots shown"
    ls -lR mnt2 >/dev/null || fail "ls -lR of 65,536 snapshots: status $?"
    [ "$(worked "$TMP/mnt2")" -le "30${SANITIZED:+0}" ] || fail "listing 65,536 snapshots took $(worked "$TMP/mnt2") s of the processor"
    cmp mnt2/crowded.qcow2/snapshots/snap-65536 mnt2/crowded.qcow2/snapshots/snap-1 || fail "reading the last snapshot"
    control "mnt2/crowded.qcow2/control" "take one-more"
    assert_match "$OUTPUT" "$(message_of EFBIG)|$(message_of EUCLEAN)" "one snapshot more"
    unmount_store "$TMP/mnt2"
}

# 700 layers, each a small file. 300 are read like any other chain; 700 are too many, which costs
# the upper images their disk, not more. (In a store of its own: to list each layer of each of 700
# images is a quarter of a million files.)
long_chain() {
    mkdir chain
    (cd chain && qemu-img create -q -f qcow2 -o cluster_size=512 layer-000.qcow2 1M &&
        qemu-io -c "write -q -P 5 0 64K" layer-000.qcow2 &&
        qemu-img create -q -f qcow2 -o cluster_size=512 -b layer-000.qcow2 -F qcow2 layer-001.qcow2)
    python3 - <<'END'
text = open("chain/layer-001.qcow2", "rb").read()
for i in range(2, 700):
    open("chain/layer-%03d.qcow2" % i, "wb").write(text.replace(b"layer-000", b"layer-%03d" % (i - 1)))
END
    mount_store "$TMP/chain" mnt2
    cmp mnt2/layer-300.qcow2/disk mnt2/layer-000.qcow2/disk || fail "300 layers"
    cmp mnt2/layer-000.qcow2/disk "$(qemu_raw chain/layer-000.qcow2)" || fail "the lowest layer"
    assert_eq "$(timeout 60 ls -l mnt2/layer-300.qcow2/layers | grep -c layer-)" 301 "layers shown"
    assert_match "$(cat mnt2/layer-699.qcow2/error)" . "error of a chain of 700"
    [ ! -e mnt2/layer-699.qcow2/disk ] || fail "a chain of 700 has a disk"
    timeout 60 ls -l mnt2/layer-699.qcow2 mnt2/layer-699.qcow2/layers >/dev/null || fail "ls of a chain of 700"
    unmount_store mnt2
}

# A backing file whose snapshot table is broken, which QEMU opens for nobody: its bytes are there, as
# the overlay's layers.
broken_beneath() {
    mkdir beneath
    qemu-img create -q -f qcow2 beneath/base.qcow2 1M
    scribble beneath/base.qcow2 beneath 1000 500000
    (cd beneath && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2)
    cp "$(qemu_raw beneath/base.qcow2)" base.raw
    printf '\0\0\0\1\0\0\1\0\0\0\0\0' | dd of=beneath/base.qcow2 bs=1 seek=60 conv=notrunc status=none
    mount_store "$TMP/beneath" mnt2
    assert_match "$(cat mnt2/over.qcow2/error)" "base.qcow2: the snapshot table" "the overlay's error"
    [ ! -e mnt2/over.qcow2/disk ] || fail "a disk that QEMU does not open"
    assert_same mnt2/over.qcow2/layers/0-over.qcow2 base.raw
    assert_same mnt2/over.qcow2/layers/1-base.qcow2 base.raw
    dd if=/dev/zero of=beneath/base.qcow2 bs=1 seek=60 count=12 conv=notrunc status=none
    assert_same mnt2/over.qcow2/disk base.raw "the disk when the table is mended"
    unmount_store mnt2
}

# A bad place costs itself, however the file was opened: past the page cache, a read gives what lies
# before it.
before_a_bad_place() {
    mkdir bad
    uniform_image bad/bad.qcow2 1M 5
    qemu-img snapshot -c s bad/bad.qcow2
    python3 - <<'END'
import struct
with open("bad/bad.qcow2", "r+b") as image:
    image.seek(40)
    image.seek(struct.unpack(">Q", image.read(8))[0])
    table = struct.unpack(">Q", image.read(8))[0] & 0x00fffffffffffe00
    image.seek(table + 8 * 8)
    image.write(struct.pack(">Q", 1 << 63 | 0x200)) # not at the start of a cluster
END
    mount_store "$TMP/bad" mnt2
    python3 - <<'END' || fail "next to a bad place"
import mmap, os
HALF = 512 << 10
buffer = mmap.mmap(-1, 2 * HALF)
for path in "mnt2/bad.qcow2/snapshots/s", "mnt2/bad.qcow2/disk":
    for flags in 0, os.O_DIRECT:
        fd = os.open(path, os.O_RDONLY | flags)
        n = os.preadv(fd, [buffer], 0)
        assert n == HALF and buffer[:n] == b"\5" * n, (path, flags, n)
        try:
            assert False, (path, flags, os.preadv(fd, [buffer], HALF))
        except OSError:
            pass
        n = os.preadv(fd, [buffer], HALF + 65536)
        assert n == HALF - 65536 and buffer[:n] == b"\5" * n, (path, flags, n)
        os.close(fd)
fd = os.open("mnt2/bad.qcow2/disk", os.O_RDONLY)
for before in 1, 100, 511, 512, 513, 4095, 5000:
    for more in 1, 100, 8192:
        n = os.preadv(fd, [memoryview(buffer)[:before + more]], HALF - before)
        assert 0 < n <= before and buffer[:n] == b"\5" * n, (before, more, n)
END
    unmount_store mnt2
}

mkdir store
echo "outside the store" >outside
python3 "$SRCDIR/tests/mount/hostile.py" "$TMP/store" "$TMP/outside" >expectations
mv store/snapshots-65536.qcow2 crowded.qcow2
sed -i /^snapshots-65536/d expectations
cat >"$TMP/expected.good" <(head -c 1048576 /dev/zero | tr '\0' '\1') <(head -c 3145728 /dev/zero)

mkdir mnt
ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f --seccomp-bpf -y -s 200 -o trace -e trace=open,openat,openat2,connect,socket \
    "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>daemon.log &
PIDS+=($!)
wait_for mountpoint -q mnt
DAEMON=$(daemon_of "$TMP/mnt") || fail "no daemon"
WORKER=$(worker_of "$DAEMON")

walk_all
mkdir scratch
timeout 1000 python3 "$SRCDIR/tests/mount/assail.py" "$TMP/mnt" "$TMP/store" expectations "$TMP/scratch" "$WORKER" || fail "see above"
walk_all
cmp mnt/good.qcow2/disk expected.good || fail "the good image"
control_ok mnt/good.qcow2/control "take new"
check_clean store/good.qcow2

kill -0 "$DAEMON" || fail "the daemon is dead"
HIGH=$(awk '/^VmHWM/ { print $2 }' "/proc/$WORKER/status")
echo "the daemon's memory was at most $HIGH KiB"
[ "$HIGH" -lt 262144 ] || [ -n "${SANITIZED:-}" ] || fail "the daemon took $HIGH KiB"
unmount_store mnt
wait_for test ! -d "/proc/$DAEMON"
assert_nothing_outside_opened
long_chain
broken_beneath
before_a_bad_place
many_snapshots
