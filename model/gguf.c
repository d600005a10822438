/* model/gguf.c: the directory of a GGUF file. See gguf.h for the layout. */
#include "model/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "model/bytes.h"
#include "model/gguf_model.h"
#include "model/source.h"

enum {
    MIN_KEY_BYTES     = 8 + 1 + 4 + 1,         /* length, one character, type, value */
    MIN_TENSOR_BYTES  = 8 + 1 + 4 + 8 + 4 + 8, /* length, one character, dims, one, type, offset */
    MAGIC             = 0x46554747,            /* "GGUF", little-endian */
    MAGIC_REVERSED    = 0x47475546,
    DEFAULT_ALIGNMENT = 32,
    SHOWN_BYTES       = 100 /* of a name, in texts */
};

/* Numbers that bitnet.cpp gave out. ggml later gave 39 to MXFP4. */
enum { I2_S = 36, I8_S = 37, TL1 = 38, TL2 = 39, I2_S_TRAILER = 32 };

/* Types of ggml by number: all that were ever given out, so that their sizes can be checked. */
static const struct {
    const char  *name; /* NULL: a number that was never used or was taken back */
    uint32_t     block_elems, block_bytes;
    model_type_t type;
} ggml_types[] = {
    [0] = {"F32", 1, 4, MODEL_F32},          [1] = {"F16", 1, 2, MODEL_F16},
    [2] = {"Q4_0", 32, 18, MODEL_Q4_0},      [3] = {"Q4_1", 32, 20, MODEL_Q4_1},
    [6] = {"Q5_0", 32, 22, MODEL_Q5_0},      [7] = {"Q5_1", 32, 24, MODEL_Q5_1},
    [8] = {"Q8_0", 32, 34, MODEL_Q8_0},      [9] = {"Q8_1", 32, 36, MODEL_NONE},
    [10] = {"Q2_K", 256, 84, MODEL_Q2_K},    [11] = {"Q3_K", 256, 110, MODEL_Q3_K},
    [12] = {"Q4_K", 256, 144, MODEL_Q4_K},   [13] = {"Q5_K", 256, 176, MODEL_Q5_K},
    [14] = {"Q6_K", 256, 210, MODEL_Q6_K},   [15] = {"Q8_K", 256, 292, MODEL_NONE},
    [16] = {"IQ2_XXS", 256, 66, MODEL_NONE}, [17] = {"IQ2_XS", 256, 74, MODEL_NONE},
    [18] = {"IQ3_XXS", 256, 98, MODEL_NONE}, [19] = {"IQ1_S", 256, 50, MODEL_NONE},
    [20] = {"IQ4_NL", 32, 18, MODEL_NONE},   [21] = {"IQ3_S", 256, 110, MODEL_NONE},
    [22] = {"IQ2_S", 256, 82, MODEL_NONE},   [23] = {"IQ4_XS", 256, 136, MODEL_NONE},
    [24] = {"I8", 1, 1, MODEL_NONE},         [25] = {"I16", 1, 2, MODEL_NONE},
    [26] = {"I32", 1, 4, MODEL_NONE},        [27] = {"I64", 1, 8, MODEL_NONE},
    [28] = {"F64", 1, 8, MODEL_NONE},        [29] = {"IQ1_M", 256, 56, MODEL_NONE},
    [30] = {"BF16", 1, 2, MODEL_BF16},       [34] = {"TQ1_0", 256, 54, MODEL_TQ1_0},
    [35] = {"TQ2_0", 256, 66, MODEL_TQ2_0},  [I2_S] = {"I2_S", 1, 0, MODEL_I2_S},
    [39] = {"MXFP4", 32, 17, MODEL_NONE},    [40] = {"NVFP4", 64, 36, MODEL_NONE},
    [41] = {"Q1_0", 128, 18, MODEL_NONE},
};

