/*
 * journal.c - see journal.h.
 *
 * A page is the results of one control file, a queue of lines, newest at the tail. Pages hang
 * in a queue in the order of their last line, so that the oldest is found when there are too
 * many. Journal.lock protects everything; nothing is called while it is held.
 */
#include "journal.h"

#include <stdbool.h>
#include <string.h>

typedef struct Line {
    JournalAbout about;
    char *text;
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

void journal_add(Journal *journal, const char *image, const JournalAbout *about, const char *text)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&journal->lock);
    Page *page = page_touch(journal, image);
    Line *line = g_new0(Line, 1);

    line->about = *about;
    line->text = g_strndup(text, JOURNAL_BYTES);
    g_queue_push_tail(&page->lines, line);
    while (page->lines.length > JOURNAL_LINES)
        line_free(g_queue_pop_head(&page->lines));
    while (journal->order.length > JOURNAL_IMAGES) {
        Page *oldest = g_queue_pop_head_link(&journal->order)->data;

        g_hash_table_remove(journal->pages, oldest->image);
    }
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
    running->line = g_strndup(line, JOURNAL_BYTES);
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

static bool is_meant(const JournalAbout *about, uid_t who, const QcFileStat *file)
{
    const QcFileStat *f = &about->file;
    bool same = !file || (qc_file_same_file(f, file) && f->btime == file->btime);

    return same && (who == JOURNAL_ALL || who == about->who);
}

char *journal_text(Journal *journal, const char *image, uid_t who, const QcFileStat *file)
{
    GString *text = g_string_new(NULL);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&journal->lock);
    Page *page = g_hash_table_lookup(journal->pages, image);

    for (GList *link = page ? page->lines.head : NULL; link; link = link->next) {
        const Line *line = link->data;

        if (is_meant(&line->about, who, file))
            g_string_append_printf(text, "%s\n", line->text);
    }
    for (GList *link = journal->running.head; link; link = link->next) {
        const Running *running = link->data;

        if (strcmp(running->image, image) == 0 && is_meant(&running->about, who, file))
            g_string_append_printf(text, "%s\n", running->line);
    }
    return g_string_free(text, FALSE);
}
