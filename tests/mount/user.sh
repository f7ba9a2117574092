# All of it as an ordinary user, through fusermount3.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io setpriv
requires_fuse

if [ "$(id -u)" = 0 ]; then
    # An ordinary user needs a file of its own to run, a device that it may open, a directory.
    chmod 755 "$TMP"
    mkdir home
    chown 65534:65534 home
    cp "$SNAPTREE" "$QCTOOL" "$TMP/"
    MODE=$(stat -c %a /dev/fuse)
    on_exit "chmod $MODE /dev/fuse"
    chmod 666 /dev/fuse
    cp "$SRCDIR/tests/functions.sh" "$SRCDIR/tests/mount/user-story.bash" "$TMP/"
    TMPDIR=$TMP/home SNAPTREE=$TMP/snaptree QCTOOL=$TMP/qctool \
        setpriv --reuid=65534 --regid=65534 --clear-groups bash "$TMP/user-story.bash" "$TMP/functions.sh"
else
    bash "$SRCDIR/tests/mount/user-story.bash" "$SRCDIR/tests/functions.sh"
fi
