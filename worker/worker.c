/* worker/worker.c: what a rank reserves at start. */
#include "worker/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "worker/state.h"

static bool find_format(const char *name, const kern_format_t **out)
{
    for (int i = 0; i < KERN_FORMAT_COUNT; i++) {
        const kern_format_t *f = kern_format((kern_format_id_t)i);
        if (strcmp(f->name, name) != 0) continue;
        *out = f;
        return true;
    }
    return false;
}

bool worker_pack_known(const char *name)
{
    const kern_format_t *f = NULL;
    return find_format(name, &f);
}

bool worker_cpu_known(const char *name)
{
    uint32_t mask = 0;
    return kern_cpu_mask_parse(name, &mask);
}

const char *worker_cpu_best(void)
{
    return kern_cpu_name(kern_cpu_features());
}

const char *worker_cpu_name(const worker_t *worker)
{
    return kern_cpu_name(worker->cpu_features);
}

uint64_t worker_weight_bytes(const worker_t *worker)
{
    return worker->shard->bytes;
}

const char *worker_pack_cache(const worker_t *worker)
{
    return worker->shard->restored ? "read" : worker->shard->kept ? "written" : "none";
}

worker_feed_stats_t worker_load_stats(const worker_t *worker)
{
    return worker->shard->feed;
}

uint64_t worker_head_rows(const worker_t *worker)
{
    return worker->head.screen == NULL ? 0 : worker_screen_rows_read(worker->head.screen);
}

uint64_t worker_kv_bytes(const worker_t *worker)
{
    return worker->kv_arena.used;
}

/* --- KV cache --- */

static size_t kv_elements(const worker_t *w, uint32_t l)
{
    const part_slice_t *s = &w->shard->layers[l].slice;
    return (size_t)(s->kv.end - s->kv.begin) * w->config.limits.n_seq * w->kv_positions * w->hd_pad;
}

static base_status_t kv_create(worker_t *w, base_err_t *err)
{
    size_t        bytes = 64;
    uint32_t      n     = w->shard->n_layers;
    base_status_t st    = base_alloc((void **)&w->kv, n, sizeof(worker_kv_t), "KV cache", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < n; l++) bytes += kv_elements(w, l) * (w->k_elem + w->v_elem) + 128;
    st = base_arena_create(&w->kv_arena, bytes, "KV cache", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < n; l++) {
        w->kv[l].k = base_arena_take(&w->kv_arena, kv_elements(w, l) * w->k_elem);
        w->kv[l].v = base_arena_take(&w->kv_arena, kv_elements(w, l) * w->v_elem);
    }
    return BASE_OK;
}

/* --- step arena --- */

/* The largest of every per-layer size of this stage. */
typedef struct {
    size_t q, kv, ffn;  /* own heads, KV heads, FFN rows */
    size_t group;       /* query heads of a KV head */
    size_t blocks, all; /* blocks of a sub-norm: own, of all shards */
    size_t in;          /* columns of a matrix */
    size_t whole;       /* elements of a gathered vector; 0: nothing is cut by rows */
    bool   dense, block, in_norm;
} widest_t;

/* Elements that each shard has of the vectors that row-cut products gather. */
static base_status_t count_lengths(worker_t *w, widest_t *widest, base_err_t *err)
{
    const worker_config_t *c  = &w->config;
    uint32_t               n  = w->shard->n_layers;
    base_status_t          st = BASE_OK;
    for (int which = 0; which < 3 && st == BASE_OK; which++)
        st = base_alloc((void **)&w->lengths[which], (size_t)n * w->shards, sizeof(uint32_t),
                        "exchange", err);
    for (uint32_t i = 0; st == BASE_OK && i < n * w->shards; i++) {
        uint32_t     l     = i / w->shards;
        uint32_t     s     = i % w->shards;
        part_slice_t slice = part_slice(c->plan, &c->desc->layers[w->shard->layer0 + l], s);
        part_range_t out   = worker_out_rows(c->plan, c->desc, s);
        w->lengths[0][i]   = (slice.q.end - slice.q.begin) * c->desc->head_dim;
        w->lengths[1][i]   = slice.ffn.end - slice.ffn.begin;
        w->lengths[2][i]   = out.end - out.begin;
    }
    for (uint32_t l = 0; st == BASE_OK && l < n; l++) {
        const worker_layer_t *layer = &w->shard->layers[l];
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
            const worker_matrix_t *m = &layer->m[id];
            widest->in               = base_max_size(widest->in, m->cols);
            if (m->kind == WORKER_DENSE) widest->dense = true;
            if (m->kind == WORKER_BLOCK) widest->block = true;
            if (layer->in_norm[id] != NULL) widest->in_norm = true;
        }
        if (worker_by_rows(&layer->m[WORKER_O]))
            widest->whole = base_max_size(widest->whole, layer->n_heads * c->desc->head_dim);
        if (worker_by_rows(&layer->m[WORKER_DOWN]))
            widest->whole = base_max_size(widest->whole, layer->ffn);
    }
    if (widest->whole > 0) widest->whole = base_max_size(widest->whole, c->desc->width);
    return st;
}

