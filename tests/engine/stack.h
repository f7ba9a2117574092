/*
 * stack.h - images in a directory, each the backing file of the next, and the chain of them opened.
 * While the stack is made, its files are held open in `made`: who has grown a file closes it
 * slowly.
 */
#ifndef TESTS_STACK_H
#define TESTS_STACK_H

#include "qcow.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <glib/gstdio.h>

enum {
    STACK_MOST = 70,
};

typedef struct Stack {
    char *dir;
    QcGate *gate;
    QcFile *made[STACK_MOST];
    QcCache *cache;
    QcImage *image;
    QcChain *chain;
    QcView *view; /* borrowed */
} Stack;

static inline Stack new_directory(void)
{
    Stack s = {.dir = g_dir_make_tmp("stack-XXXXXX", NULL)};

    cr_assert_eq(0, qc_gate_new(s.dir, QC_BACKING_STORE, &s.gate, NULL));
    return s;
}

static inline char *path_of(const Stack *s, unsigned layer)
{
    return g_strdup_printf("%s/%u", s->dir, layer);
}

static inline QcFile *file_of(const Stack *s, unsigned layer, int flags)
{
    g_autofree char *path = path_of(s, layer);
    QcFile *file;
    cr_assert_eq(0, qc_file_new_fd(open(path, flags | O_CLOEXEC, 0644), &file));
    return file;
}

/* Make a layer on top of the one before. */
static inline QcFile *make_layer(Stack *s, unsigned layer, uint64_t size, unsigned cluster_bits)
{
    g_autofree char *backing = layer > 0 ? g_strdup_printf("%u", layer - 1) : NULL;
    QcCreateOptions options = {.virtual_size = size,
                               .cluster_bits = cluster_bits,
                               .backing_file = backing,
                               .backing_format = backing ? "qcow2" : NULL};
    s->made[layer] = file_of(s, layer, O_RDWR | O_CREAT | O_EXCL);
    cr_assert_eq(0, qc_create(s->made[layer], &options, NULL));
    return s->made[layer];
}

static inline QcImage *open_image(const Stack *s, unsigned layer, int flags)
{
    QcFile *made = s->made[layer];
    g_autoptr(QcFile) file = made ? qc_file_ref(made) : file_of(s, layer, flags);
    QcImage *image;
    cr_assert_eq(0, qc_image_open(file, "image", QC_FORMAT_QCOW2, s->cache, &image, NULL));
    return image;
}

static inline void open_stack(Stack *s, unsigned top, int flags)
{
    s->cache = qc_cache_new(1 << 20);
    s->image = open_image(s, top, flags);
    cr_assert_eq(0, qc_chain_open(s->gate, s->image, s->cache, &s->chain));
    cr_assert_eq(qc_chain_layers(s->chain), top + 1);
    s->view = qc_chain_view(s->chain, 0);
}

static inline void close_stack(Stack *s)
{
    qc_chain_free(s->chain);
    qc_image_unref(s->image);
    qc_cache_unref(s->cache);
}

/* A closed stack of n layers. */
static inline void remove_stack(Stack *s, unsigned n)
{
    qc_gate_unref(s->gate);
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *path = path_of(s, i);

        g_clear_pointer(&s->made[i], qc_file_unref);
        g_unlink(path);
    }
    g_rmdir(s->dir);
    g_free(s->dir);
}

#endif
