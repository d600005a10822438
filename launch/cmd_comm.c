/* launch/cmd_comm.c: bench --comm. All ranks, no model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "build_info.h"
#include "comm/measure.h"
#include "launch/bench_report.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"

typedef struct {
    const options_t *o;
    size_t          *sizes;
    const char      *format;
    json_t          *list; /* of format json */
    bool             head_done;
    char             cpu_info[128], mpi[128];
} bench_comm_t;

static json_t *row_json(const bench_comm_t *b, const comm_measure_row_t *r)
{
    const double gb_s = (double)r->bytes / r->median_us * 1e-3;

    return json_pack(
        "{s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, "
        "s:o}",
        "build_commit", TRIREME_BUILD_COMMIT, "cpu_info",
        out_json_text(b->cpu_info, strlen(b->cpu_info)), "mpi_library", b->mpi, "op", r->op,
        "group", r->group, "means", r->means, "mpi", r->mpi, "n_ranks", (json_int_t)r->ranks,
        "n_hosts", (json_int_t)r->hosts, "bytes", (json_int_t)r->bytes, "best_us",
        out_json_real(r->best_us), "median_us", out_json_real(r->median_us), "gb_s",
        out_json_real(gb_s), "mpi_best_us", out_json_real(r->mpi_best_us), "mpi_median_us",
        out_json_real(r->mpi_median_us), "ratio", out_json_real(r->mpi_median_us / r->median_us));
}

static void print_md(const bench_comm_t *b, const comm_measure_row_t *r)
{
    char group[32];

    if (!b->head_done)
        (void)printf(
            "| %-10s | %-8s | %-14s | %8s | %9s | %9s | %7s | %9s | %9s | %5s |\n"
            "| ---------- | -------- | -------------- | -------: | --------: | --------: | "
            "------: | --------: | --------: | ----: |\n",
            "op", "group", "means", "bytes", "best us", "median us", "GB/s", "MPI best", "median",
            "ratio");
    (void)snprintf(group, sizeof(group), "%s %" PRIu32, r->group, r->ranks);
    (void)printf("| %-10s | %-8s | %-14s | %8zu | %9.2f | %9.2f | %7.3f | %9.2f | %9.2f | %5.2f "
                 "|\n",
                 r->op, group, r->means, r->bytes, r->best_us, r->median_us,
                 (double)r->bytes / r->median_us * 1e-3, r->mpi_best_us, r->mpi_median_us,
                 r->mpi_median_us / r->median_us);
}

static base_status_t take_row(void *ctx, const comm_measure_row_t *row, base_err_t *err)
{
    bench_comm_t *b     = ctx;
    json_t       *value = NULL;
    base_status_t st    = BASE_OK;

    if (strcmp(b->format, "md") == 0) {
        print_md(b, row);
    } else {
        value = row_json(b, row);
        if (value == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the result");
        if (b->list != NULL)
            (void)json_array_append(b->list, value);
        else if (strcmp(b->format, "csv") == 0)
            bench_report_print_csv(value, !b->head_done);
        else if (strcmp(b->format, "sql") == 0)
            bench_report_print_sql(value, "trireme_comm", !b->head_done);
        else
            st = out_json_write(&value, err);
        json_decref(value);
    }
    b->head_done = true;
    return st == BASE_OK ? out_flush(err) : st;
}

static base_status_t body(void *context, comm_world_t *world, base_err_t *err)
{
    bench_comm_t      *b       = context;
    const opt_value_t *threads = &b->o->v[OPT_BENCH_THREADS];
    comm_measure_t     config  = {.sizes   = b->sizes,
                                  .n_sizes = b->o->v[OPT_COMM_SIZES].n,
                                  .seconds = (double)opt_int(b->o, OPT_COMM_MS) * 1e-3,
                                  .row     = take_row,
                                  .ctx     = b};
    uint32_t           n  = threads->n > 0 && threads->ints[0] > 0 ? (uint32_t)threads->ints[0] : 1;
    base_status_t      st = comm_world_set_threads(world, n, err);

    if (st != BASE_OK) return st;
    if (comm_size(world) == 1)
        base_log(BASE_LOG_WARN, "one rank has nobody to talk to: nothing is measured. Try: mpirun "
                                "-n 2 --bind-to core trireme bench --comm");
    (void)comm_library_version(b->mpi, sizeof(b->mpi));
    st = comm_measure(world, &config, err);
    if (comm_rank(world) == 0 && b->list != NULL) {
        base_err_t    end_err;
        base_status_t end = out_json_write(&b->list, &end_err);
        if (st == BASE_OK && end != BASE_OK) {
            *err = end_err;
            st   = end;
        }
    }
    return st;
}

int cmd_comm(const options_t *o)
{
    const opt_value_t *sizes  = &o->v[OPT_COMM_SIZES];
    bench_comm_t       b      = {.o = o};
    void              *memory = NULL;
    base_err_t         err;
    base_status_t      st = BASE_OK;
    int                rc = 0;

    if (opt_given(o, OPT_MODEL) || opt_given(o, OPT_SHAPE))
        st = base_fail(&err, BASE_ERR_USAGE, "--comm: needs no model; leave -m and --shape out");
    else if (opt_flag(o, OPT_KERNELS))
        st = base_fail(&err, BASE_ERR_USAGE, "--comm and --kernels exclude each other");
    for (uint32_t i = 0; i < sizes->n && st == BASE_OK; i++)
        if (sizes->ints[i] % 4 != 0)
            st = base_fail(&err, BASE_ERR_USAGE, "--sizes %" PRId64 ": not a multiple of 4",
                           sizes->ints[i]);
    if (st != BASE_OK) return cli_usage_error(&err, "bench");
    st = base_alloc(&memory, sizes->n, sizeof(*b.sizes), "sizes", &err);
    if (st != BASE_OK) return out_fail(&err);
    b.sizes = memory;
    for (uint32_t i = 0; i < sizes->n; i++) b.sizes[i] = (size_t)sizes->ints[i];
    b.format = opt_flag(o, OPT_JSON) ? "json" : opt_string(o, OPT_OUTPUT_FORMAT);
    if (strcmp(b.format, "json") == 0) b.list = json_array();
    bench_report_cpu_info(b.cpu_info, sizeof(b.cpu_info));
    rc = session_main_world(o, body, &b);
    json_decref(b.list);
    free(b.sizes);
    return rc;
}
