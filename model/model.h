/* model/model.h
 * What a model file holds, whatever its format: shape, tensor directory, tokenizer tables.
 *
 * A model is opened once on rank 0 (model_open): files are memory-mapped and checked, nothing is
 * copied. The shape and the directory (model_desc_t) have no pointers, so they can be sent to
 * other ranks, which map the same files (model_source_open) and read only their own slices.
 *
 * Every tensor_ref_t is hostile until model_source_check has compared it with the mapped files. */
#ifndef TRIREME_MODEL_MODEL_H
#define TRIREME_MODEL_MODEL_H

#include "base/limits.h"
#include "base/status.h"

/* Stored types. The numbers are ours and go over the wire; file formats map theirs to these. */
typedef enum {
    MODEL_NONE, /* the tensor is absent */
    MODEL_F32,
    MODEL_F16,
    MODEL_BF16,
    MODEL_Q8_0,
    MODEL_Q6_K,
    MODEL_TQ1_0,
    MODEL_TQ2_0,
    /* Later additions stand behind, so that numbers keep their meaning. */
    MODEL_Q4_0,
    MODEL_Q4_1,
    MODEL_Q5_0,
    MODEL_Q5_1,
    MODEL_Q2_K,
    MODEL_Q3_K,
    MODEL_Q4_K,
    MODEL_Q5_K,
    MODEL_I2_S,    /* ternary, blocks of 128 along the row (x86, Python converter) */
    MODEL_I2_S_64, /* ternary, blocks of 64 (ARM) */
    MODEL_I2_S_R4, /* ternary, 4 rows share a byte (x86 without ACT_PARALLEL) */
    MODEL_ROWS4,   /* ternary, Hugging Face: row r is bits 2 * (r / R) of byte row r % R, where R is
                    * a fourth of the rows, rounded up */
    MODEL_F16_TERN, /* ternary, each weight as half precision: -scale, 0 or +scale. For rows that
                     * no ternary type of GGUF can hold; the file says F16 and names the tensor. */
    MODEL_TYPE_COUNT
} model_type_t;

typedef struct {
    const char *name;
    uint32_t    block_elems; /* elements along a row in one block */
    uint32_t    block_bytes;
    bool        ternary;
    bool shared; /* four rows share each byte (I2_S_R4, ROWS4): a row has no bytes of its own */
    bool scaled; /* the one scale of the tensor is model_tensor_t.scale */
} model_type_info_t;

const model_type_info_t *model_type_info(model_type_t type); /* type < MODEL_TYPE_COUNT */

/* A matrix of n_rows x n_cols (row-major: one row is n_cols consecutive weights), or a vector
 * (n_rows == 1). */
typedef struct {
    model_type_t type;
    uint32_t     file;   /* index into the source's files */
    uint64_t     offset; /* bytes from the file's start */
    uint64_t     bytes;  /* exactly model_tensor_bytes() */
    uint64_t     n_rows;
    uint64_t     n_cols;
    float        scale; /* scaled types: the one scale, a factor, >= 0. `online`: 0, or the absolute
                             * mean once the worker knows it. Else 0. */
    float        out_scale; /* the product (a bias: the bias) is multiplied by this; 0: nothing */
    bool         online;    /* float weights to be made ternary at load by their absolute mean */
    bool         unit;      /* `online`, but each weight must be -1, 0 or 1, and scale is known */
} model_tensor_t;

typedef enum { MODEL_ACT_SILU, MODEL_ACT_RELU2 } model_act_t;
typedef enum { MODEL_ROPE_HALF, MODEL_ROPE_PAIR } model_rope_t;

typedef enum {
    MODEL_SCALING_NONE,
    MODEL_SCALING_LINEAR,
    MODEL_SCALING_LLAMA3,
    MODEL_SCALING_YARN,
    MODEL_SCALING_FACTORS /* none of these, but a factor for each pair (GGUF's Llama 3) */
} model_scaling_kind_t;

