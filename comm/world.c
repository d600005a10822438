/* comm/world.c: the start and the end of MPI, and who shares a host with whom. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/limits.h"
#include "base/log.h"
#include "comm/internal.h"

enum {
    CPU_MASK_BYTES = 1024, /* 8192 CPUs */
    TIMER_SLACK_NS = 1000,
};

/* ---- the launcher, as its environment variables tell ----------------------------------------- */

static bool env_set(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0';
}

/* Without a launcher MPI_Init would only cost time, and in a container it may fail. */
static bool launched(void)
{
    static const char *const marks[] = {
        "OMPI_COMM_WORLD_SIZE", /* mpirun of Open MPI */
        "PMIX_RANK",            /* PMIx: srun --mpi=pmix, prterun */
        "PMI_RANK",             /* PMI 1 and 2: hydra (MPICH, Intel), srun --mpi=pmi2 */
        "PMI_FD",
        "PALS_RANKID",        /* Cray */
        "JSM_NAMESPACE_RANK", /* jsrun */
        "MV2_COMM_WORLD_RANK",
    };

    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (env_set(marks[i])) return true;
    if (env_set("SLURM_PROCID") && env_set("SLURM_STEP_ID")) return true;
    const char *force = getenv("TRIREME_FORCE_MPI");
    return force != NULL && strcmp(force, "1") == 0;
}

static long env_number(const char *name)
{
    const char *value = getenv(name);
    return value == NULL ? 0 : strtol(value, NULL, 10);
}

/* What launchers tell each process: how many there are, and which of them this is. */
static const struct {
    const char *size, *rank, *launcher;
} counts[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI's mpirun"},
    {"PMI_SIZE", "PMI_RANK", "an mpirun of MPICH's kind (hydra), or srun --mpi=pmi2,"},
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MVAPICH2's mpirun"},
};

/* Another launcher than the library's starts N worlds of one rank. True: recognised, and told. */
static bool warn_foreign_launcher(void)
{
    char library[MPI_MAX_LIBRARY_VERSION_STRING];

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        long size = env_number(counts[i].size);
        if (size <= 1) continue;
        if (env_number(counts[i].rank) == 0)
            base_log(BASE_LOG_WARN,
                     "%s is %ld but MPI sees ONE rank: every process runs the whole model alone. "
                     "Likely cause: %s started this program, which is built with another MPI "
                     "library (%s). Remedy: the mpirun of that library",
                     counts[i].size, size, counts[i].launcher,
                     comm_library_version(library, sizeof(library)));
        return true;
    }
    return false;
}

/* srun offers no PMI: the library then ends with a text about its own build, or starts alone. */
static bool step_without_pmi(void)
{
    return env_set("SLURM_STEP_ID") && env_number("SLURM_STEP_NUM_TASKS") > 1 &&
           !env_set("PMIX_RANK") && !env_set("PMI_RANK") && !env_set("PMI_FD") &&
           !env_set("OMPI_COMM_WORLD_SIZE");
}

static void warn_no_pmi(void)
{
    if (step_without_pmi() && env_number("SLURM_PROCID") == 0)
        base_log(BASE_LOG_WARN,
                 "SLURM_STEP_NUM_TASKS is %ld but srun offers no PMI: the tasks cannot find each "
                 "other. Likely cause: srun without --mpi, or --mpi=none. Try: srun --mpi=pmix",
                 env_number("SLURM_STEP_NUM_TASKS"));
}

/* How many ranks the launcher says there are; 0: it says nothing, as srun. To be asked before MPI
 * starts: a library may set these variables itself. */
static long launcher_ranks(void)
{
    long ranks = 0;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && ranks == 0; i++)
        ranks = env_number(counts[i].size);
    return ranks;
}

/* A world of another size than Slurm gave tasks for. In a step that mpirun made, its variables
 * count mpirun's daemons; in one of several components, the tasks of one of them. */
static void warn_uneven(const comm_world_t *world, long told)
{
    long step = env_number("SLURM_STEP_NUM_TASKS"), job = env_number("SLURM_NTASKS");

    if (world->rank != 0 || env_number("SLURM_HET_SIZE") > 1) return;
    if (env_set("SLURM_STEP_ID")) {
        if (step > 0 && step != world->size && told != world->size)
            base_log(BASE_LOG_WARN,
                     "SLURM_STEP_NUM_TASKS is %ld but MPI sees %d ranks: the step's tasks are not "
                     "one world. Likely cause: srun and the MPI library do not speak the same PMI. "
                     "Try: srun --mpi=pmix",
                     step, world->size);
    } else if (told > 0 && job > 0 && job < world->size) {
        base_log(BASE_LOG_WARN,
                 "SLURM_NTASKS is %ld but MPI sees %d ranks: they share the cores of the job's "
                 "tasks. If that is not meant: mpirun without -n, or -n %ld",
                 job, world->size, job);
    } else if (told > 0 && job > world->size) {
        base_log(BASE_LOG_WARN,
                 "SLURM_NTASKS is %ld but MPI sees %d rank%s: some of the job's tasks have nothing "
                 "to do. If that is not meant: mpirun without -n, or -n %ld",
                 job, world->size, world->size == 1 ? "" : "s", job);
    }
}

