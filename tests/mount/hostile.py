"""Make one image per line of QCOW2-FACTS.md's "Hostile images": hostile.py STORE OUTSIDE

Prints NAME EXPECTATION for each:
    error     it has `error` in place of `disk`
    layers    the same, and layers that can be read
    eio:A:B   reading at A gives EIO, at B the byte 1
    any       error, or a disk that reads or gives EIO
    harmless  it reads as all others do

No command may make anything worse in any of them. FACTS, at the end, says which kinds of hostile
images are known to exist in the wild, and which images here stand for each.
"""

import os
import shutil
import struct
import subprocess
import sys

STORE, OUTSIDE = sys.argv[1], sys.argv[2]
CLUSTER = 65536
M = 1 << 20


def run(*argv):
    subprocess.run(argv, check=True, cwd=STORE)


def image(name, size="4M", options=(), fill=True):
    """A sound image to spoil: byte 1 in its first MiB, a snapshot called s."""
    run("qemu-img", "create", "-q", "-f", "qcow2", *options, name, size)
    if fill:
        run("qemu-io", "-c", "write -q -P 1 0 1M", name)
        run("qemu-img", "snapshot", "-c", "s", name)
        # The active disk gets an L2 table of its own, and clusters as well.
        run("qemu-io", "-c", "write -q -P 1 0 1M", name)
    return os.path.join(STORE, name)


def u64(value):
    return struct.pack(">Q", value & (1 << 64) - 1)


def u32(value):
    return struct.pack(">I", value)


def u16(value):
    return struct.pack(">H", value)


