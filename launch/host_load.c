/* launch/host_load.c: records of all ranks, added up by host, and what to say of them. */
#include "launch/host_load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "partition/choose.h"
#include "worker/machine.h"

enum { NAMED = 3, CTX_LEAST = 512 }; /* hosts that a warning names; no shorter context is advised */

/* One host, its ranks added up. */
typedef struct {
    const host_load_t *first;
    uint64_t           ranks, threads, loose; /* loose: ranks with threads that are not pinned */
    double             quota;                 /* the least; 0: no limit */
    uint64_t           kv, total, free;
} host_sum_t;

/* The host of record i, if that is its first. */
static bool sum_host(const host_load_t *all, int n, int i, host_sum_t *s)
{
    *s = (host_sum_t){.first = &all[i], .free = all[i].free};
    for (int r = 0; r < n; r++) {
        if (all[r].host != all[i].host) continue;
        if (r < i) return false;
        s->ranks++;
        s->threads += all[r].threads;
        s->loose += all[r].pinned == 0;
        s->kv += all[r].kv;
        s->total += all[r].total;
        if (all[r].free < s->free) s->free = all[r].free;
        if (all[r].quota > 0 && (s->quota <= 0 || all[r].quota < s->quota)) s->quota = all[r].quota;
    }
    return true;
}

/* --- threads --- */

/* Threads that can run at a time. A quota of 1.5 is one for two threads: less than one is lost. */
static uint64_t allowed(const host_sum_t *s)
{
    uint64_t cores = s->first->cores < 1 ? 1 : (uint64_t)s->first->cores;
    uint64_t quota = s->quota > 0 ? (uint64_t)ceil(s->quota) : cores;
    return quota < cores ? quota : cores;
}

static size_t name_host(const host_sum_t *s, bool first, char *text, size_t bytes)
{
    int n = snprintf(text, bytes, "%s%.60s (%llu rank%s, %llu thread%s, %d core%s",
                     first ? "" : ", ", s->first->name, (unsigned long long)s->ranks,
                     base_plural(s->ranks), (unsigned long long)s->threads, base_plural(s->threads),
                     s->first->cores, base_plural((uint64_t)s->first->cores));
    if (s->first->cores < s->first->cores_machine)
        n += snprintf(text + n, bytes - (size_t)n, " of %d", s->first->cores_machine);
    if (s->quota > 0 && s->quota < (double)s->threads)
        n += snprintf(text + n, bytes - (size_t)n, ", a quota of %.2g CPUs", s->quota);
    return (size_t)(n + snprintf(text + n, bytes - (size_t)n, ")"));
}

bool host_load_threads(const host_load_t *all, int n, char *text)
{
    const size_t bytes   = HOST_LOAD_TEXT;
    int          crowded = 0, loose = 0;
    bool         wider = false, lower = false;
    host_sum_t   s;
    size_t       at = 0;

    for (int i = 0; i < n; i++)
        if (sum_host(all, n, i, &s)) {
            crowded += s.threads > allowed(&s);
            loose += s.threads <= allowed(&s) && s.loose > 0;
        }
    if (crowded + loose == 0) return false;
    at =
        (size_t)snprintf(text, bytes, "%s ",
                         crowded > 0 ? "more threads than cores:" : "threads without a core each:");
    int named = 0;
    for (int i = 0; i < n && named < NAMED; i++) {
        if (!sum_host(all, n, i, &s)) continue;
        if (crowded > 0 ? s.threads <= allowed(&s) : s.loose == 0) continue;
        at += name_host(&s, named++ == 0, text + at, bytes - at);
        wider = wider || s.first->cores < s.first->cores_machine;
        lower = lower || s.threads > s.ranks;
    }
    const int more = (crowded > 0 ? crowded : loose) - named;
    if (more > 0) at += (size_t)snprintf(text + at, bytes - at, " and %d more", more);
    (void)snprintf(text + at, bytes - at,
                   "; they %s. %start fewer ranks there%s (--oversubscribe: it is meant so)",
                   crowded > 0 ? "take turns and wait for each other, which is many times slower"
                               : "are not pinned, as ranks of a host share its cores out",
                   wider ? "Bind wider (mpirun --bind-to none or numa), s" : "S",
                   lower ? ", or give a lower -t" : "");
    return true;
}

/* --- memory --- */

static double gib(uint64_t bytes)
{
    return (double)bytes / 1073741824.0;
}

