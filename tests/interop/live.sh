# Snapshots of an image that a running QEMU changes are right, or gone: see live.py. For longer:
# scripts/soak live.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-system-x86_64 python3
requires_fuse
python3 "$SRCDIR/tests/interop/live.py" "$SNAPTREE" 8
