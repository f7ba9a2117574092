/* naming.c - see naming.h. */
#include "naming.h"

#include "subject.h"

#include <errno.h>
#include <string.h>

enum {
    NAMES_SHOWN = 4,
    FORMER_NOTED = 16, /* of an image that was made so that very many would have to be */
};

int naming_begin(Naming *naming, Formerly *formerly, const QcFileStat *file, const QcInfo *info,
                 GError **error)
{
    if (!names_room_for(info, NAMES_BYTES)) {
        g_set_error(error, QC_ERROR, ENOMEM, "no memory for the names of %u snapshots",
                    info->n_snapshots);
        return -ENOMEM;
    }
    *naming = (Naming){.formerly = formerly,
                       .file = file,
                       .info = info,
                       .names = names_new(info->snapshots, info->n_snapshots)};
    return 0;
}

void naming_clear(Naming *naming)
{
    g_clear_pointer(&naming->names, names_free);
}

/* What no other snapshot has in common with this one, not even one that took its ID (g_free). */
static char *identity_of(const QcSnapshot *snapshot)
{
    g_autofree char *part = subject_part_of_snapshot(snapshot);

    return g_strdup_printf("%s %" G_GINT64_MODIFIER "d.%09u", part, snapshot->date_sec,
                           snapshot->date_nsec);
}

/* ---- an old name ------------------------------------------------------------------------- */

/* How to name each of the snapshots that an argument may mean (g_free). */
static char *list_meant(const Names *names, const char *arg)
{
    g_autoptr(GString) list = g_string_new(NULL);
    g_auto(GStrv) meant = names_meant(names, arg);
    unsigned n = g_strv_length(meant);

    for (unsigned i = 0; i < MIN(n, NAMES_SHOWN); i++) {
        g_autofree char *quoted = g_shell_quote(meant[i]);

        g_string_append_printf(list, "%s%s", i > 0 ? ", " : "", quoted);
    }
    return g_strdup_printf("this image has %u snapshots of that name, and shows them as %s%s", n,
                           list->str, n > NAMES_SHOWN ? " ..." : "");
}

/* The snapshot that a list which was made before may show so. */
static int find_former(const Naming *naming, const char *arg, unsigned *ret)
{
    g_autofree char *wanted = formerly_find(naming->formerly, naming->file, arg);

    for (unsigned i = 0; wanted && i < naming->info->n_snapshots; i++) {
        g_autofree char *identity = identity_of(&naming->info->snapshots[i]);

        *ret = i;
        if (strcmp(identity, wanted) == 0)
            return 0;
    }
    return -ENOENT;
}

int naming_find(const Naming *naming, const char *arg, unsigned *ret, GError **error)
{
    int r = names_resolve(naming->names, arg, ret);

    if (r == 0) /* whoever gave the name to it */
        formerly_forget(naming->formerly, naming->file, arg);
    if (r == -ENOENT)
        r = find_former(naming, arg, ret);
    if (r == 0)
        return 0;

    g_autofree char *message = r == -ENOTUNIQ ? list_meant(naming->names, arg)
                                              : g_strdup("this image has no snapshot of that name");
    g_set_error_literal(error, QC_ERROR, ENOENT, message);
    return -ENOENT;
}

/* ---- a new name -------------------------------------------------------------------------- */

int naming_choose(const Naming *naming, unsigned renamed, const char *arg, char **ret,
                  GError **error)
{
    g_autoptr(GBytes) bytes = name_from_argument(arg);
    size_t len;
    const char *name = g_bytes_get_data(bytes, &len);
    unsigned found;

    if (len > 0 && memchr(name, '\0', len)) {
        g_set_error(error, QC_ERROR, EINVAL, "a name cannot contain a NUL byte");
        return -EINVAL;
    }

    g_autofree char *shown = name_escape(name, len);
    if (names_find(naming->names, shown, &found) == 0 && found != renamed) {
        g_set_error(error, QC_ERROR, EEXIST, "this image already has a snapshot of that name");
        return -EEXIST;
    }
    formerly_forget(naming->formerly, naming->file, shown);
    *ret = g_strndup(name ? name : "", len);
    return 0;
}

void naming_note_former(const Naming *naming, unsigned index)
{
    const QcInfo *info = naming->info;
    g_autoptr(Names) rest =
        names_room_for(info, NAMES_BYTES) ? names_without(naming->names, index) : NULL;
    unsigned noted = 0;

    for (unsigned i = 0; rest && i < info->n_snapshots && noted < FORMER_NOTED; i++) {
        const char *shown = names_shown(naming->names, i);

        if (i == index || strcmp(shown, names_shown(rest, i - (i > index))) == 0)
            continue;
        g_autofree char *identity = identity_of(&info->snapshots[i]);
        formerly_note(naming->formerly, naming->file, shown, identity);
        noted++;
    }
}
