/* launch/account.c: operations and energy of one token, by arithmetic. */
#include "launch/account.h"

#include <math.h>

#include "base/status.h"

const account_energy_t account_energies[ACCOUNT_ENERGIES] = {
    {.name    = "45 nm",
     .add_i8  = 0.03,
     .add_f16 = 0.4,
     .mul_f16 = 1.1,
     .add_f32 = 0.9,
     .mul_f32 = 3.7},
    {.name    = "7 nm",
     .add_i8  = 0.007,
     .add_f16 = 0.16,
     .mul_f16 = 0.34,
     .add_f32 = 0.38,
     .mul_f32 = 1.31},
};

static bool is_projection(model_layer_tensor_t which)
{
    switch (which) {
    case MODEL_ATTN_Q:
    case MODEL_ATTN_K:
    case MODEL_ATTN_V:
    case MODEL_ATTN_OUT:
    case MODEL_FFN_GATE:
    case MODEL_FFN_UP:
    case MODEL_FFN_DOWN: return true;
    default: return false;
    }
}

account_ops_t account_ops(const model_desc_t *desc, double positions)
{
    account_ops_t ops = {.head = (double)desc->n_vocab * desc->width};

    for (uint32_t l = 0; l < desc->n_layers; l++) {
        const model_layer_t *layer = &desc->layers[l];
        for (int i = 0; i < MODEL_LAYER_TENSOR_COUNT; i++) {
            const model_tensor_t *t = &layer->t[i];
            double                n = (double)t->n_rows * (double)t->n_cols;
            if (t->type == MODEL_NONE || !is_projection((model_layer_tensor_t)i)) continue;
            if (model_type_info(t->type)->ternary || t->online)
                ops.ternary += n;
            else
                ops.dense += n;
        }
        ops.attention += 2 * positions * layer->n_heads * desc->head_dim;
    }
    ops.projection = ops.ternary + ops.dense;
    return ops;
}

account_joules_t account_joules(const account_ops_t *ops, const account_energy_t *e)
{
    const double     pico    = 1e-12;
    const double     f32     = (e->add_f32 + e->mul_f32) * pico;
    const double     f16     = (e->add_f16 + e->mul_f16) * pico;
    const double     rest    = ops->attention + ops->head;
    account_joules_t j       = {0};
    j.projections_joules     = ops->ternary * e->add_i8 * pico + ops->dense * f32;
    j.joules                 = j.projections_joules + rest * f32;
    j.f16_projections_joules = ops->projection * f16;
    j.f16_joules             = j.f16_projections_joules + rest * f16;
    return j;
}

double account_amdahl(double share, double faster)
{
    base_assert(share >= 0 && share <= 1 && faster > 0);
    return 1 / (1 - share + (isinf(faster) ? 0 : share / faster));
}
