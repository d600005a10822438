/* comm/link.c: latency and bandwidth between two ranks.
 *
 * Rank a leads: it times, decides how long to go on, and says so in each message. */
#include <string.h>

#include "base/log.h"
#include "base/order.h"
#include "comm/internal.h"

enum {
    ROUNDS_MAX = 200, /* samples of the latency */
    ROUNDS_MIN = 9,
    /* Exchanges of a sample. An even number: where one end starts later than the other, every
     * second exchange finds its message there already, and the others take twice as long. */
    COUNT       = 4,
    QUICK_US    = 300, /* below more, as the clock counts in us */
    QUICK_COUNT = 16,
    LATENCY_US  = 100000, /* of exchanges */
    SPAN_US     = 20000,  /* of each span of the bandwidth */
    SPANS       = 3,
    PIECE_BYTES = 1 << 15, /* as vectors of few tokens: sent without asking first */
    PIECES_MAX  = 2048,    /* of a span: 64 MiB */
    PIECES_MIN  = 8,
    WINDOW      = 4, /* pieces on the way */
};

typedef struct {
    comm_world_t *world;
    int           peer;
    bool          leads;
} link_end_t;

static base_status_t put(const link_end_t *e, const void *data, size_t bytes, int n,
                         base_err_t *err)
{
    MPI_Request   requests[WINDOW];
    base_status_t st = BASE_OK;
    for (int i = 0; i < n; i++) {
        st = comm_check(MPI_Isend(data, (int)bytes, MPI_BYTE, e->peer, COMM_TAG_LINK, e->world->all,
                                  &requests[i]),
                        "MPI_Isend", err);
        if (st != BASE_OK) return st;
        comm_ring(e->world, e->peer);
    }
    return comm_wait(e->world, requests, n, COMM_WAIT_DATA, "MPI_Isend", err);
}

static base_status_t get(const link_end_t *e, void *data, size_t bytes, base_err_t *err)
{
    MPI_Request   request = MPI_REQUEST_NULL;
    base_status_t st      = comm_check(
             MPI_Irecv(data, (int)bytes, MPI_BYTE, e->peer, COMM_TAG_LINK, e->world->all, &request),
             "MPI_Irecv", err);
    if (st != BASE_OK) return st;
    return comm_wait(e->world, &request, 1, COMM_WAIT_DATA, "MPI_Irecv", err);
}

static double median(double *v, int n)
{
    base_sort_f64(v, (size_t)n);
    return v[n / 2];
}

/* Other programs delay some samples, and nothing makes one faster than the network. */
static double quartile(double *v, int n)
{
    base_sort_f64(v, (size_t)n);
    return v[n / 4];
}

/* n exchanges, back to back: both send and wait for the other, as in sums and gathers. *more: the
 * leader's word on whether others follow. */
static base_status_t exchanges(const link_end_t *e, int n, int64_t *more, base_err_t *err)
{
    base_status_t st = BASE_OK;
    for (int i = 0; st == BASE_OK && i < n; i++) {
        int64_t     word        = 0;
        MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
        st = comm_check(MPI_Irecv(&word, sizeof(word), MPI_BYTE, e->peer, COMM_TAG_LINK,
                                  e->world->all, &requests[0]),
                        "MPI_Irecv", err);
        if (st == BASE_OK)
            st = comm_check(MPI_Isend(more, sizeof(*more), MPI_BYTE, e->peer, COMM_TAG_LINK,
                                      e->world->all, &requests[1]),
                            "MPI_Isend", err);
        if (st != BASE_OK) return st;
        comm_ring(e->world, e->peer);
        st = comm_wait(e->world, requests, 2, COMM_WAIT_DATA, "exchange", err);
        if (!e->leads) *more = word;
    }
    return st;
}

/* Seconds of an exchange, the slowest of the quick quarter of samples; on the leader. That is one
 * way: half a round trip would count longer waits, and who waits longer looks less often. The word
 * is 0 at the end, else the exchanges of the next sample. *least: the quickest sample. */
