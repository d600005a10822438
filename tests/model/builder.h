/* tests/model/builder.h
 * A small valid GGUF model in memory, made of raw bytes and independent of the writer, with knobs
 * that
 * damage it; and opening such bytes as a model. */
#ifndef TRIREME_TESTS_MODEL_BUILDER_H
#define TRIREME_TESTS_MODEL_BUILDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/bytes.h"
#include "model/gguf.h"
#include "model/source.h"

typedef struct {
    uint8_t *data;
    size_t   used, bytes;
} build_t;

static inline void build_put(build_t *b, const void *data, size_t n)
{
    if (b->used + n > b->bytes) {
        b->bytes = 2 * b->bytes + n + 4096;
        b->data  = realloc(b->data, b->bytes);
        if (b->data == NULL) abort();
    }
    if (n > 0) memcpy(b->data + b->used, data, n);
    b->used += n;
}

static inline void build_u32(build_t *b, uint32_t v)
{
    uint8_t bytes[4];
    model_store_u32(bytes, v);
    build_put(b, bytes, 4);
}

static inline void build_u64(build_t *b, uint64_t v)
{
    uint8_t bytes[8];
    model_store_u64(bytes, v);
    build_put(b, bytes, 8);
}

static inline void build_str(build_t *b, const char *text)
{
    build_u64(b, strlen(text));
    build_put(b, text, strlen(text));
}

static inline void build_key(build_t *b, const char *key, uint32_t type)
{
    build_str(b, key);
    build_u32(b, type);
}

static inline void build_key_u32(build_t *b, const char *key, uint32_t v)
{
    build_key(b, key, MODEL_GGUF_U32);
    build_u32(b, v);
}

static inline void build_key_f32(build_t *b, const char *key, float v)
{
    build_key(b, key, MODEL_GGUF_F32);
    build_u32(b, model_bits_of_float(v));
}

static inline void build_key_str(build_t *b, const char *key, const char *v)
{
    build_key(b, key, MODEL_GGUF_STRING);
    build_str(b, v);
}

static inline void build_array(build_t *b, const char *key, uint32_t type, uint64_t n)
{
    build_key(b, key, MODEL_GGUF_ARRAY);
    build_u32(b, type);
    build_u64(b, n);
}

/* ---- the model
 * ----------------------------------------------------------------------------------- */

enum {
    MINI_VOCAB  = 262,
    MINI_WIDTH  = 256,
    MINI_FFN    = 256,
    MINI_HEADS  = 2,
    MINI_KV     = 1,
    MINI_HEAD   = 128,
    MINI_LAYERS = 2
};

/* What is not as it should be. All zero: nothing. */
typedef struct {
    uint32_t    version;     /* instead of 3 */
    const char *arch;        /* instead of "bitnet" */
    const char *skip_key;    /* this key is left out */
    const char *skip_tensor; /* this tensor is left out */
    const char *tensor_type; /* this tensor gets type number `type` (its bytes stay) */
    uint32_t    type;
    const char *reshape; /* this tensor says it has `rows` x `cols` */
    uint64_t    rows, cols;
    const char *move; /* this tensor's offset is changed by `by` */
    uint64_t    by;
    const char *rename; /* this tensor is called `name` */
    const char *name;
    uint64_t    add_keys, add_tensors; /* to the counts of the header */
    uint64_t    alignment;             /* what general.alignment says, if not 0 */
    void (*more_keys)(build_t *b);     /* `extra_keys` more keys */
    uint32_t extra_keys;
    bool     untied; /* an output.weight */
    bool     i2s;    /* layers in I2_S, of scale 0.5 */
} knobs_t;

typedef struct {
    const char *name;
    uint32_t    type;
    uint64_t    rows, cols; /* rows 0: a vector */
    uint64_t    bytes;
} mini_tensor_t;

static inline bool mini_is(const char *a, const char *b)
{
    return b != NULL && strcmp(a, b) == 0;
}

