# check tells what is wrong with an image, in words; repair sets right what can be set right, and
# what cannot stays as it is.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

new_image() {
    qemu-img create -q -f qcow2 "$1" 4M
    qemu-io -c 'write -q -P 1 0 1M' "$1"
    qemu-img snapshot -c s "$1"
    qemu-io -c 'write -q -P 2 0 256K' "$1"
}

# Set the stored refcount (16 bits) of a host cluster: image, cluster, count.
set_refcount() {
    python3 - "$@" <<'END'
import struct, sys
path, cluster, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "r+b") as f:
    f.seek(48)
    table, = struct.unpack(">Q", f.read(8))
    f.seek(table)
    block, = struct.unpack(">Q", f.read(8))
    f.seek(block + 2 * cluster)
    f.write(struct.pack(">H", count))
END
}

mkdir store
for name in clean leaks errors broken; do
    new_image store/$name.qcow2
done
truncate -s 8M store/leaks.qcow2 # clusters that nobody uses
set_refcount store/leaks.qcow2 120 1
set_refcount store/leaks.qcow2 121 7
set_refcount store/errors.qcow2 5 0 # in use
# The active L1 table points between clusters.
L1=$(python3 -c 'import struct; f = open("store/broken.qcow2", "rb"); f.seek(40); print(struct.unpack(">Q", f.read(8))[0])')
patch_bytes store/broken.qcow2 $((L1 + 6)) 02
mount_store store mnt

control_ok mnt/clean.qcow2/control check
assert_match "$(last_result mnt/clean.qcow2/control)" " ok check: no errors, no leaked clusters$"
before=$(stat -c '%s %b %y %z' store/clean.qcow2; sha256sum <store/clean.qcow2)
control_ok mnt/clean.qcow2/control repair
assert_match "$(last_result mnt/clean.qcow2/control)" " ok repair: there was nothing to mend$"
assert_eq "$(stat -c '%s %b %y %z' store/clean.qcow2; sha256sum <store/clean.qcow2)" "$before" "repair of a clean image"

cp store/clean.qcow2 store/one.qcow2
truncate -s 8M store/one.qcow2
set_refcount store/one.qcow2 120 1
control_ok mnt/one.qcow2/control check
assert_match "$(last_result mnt/one.qcow2/control)" " ok check: no errors, 1 leaked cluster \\(repair gives"

for mark in 1 2; do # not closed cleanly, and corrupt
    cp store/clean.qcow2 store/marked.qcow2
    patch_bytes store/marked.qcow2 79 0$mark
    control_ok mnt/marked.qcow2/control repair
    assert_match "$(last_result mnt/marked.qcow2/control)" " ok repair: no errors, no leaked clusters; its mark is taken away$"
    assert_eq "$(od -An -tu1 -j 79 -N 1 store/marked.qcow2)" "   0" "the mark"
done

STATUS=0
qemu-img check -q store/leaks.qcow2 || STATUS=$?
assert_eq "$STATUS" 3 "qemu-img sees the leaks"
before=$(sha256sum <store/leaks.qcow2)
control_ok mnt/leaks.qcow2/control check
assert_match "$(last_result mnt/leaks.qcow2/control)" " ok check: no errors, 2 leaked clusters"
assert_eq "$(sha256sum <store/leaks.qcow2)" "$before" "check changes nothing"
cp mnt/leaks.qcow2/disk disk.before
cp store/leaks.qcow2 store/leaks2.qcow2
cp store/leaks.qcow2 store/strange.qcow2
control_ok mnt/control "repair leaks.qcow2"
assert_match "$(last_result mnt/control)" " ok repair leaks.qcow2: 0 errors mended, 2 leaked clusters given back$"
check_clean store/leaks.qcow2
# Any command gives lost space back ...
control_ok mnt/leaks2.qcow2/control "take t"
check_clean store/leaks2.qcow2
assert_same mnt/leaks2.qcow2/disk disk.before
assert_same mnt/leaks2.qcow2/snapshots/t disk.before
# ... unless something in the header that nobody knows might refer to it.
for kind in extension autoclear compatible longer; do
    cp store/strange.qcow2 "store/$kind.qcow2"
    python3 - "store/$kind.qcow2" $kind <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as f:
    header = bytearray(f.read(1024))
    length = struct.unpack_from(">I", header, 100)[0]
    lost = struct.pack(">Q", 120 * 65536)
    if sys.argv[2] == "extension":
        header[length:length] = struct.pack(">II", 0x12345678, 8) + lost
    elif sys.argv[2] == "autoclear":
        header[88] |= 0x80
    elif sys.argv[2] == "compatible":
        header[80] |= 0x80
    else:
        header[length:length] = lost
        struct.pack_into(">I", header, 100, length + 8)
    f.seek(0)
    f.write(header[:1024])
