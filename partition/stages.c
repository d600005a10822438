/* partition/stages.c: which layers make a stage. Two passes of dynamic programming over contiguous
 * cuts: the first finds the smallest possible load of the fullest stage, the second evens out the
 * others under that bound (a heavy head may fix the maximum and leave the rest free). */
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "partition/layout.h"

typedef struct {
    const uint64_t *sum; /* n_layers + 1 prefix sums of the costs */
    const uint32_t *weights;
    uint32_t        n_layers, n_stages;
    uint64_t        first, last;
} balance_t;

/* Bytes of stage `stage` if it holds layers [begin, end). */
static double stage_bytes(const balance_t *b, uint32_t stage, uint32_t begin, uint32_t end)
{
    uint64_t bytes = b->sum[end] - b->sum[begin];
    if (stage == 0) bytes += b->first;
    if (stage + 1 == b->n_stages) bytes += b->last;
    return (double)bytes;
}

/* value[s][i]: the best that stages 0..s can do with layers [0, i): the largest load (peak < 0), or
 * the sum of squares with no load above `peak`. from[s][i]: where stage s then begins. Returns the
 * best of all. */
static double balance_pass(const balance_t *b, double peak, double *value, uint32_t *from)
{
    const uint32_t row = b->n_layers + 1;

    for (uint32_t s = 0; s < b->n_stages; s++) {
        for (uint32_t i = 0; i <= b->n_layers; i++) {
            double  *best = &value[(size_t)s * row + i];
            uint32_t low = s, high = s == 0 ? 1 : i; /* starts: s stages before need s layers */
            *best = INFINITY;
            for (uint32_t j = high; j-- > low;) {
                double before = s == 0 ? 0 : value[(size_t)(s - 1) * row + j];
                double bytes  = stage_bytes(b, s, j, i);
                double load   = bytes / b->weights[s];
                double total  = 0;
                if (i <= j) continue;
                if (load > (peak < 0 ? *best : peak)) break; /* earlier starts only add to it */
                if (peak < 0)
                    total = before > load ? before : load;
                else
                    total = before + bytes * load;
                if (total < *best) {
                    *best                     = total;
                    from[(size_t)s * row + i] = j;
                }
            }
        }
    }
    return value[(size_t)(b->n_stages - 1) * row + b->n_layers];
}

base_status_t part_stages_balance(const uint64_t *cost, uint32_t n_layers, uint64_t first,
                                  uint64_t last, const uint32_t *weights, uint32_t n_stages,
                                  uint32_t *bounds, base_err_t *err)
{
    const size_t  cells = (size_t)n_stages * (n_layers + 1);
    uint64_t     *sum   = NULL;
    double       *value = NULL;
    uint32_t     *from  = NULL;
    base_status_t st    = BASE_OK;

    base_assert(n_stages >= 1 && n_stages <= n_layers && n_layers <= LIMIT_LAYERS);
    st = base_alloc((void **)&sum, n_layers + 1, sizeof(*sum), "plan", err);
    if (st != BASE_OK) goto out;
    st = base_alloc((void **)&value, cells, sizeof(*value), "plan", err);
    if (st != BASE_OK) goto out;
    st = base_alloc((void **)&from, cells, sizeof(*from), "plan", err);
    if (st != BASE_OK) goto out;

    for (uint32_t i = 0; i < n_layers; i++) sum[i + 1] = sum[i] + cost[i];
    balance_t b = {sum, weights, n_layers, n_stages, first, last};

    double peak = balance_pass(&b, -1, value, from);
    double even = balance_pass(&b, peak, value, from);
    base_assert(isfinite(peak) && isfinite(even));
    bounds[n_stages] = n_layers;
    for (uint32_t s = n_stages; s-- > 0;)
        bounds[s] = from[(size_t)s * (n_layers + 1) + bounds[s + 1]];
    base_assert(bounds[0] == 0);
out:
    free(from);
    free(value);
    free(sum);
    return st;
}
