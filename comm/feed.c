/* comm/feed.c: a rank asks another for bytes, with several asks in flight.
 *
 * An ask is a message of COMM_ASK_BYTES with the number of the slot that waits for the answer. The
 * asker posts the receive before it asks, so an answer never waits unexpected; no more are on the
 * way than the asker has slots. The server reads into a few buffers of its own: when all are on
 * their way out, asks stay where they are. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/log.h"
#include "comm/internal.h"

enum {
    OUT_SLOTS = 8,
    AWAKE_US  = 5000, /* after an ask the next is near: do not sleep */
};

typedef struct {
    uint32_t slot;
    uint32_t zero;
    uint8_t  body[COMM_ASK_BYTES];
} ask_t;

typedef struct {
    int32_t  code; /* base_status_t; if not OK, the body is its text */
    uint32_t zero;
    uint64_t bytes;
} answer_head_t;

typedef struct {
    uint8_t    *data; /* head and body */
    size_t      room;
    MPI_Request request;
} out_t;

struct comm_server {
    comm_answer_fn *answer;
    void           *ctx;
    ask_t           ask;
    MPI_Request     asked;
    bool            waiting; /* `ask` has come from `from` and is not answered */
    int             from;
    uint64_t        last_us; /* when the last ask came; 0: never */
    out_t           out[OUT_SLOTS];
};

struct comm_feed {
    comm_world_t *world;
    int           server;
    uint32_t      n_slots;
    size_t        capacity;
    uint8_t     **data;
    ask_t        *asks;
    MPI_Request  *answers; /* [n_slots], then [n_slots] of the asks on their way */
    int          *done;
    MPI_Status   *statuses;
    uint64_t      late_us; /* when the next word about the server is due; 0: a new wait */
};

/* ---- the server ------------------------------------------------------------------------------ */

static base_status_t post_ask(comm_world_t *w, base_err_t *err)
{
    comm_server_t *s = w->server;
    return comm_check(MPI_Irecv(&s->ask, (int)sizeof(s->ask), MPI_BYTE, MPI_ANY_SOURCE,
                                COMM_TAG_ASK, w->all, &s->asked),
                      "MPI_Irecv of asks for weights", err);
}

base_status_t comm_serve_begin(comm_world_t *world, comm_answer_fn *answer, void *ctx,
                               base_err_t *err)
{
    comm_server_t *s      = NULL;
    void          *memory = NULL;

    base_assert(world != NULL && world->server == NULL && world->size > 1);
    base_status_t st = base_alloc(&memory, 1, sizeof(*s), "weight server", err);
    if (st != BASE_OK) return st;
    s         = memory;
    s->answer = answer;
    s->ctx    = ctx;
    s->asked  = MPI_REQUEST_NULL;
    for (int i = 0; i < OUT_SLOTS; i++) s->out[i].request = MPI_REQUEST_NULL;
    world->server = s;
    st            = post_ask(world, err);
    if (st != BASE_OK) comm_serve_end(world);
    return st;
}

void comm_serve_end(comm_world_t *world)
{
    comm_server_t *s = world->server;
    if (s == NULL) return;
    world->server = NULL;
    if (s->asked != MPI_REQUEST_NULL) {
        (void)MPI_Cancel(&s->asked);
        (void)MPI_Wait(&s->asked, MPI_STATUS_IGNORE);
    }
    for (int i = 0; i < OUT_SLOTS; i++) {
        (void)comm_wait(world, &s->out[i].request, 1, COMM_WAIT_SLEEPY, "MPI_Isend", NULL);
        free(s->out[i].data);
    }
    free(s);
}

/* A buffer that is not on its way, or NULL. */
static out_t *free_out(comm_world_t *w, bool *busy)
{
    comm_server_t *s     = w->server;
    out_t         *found = NULL;
    for (int i = 0; i < OUT_SLOTS; i++) {
        base_err_t err  = {0};
        int        done = 1;
        if (s->out[i].request != MPI_REQUEST_NULL &&
            comm_check(MPI_Test(&s->out[i].request, &done, MPI_STATUS_IGNORE),
                       "MPI_Isend of weights", &err) != BASE_OK)
            comm_world_abort(w, &err);
        if (done)
            found = &s->out[i];
        else
            *busy = true;
    }
    return found;
}

static base_status_t make_answer(comm_server_t *s, out_t *o, size_t *bytes, base_err_t *err)
{
    size_t        want = 0;
    base_status_t st   = s->answer(s->ctx, s->from, s->ask.body, NULL, &want, err);
    if (st != BASE_OK) return st;
    if (want > LIMIT_ANSWER_BYTES)
        return base_fail(err, BASE_ERR_PEER, "rank %d asked for %zu bytes at once, limit %d",
                         s->from, want, LIMIT_ANSWER_BYTES);
    if (o->room < sizeof(answer_head_t) + want) {
        free(o->data);
        o->data = NULL;
        o->room = 0;
        st      = base_alloc((void **)&o->data, sizeof(answer_head_t) + want, 1, "answer", err);
        if (st != BASE_OK) return st;
        o->room = sizeof(answer_head_t) + want;
    }
    *bytes = want;
    return s->answer(s->ctx, s->from, s->ask.body, o->data + sizeof(answer_head_t), bytes, err);
}

