/* comm/grid.c: stages x shards. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "comm/between.h"
#include "comm/local.h"

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

static base_status_t alloc_tables(comm_grid_t *g, base_err_t *err)
{
    void         *memory = NULL;
    base_status_t st = base_alloc(&memory, 4 * (size_t)g->shards, sizeof(*g->mates), "mates", err);

    if (st != BASE_OK) return st;
    g->host_of  = memory;
    g->place_of = g->host_of + g->shards;
    g->mates    = g->place_of + g->shards;
    g->peers    = g->mates + g->shards;
    st          = base_alloc(&memory, 4 * (size_t)g->shards, sizeof(*g->ints), "counts", err);
    if (st != BASE_OK) return st;
    g->ints  = memory;
    g->asked = g->ints + 2 * (size_t)g->shards;
    return st;
}

static base_status_t alloc_messages(comm_grid_t *g, base_err_t *err)
{
    void         *memory = NULL;
    base_status_t st     = BASE_OK;

    if (g->n_hosts < 2) return BASE_OK;
    st = base_alloc(&memory, comm_between_pack_bytes(g), 1, "messages to other hosts", err);
    if (st != BASE_OK) return st;
    g->pack = memory;
    st      = base_alloc(&memory, comm_between_work_bytes(g), 1, "messages from other hosts", err);
    if (st == BASE_OK) g->work = memory;
    return st;
}

/* Ranks that part ways here would wait for each other for ever. */
static base_status_t same_means(comm_world_t *w, const char *const *names, size_t means,
                                base_err_t *err)
{
    int           ends[2] = {(int)means, -(int)means};
    base_status_t st = comm_check(MPI_Allreduce(MPI_IN_PLACE, ends, 2, MPI_INT, MPI_MAX, w->all),
                                  "MPI_Allreduce", err);
    if (st != BASE_OK || ends[0] == -ends[1]) return st;
    return base_fail(err, BASE_ERR_USAGE,
                     "TRIREME_COMM is %s on one rank and %s on another: give all the same (mpirun "
                     "-x TRIREME_COMM)",
                     names[-ends[1]], names[ends[0]]);
}

/* TRIREME_COMM: what collectives and streams may use. */
static base_status_t choose_means(comm_grid_t *g, base_err_t *err)
{
    static const char *const names[] = {"auto", "shm", "messages", "mpi"};
    const char              *means   = getenv("TRIREME_COMM");
    size_t                   i       = 0;
    base_status_t            st      = BASE_OK;

    if (means == NULL || means[0] == '\0') means = names[0];
    while (i < 4 && strcmp(means, names[i]) != 0) i++;
    if (i == 4)
        st = base_fail(err, BASE_ERR_USAGE, "TRIREME_COMM=%s: not one of auto, shm, messages, mpi",
                       means);
    st = comm_agree(g->world, st, err);
    if (st == BASE_OK) st = same_means(g->world, names, i, err);
    if (st == BASE_OK) st = split_comms(g, err);
    if (st == BASE_OK) st = comm_local_create(g, i < 2, err);
    if (st != BASE_OK) return st;
    st = comm_agree(g->world, alloc_messages(g, err), err);
    return st == BASE_OK ? comm_collective_choose(g, i == 0, i == 3, err) : st;
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
    st = comm_agree(world, st, err);
    if (st != BASE_OK) {
        free(memory);
        return st;
    }
    g            = memory;
    g->world     = world;
    g->stages    = stages;
    g->shards    = shards;
    g->stage     = (uint32_t)world->rank / shards;
    g->shard     = (uint32_t)world->rank % shards;
    g->all       = MPI_COMM_NULL;
    g->group     = MPI_COMM_NULL;
    g->shm.win   = MPI_WIN_NULL;
    g->rings.win = MPI_WIN_NULL;
    st           = base_alloc(&memory, 2 * (size_t)shards, sizeof(MPI_Request), "requests", err);
    if (st == BASE_OK) g->requests = memory;
    if (st == BASE_OK) st = alloc_tables(g, err);
    if (world->mpi) {
        st = comm_agree(world, st, err);
        if (st == BASE_OK) st = choose_means(g, err);
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
    comm_stream_destroy(g);
    comm_local_destroy(g);
    if (g->group != MPI_COMM_NULL) (void)MPI_Comm_free(&g->group);
    if (g->all != MPI_COMM_NULL) (void)MPI_Comm_free(&g->all);
    free(g->pack);
    free(g->work);
    free(g->ints);
    free(g->host_of);
    free(g->requests);
    free(g);
    *grid = NULL;
}

base_status_t comm_grid_agree(comm_grid_t *grid, base_status_t status, base_err_t *err)
{
    return comm_agree(grid->world, status, err);
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