static const struct {
    const char *name;
    uint32_t    bytes; /* 0: of variable length */
} value_types[] = {
    {"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8},
};
_Static_assert(sizeof(value_types) / sizeof(value_types[0]) == MODEL_GGUF_VALUE_COUNT,
               "a row each");

/* What is being read, for texts; where; how far. */
typedef struct {
    const char    *path;
    const uint8_t *data;
    uint64_t       bytes;
    uint64_t       at;
    base_err_t    *err;
} cursor_t;

static int shown(model_str_t s)
{
    return s.bytes > SHOWN_BYTES ? SHOWN_BYTES : (int)s.bytes;
}

static base_status_t need(cursor_t *c, uint64_t n, const char *what)
{
    if (n <= c->bytes - c->at) return BASE_OK;
    return base_fail(c->err, BASE_ERR_INPUT,
                     "%s: the file is cut: %s at byte %" PRIu64 " needs %" PRIu64 " bytes, %" PRIu64
                     " of the file's %" PRIu64 " are left; was its download complete?",
                     c->path, what, c->at, n, c->bytes - c->at, c->bytes);
}

static base_status_t read_u32(cursor_t *c, const char *what, uint32_t *out)
{
    base_status_t st = need(c, 4, what);
    if (st != BASE_OK) return st;
    *out = model_load_u32(c->data + c->at);
    c->at += 4;
    return BASE_OK;
}

static base_status_t read_u64(cursor_t *c, const char *what, uint64_t *out)
{
    base_status_t st = need(c, 8, what);
    if (st != BASE_OK) return st;
    *out = model_load_u64(c->data + c->at);
    c->at += 8;
    return BASE_OK;
}

static base_status_t read_str(cursor_t *c, const char *what, uint64_t limit, model_str_t *out)
{
    uint64_t      n  = 0;
    base_status_t st = read_u64(c, what, &n);
    if (st != BASE_OK) return st;
    if (n > limit)
        return base_fail(c->err, BASE_ERR_LIMIT,
                         "%s: %s at byte %" PRIu64 " has %" PRIu64 " bytes, limit %" PRIu64
                         ": damaged file?",
                         c->path, what, c->at - 8, n, limit);
    st = need(c, n, what);
    if (st != BASE_OK) return st;
    out->text  = (const char *)c->data + c->at;
    out->bytes = (uint32_t)n;
    c->at += n;
    return BASE_OK;
}

/* A key or a tensor's name: not empty, and without NUL bytes, which could make two names look
 * like one. */
static base_status_t read_name(cursor_t *c, const char *what, uint64_t limit, model_str_t *out)
{
    uint64_t      start = c->at;
    base_status_t st    = read_str(c, what, limit, out);
    if (st != BASE_OK) return st;
    if (out->bytes == 0)
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: %s at byte %" PRIu64 " is empty: damaged file?", c->path, what,
                         start);
    if (memchr(out->text, 0, out->bytes) != NULL)
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: %s '%.*s' at byte %" PRIu64
                         " holds a NUL byte: damaged or hostile file",
                         c->path, what, shown(*out), out->text, start);
    return BASE_OK;
}

/* ---- header
 * -------------------------------------------------------------------------------------- */

static base_status_t fail_magic(cursor_t *c, uint32_t magic)
{
    if (magic == MAGIC_REVERSED)
        return base_fail(c->err, BASE_ERR_UNSUPPORTED,
                         "%s: a big-endian GGUF file (magic "
                         "reversed); convert it to little-endian",
                         c->path);
    const char *hint = "is it a model file at all?";
    if (memcmp(c->data, "PK\003\004", 4) == 0) hint = "a zip file or a PyTorch checkpoint?";
    if (memcmp(c->data, "tjgg", 4) == 0 || memcmp(c->data, "lmgg", 4) == 0 ||
        memcmp(c->data, "fmgg", 4) == 0)
        hint = "a file of the time before GGUF; convert it again";
    if (memcmp(c->data, "<", 1) == 0) hint = "an HTML page saved in its place?";
    if (c->bytes > 8 && c->data[8] == '{') /* behind the header's length */
        hint = "a safetensors file: give the directory that holds it and config.json";
    if (memcmp(c->data, "vers", 4) == 0) hint = "a git-lfs pointer: run git lfs pull";
    return base_fail(c->err, BASE_ERR_INPUT,
                     "%s: no GGUF file: begins with bytes %02x %02x %02x "
                     "%02x instead of 'GGUF'; %s",
                     c->path, c->data[0], c->data[1], c->data[2], c->data[3], hint);
}

