/* worker/shard_keep.c: a shard as a list of pieces, read from a file or written to one. */
#include "worker/shard_keep.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "worker/shard_cache.h"

enum { LAYER_PIECES = 4 + 4 * WORKER_MATRIX_COUNT, END_PIECES = 3 };

/* Where a piece lies in memory, and which threads read it in a step. */
typedef struct {
    uint8_t           *data;
    uint32_t           layer; /* of this stage */
    worker_matrix_id_t id;    /* shared out as this matrix; */
    bool               head;  /* as the head; neither: thread 0 has it */
} place_t;

/* The shard as pieces, all places known once it is shaped and placed. */
typedef struct {
    load_t                *job;
    part_shard_head_t      head;
    place_t               *places;
    const worker_cache_t  *cache;  /* reading, or */
    worker_cache_writer_t *writer; /* writing */
} keep_t;

static part_shard_piece_t *add(keep_t *k, void *data, uint64_t bytes, uint64_t unit_bytes,
                               part_shard_piece_t piece)
{
    part_shard_piece_t *p = &k->head.pieces[k->head.n_pieces];
    if (data == NULL || bytes == 0) return NULL;
    k->places[k->head.n_pieces] = (place_t){.data = data, .id = WORKER_MATRIX_COUNT};
    piece.bytes                 = bytes;
    piece.unit_bytes            = (uint32_t)base_min_size(unit_bytes, bytes);
    *p                          = piece;
    k->head.n_pieces++;
    return p;
}

static void add_floats(keep_t *k, uint32_t l, model_layer_tensor_t what, float *data, size_t n)
{
    const model_tensor_t *t = &k->job->desc->layers[k->job->shard->layer0 + l].t[what];
    (void)add(k, data, n * sizeof(float), n * sizeof(float),
              (part_shard_piece_t){.layer = (int32_t)(k->job->shard->layer0 + l),
                                   .what  = what,
                                   .form  = PART_SHARD_FLOATS,
                                   .type  = t->type,
                                   .rows  = 1,
                                   .cols  = (uint32_t)n});
}

static part_shard_form_t form_of(const load_t *job, const worker_matrix_t *m)
{
    if (m->kind == WORKER_DENSE) return PART_SHARD_STORED;
    if (m->kind == WORKER_BLOCK) return PART_SHARD_T2B;
    return job->shard->format == kern_format(KERN_T3) ? PART_SHARD_T3 : PART_SHARD_T2;
}

static void add_matrix(keep_t *k, uint32_t l, worker_matrix_id_t id)
{
    const load_t      *job   = k->job;
    worker_layer_t    *layer = &job->shard->layers[l];
    worker_matrix_t   *m     = &layer->m[id];
    const bool         dense = m->kind == WORKER_DENSE;
    part_shard_piece_t piece = {.layer = (int32_t)(job->shard->layer0 + l),
                                .what  = worker_shard_tensor(id),
                                .form  = form_of(job, m),
                                .type  = job->tensors[shard_at(l, id)].type,
                                .row0  = (uint32_t)m->row0,
                                .rows  = (uint32_t)m->rows,
                                .col0  = (uint32_t)m->col0,
                                .cols  = (uint32_t)m->cols};
    if (m->kind == WORKER_TERN) piece.scale = m->scale;
    const size_t unit = dense ? KERN_TILE_ROWS * m->row_bytes : m->tile_bytes;
    if (add(k, m->data, dense ? m->rows * m->row_bytes : m->n_tiles * m->tile_bytes, unit, piece))
        k->places[k->head.n_pieces - 1] = (place_t){m->data, l, id, false};
    if (m->kind == WORKER_BLOCK) {
        const size_t tile = m->blocks * KERN_TILE_ROWS * sizeof(float);
        piece.form        = PART_SHARD_SCALES;
        if (add(k, m->scales, m->n_tiles * tile, tile, piece))
            k->places[k->head.n_pieces - 1] = (place_t){(uint8_t *)m->scales, l, id, false};
    }
    add_floats(k, l, worker_shard_bias(id), m->bias, m->rows);
    if (worker_shard_in_norm(id) != MODEL_LAYER_TENSOR_COUNT)
        add_floats(k, l, worker_shard_in_norm(id), layer->in_norm[id], job->desc->width);
}

