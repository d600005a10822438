/* comm/measure.c: our collectives and streams against those of the MPI library. */
#include "comm/measure.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/limits.h"
#include "base/order.h"
#include "comm/internal.h"

enum {
    BATCHES   = 15, /* of each side */
    WARM      = 3,  /* calls before anything is timed */
    MAX_CALLS = 1 << 14,
};

/* What an operation works on. */
typedef struct {
    comm_world_t *world;
    comm_grid_t  *grid;
    size_t        bytes;
    uint8_t      *buf;
    uint8_t      *fresh;   /* what buf holds before a sum: of the range that partial sums have */
    uint32_t     *counts;  /* [size] of the group: floats of each piece; the ring: counts[0] */
    uint32_t     *offsets; /* [size] */
} subject_t;

typedef base_status_t call_fn(subject_t *s, base_err_t *err);

/* ---- the calls ------------------------------------------------------------------------------- */

static base_status_t our_sum(subject_t *s, base_err_t *err)
{
    memcpy(s->buf, s->fresh, s->bytes);
    return comm_sum_i32(s->grid, (int32_t *)(void *)s->buf, s->bytes / sizeof(int32_t), err);
}

static base_status_t mpi_sum(subject_t *s, base_err_t *err)
{
    memcpy(s->buf, s->fresh, s->bytes);
    return comm_check(MPI_Allreduce(MPI_IN_PLACE, s->buf, (int)(s->bytes / sizeof(int32_t)),
                                    MPI_INT32_T, MPI_SUM, s->grid->group),
                      "MPI_Allreduce", err);
}

static base_status_t our_gather(subject_t *s, base_err_t *err)
{
    return comm_gather_f32(s->grid, (float *)(void *)s->buf, s->counts, s->offsets, err);
}

static base_status_t mpi_gather(subject_t *s, base_err_t *err)
{
    return comm_check(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, s->buf,
                                     (const int *)(void *)s->counts,
                                     (const int *)(void *)s->offsets, MPI_FLOAT, s->grid->group),
                      "MPI_Allgatherv", err);
}

/* The way back from the last stage to rank 0 is that of the logits. */
static base_status_t our_ring(subject_t *s, base_err_t *err)
{
    comm_grid_t   *g   = s->grid;
    float         *buf = (float *)(void *)s->buf;
    size_t         n   = s->bytes / sizeof(*buf);
    const uint32_t all = (uint32_t)n, zero = 0;
    base_status_t  st = BASE_OK;

    if (g->stage > 0) st = comm_stage_recv(g, buf, n, err);
    if (st == BASE_OK && g->stage + 1 < g->stages) st = comm_stage_send(g, buf, n, err);
    if (st == BASE_OK) st = comm_logits_to_root(g, buf, 1, &all, &zero, buf, n, buf, err);
    return st;
}

static base_status_t mpi_ring(subject_t *s, base_err_t *err)
{
    const comm_world_t *w  = s->world;
    int                 rc = MPI_SUCCESS, to = (w->rank + 1) % w->size;
    int                 from = (w->rank + w->size - 1) % w->size, n = (int)s->bytes;

    if (w->rank == 0) rc = MPI_Send(s->buf, n, MPI_BYTE, to, COMM_TAG_MEASURE, w->all);
    if (rc == MPI_SUCCESS)
        rc = MPI_Recv(s->buf, n, MPI_BYTE, from, COMM_TAG_MEASURE, w->all, MPI_STATUS_IGNORE);
    if (rc == MPI_SUCCESS && w->rank > 0)
        rc = MPI_Send(s->buf, n, MPI_BYTE, to, COMM_TAG_MEASURE, w->all);
    return comm_check(rc, "MPI_Send", err);
}

static base_status_t mpi_barrier(subject_t *s, base_err_t *err)
{
    return comm_check(MPI_Barrier(s->world->all), "MPI_Barrier", err);
}

static base_status_t our_barrier(subject_t *s, base_err_t *err)
{
    return comm_barrier(s->world, err);
}

/* Rank 0 is done when its part has left; the barrier tells when all have it. */
static base_status_t our_control(subject_t *s, base_err_t *err)
{
    base_status_t st = comm_control_share(s->world, "a measured message", s->buf, s->bytes, err);
    return st == BASE_OK ? mpi_barrier(s, err) : st;
}

