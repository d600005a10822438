/* partition/assignment_wire.c: one rank's part on the wire.
 *
 * Unpacking has two halves: protobuf-c turns bytes into a message, under a budget of memory so that
 * a few bytes cannot ask for gigabytes; then every field is checked on its way into the plain
 * structures. */
#include "partition/assignment_wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "proto/control.pb-c.h"

typedef struct {
    Trireme__LayerShape layer;
    Trireme__TensorRef  tensor[MODEL_LAYER_TENSOR_COUNT];
    Trireme__TensorRef *tensor_p[MODEL_LAYER_TENSOR_COUNT];
} wire_layer_t;

static Trireme__TensorRef tensor_to_wire(const model_tensor_t *t)
{
    Trireme__TensorRef w = TRIREME__TENSOR_REF__INIT;

    w.type   = (uint32_t)t->type;
    w.file   = t->file;
    w.offset = t->offset;
    w.bytes  = t->bytes;
    w.n_rows = t->n_rows;
    w.n_cols = t->n_cols;

    w.has_scale     = t->scale != 0;
    w.scale         = t->scale;
    w.has_out_scale = t->out_scale != 0;
    w.out_scale     = t->out_scale;
    w.has_online    = t->online;
    w.online        = t->online;
    w.has_unit      = t->unit;
    w.unit          = t->unit;
    return w;
}

static void layer_to_wire(const model_layer_t *l, wire_layer_t *w)
{
    trireme__layer_shape__init(&w->layer);
    w->layer.n_heads    = l->n_heads;
    w->layer.n_kv_heads = l->n_kv_heads;
    w->layer.ffn        = l->ffn;
    w->layer.n_tensor   = MODEL_LAYER_TENSOR_COUNT;
    w->layer.tensor     = w->tensor_p;
    for (uint32_t i = 0; i < MODEL_LAYER_TENSOR_COUNT; i++) {
        w->tensor[i]   = tensor_to_wire(&l->t[i]);
        w->tensor_p[i] = &w->tensor[i];
    }
}

/* All but the tensors and layers. Texts are only read. */
static void shape_to_wire(const model_desc_t *d, Trireme__ModelShape *w)
{
    w->arch         = (char *)d->arch;
    w->name         = (char *)d->name;
    w->n_layers     = d->n_layers;
    w->width        = d->width;
    w->head_dim     = d->head_dim;
    w->rope_dims    = d->rope_dims;
    w->n_vocab      = d->n_vocab;
    w->context      = d->context;
    w->norm_eps     = d->norm_eps;
    w->sub_norm_eps = d->sub_norm_eps;
    w->rope_base    = d->rope_base;
    w->rope_scale   = d->rope_scale;
    w->act          = (uint32_t)d->act;
    w->rope         = (uint32_t)d->rope;
    w->tied         = d->tied;
    w->n_params     = d->n_params;

    w->n_rope_freq    = d->rope_dims / 2;
    w->rope_freq      = (double *)d->rope_freq; /* only read */
    w->rope_magnitude = d->rope_magnitude;
}

part_memory_t part_assignment_memory(const part_assignment_t *a, double ternary_bits)
{
    const part_sizes_t sizes = {.ternary_bits = ternary_bits,
                                .n_ctx        = a->n_ctx,
                                .n_seq        = a->n_seq,
                                .n_batch      = a->n_batch,
                                .n_out        = a->n_out_max,
                                .type_k       = a->type_k,
                                .type_v       = a->type_v,
                                .screen       = a->screen};
    return part_memory(&a->plan, &a->desc, a->rank, &sizes);
}

