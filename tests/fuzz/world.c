/* world.c - see world.h. */
#include "world.h"

#include "scene.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* ---- what the kernel knows ----------------------------------------------------------------- */

Known *world_node(World *world, bool (*fits)(const Known *))
{
    unsigned first = (unsigned)fuzz_take(&world->in, 1);

    for (unsigned i = 0; i < WORLD_NODES; i++) {
        Known *known = &world->nodes[(first + i) % WORLD_NODES];
        if (known->lookups > 0 && (!fits || fits(known)))
            return known;
    }
    return NULL;
}

Open *world_handle(World *world, bool dir)
{
    unsigned first = (unsigned)fuzz_take(&world->in, 1);

    for (unsigned i = 0; i < WORLD_HANDLES; i++) {
        Open *open = &world->handles[(first + i) % WORLD_HANDLES];
        if (open->node && open->node->is_dir == dir)
            return open;
    }
    return NULL;
}

void world_forget(World *world, Known *known, uint64_t n)
{
    const struct fuse_forget_in in = {.nlookup = n};

    known->lookups -= n;
    kernel_tell(world->kernel, FUSE_FORGET, known->ino, 0, &in, sizeof(in));
}

void world_release(World *world, Open *open)
{
    const struct fuse_release_in in = {.fh = open->fh};
    bool dir = open->node->is_dir;

    kernel_end(world->kernel,
               kernel_call(world->kernel, &world->asker, dir ? FUSE_RELEASEDIR : FUSE_RELEASE,
                           open->node->ino, &in, sizeof(in), 0, false));
    open->node->used--;
    g_byte_array_unref(open->seen);
    *open = (Open){0};
}

static void note_entry(World *world, const Pending *pending)
{
    const struct fuse_entry_out *entry = (const void *)pending->call->answer->data;
    const uint64_t type = entry->attr.mode & S_IFMT;
    Known *known = NULL, *spare = NULL;

    fuzz_require(entry->nodeid > NODE_ROOT && entry->attr.ino == entry->nodeid);
    fuzz_require(type == S_IFDIR || type == S_IFREG, "%o", entry->attr.mode);
    fuzz_require(entry->entry_valid == 0 && entry->entry_valid_nsec == 0);
    for (unsigned i = 0; i < WORLD_NODES; i++) {
        if (world->nodes[i].lookups == 0)
            spare = spare ? spare : &world->nodes[i];
        else if (world->nodes[i].ino == entry->nodeid)
            known = &world->nodes[i];
    }
    if (!known && !spare) { /* as when the kernel has no memory for it */
        Known brief = {.ino = entry->nodeid, .lookups = 1};
        world_forget(world, &brief, 1);
        return;
    }
    if (!known) {
        known = spare;
        *known = (Known){.ino = entry->nodeid, .is_dir = type == S_IFDIR};
    }
    fuzz_require(known->is_dir == (type == S_IFDIR), "another kind by the same number");
    known->lookups++;
    known->of_snapshots = pending->node->is_dir && pending->offset;
}

static void note_open(World *world, const Pending *pending)
{
    const struct fuse_open_out *out = (const void *)pending->call->answer->data;
    Open *open = NULL;

    for (unsigned i = 0; i < WORLD_HANDLES && !open; i++)
        open = world->handles[i].node ? NULL : &world->handles[i];
    fuzz_require(out->fh);
    Open spare;
    Open *into = open ? open : &spare;
    *into = (Open){.fh = out->fh, .node = pending->node, .seen = g_byte_array_new()};
    into->is_snapshot = pending->node->of_snapshots;
    pending->node->used++;
    if (!open)
        world_release(world, into);
}

/* Each byte of a snapshot is what it was when it was read before. */
static void compare(Open *open, uint64_t offset, const GByteArray *bytes)
{
    GByteArray *seen = open->seen;
    guint end = (guint)(offset + bytes->len) * 2, was = seen->len;

    fuzz_require(offset + bytes->len <= SCENE_DISK_BYTES, "behind its end");
    if (end > was) {
        g_byte_array_set_size(seen, end);
        memset(seen->data + was, 0, end - was);
    }
    for (guint i = 0; i < bytes->len; i++) {
        guint8 *mark = seen->data + (offset + i) * 2;
        fuzz_require(!mark[0] || mark[1] == bytes->data[i], "at %u", (guint)offset + i);
        mark[0] = 1;
        mark[1] = bytes->data[i];
    }
}

static void note_read(const Pending *pending)
{
    const GByteArray *bytes = pending->call->answer;

    if (!pending->open->is_snapshot || bytes->len == 0)
        return;
    fuzz_require(bytes->len == pending->call->room ||
                     pending->offset + bytes->len == SCENE_DISK_BYTES,
                 "%u bytes at %" PRIu64, bytes->len, pending->offset);
    compare(pending->open, pending->offset, bytes);
}

static void check_entries(const GByteArray *bytes)
{
    for (size_t at = 0; at < bytes->len;) {
        const struct fuse_dirent *entry = (const void *)(bytes->data + at);

        fuzz_require(bytes->len - at >= FUSE_NAME_OFFSET);
        fuzz_require(entry->namelen > 0 && entry->namelen <= 255 && entry->ino > 0);
        fuzz_require(FUSE_DIRENT_SIZE(entry) <= bytes->len - at);
        fuzz_require(!memchr(entry->name, '/', entry->namelen));
        fuzz_require(!memchr(entry->name, 0, entry->namelen));
        at += FUSE_DIRENT_SIZE(entry);
    }
}

static void note_answer(World *world, const Pending *pending)
{
    const Call *call = pending->call;

    if (call->error || call->lost)
        return;
    switch (call->opcode) {
    case FUSE_LOOKUP:
        note_entry(world, pending);
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        note_open(world, pending);
        break;
    case FUSE_READ:
        note_read(pending);
        break;
    case FUSE_READDIR:
        check_entries(call->answer);
        break;
    default:
        break;
    }
}

/* ---- requests under way -------------------------------------------------------------------- */

static void settle(World *world, Pending *pending)
{
    Pending done = *pending;

    if (!done.call)
        return;
    kernel_wait(world->kernel, done.call);
    *pending = (Pending){0};
    done.node->used--;
    if (done.open)
        done.open->used--;
    note_answer(world, &done);
    kernel_end(world->kernel, done.call);
}

void world_settle(World *world)
{
    for (unsigned i = 0; i < WORLD_PENDING; i++)
        settle(world, &world->pending[i]);
}

static Pending *spare_pending(World *world)
{
    for (unsigned i = 0; i < WORLD_PENDING; i++)
        if (!world->pending[i].call)
            return &world->pending[i];
    world_settle(world);
    return &world->pending[0];
}

void world_call(World *world, const Request *request)
{
    unsigned how = (unsigned)fuzz_take(&world->in, 1);
    Pending *pending = spare_pending(world);
    bool keeps = request->opcode == FUSE_LOOKUP || request->opcode == FUSE_OPEN ||
                 request->opcode == FUSE_OPENDIR;

    request->node->used++;
    if (request->open)
        request->open->used++;
    *pending = (Pending){.node = request->node, .open = request->open, .offset = request->offset};
    pending->call =
        kernel_call(world->kernel, &world->asker, request->opcode, request->node->ino,
                    request->args, request->len, request->room, keeps && how % 16 == 15);
    world->last = pending->call->unique;
    if (!world->concurrent && how % 2 == 0)
        settle(world, pending);
}
