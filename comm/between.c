/* comm/between.c: messages between hosts. Sums travel in as few bytes as hold them (pack.h). */
#include "comm/between.h"

#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "comm/pack.h"

enum { DIRECT_LEAST = 1 << 10 }; /* values of a direct sum, however many hosts there are */

size_t comm_between_pack_bytes(const comm_grid_t *g)
{
    size_t sums = g->n_hosts * (size_t)COMM_PACK_HEAD + COMM_SUM_CHUNK * sizeof(int32_t);
    return sums + 4 * (size_t)g->n_hosts; /* slices start on a multiple of 4 bytes */
}

size_t comm_between_most(const comm_grid_t *g, bool slices)
{
    if (slices) return COMM_SUM_CHUNK;
    return base_max_size(DIRECT_LEAST,
                         base_min_size(COMM_SUM_CHUNK, 2 * COMM_SUM_CHUNK / g->n_hosts));
}

/* Of the direct way as much as of slices and more, and of a round of a gather. */
size_t comm_between_work_bytes(const comm_grid_t *g)
{
    size_t each = base_max_size(DIRECT_LEAST, 2 * COMM_SUM_CHUNK / g->n_hosts + 1);
    return g->n_hosts * comm_pack_room(each);
}

/* The hosts in an order that differs by host: none is everyone's first. */
static uint32_t host_after(const comm_grid_t *g, uint32_t k)
{
    return (g->host_of[g->shard] + k) % g->n_hosts;
}

static comm_peers_t peers_of(const comm_grid_t *g)
{
    return (comm_peers_t){.list = g->asked};
}

static base_status_t post_send(comm_grid_t *g, const void *buf, size_t bytes, uint32_t host,
                               int tag, int *posted, base_err_t *err)
{
    uint32_t      to = g->peers[host];
    base_status_t st = comm_check(
        MPI_Isend(buf, (int)bytes, MPI_BYTE, (int)to, tag, g->group, &g->requests[*posted]),
        "MPI_Isend", err);
    if (st != BASE_OK) return st;
    g->asked[(*posted)++] = (int)(g->stage * g->shards + to);
    comm_ring(g->world, (int)(g->stage * g->shards + to));
    return BASE_OK;
}

static base_status_t post_recv(comm_grid_t *g, void *buf, size_t bytes, uint32_t host, int tag,
                               int *posted, base_err_t *err)
{
    uint32_t      from = g->peers[host];
    base_status_t st   = comm_check(
          MPI_Irecv(buf, (int)bytes, MPI_BYTE, (int)from, tag, g->group, &g->requests[*posted]),
          "MPI_Irecv", err);
    if (st == BASE_OK) g->asked[(*posted)++] = (int)(g->stage * g->shards + from);
    return st;
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* Where the k-th message of at most n values arrives. */
static uint8_t *arrival(const comm_grid_t *g, uint32_t k, size_t n)
{
    return g->work + k * comm_pack_room(n);
}

static base_status_t sum_direct(comm_grid_t *g, int32_t *buf, size_t n, uint64_t *sent,
                                base_err_t *err)
{
    int           posted = 0;
    size_t        bytes  = comm_pack_i32(g->pack, buf, n);
    base_status_t st     = BASE_OK;

    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = post_recv(g, arrival(g, k, n), comm_pack_room(n), host_after(g, g->n_hosts - k),
                       COMM_TAG_SUM, &posted, err);
    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = post_send(g, g->pack, bytes, host_after(g, k), COMM_TAG_SUM, &posted, err);
    if (st == BASE_OK) st = comm_wait_data(g->world, g->requests, posted, peers_of(g), "sum", err);
    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = comm_pack_add(buf, arrival(g, k, n), n, err);
    *sent += bytes * (g->n_hosts - 1);
    return st;
}

/* The total of the own slice to all, theirs from them. */
static base_status_t share_slices(comm_grid_t *g, int32_t *buf, size_t n, uint64_t *sent,
                                  base_err_t *err)
{
    uint32_t me   = g->host_of[g->shard];
    size_t   mine = comm_slice_begin(n, g->n_hosts, me);
    size_t   most = n / g->n_hosts + 1;
    size_t   bytes =
        comm_pack_i32(g->pack, buf + mine, comm_slice_begin(n, g->n_hosts, me + 1) - mine);
    int           posted = 0;
    base_status_t st     = BASE_OK;

    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = post_recv(g, arrival(g, k, most), comm_pack_room(most), host_after(g, g->n_hosts - k),
                       COMM_TAG_SUM, &posted, err);
    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = post_send(g, g->pack, bytes, host_after(g, k), COMM_TAG_SUM, &posted, err);
    if (st == BASE_OK) st = comm_wait_data(g->world, g->requests, posted, peers_of(g), "sum", err);
    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++) {
        uint32_t from  = host_after(g, g->n_hosts - k);
        size_t   begin = comm_slice_begin(n, g->n_hosts, from);
        st             = comm_pack_store(buf + begin, arrival(g, k, most),
                                         comm_slice_begin(n, g->n_hosts, from + 1) - begin, err);
    }
    *sent += bytes * (g->n_hosts - 1);
    return st;
}

