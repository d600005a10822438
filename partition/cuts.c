/* partition/cuts.c: layers over stages. For a bound on the slowest stage the least sum is found
 * exactly: greedily where all layers are alike, else by dynamic programming over contiguous cuts. A
 * value that grows with the sum and with the slowest stage is then least at one of the bounds where
 * the slowest stage changes; these are walked downwards. */
#include "partition/cuts.h"

#include <math.h>
#include <string.h>

#include "partition/cost.h"

enum { BISECTIONS = 60, WALKED_MAX = 20000 };

#define TIE 1e-9

double part_cuts_value(const part_ask_t *ask, uint32_t stages, double sum, double most)
{
    return part_value(ask, stages, sum, most) + TIE * most;
}

typedef struct {
    double sum, most;
} cut_t;

/* Stages by the time of a layer, fastest first. */
static void order_stages(const part_cuts_t *c)
{
    for (uint32_t s = 0; s < c->n_stages; s++) {
        uint32_t at = s;
        while (at > 0 && c->per[c->by_time[at - 1]] > c->per[s]) {
            c->by_time[at] = c->by_time[at - 1];
            at--;
        }
        c->by_time[at] = s;
    }
}

/* One layer for each, the rest to the fastest as far as they hold it. Leaves counts in c->best. */
static bool solve_alike(const part_cuts_t *c, double bound, cut_t *cut)
{
    uint32_t left = c->n_layers - c->n_stages;

    *cut = (cut_t){0};
    for (uint32_t i = 0; i < c->n_stages; i++) {
        const uint32_t s   = c->by_time[i];
        uint32_t       cap = c->cap[s];
        if (bound < INFINITY) {
            const double n = floor((bound - c->fixed[s]) / c->per[s] * (1 + 1e-12));
            if (!(n >= 1)) return false;
            if (n < cap) cap = (uint32_t)n;
        }
        if (cap < 1) return false;
        const uint32_t more = cap - 1 < left ? cap - 1 : left;
        left -= more;
        c->best[s]     = 1 + more;
        const double t = c->fixed[s] + (1 + more) * c->per[s];
        cut->sum += t;
        cut->most = fmax(cut->most, t);
    }
    return left == 0;
}

/* Leaves boundaries in c->best. */
static bool solve_unlike(const part_cuts_t *c, double bound, cut_t *cut)
{
    const uint32_t L = c->n_layers, row = L + 1;

    for (uint32_t s = 0; s < c->n_stages; s++) {
        for (uint32_t i = 0; i <= L; i++) c->value[(size_t)s * row + i] = INFINITY;
        const uint32_t last = s == 0 ? 0 : L - 1;
        for (uint32_t j = s; j <= last; j++) {
            const double ahead = s == 0 ? 0 : c->value[(size_t)(s - 1) * row + j];
            if (ahead == INFINITY) continue;
            const double *before = c->before + (size_t)s * row;
            for (uint32_t i = j + 1; i <= c->reach[(size_t)s * row + j]; i++) {
                const double t = c->fixed[s] + before[i] - before[j];
                if (t > bound) break;
                if (ahead + t >= c->value[(size_t)s * row + i]) continue;
                c->value[(size_t)s * row + i] = ahead + t;
                c->from[(size_t)s * row + i]  = j;
            }
        }
    }
    cut->sum = c->value[(size_t)(c->n_stages - 1) * row + L];
    if (cut->sum == INFINITY) return false;
    cut->most            = 0;
    c->best[c->n_stages] = L;
    for (uint32_t s = c->n_stages; s-- > 0;) {
        const double  *before = c->before + (size_t)s * row;
        const uint32_t end = c->best[s + 1], begin = c->from[(size_t)s * row + end];
        c->best[s] = begin;
        cut->most  = fmax(cut->most, c->fixed[s] + before[end] - before[begin]);
    }
    return true;
}

static bool solve(const part_cuts_t *c, double bound, cut_t *cut)
{
    return c->before == NULL ? solve_alike(c, bound, cut) : solve_unlike(c, bound, cut);
}

/* The smallest slowest stage that any cut has, to a part in 10^12. */
static cut_t evenest(const part_cuts_t *c, cut_t least)
{
    cut_t  best = least, cut;
    double low  = 0;
    for (uint32_t i = 0; i < BISECTIONS && best.most - low > 1e-12 * best.most; i++) {
        const double middle = (low + best.most) / 2;
        if (solve(c, middle, &cut))
            best = cut;
        else
            low = middle;
    }
    return best;
}

static void keep(const part_cuts_t *c, uint32_t *bounds)
{
    if (c->before != NULL) {
        memcpy(bounds, c->best, (c->n_stages + 1) * sizeof(*bounds));
        return;
    }
    bounds[0] = 0;
    for (uint32_t s = 0; s < c->n_stages; s++) bounds[s + 1] = bounds[s] + c->best[s];
}

bool part_cuts_best(const part_cuts_t *c, double enough, double *value, uint32_t *bounds)
{
    cut_t  least, even, cut;
    double best = enough;
    bool   any  = false;

    if (c->n_stages > c->n_layers) return false;
    if (c->before == NULL) order_stages(c);
    if (!solve(c, INFINITY, &least)) return false;
    if (part_cuts_value(c->ask, c->n_stages, least.sum, least.sum / c->n_stages) >= enough)
        return false;
    even = evenest(c, least);
    if (!solve(c, even.most * (1 + 1e-12), &even)) even = least; /* restores c->best */
    if (part_cuts_value(c->ask, c->n_stages, even.sum, even.most) < best) {
        best = part_cuts_value(c->ask, c->n_stages, even.sum, even.most);
        any  = true;
        keep(c, bounds);
    }
    double bound = INFINITY;
    for (uint32_t i = 0; i < WALKED_MAX && solve(c, bound, &cut); i++) {
        const double v = part_cuts_value(c->ask, c->n_stages, cut.sum, cut.most);
        if (v < best) {
            best = v;
            any  = true;
            keep(c, bounds);
        }
        /* Lower bounds only add to the sum, and nothing is more even than the evenest. */
        if (part_cuts_value(c->ask, c->n_stages, cut.sum, even.most) >= best) break;
        bound = cut.most * (1 - 1e-11);
    }
    *value = best;
    return any;
}
