/* comm/control.c: messages from rank 0 to the others, records from the others to rank 0.
 *
 * A control message travels down a tree in which each rank has up to FANOUT children (so up to 33
 * ranks get it from rank 0 itself), as a head with the length and the first bytes, then in pieces
 * of COMM_CHUNK_BYTES. Each rank passes a piece on before it asks for the next.
 *
 * Lengths are believed when they were counted: what a head announces has a limit, and each piece is
 * as long as the head says. Where one is not, nobody can tell any more which bytes belong to which
 * message, and the sender may wait for a rank that no longer listens: so all ranks end at once. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/limits.h"
#include "comm/internal.h"

enum { FANOUT = 32 };

typedef struct {
    uint64_t bytes; /* of the whole message */
    uint8_t  first[COMM_HEAD_BYTES - sizeof(uint64_t)];
} head_t;
_Static_assert(sizeof(head_t) == COMM_HEAD_BYTES, "no padding on the wire");

/* ---- pieces ---------------------------------------------------------------------------------- */

static base_status_t send_one(comm_world_t *w, const void *data, size_t bytes, int to, int tag,
                              base_err_t *err)
{
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st = comm_check(MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, w->all, &request),
                                  "MPI_Isend", err);
    if (st != BASE_OK) return st;
    comm_ring(w, to);
    return comm_wait(w, &request, 1, COMM_WAIT_SLEEPY, "MPI_Isend", err);
}

/* A message of a tag of this file: up to `room` bytes; *got: how many, or COMM_TOO_LONG. */
static base_status_t recv_any(comm_world_t *w, void *data, size_t room, int from, int tag,
                              comm_wait_t kind, int *got, base_err_t *err)
{
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st = comm_check(MPI_Irecv(data, (int)room, MPI_BYTE, from, tag, w->all, &request),
                                  "MPI_Irecv", err);
    if (st != BASE_OK) return st;
    return comm_wait_message(w, &request, kind, got, "MPI_Irecv", err);
}

#define REMEDY "its host runs another build of trireme, or the network is damaged"

static _Noreturn void end_uncounted(comm_world_t *w, const char *what, int from, int got,
                                    size_t want)
{
    base_err_t err = {0};

    if (got == COMM_TOO_LONG)
        (void)base_fail(&err, BASE_ERR_PEER,
                        "%s: rank %d sent more than the %zu bytes due: " REMEDY, what, from, want);
    else
        (void)base_fail(&err, BASE_ERR_PEER,
                        "%s: rank %d sent %d bytes where %zu were due: " REMEDY, what, from, got,
                        want);
    comm_world_abort(w, &err);
}

static _Noreturn void end_unlimited(comm_world_t *w, const char *what, int from, uint64_t announced)
{
    base_err_t err = {0};

    (void)base_fail(&err, BASE_ERR_PEER, "%s: rank %d announced %llu bytes, limit %d: " REMEDY,
                    what, from, (unsigned long long)announced, LIMIT_MESSAGE_BYTES);
    comm_world_abort(w, &err);
}

/* Exactly `want` bytes, or the end of all ranks. */
static base_status_t recv_exact(comm_world_t *w, void *data, size_t want, int from, int tag,
                                const char *what, base_err_t *err)
{
    int           got = 0;
    base_status_t st  = recv_any(w, data, want, from, tag, COMM_WAIT_SLEEPY, &got, err);

    if (st == BASE_OK && got != (int)want) end_uncounted(w, what, from, got, want);
    return st;
}

static base_status_t send_down(comm_world_t *w, const void *data, size_t bytes, base_err_t *err)
{
    int           n  = 0;
    base_status_t st = BASE_OK;

    for (int64_t k = 1; k <= FANOUT; k++) {
        int64_t child = (int64_t)w->rank * FANOUT + k;
        if (child >= w->size) break;
        st = comm_check(MPI_Isend(data, (int)bytes, MPI_BYTE, (int)child, COMM_TAG_CONTROL, w->all,
                                  &w->requests[n]),
                        "MPI_Isend", err);
        if (st != BASE_OK) return st;
        comm_ring(w, (int)child);
        n++;
    }
    if (n == 0) return BASE_OK;
    return comm_wait(w, w->requests, n, COMM_WAIT_SLEEPY, "MPI_Isend", err);
}

/* What of a message of `bytes` lies in the head; the bytes of the head that are sent. */
static size_t head_share(uint64_t bytes)
{
    return base_min_size((size_t)bytes, sizeof(((head_t *)NULL)->first));
}

/* ---- one message to all ---------------------------------------------------------------------- */

