/* model/safetensors.c: the directory of safetensors files. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "model/bytes.h"
#include "model/source.h"

static const struct {
    const char      *name;
    uint32_t         bits;
    model_st_dtype_t dtype;
} dtypes[] = {
    {"F32", 32, MODEL_ST_F32},      {"F16", 16, MODEL_ST_F16},      {"BF16", 16, MODEL_ST_BF16},
    {"U8", 8, MODEL_ST_U8},         {"BOOL", 8, MODEL_ST_OTHER},    {"I8", 8, MODEL_ST_OTHER},
    {"I16", 16, MODEL_ST_OTHER},    {"U16", 16, MODEL_ST_OTHER},    {"I32", 32, MODEL_ST_OTHER},
    {"U32", 32, MODEL_ST_OTHER},    {"I64", 64, MODEL_ST_OTHER},    {"U64", 64, MODEL_ST_OTHER},
    {"F64", 64, MODEL_ST_OTHER},    {"C64", 64, MODEL_ST_OTHER},    {"F8_E4M3", 8, MODEL_ST_OTHER},
    {"F8_E5M2", 8, MODEL_ST_OTHER}, {"F8_E8M0", 8, MODEL_ST_OTHER}, {"F4", 4, MODEL_ST_OTHER},
};

typedef struct {
    const char *path;
    uint64_t    data;  /* where tensor data begins */
    uint64_t    bytes; /* of the file */
    uint32_t    file;
    base_err_t *err;
} reader_t;

static base_status_t fail_tensor(const reader_t *r, const char *name, const char *what)
{
    return base_fail(r->err, BASE_ERR_INPUT, "%s: tensor %.100s: %s: damaged header?", r->path,
                     name, what);
}

/* An array of n integers from 0 up. */
static bool read_ints(const json_t *array, size_t n, uint64_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(array, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
        out[i] = (uint64_t)json_integer_value(v);
    }
    return true;
}

static base_status_t read_dtype(const reader_t *r, const json_t *entry, model_st_tensor_t *t,
                                uint32_t *bits)
{
    const json_t *name = json_object_get(entry, "dtype");
    if (!json_is_string(name)) return fail_tensor(r, t->name, "'dtype' is no string");
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (!model_json_is(name, dtypes[i].name)) continue;
        t->dtype      = dtypes[i].dtype;
        t->dtype_name = dtypes[i].name;
        *bits         = dtypes[i].bits;
        return BASE_OK;
    }
    return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                     "%s: tensor %.100s has the unknown dtype '%.20s'", r->path, t->name,
                     json_string_value(name));
}

static base_status_t read_tensor(const reader_t *r, const char *name, const json_t *entry,
                                 model_st_tensor_t *t)
{
    uint64_t      ends[2] = {0, 0};
    uint64_t      n       = 1;
    uint32_t      bits    = 0;
    const json_t *shape   = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");

    *t = (model_st_tensor_t){.name = name, .file = r->file, .dims = {1, 1, 1, 1}};
    if (strlen(name) >= LIMIT_TENSOR_NAME)
        return base_fail(r->err, BASE_ERR_LIMIT, "%s: a tensor's name has %zu bytes, limit %d",
                         r->path, strlen(name), LIMIT_TENSOR_NAME - 1);
    if (!json_is_object(entry)) return fail_tensor(r, name, "no object");
    base_status_t st = read_dtype(r, entry, t, &bits);
    if (st != BASE_OK) return st;
    if (!json_is_array(shape) || json_array_size(shape) > MODEL_ST_DIMS)
        return fail_tensor(r, name, "'shape' is no array of up to 4 numbers");
    t->n_dims = (uint32_t)json_array_size(shape);
    if (!read_ints(shape, t->n_dims, t->dims))
        return fail_tensor(r, name, "'shape' holds no sizes");
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (!base_mul_u64(n, t->dims[i], &n)) return fail_tensor(r, name, "its shape is too large");
    if (!base_mul_u64(n, bits, &n) || n % 8 != 0)
        return fail_tensor(r, name, "its shape gives no number of bytes");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !read_ints(offsets, 2, ends))
        return fail_tensor(r, name, "'data_offsets' is no pair of offsets");
    if (ends[1] < ends[0] || ends[1] - ends[0] != n / 8)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %.100s: data_offsets %" PRIu64 " to %" PRIu64
                         ", its shape needs %" PRIu64 " bytes: damaged header?",
                         r->path, name, ends[0], ends[1], n / 8);
    if (ends[1] > r->bytes - r->data)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: the file is cut: %" PRIu64 " bytes, tensor %.100s needs %" PRIu64
                         " behind its header of %" PRIu64 "; was its download complete?",
                         r->path, r->bytes, name, ends[1], r->data);
    t->offset = r->data + ends[0];
    t->bytes  = n / 8;
    return BASE_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const model_st_tensor_t *x = a;
    const model_st_tensor_t *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const model_st_tensor_t *)a)->name, ((const model_st_tensor_t *)b)->name);
}

