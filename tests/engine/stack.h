/*
 * stack.h - images in a directory, each the backing file of the next.
 *
 * While the stack is made, its files are held open in `made`: who has grown a file closes it
 * slowly.
 */
#ifndef TESTS_STACK_H
#define TESTS_STACK_H

#include "memfile.h"
#include "opened.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <glib/gstdio.h>

enum {
    STACK_MOST = QC_MAX_LAYERS + 1,
};

typedef struct Stack {
    char *dir;
    QcGate *gate;
    unsigned n;               /* layers */
    QcFile *made[STACK_MOST]; /* the lowest first; NULL: not held open any more */
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
    cr_assert_eq(0, qc_file_new_fd(open(path, flags | O_CLOEXEC), &file));
    return file;
}

/* Make a layer on top of the one before; in memory first, as each on a disk would be synced. */
static inline QcFile *make_layer(Stack *s, uint64_t size, unsigned cluster_bits)
{
    unsigned layer = s->n++;
    g_autofree char *path = path_of(s, layer);
    g_autofree char *backing = layer > 0 ? g_strdup_printf("%u", layer - 1) : NULL;
    QcCreateOptions options = {.virtual_size = size,
                               .cluster_bits = cluster_bits,
                               .backing_file = backing,
                               .backing_format = backing ? "qcow2" : NULL};
    MemFile *image = mem_file_new(NULL, 0);
    cr_assert_eq(0, qc_create(mem_file(image), &options, NULL));
    cr_assert(g_file_set_contents(path, (char *)image->data->data, image->data->len, NULL));
    qc_file_unref(mem_file(image));
    s->made[layer] = file_of(s, layer, O_RDWR);
    return s->made[layer];
}

static inline void close_made(Stack *s)
{
    for (unsigned i = 0; i < s->n; i++)
        g_clear_pointer(&s->made[i], qc_file_unref);
}

/* The chain from a layer down. */
static inline Opened open_stack(const Stack *s, unsigned top, int flags)
{
    QcFile *made = s->made[top];
    g_autoptr(QcFile) file = made ? qc_file_ref(made) : file_of(s, top, flags);
    Opened o = opened_new(file, s->gate);
    cr_assert_eq(qc_chain_layers(o.chain), MIN(top + 1, QC_MAX_LAYERS));
    return o;
}

static inline void remove_stack(Stack *s)
{
    close_made(s);
    qc_gate_unref(s->gate);
    for (unsigned i = 0; i < s->n; i++) {
        g_autofree char *path = path_of(s, i);

        g_unlink(path);
    }
    g_rmdir(s->dir);
    g_free(s->dir);
}

#endif