static base_status_t sum_slices(comm_grid_t *g, int32_t *buf, size_t n, uint64_t *sent,
                                base_err_t *err)
{
    uint32_t      me     = g->host_of[g->shard];
    size_t        mine   = comm_slice_begin(n, g->n_hosts, me);
    size_t        own    = comm_slice_begin(n, g->n_hosts, me + 1) - mine;
    size_t        most   = n / g->n_hosts + 1;
    uint8_t      *pack   = g->pack;
    int           posted = 0;
    base_status_t st     = BASE_OK;

    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = post_recv(g, arrival(g, k, most), comm_pack_room(most), host_after(g, g->n_hosts - k),
                       COMM_TAG_SUM, &posted, err);
    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++) {
        uint32_t to    = host_after(g, k);
        size_t   begin = comm_slice_begin(n, g->n_hosts, to);
        size_t   bytes =
            comm_pack_i32(pack, buf + begin, comm_slice_begin(n, g->n_hosts, to + 1) - begin);
        st = post_send(g, pack, bytes, to, COMM_TAG_SUM, &posted, err);
        pack += base_round_up(bytes, 4);
        *sent += bytes;
    }
    if (st == BASE_OK) st = comm_wait_data(g->world, g->requests, posted, peers_of(g), "sum", err);
    for (uint32_t k = 1; k < g->n_hosts && st == BASE_OK; k++)
        st = comm_pack_add(buf + mine, arrival(g, k, most), own, err);
    return st == BASE_OK ? share_slices(g, buf, n, sent, err) : st;
}

base_status_t comm_between_sum(comm_grid_t *grid, int32_t *buf, size_t n, bool slices,
                               uint64_t *sent, base_err_t *err)
{
    base_assert(n <= comm_between_most(grid, slices));
    if (n == 0 || grid->n_hosts == 1) return BASE_OK;
    return slices ? sum_slices(grid, buf, n, sent, err) : sum_direct(grid, buf, n, sent, err);
}

/* ---- gathers --------------------------------------------------------------------------------- */

/* Copy a round of the pieces of a host's shards between buf and a message; returns its floats. */
static size_t move_pieces(const comm_grid_t *g, uint32_t host, float *buf, const uint32_t *counts,
                          const uint32_t *offsets, uint32_t done, uint32_t room, float *message,
                          bool out)
{
    size_t n = 0;

    for (uint32_t s = 0; s < g->shards; s++) {
        if (g->host_of[s] != host || counts[s] <= done) continue;
        size_t piece = base_min_size(counts[s] - done, room);
        float *at    = buf + offsets[s] + done;
        if (message != NULL && out) memcpy(message + n, at, piece * sizeof(*at));
        if (message != NULL && !out) memcpy(at, message + n, piece * sizeof(*at));
        n += piece;
    }
    return n;
}

base_status_t comm_between_gather(comm_grid_t *grid, float *buf, const uint32_t *counts,
                                  const uint32_t *offsets, uint32_t done, uint32_t room,
                                  uint64_t *sent, base_err_t *err)
{
    uint32_t      me     = grid->host_of[grid->shard];
    float        *out    = (float *)(void *)grid->pack;
    float        *in     = (float *)(void *)grid->work;
    size_t        n      = move_pieces(grid, me, buf, counts, offsets, done, room, out, true);
    size_t        at     = 0;
    int           posted = 0;
    base_status_t st     = BASE_OK;

    for (uint32_t k = 1; k < grid->n_hosts && st == BASE_OK; k++) {
        uint32_t from = host_after(grid, grid->n_hosts - k);
        size_t   m    = move_pieces(grid, from, buf, counts, offsets, done, room, NULL, false);
        if (m > 0)
            st = post_recv(grid, in + at, m * sizeof(*in), from, COMM_TAG_GATHER, &posted, err);
        at += m;
    }
    for (uint32_t k = 1; k < grid->n_hosts && st == BASE_OK && n > 0; k++)
        st = post_send(grid, out, n * sizeof(*out), host_after(grid, k), COMM_TAG_GATHER, &posted,
                       err);
    if (st == BASE_OK)
        st = comm_wait_data(grid->world, grid->requests, posted, peers_of(grid), "gather", err);
    at = 0;
    for (uint32_t k = 1; k < grid->n_hosts && st == BASE_OK; k++)
        at += move_pieces(grid, host_after(grid, grid->n_hosts - k), buf, counts, offsets, done,
                          room, in + at, false);
    *sent += n * sizeof(*out) * (grid->n_hosts - 1);
    return st;
}
