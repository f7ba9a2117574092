/* options.c - see options.h. */
#include "options.h"

#include <string.h>

/* The sanitizers' runtimes need what the sandbox takes away. */
#ifdef SNAPTREE_SANITIZED
#define SANDBOX_BY_DEFAULT false
#else
#define SANDBOX_BY_DEFAULT true
#endif

enum {
    DEFAULT_CACHE_MIB = 64,
    MAX_CACHE_MIB = 1 << 20,
    MAX_THREADS = 1024,
};

static const char summary[] =
    "Show a directory of virtual-machine disk images as a tree of plain files.\n"
    "To unmount it: fusermount3 -u MOUNTPOINT";

static const char description[] =
    "Options of -o, separated by commas:\n"
    "  backing=deny|store|any  which backing files an image may use: none, those inside STORE\n"
    "                          (the default), any\n"
    "  cache=MIB               memory for tables and decompressed data, from 1 to 1048576\n"
    "                          (default 64)\n"
    "  max_threads=N           threads that serve requests, from 1 to 1024 (default: 16, and\n"
    "                          more where there are many processors)\n"
    "  sandbox=on|off          on (the default): give up all rights that serving does not\n"
    "                          need; off: for debugging\n"
    "  clone_fd                use one descriptor of /dev/fuse for each thread\n"
    "  io_uring                take requests over io_uring; needs Linux 6.14 or later and Y in\n"
    "                          /sys/module/fuse/parameters/enable_uring\n"
    "  ro, rw                  read-only, without commands; or read-write (the default)\n"
    "  allow_other             other users may see the tree; file modes decide what they may do\n"
    "  allow_root              root may see the tree too\n"
    "  default_permissions, nosuid, nodev\n"
    "                          always on; accepted for compatibility\n"
    "  auto_unmount            unmount when the daemon dies\n"
    "  fsname=NAME             the source in the mount table (default STORE)\n"
    "  subtype=NAME            the type behind \"fuse.\" there (default snaptree)\n"
    "  max_read=BYTES, blkdev, exec, noexec, async, sync, dirsync, atime, noatime, context=,\n"
    "  fscontext=, defcontext=, rootcontext=\n"
    "                          as mount(8) has them\n"
    "\n"
    "Accepted and ignored, so that a line of fstab can have them: defaults, auto, noauto, user,\n"
    "nouser, users, nousers, owner, group, nofail, _netdev, comment=, x-*, X-*, relatime,\n"
    "norelatime, strictatime, nostrictatime, diratime, nodiratime, lazytime, nolazytime,\n"
    "iversion, noiversion, mand, nomand, symfollow, nosymfollow, silent, loud, suid, dev.\n";

/* Options for libfuse and the kernel; a '=' at the end asks for a value. */
static const char *const passed[] = {
    "ro",      "rw",       "allow_other", "allow_root", "auto_unmount", "max_read=",    "blkdev",
    "exec",    "noexec",   "async",       "sync",       "dirsync",      "atime",        "noatime",
    "fsname=", "subtype=", "context=",    "fscontext=", "defcontext=",  "rootcontext=",
};

/* Those that are for us, and have a value. */
static const char *const own[] = {"backing=", "cache=", "max_threads=", "sandbox="};

/* suid and dev are added by mount.fuse3 when root runs it and the line of fstab does not mind. */
static const char *const ignored[] = {
    "default_permissions",
    "nosuid",
    "nodev",
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "comment=",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "symfollow",
    "nosymfollow",
    "silent",
    "loud",
    "suid",
    "dev",
};

static bool is_key(const char *option, const char *key)
{
    size_t len = strlen(key);

    return key[len - 1] == '=' ? strncmp(option, key, len) == 0 : strcmp(option, key) == 0;
}

static bool is_one_of(const char *option, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (is_key(option, keys[i]))
            return true;
    }
    return false;
}

/* Whether it is the name of an option that has a value, without one. */
static bool lacks_value(const char *option)
{
    g_autofree char *key = g_strconcat(option, "=", NULL);

    return strchr(option, '=') == NULL && (is_one_of(key, own, G_N_ELEMENTS(own)) ||
                                           is_one_of(key, passed, G_N_ELEMENTS(passed)) ||
                                           is_one_of(key, ignored, G_N_ELEMENTS(ignored)));
}

