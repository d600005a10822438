/* launch/cache_secret.h
 * The secret under which --cache keeps weights (worker/unit_cache.h). It is rank 0's, which has the
 * model's files: 16 bytes that only its user may read, in $XDG_CACHE_HOME/trireme/cache.secret or
 * ~/.cache/trireme/cache.secret, made at first use. Nodes that keep weights never store it, so no
 * writer of their folders can make up weights that a run takes. */
#ifndef TRIREME_LAUNCH_CACHE_SECRET_H
#define TRIREME_LAUNCH_CACHE_SECRET_H

#include "base/status.h"
#include "model/model.h"

/* The user's folder for caches, which need not be there; false: neither variable names one. As the
 * XDG base directory specification has it, a relative path does not count. Local. */
bool cache_secret_root(char *root, size_t root_bytes);

/* Read it, or make it. Where there is no place for it a warning says so and *secret holds for this
 * run alone. Status: OK | INPUT (the file is not one that only the user may read, or cut) | IO |
 * SYSTEM. Local. */
base_status_t cache_secret_load(model_secret_t *secret, base_err_t *err);

#endif
