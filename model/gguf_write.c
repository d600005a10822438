/* model/gguf_write.c: writing GGUF files. */
#include "model/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "model/bytes.h"
#include "model/gguf.h"

enum { ALIGNMENT = 32, I2_S_TRAILER = 32, SUFFIX_BYTES = 32, FIRST_BYTES = 1 << 16 };

/* Bytes that grow. */
typedef struct {
    uint8_t *data;
    size_t   used, bytes;
} buffer_t;

typedef struct {
    model_type_t type;
    uint64_t     offset; /* from the start of the data; of the file after begin */
    uint64_t     n_rows; /* of a vector: 1; where 4 rows share their bytes a fourth */
    uint64_t     row_bytes;
    uint64_t     trailer; /* bytes behind the rows */
} tensor_t;

struct model_gguf_writer {
    char            *path;
    char            *temporary; /* NULL when finished */
    int              fd;
    bool             begun;
    bool             no_memory;
    buffer_t         keys;
    buffer_t         directory; /* of tensors */
    uint32_t         n_keys;
    uint32_t         n_tensors;
    tensor_t        *tensors;
    uint64_t         data_bytes; /* tensor data with padding */
    uint64_t         bytes;      /* of the file; after begin */
    uint64_t         want;       /* tensor data without padding */
    _Atomic uint64_t done;
};

/* ---- growing bytes
 * ------------------------------------------------------------------------------- */

static void put(model_gguf_writer_t *w, buffer_t *b, const void *data, size_t n)
{
    if (w->no_memory) return;
    if (n > b->bytes - b->used) {
        size_t   bytes = base_max_size(base_max_size(2 * b->bytes, b->used + n), FIRST_BYTES);
        uint8_t *grown = realloc(b->data, bytes);
        if (grown == NULL) {
            w->no_memory = true;
            return;
        }
        b->data  = grown;
        b->bytes = bytes;
    }
    if (n > 0) memcpy(b->data + b->used, data, n);
    b->used += n;
}

static void put_u32(model_gguf_writer_t *w, buffer_t *b, uint32_t v)
{
    uint8_t bytes[4];
    model_store_u32(bytes, v);
    put(w, b, bytes, sizeof(bytes));
}

static void put_u64(model_gguf_writer_t *w, buffer_t *b, uint64_t v)
{
    uint8_t bytes[8];
    model_store_u64(bytes, v);
    put(w, b, bytes, sizeof(bytes));
}

static void put_str(model_gguf_writer_t *w, buffer_t *b, const char *text, size_t n)
{
    put_u64(w, b, n);
    put(w, b, text, n);
}

/* ---- opening and closing
 * ------------------------------------------------------------------------- */

base_status_t model_gguf_writer_open(const char *path, model_gguf_writer_t **out, base_err_t *err)
{
    model_gguf_writer_t *w = NULL;
    void                *p = NULL;
    struct stat          info;
    base_status_t        st = BASE_OK;
    const size_t         n  = strlen(path) + SUFFIX_BYTES;

    base_assert(out != NULL);
    if (n > LIMIT_PATH_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "%.80s...: the path is too long", path);
    /* Known before an hour's work; and a device or pipe must not become a file. */
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return base_fail(err, BASE_ERR_IO, "%s: is %s; give the name of a file", path,
                         S_ISDIR(info.st_mode) ? "a directory" : "no regular file");
    st = base_alloc(&p, 1, sizeof(*w), "GGUF writer", err);
    if (st != BASE_OK) goto out;
    w     = p;
    w->fd = -1;
    st    = base_alloc(&p, n, 1, "GGUF writer", err);
    if (st != BASE_OK) goto out;
    w->path = p;
    (void)snprintf(w->path, n, "%s", path);
    st = base_alloc(&p, n, 1, "GGUF writer", err);
    if (st != BASE_OK) goto out;
    (void)snprintf(p, n, "%s.partial.%ld", path, (long)getpid());
    w->fd = open(p, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        st = base_fail(err, BASE_ERR_IO, "%s: cannot create %s: %s", path, (char *)p,
                       strerror(errno));
        free(p);
        goto out;
    }
    w->temporary = p;
    *out         = w;
    w            = NULL;
out:
    model_gguf_writer_close(&w);
    return st;
}

