/* What a file is taken for by its first bytes, and by its name. */
#include "memfile.h"
#include "qcow.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

/* A text with zeros before it and behind it, as the beginning of a file. */
typedef struct Beginning {
    const char *bytes;
    size_t len, at, size; /* size: of the file */
} Beginning;

static const Beginning qcow2 = {"QFI\xfb\0\0\0\3", 8, 0, 512}, nothing = {"", 0, 0, 512};

static MemFile *file_of(const Beginning *b)
{
    g_autofree char *bytes = g_malloc0(b->size + 1);

    memcpy(bytes + b->at, b->bytes, MIN(b->len, b->size - b->at));
    return mem_file_new(bytes, b->size);
}

static void expect_format(MemFile *file, const char *name, QcFormat format, const char *called)
{
    QcFormat found;
    const char *found_name = "unset";

    cr_assert_eq(0, qc_probe(mem_file(file), name, &found, &found_name));
    cr_expect_eq(found, format, "%s: %d", name, found);
    cr_expect_str_eq(found_name ? found_name : "", called ? called : "", "%s", name);
    cr_expect_eq(0, qc_probe(mem_file(file), name, &found, NULL));
    cr_expect_eq(found, format);
}

static void expect(const Beginning *b, const char *name, QcFormat format, const char *called)
{
    MemFile *file = file_of(b);

    expect_format(file, name, format, called);
    qc_file_unref(mem_file(file));
}

Test(probe, qcow2_is_known_by_its_magic_whatever_its_name)
{
    static const Beginning first_version = {"QFI\xfb\0\0\0\1", 8, 0, 512},
                           later = {"QFI\xfb\0\0\0\x63", 8, 0, 512},
                           almost = {"QFI\xfa\0\0\0\3", 8, 0, 512};

    expect(&qcow2, "disk", QC_FORMAT_QCOW2, "qcow2");
    expect(&qcow2, "disk.raw", QC_FORMAT_QCOW2, "qcow2");
    expect(&later, "disk", QC_FORMAT_QCOW2, "qcow2"); /* it says itself what is wrong with it */
    expect(&first_version, "disk", QC_FORMAT_OTHER, "qcow");
    expect(&first_version, "disk.img", QC_FORMAT_OTHER, "qcow");
    expect(&almost, "disk", QC_FORMAT_NONE, NULL);
}

/* A file may end within what is looked for. */
Test(probe, files_that_are_short)
{
    Beginning b = qcow2;

    for (b.size = 0; b.size <= 8; b.size++) {
        bool is_qcow = b.size >= 4;
        expect(&b, "disk", is_qcow ? QC_FORMAT_QCOW2 : QC_FORMAT_NONE, is_qcow ? "qcow2" : NULL);
    }
    b.bytes = "QFI\xfb\0\0\0\1";
    for (b.size = 4; b.size <= 8; b.size++)
        expect(&b, "disk", b.size < 8 ? QC_FORMAT_QCOW2 : QC_FORMAT_OTHER,
               b.size < 8 ? "qcow2" : "qcow");
}

Test(probe, formats_that_are_not_read_are_named)
{
    static const struct {
        Beginning b;
        const char *called;
    } cases[] = {
        {{"KDMV", 4, 0, 4}, "vmdk"},
        {{"COWD", 4, 0, 4}, "vmdk"},
        {{"# Disk DescriptorFile", 21, 0, 21}, "vmdk"},
        {{"conectix", 8, 0, 8}, "vpc"},
        {{"vhdxfile", 8, 0, 8}, "vhdx"},
        {{"\x7f\x10\xda\xbe", 4, 64, 68}, "vdi"},
        {{"QED", 3, 0, 3}, "qed"},
        {{"WithoutFreeSpace", 16, 0, 16}, "parallels"},
        {{"WithouFreSpacExt", 16, 0, 16}, "parallels"},
        {{"LUKS\xba\xbe", 6, 0, 6}, "luks"},
        {{"Bochs Virtual HD Image", 22, 0, 22}, "bochs"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Beginning b = cases[i].b;

        expect(&b, "disk", QC_FORMAT_OTHER, cases[i].called);
        expect(&b, "disk.img", QC_FORMAT_RAW, "raw");
        b.size = 4096;
        expect(&b, "disk", QC_FORMAT_OTHER, cases[i].called);
        b.at++;
        expect(&b, "disk", QC_FORMAT_NONE, NULL);
        b = cases[i].b;
        b.size--;
        expect(&b, "disk", QC_FORMAT_NONE, NULL);
    }
}

Test(probe, names_that_say_raw)
{
    static const struct {
        const char *name;
        bool raw;
    } cases[] = {
        {"a.raw", true}, {"a.img", true}, {"a.iso", true},    {"a.RAW", true},
        {"a.Iso", true}, {".img", true},  {"a.raw2", false},  {"araw", false},
        {"raw", false},  {"", false},     {"a.img.x", false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        expect(&nothing, cases[i].name, cases[i].raw ? QC_FORMAT_RAW : QC_FORMAT_NONE,
               cases[i].raw ? "raw" : NULL);
}

/* As there is nothing else that its name could say. */
Test(probe, a_block_device_is_raw_unless_it_is_qcow2)
{
    static const Beginning luks = {"LUKS\xba\xbe", 6, 0, 512};
    const Beginning *beginnings[] = {&nothing, &luks, &qcow2};

    for (size_t i = 0; i < G_N_ELEMENTS(beginnings); i++) {
        MemFile *file = file_of(beginnings[i]);

        file->device = true;
        expect_format(file, "sda", i < 2 ? QC_FORMAT_RAW : QC_FORMAT_QCOW2,
                      i < 2 ? "raw" : "qcow2");
        qc_file_unref(mem_file(file));
    }
}

Test(probe, a_file_that_cannot_be_read_is_of_no_format)
{
    MemFile *file = file_of(&qcow2);
    QcFormat format;

    for (int64_t n = 0; n < 2; n++) {
        file->calls = 0;
        file->fail_at = n;
        file->fail_error = -EACCES;
        cr_expect_eq(-EACCES, qc_probe(mem_file(file), "disk", &format, NULL), "call %d", (int)n);
    }
    qc_file_unref(mem_file(file));
}
