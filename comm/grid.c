/* comm/grid.c: stages x shards, and what moves between stages. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "comm/local.h"

enum { STAGE_CHUNK = 1 << 20 }; /* floats in one message */

static base_status_t split_comms(comm_grid_t *g, base_err_t *err)
{
    comm_world_t *w  = g->world;
    base_status_t st = comm_check(MPI_Comm_dup(w->all, &g->all), "MPI_Comm_dup", err);

    if (st != BASE_OK) return st;
    st = comm_check(MPI_Comm_set_errhandler(g->all, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
                    err);
    if (st != BASE_OK) return st;
    st = comm_check(MPI_Comm_split(w->all, (int)g->stage, (int)g->shard, &g->group),
                    "MPI_Comm_split", err);
    if (st != BASE_OK) return st;
    return comm_check(MPI_Comm_set_errhandler(g->group, MPI_ERRORS_RETURN),
                      "MPI_Comm_set_errhandler", err);
}

base_status_t comm_grid_create(comm_world_t *world, uint32_t stages, uint32_t shards,
                               comm_grid_t **out, base_err_t *err)
{
    comm_grid_t  *g      = NULL;
    void         *memory = NULL;
    base_status_t st     = BASE_OK;

    base_assert(world != NULL && out != NULL);
    if ((uint64_t)stages * shards != (uint64_t)world->size)
        return base_fail(err, BASE_ERR_USAGE, "layout %ux%u needs %llu ranks, there are %d", stages,
                         shards, (unsigned long long)stages * shards, world->size);
    st = base_alloc(&memory, 1, sizeof(*g), "comm grid", err);
    if (st != BASE_OK) goto out;
    g          = memory;
    g->world   = world;
    g->stages  = stages;
    g->shards  = shards;
    g->stage   = (uint32_t)world->rank / shards;
    g->shard   = (uint32_t)world->rank % shards;
    g->all     = MPI_COMM_NULL;
    g->group   = MPI_COMM_NULL;
    g->shm.win = MPI_WIN_NULL;
    st         = base_alloc(&memory, 2 * (size_t)shards, sizeof(MPI_Request), "requests", err);
    if (st == BASE_OK) g->requests = memory;
    if (st == BASE_OK) st = base_alloc(&memory, comm_sum_work(shards), 4, "sum workspace", err);
    if (st == BASE_OK) g->work = memory;
    if (world->mpi) {
        st = comm_agree(world, st, err);
        if (st == BASE_OK) st = split_comms(g, err);
        if (st == BASE_OK) st = comm_local_create(g, err);
    }
    if (st != BASE_OK) goto out;
    *out = g;
    g    = NULL;
out:
    comm_grid_destroy(&g);
    return st;
}

void comm_grid_destroy(comm_grid_t **grid)
{
    comm_grid_t *g = NULL;

    base_assert(grid != NULL);
    g = *grid;
    if (g == NULL) return;
    comm_local_destroy(g);
    if (g->group != MPI_COMM_NULL) (void)MPI_Comm_free(&g->group);
    if (g->all != MPI_COMM_NULL) (void)MPI_Comm_free(&g->all);
    free(g->work);
    free(g->requests);
    free(g);
    *grid = NULL;
}

uint32_t comm_grid_stage(const comm_grid_t *grid)
{
    return grid->stage;
}

uint32_t comm_grid_shard(const comm_grid_t *grid)
{
    return grid->shard;
}

uint32_t comm_grid_stages(const comm_grid_t *grid)
{
    return grid->stages;
}

uint32_t comm_grid_shards(const comm_grid_t *grid)
{
    return grid->shards;
}

comm_stats_t comm_stats(const comm_grid_t *grid)
{
    return grid->stats;
}

void comm_stats_reset(comm_grid_t *grid)
{
    memset(&grid->stats, 0, sizeof(grid->stats));
}

void comm_count(comm_grid_t *grid, uint64_t start_us, uint64_t bytes)
{
    grid->stats.wait_us += base_clock_us() - start_us;
    grid->stats.bytes += bytes;
    grid->stats.calls++;
}

/* ---- one sender, one receiver ---------------------------------------------------------------- */

static base_status_t floats_send(comm_grid_t *g, const float *buf, size_t n, int to, int tag,
                                 base_err_t *err)
{
    base_status_t st = BASE_OK;

    if (comm_local_reaches(g, to)) {
        comm_local_send(g, buf, n);
        return BASE_OK;
    }
    for (size_t done = 0; st == BASE_OK && done < n;) {
        MPI_Request request = MPI_REQUEST_NULL;
        size_t      piece   = base_min_size(n - done, STAGE_CHUNK);
        st = comm_check(MPI_Isend(buf + done, (int)piece, MPI_FLOAT, to, tag, g->all, &request),
                        "MPI_Isend", err);
        comm_ring(g->world, to);
        if (st == BASE_OK) st = comm_wait(g->world, &request, 1, COMM_WAIT_DATA, "MPI_Isend", err);
        done += piece;
    }
    return st;
}

static base_status_t floats_recv(comm_grid_t *g, float *buf, size_t n, int from, int tag,
                                 base_err_t *err)
{
    base_status_t st = BASE_OK;

    if (comm_local_reaches(g, from)) {
        comm_local_recv(g, buf, n, from);
        return BASE_OK;
    }
    for (size_t done = 0; st == BASE_OK && done < n;) {
        MPI_Request request = MPI_REQUEST_NULL;
        size_t      piece   = base_min_size(n - done, STAGE_CHUNK);
        st = comm_check(MPI_Irecv(buf + done, (int)piece, MPI_FLOAT, from, tag, g->all, &request),
                        "MPI_Irecv", err);
        if (st == BASE_OK) st = comm_wait(g->world, &request, 1, COMM_WAIT_DATA, "MPI_Irecv", err);
        done += piece;
    }
    return st;
}

base_status_t comm_stage_send(comm_grid_t *grid, const float *buf, size_t n, base_err_t *err)
{
    uint64_t      start = base_clock_us();
    base_status_t st    = BASE_OK;

    base_assert(grid != NULL && grid->stage + 1 < grid->stages);
    base_assert(buf != NULL || n == 0);
    st = floats_send(grid, buf, n, (int)((grid->stage + 1) * grid->shards + grid->shard),
                     COMM_TAG_STAGE, err);
    comm_count(grid, start, n * sizeof(float));
    return st;
}

base_status_t comm_stage_recv(comm_grid_t *grid, float *buf, size_t n, base_err_t *err)
{
    uint64_t      start = base_clock_us();
    base_status_t st    = BASE_OK;

    base_assert(grid != NULL && grid->stage > 0);
    base_assert(buf != NULL || n == 0);
    st = floats_recv(grid, buf, n, (int)((grid->stage - 1) * grid->shards + grid->shard),
                     COMM_TAG_STAGE, err);
    comm_count(grid, start, 0);
    return st;
}

/* ---- logits ---------------------------------------------------------------------------------- */

static void place_rows(const float *piece, size_t n_rows, size_t count, float *to,
                       size_t row_stride)
{
    if (count == 0) return;
    for (size_t r = 0; r < n_rows; r++)
        memcpy(to + r * row_stride, piece + r * count, count * sizeof(float));
}

base_status_t comm_logits_to_root(comm_grid_t *grid, const float *piece, size_t n_rows,
                                  const uint32_t *counts, const uint32_t *offsets, float *logits,
                                  size_t row_stride, float *staging, base_err_t *err)
{
    uint64_t      start = base_clock_us();
    base_status_t st    = BASE_OK;
    uint64_t      sent  = 0;

    base_assert(grid != NULL && counts != NULL && offsets != NULL);
    bool root = grid->stage == 0 && grid->shard == 0;
    bool last = grid->stage + 1 == grid->stages;
    if (!root && !last) return BASE_OK;
    if (!root) {
        sent = (uint64_t)n_rows * counts[grid->shard];
        st   = floats_send(grid, piece, (size_t)sent, 0, COMM_TAG_LOGITS, err);
    }
    for (uint32_t i = 0; root && i < grid->shards && st == BASE_OK; i++) {
        int from = (int)((grid->stages - 1) * grid->shards + i);
        if (from == 0) {
            place_rows(piece, n_rows, counts[i], logits + offsets[i], row_stride);
        } else if (n_rows == 1) {
            st = floats_recv(grid, logits + offsets[i], counts[i], from, COMM_TAG_LOGITS, err);
        } else {
            st = floats_recv(grid, staging, n_rows * counts[i], from, COMM_TAG_LOGITS, err);
            if (st == BASE_OK)
                place_rows(staging, n_rows, counts[i], logits + offsets[i], row_stride);
        }
    }
    comm_count(grid, start, sent * sizeof(float));
    return st;
}
