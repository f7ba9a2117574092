"""The matrix: every kind of image that QEMU makes, read and changed by the engine.

    matrix.py [CLUSTERS] [few] [--only=CASE]

CLUSTERS is one of those in KINDS; without it, all of them are tried. With "few" not all combinations
of the other options are tried, but so many that each two values of two options meet in one of them;
or, of clusters of 2 MiB and under a sanitizer, which take their time, so many that each value of an
option is in one.

Each case is a fresh image made with QEMU's tools. All its views must be byte for byte what
`qemu-img convert` gave when they were the disk; then ours and QEMU's commands change it in turn, and after each one
`qemu-img check` must have nothing to say and every view must hold what the model says.
"""

import itertools
import os
import random
import shutil
import sys

from images import (Failure, Model, Pattern, TMP, attempt_all, cat, convert, data_ranges_ours,
                    data_ranges_qemu, qemu_io, run, same, tool, tool_fails)

K, M = 1 << 10, 1 << 20
# Virtual size of a layer in clusters: enough for several L2 tables where they are small.
CLUSTERS = {512: 150, 4 * K: 530, 64 * K: 20, 2 * M: 3}
# Size of a cluster, and whether it has subclusters.
KINDS = {"512": (512, False), "4k": (4 * K, False), "64k": (64 * K, False), "64k-extl2": (64 * K, True),
         "2m": (2 * M, False), "2m-extl2": (2 * M, True)}


class Case:
    """One image: its options, its layers' paths, its model."""

    def __init__(self, version, cluster, refcount, compression, extl2, depth, snapshots):
        self.version, self.cluster, self.refcount = version, cluster, refcount
        self.compression, self.extl2 = compression, extl2
        self.depth, self.snapshots = depth, snapshots
        self.name = "v%d-%d-r%d-%s%s-d%d-s%d" % (version, cluster, refcount, compression,
                                                 "-extl2" if extl2 else "", depth, snapshots)
        self.rng = random.Random(self.name)
        self.dir = os.path.join(TMP, self.name)
        self.layers = []  # the top image first

    def options(self):
        text = "cluster_size=%d,compat=%s" % (self.cluster, "0.10" if self.version == 2 else "1.1")
        if self.version == 3:
            text += ",refcount_bits=%d" % self.refcount
            text += ",extended_l2=%s" % ("on" if self.extl2 else "off")
            if self.compression == "zstd":
                text += ",compression_type=zstd"
        return text

    def size(self, layer):
        """Not a multiple of the cluster, and another for each layer: longer, shorter."""
        extra = {0: 0, 1: -2, 2: 1}[layer]
        return (CLUSTERS[self.cluster] + extra) * self.cluster + (512 if self.cluster > 512 else 0)


def cases(cluster, extl2):
    """All valid combinations for one cluster size."""
    for version, refcount, compression, depth, snapshots in itertools.product(
            (2, 3), (1, 2, 4, 8, 16, 32, 64), ("none", "zlib", "zstd"), (1, 3), (0, 1, 5)):
        if version == 2 and (refcount != 16 or compression == "zstd" or extl2):
            continue
        if refcount == 1 and snapshots:
            continue
        yield Case(version, cluster, refcount, compression, extl2, depth, snapshots)


def options_of(case, count):
    """Every so many options of a case, with their values."""
    values = [("refcount", (case.version, case.refcount)), ("compression", case.compression),
              ("depth", case.depth), ("snapshots", case.snapshots)]
    return set(itertools.combinations(values, count))


def covering(every):
    """A few of the cases of a kind in which each two values meet, or each is; always the same few."""
    count = 1 if every[0].cluster == 2 * M or "SANITIZED" in os.environ else 2
    chosen, missing = [], set().union(*(options_of(case, count) for case in every))
    while missing:
        best = max(every, key=lambda case: len(missing & options_of(case, count)))
        chosen.append(best)
        missing -= options_of(best, count)
    return chosen


# ---- making images with QEMU ----

def span(case, size):
    """A range of bytes somewhere, often unaligned, at most three clusters long."""
    start = case.rng.randrange(size)
    length = case.rng.randint(1, min(3 * case.cluster, 256 * K))
    return start, min(length, size - start)