/* The format wants the tensors to cover all that follows the header: no byte twice, none by nobody.
 * Sorts them by offset. */
static base_status_t check_cover(const reader_t *r, model_st_tensor_t *own, uint32_t n)
{
    uint64_t at = r->data;
    qsort(own, n, sizeof(*own), compare_offsets);
    for (uint32_t i = 0; i < n; i++) {
        if (own[i].offset < at)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: tensors %.100s and %.100s overlap: damaged header?", r->path,
                             own[i - 1].name, own[i].name);
        if (own[i].offset > at)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: a hole of %" PRIu64
                             " bytes before tensor %.100s: damaged header?",
                             r->path, own[i].offset - at, own[i].name);
        at += own[i].bytes;
    }
    if (at != r->bytes)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: %" PRIu64 " bytes behind the last tensor: damaged header, or bytes "
                         "added to the file?",
                         r->path, r->bytes - at);
    return BASE_OK;
}

static base_status_t read_entries(const reader_t *r, json_t *header, model_st_t *st)
{
    const uint32_t first = st->n_tensors;
    const size_t   n     = first + json_object_size(header);
    const char    *name  = NULL;
    json_t        *entry = NULL;

    if (n > LIMIT_TENSORS)
        return base_fail(r->err, BASE_ERR_LIMIT, "%s: over %d tensors", r->path, LIMIT_TENSORS);
    void *p = realloc(st->tensors, (n == 0 ? 1 : n) * sizeof(*st->tensors));
    if (p == NULL) return base_fail(r->err, BASE_ERR_MEMORY, "%s: no memory", r->path);
    st->tensors = p;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        base_status_t status = read_tensor(r, name, entry, &st->tensors[st->n_tensors]);
        if (status != BASE_OK) return status;
        st->n_tensors++;
    }
    return check_cover(r, st->tensors + first, st->n_tensors - first);
}

static base_status_t read_file(const model_source_t *source, uint32_t file, model_st_t *st,
                               base_err_t *err)
{
    const uint8_t *data = model_source_data(source, file);
    reader_t       r    = {.path  = model_source_path(source, file),
                           .bytes = model_source_bytes(source, file),
                           .file  = file,
                           .err   = err};
    if (r.bytes < 8)
        return base_fail(err, BASE_ERR_INPUT, "%s: no safetensors file: %" PRIu64 " bytes", r.path,
                         r.bytes);
    const uint64_t n = model_load_u64(data);
    if (n > r.bytes - 8) {
        const bool lfs = memcmp(data, "version ", 8) == 0;
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: a header of %" PRIu64 " bytes in a file of %" PRIu64 ": %s", r.path,
                         n, r.bytes,
                         lfs ? "a git-lfs pointer: run git lfs pull"
                             : "no safetensors file, or its download was cut");
    }
    r.data           = 8 + n;
    base_status_t ok = model_json_parse((const char *)data + 8, n, r.path, &st->headers[file], err);
    if (ok != BASE_OK) return ok;
    st->n_files = file + 1;
    return read_entries(&r, st->headers[file], st);
}

base_status_t model_st_parse(const model_source_t *source, model_st_t *out, base_err_t *err)
{
    const uint32_t n  = model_source_count(source);
    model_st_t     st = {0};
    base_status_t  ok = base_alloc((void **)&st.headers, n, sizeof(json_t *), "headers", err);
    for (uint32_t i = 0; ok == BASE_OK && i < n; i++) ok = read_file(source, i, &st, err);
    if (ok == BASE_OK && st.n_tensors > 0)
        qsort(st.tensors, st.n_tensors, sizeof(*st.tensors), compare_names);
    for (uint32_t i = 1; ok == BASE_OK && i < st.n_tensors; i++)
        if (compare_names(&st.tensors[i - 1], &st.tensors[i]) == 0)
            ok = base_fail(err, BASE_ERR_INPUT, "%s: tensor %.100s is also in another file",
                           model_source_path(source, st.tensors[i].file), st.tensors[i].name);
    if (ok == BASE_OK)
        *out = st;
    else
        model_st_free(&st);
    return ok;
}

void model_st_free(model_st_t *st)
{
    for (uint32_t i = 0; i < st->n_files; i++) json_decref(st->headers[i]);
    free(st->headers);
    free(st->tensors);
    memset(st, 0, sizeof(*st));
}

model_st_tensor_t *model_st_find(const model_st_t *st, const char *name)
{
    const model_st_tensor_t key = {.name = name};
    if (st->n_tensors == 0) return NULL;
    return bsearch(&key, st->tensors, st->n_tensors, sizeof(*st->tensors), compare_names);
}