static base_status_t latency(const link_end_t *e, double *out, double *least, base_err_t *err)
{
    double        took[ROUNDS_MAX];
    int64_t       next  = COUNT;
    int           n     = 0;
    uint64_t      start = base_clock_us();
    base_status_t st    = BASE_OK;
    while (st == BASE_OK && next > 0) {
        int      now    = (int)next;
        uint64_t before = base_clock_us();
        uint64_t spent  = before - start;
        if (e->leads && n > 0) next = took[n - 1] * 1e6 < QUICK_US ? QUICK_COUNT : COUNT;
        if (e->leads && (n + 1 == ROUNDS_MAX || (n >= ROUNDS_MIN && spent > (uint64_t)LATENCY_US)))
            next = 0;
        st = exchanges(e, now, &next, err);
        if (e->leads) took[n++] = (double)(base_clock_us() - before) * 1e-6 / now;
    }
    if (st == BASE_OK && e->leads) *out = quartile(took, n); /* sorts */
    *least = e->leads && n > 0 ? took[0] : 0;
    return st;
}

/* One span: the leader says how many pieces, sends them, and waits for the word that they came. */
static base_status_t span(const link_end_t *e, int64_t *pieces, double *seconds, base_err_t *err)
{
    int64_t       word  = *pieces;
    uint64_t      start = base_clock_us();
    base_status_t st =
        e->leads ? put(e, &word, sizeof(word), 1, err) : get(e, &word, sizeof(word), err);
    for (int64_t i = 0; st == BASE_OK && e->leads && i < word; i += WINDOW)
        st = put(e, e->world->scratch, PIECE_BYTES, word - i < WINDOW ? (int)(word - i) : WINDOW,
                 err);
    for (int64_t i = 0; st == BASE_OK && !e->leads && i < word; i++)
        st = get(e, e->world->scratch, PIECE_BYTES, err);
    if (st == BASE_OK)
        st = e->leads ? get(e, &word, sizeof(word), err) : put(e, &word, sizeof(word), 1, err);
    *pieces  = word;
    *seconds = (double)(base_clock_us() - start) * 1e-6;
    return st;
}

/* Seconds of a span that bytes took: the first word's way and the last one's are none of them. */
static double under_way(double seconds, double latency)
{
    double bare = seconds - 2 * latency;
    return bare > seconds / 8 ? bare : seconds / 8;
}

static base_status_t bandwidth(const link_end_t *e, double latency, double *out, base_err_t *err)
{
    double        rates[SPANS];
    int64_t       pieces  = PIECES_MIN;
    double        seconds = 0;
    base_status_t st      = span(e, &pieces, &seconds, err); /* to learn how long a piece takes */
    if (e->leads && seconds > 0) {
        double fit = (double)pieces * SPAN_US * 1e-6 / under_way(seconds, latency);
        pieces     = fit < PIECES_MIN ? PIECES_MIN : fit > PIECES_MAX ? PIECES_MAX : (int64_t)fit;
    }
    for (int i = 0; st == BASE_OK && i < SPANS; i++) {
        st       = span(e, &pieces, &seconds, err);
        rates[i] = seconds > 0 ? (double)pieces * PIECE_BYTES / under_way(seconds, latency) : 0;
    }
    if (st == BASE_OK) *out = median(rates, SPANS);
    return st;
}

base_status_t comm_measure_link(comm_world_t *world, int a, int b, comm_link_t *link,
                                base_err_t *err)
{
    link_end_t    e     = {.world = world, .leads = world->rank == a};
    double        least = 0;
    base_status_t st    = BASE_OK;

    base_assert(a != b && a >= 0 && b >= 0 && a < world->size && b < world->size);
    memset(link, 0, sizeof(*link));
    if (world->rank != a && world->rank != b) return BASE_OK;
    e.peer = e.leads ? b : a;
    st     = latency(&e, &link->latency, &least, err);
    if (st == BASE_OK) st = bandwidth(&e, least, &link->bytes_per_s, err);
    /* The leader's word counts on both sides. */
    if (st == BASE_OK)
        st = e.leads ? put(&e, link, sizeof(*link), 1, err) : get(&e, link, sizeof(*link), err);
    return st;
}
