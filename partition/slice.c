/* partition/slice.c: the arithmetic of who holds which rows. */
#include "partition/plan.h"

void part_cut(uint64_t n, uint64_t granule, const uint32_t *weights, uint32_t n_weights,
              uint32_t index, uint64_t *begin, uint64_t *end)
{
    uint64_t before = 0; /* sum of the weights ahead of `index` */
    uint64_t total  = 0;

    base_assert(n <= UINT32_MAX && granule >= 1 && granule <= 4096 && index < n_weights &&
                n_weights <= LIMIT_RANKS);
    for (uint32_t i = 0; i < n_weights; i++) {
        base_assert(weights[i] >= 1 && weights[i] <= PART_WEIGHT_MAX);
        if (i < index) before += weights[i];
        total += weights[i];
    }
    /* n < 2^32 and total < 2^32, so n * cumulative < 2^64; twice that need not fit, so the rounding
     * looks at the remainder. */
    uint64_t bounds[2];
    for (uint32_t side = 0; side < 2; side++) {
        uint64_t cumulative = side == 0 ? before : before + weights[index];
        uint64_t unit       = granule * total;
        uint64_t at         = n * cumulative / unit;
        uint64_t rest       = n * cumulative % unit;
        if (rest >= unit - rest) at++; /* halves go up */
        at           = at * granule;
        bounds[side] = at < n ? at : n;
    }
    *begin = bounds[0];
    *end   = index + 1 == n_weights ? n : bounds[1];
    base_assert(*begin <= *end && *end <= n);
}

static part_range_t cut_range(const part_plan_t *plan, uint32_t n, uint32_t granule, uint32_t shard)
{
    uint64_t begin = 0, end = 0;
    part_cut(n, granule, plan->shard_weight, plan->shards, shard, &begin, &end);
    return (part_range_t){(uint32_t)begin, (uint32_t)end};
}

part_slice_t part_slice(const part_plan_t *plan, const model_layer_t *layer, uint32_t shard)
{
    part_slice_t s = {0};

    base_assert(shard < plan->shards);
    s.q   = cut_range(plan, layer->n_heads, 1, shard);
    s.ffn = cut_range(plan, layer->ffn, PART_FFN_BLOCK, shard);
    if (layer->n_kv_heads == 0) return s; /* no attention in this layer */
    uint32_t group = layer->n_heads / layer->n_kv_heads;
    base_assert(group >= 1 && group * layer->n_kv_heads == layer->n_heads);
    s.kv.begin = s.q.begin / group;
    s.kv.end   = s.q.begin == s.q.end ? s.kv.begin : (s.q.end - 1) / group + 1;
    return s;
}

part_range_t part_vocab(const part_plan_t *plan, const model_desc_t *desc, uint32_t shard)
{
    base_assert(shard < plan->shards);
    return cut_range(plan, desc->n_vocab, PART_VOCAB_BLOCK, shard);
}

part_range_t part_stage_layers(const part_plan_t *plan, uint32_t stage)
{
    base_assert(stage < plan->stages);
    return (part_range_t){plan->stage_layer[stage], plan->stage_layer[stage + 1]};
}
