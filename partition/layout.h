/* partition/layout.h
 * Inside partition: what the texts of a wish mean, and how layers are laid over stages. */
#ifndef TRIREME_PARTITION_LAYOUT_H
#define TRIREME_PARTITION_LAYOUT_H

#include "partition/plan.h"

/* Stages and shards of a wish: --layout, its aliases, or automatic. A result satisfies
 * stages * shards == n_ranks and stages <= n_layers. Status: OK | USAGE. */
base_status_t part_layout_choose(const part_wish_t *wish, uint32_t n_layers, uint32_t *stages,
                                 uint32_t *shards, base_err_t *err);

/* Ranks that the wish's layout makes; 0: it does not say, or is wrong. */
uint32_t part_layout_ranks(const part_wish_t *wish);

/* The shares of --split: n of them into weights (all 1 for "auto", "even" and NULL). `what` they
 * are shares of, for the text. Status: OK | USAGE. */
base_status_t part_split_parse(const char *split, uint32_t n, const char *what, uint32_t *weights,
                               base_err_t *err);

/* The layers of each stage, behind a slash in --split ("3,1/20,12"), into bounds (n_stages + 1).
 * *given: whether there is a slash; `shares` receives what stands before it (shares_bytes).
 * Status: OK | USAGE. */
base_status_t part_split_layers(const char *split, uint32_t n_stages, uint32_t n_layers,
                                char *shares, size_t shares_bytes, uint32_t *bounds, bool *given,
                                base_err_t *err);

/* Contiguous stages of at least one layer each, so that the largest (bytes / weight) is as small as
 * it can be, and among those cuts the sum of bytes^2 / weight is. Exact. cost         n_layers
 * costs, bytes first, last  bytes that the first and the last stage hold beside their layers
 * weights      n_stages relative shares
 * bounds       out: n_stages + 1 boundaries; 1 <= n_stages <= n_layers <= LIMIT_LAYERS
 * Status: OK | MEMORY. */
base_status_t part_stages_balance(const uint64_t *cost, uint32_t n_layers, uint64_t first,
                                  uint64_t last, const uint32_t *weights, uint32_t n_stages,
                                  uint32_t *bounds, base_err_t *err);

#endif
