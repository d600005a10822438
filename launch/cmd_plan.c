/* launch/cmd_plan.c: the plan command: a model and a cluster in. The thinking is done by
 * partition/choose.h, the saying by plan_table.c, plan_json.c and plan_scale.c. */
#include "launch/cmd_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "launch/cli.h"
#include "launch/output.h"
#include "launch/plan_report.h"
#include "model/model.h"
#include "quantize/synth.h"
#include "worker/worker.h"

enum {
    PROMPT_DEFAULT = 512,
    CTX_LEAST      = 512, /* no shorter context is advised */
};

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

/* One name for two nodes: a launcher takes them for one machine, with one memory. */
static void warn_of_twins(const char *path, const part_cluster_t *cluster)
{
    for (uint32_t i = 1; i < cluster->n_nodes; i++)
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(cluster->nodes[i].name, cluster->nodes[k].name) == 0) {
                base_log(BASE_LOG_WARN,
                         "--cluster %.200s: nodes %u and %u are both named %s: planned as two "
                         "machines, but a launcher starts both on one; give each its own name",
                         path, k + 1, i + 1, cluster->nodes[i].name);
                return;
            }
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
        base_status_t st = part_cluster_load(args->cluster, ranks, cluster, err);
        if (st == BASE_OK) warn_of_twins(args->cluster, cluster);
        return st;
    }
    if (args->mem == NULL)
        return base_fail(err, BASE_ERR_USAGE,
                         "no cluster: give --cluster FILE.json, or --mem 24G and --nodes N");
    if (!part_size_parse(args->mem, &node.mem_bytes) || node.mem_bytes < 1 << 20 ||
        node.mem_bytes > UINT64_C(1) << 50)
        return base_fail(err, BASE_ERR_USAGE,
                         "--mem %.60s: expected a size from 1M to 1024T, as in 24G, 1.5T, 512M",
                         args->mem);
    if ((uint64_t)ranks * (args->nodes == 0 ? 1 : args->nodes) > LIMIT_RANKS)
        return base_fail(err, BASE_ERR_USAGE,
                         "--nodes %u with --ranks-per-node %u: %d ranks at most", args->nodes,
                         ranks, LIMIT_RANKS);
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
    const uint32_t n_seq = args->n_seq != 0 ? args->n_seq : 1;
    part_ask_t     ask   = {.n_ctx = ctx, .n_seq = n_seq, .n_out = n_seq};
    ask.ternary_bits     = strcmp(r->pack, "t3") == 0 ? 1.6 : 2;
    ask.type_k           = args->type_k;
    ask.type_v           = args->type_v;
    ask.n_batch          = args->n_batch != 0 ? args->n_batch : PLAN_BATCH_DEFAULT;
    ask.layout           = args->layout;
    ask.split            = args->split;
    ask.depth            = args->depth;
    ask.n_prompt         = args->n_prompt != 0 ? args->n_prompt : PROMPT_DEFAULT;
    ask.streams          = args->streams;
    ask.file_first       = args->files == NULL || strcmp(args->files, "first") == 0;

    ask.pipeline_parallel = args->pipeline_parallel;
    ask.tensor_parallel   = args->tensor_parallel;
    r->ask                = ask;
    const char *what      = args->optimize == NULL ? "decode" : args->optimize;
    r->ask.optimize       = strcmp(what, "prefill") == 0      ? PART_FOR_PREFILL
                            : strcmp(what, "throughput") == 0 ? PART_FOR_THROUGHPUT
                                                              : PART_FOR_DECODE;
    r->head = args->head != NULL && strcmp(args->head, "auto") != 0 ? args->head : NULL;
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

/* Would so many nodes like the first do, joined as these are? */
static bool nodes_would_do(const plan_run_t *r, uint32_t n)
{
    part_cluster_t c   = {0};
    part_ask_t     ask = r->ask;

    ask.layout = ask.split = NULL;
    ask.pipeline_parallel = ask.tensor_parallel = 0;
    if ((uint64_t)n * r->cluster.nodes[0].ranks > LIMIT_RANKS) return false;
    if (part_cluster_uniform(n, &r->cluster.nodes[0], r->cluster.latency, r->cluster.net, &c,
                             NULL) != BASE_OK)
        return false;
    const bool fits = would_fit(&c, r, &ask);
    part_cluster_free(&c);
    return fits;
}

