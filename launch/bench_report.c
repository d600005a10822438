/* launch/bench_report.c: results of bench. Keys and columns are llama-bench's; then ours:
 *   n_parallel           sequences together: rates count the tokens of all
 *   ranks, layout        of the run
 *   peak_rss_bytes       of the rank with most (anonymous memory; mapped file pages not counted)
 *   compute_ms, comm_ms  of one token: kernels, waiting in communication; mean over the ranks
 *   bytes_per_token      sent by all ranks together for one token
 *   pack, cpu            ternary weights in memory, kernel variant
 *   head                 full rows of logits, or screened: the best token alone; then
 *   head_rows            rows of the head read whole for one token, all ranks together */
#include "launch/bench_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "build_info.h"
#include "launch/bench_account.h"
#include "launch/census.h"
#include "launch/output.h"
#include "launch/session.h"

typedef enum { FORMAT_MD, FORMAT_CSV, FORMAT_JSON, FORMAT_JSONL, FORMAT_SQL } format_t;

struct bench_report {
    const options_t *o;
    format_t         format;
    json_t          *list; /* FORMAT_JSON: what comes at the end */
    bool             head_done;
    char             cpu_info[128];
};

/* mean and sample standard deviation */
typedef struct {
    double mean, deviation;
} spread_t;

static spread_t spread(const double *v, uint32_t n)
{
    spread_t s   = {0, 0};
    double   sum = 0;

    for (uint32_t i = 0; i < n; i++) sum += v[i];
    s.mean = sum / n;
    sum    = 0;
    for (uint32_t i = 0; i < n; i++) sum += (v[i] - s.mean) * (v[i] - s.mean);
    if (n > 1) s.deviation = sqrt(sum / (n - 1));
    return s;
}

void bench_report_cpu_info(char *buf, size_t buf_bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char  line[256];

    (void)snprintf(buf, buf_bytes, "unknown");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL) continue;
        (void)snprintf(buf, buf_bytes, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (file != NULL) (void)fclose(file);
}

base_status_t bench_report_create(const options_t *o, bench_report_t **out, base_err_t *err)
{
    static const char *const names[] = {"md", "csv", "json", "jsonl", "sql"};
    bench_report_t          *r       = NULL;
    void                    *memory  = NULL;
    base_status_t            st      = base_alloc(&memory, 1, sizeof(*r), "the bench report", err);

    if (st != BASE_OK) return st;
    r    = memory;
    r->o = o;
    for (int i = 0; i <= (int)FORMAT_SQL; i++)
        if (strcmp(opt_string(o, OPT_OUTPUT_FORMAT), names[i]) == 0) r->format = (format_t)i;
    if (opt_flag(o, OPT_JSON)) r->format = FORMAT_JSON;
    if (r->format == FORMAT_JSON) r->list = json_array();
    bench_report_cpu_info(r->cpu_info, sizeof(r->cpu_info));
    *out = r;
    return BASE_OK;
}

/* "bitnet 3.15M tq2_0" */
static void model_type(const model_t *model, const census_t *c, char *buf, size_t buf_bytes)
{
    double      n    = (double)c->all.params;
    const char *unit = n >= 1e9 ? "B" : "M";
    int         type = MODEL_F32;

    for (int t = 0; t < MODEL_TYPE_COUNT; t++)
        if (c->types[t].params > c->types[type].params) type = t;
    (void)snprintf(buf, buf_bytes, "%s %.2f%s %s", model->desc.arch, n >= 1e9 ? n / 1e9 : n / 1e6,
                   unit, model_type_info((model_type_t)type)->name);
}

/* Tokens of one sample. */
static double bench_tokens(const bench_result_t *r)
{
    return (double)(r->n_prompt + r->n_gen) * r->n_seq;
}

static void test_name(const bench_result_t *r, bool screened, char *buf, size_t buf_bytes)
{
    int n = 0;

    if (r->n_prompt > 0) n = snprintf(buf, buf_bytes, "pp%" PRIu32, r->n_prompt);
    if (r->n_gen > 0)
        n += snprintf(buf + n, buf_bytes - (size_t)n, "%stg%" PRIu32, r->n_prompt > 0 ? "+" : "",
                      r->n_gen);
    if (r->n_seq > 1) n += snprintf(buf + n, buf_bytes - (size_t)n, " x%" PRIu32, r->n_seq);
    if (r->n_depth > 0) n += snprintf(buf + n, buf_bytes - (size_t)n, " @ d%" PRIu32, r->n_depth);
    if (screened) (void)snprintf(buf + n, buf_bytes - (size_t)n, " screened");
}

