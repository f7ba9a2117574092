/*
 * Nodes.
 *
 * An inode number is a hash of the parent's number, the kind, the name, and of a raw layer the
 * file's own number, so it is the same after a remount; should two collide, the later one takes the
 * next free number. A node lives as long as the kernel counts look-ups of it, it has children, or
 * somebody in the daemon holds a reference: `refs` counts children, references, and one for all
 * look-ups together, so the kernel's count and ours stay apart. A child holds its parent, so the
 * path of a node can be had without a lock: parent, name and kind never change.
 *
 * Pages: all handles that read through the kernel's page cache at the same time read the same thing
 * (Pages.what). An open that would read something else gets a new node under the same name;
 * bypassing the cache would not help, as mmap(2) and sendfile(2) use it anyway. A file of another
 * size is something else, too: the kernel ends reads at the size that it was told last for the
 * inode number. Pages from before are kept only where certainly no byte has changed
 * (Pages.identity).
 *
 * Passing: while the kernel reads a file by itself for a node, it opens nothing else by it, and
 * nothing by another number of the same file. So all who have a node open at the same time are
 * passed, or none is: n_passed is not 0, or opens is.
 *
 * One mutex protects table, counts and pages; nothing is called while it is held.
 */
#include "node.h"

#include <string.h>

typedef struct Pages {
    char *what;     /* is read through them while opens > 0 */
    char *identity; /* what the pages were filled from; NULL: do not keep them */
    uint64_t size;  /* of that */
    unsigned opens; /* that use them */
    bool settled;   /* the kernel has certainly dropped the pages of the identity before */
    unsigned n_passed;
    int passed; /* the kernel's number of the file, while n_passed > 0 */
} Pages;

struct Node {
    uint64_t ino;
    Node *parent; /* a reference; NULL for the root */
    NodeFile file;
    uint64_t n_lookups; /* by the kernel; Nodes.lock */
    unsigned refs;      /* Nodes.lock */
    NodeKind kind;
    Pages *pages;       /* NULL until opened; Nodes.lock */
    unsigned opens;     /* Nodes.lock */
    uint64_t open_size; /* of the last of them; Nodes.lock */
    bool left;          /* open when its name led elsewhere, and not to be used again; Nodes.lock */
    char name[];
};

struct Nodes {
    GMutex lock;
    GHashTable *table; /* inode number (the node's) -> Node; lock */
    Node *root;
};

/* ---- numbers ----------------------------------------------------------------------------- */

static uint64_t fnv(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Every bit of the result depends on every bit of x. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t node_child_ino(const Node *parent, const char *name, NodeKind kind, NodeFile file)
{
    unsigned char kind_byte = (unsigned char)kind;
    uint64_t hash = fnv(UINT64_C(0xcbf29ce484222325), &parent->ino, sizeof(parent->ino));

    hash = fnv(hash, &kind_byte, 1);
    if (file.ino) /* the device's number may be another after a reboot */
        hash = fnv(hash, &file.ino, sizeof(file.ino));
    hash = mix(fnv(hash, name, strlen(name)));
    return hash > NODE_ROOT ? hash : hash + NODE_ROOT + 1;
}

static guint hash_ino(gconstpointer key)
{
    return (guint) * (const uint64_t *)key; /* the numbers are hashes already */
}

/* ---- the table --------------------------------------------------------------------------- */

static Node *node_new(Node *parent, const char *name, NodeKind kind, NodeFile file, uint64_t ino)
{
    size_t len = strlen(name);
    Node *node = g_malloc0(sizeof(Node) + len + 1);

    node->ino = ino;
    node->parent = parent;
    node->file = file;
    node->kind = kind;
    memcpy(node->name, name, len);
    return node;
}

static void node_free(Node *node)
{
    if (node->pages) {
        g_free(node->pages->what);
        g_free(node->pages->identity);
    }
    g_free(node->pages);
    g_free(node);
}

Nodes *nodes_new(void)
{
    Nodes *nodes = g_new0(Nodes, 1);

    g_mutex_init(&nodes->lock);
    nodes->table = g_hash_table_new_full(hash_ino, g_int64_equal, NULL, (GDestroyNotify)node_free);
    nodes->root = node_new(NULL, "", NODE_DIR, (NodeFile){0}, NODE_ROOT);
    nodes->root->refs = 1;
    g_hash_table_insert(nodes->table, &nodes->root->ino, nodes->root);
    return nodes;
}

void nodes_free(Nodes *nodes)
{
    if (!nodes)
        return;
    g_hash_table_unref(nodes->table);
    g_mutex_clear(&nodes->lock);
    g_free(nodes);
}

/* Drop a reference, and the ones that the node held. Lock held. */
static void drop(Nodes *nodes, Node *node)
{
    while (node && --node->refs == 0) {
        Node *parent = node->parent;

        g_hash_table_remove(nodes->table, &node->ino);
        node = parent;
    }
}

Node *nodes_get(Nodes *nodes, uint64_t ino)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    Node *node = g_hash_table_lookup(nodes->table, &ino);

    if (node)
        node->refs++;
    return node;
}

void node_unref(Nodes *nodes, Node *node)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    drop(nodes, node);
}

static bool is_child(const Node *node, const Node *parent, const char *name, NodeKind kind,
                     NodeFile file)
{
    return node->parent == parent && node->kind == kind && node_file_equal(node->file, file) &&
           strcmp(node->name, name) == 0;
}

/* Lock held. */
static bool has_pages(const Node *node)
{
    return node->pages && node->pages->opens > 0;
}

/*
 * Mark the node as left behind when open pages show another size. True: the name needs another
 * node. Lock held.
 */
