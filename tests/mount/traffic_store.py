"""
The store of traffic.py: its images, what they hold, and the model that they are held to in the end.

Every disk is told by one number, its stamp: block i of it is filled with a byte that the stamp and
i give. The name of a snapshot begins with the stamp of what it holds. An image in "moving" holds
one stamp, whichever it is.
"""
import json, os, shutil, subprocess

BLOCK = 64 * 1024
BLOCKS = 16
STAMPS = 251
OWNED = {  # image of one owner, who alone changes it, through the tree and with QEMU's tools
    "small.qcow2": ["-o", "cluster_size=4K"],
    "usual.qcow2": [],
    "old.qcow2": ["-o", "compat=0.10"],
    "over.qcow2": ["-b", "base.qcow2", "-F", "qcow2"],
}
SHARED = "shared.qcow2"  # many command it at once; its content is always SHARED_STAMP's
SHARED_STAMP = 77
MOVING = ["a.qcow2", "b.qcow2", "c.raw"]


class Wrong(Exception):
    """The daemon did what it must not do."""


def byte_of(stamp, block):
    return (stamp + block) % STAMPS + 1


def stamp_in(data, offset):
    """The stamp of a piece of a disk; all of it must have the same."""
    stamp = (data[0] - 1 - offset // BLOCK) % STAMPS
    place = 0
    while place < len(data):
        block = (offset + place) // BLOCK
        n = min(len(data) - place, (block + 1) * BLOCK - offset - place)
        if data[place : place + n] != bytes([byte_of(stamp, block)]) * n:
            raise Wrong("bytes at %d are not those of stamp %d" % (offset + place, stamp))
        place += n
    return stamp


def stamp_of_name(name):
    return int(name.split(".")[0])


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise Wrong("%s: %s" % (" ".join(argv), done.stderr.strip()))
    return done.stdout


def fill(path, stamp, *options):
    """Write a stamp onto a whole disk, with QEMU."""
    writes = ["write -q -P %d %d %d" % (byte_of(stamp, i), i * BLOCK, BLOCK) for i in range(BLOCKS)]
    run("qemu-io", *options, *[word for w in writes for word in ("-c", w)], path)


def prepare(store):
    os.makedirs(store + "/moving")
    os.makedirs(store + ".staging")
    size = str(BLOCKS * BLOCK)
    for i in range(4):
        staged = "%s.staging/%d" % (store, i)
        run("qemu-img", "create", "-q", "-f", "qcow2", staged + ".qcow2", size)
        fill(staged + ".qcow2", 50 * i)
        run("qemu-img", "convert", "-O", "raw", staged + ".qcow2", staged + ".raw")
    shutil.copy(store + ".staging/1.qcow2", store + "/base.qcow2")
    for name, options in OWNED.items():
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, "%s/%s" % (store, name), size)
        fill("%s/%s" % (store, name), 0)
        run("qemu-img", "snapshot", "-c", "0.first", "%s/%s" % (store, name))
    for name, stamp in ((SHARED, SHARED_STAMP), ("race-0.qcow2", 9), ("race-1.qcow2", 9)):
        run("qemu-img", "create", "-q", "-f", "qcow2", "%s/%s" % (store, name), size)
        fill("%s/%s" % (store, name), stamp)


def verify_disk(image, wanted, *options):
    raw = image + ".raw"
    run("qemu-img", "convert", "-O", "raw", *options, image, raw)
    data = open(raw, "rb").read()
    os.unlink(raw)
    if len(data) != BLOCKS * BLOCK or stamp_in(data, 0) != wanted:
        raise Wrong("%s %s does not hold stamp %d" % (image, " ".join(options), wanted))


def verify(store):
    """Every image against the model, by QEMU's eyes."""
    model = json.load(open(store + ".model"))
    verified = 0
    for image, wanted in model.items():
        path = os.path.join(store, image)
        info = json.loads(run("qemu-img", "info", "--output=json", path))
        found = sorted(s["name"] for s in info.get("snapshots", []))
        expected = sorted([*wanted["snapshots"], *(set(wanted["maybe"]) & set(found))])
        if found != expected:
            raise Wrong("%s has the snapshots %s, not %s" % (image, found, expected))
        verify_disk(path, wanted["disk"])
        for name in found:
            verify_disk(path, stamp_of_name(name), "-l", "snapshot.name=" + name)
            verified += 1
    print("%d images and %d snapshots hold what the model says" % (len(model), verified))
