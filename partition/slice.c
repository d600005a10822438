/* partition/slice.c: the arithmetic of who holds which rows. */
#include "partition/account.h"

part_share_t part_share_at(const uint32_t *weights, uint32_t n_weights, uint32_t index)
{
    part_share_t s = {.share = weights[index], .last = index + 1 == n_weights};

    base_assert(index < n_weights && n_weights <= LIMIT_RANKS);
    for (uint32_t i = 0; i < n_weights; i++) {
        base_assert(weights[i] >= 1 && weights[i] <= PART_WEIGHT_MAX);
        if (i < index) s.before += weights[i];
        s.total += weights[i];
    }
    return s;
}

void part_share_cut(part_share_t s, uint64_t n, uint64_t granule, uint64_t *begin, uint64_t *end)
{
    base_assert(n <= UINT32_MAX && granule >= 1 && granule <= 4096);
    /* n < 2^32 and total < 2^32, so n * cumulative < 2^64; twice that need not fit, so the rounding
     * looks at the remainder. */
    uint64_t bounds[2];
    for (uint32_t side = 0; side < 2; side++) {
        uint64_t cumulative = side == 0 ? s.before : s.before + s.share;
        uint64_t unit       = granule * s.total;
        uint64_t at         = n * cumulative / unit;
        uint64_t rest       = n * cumulative % unit;
        if (rest >= unit - rest) at++; /* halves go up */
        at           = at * granule;
        bounds[side] = at < n ? at : n;
    }
    *begin = bounds[0];
    *end   = s.last ? n : bounds[1];
    base_assert(*begin <= *end && *end <= n);
}

void part_cut(uint64_t n, uint64_t granule, const uint32_t *weights, uint32_t n_weights,
              uint32_t index, uint64_t *begin, uint64_t *end)
{
    part_share_cut(part_share_at(weights, n_weights, index), n, granule, begin, end);
}

static part_range_t cut_range(part_share_t s, uint32_t n, uint32_t granule)
{
    uint64_t begin = 0, end = 0;
    part_share_cut(s, n, granule, &begin, &end);
    return (part_range_t){(uint32_t)begin, (uint32_t)end};
}

part_slice_t part_share_slice(part_share_t share, const model_layer_t *layer)
{
    part_slice_t s = {0};

    s.q   = cut_range(share, layer->n_heads, 1);
    s.ffn = cut_range(share, layer->ffn, PART_FFN_BLOCK);
    if (layer->n_kv_heads == 0) return s; /* no attention in this layer */
    uint32_t group = layer->n_heads / layer->n_kv_heads;
    base_assert(group >= 1 && group * layer->n_kv_heads == layer->n_heads);
    s.kv.begin = s.q.begin / group;
    s.kv.end   = s.q.begin == s.q.end ? s.kv.begin : (s.q.end - 1) / group + 1;
    return s;
}

part_slice_t part_slice(const part_plan_t *plan, const model_layer_t *layer, uint32_t shard)
{
    return part_share_slice(part_share_at(plan->shard_weight, plan->shards, shard), layer);
}

part_range_t part_share_vocab(part_share_t share, const model_desc_t *desc)
{
    return cut_range(share, desc->n_vocab, PART_VOCAB_BLOCK);
}

part_range_t part_vocab(const part_plan_t *plan, const model_desc_t *desc, uint32_t shard)
{
    return part_share_vocab(part_share_at(plan->shard_weight, plan->shards, shard), desc);
}

part_range_t part_stage_layers(const part_plan_t *plan, uint32_t stage)
{
    base_assert(stage < plan->stages);
    return (part_range_t){plan->stage_layer[stage], plan->stage_layer[stage + 1]};
}
