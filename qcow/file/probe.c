/*
 * probe.c - telling formats apart by their first bytes.
 *
 * Only qcow2 and raw are read; the others are known so that they can be named in an error.
 * A raw disk may hold anything, also another format's magic that its guest wrote: where the
 * name says raw, only qcow's own magic overrides it.
 */
#include "format.h"
#include "qcow.h"
#include <string.h>
#include <sys/stat.h>

enum {
    PROBE_BYTES = 512,
};

typedef struct Magic {
    const char *format;
    unsigned at;
    const char *bytes;
} Magic;

static const Magic magics[] = {
    {"vmdk", 0, "KDMV"},
    {"vmdk", 0, "COWD"},
    {"vmdk", 0, "# Disk DescriptorFile"},
    {"vpc", 0, "conectix"},
    {"vhdx", 0, "vhdxfile"},
    {"vdi", 64, "\x7f\x10\xda\xbe"},
    {"qed", 0, "QED"},
    {"parallels", 0, "WithoutFreeSpace"},
    {"parallels", 0, "WithouFreSpacExt"},
    {"luks", 0, "LUKS\xba\xbe"},
    {"bochs", 0, "Bochs Virtual HD Image"},
};

/* Where the file ends, buf has zeros, which no magic has. */
static const char *other_format(const uint8_t *buf)
{
    for (size_t i = 0; i < G_N_ELEMENTS(magics); i++) {
        const Magic *m = &magics[i];
        if (memcmp(buf + m->at, m->bytes, strlen(m->bytes)) == 0)
            return m->format;
    }
    return NULL;
}

static bool name_says_raw(const char *name)
{
    static const char *const suffixes[] = {".raw", ".img", ".iso"};
    size_t len = strlen(name);
    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        size_t n = strlen(suffixes[i]);
        if (len >= n && g_ascii_strcasecmp(name + len - n, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static void set_result(QcFormat format, const char *name, QcFormat *ret_format,
                       const char **ret_name)
{
    *ret_format = format;
    if (ret_name)
        *ret_name = name;
}

int qc_probe(QcFile *file, const char *name, QcFormat *ret_format, const char **ret_name)
{
    uint8_t buf[PROBE_BYTES];
    QcFileStat st;
    int err = qc_file_stat(file, &st);
    qc_file_refresh(file, 0, sizeof(buf));
    if (!err)
        err = qc_file_read_padded(file, buf, sizeof(buf), 0);
    if (err < 0)
        return err;

    be32 magic, version;
    memcpy(&magic, buf, sizeof(magic));
    memcpy(&version, buf + sizeof(magic), sizeof(version));
    bool is_qcow = be32_get(magic) == QCOW_MAGIC;
    if (is_qcow && be32_get(version) == 1)
        set_result(QC_FORMAT_OTHER, "qcow", ret_format, ret_name);
    else if (is_qcow)
        set_result(QC_FORMAT_QCOW2, "qcow2", ret_format, ret_name);
    else if (name_says_raw(name) || S_ISBLK(st.mode))
        set_result(QC_FORMAT_RAW, "raw", ret_format, ret_name);
    else if (other_format(buf))
        set_result(QC_FORMAT_OTHER, other_format(buf), ret_format, ret_name);
    else
        set_result(QC_FORMAT_NONE, NULL, ret_format, ret_name);
    return 0;
}
