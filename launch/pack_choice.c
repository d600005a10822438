/* launch/pack_choice.c: --pack auto. Facts of all ranks go to rank 0, which decides for each host
 * and says so to all; where figures lack, that host measures and it all happens once more. */
#include "launch/pack_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "launch/calibration.h"
#include "partition/choose.h"
#include "worker/machine.h"

static const char *const names[WORKER_PACKS] = {"t2", "t3"};

/* Below, all weights of a host lie in its caches, or are read in a few milliseconds. */
enum { SMALL_BYTES = 64 << 20 };

/* By how much t3 must be ahead: measurements swing, and t2 is the safe choice for prompts. */
static const double T3_AHEAD = 1.05;

pack_choice_t pack_decide(const pack_host_t *h, bool *measure)
{
    const worker_pack_rate_t *t2 = &h->rates[WORKER_PACK_T2], *t3 = &h->rates[WORKER_PACK_T3];

    *measure = false;
    if (h->bytes[WORKER_PACK_T2] > h->available && h->bytes[WORKER_PACK_T3] <= h->available)
        return (pack_choice_t){WORKER_PACK_T3, PACK_MEMORY};
    if (h->ternary_bytes < SMALL_BYTES) return (pack_choice_t){WORKER_PACK_T2, PACK_SMALL};
    if (!(t2->gemv > 0 && t3->gemv > 0 && t2->gemm > 0 && t3->gemm > 0)) {
        *measure = true;
        return (pack_choice_t){WORKER_PACK_T2, PACK_FAILED};
    }
    /* What decoding gains, prompts must not lose. */
    const double gain = t3->gemv / t2->gemv, loss = t2->gemm / t3->gemm;
    const bool   base3 = gain >= T3_AHEAD && gain >= loss;
    return (pack_choice_t){base3 ? WORKER_PACK_T3 : WORKER_PACK_T2, PACK_MEASURED};
}

static uint64_t available_bytes(void)
{
    worker_machine_t machine;

    worker_machine_read("", &machine);
    const uint64_t bytes = worker_machine_free(&machine);
    return bytes > 0 ? bytes : UINT64_MAX;
}

/* --- between the ranks --- */

/* What a rank tells rank 0; and what it hears: choice, measure, and the rates of its host. */
typedef struct {
    int32_t            host;
    int32_t            measure;
    int32_t            pack, reason;
    uint64_t           ternary_bytes, bytes[WORKER_PACKS], available;
    worker_pack_rate_t rates[WORKER_PACKS];
} record_t;

static record_t facts(const comm_world_t *world, const part_assignment_t *a, const char *key)
{
    const double       bits[WORKER_PACKS] = {2, 1.6};
    worker_pack_rate_t rates[WORKER_PACKS];
    record_t           r      = {.host = comm_host_index(world), .available = available_bytes()};
    const char        *how    = getenv("TRIREME_CALIBRATION");
    const bool         always = how != NULL && strcmp(how, "always") == 0; /* for tests */

    for (int i = 0; i < WORKER_PACKS; i++) {
        const part_memory_t m = part_assignment_memory(a, bits[i]);
        if (i == WORKER_PACK_T2) r.ternary_bytes = always ? SMALL_BYTES : m.ternary;
        r.bytes[i] = m.total + PART_RANK_OVERHEAD;
    }
    if (!calibration_load(key, rates)) return r;
    for (int i = 0; i < WORKER_PACKS; i++) { /* its share: the file has the host's sums */
        r.rates[i].gemv = rates[i].gemv / comm_local_size(world);
        r.rates[i].gemm = rates[i].gemm / comm_local_size(world);
    }
    return r;
}

static void add(pack_host_t *h, const record_t *r, bool first)
{
    h->ternary_bytes += r->ternary_bytes;
    if (first || r->available < h->available) h->available = r->available;
    for (int i = 0; i < WORKER_PACKS; i++) {
        const bool known = first || h->rates[i].gemv > 0; /* one rank without: the host without */
        h->bytes[i] += r->bytes[i];
        h->rates[i].gemv = known && r->rates[i].gemv > 0 ? h->rates[i].gemv + r->rates[i].gemv : 0;
        h->rates[i].gemm = known && r->rates[i].gemm > 0 ? h->rates[i].gemm + r->rates[i].gemm : 0;
    }
}

