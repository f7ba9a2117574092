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

/* How the kernel is to read a file that is opened now. */
static NodePages open_as(Node *node, const char *what, const char *identity)
{
    int passed = 0;
    const NodeContent content = {.what = what, .identity = identity, .size = 1000};
    NodePages pages = node_pages_open(nodes, node, none, &content, &passed);

    cr_expect_eq(passed, 0);
    return pages;
}

static void close_as(Node *node, NodePages pages)
{
    cr_expect_eq(node_pages_close(nodes, node, pages), 0);
}

static void open_and_close(Node *node, const char *identity, NodePages expected)
{
    NodePages pages = open_as(node, "it", identity);

    cr_expect_eq(pages, expected);
    close_as(node, pages);
}

Test(node, pages_are_kept_only_for_the_same_bytes)
{
    uint64_t ino = look(NODE_ROOT, "a", NODE_IMAGE);
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(open_as(node, "it", "one"), NODE_PAGES_NEW);
    cr_expect_eq(open_as(node, "it", "one"), NODE_PAGES_NEW, "nothing was read yet");
    node_pages_settled(nodes, node);
    cr_expect_eq(open_as(node, "it", "one"), NODE_PAGES_KEEP);
    for (int i = 0; i < 3; i++)
        close_as(node, NODE_PAGES_NEW);

    open_and_close(node, "two", NODE_PAGES_NEW);
    cr_expect_eq(open_as(node, "it", "two"), NODE_PAGES_KEEP);
    node_pages_spoil(nodes, node);
    open_and_close(node, "two", NODE_PAGES_NEW);
    close_as(node, NODE_PAGES_KEEP);
    open_and_close(node, "two", NODE_PAGES_NEW);
    open_and_close(node, NULL, NODE_PAGES_NEW);
    open_and_close(node, NULL, NODE_PAGES_NEW); /* NULL equals nothing */
    node_unref(nodes, node);
}

Test(node, of_two_states_at_a_time_nothing_is_kept)
{
    uint64_t ino = look(NODE_ROOT, "a", NODE_IMAGE);
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(open_as(node, "it", "one"), NODE_PAGES_NEW);
    node_pages_settled(nodes, node);
    cr_expect_eq(open_as(node, "it", "two"), NODE_PAGES_NEW);
    node_pages_settled(nodes, node);
    open_and_close(node, "one", NODE_PAGES_NEW);
    open_and_close(node, "two", NODE_PAGES_NEW);
    close_as(node, NODE_PAGES_NEW);
    close_as(node, NODE_PAGES_NEW);
    open_and_close(node, "two", NODE_PAGES_NEW);
    open_and_close(node, "two", NODE_PAGES_KEEP);
    node_unref(nodes, node);
}

/* Also for who reads past the pages: mmap(2) and sendfile(2) would mix theirs. */
Test(node, another_thing_by_the_name_is_another_node)
{
    uint64_t ino = look(NODE_ROOT, "a", NODE_IMAGE);
    Node *node = nodes_get(nodes, ino);

    cr_expect_eq(open_as(node, "it", "one"), NODE_PAGES_NEW);
    cr_expect_eq(open_as(node, "that", "two"), NODE_PAGES_STALE);
    uint64_t next = look(NODE_ROOT, "a", NODE_IMAGE);
    cr_expect_neq(next, ino);
    Node *other = nodes_get(nodes, next);
    cr_expect_eq(open_as(other, "that", "two"), NODE_PAGES_NEW);
    close_as(other, NODE_PAGES_NEW);
    close_as(node, NODE_PAGES_NEW);
    open_and_close(node, "one", NODE_PAGES_KEEP);
    node_unref(nodes, other);
    node_unref(nodes, node);
}

/* ---- files that the kernel reads by itself ------------------------------------------------ */

static const NodeFile file_a = {1, 10}, file_b = {1, 11}, other_device = {2, 10};

/* Open with a number of a file, 0: none; the number that it is passed by, which is then the
 * node's. */
