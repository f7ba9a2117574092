/* judge.c - see judge.h. */
#include "judge.h"
#include "format.h"
#include "qcow.h"
#include "script.h"
#include <errno.h>
#include <string.h>

/* What a cluster is used for; never for two of these. */
enum {
    ROLE_METADATA = 1, /* header, refcounts, snapshot table, bitmaps: referred to once */
    ROLE_L1 = 2,
    ROLE_L2 = 4,
    ROLE_DATA = 8,
    ENOUGH_TEXT = 2000,
};

typedef struct Judge {
    const uint8_t *bytes;
    uint64_t len;
    QcDiskHeader h;
    unsigned bits, order;
    uint64_t cluster, n; /* size and number of clusters */
    uint32_t *refs;      /* as counted */
    uint8_t *roles;
    GString *wrong;
    uint64_t leaks;
} Judge;

static void complain(Judge *j, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void complain(Judge *j, const char *format, ...)
{
    if (j->wrong->len > ENOUGH_TEXT)
        return;
    va_list args;
    va_start(args, format);
    g_string_append_vprintf(j->wrong, format, args);
    va_end(args);
    g_string_append(j->wrong, "; ");
}

static uint64_t word(Judge *j, uint64_t at)
{
    be64 v;
    if (at + 8 > j->len) {
        complain(j, "table at %#lx past the end", (unsigned long)at);
        return 0;
    }
    memcpy(&v, j->bytes + at, 8);
    return be64_get(v);
}

/* ---- references ------------------------------------------------------------------------- */

static void count(Judge *j, uint8_t role, uint64_t offset, uint64_t bytes)
{
    if (bytes == 0)
        return;
    for (uint64_t c = offset >> j->bits; c <= (offset + bytes - 1) >> j->bits; c++) {
        if (c >= j->n) {
            complain(j, "cluster %lu past the end", (unsigned long)c);
            return;
        }
        j->refs[c]++;
        if (j->roles[c] & ~role || (role == ROLE_METADATA && j->roles[c]))
            complain(j, "cluster %lu is two things", (unsigned long)c);
        j->roles[c] |= role;
    }
}

static bool extended(const Judge *j)
{
    return be32_get(j->h.version) > 2 &&
           (be64_get(j->h.incompatible_features) & QC_INCOMPAT_EXTENDED_L2);
}

/* Count what an entry refers to. */
static void count_entry(Judge *j, uint64_t entry)
{
    if (entry & QC_COMPRESSED) {
        unsigned x = 62 - (j->bits - 8);
        uint64_t at = entry & ((UINT64_C(1) << x) - 1);
        uint64_t sectors = ((entry & ~(QC_COMPRESSED | QC_COPIED)) >> x) + 1;
        count(j, ROLE_DATA, at & ~UINT64_C(511), sectors * 512);
    } else if (entry & QC_OFFSET_MASK) {
        count(j, ROLE_DATA, entry & QC_OFFSET_MASK, 1);
    }
}

static void check_flag(Judge *j, uint64_t at, uint64_t entry)
{
    uint64_t offset = entry & QC_OFFSET_MASK;
    bool want = offset && j->refs[MIN(offset >> j->bits, j->n - 1)] == 1;
    if (entry & QC_COMPRESSED)
        want = false;
    else if (!offset)
        return;
    if (want != (entry >> 63))
        complain(j, "COPIED of the L2 entry at %#lx", (unsigned long)at);
}

/* Visit each L2 entry of a tree: to count it, or to compare its flag. */
static void visit_tree(Judge *j, uint64_t l1_at, uint32_t n, bool flags)
{
    uint64_t step = extended(j) ? 16 : 8;
    if (!flags)
        count(j, ROLE_L1, l1_at, (uint64_t)n * 8);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t l1 = word(j, l1_at + i * 8u), l2 = l1 & QC_OFFSET_MASK;
        if (!l2 || l2 + j->cluster > j->len) {
            if (l2)
                complain(j, "L1 entry %u points past the end", i);
            continue;
        }
        if (!flags)
            count(j, ROLE_L2, l2, j->cluster);
        else if ((l1 >> 63) != (j->refs[l2 >> j->bits] == 1))
            complain(j, "COPIED of L1 entry %u", i);
        for (uint64_t at = l2; at < l2 + j->cluster; at += step) {
            uint64_t e = word(j, at);
            if (e && !flags)
                count_entry(j, e);
            else if (e)
                check_flag(j, at, e);
        }
    }
}