static base_status_t count_blocks(worker_t *w, widest_t *widest, base_err_t *err)
{
    const worker_config_t *c  = &w->config;
    uint32_t               n  = w->shard->n_layers;
    base_status_t          st = BASE_OK;
    for (int kind = 0; kind < 2 && st == BASE_OK; kind++)
        st = base_alloc((void **)&w->blocks[kind], (size_t)n * w->shards, sizeof(uint32_t),
                        "exchange", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < n; l++) {
        const model_layer_t *layer  = &c->desc->layers[w->shard->layer0 + l];
        size_t               all[2] = {0, 0};
        for (uint32_t s = 0; s < w->shards; s++) {
            part_slice_t slice = part_slice(c->plan, layer, s);
            size_t       at    = (size_t)l * w->shards + s;
            w->blocks[0][at]   = slice.q.end - slice.q.begin;
            w->blocks[1][at] =
                (slice.ffn.end - slice.ffn.begin + PART_FFN_BLOCK - 1) / PART_FFN_BLOCK;
            for (int kind = 0; kind < 2; kind++) {
                all[kind] += w->blocks[kind][at];
                if (s == w->my_shard)
                    widest->blocks = base_max_size(widest->blocks, w->blocks[kind][at]);
            }
        }
        const part_slice_t *own = &w->shard->layers[l].slice;
        widest->all             = base_max_size(widest->all, base_max_size(all[0], all[1]));
        widest->q               = base_max_size(widest->q, own->q.end - own->q.begin);
        widest->kv              = base_max_size(widest->kv, own->kv.end - own->kv.begin);
        widest->group           = base_max_size(widest->group, layer->n_heads / layer->n_kv_heads);
        widest->ffn             = base_max_size(widest->ffn, own->ffn.end - own->ffn.begin);
    }
    return BASE_OK;
}

/* Take n * size bytes, or only count them: the same list serves for sizing and placing, so the two
 * cannot differ. */
static void *reserve(base_arena_t *arena, size_t *total, size_t n, size_t size)
{
    size_t bytes = base_round_up(n * size, 64);
    *total += bytes;
    return arena->base == NULL ? NULL : base_arena_take(arena, bytes);
}

#define RESERVE(field, n) (w->field = reserve(&w->arena, &total, (n), sizeof(*w->field)))

static size_t lay_out_scratch(worker_t *w, worker_scratch_t *s, size_t total)
{
    size_t width = w->config.desc->width;
    size_t page  = KERN_MAX_GROUP * (2 + w->hd_pad);
    s->head      = reserve(&w->arena, &total, w->hd_pad, sizeof(float));
    s->weights   = reserve(&w->arena, &total, (size_t)KERN_MAX_GROUP * KERN_PAGE, sizeof(float));
    s->n_acc  = base_max_size(WORKER_ACC_ELEMS, KERN_TILE_ROWS * (size_t)w->config.limits.n_batch);
    s->acc    = reserve(&w->arena, &total, s->n_acc, sizeof(int32_t));
    s->blocks = reserve(&w->arena, &total, width / WORKER_NORM_BLOCK + 1, sizeof(float));
    s->page   = reserve(&w->arena, &total, page, sizeof(float));
    s->merged = reserve(&w->arena, &total, page, sizeof(float));
    return total;
}

static size_t lay_out_head(worker_t *w, bool lone, size_t total)
{
    const size_t n_out = w->config.limits.n_out, K = WORKER_SCREEN_K_MAX;
    w->head.slots = (uint32_t)base_min_size(n_out, WORKER_HEAD_SLOTS);
    if (w->shard->has_head) {
        RESERVE(head.floors, w->shards * w->head.slots * K);
        RESERVE(head.floor, w->head.slots);
        RESERVE(head.list, n_out * K);
    }
    if (!w->config.is_root) return total;
    if (!lone) RESERVE(head.lists, n_out * w->shards * K);
    RESERVE(head.seen, n_out * K);
    RESERVE(head.n_seen, n_out);
    return total;
}

