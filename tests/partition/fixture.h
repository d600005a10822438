/* tests/partition/fixture.h: small models described for the planner, and seeded randomness. */
#ifndef TRIREME_TESTS_PARTITION_FIXTURE_H
#define TRIREME_TESTS_PARTITION_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"
#include "partition/plan.h"

static inline uint64_t fixture_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z          = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z          = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline model_tensor_t fixture_tensor(model_type_t type, uint64_t rows, uint64_t cols,
                                            uint64_t *offset)
{
    model_tensor_t t = {.type   = type,
                        .offset = *offset,
                        .bytes  = rows * model_row_bytes(type, cols),
                        .n_rows = rows,
                        .n_cols = cols};
    *offset += t.bytes;
    return t;
}

typedef struct {
    uint32_t     n_layers, width, head_dim, n_heads, n_kv_heads, ffn, n_vocab;
    model_type_t ternary, dense;
    bool         tied, sub_norms;
} fixture_shape_t;

static const fixture_shape_t fixture_llama_405b __attribute__((unused)) = {.n_layers   = 126,
                                                                           .width      = 16384,
                                                                           .head_dim   = 128,
                                                                           .n_heads    = 128,
                                                                           .n_kv_heads = 8,
                                                                           .ffn        = 53248,
                                                                           .n_vocab    = 128256,
                                                                           .ternary   = MODEL_TQ1_0,
                                                                           .dense     = MODEL_F16,
                                                                           .tied      = false,
                                                                           .sub_norms = true};

/* A model of like layers whose tensors follow each other in one file. model_desc_free() frees it.
 */
static inline model_desc_t fixture_desc(fixture_shape_t s)
{
    const uint64_t q = (uint64_t)s.n_heads * s.head_dim, kv = (uint64_t)s.n_kv_heads * s.head_dim;
    uint64_t       at = 4096;
    model_desc_t   d  = {
           .arch         = "bitnet",
           .name         = "fixture",
           .n_layers     = s.n_layers,
           .width        = s.width,
           .head_dim     = s.head_dim,
           .rope_dims    = s.head_dim,
           .n_vocab      = s.n_vocab,
           .context      = 2048,
           .norm_eps     = 1e-5f,
           .sub_norm_eps = 2e-5f,
           .rope_base    = 10000,
           .rope_scale   = 1,
           .act          = MODEL_ACT_RELU2,
           .rope         = MODEL_ROPE_HALF,
           .tied         = s.tied,
    };
    d.embed    = fixture_tensor(s.dense, s.n_vocab, s.width, &at);
    d.out_norm = fixture_tensor(MODEL_F32, 1, s.width, &at);
    d.head     = s.tied ? d.embed : fixture_tensor(s.dense, s.n_vocab, s.width, &at);
    d.layers   = calloc(s.n_layers, sizeof(*d.layers));
    assert_non_null(d.layers);
    for (uint32_t i = 0; i < s.n_layers; i++) {
        model_layer_t *l      = &d.layers[i];
        l->n_heads            = s.n_heads;
        l->n_kv_heads         = s.n_kv_heads;
        l->ffn                = s.ffn;
        l->t[MODEL_ATTN_NORM] = fixture_tensor(MODEL_F32, 1, s.width, &at);
        l->t[MODEL_ATTN_Q]    = fixture_tensor(s.ternary, q, s.width, &at);
        l->t[MODEL_ATTN_K]    = fixture_tensor(s.ternary, kv, s.width, &at);
        l->t[MODEL_ATTN_V]    = fixture_tensor(s.ternary, kv, s.width, &at);
        l->t[MODEL_ATTN_OUT]  = fixture_tensor(s.ternary, s.width, q, &at);
        l->t[MODEL_FFN_NORM]  = fixture_tensor(MODEL_F32, 1, s.width, &at);
        l->t[MODEL_FFN_GATE]  = fixture_tensor(s.ternary, s.ffn, s.width, &at);
        l->t[MODEL_FFN_UP]    = fixture_tensor(s.ternary, s.ffn, s.width, &at);
        l->t[MODEL_FFN_DOWN]  = fixture_tensor(s.ternary, s.width, s.ffn, &at);
        if (!s.sub_norms) continue;
        l->t[MODEL_ATTN_SUB_NORM] = fixture_tensor(MODEL_F32, 1, q, &at);
        l->t[MODEL_FFN_SUB_NORM]  = fixture_tensor(MODEL_F32, 1, s.ffn, &at);
    }
    d.n_params = at; /* any number */
    assert_int_equal(model_rope_resolve(&d, &(model_rope_scaling_t){.kind = MODEL_SCALING_NONE},
                                        "fixture", NULL),
                     BASE_OK);
    return d;
}

static const fixture_shape_t fixture_small = {.n_layers   = 6,
                                              .width      = 256,
                                              .head_dim   = 64,
                                              .n_heads    = 20,
                                              .n_kv_heads = 5,
                                              .ffn        = 768,
                                              .n_vocab    = 1000,
                                              .ternary    = MODEL_TQ2_0,
                                              .dense      = MODEL_F16,
                                              .tied       = true,
                                              .sub_norms  = true};

#endif
