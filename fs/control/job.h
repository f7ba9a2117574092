/* job.h - the commands of one write to a control file, run one after another. */
#ifndef SNAPTREE_JOB_H
#define SNAPTREE_JOB_H

#include "fs.h"

typedef struct JobWrite {
    fuse_req_t req;
    const char *image; /* path of the image whose control file it is; "": the store's */
    QcFileStat file;   /* what lay there when the control file was opened; zeros: nothing */
    const char *bytes; /* valid until job_start() returns */
    size_t len;
    Creds *creds; /* the writer's, with the opener's (creds.h); the job owns them */
} JobWrite;

/* Is given the results of all commands that were run, just before the write is answered. */
typedef void (*JobDoneFunc)(gpointer data, const char *results);

/*
 * Run the commands that were written, until one fails, and answer the write, later, from another
 * thread. The storage is not waited for. The image's path and the opener of the creds are borrowed
 * until done() is called.
 */
void job_start(Fs *fs, const JobWrite *write, JobDoneFunc done, gpointer data);

#endif
