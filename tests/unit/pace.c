/* Who comes back at once is quick, after a while; who does something else first, is not. */
#include "pace.h"

#include <criterion/criterion.h>

enum {
    MANY = 32,
    SERVICE = 70, /* microseconds */
    MIB = 1 << 20,
};

typedef struct Reader {
    Pace pace;
    gint64 now;
} Reader;

/* Some reads of so many bytes, each so long after the bytes of the one before were there. */
static void reads(Reader *reader, unsigned n, size_t len, gint64 gap)
{
    for (unsigned i = 0; i < n; i++) {
        reader->now += gap;
        pace_asked(&reader->pace, reader->now, len);
        reader->now += SERVICE;
        pace_handed(&reader->pace, reader->now);
    }
}

static Reader reader_of(size_t len, gint64 gap)
{
    Reader reader = {.now = 1000000};

    reads(&reader, MANY, len, gap);
    return reader;
}

static bool is_quick(size_t len, gint64 gap)
{
    Reader reader = reader_of(len, gap);

    return pace_is_quick(&reader.pace);
}

Test(pace, what_is_copied_takes_time)
{
    cr_expect(is_quick(4096, 15));
    cr_expect_not(is_quick(4096, 30));
    cr_expect(is_quick(128 * 1024, 30));
    cr_expect_not(is_quick(128 * 1024, 60));
    cr_expect(is_quick(MIB, 150));
    cr_expect_not(is_quick(MIB, 300));
}

Test(pace, a_few_reads_do_not_tell)
{
    Reader reader = {.now = 1000000};

    reads(&reader, 4, 4096, 5);
    cr_expect_not(pace_is_quick(&reader.pace));
    reader = reader_of(4096, 5);
    reads(&reader, 4, 4096, 500);
    cr_expect(pace_is_quick(&reader.pace));
    reads(&reader, MANY, 4096, 500);
    cr_expect_not(pace_is_quick(&reader.pace));
    reads(&reader, MANY, 4096, 5);
    cr_expect(pace_is_quick(&reader.pace));
}

Test(pace, who_asks_before_it_has_the_answer_does_not_wait)
{
    Reader reader = reader_of(MIB, 5);

    pace_asked(&reader.pace, reader.now += 5, MIB);
    pace_asked(&reader.pace, reader.now += 5, MIB);
    pace_handed(&reader.pace, reader.now += 5);
    cr_expect_not(pace_is_quick(&reader.pace));
}