base_status_t comm_control_send(comm_world_t *world, const void *message, size_t bytes,
                                base_err_t *err)
{
    head_t         head;
    const uint8_t *data = message;
    base_status_t  st   = BASE_OK;

    base_assert(world != NULL && world->rank == 0);
    base_assert(message != NULL || bytes == 0);
    if (bytes > LIMIT_MESSAGE_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "a control message of %zu bytes, limit %d", bytes,
                         LIMIT_MESSAGE_BYTES);
    if (world->size == 1) return BASE_OK;
    world->steps++;
    head.bytes  = bytes;
    size_t done = head_share(bytes);
    if (done > 0) memcpy(head.first, data, done);
    st = send_down(world, &head, sizeof(head.bytes) + done, err);
    while (st == BASE_OK && done < bytes) {
        size_t piece = base_min_size(bytes - done, COMM_CHUNK_BYTES);
        st           = send_down(world, data + done, piece, err);
        done += piece;
    }
    return st;
}

static const char control_message[] = "a control message";

/* The head of the next message, whole: as many bytes lie in it as its length says. */
static base_status_t recv_head(comm_world_t *w, int parent, head_t *head, base_err_t *err)
{
    int           got = 0;
    base_status_t st =
        recv_any(w, head, sizeof(*head), parent, COMM_TAG_CONTROL, COMM_WAIT_IDLE, &got, err);

    if (st != BASE_OK) return st;
    if (got < (int)sizeof(head->bytes))
        end_uncounted(w, control_message, parent, got,
                      got == COMM_TOO_LONG ? sizeof(*head) : sizeof(head->bytes));
    if (head->bytes > LIMIT_MESSAGE_BYTES) end_unlimited(w, control_message, parent, head->bytes);
    const size_t want = sizeof(head->bytes) + head_share(head->bytes);
    if (got != (int)want) end_uncounted(w, control_message, parent, got, want);
    return BASE_OK;
}

base_status_t comm_control_recv(comm_world_t *world, void *message, size_t capacity, size_t *bytes,
                                base_err_t *err)
{
    head_t       *head   = NULL;
    uint8_t      *data   = message;
    int           parent = 0;
    base_status_t st     = BASE_OK;

    base_assert(world != NULL && world->rank > 0);
    base_assert(bytes != NULL && (message != NULL || capacity == 0));
    head   = (head_t *)(void *)world->head;
    parent = (world->rank - 1) / FANOUT;
    st     = recv_head(world, parent, head, err);
    if (st != BASE_OK) return st;
    bool   fits = head->bytes <= capacity; /* if not, the ranks below still get it */
    size_t done = head_share(head->bytes);
    if (fits && done > 0) memcpy(data, head->first, done);
    st = send_down(world, head, sizeof(head->bytes) + done, err);
    while (st == BASE_OK && done < head->bytes) {
        size_t   piece = base_min_size((size_t)head->bytes - done, COMM_CHUNK_BYTES);
        uint8_t *to    = fits ? data + done : world->scratch;
        st = recv_exact(world, to, piece, parent, COMM_TAG_CONTROL, control_message, err);
        if (st == BASE_OK) st = send_down(world, to, piece, err);
        done += piece;
    }
    if (st != BASE_OK) return st;
    if (!fits)
        return base_fail(err, BASE_ERR_LIMIT, "a control message of %llu bytes, room for %zu",
                         (unsigned long long)head->bytes, capacity);
    *bytes = (size_t)head->bytes;
    world->steps++;
    return BASE_OK;
}

base_status_t comm_control_share(comm_world_t *world, const char *what, void *data, size_t bytes,
                                 base_err_t *err)
{
    size_t got = 0;

    base_assert(world != NULL && what != NULL && (data != NULL || bytes == 0));
    if (world->rank == 0) return comm_control_send(world, data, bytes, err);
    base_status_t st = comm_control_recv(world, data, bytes, &got, err);
    if (st != BASE_ERR_LIMIT && (st != BASE_OK || got == bytes)) return st;
    /* Rank 0 is elsewhere in the order of messages: it will not come to agree. */
    end_uncounted(world, what, 0, st == BASE_OK ? (int)got : COMM_TOO_LONG, bytes);
}

/* ---- a message for each ---------------------------------------------------------------------- */

static const char start_message[] = "a start-up message";

/* In place of a length: rank 0 has a message that is over the limit, and ends in order. */
static const uint64_t NOTHING_COMES = UINT64_MAX;

