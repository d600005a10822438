/* model/gguf_keys.c: looking up keys and tensors of a GGUF directory, and typed values. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/bytes.h"
#include "model/gguf.h"

const char *model_gguf_type_name(model_gguf_value_t type)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    _Static_assert(sizeof(names) / sizeof(names[0]) == MODEL_GGUF_VALUE_COUNT, "one name a type");
    return (unsigned)type < MODEL_GGUF_VALUE_COUNT ? names[type] : "?";
}

bool model_str_is(model_str_t str, const char *text)
{
    return str.bytes == strlen(text) && memcmp(str.text, text, str.bytes) == 0;
}

/* Position of a name among n sorted elements whose first member is their name. */
static void *find(const void *base, size_t n, size_t size, const char *name)
{
    size_t bytes = strlen(name);
    size_t low   = 0;
    while (low < n) {
        size_t             mid = low + (n - low) / 2;
        const char        *at  = (const char *)base + mid * size;
        const model_str_t *s   = (const model_str_t *)(const void *)at;
        int order = s->bytes != bytes ? (bytes < s->bytes ? -1 : 1) : memcmp(name, s->text, bytes);
        if (order == 0) return (void *)(uintptr_t)at;
        if (order < 0)
            n = mid;
        else
            low = mid + 1;
    }
    return NULL;
}
_Static_assert(offsetof(model_gguf_key_t, key) == 0, "find() looks there");
_Static_assert(offsetof(model_gguf_tensor_t, name) == 0, "find() looks there");

const model_gguf_key_t *model_gguf_key(const model_gguf_t *gguf, const char *key)
{
    return find(gguf->keys, gguf->n_keys, sizeof(*gguf->keys), key);
}

model_gguf_tensor_t *model_gguf_tensor(const model_gguf_t *gguf, const char *name)
{
    return find(gguf->tensors, gguf->n_tensors, sizeof(*gguf->tensors), name);
}

model_str_t model_gguf_next_str(const uint8_t **at)
{
    model_str_t s = {(const char *)*at + 8, (uint32_t)model_load_u64(*at)};
    *at += 8 + (size_t)s.bytes;
    return s;
}

bool model_gguf_int_at(const model_gguf_key_t *key, uint64_t i, int64_t *out)
{
    base_assert(i < key->n);
    const uint8_t *d = key->data;
    switch (key->type) {
    case MODEL_GGUF_U8: *out = d[i]; return true;
    case MODEL_GGUF_I8: *out = (int8_t)d[i]; return true;
    case MODEL_GGUF_U16: *out = model_load_u16(d + 2 * i); return true;
    case MODEL_GGUF_I16: *out = (int16_t)model_load_u16(d + 2 * i); return true;
    case MODEL_GGUF_U32: *out = model_load_u32(d + 4 * i); return true;
    case MODEL_GGUF_I32: *out = (int32_t)model_load_u32(d + 4 * i); return true;
    case MODEL_GGUF_I64: *out = (int64_t)model_load_u64(d + 8 * i); return true;
    case MODEL_GGUF_U64:
        if (model_load_u64(d + 8 * i) > INT64_MAX) return false;
        *out = (int64_t)model_load_u64(d + 8 * i);
        return true;
    case MODEL_GGUF_F32:
    case MODEL_GGUF_BOOL:
    case MODEL_GGUF_STRING:
    case MODEL_GGUF_ARRAY:
    case MODEL_GGUF_F64:
    case MODEL_GGUF_VALUE_COUNT: break;
    }
    return false;
}

/* The key, or NULL with *st OK (absent and not required) or with *st the error. */
static const model_gguf_key_t *look_up(const model_gguf_t *g, const char *key, bool required,
                                       base_status_t *st, base_err_t *err)
{
    const model_gguf_key_t *k = model_gguf_key(g, key);
    *st                       = BASE_OK;
    if (k == NULL && required)
        *st = base_fail(err, BASE_ERR_INPUT,
                        "%s: key %s is missing; was the file converted for "
                        "another program?",
                        g->path, key);
    return k;
}

