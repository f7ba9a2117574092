# as-user.bash NAME: run a test of mount/ as an ordinary user, with what such a user needs: a daemon that it
# may execute, a device that it may open, a directory of its own.
. "${SRCDIR:?run by ctest}/tests/functions.sh"

if [ "$(id -u)" != 0 ]; then
    exec bash "$SRCDIR/tests/mount/$1.sh"
fi
requires setpriv
requires_fuse
chmod 755 "$TMP"
mkdir home
chown 65534:65534 home
cp "$SNAPTREE" "$QCTOOL" .
MODE=$(stat -c %a /dev/fuse)
on_exit "chmod $MODE /dev/fuse"
chmod 666 /dev/fuse
# The tree of sources may lie where nobody else can go.
mkdir -p source/tests
cp -r "$SRCDIR/tests/functions.sh" "$SRCDIR/tests/mount" "$SRCDIR/tests/interop" source/tests
TMPDIR=$TMP/home SNAPTREE=$TMP/snaptree QCTOOL=$TMP/qctool SRCDIR=$TMP/source HOME=$TMP/home \
    setpriv --reuid=65534 --regid=65534 --clear-groups bash "$TMP/source/tests/mount/$1.sh"
