/* Fuzzing config.json (with its quantization_config): any text gives a status, or a shape that
 * sound weights fit or do not.
 *
 * Built and run as fuzz.h says. */
#include <math.h>

#include "tests/fuzz/hf.h"

/* What a shape promises: all numbers are in their limits. */
static void check(const hf_config_t *c)
{
    fuzz_expect(c->n_layers >= 1 && c->n_layers <= LIMIT_LAYERS && c->width >= 1 &&
                    c->width <= LIMIT_WIDTH && c->ffn >= 1 && c->ffn <= LIMIT_FFN &&
                    c->n_heads >= 1 && c->n_heads <= LIMIT_HEADS && c->n_kv_heads >= 1 &&
                    c->head_dim >= 1 && c->head_dim <= LIMIT_HEAD_DIM &&
                    c->rope_dims <= c->head_dim && c->n_vocab >= 1 && c->n_vocab <= LIMIT_VOCAB &&
                    c->context >= 1 && c->context <= LIMIT_CONTEXT && isfinite(c->norm_eps) &&
                    isfinite(c->rope_base),
                "a shape out of its limits", NULL);
}

/* Tables of RoPE: finite, whatever the file says. */
static void resolve(const hf_config_t *c)
{
    model_desc_t d   = {.rope_dims = c->rope_dims,
                        .head_dim  = c->head_dim,
                        .rope_base = c->rope_base,
                        .context   = c->context};
    base_err_t   err = {0};
    if (model_rope_resolve(&d, &c->scaling, c->path, &err) != BASE_OK) {
        fuzz_expect(strstr(err.text, "dir/") != NULL, "rope", &err);
        return;
    }
    for (uint32_t i = 0; i < d.rope_dims / 2; i++)
        fuzz_expect(isfinite(d.rope_freq[i]), "a frequency that is none", NULL);
    fuzz_expect(isfinite(d.rope_magnitude), "a magnitude that is none", NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static fuzz_bytes_t weights[2];
    json_t             *root   = NULL;
    hf_config_t         config = {0};
    base_err_t          err    = {0};
    fuzz_quiet();
    base_status_t st = model_json_parse((const char *)data, size, "dir/config.json", &root, &err);
    if (st == BASE_OK) st = model_hf_config(root, "dir/config.json", &config, &err);
    if (st == BASE_OK) {
        check(&config);
        resolve(&config);
        for (int i = 0; i < 2; i++) {
            const hf_config_t shape = hf_shape(i == 1, i == 1 ? HF_PACKED : HF_DENSE);
            if (weights[i].n == 0) weights[i] = hf_weights(&shape);
            hf_bind(&config, weights[i].data, weights[i].n);
        }
    } else {
        fuzz_expect(base_status_exit(st) == 3 && strstr(err.text, "dir/") != NULL, "config", &err);
    }
    json_decref(root);
    return 0;
}

#ifndef TRIREME_LIBFUZZER

static void mutate(fuzz_bytes_t *b, uint64_t *state)
{
    static const char *const pieces[] = {
        "\"bitnet\"",
        "\"llama\"",
        "\"relu2\"",
        "\"silu\"",
        "\"offline\"",
        "\"online\"",
        "\"bitlinear\"",
        "\"autobitlinear\"",
        "\"yarn\"",
        "\"linear\"",
        "\"llama3\"",
        "\"default\"",
        "[\"BitnetForCausalLM\"]",
        "[\"lm_head\"]",
        "8",
        "12",
        "2",
        "6",
        "64",
        "1e-320",
        "1e-5",
        "0.5",
        "0.01",
        "-0.0",
        "{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1,\"mscale_all_dim\":1e300}",
        "{\"type\":\"linear\",\"factor\":1e-300}"};
    if (fuzz_random(state) % 8 == 0)
        fuzz_mutate_bytes(b, state);
    else
        fuzz_mutate_json(b, pieces, sizeof(pieces) / sizeof(pieces[0]), state);
}

#define SHAPE                                                                                      \
    "\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":1,"                          \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":6,"                        \
    "\"max_position_embeddings\":64,\"rms_norm_eps\":1e-05,"

int main(int argc, char **argv)
{
    static const char *const texts[] = {
        "{\"model_type\":\"llama\"," SHAPE "\"rope_theta\":10000.0,\"head_dim\":4,"
        "\"attention_bias\":false,\"mlp_bias\":false,\"tie_word_embeddings\":false}",
        "{\"model_type\":\"bitnet\"," SHAPE "\"hidden_act\":\"relu2\",\"tie_word_embeddings\":true,"
        "\"quantization_config\":{\"quant_method\":\"bitnet\",\"linear_class\":\"autobitlinear\","
        "\"quantization_mode\":\"offline\",\"modules_to_not_convert\":[\"lm_head\"],"
        "\"use_rms_norm\":false}}",
        "{\"architectures\":[\"BitnetForCausalLM\"],\"model_type\":\"llama\"," SHAPE
        "\"hidden_act\":\"silu\",\"weight_bits\":1,\"input_bits\":8}",
        "{\"model_type\":\"llama\"," SHAPE
        "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":32}}",
        "{\"model_type\":\"llama\"," SHAPE "\"rope_parameters\":{\"rope_type\":\"yarn\","
        "\"factor\":4.0,\"beta_fast\":32,\"beta_slow\":1,\"mscale\":1.0,\"mscale_all_dim\":0.5,"
        "\"truncate\":true,\"attention_factor\":1.1,\"rope_theta\":5e5,"
        "\"partial_rotary_factor\":0.5,\"original_max_position_embeddings\":16}}",
        "{\"model_type\":\"bitnet\"," SHAPE "\"hidden_act\":\"relu2\",\"rope_scaling\":{\"type\":"
        "\"linear\",\"factor\":2},\"quantization_config\":{\"quant_method\":\"bitnet\","
        "\"linear_class\":\"autobitlinear\",\"quantization_mode\":\"online\"}}",
    };
    enum { SEEDS = sizeof(texts) / sizeof(texts[0]) };
    fuzz_bytes_t seeds[SEEDS] = {0};
    for (int i = 0; i < SEEDS; i++) fuzz_splice(&seeds[i], 0, 0, texts[i], strlen(texts[i]));
    const int rc = fuzz_main(argc, argv, seeds, SEEDS, mutate, 300000);
    for (int i = 0; i < SEEDS; i++) free(seeds[i].data);
    return rc;
}

#endif
