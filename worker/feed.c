/* worker/feed.c: stored bytes for the threads that pack, from the file or from another rank. */
#include "worker/feed.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/limits.h"
#include "base/log.h"
#include "worker/feed_wire.h"

enum {
    LOCAL_BYTES  = 1 << 20, /* a task on mapped files: between two looks at other ranks' asks */
    FLIGHT_BYTES = 4 << 20, /* on the way to a rank at a time, if pieces of PIECE_MIN allow it */
    PIECE_MIN    = 64 << 10,
    PIECE_MAX    = 512 << 10,
    TRIES        = 3, /* of a piece that comes damaged */
};

typedef enum { SLOT_FREE, SLOT_ASKED, SLOT_READY, SLOT_AGAIN } slot_state_t;

/* A piece on its way, or being packed. Filled by thread 0, used by its own thread. */
typedef struct {
    _Atomic int     state;
    worker_task_t   task;
    model_window_t  window, asked; /* all units; those that were asked for */
    bool            asks;          /* false: all are in the cache, or the task reads nothing */
    int             tries;
    const uint8_t  *answer; /* hashes, then units */
    size_t          answer_bytes;
    uint8_t        *held; /* units from the cache, where they lie in the window */
    size_t          held_room;
    const uint8_t **units;
    bool           *good;
    size_t          units_room;
} slot_t;

struct worker_feed {
    const worker_origin_t *origin;
    worker_team_t         *team;
    model_source_t        *remote; /* NULL with files */
    worker_unit_cache_t   *cache;
    uint32_t               per_thread;
    size_t                 most;
    slot_t                *slots; /* [threads][per_thread] */
    comm_feed_t           *comm;
    comm_arrival_t        *arrivals;
    worker_cursor_t       *ahead;  /* [threads] */
    _Atomic uint32_t      *filled; /* [threads] slots filled so far */
    _Atomic bool          *dry;    /* [threads] no tasks left */
    uint64_t               want;   /* bytes that this run will ask for */
    worker_feed_stats_t    stats;
    /* one run */
    worker_next_fn *next;
    worker_run_fn  *run;
    void           *ctx;
    _Atomic bool    stop;
    _Atomic int     working; /* threads that still take pieces */
    pthread_mutex_t lock;    /* guards st, err, stats.kept, stats.damaged; and goes with `news` */
    pthread_cond_t  news;    /* a slot changed its state */
    base_status_t   st;
    base_err_t      err;
};

/* The slot whose window the calling thread reads. */
static _Thread_local slot_t *reading;

static void read_blocks(void *context, const model_tensor_t *tensor, uint64_t row, uint64_t block,
                        uint64_t n_blocks, uint8_t *out)
{
    const slot_t *s = reading;
    (void)context;
    base_assert(s != NULL && s->window.tensor.file == tensor->file &&
                s->window.tensor.offset == tensor->offset);
    model_window_blocks(&s->window, s->units, row, block, n_blocks, out);
}

/* --- create, destroy --- */

static base_status_t create_remote(worker_feed_t *f, base_err_t *err)
{
    const worker_origin_t *o       = f->origin;
    size_t                 threads = (size_t)worker_team_size(f->team);
    base_status_t          st =
        model_source_remote(o->paths, o->bytes, o->n_paths, read_blocks, NULL, &f->remote, err);
    f->per_thread = threads >= 4 ? 2 : (uint32_t)(8 / threads);
    f->most       = FLIGHT_BYTES / (threads * f->per_thread);
    f->most       = base_min_size(base_max_size(f->most, PIECE_MIN), PIECE_MAX);
    size_t n      = threads * f->per_thread;
    if (st == BASE_OK) st = base_alloc((void **)&f->slots, n, sizeof(slot_t), "pieces", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&f->arrivals, n, sizeof(*f->arrivals), "pieces", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&f->ahead, threads, sizeof(*f->ahead), "pieces", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&f->filled, threads, sizeof(*f->filled), "pieces", err);
    if (st == BASE_OK) st = base_alloc((void **)&f->dry, threads, sizeof(*f->dry), "pieces", err);
    if (st == BASE_OK && o->cache_dir != NULL)
        st = worker_unit_cache_open(o->cache_dir, o->model, &o->secret, comm_rank(o->world),
                                    &f->cache, err);
    return st;
}

