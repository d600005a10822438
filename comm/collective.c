/* comm/collective.c: exact sums and gathers over the shards of a stage: which way they go.
 *
 * Within a host shared memory. Between hosts in three steps: the mates of a host put theirs
 * together (local.c), one of them or several, each with a slice, talks to the other hosts
 * (between.c), the mates get the result. Or the MPI library's own collectives. Which is faster
 * depends on network and size: comm_collective_choose tries them at the start. Results do not
 * depend on the way: sums of integers are exact, gathers are copies. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "comm/between.h"
#include "comm/local.h"

enum {
    DIRECT_BYTES = 1 << 15, /* without a measurement: from here on sums go by slices */
    LANE_VALUES  = 1 << 11, /* a host sends by a further rank for each so many values */
    TRIES        = 3,       /* of each way and size */
    SLOW_US      = 4000,    /* a size that takes so long is the last that is tried */
};

/* Bytes up to which a class reaches; the last has no end. The one tried is the end, or twice the
 * last one's beginning. */
static const size_t class_end[COMM_CLASSES - 1] = {2048, 16384, 65536};

static uint32_t class_of(size_t bytes)
{
    uint32_t c = 0;
    while (c < COMM_CLASSES - 1 && bytes > class_end[c]) c++;
    return c;
}

size_t comm_slice_begin(size_t n, uint32_t shards, uint32_t s)
{
    return n / shards * s + base_min_size(s, n % shards);
}

const char *comm_means(const comm_grid_t *grid, bool sum, size_t bytes)
{
    static const char *const names[] = {"messages", "messages", "slices", "MPI"};
    const uint8_t           *ways    = sum ? grid->sum_way : grid->gather_way;
    comm_way_t               way     = (comm_way_t)ways[class_of(bytes)];

    return way == COMM_WAY_LOCAL ? "shared memory" : names[way];
}

/* ---- sums ------------------------------------------------------------------------------------ */

static base_status_t sum_hosts(comm_grid_t *g, int32_t *buf, size_t n, bool slices, uint64_t *sent,
                               base_err_t *err)
{
    uint32_t      lanes = (uint32_t)base_min_size(g->lanes, n / LANE_VALUES + 1);
    base_status_t st    = BASE_OK;

    if (g->n_mates > 1) *sent += n * sizeof(*buf);
    comm_local_reduce(g, buf, n, lanes);
    if (g->my_mate < lanes) {
        size_t begin = comm_slice_begin(n, lanes, g->my_mate);
        st = comm_between_sum(g, buf + begin, comm_slice_begin(n, lanes, g->my_mate + 1) - begin,
                              slices, sent, err);
    }
    comm_local_share(g, buf, n, lanes); /* also after an error: the mates wait */
    return st;
}

static base_status_t sum_by(comm_grid_t *g, comm_way_t way, int32_t *buf, size_t n, uint64_t *sent,
                            base_err_t *err)
{
    base_status_t st = BASE_OK;

    if (way == COMM_WAY_LOCAL) {
        comm_local_sum(g, buf, n);
        *sent += n * sizeof(*buf);
        return BASE_OK;
    }
    size_t most = way == COMM_WAY_MPI ? INT32_MAX : comm_between_most(g, way == COMM_WAY_SLICES);
    for (size_t done = 0; st == BASE_OK && done < n;) {
        size_t piece = base_min_size(n - done, most);
        if (way == COMM_WAY_MPI) {
            st = comm_check(
                MPI_Allreduce(MPI_IN_PLACE, buf + done, (int)piece, MPI_INT32_T, MPI_SUM, g->group),
                "MPI_Allreduce", err);
            *sent += piece * sizeof(*buf);
        } else {
            st = sum_hosts(g, buf + done, piece, way == COMM_WAY_SLICES, sent, err);
        }
        done += piece;
    }
    return st;
}

base_status_t comm_sum_i32(comm_grid_t *grid, int32_t *buf, size_t n, base_err_t *err)
{
    uint64_t      start = 0, sent = 0;
    base_status_t st = BASE_OK;

    base_assert(grid != NULL);
    base_assert(buf != NULL || n == 0);
    if (grid->shards == 1 || n == 0) return BASE_OK;
    start = base_clock_us();
    st    = sum_by(grid, (comm_way_t)grid->sum_way[class_of(n * sizeof(*buf))], buf, n, &sent, err);
    comm_count(grid, start, sent);
    return st;
}

/* ---- gathers --------------------------------------------------------------------------------- */

