# Commands one right after the other make every view of the disk one of the past before it is read:
# then they wait until it has been, and no read fails, or is short.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

mkdir store
qemu-img create -q -f qcow2 store/busy.qcow2 8M
qemu-io -c 'write -q -P 1 0 8M' store/busy.qcow2
mount_store "$TMP/store" mnt
python3 - <<'END' || fail "reads next to commands without a pause"
import os, sys, threading, time

SIZE = 65536
stop = time.monotonic() + 6
done = 0

def commands(number):
    global done
    while time.monotonic() < stop:
        for line in "take s%d" % number, "delete s%d" % number:
            with open("mnt/busy.qcow2/control", "wb", buffering=0) as control:
                control.write(line.encode())
            done += 1

threads = [threading.Thread(target=commands, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
disk = os.open("mnt/busy.qcow2/disk", os.O_RDONLY)
reads, wrong = 0, []
while time.monotonic() < stop:
    try:
        got = os.pread(disk, SIZE, reads * SIZE % (8 << 20))
        if got != b"\1" * SIZE:
            wrong.append("%d bytes, %s" % (len(got), "right" if not got.strip(b"\1") else "wrong"))
    except OSError as error:
        wrong.append(str(error))
    reads += 1
for thread in threads:
    thread.join()
print("%d reads, %d commands" % (reads, done))
if wrong or reads < 50 or done < 50:
    sys.exit("%d of the reads: %s" % (len(wrong), ", ".join(wrong[:5])))
END
unmount_store mnt
check_clean store/busy.qcow2