static bool leave_if_resized(Node *node, uint64_t size)
{
    node->left |= has_pages(node) && node->pages->size != size;
    return node->left;
}

uint64_t nodes_lookup(Nodes *nodes, Node *parent, const char *name, NodeKind kind, NodeFile file,
                      uint64_t size)
{
    uint64_t ino = node_child_ino(parent, name, kind, file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    Node *node;

    while ((node = g_hash_table_lookup(nodes->table, &ino)) &&
           (!is_child(node, parent, name, kind, file) || leave_if_resized(node, size)))
        ino = MAX(ino + 1, NODE_ROOT + 1);
    if (!node) {
        node = node_new(parent, name, kind, file, ino);
        parent->refs++;
        g_hash_table_insert(nodes->table, &node->ino, node);
    }
    if (node->n_lookups++ == 0)
        node->refs++;
    return ino;
}

void nodes_forget(Nodes *nodes, uint64_t ino, uint64_t n_lookups)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    Node *node = g_hash_table_lookup(nodes->table, &ino);

    if (!node || node->n_lookups == 0) /* the root is never looked up */
        return;
    node->n_lookups -= MIN(n_lookups, node->n_lookups);
    if (node->n_lookups == 0)
        drop(nodes, node);
}

/* ---- what a node is ---------------------------------------------------------------------- */

uint64_t node_ino(const Node *node)
{
    return node->ino;
}

NodeKind node_kind(const Node *node)
{
    return node->kind;
}

const char *node_name(const Node *node)
{
    return node->name;
}

NodeFile node_file(const Node *node)
{
    return node->file;
}

bool node_file_equal(NodeFile a, NodeFile b)
{
    return a.dev == b.dev && a.ino == b.ino;
}

static bool is_store_path(const Node *node)
{
    return node->kind == NODE_DIR || node->kind == NODE_IMAGE;
}

char *node_path(const Node *node)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autoptr(GString) path = g_string_new(NULL);

    while (!is_store_path(node))
        node = node->parent;
    for (; node->parent; node = node->parent)
        g_ptr_array_add(names, (gpointer)node->name);
    for (guint i = names->len; i-- > 0;)
        g_string_append_printf(path, "%s%s", path->len ? "/" : "", (char *)names->pdata[i]);
    return g_string_free(g_steal_pointer(&path), FALSE);
}

bool node_is_of_store(const Node *node)
{
    while (!is_store_path(node))
        node = node->parent;
    return node->parent == NULL;
}

/* ---- open disks -------------------------------------------------------------------------- */

void node_open(Nodes *nodes, Node *node, uint64_t size)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    node->opens++;
    node->open_size = size;
}

void node_close(Nodes *nodes, Node *node)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    node->opens--;
}

bool node_is_open(Nodes *nodes, const Node *node, uint64_t *ret_size)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    *ret_size = node->open_size;
    return node->opens > 0;
}

/* ---- pages ------------------------------------------------------------------------------- */

/* Take a number for the node, or join those who have one. Lock held. */
static NodePages pass(Pages *pages, int *passed)
{
    if (pages->n_passed++ == 0)
        pages->passed = *passed;
    *passed = pages->passed;
    return NODE_PAGES_PASSED;
}

static void set_text(char **text, const char *to)
{
    g_free(*text);
    *text = g_strdup(to);
}

/* Lock held. */
static NodePages use_pages(Node *node, const NodeContent *content)
{
    Pages *pages = node->pages;
    bool same = content->identity && g_strcmp0(pages->identity, content->identity) == 0;

    if (pages->opens > 0 &&
        (strcmp(pages->what, content->what) != 0 || pages->size != content->size)) {
        node->left = true;
        return NODE_PAGES_STALE;
    }
    if (!same) { /* of two identities at a time nobody knows whose page comes last */
        set_text(&pages->identity, pages->opens == 0 ? content->identity : NULL);
        pages->settled = false;
    }
    set_text(&pages->what, content->what);
    pages->size = content->size;
    pages->opens++;
    return same && pages->settled ? NODE_PAGES_KEEP : NODE_PAGES_NEW;
}

NodePages node_pages_open(Nodes *nodes, Node *node, NodeFile file, const NodeContent *content,
                          int *passed)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    if (!node->pages)
        node->pages = g_new0(Pages, 1);

    Pages *pages = node->pages;
    bool is_its = node_file_equal(file, node->file);
    if (pages->n_passed > 0)
        return is_its ? pass(pages, passed) : NODE_PAGES_STALE;
    if (*passed && is_its && pages->opens == 0)
        return pass(pages, passed);
    return use_pages(node, content);
}

int node_pages_close(Nodes *nodes, Node *node, NodePages how)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    Pages *pages = node->pages;

    if (how == NODE_PAGES_PASSED)
        return --pages->n_passed == 0 ? pages->passed : 0;
    pages->settled = true;
    pages->opens--;
    return 0;
}

bool node_may_pass(Nodes *nodes, const Node *node, NodeFile file)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    const Pages *pages = node->pages;

    return node->file.ino && node_file_equal(file, node->file) &&
           (!pages || (pages->n_passed == 0 && pages->opens == 0));
}

bool node_pages_size(Nodes *nodes, const Node *node, uint64_t *ret)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    if (!has_pages(node))
        return false;
    *ret = node->pages->size;
    return true;
}

void node_pages_settled(Nodes *nodes, Node *node)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    node->pages->settled = true;
}

void node_pages_spoil(Nodes *nodes, Node *node)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    if (node->pages)
        g_clear_pointer(&node->pages->identity, g_free);
}
