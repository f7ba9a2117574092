"""kill.py QCTOOL [quick|full]: kill a command at every system call, and judge what is left.

The program runs under strace, which kills it at its Nth call that has to do with files; N
counts up until the command gets through. Each state that is left must be clean for
qemu-img check, and its disks exactly those of before or of after; and after QEMU has
overwritten the whole active disk, every snapshot must still read the same. The same is
done to qemu-img snapshot, for comparison; what becomes of that is only printed.
"""
import hashlib, os, re, shutil, subprocess, sys

QCTOOL = sys.argv[1]
FULL = len(sys.argv) > 2 and sys.argv[2] == "full"
CALLS = "pread64,pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate,fcntl,lseek,close,openat2"
SIZE = 4 << 20

# name, options of qemu-img create
KINDS = [
    ("v3", "compat=1.1"),
    ("v2-4k", "compat=0.10,cluster_size=4096"),
    ("extl2-lazy", "extended_l2=on,lazy_refcounts=on"),
    ("v3-512-8bit", "cluster_size=512,refcount_bits=8"),
]
# Three snapshots exist: old, middle (of a smaller disk, where the version can), new.
COMMANDS = [
    (["take", "fresh"], ["-c", "fresh"]),
    (["revert", "old"], ["-a", "old"]),
    (["revert", "middle"], ["-a", "middle"]),
    (["delete", "old"], ["-d", "old"]),
    (["delete", "middle"], ["-d", "middle"]),
    (["delete", "new"], ["-d", "new"]),
    (["rename", "old", "older"], None),
]


def run(*argv, ok=True):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if ok and done.returncode != 0:
        sys.exit(f"{argv}: {done.stdout.decode(errors='replace')}")
    return done


def io(image, *commands):
    argv = ["qemu-io", "-f", "qcow2"]
    for command in commands:
        argv += ["-c", command]
    run(*argv, image)


def make(image, options):
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, str(SIZE))
    io(image, "write -q -P 1 0 1M", "write -q -P 2 3M 300K")
    run("qemu-img", "snapshot", "-c", "old", image)
    io(image, "write -q -P 3 512K 1M", "write -q -c -P 4 2M 64K")
    if "compat=0.10" not in options:
        run("qemu-img", "resize", "-q", image, str(SIZE + (1 << 20)))
    run("qemu-img", "snapshot", "-c", "middle", image)
    io(image, "write -q -P 5 256K 512K")
    run("qemu-img", "snapshot", "-c", "new", image)
    io(image, "write -q -P 6 100K 200K", "discard -q 3M 64K")


def digest(image, snapshot=None):
    argv = [QCTOOL, "cat", image] + ([f"snapshot={snapshot}"] if snapshot else [])
    return hashlib.sha256(run(*argv).stdout).hexdigest()


def snapshots(image):
    listed = run(QCTOOL, "list", image).stdout.decode().splitlines()
    return [line.split(None, 2)[2] for line in listed]


def state(image):
    return (digest(image), {name: digest(image, name) for name in snapshots(image)})


def size_of(image):
    out = run("qemu-img", "info", "--output=json", image).stdout.decode()
    return int(re.search(r'"virtual-size": (\d+)', out).group(1))


def judge(image, before, after):
    """What is wrong with the state, or None."""
    check = run("qemu-img", "check", "-q", image, ok=False)
    if check.returncode != 0:
        return "check: " + {2: "corrupt", 3: "leaks"}.get(check.returncode, "cannot check")
    now = state(image)
    if now not in (before, after):
        return "neither before nor after"
    io(image, f"write -q -P 99 0 {size_of(image)}")
    if {name: digest(image, name) for name in snapshots(image)} != now[1]:
        return "a guest's writes changed a snapshot"
    return None


def experiment(name, before_file, after_file, argv, image):
    """Kill argv everywhere. Returns (states, list of findings)."""
    before, after = state(before_file), state(after_file)
    states, findings, n = 0, [], 0
    while True:
        n += 1
        shutil.copyfile(before_file, image)
        done = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}", "-e",
                   f"inject={CALLS}:signal=SIGKILL:when={n}", *argv, ok=False)
        if done.returncode == 0:
            return states, findings
        states += 1
        wrong = judge(image, before, after)
        if wrong:
            findings.append(f"{name} killed at call {n}: {wrong}")


def main():
    ours, theirs, peer = 0, 0, []
    for kind, options in KINDS if FULL else KINDS[:2]:
        make("before", options)
        for command, qemu in COMMANDS:
            image = "image"
            verb, *names = command
            shutil.copyfile("before", "after")
            run(QCTOOL, verb, "after", *names)
            states, findings = experiment(f"{kind} {command}", "before", "after",
                                          [QCTOOL, verb, image, *names], image)
            if findings:
                sys.exit("\n".join(findings))
            if states < 10:
                sys.exit(f"{kind} {command}: killed only {states} times")
            ours += states
            if FULL and qemu:
                states, findings = experiment(f"{kind} qemu-img {qemu}", "before", "after",
                                              ["qemu-img", "snapshot", *qemu, image], image)
                theirs += states
                peer += findings
        os.unlink("before")
    print(f"snaptree: killed at {ours} system calls, {ours} states clean, before or after")
    if FULL:
        print(f"qemu-img: killed at {theirs} system calls, {len(peer)} states damaged")


main()
