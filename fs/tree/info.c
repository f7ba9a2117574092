/*
 * info.c - see info.h.
 *
 * Keys and meanings are those of QEMU's ImageInfo (qapi/block-core.json); the "snaptree"
 * object at the end is ours. The text is worked out once per opened image and state of use.
 */
#include "info.h"

#include "json.h"

#include <sys/stat.h>

enum {
    SNAPSHOT_BYTES = 6144, /* what a snapshot takes while the text is made, besides its name */
};

/* ---- what QEMU says ---------------------------------------------------------------------- */

static void put_qemu_snapshots(Json *json, const QcInfo *info)
{
    if (info->n_snapshots == 0)
        return;
    json_begin_array(json, "snapshots");
    for (unsigned i = 0; i < info->n_snapshots; i++) {
        const QcSnapshot *s = &info->snapshots[i];

        json_begin_object(json, NULL);
        json_put_string(json, "id", s->id);
        json_put_string(json, "name", s->name);
        json_put_int(json, "vm-state-size", s->vm_state_size);
        json_put_int(json, "date-sec", (uint64_t)s->date_sec);
        json_put_int(json, "date-nsec", s->date_nsec);
        json_put_int(json, "vm-clock-sec", s->vm_clock_nsec / QC_NS_PER_SECOND);
        json_put_int(json, "vm-clock-nsec", s->vm_clock_nsec % QC_NS_PER_SECOND);
        if (s->icount != UINT64_MAX)
            json_put_int(json, "icount", s->icount);
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_bitmaps(Json *json, const QcInfo *info)
{
    if (info->n_bitmaps == 0)
        return;
    json_begin_array(json, "bitmaps");
    for (unsigned i = 0; i < info->n_bitmaps; i++) {
        const QcBitmap *bitmap = &info->bitmaps[i];

        json_begin_object(json, NULL);
        json_put_string(json, "name", bitmap->name);
        json_put_int(json, "granularity", bitmap->granularity);
        json_begin_array(json, "flags");
        if (bitmap->in_use)
            json_put_string(json, NULL, "in-use");
        if (bitmap->is_auto)
            json_put_string(json, NULL, "auto");
        json_end_array(json);
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_luks(Json *json, const QcLuks *luks)
{
    json_put_string(json, "ivgen-alg", luks->ivgen_alg);
    if (*luks->ivgen_hash_alg)
        json_put_string(json, "ivgen-hash-alg", luks->ivgen_hash_alg);
    json_put_string(json, "hash-alg", luks->hash_alg);
    json_put_string(json, "cipher-alg", luks->cipher_alg);
    json_put_string(json, "cipher-mode", luks->cipher_mode);
    json_put_string(json, "uuid", luks->uuid);
    json_put_int(json, "payload-offset", luks->payload_offset);
    json_put_int(json, "master-key-iters", luks->master_key_iters);
    json_begin_array(json, "slots");
    for (unsigned i = 0; i < QC_LUKS_SLOTS; i++) {
        const QcLuksSlot *slot = &luks->slots[i];

        json_begin_object(json, NULL);
        json_put_bool(json, "active", slot->active);
        json_put_int(json, "key-offset", slot->key_offset);
        if (slot->active) {
            json_put_int(json, "iters", slot->iters);
            json_put_int(json, "stripes", slot->stripes);
        }
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_encryption(Json *json, const Image *image, const QcInfo *info)
{
    QcLuks luks;

    if (info->encryption == QC_ENCRYPTION_NONE)
        return;
    json_begin_object(json, "encrypt");
    json_put_string(json, "format", info->encryption == QC_ENCRYPTION_AES ? "aes" : "luks");
    if (image_luks(image, &luks) == 0)
        put_luks(json, &luks);
    json_end_object(json);
}

static void put_format_specific(Json *json, const Image *image, const QcInfo *info)
{
    json_begin_object(json, "format-specific");
    json_put_string(json, "type", "qcow2");
    json_begin_object(json, "data");
    json_put_string(json, "compat", info->version >= 3 ? "1.1" : "0.10");
    json_put_string(json, "compression-type", info->compression);
    json_put_int(json, "refcount-bits", info->refcount_bits);
    if (info->version >= 3) {
        json_put_bool(json, "lazy-refcounts", info->lazy_refcounts);
        json_put_bool(json, "corrupt", info->corrupt);
        json_put_bool(json, "extended-l2", info->extended_l2);
        put_bitmaps(json, info);
    }
    if (info->has_data_file) {
        if (info->data_file)
            json_put_string(json, "data-file", info->data_file);
        json_put_bool(json, "data-file-raw", info->data_file_raw);
    }
    put_encryption(json, image, info);
    json_end_object(json);
    json_end_object(json);
}

/* A text of the engine's. Without memory for something small, we end as GLib does. */
static char *or_abort(char *text)
{
    if (!text)
        g_error("no memory");
    return text;
}

static void put_backing(Json *json, const char *filename, const QcInfo *info)
{
    if (!info->backing_file || !*info->backing_file)
        return;

    g_autofree char *full = or_abort(qc_backing_full_name(filename, info->backing_file));
    json_put_string(json, "backing-filename", info->backing_file);
    json_put_string(json, "full-backing-filename", full);
    if (info->backing_format && *info->backing_format)
        json_put_string(json, "backing-filename-format", info->backing_format);
}

static char *absolute_path(Fs *fs, const char *path)
{
    return or_abort(qc_gate_full_path(fs->gate, path));
}

static void put_qemu(Json *json, Fs *fs, const Image *image)
{
    g_autofree char *filename = absolute_path(fs, image_path(image));
    const QcInfo *info = image_info(image);

    json_put_string(json, "filename", filename);
    if (image_format(image))
        json_put_string(json, "format", image_format(image));
    json_put_int(json, "actual-size",
                 S_ISBLK(image_stat(image)->mode) ? 0 : image_stat(image)->allocated);
    if (!info)
        return;
    json_put_int(json, "virtual-size", info->virtual_size);
    json_put_bool(json, "dirty-flag", info->dirty);
    if (info->format != QC_FORMAT_QCOW2)
        return;
    json_put_int(json, "cluster-size", UINT64_C(1) << info->cluster_bits);
    if (info->encryption != QC_ENCRYPTION_NONE)
        json_put_bool(json, "encrypted", true);
    put_backing(json, filename, info);
    put_qemu_snapshots(json, info);
    put_format_specific(json, image, info);
}

/* ---- what we say ------------------------------------------------------------------------- */

static void put_our_snapshots(Json *json, Image *image)
{
    json_begin_array(json, "snapshots");
    for (unsigned i = 0; i < image_n_snapshots(image); i++) {
        const QcSnapshot *snapshot = image_snapshot(image, i);

        json_begin_object(json, NULL);
        json_put_string(json, "file", names_shown(image_names(image), i));
        json_put_string(json, "id", snapshot->id);
        json_put_string(json, "name", snapshot->name);
        json_put_int(json, "virtual-size", snapshot->disk_size);
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_our_layers(Json *json, Fs *fs, const Image *image)
{
    json_begin_array(json, "layers");
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        const QcInfo *info = image_layer_info(image, i);
        g_autofree char *file = image_layer_name(image, i);
        g_autofree char *path =
            absolute_path(fs, qc_image_path(qc_chain_image(image_chain(image), i)));

        json_begin_object(json, NULL);
        json_put_string(json, "file", file);
        json_put_string(json, "path", path);
        json_put_string(json, "format", info->format == QC_FORMAT_RAW ? "raw" : "qcow2");
        json_put_int(json, "virtual-size", info->virtual_size);
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_ours(Json *json, Fs *fs, Image *image, bool in_use)
{
    json_begin_object(json, "snaptree");
    json_put_string(json, "version", SNAPTREE_VERSION);
    if (image_error(image))
        json_put_string(json, "error", image_error(image));
    json_put_bool(json, "in-use", in_use);
    put_our_snapshots(json, image);
    put_our_layers(json, fs, image);
    json_end_object(json);
}

GBytes *info_text(Fs *fs, Image *image)
{
    bool in_use =
        image_file(image) && (fs_has_foreign_writer(fs, image_file(image), image_stat(image)) > 0 ||
                              fs_has_device_writer(fs, image_stat(image), FS_RECENT_MS) > 0);
    GBytes *text = image_get_text(image, in_use);

    if (text)
        return text;
    if (image_qc(image) &&
        (!names_room_for(qc_image_info(image_qc(image)), SNAPSHOT_BYTES) || !image_names(image)))
        return NULL;

    Json json = {.text = g_string_new(NULL)};
    json_begin_object(&json, NULL);
    put_qemu(&json, fs, image);
    put_ours(&json, fs, image, in_use);
    json_end_object(&json);
    g_string_append_c(json.text, '\n');
    text = g_string_free_to_bytes(json.text);
    image_set_text(image, in_use, text);
    return text;
}
