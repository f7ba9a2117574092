/* What the gate opens, and what it does not. */
#include "qcow.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static char *root, *store;

static char *at(const char *name)
{
    return g_build_filename(root, name, NULL);
}

static void make_file(const char *name)
{
    g_autofree char *path = at(name);
    cr_assert(g_file_set_contents(path, name, -1, NULL));
}

static void make_link(const char *target, const char *name)
{
    g_autofree char *path = at(name);
    cr_assert_eq(symlink(target, path), 0);
}

static void setup(void)
{
    root = g_dir_make_tmp("gate-XXXXXX", NULL);
    store = at("store");
    g_autofree char *sub = at("store/sub"), *fifo = at("store/fifo");
    cr_assert_eq(g_mkdir(store, 0755), 0);
    cr_assert_eq(g_mkdir(sub, 0755), 0);
    cr_assert_eq(mkfifo(fifo, 0644), 0);
    make_file("secret");
    make_file("store/a");
    make_file("store/sub/b");
    make_link("../secret", "store/out");
    make_link("sub/b", "store/in");
    make_link("loop", "store/loop");
    make_link("/dev/zero", "store/zero");
    make_link("/dev", "store/dev");
    make_link("/dev/loop0", "store/volume");
    make_link("volume", "store/alias");
    g_autofree char *volume = at("store/volume");
    make_link(volume, "store/by-path");
    make_link("../outside-store/volume", "store/elsewhere");
    g_autofree char *absolute = at("store/a");
    make_link(absolute, "store/absolute");
    g_autofree char *dotted = at("./store/..//store/a");
    make_link(dotted, "store/dotted");
}

static void teardown(void)
{
    const char *argv[] = {"rm", "-rf", root, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                 NULL);
}

/* format with each word replaced. */
static char *replaced(const char *format, const char *word, const char *by)
{
    g_auto(GStrv) parts = g_strsplit(format, word, -1);
    return g_strjoinv(by, parts);
}

/* A name of the store in other words. */
static char *spelled(const char *format)
{
    g_autofree char *base = g_path_get_basename(root);
    g_autofree char *rooted = replaced(format, "ROOT", root);
    return replaced(rooted, "BASE", base);
}

static int try_open(QcGate *gate, const char *path)
{
    g_autoptr(QcFile) file = NULL;
    g_autoptr(GError) error = NULL;
    int err = qc_gate_open(gate, path, false, &file, &error);
    cr_expect_eq(err != 0, error != NULL, "%s", path);
    return err;
}

Test(gate, entries_of_the_store, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) gate = NULL;
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    cr_expect_eq(try_open(gate, "a"), 0);
    cr_expect_eq(try_open(gate, "sub/b"), 0);
    cr_expect_eq(try_open(gate, "sub/../a"), 0);
    cr_expect_eq(try_open(gate, "in"), 0, "a link inside the store");
    cr_expect_eq(try_open(gate, "absolute"), 0, "an absolute link into the store");
    cr_expect_eq(try_open(gate, "dotted"), 0, "the same in other words");
    cr_expect_eq(try_open(gate, "out"), -EXDEV, "a link out of it");
    cr_expect_eq(try_open(gate, "../secret"), -EXDEV);
    cr_expect_eq(try_open(gate, "sub/../../secret"), -EXDEV);
    cr_expect_eq(try_open(gate, "/etc/passwd"), -EXDEV);
    cr_expect_eq(try_open(gate, "none"), -ENOENT);
    cr_expect_eq(try_open(gate, "loop"), -ELOOP);
    cr_expect_eq(try_open(gate, "fifo"), -EOPNOTSUPP, "and without waiting for a writer");
    cr_expect_eq(try_open(gate, "zero"), -EXDEV, "a character device");
    cr_expect_eq(try_open(gate, "sub"), -EOPNOTSUPP);
    if (g_file_test("/dev/loop0", G_FILE_TEST_EXISTS) && access("/dev/loop0", R_OK) == 0) {
        cr_expect_eq(try_open(gate, "volume"), 0, "a link to a block device");
        cr_expect_eq(try_open(gate, "alias"), 0, "a link to such a link");
        cr_expect_eq(try_open(gate, "by-path"), 0, "the same by its absolute path");
    }
    cr_expect_eq(try_open(gate, "elsewhere"), -EXDEV);
    cr_expect_eq(try_open(gate, "dev/zero"), -EXDEV, "a link on the way is not followed");
    cr_expect_eq(try_open(gate, "dev/loop0"), -EXDEV, "not even to a block device");
}

