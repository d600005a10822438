/* partition/batch.h
 * What one step runs: runs of tokens, each of one sequence. The same words serve the coordinator
 * that asks, the wire, and the worker that computes. Pure; no allocation.
 *
 * A sequence is a slot of the KV cache, 0 .. n_seq - 1. A run puts n tokens at positions pos ..
 * pos + n - 1 of its sequence, on top of positions 0 .. pos - 1 that earlier steps left (a smaller
 * pos than before forgets the rest). A sequence has at most one run in a step. Prompts and single
 * tokens mix freely: what shares a step with a run changes no bit of its logits. */
#ifndef TRIREME_PARTITION_BATCH_H
#define TRIREME_PARTITION_BATCH_H

#include <float.h>

#include "base/limits.h"
#include "base/status.h"

/* In the place of a logit that was not computed: below every one that was. */
#define PART_LOGIT_UNSEEN (-FLT_MAX)

/* Steps that the engine has under way at most; the planner counts with it. */
enum { PART_FLIGHTS_MAX = 8 };

typedef struct {
    uint32_t seq;   /* slot of the KV cache */
    uint32_t pos;   /* position of the first token */
    uint32_t n;     /* tokens, 1 or more */
    uint32_t n_out; /* logits wanted for the last n_out of them, 0..n */
} part_run_t;

typedef struct {
    const part_run_t *runs; /* n_runs, 1 or more */
    const int32_t    *ids;  /* n_ids: those of the runs one after the other */
    uint32_t          n_runs, n_ids;
    /* 0: whole rows of logits. k: only the k best of a row, ordered by (value descending, id
     * ascending), must be there; of the others each may be PART_LOGIT_UNSEEN instead. */
    uint32_t n_top;
} part_batch_t;

/* What a batch must keep within. */
typedef struct {
    uint32_t n_seq;   /* sequences, 1..LIMIT_SEQUENCES */
    uint32_t n_ctx;   /* positions of each */
    uint32_t n_batch; /* tokens of one step */
    uint32_t n_out;   /* rows of logits of one step */
    uint32_t n_vocab;
} part_batch_limits_t;

/* Tokens that go through a stage together, at most: with one stage all of a step (n_batch); with
 * more a step goes in parts, so that the stages work at the same time on different parts. Never
 * fewer than n_seq. */
uint32_t part_micro_batch(uint32_t n_stages, uint32_t n_batch, uint32_t n_seq);

/* The next part of a batch, from token `at` on: up to n tokens, its runs into runs[] (room for
 * batch->n_runs). Rows of the parts follow each other as in the whole. */
part_batch_t part_batch_cut(const part_batch_t *batch, uint32_t at, uint32_t n, part_run_t *runs);

/* The one run, as a batch. */
part_batch_t part_batch_one(const part_run_t *run, const int32_t *ids);

/* Rows of logits of a batch, in the order of the runs. */
uint32_t part_batch_rows(const part_batch_t *batch);

/* Is it sound, and within the limits? Anything may stand in *batch, as long as runs and ids point
 * to n_runs and n_ids values. Status: OK | INPUT (an id) | USAGE (all else; names run and
 * values). */
base_status_t part_batch_check(const part_batch_t *batch, const part_batch_limits_t *limits,
                               base_err_t *err);

#endif
