/* worker/shard_cache.c: files of packed weights on the disk. */
#include "worker/shard_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"

struct worker_cache {
    int               fd;
    char             *path;
    part_shard_head_t head;
};

struct worker_cache_writer {
    int               fd;
    char             *path;   /* the name it is to get */
    char             *part;   /* a name it has meanwhile */
    bool              linked; /* `part` exists */
    part_shard_head_t head;   /* owned copies */
};

bool worker_cache_path(const char *dir, model_hash_t model, model_hash_t slice, char *path,
                       size_t path_bytes)
{
    int n = snprintf(path, path_bytes, "%s/%016" PRIx64 "-%016" PRIx64 ".shard", dir, model.low,
                     slice.low);
    return n > 0 && (size_t)n + 32 < path_bytes; /* room for the name of the part */
}

/* --- reading --- */

static bool read_all(int fd, void *to, uint64_t n, uint64_t at)
{
    uint8_t *p = to;
    while (n > 0) {
        ssize_t got = pread(fd, p, (size_t)n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = EIO; /* cut while we read */
        if (got <= 0) return false;
        p += got;
        at += (uint64_t)got;
        n -= (uint64_t)got;
    }
    return true;
}

static base_status_t fail_io(const char *path, const char *what, base_err_t *err)
{
    return base_fail(err, BASE_ERR_IO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static base_status_t read_head(worker_cache_t *c, base_err_t *err)
{
    uint8_t       first[PART_SHARD_HEAD_BYTES];
    uint8_t      *bytes = NULL;
    uint64_t      n     = 0;
    struct stat   info;
    base_err_t    why = {0};
    base_status_t st  = BASE_OK;

    if (fstat(c->fd, &info) != 0) return fail_io(c->path, "read", err);
    if (!S_ISREG(info.st_mode))
        return base_fail(err, BASE_ERR_INPUT, "%s: is no regular file", c->path);
    if (info.st_size < (off_t)sizeof(first))
        return base_fail(err, BASE_ERR_INPUT, "%s: has %lld bytes, a header has %zu", c->path,
                         (long long)info.st_size, sizeof(first));
    if (!read_all(c->fd, first, sizeof(first), 0)) return fail_io(c->path, "read", err);
    st = part_shard_head_bytes(first, (uint64_t)info.st_size, &n, &why);
    if (st == BASE_OK) st = base_alloc((void **)&bytes, n, 1, "packed weights", &why);
    if (st == BASE_OK && !read_all(c->fd, bytes, n, 0)) {
        free(bytes);
        return fail_io(c->path, "read", err);
    }
    /* The file may change under us: what is parsed is what was read last, so check again. */
    if (st == BASE_OK && memcmp(first, bytes, sizeof(first)) != 0)
        st = base_fail(&why, BASE_ERR_INPUT, "changes while it is read");
    if (st == BASE_OK) st = part_shard_head_parse(bytes, n, (uint64_t)info.st_size, &c->head, &why);
    free(bytes);
    return st == BASE_OK ? BASE_OK : base_fail(err, st, "%s: %s", c->path, why.text);
}

base_status_t worker_cache_open(const char *path, worker_cache_t **out, bool *absent,
                                base_err_t *err)
{
    worker_cache_t *c  = NULL;
    base_status_t   st = base_alloc((void **)&c, 1, sizeof(*c), "packed weights", err);

    *absent = false;
    if (st != BASE_OK) return st;
    /* O_NONBLOCK: a named pipe must be refused, not waited for. */
    c->fd   = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    c->path = strdup(path);
    if (c->path == NULL) {
        st = base_fail(err, BASE_ERR_MEMORY, "%s: no memory for the path", path);
    } else if (c->fd < 0) {
        *absent = errno == ENOENT;
        st      = *absent ? BASE_ERR_IO : fail_io(path, "open", err);
    } else {
        st = read_head(c, err);
    }
    if (st == BASE_OK) {
        *out = c;
        c    = NULL;
    }
    worker_cache_close(&c);
    return st;
}

void worker_cache_close(worker_cache_t **cache)
{
    worker_cache_t *c = cache == NULL ? NULL : *cache;
    if (c == NULL) return;
    if (c->fd >= 0) (void)close(c->fd);
    part_shard_head_free(&c->head);
    free(c->path);
    free(c);
    *cache = NULL;
}

const part_shard_head_t *worker_cache_head(const worker_cache_t *cache)
{
    return &cache->head;
}

/* Bytes of units [unit0, unit0 + n). */
static uint64_t units_bytes(const part_shard_piece_t *p, uint64_t unit0, uint64_t n)
{
    uint64_t begin = unit0 * p->unit_bytes;
    uint64_t end   = begin + n * p->unit_bytes;
    base_assert(unit0 + n <= part_shard_units(p));
    return (end < p->bytes ? end : p->bytes) - begin;
}

enum {
    READ_BYTES  = 512 << 10, /* of one read: what is hashed next is in the cache still */
    AHEAD_BYTES = 8 << 20,   /* fetched ahead of it: a disk wants many requests at once */
    FETCH_BYTES = 128 << 10, /* Linux cuts longer wishes to what one request holds */
};

/* Threads share the file, so its own reading ahead takes their places for random ones. */
static void fetch(const worker_cache_t *c, uint64_t at, uint64_t n)
{
    for (uint64_t end = at + n; at < end; at += FETCH_BYTES)
        (void)posix_fadvise(c->fd, (off_t)at, FETCH_BYTES, POSIX_FADV_WILLNEED);
}

void worker_cache_expect(const worker_cache_t *c, uint32_t piece)
{
    const part_shard_piece_t *p = &c->head.pieces[piece];
    base_assert(piece < c->head.n_pieces);
    fetch(c, p->offset, p->bytes < AHEAD_BYTES ? p->bytes : AHEAD_BYTES);
}

/* Units [unit0, unit0 + n), few of them. */
static base_status_t read_units(const worker_cache_t *c, uint32_t piece, uint64_t unit0, uint64_t n,
                                uint8_t *to, base_err_t *err)
{
    const part_shard_piece_t *p  = &c->head.pieces[piece];
    const uint64_t            at = p->offset + unit0 * p->unit_bytes;
    if (!read_all(c->fd, to, units_bytes(p, unit0, n), at)) return fail_io(c->path, "read", err);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t bytes = units_bytes(p, unit0 + i, 1);
        if (model_bytes_hash64(to + i * p->unit_bytes, bytes) ==
            c->head.hashes[p->first_hash + unit0 + i])
            continue;
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: %" PRIu64 " bytes from byte %" PRIu64 " (piece %" PRIu32
                         ") have another hash than the directory says: damaged",
                         c->path, bytes, at + i * p->unit_bytes, piece);
    }
    return BASE_OK;
}

base_status_t worker_cache_read(const worker_cache_t *c, uint32_t piece, uint64_t unit0, uint64_t n,
                                void *to, base_err_t *err)
{
    base_assert(piece < c->head.n_pieces);
    if (n == 0) return BASE_OK;
    const part_shard_piece_t *p     = &c->head.pieces[piece];
    const uint64_t            few   = p->unit_bytes < READ_BYTES ? READ_BYTES / p->unit_bytes : 1;
    uint8_t                  *out   = to;
    uint64_t                  asked = p->offset + unit0 * p->unit_bytes; /* fetched up to here */
    const uint64_t            end   = asked + units_bytes(p, unit0, n);
    base_status_t             st    = BASE_OK;
    while (n > 0 && st == BASE_OK) {
        const uint64_t some = n < few ? n : few;
        uint64_t       want = p->offset + (unit0 + some) * p->unit_bytes + AHEAD_BYTES;
        want                = want < end ? want : end;
        if (want > asked) fetch(c, asked, want - asked);
        asked = want;
        st    = read_units(c, piece, unit0, some, out, err);
        unit0 += some;
        n -= some;
        out += some * p->unit_bytes;
    }
    return st;
}

/* --- writing --- */

/* The folder of a path, made if it is not there. */
static base_status_t folder_make(const char *path, char *folder, base_err_t *err)
{
    const char *slash = strrchr(path, '/');
    base_assert(slash != NULL);
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    if (folder[0] == '\0' || mkdir(folder, 0777) == 0 || errno == EEXIST) return BASE_OK;
    return fail_io(folder, "make the directory", err);
}

static base_status_t writer_open(worker_cache_writer_t *w, base_err_t *err)
{
    char          folder[LIMIT_PATH_BYTES];
    base_status_t st = folder_make(w->path, folder, err);
    if (st != BASE_OK) return st;
    w->fd = open(folder[0] == '\0' ? "/" : folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (w->fd < 0) { /* file systems without nameless files */
        w->fd     = open(w->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        w->linked = w->fd >= 0;
    }
    if (w->fd < 0) return fail_io(w->part, "write", err);
    if (fallocate(w->fd, 0, 0, (off_t)w->head.file_bytes) == 0) return BASE_OK;
    if (errno == EOPNOTSUPP && ftruncate(w->fd, (off_t)w->head.file_bytes) == 0) return BASE_OK;
    return base_fail(err, BASE_ERR_IO, "%s: no room for %" PRIu64 " bytes: %s", w->path,
                     w->head.file_bytes, strerror(errno));
}

base_status_t worker_cache_create(const char *path, const part_shard_head_t *head,
                                  worker_cache_writer_t **out, base_err_t *err)
{
    worker_cache_writer_t *w = NULL;
    char                   part[LIMIT_PATH_BYTES + 32];
    base_status_t          st = base_alloc((void **)&w, 1, sizeof(*w), "packed weights", err);

    if (st != BASE_OK) return st;
    base_assert(strlen(path) < LIMIT_PATH_BYTES);
    (void)snprintf(part, sizeof(part), "%s.%ld.part", path, (long)getpid());
    w->fd          = -1;
    w->head        = *head;
    w->head.pieces = NULL;
    w->head.hashes = NULL;
    w->path        = strdup(path);
    w->part        = strdup(part);
    if (w->path == NULL || w->part == NULL)
        st = base_fail(err, BASE_ERR_MEMORY, "%s: no memory for the path", path);
    if (st == BASE_OK)
        st = base_alloc((void **)&w->head.pieces, head->n_pieces, sizeof(*head->pieces), "pieces",
                        err);
    if (st == BASE_OK)
        st = base_alloc((void **)&w->head.hashes, head->n_hashes, sizeof(*head->hashes), "hashes",
                        err);
    if (st == BASE_OK) {
        memcpy(w->head.pieces, head->pieces, head->n_pieces * sizeof(*head->pieces));
        st = writer_open(w, err);
    }
    if (st == BASE_OK) {
        *out = w;
        w    = NULL;
    }
    worker_cache_abandon(&w);
    return st;
}

static bool write_all(int fd, const void *from, uint64_t n, uint64_t at)
{
    const uint8_t *p = from;
    while (n > 0) {
        ssize_t put = pwrite(fd, p, (size_t)n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        p += put;
        at += (uint64_t)put;
        n -= (uint64_t)put;
    }
    return true;
}

base_status_t worker_cache_write(worker_cache_writer_t *w, uint32_t piece, uint64_t unit0,
                                 uint64_t n, const void *from, base_err_t *err)
{
    const part_shard_piece_t *p = &w->head.pieces[piece];
    const uint8_t            *b = from;
    base_assert(piece < w->head.n_pieces);
    if (n == 0) return BASE_OK;
    for (uint64_t i = 0; i < n; i++, b += p->unit_bytes)
        w->head.hashes[p->first_hash + unit0 + i] =
            model_bytes_hash64(b, units_bytes(p, unit0 + i, 1));
    if (write_all(w->fd, from, units_bytes(p, unit0, n), p->offset + unit0 * p->unit_bytes))
        return BASE_OK;
    return fail_io(w->path, "write", err);
}

/* The nameless file gets its name; another of that name is replaced. */
static bool name_it(worker_cache_writer_t *w)
{
    char self[64];
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", w->fd);
    if (!w->linked) {
        (void)unlink(w->part); /* of a process long dead with our number */
        if (linkat(AT_FDCWD, self, AT_FDCWD, w->part, AT_SYMLINK_FOLLOW) != 0) return false;
        w->linked = true;
    }
    if (rename(w->part, w->path) != 0) return false;
    w->linked = false;
    return true;
}

base_status_t worker_cache_commit(worker_cache_writer_t **writer, base_err_t *err)
{
    worker_cache_writer_t *w     = *writer;
    uint8_t               *bytes = NULL;
    base_status_t          st    = base_alloc((void **)&bytes, w->head.data_offset, 1, "head", err);
    if (st != BASE_OK) goto out;
    part_shard_head_pack(&w->head, bytes);
    /* No fsync: it would hold the start up for seconds, and hashes find what a crash takes away. */
    if (!write_all(w->fd, bytes, w->head.data_offset, 0) || !name_it(w))
        st = fail_io(w->path, "write", err);
out:
    free(bytes);
    worker_cache_abandon(writer);
    return st;
}

void worker_cache_abandon(worker_cache_writer_t **writer)
{
    worker_cache_writer_t *w = writer == NULL ? NULL : *writer;
    if (w == NULL) return;
    if (w->linked) (void)unlink(w->part);
    if (w->fd >= 0) (void)close(w->fd);
    part_shard_head_free(&w->head);
    free(w->path);
    free(w->part);
    free(w);
    *writer = NULL;
}
