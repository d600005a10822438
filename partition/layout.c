/* partition/layout.c: the grammar of --layout and --split, and the automatic layout. */
#include "partition/layout.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"

/* A decimal number 1..max without sign, blanks or leading zeros; moves *text behind it. 0: none
 * there. */
static uint32_t number_take(const char **text, uint32_t max)
{
    const char *c     = *text;
    uint64_t    value = 0;

    if (*c < '1' || *c > '9') return 0;
    for (; *c >= '0' && *c <= '9'; c++) {
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > max) return 0;
    }
    *text = c;
    return (uint32_t)value;
}

/* "4x1, 2x2, 1x4": the layouts that n_ranks and n_layers allow. */
static const char *layouts_fitting(uint32_t n_ranks, uint32_t n_layers, char *buf, size_t buf_bytes)
{
    size_t used = 0;

    buf[0] = '\0';
    for (uint32_t stages = 1; stages <= n_ranks && stages <= n_layers; stages++) {
        if (n_ranks % stages != 0) continue;
        int n = snprintf(buf + used, buf_bytes - used, "%s%ux%u", used == 0 ? "" : ", ", stages,
                         n_ranks / stages);
        if (n < 0 || (size_t)n >= buf_bytes - used) {
            buf[used] = '\0';
            break;
        }
        used += (size_t)n;
    }
    return buf;
}

static void layout_auto(const part_wish_t *wish, uint32_t n_layers, uint32_t *stages)
{
    uint32_t hosts = wish->n_hosts;

    if (hosts <= 1)
        *stages = 1;
    else if (wish->n_ranks % hosts == 0 && hosts <= n_layers)
        *stages = hosts;
    else
        *stages = wish->n_ranks <= n_layers ? wish->n_ranks : 1;
}

/* Merge one alias into what --layout said (0: it said nothing). */
static base_status_t alias_merge(const char *option, uint32_t alias, const char *layout,
                                 uint32_t *value, base_err_t *err)
{
    if (alias == 0) return BASE_OK;
    if (*value != 0 && *value != alias)
        return base_fail(err, BASE_ERR_USAGE, "--%s %u contradicts --layout %s: give one of them",
                         option, alias, layout);
    *value = alias;
    return BASE_OK;
}

/* "2x4"; true also for NULL and "auto", which leave both 0. */
static bool layout_parse(const char *layout, uint32_t *stages, uint32_t *shards)
{
    const char *c = layout;

    *stages = *shards = 0;
    if (layout == NULL || strcmp(layout, "auto") == 0) return true;
    *stages = number_take(&c, LIMIT_RANKS);
    if (*stages == 0 || *c != 'x') return false;
    c++;
    *shards = number_take(&c, LIMIT_RANKS);
    return *shards != 0 && *c == '\0';
}

uint32_t part_layout_ranks(const part_wish_t *wish)
{
    uint32_t s = 0, t = 0;

    if (!layout_parse(wish->layout, &s, &t)) return 0;
    if (s == 0) s = wish->pipeline_parallel;
    if (t == 0) t = wish->tensor_parallel;
    return s == 0 || t > LIMIT_RANKS / s ? 0 : s * t;
}

