/* worker/worker.h
 * One rank's runtime: its shard, its KV cache, its thread team, and the step through its layers. */
#ifndef TRIREME_WORKER_WORKER_H
#define TRIREME_WORKER_WORKER_H

#include "base/status.h"
#include "comm/comm.h"
#include "model/model.h"
#include "partition/batch.h"
#include "partition/plan.h"
#include "worker/feed.h"
#include "worker/team.h"
#include "worker/topology.h"

typedef struct {
    const model_desc_t    *desc; /* these five stay the caller's and outlive the worker */
    const worker_origin_t *origin;
    const part_plan_t     *plan;
    comm_grid_t           *grid;
    worker_team_t         *team;
    const char            *pack;       /* name of a packed format: "t2", "t3" */
    const char            *pack_cache; /* folder of packed weights (worker/shard.h), or NULL */
    const char            *cpu;    /* strongest kernel variant to use; NULL: the best there is */
    part_batch_limits_t    limits; /* of a step; they size the KV cache and the step arena */
    model_type_t           type_k, type_v; /* of the KV cache: MODEL_F16 or MODEL_F32 */
    bool                   is_root;        /* this rank receives the logits */
    bool                   screen;         /* keep coarse rows of the head for steps with n_top */
    bool                   progress;
} worker_config_t;

typedef struct worker worker_t;

/* Load the shard, reserve the KV cache and the step arena. After it nothing is allocated.
 * Status: OK | INPUT | UNSUPPORTED | USAGE (an unknown pack or cpu) | MEMORY | PEER. Collective
 * over the shard group. */
base_status_t worker_create(const worker_config_t *config, worker_t **out, base_err_t *err);
void          worker_destroy(worker_t **worker); /* accepts NULL */

/* One step: the runs of a batch that is within the limits (asserted; the engine has checked it).
 * Its rows of logits, in the order of the runs, will be rows row0 .. of worker_logits on the root;
 * with one stage row0 is 0 and they are there on return. With more, each stage returns when its
 * own part is done: the root gets the rows by worker_collect, and may begin up to
 * COMM_LOGITS_AHEAD further steps before, on other rows. No allocation. Status: OK | PEER.
 * Collective over the grid. One calling thread, the team's creator. */
base_status_t worker_step(worker_t *worker, const part_batch_t *batch, uint32_t row0,
                          base_err_t *err);

/* Root, two or more stages: wait for the rows of the oldest step that has rows. Status: OK | PEER.
 * Local; the last stage sends them in worker_step. */
base_status_t worker_collect(worker_t *worker, base_err_t *err);

/* Root: [limits.n_out][n_vocab], whole rows or as n_top allows; NULL elsewhere. */
const float *worker_logits(const worker_t *worker);

/* Where the time of steps went, as the calling thread saw it. */
typedef enum {
    WORKER_PART_WEIGHTS,   /* products of the layers */
    WORKER_PART_ATTENTION, /* scores and values */
    WORKER_PART_HEAD,      /* embedding, final norm, head */
    WORKER_PART_NORMS,     /* norms, quantisation, RoPE, cache, activation */
    WORKER_PART_COMM,      /* other ranks */
    WORKER_PART_WAIT,      /* the other threads of the team */
    WORKER_PARTS
} worker_part_t;

/* Nanoseconds of each part since the start or the last reset, into ns[WORKER_PARTS]. */
void worker_times(worker_t *worker, uint64_t *ns, bool reset);

/* What became of the folder of packed weights: "read", "written", or "none" (not asked for, or
 * nothing could be kept). */
const char *worker_pack_cache(const worker_t *worker);

/* Rows of the head read by steps with n_top since the start, by this rank. */
uint64_t worker_head_rows(const worker_t *worker);

/* Where the weights came from. */
worker_feed_stats_t worker_load_stats(const worker_t *worker);

/* Bytes held: weights, KV cache; and the name of the kernel variants in use. */
uint64_t    worker_weight_bytes(const worker_t *worker);
uint64_t    worker_kv_bytes(const worker_t *worker);
const char *worker_cpu_name(const worker_t *worker);
/* Is `name` a pack format? */
bool worker_pack_known(const char *name);
bool worker_cpu_known(const char *name);
/* Name of the strongest kernel variant that this CPU runs. */
const char *worker_cpu_best(void);

#endif
