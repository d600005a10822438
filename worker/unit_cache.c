/* worker/unit_cache.c: units of tensors in files that only grow. */
#include "worker/unit_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "model/bytes.h"

enum {
    HEAD_BYTES   = 112,
    FIELDS       = 12, /* numbers behind the magic */
    BUCKETS      = 1 << 12,
    RECORDS_MAX  = 1 << 22,
    UNITS_MAX    = LIMIT_ANSWER_BYTES / 8,
    FILES_MAX    = LIMIT_RANKS,
    SUFFIX_BYTES = 64,
};

static const char magic[8] = "TRIUNIT2";

/* A window of units in a file: head, tags (keyed hashes), units. */
typedef struct {
    model_window_t window;
    uint64_t       at; /* of the tags */
    uint32_t       file;
    int32_t        next; /* older, in the same bucket; -1: none */
} record_t;

typedef struct {
    int   fd;
    char *path;
} file_t;

struct worker_unit_cache {
    model_hash_t    model;
    model_secret_t  secret; /* of heads and places */
    model_secret_t  bytes;  /* of the bytes of units: made of it */
    file_t         *files;
    uint32_t        n_files;
    record_t       *records;
    size_t          n_records, room;
    int32_t         buckets[BUCKETS];
    int             own; /* -1: nothing is written */
    uint64_t        end; /* of the own file */
    bool            broken;
    pthread_mutex_t lock; /* guards end, broken */
};

/* --- records --- */

static uint64_t tensor_key(const model_tensor_t *t)
{
    const uint64_t numbers[2] = {t->file, t->offset};
    return model_bytes_hash64(numbers, sizeof(numbers));
}

static uint64_t mac_words(const worker_unit_cache_t *c, const uint64_t *words, size_t n)
{
    uint8_t bytes[16 * 8];
    base_assert(n <= sizeof(bytes) / 8);
    for (size_t i = 0; i < n; i++) model_store_u64(bytes + 8 * i, words[i]);
    return model_bytes_mac64(&c->secret, bytes, 8 * n);
}

static uint64_t head_tag(const worker_unit_cache_t *c, const uint8_t *head, const uint8_t *tags,
                         size_t n_units)
{
    const uint64_t words[] = {c->model.high, c->model.low,
                              model_bytes_mac64(&c->secret, head, HEAD_BYTES - 8),
                              model_bytes_mac64(&c->secret, tags, n_units * 8)};
    return mac_words(c, words, sizeof(words) / sizeof(words[0]));
}

/* Of a unit and its place: a sound unit of elsewhere is none here. */
static uint64_t unit_tag(const worker_unit_cache_t *c, const model_window_t *w, uint64_t tile,
                         uint64_t strip, const uint8_t *bytes)
{
    const model_tensor_t *t       = &w->tensor;
    const uint64_t        words[] = {
               c->model.high,
               c->model.low,
               (uint64_t)t->type,
               t->file,
               t->offset,
               t->n_rows,
               t->n_cols,
               w->strips,
               tile,
               strip,
               model_bytes_mac64(&c->bytes, bytes, model_unit_bytes(w, tile, strip))};
    return mac_words(c, words, sizeof(words) / sizeof(words[0]));
}

static void head_pack(const model_window_t *w, uint8_t *out)
{
    const model_tensor_t *t              = &w->tensor;
    const uint64_t        fields[FIELDS] = {(uint64_t)t->type,
                                            t->file,
                                            t->offset,
                                            t->n_rows,
                                            t->n_cols,
                                            w->strips,
                                            w->tile0,
                                            w->n_tiles,
                                            w->strip0,
                                            w->n_strips,
                                            model_window_bytes(w),
                                            model_window_units(w)};
    memcpy(out, magic, sizeof(magic));
    for (size_t i = 0; i < FIELDS; i++) model_store_u64(out + 8 + 8 * i, fields[i]);
}