base_status_t worker_feed_create(const worker_origin_t *origin, worker_team_t *team,
                                 worker_feed_t **out, base_err_t *err)
{
    worker_feed_t *f  = NULL;
    base_status_t  st = base_alloc((void **)&f, 1, sizeof(*f), "weight stream", err);
    if (st != BASE_OK) return st;
    f->origin = origin;
    f->team   = team;
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->news, NULL);
    if (origin->source == NULL) st = create_remote(f, err);
    if (st == BASE_OK)
        *out = f;
    else
        worker_feed_destroy(&f);
    return st;
}

void worker_feed_destroy(worker_feed_t **feed)
{
    worker_feed_t *f = feed == NULL ? NULL : *feed;
    if (f == NULL) return;
    for (size_t i = 0; f->slots != NULL && i < (size_t)worker_team_size(f->team) * f->per_thread;
         i++) {
        free(f->slots[i].held);
        free(f->slots[i].units);
        free(f->slots[i].good);
    }
    worker_unit_cache_close(&f->cache);
    model_source_close(&f->remote);
    free(f->slots);
    free(f->arrivals);
    free(f->ahead);
    free(f->filled);
    free(f->dry);
    (void)pthread_mutex_destroy(&f->lock);
    (void)pthread_cond_destroy(&f->news);
    free(f);
    *feed = NULL;
}

worker_feed_stats_t worker_feed_stats(const worker_feed_t *feed)
{
    return feed->stats;
}

const model_source_t *worker_feed_source(const worker_feed_t *feed)
{
    return feed->remote != NULL ? feed->remote : feed->origin->source;
}

/* --- from the file --- */

static void run_local(void *arg, int thread, int n_threads)
{
    worker_feed_t  *f      = arg;
    worker_cursor_t cursor = {0};
    worker_task_t   task;
    const bool      serves = thread == 0 && f->origin->world != NULL;
    while (!atomic_load(&f->stop) &&
           f->next(f->ctx, thread, n_threads, LOCAL_BYTES, &cursor, &task)) {
        if (!f->run(f->ctx, &task, f->origin->source, thread, n_threads))
            atomic_store(&f->stop, true);
        if (task.rows > 0) model_source_drop(f->origin->source, task.tensor, task.row, task.rows);
        if (serves) (void)comm_serve_poll(f->origin->world);
    }
}

/* --- from another rank --- */

static void fail(worker_feed_t *f, base_status_t st, const base_err_t *err)
{
    (void)pthread_mutex_lock(&f->lock);
    if (f->st == BASE_OK) {
        f->st  = st;
        f->err = *err;
    }
    (void)pthread_mutex_unlock(&f->lock);
    atomic_store(&f->stop, true);
}

static void set_state(worker_feed_t *f, slot_t *s, slot_state_t state)
{
    (void)pthread_mutex_lock(&f->lock);
    atomic_store(&s->state, (int)state);
    (void)pthread_cond_broadcast(&f->news);
    (void)pthread_mutex_unlock(&f->lock);
}

static slot_t *slot_of(const worker_feed_t *f, int thread, uint32_t turn)
{
    return &f->slots[(size_t)thread * f->per_thread + turn % f->per_thread];
}

static const char *task_name(const worker_task_t *t, char *buf, size_t bytes)
{
    if (t->layer < 0)
        (void)snprintf(buf, bytes, "%s", t->name);
    else
        (void)snprintf(buf, bytes, "blk.%d.%s", t->layer, t->name);
    return buf;
}

/* The rectangle of units that are not in the cache; false: all are. */
static bool missing(const worker_feed_t *f, const model_window_t *w, model_window_t *out)
{
    uint64_t lo[2] = {UINT64_MAX, UINT64_MAX}, hi[2] = {0, 0};
    *out = *w;
    if (f->cache == NULL) return true;
    for (uint64_t t = w->tile0; t < w->tile0 + w->n_tiles; t++)
        for (uint64_t s = w->strip0; s < w->strip0 + w->n_strips; s++) {
            if (worker_unit_cache_has(f->cache, w, t, s)) continue;
            lo[0] = base_min_size(lo[0], t);
            lo[1] = base_min_size(lo[1], s);
            hi[0] = base_max_size(hi[0], t);
            hi[1] = base_max_size(hi[1], s);
        }
    if (lo[0] == UINT64_MAX) return false;
    out->tile0    = lo[0];
    out->n_tiles  = hi[0] + 1 - lo[0];
    out->strip0   = lo[1];
    out->n_strips = hi[1] + 1 - lo[1];
    return true;
}

