/* launch/plan_svg.h
 * The picture of `trireme plan --scale`. */
#ifndef TRIREME_LAUNCH_PLAN_SVG_H
#define TRIREME_LAUNCH_PLAN_SVG_H

#include <stdio.h>

#include "launch/plan_report.h"

/* One number of nodes. */
typedef struct {
    uint32_t    nodes, sequences, stages, shards;
    bool        fits;
    part_time_t time;
    double      tokens_s, ideal_tokens_s, efficiency; /* 0 where it does not fit */
} plan_point_t;

/* Ideal and predicted tokens/s over nodes, both axes by powers of two. Points that do not fit are
 * left out. Readable on light and dark ground. */
void plan_svg(const plan_point_t *points, uint32_t n, const char *model, const char *goal,
              FILE *out);

#endif
