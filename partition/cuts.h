/* partition/cuts.h
 * Inside partition: which layers make a stage when time counts and memory limits. Exact: of all
 * contiguous cuts that keep within the limits, one of the least value. */
#ifndef TRIREME_PARTITION_CUTS_H
#define TRIREME_PARTITION_CUTS_H

#include "partition/choose.h"

typedef struct {
    const part_ask_t *ask; /* what part_value judges by */
    uint32_t          n_stages, n_layers;
    const double     *fixed; /* [n_stages]: seconds of a stage besides its layers */
    /* Models of like layers: seconds of one in each stage, and the most layers that it holds. */
    const double   *per;
    const uint32_t *cap;
    /* Others (NULL for those): seconds of layers 0..l-1 in stage s at [s][l], and the largest end
     * of a stage that begins with layer l at [s][l] (l when not even that one fits). */
    const double   *before;
    const uint32_t *reach;
    /* Room. */
    uint32_t *by_time; /* [n_stages] */
    uint32_t *best;    /* [n_stages + 1] */
    double   *value;   /* [n_stages][n_layers + 1], only for unlike layers, like the next */
    uint32_t *from;
} part_cuts_t;

/* Ties in value go to the smaller slowest stage. *value: the least found, in part_value's terms and
 * that tie; bounds: n_stages + 1 boundaries. Cuts of a value of `enough` or more need not be found.
 * False: none fits, or none below `enough`. */
bool part_cuts_best(const part_cuts_t *c, double enough, double *value, uint32_t *bounds);

/* part_value with the tie. */
double part_cuts_value(const part_ask_t *ask, uint32_t stages, double sum, double most);

#endif
