/* launch/engine.c
 * One model over all ranks: start (topology, plan, assignments, shards), steps, figures, end. */
#include "launch/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/tokenizer.h"
#include "launch/cluster_plan.h"
#include "launch/cores.h"
#include "launch/engine_source.h"
#include "launch/host_load.h"
#include "launch/pack_choice.h"
#include "launch/process.h"
#include "partition/assignment_wire.h"
#include "partition/step_wire.h"
#include "quantize/synth.h"
#include "worker/locality.h"
#include "worker/measure.h"
#include "worker/worker.h"

enum { BATCH_DEFAULT = 256, CHUNK_MIN = 48 };

/* A step with rows that has not been collected. */
typedef struct {
    uint32_t row0, rows;
    uint32_t left; /* parts of it whose rows are still to come */
} flight_t;

struct engine {
    comm_world_t        *world;
    comm_grid_t         *grid;
    model_t             *model; /* rank 0 */
    engine_source_t      source;
    char                 hint[192]; /* rank 0: who else can read the model */
    bool                 some_cannot;
    part_assignment_t    part;
    worker_topology_t   *topology;
    worker_team_t       *team;
    worker_t            *worker;
    bool                 measure;
    worker_meter_t      *meter; /* with config.measure; NULL where ranks share a host */
    engine_info_t        info;
    uint64_t             step_us; /* in steps since the last reset */
    uint64_t             rss_bytes;
    bool                 pinned;    /* thread i of the team on core i of the topology's part */
    uint64_t             head_rows; /* at the last reset */
    engine_rank_stats_t *records;   /* rank 0: one per rank */
    part_batch_limits_t  limits;    /* of a step */
    part_step_room_t    *room;      /* other ranks: of the step at hand */
    flight_t             flights[PART_FLIGHTS_MAX]; /* rank 0: a ring, oldest first */
    uint32_t             flight_first, flight_n, flight_most;
    part_run_t           runs[LIMIT_SEQUENCES]; /* rank 0: of the part at hand */
    char                 pack_reason[PACK_TEXT_BYTES];
    uint8_t              message[PART_STEP_MAX_BYTES];
};

/* --- start --- */

/* mpirun's own default, when nobody chose a binding: up to two ranks, a core each. */
static void warn_narrow(const engine_t *e, const engine_config_t *config)
{
    int bound   = worker_topology_binding(e->topology).n_cores * comm_local_size(e->world);
    int machine = worker_topology_machine(e->topology);
    if (comm_rank(e->world) != 0 || config->n_threads != 0 || bound >= machine ||
        comm_local_size(e->world) > 2 || worker_topology_binding(e->topology).n_cores != 1 ||
        getenv("OMPI_COMM_WORLD_SIZE") == NULL ||
        getenv("OMPI_MCA_hwloc_base_binding_policy") != NULL)
        return;
    base_log(BASE_LOG_WARN,
             "mpirun bound each rank to one core, %d of %d lie idle: use mpirun --bind-to none, or "
             "-t 1 if it is meant so",
             machine - bound, machine);
}

static bool wants_screen(const engine_config_t *config, const model_desc_t *desc)
{
    const char *head = config->head != NULL ? config->head : "full";
    if (strcmp(head, "auto") == 0) return part_screen_pays(desc);
    return strcmp(head, "screened") == 0 && part_screen_possible(desc);
}