/* Some launchers start N worlds of one rank when launcher and library do not match. */
static void warn_lonely(void)
{
    const char *name  = "SLURM_NTASKS";
    long        tasks = env_number(name);

    if (step_without_pmi()) return; /* told before */
    if (env_set("SLURM_STEP_NUM_TASKS")) {
        name  = "SLURM_STEP_NUM_TASKS";
        tasks = env_number(name);
    } else if (warn_foreign_launcher()) {
        return;
    }
    if (tasks <= 1 || env_number("SLURM_PROCID") != 0) return;
    if (env_set("SLURM_STEP_ID"))
        base_log(BASE_LOG_WARN,
                 "%s is %ld but MPI sees ONE rank: every task runs the whole model alone. Likely "
                 "cause: srun and the MPI library do not speak the same PMI. Try: srun --mpi=pmix",
                 name, tasks);
    else
        base_log(BASE_LOG_WARN,
                 "%s is %ld but this process was started without a launcher: it runs alone, as one "
                 "rank. Likely remedy: start it by mpirun or by srun --mpi=pmix",
                 name, tasks);
}

/* ---- hosts ----------------------------------------------------------------------------------- */

/* TRIREME_FAKE_HOSTS=n cuts the ranks into n pretended hosts, a,b,... into hosts of a, b, ... ranks
 * (the last takes what is left): tests of the paths between hosts. */
static int fake_host(int rank, int size)
{
    const char *text = getenv("TRIREME_FAKE_HOSTS");
    char       *end  = NULL;
    long        n    = text == NULL ? 0 : strtol(text, &end, 10);
    long        sum  = 0;
    int         host = 0;

    if (n < 1 || n > size) return 0;
    if (*end != ',') return (int)(rank * n / size);
    for (sum = n; rank >= sum && *end == ','; host++) {
        n = strtol(end + 1, &end, 10);
        if (n < 1) break;
        sum += n;
    }
    return host;
}

static base_status_t hosts_split(comm_world_t *w, base_err_t *err)
{
    MPI_Comm real = MPI_COMM_NULL;

    base_status_t st =
        comm_check(MPI_Comm_split_type(w->all, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &w->host),
                   "MPI_Comm_split_type", err);
    if (st != BASE_OK || !env_set("TRIREME_FAKE_HOSTS")) return st;
    real    = w->host;
    w->host = MPI_COMM_NULL;
    st      = comm_check(MPI_Comm_split(real, fake_host(w->rank, w->size), 0, &w->host),
                         "MPI_Comm_split", err);
    (void)MPI_Comm_free(&real);
    return st;
}

static base_status_t hosts_number(comm_world_t *w, base_err_t *err)
{
    int           lowest = w->rank;
    base_status_t st     = comm_check(MPI_Bcast(&lowest, 1, MPI_INT, 0, w->host), "MPI_Bcast", err);

    if (st == BASE_OK)
        st = comm_check(MPI_Allgather(&lowest, 1, MPI_INT, w->leader_of, 1, MPI_INT, w->all),
                        "MPI_Allgather", err);
    if (st != BASE_OK) return st;
    for (int r = 0; r < w->size; r++) {
        if (w->leader_of[r] != r) continue;
        w->host_count++;
        if (r < lowest) w->host_index++;
    }
    return BASE_OK;
}

/* Where each rank of the world is on this host, if it is here. */
static base_status_t hosts_translate(comm_world_t *w, base_err_t *err)
{
    MPI_Group     all = MPI_GROUP_NULL, host = MPI_GROUP_NULL;
    int          *ranks = (int *)(void *)w->scratch;
    base_status_t st    = comm_check(MPI_Comm_group(w->all, &all), "MPI_Comm_group", err);

    _Static_assert(LIMIT_RANKS * sizeof(int) <= COMM_CHUNK_BYTES, "all ranks fit into scratch");
    for (int r = 0; r < w->size; r++) ranks[r] = r;
    if (st == BASE_OK) st = comm_check(MPI_Comm_group(w->host, &host), "MPI_Comm_group", err);
    if (st == BASE_OK)
        st = comm_check(MPI_Group_translate_ranks(all, w->size, ranks, host, w->local_of),
                        "MPI_Group_translate_ranks", err);
    for (int r = 0; st == BASE_OK && r < w->size; r++)
        if (w->local_of[r] == MPI_UNDEFINED) w->local_of[r] = -1;
    if (all != MPI_GROUP_NULL) (void)MPI_Group_free(&all);
    if (host != MPI_GROUP_NULL) (void)MPI_Group_free(&host);
    return st;
}