/* Vectors (norms, biases) are F32, F16 or BF16. */
typedef enum {
    MODEL_ATTN_NORM,     /* [width] */
    MODEL_ATTN_Q,        /* [n_heads * head_dim][width] */
    MODEL_ATTN_K,        /* [n_kv_heads * head_dim][width] */
    MODEL_ATTN_V,        /* [n_kv_heads * head_dim][width] */
    MODEL_ATTN_SUB_NORM, /* [n_heads * head_dim] */
    MODEL_ATTN_OUT,      /* [width][n_heads * head_dim] */
    MODEL_FFN_NORM,      /* [width] */
    MODEL_FFN_GATE,      /* [ffn][width] */
    MODEL_FFN_UP,        /* [ffn][width] */
    MODEL_FFN_SUB_NORM,  /* [ffn] */
    MODEL_FFN_DOWN,      /* [width][ffn] */
    MODEL_ATTN_Q_BIAS,   /* [n_heads * head_dim], MODEL_NONE mostly, as the next three */
    MODEL_ATTN_K_BIAS,   /* [n_kv_heads * head_dim] */
    MODEL_ATTN_V_BIAS,   /* [n_kv_heads * head_dim] */
    MODEL_ATTN_OUT_BIAS, /* [width] */
    MODEL_FFN_GATE_BIAS, /* [ffn], MODEL_NONE mostly, as all that follow */
    MODEL_FFN_UP_BIAS,   /* [ffn] */
    MODEL_FFN_DOWN_BIAS, /* [width] */
    /* [width]: a second norm of the normed hidden vector, in front of one matrix alone
     * (transformers: use_rms_norm). That of o and of down is their sub-norm. */
    MODEL_ATTN_Q_IN_NORM,
    MODEL_ATTN_K_IN_NORM,
    MODEL_ATTN_V_IN_NORM,
    MODEL_FFN_GATE_IN_NORM,
    MODEL_FFN_UP_IN_NORM,
    MODEL_LAYER_TENSOR_COUNT
} model_layer_tensor_t;

/* Widths are per layer: pruned models differ from layer to layer. */
typedef struct {
    uint32_t       n_heads;
    uint32_t       n_kv_heads;
    uint32_t       ffn;
    model_tensor_t t[MODEL_LAYER_TENSOR_COUNT];
} model_layer_t;

enum { MODEL_NAME_BYTES = 128, MODEL_ROPE_MAX = LIMIT_HEAD_DIM / 2 };

typedef struct {
    char     arch[32];               /* as the file says: "bitnet", "bitnet-b1.58" */
    char     name[MODEL_NAME_BYTES]; /* general.name, or the file's name */
    uint32_t n_layers;
    uint32_t width;
    uint32_t head_dim;
    uint32_t rope_dims; /* rotated dimensions of a head, even, <= head_dim */
    uint32_t n_vocab;   /* rows of the embedding and of the head */
    uint32_t context;   /* trained context, positions */
    float    norm_eps;
    float    sub_norm_eps; /* of sub-norms and of norms in front of one matrix; norm_eps mostly */
    double   rope_base;
    double   rope_scale; /* for information: the factor of linear scaling; 1 = none */
    /* For information, known where the file was opened. */
    model_scaling_kind_t rope_scaling;
    /* All kinds of scaling come down to one frequency (radians a position) for each rotated pair
     * and a factor on cos and sin. model_rope_resolve() fills these for all loaders; the worker
     * uses nothing else. */
    double       rope_freq[MODEL_ROPE_MAX]; /* rope_dims / 2 of them */
    double       rope_magnitude;            /* 1 but for YaRN */
    model_act_t  act;
    model_rope_t rope;
    bool         tied; /* head == embedding */
    uint64_t     n_params;

    model_tensor_t embed;    /* [n_vocab][width] */
    model_tensor_t out_norm; /* [width] */
    model_tensor_t head;     /* [n_vocab][width]; same as embed when tied */
    model_layer_t *layers;   /* n_layers, owned */
} model_desc_t;

/* How a file wants positions beyond the trained context. All zero: not at all. */
typedef struct {
    model_scaling_kind_t kind;
    double               factor;           /* frequencies are divided by this; > 0 */
    double               original_context; /* positions; LLAMA3 and YARN */
    double               low_freq_factor, high_freq_factor; /* LLAMA3 */
    double               beta_fast, beta_slow;              /* YARN; 0: 32 and 1 */
    double               magnitude;                         /* YARN; 0: from the factor */
    bool                 untruncated;                       /* YARN: bounds are not rounded */
    const float         *divisors; /* one a pair: GGUF's rope_freqs.weight; NULL: none */
} model_rope_scaling_t;

/* Fill desc->rope_freq, rope_magnitude, rope_scale and rope_scaling from rope_dims, rope_base and
 * the scaling, as transformers 5.23 (modeling_rope_utils.py) and llama.cpp do, but in double and
 * with base/detmath.h, so that the bits do not depend on the machine. `where` names the file in
 * texts.
 * Status: OK | INPUT (a number that makes no sense). Local. */