/* The numbers that the user left open. */
static base_status_t fill_numbers(const engine_config_t *config, const model_desc_t *desc,
                                  part_assignment_t *a, base_err_t *err)
{
    const char *pack = config->pack != NULL ? config->pack : "auto"; /* ranks find out */
    uint64_t    ctx  = config->n_ctx != 0 ? config->n_ctx : desc->context;
    if (strcmp(pack, "auto") != 0 && !worker_pack_known(pack))
        return base_fail(err, BASE_ERR_USAGE, "--pack %s: not a packed format (auto, t2, t3)",
                         pack);
    if (config->cpu != NULL && !worker_cpu_known(config->cpu))
        return base_fail(err, BASE_ERR_USAGE, "--cpu %s: not a variant of kernels", config->cpu);
    if (ctx == 0 || ctx > LIMIT_CONTEXT)
        return base_fail(err, BASE_ERR_USAGE, "-c %llu: 1 to %d positions", (unsigned long long)ctx,
                         LIMIT_CONTEXT);
    if (config->n_seq > LIMIT_SEQUENCES)
        return base_fail(err, BASE_ERR_USAGE, "-np %u: 1 to %d sequences", config->n_seq,
                         LIMIT_SEQUENCES);
    if (ctx * config->n_seq > LIMIT_POSITIONS)
        return base_fail(err, BASE_ERR_USAGE, "%u sequences of %llu positions: %d together at most",
                         config->n_seq, (unsigned long long)ctx, LIMIT_POSITIONS);
    a->n_ctx     = (uint32_t)ctx;
    a->n_batch   = config->n_batch != 0 ? config->n_batch : BATCH_DEFAULT;
    a->type_k    = config->type_k != MODEL_NONE ? config->type_k : MODEL_F32;
    a->type_v    = config->type_v != MODEL_NONE ? config->type_v : MODEL_F32;
    a->n_seq     = config->n_seq != 0 ? config->n_seq : 1;
    a->n_out_max = config->n_out_max != 0 ? config->n_out_max : a->n_seq;
    if (a->n_batch > LIMIT_BATCH) a->n_batch = LIMIT_BATCH;
    if (a->n_batch > a->n_ctx * (uint64_t)a->n_seq) a->n_batch = a->n_ctx * a->n_seq;
    if (a->n_out_max > a->n_batch) a->n_out_max = a->n_batch;
    a->n_threads = config->n_threads;
    a->screen    = wants_screen(config, desc);
    (void)snprintf(a->pack, sizeof(a->pack), "%s", pack);
    (void)snprintf(a->cpu, sizeof(a->cpu), "%s", config->cpu != NULL ? config->cpu : "");
    return BASE_OK;
}

/* The model of the configuration: a file, or made in memory. */
static base_status_t open_model(engine_t *e, const engine_config_t *config, part_assignment_t *a,
                                base_err_t *err)
{
    const quant_shape_t *shape   = NULL;
    model_type_t         type    = MODEL_NONE;
    model_type_t         embed   = MODEL_NONE;
    model_open_options_t options = {.i2s_layout = config->i2s_layout};
    if (config->shape == NULL) return model_open_with(config->model_path, &options, &e->model, err);
    shape = quant_shape_find(config->shape);
    type  = quant_type_find(config->type);
    embed = quant_type_find(config->embed_type);
    if (shape == NULL || type == MODEL_NONE || embed == MODEL_NONE)
        return base_fail(err, BASE_ERR_USAGE, "no synthetic model of shape %s and type %s",
                         config->shape, config->type);
    a->synth_seed = config->seed;
    return quant_synth_model(shape, type, embed, config->seed, &e->model, err);
}

static base_status_t check_vocab(const model_t *model, base_err_t *err)
{
    coord_tokenizer_t *tokenizer = NULL;
    base_status_t      st        = coord_tokenizer_create(&model->vocab, &tokenizer, err);
    coord_tokenizer_destroy(&tokenizer);
    return st;
}

/* Rank 0: open the model and plan. The assignment borrows the model's desc. */
static base_status_t plan_model(engine_t *e, const engine_config_t *config, part_assignment_t *a,
                                base_err_t *err)
{
    part_wish_t   wish = {.n_ranks           = (uint32_t)comm_size(e->world),
                          .n_hosts           = (uint32_t)comm_host_count(e->world),
                          .layout            = config->layout,
                          .pipeline_parallel = config->pipeline_parallel,
                          .tensor_parallel   = config->tensor_parallel,
                          .split             = config->split};
    base_err_t    why  = {0};
    base_status_t st   = open_model(e, config, a, &why);
    if (st == BASE_ERR_IO) return base_fail(err, st, "%.300s%s", why.text, e->hint);
    if (st != BASE_OK) {
        *err = why;
        return st;
    }
    a->desc = e->model->desc;
    if (config->text) st = check_vocab(e->model, err);
    if (st == BASE_OK) st = fill_numbers(config, &a->desc, a, err);
    if (st != BASE_OK) return st;
    if (config->cluster != NULL)
        return cluster_plan(config->cluster, e->world, &wish,
                            e->some_cannot && config->shape == NULL, a, err);
    return part_plan_make(&wish, &a->desc, &a->plan, err);
}

