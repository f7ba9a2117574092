/*
 * disturbed.h - a file to which somebody who ignores the locks does something while a command runs:
 * after so many syncs of it. One file at a time.
 */
#ifndef TESTS_DISTURBED_H
#define TESTS_DISTURBED_H

#include "memfile.h"

static struct {
    const QcFileOps *usual;
    QcFileOps ops;
    void (*deed)(MemFile *file);
    unsigned syncs, comes_after;
} stranger;

static inline int sync_and_be_disturbed(QcFile *file)
{
    int err = stranger.usual->sync(file);
    if (++stranger.syncs == stranger.comes_after)
        stranger.deed((MemFile *)file);
    return err;
}

static inline void invite_stranger(MemFile *file, void (*deed)(MemFile *), unsigned after)
{
    stranger.deed = deed;
    stranger.usual = file->base.ops;
    stranger.ops = *file->base.ops;
    stranger.ops.sync = sync_and_be_disturbed;
    stranger.syncs = 0;
    stranger.comes_after = after;
    file->base.ops = &stranger.ops;
}

/* Change the first sector: a byte of the backing file's size, which is not looked at where there is
 * none. */
static inline void change_first_sector(uint8_t *sector)
{
    sector[23] ^= 1;
}

#endif