/* A record's window out of bytes that may hold anything. */
static bool head_unpack(const uint8_t *head, model_window_t *w, uint64_t *bytes, uint64_t *units)
{
    uint64_t f[FIELDS];
    if (memcmp(head, magic, sizeof(magic)) != 0) return false;
    for (size_t i = 0; i < FIELDS; i++) f[i] = model_load_u64(head + 8 + 8 * i);
    if (f[0] == MODEL_NONE || f[0] >= MODEL_TYPE_COUNT || f[1] > LIMIT_MODEL_FILES || f[3] == 0 ||
        f[3] > LIMIT_VOCAB || f[4] == 0 || f[4] > LIMIT_FFN || f[5] > 1)
        return false;
    *w = (model_window_t){.tensor   = {.type   = (model_type_t)f[0],
                                       .file   = (uint32_t)f[1],
                                       .offset = f[2],
                                       .n_rows = f[3],
                                       .n_cols = f[4]},
                          .strips   = f[5] != 0,
                          .tile0    = f[6],
                          .n_tiles  = f[7],
                          .strip0   = f[8],
                          .n_strips = f[9]};
    if (f[4] % model_type_info(w->tensor.type)->block_elems != 0 || !model_window_check(w))
        return false;
    *bytes = f[10];
    *units = f[11];
    return *bytes == model_window_bytes(w) && *units == model_window_units(w) &&
           *units <= UNITS_MAX;
}

