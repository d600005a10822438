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
#include "base/log.h"
#include "comm/pack.h"

enum {
    SLOT_BYTES = COMM_LOCAL_VALUES * 4,
    SUM_WHOLE  = 1 << 12, /* values: up to here every shard adds everything, in one round */
    SUM_FEW    = 3,       /* shards: up to here so for any number of values */
    SUM_BLOCK  = 1 << 11, /* values that stay in the first cache while all shards' are added */
    PIPE_SLOTS = 4,
    PIPE_BYTES = 1 << 16,
    LATE_MOST  = 3, /* a few speak for all */
};

typedef struct {
    comm_event_t arrived;                   /* of the first mate alone: arrivals of all mates */
    comm_event_t sent;                      /* pieces put into the ring */
    comm_event_t taken;                     /* pieces read from it */
    _Alignas(COMM_LINE) uint32_t narrow[2]; /* the slot holds int16_t */
    _Atomic uint32_t met;                   /* arrivals awaited: who is late is told by it */
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

/* Who is on this host, and the hosts of the group. `together`: ranks of a host share memory. */
static void find_mates(comm_grid_t *g, bool together)
{
    const comm_world_t *w     = g->world;
    uint32_t            first = g->stage * g->shards;

    for (uint32_t s = 0; s < g->shards; s++) {
        int      rank = (int)(first + s), leader = together ? w->leader_of[rank] : rank;
        uint32_t before = 0; /* shards of the same host below s */
        for (uint32_t t = 0; t < s; t++)
            if (leader == (together ? w->leader_of[first + t] : (int)(first + t))) {
                g->host_of[s] = g->host_of[t];
                before++;
            }
        if (before == 0) g->host_of[s] = g->n_hosts++;
        g->place_of[s] = before;
    }
    for (uint32_t s = 0; s < g->shards; s++) {
        if (g->host_of[s] != g->host_of[g->shard]) continue;
        if (s == g->shard) g->my_mate = g->n_mates;
        g->mates[g->n_mates++] = s;
    }
    for (uint32_t s = 0; s < g->shards; s++)
        if (g->place_of[s] == g->my_mate) g->peers[g->host_of[s]] = s;
    /* A lane: one shard of each host. As many as the smallest host has shards. */
    g->lanes = g->shards;
    for (uint32_t h = 0; h < g->n_hosts; h++) {
        uint32_t n = 0;
        for (uint32_t s = 0; s < g->shards; s++) n += g->host_of[s] == h;
        if (n < g->lanes) g->lanes = n;
    }
}

base_status_t comm_local_create(comm_grid_t *grid, bool shared, base_err_t *err)
{
    const comm_world_t *w    = grid->world;
    int                 mine = 1, all = 1;
    base_status_t       st = BASE_OK;

    if (shared && w->local_size > 1) {
        st   = comm_shm_open(w->host, sizeof(part_t), &grid->shm, err);
        mine = grid->shm.parts != NULL;
    }
    if (st == BASE_OK && w->mpi)
        st = comm_check(MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, w->all), "MPI_Allreduce",
                        err);
    if (st != BASE_OK) return st;
    find_mates(grid, shared && all != 0);
    grid->local_group = grid->shards > 1 && grid->n_mates == grid->shards;
    return BASE_OK;
}

void comm_local_destroy(comm_grid_t *grid)
{
    comm_shm_close(&grid->rings);
    comm_shm_close(&grid->shm);
}

/* A wait that lasts. */
typedef struct {
    const comm_grid_t *grid;
    int                peer; /* rank awaited; -1: the mates */
    uint64_t           since, next_us;
} wait_t;

static void name_late(const wait_t *t, uint64_t waited_us)
{
    const comm_grid_t *g = t->grid;

    if (t->peer >= 0) comm_patience_tell(g->world, t->peer, waited_us);
    for (uint32_t k = 0, told = 0; t->peer < 0 && k < g->n_mates && told < LATE_MOST; k++) {
        uint32_t met = atomic_load(&part_of_shard(g, g->mates[k])->met);
        if ((int32_t)(met - g->arrivals) >= 0) continue;
        comm_patience_tell(g->world, (int)(g->stage * g->shards + g->mates[k]), waited_us);
        told++;
    }
}