def get64(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        return struct.unpack(">Q", file.read(8))[0]


def put(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


SOUND = None
MADE = set()


def made(name, expectation):
    MADE.add(name.removesuffix(".qcow2"))
    print(name, expectation)


def spoiled(name, expectation, *patches):
    """A copy of the sound image with bytes replaced: (offset, bytes) each."""
    path = os.path.join(STORE, name + ".qcow2")
    shutil.copyfile(SOUND, path)
    for offset, data in patches:
        put(path, offset, data)
    made(name + ".qcow2", expectation)
    return path


def tables(path):
    """Host offsets of the active L1 and of its first L2 table, of the refcount table and block."""
    l1, reftable = get64(path, 40), get64(path, 48)
    mask = (1 << 56) - 512
    return l1, get64(path, l1) & mask, reftable, get64(path, reftable)


# ---- the header ----

def headers():
    for bits in (0, 8, 22, 63, 0xffffffff):
        spoiled("cluster-bits-%d" % bits, "error", (20, u32(bits)))
    for order in (7, 63, 0xffffffff):
        spoiled("refcount-order-%d" % order, "error", (96, u32(order)))
    spoiled("version-4", "error", (4, u32(4)))
    spoiled("header-length-0", "error", (100, u32(0)))
    spoiled("header-length-103", "error", (100, u32(103)))
    spoiled("header-length-huge", "error", (100, u32(0xfffffff8)))
    for bit in (5, 31, 63):
        spoiled("unknown-feature-%d" % bit, "error", (72, u64(1 << bit)))
    spoiled("crypt-method-3", "error", (32, u32(3)))
    spoiled("compression-type-9", "error", (72, u64(8)), (104, b"\x09"))
    spoiled("size-2-63", "error", (24, u64(1 << 63)))
    spoiled("size-max", "error", (24, u64(-1)))
    spoiled("size-2-62", "any", (24, u64(1 << 62)))
    spoiled("l1-too-small", "error", (24, u64(1 << 40)))
    spoiled("l1-size-max", "error", (36, u32(0xffffffff)))
    spoiled("l1-size-33m", "error", (36, u32(33 * M // 8)))
    spoiled("l1-unaligned", "error", (40, u64(get64(SOUND, 40) + 8)))
    spoiled("l1-past-end", "error", (40, u64(1 << 50)))
    spoiled("l1-overflow", "error", (40, u64(-CLUSTER)))
    spoiled("l1-at-0", "any", (40, u64(0)))
    spoiled("backing-name-long", "error", (8, u64(1000) + u32(1024)))
    spoiled("backing-name-outside", "error", (8, u64(CLUSTER - 4) + u32(100)))
    spoiled("backing-name-overflow", "error", (8, u64(-8) + u32(16)))
    spoiled("extension-length", "error", (112, u32(0x12345678) + u32(0xffffffff)))
    spoiled("extension-past-cluster", "error", (112, u32(0x12345678) + u32(CLUSTER)))
    for length in (4, 8, 50, 71, 72, 103, 511):  # with less there is no magic, and no image
        path = spoiled("header-of-%d-bytes" % length, "error")
        os.truncate(path, length)
    path = spoiled("only-header", "error")
    os.truncate(path, CLUSTER)


# ---- refcounts: nothing that reading needs, but no command may go on ----

def refcounts():
    l1, l2, reftable, block = tables(SOUND)
    readable = "any"
    spoiled("reftable-unaligned", readable, (48, u64(reftable + 8)))
    spoiled("reftable-past-end", readable, (48, u64(1 << 50)))
    spoiled("reftable-huge", readable, (56, u32(0xffffffff)))
    spoiled("reftable-0-clusters", readable, (56, u32(0)))
    spoiled("refblock-past-end", readable, (reftable, u64(1 << 50)))
    spoiled("refblock-unaligned", readable, (reftable, u64(block + 512)))
    spoiled("refblock-in-l1", readable, (reftable, u64(l1)))
    spoiled("refblock-in-header", readable, (reftable, u64(0)))
    spoiled("refcount-0-in-use", readable, (block + 2 * (l2 // CLUSTER), u16(0)))
    spoiled("refcount-0-of-data", readable,
            (block + 2 * ((get64(SOUND, l2) & (1 << 56) - 512) // CLUSTER), u16(0)))
    spoiled("refcount-max", readable, (block + 2 * (l2 // CLUSTER), u16(0xffff)))
    path = spoiled("reftable-8m-one-block", readable, (48, u64(64 * M)), (56, u32(8 * M // CLUSTER)))
    put(path, 64 * M, u64(block) * M)


# ---- tables of clusters ----

def mappings():
    l1, l2, _, block = tables(SOUND)
    data, snapshots_offset = get64(SOUND, l2), get64(SOUND, 64)
    copied = 1 << 63
    broken = "eio:0:65536"  # the first cluster is spoiled, the second is sound
    spoiled("data-unaligned", broken, (l2, u64(data | 512)))
    spoiled("data-past-end", "any", (l2, u64(copied | 1 << 50)))
    spoiled("data-at-0", "any", (l2, u64(copied)))
    for name, offset in ("l1", l1), ("refcounts", block), ("snapshots", snapshots_offset):
        spoiled("data-over-" + name, "any", (l2, u64(copied | offset // CLUSTER * CLUSTER)))
    spoiled("data-reserved-bits", "any", (l2, u64(data | 1 << 60)))
    spoiled("data-over-l2", "any", (l2, u64(copied | l2)))
    spoiled("compressed-past-end", broken, (l2, u64(1 << 62 | (1 << 50))))
    spoiled("compressed-garbage", broken, (l2, u64(1 << 62 | (1 << 54) - 8)))
    spoiled("compressed-of-text", broken, (l2, u64(1 << 62 | 4)))
    spoiled("l2-unaligned", "eio:0:-", (l1, u64(copied | l2 | 512)))
    spoiled("l2-past-end", "eio:0:-", (l1, u64(copied | 1 << 50)))
    spoiled("l2-is-l1", "any", (l1, u64(copied | l1)))
    spoiled("l2-in-header", "any", (l1, u64(copied | 0)))
    big = image("big.qcow2", "1G")  # two L1 entries
    made("big.qcow2", "harmless")
    path = os.path.join(STORE, "l2-shared.qcow2")
    shutil.copyfile(big, path)
    put(path, get64(path, 40) + 8, u64(get64(path, get64(path, 40))))
    made("l2-shared.qcow2", "any")
    path = image("extl2-both.qcow2", options=("-o", "extended_l2=on"))
    put(path, tables(path)[1] + 8, u64((1 << 64) - 1))
    made("extl2-both.qcow2", "eio:0:65536")


# ---- snapshots ----

def entry(l1_offset, l1_size, number, name=b"n", extra=b"", extra_size=None):
    """One entry of the snapshot table."""
    head = struct.pack(">QIHHIIQII", l1_offset, l1_size, len(number), len(name), 0, 0, 0, 0,
                       len(extra) if extra_size is None else extra_size)
    body = head + extra + number + name
    return body + bytes(-len(body) % 8)


def with_table(name, expectation, entries, count=None, size=None):
    """An image with a snapshot table of our own at its end."""
    path = spoiled(name, expectation)
    offset = -(-os.path.getsize(path) // CLUSTER) * CLUSTER
    put(path, offset, entries)
    put(path, 60, u32(count) + u64(offset))
    if size:
        os.truncate(path, size)
    return path


def snapshots():
    extra = u64(0) + u64(4 * M)
    with_table("snapshots-cut", "layers", entry(0, 1, b"1", extra=extra)[:20], 1)
    with_table("snapshots-more-than-there", "layers", entry(0, 1, b"1", extra=extra), 60000)
    spoiled("snapshots-too-many", "error", (60, u32(65537)))
    spoiled("snapshots-max", "error", (60, u32(0xffffffff)))
    spoiled("snapshots-past-end", "layers", (64, u64(1 << 50)))
    spoiled("snapshots-unaligned", "any", (64, u64(get64(SOUND, 64) + 8)))
    with_table("snapshots-extra-huge", "layers", entry(0, 1, b"1", extra_size=0xffffffff), 1)
    with_table("snapshot-l1-past-end", "any", entry(1 << 50, 1, b"1", extra=extra), 1)
    with_table("snapshot-l1-unaligned", "layers", entry(4097, 1, b"1", extra=extra), 1)
    with_table("snapshot-l1-huge", "layers", entry(CLUSTER, 0xffffffff, b"1", extra=extra), 1)
    with_table("snapshot-size-max", "layers", entry(CLUSTER * 3, 1, b"1", extra=u64(0) + u64(-1)), 1)
    with_table("snapshot-size-2-62", "any",
               entry(CLUSTER * 3, 1, b"1", extra=u64(-1) + u64(1 << 62)), 1)
    with_table("snapshot-names", "any", b"".join(
        entry(get64(SOUND, 40), 1, number, name, extra=extra) for number, name in (
            (b"1", b"../../etc/passwd"), (b"1", b"../../etc/passwd"), (b"", b""), (b"", b""),
            (b"2", b"a\0b"), (b"../3", b"n" * 65535), (b"4" * 65535, b"\n"), (b"5", b"1"))), 8)
    table = b"".join(entry(get64(SOUND, 40), 1, b"%d" % i, b"snap-%d" % i, extra=extra)
                     for i in range(1, 65537))
    with_table("snapshots-65536", "any", table, 65536)  # as many as the format has
    # 2,000 snapshots that share one L1 table of 32 MiB, which is a hole in the file.
    table = b"".join(entry(64 * M, 4 * M, b"%d" % i, b"big-%d" % i, extra=u64(0) + u64(1 << 40))
                     for i in range(1, 2001))
    with_table("snapshots-share-l1", "any", table, 2000, size=96 * M)


# ---- files that an image names ----

def backing(name, target, file_format="raw", expectation="error"):
    path = image(name + ".qcow2", fill=False)
    set_backing = os.path.join(os.environ["SRCDIR"], "tests/interop/set_backing.py")
    run(sys.executable, set_backing, path, target, file_format)
    made(name + ".qcow2", expectation)


def data_file(name, target):
    """An external data file of that name (and QEMU's rule: raw, in a header extension)."""
    path = image(name + ".qcow2", fill=False)
    put(path, 72, u64(4))
    put(path, 112, u32(0x44415441) + u32(len(target)) + target + bytes(-len(target) % 8 + 8))
    made(name + ".qcow2", "error")


def named_files():
    os.symlink(OUTSIDE, os.path.join(STORE, "way-out"))
    os.mkfifo(os.path.join(STORE, "fifo"))
    for i, target in enumerate((
            OUTSIDE, "../" + os.path.basename(OUTSIDE), "way-out", "/etc/passwd", "/etc/shadow",
            'json:{"driver":"file","filename":"/etc/passwd"}', 'json:{"file.filename":"/etc/passwd"}',
            "fat:/etc", "fat:rw:/etc", "nbd://localhost/x", "nbd:unix:/tmp/x", "https://localhost/",
            "ssh://localhost/etc/passwd", "gluster://localhost/v/x", "/dev/zero", "/dev/null",
            "/dev/fuse", "fifo", ".", "/", "/proc/self/mem", "/proc/kmsg", "fd:0", "file:/etc/passwd",
            "file:///etc/passwd", "host_device:/dev/zero", "missing", "backing-28.qcow2")):
        backing("backing-%02d" % i, target)
    backing("backing-itself", "backing-itself.qcow2", "qcow2")
    backing("loop-a", "loop-b.qcow2", "qcow2")
    backing("loop-b", "loop-a.qcow2", "qcow2")
    backing("backing-vmdk", "good.qcow2", "vmdk")
    backing("backing-luks", "good.qcow2", "luks")
    for i, target in enumerate((b"/etc/passwd", OUTSIDE.encode(), b"fifo", b"/dev/zero",
                                b"json:{}", b"good.qcow2")):
        data_file("data-file-%d" % i, target)


def bomb():
    """2 MiB clusters that are compressed from next to nothing, all the same few bytes."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "bomb.qcow2", "64G")
    path = os.path.join(STORE, "bomb.qcow2")
    run("qemu-io", "-c", "write -q -c -P 1 0 2M", "bomb.qcow2")
    l2 = get64(path, get64(path, 40)) & (1 << 56) - 512
    put(path, l2, u64(get64(path, l2)) * 32768)
    made("bomb.qcow2", "any")


# ---- images that claim more than their file holds ----

def bare(name, size, l1_at, l1_size, length, cluster_bits=16):
    """A version 3 image by hand: header, refcount table and block; the L1 table is the caller's."""
    path = os.path.join(STORE, name + ".qcow2")
    cluster = 1 << cluster_bits
    head = (b"QFI\xfb" + u32(3) + u64(0) + u32(0) + u32(cluster_bits) + u64(size) + u32(0) + u32(l1_size)
            + u64(l1_at) + u64(cluster) + u32(1) + u32(0) + u64(0) + u64(0) * 3 + u32(4) + u32(112) + bytes(8))
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(length)
    put(path, cluster, u64(2 * cluster))
    # Nothing is free: what the first block covers of the file, and that is never all of it.
    put(path, 2 * cluster, u16(1) * min(cluster // 2, length // cluster))
    made(name + ".qcow2", "any")
    return path


def many_l1_entries(name, entries, length):
    """As many L1 entries as the format has; each stands for 512 MiB."""
    path = bare(name, 4 * M << 29, 4 * M, 4 * M, length)
    put(path, 4 * M, entries)
    return path


def costs():
    from array import array
    many_l1_entries("l1-32m-in-a-hole", b"", 64 * M)
    many_l1_entries("l1-32m-one-l2", u64(64 * M) * (4 * M), 65 * M)
    tables = array("Q", range(64 * M, 64 * M + (4 * M << 16), 1 << 16))
    tables.byteswap()
    many_l1_entries("l1-32m-l2-in-holes", tables.tobytes(), 64 * M + (4 * M << 16))
    # The same tables in disorder.
    tables = array("Q", ((i * 2654435761 % (4 * M) << 16) + 64 * M for i in range(4 * M)))
    tables.byteswap()
    many_l1_entries("l1-32m-l2-in-disorder", tables.tobytes(), 64 * M + (4 * M << 16))
    path = many_l1_entries("l1-32m-zeros-and-holes", u64(64 * M) * (4 * M), 65 * M)
    put(path, 64 * M, (u64(1) + u64(0)) * 4096)
    path = many_l1_entries("l1-32m-one-cluster", u64(64 * M) * (4 * M), 129 * M)
    put(path, 64 * M, u64(128 * M) * 8192)
    path = bare("references-far-apart", 1 << 30, 3 * CLUSTER, 2, 4001 << 31)
    put(path, 3 * CLUSTER, u64(4 * CLUSTER))
    put(path, 4 * CLUSTER, b"".join(u64(i << 31) for i in range(1, 4001)))
    bitmaps("bitmaps-share-a-table", 0, 128 * M)
    bitmaps("bitmaps-in-holes", 32 * M, 64 * M + (65535 << 25))
    extra = u64(0) + u64(4 * M)
    table = b"".join(entry(64 * M + i * 32 * M, 4 * M, b"%d" % i, b"hole-%d" % i, extra=extra) for i in range(1000))
    with_table("snapshots-l1-in-holes", "any", table, 1000, size=64 * M + 1000 * 32 * M)


def bitmaps(name, step, length):
    """As many bitmaps as the format has, each with a table of 32 MiB, step apart."""
    path = bare(name, M, 3 * CLUSTER, 1, length)
    put(path, 88, u64(1))
    put(path, 112, u32(0x23852875) + u32(24) + u32(65535) + u32(0) + u64(65535 * 32) + u64(M))
    put(path, M, b"".join(u64(64 * M + i * step) + u32(4 * M) + u32(0) + b"\1\x10" + u16(8) + u32(0)
                          + b"%08d" % i for i in range(65535)))


# ---- what stands for what ----

FACTS = {
    "a backing file by an absolute path of the host": "backing-00 backing-03 backing-04 backing-23",
    "a backing file by a path that leads up and out": "backing-01",
    "a backing file that is a link out of the store": "backing-02",
    "a backing file in JSON": "backing-05 backing-06",
    "a backing file that is a directory as a disk (fat:)": "backing-07 backing-08",
    "a backing file on the network": "backing-09 backing-10 backing-11 backing-12 backing-13",
    "a backing file that is a device": "backing-14 backing-15 backing-16 backing-25",
    "a backing file that is a FIFO": "backing-17",
    "a backing file in /proc": "backing-20 backing-21",
    "a backing file that is the image itself": "backing-27 backing-itself",
    "backing files in a loop": "loop-a loop-b",
    "an external data file of the host": "data-file-0 data-file-1 data-file-3",
    "an external data file that is a FIFO, or JSON": "data-file-2 data-file-4",
    "a VMDK extent of the host": "extent.vmdk",
    "a raw disk into which its guest wrote a header": "guest-header",
    "2^63 virtual bytes": "size-2-63 size-max size-2-62",
    "L1 tables of 32 MiB": "l1-32m-in-a-hole l1-32m-one-l2 l1-32m-l2-in-holes l1-32m-l2-in-disorder l1-32m-zeros-and-holes "
                           "l1-32m-one-cluster l1-size-33m l1-size-max",
    "65,536 snapshots": "snapshots-65536 snapshots-too-many snapshots-max",
    "2,000 snapshots that share one L1 table of 32 MiB": "snapshots-share-l1",
    "a refcount table of 8 MiB that points at one block": "reftable-8m-one-block reftable-huge",
    "tables past the end of the file": "l1-past-end reftable-past-end refblock-past-end l2-past-end "
                                       "snapshots-past-end snapshot-l1-past-end data-past-end compressed-past-end",
    "an extension that is 0xffffffff long": "extension-length extension-past-cluster",
    "compressed bombs": "bomb compressed-garbage compressed-of-text",
    "cluster_bits 0, 8, 63": "cluster-bits-0 cluster-bits-8 cluster-bits-22 cluster-bits-63",
    "refcount_order 7 and 63": "refcount-order-7 refcount-order-63",
    "unaligned offsets": "l1-unaligned reftable-unaligned refblock-unaligned l2-unaligned data-unaligned "
                         "snapshots-unaligned snapshot-l1-unaligned",
    "offset + length overflows": "l1-overflow backing-name-overflow",
    "a refcount block inside another table": "refblock-in-l1 refblock-in-header l2-is-l1 l2-in-header",
    "an L2 table that two L1 entries share": "l2-shared",
    "data over the header or over tables": "data-at-0 data-over-l1 data-over-l2 data-over-refcounts "
                                           "data-over-snapshots",
    "refcounts at their maximum": "refcount-max",
    "refcounts of 0 of what is in use": "refcount-0-in-use refcount-0-of-data",
    "bitmaps whose tables overlap": "bitmaps-share-a-table bitmaps-in-holes",
    "tables in holes, and references that would need a refcount block each":
        "snapshots-l1-in-holes references-far-apart",
}


def check_facts():
    for fact, names in FACTS.items():
        missing = set(names.split()) - MADE
        if missing:
            sys.exit("%s: there is no %s" % (fact, ", ".join(sorted(missing))))


def foreign():
    """A VMDK descriptor, and an overlay that does not state the format of a raw disk."""
    with open(os.path.join(STORE, "extent.vmdk"), "w") as file:
        file.write('# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\n'
                   'RW 2048 FLAT "%s" 0\nRW 2048 FLAT "/etc/passwd" 0\n' % OUTSIDE)
    made("extent.vmdk", "error")
    shutil.copyfile(os.path.join(STORE, "backing-03.qcow2"), os.path.join(STORE, "guest.raw"))
    print("guest.raw error")  # what says that it is qcow2 is shown as that
    path = image("guest-header.qcow2", fill=False)
    put(path, 8, u64(1024) + u32(9))
    put(path, 1024, b"guest.raw")
    made("guest-header.qcow2", "error")


SOUND = image("good.qcow2")
made("good.qcow2", "harmless")
headers()
refcounts()
mappings()
snapshots()
named_files()
bomb()
foreign()
costs()
check_facts()