static int try_backing(QcGate *gate, const char *overlay, const char *name, const char *want_path)
{
    g_autoptr(QcFile) file = NULL;
    g_autofree char *path = NULL;
    int err = qc_gate_open_backing(gate, overlay, name, &path, &file, NULL);
    if (err == 0)
        cr_expect_str_eq(path, want_path);
    return err;
}

Test(gate, backing_files, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) gate = NULL;
    g_autofree char *absolute = at("store/a"), *outside = at("secret");
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    cr_expect_eq(try_backing(gate, "x", "a", "a"), 0);
    cr_expect_eq(try_backing(gate, "sub/x", "b", "sub/b"), 0);
    cr_expect_eq(try_backing(gate, "sub/x", "../a", "sub/../a"), 0);
    cr_expect_eq(try_backing(gate, "x", "file:a", "a"), 0);
    cr_expect_eq(try_backing(gate, "sub/x", absolute, "a"), 0);
    cr_expect_eq(try_backing(gate, "x", outside, NULL), -EPERM);
    g_autofree char *beside = at("store-of-others/a"); /* there is one of that name inside */
    cr_expect_eq(try_backing(gate, "x", beside, NULL), -EPERM);
    cr_expect_eq(try_backing(gate, "x", "../secret", NULL), -EPERM);
    cr_expect_eq(try_backing(gate, "x", "out", NULL), -EPERM);
    cr_expect_eq(try_backing(gate, "x", "/dev/zero", NULL), -EPERM);
    cr_expect_eq(try_backing(gate, "x", "nbd://localhost/x", NULL), -EOPNOTSUPP);
    cr_expect_eq(try_backing(gate, "x", "fat:/etc", NULL), -EOPNOTSUPP);
    cr_expect_eq(try_backing(gate, "x", "json:{\"driver\":\"raw\"}", NULL), -EOPNOTSUPP);
    cr_expect_eq(try_backing(gate, "x", "fifo", NULL), -EOPNOTSUPP);
    cr_expect_eq(try_backing(gate, "x", "none", NULL), -ENOENT);
}

/* What a person is told: in a chain, that it is about the backing file, and how to help it. */
Test(gate, errors_of_backing_files, .init = setup, .fini = teardown)
{
    static const struct {
        const char *name, *begin, *within;
        int err;
    } cases[] = {
        {"", "the backing file's name", "is empty", -EINVAL},
        {"file:", "the backing file's name", "is empty", -EINVAL},
        {"../secret", "backing file ../secret", "lies outside the store", -EPERM},
        {"/secret", "backing file /secret", "qemu-img rebase -u", -EPERM},
        {"fifo", "backing file fifo", "is a FIFO", -EOPNOTSUPP},
        {"sub", "backing file sub", "is a directory", -EOPNOTSUPP},
        {"none", "backing file none", "No such file", -ENOENT},
    };
    g_autoptr(QcGate) gate = NULL;
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(QcFile) file = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *path = NULL;
        int err = qc_gate_open_backing(gate, "x", cases[i].name, &path, &file, &error);
        cr_expect_eq(err, cases[i].err, "%s: %d", cases[i].name, err);
        cr_assert_not_null(error);
        cr_expect(g_str_has_prefix(error->message, cases[i].begin), "%s", error->message);
        cr_expect_not_null(strstr(error->message, cases[i].within), "%s", error->message);
    }
}

/* Absolute paths say the same in many ways; what they say is enough to know that they are inside.
 */
