/*
 * inflate.h - decoding compressed clusters. Pure, no I/O. §"Compressed Clusters Descriptor".
 */
#ifndef QCOW_INFLATE_H
#define QCOW_INFLATE_H

#include <stddef.h>
#include <stdint.h>

/* Decoder state that may be reused, one user at a time. NULL when there is no memory. */
typedef struct QcInflater QcInflater;
QcInflater *qc_inflater_new(void);
void qc_inflater_free(QcInflater *inflater); /* accepts NULL */

/*
 * Decode a whole cluster. What follows the compressed stream in in is ignored: an L2 entry
 * gives only an upper bound of its length. compression_type as in the header. -EIO when the data
 * does not decode to exactly out_len bytes; -ENOMEM.
 */
int qc_inflate(QcInflater *inflater, uint8_t compression_type, const void *in, size_t in_len,
               void *out, size_t out_len);

#endif
