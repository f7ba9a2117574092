/*
 * journal.c - see journal.h.
 *
 * A page is the results of one control file, a queue of lines, newest at the tail. Every user can
 * write to the store's own, so there each user's lines are bounded by themselves, and so are the
 * users. Pages hang in a queue in the order of their last line, so that the oldest is found when
 * there are too many; the store's own stays. Journal.lock protects everything; nothing is called
 * while it is held.
 */
#include "journal.h"

#include <stdbool.h>
#include <string.h>

typedef struct Line {
    JournalAbout about;
    char *text, *to_others;
} Line;

typedef struct Page {
    char *image;
    GQueue lines; /* of Line */
    GList link;   /* in Journal.order */
} Page;

struct Journal {
    GMutex lock;
    GHashTable *pages; /* image (the page's) -> Page, owned; protected by lock */
    GQueue order;      /* of Page, least recently used at the head; lock */
    GQueue running;    /* of Running, in the order in which they began; lock */
};

/* A command that runs. */
typedef struct Running {
    const void *whose;
    JournalAbout about;
    char *image, *line;
} Running;

static void line_free(Line *line)
{
    g_free(line->text);
    g_free(line->to_others);
    g_free(line);
}

static void running_free(Running *running)
{
    g_free(running->image);
    g_free(running->line);
    g_free(running);
}

static void page_free(Page *page)
{
    g_queue_clear_full(&page->lines, (GDestroyNotify)line_free);
    g_free(page->image);
    g_free(page);
}

Journal *journal_new(void)
{
    Journal *journal = g_new0(Journal, 1);

    g_mutex_init(&journal->lock);
    journal->pages =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)page_free);
    return journal;
}

void journal_free(Journal *journal)
{
    if (!journal)
        return;
    g_hash_table_unref(journal->pages);
    g_queue_clear_full(&journal->running, (GDestroyNotify)running_free);
    g_mutex_clear(&journal->lock);
    g_free(journal);
}

char *journal_cut(const char *text, size_t max)
{
    size_t n = strnlen(text, max + 1);

    if (n > max)
        for (n = max; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
            n--;
    return g_strndup(text, n);
}

/* The page of an image, made if there is none, as the most recently used. Lock held. */
static Page *page_touch(Journal *journal, const char *image)
{
    Page *page = g_hash_table_lookup(journal->pages, image);

    if (page) {
        g_queue_unlink(&journal->order, &page->link);
    } else {
        page = g_new0(Page, 1);
        page->image = g_strdup(image);
        page->link.data = page;
        g_hash_table_insert(journal->pages, page->image, page);
    }
    g_queue_push_tail_link(&journal->order, &page->link);
    return page;
}

static bool is_of_store(const Page *page)
{
    return *page->image == '\0';
}

static void drop_line(Page *page, GList *link)
{
    line_free(link->data);
    g_queue_delete_link(&page->lines, link);
}

/* The oldest line of a user, or of all (JOURNAL_ALL); ret_n: how many there are. */
static GList *oldest_line(Page *page, uid_t who, unsigned *ret_n)
{
    GList *oldest = NULL;

    *ret_n = 0;
    for (GList *link = page->lines.tail; link; link = link->prev) {
        if (who != JOURNAL_ALL && ((const Line *)link->data)->about.who != who)
            continue;
        oldest = link;
        ++*ret_n;
    }
    return oldest;
}

/* The user, other than root, whose last line is the oldest; ret_n: how many users there are. */
static uid_t least_recent_user(Page *page, unsigned *ret_n)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    uid_t found = 0;

    for (GList *link = page->lines.tail; link; link = link->prev) {
        uid_t who = ((const Line *)link->data)->about.who;

        if (g_hash_table_add(seen, GUINT_TO_POINTER(who)) && who != 0)
            found = who;
    }
    *ret_n = g_hash_table_size(seen);
    return found;
}

/* After a line of this user was added. */
static void page_shorten(Page *page, uid_t who)
{
    unsigned n;
    GList *oldest = oldest_line(page, is_of_store(page) ? who : JOURNAL_ALL, &n);

    if (n > JOURNAL_LINES)
        drop_line(page, oldest);
    if (!is_of_store(page))
        return;
    uid_t user = least_recent_user(page, &n);
    while (n > JOURNAL_USERS && (oldest = oldest_line(page, user, &(unsigned){0})))
        drop_line(page, oldest);
}

/* Lock held. */
static void drop_oldest_page(Journal *journal)
{
    Page *oldest = g_queue_pop_head_link(&journal->order)->data;

    if (is_of_store(oldest))
        g_queue_push_tail_link(&journal->order, &oldest->link);
    else
        g_hash_table_remove(journal->pages, oldest->image);
}

void journal_add(Journal *journal, const char *image, const JournalAbout *about, const char *text,
                 const char *to_others)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&journal->lock);
    Page *page = page_touch(journal, image);
    Line *line = g_new0(Line, 1);

    line->about = *about;
    line->text = journal_cut(text, JOURNAL_BYTES);
    line->to_others = journal_cut(to_others, JOURNAL_BYTES);
    g_queue_push_tail(&page->lines, line);
    page_shorten(page, about->who);
    while (journal->order.length > JOURNAL_IMAGES)
        drop_oldest_page(journal);
}

/* The link of a command's line in running; NULL when there is none. Lock held. */
static GList *running_find(Journal *journal, const char *image, const void *whose)
{
    for (GList *link = journal->running.head; link; link = link->next) {
        const Running *running = link->data;

        if (running->whose == whose && strcmp(running->image, image) == 0)
            return link;
    }
    return NULL;
}

void journal_set_running(Journal *journal, const char *image, const JournalAbout *about,
                         const void *whose, const char *line)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&journal->lock);
    GList *link = running_find(journal, image, whose);

    if (!link) {
        Running *running = g_new0(Running, 1);

        running->whose = whose;
        running->about = *about;
        running->image = g_strdup(image);
        g_queue_push_tail(&journal->running, running);
        link = journal->running.tail;
    }
    Running *running = link->data;
    g_free(running->line);
    running->line = journal_cut(line, JOURNAL_BYTES);
}

void journal_clear_running(Journal *journal, const char *image, const void *whose)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&journal->lock);
    GList *link = running_find(journal, image, whose);

    if (!link)
        return;
    running_free(link->data);
    g_queue_delete_link(&journal->running, link);
}

static bool is_about(const JournalAbout *about, const QcFileStat *file)
{
    const QcFileStat *f = &about->file;

    return !file || (qc_file_same_file(f, file) && f->btime == file->btime);
}

/* Whether a line about this is told the reader just as it was told who has asked. */
static bool is_told(const JournalAbout *about, uid_t reader)
{
    return reader == JOURNAL_ALL || reader == about->who;
}

char *journal_text(Journal *journal, const char *image, uid_t reader, const QcFileStat *file)
{
    bool of_image = *image != '\0';
    GString *text = g_string_new(NULL);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&journal->lock);
    Page *page = g_hash_table_lookup(journal->pages, image);

    for (GList *link = page ? page->lines.head : NULL; link; link = link->next) {
        const Line *line = link->data;
        bool told = is_told(&line->about, reader);

        if ((told || of_image) && is_about(&line->about, file))
            g_string_append_printf(text, "%s\n", told ? line->text : line->to_others);
    }
    for (GList *link = journal->running.head; link; link = link->next) {
        const Running *running = link->data;

        if (strcmp(running->image, image) == 0 && (of_image || is_told(&running->about, reader)) &&
            is_about(&running->about, file))
            g_string_append_printf(text, "%s\n", running->line);
    }
    return g_string_free(text, FALSE);
}
