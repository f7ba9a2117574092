/* Tasks of one key run in order, all of them before the end. */
#include "serial.h"

#include <criterion/criterion.h>

enum {
    KEYS = 4,
    TASKS = 2000,
};

static Serial *serial;
static struct {
    gint running; /* atomic */
    int done;     /* only one task of a key at a time */
} keys[KEYS];
static gint wrong; /* atomic */

static void count_task(gpointer data)
{
    unsigned number = GPOINTER_TO_UINT(data), key = number % KEYS;

    if (g_atomic_int_add(&keys[key].running, 1) != 0 || keys[key].done != (int)(number / KEYS))
        g_atomic_int_inc(&wrong);
    keys[key].done++;
    g_atomic_int_add(&keys[key].running, -1);
}

static const SerialKind counting = {.run = count_task};

Test(serial, in_order_per_key, .timeout = 60)
{
    serial = serial_new(4);
    for (unsigned i = 0; i < TASKS; i++) {
        g_autofree char *key = g_strdup_printf("%u", i % KEYS);

        serial_push(serial, key, &counting, GUINT_TO_POINTER(i));
    }
    serial_free(serial);
    cr_expect_eq(g_atomic_int_get(&wrong), 0);
    for (unsigned i = 0; i < KEYS; i++)
        cr_expect_eq(keys[i].done, TASKS / KEYS);
}

static int depth; /* only one task at a time */

static void push_another(gpointer data);
static const SerialKind pushing = {.run = push_another};

static void push_another(gpointer data)
{
    if (++depth < 100)
        serial_push(serial, depth % 2 ? "a" : "b", &pushing, data);
}

Test(serial, a_task_may_push_the_next, .timeout = 60)
{
    serial = serial_new(4);
    serial_push(serial, "b", &pushing, NULL);
    serial_free(serial);
    cr_expect_eq(depth, 100);
}

/* ---- tasks that are not wanted any more -------------------------------------------------- */

enum {
    RUNNING_TASK,
    UNWANTED_TASK,
    LAST_TASK,
};

static gint done[3], dropped[3]; /* atomic */

/* Runs for as long as the second has not left the queue. */
static void run_until_dropped(gpointer data)
{
    while (GPOINTER_TO_INT(data) == RUNNING_TASK && !g_atomic_int_get(&dropped[UNWANTED_TASK]))
        g_usleep(1000);
    g_atomic_int_inc(&done[GPOINTER_TO_INT(data)]);
}

static bool is_unwanted(gpointer data)
{
    return GPOINTER_TO_INT(data) == UNWANTED_TASK;
}

static void drop(gpointer data)
{
    g_atomic_int_inc(&dropped[GPOINTER_TO_INT(data)]);
}

/* With one thread it does not matter in whose queue it waits. */
static void drop_one(const char *key)
{
    static const SerialKind kind = {run_until_dropped, is_unwanted, drop};

    serial = serial_new(1);
    serial_push(serial, "a", &kind, GINT_TO_POINTER(RUNNING_TASK));
    serial_push(serial, key, &kind, GINT_TO_POINTER(UNWANTED_TASK));
    serial_push(serial, key, &kind, GINT_TO_POINTER(LAST_TASK));
    serial_free(serial);
    cr_expect(done[RUNNING_TASK] == 1 && done[UNWANTED_TASK] == 0 && done[LAST_TASK] == 1);
    cr_expect(dropped[RUNNING_TASK] == 0 && dropped[UNWANTED_TASK] == 1 && dropped[LAST_TASK] == 0);
}

Test(serial, what_is_not_wanted_leaves_the_queue_at_once, .timeout = 60)
{
    drop_one("a");
}

Test(serial, what_is_not_wanted_does_not_wait_for_a_thread, .timeout = 60)
{
    drop_one("b");
}

static gint begun, ended; /* atomic */

static void run_until_begun(gpointer data)
{
    (void)data;
    while (!g_atomic_int_get(&begun))
        g_usleep(1000);
}

/* Goes on after all that waits or runs is done. */
static void drop_slowly(gpointer data)
{
    (void)data;
    g_atomic_int_set(&begun, 1);
    g_usleep(200 * 1000);
    g_atomic_int_set(&ended, 1);
}

Test(serial, what_is_being_dropped_is_waited_for, .timeout = 60)
{
    static const SerialKind kind = {run_until_begun, is_unwanted, drop_slowly};

    serial = serial_new(1);
    serial_push(serial, "a", &kind, GINT_TO_POINTER(RUNNING_TASK));
    serial_push(serial, "a", &kind, GINT_TO_POINTER(UNWANTED_TASK));
    serial_drain(serial);
    cr_expect_eq(g_atomic_int_get(&ended), 1);
    serial_free(serial);
}
