/* worker/shard_keep.h
 * The packed weights of this rank out of a file of an earlier start, and into one for the next
 * (--pack-cache): between shard.c, which knows what a shard is, and shard_cache.h, which knows
 * files. */
#ifndef TRIREME_WORKER_SHARD_KEEP_H
#define TRIREME_WORKER_SHARD_KEEP_H

#include "worker/shard_internal.h"

/* Fill the shard out of the file, if all shards of the group can: *restored; else the shard is as
 * it was, and the caller packs. A file that is damaged or does not fit is named in a warning.
 * Status: OK | PEER | MEMORY. Collective over the shard group. */
base_status_t worker_shard_restore(load_t *job, const char *dir, bool *restored, base_err_t *err);

/* Write the file of a shard that was packed. What cannot be is a warning. Local. */
void worker_shard_keep(load_t *job, const char *dir);

#endif
