/* launch/plan_needs.c: how many machines a model needs in other formats. */
#include <string.h>

#include "base/arena.h"
#include "launch/plan_report.h"

const char *const plan_format_names[PLAN_FORMATS] = {"fp16", "int8", "2 bits", "1.6 bits"};

/* Which layer tensors are matrices of weights, whatever their type. */
static bool is_matrix(uint32_t w)
{
    return w == MODEL_ATTN_Q || w == MODEL_ATTN_K || w == MODEL_ATTN_V || w == MODEL_ATTN_OUT ||
           w == MODEL_FFN_GATE || w == MODEL_FFN_UP || w == MODEL_FFN_DOWN;
}

bool plan_in_format(const model_desc_t *desc, uint32_t format, model_desc_t *out)
{
    static const model_type_t types[PLAN_FORMATS] = {MODEL_F16, MODEL_Q8_0, MODEL_TQ2_0,
                                                     MODEL_TQ1_0};
    const model_type_info_t  *info                = model_type_info(types[format]);

    *out = *desc;
    if (base_alloc((void **)&out->layers, desc->n_layers, sizeof(*out->layers), "plan", NULL) !=
        BASE_OK)
        return false;
    memcpy(out->layers, desc->layers, desc->n_layers * sizeof(*out->layers));
    for (uint32_t l = 0; l < desc->n_layers; l++)
        for (uint32_t w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
            model_tensor_t *t = &out->layers[l].t[w];
            if (!is_matrix(w) || t->type == MODEL_NONE) continue;
            if (!info->ternary && t->n_cols % info->block_elems != 0) {
                model_desc_free(out);
                return false;
            }
            t->type   = types[format];
            t->online = t->unit = false;
            t->bytes = t->n_rows * ((t->n_cols + info->block_elems - 1) / info->block_elems) *
                       info->block_bytes;
        }
    return true;
}

/* Do so many nodes hold it? Figures that are not given do not matter here. */
static bool holds(const model_desc_t *desc, const part_node_t *node, const part_ask_t *ask,
                  uint32_t n)
{
    part_node_t    like   = *node;
    part_ask_t     any    = *ask;
    part_cluster_t c      = {0};
    part_choice_t  choice = {0};
    bool           fits   = false;

    like.membw    = 1e9;
    any.all_nodes = true;
    any.optimize  = PART_FOR_DECODE;
    any.layout = any.split = NULL;
    any.pipeline_parallel = any.tensor_parallel = 0;
    if ((uint64_t)n * node->ranks > LIMIT_RANKS) return false;
    if (part_cluster_uniform(n, &like, 0, 1e9, &c, NULL) != BASE_OK) return false;
    fits = part_plan_choose(&c, desc, &any, &choice, NULL, NULL) == BASE_OK && choice.fits;
    part_choice_free(&choice);
    part_cluster_free(&c);
    return fits;
}

/* The fewest: doubling, then halving the gap; near small numbers more nodes always hold more. */
static uint32_t fewest(const model_desc_t *desc, const part_node_t *node, const part_ask_t *ask)
{
    uint32_t low = 0, high = 1;

    while (!holds(desc, node, ask, high)) {
        low = high;
        high *= 2;
        if (high > LIMIT_RANKS) return 0;
    }
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (holds(desc, node, ask, middle))
            high = middle;
        else
            low = middle;
    }
    return high;
}

base_status_t plan_needs(const model_desc_t *desc, const part_node_t *node, const part_ask_t *ask,
                         uint32_t *needs, base_err_t *err)
{
    (void)err;
    for (uint32_t f = 0; f < PLAN_FORMATS; f++) {
        model_desc_t other = {0};
        part_ask_t   with  = *ask;
        needs[f]           = 0;
        with.ternary_bits  = f == PLAN_T3 ? 1.6 : 2;
        if (!plan_in_format(desc, f, &other)) continue;
        needs[f] = fewest(&other, node, &with);
        model_desc_free(&other);
    }
    return BASE_OK;
}
