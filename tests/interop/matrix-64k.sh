# Every kind of image with clusters of 64k, the usual ones: see matrix.py. Under a sanitizer, which
# takes its time, each two options are paired.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
python3 "$SRCDIR/tests/interop/matrix.py" 65536 ${SANITIZED:+pairs}