/* Rank 0's part: one packed assignment per rank. */
static base_status_t pack_assignments(engine_t *e, part_assignment_t *a, void **messages,
                                      size_t *lengths, base_err_t *err)
{
    uint32_t      n     = a->synth_seed != 0 ? 0 : model_source_count(e->model->source);
    const char  **paths = NULL;
    base_status_t st    = base_alloc((void **)&paths, n, sizeof(*paths), "paths", err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < n; i++) paths[i] = model_source_path(e->model->source, i);
    a->paths   = paths;
    a->n_paths = n;
    for (int r = 0; r < comm_size(e->world) && st == BASE_OK; r++) {
        a->rank = (uint32_t)r;
        st      = part_assignment_pack(a, (uint8_t **)&messages[r], &lengths[r], err);
    }
    a->paths = NULL;
    free(paths);
    return st;
}

/* Every rank gets its part. *agreed: rank 0 could not plan, and all ranks know why. */
static base_status_t assign(engine_t *e, const engine_config_t *config, bool *agreed,
                            base_err_t *err)
{
    bool              root     = comm_rank(e->world) == 0;
    size_t            n        = (size_t)comm_size(e->world);
    part_assignment_t a        = {0};
    void            **messages = NULL;
    size_t           *lengths  = NULL;
    void             *mine     = NULL;
    size_t            bytes    = 0;
    base_status_t     st       = BASE_OK;

    if (root) {
        st = base_alloc((void **)&messages, n, sizeof(*messages), "plan", err);
        if (st == BASE_OK) st = base_alloc((void **)&lengths, n, sizeof(*lengths), "plan", err);
        if (st == BASE_OK) st = plan_model(e, config, &a, err);
        if (st == BASE_OK) st = pack_assignments(e, &a, messages, lengths, err);
    }
    st      = comm_agree(e->world, st, err);
    *agreed = st != BASE_OK;
    if (st != BASE_OK) goto out;
    st = comm_control_scatter(e->world, (const void *const *)messages, lengths, &mine, &bytes, err);
    if (st == BASE_OK) st = part_assignment_unpack(mine, bytes, &e->part, err);
    if (st == BASE_OK)
        e->limits = (part_batch_limits_t){
            .n_seq   = e->part.n_seq,
            .n_ctx   = e->part.n_ctx,
            .n_batch = part_micro_batch(e->part.plan.stages, e->part.n_batch, e->part.n_seq),
            .n_out   = e->part.n_out_max,
            .n_vocab = e->part.desc.n_vocab};
out:
    part_plan_free(&a.plan);
    for (size_t r = 0; messages != NULL && r < n; r++) free(messages[r]);
    free(messages);
    free(lengths);
    free(mine);
    return st;
}

/* The tensors of this rank must lie in the files that this rank sees. */
static base_status_t check_tensors(const engine_t *e, const model_source_t *source, base_err_t *err)
{
    const model_desc_t *d     = &e->part.desc;
    uint32_t            stage = e->part.rank / e->part.plan.shards;
    part_range_t        range = part_stage_layers(&e->part.plan, stage);
    base_status_t       st    = BASE_OK;
    if (stage == 0) st = model_source_check(source, &d->embed, "token_embd", err);
    if (st == BASE_OK && stage + 1 == e->part.plan.stages) {
        st = model_source_check(source, &d->head, "output", err);
        if (st == BASE_OK) st = model_source_check(source, &d->out_norm, "output_norm", err);
    }
    for (uint32_t l = range.begin; st == BASE_OK && l < range.end; l++)
        for (int i = 0; st == BASE_OK && i < MODEL_LAYER_TENSOR_COUNT; i++) {
            char name[64];
            (void)model_layer_tensor_name(l, (model_layer_tensor_t)i, name, sizeof(name));
            st = model_source_check(source, &d->layers[l].t[i], name, err);
        }
    return st;
}

/* A source to check tensors against where there is no file. */
static void no_rows(void *context, const model_tensor_t *tensor, uint64_t row, uint64_t block,
                    uint64_t n_blocks, uint8_t *out)
{
    (void)context, (void)tensor, (void)row, (void)block, (void)n_blocks, (void)out;
    base_assert(false);
}

static base_status_t check_source(const engine_t *e, base_err_t *err)
{
    const worker_origin_t *o  = &e->source.origin;
    model_source_t        *s  = NULL;
    base_status_t          st = BASE_OK;
    if (o->source != NULL) return check_tensors(e, o->source, err);
    st = model_source_remote(o->paths, o->bytes, o->n_paths, no_rows, NULL, &s, err);
    if (st == BASE_OK) st = check_tensors(e, s, err);
    model_source_close(&s);
    return st;
}

