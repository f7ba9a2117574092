/* sandbox.c - see sandbox.h. */
#include "sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum {
    LANDLOCK_TRUNCATES = 3, /* the first version that knows truncating */
};

/*
 * Of root's rights keep those to read and write images whatever their modes say, as the files of
 * virtual machines belong to QEMU's user, and to take leases, which tell whether an image is open
 * for writing.
 */
static int drop_capabilities(void)
{
    static const capng_act_t kept[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_LEASE};
    bool had[G_N_ELEMENTS(kept)];

    capng_get_caps_process();
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++)
        had[i] = capng_have_capability(CAPNG_PERMITTED, kept[i]);
    capng_clear(CAPNG_SELECT_BOTH);
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++) {
        if (had[i])
            capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, kept[i]);
    }
    return capng_apply(CAPNG_SELECT_CAPS) == 0 ? 0 : -EPERM;
}

/* A dump of this process would hold parts of disks. */
static int forbid_core_dumps(void)
{
    struct rlimit none = {0, 0};

    setrlimit(RLIMIT_CORE, &none);
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

static int forbid_new_privileges(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

static void say(GString *text, const char *what, int r)
{
    g_string_append_printf(text, "%s%s%s", text->len ? ", " : "", r < 0 ? "NOT " : "", what);
    if (r < 0)
        g_string_append_printf(text, " (%s)", g_strerror(-r));
}

char *sandbox_enter(const SandboxPolicy *policy)
{
    GString *text = g_string_new(NULL);
    int abi = 0;

    say(text, "no core dumps", forbid_core_dumps());
    say(text, "no capabilities but to reach files", drop_capabilities());
    say(text, "no new privileges", forbid_new_privileges());

    int r = sandbox_landlock(policy, &abi);
    g_autofree char *landlock =
        abi > 0 ? g_strdup_printf("Landlock (version %d%s)", abi,
                                  abi < LANDLOCK_TRUNCATES ? ": files can be truncated" : "")
                : g_strdup("Landlock");
    say(text, landlock, r);
    say(text, "seccomp", sandbox_seccomp(policy)); /* last: it forbids what the others need */
    return g_string_free(text, FALSE);
}
