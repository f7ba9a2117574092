/* points.c - see points.h. */
#include "points.h"

static gint by_number(gconstpointer a, gconstpointer b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return x < y ? -1 : x > y;
}

/* So many different numbers of first .. end-1; there are many more than that, or all are wanted. */
static void add_random(GArray *points, gint64 first, gint64 end, unsigned count, GRand *rand)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    while (g_hash_table_size(seen) < MIN(count, end - first)) {
        gint64 i = g_rand_int_range(rand, (gint32)first, (gint32)end);
        if (g_hash_table_add(seen, GINT_TO_POINTER(i)))
            g_array_append_val(points, i);
    }
}

GArray *points_choose(gint64 n, unsigned most, guint32 seed)
{
    GArray *points = g_array_new(FALSE, FALSE, sizeof(gint64));
    bool all = most == 0 || n <= most;
    gint64 head = all ? n : most / 3, tail = all ? n : n - most / 3;
    GRand *rand = g_rand_new_with_seed(seed);
    for (gint64 i = 0; i < head; i++)
        g_array_append_val(points, i);
    for (gint64 i = tail; i < n; i++)
        g_array_append_val(points, i);
    if (!all)
        add_random(points, head, tail, most - most / 3 * 2, rand);
    g_array_sort(points, by_number);
    g_rand_free(rand);
    return points;
}
