/* worker/topology.c: cores of this rank through hwloc. */
#include "worker/topology.h"

#include <hwloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"

struct worker_topology {
    hwloc_topology_t hw;
    hwloc_bitmap_t   bound; /* as the launcher left this process */
    worker_binding_t mine;
    int              n_order;
    int              order[WORKER_CPUSET_BYTES * 8]; /* CPUs, those of a memory domain together */
    int              n_cores;                        /* of this rank's part */
    int              n_host;                         /* of all ranks of the host together */
    int              cores[LIMIT_THREADS];           /* logical index of the first CPU of each */
};

static bool cpu_in(const worker_binding_t *b, int cpu)
{
    return (b->cpus[cpu / 8] >> (cpu % 8) & 1) != 0;
}

/* The system may number CPUs across the domains in turn; hwloc's order has neighbours together. All
 * ranks of a host see those CPUs that they share in the same order. */
static void read_order(worker_topology_t *t)
{
    int n = hwloc_get_nbobjs_by_type(t->hw, HWLOC_OBJ_PU);
    for (int i = 0; i < n && t->n_order < WORKER_CPUSET_BYTES * 8; i++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(t->hw, HWLOC_OBJ_PU, (unsigned)i);
        if (pu->os_index < WORKER_CPUSET_BYTES * 8) t->order[t->n_order++] = (int)pu->os_index;
    }
}

/* One CPU per core of the binding: SMT siblings share the units that ternary kernels live on. */
static void read_binding(worker_topology_t *t, hwloc_const_bitmap_t set)
{
    int n = hwloc_get_nbobjs_by_type(t->hw, HWLOC_OBJ_CORE);
    for (int i = 0; i < n; i++) {
        hwloc_obj_t core = hwloc_get_obj_by_type(t->hw, HWLOC_OBJ_CORE, (unsigned)i);
        int         cpu  = -1;
        while ((cpu = hwloc_bitmap_next(core->cpuset, cpu)) >= 0) {
            if (!hwloc_bitmap_isset(set, (unsigned)cpu)) continue;
            if (cpu < WORKER_CPUSET_BYTES * 8) {
                t->mine.cpus[cpu / 8] |= (uint8_t)(1u << (cpu % 8));
                t->mine.n_cores++;
            }
            break;
        }
    }
}

base_status_t worker_topology_open(int host, worker_topology_t **out, base_err_t *err)
{
    worker_topology_t *t   = NULL;
    hwloc_bitmap_t     set = NULL;
    base_status_t      st  = base_alloc((void **)&t, 1, sizeof(*t), "topology", err);
    if (st != BASE_OK) goto out;
    if (hwloc_topology_init(&t->hw) != 0 || hwloc_topology_load(t->hw) != 0) {
        st = base_fail(err, BASE_ERR_SYSTEM, "hwloc cannot read this machine's topology");
        goto out;
    }
    set = hwloc_bitmap_alloc();
    if (set == NULL || hwloc_get_cpubind(t->hw, set, HWLOC_CPUBIND_PROCESS) != 0) {
        st = base_fail(err, BASE_ERR_SYSTEM, "hwloc cannot read this process's CPU binding");
        goto out;
    }
    t->bound = hwloc_bitmap_dup(set);
    if (t->bound == NULL) {
        st = base_fail(err, BASE_ERR_MEMORY, "topology: no memory");
        goto out;
    }
    t->mine.host = host;
    read_order(t);
    read_binding(t, set);
    if (t->mine.n_cores == 0) { /* a machine without core objects: count what the set holds */
        int cpu = -1;
        while ((cpu = hwloc_bitmap_next(set, cpu)) >= 0 && cpu < WORKER_CPUSET_BYTES * 8) {
            t->mine.cpus[cpu / 8] |= (uint8_t)(1u << (cpu % 8));
            t->mine.n_cores++;
        }
    }
    worker_topology_share(t, &t->mine, 1, 0);
    *out = t;
    t    = NULL;
out:
    hwloc_bitmap_free(set);
    worker_topology_close(&t);
    return st;
}

void worker_topology_close(worker_topology_t **topology)
{
    if (topology == NULL || *topology == NULL) return;
    hwloc_bitmap_free((*topology)->bound);
    if ((*topology)->hw != NULL) hwloc_topology_destroy((*topology)->hw);
    free(*topology);
    *topology = NULL;
}

worker_binding_t worker_topology_binding(const worker_topology_t *topology)
{
    return topology->mine;
}

/* Which ranks of a rank's host may use a CPU: how many, the place of that rank among them, and a
 * number that two CPUs share when the same ranks may use them. */
