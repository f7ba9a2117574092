# Kinds of images with clusters of 2m and subclusters, each value of an option in one: see
# matrix.py. All of them take minutes: scripts/soak matrix.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
python3 "$SRCDIR/tests/interop/matrix.py" 2097152 extl2 values
