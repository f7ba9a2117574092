/* Whom a mode lets do what. */
#include "creds.h"

#include <criterion/criterion.h>

enum {
    OWNER = 1000,
    GROUP = 100,
    STRANGER = 2000, /* a user, and a group */
};

static bool may(const Creds *creds, uint32_t mode, unsigned want)
{
    const QcFileStat file = {.mode = mode, .uid = OWNER, .gid = GROUP};

    return creds_may(creds, &file, want);
}

/* As in the kernel, the first class that one is in decides. */
Test(creds, one_is_owner_or_in_the_group_or_neither)
{
    static const gid_t groups[] = {5, GROUP};
    g_autoptr(Creds) owner = creds_new(OWNER, GROUP, NULL, 0);
    g_autoptr(Creds) member = creds_new(STRANGER, GROUP, NULL, 0);
    g_autoptr(Creds) further = creds_new(STRANGER, STRANGER, groups, G_N_ELEMENTS(groups));
    g_autoptr(Creds) other = creds_new(STRANGER, STRANGER, groups, 1);
    g_autoptr(Creds) root = creds_new(0, STRANGER, NULL, 0);
    const struct {
        const Creds *creds;
        uint32_t mode;
    } who[] = {{owner, 0400}, {member, 0040}, {further, 0040}, {other, 0004}};

    for (size_t i = 0; i < G_N_ELEMENTS(who); i++) {
        cr_expect(may(who[i].creds, who[i].mode, CREDS_READ), "%zu", i);
        cr_expect_not(may(who[i].creds, 0444 & ~who[i].mode, CREDS_READ), "%zu", i);
        cr_expect_not(may(who[i].creds, who[i].mode, CREDS_READ | CREDS_WRITE), "%zu", i);
        cr_expect_not(may(who[i].creds, who[i].mode, CREDS_SEARCH), "%zu", i);
    }
    cr_expect(may(root, 0, CREDS_READ | CREDS_WRITE));
}

/* Who writes to what another has opened may do what both may. */
Test(creds, through_what_another_has_opened)
{
    g_autoptr(Creds) owner = creds_new(OWNER, GROUP, NULL, 0);
    g_autoptr(Creds) root = creds_new(0, 0, NULL, 0);
    g_autoptr(Creds) handed = creds_new(0, 0, NULL, 0);

    cr_expect(creds_is_root(root));
    handed->opener = root;
    cr_expect(creds_is_root(handed) && creds_is_trusted(handed));
    cr_expect(may(handed, 0, CREDS_WRITE));
    handed->opener = owner;
    g_autoptr(Creds) copy = creds_copy(handed);
    const Creds *const both[] = {handed, copy};
    for (size_t i = 0; i < G_N_ELEMENTS(both); i++) {
        cr_expect_not(creds_is_root(both[i]));
        cr_expect(creds_is_trusted(both[i]), "whatever the opener is");
        cr_expect_not(may(both[i], 0444, CREDS_WRITE));
        cr_expect(may(both[i], 0644, CREDS_WRITE));
    }
    g_autoptr(Creds) other = creds_new(STRANGER, STRANGER, NULL, 0);
    other->opener = root;
    cr_expect_not(creds_is_root(other));
    cr_expect_not(may(other, 0640, CREDS_READ));
}
