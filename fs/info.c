/*
 * Keys and meanings are those of QEMU's ImageInfo (qapi/block-core.json); the "snaptree"
 * object at the end is ours. The text is worked out once per opened image and state of use.
 */
#include "info.h"

#include "luks.h"
#include "text.h"

#include <json-glib/json-glib.h>
#include <string.h>

enum {
    INDENT = 4,
    NS_PER_SECOND = 1000000000,
};

/* ---- members of the object under construction -------------------------------------------- */

static void put_string(JsonBuilder *json, const char *key, const char *value)
{
    g_autofree char *valid = text_utf8(value);

    json_builder_set_member_name(json, key);
    json_builder_add_string_value(json, valid);
}

static void put_int(JsonBuilder *json, const char *key, uint64_t value)
{
    json_builder_set_member_name(json, key);
    json_builder_add_int_value(json, (gint64)value);
}

static void put_bool(JsonBuilder *json, const char *key, bool value)
{
    json_builder_set_member_name(json, key);
    json_builder_add_boolean_value(json, value);
}

static void begin_object(JsonBuilder *json, const char *key)
{
    json_builder_set_member_name(json, key);
    json_builder_begin_object(json);
}

static void begin_array(JsonBuilder *json, const char *key)
{
    json_builder_set_member_name(json, key);
    json_builder_begin_array(json);
}

/* ---- what QEMU says ---------------------------------------------------------------------- */

