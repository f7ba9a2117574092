/* A mode never lets anybody do what the list beside it does not. */
#include "acl.h"

#include "named.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

enum {
    USER_OBJ = 0x01,
    USER = 0x02,
    GROUP_OBJ = 0x04,
    GROUP = 0x08,
    MASK = 0x10,
    OTHER = 0x20,
    MAX_ENTRIES = 8,
};

typedef struct List {
    struct posix_acl_xattr_header header;
    struct posix_acl_xattr_entry entries[MAX_ENTRIES];
} List;

#define ENTRY(tag, perm)                                                                           \
    {                                                                                              \
        GUINT16_TO_LE(tag), GUINT16_TO_LE(perm), 0                                                 \
    }

static const struct posix_acl_xattr_header version_2 = {GUINT32_TO_LE(2)};

static uint32_t mode_of(const List *list, unsigned n, uint32_t mode)
{
    return acl_mode(list, sizeof(list->header) + n * sizeof(list->entries[0]), mode);
}

Test(acl, the_mask_is_not_the_groups)
{
    const List list = {
        version_2,
        {ENTRY(USER_OBJ, 6), ENTRY(USER, 6), ENTRY(GROUP_OBJ, 0), ENTRY(MASK, 6), ENTRY(OTHER, 0)}};

    cr_expect_eq(mode_of(&list, 5, 0100660), 0100600);
}

Test(acl, the_group_may_what_the_mask_leaves)
{
    const List list = {
        version_2,
        {ENTRY(USER_OBJ, 7), ENTRY(USER, 7), ENTRY(GROUP_OBJ, 7), ENTRY(MASK, 5), ENTRY(OTHER, 1)}};

    cr_expect_eq(mode_of(&list, 5, 0040751), 0040751);
}

/* A user of the group, and one of all others, to whom less is given than to these. */
Test(acl, who_is_named_may_be_anybody)
{
    const List list = {
        version_2,
        {ENTRY(USER_OBJ, 6), ENTRY(USER, 0), ENTRY(GROUP_OBJ, 6), ENTRY(MASK, 6), ENTRY(OTHER, 4)}};

    cr_expect_eq(mode_of(&list, 5, 0100664), 0100600);
}

Test(acl, a_named_group_may_be_anybodys)
{
    const List list = {version_2,
                       {ENTRY(USER_OBJ, 6), ENTRY(GROUP_OBJ, 4), ENTRY(GROUP, 0), ENTRY(MASK, 4),
                        ENTRY(OTHER, 4)}};

    cr_expect_eq(mode_of(&list, 5, 0100644), 0100640);
}

Test(acl, the_mask_is_for_the_named_too)
{
    const List list = {
        version_2,
        {ENTRY(USER_OBJ, 6), ENTRY(USER, 7), ENTRY(GROUP_OBJ, 7), ENTRY(MASK, 0), ENTRY(OTHER, 4)}};

    cr_expect_eq(mode_of(&list, 5, 0100604), 0100600);
}

Test(acl, the_mask_is_for_named_groups_too)
{
    const List list = {version_2,
                       {ENTRY(USER_OBJ, 6), ENTRY(GROUP_OBJ, 7), ENTRY(GROUP, 7), ENTRY(MASK, 0),
                        ENTRY(OTHER, 4)}};

    cr_expect_eq(mode_of(&list, 5, 0100604), 0100600);
}

Test(acl, a_list_of_a_mode_says_what_the_mode_says)
{
    const List list = {version_2, {ENTRY(USER_OBJ, 6), ENTRY(GROUP_OBJ, 4), ENTRY(OTHER, 4)}};

    cr_expect_eq(mode_of(&list, 3, 0100644), 0100644);
}

Test(acl, what_makes_no_sense_leaves_nothing)
{
    List list = {version_2, {ENTRY(USER_OBJ, 6), ENTRY(GROUP_OBJ, 6), ENTRY(OTHER, 6)}};

    cr_expect_eq(acl_mode(&list, 3, 0100666), 0100600, "shorter than its header");
    cr_expect_eq(acl_mode(&list, sizeof(list.header) + 5, 0100666), 0100600, "half an entry");
    list.header.a_version = GUINT32_TO_LE(3);
    cr_expect_eq(mode_of(&list, 3, 0100666), 0100600, "another version");
}

/* Of any length: the longest are not read at the first try. */
Test(acl, a_file_is_asked_for_its_list)
{
    static const unsigned lengths[] = {1, NAMED_MOST};
    g_autofree char *full = g_build_filename(g_get_tmp_dir(), "acl-XXXXXX", NULL);
    int fd = g_mkstemp(full);

    cr_assert_geq(fd, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        QcFileStat stat;
        bool has_lists = name_users(full, lengths[i], 5);

        if (!has_lists)
            cr_skip_test("no lists on this file system");
        cr_assert_eq(0, qc_file_stat_at(fd, "", AT_EMPTY_PATH, &stat));
        cr_expect_eq(stat.mode & 0777, 0770);
        acl_limit(fd, &stat);
        cr_expect_eq(stat.mode & 0777, 0750, "%u are named: %o", lengths[i], stat.mode);
    }
    close(fd);
    g_unlink(full);
}
