# Every program of QEMU beside everything of ours, in both orders: see lockmatrix.py.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io qemu-nbd qemu-system-x86_64 strace python3
requires_fuse
python3 "$SRCDIR/tests/interop/lockmatrix.py" "$SNAPTREE"
