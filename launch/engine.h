/* launch/engine.h
 * The engine as commands see it: one model over all ranks, driven from rank 0.
 *
 * Every rank calls engine_start with the same configuration. Then rank 0 makes steps and stops; the
 * other ranks call engine_serve, which returns when rank 0 stops. Errors during start are agreed
 * on: every rank returns the same status, with the failing rank's text. */
#ifndef TRIREME_LAUNCH_ENGINE_H
#define TRIREME_LAUNCH_ENGINE_H

#include "base/status.h"
#include "comm/comm.h"
#include "model/model.h"
#include "partition/batch.h"

typedef struct {
    const char
        *shape; /* a synthetic model made in memory (quantize/synth.h) instead of a file: its */
    const char        *type;       /* shape, the type of its ternary layers ("tq2_0"), */
    const char        *embed_type; /* that of its embedding ("f16"), */
    uint64_t           seed;       /* and its seed, not 0 */
    model_i2s_layout_t i2s_layout; /* of a file's I2_S tensors */
    const char        *model_path; /* file of the model, or NULL with `shape`; other ranks than 0
                                    * need not have it */
    const char        *cache_dir;  /* where ranks without the file keep their weights; or NULL */
    uint32_t           n_ctx;      /* positions of each sequence; 0: the model's context */
    model_type_t       type_k;     /* of the KV cache's keys: MODEL_F16, MODEL_F32; NONE: F32 */
    model_type_t       type_v;     /* and of its values */
    uint32_t           n_seq;      /* sequences of the KV cache, up to LIMIT_SEQUENCES; 0: 1 */
    uint32_t           n_batch;    /* tokens of one step, at most; 0: 256 */
    uint32_t           n_out_max;  /* rows of logits one step may ask for; 0: n_seq */
    uint32_t           n_threads; /* per rank; 0: automatic (SLURM_CPUS_PER_TASK, else the binding's
                               * cores shared out) */
    const char        *layout;    /* NULL: automatic */
    const char        *cluster;   /* a cluster file to choose layout and shares by; NULL: none */
    uint32_t           pipeline_parallel, tensor_parallel; /* 0: not given */
    const char        *split;                              /* NULL: "auto" */
    const char        *pack; /* "auto", "t2", "t3": packed ternary format; NULL: auto (what each
                               * host measures, launch/pack_choice.h) */
    const char        *pack_cache; /* folder of packed weights (worker/shard.h), or NULL */
    const char        *cpu;  /* "ref", "avx2", "avx512vbmi" at most; NULL: the best there is */
    const char        *head; /* "screened": keep coarse rows of the head (NUMERICS 9), "auto":
                               * where they pay; else no */
    bool               text; /* the work is on text: a vocabulary that cannot be used ends the
                              * start before weights are read or sent */
    bool               no_pin;
    bool               oversubscribe; /* more threads than cores are no mistake */
    bool               measure; /* engine_stats looks at the memory bandwidth: it takes 30 ms more,
                               * and worker_measure_bytes() stay reserved */
    bool               quiet;   /* no progress */
} engine_config_t;

typedef struct engine engine_t;

base_status_t engine_start(comm_world_t *world, const engine_config_t *config, engine_t **out,
                           base_err_t *err);
/* Ranks other than 0: work until rank 0 stops. */
base_status_t engine_serve(engine_t *engine, base_err_t *err);
/* Rank 0: let the others go. Then every rank calls engine_destroy (collective). */
base_status_t engine_stop(engine_t *engine, base_err_t *err);
void          engine_destroy(engine_t **engine);

/* One step on rank 0: the runs of a batch (partition/batch.h), up to n_batch tokens and n_out_max
 * rows of logits together.
 * *logits: the rows in the order of the runs, n_vocab floats each, the engine's, valid until the
 * next step; untouched if there are none: then with several stages the call returns when the first
 * stage is done.
 * Status: OK | USAGE (the batch does not fit the engine) | INPUT (an id) | PEER | INTERRUPTED. */
base_status_t engine_step(engine_t *engine, const part_batch_t *batch, const float **logits,
                          base_err_t *err);

