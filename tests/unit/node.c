/* Inode numbers, the kernel's count of look-ups, and whether its pages may be kept. */
#include "node.h"

#include <criterion/criterion.h>

static Nodes *nodes;

static void set_up(void)
{
    nodes = nodes_new();
}

static void tear_down(void)
{
    nodes_free(nodes);
}

/* The number of a child of a node, which the kernel has now looked up. */
static uint64_t look_at(uint64_t parent, const char *name, NodeKind kind, uint64_t size)
{
    Node *node = nodes_get(nodes, parent);
    uint64_t ino = nodes_lookup(nodes, node, name, kind, size);

    node_unref(nodes, node);
    return ino;
}

static uint64_t look(uint64_t parent, const char *name, NodeKind kind)
{
    return look_at(parent, name, kind, 0);
}

static bool is_known(uint64_t ino)
{
    Node *node = nodes_get(nodes, ino);

    if (node)
        node_unref(nodes, node);
    return node != NULL;
}

TestSuite(node, .init = set_up, .fini = tear_down);

Test(node, numbers_are_stable_and_differ)
{
    uint64_t image = look(NODE_ROOT, "a", NODE_IMAGE);

    cr_expect_eq(look(NODE_ROOT, "a", NODE_IMAGE), image);
    cr_expect_neq(look(NODE_ROOT, "b", NODE_IMAGE), image);
    cr_expect_neq(look(NODE_ROOT, "a", NODE_DIR), image);
    cr_expect_neq(look(image, "a", NODE_SNAPSHOT), image);

    nodes_forget(nodes, image, 2);
    cr_expect_eq(look(NODE_ROOT, "a", NODE_IMAGE), image);
}

Test(node, lives_while_looked_up_or_parent)
{
    uint64_t image = look(NODE_ROOT, "a", NODE_IMAGE);
    uint64_t dir = look(image, "snapshots", NODE_SNAPSHOTS);

    look(NODE_ROOT, "a", NODE_IMAGE);
    nodes_forget(nodes, image, 1);
    cr_expect(is_known(image));
    nodes_forget(nodes, image, 1);
    cr_expect(is_known(image), "it has a child");
    nodes_forget(nodes, dir, 1);
    cr_expect_not(is_known(dir));
    cr_expect_not(is_known(image));
    nodes_forget(nodes, image, 5); /* unknown: no harm */
    nodes_forget(nodes, NODE_ROOT, 5);
    cr_expect(is_known(NODE_ROOT));
}

Test(node, paths)
{
    uint64_t dir = look(NODE_ROOT, "team", NODE_DIR);
    uint64_t image = look(dir, "web", NODE_IMAGE);
    uint64_t snapshots = look(image, "snapshots", NODE_SNAPSHOTS);
    uint64_t snapshot = look(snapshots, "one", NODE_SNAPSHOT);
    uint64_t control = look(NODE_ROOT, "control", NODE_CONTROL);
    const struct {
        uint64_t ino;
        const char *path;
        bool of_store;
    } want[] = {{NODE_ROOT, "", true},         {dir, "team", false},
                {image, "team/web", false},    {snapshots, "team/web", false},
                {snapshot, "team/web", false}, {control, "", true}};

    for (unsigned i = 0; i < G_N_ELEMENTS(want); i++) {
        Node *node = nodes_get(nodes, want[i].ino);
        g_autofree char *path = node_path(node);

        cr_expect_str_eq(path, want[i].path);
        cr_expect_eq(node_is_of_store(node), want[i].of_store);
        node_unref(nodes, node);
    }
}