/* The CPUs of this host: the union of what its ranks may run on. */
static base_status_t hosts_count_cpus(comm_world_t *w, base_err_t *err)
{
    uint64_t      mask[CPU_MASK_BYTES / 8] = {0};
    base_status_t st                       = BASE_OK;

    if (sched_getaffinity(0, sizeof(mask), (cpu_set_t *)(void *)mask) != 0) mask[0] = 1;
    if (w->mpi)
        st = comm_check(
            MPI_Allreduce(MPI_IN_PLACE, mask, CPU_MASK_BYTES / 8, MPI_UINT64_T, MPI_BOR, w->host),
            "MPI_Allreduce", err);
    w->cpus = 0;
    for (size_t i = 0; i < CPU_MASK_BYTES / 8; i++) w->cpus += __builtin_popcountll(mask[i]);
    w->spin = w->cpus >= w->local_size;
    return st;
}

static base_status_t returns_errors(MPI_Comm comm, base_err_t *err)
{
    return comm_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
                      err);
}

/* What a world of `size` ranks holds. Before anything that waits for others, and agreed on: a rank
 * that is out of memory here must not leave the rest in a collective call. Collective. */
static base_status_t world_memory(comm_world_t *w, base_err_t *err)
{
    const size_t n = (size_t)w->size;
    const struct {
        void      **at;
        size_t      n, bytes;
        const char *what;
    } parts[] = {
        {(void **)&w->leader_of, n, sizeof(*w->leader_of), "host table"},
        {(void **)&w->local_of, n, sizeof(*w->local_of), "ranks of a host"},
        {(void **)&w->names, n, sizeof(*w->names), "names of hosts"},
        {(void **)&w->requests, n, sizeof(MPI_Request), "requests"},
        {(void **)&w->scratch, 1, COMM_CHUNK_BYTES, "control buffer"},
        {(void **)&w->head, 1, COMM_HEAD_BYTES, "control buffer"},
    };
    base_status_t st = BASE_OK;
    for (size_t i = 0; st == BASE_OK && i < sizeof(parts) / sizeof(parts[0]); i++)
        st = base_alloc(parts[i].at, parts[i].n, parts[i].bytes, parts[i].what, err);
    st            = comm_agree(w, st, err);
    w->shared_end = st != BASE_OK;
    return st;
}

static base_status_t world_start_mpi(comm_world_t *w, base_err_t *err)
{
    int           provided = MPI_THREAD_SINGLE;
    base_status_t st       = BASE_OK;

    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return base_fail(err, BASE_ERR_SYSTEM, "MPI_Init_thread failed");
    w->mpi = true;
    st     = returns_errors(MPI_COMM_WORLD, err);
    if (st != BASE_OK) return st;
    if (provided < MPI_THREAD_FUNNELED)
        return base_fail(
            err, BASE_ERR_SYSTEM,
            "this MPI library offers thread level %d, at least MPI_THREAD_FUNNELED (%d) "
            "is needed",
            provided, MPI_THREAD_FUNNELED);
    st = comm_check(MPI_Comm_dup(MPI_COMM_WORLD, &w->all), "MPI_Comm_dup", err);
    if (st == BASE_OK) st = returns_errors(w->all, err);
    if (st == BASE_OK) st = comm_check(MPI_Comm_rank(w->all, &w->rank), "MPI_Comm_rank", err);
    if (st == BASE_OK) st = comm_check(MPI_Comm_size(w->all, &w->size), "MPI_Comm_size", err);
    if (st != BASE_OK) return st;
    if (w->size > LIMIT_RANKS)
        return base_fail(err, BASE_ERR_LIMIT, "%d ranks, limit %d", w->size, LIMIT_RANKS);
    st = world_memory(w, err);
    if (st == BASE_OK) st = hosts_split(w, err);
    if (st == BASE_OK) st = returns_errors(w->host, err);
    if (st == BASE_OK)
        st = comm_check(MPI_Comm_rank(w->host, &w->local_rank), "MPI_Comm_rank", err);
    if (st == BASE_OK)
        st = comm_check(MPI_Comm_size(w->host, &w->local_size), "MPI_Comm_size", err);
    w->host_count = 0;
    w->host_index = 0;
    if (st == BASE_OK) st = hosts_number(w, err);
    if (st == BASE_OK) st = hosts_translate(w, err);
    if (st == BASE_OK) st = hosts_count_cpus(w, err);
    if (st == BASE_OK) st = comm_patience_open(w, err);
    if (st == BASE_OK && w->local_size > 1)
        st = comm_shm_open(w->host, sizeof(comm_event_t), &w->bells, err);
    if (st == BASE_OK && w->bells.parts != NULL)
        w->bell = (comm_event_t *)(void *)w->bells.parts[w->local_rank];
    return st;
}

