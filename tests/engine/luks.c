/* What an encrypted image tells of its LUKS header, wherever that is said to lie. */
#include "luks.h"
#include "format.h"
#include "opened.h"
#include "script.h"
#include <criterion/criterion.h>
#include <errno.h>

enum {
    LUKS_AT = 1 << 20, /* behind all that the image has */
};

/* An image with this method of encryption, and a header extension that says where LUKS's lies. */
static MemFile *sample(QcEncryption method, uint64_t offset, uint64_t length)
{
    MemFile *file = script_image(&(Kind){"v3-64k", 3, 16, 16, false}, 1 << 20);
    QcDiskLuksHeader luks = {.magic = {'L', 'U', 'K', 'S', 0xba, 0xbe},
                             .version = be16_make(1),
                             .cipher_mode = "xts-plain64",
                             .mk_digest_iterations = be32_make(1234)};
    g_byte_array_set_size(file->data, LUKS_AT);
    g_byte_array_append(file->data, (const guint8 *)&luks, sizeof(luks));
    uint8_t *header = file->data->data;
    be32 crypt_method = be32_make(method);
    memcpy(header + offsetof(QcDiskHeader, crypt_method), &crypt_method, sizeof(crypt_method));
    QcDiskExtension e = {be32_make(QC_EXT_LUKS), be32_make(sizeof(QcDiskLuks))};
    QcDiskLuks at = {be64_make(offset), be64_make(length)};
    memcpy(header + sizeof(QcDiskHeader), &e, sizeof(e));
    memcpy(header + sizeof(QcDiskHeader) + sizeof(e), &at, sizeof(at));
    return file;
}

static int luks_of(MemFile *file, QcLuks *ret)
{
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    int err = qc_image_luks(o.image, ret);
    qc_file_unref(mem_file(file));
    return err;
}

Test(luks, a_header_is_read_from_where_the_image_says)
{
    static const struct {
        QcEncryption method;
        uint64_t offset, length;
        int err;
    } cases[] = {
        {QC_ENCRYPTION_LUKS, LUKS_AT, sizeof(QcDiskLuksHeader), 0},
        {QC_ENCRYPTION_LUKS, LUKS_AT, UINT32_MAX, 0}, /* the key material is not looked at */
        {QC_ENCRYPTION_LUKS, LUKS_AT, sizeof(QcDiskLuksHeader) - 1, -EINVAL},
        {QC_ENCRYPTION_LUKS, LUKS_AT, 0, -EINVAL},
        {QC_ENCRYPTION_LUKS, LUKS_AT - 512, 4096, -EINVAL},
        {QC_ENCRYPTION_LUKS, LUKS_AT + 512, 4096, -ENODATA},
        {QC_ENCRYPTION_LUKS, UINT64_MAX - 511, 4096, -ENODATA},
        {QC_ENCRYPTION_AES, LUKS_AT, sizeof(QcDiskLuksHeader), -ENOENT},
        {QC_ENCRYPTION_NONE, LUKS_AT, sizeof(QcDiskLuksHeader), -ENOENT},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        QcLuks luks = {.master_key_iters = 77};
        MemFile *file = sample(cases[i].method, cases[i].offset, cases[i].length);
        int err = luks_of(file, &luks);
        cr_expect_eq(err, cases[i].err, "case %zu: %d", i, err);
        cr_expect_eq(luks.master_key_iters, cases[i].err ? 77 : 1234, "case %zu", i);
    }
}

/* All that the extension says is the image's: here no count protects it. */
Test(luks, a_header_is_counted_whole)
{
    enum { CLUSTERS = 3 };
    MemFile *file = sample(QC_ENCRYPTION_LUKS, LUKS_AT, CLUSTERS << 16);
    QcCheck result;
    g_byte_array_set_size(file->data, LUKS_AT + (CLUSTERS << 16));
    g_auto(Opened) o = opened_new(mem_file(file), NULL);
    cr_assert_eq(0, qc_image_check(o.image, NULL, &result, NULL));
    cr_expect_eq(result.errors, CLUSTERS, "%s", result.first);
    qc_file_unref(mem_file(file));
}
