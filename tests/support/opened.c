/* opened.c - see opened.h. */
#include "opened.h"

enum {
    CACHE_BYTES = 8 << 20,
};

Opened opened_new(QcFile *file, QcGate *gate)
{
    Opened o = {.cache = qc_cache_new(CACHE_BYTES)};
    g_autoptr(GError) error = NULL;
    if (qc_image_open(file, "image", QC_FORMAT_QCOW2, o.cache, &o.image, &error) < 0)
        g_error("%s", error->message);
    int err = qc_chain_open(gate, o.image, o.cache, &o.chain);
    if (err < 0)
        g_error("chain: %s", g_strerror(-err));
    o.view = qc_chain_view(o.chain, 0);
    return o;
}

void opened_clear(Opened *opened)
{
    qc_chain_free(opened->chain);
    qc_image_unref(opened->image);
    qc_cache_unref(opened->cache);
    *opened = (Opened){0};
}