/* Collective: who has the files. */
static base_status_t open_source(engine_t *e, const engine_config_t *config, base_err_t *err)
{
    engine_source_t *s    = &e->source;
    const bool       root = comm_rank(e->world) == 0;
    base_status_t    st   = BASE_OK;
    if (e->part.synth_seed != 0) {
        if (!root) st = quant_synth_source(e->part.desc.name, e->part.synth_seed, &s->own, err);
        s->origin.source = root ? e->model->source : s->own;
    } else {
        st = engine_source_open(s, e->world, config->model_path, config->cache_dir,
                                root ? e->model->source : NULL, root ? &e->model->desc : NULL,
                                &e->part, root && !config->quiet, err);
    }
    if (st == BASE_OK) st = check_source(e, err);
    return st;
}

static base_status_t start_team(engine_t *e, const engine_config_t *config, base_err_t *err)
{
    uint32_t n =
        e->part.n_threads != 0 ? e->part.n_threads : launch_default_threads(e->world, e->topology);
    bool fits         = worker_topology_fits(e->topology, (int)n);
    e->part.n_threads = n;
    e->pinned         = !config->no_pin && fits;
    return worker_team_create((int)n, e->topology, e->pinned, fits, &e->team, err);
}

static base_status_t start_worker(engine_t *e, const engine_config_t *config, base_err_t *err)
{
    worker_config_t w = {.desc       = &e->part.desc,
                         .origin     = &e->source.origin,
                         .plan       = &e->part.plan,
                         .grid       = e->grid,
                         .team       = e->team,
                         .pack       = e->part.pack,
                         .pack_cache = config->pack_cache,
                         .cpu        = e->part.cpu[0] != '\0' ? e->part.cpu : NULL,
                         .limits     = e->limits,
                         .type_k     = e->part.type_k,
                         .type_v     = e->part.type_v,
                         .is_root    = e->part.rank == 0,
                         .screen     = e->part.screen,
                         .progress   = e->part.rank == 0 && !config->quiet};
    return worker_create(&w, &e->worker, err);
}

/* Without the meter's memory, which is no part of the model's. */
static void note_rss(engine_t *e)
{
    uint64_t now  = process_anonymous_bytes();
    uint64_t ours = e->meter != NULL ? worker_measure_bytes(worker_team_size(e->team)) : 0;
    now           = now > ours ? now - ours : 0;
    if (now > e->rss_bytes) e->rss_bytes = now;
}

/* Ranks that share a host would measure each other's leavings, not the host. Without memory for it
 * the bandwidth is not known. */
static void start_meter(engine_t *e)
{
    const char *cpu = e->part.cpu[0] != '\0' ? e->part.cpu : NULL;
    if (comm_local_size(e->world) > 1) return;
    if (worker_meter_create(e->team, worker_team_size(e->team), cpu, &e->meter, NULL) != BASE_OK)
        e->meter = NULL;
}

/* Where the weights of this rank lie. Threads that are not pinned have no domain of their own. */
static void look_at_pages(const engine_t *e, engine_rank_stats_t *mine)
{
    worker_locality_t l = worker_locality(e->worker, e->topology);
    if (!e->pinned) return;
    mine->numa_pages = l.pages - l.unknown;
    mine->numa_local = l.local;
}

static void look_at_kv(const engine_t *e, engine_rank_stats_t *mine)
{
    worker_locality_t l = worker_locality_kv(e->worker, e->topology);
    if (!e->pinned) return;
    mine->kv_pages = l.pages - l.unknown;
    mine->kv_local = l.local;
}

static void judge_pages(engine_t *e, uint64_t pages, uint64_t local)
{
    e->info.numa_local = pages == 0 ? -1 : (double)local / (double)pages;
    if (pages == 0 || comm_rank(e->world) != 0) return;
    base_log(local * 10 < pages * 9 ? BASE_LOG_WARN : BASE_LOG_DEBUG,
             "%llu of %llu sampled pages of weights lie on the memory domain of their thread%s",
             (unsigned long long)local, (unsigned long long)pages,
             local * 10 < pages * 9 ? ": one rank for each domain reads faster (mpirun --map-by "
                                      "numa --bind-to numa)"
                                    : "");
}