/* MPI makes progress only inside its calls, and a message that this rank sent may be half out. */
static void look_after_mpi(void *arg)
{
    wait_t       *t    = arg;
    comm_world_t *w    = t->grid->world;
    uint64_t      now  = base_clock_us();
    int           flag = 0;

    while (comm_serve_poll(w)) (void)sched_yield();
    (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->all, &flag, MPI_STATUS_IGNORE);
    if (t->since == 0) t->since = now;
    if (comm_patience_over(w, now - t->since, &t->next_us)) name_late(t, now - t->since);
}

static void await(comm_grid_t *g, comm_event_t *event, uint32_t target, int peer)
{
    wait_t t = {.grid = g, .peer = peer};

    comm_event_wait(event, target, g->world->spin, look_after_mpi, &t);
}

/* ---- collectives ----------------------------------------------------------------------------- */

/* The k-th mate after this one. */
static uint32_t mate(const comm_grid_t *g, uint32_t k)
{
    return g->mates[(g->my_mate + k) % g->n_mates];
}

/* All mates are here, and what they wrote before is visible. */
static void meet(comm_grid_t *g)
{
    comm_event_t *arrived = &part_of_shard(g, g->mates[0])->arrived;

    g->arrivals += g->n_mates;
    atomic_store_explicit(&part_of_shard(g, g->shard)->met, g->arrivals, memory_order_relaxed);
    comm_event_add(arrived, g->arrivals);
    await(g, arrived, g->arrivals, -1);
}

static int32_t *slot_of(const comm_grid_t *g, uint32_t shard)
{
    return (int32_t *)(void *)part_of_shard(g, shard)->slots[g->slot];
}

