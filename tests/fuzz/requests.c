/*
 * Fuzz target: the requests of a kernel, in any order that a kernel can send them in, and what
 * happens to the store meanwhile. The input is a byte that says who mounts and how, and then
 * requests, each with what it needs to be made.
 *
 * What the kernel cannot do is not done here either: inode numbers and handles are ones that were
 * given out, nothing that is open is forgotten, and nothing is released while it is in use. For
 * that much the daemon relies on it. What must come of it: every request is answered once
 * (kernel.c); what a snapshot was once read as, it is through the same handle for ever; what the
 * kernel has not forgotten is there; and of what it has forgotten, nothing is left.
 */
#include "scene.h"
#include "world.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

enum {
    MAX_STEPS = 200,
    THREADS = 3,
};

/* ---- the steps ----------------------------------------------------------------------------- */

static bool is_dir(const Known *known)
{
    return known->is_dir;
}

static bool is_file(const Known *known)
{
    return !known->is_dir;
}

static const char *const names[] = {
    "a.qcow2", "sub", "b.qcow2", "c.raw",  "control", "info.json", "disk",      "snapshots",
    "layers",  "one", "two",     "new",    "error",   "0-a.qcow2", "0-b.qcow2", "0-c.raw",
    "%2F",     "..",  "one~1",   "nobody", "a\nb",    "\xff\xfe",  ".",         "",
};

static void step_lookup(World *world)
{
    Known *dir = world_node(world, is_dir);
    const char *name = names[fuzz_take(&world->in, 1) % G_N_ELEMENTS(names)];
    bool of_snapshots = strcmp(name, "one") == 0 || strcmp(name, "two") == 0;

    world_call(world, &(Request){.opcode = FUSE_LOOKUP,
                                 .node = dir,
                                 .args = name,
                                 .len = strlen(name) + 1,
                                 .offset = of_snapshots});
}

/* The first is the root, which is never forgotten. */
static bool may_forget(const World *world, const Known *known)
{
    return known != &world->nodes[0];
}

static uint64_t how_many(const Known *known, uint64_t wish)
{
    uint64_t most = known->used ? known->lookups - 1 : known->lookups;

    return MIN(wish, most);
}

static void step_forget(World *world)
{
    Known *known = world_node(world, NULL);
    uint64_t n = how_many(known, fuzz_take(&world->in, 1));

    if (may_forget(world, known) && n > 0)
        world_forget(world, known, n);
}

static void step_batch_forget(World *world)
{
    struct {
        struct fuse_batch_forget_in head;
        struct fuse_forget_one all[4];
    } in = {0};
    unsigned wanted = (unsigned)fuzz_take(&world->in, 1) % (G_N_ELEMENTS(in.all) + 1);

    for (unsigned i = 0; i < wanted; i++) {
        Known *known = world_node(world, NULL);
        uint64_t n = how_many(known, fuzz_take(&world->in, 1));

        if (!may_forget(world, known))
            continue;
        known->lookups -= n;
        in.all[in.head.count++] = (struct fuse_forget_one){known->ino, n};
    }
    kernel_tell(world->kernel, FUSE_BATCH_FORGET, 0, 0, &in,
                sizeof(in.head) + in.head.count * sizeof(in.all[0]));
}

static void step_getattr(World *world)
{
    Open *open = world_handle(world, false);
    struct fuse_getattr_in in = {0};
    Known *known = open ? open->node : world_node(world, NULL);

    if (open)
        in = (struct fuse_getattr_in){.getattr_flags = FUSE_GETATTR_FH, .fh = open->fh};
    world_call(world, &(Request){FUSE_GETATTR, known, open, &in, sizeof(in), 0, 0});
}

static void step_setattr(World *world)
{
    Known *known = world_node(world, NULL);
    struct fuse_setattr_in in = {.valid = (uint32_t)fuzz_take(&world->in, 2) & ~FATTR_FH};

    in.size = fuzz_take(&world->in, 8);
    world_call(world, &(Request){FUSE_SETATTR, known, NULL, &in, sizeof(in), 0, 0});
}

static void step_open(World *world)
{
    Known *known = world_node(world, is_file);
    const struct fuse_open_in in = {.flags = (uint32_t)fuzz_take(&world->in, 3)};

    if (known)
        world_call(world, &(Request){FUSE_OPEN, known, NULL, &in, sizeof(in), 0, 0});
}

static void step_opendir(World *world)
{
    const struct fuse_open_in in = {.flags = O_RDONLY | O_DIRECTORY};

    world_call(world,
               &(Request){FUSE_OPENDIR, world_node(world, is_dir), NULL, &in, sizeof(in), 0, 0});
}

