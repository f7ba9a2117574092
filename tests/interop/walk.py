"""Random walks: our commands and QEMU's on one image in turn, against a model.

    walk.py [SEED...]

Each walk is told by its configuration and seed alone; both are printed when it fails, with the
steps that led there. After each step `qemu-img check` has nothing to say and all views hold
what the model says.
"""

import os
import random
import sys

from images import Failure, Model, Pattern, TMP, attempt_all, convert, qemu_io, run, tool

STEPS = 40
MOST_SNAPSHOTS = 6
CONFIGURATIONS = {
    # name: (options of qemu-img create, cluster size, has a backing file)
    "v2": ("compat=0.10", 65536, False),
    "v2-512": ("compat=0.10,cluster_size=512", 512, False),
    "v3": ("compat=1.1", 65536, False),
    "v3-512": ("cluster_size=512", 512, False),
    "v3-backing": ("cluster_size=4096", 4096, True),
    "v3-extl2": ("extended_l2=on,cluster_size=16384", 16384, False),
    "v3-extl2-backing": ("extended_l2=on,cluster_size=32768", 32768, True),
    "v3-refcount4": ("refcount_bits=4,cluster_size=4096", 4096, False),
    "v3-refcount8": ("refcount_bits=8,cluster_size=1024", 1024, False),
    "v3-refcount64": ("refcount_bits=64,cluster_size=512", 512, False),
    "v3-zstd-lazy": ("compression_type=zstd,lazy_refcounts=on,cluster_size=8192", 8192, False),
}
NAMES = ["plain", "with space", "caf\u00e9", "a/b", "it's", 'say "hi"', "%41", "..", "-x", "7a",
         "n" * 200, "#1", "back\\slash"]