/* A count and the fewest bytes of each: more cannot be in the rest of the file. */
static base_status_t read_count(cursor_t *c, const char *what, uint64_t limit, uint64_t each,
                                uint32_t *out)
{
    uint64_t      n  = 0;
    base_status_t st = read_u64(c, what, &n);
    if (st != BASE_OK) return st;
    if (n > limit)
        return base_fail(c->err, BASE_ERR_LIMIT,
                         "%s: %s is %" PRIu64 ", limit %" PRIu64 ": damaged header?", c->path, what,
                         n, limit);
    if (n * each > c->bytes - c->at) /* both far below the top */
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: the file is cut or its header damaged: %s "
                         "is %" PRIu64 ", which needs %" PRIu64 " bytes, %" PRIu64 " are left",
                         c->path, what, n, n * each, c->bytes - c->at);
    *out = (uint32_t)n;
    return BASE_OK;
}

static base_status_t read_header(cursor_t *c, model_gguf_t *g)
{
    uint32_t      magic = 0;
    base_status_t st    = read_u32(c, "the magic", &magic);
    if (st != BASE_OK) return st;
    if (magic != MAGIC) return fail_magic(c, magic);
    st = read_u32(c, "the version", &g->version);
    if (st != BASE_OK) return st;
    if ((g->version & 0xffff) == 0 && g->version != 0)
        return base_fail(c->err, BASE_ERR_UNSUPPORTED,
                         "%s: a big-endian GGUF file (version field "
                         "0x%08" PRIx32 "); convert it to little-endian",
                         c->path, g->version);
    if (g->version != 2 && g->version != 3)
        return base_fail(c->err, BASE_ERR_UNSUPPORTED,
                         "%s: GGUF version %" PRIu32
                         ", readable are 2 and 3; convert the model again or update trireme",
                         c->path, g->version);
    st = read_count(c, "the number of tensors", LIMIT_TENSORS, MIN_TENSOR_BYTES, &g->n_tensors);
    if (st != BASE_OK) return st;
    return read_count(c, "the number of keys", LIMIT_KV_PAIRS, MIN_KEY_BYTES, &g->n_keys);
}

/* ---- keys
 * ---------------------------------------------------------------------------------------- */

static base_status_t read_type(cursor_t *c, model_str_t key, model_gguf_value_t *out)
{
    uint32_t      type = 0;
    base_status_t st   = read_u32(c, "the type of a value", &type);
    if (st != BASE_OK) return st;
    if (type >= MODEL_GGUF_VALUE_COUNT)
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: key %.*s has a value of type %" PRIu32
                         ", which does not exist: damaged file?",
                         c->path, shown(key), key.text, type);
    *out = (model_gguf_value_t)type;
    return BASE_OK;
}

/* Walk over n values from c->at; booleans must be 0 or 1. */
static base_status_t skip_values(cursor_t *c, const model_gguf_key_t *k)
{
    uint64_t each  = value_types[k->type].bytes;
    uint64_t bytes = 0;
    if (k->type == MODEL_GGUF_STRING) {
        for (uint64_t i = 0; i < k->n; i++) {
            model_str_t   s;
            base_status_t st = read_str(c, "a string", LIMIT_STRING_BYTES, &s);
            if (st != BASE_OK) return st;
        }
        return BASE_OK;
    }
    if (!base_mul_u64(k->n, each, &bytes)) bytes = UINT64_MAX;
    base_status_t st = need(c, bytes, "a value");
    if (st != BASE_OK) return st;
    if (k->type == MODEL_GGUF_BOOL)
        for (uint64_t i = 0; i < k->n; i++)
            if (k->data[i] > 1)
                return base_fail(c->err, BASE_ERR_INPUT,
                                 "%s: key %.*s holds a boolean of value %u"
                                 ": damaged file?",
                                 c->path, shown(k->key), k->key.text, k->data[i]);
    c->at += bytes;
    return BASE_OK;
}

static base_status_t read_key(cursor_t *c, model_gguf_key_t *k)
{
    base_status_t st = read_name(c, "a key", LIMIT_KEY_BYTES, &k->key);
    if (st != BASE_OK) return st;
    st = read_type(c, k->key, &k->type);
    if (st != BASE_OK) return st;
    k->n        = 1;
    k->is_array = k->type == MODEL_GGUF_ARRAY;
    if (k->is_array) {
        st = read_type(c, k->key, &k->type);
        if (st != BASE_OK) return st;
        if (k->type == MODEL_GGUF_ARRAY)
            return base_fail(c->err, BASE_ERR_UNSUPPORTED,
                             "%s: key %.*s is an array of arrays, "
                             "which no model needs: damaged or hostile file",
                             c->path, shown(k->key), k->key.text);
        st = read_u64(c, "an array's length", &k->n);
        if (st != BASE_OK) return st;
        uint64_t each = value_types[k->type].bytes == 0 ? 8 : value_types[k->type].bytes;
        if (k->n > (c->bytes - c->at) / each)
            return base_fail(c->err, BASE_ERR_INPUT,
                             "%s: the file is cut or damaged: key %.*s is "
                             "an array of %" PRIu64 " x %s, %" PRIu64 " bytes are left",
                             c->path, shown(k->key), k->key.text, k->n, value_types[k->type].name,
                             c->bytes - c->at);
    }
    k->data = c->data + c->at;
    return skip_values(c, k);
}