static void send_answer(comm_world_t *w, out_t *o)
{
    comm_server_t *s    = w->server;
    answer_head_t  head = {0};
    base_err_t     err  = {0};
    size_t         n    = 0;
    base_status_t  st   = make_answer(s, o, &n, &err);
    if (st != BASE_OK) {
        n = strlen(err.text) + 1;
        free(o->data);
        o->room = 0;
        o->data = malloc(sizeof(head) + sizeof(err.text)); /* a rank that cannot even say so ends */
        base_assert(o->data != NULL);
        o->room = sizeof(head) + sizeof(err.text);
        memcpy(o->data + sizeof(head), err.text, n);
    }
    head.code  = (int32_t)st;
    head.bytes = n;
    memcpy(o->data, &head, sizeof(head));
    if (comm_check(MPI_Isend(o->data, (int)(sizeof(head) + n), MPI_BYTE, s->from,
                             COMM_TAG_ANSWER + (int)s->ask.slot, w->all, &o->request),
                   "MPI_Isend of weights", &err) != BASE_OK)
        comm_world_abort(w, &err);
    comm_ring(w, s->from);
}

/* An ask has come. Who sent one that cannot be answered would wait for ever, so all end. */
static void take_ask(comm_world_t *w, int rc, const MPI_Status *status)
{
    comm_server_t *s     = w->server;
    base_err_t     err   = {0};
    int            bytes = 0;
    if (comm_check(rc, "MPI_Irecv of an ask for weights", &err) != BASE_OK)
        comm_world_abort(w, &err);
    if (MPI_Get_count(status, MPI_BYTE, &bytes) != MPI_SUCCESS || bytes != (int)sizeof(s->ask) ||
        s->ask.slot >= COMM_FEED_SLOTS) {
        (void)base_fail(&err, BASE_ERR_PEER,
                        "rank %d asked for weights by a message of %d bytes that is none: another "
                        "version of this program, or a damaged network",
                        status->MPI_SOURCE, bytes);
        comm_world_abort(w, &err);
    }
    s->from    = status->MPI_SOURCE;
    s->last_us = base_clock_us();
    s->waiting = true;
}

bool comm_serve_poll(comm_world_t *world)
{
    comm_server_t *s    = world->server;
    bool           busy = false;
    if (s == NULL) return false;
    for (;;) {
        MPI_Status status;
        int        done = 0;
        if (!s->waiting) {
            base_err_t err;
            if (s->asked == MPI_REQUEST_NULL && post_ask(world, &err) != BASE_OK)
                comm_world_abort(world, &err);
            const int rc = MPI_Test(&s->asked, &done, &status);
            if (rc == MPI_SUCCESS && !done) break;
            take_ask(world, rc, &status);
            continue;
        }
        out_t *o = free_out(world, &busy);
        if (o == NULL) return true;
        send_answer(world, o);
        s->waiting = false;
        busy       = true;
    }
    (void)free_out(world, &busy); /* answers on their way move on */
    return busy || (s->last_us != 0 && base_clock_us() - s->last_us < AWAKE_US);
}

/* ---- the asker ------------------------------------------------------------------------------- */

base_status_t comm_feed_create(comm_world_t *world, int server, uint32_t n_slots, size_t capacity,
                               comm_feed_t **out, base_err_t *err)
{
    comm_feed_t  *f      = NULL;
    void         *memory = NULL;
    base_status_t st     = BASE_OK;

    base_assert(world != NULL && server != world->rank && server >= 0 && server < world->size);
    base_assert(n_slots >= 1 && n_slots <= COMM_FEED_SLOTS && capacity <= LIMIT_ANSWER_BYTES);
    st = base_alloc(&memory, 1, sizeof(*f), "weight stream", err);
    if (st != BASE_OK) goto out;
    f           = memory;
    f->world    = world;
    f->server   = server;
    f->capacity = capacity > BASE_ERR_TEXT_BYTES ? capacity : BASE_ERR_TEXT_BYTES;
    st          = base_alloc((void **)&f->data, n_slots, sizeof(*f->data), "weight stream", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&f->asks, n_slots, sizeof(*f->asks), "weight stream", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&f->answers, 2 * (size_t)n_slots, sizeof(MPI_Request),
                        "weight stream", err);
    for (uint32_t i = 0; st == BASE_OK && i < 2 * n_slots; i++) f->answers[i] = MPI_REQUEST_NULL;
    if (st == BASE_OK)
        st = base_alloc((void **)&f->done, n_slots, sizeof(int), "weight stream", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&f->statuses, n_slots, sizeof(MPI_Status), "weight stream", err);
    for (uint32_t i = 0; st == BASE_OK && i < n_slots; i++, f->n_slots++)
        st = base_alloc((void **)&f->data[i], sizeof(answer_head_t) + f->capacity, 1,
                        "weight stream", err);
    if (st != BASE_OK) goto out;
    *out = f;
    f    = NULL;
out:
    comm_feed_destroy(&f);
    return st;
}

