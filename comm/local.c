/* comm/local.c: collectives and streams between ranks of one host, through shared memory.
 *
 * Collectives. Each shard has two slots. A call copies its data into a slot, all arrive at the
 * group's counter, then all read the slots of the others. The next call uses the other slot; a slot
 * is written again only after the arrival of all in the call between, so nobody still reads it.
 * Streams. Each rank has a ring of PIPE_SLOTS pieces that one other rank reads. */
#include "comm/local.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum {
    SLOT_BYTES = 1 << 18,
    SUM_WHOLE  = 1 << 12, /* values: up to here every shard adds everything, in one round */
    PIPE_SLOTS = 4,
    PIPE_BYTES = 1 << 16,
};

typedef struct {
    comm_event_t arrived; /* of the part of shard 0 alone: arrivals of the whole group */
    comm_event_t sent;    /* pieces put into the ring */
    comm_event_t taken;   /* pieces read from it */
    _Alignas(COMM_LINE) uint8_t slots[2][SLOT_BYTES];
    _Alignas(COMM_LINE) uint8_t pipe[PIPE_SLOTS][PIPE_BYTES];
} part_t;

/* The part of a rank of this host. */
static part_t *part_of(const comm_grid_t *g, int rank)
{
    return (part_t *)(void *)g->shm.parts[g->world->local_of[rank]];
}

static part_t *part_of_shard(const comm_grid_t *g, uint32_t shard)
{
    return part_of(g, (int)(g->stage * g->shards + shard));
}

base_status_t comm_local_create(comm_grid_t *grid, base_err_t *err)
{
    const comm_world_t *w     = grid->world;
    const char         *means = getenv("TRIREME_COMM");
    base_status_t       st    = BASE_OK;

    if (w->local_size == 1 || (means != NULL && strcmp(means, "mpi") == 0)) return BASE_OK;
    st = comm_shm_open(w->host, sizeof(part_t), &grid->shm, err);
    if (st != BASE_OK || grid->shm.parts == NULL) return st;
    grid->local_group = grid->shards > 1;
    for (uint32_t s = 0; s < grid->shards; s++)
        if (w->local_of[grid->stage * grid->shards + s] < 0) grid->local_group = false;
    return BASE_OK;
}

void comm_local_destroy(comm_grid_t *grid)
{
    comm_shm_close(&grid->rings);
    comm_shm_close(&grid->shm);
}

/* MPI makes progress only inside its calls, and a message that this rank sent may be half out. */
static void look_after_mpi(void *arg)
{
    comm_world_t *w    = arg;
    int           flag = 0;

    while (comm_serve_poll(w)) (void)sched_yield();
    (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->all, &flag, MPI_STATUS_IGNORE);
}

static void await(comm_grid_t *g, comm_event_t *event, uint32_t target)
{
    comm_event_wait(event, target, g->world->spin, look_after_mpi, g->world);
}

/* ---- collectives ----------------------------------------------------------------------------- */

/* All shards are here, and what they wrote before is visible. */
static void meet(comm_grid_t *g)
{
    comm_event_t *arrived = &part_of_shard(g, 0)->arrived;

    g->arrivals += g->shards;
    comm_event_add(arrived, g->arrivals);
    await(g, arrived, g->arrivals);
}

static int32_t *slot_of(const comm_grid_t *g, uint32_t shard)
{
    return (int32_t *)(void *)part_of_shard(g, shard)->slots[g->slot];
}

static void add_i32(int32_t *restrict to, const int32_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

static void sum_whole(comm_grid_t *g, int32_t *buf, size_t n)
{
    memcpy(slot_of(g, g->shard), buf, n * sizeof(*buf));
    meet(g);
    for (uint32_t k = 1; k < g->shards; k++)
        add_i32(buf, slot_of(g, (g->shard + k) % g->shards), n);
}

/* Each shard adds one slice and leaves the total in its own slot, where only it looked until
 * then. */
static void sum_slices(comm_grid_t *g, int32_t *buf, size_t n)
{
    size_t   begin = comm_slice_begin(n, g->shards, g->shard);
    size_t   own   = comm_slice_begin(n, g->shards, g->shard + 1) - begin;
    int32_t *mine  = slot_of(g, g->shard);

    memcpy(mine, buf, begin * sizeof(*buf));
    memcpy(mine + begin + own, buf + begin + own, (n - begin - own) * sizeof(*buf));
    meet(g);
    for (uint32_t k = 1; k < g->shards; k++)
        add_i32(buf + begin, slot_of(g, (g->shard + k) % g->shards) + begin, own);
    memcpy(mine + begin, buf + begin, own * sizeof(*buf));
    meet(g);
    for (uint32_t k = 1; k < g->shards; k++) {
        uint32_t s  = (g->shard + k) % g->shards;
        size_t   at = comm_slice_begin(n, g->shards, s);
        memcpy(buf + at, slot_of(g, s) + at,
               (comm_slice_begin(n, g->shards, s + 1) - at) * sizeof(*buf));
    }
}

void comm_local_sum(comm_grid_t *grid, int32_t *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        size_t piece = base_min_size(n - done, SLOT_BYTES / sizeof(*buf));
        if (piece <= SUM_WHOLE)
            sum_whole(grid, buf + done, piece);
        else
            sum_slices(grid, buf + done, piece);
        grid->slot ^= 1;
        done += piece;
    }
}

