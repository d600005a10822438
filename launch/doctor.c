/* launch/doctor.c: what is wrong, from the ranks' reports. */
#include "launch/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/order.h"

/* Below this share of the median a host or a link counts as slow. */
#define SLOW_SHARE 0.75
#define LINK_SHARE 0.5

typedef struct {
    doctor_finding_t *list;
    uint32_t          n;
    bool              problems; /* this pass collects problems, the other advice */
} judge_t;

__attribute__((format(printf, 4, 5))) static void say(judge_t *j, bool problem, const char *remedy,
                                                      const char *format, ...)
{
    va_list args;
    if (problem != j->problems || j->n == DOCTOR_FINDINGS_MAX) return;
    doctor_finding_t *f = &j->list[j->n++];
    f->problem          = problem;
    va_start(args, format);
    (void)vsnprintf(f->text, sizeof(f->text), format, args);
    va_end(args);
    (void)snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

/* The middle one, of two the larger: half of two hosts are never both slow. */
static double median(double *v, uint32_t n)
{
    if (n == 0) return 0;
    base_sort_f64(v, n);
    return v[n / 2];
}

#define ENDS(text) (memchr(text, '\0', sizeof(text)) != NULL)

static bool texts_end(const doctor_rank_t *r)
{
    const worker_machine_t *m = &r->machine;
    bool good = ENDS(r->version) && ENDS(r->variant) && ENDS(m->host) && ENDS(m->cpu) &&
                ENDS(m->kernel) && ENDS(m->huge_pages) && ENDS(m->governor);
    for (uint32_t i = 0; good && i < m->n_nets; i++)
        good = ENDS(m->nets[i].name) && ENDS(m->nets[i].ipv4);
    return good;
}

/* A rate, also one that is not known (0); rates of few vectors stand behind each other. */
static bool rates_are_numbers(const doctor_rank_t *rank)
{
    const doctor_rates_t *r = &rank->rates;
    const double some[] = {rank->alone_bytes_per_s, r->t2, r->t3, r->dense, r->screen, r->products};
    const double *const few[] = {r->few.t2, r->few.t3, r->few.dense, r->few.screen};

    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        if (!(some[i] >= 0 && some[i] <= DOCTOR_RATE_MAX)) return false;
    for (size_t l = 0; l < sizeof(few) / sizeof(few[0]); l++)
        for (size_t i = 0; i < PART_FEW; i++)
            if (!(few[l][i] >= 0 && few[l][i] <= DOCTOR_RATE_MAX)) return false;
    return true;
}

base_status_t doctor_ranks_check(const doctor_rank_t *ranks, uint32_t n_ranks, uint32_t n_hosts,
                                 base_err_t *err)
{
    for (uint32_t r = 0; r < n_ranks; r++) {
        const doctor_rank_t *k = &ranks[r];
        if (k->host < 0 || (uint32_t)k->host >= n_hosts)
            return base_fail(err, BASE_ERR_PEER, "rank %u reports to be on host %d of %u", r,
                             k->host, n_hosts);
        if (k->n_threads < 0 || k->n_threads > LIMIT_THREADS)
            return base_fail(err, BASE_ERR_PEER, "rank %u reports %d threads, limit %d", r,
                             k->n_threads, LIMIT_THREADS);
        if (k->machine.n_nets > WORKER_MACHINE_NETS)
            return base_fail(err, BASE_ERR_PEER, "rank %u reports %u networks, limit %d", r,
                             k->machine.n_nets, WORKER_MACHINE_NETS);
        if (!texts_end(k))
            return base_fail(err, BASE_ERR_PEER, "rank %u reports a text that does not end", r);
        if (!rates_are_numbers(k))
            return base_fail(err, BASE_ERR_PEER, "rank %u reports a rate that is no number", r);
    }
    for (uint32_t h = 0; h < n_hosts; h++) {
        bool used = false;
        for (uint32_t r = 0; !used && r < n_ranks; r++) used = ranks[r].host == (int32_t)h;
        if (!used) return base_fail(err, BASE_ERR_PEER, "no rank reports to be on host %u", h);
    }
    return BASE_OK;
}

static void add_few(part_few_t *sum, const part_few_t *few)
{
    for (int i = 0; i < PART_FEW; i++) {
        sum->t2[i] += few->t2[i];
        sum->t3[i] += few->t3[i];
        sum->dense[i] += few->dense[i];
        sum->screen[i] += few->screen[i];
    }
}

void doctor_hosts(const doctor_rank_t *ranks, uint32_t n_ranks, doctor_host_t *hosts)
{
    for (uint32_t r = 0; r < n_ranks; r++) {
        doctor_host_t *h = &hosts[ranks[r].host];
        if (h->n_ranks++ == 0) {
            h->first   = &ranks[r];
            h->machine = &ranks[r].machine;
        }
        h->n_threads += ranks[r].n_threads;
        h->rates.t2 += ranks[r].rates.t2;
        h->rates.t3 += ranks[r].rates.t3;
        h->rates.dense += ranks[r].rates.dense;
        h->rates.screen += ranks[r].rates.screen;
        h->rates.products += ranks[r].rates.products;
        add_few(&h->rates.few, &ranks[r].rates.few);
    }
}

/* ---- one host -------------------------------------------------------------------------------- */

static void judge_cores(judge_t *j, const doctor_report_t *p, uint32_t host)
{
    const doctor_host_t *h       = &p->hosts[host];
    int32_t              crowded = 0;
    int32_t              used    = 0;
    int32_t              all     = h->first->cores_machine;
    for (uint32_t r = 0; r < p->n_ranks; r++) {
        if (p->ranks[r].host != (int32_t)host) continue;
        crowded += p->ranks[r].cores_own < p->ranks[r].n_threads;
        used += p->ranks[r].cores_own;
    }
    double quota = h->machine->cpu_quota;
    if (quota > 0 && quota < all) all = worker_machine_quota_threads(h->machine, 1);
    if (crowded > 0)
        say(j, true,
            "start fewer ranks on this host, give each fewer threads (-t), or bind wider (mpirun "
            "--bind-to none, srun --cpus-per-task)",
            "%s: %d of %u ranks have more threads than cores of their own; %d threads share %d "
            "cores",
            h->machine->host, crowded, h->n_ranks, h->n_threads, used > 0 ? used : 1);
    else if (h->n_threads < all)
        say(j, true,
            "with one rank a host mpirun --bind-to none, with one a NUMA domain --map-by numa "
            "--bind-to numa; under Slurm --cpus-per-task; or -t for more threads",
            "%s: %d thread%s on a machine of %d cores: %d lie idle", h->machine->host, h->n_threads,
            base_plural((uint64_t)h->n_threads), all, all - h->n_threads);
    if (quota > 0 && quota + 0.01 < h->n_threads)
        say(j, true,
            "lower -t to the quota, or raise the quota (CPU limit of the container or job)",
            "%s: a control group allows %.2f CPUs, but %d threads compute: they will be stopped in "
            "turns",
            h->machine->host, quota, h->n_threads);
    if (h->n_ranks < (uint32_t)h->first->n_numa && h->first->n_numa > 1)
        say(j, false, "one rank for each NUMA domain: mpirun --map-by numa --bind-to numa",
            "%s: %u rank%s on %d NUMA domains: some weights will be read from the far memory",
            h->machine->host, h->n_ranks, base_plural(h->n_ranks), h->first->n_numa);
}

static void judge_memory(judge_t *j, const doctor_host_t *h)
{
    const worker_machine_t *m       = h->machine;
    uint64_t                allowed = worker_machine_allowed(m);
    uint64_t                left    = worker_machine_free(m);
    if (m->self_swapped > 0)
        say(j, true, "stop what else runs there, or plan with less memory",
            "%s: %.1f MiB of this very process are swapped out", m->host,
            (double)m->self_swapped / (1024.0 * 1024.0));
    else if (m->swap_used > m->mem_total / 16 && left < allowed / 2)
        say(j, true, "stop what else runs there, or plan with less memory",
            "%s: %.1f GiB are swapped out and only %.1f of %.1f GiB are free: weights would be "
            "read from disk",
            m->host, gib(m->swap_used), gib(left), gib(allowed));
    else if (left < allowed - allowed / 5)
        say(j, false, "plan with what is free (--mem), or stop what else runs there",
            "%s: %.1f of %.1f GiB are free; other programs hold the rest", m->host, gib(left),
            gib(allowed));
    if (m->mem_limit != 0 && m->mem_limit < m->mem_total)
        say(j, false, "plan with the limit, or raise it (--mem of the Slurm job, the container's)",
            "%s: a control group allows %.1f of the machine's %.1f GiB", m->host, gib(m->mem_limit),
            gib(m->mem_total));
    if (strcmp(m->huge_pages, "never") == 0)
        say(j, false, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            "%s: huge pages are off: weights cost more address look-ups", m->host);
    if (strcmp(m->governor, "powersave") == 0)
        say(j, false, "cpupower frequency-set -g performance (some drivers are fast all the same)",
            "%s: the CPU's clock follows the governor powersave", m->host);
}

/* ---- hosts against each other ---------------------------------------------------------------- */

static double rate_of(const doctor_host_t *h, bool memory)
{
    return memory ? h->rates.t2 : h->rates.products;
}

static void judge_speed(judge_t *j, const doctor_report_t *p, bool memory)
{
    double *v = calloc(p->n_hosts, sizeof(*v));
    if (v == NULL) return;
    for (uint32_t i = 0; i < p->n_hosts; i++) v[i] = rate_of(&p->hosts[i], memory);
    double middle = median(v, p->n_hosts);
    for (uint32_t i = 0; i < p->n_hosts; i++) {
        double rate = rate_of(&p->hosts[i], memory);
        if (rate <= 0 || rate >= SLOW_SHARE * middle) continue;
        say(j, true,
            "look for other programs, heat, missing memory modules; if it is just a slower "
            "machine, "
            "save the cluster (--save) and let plan give it a smaller share (--cluster)",
            "%s: %s %.1f G a second, the median host %.1f", p->hosts[i].machine->host,
            memory ? "reads" : "multiplies", rate / 1e9, middle / 1e9);
    }
    free(v);
}

static void judge_likeness(judge_t *j, const doctor_report_t *p)
{
    for (uint32_t r = 1; r < p->n_ranks; r++) {
        if (strcmp(p->ranks[r].version, p->ranks[0].version) == 0) continue;
        say(j, true, "install the same build everywhere", "rank %u on %s runs %s, rank 0 %s", r,
            p->ranks[r].machine.host, p->ranks[r].version, p->ranks[0].version);
        break;
    }
    for (uint32_t r = 1; r < p->n_ranks; r++) {
        if (strcmp(p->ranks[r].variant, p->ranks[0].variant) == 0) continue;
        say(j, false,
            "results are the same; give the stronger ones more (--split, or plan --cluster)",
            "rank %u on %s has %s kernels, rank 0 %s", r, p->ranks[r].machine.host,
            p->ranks[r].variant, p->ranks[0].variant);
        break;
    }
}

/* ---- the network ----------------------------------------------------------------------------- */

comm_link_t doctor_network(const doctor_report_t *p)
{
    comm_link_t out       = {0};
    uint32_t    n         = 0;
    double     *latencies = calloc((size_t)p->n_links + 1, sizeof(*latencies));
    double     *rates     = calloc((size_t)p->n_links + 1, sizeof(*rates));
    for (uint32_t i = 0; latencies != NULL && rates != NULL && i < p->n_links; i++) {
        if (!p->links[i].between_hosts) continue;
        latencies[n] = p->links[i].link.latency;
        rates[n++]   = p->links[i].link.bytes_per_s;
    }
    if (n > 0) {
        out.latency     = median(latencies, n);
        out.bytes_per_s = median(rates, n);
    }
    free(latencies);
    free(rates);
    return out;
}

/* The fastest link that the machine's drivers name, bytes a second; 0: none says. */
static double fastest_net(const worker_machine_t *m, const worker_net_t **net)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < m->n_nets; i++)
        if (m->nets[i].plausible && m->nets[i].mbit > best) {
            best = m->nets[i].mbit;
            *net = &m->nets[i];
        }
    return best * 1e6 / 8;
}