Test(gate, spellings_of_the_store, .init = setup, .fini = teardown)
{
    static const struct {
        const char *name, *inside; /* NULL: refused */
    } cases[] = {
        {"ROOT/store//a", "a"},
        {"/ROOT//store/.//./a", "a"},
        {"file:ROOT/./store/a", "a"},
        {"ROOT/store/sub/../a", "sub/../a"},
        {"ROOT/store/../store/a", "a"},
        {"ROOT/../../../../../..ROOT/store/sub/b", "sub/b"},
        {"ROOT/store/../secret", NULL},
        {"ROOT/store/sub/../../secret", NULL},
        {"ROOT/store/sub/../../store/a", "sub/../a"},
        {"ROOT/store/short/../../store/a", NULL}, /* a link: the kernel follows it */
        {"ROOT/link/a", NULL},
        {"ROOT/link/../store/a", NULL}, /* which is another directory where the link leads */
        {"ROOT/store", NULL},
        {"ROOT/stor/a", NULL},
        {"ROOT/storea", NULL},
        {"/", NULL},
    };
    g_autoptr(QcGate) gate = NULL;
    make_link("store", "link");
    make_link("sub", "store/short");
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = spelled(cases[i].name);
        cr_expect_eq(try_backing(gate, "x", name, cases[i].inside), cases[i].inside ? 0 : -EPERM,
                     "%s", name);
    }
}

/* A relative name may leave the store, when its text says that it comes back by the store's real
 * path. What lies outside is not looked at; links inside are not passed on the way out. */
Test(gate, ways_out_of_the_store_and_back, .init = setup, .fini = teardown)
{
    static const struct {
        const char *overlay, *name, *inside; /* NULL: refused */
        int err;
    } cases[] = {
        {"x", "../store/a", "a", 0},
        {"x", "file:..//./store/./a", "a", 0},
        {"x", "../store/sub/../a", "sub/../a", 0},
        {"x", "../store/../store/a", "a", 0},
        {"x", "../../BASE/store/a", "a", 0},
        {"x", "../../../../../../../../..ROOT/store/sub/b", "sub/b", 0},
        {"x", "../store/in", "in", 0},
        {"sub/x", "../../store/a", "sub/../a", 0},
        {"sub/deep/x", "../.././../store/sub/b", "sub/deep/../.././sub/b", 0},
        {"x", "sub/../../store/a", "sub/../a", 0},
        {"turn/x", "../../store/b", "turn/../../store/b", 0}, /* as the kernel follows the link */
        {"turn/x", "../../store/a", NULL, -ENOENT},
        {"short/x", "../../store/a", NULL, -EPERM}, /* a link */
        {"sub/x", "../short/../../store/a", NULL, -EPERM},
        {"x", "../store", NULL, -EPERM},
        {"x", "../store/", NULL, -EPERM},
        {"x", "../stor/a", NULL, -EPERM},
        {"x", "../storea", NULL, -EPERM},
        {"x", "../link/a", NULL, -EPERM},
        {"x", "../link/../store/a", NULL, -EPERM},
        {"x", "../secret", NULL, -EPERM},
        {"x", "../store/../secret", NULL, -EPERM},
        {"x", "../store/out", NULL, -EPERM},
        {"x", "../store/dev/zero", NULL, -EPERM},
        {"x", "../store/sub/../../secret", NULL, -EPERM},
        {"x", "../store/sub/../../store/a", NULL, -EPERM}, /* leaves it twice */
        {"x", "out/../../store/a", NULL, -EPERM},
        {"x", "../store/none", NULL, -ENOENT},
        {"x", "none/../../store/a", NULL, -ENOENT},
        {"x", "a/../../store/a", NULL, -ENOTDIR},
        {"x", "../store/fifo", NULL, -EOPNOTSUPP},
    };
    static const char *const dirs[] = {"store/sub/deep", "store/store"};
    g_autofree char *link = at("link"), *walked = at("store/../store/a");
    for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *dir = at(dirs[i]);
        cr_assert_eq(g_mkdir(dir, 0755), 0);
    }
    make_file("store/store/b");
    make_link("sub", "store/short");
    make_link("sub/deep", "store/turn");
    make_link("store", "link");
    for (unsigned by_link = 0; by_link < 2; by_link++) {
        g_autoptr(QcGate) gate = NULL;
        cr_assert_eq(qc_gate_new(by_link ? link : store, QC_BACKING_STORE, &gate, NULL), 0);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
            g_autofree char *name = spelled(cases[i].name);
            int err = try_backing(gate, cases[i].overlay, name, cases[i].inside);
            cr_expect_eq(err, cases[i].err, "%s beside %s: %d", name, cases[i].overlay, err);
        }
    }
    g_autoptr(QcGate) deny = NULL, any = NULL;
    cr_assert_eq(qc_gate_new(store, QC_BACKING_DENY, &deny, NULL), 0);
    cr_assert_eq(qc_gate_new(store, QC_BACKING_ANY, &any, NULL), 0);
    cr_expect_eq(try_backing(deny, "x", "../store/a", NULL), -EPERM);
    cr_expect_eq(try_backing(any, "x", "../store/a", walked), 0, "which is followed");
}