static void put_qemu_snapshots(JsonBuilder *json, const QcInfo *info)
{
    if (info->n_snapshots == 0)
        return;
    begin_array(json, "snapshots");
    for (unsigned i = 0; i < info->n_snapshots; i++) {
        const QcSnapshot *s = &info->snapshots[i];

        json_builder_begin_object(json);
        put_string(json, "id", s->id);
        put_string(json, "name", s->name);
        put_int(json, "vm-state-size", s->vm_state_size);
        put_int(json, "date-sec", (uint64_t)s->date_sec);
        put_int(json, "date-nsec", s->date_nsec);
        put_int(json, "vm-clock-sec", s->vm_clock_nsec / NS_PER_SECOND);
        put_int(json, "vm-clock-nsec", s->vm_clock_nsec % NS_PER_SECOND);
        if (s->icount != UINT64_MAX)
            put_int(json, "icount", s->icount);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void put_bitmaps(JsonBuilder *json, const QcInfo *info)
{
    if (info->n_bitmaps == 0)
        return;
    begin_array(json, "bitmaps");
    for (unsigned i = 0; i < info->n_bitmaps; i++) {
        const QcBitmap *bitmap = &info->bitmaps[i];

        json_builder_begin_object(json);
        put_string(json, "name", bitmap->name);
        put_int(json, "granularity", bitmap->granularity);
        begin_array(json, "flags");
        if (bitmap->in_use)
            json_builder_add_string_value(json, "in-use");
        if (bitmap->is_auto)
            json_builder_add_string_value(json, "auto");
        json_builder_end_array(json);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void put_luks(JsonBuilder *json, const LuksInfo *luks)
{
    put_string(json, "ivgen-alg", luks->ivgen_alg);
    if (luks->ivgen_hash_alg)
        put_string(json, "ivgen-hash-alg", luks->ivgen_hash_alg);
    put_string(json, "hash-alg", luks->hash_alg);
    put_string(json, "cipher-alg", luks->cipher_alg);
    put_string(json, "cipher-mode", luks->cipher_mode);
    put_string(json, "uuid", luks->uuid);
    put_int(json, "payload-offset", luks->payload_offset);
    put_int(json, "master-key-iters", luks->master_key_iters);
    begin_array(json, "slots");
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        const LuksSlot *slot = &luks->slots[i];

        json_builder_begin_object(json);
        put_bool(json, "active", slot->active);
        put_int(json, "key-offset", slot->key_offset);
        if (slot->active) {
            put_int(json, "iters", slot->iters);
            put_int(json, "stripes", slot->stripes);
        }
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void put_encryption(JsonBuilder *json, const Image *image, const QcInfo *info)
{
    unsigned char header[LUKS_HEADER_BYTES];
    LuksInfo luks;

    if (info->encryption == QC_ENCRYPTION_NONE)
        return;
    begin_object(json, "encrypt");
    put_string(json, "format", info->encryption == QC_ENCRYPTION_AES ? "aes" : "luks");
    if (info->encryption == QC_ENCRYPTION_LUKS && info->luks_length >= sizeof(header) &&
        qc_file_read(image_file(image), header, sizeof(header), info->luks_offset) == 0 &&
        luks_parse(header, &luks))
        put_luks(json, &luks);
    json_builder_end_object(json);
}

static void put_format_specific(JsonBuilder *json, const Image *image, const QcInfo *info)
{
    begin_object(json, "format-specific");
    put_string(json, "type", "qcow2");
    begin_object(json, "data");
    put_string(json, "compat", info->version >= 3 ? "1.1" : "0.10");
    put_string(json, "compression-type", info->compression);
    put_int(json, "refcount-bits", info->refcount_bits);
    if (info->version >= 3) {
        put_bool(json, "lazy-refcounts", info->lazy_refcounts);
        put_bool(json, "corrupt", info->corrupt);
        put_bool(json, "extended-l2", info->extended_l2);
        put_bitmaps(json, info);
    }
    if (info->has_data_file) {
        if (info->data_file)
            put_string(json, "data-file", info->data_file);
        put_bool(json, "data-file-raw", info->data_file_raw);
    }
    put_encryption(json, image, info);
    json_builder_end_object(json);
    json_builder_end_object(json);
}

/* A backing file's name as QEMU completes it: relative to the image that names it. */
static char *full_backing_name(const char *image, const char *name)
{
    bool has_protocol = name[strcspn(name, ":/")] == ':';
    const char *slash = strrchr(image, '/');

    if (has_protocol || *name == '/')
        return g_strdup(name);
    return g_strdup_printf("%.*s%s", (int)(slash + 1 - image), image, name);
}

static void put_backing(JsonBuilder *json, const char *filename, const QcInfo *info)
{
    if (!info->backing_file || !*info->backing_file)
        return;

    g_autofree char *full = full_backing_name(filename, info->backing_file);
    put_string(json, "backing-filename", info->backing_file);
    put_string(json, "full-backing-filename", full);
    if (info->backing_format && *info->backing_format)
        put_string(json, "backing-filename-format", info->backing_format);
}

static char *absolute_path(Fs *fs, const char *path)
{
    const char *store = qc_gate_store(fs->gate);

    if (*path == '/')
        return g_strdup(path);
    return g_strdup_printf("%s/%s", strcmp(store, "/") == 0 ? "" : store, path);
}

static void put_qemu(JsonBuilder *json, Fs *fs, const Image *image)
{
    g_autofree char *filename = absolute_path(fs, image_path(image));
    const QcInfo *info = image_qc(image) ? qc_image_info(image_qc(image)) : NULL;

    put_string(json, "filename", filename);
    if (image_format(image))
        put_string(json, "format", image_format(image));
    put_int(json, "actual-size", image_stat(image)->allocated);
    if (!info)
        return;
    put_int(json, "virtual-size", (info->virtual_size + 511) / 512 * 512);
    put_bool(json, "dirty-flag", info->dirty);
    if (info->format != QC_FORMAT_QCOW2)
        return;
    put_int(json, "cluster-size", UINT64_C(1) << info->cluster_bits);
    if (info->encryption != QC_ENCRYPTION_NONE)
        put_bool(json, "encrypted", true);
    put_backing(json, filename, info);
    put_qemu_snapshots(json, info);
    put_format_specific(json, image, info);
}

/* ---- what we say ------------------------------------------------------------------------- */

static void put_our_snapshots(JsonBuilder *json, Image *image)
{
    begin_array(json, "snapshots");
    for (unsigned i = 0; i < image_n_snapshots(image); i++) {
        const QcSnapshot *snapshot = image_snapshot(image, i);

        json_builder_begin_object(json);
        put_string(json, "file", names_shown(image_names(image), i));
        put_string(json, "id", snapshot->id);
        put_string(json, "name", snapshot->name);
        put_int(json, "virtual-size", snapshot->disk_size);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void put_our_layers(JsonBuilder *json, Fs *fs, const Image *image)
{
    begin_array(json, "layers");
    for (unsigned i = 0; i < image_n_layers(image); i++) {
        const QcInfo *info = image_layer_info(image, i);
        g_autofree char *file = image_layer_name(image, i);
        g_autofree char *path =
            absolute_path(fs, qc_image_path(qc_chain_image(image_chain(image), i)));

        json_builder_begin_object(json);
        put_string(json, "file", file);
        put_string(json, "path", path);
        put_string(json, "format", info->format == QC_FORMAT_RAW ? "raw" : "qcow2");
        put_int(json, "virtual-size", info->virtual_size);
        json_builder_end_object(json);
    }
    json_builder_end_array(json);
}

static void put_ours(JsonBuilder *json, Fs *fs, Image *image, bool in_use)
{
    begin_object(json, "snaptree");
    put_string(json, "version", SNAPTREE_VERSION);
    if (image_error(image))
        put_string(json, "error", image_error(image));
    put_bool(json, "in-use", in_use);
    put_our_snapshots(json, image);
    put_our_layers(json, fs, image);
    json_builder_end_object(json);
}

static GBytes *render(JsonBuilder *json)
{
    g_autoptr(JsonGenerator) generator = json_generator_new();
    g_autoptr(JsonNode) root = json_builder_get_root(json);
    g_autoptr(GString) text = g_string_new(NULL);

    json_generator_set_root(generator, root);
    json_generator_set_pretty(generator, TRUE);
    json_generator_set_indent(generator, INDENT);
    json_generator_to_gstring(generator, text);
    g_string_append_c(text, '\n');
    return g_string_free_to_bytes(g_steal_pointer(&text));
}

GBytes *info_text(Fs *fs, Image *image)
{
    bool in_use =
        image_file(image) && fs_has_foreign_writer(fs, image_file(image), image_stat(image));
    GBytes *text = image_get_text(image, in_use);

    if (text)
        return text;

    g_autoptr(JsonBuilder) json = json_builder_new();
    json_builder_begin_object(json);
    put_qemu(json, fs, image);
    put_ours(json, fs, image, in_use);
    json_builder_end_object(json);
    text = render(json);
    image_set_text(image, in_use, text);
    return text;
}
