/* launch/cmd_plan.c: the plan command: a model and a cluster in, a table or a JSON value out. The
 * thinking is done by partition/choose.h. */
#include "launch/cmd_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "launch/cli.h"
#include "launch/output.h"
#include "model/model.h"
#include "partition/choose.h"
#include "quantize/synth.h"
#include "worker/worker.h"

enum {
    BATCH_DEFAULT  = 512,
    CTX_LEAST      = 512, /* no shorter context is advised */
    NODES_TRIED    = 64,  /* more than there are, for advice */
    OTHERS_PRINTED = 8,
};

static const double GIB = 1024.0 * 1024 * 1024;

typedef struct {
    model_t       *model; /* of -m; or */
    model_desc_t   shape; /* of --shape, owned; */
    model_desc_t   desc;  /* either of them, borrowed */
    part_cluster_t cluster;
    part_ask_t     ask;
    const char    *pack;
    bool           pack_open; /* not asked for */
    const char    *pack_reason;
    part_choice_t  choice;
    part_trials_t  trials;
    uint32_t       advice_nodes; /* like nodes that would do; 0: none found */
    uint32_t       advice_ctx;   /* context that would fit; 0: none found */
} plan_run_t;

/* --- input --- */

/* The shape as if its layers were stored as `type`. Widths need not be multiples of that type's
 * blocks, as a file's must: packed weights know no such blocks. */
static base_status_t shape_describe(const launch_plan_args_t *args, model_desc_t *desc,
                                    base_err_t *err)
{
    const quant_shape_t *shape = quant_shape_find(args->shape);
    const model_type_t   type  = args->type != NULL ? quant_type_find(args->type) : MODEL_TQ2_0;

    if (shape == NULL)
        return base_fail(err, BASE_ERR_USAGE, "--shape %.60s: no such shape; known are %s",
                         args->shape, OPT_SHAPES);
    if (type != MODEL_TQ1_0 && type != MODEL_TQ2_0)
        return base_fail(err, BASE_ERR_USAGE, "--type %.60s: expected tq1_0 or tq2_0", args->type);
    base_status_t st = quant_synth_desc(shape, MODEL_F16, MODEL_F16, desc, err);
    if (st != BASE_OK) return st;
    const model_type_info_t *info = model_type_info(type);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        for (uint32_t w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
            model_tensor_t *t = &desc->layers[i].t[w];
            if (t->type != MODEL_F16) continue; /* norms */
            t->type  = type;
            t->bytes = t->n_rows * ((t->n_cols + info->block_elems - 1) / info->block_elems) *
                       info->block_bytes;
        }
    }
    return BASE_OK;
}

static base_status_t model_read(const launch_plan_args_t *args, plan_run_t *r, base_err_t *err)
{
    base_status_t st = BASE_OK;

    if ((args->model_path == NULL) == (args->shape == NULL))
        return base_fail(err, BASE_ERR_USAGE, "give one of -m FILE and --shape NAME");
    if (args->shape != NULL) {
        st      = shape_describe(args, &r->shape, err);
        r->desc = r->shape;
    } else {
        st = model_open(args->model_path, false, &r->model, err);
        if (st == BASE_OK) r->desc = r->model->desc;
    }
    return st;
}