static int pass(Node *node, NodeFile file, int number, NodePages expected)
{
    const NodeContent content = {.what = "it", .identity = "one", .size = 1000};

    cr_expect_eq(node_pages_open(nodes, node, file, &content, &number), expected);
    return number;
}

static Node *node_of(NodeFile file)
{
    return nodes_get(nodes, look_at_file(NODE_ROOT, "1-base.raw", NODE_LAYER, file, 1000));
}

Test(node, another_file_by_the_name_is_another_node)
{
    Node *a = node_of(file_a), *b = node_of(file_b), *c = node_of(other_device);

    cr_expect_neq(a, b);
    cr_expect_neq(a, c);
    cr_expect_neq(node_ino(a), node_ino(c));
    cr_expect(node_file_equal(node_file(a), file_a));
    cr_expect_eq(node_ino(a),
                 node_child_ino(nodes_get(nodes, NODE_ROOT), "1-base.raw", NODE_LAYER, file_a));
    Node *again = node_of(file_a);
    cr_expect_eq(a, again);
    node_unref(nodes, again);
    node_unref(nodes, a);
    node_unref(nodes, b);
    node_unref(nodes, c);
}

Test(node, all_who_read_the_same_share_a_number)
{
    Node *node = node_of(file_a);

    cr_expect(node_may_pass(nodes, node, file_a));
    cr_expect_eq(pass(node, file_a, 3, NODE_PAGES_PASSED), 3);
    cr_expect_not(node_may_pass(nodes, node, file_a), "there is a number");
    cr_expect_eq(pass(node, file_a, 0, NODE_PAGES_PASSED), 3);
    cr_expect_eq(pass(node, file_a, 4, NODE_PAGES_PASSED), 3, "4 is still the caller's");
    cr_expect_eq(pass(node, file_b, 5, NODE_PAGES_STALE), 5, "this is not its file");
    cr_expect_eq(pass(node, none, 0, NODE_PAGES_STALE), 0);
    cr_expect_eq(node_pages_close(nodes, node, NODE_PAGES_PASSED), 0);
    cr_expect_eq(node_pages_close(nodes, node, NODE_PAGES_PASSED), 0);
    cr_expect_eq(node_pages_close(nodes, node, NODE_PAGES_PASSED), 3, "the last gives it back");

    cr_expect_eq(pass(node, file_a, 4, NODE_PAGES_PASSED), 4);
    cr_expect_eq(node_pages_close(nodes, node, NODE_PAGES_PASSED), 4);
    node_unref(nodes, node);
}

Test(node, who_is_not_passed_keeps_others_from_it)
{
    Node *node = node_of(file_a);

    pass(node, file_a, 0, NODE_PAGES_NEW);
    cr_expect_not(node_may_pass(nodes, node, file_a));
    cr_expect_eq(pass(node, file_a, 4, NODE_PAGES_NEW), 4, "they read through the pages");
    close_as(node, NODE_PAGES_NEW);
    close_as(node, NODE_PAGES_NEW);

    cr_expect_not(node_may_pass(nodes, node, file_b), "its file is another");
    cr_expect_eq(pass(node, file_b, 4, NODE_PAGES_KEEP), 4);
    pass(node, file_a, 0, NODE_PAGES_KEEP);
    node_pages_spoil(nodes, node);
    pass(node, file_a, 0, NODE_PAGES_NEW);
    close_as(node, NODE_PAGES_KEEP);
    close_as(node, NODE_PAGES_KEEP);
    cr_expect_not(node_may_pass(nodes, node, file_a), "somebody reads through the pages");
    close_as(node, NODE_PAGES_NEW);
    cr_expect(node_may_pass(nodes, node, file_a));
    node_unref(nodes, node);
}

Test(node, what_is_no_file_is_not_passed)
{
    Node *node = node_of(none);

    cr_expect_not(node_may_pass(nodes, node, none));
    node_unref(nodes, node);
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
    close_as(node, NODE_PAGES_NEW);
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
