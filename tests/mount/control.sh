# What the control files accept, and what the commands do.
. "${SRCDIR:?run by ctest}/tests/mount/control.bash"

four_commands() {
    local from taken
    from=$(date +%s)
    control_ok $C "take before-upgrade"
    assert_snapshots web.qcow2 before-upgrade
    taken=$(stat -c %Y mnt/web.qcow2/snapshots/before-upgrade)
    [ "$from" -le "$taken" ] && [ "$taken" -le "$(date +%s)" ] || fail "taken at $taken, and not between $from and now"
    set_byte store/web.qcow2 2
    assert_byte mnt/web.qcow2/disk 2
    assert_byte mnt/web.qcow2/snapshots/before-upgrade 1
    control_ok $C "revert before-upgrade"
    assert_byte mnt/web.qcow2/disk 1
    assert_snapshots web.qcow2 before-upgrade
    control_ok $C "rename before-upgrade old"
    assert_snapshots web.qcow2 old
    assert_byte mnt/web.qcow2/snapshots/old 1
    control_ok $C "delete old"
    assert_snapshots web.qcow2
}

store_control() {
    control_ok mnt/control "take web.qcow2 s"
    assert_snapshots web.qcow2 s
    control_ok mnt/control "take sub/deep.qcow2 'a name'" "rename web.qcow2 s t" "take web.qcow2 u"
    assert_eq "$(ls mnt/sub/deep.qcow2/snapshots)" "a name"
    assert_snapshots web.qcow2 t u
    control_ok mnt/control "revert web.qcow2 t" "delete web.qcow2 t" "delete web.qcow2 u" \
        'delete "sub/deep.qcow2" "a name"'
    assert_snapshots web.qcow2
    control_fails ENOENT mnt/control "take missing.qcow2 s"
    control_fails ENOENT mnt/control "take sub/missing.qcow2 s"
    control_fails ENOENT mnt/control "take missing/web.qcow2 s"
    control_fails ENOENT mnt/control "take sub s"
    assert_match "$(last_result mnt/control)" "sub is a directory, not an image$" "a directory"
    control_fails EINVAL mnt/control "take web.qcow2"
    control_fails EINVAL mnt/control "take"
    mkdir store/control # not shown, and so not there for commands
    new_image store/control/in.qcow2
    control_fails ENOENT mnt/control "check control/in.qcow2"
    rm -r store/control
    new_image store/control
    control_fails ENOENT mnt/control "take control s"
    check_clean store/control
    assert_eq "$("$QCTOOL" list store/control)" "" "snapshots of an image that is not shown"
    rm store/control
    assert_fails bash -c "echo 'take ../outside.qcow2 s' >mnt/control"
    assert_fails bash -c "echo 'take $TMP/store/web.qcow2 s' >mnt/control"
}

# The name as an argument on one side, as a file on the other.
# The path of an image is one in the tree.
paths() {
    control_ok mnt/control "take ./sub//deep.qcow2 a" "delete sub/./deep.qcow2 a"
    local path
    for path in /web.qcow2 ../store/web.qcow2 sub/../web.qcow2; do
        control_fails ENOENT mnt/control "take $path a"
        assert_match "$(last_result mnt/control)" "without a / in front, and has no \.\. in it$"
    done
}

quoting() {
    local line
    while IFS='|' read -r line name; do
        control_ok $C "take $line"
        assert_snapshots web.qcow2 "$name"
        control_ok $C "delete $line"
    done <<'END'
plain|plain
'with space'|with space
"double quotes"|double quotes
back\ slash|back slash
build\ #42|build #42
build\ #42 # a comment|build #42
'it'"'"'s'|it's
"a \"quoted\" word"|a "quoted" word
café|café
-x|-x
'#hash'|#hash
7|7
'a/b'|a%2Fb
a%2Fb|a%2Fb
..|%2E%2E
END
    control_fails EINVAL $C "take \$'a'" # what bash's printf %q writes; not the name $a
    assert_match "$(last_result $C)" "is not understood; write"
    control $C "take 'a" "b'" # a line ends a command, also within quotes
    [ "$STATUS" != 0 ] || fail "a command of two lines"
    control_ok $C "take a%0Ab"
    assert_snapshots web.qcow2 a%0Ab
    control_ok $C "delete a%0Ab"
    control_ok $C "   take   spaces   "
    assert_snapshots web.qcow2 spaces
    control_ok $C $'delete\tspaces\t# for good'
    assert_snapshots web.qcow2
}