base_status_t part_layout_choose(const part_wish_t *wish, uint32_t n_layers, uint32_t *stages,
                                 uint32_t *shards, base_err_t *err)
{
    char          fitting[200];
    const char   *layout = wish->layout;
    uint32_t      s = 0, t = 0;
    base_status_t st = BASE_OK;

    base_assert(wish->n_ranks >= 1 && n_layers >= 1);
    if (!layout_parse(layout, &s, &t))
        return base_fail(
            err, BASE_ERR_USAGE,
            "--layout '%.40s': expected STAGESxSHARDS, as in 2x4, or auto; %u ranks allow %s",
            layout, wish->n_ranks,
            layouts_fitting(wish->n_ranks, n_layers, fitting, sizeof(fitting)));
    st = alias_merge("pipeline-parallel-size", wish->pipeline_parallel, layout, &s, err);
    if (st != BASE_OK) return st;
    st = alias_merge("tensor-parallel-size", wish->tensor_parallel, layout, &t, err);
    if (st != BASE_OK) return st;

    if (s == 0 && t == 0) layout_auto(wish, n_layers, &s);
    if (t == 0) t = wish->n_ranks / s;
    if (s == 0) s = wish->n_ranks / t;
    if ((uint64_t)s * t != wish->n_ranks) {
        s = s == 0 ? 1 : s;
        t = t == 0 ? 1 : t;
        return base_fail(err, BASE_ERR_USAGE,
                         "layout of %u stage%s x %u shard%s: does not make %u rank%s, it is one of "
                         "%llu (mpirun -n %llu); possible: %s",
                         s, base_plural(s), t, base_plural(t), wish->n_ranks,
                         base_plural(wish->n_ranks), (unsigned long long)s * t,
                         (unsigned long long)s * t,
                         layouts_fitting(wish->n_ranks, n_layers, fitting, sizeof(fitting)));
    }
    if (s > n_layers)
        return base_fail(err, BASE_ERR_USAGE,
                         "layout %ux%u: %u stage%s, but the model has %u layer%s; possible: %s", s,
                         t, s, base_plural(s), n_layers, base_plural(n_layers),
                         layouts_fitting(wish->n_ranks, n_layers, fitting, sizeof(fitting)));
    *stages = s;
    *shards = t;
    return BASE_OK;
}

base_status_t part_split_parse(const char *split, uint32_t n, const char *what, uint32_t *weights,
                               base_err_t *err)
{
    uint32_t found = 0;

    if (split == NULL || strcmp(split, "auto") == 0 || strcmp(split, "even") == 0) {
        for (uint32_t i = 0; i < n; i++) weights[i] = 1;
        return BASE_OK;
    }
    for (const char *c = split;; c++) {
        uint32_t share = number_take(&c, PART_WEIGHT_MAX);
        if (share == 0 || (*c != ',' && *c != '\0'))
            return base_fail(
                err, BASE_ERR_USAGE,
                "--split '%.60s': expected auto, even, or shares 1..%d with commas, as in 3,1,1",
                split, PART_WEIGHT_MAX);
        if (found < n) weights[found] = share;
        found++;
        if (*c == '\0') break;
    }
    if (found != n)
        return base_fail(err, BASE_ERR_USAGE,
                         "--split '%.60s': %u share%s of %s, but the layout has %u", split, found,
                         base_plural(found), what, n);
    return BASE_OK;
}

base_status_t part_split_layers(const char *split, uint32_t n_stages, uint32_t n_layers,
                                char *shares, size_t shares_bytes, uint32_t *bounds, bool *given,
                                base_err_t *err)
{
    const char *slash = split == NULL ? NULL : strchr(split, '/');
    uint32_t    found = 0;
    uint64_t    sum   = 0;

    *given = slash != NULL;
    if (slash == NULL) return BASE_OK;
    const size_t ahead = (size_t)(slash - split);
    if (ahead >= shares_bytes)
        return base_fail(err, BASE_ERR_USAGE, "--split: %zu bytes of shares, %zu at most", ahead,
                         shares_bytes - 1);
    (void)snprintf(shares, shares_bytes, "%.*s", (int)ahead, split);
    if (ahead == 0) (void)snprintf(shares, shares_bytes, "even");
    bounds[0] = 0;
    for (const char *c = slash + 1;; c++) {
        const uint32_t layers = number_take(&c, LIMIT_LAYERS);
        if (layers == 0 || (*c != ',' && *c != '\0'))
            return base_fail(err, BASE_ERR_USAGE,
                             "--split '%.60s': behind the slash stand the layers of each stage, as "
                             "in 3,1/20,12",
                             split);
        sum += layers;
        if (found < n_stages) bounds[found + 1] = (uint32_t)sum;
        found++;
        if (*c == '\0') break;
    }
    if (found != n_stages || sum != n_layers)
        return base_fail(err, BASE_ERR_USAGE,
                         "--split '%.60s': %u stage%s of %llu layers together, but the layout has "
                         "%u stage%s and the model %u layers",
                         split, found, base_plural(found), (unsigned long long)sum, n_stages,
                         base_plural(n_stages), n_layers);
    return BASE_OK;
}