static size_t lay_out(worker_t *w, const widest_t *widest)
{
    const worker_config_t *c     = &w->config;
    const model_desc_t    *d     = c->desc;
    size_t                 B     = c->limits.n_batch;
    size_t                 rows  = w->shard->vocab.end - w->shard->vocab.begin;
    size_t                 total = 0;
    bool                   lone  = w->shards == 1 && c->plan->stages == 1;

    RESERVE(tok_seq, B);
    RESERVE(tok_pos, B);
    RESERVE(out_tok, (size_t)c->limits.n_out);
    RESERVE(x, B * d->width);
    RESERVE(q8, B * kern_q_stride(widest->in));
    if (widest->block)
        RESERVE(q_blocks, B * kern_blocks(kern_granules(kern_format(KERN_T2), widest->in)));
    if (widest->dense || widest->whole > 0 || widest->in_norm) RESERVE(hidden, B * d->width);
    if (widest->whole > 0) {
        RESERVE(pieces, B * widest->whole);
        RESERVE(whole, B * widest->whole);
    }
    RESERVE(q_sum, B);
    RESERVE(q_undo, B);
    RESERVE(flat, B * (widest->q + 2 * widest->kv) * d->head_dim);
    RESERVE(heads, B * widest->q * w->hd_pad);
    RESERVE(attn, B * widest->q * d->head_dim);
    RESERVE(parts, w->n_parts * (w->kv_positions / KERN_PAGE) * w->part_floats);
    RESERVE(gate, B * widest->ffn);
    RESERVE(up, B * widest->ffn);
    if (w->shards > 1) RESERVE(partial, B * kern_tiles(d->width) * KERN_TILE_ROWS);
    RESERVE(stats, B * (widest->all + w->shards));
    RESERVE(maxima, B * (widest->blocks + 1));
    w->row_stride = base_round_up(widest->all + 1, KERN_LANES); /* also of whole vectors: as many */
    RESERVE(row, w->row_stride * (size_t)worker_team_size(c->team));
    RESERVE(rope_cos, B * d->rope_dims / 2 + 1);
    RESERVE(rope_sin, B * d->rope_dims / 2 + 1);
    RESERVE(cursors, (size_t)worker_team_size(c->team));
    RESERVE(counts, w->shards);
    RESERVE(offsets, w->shards);
    RESERVE(vocab_counts, w->shards);
    RESERVE(vocab_offsets, w->shards);
    if (w->shard->has_head) {
        RESERVE(normed, (size_t)c->limits.n_out * d->width);
        RESERVE(piece, (size_t)c->limits.n_out * rows);
        w->rows = w->piece;
    }
    if (c->is_root && lone) w->logits = w->piece;
    if (c->is_root && !lone) {
        RESERVE(logits, (size_t)c->limits.n_out * d->n_vocab);
        size_t most = base_max_size(w->widest_piece, 2 * WORKER_SCREEN_K_MAX);
        if (c->plan->stages == 1) RESERVE(staging, (size_t)c->limits.n_out * most);
    }
    if (c->screen || !lone) total = lay_out_head(w, lone, total);
    for (int t = 0; t < worker_team_size(c->team); t++)
        total = lay_out_scratch(w, &w->scratch[t], total);
    return total;
}

static void fill_tables(worker_t *w)
{
    const model_desc_t *d = w->config.desc;
    for (uint32_t s = 0; s < w->shards; s++) {
        part_range_t r      = part_vocab(w->config.plan, d, s);
        w->vocab_counts[s]  = r.end - r.begin;
        w->vocab_offsets[s] = r.begin;
    }
}

static base_status_t step_create(worker_t *w, base_err_t *err)
{
    const worker_config_t *c      = &w->config;
    widest_t               widest = {0};
    base_status_t          st     = count_blocks(w, &widest, err);
    if (st == BASE_OK) st = count_lengths(w, &widest, err);
    if (st != BASE_OK) return st;
    for (uint32_t s = 0; s < w->shards; s++) {
        part_range_t r  = part_vocab(c->plan, c->desc, s);
        w->widest_piece = base_max_size(w->widest_piece, r.end - r.begin);
    }
    st = base_alloc((void **)&w->scratch, (size_t)worker_team_size(c->team),
                    sizeof(worker_scratch_t), "threads", err);
    if (st != BASE_OK) return st;
    w->n_parts = base_min_size((size_t)worker_team_size(c->team) - 1, widest.kv * c->limits.n_seq);
    w->part_floats = base_min_size(widest.group, KERN_MAX_GROUP) * (2 + w->hd_pad);
    size_t bytes   = lay_out(w, &widest); /* counts */
    st             = base_arena_create(&w->arena, bytes, "activations", err);
    if (st != BASE_OK) return st;
    size_t again = lay_out(w, &widest); /* places */
    base_assert(again == bytes);
    fill_tables(w);
    return BASE_OK;
}

/* --- rows of the vocabulary that are held --- */