static void ask(worker_feed_t *f, slot_t *s)
{
    uint8_t    body[COMM_ASK_BYTES];
    base_err_t err = {0};
    worker_ask_pack(&s->asked, f->stats.received, f->want, body);
    /* Before the ask: the answer must not find the slot in another state. */
    atomic_store(&s->state, SLOT_ASKED);
    base_status_t st = comm_feed_ask(f->comm, (uint32_t)(s - f->slots), body, &err);
    if (st != BASE_OK) fail(f, st, &err);
}

/* Thread 0: the next task of each thread that has a free slot. True: something was done. */
static bool fill(worker_feed_t *f)
{
    bool      moved   = false;
    const int threads = worker_team_size(f->team);
    for (int t = 0; t < threads; t++) {
        slot_t *s = slot_of(f, t, f->filled[t]);
        if (f->dry[t] || atomic_load(&s->state) != SLOT_FREE) continue;
        moved = true;
        if (!f->next(f->ctx, t, threads, f->most, &f->ahead[t], &s->task)) {
            f->dry[t] = true;
            set_state(f, s, SLOT_FREE); /* wakes the thread, which looks at `dry` */
            continue;
        }
        f->filled[t]++;
        s->tries = 0;
        s->asks  = false;
        if (s->task.rows > 0) {
            s->window = model_window(s->task.tensor, s->task.strips, s->task.row, s->task.rows,
                                     s->task.col, s->task.cols);
            s->asks   = missing(f, &s->window, &s->asked);
        }
        if (s->asks)
            ask(f, s);
        else
            set_state(f, s, SLOT_READY);
    }
    return moved;
}

static bool take_arrivals(worker_feed_t *f)
{
    base_err_t    err = {0};
    uint32_t      n   = 0;
    base_status_t st  = comm_feed_poll(f->comm, f->arrivals, &n, &err);
    for (uint32_t i = 0; st == BASE_OK && i < n; i++) {
        slot_t      *s     = &f->slots[f->arrivals[i].slot];
        const size_t bytes = model_window_bytes(&s->asked);
        s->answer          = f->arrivals[i].data;
        s->answer_bytes    = f->arrivals[i].bytes;
        f->stats.received += bytes;
        if (s->answer_bytes != bytes + model_window_units(&s->asked) * sizeof(uint64_t))
            st = base_fail(&err, BASE_ERR_PEER, "rank %d sent a piece of %zu bytes, want %zu",
                           f->origin->server, s->answer_bytes, bytes);
        if (st == BASE_OK) set_state(f, s, SLOT_READY);
    }
    if (st != BASE_OK) fail(f, st, &err);
    return n > 0;
}

static bool ask_again(worker_feed_t *f)
{
    bool moved = false;
    for (size_t i = 0; i < (size_t)worker_team_size(f->team) * f->per_thread; i++) {
        if (atomic_load(&f->slots[i].state) != SLOT_AGAIN) continue;
        ask(f, &f->slots[i]);
        moved = true;
    }
    return moved;
}

/* --- a piece that is there --- */

static bool make_room(slot_t *s, bool held, base_err_t *err)
{
    const size_t units = model_window_units(&s->window);
    const size_t bytes = model_window_bytes(&s->window);
    if (s->units_room < units) {
        free(s->units);
        free(s->good);
        s->units      = NULL;
        s->good       = NULL;
        s->units_room = 0;
        if (base_alloc((void **)&s->units, units, sizeof(*s->units), "pieces", err) != BASE_OK ||
            base_alloc((void **)&s->good, units, sizeof(*s->good), "pieces", err) != BASE_OK)
            return false;
        s->units_room = units;
    }
    if (!held || s->held_room >= bytes) return true;
    free(s->held);
    s->held      = NULL;
    s->held_room = 0;
    if (base_alloc((void **)&s->held, bytes, 1, "pieces", err) != BASE_OK) return false;
    s->held_room = bytes;
    return true;
}

