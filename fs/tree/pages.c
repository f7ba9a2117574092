/*
 * pages.c - see pages.h.
 *
 * All handles that read a node through the kernel's page cache at the same time read the same thing
 * (what). An open that would read something else is refused, and the node is left: the next look-up
 * of its name makes another node. Of several nodes that are open by one name, all that show
 * something else are left together, as the kernel looks the name up only once more. Bypassing the
 * cache would not help, as mmap(2) and sendfile(2) use it anyway. A file of another size is
 * something else, too: the kernel ends reads at the size that it was told last for the inode
 * number. Pages from before are kept only where certainly no byte has changed (identity).
 *
 * Passthrough is all or nothing per node: the kernel refuses to mix it with normal opens, or with a
 * second backing id. So n_passed is 0, or opens is.
 *
 * Pages.lock protects everything; nothing is called while it is held.
 */
#include "pages.h"

#include <glib.h>
#include <string.h>

struct Pages {
    GMutex lock;
    char *what;     /* is read through them while opens > 0 */
    char *identity; /* what the pages were filled from; NULL: do not keep them */
    uint64_t size;  /* of that */
    unsigned opens; /* that use them */
    bool settled;   /* the kernel has certainly dropped the pages of the identity before */
    bool left;      /* open when the node's name led elsewhere: the name never leads here again */
    unsigned n_passed;
    int passed; /* the kernel's number of the file, while n_passed > 0 */
};

Pages *pages_new(void)
{
    Pages *pages = g_new0(Pages, 1);

    g_mutex_init(&pages->lock);
    return pages;
}

void pages_free(Pages *pages)
{
    if (!pages)
        return;
    g_free(pages->what);
    g_free(pages->identity);
    g_mutex_clear(&pages->lock);
    g_free(pages);
}

/* Take a number for the node, or share the one that it has. Lock held. */
static PagesUse pass(Pages *pages, int *passed)
{
    if (pages->n_passed++ == 0)
        pages->passed = *passed;
    *passed = pages->passed;
    return PAGES_PASSED;
}

static void set_text(char **text, const char *to)
{
    g_free(*text);
    *text = g_strdup(to);
}

/* Whether they show something else than this. Lock held. */
static bool shows_other(const Pages *pages, const PagesContent *content)
{
    return pages->opens > 0 &&
           (strcmp(pages->what, content->what) != 0 || pages->size != content->size);
}

/* Lock held. */
static PagesUse use_cache(Pages *pages, const PagesContent *content)
{
    bool same = content->identity && g_strcmp0(pages->identity, content->identity) == 0;

    if (shows_other(pages, content)) {
        pages->left = true;
        return PAGES_STALE;
    }
    if (!same) { /* of two identities at a time it is not known whose page comes last */
        set_text(&pages->identity, pages->opens == 0 ? content->identity : NULL);
        pages->settled = false;
    }
    set_text(&pages->what, content->what);
    pages->size = content->size;
    pages->opens++;
    return same && pages->settled ? PAGES_KEEP : PAGES_NEW;
}

PagesUse pages_open(Pages *pages, const PagesContent *content, int *passed)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    if (pages->n_passed > 0 && content->is_node_file)
        return pass(pages, passed);
    if (pages->n_passed > 0) {
        pages->left = true;
        return PAGES_STALE;
    }
    if (*passed && content->is_node_file && pages->opens == 0)
        return pass(pages, passed);
    return use_cache(pages, content);
}

int pages_close(Pages *pages, PagesUse use)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    if (use == PAGES_PASSED)
        return --pages->n_passed == 0 ? pages->passed : 0;
    pages->settled = true;
    pages->opens--;
    return 0;
}

bool pages_are_unused(Pages *pages)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    return pages->n_passed == 0 && pages->opens == 0;
}

bool pages_size(Pages *pages, uint64_t *ret)
{
    if (!pages)
        return false;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    if (pages->opens == 0)
        return false;
    *ret = pages->size;
    return true;
}

bool pages_leave_if_resized(Pages *pages, uint64_t size)
{
    if (!pages)
        return false;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    pages->left |= pages->opens > 0 && pages->size != size;
    return pages->left;
}

void pages_leave_if_other(Pages *pages, const PagesContent *content)
{
    if (!pages)
        return;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    pages->left |= shows_other(pages, content);
}

void pages_settled(Pages *pages)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    pages->settled = true;
}

void pages_spoil(Pages *pages)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&pages->lock);

    g_clear_pointer(&pages->identity, g_free);
}
