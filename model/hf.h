/* model/hf.h
 * Inside of the room: Hugging Face directories: config.json, tokenizer files, safetensors. */
#ifndef TRIREME_MODEL_HF_H
#define TRIREME_MODEL_HF_H

#include "model/json.h"
#include "model/safetensors.h"

typedef enum {
    HF_DENSE,  /* no quantisation config */
    HF_PACKED, /* uint8, four rows a byte, with a weight_scale */
    HF_ONLINE  /* float weights, made ternary at load */
} hf_quant_t;

typedef struct {
    const char          *path; /* of config.json, for texts; borrowed */
    char                 arch[32];
    bool                 bitnet; /* sub-norms; else llama */
    uint32_t             n_layers, width, ffn, n_heads, n_kv_heads, head_dim, rope_dims;
    uint32_t             n_vocab, context;
    double               norm_eps, rope_base;
    model_rope_scaling_t scaling;
    model_act_t          act;
    bool                 tied, attention_bias, mlp_bias;
    bool                 rms_norm; /* a norm in front of each ternary matrix */
    double               rms_norm_eps;
    hf_quant_t           quant;
    bool                 scale_divides; /* linear_class bitlinear: weight_scale is a reciprocal */
} hf_config_t;

/* Read config.json's members. Odd quantisation configs and what would change the result are refused
 * by name. Status: OK | INPUT | UNSUPPORTED | LIMIT. Local. */
base_status_t model_hf_config(const json_t *root, const char *path, hf_config_t *out,
                              base_err_t *err);

/* Fill a zeroed desc. `dir` names the model. Status: also MEMORY. Local. */
base_status_t model_hf_desc(const hf_config_t *config, model_st_t *st, const model_source_t *source,
                            const char *dir, model_desc_t *desc, base_err_t *err);

/* Fill a zeroed vocab from the tokenizer files of a directory; `config` is config.json's root (may
 * be NULL). No tokenizer.json: MODEL_VOCAB_NONE. Status as above. Local. */
base_status_t model_hf_vocab(const char *dir, const json_t *config, model_vocab_t *vocab,
                             base_err_t *err);

/* "dir/name" into out; LIMIT if it does not fit. */
base_status_t model_hf_path(const char *dir, const char *name, char out[LIMIT_PATH_BYTES],
                            base_err_t *err);

bool          model_hf_is_directory(const char *path);
base_status_t model_hf_open(const char *dir, const model_open_options_t *options, model_t **out,
                            base_err_t *err);

/* The name that llama.cpp gives to the pre-tokenizer of tokenizer.json ("llama-bpe", "gpt-2", ...),
 * by its regular expressions, for byte-level BPE. Status: OK | UNSUPPORTED. Local. */
base_status_t model_hf_pre(const json_t *tokenizer, const char *path, const char **out,
                           base_err_t *err);

#endif
