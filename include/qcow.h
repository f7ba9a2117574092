/*
 * qcow.h - disk images and the snapshots inside them.
 *
 * The engine has three nouns. An *image* (QcImage) is one file in one state of its metadata.
 * A *chain* (QcChain) is an image with the backing files beneath it. A *view* (QcView) is
 * anything that reads like a disk: the active disk of an image, one of its snapshots, a
 * backing layer. Every view maps guest bytes to extents, by which it is read (qc_view_read),
 * searched (qc_view_seek) and shown (qc_view_map). Commands (qc_snapshot_take and so on) change
 * which views exist.
 *
 * Conventions: offsets and sizes are bytes unless a name says otherwise; functions return 0
 * or a negative errno, and leave their ret_ arguments alone when they fail; a GError, where
 * there is one, is set exactly when the function fails, carries the positive errno as its
 * code in the domain QC_ERROR and a sentence for a person. The engine starts no thread,
 * prints nothing and has no global state. Objects that are shared (ref/unref) may be used
 * from several threads at once, unless said otherwise.
 *
 * "§" names a section of QEMU's docs/interop/qcow2.txt, the specification of the format.
 */
#ifndef QCOW_H
#define QCOW_H

#include "qcow-gate.h"

G_BEGIN_DECLS

/* The domain of all errors (GError) of the engine; their code is a positive errno. Thread-safe. */
#define QC_ERROR (qc_error_quark())
GQuark qc_error_quark(void); /* what QC_ERROR stands for */

/* Whether a negative errno is for want of memory or descriptors now, and so says nothing of a file.
 * Thread-safe. */
bool qc_is_shortage(int err);

/* Limits. Those of the format are its own; the others keep hostile images cheap. */
#define QC_MAX_LAYERS        512u   /* backing chain, the image itself included */
#define QC_MAX_SNAPSHOTS     65536u /* per image */
#define QC_MAX_SNAPSHOT_NAME 255u   /* bytes, as QEMU cuts them */
#define QC_MAX_FILE_SIZE     ((uint64_t)INT64_MAX >> 30 << 30) /* bytes, as QEMU opens them */
#define QC_MAX_DISK_SIZE     (UINT64_C(1) << 62) /* virtual bytes; beyond, file offsets overflow */

/* ---- the cache ------------------------------------------------------------------------- */

/*
 * Memory shared by all images that are opened with it: table slices, decoded compressed clusters
 * and what is known of stretches of chains. What was not used of late is dropped first. It never
 * holds more than max_bytes, apart from what reads under way are using. Thread-safe,
 * reference-counted.
 */
typedef struct QcCache QcCache;
QcCache *qc_cache_new(size_t max_bytes); /* a reference; NULL: no memory */
QcCache *qc_cache_ref(QcCache *cache);   /* one more reference; returns cache */
void qc_cache_unref(QcCache *cache);     /* drop one; accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcCache, qc_cache_unref)

/* ---- images ----------------------------------------------------------------------------- */

/* What an image file is. */
typedef enum QcFormat {
    QC_FORMAT_NONE,  /* not known to be an image */
    QC_FORMAT_RAW,   /* the disk's own bytes */
    QC_FORMAT_QCOW2, /* version 2 or 3 */
    QC_FORMAT_OTHER, /* an image of a format that the engine does not read */
} QcFormat;

/*
 * Tell the format of a file by its first bytes and, for raw, by its name (.raw, .img, .iso)
 * or by being a block device. ret_name, if not NULL, receives the name of the format as
 * QEMU spells it ("qcow2", "raw", "vmdk", ...; a constant), or NULL for QC_FORMAT_NONE. Fails as
 * reading does.
 */
int qc_probe(QcFile *file, const char *name, QcFormat *ret_format, const char **ret_name);