static base_status_t fill_info(engine_t *e, uint64_t start_us, bool quiet, base_err_t *err)
{
    uint64_t            pages = 0;
    uint64_t            local = 0;
    engine_info_t      *info  = &e->info;
    worker_feed_stats_t from  = worker_load_stats(e->worker);
    engine_rank_stats_t mine  = {.shard_bytes      = worker_weight_bytes(e->worker),
                                 .weights_received = from.received,
                                 .weights_cached   = from.kept};
    size_t              n     = (size_t)comm_size(e->world);
    base_status_t       st    = BASE_OK;
    (void)part_layout_name(&e->part.plan, info->layout, sizeof(info->layout));
    (void)snprintf(info->cpu, sizeof(info->cpu), "%s", worker_cpu_name(e->worker));
    (void)snprintf(info->pack, sizeof(info->pack), "%s", e->part.pack);
    (void)snprintf(info->pack_reason, sizeof(info->pack_reason), "%s", e->pack_reason);
    (void)snprintf(info->pack_cache, sizeof(info->pack_cache), "%s", worker_pack_cache(e->worker));
    info->screened = e->part.screen;
    info->n_ranks  = (uint32_t)n;
    info->n_hosts  = (uint32_t)comm_host_count(e->world);
    info->load_s   = (double)(base_clock_us() - start_us) * 1e-6;
    note_rss(e);
    look_at_pages(e, &mine);
    st = comm_gather_records(e->world, &mine, sizeof(mine), e->records, err);
    for (size_t r = 0; st == BASE_OK && e->records != NULL && r < n; r++) {
        info->weight_bytes += e->records[r].shard_bytes;
        info->weights_received_bytes += e->records[r].weights_received;
        info->weights_cached_bytes += e->records[r].weights_cached;
        pages += e->records[r].numa_pages;
        local += e->records[r].numa_local;
    }
    judge_pages(e, pages, local);
    if (st == BASE_OK && e->source.n_without > 0 && !quiet)
        base_log(
            BASE_LOG_INFO,
            "weights of %u rank%s without the file (%srank %d on %s): %.1f MiB sent, %.1f MiB from "
            "their caches, in %.1f s",
            e->source.n_without, base_plural(e->source.n_without),
            e->source.n_without > 1 ? "first " : "", e->source.without,
            comm_host_name(e->world, e->source.without),
            (double)info->weights_received_bytes / 1048576.0,
            (double)info->weights_cached_bytes / 1048576.0, info->load_s);
    return st;
}

static base_status_t prepare(engine_t *e, const engine_config_t *config, base_err_t *err)
{
    size_t        n  = (size_t)comm_size(e->world);
    base_status_t st = worker_topology_open(comm_host_index(e->world), &e->topology, err);
    if (st == BASE_OK && comm_rank(e->world) == 0)
        st = base_alloc((void **)&e->records, n, sizeof(*e->records), "figures", err);
    if (st == BASE_OK && comm_rank(e->world) == 0 && config->model_path == NULL &&
        config->shape == NULL)
        st = base_fail(err, BASE_ERR_USAGE, "no model: give one with -m");
    return st;
}

