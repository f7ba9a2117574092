"""The images, each made when it is first asked for."""

import contextlib
import os
import shutil

from .measure import MIB, note, run

GENERATOR = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "bench", "mkimage.py")
FILES_FROM = ["/usr/lib", "/usr/share", "/usr/bin"]


class Sizes:
    """How large everything is."""

    def __init__(self, quick):
        self.quick = quick
        self.pairs = 2 if quick else 5
        self.big = 512 if quick else 2048  # MiB of an incompressible disk
        self.files = 256 if quick else 1024  # MiB of a disk with an ext4 of real files
        self.chain = 256 if quick else 1024  # MiB of a disk that many layers hold
        self.zeros = 1024 if quick else 4096  # MiB that are read of an empty disk
        self.duration = 1 if quick else 5  # seconds of random reads
        self.clusters = 100_000 if quick else 1_000_000
        self.growth = [250_000, 1_000_000] if quick else [1_000_000, 4_000_000, 16_000_000]
        self.store = (1000, 20) if quick else (10_000, 100)  # images, snapshots of each


def once(function):
    """Made in a file of another name first, so that what is there is whole."""
    def make(path, *args):
        if not os.path.exists(path):
            note("making " + path)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            function(path + ".new", *args)
            os.rename(path + ".new", path)
            os.sync()  # not while something else is measured
        return path
    return make


@once
def random_disk(path, mib):
    with open("/dev/urandom", "rb") as source, open(path, "wb") as out:
        for _ in range(mib):
            out.write(source.read(MIB))


def copy_files(directory, budget):
    """Real files, in order, up to a number of bytes; from the beginning again if need be."""
    copies = 0
    while budget > 0:
        copies += 1
        for source in FILES_FROM:
            for place, directories, names in os.walk(source):
                directories.sort()
                target = "%s/%d%s" % (directory, copies, place)
                os.makedirs(target, exist_ok=True)
                for name in sorted(names):
                    file = os.path.join(place, name)
                    if os.path.islink(file) or not os.path.isfile(file):
                        continue
                    budget -= os.path.getsize(file) + 4096
                    if budget <= 0:
                        return
                    shutil.copyfile(file, os.path.join(target, name))


@once
def files_disk(path, mib):
    """An ext4, nine tenths full."""
    copy_files("files", mib * MIB * 9 // 10)
    with open(path, "wb") as out:
        out.truncate(mib * MIB)
    run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-i", "8192", "-d", "files", path)
    shutil.rmtree("files")


@once
def converted(path, raw, *options):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, path)


@once
def with_snapshot(path, raw):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    run("qemu-img", "snapshot", "-c", "monday", path)


@once
def overlay(path, backing, backing_format="qcow2"):
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", backing_format, "-b", backing, path)


@once
def linked(path, file):
    os.link(file, path)


@once
def sparse(path, gib):
    """2 MiB of data in two places."""
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "%dG" % gib)
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 1G 1M", "-c",
        "write -q -P 2 %dG 1M" % (gib - 4), path)


@once
def clusters(path, count, order):
    run("python3", GENERATOR, "clusters", path, str(count), order)


@once
def chain(path, layers, raw, order):
    run("python3", GENERATOR, "chain", path, str(layers), raw, order)


@once
def many_snapshots(path, count):
    """Small, because there will be thousands of it: clusters of 512 bytes."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "1M")
    for number in range(count):
        run("qemu-img", "snapshot", "-c", "snapshot-%d" % number, path)


@once
def many_images(path, image, count):
    os.makedirs(path)
    for number in range(count):
        shutil.copyfile(image, "%s/vm-%05d.qcow2" % (path, number))


@contextlib.contextmanager
def removed(path):
    """A file or directory that is not needed again."""
    try:
        yield path
    finally:
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)