base_status_t model_rope_resolve(model_desc_t *desc, const model_rope_scaling_t *scaling,
                                 const char *where, base_err_t *err);

/* Mapped files of a model. Read-only; safe from any thread once open. */
typedef struct model_source model_source_t;

/* Map the given files. paths are copied. Status: OK | IO | MEMORY | LIMIT. Local. */
base_status_t model_source_open(const char *const *paths, uint32_t n_paths, model_source_t **out,
                                base_err_t *err);
void          model_source_close(model_source_t **source); /* accepts NULL */

/* A source without files: the bytes of rows are made when they are read (synthetic models in
 * memory). The function writes blocks [block, block + n_blocks) of a row in stored form; it is
 * called from any thread. `label` (copied) stands for the path. All of model_row_* work on it
 * but model_row().
 * Status: OK | MEMORY. Local. */
typedef void  model_generate_t(void *context, const model_tensor_t *tensor, uint64_t row,
                               uint64_t block, uint64_t n_blocks, uint8_t *out);
base_status_t model_source_generate(model_generate_t *generate, void *context, const char *label,
                                    model_source_t **out, base_err_t *err);
bool          model_source_generated(const model_source_t *source);

/* A source of files that only other ranks have: their paths there and sizes. model_source_check
 * holds tensors to them; rows are read by `generate`, as above (types whose rows share bytes: a
 * block is the byte of a column, with the row's own code in its place). Status: OK | MEMORY |
 * LIMIT. Local. */
base_status_t model_source_remote(const char *const *paths, const uint64_t *bytes, uint32_t n_paths,
                                  model_generate_t *generate, void *context, model_source_t **out,
                                  base_err_t *err);

/* Rows [row, row + n_rows) have been read and are not soon read again: their pages need not count
 * as this process's memory. Reading them again is allowed. Nothing where there is no mapped
 * file. */
void model_source_drop(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                       uint64_t n_rows);

uint32_t    model_source_count(const model_source_t *source);
const char *model_source_path(const model_source_t *source, uint32_t file);
uint64_t    model_source_bytes(const model_source_t *source, uint32_t file);
/* Nanoseconds since 1970 at which a mapped file was last changed; 0 for others. */
uint64_t model_source_time(const model_source_t *source, uint32_t file);
/* Are the mapped files as they were when they were mapped? Not if they were written into since;
 * others that took their names do not matter. Status: OK | INPUT (text names the file). */
base_status_t model_source_unchanged(const model_source_t *source, base_err_t *err);

/* Does the tensor lie inside its file, with consistent type, shape and bytes (checked
 * arithmetic)? An absent one (MODEL_NONE) passes: model_desc_check() knows which may be absent.
 * `name` is for the text. Status: OK | INPUT | LIMIT. */
base_status_t model_source_check(const model_source_t *source, const model_tensor_t *tensor,
                                 const char *name, base_err_t *err);

/* First byte of a row of a checked tensor of mapped files; row < n_rows. Any alignment. These
 * two and model_row_copy() assert that the type is not `shared`. */
const uint8_t *model_row(const model_source_t *source, const model_tensor_t *tensor, uint64_t row);
uint64_t       model_row_bytes(model_type_t type, uint64_t n_cols);

/* Bytes of a whole tensor of any type; false if they overflow. */
bool model_tensor_bytes(model_type_t type, uint64_t n_rows, uint64_t n_cols, uint64_t *bytes);

/* A whole row in stored form: model_row_bytes() bytes into out. Works for every source. */
void model_row_copy(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                    uint8_t *out);

/* Columns [col, col + n) of a row, widened to float as NUMERICS 5 says (ternary: trit * d, or
 * trit * tensor->scale; `online` weights as they are stored). col and n need not be on block
 * boundaries. */
void model_row_f32(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                   uint64_t col, uint64_t n, float *out);

/* Columns [col, col + n) of a row of a ternary or `online` tensor as trits -1, 0, +1. The latter
 * needs tensor->scale (asserted): trit = nearest integer, halves to even, of w / scale in float,
 * limited to -1..1 (`unit`: the weight itself). *scale_min, *scale_max are widened by the scales of
 * the blocks touched that hold a nonzero trit (an all-zero block says nothing about the scale):
 * start them at +INFINITY and 0. Scales are compared by absolute value; a negative scale flips the
 * trits, a scale of 0 makes them 0. Returns false if the bytes hold an invalid code (3, but in
 * TQ1_0, which has none; F16_TERN, `unit`: a value other than the three) or a scale or an `online`
 * weight is not finite. */