/* The entry of the snapshot table at at; returns where the next one is. 0: there is none. */
static uint64_t next_snapshot(Judge *j, uint64_t at, QcDiskSnapshot *d)
{
    if (at + sizeof(*d) > j->len) {
        complain(j, "snapshot table past the end");
        return 0;
    }
    memcpy(d, j->bytes + at, sizeof(*d));
    at += sizeof(*d) + be32_get(d->extra_data_size) + be16_get(d->id_size) + be16_get(d->name_size);
    return (at + 7) & ~UINT64_C(7);
}

static void count_snapshots(Judge *j)
{
    uint64_t start = be64_get(j->h.snapshots_offset), at = start;
    for (uint32_t i = 0; i < be32_get(j->h.nb_snapshots); i++) {
        QcDiskSnapshot d;
        uint64_t next = next_snapshot(j, at, &d);
        if (!next)
            return;
        at = next;
        visit_tree(j, be64_get(d.l1_table_offset), be32_get(d.l1_size), false);
    }
    count(j, ROLE_METADATA, start, at - start);
}

static void count_refcounts(Judge *j)
{
    uint64_t table = be64_get(j->h.refcount_table_offset);
    uint64_t bytes = (uint64_t)be32_get(j->h.refcount_table_clusters) * j->cluster;
    count(j, ROLE_METADATA, table, bytes);
    for (uint64_t at = table; at < table + bytes; at += 8)
        if (word(j, at))
            count(j, ROLE_METADATA, word(j, at), j->cluster);
}

/* A bitmap's table and what it points at. §"Bitmap table". */
static void count_bitmap_table(Judge *j, uint64_t at, uint32_t entries)
{
    count(j, ROLE_METADATA, at, entries * UINT64_C(8));
    for (uint32_t i = 0; i < entries; i++)
        if (word(j, at + i * 8u) & QC_OFFSET_MASK)
            count(j, ROLE_METADATA, word(j, at + i * 8u) & QC_OFFSET_MASK, j->cluster);
}

static void count_bitmaps(Judge *j, const QcDiskBitmaps *b)
{
    uint64_t at = be64_get(b->directory_offset);
    count(j, ROLE_METADATA, at, be64_get(b->directory_size));
    for (uint32_t i = 0; i < be32_get(b->nb_bitmaps); i++) {
        QcDiskBitmapEntry d;
        memcpy(&d, j->bytes + MIN(at, j->len - sizeof(d)), sizeof(d));
        count_bitmap_table(j, be64_get(d.table_offset), be32_get(d.table_size));
        at += sizeof(d) + be32_get(d.extra_data_size) + be16_get(d.name_size);
        at = (at + 7) & ~UINT64_C(7);
    }
}

/* The header extensions are looked through for bitmaps only. */
static void count_extensions(Judge *j)
{
    if (be32_get(j->h.version) < 3 || !(be64_get(j->h.autoclear_features) & QC_AUTOCLEAR_BITMAPS))
        return;
    QcDiskExtension ext;
    for (uint64_t at = be32_get(j->h.header_length); at + sizeof(ext) < j->cluster;) {
        memcpy(&ext, j->bytes + at, sizeof(ext));
        at += sizeof(ext);
        if (be32_get(ext.type) == QC_EXT_END)
            return;
        if (be32_get(ext.type) == QC_EXT_BITMAPS) {
            QcDiskBitmaps b;
            memcpy(&b, j->bytes + at, sizeof(b));
            count_bitmaps(j, &b);
        }
        at += (be32_get(ext.length) + UINT64_C(7)) & ~UINT64_C(7);
    }
}

/* ---- refcounts as they are stored ------------------------------------------------------- */

static uint64_t stored(const Judge *j, const uint8_t *block, uint64_t i)
{
    uint64_t bit = i << j->order, value = 0;
    const uint8_t *at = block + bit / 8;
    if (j->order < 3)
        return (*at >> (bit % 8)) & ((1u << (1u << j->order)) - 1);
    for (unsigned b = 0; b < 1u << (j->order - 3); b++)
        value = value << 8 | at[b];
    return value;
}

static void compare(Judge *j, uint64_t cluster, uint64_t count)
{
    uint32_t refs = cluster < j->n ? j->refs[cluster] : 0;
    if (count == refs)
        return;
    j->leaks += count > refs;
    complain(j, "cluster %lu: refcount %lu, references %u", (unsigned long)cluster,
             (unsigned long)count, refs);
}