/* ---- tensors
 * ------------------------------------------------------------------------------------- */

static base_status_t fail_tensor_type(cursor_t *c, model_str_t name, uint32_t type)
{
    if (type == TL1 || type == TL2)
        return base_fail(
            c->err, BASE_ERR_UNSUPPORTED,
            "%s: tensor %.*s is stored as %s of bitnet.cpp, whose tile sizes are not in "
            "the file: convert the model to I2_S, TQ1_0 or TQ2_0",
            c->path, shown(name), name.text, type == TL1 ? "TL1" : "TL2");
    return base_fail(c->err, BASE_ERR_UNSUPPORTED,
                     "%s: tensor %.*s has type number %" PRIu32 ": %s", c->path, shown(name),
                     name.text, type,
                     type == I8_S ? "I8_S of bitnet.cpp, which no model file should hold"
                                  : "damaged file, or newer than this program");
}

/* Type 39 means TL2 in files that bitnet.cpp made. */
static bool of_bitnet_cpp(const model_gguf_t *g)
{
    model_str_t arch = {"", 0};
    (void)model_gguf_str(g, "general.architecture", false, &arch, NULL);
    return arch.bytes >= 6 && memcmp(arch.text, "bitnet", 6) == 0;
}

static base_status_t read_dims(cursor_t *c, model_gguf_tensor_t *t, uint64_t *elems)
{
    base_status_t st = read_u32(c, "a tensor's number of dimensions", &t->n_dims);
    if (st != BASE_OK) return st;
    if (t->n_dims == 0 || t->n_dims > LIMIT_TENSOR_DIMS)
        return base_fail(c->err, t->n_dims == 0 ? BASE_ERR_INPUT : BASE_ERR_LIMIT,
                         "%s: tensor %.*s has %" PRIu32 " dimensions, want 1 to %d: damaged file?",
                         c->path, shown(t->name), t->name.text, t->n_dims, LIMIT_TENSOR_DIMS);
    *elems = 1;
    for (uint32_t i = 0; i < LIMIT_TENSOR_DIMS; i++) {
        t->dims[i] = 1;
        if (i >= t->n_dims) continue;
        st = read_u64(c, "a tensor's dimension", &t->dims[i]);
        if (st != BASE_OK) return st;
        if (t->dims[i] == 0 || !base_mul_u64(*elems, t->dims[i], elems) || *elems > INT64_MAX)
            return base_fail(c->err, BASE_ERR_INPUT,
                             "%s: tensor %.*s has %" PRIu64 " as dimension %" PRIu32
                             ": damaged file?",
                             c->path, shown(t->name), t->name.text, t->dims[i], i);
    }
    return BASE_OK;
}

/* Bytes of elems weights in rows of dims[0]. */
static base_status_t size_tensor(cursor_t *c, model_gguf_tensor_t *t, uint32_t type, uint64_t elems)
{
    uint32_t block = ggml_types[type].block_elems;
    if (type == I2_S) block = 4;
    if ((type == I2_S ? elems : t->dims[0]) % block != 0)
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: tensor %.*s has rows of %" PRIu64
                         " weights, but %s stores blocks of %" PRIu32 ": damaged file?",
                         c->path, shown(t->name), t->name.text, t->dims[0], t->type_name, block);
    if (type == I2_S) {
        t->bytes = elems / 4 + I2_S_TRAILER;
        return BASE_OK;
    }
    if (!base_mul_u64(elems / block, ggml_types[type].block_bytes, &t->bytes))
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: tensor %.*s has %" PRIu64 " weights: damaged file?", c->path,
                         shown(t->name), t->name.text, elems);
    return BASE_OK;
}