/* Small or large, near the beginning, or anywhere. */
static uint64_t take_offset(World *world)
{
    unsigned kind = (unsigned)fuzz_take(&world->in, 1);

    if (kind % 4 < 3)
        return fuzz_take(&world->in, 2) % (kind % 4 == 0 ? SCENE_DISK_BYTES + 5000 : 4096);
    return fuzz_take(&world->in, 8);
}

static void step_read(World *world)
{
    Open *open = world_handle(world, false);
    uint64_t offset = take_offset(world) & INT64_MAX;
    uint64_t size = take_offset(world);
    struct fuse_read_in in = {.offset = offset,
                              .size = (uint32_t)MIN(size, FS_MAX_REQUEST), /* as it was told */
                              .read_flags = FUSE_READ_LOCKOWNER,
                              .lock_owner = fuzz_take(&world->in, 1) % 4};

    if (!open)
        return;
    in.fh = open->fh;
    world_call(world, &(Request){FUSE_READ, open->node, open, &in, sizeof(in), in.size, in.offset});
}

static void step_readdir(World *world)
{
    Open *open = world_handle(world, true);
    uint64_t offset = take_offset(world), near = offset % 8;
    struct fuse_read_in in = {.offset = near ? near : offset,
                              .size = (uint32_t)(take_offset(world) % 65536)};

    if (!open)
        return;
    in.fh = open->fh;
    world_call(world, &(Request){FUSE_READDIR, open->node, open, &in, sizeof(in), in.size, 0});
}

static void step_write(World *world)
{
    static const char *const lines[] = {
        "take new\n",
        "delete one\n",
        "rename two 'three four'\n",
        "revert two",
        "check\nrepair\n",
        "frobnicate\n",
        "take a.qcow2 new\n",
        "",
        "\n#\n",
        "delete new\nx y\n",
        "repair sub/b.qcow2\ncheck .\n",
        "take 'new\n",
    };
    Open *open = world_handle(world, false);
    const char *line = lines[fuzz_take(&world->in, 1) % G_N_ELEMENTS(lines)];
    struct fuse_write_in in = {.size = (uint32_t)strlen(line), .offset = take_offset(world)};
    g_autoptr(GByteArray) args = g_byte_array_new();

    if (!open || open->is_snapshot)
        return;
    in.fh = open->fh;
    g_byte_array_append(args, (const guint8 *)&in, sizeof(in));
    g_byte_array_append(args, (const guint8 *)line, in.size);
    world_call(world, &(Request){FUSE_WRITE, open->node, open, args->data, args->len, 0, 0});
}

static void step_lseek(World *world)
{
    Open *open = world_handle(world, false);
    uint64_t offset = take_offset(world);
    struct fuse_lseek_in in = {.offset = offset, .whence = (uint32_t)fuzz_take(&world->in, 1) % 6};

    if (!open)
        return;
    in.fh = open->fh;
    world_call(world, &(Request){FUSE_LSEEK, open->node, open, &in, sizeof(in), 0, 0});
}

static void step_release(World *world)
{
    Open *open = world_handle(world, fuzz_take(&world->in, 1) & 1);

    if (open && open->used == 0)
        world_release(world, open);
}

static void step_listxattr(World *world)
{
    const struct fuse_getxattr_in in = {.size = (uint32_t)take_offset(world) % 65536};

    world_call(world, &(Request){FUSE_LISTXATTR, world_node(world, NULL), NULL, &in, sizeof(in),
                                 in.size, 0});
}

/* Requests that are refused, or that no one here knows; with room for the header of any. */
static void step_other(World *world)
{
    static const uint32_t others[] = {
        FUSE_READLINK,
        FUSE_SYMLINK,
        FUSE_MKNOD,
        FUSE_MKDIR,
        FUSE_UNLINK,
        FUSE_RMDIR,
        FUSE_RENAME,
        FUSE_LINK,
        FUSE_STATFS,
        FUSE_FSYNC,
        FUSE_SETXATTR,
        FUSE_GETXATTR,
        FUSE_FLUSH,
        FUSE_ACCESS,
        FUSE_CREATE,
        FUSE_BMAP,
        FUSE_REMOVEXATTR,
        FUSE_FSYNCDIR,
        FUSE_GETLK,
        FUSE_SETLK,
        FUSE_SETLKW,
        FUSE_IOCTL,
        FUSE_POLL,
        FUSE_RENAME2,
        FUSE_FALLOCATE,
        FUSE_SYNCFS,
        FUSE_TMPFILE,
        52,
        53,
        4000,
        FUSE_INIT,
        CUSE_INIT,
        FUSE_COPY_FILE_RANGE,
        FUSE_READDIRPLUS,
    };
    uint8_t args[256] = {0};
    uint32_t opcode = others[fuzz_take(&world->in, 1) % G_N_ELEMENTS(others)];

    for (unsigned i = 0; i < 64; i++)
        args[i] = (uint8_t)fuzz_take(&world->in, i < 8 ? 1 : 0);
    world_call(world, &(Request){opcode, world_node(world, NULL), NULL, args, sizeof(args), 0, 0});
}