static base_status_t fail_type(const model_gguf_t *g, const char *key, const model_gguf_key_t *k,
                               const char *want, base_err_t *err)
{
    return base_fail(err, BASE_ERR_INPUT, "%s: key %s is %s%s, want %s: damaged file?", g->path,
                     key, k->is_array ? "an array of " : "of type ", model_gguf_type_name(k->type),
                     want);
}

static base_status_t int_in_range(const model_gguf_t *g, const char *key, const model_gguf_key_t *k,
                                  uint64_t i, uint32_t min, uint32_t max, uint32_t *out,
                                  base_err_t *err)
{
    int64_t v = 0;
    if (!model_gguf_int_at(k, i, &v)) return fail_type(g, key, k, "an integer", err);
    if (v < (int64_t)min)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: %s is %" PRId64 ", want at least %" PRIu32 ": damaged file?", g->path,
                         key, v, min);
    if (v > (int64_t)max)
        return base_fail(err, BASE_ERR_LIMIT,
                         "%s: %s is %" PRId64 ", limit %" PRIu32 ": damaged file?", g->path, key, v,
                         max);
    *out = (uint32_t)v;
    return BASE_OK;
}

base_status_t model_gguf_u32(const model_gguf_t *gguf, const char *key, bool required, uint32_t min,
                             uint32_t max, uint32_t *out, base_err_t *err)
{
    base_status_t           st;
    const model_gguf_key_t *k = look_up(gguf, key, required, &st, err);
    if (k == NULL) return st;
    if (k->is_array) return fail_type(gguf, key, k, "an integer", err);
    return int_in_range(gguf, key, k, 0, min, max, out, err);
}

base_status_t model_gguf_u32_each(const model_gguf_t *gguf, const char *key, bool required,
                                  uint32_t min, uint32_t max, uint32_t n, uint32_t *out,
                                  base_err_t *err)
{
    base_status_t           st;
    const model_gguf_key_t *k = look_up(gguf, key, required, &st, err);
    if (k == NULL) return st;
    if (k->is_array && k->n != n)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: %s has %" PRIu64 " elements for %" PRIu32 " layers: damaged file?",
                         gguf->path, key, k->n, n);
    for (uint32_t i = 0; i < n; i++) {
        st = int_in_range(gguf, key, k, k->is_array ? i : 0, min, max, &out[i], err);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

base_status_t model_gguf_f64(const model_gguf_t *gguf, const char *key, bool required, double *out,
                             base_err_t *err)
{
    base_status_t           st;
    const model_gguf_key_t *k = look_up(gguf, key, required, &st, err);
    double                  v = 0;
    int64_t                 n = 0;
    if (k == NULL) return st;
    if (!k->is_array && k->type == MODEL_GGUF_F32) {
        v = (double)model_load_f32(k->data);
    } else if (!k->is_array && k->type == MODEL_GGUF_F64) {
        uint64_t bits = model_load_u64(k->data);
        memcpy(&v, &bits, sizeof(v));
    } else if (!k->is_array && model_gguf_int_at(k, 0, &n)) {
        v = (double)n;
    } else {
        return fail_type(gguf, key, k, "a number", err);
    }
    if (!isfinite(v))
        return base_fail(err, BASE_ERR_INPUT, "%s: %s is %f: damaged file?", gguf->path, key, v);
    *out = v;
    return BASE_OK;
}

base_status_t model_gguf_bool(const model_gguf_t *gguf, const char *key, bool *out, base_err_t *err)
{
    const model_gguf_key_t *k = model_gguf_key(gguf, key);
    if (k == NULL) return BASE_OK;
    if (k->is_array || k->type != MODEL_GGUF_BOOL) return fail_type(gguf, key, k, "a boolean", err);
    *out = k->data[0] != 0;
    return BASE_OK;
}

base_status_t model_gguf_str(const model_gguf_t *gguf, const char *key, bool required,
                             model_str_t *out, base_err_t *err)
{
    base_status_t           st;
    const model_gguf_key_t *k  = look_up(gguf, key, required, &st, err);
    const uint8_t          *at = NULL;
    if (k == NULL) return st;
    if (k->is_array || k->type != MODEL_GGUF_STRING)
        return fail_type(gguf, key, k, "a string", err);
    at   = k->data;
    *out = model_gguf_next_str(&at);
    return BASE_OK;
}
