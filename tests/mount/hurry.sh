# Commands one right after the other make every view of the disk one of the past before it is read:
# then they wait until it has been, and no read fails, or is short.
IN_MEMORY=1
. "${SRCDIR:?run by ctest}/tests/functions.sh"
requires qemu-img qemu-io python3
requires_fuse

mkdir store
uniform_image store/busy.qcow2 8M 1
mount_store "$TMP/store" mnt
python3 - <<'END' || fail "reads next to commands without a pause"
import os, sys, threading, time

SIZE = 65536
ENOUGH = 50
start = time.monotonic()
reads = done = 0

def goes_on(): # for some seconds, and on a busy machine until there was enough of both
    passed = time.monotonic() - start
    return passed < 6 or (passed < 120 and min(reads, done) < ENOUGH)

def commands(number):
    global done
    while goes_on():
        for line in "take s%d" % number, "delete s%d" % number:
            with open("mnt/busy.qcow2/control", "wb", buffering=0) as control:
                control.write(line.encode())
            done += 1

threads = [threading.Thread(target=commands, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
disk = os.open("mnt/busy.qcow2/disk", os.O_RDONLY)
wrong = []
while goes_on():
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
if wrong or min(reads, done) < ENOUGH:
    sys.exit("%d of the reads: %s" % (len(wrong), ", ".join(wrong[:5])))
END
check_clean store/busy.qcow2

# A reader of a disk whose file is touched all the time tries again and again. That is no reason for
# commands on the image beneath, which may be another user's, to wait.
qemu-img create -q -f qcow2 store/base.qcow2 1M
(cd store && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 over.qcow2)
python3 - <<'END' || fail "commands on what lies beneath a disk that changes all the time"
import os, signal, sys, time

def child(work):
    pid = os.fork()
    if pid == 0:
        try: # without a break, however busy the machine is
            os.sched_setscheduler(0, os.SCHED_FIFO if work is touch else os.SCHED_OTHER, os.sched_param(work is touch))
        except OSError:
            pass
        while True:
            try:
                work()
            except OSError:
                pass
    return pid

def touch():
    os.utime("store/over.qcow2")
    time.sleep(0.002)

disk = os.open("mnt/over.qcow2/disk", os.O_RDONLY)
children = [child(touch) for _ in range(2)] + [child(lambda: os.pread(disk, 4096, 0)) for _ in range(3)]
longest = turn = 0
end = time.monotonic() + 25 # the pauses began after up to 17 s, and lasted as long
while time.monotonic() < end:
    turn += 1
    started = time.monotonic()
    with open("mnt/base.qcow2/control", "wb", buffering=0) as control:
        control.write(b"take s%d" % turn)
    longest = max(longest, time.monotonic() - started)
    time.sleep(0.3)
for pid in children:
    os.kill(pid, signal.SIGKILL)
for pid in children:
    os.waitpid(pid, 0)
print("the slowest command took %.1f s" % longest)
if longest > 10:
    sys.exit("a command took %.1f s" % longest)
END
unmount_store mnt
check_clean store/base.qcow2
