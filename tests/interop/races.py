"""races.py SNAPTREE ROUNDS [grow|qemu]: many who want to change one image at the same moment.

In every round qctool and the daemon each take a snapshot, one of them deletes another, and
qemu-img takes or deletes one or qemu-io writes the disk, all started at once. Each either gets the
image to itself or is told that it is in use: what reported success is in the image, what failed
is not, whatever the others did; every snapshot is the disk before or after a write, never between.

QEMU has a flaw of its own here: it asks for the file's length before it locks the file, so that
one of its programs reads zeros for tables when another lets the file grow in between. So there is
but one program of QEMU in a round, and the file is long enough from the start. With "grow" it is
not, and only what the engine does against that (qcow/file/file.c) helps. With "qemu" four qemu-img are
alone, and their damage is counted.
"""

import collections
import os
import random
import subprocess
import sys

from images import QCTOOL, TMP, Failure, check, dump, run, tool

SNAPTREE, ROUNDS = sys.argv[1], int(sys.argv[2])
MODE = sys.argv[3] if len(sys.argv) > 3 else ""
STORE, MOUNT = os.path.join(TMP, "store"), os.path.join(TMP, "mnt")
IMAGE = os.path.join(STORE, "image.qcow2")
CONTROL = os.path.join(MOUNT, "image.qcow2", "control")
SIZE, TAIL = 512 << 10, 64 << 20
ROUNDS_TO_CHECK = 10
BUSY = {"qemu-img": " lock", "qemu-io": " lock", "qctool": "EBUSY",
        "snaptree": "Device or resource busy"}


def by_qemu(verb, name):
    return ["qemu-img", "snapshot", {"take": "-c", "delete": "-d"}[verb], name, IMAGE]


def by_qctool(verb, name):
    return [QCTOOL, verb, IMAGE, name]


def by_mount(verb, name):
    return ["bash", "-c", "echo %s %s >%s" % (verb, name, CONTROL)]


OURS = {"qctool": by_qctool, "snaptree": by_mount}


class Race:
    """The image, what must be in it, and how often who was first."""

    def __init__(self):
        self.rng = random.Random(1)
        self.present = set()
        self.won, self.lost = collections.Counter(), collections.Counter()

    def one_of_qemu(self, number):
        """(who, verb, snapshot or None, argv) of one program of QEMU."""
        verb = self.rng.choice(["take", "take", "delete", "write"])
        if verb == "write" or (verb == "delete" and not self.present):
            return ("qemu-io", "write", None, ["qemu-io", "-f", "qcow2", "-c", "write -q -P %d 0 %d"
                                               % (1 + number % 255, SIZE), IMAGE])
        name = "qemu-%d" % number if verb == "take" else self.rng.choice(sorted(self.present))
        return ("qemu-img", verb, name, by_qemu(verb, name))

    def contenders(self, number):
        """The programs of a round, in any order."""
        if MODE == "qemu":
            names = ["qemu-%d-%d" % (number, i) for i in range(4)]
            return [("qemu-img", "take", name, by_qemu("take", name)) for name in names]
        jobs = [(who, "take", "%s-%d" % (who, number), way("take", "%s-%d" % (who, number)))
                for who, way in OURS.items()]
        jobs.append(self.one_of_qemu(number))
        free = sorted(self.present - {job[2] for job in jobs})
        if free:
            who, name = self.rng.choice(list(OURS)), self.rng.choice(free)
            jobs.append((who, "delete", name, OURS[who]("delete", name)))
        self.rng.shuffle(jobs)
        return jobs

    def judge(self, who, verb, name, status, text):
        """Success changes what must be there; failure must be that somebody else has it."""
        if status != 0:
            if BUSY[who] not in text:
                raise Failure("%s %s %s: status %d: %s" % (who, verb, name, status, text))
            self.lost[who] += 1
            return
        self.won[who] += 1
        if verb == "take":
            self.present.add(name)
        elif verb == "delete":
            self.present.remove(name)

    def round(self, number):
        started = [(job, subprocess.Popen(job[3], stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
                   for job in self.contenders(number)]
        for (who, verb, name, _), process in started:
            text = process.communicate()[0].decode(errors="replace")
            self.judge(who, verb, name, process.returncode, text)
        listed = [line.split(" ", 2)[2] for line in tool("list", IMAGE).decode().splitlines()]
        if sorted(listed) != sorted(self.present):
            raise Failure("%s instead of %s" % (sorted(listed), sorted(self.present)))

    def thin_out(self):
        """All is well, and few snapshots are left."""
        check(IMAGE)
        verify_whole()
        for name in sorted(self.present)[5:]:
            tool("delete", IMAGE, name)
            self.present.remove(name)

    def go(self, number):
        self.round(number)
        if number % ROUNDS_TO_CHECK == 0 or number == ROUNDS - 1:
            self.thin_out()


def verify_whole():
    """Each view is one byte from end to end."""
    data, at = dump(IMAGE), 0
    while at < len(data):
        line_end = data.index(b"\n", at) + 1
        view = data[line_end:line_end + SIZE]
        if view != view[:1] * SIZE:
            raise Failure("half a write in %r" % data[at:line_end])
        at = line_end + SIZE


def new_image():
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", IMAGE, str(SIZE))
    if not MODE:
        os.truncate(IMAGE, TAIL)


def race_ours():
    race = Race()
    for number in range(ROUNDS):
        try:
            race.go(number)
        except Failure as failure:
            sys.exit("FAIL round %d: %s" % (number, failure))
    print("%d rounds%s, all as reported; went through, was refused: %s" % (
        ROUNDS, " in a growing file" if MODE else "", ", ".join(
            "%s %d, %d" % (who, race.won[who], race.lost[who]) for who in sorted(race.won))))


def race_qemu():
    """A new image each time that one is damaged."""
    race, damaged = Race(), 0
    for number in range(ROUNDS):
        try:
            race.go(number)
        except Failure:
            damaged += 1
            new_image()
            race = Race()
    print("%d rounds of qemu-img alone: %d damaged the image or lost a snapshot" % (ROUNDS, damaged))


def main():
    os.mkdir(STORE)
    os.mkdir(MOUNT)
    new_image()
    if MODE == "qemu":
        return race_qemu()
    run(SNAPTREE, STORE, MOUNT)
    try:
        race_ours()
    finally:
        run("fusermount3", "-u", MOUNT)
    return None


main()