/* So may the text of a link in the store. */
Test(gate, links_out_of_the_store_and_back, .init = setup, .fini = teardown)
{
    static const struct {
        const char *entry, *text;
        int err;
    } cases[] = {
        {"l", "../store/sub/b", 0},
        {"l", "../../BASE/store/a", 0},
        {"sub/l", "../../store/a", 0},
        {"l", "sub/../../store/a", 0},
        {"l", "../store/in", 0},
        {"l", "../store/absolute", 0},
        {"l", "ROOT/store/in", 0},
        {"l", "ROOT/store/absolute", 0},
        {"l", "ROOT/store/out", -EXDEV},
        {"l", "ROOT/store/dev/zero", -EXDEV},
        {"l", "ROOT/store/l", -EXDEV},
        {"l", "../store/none", -ENOENT},
        {"l", "../store/fifo", -EOPNOTSUPP},
        {"l", "../store/out", -EXDEV},
        {"l", "../store/dev/zero", -EXDEV},
        {"l", "../store/l", -EXDEV}, /* to itself, for ever */
        {"l", "../link/a", -EXDEV},
        {"l", "../store", -EXDEV},
        {"l", "../secret", -EXDEV},
        {"l", "../store/../secret", -EXDEV},
        {"l", "short/../../store/a", -EXDEV}, /* a link is passed on the way out */
        {"l", "../store/sub/../../store/a", -EXDEV},
    };
    g_autoptr(QcGate) gate = NULL;
    make_link("store", "link");
    make_link("sub", "store/short");
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = spelled(cases[i].text), *path = at("store");
        g_autofree char *link = g_build_filename(path, cases[i].entry, NULL);
        cr_assert_eq(symlink(text, link), 0);
        cr_expect_eq(try_open(gate, cases[i].entry), cases[i].err, "%s", text);
        g_unlink(link);
    }
}

/* Links that lead out of the store, and into it again, one to the next: eight of them. */
Test(gate, links_lead_to_each_other_as_often_as_is_allowed, .init = setup, .fini = teardown)
{
    static const char *const texts[] = {"l%u", "../store/l%u", "ROOT/store/l%u"};
    enum { MOST = 8 };
    g_autoptr(QcGate) gate = NULL;
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    make_link("absolute", "store/l1");
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *format = spelled(texts[i]);
        for (unsigned n = 2; n <= MOST; n++) {
            g_auto(GStrv) parts = g_strsplit(format, "%u", 2);
            g_autofree char *text = g_strdup_printf("%s%u", parts[0], n - 1);
            g_autofree char *name = g_strdup_printf("l%u", n);
            g_autofree char *link = g_build_filename(store, name, NULL);
            g_unlink(link);
            cr_assert_eq(symlink(text, link), 0);
            cr_expect_eq(try_open(gate, name), n < MOST ? 0 : -EXDEV, "%s: %u", texts[i], n);
        }
    }
}

