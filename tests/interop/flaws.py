#!/usr/bin/env python3
"""Copy a qcow2 image and put a flaw into the copy: flaws.py FLAW IMAGE COPY.

The image has version 3, clusters of 64 KiB, and a snapshot that is the only one.
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

    def bitmaps(self):
        """Where the data of the bitmaps extension is."""
        at = self.get(100, "I")
        while self.get(at, "I") != BITMAPS:
            at += 8 + (self.get(at + 4, "I") + 7) // 8 * 8
        return at + 8

    def directory(self):
        return self.get(self.bitmaps() + 16, "Q")

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
    "odd-size": lambda i: i.put(24, "Q", i.get(24, "Q") - 100),
}

if __name__ == "__main__":
    image = Image(sys.argv[2])
    FLAWS[sys.argv[1]](image)
    with open(sys.argv[3], "wb") as copy:
        copy.write(image.bytes)
