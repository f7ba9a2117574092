/* Inode numbers, the kernel's count of look-ups, and which node a name leads to. */
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

static const NodeFile none;

/* The number of a child of a node, which the kernel has now looked up. */
static uint64_t look_at_file(uint64_t parent, const char *name, NodeKind kind, NodeFile file,
                             uint64_t size)
{
    Node *node = nodes_get(nodes, parent);
    uint64_t ino = nodes_lookup(nodes, node, name, kind, file, size);

    node_unref(nodes, node);
    return ino;
}

static uint64_t look_at(uint64_t parent, const char *name, NodeKind kind, uint64_t size)
{
    return look_at_file(parent, name, kind, none, size);
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

/* By themselves: else a number would depend on what was looked up before. */
Test(node, numbers_are_of_all_that_makes_a_node)
{
    Node *root = nodes_get(nodes, NODE_ROOT);
    Node *dir = nodes_get(nodes, look(NODE_ROOT, "dir", NODE_DIR));
    const NodeFile file = {.dev = 1, .ino = 2}, other = {.dev = 1, .ino = 3};
    const NodeFile same = {.dev = 4, .ino = 2}; /* after a reboot */
    uint64_t ino = node_child_ino(root, "a", NODE_LAYER, file);

    cr_expect_neq(ino, node_child_ino(dir, "a", NODE_LAYER, file));
    cr_expect_neq(ino, node_child_ino(root, "b", NODE_LAYER, file));
    cr_expect_neq(ino, node_child_ino(root, "a", NODE_SNAPSHOT, file));
    cr_expect_neq(ino, node_child_ino(root, "a", NODE_LAYER, other));
    cr_expect_neq(ino, node_child_ino(root, "a", NODE_LAYER, none));
    cr_expect_eq(ino, node_child_ino(root, "a", NODE_LAYER, same));
    node_unref(nodes, dir);
    node_unref(nodes, root);
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

Test(node, look_ups_are_counted)
{
    uint64_t image = look(NODE_ROOT, "a", NODE_IMAGE);
    uint64_t disk = look(image, "disk", NODE_DISK);

    look(image, "disk", NODE_DISK);
    nodes_forget(nodes, disk, 1);
    cr_expect(is_known(disk), "it was looked up twice");
    nodes_forget(nodes, image, 5); /* more than there were: as if all */
    cr_expect(is_known(image), "it has a child");
    nodes_forget(nodes, disk, 1);
    cr_expect_not(is_known(disk));
    cr_expect_not(is_known(image));
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

enum {
    THING = 1000, /* bytes of it */
};

/* Open a node with pages of a thing. */
static PagesUse open_as(Node *node, const char *what, const char *identity)
{
    const PagesContent content = {.what = what, .identity = identity, .size = THING};
    int passed = 0;

    return pages_open(node_pages(nodes, node), &content, &passed);
}

static void close_pages(Node *node)
{
    pages_close(node_pages(nodes, node), PAGES_NEW);
}

/* Also for who reads past the pages: mmap(2) and sendfile(2) would mix theirs. */
Test(node, another_thing_by_the_name_is_another_node)
{
    uint64_t ino = look_at(NODE_ROOT, "a", NODE_IMAGE, THING);
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(open_as(node, "it", "one"), PAGES_NEW);
    cr_expect_eq(open_as(node, "that", "two"), PAGES_STALE);
    uint64_t next = look_at(NODE_ROOT, "a", NODE_IMAGE, THING);
    cr_expect_neq(next, ino);
    Node *other = nodes_get(nodes, next);
    cr_expect_eq(open_as(other, "that", "two"), PAGES_NEW);
    close_pages(other);
    close_pages(node);
    cr_expect_eq(open_as(node, "it", "one"), PAGES_KEEP);
    close_pages(node);
    node_unref(nodes, other);
    node_unref(nodes, node);
}

/* The kernel looks up a name once more after ESTALE, and then gives up. */
static Node *look_at_thing(void)
{
    return nodes_get(nodes, look_at(NODE_ROOT, "a", NODE_IMAGE, THING));
}

Test(node, of_several_old_things_by_the_name_none_is_found_again)
{
    Node *first = look_at_thing(), *second, *third;
    uint64_t forgotten = node_ino(first);
    const PagesContent fourth = {.what = "fourth", .size = THING};

    cr_expect_eq(open_as(first, "first", NULL), PAGES_NEW);
    cr_expect_eq(open_as(first, "second", NULL), PAGES_STALE);
    second = look_at_thing();
    cr_expect_eq(open_as(second, "second", NULL), PAGES_NEW);
    close_pages(first);
    node_unref(nodes, first);
    nodes_forget(nodes, forgotten, 1);

    third = look_at_thing(); /* in the place of the first */
    cr_expect_neq(third, second);
    cr_expect_eq(open_as(third, "third", NULL), PAGES_NEW);
    cr_expect_eq(open_as(third, "fourth", NULL), PAGES_STALE);
    node_leave_others(nodes, third, &fourth);
    Node *found = look_at_thing();
    cr_expect_eq(open_as(found, "fourth", NULL), PAGES_NEW);
    close_pages(found);
    close_pages(third);
    close_pages(second);
    node_unref(nodes, found);
    node_unref(nodes, third);
    node_unref(nodes, second);
}

Test(node, another_file_by_the_name_is_another_node)
{
    const NodeFile file_a = {1, 10}, file_b = {1, 11}, other_device = {2, 10};
    const NodeFile files[] = {file_a, file_b, other_device, file_a};
    Node *found[G_N_ELEMENTS(files)];

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
        found[i] =
            nodes_get(nodes, look_at_file(NODE_ROOT, "1-base.raw", NODE_LAYER, files[i], 1000));
    cr_expect_neq(found[0], found[1]);
    cr_expect_neq(found[0], found[2]);
    cr_expect_neq(node_ino(found[0]), node_ino(found[2]));
    cr_expect_eq(found[0], found[3]);
    cr_expect(node_file_equal(node_file(found[0]), file_a));
    cr_expect_not(node_file_equal(node_file(found[0]), file_b));
    cr_expect_eq(node_ino(found[0]),
                 node_child_ino(nodes_get(nodes, NODE_ROOT), "1-base.raw", NODE_LAYER, file_a));
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
        node_unref(nodes, found[i]);
}

Test(node, what_is_open_with_pages_keeps_its_size)
{
    uint64_t ino = look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 1000), other, size;
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(ino, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 500), "it is not open");
    cr_expect_not(node_pages_size(nodes, node, &size));
    open_as(node, "it", "one");
    cr_expect_eq(ino, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 1000));
    other = look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 500);
    cr_expect_neq(ino, other, "the name leads to another file");
    cr_expect_eq(other, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 500));
    cr_expect_neq(ino, look_at(NODE_ROOT, "monday", NODE_SNAPSHOT, 1000), "left for good");
    cr_expect(node_pages_size(nodes, node, &size));
    cr_expect_eq(size, 1000);
    close_pages(node);
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
