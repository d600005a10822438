/* partition/memory.c: predicted bytes of one rank.
 *
 * What a worker allocates is decided in worker/shard.c (weights), worker/worker.c (KV cache, step
 * arena) and worker/kernels/kernel.h (packed formats), which partition may not include; it is
 * restated here. The weights and the KV cache are meant to agree to the byte. The embedding is not
 * counted: its rows are read from the mapped file, when a token needs them. */
#include "base/checked.h"
#include "partition/plan.h"

enum {
    TILE_ROWS     = 16, /* KERN_TILE_ROWS */
    GRANULE_BYTES = 64, /* one granule of a tile */
    T2_K          = 16, /* columns of a granule: KERN_T2_K, KERN_T3_K */
    T3_K          = 20,
    Q_PAD         = 80, /* int8 activations: KERN_Q_PAD */
    KV_PAGE       = 64, /* positions: KERN_PAGE */
    MAX_GROUP     = 64, /* KERN_MAX_GROUP */
    FLOAT_LANES   = 16, /* KERN_LANES */
    ALIGN         = 64, /* of every piece of an arena */

    SCREEN_K           = 64,      /* columns of a block of coarse rows: KERN_SCREEN_K */
    SCREEN_BLOCK_BYTES = 768,     /* its codes in a tile: KERN_SCREEN_BLOCK_BYTES */
    SCREEN_COLS_MAX    = 1 << 17, /* KERN_SCREEN_MAX_COLS */
    SCREEN_ROWS_LEAST  = 4096,    /* a vocabulary below is not worth it */
};

/* Packed tiles of rows x cols. */
static uint64_t ternary_bytes(uint64_t rows, uint64_t cols, uint64_t granule_k)
{
    uint64_t tiles    = (rows + TILE_ROWS - 1) / TILE_ROWS;
    uint64_t granules = (cols + granule_k - 1) / granule_k;
    return tiles * granules * GRANULE_BYTES;
}

static uint64_t floats_bytes(uint64_t n)
{
    return base_round_up(n * 4, ALIGN);
}

/* Rows of the slice, in elements of one token. */
typedef struct {
    uint64_t q, kv, ffn;
} widths_t;

/* One matrix of the shard: packed when ternary, in stored form otherwise. */
static void matrix_add(part_memory_t *m, const model_tensor_t *t, uint64_t rows, uint64_t cols,
                       uint64_t k)
{
    if (t->online || model_type_info(t->type)->ternary)
        m->ternary += ternary_bytes(rows, cols, k);
    else
        m->dense += base_round_up(rows * model_row_bytes(t->type, cols), ALIGN);
}

static void vector_add(part_memory_t *m, const model_tensor_t *t, uint64_t n)
{
    if (t->type != MODEL_NONE) m->dense += floats_bytes(n);
}

/* Dense o and down are cut by rows, and then see the whole input (worker/shard.h). */
static bool by_rows(const model_tensor_t *t)
{
    return !t->online && !model_type_info(t->type)->ternary;
}

