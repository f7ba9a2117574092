/* A thread keeps off a processor that it is told of, after a while, and within what it may use. */
#include "aside.h"

#include <criterion/criterion.h>
#include <sched.h>

enum {
    STEPS = 100,               /* more than it takes to change */
    NOBODYS = CPU_SETSIZE - 1, /* a processor that no machine here has */
};

/* Each test runs in a process of its own. */
static int a, b; /* the processors that it may use */

static cpu_set_t set_of(int first, int second)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)first, &set);
    CPU_SET((size_t)second, &set);
    return set;
}

static void use(int first, int second)
{
    cpu_set_t set = set_of(first, second);

    cr_assert_eq(0, sched_setaffinity(0, sizeof(set), &set));
}

static bool may_use(int first, int second)
{
    cpu_set_t set = set_of(first, second), now;

    cr_assert_eq(0, sched_getaffinity(0, sizeof(now), &now));
    return CPU_EQUAL(&set, &now);
}

static void stay_off(int processor)
{
    for (unsigned i = 0; i < STEPS; i++)
        aside_stay(processor);
}

/* With one processor there is nothing to see. */
static void take_two(void)
{
    cpu_set_t all;
    int found[2], n = 0;

    cr_assert_eq(0, sched_getaffinity(0, sizeof(all), &all));
    for (int i = 0; i < CPU_SETSIZE && n < 2; i++) {
        if (CPU_ISSET((size_t)i, &all))
            found[n++] = i;
    }
    if (n < 2)
        cr_skip_test("there is one processor only");
    a = found[0];
    b = found[1];
    use(a, b);
}

TestSuite(aside, .init = take_two);

Test(aside, a_thread_keeps_off_a_processor_and_comes_back)
{
    aside_stay(a);
    cr_expect(may_use(a, b), "once is not a while");
    stay_off(a);
    cr_expect(may_use(b, b));
    aside_stay(ASIDE_ANYWHERE);
    cr_expect(may_use(b, b), "nor here");
    stay_off(ASIDE_ANYWHERE);
    cr_expect(may_use(a, b));
}

Test(aside, it_changes_when_it_is_in_the_way)
{
    stay_off(a);
    stay_off(b);
    cr_expect(may_use(a, a));
    stay_off(NOBODYS);
    cr_expect(may_use(a, a), "it is not in the way there");
}

/* A processor now and then is nobody's wish. */
Test(aside, it_does_not_follow_who_wanders)
{
    stay_off(a);
    for (unsigned i = 0; i < STEPS; i++)
        aside_stay(i % 2 ? a : b);
    cr_expect(may_use(b, b));
}

Test(aside, a_thread_that_may_use_one_stays_there)
{
    use(a, a);
    stay_off(a);
    cr_expect(may_use(a, a));
}

Test(aside, what_others_have_said_holds)
{
    stay_off(a);
    use(a, a);
    stay_off(ASIDE_ANYWHERE);
    cr_expect(may_use(a, a));
    use(a, b);
    stay_off(b);
    cr_expect(may_use(a, a));
    stay_off(ASIDE_ANYWHERE);
    cr_expect(may_use(a, b));
}
