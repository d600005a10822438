/* comm/stream.c: what moves between stages, and the way of the logits to rank 0.
 *
 * With buffers (comm_grid_reserve) a stage hands its message over and goes on to the next step: to
 * a rank of this host through a ring, to another host by MPI from a buffer of our own, where the
 * receiver has already asked for it. MPI moves data only inside its calls: comm_poke. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "comm/local.h"

enum { STAGE_CHUNK = 1 << 20 }; /* floats in one message, without buffers */

/* ---- one sender, one receiver, no buffers ------------------------------------------------- */

static base_status_t floats_send(comm_grid_t *g, const float *buf, size_t n, int to, int tag,
                                 base_err_t *err)
{
    base_status_t st = BASE_OK;

    if (comm_local_reaches(g, to)) {
        comm_local_send(g, buf, n, to);
        return BASE_OK;
    }
    for (size_t done = 0; st == BASE_OK && done < n;) {
        MPI_Request request = MPI_REQUEST_NULL;
        size_t      piece   = base_min_size(n - done, STAGE_CHUNK);
        st = comm_check(MPI_Isend(buf + done, (int)piece, MPI_FLOAT, to, tag, g->all, &request),
                        "MPI_Isend", err);
        comm_ring(g->world, to);
        if (st == BASE_OK)
            st = comm_wait_data(g->world, &request, 1, (comm_peers_t){.first = to}, "MPI_Isend",
                                err);
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
        if (st == BASE_OK)
            st = comm_wait_data(g->world, &request, 1, (comm_peers_t){.first = from}, "MPI_Irecv",
                                err);
        done += piece;
    }
    return st;
}

/* ---- buffers ------------------------------------------------------------------------------ */

static int next_rank(const comm_grid_t *g)
{
    return (int)((g->stage + 1) * g->shards + g->shard);
}

static int previous_rank(const comm_grid_t *g)
{
    return (int)((g->stage - 1) * g->shards + g->shard);
}

static base_status_t post_stage_recv(comm_grid_t *g, uint32_t slot, base_err_t *err)
{
    comm_stream_t *s = &g->stream;
    return comm_check(MPI_Irecv(s->in[slot], (int)s->floats, MPI_FLOAT, previous_rank(g),
                                COMM_TAG_STAGE, g->all, &s->in_request[slot]),
                      "MPI_Irecv", err);
}

static base_status_t reserve_messages(comm_grid_t *g, base_err_t *err)
{
    comm_stream_t *s    = &g->stream;
    bool           send = g->stage + 1 < g->stages && !comm_local_reaches(g, next_rank(g));
    bool           recv = g->stage > 0 && !comm_local_reaches(g, previous_rank(g));
    size_t         n    = (size_t)(send ? COMM_STAGE_SLOTS : 0) + (recv ? COMM_STAGE_POSTED : 0);
    float         *at   = NULL;
    base_status_t  st   = BASE_OK;
    if (n > 0)
        st = base_alloc((void **)&s->memory, n, s->floats * sizeof(float), "stage messages", err);
    if (st == BASE_OK && g->stage == 0 && g->shard == 0)
        st = base_alloc((void **)&s->logits_in, (size_t)COMM_LOGITS_AHEAD * g->shards,
                        sizeof(MPI_Request), "requests", err);
    for (uint32_t i = 0; s->logits_in != NULL && i < COMM_LOGITS_AHEAD * g->shards; i++)
        s->logits_in[i] = MPI_REQUEST_NULL;
    if (st == BASE_OK && s->logits_in != NULL)
        st = base_alloc((void **)&s->rows, g->shards, sizeof(*s->rows), "rows of logits", err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; s->rows != NULL && i < g->shards; i++) s->rows[i].type = MPI_DATATYPE_NULL;
    at = s->memory;
    for (uint32_t i = 0; send && i < COMM_STAGE_SLOTS; i++, at += s->floats) s->out[i] = at;
    for (uint32_t i = 0; recv && i < COMM_STAGE_POSTED; i++, at += s->floats) s->in[i] = at;
    return BASE_OK;
}

base_status_t comm_grid_reserve(comm_grid_t *grid, size_t stage_floats, base_err_t *err)
{
    comm_stream_t *s  = &grid->stream;
    base_status_t  st = BASE_OK;

    base_assert(s->floats == 0 && stage_floats > 0 && stage_floats <= INT32_MAX);
    if (grid->stages == 1) return BASE_OK;
    s->floats = stage_floats;
    for (uint32_t i = 0; i < COMM_LOGITS_OUT; i++) s->logits_out[i] = MPI_REQUEST_NULL;
    for (uint32_t i = 0; i < COMM_STAGE_SLOTS; i++) s->out_request[i] = MPI_REQUEST_NULL;
    for (uint32_t i = 0; i < COMM_STAGE_POSTED; i++) s->in_request[i] = MPI_REQUEST_NULL;
    st = comm_agree(grid->world, reserve_messages(grid, err), err);
    if (st == BASE_OK) st = comm_local_rings(grid, 2 * stage_floats * sizeof(float), err);
    for (uint32_t i = 0; st == BASE_OK && s->in[0] != NULL && i < COMM_STAGE_POSTED; i++)
        st = post_stage_recv(grid, i, err);
    return comm_agree(grid->world, st, err);
}

