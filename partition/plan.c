/* partition/plan.c: a plan from a wish and a model's shape. */
#include "partition/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "partition/layout.h"

/* What slices rely on; model_desc_check has said so already, but nothing here would survive without
 * it. */
static base_status_t desc_sliceable(const model_desc_t *desc, base_err_t *err)
{
    if (desc->n_layers == 0 || desc->n_layers > LIMIT_LAYERS)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: %u layers, expected 1..%d (a vocabulary-only file?)", desc->name,
                         desc->n_layers, LIMIT_LAYERS);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        const model_layer_t *l = &desc->layers[i];
        if (l->n_kv_heads == 0 ? l->n_heads != 0 : l->n_heads % l->n_kv_heads != 0)
            return base_fail(err, BASE_ERR_INPUT,
                             "%s: layer %u has %u heads, not a multiple of its %u KV heads",
                             desc->name, i, l->n_heads, l->n_kv_heads);
    }
    return BASE_OK;
}

static uint64_t layer_bytes(const model_layer_t *layer)
{
    uint64_t bytes = 0;
    for (uint32_t t = 0; t < MODEL_LAYER_TENSOR_COUNT; t++) bytes += layer->t[t].bytes;
    return bytes;
}

/* Boundaries of the stages: bytes held and read per token, the head with the last stage. The
 * embedding weighs nothing: its rows are read from the mapped file. */
static base_status_t plan_stages(const model_desc_t *desc, const uint32_t *weights,
                                 part_plan_t *plan, base_err_t *err)
{
    uint64_t     *cost = NULL;
    base_status_t st   = BASE_OK;

    st = base_alloc((void **)&cost, desc->n_layers, sizeof(*cost), "plan", err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < desc->n_layers; i++) cost[i] = layer_bytes(&desc->layers[i]);
    st = part_stages_balance(cost, desc->n_layers, 0, desc->head.bytes + desc->out_norm.bytes,
                             weights, plan->stages, plan->stage_layer, err);
out:
    free(cost);
    return st;
}

base_status_t part_plan_make(const part_wish_t *wish, const model_desc_t *desc, part_plan_t *plan,
                             base_err_t *err)
{
    part_plan_t   p            = {0};
    uint32_t     *stage_weight = NULL;
    char         *before       = NULL; /* a slash in --split */
    const char   *shares       = wish->split;
    bool          of_stages    = false; /* --split names stages */
    bool          layers_given = false;
    base_status_t st           = BASE_OK;

    base_assert(wish != NULL && desc != NULL && plan != NULL);
    if (wish->n_ranks == 0 || wish->n_ranks > LIMIT_RANKS) {
        st = base_fail(err, BASE_ERR_USAGE, "%u ranks: expected 1..%d", wish->n_ranks, LIMIT_RANKS);
        goto out;
    }
    st = desc_sliceable(desc, err);
    if (st != BASE_OK) goto out;
    st = part_layout_choose(wish, desc->n_layers, &p.stages, &p.shards, err);
    if (st != BASE_OK) goto out;

    st = base_alloc((void **)&p.stage_layer, p.stages + 1, sizeof(uint32_t), "plan", err);
    if (st != BASE_OK) goto out;
    st = base_alloc((void **)&p.shard_weight, p.shards, sizeof(uint32_t), "plan", err);
    if (st != BASE_OK) goto out;
    st = base_alloc((void **)&stage_weight, p.stages, sizeof(uint32_t), "plan", err);
    if (st != BASE_OK) goto out;

    st = base_alloc((void **)&before, PART_SPLIT_BYTES, 1, "plan", err);
    if (st != BASE_OK) goto out;
    st = part_split_layers(wish->split, p.stages, desc->n_layers, before, PART_SPLIT_BYTES,
                           p.stage_layer, &layers_given, err);
    if (st != BASE_OK) goto out;
    if (layers_given) shares = before;
    of_stages = p.shards == 1 && !layers_given;
    st        = part_split_parse(
               of_stages ? "even" : shares, p.shards,
        layers_given ? "shards in front of the slash (none there: even, as in /3,1)" : "shards",
        p.shard_weight, err);
    if (st != BASE_OK) goto out;
    st = part_split_parse(of_stages ? shares : "even", p.stages, "stages", stage_weight, err);
    if (st != BASE_OK) goto out;
    if (!layers_given) st = plan_stages(desc, stage_weight, &p, err);
    if (st != BASE_OK) goto out;

    *plan = p;
    p     = (part_plan_t){0};
out:
    free(stage_weight);
    free(before);
    part_plan_free(&p);
    return st;
}

void part_plan_free(part_plan_t *plan)
{
    free(plan->stage_layer);
    free(plan->shard_weight);
    memset(plan, 0, sizeof(*plan));
}

const char *part_layout_name(const part_plan_t *plan, char *buf, size_t buf_bytes)
{
    (void)snprintf(buf, buf_bytes, "%ux%u", plan->stages, plan->shards);
    return buf;
}
