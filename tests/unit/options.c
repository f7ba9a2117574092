/* The command line: what is understood, and that what is wrong is named. */
#include "options.h"

#include <criterion/criterion.h>
#include <string.h>

static bool parse(Options *options, const char *line, GError **error)
{
    g_auto(GStrv) argv = NULL;
    int argc;

    memset(options, 0, sizeof(*options));
    cr_assert(g_shell_parse_argv(line, &argc, &argv, NULL));
    /* GOption moves the pointers about; the copy keeps them freeable. */
    g_autofree char **copy = g_memdup2(argv, sizeof(char *) * ((size_t)argc + 1));
    return options_parse(options, argc, copy, error);
}

Test(options, defaults)
{
    Options options;

    cr_assert(parse(&options, "snaptree STORE MNT", NULL));
    cr_expect_str_eq(options.store, "STORE");
    cr_expect_str_eq(options.mountpoint, "MNT");
    cr_expect_not(options.foreground || options.debug || options.read_only);
    cr_expect_eq(options.backing, QC_BACKING_STORE);
    cr_expect_eq(options.cache_mib, 64);
    options_clear(&options);
}

/* As mount(8) calls us for a line of fstab. */
Test(options, after_positionals_and_from_fstab)
{
    Options options;

    cr_assert(parse(&options,
                    "snaptree STORE MNT -o rw,nodev,suid,noauto,user,x-systemd.automount,_netdev "
                    "-o backing=any,cache=8,fsname=a\\\\,b,allow_other,io_uring",
                    NULL));
    cr_expect_eq(options.backing, QC_BACKING_ANY);
    cr_expect_eq(options.cache_mib, 8);
    cr_expect(options.io_uring);
    cr_expect(options.has_fsname);
    cr_expect(g_ptr_array_find_with_equal_func(options.fuse, "fsname=a,b", g_str_equal, NULL));
    cr_expect(g_ptr_array_find_with_equal_func(options.fuse, "allow_other", g_str_equal, NULL));
    cr_expect_not(g_ptr_array_find_with_equal_func(options.fuse, "user", g_str_equal, NULL));
    cr_expect_not(g_ptr_array_find_with_equal_func(options.fuse, "suid", g_str_equal, NULL));
    options_clear(&options);
}

/* Names of files and in the mount table are bytes, whatever the locale makes of them. */
Test(options, in_any_encoding)
{
    Options options;

    cr_assert(
        parse(&options, "snaptree -o fsname=B\xc3\xbcro,subtype=\xfc ST\xc3\x96RE M\xff", NULL));
    cr_expect(
        g_ptr_array_find_with_equal_func(options.fuse, "fsname=B\xc3\xbcro", g_str_equal, NULL));
    cr_expect(g_ptr_array_find_with_equal_func(options.fuse, "subtype=\xfc", g_str_equal, NULL));
    cr_expect_str_eq(options.store, "ST\xc3\x96RE");
    cr_expect_str_eq(options.mountpoint, "M\xff");
    options_clear(&options);
}

Test(options, flags)
{
    Options options;

    cr_assert(parse(&options, "snaptree -f -oro STORE MNT", NULL));
    cr_expect(options.foreground && options.read_only);
    options_clear(&options);
    cr_assert(parse(&options, "snaptree -o ro,rw STORE MNT", NULL));
    cr_expect_not(options.read_only, "the last one counts");
    options_clear(&options);
    cr_assert(parse(&options, "snaptree -o sandbox=off,clone_fd,max_threads=3 STORE MNT", NULL));
    cr_expect_not(options.sandbox);
    cr_expect(options.clone_fd);
    cr_expect_eq(options.max_threads, 3);
    options_clear(&options);
    cr_assert(parse(&options, "snaptree -o sandbox=off,sandbox=on,backing=deny STORE MNT", NULL));
    cr_expect(options.sandbox);
    cr_expect_eq(options.backing, QC_BACKING_DENY);
    options_clear(&options);
    cr_assert(parse(&options, "snaptree -d STORE MNT", NULL));
    cr_expect(options.foreground && options.debug);
    options_clear(&options);
    cr_assert(parse(&options, "snaptree --version", NULL));
    cr_expect(options.version);
    options_clear(&options);
    cr_assert(parse(&options, "snaptree -h", NULL));
    cr_expect(g_str_is_ascii(options.help) && strstr(options.help, "\n  -h, --help "));
    options_clear(&options);
}

/* Nothing behind "--" is an option, nor is nothing; and a backslash at the end is one. */
Test(options, odd_places)
{
    Options options;

    cr_assert(parse(&options, "snaptree -o ro,,cache=8, -- -oSTORE MNT", NULL));
    cr_expect(options.read_only);
    cr_expect_eq(options.cache_mib, 8);
    cr_expect_str_eq(options.store, "-oSTORE");
    options_clear(&options);
    cr_assert(parse(&options, "snaptree -o 'fsname=a\\' STORE MNT", NULL));
    cr_expect(g_ptr_array_find_with_equal_func(options.fuse, "fsname=a\\", g_str_equal, NULL));
    options_clear(&options);
}

Test(options, wrong_ones_are_named)
{
    static const struct {
        const char *line, *named;
    } wrong[] = {
        {"snaptree --frobnicate S M", "--frobnicate"},
        {"snaptree -q S M", "-q"},
        {"snaptree -o frobnicate S M", "frobnicate"},
        {"snaptree -o ro,frob=1 S M", "frob=1"},
        {"snaptree -o backing=some S M", "backing=some"},
        {"snaptree -o backing=x S M", "option -o backing=x: deny, store or any is needed"},
        {"snaptree -o cache=lots S M", "cache=lots"},
        {"snaptree -o cache=0 S M", "option -o cache=0: a number from 1 to 1048576 is needed"},
        {"snaptree -o max_threads=9999 S M", "max_threads=9999: a number from 1 to 1024 is needed"},
        {"snaptree -o max_read=x S M", "max_read=x: a number from 1 to 2147483647 is needed"},
        {"snaptree -o sandbox=0 S M", "option -o sandbox=0: on or off is needed"},
        {"snaptree -o fsname S M", "option -o fsname needs a value"},
        {"snaptree -o fsname= S M", "option -o fsname= needs a value"},
        {"snaptree -o rw,remount,ro S M", "option -o remount: this program only mounts"},
        {"snaptree -o S M", "unknown option -o S; what follows -o is taken for mount options"},
        {"snaptree S", "MOUNTPOINT is missing. Usage: snaptree [options] STORE MOUNTPOINT"},
        {"snaptree", "STORE is missing. Usage: snaptree [options] STORE MOUNTPOINT"},
        {"snaptree S M extra", "extra"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        Options options;

        cr_assert_not(parse(&options, wrong[i].line, &error), "%s", wrong[i].line);
        cr_expect(strstr(error->message, wrong[i].named), "%s: %s", wrong[i].line, error->message);
        cr_expect_not(strchr(error->message, '\n'));
        options_clear(&options);
    }
}
