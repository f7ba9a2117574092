#!/usr/bin/env python3
"""Copy a qcow2 image and put a flaw into the copy: flaws.py FLAW IMAGE COPY.

The image has version 3, a snapshot that is the only one, and clusters of 64 KiB; for
bitmap-huge-table, of 2 MiB.
"""
import struct
import sys

COPIED = 1 << 63
OFFSET = 0xFFFFFFFFFFFE00
BITMAPS = 0x23852875


class Image:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = bytearray(file.read())
        self.bytes += bytes(-len(self.bytes) % 65536)

    def get(self, at, format):
        return struct.unpack_from(">" + format, self.bytes, at)[0]

    def put(self, at, format, value):
        struct.pack_into(">" + format, self.bytes, at, value)

    def set_bit(self, at, bit):
        self.put(at, "Q", self.get(at, "Q") | bit)

    def snapshot(self):
        return self.get(64, "Q")

    def active_l1(self):
        return self.get(40, "Q")

    def l2_of(self, l1):
        return self.get(l1, "Q") & OFFSET

    def extension(self, type):
        """Where the data of a header extension is."""
        at = self.get(100, "I")
        while self.get(at, "I") != type:
            at += 8 + (self.get(at + 4, "I") + 7) // 8 * 8
        return at + 8

    def bitmaps(self):
        return self.extension(BITMAPS)

    def directory(self):
        return self.get(self.bitmaps() + 16, "Q")

    def second_entry(self):
        """Where the second entry of the bitmap directory is."""
        at = self.directory()
        return at + (24 + self.get(at + 18, "H") + 7) // 8 * 8

    def leave_in_use(self, entries):
        """Say of the first bitmap that it was not closed and has a table of that many entries."""
        at = self.directory()
        self.put(at + 12, "I", 1)
        self.put(at + 8, "I", entries)

    def shorten_extra_data(self, length):
        at = self.snapshot()
        old, ids, names = self.get(at + 36, "I"), self.get(at + 12, "H"), self.get(at + 14, "H")
        text = self.bytes[at + 40 + old : at + 40 + old + ids + names]
        self.bytes[at + 40 + length : at + 40 + length + len(text)] = text
        self.put(at + 36, "I", length)


FLAWS = {
    # The second guest cluster is the snapshot's as well.
    "copied-l2": lambda i: i.set_bit(i.l2_of(i.active_l1()) + 8, COPIED),
    # The flag is missing here: the table is the disk's alone.
    "copied-l1": lambda i: i.put(i.active_l1(), "Q", i.get(i.active_l1(), "Q") & ~COPIED),
    "incomplete-0": lambda i: i.shorten_extra_data(0),
    "incomplete-8": lambda i: i.shorten_extra_data(8),
    "raw-without-data-file": lambda i: i.set_bit(88, 2),
    "copied-compressed": lambda i: i.set_bit(i.l2_of(i.get(i.snapshot(), "Q")), COPIED),
    "compressed-subclusters": lambda i: i.put(i.l2_of(i.active_l1()) + 8, "Q", 1),
    "bitmap-reserved": lambda i: i.put(i.bitmaps() + 4, "I", 1),
    "bitmap-no-table": lambda i: i.put(i.directory() + 8, "I", 0),
    "bitmap-longer-table": lambda i: i.put(i.directory() + 8, "I", 2),
    "bitmap-flags": lambda i: i.put(i.directory() + 12, "I", 4),
    "bitmap-extra-data": lambda i: i.put(i.directory() + 20, "I", 8),
    "bitmap-longer-directory": lambda i: i.put(i.bitmaps() + 8, "Q", i.get(i.bitmaps() + 8, "Q") + 8),
    "bitmap-same-name": lambda i: i.put(i.second_entry() + 24, "B", i.get(i.directory() + 24, "B")),
    "bitmap-huge-table": lambda i: i.leave_in_use(257),
    "end-has-length": lambda i: i.put(i.extension(0) - 4, "I", 0x10000),
    "odd-size": lambda i: i.put(24, "Q", i.get(24, "Q") - 100),
}

if __name__ == "__main__":
    image = Image(sys.argv[2])
    FLAWS[sys.argv[1]](image)
    with open(sys.argv[3], "wb") as copy:
        copy.write(image.bytes)