base_status_t part_assignment_pack(const part_assignment_t *a, uint8_t **bytes_p, size_t *n_p,
                                   base_err_t *err)
{
    Trireme__Assignment   m         = TRIREME__ASSIGNMENT__INIT;
    Trireme__Plan         plan      = TRIREME__PLAN__INIT;
    Trireme__ModelShape   shape     = TRIREME__MODEL_SHAPE__INIT;
    Trireme__TensorRef    embed     = tensor_to_wire(&a->desc.embed);
    Trireme__TensorRef    out_norm  = tensor_to_wire(&a->desc.out_norm);
    Trireme__TensorRef    head      = tensor_to_wire(&a->desc.head);
    wire_layer_t         *layers    = NULL;
    Trireme__LayerShape **layer_p   = NULL;
    uint8_t              *bytes     = NULL;
    const part_range_t    own       = part_stage_layers(&a->plan, a->rank / a->plan.shards);
    const uint32_t        own_count = own.end - own.begin;
    base_status_t         st        = BASE_OK;

    base_assert(a->n_paths <= LIMIT_MODEL_FILES && own.end <= a->desc.n_layers);
    st = base_alloc((void **)&layers, own_count, sizeof(*layers), "assignment", err);
    if (st != BASE_OK) goto out;
    st = base_alloc((void **)&layer_p, own_count, sizeof(*layer_p), "assignment", err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < own_count; i++) {
        layer_to_wire(&a->desc.layers[own.begin + i], &layers[i]);
        layer_p[i] = &layers[i].layer;
    }
    plan.stages         = a->plan.stages;
    plan.shards         = a->plan.shards;
    plan.n_stage_layer  = a->plan.stages + 1;
    plan.stage_layer    = a->plan.stage_layer;
    plan.n_shard_weight = a->plan.shards;
    plan.shard_weight   = a->plan.shard_weight;
    shape_to_wire(&a->desc, &shape);
    shape.embed      = &embed;
    shape.out_norm   = &out_norm;
    shape.head       = &head;
    shape.n_layer    = own_count;
    shape.layer      = layer_p;
    m.version        = PART_WIRE_VERSION;
    m.rank           = a->rank;
    m.plan           = &plan;
    m.shape          = &shape;
    m.n_path         = a->n_paths;
    m.path           = (char **)a->paths; /* only read */
    m.n_ctx          = a->n_ctx;
    m.n_seq          = a->n_seq;
    m.type_k         = (uint32_t)a->type_k;
    m.type_v         = (uint32_t)a->type_v;
    m.n_batch        = a->n_batch;
    m.n_out_max      = a->n_out_max;
    m.n_threads      = a->n_threads;
    m.has_screen     = 1;
    m.screen         = a->screen;
    m.pack           = (char *)a->pack;
    m.cpu            = (char *)a->cpu;
    m.has_synth_seed = a->n_paths == 0;
    m.synth_seed     = a->synth_seed;

    size_t n = trireme__assignment__get_packed_size(&m);
    base_assert(n <= PART_ASSIGNMENT_MAX_BYTES);
    st = base_alloc((void **)&bytes, n, 1, "assignment", err);
    if (st != BASE_OK) goto out;
    *n_p     = trireme__assignment__pack(&m, bytes);
    *bytes_p = bytes;
out:
    free(layer_p);
    free(layers);
    return st;
}

/* --- from the wire --- */

/* The decoder's memory: malloc under a budget, so that a hostile message cannot ask for more. The
 * largest sound message needs well below 16 times its bytes. */
enum { UNPACK_BUDGET = 64 << 20, MALLOC_LEAST = 32 };

static void *budget_take(void *context, size_t bytes)
{
    size_t *left = context;

    if (bytes > *left || *left - bytes < MALLOC_LEAST) return NULL;
    *left -= bytes + MALLOC_LEAST; /* what even the smallest piece takes */
    return malloc(bytes == 0 ? 1 : bytes);
}

static void budget_free(void *context, void *p)
{
    (void)context;
    free(p);
}

static base_status_t range_check(const char *field, uint64_t value, uint64_t low, uint64_t high,
                                 base_err_t *err)
{
    if (value >= low && value <= high) return BASE_OK;
    return base_fail(err, BASE_ERR_PEER, "assignment: %s is %llu, expected %llu..%llu", field,
                     (unsigned long long)value, (unsigned long long)low, (unsigned long long)high);
}

static base_status_t text_take(const char *field, const char *text, char *out, size_t out_bytes,
                               base_err_t *err)
{
    size_t n = strlen(text);
    if (n >= out_bytes)
        return base_fail(err, BASE_ERR_PEER, "assignment: %s has %zu bytes, limit %zu", field, n,
                         out_bytes - 1);
    memcpy(out, text, n + 1);
    return BASE_OK;
}

/* Names of formats and variants: letters, digits, '_'. */
static base_status_t name_take(const char *field, const char *text, char *out, size_t out_bytes,
                               base_err_t *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    if (text[strspn(text, allowed)] != '\0')
        return base_fail(err, BASE_ERR_PEER, "assignment: %s '%.40s' is no name", field, text);
    return text_take(field, text, out, out_bytes, err);
}