/* A block of the refcount table; NULL: it is not there, and counts nothing. */
static void compare_block(Judge *j, uint64_t first, const uint8_t *block)
{
    uint64_t per_block = j->cluster * 8 >> j->order;
    const uint8_t *end = block ? block + j->cluster : NULL;
    for (uint64_t i = 0; i < per_block; i++) {
        const uint8_t *at = block ? block + (i << j->order) / 8 : NULL;
        if (first + i >= j->n && (!block || (!*at && !memcmp(at, at + 1, (size_t)(end - at) - 1))))
            return;
        compare(j, first + i, block ? stored(j, block, i) : 0);
    }
}

static void compare_refcounts(Judge *j)
{
    uint64_t per_block = j->cluster * 8 >> j->order;
    uint64_t table = be64_get(j->h.refcount_table_offset);
    uint64_t entries = (uint64_t)be32_get(j->h.refcount_table_clusters) * j->cluster / 8;
    for (uint64_t i = 0; i < MAX(entries, j->n / per_block + 1); i++) {
        uint64_t block = i < entries ? word(j, table + i * 8) : 0;
        bool inside = block && block + j->cluster <= j->len;
        compare_block(j, i * per_block, inside ? j->bytes + block : NULL);
    }
}

/* ---- the check -------------------------------------------------------------------------- */

static Judge judge_new(const MemFile *file)
{
    Judge j = {.bytes = file->data->data, .len = file->data->len, .wrong = g_string_new(NULL)};
    memcpy(&j.h, j.bytes, sizeof(j.h));
    j.bits = be32_get(j.h.cluster_bits);
    j.order = be32_get(j.h.version) == 2 ? 4 : be32_get(j.h.refcount_order);
    j.cluster = UINT64_C(1) << j.bits;
    j.n = (j.len + j.cluster - 1) >> j.bits;
    j.refs = g_new0(uint32_t, j.n);
    j.roles = g_new0(uint8_t, j.n);
    count(&j, ROLE_METADATA, 0, 1);
    count_refcounts(&j);
    visit_tree(&j, be64_get(j.h.l1_table_offset), be32_get(j.h.l1_size), false);
    count_snapshots(&j);
    count_extensions(&j);
    return j;
}

static void judge_clear(Judge *j)
{
    g_free(j->refs);
    g_free(j->roles);
    g_string_free(j->wrong, TRUE);
}

char *judge_check(const MemFile *file)
{
    Judge j = judge_new(file);
    visit_tree(&j, be64_get(j.h.l1_table_offset), be32_get(j.h.l1_size), true);
    compare_refcounts(&j);
    char *text = j.wrong->len > 0 ? g_strdup(j.wrong->str) : NULL;
    judge_clear(&j);
    return text;
}

uint64_t judge_leaks(const MemFile *file)
{
    Judge j = judge_new(file);
    compare_refcounts(&j);
    judge_clear(&j);
    return j.leaks;
}

uint32_t *judge_references(const MemFile *file, uint64_t *ret_n)
{
    Judge j = judge_new(file);
    uint32_t *refs = g_steal_pointer(&j.refs);
    *ret_n = j.n;
    judge_clear(&j);
    return refs;
}

/* ---- what the disks hold ---------------------------------------------------------------- */

/* Two lanes of eight bytes at a time: quick, and nobody here makes collisions on purpose. */
typedef struct Hash {
    uint64_t a, b;
} Hash;

static void hash_word(Hash *h, uint64_t w)
{
    h->a = (h->a ^ w) * UINT64_C(0x9e3779b97f4a7c15);
    h->a ^= h->a >> 29;
    h->b = (h->b + w) * UINT64_C(0xbf58476d1ce4e5b9);
    h->b ^= h->b >> 31;
}

static void hash_bytes(Hash *h, const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    uint64_t w;
    for (; at + sizeof(w) <= len; at += sizeof(w)) {
        memcpy(&w, bytes + at, sizeof(w));
        hash_word(h, w);
    }
    for (; at < len; at++)
        hash_word(h, bytes[at]);
}

static void append_line(GString *out, const char *name, uint64_t size, const Hash *h)
{
    g_string_append_printf(out, "%s %lu %016lx%016lx\n", name, (unsigned long)size,
                           (unsigned long)h->a, (unsigned long)h->b);
}

void judge_digest_line(GString *digest, const char *name, const uint8_t *disk, uint64_t size)
{
    Hash h = {1, 2};
    hash_bytes(&h, disk, size);
    append_line(digest, name, size, &h);
}

enum {
    READ_BYTES = 64 << 10, /* freed at once: a sanitizer makes that costly for large ones */
};