static base_status_t cluster_read(const launch_plan_args_t *args, part_cluster_t *cluster,
                                  base_err_t *err)
{
    const uint32_t ranks   = args->ranks_per_node == 0 ? 1 : args->ranks_per_node;
    const double   latency = args->latency_us > 0 ? args->latency_us * 1e-6 : -1;
    part_node_t    node    = {.cores = args->cores, .membw = args->membw_gbs * 1e9, .ranks = ranks};

    if (ranks > LIMIT_RANKS)
        return base_fail(err, BASE_ERR_USAGE, "--ranks-per-node %u: limit %d", ranks, LIMIT_RANKS);
    if (args->cluster != NULL) {
        if (args->nodes != 0 || args->mem != NULL || args->cores != 0 || args->membw_gbs > 0 ||
            args->latency_us > 0 || args->net_gbit > 0)
            return base_fail(
                err, BASE_ERR_USAGE,
                "--cluster %.200s: describes nodes and network; leave --nodes, --mem, --cores, "
                "--membw, --latency and --netbw out",
                args->cluster);
        return part_cluster_load(args->cluster, ranks, cluster, err);
    }
    if (args->mem == NULL)
        return base_fail(err, BASE_ERR_USAGE,
                         "no cluster: give --cluster FILE.json, or --mem 24G and --nodes N");
    if (!part_size_parse(args->mem, &node.mem_bytes) || node.mem_bytes < 1 << 20 ||
        node.mem_bytes > UINT64_C(1) << 50)
        return base_fail(err, BASE_ERR_USAGE, "--mem %.60s: expected a size as in 24G, 1.5T, 512M",
                         args->mem);
    return part_cluster_uniform(args->nodes == 0 ? 1 : args->nodes, &node, latency,
                                args->net_gbit > 0 ? args->net_gbit * 1e9 / 8 : 0, cluster, err);
}

/* Numbers as the engine fills them in. */
static base_status_t ask_read(const launch_plan_args_t *args, plan_run_t *r, base_err_t *err)
{
    const uint32_t ctx = args->n_ctx != 0 ? args->n_ctx : r->desc.context;

    r->pack_open   = args->pack == NULL || strcmp(args->pack, "auto") == 0;
    r->pack        = r->pack_open ? "t2" : args->pack;
    r->pack_reason = r->pack_open ? "it fits; run takes the faster one" : "asked for";
    if (!worker_pack_known(r->pack))
        return base_fail(err, BASE_ERR_USAGE, "--pack %.60s: expected auto, t2 or t3", r->pack);
    if (ctx == 0 || ctx > LIMIT_CONTEXT)
        return base_fail(err, BASE_ERR_USAGE, "-c %u: expected 1..%d positions", ctx,
                         LIMIT_CONTEXT);
    if (args->n_batch > LIMIT_BATCH)
        return base_fail(err, BASE_ERR_USAGE, "-b %u: expected 1..%d tokens", args->n_batch,
                         LIMIT_BATCH);
    r->ask = (part_ask_t){.ternary_bits      = strcmp(r->pack, "t3") == 0 ? 1.6 : 2,
                          .n_ctx             = ctx,
                          .type_k            = args->type_k,
                          .type_v            = args->type_v,
                          .n_seq             = args->n_seq != 0 ? args->n_seq : 1,
                          .n_batch           = args->n_batch != 0 ? args->n_batch : BATCH_DEFAULT,
                          .n_out             = args->n_seq != 0 ? args->n_seq : 1,
                          .layout            = args->layout,
                          .pipeline_parallel = args->pipeline_parallel,
                          .tensor_parallel   = args->tensor_parallel,
                          .split             = args->split};
    if (args->head != NULL && strcmp(args->head, "full") != 0)
        r->ask.screen = strcmp(args->head, "auto") == 0 ? part_screen_pays(&r->desc)
                                                        : part_screen_possible(&r->desc);
    if ((uint64_t)ctx * r->ask.n_seq > LIMIT_POSITIONS)
        return base_fail(err, BASE_ERR_USAGE, "-np %u of -c %u positions: %d together at most",
                         r->ask.n_seq, ctx, LIMIT_POSITIONS);
    if (r->ask.n_batch > ctx * r->ask.n_seq) r->ask.n_batch = ctx * r->ask.n_seq;
    return BASE_OK;
}