void model_gguf_writer_close(model_gguf_writer_t **writer)
{
    if (writer == NULL || *writer == NULL) return;
    model_gguf_writer_t *w = *writer;
    if (w->fd >= 0) (void)close(w->fd);
    if (w->temporary != NULL) (void)unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    free(w->keys.data);
    free(w->directory.data);
    free(w->tensors);
    free(w);
    *writer = NULL;
}

/* ---- keys
 * ---------------------------------------------------------------------------------------- */

static void put_key(model_gguf_writer_t *w, const char *key, model_gguf_value_t type)
{
    base_assert(!w->begun && key[0] != '\0' && strlen(key) <= LIMIT_KEY_BYTES);
    put_str(w, &w->keys, key, strlen(key));
    put_u32(w, &w->keys, type);
    w->n_keys++;
}

static void put_array(model_gguf_writer_t *w, const char *key, model_gguf_value_t type, uint32_t n)
{
    put_key(w, key, MODEL_GGUF_ARRAY);
    put_u32(w, &w->keys, type);
    put_u64(w, &w->keys, n);
}

void model_gguf_write_u32(model_gguf_writer_t *writer, const char *key, uint32_t value)
{
    put_key(writer, key, MODEL_GGUF_U32);
    put_u32(writer, &writer->keys, value);
}

void model_gguf_write_f32(model_gguf_writer_t *writer, const char *key, float value)
{
    put_key(writer, key, MODEL_GGUF_F32);
    put_u32(writer, &writer->keys, model_bits_of_float(value));
}

void model_gguf_write_bool(model_gguf_writer_t *writer, const char *key, bool value)
{
    uint8_t byte = value;
    put_key(writer, key, MODEL_GGUF_BOOL);
    put(writer, &writer->keys, &byte, 1);
}

void model_gguf_write_str(model_gguf_writer_t *writer, const char *key, const char *value)
{
    put_key(writer, key, MODEL_GGUF_STRING);
    put_str(writer, &writer->keys, value, strlen(value));
}

void model_gguf_write_text(model_gguf_writer_t *writer, const char *key, model_str_t value)
{
    put_key(writer, key, MODEL_GGUF_STRING);
    put_str(writer, &writer->keys, value.text, value.bytes);
}

void model_gguf_write_u32s(model_gguf_writer_t *writer, const char *key, const uint32_t *values,
                           uint32_t n)
{
    put_array(writer, key, MODEL_GGUF_U32, n);
    for (uint32_t i = 0; i < n; i++) put_u32(writer, &writer->keys, values[i]);
}

void model_gguf_write_i32s(model_gguf_writer_t *writer, const char *key, const int32_t *values,
                           uint32_t n)
{
    put_array(writer, key, MODEL_GGUF_I32, n);
    for (uint32_t i = 0; i < n; i++) put_u32(writer, &writer->keys, (uint32_t)values[i]);
}

void model_gguf_write_f32s(model_gguf_writer_t *writer, const char *key, const float *values,
                           uint32_t n)
{
    put_array(writer, key, MODEL_GGUF_F32, n);
    for (uint32_t i = 0; i < n; i++) put_u32(writer, &writer->keys, model_bits_of_float(values[i]));
}

void model_gguf_write_strs(model_gguf_writer_t *writer, const char *key, const model_str_t *values,
                           uint32_t n)
{
    put_array(writer, key, MODEL_GGUF_STRING, n);
    for (uint32_t i = 0; i < n; i++)
        put_str(writer, &writer->keys, values[i].text, values[i].bytes);
}

/* ---- tensors
 * ------------------------------------------------------------------------------------- */

