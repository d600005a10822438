/* launch/cmd_doctor.c: every rank reports its machine and measures it, pairs of ranks measure the
 * network, rank 0 judges and prints. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "build_info.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/cores.h"
#include "launch/doctor.h"
#include "launch/output.h"
#include "launch/session.h"
#include "partition/cluster.h"
#include "worker/measure.h"
#include "worker/worker.h"

enum {
    ALL_PAIRS_HOSTS = 8, /* up to here every pair of hosts is measured, beyond a ring and a star */
    LINES_MAX       = 32,
};

typedef struct {
    const options_t  *o;
    doctor_rank_t    *ranks; /* of all ranks, on every rank */
    doctor_host_t    *hosts;
    doctor_link_t    *links;
    uint32_t          n_links;
    doctor_report_t   report;
    doctor_finding_t *findings;
    uint32_t          n_findings;
    bool              problems;
} doctor_t;

/* ---- each rank for itself -------------------------------------------------------------------- */

/* What counts for a plan: packed and float16 weights a second out of memory, products of many
 * tokens at once and, unless a rank is alone, of a few. Where a control group gives less than the
 * threads would take, over many of its periods. */
static base_status_t measure(const doctor_t *d, worker_team_t *team, const doctor_rank_t *r,
                             bool alone, doctor_rates_t *rates, base_err_t *err)
{
    const double       quota              = r->machine.cpu_quota;
    const bool         slow               = quota > 0 && quota < r->n_threads;
    worker_pack_rate_t pack[WORKER_PACKS] = {{0}};
    worker_plan_rate_t plan               = {.want_few = !alone};
    base_status_t      st =
        worker_measure_packs(team, opt_string(d->o, OPT_CPU), slow, pack, &plan, err);
    *rates = (doctor_rates_t){.t2       = pack[WORKER_PACK_T2].gemv / 4,
                              .t3       = pack[WORKER_PACK_T3].gemv / 5,
                              .products = pack[WORKER_PACK_T2].gemm,
                              .dense    = plan.dense,
                              .screen   = plan.screen,
                              .few      = plan.few};
    return st;
}

static int threads_of(const options_t *o, const comm_world_t *world,
                      const worker_topology_t *topology)
{
    int given = (int)opt_int(o, OPT_THREADS);
    return given > 0 ? given : (int)launch_default_threads(world, topology);
}

static void describe(const comm_world_t *world, const worker_topology_t *topology, bool fits,
                     doctor_rank_t *r)
{
    worker_machine_read("", &r->machine);
    r->host          = comm_host_index(world);
    r->cores_bound   = worker_topology_binding(topology).n_cores;
    r->cores_own     = worker_topology_cores(topology);
    r->cores_machine = worker_topology_machine(topology);
    r->n_numa        = worker_topology_numa(topology);
    r->pinned        = fits;
    (void)snprintf(r->version, sizeof(r->version), "%s (%.12s)", TRIREME_VERSION,
                   TRIREME_BUILD_COMMIT);
    (void)snprintf(r->variant, sizeof(r->variant), "%s", worker_cpu_best());
}