static base_status_t mpi_control(subject_t *s, base_err_t *err)
{
    base_status_t st =
        comm_check(MPI_Bcast(s->buf, (int)s->bytes, MPI_BYTE, 0, s->world->all), "MPI_Bcast", err);

    return st == BASE_OK ? mpi_barrier(s, err) : st;
}

/* ---- one row --------------------------------------------------------------------------------- */

static double clock_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of one call, of `calls` in a row that all ranks begin together. */
static base_status_t batch(subject_t *s, call_fn *fn, uint32_t calls, double *seconds,
                           base_err_t *err)
{
    base_status_t st    = mpi_barrier(s, err);
    double        start = clock_s();

    for (uint32_t i = 0; i < calls && st == BASE_OK; i++) st = fn(s, err);
    *seconds = (clock_s() - start) / calls;
    return st;
}

/* How many calls make a batch of `seconds`: rank 0 decides. */
static base_status_t calls_of(subject_t *s, call_fn *fn, double seconds, uint32_t *calls,
                              base_err_t *err)
{
    double        once = 0;
    base_status_t st   = batch(s, fn, WARM, &once, err);

    if (st == BASE_OK) st = batch(s, fn, WARM, &once, err);
    if (st != BASE_OK) return st;
    double n = once > 0 ? seconds / once : MAX_CALLS;
    *calls   = n < 1 ? 1 : n > MAX_CALLS ? MAX_CALLS : (uint32_t)n;
    return comm_check(MPI_Bcast(calls, 1, MPI_UINT32_T, 0, s->world->all), "MPI_Bcast", err);
}

static base_status_t pair(subject_t *s, call_fn *ours, call_fn *theirs, double seconds,
                          double factor, comm_measure_row_t *row, base_err_t *err)
{
    double        a[BATCHES], b[BATCHES];
    uint32_t      calls[2] = {1, 1};
    double        each     = seconds / (2 * BATCHES);
    base_status_t st       = calls_of(s, ours, each, &calls[0], err);

    if (st == BASE_OK) st = calls_of(s, theirs, each, &calls[1], err);
    for (int i = 0; i < BATCHES && st == BASE_OK; i++) {
        st = batch(s, ours, calls[0], &a[i], err);
        if (st == BASE_OK) st = batch(s, theirs, calls[1], &b[i], err);
    }
    if (st != BASE_OK) return st;
    base_sort_f64(a, BATCHES);
    base_sort_f64(b, BATCHES);
    row->best_us       = a[0] * 1e6 * factor;
    row->median_us     = a[BATCHES / 2] * 1e6 * factor;
    row->mpi_best_us   = b[0] * 1e6 * factor;
    row->mpi_median_us = b[BATCHES / 2] * 1e6 * factor;
    return st;
}

/* ---- all of them ----------------------------------------------------------------------------- */

typedef struct {
    const char *op, *mpi;
    call_fn    *ours, *theirs;
} op_t;

static const op_t grouped[] = {
    {"sum_i32", "MPI_Allreduce", our_sum, mpi_sum},
    {"gather_f32", "MPI_Allgatherv", our_gather, mpi_gather},
};
static const op_t ring    = {"hop", "MPI_Send", our_ring, mpi_ring};
static const op_t control = {"control", "MPI_Bcast", our_control, mpi_control};
static const op_t barrier = {"barrier", "MPI_Barrier", our_barrier, mpi_barrier};

static void cut_pieces(subject_t *s, uint32_t pieces)
{
    size_t n = s->bytes / sizeof(float);

    for (uint32_t i = 0; i < pieces; i++) {
        s->offsets[i] = (uint32_t)comm_slice_begin(n, pieces, i);
        s->counts[i]  = (uint32_t)comm_slice_begin(n, pieces, i + 1) - s->offsets[i];
    }
}

static base_status_t one_row(subject_t *s, const comm_measure_t *c, const op_t *op, size_t bytes,
                             comm_measure_row_t row, base_err_t *err)
{
    bool          passed_on = op == &ring;
    base_status_t st        = BASE_OK;

    row.op    = op->op;
    row.mpi   = op->mpi;
    row.bytes = bytes;
    s->bytes  = bytes;
    if (s->grid != NULL) cut_pieces(s, s->grid->shards);
    st = pair(s, op->ours, op->theirs, c->seconds, passed_on ? 1.0 / s->world->size : 1.0, &row,
              err);
    if (st != BASE_OK) return st;
    if (s->world->rank == 0) st = c->row(c->ctx, &row, err);
    if (st == BASE_OK && comm_interrupted())
        st = base_fail(err, BASE_ERR_INTERRUPTED, "interrupted");
    return comm_agree(s->world, st, err);
}