static uint32_t type_number(model_type_t type)
{
    static const uint8_t numbers[MODEL_TYPE_COUNT] = {
        [MODEL_F32] = 0,      [MODEL_F16] = 1,      [MODEL_BF16] = 30,    [MODEL_Q8_0] = 8,
        [MODEL_Q6_K] = 14,    [MODEL_TQ1_0] = 34,   [MODEL_TQ2_0] = 35,   [MODEL_Q4_0] = 2,
        [MODEL_Q4_1] = 3,     [MODEL_Q5_0] = 6,     [MODEL_Q5_1] = 7,     [MODEL_Q2_K] = 10,
        [MODEL_Q3_K] = 11,    [MODEL_Q4_K] = 12,    [MODEL_Q5_K] = 13,    [MODEL_I2_S] = 36,
        [MODEL_I2_S_64] = 36, [MODEL_I2_S_R4] = 36, [MODEL_F16_TERN] = 1,
    };
    base_assert(type > MODEL_NONE && type < MODEL_TYPE_COUNT);
    base_assert(numbers[type] != 0 || type == MODEL_F32); /* ROWS4: not written */
    return numbers[type];
}

uint32_t model_gguf_write_tensor(model_gguf_writer_t *writer, const char *name, model_type_t type,
                                 uint64_t n_rows, uint64_t n_cols)
{
    model_gguf_writer_t *w      = writer;
    buffer_t            *b      = &w->directory;
    const uint32_t       number = w->n_tensors;
    uint64_t             bytes  = 0;

    base_assert(!w->begun && number < LIMIT_TENSORS && n_cols > 0 && n_cols <= UINT32_MAX);
    base_assert(name[0] != '\0' && strlen(name) < LIMIT_TENSOR_NAME);
    if (number % 64 == 0) { /* grows by 64 */
        tensor_t *grown = realloc(w->tensors, (number + 64) * sizeof(*grown));
        if (grown == NULL) w->no_memory = true;
        if (grown != NULL) w->tensors = grown;
    }
    put_str(w, b, name, strlen(name));
    put_u32(w, b, n_rows == 0 ? 1 : 2);
    put_u64(w, b, n_cols);
    if (n_rows > 0) put_u64(w, b, n_rows);
    put_u32(w, b, type_number(type));
    put_u64(w, b, w->data_bytes);
    w->n_tensors++;
    if (w->no_memory) return number; /* begin will say so */
    tensor_t *t                   = &w->tensors[number];
    t->type                       = type;
    t->offset                     = w->data_bytes;
    const model_type_info_t *info = model_type_info(type);
    base_assert(!info->shared || n_rows % 4 == 0);
    t->n_rows    = n_rows == 0 ? 1 : info->shared ? n_rows / 4 : n_rows;
    t->row_bytes = info->shared ? n_cols : model_row_bytes(type, n_cols);
    t->trailer   = type_number(type) == type_number(MODEL_I2_S) ? I2_S_TRAILER : 0;
    bool fits    = base_mul_u64(t->row_bytes, t->n_rows, &bytes) && bytes <= INT64_MAX / 2 &&
                w->data_bytes <= INT64_MAX / 2;
    base_assert(fits);
    bytes += t->trailer;
    w->want += bytes;
    w->data_bytes += base_round_up(bytes, ALIGNMENT);
    return number;
}

static base_status_t write_at(model_gguf_writer_t *w, uint64_t at, const uint8_t *data, uint64_t n,
                              base_err_t *err)
{
    while (n > 0) {
        size_t  piece = n > 1 << 30 ? 1 << 30 : (size_t)n;
        ssize_t wrote = pwrite(w->fd, data, piece, (off_t)at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0)
            return base_fail(err, BASE_ERR_IO,
                             "%s: cannot write at byte %" PRIu64 " of %" PRIu64 ": %s", w->path, at,
                             w->bytes, wrote == 0 ? "no space" : strerror(errno));
        at += (uint64_t)wrote;
        data += wrote;
        n -= (uint64_t)wrote;
    }
    return BASE_OK;
}

