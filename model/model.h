/* model/model.h
 * What a model file holds, whatever its format: shape, tensor directory, tokenizer tables.
 *
 * A model is opened once on rank 0 (model_open): files are memory-mapped and checked, nothing is
 * copied. The shape and the directory (model_desc_t) have no pointers, so they can be sent to other
 * ranks, which map the same files (model_source_open) and read only their own slices.
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
    MODEL_TYPE_COUNT
} model_type_t;

typedef struct {
    const char *name;
    uint32_t    block_elems; /* elements along a row in one block */
    uint32_t    block_bytes;
    bool        ternary;
} model_type_info_t;

const model_type_info_t *model_type_info(model_type_t type); /* type < MODEL_TYPE_COUNT */

/* A matrix of n_rows x n_cols (row-major: one row is n_cols consecutive weights), or a vector
 * (n_rows == 1). */
typedef struct {
    model_type_t type;
    uint32_t     file;   /* index into the source's files */
    uint64_t     offset; /* bytes from the file's start */
    uint64_t     bytes;  /* exactly n_rows * model_row_bytes() */
    uint64_t     n_rows;
    uint64_t     n_cols;
} model_tensor_t;

typedef enum { MODEL_ACT_SILU, MODEL_ACT_RELU2 } model_act_t;
typedef enum { MODEL_ROPE_HALF, MODEL_ROPE_PAIR } model_rope_t;

typedef enum {
    MODEL_ATTN_NORM,     /* [width] F32 */
    MODEL_ATTN_Q,        /* [n_heads * head_dim][width] */
    MODEL_ATTN_K,        /* [n_kv_heads * head_dim][width] */
    MODEL_ATTN_V,        /* [n_kv_heads * head_dim][width] */
    MODEL_ATTN_SUB_NORM, /* [n_heads * head_dim] F32 */
    MODEL_ATTN_OUT,      /* [width][n_heads * head_dim] */
    MODEL_FFN_NORM,      /* [width] F32 */
    MODEL_FFN_GATE,      /* [ffn][width] */
    MODEL_FFN_UP,        /* [ffn][width] */
    MODEL_FFN_SUB_NORM,  /* [ffn] F32 */
    MODEL_FFN_DOWN,      /* [width][ffn] */
    MODEL_LAYER_TENSOR_COUNT
} model_layer_tensor_t;

/* Widths are per layer: pruned models differ from layer to layer. */
typedef struct {
    uint32_t       n_heads;
    uint32_t       n_kv_heads;
    uint32_t       ffn;
    model_tensor_t t[MODEL_LAYER_TENSOR_COUNT];
} model_layer_t;

enum { MODEL_NAME_BYTES = 128 };

typedef struct {
    char         arch[32];               /* as the file says: "bitnet", "bitnet-b1.58" */
    char         name[MODEL_NAME_BYTES]; /* general.name, or the file's name */
    uint32_t     n_layers;
    uint32_t     width;
    uint32_t     head_dim;
    uint32_t     rope_dims; /* rotated dimensions of a head, even, <= head_dim */
    uint32_t     n_vocab;   /* rows of the embedding and of the head */
    uint32_t     context;   /* trained context, positions */
    float        norm_eps;
    double       rope_base;
    double       rope_scale; /* positions are divided by this (linear scaling); 1 = none */
    model_act_t  act;
    model_rope_t rope;
    bool         tied; /* head == embedding */
    uint64_t     n_params;

    model_tensor_t embed;    /* [n_vocab][width] */
    model_tensor_t out_norm; /* [width] F32 */
    model_tensor_t head;     /* [n_vocab][width]; same as embed when tied */
    model_layer_t *layers;   /* n_layers, owned */
} model_desc_t;

/* Mapped files of a model. Read-only; safe from any thread once open. */
typedef struct model_source model_source_t;

/* Map the given files. paths are copied. Status: OK | IO | MEMORY | LIMIT. Local. */
base_status_t model_source_open(const char *const *paths, uint32_t n_paths, model_source_t **out,
                                base_err_t *err);
void          model_source_close(model_source_t **source); /* accepts NULL */

/* A source without files: the bytes of rows are made when they are read (synthetic models in
 * memory).
 * The function writes blocks [block, block + n_blocks) of a row in stored form; it is called from
 * any
 * thread. `label` (copied) stands for the path. All of model_row_* work on it but model_row().
 * Status: OK | MEMORY. Local. */
typedef void  model_generate_t(void *context, const model_tensor_t *tensor, uint64_t row,
                               uint64_t block, uint64_t n_blocks, uint8_t *out);
base_status_t model_source_generate(model_generate_t *generate, void *context, const char *label,
                                    model_source_t **out, base_err_t *err);