/* One internal snapshot. §"Snapshots". */
typedef struct QcSnapshot {
    const char *id;     /* unique as a rule, a decimal number as a rule */
    const char *name;   /* any bytes, also '\0' ... */
    size_t name_len;    /* ... so this is their number; name[name_len] is '\0' all the same */
    uint64_t disk_size; /* virtual size when it was taken, in whole sectors, too */
    bool size_stated;   /* false: its entry does not say; disk_size is the active disk's */
    int64_t date_sec;   /* since the epoch */
    uint32_t date_nsec;
    uint64_t vm_clock_nsec; /* how long the guest had run */
    uint64_t vm_state_size; /* bytes; 0: without */
    uint64_t icount;        /* instructions of the guest; UINT64_MAX when not recorded */
    uint64_t l1_offset;     /* host offset of its L1 table */
    uint32_t l1_entries;
} QcSnapshot;

/* A persistent dirty bitmap. §"Bitmaps". */
typedef struct QcBitmap {
    const char *name;
    uint64_t granularity; /* guest bytes that a bit stands for */
    bool in_use, is_auto; /* its flags: may be inconsistent; is to be kept up to date */
} QcBitmap;

/* How guest data is encrypted. §"Header" (crypt_method). */
typedef enum QcEncryption {
    QC_ENCRYPTION_NONE = 0,
    QC_ENCRYPTION_AES = 1,
    QC_ENCRYPTION_LUKS = 2,
} QcEncryption;

/* What the header says. Strings and arrays are the image's. §"Header", "Header extensions". */
typedef struct QcInfo {
    QcFormat format;
    uint64_t virtual_size; /* whole sectors, as QEMU has it: qcow2 down, raw up */
    QcFileStat stat;       /* the file when the image was opened */

    /* qcow2 only, from here on */
    unsigned version;      /* 2 or 3 */
    unsigned cluster_bits; /* 9 to 21 */
    unsigned refcount_bits;
    const char *compression; /* "zlib" or "zstd" */
    bool lazy_refcounts, extended_l2, dirty, corrupt;
    QcEncryption encryption;
    uint64_t luks_offset, luks_length; /* host offset and bytes; 0 when absent */
    bool has_data_file, data_file_raw;
    const char *data_file;      /* NULL when not named */
    const char *backing_file;   /* as the header spells it; NULL when there is none */
    const char *backing_format; /* NULL when not stated */
    const QcBitmap *bitmaps;
    unsigned n_bitmaps;
    const QcSnapshot *snapshots; /* in the order of the table */
    unsigned n_snapshots;
} QcInfo;

/*
 * One image file in one state of its metadata: header and snapshot table as they were when
 * it was opened. Reference-counted. Immutable, and so thread-safe, except that a command uses it
 * up (see below).
 */
typedef struct QcImage QcImage;

/*
 * Read the metadata of an image. Tables of clusters are not read until they are needed, so
 * this costs a few small reads. path is for messages and for resolving backing files; it is copied.
 * format is QC_FORMAT_RAW or QC_FORMAT_QCOW2. The image takes references of file and cache; both
 * may be shared with other images.
 *
 * -EINVAL: the header is not valid. -EOPNOTSUPP: a feature the engine does not know.
 * -EUCLEAN: tables are broken. -EFBIG: the file is larger than QC_MAX_FILE_SIZE. -EAGAIN: another
 * program keeps changing the metadata. -ENOMEM, and as reading and stat fail.
 */
int qc_image_open(QcFile *file, const char *path, QcFormat format, QcCache *cache, QcImage **ret,
                  GError **error);
/*
 * The same for reading the disk only, of which there may be many: snapshots and bitmaps, which can
 * take megabytes, are not read, and info says that there are none. No commands. So it also opens an
 * image whose table of snapshots or of bitmaps is broken, for which qc_image_open() gives -EUCLEAN.
 */
int qc_image_open_disk(QcFile *file, const char *path, QcFormat format, QcCache *cache,
                       QcImage **ret, GError **error);
/*
 * Of a qcow2 image that cannot be opened: what its header says, for qc_image_info(), which has no
 * snapshots and bitmaps then. It is for nothing else: no chain, no command. Errors as above.
 */