static void cancel(MPI_Request *request)
{
    if (*request == MPI_REQUEST_NULL) return;
    (void)MPI_Cancel(request);
    (void)MPI_Wait(request, MPI_STATUS_IGNORE);
}

void comm_stream_destroy(comm_grid_t *grid)
{
    comm_stream_t *s = &grid->stream;
    if (s->floats == 0) return;
    /* What was sent has been received: rank 0 stops only after it has collected every step. */
    (void)MPI_Waitall(COMM_STAGE_SLOTS, s->out_request, MPI_STATUSES_IGNORE);
    (void)MPI_Waitall(COMM_LOGITS_OUT, s->logits_out, MPI_STATUSES_IGNORE);
    for (uint32_t i = 0; i < COMM_STAGE_POSTED; i++) cancel(&s->in_request[i]);
    for (uint32_t i = 0; s->logits_in != NULL && i < COMM_LOGITS_AHEAD * grid->shards; i++)
        cancel(&s->logits_in[i]);
    for (uint32_t i = 0; s->rows != NULL && i < grid->shards; i++)
        if (s->rows[i].type != MPI_DATATYPE_NULL) (void)MPI_Type_free(&s->rows[i].type);
    free(s->rows);
    free(s->memory);
    free(s->logits_in);
    memset(s, 0, sizeof(*s));
}

void comm_poke(comm_grid_t *grid)
{
    int flag = 0;
    if (grid->stream.floats == 0) return;
    (void)MPI_Iprobe(MPI_ANY_SOURCE, COMM_TAG_STAGE, grid->all, &flag, MPI_STATUS_IGNORE);
}

/* ---- between stages ----------------------------------------------------------------------- */

static base_status_t buffered_send(comm_grid_t *g, const float *buf, size_t n, base_err_t *err)
{
    comm_stream_t *s    = &g->stream;
    uint32_t       slot = s->next_out;
    base_status_t  st   = comm_wait_data(g->world, &s->out_request[slot], 1,
                                         (comm_peers_t){.first = next_rank(g)}, "MPI_Isend", err);
    if (st != BASE_OK) return st;
    s->next_out = (slot + 1) % COMM_STAGE_SLOTS;
    memcpy(s->out[slot], buf, n * sizeof(float));
    comm_ring(g->world, next_rank(g));
    return comm_check(MPI_Isend(s->out[slot], (int)n, MPI_FLOAT, next_rank(g), COMM_TAG_STAGE,
                                g->all, &s->out_request[slot]),
                      "MPI_Isend", err);
}

static base_status_t buffered_recv(comm_grid_t *g, float *buf, size_t n, base_err_t *err)
{
    comm_stream_t *s    = &g->stream;
    uint32_t       slot = s->next_in;
    comm_peers_t   from = {.first = previous_rank(g)};
    base_status_t  st   = comm_wait_data(g->world, &s->in_request[slot], 1, from, "MPI_Irecv", err);
    if (st != BASE_OK) return st;
    s->next_in = (slot + 1) % COMM_STAGE_POSTED;
    memcpy(buf, s->in[slot], n * sizeof(float));
    return post_stage_recv(g, slot, err);
}

base_status_t comm_stage_send(comm_grid_t *grid, const float *buf, size_t n, base_err_t *err)
{
    uint64_t      start = base_clock_us();
    base_status_t st    = BASE_OK;

    base_assert(grid != NULL && grid->stage + 1 < grid->stages);
    base_assert(buf != NULL || n == 0);
    base_assert(grid->stream.floats == 0 || n <= grid->stream.floats);
    if (grid->stream.out[0] != NULL)
        st = buffered_send(grid, buf, n, err);
    else
        st = floats_send(grid, buf, n, next_rank(grid), COMM_TAG_STAGE, err);
    comm_count(grid, start, n * sizeof(float));
    return st;
}

base_status_t comm_stage_recv(comm_grid_t *grid, float *buf, size_t n, base_err_t *err)
{
    uint64_t      start = base_clock_us();
    base_status_t st    = BASE_OK;

    base_assert(grid != NULL && grid->stage > 0);
    base_assert(buf != NULL || n == 0);
    if (grid->stream.in[0] != NULL)
        st = buffered_recv(grid, buf, n, err);
    else
        st = floats_recv(grid, buf, n, previous_rank(grid), COMM_TAG_STAGE, err);
    comm_count(grid, start, 0);
    return st;
}

/* ---- logits, while ranks go on ------------------------------------------------------------ */