static base_status_t gather_hosts(comm_grid_t *g, float *buf, const uint32_t *counts,
                                  const uint32_t *offsets, uint64_t *sent, base_err_t *err)
{
    uint32_t      room = COMM_SUM_CHUNK / g->shards + 1, most = 0;
    base_status_t st = BASE_OK;

    for (uint32_t s = 0; s < g->shards; s++) most = (uint32_t)base_max_size(most, counts[s]);
    comm_local_gather(g, buf, counts, offsets);
    for (uint32_t done = 0; done < most; done += room) {
        if (g->my_mate == 0 && st == BASE_OK)
            st = comm_between_gather(g, buf, counts, offsets, done, room, sent, err);
        for (uint32_t s = 0; s < g->shards && g->n_mates > 1; s++) /* all mates walk alike */
            if (g->host_of[s] != g->host_of[g->shard] && counts[s] > done)
                comm_local_spread(g, buf + offsets[s] + done,
                                  base_min_size(counts[s] - done, room) * sizeof(*buf));
    }
    return st;
}

/* MPI's own blocking calls answer no asks for weights: who may be asked meanwhile (apart) stays
 * outside of them. */
static base_status_t gather_mpi(comm_grid_t *g, bool apart, float *buf, const uint32_t *counts,
                                const uint32_t *offsets, uint64_t *sent, base_err_t *err)
{
    int          *n = g->ints, *at = g->ints + g->shards;
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st      = BASE_OK;

    for (uint32_t s = 0; s < g->shards; s++) {
        n[s]  = (int)counts[s];
        at[s] = (int)offsets[s];
    }
    *sent += counts[g->shard] * sizeof(*buf);
    if (!apart)
        return comm_check(
            MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buf, n, at, MPI_FLOAT, g->group),
            "MPI_Allgatherv", err);
    st = comm_check(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, buf, n, at, MPI_FLOAT,
                                    g->group, &request),
                    "MPI_Iallgatherv", err);
    if (st != BASE_OK) return st;
    return comm_wait(g->world, &request, 1, COMM_WAIT_SLEEPY, "MPI_Iallgatherv", err);
}

static base_status_t gather_by(comm_grid_t *g, comm_way_t way, bool apart, float *buf,
                               const uint32_t *counts, const uint32_t *offsets, uint64_t *sent,
                               base_err_t *err)
{
    if (way == COMM_WAY_LOCAL) {
        comm_local_gather(g, buf, counts, offsets);
        *sent += counts[g->shard] * sizeof(*buf);
        return BASE_OK;
    }
    if (way != COMM_WAY_MPI) return gather_hosts(g, buf, counts, offsets, sent, err);
    return gather_mpi(g, apart, buf, counts, offsets, sent, err);
}

static base_status_t gather(comm_grid_t *grid, bool apart, float *buf, const uint32_t *counts,
                            const uint32_t *offsets, base_err_t *err)
{
    uint64_t      start = 0, sent = 0;
    size_t        total = 0;
    base_status_t st    = BASE_OK;

    base_assert(grid != NULL && counts != NULL && offsets != NULL);
    if (grid->shards == 1) return BASE_OK;
    start = base_clock_us();
    for (uint32_t s = 0; s < grid->shards; s++) total += counts[s];
    st = gather_by(grid, (comm_way_t)grid->gather_way[class_of(total * sizeof(*buf))], apart, buf,
                   counts, offsets, &sent, err);
    comm_count(grid, start, sent);
    return st;
}

base_status_t comm_gather_f32(comm_grid_t *grid, float *buf, const uint32_t *counts,
                              const uint32_t *offsets, base_err_t *err)
{
    return gather(grid, false, buf, counts, offsets, err);
}

base_status_t comm_gather_apart(comm_grid_t *grid, float *buf, const uint32_t *counts,
                                const uint32_t *offsets, base_err_t *err)
{
    return gather(grid, true, buf, counts, offsets, err);
}

/* ---- the choice ------------------------------------------------------------------------------ */

typedef struct {
    int32_t  *buf; /* n values, of a range that partial sums have; and back to them before a try */
    size_t    n;
    uint32_t *counts, *offsets;
} trial_t;

static base_status_t try_once(comm_grid_t *g, trial_t *t, comm_way_t way, bool sum, base_err_t *err)
{
    uint64_t sent = 0;

    for (size_t i = 0; i < t->n; i++) t->buf[i] = (int32_t)((uint32_t)i * 2654435761u >> 19) - 4096;
    return sum ? sum_by(g, way, t->buf, t->n, &sent, err)
               : gather_by(g, way, false, (float *)(void *)t->buf, t->counts, t->offsets, &sent,
                           err);
}

