# What the tests of a tree that is live share. They source it first.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

new_image() { # PATH BYTE
    uniform_image "$1" 1M "$2"
}

# All bytes of the file are this one.
assert_all() { # FILE BYTE [WHAT]
    python3 -c 'import sys
data, byte = open(sys.argv[1], "rb").read(), int(sys.argv[2], 0)
bad = next((i for i, b in enumerate(data) if b != byte), None)
sys.exit(0 if data and bad is None else "%s: %d bytes, byte %s is %s, not %#x" % (
    sys.argv[1], len(data), bad, data[bad] if data else None, byte))' "$1" "$2" || fail "${3:-$1}"
}
