/* worker/shard_shape.c: what this rank holds of each matrix, and room for it. */
#include "base/checked.h"
#include "worker/shard_internal.h"

model_layer_tensor_t worker_shard_tensor(worker_matrix_id_t id)
{
    static const model_layer_tensor_t table[WORKER_MATRIX_COUNT] = {
        [WORKER_Q] = MODEL_ATTN_Q,      [WORKER_K] = MODEL_ATTN_K,      [WORKER_V] = MODEL_ATTN_V,
        [WORKER_O] = MODEL_ATTN_OUT,    [WORKER_GATE] = MODEL_FFN_GATE, [WORKER_UP] = MODEL_FFN_UP,
        [WORKER_DOWN] = MODEL_FFN_DOWN,
    };
    return table[id];
}

model_layer_tensor_t worker_shard_bias(worker_matrix_id_t id)
{
    static const model_layer_tensor_t table[WORKER_MATRIX_COUNT] = {
        [WORKER_Q] = MODEL_ATTN_Q_BIAS,      [WORKER_K] = MODEL_ATTN_K_BIAS,
        [WORKER_V] = MODEL_ATTN_V_BIAS,      [WORKER_O] = MODEL_ATTN_OUT_BIAS,
        [WORKER_GATE] = MODEL_FFN_GATE_BIAS, [WORKER_UP] = MODEL_FFN_UP_BIAS,
        [WORKER_DOWN] = MODEL_FFN_DOWN_BIAS,
    };
    return table[id];
}

model_layer_tensor_t worker_shard_in_norm(worker_matrix_id_t id)
{
    switch (id) {
    case WORKER_Q: return MODEL_ATTN_Q_IN_NORM;
    case WORKER_K: return MODEL_ATTN_K_IN_NORM;
    case WORKER_V: return MODEL_ATTN_V_IN_NORM;
    case WORKER_GATE: return MODEL_FFN_GATE_IN_NORM;
    case WORKER_UP: return MODEL_FFN_UP_IN_NORM;
    default: return MODEL_LAYER_TENSOR_COUNT;
    }
}

const char *worker_shard_tensor_name(const load_t *job, uint32_t l, worker_matrix_id_t id,
                                     char *buf, size_t buf_bytes)
{
    return model_layer_tensor_name(job->shard->layer0 + l, worker_shard_tensor(id), buf, buf_bytes);
}

part_range_t worker_out_rows(const part_plan_t *plan, const model_desc_t *desc, uint32_t shard)
{
    uint64_t b = 0;
    uint64_t e = 0;
    part_cut(desc->width, KERN_TILE_ROWS, plan->shard_weight, plan->shards, shard, &b, &e);
    return (part_range_t){(uint32_t)b, (uint32_t)e};
}

static bool dense_type(model_type_t type, kern_dense_t *out)
{
    switch (type) {
    case MODEL_F32: *out = KERN_F32; return true;
    case MODEL_F16: *out = KERN_F16; return true;
    case MODEL_BF16: *out = KERN_BF16; return true;
    case MODEL_Q8_0: *out = KERN_Q8_0; return true;
    case MODEL_Q6_K: *out = KERN_Q6_K; return true;
    case MODEL_Q4_0: *out = KERN_Q4_0; return true;
    case MODEL_Q4_1: *out = KERN_Q4_1; return true;
    case MODEL_Q5_0: *out = KERN_Q5_0; return true;
    case MODEL_Q5_1: *out = KERN_Q5_1; return true;
    case MODEL_Q2_K: *out = KERN_Q2_K; return true;
    case MODEL_Q3_K: *out = KERN_Q3_K; return true;
    case MODEL_Q4_K: *out = KERN_Q4_K; return true;
    case MODEL_Q5_K: *out = KERN_Q5_K; return true;
    case MODEL_TQ1_0: *out = KERN_TQ1_0; return true; /* the head; layers are never asked */
    case MODEL_TQ2_0: *out = KERN_TQ2_0; return true;
    default: return false;
    }
}

base_status_t worker_shard_kinds(load_t *job, base_err_t *err)
{
    for (uint32_t l = 0; l < job->shard->n_layers; l++)
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
            const model_tensor_t *t = &job->tensors[shard_at(l, (worker_matrix_id_t)id)];
            kern_dense_t          unused;
            char                  name[64];
            bool                  ternary = t->online || model_type_info(t->type)->ternary;
            job->kinds[shard_at(l, (worker_matrix_id_t)id)] = ternary ? WORKER_TERN : WORKER_DENSE;
            if (ternary || dense_type(t->type, &unused)) continue;
            return base_fail(
                err, BASE_ERR_UNSUPPORTED, "%s is stored as %s, which has no kernel",
                worker_shard_tensor_name(job, l, (worker_matrix_id_t)id, name, sizeof(name)),
                model_type_info(t->type)->name);
        }
    return BASE_OK;
}