int qc_image_open_header(QcFile *file, const char *path, QcCache *cache, QcImage **ret);
QcImage *qc_image_ref(QcImage *image); /* one more reference; returns image */
void qc_image_unref(QcImage *image);   /* drop one; accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcImage, qc_image_unref)

/* What was read, the path, and the file: the image's own, valid as long as it is. */
const QcInfo *qc_image_info(const QcImage *image);
const char *qc_image_path(const QcImage *image);
QcFile *qc_image_file(const QcImage *image);

/*
 * Why the image's guest data cannot be read or changed although its metadata can
 * (encryption, external data file), as a sentence, a constant; NULL when it can.
 */
const char *qc_image_unsupported(const QcImage *image);

#define QC_LUKS_SLOTS 8u

/* One key slot of a LUKS header. */
typedef struct QcLuksSlot {
    bool active; /* holds a key; else the rest is what an older key left */
    uint32_t iters, stripes;
    uint64_t key_offset; /* bytes from the header's start */
} QcLuksSlot;

/*
 * What the header of LUKS version 1 says without a key: no key material. Names are QEMU's. LUKS
 * On-Disk Format Specification 1.2.3.
 */
typedef struct QcLuks {
    char cipher_alg[48], cipher_mode[33];   /* "aes-256", "xts" */
    char ivgen_alg[33], ivgen_hash_alg[33]; /* "essiv", "sha256"; the hash may be empty */
    char hash_alg[33], uuid[41];
    uint64_t payload_offset; /* bytes from the header's start */
    uint32_t master_key_iters;
    QcLuksSlot slots[QC_LUKS_SLOTS];
} QcLuks;

/*
 * Read the LUKS header of an encrypted image. -ENOENT: it is not encrypted in this way. -EINVAL:
 * what lies there is no such header. As reading fails. Thread-safe. §"Full disk encryption header
 * pointer".
 */
int qc_image_luks(const QcImage *image, QcLuks *ret);

/*
 * True when the file is, by its stat, exactly what it was when the image was opened, and
 * that stat was old enough to tell, and with QC_TRUST_METADATA its header, too; of a block
 * device, that its size and the first sector of a qcow2 image are what they were, which says
 * nothing of the rest. False is always a safe answer: open it again.
 */
bool qc_image_is_current(const QcImage *image);

/*
 * What may be kept of what was read as long as qc_image_is_current() or qc_chain_layer_is_same():
 * with QC_TRUST_ALL all of it; with QC_TRUST_METADATA what the image says of itself and its
 * snapshots, and what those hold, but not what its disk holds; with less than that nothing, as of a
 * device. The answer is that of the opening; nothing is looked at again.
 */
QcTrust qc_image_trust(const QcImage *image);

/*
 * Whether two snapshots, of two readings of an image's file, are the same one: by id, date and
 * place of the L1 table. Not by name, which can be changed. Thread-safe.
 */
bool qc_snapshot_is_same(const QcSnapshot *a, const QcSnapshot *b);

/* ---- locks, as QEMU takes them ---------------------------------------------------------- */

/*
 * The protocol is that of QEMU's block/file-posix.c; the specification of the format has nothing of
 * it. Locks belong to the QcFile, in whatever thread they were taken; they are to be taken and
 * dropped by one thread at a time. Besides -EBUSY they fail as fcntl(2) does (-ENOLCK, -EIO); then
 * none is held. "Another" is another program, or another QcFile of this one.
 */

/*
 * Announce that we read. A reader does not exclude writers, and never keeps a VM from starting.
 * -EBUSY when another does not share consistent reads.
 */
int qc_lock_reader(QcFile *file, GError **error);
/*
 * Become the only writer. -EBUSY when another writes or may resize, or does not share one of what a
 * writer does: reading, writing, resizing.
 */