/* A store that is mounted by a link has two names. */
Test(gate, two_names_of_the_store, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) gate = NULL;
    make_link("store", "link");
    g_autofree char *link = at("link"), *by_link = at("link//a"), *by_store = at("store/./a"),
                    *up = at("link/../link/a");
    cr_assert_eq(qc_gate_new(link, QC_BACKING_STORE, &gate, NULL), 0);
    cr_expect_eq(try_backing(gate, "x", by_link, "a"), 0);
    cr_expect_eq(try_backing(gate, "x", by_store, "a"), 0);
    cr_expect_eq(try_backing(gate, "x", up, NULL), -EPERM, "the link may lead elsewhere");
}

Test(gate, policies, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) deny = NULL, any = NULL;
    g_autofree char *outside = at("secret"), *inside = at("store/a");
    cr_assert_eq(qc_gate_new(store, QC_BACKING_DENY, &deny, NULL), 0);
    cr_assert_eq(qc_gate_new(store, QC_BACKING_ANY, &any, NULL), 0);
    cr_expect_eq(try_backing(deny, "x", "a", NULL), -EPERM);
    cr_expect_eq(try_open(deny, "a"), 0);
    cr_expect_eq(try_backing(any, "x", outside, outside), 0);
    cr_expect_eq(try_backing(any, "x", inside, "a"), 0);
    g_autofree char *dotted = at("store/../secret");
    cr_expect_eq(try_backing(any, "x", "../secret", dotted), 0);
    cr_expect_eq(try_backing(any, "x", "/dev/zero", NULL), -EOPNOTSUPP);
    make_link("turn", "round");
    make_link("round", "turn");
    cr_expect_eq(try_backing(any, "x", "../round", NULL), -ELOOP);
    cr_expect_eq(try_open(any, "out"), -EXDEV, "the store's own links stay inside all the same");
}

Test(gate, stores_that_are_none)
{
    g_autoptr(QcGate) gate = NULL;
    cr_expect_eq(qc_gate_new("/nonexistent/store", QC_BACKING_STORE, &gate, NULL), -ENOENT);
    cr_expect_eq(qc_gate_new("/etc/passwd", QC_BACKING_STORE, &gate, NULL), -ENOTDIR);
}

/* Its directory can be named, but nothing in it. */
Test(gate, a_store_that_may_not_be_entered, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) gate = NULL;
    cr_assert_eq(chmod(root, 0755), 0);
    cr_assert_eq(chmod(store, 0644), 0);
    uid_t us = geteuid();
    cr_assert(us != 0 || seteuid(65534) == 0);
    cr_expect_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), -EACCES);
    cr_assert_eq(seteuid(us), 0);
    cr_assert_eq(chmod(store, 0755), 0);
}

static int refuse_device(void *data, const char *path, bool write)
{
    (void)path, (void)write;
    ++*(unsigned *)data;
    return -EPERM;
}

Test(gate, a_regular_file_is_nothing_for_who_opens_devices, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) gate = NULL;
    unsigned asked = 0;
    cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
    qc_gate_set_device_opener(gate, refuse_device, &asked);
    cr_expect_eq(try_open(gate, "a"), 0);
    cr_expect_eq(try_backing(gate, "x", "a", "a"), 0);
    cr_expect_eq(asked, 0);
}

/* ---- names of the store alone ------------------------------------------------------------- */

static int try_plain(QcGate *gate, const char *path, int flags)
{
    int fd = qc_gate_open_plain(gate, path, flags);
    if (fd >= 0)
        close(fd);
    return MIN(fd, 0);
}

