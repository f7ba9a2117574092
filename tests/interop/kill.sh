# A command killed at any system call leaves the image as before or as after, and clean.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-system-x86_64 strace python3
requires_fuse
python3 "$SRCDIR/tests/interop/kill.py" "$SNAPTREE"