/* The longest context, halving, whose cache is `room` bytes at most; 0: none worth it. */
static uint32_t shorter(uint32_t n_ctx, uint64_t kv, uint64_t room)
{
    for (uint32_t c = n_ctx / 2; c >= CTX_LEAST; c /= 2)
        if ((double)kv * c / n_ctx <= (double)room) return c;
    return 0;
}

bool host_load_memory(const host_load_t *all, int n, uint32_t n_ctx, bool halves, bool *fits,
                      char *text)
{
    const size_t bytes = HOST_LOAD_TEXT;
    uint64_t     worst = 0;
    uint32_t     ctx   = 0;
    host_sum_t   s, at = {0};

    *fits = true;
    for (int i = 0; i < n; i++) {
        if (!sum_host(all, n, i, &s) || s.free == 0) continue;
        const bool     misfit = s.total > s.free;
        const uint64_t by     = misfit ? s.total - s.free : s.kv > s.free / 4 ? s.kv : 0;
        if (by == 0 || (misfit == !*fits && by <= worst) || (!misfit && !*fits)) continue;
        worst = by;
        at    = s;
        *fits = !misfit;
    }
    if (worst == 0) return false;
    const uint64_t rest = at.total - at.kv;
    ctx        = shorter(n_ctx, at.kv, *fits ? at.free / 4 : at.free > rest ? at.free - rest : 0);
    size_t end = (size_t)snprintf(
        text, bytes,
        "%.60s: %.1f GiB are free, its ranks want %.1f%s: %.1f of them are the KV cache of "
        "%u positions (-c)",
        at.first->name, gib(at.free), gib(at.total), *fits ? "" : ", more than there is",
        gib(at.kv), n_ctx);
    const bool kv_helps = ctx > 0 || (!halves && rest + at.kv / 2 <= at.free);
    if (!kv_helps) {
        (void)snprintf(text + end, bytes - end, "; trireme plan says how many machines it takes");
        return true;
    }
    if (!halves && (*fits || rest + at.kv / 2 <= at.free))
        end += (size_t)snprintf(text + end, bytes - end,
                                "; -ctk f16 -ctv f16 keeps it in half precision");
    if (ctx > 0) (void)snprintf(text + end, bytes - end, "; -c %u takes less", ctx);
    return true;
}

/* --- gathering --- */

static host_load_t own_record(const comm_world_t *world, const worker_topology_t *topology,
                              const part_assignment_t *a, bool pinned)
{
    const part_memory_t m = part_assignment_memory(a, strcmp(a->pack, "t3") == 0 ? 1.6 : 2);
    worker_machine_t    machine;
    host_load_t         r;

    worker_machine_read("", &machine);
    memset(&r, 0, sizeof(r));
    (void)snprintf(r.name, sizeof(r.name), "%s", machine.host);
    r.host          = comm_host_index(world);
    r.cores         = worker_topology_host_cores(topology);
    r.cores_machine = worker_topology_machine(topology);
    r.threads       = a->n_threads;
    r.pinned        = pinned;
    r.quota         = machine.cpu_quota;
    r.kv            = m.kv;
    r.total         = m.total + PART_RANK_OVERHEAD;
    r.free          = worker_machine_free(&machine);
    return r;
}

base_status_t host_load_check(comm_world_t *world, const worker_topology_t *topology,
                              const part_assignment_t *a, bool pinned, bool quiet, base_err_t *err)
{
    const int         n    = comm_size(world);
    const bool        root = comm_rank(world) == 0;
    const host_load_t mine = own_record(world, topology, a, pinned);
    host_load_t      *all  = NULL;
    bool              fits = true;
    char              text[HOST_LOAD_TEXT];
    base_status_t     st = BASE_OK;

    if (root) st = base_alloc((void **)&all, (size_t)n, sizeof(*all), "hosts", err);
    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    if (n == 1)
        all[0] = mine;
    else
        st = comm_gather_records(world, &mine, sizeof(mine), all, err);
    if (st != BASE_OK || !root) goto out;
    if (!quiet && host_load_threads(all, n, text)) base_log(BASE_LOG_WARN, "%s", text);
    const bool halves = a->type_k == MODEL_F16 || a->type_v == MODEL_F16;
    if (host_load_memory(all, n, a->n_ctx, halves, &fits, text))
        base_log(fits ? BASE_LOG_INFO : BASE_LOG_WARN, "%s", text);
out:
    free(all);
    return st;
}