def clusters(case, size, most):
    """A range of whole clusters (or up to the end of the disk)."""
    count = -(-size // case.cluster)
    first = case.rng.randrange(count)
    start = first * case.cluster
    return start, min(case.rng.randint(1, most) * case.cluster, size - start)


def change(case, size):
    """One random command of qemu-io."""
    rng, pattern = case.rng, case.pattern.pick(case.rng)
    kinds = ["data", "data", "zero", "unmap", "discard", "full"]
    if case.compression != "none":
        kinds += ["compressed"] * 3
    kind = rng.choice(kinds)
    if kind == "compressed":
        return "write -q -c -s %s %d %d" % (pattern, *clusters(case, size, 1))
    if kind == "full":
        return "write -q -s %s %d %d" % (pattern, *clusters(case, size, 1 if case.cluster == 2 * M
                                                            else 3))
    if kind == "data":
        return "write -q -s %s %d %d" % (pattern, *span(case, size))
    if kind == "zero":
        return "write -q -z %d %d" % span(case, size)
    if kind == "unmap":
        return "write -q -z -u %d %d" % clusters(case, size, 2)
    return "discard -q %d %d" % clusters(case, size, 2)


def changes(case, size, count):
    """Some commands, and one at the end of the disk."""
    commands = [change(case, size) for _ in range(count)]
    # QEMU refuses to write a compressed cluster over one that is there: these come first.
    commands.sort(key=lambda command: " -c " not in command)
    tail = max(0, size - 700)
    return commands + ["write -q -s %s %d %d" % (case.pattern.pick(case.rng), tail, size - tail)]


def make_layers(case):
    """The chain, the lowest layer first."""
    backing = []
    for layer in reversed(range(case.depth)):
        path = os.path.join(case.dir, "layer%d.qcow2" % layer)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", case.options(), *backing, path,
            str(case.size(layer)))
        qemu_io(path, changes(case, case.size(layer), 12))
        case.layers.insert(0, path)
        backing = ["-b", os.path.basename(path), "-F", "qcow2"]


def qemu_snapshot(case, option, name):
    """qemu-img snapshot; False, and nothing changed, where the refcounts are too narrow for it."""
    if case.refcount > 4:
        run("qemu-img", "snapshot", option, name, case.layers[0])
        return True
    before = os.path.join(case.dir, "before")
    shutil.copyfile(case.layers[0], before)
    done = run("qemu-img", "snapshot", option, name, case.layers[0], ok=False)
    if done.returncode:
        os.replace(before, case.layers[0])  # it may have left a half state
    return done.returncode == 0


def take_with_qemu(case, model, name):
    if not qemu_snapshot(case, "-c", name):
        return False
    model.took(name)
    return True


def make_snapshots(case, model):
    """Snapshots made by QEMU, with the disk changing between them."""
    for i in range(case.snapshots):
        if not take_with_qemu(case, model, "qemu-%d" % i):
            return
        qemu_changes(case, model, 4)


def qemu_changes(case, model, count):
    """QEMU changes the disk."""
    qemu_io(case.layers[0], changes(case, len(model.disk), count))
    model.disk = convert(case.layers[0])


# ---- checking ----

def verify_against_qemu(case, model):
    """Every view, compared with what QEMU itself reads from the file."""
    image = case.layers[0]
    for layer, path in enumerate(case.layers):
        same(cat(image, "layer=%d" % layer), convert(path) if layer else model.disk,
             "layer %d" % layer)
    if data_ranges_ours(image) != data_ranges_qemu(image):
        raise Failure("map has data at %s, QEMU's at %s"
                      % (data_ranges_ours(image), data_ranges_qemu(image)))
    model.verify("reading")


def take(case, model, name):
    """Our take. Where it finds the refcounts too narrow, QEMU must as well, and nothing changes."""
    image = case.layers[0]
    before = None
    if case.refcount <= 4:
        with open(image, "rb") as file:
            before = file.read()
    errno = tool_fails("take", image, name)
    if errno is None:
        model.took(name)
        return model.verify("take %s" % name)
    if before is None:
        raise Failure("take %s: %s" % (name, errno))
    with open(image, "rb") as file:
        same(file.read(), before, "the file after a failed take")
    if case.refcount == 1 and errno == "EOPNOTSUPP":
        return None
    copy = os.path.join(case.dir, "copy")
    shutil.copyfile(image, copy)
    if errno != "EFBIG" or run("qemu-img", "snapshot", "-c", name, copy, ok=False).returncode == 0:
        raise Failure("take %s: %s" % (name, errno))
    return None