int qc_lock_writer(QcFile *file, GError **error);
/* Drop every lock of this file. Takes up to 50 ms after a command that let the file grow. */
void qc_lock_release(QcFile *file);
/* Wait for as long as that would take, and keep the locks: it takes no time afterwards. */
void qc_lock_linger(QcFile *file);
/* 1 when another writes or may resize the image, 0 when not; or as fcntl(2) fails. Thread-safe. */
int qc_lock_has_writer(QcFile *file);
/*
 * Whether another's lock on the bytes from start to end (inclusive), shared or exclusive, is one
 * that qc_lock_writer() fails for. Thread-safe.
 */
bool qc_lock_bars_writer(uint64_t start, uint64_t end, bool exclusive);
/* Whether it is one that qc_lock_has_writer() tells of. Thread-safe. */
bool qc_lock_tells_writer(uint64_t start, uint64_t end);

/* ---- views and chains ------------------------------------------------------------------- */

/*
 * Anything that reads like a disk: a mapping from guest bytes to where they lie, a virtual size,
 * and as a rule a view beneath for what the mapping does not have. A view is what the disk was when
 * its image was opened; qc_view_check() tells whether that still holds. It keeps its image and the
 * views beneath alive, also when the chain that it is of is freed. Reference-counted; thread-safe.
 */
typedef struct QcView QcView;

/* How to read a run of guest bytes. */
typedef enum QcExtentKind {
    QC_EXTENT_HOLE,       /* in no layer; reads as zeros */
    QC_EXTENT_ZERO,       /* a layer says that it is zeros */
    QC_EXTENT_DATA,       /* length bytes at host_offset of the image's file */
    QC_EXTENT_COMPRESSED, /* part of one compressed cluster */
    QC_EXTENT_BAD,        /* broken metadata or a missing layer; error says */
} QcExtentKind;

/* A run of guest bytes with one way to read it. §"Cluster mapping". */
typedef struct QcExtent {
    QcExtentKind kind;
    uint64_t length;      /* guest bytes from the offset asked for */
    const QcImage *image; /* of DATA, COMPRESSED: whose; borrowed from the view */
    uint64_t host_offset; /* DATA: of the first byte. COMPRESSED: of the compressed stream */
    uint32_t host_length; /* COMPRESSED: upper bound of the stream's bytes */
    uint64_t skip;        /* COMPRESSED: bytes of the decoded cluster before the offset */
    unsigned layer;       /* all but HOLE: how many layers below the view's own */
    int error;            /* BAD: a negative errno */
} QcExtent;

QcView *qc_view_ref(QcView *view); /* one more reference; returns view */
void qc_view_unref(QcView *view);  /* drop one; accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcView, qc_view_unref)

/* Virtual size, bytes. */
uint64_t qc_view_size(const QcView *view);

/*
 * The extent that starts at offset, at most length bytes long and as long as it is cheap to
 * tell. offset + length must not exceed the view's size; length must not be 0. Broken places
 * are extents of kind BAD, not failures; -EIO and -ENOMEM are failures to look.
 */
int qc_view_map(QcView *view, uint64_t offset, uint64_t length, QcExtent *ret);

/*
 * Read up to len bytes. Less than len only at the end of the view. -EIO when any byte of the
 * range cannot be had, -ENOMEM; the bytes in buf are undefined then.
 */
ssize_t qc_view_read(QcView *view, void *buf, size_t len, uint64_t offset);

/* How to read, and what came of it. */
typedef struct QcReading {
    bool once;                           /* in: no part of it will be read again soon */
    uint64_t pass;                       /* in: number of a pass over the view; 0: it is of none */
    bool zeros;                          /* out: all is zeros, and buf was not written */
    bool decoded;                        /* out: something of it is compressed */
    uint64_t layers[QC_MAX_LAYERS / 64]; /* out: a bit for each layer that bytes came from */
} QcReading;

/*
 * As qc_view_read(), but what is zeros need not be written to buf, and reading says what came. With
 * a pass, what lies in the view's own file is read by qc_file_read_past(), uncompressed data that
 * is; what others may share, the layers beneath, is not.
 */
ssize_t qc_view_fetch(QcView *view, void *buf, size_t len, uint64_t offset, QcReading *reading);