/* Rank 0: decide for every host, into the records of its ranks. */
static void decide_all(record_t *all, int n)
{
    for (int i = 0; i < n; i++) {
        pack_host_t host    = {0};
        bool        first   = true;
        bool        measure = false;
        for (int k = 0; k < n; k++) {
            if (all[k].host != all[i].host) continue;
            if (k < i) break;
            add(&host, &all[k], first);
            first = false;
        }
        if (first) continue; /* decided with an earlier rank */
        const pack_choice_t c = pack_decide(&host, &measure);
        for (int k = i; k < n; k++) {
            if (all[k].host != all[i].host) continue;
            all[k].measure       = measure;
            all[k].pack          = c.pack;
            all[k].reason        = (int32_t)c.reason;
            all[k].available     = host.available;
            all[k].ternary_bytes = host.ternary_bytes;
            for (int p = 0; p < WORKER_PACKS; p++) {
                all[k].bytes[p] = host.bytes[p];
                all[k].rates[p] = host.rates[p];
            }
        }
    }
}

/* Records of all to rank 0 and its decisions back: *mine becomes what it says. *any: some host is
 * to measure. */
static base_status_t settle(comm_world_t *world, record_t *mine, bool *any, base_err_t *err)
{
    const size_t  n   = (size_t)comm_size(world);
    record_t     *all = NULL;
    base_status_t st  = base_alloc((void **)&all, n, sizeof(*all), "packed formats", err);

    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    if (n == 1)
        all[0] = *mine;
    else
        st = comm_gather_records(world, mine, sizeof(*mine), all, err);
    if (st == BASE_OK && comm_rank(world) == 0) decide_all(all, (int)n);
    if (st == BASE_OK && n > 1)
        st = comm_control_share(world, "the choice of a packed format", all, n * sizeof(*all), err);
    *any = false;
    for (size_t r = 0; st == BASE_OK && r < n; r++) {
        *any = *any || all[r].measure != 0;
        if (all[r].pack < 0 || all[r].pack >= WORKER_PACKS) /* all ranks see all, and the same */
            st = base_fail(err, BASE_ERR_PEER, "rank 0 chose packed format %d of %d for rank %zu",
                           all[r].pack, WORKER_PACKS, r);
    }
    if (st == BASE_OK) *mine = all[comm_rank(world)];
out:
    free(all);
    return st;
}

static void explain(const record_t *r, bool measured_now, char *text)
{
    const worker_pack_rate_t *t2 = &r->rates[WORKER_PACK_T2], *t3 = &r->rates[WORKER_PACK_T3];

    switch ((pack_reason_t)r->reason) {
    case PACK_SMALL:
        (void)snprintf(text, PACK_TEXT_BYTES, "few ternary weights: nothing to measure");
        break;
    case PACK_MEMORY:
        (void)snprintf(
            text, PACK_TEXT_BYTES, "memory: t2 needs %.2f GiB on this host, t3 %.2f, it has %.2f",
            (double)r->bytes[WORKER_PACK_T2] / (1 << 30),
            (double)r->bytes[WORKER_PACK_T3] / (1 << 30), (double)r->available / (1 << 30));
        break;
    case PACK_MEASURED:
        (void)snprintf(text, PACK_TEXT_BYTES,
                       "measured%s: t2 %.1f, t3 %.1f G weights/s; prompts %.0f, %.0f G products/s",
                       measured_now ? "" : " before", t2->gemv * 1e-9, t3->gemv * 1e-9,
                       t2->gemm * 1e-9, t3->gemm * 1e-9);
        break;
    case PACK_FAILED: (void)snprintf(text, PACK_TEXT_BYTES, "could not be measured"); break;
    }
}

base_status_t pack_choose(comm_world_t *world, worker_team_t *team, part_assignment_t *a,
                          int host_cores, char *text, base_err_t *err)
{
    const char   *cpu      = a->cpu[0] != '\0' ? a->cpu : NULL;
    bool          any      = false;
    bool          measured = false;
    char          key[CALIBRATION_KEY_BYTES];
    record_t      own, result;
    base_status_t st = BASE_OK;

    (void)snprintf(text, PACK_TEXT_BYTES, "asked for");
    if (strcmp(a->pack, "auto") != 0) return BASE_OK;
    calibration_key(host_cores, comm_local_size(world), worker_team_size(team), cpu, key,
                    sizeof(key));
    own    = facts(world, a, key);
    result = own;
    st     = settle(world, &result, &any, err);
    if (st == BASE_OK && any) {
        /* The ranks of a host measure at the same time: the message came to them together. */
        measured = result.measure != 0;
        if (measured) (void)worker_measure_packs(team, cpu, false, own.rates, NULL, NULL);
        result = own;
        st     = settle(world, &result, &any, err);
    }
    if (st != BASE_OK) return st;
    if (measured && result.reason == PACK_MEASURED) (void)calibration_save(key, result.rates);
    (void)snprintf(a->pack, sizeof(a->pack), "%s", names[result.pack]);
    explain(&result, measured, text);
    if (comm_local_rank(world) == 0) base_log(BASE_LOG_DEBUG, "packed as %s: %s", a->pack, text);
    return BASE_OK;
}
