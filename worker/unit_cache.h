/* worker/unit_cache.h
 * What a node keeps of a model that it has no file of (--cache DIR): units of tensors in stored
 * form (model/units.h), which do not depend on who held what, so a changed plan finds again what
 * overlaps. docs/FORMATS.md draws the file.
 *
 * What is read here becomes weights, so it has to come from an earlier start of the same model:
 * each unit has a keyed hash (model_bytes_mac64) of its bytes, its place and the model, under a
 * secret that is rank 0's and that this node never stores. A file from elsewhere, or edited, is
 * refused like a damaged one, whatever hashes were written into it.
 *
 * Each rank appends to a file of its own and reads those of all ranks of this model in DIR. A
 * record that was cut, or whose head is damaged, ends the file for the reader; units are checked by
 * the one who reads them. */
#ifndef TRIREME_WORKER_UNIT_CACHE_H
#define TRIREME_WORKER_UNIT_CACHE_H

#include "base/status.h"
#include "model/units.h"

typedef struct worker_unit_cache worker_unit_cache_t;

/* Makes DIR if its parent exists, and looks at the files of this model. `rank` tells apart the
 * files that ranks of one node write. Where the own file may not be written it is read alone, which
 * the log says. Status: OK | IO | MEMORY. Local. */
base_status_t worker_unit_cache_open(const char *dir, model_hash_t model,
                                     const model_secret_t *secret, int rank,
                                     worker_unit_cache_t **out, base_err_t *err);
void          worker_unit_cache_close(worker_unit_cache_t **cache); /* accepts NULL */

/* Was unit (tile, strip) of the window's tensor there when the cache was opened? Any thread. */
bool worker_unit_cache_has(const worker_unit_cache_t *cache, const model_window_t *window,
                           uint64_t tile, uint64_t strip);

/* Those units of a window that are not `good` yet, read and checked: to their place in `out`, which
 * holds one unit after the other; good[] says which came out well. *path: a file that held a
 * damaged one, if any. Any thread. */
void worker_unit_cache_read(worker_unit_cache_t *cache, const model_window_t *window, uint8_t *out,
                            bool *good, const char **path);

/* Keep all units of a window; bytes: one unit after the other, checked by the caller. What cannot
 * be written is not kept, which the log says once. Any thread. */
void worker_unit_cache_keep(worker_unit_cache_t *cache, const model_window_t *window,
                            const uint8_t *bytes);

#endif
