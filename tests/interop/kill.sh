# A command killed at any system call leaves the image as before or as after, and clean.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io strace python3
python3 "$SRCDIR/tests/interop/kill.py" "$QCTOOL"
