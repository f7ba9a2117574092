"""Rows first-read to sparse: reading, beside those who serve the same image as a file."""

from functools import partial
import os

from . import images, servers
from .measure import Failure, dd, evict, fio, in_turn, note, random_reads, run, seconds, warm
from .report import faster, limit
from .servers import visit

OURS = "snaptree"
RINGS = "with -o io_uring"
RAW = "the raw file"
QSD = "qemu-storage-daemon"
NBD = "nbdfuse and qemu-nbd"
FLOOR = "floor, direct"
BY_HAND = "read-ahead raised by hand, " + QSD
SELDOM = ["qcowmount", NBD, BY_HAND]  # for information


def qsd_name(option):
    return "%s (%s)" % (QSD, option) if option else QSD


def qsd_sides(sizes, image, use, files):
    """The peer with its defaults, and with the option that brings most, if one does."""
    figures = {}
    if sizes.quick:
        return {QSD: visit(partial(servers.qsd, image, ""), use, *files)}
    for option in servers.QSD_OPTIONS:
        try:
            figures[option] = visit(partial(servers.qsd, image, option), use, *files)()
        except Failure as failure:
            note("%s does not work here: %s" % (option, failure))
    best = max(figures, key=figures.get)
    note("%s: %s" % (QSD, ", ".join("%s %.4g" % (key or "defaults", value)
                                    for key, value in figures.items())))
    options = [""] if figures[best] < 1.03 * figures[""] else ["", best]
    return {qsd_name(option): visit(partial(servers.qsd, image, option), use, *files)
            for option in options}


def compare(sizes, what, image, path, use, files=(), more=None, store="store", rings=False):
    """Ours (PATH in the mount; also with its option), the peer, and MORE sides: all medians, and
    the peer's best."""
    files = files or [image]
    sides = {OURS: visit(partial(servers.snaptree_file, path, store), use, *files)}
    if rings and servers.rings_are_there():
        sides[RINGS] = visit(partial(servers.snaptree_rings, path, store), use, *files)
    sides.update(qsd_sides(sizes, image, use, files))
    medians = in_turn({**sides, **(more or {})}, sizes.pairs, what, SELDOM)
    peer = max((name for name in sides if name.startswith(QSD)), key=medians.get)
    return medians, peer


def others(image, use):
    """Peers that are shown for information."""
    return {"qcowmount": visit(partial(servers.qcowmount, image), use, image),
            NBD: visit(partial(servers.nbdfuse, image), use, image)}


def informative(work, unit, medians, names):
    return [faster(work, unit, medians[OURS], name, medians[name]) for name in names]


def beside_peer(work, unit, medians, peer, target):
    """The line of the target, also for our option; and when one made the peer faster, its
    defaults."""
    lines = [faster(work, unit, medians[OURS], peer, medians[peer], target)]
    if RINGS in medians:
        lines.append(faster("%s, %s" % (work, RINGS), unit, medians[RINGS], peer, medians[peer],
                            target))
    return lines + informative(work, unit, medians, [QSD] if peer != QSD else [])


def big_image(sizes):
    raw = images.random_disk("big.raw", sizes.big)
    return raw, images.with_snapshot("store/big.qcow2", raw)


# ---- 1 and 2: what is not compressed --------------------------------------------------------

def first_read(sizes):
    work = "sequential read, first time"
    raw, image = big_image(sizes)
    use = partial(dd, mib=sizes.big)
    floors = {FLOOR: visit(partial(servers.floor, raw, "--direct"), use, raw),
              "floor, page cache": visit(partial(servers.floor, raw), use, raw)}
    reads = "a server of the raw file that reads before it answers"
    more = {BY_HAND: visit(partial(servers.qsd, image, read_ahead=True), use, image),
            reads: visit(partial(servers.floor, raw, "--direct", "--read"), use, raw),
            **floors, **others(image, use)}
    medians, peer = compare(sizes, work, image, "big.qcow2/disk", use, more=more)
    floor = max(floors, key=medians.get)
    return [*beside_peer(work, "MiB/s", medians, peer, 4),
            faster(work, "MiB/s", medians[OURS], floor, medians[floor], 0.9),
            *informative(work, "MiB/s", medians, [reads, BY_HAND, "qcowmount", NBD])]


def nth_read(path, mib, n):
    """MiB/s of the last of N times."""
    return [dd(path, mib) for _ in range(n)][-1]


def nth_read_of_file(path, mib, n):
    """The kernel moves each page once, when it is used for the second time; so also a plain file
    has to begin outside the page cache for its second read to be like that of another."""
    evict(path)
    return nth_read(path, mib, n)


def again(sizes):
    raw, image = big_image(sizes)
    images.overlay("store/top.qcow2", os.path.basename(image))
    images.overlay("store/thin.qcow2", os.path.basename(images.linked("store/big.raw", raw)), "raw")
    floor = "floor, page cache"
    lines = []
    snapshot = "big.qcow2/snapshots/monday"
    for what, path, n, file, prepare in [
            ("snapshot, second", snapshot, 2, image, warm),
            ("layer, second", "top.qcow2/layers/1-big.qcow2", 2, image, warm),
            ("raw layer, second", "thin.qcow2/layers/1-big.raw", 2, raw, evict),
            ("snapshot, third", snapshot, 3, image, warm)]:
        work = "sequential read of a %s time" % what
        use = partial(nth_read, mib=sizes.big, n=n)
        medians = in_turn({
            OURS: visit(partial(servers.snaptree_file, path), use, file, prepare=prepare),
            floor: visit(partial(servers.floor, raw), use, raw),
            RAW: visit(partial(servers.plain, raw), partial(nth_read_of_file, mib=sizes.big, n=n)),
        }, sizes.pairs, work)
        lines += [faster(work, "MiB/s", medians[OURS], RAW, medians[RAW], 0.9),
                  *informative(work, "MiB/s", medians, [floor])]
    return lines