/* The window of rows and columns of one matrix. */
static void shape_window(const load_t *job, const worker_layer_t *layer, worker_matrix_id_t id,
                         worker_matrix_t *m)
{
    const part_slice_t *s      = &layer->slice;
    size_t              hd     = job->desc->head_dim;
    part_range_t        out    = worker_out_rows(job->plan, job->desc, comm_grid_shard(job->grid));
    part_range_t        rows   = {0, 0};
    part_range_t        cols   = {0, job->desc->width};
    bool                by_row = worker_by_rows(m);
    size_t              unit   = id == WORKER_Q || id == WORKER_K || id == WORKER_V ? hd : 1;
    switch (id) {
    case WORKER_Q: rows = s->q; break;
    case WORKER_K:
    case WORKER_V: rows = s->kv; break;
    case WORKER_GATE:
    case WORKER_UP: rows = s->ffn; break;
    case WORKER_O:
    case WORKER_DOWN:
        rows = by_row ? out : (part_range_t){0, job->desc->width};
        cols = id == WORKER_DOWN
                   ? s->ffn
                   : (part_range_t){s->q.begin * (uint32_t)hd, s->q.end * (uint32_t)hd};
        if (by_row)
            cols =
                (part_range_t){0, id == WORKER_DOWN ? layer->ffn : layer->n_heads * (uint32_t)hd};
        break;
    case WORKER_MATRIX_COUNT: break;
    }
    m->row0 = rows.begin * unit;
    m->rows = (rows.end - rows.begin) * unit;
    m->col0 = cols.begin;
    m->cols = cols.end - cols.begin;
}

static void shape_matrix(const load_t *job, const worker_layer_t *layer, uint32_t l,
                         worker_matrix_id_t id, worker_matrix_t *m)
{
    const model_tensor_t *t = &job->tensors[shard_at(l, id)];
    m->kind                 = job->kinds[shard_at(l, id)];
    m->out_scale            = t->out_scale == 0 ? 1 : t->out_scale;
    shape_window(job, layer, id, m);
    m->n_tiles = m->cols == 0 ? 0 : kern_tiles(m->rows);
    if (m->kind == WORKER_DENSE) {
        bool known   = dense_type(t->type, &m->dense);
        m->row_bytes = model_row_bytes(t->type, m->cols);
        base_assert(known);
        return;
    }
    const kern_format_t *f = m->kind == WORKER_BLOCK ? kern_format(KERN_T2) : job->shard->format;
    m->granules            = kern_granules(f, m->cols);
    m->tile_bytes          = kern_tile_bytes(f, m->cols);
    m->blocks = m->kind == WORKER_BLOCK ? (m->cols + SHARD_BLOCK - 1) / SHARD_BLOCK : 0;
}

/* --- bytes; each sum below has its twin in the placing --- */

static size_t padded(size_t bytes)
{
    return base_round_up(bytes, 64);
}

static size_t matrix_bytes(const worker_matrix_t *m)
{
    return m->kind == WORKER_DENSE ? m->rows * m->row_bytes : m->n_tiles * m->tile_bytes;
}

static size_t scale_bytes(const worker_matrix_t *m)
{
    return m->n_tiles * m->blocks * KERN_TILE_ROWS * sizeof(float);
}

static bool has_bias(const load_t *job, uint32_t l, worker_matrix_id_t id)
{
    model_layer_tensor_t bias = worker_shard_bias(id);
    return job->desc->layers[job->shard->layer0 + l].t[bias].type != MODEL_NONE;
}

static bool has_norm(const load_t *job, uint32_t l, model_layer_tensor_t norm)
{
    return norm != MODEL_LAYER_TENSOR_COUNT &&
           job->desc->layers[job->shard->layer0 + l].t[norm].type != MODEL_NONE;
}