Test(node, pages_are_kept_only_for_the_same_bytes)
{
    int none = 0;
    uint64_t ino = look(NODE_ROOT, "a", NODE_IMAGE);
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(node_pages_open(nodes, node, "one", 1000, &none), NODE_PAGES_NEW);
    cr_expect_eq(node_pages_open(nodes, node, "one", 1000, &none), NODE_PAGES_NEW,
                 "nothing was read yet");
    node_pages_settled(nodes, node);
    cr_expect_eq(node_pages_open(nodes, node, "one", 1000, &none), NODE_PAGES_KEEP);
    cr_expect_eq(node_pages_open(nodes, node, "two", 1000, &none), NODE_PAGES_DIRECT);
    cr_expect_eq(node_pages_open(nodes, node, NULL, 1000, &none), NODE_PAGES_DIRECT);
    for (int i = 0; i < 3; i++)
        node_pages_close(nodes, node);

    cr_expect_eq(node_pages_open(nodes, node, "two", 1000, &none), NODE_PAGES_NEW);
    node_pages_close(nodes, node);
    cr_expect_eq(node_pages_open(nodes, node, "two", 1000, &none), NODE_PAGES_KEEP);
    node_pages_spoil(nodes, node);
    cr_expect_eq(node_pages_open(nodes, node, "two", 1000, &none), NODE_PAGES_DIRECT);
    node_pages_close(nodes, node);
    cr_expect_eq(node_pages_open(nodes, node, "two", 1000, &none), NODE_PAGES_NEW);
    node_pages_close(nodes, node);
    cr_expect_eq(node_pages_open(nodes, node, NULL, 1000, &none), NODE_PAGES_NEW);
    node_pages_close(nodes, node);
    cr_expect_eq(node_pages_open(nodes, node, NULL, 1000, &none), NODE_PAGES_NEW,
                 "NULL equals nothing");
    node_pages_close(nodes, node);
    node_unref(nodes, node);
}

Test(node, all_who_read_the_same_have_the_kernel_read_the_same_file)
{
    uint64_t ino = look(NODE_ROOT, "a", NODE_IMAGE);
    Node *node = nodes_get(nodes, ino);
    int first = 3, second = 4, other = 5, none = 0;

    cr_expect_eq(node_pages_open(nodes, node, "one", 1000, &first), NODE_PAGES_NEW);
    cr_expect_eq(first, 3, "it was the first");
    node_pages_open(nodes, node, "one", 1000, &second);
    cr_expect_eq(second, 3, "there was one");
    cr_expect_eq(node_pages_open(nodes, node, "two", 1000, &other), NODE_PAGES_LEFT);
    cr_expect_eq(other, 0, "not with other bytes");
    cr_expect_neq(look_at(NODE_ROOT, "a", NODE_IMAGE, 1000), ino, "the name leads elsewhere");
    cr_expect_eq(node_pages_close(nodes, node), 0);
    cr_expect_eq(node_pages_close(nodes, node), 3, "the last one gets it back");

    second = 4;
    node_pages_open(nodes, node, "one", 1000, &second);
    cr_expect_eq(second, 4);
    cr_expect_eq(node_pages_close(nodes, node), 4);
    node_pages_open(nodes, node, "one", 1000, &none);
    second = 4;
    node_pages_open(nodes, node, "one", 1000, &second);
    cr_expect_eq(second, 0, "they read through the pages");
    cr_expect_eq(node_pages_close(nodes, node), 0);
    cr_expect_eq(node_pages_close(nodes, node), 0);
    node_unref(nodes, node);
}

Test(node, what_is_open_with_pages_keeps_its_size)
{
    int none = 0;
    uint64_t ino = look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 1000), other, size;
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(ino, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 500), "it is not open");
    cr_expect_not(node_pages_size(nodes, node, &size));
    node_pages_open(nodes, node, "one", 1000, &none);
    cr_expect_eq(ino, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 1000));
    other = look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 500);
    cr_expect_neq(ino, other, "the name leads to another file");
    cr_expect_eq(other, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 500));
    cr_expect_neq(ino, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 1000), "left for good");
    cr_expect(node_pages_size(nodes, node, &size));
    cr_expect_eq(size, 1000);
    node_pages_close(nodes, node);
    cr_expect_not(node_pages_size(nodes, node, &size));
    node_unref(nodes, node);
}

Test(node, an_open_disk_is_known_until_the_last_close)
{
    Node *node = nodes_get(nodes, look(NODE_ROOT, "disk", NODE_DISK));
    uint64_t size;

    cr_expect_not(node_is_open(nodes, node, &size));
    node_open(nodes, node, 1000);
    node_open(nodes, node, 2000);
    node_close(nodes, node);
    cr_expect(node_is_open(nodes, node, &size));
    cr_expect_eq(size, 2000);
    node_close(nodes, node);
    cr_expect_not(node_is_open(nodes, node, &size));
    node_unref(nodes, node);
}