void comm_local_gather(comm_grid_t *grid, float *buf, const uint32_t *counts,
                       const uint32_t *offsets)
{
    size_t room = SLOT_BYTES / sizeof(*buf), most = 0;

    for (uint32_t s = 0; s < grid->shards; s++) most = base_max_size(most, counts[s]);
    for (size_t done = 0; done < most; done += room) {
        size_t own = counts[grid->shard];
        if (own > done)
            memcpy(slot_of(grid, grid->shard), buf + offsets[grid->shard] + done,
                   base_min_size(own - done, room) * sizeof(*buf));
        meet(grid);
        for (uint32_t k = 1; k < grid->shards; k++) {
            uint32_t s = (grid->shard + k) % grid->shards;
            if (counts[s] > done)
                memcpy(buf + offsets[s] + done, slot_of(grid, s),
                       base_min_size(counts[s] - done, room) * sizeof(*buf));
        }
        grid->slot ^= 1;
    }
}

/* ---- streams --------------------------------------------------------------------------------- */

base_status_t comm_local_rings(comm_grid_t *grid, size_t bytes, base_err_t *err)
{
    if (grid->shm.parts == NULL) return BASE_OK; /* the same on all ranks of the host */
    grid->ring_slots = (uint32_t)(bytes / PIPE_BYTES + PIPE_SLOTS);
    return comm_shm_open(grid->world->host, (size_t)grid->ring_slots * PIPE_BYTES, &grid->rings,
                         err);
}

/* Piece `at` of what a rank has put into its ring, and how many it holds. */
static uint8_t *piece_of(const comm_grid_t *g, int rank, uint32_t at)
{
    if (g->rings.parts == NULL) return part_of(g, rank)->pipe[at % PIPE_SLOTS];
    return g->rings.parts[g->world->local_of[rank]] + (size_t)(at % g->ring_slots) * PIPE_BYTES;
}

static uint32_t slots_of(const comm_grid_t *g)
{
    return g->rings.parts == NULL ? (uint32_t)PIPE_SLOTS : g->ring_slots;
}

bool comm_local_reaches(const comm_grid_t *grid, int peer)
{
    return grid->shm.parts != NULL && grid->world->local_of[peer] >= 0;
}

void comm_local_send(comm_grid_t *grid, const float *buf, size_t n)
{
    part_t        *part = part_of(grid, grid->world->rank);
    const uint8_t *data = (const uint8_t *)buf;

    for (size_t done = 0, bytes = n * sizeof(*buf); done < bytes;) {
        size_t   piece = base_min_size(bytes - done, PIPE_BYTES);
        uint32_t at    = atomic_load_explicit(&part->sent.value, memory_order_relaxed);
        await(grid, &part->taken, at - (slots_of(grid) - 1));
        memcpy(piece_of(grid, grid->world->rank, at), data + done, piece);
        comm_event_ring(&part->sent);
        done += piece;
    }
}

void comm_local_recv(comm_grid_t *grid, float *buf, size_t n, int from)
{
    part_t  *part = part_of(grid, from);
    uint8_t *data = (uint8_t *)buf;

    for (size_t done = 0, bytes = n * sizeof(*buf); done < bytes;) {
        size_t   piece = base_min_size(bytes - done, PIPE_BYTES);
        uint32_t at    = atomic_load_explicit(&part->taken.value, memory_order_relaxed);
        await(grid, &part->sent, at + 1);
        memcpy(data + done, piece_of(grid, from, at), piece);
        comm_event_ring(&part->taken);
        done += piece;
    }
}
