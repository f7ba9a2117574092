# Reads and commands at once, on the same and on different images: contents are right at all times.
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

IMAGES=6
ROUNDS=12

make_store() {
    mkdir store
    local i
    for ((i = 0; i < IMAGES; i++)); do
        uniform_image store/$i.qcow2 4M $((i + 1))
    done
    cp store/0.qcow2 store/still.qcow2
}

# One image's life: its disk is told by a byte, each snapshot by the byte of its round.
commander() { # IMAGE
    python3 - "$1" $ROUNDS <<'END'
import os, subprocess, sys
image, rounds = sys.argv[1], int(sys.argv[2])
control = "mnt/%s.qcow2/control" % image


def command(text):
    fd = os.open(control, os.O_WRONLY)
    try:
        assert os.write(fd, text) == len(text)
    except OSError as error:
        sys.exit("%s: %s: %s: %s" % (image, text, error, open(control).read()))
    finally:
        os.close(fd)


def content(path):
    with open(path, "rb") as file:
        data = file.read()
    assert len(data) == 4 << 20 and len(set(data)) == 1, (path, len(data), set(data))
    return data[0]


start = int(image) + 1
for number in range(rounds):
    byte = start + 10 * number
    assert content("mnt/%s.qcow2/disk" % image) == byte
    command(b"take s%d\n" % number)
    subprocess.run(["qemu-io", "-c", "write -q -P %d 0 4M" % (byte + 10), "store/%s.qcow2" % image], check=True)
    assert content("mnt/%s.qcow2/disk" % image) == byte + 10
    assert content("mnt/%s.qcow2/snapshots/s%d" % (image, number)) == byte
    if number % 4 == 3:
        command(b"delete s%d\nrename s%d first\nrevert first\n" % (number - 1, number - 2))
        assert content("mnt/%s.qcow2/disk" % image) == start + 10 * (number - 2)
        command(b"take r%d\nrevert r%d\nrevert s%d\ndelete r%d\ndelete first\n" % (number, number, number, number))
        subprocess.run(["qemu-io", "-c", "write -q -P %d 0 4M" % (byte + 10), "store/%s.qcow2" % image], check=True)
END
}

# Somebody reads an image that nobody changes, all the time.
steady_reader() {
    local i
    for ((i = 0; i < 40; i++)); do
        cmp mnt/still.qcow2/disk still.raw || return 1
    done
}

# Many processes command one image at once: each name is taken exactly once.
contenders() {
    local i j pids=()
    for ((i = 0; i < 8; i++)); do
        (
            for ((j = 0; j < 5; j++)); do
                echo "take by-$i-$j" >mnt/still.qcow2/control
            done
        ) &
        pids+=($!)
    done
    for i in "${pids[@]}"; do
        wait "$i" || fail "a contender failed: $(tail mnt/still.qcow2/control)"
    done
    assert_eq "$(ls mnt/still.qcow2/snapshots | wc -l)" 40 "snapshots that eight processes took"
    assert_eq "$("$QCTOOL" list store/still.qcow2 | cut -d' ' -f1 | sort -u | wc -l)" 40 "different ids"
    check_clean store/still.qcow2
}

make_store
qemu-img convert -O raw store/still.qcow2 still.raw
mount_store "$TMP/store" mnt
PIDS_HERE=()
steady_reader &
PIDS_HERE+=($!)
for ((i = 0; i < IMAGES; i++)); do
    commander $i &
    PIDS_HERE+=($!)
done
for pid in "${PIDS_HERE[@]}"; do
    wait "$pid" || fail "a worker failed"
done
for ((i = 0; i < IMAGES; i++)); do
    check_clean store/$i.qcow2
done
contenders
unmount_store mnt