static void add_i32(int32_t *restrict to, const int32_t *restrict from, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

/* Put n values into the own slot. */
static void put(comm_grid_t *g, const int32_t *buf, size_t n)
{
    part_t  *part = part_of_shard(g, g->shard);
    int32_t *slot = slot_of(g, g->shard);

    part->narrow[g->slot] = comm_pack_narrow((int16_t *)(void *)slot, buf, n);
    if (!part->narrow[g->slot]) memcpy(slot, buf, n * sizeof(*buf));
}

/* Add values [begin, begin + n) of the other mates' slots to to[0 .. n). */
static void add_mates(comm_grid_t *g, int32_t *to, size_t begin, size_t n)
{
    for (size_t done = 0; done < n; done += SUM_BLOCK) {
        size_t block = base_min_size(n - done, SUM_BLOCK);
        for (uint32_t k = 1; k < g->n_mates; k++) {
            uint32_t       s    = mate(g, k);
            const int32_t *slot = slot_of(g, s);
            if (part_of_shard(g, s)->narrow[g->slot])
                comm_pack_add_narrow(to + done, (const int16_t *)(const void *)slot + begin + done,
                                     block);
            else
                add_i32(to + done, slot + begin + done, block);
        }
    }
}

/* Each mate adds one slice; the totals go into the other slot, which all have read. */
static void sum_slices(comm_grid_t *g, int32_t *buf, size_t n)
{
    size_t begin = comm_slice_begin(n, g->n_mates, g->my_mate);
    size_t own   = comm_slice_begin(n, g->n_mates, g->my_mate + 1) - begin;

    put(g, buf, n);
    meet(g);
    add_mates(g, buf + begin, begin, own);
    comm_local_share(g, buf, n, g->n_mates);
}

void comm_local_share(comm_grid_t *grid, int32_t *buf, size_t n, uint32_t lanes)
{
    size_t begin = 0, end = 0;

    if (grid->n_mates == 1) return;
    grid->slot ^= 1;
    if (grid->my_mate < lanes) {
        begin = comm_slice_begin(n, lanes, grid->my_mate);
        end   = comm_slice_begin(n, lanes, grid->my_mate + 1);
        memcpy(slot_of(grid, grid->shard) + begin, buf + begin, (end - begin) * sizeof(*buf));
    }
    meet(grid);
    for (uint32_t k = 0; k < lanes; k++) {
        if (k == grid->my_mate) continue;
        begin = comm_slice_begin(n, lanes, k);
        end   = comm_slice_begin(n, lanes, k + 1);
        memcpy(buf + begin, slot_of(grid, grid->mates[k]) + begin, (end - begin) * sizeof(*buf));
    }
    grid->slot ^= 1; /* of both slots the first of this call was free earlier */
}

void comm_local_reduce(comm_grid_t *grid, int32_t *buf, size_t n, uint32_t lanes)
{
    if (grid->n_mates == 1) return;
    put(grid, buf, n);
    meet(grid);
    if (grid->my_mate < lanes) {
        size_t begin = comm_slice_begin(n, lanes, grid->my_mate);
        add_mates(grid, buf + begin, begin, comm_slice_begin(n, lanes, grid->my_mate + 1) - begin);
    }
}

void comm_local_sum(comm_grid_t *grid, int32_t *buf, size_t n)
{
    for (size_t done = 0; done < n;) {
        size_t piece = base_min_size(n - done, COMM_LOCAL_VALUES);
        if (piece <= SUM_WHOLE || grid->n_mates <= SUM_FEW) {
            put(grid, buf + done, piece);
            meet(grid);
            add_mates(grid, buf + done, 0, piece);
            grid->slot ^= 1;
        } else {
            sum_slices(grid, buf + done, piece);
        }
        done += piece;
    }
}

void comm_local_gather(comm_grid_t *grid, float *buf, const uint32_t *counts,
                       const uint32_t *offsets)
{
    size_t room = SLOT_BYTES / sizeof(*buf), most = 0;

    if (grid->n_mates == 1) return;
    for (uint32_t k = 0; k < grid->n_mates; k++) most = base_max_size(most, counts[grid->mates[k]]);
    for (size_t done = 0; done < most; done += room) {
        size_t own = counts[grid->shard];
        if (own > done)
            memcpy(slot_of(grid, grid->shard), buf + offsets[grid->shard] + done,
                   base_min_size(own - done, room) * sizeof(*buf));
        meet(grid);
        for (uint32_t k = 1; k < grid->n_mates; k++) {
            uint32_t s = mate(grid, k);
            if (counts[s] > done)
                memcpy(buf + offsets[s] + done, slot_of(grid, s),
                       base_min_size(counts[s] - done, room) * sizeof(*buf));
        }
        grid->slot ^= 1;
    }
}

void comm_local_spread(comm_grid_t *grid, void *buf, size_t bytes)
{
    for (size_t done = 0; grid->n_mates > 1 && done < bytes; done += SLOT_BYTES) {
        size_t piece = base_min_size(bytes - done, SLOT_BYTES);
        void  *slot  = slot_of(grid, grid->mates[0]);
        if (grid->my_mate == 0) memcpy(slot, (uint8_t *)buf + done, piece);
        meet(grid);
        if (grid->my_mate > 0) memcpy((uint8_t *)buf + done, slot, piece);
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

void comm_local_send(comm_grid_t *grid, const float *buf, size_t n, int to)
{
    part_t        *part = part_of(grid, grid->world->rank);
    const uint8_t *data = (const uint8_t *)buf;

    for (size_t done = 0, bytes = n * sizeof(*buf); done < bytes;) {
        size_t   piece = base_min_size(bytes - done, PIPE_BYTES);
        uint32_t at    = atomic_load_explicit(&part->sent.value, memory_order_relaxed);
        await(grid, &part->taken, at - (slots_of(grid) - 1), to);
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
        await(grid, &part->sent, at + 1, from);
        memcpy(data + done, piece_of(grid, from, at), piece);
        comm_event_ring(&part->taken);
        done += piece;
    }
}