/* Units of a damaged piece come again; after some tries the run ends. */
static bool refuse_piece(worker_feed_t *f, slot_t *s, uint64_t tile)
{
    char       name[64];
    base_err_t err = {0};
    (void)base_fail(&err, BASE_ERR_PEER,
                    "%s: %s rows %" PRIu64 " to %" PRIu64
                    " came damaged from rank %d to rank %d (hashes differ)%s",
                    f->origin->paths[s->window.tensor.file],
                    task_name(&s->task, name, sizeof(name)), tile * MODEL_UNIT_ROWS,
                    base_min_size((tile + 1) * MODEL_UNIT_ROWS, s->window.tensor.n_rows) - 1,
                    f->origin->server, comm_rank(f->origin->world),
                    s->tries + 1 < TRIES ? "; asking again"
                                         : " again and again: check the network");
    (void)pthread_mutex_lock(&f->lock);
    f->stats.damaged++;
    (void)pthread_mutex_unlock(&f->lock);
    s->tries++;
    if (s->tries >= TRIES) {
        fail(f, BASE_ERR_PEER, &err);
        return false;
    }
    base_log(BASE_LOG_WARN, "%s", err.text);
    set_state(f, s, SLOT_AGAIN);
    return false;
}

/* What came, checked, into the list of units. */
static bool use_answer(worker_feed_t *f, slot_t *s)
{
    const model_window_t *a  = &s->asked;
    const uint8_t        *at = s->answer + model_window_units(a) * sizeof(uint64_t);
    size_t                i  = 0;
    for (uint64_t t = a->tile0; t < a->tile0 + a->n_tiles; t++)
        for (uint64_t c = a->strip0; c < a->strip0 + a->n_strips; c++, i++) {
            const size_t bytes = model_unit_bytes(a, t, c);
            uint64_t     hash  = 0;
            memcpy(&hash, s->answer + i * sizeof(hash), sizeof(hash));
            if (model_bytes_hash64(at, bytes) != hash) return refuse_piece(f, s, t);
            s->units[(t - s->window.tile0) * s->window.n_strips + c - s->window.strip0] = at;
            at += bytes;
        }
    if (f->cache != NULL)
        worker_unit_cache_keep(f->cache, a, s->answer + model_window_units(a) * sizeof(uint64_t));
    return true;
}

/* What the cache holds and was not asked for. A damaged unit makes the whole piece come. */
static bool use_cache(worker_feed_t *f, slot_t *s)
{
    char        name[64];
    const char *path  = NULL;
    size_t      units = model_window_units(&s->window);
    size_t      kept  = 0;
    uint8_t    *at    = s->held;
    size_t      i     = 0;
    bool        whole = true;
    for (size_t u = 0; u < units; u++) s->good[u] = s->units[u] != NULL; /* not wanted */
    worker_unit_cache_read(f->cache, &s->window, s->held, s->good, &path);
    for (uint64_t t = 0; t < s->window.n_tiles; t++)
        for (uint64_t c = 0; c < s->window.n_strips; c++, i++) {
            const size_t bytes =
                model_unit_bytes(&s->window, s->window.tile0 + t, s->window.strip0 + c);
            if (s->units[i] == NULL) {
                s->units[i] = at;
                kept += bytes;
                whole = whole && s->good[i];
            }
            at += bytes;
        }
    (void)pthread_mutex_lock(&f->lock);
    f->stats.kept += whole ? kept : 0;
    f->stats.damaged += whole ? 0 : 1;
    (void)pthread_mutex_unlock(&f->lock);
    if (whole) return true;
    base_log(BASE_LOG_WARN,
             "%s: what it keeps of %s (rows %" PRIu64 " to %" PRIu64
             ") is damaged; asking rank %d for it again",
             path != NULL ? path : f->origin->cache_dir, task_name(&s->task, name, sizeof(name)),
             s->task.row, s->task.row + s->task.rows - 1, f->origin->server);
    s->asked = s->window;
    s->asks  = true;
    set_state(f, s, SLOT_AGAIN);
    return false;
}

/* The piece of this thread: check, keep, pack. False: it has to come again, or all is over. */
static bool use_slot(worker_feed_t *f, slot_t *s, int thread)
{
    base_err_t err = {0};
    if (s->task.rows > 0) {
        const size_t units = model_window_units(&s->window);
        const bool   all   = s->asks && model_window_units(&s->asked) == units;
        if (!make_room(s, !all, &err)) {
            fail(f, BASE_ERR_MEMORY, &err);
            return false;
        }
        for (size_t u = 0; u < units; u++) s->units[u] = NULL;
        if (s->asks && !use_answer(f, s)) return false;
        if (!all && !use_cache(f, s)) return false;
    }
    reading = s;
    if (!f->run(f->ctx, &s->task, f->remote, thread, worker_team_size(f->team)))
        atomic_store(&f->stop, true);
    reading = NULL;
    set_state(f, s, SLOT_FREE);
    return true;
}

/* --- one run --- */