/* The fewest, above those there are; 0: none. As plan_needs looks for them. */
static uint32_t nodes_fewest(const plan_run_t *r)
{
    uint32_t low = r->cluster.n_nodes, high = low + 1;

    while (!nodes_would_do(r, high)) {
        if (high >= LIMIT_RANKS) return 0;
        low  = high;
        high = (uint32_t)base_min_size(2 * (size_t)high, LIMIT_RANKS);
    }
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (nodes_would_do(r, middle))
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* Single changes, each tried alone. */
static void advise(plan_run_t *r)
{
    part_ask_t ask = r->ask;

    for (uint32_t ctx = r->ask.n_ctx / 2; ctx >= CTX_LEAST && r->advice_ctx == 0; ctx /= 2) {
        ask.n_ctx = ctx;
        if (ask.n_batch > ctx * ask.n_seq) ask.n_batch = ctx * ask.n_seq;
        if (would_fit(&r->cluster, r, &ask)) r->advice_ctx = ctx;
    }
    ask              = r->ask;
    ask.ternary_bits = 1.6;
    r->advice_pack   = r->ask.ternary_bits > 1.6 && would_fit(&r->cluster, r, &ask);
    ask              = r->ask;
    ask.type_k = ask.type_v = MODEL_F16;
    r->advice_cache         = would_fit(&r->cluster, r, &ask);
    r->advice_nodes         = nodes_fewest(r);
}

static bool nodes_alike(const part_cluster_t *c)
{
    for (uint32_t i = 1; i < c->n_nodes; i++)
        if (c->nodes[i].mem_bytes != c->nodes[0].mem_bytes ||
            c->nodes[i].ranks != c->nodes[0].ranks)
            return false;
    return true;
}

static base_status_t check_scale(const launch_plan_args_t *args, base_err_t *err)
{
    if (args->n_scale == 0 && args->weak)
        return base_fail(err, BASE_ERR_USAGE, "--weak: belongs to --scale N,...");
    if (args->n_scale == 0 && args->format != NULL && strcmp(args->format, "text") != 0)
        return base_fail(err, BASE_ERR_USAGE, "--output %s: belongs to --scale N,...",
                         args->format);
    if (args->n_scale > 0 && args->layout != NULL)
        return base_fail(err, BASE_ERR_USAGE, "--scale: finds the layouts, leave --layout out");
    return BASE_OK;
}

/* One choice, its table or JSON. *fits: whether it does. */
static base_status_t choose_and_print(const launch_plan_args_t *args, plan_run_t *r, bool *fits,
                                      base_err_t *err)
{
    base_status_t st = choose(r, err);
    if (st == BASE_OK) st = plan_needs(&r->desc, &r->cluster.nodes[0], &r->ask, r->needs, err);
    if (st != BASE_OK) return st;
    if (!r->choice.fits) advise(r);
    if (!nodes_alike(&r->cluster)) r->advice_nodes = 0;
    *fits = r->choice.fits;
    return args->json ? plan_print_json(r, err) : plan_print_table(r, err);
}

int launch_plan(const launch_plan_args_t *args)
{
    plan_run_t   *r    = NULL; /* large: not on the stack */
    base_err_t    err  = {0};
    bool          fits = true;
    int           rc   = 0;
    base_status_t st   = base_alloc((void **)&r, 1, sizeof(*r), "plan", &err);

    if (st != BASE_OK) return out_fail(&err);
    st = check_scale(args, &err);
    if (st == BASE_OK) st = model_read(args, r, &err);
    if (st == BASE_OK) st = cluster_read(args, &r->cluster, &err);
    if (st == BASE_OK) st = ask_read(args, r, &err);
    if (st != BASE_OK) goto out;
    r->explain    = args->explain;
    r->model_name = args->model_path;
    if (args->n_scale > 0) {
        const char        *format = args->json ? "json" : args->format;
        const plan_scale_t scale  = {args->scale, args->n_scale, args->weak,
                                    format == NULL ? "text" : format};
        st                        = plan_scale(r, &scale, &err);
        goto out;
    }
    st = choose_and_print(args, r, &fits, &err);
    if (st == BASE_OK && !fits) {
        plan_say_misfit(r);
        rc = 1;
    }
out:
    if (st == BASE_ERR_USAGE)
        rc = cli_usage_error(&err, "plan");
    else if (st != BASE_OK)
        rc = out_fail(&err);
    part_choice_free(&r->choice);
    part_cluster_free(&r->cluster);
    model_desc_free(&r->shape);
    model_close(&r->model);
    free(r);
    return rc;
}
