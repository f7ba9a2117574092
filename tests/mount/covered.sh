# What others have mounted at the same place, over the tree or in it, and what has become of that place:
# a daemon that ends takes its own tree away, and nothing else.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/mount/ends.bash"

# Somebody else's mount is not touched, dead or not.
other_mount_stays() {
    "$SNAPTREE" -o subtype=other "$TMP/store" "$TMP/mnt"
    DAEMON=$(daemon_of "$TMP/mnt") || fail "no daemon"
    ls mnt >/dev/null
    WORKER=$(worker_of "$DAEMON")
    kill -KILL "$DAEMON" "$WORKER"
    wait_for is_gone "$DAEMON"
    wait_for is_gone "$WORKER"
    assert_fails "$SNAPTREE" "$TMP/store" "$TMP/mnt"
    assert_eq "$(wc -l <<<"$OUTPUT")" 1 "lines about a dead mount point: $OUTPUT"
    assert_match "$OUTPUT" "$DEAD" "mounting over another's dead mount"
    fusermount3 -u "$TMP/mnt"
}

# A daemon whose tree was unmounted lazily does not take away what is mounted there now.
successor_stays() {
    local first signal who
    for who in DAEMON WORKER; do
        start
        exec 3<mnt/web.qcow2/snapshots/a
        fusermount3 -u -z "$TMP/mnt"
        first=$DAEMON
        [ $who = DAEMON ] && signal=TERM || signal=KILL
        "$SNAPTREE" "$TMP/store" "$TMP/mnt" || fail "cannot mount a second time"
        kill -$signal "${!who}"
        wait_for is_gone "$first"
        assert_fails head -c 4096 <&3
        exec 3<&-
        cmp mnt/web.qcow2/snapshots/a a.raw || fail "the second tree after SIG$signal"
        DAEMON=$(daemon_of "$TMP/mnt") || fail "no daemon after SIG$signal"
        WORKER=$(worker_of "$DAEMON")
        unmount_store "$TMP/mnt"
        assert_nothing_left "a " "after a second tree"
    done
}

# What somebody has mounted over the tree, or moved there, stays; and the log tells why the tree does.
covered() {
    local how
    [ "$(id -u)" = 0 ] || return 0
    for how in mount move; do
        mkdir elsewhere
        mount -t tmpfs none elsewhere
        mount --make-private elsewhere # or nothing can be moved away from there
        mkdir elsewhere/inside
        mount -t tmpfs none elsewhere/inside
        start_daemon
        if [ $how = mount ]; then
            mount -t tmpfs none mnt
        else
            mount --move elsewhere/inside mnt
        fi
        : >mnt/precious
        kill -TERM "$DAEMON"
        wait "$DAEMON" || fail "status $? of a covered daemon: $(cat daemon.log)"
        [ -e mnt/precious ] || fail "what was mounted over the tree is gone ($how)"
        assert_match "$(cat daemon.log)" "$TMP/mnt: not unmounted, as another file system \\(tmpfs\\)"
        umount mnt
        assert_fails ls mnt
        assert_match "$OUTPUT" "$DEAD" "the tree beneath"
        fusermount3 -u "$TMP/mnt"
        umount -R elsewhere
        rmdir elsewhere
        assert_nothing_left "a " "after it was covered"
    done
}

# When the tree is out of reach already, what is there now is told of, and stays.
replaced() {
    [ "$(id -u)" = 0 ] || return 0
    start_daemon
    exec 3<mnt/web.qcow2/snapshots/a
    umount -l mnt
    mount -t tmpfs none mnt
    kill -TERM "$DAEMON"
    wait "$DAEMON" || fail "status $? of a replaced daemon: $(cat daemon.log)"
    exec 3<&-
    assert_match "$(cat daemon.log)" "$TMP/mnt: nothing unmounted, as what is mounted there now \\(tmpfs\\) is not ours"
    umount mnt || fail "what was mounted in place of the tree is gone"
    assert_nothing_left "a " "after it was replaced"
}

# What is mounted in the tree, and not over it, goes with it.
mounted_inside() {
    [ "$(id -u)" = 0 ] || return 0
    start_daemon
    mount -t tmpfs none mnt/web.qcow2
    kill -TERM "$DAEMON"
    wait "$DAEMON" || fail "status $? with a mount inside: $(cat daemon.log)"
    ! complaints daemon.log || fail "the daemon complains"
    assert_nothing_left "a " "with a mount inside"
}

# Where the table of mounts cannot be read, there is only the path to go by: at the end, or all the time.
without_the_table() {
    local when
    [ "$(id -u)" = 0 ] || return 0
    for when in end start; do
        SNAPTREE=$SNAPTREE WHEN=$when "${OWN_MOUNTS[@]}" bash -c '
            set -e
            hide() {
                umount -l /proc
            }
            [ $WHEN = end ] || hide
            "$SNAPTREE" -f "$TMP/store" "$TMP/mnt" 2>daemon.log &
            until [ -e mnt/web.qcow2 ]; do kill -0 $! && sleep 0.05; done
            if [ $WHEN = end ]; then hide; else mount -t proc proc /proc; fi
            kill -TERM $!
            wait $! || exit 1
            ls mnt >listing
            [ ! -s listing ]' || fail "the table was hidden at the $when: $(cat daemon.log)"
    done
}

# Whether the kernel tells a mount from every later one: since 6.8.
has_mount_numbers() {
    [ "$(printf '%s\n' 6.8 "$(uname -r)" | sort -V | head -1)" = 6.8 ]
}

# The tree is taken away also when its place has another path by then.
renamed() {
    has_mount_numbers || return 0
    mkdir above above/mnt
    "$SNAPTREE" "$TMP/store" "$TMP/above/mnt" || fail "cannot mount"
    ls above/mnt >/dev/null # once it serves, it has its worker
    DAEMON=$(daemon_of "$TMP/above/mnt") || fail "no daemon"
    WORKER=$(worker_of "$DAEMON")
    mv above renamed
    kill -TERM "$DAEMON"
    wait_for is_gone "$DAEMON"
    ! grep -qF " $TMP/renamed/mnt " /proc/self/mountinfo || fail "a dead mount below a renamed directory"
    assert_nothing_left "a " "after a directory above was renamed"
    rm -r renamed
}

# A forced unmount of a busy tree ends it, but leaves the mount.
forced() {
    [ "$(id -u)" = 0 ] || return 0
    has_mount_numbers || return 0
    start
    exec 3<mnt/web.qcow2/snapshots/a
    umount -f mnt 2>/dev/null || true
    exec 3<&-
    assert_nothing_left "a " "after a forced unmount"
}

make_ends_store
other_mount_stays
successor_stays
covered
replaced
mounted_inside
without_the_table
renamed
forced