/* ---- public ---------------------------------------------------------------------------------- */

base_status_t comm_world_open(comm_world_t **out, base_err_t *err)
{
    comm_world_t *w      = NULL;
    void         *memory = NULL;
    long          told   = 0;
    base_status_t st     = BASE_OK;

    base_assert(out != NULL);
    *out = NULL;
    st   = base_alloc(&memory, 1, sizeof(*w), "comm world", err);
    if (st != BASE_OK) goto out;
    w             = memory;
    w->all        = MPI_COMM_NULL;
    w->host       = MPI_COMM_NULL;
    w->bells.win  = MPI_WIN_NULL;
    w->size       = 1;
    w->local_size = 1;
    w->host_count = 1;
    told          = launcher_ranks();
    if (gethostname(w->name, sizeof(w->name) - 1) != 0) w->name[0] = '?';
    (void)prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0, 0, 0); /* short sleeps stay short */
    warn_no_pmi();
    if (launched())
        st = world_start_mpi(w, err);
    else
        st = hosts_count_cpus(w, err);
    if (st == BASE_OK) st = comm_interrupt_install(err);
    if (st != BASE_OK) goto out;
    if (w->size == 1 && told != 1)
        warn_lonely();
    else
        warn_uneven(w, told);
out:
    if (st == BASE_OK || (w != NULL && w->shared_end)) {
        *out = w;
        w    = NULL;
    }
    comm_world_close(&w);
    return st;
}

void comm_world_close(comm_world_t **world)
{
    comm_world_t *w = NULL;

    base_assert(world != NULL);
    w = *world;
    if (w == NULL) return;
    if (w->mpi) {
        comm_shm_close(&w->bells);
        if (w->host != MPI_COMM_NULL) (void)MPI_Comm_free(&w->host);
        if (w->all != MPI_COMM_NULL) (void)MPI_Comm_free(&w->all);
        (void)MPI_Finalize();
    }
    comm_interrupt_done();
    free(w->local_of);
    free(w->leader_of);
    free(w->requests);
    free(w->names);
    free(w->head);
    free(w->scratch);
    free(w);
    *world = NULL;
}

void comm_world_abort(comm_world_t *world, const base_err_t *err)
{
    int status = 1;

    if (err != NULL && err->code != BASE_OK) {
        status = base_status_exit(err->code);
        if (err->code == BASE_ERR_INTERRUPTED && comm_interrupt_exit() != 0)
            status = comm_interrupt_exit(); /* which signal it was */
        base_log(BASE_LOG_ERROR, "%s", err->text);
    }
    (void)fflush(NULL);
    if (world != NULL && world->mpi) (void)MPI_Abort(MPI_COMM_WORLD, status);
    _exit(status);
}

base_status_t comm_world_set_threads(comm_world_t *world, uint32_t threads, base_err_t *err)
{
    uint64_t      all = threads;
    base_status_t st  = BASE_OK;

    base_assert(world != NULL && threads > 0);
    if (world->mpi)
        st = comm_check(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_UINT64_T, MPI_SUM, world->host),
                        "MPI_Allreduce", err);
    if (st != BASE_OK) return st;
    world->rationed = world->quota > 0 && world->quota < (double)all;
    world->spin     = (uint64_t)world->cpus >= all && !world->rationed;
    return st;
}

void comm_world_set_quota(comm_world_t *world, double cpus)
{
    base_assert(world != NULL && cpus >= 0);
    world->quota = cpus;
}

int comm_rank(const comm_world_t *world)
{
    return world->rank;
}

int comm_size(const comm_world_t *world)
{
    return world->size;
}

int comm_local_rank(const comm_world_t *world)
{
    return world->local_rank;
}

int comm_local_size(const comm_world_t *world)
{
    return world->local_size;
}

int comm_host_count(const comm_world_t *world)
{
    return world->host_count;
}

int comm_host_index(const comm_world_t *world)
{
    return world->host_index;
}

const char *comm_library_version(char *buf, size_t buf_bytes)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int  n = 0;

    base_assert(buf_bytes > 0);
    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) n = 0;
    text[n] = '\0';
    for (char *tab = text; (tab = strchr(tab, '\t')) != NULL;) *tab = ' '; /* MPICH writes some */
    text[strcspn(text, ",\n")] = '\0'; /* the rest is about the package */
    (void)snprintf(buf, buf_bytes, "%s", text);
    return buf;
}