static void backend_name(const engine_info_t *info, char *buf, size_t buf_bytes)
{
    if (info->n_ranks == 1)
        (void)snprintf(buf, buf_bytes, "CPU");
    else
        (void)snprintf(buf, buf_bytes, "MPI %s", info->layout);
}

static json_t *samples_json(const double *v, uint32_t n)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < n && list != NULL; i++)
        (void)json_array_append_new(list, out_json_real(v[i]));
    return list;
}

static json_t *samples_ns_json(const bench_result_t *r)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < r->n_samples && list != NULL; i++)
        (void)json_array_append_new(list, json_integer((json_int_t)r->samples_ns[i]));
    return list;
}

/* Ours: what the ranks did for one token. */
static void add_rank_figures(json_t *value, const engine_info_t *info, const bench_result_t *r,
                             const engine_rank_stats_t *stats)
{
    double   tokens  = bench_tokens(r) * r->n_samples;
    double   compute = 0;
    double   waiting = 0;
    double   bytes   = 0;
    double   rows    = 0;
    uint64_t peak    = 0;
    uint64_t kv[2]   = {0, 0}; /* pages, those near */

    for (uint32_t i = 0; i < info->n_ranks; i++) {
        kv[0] += stats[i].kv_pages;
        kv[1] += stats[i].kv_local;
        compute += (double)stats[i].compute_us / 1e3;
        waiting += (double)stats[i].comm_us / 1e3;
        bytes += (double)stats[i].comm_bytes;
        rows += (double)stats[i].head_rows;
        if (stats[i].rss_bytes > peak) peak = stats[i].rss_bytes;
    }
    json_t *ours =
        json_pack("{s:I, s:I, s:I, s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:s, s:s, s:o}", "n_parallel",
                  (json_int_t)r->n_seq, "ranks", (json_int_t)info->n_ranks, "hosts",
                  (json_int_t)info->n_hosts, "layout", info->layout, "peak_rss_bytes",
                  (json_int_t)peak, "memory_per_rank", session_memory_json(stats, info->n_ranks),
                  "compute_ms", out_json_real(compute / info->n_ranks / tokens), "comm_ms",
                  out_json_real(waiting / info->n_ranks / tokens), "bytes_per_token",
                  out_json_real(bytes / tokens), "weight_bytes", (json_int_t)info->weight_bytes,
                  "pack", info->pack, "cpu", info->cpu, "load_s", out_json_real(info->load_s));
    (void)json_object_update(value, ours);
    (void)json_object_set_new(value, "pack_reason", json_string(info->pack_reason));
    (void)json_object_set_new(value, "pack_cache", json_string(info->pack_cache));
    (void)json_object_set_new(value, "numa_local",
                              info->numa_local < 0 ? json_null() : out_json_real(info->numa_local));
    (void)json_object_set_new(value, "numa_local_kv",
                              kv[0] == 0 ? json_null()
                                         : out_json_real((double)kv[1] / (double)kv[0]));
    (void)json_object_set_new(value, "head", json_string(info->screened ? "screened" : "full"));
    if (info->screened) (void)json_object_set_new(value, "head_rows", out_json_real(rows / tokens));
    json_decref(ours);
}