/* Other threads: piece after piece of their own list. */
static void run_other(worker_feed_t *f, int thread)
{
    uint32_t turn = 0;
    for (;;) {
        slot_t *s = slot_of(f, thread, turn);
        (void)pthread_mutex_lock(&f->lock);
        while (!atomic_load(&f->stop) && atomic_load(&s->state) != SLOT_READY &&
               !(f->dry[thread] && turn == f->filled[thread]))
            (void)pthread_cond_wait(&f->news, &f->lock);
        const bool ready = !atomic_load(&f->stop) && atomic_load(&s->state) == SLOT_READY;
        const bool over  = atomic_load(&f->stop) || !ready;
        (void)pthread_mutex_unlock(&f->lock);
        if (over) break;
        if (use_slot(f, s, thread)) turn++;
    }
    (void)atomic_fetch_sub(&f->working, 1);
}

/* Thread 0: asks and arrivals, and its own pieces between. */
static void run_first(worker_feed_t *f)
{
    uint32_t turn  = 0;
    bool     mine  = true; /* its own list is not done */
    uint64_t since = base_clock_us();
    while (!atomic_load(&f->stop) && (mine || atomic_load(&f->working) > 1)) {
        slot_t *s     = slot_of(f, 0, turn);
        bool    moved = ask_again(f);
        moved         = fill(f) || moved;
        moved         = take_arrivals(f) || moved;
        if (mine && atomic_load(&s->state) == SLOT_READY) {
            if (use_slot(f, s, 0)) turn++;
            moved = true;
        }
        mine = !(f->dry[0] && turn == f->filled[0]);
        (void)comm_serve_poll(f->origin->world);
        if (moved) since = base_clock_us();
        if (!moved) comm_feed_rest(f->comm, base_clock_us() - since);
    }
    (void)pthread_mutex_lock(&f->lock);
    (void)pthread_cond_broadcast(&f->news); /* `stop` */
    (void)pthread_mutex_unlock(&f->lock);
}

static void run_remote(void *arg, int thread, int n_threads)
{
    (void)n_threads;
    if (thread == 0)
        run_first(arg);
    else
        run_other(arg, thread);
}

/* What will be asked for; the largest answer. */
static size_t measure(worker_feed_t *f)
{
    const int threads = worker_team_size(f->team);
    size_t    largest = 0;
    for (int t = 0; t < threads; t++) {
        worker_cursor_t cursor = {0};
        worker_task_t   task;
        while (f->next(f->ctx, t, threads, f->most, &cursor, &task)) {
            model_window_t w;
            if (task.rows == 0) continue;
            w = model_window(task.tensor, task.strips, task.row, task.rows, task.col, task.cols);
            largest = base_max_size(largest, model_window_bytes(&w) +
                                                 model_window_units(&w) * sizeof(uint64_t));
            if (missing(f, &w, &w)) f->want += model_window_bytes(&w);
        }
    }
    return largest;
}

base_status_t worker_feed_run(worker_feed_t *feed, worker_next_fn *next, worker_run_fn *run,
                              void *ctx, base_err_t *err)
{
    worker_feed_t *f  = feed;
    base_status_t  st = BASE_OK;
    const size_t   n  = (size_t)worker_team_size(f->team);
    f->next           = next;
    f->run            = run;
    f->ctx            = ctx;
    f->st             = BASE_OK;
    atomic_store(&f->stop, false);
    if (f->remote == NULL) {
        worker_team_run(f->team, run_local, f);
        return BASE_OK;
    }
    memset(f->ahead, 0, n * sizeof(*f->ahead));
    for (size_t t = 0; t < n; t++) {
        atomic_store(&f->filled[t], 0);
        atomic_store(&f->dry[t], false);
    }
    for (size_t i = 0; i < n * f->per_thread; i++) atomic_store(&f->slots[i].state, SLOT_FREE);
    atomic_store(&f->working, (int)n);
    const size_t largest = measure(f);
    if (largest > LIMIT_ANSWER_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "16 rows of a weight have %zu bytes, limit %d",
                         largest, LIMIT_ANSWER_BYTES);
    st = comm_feed_create(f->origin->world, f->origin->server, (uint32_t)(n * f->per_thread),
                          largest, &f->comm, err);
    if (st != BASE_OK) return st;
    worker_team_run(f->team, run_remote, f);
    st = comm_feed_drain(f->comm, err);
    comm_feed_destroy(&f->comm);
    if (f->st == BASE_OK) return st;
    if (err != NULL) *err = f->err;
    return f->st;
}