END
    control_ok mnt/control "take $kind.qcow2 t"
    STATUS=0
    qemu-img check "store/$kind.qcow2" >check.txt || STATUS=$?
    assert_eq "$STATUS" 3 "what may not be lost: $kind"
    assert_match "$(cat check.txt)" "2 leaked clusters" "what may not be lost: $kind"
    control_ok mnt/control "repair $kind.qcow2" # who says so is obeyed
    check_clean "store/$kind.qcow2"
done
control_ok mnt/leaks.qcow2/control check
assert_match "$(last_result mnt/leaks.qcow2/control)" "no leaked clusters$"
assert_same mnt/leaks.qcow2/disk disk.before
assert_same mnt/leaks.qcow2/snapshots/s mnt/clean.qcow2/snapshots/s

control_fails EUCLEAN mnt/errors.qcow2/control check
assert_match "$(last_result mnt/errors.qcow2/control)" "errors.qcow2: 1 error and 0 leaked clusters; the first error: .*cluster 5 .*repair mends"
control_fails EUCLEAN mnt/errors.qcow2/control "take t"
assert_match "$(last_result mnt/errors.qcow2/control)" "repair mends"
# An image is named in its result also if its name is part of any sentence.
cp store/errors.qcow2 store/a
control_fails EUCLEAN mnt/a/control check
assert_match "$(last_result mnt/a/control)" " EUCLEAN check: a: 1 error and"
control_ok mnt/errors.qcow2/control repair
assert_match "$(last_result mnt/errors.qcow2/control)" " ok repair: 1 error mended, 0 leaked clusters given back$"
control_ok mnt/errors.qcow2/control repair
assert_match "$(last_result mnt/errors.qcow2/control)" " ok repair: there was nothing to mend$"
control_ok mnt/errors.qcow2/control "take t" "delete s"
check_clean store/errors.qcow2
assert_same mnt/errors.qcow2/snapshots/t mnt/clean.qcow2/disk

before=$(sha256sum <store/broken.qcow2)
control_fails EUCLEAN mnt/broken.qcow2/control check
control_fails EUCLEAN mnt/broken.qcow2/control repair
control_fails EUCLEAN mnt/broken.qcow2/control "take t"
assert_eq "$(sha256sum <store/broken.qcow2)" "$before" "what cannot be repaired stays"
control_fails EINVAL mnt/clean.qcow2/control "check it"
assert_match "$(last_result mnt/clean.qcow2/control)" "wrong number of arguments; write: check$"

# What cannot be read is an error, for that place only, also of what comes through the page cache,
# where a read that is short would be the end of the file.
new_image store/spot.qcow2
qemu-img snapshot -c t store/spot.qcow2
python3 - <<'END' || fail "a place that cannot be read"
import errno, os, struct, sys

with open("store/spot.qcow2", "r+b") as f:
    f.seek(40)
    f.seek(struct.unpack(">Q", f.read(8))[0])
    table = struct.unpack(">Q", f.read(8))[0] & (1 << 56) - 512
    f.seek(table + 10 * 8)
    entry = struct.unpack(">Q", f.read(8))[0]
    f.seek(table + 10 * 8)
    f.write(struct.pack(">Q", entry | 512)) # between clusters

SIZE, C = 4 << 20, 65536
for path in "snapshots/t", "disk":
    fd = os.open("mnt/spot.qcow2/" + path, os.O_RDONLY)
    got = b""
    try:
        while True:
            part = os.read(fd, 1 << 20)
            if not part:
                sys.exit("%s ends after %d bytes" % (path, len(got)))
            got += part
    except OSError as error:
        assert error.errno == errno.EIO, error
    assert got == b"\2" * (4 * C) + b"\1" * (6 * C), "%s: %d bytes" % (path, len(got))
    assert os.fstat(fd).st_size == SIZE, os.fstat(fd).st_size
    assert os.pread(fd, C, 11 * C) == b"\1" * C, "what lies behind it in " + path
    assert os.pread(fd, C, SIZE - C) == bytes(C), "the end of " + path
    os.close(fd)
END

if [ "$(id -u)" = 0 ] && chattr +i store/clean.qcow2 2>/dev/null; then
    control_fails EACCES mnt/clean.qcow2/control "take t"
    assert_match "$(last_result mnt/clean.qcow2/control)" "clean.qcow2: .*lsattr"
    chattr -i store/clean.qcow2
fi
