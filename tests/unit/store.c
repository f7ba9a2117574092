/* Where in the store an open file lies, and who gets there; what is listed, and for whom. */
#include "store.h"

#include "named.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* DIR/store/in/a.raw and DIR/store-2/in/a.raw, which all may read. */
static char *dir, *inside, *beside;

static char *make_file(const char *store)
{
    g_autofree char *at = g_build_filename(dir, store, NULL);
    g_autofree char *in = g_build_filename(at, "in", NULL);
    char *path = g_build_filename(in, "a.raw", NULL);

    cr_assert_eq(0, g_mkdir(at, 0755));
    cr_assert_eq(0, g_mkdir(in, 0755));
    cr_assert(g_file_set_contents(path, "bytes", 5, NULL));
    cr_assert_eq(0, chmod(path, 0644));
    return path;
}

static void remove_file(char *path)
{
    g_autofree char *in = g_path_get_dirname(path);
    g_autofree char *at = g_path_get_dirname(in);

    g_unlink(path);
    g_rmdir(in);
    g_rmdir(at);
    g_free(path);
}

static void set_up(void)
{
    dir = g_dir_make_tmp("store-XXXXXX", NULL);
    cr_assert_eq(0, chmod(dir, 0755));
    inside = make_file("store");
    beside = make_file("store-2");
}

static void tear_down(void)
{
    remove_file(inside);
    remove_file(beside);
    g_rmdir(dir);
    g_free(dir);
}

TestSuite(store, .init = set_up, .fini = tear_down);

/* The right of the others to search the directory of a file. */
static void let_others_pass(const char *path, bool let)
{
    g_autofree char *in = g_path_get_dirname(path);

    cr_assert_eq(0, chmod(in, let ? 0755 : 0750));
}

/* A file that is open, and the gate of a store. */
typedef struct Held {
    QcGate *gate;
    QcFile *file;
    QcFileStat stat;
} Held;

static Held hold(const char *store, const char *path)
{
    Held held = {0};

    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_STORE, &held.gate, NULL));
    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDONLY | O_CLOEXEC), &held.file));
    cr_assert_eq(0, qc_file_stat(held.file, &held.stat));
    return held;
}

static void held_clear(Held *held)
{
    qc_file_unref(held->file);
    qc_gate_unref(held->gate);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Held, held_clear)

/* How somebody else than the owner gets to the file; and what its mode is for all. */
static int reach(const char *store, const char *path, uint32_t *ret_mode)
{
    g_autoptr(Creds) others = creds_new(getuid() + 1, getgid() + 1, NULL, 0);
    g_auto(Held) held = hold(store, path);

    store_limit(held.gate, held.file, &held.stat);
    *ret_mode = held.stat.mode & 0777;
    return store_reach_file(held.gate, others, held.file);
}

static void expect_passing(const char *store, const char *path, bool passing)
{
    uint32_t mode;
    int r = reach(store, path, &mode);

    cr_expect_eq(r, passing ? 0 : -EACCES, "%s in %s: %d", path, store, r);
    cr_expect_eq(mode & S_IROTH, passing ? S_IROTH : 0, "%s in %s: %o", path, store, mode);
}

Test(store, a_file_is_reached_through_its_directories)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);

    expect_passing(store, inside, true);
    let_others_pass(inside, false);
    expect_passing(store, inside, false);
}

/* Of a store that is all there is, the path has nothing behind its only slash. */
Test(store, all_files_are_in_the_root)
{
    let_others_pass(inside, false);
    expect_passing("/", inside, false);
}

/* Its directories are not the store's, though its path begins as that of the store does. */
Test(store, a_file_beside_the_store_is_outside)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);

    let_others_pass(beside, false);
    expect_passing(store, beside, true);
}

/* Who owns both is none of the others: that he cannot pass is his matter. */
Test(store, what_the_owner_may_not_the_rest_may)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *in = g_path_get_dirname(inside);

    if (getuid() == 0) /* who can pass anyway */
        cr_assert(chown(in, 1, 1) == 0 && chown(inside, 1, 1) == 0);
    g_auto(Held) held = hold(store, inside);
    cr_assert_eq(0, chmod(in, 0055));
    store_limit(held.gate, held.file, &held.stat);
    cr_expect_eq(held.stat.mode & 0777, 0044, "%o", held.stat.mode);
    cr_assert_eq(0, chmod(in, 0755));
}