static void add_vocab(keep_t *k, part_shard_what_t what, const model_tensor_t *t, uint8_t *rows,
                      size_t row_bytes)
{
    const worker_shard_t *s = k->job->shard;
    const size_t          n = s->vocab.end - s->vocab.begin;
    if (add(k, rows, n * row_bytes, KERN_TILE_ROWS * row_bytes,
            (part_shard_piece_t){.layer = PART_SHARD_NO_LAYER,
                                 .what  = what,
                                 .form  = PART_SHARD_STORED,
                                 .type  = t->type,
                                 .row0  = s->vocab.begin,
                                 .rows  = (uint32_t)n,
                                 .cols  = k->job->desc->width}))
        k->places[k->head.n_pieces - 1].head = true;
}

static void add_head(keep_t *k)
{
    worker_shard_t *s     = k->job->shard;
    const size_t    width = k->job->desc->width;
    (void)add(k, s->out_norm, width * sizeof(float), width * sizeof(float),
              (part_shard_piece_t){.layer = PART_SHARD_NO_LAYER,
                                   .what  = PART_SHARD_OUT_NORM,
                                   .form  = PART_SHARD_FLOATS,
                                   .type  = k->job->desc->out_norm.type,
                                   .rows  = 1,
                                   .cols  = (uint32_t)width});
    add_vocab(k, PART_SHARD_HEAD, &k->job->desc->head, s->head, s->head_row_bytes);
}

/* Without the files the fingerprint of whoever has them. */
static model_hash_t model_hash(const load_t *job)
{
    const worker_origin_t *o = job->origin;
    if (o->source != NULL) return model_fingerprint(o->source, job->desc);
    const model_hash_t parts[] = {o->model, {job->desc->width, job->desc->n_layers}};
    return model_hash_join(parts, sizeof(parts) / sizeof(parts[0]));
}

/* What else than the model the bytes depend on. */
static model_hash_t slice_hash(const load_t *job)
{
    const worker_shard_t *s       = job->shard;
    model_hash_t          parts[] = {
                 {s->layer0, s->n_layers},
                 {s->has_embed, s->has_head},
                 {comm_grid_shards(job->grid), comm_grid_shard(job->grid)},
                 {s->format == kern_format(KERN_T3) ? PART_SHARD_T3 : PART_SHARD_T2, 0},
                 model_bytes_hash(job->plan->shard_weight,
                                  job->plan->shards * sizeof(*job->plan->shard_weight)),
    };
    return model_hash_join(parts, sizeof(parts) / sizeof(parts[0]));
}

static base_status_t list(keep_t *k, base_err_t *err)
{
    load_t         *job   = k->job;
    worker_shard_t *shard = job->shard;
    const size_t    most  = (size_t)shard->n_layers * LAYER_PIECES + END_PIECES;
    base_status_t   st    = base_alloc((void **)&k->head.pieces, most, sizeof(part_shard_piece_t),
                                       "packed weights", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&k->places, most, sizeof(place_t), "packed weights", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < shard->n_layers; l++) {
        worker_layer_t *layer = &shard->layers[l];
        add_floats(k, l, MODEL_ATTN_NORM, layer->attn_norm, job->desc->width);
        add_floats(k, l, MODEL_FFN_NORM, layer->ffn_norm, job->desc->width);
        add_floats(k, l, MODEL_ATTN_SUB_NORM, layer->attn_sub_norm, layer->m[WORKER_O].cols);
        add_floats(k, l, MODEL_FFN_SUB_NORM, layer->ffn_sub_norm, layer->m[WORKER_DOWN].cols);
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) add_matrix(k, l, (worker_matrix_id_t)id);
    }
    if (shard->has_head) add_head(k);
    add_vocab(k, PART_SHARD_EMBED, &job->desc->embed, shard->embed, shard->embed_row_bytes);
    base_assert(k->head.n_pieces <= most);
    k->head.model = model_hash(job);
    k->head.slice = slice_hash(job);
    return part_shard_lay_out(&k->head, err);
}

static void list_free(keep_t *k)
{
    part_shard_head_free(&k->head);
    free(k->places);
}