static void read_held(void *context, const model_tensor_t *tensor, uint64_t row, uint64_t block,
                      uint64_t n_blocks, uint8_t *out)
{
    const worker_held_t     *held = context;
    const model_type_info_t *info = model_type_info(tensor->type);
    base_assert(row >= held->row0);
    memcpy(out,
           held->rows + (row - held->row0) * held->row_bytes + block * (size_t)info->block_bytes,
           n_blocks * info->block_bytes);
}

static base_status_t hold(worker_t *w, worker_held_t *held, const uint8_t *rows, size_t row_bytes,
                          base_err_t *err)
{
    *held = (worker_held_t){.rows = rows, .row_bytes = row_bytes, .row0 = w->shard->vocab.begin};
    return model_source_generate(read_held, held, "rows held", &held->source, err);
}

/* The head's rows lie in the shard, and so does an embedding that is the head, or that no file here
 * holds. */
static base_status_t hold_rows(worker_t *w, base_err_t *err)
{
    const worker_shard_t *s    = w->shard;
    base_status_t         st   = BASE_OK;
    const bool            tied = w->config.desc->tied && s->has_head;
    if (s->has_head) st = hold(w, &w->head_rows, s->head, s->head_row_bytes, err);
    if (st == BASE_OK && s->embed != NULL)
        st = hold(w, &w->embed_rows, s->embed, s->embed_row_bytes, err);
    w->embed_source = s->embed != NULL ? w->embed_rows.source
                      : tied           ? w->head_rows.source
                                       : w->config.origin->source;
    return st;
}

base_status_t worker_create(const worker_config_t *config, worker_t **out, base_err_t *err)
{
    worker_t            *w      = NULL;
    const kern_format_t *format = NULL;
    uint32_t             mask   = KERN_CPU_ALL;
    base_status_t        st     = BASE_OK;

    if (!find_format(config->pack, &format))
        st = base_fail(err, BASE_ERR_USAGE, "unknown packed format '%s'", config->pack);
    else if (config->cpu != NULL && !kern_cpu_mask_parse(config->cpu, &mask))
        st = base_fail(err, BASE_ERR_USAGE, "unknown CPU variant '%s'", config->cpu);
    else
        st = base_alloc((void **)&w, 1, sizeof(*w), "worker", err);
    st = comm_grid_agree(config->grid, st, err);
    if (st != BASE_OK) goto out;
    w->config       = *config;
    w->cpu_features = kern_cpu_features() & mask;
    if (w->cpu_features == 0 && mask != 0)
        base_log(BASE_LOG_WARN,
                 "this CPU has no kernels that '%s' allows: the reference runs, slowly",
                 config->cpu == NULL ? "any" : config->cpu);
    w->shards       = comm_grid_shards(config->grid);
    w->my_shard     = comm_grid_shard(config->grid);
    w->hd_pad       = base_round_up(config->desc->head_dim, KERN_LANES);
    w->kv_positions = base_round_up(config->limits.n_ctx, KERN_PAGE);
    w->k_elem       = config->type_k == MODEL_F16 ? sizeof(uint16_t) : sizeof(float);
    w->v_elem       = config->type_v == MODEL_F16 ? sizeof(uint16_t) : sizeof(float);
    base_assert(config->type_k == MODEL_F16 || config->type_k == MODEL_F32);
    base_assert(config->type_v == MODEL_F16 || config->type_v == MODEL_F32);
    kern_table_init(&w->kern, w->cpu_features);
    st = worker_shard_load(config->desc, config->origin, config->plan, config->grid, format,
                           config->team, config->pack_cache, config->progress, &w->shard, err);
    if (st != BASE_OK) goto out;
    st = hold_rows(w, err);
    if (st != BASE_OK) goto out;
    st = kv_create(w, err);
    if (st != BASE_OK) goto out;
    st = step_create(w, err);
    if (st != BASE_OK) goto out;
    st = worker_head_create(w, err);
    if (st != BASE_OK) goto out;
    *out = w;
    w    = NULL;
out:
    worker_destroy(&w);
    return st;
}

void worker_destroy(worker_t **worker)
{
    worker_t *w = worker == NULL ? NULL : *worker;
    if (w == NULL) return;
    worker_screen_destroy(&w->head.screen);
    model_source_close(&w->head_rows.source);
    model_source_close(&w->embed_rows.source);
    worker_shard_destroy(&w->shard);
    base_arena_destroy(&w->kv_arena);
    base_arena_destroy(&w->arena);
    free(w->kv);
    free(w->scratch);
    free(w->blocks[0]);
    free(w->blocks[1]);
    for (int which = 0; which < 3; which++) free(w->lengths[which]);
    free(w);
    *worker = NULL;
}