# What bash itself quotes means the same to a control file, or is refused.
quoted_by_bash() {
    local name
    for name in 'build #42' 'ends in a blank ' ' #' '~' $'a\\b'; do
        control_ok $C "take $(printf %q "$name")"
        assert_snapshots web.qcow2 "$name"
        control_ok $C "delete $(printf %q "$name")"
    done
    control_fails EINVAL $C "take $(printf %q $'a\nb')"
    assert_snapshots web.qcow2
}

# QEMU gives out a name as often as one likes. What is listed once is accepted until it is gone.
names_that_repeat() {
    local name
    for name in n other n n; do
        qemu-img snapshot -c "$name" store/web.qcow2
    done
    assert_snapshots web.qcow2 n~1 n~3 n~4 other
    fails_unchanged ENOENT web.qcow2 "delete n"
    assert_match "$(last_result $C)" "has 3 snapshots of that name, and shows them as 'n~1', 'n~3', 'n~4'$" "result line"
    for name in "take n~1" "take 'n~3'" "rename other n~4" "rename n~1 n~3"; do
        fails_unchanged EEXIST web.qcow2 "$name"
    done
    fails_unchanged ENOENT web.qcow2 "delete n~2" # the other one's ID
    for name in n~1 n~3 n~4 other; do # as listed at first: the last n shows as "n" by then
        control_ok $C "delete $name"
    done
    assert_snapshots web.qcow2
    qemu-img snapshot -c n store/web.qcow2
    qemu-img snapshot -c n store/web.qcow2
    control_ok $C "rename n~2 n~2" "delete n" "delete n~2"
    assert_snapshots web.qcow2
    # One that has to give way to a name, and no longer when that is gone.
    for name in n n n~1; do
        qemu-img snapshot -c "$name" store/web.qcow2
    done
    assert_snapshots web.qcow2 n~1 n~1~0 n~2
    for name in n~1 n~1~0 n~2; do
        control_ok $C "delete $name"
    done
    # Four are named.
    for name in n n n n; do
        qemu-img snapshot -c $name store/web.qcow2
    done
    fails_unchanged ENOENT web.qcow2 "delete n"
    assert_match "$(last_result $C)" "shows them as 'n~1', 'n~2', 'n~3', 'n~4'$" "four"
    qemu-img snapshot -c n store/web.qcow2
    fails_unchanged ENOENT web.qcow2 "delete n"
    assert_match "$(last_result $C)" "has 5 snapshots of that name, and shows them as 'n~1', 'n~2', 'n~3', 'n~4' \.\.\.$" "five"
    control_ok $C "delete n~1" "delete n~2" "delete n~3" "delete n~4" "delete n"
    assert_snapshots web.qcow2
}

# A name that looks as if it had an ID behind it, and is gone, does not come to mean another snapshot.
# (Whoever keeps so many deletes the oldest first, which need not be there yet.)
names_that_look_like_others() {
    local i
    for i in 1 2 3 4; do
        [ $i = 1 ] || control_ok $C "rename day day~1"
        control_ok $C "take day" # with the ID i
        fails_unchanged ENOENT web.qcow2 "delete day~$i"
        [ $i != 2 ] || control_ok $C "rename day~1 older"
        [ $i != 3 ] || control_ok $C "delete day~1"
        [ $i != 4 ] || control_ok $C "delete day~1"
    done
    assert_snapshots web.qcow2 day older
    control_ok $C "take older~1" "delete older~1"
    fails_unchanged ENOENT web.qcow2 "delete older~1"
    control_ok $C "delete day" "delete older"
    # Nor does one that was listed, once it was given to another.
    qemu-img snapshot -c n store/web.qcow2
    qemu-img snapshot -c n store/web.qcow2
    control_ok $C "delete n~1" "take n~2" "delete n~2"
    fails_unchanged ENOENT web.qcow2 "delete n~2"
    control_ok $C "delete n"
    qemu-img snapshot -c n store/web.qcow2
    qemu-img snapshot -c n store/web.qcow2
    control_ok $C "delete n~1"
    qemu-img snapshot -c n~2 store/web.qcow2
    control_ok $C "delete n~2"
    fails_unchanged ENOENT web.qcow2 "delete n~2"
    control_ok $C "delete n"
    # Nor does it mean one that took the other's place, ID and all, behind our back.
    control_ok $C "take first"
    qemu-img snapshot -c n store/web.qcow2
    qemu-img snapshot -c n store/web.qcow2
    control_ok $C "delete n~3"
    qemu-img snapshot -d n store/web.qcow2
    qemu-img snapshot -c z store/web.qcow2
    fails_unchanged ENOENT web.qcow2 "delete n~2"
    control_ok $C "delete z" "delete first"
    assert_snapshots web.qcow2
}

