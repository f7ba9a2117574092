/*
 * seeds.c - write the seed corpus: seeds DIRECTORY [IMAGE...]
 *
 * Small images of several kinds, made by the engine, and the given ones (tests/fuzz/corpus has
 * some made by qemu-img); and from them, inputs for all targets: DIRECTORY/TARGET/NAME.
 */
#include "format.h"
#include "luks.h"
#include "script.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

static const char *out;

static void save(const char *target, const char *name, const void *bytes, size_t len)
{
    g_autofree char *dir = g_build_filename(out, target, NULL);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_mkdir_with_parents(dir, 0777);
    if (!g_file_set_contents(path, bytes, (gssize)len, NULL)) {
        fprintf(stderr, "%s: cannot be written\n", path);
        exit(1);
    }
}

/* prefix and bytes, one behind the other. */
static void save_with(const char *target, const char *name, const void *prefix, size_t prefix_len,
                      const void *bytes, size_t len)
{
    g_autofree uint8_t *both = g_malloc(prefix_len + len);
    memcpy(both, prefix, prefix_len);
    memcpy(both + prefix_len, bytes, len);
    save(target, name, both, prefix_len + len);
}

/* ---- from images ------------------------------------------------------------------------- */

/* Every command once, on the first or the second snapshot, and another one after it. */
static void save_commands(const char *name, const uint8_t *bytes, size_t len)
{
    for (uint8_t verb = 0; verb < 6; verb++) {
        uint8_t prefix[16] = {verb, verb % 2, 0, (uint8_t)(40 + verb), 100, 1, 0};
        g_autofree char *file = g_strdup_printf("%s-%d", name, verb);
        prefix[7] = (uint8_t)(5 - verb);
        prefix[8] = 1;
        prefix[10] = 77;
        save_with("command", file, prefix, sizeof(prefix), bytes, len);
    }
}

/* Every deed once, while what is read soon changes. */
static void save_unsteady(const char *name, const uint8_t *bytes, size_t len)
{
    for (uint8_t deed = 0; deed < 7; deed++) {
        uint8_t prefix[16] = {deed, deed % 2, (uint8_t)(10 + 3 * deed), 4, 100, 0, 0, deed};
        g_autofree char *file = g_strdup_printf("%s-%d", name, deed);
        save_with("unsteady", file, prefix, sizeof(prefix), bytes, len);
    }
}

static void save_tables(const char *name, const uint8_t *bytes, size_t len)
{
    static const uint8_t moves[] = {2, 0, 0, 0, 1, 0, 1, 1, 0, 6, 0, 0, 3, 9, 0};
    QcDiskHeader h;
    memcpy(&h, bytes, sizeof(h));
    uint8_t bits = (uint8_t)(be32_get(h.cluster_bits) - 9);
    uint64_t snapshots = be64_get(h.snapshots_offset), cluster = UINT64_C(512) << bits;
    uint8_t kind[2] = {be32_get(h.version) == 3, bits};
    if (snapshots > 0 && snapshots < len)
        save_with("snaptable", name, kind, sizeof(kind), bytes + snapshots,
                  MIN(len - snapshots, 512));
    uint8_t order = be32_get(h.version) == 3 ? (uint8_t)be32_get(h.refcount_order) : 4;
    uint8_t game[5 + sizeof(moves)] = {bits, order, 0, 0, sizeof(moves) / 3};
    memcpy(game + 5, moves, sizeof(moves));
    if (bits < 4 && len > cluster)
        save_with("refs", name, game, sizeof(game), bytes + cluster,
                  MIN(len - cluster, bits == 0 ? 60000 : 8 * cluster));
}

static void save_image(const char *name, const uint8_t *bytes, size_t len)
{
    save("image", name, bytes, len);
    save("header", name, bytes, MIN(len, 512));
    save_commands(name, bytes, len);
    save_unsteady(name, bytes, len);
    save_tables(name, bytes, len);
}

/* What happens to a seed; with large clusters less, or it would be too long to be of use. */
static MemFile *make_image(const Kind *kind)
{
    return script_used_image(kind, 100 * 1024, kind->cluster_bits > 12 ? 3 : SCRIPT_HISTORY);
}

static void put_word(MemFile *file, uint64_t at, uint64_t value)
{
    be64 v = be64_make(value);
    memcpy(file->data->data + at, &v, sizeof(v));
}

/* A small disk in a large L1 table: what lies past its end is VM state. */
static void save_vm_state(const Kind *kind)
{
    g_autofree char *name = g_strdup_printf("%s-vmstate", kind->name);
    MemFile *file = make_image(kind);
    put_word(file, offsetof(QcDiskHeader, size), 40 * 1024);
    save_image(name, file->data->data, file->data->len);
    qc_file_unref(mem_file(file));
}

