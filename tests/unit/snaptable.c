/* Entries of the snapshot table. */
#include "snaptable.h"
#include <criterion/criterion.h>
#include <errno.h>

static const QcLayout v3 = {.version = 3, .cluster_bits = 16, .refcount_order = 4};

static const QcSnapshot sample = {
    .id = "12",
    .name = "before upgrade",
    .name_len = 14,
    .disk_size = 5 << 20,
    .date_sec = 1795000000,
    .date_nsec = 42,
    .vm_clock_nsec = 99,
    .vm_state_size = UINT64_C(5) << 32,
    .icount = 123456789,
    .l1_offset = 0x30000,
    .l1_entries = 4,
};

static size_t encode(uint8_t *buf)
{
    qc_snaptable_encode(&sample, 2, buf);
    return qc_snaptable_encoded_size(2, sample.name_len);
}

Test(snaptable, what_is_encoded_is_decoded)
{
    uint8_t buf[256];
    size_t size = encode(buf), got_size, id_len;
    QcSnapshot s;
    cr_assert_eq(size % 8, 0);
    cr_assert_eq(qc_snaptable_decode(&v3, 1, buf, size, &s, &id_len, &got_size), 0);
    cr_expect_eq(got_size, size);
    cr_expect_eq(id_len, 2);
    cr_expect_arr_eq(s.id, "12", 2);
    cr_expect_eq(s.name_len, 14);
    cr_expect_arr_eq(s.name, "before upgrade", 14);
    cr_expect_eq(s.disk_size, sample.disk_size);
    cr_expect(s.size_stated);
    cr_expect_eq(s.vm_state_size, sample.vm_state_size);
    cr_expect_eq(s.date_sec, sample.date_sec);
    cr_expect_eq(s.date_nsec, sample.date_nsec);
    cr_expect_eq(s.l1_offset, sample.l1_offset);
    cr_expect_eq(s.l1_entries, sample.l1_entries);
    cr_expect_eq(s.icount, sample.icount);
}

Test(snaptable, every_truncation_asks_for_more)
{
    uint8_t buf[256];
    size_t size = encode(buf), want, id_len;
    QcSnapshot s;
    for (size_t len = 0; len < 40 + 24 + 2 + 14; len++) {
        cr_assert_eq(qc_snaptable_decode(&v3, 1, buf, len, &s, &id_len, &want), -ENODATA);
        cr_assert(want > len && want <= size);
    }
}

Test(snaptable, an_entry_without_extra_data_takes_the_disk_size_of_the_header)
{
    uint8_t buf[64] = {0};
    QcSnapshot s;
    size_t id_len, size;
    cr_assert_eq(qc_snaptable_decode(&v3, 777, buf, sizeof(buf), &s, &id_len, &size), 0);
    cr_expect_eq(s.disk_size, 777);
    cr_expect_not(s.size_stated);
    cr_expect_eq(size, 40);
    cr_expect_eq(id_len, 0);
    cr_expect_eq(s.name_len, 0);
}

/* Each word of extra data may be there or not; what comes behind them is nobody's business. */
Test(snaptable, extra_data_is_read_as_far_as_it_goes)
{
    for (uint32_t extra = 0; extra <= 1025; extra += extra == 32 ? 992 : extra == 1024 ? 1 : 8) {
        uint8_t encoded[256], buf[2048] = {0};
        QcSnapshot s;
        QcDiskSnapshot d;
        size_t id_len, size;
        encode(encoded);
        memcpy(&d, encoded, sizeof(d));
        d.extra_data_size = be32_make(extra);
        d.vm_state_size = be32_make(7);
        memcpy(buf, &d, sizeof(d));
        memcpy(buf + sizeof(d), encoded + sizeof(d), MIN(extra, 24));
        memcpy(buf + sizeof(d) + extra, encoded + sizeof(d) + 24, 2 + 14);
        int err = qc_snaptable_decode(&v3, 777, buf, sizeof(buf), &s, &id_len, &size);
        cr_assert_eq(err, extra > 1024 ? -EUCLEAN : 0, "%u", extra);
        if (err < 0)
            continue;
        cr_expect_eq(s.vm_state_size, extra >= 8 ? sample.vm_state_size : 7, "%u", extra);
        cr_expect_eq(s.disk_size, extra >= 16 ? sample.disk_size : 777, "%u", extra);
        cr_expect_eq(s.size_stated, extra >= 16, "%u", extra);
        cr_expect_eq(s.icount, extra >= 24 ? sample.icount : UINT64_MAX, "%u", extra);
        cr_expect_arr_eq(s.name, sample.name, 14);
    }
}

/* QEMU's own entries have 0 there. */
Test(snaptable, a_vm_state_that_32_bits_cannot_hold_is_in_the_extra_data_alone)
{
    QcSnapshot s = sample;
    uint8_t buf[256];
    QcDiskSnapshot d;
    s.vm_state_size |= 5;
    qc_snaptable_encode(&s, 2, buf);
    memcpy(&d, buf, sizeof(d));
    cr_expect_eq(be32_get(d.vm_state_size), 0);
}

Test(snaptable, what_is_not_valid_is_refused)
{
    QcSnapshot s;
    size_t id_len, size;
    static const struct {
        size_t at;
        uint8_t value;
    } breaks[] = {
        {36 + 1, 0xff}, /* extra data of 16 MiB */
        {6, 0x02},      /* L1 table at no cluster's offset */
        {0, 0x80},      /* L1 table beyond 2^56 */
        {8, 0x10},      /* L1 table of 2 GiB */
        {48, 0xff},     /* a disk of more than 2^62 bytes */
    };
    for (size_t i = 0; i < G_N_ELEMENTS(breaks); i++) {
        uint8_t buf[256];
        size_t len = encode(buf);
        buf[breaks[i].at] = breaks[i].value;
        cr_expect_eq(qc_snaptable_decode(&v3, 1, buf, len, &s, &id_len, &size), -EUCLEAN,
                     "case %zu", i);
    }
}

Test(snaptable, renaming_keeps_everything_else)
{
    uint8_t buf[256], renamed[512];
    QcSnapshot s;
    size_t id_len, size, used;
    encode(buf);
    memset(renamed, 0xff, sizeof(renamed));
    used = qc_snaptable_rename(buf, "x", 1, renamed);
    for (size_t i = 40 + 24 + 2 + 1; i < used; i++)
        cr_expect_eq(renamed[i], 0, "padding");
    cr_assert_eq(qc_snaptable_decode(&v3, 1, renamed, used, &s, &id_len, &size), 0);
    cr_expect_eq(size, used);
    cr_expect_eq(s.name_len, 1);
    cr_expect_arr_eq(s.name, "x", 1);
    cr_expect_arr_eq(s.id, "12", 2);
    cr_expect_eq(s.disk_size, sample.disk_size);
    cr_expect_eq(s.vm_state_size, sample.vm_state_size);
}