base_status_t engine_start(comm_world_t *world, const engine_config_t *config, engine_t **out,
                           base_err_t *err)
{
    engine_t     *e      = NULL;
    bool          agreed = false;
    uint64_t      start  = base_clock_us();
    base_status_t st     = base_alloc((void **)&e, 1, sizeof(*e), "engine", err);
    st                   = comm_agree(world, st, err);
    if (st != BASE_OK) {
        free(e);
        return st;
    }
    e->world = world;
    st       = comm_agree(world, prepare(e, config, err), err);
    if (st != BASE_OK) goto out;
    st = comm_agree(world, launch_share_cores(world, e->topology, err), err);
    if (st == BASE_OK)
        st = engine_source_hint(world, config->model_path, e->hint, sizeof(e->hint),
                                &e->some_cannot, err);
    if (st != BASE_OK) goto out;
    warn_narrow(e, config);
    st = assign(e, config, &agreed, err);
    if (agreed) goto out;
    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    st = open_source(e, config, err);
    if (st == BASE_OK) st = base_alloc((void **)&e->room, 1, sizeof(*e->room), "step", err);
    if (st == BASE_OK) st = start_team(e, config, err);
    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    launch_set_quota(world);
    st = comm_world_set_threads(world, e->part.n_threads, err);
    if (st == BASE_OK)
        st = pack_choose(world, e->team, &e->part, worker_topology_machine(e->topology),
                         e->pack_reason, err);
    if (st == BASE_OK)
        st = host_load_check(world, e->topology, &e->part,
                             worker_topology_fits(e->topology, (int)e->part.n_threads),
                             config->oversubscribe, err);
    if (st == BASE_OK)
        st = comm_grid_create(world, e->part.plan.stages, e->part.plan.shards, &e->grid, err);
    if (st == BASE_OK)
        st = comm_grid_reserve(e->grid, (size_t)e->limits.n_batch * e->part.desc.width, err);
    if (st == BASE_OK) st = start_worker(e, config, err);
    if (st == BASE_OK && e->source.origin.source != NULL)
        st = model_source_unchanged(e->source.origin.source, err);
    st = comm_agree(world, st, err);
    engine_source_loaded(&e->source, world);
    if (st != BASE_OK) goto out;
    st = fill_info(e, start, config->quiet, err);
    if (st != BASE_OK) goto out;
    e->measure = config->measure;
    if (e->measure) start_meter(e);
    *out = e;
    e    = NULL;
out:
    engine_destroy(&e);
    return st;
}

void engine_destroy(engine_t **engine)
{
    engine_t *e = engine == NULL ? NULL : *engine;
    if (e == NULL) return;
    worker_destroy(&e->worker);
    worker_meter_destroy(&e->meter);
    worker_team_destroy(&e->team);
    worker_topology_close(&e->topology);
    comm_grid_destroy(&e->grid);
    part_assignment_free(&e->part);
    engine_source_loaded(&e->source, e->world);
    engine_source_close(&e->source);
    model_close(&e->model);
    free(e->records);
    free(e->room);
    free(e);
    *engine = NULL;
}

/* --- steps --- */

/* Inside a step there is no agreement any more: a failed exchange ends the run for all. */
static base_status_t end_part(engine_t *e, base_status_t st, uint64_t start,
                              const base_err_t *local, base_err_t *err)
{
    e->step_us += base_clock_us() - start;
    if (st != BASE_OK && comm_size(e->world) > 1) comm_world_abort(e->world, local);
    if (st != BASE_OK && err != NULL) *err = *local;
    return st;
}

static base_status_t run_step(engine_t *e, const part_step_t *step, uint32_t row0, base_err_t *err)
{
    base_err_t local = {0};
    uint64_t   start = base_clock_us();
    return end_part(e, worker_step(e->worker, &step->batch, row0, &local), start, &local, err);
}

static base_status_t send_step(engine_t *e, const part_step_t *step, base_err_t *err)
{
    size_t        n  = 0;
    base_status_t st = BASE_OK;
    if (comm_size(e->world) == 1) return BASE_OK;
    st = part_step_pack(step, e->message, sizeof(e->message), &n, err);
    if (st != BASE_OK) return st;
    return comm_control_send(e->world, e->message, n, err);
}

static flight_t *flight_at(engine_t *e, uint32_t i)
{
    return &e->flights[(e->flight_first + i) % PART_FLIGHTS_MAX];
}

/* Rows of the oldest part that are still to come. */
static base_status_t collect_part(engine_t *e, base_err_t *err)
{
    base_err_t    local = {0};
    uint64_t      start = base_clock_us();
    base_status_t st    = worker_collect(e->worker, &local);
    for (uint32_t i = 0; i < e->flight_n; i++)
        if (flight_at(e, i)->left > 0) {
            flight_at(e, i)->left--;
            break;
        }
    return end_part(e, st, start, &local, err);
}

static uint32_t parts_to_come(engine_t *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->flight_n; i++) n += flight_at(e, i)->left;
    return n;
}

/* A row range that no step in flight has. Ranges are given out like those of a ring. */
static base_status_t take_rows(engine_t *e, uint32_t rows, uint32_t *row0, base_err_t *err)
{
    const flight_t *last = e->flight_n == 0 ? NULL : flight_at(e, e->flight_n - 1);
    *row0                = last == NULL ? 0 : last->row0 + last->rows;
    if (*row0 + rows > e->part.n_out_max) *row0 = 0;
    for (uint32_t i = 0; i < e->flight_n; i++) {
        const flight_t *f = flight_at(e, i);
        if (*row0 < f->row0 + f->rows && f->row0 < *row0 + rows)
            return base_fail(err, BASE_ERR_USAGE,
                             "%u rows of logits wanted besides those in flight, %u in all", rows,
                             e->part.n_out_max);
    }
    return BASE_OK;
}