# ---- 3, 4 and 6: what is compressed ---------------------------------------------------------

def compressed_image(sizes, kind):
    raw = images.files_disk("files.raw", sizes.files)
    image = images.converted("store/%s.qcow2" % kind, raw, "-c", "-o", "compression_type=" + kind)
    note("%s makes it %.2f:1" % (kind, os.path.getsize(raw) / os.path.getsize(image)))
    return image


def zlib(sizes):
    work = "sequential read, zlib"
    image = compressed_image(sizes, "zlib")
    use = partial(dd, mib=sizes.files)
    medians, peer = compare(sizes, work, image, "zlib.qcow2/disk", use, more=others(image, use))
    return [*beside_peer(work, "MiB/s", medians, peer, 4),
            *informative(work, "MiB/s", medians, ["qcowmount", NBD])]


def zstd(sizes):
    work = "sequential read, zstd"
    image = compressed_image(sizes, "zstd")
    use = partial(dd, mib=sizes.files)
    more = {NBD: visit(partial(servers.nbdfuse, image), use, image)}
    medians, peer = compare(sizes, work, image, "zstd.qcow2/disk", use, more=more)
    return [*beside_peer(work, "MiB/s", medians, peer, 2.5),
            *informative(work, "MiB/s", medians, [NBD])]


def small_compressed(sizes):
    """A fixed part, so that both sides read the same clusters."""
    lines = []
    part = ["--rw=read", "--offset=%dM" % (sizes.files // 4), "--size=%dM" % (sizes.files // 16)]
    raw = images.files_disk("files.raw", sizes.files)

    def use(path):
        return fio(path, *part)

    for kind in ["zlib", "zstd"]:
        work = "sequential reads of 4 KiB, direct, " + kind
        image = compressed_image(sizes, kind)
        more = {FLOOR: visit(partial(servers.floor, raw, "--direct"), use, raw)}
        medians, peer = compare(sizes, work, image, kind + ".qcow2/disk", use, more=more,
                                rings=True)
        lines += [*beside_peer(work, "/s", medians, peer, 8),
                  *informative(work, "/s", medians, [FLOOR])]
    return lines


# ---- 5: small random reads ------------------------------------------------------------------

def random(sizes, jobs=1, target=2):
    work = "random reads of 4 KiB, direct, %d job%s" % (jobs, "s" * (jobs > 1))
    raw, image = big_image(sizes)
    use = partial(random_reads, jobs=jobs, duration=sizes.duration)
    more = {FLOOR: visit(partial(servers.floor, raw, "--direct"), use, raw), **others(image, use)}
    medians, peer = compare(sizes, work, image, "big.qcow2/disk", use, more=more, rings=True)
    return [*beside_peer(work, "/s", medians, peer, target),
            *informative(work, "/s", medians, [FLOOR, "qcowmount", NBD])]


def random8(sizes):
    return random(sizes, 8, 3)


# ---- 7: chains ------------------------------------------------------------------------------

def chain(sizes):
    lines = []
    raw = images.random_disk("chain.raw", sizes.chain)
    images.chain("store-1", 1, raw, "bottom")
    for layers in [64] if sizes.quick else [64, 200]:
        for order in ["spread", "bottom"]:
            with images.removed("store-%d-%s" % (layers, order)) as store:
                images.chain(store, layers, raw, order)
                lines += chain_lines(sizes, store, "%d layers, %s, " % (
                    layers, "data in all" if order == "spread" else "data in the lowest"))
    return lines


def chain_lines(sizes, store, what):
    one = "our one layer"
    lines = []
    files = [entry.path for entry in os.scandir(store)]
    for work, unit, use in [
            ("sequential", "MiB/s", partial(dd, mib=sizes.chain)),
            ("random", "/s", partial(random_reads, jobs=1, duration=2))]:
        more = {one: visit(partial(servers.snaptree_file, "top.qcow2/disk", "store-1"), use,
                           "store-1/top.qcow2")}
        medians, peer = compare(sizes, what + work, store + "/top.qcow2", "top.qcow2/disk", use,
                                files, more, store, rings=work == "random")
        lines += [faster(what + work, unit, medians[OURS], one, medians[one], 0.9),
                  *beside_peer(what + work, unit, medians, peer, 5)]
    return lines


# ---- 8: nearly nothing ----------------------------------------------------------------------

def sparse(sizes):
    image = images.sparse("store/sparse.qcow2", 64)

    def copy(path):
        with images.removed("copy") as out:
            return seconds(run, "cp", "--sparse=always", path, out)

    work = "cp --sparse=always of 64 GiB that hold 2 MiB"
    times = in_turn({OURS: visit(partial(servers.snaptree_file, "sparse.qcow2/disk"), copy, image)},
                    sizes.pairs, work)
    use = partial(dd, mib=sizes.zeros)
    medians, peer = compare(sizes, "dd of it", image, "sparse.qcow2/disk", use)
    return [limit(work, "s", times[OURS], 0.1),
            *beside_peer("dd of the first %d GiB" % (sizes.zeros // 1024), "MiB/s", medians, peer,
                         3)]


ROWS = {
    "first-read": first_read,
    "again": again,
    "zlib": zlib,
    "zstd": zstd,
    "random": random,
    "random8": random8,
    "small-compressed": small_compressed,
    "chain": chain,
    "sparse": sparse,
}