/* t->offset is from the start of the data until place_tensors() has run. */
static base_status_t read_tensor(cursor_t *c, const model_gguf_t *g, model_gguf_tensor_t *t)
{
    uint64_t      elems = 0;
    uint32_t      type  = 0;
    base_status_t st    = read_name(c, "a tensor's name", LIMIT_TENSOR_NAME - 1, &t->name);
    if (st != BASE_OK) return st;
    st = read_dims(c, t, &elems);
    if (st != BASE_OK) return st;
    st = read_u32(c, "a tensor's type", &type);
    if (st != BASE_OK) return st;
    if (type >= sizeof(ggml_types) / sizeof(ggml_types[0]) || ggml_types[type].name == NULL ||
        (type == TL2 && of_bitnet_cpp(g)))
        return fail_tensor_type(c, t->name, type);
    t->type      = ggml_types[type].type;
    t->type_name = ggml_types[type].name;
    st           = size_tensor(c, t, type, elems);
    if (st != BASE_OK) return st;
    return read_u64(c, "a tensor's offset", &t->offset);
}

static int compare_str(model_str_t a, model_str_t b)
{
    if (a.bytes != b.bytes) return a.bytes < b.bytes ? -1 : 1;
    return memcmp(a.text, b.text, a.bytes);
}

static int compare_keys(const void *a, const void *b)
{
    return compare_str(((const model_gguf_key_t *)a)->key, ((const model_gguf_key_t *)b)->key);
}

static int compare_names(const void *a, const void *b)
{
    return compare_str(((const model_gguf_tensor_t *)a)->name,
                       ((const model_gguf_tensor_t *)b)->name);
}

static int compare_offsets(const void *a, const void *b)
{
    uint64_t x = ((const model_gguf_tensor_t *)a)->offset;
    uint64_t y = ((const model_gguf_tensor_t *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Offsets from the file's start; inside the file, aligned, apart from each other. Sorts by
 * offset. */
static base_status_t place_tensors(cursor_t *c, model_gguf_t *g)
{
    if (g->n_tensors == 0) return BASE_OK;
    qsort(g->tensors, g->n_tensors, sizeof(*g->tensors), compare_offsets);
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        model_gguf_tensor_t *t   = &g->tensors[i];
        uint64_t             end = 0;
        if (t->offset % g->alignment != 0)
            return base_fail(c->err, BASE_ERR_INPUT,
                             "%s: tensor %.*s has offset %" PRIu64
                             ", no multiple of the alignment %" PRIu64 ": damaged file?",
                             c->path, shown(t->name), t->name.text, t->offset, g->alignment);
        if (!base_add_u64(t->offset, g->data_offset, &t->offset) ||
            !base_add_u64(t->offset, t->bytes, &end) || end > INT64_MAX)
            return base_fail(c->err, BASE_ERR_INPUT,
                             "%s: tensor %.*s has offset %" PRIu64 " and %" PRIu64
                             " bytes, beyond any file: damaged directory?",
                             c->path, shown(t->name), t->name.text, t->offset, t->bytes);
        if (i > 0 && t->offset < t[-1].offset + t[-1].bytes)
            return base_fail(c->err, BASE_ERR_INPUT,
                             "%s: tensors %.*s and %.*s overlap at byte %" PRIu64
                             ": damaged directory?",
                             c->path, shown(t[-1].name), t[-1].name.text, shown(t->name),
                             t->name.text, t->offset);
    }
    /* The last one ends last, as none overlap. */
    const model_gguf_tensor_t *last = &g->tensors[g->n_tensors - 1];
    if (last->offset + last->bytes > c->bytes)
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: the file is cut: %" PRIu64 " bytes, needs %" PRIu64
                         " (tensor %.*s); was its download complete?",
                         c->path, c->bytes, last->offset + last->bytes, shown(last->name),
                         last->name.text);
    return BASE_OK;
}

/* ---- the whole
 * ----------------------------------------------------------------------------------- */

static base_status_t read_keys(cursor_t *c, model_gguf_t *g)
{
    void         *p  = NULL;
    base_status_t st = base_alloc(&p, g->n_keys, sizeof(*g->keys), c->path, c->err);
    if (st != BASE_OK) return st;
    g->keys = p;
    for (uint32_t i = 0; i < g->n_keys; i++) {
        st = read_key(c, &g->keys[i]);
        if (st != BASE_OK) return st;
    }
    if (g->n_keys > 0) qsort(g->keys, g->n_keys, sizeof(*g->keys), compare_keys);
    for (uint32_t i = 1; i < g->n_keys; i++)
        if (compare_keys(&g->keys[i - 1], &g->keys[i]) == 0)
            return base_fail(c->err, BASE_ERR_INPUT,
                             "%s: key %.*s appears twice: damaged or "
                             "hostile file",
                             c->path, shown(g->keys[i].key), g->keys[i].key.text);
    return BASE_OK;
}

static base_status_t read_alignment(cursor_t *c, model_gguf_t *g)
{
    uint32_t      a = DEFAULT_ALIGNMENT;
    base_status_t st =
        model_gguf_u32(g, "general.alignment", false, 1, LIMIT_ALIGNMENT, &a, c->err);
    if (st != BASE_OK) return st;
    if ((a & (a - 1)) != 0)
        return base_fail(c->err, BASE_ERR_INPUT,
                         "%s: general.alignment is %" PRIu32 ", no power of two: damaged file?",
                         c->path, a);
    g->alignment = a;
    return BASE_OK;
}

static base_status_t sort_by_name(model_gguf_t *g, base_err_t *err)
{
    qsort(g->tensors, g->n_tensors, sizeof(*g->tensors), compare_names);
    for (uint32_t i = 1; i < g->n_tensors; i++)
        if (compare_names(&g->tensors[i - 1], &g->tensors[i]) == 0)
            return base_fail(err, BASE_ERR_INPUT,
                             "%s: tensor %.*s appears twice: damaged or "
                             "hostile file",
                             g->path, shown(g->tensors[i].name), g->tensors[i].name.text);
    return BASE_OK;
}

static base_status_t read_tensors(cursor_t *c, model_gguf_t *g)
{
    void         *p  = NULL;
    base_status_t st = base_alloc(&p, g->n_tensors, sizeof(*g->tensors), c->path, c->err);
    if (st != BASE_OK) return st;
    g->tensors = p;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        st = read_tensor(c, g, &g->tensors[i]);
        if (st != BASE_OK) return st;
    }
    g->data_offset = base_round_up(c->at, g->alignment);
    st             = place_tensors(c, g);
    if (st != BASE_OK || g->n_tensors == 0) return st;
    return sort_by_name(g, c->err);
}