static bool bad_value(const char *option, const char *allowed, GError **error)
{
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "option -o %s: %s is needed",
                option, allowed);
    return false;
}

static bool no_value(const char *option, GError **error)
{
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "option -o %s needs a value",
                option);
    return false;
}

/* What mount(8) asks for by a helper, unless told not to. The kernel alone can do it. */
static bool no_remount(GError **error)
{
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "option -o remount: this program only mounts; for ro and rw use "
                "mount -i -o remount,bind, for other options unmount and mount again");
    return false;
}

static bool set_backing(Options *options, const char *option, const char *value, GError **error)
{
    if (strcmp(value, "deny") == 0)
        options->backing = QC_BACKING_DENY;
    else if (strcmp(value, "store") == 0)
        options->backing = QC_BACKING_STORE;
    else if (strcmp(value, "any") == 0)
        options->backing = QC_BACKING_ANY;
    else
        return bad_value(option, "deny, store or any", error);
    return true;
}

static bool set_number(unsigned *number, unsigned max, const char *option, GError **error)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(strchr(option, '=') + 1, 10, 1, max, &value, NULL)) {
        g_autofree char *allowed = g_strdup_printf("a number from 1 to %u", max);

        return bad_value(option, allowed, error);
    }
    *number = (unsigned)value;
    return true;
}

static bool set_switch(bool *on, const char *option, GError **error)
{
    const char *value = strchr(option, '=') + 1;

    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return bad_value(option, "on or off", error);
    *on = strcmp(value, "on") == 0;
    return true;
}

/* An option without a value that is for us. */
static bool set_flag(Options *options, const char *option)
{
    if (strcmp(option, "clone_fd") == 0)
        options->clone_fd = true;
    else if (strcmp(option, "io_uring") == 0)
        options->io_uring = true;
    else
        return false;
    return true;
}

/* Pass an option on, and note what we want to know of it. */
static bool pass(Options *options, const char *option, GError **error)
{
    if (g_str_has_suffix(option, "="))
        return no_value(option, error);
    if (is_key(option, "max_read=") && !set_number(&options->max_read, G_MAXINT32, option, error))
        return false;
    if (strcmp(option, "ro") == 0)
        options->read_only = true;
    if (strcmp(option, "rw") == 0)
        options->read_only = false;
    options->has_fsname |= is_key(option, "fsname=");
    options->has_subtype |= is_key(option, "subtype=");
    g_ptr_array_add(options->fuse, g_strdup(option));
    return true;
}

static bool set_one(Options *options, const char *option, GError **error)
{
    if (is_key(option, "backing="))
        return set_backing(options, option, strchr(option, '=') + 1, error);
    if (is_key(option, "cache="))
        return set_number(&options->cache_mib, MAX_CACHE_MIB, option, error);
    if (is_key(option, "max_threads="))
        return set_number(&options->max_threads, MAX_THREADS, option, error);
    if (is_key(option, "sandbox="))
        return set_switch(&options->sandbox, option, error);
    if (set_flag(options, option))
        return true;
    if (is_one_of(option, passed, G_N_ELEMENTS(passed)))
        return pass(options, option, error);
    if (g_ascii_strncasecmp(option, "x-", 2) == 0 ||
        is_one_of(option, ignored, G_N_ELEMENTS(ignored)))
        return true;
    if (lacks_value(option))
        return no_value(option, error);
    if (strcmp(option, "remount") == 0)
        return no_remount(error);
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_UNKNOWN_OPTION,
                "unknown option -o %s; what follows -o is taken for mount options, which --help "
                "lists",
                option);
    return false;
}

/* The options of one -o: split at commas, but not at "\,". */
static GPtrArray *split_commas(const char *text)
{
    GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) part = g_string_new(NULL);

    for (;; text++) {
        if (*text == '\\' && text[1]) {
            g_string_append_c(part, *++text);
        } else if (*text && *text != ',') {
            g_string_append_c(part, *text);
        } else {
            if (part->len)
                g_ptr_array_add(parts, g_strdup(part->str));
            g_string_truncate(part, 0);
            if (!*text)
                return parts;
        }
    }
}