bool model_row_trits(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                     uint64_t col, uint64_t n, int8_t *out, float *scale_min, float *scale_max);

/* XXH3, 128 bits: a fingerprint against accidents, not against forgers. */
typedef struct {
    uint64_t high, low;
} model_hash_t;

/* Of a checked tensor's bytes in its mapped file, as `xxhsum -H2` would print it. Local. */
model_hash_t model_tensor_hash(const model_source_t *source, const model_tensor_t *tensor);

/* Of n hashes, one after the other in canonical (big-endian) form. */
model_hash_t model_hash_join(const model_hash_t *hashes, size_t n);

/* Of n bytes: 128 bits, and 64 bits of the same family. */
model_hash_t model_bytes_hash(const void *bytes, size_t n);
uint64_t     model_bytes_hash64(const void *bytes, size_t n);

/* SipHash-2-4 of n bytes, 64 bits: who has not the secret cannot tell the value for bytes of his
 * own, except by luck, and not when he knows it for others. A sixth as fast as XXH3. */
typedef struct {
    uint64_t words[2];
} model_secret_t;
uint64_t model_bytes_mac64(const model_secret_t *secret, const void *bytes, size_t n);

/* Which model is this? Of each mapped file its size, its time of modification, its first 64 KiB and
 * 64 samples of 4 KiB spread over it; and the whole directory of tensors with the shape. Reads
 * well below a megabyte, so it costs milliseconds; two files that agree in all that and differ
 * elsewhere are taken for one. Generated sources have none (asserted). Local. */
model_hash_t model_fingerprint(const model_source_t *source, const model_desc_t *desc);

/* Of one mapped file, whatever its path and times: its first head_bytes (at most the file's), and
 * 64 samples of 4 KiB spread over it. Two ranks hold the same file when size and key agree.
 * Local. */
model_hash_t model_file_key(const model_source_t *source, uint32_t file, uint64_t head_bytes);

/* ---- absolute means of `online` weights: g = max(mean |w|, 1e-5), methods.md 1.1 */

/* An exact sum of absolute values: for each exponent of a float the sum of the significands. Any
 * order of additions, any division among ranks gives the same. All zero: nothing yet. No
 * pointers, no padding: it can be sent as it is. 256 sums, as floats have 8 bits of exponent. */
typedef struct {
    uint64_t significands[256]; /* up to 2^40 weights */
} model_abs_sum_t;

/* Add |w| of columns [col, col + n) of a row of a float tensor. */
void model_absmean_accumulate(const model_source_t *source, const model_tensor_t *tensor,
                              uint64_t row, uint64_t col, uint64_t n, model_abs_sum_t *sum);

/* into += from. */
void model_abs_sum_merge(model_abs_sum_t *into, const model_abs_sum_t *from);

/* The mean over n_weights (1 .. 2^40), rounded once to float (halves to even), at least 1e-5f.
 * INFINITY if a weight was not finite; model_row_trits() then refuses the row that holds it. */
float model_abs_sum_scale(const model_abs_sum_t *sum, uint64_t n_weights);

/* Tokenizer tables, as the file gives them; strings (not NUL-terminated) point into the mapped
 * file, or for Hugging Face directories into `owned`. */
typedef enum { MODEL_VOCAB_NONE, MODEL_VOCAB_SPM, MODEL_VOCAB_BPE } model_vocab_kind_t;

typedef struct {
    const char *text;
    uint32_t    bytes;
} model_str_t;

enum { /* token types of GGUF */
       MODEL_TOKEN_NORMAL       = 1,
       MODEL_TOKEN_UNKNOWN      = 2,
       MODEL_TOKEN_CONTROL      = 3,
       MODEL_TOKEN_USER_DEFINED = 4,
       MODEL_TOKEN_UNUSED       = 5,
       MODEL_TOKEN_BYTE         = 6
};

/* What is done to a text before it becomes tokens: a Unicode normalisation form. */
typedef enum {
    MODEL_NORMAL_NONE,
    MODEL_NORMAL_NFC,
    MODEL_NORMAL_NFD,
    MODEL_NORMAL_NFKC,
    MODEL_NORMAL_NFKD
} model_normal_t;