/* Of the last request, which may be answered by now, or of one long gone. */
static void step_interrupt(World *world)
{
    uint64_t back = fuzz_take(&world->in, 1) % 8;
    const struct fuse_interrupt_in in = {.unique =
                                             MAX(world->last - MIN(2 * back, world->last), 2)};

    kernel_tell(world->kernel, FUSE_INTERRUPT, 0, in.unique, &in, sizeof(in));
}

static void step_store(World *world)
{
    scene_change((unsigned)fuzz_take(&world->in, 1));
}

static void step_asker(World *world)
{
    world->asker = scene_asker((unsigned)fuzz_take(&world->in, 1));
}

static void (*const steps[])(World *) = {
    step_lookup,  step_lookup,    step_lookup,  step_lookup,  step_open,
    step_open,    step_read,      step_read,    step_opendir, step_readdir,
    step_write,   step_lseek,     step_forget,  step_forget,  step_release,
    step_release, step_getattr,   step_setattr, step_store,   step_interrupt,
    step_other,   step_listxattr, step_asker,   world_settle, step_batch_forget,
};

/* ---- from beginning to end ----------------------------------------------------------------- */

static void greet(World *world)
{
    uint32_t read_ahead = (uint32_t)fuzz_take(&world->in, 3);
    struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
                              .minor = FUSE_KERNEL_MINOR_VERSION,
                              .max_readahead = read_ahead,
                              .flags = (uint32_t)fuzz_take(&world->in, 4)};

    kernel_end(world->kernel,
               kernel_call(world->kernel, &world->asker, FUSE_INIT, 0, &in, sizeof(in), 0, false));
    world->nodes[0] = (Known){.ino = NODE_ROOT, .lookups = 1, .is_dir = true};
}

/* What the kernel has not forgotten as often as it has looked it up is there. */
static void require_known(World *world)
{
    Nodes *nodes = kernel_nodes(world->kernel);

    for (unsigned i = 0; i < WORLD_NODES; i++) {
        const Known *known = &world->nodes[i];
        Node *node = known->lookups > 0 ? nodes_get(nodes, known->ino) : NULL;

        fuzz_require(node || known->lookups == 0, "%" PRIu64, known->ino);
        if (node)
            node_unref(nodes, node);
    }
}

/* As at the end of a mount: all is closed and forgotten. */
static void part(World *world)
{
    world_settle(world);
    for (unsigned i = 0; i < WORLD_HANDLES; i++)
        if (world->handles[i].node)
            world_release(world, &world->handles[i]);
    require_known(world);
    for (unsigned i = 1; i < WORLD_NODES; i++)
        if (world->nodes[i].lookups > 0)
            world_forget(world, &world->nodes[i], world->nodes[i].lookups);
    kernel_join(world->kernel); /* or that may come before what was told last */
    kernel_end(world->kernel,
               kernel_call(world->kernel, &world->asker, FUSE_DESTROY, 0, NULL, 0, 0, false));
}

static void require_forgotten(World *world)
{
    Nodes *nodes = kernel_nodes(world->kernel);

    for (unsigned i = 1; i < WORLD_NODES; i++) {
        Node *node = world->nodes[i].ino ? nodes_get(nodes, world->nodes[i].ino) : NULL;

        fuzz_require(!node, "%s", node_name(node));
    }
}

void fuzz_input(const uint8_t *data, size_t size)
{
    World world = {.in = {data, size}};
    g_autoptr(QcGate) gate = NULL;
    Options options = {.cache_mib = 1};

    unsigned how = (unsigned)fuzz_take(&world.in, 1);
    options.read_only = how % 8 == 7;
    world.concurrent = how & 0x10;
    fuzz_require(qc_gate_new(scene_begin(), QC_BACKING_STORE, &gate, NULL) == 0);
    world.kernel = kernel_new(gate, &options, world.concurrent ? THREADS : 0);
    greet(&world);
    for (unsigned i = 0; i < MAX_STEPS && world.in.left > 0; i++)
        steps[fuzz_take(&world.in, 1) % G_N_ELEMENTS(steps)](&world);
    part(&world);
    require_forgotten(&world);
    kernel_free(world.kernel);
}