/* All ranks of a host measure at the same time: they will compute at the same time. */
static base_status_t examine(const doctor_t *d, comm_world_t *world, doctor_rank_t *r,
                             base_err_t *err)
{
    worker_topology_t *topology = NULL;
    worker_team_t     *team     = NULL;
    doctor_rates_t     rates    = {0};
    bool               fits     = false;
    base_status_t      st       = worker_topology_open(comm_host_index(world), &topology, err);
    st                          = comm_agree(world, st, err);
    if (st == BASE_OK) st = comm_agree(world, launch_share_cores(world, topology, err), err);
    if (st != BASE_OK) goto out;
    r->n_threads = threads_of(d->o, world, topology);
    fits         = worker_topology_fits(topology, r->n_threads);
    describe(world, topology, fits, r);
    launch_set_quota(world);
    st = comm_world_set_threads(world, (uint32_t)r->n_threads, err);
    if (st != BASE_OK) goto out;
    st = worker_team_create(r->n_threads, topology, fits && !opt_flag(d->o, OPT_NO_PIN), fits,
                            &team, err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = measure(d, team, r, false, &r->rates, err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK && comm_local_rank(world) == 0 && comm_local_size(world) > 1)
        st = measure(d, team, r, true, &rates, err);
    r->alone_bytes_per_s = rates.t2;
    st                   = comm_agree(world, st, err);
out:
    worker_team_destroy(&team);
    worker_topology_close(&topology);
    return st;
}

/* Everyone's report to everyone: which pairs are measured follows from it. */
static base_status_t exchange(doctor_t *d, comm_world_t *world, const doctor_rank_t *mine,
                              base_err_t *err)
{
    size_t        bytes = (size_t)comm_size(world) * sizeof(*d->ranks);
    base_status_t st    = comm_gather_records(world, mine, sizeof(*mine), d->ranks, err);
    if (st != BASE_OK || comm_size(world) == 1) return st;
    return comm_control_share(world, "the reports of all ranks", d->ranks, bytes, err);
}

/* ---- the network ----------------------------------------------------------------------------- */

static base_status_t measure_pair(doctor_t *d, comm_world_t *world, int a, int b, base_err_t *err)
{
    comm_link_t    link = {0};
    doctor_link_t *l    = &d->links[d->n_links];
    base_status_t  st   = comm_measure_link(world, a, b, &link, err);
    if (st != BASE_OK) return st;
    *l = (doctor_link_t){
        .a = a, .b = b, .between_hosts = d->ranks[a].host != d->ranks[b].host, .link = link};
    d->n_links++;
    return BASE_OK;
}

/* The two lowest ranks of each host; -1 where there is none. */
static void leaders(const doctor_t *d, int *first, int *second)
{
    for (uint32_t h = 0; h < d->report.n_hosts; h++) first[h] = second[h] = -1;
    for (uint32_t r = 0; r < d->report.n_ranks; r++) {
        int32_t h = d->ranks[r].host;
        if (first[h] < 0)
            first[h] = (int)r;
        else if (second[h] < 0)
            second[h] = (int)r;
    }
}

static bool wanted(uint32_t hosts, uint32_t a, uint32_t b)
{
    return hosts <= ALL_PAIRS_HOSTS || a == 0 || b == a + 1;
}

/* Each pair's first rank knows the figures; rank 0 gets them by records. */
static base_status_t collect_links(doctor_t *d, comm_world_t *world, base_err_t *err)
{
    size_t         bytes = d->n_links * sizeof(*d->links);
    doctor_link_t *all   = NULL;
    base_status_t  st    = BASE_OK;
    if (comm_size(world) == 1 || d->n_links == 0) return BASE_OK;
    if (comm_rank(world) == 0)
        st = base_alloc((void **)&all, (size_t)comm_size(world), bytes, "links", err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = comm_gather_records(world, d->links, bytes, all, err);
    for (uint32_t i = 0; st == BASE_OK && all != NULL && i < d->n_links; i++)
        d->links[i] = all[(size_t)d->links[i].a * d->n_links + i];
    free(all);
    return st;
}

static base_status_t measure_links(doctor_t *d, comm_world_t *world, base_err_t *err)
{
    uint32_t      n      = d->report.n_hosts;
    int          *first  = NULL;
    int          *second = NULL;
    uint32_t      most   = n + (n <= ALL_PAIRS_HOSTS ? n * n / 2 : 2 * n);
    base_status_t st     = base_alloc((void **)&first, (size_t)n * 2, sizeof(*first), "links", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&d->links, (size_t)most + 1, sizeof(*d->links), "links", err);
    st = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    second = first + n;
    leaders(d, first, second);
    for (uint32_t h = 0; h < n && st == BASE_OK; h++)
        if (second[h] >= 0) st = measure_pair(d, world, first[h], second[h], err);
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = a + 1; b < n && st == BASE_OK; b++)
            if (wanted(n, a, b)) st = measure_pair(d, world, first[a], first[b], err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = collect_links(d, world, err);
out:
    free(first);
    return st;
}

/* ---- the cluster as plan reads it ------------------------------------------------------------ */

/* Figures of every pair of hosts, where they were measured and there is more than one pair. */
static base_status_t fill_pairs(const doctor_t *d, part_cluster_t *c, base_err_t *err)
{
    size_t        n  = c->n_nodes;
    base_status_t st = BASE_OK;
    if (n < 3 || n > ALL_PAIRS_HOSTS) return BASE_OK;
    st = base_alloc((void **)&c->pair_latency, n * n, sizeof(double), "cluster", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&c->pair_net, n * n, sizeof(double), "cluster", err);
    for (uint32_t i = 0; st == BASE_OK && i < d->n_links; i++) {
        const doctor_link_t *l = &d->links[i];
        size_t               a = (size_t)d->ranks[l->a].host;
        size_t               b = (size_t)d->ranks[l->b].host;
        if (!l->between_hosts) continue;
        c->pair_latency[a * n + b] = c->pair_latency[b * n + a] = l->link.latency;
        c->pair_net[a * n + b] = c->pair_net[b * n + a] = l->link.bytes_per_s;
    }
    return st;
}

static void fill_node(const doctor_t *d, uint32_t host, part_node_t *node)
{
    const doctor_host_t *h   = &d->hosts[host];
    const int32_t        all = h->first->cores_machine;
    (void)snprintf(node->name, sizeof(node->name), "%.*s", PART_NODE_NAME_MOST, h->machine->host);
    node->mem_bytes = worker_machine_allowed(h->machine);
    node->cores     = (uint32_t)(h->n_threads < all ? h->n_threads : all);
    node->membw     = h->rates.t2;
    node->t3_bw     = h->rates.t3;
    node->dense_bw  = h->rates.dense;
    node->screen_bw = h->rates.screen;
    node->ops       = h->rates.products;
    node->few       = h->rates.few;
    node->ranks     = h->n_ranks;
    if (h->n_ranks > 1) node->rank_membw = h->first->alone_bytes_per_s;
    for (uint32_t i = 0; i < d->n_links; i++)
        if (!d->links[i].between_hosts && d->ranks[d->links[i].a].host == (int32_t)host) {
            node->intra_latency = d->links[i].link.latency;
            node->intra_bw      = d->links[i].link.bytes_per_s;
        }
}

static base_status_t cluster_of(const doctor_t *d, part_cluster_t *c, base_err_t *err)
{
    part_node_t   model = {.mem_bytes = UINT64_C(1) << 30, .ranks = 1};
    comm_link_t   net   = doctor_network(&d->report);
    bool          known = net.bytes_per_s > 0;
    base_status_t st    = part_cluster_uniform(d->report.n_hosts, &model, known ? net.latency : -1,
                                               net.bytes_per_s, c, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0, rank0 = 0; i < d->report.n_hosts; rank0 += c->nodes[i++].ranks) {
        fill_node(d, i, &c->nodes[i]);
        c->nodes[i].rank0 = rank0;
    }
    c->n_ranks = d->report.n_ranks;
    return fill_pairs(d, c, err);
}

static base_status_t save(const doctor_t *d, const part_cluster_t *cluster, base_err_t *err)
{
    const char *path = opt_string(d->o, OPT_SAVE);
    return path == NULL ? BASE_OK : part_cluster_save(cluster, path, err);
}

/* NULL when memory ends. */
static json_t *cluster_json(const part_cluster_t *cluster)
{
    char   *text  = NULL;
    size_t  n     = 0;
    json_t *value = NULL;
    if (part_cluster_write(cluster, &text, &n, NULL) == BASE_OK) value = json_loads(text, 0, NULL);
    free(text);
    return value;
}

/* ---- what is printed ------------------------------------------------------------------------- */

static void print_hosts(const doctor_t *d)
{
    (void)printf("%-16s %5s %13s %6s %19s %7s %9s  %s\n", "host", "ranks", "threads/cores", "NUMA",
                 "memory free/allowed", "GB/s", "int8 G/s", "CPU, kernels");
    for (uint32_t i = 0; i < d->report.n_hosts; i++) {
        const doctor_host_t *h = &d->hosts[i];
        char                 free_text[32];
        char                 allowed[32];
        char                 cores[32];
        char                 memory[80];
        (void)snprintf(cores, sizeof(cores), "%d/%d", h->n_threads, h->first->cores_machine);
        (void)snprintf(memory, sizeof(memory), "%s/%s",
                       out_bytes(worker_machine_free(h->machine), free_text, sizeof(free_text)),
                       out_bytes(worker_machine_allowed(h->machine), allowed, sizeof(allowed)));
        (void)printf("%-16.16s %5" PRIu32 " %13s %6d %19s %7.1f %9.0f  %s, %s\n", h->machine->host,
                     h->n_ranks, cores, h->first->n_numa, memory, h->rates.t2 / 1e9,
                     h->rates.products / 1e9, h->machine->cpu, h->first->variant);
        if (i + 1 == LINES_MAX && d->report.n_hosts > LINES_MAX) {
            (void)printf("... and %" PRIu32 " more (--json has all)\n",
                         d->report.n_hosts - LINES_MAX);
            break;
        }
    }
}

static void print_links(const doctor_t *d)
{
    if (d->n_links == 0) return;
    (void)printf("\n%-34s %10s %10s\n", "link", "latency us", "Gbit/s");
    for (uint32_t i = 0; i < d->n_links && i < LINES_MAX; i++) {
        const doctor_link_t *l = &d->links[i];
        char                 name[160];
        if (l->between_hosts)
            (void)snprintf(name, sizeof(name), "%s to %s", d->ranks[l->a].machine.host,
                           d->ranks[l->b].machine.host);
        else
            (void)snprintf(name, sizeof(name), "inside %s", d->ranks[l->a].machine.host);
        (void)printf("%-34s %10.1f %10.2f\n", name, l->link.latency * 1e6,
                     l->link.bytes_per_s * 8e-9);
    }
    if (d->n_links > LINES_MAX)
        (void)printf("... and %" PRIu32 " more (--json has all)\n", d->n_links - LINES_MAX);
}

static void print_findings(const doctor_t *d)
{
    (void)printf("\n");
    for (uint32_t i = 0; i < d->n_findings; i++)
        (void)printf("%s: %s\n    %s\n", d->findings[i].problem ? "problem" : "advice",
                     d->findings[i].text, d->findings[i].remedy);
    if (d->n_findings == 0) (void)printf("Nothing wrong found.\n");
    if (opt_string(d->o, OPT_SAVE) != NULL)
        (void)printf("%s saved: trireme plan -m MODEL --cluster %s\n", opt_string(d->o, OPT_SAVE),
                     opt_string(d->o, OPT_SAVE));
}

static json_t *host_json(const doctor_host_t *h)
{
    const worker_machine_t *m    = h->machine;
    json_t                 *nets = json_array();
    for (uint32_t i = 0; i < m->n_nets; i++)
        (void)json_array_append_new(nets,
                                    json_pack("{s:s, s:s, s:i}", "name", m->nets[i].name, "ipv4",
                                              m->nets[i].ipv4, "mbit", (int)m->nets[i].mbit));
    return json_pack("{s:o, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:s, s:s, "
                     "s:s, s:o}",
                     "name", out_json_text(m->host, strlen(m->host)), "ranks", (int)h->n_ranks,
                     "threads", h->n_threads, "cores", h->first->cores_machine, "numa_domains",
                     h->first->n_numa, "mem_total", (json_int_t)m->mem_total, "mem_allowed",
                     (json_int_t)worker_machine_allowed(m), "mem_free",
                     (json_int_t)worker_machine_free(m), "swap_used", (json_int_t)m->swap_used,
                     "cpu_quota", m->cpu_quota, "membw_gbs", h->rates.t2 / 1e9, "int8_gops",
                     h->rates.products / 1e9, "cpu", out_json_text(m->cpu, strlen(m->cpu)),
                     "kernels", h->first->variant, "version", h->first->version, "huge_pages",
                     m->huge_pages, "interfaces", nets);
}

static base_status_t print_json(const doctor_t *d, const part_cluster_t *cluster, base_err_t *err)
{
    json_t *hosts    = json_array();
    json_t *links    = json_array();
    json_t *findings = json_array();
    for (uint32_t i = 0; i < d->report.n_hosts; i++)
        (void)json_array_append_new(hosts, host_json(&d->hosts[i]));
    for (uint32_t i = 0; i < d->n_links; i++)
        (void)json_array_append_new(
            links, json_pack("{s:i, s:i, s:b, s:f, s:f}", "a", d->links[i].a, "b", d->links[i].b,
                             "between_hosts", (int)d->links[i].between_hosts, "latency_us",
                             d->links[i].link.latency * 1e6, "net_gbit",
                             d->links[i].link.bytes_per_s * 8e-9));
    for (uint32_t i = 0; i < d->n_findings; i++) {
        const doctor_finding_t *f = &d->findings[i];
        (void)json_array_append_new(findings, json_pack("{s:s, s:o, s:s}", "level",
                                                        f->problem ? "problem" : "advice", "text",
                                                        out_json_text(f->text, strlen(f->text)),
                                                        "remedy", f->remedy));
    }
    json_t *value =
        json_pack("{s:i, s:o, s:o, s:o, s:o}", "ranks", (int)d->report.n_ranks, "hosts", hosts,
                  "links", links, "findings", findings, "cluster", cluster_json(cluster));
    return out_json_write(&value, err);
}

static base_status_t print_all(const doctor_t *d, const part_cluster_t *cluster, base_err_t *err)
{
    char mpi[128];
    if (opt_flag(d->o, OPT_JSON)) return print_json(d, cluster, err);
    (void)printf("trireme %s, %s; %" PRIu32 " rank%s on %" PRIu32 " host%s\n\n", TRIREME_VERSION,
                 comm_library_version(mpi, sizeof(mpi)), d->report.n_ranks,
                 base_plural(d->report.n_ranks), d->report.n_hosts, base_plural(d->report.n_hosts));
    print_hosts(d);
    print_links(d);
    print_findings(d);
    return out_flush(err);
}

static base_status_t conclude(doctor_t *d, base_err_t *err)
{
    part_cluster_t cluster = {0};
    base_status_t  st = base_alloc((void **)&d->findings, DOCTOR_FINDINGS_MAX, sizeof(*d->findings),
                                   "findings", err);
    if (st != BASE_OK) return st;
    d->report.links     = d->links;
    d->report.n_links   = d->n_links;
    d->report.net_named = getenv("OMPI_MCA_btl_tcp_if_include") != NULL ||
                          getenv("OMPI_MCA_btl_tcp_if_exclude") != NULL;
    d->n_findings = doctor_judge(&d->report, d->findings);
    for (uint32_t i = 0; i < d->n_findings; i++)
        if (d->findings[i].problem) d->problems = true;
    st = cluster_of(d, &cluster, err);
    if (st == BASE_OK) st = save(d, &cluster, err);
    if (st == BASE_OK) st = print_all(d, &cluster, err);
    part_cluster_free(&cluster);
    return st;
}

static base_status_t body(void *context, comm_world_t *world, base_err_t *err)
{
    doctor_t     *d    = context;
    doctor_rank_t mine = {0};
    size_t        n    = (size_t)comm_size(world);
    base_status_t st   = base_alloc((void **)&d->ranks, n, sizeof(*d->ranks), "reports", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&d->hosts, (size_t)comm_host_count(world), sizeof(*d->hosts),
                        "hosts", err);
    st = comm_agree(world, st, err);
    if (st == BASE_OK) st = examine(d, world, &mine, err);
    if (st == BASE_OK) st = exchange(d, world, &mine, err);
    if (st == BASE_OK)
        st = doctor_ranks_check(d->ranks, (uint32_t)n, (uint32_t)comm_host_count(world), err);
    if (st != BASE_OK) return st; /* the same on every rank: all have the same reports */
    doctor_hosts(d->ranks, (uint32_t)n, d->hosts);
    d->report = (doctor_report_t){.ranks   = d->ranks,
                                  .n_ranks = (uint32_t)n,
                                  .hosts   = d->hosts,
                                  .n_hosts = (uint32_t)comm_host_count(world)};
    st        = measure_links(d, world, err);
    if (st != BASE_OK || comm_rank(world) != 0) return st;
    return conclude(d, err);
}

int cmd_doctor(const options_t *o)
{
    doctor_t d  = {.o = o};
    int      rc = session_main_world(o, body, &d);
    free(d.ranks);
    free(d.hosts);
    free(d.links);
    free(d.findings);
    return rc == 0 && d.problems ? 1 : rc;
}