static bool read_at(int fd, void *to, size_t n, uint64_t at)
{
    uint8_t *p = to;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

static bool write_at(int fd, const void *from, size_t n, uint64_t at)
{
    const uint8_t *p = from;
    while (n > 0) {
        ssize_t put = pwrite(fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return true;
}

static base_status_t add_record(worker_unit_cache_t *c, const model_window_t *w, uint32_t file,
                                uint64_t at, base_err_t *err)
{
    if (c->n_records == c->room) {
        const size_t room = c->room == 0 ? 256 : 2 * c->room;
        record_t    *more = room > RECORDS_MAX ? NULL : realloc(c->records, room * sizeof(*more));
        if (more == NULL)
            return base_fail(err, BASE_ERR_MEMORY, "%s: no memory for its %zu records",
                             c->files[file].path, room);
        c->records = more;
        c->room    = room;
    }
    int32_t *bucket          = &c->buckets[tensor_key(&w->tensor) % BUCKETS];
    c->records[c->n_records] = (record_t){.window = *w, .at = at, .file = file, .next = *bucket};
    *bucket                  = (int32_t)c->n_records++;
    return BASE_OK;
}

/* All sound records of a file, up to the first that is not. *end: where that one begins. */
static base_status_t scan(worker_unit_cache_t *c, uint32_t file, uint64_t *end, base_err_t *err)
{
    uint8_t       head[HEAD_BYTES];
    uint8_t      *tags = NULL;
    size_t        room = 0;
    struct stat   info;
    const file_t *f  = &c->files[file];
    base_status_t st = BASE_OK;
    *end             = 0;
    if (fstat(f->fd, &info) != 0 || !S_ISREG(info.st_mode)) return BASE_OK;
    while (st == BASE_OK && *end + HEAD_BYTES <= (uint64_t)info.st_size) {
        model_window_t w;
        uint64_t       bytes = 0, units = 0;
        if (!read_at(f->fd, head, sizeof(head), *end) || !head_unpack(head, &w, &bytes, &units))
            break;
        const uint64_t data = *end + HEAD_BYTES + units * 8;
        if (data + bytes > (uint64_t)info.st_size) break;
        if (room < units * 8) {
            free(tags);
            tags = NULL;
            room = 0;
            st   = base_alloc((void **)&tags, units, 8, "cache of weights", err);
            if (st != BASE_OK) break;
            room = units * 8;
        }
        if (!read_at(f->fd, tags, units * 8, *end + HEAD_BYTES) ||
            head_tag(c, head, tags, units) != model_load_u64(head + HEAD_BYTES - 8))
            break;
        st   = add_record(c, &w, file, *end + HEAD_BYTES, err);
        *end = data + bytes;
    }
    free(tags);
    if (st == BASE_OK && *end < (uint64_t)info.st_size)
        base_log(BASE_LOG_WARN,
                 "%s: damaged, cut, or not kept by this cluster, at byte %" PRIu64 " of %" PRIu64
                 "; what follows is not used",
                 f->path, *end, (uint64_t)info.st_size);
    return st;
}

/* --- open, close --- */

static base_status_t add_file(worker_unit_cache_t *c, int fd, const char *dir, const char *name,
                              base_err_t *err)
{
    char path[LIMIT_PATH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    c->files[c->n_files] = (file_t){.fd = fd, .path = strdup(path)};
    if (c->files[c->n_files].path == NULL) {
        (void)close(fd);
        return base_fail(err, BASE_ERR_MEMORY, "%s: no memory", path);
    }
    c->n_files++;
    return BASE_OK;
}

/* Files of other ranks, or of other runs. */
static base_status_t find_others(worker_unit_cache_t *c, const char *dir, const char *prefix,
                                 const char *own, base_err_t *err)
{
    DIR           *d     = opendir(dir);
    struct dirent *entry = NULL;
    base_status_t  st    = BASE_OK;
    if (d == NULL)
        return base_fail(err, BASE_ERR_IO, "--cache %s: cannot look into: %s", dir,
                         strerror(errno));
    while (st == BASE_OK && c->n_files + 1 < FILES_MAX && (entry = readdir(d)) != NULL) {
        uint64_t end = 0;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || strcmp(entry->d_name, own) == 0)
            continue;
        int fd = openat(dirfd(d), entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0) continue; /* not ours to read: as if it were not there */
        st = add_file(c, fd, dir, entry->d_name, err);
        if (st == BASE_OK) st = scan(c, c->n_files - 1, &end, err);
    }
    (void)closedir(d);
    return st;
}

/* A folder that may only be read, as in an image or made by somebody else, or that is full, is
 * read; what is no file there is left alone. */
static base_status_t open_to_read(worker_unit_cache_t *c, const char *dir, const char *name,
                                  int why, base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    uint64_t      end = 0;
    base_status_t st  = BASE_OK;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    base_log(BASE_LOG_WARN, "%s: cannot write: %s; nothing more is kept", path, strerror(why));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) return BASE_OK;
    st = add_file(c, fd, dir, name, err);
    return st == BASE_OK ? scan(c, c->n_files - 1, &end, err) : st;
}

/* Why a file cannot be written that does not keep the folder from being read. */
static bool is_harmless(int why)
{
    static const int list[] = {EROFS, EACCES, EPERM, ENOSPC, EDQUOT, EISDIR, ELOOP};
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (list[i] == why) return true;
    return false;
}

/* The file that this rank appends to. Another run may have it: then nothing is written. */
static base_status_t open_own(worker_unit_cache_t *c, const char *dir, const char *name,
                              base_err_t *err)
{
    char        path[LIMIT_PATH_BYTES];
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666);
    if (fd < 0 && is_harmless(errno)) return open_to_read(c, dir, name, errno, err);
    if (fd >= 0 && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))) {
        (void)close(fd);
        base_log(BASE_LOG_WARN, "%s: is no regular file; nothing more is kept", path);
        return BASE_OK;
    }
    if (fd < 0) return base_fail(err, BASE_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    base_status_t st = add_file(c, fd, dir, name, err);
    /* Locked before the end is looked for: another run may be appending. */
    bool locked = st == BASE_OK && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (st == BASE_OK) st = scan(c, c->n_files - 1, &c->end, err);
    if (st != BASE_OK) return st;
    if (!locked) {
        base_log(BASE_LOG_WARN, "%s: another run writes it; nothing more is kept", path);
        return BASE_OK;
    }
    if (ftruncate(fd, (off_t)c->end) != 0)
        return base_fail(err, BASE_ERR_IO, "%s: cannot cut to %" PRIu64 " bytes: %s", path, c->end,
                         strerror(errno));
    c->own = fd;
    return BASE_OK;
}

