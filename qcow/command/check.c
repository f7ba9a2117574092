/*
 * check.c - is the image what its tables say, and making it so.
 *
 * A check counts every reference anew and compares. A repair takes the counts for the truth
 * and writes them, with the COPIED flags that follow, by the same switch as any command;
 * what it replaces is dropped like any old table. It invents nothing: an image with broken
 * tables stays as it is. Where there is nothing to mend, it writes nothing.
 */
#include "active.h"
#include "count.h"
#include "error.h"
#include "findings.h"
#include "flags.h"
#include "snaptable.h"
#include "snapwrite.h"
#include "tally.h"
#include "tree.h"

typedef struct Check {
    QcImage *image;
    QcMeter *meter;
    QcCheck *findings;
} Check;

/* The refcounts as they are on disk; NULL where they cannot be read as such, a finding. */
static int load_stored(const Check *c, QcRefs **ret)
{
    g_autoptr(GError) error = NULL;
    int err = qc_refs_load(c->image, c->meter, ret, &error);
    if (err != -EUCLEAN)
        return err;
    qc_find(c->findings, "%s", error->message);
    return 0;
}

/* Flaws beside all references, which every command sets right. */
static void check_claims(const QcImage *image, QcCheck *findings)
{
    if (image->info.data_file_raw && !image->info.has_data_file)
        qc_find(findings, "the header says that the data file is raw, and there is none");
    for (unsigned i = 0; i < image->info.n_snapshots; i++)
        if (qc_snapshot_is_incomplete(&image->header.layout, &image->info.snapshots[i]))
            qc_find(findings, "entry %u of the snapshot table does not say how large the disk was",
                    i);
}

typedef struct FlagCheck {
    const QcLayout *layout;
    QcRefs *refs;
    QcCheck *findings;
} FlagCheck;

static int check_table_flags(void *data, uint32_t slot, uint64_t l2_offset, uint8_t *table)
{
    FlagCheck *f = data;
    QcFlags was = {0};
    (void)slot;
    int err = table ? qc_flags_set_l2(f->layout, f->refs, table, &was) : 0;
    qc_find_several(f->findings, was.wrong,
                    "entry %" G_GUINT64_FORMAT " of the L2 table at %#" G_GINT64_MODIFIER
                    "x has the wrong COPIED flag",
                    was.first, l2_offset);
    return err;
}

/*
 * Compare the COPIED flags of the active tree with the refcounts, those that are stored where they
 * can be read. What is broken in other ways has been found when the references were counted.
 */
static int check_flags(const Check *c, QcRefs *refs)
{
    const QcHeader *h = &c->image->header;
    FlagCheck f = {&h->layout, refs, c->findings};
    g_autofree uint64_t *l1 = NULL;
    int err = qc_l1_load(c->image, h->l1_offset, h->l1_entries, &l1);
    if (err < 0)
        return err;
    QcFlags was = qc_flags_set_l1(f.layout, refs, l1, h->l1_entries);
    qc_find_several(c->findings, was.wrong,
                    "entry %" G_GUINT64_FORMAT " of the active L1 table has the wrong COPIED flag",
                    was.first);
    return qc_tree_walk(c->image, l1, h->l1_entries, c->meter, check_table_flags, &f);
}

/* Compare what is stored (NULL: nothing that can be read) with what was counted. */
static int compare(const Check *c, QcRefs *stored, QcRefs *counted)
{
    if (stored)
        qc_tally_compare(stored, counted, c->findings);
    check_claims(c->image, c->findings);
    return check_flags(c, stored ? stored : counted);
}

/* What came of all that. err: of what was done last. */
static int sum_up(int err, QcCheck *findings)
{
    if (err != -EUCLEAN)
        return err;
    qc_find(findings, "the active L1 table is broken"); /* the tree cannot even be walked */
    return 0;
}

int qc_image_check(QcImage *image, const QcRun *run, QcCheck *ret, GError **error)
{
    g_autoptr(QcRefs) stored = NULL, counted = NULL;
    QcMeter meter = {.run = run, .passes = 2}; /* counting, and the flags */
    QcCheck findings = {0};
    Check c = {image, &meter, &findings};
    if (image->info.format != QC_FORMAT_QCOW2)
        return qc_fail(error, -EOPNOTSUPP, "raw images have nothing to check");
    if (image->info.has_data_file)
        return qc_fail(error, -EOPNOTSUPP, "%s", qc_image_unsupported(image));
    if (image->spent) /* or opened without its snapshots */
        return qc_fail(error, -EINVAL, "the image must be opened again");
    int err = qc_file_sync(image->file); /* as every command: see txn.c */
    qc_file_refresh(image->file, 0, 0);
    if (!err)
        err = load_stored(&c, &stored);
    if (!err)
        err = qc_count_references(image, NULL, &meter, &findings, &counted);
    if (!err)
        err = compare(&c, stored, counted);
    err = sum_up(err, &findings);
    if (err < 0)
        return qc_fail(error, err, "the image cannot be checked: %s", g_strerror(-err));
    *ret = findings;
    return 0;
}

/* What a repair mends. The stored counts may lie where the storage cannot be read. */
static int look_what_is_wrong(QcTxn *txn, QcCheck *findings)
{
    Check c = {txn->image, &txn->meter, findings};
    g_autoptr(QcRefs) stored = NULL;
    int err = load_stored(&c, &stored);
    if (err == -ENOMEM || err == -ECANCELED)
        return err;
    if (err < 0)
        qc_find(findings, "the refcounts cannot be read");
    return sum_up(compare(&c, stored, txn->refs), findings);
}

static bool needs_repair(const QcImage *image, const QcCheck *found)
{
    return image->info.dirty || image->info.corrupt || found->errors > 0 || found->leaks > 0;
}

/* Write what was counted. */
static int renew(QcTxn *txn, GError **error)
{
    int err = qc_active_refresh(txn);
    if (!err)
        err = qc_snapshots_complete(txn);
    return err ? qc_txn_fail(err, error) : qc_txn_commit(txn, error);
}

int qc_image_repair(QcImage *image, QcRun *run, QcCheck *ret_found, GError **error)
{
    g_autoptr(QcTxn) txn = NULL;
    QcCheck found = {0};
    int err = qc_txn_begin_repair(image, run, &txn, error);
    if (err < 0)
        return err;
    err = look_what_is_wrong(txn, &found);
    if (err < 0)
        return qc_txn_fail(err, error);
    if (needs_repair(image, &found))
        err = renew(txn, error);
    if (!err && ret_found)
        *ret_found = found;
    return err;
}
