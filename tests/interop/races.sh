# Who wants an image at the same moment as others has it to himself or is refused: see races.py.
# A thousand rounds: scripts/soak races.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse
python3 "$SRCDIR/tests/interop/races.py" "$SNAPTREE" 30
