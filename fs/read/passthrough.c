/* passthrough.c - see passthrough.h. Keeps no state: the kernel has the table of numbers. */
#include "passthrough.h"

#include <fuse_lowlevel.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* What the kernel is told; its headers have it since 6.9. */
enum {
    OPEN_DIRECT_IO = 1 << 0,
    OPEN_PASSTHROUGH = 1 << 7,
};

typedef struct BackingMap {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
} BackingMap;

typedef struct OpenAnswer {
    uint64_t handle;
    uint32_t flags;
    int32_t number;
} OpenAnswer;

#define BACKING_OPEN  _IOW(229, 1, BackingMap)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

int passthrough_begin(int device, QcGate *gate, const char *path, const QcFileStat *file)
{
    g_autoptr(QcFile) opened = NULL;
    QcFileStat stat;
    int r;

    if (qc_gate_policy(gate) == QC_BACKING_ANY)
        return -EXDEV;
    r = qc_gate_open(gate, path, false, &opened, NULL);
    if (r == 0)
        r = qc_file_stat(opened, &stat);
    if (r < 0)
        return r;
    if (!qc_file_same_file(&stat, file))
        return -ESTALE;
    if (!S_ISREG(stat.mode))
        return -EINVAL;

    BackingMap map = {.fd = qc_file_fd(opened)};
    if (fcntl(map.fd, F_SETFL, O_DIRECT) < 0) /* the kernel opens it anew, as it is opened here */
        return -errno;
    int number = ioctl(device, BACKING_OPEN, &map);
    return number > 0 ? number : number < 0 ? -errno : -EIO;
}

int passthrough_end(int device, int number)
{
    uint32_t which = (uint32_t)number;

    return ioctl(device, BACKING_CLOSE, &which) < 0 ? -errno : 0;
}

int passthrough_reply(fuse_req_t req, const struct fuse_file_info *fi, int number)
{
    OpenAnswer answer = {.handle = fi->fh,
                         .flags = OPEN_PASSTHROUGH | (fi->direct_io ? OPEN_DIRECT_IO : 0u),
                         .number = number};

    return fuse_reply_buf(req, (const char *)&answer, sizeof(answer));
}
