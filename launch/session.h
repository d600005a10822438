/* launch/session.h
 * What the commands that drive the engine share: MPI up, engine up, work on rank 0, all down. */
#ifndef TRIREME_LAUNCH_SESSION_H
#define TRIREME_LAUNCH_SESSION_H

#include <jansson.h>

#include "launch/engine.h"
#include "launch/options.h"

typedef struct {
    const options_t *options;
    engine_config_t
        config; /* filled by session_config; the command may change it before the start */
    /* Before the engine, on rank 0 alone (others: may be NULL): read inputs, open outputs. Its
     * status is agreed on, so a failure ends all ranks in good order. */
    base_status_t (*prepare)(void *context, base_err_t *err);
    /* With the engine, on rank 0; the other ranks serve meanwhile. */
    base_status_t (*work)(void *context, engine_t *engine, base_err_t *err);
    void *context;
} session_t;

/* --i2s-layout. */
model_i2s_layout_t session_i2s_layout(const options_t *o);

/* The engine's configuration from the options that run, eval and bench share. */
engine_config_t session_config(const options_t *options);

/* All of it; returns the exit status. Collective over all processes. */
int session_main(const session_t *session);

/* The engine's configuration in use, the world too: for commands that start several engines. */
int session_main_world(const options_t *options,
                       base_status_t (*body)(void *context, comm_world_t *world, base_err_t *err),
                       void *context);
/* Start an engine, work on rank 0 and serve elsewhere, stop and destroy. Every rank returns; errors
 * of the start are the same everywhere, those of the work are rank 0's. Ends the process when the
 * ranks can no longer agree. Collective. */
base_status_t session_engine(comm_world_t *world, const session_t *session, base_err_t *err);

/* A coord_step_fn; ctx is the engine. */
base_status_t session_step(void *engine, const part_batch_t *batch, const float **logits,
                           base_err_t *err);

/* A coord_submit_fn and a coord_collect_fn; ctx is the engine. */
base_status_t session_submit(void *engine, const part_batch_t *batch, base_err_t *err);
base_status_t session_collect(void *engine, const float **logits, base_err_t *err);

/* MODEL_F16 or MODEL_F32, from -ctk or -ctv. */
model_type_t session_cache_type(const options_t *options, opt_id_t option);

/* The prompt of -p or -f: is there exactly one? Local, any rank. Status: OK | USAGE. */
base_status_t session_prompt_check(const options_t *options, base_err_t *err);
/* Its text, escapes replaced when -e says so. *text is malloc'd. */
base_status_t session_prompt_read(const options_t *options, char **text, size_t *bytes,
                                  base_err_t *err);

/* Figures of every rank, malloc'd: engine_info().n_ranks entries. */
base_status_t session_stats(engine_t *engine, bool reset, engine_rank_stats_t **stats,
                            base_err_t *err);
/* "31 + 30 MiB", or "28 to 31 MiB" with more than 8 ranks, into buf. */
const char *session_memory_text(const engine_rank_stats_t *stats, uint32_t n_ranks, char *buf,
                                size_t buf_bytes);
/* Array of the ranks' peak bytes. */
json_t *session_memory_json(const engine_rank_stats_t *stats, uint32_t n_ranks);
/* Adds weights_received_bytes and weights_cached_bytes: of ranks without the model's files. */
void session_weights_json(json_t *value, const engine_info_t *info);

#endif
