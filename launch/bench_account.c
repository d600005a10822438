/* launch/bench_account.c: where the time and the energy of a token went. */
#include "launch/bench_account.h"

#include <glob.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/order.h"
#include "launch/account.h"

/* ---- energy that was measured ---- */

double bench_account_rapl(void)
{
    glob_t found = {0};
    double sum   = 0;
    bool   any   = false;

    /* Packages alone: the domains below them are parts of theirs. */
    if (glob("/sys/class/powercap/intel-rapl:[0-9]*/energy_uj", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            FILE    *file = NULL;
            uint64_t uj   = 0;
            int      zone = 0;
            char     end  = 0;
            if (sscanf(found.gl_pathv[i], "/sys/class/powercap/intel-rapl:%d/energy_u%c", &zone,
                       &end) != 2)
                continue;
            file = fopen(found.gl_pathv[i], "r");
            if (file == NULL) continue;
            if (fscanf(file, "%" SCNu64, &uj) == 1) {
                sum += (double)uj * 1e-6;
                any = true;
            }
            (void)fclose(file);
        }
    }
    globfree(&found);
    return any ? sum : -1;
}

/* ---- JSON ---- */

static json_t *parts_json(const engine_info_t *info, const engine_rank_stats_t *stats,
                          double tokens, double *share)
{
    json_t *parts = json_object();
    double  all   = 0;
    double  first = 0;

    for (int p = 0; p < ENGINE_PARTS; p++) {
        double ns = 0;
        for (uint32_t i = 0; i < info->n_ranks; i++) ns += (double)stats[i].part_ns[p];
        if (p == 0) first = ns;
        all += ns;
        (void)json_object_set_new(parts, engine_part_names[p],
                                  out_json_real(ns / 1e6 / info->n_ranks / tokens));
    }
    *share = all > 0 ? first / all : 0;
    return parts;
}

static json_t *joules_json(const account_ops_t *ops)
{
    json_t *list = json_object();

    for (int i = 0; i < ACCOUNT_ENERGIES; i++) {
        account_joules_t j = account_joules(ops, &account_energies[i]);
        (void)json_object_set_new(
            list, account_energies[i].name,
            json_pack("{s:o, s:o, s:o}", "here", out_json_real(j.joules), "float16",
                      out_json_real(j.f16_joules), "matrix_ratio",
                      out_json_real(j.f16_projections_joules / j.projections_joules)));
    }
    return list;
}

/* Positions that a token of the test looks at, on average. */
static double mean_positions(const bench_result_t *r)
{
    return r->n_depth + (r->n_prompt + r->n_gen + 1) / 2.0;
}

/* What the repetitions read against what could be read around them. */
static void add_bandwidth(json_t *value, const bench_result_t *r, double weight_bytes, bool reads)
{
    double  *v     = malloc((r->n_samples + (size_t)1) * sizeof(*v));
    uint32_t known = 0;
    json_t  *all = json_null(), *share = json_null();

    for (uint32_t i = 0; i <= r->n_samples; i++) known += r->looks[i] > 0;
    if (v != NULL && known > r->n_samples) {
        for (uint32_t i = 0; i < r->n_samples; i++) {
            double around = (r->looks[i] + r->looks[i + 1]) / 2;
            v[i]          = weight_bytes * r->n_gen * 1e9 / (double)r->samples_ns[i] / around;
        }
        if (reads) share = out_json_real(base_median_f64(v, r->n_samples));
        for (uint32_t i = 0; i <= r->n_samples; i++) v[i] = r->looks[i];
        all = out_json_real(base_median_f64(v, r->n_samples + 1) / 1e9);
    }
    (void)json_object_set_new(value, "bandwidth_gb_s", all);
    (void)json_object_set_new(value, "bandwidth_share", share);
    free(v);
}

static json_t *huge_json(const engine_info_t *info, const engine_rank_stats_t *stats, bool known)
{
    double least = 1;

    for (uint32_t i = 0; i < info->n_ranks; i++)
        if (stats[i].huge_share < least) least = stats[i].huge_share;
    return known ? out_json_real(least) : json_null();
}