static const char *host_of(const doctor_report_t *p, int32_t rank)
{
    return p->ranks[rank].machine.host;
}

static void judge_link(judge_t *j, const doctor_report_t *p, const doctor_link_t *l,
                       comm_link_t all)
{
    const char *remedy =
        "compare cables and switch ports; see whether MPI took another interface there (mpirun "
        "--mca btl_tcp_if_include SUBNET)";
    if (l->link.bytes_per_s < LINK_SHARE * all.bytes_per_s)
        say(j, true, remedy, "%s to %s: %.2f Gbit/s, the median link %.2f", host_of(p, l->a),
            host_of(p, l->b), l->link.bytes_per_s * 8e-9, all.bytes_per_s * 8e-9);
    else if (l->link.latency > 3 * all.latency && l->link.latency > 50e-6)
        say(j, true, remedy, "%s to %s: latency %.0f us, the median link %.0f us", host_of(p, l->a),
            host_of(p, l->b), l->link.latency * 1e6, all.latency * 1e6);
}

/* Container bridges and second networks: Open MPI tries them all, and may hang on one. */
static void judge_interfaces(judge_t *j, const doctor_report_t *p)
{
    for (uint32_t i = 0; i < p->n_hosts; i++) {
        const worker_machine_t *m     = p->hosts[i].machine;
        uint32_t                good  = 0;
        const worker_net_t     *inner = NULL;
        for (uint32_t k = 0; k < m->n_nets; k++) {
            good += m->nets[k].plausible;
            if (!m->nets[k].plausible) inner = &m->nets[k];
        }
        if (good < 2 && inner == NULL) continue;
        say(j, false,
            "name the network that joins the hosts: mpirun --mca btl_tcp_if_include SUBNET --mca "
            "oob_tcp_if_include SUBNET (launch/mpirun-ethernet.sh does)",
            inner != NULL ? "%s has the interface %s (%s), which other hosts cannot reach: MPI may "
                            "try it"
                          : "%s has several networks (%s %s, ...): MPI may take the slow one",
            m->host, inner != NULL ? inner->name : m->nets[0].name,
            inner != NULL ? inner->ipv4 : m->nets[0].ipv4);
        return; /* once for all hosts */
    }
}