static void layer_add(part_memory_t *m, const part_plan_t *plan, const model_desc_t *desc,
                      const model_layer_t *l, uint32_t shard, widths_t s, uint64_t k)
{
    const uint64_t width = desc->width, all = (uint64_t)l->n_heads * desc->head_dim;
    uint64_t       begin = 0, end = 0;
    part_cut(width, TILE_ROWS, plan->shard_weight, plan->shards, shard, &begin, &end);
    const bool     o_rows = by_rows(&l->t[MODEL_ATTN_OUT]), d_rows = by_rows(&l->t[MODEL_FFN_DOWN]);
    const uint64_t o_cols = o_rows ? all : s.q, d_cols = d_rows ? l->ffn : s.ffn;
    const uint64_t out_rows = o_rows ? end - begin : width;
    matrix_add(m, &l->t[MODEL_ATTN_Q], s.q, width, k);
    matrix_add(m, &l->t[MODEL_ATTN_K], s.kv, width, k);
    matrix_add(m, &l->t[MODEL_ATTN_V], s.kv, width, k);
    matrix_add(m, &l->t[MODEL_ATTN_OUT], out_rows, o_cols, k);
    matrix_add(m, &l->t[MODEL_FFN_GATE], s.ffn, width, k);
    matrix_add(m, &l->t[MODEL_FFN_UP], s.ffn, width, k);
    matrix_add(m, &l->t[MODEL_FFN_DOWN], d_rows ? end - begin : width, d_cols, k);
    m->dense += 2 * floats_bytes(width);
    vector_add(m, &l->t[MODEL_ATTN_SUB_NORM], o_cols);
    vector_add(m, &l->t[MODEL_FFN_SUB_NORM], d_cols);
    vector_add(m, &l->t[MODEL_ATTN_Q_BIAS], s.q);
    vector_add(m, &l->t[MODEL_ATTN_K_BIAS], s.kv);
    vector_add(m, &l->t[MODEL_ATTN_V_BIAS], s.kv);
    vector_add(m, &l->t[MODEL_ATTN_OUT_BIAS], out_rows);
    vector_add(m, &l->t[MODEL_FFN_GATE_BIAS], s.ffn);
    vector_add(m, &l->t[MODEL_FFN_UP_BIAS], s.ffn);
    vector_add(m, &l->t[MODEL_FFN_DOWN_BIAS], d_rows ? end - begin : width);
    for (int w = MODEL_ATTN_Q_IN_NORM; w <= MODEL_FFN_UP_IN_NORM; w++)
        vector_add(m, &l->t[w], width);
}

/* Floats of one token that row-cut products need besides: the hidden vector normed, and the widest
 * input twice. 0 when no layer has such. */
static uint64_t whole_floats(const model_desc_t *desc, part_range_t layers)
{
    uint64_t whole = 0;
    for (uint32_t i = layers.begin; i < layers.end; i++) {
        const model_layer_t *l = &desc->layers[i];
        if (by_rows(&l->t[MODEL_ATTN_OUT]))
            whole = base_max_size(whole, (uint64_t)l->n_heads * desc->head_dim);
        if (by_rows(&l->t[MODEL_FFN_DOWN])) whole = base_max_size(whole, l->ffn);
    }
    return whole == 0 ? 0 : desc->width + 2 * base_max_size(whole, desc->width);
}

/* The step arena, in the order of worker.c; `most` holds the widest of each over the layers. Left
 * out are the threads' own buffers (a quarter of a MiB each) and tables of a few hundred bytes. */
static uint64_t activation_bytes(const part_plan_t *plan, const model_desc_t *desc, uint32_t rank,
                                 widths_t most, uint32_t n_batch, uint32_t n_out)
{
    const uint64_t     width = desc->width;
    const uint64_t     wide  = base_max_size(width, base_max_size(most.q, most.ffn));
    const uint64_t     heads = most.q / desc->head_dim * base_round_up(desc->head_dim, FLOAT_LANES);
    const bool         last  = rank / plan->shards == plan->stages - 1;
    const bool         lone  = plan->shards == 1 && plan->stages == 1;
    const part_range_t rows  = part_vocab(plan, desc, rank % plan->shards);
    const part_range_t first = part_vocab(plan, desc, 0);
    uint64_t           token = 0;

    token += width * 4;                               /* hidden vector */
    token += base_round_up(wide, Q_PAD) + 8;          /* int8 activations, their sum and factor */
    token += (most.q + 2 * most.kv) * 4;              /* queries, keys, values */
    token += (heads + most.q) * 4;                    /* queries by heads, attention's output */
    token += 2 * most.ffn * 4;                        /* gate, up */
    token += (plan->shards > 1 ? width : 0) * 4;      /* partial sums */
    token += desc->rope_dims / 2 * 2 * 4;             /* cos, sin */
    token += (most.ffn / PART_FFN_BLOCK + 1) * 2 * 4; /* norm blocks, maxima: about */

    uint64_t bytes = token * n_batch;
    if (last) bytes += (uint64_t)n_out * (width + (rows.end - rows.begin)) * 4;
    if (rank == 0 && !lone)
        bytes += (uint64_t)n_out * (desc->n_vocab + (first.end - first.begin)) * 4;
    return bytes;
}