/* The shards of a grid; the hop where it is a chain of stages. */
static base_status_t in_grid(subject_t *s, const comm_measure_t *c, uint32_t stages,
                             uint32_t shards, comm_measure_row_t row, base_err_t *err)
{
    base_status_t st = comm_grid_create(s->world, stages, shards, &s->grid, err);

    if (st != BASE_OK) return st;
    row.ranks = shards > 1 ? shards : stages;
    for (size_t k = 0; k < sizeof(grouped) / sizeof(grouped[0]) && shards > 1; k++)
        for (size_t i = 0; i < c->n_sizes && st == BASE_OK; i++) {
            row.means = comm_means(s->grid, grouped[k].ours == our_sum, c->sizes[i]);
            st        = one_row(s, c, &grouped[k], c->sizes[i], row, err);
        }
    row.means = row.hosts == 1 && s->grid->shm.parts != NULL ? "shared memory" : "messages";
    for (size_t i = 0; i < c->n_sizes && st == BASE_OK && shards == 1; i++)
        st = one_row(s, c, &ring, c->sizes[i], row, err);
    comm_grid_destroy(&s->grid);
    return st;
}

/* Ranks of each host follow each other, as many on each. */
static bool hosts_are_even(comm_world_t *w, base_status_t *st, base_err_t *err)
{
    int mine = w->rank == w->host_index * w->local_size + w->local_rank &&
               w->host_count * w->local_size == w->size;
    int all = 0;

    *st = comm_check(MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, w->all), "MPI_Allreduce", err);
    return all != 0;
}

static base_status_t groups(subject_t *s, const comm_measure_t *c, base_err_t *err)
{
    comm_world_t      *w    = s->world;
    uint32_t           size = (uint32_t)w->size, hosts = (uint32_t)w->host_count;
    comm_measure_row_t row = {.group = hosts > 1 ? "hosts" : "host", .ranks = size, .hosts = hosts};
    base_status_t      st  = BASE_OK;
    bool               even = hosts_are_even(w, &st, err);

    if (st == BASE_OK && hosts > 1 && w->local_size > 1 && even) {
        const comm_measure_row_t host = {.group = "host", .hosts = 1};
        st                            = in_grid(s, c, hosts, (uint32_t)w->local_size, host, err);
    }
    if (st == BASE_OK) st = in_grid(s, c, 1, size, row, err);
    if (st == BASE_OK) st = in_grid(s, c, size, 1, row, err);
    row.means = "messages";
    for (size_t i = 0; i < c->n_sizes && st == BASE_OK; i++)
        st = one_row(s, c, &control, c->sizes[i], row, err);
    return st == BASE_OK ? one_row(s, c, &barrier, 0, row, err) : st;
}

base_status_t comm_measure(comm_world_t *world, const comm_measure_t *config, base_err_t *err)
{
    subject_t     s      = {.world = world};
    void         *memory = NULL;
    size_t        most   = 64;
    base_status_t st     = BASE_OK;

    base_assert(world != NULL && config != NULL && config->row != NULL);
    if (world->size == 1) return BASE_OK;
    for (size_t i = 0; i < config->n_sizes; i++) {
        base_assert(config->sizes[i] % 4 == 0 && config->sizes[i] <= LIMIT_MESSAGE_BYTES);
        most = base_max_size(most, config->sizes[i]);
    }
    st = base_alloc(&memory, most, 1, "buffer to measure with", err);
    if (st != BASE_OK) goto out;
    s.buf = memory;
    st    = base_alloc(&memory, most, 1, "values to measure with", err);
    if (st != BASE_OK) goto out;
    s.fresh = memory;
    for (size_t i = 0; i < most / sizeof(int32_t); i++) {
        int32_t v = (int32_t)((uint32_t)i * 2654435761u >> 19) - 4096;
        memcpy(s.fresh + i * sizeof(v), &v, sizeof(v));
    }
    st = base_alloc(&memory, 2 * (size_t)world->size, sizeof(uint32_t), "pieces", err);
    if (st != BASE_OK) goto out;
    s.counts  = memory;
    s.offsets = s.counts + world->size;
out:
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = groups(&s, config, err);
    free(s.counts);
    free(s.fresh);
    free(s.buf);
    return st;
}
