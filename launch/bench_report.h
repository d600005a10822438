/* launch/bench_report.h
 * Results of bench as llama-bench prints them, and the figures that only we have. Rank 0. */
#ifndef TRIREME_LAUNCH_BENCH_REPORT_H
#define TRIREME_LAUNCH_BENCH_REPORT_H

#include <jansson.h>
#include <time.h>

#include "launch/engine.h"
#include "launch/options.h"

typedef struct {
    uint32_t  n_prompt, n_gen, n_depth, n_batch, n_threads;
    uint32_t  n_seq; /* sequences together: each has n_prompt, n_gen, n_depth */
    uint32_t  n_samples;
    uint64_t *samples_ns;
    double *looks; /* n_samples + 1: bytes a second that all ranks' threads read from memory before,
                      * between and after the samples; 0: not known */
    double  rapl_joules; /* of all samples; negative: not known */
    time_t  test_time;
} bench_result_t;

typedef struct bench_report bench_report_t;

base_status_t bench_report_create(const options_t *options, bench_report_t **out, base_err_t *err);
/* One result; stats of all ranks since the first sample. Lines of md, csv, jsonl and sql appear at
 * once, the JSON array at the end. Status: OK | MEMORY | SYSTEM (stdout). */
base_status_t bench_report_add(bench_report_t *report, const engine_t *engine,
                               const bench_result_t *result, const engine_rank_stats_t *stats,
                               base_err_t *err);
/* The end of the output; frees. */
base_status_t bench_report_finish(bench_report_t **report, base_err_t *err);

/* What the other benches share: the CPU's name, and a JSON object of scalars as a line of CSV on
 * stdout, after a line of its keys when `head`; or as an INSERT into `table`, after its CREATE. */
void bench_report_cpu_info(char *buf, size_t buf_bytes);
void bench_report_print_csv(json_t *value, bool head);
void bench_report_print_sql(json_t *value, const char *table, bool head);

#endif