static base_status_t plan_take(const Trireme__Plan *w, uint32_t n_layers, part_plan_t *plan,
                               base_err_t *err)
{
    base_status_t st = range_check("plan.stages", w->stages, 1, n_layers, err);
    if (st == BASE_OK) st = range_check("plan.shards", w->shards, 1, LIMIT_RANKS / w->stages, err);
    if (st == BASE_OK)
        st = range_check("count of plan.stage_layer", w->n_stage_layer, w->stages + 1ull,
                         w->stages + 1ull, err);
    if (st == BASE_OK)
        st =
            range_check("count of plan.shard_weight", w->n_shard_weight, w->shards, w->shards, err);
    if (st == BASE_OK) st = range_check("plan.stage_layer[0]", w->stage_layer[0], 0, 0, err);
    for (uint32_t i = 1; st == BASE_OK && i <= w->stages; i++) {
        const uint32_t least = i == w->stages ? n_layers : w->stage_layer[i - 1] + 1;
        st = range_check("plan.stage_layer", w->stage_layer[i], least, n_layers, err);
    }
    for (uint32_t i = 0; st == BASE_OK && i < w->shards; i++)
        st = range_check("plan.shard_weight", w->shard_weight[i], 1, PART_WEIGHT_MAX, err);
    if (st != BASE_OK) return st;

    plan->stages = w->stages;
    plan->shards = w->shards;
    st = base_alloc((void **)&plan->stage_layer, w->stages + 1, sizeof(uint32_t), "plan", err);
    if (st != BASE_OK) return st;
    st = base_alloc((void **)&plan->shard_weight, w->shards, sizeof(uint32_t), "plan", err);
    if (st != BASE_OK) return st;
    memcpy(plan->stage_layer, w->stage_layer, (w->stages + 1) * sizeof(uint32_t));
    memcpy(plan->shard_weight, w->shard_weight, w->shards * sizeof(uint32_t));
    return BASE_OK;
}

static base_status_t tensor_take(const char *field, const Trireme__TensorRef *w, size_t n_files,
                                 model_tensor_t *t, base_err_t *err)
{
    base_status_t st = range_check(field, w->type, 0, MODEL_TYPE_COUNT - 1, err);
    if (st != BASE_OK) return st;
    if (w->type == MODEL_NONE) return BASE_OK; /* stays all zero, whatever else it says */
    st = range_check("tensor.file", w->file, 0, n_files == 0 ? 0 : n_files - 1, err);
    if (st != BASE_OK) return st;
    *t = (model_tensor_t){.type      = (model_type_t)w->type,
                          .file      = w->file,
                          .offset    = w->offset,
                          .bytes     = w->bytes,
                          .n_rows    = w->n_rows,
                          .n_cols    = w->n_cols,
                          .scale     = w->scale,
                          .out_scale = w->out_scale,
                          .online    = w->online != 0,
                          .unit      = w->unit != 0};
    return BASE_OK;
}

static base_status_t layer_take(const Trireme__LayerShape *w, size_t n_files, model_layer_t *l,
                                base_err_t *err)
{
    base_status_t st = range_check("layer.n_heads", w->n_heads, 0, LIMIT_HEADS, err);
    if (st == BASE_OK) st = range_check("layer.n_kv_heads", w->n_kv_heads, 0, w->n_heads, err);
    if (st == BASE_OK && (w->n_kv_heads == 0 ? w->n_heads != 0 : w->n_heads % w->n_kv_heads != 0))
        st = base_fail(err, BASE_ERR_PEER, "assignment: layer of %u heads and %u KV heads",
                       w->n_heads, w->n_kv_heads);
    if (st == BASE_OK) st = range_check("layer.ffn", w->ffn, 0, LIMIT_FFN, err);
    if (st == BASE_OK)
        st = range_check("count of layer.tensor", w->n_tensor, MODEL_LAYER_TENSOR_COUNT,
                         MODEL_LAYER_TENSOR_COUNT, err);
    if (st != BASE_OK) return st;
    l->n_heads    = w->n_heads;
    l->n_kv_heads = w->n_kv_heads;
    l->ffn        = w->ffn;
    for (uint32_t i = 0; st == BASE_OK && i < MODEL_LAYER_TENSOR_COUNT; i++)
        st = tensor_take("layer.tensor.type", w->tensor[i], n_files, &l->t[i], err);
    return st;
}

