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

static void task(gpointer data)
{
    unsigned number = GPOINTER_TO_UINT(data), key = number % KEYS;

    if (g_atomic_int_add(&keys[key].running, 1) != 0 || keys[key].done != (int)(number / KEYS))
        g_atomic_int_inc(&wrong);
    keys[key].done++;
    g_atomic_int_add(&keys[key].running, -1);
}

Test(serial, in_order_per_key, .timeout = 60)
{
    serial = serial_new(4);
    for (unsigned i = 0; i < TASKS; i++) {
        g_autofree char *key = g_strdup_printf("%u", i % KEYS);

        serial_push(serial, key, task, GUINT_TO_POINTER(i));
    }
    serial_free(serial);
    cr_expect_eq(g_atomic_int_get(&wrong), 0);
    for (unsigned i = 0; i < KEYS; i++)
        cr_expect_eq(keys[i].done, TASKS / KEYS);
}

static int depth; /* only one task at a time */

static void push_another(gpointer data)
{
    if (++depth < 100)
        serial_push(serial, depth % 2 ? "a" : "b", push_another, data);
}

Test(serial, a_task_may_push_the_next, .timeout = 60)
{
    serial = serial_new(4);
    serial_push(serial, "b", push_another, NULL);
    serial_free(serial);
    cr_expect_eq(depth, 100);
}