/*
 * The next data (or, with hole, hole) at or after offset, as lseek(2) tells it, exact to the
 * cluster or subcluster: zeros that a layer states are holes too; broken places count as data, as
 * does all that is left when the search has looked at too much (see docs/ARCHITECTURE.md, Bounds).
 * -ENXIO: offset is at or past the end, or no more data. -EIO, -ENOMEM.
 */
int64_t qc_view_seek(QcView *view, uint64_t offset, bool hole);

/*
 * Whether what was read through the view until now was right: 0 when nothing that the view
 * rests on has changed since it was made, or only in ways that cannot matter to it (a live
 * VM writing next to a snapshot); -ESTALE when something has: drop the view, open anew, and do
 * not use what was read. Call it after reading, before handing out bytes.
 */
int qc_view_check(QcView *view);

/*
 * Whether nothing at all that the view rests on has changed since it was made; false where that
 * cannot be told. When it has, what could not be read may be readable through a new view.
 */
bool qc_view_is_unchanged(QcView *view);

#define QC_FEW_LAYERS 4     /* as many are all looked at after each reading */
#define QC_RECHECK_US 2000  /* how old the look at a layer that gave no bytes may be */
#define QC_REFRESH_US 10000 /* until what another machine changes on a block device shows */

/*
 * qc_view_check() for what one qc_view_fetch() gave, and cheaper for a view of more than
 * QC_FEW_LAYERS: the view's own file and those that bytes came from are looked at now; of the
 * others, which only had nothing to say, it is enough that they were looked at QC_RECHECK_US ago or
 * less.
 */
int qc_view_check_reading(QcView *view, const QcReading *reading);

/*
 * For a thread that has time, while another reads a view of many layers in order and is at offset:
 * look up what the reader will come to next, and check the layers before a check is due. Only the
 * speed of later calls depends on it.
 */
void qc_view_prepare(QcView *view, uint64_t offset);

/*
 * Whether every change of what the view rests on shows in the stat of a file. (It does not on
 * block devices: what was read from one says nothing of what a later read would give.)
 */
bool qc_view_is_telling(const QcView *view);

/* An image and its backing layers, opened. Not counted: one owner. Immutable, thread-safe. */
typedef struct QcChain QcChain;

/*
 * Open the backing files beneath top, bounded by QC_MAX_LAYERS, loops refused. Fails only
 * for a shortage (see qc_is_shortage): a layer that cannot be had ends the chain, qc_chain_error()
 * says why, and in all views the places that would come from it read as -EIO. One whose table of
 * snapshots or of bitmaps is broken is an error, too, but does not end the chain, and can be read.
 * gate NULL: no backing file is opened. The chain takes a reference of top, none of gate.
 */
int qc_chain_open(QcGate *gate, QcImage *top, QcCache *cache, QcChain **ret);
/*
 * The same, for an image that was opened before: layers of that chain are used again while the
 * names lead to them and their files are what they were. like: opened with the same gate and
 * cache, or NULL.
 */
int qc_chain_open_like(QcGate *gate, QcImage *top, QcCache *cache, const QcChain *like,
                       QcChain **ret);
/*
 * The same, in the state that the files of that chain have now: of what the images name as before,
 * these files are read, whatever has become of their names.
 */
int qc_chain_reopen(QcGate *gate, QcImage *top, QcCache *cache, const QcChain *was, QcChain **ret);
void qc_chain_free(QcChain *chain); /* accepts NULL */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QcChain, qc_chain_free)

/* What is wrong with the chain, or why its top cannot be read: a sentence, the chain's, or NULL. */
const char *qc_chain_error(const QcChain *chain);
/*
 * Whether opening the chain now would end with the same error at the same place, as far as
 * names and stats tell: cheaper than trying. Meaningful only when there is an error; false is
 * always a safe answer. gate: the one that it was opened with.
 */
