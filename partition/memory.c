/* partition/memory.c: predicted bytes of one rank.
 *
 * The arithmetic of the packed formats belongs to worker/kernels (kernel.h), which partition may
 * not include; it is restated here, and tests/worker compares the prediction with what a worker
 * takes. */
#include "base/checked.h"
#include "partition/plan.h"

enum {
    TILE_ROWS     = 16, /* KERN_TILE_ROWS */
    GRANULE_BYTES = 64, /* one granule of a tile */
    T2_K          = 16, /* columns of a granule: KERN_T2_K, KERN_T3_K */
    T3_K          = 20,
    KV_PAGE       = 64, /* positions: KERN_PAGE */
    FLOAT_LANES   = 16, /* KERN_LANES */
};

typedef struct {
    uint64_t ternary, dense;
} weights_t;

/* rows x cols of a tensor: packed tiles if it is ternary, else its stored bytes. */
static void weights_add(weights_t *w, const model_tensor_t *t, uint64_t rows, uint64_t cols,
                        uint64_t granule_k)
{
    if (t->type == MODEL_NONE || rows == 0 || cols == 0) return;
    const model_type_info_t *info = model_type_info(t->type);
    if (info->ternary)
        w->ternary += (rows + TILE_ROWS - 1) / TILE_ROWS * ((cols + granule_k - 1) / granule_k) *
                      GRANULE_BYTES;
    else
        w->dense += rows * ((cols + info->block_elems - 1) / info->block_elems) * info->block_bytes;
}

static void weights_add_layer(weights_t *w, const model_layer_t *l, const model_desc_t *desc,
                              part_slice_t s, uint64_t k)
{
    const uint64_t width = desc->width, hd = desc->head_dim;
    const uint64_t q = (s.q.end - s.q.begin) * hd, kv = (s.kv.end - s.kv.begin) * hd;
    const uint64_t ffn = s.ffn.end - s.ffn.begin;

    weights_add(w, &l->t[MODEL_ATTN_NORM], 1, width, k);
    weights_add(w, &l->t[MODEL_ATTN_Q], q, width, k);
    weights_add(w, &l->t[MODEL_ATTN_K], kv, width, k);
    weights_add(w, &l->t[MODEL_ATTN_V], kv, width, k);
    weights_add(w, &l->t[MODEL_ATTN_SUB_NORM], 1, q, k);
    weights_add(w, &l->t[MODEL_ATTN_OUT], width, q, k);
    weights_add(w, &l->t[MODEL_FFN_NORM], 1, width, k);
    weights_add(w, &l->t[MODEL_FFN_GATE], ffn, width, k);
    weights_add(w, &l->t[MODEL_FFN_UP], ffn, width, k);
    weights_add(w, &l->t[MODEL_FFN_SUB_NORM], 1, ffn, k);
    weights_add(w, &l->t[MODEL_FFN_DOWN], width, ffn, k);
}

/* Step arena: hidden vector and its copy, queries, keys and values with their output, gate, up and
 * the product, int8 activations and int32 sums, for every token of a step; logits where they are
 * made and where they end. */
static uint64_t activation_bytes(const part_plan_t *plan, const model_desc_t *desc, uint32_t rank,
                                 uint64_t heads, uint64_t ffn, uint32_t n_batch, uint32_t n_out)
{
    const uint64_t per_token = desc->width * 12ull + heads * desc->head_dim * 12 + ffn * 16;
    uint64_t       bytes     = per_token * n_batch;

    if (rank / plan->shards == plan->stages - 1) {
        part_range_t rows = part_vocab(plan, desc, rank % plan->shards);
        bytes += (uint64_t)n_out * (rows.end - rows.begin) * 4;
    }
    if (rank == 0) bytes += (uint64_t)n_out * desc->n_vocab * 4;
    return bytes;
}

part_memory_t part_memory(const part_plan_t *plan, const model_desc_t *desc, uint32_t rank,
                          double ternary_bits, uint64_t n_ctx, uint32_t n_batch, uint32_t n_out)
{
    const uint32_t     stage = rank / plan->shards, shard = rank % plan->shards;
    const uint64_t     granule_k = ternary_bits > 1.8 ? T2_K : T3_K;
    const uint64_t     page_row  = base_round_up(desc->head_dim, FLOAT_LANES) * 4 * 2; /* K and V */
    const part_range_t rows      = part_vocab(plan, desc, shard);
    weights_t          w         = {0};
    part_memory_t      m         = {0};
    uint64_t           heads = 0, ffn = 0; /* of the widest layer here */

    base_assert(rank < plan->stages * plan->shards);
    part_range_t layers = part_stage_layers(plan, stage);
    for (uint32_t i = layers.begin; i < layers.end; i++) {
        const model_layer_t *l      = &desc->layers[i];
        part_slice_t         s      = part_slice(plan, l, shard);
        uint64_t             n_kv   = s.kv.end - s.kv.begin;
        uint64_t             n_here = s.q.end - s.q.begin + 2 * n_kv;
        weights_add_layer(&w, l, desc, s, granule_k);
        m.kv += n_kv * base_round_up(n_ctx, KV_PAGE) * page_row;
        heads = base_max_size(heads, n_here);
        ffn   = base_max_size(ffn, s.ffn.end - s.ffn.begin);
    }
    const bool first = stage == 0, last = stage == plan->stages - 1;
    if (first) weights_add(&w, &desc->embed, rows.end - rows.begin, desc->width, granule_k);
    if (last) weights_add(&w, &desc->out_norm, 1, desc->width, granule_k);
    if (last && !(first && desc->tied))
        weights_add(&w, &desc->head, rows.end - rows.begin, desc->width, granule_k);

    m.ternary     = w.ternary;
    m.dense       = w.dense;
    m.activations = activation_bytes(plan, desc, rank, heads, ffn, n_batch, n_out);
    m.total       = m.ternary + m.dense + m.kv + m.activations;
    return m;
}