Test(gate, plain_names_lead_through_no_link, .init = setup, .fini = teardown)
{
    g_autoptr(QcGate) gate = NULL;
    struct stat st;
    make_link("sub", "store/short");
    cr_assert_eq(qc_gate_new(store, QC_BACKING_ANY, &gate, NULL), 0);
    cr_expect_eq(try_plain(gate, "", O_RDONLY | O_DIRECTORY), 0, "the store itself");
    cr_expect_eq(try_plain(gate, "sub/b", O_RDONLY), 0);
    cr_expect_eq(try_plain(gate, "in", O_RDONLY), -ELOOP);
    cr_expect_eq(try_plain(gate, "short/b", O_PATH), -ELOOP);
    cr_expect_eq(try_plain(gate, "short", O_RDONLY | O_DIRECTORY), -ENOTDIR);
    cr_expect_eq(try_plain(gate, "../secret", O_RDONLY), -EXDEV);
    cr_expect_eq(try_plain(gate, "sub/../../secret", O_RDONLY), -EXDEV);
    cr_expect_eq(try_plain(gate, "/etc/passwd", O_RDONLY), -EXDEV);
    cr_expect_eq(try_plain(gate, "none", O_PATH), -ENOENT);
    int fd = qc_gate_open_plain(gate, "out", O_PATH);
    cr_assert_eq(0, fstat(fd, &st));
    cr_expect(S_ISLNK(st.st_mode), "the link, not what it leads to");
    close(fd);
}

/* ---- a file system of our own -------------------------------------------------------------- */

static uint64_t device_of(const char *path)
{
    struct stat st;
    cr_assert_eq(0, stat(path, &st));
    return st.st_dev;
}

static int try_stat(QcGate *gate, const char *path)
{
    QcFileStat st;
    return qc_gate_stat(gate, path, &st);
}

/* As if the store were a part of the tree, which is mounted on it. */
Test(gate, what_lies_in_the_own_tree_is_not_opened, .init = setup, .fini = teardown)
{
    for (unsigned own = 0; own < 2; own++) {
        g_autoptr(QcGate) gate = NULL;
        int err = own ? -EDEADLK : 0;
        cr_assert_eq(qc_gate_new(store, QC_BACKING_STORE, &gate, NULL), 0);
        cr_expect_not(qc_gate_is_own(gate, qc_gate_dirfd(gate)), "there is none yet");
        qc_gate_set_own_device(gate, device_of(own ? store : "/proc"));
        cr_expect_eq(qc_gate_is_own(gate, qc_gate_dirfd(gate)), own == 1);
        cr_expect_not(qc_gate_is_own(gate, -1));
        cr_expect_eq(try_open(gate, "a"), err);
        cr_expect_eq(try_stat(gate, "a"), err);
        cr_expect_eq(try_backing(gate, "x", "a", "a"), err);
    }
}

/* Wherever backing files may lie: none is looked for there, nor on a way that leads through it. */
Test(gate, no_way_leads_through_the_own_tree, .init = setup, .fini = teardown)
{
    static const struct {
        const char *name;
        int err;
    } cases[] = {
        {"/proc/self/status", -EDEADLK},
        {"/proc", -EDEADLK},
        {"/proc/none", -EDEADLK},
        {"/proc/..ROOT/secret", -EDEADLK},
        {"ROOT/to-proc/self/status", -EDEADLK},
        {"ROOT/to-proc", -EDEADLK},
        {"ROOT/to-file", -EDEADLK},
        {"../to-file", -EDEADLK},
        {"ROOT/to-secret", 0},
        {"ROOT/to-store/sub/b", 0},
        {"ROOT/secret", 0},
        {"ROOT//.//secret", 0},
        {"ROOT/secret/x", -ENOTDIR},
    };
    g_autoptr(QcGate) gate = NULL;
    g_autofree char *secret = at("secret");
    make_link("/proc/", "to-proc");
    make_link("to-proc/self/status", "to-file");
    make_link(secret, "to-secret");
    make_link("store", "to-store");
    cr_assert_eq(qc_gate_new(store, QC_BACKING_ANY, &gate, NULL), 0);
    qc_gate_set_own_device(gate, device_of("/proc"));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = spelled(cases[i].name);
        int err = try_backing(gate, "x", name, name);
        cr_expect_eq(err, cases[i].err, "%s: %d", name, err);
        if (name[0] == '/') {
            cr_expect_eq(try_open(gate, name), cases[i].err, "%s", name);
            cr_expect_eq(try_stat(gate, name), cases[i].err, "%s", name);
        }
    }
}

