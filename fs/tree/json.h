/*
 * json.h - writing JSON as it comes, into one growing text: an image may have 65,536 snapshots, and
 * a tree of objects for each of them would take ten times the memory. Pure.
 */
#ifndef SNAPTREE_JSON_H
#define SNAPTREE_JSON_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Json {
    GString *text;
    unsigned depth;
    bool has_members; /* the innermost object or array has one already */
} Json;

/* key: NULL for the outermost object and inside arrays. A string need not be valid UTF-8; a number
 * is written with a sign, as QEMU writes it. */
void json_begin_object(Json *json, const char *key);
void json_end_object(Json *json);
void json_begin_array(Json *json, const char *key);
void json_end_array(Json *json);
void json_put_string(Json *json, const char *key, const char *value);
void json_put_int(Json *json, const char *key, uint64_t value);
void json_put_bool(Json *json, const char *key, bool value);

#endif