/* "NFC" and so on, "" for none. */
const char *model_normal_name(model_normal_t form);

typedef struct {
    model_vocab_kind_t kind;
    model_normal_t     normal;   /* of tokenizer.json, or of trireme.tokenizer.normalizer (GGUF) */
    model_str_t        pre;      /* pre-tokenizer name ("llama-bpe", "gpt-2"), empty if absent */
    uint32_t           n_tokens; /* may be below desc.n_vocab (padded embeddings) */
    model_str_t       *tokens;   /* n_tokens, owned */
    float             *scores;   /* n_tokens, owned; NULL if absent (BPE) */
    uint8_t           *types;    /* n_tokens, owned; MODEL_TOKEN_NORMAL where absent */
    uint8_t           *normalized; /* n_tokens, owned, or NULL; 1: stands in normalised text */
    uint32_t           n_merges;
    model_str_t       *merges;   /* n_merges, owned: "left right" */
    int32_t            bos;      /* -1: none */
    int32_t            eos, eot; /* -1: none */
    int32_t            unk, pad; /* -1: none */
    bool               add_bos;  /* the file's value, or the default of the kind */
    bool               add_eos;
    bool               add_space_prefix; /* SPM; default true */
    model_str_t        chat_template;    /* empty if absent */
    char              *owned;            /* texts of strings that lie in no mapped file, or NULL */
} model_vocab_t;

typedef struct {
    model_desc_t    desc;
    model_vocab_t   vocab;
    model_source_t *source;
} model_t;

/* How I2_S tensors are laid out: the file does not say, it depends on the machine that made it. */
typedef enum {
    MODEL_I2S_X86,    /* blocks of 128: x86 and the Python converter of bitnet.cpp */
    MODEL_I2S_ARM,    /* blocks of 64 */
    MODEL_I2S_X86_OLD /* 4 rows share a byte: x86 built without ACT_PARALLEL */
} model_i2s_layout_t;

typedef struct {
    bool               vocab_only;
    model_i2s_layout_t i2s_layout;
} model_open_options_t; /* all zero: the defaults */

/* Open a model: a GGUF file (v2 or v3), the first of a set of them, or a Hugging Face directory
 * (config.json, safetensors, tokenizer.json). Everything is checked: counts, lengths, offsets,
 * types, limits, shapes against each other. A vocabulary-only file (no tensors) opens only with
 * `vocab_only`; desc then holds what the keys say and n_layers may be 0.
 * Status: OK | IO | INPUT | UNSUPPORTED | LIMIT | MEMORY; the text names file and field. Local. */
base_status_t model_open(const char *path, bool vocab_only, model_t **out, base_err_t *err);
base_status_t model_open_with(const char *path, const model_open_options_t *options, model_t **out,
                              base_err_t *err);
void          model_close(model_t **model); /* accepts NULL */

/* Check shapes of a desc against each other and against limits; used by model_open and by ranks
 * that got it over the wire. `where` names the origin in the text. Tensors that are MODEL_NONE
 * are an error but for the sub-norms, norms of one matrix and biases, which some models lack.
 * Status: OK | INPUT | UNSUPPORTED | LIMIT. */
base_status_t model_desc_check(const model_desc_t *desc, const char *where, base_err_t *err);
void          model_desc_free(model_desc_t *desc); /* frees layers; accepts zeroed */

/* Rows and columns that a tensor of a layer must have; is it a norm, is it a bias (vectors
 * both)?; the number of parameters of all tensors that are there. */
void     model_layer_tensor_shape(const model_desc_t *desc, const model_layer_t *layer,
                                  model_layer_tensor_t which, uint64_t *n_rows, uint64_t *n_cols);
bool     model_layer_tensor_is_norm(model_layer_tensor_t which);
bool     model_layer_tensor_is_in_norm(model_layer_tensor_t which); /* of one matrix; also a norm */
bool     model_layer_tensor_is_bias(model_layer_tensor_t which);
uint64_t model_desc_params(const model_desc_t *desc);

/* Name of a tensor for texts: "blk.3.attn_q", "blk.3.attn_q.bias" into buf. */
/* "attn_q". */
const char *model_layer_tensor_label(model_layer_tensor_t which);
const char *model_layer_tensor_name(uint32_t layer, model_layer_tensor_t which, char *buf,
                                    size_t buf_bytes);

#endif