/* As many links as the kernel follows. */
Test(gate, links_are_followed_until_there_are_too_many, .init = setup, .fini = teardown)
{
    enum { MOST = 40 };
    g_autoptr(QcGate) gate = NULL;
    make_link("secret", "1");
    for (unsigned i = 2; i <= MOST + 1; i++) {
        g_autofree char *name = g_strdup_printf("%u", i), *next = g_strdup_printf("%u", i - 1);
        make_link(next, name);
    }
    cr_assert_eq(qc_gate_new(store, QC_BACKING_ANY, &gate, NULL), 0);
    for (unsigned i = MOST; i <= MOST + 1; i++) {
        g_autofree char *name = g_strdup_printf("%s/%u", root, i);
        int fd = open(name, O_RDONLY | O_CLOEXEC), err = fd < 0 ? -errno : 0;
        cr_expect_eq(err, i == MOST ? 0 : -ELOOP, "so the kernel has it");
        cr_expect_eq(try_backing(gate, "x", name, name), err, "%u links", i);
        close(fd);
    }
}

/* ---- leases --------------------------------------------------------------------------------- */

typedef struct Lease {
    int fd;
    gint64 ended; /* when it was given back, monotonic */
} Lease;

static gpointer give_lease_back(gpointer data)
{
    Lease *lease = data;

    g_usleep(20000);
    fcntl(lease->fd, F_SETLEASE, F_UNLCK);
    lease->ended = g_get_monotonic_time();
    return NULL;
}

/* The result of opening beside a lease; 1: on a busy machine it was given back too late. */
static int open_beside_lease(QcGate *gate, const char *path)
{
    Lease lease = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    g_autoptr(QcFile) file = NULL;

    cr_assert_eq(0, fcntl(lease.fd, F_SETLEASE, F_RDLCK));
    gint64 start = g_get_monotonic_time();
    GThread *thread = g_thread_new("lease", give_lease_back, &lease);
    int r = qc_gate_open(gate, "a", true, &file, NULL);
    g_thread_join(thread);
    close(lease.fd);
    return r == -EBUSY && lease.ended - start > 90 * G_TIME_SPAN_MILLISECOND ? 1 : r;
}

/* So a thread of ours asks whether there are writers. */
Test(gate, a_lease_is_waited_for, .init = setup, .fini = teardown)
{
    g_autofree char *path = at("store/a");
    g_autoptr(QcGate) gate = NULL;
    int r = 1;

    signal(SIGIO, SIG_IGN);
    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_STORE, &gate, NULL));
    for (unsigned tries = 0; tries < 50 && r == 1; tries++)
        r = open_beside_lease(gate, path);
    cr_expect_eq(r, 0);
}

/* One that is kept, as the owner of a file can do: the kernel would wait for 45 s. */
Test(gate, a_lease_that_is_kept_is_not, .init = setup, .fini = teardown, .timeout = 40)
{
    g_autofree char *path = at("store/a");
    g_autoptr(QcGate) gate = NULL;

    signal(SIGIO, SIG_IGN);
    cr_assert_eq(0, qc_gate_new(store, QC_BACKING_STORE, &gate, NULL));
    for (unsigned write = 0; write < 2; write++) {
        g_autoptr(QcFile) file = NULL;
        g_autoptr(GError) error = NULL;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        cr_assert_eq(0, fcntl(fd, F_SETLEASE, F_WRLCK));
        cr_expect_eq(-EBUSY, qc_gate_open(gate, "a", write, &file, &error));
        cr_expect(error && strstr(error->message, "lease"));
        close(fd);
    }
}
