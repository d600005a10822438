/* launch/bench_account.h
 * What bench says besides speed: where the time of a token went, bytes of weights read against the
 * machine's bandwidth, the law of Amdahl for the projections, and energy. */
#ifndef TRIREME_LAUNCH_BENCH_ACCOUNT_H
#define TRIREME_LAUNCH_BENCH_ACCOUNT_H

#include "launch/bench_report.h"
#include "launch/output.h"

/* Adds to a result's JSON object:
 *   parts_ms               of one token: weights, attention, head, norms, comm, wait (mean over the
 *                          ranks, as the thread that communicates saw them)
 *   projection_share       of the time: weights / all; amdahl_ceiling = 1 / (1 - share)
 *   read_gb_s              weights and head read by all ranks, 1e9 bytes a second (generation with
 *                          whole rows of the head; else null)
 *   bandwidth_gb_s         what the same threads read with nothing to work out: the median of looks
 *                          of 30 ms before, between and after the repetitions (null: not measured)
 *   bandwidth_share        what a repetition read over the mean of the looks before and after it:
 *                          the median of all repetitions (null with either of the two)
 *   huge_page_share        of the anonymous memory in huge pages, the rank with least (null: as
 *                          above)
 *   macs_per_token         ternary, dense, attention, head
 *   joules_per_token       by arithmetic, for each process of account.h: as computed here, and the
 *                          same model in float16; matrix_ratio: the projections alone
 *   rapl_joules_per_token  counted by this host's processors; null where they tell nothing
 * r->rapl_joules < 0: nothing was told. Local. */
void bench_account_add(json_t *value, const engine_t *engine, const bench_result_t *r,
                       const engine_rank_stats_t *stats, double tokens_per_s);

/* The same as lines for people, on stdout. */
void bench_account_print(const json_t *value);

/* Joules that the host's processor packages (RAPL, through the powercap files) counted so far;
 * negative where there are none or they may not be read. */
double bench_account_rapl(void);

#endif