static bool digest_view(QcView *view, const char *name, uint8_t *buf, GString *out)
{
    Hash h = {1, 2};
    uint64_t size = qc_view_size(view);
    for (uint64_t at = 0; at < size;) {
        ssize_t n = qc_view_read(view, buf, READ_BYTES, at);
        if (n <= 0)
            return false;
        hash_bytes(&h, buf, (size_t)n);
        at += (uint64_t)n;
    }
    append_line(out, name, size, &h);
    return true;
}

/* The VM state: what lies past the disk. No view shows it, so the tables are followed here. */
static void digest_vm_state(const MemFile *file, const QcSnapshot *s, GString *out)
{
    Judge j = {.bytes = file->data->data, .len = file->data->len, .wrong = g_string_new(NULL)};
    memcpy(&j.h, j.bytes, sizeof(j.h));
    unsigned bits = be32_get(j.h.cluster_bits), step = extended(&j) ? 16 : 8;
    uint64_t cluster = UINT64_C(1) << bits, span = cluster / step * cluster;
    Hash h = {1, 2};
    for (uint64_t i = (s->disk_size + span - 1) / span; i < s->l1_entries; i++) {
        uint64_t l2 = word(&j, s->l1_offset + i * 8) & QC_OFFSET_MASK;
        for (uint64_t at = l2; l2 && at < l2 + cluster; at += step) {
            uint64_t data = word(&j, at) & QC_OFFSET_MASK;
            if (data && data + cluster <= j.len)
                hash_bytes(&h, j.bytes + data, cluster);
        }
    }
    append_line(out, " its VM state", s->vm_state_size, &h);
    g_string_free(j.wrong, TRUE);
}

static bool digest_snapshot(MemFile *file, QcChain *chain, unsigned i, uint8_t *buf, GString *out)
{
    const QcSnapshot *s = &qc_image_info(qc_chain_image(chain, 0))->snapshots[i];
    g_autoptr(QcView) view = NULL;
    qc_chain_snapshot_view(chain, i, &view);
    if (!digest_view(view, s->name, buf, out))
        return false;
    if (s->vm_state_size > 0)
        digest_vm_state(file, s, out);
    return true;
}

/* Whether two snapshots can only read the same. */
static bool same_tree(const QcSnapshot *a, const QcSnapshot *b)
{
    return a->l1_offset == b->l1_offset && a->l1_entries == b->l1_entries &&
           a->disk_size == b->disk_size && a->vm_state_size == b->vm_state_size;
}

char *judge_digest(MemFile *file)
{
    g_autoptr(QcCache) cache = qc_cache_new(4 << 20);
    g_autoptr(QcImage) image = NULL;
    g_autoptr(QcChain) chain = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autofree uint8_t *buf = g_malloc(READ_BYTES);
    if (qc_image_open(mem_file(file), "mem", QC_FORMAT_QCOW2, cache, &image, NULL) < 0 ||
        qc_chain_open(file->gate, image, cache, &chain) < 0)
        return NULL;
    const QcInfo *info = qc_image_info(image);
    bool ok = digest_view(qc_chain_view(chain, 0), "disk", buf, out);
    for (unsigned i = 0; i < info->n_snapshots && ok; i++) {
        if (i > 0 && same_tree(&info->snapshots[i - 1], &info->snapshots[i]))
            g_string_append_printf(out, "%s is the same\n", info->snapshots[i].name);
        else
            ok = digest_snapshot(file, chain, i, buf, out);
    }
    return ok ? g_string_free(g_steal_pointer(&out), FALSE) : NULL;
}

char *judge_overwriting(const MemFile *original)
{
    MemFile *file = mem_file_copy(original);
    g_autofree char *digest = judge_digest(file), *wrong = judge_check(file);
    Step write = {.kind = STEP_WRITE, .len = script_size(file), .seed = 77};
    bool unknown;
    char *finding = NULL;
    int err = script_run(file, &write, &unknown);
    if (err == -EUCLEAN && script_run(file, &(Step){.kind = STEP_REPAIR}, &unknown) == 0)
        err = script_run(file, &write, &unknown);
    g_autofree char *after = judge_digest(file), *wrong_after = judge_check(file);
    if (err < 0)
        finding = g_strdup_printf("overwriting: %s", g_strerror(-err));
    else if (!digest || !after || !g_str_equal(strchr(digest, '\n'), strchr(after, '\n')))
        finding = g_strdup_printf("overwriting changed:\n%s into:\n%s", digest, after);
    else if (!wrong && wrong_after)
        finding = g_strdup_printf("after overwriting: %s", wrong_after);
    qc_file_unref(mem_file(file));
    return finding;
}
