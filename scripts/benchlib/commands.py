"""Rows shuffled, ordered, tebibyte: take, revert and delete, beside qemu-img snapshot, on images of metadata alone."""

import contextlib
import os
import shutil
import statistics
import subprocess

from . import images, servers
from .measure import note, run, seconds
from .report import Line, figure, limit, shorter

OURS = "snaptree"
QEMU_IMG = "qemu-img snapshot"
COMMANDS = {"take": "-c", "revert": "-a", "delete": "-d"}
PATIENCE = 120  # seconds for a command of theirs
LEEWAY = 1.25  # what grows by no more than this beyond linear is linear


def count_text(count):
    return "{:,}".format(count)


def ours(path):
    """The seconds of each command, by a daemon that was just started."""
    store, name = os.path.split(path)
    with servers.snaptree(store) as mountpoint:
        control = "%s/%s/control" % (mountpoint, name)
        times = {command: seconds(run, "sh", "-c", "echo '%s bench' >%s" % (command, control))
                 for command in COMMANDS}
        return times, servers.memory_of(mountpoint, "VmHWM")


def qemu_img(option, path):
    return seconds(run, "qemu-img", "snapshot", option, "bench", path)


def theirs(path):
    return {command: qemu_img(option, path) for command, option in COMMANDS.items()}


def theirs_with_patience(path):
    """The same, but neither revert nor delete takes longer than that. One that is stopped leaves
    its image in a state between, so each works on a copy of what the take left."""
    figures = {"take": qemu_img("-c", path)}
    for command in ["revert", "delete"]:
        with images.removed(path + ".taken") as taken:
            copy_sparse(path, taken)
            figures[command] = seconds(give_up, "qemu-img", "snapshot", COMMANDS[command],
                                       "bench", taken)
    return figures


def give_up(*argv):
    with contextlib.suppress(subprocess.TimeoutExpired):
        run(*argv, timeout=PATIENCE)


def medians(rounds):
    return {key: statistics.median(times[key] for times in rounds) for key in rounds[0]}


def both_sides(sizes, order, peer, rounds_of_theirs):
    """Each side has its own copy, as it leaves the image with other places in use."""
    figures = {OURS: [], QEMU_IMG: []}
    image = images.clusters("ours/image.qcow2", sizes.clusters, order)
    with images.removed("ours"), images.removed("theirs"):
        shutil.copytree("ours", "theirs", copy_function=copy_sparse)
        os.sync()
        for turn in range(sizes.pairs):
            figures[OURS].append(ours(image)[0])
            if turn < rounds_of_theirs:
                figures[QEMU_IMG].append(peer("theirs/image.qcow2"))
            note("%s, %d of %d: %s" % (order, turn + 1, sizes.pairs, {
                side: {key: round(value, 3) for key, value in rounds[-1].items()}
                for side, rounds in figures.items()}))
        run("qemu-img", "check", "-q", image)
    return medians(figures[OURS]), medians(figures[QEMU_IMG])


def copy_sparse(source, target):
    run("cp", "--sparse=always", source, target)


def shuffled(sizes):
    """One round of theirs, with a limit: it would take a quarter of an hour."""
    mine, peer = both_sides(sizes, "shuffled", theirs_with_patience, 1)
    lines = []
    for command in COMMANDS:
        work = "%s, %s clusters in random order" % (command, count_text(sizes.clusters))
        lines += [limit(work, "s", mine[command], 1),
                  shorter(work, mine[command], QEMU_IMG + " (stopped)" * (peer[command] > PATIENCE),
                          peer[command], 0 if sizes.quick else 100)]
    return lines


def ordered(sizes):
    mine, peer = both_sides(sizes, "ordered", theirs, sizes.pairs)
    return [shorter("%s, %s clusters in order" % (command, count_text(sizes.clusters)),
                    mine[command], QEMU_IMG, peer[command], 1, "no slower")
            for command in COMMANDS]


# ---- as large as it gets --------------------------------------------------------------------

def one_size(count, times):
    """Medians of the times of all commands, and of the most memory."""
    rounds = []
    with images.removed("large"):
        image = images.clusters("large/image.qcow2", count, "shuffled")
        for _ in range(times):
            figures, memory = ours(image)
            rounds.append({**figures, "memory": memory})
            note("%s clusters: %s" % (count_text(count), rounds[-1]))
    return medians(rounds)


def growth_line(what, unit, counts, values):
    """How much faster than the number of clusters it grew, at worst."""
    worst = max(values[i + 1] / values[i] / (counts[i + 1] / counts[i])
                for i in range(len(counts) - 1))
    return Line("%s, %s clusters" % (what, ", ".join(map(count_text, counts))),
                ", ".join(figure(value, unit) for value in values), "linear", 1 / worst,
                1 / LEEWAY, "linear")


def tebibyte(sizes):
    counts = sizes.growth
    figures = [one_size(count, min(sizes.pairs, 3)) for count in counts]
    lines = [growth_line(command, "s", counts, [each[command] for each in figures])
             for command in COMMANDS]
    memory = [each["memory"] for each in figures]
    return lines + [growth_line("memory", "MiB", counts, memory),
                    limit("memory, %s clusters" % count_text(counts[-1]), "MiB", memory[-1], 512)]


ROWS = {
    "shuffled": shuffled,
    "ordered": ordered,
    "tebibyte": tebibyte,
}