static inline uint32_t mini_tensors(const knobs_t *k, mini_tensor_t out[32], char names[32][48])
{
    static const struct {
        const char *name;
        uint32_t    rows, cols;
    } layer[] = {
        {"attn_norm", 0, MINI_WIDTH},
        {"attn_q", MINI_HEADS * MINI_HEAD, MINI_WIDTH},
        {"attn_k", MINI_KV * MINI_HEAD, MINI_WIDTH},
        {"attn_v", MINI_KV * MINI_HEAD, MINI_WIDTH},
        {"attn_sub_norm", 0, MINI_HEADS * MINI_HEAD},
        {"attn_output", MINI_WIDTH, MINI_HEADS * MINI_HEAD},
        {"ffn_norm", 0, MINI_WIDTH},
        {"ffn_gate", MINI_FFN, MINI_WIDTH},
        {"ffn_up", MINI_FFN, MINI_WIDTH},
        {"ffn_sub_norm", 0, MINI_FFN},
        {"ffn_down", MINI_WIDTH, MINI_FFN},
    };
    uint32_t n = 0;
    out[n++]   = (mini_tensor_t){"token_embd.weight", 1, MINI_VOCAB, MINI_WIDTH, 0};
    out[n++]   = (mini_tensor_t){"output_norm.weight", 0, 0, MINI_WIDTH, 0};
    const bool llama =
        mini_is("llama", k->arch); /* no sub-norms, but one of what else there may be */
    if (llama) {
        out[n++] = (mini_tensor_t){"rope_freqs.weight", 0, 0, MINI_HEAD / 2, 0};
        out[n++] = (mini_tensor_t){"blk.1.attn_q.bias", 0, 0, MINI_HEADS * MINI_HEAD, 0};
        out[n++] = (mini_tensor_t){"blk.0.ffn_up.scale", 0, 0, 1, 0};
    }
    if (k->untied) out[n++] = (mini_tensor_t){"output.weight", 8, MINI_VOCAB, MINI_WIDTH, 0};
    for (int i = 0; i < MINI_LAYERS; i++)
        for (size_t t = 0; t < sizeof(layer) / sizeof(layer[0]); t++) {
            if (llama && strstr(layer[t].name, "sub_norm") != NULL) continue;
            snprintf(names[n], 48, "blk.%d.%s.weight", i, layer[t].name);
            out[n] = (mini_tensor_t){names[n],
                                     layer[t].rows == 0 ? 0
                                     : k->i2s           ? 36
                                     : i == 0           ? 35
                                                        : 34,
                                     layer[t].rows, layer[t].cols, 0};
            n++;
        }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t elems = (out[i].rows == 0 ? 1 : out[i].rows) * out[i].cols;
        out[i].bytes   = out[i].type == 0    ? 4 * elems
                         : out[i].type == 1  ? 2 * elems
                         : out[i].type == 8  ? elems / 32 * 34
                         : out[i].type == 34 ? elems / 256 * 54
                         : out[i].type == 36 ? elems / 4 + 32
                                             : elems / 256 * 66;
    }
    return n;
}

static inline void mini_token(build_t *b, int i)
{
    char text[16];
    snprintf(text, sizeof(text), "<0x%02X>", (unsigned)(i - 3));
    build_str(b, i == 0 ? "<unk>" : i == 1 ? "<s>" : i == 2 ? "</s>" : i < 259 ? text : "abc");
}

