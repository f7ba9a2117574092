/* Large buffers: whoever has one has it alone, and no more than so many are kept. */
#include "buffers.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum {
    SIZE = 256 << 10,
    KEPT = 4,
    USED = 3 * KEPT, /* more than are kept */
};

static void get_all(Buffers *buffers, char **ret)
{
    for (unsigned i = 0; i < USED; i++) {
        ret[i] = buffers_get(buffers, SIZE);
        cr_assert_not_null(ret[i]);
        memset(ret[i], (int)i, SIZE);
    }
}

static void expect_own(char *const *all)
{
    for (unsigned i = 0; i < USED; i++) {
        cr_expect_eq(all[i][0], (char)i, "the first byte of buffer %u", i);
        cr_expect_eq(all[i][SIZE - 1], (char)i, "the last byte of buffer %u", i);
    }
}

/* In whichever order they are given back: from is the first, and then each step further on. */
static void use(unsigned from, unsigned step)
{
    Buffers *buffers = buffers_new(SIZE, KEPT);
    char *all[USED], *kept[USED];

    get_all(buffers, all);
    expect_own(all);
    for (unsigned i = 0; i < USED; i++)
        buffers_put(buffers, all[(from + i * step) % USED], SIZE);
    get_all(buffers, kept);
    expect_own(kept);
    for (unsigned i = 0; i < USED; i++)
        buffers_put(buffers, kept[i], SIZE);
    buffers_free(buffers);
}

Test(buffers, who_has_one_has_it_alone)
{
    use(0, 1);
    use(USED - 1, USED - 1);
    use(KEPT, 5);
}

/* What was given back last is given out next, but not to who wants a small or a huge one. */
Test(buffers, large_ones_are_kept_and_used_again)
{
    Buffers *buffers = buffers_new(SIZE, KEPT);
    static const size_t lengths[] = {1, 4096, 65536, 65537, SIZE, SIZE + 1, 4 * SIZE};

    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        char *last = buffers_get(buffers, SIZE);
        buffers_put(buffers, last, SIZE);
        char *buffer = buffers_get(buffers, lengths[i]);

        cr_assert_not_null(buffer);
        cr_expect_eq(buffer == last, lengths[i] > 65536 && lengths[i] <= SIZE, "%zu", lengths[i]);
        memset(buffer, 1, lengths[i]);
        buffers_put(buffers, buffer, lengths[i]);
    }
    buffers_put(buffers, NULL, SIZE);
    buffers_free(buffers);
    buffers_free(NULL);
}

/* So that the kernel can read into them without its page cache. */
Test(buffers, large_ones_begin_with_a_page)
{
    Buffers *buffers = buffers_new(SIZE, KEPT);
    char *all[USED];

    get_all(buffers, all);
    for (unsigned i = 0; i < USED; i++) {
        cr_expect_eq((uintptr_t)all[i] % (size_t)getpagesize(), 0, "buffer %u", i);
        buffers_put(buffers, all[i], SIZE);
    }
    for (size_t len = 65537; len <= 4 * SIZE; len += 65537) {
        char *buffer = buffers_get(buffers, len);

        cr_expect_eq((uintptr_t)buffer % (size_t)getpagesize(), 0, "%zu bytes", len);
        buffers_put(buffers, buffer, len);
    }
    buffers_free(buffers);
}

Test(buffers, of_which_none_are_to_be_kept_are_given_all_the_same)
{
    Buffers *buffers = buffers_new(SIZE, 0);
    char *buffer = buffers_get(buffers, SIZE);

    cr_assert_not_null(buffer);
    memset(buffer, 1, SIZE);
    buffers_put(buffers, buffer, SIZE);
    buffers_free(buffers);
}