/* The same in two halves, so that the stages of a pipeline work on different steps at the same
 * time. engine_submit begins a step; engine_collect gives the logits of the oldest step that has
 * rows and was not collected, valid until the next engine_submit. Each stage runs the steps in
 * their order: a step may go on with a sequence whose logits are still to come, where its tokens
 * are known. Up to engine_depth steps with rows may be in flight. Their rows are ranges of a ring
 * of n_out_max: F steps of up to R rows fit when (F + 1) * R <= n_out_max. Status: as above. */
base_status_t engine_submit(engine_t *engine, const part_batch_t *batch, base_err_t *err);
base_status_t engine_collect(engine_t *engine, const float **logits, base_err_t *err);
uint32_t      engine_depth(const engine_t *engine); /* 1 with one stage */
uint32_t      engine_stages(const engine_t *engine);
uint32_t engine_most_flights(const engine_t *engine); /* at a time so far, of steps with rows */

const model_t *engine_model(const engine_t *engine); /* rank 0 only: NULL elsewhere */
uint32_t       engine_n_ctx(const engine_t *engine);
uint32_t       engine_n_seq(const engine_t *engine);
uint32_t       engine_n_batch(const engine_t *engine);
uint32_t       engine_n_threads(const engine_t *engine);

typedef struct {
    char     layout[32];       /* "2x4" */
    char     cpu[16];          /* "avx512vnni" */
    char     pack[8];          /* "t2"; of rank 0, hosts may differ */
    char     pack_reason[160]; /* why, with the figures */
    char     pack_cache[8];    /* "read", "written", "none": by rank 0 */
    bool     screened;         /* coarse rows of the head are there */
    double   load_s;           /* engine_start, on rank 0 */
    uint32_t n_ranks, n_hosts;
    uint64_t weight_bytes;           /* packed + dense bytes read per token, all ranks */
    uint64_t weights_received_bytes; /* that ranks without the file got from others at the start */
    uint64_t weights_cached_bytes;   /* and found in their caches */
    double   numa_local; /* share of the sampled pages of weights that lie on the memory domain of
                            * the core that reads them; negative: not known */
} engine_info_t;
engine_info_t engine_info(const engine_t *engine);

/* Parts of a step's time, in the order of worker_part_t. */
enum { ENGINE_PARTS = 6 };
extern const char *const
    engine_part_names[ENGINE_PARTS]; /* "weights", "attention", "head", "norms", "comm", "wait" */

/* Per-rank figures, gathered to rank 0 by a step of its own (the other ranks are serving). */
typedef struct {
    uint32_t numa_pages;  /* of weights looked at when they were loaded, and */
    uint32_t numa_local;  /* those on the domain of their thread; at the start alone */
    uint32_t kv_pages;    /* the same of the KV cache, as far as it is written; of a domain that */
    uint32_t kv_local;    /* this rank has threads on */
    uint64_t rss_bytes;   /* peak anonymous resident memory (mapped file pages not counted) */
    uint64_t shard_bytes; /* weights held */
    uint64_t kv_bytes;
    uint64_t compute_us;            /* in kernels since the last reset */
    uint64_t comm_us;               /* waiting in communication since the last reset */
    uint64_t comm_bytes;            /* sent since the last reset */
    uint64_t head_rows;             /* of the screened head, read whole since the last reset */
    uint64_t part_ns[ENGINE_PARTS]; /* where the time of steps went since the last reset */
    double   bandwidth;  /* with config.measure and one rank a host: bytes a second that this rank's
                          * threads read from memory just now; 0: not known */
    double   huge_share; /* of its anonymous memory in huge pages; with config.measure, else 0 */
    uint64_t weights_received, weights_cached; /* engine_info_t's, of this rank, at the start */
} engine_rank_stats_t;
/* stats: n_ranks entries. reset: set the counters to zero afterwards. Rank 0. */
base_status_t engine_stats(engine_t *engine, engine_rank_stats_t *stats, bool reset,
                           base_err_t *err);

#endif
