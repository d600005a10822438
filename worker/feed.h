/* worker/feed.h
 * How the stored bytes of weights come to the threads that pack them: from the mapped file, or
 * piece by piece from a rank that has it (comm/comm.h, weight streams) or from a node's own cache
 * (worker/unit_cache.h), checked against the hash that the sender took.
 *
 * Each thread has a list of tasks, which it makes up itself and in order; a task names the window
 * of a tensor that it reads. Thread 0, the process's MPI thread, looks ahead in all lists and asks
 * for what will be needed; a few pieces a thread are on their way at a time. */
#ifndef TRIREME_WORKER_FEED_H
#define TRIREME_WORKER_FEED_H

#include "base/status.h"
#include "comm/comm.h"
#include "model/model.h"
#include "model/units.h"
#include "worker/team.h"
#include "worker/unit_cache.h"

/* What a rank reads from. */
typedef struct {
    const model_source_t *source; /* mapped files or generated; NULL: another rank has them */
    comm_world_t         *world;  /* the rest only matters without a source */
    int                   server; /* rank to ask */
    const char *const    *paths;  /* of the files, there; for texts */
    const uint64_t       *bytes;  /* their sizes */
    uint32_t              n_paths;
    const char           *cache_dir; /* NULL: nothing is kept */
    model_hash_t          model;     /* what the cache goes by */
    model_secret_t        secret;    /* and what it is kept under */
} worker_origin_t;

/* Rows and columns of a tensor that a task reads; rows == 0: nothing. */
typedef struct {
    const model_tensor_t *tensor;
    bool                  strips;
    uint64_t              row, rows, col, cols;
    int32_t               layer; /* of the model, for texts; -1: none */
    const char           *name;  /* "attn_q", static */
    /* the task giver's own */
    uint32_t l, id;
    size_t   begin, end;
} worker_task_t;

/* Where a thread is in its list; zero at the start. */
typedef struct {
    uint32_t l, id, step;
    size_t   at;
} worker_cursor_t;

/* The next task of a thread; it should read no more than `most` bytes in stored form, where it can
 * be that small. False: none left. The same for the same cursor, whoever asks. */
typedef bool worker_next_fn(void *ctx, int thread, int n_threads, size_t most,
                            worker_cursor_t *cursor, worker_task_t *task);
/* Do it, reading from `source`. False: failed, and the giver knows why. */
typedef bool worker_run_fn(void *ctx, const worker_task_t *task, const model_source_t *source,
                           int thread, int n_threads);

typedef struct worker_feed worker_feed_t;

typedef struct {
    uint64_t received; /* bytes of weights that came from other ranks */
    uint64_t kept;     /* that were in the cache */
    uint64_t damaged;  /* pieces that came, or were kept, with a wrong hash */
} worker_feed_stats_t;

/* origin is the caller's and outlives the feed. Status: OK | MEMORY | IO (the cache). Local. */
base_status_t worker_feed_create(const worker_origin_t *origin, worker_team_t *team,
                                 worker_feed_t **out, base_err_t *err);
void          worker_feed_destroy(worker_feed_t **feed); /* accepts NULL */

/* All tasks of all threads. Where the file is at hand, thread 0 answers other ranks' asks between
 * tasks. Nothing is on its way when it returns. Status: OK (also when run failed) | PEER | INPUT (a
 * piece came damaged again and again) | the server's error | MEMORY. Local, the team's creator. */
base_status_t worker_feed_run(worker_feed_t *feed, worker_next_fn *next, worker_run_fn *run,
                              void *ctx, base_err_t *err);

worker_feed_stats_t worker_feed_stats(const worker_feed_t *feed);
/* For paths in texts. */
const model_source_t *worker_feed_source(const worker_feed_t *feed);

/* The other side, a comm_answer_fn: windows of mapped files, each unit with its hash. */
typedef struct {
    const model_source_t *source;
    bool                  progress; /* on stderr, when it takes over a second */
    uint64_t              sent;     /* bytes of weights */
    uint32_t              n_ranks;
    uint64_t             *done, *total; /* [n_ranks] as they last said; owned by the caller */
} worker_server_t;

base_status_t worker_server_answer(void *server, int from, const void *ask, uint8_t *out, size_t *n,
                                   base_err_t *err);

#endif