/* All keys but those in knobs; returns how many. */
static inline uint32_t mini_keys(build_t *b, const knobs_t *k)
{
    const char *arch = k->arch != NULL ? k->arch : "bitnet";
    const struct {
        const char *key;
        uint32_t    value;
    } numbers[] = {
        {"context_length", 128},
        {"embedding_length", MINI_WIDTH},
        {"block_count", MINI_LAYERS},
        {"feed_forward_length", MINI_FFN},
        {"attention.head_count", MINI_HEADS},
        {"attention.head_count_kv", MINI_KV},
        {"vocab_size", MINI_VOCAB},
    };
    uint32_t n = 0;
    char     key[96];
    if (!mini_is("general.architecture", k->skip_key)) {
        build_key_str(b, "general.architecture", arch);
        n++;
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (mini_is(numbers[i].key, k->skip_key)) continue;
        snprintf(key, sizeof(key), "%s.%s", arch, numbers[i].key);
        build_key_u32(b, key, numbers[i].value);
        n++;
    }
    if (!mini_is("attention.layer_norm_rms_epsilon", k->skip_key)) {
        snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", arch);
        build_key_f32(b, key, 1e-5f);
        n++;
    }
    if (!mini_is("tokenizer.ggml.model", k->skip_key)) {
        build_key_str(b, "tokenizer.ggml.model", "llama");
        n++;
    }
    if (!mini_is("tokenizer.ggml.tokens", k->skip_key)) {
        build_array(b, "tokenizer.ggml.tokens", MODEL_GGUF_STRING, MINI_VOCAB);
        for (int i = 0; i < MINI_VOCAB; i++) mini_token(b, i);
        n++;
    }
    if (!mini_is("tokenizer.ggml.scores", k->skip_key)) {
        build_array(b, "tokenizer.ggml.scores", MODEL_GGUF_F32, MINI_VOCAB);
        for (int i = 0; i < MINI_VOCAB; i++) build_u32(b, model_bits_of_float(-(float)i));
        n++;
    }
    if (!mini_is("tokenizer.ggml.token_type", k->skip_key)) {
        build_array(b, "tokenizer.ggml.token_type", MODEL_GGUF_I32, MINI_VOCAB);
        for (int i = 0; i < MINI_VOCAB; i++) build_u32(b, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
        n++;
    }
    if (k->alignment != 0) {
        build_key_u32(b, "general.alignment", (uint32_t)k->alignment);
        n++;
    }
    if (k->more_keys != NULL) {
        k->more_keys(b);
        n += k->extra_keys;
    }
    return n;
}

static inline void mini_data(build_t *b, const mini_tensor_t *t, uint32_t seed)
{
    for (uint64_t at = 0; at < t->bytes;) {
        uint8_t block[66];
        size_t  n = t->type == 0    ? 4
                    : t->type == 1  ? 2
                    : t->type == 8  ? 34
                    : t->type == 34 ? 54
                    : t->type == 36 ? 32
                                    : 66;
        for (size_t i = 0; i < n; i++) {
            seed     = seed * 1664525u + 1013904223u;
            block[i] = (uint8_t)(seed >> 24);
            block[i] &= (uint8_t) ~(block[i] >> 1 & 0x55); /* no TQ2_0 code is 3 */
        }
        if (t->type == 0) model_store_u32(block, model_bits_of_float(1));
        if (t->type == 1) model_store_u16(block, model_f16_of_f32((float)(seed >> 20) / 4096));
        if (t->type == 8) model_store_u16(block, 0x2000);
        if (t->type == 36 && at + n == t->bytes) model_store_u32(block, model_bits_of_float(0.5f));
        if (t->type == 34 || t->type == 35) model_store_u16(block + n - 2, 0x2400); /* 2^-6 */
        build_put(b, block, n);
        at += n;
    }
}

/* Bytes of the directory (header, keys, tensors) go to *directory, if wanted. */
static inline build_t mini_model(const knobs_t *knobs, size_t *directory)
{
    const knobs_t  none = {0};
    const knobs_t *k    = knobs == NULL ? &none : knobs;
    const uint64_t align =
        k->alignment == 0 || (k->alignment & (k->alignment - 1)) != 0 || k->alignment > 1 << 16
            ? 32
            : k->alignment;
    mini_tensor_t tensors[32];
    char          names[32][48];
    build_t       b = {0}, keys = {0};
    uint32_t      n       = mini_tensors(k, tensors, names);
    uint32_t      n_keys  = mini_keys(&keys, k);
    uint64_t      skipped = k->skip_tensor != NULL;
    uint64_t      offset  = 0;
    build_put(&b, "GGUF", 4);
    build_u32(&b, k->version == 0 ? 3 : k->version);
    build_u64(&b, n - skipped + k->add_tensors);
    build_u64(&b, n_keys + k->add_keys);
    build_put(&b, keys.data, keys.used);
    free(keys.data);
    for (uint32_t i = 0; i < n; i++) {
        mini_tensor_t t = tensors[i];
        if (mini_is(t.name, k->skip_tensor)) continue;
        if (mini_is(t.name, k->reshape)) {
            t.rows = k->rows;
            t.cols = k->cols;
        }
        build_str(&b, mini_is(t.name, k->rename) ? k->name : t.name);
        build_u32(&b, t.rows == 0 ? 1 : 2);
        build_u64(&b, t.cols);
        if (t.rows > 0) build_u64(&b, t.rows);
        build_u32(&b, mini_is(t.name, k->tensor_type) ? k->type : t.type);
        build_u64(&b, offset + (mini_is(t.name, k->move) ? k->by : 0));
        offset += (tensors[i].bytes + align - 1) / align * align;
    }
    if (directory != NULL) *directory = b.used;
    for (uint32_t i = 0; i < n; i++) {
        if (mini_is(tensors[i].name, k->skip_tensor)) continue;
        while (b.used % align != 0) build_put(&b, "", 1);
        mini_data(&b, &tensors[i], i);
    }
    b.data  = realloc(b.data, b.used); /* exactly, for sanitizers */
    b.bytes = b.used;
    if (b.data == NULL) abort();
    return b;
}

/* ---- opening
 * ------------------------------------------------------------------------------------- */

#define MINI_LABEL "dir/mini.gguf"

static inline void mini_read(const model_t *m)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < m->vocab.n_tokens; i++)
        for (uint32_t k = 0; k < m->vocab.tokens[i].bytes; k++)
            sum += (uint8_t)m->vocab.tokens[i].text[k];
    for (uint32_t i = 0; i < m->desc.n_layers; i++) {
        for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
            const model_tensor_t *t = &m->desc.layers[i].t[w];
            if (t->type == MODEL_NONE) continue;
            if (model_type_info(t->type)->shared) continue;
            uint8_t *row = malloc(model_row_bytes(t->type, t->n_cols));
            float   *f   = malloc(t->n_cols * sizeof(float));
            if (row == NULL || f == NULL) abort();
            model_row_copy(m->source, t, t->n_rows - 1, row);
            model_row_f32(m->source, t, t->n_rows - 1, 0, t->n_cols, f);
            sum += row[0];
            free(row);
            free(f);
        }
    }
    if (sum == 1) fputs("", stderr); /* the sum is used */
}

/* Open n bytes as a model, read something of all that opens, close. Status and text of
 * model_open. */
static inline base_status_t mini_open_in_place(const void *data, size_t n, bool vocab_only,
                                               base_err_t *err)
{
    model_source_t *source = NULL;
    model_t        *m      = NULL;
    base_status_t   st     = model_source_wrap(data, n, MINI_LABEL, &source, err);
    if (st == BASE_OK) st = model_open_source(&source, vocab_only, &m, err);
    if (st == BASE_OK) mini_read(m);
    model_close(&m);
    return st;
}

/* The same on a copy of exactly n bytes, so that a sanitizer sees each byte too far. */
static inline base_status_t mini_open(const void *data, size_t n, bool vocab_only, base_err_t *err)
{
    if (n > 1 << 30) abort();
    uint8_t *copy = malloc(n == 0 ? 1 : n);
    if (copy == NULL) abort();
    if (n > 0) memcpy(copy, data, n);
    base_status_t st = mini_open_in_place(copy, n, vocab_only, err);
    free(copy);
    return st;
}

#endif
