/*
 * node.c - see node.h.
 *
 * An inode number is a hash of the parent's number, the kind, the name, and of a raw layer the
 * file's own number, so it is the same after a remount; should two collide, the later one takes the
 * next free number. A node lives as long as the kernel counts look-ups of it, it has children, or
 * the daemon holds a reference: `refs` counts children, references, and one for all look-ups
 * together, so the kernel's count and ours stay apart. A child holds its parent, so the path of a
 * node can be had without a lock: parent, name and kind never change.
 *
 * Nodes.lock protects table and counts. While it is held, nothing is called but functions of
 * pages.h, which lock a node's Pages.
 */
#include "node.h"

#include <string.h>

struct Node {
    uint64_t ino;
    Node *parent; /* a reference; NULL for the root */
    NodeFile file;
    uint64_t n_lookups; /* by the kernel; Nodes.lock */
    unsigned refs;      /* Nodes.lock */
    NodeKind kind;
    Pages *pages;       /* made when first asked for, and stays; Nodes.lock */
    unsigned opens;     /* Nodes.lock */
    uint64_t open_size; /* of the last of them; Nodes.lock */
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

/* Where to go on when a number is another's. */
static uint64_t next_ino(uint64_t ino)
{
    return MAX(ino + 1, NODE_ROOT + 1);
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
    pages_free(node->pages);
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

uint64_t nodes_lookup(Nodes *nodes, Node *parent, const char *name, NodeKind kind, NodeFile file,
                      uint64_t size)
{
    uint64_t ino = node_child_ino(parent, name, kind, file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    Node *node;

    while ((node = g_hash_table_lookup(nodes->table, &ino)) &&
           (!is_child(node, parent, name, kind, file) || pages_leave_if_resized(node->pages, size)))
        ino = next_ino(ino);
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

/* ---- open files -------------------------------------------------------------------------- */

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

Pages *node_pages(Nodes *nodes, Node *node)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    if (!node->pages)
        node->pages = pages_new();
    return node->pages;
}

bool node_pages_size(Nodes *nodes, const Node *node, uint64_t *ret)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);

    return pages_size(node->pages, ret);
}

void node_leave_others(Nodes *nodes, const Node *node, const PagesContent *content)
{
    uint64_t ino = node_child_ino(node->parent, node->name, node->kind, node->file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&nodes->lock);
    Node *other;

    /* The numbers that nodes_lookup() goes through. */
    for (; (other = g_hash_table_lookup(nodes->table, &ino)); ino = next_ino(ino)) {
        if (is_child(other, node->parent, node->name, node->kind, node->file))
            pages_leave_if_other(other->pages, content);
    }
}
