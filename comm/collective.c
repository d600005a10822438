/* comm/collective.c: exact sums and gathers over the shards of a stage. */
#include <stddef.h>

#include "base/checked.h"
#include "base/log.h"
#include "comm/local.h"

enum {
    SUM_DIRECT   = 1 << 13, /* up to here everyone sends everything to everyone: one round */
    SUM_CHUNK    = 1 << 18, /* values; more go in rounds */
    GATHER_CHUNK = 1 << 20, /* floats in one message */
};

size_t comm_sum_work(uint32_t shards)
{
    size_t direct = (size_t)(shards - 1) * SUM_DIRECT;
    size_t slices = (size_t)(shards - 1) * (SUM_CHUNK / shards + 1);
    return base_max_size(direct, slices) + 16;
}

static void add_i32(int32_t *restrict to, const int32_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

size_t comm_slice_begin(size_t n, uint32_t shards, uint32_t s)
{
    return n / shards * s + base_min_size(s, n % shards);
}

/* The peers in an order that differs by rank: no rank is everyone's first. */
static uint32_t peer_of(const comm_grid_t *g, uint32_t k)
{
    return (g->shard + k) % g->shards;
}

static base_status_t post_send(comm_grid_t *g, const void *buf, size_t n, MPI_Datatype type,
                               uint32_t to, int tag, int *posted, base_err_t *err)
{
    base_status_t st = BASE_OK;

    if (n == 0) return BASE_OK;
    st = comm_check(MPI_Isend(buf, (int)n, type, (int)to, tag, g->group, &g->requests[*posted]),
                    "MPI_Isend", err);
    if (st != BASE_OK) return st;
    (*posted)++;
    comm_ring(g->world, (int)(g->stage * g->shards + to));
    return BASE_OK;
}

static base_status_t post_recv(comm_grid_t *g, void *buf, size_t n, MPI_Datatype type,
                               uint32_t from, int tag, int *posted, base_err_t *err)
{
    if (n == 0) return BASE_OK;
    return comm_check(
        MPI_Irecv(buf, (int)n, type, (int)from, tag, g->group, &g->requests[(*posted)++]),
        "MPI_Irecv", err);
}

static base_status_t sum_direct(comm_grid_t *g, int32_t *buf, size_t n, base_err_t *err)
{
    int           posted = 0;
    base_status_t st     = BASE_OK;

    for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++)
        st = post_recv(g, g->work + (k - 1) * n, n, MPI_INT32_T, peer_of(g, g->shards - k),
                       COMM_TAG_SUM, &posted, err);
    for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++)
        st = post_send(g, buf, n, MPI_INT32_T, peer_of(g, k), COMM_TAG_SUM, &posted, err);
    if (st == BASE_OK) st = comm_wait(g->world, g->requests, posted, COMM_WAIT_DATA, "sum", err);
    if (st != BASE_OK) return st;
    for (uint32_t k = 1; k < g->shards; k++) add_i32(buf, g->work + (k - 1) * n, n);
    return BASE_OK;
}

/* Each shard sums one slice of the buffer, then hands the total to the others. */
static base_status_t sum_slices(comm_grid_t *g, int32_t *buf, size_t n, base_err_t *err)
{
    size_t        mine   = comm_slice_begin(n, g->shards, g->shard);
    size_t        own    = comm_slice_begin(n, g->shards, g->shard + 1) - mine;
    int           posted = 0;
    base_status_t st     = BASE_OK;

    for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++)
        st = post_recv(g, g->work + (k - 1) * own, own, MPI_INT32_T, peer_of(g, g->shards - k),
                       COMM_TAG_SUM, &posted, err);
    for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++) {
        uint32_t to    = peer_of(g, k);
        size_t   begin = comm_slice_begin(n, g->shards, to);
        st = post_send(g, buf + begin, comm_slice_begin(n, g->shards, to + 1) - begin, MPI_INT32_T,
                       to, COMM_TAG_SUM, &posted, err);
    }
    if (st == BASE_OK) st = comm_wait(g->world, g->requests, posted, COMM_WAIT_DATA, "sum", err);
    if (st != BASE_OK) return st;
    for (uint32_t k = 1; k < g->shards; k++) add_i32(buf + mine, g->work + (k - 1) * own, own);

    posted = 0;
    for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++) {
        uint32_t from  = peer_of(g, g->shards - k);
        size_t   begin = comm_slice_begin(n, g->shards, from);
        st             = post_recv(g, buf + begin, comm_slice_begin(n, g->shards, from + 1) - begin,
                                   MPI_INT32_T, from, COMM_TAG_SUM, &posted, err);
    }
    for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++)
        st = post_send(g, buf + mine, own, MPI_INT32_T, peer_of(g, k), COMM_TAG_SUM, &posted, err);
    if (st == BASE_OK) st = comm_wait(g->world, g->requests, posted, COMM_WAIT_DATA, "sum", err);
    return st;
}