static size_t layer_bytes(const load_t *job, uint32_t l)
{
    const worker_layer_t *layer = &job->shard->layers[l];
    size_t                bytes = 2 * padded(job->desc->width * 4);
    if (has_norm(job, l, MODEL_ATTN_SUB_NORM)) bytes += padded(layer->m[WORKER_O].cols * 4);
    if (has_norm(job, l, MODEL_FFN_SUB_NORM)) bytes += padded(layer->m[WORKER_DOWN].cols * 4);
    for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
        const worker_matrix_t *m = &layer->m[id];
        bytes += padded(matrix_bytes(m)) + padded(scale_bytes(m));
        if (has_bias(job, l, (worker_matrix_id_t)id)) bytes += padded(m->rows * 4);
        if (has_norm(job, l, worker_shard_in_norm((worker_matrix_id_t)id)))
            bytes += padded(job->desc->width * 4);
    }
    return bytes;
}

static float *take_floats(base_arena_t *arena, size_t n)
{
    return base_arena_take(arena, n * sizeof(float));
}

static void place_layer(load_t *job, uint32_t l)
{
    base_arena_t   *arena = &job->shard->arena;
    worker_layer_t *layer = &job->shard->layers[l];
    layer->attn_norm      = take_floats(arena, job->desc->width);
    layer->ffn_norm       = take_floats(arena, job->desc->width);
    if (has_norm(job, l, MODEL_ATTN_SUB_NORM))
        layer->attn_sub_norm = take_floats(arena, layer->m[WORKER_O].cols);
    if (has_norm(job, l, MODEL_FFN_SUB_NORM))
        layer->ffn_sub_norm = take_floats(arena, layer->m[WORKER_DOWN].cols);
    for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
        worker_matrix_t *m = &layer->m[id];
        m->data            = base_arena_take(arena, matrix_bytes(m));
        if (m->kind == WORKER_BLOCK) m->scales = base_arena_take(arena, scale_bytes(m));
        if (has_bias(job, l, (worker_matrix_id_t)id)) m->bias = take_floats(arena, m->rows);
        if (has_norm(job, l, worker_shard_in_norm((worker_matrix_id_t)id)))
            layer->in_norm[id] = take_floats(arena, job->desc->width);
    }
}

/* Rows of the embedding are read from the file, when a token needs them, or from the head. */
static bool keeps_embed(const load_t *job)
{
    return job->origin->source == NULL && job->shard->has_embed &&
           !(job->desc->tied && job->shard->has_head);
}

base_status_t worker_shard_shape(load_t *job, base_err_t *err)
{
    worker_shard_t     *shard = job->shard;
    const model_desc_t *desc  = job->desc;

    shard->bytes = 0;
    for (uint32_t l = 0; l < shard->n_layers; l++) {
        const model_layer_t *src   = &desc->layers[shard->layer0 + l];
        worker_layer_t      *layer = &shard->layers[l];
        *layer = (worker_layer_t){.slice   = part_slice(job->plan, src, comm_grid_shard(job->grid)),
                                  .n_heads = src->n_heads,
                                  .n_kv_heads = src->n_kv_heads,
                                  .ffn        = src->ffn};
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++)
            shape_matrix(job, layer, l, (worker_matrix_id_t)id, &layer->m[id]);
        shard->bytes += layer_bytes(job, l);
    }
    if (keeps_embed(job)) {
        shard->embed_row_bytes = model_row_bytes(desc->embed.type, desc->width);
        shard->bytes += padded((shard->vocab.end - shard->vocab.begin) * shard->embed_row_bytes);
    }
    if (!shard->has_head) return BASE_OK;
    if (!dense_type(desc->head.type, &shard->head_type))
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "the output head is stored as %s, which has no kernel",
                         model_type_info(desc->head.type)->name);
    shard->head_row_bytes = model_row_bytes(desc->head.type, desc->width);
    shard->bytes += padded((shard->vocab.end - shard->vocab.begin) * shard->head_row_bytes) +
                    padded(desc->width * 4);
    return BASE_OK;
}

base_status_t worker_shard_place(load_t *job, base_err_t *err)
{
    worker_shard_t *shard = job->shard;
    base_status_t   st    = base_arena_create(&shard->arena, shard->bytes + 64, "weights", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < shard->n_layers; l++) place_layer(job, l);
    size_t rows = shard->vocab.end - shard->vocab.begin;
    if (keeps_embed(job))
        shard->embed = base_arena_take(&shard->arena, rows * shard->embed_row_bytes);
    if (!shard->has_head) return BASE_OK;
    shard->out_norm = take_floats(&shard->arena, job->desc->width);
    shard->head     = base_arena_take(&shard->arena, rows * shard->head_row_bytes);
    return BASE_OK;
}