/* No cluster is free, and none can be counted any more: the next command needs a larger table. */
static void save_full_table(const Kind *kind)
{
    g_autofree char *name = g_strdup_printf("%s-full", kind->name);
    MemFile *file = make_image(kind);
    QcDiskHeader h;
    memcpy(&h, file->data->data, sizeof(h));
    uint64_t table = be64_get(h.refcount_table_offset), end = file->data->len;
    guint blocks = 512 / sizeof(be64);
    g_byte_array_set_size(file->data, (guint)end + (blocks - 1) * 512);
    memset(file->data->data + end, 0x01, (blocks - 1) * 512);
    for (guint i = 1; i < blocks; i++)
        put_word(file, table + i * sizeof(be64), end + (i - 1) * 512);
    save_image(name, file->data->data, file->data->len);
    qc_file_unref(mem_file(file));
}

static void save_own_images(void)
{
    save_vm_state(&script_kinds[0]);
    save_vm_state(&script_kinds[3]);
    save_full_table(&script_kinds[3]);
    for (size_t i = 0; i < script_n_kinds; i++) {
        if (script_kinds[i].cluster_bits > 14)
            continue;
        MemFile *empty = script_image(&script_kinds[i], 100 * 1024);
        MemFile *full = make_image(&script_kinds[i]);
        g_autofree char *name = g_strdup_printf("%s-empty", script_kinds[i].name);
        save("image", name, empty->data->data, empty->data->len);
        save("header", name, empty->data->data, 512);
        save_image(script_kinds[i].name, full->data->data, full->data->len);
        qc_file_unref(mem_file(empty));
        qc_file_unref(mem_file(full));
    }
}

static void save_given_image(const char *path)
{
    g_autofree char *bytes = NULL, *name = g_path_get_basename(path);
    gsize len;
    if (!g_file_get_contents(path, &bytes, &len, NULL) || len < sizeof(QcDiskHeader)) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    save_image(name, (const uint8_t *)bytes, len);
}

/* ---- the small targets ------------------------------------------------------------------- */

static void save_entries(void)
{
    static const uint64_t words[] = {
        0,
        1,
        UINT64_C(0x8000000000050000),
        UINT64_C(0x4000000000012345),
        UINT64_C(0x0000000000050001),
        UINT64_C(0x00ffffffffffffff),
    };
    for (uint8_t i = 0; i < G_N_ELEMENTS(words) * 3; i++) {
        uint8_t input[18] = {(uint8_t)(1 + i % 3), (uint8_t)(i % 8)};
        g_autofree char *name = g_strdup_printf("%d", i);
        memcpy(input + 2, &words[i / 3], 8);
        save("entry", name, input, sizeof(input));
    }
}

/* A cluster of text, compressed in both ways. */
static void save_compressed(void)
{
    char cluster[4096], packed[8192];
    for (size_t i = 0; i < sizeof(cluster); i++)
        cluster[i] = (char)("a quick brown fox"[i % 17] + (i * i >> 9) % 3);
    z_stream z = {.next_in = (Bytef *)cluster,
                  .avail_in = sizeof(cluster),
                  .next_out = (Bytef *)packed + 2,
                  .avail_out = sizeof(packed) - 2};
    packed[0] = 0;
    packed[1] = 3;
    if (deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK &&
        deflate(&z, Z_FINISH) == Z_STREAM_END)
        save("inflate", "deflate", packed, sizeof(packed) - z.avail_out);
    deflateEnd(&z);
    packed[0] = 1;
    size_t n = ZSTD_compress(packed + 2, sizeof(packed) - 2, cluster, sizeof(cluster), 3);
    if (!ZSTD_isError(n))
        save("inflate", "zstd", packed, n + 2);
}

static void save_luks(void)
{
    static const char *const modes[] = {"xts-plain64", "cbc-essiv:sha256", "ecb"};
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        QcDiskLuksHeader h = {.magic = {'L', 'U', 'K', 'S', 0xba, 0xbe},
                              .version = be16_make(1),
                              .cipher_name = "aes",
                              .hash_spec = "sha256",
                              .payload_offset = be32_make(4040),
                              .key_bytes = be32_make(64),
                              .slots[0].active = be32_make(QC_LUKS_SLOT_ACTIVE)};
        g_strlcpy(h.cipher_mode, modes[i], sizeof(h.cipher_mode));
        save("luks", modes[i], &h, sizeof(h));
    }
}

static void save_text(void)
{
    static const char *const lines[] = {
        "\ntake monday\n",
        "\nrevert 'a b'\ndelete \"x\\\"y\"\n# no\n\nrename one two",
        "\001take team/web.qcow2 'before upgrade'\n",
        "\nrename %2F \\~1\nfrobnicate",
        "\ntake 'open",
    };
    /* length, name, length, id, and so on */
    static const char names[] = "\003one\0011\003one\0012\002..\0013\003a/b\0014\000\0015"
                                "\005one~1\0016\005%2F\n~\0017\377\144n\0018\377\144n\0019";
    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        save("control", name, lines[i], strlen(lines[i]));
    }
    save("names", "many", names, sizeof(names) - 1);
}

