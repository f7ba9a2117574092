"""qcow2 images that qemu-img would take long to make.

    mkimage.py clusters OUT COUNT ordered|shuffled
    mkimage.py chain DIRECTORY LAYERS RAW spread|bottom

The first one holds COUNT clusters of data, in the order of the guest or in random order on the
host; only the metadata is written, the data is one hole. The second one makes LAYERS images in
DIRECTORY, each on top of the one before, from 0.qcow2 to top.qcow2, that together hold what RAW
holds: each cluster in a layer picked at random, or all in the lowest. One layer is top.qcow2.
"""

import array
import os
import random
import struct
import sys

BITS = 16
CLUSTER = 1 << BITS
L2_ENTRIES = CLUSTER // 8
BLOCK_ENTRIES = CLUSTER // 2  # refcounts of 16 bits
COPIED = 1 << 63
HEADER_LENGTH = 104
EXTENSION_FORMAT = 0xE2792ACA


def divide(a, b):
    return (a + b - 1) // b


class Layout:
    """Where the parts of an image lie, in clusters: the header, the refcount table, its blocks,
    the L1 table, all L2 tables, data."""

    def __init__(self, disk, data):
        self.l2_count = divide(disk, L2_ENTRIES)
        l1 = divide(self.l2_count, L2_ENTRIES)
        self.blocks = 1
        while self.blocks * BLOCK_ENTRIES < 2 + self.blocks + l1 + self.l2_count + data:
            self.blocks += 1
        self.l1 = 2 + self.blocks
        self.l2 = self.l1 + l1
        self.data = self.l2 + self.l2_count
        self.end = self.data + data


def big_endian(code, values):
    out = array.array(code, values)
    if sys.byteorder == "little":
        out.byteswap()
    return out.tobytes()


def header(layout, size, backing):
    """The first cluster: header, extensions, name of the backing file."""
    extensions = struct.pack(">II8s", EXTENSION_FORMAT, 5, b"qcow2") if backing else b""
    extensions += bytes(8)
    name = backing.encode()
    name_offset = HEADER_LENGTH + len(extensions) if name else 0
    return struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, name_offset, len(name), BITS, size,
                       0, layout.l2_count, layout.l1 * CLUSTER, CLUSTER, 1, 0, 0, 0, 0, 0, 4,
                       HEADER_LENGTH) + extensions + name


def write_image(path, places, count, backing="", raw=None):
    """places[i] is where guest cluster i lies among the COUNT data clusters, or -1."""
    layout = Layout(len(places), count)
    parts = {
        0: header(layout, len(places) * CLUSTER, backing),
        1: big_endian("Q", ((2 + i) * CLUSTER for i in range(layout.blocks))),
        2: big_endian("H", [1]) * layout.end,
        layout.l1: big_endian("Q", ((layout.l2 + i) * CLUSTER | COPIED
                                    for i in range(layout.l2_count))),
        layout.l2: big_endian("Q", (0 if place < 0 else (layout.data + place) * CLUSTER | COPIED
                                    for place in places)),
    }
    with open(path, "wb") as out:
        for cluster, content in parts.items():
            out.seek(cluster * CLUSTER)
            out.write(content)
        if raw:
            copy_data(raw, out, layout, places)
        out.truncate(layout.end * CLUSTER)


def copy_data(raw, out, layout, places):
    with open(raw, "rb") as source:
        for guest, place in enumerate(places):
            if place >= 0:
                source.seek(guest * CLUSTER)
                out.seek((layout.data + place) * CLUSTER)
                out.write(source.read(CLUSTER))


def make_clusters(path, count, order):
    places = array.array("q", range(count))
    if order == "shuffled":
        random.Random(count).shuffle(places)
    write_image(path, places, count)


def make_chain(directory, layers, raw, order):
    disk = os.path.getsize(raw) // CLUSTER
    rng = random.Random(layers)
    holders = [rng.randrange(layers) if order == "spread" else 0 for _ in range(disk)]
    backing = ""
    for layer in range(layers):
        name = "top.qcow2" if layer == layers - 1 else "%d.qcow2" % layer
        places = [-1] * disk
        held = [guest for guest in range(disk) if holders[guest] == layer]
        for place, guest in enumerate(held):
            places[guest] = place
        write_image(os.path.join(directory, name), places, len(held), backing, raw)
        backing = name


def main():
    kind, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "clusters":
        make_clusters(out, count, sys.argv[4])
    elif kind == "chain":
        os.makedirs(out, exist_ok=True)
        make_chain(out, count, sys.argv[4], sys.argv[5])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