static base_status_t open_flight(engine_t *e, uint32_t rows, uint32_t *row0, base_err_t *err)
{
    flight_t     *f  = flight_at(e, e->flight_n);
    base_status_t st = BASE_OK;
    *row0            = 0;
    if (rows == 0) return BASE_OK;
    if (e->flight_n == engine_depth(e))
        return base_fail(err, BASE_ERR_USAGE, "%u steps in flight already", e->flight_n);
    st = take_rows(e, rows, row0, err);
    if (st != BASE_OK) return st;
    *f = (flight_t){.row0 = *row0, .rows = rows};
    e->flight_n++;
    if (e->flight_n > e->flight_most) e->flight_most = e->flight_n;
    return BASE_OK;
}

/* Tokens of a part: small enough to keep all stages at work, large enough for the kernels. */
static uint32_t part_tokens(const engine_t *e, uint32_t n)
{
    uint32_t chunk = n / (4 * e->part.plan.stages);
    if (e->part.plan.stages == 1) return n;
    if (chunk < CHUNK_MIN) chunk = CHUNK_MIN;
    return chunk > e->limits.n_batch ? e->limits.n_batch : chunk;
}

static base_status_t run_part(engine_t *e, const part_step_t *step, uint32_t row0, base_err_t *err)
{
    bool          to_come = part_batch_rows(&step->batch) > 0 && e->part.plan.stages > 1;
    base_status_t st      = BASE_OK;
    if (to_come && parts_to_come(e) == COMM_LOGITS_AHEAD) st = collect_part(e, err);
    if (st == BASE_OK) st = send_step(e, step, err);
    if (st == BASE_OK) st = run_step(e, step, row0, err);
    if (st == BASE_OK && to_come) flight_at(e, e->flight_n - 1)->left++;
    return st;
}

base_status_t engine_submit(engine_t *e, const part_batch_t *batch, base_err_t *err)
{
    part_batch_limits_t whole = e->limits;
    uint32_t            row0  = 0;
    base_status_t       st    = BASE_OK;
    whole.n_batch             = e->part.n_batch;
    if (comm_interrupted()) return base_fail(err, BASE_ERR_INTERRUPTED, "interrupted");
    st = part_batch_check(batch, &whole, err);
    if (st == BASE_OK) st = open_flight(e, part_batch_rows(batch), &row0, err);
    uint32_t chunk = part_tokens(e, batch->n_ids);
    for (uint32_t at = 0; st == BASE_OK && at < batch->n_ids; at += chunk) {
        part_step_t step = {.kind  = PART_STEP_TOKENS,
                            .batch = part_batch_cut(batch, at, chunk, e->runs)};
        st               = run_part(e, &step, row0, err);
        row0 += part_batch_rows(&step.batch);
    }
    return st;
}

base_status_t engine_collect(engine_t *e, const float **logits, base_err_t *err)
{
    flight_t     *f  = flight_at(e, 0);
    base_status_t st = BASE_OK;
    base_assert(e->flight_n > 0);
    while (st == BASE_OK && f->left > 0) st = collect_part(e, err);
    if (st != BASE_OK) return st;
    *logits         = worker_logits(e->worker) + (size_t)f->row0 * e->part.desc.n_vocab;
    e->flight_first = (e->flight_first + 1) % PART_FLIGHTS_MAX;
    e->flight_n--;
    return BASE_OK;
}

base_status_t engine_step(engine_t *e, const part_batch_t *batch, const float **logits,
                          base_err_t *err)
{
    base_assert(e->flight_n == 0);
    base_status_t st = engine_submit(e, batch, err);
    return st == BASE_OK && e->flight_n > 0 ? engine_collect(e, logits, err) : st;
}

uint32_t engine_stages(const engine_t *e)
{
    return e->part.plan.stages;
}

uint32_t engine_depth(const engine_t *e)
{
    return e->part.plan.stages == 1 ? 1 : PART_FLIGHTS_MAX;
}

uint32_t engine_most_flights(const engine_t *e)
{
    return e->flight_most;
}

/* --- figures --- */