/* The fastest try of a way in us, the slowest rank's. */
static base_status_t try_way(comm_grid_t *g, trial_t *t, comm_way_t way, bool sum, uint64_t *us,
                             base_err_t *err)
{
    uint64_t      best = UINT64_MAX;
    base_status_t st   = try_once(g, t, way, sum, err); /* warms connections up */

    for (int i = 0; i < TRIES && st == BASE_OK; i++) {
        st             = comm_check(MPI_Barrier(g->group), "MPI_Barrier", err);
        uint64_t start = base_clock_us();
        if (st == BASE_OK) st = try_once(g, t, way, sum, err);
        uint64_t took = base_clock_us() - start;
        best          = took < best ? took : best;
    }
    if (st != BASE_OK) return st;
    return comm_check(MPI_Allreduce(&best, us, 1, MPI_UINT64_T, MPI_MAX, g->group), "MPI_Allreduce",
                      err);
}

static base_status_t choose(comm_grid_t *g, trial_t *t, bool sum, base_err_t *err)
{
    static const comm_way_t ways[] = {COMM_WAY_DIRECT, COMM_WAY_SLICES, COMM_WAY_MPI};
    uint8_t                *chosen = sum ? g->sum_way : g->gather_way;
    uint64_t                least  = 0;
    base_status_t           st     = BASE_OK;

    for (uint32_t c = 0; c < COMM_CLASSES && st == BASE_OK; c++) {
        if (least > SLOW_US) { /* as the size before */
            chosen[c] = chosen[c - 1];
            continue;
        }
        least = UINT64_MAX;
        t->n  = (c < COMM_CLASSES - 1 ? class_end[c] : 4 * class_end[c - 1]) / sizeof(*t->buf);
        for (uint32_t s = 0; s < g->shards; s++) {
            t->offsets[s] = (uint32_t)comm_slice_begin(t->n, g->shards, s);
            t->counts[s]  = (uint32_t)comm_slice_begin(t->n, g->shards, s + 1) - t->offsets[s];
        }
        for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && st == BASE_OK; i++) {
            uint64_t us = 0;
            if (ways[i] == COMM_WAY_SLICES && (!sum || g->n_hosts == 2)) continue;
            st = try_way(g, t, ways[i], sum, &us, err);
            if (us < least) {
                least     = us;
                chosen[c] = (uint8_t)ways[i];
            }
        }
    }
    return st;
}

base_status_t comm_collective_choose(comm_grid_t *g, bool measure, bool mpi, base_err_t *err)
{
    trial_t       t  = {0};
    base_status_t st = BASE_OK;

    for (uint32_t c = 0; c < COMM_CLASSES; c++) {
        bool large       = c == COMM_CLASSES - 1 || class_end[c] > DIRECT_BYTES;
        bool slices      = large && g->n_hosts > 2;
        g->gather_way[c] = mpi ? COMM_WAY_MPI : g->local_group ? COMM_WAY_LOCAL : COMM_WAY_DIRECT;
        g->sum_way[c] =
            g->gather_way[c] == COMM_WAY_DIRECT && slices ? COMM_WAY_SLICES : g->gather_way[c];
    }
    int fit = g->world->spin, all_fit = 0, ready = 0, all = 0;
    if (!measure || mpi || g->shards == 1) return BASE_OK;
    /* Where ranks wait for cores, times say more about the scheduler than about the ways. */
    st = comm_check(MPI_Allreduce(&fit, &all_fit, 1, MPI_INT, MPI_MIN, g->group), "MPI_Allreduce",
                    err);
    if (st != BASE_OK || all_fit == 0 || g->local_group) return st;
    t.buf    = malloc(4 * class_end[COMM_CLASSES - 2]);
    t.counts = malloc(2 * (size_t)g->shards * sizeof(*t.counts));
    if (t.counts != NULL) t.offsets = t.counts + g->shards;
    ready = t.buf != NULL && t.counts != NULL;
    st    = comm_check(MPI_Allreduce(&ready, &all, 1, MPI_INT, MPI_MIN, g->group), "MPI_Allreduce",
                       err);
    if (st == BASE_OK && all != 0) st = choose(g, &t, true, err);
    if (st == BASE_OK && all != 0) st = choose(g, &t, false, err);
    free(t.counts);
    free(t.buf);
    return st;
}
