/* launch/census.h
 * The tensors of a model counted by kind and by type: honest bytes, for inspect and bench. */
#ifndef TRIREME_LAUNCH_CENSUS_H
#define TRIREME_LAUNCH_CENSUS_H

#include <jansson.h>

#include "model/model.h"

typedef enum {
    KIND_TERNARY,
    KIND_EMBEDDING,
    KIND_HEAD,
    KIND_NORMS,
    KIND_DENSE,
    KIND_COUNT
} census_kind_t;

typedef struct {
    uint64_t n, params, bytes;
} census_tally_t;

typedef struct {
    census_tally_t kinds[KIND_COUNT];
    census_tally_t types[MODEL_TYPE_COUNT];
    census_tally_t all;
    uint64_t       file_bytes;
    uint64_t       n_online;     /* tensors made ternary at load */
    uint64_t       n_out_scales; /* tensors whose product has a factor of its own */
    json_t        *list;         /* of tensors, or NULL */
    bool           print;        /* a line for each tensor */
} census_t;

extern const char *const census_kind_names[KIND_COUNT];

/* Count everything. *census starts zeroed; `list`, when it is an array, gets an object for each
 * tensor, `print` writes a line for each to stdout. Local. */
void census_take(census_t *census, const model_t *model);

/* 8 * bytes / parameters of all tensors, as stored. */
double census_bits_per_weight(const census_t *census);

#endif