base_status_t comm_logits_settle(comm_grid_t *grid, uint32_t left, base_err_t *err)
{
    comm_stream_t *s     = &grid->stream;
    uint64_t       start = base_clock_us();
    base_status_t  st    = BASE_OK;
    base_assert(left <= COMM_LOGITS_OUT);
    for (uint32_t i = COMM_LOGITS_OUT; st == BASE_OK && i > left; i--) { /* the oldest first */
        MPI_Request *out = &s->logits_out[(s->logits_out_n - i) % COMM_LOGITS_OUT];
        if (*out == MPI_REQUEST_NULL) continue;
        st = comm_wait_data(grid->world, out, 1, (comm_peers_t){.first = 0}, "MPI_Isend", err);
    }
    comm_count(grid, start, 0);
    return st;
}

base_status_t comm_logits_send(comm_grid_t *grid, const float *piece, size_t n_rows, size_t count,
                               base_err_t *err)
{
    comm_stream_t *s   = &grid->stream;
    MPI_Request   *out = &s->logits_out[s->logits_out_n % COMM_LOGITS_OUT];
    base_status_t  st  = BASE_OK;
    base_assert(s->floats > 0 && grid->stage + 1 == grid->stages);
    base_assert(*out == MPI_REQUEST_NULL);
    base_assert(n_rows * count <= INT32_MAX);
    s->logits_out_n++;
    if (n_rows * count == 0) return BASE_OK;
    st = comm_check(
        MPI_Isend(piece, (int)(n_rows * count), MPI_FLOAT, 0, COMM_TAG_LOGITS, grid->all, out),
        "MPI_Isend", err);
    comm_ring(grid->world, 0);
    grid->stats.bytes += n_rows * count * sizeof(float);
    return st;
}

/* A type of one row that ends where the next begins. */
static base_status_t make_rows(comm_rows_t *rows, uint32_t count, size_t stride, base_err_t *err)
{
    MPI_Datatype  row = MPI_DATATYPE_NULL;
    base_status_t st  = BASE_OK;
    if (rows->type != MPI_DATATYPE_NULL && rows->count == count && rows->stride == stride)
        return BASE_OK;
    if (rows->type != MPI_DATATYPE_NULL) (void)MPI_Type_free(&rows->type);
    st = comm_check(MPI_Type_contiguous((int)count, MPI_FLOAT, &row), "MPI_Type_contiguous", err);
    if (st == BASE_OK)
        st = comm_check(
            MPI_Type_create_resized(row, 0, (MPI_Aint)(stride * sizeof(float)), &rows->type),
            "MPI_Type_create_resized", err);
    if (st == BASE_OK) st = comm_check(MPI_Type_commit(&rows->type), "MPI_Type_commit", err);
    if (row != MPI_DATATYPE_NULL) (void)MPI_Type_free(&row);
    rows->count  = count;
    rows->stride = stride;
    return st;
}

/* Rows of one shard go where they belong, without a copy in between. */
static base_status_t expect_shard(comm_grid_t *g, uint32_t shard, size_t n_rows, uint32_t count,
                                  float *to, size_t row_stride, MPI_Request *request,
                                  base_err_t *err)
{
    comm_rows_t  *rows   = &g->stream.rows[shard];
    int           from   = (int)((g->stages - 1) * g->shards + shard);
    bool          simple = n_rows == 1 || count == row_stride;
    base_status_t st     = simple ? BASE_OK : make_rows(rows, count, row_stride, err);
    if (st != BASE_OK) return st;
    base_assert(n_rows * count <= INT32_MAX);
    return comm_check(MPI_Irecv(to, (int)(simple ? n_rows * count : n_rows),
                                simple ? MPI_FLOAT : rows->type, from, COMM_TAG_LOGITS, g->all,
                                request),
                      "MPI_Irecv", err);
}

base_status_t comm_logits_expect(comm_grid_t *grid, size_t n_rows, const uint32_t *counts,
                                 const uint32_t *offsets, float *logits, size_t row_stride,
                                 base_err_t *err)
{
    comm_stream_t *s  = &grid->stream;
    base_status_t  st = BASE_OK;
    base_assert(s->logits_in != NULL && s->logits_n < COMM_LOGITS_AHEAD && n_rows > 0);
    uint32_t group = (s->logits_first + s->logits_n) % COMM_LOGITS_AHEAD;
    for (uint32_t i = 0; i < grid->shards && st == BASE_OK; i++)
        if (counts[i] > 0)
            st = expect_shard(grid, i, n_rows, counts[i], logits + offsets[i], row_stride,
                              &s->logits_in[(size_t)group * grid->shards + i], err);
    s->logits_n++;
    return st;
}

base_status_t comm_logits_collect(comm_grid_t *grid, base_err_t *err)
{
    comm_stream_t *s     = &grid->stream;
    uint64_t       start = base_clock_us();
    base_assert(s->logits_n > 0);
    comm_peers_t  last = {.first = (int)((grid->stages - 1) * grid->shards)};
    base_status_t st =
        comm_wait_data(grid->world, s->logits_in + (size_t)s->logits_first * grid->shards,
                       (int)grid->shards, last, "MPI_Irecv", err);
    s->logits_first = (s->logits_first + 1) % COMM_LOGITS_AHEAD;
    s->logits_n--;
    comm_count(grid, start, 0);
    return st;
}

/* ---- logits, with rank 0 waiting ---------------------------------------------------------- */

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