void comm_feed_destroy(comm_feed_t **feed)
{
    comm_feed_t *f = feed == NULL ? NULL : *feed;
    if (f == NULL) return;
    for (uint32_t i = 0; i < f->n_slots; i++) free(f->data[i]);
    free(f->data);
    free(f->asks);
    free(f->answers);
    free(f->done);
    free(f->statuses);
    free(f);
    *feed = NULL;
}

base_status_t comm_feed_ask(comm_feed_t *feed, uint32_t slot, const void *ask, base_err_t *err)
{
    comm_world_t *w = feed->world;
    ask_t        *a = &feed->asks[slot];
    base_status_t st;

    base_assert(slot < feed->n_slots && feed->answers[slot] == MPI_REQUEST_NULL);
    st = comm_check(MPI_Irecv(feed->data[slot], (int)(sizeof(answer_head_t) + feed->capacity),
                              MPI_BYTE, feed->server, COMM_TAG_ANSWER + (int)slot, w->all,
                              &feed->answers[slot]),
                    "MPI_Irecv", err);
    /* The answer to the ask before has come, so that ask has long gone. */
    if (st == BASE_OK)
        st = comm_check(MPI_Wait(&feed->answers[feed->n_slots + slot], MPI_STATUS_IGNORE),
                        "MPI_Isend", err);
    if (st != BASE_OK) return st;
    a->slot = slot;
    memcpy(a->body, ask, COMM_ASK_BYTES);
    st = comm_check(MPI_Isend(a, (int)sizeof(*a), MPI_BYTE, feed->server, COMM_TAG_ASK, w->all,
                              &feed->answers[feed->n_slots + slot]),
                    "MPI_Isend", err);
    comm_ring(w, feed->server);
    return st;
}

base_status_t comm_feed_poll(comm_feed_t *feed, comm_arrival_t *arrivals, uint32_t *n,
                             base_err_t *err)
{
    int           count = 0;
    base_status_t st    = comm_check(
           MPI_Testsome((int)feed->n_slots, feed->answers, &count, feed->done, feed->statuses),
           "MPI_Testsome", err);
    *n = 0;
    if (st != BASE_OK || count == MPI_UNDEFINED) return st;
    for (int i = 0; i < count; i++) {
        answer_head_t  head;
        int            got = 0;
        const uint32_t k   = (uint32_t)feed->done[i];
        comm_arrival_t a   = {.slot = k, .data = feed->data[k] + sizeof(head)};
        (void)MPI_Get_count(&feed->statuses[i], MPI_BYTE, &got);
        memcpy(&head, feed->data[k], sizeof(head));
        if (got < (int)sizeof(head) || head.bytes != (uint64_t)got - sizeof(head) ||
            head.code < 0 || head.code >= BASE_STATUS_COUNT)
            return base_fail(err, BASE_ERR_PEER, "rank %d sent an answer of %d bytes, damaged",
                             feed->server, got);
        a.bytes = (size_t)head.bytes;
        if (head.code != BASE_OK) {
            if (head.bytes > 0) feed->data[k][sizeof(head) + head.bytes - 1] = 0;
            return base_fail(err, (base_status_t)head.code, "from rank %d: %s", feed->server,
                             head.bytes > 0 ? (const char *)a.data : "an error without a text");
        }
        arrivals[(*n)++] = a;
    }
    return BASE_OK;
}

base_status_t comm_feed_drain(comm_feed_t *feed, base_err_t *err)
{
    return comm_wait(feed->world, feed->answers, 2 * (int)feed->n_slots, COMM_WAIT_DATA,
                     "MPI_Irecv", err);
}

/* Or this rank's own threads are at work. */
static bool waits_for_server(const comm_feed_t *f)
{
    for (uint32_t i = 0; i < f->n_slots; i++)
        if (f->answers[i] != MPI_REQUEST_NULL) return true;
    return false;
}

/* A large message moves only while both sides look: so no sleep at first. */
void comm_feed_rest(comm_feed_t *feed, uint64_t waited_us)
{
    if (waited_us < AWAKE_US) {
        feed->late_us = 0;
        (void)sched_yield();
        return;
    }
    if (waits_for_server(feed) && comm_patience_over(feed->world, waited_us, &feed->late_us))
        comm_patience_tell_feed(feed->world, feed->server, waited_us);
    comm_nap(feed->world, waited_us);
}