/* Base 3 where t2 does not fit, as run does. */
static base_status_t choose(plan_run_t *r, base_err_t *err)
{
    base_status_t st =
        part_plan_choose(&r->cluster, &r->desc, &r->ask, &r->choice, &r->trials, err);

    if (st != BASE_OK || r->choice.fits || !r->pack_open) return st;
    part_choice_free(&r->choice);
    r->pack             = "t3";
    r->pack_reason      = "t2 does not fit";
    r->ask.ternary_bits = 1.6;
    return part_plan_choose(&r->cluster, &r->desc, &r->ask, &r->choice, &r->trials, err);
}

/* --- advice, when nothing fits --- */

static bool would_fit(const part_cluster_t *cluster, const plan_run_t *r, const part_ask_t *ask)
{
    part_choice_t c = {0};
    bool fits       = part_plan_choose(cluster, &r->desc, ask, &c, NULL, NULL) == BASE_OK && c.fits;
    part_choice_free(&c);
    return fits;
}

static void advise(plan_run_t *r)
{
    const part_node_t *first = &r->cluster.nodes[0];
    part_ask_t         ask   = r->ask;

    for (uint32_t ctx = r->ask.n_ctx / 2; ctx >= CTX_LEAST && r->advice_ctx == 0; ctx /= 2) {
        ask.n_ctx = ctx;
        if (would_fit(&r->cluster, r, &ask)) r->advice_ctx = ctx;
    }
    ask        = r->ask;
    ask.layout = ask.split = NULL;
    ask.pipeline_parallel = ask.tensor_parallel = 0;
    for (uint32_t more = 1; more <= NODES_TRIED && r->advice_nodes == 0; more++) {
        part_cluster_t c = {0};
        if (part_cluster_uniform(r->cluster.n_nodes + more, first, -1, 0, &c, NULL) != BASE_OK)
            return;
        if (would_fit(&c, r, &ask)) r->advice_nodes = c.n_nodes;
        part_cluster_free(&c);
    }
}

static bool nodes_alike(const part_cluster_t *c)
{
    for (uint32_t i = 1; i < c->n_nodes; i++)
        if (c->nodes[i].mem_bytes != c->nodes[0].mem_bytes ||
            c->nodes[i].ranks != c->nodes[0].ranks)
            return false;
    return true;
}

static void say_misfit(const plan_run_t *r)
{
    const part_choice_t *c    = &r->choice;
    const part_node_t   *node = &r->cluster.nodes[c->worst_node];
    char                 layout[32], ctx[64] = "", nodes[64] = "";

    if (r->advice_ctx != 0) (void)snprintf(ctx, sizeof(ctx), "; it fits with -c %u", r->advice_ctx);
    if (r->advice_nodes != 0)
        (void)snprintf(nodes, sizeof(nodes), "; %u node%s like node 1 would do", r->advice_nodes,
                       base_plural(r->advice_nodes));
    base_log(BASE_LOG_ERROR,
             "%s does not fit: even layout %s needs %.2f GiB on %s, which has %.2f of %.2f GiB to "
             "give%s%s",
             r->desc.name, part_layout_name(&c->plan, layout, sizeof(layout)),
             (double)c->node_bytes[c->worst_node] / GIB, node->name,
             (double)part_node_usable(node) / GIB, (double)node->mem_bytes / GIB, ctx, nodes);
}

/* --- the table --- */