bool          model_source_generated(const model_source_t *source);

uint32_t    model_source_count(const model_source_t *source);
const char *model_source_path(const model_source_t *source, uint32_t file);
uint64_t    model_source_bytes(const model_source_t *source, uint32_t file);

/* Does the tensor lie inside its file, with consistent type, shape and bytes (checked arithmetic)?
 * `name` is for the text. Status: OK | INPUT | LIMIT. */
base_status_t model_source_check(const model_source_t *source, const model_tensor_t *tensor,
                                 const char *name, base_err_t *err);

/* First byte of a row of a checked tensor of mapped files; row < n_rows. Any alignment. */
const uint8_t *model_row(const model_source_t *source, const model_tensor_t *tensor, uint64_t row);
uint64_t       model_row_bytes(model_type_t type, uint64_t n_cols);

/* A whole row in stored form: model_row_bytes() bytes into out. Works for every source. */
void model_row_copy(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                    uint8_t *out);

/* Columns [col, col + n) of a row, widened to float as NUMERICS 5 says (ternary: trit * d). col and
 * n need not be on block boundaries. */
void model_row_f32(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                   uint64_t col, uint64_t n, float *out);

/* Columns [col, col + n) of a row of a ternary tensor as trits -1, 0, +1.
 * *scale_min, *scale_max are widened by the scales of the blocks touched that hold a nonzero trit
 * (an all-zero block says nothing about the scale): start them at +INFINITY and 0. Scales are
 * compared by absolute value; a negative scale flips the trits.
 * Returns false if the bytes hold an invalid code (TQ2_0 code 3) or a scale is not finite. */
bool model_row_trits(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                     uint64_t col, uint64_t n, int8_t *out, float *scale_min, float *scale_max);

/* Tokenizer tables, as the file gives them; strings point into the mapped file (not
 * NUL-terminated). */
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

typedef struct {
    model_vocab_kind_t kind;
    model_str_t        pre;      /* pre-tokenizer name ("llama-bpe", "gpt-2"), empty if absent */
    uint32_t           n_tokens; /* may be below desc.n_vocab (padded embeddings) */
    model_str_t       *tokens;   /* n_tokens, owned */
    float             *scores;   /* n_tokens, owned; NULL if absent (BPE) */
    uint8_t           *types;    /* n_tokens, owned; MODEL_TOKEN_NORMAL where absent */
    uint32_t           n_merges;
    model_str_t       *merges;   /* n_merges, owned: "left right" */
    int32_t            bos;      /* -1: none */
    int32_t            eos, eot; /* -1: none */
    int32_t            unk, pad; /* -1: none */
    bool               add_bos;  /* the file's value, or the default of the kind */
    bool               add_eos;
    bool               add_space_prefix; /* SPM; default true */
    model_str_t        chat_template;    /* empty if absent */
} model_vocab_t;

typedef struct {
    model_desc_t    desc;
    model_vocab_t   vocab;
    model_source_t *source;
} model_t;

/* Open a model: a GGUF file (v2 or v3). Everything is checked: counts, lengths, offsets, types,
 * limits,
 * shapes against each other. A vocabulary-only file (no tensors) opens only with `vocab_only`; desc
 * then holds what the keys say and n_layers may be 0.
 * Status: OK | IO | INPUT | UNSUPPORTED | LIMIT | MEMORY; the text names file and field. Local. */
base_status_t model_open(const char *path, bool vocab_only, model_t **out, base_err_t *err);
void          model_close(model_t **model); /* accepts NULL */

/* Check shapes of a desc against each other and against limits; used by model_open and by ranks
 * that got it over the wire. `where` names the origin in the text. Tensors that are MODEL_NONE
 * are an
 * error but for the sub-norms, which some models lack. Status: OK | INPUT | UNSUPPORTED | LIMIT. */
base_status_t model_desc_check(const model_desc_t *desc, const char *where, base_err_t *err);
void          model_desc_free(model_desc_t *desc); /* frees layers; accepts zeroed */

/* Rows and columns that a tensor of a layer must have; is it a norm (a vector, F32)?; the number of
 * parameters of all tensors that are there. */
void     model_layer_tensor_shape(const model_desc_t *desc, const model_layer_t *layer,
                                  model_layer_tensor_t which, uint64_t *n_rows, uint64_t *n_cols);
bool     model_layer_tensor_is_norm(model_layer_tensor_t which);
uint64_t model_desc_params(const model_desc_t *desc);

/* Name of a tensor for texts: "blk.3.attn_q" into buf. */
const char *model_layer_tensor_name(uint32_t layer, model_layer_tensor_t which, char *buf,
                                    size_t buf_bytes);

#endif
