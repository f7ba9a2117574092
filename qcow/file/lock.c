/*
 * lock.c - QEMU's image locks.
 *
 * For each permission p, byte 100+p says "I use p", byte 200+p says "I do not share p"; both
 * are shared locks, so any number may say the same. A process that wants in takes all its bytes
 * first and looks for a contradiction afterwards: of two that come at once, at least one sees the
 * other.
 */
#include "error.h"

enum {
    PERM_READ = 1 << 0,            /* a consistent state is read */
    PERM_WRITE = 1 << 1,           /* contents are changed */
    PERM_WRITE_UNCHANGED = 1 << 2, /* storage is changed, contents are not */
    PERM_RESIZE = 1 << 3,
    PERM_COUNT = 4,
};

enum {
    BYTE_USED = 100,
    BYTE_UNSHARED = 200,
};

enum {
    WRITER_USES = PERM_READ | PERM_WRITE | PERM_RESIZE,
    WRITER_UNSHARES = PERM_WRITE | PERM_RESIZE,
};

static int take_bytes(QcFile *file, unsigned first, unsigned perms)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        if (!(perms & 1u << p))
            continue;
        int err = qc_file_lock(file, first + p, true);
        if (err < 0)
            return err;
    }
    return 0;
}

static int each_held(QcFile *file, unsigned first, unsigned perms)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        if (!(perms & 1u << p))
            continue;
        int held = qc_file_lock_held(file, first + p, 1);
        if (held != 0)
            return held;
    }
    return 0;
}

/*
 * 1 when another open file holds one of the bytes. As a rule none is held, nor any of those in
 * between; so all of them are asked about at once before each is.
 */
static int any_held(QcFile *file, unsigned first, unsigned perms)
{
    if (!perms)
        return 0;
    unsigned lowest = (unsigned)__builtin_ctz(perms);
    unsigned highest = 31 - (unsigned)__builtin_clz(perms);
    int held = qc_file_lock_held(file, first + lowest, highest - lowest + 1);
    return held > 0 ? each_held(file, first, perms) : held;
}

static int lock_failed(QcFile *file, int err, GError **error)
{
    qc_lock_release(file);
    if (err == -EAGAIN || err == -EACCES)
        return qc_fail(error, -EBUSY, "another process holds an exclusive lock on the image");
    return qc_fail(error, err, "the image cannot be locked: %s", g_strerror(-err));
}

/* any_held() with each byte asked for in the way that does not err; of those in ours, we have a
 * lock of our own. */
static int any_held_surely(QcFile *file, unsigned first, unsigned perms, unsigned ours)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        if (!(perms & 1u << p))
            continue;
        int held = qc_file_lock_held_surely(file, first + p, ours & 1u << p);
        if (held != 0)
            return held;
    }
    return 0;
}

/* surely: at the cost that a process which asks for a lock at that moment does not get it. */
static int find_contradiction(QcFile *file, unsigned used, unsigned unshared, bool surely)
{
    int held = any_held(file, BYTE_UNSHARED, used);
    if (held == 0)
        held = any_held(file, BYTE_USED, unshared);
    if (held == 0 && surely)
        held = any_held_surely(file, BYTE_UNSHARED, used, unshared);
    if (held == 0 && surely)
        held = any_held_surely(file, BYTE_USED, unshared, used);
    return held;
}

static int lock_image(QcFile *file, unsigned used, unsigned unshared, bool surely, GError **error)
{
    int err = take_bytes(file, BYTE_USED, used);
    if (!err)
        err = take_bytes(file, BYTE_UNSHARED, unshared);
    if (err < 0)
        return lock_failed(file, err, error);

    int held = find_contradiction(file, used, unshared, surely);
    if (held < 0)
        return lock_failed(file, held, error);
    if (held) {
        qc_lock_release(file);
        return qc_fail(error, -EBUSY, "another process uses the image; stop it first");
    }
    return 0;
}

int qc_lock_reader(QcFile *file, GError **error)
{
    return lock_image(file, PERM_READ, 0, false, error);
}

int qc_lock_writer(QcFile *file, GError **error)
{
    return lock_image(file, WRITER_USES, WRITER_UNSHARES, true, error);
}

void qc_lock_release(QcFile *file)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        qc_file_lock(file, BYTE_USED + p, false);
        qc_file_lock(file, BYTE_UNSHARED + p, false);
    }
}

/* A file waits before it drops any lock: this one nobody has taken. */
void qc_lock_linger(QcFile *file)
{
    qc_file_lock(file, BYTE_USED + PERM_COUNT, false);
}

int qc_lock_has_writer(QcFile *file)
{
    return any_held(file, BYTE_USED, PERM_WRITE | PERM_RESIZE);
}

static bool has_any(uint64_t start, uint64_t end, unsigned first, unsigned perms)
{
    for (unsigned p = 0; p < PERM_COUNT; p++) {
        if (perms & 1u << p && start <= first + p && first + p <= end)
            return true;
    }
    return false;
}

bool qc_lock_tells_writer(uint64_t start, uint64_t end)
{
    return has_any(start, end, BYTE_USED, PERM_WRITE | PERM_RESIZE);
}

bool qc_lock_bars_writer(uint64_t start, uint64_t end, bool exclusive)
{
    return has_any(start, end, BYTE_UNSHARED, WRITER_USES) ||
           has_any(start, end, BYTE_USED, WRITER_UNSHARES) ||
           (exclusive && (has_any(start, end, BYTE_USED, WRITER_USES) ||
                          has_any(start, end, BYTE_UNSHARED, WRITER_UNSHARES)));
}
