/*
 * points.h - at which of many places to try something, where trying all takes too long.
 */
#ifndef TESTS_POINTS_H
#define TESTS_POINTS_H

#include <glib.h>
#include <stdbool.h>

/*
 * Which of the numbers 0 .. n-1 to try (of gint64, ascending; g_array_unref). With most 0, or
 * where there are no more than most: all. Otherwise a third of most from the start, a third from
 * the end, and the rest at random between those; another seed gives others.
 */
GArray *points_choose(gint64 n, unsigned most, guint32 seed);

#endif