/* A directory's owner, group and mode, and a file's; and what is left of the file's 0777. */
static const struct {
    uint32_t dir_uid, dir_gid, dir_mode, uid, gid, left;
} below[] = {
    {1, 1, 0711, 1, 1, 0777}, /* each passes as the same */
    {1, 1, 0700, 1, 1, 0700}, {1, 1, 0710, 1, 1, 0770}, {1, 1, 0701, 1, 1, 0707},
    {1, 1, 0611, 1, 1, 0077}, {1, 1, 0711, 2, 2, 0777}, /* all pass, whoever they are */
    {1, 1, 0710, 2, 2, 0000}, /* the file's owner may be among the others, and so may its group */
    {1, 1, 0701, 2, 2, 0000}, /* or in the directory's group */
    {1, 1, 0611, 2, 2, 0700}, /* or the directory's owner, but not the file's */
    {0, 1, 0011, 2, 2, 0777}, /* who passes anyway */
    {1, 1, 0710, 2, 1, 0070}, {1, 1, 0701, 2, 1, 0007}, {1, 1, 0710, 1, 2, 0700},
    {1, 1, 0701, 1, 2, 0700},
};

Test(store, what_a_directory_leaves_of_a_mode)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *in = g_path_get_dirname(inside);
    g_auto(Held) held = hold(store, inside);
    bool as_others = getuid() == 0; /* who can give files away */

    for (size_t i = 0; i < G_N_ELEMENTS(below); i++) {
        bool same = below[i].dir_uid == below[i].uid && below[i].dir_gid == below[i].gid;

        if (!as_others && !same)
            continue;
        if (as_others)
            cr_assert_eq(0, chown(in, below[i].dir_uid, below[i].dir_gid));
        QcFileStat stat = {
            .uid = as_others ? below[i].uid : getuid(),
            .gid = as_others ? below[i].gid : getgid(),
            .mode = S_IFREG | 0777,
        };
        cr_assert_eq(0, chmod(in, below[i].dir_mode));
        store_limit(held.gate, held.file, &stat);
        cr_expect_eq(stat.mode, S_IFREG | below[i].left, "case %zu: %o", i, stat.mode);
    }
    cr_assert_eq(0, chmod(in, 0755));
}

/* Where the directories above a file cannot be told, nobody is let to it. */
Test(store, what_has_no_directory_any_more)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *in = g_path_get_dirname(inside);
    g_auto(Held) held = hold(store, inside);

    cr_assert(g_unlink(inside) == 0 && g_rmdir(in) == 0);
    store_limit(held.gate, held.file, &held.stat);
    cr_expect_eq(held.stat.mode & 0777, 0, "%o", held.stat.mode);
}

/* To search a directory is another right than to list it. */
Test(store, who_may_search_may_pass)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *in = g_path_get_dirname(inside);
    g_autoptr(Creds) others = creds_new(getuid() + 1, getgid() + 1, NULL, 0);
    g_autoptr(QcGate) gate = NULL;

    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_STORE, &gate, NULL));
    cr_assert_eq(0, chmod(in, 0711));
    cr_expect_eq(store_reach(gate, others, "in/a.raw"), 0);
    cr_assert_eq(0, chmod(in, 0744));
    cr_expect_eq(store_reach(gate, others, "in/a.raw"), -EACCES);
    cr_assert_eq(0, chmod(in, 0755));
}

/* A layer is reached by the way that its name takes, and where its file lies. */
Test(store, a_layer_is_reached_twice)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *link = g_build_filename(store, "link", NULL);
    g_autofree char *shut = g_build_filename(store, "shut", NULL);
    g_autoptr(Creds) others = creds_new(getuid() + 1, getgid() + 1, NULL, 0);
    g_auto(Held) held = hold(store, inside);

    cr_assert(symlink("in", link) == 0 && g_mkdir(shut, 0700) == 0);
    cr_expect_eq(store_reach(held.gate, others, "link/a.raw"), -ENOENT,
                 "a directory of ours is no link");
    cr_expect_eq(store_reach_layer(held.gate, others, "link/a.raw", held.file), 0);
    cr_expect_eq(store_reach_layer(held.gate, others, "shut/a.raw", held.file), -EACCES);
    let_others_pass(inside, false);
    cr_expect_eq(store_reach_layer(held.gate, others, "link/a.raw", held.file), -EACCES);
    cr_assert(g_unlink(link) == 0 && g_rmdir(shut) == 0);
}

