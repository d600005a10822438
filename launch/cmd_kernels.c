/* launch/cmd_kernels.c: bench --kernels. One process, no model, no MPI. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "build_info.h"
#include "launch/bench_report.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "worker/measure.h"
#include "worker/worker.h"

typedef struct {
    const char *format;
    json_t     *list; /* of format json */
    bool        head_done;
    char        cpu_info[128];
} kernels_t;

/* 1e9 a second; null where there is none. */
static json_t *giga(double v)
{
    return v > 0 ? out_json_real(v / 1e9) : json_null();
}

static json_t *positive(double v)
{
    return v > 0 ? out_json_real(v) : json_null();
}

static json_t *row_json(const kernels_t *k, const worker_measure_row_t *r)
{
    const double weights = r->bits_per_weight > 0 ? 8 * r->bytes_per_s / r->bits_per_weight : 0;

    return json_pack("{s:s, s:o, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "build_commit", TRIREME_BUILD_COMMIT, "cpu_info",
                     out_json_text(k->cpu_info, strlen(k->cpu_info)), "kernel", r->slot, "variant",
                     r->variant, "n_threads", (json_int_t)r->n_threads, "n_tokens",
                     r->n_tok > 0 ? json_integer(r->n_tok) : json_null(), "bits_per_weight",
                     positive(r->bits_per_weight), "gb_s", giga(r->bytes_per_s), "gweights_s",
                     giga(weights), "gproducts_s", giga(r->products_per_s), "read_gb_s",
                     giga(r->read_bytes_per_s), "bandwidth_fraction", positive(r->bandwidth_share),
                     "peak_fraction", positive(r->peak_share));
}

/* A number with `digits` behind the point, or "-". */
static const char *number(double v, int digits, const char *unit, char *buf, size_t bytes)
{
    (void)snprintf(buf, bytes, v > 0 ? "%.*f%s" : "-", digits, v, unit);
    return buf;
}

static void print_md(kernels_t *k, const worker_measure_row_t *r)
{
    char tok[16] = "-";
    char text[4][32];

    if (!k->head_done)
        (void)printf("| %-16s | %-10s | %7s | %6s | %9s | %12s | %9s | %7s |\n"
                     "| ---------------- | ---------- | ------: | -----: | --------: | "
                     "-----------: | --------: | ------: |\n",
                     "kernel", "variant", "threads", "tokens", "GB/s", "G products/s", "bandwidth",
                     "peak");
    if (r->n_tok > 0) (void)snprintf(tok, sizeof(tok), "%" PRIu32, r->n_tok);
    (void)printf("| %-16s | %-10s | %7" PRIu32 " | %6s | %9s | %12s | %9s | %7s |\n", r->slot,
                 r->variant, r->n_threads, tok,
                 number(r->bytes_per_s / 1e9, 2, "", text[0], sizeof(text[0])),
                 number(r->products_per_s / 1e9, 2, "", text[1], sizeof(text[1])),
                 number(r->bandwidth_share * 100, 1, " %", text[2], sizeof(text[2])),
                 number(r->peak_share * 100, 1, " %", text[3], sizeof(text[3])));
}

static base_status_t take_row(void *ctx, const worker_measure_row_t *row, uint32_t done,
                              uint32_t total, base_err_t *err)
{
    kernels_t    *k     = ctx;
    json_t       *value = NULL;
    base_status_t st    = BASE_OK;

    base_progress("kernels", done, total);
    if (strcmp(k->format, "md") == 0) {
        print_md(k, row);
    } else {
        value = row_json(k, row);
        if (value == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the result");
        if (k->list != NULL)
            (void)json_array_append(k->list, value);
        else if (strcmp(k->format, "csv") == 0)
            bench_report_print_csv(value, !k->head_done);
        else if (strcmp(k->format, "sql") == 0)
            bench_report_print_sql(value, "trireme_kernels", !k->head_done);
        else
            st = out_json_write(&value, err);
        json_decref(value);
    }
    k->head_done = true;
    return st == BASE_OK ? out_flush(err) : st;
}

/* One team: n_threads of -t, 0 or less: a thread for each core of the binding. */
static base_status_t measure(const options_t *o, kernels_t *k, int64_t n_threads, base_err_t *err)
{
    worker_topology_t     *topology = NULL;
    worker_team_t         *team     = NULL;
    const worker_measure_t config   = {.cpu     = opt_string(o, OPT_CPU),
                                       .filter  = opt_string(o, OPT_KERNEL_FILTER),
                                       .seconds = (double)opt_int(o, OPT_KERNEL_MS) * 1e-3,
                                       .row     = take_row,
                                       .ctx     = k};
    base_status_t          st       = worker_topology_open(0, &topology, err);

    if (st != BASE_OK) return st;
    const int  n    = n_threads > 0 ? (int)n_threads : worker_topology_cores(topology);
    const bool fits = worker_topology_fits(topology, n);
    if (!fits) base_log(BASE_LOG_WARN, "%d threads on fewer cores: the figures will be low", n);
    st = worker_team_create(n, topology, fits && !opt_flag(o, OPT_NO_PIN), fits, &team, err);
    if (st == BASE_OK) st = worker_measure_kernels(team, &config, err);
    worker_team_destroy(&team);
    worker_topology_close(&topology);
    return st;
}

int cmd_kernels(const options_t *o)
{
    const opt_value_t *threads = &o->v[OPT_BENCH_THREADS];
    kernels_t          k       = {0};
    base_err_t         err;
    base_err_t         end_err;
    base_status_t      st = BASE_OK;

    if (opt_given(o, OPT_MODEL) || opt_given(o, OPT_SHAPE))
        st = base_fail(&err, BASE_ERR_USAGE, "--kernels: needs no model; leave -m and --shape out");
    else if (opt_string(o, OPT_CPU) != NULL && !worker_cpu_known(opt_string(o, OPT_CPU)))
        st = base_fail(&err, BASE_ERR_USAGE, "--cpu %s: not a variant of kernels",
                       opt_string(o, OPT_CPU));
    if (st != BASE_OK) return cli_usage_error(&err, "bench");
    if (cli_launcher_rank() != 0) return 0; /* one process measures the machine */
    k.format = opt_flag(o, OPT_JSON) ? "json" : opt_string(o, OPT_OUTPUT_FORMAT);
    if (strcmp(k.format, "json") == 0) k.list = json_array();
    bench_report_cpu_info(k.cpu_info, sizeof(k.cpu_info));
    for (uint32_t i = 0; i < threads->n && st == BASE_OK; i++)
        st = measure(o, &k, threads->ints[i], &err);
    if (k.list != NULL) {
        base_status_t end = out_json_write(&k.list, &end_err);
        if (st == BASE_OK && end != BASE_OK) {
            err = end_err;
            st  = end;
        }
    }
    return st == BASE_OK ? 0 : out_fail(&err);
}