base_status_t worker_unit_cache_open(const char *dir, model_hash_t model,
                                     const model_secret_t *secret, int rank,
                                     worker_unit_cache_t **out, base_err_t *err)
{
    char                 prefix[SUFFIX_BYTES], own[SUFFIX_BYTES + 16];
    worker_unit_cache_t *c = NULL;
    if (strlen(dir) + sizeof(own) >= LIMIT_PATH_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "%.80s...: the path is too long", dir);
    base_status_t st = base_alloc((void **)&c, 1, sizeof(*c), "cache of weights", err);
    if (st != BASE_OK) return st;
    (void)pthread_mutex_init(&c->lock, NULL);
    c->model  = model;
    c->secret = *secret;
    for (uint64_t i = 0; i < 2; i++) c->bytes.words[i] = mac_words(c, &i, 1);
    c->own = -1;
    for (int i = 0; i < BUCKETS; i++) c->buckets[i] = -1;
    (void)snprintf(prefix, sizeof(prefix), "%016" PRIx64 "-",
                   mac_words(c, (const uint64_t[]){model.high, model.low}, 2));
    (void)snprintf(own, sizeof(own), "%s%04d.units", prefix, rank);
    st = base_alloc((void **)&c->files, FILES_MAX, sizeof(file_t), "cache of weights", err);
    if (st == BASE_OK && mkdir(dir, 0777) != 0 && errno != EEXIST)
        st = base_fail(err, BASE_ERR_IO, "--cache %s: cannot make it: %s", dir, strerror(errno));
    if (st == BASE_OK) st = find_others(c, dir, prefix, own, err);
    if (st == BASE_OK) st = open_own(c, dir, own, err); /* last: its records come first */
    if (st == BASE_OK)
        *out = c;
    else
        worker_unit_cache_close(&c);
    return st;
}

void worker_unit_cache_close(worker_unit_cache_t **cache)
{
    worker_unit_cache_t *c = cache == NULL ? NULL : *cache;
    if (c == NULL) return;
    for (uint32_t i = 0; c->files != NULL && i < c->n_files; i++) {
        (void)close(c->files[i].fd);
        free(c->files[i].path);
    }
    free(c->files);
    free(c->records);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
    *cache = NULL;
}

/* --- units --- */

static bool holds(const record_t *r, const model_window_t *w, uint64_t tile, uint64_t strip)
{
    const model_window_t *have = &r->window;
    return have->tensor.offset == w->tensor.offset && have->tensor.file == w->tensor.file &&
           have->tensor.type == w->tensor.type && have->tensor.n_rows == w->tensor.n_rows &&
           have->tensor.n_cols == w->tensor.n_cols && have->strips == w->strips &&
           tile >= have->tile0 && tile - have->tile0 < have->n_tiles && strip >= have->strip0 &&
           strip - have->strip0 < have->n_strips;
}

/* The next record, from `at` on, that holds the unit; -1: none. */
static int32_t find(const worker_unit_cache_t *c, int32_t at, const model_window_t *w,
                    uint64_t tile, uint64_t strip)
{
    while (at >= 0 && !holds(&c->records[at], w, tile, strip)) at = c->records[at].next;
    return at;
}

static int32_t first_of(const worker_unit_cache_t *c, const model_window_t *w)
{
    return c->buckets[tensor_key(&w->tensor) % BUCKETS];
}

bool worker_unit_cache_has(const worker_unit_cache_t *cache, const model_window_t *window,
                           uint64_t tile, uint64_t strip)
{
    return find(cache, first_of(cache, window), window, tile, strip) >= 0;
}

