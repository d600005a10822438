/* partition/batch.c: runs of tokens, checked. It runs once per step. */
#include "partition/batch.h"

_Static_assert(LIMIT_SEQUENCES % 64 == 0, "one bit a sequence");

part_batch_t part_batch_one(const part_run_t *run, const int32_t *ids)
{
    return (part_batch_t){.runs = run, .ids = ids, .n_runs = 1, .n_ids = run->n};
}

enum { MICRO_MAX = 128 };

uint32_t part_micro_batch(uint32_t n_stages, uint32_t n_batch, uint32_t n_seq)
{
    uint32_t most = n_seq > MICRO_MAX ? n_seq : MICRO_MAX;
    return n_stages == 1 || n_batch < most ? n_batch : most;
}

part_batch_t part_batch_cut(const part_batch_t *batch, uint32_t at, uint32_t n, part_run_t *runs)
{
    part_batch_t part  = {.runs = runs, .ids = batch->ids + at, .n_top = batch->n_top};
    uint32_t     begin = 0; /* of the run in the batch */
    for (uint32_t i = 0; i < batch->n_runs && n > 0; begin += batch->runs[i++].n) {
        const part_run_t *run = &batch->runs[i];
        if (at >= begin + run->n) continue;
        uint32_t skip       = at - begin;
        uint32_t take       = run->n - skip < n ? run->n - skip : n;
        uint32_t plain      = run->n - run->n_out; /* tokens of the run before those with rows */
        uint32_t from       = plain > skip ? plain : skip;
        runs[part.n_runs++] = (part_run_t){.seq   = run->seq,
                                           .pos   = run->pos + skip,
                                           .n     = take,
                                           .n_out = skip + take > from ? skip + take - from : 0};
        part.n_ids += take;
        at += take;
        n -= take;
    }
    return part;
}

uint32_t part_batch_rows(const part_batch_t *batch)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < batch->n_runs; i++) rows += batch->runs[i].n_out;
    return rows;
}

static base_status_t run_check(const part_run_t *run, uint32_t i, uint32_t left,
                               const part_batch_limits_t *limits, base_err_t *err)
{
    if (run->seq >= limits->n_seq)
        return base_fail(err, BASE_ERR_USAGE, "run %u: sequence %u, there are %u", i, run->seq,
                         limits->n_seq);
    if (run->n < 1 || run->n > left)
        return base_fail(err, BASE_ERR_USAGE, "run %u: %u tokens, expected 1..%u", i, run->n, left);
    if (run->pos > limits->n_ctx || run->n > limits->n_ctx - run->pos)
        return base_fail(err, BASE_ERR_USAGE,
                         "%u tokens at position %u do not fit a context of %u; give a larger -c",
                         run->n, run->pos, limits->n_ctx);
    if (run->n_out > run->n)
        return base_fail(err, BASE_ERR_USAGE, "run %u: logits of %u tokens wanted, but it has %u",
                         i, run->n_out, run->n);
    return BASE_OK;
}

base_status_t part_batch_check(const part_batch_t *batch, const part_batch_limits_t *limits,
                               base_err_t *err)
{
    uint64_t      seen[LIMIT_SEQUENCES / 64] = {0};
    uint32_t      left                       = batch->n_ids;
    uint32_t      rows                       = 0;
    base_status_t st                         = BASE_OK;

    base_assert(limits->n_seq >= 1 && limits->n_seq <= LIMIT_SEQUENCES);
    if (batch->n_ids < 1 || batch->n_ids > limits->n_batch)
        return base_fail(err, BASE_ERR_USAGE, "%u tokens in one step, expected 1..%u", batch->n_ids,
                         limits->n_batch);
    if (batch->n_runs < 1 || batch->n_runs > limits->n_seq)
        return base_fail(err, BASE_ERR_USAGE, "%u runs in one step, expected 1..%u", batch->n_runs,
                         limits->n_seq);
    for (uint32_t i = 0; i < batch->n_runs; i++) {
        const part_run_t *run = &batch->runs[i];
        st                    = run_check(run, i, left, limits, err);
        if (st != BASE_OK) return st;
        uint64_t bit = UINT64_C(1) << run->seq % 64;
        if ((seen[run->seq / 64] & bit) != 0)
            return base_fail(err, BASE_ERR_USAGE, "run %u: sequence %u has a run in this step", i,
                             run->seq);
        seen[run->seq / 64] |= bit;
        left -= run->n;
        rows += run->n_out;
    }
    if (left != 0)
        return base_fail(err, BASE_ERR_USAGE, "the runs have %u tokens, the step has %u",
                         batch->n_ids - left, batch->n_ids);
    if (rows > limits->n_out)
        return base_fail(err, BASE_ERR_USAGE, "%u rows of logits wanted, room for %u", rows,
                         limits->n_out);
    if (batch->n_top > limits->n_vocab)
        return base_fail(err, BASE_ERR_USAGE, "the best %u of each row wanted, a row has %u",
                         batch->n_top, limits->n_vocab);
    for (uint32_t i = 0; i < batch->n_ids; i++)
        if (batch->ids[i] < 0 || (uint32_t)batch->ids[i] >= limits->n_vocab)
            return base_fail(err, BASE_ERR_INPUT, "token %u has id %d: the model has 0 to %u", i,
                             batch->ids[i], limits->n_vocab - 1);
    return BASE_OK;
}
