# matrix.bash CLUSTERS: some of the images with such clusters, see matrix.py. All of them take minutes:
# scripts/soak matrix.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
python3 "$SRCDIR/tests/interop/matrix.py" "$1" few