static void judge_network(judge_t *j, const doctor_report_t *p)
{
    comm_link_t         all  = doctor_network(p);
    const worker_net_t *net  = NULL;
    double              line = 0;
    if (p->n_hosts < 2 || all.bytes_per_s <= 0) return;
    for (uint32_t i = 0; i < p->n_links; i++)
        if (p->links[i].between_hosts) judge_link(j, p, &p->links[i], all);
    line = fastest_net(p->hosts[0].machine, &net);
    if (line > 0 && all.bytes_per_s < LINK_SHARE * line)
        say(j, true,
            "another interface is in use, or the link is busy: mpirun --mca btl_tcp_if_include "
            "INTERFACE",
            "messages between hosts go at %.2f Gbit/s, but %s of %s is a link of %.1f Gbit/s",
            all.bytes_per_s * 8e-9, net->name, p->hosts[0].machine->host, net->mbit * 1e-3);
    if (all.latency > 20e-6)
        say(j, false,
            "stages between hosts, shards inside (what plan and the automatic layout take)",
            "latency between hosts is %.0f us: shards across hosts cost four exchanges a layer",
            all.latency * 1e6);
    if (!p->net_named) judge_interfaces(j, p);
}

uint32_t doctor_judge(const doctor_report_t *p, doctor_finding_t findings[DOCTOR_FINDINGS_MAX])
{
    judge_t j = {.list = findings};
    for (int pass = 0; pass < 2; pass++) {
        j.problems = pass == 0;
        judge_likeness(&j, p);
        for (uint32_t i = 0; i < p->n_hosts; i++) {
            judge_cores(&j, p, i);
            judge_memory(&j, &p->hosts[i]);
        }
        judge_speed(&j, p, true);
        judge_speed(&j, p, false);
        judge_network(&j, p);
    }
    return j.n;
}
