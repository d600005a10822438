/* partition/memory.c: predicted bytes of one rank.
 *
 * What a worker allocates is decided in worker/shard.c (weights), worker/worker.c (KV cache, step
 * arena) and worker/kernels/kernel.h (packed formats), which partition may not include; it is
 * restated here. The weights and the KV cache are meant to agree to the byte. The embedding is
 * counted apart: its rows are read from the mapped file, when a token needs them, but a rank that
 * gets its weights from another holds them. */
#include "base/checked.h"
#include "partition/account.h"
#include "partition/batch.h"

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

/* A matrix or vectors of a half of a layer. */
typedef struct {
    part_layer_account_t *a;
    int                   half;
    uint64_t              k; /* columns of a granule */
} half_t;

/* One matrix of the shard: packed when ternary, in stored form otherwise. */
static void matrix_add(half_t h, const model_tensor_t *t, uint64_t rows, uint64_t cols)
{
    const double products = (double)rows * (double)cols;
    if (t->online || model_type_info(t->type)->ternary) {
        h.a->ternary[h.half] += ternary_bytes(rows, cols, h.k);
        h.a->products[h.half] += products;
    } else {
        h.a->dense[h.half] += base_round_up(rows * model_row_bytes(t->type, cols), ALIGN);
        h.a->float_products[h.half] += products;
    }
}

static void vector_add(half_t h, const model_tensor_t *t, uint64_t n)
{
    if (t->type != MODEL_NONE) h.a->dense[h.half] += floats_bytes(n);
}

/* Dense o and down are cut by rows, and then see the whole input (worker/shard.h). */
static bool by_rows(const model_tensor_t *t)
{
    return !t->online && !model_type_info(t->type)->ternary;
}

static uint64_t element_bytes(model_type_t cache)
{
    return cache == MODEL_F16 ? 2 : 4;
}

part_layer_account_t part_layer_account(part_share_t share, const model_desc_t *desc,
                                        const model_layer_t *l, const part_sizes_t *sizes)
{
    part_layer_account_t a         = {0};
    const part_slice_t   s         = part_share_slice(share, l);
    const uint64_t       n_kv      = s.kv.end - s.kv.begin;
    const uint64_t       positions = base_round_up(sizes->n_ctx, KV_PAGE);
    const uint64_t       k         = sizes->ternary_bits > 1.8 ? T2_K : T3_K;
    const half_t         attn      = {&a, PART_HALF_ATTENTION, k};
    const half_t         mlp       = {&a, PART_HALF_FFN, k};
    const uint64_t       width = desc->width, all = (uint64_t)l->n_heads * desc->head_dim;
    uint64_t             begin = 0, end = 0;

    a.q           = (uint64_t)(s.q.end - s.q.begin) * desc->head_dim;
    a.kv_width    = n_kv * desc->head_dim;
    a.ffn         = s.ffn.end - s.ffn.begin;
    a.kv_position = n_kv * base_round_up(desc->head_dim, FLOAT_LANES) *
                    (element_bytes(sizes->type_k) + element_bytes(sizes->type_v));
    a.kv = (sizes->n_seq == 0 ? 1 : sizes->n_seq) * positions * a.kv_position;

    part_share_cut(share, width, TILE_ROWS, &begin, &end);
    const bool     o_rows = by_rows(&l->t[MODEL_ATTN_OUT]), d_rows = by_rows(&l->t[MODEL_FFN_DOWN]);
    const uint64_t o_cols = o_rows ? all : a.q, d_cols = d_rows ? l->ffn : a.ffn;
    const uint64_t o_out = o_rows ? end - begin : width, d_out = d_rows ? end - begin : width;
    matrix_add(attn, &l->t[MODEL_ATTN_Q], a.q, width);
    matrix_add(attn, &l->t[MODEL_ATTN_K], a.kv_width, width);
    matrix_add(attn, &l->t[MODEL_ATTN_V], a.kv_width, width);
    matrix_add(attn, &l->t[MODEL_ATTN_OUT], o_out, o_cols);
    matrix_add(mlp, &l->t[MODEL_FFN_GATE], a.ffn, width);
    matrix_add(mlp, &l->t[MODEL_FFN_UP], a.ffn, width);
    matrix_add(mlp, &l->t[MODEL_FFN_DOWN], d_out, d_cols);
    a.dense[PART_HALF_ATTENTION] += floats_bytes(width);
    a.dense[PART_HALF_FFN] += floats_bytes(width);
    vector_add(attn, &l->t[MODEL_ATTN_SUB_NORM], o_cols);
    vector_add(mlp, &l->t[MODEL_FFN_SUB_NORM], d_cols);
    vector_add(attn, &l->t[MODEL_ATTN_Q_BIAS], a.q);
    vector_add(attn, &l->t[MODEL_ATTN_K_BIAS], a.kv_width);
    vector_add(attn, &l->t[MODEL_ATTN_V_BIAS], a.kv_width);
    vector_add(attn, &l->t[MODEL_ATTN_OUT_BIAS], o_out);
    vector_add(mlp, &l->t[MODEL_FFN_GATE_BIAS], a.ffn);
    vector_add(mlp, &l->t[MODEL_FFN_UP_BIAS], a.ffn);
    vector_add(mlp, &l->t[MODEL_FFN_DOWN_BIAS], d_out);
    for (int w = MODEL_ATTN_Q_IN_NORM; w <= MODEL_FFN_UP_IN_NORM; w++)
        vector_add(w < MODEL_FFN_GATE_IN_NORM ? attn : mlp, &l->t[w], width);
    return a;
}