static void print_rank(const plan_run_t *r, uint32_t rank)
{
    const part_choice_t *c      = &r->choice;
    const uint32_t       stage  = rank / c->plan.shards;
    const uint32_t       node   = part_cluster_node(&r->cluster, rank);
    const part_memory_t *m      = &c->memory[rank];
    const part_range_t   layers = part_stage_layers(&c->plan, stage);
    const part_slice_t   s =
        part_slice(&c->plan, &r->desc.layers[layers.begin], rank % c->plan.shards);
    const double usable = (double)part_node_usable(&r->cluster.nodes[node]);
    const double share  = (double)(m->total + PART_RANK_OVERHEAD) / usable;
    char         span[3][32];

    (void)snprintf(span[0], sizeof(span[0]), "%u-%u", layers.begin, layers.end - 1);
    (void)snprintf(span[1], sizeof(span[1]), "%u/%u", s.q.end - s.q.begin, s.kv.end - s.kv.begin);
    (void)snprintf(span[2], sizeof(span[2]), "%u", s.ffn.end - s.ffn.begin);
    (void)printf("%4u  %-12s %5u  %-9s %-8s %6s %8.2f %8.2f %8.2f %8.2f %8.2f %5.0f %%  %s\n", rank,
                 r->cluster.nodes[node].name, stage, span[0], span[1], span[2],
                 (double)m->ternary / GIB, (double)(m->dense + m->screen) / GIB,
                 (double)m->kv / GIB, (double)m->activations / GIB, (double)m->total / GIB,
                 share * 100, (double)c->node_bytes[node] <= usable ? "yes" : "NO");
}

/* Digits behind the point that make about three in all. */
static int digits(double v)
{
    return v >= 100 ? 0 : v >= 10 ? 1 : v >= 1 ? 2 : 3;
}

static void print_others(const plan_run_t *r)
{
    const part_tried_t *faster  = NULL;
    double              best    = r->choice.bound.decode_tps * 1.05; /* less is not worth a line */
    uint32_t            printed = 0;

    for (uint32_t i = 0; i < r->trials.n && printed < OTHERS_PRINTED; i++) {
        const part_tried_t *t = &r->trials.list[i];
        if (t->stages == r->choice.plan.stages) continue;
        if (t->fits && t->decode_tps > best) {
            best   = t->decode_tps;
            faster = t;
        }
        (void)printf("%s%ux%u %s (%.0f %%", printed++ == 0 ? "other layouts: " : ", ", t->stages,
                     t->shards, t->fits ? "fits" : "does not fit", t->worst_share * 100);
        if (t->decode_tps > 0)
            (void)printf(", %.*f tokens/s", digits(t->decode_tps), t->decode_tps);
        (void)printf(")");
    }
    if (printed > 0) (void)printf("\n");
    if (faster != NULL)
        (void)printf("faster at the very best: --layout %ux%u; without it, run takes one stage a "
                     "node\n",
                     faster->stages, faster->shards);
}

static void print_bound(const plan_run_t *r)
{
    const part_bound_t *b = &r->choice.bound;

    if (!b->known) {
        (void)printf("no prediction of speed: the memory bandwidth of the nodes is not given\n");
        return;
    }
    (void)printf("at the very best (a bound by bandwidth, cores and network, not a measurement): "
                 "decode %.*f tokens/s, prompt %.*f tokens/s\n",
                 digits(b->decode_tps), b->decode_tps, digits(b->prefill_tps), b->prefill_tps);
    (void)printf(
        "  a token takes %.2f ms of weights, %.2f ms of head, %.2f ms of network; and %.2f ms "
        "of KV cache when that is full\n",
        b->weights * 1e3, b->head * 1e3, b->communication * 1e3, b->attention_full * 1e3);
    if (!b->comm_known)
        (void)printf("  the network is left out: its latency and bandwidth are not both given\n");
}