/* Units of a piece that this thread has: those that it multiplies with. */
static void share(const keep_t *k, uint32_t piece, int thread, int n_threads, size_t *b, size_t *e)
{
    const place_t *at    = &k->places[piece];
    const size_t   units = (size_t)part_shard_units(&k->head.pieces[piece]);
    if (at->head)
        worker_share(units, 1, thread, n_threads, b, e);
    else if (at->id != WORKER_MATRIX_COUNT)
        worker_tile_share(&k->job->shard->layers[at->layer], at->id, thread, n_threads, b, e);
    else
        worker_share(units, units, thread, n_threads, b, e); /* one thread has them all */
    *e = base_min_size(*e, units);
    *b = base_min_size(*b, *e);
}

/* Bytes that the system fetches ahead of the threads: a disk wants long requests, many at once. */
enum { AHEAD_BYTES = 64 << 20 };

/* Thread 0, before it comes to piece i: ask for what lies AHEAD_BYTES on. *next: the first piece
 * not asked for, *bytes: those asked for and not yet come to. */
static void look_ahead(const keep_t *k, uint32_t i, uint32_t *next, uint64_t *bytes)
{
    while (*next < k->head.n_pieces && *bytes < AHEAD_BYTES) {
        worker_cache_expect(k->cache, *next);
        *bytes += k->head.pieces[(*next)++].bytes;
    }
    *bytes -= k->head.pieces[i].bytes;
}

/* The team's function: each thread its units of all pieces, from the file or into it. */
static void move(void *ctx, int thread, int n_threads)
{
    keep_t  *k     = ctx;
    load_t  *job   = k->job;
    uint32_t next  = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < k->head.n_pieces && !atomic_load(&job->failed); i++) {
        const part_shard_piece_t *p = &k->head.pieces[i];
        base_err_t                err;
        size_t                    b = 0, e = 0;
        if (thread == 0 && k->cache != NULL) look_ahead(k, i, &next, &bytes);
        share(k, i, thread, n_threads, &b, &e);
        if (b == e) continue;
        uint8_t      *data = k->places[i].data + b * p->unit_bytes;
        base_status_t st   = k->cache != NULL
                                 ? worker_cache_read(k->cache, i, b, e - b, data, &err)
                                 : worker_cache_write(k->writer, i, b, e - b, data, &err);
        if (st != BASE_OK) worker_shard_fail(job, st, &err);
        uint64_t done = (e - b) * p->unit_bytes;
        done += atomic_fetch_add(&job->bytes_done, done);
        if (job->progress && thread == 0)
            base_progress_bytes(k->cache != NULL ? "reading packed weights"
                                                 : "keeping packed weights",
                                base_min_size(done, job->bytes_total), job->bytes_total + 1);
    }
}

static void move_all(keep_t *k)
{
    load_t *job = k->job;
    atomic_store(&job->bytes_done, 0);
    job->bytes_total = job->shard->bytes;
    worker_team_run(job->team, move, k);
    if (job->progress) base_progress_bytes("packed weights", 1, 1);
}

/* Take a failure of this rank alone off the job, as a warning: packing goes on. */
static void forgive(load_t *job, const char *what)
{
    if (job->st == BASE_OK) return;
    base_log(BASE_LOG_WARN, "%s; %s", job->err.text, what);
    job->st = BASE_OK;
    atomic_store(&job->failed, false);
}

/* Do all shards of the group say so? */
static base_status_t all_say(const load_t *job, bool mine, bool *all, base_err_t *err)
{
    const uint32_t shards            = comm_grid_shards(job->grid);
    float         *said              = (float *)(void *)(job->counts + 2 * (size_t)shards);
    said[comm_grid_shard(job->grid)] = mine ? 1 : 0;
    base_status_t st                 = worker_shard_exchange(job, said, 1, err);
    *all                             = true;
    for (uint32_t s = 0; s < shards; s++) *all = *all && said[s] > 0;
    return st;
}

/* Kinds and scales as the file has them: a first packing found them out. */
static void adopt(load_t *job, const part_shard_head_t *head, bool scales)
{
    const worker_shard_t *s = job->shard;
    for (uint32_t i = 0; i < head->n_pieces; i++) {
        const part_shard_piece_t *p = &head->pieces[i];
        if (p->layer < (int32_t)s->layer0 || p->layer >= (int32_t)(s->layer0 + s->n_layers))
            continue;
        const uint32_t l = (uint32_t)p->layer - s->layer0;
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
            const worker_matrix_id_t m = (worker_matrix_id_t)id;
            if (p->what != worker_shard_tensor(m)) continue;
            if (scales && s->layers[l].m[m].kind == WORKER_TERN) s->layers[l].m[m].scale = p->scale;
            if (!scales && p->form == PART_SHARD_T2B) job->kinds[shard_at(l, m)] = WORKER_BLOCK;
        }
    }
}

