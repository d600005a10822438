/* launch/engine_source.h
 * Which ranks have the model's files, and who sends the weights to those that have not. */
#ifndef TRIREME_LAUNCH_ENGINE_SOURCE_H
#define TRIREME_LAUNCH_ENGINE_SOURCE_H

#include "base/status.h"
#include "comm/comm.h"
#include "model/model.h"
#include "partition/assignment_wire.h"
#include "worker/feed.h"

typedef struct {
    worker_origin_t origin; /* what this rank's worker reads from */
    model_source_t *own;    /* opened here; rank 0 has its model's */
    uint64_t       *bytes;  /* of the files */
    worker_server_t server;
    bool            serves;
    uint32_t        n_without; /* rank 0: ranks that get their weights from others, */
    int             without;   /* and the first of them */
} engine_source_t;

/* Rank 0: can other ranks read a file that this one cannot? Every rank says whether its path is
 * readable; `text` of bytes becomes a hint that names the first that can, or "". *some_cannot: some
 * of the others cannot. Collective over the world. */
base_status_t engine_source_hint(comm_world_t *world, const char *path, char *text, size_t bytes,
                                 bool *some_cannot, base_err_t *err);

/* model_path: this rank's own -m, may be NULL. root: rank 0's open files, NULL elsewhere. part:
 * unpacked; with files, not generated. A rank that has other files than rank 0 under the path is
 * taken for one without, and a warning says so. Ranks that others will ask begin to serve.
 * Collective over the world; the caller agrees on the status. */
base_status_t engine_source_open(engine_source_t *s, comm_world_t *world, const char *model_path,
                                 const char *cache_dir, const model_source_t *root,
                                 const model_desc_t *root_desc, const part_assignment_t *part,
                                 bool progress, base_err_t *err);
/* All have their weights (the ranks have agreed on that): stop serving. */
void engine_source_loaded(engine_source_t *s, comm_world_t *world);
void engine_source_close(engine_source_t *s);

#endif