/* Scalars of the shape. Ranges only: model_desc_check knows what they mean for each other. */
static base_status_t shape_take(const Trireme__ModelShape *w, model_desc_t *d, base_err_t *err)
{
    base_status_t st = text_take("shape.arch", w->arch, d->arch, sizeof(d->arch), err);
    if (st == BASE_OK) st = text_take("shape.name", w->name, d->name, sizeof(d->name), err);
    if (st == BASE_OK) st = range_check("shape.n_layers", w->n_layers, 1, LIMIT_LAYERS, err);
    if (st == BASE_OK) st = range_check("shape.width", w->width, 1, LIMIT_WIDTH, err);
    if (st == BASE_OK) st = range_check("shape.head_dim", w->head_dim, 1, LIMIT_HEAD_DIM, err);
    if (st == BASE_OK) st = range_check("shape.rope_dims", w->rope_dims, 0, w->head_dim, err);
    if (st == BASE_OK) st = range_check("shape.n_vocab", w->n_vocab, 1, LIMIT_VOCAB, err);
    if (st == BASE_OK) st = range_check("shape.context", w->context, 1, LIMIT_CONTEXT, err);
    if (st == BASE_OK) st = range_check("shape.act", w->act, MODEL_ACT_SILU, MODEL_ACT_RELU2, err);
    if (st == BASE_OK)
        st = range_check("shape.rope", w->rope, MODEL_ROPE_HALF, MODEL_ROPE_PAIR, err);
    if (st == BASE_OK)
        st = range_check("count of shape.rope_freq", w->n_rope_freq, w->rope_dims / 2,
                         w->rope_dims / 2, err);
    if (st == BASE_OK && !(isfinite(w->norm_eps) && w->norm_eps >= 0 && isfinite(w->rope_base) &&
                           w->rope_base > 0 && isfinite(w->rope_scale) && w->rope_scale > 0))
        st = base_fail(err, BASE_ERR_PEER, "assignment: norm_eps %g, rope_base %g, rope_scale %g",
                       (double)w->norm_eps, w->rope_base, w->rope_scale);
    if (st != BASE_OK) return st;
    d->n_layers     = w->n_layers;
    d->width        = w->width;
    d->head_dim     = w->head_dim;
    d->rope_dims    = w->rope_dims;
    d->n_vocab      = w->n_vocab;
    d->context      = w->context;
    d->norm_eps     = w->norm_eps;
    d->sub_norm_eps = w->sub_norm_eps; /* model_desc_check looks at it */
    d->rope_base    = w->rope_base;
    d->rope_scale   = w->rope_scale;
    d->act          = (model_act_t)w->act;
    d->rope         = (model_rope_t)w->rope;
    d->tied         = w->tied != 0;
    d->n_params     = w->n_params;

    d->rope_magnitude = w->rope_magnitude; /* model_desc_check looks at both */
    if (w->n_rope_freq > 0)
        memcpy(d->rope_freq, w->rope_freq, w->n_rope_freq * sizeof(*d->rope_freq));
    return BASE_OK;
}

/* The tensors, in layers `own` of a full-length array. Needs the shape and the plan. */
static base_status_t tensors_take(const Trireme__ModelShape *w, part_range_t own, size_t n_files,
                                  model_desc_t *d, base_err_t *err)
{
    const uint32_t count = own.end - own.begin;
    base_status_t  st    = BASE_OK;

    st = range_check("count of shape.layer", w->n_layer, count, count, err);
    if (st == BASE_OK) st = tensor_take("shape.embed.type", w->embed, n_files, &d->embed, err);
    if (st == BASE_OK)
        st = tensor_take("shape.out_norm.type", w->out_norm, n_files, &d->out_norm, err);
    if (st == BASE_OK) st = tensor_take("shape.head.type", w->head, n_files, &d->head, err);
    if (st != BASE_OK) return st;
    st = base_alloc((void **)&d->layers, d->n_layers, sizeof(*d->layers), "layers", err);
    for (uint32_t i = 0; st == BASE_OK && i < count; i++)
        st = layer_take(w->layer[i], n_files, &d->layers[own.begin + i], err);
    if (st != BASE_OK) return st;

    model_desc_t part = *d; /* a model of the own layers alone; borrows them */
    part.n_layers     = count;
    part.layers       = d->layers + own.begin;
    return model_desc_check(&part, "assignment from rank 0", err);
}

/* Pointers and texts in one block, so that one free() ends it. */
static base_status_t paths_take(const Trireme__Assignment *m, part_assignment_t *a, base_err_t *err)
{
    size_t        bytes = m->n_path * sizeof(char *);
    char        **block = NULL;
    base_status_t st    = range_check("count of path", m->n_path, 0, LIMIT_MODEL_FILES, err);

    for (size_t i = 0; st == BASE_OK && i < m->n_path; i++) {
        size_t n = strlen(m->path[i]);
        st       = range_check("bytes of path", n, 1, LIMIT_PATH_BYTES - 1, err);
        bytes += n + 1;
    }
    if (st != BASE_OK || m->n_path == 0) return st;
    st = base_alloc((void **)&block, bytes, 1, "paths", err);
    if (st != BASE_OK) return st;
    char *text = (char *)(block + m->n_path);
    for (size_t i = 0; i < m->n_path; i++) {
        size_t n = strlen(m->path[i]) + 1;
        block[i] = text;
        memcpy(text, m->path[i], n);
        text += n;
    }
    a->paths   = (const char **)block;
    a->n_paths = (uint32_t)m->n_path;
    return BASE_OK;
}

