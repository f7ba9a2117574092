/*
 * tally.h - references counted, one by one, into a model of refcounts.
 *
 * The model starts without counts and takes memory as clusters are found to be referred to, no
 * more than the image can ask for with what it really holds. When all is counted, it is compared
 * with the counts that are stored, or takes their place.
 */
#ifndef QCOW_TALLY_H
#define QCOW_TALLY_H

#include "refs.h"

typedef struct QcTally {
    QcRefs *refs;         /* what was counted; the tally's own until it is taken out */
    const QcRefs *stored; /* what it has no block for is not counted; NULL: all is */
    uint64_t memory_left; /* for blocks */
    uint8_t **tables;     /* for each block, bits of the clusters counted as a table; NULL: none */
    uint64_t n_tables;
} QcTally;

/*
 * Begin to count. The model knows where the refcount blocks of the image are (as far as the table
 * is valid), but not what they say. stored, where it is not NULL, is the model as loaded, and must
 * live as long as the tally: what it has no block for is not counted, so that counting takes no
 * more memory than that has taken, but for what qc_refs_use() keeps. -EIO, -ENOMEM.
 */
int qc_tally_init(QcTally *tally, QcImage *image, const QcRefs *stored);
void qc_tally_clear(QcTally *tally); /* accepts zeros */

/* What a cluster is referred to as. All tables are to be counted before any data. */
typedef enum QcRefKind {
    QC_REF_TABLE, /* metadata: nothing else may lie there, and it may not be counted again */
    QC_REF_DATA,
} QcRefKind;

/*
 * Count times references to each of count clusters from first on. -EUCLEAN when one of them
 * lies past the end of the file; -EFBIG when a count does not fit the width; -EEXIST when a
 * table and something else share a cluster; -ENODATA when stored has no block for it; -E2BIG when
 * there are more than the file can really hold. *ret_counted (may be NULL): how many of the
 * clusters were counted before that.
 */
int qc_tally_count(QcTally *tally, uint64_t first, uint64_t count, uint64_t times, QcRefKind kind,
                   uint64_t *ret_counted);

/*
 * Compare refcounts as stored with those counted. Counts that are too low are errors, those that
 * are too high are leaks.
 */
void qc_tally_compare(const QcRefs *stored, const QcRefs *counted, QcCheck *findings);

/*
 * Let each stored count be what was counted; the blocks in which one differs will be written. For
 * what was counted with these as stored.
 */
void qc_tally_adopt(QcRefs *stored, const QcRefs *counted);

/*
 * Let what was counted be written whole, not only the blocks that change from now on, and drop the
 * image's blocks that count nothing.
 */
int qc_tally_renew(QcRefs *counted);

#endif