static gboolean on_option(const char *name, const char *value, gpointer data, GError **error)
{
    g_autoptr(GPtrArray) parts = split_commas(value);

    (void)name;
    for (guint i = 0; i < parts->len; i++) {
        if (!set_one(data, parts->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}

static bool set_positionals(Options *options, char **rest, GError **error)
{
    unsigned n = rest ? g_strv_length(rest) : 0;

    if (n < 2) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
                    "%s is missing. Usage: snaptree [options] STORE MOUNTPOINT",
                    n == 0 ? "STORE" : "MOUNTPOINT");
        return false;
    }
    if (n > 2) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "unexpected argument %s",
                    rest[2]);
        return false;
    }
    options->store = g_strdup(rest[0]);
    options->mountpoint = g_strdup(rest[1]);
    return true;
}

/* The arguments with "-oVALUE" taken apart, which GOption does not do. Strings are argv's. */
static char **separate_values(int argc, char **argv, GPtrArray *made)
{
    bool options_end = false;

    for (int i = 0; i < argc; i++) {
        options_end |= strcmp(argv[i], "--") == 0;
        if (!options_end && g_str_has_prefix(argv[i], "-o") && argv[i][2]) {
            g_ptr_array_add(made, "-o");
            g_ptr_array_add(made, argv[i] + 2);
        } else {
            g_ptr_array_add(made, argv[i]);
        }
    }
    g_ptr_array_add(made, NULL);
    return (char **)made->pdata;
}

/* GLib's text, but for a character in it that ASCII lacks: GLib prints '?' in its place. */
static char *help_of(GOptionContext *context)
{
    g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
    GString *text = g_string_new(help);

    g_string_replace(text, "[OPTION\342\200\246]", "[options]", 1);
    return g_string_free(text, FALSE);
}

bool options_parse(Options *options, int argc, char **argv, GError **error)
{
    g_auto(GStrv) rest = NULL;
    gboolean foreground = FALSE, debug = FALSE, help = FALSE, version = FALSE;
    GOptionEntry entries[] = {
        {"foreground", 'f', 0, G_OPTION_ARG_NONE, &foreground,
         "Stay in the foreground, log to standard error", NULL},
        {"debug", 'd', 0, G_OPTION_ARG_NONE, &debug, "Print every request; implies -f", NULL},
        {"option", 'o', G_OPTION_FLAG_FILENAME /* bytes, in any locale */, G_OPTION_ARG_CALLBACK,
         (gpointer)on_option, "Mount options, see below", "OPTION[,OPTION...]"},
        {"help", 'h', 0, G_OPTION_ARG_NONE, &help, "Print this", NULL},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &version, "Print the version", NULL},
        {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &rest, NULL, "STORE MOUNTPOINT"},
        G_OPTION_ENTRY_NULL};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    GOptionGroup *group = g_option_group_new("snaptree", "", "", options, NULL);

    options->backing = QC_BACKING_STORE;
    options->sandbox = SANDBOX_BY_DEFAULT;
    options->cache_mib = DEFAULT_CACHE_MIB;
    options->fuse = g_ptr_array_new_with_free_func(g_free);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, group);
    g_option_context_set_summary(context, summary);
    g_option_context_set_description(context, description);
    g_autoptr(GPtrArray) made = g_ptr_array_new();
    argv = separate_values(argc, argv, made);
    argc = (int)made->len - 1;
    if (!g_option_context_parse(context, &argc, &argv, error))
        return false;

    options->help = help ? help_of(context) : NULL;
    options->version = version;
    options->debug = debug;
    options->foreground = foreground || debug;
    return help || version || set_positionals(options, rest, error);
}

void options_clear(Options *options)
{
    g_free(options->store);
    g_free(options->mountpoint);
    g_free(options->help);
    if (options->fuse)
        g_ptr_array_unref(options->fuse);
    memset(options, 0, sizeof(*options));
}