base_status_t model_gguf_parse(const model_source_t *source, uint32_t file, model_gguf_t *out,
                               base_err_t *err)
{
    cursor_t     c = {model_source_path(source, file), model_source_data(source, file),
                      model_source_bytes(source, file), 0, err};
    model_gguf_t g = {.path = c.path};

    base_assert(out != NULL && out->keys == NULL && out->tensors == NULL);
    base_status_t st = read_header(&c, &g);
    if (st == BASE_OK) st = read_keys(&c, &g);
    if (st == BASE_OK) st = read_alignment(&c, &g);
    if (st == BASE_OK) st = read_tensors(&c, &g);
    if (st == BASE_OK) {
        for (uint32_t i = 0; i < g.n_tensors; i++) g.tensors[i].file = file;
        *out = g;
    } else {
        model_gguf_free(&g);
    }
    return st;
}

void model_gguf_free(model_gguf_t *gguf)
{
    free(gguf->keys);
    free(gguf->tensors);
    memset(gguf, 0, sizeof(*gguf));
}

base_status_t model_gguf_merge(model_gguf_t *into, model_gguf_t *from, base_err_t *err)
{
    const size_t  n  = (size_t)into->n_tensors + from->n_tensors;
    void         *p  = NULL;
    base_status_t st = BASE_OK;
    if (n > LIMIT_TENSORS)
        return base_fail(err, BASE_ERR_LIMIT, "%s: its set has over %d tensors", from->path,
                         LIMIT_TENSORS);
    if (from->n_tensors == 0) return BASE_OK;
    st = base_alloc(&p, n, sizeof(*into->tensors), from->path, err);
    if (st != BASE_OK) return st;
    model_gguf_tensor_t *all = p;
    if (into->n_tensors > 0) memcpy(all, into->tensors, into->n_tensors * sizeof(*all));
    memcpy(all + into->n_tensors, from->tensors, from->n_tensors * sizeof(*all));
    free(into->tensors);
    into->tensors   = all;
    into->n_tensors = (uint32_t)n;
    model_gguf_free(from);
    return sort_by_name(into, err);
}
