/* strings.c - see strings.h. Of the blocks, the first is being filled. */
#include "strings.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    FIRST_BYTES = 256,       /* the names of a backing file and its format */
    BLOCK_BYTES = 4096 - 64, /* of the others; with what the allocator adds, a page */
};

struct QcStringBlock {
    QcStringBlock *next;
    size_t used, size;
    char bytes[];
};

char *qc_strdup_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : g_try_malloc((size_t)len + 1);
    if (!text)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}

static QcStringBlock *add_block(QcStrings *strings, size_t need)
{
    size_t size = MAX(need, strings->blocks ? BLOCK_BYTES : FIRST_BYTES);
    QcStringBlock *block = g_try_malloc(sizeof(*block) + size);
    if (!block)
        return NULL;
    block->next = strings->blocks;
    block->used = 0;
    block->size = size;
    strings->blocks = block;
    return block;
}

const char *qc_strings_keep(QcStrings *strings, const void *bytes, size_t len)
{
    QcStringBlock *block = strings->blocks;
    if (!block || block->size - block->used <= len)
        block = add_block(strings, len + 1);
    if (!block)
        return NULL;
    char *at = block->bytes + block->used;
    memcpy(at, bytes, len);
    at[len] = '\0';
    block->used += len + 1;
    return at;
}

void qc_strings_clear(QcStrings *strings)
{
    while (strings->blocks) {
        QcStringBlock *block = strings->blocks;
        strings->blocks = block->next;
        g_free(block);
    }
}