static uint64_t sharers_of(const worker_binding_t *all, int n_ranks, int my_rank, int cpu, int *n,
                           int *place)
{
    uint64_t mark = 14695981039346656037u; /* FNV-1a */
    *n            = 0;
    *place        = 0;
    for (int r = 0; r < n_ranks; r++) {
        if (all[r].host != all[my_rank].host || !cpu_in(&all[r], cpu)) continue;
        if (r == my_rank) *place = *n;
        (*n)++;
        mark = (mark ^ (uint64_t)r) * 1099511628211u;
    }
    return mark;
}

/* CPUs that any rank of a rank's host may use. */
static int count_host(const worker_binding_t *all, int n_ranks, int my_rank)
{
    uint8_t any[WORKER_CPUSET_BYTES] = {0};
    int     n                        = 0;
    for (int r = 0; r < n_ranks; r++)
        for (int i = 0; i < WORKER_CPUSET_BYTES && all[r].host == all[my_rank].host; i++)
            any[i] |= all[r].cpus[i];
    for (int cpu = 0; cpu < WORKER_CPUSET_BYTES * 8; cpu++) n += any[cpu / 8] >> (cpu % 8) & 1;
    return n;
}

/* CPUs that the same ranks may use are cut into parts of neighbours, one for each of these ranks:
 * every rank comes to the same cut, whatever else it may use. */
void worker_topology_share(worker_topology_t *t, const worker_binding_t *all, int n_ranks,
                           int my_rank)
{
    uint64_t mark[WORKER_CPUSET_BYTES * 8];
    int      sharers[WORKER_CPUSET_BYTES * 8];
    int      place[WORKER_CPUSET_BYTES * 8];
    t->n_cores = 0;
    t->n_host  = count_host(all, n_ranks, my_rank);
    for (int i = 0; i < t->n_order; i++) {
        int cpu = t->order[i];
        if (cpu_in(&all[my_rank], cpu))
            mark[cpu] = sharers_of(all, n_ranks, my_rank, cpu, &sharers[cpu], &place[cpu]);
    }
    for (int i = 0; i < t->n_order; i++) {
        int cpu  = t->order[i];
        int nth  = 0; /* this CPU among those alike */
        int like = 0;
        if (!cpu_in(&all[my_rank], cpu)) continue;
        for (int j = 0; j < t->n_order; j++) {
            int c = t->order[j];
            if (!cpu_in(&all[my_rank], c) || mark[c] != mark[cpu]) continue;
            if (j < i) nth++;
            like++;
        }
        int owner = (int)((int64_t)nth * sharers[cpu] / like);
        if (owner == place[cpu] && t->n_cores < LIMIT_THREADS) t->cores[t->n_cores++] = cpu;
    }
}

int worker_topology_cores(const worker_topology_t *topology)
{
    return topology->n_cores;
}

int worker_topology_host_cores(const worker_topology_t *topology)
{
    return topology->n_host;
}

int worker_topology_machine(const worker_topology_t *topology)
{
    return hwloc_get_nbobjs_by_type(topology->hw, HWLOC_OBJ_CORE);
}

int worker_topology_numa(const worker_topology_t *topology)
{
    return hwloc_get_nbobjs_by_type(topology->hw, HWLOC_OBJ_NUMANODE);
}

bool worker_topology_fits(const worker_topology_t *topology, int n_threads)
{
    return n_threads <= topology->n_cores;
}

int worker_topology_domain(const worker_topology_t *topology, int index)
{
    hwloc_obj_t pu = NULL;
    if (index < 0 || index >= topology->n_cores) return -1;
    pu = hwloc_get_pu_obj_by_os_index(topology->hw, (unsigned)topology->cores[index]);
    return pu == NULL || pu->nodeset == NULL ? -1 : hwloc_bitmap_first(pu->nodeset);
}

int worker_topology_page_domain(const worker_topology_t *topology, const void *address)
{
    int            node = -1;
    hwloc_bitmap_t set  = hwloc_bitmap_alloc();
    if (set == NULL) return -1;
    if (hwloc_get_area_memlocation(topology->hw, address, 1, set, HWLOC_MEMBIND_BYNODESET) == 0 &&
        hwloc_bitmap_weight(set) == 1)
        node = hwloc_bitmap_first(set);
    hwloc_bitmap_free(set);
    return node;
}

bool worker_topology_pin(const worker_topology_t *topology, int index)
{
    bool           ok  = false;
    hwloc_bitmap_t set = NULL;
    if (index < 0 || index >= topology->n_cores) return false;
    set = hwloc_bitmap_alloc();
    if (set == NULL) return false;
    hwloc_bitmap_only(set, (unsigned)topology->cores[index]);
    ok = hwloc_set_cpubind(topology->hw, set, HWLOC_CPUBIND_THREAD) == 0;
    hwloc_bitmap_free(set);
    return ok;
}

void worker_topology_unpin(const worker_topology_t *topology)
{
    (void)hwloc_set_cpubind(topology->hw, topology->bound, HWLOC_CPUBIND_THREAD);
}