/* Pieces as this program would write them now, but for the scale. */
static bool same_pieces(const part_shard_head_t *a, const part_shard_head_t *b)
{
    if (a->n_pieces != b->n_pieces || a->n_hashes != b->n_hashes) return false;
    for (uint32_t i = 0; i < a->n_pieces; i++) {
        const part_shard_piece_t *p = &a->pieces[i], *q = &b->pieces[i];
        if (p->layer != q->layer || p->what != q->what || p->form != q->form ||
            p->type != q->type || p->row0 != q->row0 || p->rows != q->rows || p->col0 != q->col0 ||
            p->cols != q->cols || p->bytes != q->bytes || p->unit_bytes != q->unit_bytes ||
            p->offset != q->offset)
            return false;
    }
    return true;
}

static bool file_path(load_t *job, const char *dir, char *path)
{
    return worker_cache_path(dir, model_hash(job), slice_hash(job), path, LIMIT_PATH_BYTES);
}

/* This rank's part: the file, and a shard of its shape. */
static base_status_t open_file(keep_t *k, const char *path, worker_cache_t **cache, bool *absent,
                               base_err_t *err)
{
    load_t       *job = k->job;
    base_status_t st  = worker_cache_open(path, cache, absent, err);
    if (st != BASE_OK) return st;
    const part_shard_head_t *head = worker_cache_head(*cache);
    st                            = worker_shard_kinds(job, err);
    if (st != BASE_OK) return st;
    adopt(job, head, false);
    st = worker_shard_shape(job, err);
    if (st == BASE_OK) st = worker_shard_place(job, err);
    if (st == BASE_OK) st = list(k, err);
    if (st != BASE_OK) return st;
    if (memcmp(&head->model, &k->head.model, sizeof(head->model)) != 0 ||
        memcmp(&head->slice, &k->head.slice, sizeof(head->slice)) != 0 ||
        !same_pieces(head, &k->head))
        return base_fail(err, BASE_ERR_INPUT, "%s: holds another model or another part of it",
                         path);
    adopt(job, head, true);
    k->cache = *cache;
    return BASE_OK;
}

base_status_t worker_shard_restore(load_t *job, const char *dir, bool *restored, base_err_t *err)
{
    static const char anew[] = "the weights are packed anew";
    char              path[LIMIT_PATH_BYTES];
    keep_t            k      = {.job = job};
    worker_cache_t   *cache  = NULL;
    bool              absent = true;
    bool              all    = false;
    base_status_t     st     = BASE_OK;

    if (file_path(job, dir, path)) job->st = open_file(&k, path, &cache, &absent, &job->err);
    if (absent) job->st = BASE_OK;
    forgive(job, anew);
    st = all_say(job, k.cache != NULL, &all, err);
    if (st == BASE_OK && all) {
        move_all(&k);
        const bool good = job->st == BASE_OK;
        forgive(job, anew);
        st = all_say(job, good, &all, err);
    }
    *restored = st == BASE_OK && all;
    if (!*restored) worker_shard_empty(job->shard);
    if (*restored) base_log(BASE_LOG_DEBUG, "weights read from %s", path);
    worker_cache_close(&cache);
    list_free(&k);
    return st;
}

void worker_shard_keep(load_t *job, const char *dir)
{
    static const char without[] = "the packed weights are not kept";
    char              path[LIMIT_PATH_BYTES];
    keep_t            k = {.job = job};

    if (!file_path(job, dir, path)) {
        base_log(BASE_LOG_WARN, "--pack-cache %.80s...: the path is too long", dir);
        return;
    }
    job->st = list(&k, &job->err);
    if (job->st == BASE_OK) job->st = worker_cache_create(path, &k.head, &k.writer, &job->err);
    if (job->st == BASE_OK) move_all(&k);
    if (job->st == BASE_OK) job->st = worker_cache_commit(&k.writer, &job->err);
    if (job->st == BASE_OK) {
        job->shard->kept = true;
        base_log(BASE_LOG_DEBUG, "packed weights kept in %s", path);
    }
    worker_cache_abandon(&k.writer);
    forgive(job, without);
    list_free(&k);
}
