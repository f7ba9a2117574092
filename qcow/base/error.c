/* error.c - see error.h. */
#include "error.h"

GQuark qc_error_quark(void)
{
    return g_quark_from_static_string("snaptree-qcow-error");
}

int qc_fail(GError **error, int err, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        *error = g_error_new_valist(QC_ERROR, -err, format, args);
        va_end(args);
    }
    return err;
}

bool qc_is_shortage(int err)
{
    return err == -ENOMEM || err == -EMFILE || err == -ENFILE;
}