class Walk:
    """One image on its way."""

    def __init__(self, name, seed):
        self.options, self.cluster, self.backing = CONFIGURATIONS[name]
        self.v2 = name.startswith("v2")
        self.rng = random.Random("%s %d" % (name, seed))
        self.image = os.path.join(TMP, "%s-%d.qcow2" % (name, seed))
        self.pattern = Pattern(self.rng, self.image, 4, min(99991, self.cluster * 3 + 5))
        self.model = Model(self.image)
        self.steps = []
        self.create()

    def random_size(self):
        """Multiples of 512, as QEMU rounds."""
        return self.rng.randint(1, min(160 * self.cluster, 3 << 20) // 512) * 512

    def create(self):
        backing = []
        if self.backing:
            base = self.image + ".base"
            run("qemu-img", "create", "-q", "-f", "qcow2", base, str(self.random_size()))
            size = os.path.getsize(base)
            qemu_io(base, ["write -q -s %s 0 %d" % (self.pattern.pick(self.rng),
                                                    min(size, len(convert(base))))])
            backing = ["-b", os.path.basename(base), "-F", "qcow2"]
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", self.options, *backing, self.image,
            str(self.random_size()))
        self.model.disk = convert(self.image)

    def span(self):
        size = len(self.model.disk)
        start = self.rng.randrange(size)
        return start, min(self.rng.randint(1, 5 * self.cluster), size - start)

    def new_name(self):
        free = [name for name in NAMES if name not in self.model.names()]
        return self.rng.choice(free)

    def old_name(self):
        return self.rng.choice(self.model.names())

    # ---- ours ----

    def we_take(self):
        name = self.new_name()
        self.steps.append("qctool take %r" % name)
        tool("take", self.image, name)
        self.model.took(name)

    def selector(self, name):
        """What stands for a snapshot on qctool's command line: a '#' begins an id."""
        number = self.model.snapshots[self.model.index(name)][0]
        return "#" + number if name.startswith("#") or self.rng.random() < 0.2 else name

    def we_revert(self):
        name = self.old_name()
        self.steps.append("qctool revert %r" % name)
        tool("revert", self.image, self.selector(name))
        self.model.reverted(name)

    def we_delete(self):
        name = self.old_name()
        self.steps.append("qctool delete %r" % name)
        tool("delete", self.image, self.selector(name))
        self.model.deleted(name)

    def we_rename(self):
        old, new = self.old_name(), self.new_name()
        self.steps.append("qctool rename %r %r" % (old, new))
        tool("rename", self.image, self.selector(old), new)
        self.model.renamed(old, new)

    def we_write(self):
        start, length = self.span()
        data = self.rng.randbytes(length)
        self.steps.append("qctool write %d (%d bytes)" % (start, length))
        tool("write", self.image, str(start), stdin=data)
        self.model.disk = self.model.disk[:start] + data + self.model.disk[start + length:]

    # ---- QEMU's ----

    def qemu_img(self, *argv):
        self.steps.append("qemu-img %s" % " ".join(argv))
        run("qemu-img", *argv)

    def they_take(self):
        name = self.new_name()
        self.qemu_img("snapshot", "-c", name, self.image)
        self.model.took(name)

    def they_revert(self):
        name = self.old_name()
        self.qemu_img("snapshot", "-a", name, self.image)
        self.model.reverted(name)

    def they_delete(self):
        name = self.old_name()
        self.qemu_img("snapshot", "-d", name, self.image)
        self.model.deleted(name)

    def they_resize(self):
        size = self.random_size()
        self.qemu_img("resize", "-q", "--shrink", self.image, str(size))
        self.model.disk = convert(self.image)
        if len(self.model.disk) != size:
            raise Failure("resize made it %d" % len(self.model.disk))

    def they_write(self):
        commands = [self.guest_command() for _ in range(self.rng.randint(1, 4))]
        self.steps.append("qemu-io %s" % commands)
        qemu_io(self.image, commands)
        self.model.disk = convert(self.image)

    def guest_command(self):
        start, length = self.span()
        whole = start // self.cluster * self.cluster
        pattern = self.pattern.pick(self.rng)
        return self.rng.choice([
            "write -q -s %s %d %d" % (pattern, start, length),
            "write -q -s %s %d %d" % (pattern, start, length),
            "write -q -z %d %d" % (start, length),
            "write -q -z -u %d %d" % (start, length),
            "discard -q %d %d" % (start, length),
            "write -q -c -s %s %d %d" % (pattern, whole,
                                         min(self.cluster, len(self.model.disk) - whole)),
        ])

    # ---- one step ----

    def choices(self):
        """The steps that are possible now, each as often as it is to be likely."""
        some = len(self.model.snapshots) > 0
        room = len(self.model.snapshots) < MOST_SNAPSHOTS
        resizable = not (self.v2 and some)
        return ([self.they_write] * 5 + [self.we_write] * 2
                + ([self.we_take] * 3 + [self.they_take] if room else [])
                + ([self.we_revert, self.we_delete] * 2 + [self.we_rename] if some else [])
                + ([self.they_revert, self.they_delete] if some else [])
                + ([self.they_resize] if resizable else []))

    def go(self):
        self.model.verify("create")
        for _ in range(STEPS):
            self.rng.choice(self.choices())()
            self.model.verify(self.steps[-1])


def attempt(what):
    name, seed = what
    walk = None
    try:
        walk = Walk(name, seed)
        walk.go()
        return True
    except Failure as failure:
        steps = ["    " + step.replace(TMP + "/", "") for step in (walk.steps if walk else [])]
        print("\n".join(["FAIL configuration %s, seed %d: %s" % (name, seed, failure)] + steps),
              flush=True)
        return False


def main():
    seeds = [int(arg) for arg in sys.argv[1:] if arg.isdigit()] or [1, 2]
    names = [arg for arg in sys.argv[1:] if arg in CONFIGURATIONS] or list(CONFIGURATIONS)
    attempt_all(attempt, [(name, seed) for seed in seeds for name in names])


if __name__ == "__main__":
    main()