/* Where unit (tile, strip) lies behind the first unit of a record: bytes, and its number. */
static uint64_t unit_offset(const model_window_t *w, uint64_t tile, uint64_t strip, uint64_t *index)
{
    const uint64_t before = tile - w->tile0;
    uint64_t       row    = 0;
    for (uint64_t s = w->strip0; s < w->strip0 + w->n_strips; s++)
        row += model_unit_bytes(w, w->tile0, s); /* of a tile that is not the tensor's last, */
    uint64_t at = before * row;                  /* if any lies before this one */
    for (uint64_t s = w->strip0; s < strip; s++) at += model_unit_bytes(w, tile, s);
    *index = before * w->n_strips + strip - w->strip0;
    return at;
}

static bool read_unit(const worker_unit_cache_t *c, const record_t *r, uint64_t tile,
                      uint64_t strip, uint8_t *out)
{
    uint8_t        tag[8];
    uint64_t       index = 0;
    const uint64_t at    = unit_offset(&r->window, tile, strip, &index);
    const size_t   bytes = model_unit_bytes(&r->window, tile, strip);
    const int      fd    = c->files[r->file].fd;
    return read_at(fd, tag, sizeof(tag), r->at + index * 8) &&
           read_at(fd, out, bytes, r->at + model_window_units(&r->window) * 8 + at) &&
           unit_tag(c, &r->window, tile, strip, out) == model_load_u64(tag);
}

void worker_unit_cache_read(worker_unit_cache_t *cache, const model_window_t *window, uint8_t *out,
                            bool *good, const char **path)
{
    size_t i = 0;
    for (uint64_t t = window->tile0; t < window->tile0 + window->n_tiles; t++)
        for (uint64_t s = window->strip0; s < window->strip0 + window->n_strips; s++, i++) {
            int32_t r = good[i] ? -1 : find(cache, first_of(cache, window), window, t, s);
            while (r >= 0 && !good[i]) {
                good[i] = read_unit(cache, &cache->records[r], t, s, out);
                if (!good[i]) *path = cache->files[cache->records[r].file].path;
                r = find(cache, cache->records[r].next, window, t, s);
            }
            out += model_unit_bytes(window, t, s);
        }
}

static void put_tags(const worker_unit_cache_t *c, const model_window_t *w, const uint8_t *bytes,
                     uint8_t *tags)
{
    for (uint64_t t = w->tile0; t < w->tile0 + w->n_tiles; t++)
        for (uint64_t s = w->strip0; s < w->strip0 + w->n_strips; s++) {
            model_store_u64(tags, unit_tag(c, w, t, s, bytes));
            tags += 8;
            bytes += model_unit_bytes(w, t, s);
        }
}

void worker_unit_cache_keep(worker_unit_cache_t *cache, const model_window_t *window,
                            const uint8_t *bytes)
{
    uint8_t              head[HEAD_BYTES] = {0};
    const size_t         units            = model_window_units(window);
    const size_t         n                = model_window_bytes(window);
    worker_unit_cache_t *c                = cache;
    uint8_t             *tags             = c->own < 0 ? NULL : malloc(units * 8);
    if (tags == NULL) return; /* nothing is kept, or not this */
    put_tags(c, window, bytes, tags);
    head_pack(window, head);
    model_store_u64(head + HEAD_BYTES - 8, head_tag(c, head, tags, units));
    (void)pthread_mutex_lock(&c->lock);
    const uint64_t at = c->end;
    if (!c->broken) c->end += HEAD_BYTES + units * 8 + n;
    bool over = c->broken;
    (void)pthread_mutex_unlock(&c->lock);
    /* The head last: without it the record is none. */
    const bool good = over || (write_at(c->own, tags, units * 8, at + HEAD_BYTES) &&
                               write_at(c->own, bytes, n, at + HEAD_BYTES + units * 8) &&
                               write_at(c->own, head, sizeof(head), at));
    const int  why  = errno;
    free(tags);
    if (good) return;
    (void)pthread_mutex_lock(&c->lock);
    over      = c->broken;
    c->broken = true;
    (void)pthread_mutex_unlock(&c->lock);
    if (!over)
        base_log(BASE_LOG_WARN, "%s: cannot keep weights: %s; the rest of them is not kept",
                 c->files[c->n_files - 1].path, strerror(why));
}