static base_status_t scatter_send(comm_world_t *w, const uint8_t *data, size_t bytes, int to,
                                  base_err_t *err)
{
    uint64_t      length = bytes > LIMIT_MESSAGE_BYTES ? NOTHING_COMES : bytes;
    base_status_t st     = send_one(w, &length, sizeof(length), to, COMM_TAG_SCATTER, err);

    if (length == NOTHING_COMES) return st;
    for (size_t done = 0; st == BASE_OK && done < bytes;) {
        size_t piece = base_min_size(bytes - done, COMM_CHUNK_BYTES);
        st           = send_one(w, data + done, piece, to, COMM_TAG_SCATTER, err);
        done += piece;
    }
    return st;
}

/* Without memory the message is still taken off the wire, so that rank 0 can go on to the
 * others. */
static base_status_t scatter_recv(comm_world_t *w, void **out, size_t *bytes, base_err_t *err)
{
    uint64_t      length = 0;
    void         *data   = NULL;
    base_status_t st =
        recv_exact(w, &length, sizeof(length), 0, COMM_TAG_SCATTER, start_message, err);

    if (st != BASE_OK) goto out;
    if (length == NOTHING_COMES) {
        st = base_fail(err, BASE_ERR_PEER, "rank 0 has a start-up message of over %d bytes",
                       LIMIT_MESSAGE_BYTES);
        goto out;
    }
    if (length > LIMIT_MESSAGE_BYTES) end_unlimited(w, start_message, 0, length);
    st                 = base_alloc(&data, (size_t)length, 1, "start-up message", err);
    base_status_t wire = BASE_OK;
    for (size_t done = 0; wire == BASE_OK && done < length;) {
        size_t   piece = base_min_size((size_t)length - done, COMM_CHUNK_BYTES);
        uint8_t *to    = data == NULL ? w->scratch : (uint8_t *)data + done;
        wire           = recv_exact(w, to, piece, 0, COMM_TAG_SCATTER, start_message, err);
        done += piece;
    }
    if (wire != BASE_OK) st = wire;
    if (st != BASE_OK) goto out;
    *out   = data;
    *bytes = (size_t)length;
    data   = NULL;
out:
    free(data);
    return st;
}

base_status_t comm_control_scatter(comm_world_t *world, const void *const *messages,
                                   const size_t *lengths, void **out, size_t *bytes,
                                   base_err_t *err)
{
    void         *copy = NULL;
    base_status_t st   = BASE_OK;

    base_assert(world != NULL && out != NULL && bytes != NULL);
    if (world->rank != 0) return scatter_recv(world, out, bytes, err);

    base_assert(messages != NULL && lengths != NULL);
    for (int r = 0; r < world->size && st == BASE_OK; r++)
        if (lengths[r] > LIMIT_MESSAGE_BYTES)
            st = base_fail(err, BASE_ERR_LIMIT, "a message of %zu bytes for rank %d, limit %d",
                           lengths[r], r, LIMIT_MESSAGE_BYTES);
    if (st == BASE_OK) st = base_alloc(&copy, lengths[0], 1, "start-up message", err);
    if (st == BASE_OK && lengths[0] > 0) memcpy(copy, messages[0], lengths[0]);
    /* Also after an error of this rank alone: the others wait. */
    base_status_t wire = BASE_OK;
    for (int r = 1; r < world->size && wire == BASE_OK; r++)
        wire = scatter_send(world, messages[r], lengths[r], r, st == BASE_OK ? err : NULL);
    if (st == BASE_OK) st = wire;
    if (st != BASE_OK) goto out;
    *out   = copy;
    *bytes = lengths[0];
    copy   = NULL;
out:
    free(copy);
    return st;
}

/* ---- records and barrier --------------------------------------------------------------------- */

base_status_t comm_gather_records(comm_world_t *world, const void *in, size_t bytes, void *out,
                                  base_err_t *err)
{
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st      = BASE_OK;

    base_assert(world != NULL && (in != NULL || bytes == 0));
    if (bytes > LIMIT_MESSAGE_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "a record of %zu bytes, limit %d", bytes,
                         LIMIT_MESSAGE_BYTES);
    if (world->size == 1) {
        if (bytes > 0) memcpy(out, in, bytes);
        return BASE_OK;
    }
    st = comm_check(
        MPI_Igather(in, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, 0, world->all, &request),
        "MPI_Igather", err);
    if (st != BASE_OK) return st;
    return comm_wait(world, &request, 1, COMM_WAIT_SLEEPY, "MPI_Igather", err);
}

base_status_t comm_barrier(comm_world_t *world, base_err_t *err)
{
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st      = BASE_OK;

    base_assert(world != NULL);
    if (world->size == 1) return BASE_OK;
    st = comm_check(MPI_Ibarrier(world->all, &request), "MPI_Ibarrier", err);
    if (st != BASE_OK) return st;
    return comm_wait(world, &request, 1, COMM_WAIT_SLEEPY, "MPI_Ibarrier", err);
}
