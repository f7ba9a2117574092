# Random sequences of our commands and QEMU's: see walk.py. SEEDS="3 4" walks other ways; under a
# sanitizer one is enough.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
# shellcheck disable=SC2086
python3 "$SRCDIR/tests/interop/walk.py" ${SEEDS:-${SANITIZED:+1}}