const char *comm_means(const comm_grid_t *grid, size_t bytes)
{
    (void)bytes;
    return grid->local_group ? "shared memory" : "messages";
}

base_status_t comm_sum_i32(comm_grid_t *grid, int32_t *buf, size_t n, base_err_t *err)
{
    uint64_t      start = 0;
    base_status_t st    = BASE_OK;

    base_assert(grid != NULL);
    base_assert(buf != NULL || n == 0);
    if (grid->shards == 1 || n == 0) return BASE_OK;
    start         = base_clock_us();
    uint64_t sent = 0;
    if (grid->local_group) {
        comm_local_sum(grid, buf, n);
        sent = n;
    }
    for (size_t done = 0; !grid->local_group && st == BASE_OK && done < n;) {
        size_t piece = base_min_size(n - done, SUM_CHUNK);
        if (piece <= SUM_DIRECT) {
            st = sum_direct(grid, buf + done, piece, err);
            sent += piece * (grid->shards - 1);
        } else {
            st = sum_slices(grid, buf + done, piece, err);
            sent += 2 * (piece - piece / grid->shards);
        }
        done += piece;
    }
    comm_count(grid, start, sent * sizeof(int32_t));
    return st;
}

static base_status_t gather_messages(comm_grid_t *g, float *buf, const uint32_t *counts,
                                     const uint32_t *offsets, base_err_t *err)
{
    size_t        most = 0, own = counts[g->shard];
    base_status_t st = BASE_OK;

    for (uint32_t i = 0; i < g->shards; i++) most = base_max_size(most, counts[i]);
    for (size_t done = 0; st == BASE_OK && done < most; done += GATHER_CHUNK) {
        int posted = 0;
        for (uint32_t k = 1; k < g->shards && st == BASE_OK; k++) {
            uint32_t from = peer_of(g, g->shards - k);
            if (counts[from] <= done) continue;
            st = post_recv(g, buf + offsets[from] + done,
                           base_min_size(counts[from] - done, GATHER_CHUNK), MPI_FLOAT, from,
                           COMM_TAG_GATHER, &posted, err);
        }
        for (uint32_t k = 1; k < g->shards && st == BASE_OK && own > done; k++)
            st = post_send(g, buf + offsets[g->shard] + done,
                           base_min_size(own - done, GATHER_CHUNK), MPI_FLOAT, peer_of(g, k),
                           COMM_TAG_GATHER, &posted, err);
        if (st == BASE_OK)
            st = comm_wait(g->world, g->requests, posted, COMM_WAIT_DATA, "gather", err);
    }
    return st;
}

base_status_t comm_gather_f32(comm_grid_t *grid, float *buf, const uint32_t *counts,
                              const uint32_t *offsets, base_err_t *err)
{
    uint64_t      start = 0, sent = 0;
    base_status_t st = BASE_OK;

    base_assert(grid != NULL && counts != NULL && offsets != NULL);
    if (grid->shards == 1) return BASE_OK;
    start = base_clock_us();
    sent  = counts[grid->shard];
    if (grid->local_group) {
        comm_local_gather(grid, buf, counts, offsets);
    } else {
        st = gather_messages(grid, buf, counts, offsets, err);
        sent *= grid->shards - 1;
    }
    comm_count(grid, start, sent * sizeof(float));
    return st;
}
