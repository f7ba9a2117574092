"""Read or set the backing file that a qcow2 header names: set_backing.py IMAGE [NAME FORMAT]

The name may be one that no tool of QEMU's would accept. It is put at the end of the first
cluster, the format into a header extension where version 3's header ends.
"""

import struct
import sys


def read_name(file):
    file.seek(8)
    offset, length = struct.unpack(">QI", file.read(12))
    file.seek(offset)
    return file.read(length if offset else 0)


def set_name(file, name, format_name):
    file.seek(20)
    cluster = 1 << struct.unpack(">I", file.read(4))[0]
    offset = cluster - 1024
    file.seek(100)
    header_length = struct.unpack(">I", file.read(4))[0]
    padded = format_name + bytes(-len(format_name) % 8)
    file.seek(header_length)
    file.write(struct.pack(">II", 0xe2792aca, len(format_name)) + padded + bytes(8))
    file.seek(offset)
    file.write(name)
    file.seek(8)
    file.write(struct.pack(">QI", offset if name else 0, len(name)))


with open(sys.argv[1], "r+b" if len(sys.argv) > 2 else "rb") as image:
    if len(sys.argv) > 2:
        set_name(image, sys.argv[2].encode(), sys.argv[3].encode())
    else:
        print(read_name(image).decode())