static base_status_t print_table(const plan_run_t *r, base_err_t *err)
{
    const part_choice_t *c    = &r->choice;
    const part_node_t   *node = &r->cluster.nodes[c->worst_node];
    char                 layout[32];

    (void)printf(
        "%s: %u layer%s, %.2f billion weights; packed as %s (%s), %u sequence%s of context %u, "
        "steps of %u token%s\n",
        r->desc.name, r->desc.n_layers, base_plural(r->desc.n_layers),
        (double)r->desc.n_params / 1e9, r->pack, r->pack_reason, r->ask.n_seq,
        base_plural(r->ask.n_seq), r->ask.n_ctx, r->ask.n_batch, base_plural(r->ask.n_batch));
    (void)printf("layout %s (stages x shards), split %s: %u rank%s on %u node%s\n\n",
                 part_layout_name(&c->plan, layout, sizeof(layout)), c->split, c->n_ranks,
                 base_plural(c->n_ranks), c->n_nodes, base_plural(c->n_nodes));
    (void)printf("rank  node         stage  layers    heads/kv    ffn  ternary    dense       kv  "
                 "activ.  total GiB  of node  fits\n");
    for (uint32_t rank = 0; rank < c->n_ranks; rank++) print_rank(r, rank);
    (void)printf(
        "\n%s: %s holds %.2f of %.2f GiB (%.2f less a reserve; each rank counts %d MiB of its "
        "own)\n",
        c->fits ? "fits" : "does NOT fit", node->name, (double)c->node_bytes[c->worst_node] / GIB,
        (double)part_node_usable(node) / GIB, (double)node->mem_bytes / GIB,
        PART_RANK_OVERHEAD >> 20);
    print_bound(r);
    print_others(r);
    return out_flush(err);
}

/* --- JSON --- */

/* All of these may return NULL: memory has ended. json_pack passes that on. */

