/* subject.c - see subject.h. */
#include "subject.h"

#include <errno.h>

void subject_clear(Subject *subject)
{
    g_free(subject->id);
}

bool subject_is_snapshot(const Subject *subject)
{
    return subject->layer < 0;
}

unsigned subject_top_layer(const Subject *subject)
{
    return (unsigned)MAX(subject->layer, 0);
}

int subject_view(const Subject *subject, const Image *image, QcView **ret)
{
    if (!image_chain(image))
        return -EIO;
    if (subject->layer >= (int)image_n_layers(image))
        return -EIO;
    if (subject->layer >= 0) {
        *ret = qc_view_ref(qc_chain_view(image_chain(image), (unsigned)subject->layer));
        return 0;
    }
    for (unsigned i = 0; i < image_n_snapshots(image); i++) {
        if (qc_snapshot_is_same(image_snapshot(image, i), &subject->snapshot))
            return qc_chain_snapshot_view(image_chain(image), i, ret);
    }
    return -EIO; /* it was deleted, or is another one by now */
}

int subject_choose(Subject *subject, Image *image, const Node *node)
{
    unsigned index = 0;

    if (node_kind(node) == NODE_DISK)
        return image_error(image) ? -ENOENT : 0;
    if (node_kind(node) == NODE_LAYER) {
        if (!image_find_layer(image, node_name(node), &index))
            return -ENOENT;
        subject->layer = (int)index;
        return 0;
    }
    const Names *names = image_names(image);
    int r = names ? names_find(names, node_name(node), &index) : -ENOMEM;
    if (r < 0)
        return r;
    subject->layer = -1;
    subject->snapshot = *image_snapshot(image, index);
    subject->id = g_strdup(subject->snapshot.id);
    subject->snapshot.id = subject->id;
    subject->snapshot.name = NULL;
    return 0;
}

/* With backing=any, a layer may lie where we do not know the directories above. */
static bool is_outside(const char *path)
{
    return *path == '/' || g_str_has_prefix(path, "../");
}

int subject_check_access(const Subject *subject, const Image *image, QcGate *gate,
                         const Creds *creds)
{
    if (creds_is_root(creds))
        return 0;
    for (unsigned i = subject_top_layer(subject); i < image_n_layers(image); i++) {
        const QcImage *layer = qc_chain_image(image_chain(image), i);
        const char *path = qc_image_path(layer);
        QcFile *file = qc_image_file(layer);
        const QcFileStat stat = image_layer_stat(image, i);

        if (!creds_may(creds, &stat, CREDS_READ))
            return -EACCES;
        if ((is_outside(path) ? store_reach_file(gate, creds, file)
                              : store_reach_layer(gate, creds, path, file)) < 0)
            return -EACCES;
    }
    return 0;
}

char *subject_part_of_snapshot(const QcSnapshot *snapshot)
{
    return g_strdup_printf("snapshot %s %" G_GINT64_MODIFIER "x", snapshot->id,
                           snapshot->l1_offset);
}

/* Which part of the files is shown (g_free). */
static char *part_of(const Subject *subject)
{
    const QcSnapshot *s = &subject->snapshot;

    if (subject->layer >= 0)
        return g_strdup_printf("layer %d", subject->layer);
    return g_strdup_printf("%s %" G_GINT64_MODIFIER "x %u %" G_GINT64_MODIFIER "d %u", s->id,
                           s->l1_offset, s->l1_entries, s->date_sec, s->date_nsec);
}

char *subject_what(const Subject *subject, const Image *image)
{
    g_autofree char *part = part_of(subject);
    GString *what = g_string_new(part);

    for (unsigned i = subject_top_layer(subject); i < image_n_layers(image); i++) {
        const QcFileStat *stat = &image_layer_info(image, i)->stat;

        g_string_append_printf(what, " %" G_GINT64_MODIFIER "x:%" G_GINT64_MODIFIER "x", stat->dev,
                               stat->ino);
    }
    return g_string_free(what, FALSE);
}

char *subject_identity(const Subject *subject, const Image *image, QcGate *gate)
{
    g_autofree char *files = image_identity(image, gate, subject_top_layer(subject));
    g_autofree char *part = part_of(subject);

    return files ? g_strdup_printf("%s %s", files, part) : NULL;
}