static json_t *result_json(const bench_report_t *report, const engine_t *engine,
                           const bench_result_t *r, const engine_rank_stats_t *stats,
                           const census_t *census, const double *ts, spread_t s_ns, spread_t s_ts)
{
    const model_t *model = engine_model(engine);
    engine_info_t  info  = engine_info(engine);
    const char    *path  = opt_string(report->o, OPT_MODEL);
    struct tm      utc;
    char           when[32] = "";
    char           type[96];
    char           backend[48];
    json_t        *value = NULL;

    if (path == NULL) path = opt_string(report->o, OPT_SHAPE);
    if (gmtime_r(&r->test_time, &utc) != NULL)
        (void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
    model_type(model, census, type, sizeof(type));
    backend_name(&info, backend, sizeof(backend));
    value = json_pack(
        "{s:s, s:o, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "build_commit",
        TRIREME_BUILD_COMMIT, "cpu_info", out_json_text(report->cpu_info, strlen(report->cpu_info)),
        "backends", backend, "model_filename", out_json_text(path, strlen(path)), "model_type",
        out_json_text(type, strlen(type)), "model_size", (json_int_t)census->all.bytes,
        "model_n_params", (json_int_t)census->all.params, "n_batch", (json_int_t)r->n_batch,
        "n_ubatch", (json_int_t)r->n_batch, "n_threads", (json_int_t)r->n_threads, "n_prompt",
        (json_int_t)r->n_prompt, "n_gen", (json_int_t)r->n_gen, "n_depth", (json_int_t)r->n_depth,
        "test_time", when);
    if (value == NULL) return NULL;
    (void)json_object_set_new(value, "avg_ns", json_integer((json_int_t)llround(s_ns.mean)));
    (void)json_object_set_new(value, "stddev_ns",
                              json_integer((json_int_t)llround(s_ns.deviation)));
    (void)json_object_set_new(value, "avg_ts", out_json_real(s_ts.mean));
    (void)json_object_set_new(value, "stddev_ts", out_json_real(s_ts.deviation));
    (void)json_object_set_new(value, "samples_ns", samples_ns_json(r));
    (void)json_object_set_new(value, "samples_ts", samples_json(ts, r->n_samples));
    add_rank_figures(value, &info, r, stats);
    bench_account_add(value, engine, r, stats, s_ts.mean);
    return value;
}

/* ---- the forms ---- */

static void print_md(bench_report_t *report, const engine_t *engine, const bench_result_t *r,
                     const census_t *census, spread_t s_ts)
{
    engine_info_t info    = engine_info(engine);
    bool          batches = report->o->v[OPT_BENCH_BATCH_SIZE].n > 1;
    char          type[96];
    char          backend[48];
    char          size[32];
    char          params[32];
    char          test[64];
    char          speed[64];
    double        n = (double)census->all.params;

    model_type(engine_model(engine), census, type, sizeof(type));
    backend_name(&info, backend, sizeof(backend));
    test_name(r, info.screened, test, sizeof(test));
    (void)snprintf(params, sizeof(params), "%.2f %s", n >= 1e9 ? n / 1e9 : n / 1e6,
                   n >= 1e9 ? "B" : "M");
    (void)snprintf(speed, sizeof(speed), "%.2f ± %.2f", s_ts.mean, s_ts.deviation);
    if (!report->head_done) {
        (void)printf("| %-30s | %10s | %10s | %-10s | %7s |%s %15s | %20s |\n", "model", "size",
                     "params", "backend", "threads", batches ? " n_batch |" : "", "test", "t/s");
        (void)printf("| ------------------------------ | ---------: | ---------: | ---------- | "
                     "------: |%s --------------: | -------------------: |\n",
                     batches ? " ------: |" : "");
    }
    (void)printf("| %-30s | %10s | %10s | %-10s | %7" PRIu32 " |", type,
                 out_bytes(census->all.bytes, size, sizeof(size)), params, backend, r->n_threads);
    if (batches) (void)printf(" %7" PRIu32 " |", r->n_batch);
    (void)printf(" %15s | %21s |\n", test, speed); /* one wider: ± is two bytes */
}

static void print_quoted(const char *text, char quote)
{
    (void)putchar(quote);
    for (; *text != '\0'; text++) {
        if (*text == quote) (void)putchar(quote);
        (void)putchar(*text);
    }
    (void)putchar(quote);
}

/* Lists are left out of lines, as llama-bench does. */
static bool in_lines(const json_t *field)
{
    return !json_is_array(field) && !json_is_object(field);
}

static const char *number_text(const json_t *field, char *buf, size_t bytes)
{
    if (json_is_integer(field))
        (void)snprintf(buf, bytes, "%" JSON_INTEGER_FORMAT, json_integer_value(field));
    else if (json_is_number(field))
        (void)snprintf(buf, bytes, "%.15g", json_number_value(field));
    else
        buf[0] = '\0';
    return buf;
}

void bench_report_print_csv(json_t *value, bool head)
{
    const char *key   = NULL;
    json_t     *field = NULL;
    char        number[64];

    for (int line = head ? 0 : 1; line < 2; line++) {
        bool first = true;
        json_object_foreach(value, key, field)
        {
            if (!in_lines(field)) continue;
            if (!first) (void)putchar(',');
            first = false;
            print_quoted(line == 0               ? key
                         : json_is_string(field) ? json_string_value(field)
                                                 : number_text(field, number, sizeof(number)),
                         '"');
        }
        (void)putchar('\n');
    }
}

/* The columns of a row: with their types (0), their names (1), its values (2). */
static void print_sql_list(json_t *value, int what)
{
    const char *key   = NULL;
    json_t     *field = NULL;
    char        number[64];
    bool        first = true;

    json_object_foreach(value, key, field)
    {
        if (!in_lines(field)) continue;
        if (!first) (void)printf(", ");
        first = false;
        if (what < 2)
            (void)printf("%s%s", key,
                         what == 1                ? ""
                         : json_is_string(field)  ? " TEXT"
                         : json_is_integer(field) ? " INTEGER"
                                                  : " REAL");
        else if (json_is_string(field))
            print_quoted(json_string_value(field), '\'');
        else
            (void)printf("%s",
                         json_is_null(field) ? "NULL" : number_text(field, number, sizeof(number)));
    }
}

void bench_report_print_sql(json_t *value, const char *table, bool head)
{
    if (head) {
        (void)printf("CREATE TABLE IF NOT EXISTS %s (", table);
        print_sql_list(value, 0);
        (void)printf(");\n");
    }
    (void)printf("INSERT INTO %s (", table);
    print_sql_list(value, 1);
    (void)printf(") VALUES (");
    print_sql_list(value, 2);
    (void)printf(");\n");
}

base_status_t bench_report_add(bench_report_t *report, const engine_t *engine,
                               const bench_result_t *r, const engine_rank_stats_t *stats,
                               base_err_t *err)
{
    census_t      census = {0};
    double       *ts     = NULL;
    double       *ns     = NULL;
    void         *memory = NULL;
    json_t       *value  = NULL;
    base_status_t st = base_alloc(&memory, 2 * (size_t)r->n_samples, sizeof(*ts), "samples", err);

    if (st != BASE_OK) return st;
    ts = memory;
    ns = ts + r->n_samples;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        ns[i] = (double)r->samples_ns[i];
        ts[i] = ns[i] > 0 ? bench_tokens(r) * 1e9 / ns[i] : 0;
    }
    census_take(&census, engine_model(engine));
    value = result_json(report, engine, r, stats, &census, ts, spread(ns, r->n_samples),
                        spread(ts, r->n_samples));
    if (value == NULL) {
        st = base_fail(err, BASE_ERR_MEMORY, "no memory for the result");
        goto out;
    }
    switch (report->format) {
    case FORMAT_MD:
        print_md(report, engine, r, &census, spread(ts, r->n_samples));
        if (opt_flag(report->o, OPT_ACCOUNT)) bench_account_print(value);
        break;
    case FORMAT_CSV: bench_report_print_csv(value, !report->head_done); break;
    case FORMAT_SQL: bench_report_print_sql(value, "trireme_bench", !report->head_done); break;
    case FORMAT_JSON: (void)json_array_append(report->list, value); break;
    case FORMAT_JSONL: st = out_json_write(&value, err); break;
    }
    report->head_done = true;
    if (st == BASE_OK) st = out_flush(err);
out:
    json_decref(value);
    free(memory);
    return st;
}

base_status_t bench_report_finish(bench_report_t **report, base_err_t *err)
{
    base_status_t st = BASE_OK;

    if ((*report)->format == FORMAT_JSON) st = out_json_write(&(*report)->list, err);
    if ((*report)->format == FORMAT_MD && (*report)->head_done) {
        (void)printf("\nbuild: %s (trireme %s)\n", TRIREME_BUILD_COMMIT, TRIREME_VERSION);
        st = out_flush(err);
    }
    json_decref((*report)->list);
    free(*report);
    *report = NULL;
    return st;
}