base_status_t model_gguf_writer_begin(model_gguf_writer_t *writer, base_err_t *err)
{
    model_gguf_writer_t *w    = writer;
    buffer_t             head = {NULL, 0, 0};
    uint64_t             data = 0;
    base_status_t        st   = BASE_OK;
    static const uint8_t zeros[ALIGNMENT];

    base_assert(!w->begun);
    w->begun = true;
    put(w, &head, "GGUF", 4);
    put_u32(w, &head, 3);
    put_u64(w, &head, w->n_tensors);
    put_u64(w, &head, w->n_keys);
    put(w, &head, w->keys.data, w->keys.used);
    put(w, &head, w->directory.data, w->directory.used);
    put(w, &head, zeros, base_round_up(head.used, ALIGNMENT) - head.used);
    if (w->no_memory) {
        st = base_fail(err, BASE_ERR_MEMORY, "%s: no memory for its keys", w->path);
        goto out;
    }
    data     = head.used;
    w->bytes = data + w->data_bytes;
    for (uint32_t i = 0; i < w->n_tensors; i++) w->tensors[i].offset += data;
    /* Reserve now: a full disk is better known before an hour's work than after. */
    if (fallocate(w->fd, 0, 0, (off_t)w->bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS &&
        errno != EINVAL) {
        st = base_fail(err, BASE_ERR_IO, "%s: cannot reserve %" PRIu64 " bytes: %s", w->path,
                       w->bytes, strerror(errno));
        goto out;
    }
    if (ftruncate(w->fd, (off_t)w->bytes) != 0) {
        st = base_fail(err, BASE_ERR_IO, "%s: cannot grow to %" PRIu64 " bytes: %s", w->path,
                       w->bytes, strerror(errno));
        goto out;
    }
    st = write_at(w, 0, head.data, head.used, err);
out:
    free(head.data);
    return st;
}

base_status_t model_gguf_write_rows(model_gguf_writer_t *writer, uint32_t tensor, uint64_t row,
                                    uint64_t n_rows, const void *data, base_err_t *err)
{
    base_assert(writer->begun && tensor < writer->n_tensors);
    const tensor_t *t = &writer->tensors[tensor];
    if (model_type_info(t->type)->shared) {
        base_assert(row % 4 == 0 && n_rows % 4 == 0);
        row /= 4;
        n_rows /= 4;
    }
    base_assert(row <= t->n_rows && n_rows <= t->n_rows - row);
    base_status_t st =
        write_at(writer, t->offset + row * t->row_bytes, data, n_rows * t->row_bytes, err);
    if (st == BASE_OK) (void)atomic_fetch_add(&writer->done, n_rows * t->row_bytes);
    return st;
}

base_status_t model_gguf_write_scale(model_gguf_writer_t *writer, uint32_t tensor, float scale,
                                     base_err_t *err)
{
    uint8_t bytes[I2_S_TRAILER] = {0};
    base_assert(writer->begun && tensor < writer->n_tensors);
    const tensor_t *t = &writer->tensors[tensor];
    base_assert(t->trailer == sizeof(bytes));
    model_store_u32(bytes, model_bits_of_float(scale));
    base_status_t st =
        write_at(writer, t->offset + t->n_rows * t->row_bytes, bytes, sizeof(bytes), err);
    if (st == BASE_OK) (void)atomic_fetch_add(&writer->done, sizeof(bytes));
    return st;
}

uint64_t model_gguf_writer_total(const model_gguf_writer_t *writer)
{
    return writer->want;
}

uint64_t model_gguf_writer_done(const model_gguf_writer_t *writer)
{
    return atomic_load(&writer->done);
}

base_status_t model_gguf_writer_finish(model_gguf_writer_t *writer, base_err_t *err)
{
    model_gguf_writer_t *w = writer;
    base_assert(w->begun && w->temporary != NULL && atomic_load(&w->done) == w->want);
    if (fsync(w->fd) != 0)
        return base_fail(err, BASE_ERR_IO, "%s: cannot write: %s", w->path, strerror(errno));
    int failed = close(w->fd);
    w->fd      = -1;
    if (failed != 0)
        return base_fail(err, BASE_ERR_IO, "%s: cannot write: %s", w->path, strerror(errno));
    if (rename(w->temporary, w->path) != 0)
        return base_fail(err, BASE_ERR_IO, "%s: cannot rename %s: %s", w->path, w->temporary,
                         strerror(errno));
    free(w->temporary);
    w->temporary = NULL;
    return BASE_OK;
}