uint64_t part_screen_bytes(uint64_t rows, uint64_t cols)
{
    const uint64_t tiles  = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const uint64_t blocks = (cols + SCREEN_K - 1) / SCREEN_K;
    const uint64_t floats = 3 * TILE_ROWS * 4;
    return tiles *
           (floats + base_round_up(blocks * TILE_ROWS, ALIGN) + blocks * SCREEN_BLOCK_BYTES);
}

bool part_screen_possible(const model_desc_t *desc)
{
    return desc->width <= SCREEN_COLS_MAX;
}

bool part_screen_pays(const model_desc_t *desc)
{
    const uint64_t full = desc->n_vocab * model_row_bytes(desc->head.type, desc->width);
    return part_screen_possible(desc) && desc->n_vocab >= SCREEN_ROWS_LEAST &&
           part_screen_bytes(desc->n_vocab, desc->width) <= full / 5 * 4;
}

static bool same_widths(const model_layer_t *a, const model_layer_t *b)
{
    return a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads && a->ffn == b->ffn;
}

static uint64_t element_bytes(model_type_t cache)
{
    return cache == MODEL_F16 ? 2 : 4;
}

/* Pages of attention that threads keep apart while they share an item (worker/attention.c): of
 * every KV head and sequence at most, m, z and o of its query heads. */
static uint64_t part_bytes(const model_desc_t *desc, part_range_t layers, uint64_t kv_heads,
                           uint64_t positions)
{
    uint64_t group = 0;
    for (uint32_t i = layers.begin; i < layers.end; i++)
        group = base_max_size(group, desc->layers[i].n_heads / desc->layers[i].n_kv_heads);
    group = base_min_size(group, MAX_GROUP);
    return kv_heads * (positions / KV_PAGE) * group *
           (2 + base_round_up(desc->head_dim, FLOAT_LANES)) * 4;
}

part_memory_t part_memory(const part_plan_t *plan, const model_desc_t *desc, uint32_t rank,
                          const part_sizes_t *sizes)
{
    const uint32_t stage = rank / plan->shards, shard = rank % plan->shards;
    const uint64_t granule_k = sizes->ternary_bits > 1.8 ? T2_K : T3_K;
    const uint64_t hd        = desc->head_dim;
    const uint64_t page_row  = base_round_up(hd, FLOAT_LANES) *
                              (element_bytes(sizes->type_k) + element_bytes(sizes->type_v));
    const part_range_t rows      = part_vocab(plan, desc, shard);
    widths_t           most      = {0};
    part_slice_t       s         = {0};
    part_memory_t      m         = {0};
    const uint64_t     positions = base_round_up(sizes->n_ctx, KV_PAGE);
    const uint64_t     n_seq     = sizes->n_seq == 0 ? 1 : sizes->n_seq;

    base_assert(rank < plan->stages * plan->shards);
    part_range_t layers = part_stage_layers(plan, stage);
    for (uint32_t i = layers.begin; i < layers.end; i++) {
        /* Most models repeat one layer, and cutting takes time with thousands of shards. */
        if (i == layers.begin || !same_widths(&desc->layers[i], &desc->layers[i - 1]))
            s = part_slice(plan, &desc->layers[i], shard);
        uint64_t n_kv = s.kv.end - s.kv.begin;
        widths_t w    = {(s.q.end - s.q.begin) * hd, n_kv * hd, s.ffn.end - s.ffn.begin};
        layer_add(&m, plan, desc, &desc->layers[i], shard, w, granule_k);
        m.kv += n_seq * n_kv * positions * page_row;
        most.q   = base_max_size(most.q, w.q);
        most.kv  = base_max_size(most.kv, w.kv);
        most.ffn = base_max_size(most.ffn, w.ffn);
    }
    if (stage == plan->stages - 1) {
        m.dense += floats_bytes(desc->width);
        m.dense += base_round_up(
            (rows.end - rows.begin) * model_row_bytes(desc->head.type, desc->width), ALIGN);
        if (sizes->screen) m.screen = part_screen_bytes(rows.end - rows.begin, desc->width);
    }
    m.activations = activation_bytes(plan, desc, rank, most, sizes->n_batch, sizes->n_out) +
                    whole_floats(desc, layers) * 4 * sizes->n_batch +
                    part_bytes(desc, layers, most.kv / hd * n_seq, positions);
    m.total = m.ternary + m.dense + m.screen + m.kv + m.activations;
    return m;
}