# A program that writes when its buffer is full cuts lines where it ends: the rest of a name would be
# missing.
cut_lines() {
    seq -f 'take nightly-%04g' 1000 >many
    assert_fails sh -c "tee $C <many >/dev/null"
    assert_match "$(tail -n1 $C)" "EINVAL .*piece of a longer text"
    assert_snapshots web.qcow2
}

# Every redirection of the shell, and programs that write in one piece.
ways_to_write() {
    echo "take 1" >$C
    echo "take 2" >>$C
    echo "take 3" 1<>$C
    printf 'take 4' >$C # no newline at the end
    printf 'take 5\n\ntake 6\n' >$C
    echo "take 7" | tee $C >/dev/null
    echo "take 8" | dd of=$C status=none
    echo "take 9" | dd of=$C bs=1M seek=3 conv=notrunc status=none
    echo "take 10" >line
    cp line $C
    cat line | sed s/10/11/ | cat >$C
    python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
assert os.write(fd, b"take 12\n") == 8
assert os.write(fd, b"take 13\ntake 14") == 15' $C
    assert_snapshots web.qcow2 1 2 3 4 5 6 7 8 9 10 11 12 13 14
    local i
    for i in $(seq 14); do
        echo "delete $i"
    done >lines
    cat lines >$C
    assert_snapshots web.qcow2
    truncate -s 0 $C || fail "truncate"
}

several_lines_stop_at_the_first_failure() {
    control $C "take a" "take a" "take b"
    [ "$STATUS" != 0 ] || fail "a failure in the second line is not told"
    assert_match "$OUTPUT" "$(message_of EEXIST)"
    assert_snapshots web.qcow2 a
    assert_match "$(tail -n2 $C | head -n1)" "Z ok take a$"
    assert_match "$(tail -n1 $C)" "Z EEXIST take a: .+"
    control_ok $C "delete a"
}

# Each command that was begun on an image leaves a line in the log; besides, it says only how the daemon
# has begun, and ended.
the_log_tells_who_did_what() {
    local me odd=$'odd\nname.qcow2'
    cp store/web.qcow2 "store/$odd"
    truncate -s 1M store/disk.raw
    chmod 444 store/sub/deep.qcow2
    start_daemon
    me="(uid $(id -u), process $$)"
    echo "take monday" >$C
    echo "take web.qcow2 'x: ok (uid 0, process 1)'" >mnt/control
    echo "take 'two words'" >"mnt/$odd/control"
    echo "take $(printf '%02000d' 0)" >$C 2>/dev/null || true
    echo "take monday" >$C 2>/dev/null || true
    echo "revert monday" >$C
    echo "delete monday" >$C
    echo repair >$C
    echo check >$C
    echo "nonsense" >$C 2>/dev/null || true
    echo "take a b c" >$C 2>/dev/null || true
    echo "take none.qcow2 a" >mnt/control 2>/dev/null || true
    echo "take sub a" >mnt/control 2>/dev/null || true
    echo "take a" >mnt/disk.raw/control 2>/dev/null || true
    [ "$(id -u)" = 0 ] || echo "take sub/deep.qcow2 a" >mnt/control 2>/dev/null || true
    stop_daemon
    grep "process $$" daemon.log >got || true
    cat >wanted <<END
snaptree: take web.qcow2 monday: ok $me
snaptree: take web.qcow2 'x: ok (uid 0, process 1)': ok $me
snaptree: take 'odd\x0aname.qcow2' 'two words': ok $me
snaptree: take web.qcow2 monday: EEXIST $me
snaptree: revert web.qcow2 monday: ok $me
snaptree: delete web.qcow2 monday: ok $me
snaptree: repair web.qcow2: ok $me
END
    grep -v 00000 got | diff - wanted || fail "the log has other lines (<)"
    assert_match "$(grep 00000 daemon.log)" "^snaptree: take web\.qcow2 0{1000,1010}\.\.\.: ENAMETOOLONG \(uid" "a long name"
    assert_eq "$(grep -c . daemon.log)" $((10 + $(grep -c io_uring daemon.log))) "lines of the log: $(cat daemon.log)"
    rm "store/$odd" store/disk.raw
}

mkdir -p store/sub
new_image store/web.qcow2
new_image store/sub/deep.qcow2
new_image outside.qcow2
mount_store "$TMP/store" mnt
four_commands
store_control
paths
quoting
quoted_by_bash
names_that_repeat
names_that_look_like_others
cut_lines
ways_to_write
several_lines_stop_at_the_first_failure
unmount_store mnt
the_log_tells_who_did_what