void bench_account_add(json_t *value, const engine_t *engine, const bench_result_t *r,
                       const engine_rank_stats_t *stats, double tokens_per_s)
{
    engine_info_t info   = engine_info(engine);
    double        tokens = (double)(r->n_prompt + r->n_gen) * r->n_samples * r->n_seq;
    account_ops_t ops    = account_ops(&engine_model(engine)->desc, mean_positions(r));
    double        share  = 0;
    bool          reads  = r->n_prompt == 0 && !info.screened;

    (void)json_object_set_new(value, "parts_ms", parts_json(&info, stats, tokens, &share));
    (void)json_object_set_new(value, "projection_share", out_json_real(share));
    (void)json_object_set_new(value, "amdahl_ceiling",
                              share < 1 ? out_json_real(account_amdahl(share, INFINITY))
                                        : json_null());
    (void)json_object_set_new(
        value, "read_gb_s",
        reads ? out_json_real((double)info.weight_bytes * tokens_per_s / r->n_seq / 1e9)
              : json_null());
    add_bandwidth(value, r, (double)info.weight_bytes, reads);
    (void)json_object_set_new(value, "huge_page_share", huge_json(&info, stats, r->looks[0] > 0));
    (void)json_object_set_new(
        value, "macs_per_token",
        json_pack("{s:o, s:o, s:o, s:o}", "ternary", out_json_real(ops.ternary), "dense",
                  out_json_real(ops.dense), "attention", out_json_real(ops.attention), "head",
                  out_json_real(ops.head)));
    (void)json_object_set_new(value, "joules_per_token", joules_json(&ops));
    (void)json_object_set_new(value, "rapl_joules_per_token",
                              r->rapl_joules >= 0 ? out_json_real(r->rapl_joules / tokens)
                                                  : json_null());
}

/* ---- lines ---- */

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

void bench_account_print(const json_t *value)
{
    const json_t *parts  = json_object_get(value, "parts_ms");
    const json_t *joules = json_object_get(value, "joules_per_token");
    const json_t *nm     = NULL;
    const char   *name   = NULL;
    double        all    = 0;

    for (int p = 0; p < ENGINE_PARTS; p++) all += number(parts, engine_part_names[p]);
    (void)printf("\n  one token, %.3f ms:", all);
    for (int p = 0; p < ENGINE_PARTS && all > 0; p++) {
        double ms = number(parts, engine_part_names[p]);
        (void)printf("%s %s %.3f (%.1f %%)", p == 0 ? "" : ",", engine_part_names[p], ms,
                     100 * ms / all);
    }
    (void)printf("\n  projections: %.1f %% of the time; were they free, %.2fx faster (Amdahl)\n",
                 100 * number(value, "projection_share"), number(value, "amdahl_ceiling"));
    if (json_is_number(json_object_get(value, "read_gb_s"))) {
        (void)printf("  weights read: %.1f GB/s", number(value, "read_gb_s"));
        if (json_is_number(json_object_get(value, "bandwidth_share")))
            (void)printf(
                "; plain reading between the repetitions: %.1f GB/s; share %.2f (median of "
                "pairs)",
                number(value, "bandwidth_gb_s"), number(value, "bandwidth_share"));
        (void)printf("\n");
    }
    if (json_is_number(json_object_get(value, "huge_page_share")))
        (void)printf("  huge pages: %.0f %% of the anonymous memory\n",
                     100 * number(value, "huge_page_share"));
    for (int i = 0; i < ACCOUNT_ENERGIES; i++) {
        name = account_energies[i].name;
        nm   = json_object_get(joules, name);
        (void)printf("  arithmetic at %s: %.3g J a token, %.3g J in float16; matrix products "
                     "%.1fx less\n",
                     name, number(nm, "here"), number(nm, "float16"), number(nm, "matrix_ratio"));
    }
    if (json_is_number(json_object_get(value, "rapl_joules_per_token")))
        (void)printf("  processors of this host (RAPL): %.3g J a token\n",
                     number(value, "rapl_joules_per_token"));
    (void)printf("\n");
}