bool qc_chain_error_stands(const QcChain *chain, QcGate *gate);
/* Number of layers that could be opened, at least 1; layer 0 is the top image. */
unsigned qc_chain_layers(const QcChain *chain);
QcImage *qc_chain_image(const QcChain *chain, unsigned layer); /* borrowed from the chain */
/*
 * Whether the path of a layer still leads, through the gate, to the file that the chain has, in the
 * state that it had, by its stat, and with QC_TRUST_METADATA by its header, too. False for a
 * device, whose stat does not tell its state.
 */
bool qc_chain_layer_is_same(const QcChain *chain, QcGate *gate, unsigned layer);
/* The disk as layer gives it, with all beneath; 0 is the active disk. Borrowed from the chain. */
QcView *qc_chain_view(const QcChain *chain, unsigned layer);
/* The disk as it was at a snapshot of the top image (index into its QcInfo). A new reference.
 * -ENOENT: there is none. -ENOMEM. */
int qc_chain_snapshot_view(QcChain *chain, unsigned snapshot, QcView **ret);

/* ---- memory ----------------------------------------------------------------------------- */

/*
 * Whether so many bytes of memory can be had now, to be asked before many small allocations that
 * cannot fail. Only a guess: others take memory, too. Thread-safe.
 */
bool qc_room_for(uint64_t bytes);

/* ---- commands --------------------------------------------------------------------------- */

/*
 * The image must have been opened from a file that may be written and whose writer lock
 * (qc_lock_writer) has been held since before qc_image_open(). Each command is atomic and
 * durable: when it returns 0 the change is on stable storage; when it fails nothing has
 * changed. A command uses the image up, whatever its result: open it again for the next
 * one. Not to be called from two threads for one image.
 *
 * Errors of all of them: -EINVAL (the image is used up), -EOPNOTSUPP (raw, encrypted, external
 * data file), -EUCLEAN (corrupt image; nothing changed), -ENOENT (there is no such snapshot),
 * -EBUSY (a program that ignores the locks has changed the file meanwhile), -EROFS, -ENOSPC,
 * -EDQUOT, -EIO, -ENOMEM, -ECANCELED; -EFBIG when a limit of the format is reached (snapshots,
 * refcount width, table sizes).
 *
 * If the image was left dirty, the command repairs it in the same switch. It reclaims leaked
 * clusters as well; those of a clean image, provided every header field is understood.
 * qc_image_write() does neither.
 *
 * One more state exists: when the switch fails, and putting the old header back fails as well, the
 * result is -EIO, and it is *not known* which of the two states is on disk. Then
 * QcRun.unknown is set, and the caller must refuse further commands on the file.
 *
 * §"Snapshots", "Refcounts"; the order of writes is in docs/DURABILITY.md.
 */

/*
 * Told how far a command is: percent, an estimate that does not fall. Called by the command's
 * thread many thousand times a second, until the change is about to be made. False: stop; the
 * command ends with -ECANCELED and has changed nothing.
 */
typedef bool (*QcProgressFunc)(void *data, unsigned percent);

/*
 * Asked whether the file is the command's alone, where its lock does not tell: before the command
 * first writes to it, and once more right before the change is made. 0: it is. A negative errno:
 * the command fails with that, and has changed nothing.
 */
typedef int (*QcGuardFunc)(void *data);

/*
 * How to run a command, and what came of it. Where a command takes NULL instead, nobody is told how
 * far it is, nobody guards the file, and nobody asks what is on disk.
 */
typedef struct QcRun {
    QcProgressFunc progress; /* in: or NULL */
    void *progress_data;
    QcGuardFunc guard; /* in: or NULL */
    void *guard_data;
    bool unknown; /* out: set when it is not known what is on disk, else left alone */
} QcRun;

/*
 * Take a snapshot of the active disk. name: 1 to QC_MAX_SNAPSHOT_NAME bytes. now_ns: its date,
 * nanoseconds since the epoch, of which the format holds 2^32 seconds. -EEXIST: a snapshot has
 * that name. -EINVAL: the name is empty, or the date not one of those. -ENAMETOOLONG. -EOPNOTSUPP:
 * refcounts of 1 bit.
 */