/* ---- what cannot be read ------------------------------------------------------------------ */

/* The mode that somebody else than root is shown of a file of the store. */
static uint32_t mode_shown(const char *path)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autoptr(QcGate) gate = NULL;
    g_auto(StoreItem) item = {0};
    bool is_root = getuid() == 0;

    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_STORE, &gate, NULL));
    cr_assert(!is_root || seteuid(1) == 0);
    int r = store_look(gate, path, &item);
    cr_assert(!is_root || seteuid(0) == 0);
    cr_assert_eq(r, 0, "%s: %d", path, r);
    cr_expect_not_null(item.error);
    cr_expect_null(item.file);
    return item.stat.mode;
}

/* All may see that there is an error. Who may write to it is as it was, but for a link. */
Test(store, of_what_cannot_be_read_the_error_is_for_all)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *link = g_build_filename(store, "link.raw", NULL);

    cr_assert_eq(0, chmod(inside, 0));
    cr_expect_eq(mode_shown("in/a.raw"), 0444);
    cr_assert_eq(0, chmod(inside, 0311));
    cr_expect_eq(mode_shown("in/a.raw"), 0644);
    cr_assert_eq(0, symlink("nothing", link));
    cr_expect_eq(mode_shown("link.raw"), 0444);
    cr_assert_eq(0, g_unlink(link));
}

/* ---- listing ----------------------------------------------------------------------------- */

static int read_error; /* of the next directory: 0, or an errno */

struct dirent *__real_readdir64(DIR *of);
struct dirent *__wrap_readdir64(DIR *of);
struct dirent *__wrap_readdir64(DIR *of)
{
    if (read_error == 0)
        return __real_readdir64(of);
    errno = read_error;
    return NULL;
}

/* How many names somebody else than the owner, in that group, is shown; or -errno. */
static int list_in_group(const char *path, gid_t gid)
{
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autoptr(Creds) others = creds_new(getuid() + 1, gid, NULL, 0);
    g_autoptr(QcGate) gate = NULL;
    g_autoptr(GPtrArray) names = NULL;

    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_STORE, &gate, NULL));
    int r = store_list(gate, others, path, &names);
    return r < 0 ? r : (int)names->len;
}

static int list_as_others(const char *path)
{
    return list_in_group(path, getgid() + 1);
}

/* What is not listed would be taken for removed. */
Test(store, a_directory_that_cannot_be_read_is_not_empty)
{
    cr_expect_eq(list_as_others("in"), 1);
    read_error = EIO;
    cr_expect_eq(list_as_others("in"), -EIO);
}

Test(store, who_may_not_list_a_directory)
{
    g_autofree char *in = g_path_get_dirname(inside);
    g_autofree char *sub = g_build_filename(in, "sub", NULL);

    cr_assert_eq(0, g_mkdir(sub, 0755));
    cr_expect_eq(list_as_others("in/sub"), 0);
    let_others_pass(inside, false);
    cr_expect_eq(list_as_others("in"), -EACCES);
    cr_expect_eq(list_as_others("in/sub"), -EACCES, "it lies in one that they may not search");
    cr_assert_eq(0, g_rmdir(sub));
}

Test(store, what_the_named_may_list_the_group_may_not)
{
    g_autofree char *in = g_path_get_dirname(inside);

    cr_assert_eq(0, chmod(in, 0770));
    cr_expect_eq(list_in_group("in", getgid()), 1);
    bool has_lists = name_users(in, 1, 0);
    if (has_lists)
        cr_expect_eq(list_in_group("in", getgid()), -EACCES);
    else
        cr_skip_test("no lists on this file system");
}

Test(store, paths_that_a_person_types)
{
    static const char *const paths[][2] = {
        {"a", "a"},       {"./a//b/.", "a/b"}, {"a/", "a"},      {"..a/b..", "..a/b.."},
        {"", NULL},       {".", NULL},         {"/a", NULL},     {"..", NULL},
        {"a/../b", NULL}, {"a/..", NULL},      {"./..b", "..b"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *path = store_path_from_argument(paths[i][0]);

        cr_expect_str_eq(path ? path : "none", paths[i][1] ? paths[i][1] : "none", "%s: %s",
                         paths[i][0], path);
    }
}