static base_status_t cache_type_check(const char *name, uint32_t type, base_err_t *err)
{
    if (type == MODEL_F16 || type == MODEL_F32) return BASE_OK;
    return base_fail(err, BASE_ERR_PEER, "assignment: %s is %u, expected %d (f32) or %d (f16)",
                     name, type, MODEL_F32, MODEL_F16);
}

static base_status_t numbers_take(const Trireme__Assignment *m, part_assignment_t *a,
                                  base_err_t *err)
{
    base_status_t st = range_check("n_ctx", m->n_ctx, 1, LIMIT_CONTEXT, err);
    if (st == BASE_OK) st = range_check("n_seq", m->n_seq, 1, LIMIT_SEQUENCES, err);
    if (st == BASE_OK) st = cache_type_check("type_k", m->type_k, err);
    if (st == BASE_OK) st = cache_type_check("type_v", m->type_v, err);
    if (st == BASE_OK) st = range_check("n_batch", m->n_batch, 1, LIMIT_BATCH, err);
    if (st == BASE_OK) st = range_check("n_out_max", m->n_out_max, 1, LIMIT_BATCH, err);
    if (st == BASE_OK) st = range_check("n_threads", m->n_threads, 0, LIMIT_THREADS, err);
    if (st == BASE_OK) st = name_take("pack", m->pack, a->pack, sizeof(a->pack), err);
    if (st == BASE_OK) st = name_take("cpu", m->cpu, a->cpu, sizeof(a->cpu), err);
    if (st == BASE_OK && m->n_path > 0) st = range_check("synth_seed", m->synth_seed, 0, 0, err);
    if (st == BASE_OK)
        st = range_check("n_ctx * n_seq", (uint64_t)m->n_ctx * m->n_seq, 1, LIMIT_POSITIONS, err);
    a->n_ctx      = m->n_ctx;
    a->n_seq      = m->n_seq;
    a->type_k     = (model_type_t)m->type_k;
    a->type_v     = (model_type_t)m->type_v;
    a->n_batch    = m->n_batch;
    a->n_out_max  = m->n_out_max;
    a->n_threads  = m->n_threads;
    a->screen     = m->screen != 0;
    a->synth_seed = m->synth_seed;
    return st;
}

base_status_t part_assignment_unpack(const uint8_t *bytes, size_t n, part_assignment_t *a_p,
                                     base_err_t *err)
{
    size_t               left      = UNPACK_BUDGET;
    ProtobufCAllocator   allocator = {budget_take, budget_free, &left};
    Trireme__Assignment *m         = NULL;
    part_assignment_t    a         = {0};
    base_status_t        st        = BASE_OK;

    base_assert(bytes != NULL && a_p != NULL);
    if (n <= PART_ASSIGNMENT_MAX_BYTES) m = trireme__assignment__unpack(&allocator, n, bytes);
    if (m == NULL) {
        st = base_fail(err, BASE_ERR_PEER, "assignment: %zu bytes are no assignment of this build",
                       n);
        goto out;
    }
    st = range_check("version", m->version, PART_WIRE_VERSION, PART_WIRE_VERSION, err);
    if (st != BASE_OK) goto out;
    st = shape_take(m->shape, &a.desc, err);
    if (st != BASE_OK) goto out;
    st = plan_take(m->plan, a.desc.n_layers, &a.plan, err);
    if (st != BASE_OK) goto out;
    st = range_check("rank", m->rank, 0, (uint64_t)a.plan.stages * a.plan.shards - 1, err);
    if (st != BASE_OK) goto out;
    a.rank = m->rank;
    st     = paths_take(m, &a, err);
    if (st != BASE_OK) goto out;
    st = tensors_take(m->shape, part_stage_layers(&a.plan, a.rank / a.plan.shards), m->n_path,
                      &a.desc, err);
    if (st != BASE_OK) goto out;
    st = numbers_take(m, &a, err);
    if (st != BASE_OK) goto out;

    *a_p = a;
    a    = (part_assignment_t){0};
out:
    if (m != NULL) trireme__assignment__free_unpacked(m, &allocator);
    part_assignment_free(&a);
    return st;
}

void part_assignment_free(part_assignment_t *a)
{
    part_plan_free(&a->plan);
    free(a->desc.layers);
    free((void *)a->paths);
    memset(a, 0, sizeof(*a));
}