static json_t *json_totals(const part_choice_t *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_ranks && list != NULL; i++) {
        if (json_array_append_new(list, json_integer((json_int_t)c->memory[i].total)) == 0)
            continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_range(part_range_t range)
{
    return json_pack("[i, i]", (int)range.begin, (int)range.end);
}

static json_t *json_rank(const plan_run_t *r, uint32_t rank)
{
    const part_plan_t   *p      = &r->choice.plan;
    const part_memory_t *m      = &r->choice.memory[rank];
    const uint32_t       stage  = rank / p->shards;
    const uint32_t       shard  = rank % p->shards;
    const part_range_t   layers = part_stage_layers(p, stage);
    const part_slice_t   s      = part_slice(p, &r->desc.layers[layers.begin], shard);
    const char          *node   = r->cluster.nodes[part_cluster_node(&r->cluster, rank)].name;

    /* clang-format off */
    return json_pack("{s:o, s:i, s:i, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}",
                     "node", out_json_text(node, strlen(node)),
                     "stage", (int)stage,
                     "shard", (int)shard,
                     "layers", json_range(layers),
                     "heads", json_range(s.q),
                     "kv_heads", json_range(s.kv),
                     "ffn", json_range(s.ffn),
                     "ternary_bytes", (json_int_t)m->ternary,
                     "dense_bytes", (json_int_t)m->dense,
                     "screen_bytes", (json_int_t)m->screen,
                     "kv_bytes", (json_int_t)m->kv,
                     "activation_bytes", (json_int_t)m->activations);
    /* clang-format on */
}

static json_t *json_ranks(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->choice.n_ranks && list != NULL; i++) {
        if (json_array_append_new(list, json_rank(r, i)) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_nodes(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->cluster.n_nodes && list != NULL; i++) {
        const part_node_t *n      = &r->cluster.nodes[i];
        const uint64_t     usable = part_node_usable(n), used = r->choice.node_bytes[i];
        /* clang-format off */
        json_t *node = json_pack("{s:o, s:i, s:I, s:I, s:I, s:b}",
                                 "name", out_json_text(n->name, strlen(n->name)),
                                 "ranks", (int)n->ranks,
                                 "mem_bytes", (json_int_t)n->mem_bytes,
                                 "usable_bytes", (json_int_t)usable,
                                 "used_bytes", (json_int_t)used,
                                 "fits", used <= usable);
        /* clang-format on */
        if (json_array_append_new(list, node) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_known(bool known, double v)
{
    return known ? out_json_real(v) : json_null();
}

static json_t *json_predicted(const part_bound_t *b)
{
    /* clang-format off */
    return json_pack("{s:s, s:o, s:o, s:{s:o, s:o, s:o, s:o}}",
                     "kind", "bound",
                     "decode_tps", json_known(b->known, b->decode_tps),
                     "prefill_tps", json_known(b->known, b->prefill_tps),
                     "parts",
                     "weights_ms", json_known(b->known, b->weights * 1e3),
                     "head_ms", json_known(b->known, b->head * 1e3),
                     "communication_ms", json_known(b->comm_known, b->communication * 1e3),
                     "attention_full_ms", json_known(b->known, b->attention_full * 1e3));
    /* clang-format on */
}

static json_t *json_layouts(const plan_run_t *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->trials.n && list != NULL; i++) {
        const part_tried_t *t = &r->trials.list[i];
        char                layout[32];
        (void)snprintf(layout, sizeof(layout), "%ux%u", t->stages, t->shards);
        /* clang-format off */
        json_t *entry = json_pack("{s:s, s:b, s:I, s:f, s:o}",
                                  "layout", layout,
                                  "fits", t->fits,
                                  "memory_per_rank_max", (json_int_t)t->rank_bytes_max,
                                  "worst_share", t->worst_share,
                                  "decode_tps", json_known(t->decode_tps > 0, t->decode_tps));
        /* clang-format on */
        if (json_array_append_new(list, entry) == 0) continue;
        json_decref(list);
        list = NULL;
    }
    return list;
}

static json_t *json_advice(uint32_t value)
{
    return value == 0 ? json_null() : json_integer(value);
}

static base_status_t print_json(const plan_run_t *r, base_err_t *err)
{
    const part_choice_t *c = &r->choice;
    char                 layout[32];

    /* clang-format off */
    json_t *value = json_pack("{s:o, s:s, s:i, s:i, s:s, s:o, s:b, s:o,"
                              " s:s, s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:{s:o, s:o}}",
                              "model", out_json_text(r->desc.name, strlen(r->desc.name)),
                              "layout", part_layout_name(&c->plan, layout, sizeof(layout)),
                              "stages", (int)c->plan.stages,
                              "shards", (int)c->plan.shards,
                              "split", c->split,
                              "memory_per_rank", json_totals(c),
                              "fits", c->fits,
                              "predicted", json_predicted(&c->bound),
                              "pack", r->pack,
                              "pack_reason", r->pack_reason,
                              "n_ctx", (int)r->ask.n_ctx,
                              "n_seq", (int)r->ask.n_seq,
                              "n_batch", (int)r->ask.n_batch,
                              "ranks", json_ranks(r),
                              "nodes", json_nodes(r),
                              "layouts", json_layouts(r),
                              "advice",
                              "n_ctx", json_advice(r->advice_ctx),
                              "n_nodes", json_advice(r->advice_nodes));
    /* clang-format on */
    return out_json_write(&value, err);
}

int launch_plan(const launch_plan_args_t *args)
{
    plan_run_t    r   = {0};
    base_err_t    err = {0};
    int           rc  = 0;
    base_status_t st  = model_read(args, &r, &err);

    if (st == BASE_OK) st = cluster_read(args, &r.cluster, &err);
    if (st == BASE_OK) st = ask_read(args, &r, &err);
    if (st == BASE_OK) st = choose(&r, &err);
    if (st != BASE_OK) goto out;
    if (!r.choice.fits) advise(&r);
    if (!nodes_alike(&r.cluster)) r.advice_nodes = 0;
    st = args->json ? print_json(&r, &err) : print_table(&r, &err);
    if (st != BASE_OK) goto out;
    if (!r.choice.fits) {
        say_misfit(&r);
        rc = 1;
    }
out:
    if (st == BASE_ERR_USAGE)
        rc = cli_usage_error(&err, "plan");
    else if (st != BASE_OK)
        rc = out_fail(&err);
    part_choice_free(&r.choice);
    part_cluster_free(&r.cluster);
    model_desc_free(&r.shape);
    model_close(&r.model);
    return rc;
}