def revert(case, model, name):
    """Our revert of a snapshot that may not exist any more in narrow images."""
    errno = tool_fails("revert", case.layers[0], name)
    if errno == "EFBIG" and case.refcount <= 4:
        return model.verify("refused revert %s" % name)
    if errno:
        raise Failure("revert %s: %s" % (name, errno))
    model.reverted(name)
    return model.verify("revert %s" % name)


def delete(case, model, name):
    tool("delete", case.layers[0], name)
    model.deleted(name)
    model.verify("delete %s" % name)


def rename(case, model, old, new):
    tool("rename", case.layers[0], old, new)
    model.renamed(old, new)
    model.verify("rename %s %s" % (old, new))


def qemu_uses_it(case, model):
    """QEMU reverts to and deletes what we made, and takes one that we then delete."""
    image = case.layers[0]
    if "ours-2" in model.names() and qemu_snapshot(case, "-a", "ours-2"):
        model.reverted("ours-2")
        model.verify("qemu-img snapshot -a ours-2")
    if take_with_qemu(case, model, "theirs"):
        delete(case, model, "theirs")
    if "ours-2" in model.names():
        run("qemu-img", "snapshot", "-d", "ours-2", image)
        model.deleted("ours-2")
        model.verify("qemu-img snapshot -d ours-2")


def write_with_us(case, model):
    """Our writer: a range of the disk, unaligned."""
    start, length = span(case, len(model.disk))
    data = case.rng.randbytes(length)
    errno = None
    try:
        tool("write", case.layers[0], str(start), stdin=data)
    except Failure as failure:
        errno = failure
    if errno and not (case.refcount <= 4 and "EFBIG" in str(errno)):
        raise errno
    if not errno:
        model.disk = model.disk[:start] + data + model.disk[start + length:]
    model.verify("write %d %d" % (start, length))


def overwrite_all(case, model):
    """The guest overwrites its whole disk; no snapshot may notice."""
    size = len(model.disk)
    qemu_io(case.layers[0], ["write -q -P 64 0 %d" % size])
    model.disk = b"@" * size
    model.verify("qemu-io overwrote the disk")


def exercise(case):
    """The whole life of one image."""
    os.mkdir(case.dir)
    case.pattern = Pattern(case.rng, os.path.join(case.dir, "p"), 3,
                           min(99991, 40 * case.cluster + 7))
    make_layers(case)
    model = Model(case.layers[0])
    model.disk = convert(case.layers[0])
    make_snapshots(case, model)
    verify_against_qemu(case, model)

    take(case, model, "ours-1")
    qemu_changes(case, model, 4)
    model.verify("qemu-io changed the disk after take")
    take(case, model, "ours-2")
    qemu_changes(case, model, 2)
    if model.snapshots:
        revert(case, model, case.rng.choice(model.names()))
    qemu_uses_it(case, model)
    if "ours-1" in model.names():
        rename(case, model, "ours-1", "new name")
    write_with_us(case, model)
    take(case, model, "ours-3")
    overwrite_all(case, model)
    while model.snapshots:
        delete(case, model, case.rng.choice(model.names()))


def attempt(case):
    """True when the case passes. With KEEP set, its files stay for a look."""
    try:
        exercise(case)
        return True
    except Failure as failure:
        print("FAIL %s: %s" % (case.name, failure), flush=True)
        return False
    finally:
        if "KEEP" not in os.environ:
            shutil.rmtree(case.dir, ignore_errors=True)


def main():
    only = [arg[7:] for arg in sys.argv if arg.startswith("--only=")]
    chosen = []
    for kind in [arg for arg in sys.argv if arg in KINDS] or KINDS:
        every = list(cases(*KINDS[kind]))
        chosen += covering(every) if "few" in sys.argv else every
    attempt_all(attempt, [case for case in chosen if not only or case.name in only])


if __name__ == "__main__":
    main()
