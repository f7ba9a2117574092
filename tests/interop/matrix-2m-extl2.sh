# Every kind of image with clusters of 2m and subclusters: see matrix.py.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
python3 "$SRCDIR/tests/interop/matrix.py" 2097152 extl2
