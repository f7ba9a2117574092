"""Rows store and backup: a large store, and what people do with a snapshot."""

from functools import partial
import json
import os
import statistics

from . import images, servers
from .measure import evict, in_turn, note, run, seconds, shell, warm
from .report import Line, limit, shorter
from .servers import visit

OURS = "snaptree"
RAW = "the raw file"
FLOOR = "floor, page cache"
SNAPSHOT = "files.qcow2/snapshots/monday"
SLOWER = 1.2  # than the raw file is allowed


# ---- a store of thousands -------------------------------------------------------------------

def look_around(store, mountpoint):
    """One visit of an admin: seconds of each step, and the memory that it took."""
    figures = {}
    figures["mount"] = seconds(run, os.environ["SNAPTREE"], store, mountpoint)
    try:
        figures["ls"] = seconds(shell, "ls %s | wc -l" % mountpoint)
        figures["find"] = seconds(lambda: figures.update(
            entries=int(shell("find %s | wc -l" % mountpoint))))
        figures["memory"] = servers.memory_of(mountpoint, "VmRSS")
        figures["peak"] = servers.memory_of(mountpoint, "VmHWM")
    finally:
        run("fusermount3", "-u", mountpoint)
        servers.wait_until(lambda: not servers.is_running(mountpoint), "the end of the daemon")
    note("store: %s" % {key: round(value, 3) for key, value in figures.items()})
    return figures


def store(sizes):
    count, snapshots = sizes.store
    one = images.many_snapshots("one.qcow2", snapshots)
    mountpoint = servers.empty_directory("mnt")
    with images.removed("many"):
        images.many_images("many", one, count)
        rounds = [look_around("many", mountpoint) for _ in range(min(sizes.pairs, 3))]
    figures = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
    size = "{:,} images with {:,} snapshots".format(count, snapshots)
    return [limit("mount, " + size, "s", figures["mount"], 0.1),
            limit("ls of the root", "s", figures["ls"], 1),
            limit("find, {:,} entries".format(int(figures["entries"])), "s", figures["find"], 15),
            limit("memory after it (at most: %.0f MiB)" % figures["peak"], "MiB",
                  figures["memory"], 200)]


# ---- backups --------------------------------------------------------------------------------

def copy(path):
    with images.removed("copy") as out:
        os.sync()
        return seconds(run, "cp", path, out)


def pack(path):
    with images.removed("archive") as out:
        os.sync()
        return seconds(run, "tar", "-cf", out, "-C", *os.path.split(os.path.abspath(path)))


def restic(*words):
    environment = {**os.environ, "RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": "repository",
                   "RESTIC_CACHE_DIR": "restic-cache"}
    return run("restic", *words, env=environment)


def back_up(path):
    with images.removed("repository"), images.removed("restic-cache"):
        restic("init")
        os.sync()
        return seconds(restic, "backup", path)


def files_read(path):
    """How many files restic finds changed."""
    last = restic("backup", "--json", path).strip().splitlines()[-1]
    summary = json.loads(last)
    return summary["files_new"] + summary["files_changed"]


def second_runs(path, store):
    """What restic reads in its second run, and in one after the store was mounted anew."""
    with images.removed("repository"), images.removed("restic-cache"):
        restic("init")
        with servers.snaptree_file(path, store) as snapshot:
            first = files_read(snapshot)
            again = files_read(snapshot)
        with servers.snaptree_file(path, store) as snapshot:
            mounted_anew = files_read(snapshot)
    note("restic reads %d, %d, %d files" % (first, again, mounted_anew))
    return again, mounted_anew


def nothing(work, count):
    return Line(work, "%d files" % count, "", float(count == 0), 1, "nothing")


def one_backup(sizes, tool, use, prepare, state):
    """Beside the raw file; from the page cache beside the floor as well, which has all in memory."""
    raw = images.files_disk("files.raw", sizes.files)
    image = images.with_snapshot("jobs/files.qcow2", raw)
    work = "%s of a snapshot %s" % (tool, state)
    times = sizes.pairs if use is back_up else 2 * sizes.pairs - 1  # those that vary most
    sides = {OURS: visit(partial(servers.snaptree_file, SNAPSHOT, "jobs"), use, image,
                         prepare=prepare),
             RAW: visit(partial(servers.plain, os.path.abspath(raw)), use, raw, prepare=prepare)}
    if prepare is warm and use is not back_up:
        sides[FLOOR] = visit(partial(servers.floor, raw), use, raw)
    medians = in_turn(sides, times, work)
    lines = [shorter(work, medians[OURS], RAW, medians[RAW], 1 / SLOWER,
                     "at most %g x as long" % SLOWER)]
    if FLOOR in sides:
        lines.append(shorter(work, medians[OURS], FLOOR, medians[FLOOR]))
    return lines


def backup(sizes):
    """From the disk, as backups read what nobody has read for a day; and from the page cache."""
    lines = []
    for state, prepare in [("on disk", evict), ("in the page cache", warm)]:
        for tool, use in [("cp", copy), ("tar", pack), ("restic backup", back_up)]:
            lines += one_backup(sizes, tool, use, prepare, state)
    again, mounted_anew = second_runs(SNAPSHOT, "jobs")
    return lines + [nothing("restic's second run reads", again),
                    nothing("and after mounting anew", mounted_anew)]


ROWS = {
    "store": store,
    "backup": backup,
}
