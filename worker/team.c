/* worker/team.c: thread team, barrier, futex sleep. */
#include "worker/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/log.h"

enum { SPIN_ROUNDS = 20000, CACHE_LINE = 64 };

/* A number that grows; threads wait for it to leave a value they saw. */
typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} event_t;

typedef struct {
    worker_team_t *team;
    int            index;
    pthread_t      thread;
} member_t;

/* Threads that came to a barrier, ever; every n_threads of them end one. One line holds all that
 * the last to come looks at, so that a barrier costs two transfers of it. */
typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t arrivals; /* 64 bits do not wrap */
    _Atomic uint32_t sleepers;
    _Atomic uint32_t wakes; /* what sleepers wait on: bumped when a barrier ends with some */
} barrier_t;

struct worker_team {
    event_t                  start; /* counts jobs; also bumped to stop */
    barrier_t                barrier;
    int                      n_threads;
    int                      n_started; /* threads beside the creator */
    int                      spin;
    const worker_topology_t *topology; /* NULL: no pinning */
    bool                     pinned;   /* the creator is */
    _Atomic bool             stop;
    worker_team_fn          *fn;
    void                    *ctx;
    member_t                *members;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void event_wait(event_t *e, uint32_t seen, int spin)
{
    for (int i = 0; i < spin; i++) {
        if (atomic_load_explicit(&e->value, memory_order_acquire) != seen) return;
        cpu_relax();
    }
    atomic_fetch_add(&e->sleepers, 1);
    while (atomic_load(&e->value) == seen)
        (void)syscall(SYS_futex, &e->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&e->sleepers, 1);
}

static void event_signal(event_t *e)
{
    atomic_fetch_add(&e->value, 1);
    if (atomic_load(&e->sleepers) > 0)
        (void)syscall(SYS_futex, &e->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* A sleeper counts itself before it looks at the arrivals, the last to come adds its arrival before
 * it looks at the sleepers: one of the two sees the other. */
static void barrier_sleep(barrier_t *b, uint64_t end)
{
    atomic_fetch_add(&b->sleepers, 1);
    for (;;) {
        uint32_t seen = atomic_load(&b->wakes);
        if (atomic_load(&b->arrivals) >= end) break;
        (void)syscall(SYS_futex, &b->wakes, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub(&b->sleepers, 1);
}

/* The next few lines, or a pause. */
static inline void ask_ahead(worker_ahead_t *a)
{
    enum { STEP = 4 * CACHE_LINE };
    if (a->bytes < STEP) {
        cpu_relax();
        return;
    }
    for (int i = 0; i < STEP; i += CACHE_LINE) __builtin_prefetch(a->at + i, 0, 2);
    a->at += STEP;
    a->bytes -= STEP;
}

void worker_team_barrier(worker_team_t *team)
{
    worker_ahead_t none = {NULL, 0};
    worker_team_barrier_ahead(team, &none);
}

void worker_team_barrier_ahead(worker_team_t *team, worker_ahead_t *ahead)
{
    barrier_t *b   = &team->barrier;
    uint64_t   n   = (uint64_t)team->n_threads;
    uint64_t   end = 0;
    if (n == 1) return;
    end = atomic_fetch_add(&b->arrivals, 1) + 1;
    if (end % n == 0) {
        if (atomic_load(&b->sleepers) == 0) return;
        atomic_fetch_add(&b->wakes, 1);
        (void)syscall(SYS_futex, &b->wakes, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
        return;
    }
    end += n - end % n;
    for (int i = 0; i < team->spin; i++) {
        if (atomic_load_explicit(&b->arrivals, memory_order_acquire) >= end) return;
        ask_ahead(ahead);
    }
    barrier_sleep(b, end);
}

static void *member_main(void *arg)
{
    member_t      *m    = arg;
    worker_team_t *team = m->team;
    uint32_t       seen = 0;
    if (team->topology != NULL) (void)worker_topology_pin(team->topology, m->index);
    for (;;) {
        event_wait(&team->start, seen, team->spin);
        seen++;
        if (atomic_load(&team->stop)) return NULL;
        team->fn(team->ctx, m->index, team->n_threads);
        worker_team_barrier(team);
    }
}

void worker_team_run(worker_team_t *team, worker_team_fn *fn, void *ctx)
{
    team->fn  = fn;
    team->ctx = ctx;
    if (team->n_threads > 1) event_signal(&team->start);
    fn(ctx, 0, team->n_threads);
    worker_team_barrier(team);
}

base_status_t worker_team_create(int n_threads, const worker_topology_t *topology, bool pin,
                                 bool spin, worker_team_t **out, base_err_t *err)
{
    worker_team_t *team = NULL;
    base_status_t  st   = BASE_OK;

    base_assert(n_threads >= 1 && n_threads <= LIMIT_THREADS);
    team = aligned_alloc(CACHE_LINE, sizeof(*team));
    if (team == NULL) return base_fail(err, BASE_ERR_MEMORY, "thread team: no memory");
    *team          = (worker_team_t){.n_threads = n_threads};
    team->spin     = spin ? SPIN_ROUNDS : 0;
    team->topology = pin ? topology : NULL;
    st = base_alloc((void **)&team->members, (size_t)n_threads, sizeof(member_t), "thread team",
                    err);
    if (st != BASE_OK) goto out;
    /* Signals belong to the creator: a member must not run handlers meant for it. */
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < n_threads; i++) {
        member_t *m = &team->members[i];
        m->team     = team;
        m->index    = i;
        if (pthread_create(&m->thread, NULL, member_main, m) != 0) {
            st = base_fail(err, BASE_ERR_SYSTEM, "cannot start thread %d of %d; lower -t", i + 1,
                           n_threads);
            break;
        }
        team->n_started = i;
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (st != BASE_OK) goto out;
    /* Last, so that no thread inherits this one's core. */
    team->pinned = team->topology != NULL && worker_topology_pin(team->topology, 0);
    if (team->topology != NULL && !team->pinned)
        base_log(BASE_LOG_WARN, "cannot pin threads to cores; the system's scheduler places them");
    *out = team;
    team = NULL;
out:
    worker_team_destroy(&team);
    return st;
}

void worker_team_destroy(worker_team_t **team_p)
{
    worker_team_t *team = team_p == NULL ? NULL : *team_p;
    if (team == NULL) return;
    atomic_store(&team->stop, true);
    event_signal(&team->start);
    for (int i = 1; i <= team->n_started; i++) (void)pthread_join(team->members[i].thread, NULL);
    if (team->pinned) worker_topology_unpin(team->topology); /* the next team counts these cores */
    free(team->members);
    free(team);
    *team_p = NULL;
}

int worker_team_size(const worker_team_t *team)
{
    return team->n_threads;
}
