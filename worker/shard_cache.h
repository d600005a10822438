/* worker/shard_cache.h
 * Files of weights as one rank holds them: written once, read at the next start instead of the
 * model (--pack-cache). partition/shard_file.h says what is in them.
 *
 * A file appears whole or not at all: it is written without a name (or under another), and gets its
 * name when all is in it. What is read is checked unit by unit against the hashes of the directory,
 * so that damage is found before it is used. */
#ifndef TRIREME_WORKER_SHARD_CACHE_H
#define TRIREME_WORKER_SHARD_CACHE_H

#include "base/status.h"
#include "partition/shard_file.h"

/* Name of the file in `dir` for a model and a slice of it; the two hashes are in it. False: the
 * path is too long. */
bool worker_cache_path(const char *dir, model_hash_t model, model_hash_t slice, char *path,
                       size_t path_bytes);

typedef struct worker_cache worker_cache_t; /* a file open for reading */

/* Open and check the head. Status: OK | IO (also: there is none; *absent says so, and err is not
 * set) | INPUT (damaged) | MEMORY. Local. */
base_status_t worker_cache_open(const char *path, worker_cache_t **out, bool *absent,
                                base_err_t *err);
void          worker_cache_close(worker_cache_t **cache); /* accepts NULL */
/* The cache's, until it is closed. */
const part_shard_head_t *worker_cache_head(const worker_cache_t *cache);

/* Units [unit0, unit0 + n) of a piece into `to` (n * unit_bytes, the piece's last unit may be
 * shorter), read and checked. Any number of threads. Status: OK | IO | INPUT (a hash is wrong). */
base_status_t worker_cache_read(const worker_cache_t *cache, uint32_t piece, uint64_t unit0,
                                uint64_t n, void *to, base_err_t *err);

/* This piece is read soon: let the system fetch it meanwhile. */
void worker_cache_expect(const worker_cache_t *cache, uint32_t piece);

typedef struct worker_cache_writer worker_cache_writer_t;

/* Begin a file. head: model, slice, and pieces that are laid out (part_shard_lay_out); copied. Room
 * on the disk is taken at once, so that a full one shows here. `path`'s directory is made if its
 * parent exists. Status: OK | IO | MEMORY. Local. */
base_status_t worker_cache_create(const char *path, const part_shard_head_t *head,
                                  worker_cache_writer_t **out, base_err_t *err);

/* Write units and note their hashes. Any number of threads, each its own units. Status: OK | IO. */
base_status_t worker_cache_write(worker_cache_writer_t *writer, uint32_t piece, uint64_t unit0,
                                 uint64_t n, const void *from, base_err_t *err);

/* All is written: head on disk, then the name. Frees the writer in any case; on failure nothing
 * stays. Status: OK | IO. Local. */
base_status_t worker_cache_commit(worker_cache_writer_t **writer, base_err_t *err);
void          worker_cache_abandon(worker_cache_writer_t **writer); /* accepts NULL */

#endif