_Static_assert((int)ENGINE_PARTS == (int)WORKER_PARTS, "engine.h names the worker's parts");
const char *const engine_part_names[ENGINE_PARTS] = {"weights", "attention", "head",
                                                     "norms",   "comm",      "wait"};

static engine_rank_stats_t own_stats(engine_t *e, bool reset)
{
    comm_stats_t        c = comm_stats(e->grid);
    engine_rank_stats_t s = {.shard_bytes = worker_weight_bytes(e->worker),
                             .kv_bytes    = worker_kv_bytes(e->worker),
                             .compute_us  = e->step_us > c.wait_us ? e->step_us - c.wait_us : 0,
                             .comm_us     = c.wait_us,
                             .comm_bytes  = c.bytes,
                             .head_rows   = worker_head_rows(e->worker) - e->head_rows};
    worker_times(e->worker, s.part_ns, reset);
    look_at_kv(e, &s);
    note_rss(e);
    s.rss_bytes = e->rss_bytes;
    if (e->measure) s.huge_share = process_huge_share();
    if (e->meter != NULL) s.bandwidth = worker_meter_look(e->meter);
    if (reset) {
        comm_stats_reset(e->grid);
        e->step_us   = 0;
        e->head_rows = worker_head_rows(e->worker);
    }
    return s;
}

base_status_t engine_stats(engine_t *e, engine_rank_stats_t *stats, bool reset, base_err_t *err)
{
    base_assert(e->flight_n == 0);
    part_step_t         step = {.kind = PART_STEP_STATS, .reset = reset};
    engine_rank_stats_t mine = {0};
    base_status_t       st   = send_step(e, &step, err);
    if (st != BASE_OK) return st;
    mine = own_stats(e, reset);
    return comm_gather_records(e->world, &mine, sizeof(mine), stats, err);
}

/* --- the other ranks --- */

/* One message of rank 0. *stop: it was the last. */
static base_status_t serve_one(engine_t *e, bool *stop, base_err_t *err)
{
    size_t              n    = 0;
    part_step_t         step = {0};
    engine_rank_stats_t mine = {0};
    base_status_t       st   = comm_control_recv(e->world, e->message, sizeof(e->message), &n, err);
    if (st == BASE_OK) st = part_step_unpack(e->message, n, &e->limits, &step, e->room, err);
    if (st != BASE_OK) return st;
    switch (step.kind) {
    case PART_STEP_STOP: *stop = true; return BASE_OK;
    case PART_STEP_STATS:
        mine = own_stats(e, step.reset);
        return comm_gather_records(e->world, &mine, sizeof(mine), NULL, err);
    case PART_STEP_TOKENS: return run_step(e, &step, 0, err);
    }
    return base_fail(err, BASE_ERR_PEER, "rank 0 sent a step of an unknown kind");
}

base_status_t engine_serve(engine_t *e, base_err_t *err)
{
    bool          stop = false;
    base_err_t    local;
    base_status_t st = BASE_OK;
    while (st == BASE_OK && !stop) st = serve_one(e, &stop, &local);
    /* Rank 0 would wait for this rank: the run is over for all. */
    if (st != BASE_OK && st != BASE_ERR_INTERRUPTED) comm_world_abort(e->world, &local);
    if (st != BASE_OK && err != NULL) *err = local;
    return st;
}

/* Steps in flight come home first: the last stage is sending their rows. */
base_status_t engine_stop(engine_t *e, base_err_t *err)
{
    part_step_t   step = {.kind = PART_STEP_STOP};
    base_status_t st   = BASE_OK;
    while (st == BASE_OK && parts_to_come(e) > 0) st = collect_part(e, err);
    e->flight_n = 0;
    return st == BASE_OK ? send_step(e, &step, err) : st;
}

/* --- what commands ask --- */

const model_t *engine_model(const engine_t *engine)
{
    return engine->model;
}

uint32_t engine_n_ctx(const engine_t *engine)
{
    return engine->part.n_ctx;
}

uint32_t engine_n_seq(const engine_t *engine)
{
    return engine->part.n_seq;
}

uint32_t engine_n_batch(const engine_t *engine)
{
    return engine->part.n_batch;
}

uint32_t engine_n_threads(const engine_t *engine)
{
    return engine->part.n_threads;
}

engine_info_t engine_info(const engine_t *engine)
{
    return engine->info;
}
