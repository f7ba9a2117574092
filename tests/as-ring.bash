# as-ring.bash NAME: run a test of mount/ with a daemon whose requests come over io_uring. Where the
# kernel does not do that, the daemon was asked for it all the same, and has to work as ever.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires_fuse
if switch_rings Y; then # do they come so?
    mkdir empty mnt
    "$SNAPTREE" -f -o io_uring "$TMP/empty" "$TMP/mnt" 2>log &
    PIDS+=($!)
    wait_for mountpoint -q mnt
    ls mnt >/dev/null || fail "the daemon said: $(<log)"
    unmount_store "$TMP/mnt"
    grep -q "requests come over io_uring" log || fail "no rings: $(<log)"
else
    [ ! -e "$RINGS" ] || skip "it takes root to turn $RINGS on"
fi

cat >snaptree <<END
#!/bin/bash
exec -a snaptree "$SNAPTREE" -o io_uring "\$@"
END
chmod +x snaptree
SNAPTREE=$TMP/snaptree bash "$SRCDIR/tests/mount/$1.sh"