void part_widest_add(part_widest_t *w, const model_desc_t *desc, const model_layer_t *l,
                     const part_layer_account_t *a)
{
    const uint64_t all = (uint64_t)l->n_heads * desc->head_dim;

    w->q   = base_max_size(w->q, a->q);
    w->kv  = base_max_size(w->kv, a->kv_width);
    w->ffn = base_max_size(w->ffn, a->ffn);
    if (by_rows(&l->t[MODEL_ATTN_OUT])) w->whole = base_max_size(w->whole, all);
    if (by_rows(&l->t[MODEL_FFN_DOWN])) w->whole = base_max_size(w->whole, l->ffn);
    if (l->n_kv_heads > 0) w->group = base_max_size(w->group, l->n_heads / l->n_kv_heads);
}

/* Pages of attention that threads keep apart while they share an item (worker/attention.c): of
 * every KV head and sequence at most, m, z and o of its query heads. */
static uint64_t part_bytes(const model_desc_t *desc, const part_widest_t *w,
                           const part_sizes_t *sizes)
{
    const uint64_t n_seq = sizes->n_seq == 0 ? 1 : sizes->n_seq;
    const uint64_t pages = base_round_up(sizes->n_ctx, KV_PAGE) / KV_PAGE;
    return w->kv / desc->head_dim * n_seq * pages * base_min_size(w->group, MAX_GROUP) *
           (2 + base_round_up(desc->head_dim, FLOAT_LANES)) * 4;
}

/* The step arena, in the order of worker.c. Left out are the threads' own buffers (a quarter of a
 * MiB each) and tables of a few hundred bytes. */