static void save_options(void)
{
    static const char fstab[] = "STORE\0MNT\0-o\0rw,nodev,x-systemd.automount,_netdev,backing=any,"
                                "cache=8,fsname=a\\,b,subtype=x,max_read=4096,allow_other";
    static const char typed[] = "-f\0-oro,clone_fd\0-o\0sandbox=off,rw\0--\0-STORE\0MNT";
    static const char wrong[] = "-o\0remount\0-d\0S\0M\0--version\0-omax_threads=0\0-V";
    save("options", "fstab", fstab, sizeof(fstab));
    save("options", "typed", typed, sizeof(typed));
    save("options", "wrong", wrong, sizeof(wrong));
}

/*
 * What tests/fuzz/requests.c takes: how to mount, the first request, and a look-up of each file
 * (a.qcow2 is node 1, snapshots 2, one 3, two 4, disk 5, control 6, the store's 8, 0-a.qcow2 10);
 * then some visits, of a step between two commas.
 */
static const char look_ups[] = "0 0 2 255 255 255 255, 0 0 0 0, 0 1 7 0, 0 2 9 0, 0 2 10 0, "
                               "0 1 6 0, 0 1 4 0, 0 0 1 0, 0 0 4 0, 0 1 8 0, 0 9 13 0, 0 0 3 0, ";
/* List, read, search, forget, close; forget one of two look-ups. */
static const char browse[] =
    "8 0 0, 9 0 0 0 0 0 0 16 0, 9 0 0 0 0 0 0 100 0, 4 3 0 0 0 0, 6 1 0 0 0 0 0 64 1 0, "
    "4 4 0 0 0 0, 6 2 0 16 1 0 0 32 1 1, 11 2 0 0 0 4 0, 16 1 0, 21 0 0 1 3 0, 12 3 1, 0 0 0 15, "
    "24 2 4 1 9 1, 4 3 0 0 0 15, 14 0 1, 14 1 0, 0 1 6 0, 12 5 1";
/* Take, read back, delete what is open, interrupt, and ask from processes that are to end. */
static const char commands[] =
    "4 6 2 0 0 0, 10 0 0 0 0 0 0, 6 0 0 0 0 0 0 2 1 0, 4 3 0 0 0 0, 6 1 0 0 0 0 0 64 1 1, "
    "10 0 1 0 0 0 1, 19 0, 10 0 3 0 0 0 1, 19 1, 0 2 9 1, 23, 22 4, 10 0 4 0 0 0 1, 19 0, "
    "10 0 0 0 0 0 1, 19 0, 23, 22 6, 10 0 0 0 0 0 1, 23, 22 0, 4 8 1 0 0 0, 10 2 6 0 0 0 1, 22 1, "
    "20 8 0 0 0 0 0 0 0 0 0 0";
/* The image is gone, is another, is back. */
static const char changes[] =
    "4 3 0 0 0 0, 6 0 0 0 0 0 0 32 1 1, 4 10 0 0 0 1, 18 128, 6 0 0 0 0 0 0 64 1 1, 16 0 1, 18 3, "
    "6 0 0 0 0 0 0 64 1 0, 0 2 9 1, 4 3 0 0 0 15, 18 2, 11 0 0 0 0 3 1, 17 6 8 0 0 0 0 0 0 0 0 0 0";

static void add_numbers(GByteArray *input, const char *text)
{
    g_auto(GStrv) numbers = g_strsplit_set(text, ", ", -1);
    for (char **at = numbers; *at; at++) {
        uint8_t number = (uint8_t)strtoul(*at, NULL, 10);
        if (**at)
            g_byte_array_append(input, &number, 1);
    }
}

/* Each visit one request at a time, several at a time, and to a mount without commands. */
static void save_requests(void)
{
    static const uint8_t hows[] = {0, 16, 7};
    const char *const visits[] = {browse, commands, changes};
    for (unsigned i = 0; i < G_N_ELEMENTS(visits) * G_N_ELEMENTS(hows); i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        g_autoptr(GByteArray) input = g_byte_array_new();
        g_byte_array_append(input, &hows[i % G_N_ELEMENTS(hows)], 1);
        add_numbers(input, look_ups);
        add_numbers(input, visits[i / G_N_ELEMENTS(hows)]);
        save("requests", name, input->data, input->len);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "seeds DIRECTORY [IMAGE...]\n");
        return 2;
    }
    out = argv[1];
    save_own_images();
    for (int i = 2; i < argc; i++)
        save_given_image(argv[i]);
    save_entries();
    save_compressed();
    save_luks();
    save_text();
    save_options();
    save_requests();
    return 0;
}
