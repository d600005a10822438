/* worker/measure.c: memory bandwidth of a team. */
#include "worker/measure.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "worker/kernels/probe.h"
#include "worker/measure_internal.h"

enum {
    MIB          = 1 << 20,
    LOOKS        = 7,
    WAYS         = 3,
    SPANS        = 2 * WAYS, /* of a look */
    SPAN_US      = 5000,
    CHUNK_BYTES  = 256 * 1024, /* read between two looks at the clock */
    THREAD_BYTES = 16 * MIB,
};

size_t worker_measure_bytes(int n_threads)
{
    const size_t bytes = (size_t)n_threads * THREAD_BYTES;
    const size_t least = (size_t)n_threads * WORKER_MEASURE_LEAST;

    if (bytes < (size_t)256 * MIB) return (size_t)256 * MIB;
    if (bytes < (size_t)768 * MIB) return bytes;
    return least > (size_t)768 * MIB ? least : (size_t)768 * MIB;
}

uint32_t worker_measure_features(const char *cpu)
{
    uint32_t mask = KERN_CPU_ALL;

    if (cpu != NULL) base_assert(kern_cpu_mask_parse(cpu, &mask));
    return kern_cpu_features() & mask;
}

void worker_measure_fill(uint8_t *p, size_t bytes)
{
    uint64_t s = UINT64_C(88172645463325252);

    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17; /* Marsaglia's xorshift64 */
        const uint64_t v = (s & UINT64_C(0x03ff03ff03ff03ff)) | UINT64_C(0x3800380038003800);
        memcpy(p + i, &v, 8);
    }
}

struct worker_meter {
    worker_team_t      *team;
    kern_probe_read_fn *wide, *plain;
    base_arena_t        arena;
    uint8_t            *memory;
    size_t              bytes;
    int                 n_active, way;
    double             *rates; /* SPANS rows of n_active */
    uint64_t           *sums;  /* [n_active] what was read, so that it is */
    size_t             *at;    /* [n_active] where to go on */
};

uint8_t *worker_meter_memory(worker_meter_t *m, size_t *bytes)
{
    *bytes = m->bytes;
    return m->memory;
}

int worker_meter_way(const worker_meter_t *m)
{
    return m->way;
}

/* Which way is fastest depends on the machine and on how many read: wide loads, the same with
 * prefetch instructions, or short loads. */
double worker_meter_span(worker_meter_t *m, int thread, int way, uint64_t span_us)
{
    kern_probe_read_fn *read  = way < 2 ? m->wide : m->plain;
    const uint64_t      start = base_clock_us();
    uint64_t            now   = start;
    size_t              done = 0, begin = 0, end = 0, at = m->at[thread];

    worker_share(m->bytes, KERN_PROBE_BYTES, thread, m->n_active, &begin, &end);
    while (now - start < span_us) {
        size_t n = end - at < CHUNK_BYTES ? end - at : CHUNK_BYTES;

        m->sums[thread] ^= read(m->memory + at, n, way == 1);
        done += n;
        at  = at + n < end ? at + n : begin;
        now = base_clock_us();
    }
    m->at[thread] = at;
    return (double)done * 1e6 / (double)(now - start);
}

static void fill_thread(void *ctx, int thread, int n_threads)
{
    worker_meter_t *m     = ctx;
    size_t          begin = 0, end = 0;

    (void)n_threads;
    if (thread >= m->n_active) return;
    worker_share(m->bytes, KERN_PROBE_BYTES, thread, m->n_active, &begin, &end);
    worker_measure_fill(m->memory + begin, end - begin);
    m->at[thread] = begin;
}

base_status_t worker_meter_create(worker_team_t *team, int n_threads, const char *cpu,
                                  worker_meter_t **out, base_err_t *err)
{
    const size_t    n      = (size_t)n_threads;
    worker_meter_t *m      = NULL;
    void           *memory = NULL;
    base_status_t   st     = BASE_OK;

    base_assert(n_threads >= 1 && n_threads <= worker_team_size(team));
    st = base_alloc(&memory, sizeof(*m) + n * (SPANS + 2) * 8, 1, "measuring bandwidth", err);
    if (st != BASE_OK) goto out;
    m           = memory;
    m->team     = team;
    m->n_active = n_threads;
    m->rates    = (double *)(void *)(m + 1);
    m->sums     = (uint64_t *)(void *)(m->rates + n * SPANS);
    m->at       = (size_t *)(void *)(m->sums + n);
    m->bytes    = worker_measure_bytes(n_threads);
    m->wide     = kern_probes(worker_measure_features(cpu)).probe_read;
    m->plain    = kern_probes(0).probe_read;
    st          = base_arena_create(&m->arena, m->bytes, "measuring memory bandwidth", err);
    if (st != BASE_OK) goto out;
    m->memory = base_arena_take(&m->arena, m->bytes);
    worker_team_run(team, fill_thread, m);
    *out = m;
    m    = NULL;
out:
    worker_meter_destroy(&m);
    return st;
}

void worker_meter_destroy(worker_meter_t **meter)
{
    worker_meter_t *m = meter == NULL ? NULL : *meter;

    if (m == NULL) return;
    base_arena_destroy(&m->arena);
    free(m);
    *meter = NULL;
}

static void look_thread(void *ctx, int thread, int n_threads)
{
    worker_meter_t *m = ctx;

    (void)n_threads;
    for (int s = 0; s < SPANS; s++) {
        worker_team_barrier(m->team);
        if (thread < m->n_active)
            m->rates[s * m->n_active + thread] = worker_meter_span(m, thread, s % WAYS, SPAN_US);
    }
}

double worker_meter_look(worker_meter_t *m)
{
    double best = 0;

    worker_team_run(m->team, look_thread, m);
    for (int way = 0; way < WAYS; way++) {
        double sum = 0;

        for (int i = 0; i < SPANS * m->n_active; i++)
            if (i / m->n_active % WAYS == way) sum += m->rates[i];
        sum /= (double)SPANS / WAYS;
        if (sum > best) best = sum, m->way = way;
    }
    return best;
}

base_status_t worker_measure_bandwidth(worker_team_t *team, int n_threads, const char *cpu,
                                       double *bytes_per_s, base_err_t *err)
{
    worker_meter_t *m    = NULL;
    double          best = 0;
    base_status_t   st   = worker_meter_create(team, n_threads, cpu, &m, err);

    for (int i = 0; i < LOOKS && st == BASE_OK; i++) {
        const double rate = worker_meter_look(m);
        if (rate > best) best = rate;
    }
    *bytes_per_s = best;
    worker_meter_destroy(&m);
    return st;
}