uint64_t part_activations(const part_place_t *p, const model_desc_t *desc, const part_widest_t *w,
                          const part_sizes_t *sizes)
{
    const uint64_t     width = desc->width;
    const uint64_t     wide  = base_max_size(width, base_max_size(w->q, w->ffn));
    const uint64_t     heads = w->q / desc->head_dim * base_round_up(desc->head_dim, FLOAT_LANES);
    const part_range_t rows  = part_share_vocab(p->share, desc);
    const part_range_t first = part_share_vocab(p->first, desc);
    const uint64_t     n_out = sizes->n_out;
    uint64_t           token = 0;

    token += width * 4;                             /* hidden vector */
    token += base_round_up(wide, Q_PAD) + 8;        /* int8 activations, their sum and factor */
    token += (w->q + 2 * w->kv) * 4;                /* queries, keys, values */
    token += (heads + w->q) * 4;                    /* queries by heads, attention's output */
    token += 2 * w->ffn * 4;                        /* gate, up */
    token += (p->shards > 1 ? width : 0) * 4;       /* partial sums */
    token += desc->rope_dims / 2 * 2 * 4;           /* cos, sin */
    token += (w->ffn / PART_FFN_BLOCK + 1) * 2 * 4; /* norm blocks, maxima: about */
    /* Row-cut products: the hidden vector normed, and the widest input twice. */
    if (w->whole > 0) token += (width + 2 * base_max_size(w->whole, width)) * 4;

    const uint32_t n_seq = sizes->n_seq == 0 ? 1 : sizes->n_seq;
    uint64_t       bytes = token * part_micro_batch(p->stages, sizes->n_batch, n_seq);
    if (p->last) bytes += n_out * (width + (rows.end - rows.begin)) * 4;
    if (p->root && !p->lone) bytes += n_out * desc->n_vocab * 4;
    if (p->root && !p->lone && p->stages == 1) bytes += n_out * (first.end - first.begin) * 4;
    return bytes + part_bytes(desc, w, sizes);
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

part_ends_t part_ends(const part_place_t *place, const model_desc_t *desc,
                      const part_sizes_t *sizes)
{
    part_ends_t e = {0};

    if (!place->last) return e;
    const part_range_t rows = part_share_vocab(place->share, desc);
    e.head_rows             = rows.end - rows.begin;
    e.dense                 = floats_bytes(desc->width) +
              base_round_up(e.head_rows * model_row_bytes(desc->head.type, desc->width), ALIGN);
    if (sizes->screen) e.screen = part_screen_bytes(e.head_rows, desc->width);
    return e;
}

uint64_t part_embed_bytes(const part_place_t *place, const model_desc_t *desc)
{
    if (desc->tied && place->last) return 0; /* they are the head's */
    const part_range_t rows = part_share_vocab(place->share, desc);
    return base_round_up((rows.end - rows.begin) * model_row_bytes(desc->embed.type, desc->width),
                         ALIGN);
}

bool part_layers_alike(const model_layer_t *a, const model_layer_t *b)
{
    bool same = a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads && a->ffn == b->ffn;
    for (int i = 0; i < MODEL_LAYER_TENSOR_COUNT; i++)
        same = same && a->t[i].type == b->t[i].type && a->t[i].online == b->t[i].online;
    return same;
}

part_memory_t part_memory(const part_plan_t *plan, const model_desc_t *desc, uint32_t rank,
                          const part_sizes_t *sizes)
{
    const uint32_t     stage = rank / plan->shards, shard = rank % plan->shards;
    const part_place_t place = {
        .share  = part_share_at(plan->shard_weight, plan->shards, shard),
        .first  = part_share_at(plan->shard_weight, plan->shards, 0),
        .stages = plan->stages,
        .shards = plan->shards,
        .root   = rank == 0,
        .last   = stage == plan->stages - 1,
        .lone   = plan->shards == 1 && plan->stages == 1,
    };
    part_layer_account_t a      = {0};
    part_widest_t        widest = {0};
    part_memory_t        m      = {0};

    base_assert(rank < plan->stages * plan->shards);
    part_range_t layers = part_stage_layers(plan, stage);
    for (uint32_t i = layers.begin; i < layers.end; i++) {
        const model_layer_t *l = &desc->layers[i];
        if (i == layers.begin || !part_layers_alike(l, l - 1))
            a = part_layer_account(place.share, desc, l, sizes);
        m.ternary += a.ternary[0] + a.ternary[1];
        m.dense += a.dense[0] + a.dense[1];
        m.kv += a.kv;
        part_widest_add(&widest, desc, l, &a);
    }
    const part_ends_t ends = part_ends(&place, desc, sizes);
    m.dense += ends.dense;
    m.screen      = ends.screen;
    m.activations = part_activations(&place, desc, &widest, sizes);
    m.total       = m.ternary + m.dense + m.screen + m.kv + m.activations;
    if (stage == 0) m.embed = part_embed_bytes(&place, desc);
    return m;
}