int qc_snapshot_take(QcImage *image, const char *name, int64_t now_ns, QcRun *run, GError **error);
/*
 * Make the active disk what it was at the snapshot; its size too. -EOPNOTSUPP: the image has
 * persistent bitmaps; the disk would be resized, and with it a snapshot that does not state its own
 * size (version 2); or the snapshot states a larger disk than its L1 table maps.
 */
int qc_snapshot_revert(QcImage *image, unsigned snapshot, QcRun *run, GError **error);
/* Forget the snapshot; the clusters that only it used become free. */
int qc_snapshot_delete(QcImage *image, unsigned snapshot, QcRun *run, GError **error);
/* Give the snapshot another name. -EEXIST, -EINVAL and -ENAMETOOLONG as qc_snapshot_take(). */
int qc_snapshot_rename(QcImage *image, unsigned snapshot, const char *name, QcRun *run,
                       GError **error);

/*
 * Replace len bytes of the active disk at offset, as one atomic, durable command like those
 * above (whole clusters are copied; meant for tools, not for a running guest). chain must
 * have image as its top. -EINVAL: nothing to write, or beyond the end. -EOPNOTSUPP: the image has
 * persistent bitmaps. -EUCLEAN: it was not closed cleanly.
 */
int qc_image_write(QcImage *image, QcChain *chain, const void *buf, size_t len, uint64_t offset,
                   QcRun *run, GError **error);

/* ---- check and repair ------------------------------------------------------------------- */

#define QC_FINDING_BYTES 160 /* a longer sentence is cut */

/* What a check has found. */
typedef struct QcCheck {
    uint64_t errors; /* findings that mean or may lead to damage */
    uint64_t leaks;  /* clusters counted more often than they are referred to: lost space */
    char first[QC_FINDING_BYTES]; /* a sentence about the first error; empty: none */
} QcCheck;

/*
 * Count all references of a qcow2 image anew and compare them with the refcounts and the
 * COPIED flags. Nothing may write to the file meanwhile (hold a lock). Reads every table, those of
 * the active disk twice: time and memory grow with the metadata. Broken tables are findings. run is
 * as of a command (its guard is not asked), but the image is not used up. -EINVAL: a command has
 * used it up, or it was opened for its disk only. -EOPNOTSUPP, -EIO, -ENOMEM: could not check;
 * -ECANCELED. §"Refcounts".
 */
int qc_image_check(QcImage *image, const QcRun *run, QcCheck *ret, GError **error);

/*
 * A command like those above: write refcounts and COPIED flags as the tables say, and clear
 * the marks of an image that was not closed cleanly or is known to be corrupt. -EUCLEAN when
 * tables are broken in a way that counting cannot mend: nothing is changed. Where a check finds
 * nothing and there is no mark, nothing is written. ret_found (may be NULL) gets what was found,
 * and so was mended.
 */
int qc_image_repair(QcImage *image, QcRun *run, QcCheck *ret_found, GError **error);

/* ---- new images ------------------------------------------------------------------------- */

/*
 * What a new image is to be. Strings are borrowed for the call. §"Header", "Header extensions",
 * "Extended L2 Entries".
 */
typedef struct QcCreateOptions {
    uint64_t virtual_size;  /* bytes, rounded up to whole sectors; at most QC_MAX_DISK_SIZE and what
                               an L1 table can map */
    unsigned version;       /* 2 or 3; 0 means 3 */
    unsigned cluster_bits;  /* 9 to 21; 0 means 16 */
    unsigned refcount_bits; /* 1, 2, 4 ... 64; 0 means 16; v2 has only 16 */
    bool extended_l2, lazy_refcounts, zstd;    /* not in version 2 */
    const char *backing_file, *backing_format; /* as the header is to spell them; both or neither */
} QcCreateOptions;

/*
 * Write an empty image into an empty, writable file, and sync it. -EINVAL: the options contradict
 * each other or the format, or the file is not empty. -ENOMEM, and as writing fails; the file is of
 * no use then.
 */
int qc_create(QcFile *file, const QcCreateOptions *options, GError **error);

G_END_DECLS
#endif
